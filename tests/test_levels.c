/* SPDX-License-Identifier: Apache-2.0
 * test_levels MODEL...: the log probability of a text, at every kernel level and with weights of
 * every type. A level may round differently; a wrong scale or a mixed-up layout shows at once. */
#include "support.h"

#include <math.h>
#include <signal.h>

#include "kernels/kernels.h"

static char **models;
static int n_models;

static const char text[] =
    "Once upon a time there was a little girl who lived near a forest. Every day she walked to "
    "the river with her dog. One day the dog saw a rabbit and ran after it.";

static double score(const char *path, const char *level)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = print_log;
    cfg.kernels = level;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, path, &cfg), FTK_OK);
    ftk_engine *e = open_engine(m, 1, 512, FTK_TYPE_F16);
    int32_t tokens[256];
    size_t n;
    double sum;
    assert_int_equal(ftk_tokenize(m, text, strlen(text), FTK_TOK_BOS, tokens, 256, &n), FTK_OK);
    assert_int_equal(ftk_score(e, tokens, n, &sum), FTK_OK);
    ftk_engine_free(e);
    ftk_model_free(m);
    return sum / (double)(n - 1);
}

static void test_levels_agree(void **state)
{
    (void)state;
    NEED(models[0]);
    const char *levels[8];
    ftk_kernels_levels(levels);
    const double first = score(models[0], "ref");
    for (int i = 0; i < n_models; i++) {
        const double ref = score(models[i], "ref");
        /* the weights' type costs little: 4 bits the most, but for the mixture, which has 2 and
         * 3 too */
        if (!(fabs(ref - first) < (strstr(models[i], "MIXED") ? 0.6 : 0.3)))
            fail_msg("%s: %.4f nats a token, %.4f for %s", models[i], ref, first, models[0]);
        /* Where activations are rounded to 8 bits, a last-bit difference may move one by a step; a
         * mixed-up scale or layout costs tenths of a nat and more. */
        for (int l = 1; levels[l]; l++) {
            const double x = score(models[i], levels[l]);
            if (!(fabs(x - ref) < (strstr(models[i], "F32") ? 1e-4 : 2e-2)))
                fail_msg("%s: %s says %.6f nats a token, ref %.6f", models[i], levels[l], x, ref);
        }
        printf("%.4f nats a token: %s\n", ref, models[i]);
    }
}

/* Each level that is listed can be had, and the best is what there is without a name. Linux
 * refuses tiles while a thread's signal stack is too small for them; it has to be asked for the
 * first time here. */
static void test_listed_levels_run(void **state)
{
    (void)state;
    static char small[3 << 10];
    const stack_t stack = {.ss_sp = small, .ss_size = sizeof small};
    stack_t before;
    const bool set = sigaltstack(&stack, &before) == 0;
    const char *levels[8];
    ftk_kernels k;
    ftk_kernels_levels(levels);
    const char *refused = NULL;
    int n = 0;
    for (; levels[n]; n++)
        if (!ftk_kernels_fill(&k, levels[n])) refused = levels[n];
    const bool filled = ftk_kernels_fill(&k, NULL);
    if (set) sigaltstack(&before, NULL);
    if (refused) fail_msg("%s is listed and refused", refused);
    assert_true(filled);
    assert_string_equal(k.name, levels[n - 1]);
}

int main(int argc, char **argv)
{
    models = argv + 1;
    n_models = argc - 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_listed_levels_run),
                                       cmocka_unit_test(test_levels_agree)};
    return argc < 2 ? 2 : cmocka_run_group_tests(tests, NULL, NULL);
}
