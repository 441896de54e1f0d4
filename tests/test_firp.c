/* SPDX-License-Identifier: Apache-2.0
 * FIRP: its pseudo states, on a target of its own that is small enough to compute again; which
 * rows join a pass, and when; its file; and the whole on the demo model, whose text it must not
 * change. */
#include "smalltarget.h"

#include <math.h>

#include "firpfile.h"

enum { LAYERS = 4, LAYER = 3, OFFSETS = 3, SEEN = 8 };

static float maps[OFFSETS][D][D], of_token[OFFSETS][D][D];
static ftk_mat mats[2 * OFFSETS];
static ftk_weight items[2 * OFFSETS];

/* ---- what the target is asked for */

static struct {
    int runs, n;
    float x[SEEN][D];
    float logits[SEEN][V];
    double base, row; /* seconds of a pass: base + row * rows */
    double clock;
} asked;

static double seconds(void *ctx, int layer, int rows)
{
    (void)ctx;
    return (asked.base + asked.row * rows) * (LAYERS - layer) / LAYERS;
}

static double now(void *ctx)
{
    (void)ctx;
    return asked.clock;
}

static const ftk_rows *run_above(void *ctx, int layer, int n, const float *x)
{
    (void)ctx;
    assert_int_equal(layer, LAYER);
    asked.runs++;
    asked.n = n;
    asked.clock += seconds(NULL, layer, n);
    memcpy(asked.x, x, (size_t)n * sizeof asked.x[0]);
    static ftk_rows rows;
    rows.logits = asked.logits[0];
    return &rows;
}

static const ftk_target target = {.n_vocab = V,
                                  .n_embd = D,
                                  .n_layer = LAYERS,
                                  .embed = embed,
                                  .multiply = multiply,
                                  .run_above = run_above,
                                  .seconds = seconds,
                                  .now = now,
                                  .pace = pace};

static const char *const key_names[] = {"foretoken.drafter.layer", "foretoken.drafter.offsets"};

static ftk_gguf *keys(void)
{
    return keys_only(2, key_names, (const uint32_t[]){LAYER, OFFSETS});
}

static void name_map(int at, const char *name, int i, float (*m)[D])
{
    mats[at] = (ftk_mat){.type = FTK_TYPE_F32, .n_out = D, .n_in = D, .data = m};
    items[at] = (ftk_weight){.n_out = D, .n_in = D, .matrix = &mats[at]};
    snprintf(items[at].name, sizeof items[at].name, "offset.%d.%s", i, name);
}

/* tokens: with maps of the root's embedding. */
static ftk_weights small_weights(const ftk_gguf *file, bool tokens)
{
    uint32_t state = 5;
    for (int i = 0; i < V; i++)
        for (int j = 0; j < D; j++) embeddings[i][j] = noise(&state);
    for (int o = 0; o < OFFSETS; o++) {
        for (int i = 0; i < D * D; i++) {
            maps[o][i / D][i % D] = noise(&state);
            of_token[o][i / D][i % D] = noise(&state);
        }
        name_map(o, "weight", o, maps[o]);
        name_map(OFFSETS + o, "token", o, of_token[o]);
    }
    memset(&asked, 0, sizeof asked);
    asked.base = 1;
    return (ftk_weights){
        .path = "small", .file = file, .n = tokens ? 2 * OFFSETS : OFFSETS, .items = items};
}

static void *start(const ftk_weights *w, unsigned flags)
{
    return open_small(&ftk_drafter_firp, &target, w, &flags);
}

static const int32_t text[] = {1, 2, 3, 4, 5, 6, 7};
enum { N_TEXT = 6 }; /* the seventh is the root of the next tree */

static void fill_states(float (*states)[D], int n)
{
    uint32_t seed = 77;
    for (int i = 0; i < n * D; i++) states[i / D][i % D] = 20 * noise(&seed);
}

