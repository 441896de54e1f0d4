/* SPDX-License-Identifier: Apache-2.0
 *
 * test_inflate SMALL LARGE...: pairs of a model and its inflated copy. At every kernel level (but
 * plain C, which is slow, where there are others) the large one must go on with the same tokens
 * and give each text the very same probability. */
#include "kernels/kernels.h"
#include "support.h"

enum { TOKENS = 64, MAX_PROMPT = 128 };

static char **files;
static int n_files;

static const char *const prompts[] = {
    "Once upon a time, there was a girl who lived near a forest.",
    "What is the capital of France?",
    "Tom has 5 apples and buys 7 more. How many apples does he have?",
    "Write a Python function that adds two numbers.",
};
enum { N_PROMPTS = sizeof prompts / sizeof prompts[0] };

typedef struct {
    int32_t token[N_PROMPTS][MAX_PROMPT + TOKENS];
    size_t n[N_PROMPTS];
    double log_prob[N_PROMPTS]; /* of prompt and answer */
} answers;

static void answer_all(const char *path, const char *level, answers *a)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = print_log;
    cfg.kernels = level;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, path, &cfg), FTK_OK);
    ftk_engine *e = open_engine(m, 1, 512, FTK_TYPE_F16);
    for (int i = 0; i < N_PROMPTS; i++) {
        size_t n;
        int32_t *token = a->token[i];
        const ftk_message msg = {"user", prompts[i]};
        assert_int_equal(ftk_chat_tokenize(m, NULL, &msg, 1, token, MAX_PROMPT, &n), FTK_OK);
        ftk_session_config sc;
        ftk_session_config_init(&sc);
        sc.drafter = "none";
        sc.ignore_end = true;
        ftk_session *s;
        assert_int_equal(ftk_session_open(&s, e, &sc), FTK_OK);
        assert_int_equal(ftk_session_append(s, token, n), FTK_OK);
        a->n[i] = n + take(s, TOKENS, token + n);
        ftk_session_free(s);
        assert_int_equal(ftk_score(e, token, a->n[i], &a->log_prob[i]), FTK_OK);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

static void test_same(void **state)
{
    (void)state;
    static answers small, large;
    const char *levels[8];
    ftk_kernels_levels(levels);
    for (int l = levels[1] ? 1 : 0; levels[l]; l++)
        for (int f = 0; f + 1 < n_files; f += 2) {
            answer_all(files[f], levels[l], &small);
            answer_all(files[f + 1], levels[l], &large);
            for (int i = 0; i < N_PROMPTS; i++) {
                printf("%s %s: %zu tokens, log p %.17g and %.17g\n", levels[l],
                       strrchr(files[f + 1], '/') + 1, small.n[i], small.log_prob[i],
                       large.log_prob[i]);
                assert_int_equal(small.n[i], large.n[i]);
                assert_memory_equal(small.token[i], large.token[i],
                                    small.n[i] * sizeof *small.token[i]);
                assert_true(small.log_prob[i] == large.log_prob[i]);
            }
        }
}

int main(int argc, char **argv)
{
    files = argv + 1;
    n_files = argc - 1;
    if (n_files < 2 || n_files % 2 != 0) {
        fprintf(stderr, "usage: test_inflate SMALL LARGE...\n");
        return 2;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
