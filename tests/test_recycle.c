/* SPDX-License-Identifier: Apache-2.0
 * Token recycling: what was said behind a token comes back as guesses, in depth; the longest match joins;
 * rows of other drafters' passes are read where that is cheap; and the text stays the model's. */
#include "smalltarget.h"

static double plain_seconds;

static double seconds(void *ctx, int layer, int rows)
{
    (void)ctx, (void)layer, (void)rows;
    return plain_seconds;
}

static const ftk_target target = {.n_vocab = V, .n_embd = D, .n_layer = 1, .seconds = seconds};

static void *open_recycle(double plain)
{
    plain_seconds = plain;
    void *s = open_small(&ftk_drafter_recycle, &target, NULL, NULL);
    ftk_drafter_recycle.reset(s, NULL, 0);
    return s;
}

/* A pass over a tree of the root alone, whose row says `then` first and `next` second. */
static void read_token(void *s, const int32_t *text, size_t n, int32_t then, int32_t next)
{
    float logits[V] = {0};
    logits[then] = 12;
    logits[next] = 11;
    ftk_tree t;
    ftk_tree_init(&t, text[n - 1]);
    const ftk_verdict v = {.token = {then}};
    ftk_drafter_recycle.learn(s, text, n, &t, &v, &(ftk_rows){.logits = logits});
}

static const int32_t text[] = {1, 2, 3, 4, 5, 1};
enum { N_TEXT = 5 };

static void test_successors(void **state)
{
    (void)state;
    void *s = open_recycle(1e6);
    ftk_tree t;
    ftk_tree_init(&t, 1);
    ftk_drafter_recycle.propose(s, text, 1, 20, &t);
    assert_int_equal(t.n, 1); /* nothing was read yet, nothing matches */
    const int32_t first[] = {1}, second[] = {1, 2};
    read_token(s, first, 1, 2, 7);
    read_token(s, second, 2, 9, 8);
    const int32_t other[] = {3, 1}; /* no match, but 1 was read before */
    ftk_drafter_recycle.reset(s, other, 2);
    ftk_tree_init(&t, 1);
    ftk_drafter_recycle.propose(s, other, 2, 40, &t);
    const int two = ftk_tree_child(&t, 0, 2);
    assert_int_equal(two, 1); /* the likeliest comes first */
    assert_true(ftk_tree_child(&t, 0, 7) > 0);
    assert_true(ftk_tree_child(&t, two, 9) > 0 && ftk_tree_child(&t, two, 8) > 0);
    for (int i = 1; i < t.n; i++) assert_true(t.prob[i] > 0 && t.prob[i] <= t.prob[t.parent[i]]);
    read_token(s, other, 2, 20, 21); /* what was said last counts */
    ftk_tree_init(&t, 1);
    ftk_drafter_recycle.propose(s, other, 2, 40, &t);
    assert_int_equal(ftk_tree_child(&t, 0, 20), 1);
    const int before = ftk_tree_child(&t, 0, 2);
    assert_true(before < 0 || t.prob[before] < 0.1f * t.prob[1]);
    close_small(&ftk_drafter_recycle, s);
}

static void test_match_joins(void **state)
{
    (void)state;
    void *s = open_recycle(1e6);
    ftk_retrieval_ask(&retrieval, text, N_TEXT + 1);
    ftk_tree t;
    ftk_tree_init(&t, 1);
    ftk_drafter_recycle.propose(s, text, N_TEXT + 1, 8, &t);
    assert_int_equal(t.token[1], 2); /* 1 2 3 4 5 1: then 2 3 4 again */
    assert_int_equal(t.token[2], 3);
    close_small(&ftk_drafter_recycle, s);
}

/* A pass that was not its own is left out when reading it takes long beside a plain step. */
static void test_reads_where_cheap(void **state)
{
    (void)state;
    for (int cheap = 0; cheap <= 1; cheap++) {
        void *s = open_recycle(cheap ? 1e6 : 0);
        const int32_t history[] = {1, 2, 3};
        read_token(s, history, 1, 5, 6); /* the first is read to see how long it takes */
        read_token(s, history, 2, 7, 8);
        ftk_tree t;
        ftk_tree_init(&t, 2);
        ftk_drafter_recycle.propose(s, history, 2, 8, &t);
        assert_int_equal(t.n > 1, cheap);
        close_small(&ftk_drafter_recycle, s);
    }
}

static void test_no_budget(void **state)
{
    (void)state;
    void *s = open_recycle(1e6);
    const int32_t history[] = {1};
    read_token(s, history, 1, 5, 6);
    ftk_tree t;
    for (int budget = 0; budget < FTK_MAX_NODES; budget++) {
        ftk_tree_init(&t, 1);
        ftk_drafter_recycle.propose(s, history, 1, budget, &t);
        assert_true(t.n <= budget + 1);
    }
    close_small(&ftk_drafter_recycle, s);
}

static void test_no_memory(void **state)
{
    (void)state;
    assert_true(fail_each_allocation(&ftk_drafter_recycle, &target, NULL) > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_successors),        cmocka_unit_test(test_match_joins),
        cmocka_unit_test(test_reads_where_cheap), cmocka_unit_test(test_no_budget),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
