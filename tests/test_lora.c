/* SPDX-License-Identifier: Apache-2.0
 * LoRA adapters: a model with them gives the bits of a file that had them added before. */
#include "lorafolder.h"

#include <math.h>

#include "engine/session.h"
#include "model/lowbit.h"

static ftk_model *load_with(const char *path, const char *level, const ftk_adapter *adapters,
                            size_t n)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = print_log;
    cfg.kernels = level;
    cfg.adapters = adapters;
    cfg.n_adapters = n;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, path, &cfg), FTK_OK);
    return m;
}

enum { TOKENS = 7 };

/* Logits behind a few tokens; to be freed. */
static float *logits_of(const ftk_model *m)
{
    ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F32);
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = "none";
    ftk_session *s;
    ftk_result r;
    const int32_t tokens[TOKENS] = {1, 40, 41, 250, 40, 7, 99};
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    assert_int_equal(ftk_session_append(s, tokens, TOKENS), FTK_OK);
    assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
    float *x = malloc((size_t)m->hp.n_vocab * sizeof *x);
    assert_non_null(x);
    memcpy(x, e->forward.logits, (size_t)m->hp.n_vocab * sizeof *x);
    ftk_session_free(s);
    ftk_engine_free(e);
    return x;
}

/* The largest difference, by the largest logit. */
static double apart(const float *a, const float *b, int n)
{
    double most = 0, size = 0;
    for (int i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - b[i]);
        most = !(d <= most) ? d : most;
        size = fmax(size, fabs((double)a[i]));
    }
    return most / size;
}

/* The model with adapters has the bits of the file that had them added, and not those of the model
 * alone; what rounding to Q8_0 costs is little. */
static void check_merge(const char *what, const char *base, const char *level,
                        const ftk_adapter *adapters, size_t n, double rounding)
{
    assert_true(lf_merge(in("merged"), base, adapters, n, false));
    assert_true(lf_merge(in("floats"), base, adapters, n, true));
    ftk_model *m[4] = {load_with(base, level, adapters, n), load_with(in("merged"), level, NULL, 0),
                       load_with(base, level, NULL, 0), load_with(in("floats"), level, NULL, 0)};
    assert_string_equal(m[0]->fingerprint, m[2]->fingerprint);
    const int n_vocab = m[0]->hp.n_vocab;
    float *x[4];
    for (int i = 0; i < 4; i++) x[i] = logits_of(m[i]);
    const double merged = apart(x[1], x[0], n_vocab), alone = apart(x[2], x[0], n_vocab);
    const double floats = apart(x[3], x[0], n_vocab);
    if (memcmp(x[0], x[1], (size_t)n_vocab * sizeof(float)) != 0 || !(alone > 0.02) ||
        !(floats <= rounding))
        fail_msg("%s, %s: %.2g from the merged file, %.2g from that in floats, %.2g from the model "
                 "alone",
                 what, level, merged, floats, alone);
    assert_int_equal(m[0]->weight_bytes, m[1]->weight_bytes);
    for (int i = 0; i < 4; i++) {
        free(x[i]);
        ftk_model_free(m[i]);
    }
}

/* Separate, fused and tied tensors, biases and norms; in types that stay and in one that does not.
 * */
static void test_architectures(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "llama-3",   "qwen2", "qwen3",
                                        "phi3",  "phi3-long", "gemma3"};
    static const ftk_type types[] = {FTK_TYPE_F32,  FTK_TYPE_F16,  FTK_TYPE_BF16,
                                     FTK_TYPE_Q8_0, FTK_TYPE_Q4_0, FTK_TYPE_IQ4_NL};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        write_arch(in("base"), names[i]);
        assert_true(lf_write(in("a"), in("base"), &usual));
        const ftk_adapter a = {in("a"), 1};
        for (size_t j = 0; j < sizeof types / sizeof *types; j++) {
            const bool block = ftk_type_block(types[j]) > 1;
            assert_true(lf_convert(in("typed"), in("base"), types[j]));
            check_merge(names[i], in("typed"), "ref", &a, 1, block ? 0.1 : 1e-6);
            check_merge(names[i], in("typed"), NULL, &a, 1, block ? 0.1 : 1e-6);
        }
    }
}

