/* SPDX-License-Identifier: Apache-2.0
 * DASH: what its policy chooses, on a target of its own that is small enough to compute again;
 * the tree; its file; routes through the demo model, to the bit; and the whole, whose text it
 * must not change. */
#include "smalltarget.h"

#include <math.h>

#include "dashfile.h"
#include "drafters/dash.h"
#include "kernels/blocks.h"

/* ---- a small target: a row's state at a layer is made up; its token says the next */

enum { L = 6, H = DASH_UNITS, FIRST = 2, LAST = 1, PAST = FTK_POLICY_PAST, N_ITEMS = DASH_ITEMS };

static float in[D * H], past_in[PAST * H], bias[L * H], out[L * 3 * H], out_bias[L * 3],
    factor[L * D];
static ftk_weight items[N_ITEMS];
static float small_logits[V], sure; /* how much the likeliest token stands out */
static float last_logit;
static uint32_t salt;
static int n_run;
static uint8_t seen[16][L];

static void state_at(int depth, int layer, float *x)
{
    uint32_t seed = 100000u * salt + 1000u * (uint32_t)depth + (uint32_t)layer;
    for (int i = 0; i < D; i++) x[i] = 4 * noise(&seed);
}

static const ftk_rows *run_route(void *ctx, int depth, int32_t token, const ftk_route *r)
{
    (void)ctx;
    for (int l = 0; l < L; l++) {
        float x[D];
        state_at(depth, l, x);
        r->actions[l] = ftk_policy_choose(r->policy, l, x, r->actions);
    }
    memcpy(seen[depth], r->actions, sizeof seen[0]);
    n_run = depth + 1;
    memset(small_logits, 0, sizeof small_logits);
    small_logits[(token + 1) % V] = sure;
    small_logits[(token + 2) % V] = 1;
    small_logits[V - 1] = last_logit;
    static const ftk_rows rows = {.logits = small_logits};
    return &rows;
}

static double row_costs; /* in plain steps, of every row of a pass but the first */

static double seconds(void *ctx, int layer, int rows)
{
    (void)ctx, (void)layer;
    return 1 + row_costs * (rows - 1);
}

static ftk_target target = {.n_vocab = V,
                            .n_embd = D,
                            .n_layer = L,
                            .run_route = run_route,
                            .seconds = seconds,
                            .now = real_now,
                            .pace = pace};

static void fill(float *v, int n, uint32_t *seed)
{
    for (int i = 0; i < n; i++) v[i] = 2 * noise(seed);
}

static ftk_weights small_weights(ftk_gguf *file)
{
    const struct {
        const char *name;
        float *v;
        int n;
    } all[N_ITEMS] = {{"policy.in", in, D * H},
                      {"policy.past", past_in, PAST * H},
                      {"policy.bias", bias, L * H},
                      {"policy.out", out, L * 3 * H},
                      {"policy.out_bias", out_bias, L * 3},
                      {"scale", factor, L * D}};
    uint32_t seed = 3;
    for (int i = 0; i < N_ITEMS; i++) {
        fill(all[i].v, all[i].n, &seed);
        items[i] = (ftk_weight){.n_out = 1, .n_in = all[i].n, .vector = all[i].v};
        snprintf(items[i].name, sizeof items[i].name, "%s", all[i].name);
    }
    return (ftk_weights){.path = "small", .file = file, .n = N_ITEMS, .items = items};
}

enum { N_KEYS = DASH_KEYS };
static const char *const *const key_names = dash_keys;
static const uint32_t good[N_KEYS] = {H, FIRST, LAST, 1, 600, 100};

static void *start_small(const ftk_weights *w, ftk_dash_parts parts)
{
    return open_small(&ftk_drafter_dash, &target, w, &parts);
}

static void close_dash(void *s)
{
    close_small(&ftk_drafter_dash, s);
}

