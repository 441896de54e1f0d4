/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is to draft, when a session has several families (`auto`).
 *
 * What a step emits depends far more on the text than on the family, and all families have retrieval's
 * chain in their trees. So a family is judged by what its steps gave more than retrieval alone would
 * have given in the same steps, for each time that retrieval was in doubt (ftk_compare()). The best
 * one has the turn, but for trials of the others, which become the rarer the more often they turn out
 * worse. Where retrieval is sure, families draft the same, and nothing is tried. What the session's table of
 * successors gives counts for a family that drafts with it: `lookup` does not. Reading it is for no
 * family's account, as it is read whoever drafted.
 */
#include "session.h"

static const double memory = 0.995; /* of what steps gave more than retrieval alone, a step later */
static const double sure = 0.1; /* doubt in retrieval below which a step says nothing of a family */
static const double better =
    0.05; /* tokens more than the favourite so far: enough to be the next */
static const double close_to = 0.2; /* tokens less than the best: worth an early look */
static const double unknown =
    4; /* times that what was never tried is taken to have given nothing */

/* Steps, turns, turns, and times as long after each trial. */
enum { TRIAL = 4, NEAR_PAUSE = 384, LONGEST_PAUSE = 3072, LONGER = 4 };

/* Time is worth the tokens that come in it at present. */
void ftk_compare(const ftk_session *s, ftk_measured *m, double spent, int emitted)
{
    const ftk_cost *const c = &s->engine->cost;
    const double cost = ftk_cost_at(c, s->retrieved + 1, s->kv.len) / ftk_cost_at(c, 1, s->kv.len);
    int right = 0;
    while (right < s->retrieved && right < emitted &&
           s->retrieval.recent[right] == s->verdict.token[right])
        right++;
    m->gain = m->gain * memory + (emitted - 1 - right) - ftk_session_pace(s) * (spent - cost);
    m->doubt = m->doubt * memory + s->doubt;
}

static double gain_of(const ftk_family *f)
{
    return f->measured.gain / (f->measured.doubt + unknown);
}

static int best_of(const ftk_session *s)
{
    int best = s->favourite;
    double most = gain_of(&s->family[best]) + better;
    for (int i = 0; i < s->n_families; i++)
        if (gain_of(&s->family[i]) > most) {
            most = gain_of(&s->family[i]);
            best = i;
        }
    return best;
}

void ftk_choose(ftk_session *s)
{
    if (s->n_families < 2) return;
    s->turn = s->favourite;
    if (s->doubt < sure) return;
    if (s->stay > 0) {
        s->stay--;
        s->turn = s->trial;
        return;
    }
    const int best = best_of(s);
    s->turn = s->favourite = best;
    for (int i = 0; i < s->n_families; i++) {
        ftk_family *const f = &s->family[i];
        ftk_measured *const m = &f->measured;
        /* What was never tried is tried in the order of the families, with time in between. */
        const int pause = m->pause > 0 ? m->pause : i * FTK_FIRST_PAUSE;
        if (i == best || ++f->waited < pause || s->turn != best) continue;
        const bool near = gain_of(f) > gain_of(&s->family[best]) - close_to;
        const int longest = near ? NEAR_PAUSE : LONGEST_PAUSE;
        m->pause = m->pause == 0 ? FTK_FIRST_PAUSE : LONGER * m->pause;
        if (m->pause > longest) m->pause = longest;
        f->waited = 0;
        s->turn = s->trial = i;
        s->stay = TRIAL - 1;
    }
}
