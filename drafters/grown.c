/* SPDX-License-Identifier: Apache-2.0
 * Drafts that grow by a draft model: what a session keeps and learns. How they grow:
 * grown_rows.c. */
#include "drafters/grown.h"

#include <string.h>

#include "base/mem.h"

enum {
    DEPTH = FTK_GROWN_DEPTH,
    /* candidates, with the root: */
    MOST = 1 + FTK_CHAIN + FTK_RECYCLED + DEPTH * FTK_GROWN_WIDTH * FTK_LIKELY,
};

/* Of the rows that the last draft has run those stay that lead to what has come since. */
void ftk_grown_keep(ftk_grown *g, const int32_t *history, size_t n)
{
    int16_t rows[DEPTH];
    int n_kept = 0, at = 0;
    for (size_t i = g->grew; g->grew > 0 && i < n && n_kept < DEPTH; i++) {
        at = ftk_guesses_child(&g->guesses, at, history[i]);
        if (at < 0 || g->guesses.all[at].row < 1) break;
        rows[n_kept++] = (int16_t)(g->guesses.all[at].row - 1);
    }
    if (g->grew > 0) g->model->keep(g->model->ctx, n_kept, rows);
    g->grew = 0;
    g->n_rows = 0;
}

/* ---- the drafter */

/* Much that is unread, as a prompt, or what came while reading did not pay or others drafted, is
 * read where that pays: it is no part of a draft. */
void ftk_grown_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                     const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)rows;
    ftk_grown *const g = state;
    const int emitted = verdict->n_path + 1;
    ftk_guesses_settle(&g->guesses, n, verdict->token, (size_t)emitted);
    ftk_drawn_settle(g, n, tree, verdict);
    if (ftk_grown_late(g, n) && ftk_grown_pays(g)) {
        ftk_grown_keep(g, history, n);
        ftk_grown_read(g, history, n);
    }
}

void ftk_grown_reset(void *state, const int32_t *history, size_t n)
{
    (void)history, (void)n;
    ftk_grown *const g = state;
    g->guesses.asked = g->grew = 0;
}

void ftk_grown_init_known(void *rates)
{
    ftk_grown_known *const known = rates;
    ftk_rate *const r = known->rates;
    ftk_drawn_init_rates(&known->drawn);
    ftk_guesses_init_rates(r, FTK_GROWN_RATES);
    for (int i = 0; i < FTK_GROWN_CLASSES * FTK_LIKELY_BINS; i++)
        ftk_rate_init(&r[FTK_GROWN_GUESS + i], ftk_likely_prior(i % FTK_LIKELY_BINS));
    for (int i = 0; i < FTK_GROWN_CLASSES; i++) ftk_confidence_init(&known->confidence[i]);
}

ftk_err ftk_grown_init(void *state, const ftk_drafter_env *env)
{
    ftk_grown *const g = state;
    g->target = env->target;
    g->model = env->model;
    g->sampling = env->sampling;
    g->known = env->rates;
    if (ftk_guesses_init_for(&g->guesses, env, MOST, g->known->rates, FTK_GROWN_RATES) != FTK_OK)
        return FTK_ERR_NOMEM;
    return env->draws ? ftk_drawn_init(&g->drawn, env) : FTK_OK;
}

void ftk_grown_free(void *state, const ftk_host *host)
{
    ftk_grown *const g = state;
    ftk_drawn_free(&g->drawn, host);
    ftk_guesses_free(&g->guesses, host);
    *g = (ftk_grown){0};
}
