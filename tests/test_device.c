/* SPDX-License-Identifier: Apache-2.0
 * An engine on the emulated GPU: the whole loop, on the demo model and on one of random weights. */
#include "ondevice.h"

#include <math.h>

#include "dashfile.h"
#include "firpfile.h"
#include "lorafiles.h"
#include "sample.h"
#include "drafters/dash.h"
#include "testkit/memorymodel.h"
#include "testkit/test_drafters_ops.h"

static double score(ftk_engine *e, const ftk_model *m)
{
    int32_t tokens[64];
    size_t n;
    double sum;
    assert_int_equal(ftk_tokenize(m, text, strlen(text), FTK_TOK_BOS, tokens, 64, &n), FTK_OK);
    assert_int_equal(ftk_score(e, tokens, n, &sum), FTK_OK);
    return sum / (double)(n - 1);
}

static void check_loop(ftk_type kv)
{
    enum { N = 20 };
    NEED(DEMO);
    ftk_model *m = load();
    ftk_engine *cpu, *gpu;
    assert_int_equal(open_on(&cpu, m, "cpu", kv), FTK_OK);
    assert_int_equal(open_on(&gpu, m, "cuda", kv), FTK_OK);
    assert_string_equal(ftk_engine_device(cpu), "cpu");
    assert_string_equal(ftk_engine_device(gpu), "cuda:0 emulated");
    const double a = score(cpu, m), b = score(gpu, m);
    if (!(fabs(a - b) < 2e-2)) fail_msg("%.6f nats a token, on the device %.6f", a, b);
    int32_t plain[N], drafted[N];
    answer(gpu, m, "none", plain, N);
    answer(gpu, m, "jacobi", drafted, N);
    assert_memory_equal(plain, drafted, sizeof plain);
    char path[] = "firp-XXXXXX";
    close(mkstemp(path));
    write_firp(path, m, false);
    assert_int_equal(ftk_engine_add_drafter(gpu, path), FTK_OK);
    answer(gpu, m, "firp", drafted, 6); /* rows are free in this cost model: many join */
    assert_memory_equal(plain, drafted, 6 * sizeof *plain);
    unlink(path);
    ftk_engine_free(cpu);
    ftk_engine_free(gpu);
    ftk_model_free(m);
}

static void test_loop(void **state)
{
    (void)state;
    check_loop(FTK_TYPE_F16);
}

static void test_small_cache(void **state)
{
    (void)state;
    check_loop(FTK_TYPE_Q8_0);
}

