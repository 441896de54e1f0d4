/* SPDX-License-Identifier: Apache-2.0
 * When a team gives way to other programs, and when it takes its threads back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/team.h"

enum { FIRST_WAIT = 64 }; /* as in team.c */

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
    ftk_team_init(&t, 2);
    passes(&t, 10000, 1, 0.1);
    assert_int_equal(t.active, 2);
    passes(&t, 500, 20, 0); /* slow, but not for want of a core */
    assert_int_equal(t.active, 2);
}

static void test_gives_way_and_comes_back(void **state)
{
    (void)state;
    ftk_team t;
    ftk_team_init(&t, 2);
    passes(&t, 20, 1, 0);
    passes(&t, 3, 20, 0.9);
    assert_int_equal(t.active, 1); /* on trial */
    passes(&t, 8, 2, 0);
    assert_int_equal(t.active, 1); /* it was faster */
    passes(&t, FIRST_WAIT, 2, 0);
    assert_int_equal(t.active, 2);
    passes(&t, 1, 20, 0.9); /* no better than before: one pass tells */
    assert_int_equal(t.active, 1);
    passes(&t, 2 * FIRST_WAIT - 1, 2, 0);
    assert_int_equal(t.active, 1);
    passes(&t, 1, 2, 0);
    assert_int_equal(t.active, 2);
    passes(&t, 1000, 1, 0); /* the other program is gone */
    assert_int_equal(t.active, 2);
}

static void test_keeps_what_is_faster(void **state)
{
    (void)state;
    ftk_team t;
    ftk_team_init(&t, 2);
    int fewer = 0;
    for (int i = 0; i < 10000; i++) { /* work that cannot be shared evenly, and no other program */
        fewer += t.active == 1;
        passes(&t, 1, t.active == 2 ? 1 : 1.5, t.active == 2 ? 0.4 : 0);
    }
    assert_true(fewer > 0 && fewer < 200); /* trials, rarer and rarer */
}

static void test_one_thread(void **state)
{
    (void)state;
    ftk_team t;
    ftk_team_init(&t, 1);
    passes(&t, 100, 20, 0.9);
    ftk_team_give_way(&t, true);
    assert_int_equal(t.active, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_gives_way_and_comes_back),
        cmocka_unit_test(test_keeps_what_is_faster),
        cmocka_unit_test(test_one_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
