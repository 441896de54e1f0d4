/* SPDX-License-Identifier: Apache-2.0
 * Sessions that share their passes say what they say alone without drafts: all drafters, those with
 * rows of their own also where these always run, 1 to 16 sessions with prompts, temperatures and
 * verifiers of their own, every level of kernels.
 * test_batches demo|small */
#include "support.h"

#include "engine/session.h"
#include "everydrafter.h"
#include "kernels/kernels.h"

enum { TOKENS = 24, MOST = ED_PROMPTS };

static ed_place where;

typedef int32_t answer[TOKENS + FTK_MAX_NODES];

typedef ftk_err opener(ftk_session **out, ftk_engine *e, ed_place at, const char *drafter,
                       int budget, int which);

static void run(ftk_engine *e, const char *const *drafters, int n_drafters, opener *open,
                int budget, int first, int n, answer *out)
{
    ftk_session *s[MOST];
    size_t got[MOST] = {0};
    for (int i = 0; i < n; i++) {
        assert_int_equal(open(&s[i], e, where, drafters[i % n_drafters], budget, first + i),
                         FTK_OK);
        ftk_session_limit(s[i], TOKENS);
    }
    for (bool running = true; running;) {
        ftk_result r[MOST];
        assert_int_equal(ftk_step(s, (size_t)n, r), FTK_OK);
        running = false;
        for (int i = 0; i < n; i++) {
            memcpy(out[i] + got[i], r[i].tokens, r[i].n_tokens * sizeof(int32_t));
            got[i] += r[i].n_tokens;
            running |= r[i].finish == FTK_FINISH_NONE;
        }
    }
    for (int i = 0; i < n; i++) {
        assert_int_equal(got[i], TOKENS);
        ftk_session_free(s[i]);
    }
}

static void compare(ftk_engine *e, const char *const *drafters, int n_drafters, opener *open, int n,
                    answer *want)
{
    /* given, or the cost model's to decide */
    const int budget = n % 2 || open == ed_open_always ? 6 : -1;
    answer got[MOST];
    run(e, drafters, n_drafters, open, budget, 0, n, got);
    for (int i = 0; i < n; i++)
        if (memcmp(got[i], want[i], TOKENS * sizeof(int32_t)) != 0)
            fail_msg("%s, %s%s, session %d of %d: not what it says alone", e->model->kernels.name,
                     drafters[0], n_drafters > 1 ? " and others" : "", i, n);
}

static void check_level(const char *level)
{
    static const int sizes[] = {1, 2, 7, 16};
    const char *const none = "none";
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = print_log;
    cfg.kernels = level;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, ed_path(where), &cfg), FTK_OK);
    ftk_engine *e = open_engine(m, 2, MOST * ED_CONTEXT, FTK_TYPE_F16);
    assert_int_equal(ed_add(e, where), FTK_OK);
    static answer want[MOST];
    for (int i = 0; i < MOST; i++) run(e, &none, 1, ed_open, -1, i, 1, want + i);
    const char *lossless[1 + ED_MAX_DRAFTERS];
    int n = 0, with_rows = 0;
    for (int i = ed_drafters(e, lossless), k = 0; k < i; k++)
        if (ftk_drafter_lossless(lossless[k])) lossless[n++] = lossless[k];
    for (int i = 0; i < n; i++) with_rows += ed_has_rows(lossless[i]);
    assert_int_equal(with_rows, where == ED_SMALL ? 5 : 4);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int i = 0; i < n; i++) {
            compare(e, &lossless[i], 1, ed_open, sizes[k], want);
            if (ed_has_rows(lossless[i]))
                compare(e, &lossless[i], 1, ed_open_always, sizes[k], want);
        }
    lossless[n++] = none;
    for (size_t k = 2; k < sizeof sizes / sizeof *sizes; k++)
        compare(e, lossless, n, ed_open, sizes[k], want);
    printf("%s: %d drafters\n", level, n - 1);
    ftk_engine_free(e);
    ftk_model_free(m);
}

static void test_levels(void **state)
{
    (void)state;
    NEED(ed_path(where));
    const char *names[8];
    ftk_kernels_levels(names);
    for (int i = 0; names[i]; i++) /* plain C is slow, and the small model has all its loops */
        if (where == ED_SMALL || strcmp(names[i], "ref") != 0) check_level(names[i]);
}

static int write_files(void **state)
{
    (void)state;
    return where == ED_SMALL ? ed_write("batches") : 0;
}

int main(int argc, char **argv)
{
    where = argc > 1 && strcmp(argv[1], "demo") == 0 ? ED_DEMO : ED_SMALL;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_levels)};
    return cmocka_run_group_tests(tests, write_files, NULL);
}
