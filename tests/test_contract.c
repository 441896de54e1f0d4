/* SPDX-License-Identifier: Apache-2.0
 * What a host may ask of a session's tokens: the output with any drafter is that of plain decoding,
 * whatever is asked, greedy and drawn, alone and beside others; and what is asked is done. */
#include "support.h"

#include <math.h>

#include "engine/session.h"
#include "testkit/test_drafters_ops.h"

enum { TOKENS = 40, MOST = 512 };

static ftk_model *model;
static ftk_engine *engine;
static int32_t prompt[64];
static size_t n_prompt;

static int open_all(void **state)
{
    (void)state;
    if (access(DEMO, R_OK) != 0) return 0;
    model = load_model(DEMO);
    engine = open_engine(model, 1, 4096, FTK_TYPE_F16);
    int found;
    const char *text = "Once upon a time there was a king who had a dog";
    if (ftk_engine_find_drafters(engine, DEMO, &found) != FTK_OK) return -1;
    return ftk_tokenize(model, text, strlen(text), FTK_TOK_BOS, prompt, 64, &n_prompt);
}

static int close_all(void **state)
{
    (void)state;
    ftk_engine_free(engine);
    ftk_model_free(model);
    return 0;
}

/* What is asked of a session. */
typedef struct wish {
    const char *name;
    ftk_sampling sampling; /* but for temperature and seed */
    size_t n_bias, n_ends;
    ftk_bias bias[3];
    int32_t ends[3];
    ftk_mask *mask;
    void *mask_ctx;
} wish;

static ftk_sampling sampling_of(const wish *w, float temperature)
{
    ftk_sampling p = w->sampling;
    p.temperature = temperature;
    p.seed = 7;
    return p;
}

static void ask(ftk_session *s, const wish *w, float temperature)
{
    const ftk_sampling p = sampling_of(w, temperature);
    assert_int_equal(ftk_session_set_sampling(s, &p), FTK_OK);
    assert_int_equal(ftk_session_set_bias(s, w->bias, w->n_bias), FTK_OK);
    assert_int_equal(ftk_session_set_ends(s, w->ends, w->n_ends), FTK_OK);
    assert_int_equal(ftk_session_set_mask(s, w->mask, w->mask_ctx), FTK_OK);
}

/* test: what the drafter `ops` is told; NULL: the drafter of that name */
static ftk_session *open_as(const char *drafter, const ftk_drafter_ops *ops, void *test,
                            const char *verifier, int budget)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.verifier = verifier;
    cfg.budget = budget;
    cfg.ignore_end = true;
    ftk_session *s;
    assert_int_equal(ops ? ftk_session_open_with(&s, engine, &cfg, ops, test)
                         : ftk_session_open(&s, engine, &cfg),
                     FTK_OK);
    assert_int_equal(ftk_session_append(s, prompt, n_prompt), FTK_OK);
    return s;
}

/* Steps sessions together, until each has said `most` tokens or ended. */
static void run(ftk_session **s, size_t n, size_t most, int32_t (*out)[MOST], size_t *n_out)
{
    ftk_result r[16];
    for (size_t i = 0; i < n; i++) {
        ftk_session_limit(s[i], most);
        n_out[i] = 0;
    }
    for (bool running = true; running;) {
        assert_int_equal(ftk_step(s, n, r), FTK_OK);
        running = false;
        for (size_t i = 0; i < n; i++) {
            memcpy(out[i] + n_out[i], r[i].tokens, r[i].n_tokens * sizeof(int32_t));
            n_out[i] += r[i].n_tokens;
            running |= r[i].finish == FTK_FINISH_NONE;
            if (r[i].finish != FTK_FINISH_NONE) ftk_session_limit(s[i], 0);
        }
    }
}

/* What plain decoding says to a wish; behind the prompt. */
static size_t plain(const wish *w, float temperature, int32_t *out)
{
    int32_t said[1][MOST];
    size_t n;
    ftk_session *s = open_as("none", NULL, NULL, "exact", -1);
    ask(s, w, temperature);
    run(&s, 1, TOKENS, said, &n);
    ftk_session_free(s);
    memcpy(out, said[0], n * sizeof *out);
    return n;
}

