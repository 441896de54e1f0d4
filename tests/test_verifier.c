/* SPDX-License-Identifier: Apache-2.0
 *
 * The exact verifier: token for token what plain sampling gives, whatever the tree; and by
 * chi-square, which a biased rule must fail.
 */
#include "support.h"

#include "toymodel.h"

enum { VOCAB = 5, LONG = TOY_LONG };

static void test_equals_plain(void **state)
{
    (void)state;
    uint64_t r = 11;
    size_t accepted = 0;
    static ftk_tree t;
    static float logits[FTK_MAX_NODES * VOCAB];
    for (int round = 0; round < 3000; round++) {
        ftk_sampler s = toy_sampler(VOCAB, round % 4 == 0 ? 0 : 0.4f * (float)(1 + round % 4));
        s.cfg.seed = (uint64_t)round;
        s.cfg.top_k = round % 6 == 1 ? 3 : 0;
        s.cfg.top_p = round % 5 == 2 ? 0.8f : 1;
        s.cfg.min_p = round % 7 == 2 ? 0.1f : 0;
        s.cfg.repeat_penalty = round % 3 == 0 ? 1.3f : 1;
        s.cfg.repeat_last = 1 + round % 8;
        int32_t want[LONG], got[LONG + FTK_MAX_NODES] = {(int32_t)(next_random(&r) % VOCAB)};
        want[0] = got[0];
        toy_plain(&s, want, 1, LONG);
        for (size_t n = 1; n < LONG;) {
            ftk_verdict v;
            ftk_tree_init(&t, got[n - 1]);
            toy_grow(&t, (int)(next_random(&r) % 100), VOCAB, &r);
            if (next_random(&r) % 4 == 0) /* right ones, so that long paths occur */
                for (int i = 0, node = 0; i < 6 && n + (size_t)i < LONG && node >= 0; i++)
                    node = ftk_tree_add(&t, node, want[n + (size_t)i], 0.9f);
            toy_forward(VOCAB, &t, got, n, logits);
            assert_int_equal(ftk_verifier_exact.judge(&t, logits, &s, got, n, &v), FTK_OK);
            toy_check(&t, &v);
            accepted += (size_t)v.n_path;
            for (int i = 0; i <= v.n_path; i++) got[n++] = v.token[i];
        }
        assert_memory_equal(got, want, sizeof want);
    }
    assert_true(accepted > 3000 * LONG / 4);
}

/* All trees of 1 to 3 drafted nodes over 3 tokens, at every seed of a few. */
static void test_all_small_trees(void **state)
{
    (void)state;
    ftk_sampler s = toy_sampler(VOCAB, 1);
    static float logits[FTK_MAX_NODES * VOCAB];
    for (int code = 0; code < 3 * 9 * 9 * 3; code++) {
        static ftk_tree t;
        ftk_tree_init(&t, 1);
        ftk_tree_add(&t, 0, code % 3, 0.5f);
        if (code / 3 % 9 / 3 < 2) ftk_tree_add(&t, code / 3 % 9 / 3 % t.n, code / 3 % 3, 0.5f);
        ftk_tree_add(&t, code / 27 % 9 / 3 % t.n, code / 27 % 3, 0.5f);
        int32_t text[8] = {0, 1};
        toy_forward(VOCAB, &t, text, 2, logits);
        for (s.cfg.seed = 0; s.cfg.seed < 40; s.cfg.seed++) {
            ftk_verdict v;
            assert_int_equal(ftk_verifier_exact.judge(&t, logits, &s, text, 2, &v), FTK_OK);
            toy_check(&t, &v);
            toy_plain(&s, text, 2, 8);
            assert_memory_equal(v.token, text + 2, ((size_t)v.n_path + 1) * sizeof *text);
        }
    }
}

static void test_not_finite(void **state)
{
    (void)state;
    static ftk_tree t;
    float logits[3 * VOCAB] = {0, 0, 9, 0, 0, 0, 0, 0, 9, 0};
    ftk_sampler s = toy_sampler(VOCAB, 0);
    ftk_verdict v;
    const int32_t text[] = {1};
    ftk_tree_init(&t, 1);
    ftk_tree_add(&t, 0, 2, 0.5f);
    ftk_tree_add(&t, 0, 4, 0.5f);
    logits[2 * VOCAB] = NAN; /* a row off the path does not matter */
    assert_int_equal(ftk_verifier_exact.judge(&t, logits, &s, text, 1, &v), FTK_OK);
    assert_int_equal(v.n_path, 1);
    logits[1 * VOCAB] = NAN;
    assert_int_equal(ftk_verifier_exact.judge(&t, logits, &s, text, 1, &v), FTK_ERR_NUMERIC);
}

