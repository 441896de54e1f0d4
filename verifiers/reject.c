/* SPDX-License-Identifier: Apache-2.0
 *
 * Recursive rejection sampling, without replacement, from the root down: a drawn child x is
 * accepted with probability min(1, p(x) / q(x)); where it is not, p becomes what is left of it,
 * max(0, p - q), and q is without x; when no child is left, the bonus token comes from what is
 * left of p. A chosen child counts as drawn from a q that is 1 for it and 0 for all others:
 * accepted with probability p(x), and otherwise p(x) becomes 0.
 *
 * From our notes on acceptance rules for token trees; they name the rule's users, Recursive
 * Speculative Decoding and Sequoia. Chosen and drawn children under one node are our reading. */
#include "verifiers/verifier.h"
#include "verifiers/walk.h"

static ftk_err judge(const ftk_tree *tree, const float *logits, ftk_sampler *sampler,
                     const int32_t *history, size_t n, ftk_verdict *verdict)
{
    ftk_walk k = {tree, logits, sampler, history, n, .verdict = verdict};
    const ftk_err err = ftk_walk_load(&k, 0);
    return err == FTK_OK ? ftk_walk_down(&k, 0) : err;
}

const ftk_verifier_ops ftk_verifier_reject = {
    .name = "reject", .lossless = true, .uses_draws = true, .judge = judge};
