/* SPDX-License-Identifier: Apache-2.0
 *
 * SpeCa (arXiv 2509.11628): branches are forecast by TaylorSeer's series (arXiv 2503.06923) and
 * the last layer is computed beside its forecast, as a sample of how good it is. Lossy: the
 * check is a heuristic.
 *
 * Two ways to treat a forecast that is found wrong. `defer` is the released program's: it
 * stands, and the next step is computed. `redo` is the paper's: the step itself is computed.
 * There are also two rules of when a forecast is checked: with `defer`, the first one behind a
 * computed step never is. */
#include <math.h>

#include "diffusion/cachepolicy.h"

enum { FIRST = 3 }; /* steps at the beginning, of which no two in a row are forecast */

typedef struct state {
    int last_full; /* its index; that of none is -1 */
    int run;       /* forecasts since */
    int have;      /* order of the differences that are kept */
    double error;  /* of the last check; NAN: none since the last full step */
} state;

static ftk_err check(ftk_cache_env *e, const ftk_dit *m)
{
    (void)m;
    ftk_cache_config *c = &e->cfg;
    ftk_err err = ftk_cache_whole(e, "order", 2, 0, FTK_MAX_ORDER, &c->order);
    if (err == FTK_OK) err = ftk_cache_real(e, "threshold", 0.02, 0, INFINITY, &c->threshold);
    if (err == FTK_OK) err = ftk_cache_real(e, "decay", 0.1, 0, 1, &c->decay);
    if (err == FTK_OK) err = ftk_cache_real(e, "floor", 0, 0, INFINITY, &c->floor);
    if (err == FTK_OK) err = ftk_cache_whole(e, "min-run", 3, 0, 16384, &c->min_run);
    if (err == FTK_OK) err = ftk_cache_whole(e, "max-run", 8, 1, 16384, &c->max_run);
    return err;
}

static int orders(const ftk_cache_env *e)
{
    return e->cfg.order + 1;
}

static size_t state_bytes(const ftk_cache_env *e)
{
    (void)e;
    return sizeof(state);
}

static void start(const ftk_cache_env *e, void *s, uint64_t seed)
{
    (void)e;
    (void)seed;
    *(state *)s = (state){.last_full = -1, .error = NAN};
}

/* tau0 beta^progress, but no less than the floor. */
static double threshold(const ftk_cache_env *e, int step)
{
    const double progress = (double)(e->steps - step) / e->steps;
    return fmax(e->cfg.floor, e->cfg.threshold * pow(e->cfg.decay, progress));
}

/* Also where the error is no number. */
static bool rejected(const ftk_cache_env *e, int step, double error)
{
    return !(error < threshold(e, step));
}

static void plan_full(const ftk_cache_env *e, state *s, int step, ftk_plan *plan)
{
    ftk_plan_full(e, plan, true);
    /* features move so fast at first that a difference would say little */
    const bool differences = s->last_full >= 0 && step < e->steps - FIRST + 1;
    const int most = s->have + 1 < e->cfg.order ? s->have + 1 : e->cfg.order;
    plan->keep = differences ? most : 0;
    plan->step = (float)(step - s->last_full);
    *s = (state){.last_full = step, .have = plan->keep, .error = NAN};
}

static void plan_forecast(const ftk_cache_env *e, state *s, int step, bool verify, ftk_plan *plan)
{
    ftk_plan_all(e, plan, FTK_FORECAST, verify ? "V" : "P");
    plan->verify = verify;
    plan->order = s->have;
    const float distance = (float)(step - s->last_full);
    for (int i = 1; i <= s->have; i++) plan->coef[i] = plan->coef[i - 1] * distance / (float)i;
    s->run++;
}

static void plan_step(const ftk_cache_env *e, void *state_, int step, const float *kept,
                      ftk_plan *plan)
{
    state *const s = state_;
    (void)kept;
    const bool first = step >= e->steps - FIRST, enough = s->run >= e->cfg.min_run;
    const bool wrong = !isnan(s->error) && rejected(e, step, s->error);
    if (s->last_full < 0)
        plan_full(e, s, step, plan);
    else if (s->run == 0)
        plan_forecast(e, s, step, e->cfg.redo && enough, plan);
    else if (first || s->run >= e->cfg.max_run || (!e->cfg.redo && enough && wrong))
        plan_full(e, s, step, plan);
    else
        plan_forecast(e, s, step, enough, plan);
}

/* Whether a forecast stands is asked with the threshold of its own step, but in `defer` the next
 * one's decides about the next step: that is how the released program has it. */
static bool judge(const ftk_cache_env *e, void *state_, int step, double error, ftk_plan *plan)
{
    state *const s = state_;
    s->error = isnan(error) ? INFINITY : error;
    if (!rejected(e, step, error)) return false;
    if (e->cfg.redo) {
        plan_full(e, s, step, plan);
        plan->kind = "R";
    }
    return true;
}

const ftk_cache_ops ftk_cache_speca = {.name = "speca",
                                       .check = check,
                                       .orders = orders,
                                       .state_bytes = state_bytes,
                                       .start = start,
                                       .plan = plan_step,
                                       .judge = judge};
