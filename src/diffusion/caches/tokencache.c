/* SPDX-License-Identifier: Apache-2.0
 *
 * Token-wise caching as ToCa (arXiv 2410.05317) and DuCa (arXiv 2412.18911) have it: at cached
 * steps attention is reused, and of the feed-forward part those tokens are computed that score
 * highest.
 *
 * The released programs ask in every layer whether the step is full, and the first layer, when
 * it is, changes the interval that the others go by. So there are steps of which the first layer
 * alone is full; the published costs are those of this schedule. `once` asks once a step. */
#include "tokencache.h"

#include <math.h>
#include <string.h>

#include "base/sampler.h"

ftk_err ftk_token_check(ftk_cache_env *e, double fresh, double bonus)
{
    ftk_cache_config *c = &e->cfg;
    ftk_err err = ftk_cache_real(e, "interval", 3, 1, 1000, &c->interval);
    if (err == FTK_OK) err = ftk_cache_real(e, "fresh", fresh, 0, 1, &c->fresh);
    if (err == FTK_OK) err = ftk_cache_real(e, "step-weight", 2, -10, 10, &c->step_weight);
    if (err == FTK_OK) err = ftk_cache_real(e, "layer-weight", -0.2, -10, 10, &c->layer_weight);
    if (err == FTK_OK) err = ftk_cache_real(e, "stale", 0.25, 0, 1000, &c->stale);
    if (err == FTK_OK) err = ftk_cache_real(e, "bonus", bonus, 0, 1000, &c->bonus);
    return err;
}

ftk_kept_scores ftk_token_scores(const ftk_cache_env *e)
{
    switch (e->cfg.tokens) {
    case FTK_TOKENS_ATTENTION: return FTK_SCORES_RECEIVED;
    case FTK_TOKENS_VALUE: return FTK_SCORES_VALUES;
    case FTK_TOKENS_RANDOM: break;
    }
    return FTK_SCORES_NONE;
}

static size_t n_counts(const ftk_cache_env *e)
{
    const ftk_dit_shape *s = e->shape;
    return (size_t)e->halves * (size_t)s->n_layer * (size_t)s->n_tokens;
}

/* Behind the counts are the scores of one layer. */
size_t ftk_token_state_bytes(const ftk_cache_env *e)
{
    return sizeof(ftk_token_state) + n_counts(e) * sizeof(int) +
           (size_t)e->shape->n_tokens * sizeof(float);
}

void ftk_token_start(const ftk_cache_env *e, void *state, uint64_t seed)
{
    memset(state, 0, ftk_token_state_bytes(e));
    *(ftk_token_state *)state = (ftk_token_state){.interval = 1, .seed = seed};
}

int ftk_token_orders(const ftk_cache_env *e)
{
    (void)e;
    return 1;
}

/* ---- when */

/* The interval from a full step on: long where there is much noise, short at the end, and 2 in
 * between, where features move most. */
static int interval_at(const ftk_cache_env *e, int step)
{
    const int n = e->steps;
    if (step >= (int)(0.2 * n) && step < (int)(0.4 * n)) return 2;
    const int interval = (int)rint(e->cfg.interval / (1 + 0.4 - 0.8 * step / n));
    return interval > 1 ? interval : 1;
}

ftk_token_turn ftk_token_schedule(const ftk_cache_env *e, ftk_token_state *s, int step)
{
    const bool begins = step == e->steps - 1;
    ftk_token_turn t = {.first = begins || step % s->interval == 0};
    if (t.first) s->interval = interval_at(e, step);
    t.others = e->cfg.once || begins ? t.first : step % s->interval == 0;
    return t;
}

/* ---- which */

int ftk_token_number(const ftk_cache_env *e, int step, int layer)
{
    const ftk_cache_config *c = &e->cfg;
    const int last = e->shape->n_layer - 1;
    const double depth = last > 0 ? (double)layer / last : 0;
    const double by_step = 1 + c->step_weight - 2 * c->step_weight * step / e->steps;
    const double by_layer = 1 + c->layer_weight - 2 * c->layer_weight * depth;
    const double by_branch = 1 + 0.6 * 2.5;
    const double share = c->fresh * by_step * by_layer * by_branch;
    return (int)(e->shape->n_tokens * fmin(fmax(share, 0), 1));
}

