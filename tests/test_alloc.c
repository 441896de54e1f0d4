/* SPDX-License-Identifier: Apache-2.0
 * Fails the N-th allocation, for every N, over a whole life: load, open, append, step, fork, free;
 * and with every drafter over that of two sessions which step together. Each time: an error code,
 * every object still free-able, and no memory left behind. And no step allocates. */
#include "support.h"

#include "counting.h"
#include "engine/session.h"
#include "everydrafter.h"

static void allow_all(void *ctx, const int32_t *tokens, size_t n, uint32_t *allowed)
{
    (void)tokens, (void)n;
    const int n_vocab = *(const int *)ctx;
    memset(allowed, 0xff, (size_t)(n_vocab + 31) / 32 * sizeof *allowed);
}

/* All that may be asked of a session's tokens. */
static ftk_err ask_all(ftk_session *s, int *n_vocab)
{
    const ftk_bias bias = {200, 1};
    const int32_t end = *n_vocab - 1;
    ftk_sampling p = {.temperature = 0.5f, .top_p = 1, .repeat_penalty = 1, .presence_penalty = 1};
    ftk_err err = ftk_session_set_sampling(s, &p);
    if (err == FTK_OK) err = ftk_session_set_bias(s, &bias, 1);
    if (err == FTK_OK) err = ftk_session_set_ends(s, &end, 1);
    if (err == FTK_OK) err = ftk_session_set_mask(s, allow_all, n_vocab);
    if (err == FTK_OK) err = ftk_session_set_logprobs(s, 3, true);
    return err;
}

static int vocabulary_of(const ftk_model *m)
{
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    return info.n_vocab;
}

static ftk_err whole_life(counting *c, void *path)
{
    ftk_model_config mc;
    ftk_model_config_init(&mc);
    mc.host = counting_host(c);
    ftk_model *m;
    ftk_engine *e = NULL;
    ftk_session *s = NULL, *f = NULL;
    ftk_stream *stream = NULL;
    int32_t tokens[64];
    size_t n = 0;
    ftk_err err = ftk_model_load(&m, path, &mc);
    int n_vocab = err == FTK_OK ? vocabulary_of(m) : 0;
    if (err == FTK_OK) {
        ftk_engine_config ec;
        ftk_engine_config_init(&ec);
        ec.threads = 1;
        ec.kv_slots = 192;
        ec.max_rows = 128;
        err = ftk_engine_open(&e, m, &ec);
    }
    if (err == FTK_OK) {
        ftk_session_config sc;
        ftk_session_config_init(&sc);
        sc.drafter = "jacobi";
        sc.budget = 10;
        sc.ignore_end = true;
        err = ftk_session_open(&s, e, &sc);
    }
    if (err == FTK_OK) err = ftk_stream_open(&stream, m, false, NULL, 0);
    if (err == FTK_OK) err = ftk_tokenize(m, "Once upon a time", 16, FTK_TOK_BOS, tokens, 64, &n);
    if (err == FTK_OK) err = ftk_session_append(s, tokens, n);
    if (err == FTK_OK) err = ask_all(s, &n_vocab);
    for (int i = 0; i < 12 && err == FTK_OK; i++) {
        ftk_result r;
        c->stepping = true;
        err = ftk_step(&s, 1, &r);
        c->stepping = false;
        const char *text;
        bool stopped;
        for (size_t j = 0; j < r.n_tokens && err == FTK_OK; j++)
            err = ftk_stream_push(stream, r.tokens[j], &text, &n, &stopped);
    }
    if (err == FTK_OK) err = ftk_session_fork(&f, s, NULL);
    if (err == FTK_OK) err = ftk_session_set_drafter(f, "lookup");
    double score;
    if (err == FTK_OK) err = ftk_score(e, tokens, 4, &score);
    ftk_stream_free(stream);
    ftk_session_free(f);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
    return err;
}

static void test_every_allocation(void **state)
{
    (void)state;
    char *path = STORIES "stories260K-f32.gguf";
    if (access(path, R_OK) != 0) path = DEMO;
    NEED(path);
    counting c = {0};
    const long n = fail_each(&c, path, whole_life, path);
    assert_true(n > 20);
    printf("%ld allocations, each failed once\n", n);
}

