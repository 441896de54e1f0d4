/* SPDX-License-Identifier: Apache-2.0
 *
 * At the barrier a thread spins for as long as a stage of a pass usually takes, some microseconds.
 * When the others do not come by then, they have more to do or lost their core: sleep, so that this
 * core is free for whichever of us lost its own.
 */
#include "team.h"

#include "clock.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <sched.h>
#endif

enum {
    SPINS = 2000,
    STALLS = 3,      /* stalled passes in turn before a trial */
    TRIAL = 8,       /* passes of a trial */
    FIRST_WAIT = 64, /* passes until the next one, or until all threads are tried again */
    MOST_WAIT = 4096,
};

static const double stalled_long = 0.25; /* of a pass's duration */

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void sleep_while(atomic_int *turn, int value)
{
#if defined(__linux__)
    syscall(SYS_futex, turn, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
#else
    (void)turn, (void)value;
    sched_yield();
#endif
}

static void wake_all(atomic_int *turn, int n)
{
#if defined(__linux__)
    syscall(SYS_futex, turn, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
#else
    (void)turn, (void)n;
#endif
}

void ftk_team_init(ftk_team *t, int threads)
{
    *t = (ftk_team){.threads = threads, .active = threads, .patience = FIRST_WAIT};
}

void ftk_team_wait(ftk_team *t, int n)
{
    const int turn = atomic_load(&t->turn);
    if (atomic_fetch_add(&t->arrived, 1) == n - 1) {
        atomic_store(&t->arrived, 0);
        atomic_store(&t->turn, turn + 1);
        if (atomic_load(&t->sleepers) > 0) wake_all(&t->turn, n);
        return;
    }
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&t->turn, memory_order_acquire) != turn) return;
        relax();
    }
    const double start = ftk_now();
    atomic_fetch_add(&t->sleepers, 1);
    while (atomic_load(&t->turn) == turn) sleep_while(&t->turn, turn);
    atomic_fetch_sub(&t->sleepers, 1);
    atomic_fetch_add(&t->stalled, (long long)((ftk_now() - start) * 1e9));
}

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
    if (t->threads > 1) enter(t, fewer ? FTK_TEAM_FEWER : FTK_TEAM_ALL, fewer ? FIRST_WAIT : 0);
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
            t->patience = FIRST_WAIT;
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