/* The action, in double. */
static int by_hand(int depth, int layer, const uint8_t *before, bool partial)
{
    static const double cost[] = {1, 0.6, 0.1};
    if (layer < FIRST || layer >= L - LAST) return FTK_FULL;
    float x[D];
    state_at(depth, layer, x);
    double sum = 0, spent = 0, h[H], best = -1e30;
    for (int i = 0; i < D; i++) sum += (double)x[i] * x[i];
    for (int l = 0; l < layer; l++) spent += cost[before[l]];
    for (int k = 0; k < H; k++) {
        h[k] = (double)bias[layer * H + k] + past_in[before[layer - 1] * H + k] +
               past_in[(3 + before[layer - 2]) * H + k] + past_in[6 * H + k] * spent / L;
        for (int i = 0; i < D; i++) h[k] += x[i] / sqrt(sum / D + 1e-6) * in[i * H + k];
    }
    int action = -1;
    for (int a = 0; a < 3; a++) {
        double v = out_bias[layer * 3 + a];
        for (int k = 0; k < H; k++) v += h[k] > 0 ? h[k] * out[(layer * 3 + a) * H + k] : 0;
        if ((partial || a != FTK_PARTIAL) && v > best) {
            best = v;
            action = a;
        }
    }
    return action;
}

static const int32_t text[] = {1, 2, 3, 4, 5, 6, 7};
enum { N_TEXT = 7 };

static void propose(void *s, int budget, ftk_tree *t)
{
    n_run = 0;
    ftk_drafter_dash.reset(s, text, N_TEXT);
    ftk_tree_init(t, text[N_TEXT - 1]);
    ftk_drafter_dash.propose(s, text, N_TEXT, budget, t);
}

static void test_policy(void **state)
{
    (void)state;
    int counts[FTK_ACTIONS] = {0};
    for (uint32_t partial = 0; partial < 2; partial++) {
        ftk_gguf *file =
            keys_only(N_KEYS, key_names, (const uint32_t[]){H, FIRST, LAST, partial, 600, 100});
        const ftk_weights w = small_weights(file);
        void *s = start_small(&w, (ftk_dash_parts){.without = FTK_ROWS_ALWAYS});
        sure = 30;
        ftk_tree t;
        for (salt = 0; salt < 20; salt++) {
            propose(s, 100, &t);
            for (int depth = 0; depth < n_run; depth++)
                for (int l = 0; l < L; l++) {
                    assert_int_equal(seen[depth][l], by_hand(depth, l, seen[depth], partial));
                    counts[seen[depth][l]]++;
                }
        }
        close_dash(s);
        ftk_gguf_free(file);
    }
    assert_true(counts[FTK_PARTIAL] > 3 && counts[FTK_SKIP] > 3);
}

/* The chain, row by row, ends where the next row is not worth its cost; other choices hang on it;
 * the budget holds. */
static void test_tree(void **state)
{
    (void)state;
    ftk_gguf *file = keys_only(N_KEYS, key_names, good);
    const ftk_weights w = small_weights(file);
    for (int chain = 0; chain < 2; chain++) {
        const ftk_dash_parts parts = {.without = FTK_ROWS_ALWAYS};
        void *s = open_shaped(&ftk_drafter_dash, &target, &w,
                              chain ? FTK_TREE_CHAIN : FTK_TREE_FITTED, &parts);
        for (int budget = 0; budget <= 40; budget += budget < 4 ? 1 : 12) {
            ftk_tree t;
            sure = 30;
            propose(s, budget, &t);
            assert_true(t.n <= budget + 1 && n_run <= budget);
            int most = 0;
            for (int i = 1; i < t.n; i++) {
                assert_true(t.prob[i] > 0 && t.prob[i] <= t.prob[t.parent[i]]);
                if (t.parent[i] == i - 1 && t.token[i] == (7 + i) % V && most == i - 1) most = i;
            }
            assert_int_equal(most, n_run);
            if (chain) assert_int_equal(t.n, n_run + 1);
            if (budget == 40 && !chain) assert_true(t.n > n_run + 1);
        }
        sure = 1; /* nobody knows: one row, and then the cost is more than what it may bring */
        ftk_tree t;
        propose(s, 40, &t);
        assert_int_equal(n_run, 1);
        close_dash(s);
    }
    ftk_gguf_free(file);
}

/* A row has to bring more than what comes in its time without it: at one token a step it pays
 * here, at four it does not, and does again once less comes. */
static void test_pace(void **state)
{
    (void)state;
    ftk_gguf *file = keys_only(N_KEYS, key_names, good);
    const ftk_weights w = small_weights(file);
    void *s = start_small(&w, (ftk_dash_parts){0});
    ftk_tree t;
    row_costs = 0.3;
    sure = 30;
    for (int i = 0; i < 3; i++) {
        pace_of_late = i == 1 ? 4 : 1;
        ftk_drafter_dash.reset(s, text, N_TEXT);
        propose(s, 8, &t);
        assert_true((n_run > 0) == (pace_of_late == 1));
    }
    row_costs = 0;
    close_dash(s);
    ftk_gguf_free(file);
}

