/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is to draft, when a session has several families (`auto`).
 *
 * What a step emits depends far more on the text than on the family, and all families have
 * retrieval's chain in their trees. So a family is judged by what its steps gave more than
 * retrieval alone would have given in the same steps, for each time that retrieval was in doubt
 * (ftk_choose_compare()). Steps differ far more than families do, so these figures come with
 * their standard errors: another family becomes the favourite when it is better by more than
 * half of one, and the favourite has had time to learn. That one has the turn, but for trials of
 * the others, which become the rarer the more often they turn out worse, and not very rare as
 * long as that may be chance. Where retrieval is sure, families draft the same, and nothing is
 * tried. What the session's table of successors gives counts for a family that drafts with it:
 * `lookup` does not. Reading it is for no family's account, as it is read whoever drafted. */
#include <math.h>

#include "session.h"

static const double sure = 0.1; /* doubt in retrieval below which a step says nothing of a family */
static const double better = 0.05; /* tokens more than the favourite: enough to be the next, */
static const double certain = 0.5; /* with so many standard errors */
static const double learning = 30; /* doubts until a favourite knows its guesses' worth */
static const double chance = 1;    /* standard errors by which a family may seem worse and not be */
/* What was never tried is taken to have given nothing so many times, with so much spread. */
static const double unknown = 4, unknown_spread = 8;

/* Steps, turns, turns, and times as long after each trial. */
enum { TRIAL = 4, NEAR_PAUSE = 384, LONGEST_PAUSE = 3072, LONGER = 4 };

/* A step's, or of several. Time is worth the tokens that usually come in it, the same for all:
 * at the pace of late, a slow family's time would be cheap while it has the turn, and a dear
 * one's too dear in easy text. */
static double gain(const ftk_session *s, double more, double longer)
{
    return more - ftk_pace_of(&s->usual) * longer;
}

static double gain_of(const ftk_session *s, const ftk_measured *m)
{
    return gain(s, m->more, m->longer) / (m->doubt + unknown);
}

/* A ratio's: of sums of which only the steps' spread about it is uncertain. */
static double variance_of(const ftk_measured *m)
{
    const double times = m->doubt + unknown;
    return (m->spread + unknown_spread) / (times * times);
}

/* Of the difference of two families' gains. */
static double standard_error(const ftk_measured *a, const ftk_measured *b)
{
    return sqrt(variance_of(a) + variance_of(b));
}

void ftk_measured_saw(const ftk_session *s, ftk_measured *m, double more, double longer,
                      double doubt)
{
    const double off = gain(s, more, longer) - gain_of(s, m) * doubt;
    m->more = m->more * FTK_LONG_MEMORY + more;
    m->longer = m->longer * FTK_LONG_MEMORY + longer;
    m->doubt = m->doubt * FTK_LONG_MEMORY + doubt;
    m->spread = m->spread * FTK_LONG_MEMORY + off * off;
}

void ftk_choose_compare(const ftk_session *s, ftk_measured *m, double spent, int emitted)
{
    const double cost = ftk_size_price(s, s->retrieved, 0);
    int right = 0;
    while (right < s->retrieved && right < emitted &&
           s->retrieval.recent[right] == s->verdict.token[right])
        right++;
    ftk_measured_saw(s, m, emitted - 1 - right, spent - cost, s->doubt);
}

static int best_of(const ftk_session *s)
{
    const ftk_measured *const favourite = s->family[s->favourite].measured;
    int best = s->favourite;
    if (favourite->doubt < learning) return best;
    for (int i = 0; i < s->n_families; i++) {
        const ftk_measured *const m = s->family[i].measured;
        const double more = better + certain * standard_error(m, favourite);
        if (gain_of(s, m) > gain_of(s, favourite) + more &&
            gain_of(s, m) > gain_of(s, s->family[best].measured))
            best = i;
    }
    return best;
}

/* When a trial is over: until the next one. */
static int pause_after(const ftk_session *s, const ftk_measured *m)
{
    const ftk_measured *const best = s->family[s->favourite].measured;
    const double worse = gain_of(s, best) - gain_of(s, m);
    if (m->pause == 0 || worse < 0) return FTK_FIRST_PAUSE;
    const int longest = worse < chance * standard_error(m, best) ? NEAR_PAUSE : LONGEST_PAUSE;
    return m->pause < longest / LONGER ? LONGER * m->pause : longest;
}

void ftk_choose(ftk_session *s)
{
    if (s->n_families < 2) return;
    if (s->turn != s->favourite && s->stay == 0) {
        ftk_measured *const tried = s->family[s->turn].measured;
        tried->pause = pause_after(s, tried);
    }
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
        /* What was never tried is tried in the order of the families, with time in between. */
        const int pause = f->measured->pause > 0 ? f->measured->pause : i * FTK_FIRST_PAUSE;
        if (i == best || ++f->measured->waited < pause || s->turn != best) continue;
        f->measured->waited = 0;
        s->turn = s->trial = i;
        s->stay = TRIAL - 1;
    }
}
