/* SPDX-License-Identifier: Apache-2.0
 * The sampler: against its definition, written down a second time, and by chi-square. */
#include "support.h"

#include "base/sampler.h"
#include "testkit/statistics.h"

enum { VOCAB = 300 };

static float work[VOCAB];
static int32_t order[VOCAB];
static uint32_t counts_of[VOCAB];

static ftk_sampler make(int n_vocab, float temperature)
{
    return (ftk_sampler){
        .cfg = {.temperature = temperature, .top_p = 1, .repeat_penalty = 1, .repeat_last = 64},
        .n_vocab = n_vocab,
        .logits = work,
        .order = order,
        .counts = counts_of,
    };
}

static int32_t pick(ftk_sampler *s, const float *logits, uint64_t pos)
{
    int32_t token = -1;
    assert_int_equal(ftk_sampler_pick(s, logits, NULL, 0, NULL, 0, pos, &token), FTK_OK);
    assert_in_range(token, 0, s->n_vocab - 1);
    return token;
}

/* ------------------------------------------------------------------ random numbers, selection */

static void test_uniform(void **state)
{
    (void)state;
    /* The known answer of Philox4x32-10 for counter 0, key 0: 6627e8d5 e169c58d ... */
    assert_true(ftk_uniform(0, 0) == (double)(UINT64_C(0x6627e8d5e169c58d) >> 11) * 0x1p-53);
    enum { N = 200000, BINS = 64 };
    for (uint64_t seed = 0; seed < 3; seed++) {
        size_t counts[BINS] = {0}, pairs[BINS] = {0};
        double p[BINS];
        for (int i = 0; i < BINS; i++) p[i] = 1.0 / BINS;
        for (uint64_t i = 0; i < N; i++) {
            const double u = ftk_uniform(seed, i), v = ftk_uniform(seed + 1, i);
            assert_true(u >= 0 && u < 1);
            counts[(int)(u * BINS)]++;
            pairs[(int)(u * 8) * 8 + (int)(v * 8)]++; /* neighbouring seeds are independent */
        }
        assert_true(chi_square_fits(counts, p, BINS));
        assert_true(chi_square_fits(pairs, p, BINS));
    }
    assert_true(ftk_uniform(1, 5) == ftk_uniform(1, 5));
    assert_true(ftk_uniform(1, 5) == ftk_uniform_sub(1, 5, 0));
    assert_true(ftk_uniform(1, 5) != ftk_uniform_sub(1, 5, 1));
    assert_true(ftk_uniform_sub(1, 5, 1) != ftk_uniform_sub(1, 5, FTK_DRAFT_SUB + 1));
    assert_true(ftk_uniform(1, UINT64_C(1) << 32) != ftk_uniform(1, 0));
    assert_true(ftk_uniform(UINT64_C(1) << 32, 0) != ftk_uniform(0, 0));
}

static void test_top_k(void **state)
{
    (void)state;
    uint64_t r = 5;
    static float x[VOCAB];
    static int32_t got[VOCAB];
    for (int round = 0; round < 3000; round++) {
        const int n = 1 + (int)(next_random(&r) % VOCAB);
        const int k = (int)(next_random(&r) % (unsigned)(n + 3));
        const uint32_t levels = round % 2 ? 5 : 1000000; /* many ties; few */
        for (int i = 0; i < n; i++) {
            x[i] = (float)(next_random(&r) % levels);
            if (next_random(&r) % 10 == 0) x[i] = -INFINITY;
        }
        const int m = ftk_top_k(x, n, k, got);
        assert_int_equal(m, k < n ? k : n);
        bool taken[VOCAB] = {false};
        for (int i = 0; i < m; i++) {
            int best = -1;
            for (int j = 0; j < n; j++)
                if (!taken[j] && (best < 0 || x[j] > x[best])) best = j;
            taken[best] = true;
            assert_int_equal(got[i], best);
        }
    }
}

/* ------------------------------------------------------------------ greedy */

static void test_greedy(void **state)
{
    (void)state;
    uint64_t r = 9;
    static float x[VOCAB];
    for (int round = 0; round < 2000; round++) {
        const int n = 1 + (int)(next_random(&r) % VOCAB);
        int best = 0;
        for (int i = 0; i < n; i++) {
            x[i] = round % 3 ? next_normal(&r) : (float)(next_random(&r) % 3) - 5;
            if (i > 0 && next_random(&r) % 7 == 0) x[i] = -INFINITY;
            if (x[i] > x[best]) best = i;
        }
        ftk_sampler s = make(n, 0);
        s.logits = NULL; /* no work copy is needed */
        assert_int_equal(pick(&s, x, (uint64_t)round), best);
    }
}

