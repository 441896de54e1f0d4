/* SPDX-License-Identifier: Apache-2.0
 * Caches without a model: which steps they plan, how many tokens, and what that costs. Strings
 * and figures are those of the released programs' rules, and the published costs of DiT-XL/2. */
#include "support.h"

#include <math.h>

#include "diffusion/caches/tokencache.h"
#include "diffusion/schedule.h"
#include "kernels/kernels.h"

/* ---- planning without a pass */

static ftk_dit_shape xl2(void)
{
    return (ftk_dit_shape){.n_layer = 28,
                           .n_embd = 1152,
                           .n_head = 16,
                           .head_dim = 72,
                           .n_ff = 4608,
                           .patch = 2,
                           .side = 32,
                           .channels = 4,
                           .out_channels = 8,
                           .grid = 16,
                           .n_tokens = 256,
                           .n_classes = 1000,
                           .train_steps = 1000,
                           .beta_start = 1e-4,
                           .beta_end = 0.02};
}

typedef struct dry {
    ftk_dit m; /* a shape, and a table */
    const ftk_cache_ops *ops;
    ftk_cache_env env;
    ftk_plan plan;
    float *kept;
    void *state;
    char trace[2048];
    double work; /* of a run, operations */
    int full;    /* steps */
} dry;

static ftk_cache_config settings(const char *name)
{
    ftk_cache_config c;
    ftk_cache_config_init(&c);
    c.name = name;
    return c;
}

static void dry_open(dry *d, ftk_dit_shape shape, int steps, const ftk_cache_config *cfg)
{
    *d = (dry){.m = {.shape = shape}, .ops = ftk_cache_find(cfg->name)};
    assert_non_null(d->ops);
    d->env = (ftk_cache_env){.shape = &d->m.shape, .steps = steps, .halves = 2, .cfg = *cfg};
    assert_int_equal(d->ops->check(&d->env, &d->m), FTK_OK);
    const size_t layers = (size_t)shape.n_layer, n = (size_t)shape.n_tokens;
    d->plan.action = calloc(layers, sizeof *d->plan.action);
    d->plan.n_tokens = calloc(layers, sizeof *d->plan.n_tokens);
    d->plan.tokens = calloc(2 * layers * n, sizeof *d->plan.tokens);
    d->kept = calloc(2 * layers * n, sizeof *d->kept);
    d->state = calloc(d->ops->state_bytes(&d->env) + 1, 1);
    for (size_t i = 0; i < 2 * layers * n; i++) d->kept[i] = (float)(i * 7919 % 101);
}

static void dry_close(dry *d)
{
    free(d->plan.action);
    free(d->plan.n_tokens);
    free(d->plan.tokens);
    free(d->kept);
    free(d->state);
}

/* A run in which every check finds this error. */
static void dry_run(dry *d, double error)
{
    d->ops->start(&d->env, d->state, 1);
    d->trace[0] = 0;
    d->work = 0;
    d->full = 0;
    for (int step = d->env.steps - 1; step >= 0; step--) {
        d->ops->plan(&d->env, d->state, step, d->kept, &d->plan);
        d->work += 2 * ftk_plan_work(&d->env, &d->plan);
        if (d->plan.verify && d->ops->judge(&d->env, d->state, step, error, &d->plan) &&
            d->plan.full)
            d->work += 2 * ftk_plan_work(&d->env, &d->plan);
        d->full += d->plan.full;
        if (d->trace[0]) strcat(d->trace, " ");
        strcat(d->trace, d->plan.kind);
    }
}

static void assert_trace(const char *name, const dry *d, const char *want)
{
    if (strcmp(d->trace, want) == 0) return;
    fail_msg("%s:\n  wanted %s\n  got    %s", name, want, d->trace);
}

static void assert_near(const char *what, double got, double want, double share)
{
    if (!(fabs(got - want) <= share * fabs(want))) fail_msg("%s: %g, not %g", what, got, want);
}

static int count(const char *trace, char word)
{
    int n = 0;
    for (const char *c = trace; *c; c++) n += *c == word && (c == trace || c[-1] == ' ');
    return n;
}

/* ---- SpeCa */