/* What is no number is no guess. */
static void test_not_finite(void **state)
{
    (void)state;
    ftk_gguf *file = keys_only(N_KEYS, key_names, good);
    const ftk_weights w = small_weights(file);
    void *s = start_small(&w, (ftk_dash_parts){.without = FTK_ROWS_ALWAYS});
    for (int i = 0; i < 3; i++) {
        last_logit = i == 0 ? NAN : i == 1 ? INFINITY : -INFINITY;
        sure = 30;
        ftk_tree t;
        propose(s, 40, &t);
        if (i < 2) assert_true(n_run == 1 && t.n == 1);
        if (i == 2) assert_true(n_run > 1 && t.n > n_run + 1);
    }
    last_logit = 0;
    close_dash(s);
    ftk_gguf_free(file);
}

static void test_fixed(void **state)
{
    (void)state;
    static const uint8_t actions[L] = {0, 0, 2, 1, 0, 0};
    ftk_gguf *file = keys_only(N_KEYS, key_names, good);
    const ftk_weights w = small_weights(file);
    void *s = start_small(&w, (ftk_dash_parts){.fixed = actions});
    sure = 30;
    ftk_tree t;
    propose(s, 8, &t);
    for (int i = 0; i < n_run; i++) assert_memory_equal(seen[i], actions, L);
    close_dash(s);
    ftk_gguf_free(file);
}

/* ---- its file */

static void test_file(void **state)
{
    (void)state;
    static const bad_file bad[] = {
        {{0, FIRST, LAST, 1, 600, 100},
         -1,
         "small: key foretoken.drafter.hidden is missing, or no whole number from 1 to 64"},
        {{H, 0, LAST, 1, 600, 100},
         -1,
         "small: key foretoken.drafter.first is missing, or no whole number from 1 to 6"},
        {{H, FIRST, 7, 1, 600, 100},
         -1,
         "small: key foretoken.drafter.last is missing, or no whole number from 1 to 6"},
        {{H, FIRST, LAST, 2, 600, 100},
         -1,
         "small: key foretoken.drafter.partial is missing, or no whole number from 0 to 1"},
        {{H, FIRST, LAST, 1, 1001, 100},
         -1,
         "small: key foretoken.drafter.cost.partial is missing, or no whole number from 0 to 1000"},
        {{H, FIRST, LAST, 1, 600, 1001},
         -1,
         "small: key foretoken.drafter.cost.skip is missing, or no whole number from 0 to 1000"},
        {{H, 3, 3, 1, 600, 100},
         -1,
         "small: keys foretoken.drafter.first and last leave none of the 6 layers to decide about"},
        {{H + 1, FIRST, LAST, 1, 600, 100},
         -1,
         "small: tensor policy.in has shape [40, 1] instead of [48, 1]"},
        {{H, FIRST, LAST, 1, 600, 100}, 3, "small: tensor policy.out is missing"},
        {{H, FIRST, LAST, 1, 600, 100}, 5, "small: tensor scale is missing"},
    };
    const small_file f = {&ftk_drafter_dash, &target, N_KEYS, key_names, small_weights, items};
    refuse_each(&f, bad, sizeof bad / sizeof *bad);
}

static void test_no_memory(void **state)
{
    (void)state;
    ftk_gguf *file = keys_only(N_KEYS, key_names, good);
    const ftk_weights w = small_weights(file);
    assert_true(fail_each_of_init(&ftk_drafter_dash, &target, &w) > 2);
    ftk_gguf_free(file);
}

/* ---- the demo model */

static ftk_engine *engine_with(const ftk_model *m, int threads, bool sure_full)
{
    char path[] = "demo-dash-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_dash(path, m, sure_full ? DASH_ALL_FULL : DASH_RANDOM);
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = threads;
    cfg.kv_slots = 1024;
    ftk_engine *e; /* with costs that are measured: by them dash drafts */
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_OK);
    assert_false(ftk_engine_has_drafter(e, "dash-direct"));
    assert_int_equal(ftk_engine_add_drafter(e, path), FTK_OK);
    assert_true(ftk_engine_has_drafter(e, "dash") && ftk_engine_has_drafter(e, "dash-direct"));
    unlink(path);
    return e;
}