/* A session that draws its tokens gets its logits beside one that does without. */
static void test_together(void **state)
{
    (void)state;
    enum { N = 5 };
    NEED(DEMO);
    ftk_model *m = load();
    ftk_engine *e;
    assert_int_equal(open_on(&e, m, "cuda", FTK_TYPE_F16), FTK_OK);
    int32_t tokens[64], alone[2][N], got[2][N];
    size_t n_text;
    assert_int_equal(ftk_tokenize(m, text, 24, FTK_TOK_BOS, tokens, 64, &n_text), FTK_OK);
    for (int together = 0; together < 2; together++) {
        ftk_session *s[2];
        for (int i = 0; i < 2; i++) {
            ftk_session_config cfg;
            ftk_session_config_init(&cfg);
            cfg.drafter = "none";
            cfg.ignore_end = true;
            cfg.sampling.temperature = i ? 1.0f : 0;
            cfg.sampling.seed = 5;
            assert_int_equal(ftk_session_open(&s[i], e, &cfg), FTK_OK);
            assert_int_equal(ftk_session_append(s[i], tokens, n_text), FTK_OK);
            if (!together) assert_int_equal(take(s[i], N, alone[i]), N);
        }
        for (size_t n = 0; together && n < N; n++) {
            ftk_result r[2];
            assert_int_equal(ftk_step(s, 2, r), FTK_OK);
            for (int i = 0; i < 2; i++) got[i][n] = r[i].tokens[0];
        }
        for (int i = 0; i < 2; i++) ftk_session_free(s[i]);
    }
    assert_memory_equal(alone, got, sizeof got);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Drafts that are made there in one call are those of the CPU for the same text, but for some
 * guesses that rounding decides about. Each waits once, but those of rows that have joined the
 * pass before, which waits once. */
static void test_whole_drafts(void **state)
{
    (void)state;
    enum { N = 24, CUTS = 6 };
    NEED(DEMO);
    ftk_model *m = load();
    for (int i = 0; i < WHOLE; i++) {
        NEED(whole[i].file);
        ftk_engine *e[2];
        unsigned flags = whole[i].flags;
        int nodes = 0, found = 0;
        for (int on = 0; on < 2; on++) {
            assert_int_equal(open_on(&e[on], m, on ? "cuda" : "cpu", FTK_TYPE_F16), FTK_OK);
            assert_int_equal(ftk_engine_add_drafter(e[on], whole[i].file), FTK_OK);
        }
        const int fused = whole[i].flags & FTK_ROWS_JOIN ? 1 : 0;
        for (size_t cut = 0; cut < CUTS; cut++) {
            ftk_tree tree[2];
            int32_t at[2];
            for (int on = 0; on < 2; on++) {
                ftk_session *s = watch(e[on], whole[i].ops, whole[i].shape, &flags, 3 + 2 * cut);
                ftk_result r;
                for (int j = 0; j < 2 + fused; j++) assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
                assert_int_equal(seen.n, 1 + fused);
                tree[on] = seen.tree[fused];
                at[on] = seen.tree[0].token[0];
                ftk_session_free(s);
            }
            if (at[0] != at[1] || tree[0].token[0] != tree[1].token[0]) continue;
            nodes += tree[0].n - 1;
            found += shared(&tree[0], &tree[1]);
        }
        assert_true(nodes >= whole[i].least * CUTS);
        if (found < nodes * 9 / 10)
            fail_msg("%s: of %d guesses %d", whole[i].ops->name, nodes, found);
        int32_t plain[N], drafted[N];
        answer(e[1], m, "none", plain, N);
        ftk_session *s = watch(e[1], whole[i].ops, whole[i].shape, &flags, 64);
        const int *const waits = waits_of(&s->target), before = *waits;
        assert_int_equal(take(s, N, drafted), N);
        ftk_stats stats;
        ftk_session_get_stats(s, &stats); /* a pass for each step, a wait more for each draft */
        assert_int_equal(*waits - before, (int)stats.steps + (fused ? 0 : seen.n));
        ftk_session_free(s);
        assert_memory_equal(plain, drafted, sizeof plain);
        assert_int_equal(seen.most_waits, 1 - fused);
        for (int on = 0; on < 2; on++) ftk_engine_free(e[on]);
    }
    ftk_model_free(m);
}

/* A device that fails while it drafts: the step says so, and so does every further one. */
static void test_trouble(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    for (int i = 0; i < WHOLE; i++) {
        NEED(whole[i].file);
        unsigned flags = whole[i].flags;
        ftk_engine *e;
        int32_t out[4];
        ftk_result r;
        assert_int_equal(open_on(&e, m, "cuda", FTK_TYPE_F16), FTK_OK);
        assert_int_equal(ftk_engine_add_drafter(e, whole[i].file), FTK_OK);
        ftk_session *s = watch(e, whole[i].ops, whole[i].shape, &flags, 64);
        assert_int_equal(take(s, 4, out), 4);
        ftk_session_limit(s, SIZE_MAX);
        seen.failing = true;
        for (int j = 0; j < 2; j++) {
            n_lines = 0;
            assert_int_equal(ftk_step(&s, 1, &r), FTK_ERR_DEVICE);
            assert_int_equal(n_lines, 1);
            assert_string_equal(last_line, "cuda:0 emulated failed: the emulated GPU failed");
        }
        seen.failing = false;
        ftk_session_free(s);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* What a session holds there needs memory there. */
static void test_no_memory(void **state)
{
    (void)state;
    NEED(DEMO);
    NEED(whole[0].file);
    ftk_model *m = load();
    ftk_engine *e;
    assert_int_equal(open_on(&e, m, "cuda", FTK_TYPE_F16), FTK_OK);
    assert_int_equal(ftk_engine_add_drafter(e, whole[0].file), FTK_OK);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    ftk_session *s;
    size_t *const limit = &ftk_gpu_of(e->device)->q.limit;
    *limit = 16;
    cfg.drafter = "s4c";
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_ERR_NOMEM);
    assert_null(s);
    assert_string_equal(last_line, "no memory on the device for what a drafter holds");
    cfg.drafter = "lookup";
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    assert_int_equal(ftk_session_set_drafter(s, "s4c"), FTK_ERR_NOMEM);
    *limit = 0;
    assert_int_equal(ftk_session_set_drafter(s, "s4c"), FTK_OK);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Two sessions whose drafts follow each other: each has what its own pass left. */
static void test_held(void **state)
{
    (void)state;
    enum { N = 12 };
    NEED(DEMO);
    NEED(whole[0].file);
    ftk_model *m = load();
    static ftk_tree alone[64];
    int32_t out[N];
    int n = 0;
    for (int beside = 0; beside < 2; beside++) {
        ftk_engine *e;
        assert_int_equal(open_on(&e, m, "cuda", FTK_TYPE_F16), FTK_OK);
        assert_int_equal(ftk_engine_add_drafter(e, whole[0].file), FTK_OK);
        ftk_session_config cfg;
        ftk_session_config_init(&cfg);
        cfg.drafter = "lookup";
        ftk_session *other, *s = watch(e, whole[0].ops, whole[0].shape, NULL, 64);
        assert_int_equal(ftk_session_open(&other, e, &cfg), FTK_OK);
        assert_int_equal(ftk_session_append(other, (const int32_t[]){5, 6, 7, 8}, 4), FTK_OK);
        if (!beside) assert_int_equal(take(s, N, out), N);
        if (!beside) n = seen.n;
        if (!beside) memcpy(alone, seen.tree, sizeof alone);
        for (int both = 0; seen.n < n; both = !both) { /* in one pass, and one after the other */
            ftk_result r[2];
            assert_int_equal(ftk_step((ftk_session *[]){other, s}, 1 + (size_t)both, r), FTK_OK);
            if (!both) assert_int_equal(ftk_step(&s, 1, r), FTK_OK);
        }
        ftk_session_free(s);
        ftk_session_free(other);
        ftk_engine_free(e);
    }
    for (int i = 0; i < n; i++) {
        assert_int_equal(seen.tree[i].n, alone[i].n);
        assert_memory_equal(seen.tree[i].token, alone[i].token,
                            (size_t)alone[i].n * sizeof *alone[i].token);
    }
    ftk_model_free(m);
}

/* What a drafter gets of products there is what it gets on the CPU, roughly: with its own
 * matrices, and with the rows of the output matrix that its file names or all of them. */
static void test_products(void **state)
{
    (void)state;
    static const char file[] = FTK_MODELS_DIR "/foretoken-demo-s4c.drafter.gguf";
    enum { ROWS = 3, MOST_OUT = 8192 };
    static float x[ROWS * 2048], y[2][ROWS * MOST_OUT];
    NEED(DEMO);
    NEED(file);
    ftk_model *m = load();
    ftk_session s[2] = {0};
    ftk_target t[2];
    const ftk_weights *w[2];
    uint32_t random = 3;
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) {
        random = random * 1664525u + 1013904223u;
        x[i] = (float)(random >> 8) * 0x1p-24f - 0.5f;
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(open_on(&s[i].engine, m, i ? "cuda" : "cpu", FTK_TYPE_F16), FTK_OK);
        assert_int_equal(ftk_engine_add_drafter(s[i].engine, file), FTK_OK);
        ftk_target_init(&t[i], &s[i]);
        w[i] = ftk_target_weights(s[i].engine, &ftk_drafter_s4c);
        assert_non_null(w[i]);
    }
    for (int j = 0; j <= w[0]->n; j++) {
        const ftk_mat *of[2];
        for (int i = 0; i < 2; i++) {
            of[i] = j < w[i]->n ? w[i]->items[j].matrix : w[i]->head;
            assert_non_null(of[i]);
            t[i].multiply(t[i].ctx, of[i], ROWS, x, y[i]);
        }
        float top = 0;
        for (int k = 0; k < ROWS * of[0]->n_out; k++) top = fmaxf(top, fabsf(y[0][k]));
        for (int k = 0; k < ROWS * of[0]->n_out; k++)
            assert_true(fabsf(y[0][k] - y[1][k]) <= 1e-2f * top);
    }
    for (int i = 0; i < 2; i++) ftk_engine_free(s[i].engine);
    ftk_model_free(m);
}

static const mm_shape small = {"small",
                               2,
                               128,
                               192,
                               4,
                               1,
                               32,
                               400,
                               .attn = FTK_TYPE_Q8_0,
                               .ffn = FTK_TYPE_Q8_0,
                               .ends = FTK_TYPE_Q8_0};

/* Tokens of a session by the drafter `ops`, NULL: none. */
static uint64_t drawn(ftk_engine *e, const ftk_sampling *how, const ftk_drafter_ops *ops,
                      ftk_test_reference *test, size_t n, int32_t *out)
{
    static const int32_t prompt[] = {7, 9, 11, 7, 9};
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "none";
    cfg.budget = 12;
    cfg.ignore_end = true;
    cfg.sampling = *how;
    ftk_session *s;
    assert_int_equal(ops ? ftk_session_open_with(&s, e, &cfg, ops, test)
                         : ftk_session_open(&s, e, &cfg),
                     FTK_OK);
    assert_int_equal(ftk_session_append(s, prompt, 5), FTK_OK);
    assert_int_equal(take(s, n, out + 5), n);
    memcpy(out, prompt, sizeof prompt);
    ftk_stats stats;
    ftk_session_get_stats(s, &stats);
    ftk_session_free(s);
    return stats.accepted;
}

/* Tokens that are drawn on the device, or, with a penalty, of its logits on the host, are the
 * same with drafts; and a setting does something. */
static void test_drawn(void **state)
{
    (void)state;
    enum { N = 14 };
    static const ftk_sampling ways[] = {
        {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1, .repeat_last = 64, .seed = 1},
        {.temperature = 0.9f, .top_p = 1, .top_k = 9, .repeat_penalty = 1, .seed = 1},
        {.temperature = 0.9f, .top_p = 0.5f, .repeat_penalty = 1, .seed = 1},
        {.temperature = 0.9f, .top_p = 1, .min_p = 0.3f, .repeat_penalty = 1, .seed = 1},
        {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1.5f, .repeat_last = 64, .seed = 1},
        {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1, .repeat_last = 64, .seed = 2},
        {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1, .presence_penalty = 2, .seed = 1},
        {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1, .frequency_penalty = -2, .seed = 1},
    };
    enum { WAYS = sizeof ways / sizeof *ways };
    ftk_model *m = mm_open(&small, "ref");
    ftk_engine *e;
    assert_int_equal(open_on(&e, m, "cuda", FTK_TYPE_F16), FTK_OK);
    int32_t plain[WAYS][5 + N], drafted[5 + N];
    for (int i = 0; i < WAYS; i++) {
        drawn(e, &ways[i], NULL, NULL, N, plain[i]);
        for (int j = 0; j < i; j++) assert_memory_not_equal(plain[i], plain[j], sizeof plain[i]);
        ftk_test_reference truth = {plain[i], 5 + N};
        assert_true(drawn(e, &ways[i], &ftk_drafter_right, &truth, N, drafted) > N / 2);
        assert_memory_equal(plain[i], drafted, sizeof drafted);
        drawn(e, &ways[i], &ftk_drafter_wrong, &truth, N, drafted);
        assert_memory_equal(plain[i], drafted, sizeof drafted);
        drawn(e, &ways[i], &ftk_drafter_jacobi, NULL, N, drafted);
        assert_memory_equal(plain[i], drafted, sizeof drafted);
    }
    ftk_engine_free(e);
    mm_free(m);
}

/* Log-probabilities, and a bias, are of logits on the host: drafts change nothing, and the text
 * read as a prompt has the same. */
static void test_logprobs(void **state)
{
    (void)state;
    enum { N = 14, BEST = 3 };
    static const int32_t prompt[] = {7, 9, 11, 7, 9};
    const ftk_bias bias = {13, 2};
    ftk_model *m = mm_open(&small, "ref");
    ftk_engine *e;
    assert_int_equal(open_on(&e, m, "cuda", FTK_TYPE_F16), FTK_OK);
    int32_t said[2][5 + N];
    ftk_session *s[3];
    ftk_test_reference truth = {said[0], 5 + N};
    for (int i = 0; i < 3; i++) {
        ftk_session_config cfg;
        ftk_session_config_init(&cfg);
        cfg.budget = 12;
        cfg.ignore_end = true;
        cfg.sampling.temperature = 0.9f;
        assert_int_equal(
            ftk_session_open_with(&s[i], e, &cfg, i == 1 ? &ftk_drafter_right : NULL, &truth),
            FTK_OK);
        assert_int_equal(ftk_session_set_bias(s[i], &bias, 1), FTK_OK);
        assert_int_equal(ftk_session_set_logprobs(s[i], BEST, true), FTK_OK);
        assert_int_equal(ftk_session_append(s[i], i < 2 ? prompt : said[0], i < 2 ? 5 : 5 + N),
                         FTK_OK);
        if (i < 2) memcpy(said[i], prompt, sizeof prompt);
        assert_int_equal(take(s[i], i < 2 ? N : 0, said[i % 2] + 5), i < 2 ? N : 0);
    }
    assert_memory_equal(said[0], said[1], sizeof said[0]);
    for (size_t i = 1; i < 5 + N; i++) {
        float own[3];
        const ftk_logprob *best[3];
        for (int j = 0; j < 3; j++) assert_true(ftk_session_logprobs(s[j], i, &own[j], &best[j]));
        for (int j = 1; j < 3; j++) {
            assert_true(own[j] == own[0]);
            assert_memory_equal(best[j], best[0], BEST * sizeof *best[0]);
        }
    }
    for (int i = 0; i < 3; i++) ftk_session_free(s[i]);
    ftk_engine_free(e);
    mm_free(m);
}

/* A long prompt read in a wide piece: drafts change nothing, and neither does a session beside
 * it. */
static void test_wide(void **state)
{
    (void)state;
    enum { PROMPT = 530, N = 4 };
    ftk_model *m = mm_open(&small, "ref");
    ftk_engine *e;
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = 1;
    cfg.kv_slots = 2048;
    cfg.measure = false;
    cfg.device = "cuda";
    cfg.wide_prefill = true;
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_OK);
    int32_t prompt[PROMPT], got[2][N];
    for (int i = 0; i < PROMPT; i++) prompt[i] = 300 + i * 7 % 40;
    ftk_session *s[2];
    for (int i = 0; i < 2; i++) {
        ftk_session_config sc;
        ftk_session_config_init(&sc);
        sc.drafter = i ? "lookup" : "none";
        sc.budget = 12;
        sc.ignore_end = true;
        assert_int_equal(ftk_session_open(&s[i], e, &sc), FTK_OK);
        assert_int_equal(ftk_session_append(s[i], prompt, PROMPT), FTK_OK);
    }
    assert_int_equal(take(s[0], N, got[0]), N);
    assert_int_equal(ftk_session_truncate(s[0], 20), FTK_OK);
    ftk_result r[2];
    for (size_t n = 0; n < N;) {
        assert_int_equal(ftk_step(s, 2, r), FTK_OK);
        for (size_t i = 0; i < r[1].n_tokens && n < N; i++) got[1][n++] = r[1].tokens[i];
    }
    ftk_stats stats;
    ftk_session_get_stats(s[1], &stats);
    assert_int_equal(stats.prompt, PROMPT);
    assert_memory_equal(got[0], got[1], sizeof got[0]);
    for (int i = 0; i < 2; i++) ftk_session_free(s[i]);
    ftk_engine_free(e);
    mm_free(m);
}

static void test_refusals(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    ftk_engine *e;
    assert_int_equal(open_on(&e, m, "cuda:5", FTK_TYPE_F16), FTK_ERR_DEVICE);
    assert_null(e);
    assert_string_equal(last_line, "device cuda:5: there is no device 5, only 0");
    assert_int_equal(open_on(&e, m, "gpu", FTK_TYPE_F16), FTK_ERR_INVALID);
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.kv_slots = 1 << 19; /* more than the emulated device has memory for */
    cfg.kv_type = FTK_TYPE_F32;
    cfg.measure = false;
    cfg.device = "cuda";
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_ERR_NOMEM);
    assert_non_null(strstr(last_line, "MiB are missing"));
    cfg.device = "auto";
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_OK);
    assert_string_equal(ftk_engine_device(e), "cpu");
    assert_non_null(strstr(last_line, "the CPU is used"));
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* ---- DASH */

