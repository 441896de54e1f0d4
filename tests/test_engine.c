/* SPDX-License-Identifier: Apache-2.0
 * Sessions and the loop: forks, truncation, batches, limits, the context's end, never slower. */
#include "support.h"

#include <limits.h>
#include <math.h>

#include "engine/session.h"
#include "testkit/test_drafters_ops.h"

static ftk_model *model;

/* The demo model; where it is not there yet, the stories. */
static const char *any_model(void)
{
    return access(DEMO, R_OK) == 0 ? DEMO : STORIES "stories260K-f32.gguf";
}

static int open_model(void **state)
{
    (void)state;
    if (access(any_model(), R_OK) == 0) model = load_model(any_model());
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    ftk_model_free(model);
    return 0;
}

static ftk_session *open_session(ftk_engine *e, const char *drafter, int budget, float temperature)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.budget = budget;
    cfg.ignore_end = true;
    cfg.sampling.temperature = temperature;
    cfg.sampling.seed = 7;
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    return s;
}

static size_t prompt_of(const char *text, int32_t *tokens)
{
    size_t n;
    assert_int_equal(ftk_tokenize(model, text, strlen(text), FTK_TOK_BOS, tokens, 256, &n), FTK_OK);
    return n;
}

static size_t start(ftk_session *s, const char *text)
{
    int32_t tokens[256];
    const size_t n = prompt_of(text, tokens);
    assert_int_equal(ftk_session_append(s, tokens, n), FTK_OK);
    return n;
}

static void plain(const char *text, float temperature, size_t n, int32_t *out)
{
    ftk_engine *e = open_engine(model, 1, 512, FTK_TYPE_F16);
    ftk_session *s = open_session(e, "none", -1, temperature);
    start(s, text);
    assert_int_equal(take(s, n, out), n);
    ftk_session_free(s);
    ftk_engine_free(e);
}

/* ---- exactness */

static void test_batch_equals_alone(void **state)
{
    (void)state;
    NEED(any_model());
    enum { N = 5, TOKENS = 40 };
    static const char *const text[N] = {"Once upon a time", "The king", "A dog and a cat went",
                                        "Tell me", "There was a little girl who"};
    static const char *const drafter[N] = {"none", "jacobi", "lookup", "auto", "jacobi"};
    ftk_engine *e = open_engine(model, 2, 1024, FTK_TYPE_F16);
    ftk_session *s[N];
    int32_t out[N][TOKENS + FTK_MAX_NODES], want[TOKENS];
    size_t got[N] = {0};
    for (int i = 0; i < N; i++) {
        s[i] = open_session(e, drafter[i], i == 0 ? -1 : 20, i % 2 ? 0.8f : 0);
        start(s[i], text[i]);
        ftk_session_limit(s[i], TOKENS);
    }
    for (bool running = true; running;) {
        ftk_result r[N];
        assert_int_equal(ftk_step(s, N, r), FTK_OK);
        running = false;
        for (int i = 0; i < N; i++) {
            memcpy(out[i] + got[i], r[i].tokens, r[i].n_tokens * sizeof(int32_t));
            got[i] += r[i].n_tokens;
            running |= r[i].finish == FTK_FINISH_NONE;
        }
    }
    for (int i = 0; i < N; i++) {
        plain(text[i], i % 2 ? 0.8f : 0, TOKENS, want);
        assert_int_equal(got[i], TOKENS);
        assert_memory_equal(out[i], want, sizeof want);
        ftk_session_free(s[i]);
    }
    ftk_engine_free(e);
}

static void test_kv_types(void **state)
{
    (void)state;
    NEED(any_model());
    enum { TOKENS = 64 };
    static const ftk_type types[] = {FTK_TYPE_F32, FTK_TYPE_Q8_0};
    static const char *const drafters[] = {"none", "jacobi", "lookup"};
    ftk_model_info info;
    ftk_model_get_info(model, &info);
    for (int t = 0; t < 2; t++) {
        if (types[t] == FTK_TYPE_Q8_0 && info.head_dim % 32 != 0) {
            ftk_engine_config cfg;
            ftk_engine_config_init(&cfg);
            cfg.kv_type = FTK_TYPE_Q8_0;
            ftk_engine *none;
            assert_int_equal(ftk_engine_open(&none, model, &cfg), FTK_ERR_UNSUPPORTED);
            continue;
        }
        int32_t out[3][TOKENS + FTK_MAX_NODES];
        for (int d = 0; d < 3; d++) {
            ftk_engine *e = open_engine(model, 1 + d % 2, 512, types[t]);
            ftk_session *s = open_session(e, drafters[d], 20, 0.8f);
            start(s, "Once upon a time");
            assert_int_equal(take(s, TOKENS, out[d]), TOKENS);
            assert_memory_equal(out[d], out[0], TOKENS * sizeof **out);
            ftk_session_free(s);
            ftk_engine_free(e);
        }
    }
}

