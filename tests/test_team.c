/* SPDX-License-Identifier: Apache-2.0
 * The threads of a team; when it gives way to other programs, and when it takes its threads
 * back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/cpus.h"
#include "base/team.h"

/* n passes that take `seconds` where 1 was expected, the share `stalled` of it at barriers. */
static void passes(ftk_team *t, int n, double seconds, double stalled)
{
    for (int i = 0; i < n; i++) {
        atomic_store(&t->stalled, (long long)(1e9 * seconds * stalled));
        ftk_team_review(t, seconds, 1);
    }
}

static void test_alone(void **state)
{
    (void)state;
    ftk_team t;
    assert_int_equal(ftk_team_open(&t, 2, NULL), FTK_OK);
    passes(&t, 10000, 1, 0.1);
    assert_int_equal(t.active, 2);
    passes(&t, 500, 20, 0); /* slow, but not for want of a core */
    assert_int_equal(t.active, 2);
    ftk_team_close(&t);
}

static void test_gives_way_and_comes_back(void **state)
{
    (void)state;
    ftk_team t;
    assert_int_equal(ftk_team_open(&t, 2, NULL), FTK_OK);
    passes(&t, 20, 1, 0);
    passes(&t, 3, 20, 0.9);
    assert_int_equal(t.active, 1); /* on trial */
    passes(&t, 8, 2, 0);
    assert_int_equal(t.active, 1); /* it was faster */
    passes(&t, FTK_TEAM_FIRST_WAIT, 2, 0);
    assert_int_equal(t.active, 2);
    passes(&t, 1, 20, 0.9); /* no better than before: one pass tells */
    assert_int_equal(t.active, 1);
    passes(&t, 2 * FTK_TEAM_FIRST_WAIT - 1, 2, 0);
    assert_int_equal(t.active, 1);
    passes(&t, 1, 2, 0);
    assert_int_equal(t.active, 2);
    passes(&t, 1000, 1, 0); /* the other program is gone */
    assert_int_equal(t.active, 2);
    ftk_team_close(&t);
}

static void test_keeps_what_is_faster(void **state)
{
    (void)state;
    ftk_team t;
    assert_int_equal(ftk_team_open(&t, 2, NULL), FTK_OK);
    int fewer = 0;
    for (int i = 0; i < 10000; i++) { /* work that cannot be shared evenly, and no other program */
        fewer += t.active == 1;
        passes(&t, 1, t.active == 2 ? 1 : 1.5, t.active == 2 ? 0.4 : 0);
    }
    assert_true(fewer > 0 && fewer < 200); /* trials, rarer and rarer */
    ftk_team_close(&t);
}

static void test_one_thread(void **state)
{
    (void)state;
    ftk_team t;
    assert_int_equal(ftk_team_open(&t, 1, NULL), FTK_OK);
    passes(&t, 100, 20, 0.9);
    ftk_team_give_way(&t, true);
    assert_int_equal(t.active, 1);
    ftk_team_close(&t);
}

/* ---- its threads */

enum { PARTS = 7, RUNS = 300 };

typedef struct {
    ftk_team *team;
    atomic_int parts, threads;
    int seen[FTK_MAX_THREADS], sum;
} shared;

/* Every thread writes its part, and behind a barrier reads all. */
static void work(void *ctx, int ith, int nth)
{
    shared *const s = ctx;
    s->seen[ith] = ith + 1;
    atomic_fetch_add(&s->threads, 1);
    if (nth > 1) ftk_team_wait(s->team, nth);
    int sum = 0;
    for (int i = 0; i < nth; i++) sum += s->seen[i];
    if (sum == nth * (nth + 1) / 2) atomic_fetch_add(&s->parts, 1);
}

static void count(void *ctx, int ith, int nth)
{
    (void)ith;
    (void)nth;
    atomic_fetch_add(&((shared *)ctx)->threads, 1);
}

/* As many as are active do their part, however many there are of it, soon and after a rest. */
static void test_runs(void **state)
{
    (void)state;
    ftk_team t;
    assert_int_equal(ftk_team_open(&t, PARTS, NULL), FTK_OK);
    for (int i = 0; i < RUNS; i++) {
        shared s = {.team = &t};
        t.active = 1 + i % PARTS;
        if (i % 50 == 7) nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL); /* they sleep */
        ftk_team_run(&t, work, &s);
        assert_int_equal(s.threads, t.active);
        assert_int_equal(s.parts, t.active);
    }
    ftk_team_close(&t);
    ftk_team_close(&t);
}

static void test_run_once(void **state)
{
    (void)state;
    shared s = {0};
    ftk_team_run_once(count, &s, NULL);
    assert_int_equal(s.threads, ftk_cpus());
}

static void *refuse(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    (void)size;
    (void)align;
    return NULL;
}

static void test_no_memory(void **state)
{
    (void)state;
    const ftk_host host = {.alloc = refuse};
    ftk_team t;
    assert_int_equal(ftk_team_open(&t, 4, &host), FTK_ERR_NOMEM);
    ftk_team_close(&t);
    shared s = {0};
    ftk_team_run_once(count, &s, &host); /* takes none */
    assert_int_equal(s.threads, ftk_cpus());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_gives_way_and_comes_back),
        cmocka_unit_test(test_keeps_what_is_faster),
        cmocka_unit_test(test_one_thread),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_run_once),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
