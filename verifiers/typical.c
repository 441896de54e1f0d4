/* SPDX-License-Identifier: Apache-2.0
 *
 * Typical acceptance, Medusa's rule: lossy. A child is accepted when its token is likely enough for
 * how open the choice is: p(x) > min(EPSILON, DELTA exp(-H(p))), H the entropy. The longest path of
 * such nodes is taken, of several the likeliest; the bonus token is drawn. What is likely enough is
 * thus said whenever it was guessed, and drafts change the text: where the drafter likes a word, so
 * does the output. At temperature 0 only the likeliest token is likely enough, and nothing is lost.
 *
 * The constants are Medusa's. Our reading: p is the processed distribution, penalty and cuts too;
 * the bonus token is drawn with plain sampling's random number; and where it happens to be that of
 * a child, that child is accepted and the search goes on behind it.
 */
#include <math.h>

#include "verifiers/verifier.h"
#include "verifiers/walk.h"

static const double EPSILON = 0.09, DELTA = 0.3;

/* Of the loaded row. */
static double threshold(const ftk_residual *r)
{
    double sum = 0; /* of w log w; single precision is enough for a rule of thumb */
    for (int32_t i = 0; i < r->n; i++)
        if (r->w[i] > 0) sum += (double)(r->w[i] * logf(r->w[i]));
    const double entropy = log(r->total) - sum / r->total;
    const double open = DELTA * exp(-entropy);
    return open < EPSILON ? open : EPSILON;
}

/* The end of the longest typical path below a node, or the node itself. */
static ftk_err longest(ftk_walk *k, int from, int *end)
{
    const ftk_tree *const t = k->tree;
    double log_p[FTK_MAX_NODES]; /* of the path from `from` on; NAN: not typical */
    *end = from;
    for (int i = from; i < t->n; i++) log_p[i] = i == from ? 0 : NAN;
    for (int i = from; i < t->n; i++) {
        int child = ftk_tree_next(t, i, 0);
        if (isnan(log_p[i])) continue;
        if (t->depth[i] > t->depth[*end] ||
            (t->depth[i] == t->depth[*end] && log_p[i] > log_p[*end]))
            *end = i;
        if (child < 0) continue;
        const ftk_err err = ftk_walk_load(k, i);
        if (err != FTK_OK) return err;
        const double least = threshold(&k->left);
        for (; child >= 0; child = ftk_tree_next(t, i, child + 1)) {
            const double p = ftk_residual_share(&k->left, t->token[child]);
            if (p > least) log_p[child] = log_p[i] + log(p);
        }
    }
    return FTK_OK;
}

static ftk_err judge(const ftk_tree *tree, const float *logits, ftk_sampler *sampler,
                     const int32_t *history, size_t n, ftk_verdict *verdict)
{
    const size_t n_vocab = (size_t)sampler->n_vocab;
    ftk_walk k = {tree, logits, sampler, history, n, .verdict = verdict};
    for (int node = 0;;) {
        int end;
        ftk_err err = longest(&k, node, &end);
        if (err != FTK_OK) return err;
        const int d = tree->depth[end];
        verdict->n_path = d;
        for (int i = end; i >= 0; i = tree->parent[i]) {
            verdict->path[tree->depth[i]] = (int16_t)i;
            if (i > 0) verdict->token[tree->depth[i] - 1] = tree->token[i];
        }
        err = ftk_sampler_pick(sampler, logits + (size_t)end * n_vocab, history, n, verdict->token,
                               d, n + (size_t)d, &verdict->token[d]);
        if (err != FTK_OK) return err;
        node = ftk_tree_child(tree, end, verdict->token[d]);
        if (node < 0) return FTK_OK;
    }
}

const ftk_verifier_ops ftk_verifier_typical = {.name = "typical", .judge = judge};
