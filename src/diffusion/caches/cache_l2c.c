/* SPDX-License-Identifier: Apache-2.0
 * Learning-to-Cache (arXiv 2406.01733): steps of odd index are full; at the others a table that was
 * trained with the model says which branches reuse what the step before made. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "diffusion/cachepolicy.h"

static ftk_err check(ftk_cache_env *e, const ftk_dit *m)
{
    for (int i = 0; i < m->n_l2c && !e->table; i++)
        if (m->l2c[i].steps == e->steps) e->table = &m->l2c[i];
    if (!e->table && m->n_l2c == 0)
        return ftk_fail(
            e->host, FTK_ERR_INVALID,
            "the model has no Learning-to-Cache table: train one, or take another cache");
    if (!e->table) {
        char have[128] = "";
        for (int i = 0; i < m->n_l2c; i++) {
            const size_t n = strlen(have);
            snprintf(have + n, sizeof have - n, "%s%d", i > 0 ? ", " : "", m->l2c[i].steps);
        }
        return ftk_fail(e->host, FTK_ERR_INVALID,
                        "the model has no Learning-to-Cache table for %d steps: it has one for %s",
                        e->steps, have);
    }
    return ftk_cache_real(e, "l2c-threshold", e->table->threshold, -1, 1, &e->cfg.l2c_threshold);
}

static int orders(const ftk_cache_env *e)
{
    (void)e;
    return 1;
}

static size_t state_bytes(const ftk_cache_env *e)
{
    (void)e;
    return 0;
}

static void start(const ftk_cache_env *e, void *state, uint64_t seed)
{
    (void)e;
    (void)state;
    (void)seed;
}

static void plan_step(const ftk_cache_env *e, void *state, int step, const float *kept,
                      ftk_plan *plan)
{
    (void)state;
    (void)kept;
    if (step % 2 == 1 || step == e->steps - 1) {
        ftk_plan_full(e, plan, true);
        return;
    }
    ftk_plan_all(e, plan, FTK_REUSE, "L");
    const int branches = FTK_BRANCHES * e->shape->n_layer;
    const float *const value = e->table->value + (size_t)(step / 2) * (size_t)branches;
    for (int i = 0; i < branches; i++)
        if ((double)value[i] > e->cfg.l2c_threshold)
            plan->action[i / FTK_BRANCHES][i % FTK_BRANCHES] = FTK_COMPUTE;
}

const ftk_cache_ops ftk_cache_l2c = {.name = "l2c",
                                     .check = check,
                                     .orders = orders,
                                     .state_bytes = state_bytes,
                                     .start = start,
                                     .plan = plan_step};