static void test_always_right_and_wrong(void **state)
{
    (void)state;
    NEED(any_model());
    enum { TOKENS = 64 };
    int32_t whole[256 + TOKENS], out[TOKENS + FTK_MAX_NODES];
    const size_t n = prompt_of("Once upon a time", whole);
    plain("Once upon a time", 0.8f, TOKENS, whole + n);
    ftk_test_reference truth = {whole, n + TOKENS};
    const ftk_drafter_ops *const ops[] = {&ftk_drafter_right, &ftk_drafter_wrong};
    for (int i = 0; i < 2; i++) {
        ftk_engine *e = open_engine(model, 2, 512, FTK_TYPE_F16);
        ftk_session_config cfg;
        ftk_session_config_init(&cfg);
        cfg.budget = 15;
        cfg.ignore_end = true;
        cfg.sampling.temperature = 0.8f;
        cfg.sampling.seed = 7;
        ftk_session *s;
        assert_int_equal(ftk_session_open_with(&s, e, &cfg, ops[i], &truth), FTK_OK);
        assert_int_equal(ftk_session_append(s, whole, n), FTK_OK);
        assert_int_equal(take(s, TOKENS, out), TOKENS);
        assert_memory_equal(out, whole + n, TOKENS * sizeof *out);
        ftk_stats stats;
        ftk_session_get_stats(s, &stats);
        if (i == 0)
            assert_in_range(stats.steps, 4, 6); /* 16 tokens a step */
        else
            assert_int_equal(stats.accepted, 0);
        const double pace = ftk_session_pace(s);
        assert_true(i == 0 ? pace > 1 : pace == 1);
        ftk_session_free(s);
        ftk_session *next = open_session(e, "lookup", 20, 0); /* begins where that one ended */
        assert_true(ftk_session_pace(next) == pace);
        ftk_session_free(next);
        ftk_engine_free(e);
    }
}

/* Greedy texts are plain decoding's with every verifier; sampled ones have as many tokens. */
static void test_verifiers(void **state)
{
    (void)state;
    NEED(any_model());
    enum { TOKENS = 48 };
    int32_t whole[256 + TOKENS], out[TOKENS];
    const size_t n = prompt_of("Once upon a time", whole);
    plain("Once upon a time", 0, TOKENS, whole + n);
    ftk_test_reference truth = {whole, n + TOKENS};
    static const ftk_drafter_ops *const ops[] = {&ftk_drafter_jacobi, &ftk_drafter_lookup,
                                                 &ftk_drafter_draws};
    ftk_engine *e = open_engine(model, 1, 512, FTK_TYPE_F16);
    for (const char *const *name = ftk_verifiers(); *name; name++)
        for (int i = 0; i < 6; i++) {
            ftk_session_config cfg;
            ftk_session_config_init(&cfg);
            cfg.verifier = *name;
            cfg.budget = 15;
            cfg.ignore_end = true;
            cfg.sampling.temperature = i < 3 ? 0 : 0.8f;
            cfg.sampling.top_p = 0.9f;
            cfg.sampling.repeat_penalty = i < 3 ? 1 : 1.1f;
            ftk_session *s;
            assert_int_equal(ftk_session_open_with(&s, e, &cfg, ops[i % 3], &truth), FTK_OK);
            assert_int_equal(ftk_session_append(s, whole, n), FTK_OK);
            assert_int_equal(take(s, TOKENS, out), TOKENS);
            if (i < 3) assert_memory_equal(out, whole + n, TOKENS * sizeof *out);
            ftk_stats stats;
            ftk_session_get_stats(s, &stats);
            assert_true(i >= 3 || stats.accepted > 0);
            ftk_session_free(s);
        }
    ftk_engine_free(e);
}

