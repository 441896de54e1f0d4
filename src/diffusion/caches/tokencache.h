/* SPDX-License-Identifier: Apache-2.0
 * What ToCa and DuCa share: when steps are full, and which tokens are computed at others. */
#ifndef FTK_TOKENCACHE_H
#define FTK_TOKENCACHE_H

#include "diffusion/cachepolicy.h"

typedef struct ftk_token_state {
    int interval; /* as of the last full step */
    uint64_t seed;
    int counts[]; /* [halves][n_layer][n_tokens]: cached steps since a token was computed */
} ftk_token_state;

/* Defaults and ranges of what both read; fresh and bonus are their defaults. */
ftk_err ftk_token_check(ftk_cache_env *e, double fresh, double bonus);
ftk_kept_scores ftk_token_scores(const ftk_cache_env *e);
size_t ftk_token_state_bytes(const ftk_cache_env *e);
void ftk_token_start(const ftk_cache_env *e, void *state, uint64_t seed);
int ftk_token_orders(const ftk_cache_env *e);

/* Whether the first layer and the others are full at a step; moves the interval on. */
typedef struct ftk_token_turn {
    bool first, others;
} ftk_token_turn;
ftk_token_turn ftk_token_schedule(const ftk_cache_env *e, ftk_token_state *s, int step);

/* How many tokens of a layer are computed at a cached step. */
int ftk_token_number(const ftk_cache_env *e, int step, int layer);
/* Layer by layer what a step does that is full as far as `turn` says. */
void ftk_token_plan(const ftk_cache_env *e, ftk_token_state *s, int step, const float *kept,
                    ftk_token_turn turn, ftk_plan *plan);

#endif
