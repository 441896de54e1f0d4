/* SPDX-License-Identifier: Apache-2.0
 *
 * Verifiers with their own random numbers, over several steps: greedy texts equal plain decoding's
 * token for token, sampled ones have its distribution by chi-square, which a biased rule must fail.
 */
#include "support.h"

#include "base/residual.h"
#include "toymodel.h"
#include "verifiers/walk.h"

enum { VOCAB = 5, NODES = 7, FIRST = 3, OUTCOMES = VOCAB * VOCAB * VOCAB };

static float logits[FTK_MAX_NODES * VOCAB];
static float weights[FTK_MAX_NODES][VOCAB];

/* ------------------------------------------------------------------ a drafter that draws */

static int32_t draw_child(const ftk_tree *t, int parent, const float *q, double u)
{
    double sum = 0, so_far = 0;
    int32_t token = -1;
    for (int32_t i = 0; i < VOCAB; i++) sum += ftk_tree_child(t, parent, i) < 0 ? (double)q[i] : 0;
    for (int32_t i = 0; i < VOCAB && (token < 0 || so_far <= u * sum); i++) {
        if (ftk_tree_child(t, parent, i) >= 0) continue;
        so_far += (double)q[i];
        token = i;
    }
    return token;
}

/* A tree whose shape depends on `shape` alone, its kinds too: `drawn` of 8 tokens are drawn. */
static void grow(ftk_tree *t, const int32_t *text, size_t n, uint64_t shape, unsigned drawn,
                 uint64_t seed)
{
    uint64_t r = shape;
    int children[FTK_MAX_NODES] = {0};
    ftk_tree_init(t, text[n - 1]);
    for (int i = 1; i <= NODES; i++) {
        int parent = next_random(&r) % 2 ? i - 1 : (int)(next_random(&r) % (unsigned)i);
        const bool chosen = next_random(&r) % 8 >= drawn;
        const int32_t token = (int32_t)(next_random(&r) % VOCAB);
        if (parent >= t->n) parent = t->n - 1; /* a chosen one was there already */
        if (chosen) {
            ftk_tree_add(t, parent, token, 0.5f);
            continue;
        }
        if (++children[parent] == VOCAB - 1) continue;
        uint64_t w = shape + (uint64_t)t->token[parent] + 10 * (uint64_t)t->depth[parent];
        for (int j = 0; j < VOCAB; j++) weights[parent][j] = expf(next_normal(&w));
        const double u = ftk_uniform_sub(seed, n, FTK_DRAFT_SUB + (uint32_t)i);
        ftk_tree_add_drawn(t, parent, draw_child(t, parent, weights[parent], u), 0.5f,
                           weights[parent]);
    }
}

/* Generates text[n..most) step by step; returns the number of steps. */
static size_t generate(toy_judge judge, ftk_sampler *s, int32_t *text, size_t n, size_t most,
                       uint64_t shape, unsigned drawn)
{
    static ftk_tree t;
    size_t steps = 0;
    while (n < most) {
        ftk_verdict v;
        grow(&t, text, n, shape + n, drawn, s->cfg.seed);
        toy_forward(VOCAB, &t, text, n, logits);
        assert_int_equal(judge(&t, logits, s, text, n, &v), FTK_OK);
        toy_check(&t, &v);
        for (int i = 0; i <= v.n_path && n < most; i++) text[n++] = v.token[i];
        steps++;
    }
    return steps;
}

/* ------------------------------------------------------------------ greedy */

