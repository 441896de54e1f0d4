/* SPDX-License-Identifier: Apache-2.0
 * Whether the ids of two vocabularies mean the same. */
#include <string.h>

#include "base/mem.h"
#include "gguf.h"
#include "vocabulary.h"

/* Rows that were added to a matrix to make its size a round number: "[PAD151936]", as
 * llama.cpp's converter calls them, or what the file says is not used. */
static bool is_padding(const ftk_piece *p)
{
    static const char start[] = "[PAD";
    const size_t n = sizeof start - 1;
    if (p->type == FTK_TOKEN_UNUSED) return true;
    if (p->n < n + 2 || memcmp(p->p, start, n) != 0 || p->p[p->n - 1] != ']') return false;
    for (size_t i = n; i + 1 < p->n; i++)
        if (p->p[i] < '0' || p->p[i] > '9') return false;
    return true;
}

int ftk_tokenizer_n_used(const ftk_tokenizer *t)
{
    int n = t->n_vocab;
    while (n > 0 && is_padding(&t->pieces[n - 1])) n--;
    return n;
}

static const char *show(char *buf, size_t cap, const ftk_piece *p)
{
    return ftk_gguf_show(buf, cap, (ftk_str){p->p, p->n});
}

static bool is_same(const ftk_piece *p, const ftk_piece *q)
{
    return p->n == q->n && memcmp(p->p, q->p, p->n) == 0;
}

static bool is_word(const ftk_piece *p)
{
    return p->type == FTK_TOKEN_NORMAL && !is_padding(p);
}

ftk_err ftk_tokenizer_same_words(const ftk_tokenizer *t, const ftk_tokenizer *other,
                                 const char *path, const ftk_host *host)
{
    char a[64], b[64];
    for (int i = 0; i < t->n_vocab && i < other->n_vocab; i++) {
        const ftk_piece *const p = &t->pieces[i], *const q = &other->pieces[i];
        if (is_word(p) && is_word(q) && !is_same(p, q))
            return ftk_fail(host, FTK_ERR_INVALID,
                            "%s: was made for another vocabulary: its token %d is \"%s\", the "
                            "model's is \"%s\"",
                            path, i, show(b, sizeof b, q), show(a, sizeof a, p));
    }
    if (other->n_vocab >= ftk_tokenizer_n_used(t) && ftk_tokenizer_n_used(other) <= t->n_vocab)
        return FTK_OK;
    return ftk_fail(host, FTK_ERR_INVALID,
                    "%s: was made for a vocabulary of %d tokens; this model's has %d", path,
                    other->n_vocab, t->n_vocab);
}

ftk_err ftk_tokenizer_same(const ftk_tokenizer *t, const ftk_tokenizer *other, const char *path,
                           const ftk_host *host)
{
    static const char must[] = "a draft model needs the vocabulary of the model itself";
    const ftk_tokenizer *const longer = t->n_vocab > other->n_vocab ? t : other;
    const int n = longer == t ? other->n_vocab : t->n_vocab;
    char a[64], b[64];
    for (int i = 0; i < n; i++) {
        const ftk_piece *const p = &t->pieces[i], *const q = &other->pieces[i];
        if (!is_same(p, q))
            return ftk_fail(host, FTK_ERR_INVALID,
                            "%s: its token %d is \"%s\", the model's is \"%s\": %s", path, i,
                            show(b, sizeof b, q), show(a, sizeof a, p), must);
    }
    for (int i = n; i < longer->n_vocab; i++)
        if (!is_padding(&longer->pieces[i]))
            return ftk_fail(host, FTK_ERR_INVALID,
                            "%s: has %d tokens, the model has %d, and token %d, \"%s\", is no "
                            "padding: %s",
                            path, other->n_vocab, t->n_vocab, i,
                            show(a, sizeof a, &longer->pieces[i]), must);
    return FTK_OK;
}