static ftk_cache_config speca(double threshold, double decay, int min_run, int max_run)
{
    ftk_cache_config c = settings("speca");
    c.order = 4;
    c.threshold = threshold;
    c.decay = decay;
    c.floor = 0.01;
    c.min_run = min_run;
    c.max_run = max_run;
    return c;
}

static void test_speca(void **state)
{
    (void)state;
    static const struct {
        double threshold, decay;
        int min_run, max_run;
        double error, tflop;
        int full, checked;
        const char *trace;
    } cases[] = {
        {0.1, 0.01, 2, 5, 0, 0, 9, 24,
         "F P F P P V V V F P P V V V F P P V V V F P P V V V F P P V V V F P P V V V F P P V V V "
         "F "
         "P P V V V"},
        {0.1, 0.01, 2, 5, INFINITY, 0, 13, 12,
         "F P F P P V F P P V F P P V F P P V F P P V F P P V F P P V F P P V F P P V F P P V F P "
         "P "
         "V F P P V"},
        {0.3, 0.05, 3, 8, 0, 3.76, 7, 25,
         "F P F P P P V V V V V F P P P V V V V V F P P P V V V V V F P P P V V V V V F P P P V V "
         "V "
         "V V F P P"},
        {0.3, 0.05, 3, 8, INFINITY, 5.38, 11, 9,
         "F P F P P P V F P P P V F P P P V F P P P V F P P P V F P P P V F P P P V F P P P V F P "
         "P "
         "P V F P P"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const ftk_cache_config c =
            speca(cases[i].threshold, cases[i].decay, cases[i].min_run, cases[i].max_run);
        dry d;
        dry_open(&d, xl2(), 50, &c);
        dry_run(&d, cases[i].error);
        assert_trace("speca", &d, cases[i].trace);
        assert_int_equal(d.full, cases[i].full);
        assert_int_equal(count(d.trace, 'V'), cases[i].checked);
        if (cases[i].tflop > 0) assert_near("speca TFLOP", d.work / 1e12, cases[i].tflop, 0.01);
        dry_run(&d, cases[i].error > 0 ? (double)NAN : 1e-9); /* no number is no good forecast */
        assert_trace("speca", &d, cases[i].trace);
        dry_close(&d);
    }
}

/* An error between two thresholds: accepted while much is allowed, then not. */
static void test_speca_threshold(void **state)
{
    (void)state;
    ftk_cache_config c = speca(1, 0.01, 1, 3);
    dry d;
    dry_open(&d, xl2(), 20, &c);
    dry_run(&d, 0.11); /* 0.01^progress is 0.126 at index 11 and 0.1 at 10 */
    assert_trace("threshold", &d, "F P F P V V F P V F P V F P V F P V F P");
    c.floor = 0.2;
    dry_close(&d);
    dry_open(&d, xl2(), 20, &c);
    dry_run(&d, 0.11);
    assert_trace("floor", &d, "F P F P V V F P V V F P V V F P V V F P");
    dry_close(&d);
}

/* Rejected steps are computed at once; the rejected forecast cost the check. */
static void test_speca_redo(void **state)
{
    (void)state;
    ftk_cache_config c = speca(0.1, 0.5, 2, 5);
    c.redo = true;
    dry d;
    dry_open(&d, xl2(), 12, &c);
    dry_run(&d, INFINITY);
    assert_trace("redo", &d, "F P F P P R P P R P P R");
    dry_run(&d, 0);
    assert_trace("redo, right", &d, "F P F P P V V V F P P V");
    dry_close(&d);
    c.min_run = 0;
    dry_open(&d, xl2(), 12, &c);
    dry_run(&d, INFINITY);
    assert_trace("redo, all checked", &d, "F R R R R R R R R R R R");
    dry_run(&d, 0);
    assert_trace("redo, all right", &d, "F V F V V V V V F V V V");
    dry_close(&d);
}

/* ---- ToCa, DuCa, FORA */

static void test_token_steps(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool once;
        int full;
        double tflop;
        const char *trace;
    } cases[] = {
        {"toca", false, 18, 10.19,
         "F T T T f/T F T T T F T T T F T T T f/T T F T T F T T F T T F T T F T F T F T F T F T F "
         "T "
         "F T F T F T F"},
        {"toca", true, 20, 11.09,
         "F T T T F F T T T F T T T F T T T F T F T T F T T F T T F T T F T F T F T F T F T F T F "
         "T "
         "F T F T F"},
        {"duca", false, 18, 9.54,
         "F T A T f/T F T A T F T A T F T A T f/A T F A T F A T F A T F A T F T F T F T F T F T F "
         "T "
         "F T F T F T F"},
        {"duca", true, 20, 10.46, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ftk_cache_config c = settings(cases[i].name);
        c.once = cases[i].once;
        dry d;
        dry_open(&d, xl2(), 50, &c);
        dry_run(&d, 0);
        if (cases[i].trace) assert_trace(cases[i].name, &d, cases[i].trace);
        assert_int_equal(d.full, cases[i].full);
        assert_near(cases[i].name, d.work / 1e12, cases[i].tflop, 0.001);
        if (!cases[i].trace) {
            assert_int_equal(count(d.trace, 'T'), 22);
            assert_int_equal(count(d.trace, 'A'), 8);
        }
        dry_close(&d);
    }
}

static void test_plain_and_fora(void **state)
{
    (void)state;
    dry d;
    ftk_cache_config c = settings("none");
    dry_open(&d, xl2(), 50, &c);
    dry_run(&d, 0);
    assert_near("plain TFLOP", d.work / 1e12, 23.68, 0.001);
    assert_int_equal(d.full, 50);
    const double plain = d.work;
    dry_close(&d);
    c = settings("fora");
    dry_open(&d, xl2(), 50, &c);
    dry_run(&d, 0);
    assert_int_equal(d.full, 18);
    assert_near("fora", plain / d.work, 2.77, 0.005);
    dry_close(&d);
}

/* At other numbers of steps, full steps are those of the rule, written out again. */
static void test_other_lengths(void **state)
{
    (void)state;
    static const int lengths[] = {1, 2, 3, 10, 20, 250, 1000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const int n = lengths[i];
        ftk_cache_config c = settings("toca");
        c.once = true;
        c.interval = 4;
        dry d;
        dry_open(&d, xl2(), n, &c);
        d.ops->start(&d.env, d.state, 1);
        int interval = 0;
        for (int step = n - 1; step >= 0; step--) {
            d.ops->plan(&d.env, d.state, step, d.kept, &d.plan);
            const bool full = step == n - 1 || step % interval == 0;
            assert_int_equal(d.plan.full, full);
            const bool between = step >= (int)(.2 * n) && step < (int)(.4 * n);
            if (full) interval = between ? 2 : (int)rint(4 / (1.4 - .8 * step / n));
        }
        dry_close(&d);
    }
}

static void test_token_numbers(void **state)
{
    (void)state;
    static const struct {
        int step, n[3];
    } rows[] = {{49, {0, 0, 0}},    {38, {0, 0, 0}},     {37, {1, 1, 2}},     {30, {21, 26, 32}},
                {20, {50, 62, 75}}, {10, {78, 97, 118}}, {1, {104, 129, 156}}};
    const ftk_cache_config c = settings("toca");
    dry d;
    dry_open(&d, xl2(), 50, &c);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int j = 0; j < 3; j++)
            assert_int_equal(ftk_token_number(&d.env, rows[i].step, (int[]){0, 13, 27}[j]),
                             rows[i].n[j]);
    dry_close(&d);
}

