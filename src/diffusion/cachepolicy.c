/* SPDX-License-Identifier: Apache-2.0
 * The list of caches, and what they share. */
#include "cachepolicy.h"

#include <math.h>
#include <string.h>

#include "base/config.h"
#include "base/mem.h"

static const ftk_cache_ops *const all[] = {
    &ftk_cache_none, &ftk_cache_fora, &ftk_cache_speca,
    &ftk_cache_toca, &ftk_cache_duca, &ftk_cache_l2c,
};
enum { N_CACHES = sizeof all / sizeof all[0] };

const char *const *ftk_caches(void)
{
    static const char *const names[] = {"none", "fora", "speca", "toca", "duca", "l2c", NULL};
    return names;
}

const ftk_cache_ops *ftk_cache_find(const char *name)
{
    for (int i = 0; name && i < N_CACHES; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

bool ftk_cache_lossless(const char *name)
{
    return ftk_cache_find(name) == &ftk_cache_none;
}

void ftk_cache_config_fill(ftk_cache_config *cfg, size_t size)
{
    const ftk_cache_config own = {.name = "none",
                                  .interval = NAN,
                                  .order = -1,
                                  .threshold = NAN,
                                  .decay = NAN,
                                  .floor = NAN,
                                  .min_run = -1,
                                  .max_run = -1,
                                  .fresh = NAN,
                                  .step_weight = NAN,
                                  .layer_weight = NAN,
                                  .stale = NAN,
                                  .bonus = NAN,
                                  .l2c_threshold = NAN};
    ftk_config_give(cfg, size, &own, sizeof own);
}

void ftk_plan_all(const ftk_cache_env *e, ftk_plan *plan, ftk_branch_action action,
                  const char *kind)
{
    plan->kind = kind;
    plan->full = action == FTK_COMPUTE;
    plan->layers = e->shape->n_layer;
    plan->verify = false;
    plan->keep = -1;
    plan->order = 0;
    plan->coef[0] = 1;
    memset(plan->action, action, (size_t)e->shape->n_layer * sizeof *plan->action);
}

void ftk_plan_full(const ftk_cache_env *e, ftk_plan *plan, bool keep)
{
    ftk_plan_all(e, plan, FTK_COMPUTE, "F");
    if (keep) plan->keep = 0;
}

double ftk_plan_work(const ftk_cache_env *e, const ftk_plan *plan)
{
    const ftk_dit_shape *s = e->shape;
    const double n = s->n_tokens, c = s->n_embd;
    const double attention = 4 * n * c * c + 2 * n * n * c, token = 2 * c * s->n_ff;
    const double block = attention + n * token;
    if (!plan) return e->halves * s->n_layer * block;
    double sum = plan->verify ? block : 0;
    for (int l = 0; l < plan->layers; l++) {
        if (plan->action[l][FTK_ATTENTION] == FTK_COMPUTE) sum += attention;
        if (plan->action[l][FTK_MLP] == FTK_COMPUTE) sum += n * token;
        if (plan->action[l][FTK_MLP] == FTK_TOKENS) sum += plan->n_tokens[l] * token;
    }
    return e->halves * sum;
}

ftk_err ftk_cache_real(const ftk_cache_env *e, const char *what, double def, double least,
                       double most, double *v)
{
    if (isnan(*v)) *v = def;
    if (*v >= least && *v <= most) return FTK_OK;
    return ftk_fail(e->host, FTK_ERR_INVALID, "cache %s: %s is %g: it must be %g to %g",
                    e->cfg.name, what, *v, least, most);
}

ftk_err ftk_cache_whole(const ftk_cache_env *e, const char *what, int def, int least, int most,
                        int *v)
{
    if (*v == -1) *v = def;
    if (*v >= least && *v <= most) return FTK_OK;
    return ftk_fail(e->host, FTK_ERR_INVALID, "cache %s: %s is %d: it must be %d to %d",
                    e->cfg.name, what, *v, least, most);
}