/* K-quants want longer rows: the demo model's. */
static void test_k_quants(void **state)
{
    (void)state;
    NEED(DEMO);
    static const ftk_type types[] = {FTK_TYPE_Q2_K, FTK_TYPE_Q4_K, FTK_TYPE_Q6_K, FTK_TYPE_IQ4_XS};
    assert_true(lf_write(in("a"), DEMO, &usual));
    const ftk_adapter a = {in("a"), 1};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert_true(lf_convert(in("typed"), DEMO, types[i]));
        check_merge(ftk_type_name(types[i]), in("typed"), NULL, &a, 1, 0.1);
    }
}

/* Several adapters, of several ranks and types, each with a scale, add up. */
static void test_several(void **state)
{
    (void)state;
    static const lf_adapter all[3] = {
        {.rank = 32, .alpha = 16, .seed = 2, .type = FTK_TYPE_Q8_0},
        {.rank = 3, .alpha = 0, .seed = 3, .type = FTK_TYPE_F16, .only = "ffn_", .norms = true},
        {.rank = 1,
         .alpha = NAN,
         .seed = 4,
         .type = FTK_TYPE_BF16,
         .only = "token_embd",
         .norms = true}};
    write_arch(in("base"), "llama-3");
    ftk_adapter a[3] = {{.scale = 0.5f}, {.scale = -1.25f}, {.scale = 0.3f}};
    for (int i = 0; i < 3; i++) {
        char name[] = {(char)('a' + i), 0};
        a[i].path = in(name);
        assert_true(lf_write(a[i].path, in("base"), &all[i]));
    }
    check_merge("three adapters", in("base"), NULL, a, 3, 1e-6);
    check_merge("three times one", in("base"), NULL, (ftk_adapter[]){a[0], a[0], a[0]}, 3, 1e-6);

    /* Norms alone are replaced by those of the adapter; at a scale of 0 nothing changes. */
    ftk_model *m = load_with(in("base"), NULL, NULL, 0);
    ftk_model *none = load_with(in("base"), NULL, &(ftk_adapter){a[1].path, 0}, 1);
    ftk_model *full = load_with(in("base"), NULL, &(ftk_adapter){a[1].path, 1}, 1);
    float *x = logits_of(m), *y = logits_of(none);
    assert_memory_equal(x, y, (size_t)m->hp.n_vocab * sizeof *x);
    ftk_gguf *g;
    ftk_tensor_info t;
    assert_int_equal(ftk_gguf_open(&g, a[1].path, NULL), FTK_OK);
    assert_true(ftk_gguf_find_tensor(g, "blk.1.ffn_norm.weight", &t));
    assert_memory_equal(full->layers[1].ffn_norm, t.data, t.size);
    assert_memory_not_equal(m->layers[1].ffn_norm, t.data, t.size);
    ftk_gguf_free(g);
    free(y);
    free(x);
    ftk_model_free(full);
    ftk_model_free(none);
    ftk_model_free(m);
}