static ftk_session *start(ftk_engine *e, const char *drafter, int budget, float temperature)
{
    static const char story[] = "Tell me a story about a king and his dog.";
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.budget = budget;
    cfg.ignore_end = true;
    cfg.sampling.temperature = temperature;
    cfg.sampling.seed = 3;
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    int32_t prompt[64];
    size_t n;
    assert_int_equal(ftk_tokenize(e->model, story, strlen(story), FTK_TOK_BOS, prompt, 64, &n),
                     FTK_OK);
    assert_int_equal(ftk_session_append(s, prompt, n), FTK_OK);
    return s;
}

/* ---- routes */

/* A layer that is left out: the layers above it, over the scaled state, give the same logits. */
static void test_skip(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { AT = 5 };
    ftk_model *m = load_model(DEMO);
    const size_t d = (size_t)m->hp.n_embd, n_layer = (size_t)m->hp.n_layer;
    const size_t bytes = (size_t)m->hp.n_vocab * sizeof(float);
    float *got = malloc(bytes), *x = malloc(d * sizeof *x);
    float *scale = malloc(n_layer * d * sizeof *scale);
    for (size_t i = 0; i < n_layer * d; i++) scale[i] = 0.9f + 0.001f * (float)(i % 100);
    for (int threads = 1; threads <= 2; threads++) {
        ftk_engine *e = engine_with(m, threads, false);
        assert_int_equal(ftk_forward_keep(&e->forward, AT - 1), FTK_OK);
        ftk_session *s = start(e, "none", -1, 0);
        ftk_result r;
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        uint8_t actions[FTK_MAX_LAYERS];
        uint8_t pattern[FTK_MAX_LAYERS] = {0};
        pattern[AT] = FTK_SKIP;
        const ftk_policy policy = {.scale = scale, .fixed = pattern};
        const ftk_route route = {.policy = &policy, .actions = actions};
        const int32_t root = s->tokens[s->n_tokens - 1];
        memcpy(got, s->target.run_route(s->target.ctx, 0, root, &route)->logits, bytes);
        for (size_t i = 0; i < d; i++) x[i] = e->forward.states[i] * scale[AT * d + i];
        assert_memory_equal(s->target.run_above(s->target.ctx, AT + 1, 1, x)->logits, got, bytes);
        ftk_session_free(s);
        ftk_engine_free(e);
    }
    free(scale);
    free(x);
    free(got);
    ftk_model_free(m);
}

/* A clock hears of layers as the policy counts them, and of one in few bits, where there is no copy
 * of it, as of a whole one. */

static void hear_pass(void *ctx, double layers, int rows, double slot_rows, int n_logits)
{
    (void)rows, (void)slot_rows, (void)n_logits;
    *(double *)ctx = layers;
}

