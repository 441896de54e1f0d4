/* SPDX-License-Identifier: Apache-2.0
 *
 * Sample, then match: at each node the model's own token is picked, with the random number of its
 * position; where a child carries it the walk goes on there. The tokens are those of plain
 * sampling by construction, whatever the tree.
 */
#include "verifiers/verifier.h"

static ftk_err judge(const ftk_tree *tree, const float *logits, ftk_sampler *sampler,
                     const int32_t *history, size_t n, ftk_verdict *verdict)
{
    const size_t n_vocab = (size_t)sampler->n_vocab;
    int node = 0;
    for (int d = 0;; d++) {
        verdict->n_path = d;
        verdict->path[d] = (int16_t)node;
        const ftk_err err = ftk_sampler_pick(sampler, logits + (size_t)node * n_vocab, history, n,
                                             verdict->token, d, n + (size_t)d, &verdict->token[d]);
        if (err != FTK_OK) return err;
        node = ftk_tree_child(tree, node, verdict->token[d]);
        if (node < 0) return FTK_OK;
    }
}

static ftk_err judge_ranked(const ftk_tree *tree, const ftk_ranked *ranked, ftk_verdict *verdict)
{
    int node = 0;
    for (int d = 0; node >= 0; d++) {
        verdict->n_path = d;
        verdict->path[d] = (int16_t)node;
        verdict->token[d] = ranked[node].token;
        if (verdict->token[d] < 0) return FTK_ERR_NUMERIC;
        node = ftk_tree_child(tree, node, verdict->token[d]);
    }
    return FTK_OK;
}

const ftk_verifier_ops ftk_verifier_exact = {
    .name = "exact", .lossless = true, .judge = judge, .judge_ranked = judge_ranked};
