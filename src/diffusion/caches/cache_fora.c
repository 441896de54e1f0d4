/* SPDX-License-Identifier: Apache-2.0
 * Plain reuse at a fixed interval (FORA, arXiv 2407.01425): what the others have to beat. */
#include <math.h>

#include "diffusion/cachepolicy.h"

static ftk_err check(ftk_cache_env *e, const ftk_dit *m)
{
    (void)m;
    const ftk_err err = ftk_cache_real(e, "interval", 3, 1, 16384, &e->cfg.interval);
    e->cfg.interval = rint(e->cfg.interval);
    return err;
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
    if (step == e->steps - 1 || step % (int)e->cfg.interval == 0)
        ftk_plan_full(e, plan, true);
    else
        ftk_plan_all(e, plan, FTK_REUSE, "C");
}

const ftk_cache_ops ftk_cache_fora = {.name = "fora",
                                      .check = check,
                                      .orders = orders,
                                      .state_bytes = state_bytes,
                                      .start = start,
                                      .plan = plan_step};