/* The tokens of one layer at the cached step behind a full one. */
static void choose(dry *d, ftk_cache_tokens tokens, const float *kept, int layer, int32_t *out[2],
                   int *n)
{
    const size_t most = (size_t)d->m.shape.n_tokens;
    d->env.cfg.tokens = tokens;
    d->ops->start(&d->env, d->state, 7);
    const ftk_token_turn full = {true, true}, cached = {false, false};
    d->plan.layers = d->m.shape.n_layer;
    ftk_token_plan(&d->env, d->state, d->env.steps - 1, kept, full, &d->plan);
    ftk_token_plan(&d->env, d->state, 0, kept, cached, &d->plan);
    *n = d->plan.n_tokens[layer];
    for (size_t h = 0; h < 2; h++) out[h] = d->plan.tokens + ((size_t)layer * 2 + h) * most;
}

static ftk_dit_shape grid4(void)
{
    ftk_dit_shape s = xl2();
    s.n_layer = 2;
    s.grid = 4;
    s.n_tokens = 16;
    return s;
}

/* Scores by hand: the best of each 2 x 2 cell gets more, ties go to the lower index, and a token
 * that was left out for longer comes up. */
static void test_which_tokens(void **state)
{
    (void)state;
    ftk_cache_config c = settings("toca");
    c.fresh = 0.1; /* with its factors: 2 of 16 at layer 0, 3 at layer 1 */
    c.step_weight = 0;
    c.layer_weight = -0.2;
    dry d;
    dry_open(&d, grid4(), 10, &c);
    float kept[2 * 2 * 16];
    for (int i = 0; i < 64; i++) kept[i] = 1;
    kept[5] = 3;           /* half 0, layer 0: the best of its cell, and of all */
    kept[0] = 2.9f;        /* in the same cell: no bonus */
    kept[15] = 2;          /* another cell's: 2 * 1.6 > 2.9 */
    kept[2 * 16 + 0] = 2;  /* half 1, layer 0 */
    kept[3 * 16 + 9] = -1; /* half 1, layer 1: all others tie */
    int32_t *tokens[2];
    int n;
    choose(&d, FTK_TOKENS_ATTENTION, kept, 0, tokens, &n);
    assert_int_equal(n, 3);
    assert_int_equal(tokens[0][0], 5);
    assert_int_equal(tokens[0][1], 15);
    assert_int_equal(tokens[0][2], 0);
    assert_int_equal(tokens[1][0], 0);
    assert_int_equal(tokens[1][1], 2);
    choose(&d, FTK_TOKENS_ATTENTION, kept, 1, tokens, &n);
    assert_int_equal(n, 4);
    const int32_t cells[] = {0, 2, 8, 10}; /* the first token of each cell has the bonus */
    for (int i = 0; i < 4; i++) assert_int_equal(tokens[1][i], cells[i]);
    choose(&d, FTK_TOKENS_RANDOM, kept, 0, tokens, &n);
    for (int i = 0; i < n; i++) {
        assert_int_equal(tokens[0][i], tokens[1][i]);
        assert_in_range(tokens[0][i], 0, 15);
    }
    dry_close(&d);
}

