/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts what followed the longest end of the text that occurred before. Two occurrences are
 * followed, the most recent and the earliest, until they disagree and after: a chain with at most
 * one fork. All that it knows is the session's retrieval's (retrieval.h).
 */
#include "drafters/drafter.h"
#include "drafters/retrieval.h"

typedef struct lookup {
    const ftk_retrieval *retrieval;
    bool chain; /* no fork */
} lookup;

static ftk_err lookup_init(void *state, const ftk_drafter_env *env)
{
    lookup *const s = state;
    s->retrieval = env->retrieval;
    s->chain = env->shape == FTK_TREE_CHAIN;
    return FTK_OK;
}

/* Adds both chains by falling probability. */
static void lookup_propose(void *state, const int32_t *history, size_t n, int budget,
                           ftk_tree *tree)
{
    (void)history, (void)n;
    const lookup *const s = state;
    const ftk_retrieval *const r = s->retrieval;
    int fork = 0; /* where the chains part */
    while (fork < r->n && (s->chain || r->recent[fork] == r->first[fork])) fork++;
    int trunk = 0, twig = fork; /* tokens used of recent, of first */
    int trunk_end = 0, twig_end = -1;
    float so_far = 1, forks = 0; /* prob of trunk_end, of first[twig] */
    while (trunk < r->n && tree->n <= budget && tree->n < FTK_MAX_NODES) {
        const float next = so_far * ftk_retrieval_goes_on(r, trunk);
        if (trunk == fork && twig_end < 0) {
            twig_end = trunk_end;
            forks = (so_far - next) * ftk_retrieval_forks(r, trunk);
        }
        if (twig_end >= 0 && twig < r->n && forks > next) {
            twig_end = ftk_tree_add(tree, twig_end, r->first[twig++], forks);
            forks *= ftk_retrieval_goes_on(r, twig);
        } else {
            trunk_end = ftk_tree_add(tree, trunk_end, r->recent[trunk++], next);
            so_far = next;
        }
    }
}

static void lookup_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                         const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)state, (void)history, (void)n, (void)tree, (void)verdict, (void)rows;
}

static void lookup_reset(void *state, const int32_t *history, size_t n)
{
    (void)state, (void)history, (void)n;
}

static void lookup_free(void *state, const ftk_host *host)
{
    (void)state, (void)host;
}

const ftk_drafter_ops ftk_drafter_lookup = {
    .name = "lookup",
    .state_size = sizeof(lookup),
    .init = lookup_init,
    .propose = lookup_propose,
    .learn = lookup_learn,
    .reset = lookup_reset,
    .free = lookup_free,
};
