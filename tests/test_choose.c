/* SPDX-License-Identifier: Apache-2.0
 * Whose turn it is to draft: on families whose steps give what the test says. */
#include "support.h"

#include "engine/session.h"

enum { N = 4 };
static const double memory = 0.985; /* as in step.c */

/* Steps of a session whose families emit rate[i] tokens for the cost of a plain step, with noise; counts the
 * steps of each and returns the tokens for all of them. */
static double run(ftk_session *s, const double *rate, int steps, int *count)
{
    static uint32_t seed = 7;
    double tokens = 0;
    for (int k = 0; k < steps; k++) {
        ftk_choose(s);
        ftk_measured *m = &s->family[s->turn].measured;
        seed = seed * 1664525u + 1013904223u;
        const double luck = 0.25 + 1.5 * (double)(seed >> 8) / (1 << 24);
        m->tokens = m->tokens * memory + rate[s->turn] * luck;
        m->spent = m->spent * memory + 1;
        tokens += rate[s->turn] * luck;
        count[s->turn]++;
    }
    return tokens;
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
            ftk_choose(s);
            assert_int_equal(s->turn, 0);
        }
        free(s);
    }
}

static void test_all_are_tried(void **state)
{
    (void)state;
    ftk_session *s = open_session(N);
    const double rate[N] = {1, 1, 1, 1};
    int count[N] = {0};
    run(s, rate, 60, count);
    for (int i = 0; i < N; i++) assert_true(count[i] >= 8);
    free(s);
}

static void test_best_has_the_turn(void **state)
{
    (void)state;
    for (int best = 0; best < N; best++) {
        ftk_session *s = open_session(N);
        double rate[N] = {1.2, 1.5, 1.4, 0.9};
        rate[best] = 2.4;
        int count[N] = {0};
        enum { STEPS = 4000 };
        const double tokens = run(s, rate, STEPS, count);
        assert_true(count[best] > 0.95 * STEPS);
        assert_true(tokens > 0.97 * 2.4 * STEPS * 0.99); /* and the noise of the mean */
        free(s);
    }
}

/* When another becomes the best, it gets the turn after some trials. */
static void test_change(void **state)
{
    (void)state;
    ftk_session *s = open_session(3);
    const double before[] = {2, 1.5, 1.2}, after[] = {1.2, 1.5, 2.5};
    int count[3] = {0}, then[3] = {0}, late[3] = {0};
    run(s, before, 500, count);
    assert_true(count[0] > 380);
    run(s, after, 1500, then);
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
        cmocka_unit_test(test_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