static void test_long_prompt_in_pieces(void **state)
{
    (void)state;
    NEED(any_model());
    int32_t prompt[300], a[20], b[20];
    const size_t n0 = prompt_of("Once upon a time there was a king who had a dog", prompt);
    for (size_t i = n0; i < 300; i++) prompt[i] = prompt[i - n0 + 1];
    ftk_engine *e = open_engine(model, 2, 512, FTK_TYPE_F16);
    ftk_session *whole = open_session(e, "none", -1, 0);
    assert_int_equal(ftk_session_append(whole, prompt, 300), FTK_OK);
    assert_int_equal(take(whole, 20, a), 20);
    ftk_session_free(whole);
    ftk_session *pieces = open_session(e, "jacobi", 30, 0);
    size_t at = 0;
    static const size_t piece[] = {1, 63, 64, 65, 2, 105};
    for (int i = 0; i < 6; i++) {
        int32_t none[1];
        assert_int_equal(ftk_session_append(pieces, prompt + at, piece[i]), FTK_OK);
        at += piece[i];
        if (at < 300) assert_int_equal(take(pieces, 0, none), 0); /* reads, says nothing */
    }
    assert_int_equal(take(pieces, 20, b), 20);
    assert_memory_equal(a, b, sizeof a);
    ftk_session_free(pieces);
    ftk_engine_free(e);
}

/* A step reads so much of a prompt and no more, of each session, whatever there is to read. */
static void test_a_step_is_bounded(void **state)
{
    (void)state;
    NEED(any_model());
    enum { LONG = 300, PIECE = 128, N = 3 };
    int32_t prompt[LONG];
    for (int i = 0; i < LONG; i++) prompt[i] = 3 + i % 200;
    ftk_engine *e = open_engine(model, 1, 1024, FTK_TYPE_F16);
    ftk_session *s[N];
    ftk_result r[N];
    for (int i = 0; i < N; i++) {
        s[i] = open_session(e, i ? "auto" : "none", -1, 0);
        assert_int_equal(ftk_session_append(s[i], prompt, LONG), FTK_OK);
    }
    for (uint64_t read = 0; read < LONG - 1;) {
        assert_int_equal(ftk_step(s, N, r), FTK_OK);
        read += LONG - read < PIECE ? LONG - read : PIECE;
        for (int i = 0; i < N; i++) {
            ftk_stats stats;
            ftk_session_get_stats(s[i], &stats);
            assert_int_equal(stats.prompt, read);
            assert_int_equal(r[i].n_tokens, read == LONG);
        }
    }
    for (int i = 0; i < N; i++) ftk_session_free(s[i]);
    ftk_engine_free(e);
}

static void test_fork_and_truncate(void **state)
{
    (void)state;
    NEED(any_model());
    int32_t a[40], b[40];
    ftk_engine *e = open_engine(model, 1, 512, FTK_TYPE_F16);
    ftk_session *s = open_session(e, "jacobi", 20, 0.8f);
    const size_t n = start(s, "Once upon a time");
    assert_int_equal(take(s, 30, a), 30);
    ftk_session *f;
    assert_int_equal(ftk_session_fork(&f, s, NULL), FTK_OK);
    assert_int_equal(take(s, 20, a), 20);
    assert_int_equal(take(f, 20, b), 20); /* after s wrote behind the shared slots */
    assert_memory_equal(a, b, 20 * sizeof *a);
    size_t len;
    ftk_session_tokens(f, &len);
    assert_int_equal(len, n + 50);
    assert_int_equal(ftk_session_truncate(f, len + 1), FTK_ERR_INVALID);
    assert_int_equal(ftk_session_truncate(f, n + 30), FTK_OK);
    assert_int_equal(take(f, 20, b), 20);
    assert_memory_equal(a, b, 20 * sizeof *a);
    assert_int_equal(ftk_session_truncate(f, 0), FTK_OK);
    start(f, "Once upon a time");
    assert_int_equal(take(f, 30, b), 30);
    plain("Once upon a time", 0.8f, 30, a);
    assert_memory_equal(a, b, 30 * sizeof *a);
    ftk_session_free(f);
    ftk_session_free(s);
    /* everything was given back */
    assert_int_equal(e->pool.n_free, e->pool.n_pages);
    ftk_engine_free(e);
}

