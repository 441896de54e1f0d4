/* SPDX-License-Identifier: Apache-2.0
 * Retrieval: what it predicts and learns; that a session has one, whichever families draft; and
 * that what it learned under one family another one, or the next session, begins with. */
#include "base/meter.h"
#include "demosession.h"

#include "drafters/drafter.h"
#include "engine/session.h"

enum { CAP = 100 };

static ftk_retrieval_rates rates;

/* ------------------------------------------------------------------ by itself */

static void test_chains(void **state)
{
    (void)state;
    ftk_retrieval r;
    ftk_retrieval_rates_init(&rates);
    assert_int_equal(ftk_retrieval_init(&r, NULL, CAP, &rates), FTK_OK);
    const int32_t text[] = {1, 2, 3, 9, 1, 2, 4, 8, 1, 2};
    ftk_retrieval_ask(&r, text, 4);
    assert_int_equal(r.n, 0);
    ftk_retrieval_ask(&r, text, 10);
    assert_true(r.length == 2 && r.n == FTK_RETRIEVED);
    const int32_t recent[] = {4, 8, 1, 2, 4}, first[] = {3, 9, 1, 2, 4};
    assert_memory_equal(r.recent, recent, sizeof recent);
    assert_memory_equal(r.first, first, sizeof first);
    ftk_retrieval_reset(&r, text, 4);
    assert_true(r.n == 0 && r.asked == 0);
    ftk_retrieval_ask(&r, text, 5);
    assert_int_equal(r.recent[0], 2);
    ftk_retrieval_free(&r, NULL);
}

/* A prediction is settled once, and by what came behind its own text alone. */
static void test_settles(void **state)
{
    (void)state;
    ftk_retrieval r;
    ftk_retrieval_rates_init(&rates);
    assert_int_equal(ftk_retrieval_init(&r, NULL, CAP, &rates), FTK_OK);
    const int32_t text[] = {1, 2, 3, 9, 1, 2, 4, 8, 1, 2};
    ftk_retrieval_ask(&r, text, 10);
    const float before = ftk_retrieval_goes_on(&r, 0), fork = ftk_retrieval_forks(&r, 0);
    ftk_retrieval_settle(&r, 9, (const int32_t[]){4}, 1);
    assert_true(ftk_retrieval_goes_on(&r, 0) == before);
    ftk_retrieval_settle(&r, 10, (const int32_t[]){3, 9, 7}, 3); /* the earliest one is right */
    const float after = ftk_retrieval_goes_on(&r, 0);
    assert_true(after < before && ftk_retrieval_forks(&r, 0) > fork);
    ftk_retrieval_settle(&r, 10, (const int32_t[]){4}, 1);
    assert_true(ftk_retrieval_goes_on(&r, 0) == after);
    for (int i = 0; i < 50; i++) {
        ftk_retrieval_ask(&r, text, 10);
        ftk_retrieval_settle(&r, 10, (const int32_t[]){4, 8, 7}, 3);
    }
    assert_true(ftk_retrieval_goes_on(&r, 0) > 0.9f);
    assert_true(ftk_retrieval_goes_on(&r, 1) > 0.4f && ftk_retrieval_goes_on(&r, 1) < 0.6f);
    ftk_retrieval_reset(&r, text, 0); /* rates stay */
    ftk_retrieval_ask(&r, text, 10);
    assert_true(ftk_retrieval_goes_on(&r, 0) > 0.9f);
    ftk_retrieval_free(&r, NULL);
}

/* ------------------------------------------------------------------ in sessions */

static size_t index_size;
static int indexes;

/* Edges are the part of an index whose size no other allocation of a session has. */
static void *watching_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    indexes += size == index_size;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void answer(ftk_session *s, int n)
{
    static int32_t out[256];
    static const int32_t prompt[] = {1, 40, 50, 60, 40, 50};
    assert_int_equal(ftk_session_append(s, prompt, 6), FTK_OK);
    assert_int_equal(take(s, (size_t)n, out), n);
}

