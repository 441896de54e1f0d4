/* SPDX-License-Identifier: Apache-2.0
 * How many threads of a team run: one fewer for a while, where another program has taken a core. */
#include "team.h"

enum {
    STALLS = 3, /* stalled passes in turn before a trial */
    TRIAL = 8,  /* passes of a trial */
    MOST_WAIT = 4096,
};

static const double stalled_long = 0.25; /* of a pass's duration */

/* Running mean of the state's passes, the last ones counting most. */
static void follow(double *pace, int passes, double now)
{
    const double weight = passes < TRIAL ? 1.0 / (passes + 1) : 1.0 / TRIAL;
    *pace += weight * (now - *pace);
}

static void enter(ftk_team *t, ftk_team_state state, int left)
{
    t->state = state;
    t->left = left;
    t->passes = t->stalls = 0;
    t->active = state == FTK_TEAM_ALL ? t->threads : t->threads - 1;
}

static int longer(ftk_team *t)
{
    const int wait = t->patience;
    t->patience = 2 * wait < MOST_WAIT ? 2 * wait : MOST_WAIT;
    return wait;
}

void ftk_team_give_way(ftk_team *t, bool fewer)
{
    if (t->threads > 1)
        enter(t, fewer ? FTK_TEAM_FEWER : FTK_TEAM_ALL, fewer ? FTK_TEAM_FIRST_WAIT : 0);
}

void ftk_team_review(ftk_team *t, double seconds, double expected)
{
    const double stalled = 1e-9 * (double)atomic_exchange(&t->stalled, 0);
    if (t->threads == 1 || !(expected > 0)) return;
    follow(t->state == FTK_TEAM_ALL ? &t->all : &t->fewer, t->passes++, seconds / expected);
    if (t->left > 0) t->left--;
    switch (t->state) {
    case FTK_TEAM_ALL:
        if (stalled > stalled_long * seconds)
            t->stalls++;
        else
            t->stalls -= t->stalls > 0;
        /* Back from a rest that was right: no better than before ends it at once. */
        if (t->fewer > 0 && t->stalls > 0 && t->passes <= TRIAL && t->all > t->fewer)
            enter(t, FTK_TEAM_FEWER, longer(t));
        else if (t->stalls >= STALLS && t->left == 0)
            enter(t, FTK_TEAM_TRIAL, TRIAL);
        else if (t->passes > MOST_WAIT)
            t->patience = FTK_TEAM_FIRST_WAIT;
        break;
    case FTK_TEAM_TRIAL:
        if (t->left > 0) break;
        if (t->fewer < 0.9 * t->all) {
            enter(t, FTK_TEAM_FEWER, longer(t));
        } else {
            enter(t, FTK_TEAM_ALL, longer(t));
            t->fewer = 0;
        }
        break;
    case FTK_TEAM_FEWER:
        if (t->left == 0) enter(t, FTK_TEAM_ALL, 0);
        break;
    }
}
