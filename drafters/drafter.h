/* SPDX-License-Identifier: Apache-2.0
 *
 * What a drafter is: init, propose, learn, reset, free. One const array lists them all; nothing is
 * registered at run time. A drafter knows the token tree and what this interface hands it - no
 * model, no cache, no other drafter.
 */
#ifndef FTK_DRAFTER_H
#define FTK_DRAFTER_H

#include "base/tree.h"

typedef struct ftk_drafter ftk_drafter;

typedef struct ftk_drafter_env {
    const ftk_host *host;
    int n_vocab;
    int n_ctx; /* most tokens the history can reach */
    ftk_tree_shape shape;
    uint64_t seed; /* for those that draw: ftk_uniform_sub(seed, n, FTK_DRAFT_SUB + i) */
    void *test;    /* for the drafters of the tests; else NULL */
} ftk_drafter_env;

typedef struct ftk_drafter_ops {
    const char *name;
    size_t state_size;
    /* The part of the state, plain data, that says how well the drafter's guesses do with this
     * model: it outlives a session and is where the next one begins. Size 0: none. */
    size_t rates_at, rates_size;
    /* Takes all memory the drafter will ever need. state is zeroed. Errors: NOMEM. On error,
     * free() is called by the caller. */
    ftk_err (*init)(void *state, const ftk_drafter_env *env);
    /* Fills `tree` (already holding its root) with at most `budget` further nodes, best first,
     * prob estimated. history[0..n): all committed tokens, the root last. The history only grew
     * by appending since the last propose or learn, or reset() was called in between. */
    void (*propose)(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree);
    /* What became of the tree that was verified (possibly cut shorter than proposed): logits
     * [tree->n][n_vocab] of its rows, row i at node i. history as of before this step. */
    void (*learn)(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                  const ftk_verdict *verdict, const float *logits);
    /* The history was truncated to its first n tokens. */
    void (*reset)(void *state, const int32_t *history, size_t n);
    void (*free)(void *state, const ftk_host *host);
} ftk_drafter_ops;

extern const ftk_drafter_ops ftk_drafter_jacobi;
extern const ftk_drafter_ops ftk_drafter_lookup;

enum { FTK_MAX_DRAFTERS = 8 };

/* NULL-terminated; at most FTK_MAX_DRAFTERS. */
extern const ftk_drafter_ops *const ftk_drafter_list[];

#endif