/* A plain step: the root alone was verified, and text[N_TEXT] came. */
static void teach(void *s)
{
    ftk_tree t;
    ftk_tree_init(&t, text[N_TEXT - 1]);
    float states[1][D];
    fill_states(states, 1);
    const ftk_verdict v = {.token = {text[N_TEXT]}};
    ftk_drafter_firp.reset(s, text, N_TEXT);
    ftk_drafter_firp.learn(s, text, N_TEXT, &t, &v, &(ftk_rows){.states = states[0]});
}

static ftk_tree propose(void *s, int budget)
{
    ftk_tree t;
    ftk_tree_init(&t, text[N_TEXT]);
    ftk_drafter_firp.propose(s, text, N_TEXT + 1, budget, &t);
    return t;
}

static double pseudo(int offset, const float *h, const float *e, int j)
{
    double z = 0, of_h = 0, of_e = 0, y = 0;
    for (int i = 0; i < D; i++) {
        z += (double)maps[offset][j][i] * h[i];
        y += e ? (double)of_token[offset][j][i] * e[i] : 0;
        of_h += (double)h[i] * h[i];
        of_e += e ? (double)e[i] * e[i] : 1;
    }
    return z + y * sqrt(of_h / D) / sqrt(of_e / D + 1e-6);
}

/* ---- the split schedule */

/* The maps of the kept state and of the root's embedding, where the file has those. */
static void test_states(void **state)
{
    (void)state;
    ftk_gguf *file = keys();
    float h[1][D];
    fill_states(h, 1);
    for (int tokens = 0; tokens < 2; tokens++) {
        const ftk_weights w = small_weights(file, tokens);
        assert_int_equal(ftk_drafter_firp.state_layer(&w), LAYER - 1);
        void *s = start(&w, 0);
        teach(s);
        propose(s, 8);
        assert_int_equal(asked.runs, 1);
        assert_int_equal(asked.n, OFFSETS);
        for (int o = 0; o < OFFSETS; o++)
            for (int j = 0; j < D; j++) {
                const double z = pseudo(o, h[0], tokens ? embeddings[text[N_TEXT]] : NULL, j);
                assert_true(fabs(asked.x[o][j] - z) < 1e-4 * (1 + fabs(z)));
            }
        propose(s, 8); /* the same text: the rows are there */
        assert_int_equal(asked.runs, 1);
        ftk_drafter_firp.reset(s, text, N_TEXT + 1);
        assert_int_equal(propose(s, 8).n, 1); /* no state of this text */
        assert_int_equal(asked.runs, 1);
        close_small(&ftk_drafter_firp, s);
    }
    ftk_gguf_free(file);
}

/* Row i names the tokens of depth i + 1, on every branch; nodes come best first; the budget
 * holds. */
static void test_tree(void **state)
{
    (void)state;
    ftk_gguf *file = keys();
    const ftk_weights w = small_weights(file, true);
    for (int o = 0; o < OFFSETS; o++) {
        asked.logits[o][10 + o] = 9;
        asked.logits[o][20 - o] = 8;
    }
    for (int budget = 0; budget <= FTK_MAX_NODES - 1; budget += budget < 8 ? 1 : 17) {
        void *s = start(&w, 0);
        teach(s);
        const ftk_tree t = propose(s, budget);
        assert_true(t.n <= budget + 1);
        for (int i = 1; i < t.n; i++) {
            assert_true(t.prob[i] > 0 && t.prob[i] <= t.prob[t.parent[i]]);
            assert_true(i == 1 || t.prob[i] <= t.prob[i - 1] || t.parent[i] == i - 1);
        }
        if (budget >= OFFSETS)
            for (int o = 0, at = 0; o < OFFSETS; o++)
                assert_true((at = ftk_tree_child(&t, at, 10 + o)) > 0);
        if (budget == 25) {
            const int second = ftk_tree_child(&t, 0, 20);
            assert_true(second > 0 && ftk_tree_child(&t, second, 11) > 0);
            assert_true(ftk_tree_child(&t, second, 19) > 0);
        }
        close_small(&ftk_drafter_firp, s);
    }
    ftk_gguf_free(file);
}

