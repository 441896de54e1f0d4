/* SPDX-License-Identifier: Apache-2.0
 * ToCa (arXiv 2410.05317): full steps, and between them steps that compute some tokens. */
#include "tokencache.h"

static ftk_err check(ftk_cache_env *e, const ftk_dit *m)
{
    (void)m;
    return ftk_token_check(e, 0.07, 0.6);
}

static void plan_step(const ftk_cache_env *e, void *state, int step, const float *kept,
                      ftk_plan *plan)
{
    const ftk_token_turn turn = ftk_token_schedule(e, state, step);
    const char *const kind = turn.first == turn.others ? "T" : "f/T";
    ftk_plan_all(e, plan, FTK_REUSE, turn.others ? "F" : kind);
    plan->full = turn.first && turn.others;
    plan->keep = 0;
    ftk_token_plan(e, state, step, kept, turn, plan);
}

const ftk_cache_ops ftk_cache_toca = {.name = "toca",
                                      .check = check,
                                      .orders = ftk_token_orders,
                                      .scores = ftk_token_scores,
                                      .state_bytes = ftk_token_state_bytes,
                                      .start = ftk_token_start,
                                      .plan = plan_step};
