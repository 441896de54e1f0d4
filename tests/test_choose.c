/* SPDX-License-Identifier: Apache-2.0
 * Whose turn it is to draft: on families whose steps give what the test says. */
#include "support.h"

#include "engine/session.h"

enum { N = 4 };
static const double memory = 0.995; /* as in step.c */

/* Steps of a session in which retrieval is wrong half of the time, where families give more[i] tokens more
 * than it does, with noise; counts the steps of each and returns what all of them gave more. */
static double run(ftk_session *s, const double *more, int steps, int *count)
{
    static uint32_t seed = 7;
    double sum = 0;
    for (int k = 0; k < steps; k++) {
        s->doubt = 0.5;
        ftk_choose(s);
        ftk_measured *m = &s->family[s->turn].measured;
        seed = seed * 1664525u + 1013904223u;
        const double luck = (double)(seed >> 8) / (1 << 24) - 0.5;
        m->gain = m->gain * memory + s->doubt * more[s->turn] + luck;
        m->doubt = m->doubt * memory + s->doubt;
        sum += s->doubt * more[s->turn];
        count[s->turn]++;
    }
    return sum;
}

static ftk_session *open_session(int n)
{
    ftk_session *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->n_families = n;
    return s;
}

static void test_alone(void **state)
{
    (void)state;
    for (int n = 0; n <= 1; n++) {
        ftk_session *s = open_session(n);
        for (int i = 0; i < 100; i++) {
            s->doubt = 1;
            ftk_choose(s);
            assert_int_equal(s->turn, 0);
        }
        free(s);
    }
}

/* Also when sessions are so short that none lasts until a family is due. */
static void test_all_are_tried(void **state)
{
    (void)state;
    const double more[N] = {0.5, 0, 0, 0};
    for (int steps = 10; steps <= 250; steps += 240) {
        int count[N] = {0}, waited[N] = {0};
        for (int all = 0; all < 250; all += steps) {
            ftk_session *s = open_session(N);
            for (int i = 0; i < N; i++) s->family[i].waited = waited[i];
            run(s, more, steps, count);
            for (int i = 0; i < N; i++) waited[i] = s->family[i].waited;
            free(s);
        }
        for (int i = 0; i < N; i++) assert_true(count[i] >= 4);
    }
}

static void test_best_has_the_turn(void **state)
{
    (void)state;
    for (int best = 0; best < N; best++) {
        ftk_session *s = open_session(N);
        double more[N] = {-0.3, 0.2, 0, -1};
        more[best] = 1;
        int count[N] = {0};
        enum { STEPS = 4000 };
        const double sum = run(s, more, STEPS, count);
        assert_true(count[best] > 0.95 * STEPS);
        assert_true(sum > 0.95 * 0.5 * STEPS);
        free(s);
    }
}

/* Families that lose are not drafted with, as long as there is one that does not. */
static void test_nothing_to_gain(void **state)
{
    (void)state;
    ftk_session *s = open_session(N);
    const double more[N] = {-0.4, -0.3, 0, -0.5};
    int early[N] = {0}, late[N] = {0};
    run(s, more, 500, early);
    run(s, more, 3000, late);
    assert_true(late[2] > 0.93 * 3000);
    free(s);
}

/* Where retrieval is sure the favourite drafts, and no time of waiting passes. */
static void test_sure(void **state)
{
    (void)state;
    ftk_session *s = open_session(N);
    s->favourite = 2;
    s->family[2].measured = (ftk_measured){.gain = 10, .doubt = 10};
    for (int i = 0; i < 5000; i++) {
        s->doubt = 0.01;
        ftk_choose(s);
        assert_int_equal(s->turn, 2);
    }
    s->doubt = 1;
    ftk_choose(s);
    assert_int_equal(s->family[1].waited, 1);
    free(s);
}

/* When another becomes the best, it gets the turn after some trials. */
static void test_change(void **state)
{
    (void)state;
    ftk_session *s = open_session(3);
    const double before[] = {1, 0, -0.5}, after[] = {-0.5, 0, 1};
    int count[3] = {0}, then[3] = {0}, late[3] = {0};
    run(s, before, 500, count);
    assert_true(count[0] > 450);
    run(s, after, 4000, then);
    run(s, after, 1000, late);
    assert_true(late[2] > 900);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_all_are_tried),
        cmocka_unit_test(test_best_has_the_turn),
        cmocka_unit_test(test_nothing_to_gain),
        cmocka_unit_test(test_sure),
        cmocka_unit_test(test_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
