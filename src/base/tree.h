/* SPDX-License-Identifier: Apache-2.0
 * The token tree: the only currency between drafter, forward and verifier. */
#ifndef FTK_TREE_H
#define FTK_TREE_H

#include "foretoken.h"

/* Node 0 is the root: the last emitted token, not yet in the KV cache. parent[i] < i for i > 0.
 * No two children of a node carry the same token. Drafters add nodes by falling prob where they
 * can, so that any leading part of the tree is a good smaller tree.
 *
 * A token is chosen or drawn. Chosen ones (q NULL) are fixed given the text: they come from a list,
 * a look-up, the best of a model. Drawn ones come by chance from weights q over the vocabulary,
 * which verifiers then make use of. What a drafter that draws promises:
 *  - Without replacement: siblings are drawn in the order of their indices, each from the weights
 *    without the tokens of all siblings before it, chosen ones too.
 *  - Siblings that were drawn share one q. It may depend on the tokens above them.
 *  - How many nodes there are, their parents and their prob do not depend on what was drawn in this
 *    step: the tree may be cut, and tokens that were kept for what they are were not drawn from q.
 *    (So a tree grown best first by the tokens' own probabilities holds chosen ones.)
 *  - Its random numbers are not the verifier's: see ftk_uniform_sub(). */
typedef struct ftk_tree {
    int n; /* 1..FTK_MAX_NODES */
    int32_t token[FTK_MAX_NODES];
    int16_t parent[FTK_MAX_NODES]; /* -1 for the root */
    int16_t depth[FTK_MAX_NODES];
    float prob[FTK_MAX_NODES];       /* expected tokens the node is worth: the probability that it
                                        is accepted, and what its row gains the next draft;
                                        root 1, never above its parent's */
    uint64_t mask[FTK_MAX_NODES][2]; /* bit j: node j is an ancestor or the node itself */
    const float *q[FTK_MAX_NODES];   /* [n_vocab] weights the token was drawn from, of any sum,
                                        finite and not negative; NULL: it was chosen. The
                                        drafter's memory, unchanged until learn() returned */
} ftk_tree;

/* A tree of one node. */
void ftk_tree_init(ftk_tree *t, int32_t root);
/* The child of `parent` that carries `token`, or -1. */
int ftk_tree_child(const ftk_tree *t, int parent, int32_t token);
/* For a node more, of at most `budget` below the root. */
static inline bool ftk_tree_has_room(const ftk_tree *t, int budget)
{
    return t->n <= budget && t->n < FTK_MAX_NODES;
}

/* Adds a child, or returns the one that is there already (raising its prob if `prob` is higher).
 * -1 when the tree is full. */
int ftk_tree_add(ftk_tree *t, int parent, int32_t token, float prob);
/* Adds a child whose token was drawn from q. No child may carry it yet. -1 when the tree is
 * full. */
int ftk_tree_add_drawn(ftk_tree *t, int parent, int32_t token, float prob, const float *q);
/* The first child of `parent` at index `from` or after, or -1. */
int ftk_tree_next(const ftk_tree *t, int parent, int from);
/* Keeps the first n nodes; they are a tree, since parents come first. */
void ftk_tree_cut(ftk_tree *t, int n);

/* What the verifier found. */
typedef struct ftk_verdict {
    int n_path;                   /* accepted nodes below the root */
    int16_t path[FTK_MAX_NODES];  /* path[0] = 0, the root; path[1..n_path] the accepted nodes */
    int32_t token[FTK_MAX_NODES]; /* token[0..n_path-1] accepted, token[n_path] the bonus */
} ftk_verdict;

#endif