/* A fork says what a session with its sampling would behind the same text; by another seed
 * something else, by the same one the same. */
static void test_fork_has_its_sampling(void **state)
{
    (void)state;
    NEED(any_model());
    enum { SHARED = 20, OWN = 30, FORKS = 4 };
    ftk_engine *e = open_engine(model, 1, 1024, FTK_TYPE_F16);
    ftk_session *s = open_session(e, "auto", -1, 0.8f), *f[FORKS];
    int32_t text[256 + SHARED], got[FORKS][OWN], want[OWN];
    size_t n = prompt_of("Once upon a time", text);
    start(s, "Once upon a time");
    assert_int_equal(take(s, SHARED, text + n), SHARED);
    n += SHARED;
    ftk_sampling other = {.temperature = 1.1f, .top_p = 0.9f, .repeat_penalty = 1};
    for (int i = 0; i < FORKS; i++) {
        other.seed = (uint64_t)i / 2; /* two of each */
        assert_int_equal(ftk_session_fork(&f[i], s, &other), FTK_OK);
        ftk_session_limit(f[i], OWN);
    }
    for (int i = 0; i < FORKS; i++) assert_int_equal(take(f[i], OWN, got[i]), OWN);
    assert_memory_equal(got[0], got[1], sizeof want);
    assert_memory_equal(got[2], got[3], sizeof want);
    assert_memory_not_equal(got[0], got[2], sizeof want);
    for (int i = 0; i < FORKS; i += 2) {
        ftk_session_config cfg;
        ftk_session_config_init(&cfg);
        cfg.drafter = "none";
        cfg.ignore_end = true;
        cfg.sampling = other;
        cfg.sampling.seed = (uint64_t)i / 2;
        ftk_session *fresh;
        assert_int_equal(ftk_session_open(&fresh, e, &cfg), FTK_OK);
        assert_int_equal(ftk_session_append(fresh, text, n), FTK_OK);
        assert_int_equal(take(fresh, OWN, want), OWN);
        assert_memory_equal(got[i], want, sizeof want);
        ftk_session_free(fresh);
    }
    other.temperature = -1;
    ftk_session *none = s;
    assert_int_equal(ftk_session_fork(&none, s, &other), FTK_ERR_INVALID);
    assert_null(none);
    for (int i = 0; i < FORKS; i++) ftk_session_free(f[i]);
    ftk_session_free(s);
    ftk_engine_free(e);
}

/* ---- ends */

static void test_context_end(void **state)
{
    (void)state;
    NEED(any_model());
    static const char *const drafters[] = {"none", "jacobi", "lookup"};
    for (int i = 0; i < 3; i++) {
        ftk_engine *e = open_engine(model, 1, 100, FTK_TYPE_F16);
        ftk_session *s = open_session(e, drafters[i], i ? 60 : -1, 0);
        const size_t n = start(s, "Once upon a time");
        int32_t out[200], want[200];
        const size_t got = take(s, 500, out);
        assert_int_equal(got, 100 - n);
        plain("Once upon a time", 0, got, want);
        assert_memory_equal(out, want, got * sizeof *out);
        ftk_result r;
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        assert_int_equal(r.finish, FTK_FINISH_CONTEXT);
        assert_int_equal(r.n_tokens, 0);
        const int32_t one = 1;
        assert_int_equal(ftk_session_append(s, &one, 1), FTK_ERR_CONTEXT);
        ftk_session_free(s);
        ftk_engine_free(e);
    }
}

static void test_cache_shared_by_too_many(void **state)
{
    (void)state;
    NEED(any_model());
    ftk_engine *e = open_engine(model, 1, 128, FTK_TYPE_F16);
    ftk_session *s[3];
    for (int i = 0; i < 3; i++) {
        s[i] = open_session(e, "none", -1, 0);
        start(s[i], "Once upon a time");
    }
    ftk_result r[3];
    assert_int_equal(ftk_step(s, 3, r), FTK_ERR_NO_ROOM); /* two pages, three sessions */
    assert_int_equal(r[0].err, FTK_OK);
    assert_int_equal(r[1].err, FTK_OK);
    assert_int_equal(r[2].err, FTK_ERR_NO_ROOM);
    ftk_session_free(s[0]);
    assert_int_equal(ftk_step(&s[2], 1, r), FTK_OK);
    assert_int_equal(r[0].n_tokens, 1);
    ftk_session_free(s[1]);
    ftk_session_free(s[2]);
    ftk_engine_free(e);
}