static ftk_engine *with_dash(const ftk_model *m, const char *device, dash_kind kind)
{
    ftk_engine *e;
    char path[] = "dash-XXXXXX";
    close(mkstemp(path));
    write_dash(path, m, kind);
    assert_int_equal(open_on(&e, m, device, FTK_TYPE_F16), FTK_OK);
    assert_int_equal(ftk_engine_add_drafter(e, path), FTK_OK);
    assert_true(ftk_engine_has_drafter(e, "dash") && ftk_engine_has_drafter(e, "dash-direct"));
    unlink(path);
    return e;
}

static ftk_session *open_dash(ftk_engine *e, const ftk_drafter_ops *ops, ftk_dash_parts *parts,
                              const ftk_sampling *how, int budget)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.budget = budget;
    cfg.ignore_end = true;
    if (how) cfg.sampling = *how;
    ftk_session *s;
    assert_int_equal(ftk_session_open_with(&s, e, &cfg, ops, parts), FTK_OK);
    int32_t tokens[64];
    size_t n;
    assert_int_equal(ftk_tokenize(e->model, text, 24, FTK_TOK_BOS, tokens, 64, &n), FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, n), FTK_OK);
    return s;
}

/* Drafts by a policy of random numbers change no token, greedy, drawn and of logits on the host;
 * and the actions that rows took are the CPU's, nearly always. */
