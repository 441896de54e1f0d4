/* SPDX-License-Identifier: Apache-2.0
 * Token recycling: what was said behind a token comes back as guesses, in depth; the longest
 * match joins; and how guesses of the session's sources stand beside a family's own. */
#include "smalltarget.h"

#include "drafters/guesses.h"

static void *open_recycle(void)
{
    return open_small(&ftk_drafter_recycle, NULL, NULL, NULL);
}

/* A pass over a tree of the root alone, whose row says `then` first and `next` second. */
static void read_token(int32_t token, int32_t then, int32_t next)
{
    float logits[V] = {0};
    logits[then] = 12;
    logits[next] = 11;
    ftk_tree t;
    ftk_tree_init(&t, token);
    const ftk_verdict v = {.token = {then}};
    ftk_successors_read(&successors, &t, &v, &(ftk_rows){.logits = logits}, true);
}

static const int32_t text[] = {1, 2, 3, 4, 5, 1};
enum { N_TEXT = 5 };

static void test_successors(void **state)
{
    (void)state;
    void *s = open_recycle();
    ftk_tree t;
    ftk_tree_init(&t, 1);
    ftk_drafter_recycle.propose(s, text, 1, 20, &t);
    assert_int_equal(t.n, 1); /* nothing was read yet, nothing matches */
    read_token(1, 2, 7);
    read_token(2, 9, 8);
    const int32_t other[] = {3, 1}; /* no match, but 1 was read before */
    ftk_tree_init(&t, 1);
    ftk_drafter_recycle.propose(s, other, 2, 40, &t);
    const int two = ftk_tree_child(&t, 0, 2);
    assert_int_equal(two, 1); /* the likeliest comes first */
    assert_true(ftk_tree_child(&t, 0, 7) > 0);
    assert_true(ftk_tree_child(&t, two, 9) > 0 && ftk_tree_child(&t, two, 8) > 0);
    for (int i = 1; i < t.n; i++) {
        assert_true(t.prob[i] > 0 && t.prob[i] <= t.prob[t.parent[i]]);
    }
    read_token(1, 20, 21); /* what was said last counts */
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
    void *s = open_recycle();
    ftk_retrieval_ask(&retrieval, text, N_TEXT + 1);
    ftk_tree t;
    ftk_tree_init(&t, 1);
    ftk_drafter_recycle.propose(s, text, N_TEXT + 1, 8, &t);
    assert_int_equal(t.token[1], 2); /* 1 2 3 4 5 1: then 2 3 4 again */
    assert_int_equal(t.token[2], 3);
    close_small(&ftk_drafter_recycle, s);
}

/* Below what is worth nothing nothing is asked for, and however many guesses the table has,
 * there is room left for a family's own. */
static void test_limits(void **state)
{
    (void)state;
    void *s = open_recycle();
    ftk_guesses g;
    ftk_rate rates[1 + FTK_GUESS_RATES];
    ftk_rate_init(&rates[0], 0.5f);
    ftk_guesses_init_rates(rates, 1 + FTK_GUESS_RATES);
    assert_int_equal(ftk_guesses_init(&g, NULL, 1 + FTK_RECYCLED + 1, rates, 1 + FTK_GUESS_RATES),
                     FTK_OK);
    for (int32_t token = 0; token < V; token++)
        for (int k = 0; k < FTK_SUCCESSORS; k++) {
            successors.of[token].token[k] = (token + k + 1) % V;
            successors.of[token].size[k] = (int8_t)(k < 2 ? 2 : 5);
        }
    ftk_guesses_begin(&g, 1);
    ftk_guesses_add_successors(&g, NULL);
    assert_int_equal(g.n, 1);
    successors.least = 0.3f;
    ftk_guesses_add_successors(&g, &successors);
    assert_int_equal(g.n, 3); /* two of 0.52, and those behind them are worth 0.27 */
    ftk_guesses_begin(&g, 1);
    successors.least = 0.001f;
    ftk_guesses_add_successors(&g, &successors);
    assert_int_equal(g.n, 1 + FTK_RECYCLED);
    assert_true(ftk_guesses_add(&g, 0, 39, 0) > 0);
    ftk_guesses_free(&g, NULL);
    close_small(&ftk_drafter_recycle, s);
}