static void test_bad_calls(void **state)
{
    (void)state;
    NEED(any_model());
    ftk_engine *e = open_engine(model, 1, 128, FTK_TYPE_F16);
    ftk_session *s = open_session(e, "none", -1, 0);
    ftk_result r[2];
    assert_int_equal(ftk_step(&s, 1, r), FTK_ERR_INVALID); /* empty */
    const int32_t bad = 1 << 30, good = 1;
    assert_int_equal(ftk_session_append(s, &bad, 1), FTK_ERR_INVALID);
    assert_int_equal(ftk_session_append(s, &good, 1), FTK_OK);
    ftk_session *twice[2] = {s, s};
    assert_int_equal(ftk_step(twice, 2, r), FTK_ERR_INVALID);
    assert_int_equal(ftk_session_set_drafter(s, "psychic"), FTK_ERR_INVALID);
    assert_int_equal(ftk_session_set_drafter(s, "lookup"), FTK_OK);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    ftk_session *t;
    cfg.verifier = "none";
    assert_int_equal(ftk_session_open(&t, e, &cfg), FTK_ERR_INVALID);
    ftk_session_config_init(&cfg);
    cfg.sampling.temperature = -1;
    assert_int_equal(ftk_session_open(&t, e, &cfg), FTK_ERR_INVALID);
    cfg.sampling.temperature = 0;
    cfg.n_ctx = 129;
    assert_int_equal(ftk_session_open(&t, e, &cfg), FTK_ERR_INVALID);
    cfg.n_ctx = 0;
    cfg.budget = 128;
    assert_int_equal(ftk_session_open(&t, e, &cfg), FTK_ERR_INVALID);
    ftk_session_free(s);
    ftk_engine_free(e);
}

/* ---- score */

static void test_score_is_what_steps_say(void **state)
{
    (void)state;
    NEED(any_model());
    int32_t tokens[200];
    const size_t n = prompt_of("Once upon a time there was a king", tokens);
    plain("Once upon a time there was a king", 0, 200 - n, tokens + n);
    ftk_engine *e = open_engine(model, 1, 256, FTK_TYPE_F16);
    double greedy, shuffled;
    assert_int_equal(ftk_score(e, tokens, 200, &greedy), FTK_OK);
    for (size_t i = n; i < 200; i++) tokens[i] = (int32_t)(3 + (i * 7919) % 400);
    assert_int_equal(ftk_score(e, tokens, 200, &shuffled), FTK_OK);
    assert_true(greedy < 0 && shuffled < greedy - 100);
    assert_int_equal(ftk_score(e, tokens, 0, &greedy), FTK_ERR_INVALID);
    assert_int_equal(ftk_score(e, tokens, 1, &greedy), FTK_OK);
    assert_true(greedy == 0);
    assert_int_equal(e->pool.n_free, e->pool.n_pages);
    ftk_engine_free(e);
}

/* All of them, or the last ones, over several passes; their sum is the score. */
static void test_logits_are_what_score_sums(void **state)
{
    (void)state;
    NEED(any_model());
    enum { N = 150 };
    int32_t tokens[N];
    ftk_engine *e = open_engine(model, 1, 256, FTK_TYPE_F16);
    const size_t n_vocab = (size_t)model->hp.n_vocab;
    float *all = malloc(N * n_vocab * sizeof *all), *last = malloc(2 * n_vocab * sizeof *last);
    for (int i = 0; i < N; i++) tokens[i] = 3 + (i * 7919) % 400;
    double score, sum = 0;
    assert_int_equal(ftk_score(e, tokens, N, &score), FTK_OK);
    assert_int_equal(ftk_logits(e, tokens, N, 0, all), FTK_OK);
    for (size_t i = 0; i + 1 < N; i++) {
        const ftk_softmax of = ftk_softmax_of(all + i * n_vocab, (int)n_vocab);
        sum += ftk_softmax_log(&of, all[i * n_vocab + (size_t)tokens[i + 1]]);
    }
    assert_true(sum == score);
    assert_int_equal(ftk_logits(e, tokens, N, N - 2, last), FTK_OK);
    assert_memory_equal(last, all + (N - 2) * n_vocab, 2 * n_vocab * sizeof *last);
    assert_int_equal(ftk_logits(e, tokens, N, N, last), FTK_OK);
    assert_int_equal(ftk_logits(e, tokens, N, N + 1, last), FTK_ERR_INVALID);
    assert_int_equal(ftk_logits(e, tokens, 257, 256, last), FTK_ERR_INVALID);
    tokens[1] = model->hp.n_vocab;
    assert_int_equal(ftk_logits(e, tokens, N, N - 1, last), FTK_ERR_INVALID);
    assert_int_equal(e->pool.n_free, e->pool.n_pages);
    free(all);
    free(last);
    ftk_engine_free(e);
}

