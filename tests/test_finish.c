/* SPDX-License-Identifier: Apache-2.0
 * Drafts that a device finishes (engine/finish.c): what they draft and emit, how often the host
 * waits, and which are not left to it. */
#include "ondevice.h"
#include "sample.h"

#include <limits.h>

static const struct {
    const ftk_drafter_ops *ops;
    const char *file;
    unsigned flags;
} families[] = {
    {&ftk_drafter_s4c, FTK_MODELS_DIR "/foretoken-demo-s4c.drafter.gguf", 0},
    {&ftk_drafter_firp, FTK_MODELS_DIR "/foretoken-demo-firp.drafter.gguf", 0},
};
enum { FAMILIES = sizeof families / sizeof *families, N = 10 };

static ftk_engine *engine_with(const ftk_model *m, int family)
{
    ftk_engine *e;
    assert_int_equal(open_on(&e, m, "cuda", FTK_TYPE_F16), FTK_OK);
    assert_int_equal(ftk_engine_add_drafter(e, families[family].file), FTK_OK);
    return e;
}

static ftk_session_config config(int budget, ftk_tree_shape shape)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.budget = budget;
    cfg.shape = shape;
    cfg.ignore_end = true;
    return cfg;
}

/* Tokens of plain decoding as the configuration has it. */
static void plain(ftk_engine *e, const ftk_session_config *like, int32_t *out, size_t n)
{
    ftk_session_config cfg = *like;
    cfg.drafter = "none";
    cfg.verifier = "exact";
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    int32_t tokens[64];
    size_t n_text;
    assert_int_equal(ftk_tokenize(e->model, text, 24, FTK_TOK_BOS, tokens, 64, &n_text), FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, n_text), FTK_OK);
    assert_int_equal(take(s, n, out), n);
    ftk_session_free(s);
}

/* Times mean nothing here: what rows cost is made up. */
static void make_up_costs(ftk_engine *e)
{
    e->credit = 1e9;
    e->next_plain = INT_MAX;
    for (int j = 0; j < FTK_COST_POINTS; j++) e->cost.seconds[j] = 1e3 * (20 + j);
}

/* Every step waits once, whatever it drafts, and its tokens are plain decoding's: by a fixed
 * number of nodes and by the cost model, greedy and drawn, in trees and in chains. */
static void test_one_wait(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    for (int i = 0; i < FAMILIES; i++) {
        NEED(families[i].file);
        ftk_engine *e = engine_with(m, i);
        for (int way = 0; way < 4; way++) {
            ftk_session_config cfg =
                config(way == 1 ? -1 : 20, way == 3 ? FTK_TREE_CHAIN : FTK_TREE_FITTED);
            if (way == 2) cfg.sampling.temperature = 0.7f;
            unsigned flags = families[i].flags;
            int32_t want[N], got[N];
            plain(e, &cfg, want, N);
            seen.finishes = true;
            ftk_session *s = watch_as(e, families[i].ops, &cfg, &flags, 64);
            const int *const waits = waits_of(&s->target), before = *waits;
            ftk_session_limit(s, N);
            for (size_t n = 0; n < N;) {
                ftk_result r;
                make_up_costs(e);
                assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
                memcpy(got + n, r.tokens, r.n_tokens * sizeof *got);
                n += r.n_tokens;
            }
            ftk_stats stats;
            ftk_session_get_stats(s, &stats);
            assert_int_equal(*waits - before, (int)stats.steps);
            assert_int_equal(seen.most_waits, 0);
            assert_true(seen.n > 0 && seen.n_finished == seen.n);
            assert_true(stats.drafted > 0 && stats.accepted > 0);
            assert_memory_equal(want, got, sizeof want);
            ftk_session_free(s);
        }
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* Its trees are node for node those that the host makes of the same answers, in every step. */
static void test_same_trees(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    static ftk_tree before[64];
    for (int i = 0; i < 2 * FAMILIES; i++) {
        const int family = i / 2;
        const ftk_session_config cfg = config(30, i % 2 ? FTK_TREE_CHAIN : FTK_TREE_FITTED);
        NEED(families[family].file);
        int n = 0;
        for (int finishes = 0; finishes < 2; finishes++) {
            ftk_engine *e = engine_with(m, family);
            unsigned flags = families[family].flags;
            int32_t got[N];
            seen.finishes = finishes;
            ftk_session *s = watch_as(e, families[family].ops, &cfg, &flags, 64);
            assert_int_equal(take(s, N, got), N);
            assert_true(finishes == (seen.n_finished > 0));
            if (!finishes) memcpy(before, seen.verified, sizeof before);
            if (!finishes) n = seen.n_verified;
            ftk_session_free(s);
            ftk_engine_free(e);
        }
        assert_int_equal(seen.n_verified, n);
        for (int t = 0; t < n; t++) {
            const ftk_tree *const a = &before[t], *const b = &seen.verified[t];
            assert_int_equal(a->n, b->n);
            for (int j = 0; j < a->n; j++) {
                assert_int_equal(a->token[j], b->token[j]);
                assert_int_equal(a->parent[j], b->parent[j]);
                assert_memory_equal(&a->prob[j], &b->prob[j], sizeof a->prob[j]);
            }
        }
    }
    ftk_model_free(m);
}

static ftk_session *open_session(ftk_engine *e, const ftk_session_config *cfg,
                                 const int32_t *tokens, size_t n)
{
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, cfg), FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, n), FTK_OK);
    return s;
}

