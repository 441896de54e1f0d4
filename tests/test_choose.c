/* SPDX-License-Identifier: Apache-2.0
 * Whose turn it is to draft: on families whose steps give what the test says. */
#include "support.h"

#include "engine/session.h"

enum { N = 4 };

static uint32_t seed = 7;

/* Steps of a session in which retrieval is wrong half of the time, where families give more[i]
 * tokens more than it does, each time up to `noise` more or less; counts the steps of each and
 * returns what all of them gave more. */
static double run_noisy(ftk_session *s, const double *more, double noise, int steps, int *count)
{
    double sum = 0;
    for (int k = 0; k < steps; k++) {
        s->doubt = 0.5;
        ftk_choose(s);
        ftk_measured *m = s->family[s->turn].measured;
        seed = seed * 1664525u + 1013904223u;
        const double luck = 2 * (double)(seed >> 8) / (1 << 24) - 1;
        ftk_measured_saw(s, m, s->doubt * more[s->turn] + noise * luck, 0, s->doubt);
        sum += s->doubt * more[s->turn];
        count[s->turn]++;
    }
    return sum;
}

static double run(ftk_session *s, const double *more, int steps, int *count)
{
    return run_noisy(s, more, 0.5, steps, count);
}

static ftk_session *open_session(int n)
{
    ftk_session *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->n_families = n;
    for (int i = 0; i < FTK_MAX_DRAFTERS; i++) s->family[i].measured = &s->family[i].own.measured;
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
        int count[N] = {0};
        ftk_measured measured[N] = {0}; /* the engine's */
        for (int all = 0; all < 500; all += steps) {
            ftk_session *s = open_session(N);
            for (int i = 0; i < N; i++) s->family[i].measured = &measured[i];
            run(s, more, steps, count);
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
        enum { STEPS = 6000 };
        const double sum = run(s, more, STEPS, count);
        assert_true(count[best] > 0.95 * STEPS);
        assert_true(sum > 0.95 * 0.5 * STEPS);
        free(s);
    }
}

/* Steps give some tokens more or less than others of the same family, families half a token:
 * luck must neither take the turn from the best one nor keep it from it for long. */
