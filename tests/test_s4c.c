/* SPDX-License-Identifier: Apache-2.0
 * S4C: what its heads compute, on a target of its own that is small enough to compute again; the
 * tree; its file; and the whole on the demo model, whose text it must not change. */
#include "smalltarget.h"

#include <math.h>

enum { HEADS = 3 };

static float output[V][D], in[HEADS][D][2 * D], body[HEADS][D][D];
static float in_alone[HEADS][D][D]; /* of heads that see no token */
static ftk_mat mats[2 * HEADS + 1];
static ftk_weight items[2 * HEADS];

/* Passes so slow that every head is worth running. */
static double seconds(void *ctx, int layer, int rows)
{
    (void)ctx, (void)layer, (void)rows;
    return 1e6;
}

static const ftk_target target = {.seconds = seconds,
                                  .now = real_now,
                                  .space = &small_space,
                                  .pace = pace,
                                  .n_vocab = V,
                                  .n_embd = D,
                                  .n_layer = 1,
                                  .embed = embed,
                                  .multiply = multiply};

/* Keys are read from a file that holds nothing else. */
static ftk_weights weights_of(ftk_gguf *file, bool token)
{
    uint32_t state = 7;
    for (int i = 0; i < V; i++)
        for (int j = 0; j < D; j++) {
            embeddings[i][j] = noise(&state);
            output[i][j] = 6 * noise(&state);
        }
    for (int h = 0; h < HEADS; h++) {
        for (int i = 0; i < D; i++) {
            for (int j = 0; j < 2 * D; j++) in[h][i][j] = noise(&state);
            for (int j = 0; j < D; j++) body[h][i][j] = noise(&state);
            for (int j = 0; j < D; j++) in_alone[h][i][j] = 2 * noise(&state);
        }
        const int n_in = token ? 2 * D : D;
        const void *first = token ? (const void *)in[h] : in_alone[h];
        ftk_weight *w = &items[2 * h];
        mats[2 * h] = (ftk_mat){.type = FTK_TYPE_F32, .n_out = D, .n_in = n_in, .data = first};
        mats[2 * h + 1] = (ftk_mat){.type = FTK_TYPE_F32, .n_out = D, .n_in = D, .data = body[h]};
        w[0] = (ftk_weight){.n_out = D, .n_in = n_in, .matrix = &mats[2 * h]};
        w[1] = (ftk_weight){.n_out = D, .n_in = D, .matrix = &mats[2 * h + 1]};
        snprintf(w[0].name, sizeof w[0].name, "head.%d.in", h);
        snprintf(w[1].name, sizeof w[1].name, "head.%d.body", h);
    }
    mats[2 * HEADS] = (ftk_mat){.type = FTK_TYPE_F32, .n_out = V, .n_in = D, .data = output};
    return (ftk_weights){.path = "small",
                         .file = file,
                         .n = 2 * HEADS,
                         .items = items,
                         .head = &mats[2 * HEADS],
                         .n_head = V};
}

static ftk_weights small_weights(ftk_gguf *file)
{
    return weights_of(file, true);
}

static const char *const key_names[] = {"foretoken.drafter.heads", "foretoken.drafter.chained",
                                        "foretoken.drafter.token"};

static ftk_gguf *heads_only(uint32_t heads)
{
    return keys_only(1, key_names, &heads);
}

/* The next feature, and the probabilities it gives, in double. token -1: none is seen. */
static void by_hand(int head, int token, const double *g, double *next, double *p)
{
    double u[D], sum = 0;
    for (int i = 0; i < D && token >= 0; i++)
        sum += (double)embeddings[token][i] * embeddings[token][i];
    for (int i = 0; i < D; i++) {
        u[i] = 0;
        for (int j = 0; j < D && token >= 0; j++)
            u[i] += in[head][i][j] * embeddings[token][j] / sqrt(sum / D + 1e-6) +
                    in[head][i][D + j] * g[j];
        for (int j = 0; j < D && token < 0; j++) u[i] += in_alone[head][i][j] * g[j];
    }
    for (int i = 0; i < D; i++) {
        double v = 0;
        for (int j = 0; j < D; j++) v += body[head][i][j] * u[j];
        next[i] = u[i] + v / (1 + exp(-v));
    }
    double total = 0;
    for (int t = 0; t < V; t++) {
        double l = 0;
        for (int i = 0; i < D; i++) l += output[t][i] * next[i];
        total += p[t] = exp(l);
    }
    for (int t = 0; t < V; t++) p[t] /= total;
}