/* A source that makes a guess worth more raises all below it. */
static void test_raised(void **state)
{
    (void)state;
    void *s = open_recycle();
    ftk_guesses g;
    ftk_rate rates[1 + FTK_GUESS_RATES];
    ftk_rate_init(&rates[0], 0.9f);
    ftk_guesses_init_rates(rates, 1 + FTK_GUESS_RATES);
    assert_int_equal(ftk_guesses_init(&g, NULL, 50, rates, 1 + FTK_GUESS_RATES), FTK_OK);
    successors.of[1] = (ftk_successor_set){{2}, {4}};       /* 0.26 */
    successors.of[2] = (ftk_successor_set){{3, 4}, {2, 4}}; /* 0.52, 0.26 */
    successors.least = 0.1f;
    ftk_guesses_begin(&g, 1);
    ftk_guesses_add_successors(&g, &successors);
    const int two = ftk_guesses_child(&g, 0, 2), three = ftk_guesses_child(&g, two, 3);
    assert_int_equal(g.n, 3);
    const float before = g.all[three].worth;
    ftk_guesses_add(&g, 0, 2, 0);
    assert_true(g.all[two].worth == ftk_rate_get(&rates[0]));
    assert_true(g.all[three].worth > 3 * before);
    assert_true(g.all[three].worth == g.all[two].worth * g.all[three].share);
    ftk_guesses_add(&g, three, 1, 0);
    ftk_tree t;
    ftk_tree_init(&t, 1);
    ftk_guesses_plant(&g, 20, &t);
    assert_int_equal(t.n, 4);
    ftk_guesses_free(&g, NULL);
    close_small(&ftk_drafter_recycle, s);
}

/* One source is always right where it stands alone, and one time in five where another is as
 * sure of something else: its rate says 0.6 in both places. What the tree says learns to tell
 * them apart. */
static void test_beside_others(void **state)
{
    (void)state;
    enum { OURS = 2, THEIRS, SURE = 4, STEPS = 400 };
    ftk_guesses g;
    ftk_rate rates[2 + FTK_GUESS_RATES];
    ftk_rate_init(&rates[0], 0.6f);
    ftk_rate_init(&rates[1], 0.6f);
    ftk_guesses_init_rates(rates, 2 + FTK_GUESS_RATES);
    assert_int_equal(ftk_guesses_init(&g, NULL, 50, rates, 2 + FTK_GUESS_RATES), FTK_OK);
    float alone = 0, rivalled = 0, agreed = 0;
    for (int k = 0; k < STEPS; k++) {
        const bool beside = k % 2, agrees = k % 4 == 2;
        ftk_guesses_begin(&g, 1);
        const int ours = ftk_guesses_add(&g, 0, OURS, 0);
        g.all[ours].retrieved = agrees;
        if (beside) ftk_guesses_add(&g, 0, THEIRS, 1);
        ftk_tree t;
        ftk_tree_init(&t, 1);
        ftk_guesses_plant(&g, 20, &t);
        for (int i = 1; i < t.n; i++)
            if (t.token[i] == OURS) *(beside ? &rivalled : agrees ? &agreed : &alone) = t.prob[i];
        if (k == 1) assert_float_equal(rivalled, 0.6, 0.15); /* as nothing is known yet */
        const int32_t truth = !beside || k % 10 == 1 ? OURS : k % 10 == 3 ? THEIRS : SURE;
        g.asked = 1;
        ftk_guesses_settle(&g, 1, &truth, 1);
    }
    assert_true(alone > 0.85 && agreed > 0.85 && rivalled < 0.4);
    ftk_guesses_free(&g, NULL);
}

static void test_no_budget(void **state)
{
    (void)state;
    void *s = open_recycle();
    const int32_t history[] = {1};
    read_token(1, 5, 6);
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
    assert_true(fail_each_of_init(&ftk_drafter_recycle, NULL, NULL) > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_successors),    cmocka_unit_test(test_match_joins),
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_raised),
        cmocka_unit_test(test_beside_others), cmocka_unit_test(test_no_budget),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