static void test_retrieval(void **state)
{
    (void)state;
    static const int32_t again[] = {3, 4, 5, 6, 7, 8, 3, 4, 5};
    ftk_gguf *file = keys();
    const ftk_weights w = small_weights(file, true);
    for (unsigned flags = 0; flags <= FTK_WITHOUT_RETRIEVAL; flags++) {
        void *s = start(&w, flags);
        ftk_retrieval_ask(&retrieval, again, 9);
        ftk_tree t;
        ftk_tree_init(&t, 5);
        ftk_drafter_firp.propose(s, again, 9, 3, &t);
        assert_int_equal(t.n, flags ? 1 : 4);
        for (int i = 1; i < t.n; i++) assert_int_equal(t.token[i], 5 + i);
        close_small(&ftk_drafter_firp, s);
    }
    ftk_gguf_free(file);
}

/* Upper layers are not run for drafts that hardly ever bring anything in, but now and then, nor
 * where the text that repeats promises more. */
static void test_worth(void **state)
{
    (void)state;
    enum { STEPS = 150 };
    ftk_gguf *file = keys();
    const ftk_weights w = small_weights(file, true);
    void *s = start(&w, FTK_WITHOUT_RETRIEVAL);
    int32_t all[N_CTX];
    float states[1][D];
    fill_states(states, 1);
    for (int i = 0; i < N_CTX; i++) all[i] = i % 9;
    for (int again = 0; again < 2; again++) {
        asked.runs = 0;
        ftk_drafter_firp.reset(s, all, 1);
        for (size_t n = 1; n <= STEPS; n++) {
            ftk_tree t;
            ftk_tree_init(&t, all[n - 1]);
            ftk_drafter_firp.propose(s, all, n, 0, &t);
            const ftk_verdict v = {.token = {all[n]}};
            ftk_drafter_firp.learn(s, all, n, &t, &v, &(ftk_rows){.states = states[0]});
        }
        assert_in_range(asked.runs, 1, again ? STEPS / 10 : STEPS / 5);
    }
    close_small(&ftk_drafter_firp, s);
    s = start(&w, 0);
    asked.runs = 0;
    for (size_t n = 1; n <= 40; n++) {
        ftk_tree t;
        ftk_tree_init(&t, all[n - 1]);
        ftk_retrieval_ask(&retrieval, all, n);
        ftk_drafter_firp.propose(s, all, n, 16, &t);
        const ftk_verdict v = {.token = {all[n]}};
        ftk_retrieval_settle(&retrieval, n, v.token, 1);
        ftk_drafter_firp.learn(s, all, n, &t, &v, &(ftk_rows){.states = states[0]});
    }
    assert_in_range(asked.runs, 1, 15); /* until the text came round */
    close_small(&ftk_drafter_firp, s);
    ftk_gguf_free(file);
}

/* ---- the fused schedule */

/* The root, its children 7 (0.6) and 8 (0.1), 7's child 9 (0.5): 0.5 that 9 is the last, 0.3
 * that the root is, 0.1 for 7 and for 8. */
static ftk_tree small_tree(void)
{
    ftk_tree t;
    ftk_tree_init(&t, text[N_TEXT - 1]);
    ftk_tree_add(&t, 0, 7, 0.6f);
    ftk_tree_add(&t, 1, 9, 0.5f);
    ftk_tree_add(&t, 0, 8, 0.1f);
    return t;
}

