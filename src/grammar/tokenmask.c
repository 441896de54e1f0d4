/* SPDX-License-Identifier: Apache-2.0
 * Which tokens may come: all words of the vocabulary are walked at once, as a trie. What a state
 * allows is kept with it. */
#include <stdlib.h>
#include <string.h>

#include "grammar/rules.h"
#include "grammar/words.h"

enum {
    FEW = 256,
    AS_BITS = -1
}; /* mask[0] of few tokens is their number, and they follow; else bits */

static size_t n_bits(const grammar_words *w)
{
    return ((size_t)w->n_vocab + 31) / 32;
}

static void allow(uint32_t *allowed, int32_t token)
{
    allowed[token / 32] |= 1u << token % 32;
}

static void walk(grammar *g, const trie *t, int from, uint32_t *allowed)
{
    int states[LONGEST_WORD + 1] = {from};
    for (size_t i = 0; i < t->n;) {
        const trie_node *const node = &t->nodes[i];
        const int to = grammar_step(g, states[node->depth], node->byte);
        if (to == GRAMMAR_DEAD) {
            i = node->skip;
            continue;
        }
        states[node->depth + 1] = to;
        for (uint32_t k = 0; k < node->n; k++) allow(allowed, t->tokens[node->first + k]);
        i++;
    }
}

size_t grammar_free_text(const grammar *g, int at)
{
    const frame_set *const s = &g->states[at];
    if (s->n != 1) return 0;
    const frame *const f = &g->frames[g->members[s->first]];
    const rule *const r = &g->rules[f->rule];
    if (g->members[s->first] == 0 || r->kind != RULE_STRING || r->plain) return 0;
    if (!grammar_quoted_between(&f->at)) return 0;
    if (!automaton_takes_all(&g->automata[r->automaton], f->at.state)) return 0;
    return r->max == GRAMMAR_ENDLESS ? SIZE_MAX : r->max - f->at.count;
}

/* Those of no more characters than there is room for. */
static void allow_smooth(const grammar_words *w, size_t room, uint32_t *allowed)
{
    if (room >= w->longest_smooth) {
        memcpy(allowed, w->smooth, n_bits(w) * sizeof *allowed);
        return;
    }
    for (int32_t i = 0; i < w->n_vocab; i++)
        if (w->lengths[i] > 0 && w->lengths[i] <= room) allow(allowed, i);
}

static void find(grammar *g, int at, uint32_t *allowed)
{
    const grammar_words *const w = g->words;
    const size_t room = grammar_free_text(g, at);
    if (room > 0) {
        allow_smooth(w, room, allowed);
        walk(g, &w->odd, at, allowed);
    } else {
        walk(g, &w->all, at, allowed);
    }
    if (grammar_may_end(g, at))
        for (size_t i = 0; i < w->n_ends; i++) allow(allowed, w->ends[i]);
}

static size_t count(const uint32_t *bits, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (size_t)__builtin_popcount(bits[i]);
    return sum;
}

static void keep(grammar *g, int at, const uint32_t *allowed)
{
    const size_t n = n_bits(g->words), sum = count(allowed, n), words = sum <= FEW ? sum : n;
    uint32_t *const mask = cli_array(NULL, words + 1, sizeof *mask);
    mask[0] = sum <= FEW ? (uint32_t)sum : (uint32_t)AS_BITS;
    if (sum > FEW) memcpy(mask + 1, allowed, n * sizeof *mask);
    for (size_t i = 0, k = 1; sum <= FEW && k <= sum; i++)
        for (uint32_t bits = allowed[i]; bits; bits &= bits - 1)
            mask[k++] = (uint32_t)(32 * i) + (uint32_t)__builtin_ctz(bits);
    g->states[at].mask = mask;
    g->bytes += (words + 1) * sizeof *mask;
}

void grammar_mask(grammar *g, int at, uint32_t *allowed)
{
    const uint32_t *const mask = g->states[at].mask;
    if (!mask) {
        find(g, at, allowed);
        keep(g, at, allowed);
    } else if (mask[0] == (uint32_t)AS_BITS) {
        memcpy(allowed, mask + 1, n_bits(g->words) * sizeof *mask);
    } else {
        for (uint32_t i = 1; i <= mask[0]; i++) allow(allowed, (int32_t)mask[i]);
    }
}

/* ---- answers */

static int after_token(grammar *g, int from, int32_t token)
{
    size_t n;
    const unsigned char *const p = grammar_word(g->words, token, &n);
    if (n == 0) return GRAMMAR_DEAD;
    for (size_t i = 0; i < n && from != GRAMMAR_DEAD; i++) from = grammar_step(g, from, p[i]);
    return from;
}

static void grow(grammar_walk *w, size_t n)
{
    if (n <= w->cap) return;
    w->cap = 2 * n + 64;
    w->tokens = cli_array(w->tokens, w->cap, sizeof *w->tokens);
    w->states = cli_array(w->states, w->cap + 1, sizeof *w->states);
}

/* The state behind an answer of n tokens: from where it leaves the last one that was asked for. */
static int state_behind(grammar_walk *w, const int32_t *tokens, size_t n)
{
    size_t same = 0;
    grammar_tidy(w->g);
    if (w->epoch != grammar_epoch(w->g)) w->n = 0;
    w->epoch = grammar_epoch(w->g);
    while (same < n && same < w->n && w->tokens[same] == tokens[same]) same++;
    grow(w, n + 1);
    w->states[0] = grammar_start(w->g);
    for (size_t i = same; i < n; i++) {
        w->tokens[i] = tokens[i];
        w->states[i + 1] = after_token(w->g, w->states[i], tokens[i]);
    }
    w->n = n;
    return w->states[n];
}

void grammar_allow(void *ctx, const int32_t *tokens, size_t n, uint32_t *allowed)
{
    grammar_walk *const w = ctx;
    grammar_mask(w->g, state_behind(w, tokens + w->start, n - w->start), allowed);
}

/* The only byte that may come; -1: there is another, or an end. */
static int only_byte(grammar *g, int from)
{
    int only = -1;
    if (grammar_may_end(g, from) || grammar_free_text(g, from) > 0) return -1;
    for (int byte = 0; byte < 256; byte++) {
        if (grammar_step(g, from, (unsigned char)byte) == GRAMMAR_DEAD) continue;
        if (only >= 0) return -1;
        only = byte;
    }
    return only;
}

size_t grammar_forced(grammar_walk *w, const int32_t *tokens, size_t n, char *text, size_t cap)
{
    int at = state_behind(w, tokens + w->start, n - w->start);
    size_t len = 0;
    for (int byte; len < cap && (byte = only_byte(w->g, at)) >= 0; len++) {
        text[len] = (char)byte;
        at = grammar_step(w->g, at, (unsigned char)byte);
    }
    return len;
}

void grammar_walk_free(grammar_walk *w)
{
    free(w->tokens);
    free(w->states);
    *w = (grammar_walk){0};
}