/* ---- every drafter, two sessions in one step */

enum { TOGETHER = 2, STEPS = 10 };

static ftk_err steps(ftk_session *const *s, int n_steps, counting *c)
{
    ftk_result r[TOGETHER];
    ftk_err err = FTK_OK;
    for (int i = 0; i < n_steps && err == FTK_OK; i++) {
        c->stepping = true;
        err = ftk_step(s, TOGETHER, r);
        c->stepping = false;
    }
    return err;
}

typedef struct two {
    ftk_engine *engine;
    ed_place where;
    const char *drafter;
    uint64_t drafted;
} two;

static ftk_err two_lives(counting *c, void *with)
{
    two *const t = with;
    ftk_engine *const e = t->engine;
    int n_vocab = vocabulary_of(e->model);
    ftk_session *s[TOGETHER] = {NULL}, *f = NULL;
    ftk_err err = FTK_OK;
    for (int i = 0; i < TOGETHER && err == FTK_OK; i++)
        err = ed_open(&s[i], e, t->where, t->drafter, 8, i);
    if (err == FTK_OK) err = steps(s, STEPS, c);
    if (err == FTK_OK) err = ask_all(s[1], &n_vocab);
    if (err == FTK_OK) err = ftk_session_fork(&f, s[0], NULL);
    if (err == FTK_OK) err = steps((ftk_session *[]){f, s[1]}, STEPS, c);
    if (err == FTK_OK) err = ftk_session_set_drafter(f, "lookup");
    if (err == FTK_OK) err = ftk_session_set_drafter(f, t->drafter);
    if (err == FTK_OK) err = steps((ftk_session *[]){f, s[1]}, STEPS, c);
    for (int i = 0; i < TOGETHER && err == FTK_OK; i++) {
        ftk_stats stats;
        ftk_session_get_stats(s[i], &stats);
        t->drafted += stats.drafted;
    }
    ftk_session_free(f);
    for (int i = 0; i < TOGETHER; i++) ftk_session_free(s[i]);
    return err;
}

/* The first life is a whole one, and takes what an engine takes with the first session of a
 * family. */
static long fail_each_of_two(ftk_engine *e, ed_place where, const char *drafter, counting *c)
{
    two t = {e, where, drafter, 0};
    assert_int_equal(two_lives(c, &t), FTK_OK);
    assert_true(t.drafted > 0 || !ftk_drafter_lossless(drafter));
    return fail_each(c, drafter, two_lives, &t);
}

static void test_every_drafter(void **state)
{
    (void)state;
    NEED(DEMO);
    bool seen[FTK_MAX_DRAFTERS] = {false};
    for (ed_place where = 0; where < ED_PLACES; where++) {
        counting c = {0};
        ftk_model_config cfg;
        ftk_model_config_init(&cfg);
        cfg.host = counting_host(&c);
        ftk_model *m;
        assert_int_equal(ftk_model_load(&m, ed_path(where), &cfg), FTK_OK);
        ftk_engine *e = open_engine(m, 1, 1024, FTK_TYPE_F16);
        assert_int_equal(ed_add(e, where), FTK_OK);
        const char *name[ED_MAX_DRAFTERS];
        for (int k = ed_drafters(e, name) - 1; k >= 0; k--) {
            const long n = fail_each_of_two(e, where, name[k], &c);
            printf("%s: %ld allocations, each failed once\n", name[k], n);
            for (int i = 0; ftk_drafter_list[i]; i++)
                seen[i] |= strcmp(ftk_drafter_list[i]->name, name[k]) == 0;
        }
        ftk_engine_free(e);
        ftk_model_free(m);
        assert_int_equal(c.live, 0);
    }
    for (int i = 0; ftk_drafter_list[i]; i++)
        if (!seen[i]) fail_msg("%s is not tried", ftk_drafter_list[i]->name);
}

static int write_files(void **state)
{
    (void)state;
    return ed_write("alloc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_every_drafter),
    };
    return cmocka_run_group_tests(tests, write_files, NULL);
}