/* Nodes whose rows join, the likeliest last ones first, as far as there is room. */
static void test_which_join(void **state)
{
    (void)state;
    static const struct {
        int most;
        unsigned flags;
        int n;
    } cases[] = {
        {100, FTK_ROWS_JOIN, 4},
        {100, 0, 0},
        {3 * OFFSETS + 2, FTK_ROWS_JOIN, 3},
        {2, FTK_ROWS_JOIN, 0},
    };
    static const int16_t order[] = {2, 0, 1, 3};
    ftk_gguf *file = keys();
    const ftk_weights w = small_weights(file, true);
    const ftk_tree t = small_tree();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        void *s = start(&w, cases[i].flags);
        int16_t node[FTK_MAX_NODES];
        const int n = ftk_drafter_firp.append(s, &t, cases[i].most, node);
        assert_int_equal(n, cases[i].n * OFFSETS);
        for (int j = 0; j < n && j < 2 * OFFSETS; j++)
            assert_int_equal(node[j], order[j / OFFSETS]);
        close_small(&ftk_drafter_firp, s);
    }
    ftk_gguf_free(file);
}

/* The rows of the last accepted node are the next draft, if it has any; they do not see the token
 * that comes next. */
static void test_fused(void **state)
{
    (void)state;
    ftk_gguf *file = keys();
    const ftk_weights w = small_weights(file, true);
    float states[4][D], x[2 * OFFSETS][D], logits[2 * OFFSETS][V] = {{0}};
    fill_states(states, 4);
    for (int i = 0; i < 2 * OFFSETS; i++) logits[i][10 + i] = 9;
    const ftk_tree t = small_tree();
    /* Accepted: 7 and 9; none; 7. */
    static const ftk_verdict verdicts[] = {
        {.n_path = 2, .path = {0, 1, 2}, .token = {7, 9, 3}},
        {.n_path = 0, .path = {0}, .token = {3}},
        {.n_path = 1, .path = {0, 1}, .token = {7, 3}},
    };
    for (int i = 0; i < 3; i++) {
        void *s = start(&w, FTK_ROWS_JOIN);
        asked.runs = 0;
        int16_t node[FTK_MAX_NODES];
        assert_int_equal(ftk_drafter_firp.append(s, &t, 2 * OFFSETS, node), 2 * OFFSETS);
        ftk_drafter_firp.appended(s, states[0], x[0]);
        for (int r = 0; r < 2 * OFFSETS; r++)
            for (int j = 0; j < D; j++) {
                const double z = pseudo(r % OFFSETS, states[node[r]], NULL, j);
                assert_true(fabs(x[r][j] - z) < 1e-4 * (1 + fabs(z)));
            }
        int32_t all[N_TEXT + 3];
        memcpy(all, text, N_TEXT * sizeof *all);
        const ftk_verdict *v = &verdicts[i];
        memcpy(all + N_TEXT, v->token, (size_t)(v->n_path + 1) * sizeof *all);
        ftk_drafter_firp.learn(
            s, all, N_TEXT, &t, v,
            &(ftk_rows){.states = states[0], .appended = &(ftk_rows){.logits = logits[0]}});
        ftk_tree next;
        ftk_tree_init(&next, 3);
        ftk_drafter_firp.propose(s, all, N_TEXT + (size_t)v->n_path + 1, 3, &next);
        assert_int_equal(asked.runs, 0);
        assert_true((next.n > 1) == (i < 2));
        for (int o = 0; i < 2 && o < OFFSETS; o++)
            assert_int_equal(next.token[1 + o], 10 + i * OFFSETS + o);
        close_small(&ftk_drafter_firp, s);
    }
    ftk_gguf_free(file);
}

/* ---- its file */

static ftk_weights with_tokens(ftk_gguf *file)
{
    return small_weights(file, true);
}

