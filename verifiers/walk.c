/* SPDX-License-Identifier: Apache-2.0
 *
 * What the verifiers that reject have in common. All random numbers of a step are numbered from
 * 1 on at the position of its first token, where no other step of the text begins, so that none
 * is used twice. With each at the position it decides about, those of nodes that `traversal`
 * rejected would be met again in the next step, when they have had their effect already. */
#include "verifiers/walk.h"

ftk_err ftk_walk_load(ftk_walk *k, int node)
{
    const ftk_tree *const t = k->tree;
    int32_t *const path = k->verdict->token;
    const size_t n_vocab = (size_t)k->sampler->n_vocab;
    for (int i = node; i > 0; i = t->parent[i]) path[t->depth[i] - 1] = t->token[i];
    k->node = node;
    k->left = (ftk_residual){.n = k->sampler->n_vocab, .w = k->sampler->logits};
    return ftk_sampler_weigh(k->sampler, k->logits + (size_t)node * n_vocab, k->history, k->n, path,
                             t->depth[node], &k->left.total);
}

static double uniform(ftk_walk *k)
{
    return ftk_uniform_sub(k->sampler->cfg.seed, k->n, ++k->used);
}

bool ftk_walk_accept(ftk_walk *k, double p)
{
    const ftk_chance *const chance = k->sampler->chance;
    if (p >= 1) return true;
    if (!(p > 0)) return false;
    return chance ? chance->accept(chance->ctx, p) : uniform(k) < p;
}

static int32_t draw(ftk_walk *k)
{
    const ftk_chance *const chance = k->sampler->chance;
    return chance ? chance->draw(chance->ctx, &k->left) : ftk_residual_draw(&k->left, uniform(k));
}

/* The tokens of the siblings before a child, sorted; returns their number. */
static int siblings_before(const ftk_tree *t, int child, int32_t *tokens)
{
    const int parent = t->parent[child];
    int n = 0;
    for (int i = ftk_tree_next(t, parent, 0); i < child; i = ftk_tree_next(t, parent, i + 1)) {
        int at = n++;
        for (; at > 0 && tokens[at - 1] > t->token[i]; at--) tokens[at] = tokens[at - 1];
        tokens[at] = t->token[i];
    }
    return n;
}

/* The weight of all tokens that a child could have been drawn from. It is summed anew: what is left
 * of a sum when most of it is taken away is not exact. */
static double drawable(const ftk_walk *k, int child)
{
    int32_t out[FTK_MAX_NODES];
    const int n = siblings_before(k->tree, child, out);
    const float *const q = k->tree->q[child];
    double sum = 0;
    int32_t i = 0;
    for (int j = 0; j <= n; j++, i++)
        for (const int32_t end = j < n ? out[j] : k->left.n; i < end; i++) sum += (double)q[i];
    return sum;
}

double ftk_walk_ratio(const ftk_walk *k, int child)
{
    const int32_t token = k->tree->token[child];
    const float *const q = k->tree->q[child];
    const double share = ftk_residual_share(&k->left, token);
    if (!q || share == 0) return share;
    return q[token] > 0 ? share * drawable(k, child) / (double)q[token] : 0;
}

double ftk_walk_reject(ftk_walk *k, int child, double a)
{
    const float *const q = k->tree->q[child];
    return ftk_residual_reject(&k->left, k->tree->token[child], q, q ? drawable(k, child) : 1, a);
}

static void finish(ftk_walk *k)
{
    const ftk_tree *const t = k->tree;
    ftk_verdict *const v = k->verdict;
    v->n_path = t->depth[k->node];
    for (int i = k->node; i >= 0; i = t->parent[i]) v->path[t->depth[i]] = (int16_t)i;
    v->token[v->n_path] = draw(k);
}

ftk_err ftk_walk_down(ftk_walk *k, int from)
{
    for (;;) {
        int child = ftk_tree_next(k->tree, k->node, from);
        while (child >= 0 && !ftk_walk_accept(k, ftk_walk_ratio(k, child))) {
            ftk_walk_reject(k, child, 1);
            child = ftk_tree_next(k->tree, k->node, child + 1);
        }
        if (child < 0) break;
        const ftk_err err = ftk_walk_load(k, child);
        if (err != FTK_OK) return err;
        from = 0;
    }
    finish(k);
    return FTK_OK;
}