static void test_greedy(void **state)
{
    (void)state;
    size_t steps = 0;
    for (int i = 0; ftk_verifier_list[i]; i++)
        for (unsigned round = 0; round < 600; round++) {
            int32_t want[TOY_LONG] = {(int32_t)(round % VOCAB)}, got[TOY_LONG] = {want[0]};
            ftk_sampler s = toy_sampler(VOCAB, 0);
            s.cfg.seed = round;
            s.cfg.repeat_penalty = round % 3 ? 1 : 1.3f;
            s.cfg.top_k = round % 2 ? 3 : 0;
            toy_plain(&s, want, 1, TOY_LONG);
            steps += generate(ftk_verifier_list[i]->judge, &s, got, 1, TOY_LONG, round, round % 9);
            assert_memory_equal(got, want, sizeof want);
        }
    assert_true(steps < 4 * 600 * (TOY_LONG - 1)); /* some were accepted */
}

/* ------------------------------------------------------------------ distribution */

/* As `exact`, but each drafted token has a second chance. */
static ftk_err judge_biased(const ftk_tree *t, const float *rows, ftk_sampler *s,
                            const int32_t *history, size_t n, ftk_verdict *v)
{
    ftk_err err = ftk_verifier_exact.judge(t, rows, s, history, n, v);
    if (err != FTK_OK || v->n_path > 0) return err;
    s->cfg.seed += 1 << 20;
    err = ftk_verifier_exact.judge(t, rows, s, history, n, v);
    s->cfg.seed -= 1 << 20;
    return err;
}

static void plain_law(const ftk_sampler *setting, double *p)
{
    ftk_sampler s = *setting;
    int32_t text[1 + FIRST] = {0};
    for (int at = 0; at < OUTCOMES; at++) {
        p[at] = 1;
        text[1] = at / (VOCAB * VOCAB);
        text[2] = at / VOCAB % VOCAB;
        text[3] = at % VOCAB;
        for (size_t n = 1; n <= FIRST; n++) {
            float row[VOCAB];
            double total;
            toy_row(VOCAB, text, n, row);
            assert_int_equal(ftk_sampler_weigh(&s, row, text, n, NULL, 0, &total), FTK_OK);
            p[at] *= (double)s.logits[text[n]] / total;
        }
    }
}

/* Whether the first three tokens, from as many steps as that takes, have plain sampling's law. */
static bool fits(toy_judge judge, uint64_t shape, unsigned drawn, double *tokens)
{
    enum { SEEDS = 20000 };
    static size_t counts[OUTCOMES];
    static double p[OUTCOMES];
    size_t steps = 0;
    memset(counts, 0, sizeof counts);
    ftk_sampler s = toy_sampler(VOCAB, 0.9f);
    s.cfg.repeat_penalty = 1.2f;
    s.cfg.top_k = shape % 2 ? 4 : 0;
    plain_law(&s, p);
    for (s.cfg.seed = 0; s.cfg.seed < SEEDS; s.cfg.seed++) {
        int32_t text[1 + FIRST] = {0};
        steps += generate(judge, &s, text, 1, 1 + FIRST, shape, drawn);
        counts[(text[1] * VOCAB + text[2]) * VOCAB + text[3]]++;
    }
    *tokens += (double)SEEDS * FIRST / (double)steps;
    return chi_square_fits(counts, p, OUTCOMES);
}

static void test_distribution(void **state)
{
    (void)state;
    static const unsigned drawn[] = {0, 4, 8};
    for (int d = 0; d < 3; d++) {
        double tokens[4] = {0};
        for (uint64_t shape = 100; shape < 103; shape++) {
            for (int i = 0; ftk_verifier_list[i]; i++)
                if (ftk_verifier_list[i]->lossless)
                    assert_true(fits(ftk_verifier_list[i]->judge, shape, drawn[d], &tokens[i]));
            assert_false(fits(judge_biased, shape, drawn[d], &tokens[3]));
            assert_false(fits(ftk_verifier_typical.judge, shape, drawn[d], &tokens[3]));
        }
        printf("%u of 8 drawn: exact %.2f, reject %.2f, traversal %.2f tokens a step\n", drawn[d],
               tokens[0] / 3, tokens[1] / 3, tokens[2] / 3);
    }
}