/* ---- never slower */

static void test_wrong_drafts_are_switched_off(void **state)
{
    (void)state;
    NEED(any_model());
    int32_t whole[512], out[512];
    const size_t n = prompt_of("Once upon a time", whole);
    plain("Once upon a time", 0, 300, whole + n);
    ftk_test_reference truth = {whole, n + 300};
    ftk_engine *e = open_engine(model, 1, 512, FTK_TYPE_F16);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.ignore_end = true;
    ftk_session *s;
    assert_int_equal(ftk_session_open_with(&s, e, &cfg, &ftk_drafter_wrong, &truth), FTK_OK);
    assert_int_equal(ftk_session_append(s, whole, n), FTK_OK);
    for (size_t got = 0; got < 300;) {
        for (int i = 0; i < FTK_COST_POINTS; i++)
            e->cost.seconds[i] = 1e-3 * (1 << i); /* every row costs a whole pass */
        ftk_result r;
        ftk_session_limit(s, 300 - got);
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        memcpy(out + got, r.tokens, r.n_tokens * sizeof *out);
        got += r.n_tokens;
    }
    assert_memory_equal(out, whole + n, 300 * sizeof *out);
    ftk_stats stats;
    ftk_session_get_stats(s, &stats);
    assert_true(stats.drafted <= 300 / 64 * 4 + 8); /* probes only */
    ftk_session_free(s);
    ftk_engine_free(e);
}

/* Where all passes are taken to cost the same, every step drafts; plain ones are timed now and
 * then all the same, and so it shows what they cost. */
static void test_plain_steps_are_timed(void **state)
{
    (void)state;
    NEED(any_model());
    enum { TOKENS = 400 };
    const double wrong = 0.1; /* seconds */
    int32_t whole[256 + TOKENS], out[TOKENS];
    const size_t n = prompt_of("Once upon a time", whole);
    plain("Once upon a time", 0, TOKENS, whole + n);
    ftk_test_reference truth = {whole, n + TOKENS};
    ftk_engine *e = open_engine(model, 1, 512, FTK_TYPE_F16);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.ignore_end = true;
    ftk_session *s;
    assert_int_equal(ftk_session_open_with(&s, e, &cfg, &ftk_drafter_right, &truth), FTK_OK);
    assert_int_equal(ftk_session_append(s, whole, n), FTK_OK);
    for (int i = 0; i < FTK_COST_POINTS; i++) e->cost.seconds[i] = wrong;
    e->credit = 16;
    int drafts = 0, steps = 0;
    for (size_t got = 0; got < TOKENS; steps++) {
        ftk_result r;
        ftk_session_limit(s, got + 3 < TOKENS ? 3 : TOKENS - got);
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        memcpy(out + got, r.tokens, r.n_tokens * sizeof *out);
        got += r.n_tokens;
        drafts += r.drafted > 0;
    }
    assert_memory_equal(out, whole + n, sizeof out);
    assert_true(drafts > steps / 4 && drafts < steps - 3);
    assert_true(e->cost.seconds[0] < 0.5 * wrong);
    ftk_session_free(s);
    ftk_engine_free(e);
}

