/* SPDX-License-Identifier: Apache-2.0
 *
 * At the barrier a thread spins for as long as a stage of a pass usually takes, some microseconds.
 * When the others do not come by then, they have more to do or lost their core: sleep, so that this
 * core is free for whichever of us lost its own. Between two runs it waits a little longer: a step
 * drafts and judges there.
 */
#include "team.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#else
#include <sched.h>
#endif

#include "clock.h"
#include "cpus.h"
#include "floats.h"
#include "mem.h"

enum {
    SPINS = 2000, /* at a barrier */
    GLANCES = 64, /* spins between two looks at the clock */
    /* How `job` is put together: the number of threads below, the number of runs above it. Zero
     * threads end the team. */
    COUNT_BITS = 9,
    COUNT_MASK = (1 << COUNT_BITS) - 1,
};

_Static_assert((int)FTK_MAX_THREADS <= (int)COUNT_MASK, "the number of threads has room in a job");

static const double linger = 200e-6; /* seconds until a thread sleeps that has no run */

typedef struct ftk_member {
    ftk_team *team;
    int ith;
    pthread_t thread;
} member;

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void sleep_while(atomic_int *word, int value)
{
#if defined(__linux__)
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
#else
    (void)word, (void)value;
    sched_yield();
#endif
}

static void wake_all(atomic_int *word)
{
#if defined(__linux__)
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, FTK_MAX_THREADS, NULL, NULL, 0);
#else
    (void)word;
#endif
}

void ftk_team_wait(ftk_team *t, int n)
{
    if (n == 1) return;
    const int turn = atomic_load(&t->turn);
    if (atomic_fetch_add(&t->arrived, 1) == n - 1) {
        atomic_store(&t->arrived, 0);
        atomic_store(&t->turn, turn + 1);
        if (atomic_load(&t->sleepers) > 0) wake_all(&t->turn);
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

/* ---- the threads */

/* The first job that is not `last`. */
static int next_job(ftk_team *t, int last)
{
    const double start = ftk_now();
    do {
        for (int i = 0; i < GLANCES; i++) {
            const int job = atomic_load_explicit(&t->job, memory_order_acquire);
            if (job != last) return job;
            relax();
        }
    } while (ftk_now() - start < linger);
    int job;
    atomic_fetch_add(&t->resting, 1);
    while ((job = atomic_load(&t->job)) == last) sleep_while(&t->job, last);
    atomic_fetch_sub(&t->resting, 1);
    return job;
}

static void *serve(void *arg)
{
    const member *const m = arg;
    ftk_team *const t = m->team;
    ftk_floats_enter(); /* not those of the thread that made this one */
    int job = 0;
    for (;;) {
        job = next_job(t, job);
        const int nth = job & COUNT_MASK;
        if (nth == 0) return NULL;
        if (m->ith >= nth) continue;
        t->work(t->ctx, m->ith, nth);
        ftk_team_wait(t, nth);
    }
}

/* Signals that a fault in the thread itself raises stay with whatever the host does about them;
 * all others are for the host's threads. */
static void block_signals(sigset_t *before)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t others;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&others, faults[i]);
    pthread_sigmask(SIG_SETMASK, &others, before);
}

/* Returns how many there are now, the caller's among them. */
static int make_threads(ftk_team *t)
{
    t->process = (long)getpid();
    atomic_store(&t->job, 0);
    atomic_store(&t->arrived, 0);
    atomic_store(&t->sleepers, 0);
    atomic_store(&t->resting, 0);
    sigset_t before;
    block_signals(&before);
    int n = 1;
    for (; n < t->threads; n++) {
        member *const m = &t->members[n - 1];
        *m = (member){.team = t, .ith = n};
        if (pthread_create(&m->thread, NULL, serve, m) != 0) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (n < t->threads)
        ftk_log(t->host, FTK_LOG_WARN,
                "the system refuses more than %d of %d threads: passes are slower", n, t->threads);
    return n;
}

static void begin(ftk_team *t, int nth)
{
    const unsigned runs = (unsigned)atomic_load(&t->job) >> COUNT_BITS;
    atomic_store(&t->job, (int)((runs + 1) << COUNT_BITS | (unsigned)nth));
    if (atomic_load(&t->resting) > 0) wake_all(&t->job);
}

static void start(ftk_team *t, int threads, member *members, const ftk_host *host)
{
    *t = (ftk_team){.threads = threads,
                    .active = threads,
                    .patience = FTK_TEAM_FIRST_WAIT,
                    .host = host,
                    .members = members};
    if (threads > 1) t->threads = t->active = make_threads(t);
}

static void stop(ftk_team *t)
{
    if (!t->members || t->process != (long)getpid()) return;
    begin(t, 0);
    for (int i = 0; i < t->threads - 1; i++) pthread_join(t->members[i].thread, NULL);
}

ftk_err ftk_team_open(ftk_team *t, int threads, const ftk_host *host)
{
    *t = (ftk_team){0};
    member *const members =
        threads > 1 ? ftk_alloc(host, (size_t)threads - 1, sizeof *members) : NULL;
    if (threads > 1 && !members)
        return ftk_fail(host, FTK_ERR_NOMEM, "no memory for %d threads", threads);
    start(t, threads, members, host);
    return FTK_OK;
}

void ftk_team_close(ftk_team *t)
{
    stop(t);
    if (t->members) ftk_release(t->host, t->members);
    *t = (ftk_team){0};
}

/* After a fork() the child has the memory of this team, and none of its threads. */
static void renew(ftk_team *t)
{
    t->threads = make_threads(t);
    t->state = FTK_TEAM_ALL;
    t->active = t->threads;
}

void ftk_team_run(ftk_team *t, ftk_team_work *work, void *ctx)
{
    if (t->members && t->process != (long)getpid()) renew(t);
    const int nth = t->active;
    if (nth == 1) {
        work(ctx, 0, 1);
        return;
    }
    t->work = work;
    t->ctx = ctx;
    begin(t, nth);
    work(ctx, 0, nth);
    ftk_team_wait(t, nth);
}

void ftk_team_run_once(ftk_team_work *work, void *ctx, const ftk_host *host)
{
    ftk_team t;
    member members[FTK_MAX_THREADS];
    start(&t, ftk_cpus(), members, host);
    ftk_team_run(&t, work, ctx);
    stop(&t);
}