/* The factor of one number, whatever type it was written as. */
static void test_alpha(void **state)
{
    (void)state;
    write_arch(in("base"), "llama");
    const double f64 = 8;
    const struct {
        ftk_gguf_type type;
        const void *value;
    } ways[] = {{FTK_GGUF_U32, &(uint32_t){8}},
                {FTK_GGUF_I64, &(int64_t){8}},
                {FTK_GGUF_F64, &f64},
                {FTK_GGUF_U8, &(uint8_t){8}}};
    assert_true(lf_write(in("a"), in("base"), &usual));
    ftk_model *m = load_with(in("base"), NULL, &(ftk_adapter){in("a"), 1}, 1);
    float *x = logits_of(m);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        ftk_gguf *g;
        gw w;
        lf_adapter a = usual;
        a.alpha = NAN;
        gw_init(&w);
        assert_int_equal(ftk_gguf_open(&g, in("base"), NULL), FTK_OK);
        lf_fill(&w, g, &a);
        ftk_gguf_free(g);
        gw_scalar(&w, "adapter.lora.alpha", ways[i].type, ways[i].value);
        assert_true(gw_end(&w, in("b")));
        ftk_model *other = load_with(in("base"), NULL, &(ftk_adapter){in("b"), 1}, 1);
        float *y = logits_of(other);
        assert_memory_equal(x, y, (size_t)m->hp.n_vocab * sizeof *x);
        free(y);
        ftk_model_free(other);
    }
    free(x);
    ftk_model_free(m);
}

/* A model in several files, and what its info and the log say of the adapter. */
static char told[512];

static void keep_info(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    if (level == FTK_LOG_INFO) snprintf(told, sizeof told, "%s", line);
}

static void test_parts_and_info(void **state)
{
    (void)state;
    write_arch(in("base"), "qwen3");
    assert_true(lf_convert(in("typed"), in("base"), FTK_TYPE_Q4_0));
    assert_true(gw_save_parts(in("typed"), in("split"), 3));
    lf_adapter with = usual;
    with.only = "attn_";
    with.norms = true;
    assert_true(lf_write(in("a"), in("typed"), &with));
    const ftk_adapter a = {in("a"), 1};
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = keep_info;
    cfg.adapters = &a;
    cfg.n_adapters = 1;
    ftk_model *whole = load_with(in("typed"), NULL, &a, 1), *parts;
    assert_int_equal(ftk_model_load(&parts, in("split-00002-of-00003.gguf"), &cfg), FTK_OK);
    float *x = logits_of(whole), *y = logits_of(parts);
    assert_memory_equal(x, y, (size_t)whole->hp.n_vocab * sizeof *x);
    /* q, o: 64 x 128; k, v: 64 x 64; three layers, 34 bytes for 32 */
    const uint64_t bytes = 3 * 2 * (64 * 128 + 64 * 64) / 32 * 34;
    ftk_model_info info;
    ftk_model_get_info(parts, &info);
    assert_int_equal(info.adapted_bytes, bytes);
    assert_string_equal(
        told, "1 adapters change 12 matrices, of which 12 become Q8_0, and 13 norms: 76 KiB");
    free(y);
    free(x);
    ftk_model_free(parts);
    ftk_model_free(whole);
}

typedef struct progress {
    uint64_t done, total;
    int calls;
} progress;

static void watch(void *ctx, uint64_t done, uint64_t total)
{
    progress *p = ctx;
    assert_true(done >= p->done && done <= total && (p->calls == 0 || total == p->total));
    *p = (progress){done, total, p->calls + 1};
}

/* Changing and packing are one way from nothing to all; where nothing is packed, changing alone. */
static void test_progress(void **state)
{
    (void)state;
    write_arch(in("base"), "llama");
    assert_true(lf_convert(in("typed"), in("base"), FTK_TYPE_Q4_0));
    assert_true(lf_write(in("a"), in("typed"), &usual));
    for (int packed = 0; packed < 2; packed++) {
        progress p = {0};
        ftk_model_config cfg;
        ftk_model_config_init(&cfg);
        cfg.host.ctx = &p;
        cfg.kernels = packed ? NULL : "ref";
        cfg.progress = watch;
        cfg.adapters = &(ftk_adapter){in("a"), 1};
        cfg.n_adapters = 1;
        ftk_model *m;
        assert_int_equal(ftk_model_load(&m, in("typed"), &cfg), FTK_OK);
        assert_true(p.done == p.total && p.calls > 20);
        assert_true(p.total >= m->adapted_bytes && (m->packed || p.total == m->adapted_bytes));
        ftk_model_free(m);
    }
}