static void test_vocabulary_only(void **state)
{
    (void)state;
    NEED(any_model());
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.vocabulary_only = true;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, any_model(), &cfg), FTK_OK);
    ftk_model_info whole, info;
    ftk_model_get_info(model, &whole);
    ftk_model_get_info(m, &info);
    assert_string_equal(info.architecture, "");
    assert_int_equal(info.n_vocab, whole.n_vocab);
    assert_int_equal(info.n_params, 0);
    int32_t a[64], b[64];
    size_t n_a, n_b;
    assert_int_equal(ftk_tokenize(model, "the king", 8, 0, a, 64, &n_a), FTK_OK);
    assert_int_equal(ftk_tokenize(m, "the king", 8, 0, b, 64, &n_b), FTK_OK);
    assert_int_equal(n_a, n_b);
    assert_memory_equal(a, b, n_a * sizeof *a);
    ftk_engine_config ec;
    ftk_engine_config_init(&ec);
    ftk_engine *e;
    assert_int_equal(ftk_engine_open(&e, m, &ec), FTK_ERR_INVALID);
    ftk_model_free(m);
}

enum { BOUNDED = 300 };

/* Answers with a drafter whose rows cost a tenth of a pass each; returns the plain steps that
 * its drafts lost or, negative, gained. */
static double lost_by(ftk_engine *e, const ftk_drafter_ops *drafter,
                      const ftk_test_reference *truth, size_t n_prompt)
{
    int32_t out[BOUNDED];
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.ignore_end = true;
    ftk_session *s;
    assert_int_equal(ftk_session_open_with(&s, e, &cfg, drafter, (void *)truth), FTK_OK);
    assert_int_equal(ftk_session_append(s, truth->tokens, n_prompt), FTK_OK);
    double lost = 0;
    int drafts = 0;
    for (size_t got = 0; got < BOUNDED;) {
        for (int i = 0; i < FTK_COST_POINTS; i++)
            e->cost.seconds[i] = 1e-3 * (0.9 + 0.1 * (1 << i));
        e->next_plain = INT_MAX; /* what passes take is not looked at */
        ftk_result r;
        ftk_session_limit(s, BOUNDED - got);
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        memcpy(out + got, r.tokens, r.n_tokens * sizeof *out);
        got += r.n_tokens;
        lost += 0.1 * r.drafted - r.accepted;
        drafts += r.drafted > 0;
    }
    assert_memory_equal(out, truth->tokens + n_prompt, sizeof out);
    assert_true(drafts > 0);
    ftk_session_free(s);
    return lost;
}

/* Guesses that look good, cost little and are always wrong: the estimates never learn, the
 * credit still holds, over all sessions of an engine together. The costs drift a little within a
 * step, from those above to the true ones. */
static void test_losses_are_bounded(void **state)
{
    (void)state;
    NEED(any_model());
    int32_t whole[512];
    const size_t n = prompt_of("Once upon a time", whole);
    plain("Once upon a time", 0, BOUNDED, whole + n);
    ftk_test_reference truth = {whole, n + BOUNDED};
    ftk_engine *e = open_engine(model, 1, 512, FTK_TYPE_F16);
    assert_true(e->credit == FTK_CREDIT);
    double lost = 0;
    for (int session = 1; session <= 3; session++) {
        lost += lost_by(e, &ftk_drafter_wrong, &truth, n);
        assert_true(lost <= 1.25 * (FTK_CREDIT + 0.02 * BOUNDED * session) + 0.1);
    }
    /* What drafts gained may be lost again, by another session, but no more. */
    const double gained = -lost_by(e, &ftk_drafter_right, &truth, n);
    assert_true(gained > 200 && e->credit > 3);
    lost = lost_by(e, &ftk_drafter_wrong, &truth, n);
    assert_true(lost > 3 && lost < 0.1 * gained);
    ftk_engine_free(e);
}

/* Seconds of so many rows, where those beyond 8 are dear, so that 8 give the most tokens a second,
 * or cost what those below do. */
static double row_seconds(int rows, bool dear)
{
    return dear && rows > 8 ? 1.7e-3 * pow(rows / 8.0, 1.2) : 1e-3 * (0.9 + 0.1 * rows);
}

typedef struct row_clock {
    double now;
    bool dear;
} row_clock;

static double row_clock_now(void *ctx)
{
    return ((row_clock *)ctx)->now;
}

static void row_clock_pass(void *ctx, double layers, int rows, double slot_rows, int n_logits)
{
    (void)layers, (void)slot_rows, (void)n_logits;
    row_clock *const c = ctx;
    c->now += row_seconds(rows, c->dear);
}

