/* SPDX-License-Identifier: Apache-2.0
 * Loops over rows: what they give, and that the wide ones give the same bits. */
#include "base/row.c"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>

#include <cmocka.h>

enum { LONGEST = 3 * BLOCK + 71 };

static uint32_t noise_state = 1;

static float noise(void)
{
    noise_state = noise_state * 1664525u + 1013904223u;
    return (float)(noise_state >> 8) / (float)(1 << 24);
}

static void fill(float *x, int n)
{
    for (int i = 0; i < n; i++) x[i] = 40 * noise() - 30;
}

typedef struct kind {
    bool (*max)(const float *x, int n, float *max);
    int (*above)(const float *x, int n, int from, float limit);
    double (*weigh)(const float *x, int n, float max, float t, float *w);
    double (*sum)(const float *w, int n);
    int (*find)(const float *w, int n, double at);
} kind;

static const kind plain = {max_of, above, weigh, sum_of, find};

static void compare(const kind *k, const float *x, int n, float limit, double at)
{
    static float w[LONGEST], truth[LONGEST];
    float max, true_max;
    const bool good = plain.max(x, n, &true_max);
    assert_true(k->max(x, n, &max) == good);
    if (good) assert_true(max == true_max);
    assert_int_equal(k->above(x, n, 0, limit), plain.above(x, n, 0, limit));
    const double sum = plain.weigh(x, n, 10, 0.7f, truth);
    assert_true(k->weigh(x, n, 10, 0.7f, NULL) == sum);
    assert_true(k->weigh(x, n, 10, 0.7f, w) == sum);
    assert_memory_equal(w, truth, (size_t)n * sizeof *w);
    assert_true(k->sum(w, n) == sum);
    assert_int_equal(k->find(w, n, at * sum), plain.find(w, n, at * sum));
}

/* Loops of every width that the processor has say the same, to the bit. */
static void same_everywhere(const float *x, int n, float limit, double at)
{
    compare(&(kind){ftk_row_max, ftk_row_above, ftk_row_weigh, ftk_row_sum, ftk_row_find}, x, n,
            limit, at);
#if defined(__x86_64__) && defined(__GNUC__)
    static const kind avx2 = {max_of_avx2, above_avx2, weigh_avx2, sum_of_avx2, find_avx2};
    if (__builtin_cpu_supports("avx2")) compare(&avx2, x, n, limit, at);
#endif
}

static void test_widths(void **state)
{
    (void)state;
    static float x[LONGEST];
    static const int lengths[] = {1, 2, 31, 32, 33, 511, 512, 513, 1024, LONGEST};
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
        for (int round = 0; round < 20; round++) {
            fill(x, lengths[l]);
            if (round == 18) x[lengths[l] / 2] = NAN;
            if (round == 19) x[lengths[l] / 3] = -INFINITY;
            same_everywhere(x, lengths[l], 10 * noise(), round / 19.0);
        }
}

static void test_max(void **state)
{
    (void)state;
    static float x[LONGEST];
    for (int n = 1; n <= LONGEST; n += n < 100 ? 1 : 97) {
        fill(x, n);
        float max;
        for (int at = 0; at < n; at += 1 + n / 40) {
            const float was = x[at];
            x[at] = 77;
            assert_true(ftk_row_max(x, n, &max) && max == 77);
            assert_int_equal(ftk_row_above(x, n, 0, 76), at);
            assert_int_equal(ftk_row_above(x, n, 0, 77), n);
            assert_int_equal(ftk_row_above(x, n, at, 76), at);
            if (at + 1 < n) assert_int_equal(ftk_row_above(x, n, at + 1, 76), n);
            x[at] = NAN;
            assert_false(ftk_row_max(x, n, &max));
            x[at] = INFINITY;
            assert_false(ftk_row_max(x, n, &max));
            x[at] = was;
        }
        for (int i = 0; i < n; i++) x[i] = -INFINITY;
        assert_false(ftk_row_max(x, n, &max));
        x[n - 1] = -FLT_MAX;
        assert_true(ftk_row_max(x, n, &max) && max == -FLT_MAX);
    }
}

static void test_weights(void **state)
{
    (void)state;
    double worst = 0;
    for (float d = 0; d > -79.99f; d -= 0.00137f) {
        const double is = exp(d);
        const double off = fabs(ftk_row_weight(d, 0, 1) - is) / is;
        worst = off > worst ? off : worst;
    }
    assert_true(worst < 2e-7);
    assert_true(ftk_row_weight(3, 3, 1e-30f) == 1); /* the largest, at any temperature */
    assert_true(ftk_row_weight(2, 3, 1e-30f) == 0);
    assert_true(ftk_row_weight(3, 3, 1e-45f) == 1 && ftk_row_weight(2, 3, 1e-45f) == 0);
    assert_true(ftk_row_weight(-80, 0, 1) == 0 && ftk_row_weight(-79.9f, 0, 1) > 0);
    assert_true(ftk_row_weight(-INFINITY, 0, 1) == 0);
    static float x[LONGEST], w[LONGEST];
    fill(x, LONGEST);
    double sum = 0;
    const double total = ftk_row_weigh(x, LONGEST, 10, 0.7f, w);
    for (int i = 0; i < LONGEST; i++) {
        assert_true(w[i] == ftk_row_weight(x[i], 10, 0.7f));
        sum += w[i];
    }
    assert_true(fabs(total / sum - 1) < 1e-12);
    assert_true(ftk_row_weigh(x, LONGEST, 10, 0.7f, x) == total); /* in place */
    assert_memory_equal(x, w, sizeof w);
}

/* Every index comes for as large a part of [0, total) as it has weight, but for rounding; one
 * without weight never comes. */
static void test_find(void **state)
{
    (void)state;
    static float w[LONGEST];
    for (int n = 1; n <= LONGEST; n += n < 40 ? 1 : 211) {
        for (int i = 0; i < n; i++) w[i] = noise() < 0.3f ? 0 : noise();
        w[n / 2] = 1;
        const double total = ftk_row_sum(w, n);
        double sum = 0;
        int last = 0;
        for (int i = 0; i < n; i++) {
            if (w[i] == 0) continue;
            const double middle = sum + 0.5 * w[i];
            if (w[i] > 1e-6) assert_int_equal(ftk_row_find(w, n, middle), i);
            sum += w[i];
            last = i;
        }
        assert_int_equal(ftk_row_find(w, n, total), last);
        assert_int_equal(ftk_row_find(w, n, 2 * total), last);
        for (int i = 0; i < 200; i++) assert_true(w[ftk_row_find(w, n, noise() * total)] > 0);
    }
    memset(w, 0, sizeof w);
    w[BLOCK + 3] = 1;
    assert_int_equal(ftk_row_find(w, LONGEST, 0), BLOCK + 3);
    assert_int_equal(ftk_row_find(w, LONGEST, 5), BLOCK + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_widths), cmocka_unit_test(test_max),
                                       cmocka_unit_test(test_weights), cmocka_unit_test(test_find)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
