/* SPDX-License-Identifier: Apache-2.0
 * What the verifiers that reject have in common: one row at a time, its residual, its children. */
#ifndef FTK_WALK_H
#define FTK_WALK_H

#include "base/residual.h"
#include "base/tree.h"

typedef struct ftk_walk {
    const ftk_tree *tree;
    const float *logits; /* [tree->n][n_vocab] */
    ftk_sampler *sampler;
    const int32_t *history;
    size_t n; /* of history: where the root's children stand */
    ftk_verdict *verdict;
    int node;          /* whose row is loaded */
    ftk_residual left; /* of that row */
    uint32_t used;     /* random numbers */
} ftk_walk;

/* Loads a node's row: its processed distribution, nothing rejected. The path's tokens stand in
 * verdict->token. Errors: NUMERIC. */
ftk_err ftk_walk_load(ftk_walk *k, int node);

/* True with probability p. */
bool ftk_walk_accept(ftk_walk *k, double p);

/* p / q of a child of the loaded node: what is left for its token, by the probability that the
 * drafter proposed it, which is 1 for a chosen one. */
double ftk_walk_ratio(const ftk_walk *k, int child);

/* Takes a rejected child out of the loaded row; a and the result as in ftk_residual_reject(). */
double ftk_walk_reject(ftk_walk *k, int child, double a);

/* From the loaded node on, which is accepted: each of its children from index `from` on is accepted
 * or rejected, and so on below the first accepted one. Fills the verdict. Errors: NUMERIC. */
ftk_err ftk_walk_down(ftk_walk *k, int from);

#endif
