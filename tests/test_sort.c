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

/* Sorts; every element must still be there, whole, and no worse than 2 n log n comparisons made. */
static void check(struct item *v, size_t n)
{
    uint32_t *keys = malloc((n + 1) * sizeof *keys);
    assert_non_null(keys);
    for (size_t i = 0; i < n; i++) keys[i] = v[i].key;
    size_t most = 2 * n;
    for (size_t k = n; k > 0; k /= 2) most += 2 * n;
    n_compared = 0;
    ftk_sort(v, n, sizeof *v, compare, &n_compared);
    assert_true(n_compared <= most);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
