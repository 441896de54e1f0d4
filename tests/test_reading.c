/* SPDX-License-Identifier: Apache-2.0
 * Prompts that are read beside sessions that decode: pieces fill a pass, or the pages there are,
 * and such passes are timed. */
#include "support.h"

#include "engine/session.h"

enum { RECORDED = 256, NARROW = 128 };

/* A clock by which a row takes a fifth of its time for its logits, and that writes down passes. */
typedef struct {
    double now, each; /* seconds: of a pass of one row, ten times what a further one adds */
    int n, rows[RECORDED], logits[RECORDED];
} recorder;

static double recorder_now(void *ctx)
{
    return ((recorder *)ctx)->now;
}

static double takes(const recorder *r, int rows)
{
    return rows > 0 ? r->each * (0.9 + 0.1 * rows) : 0;
}

static void recorder_pass(void *ctx, double layers, int rows, double slot_rows, int n_logits)
{
    (void)layers, (void)slot_rows;
    recorder *const r = ctx;
    r->now += 0.8 * takes(r, rows) + 0.2 * takes(r, n_logits);
    assert_true(r->n < RECORDED);
    r->rows[r->n] = rows;
    r->logits[r->n++] = n_logits;
}

static void recorder_product(void *ctx, int n_out, int n_in, int rows)
{
    (void)ctx, (void)n_out, (void)n_in, (void)rows;
}

typedef struct {
    ftk_model *model;
    recorder recorder;
    ftk_clock clock;
    ftk_engine *engine;
    int32_t prompt[256];
} bench;

static void open_bench(bench *b, int slots)
{
    *b = (bench){.model = load_model(DEMO), .recorder = {.each = 1e-3}};
    b->clock = (ftk_clock){recorder_now, recorder_pass, recorder_product, &b->recorder};
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = 1;
    cfg.kv_slots = slots;
    cfg.max_rows = NARROW;
    assert_int_equal(ftk_engine_open_by(&b->engine, b->model, &cfg, &b->clock), FTK_OK);
    for (int i = 0; i < 256; i++) b->prompt[i] = 3 + i % 200;
    b->recorder.n = 0;
}

static void close_bench(bench *b)
{
    ftk_engine_free(b->engine);
    ftk_model_free(b->model);
}

static ftk_session *reading(bench *b, int n_prompt)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "none";
    cfg.ignore_end = true;
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, b->engine, &cfg), FTK_OK);
    assert_int_equal(ftk_session_append(s, b->prompt, (size_t)n_prompt), FTK_OK);
    return s;
}

/* One that has read its prompt. */
static ftk_session *decoding(bench *b, int n_prompt)
{
    ftk_session *s = reading(b, n_prompt);
    int32_t first;
    assert_int_equal(take(s, 1, &first), 1);
    ftk_session_limit(s, SIZE_MAX);
    return s;
}

static void alone(bench *b, int n_prompt, int n, int32_t *out)
{
    ftk_session *s = reading(b, n_prompt);
    assert_int_equal(take(s, (size_t)n, out), n);
    ftk_session_free(s);
}

static void test_pieces_fill_a_pass(void **state)
{
    (void)state;
    NEED(DEMO);
    bench b;
    open_bench(&b, 1024);
    int32_t want[8], out[8];
    alone(&b, 200, 8, want);
    ftk_session *s[2] = {decoding(&b, 20), reading(&b, 200)};
    ftk_result r[2];
    b.recorder.n = 0;
    for (int i = 0; i < 2; i++) assert_int_equal(ftk_step(s, 2, r), FTK_OK);
    assert_int_equal(b.recorder.n, 2);
    assert_int_equal(b.recorder.rows[0], NARROW);
    assert_int_equal(b.recorder.rows[1], 1 + 200 - (NARROW - 1));
    assert_int_equal(b.recorder.logits[0], 1);
    assert_int_equal(b.recorder.logits[1], 2);
    assert_int_equal(r[1].n_tokens, 1);
    out[0] = r[1].tokens[0];
    assert_int_equal(take(s[1], 7, out + 1), 7);
    assert_memory_equal(out, want, sizeof want);
    for (int i = 0; i < 2; i++) ftk_session_free(s[i]);
    close_bench(&b);
}

/* What there is of pages is read; the rest of the prompt is, once others have left. */
static void test_pieces_fit_the_pages(void **state)
{
    (void)state;
    NEED(DEMO);
    bench b;
    open_bench(&b, 3 * FTK_PAGE);
    int32_t want[8], out[8];
    alone(&b, 2 * FTK_PAGE - 10, 8, want);
    ftk_session *s[2] = {decoding(&b, FTK_PAGE + 1), reading(&b, 2 * FTK_PAGE - 10)};
    ftk_result r[2];
    ftk_stats stats;
    assert_int_equal(ftk_step(s, 2, r), FTK_OK);
    ftk_session_get_stats(s[1], &stats);
    assert_int_equal(stats.prompt, FTK_PAGE - 10);
    while (ftk_step(s, 2, r) == FTK_OK) assert_int_equal(r[1].n_tokens, 0);
    assert_int_equal(r[0].err, FTK_OK);
    assert_int_equal(r[1].err, FTK_ERR_NO_ROOM);
    ftk_session_get_stats(s[1], &stats);
    assert_int_equal(stats.prompt, FTK_PAGE);
    ftk_session_free(s[0]);
    assert_int_equal(take(s[1], 8, out), 8);
    assert_memory_equal(out, want, sizeof want);
    ftk_session_free(s[1]);
    close_bench(&b);
}

/* Where a prompt is in every pass, passes show all the same that the machine has become slower. */
static void test_such_passes_are_timed(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { STEPS = 120 };
    bench b;
    open_bench(&b, 2048);
    ftk_cost *const c = &b.engine->cost;
    assert_true(c->logits > 0.19 && c->logits < 0.21);
    ftk_session *one = decoding(&b, 20);
    const double before = c->seconds[0];
    b.recorder.each *= 2;
    for (int i = 0; i < STEPS; i++) {
        ftk_result r[2];
        ftk_session *const s[2] = {one, reading(&b, 30 + i % 60)};
        const double start = b.recorder.now;
        b.recorder.n = 0;
        assert_int_equal(ftk_step(s, 2, r), FTK_OK);
        assert_true(b.recorder.n == 1 && b.recorder.rows[0] > 30);
        if (i > STEPS / 2) { /* it is known what such a pass takes */
            ftk_width w = ftk_width_of(b.recorder.rows[0], 0);
            w.mute = w.rows - 2;
            const double ratio = (b.recorder.now - start) / ftk_cost_of(c, w);
            assert_true(ratio > 0.9 && ratio < 1.1);
        }
        ftk_session_free(s[1]);
    }
    assert_true(c->seconds[0] > 1.5 * before && c->seconds[0] < 2.2 * before);
    ftk_session_free(one);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_fill_a_pass),
        cmocka_unit_test(test_pieces_fit_the_pages),
        cmocka_unit_test(test_such_passes_are_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