/* Of every drafter, those of the tests too, alone and together. */
static void check_drafters(const wish *w, float temperature, const int32_t *want, size_t n_want)
{
    int32_t whole[MOST], out[16][MOST];
    size_t got[16], n = 0;
    memcpy(whole, prompt, n_prompt * sizeof *whole);
    memcpy(whole + n_prompt, want, n_want * sizeof *whole);
    ftk_test_reference truth = {whole, n_prompt + n_want};
    ftk_session *s[16];
    for (const char *const *name = ftk_drafters(); *name; name++)
        if (ftk_drafter_lossless(*name) && ftk_engine_has_drafter(engine, *name)) {
            s[n] = open_as(*name, NULL, NULL, "exact", n % 3 == 2 ? -1 : 12);
            n++;
        }
    s[n++] = open_as(NULL, &ftk_drafter_right, &truth, "exact", 12);
    s[n++] = open_as(NULL, &ftk_drafter_wrong, &truth, "exact", 12);
    const size_t right = n - 2;
    for (size_t i = 0; i < n; i++) ask(s[i], w, temperature);
    for (int together = 0; together < 2; together++) {
        for (size_t i = 0; i < n && !together; i++) run(&s[i], 1, TOKENS, out + i, got + i);
        if (together) run(s, n, TOKENS, out, got);
        for (size_t i = 0; i < n; i++) {
            if (got[i] != n_want || memcmp(out[i], want, n_want * sizeof *want) != 0)
                fail_msg("%s: session %zu says something else", w->name, i);
            assert_int_equal(ftk_session_truncate(s[i], n_prompt), FTK_OK);
        }
    }
    ftk_stats stats;
    ftk_session_get_stats(s[right], &stats);
    assert_true(stats.accepted >= n_want);
    for (size_t i = 0; i < n; i++) ftk_session_free(s[i]);
}

/* At temperature 0 the tokens are those of plain decoding with every verifier. */
static void check_verifiers(const wish *w, const int32_t *want, size_t n_want)
{
    int32_t whole[MOST], out[1][MOST];
    size_t got;
    memcpy(whole, prompt, n_prompt * sizeof *whole);
    memcpy(whole + n_prompt, want, n_want * sizeof *whole);
    ftk_test_reference truth = {whole, n_prompt + n_want};
    static const ftk_drafter_ops *const ops[] = {&ftk_drafter_right, &ftk_drafter_draws};
    for (const char *const *name = ftk_verifiers(); *name; name++)
        for (int i = 0; i < 2; i++) {
            ftk_session *s = open_as(NULL, ops[i], &truth, *name, 12);
            ask(s, w, 0);
            run(&s, 1, TOKENS, out, &got);
            assert_int_equal(got, n_want);
            assert_memory_equal(out[0], want, n_want * sizeof *want);
            ftk_session_free(s);
        }
}

#define OFF .top_p = 1, .repeat_penalty = 1, .repeat_last = 64

static const wish nothing = {.name = "nothing", .sampling = {OFF}};

static void test_each_wish(void **state)
{
    (void)state;
    NEED(DEMO);
    const int32_t said = prompt[3];
    const wish wishes[] = {
        {.name = "presence", .sampling = {OFF, .presence_penalty = 1.5f}},
        {.name = "frequency", .sampling = {OFF, .frequency_penalty = 0.7f}},
        {.name = "bias", .sampling = {OFF}, .n_bias = 2, .bias = {{said, 6}, {said + 1, 5}}},
        {.name = "all",
         .sampling = {.top_p = 0.9f,
                      .repeat_penalty = 1.1f,
                      .repeat_last = 20,
                      .presence_penalty = 0.4f,
                      .frequency_penalty = -0.2f,
                      .min_tokens = 30},
         .n_bias = 1,
         .bias = {{said, 3}}},
    };
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
        for (int hot = 0; hot < 2; hot++) {
            const float temperature = hot ? 0.8f : 0;
            int32_t want[TOKENS], other[TOKENS];
            const size_t n = plain(&wishes[i], temperature, want);
            assert_int_equal(plain(&nothing, temperature, other), TOKENS);
            assert_int_equal(n, TOKENS);
            assert_memory_not_equal(want, other, sizeof want);
            check_drafters(&wishes[i], temperature, want, n);
            if (!hot) check_verifiers(&wishes[i], want, n);
        }
}

