/* SPDX-License-Identifier: Apache-2.0
 * Successors: what the table holds and learns; that a session has one, whichever families draft;
 * that what it read under one family another one drafts, and what it measured the next session
 * begins with; and that where reading costs something it is done as long as it pays. */
#include "base/meter.h"
#include "demosession.h"

#include <math.h>

#include "drafters/drafter.h"
#include "engine/session.h"

enum { VOCAB = 30 };

/* ------------------------------------------------------------------ by itself */

static float logits[4][VOCAB];
static ftk_successor_rates rates;

static ftk_successors open_table(void)
{
    ftk_successors s;
    ftk_successor_rates_init(&rates);
    assert_int_equal(ftk_successors_init(&s, NULL, VOCAB, &rates), FTK_OK);
    memset(logits, 0, sizeof logits);
    return s;
}

/* 1, and below it 2 and 3, and 4 below 2. Rows say 2, 4, 9, 5 first and one more second. */
static ftk_tree four_nodes(void)
{
    static const int32_t first[4] = {2, 4, 9, 5};
    for (int i = 0; i < 4; i++) {
        logits[i][first[i]] = 20;
        logits[i][first[i] + 1] = 19;
    }
    ftk_tree t;
    ftk_tree_init(&t, 1);
    ftk_tree_add(&t, 0, 2, 0.5f);
    ftk_tree_add(&t, 0, 3, 0.3f);
    ftk_tree_add(&t, 1, 4, 0.2f);
    return t;
}

static const ftk_verdict three_came = {.n_path = 2, .path = {0, 1, 3}, .token = {2, 4, 5}};

static void check_set(const ftk_successors *s, int32_t token, int32_t first)
{
    const ftk_successor_set *const set = &s->of[token];
    assert_true(set->size[0] == 2 && set->size[1] == 5); /* 73 %, 27 % */
    assert_int_equal(set->token[0], first);
    assert_int_equal(set->token[1], first + 1);
    assert_int_equal(set->size[2], FTK_LIKELY_BINS);
}

static void test_reads(void **state)
{
    (void)state;
    ftk_successors s = open_table();
    const ftk_tree t = four_nodes();
    const ftk_rows rows = {.logits = logits[0]};
    for (int i = 0; i < VOCAB; i++) assert_int_equal(s.of[i].size[0], 0);
    assert_int_equal(ftk_successors_read(&s, &t, &three_came, &rows, false), 3);
    assert_int_equal(s.of[3].size[0], 0); /* rejected */
    check_set(&s, 1, 2);
    check_set(&s, 2, 4);
    check_set(&s, 4, 5);
    assert_true(rates.took > 0);
    logits[0][20] = 30; /* what came was expected: this is not looked at, unless all is */
    assert_int_equal(ftk_successors_read(&s, &t, &three_came, &rows, false), 0);
    check_set(&s, 1, 2);
    const ftk_verdict other = {.n_path = 0, .path = {0}, .token = {20}};
    assert_int_equal(ftk_successors_read(&s, &t, &other, &rows, false), 1);
    assert_int_equal(s.of[1].token[0], 20);
    assert_int_equal(ftk_successors_read(&s, &t, &three_came, &rows, true), 4);
    check_set(&s, 3, 9);
    logits[2][7] = NAN;
    ftk_successors_read(&s, &t, &three_came, &rows, true);
    assert_int_equal(s.of[3].size[0], 0);
    ftk_successors_free(&s, NULL);
}

/* What a device says of a row in place of its logits makes the same table. */
static void test_ranked(void **state)
{
    (void)state;
    ftk_successors a = open_table(), b = open_table();
    const ftk_tree t = four_nodes();
    ftk_ranked ranked[4];
    for (int i = 0; i < 4; i++) {
        ranked[i].token = ftk_top_k(logits[i], VOCAB, FTK_BEST, ranked[i].best) ? 0 : -1;
        float sum = 0;
        for (int j = 0; j < VOCAB; j++) sum += expf(logits[i][j] - 20);
        for (int k = 0; k < FTK_BEST; k++)
            ranked[i].prob[k] = expf(logits[i][ranked[i].best[k]] - 20) / sum;
    }
    ftk_successors_read(&a, &t, &three_came, &(ftk_rows){.logits = logits[0]}, true);
    ftk_successors_read(&b, &t, &three_came, &(ftk_rows){.ranked = ranked}, true);
    assert_memory_equal(a.of, b.of, VOCAB * sizeof *a.of);
    ftk_successors_free(&a, NULL);
    ftk_successors_free(&b, NULL);
}

