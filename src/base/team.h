/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads of our own, the barrier they meet at, and how many of them run. A pass waits for its
 * slowest thread at every barrier, so one thread that has to share its core with another program
 * slows down all: then fewer threads are faster.
 *
 * The threads belong to who opened the team, and are gone when it is closed. Between runs they spin
 * for a moment and then sleep. In a child of fork() they are made anew by the first run there, and
 * the parent's stay the parent's.
 */
#ifndef FTK_TEAM_H
#define FTK_TEAM_H

#include <stdatomic.h>
#include <stdbool.h>

#include "foretoken.h"

enum { FTK_MAX_THREADS = 256, FTK_TEAM_FIRST_WAIT = 64 /* passes; see team_review.c */ };

typedef enum ftk_team_state {
    FTK_TEAM_ALL,   /* all threads run */
    FTK_TEAM_TRIAL, /* one fewer runs, to see whether that is faster */
    FTK_TEAM_FEWER, /* it was */
} ftk_team_state;

/* Thread ith of nth does its part. */
typedef void ftk_team_work(void *ctx, int ith, int nth);

typedef struct ftk_team ftk_team;
struct ftk_team {
    int threads; /* when nobody else is there; the caller of ftk_team_run() is the first of them */
    int active;  /* in the next run */
    ftk_team_state state;
    int left;          /* passes until the state may change */
    int patience;      /* passes that the next such wait lasts, when nothing has changed by then */
    int stalls;        /* passes of late that stood still for long, less the others */
    double all, fewer; /* what passes take, in multiples of what was expected, in each state */
    int passes;        /* in this state */
    const ftk_host *host;
    struct ftk_member *members; /* [threads - 1]; NULL: threads are 1 */
    long process;               /* whose threads they are */
    ftk_team_work *work;        /* of the run that `job` counts */
    void *ctx;
    atomic_int job; /* a number of runs and how many threads the last one has, see team.c */
    atomic_int arrived, turn, sleepers, resting;
    atomic_llong stalled; /* nanoseconds that threads slept at barriers in this pass */
};

/* Makes threads - 1 threads (threads: 1..FTK_MAX_THREADS). Where the system refuses some the
 * team is smaller, and the log gets a warning. The team must stay where it is, and the host
 * outlive it. Errors: NOMEM. */
ftk_err ftk_team_open(ftk_team *t, int threads, const ftk_host *host);
/* Ends and joins them; takes a team that is all zero. */
void ftk_team_close(ftk_team *t);
/* Has `active` threads do the work, the calling one as number 0, and returns once all have done
 * it. */
void ftk_team_run(ftk_team *t, ftk_team_work *work, void *ctx);
/* One run of a team that is there for it alone, with a thread for every processor; takes no
 * memory from the host. */
void ftk_team_run_once(ftk_team_work *work, void *ctx, const ftk_host *host);
/* In a run: returns once n threads (the same n for everybody) have called it. */
void ftk_team_wait(ftk_team *t, int n);

typedef struct ftk_range {
    int begin, end;
} ftk_range;

/* The share of [0, n) of thread ith of nth, cut at multiples of grain; it may be empty. */
static inline ftk_range ftk_team_share(int ith, int nth, int n, int grain)
{
    const int64_t units = ((int64_t)n + grain - 1) / grain;
    const int64_t begin = units * ith / nth * grain, end = units * (ith + 1) / nth * grain;
    return (ftk_range){(int)(begin < n ? begin : n), (int)(end < n ? end : n)};
}

/* Fewer threads run for a while, or, once they have, all again. */
void ftk_team_give_way(ftk_team *t, bool fewer);
/* After a pass by `active` threads that took so long: sets `active` for the next one. expected:
 * what a pass of its kind takes, in any unit. */
void ftk_team_review(ftk_team *t, double seconds, double expected);

#endif
