/* SPDX-License-Identifier: Apache-2.0
 * A grammar's rules, while it is made. */
#include <string.h>

#include "grammar/rules.h"

int grammar_add_rule(grammar *g, rule one, const int *parts, size_t n)
{
    if (g->n_rules == g->cap_rules) {
        g->cap_rules = 2 * g->cap_rules + 64;
        g->rules = cli_array(g->rules, g->cap_rules, sizeof *g->rules);
    }
    if (g->n_parts + n > g->cap_parts) {
        g->cap_parts = 2 * (g->n_parts + n) + 64;
        g->parts = cli_array(g->parts, g->cap_parts, sizeof *g->parts);
    }
    one.first = g->n_parts;
    one.n = n;
    if (n > 0) memcpy(g->parts + g->n_parts, parts, n * sizeof *parts);
    g->n_parts += n;
    g->rules[g->n_rules] = one;
    return (int)g->n_rules++;
}

void grammar_set_part(grammar *g, int of, int part)
{
    grammar_add_rule(g, (rule){.kind = RULE_ONE}, &part, 1);
    g->n_rules--;
    g->rules[of].first = g->n_parts - 1;
    g->rules[of].n = 1;
}

static int add_automaton(grammar *g, automaton a)
{
    if (g->n_automata == g->cap_automata) {
        g->cap_automata = 2 * g->cap_automata + 16;
        g->automata = cli_array(g->automata, g->cap_automata, sizeof *g->automata);
    }
    g->automata[g->n_automata] = a;
    return (int)g->n_automata++;
}

int grammar_add_bytes(grammar *g, automaton a)
{
    const uint16_t depth = a.n == 0 ? GRAMMAR_NEVER : 0;
    return grammar_add_rule(
        g, (rule){.kind = RULE_BYTES, .depth = depth, .automaton = add_automaton(g, a)}, NULL, 0);
}

int grammar_add_string(grammar *g, automaton a, bool plain, uint32_t min, uint32_t max)
{
    rule r = {.kind = RULE_STRING, .plain = plain, .min = min, .max = max};
    r.automaton = add_automaton(g, a);
    if (!grammar_quoted_prepare(g, &r)) r.depth = GRAMMAR_NEVER;
    return grammar_add_rule(g, r, NULL, 0);
}

int grammar_add_text(grammar *g, const char *text, size_t n)
{
    return grammar_add_bytes(g, automaton_text(text, n));
}

int grammar_add_pattern(grammar *g, const char *pattern)
{
    automaton a;
    const char *why;
    size_t work = 0;
    automaton_pattern(&a, pattern, strlen(pattern), &work, &why);
    return grammar_add_bytes(g, a);
}

int grammar_add_all(grammar *g, bool nests, const int *parts, size_t n)
{
    return grammar_add_rule(g, (rule){.kind = RULE_ALL, .nests = nests}, parts, n);
}

int grammar_add_one(grammar *g, const int *parts, size_t n)
{
    return grammar_add_rule(g, (rule){.kind = RULE_ONE}, parts, n);
}

int grammar_add_times(grammar *g, int part, uint32_t min, uint32_t max)
{
    return grammar_add_rule(g, (rule){.kind = RULE_TIMES, .min = min, .max = max}, &part, 1);
}

int grammar_add_nothing(grammar *g)
{
    return grammar_add_all(g, false, NULL, 0);
}

/* ---- depths */

static uint16_t deeper(uint16_t depth, bool nests)
{
    return depth == GRAMMAR_NEVER ? GRAMMAR_NEVER : (uint16_t)(depth + nests);
}

static uint16_t depth_of(const grammar *g, const rule *r)
{
    if (r->kind == RULE_BYTES || r->kind == RULE_STRING) return r->depth;
    uint16_t least = GRAMMAR_NEVER, most = 0;
    for (size_t i = 0; i < r->n; i++) {
        const uint16_t depth = g->rules[g->parts[r->first + i]].depth;
        if (depth < least) least = depth;
        if (depth > most) most = depth;
    }
    if (r->kind == RULE_ONE) return least;
    if (r->kind == RULE_TIMES) return r->min > 0 ? most : 0;
    return deeper(most, r->nests);
}

/* What is above the most that is walked is as good as never. */
void grammar_find_depths(grammar *g)
{
    for (size_t i = 0; i < g->n_rules; i++) {
        rule *const r = &g->rules[i];
        if (r->kind != RULE_BYTES && r->kind != RULE_STRING) r->depth = GRAMMAR_NEVER;
    }
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < g->n_rules; i++) {
            const uint16_t depth = depth_of(g, &g->rules[i]);
            if (depth == g->rules[i].depth || depth > GRAMMAR_MOST_DEPTH) continue;
            g->rules[i].depth = depth;
            more = true;
        }
    }
}