static void test_clock(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load_model(DEMO);
    double heard = 0;
    const ftk_clock clock = {.pass = hear_pass, .ctx = &heard};
    uint8_t actions[FTK_MAX_LAYERS], pattern[FTK_MAX_LAYERS] = {0};
    pattern[3] = pattern[4] = FTK_SKIP;
    pattern[6] = FTK_PARTIAL;
    const ftk_policy policy = {.cost = {1, 0.5f, 0.125f}, .fixed = pattern};
    const ftk_route route = {.policy = &policy, .actions = actions};
    ftk_engine *e = engine_with(m, 1, false);
    ftk_session *s = start(e, "none", -1, 0), *dash = NULL;
    ftk_result r;
    assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
    e->forward.clock = &clock;
    for (int copy = 0; copy < 2; copy++) {
        if (copy) dash = start(e, "dash", -1, 0);
        const int32_t root = s->tokens[s->n_tokens - 1];
        assert_non_null(s->target.run_route(s->target.ctx, 0, root, &route));
        assert_true(heard == m->hp.n_layer - 3 + 2 * 0.125 + (copy ? 0.5 : 1));
    }
    ftk_session_free(dash);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* ---- layers in few bits */

static ftk_err open_and_close_low(counting *c, void *model)
{
    const ftk_model *const m = model;
    ftk_lowbit low;
    const ftk_err err = ftk_lowbit_open(&low, m);
    if (err == FTK_OK) ftk_lowbit_close(&low, &m->host);
    c->errors = err != FTK_OK; /* whoever opens it says so */
    return err;
}

/* No number is further from its copy than half a step of its block, or, at the end of the range
 * that has no code for it, one. */
static void test_low_bits(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.kernels = "ref"; /* reads blocks in place */
    counting count = {0};
    cfg.host = counting_host(&count);
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, DEMO, &cfg), FTK_OK);
    const int live = count.live;
    fail_each(&count, "low bits", open_and_close_low, m);
    ftk_lowbit low;
    assert_int_equal(ftk_lowbit_open(&low, m), FTK_OK);
    assert_int_equal(count.live, live + 2);
    const ftk_mat *w = &m->layers[2].down, *c = &low.layers[2].down;
    assert_int_equal(c->type, FTK_TYPE_Q4_0);
    float *a = malloc((size_t)w->n_in * sizeof *a), *b = malloc((size_t)w->n_in * sizeof *b);
    for (int r = 0; r < w->n_out; r++) {
        const ftk_q4_0 *blocks = (const ftk_q4_0 *)c->data + r * (w->n_in / FTK_QBLOCK);
        m->kernels.dequant_row(
            w->type, w->n_in,
            (const char *)w->file + (size_t)r * ftk_type_bytes(w->type, (size_t)w->n_in), a);
        m->kernels.dequant_row(FTK_TYPE_Q4_0, w->n_in, blocks, b);
        for (int i = 0; i < w->n_in; i++) {
            const float step = fabsf(ftk_f16_f32(blocks[i / FTK_QBLOCK].d));
            assert_true(fabsf(a[i] - b[i]) <= step * (fabsf(a[i]) > 7.4f * step ? 1.01f : 0.51f));
        }
    }
    free(b);
    free(a);
    ftk_lowbit_close(&low, &cfg.host);
    ftk_model_free(m);
    assert_int_equal(count.live, 0);
}

/* ---- the whole */

enum { N = 60 };

static void take_all(ftk_engine *e, const char *drafter, int budget, float temperature,
                     int32_t *tokens)
{
    ftk_session *s = start(e, drafter, budget, temperature);
    assert_int_equal(take(s, N, tokens), N);
    ftk_stats st;
    ftk_session_get_stats(s, &st);
    assert_true(strcmp(drafter, "dash") != 0 || st.drafted > 0);
    ftk_session_free(s);
}

