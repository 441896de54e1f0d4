/* SPDX-License-Identifier: Apache-2.0
 * A real model against golden tokens and logits, at every kernel level. */
#include "support.h"

#include <math.h>

#include "engine/session.h"
#include "kernels/kernels.h"

static void each_level(void (*check)(const char *level))
{
    const char *levels[8];
    ftk_kernels_levels(levels);
    assert_non_null(levels[0]);
    for (int i = 0; levels[i]; i++) check(levels[i]);
}

static ftk_model *load_level(const char *path, const char *level)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = print_log;
    cfg.kernels = level;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, path, &cfg), FTK_OK);
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    assert_string_equal(info.kernels, level);
    return m;
}

static size_t read_numbers(const char *path, double *x, size_t cap)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = 0;
    while (n < cap && fscanf(f, "%lf", &x[n]) == 1) n++;
    fclose(f);
    return n;
}

static void logits_at(const char *level)
{
    double golden[600];
    const size_t n = read_numbers(STORIES "bos_logits.txt", golden, 600);
    assert_int_equal(n, 512);
    ftk_model *m = load_level(STORIES "stories260K-f32.gguf", level);
    ftk_engine *e = open_engine(m, 1, 512, FTK_TYPE_F32);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "none";
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    const int32_t bos = 1;
    assert_int_equal(ftk_session_append(s, &bos, 1), FTK_OK);
    ftk_result r;
    assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double error = fabs(e->forward.logits[i] - golden[i]);
        worst = !(error <= worst) ? error : worst;
    }
    printf("%s: largest logit error %.2g\n", level, worst);
    assert_true(worst <= 1e-4);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

static void test_golden_logits(void **state)
{
    (void)state;
    NEED(STORIES "stories260K-f32.gguf");
    each_level(logits_at);
}

static void tokens_with(const char *level, ftk_type kv, const char *drafter)
{
    double golden[256];
    const size_t n = read_numbers(STORIES "greedy_200_ids.txt", golden, 256);
    assert_true(n >= 200);
    ftk_model *m = load_level(STORIES "stories260K-f32.gguf", level);
    ftk_engine *e = open_engine(m, 2, 512, kv);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.budget = 24;
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    const int32_t bos = 1;
    assert_int_equal(ftk_session_append(s, &bos, 1), FTK_OK);
    const size_t skip_bos = n == 201; /* the file may begin with BOS */
    int32_t out[256];
    assert_int_equal(take(s, 200, out), 200);
    for (size_t i = 0; i < 200; i++)
        if (out[i] != (int32_t)golden[i + skip_bos])
            fail_msg("%s, drafter %s: token %zu is %d, not %d", level, drafter, i, out[i],
                     (int)golden[i + skip_bos]);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
}

static void tokens_at(const char *level)
{
    tokens_with(level, FTK_TYPE_F32, "none");
    tokens_with(level, FTK_TYPE_F16, "none");
    tokens_with(level, FTK_TYPE_F16, "jacobi");
    tokens_with(level, FTK_TYPE_F16, "lookup");
}

static void test_golden_tokens(void **state)
{
    (void)state;
    NEED(STORIES "stories260K-f32.gguf");
    each_level(tokens_at);
}

static void test_info(void **state)
{
    (void)state;
    NEED(STORIES "stories260K-f32.gguf");
    ftk_model *m = load_model(STORIES "stories260K-f32.gguf");
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    assert_int_equal(info.n_vocab, 512);
    assert_int_equal(info.n_layer, 5);
    assert_int_equal(info.n_embd, 64);
    assert_int_equal(info.n_ff, 172);
    assert_int_equal(info.n_head, 8);
    assert_int_equal(info.n_head_kv, 4);
    assert_int_equal(info.head_dim, 8);
    assert_int_equal(info.bos, 1);
    ftk_model_free(m);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    ftk_model *m;
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    assert_int_equal(ftk_model_load(&m, "/nonexistent.gguf", &cfg), FTK_ERR_IO);
    assert_null(m);
    cfg.kernels = "warp";
    assert_int_equal(ftk_model_load(&m, "x.gguf", &cfg), FTK_ERR_INVALID);
    cfg.size = 0;
    assert_int_equal(ftk_model_load(&m, "x.gguf", &cfg), FTK_ERR_INVALID);
    ftk_model_free(NULL);
    ftk_engine_free(NULL);
    ftk_session_free(NULL);
}

/* What weights are prefetched by: the largest cache of this core, as Linux knows it, and not
 * those of the processor's other cores with it. */
static void test_cache(void **state)
{
    (void)state;
    size_t most = 0, kib;
    for (int i = 0; i < 8; i++) {
        char path[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        FILE *f = fopen(path, "r");
        if (f && fscanf(f, "%zuK", &kib) == 1 && kib > most) most = kib;
        if (f) fclose(f);
    }
    if (most == 0) skip();
    assert_int_equal(ftk_cache_bytes(), most << 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_logits), cmocka_unit_test(test_golden_tokens),
        cmocka_unit_test(test_info),          cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
