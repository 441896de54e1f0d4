/* SPDX-License-Identifier: Apache-2.0
 * Drafters for tests. */
#include "testkit/test_drafters_ops.h"

#include "base/mem.h"
#include "base/sampler.h"

enum { LEVELS = 3 };

typedef struct replay {
    const ftk_test_reference *reference;
    int n_vocab;
    uint64_t seed;
    float *q; /* [LEVELS][n_vocab] of the one that draws */
} replay;

static ftk_err init(void *state, const ftk_drafter_env *env)
{
    *(replay *)state =
        (replay){env->test, env->n_vocab, env->sampling ? env->sampling->seed : 0, NULL};
    return FTK_OK;
}

static ftk_err init_draws(void *state, const ftk_drafter_env *env)
{
    replay *const s = state;
    init(s, env);
    s->q = ftk_alloc_raw(env->host, (size_t)env->n_vocab, LEVELS * sizeof *s->q);
    return s->q ? FTK_OK : FTK_ERR_NOMEM;
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

static void weigh(const replay *s, size_t pos, float *q)
{
    for (int i = 0; i < s->n_vocab; i++)
        q[i] = (float)ftk_uniform_sub(0, pos, FTK_DRAFT_SUB + (uint32_t)i) + 0.01f;
    if (pos < s->reference->n) q[s->reference->tokens[pos]] = 0.5f * (float)s->n_vocab;
}

/* From the weights without the tokens of the siblings that are there. */
static int32_t draw(const replay *s, const ftk_tree *t, int parent, const float *q, double u)
{
    double sum = 0, so_far = 0;
    for (int32_t i = 0; i < s->n_vocab; i++) sum += (double)q[i];
    for (int i = ftk_tree_next(t, parent, 0); i > 0; i = ftk_tree_next(t, parent, i + 1))
        sum -= (double)q[t->token[i]];
    int32_t token = -1;
    for (int32_t i = 0; i < s->n_vocab && (token < 0 || so_far <= u * sum); i++) {
        if (ftk_tree_child(t, parent, i) >= 0) continue;
        so_far += (double)q[i];
        token = i;
    }
    return token;
}

static void propose_draws(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    static const int parent[] = {0, 0, 1, 1, 2, 2, 3, 4, 5, 6};
    static const float prob[LEVELS] = {0.3f, 0.1f, 0.05f}; /* by level: not by what was drawn */
    const replay *const s = state;
    (void)history;
    for (int d = 0; d < LEVELS; d++) weigh(s, n + (size_t)d, s->q + (size_t)d * (size_t)s->n_vocab);
    for (int i = 0; i < 10 && i < budget; i++) {
        const int d = tree->depth[parent[i]];
        const float *const q = s->q + (size_t)d * (size_t)s->n_vocab;
        const double u = ftk_uniform_sub(s->seed, n, FTK_DRAFT_SUB + (uint32_t)i);
        ftk_tree_add_drawn(tree, parent[i], draw(s, tree, parent[i], q, u), prob[d], q);
    }
}

static void learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                  const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)state, (void)history, (void)n, (void)tree, (void)verdict, (void)rows;
}

static void reset(void *state, const int32_t *history, size_t n)
{
    (void)state, (void)history, (void)n;
}

static void release(void *state, const ftk_host *host)
{
    replay *const s = state;
    ftk_release(host, s->q);
    s->q = NULL;
}

#define REPLAY(as, start, how)                                                                     \
    {                                                                                              \
        .name = as, .state_size = sizeof(replay), .init = start, .propose = how, .learn = learn,   \
        .reset = reset, .free = release                                                            \
    }
const ftk_drafter_ops ftk_drafter_right = REPLAY("right", init, propose_right);
const ftk_drafter_ops ftk_drafter_wrong = REPLAY("wrong", init, propose_wrong);
const ftk_drafter_ops ftk_drafter_draws = REPLAY("draws", init_draws, propose_draws);