static void test_dash(void **state)
{
    (void)state;
    enum { N = 8 };
    static const ftk_sampling ways[] = {
        {.top_p = 1, .repeat_penalty = 1},
        {.temperature = 0.9f, .top_p = 0.9f, .repeat_penalty = 1, .seed = 3},
        {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1.3f, .repeat_last = 64, .seed = 3},
    };
    NEED(DEMO);
    ftk_model *m = load();
    ftk_engine *e = with_dash(m, "cuda", DASH_RANDOM);
    uint64_t taken[FTK_ACTIONS] = {0};
    for (int i = 0; i < 3; i++) {
        int32_t want[N], got[N];
        ftk_session *s = open_dash(e, NULL, NULL, &ways[i], 0);
        assert_int_equal(take(s, N, want), N);
        ftk_session_free(s);
        ftk_dash_parts parts = {.without = FTK_ROWS_ALWAYS, .taken = taken};
        s = open_dash(e, &ftk_drafter_dash, &parts, &ways[i], 6);
        assert_int_equal(take(s, N, got), N);
        assert_memory_equal(got, want, sizeof want);
        ftk_stats st;
        ftk_session_get_stats(s, &st);
        assert_true(st.drafted > 0);
        ftk_session_free(s);
    }
    for (int a = 0; a < FTK_ACTIONS; a++) assert_true(taken[a] > 0);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* dash-direct: its tokens are the CPU's; with nothing left out they are plain decoding's, drawn
 * ones and those of logits on the host too; and another drafter takes over. */
static void test_dash_direct(void **state)
{
    (void)state;
    enum { N = 8 };
    static const ftk_sampling drawn_ways[] = {
        {.top_p = 1, .repeat_penalty = 1},
        {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1, .seed = 3},
        {.temperature = 0.9f, .top_p = 1, .repeat_penalty = 1.3f, .repeat_last = 64, .seed = 3}};
    NEED(DEMO);
    ftk_model *m = load();
    int32_t want[N], got[N];
    uint64_t taken[2][FTK_ACTIONS] = {{0}};
    ftk_engine *e[2] = {with_dash(m, "cpu", DASH_RANDOM), with_dash(m, "cuda", DASH_RANDOM)};
    for (int i = 0; i < 2; i++) {
        ftk_dash_parts parts = {.taken = taken[i]};
        ftk_session *s = open_dash(e[i], &ftk_drafter_dash_direct, &parts, NULL, -1);
        assert_int_equal(take(s, N, i ? got : want), N);
        ftk_session_free(s);
    }
    assert_memory_equal(got, want, sizeof want);
    assert_memory_equal(taken[0], taken[1], sizeof taken[0]);
    for (int i = 0; i < 2; i++) ftk_engine_free(e[i]);

    ftk_engine *full = with_dash(m, "cuda", DASH_ALL_FULL);
    for (int i = 0; i < 3; i++) {
        ftk_session *s = open_dash(full, NULL, NULL, &drawn_ways[i], 0);
        assert_int_equal(take(s, N, want), N);
        ftk_session_free(s);
        s = open_dash(full, &ftk_drafter_dash_direct, NULL, &drawn_ways[i], -1);
        assert_int_equal(take(s, N / 2, got), N / 2);
        assert_int_equal(ftk_session_set_drafter(s, "dash"), FTK_OK);
        assert_int_equal(take(s, N - N / 2, got + N / 2), N - N / 2);
        assert_memory_equal(got, want, sizeof want);
        ftk_session_free(s);
    }
    ftk_engine_free(full);
    ftk_model_free(m);
}

/* What DASH takes of the device's memory: that it is missing is one line, after which all else
 * works. */
static void test_dash_room(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    ftk_engine *e;
    char path[] = "dash-XXXXXX";
    close(mkstemp(path));
    write_dash(path, m, DASH_RANDOM);
    assert_int_equal(open_on(&e, m, "cuda", FTK_TYPE_F16), FTK_OK);
    ftk_queue *const q = &ftk_gpu_of(e->device)->q;
    q->limit = 4096;
    assert_int_equal(ftk_engine_add_drafter(e, path), FTK_ERR_NOMEM);
    assert_non_null(strstr(last_line,
                           "cuda:0 emulated has no 1 MiB left for a policy: use a smaller "
                           "context or the CPU"));
    assert_int_equal(n_lines, 1);
    assert_false(ftk_engine_has_drafter(e, "dash"));
    q->limit = 0;
    assert_int_equal(ftk_engine_add_drafter(e, path), FTK_OK);
    unlink(path);

    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "dash";
    ftk_session *s;
    n_lines = 0;
    q->limit = 1 << 20;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_ERR_NOMEM);
    assert_string_equal(last_line,
                        "drafter dash: cuda:0 emulated has no 6 MiB left for the layers in "
                        "few bits: use a smaller context or the CPU");
    assert_int_equal(n_lines, 1);
    q->limit = 0;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    assert_int_equal(n_lines, 1);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* A device that fails while a draft is run, or a row whose token is emitted. */
static void test_dash_trouble(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    for (int i = 0; i < 2; i++) {
        ftk_engine *e = with_dash(m, "cuda", DASH_RANDOM);
        ftk_dash_parts parts = {.without = FTK_ROWS_ALWAYS};
        ftk_session *s =
            open_dash(e, i ? &ftk_drafter_dash_direct : &ftk_drafter_dash, &parts, NULL, 6);
        int32_t got[4];
        assert_int_equal(take(s, 4, got), 4);
        ftk_session_limit(s, 10);
        ftk_gpu_of(e->device)->q.error = 1;
        ftk_result r;
        n_lines = 0;
        assert_int_equal(ftk_step(&s, 1, &r), FTK_ERR_DEVICE);
        assert_string_equal(last_line, "cuda:0 emulated failed: the emulated GPU failed");
        assert_int_equal(n_lines, 1);
        ftk_session_free(s);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

static ftk_model *load_adapted(const char *path, const ftk_adapter *adapters, size_t n)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = print_log;
    cfg.adapters = adapters;
    cfg.n_adapters = n;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, path, &cfg), FTK_OK);
    return m;
}

