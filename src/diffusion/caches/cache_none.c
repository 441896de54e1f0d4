/* SPDX-License-Identifier: Apache-2.0
 * No cache: everything is computed at every step. The one that is exact. */
#include "diffusion/cachepolicy.h"

static ftk_err check(ftk_cache_env *e, const ftk_dit *m)
{
    (void)e;
    (void)m;
    return FTK_OK;
}

static int orders(const ftk_cache_env *e)
{
    (void)e;
    return 0;
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
    (void)step;
    (void)kept;
    ftk_plan_full(e, plan, false);
}

const ftk_cache_ops ftk_cache_none = {.name = "none",
                                      .check = check,
                                      .orders = orders,
                                      .state_bytes = state_bytes,
                                      .start = start,
                                      .plan = plan_step};
