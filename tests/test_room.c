/* SPDX-License-Identifier: Apache-2.0
 * A cache that is too small for all: with any drafter every session stops where it would without,
 * and has said the same. test_room demo|small */
#include "support.h"

#include "engine/session.h"
#include "everydrafter.h"
#include "testkit/test_drafters_ops.h"

enum { MOST = 8, LONGEST = 2048, PATIENCE = 3000 /* steps */ };

static ed_place where;

/* How sessions are stepped, with which drafts. */
typedef struct way {
    const char *const *drafters; /* [n_drafters], taken in turn */
    int n_drafters, budget;
    bool in_turn; /* not together */
} way;

typedef struct answers {
    int32_t token[MOST][LONGEST];
    size_t n[MOST];
} answers;

static ftk_session *open_one(ftk_engine *e, const way *w, int i)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = w->drafters[i % w->n_drafters];
    cfg.budget = w->budget;
    cfg.ignore_end = true;
    cfg.sampling.temperature = i % 2 ? 0.8f : 0;
    ftk_session *s;
    size_t n;
    int32_t prompt[ED_MAX_PROMPT];
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    assert_int_equal(ed_prompt(e->model, where, i, prompt, &n), FTK_OK);
    assert_int_equal(ftk_session_append(s, prompt, n), FTK_OK);
    return s;
}

static ftk_session *fork_one(ftk_session *first, const way *w, int i)
{
    const ftk_sampling own = {
        .temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = (uint64_t)i};
    ftk_session *s;
    assert_int_equal(ftk_session_fork(&s, first, &own), FTK_OK);
    assert_int_equal(ftk_session_set_drafter(s, w->drafters[i % w->n_drafters]), FTK_OK);
    return s;
}

/* One step of each; false: none got anywhere. */
static bool step_all(ftk_session **s, int n, bool in_turn, answers *out)
{
    ftk_result r[MOST];
    bool moved = false;
    for (int i = 0; i < n; i += in_turn ? 1 : n) {
        const ftk_err err = ftk_step(s + i, in_turn ? 1 : (size_t)n, r + i);
        assert_true(err == FTK_OK || err == FTK_ERR_NO_ROOM);
    }
    for (int i = 0; i < n; i++) {
        assert_true(r[i].err == FTK_OK || r[i].err == FTK_ERR_NO_ROOM);
        assert_true(out->n[i] + r[i].n_tokens <= LONGEST);
        memcpy(out->token[i] + out->n[i], r[i].tokens, r[i].n_tokens * sizeof(int32_t));
        out->n[i] += r[i].n_tokens;
        moved |= r[i].n_tokens > 0 || (r[i].err == FTK_OK && r[i].finish == FTK_FINISH_NONE);
    }
    return moved;
}

/* Until none gets anywhere. The last ones of n are forks of the first. */
static void run_until_stuck(ftk_engine *e, int n, int forks, const way *w, answers *out)
{
    ftk_session *s[MOST];
    int steps = 0;
    memset(out->n, 0, sizeof out->n);
    for (int i = 0; i < n; i++) s[i] = i < n - forks ? open_one(e, w, i) : fork_one(s[0], w, i);
    while (step_all(s, n, w->in_turn, out)) assert_true(++steps < PATIENCE);
    for (int i = 0; i < n; i++) ftk_session_free(s[i]);
}

static void compare(ftk_engine *e, int n, int forks, const way *w, const answers *want)
{
    static answers got;
    run_until_stuck(e, n, forks, w, &got);
    for (int i = 0; i < n; i++) {
        if (got.n[i] != want->n[i])
            fail_msg("%d slots, session %d of %d, %s, budget %d, %s: %zu tokens, not %zu",
                     e->kv_slots, i, n, w->drafters[i % w->n_drafters], w->budget,
                     w->in_turn ? "in turn" : "together", got.n[i], want->n[i]);
        assert_memory_equal(got.token[i], want->token[i], got.n[i] * sizeof(int32_t));
    }
}

static void check_size(const ftk_model *m, int slots, int n, int forks, bool all)
{
    static const char *const none[] = {"none"}, *const mixed[] = {"auto", "none", "lookup"};
    static answers want;
    const char *name[ED_MAX_DRAFTERS];
    ftk_engine *e = open_engine(m, 1, slots, FTK_TYPE_F16);
    assert_int_equal(ed_add(e, where), FTK_OK);
    run_until_stuck(e, n, forks, &(way){none, 1, -1, false}, &want);
    const int n_names = ed_drafters(e, name);
    for (int k = 0; k < 3; k++) {
        const int budget = k == 1 ? 20 : all ? -1 : 5;
        for (int i = 0; i < n_names; i++) {
            if (!ftk_drafter_lossless(name[i]) || (!all && strcmp(name[i], "lookup") != 0))
                continue;
            compare(e, n, forks, &(way){&name[i], 1, budget, k == 2}, &want);
        }
        compare(e, n, forks, &(way){mixed, 3, budget, k == 2}, &want);
    }
    ftk_engine_free(e);
}