/* A device gets the weights with the adapter, also where the CPU has packed its own. */
static void test_adapter(void **state)
{
    (void)state;
    NEED(DEMO);
    char adapter[] = "adapter-XXXXXX", merged[] = "merged-XXXXXX";
    close(mkstemp(adapter));
    close(mkstemp(merged));
    assert_true(lf_write(adapter, DEMO,
                         &(lf_adapter){.rank = 4, .alpha = 8, .seed = 1, .type = FTK_TYPE_F16}));
    const ftk_adapter a = {adapter, 1};
    assert_true(lf_merge(merged, DEMO, &a, 1, false));
    double nats[3];
    for (int i = 0; i < 3; i++) {
        ftk_model *m = load_adapted(i == 1 ? merged : DEMO, &a, i == 0);
        ftk_engine *e;
        assert_int_equal(open_on(&e, m, "cuda", FTK_TYPE_F16), FTK_OK);
        nats[i] = score(e, m);
        ftk_engine_free(e);
        ftk_model_free(m);
    }
    assert_true(nats[0] == nats[1]);
    assert_true(fabs(nats[0] - nats[2]) > 1e-3);
    unlink(adapter);
    unlink(merged);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest sample[] = {
        cmocka_unit_test(test_loop),
        cmocka_unit_test(test_held),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_trouble),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_logprobs),
    };
    const struct CMUnitTest rest[] = {
        cmocka_unit_test(test_adapter),
        cmocka_unit_test(test_small_cache),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_whole_drafts),
        cmocka_unit_test(test_drawn),
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_dash),
        cmocka_unit_test(test_dash_direct),
        cmocka_unit_test(test_dash_room),
        cmocka_unit_test(test_dash_trouble),
    };
    return RUN_SAMPLE(argc, argv, sample, rest);
}