/* DASH's copy in few bits is one of the adapted weights. */
static void test_low_bits(void **state)
{
    (void)state;
    static const char *const levels[] = {"ref", NULL};
    write_arch(in("base"), "phi3");
    assert_true(lf_convert(in("typed"), in("base"), FTK_TYPE_Q4_0));
    assert_true(lf_write(in("a"), in("typed"), &usual));
    const ftk_adapter a = {in("a"), 1};
    assert_true(lf_merge(in("merged"), in("typed"), &a, 1, false));
    for (int i = 0; i < 2; i++) {
        ftk_model *m[2] = {load_with(in("typed"), levels[i], &a, 1),
                           load_with(in("merged"), levels[i], NULL, 0)};
        ftk_lowbit low[2];
        assert_true(ftk_lowbit_size(m[0]) > 0);
        assert_int_equal(ftk_lowbit_size(m[0]), ftk_lowbit_size(m[1]));
        for (int j = 0; j < 2; j++) assert_int_equal(ftk_lowbit_open(&low[j], m[j]), FTK_OK);
        const ftk_mat *const q = &low[0].layers[2].k;
        assert_int_equal(q->type, FTK_TYPE_Q4_0);
        assert_memory_equal(low[0].data, low[1].data, ftk_lowbit_bytes(q));
        for (int j = 0; j < 2; j++) {
            ftk_lowbit_close(&low[j], &m[j]->host);
            ftk_model_free(m[j]);
        }
    }
}

/* ---- drafters */

enum { LONG = 80 };

static void say(ftk_engine *e, const char *drafter, float temperature, int32_t *out,
                uint64_t *drafted)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.budget = 12;
    cfg.ignore_end = true;
    cfg.sampling.temperature = temperature;
    cfg.sampling.seed = 11;
    ftk_session *s;
    ftk_stats st;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    assert_int_equal(ftk_session_append(s, (const int32_t[]){1, 300, 301, 302, 300, 301}, 6),
                     FTK_OK);
    assert_int_equal(take(s, LONG, out), LONG);
    ftk_session_get_stats(s, &st);
    *drafted += st.drafted;
    ftk_session_free(s);
}

/* The files that were trained for the model suit it with an adapter as well, and change nothing. */
static void test_drafters(void **state)
{
    (void)state;
    NEED(DEMO);
    static const char *const names[] = {"lookup", "recycle", "s4c", "firp", "dash", "auto"};
    const lf_adapter small = {.rank = 8, .alpha = 1, .seed = 6, .type = FTK_TYPE_F16};
    assert_true(lf_write(in("a"), DEMO, &small));
    ftk_model *m = load_with(DEMO, NULL, &(ftk_adapter){in("a"), 0.5f}, 1);
    ftk_model *alone = load_with(DEMO, NULL, NULL, 0);
    ftk_engine *e = open_engine(m, 2, 512, FTK_TYPE_F16),
               *base = open_engine(alone, 1, 512, FTK_TYPE_F16);
    int found;
    assert_int_equal(ftk_engine_find_drafters(e, DEMO, &found), FTK_OK);
    assert_int_equal(found, 3);
    for (int hot = 0; hot < 2; hot++) {
        int32_t plain[LONG], got[LONG];
        uint64_t none = 0;
        say(base, "none", hot ? 0.8f : 0, got, &none);
        say(e, "none", hot ? 0.8f : 0, plain, &none);
        assert_memory_not_equal(plain, got, sizeof plain);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            uint64_t drafted = 0;
            say(e, names[i], hot ? 0.8f : 0, got, &drafted);
            assert_true(drafted > 0);
            assert_memory_equal(plain, got, sizeof plain);
        }
    }
    ftk_engine_free(base);
    ftk_engine_free(e);
    ftk_model_free(alone);
    ftk_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_architectures),
        cmocka_unit_test(test_k_quants),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_alpha),
        cmocka_unit_test(test_parts_and_info),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_low_bits),
        cmocka_unit_test(test_drafters),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
