/* SPDX-License-Identifier: Apache-2.0
 *
 * The threads of a pass: the barrier they meet at, and how many of them run. A pass waits for its
 * slowest thread at every barrier, so one thread that has to share its core with another program
 * slows down all: then fewer threads are faster.
 */
#ifndef FTK_TEAM_H
#define FTK_TEAM_H

#include <stdatomic.h>
#include <stdbool.h>

typedef enum ftk_team_state {
    FTK_TEAM_ALL,   /* all threads run */
    FTK_TEAM_TRIAL, /* one fewer runs, to see whether that is faster */
    FTK_TEAM_FEWER, /* it was */
} ftk_team_state;

typedef struct ftk_team {
    int threads; /* when nobody else is there */
    int active;  /* in the next pass */
    ftk_team_state state;
    int left;          /* passes until the state may change */
    int patience;      /* passes that the next such wait lasts, when nothing has changed by then */
    int stalls;        /* passes of late that stood still for long, less the others */
    double all, fewer; /* what passes take, in multiples of what was expected, in each state */
    int passes;        /* in this state */
    atomic_int arrived, turn, sleepers;
    atomic_llong stalled; /* nanoseconds that threads slept at barriers in this pass */
} ftk_team;

void ftk_team_init(ftk_team *t, int threads);
/* Returns once n threads (the same n for everybody) have called it. */
void ftk_team_wait(ftk_team *t, int n);
/* Fewer threads run for a while, or, once they have, all again. */
void ftk_team_give_way(ftk_team *t, bool fewer);
/* After a pass by `active` threads that took so long: sets `active` for the next one. expected:
 * what a pass of its kind takes, in any unit. */
void ftk_team_review(ftk_team *t, double seconds, double expected);

#endif
