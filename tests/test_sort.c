/* SPDX-License-Identifier: Apache-2.0
 * Sorting in place: all orders of few elements, and many elements in several orders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/sort.h"

/* Of an odd size, and with a part that the order does not see. */
struct item {
    uint32_t key, place;
    char more[5];
};

static size_t n_compared;

static int compare(const void *a, const void *b, const void *ctx)
{
    const uint32_t x = ((const struct item *)a)->key, y = ((const struct item *)b)->key;
    assert_ptr_equal(ctx, &n_compared);
    n_compared++;
    return (x > y) - (x < y);
}

static void set(struct item *v, size_t i, uint32_t key)
{
    v[i].key = key;
    v[i].place = (uint32_t)i;
    memset(v[i].more, (int)(i & 0x7F), sizeof v[i].more);
}

/* The comparisons that sorting n elements may take. */
static size_t most_for(size_t n)
{
    size_t most = 5 * n;
    for (size_t k = n; k > 0; k /= 2) most += 5 * n;
    return most;
}

/* Sorts; every element must still be there, whole. */
static void check(struct item *v, size_t n)
{
    uint32_t *keys = malloc((n + 1) * sizeof *keys);
    assert_non_null(keys);
    for (size_t i = 0; i < n; i++) keys[i] = v[i].key;
    n_compared = 0;
    ftk_sort(v, n, sizeof *v, compare, &n_compared);
    assert_true(n_compared <= most_for(n));
    for (size_t i = 0; i < n; i++) {
        if (i > 0) assert_true(v[i - 1].key <= v[i].key);
        assert_true(v[i].place < n);
        assert_int_equal(v[i].key, keys[v[i].place]);
        assert_int_equal(v[i].more[4], v[i].place & 0x7F);
        keys[v[i].place] = UINT32_MAX; /* not twice */
    }
    free(keys);
}

static void test_few(void **state)
{
    (void)state;
    struct item v[6];
    for (uint32_t n = 0; n <= 6; n++)
        for (uint32_t order = 0; order < 46656; order++) { /* 6 to the 6 */
            uint32_t rest = order;
            for (uint32_t i = 0; i < n; i++, rest /= 6) set(v, i, rest % 6);
            if (rest == 0) check(v, n);
        }
}

static void test_many(void **state)
{
    (void)state;
    enum { N = 5000 };
    static struct item v[N];
    for (int how = 0; how < 5; how++) {
        uint64_t seed = 1;
        for (uint32_t i = 0; i < N; i++) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            const uint32_t keys[] = {i, N - i, 7, (uint32_t)(seed >> 33), (uint32_t)(seed >> 60)};
            set(v, i, keys[how]);
        }
        check(v, N);
    }
}

/* Decides the order while it is asked, so that whatever was taken for the middle is at an end
 * (after M. D. McIlroy, "A killer adversary for quicksort"). */
enum { N_KILLED = 20000 };
static uint32_t values[N_KILLED], n_decided, candidate;

static int compare_unkindly(const void *a, const void *b, const void *ctx)
{
    (void)ctx;
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    n_compared++;
    if (values[x] == N_KILLED && values[y] == N_KILLED)
        values[x == candidate ? x : y] = n_decided++;
    if (values[x] == N_KILLED) candidate = x;
    if (values[y] == N_KILLED) candidate = y;
    return (values[x] > values[y]) - (values[x] < values[y]);
}

static void test_killer(void **state)
{
    (void)state;
    static uint32_t v[N_KILLED];
    for (uint32_t i = 0; i < N_KILLED; i++) {
        v[i] = i;
        values[i] = N_KILLED;
    }
    n_compared = 0;
    ftk_sort(v, N_KILLED, sizeof *v, compare_unkindly, NULL);
    print_message("%zu comparisons\n", n_compared);
    assert_true(n_compared <= most_for(N_KILLED));
    for (size_t i = 1; i < N_KILLED; i++) assert_true(values[v[i - 1]] <= values[v[i]]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_killer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
