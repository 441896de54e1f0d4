/* SPDX-License-Identifier: Apache-2.0
 *
 * What the session's own sources name, and nothing else.
 *
 * lookup: what followed the longest end of the text that occurred before, at the most recent place
 * and at the earliest: a chain with at most one fork (retrieval.h).
 *
 * recycle: token recycling (arXiv 2408.08696), a tree of successors (successors.h) beside those
 * chains. The paper's tree is fixed, with 80 nodes; ours grows by what guesses of that depth and
 * size were worth. */
#include "drafters/drafter.h"
#include "drafters/guesses.h"

enum { MOST = 1 + FTK_CHAIN + FTK_RECYCLED };

static void init_rates(void *rates)
{
    ftk_guesses_init_rates(rates, FTK_GUESS_RATES);
}

static ftk_err lookup_init(void *state, const ftk_drafter_env *env)
{
    ftk_guesses *const g = state;
    const ftk_err err = ftk_guesses_init_for(g, env, MOST, NULL, 0);
    g->successors = NULL;
    return err;
}

static ftk_err recycle_init(void *state, const ftk_drafter_env *env)
{
    return ftk_guesses_init_for(state, env, MOST, env->rates, FTK_GUESS_RATES);
}

static void recycle_free(void *state, const ftk_host *host)
{
    ftk_guesses_free(state, host);
}

static void recycle_propose(void *state, const int32_t *history, size_t n, int budget,
                            ftk_tree *tree)
{
    ftk_guesses *const g = state;
    ftk_guesses_settle(g, g->asked, history + g->asked, n - g->asked);
    ftk_guesses_ask(g, history, n);
    ftk_guesses_plant(g, budget, tree);
}

static void recycle_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                          const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history, (void)tree, (void)rows;
    ftk_guesses_settle(state, n, verdict->token, (size_t)verdict->n_path + 1);
}

static void recycle_reset(void *state, const int32_t *history, size_t n)
{
    (void)history, (void)n;
    ((ftk_guesses *)state)->asked = 0;
}

const ftk_drafter_ops ftk_drafter_recycle = {
    .name = "recycle",
    .state_size = sizeof(ftk_guesses),
    .rates_size = FTK_GUESS_RATES * sizeof(ftk_rate),
    .rates_init = init_rates,
    .wants = FTK_WANT_SUCCESSORS,
    .init = recycle_init,
    .propose = recycle_propose,
    .learn = recycle_learn,
    .reset = recycle_reset,
    .free = recycle_free,
};

const ftk_drafter_ops ftk_drafter_lookup = {
    .name = "lookup",
    .state_size = sizeof(ftk_guesses),
    .init = lookup_init,
    .propose = recycle_propose,
    .learn = recycle_learn,
    .reset = recycle_reset,
    .free = recycle_free,
};