/* Guesses are judged by depth and size, where the tokens before them were right. */
static void test_settles(void **state)
{
    (void)state;
    ftk_successors s = open_table();
    s.of[1] = (ftk_successor_set){{2, 3}, {1, 4}};
    s.of[2] = (ftk_successor_set){{5, 6}, {1, 4}};
    const ftk_successor_set *const set = &s.of[1];
    const float first = ftk_successor_right(&s, set, 0, 0),
                other = ftk_successor_right(&s, set, 1, 0);
    const float below = ftk_successor_right(&s, set, 0, 1),
                third = ftk_successor_right(&s, set, 0, 2);
    assert_true(first > other);
    const int32_t truth[] = {2, 6};
    for (int i = 0; i < 50; i++) ftk_successors_settle(&s, 1, truth, 2);
    assert_true(ftk_successor_right(&s, set, 0, 0) > 0.95f);
    assert_true(ftk_successor_right(&s, set, 1, 0) < 0.05f);
    assert_true(ftk_successor_right(&s, set, 0, 1) < 0.05f && below > 0.1f);
    assert_true(ftk_successor_right(&s, set, 1, 1) > 0.9f);
    assert_true(ftk_successor_right(&s, set, 0, 2) == third); /* never reached */
    assert_true(ftk_successor_right(&s, set, 0, 100) ==
                ftk_successor_right(&s, set, 0, FTK_SUCCESSOR_DEPTHS - 1));
    ftk_successors_free(&s, NULL);
}

static void *no_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx, (void)size, (void)align;
    return NULL;
}

static void test_no_memory(void **state)
{
    (void)state;
    const ftk_host host = {.alloc = no_alloc};
    ftk_successors s;
    assert_int_equal(ftk_successors_init(&s, &host, VOCAB, &rates), FTK_ERR_NOMEM);
    ftk_successors_free(&s, &host);
    assert_int_equal(sizeof(ftk_successor_set), 40); /* as documented */
}

/* ------------------------------------------------------------------ in sessions */

static size_t table_size;
static bool refused;

static void *refusing_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    if (refused && size == table_size) return NULL;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void answer(ftk_session *s, int n)
{
    static int32_t out[256];
    static const char text[] = "Tell me a story about a king and his dog.";
    int32_t prompt[64];
    size_t n_prompt;
    assert_int_equal(
        ftk_tokenize(s->engine->model, text, sizeof text - 1, FTK_TOK_BOS, prompt, 64, &n_prompt),
        FTK_OK);
    assert_int_equal(ftk_session_append(s, prompt, n_prompt), FTK_OK);
    assert_int_equal(take(s, (size_t)n, out), n);
}

static ftk_engine *open_watched(ftk_model **m)
{
    ftk_engine *e = open_demo(m, refusing_alloc);
    table_size = (size_t)e->model->hp.n_vocab * sizeof(ftk_successor_set) + FTK_METER_HEAD;
    return e;
}

static int known(const ftk_session *s)
{
    int n = 0;
    for (int i = 0; i < s->successors.n_vocab; i++) n += s->successors.of[i].size[0] > 0;
    return n;
}