/* Sessions that share a pass wait once, together: two whose drafts are left to the device, of
 * two families or of one, one that decodes plainly, and one that reads. No row joins such a
 * pass, so those that may are no hindrance. Where the device fails, all of them are told, in one
 * line. */
static void test_together(void **state)
{
    (void)state;
    enum { SESSIONS = 4, STEPS = 3, BUDGET = 12, MOST = 1 + STEPS * (1 + BUDGET), PROMPT = 6 };
    NEED(DEMO);
    ftk_model *m = load();
    for (int i = 0; i < FAMILIES; i++) {
        ftk_engine *e;
        assert_int_equal(open_wide(&e, m, "cuda", FTK_TYPE_F16, 4 * FTK_MAX_NODES), FTK_OK);
        for (int j = 0; j < FAMILIES; j++) {
            NEED(families[j].file);
            assert_int_equal(ftk_engine_add_drafter(e, families[j].file), FTK_OK);
        }
        ftk_session_config cfg = config(BUDGET, i ? FTK_TREE_FITTED : FTK_TREE_CHAIN);
        unsigned flags = 0;
        int32_t want[MOST], prompt[PROMPT];
        for (int t = 0; t < PROMPT; t++) prompt[t] = 5 + t % 50;
        plain(e, &cfg, want, MOST);
        seen.finishes = true;
        ftk_session *s[SESSIONS] = {watch_as(e, families[i].ops, &cfg, &flags, 64)};
        cfg.drafter = "s4c";
        s[1] = open_session(e, &cfg, s[0]->tokens, s[0]->n_tokens);
        cfg.drafter = "none";
        s[2] = open_session(e, &cfg, s[0]->tokens, s[0]->n_tokens);
        s[3] = open_session(e, &cfg, prompt, PROMPT);
        const int *const waits = waits_of(&s[0]->target);
        ftk_result r[SESSIONS];
        size_t n[SESSIONS] = {0};
        for (int step = 0; step <= STEPS; step++) {
            make_up_costs(e);
            if (step > 0) assert_int_equal(ftk_session_append(s[3], prompt, PROMPT), FTK_OK);
            const int before = *waits, of_drafts = seen.n_finished;
            assert_int_equal(ftk_step(s, SESSIONS, r), FTK_OK);
            if (step > 0) assert_int_equal(*waits - before, 1);
            assert_int_equal(seen.n_finished - of_drafts, step > 0);
            if (step > 0) assert_true(s[1]->left.room > 0);
            for (int j = 0; j < 3; j++) {
                assert_memory_equal(want + n[j], r[j].tokens, r[j].n_tokens * sizeof *want);
                n[j] += r[j].n_tokens;
            }
        }
        assert_true(n[0] > n[2] && n[1] > n[2]);
        ftk_gpu_of(e->device)->q.error = 1;
        n_lines = 0;
        assert_int_equal(ftk_step(s, SESSIONS, r), FTK_ERR_DEVICE);
        assert_int_equal(n_lines, 1);
        for (int j = 0; j < SESSIONS; j++) {
            assert_int_equal(r[j].err, FTK_ERR_DEVICE);
            ftk_session_free(s[j]);
        }
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* What goes the other way: penalties, other verifiers, a credit that covers no row, and rows
 * that join a pass of the session's own. */
static void test_not_left(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    for (int i = 0; i < FAMILIES; i++) {
        NEED(families[i].file);
        ftk_engine *e = engine_with(m, i);
        seen.finishes = true;
        for (int way = i ? 3 : 0; way < 3 + i; way++) {
            ftk_session_config cfg = config(way == 2 ? -1 : 12, FTK_TREE_FITTED);
            if (way == 0) cfg.sampling.repeat_penalty = 1.2f;
            if (way == 1) cfg.verifier = "traversal";
            unsigned flags = way == 3 ? FTK_ROWS_JOIN : families[i].flags;
            int32_t want[N], got[N];
            plain(e, &cfg, want, N);
            e->credit = 0;
            ftk_session *s = watch_as(e, families[i].ops, &cfg, &flags, 64);
            for (size_t n = 0; n < N;) {
                ftk_result r;
                assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
                if (way == 2) e->credit = 0;
                for (size_t j = 0; j < r.n_tokens && n < N; j++) got[n++] = r.tokens[j];
            }
            assert_true(seen.n > 0);
            assert_int_equal(seen.n_finished, 0);
            assert_true(seen.most_waits == (way < 2) || way == 2);
            assert_memory_equal(want, got, sizeof want);
            ftk_session_free(s);
        }
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* Where the cache has few slots left, trees are as small as that, and nothing is refused. */
static void test_full_cache(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    for (int i = 0; i < FAMILIES; i++) {
        NEED(families[i].file);
        ftk_engine *e = engine_with(m, i);
        const ftk_session_config cfg = config(100, FTK_TREE_FITTED);
        unsigned flags = families[i].flags;
        int32_t want[N], got[N], filler[200];
        plain(e, &cfg, want, N);
        seen.finishes = true;
        ftk_session *other, *s = watch_as(e, families[i].ops, &cfg, &flags, 64);
        ftk_session_config plainly = cfg;
        plainly.drafter = "none";
        assert_int_equal(ftk_session_open(&other, e, &plainly), FTK_OK);
        assert_int_equal(take(s, 2, got), 2);
        const int room = ftk_session_room(s);
        for (int t = 0; t < 200; t++) filler[t] = 5 + t % 50;
        assert_int_equal(ftk_session_append(other, filler, 170), FTK_OK);
        int32_t none[1];
        assert_int_equal(take(other, 1, none), 1);
        assert_true(ftk_session_room(s) < room && ftk_session_room(s) < 100);
        ftk_session_limit(s, SIZE_MAX);
        assert_int_equal(take(s, N - 2, got + 2), N - 2);
        assert_true(seen.n_finished > 0);
        assert_memory_equal(want, got, sizeof want);
        ftk_session_free(s);
        ftk_session_free(other);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* A device that fails between the draft and its pass: the step says so in one line, and so does
 * every further one. */
static void test_trouble(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m = load();
    for (int i = 0; i < FAMILIES; i++) {
        NEED(families[i].file);
        ftk_engine *e = engine_with(m, i);
        const ftk_session_config cfg = config(20, FTK_TREE_FITTED);
        unsigned flags = families[i].flags;
        int32_t out[6];
        ftk_result r;
        seen.finishes = true;
        ftk_session *s = watch_as(e, families[i].ops, &cfg, &flags, 64);
        assert_int_equal(take(s, 6, out), 6);
        assert_true(seen.n_finished > 0);
        ftk_session_limit(s, SIZE_MAX);
        seen.failing = true;
        const size_t n = s->n_tokens;
        for (int j = 0; j < 2; j++) {
            n_lines = 0;
            assert_int_equal(ftk_step(&s, 1, &r), FTK_ERR_DEVICE);
            assert_int_equal(n_lines, 1);
            assert_string_equal(last_line, "cuda:0 emulated failed: the emulated GPU failed");
        }
        seen.failing = false;
        assert_int_equal(s->n_tokens, n);
        ftk_session_free(s);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest sample[] = {
        cmocka_unit_test(test_same_trees),
        cmocka_unit_test(test_trouble),
    };
    const struct CMUnitTest rest[] = {
        cmocka_unit_test(test_one_wait),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_not_left),
        cmocka_unit_test(test_full_cache),
    };
    return RUN_SAMPLE(argc, argv, sample, rest);
}