/* ------------------------------------------------------------------ distribution */

/* A rule that is known to be biased: every path draws its own tokens, the longest match wins. */
static ftk_err judge_biased(const ftk_tree *t, const float *logits, ftk_sampler *s,
                            const int32_t *history, size_t n, ftk_verdict *best)
{
    best->n_path = -1;
    const uint64_t seed = s->cfg.seed;
    for (int leaf = 0; leaf < t->n; leaf++) {
        ftk_verdict v = {.n_path = 0};
        int path[FTK_MAX_NODES];
        for (int i = leaf; i >= 0; i = t->parent[i]) path[t->depth[i]] = i;
        s->cfg.seed = seed * 1000 + (uint64_t)leaf;
        for (int d = 0;; d++) {
            v.n_path = d;
            const ftk_err err = ftk_sampler_pick(s, logits + path[d] * VOCAB, history, n, v.token,
                                                 d, n + (uint64_t)d, &v.token[d]);
            if (err != FTK_OK) return err;
            if (d == t->depth[leaf] || t->token[path[d + 1]] != v.token[d]) break;
        }
        if (v.n_path > best->n_path) *best = v;
    }
    s->cfg.seed = seed;
    return FTK_OK;
}

/* Whether the first two tokens of a step (the second drawn plainly where there is none) have the
 * model's distribution, over many seeds. */
static bool fits(toy_judge judge, uint64_t tree_seed)
{
    enum { DRAWS = 40000 };
    static ftk_tree t;
    static float logits[FTK_MAX_NODES * VOCAB];
    int32_t text[3] = {(int32_t)(tree_seed % VOCAB)};
    ftk_tree_init(&t, text[0]);
    toy_grow(&t, 12, VOCAB, &tree_seed);
    toy_forward(VOCAB, &t, text, 1, logits);
    double p[VOCAB * VOCAB];
    float first[VOCAB], second[VOCAB];
    double sum = 0;
    toy_row(VOCAB, text, 1, first);
    for (int a = 0; a < VOCAB; a++) sum += exp((double)first[a]);
    for (int a = 0; a < VOCAB; a++) {
        double sum2 = 0;
        text[1] = a;
        toy_row(VOCAB, text, 2, second);
        for (int b = 0; b < VOCAB; b++) sum2 += exp((double)second[b]);
        for (int b = 0; b < VOCAB; b++)
            p[a * VOCAB + b] = exp((double)first[a]) / sum * exp((double)second[b]) / sum2;
    }
    size_t counts[VOCAB * VOCAB] = {0};
    ftk_sampler s = toy_sampler(VOCAB, 1);
    for (s.cfg.seed = 0; s.cfg.seed < DRAWS; s.cfg.seed++) {
        ftk_verdict v;
        assert_int_equal(judge(&t, logits, &s, text, 1, &v), FTK_OK);
        text[1] = v.token[0];
        if (v.n_path > 0)
            text[2] = v.token[1];
        else
            toy_plain(&s, text, 2, 3);
        counts[text[1] * VOCAB + text[2]]++;
    }
    return chi_square_fits(counts, p, VOCAB * VOCAB);
}

static void test_distribution(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 20; i++) {
        assert_true(fits(ftk_verifier_exact.judge, i));
        assert_false(fits(judge_biased, i));
    }
}

static void test_list(void **state)
{
    (void)state;
    static const char *const names[] = {"exact", "reject", "traversal", "typical"};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(ftk_verifier_list[i]->name, names[i]);
        assert_string_equal(ftk_verifiers()[i], names[i]);
        assert_int_equal(ftk_verifier_list[i]->lossless, i < 3);
        assert_int_equal(ftk_verifier_lossless(names[i]), i < 3);
    }
    assert_null(ftk_verifier_list[4]);
    assert_null(ftk_verifiers()[4]);
    assert_false(ftk_verifier_lossless("other"));
    assert_false(ftk_verifier_lossless(NULL));
    assert_ptr_equal(ftk_verifier_list[0], &ftk_verifier_exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_plain), cmocka_unit_test(test_all_small_trees),
        cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