static int likeliest(const double *p)
{
    int best = 0;
    for (int t = 1; t < V; t++)
        if (p[t] > p[best]) best = t;
    return best;
}

/* A plain step: the root alone was verified; its feature is g, and `next` came. */
static void teach(void *s, const int32_t *text, size_t n, int32_t next, const double *g)
{
    ftk_tree t;
    ftk_tree_init(&t, text[n - 1]);
    float feature[D], logits[V] = {0};
    for (int i = 0; i < D; i++) feature[i] = (float)g[i];
    const ftk_verdict v = {.token = {next}};
    const ftk_rows rows = {.logits = logits, .features = feature};
    ftk_drafter_s4c.learn(s, text, n, &t, &v, &rows);
}

static const int32_t text[] = {1, 2, 3, 4, 5, 6, 7};
enum { N_TEXT = 6 }; /* the seventh is the root of the next tree */

/* The chain follows each head's likeliest token. */
static void follow_heads(bool chained, bool token_seen)
{
    ftk_gguf *keys = keys_only(3, key_names, (const uint32_t[]){HEADS, chained, token_seen});
    const ftk_weights w = weights_of(keys, token_seen);
    assert_int_equal(ftk_drafter_s4c.check(&w, &target, NULL), FTK_OK);
    const unsigned flags = FTK_WITHOUT_RETRIEVAL;
    void *s = open_shaped(&ftk_drafter_s4c, &target, &w, FTK_TREE_CHAIN, &flags);
    int deep = 0;
    for (int trial = 0; trial < 20; trial++) {
        uint32_t seed = 100 + (uint32_t)trial;
        double g[D], next[D], p[V];
        for (int i = 0; i < D; i++) g[i] = (double)(float)(4 * noise(&seed));
        ftk_drafter_s4c.reset(s, text, N_TEXT);
        teach(s, text, N_TEXT, text[N_TEXT], g);
        ftk_tree t;
        ftk_tree_init(&t, text[N_TEXT]);
        ftk_drafter_s4c.propose(s, text, N_TEXT + 1, 16, &t);
        assert_in_range(t.n, 2, 1 + HEADS);
        for (int i = 1, token = text[N_TEXT]; i < t.n; i++) {
            by_hand(i - 1, token_seen ? token : -1, g, next, p);
            assert_int_equal(t.parent[i], i - 1);
            assert_int_equal(t.token[i], token = likeliest(p));
            if (chained) memcpy(g, next, sizeof g);
        }
        deep += t.n == 1 + HEADS;
    }
    assert_true(deep > 0); /* all heads had their turn */
    close_small(&ftk_drafter_s4c, s);
    ftk_gguf_free(keys);
}

static void test_heads(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) follow_heads(kind & 1, kind & 2);
}