static void test_text_is_the_models(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load_model(DEMO);
    for (int round = 0; round < 4; round++) {
        ftk_engine *e = engine_with(m, 1 + round % 2, round > 1);
        for (int hot = 0; hot < 2; hot++)
            for (int budget = 3; budget <= 19; budget += 8) {
                int32_t want[N], got[N];
                take_all(e, "none", budget, hot ? 0.8f : 0, want);
                take_all(e, "dash", budget, hot ? 0.8f : 0, got);
                assert_memory_equal(got, want, sizeof want);
            }
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* With nothing left out dash-direct is plain decoding; else it is not. Once another drafter
 * takes over, what comes is what the model says of the text so far. */
static void test_direct(void **state)
{
    (void)state;
    NEED(DEMO);
    assert_false(ftk_drafter_lossless("dash-direct"));
    assert_false(ftk_drafter_lossless("other"));
    assert_false(ftk_drafter_lossless(NULL));
    for (const char *const *name = ftk_drafters(); *name; name++)
        assert_true(ftk_drafter_lossless(*name) == (strcmp(*name, "dash-direct") != 0));
    ftk_model *m = load_model(DEMO);
    for (int round = 0; round < 4; round++) {
        ftk_engine *e = engine_with(m, 1 + round % 2, round > 1);
        int32_t want[N], got[N], more[N];
        take_all(e, "none", -1, 0, want);
        take_all(e, "dash-direct", -1, 0, got);
        assert_true((memcmp(got, want, sizeof want) == 0) == (round > 1));

        ftk_session *s = start(e, "dash-direct", -1, 0);
        assert_int_equal(take(s, N / 2, got), N / 2);
        ftk_session *copy;
        assert_int_equal(ftk_session_fork(&copy, s, NULL), FTK_OK);
        assert_int_equal(ftk_session_set_drafter(s, "jacobi"), FTK_OK);
        assert_int_equal(take(s, N, more), N);
        assert_int_equal(ftk_session_set_drafter(copy, "none"), FTK_OK);
        assert_int_equal(take(copy, N, want), N);
        assert_memory_equal(more, want, sizeof want);
        ftk_session_free(copy);
        ftk_session_free(s);
        s = start(e, "none", -1, 0);
        assert_int_equal(ftk_session_append(s, got, N / 2), FTK_OK);
        assert_int_equal(take(s, N, want), N);
        assert_memory_equal(more, want, sizeof want);
        ftk_session_free(s);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

typedef struct {
    size_t refuse; /* an allocation of this size; 0: none */
    int warnings, errors, infos;
    char line[512];
} strict;

static void *strict_alloc(void *ctx, size_t size, size_t align)
{
    const strict *const st = ctx;
    const size_t whole = (st->refuse + align - 1) / align * align;
    return st->refuse > 0 && size == whole ? NULL : aligned_alloc(align, size);
}

static void strict_free(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

static void strict_log(void *ctx, ftk_log_level level, const char *line)
{
    strict *const st = ctx;
    st->warnings += level == FTK_LOG_WARN;
    st->errors += level == FTK_LOG_ERROR;
    st->infos += level == FTK_LOG_INFO && strstr(line, "few bits") != NULL;
    if (strstr(line, "few bits")) snprintf(st->line, sizeof st->line, "%s", line);
}

/* `auto` takes no copy of the layers; who names the drafter gets it, once, or is told that there is
 * no room. */
static void test_copy(void **state)
{
    (void)state;
    NEED(DEMO);
    strict st = {0};
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = (ftk_host){&st, strict_alloc, strict_free, strict_log};
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, DEMO, &cfg), FTK_OK);
    const size_t bytes = ftk_lowbit_size(m);
    assert_true(bytes > 0);
    ftk_engine *e = engine_with(m, 1, false);
    ftk_drafter_stats by;
    ftk_session *s = start(e, "auto", -1, 0);
    assert_int_equal(ftk_session_drafter_stats(s, &by, 1), 1);
    assert_string_not_equal(by.name, "dash");
    ftk_session_free(s);
    assert_int_equal(st.infos + st.warnings + st.errors, 0);
    for (int i = 0; i < 2; i++) ftk_session_free(start(e, "dash", -1, 0));
    assert_int_equal(st.infos, 1);
    assert_int_equal(st.warnings + st.errors, 0);
    ftk_engine_free(e);

    st = (strict){.refuse = bytes};
    e = engine_with(m, 1, false);
    ftk_session_config named;
    ftk_session_config_init(&named);
    named.drafter = "dash";
    assert_int_equal(ftk_session_open(&s, e, &named), FTK_ERR_NOMEM);
    assert_int_equal(st.errors, 1);
    assert_non_null(strstr(st.line, "drafter dash: there is no memory for the layers"));
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* In a batch, too, with sessions that draft and some that do not. */
static void test_batch(void **state)
{
    (void)state;
    NEED(DEMO);
    enum { SESSIONS = 5 };
    static const char *const drafters[SESSIONS] = {"none", "dash-direct", "dash", "dash-direct",
                                                   "jacobi"};
    ftk_model *m = load_model(DEMO);
    ftk_engine *e = engine_with(m, 2, false);
    int32_t want[SESSIONS][N];
    ftk_session *s[SESSIONS];
    size_t n_prompt = 0;
    for (int i = 0; i < SESSIONS; i++) {
        take_all(e, drafters[i], 7, 0, want[i]);
        s[i] = start(e, drafters[i], 7, 0);
        ftk_session_limit(s[i], N);
        ftk_session_tokens(s[i], &n_prompt);
    }
    for (int step = 0; step < N; step++) {
        ftk_result r[SESSIONS];
        assert_int_equal(ftk_step(s, SESSIONS, r), FTK_OK);
    }
    for (int i = 0; i < SESSIONS; i++) {
        size_t n;
        const int32_t *tokens = ftk_session_tokens(s[i], &n);
        assert_int_equal(n, n_prompt + N);
        assert_memory_equal(tokens + n_prompt, want[i], sizeof want[i]);
        ftk_session_free(s[i]);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy),    cmocka_unit_test(test_pace),

        cmocka_unit_test(test_tree),      cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_fixed),     cmocka_unit_test(test_file),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_skip),
        cmocka_unit_test(test_low_bits),  cmocka_unit_test(test_text_is_the_models),
        cmocka_unit_test(test_direct),    cmocka_unit_test(test_batch),
        cmocka_unit_test(test_copy),      cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