static void test_one_a_session(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m;
    ftk_engine *e = open_watched(&m);
    ftk_session *s = open_session(e, "lookup"); /* does without one */
    answer(s, 20);
    assert_null(s->successors.of);
    assert_int_equal(ftk_session_set_drafter(s, "none"), FTK_OK);
    refused = true;
    assert_int_equal(ftk_session_set_drafter(s, "recycle"), FTK_ERR_NOMEM);
    refused = false;
    assert_true(!s->family.ops && !s->successors.of);
    assert_int_equal(ftk_session_set_drafter(s, "auto"), FTK_OK);
    const ftk_successor_set *const table = s->successors.of;
    assert_non_null(table);
    answer(s, 100);
    const int before = known(s);
    assert_true(before > 10);
    assert_int_equal(ftk_session_truncate(s, 10), FTK_OK); /* what was said may be said again */
    assert_int_equal(known(s), before);
    assert_int_equal(ftk_session_set_drafter(s, "lookup"), FTK_OK);
    answer(s, 20); /* who does without does not have it read */
    assert_int_equal(known(s), before);
    assert_int_equal(ftk_session_set_drafter(s, "recycle"), FTK_OK);
    assert_ptr_equal(s->successors.of, table);
    assert_int_equal(known(s), before);
    ftk_session *copy;
    assert_int_equal(ftk_session_fork(&copy, s, NULL), FTK_OK);
    assert_ptr_not_equal(copy->successors.of, table);
    assert_memory_equal(copy->successors.of, table, (size_t)s->successors.n_vocab * sizeof *table);
    ftk_session_free(copy);
    ftk_session_free(s);
    s = open_session(e, "recycle");
    assert_int_equal(known(s), 0); /* no text passes to another session */
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* What a family drafts behind a text that nothing in it repeats. */
static ftk_tree draft(ftk_session *s, const char *drafter)
{
    static const int32_t text[] = {5, 6, 7};
    assert_int_equal(ftk_session_set_drafter(s, drafter), FTK_OK);
    ftk_tree t;
    ftk_tree_init(&t, 7);
    s->successors.least = 0.02f;
    ftk_retrieval_reset(&s->retrieval, text, 3);
    ftk_retrieval_ask(&s->retrieval, text, 3);
    s->family.ops->reset(s->family.state, text, 3);
    s->family.ops->propose(s->family.state, text, 3, 1, &t);
    return t;
}

/* (DASH would run layers over a text that is not the session's.) */
static void test_families_share(void **state)
{
    (void)state;
    NEED(DEMO);
    static const char *const names[] = {"recycle", "s4c", "firp", "jacobi"};
    static const char *const by[] = {"s4c", "dash", "jacobi"};
    enum { N = sizeof names / sizeof names[0] };
    ftk_model *m;
    ftk_engine *e = open_watched(&m);
    for (int k = 0; k < 3; k++) {
        ftk_session *s = open_session(e, by[k]);
        for (int i = 0; i < FTK_COST_POINTS; i++)
            e->cost.seconds[i] = 1; /* beside that all rows are cheap */
        answer(s, 200);             /* each in its own way through the loop */
        assert_true(known(s) > 10);
        const ftk_successor_rates learned = e->successors;
        s->successors.of[7] = (ftk_successor_set){{8}, {1}};
        float before[N];
        for (int i = 0; i < 100; i++) ftk_rate_see(&e->successors.right[0][0], true);
        for (int i = 0; i < N; i++) {
            const ftk_tree t = draft(s, names[i]);
            assert_true(t.n == 2 && t.token[1] == 8);
            before[i] = t.prob[1];
        }
        for (int i = 0; i < 300; i++) ftk_rate_see(&e->successors.right[0][0], false);
        for (int i = 0; i < N; i++) {
            const ftk_tree t = draft(s, names[i]);
            assert_true(t.n == 1 || t.token[1] != 8 || t.prob[1] < before[i] / 2);
        }
        e->successors = learned;
        ftk_session_free(s);
        s = open_session(e, "auto"); /* a later session begins with it */
        assert_memory_equal(&e->successors, &learned, sizeof learned);
        ftk_session_free(s);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* With a plain step as short as this, reading a row is not next to nothing. */
static ftk_session *open_dear(ftk_engine *e, double credit)
{
    for (int i = 0; i < FTK_COST_POINTS; i++) e->cost.seconds[i] = 1e-7;
    ftk_session *s = open_session(e, "recycle");
    e->successors.took = 1e-6;
    e->credit = credit;
    return s;
}

static void test_reads_on_credit(void **state)
{
    (void)state;
    NEED(DEMO);
    ftk_model *m;
    ftk_engine *e = open_watched(&m);
    ftk_session *s = open_dear(e, 0.4); /* the credit is for drafts */
    answer(s, 1);
    assert_int_equal(known(s), 0);
    ftk_session_free(s);
    s = open_dear(e, 4);
    s->family.saving = 100; /* or a draft needs more than that */
    answer(s, 1);
    assert_int_equal(known(s), 0);
    ftk_session_free(s);
    s = open_dear(e, 4);
    answer(s, 3);
    assert_true(known(s) > 1 && e->credit < 4); /* and pays */
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),           cmocka_unit_test(test_ranked),
        cmocka_unit_test(test_settles),         cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_one_a_session),   cmocka_unit_test(test_families_share),
        cmocka_unit_test(test_reads_on_credit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
