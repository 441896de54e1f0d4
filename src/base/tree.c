/* SPDX-License-Identifier: Apache-2.0
 * The token tree. */
#include "base/tree.h"

#include <assert.h>

void ftk_tree_init(ftk_tree *t, int32_t root)
{
    t->n = 1;
    t->token[0] = root;
    t->parent[0] = -1;
    t->depth[0] = 0;
    t->prob[0] = 1;
    t->mask[0][0] = 1;
    t->mask[0][1] = 0;
    t->q[0] = NULL;
}

int ftk_tree_child(const ftk_tree *t, int parent, int32_t token)
{
    for (int i = parent + 1; i < t->n; i++)
        if (t->parent[i] == parent && t->token[i] == token) return i;
    return -1;
}

int ftk_tree_add(ftk_tree *t, int parent, int32_t token, float prob)
{
    assert(parent >= 0 && parent < t->n);
    const int there = ftk_tree_child(t, parent, token);
    if (there >= 0) {
        if (prob > t->prob[there]) t->prob[there] = prob;
        return there;
    }
    if (t->n == FTK_MAX_NODES) return -1;
    const int i = t->n++;
    t->token[i] = token;
    t->parent[i] = (int16_t)parent;
    t->depth[i] = (int16_t)(t->depth[parent] + 1);
    t->prob[i] = prob;
    t->mask[i][0] = t->mask[parent][0];
    t->mask[i][1] = t->mask[parent][1];
    t->mask[i][i / 64] |= UINT64_C(1) << i % 64;
    t->q[i] = NULL;
    return i;
}

int ftk_tree_add_drawn(ftk_tree *t, int parent, int32_t token, float prob, const float *q)
{
    assert(ftk_tree_child(t, parent, token) < 0);
    const int i = ftk_tree_add(t, parent, token, prob);
    if (i >= 0) t->q[i] = q;
    return i;
}

int ftk_tree_next(const ftk_tree *t, int parent, int from)
{
    for (int i = from > parent ? from : parent + 1; i < t->n; i++)
        if (t->parent[i] == parent) return i;
    return -1;
}

void ftk_tree_cut(ftk_tree *t, int n)
{
    assert(n >= 1);
    if (n < t->n) t->n = n;
}