/* Heads that see no token have the same children for all nodes of a depth. */
static void test_no_token(void **state)
{
    (void)state;
    const double g[D] = {0.6, -0.3, 0.3, 0.2, -0.6, 0.3, 0, 0.3};
    for (uint32_t chained = 0; chained < 2; chained++) {
        ftk_gguf *keys = keys_only(3, key_names, (const uint32_t[]){HEADS, chained, 0});
        const ftk_weights w = weights_of(keys, false);
        void *s = open_small(&ftk_drafter_s4c, &target, &w, NULL);
        ftk_drafter_s4c.reset(s, text, N_TEXT);
        teach(s, text, N_TEXT, text[N_TEXT], g);
        ftk_tree t;
        ftk_tree_init(&t, text[N_TEXT]);
        ftk_drafter_s4c.propose(s, text, N_TEXT + 1, FTK_MAX_NODES - 1, &t);
        int with_children = 0, token = -1;
        for (int i = 1; i < t.n; i++) {
            const int child = ftk_tree_next(&t, i, i + 1);
            if (t.depth[i] != 1 || child < 0) continue;
            if (with_children++) assert_int_equal(t.token[child], token);
            token = t.token[child];
        }
        assert_true(with_children > 1);
        close_small(&ftk_drafter_s4c, s);
        ftk_gguf_free(keys);
    }
}

/* A tree: children of the root are the first head's likeliest tokens; nothing is worth more than
 * what it hangs on; the budget holds. */
static void test_tree(void **state)
{
    (void)state;
    ftk_gguf *keys = heads_only(HEADS);
    const ftk_weights w = small_weights(keys);
    const unsigned flags = 0;
    void *s = open_small(&ftk_drafter_s4c, &target, &w, &flags);
    const double g[D] = {2, -1, 1, 0.5, -2, 1, 0, 1};
    double next[D], p[V];
    by_hand(0, text[N_TEXT], g, next, p);
    for (int budget = 0; budget <= FTK_MAX_NODES - 1; budget += budget < 8 ? 1 : 17) {
        ftk_drafter_s4c.reset(s, text, N_TEXT);
        teach(s, text, N_TEXT, text[N_TEXT], g);
        ftk_tree t;
        ftk_tree_init(&t, text[N_TEXT]);
        ftk_drafter_s4c.propose(s, text, N_TEXT + 1, budget, &t);
        assert_true(t.n <= budget + 1);
        for (int i = 1; i < t.n; i++) {
            assert_true(t.prob[i] > 0 && t.prob[i] <= t.prob[t.parent[i]]);
            assert_true(i == 1 || t.prob[i] <= t.prob[i - 1] || t.parent[i] == i - 1);
        }
        if (budget > 0) assert_int_equal(t.token[1], likeliest(p));
        if (budget == 17) assert_true(t.n > 8);
    }
    close_small(&ftk_drafter_s4c, s);
    ftk_gguf_free(keys);
}

/* A head is run for what its tokens are worth: nothing, where others come in no time. */
static void test_pace(void **state)
{
    (void)state;
    ftk_gguf *keys = keys_only(3, key_names, (const uint32_t[]){HEADS, 1, 1});
    const ftk_weights w = weights_of(keys, true);
    const unsigned flags = FTK_WITHOUT_RETRIEVAL;
    void *s = open_shaped(&ftk_drafter_s4c, &target, &w, FTK_TREE_FITTED, &flags);
    const double g[D] = {1, 2, 3};
    for (int i = 0; i < 2; i++) {
        pace_of_late = i == 0 ? 1 : 1e15;
        ftk_drafter_s4c.reset(s, text, N_TEXT);
        teach(s, text, N_TEXT, text[N_TEXT], g);
        ftk_tree t;
        ftk_tree_init(&t, text[N_TEXT]);
        ftk_drafter_s4c.propose(s, text, N_TEXT + 1, 16, &t);
        assert_true((t.n > 1) == (i == 0));
    }
    pace_of_late = 1;
    close_small(&ftk_drafter_s4c, s);
    ftk_gguf_free(keys);
}