/* Ties: the weights are cut where pick() cuts. */
static void test_weights_of_ties(void **state)
{
    (void)state;
    uint64_t r = 21;
    static float x[VOCAB];
    for (int round = 0; round < 1000; round++) {
        const int n = 1 + (int)(next_random(&r) % 40);
        ftk_sampler s = make(n, round % 4 == 0 ? 0 : 0.01f * (float)(1 << round % 9));
        s.cfg.top_k = round % 3 ? (int)(next_random(&r) % 12) : 0;
        s.cfg.top_p = round % 2 ? 0.05f + 0.1f * (float)(round % 9) : 1;
        for (int i = 0; i < n; i++) {
            x[i] = (float)(next_random(&r) % 4) - 2;
            if (i > 0 && next_random(&r) % 9 == 0) x[i] = -INFINITY;
        }
        bool said[VOCAB] = {false};
        for (uint64_t pos = 0; pos < 150; pos++) said[pick(&s, x, pos)] = true;
        double total;
        assert_int_equal(ftk_sampler_weigh(&s, x, NULL, 0, NULL, 0, &total), FTK_OK);
        for (int i = 0; i < n; i++) {
            assert_true(s.logits[i] >= 0);
            if (s.logits[i] == 0) assert_false(said[i]);
            if ((double)s.logits[i] > 0.1 * total) assert_true(said[i]);
        }
    }
}

static void test_not_finite(void **state)
{
    (void)state;
    static float x[VOCAB];
    const float bad[] = {NAN, -NAN, INFINITY};
    for (int t = 0; t < 2; t++)
        for (int n = 1; n <= 70; n++)
            for (int b = 0; b < 3; b++) {
                ftk_sampler s = make(n, (float)t);
                for (int i = 0; i < n; i++) x[i] = (float)i;
                int32_t token;
                x[n * 7 % 11 % n] = bad[b];
                assert_int_equal(ftk_sampler_pick(&s, x, NULL, 0, NULL, 0, 0, &token),
                                 FTK_ERR_NUMERIC);
                for (int i = 0; i < n; i++) x[i] = -INFINITY;
                assert_int_equal(ftk_sampler_pick(&s, x, NULL, 0, NULL, 0, 0, &token),
                                 FTK_ERR_NUMERIC);
                x[n / 2] = -3; /* one finite logit is enough */
                assert_int_equal(pick(&s, x, 0), n / 2);
            }
}

static void test_extremes(void **state)
{
    (void)state;
    float x[] = {-3e38f, 3e38f, -INFINITY, 3e38f, 0};
    for (int i = 0; i < 200; i++) {
        ftk_sampler s = make(5, i % 2 ? 1e-30f : 2);
        s.cfg.top_p = i % 3 ? 1 : 0.5f;
        const int32_t t = pick(&s, x, (uint64_t)i);
        assert_true(t == 1 || t == 3);
        s.cfg.repeat_penalty = i % 5 ? 1e-30f : 1e30f; /* overflows to the largest, not to Inf */
        const int32_t all[] = {0, 1, 2, 3, 4};
        int32_t token;
        assert_int_equal(ftk_sampler_pick(&s, x, all, 5, NULL, 0, 0, &token), FTK_OK);
        assert_int_not_equal(token, 2);
    }
}

/* ------------------------------------------------------------------ the chain, by definition */

typedef struct entry {
    double w;
    int32_t id;
} entry;

static int by_weight(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->w != y->w) return x->w < y->w ? 1 : -1;
    return x->id - y->id;
}

static double bias_of(const ftk_sampler *s, int32_t token)
{
    for (size_t i = 0; i < s->n_bias; i++)
        if (s->bias[i].token == token) return (double)s->bias[i].bias;
    return 0;
}

static bool held_back(const ftk_sampler *s, int32_t token, size_t n)
{
    for (int i = 0; i < 2; i++)
        for (size_t j = 0; j < s->ends[i].n; j++)
            if (s->ends[i].id[j] == token) return n < s->n_prompt + s->cfg.min_tokens;
    return false;
}

/* The probability of every token, by cfg in place of the sampler's own. */
static void distribution(const ftk_sampler *s, const ftk_sampling *cfg, const float *logits, int n,
                         const int32_t *history, int n_history, double *p)
{
    entry e[VOCAB];
    for (int i = 0; i < n; i++) {
        double x = (double)logits[i];
        int said = 0;
        for (int j = (int)s->n_prompt; j < n_history; j++) said += history[j] == i;
        for (int j = n_history > cfg->repeat_last ? n_history - cfg->repeat_last : 0; j < n_history;
             j++)
            if (history[j] == i) {
                x = x > 0 ? x / (double)cfg->repeat_penalty : x * (double)cfg->repeat_penalty;
                break;
            }
        x -= said * (double)cfg->frequency_penalty + (said > 0) * (double)cfg->presence_penalty;
        x += bias_of(s, i);
        if (held_back(s, i, (size_t)n_history)) x = -INFINITY;
        e[i] = (entry){exp(x / (double)cfg->temperature), i};
        p[i] = 0;
    }
    qsort(e, (size_t)n, sizeof *e, by_weight);
    int m = cfg->top_k > 0 && cfg->top_k < n ? cfg->top_k : n;
    double total = 0, sum = 0;
    for (int i = 0; i < m; i++) total += e[i].w;
    for (int i = 0; i < m; i++)
        if ((sum += e[i].w) >= (double)cfg->top_p * total) m = i + 1;
    for (; m > 1 && e[m - 1].w < (double)cfg->min_p * e[0].w; m--) sum -= e[m - 1].w;
    for (int i = 0; i < m; i++) p[e[i].id] = e[i].w / sum;
}