static void test_file(void **state)
{
    (void)state;
    static const bad_file bad[] = {
        {{0, 3},
         -1,
         "small: key foretoken.drafter.layer is missing, or no whole number from 1 to 3"},
        {{4, 3},
         -1,
         "small: key foretoken.drafter.layer is missing, or no whole number from 1 to 3"},
        {{3, 0},
         -1,
         "small: key foretoken.drafter.offsets is missing, or no whole number from 1 to 8"},
        {{3, 9},
         -1,
         "small: key foretoken.drafter.offsets is missing, or no whole number from 1 to 8"},
        {{3, 4}, -1, "small: tensor offset.3.weight is missing"},
        {{3, 3}, 1, "small: tensor offset.1.weight is missing"},
        {{3, 3}, 5, "small: tensor offset.2.token is missing"},
    };
    const small_file f = {&ftk_drafter_firp, &target, 2, key_names, with_tokens, items};
    refuse_each(&f, bad, sizeof bad / sizeof *bad);
    ftk_gguf *file = keys();
    for (int tokens = 0; tokens < 2; tokens++) {
        const ftk_weights w = small_weights(file, tokens);
        assert_int_equal(ftk_drafter_firp.check(&w, &target, NULL), FTK_OK);
    }
    const ftk_weights w = with_tokens(file);
    items[OFFSETS].n_in = 2 * D;
    refused(&f, &w, "small: tensor offset.0.token has shape [16, 8] instead of [8, 8]");
    ftk_gguf_free(file);
}

static void test_no_memory(void **state)
{
    (void)state;
    ftk_gguf *file = keys();
    const ftk_weights w = small_weights(file, true);
    assert_true(fail_each_of_init(&ftk_drafter_firp, &target, &w) > 3);
    ftk_gguf_free(file);
}

/* ---- the demo model */

static void test_text_is_the_models(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load_model(DEMO);
    for (int threads = 1; threads <= 2; threads++) {
        char path[] = "firp-XXXXXX";
        close(mkstemp(path));
        write_firp(path, m, threads == 2);
        ftk_engine *e = open_engine(m, threads, 1024, FTK_TYPE_F16);
        assert_false(ftk_engine_has_drafter(e, "firp"));
        assert_int_equal(ftk_engine_add_drafter(e, path), FTK_OK);
        assert_true(ftk_engine_has_drafter(e, "firp"));
        check_text(e, &ftk_drafter_firp, 0);
        check_text(e, &ftk_drafter_firp, FTK_ROWS_JOIN);
        ftk_engine_free(e);
        unlink(path);
    }
    ftk_model_free(m);
}

/* To the last token of the context there is room for a tree, if not for what joins it; in passes
 * that sessions share nothing joins; and no line is logged. */
static void test_room(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load_model(DEMO);
    char path[] = "firp-XXXXXX";
    close(mkstemp(path));
    write_firp(path, m, true);
    ftk_engine *e = open_engine(m, 1, 128, FTK_TYPE_F16);
    assert_int_equal(ftk_engine_add_drafter(e, path), FTK_OK);
    unsigned flags = FTK_ROWS_JOIN;
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.budget = 8;
    cfg.n_ctx = 64;
    cfg.ignore_end = true;
    ftk_session *s[2];
    const int32_t prompt[] = {1, 300, 301, 302};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ftk_session_open_with(&s[i], e, &cfg, &ftk_drafter_firp, &flags), FTK_OK);
        assert_int_equal(ftk_session_append(s[i], prompt, 4), FTK_OK);
    }
    counting count = {0};
    e->host = counting_host(&count);
    ftk_result r[2] = {{0}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(ftk_step(s, 2, r), FTK_OK);
        assert_int_equal(s[0]->n_joined + s[1]->n_joined, 0);
    }
    int joined = 0;
    for (int i = 0; i < 2; i++)
        for (r[0].finish = FTK_FINISH_NONE; r[0].finish == FTK_FINISH_NONE;) {
            assert_int_equal(ftk_step(&s[i], 1, r), FTK_OK);
            joined += s[i]->n_joined;
        }
    assert_int_equal(r[0].finish, FTK_FINISH_CONTEXT);
    assert_true(joined > 0);
    assert_int_equal(count.errors, 0);
    e->host = (ftk_host){0};
    for (int i = 0; i < 2; i++) ftk_session_free(s[i]);
    ftk_engine_free(e);
    ftk_model_free(m);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_retrieval),
        cmocka_unit_test(test_worth),
        cmocka_unit_test(test_which_join),
        cmocka_unit_test(test_fused),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_text_is_the_models),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