static void row_clock_product(void *ctx, int n_out, int n_in, int rows)
{
    (void)ctx, (void)n_out, (void)n_in, (void)rows;
}

/* The most nodes that are drafted where rows beyond 8 are thought to be dear; *next: passes from
 * one try at 16 to the next, at last. */
static int widest_draft(const ftk_test_reference *truth, size_t n_prompt, bool dear, int *next)
{
    enum { SOON = 4 };
    row_clock ticks = {0, dear};
    const ftk_clock clock = {row_clock_now, row_clock_pass, row_clock_product, &ticks};
    ftk_engine_config ec;
    ftk_engine_config_init(&ec);
    ec.threads = 1;
    ec.kv_slots = 512;
    ftk_engine *e;
    assert_int_equal(ftk_engine_open_by(&e, model, &ec, &clock), FTK_OK);
    for (int i = 0; i < FTK_COST_POINTS; i++) {
        e->cost.seconds[i] = row_seconds(1 << i, true);
        e->next_width[i] = SOON;
    }
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.ignore_end = true;
    ftk_session *s;
    assert_int_equal(ftk_session_open_with(&s, e, &cfg, &ftk_drafter_right, (void *)truth), FTK_OK);
    assert_int_equal(ftk_session_append(s, truth->tokens, n_prompt), FTK_OK);
    int most = 0;
    for (size_t got = 0; got < BOUNDED;) {
        ftk_result r;
        ftk_session_limit(s, BOUNDED - got);
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        got += r.n_tokens;
        most = r.drafted > most ? r.drafted : most;
    }
    *next = e->next_width[4];
    ftk_session_free(s);
    ftk_engine_free(e);
    return most;
}

/* A width that was measured too dear, so that none is drafted, is tried all the same; where it is
 * that dear, less and less often. */
static void test_wider_is_tried(void **state)
{
    (void)state;
    NEED(any_model());
    int32_t whole[512];
    int next;
    const size_t n = prompt_of("Once upon a time", whole);
    plain("Once upon a time", 0, BOUNDED, whole + n);
    const ftk_test_reference truth = {whole, n + BOUNDED};
    assert_true(widest_draft(&truth, n, false, &next) > 16);
    assert_true(widest_draft(&truth, n, true, &next) == 15 && next > 4);
}

/* A try that a mask cut narrower is followed by as long a wait as any other, and tells nothing of
 * the width; a width that is never run is counted no further than is asked. */
static void test_cut_tries_wait(void **state)
{
    (void)state;
    NEED(any_model());
    ftk_engine *e = open_engine(model, 1, 64, FTK_TYPE_F16);
    e->widened = 4;
    e->since_width[4] = FTK_FIRST_WIDER;
    e->since_width[7] = INT_MAX;
    ftk_size_saw_pass(e, ftk_width_of(9, 0), false, 1e-3);
    assert_int_equal(e->since_width[4], 0);
    assert_int_equal(e->next_width[4], FTK_FIRST_WIDER);
    assert_int_equal(e->widened, 0);
    assert_int_equal(e->since_width[3], 0);
    assert_true(e->since_width[7] == INT_MAX);
    ftk_engine_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wider_is_tried),
        cmocka_unit_test(test_cut_tries_wait),
        cmocka_unit_test(test_batch_equals_alone),
        cmocka_unit_test(test_kv_types),
        cmocka_unit_test(test_always_right_and_wrong),
        cmocka_unit_test(test_verifiers),
        cmocka_unit_test(test_long_prompt_in_pieces),
        cmocka_unit_test(test_a_step_is_bounded),
        cmocka_unit_test(test_fork_and_truncate),
        cmocka_unit_test(test_context_end),
        cmocka_unit_test(test_cache_shared_by_too_many),
        cmocka_unit_test(test_fork_has_its_sampling),
        cmocka_unit_test(test_bad_calls),
        cmocka_unit_test(test_score_is_what_steps_say),
        cmocka_unit_test(test_logits_are_what_score_sums),
        cmocka_unit_test(test_wrong_drafts_are_switched_off),
        cmocka_unit_test(test_losses_are_bounded),
        cmocka_unit_test(test_plain_steps_are_timed),
        cmocka_unit_test(test_vocabulary_only),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