/* ---- sampling */

/* From the middle of a text on it is what a fresh session says there that was opened so. */
static void test_new_sampling(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { FIRST = 15 };
    const wish wishes[] = {
        {.name = "hot", .sampling = {OFF}},
        {.name = "penalties", .sampling = {OFF, .presence_penalty = 1, .frequency_penalty = 0.5f}},
    };
    for (int i = 0; i < 4; i++) {
        const ftk_sampling p = sampling_of(&wishes[i / 2], i % 2 ? 0.9f : 0);
        int32_t text[MOST], out[2][MOST];
        size_t got[2];
        ftk_session *s = open_as(i % 2 ? "auto" : "recycle", NULL, NULL, "exact", 12);
        ask(s, &nothing, i % 2 ? 0 : 1.0f);
        run(&s, 1, FIRST, out, got);
        memcpy(text, prompt, n_prompt * sizeof *text);
        memcpy(text + n_prompt, out[0], FIRST * sizeof *text);
        assert_int_equal(ftk_session_set_sampling(s, &p), FTK_OK);
        ftk_session_config cfg;
        ftk_session_config_init(&cfg);
        cfg.drafter = "none";
        cfg.ignore_end = true;
        cfg.sampling = p;
        ftk_session *both[2] = {s, NULL};
        assert_int_equal(ftk_session_open(&both[1], engine, &cfg), FTK_OK);
        assert_int_equal(ftk_session_append(both[1], text, n_prompt + FIRST), FTK_OK);
        assert_int_equal(ftk_session_set_prompt(both[1], n_prompt), FTK_OK);
        run(both, 2, TOKENS, out, got);
        assert_int_equal(got[0], TOKENS);
        assert_memory_equal(out[0], out[1], TOKENS * sizeof **out);
        for (int j = 0; j < 2; j++) ftk_session_free(both[j]);
    }
}

/* What counts as generated: nothing behind an append, what is left behind a truncation, and a fork
 * counts as its origin does. */
static void test_generated(void **state)
{
    (void)state;
    NEED(DEMO);
    const wish w = {.name = "frequency", .sampling = {OFF, .frequency_penalty = 1}};
    int32_t out[2][MOST], again[1][MOST];
    size_t got[2];
    ftk_session *s[2] = {open_as("lookup", NULL, NULL, "exact", 12), NULL};
    ask(s[0], &w, 0);
    run(s, 1, 20, out, got);
    assert_int_equal(ftk_session_fork(&s[1], s[0], NULL), FTK_OK);
    run(s, 2, 20, out, got);
    assert_memory_equal(out[0], out[1], 20 * sizeof **out);
    assert_int_equal(ftk_session_truncate(s[0], n_prompt + 20), FTK_OK);
    run(s, 1, 20, again, got);
    assert_memory_equal(again[0], out[1], 20 * sizeof **out);
    assert_int_equal(ftk_session_truncate(s[0], n_prompt + 20), FTK_OK);
    assert_int_equal(ftk_session_set_prompt(s[0], n_prompt + 20), FTK_OK);
    run(s, 1, 20, again, got);
    assert_memory_not_equal(again[0], out[1], 20 * sizeof **out);
    size_t n;
    const int32_t *const tokens = ftk_session_tokens(s[1], &n); /* the same as a prompt */
    assert_int_equal(ftk_session_truncate(s[0], 0), FTK_OK);
    assert_int_equal(ftk_session_append(s[0], tokens, n_prompt + 20), FTK_OK);
    run(s, 1, 20, out, got);
    assert_memory_equal(again[0], out[0], 20 * sizeof **out);
    assert_int_equal(ftk_session_set_prompt(s[0], n + 1), FTK_ERR_INVALID);
    for (int i = 0; i < 2; i++) ftk_session_free(s[i]);
}

/* n completions of one prompt: forks with seeds of their own say what sessions do that were opened
 * on the prompt, be it read already or not. */