static void test_drafts_in_a_full_cache(void **state)
{
    (void)state;
    NEED(ed_path(where));
    ftk_model_config cfg; /* without a log, which would say over and over that the cache is full */
    ftk_model_config_init(&cfg);
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, ed_path(where), &cfg), FTK_OK);
    check_size(m, 256, 2, 0, true);
    check_size(m, 256, 3, 0, true);
    check_size(m, 512, 6, 3, true);
    check_size(m, 64, 1, 0, true);
    check_size(m, 2048, 8, 0, false);
    ftk_model_free(m);
}

/* A prompt that comes into the same pass needs the page that a draft would have: the draft is cut,
 * and both go on. */
static void test_a_newcomer_takes_the_page(void **state)
{
    (void)state;
    NEED(ed_path(where));
    enum { READ = FTK_PAGE - 4, NEW = 30 };
    int32_t text[2 * FTK_PAGE];
    for (int i = 0; i < 2 * FTK_PAGE; i++) text[i] = 3 + i % 200;
    ftk_test_reference truth = {text, 2 * FTK_PAGE};
    ftk_model *m = load_model(ed_path(where));
    for (int first = 0; first < 2; first++) {
        ftk_engine *e = open_engine(m, 1, 2 * FTK_PAGE, FTK_TYPE_F16);
        ftk_session_config cfg;
        ftk_session_config_init(&cfg);
        cfg.budget = 20;
        cfg.ignore_end = true;
        ftk_session *s[2];
        ftk_result r[2];
        assert_int_equal(ftk_session_open_with(&s[first], e, &cfg, &ftk_drafter_wrong, &truth),
                         FTK_OK);
        assert_int_equal(ftk_session_append(s[first], text, READ), FTK_OK);
        assert_int_equal(ftk_step(&s[first], 1, r), FTK_OK);
        assert_int_equal(ftk_session_open(&s[!first], e, &cfg), FTK_OK);
        assert_int_equal(ftk_session_append(s[!first], text, NEW), FTK_OK);
        assert_int_equal(ftk_step(s, 2, r), FTK_OK);
        assert_true(r[0].n_tokens >= 1 && r[1].n_tokens >= 1);
        assert_true(r[first].drafted > 0 && r[first].drafted < FTK_PAGE - READ);
        for (int i = 0; i < 2; i++) ftk_session_free(s[i]);
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* Two drafts reach for the one page that is free, as either would leave the other's plain decoding
 * what it needs: one is to end before that page, and the other comes to it later. The first one
 * takes it, and the other is cut where its own page ends. */
static void test_two_drafts_for_one_page(void **state)
{
    (void)state;
    NEED(ed_path(where));
    enum { ENDS = 60, GOES_ON = 50, BUDGET = 20 };
    int32_t text[2 * FTK_PAGE];
    for (int i = 0; i < 2 * FTK_PAGE; i++) text[i] = 3 + i % 200;
    ftk_test_reference truth = {text, 2 * FTK_PAGE};
    ftk_model *m = load_model(ed_path(where));
    for (int first = 0; first < 2; first++) {
        ftk_engine *e = open_engine(m, 1, 3 * FTK_PAGE, FTK_TYPE_F16);
        ftk_session_config cfg;
        ftk_session_config_init(&cfg);
        cfg.budget = BUDGET;
        cfg.ignore_end = true;
        ftk_session *s[2];
        ftk_result r[2];
        const int read[2] = {first ? GOES_ON : ENDS, first ? ENDS : GOES_ON};
        for (int i = 0; i < 2; i++) {
            assert_int_equal(ftk_session_open_with(&s[i], e, &cfg, &ftk_drafter_wrong, &truth),
                             FTK_OK);
            assert_int_equal(ftk_session_append(s[i], text, (size_t)read[i]), FTK_OK);
        }
        assert_int_equal(ftk_step(s, 2, r), FTK_OK);
        ftk_session_limit(s[first], 2);
        assert_int_equal(ftk_step(s, 2, r), FTK_OK);
        assert_int_equal(r[0].drafted, BUDGET);
        assert_int_equal(r[1].drafted, FTK_PAGE - read[1] - 1);
        for (int i = 0; i < 2; i++) {
            assert_true(r[i].n_tokens >= 1);
            ftk_session_free(s[i]);
        }
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

static int write_files(void **state)
{
    (void)state;
    return where == ED_SMALL ? ed_write("room") : 0;
}

int main(int argc, char **argv)
{
    where = argc > 1 && strcmp(argv[1], "demo") == 0 ? ED_DEMO : ED_SMALL;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_newcomer_takes_the_page),
                                       cmocka_unit_test(test_two_drafts_for_one_page),
                                       cmocka_unit_test(test_drafts_in_a_full_cache)};
    return cmocka_run_group_tests(tests, write_files, NULL);
}
