/* SPDX-License-Identifier: Apache-2.0
 * Drafts that grow by a draft model. */
#include "drafters/grown.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "drafters/took.h"

enum {
    WIDTH = FTK_GROWN_WIDTH,
    DEPTH = FTK_GROWN_DEPTH,
    CHOICES = FTK_LIKELY,
    FIXED = 4, /* rows that take no time of their own, about */
    /* candidates, with the root: */
    MOST = 1 + FTK_CHAIN + FTK_RECYCLED + DEPTH * WIDTH * CHOICES,
};

static const float floor_worth = 0.02f; /* of a node that gets children */

static int class_of(int depth)
{
    return depth < FTK_GROWN_CLASSES ? depth : FTK_GROWN_CLASSES - 1;
}

/* ---- time */

/* Of a pass over n rows. */
static double seconds_of(const ftk_grown *g, int n, bool reads)
{
    return ftk_took_of(g->known->took[reads], n < FTK_GROWN_TIMED ? n : FTK_GROWN_TIMED, FIXED);
}

static double now(const ftk_grown *g)
{
    return g->target->now(g->target->ctx);
}

/* At the pace of late. */
static double token_seconds(const ftk_grown *g)
{
    return g->guesses.flags & FTK_ROWS_ALWAYS ? INFINITY : ftk_target_token(g->target);
}

bool ftk_grown_pays(const ftk_grown *g, double tokens, int n, bool reads)
{
    return tokens * token_seconds(g) > seconds_of(g, n, reads);
}

/* ---- the model */

const float *ftk_grown_read(ftk_grown *g, const int32_t *history, size_t n)
{
    const ftk_draft_model *const m = g->model;
    const size_t rows = m->unread(m->ctx, n);
    const double start = now(g);
    const float *const logits = m->read(m->ctx, history, n);
    g->n_rows = 0;
    if (!logits) return NULL;
    if (rows <= FTK_GROWN_TIMED) ftk_took_see(g->known->took[true], (int)rows, now(g) - start);
    g->grew = n;
    g->guesses.all[0].row = 0;
    return logits;
}

/* A guess's row is one more than the model's number for it, and the root's 0. */
const float *ftk_grown_run(ftk_grown *g, int n, const int *guess)
{
    const ftk_draft_model *const m = g->model;
    ftk_guess *const all = g->guesses.all;
    int32_t token[WIDTH];
    int16_t parent[WIDTH];
    for (int i = 0; i < n; i++) {
        token[i] = all[guess[i]].token;
        parent[i] = (int16_t)(all[all[guess[i]].parent].row - 1);
    }
    const double start = now(g);
    const float *const logits = m->run(m->ctx, n, token, parent);
    if (!logits) return NULL;
    ftk_took_see(g->known->took[false], n, now(g) - start);
    for (int i = 0; i < n; i++) all[guess[i]].row = (int16_t)(++g->n_rows);
    return logits;
}

/* Of the rows that the last draft has run those stay that lead to what has come since. */
static void keep_rows(ftk_grown *g, const int32_t *history, size_t n)
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

/* ---- growing */

/* The likeliest tokens behind a node, by its row of logits. */
static void suggest_children(ftk_grown *g, int node, const float *logits)
{
    const ftk_draft_model *const m = g->model;
    const ftk_guess *const above = &g->guesses.all[node];
    const int from = class_of(above->depth) * FTK_LIKELY_BINS,
              most = g->guesses.chain ? 1 : CHOICES;
    int32_t best[CHOICES];
    int8_t bin[CHOICES];
    const int n = ftk_likely(logits, m->n_out, most, best, bin);
    g->best[above->row] = -1;
    for (int i = 0; i < n; i++) {
        const int32_t token = m->vocab ? m->vocab[best[i]] : best[i];
        ftk_guesses_add(&g->guesses, node, token, FTK_GROWN_GUESS + from + bin[i]);
        if (i == 0) g->best[above->row] = token;
    }
}

/* For how many of the chosen nodes, the best first, rows are worth running. */
static int worth_running(ftk_grown *g, int depth, int n, const int *chosen)
{
    const double right = ftk_rate_get(&g->known->rates[FTK_GROWN_BEST + class_of(depth)]);
    const double token = token_seconds(g);
    double tokens = 0, most = 0;
    int best = 0;
    for (int i = 0; i < n; i++) {
        tokens += right * ftk_guesses_open(&g->guesses, chosen[i]);
        const double gain = tokens * token - seconds_of(g, i + 1, false);
        if (gain > most || (gain == INFINITY && best == i)) {
            most = gain;
            best = i + 1;
        }
    }
    if (best == 0) ftk_took_doubt(g->known->took[false], g->target);
    return best;
}