/* The feature is of one text: without it heads do not run. */
static void test_reset(void **state)
{
    (void)state;
    ftk_gguf *keys = heads_only(HEADS);
    const ftk_weights w = small_weights(keys);
    const double g[D] = {2, -1, 1, 0.5, -2, 1, 0, 1};
    void *s = open_small(&ftk_drafter_s4c, &target, &w, NULL);
    for (int reset = 0; reset < 2; reset++) {
        ftk_tree t;
        teach(s, text, N_TEXT, text[N_TEXT], g);
        if (reset) ftk_drafter_s4c.reset(s, text, N_TEXT + 1);
        ftk_tree_init(&t, text[N_TEXT]);
        ftk_drafter_s4c.propose(s, text, N_TEXT + 1, FTK_MAX_NODES - 1, &t);
        assert_true((t.n > 1) == !reset);
    }
    close_small(&ftk_drafter_s4c, s);
    ftk_gguf_free(keys);
}

static void test_retrieval(void **state)
{
    (void)state;
    static const int32_t again[] = {3, 4, 5, 6, 7, 8, 3, 4, 5};
    ftk_gguf *keys = heads_only(HEADS);
    const ftk_weights w = small_weights(keys);
    for (unsigned flags = 0; flags <= FTK_WITHOUT_RETRIEVAL; flags++) {
        void *s = open_small(&ftk_drafter_s4c, &target, &w, &flags);
        ftk_retrieval_ask(&retrieval, again, 9);
        ftk_tree t;
        ftk_tree_init(&t, 5);
        ftk_drafter_s4c.propose(s, again, 9, 3, &t);
        assert_int_equal(t.n, flags ? 1 : 4);
        for (int i = 1; i < t.n; i++) assert_int_equal(t.token[i], 5 + i);
        close_small(&ftk_drafter_s4c, s);
    }
    ftk_gguf_free(keys);
}

/* ---- its file */

static void test_file(void **state)
{
    (void)state;
    static const bad_file bad[] = {
        {{HEADS, 1, 1}, 3, "small: tensor head.1.body is missing"},
        {{HEADS + 1, 1, 1}, -1, "small: tensor head.3.in is missing"},
        {{0, 1, 1},
         -1,
         "small: key foretoken.drafter.heads is missing, or no whole number from 1 to 8"},
        {{9, 1, 1},
         -1,
         "small: key foretoken.drafter.heads is missing, or no whole number from 1 to 8"},
        {{HEADS, 2, 1},
         -1,
         "small: key foretoken.drafter.chained is missing, or no whole number from 0 to 1"},
        {{HEADS, 1, 2},
         -1,
         "small: key foretoken.drafter.token is missing, or no whole number from 0 to 1"},
        {{HEADS, 1, 0}, -1, "small: tensor head.0.in has shape [16, 8] instead of [8, 8]"},
    };
    const small_file f = {&ftk_drafter_s4c, &target, 3, key_names, small_weights, items};
    refuse_each(&f, bad, sizeof bad / sizeof *bad);
    for (int n_keys = 1; n_keys <= 3; n_keys++) {
        ftk_gguf *keys = keys_only(n_keys, key_names, (const uint32_t[]){HEADS, 0, 1});
        const ftk_weights w = small_weights(keys);
        assert_int_equal(ftk_drafter_s4c.check(&w, &target, NULL), FTK_OK);
        items[0].n_in = D;
        refused(&f, &w, "small: tensor head.0.in has shape [8, 8] instead of [16, 8]");
        ftk_gguf_free(keys);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    ftk_gguf *keys = heads_only(HEADS);
    const ftk_weights w = small_weights(keys);
    assert_true(fail_each_of_init(&ftk_drafter_s4c, &target, &w) > 2);
    ftk_gguf_free(keys);
}

/* ---- the demo model */

/* Heads that pass the feature on: they guess the same token again. */
static void write_repeating(const char *path, const ftk_model *m, int n_vocab)
{
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    const size_t d = (size_t)info.n_embd;
    float *in_m = calloc(2 * d * d, sizeof *in_m), *body_m = calloc(d * d, sizeof *body_m);
    for (size_t i = 0; i < d; i++) in_m[i * 2 * d + d + i] = 1;
    gw w;
    gw_init(&w);
    gw_str(&w, "general.architecture", "foretoken-drafter");
    gw_str(&w, "foretoken.drafter.family", "s4c");
    gw_str(&w, "foretoken.drafter.base", info.fingerprint);
    gw_u32(&w, "foretoken.drafter.heads", 2);
    uint32_t *ids = malloc((size_t)n_vocab * sizeof *ids);
    for (int i = 0; i < n_vocab; i++) ids[i] = 2 * (uint32_t)i;
    if (n_vocab > 0) gw_array(&w, "foretoken.drafter.vocab", FTK_GGUF_U32, (uint64_t)n_vocab, ids);
    for (int h = 0; h < 2; h++) {
        char name[32];
        snprintf(name, sizeof name, "head.%d.in", h);
        gw_tensor(&w, name, 2, (uint64_t[]){2 * d, d}, FTK_TYPE_F32, in_m, 2 * d * d * 4);
        snprintf(name, sizeof name, "head.%d.body", h);
        gw_tensor(&w, name, 2, (uint64_t[]){d, d}, FTK_TYPE_F32, body_m, d * d * 4);
    }
    assert_true(gw_end(&w, path));
    free(ids);
    free(in_m);
    free(body_m);
}

static void test_text_is_the_models(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load_model(DEMO);
    for (int threads = 1; threads <= 2; threads++) {
        char folder[] = "s4c-XXXXXX", path[64], beside[64];
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof path, "%s/demo-s4c.drafter.gguf", folder);
        snprintf(beside, sizeof beside, "%s/model.gguf", folder);
        write_repeating(path, m, threads == 2 ? 300 : 0);
        ftk_engine *e = open_engine(m, threads, 1024, FTK_TYPE_F16);
        ftk_session_config cfg;
        ftk_session_config_init(&cfg);
        cfg.drafter = "s4c";
        ftk_session *s;
        assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_ERR_INVALID); /* no file yet */
        int found;
        assert_int_equal(ftk_engine_find_drafters(e, beside, &found), FTK_OK);
        assert_int_equal(found, 1);
        assert_int_equal(ftk_engine_add_drafter(e, path), FTK_ERR_INVALID); /* a second one */
        check_text(e, &ftk_drafter_s4c, 0);
        ftk_engine_free(e);
        unlink(path);
        rmdir(folder);
    }
    ftk_model_free(m);
}