static void test_completions(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { N = 4 };
    static const char *const names[N] = {"auto", "s4c", "jacobi", "none"};
    const wish w = {.sampling = {OFF, .presence_penalty = 0.6f, .min_tokens = 5}};
    for (int is_read = 0; is_read < 2; is_read++) {
        int32_t out[2 * N][MOST];
        size_t got[2 * N];
        ftk_session *first = open_as("recycle", NULL, NULL, "exact", 12), *s[2 * N];
        if (is_read) run(&first, 1, 0, out, got);
        for (int i = 0; i < N; i++) {
            ftk_sampling p = sampling_of(&w, 0.9f);
            p.seed = (uint64_t)i;
            assert_int_equal(ftk_session_fork(&s[i], first, &p), FTK_OK);
            s[N + i] = open_as("none", NULL, NULL, "exact", -1);
            assert_int_equal(ftk_session_set_sampling(s[N + i], &p), FTK_OK);
            if (ftk_engine_has_drafter(engine, names[i]))
                assert_int_equal(ftk_session_set_drafter(s[i], names[i]), FTK_OK);
        }
        ftk_session_free(first);
        run(s, 2 * N, TOKENS, out, got);
        for (int i = 0; i < N; i++) {
            assert_int_equal(got[i], TOKENS);
            assert_memory_equal(out[i], out[N + i], TOKENS * sizeof **out);
            for (int j = 0; j < i; j++)
                assert_memory_not_equal(out[i], out[j], TOKENS * sizeof **out);
        }
        for (int i = 0; i < 2 * N; i++) ftk_session_free(s[i]);
    }
}

/* ---- ends */

/* Where a token stands first, from place `from` on. */
static size_t place_of(const int32_t *text, size_t n, int32_t token, size_t from)
{
    while (from < n && text[from] != token) from++;
    return from;
}

/* The text is cut behind the first of them; not before min_tokens are there. */
static void test_ends(void **state)
{
    (void)state;
    NEED(DEMO);
    for (int hot = 0; hot < 2; hot++) {
        const float temperature = hot ? 0.8f : 0;
        int32_t free[TOKENS], got[TOKENS];
        assert_int_equal(plain(&nothing, temperature, free), TOKENS);
        wish w = {.name = "ends", .sampling = {OFF}, .n_ends = 2, .ends = {free[20], free[12]}};
        const size_t a = place_of(free, TOKENS, free[20], 0),
                     b = place_of(free, TOKENS, free[12], 0);
        const size_t first = a < b ? a : b;
        assert_int_equal(plain(&w, temperature, got), first + 1);
        assert_memory_equal(got, free, (first + 1) * sizeof *got);
        check_drafters(&w, temperature, got, first + 1);
        w.sampling.min_tokens = first + 3;
        const size_t n = plain(&w, temperature, got);
        assert_true(n > first + 3);
        if (!hot) assert_memory_equal(got, free, first * sizeof *got);
        for (int i = 0; i < 2; i++) assert_true(place_of(got, n, w.ends[i], 0) >= first + 3);
        check_drafters(&w, temperature, got, n);
        if (!hot) check_verifiers(&w, got, n);
    }
}

/* The model's own are held back too, though ignore_end lets them pass; a step says which end it
 * was. */
static void test_models_end(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { LEAST = 9 };
    ftk_model_info info;
    ftk_model_get_info(model, &info);
    assert_true(ftk_model_is_end(model, info.eos));
    wish w = {.name = "eos",
              .sampling = {OFF, .min_tokens = LEAST},
              .n_bias = 1,
              .bias = {{info.eos, 100}}};
    int32_t got[TOKENS];
    assert_int_equal(plain(&w, 0, got), TOKENS);
    assert_int_equal(place_of(got, TOKENS, info.eos, 0), LEAST);
    check_drafters(&w, 0, got, TOKENS);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.sampling.min_tokens = LEAST;
    ftk_session *s;
    ftk_result r;
    assert_int_equal(ftk_session_open(&s, engine, &cfg), FTK_OK);
    assert_int_equal(ftk_session_set_bias(s, w.bias, 1), FTK_OK);
    assert_int_equal(ftk_session_append(s, prompt, n_prompt), FTK_OK);
    do assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
    while (r.finish == FTK_FINISH_NONE);
    assert_int_equal(r.finish, FTK_FINISH_END);
    size_t n;
    const int32_t *const tokens = ftk_session_tokens(s, &n);
    assert_int_equal(n, n_prompt + LEAST + 1);
    assert_int_equal(tokens[n - 1], info.eos);
    ftk_session_free(s);
}

