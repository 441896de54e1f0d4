/* SPDX-License-Identifier: Apache-2.0
 * What a verifier is. It knows no model and no cache. */
#ifndef FTK_VERIFIER_H
#define FTK_VERIFIER_H

#include "base/sampler.h"
#include "base/tree.h"

typedef struct ftk_verifier_ops {
    const char *name;
    /* What is emitted has the distribution of plain sampling, for every tree that keeps the
     * promises of tree.h, and so at temperature 0 the very tokens. */
    bool lossless;
    bool uses_draws; /* it accepts more where drafters say what tokens were drawn from */
    /* Finds the path the model agrees with. logits [tree->n][n_vocab]; history[0..n) ends with the
     * root, so the root's children stand at absolute position n. Errors: NUMERIC. */
    ftk_err (*judge)(const ftk_tree *tree, const float *logits, ftk_sampler *sampler,
                     const int32_t *history, size_t n, ftk_verdict *verdict);
    /* The same without a penalty, where each row's token [tree->n] has been picked by a device;
     * NULL: the rule asks for more. */
    ftk_err (*judge_ranked)(const ftk_tree *tree, const ftk_ranked *ranked, ftk_verdict *verdict);
} ftk_verifier_ops;

extern const ftk_verifier_ops ftk_verifier_exact;     /* plain sampling's own tokens */
extern const ftk_verifier_ops ftk_verifier_reject;    /* uses what drawn tokens were drawn from */
extern const ftk_verifier_ops ftk_verifier_traversal; /* the same, from the leaves up */
extern const ftk_verifier_ops ftk_verifier_typical;   /* lossy */

/* NULL-terminated. */
extern const ftk_verifier_ops *const ftk_verifier_list[];

#endif