static ftk_engine *open_watched(ftk_model **m)
{
    ftk_engine *e = open_demo(m, watching_alloc);
    index_size = (3 * (size_t)e->kv_slots + 1) * 4 * sizeof(int32_t) + FTK_METER_HEAD;
    return e;
}

static void test_one_a_session(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m;
    ftk_engine *e = open_watched(&m);
    indexes = 0;
    ftk_session *s = open_session(e, "none");
    assert_int_equal(indexes, 0);
    ftk_session_free(s);
    s = open_session(e, "auto");
    assert_non_null(s->family.ops);
    assert_int_equal(indexes, 1);
    answer(s, 100);
    assert_true(s->retrieval.suffix.n > 90); /* all but what the last step emitted */
    assert_int_equal(ftk_session_set_drafter(s, "lookup"), FTK_OK);
    assert_int_equal(ftk_session_set_drafter(s, "none"), FTK_OK);
    assert_int_equal(ftk_session_truncate(s, 20), FTK_OK);
    assert_int_equal(ftk_session_set_drafter(s, "recycle"), FTK_OK);
    assert_int_equal(s->retrieval.suffix.n, 20);
    answer(s, 20);
    assert_int_equal(indexes, 1);
    ftk_session *copy;
    assert_int_equal(ftk_session_fork(&copy, s, NULL), FTK_OK);
    assert_int_equal(indexes, 2);
    assert_int_equal(copy->retrieval.suffix.n, s->n_tokens);
    ftk_session_free(copy);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* The first node of what a family drafts where retrieval alone has a guess. (DASH would run
 * layers over a text that is not the session's.) */
static float first_prob(ftk_session *s, const char *drafter)
{
    static const int32_t text[] = {5, 6, 7, 5, 6};
    assert_int_equal(ftk_session_set_drafter(s, drafter), FTK_OK);
    ftk_tree t;
    ftk_tree_init(&t, 6);
    ftk_retrieval_reset(&s->retrieval, text, 5);
    ftk_retrieval_ask(&s->retrieval, text, 5);
    s->family.ops->reset(s->family.state, text, 5);
    s->family.ops->propose(s->family.state, text, 5, 1, &t);
    assert_true(t.n == 2 && t.token[1] == 7);
    return t.prob[1];
}

static void test_families_share_rates(void **state)
{
    (void)state;
    NEED(DEMO);
    static const char *const names[] = {"lookup", "recycle", "jacobi", "s4c", "firp"};
    enum { N = sizeof names / sizeof names[0] };
    ftk_model *m;
    ftk_engine *e = open_watched(&m);
    ftk_retrieval_rates fresh;
    ftk_retrieval_rates_init(&fresh);
    for (int by = 0; by < 2; by++) { /* learned under lookup, under recycle */
        e->retrieval = fresh;
        ftk_session *s = open_session(e, names[by]);
        float before[N];
        for (int i = 0; i < N; i++) before[i] = first_prob(s, names[i]);
        assert_int_equal(ftk_session_set_drafter(s, names[by]), FTK_OK);
        assert_int_equal(ftk_session_truncate(s, 0), FTK_OK);
        answer(s, 200);
        assert_memory_not_equal(&e->retrieval, &fresh, sizeof fresh);
        for (int i = 0; i < 100; i++) {
            ftk_rate *two = &e->retrieval.goes_on[ftk_match_class(2)];
            ftk_rate_see(two, true);
        }
        for (int i = 0; i < N; i++) assert_true(first_prob(s, names[i]) > before[i] + 0.2f);
        const ftk_retrieval_rates learned = e->retrieval;
        ftk_session_free(s);
        s = open_session(e, "auto"); /* a later session begins with it */
        assert_memory_equal(&e->retrieval, &learned, sizeof learned);
        ftk_session_free(s);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_settles),
        cmocka_unit_test(test_one_a_session),
        cmocka_unit_test(test_families_share_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
