/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is to draft, when a session has several families (`auto`): the one whose steps have
 * lately emitted the most tokens for their cost, drafting included. The others are tried now and then
 * for some steps, the seldomer the more often they have turned out worse.
 */
#include "session.h"

static const double close_to = 0.9; /* of the best: worth an early look */
static const double better = 1.03;  /* than the favourite so far: enough to be the next */
static const double unknown = 2;    /* plain steps that what was never tried is taken to have run */

enum { TRIAL = 8, NEAR_PAUSE = 192, LONGEST_PAUSE = 2048 }; /* steps, turns, turns */

/* Tokens for the time of a plain step. */
static double yield_of(const ftk_family *f)
{
    return (f->measured.tokens + unknown) / (f->measured.spent + unknown);
}

static int best_of(const ftk_session *s)
{
    int best = s->favourite;
    double most = yield_of(&s->family[best]) * better;
    for (int i = 0; i < s->n_families; i++)
        if (yield_of(&s->family[i]) > most) {
            most = yield_of(&s->family[i]);
            best = i;
        }
    return best;
}

void ftk_choose(ftk_session *s)
{
    if (s->n_families < 2 || s->stay-- > 0) return;
    const int best = best_of(s);
    s->stay = 0;
    s->turn = s->favourite = best;
    for (int i = 0; i < s->n_families; i++) {
        ftk_family *const f = &s->family[i];
        ftk_measured *const m = &f->measured;
        if (i == best || --f->due > 0 || s->turn != best) continue;
        const bool near = yield_of(f) > close_to * yield_of(&s->family[best]);
        const int longest = near ? NEAR_PAUSE : LONGEST_PAUSE;
        m->pause = m->pause == 0 ? FTK_FIRST_PAUSE : 2 * m->pause;
        if (m->pause > longest) m->pause = longest;
        f->due = m->pause;
        s->turn = i;
        s->stay = TRIAL - 1;
    }
}