static void test_luck(void **state)
{
    (void)state;
    enum { STEPS = 1000, RUNS = 100 };
    const double more[2][N] = {{1, 0.6, 0.4, 0.2}, {0.4, 1, 0.6, 0.2}}, least[2] = {0.915, 0.74};
    for (int best = 0; best < 2; best++) {
        double sum = 0;
        int count[N] = {0};
        for (uint32_t i = 1; i <= RUNS; i++) {
            ftk_session *s = open_session(N);
            seed = i;
            sum += run_noisy(s, more[best], 2.5, STEPS, count);
            free(s);
        }
        assert_true(sum > least[best] * 0.5 * STEPS * RUNS);
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
    *s->family[2].measured = (ftk_measured){.more = 10, .doubt = 10};
    for (int i = 0; i < 5000; i++) {
        s->doubt = 0.01;
        ftk_choose(s);
        assert_int_equal(s->turn, 2);
    }
    s->doubt = 1;
    ftk_choose(s);
    assert_int_equal(s->family[1].measured->waited, 1);
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

/* ---- what a step says of the family that drafted it */

/* Passes over 1 to 128 rows take 1, 1.5, 2 ... plain steps. Retrieval would have drafted so many
 * nodes. */
static ftk_session *open_judged(ftk_engine *e, int retrieved)
{
    for (int i = 0; i < FTK_COST_POINTS; i++) e->cost.seconds[i] = 0.01 * (1 + 0.5 * i);
    ftk_session *s = open_session(2);
    e->company = ftk_company_alone(&e->cost, 0);
    s->engine = e;
    s->doubt = 0.25;
    s->retrieved = retrieved;
    for (int i = 0; i < 20; i++) s->retrieval.recent[i] = 100 + i;
    return s;
}

/* The tokens that came: `right` as retrieval had them, then others, and one more that it had
 * again. */
static void came(ftk_session *s, int right, int emitted)
{
    for (int i = 0; i < emitted; i++) s->verdict.token[i] = i < right ? 100 + i : 7;
    if (right + 1 < emitted) s->verdict.token[right + 1] = 100 + right + 1;
}

static double judged(const ftk_session *s, double spent, int emitted)
{
    ftk_measured m = {0};
    ftk_choose_compare(s, &m, spent, emitted);
    assert_float_equal(m.doubt, 0.25, 1e-12);
    return m.more - ftk_pace_of(&s->usual) * m.longer;
}

static void test_judgement(void **state)
{
    (void)state;
    static ftk_engine engine;
    ftk_session *s = open_judged(&engine, 3);
    const double alone =
        2; /* plain steps of the four rows that retrieval would have had verified */
    came(s, 2, 3);
    assert_float_equal(judged(s, alone, 3), 0, 1e-9); /* just what retrieval would have given */
    assert_float_equal(judged(s, alone + 0.5, 3), -0.5, 1e-9);
    assert_float_equal(judged(s, alone - 0.5, 3), 0.5, 1e-9);
    came(s, 0, 3); /* two tokens more than without a draft, and retrieval had none of them */
    assert_float_equal(judged(s, alone, 3), 2, 1e-9);
    came(s, 1, 4); /* what it has right behind its first error it would not have given */
    assert_float_equal(judged(s, alone, 4), 2, 1e-9);
    came(s, 1, 1); /* nothing was drafted where retrieval would have given a token */
    assert_float_equal(judged(s, 1, 1), -1 + (alone - 1), 1e-9);
    came(s, 10, 10); /* it would have drafted three, however far it is right */
    assert_float_equal(judged(s, alone, 10), 6, 1e-9);
    s->retrieved = 0; /* where it would have drafted none, a plain step is what there would be */
    assert_float_equal(judged(s, 1.5, 3), 2 - 0.5, 1e-9);
    free(s);
}

/* Time is worth what the session gives in it, whoever drafts. */
static void test_time_is_worth(void **state)
{
    (void)state;
    static ftk_engine engine;
    ftk_session *s = open_judged(&engine, 0);
    *s->family[0].measured = (ftk_measured){.tokens = 10, .spent = 10};
    s->usual = (ftk_pace){.tokens = 30, .spent = 10};
    came(s, 0, 3);
    assert_float_equal(judged(s, 1.5, 3), 2 - 3 * 0.5, 1e-9);
    assert_float_equal(judged(s, 2, 3), 2 - 3 * 1, 1e-9); /* tokens that are not worth it */
    ftk_measured m = {.more = 1, .longer = 1, .doubt = 1};
    ftk_choose_compare(s, &m, 1, 1);
    assert_float_equal(m.more, FTK_LONG_MEMORY, 1e-9);
    assert_float_equal(m.longer, FTK_LONG_MEMORY, 1e-9);
    assert_float_equal(m.doubt, FTK_LONG_MEMORY + 0.25, 1e-9);
    free(s);
}

/* A slow family makes time cheap while it has the turn: for its own steps and the others' alike.
 * What the text of late is like does not count. */
static void test_time_is_worth_the_same(void **state)
{
    (void)state;
    ftk_session *s = open_session(2);
    const double usual[2] = {4, 2}, more[2] = {3, 1.5}, longer[2] = {0.5, 0};
    s->pace = (ftk_pace){.tokens = 5, .spent = 1};
    for (int family = 0; family < 2; family++) {
        s->usual = (ftk_pace){.tokens = usual[family], .spent = 1};
        for (int i = 0; i < 100; i++)
            ftk_measured_saw(s, s->family[family].measured, more[family], longer[family], 1);
    }
    s->favourite = 1;
    s->doubt = 1;
    ftk_choose(s);
    assert_int_equal(s->favourite, 0);
    free(s);
}

/* Of families that draft in turn the best is found, whatever the text gives in the meantime:
 * steps of an easy text, where retrieval would have given as much, say nothing for the one whose
 * turn it is. Family 0 is retrieval alone, 1 adds a guess of the table, which is right half of
 * the time, for a little more, and 2 adds one that always is, for far too much. */
static void test_judged_families(void **state)
{
    (void)state;
    static ftk_engine engine;
    ftk_session *s = open_judged(&engine, 0);
    s->n_families = 3;
    int late = 0;
    for (int k = 0; k < 3000; k++) {
        const bool easy = k / 40 % 2 == 0;
        s->retrieved = easy ? 7 : 0;
        s->doubt = easy ? 0.2 : 0.9;
        ftk_choose(s);
        const int family = s->turn, right = easy ? 7 : 0;
        const int more = family == 2 || (family == 1 && k % 2 == 0);
        const double alone = easy ? 2.5 : 1, spent = alone + (family == 1   ? 0.1
                                                              : family == 2 ? 2
                                                                            : 0);
        const int emitted = right + 1 + more;
        came(s, right, emitted);
        ftk_measured *const m = s->family[family].measured;
        ftk_choose_compare(s, m, spent, emitted);
        s->usual.tokens = s->usual.tokens * FTK_LONG_MEMORY + emitted;
        s->usual.spent = s->usual.spent * FTK_LONG_MEMORY + spent;
        late += k >= 1000 && family == 1;
    }
    assert_true(late > 0.93 * 2000);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_all_are_tried),
        cmocka_unit_test(test_best_has_the_turn),
        cmocka_unit_test(test_luck),
        cmocka_unit_test(test_nothing_to_gain),
        cmocka_unit_test(test_sure),
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_judgement),
        cmocka_unit_test(test_time_is_worth),
        cmocka_unit_test(test_time_is_worth_the_same),
        cmocka_unit_test(test_judged_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