/* The same of reading the text, which may say what follows at several depths. */
static bool worth_reading(ftk_grown *g, int unread)
{
    double tokens = 0, reached = ftk_guesses_open(&g->guesses, 0);
    for (int depth = 0; depth < g->model->block && depth < DEPTH; depth++)
        tokens += reached *= ftk_rate_get(&g->known->rates[FTK_GROWN_BEST + class_of(depth)]);
    const bool pays = ftk_grown_pays(g, tokens, unread, true);
    if (!pays) ftk_took_doubt(g->known->took[true], g->target);
    return pays;
}

/* Children of the nodes of a depth, as far as that is worth it; false: it is not. */
static bool grow(ftk_grown *g, int depth)
{
    const int width = g->guesses.chain ? 1 : WIDTH;
    int chosen[WIDTH];
    int n = ftk_guesses_best(&g->guesses, depth, floor_worth, true, width, chosen);
    if (n > FTK_MAX_NODES - g->n_rows) n = FTK_MAX_NODES - g->n_rows;
    n = worth_running(g, depth, n, chosen);
    const float *const logits = n > 0 ? ftk_grown_run(g, n, chosen) : NULL;
    for (int i = 0; logits && i < n; i++)
        suggest_children(g, chosen[i], logits + (size_t)i * g->model->stride);
    return logits != NULL;
}

static void grow_all(ftk_grown *g, const int32_t *history, size_t n)
{
    const size_t unread = g->model->unread(g->model->ctx, n);
    g->late = unread > FTK_GROWN_LATE;
    if (g->late || !worth_reading(g, (int)unread)) return;
    const float *const logits = ftk_grown_read(g, history, n);
    if (!logits) return;
    suggest_children(g, 0, logits);
    for (int depth = 1; depth < DEPTH; depth++)
        if (!grow(g, depth)) return;
}

/* ---- the drafter */

void ftk_grown_propose(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    ftk_grown *const g = state;
    keep_rows(g, history, n);
    ftk_guesses_begin(&g->guesses, history[n - 1]);
    g->asked = 0;
    if (ftk_drawn_due(&g->drawn, g->sampling)) {
        ftk_drawn_propose(g, history, n, budget, tree);
        return;
    }
    ftk_guesses_ask(&g->guesses, history[n - 1]);
    g->asked = n;
    grow_all(g, history, n);
    ftk_guesses_plant(&g->guesses, budget, tree);
}

/* Of each row that ran for a node of the true path, whether its best choice came. */
static void see_rows(ftk_grown *g, const int32_t *truth, int n)
{
    int at = 0;
    for (int i = 0; i < n && at >= 0 && g->guesses.all[at].row >= 0; i++) {
        const int32_t best = g->best[g->guesses.all[at].row];
        ftk_rate_see(&g->known->rates[FTK_GROWN_BEST + class_of(i)], best == truth[i]);
        at = ftk_guesses_child(&g->guesses, at, truth[i]);
    }
}

/* A prompt is read as soon as the target has read it, and what was missed while others drafted
 * once it is missed: neither is part of a draft. */
void ftk_grown_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                     const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)rows;
    ftk_grown *const g = state;
    const int emitted = verdict->n_path + 1;
    if (g->asked == n) {
        see_rows(g, verdict->token, emitted);
        ftk_guesses_settle(&g->guesses, verdict->token, (size_t)emitted);
    }
    ftk_drawn_settle(g, n, tree, verdict);
    g->asked = 0;
    if (g->late || n > g->told) {
        keep_rows(g, history, n);
        g->model->read(g->model->ctx, history, n);
        g->late = false;
    }
    g->told = n + (size_t)emitted;
}

void ftk_grown_reset(void *state, const int32_t *history, size_t n)
{
    (void)history;
    ftk_grown *const g = state;
    g->asked = g->grew = 0;
    if (g->told > n) g->told = n;
}

void ftk_grown_init_known(void *rates)
{
    ftk_grown_known *const known = rates;
    ftk_rate *const r = known->rates;
    ftk_drawn_init_rates(&known->drawn);
    ftk_guesses_init_rates(r, FTK_GROWN_RATES);
    for (int i = 0; i < FTK_GROWN_CLASSES * FTK_LIKELY_BINS; i++)
        ftk_rate_init(&r[FTK_GROWN_GUESS + i], ftk_likely_prior(i % FTK_LIKELY_BINS));
    for (int i = 0; i < FTK_GROWN_CLASSES; i++) ftk_rate_init(&r[FTK_GROWN_BEST + i], 0.6f);
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