/* The weights are those of the definition, and what pick() never says has none. */
static void check_weights(ftk_sampler *s, const float *logits, const int32_t *history,
                          const double *p)
{
    double total, sum = 0;
    assert_int_equal(ftk_sampler_weigh(s, logits, history, 5, history + 5, 7, &total), FTK_OK);
    for (int i = 0; i < VOCAB; i++) assert_int_equal(counts_of[i], 0);
    for (int i = 0; i < s->n_vocab; i++) {
        assert_true((s->logits[i] == 0) == (p[i] == 0));
        assert_true(fabs((double)s->logits[i] / total - p[i]) < 1e-6);
        sum += (double)s->logits[i];
    }
    assert_true(fabs(sum / total - 1) < 1e-12);
}

/* Top-p is of all there is, and min-p of what it leaves: the other way round 2 could not be
 * said. */
static void test_order_of_filters(void **state)
{
    (void)state;
    static const float p[] = {0.5f, 0.3f, 0.1f, 0.06f, 0.04f};
    static const bool stays[] = {true, true, true, false, false};
    float x[5];
    for (int i = 0; i < 5; i++) x[i] = logf(p[i]);
    for (int top_k = 0; top_k <= 4; top_k += 4) {
        ftk_sampler s = make(5, 1);
        s.cfg.top_k = top_k;
        s.cfg.top_p = 0.85f;
        s.cfg.min_p = 0.15f;
        double total;
        assert_int_equal(ftk_sampler_weigh(&s, x, NULL, 0, NULL, 0, &total), FTK_OK);
        for (int i = 0; i < 5; i++) assert_true((s.logits[i] > 0) == stays[i]);
        bool said[5] = {false};
        for (uint64_t pos = 0; pos < 1000; pos++) {
            int32_t token;
            assert_int_equal(ftk_sampler_pick(&s, x, NULL, 0, NULL, 0, pos, &token), FTK_OK);
            said[token] = true;
        }
        assert_memory_equal(said, stays, sizeof said);
    }
}

static void test_chain(void **state)
{
    (void)state;
    enum { DRAWS = 60000 };
    uint64_t r = 3;
    int wrong_seed_differs = 0;
    for (int round = 0; round < 40; round++) {
        const int n = round % 4 == 0 ? VOCAB : 2 + (int)(next_random(&r) % 30);
        ftk_sampler s = make(n, round % 5 == 0 ? 0.5f : 0.7f + 0.1f * (float)(round % 7));
        s.cfg.top_k = round % 3 == 1 ? 1 + (int)(next_random(&r) % (unsigned)n) : 0;
        s.cfg.top_p = round % 2 ? 0.35f + 0.1f * (float)(round % 6) : 1;
        s.cfg.min_p = round % 7 >= 3 ? 0.13f : 0;
        s.cfg.repeat_penalty = round % 4 == 2 ? 1.7f : 1;
        s.cfg.repeat_last = 1 + round % 9;
        s.cfg.seed = (uint64_t)round * 77;
        s.cfg.presence_penalty = round % 3 == 2 ? 0.6f : 0;
        s.cfg.frequency_penalty = round % 5 >= 3 ? -0.4f : 0;
        s.cfg.min_tokens = round % 6 == 5 ? 12 : 0; /* reached where n_prompt is 0 */
        s.n_prompt = (size_t)(round / 2 % 4);
        const ftk_bias biases[] = {{1, 0.9f}, {0, -100}};
        s.bias = biases;
        s.n_bias = round % 4 == 3 ? 2 : 0;
        const int32_t ends[] = {(n - 1) / 2, n - 1};
        for (int i = 0; i < 2; i++) s.ends[i] = (ftk_ids){&ends[i], 1};
        float x[VOCAB];
        int32_t history[12];
        for (int i = 0; i < n; i++) x[i] = 1.5f * next_normal(&r);
        for (int i = 0; i < 12; i++) history[i] = (int32_t)(next_random(&r) % (unsigned)n);
        double p[VOCAB], other[VOCAB];
        distribution(&s, &s.cfg, x, n, history, 12, p);
        size_t counts[VOCAB] = {0};
        const float *const logits = x;
        for (uint64_t pos = 0; pos < DRAWS; pos++) {
            int32_t token, again;
            /* penalties: history, then path */
            const int split = (int)s.n_prompt + (int)(pos % (13 - s.n_prompt));
            assert_int_equal(ftk_sampler_pick(&s, logits, history, (size_t)split, history + split,
                                              12 - split, pos, &token),
                             FTK_OK);
            counts[token]++;
            if (pos % 64 != 0) continue;
            assert_int_equal(ftk_sampler_pick(&s, logits, history, 12, NULL, 0, pos, &again),
                             FTK_OK);
            assert_int_equal(token, again);
            s.cfg.seed++;
            assert_int_equal(ftk_sampler_pick(&s, logits, history, 12, NULL, 0, pos, &again),
                             FTK_OK);
            wrong_seed_differs += token != again;
            s.cfg.seed--;
        }
        if (!chi_square_fits(counts, p, n)) fail_msg("round %d does not fit", round);
        check_weights(&s, logits, history, p);
        /* And the test can fail: a temperature 10 % off is found. */
        if (n < 10 || s.cfg.top_k > 0 || s.cfg.top_p < 1) continue;
        ftk_sampling off = s.cfg;
        off.temperature *= 1.1f;
        distribution(&s, &off, x, n, history, 12, other);
        assert_false(chi_square_fits(counts, other, n));
    }
    assert_true(wrong_seed_differs > 1000);
}