/* ---- the mask */

typedef struct grammar {
    size_t dead;         /* tokens behind the prompt where nothing is allowed */
    const int32_t *only; /* or NULL: the only text that is allowed behind the prompt, */
    int32_t other;       /* but for this token */
    int n_calls;
} grammar;

static bool may_follow(const int32_t *tokens, size_t n, int32_t token)
{
    const int32_t last = tokens[n - 1];
    return n % 5 == 0 ? token == 300 + last % 50 : (token * 3 + last + (int32_t)n) % 4 != 0;
}

/* A grammar of no sense: one token in some places, three in four in others. */
static void odd_grammar(void *ctx, const int32_t *tokens, size_t n, uint32_t *allowed)
{
    grammar *const g = ctx;
    g->n_calls++;
    assert_memory_equal(tokens, prompt, n_prompt * sizeof *prompt);
    assert_true(n >= n_prompt);
    for (int32_t i = 0; i < 4096; i++) {
        assert_false(allowed[i / 32] >> i % 32 & 1);
        const bool may =
            g->only ? i == g->only[n - n_prompt] || i == g->other : may_follow(tokens, n, i);
        if (may && n - n_prompt != g->dead) allowed[i / 32] |= 1u << i % 32;
    }
}

/* What comes keeps to the mask, with any drafter the same; where nothing is allowed it ends. */
static void test_mask(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { DEAD = 22 };
    for (int i = 0; i < 4; i++) {
        const float temperature = i % 2 ? 0.8f : 0;
        grammar g = {.dead = i < 2 ? SIZE_MAX : DEAD};
        const wish w = {.name = i < 2 ? "mask" : "dead end",
                        .sampling = {OFF, .frequency_penalty = 0.5f},
                        .mask = odd_grammar,
                        .mask_ctx = &g};
        const size_t n = i < 2 ? TOKENS : DEAD;
        int32_t text[MOST];
        memcpy(text, prompt, n_prompt * sizeof *text);
        assert_int_equal(plain(&w, temperature, text + n_prompt), n);
        assert_int_equal(g.n_calls, i < 2 ? n : n + 2); /* the end is looked at twice */
        for (size_t j = n_prompt; j < n_prompt + n; j++) assert_true(may_follow(text, j, text[j]));
        check_drafters(&w, temperature, text + n_prompt, n);
        if (i % 2 == 0) check_verifiers(&w, text + n_prompt, n);
    }
}

/* How a dead end looks: the tokens before it, then none, again and again; and without the mask it
 * goes on. */
static void test_dead_end(void **state)
{
    (void)state;
    NEED(DEMO);
    static const char *const names[] = {"none", "recycle"};
    for (int i = 0; i < 4; i++) {
        grammar g = {.dead = i / 2 ? 9 : 0};
        ftk_session *s = open_as(names[i % 2], NULL, NULL, i < 2 ? "exact" : "traversal", 12);
        assert_int_equal(ftk_session_set_mask(s, odd_grammar, &g), FTK_OK);
        size_t said = 0;
        ftk_result r;
        do {
            assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
            said += r.n_tokens;
        } while (r.finish == FTK_FINISH_NONE);
        assert_int_equal(r.finish, FTK_FINISH_FORBIDDEN);
        assert_int_equal(said, g.dead);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
            assert_int_equal(r.finish, FTK_FINISH_FORBIDDEN);
            assert_int_equal(r.n_tokens, 0);
        }
        assert_int_equal(ftk_session_set_mask(s, NULL, NULL), FTK_OK);
        int32_t out[1][MOST];
        size_t got;
        run(&s, 1, 5, out, &got);
        assert_int_equal(got, 5);
        ftk_session_free(s);
    }
}

/* Drafts that are forbidden are not verified; where only one token may come it is drafted,
 * though the drafter is always wrong, by all that draft. */
