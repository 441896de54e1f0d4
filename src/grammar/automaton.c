/* SPDX-License-Identifier: Apache-2.0
 * Finite automata over characters. */
#include "grammar/automaton.h"

#include <stdlib.h>
#include <string.h>

#include "cli/bytes.h"

void automaton_add(automaton *a, bool accepts)
{
    if (a->n == a->cap) {
        a->cap = 2 * a->cap + 8;
        a->states = cli_array(a->states, a->cap, sizeof *a->states);
    }
    a->states[a->n++] = (automaton_state){.first = a->n_edges, .accepts = accepts};
}

void automaton_edge_add(automaton *a, uint32_t lo, uint32_t hi, int to)
{
    automaton_state *const s = &a->states[a->n - 1];
    automaton_edge *const last = s->n > 0 ? &a->edges[a->n_edges - 1] : NULL;
    if (last && last->to == to && last->hi + 1 == lo) {
        last->hi = hi;
        return;
    }
    if (a->n_edges == a->cap_edges) {
        a->cap_edges = 2 * a->cap_edges + 8;
        a->edges = cli_array(a->edges, a->cap_edges, sizeof *a->edges);
    }
    a->edges[a->n_edges++] = (automaton_edge){lo, hi, to};
    s->n++;
}

/* One round; false: nothing new. States behind are mostly known first when it goes backwards. */
static bool spread(const automaton *a, bool *alive)
{
    bool more = false;
    for (size_t i = a->n; i-- > 0;) {
        const automaton_state *const s = &a->states[i];
        bool is = alive[i] || s->accepts;
        for (size_t k = 0; k < s->n && !is; k++) is = alive[a->edges[s->first + k].to];
        more |= is != alive[i];
        alive[i] = is;
    }
    return more;
}

void automaton_trim(automaton *a)
{
    if (a->n == 0) return;
    bool *const alive = cli_array(NULL, a->n, sizeof *alive);
    memset(alive, 0, a->n * sizeof *alive);
    while (spread(a, alive)) continue;
    for (size_t i = 0; i < a->n; i++) {
        automaton_state *const s = &a->states[i];
        size_t n = 0;
        for (size_t k = 0; k < s->n; k++)
            if (alive[a->edges[s->first + k].to]) a->edges[s->first + n++] = a->edges[s->first + k];
        s->n = n;
    }
    const bool empty = !alive[0];
    free(alive);
    if (empty) automaton_free(a);
}

int automaton_step(const automaton *a, int state, uint32_t c)
{
    const automaton_state *const s = &a->states[state];
    size_t lo = s->first, hi = s->first + s->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (a->edges[mid].hi < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->first + s->n && a->edges[lo].lo <= c ? a->edges[lo].to : -1;
}

bool automaton_takes_all(const automaton *a, int state)
{
    const automaton_state *const s = &a->states[state];
    const automaton_edge *const edge = &a->edges[s->first];
    return s->accepts && s->n == 1 && edge->to == state && edge->lo <= 1 &&
           edge->hi >= LAST_CHARACTER;
}

void automaton_free(automaton *a)
{
    free(a->states);
    free(a->edges);
    *a = (automaton){0};
}

automaton automaton_text(const char *text, size_t n)
{
    automaton a = {0};
    for (size_t i = 0; i <= n; i++) {
        automaton_add(&a, i == n);
        if (i < n)
            automaton_edge_add(&a, (unsigned char)text[i], (unsigned char)text[i], (int)i + 1);
    }
    return a;
}

automaton automaton_any(void)
{
    automaton a = {0};
    automaton_add(&a, true);
    automaton_edge_add(&a, 0, LAST_CHARACTER, 0);
    return a;
}

/* ---- sets of texts */

/* Texts in order, from `at` characters on; those of one state share what lies before. */
typedef struct span {
    size_t from, to, at;
} span;

typedef struct sorted {
    const char *const *texts;
    const size_t *sizes;
    bool decoded; /* characters of UTF-8; else bytes */
    span *spans;  /* [state] */
    size_t n, cap;
} sorted;

/* The character of a text at a byte; its length in *n. The texts are well-formed. */
static uint32_t character(const sorted *s, size_t text, size_t at, size_t *n)
{
    const unsigned char *const p = (const unsigned char *)s->texts[text] + at;
    *n = 1;
    if (!s->decoded || p[0] < 0x80) return p[0];
    *n = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    uint32_t c = p[0] & (0x7Fu >> *n);
    for (size_t i = 1; i < *n; i++) c = c << 6 | (p[i] & 0x3F);
    return c;
}

static int add_span(sorted *s, span one)
{
    if (s->n == s->cap) {
        s->cap = 2 * s->cap + 16;
        s->spans = cli_array(s->spans, s->cap, sizeof *s->spans);
    }
    s->spans[s->n] = one;
    return (int)s->n++;
}

/* The edges of a state; `others`: where all other characters lead, or -1. */
static void add_edges(sorted *s, automaton *a, span from, int others)
{
    uint32_t next = 0;
    for (size_t i = from.from; i < from.to;) {
        size_t n, same;
        if (s->sizes[i] == from.at) {
            i++;
            continue;
        }
        const uint32_t c = character(s, i, from.at, &n);
        size_t end = i + 1;
        while (end < from.to && character(s, end, from.at, &same) == c) end++;
        if (others >= 0 && c > next) automaton_edge_add(a, next, c - 1, others);
        automaton_edge_add(a, c, c, add_span(s, (span){i, end, from.at + n}));
        next = c + 1;
        i = end;
    }
    if (others >= 0 && next <= LAST_CHARACTER) automaton_edge_add(a, next, LAST_CHARACTER, others);
}

/* texts in order. within: one of them; else, as characters, any text but them. */
automaton automaton_texts(const char *const *texts, const size_t *sizes, size_t n, bool within)
{
    automaton a = {0};
    sorted s = {.texts = texts, .sizes = sizes, .decoded = !within};
    add_span(&s, (span){0, n, 0});
    if (!within) add_span(&s, (span){0}); /* state 1: none of them any more */
    for (size_t i = 0; i < s.n; i++) {
        const span from = s.spans[i];
        const bool ends = from.from < from.to && s.sizes[from.from] == from.at;
        automaton_add(&a, ends == within);
        add_edges(&s, &a, from, within ? -1 : 1);
    }
    free(s.spans);
    return a;
}