static void test_staleness(void **state)
{
    (void)state;
    ftk_cache_config c = settings("toca");
    c.fresh = 0.1;
    c.step_weight = 0;
    c.layer_weight = 0;
    c.bonus = 0;
    c.stale = 1000; /* nothing else counts */
    dry d;
    dry_open(&d, grid4(), 10, &c);
    for (int i = 0; i < 64; i++) d.kept[i] = 1;
    d.plan.layers = 2;
    d.ops->start(&d.env, d.state, 7);
    const ftk_token_turn full = {true, true}, cached = {false, false};
    ftk_token_plan(&d.env, d.state, 9, d.kept, full, &d.plan);
    bool seen[16] = {false};
    for (int step = 8; step >= 5; step--) { /* four tokens a step: each of 16 once */
        ftk_token_plan(&d.env, d.state, step, d.kept, cached, &d.plan);
        assert_int_equal(d.plan.n_tokens[0], 4);
        for (int i = 0; i < 4; i++) {
            assert_false(seen[d.plan.tokens[i]]);
            seen[d.plan.tokens[i]] = true;
        }
    }
    dry_close(&d);
}

/* ---- Learning-to-Cache: the shipped tables' numbers of computed branches */

static void check_l2c(int steps, const int *computed, double gain)
{
    enum { BRANCHES = 56 };
    float value[25 * BRANCHES];
    for (int i = 0; i < steps / 2; i++)
        for (int b = 0; b < BRANCHES; b++) value[i * BRANCHES + b] = b < computed[i] ? 0.9f : 0.05f;
    const ftk_cache_config c = settings("l2c");
    dry d;
    const ftk_l2c_table table = {.steps = steps, .threshold = 0.1, .value = value};
    /* opened by hand, as the table has to be there */
    dry_open(&d, xl2(), steps, &(ftk_cache_config){.name = "none"});
    d.m.n_l2c = 1;
    d.m.l2c[0] = table;
    d.ops = ftk_cache_find("l2c");
    d.env.cfg = c;
    assert_int_equal(d.ops->check(&d.env, &d.m), FTK_OK);
    dry_run(&d, 0);
    assert_int_equal(d.full, steps / 2);
    const double plain = 2 * steps * ftk_plan_work(&d.env, NULL);
    assert_near("l2c", plain / d.work, gain, 0.01);
    dry_close(&d);
}