static void test_forbidden_drafts(void **state)
{
    (void)state;
    NEED(DEMO);
    int32_t text[MOST], out[1][MOST];
    size_t got;
    for (int32_t i = 0; i < MOST; i++) text[i] = 500 + i;
    memcpy(text, prompt, n_prompt * sizeof *text);
    ftk_test_reference truth = {text, MOST};
    const ftk_bias never = {3, -100};
    for (int i = 0; i < 4; i++) {
        grammar g = {.dead = SIZE_MAX, .only = text + n_prompt, .other = i < 2 ? never.token : -1};
        ftk_session *s = open_as("auto",
                                 i == 0   ? &ftk_drafter_right
                                 : i == 3 ? NULL
                                          : &ftk_drafter_wrong,
                                 &truth, "exact", 12);
        assert_int_equal(ftk_session_set_mask(s, odd_grammar, &g), FTK_OK);
        assert_int_equal(ftk_session_set_bias(s, &never, 1), FTK_OK);
        run(&s, 1, TOKENS, out, &got);
        assert_int_equal(got, TOKENS);
        assert_memory_equal(out[0], text + n_prompt, TOKENS * sizeof **out);
        ftk_stats stats;
        ftk_session_get_stats(s, &stats);
        if (i == 1)
            assert_int_equal(stats.drafted, 0);
        else
            assert_true(stats.accepted > TOKENS / 2 && stats.steps < TOKENS / 4);
        ftk_session_free(s);
    }
}

/* ---- what the host thinks will follow */

typedef struct foresight {
    const int32_t *text; /* behind the prompt */
    size_t n;
    int32_t add; /* to each token: 0 where it is right */
} foresight;

static size_t foresee(void *ctx, const int32_t *tokens, size_t n, int32_t *guesses, size_t most)
{
    const foresight *const f = ctx;
    assert_memory_equal(tokens, prompt, n_prompt * sizeof *prompt);
    size_t said = 0;
    for (size_t at = n - n_prompt; at < f->n && said < most; at++)
        guesses[said++] = (f->text[at] + f->add) % 4096;
    return said;
}

/* It changes nothing of what comes, beside a mask too; while it is right it is drafted, and else
 * left. */
static void test_forecast(void **state)
{
    (void)state;
    NEED(DEMO);
    for (int i = 0; i < 16; i++) {
        const float temperature = i % 2 ? 0.8f : 0;
        grammar g = {.dead = SIZE_MAX};
        const wish w = {.name = "forecast",
                        .sampling = {OFF},
                        .mask = i / 2 % 2 ? odd_grammar : NULL,
                        .mask_ctx = &g};
        int32_t text[MOST], out[1][MOST];
        size_t got;
        const size_t n = plain(&w, temperature, text);
        foresight f = {text, n, i / 4 % 2};
        ftk_session *s = open_as(i < 8 ? "auto" : "lookup", NULL, NULL, "exact", i < 8 ? -1 : 8);
        ask(s, &w, temperature);
        assert_int_equal(ftk_session_set_forecast(s, foresee, &f), FTK_OK);
        run(&s, 1, TOKENS, out, &got);
        assert_int_equal(got, n);
        assert_memory_equal(out[0], text, n * sizeof *text);
        ftk_stats stats;
        ftk_session_get_stats(s, &stats);
        if (f.add == 0 && i >= 8) assert_true(stats.steps <= TOKENS / 9 + 2);
        if (f.add == 0 && i >= 8) assert_true(stats.drafted == stats.accepted);
        ftk_session_free(s);
    }
}

/* More sessions than a pass has rows for, each with one way to go: their drafts share the rows. */
static void test_forced_together(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { N = 12, FEW = 30 };
    static int32_t text[MOST], out[N][MOST];
    size_t got[N];
    ftk_session *s[N];
    grammar g[N];
    foresight f = {text + n_prompt, MOST - n_prompt, 0};
    for (int32_t i = 0; i < MOST; i++) text[i] = 500 + i;
    memcpy(text, prompt, n_prompt * sizeof *text);
    for (int i = 0; i < N; i++) {
        g[i] = (grammar){.dead = SIZE_MAX, .only = i % 2 ? text + n_prompt : NULL, .other = -1};
        s[i] = open_as("auto", NULL, NULL, "exact", -1);
        if (i % 2) assert_int_equal(ftk_session_set_mask(s[i], odd_grammar, &g[i]), FTK_OK);
        assert_int_equal(ftk_session_set_forecast(s[i], foresee, &f), FTK_OK);
    }
    run(s, N, FEW, out, got);
    for (int i = 0; i < N; i++) {
        assert_int_equal(got[i], FEW);
        if (i % 2) assert_memory_equal(out[i], text + n_prompt, FEW * sizeof **out);
        ftk_session_free(s[i]);
    }
}