/* The same seed gives the same text again, and another one another. */
static void test_seeded(void **state)
{
    (void)state;
    for (int i = 0; ftk_verifier_list[i]; i++) {
        int32_t text[3][TOY_LONG] = {{0}};
        for (int j = 0; j < 3; j++) {
            ftk_sampler s = toy_sampler(VOCAB, 1);
            s.cfg.seed = j < 2 ? 5 : 6;
            generate(ftk_verifier_list[i]->judge, &s, text[j], 1, TOY_LONG, 9, 6);
        }
        assert_memory_equal(text[0], text[1], sizeof text[0]);
        assert_memory_not_equal(text[0], text[2], sizeof text[0]);
    }
}

/* ------------------------------------------------------------------ edges */

static void test_not_finite(void **state)
{
    (void)state;
    static ftk_tree t;
    static const float q[VOCAB] = {1, 1, 1, 1, 1};
    const int32_t text[] = {1};
    for (int i = 0; ftk_verifier_list[i]; i++)
        for (int drawn = 0; drawn < 2; drawn++) {
            float rows[3 * VOCAB] = {0, 0, 9, 0, 0, 0, 0, 0, 9, 0};
            ftk_sampler s = toy_sampler(VOCAB, 0);
            ftk_verdict v;
            ftk_tree_init(&t, 1);
            ftk_tree_add_drawn(&t, 0, 2, 0.5f, drawn ? q : NULL);
            ftk_tree_add_drawn(&t, 0, 4, 0.5f, drawn ? q : NULL);
            rows[2 * VOCAB] = NAN; /* a row off the path does not matter */
            assert_int_equal(ftk_verifier_list[i]->judge(&t, rows, &s, text, 1, &v), FTK_OK);
            assert_int_equal(v.n_path, 1);
            rows[1 * VOCAB] = NAN;
            assert_int_equal(ftk_verifier_list[i]->judge(&t, rows, &s, text, 1, &v),
                             FTK_ERR_NUMERIC);
        }
}

/* Drawn from the model's own distribution, or from weights that leave next to nothing: rounding may
 * not leave a verifier without a token. */
static void test_rounding(void **state)
{
    (void)state;
    static ftk_tree t;
    static float q[2][VOCAB];
    const int32_t text[] = {1};
    for (int round = 0; round < 4000; round++)
        for (int i = 1; i < 3; i++) {
            float rows[4 * VOCAB];
            uint64_t r = (uint64_t)round;
            ftk_sampler s = toy_sampler(VOCAB, round % 4 ? 1 : 0);
            ftk_verdict v;
            s.cfg.seed = (uint64_t)round;
            for (int j = 0; j < 4 * VOCAB; j++) rows[j] = next_normal(&r);
            for (int j = 0; j < VOCAB; j++) {
                q[0][j] = round % 2 ? expf(rows[j]) : j == round / 4 % VOCAB ? 1e30f : 1e-30f;
                q[1][j] = expf(rows[VOCAB + j]) * 1e-30f;
            }
            ftk_tree_init(&t, 1);
            const int32_t first = (int32_t)(next_random(&r) % VOCAB);
            const int a = ftk_tree_add_drawn(&t, 0, first, 0.5f, q[0]);
            ftk_tree_add_drawn(&t, a, (int32_t)(next_random(&r) % VOCAB), 0.5f, q[1]);
            ftk_tree_add_drawn(&t, 0, (first + 2) % VOCAB, 0.5f, q[0]);
            assert_int_equal(ftk_verifier_list[i]->judge(&t, rows, &s, text, 1, &v), FTK_OK);
            assert_in_range(v.token[v.n_path], 0, VOCAB - 1);
            if (s.cfg.temperature > 0) continue;
            int32_t want;
            assert_int_equal(ftk_sampler_pick(&s, rows, text, 1, NULL, 0, 1, &want), FTK_OK);
            assert_int_equal(v.token[0], want);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),   cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_seeded),   cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
