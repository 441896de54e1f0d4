/* SPDX-License-Identifier: Apache-2.0
 * Two engines of two threads each, on two threads of the host, that share a model: each says what
 * it says alone. Under the thread sanitizer it is seen that they share nothing else. */
#include "support.h"

#include <pthread.h>

#include "engine/session.h"
#include "everydrafter.h"

enum { HOSTS = 2, SESSIONS = 2, STEPS = 10, TOKENS = STEPS - 2, MOST = 1 + ED_MAX_DRAFTERS };

/* What a thread of the host does, and what came. Its asserts are the main thread's. */
typedef struct work {
    const ftk_model *m;
    ed_place where;
    ftk_err err;
    int n; /* drafters */
    const char *drafter[MOST];
    int32_t said[MOST][SESSIONS][TOKENS];
} work;

static ftk_err say(ftk_engine *e, ed_place where, const char *drafter, int32_t (*said)[TOKENS])
{
    ftk_session *s[SESSIONS] = {NULL};
    ftk_err err = FTK_OK;
    size_t from[SESSIONS] = {0}, n;
    for (int i = 0; i < SESSIONS && err == FTK_OK; i++) {
        err = ed_open(&s[i], e, where, drafter, 8, i);
        if (err == FTK_OK) ftk_session_tokens(s[i], &from[i]);
    }
    for (int i = 0; i < STEPS && err == FTK_OK; i++) {
        ftk_result r[SESSIONS];
        err = ftk_step(s, SESSIONS, r);
    }
    for (int i = 0; i < SESSIONS && err == FTK_OK; i++) {
        const int32_t *const text = ftk_session_tokens(s[i], &n);
        if (n < from[i] + TOKENS) err = FTK_ERR_SPACE;
        if (err == FTK_OK) memcpy(said[i], text + from[i], sizeof *said);
    }
    for (int i = 0; i < SESSIONS; i++) ftk_session_free(s[i]);
    return err;
}

static void *use_engine(void *arg)
{
    work *const w = arg;
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = 2;
    cfg.kv_slots = 512;
    cfg.measure = true; /* the cost of passes, too, is found by both at once */
    ftk_engine *e;
    w->err = ftk_engine_open(&e, w->m, &cfg);
    if (w->err == FTK_OK) w->err = ed_add(e, w->where);
    w->drafter[0] = "none";
    w->n = w->err == FTK_OK ? 1 + ed_drafters(e, w->drafter + 1) : 0;
    for (int d = 0; d < w->n && w->err == FTK_OK; d++)
        w->err = say(e, w->where, w->drafter[d], w->said[d]);
    ftk_engine_free(e);
    return NULL;
}

static void two_engines(ed_place where)
{
    static work w[HOSTS];
    pthread_t thread[HOSTS];
    ftk_model *m = load_model(ed_path(where));
    memset(w, 0, sizeof w);
    for (int i = 0; i < HOSTS; i++) {
        w[i].m = m;
        w[i].where = where;
        assert_int_equal(pthread_create(&thread[i], NULL, use_engine, &w[i]), 0);
    }
    for (int i = 0; i < HOSTS; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < HOSTS; i++) {
        assert_int_equal(w[i].err, FTK_OK);
        assert_true(w[i].n > 4);
        assert_int_equal(w[i].n, w[0].n);
        for (int d = 0; d < w[i].n; d++)
            if (ftk_drafter_lossless(w[i].drafter[d]))
                assert_memory_equal(w[i].said[d], w[0].said[0], sizeof *w[i].said);
    }
    ftk_model_free(m);
}

static void test_two_engines_on_demo(void **state)
{
    (void)state;
    NEED(DEMO);
    two_engines(ED_DEMO);
}

static void test_two_engines_on_small(void **state)
{
    (void)state;
    two_engines(ED_SMALL);
}

/* An engine goes from one thread to another between steps. */
typedef struct handed {
    ftk_session *s;
    int32_t *out;
    size_t n;
} handed;

static void *step_once(void *arg)
{
    handed *const h = arg;
    ftk_result r;
    if (ftk_step(&h->s, 1, &r) != FTK_OK) return NULL;
    memcpy(h->out + h->n, r.tokens, r.n_tokens * sizeof *h->out);
    h->n += r.n_tokens;
    return arg;
}

static void test_engine_is_handed_on(void **state)
{
    (void)state;
    enum { WANTED = 12 };
    int32_t got[WANTED + FTK_MAX_NODES], want[WANTED];
    ftk_model *m = load_model(ed_path(ED_SMALL));
    ftk_engine *e = open_engine(m, 3, 512, FTK_TYPE_F16);
    ftk_session *s;
    assert_int_equal(ed_open(&s, e, ED_SMALL, "none", -1, 0), FTK_OK);
    assert_int_equal(take(s, WANTED, want), WANTED);
    ftk_session_free(s);
    handed h = {.out = got};
    assert_int_equal(ed_open(&h.s, e, ED_SMALL, "auto", 8, 0), FTK_OK);
    while (h.n < WANTED) {
        pthread_t thread;
        void *done;
        assert_int_equal(pthread_create(&thread, NULL, step_once, &h), 0);
        pthread_join(thread, &done);
        assert_non_null(done);
    }
    assert_memory_equal(got, want, sizeof want);
    ftk_session_free(h.s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

static int write_files(void **state)
{
    (void)state;
    return ed_write("threads");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_engines_on_small),
        cmocka_unit_test(test_two_engines_on_demo),
        cmocka_unit_test(test_engine_is_handed_on),
    };
    return cmocka_run_group_tests(tests, write_files, NULL);
}
