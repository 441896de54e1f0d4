/* SPDX-License-Identifier: Apache-2.0
 * The suffix automaton against a search by hand. */
#include "support.h"

#include <time.h>

#include "drafters/suffix.h"
#include "testkit/statistics.h"

enum { LONG = 400 };

/* The longest end of text[0..n), of at most `most` tokens, that ends earlier, too. */
static ftk_match by_hand(const int32_t *text, int n, int most)
{
    ftk_match m = {0};
    for (int end = n - 1; end > 0; end--) {
        int length = 0;
        while (length < end && length < most && text[end - 1 - length] == text[n - 1 - length])
            length++;
        if (length > m.length)
            m = (ftk_match){length, end, end};
        else if (length == m.length && length > 0)
            m.first = end;
    }
    return m;
}

static void check_occurrence(const int32_t *text, int n, int length, int end)
{
    assert_in_range(end, length, n - 1);
    assert_memory_equal(text + end - length, text + n - length, (size_t)length * sizeof *text);
}

static void random_text(int32_t *text, int n, uint64_t *r, int kind)
{
    const unsigned alphabet = 1 + next_random(r) % (kind % 2 ? 3 : 40);
    for (int i = 0; i < n; i++) {
        text[i] = (int32_t)(next_random(r) % alphabet);
        if (kind % 3 == 0 && i > 20 && next_random(r) % 16 == 0) { /* copies a piece */
            const int from = (int)(next_random(r) % (unsigned)i);
            for (int j = 0; j < 15 && i < n; j++, i++) text[i] = text[from + j];
            i--;
        }
    }
}

static void check_all(ftk_suffix *s, const int32_t *text, int n, bool exact_recent)
{
    for (int i = 1; i <= n; i++) {
        ftk_suffix_sync(s, text, (size_t)i);
        const ftk_match want = by_hand(text, i, i), got = s->match;
        assert_int_equal(got.length, want.length);
        if (want.length > 0) {
            assert_int_equal(got.first, want.first);
            check_occurrence(text, i, got.length, got.recent);
            if (exact_recent) assert_int_equal(got.recent, want.recent);
        }
        for (int most = 1; most < 6; most += 2) {
            const ftk_match a = by_hand(text, i, most), b = ftk_suffix_at_most(s, most);
            assert_int_equal(a.length, b.length);
            if (a.length == 0) continue;
            assert_int_equal(a.first, b.first);
            check_occurrence(text, i, b.length, b.recent);
        }
    }
}

static void test_by_hand(void **state)
{
    (void)state;
    uint64_t r = 2;
    static int32_t text[LONG];
    ftk_suffix s;
    assert_int_equal(ftk_suffix_init(&s, NULL, LONG), FTK_OK);
    for (int round = 0; round < 4000; round++) {
        const int n = round % 50 == 0 ? LONG : 1 + (int)(next_random(&r) % 32);
        random_text(text, n, &r, round);
        ftk_suffix_reset(&s);
        check_all(&s, text, n, n <= 32);
    }
    ftk_suffix_free(&s, NULL);
}

/* Just as much memory as is needed, on the texts that need the most. */
static void test_bounds(void **state)
{
    (void)state;
    uint64_t r = 4;
    for (int n = 1; n <= 64; n++)
        for (int kind = 0; kind < 12; kind++) {
            int32_t text[64];
            for (int i = 0; i < n; i++)
                text[i] = kind == 0   ? 0
                          : kind == 1 ? i
                          : kind == 2 ? i > 0                  /* most states: a b b b ... */
                          : kind == 3 ? (i == n - 1) + (i > 0) /* most edges: a b b ... b c */
                                      : (int32_t)(next_random(&r) % 3);
            ftk_suffix s;
            assert_int_equal(ftk_suffix_init(&s, NULL, n), FTK_OK);
            check_all(&s, text, n, n <= 32);
            assert_true(s.n_states <= 2 * n + 1 && s.n_edges <= 3 * n + 1);
            const ftk_match m = s.match;
            const int32_t more[65] = {0};
            ftk_suffix_sync(&s, more, 65); /* more than there is room for: left out */
            assert_int_equal(s.n, n);
            assert_int_equal(s.match.length, m.length);
            ftk_suffix_free(&s, NULL);
        }
}

static void test_follow(void **state)
{
    (void)state;
    const int32_t text[] = {1, 2, 3, 4, 2, 3};
    int32_t out[9] = {0};
    assert_int_equal(ftk_suffix_follow(text, 6, 3, out, 8), 8);
    const int32_t want[] = {4, 2, 3, 4, 2, 3, 4, 2, 0};
    assert_memory_equal(out, want, sizeof want);
    assert_int_equal(ftk_suffix_follow(text, 6, 6, out, 8), 0);
    assert_int_equal(ftk_suffix_follow(text, 6, -1, out, 8), 0);
    assert_int_equal(ftk_suffix_follow(text, 6, 0, out, 0), 0);
}

/* Constant time a token also where every token repeats. */
static void test_cost(void **state)
{
    (void)state;
    enum { N = 200000 };
    int32_t *text = malloc(N * sizeof *text);
    ftk_suffix s;
    uint64_t r = 8;
    assert_int_equal(ftk_suffix_init(&s, NULL, N), FTK_OK);
    for (int kind = 0; kind < 4; kind++) {
        for (int i = 0; i < N; i++)
            text[i] = kind == 0   ? 7
                      : kind == 1 ? i
                                  : (int32_t)(next_random(&r) % (kind == 2 ? 2 : 4096));
        ftk_suffix_reset(&s);
        const clock_t start = clock();
        ftk_suffix_sync(&s, text, N);
        const double ns = 1e9 * (double)(clock() - start) / CLOCKS_PER_SEC / N;
        printf("suffix automaton, text %d: %.0f ns a token, %d states, %d edges\n", kind, ns,
               s.n_states, s.n_edges);
        assert_true(ns < 20000);
    }
    ftk_suffix_free(&s, NULL);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_follow),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
