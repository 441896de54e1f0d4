/* SPDX-License-Identifier: Apache-2.0
 * Drafters for tests. */
#include "test_drafters_ops.h"

typedef struct replay {
    const ftk_test_reference *reference;
    int n_vocab;
} replay;

static ftk_err init(void *state, const ftk_drafter_env *env)
{
    *(replay *)state = (replay){env->test, env->n_vocab};
    return FTK_OK;
}

static void propose(const replay *s, size_t n, int budget, int32_t off, ftk_tree *tree)
{
    float prob = 1;
    int node = 0;
    for (int i = 0; i < budget && n + (size_t)i < s->reference->n; i++) {
        const int32_t token = (s->reference->tokens[n + (size_t)i] + off) % s->n_vocab;
        node = ftk_tree_add(tree, node, token, prob *= 0.999f);
    }
}

static void propose_right(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    (void)history;
    propose(state, n, budget, 0, tree);
}

static void propose_wrong(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    (void)history;
    propose(state, n, budget, 1, tree);
}

static void learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                  const ftk_verdict *verdict, const float *logits)
{
    (void)state, (void)history, (void)n, (void)tree, (void)verdict, (void)logits;
}

static void reset(void *state, const int32_t *history, size_t n)
{
    (void)state, (void)history, (void)n;
}

static void release(void *state, const ftk_host *host)
{
    (void)state, (void)host;
}

#define REPLAY(as, how)                                                                            \
    {                                                                                              \
        .name = as, .state_size = sizeof(replay), .init = init, .propose = how, .learn = learn,    \
        .reset = reset, .free = release                                                            \
    }
const ftk_drafter_ops ftk_drafter_right = REPLAY("right", propose_right);
const ftk_drafter_ops ftk_drafter_wrong = REPLAY("wrong", propose_wrong);
