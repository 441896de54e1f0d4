/* SPDX-License-Identifier: Apache-2.0
 *
 * Traversal verification, from the leaves up: a leaf is accepted together with its whole path, or
 * taken off the tree, so that a token that is a poor guess by itself may still be carried by those
 * behind it. Node x below v is accepted with probability a(x) = min(1, a(v) p(x) / q(x)), a(root) =
 * 1. When it is taken off, its parent's p becomes what is left of a p - q, and a(v) the probability
 * with which that is due; the parent's next child is tried, and then the parent itself, as a leaf.
 * The root is always accepted. On a chain this is block verification.
 *
 * The paper could be read in summaries only: the rule is from our notes, where it was rebuilt
 * and proven by enumeration. Our own reading are chosen tokens (q is 1 for them), and that a
 * node with no drawn token left below it is treated as a leaf: it is accepted or taken off with
 * all that is below it, and when it is accepted, the walk goes down from it as in
 * verifiers/reject.c. Between chosen tokens this gives the same path and bonus with the same
 * probabilities: they follow from what the model goes on to say, and so each has exactly the
 * probability of its path, from either end. It saves the rows that the walk does not reach. A
 * tree without drawn tokens is thus judged as by `reject`. */
#include "verifiers/verifier.h"
#include "verifiers/walk.h"

typedef struct place {
    double a;          /* probability that it, or a node below it, is accepted */
    int next;          /* index from which on its children are still to be tried */
    int last_drawn;    /* the last child with a drawn token in its subtree, itself included; 0 */
    bool seen;         /* its row was loaded before: `left` holds */
    ftk_residual left; /* without what was rejected */
} place;

/* last_drawn of all nodes. */
static void find_drawn(const ftk_tree *t, place *at)
{
    bool drawn[FTK_MAX_NODES] = {false};
    for (int i = 0; i < t->n; i++) at[i] = (place){0};
    for (int i = t->n - 1; i > 0; i--) {
        drawn[i] |= t->q[i] != NULL;
        if (!drawn[i]) continue;
        drawn[t->parent[i]] = true;
        if (at[t->parent[i]].last_drawn < i) at[t->parent[i]].last_drawn = i;
    }
}

/* Loads a node's row again, with what was rejected since. */
static ftk_err load(ftk_walk *k, place *at, int node)
{
    if (at[node].seen && k->node == node) return FTK_OK;
    const ftk_err err = ftk_walk_load(k, node);
    if (err != FTK_OK) return err;
    if (at[node].seen) {
        k->left = at[node].left;
        for (int i = ftk_tree_next(k->tree, node, 0); i >= 0 && i < at[node].next;
             i = ftk_tree_next(k->tree, node, i + 1))
            k->left.w[k->tree->token[i]] = 0;
    }
    at[node].seen = true;
    at[node].left = k->left;
    return FTK_OK;
}

static ftk_err take_off(ftk_walk *k, place *at, int node)
{
    const int parent = k->tree->parent[node];
    const ftk_err err = load(k, at, parent);
    if (err != FTK_OK) return err;
    at[parent].a = ftk_walk_reject(k, node, at[parent].a);
    at[parent].next = node + 1;
    at[parent].left = k->left;
    return FTK_OK;
}

static ftk_err judge(const ftk_tree *tree, const float *logits, ftk_sampler *sampler,
                     const int32_t *history, size_t n, ftk_verdict *verdict)
{
    ftk_walk k = {tree, logits, sampler, history, n, .verdict = verdict, .node = -1};
    place at[FTK_MAX_NODES];
    find_drawn(tree, at);
    at[0].a = 1;
    for (int node = 0;;) {
        place *const here = &at[node];
        ftk_err err = FTK_OK;
        if (here->a > 0 && here->last_drawn >= here->next && here->last_drawn > 0) {
            err = load(&k, at, node);
            if (err != FTK_OK) return err;
            const int child = ftk_tree_next(tree, node, here->next);
            const double a = here->a * ftk_walk_ratio(&k, child);
            at[child].a = a < 1 ? a : 1;
            node = child;
        } else if (ftk_walk_accept(&k, here->a)) {
            err = load(&k, at, node);
            return err == FTK_OK ? ftk_walk_down(&k, here->next) : err;
        } else {
            err = take_off(&k, at, node);
            if (err != FTK_OK) return err;
            node = tree->parent[node];
        }
    }
}

const ftk_verifier_ops ftk_verifier_traversal = {
    .name = "traversal", .lossless = true, .uses_draws = true, .judge = judge};