static int *counts_of(const ftk_cache_env *e, ftk_token_state *s, int half, int layer)
{
    const size_t at = (size_t)half * (size_t)e->shape->n_layer + (size_t)layer;
    return s->counts + at * (size_t)e->shape->n_tokens;
}

/* The best token of each 2 x 2 cell of the grid gets more, so that those chosen lie apart. */
static void spread(const ftk_cache_env *e, float *score)
{
    const int grid = e->shape->grid;
    for (int row = 0; row < grid; row += 2) {
        for (int column = 0; column < grid; column += 2) {
            int best = row * grid + column;
            for (int i = 1; i < 4; i++) {
                const int r = row + i / 2, c = column + i % 2, t = r * grid + c;
                if (r < grid && c < grid && score[t] > score[best]) best = t;
            }
            score[best] *= (float)(1 + e->cfg.bonus);
        }
    }
}

static void make_scores(const ftk_cache_env *e, const float *kept, const int *counts, float *score)
{
    const int n = e->shape->n_tokens;
    double sum = 0;
    for (int t = 0; t < n; t++) sum += (double)kept[t] * (double)kept[t];
    const double norm = sum > 0 ? 1 / sqrt(sum) : 0;
    for (int t = 0; t < n; t++)
        score[t] = (float)(kept[t] * norm + e->cfg.stale * counts[t] / e->cfg.interval);
    spread(e, score);
}

/* Both halves get the same ones. */
static void make_random_scores(const ftk_cache_env *e, const ftk_token_state *s, int step,
                               int layer, float *score)
{
    const uint64_t key = (uint64_t)step * (uint64_t)e->shape->n_layer + (uint64_t)layer;
    const uint32_t stream = 1u << 29; /* no noise is made of these */
    for (int t = 0; t < e->shape->n_tokens; t++)
        score[t] = (float)ftk_uniform_sub(s->seed, key, stream + (uint32_t)t);
}

/* Of equal scores the lower index wins. */
static void choose(const ftk_cache_env *e, ftk_token_state *s, int step, int layer, int n,
                   const float *kept, ftk_plan *plan)
{
    const ftk_dit_shape *shape = e->shape;
    const int most = shape->n_tokens;
    float *const score = (float *)(s->counts + n_counts(e));
    for (int h = 0; h < e->halves; h++) {
        int *const counts = counts_of(e, s, h, layer);
        const size_t at = (size_t)h * (size_t)shape->n_layer + (size_t)layer;
        int32_t *const tokens =
            plan->tokens + ((size_t)layer * (size_t)e->halves + (size_t)h) * (size_t)most;
        if (n > 0 && e->cfg.tokens == FTK_TOKENS_RANDOM)
            make_random_scores(e, s, step, layer, score);
        else if (n > 0)
            make_scores(e, kept + at * (size_t)most, counts, score);
        if (n > 0) ftk_top_k(score, most, n, tokens);
        for (int t = 0; t < most; t++) counts[t]++;
        for (int i = 0; i < n; i++) counts[tokens[i]] = 0;
    }
}

void ftk_token_plan(const ftk_cache_env *e, ftk_token_state *s, int step, const float *kept,
                    ftk_token_turn turn, ftk_plan *plan)
{
    for (int l = 0; l < plan->layers; l++) {
        const bool full = l == 0 ? turn.first : turn.others;
        const int n = full ? 0 : ftk_token_number(e, step, l);
        plan->action[l][FTK_ATTENTION] = full ? FTK_COMPUTE : FTK_REUSE;
        plan->action[l][FTK_MLP] = full ? FTK_COMPUTE : n > 0 ? FTK_TOKENS : FTK_REUSE;
        plan->n_tokens[l] = n;
        if (!full) {
            choose(e, s, step, l, n, kept, plan);
            continue;
        }
        for (int h = 0; h < e->halves; h++)
            memset(counts_of(e, s, h, l), 0, (size_t)e->shape->n_tokens * sizeof(int));
    }
}
