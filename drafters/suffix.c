/* SPDX-License-Identifier: Apache-2.0
 * The suffix automaton. */
#include "drafters/suffix.h"

#include <string.h>

#include "base/mem.h"

/* A state stands for all substrings that end at the same set of text positions. */
struct ftk_suffix_state {
    int32_t length; /* of its longest substring */
    int32_t link;   /* state of the longest suffix that occurs elsewhere, too; -1 for the root */
    int32_t first;  /* end of its first occurrence: the number of tokens up to there */
    int32_t recent; /* end of a later one, see refresh() */
    int32_t edges;  /* list; -1: none */
};

struct ftk_suffix_edge {
    int32_t from, token, to;
    int32_t next; /* of the same state; -1: none */
};

enum { REFRESH = 32 }; /* states refreshed per token */

/* ------------------------------------------------------------------ edges */

/* Open addressing; nothing is ever removed. The slot of the edge, or the free slot it belongs. */
static uint32_t slot_of(const ftk_suffix *s, int32_t from, int32_t token)
{
    const uint64_t key = (uint64_t)(uint32_t)from << 32 | (uint32_t)token;
    uint32_t slot = (uint32_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 32) & s->hash_mask;
    for (; s->hash[slot] != 0; slot = (slot + 1) & s->hash_mask) {
        const ftk_suffix_edge *const e = &s->edges[s->hash[slot] - 1];
        if (e->from == from && e->token == token) break;
    }
    return slot;
}

static ftk_suffix_edge *find_edge(const ftk_suffix *s, int32_t from, int32_t token)
{
    const int32_t e = s->hash[slot_of(s, from, token)];
    return e ? &s->edges[e - 1] : NULL;
}

static void add_edge(ftk_suffix *s, int32_t from, int32_t token, int32_t to)
{
    const int32_t e = s->n_edges++;
    s->edges[e] = (ftk_suffix_edge){from, token, to, s->states[from].edges};
    s->states[from].edges = e;
    s->hash[slot_of(s, from, token)] = e + 1;
}

/* ------------------------------------------------------------------ building */

static int32_t add_state(ftk_suffix *s, int32_t length, int32_t link, int32_t first, int32_t recent)
{
    s->states[s->n_states] = (ftk_suffix_state){length, link, first, recent, -1};
    return s->n_states++;
}

/* Splits from q the substrings of at most `length` tokens, which now occur where q does not. */
static int32_t split(ftk_suffix *s, int32_t p, int32_t q, int32_t token, int32_t length)
{
    const ftk_suffix_state whole = s->states[q];
    const int32_t c = add_state(s, length, whole.link, whole.first, whole.recent);
    for (int32_t e = whole.edges; e >= 0; e = s->edges[e].next)
        add_edge(s, c, s->edges[e].token, s->edges[e].to);
    s->states[q].link = c;
    for (; p >= 0; p = s->states[p].link) {
        ftk_suffix_edge *const e = find_edge(s, p, token);
        if (e->to != q) break;
        e->to = c;
    }
    return c;
}

/* The text now ends in all states on the way from p to the root. The walk is cut short to keep the
 * cost constant: the longest substrings, those that are asked for, come first. */
static void refresh(ftk_suffix *s, int32_t p)
{
    for (int i = 0; i < REFRESH && p > 0; i++, p = s->states[p].link) s->states[p].recent = s->n;
}

static void append(ftk_suffix *s, int32_t token)
{
    s->n++;
    const int32_t now = add_state(s, s->n, 0, s->n, s->n);
    int32_t p = s->last;
    s->last = now;
    const ftk_suffix_edge *e = NULL;
    for (; p >= 0 && !(e = find_edge(s, p, token)); p = s->states[p].link)
        add_edge(s, p, token, now);
    if (p >= 0) {
        const int32_t length = s->states[p].length + 1;
        const int32_t q = e->to;
        s->states[now].link = s->states[q].length == length ? q : split(s, p, q, token, length);
    }
    const ftk_suffix_state *const link = &s->states[s->states[now].link];
    s->match = (ftk_match){link->length, link->first, link->recent};
    refresh(s, s->states[now].link);
}

void ftk_suffix_sync(ftk_suffix *s, const int32_t *text, size_t n)
{
    while ((size_t)s->n < n && s->n < s->cap) append(s, text[s->n]);
}

void ftk_suffix_reset(ftk_suffix *s)
{
    memset(s->hash, 0, ((size_t)s->hash_mask + 1) * sizeof *s->hash);
    s->n = s->n_states = s->n_edges = 0;
    s->last = add_state(s, 0, -1, 0, 0);
    s->match = (ftk_match){0};
}

ftk_err ftk_suffix_init(ftk_suffix *s, const ftk_host *host, int cap)
{
    const size_t n = (size_t)cap;
    size_t slots = 16;
    while (slots < 4 * n) slots *= 2;
    *s = (ftk_suffix){.cap = cap, .hash_mask = (uint32_t)(slots - 1)};
    s->states = ftk_alloc_raw(host, 2 * n + 1, sizeof *s->states);
    s->edges = ftk_alloc_raw(host, 3 * n + 1, sizeof *s->edges);
    s->hash = ftk_alloc_raw(host, slots, sizeof *s->hash);
    if (!s->states || !s->edges || !s->hash)
        return ftk_fail(host, FTK_ERR_NOMEM,
                        "no memory for a retrieval index of %d tokens: use a smaller context", cap);
    ftk_suffix_reset(s);
    return FTK_OK;
}

void ftk_suffix_free(ftk_suffix *s, const ftk_host *host)
{
    ftk_release(host, s->hash);
    ftk_release(host, s->edges);
    ftk_release(host, s->states);
    *s = (ftk_suffix){0};
}

/* ------------------------------------------------------------------ asking */

ftk_match ftk_suffix_at_most(const ftk_suffix *s, int max_length)
{
    if (s->match.length <= max_length) return s->match;
    int32_t v = s->states[s->last].link;
    while (s->states[s->states[v].link].length >= max_length) v = s->states[v].link;
    /* All occurrences of a longer match end with a shorter one. */
    return (ftk_match){max_length, s->states[v].first, s->match.recent};
}

int ftk_suffix_follow(const int32_t *text, size_t n, int from, int32_t *out, int most)
{
    if (from < 0 || (size_t)from >= n) return 0;
    const size_t start = (size_t)from, have = n - start;
    for (size_t i = 0; i < (size_t)(most > 0 ? most : 0); i++)
        out[i] = i < have ? text[start + i] : out[i - have];
    return most > 0 ? most : 0;
}