static double clock_now(void *ctx)
{
    return *(int *)ctx * 1e-3;
}

static void clock_pass(void *ctx, double layers, int rows, double slot_rows, int n_logits)
{
    (void)layers, (void)rows, (void)slot_rows, (void)n_logits;
    ++*(int *)ctx;
}

static void clock_product(void *ctx, int n_out, int n_in, int rows)
{
    (void)n_out, (void)n_in, (void)rows;
    ++*(int *)ctx;
}

/* A head is timed before the first draft, once for all sessions of an engine. */
static void test_head_is_timed(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load_model(DEMO);
    int work = 0, found;
    const ftk_clock clock = {clock_now, clock_pass, clock_product, &work};
    ftk_engine_config ec;
    ftk_engine_config_init(&ec);
    ec.threads = 1;
    ec.kv_slots = 1024;
    ftk_engine *e;
    assert_int_equal(ftk_engine_open_by(&e, m, &ec, &clock), FTK_OK);
    assert_int_equal(ftk_engine_find_drafters(e, DEMO, &found), FTK_OK);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "s4c";
    ftk_session *s[2];
    for (int i = 0; i < 2; i++) {
        const int before = work;
        assert_int_equal(ftk_session_open(&s[i], e, &cfg), FTK_OK);
        assert_int_equal(work - before, i == 0 ? 9 : 0); /* three runs of three products */
    }
    for (int i = 0; i < 2; i++) ftk_session_free(s[i]);
    ftk_engine_free(e);
    ftk_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_no_token),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_pace),
        cmocka_unit_test(test_retrieval),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_text_is_the_models),
        cmocka_unit_test(test_head_is_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