static void test_l2c(void **state)
{
    (void)state;
    static const int of_20[] = {56, 55, 55, 55, 53, 26, 8, 4, 0, 0};
    static const int of_50[] = {56, 56, 55, 55, 56, 55, 55, 55, 55, 54, 54, 36, 29,
                                26, 11, 8,  7,  6,  2,  1,  3,  0,  0,  1,  0};
    check_l2c(20, of_20, 1.285);
    check_l2c(50, of_50, 1.31);
}

/* ---- the series */

/* Of f at the anchors, forecast at the target: what is off. */
static double forecast_error(const ftk_kernels *k, const double *anchor, int n, int order,
                             double target, double (*f)(double))
{
    float d[FTK_MAX_ORDER + 1] = {0}, coef[FTK_MAX_ORDER + 1] = {1}, x = 0;
    const float gate = 1;
    int have = 0;
    for (int i = 0; i < n; i++) {
        have = i < order ? i : order;
        const float v = (float)f(anchor[i]);
        k->differences(1, have, &v, i > 0 ? (float)(anchor[i] - anchor[i - 1]) : 1, d);
    }
    for (int i = 1; i <= have; i++)
        coef[i] = coef[i - 1] * (float)(target - anchor[n - 1]) / (float)i;
    k->gated_add(1, have, d, coef, &gate, &x);
    return (double)x - f(target);
}

static double square(double s)
{
    return s * s;
}

static double line(double s)
{
    return 3 * s + 1;
}

static void test_series(void **state)
{
    (void)state;
    static const double even[] = {49, 45, 41, 37}, uneven[] = {49, 47, 40, 37};
    static const double off[3][4] = {{73, -5, -4, -4}, {144, -12, -8, -8}, {213, -21, -12, -12}};
    ftk_kernels k;
    assert_true(ftk_kernels_fill(&k, NULL));
    for (int t = 0; t < 3; t++) {
        for (int order = 0; order < 4; order++) {
            const double e = forecast_error(&k, even, 4, order, 36 - t, square);
            assert_true(fabs(e - off[t][order]) < 1e-3);
            if (order > 0)
                assert_true(fabs(forecast_error(&k, even, 4, order, 36 - t, line)) < 1e-4);
        }
    }
    assert_true(fabs(forecast_error(&k, uneven, 4, 2, 36, square) + 7.0 / 3) < 1e-3);
    assert_true(fabs(forecast_error(&k, uneven, 4, 2, 35, square) + 10.0 / 3) < 1e-3);
}

/* ---- the schedule of steps */

static void test_steps(void **state)
{
    (void)state;
    static const int of_20[] = {0,   53,  105, 158, 210, 263, 315, 368, 421, 473,
                                526, 578, 631, 684, 736, 789, 841, 894, 946, 999};
    static const int first[] = {0, 20, 41, 61, 82, 102, 122, 143}, last[] = {938, 958, 979, 999};
    const ftk_dit_shape s = xl2();
    ftk_noise_step steps[1000];
    ftk_schedule_make(&s, 20, steps);
    for (int i = 0; i < 20; i++) assert_int_equal(steps[i].t, of_20[i]);
    ftk_schedule_make(&s, 50, steps);
    for (int i = 0; i < 8; i++) assert_int_equal(steps[i].t, first[i]);
    for (int i = 0; i < 4; i++) assert_int_equal(steps[46 + i].t, last[i]);
    double kept = 1;
    ftk_schedule_make(&s, 1000, steps);
    for (int i = 0; i < 1000; i++) {
        const double beta = 1e-4 + (0.02 - 1e-4) * i / 999;
        kept *= 1 - beta;
        assert_int_equal(steps[i].t, i);
        assert_true(fabs(steps[i].beta - beta) < 1e-12 && fabs(steps[i].kept - kept) < 1e-12);
    }
    ftk_schedule_make(&s, 3, steps);
    assert_int_equal(steps[1].t, 500); /* 499.5, to even */
    ftk_schedule_make(&s, 1, steps);
    assert_int_equal(steps[0].t, 999);
}

