/* SPDX-License-Identifier: Apache-2.0
 * A model made of random numbers over a few tokens, for the tests of verifiers. Include support.h
 * first. */
#ifndef FTK_TESTS_TOYMODEL_H
#define FTK_TESTS_TOYMODEL_H

#include "base/sampler.h"
#include "base/tree.h"
#include "testkit/statistics.h"
#include "verifiers/verifier.h"

enum { TOY_MOST = 8, TOY_LONG = 64 }; /* of the vocabulary, of a text */

typedef ftk_err (*toy_judge)(const ftk_tree *, const float *, ftk_sampler *, const int32_t *,
                             size_t, ftk_verdict *);

/* The logits that follow a text depend on all of it. */
static inline void toy_row(int n_vocab, const int32_t *text, size_t n, float *logits)
{
    uint64_t r = 1;
    for (size_t i = 0; i < n; i++) {
        r = r * 31 + (uint64_t)text[i];
        next_random(&r);
    }
    for (int i = 0; i < n_vocab; i++) logits[i] = 1.3f * next_normal(&r);
}

static inline ftk_sampler toy_sampler(int n_vocab, float temperature)
{
    static float work[TOY_MOST];
    static int32_t order[TOY_MOST];
    static uint32_t counts[TOY_MOST], allowed[(TOY_MOST + 31) / 32];
    return (ftk_sampler){
        .cfg = {.temperature = temperature, .top_p = 1, .repeat_penalty = 1, .repeat_last = 64},
        .n_vocab = n_vocab,
        .logits = work,
        .order = order,
        .counts = counts,
        .allowed = allowed,
    };
}

/* What a pass over the tree gives: every row sees the text and its own ancestors. */
static inline void toy_forward(int n_vocab, const ftk_tree *t, const int32_t *text, size_t n,
                               float *logits)
{
    int32_t row[TOY_LONG + FTK_MAX_NODES];
    memcpy(row, text, n * sizeof *row);
    for (int i = 0; i < t->n; i++) {
        for (int j = i; j > 0; j = t->parent[j]) row[n + (size_t)t->depth[j] - 1] = t->token[j];
        toy_row(n_vocab, row, n + (size_t)t->depth[i], logits + i * n_vocab);
    }
}

static inline void toy_grow(ftk_tree *t, int nodes, int n_vocab, uint64_t *r)
{
    for (int i = 0; i < nodes; i++) {
        const int parent = next_random(r) % 2 ? t->n - 1 : (int)(next_random(r) % (unsigned)t->n);
        ftk_tree_add(t, parent, (int32_t)(next_random(r) % (unsigned)n_vocab), 0.5f);
    }
}

/* Plain sampling from text[0..n) to text[0..most). */
static inline size_t toy_plain(ftk_sampler *s, int32_t *text, size_t n, size_t most)
{
    float logits[TOY_MOST];
    for (; n < most; n++) {
        toy_row(s->n_vocab, text, n, logits);
        assert_int_equal(ftk_sampler_pick(s, logits, text, n, NULL, 0, n, &text[n]), FTK_OK);
    }
    return n;
}

static inline void toy_check(const ftk_tree *t, const ftk_verdict *v)
{
    assert_int_equal(v->path[0], 0);
    for (int i = 1; i <= v->n_path; i++) {
        assert_int_equal(t->parent[v->path[i]], v->path[i - 1]);
        assert_int_equal(t->token[v->path[i]], v->token[i - 1]);
    }
    assert_int_equal(ftk_tree_child(t, v->path[v->n_path], v->token[v->n_path]), -1);
}

#endif