static void test_penalty_once(void **state)
{
    (void)state;
    const float x[] = {4, 3, -1, -1.5f};
    const int32_t history[] = {0, 0, 0, 2};
    ftk_sampler s = make(4, 0);
    s.cfg.repeat_penalty = 1.3f;
    int32_t token;
    /* 4 / 1.3 is still above 3; 4 / 1.3 / 1.3 would not be */
    assert_int_equal(ftk_sampler_pick(&s, x, history, 4, NULL, 0, 0, &token), FTK_OK);
    assert_int_equal(token, 0);
    s.cfg.repeat_penalty = 1.4f;
    assert_int_equal(ftk_sampler_pick(&s, x, history, 4, NULL, 0, 0, &token), FTK_OK);
    assert_int_equal(token, 1);
    s.cfg.repeat_last = 1; /* only token 2 */
    assert_int_equal(ftk_sampler_pick(&s, x, history, 4, NULL, 0, 0, &token), FTK_OK);
    assert_int_equal(token, 0);
    s.cfg.repeat_last = 0;
    assert_int_equal(ftk_sampler_pick(&s, x, history, 4, history, 3, 0, &token), FTK_OK);
    assert_int_equal(token, 0);
    s.cfg.repeat_last = 2; /* the path comes last: 0 and 1 */
    const int32_t path[] = {0, 1};
    const float y[] = {4, 3, 2.9f, -1};
    assert_int_equal(ftk_sampler_pick(&s, y, history, 4, path, 2, 0, &token), FTK_OK);
    assert_int_equal(token, 2);
}

/* Where nothing is left it is said; what was not finite stays so, and nothing becomes so. */
static void test_bounds_of_changes(void **state)
{
    (void)state;
    const float x[] = {1, -INFINITY, 3e38f};
    ftk_sampler s = make(3, 0);
    const ftk_bias up[] = {{0, 3e38f}, {1, 3e38f}, {2, 3e38f}};
    s.bias = up;
    s.n_bias = 3;
    double total;
    int32_t token;
    for (int hot = 0; hot < 2; hot++) {
        s.cfg.temperature = (float)hot;
        assert_int_equal(ftk_sampler_weigh(&s, x, NULL, 0, NULL, 0, &total), FTK_OK);
        assert_true(s.logits[0] == 0 && s.logits[1] == 0 && s.logits[2] == 1 && total == 1);
    }
    assert_false(s.stuck);
    const int32_t ends[] = {0, 1, 2};
    s.ends[1] = (ftk_ids){ends, 3};
    s.cfg.min_tokens = 1;
    assert_int_equal(ftk_sampler_pick(&s, x, NULL, 0, NULL, 0, 0, &token), FTK_OK);
    assert_true(s.stuck);
    assert_int_equal(token, 0);
    s.stuck = false;
    const int32_t path[] = {1};
    assert_int_equal(ftk_sampler_pick(&s, x, NULL, 0, path, 1, 1, &token), FTK_OK);
    assert_int_equal(token, 2);
    assert_false(s.stuck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uniform),          cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_greedy),           cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_extremes),         cmocka_unit_test(test_chain),
        cmocka_unit_test(test_order_of_filters), cmocka_unit_test(test_penalty_once),
        cmocka_unit_test(test_weights_of_ties),  cmocka_unit_test(test_bounds_of_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