/* Data that are normal with mean mu and deviation sigma: the best prediction of the noise is a
 * line, and so the end of DDIM is a line of the start, whose slope and height follow from a few
 * numbers. */
static void test_closed_form(void **state)
{
    (void)state;
    const double mu = 0.7, sigma = 0.3;
    const ftk_dit_shape s = xl2();
    for (int n = 1; n <= 250; n = n * 3 + 1) {
        ftk_noise_step steps[250];
        ftk_schedule_make(&s, n, steps);
        double slope = 1, height = 0;
        float x[5] = {-2, -0.5f, 0, 1, 3};
        const float start[5] = {-2, -0.5f, 0, 1, 3};
        for (int i = n - 1; i >= 0; i--) {
            const double a = sqrt(steps[i].kept), b = sqrt(1 - steps[i].kept);
            const double gain = b / (a * a * sigma * sigma + b * b); /* of the prediction */
            const double a2 = i > 0 ? sqrt(steps[i - 1].kept) : 1, b2 = sqrt(1 - a2 * a2);
            float noise[5];
            for (int j = 0; j < 5; j++) noise[j] = (float)(gain * (x[j] - a * mu));
            ftk_ddim(&steps[i], 5, noise, x);
            const double m = a2 * (1 - b * gain) / a + b2 * gain;
            const double c = (a2 * b / a - b2) * gain * a * mu;
            slope *= m;
            height = height * m + c;
        }
        for (int j = 0; j < 5; j++)
            assert_true(fabs(x[j] - (slope * start[j] + height)) < 1e-5 * (1 + fabs(start[j])));
    }
}

/* Start noise is normal: mean, variance and a tail; other seeds, other numbers. */
static void test_noise(void **state)
{
    (void)state;
    enum { N = 100001 };
    float *x = malloc(N * sizeof *x), y[8];
    double sum = 0, squares = 0;
    int beyond = 0;
    ftk_diffusion_noise(5, x, N);
    for (int i = 0; i < N; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
        beyond += fabsf(x[i]) > 1.96f;
    }
    assert_true(fabs(sum / N) < 0.015 && fabs(squares / N - 1) < 0.02);
    assert_true(beyond > N * 0.047 && beyond < N * 0.053);
    ftk_diffusion_noise(5, y, 7);
    assert_memory_equal(x, y, 7 * sizeof *y);
    ftk_diffusion_noise(6, y, 8);
    assert_memory_not_equal(x, y, 8 * sizeof *y);
    ftk_normal_numbers(5, 1, y, 8);
    assert_memory_not_equal(x, y, 8 * sizeof *y);
    free(x);
}

static void test_names(void **state)
{
    (void)state;
    const char *const *names = ftk_caches();
    for (int i = 0; names[i]; i++) {
        assert_string_equal(ftk_cache_find(names[i])->name, names[i]);
        assert_int_equal(ftk_cache_lossless(names[i]), strcmp(names[i], "none") == 0);
    }
    assert_null(ftk_cache_find("tea"));
    assert_false(ftk_cache_lossless("tea"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_speca),          cmocka_unit_test(test_speca_threshold),
        cmocka_unit_test(test_speca_redo),     cmocka_unit_test(test_token_steps),
        cmocka_unit_test(test_plain_and_fora), cmocka_unit_test(test_other_lengths),
        cmocka_unit_test(test_token_numbers),  cmocka_unit_test(test_which_tokens),
        cmocka_unit_test(test_staleness),      cmocka_unit_test(test_l2c),
        cmocka_unit_test(test_series),         cmocka_unit_test(test_steps),
        cmocka_unit_test(test_closed_form),    cmocka_unit_test(test_noise),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