/* ---- log-probabilities */

/* Of places [from, to) two sessions know the same, bit for bit. */
static void same_logprobs(const ftk_session *a, const ftk_session *b, size_t from, size_t to, int n)
{
    for (size_t i = from; i < to; i++) {
        float own[2];
        const ftk_logprob *best[2];
        assert_true(ftk_session_logprobs(a, i, &own[0], &best[0]));
        assert_true(ftk_session_logprobs(b, i, &own[1], &best[1]));
        assert_memory_equal(&own[0], &own[1], sizeof own[0]);
        assert_memory_equal(best[0], best[1], (size_t)n * sizeof *best[0]);
    }
}

/* A text read as a prompt, in one go and in pieces, has what it had as it was said, by any drafter
 * and whatever was asked of it; and the sum is ftk_score()'s. */
static void test_logprobs(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { BEST = 5, LONG = 200 };
    const wish w = {
        .name = "bias", .sampling = {OFF, .presence_penalty = 1}, .n_bias = 1, .bias = {{5, 2}}};
    int32_t text[MOST], out[16][MOST];
    size_t got[16], n = n_prompt + LONG;
    float own;
    for (int hot = 0; hot < 2; hot++) {
        ftk_session *s[4] = {
            open_as("none", NULL, NULL, "exact", -1), open_as("auto", NULL, NULL, "exact", 12),
            open_as("jacobi", NULL, NULL, "exact", 30), open_as("none", NULL, NULL, "exact", -1)};
        for (int i = 0; i < 3; i++) {
            ask(s[i], &w, hot ? 0.8f : 0);
            assert_int_equal(ftk_session_set_logprobs(s[i], BEST, true), FTK_OK);
            run(&s[i], 1, 1, out, got);
        }
        run(s, 3, LONG - 1, out, got);
        memcpy(text, ftk_session_tokens(s[0], &got[0]), n * sizeof *text);
        assert_false(ftk_session_logprobs(s[0], 0, &own, NULL));
        assert_false(ftk_session_logprobs(s[0], n, &own, NULL));
        same_logprobs(s[0], s[1], 1, n, BEST);
        same_logprobs(s[0], s[2], 1, n, BEST);
        assert_int_equal(ftk_session_truncate(s[3], 0), FTK_OK);
        assert_int_equal(ftk_session_set_logprobs(s[3], BEST, true), FTK_OK);
        static const size_t cuts[] = {1, 2, 140, 145};
        size_t from = 0;
        for (int i = 0; i < 5; i++) {
            const size_t to = i < 4 ? cuts[i] : n;
            assert_int_equal(ftk_session_append(s[3], text + from, to - from), FTK_OK);
            from = to;
            run(&s[3], 1, 0, out, got);
        }
        same_logprobs(s[0], s[3], 1, n, BEST);
        double sum = 0, score;
        for (size_t i = 1; i < n; i++) {
            const ftk_logprob *best;
            assert_true(ftk_session_logprobs(s[3], i, &own, &best));
            sum += (double)own;
            assert_true(own <= best[0].logprob);
            for (int j = 0; j < BEST; j++) {
                if (j > 0) assert_true(best[j].logprob <= best[j - 1].logprob);
                if (best[j].token == text[i]) assert_true(best[j].logprob == own);
            }
        }
        assert_int_equal(ftk_score(engine, text, n, &score), FTK_OK);
        assert_true(fabs(sum - score) < 1e-4 * fabs(score));
        for (int i = 0; i < 4; i++) ftk_session_free(s[i]);
    }
}

/* What is kept of what: nothing unasked, emitted tokens alone, and forks have what their origin
 * has. */
