/* SPDX-License-Identifier: Apache-2.0
 * A vocabulary as bytes. */
#include "grammar/words.h"

#include <stdlib.h>
#include <string.h>

/* ---- bytes */

static size_t text_of(const ftk_model *m, const int32_t *tokens, size_t n, unsigned flags,
                      char *text, size_t cap)
{
    size_t len = 0;
    return ftk_detokenize(m, tokens, n, flags, text, cap, &len) == FTK_OK ? len : 0;
}

/* At the start of a text a token may lose a space. So it is what comes with it behind itself. */
static void add_word(grammar_words *w, const ftk_model *m, int32_t token, unsigned flags,
                     cli_bytes *all)
{
    char text[2 * LONGEST_WORD + 2];
    const int32_t twice[2] = {token, token};
    const size_t n = text_of(m, twice, 1, flags, text, sizeof text);
    const size_t n_twice = text_of(m, twice, 2, flags, text, sizeof text);
    w->start[token] = all->n;
    if (n_twice > n && n_twice - n <= LONGEST_WORD) cli_bytes_add(all, text + n, n_twice - n);
}

/* Characters of a text that may stand in a string as it is, broken off at its end at most; -1:
 * it is none. */
static int smooth_length(const unsigned char *p, size_t n)
{
    int count = 0;
    for (size_t i = 0; i < n; count++) {
        const unsigned char c = p[i++];
        if (c < 0x20 || c == '"' || c == '\\') return -1;
        if (c < 0x80) continue;
        if (c < 0xC2 || c > 0xF4) return -1;
        const size_t more = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
        for (size_t k = 0; k < more && i < n; k++, i++) {
            const unsigned char least = k > 0 ? 0x80 : c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
            const unsigned char most = k > 0 ? 0xBF : c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
            if (p[i] < least || p[i] > most) return -1;
        }
    }
    return count;
}

/* ---- tries */

typedef struct entry {
    const unsigned char *p;
    size_t n;
    int32_t token;
} entry;

static int by_bytes(const void *a, const void *b)
{
    const entry *const x = a, *const y = b;
    const int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    if (order != 0) return order;
    return x->n != y->n ? (x->n < y->n ? -1 : 1) : x->token < y->token ? -1 : 1;
}

static void add_node(trie *t, unsigned char byte, size_t depth, size_t first)
{
    if (t->n == t->cap) {
        t->cap = 2 * t->cap + 256;
        t->nodes = cli_array(t->nodes, t->cap, sizeof *t->nodes);
    }
    t->nodes[t->n++] = (trie_node){.first = (uint32_t)first, .depth = (uint8_t)depth, .byte = byte};
}

/* entries in order, without empty ones. */
static void build(trie *t, const entry *entries, size_t n)
{
    uint32_t open[LONGEST_WORD] = {0}; /* nodes on the way to the last one */
    size_t depth = 0;
    t->tokens = cli_array(NULL, n, sizeof *t->tokens);
    for (size_t i = 0; i < n; i++) {
        const entry *const e = &entries[i];
        size_t same = 0;
        while (i > 0 && same < depth && same < e->n && entries[i - 1].p[same] == e->p[same]) same++;
        for (; depth > same; depth--) t->nodes[open[depth - 1]].skip = (uint32_t)t->n;
        for (; depth < e->n; depth++) {
            open[depth] = (uint32_t)t->n;
            add_node(t, e->p[depth], depth, i);
        }
        t->nodes[open[depth - 1]].n++;
        t->tokens[i] = e->token;
    }
    for (; depth > 0; depth--) t->nodes[open[depth - 1]].skip = (uint32_t)t->n;
}

static void build_tries(grammar_words *w)
{
    entry *const entries = cli_array(NULL, (size_t)w->n_vocab, sizeof *entries);
    size_t n = 0, n_odd = 0;
    for (int32_t i = 0; i < w->n_vocab; i++) {
        entry e = {.token = i};
        e.p = grammar_word(w, i, &e.n);
        if (e.n > 0) entries[n++] = e;
    }
    if (n > 0) qsort(entries, n, sizeof *entries, by_bytes);
    build(&w->all, entries, n);
    for (size_t i = 0; i < n; i++) {
        const int length = smooth_length(entries[i].p, entries[i].n);
        const int32_t token = entries[i].token;
        if (length < 0) {
            entries[n_odd++] = entries[i];
            continue;
        }
        w->smooth[token / 32] |= 1u << token % 32;
        w->lengths[token] = (uint8_t)length;
        if ((size_t)length > w->longest_smooth) w->longest_smooth = (size_t)length;
    }
    build(&w->odd, entries, n_odd);
    free(entries);
}

/* ---- */

static bool is_among(int32_t token, const int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (tokens[i] == token) return true;
    return false;
}

grammar_words *grammar_words_new(const ftk_model *m, int n_vocab, const int32_t *shown,
                                 size_t n_shown)
{
    grammar_words *const w = cli_array(NULL, 1, sizeof *w);
    const size_t n = (size_t)n_vocab, n_bits = (n + 31) / 32;
    cli_bytes all = {0};
    *w = (grammar_words){.n_vocab = n_vocab};
    w->start = cli_array(NULL, n + 1, sizeof *w->start);
    w->ends = cli_array(NULL, n, sizeof *w->ends);
    w->smooth = cli_array(NULL, n_bits, sizeof *w->smooth);
    w->lengths = cli_array(NULL, n, sizeof *w->lengths);
    memset(w->lengths, 0, n);
    memset(w->smooth, 0, n_bits * sizeof *w->smooth);
    cli_bytes_add(&all, "", 0);
    for (int32_t i = 0; i < n_vocab; i++) {
        const bool end = ftk_model_is_end(m, i);
        w->start[i] = all.n;
        if (end)
            w->ends[w->n_ends++] = i;
        else
            add_word(w, m, i, is_among(i, shown, n_shown) ? FTK_TOK_SPECIAL : 0, &all);
    }
    w->start[n] = all.n;
    w->bytes = all.p;
    build_tries(w);
    return w;
}

bool grammar_is_end(const grammar_words *w, int32_t token)
{
    for (size_t i = 0; i < w->n_ends; i++)
        if (w->ends[i] == token) return true;
    return false;
}

void grammar_words_free(grammar_words *w)
{
    if (!w) return;
    free(w->bytes);
    free(w->start);
    free(w->ends);
    free(w->smooth);
    free(w->lengths);
    free(w->all.nodes);
    free(w->all.tokens);
    free(w->odd.nodes);
    free(w->odd.tokens);
    free(w);
}
