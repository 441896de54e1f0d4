/* SPDX-License-Identifier: Apache-2.0
 * The cost model: interpolation, what depth adds, what pays, and what a measured pass changes; what
 * a drafter's own work takes beside it. */
#include "support.h"

#include <math.h>

#include "drafters/took.h"
#include "engine/session.h"

/* 1 second, and a tenth for each row more; errors as they are when it was measured. */
static ftk_cost rising(void)
{
    ftk_cost c = {.slot = 0.001, .slot_row = 0.0005};
    for (int i = 0; i < FTK_COST_POINTS; i++) c.seconds[i] = 1 + 0.1 * ((1 << i) - 1);
    for (int i = 0; i < FTK_COST_POINTS; i++) c.variance[i][i] = 0.01;
    c.variance[FTK_COST_POINTS][FTK_COST_POINTS] = 0.25;
    for (int i = 0; i <= FTK_COST_POINTS; i++)
        for (int j = 0; j <= FTK_COST_POINTS; j++) c.variance[i][j] += 0.25;
    return c;
}

static bool about(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

static void test_at(void **state)
{
    (void)state;
    const ftk_cost c = rising();
    for (int rows = 1; rows <= FTK_MAX_NODES; rows++)
        for (int depth = 0; depth <= 2000; depth += 500)
            assert_true(about(ftk_cost_at(&c, rows, depth),
                              1 + 0.1 * (rows - 1) + depth * (0.001 + rows * 0.0005)));
}

static ftk_company company_of_one(const ftk_cost *c, int depth)
{
    const ftk_width one = ftk_width_of(1, depth);
    return ftk_company_of(c, 1, one, one);
}

static int best_alone(const ftk_cost *c, const ftk_tree *t, int depth)
{
    const ftk_company alone = company_of_one(c, depth);
    return ftk_cost_best(c, &alone, t->prob + 1, t->n - 1, depth);
}

/* Rows that cost more, deep in a text, are fewer. */
static void test_best(void **state)
{
    (void)state;
    ftk_cost c = rising();
    ftk_tree t;
    ftk_tree_init(&t, 0);
    float p = 1;
    for (int i = 0; i < 40; i++) ftk_tree_add(&t, i, 1, p *= 0.8f);
    const int flat = best_alone(&c, &t, 0);
    c.slot = 0;
    c.slot_row = 0.01;
    const int deep = best_alone(&c, &t, 1000);
    assert_true(flat > 3 && deep < flat);
    assert_int_equal(best_alone(&c, &t, 100000), 0);
}

/* A pass that took twice as long moves all the curve up, its own width the most; never down a
 * row. */
static void test_update(void **state)
{
    (void)state;
    ftk_cost c = rising();
    const ftk_cost before = c;
    ftk_cost_update(&c, ftk_width_of(8, 100), 2 * ftk_cost_at(&c, 8, 100));
    for (int i = 0; i < FTK_COST_POINTS; i++) {
        assert_true(c.seconds[i] > before.seconds[i]);
        assert_true(c.seconds[i] / before.seconds[i] <= c.seconds[3] / before.seconds[3] + 1e-9);
        assert_true(i == 0 || c.seconds[i] >= c.seconds[i - 1]);
    }
    assert_true(c.slot > before.slot && c.slot_row > before.slot_row);
    for (int i = 0; i < 500; i++) ftk_cost_update(&c, ftk_width_of(8, 0), 0.5);
    assert_true(fabs(ftk_cost_at(&c, 8, 0) - 0.5) < 0.05);
}

/* Widths that were measured far too dear are not run. They come down as the narrower ones show what
 * passes cost; and what was far too cheap goes up. */
static void test_wrong_at_first(void **state)
{
    (void)state;
    const ftk_cost truth = rising();
    for (int dear = 0; dear < 2; dear++) {
        ftk_cost c = truth;
        for (int i = 3; i < FTK_COST_POINTS; i++) c.seconds[i] *= dear ? 10 : 0.1;
        for (int k = 0; k < 200; k++) {
            const int rows = 1 + k % 4;
            ftk_cost_update(&c, ftk_width_of(rows, 0), ftk_cost_at(&truth, rows, 0));
        }
        for (int rows = 1; rows <= 4; rows++)
            assert_true(fabs(ftk_cost_at(&c, rows, 0) / ftk_cost_at(&truth, rows, 0) - 1) < 0.02);
        for (int i = 1; i < FTK_COST_POINTS; i++)
            assert_true(c.seconds[i] >= c.seconds[i - 1] && c.seconds[i] <= 2.5 * c.seconds[i - 1]);
    }
}

/* What depth adds was measured far too dear: that comes down, more than what rows take. */
static void test_depth_wrong_at_first(void **state)
{
    (void)state;
    const ftk_cost truth = rising();
    ftk_cost c = truth;
    c.slot *= 20;
    c.slot_row *= 20;
    for (int k = 0; k < 300; k++) {
        const int rows = 1 + k % 4, depth = 50 + k;
        ftk_cost_update(&c, ftk_width_of(rows, depth), ftk_cost_at(&truth, rows, depth));
        assert_true(c.seconds[0] > 0.4 && c.seconds[0] < 1.1);
    }
    for (int rows = 1; rows <= 4; rows++)
        assert_true(fabs(ftk_cost_at(&c, rows, 350) / ftk_cost_at(&truth, rows, 350) - 1) < 0.1);
}

static void test_measure(void **state)
{
    (void)state;
    static const char path[] = FTK_MODELS_DIR "/foretoken-demo-q8_0.gguf";
    NEED(path);
    ftk_model_config mc;
    ftk_model_config_init(&mc);
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, path, &mc), FTK_OK);
    for (int slots = 64; slots <= 2048; slots *= 4) {
        ftk_engine_config ec;
        ftk_engine_config_init(&ec);
        ec.threads = 1;
        ec.kv_slots = slots;
        ftk_engine *e;
        assert_int_equal(ftk_engine_open(&e, m, &ec), FTK_OK);
        const ftk_cost *c = &e->cost;
        assert_true(c->seconds[0] > 0 && c->seconds[FTK_COST_POINTS - 1] >= c->seconds[0]);
        assert_true(c->variance[0][FTK_COST_POINTS - 1] > 0.2); /* the machine's speed */
        assert_true(c->slot >= 0 && c->slot_row >= 0 && isfinite(c->slot + c->slot_row));
        if (slots < 512) assert_true(c->slot == 0 && c->slot_row == 0); /* no room to see it */
        assert_int_equal(e->pool.n_free, e->pool.n_pages);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* Drafts that take next to nothing, and now and then half a step, are charged for all they take. */
static void test_drafts_are_charged(void **state)
{
    (void)state;
    double usually = 0, took = 0, charged = 0;
    for (int i = 0; i < 1000; i++) {
        const double seconds = i % 20 == 7 ? 0.5 : 0.001;
        took += seconds;
        charged += ftk_cost_of_draft(&usually, seconds, 1);
    }
    assert_true(fabs(charged - took) < 1e-9);
    /* Another program took the core away. */
    assert_true(about(ftk_cost_of_draft(&usually, 100, 1), 2));
    /* They take that long: after a while they are charged for it. */
    for (int i = 0; i < 40; i++) charged = ftk_cost_of_draft(&usually, 6, 1);
    assert_true(about(charged, 6));
}

/* One width is passed all the time, a little wider ones now and then: those show how steep the
 * curve is there, though the point above, which was only drawn, has next to no part in them. */
static void test_steep_where_none_was_timed(void **state)
{
    (void)state;
    ftk_cost truth = rising();
    for (int i = 5; i < FTK_COST_POINTS; i++) truth.seconds[i] = 2.4 * truth.seconds[i - 1];
    ftk_cost c = rising();
    for (int i = 5; i < FTK_COST_POINTS; i++) c.variance[i][i] += 0.25;
    for (int k = 0; k < 30; k++) {
        const int rows = k % 3 == 0 ? 18 : 16;
        ftk_cost_update(&c, ftk_width_of(rows, 0), ftk_cost_at(&truth, rows, 0));
    }
    const double steep = ftk_cost_at(&truth, 20, 0) - ftk_cost_at(&truth, 16, 0);
    assert_true(fabs((ftk_cost_at(&c, 20, 0) - ftk_cost_at(&c, 16, 0)) / steep - 1) < 0.15);
}

/* Other programs slow all passes down for a while, from the first one on. Only plain ones are run,
 * and tell what wide ones take, too: drafts would else stay too dear, or too cheap, for as long as
 * none is made. */
static void test_speed_changes(void **state)
{
    (void)state;
    const ftk_cost truth = rising();
    const double wide = ftk_cost_at(&truth, 16, 0) / ftk_cost_at(&truth, 1, 0);
    ftk_cost c = truth;
    for (int k = 0; k < 600; k++) {
        const double slow = k / 60 % 2 == 0 ? 3 : 1, torn = k % 17 == 5 ? 4 : 1;
        const double noise = 1 + 0.05 * (k * 7 % 11 - 5) / 5;
        const double seconds = slow * torn * noise * ftk_cost_at(&truth, 1, 0);
        ftk_cost_update(&c, ftk_width_of(1, 0), seconds);
        const double seen = ftk_cost_at(&c, 16, 0) / ftk_cost_at(&c, 1, 0);
        assert_true(fabs(seen / wide - 1) < 0.2);
        if (k % 60 == 59) {
            assert_true(fabs(seen / wide - 1) < 0.1);
            assert_true(fabs(ftk_cost_at(&c, 1, 0) / slow - 1) < 0.25);
        }
    }
}

static double believed(void *ctx, int layer, int rows)
{
    (void)layer;
    return rows * *(const double *)ctx;
}

/* What a drafter's work takes was seen while the machine was three times as slow: it takes a third
 * as long when passes do. */
static void test_took_follows_speed(void **state)
{
    (void)state;
    double pass = 3, took[5] = {0};
    const ftk_target t = {.ctx = &pass, .seconds = believed};
    assert_true(ftk_took_of(took, &t, 2, 0, 4) == 0);
    for (int i = 0; i < 3; i++) ftk_took_see(took, &t, 2, 0.6);
    assert_true(about(ftk_took_of(took, &t, 2, 0, 4), 0.6));
    pass = 1;
    assert_true(about(ftk_took_of(took, &t, 2, 0, 4), 0.2));
    assert_true(about(ftk_took_of(took, &t, 4, 0, 4), 0.4));
    ftk_took_doubt(took, &t);
    assert_true(ftk_took_of(took, &t, 2, 0, 4) < 0.2);
}

/* A time that is many times the usual one counts as four times that: another program had the
 * core. */
static void test_took_forgives(void **state)
{
    (void)state;
    double pass = 1, took[5] = {0};
    const ftk_target t = {.ctx = &pass, .seconds = believed};
    ftk_took_see(took, &t, 2, 0.1);
    ftk_took_see(took, &t, 2, 100);
    assert_true(about(ftk_took_of(took, &t, 2, 0, 4), 0.1 + 0.2 * 3 * 0.1));
    ftk_took_see(took, &t, 2, 0.16 * 3.5); /* as it is: slower may be the machine */
    assert_true(about(ftk_took_of(took, &t, 2, 0, 4), 0.16 + 0.2 * 2.5 * 0.16));
}

/* Whoever shares a pass pays his part of it, and rows are worth having as the whole pass sees
 * them. */
static void test_company(void **state)
{
    (void)state;
    const ftk_cost c = rising();
    const ftk_width four = ftk_width_and(ftk_width_of(1, 100), 3, 200);
    const ftk_company with = ftk_company_of(&c, 4, four, ftk_width_and(four, 60, 0));
    assert_true(about(with.plain / with.n, (1.3 + 300 * 0.001 + 700 * 0.0005) / 4));
    assert_true(about(with.alone, ftk_cost_at(&c, 1, 75)));
    assert_true(about(ftk_cost_more(&c, &with, 10, 100), 10 * (0.1 + 100 * 0.0005)));
    /* Alone a node pays that is right in one case of ten; of four that decode it must be in
     * three of ten. */
    const float third[] = {0.35f};
    const ftk_company alone = company_of_one(&c, 0);
    const ftk_width rows = ftk_width_of(4, 0);
    const ftk_company busy = ftk_company_of(&c, 4, rows, rows);
    assert_int_equal(ftk_cost_best(&c, &alone, third, 1, 0), 1);
    assert_int_equal(ftk_cost_best(&c, &busy, third, 1, 0), 1);
    assert_int_equal(ftk_cost_best(&c, &busy, (const float[]){0.3f}, 1, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drafts_are_charged),
        cmocka_unit_test(test_at),
        cmocka_unit_test(test_best),
        cmocka_unit_test(test_update),
        cmocka_unit_test(test_wrong_at_first),
        cmocka_unit_test(test_depth_wrong_at_first),
        cmocka_unit_test(test_steep_where_none_was_timed),
        cmocka_unit_test(test_speed_changes),
        cmocka_unit_test(test_took_follows_speed),
        cmocka_unit_test(test_took_forgives),
        cmocka_unit_test(test_company),
        cmocka_unit_test(test_measure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
