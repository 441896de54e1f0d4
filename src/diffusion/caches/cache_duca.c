/* SPDX-License-Identifier: Apache-2.0
 *
 * DuCa (arXiv 2412.18911): between full steps, ToCa's take turns with aggressive ones that leave
 * out all layers and go on from where the last layer ended before. Counted from the full step at
 * the end of a cycle, odd steps are ToCa's. */
#include "tokencache.h"

static ftk_err check(ftk_cache_env *e, const ftk_dit *m)
{
    (void)m;
    return ftk_token_check(e, 0.05, 0.8);
}

static void plan_step(const ftk_cache_env *e, void *state, int step, const float *kept,
                      ftk_plan *plan)
{
    const ftk_token_turn turn = ftk_token_schedule(e, state, step);
    const ftk_token_state *const s = state;
    const bool aggressive = !turn.others && step % s->interval % 2 == 0;
    const bool mixed = turn.first != turn.others;
    const char *const kind = aggressive ? mixed ? "f/A" : "A" : mixed ? "f/T" : "T";
    ftk_plan_all(e, plan, FTK_REUSE, turn.others ? "F" : kind);
    plan->full = turn.first && turn.others;
    plan->keep = 0;
    /* the released program has computed the first layer by then, for the next steps alone */
    if (aggressive) plan->layers = mixed ? 1 : 0;
    ftk_token_plan(e, state, step, kept, turn, plan);
}

const ftk_cache_ops ftk_cache_duca = {.name = "duca",
                                      .check = check,
                                      .orders = ftk_token_orders,
                                      .scores = ftk_token_scores,
                                      .keeps_end = true,
                                      .state_bytes = ftk_token_state_bytes,
                                      .start = ftk_token_start,
                                      .plan = plan_step};