static void test_logprobs_kept(void **state)
{
    (void)state;
    NEED(DEMO);
    int32_t out[2][MOST];
    size_t got[2];
    float own;
    ftk_session *s[2] = {open_as("lookup", NULL, NULL, "exact", 12), NULL};
    run(s, 1, 5, out, got);
    assert_false(ftk_session_logprobs(s[0], n_prompt + 4, &own, NULL));
    assert_int_equal(ftk_session_set_logprobs(s[0], 21, false), FTK_ERR_INVALID);
    assert_int_equal(ftk_session_set_logprobs(s[0], -2, false), FTK_ERR_INVALID);
    assert_int_equal(ftk_session_set_logprobs(s[0], 20, false), FTK_OK);
    run(s, 1, 10, out, got);
    for (size_t i = 0; i < n_prompt + 15; i++)
        assert_true(ftk_session_logprobs(s[0], i, &own, NULL) == (i >= n_prompt + 5));
    assert_int_equal(ftk_session_fork(&s[1], s[0], NULL), FTK_OK);
    run(s, 2, 10, out, got);
    same_logprobs(s[0], s[1], n_prompt + 5, n_prompt + 25, 20);
    assert_int_equal(ftk_session_truncate(s[1], n_prompt + 7), FTK_OK);
    assert_int_equal(ftk_session_append(s[1], prompt, n_prompt), FTK_OK);
    run(s + 1, 1, 3, out, got);
    for (size_t i = n_prompt + 5; i < 2 * n_prompt + 10; i++)
        assert_true(ftk_session_logprobs(s[1], i, &own, NULL) ==
                    (i < n_prompt + 7 || i >= 2 * n_prompt + 7));
    assert_int_equal(ftk_session_set_logprobs(s[1], -1, true), FTK_OK);
    assert_false(ftk_session_logprobs(s[1], n_prompt + 5, &own, NULL));
    for (int i = 0; i < 2; i++) ftk_session_free(s[i]);
}

static void test_refusals(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_session *s = open_as("none", NULL, NULL, "exact", -1);
    const wish w = {
        .name = "bias", .sampling = {OFF, .presence_penalty = 1}, .n_bias = 1, .bias = {{5, 50}}};
    int32_t out[1][MOST], again[1][MOST];
    size_t n;
    ask(s, &w, 0);
    run(&s, 1, 10, out, &n);
    ftk_model_info info;
    ftk_model_get_info(model, &info);
    for (int i = 0; i < 6; i++) {
        ftk_sampling p = sampling_of(&w, 0);
        if (i == 0) p.presence_penalty = NAN;
        if (i == 1) p.frequency_penalty = INFINITY;
        if (i == 2) p.reserved[0] = 1;
        if (i == 3) p.reserved[1] = 1;
        if (i == 4) p.temperature = -1;
        assert_int_equal(ftk_session_set_sampling(s, i == 5 ? NULL : &p),
                         i / 2 == 1 ? FTK_ERR_UNSUPPORTED : FTK_ERR_INVALID);
    }
    const ftk_bias bad[][2] = {{{1, 1}, {info.n_vocab, 1}},
                               {{-1, 0}, {2, 0}},
                               {{1, NAN}, {2, 0}},
                               {{1, 0}, {2, INFINITY}},
                               {{3, 1}, {3, 2}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ftk_session_set_bias(s, bad[i], 2), FTK_ERR_INVALID);
    const int32_t ends[] = {1, info.n_vocab};
    assert_int_equal(ftk_session_set_ends(s, ends, 2), FTK_ERR_INVALID);
    assert_int_equal(ftk_session_truncate(s, n_prompt), FTK_OK);
    run(&s, 1, 10, again, &n); /* nothing has changed */
    assert_memory_equal(again[0], out[0], 10 * sizeof **out);
    ftk_session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_wish),
        cmocka_unit_test(test_new_sampling),
        cmocka_unit_test(test_generated),
        cmocka_unit_test(test_completions),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_models_end),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_forecast),
        cmocka_unit_test(test_forced_together),
        cmocka_unit_test(test_dead_end),
        cmocka_unit_test(test_forbidden_drafts),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_logprobs_kept),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
