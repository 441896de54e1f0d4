/* SPDX-License-Identifier: Apache-2.0
 * LoRA adapters: a model with them gives the bits of a file that had them added before; and what a
 * bad adapter is told. */
#include "onebad.h"

#include <math.h>

#include "archmodels.h"
#include "engine/session.h"
#include "lorafiles.h"
#include "model/lowbit.h"
#include "support.h"

static char folder[] = "lora-XXXXXX";

enum { FILES = 13 };

static const char *const files[FILES] = {"base",
                                         "typed",
                                         "merged",
                                         "floats",
                                         "a",
                                         "b",
                                         "c",
                                         "bad",
                                         "chance",
                                         "split",
                                         "split-00001-of-00003.gguf",
                                         "split-00002-of-00003.gguf",
                                         "split-00003-of-00003.gguf"};

/* The path of one of them; it stays. */
static const char *in(const char *name)
{
    static char paths[FILES][64];
    int i = 0;
    while (i < FILES && strcmp(files[i], name) != 0) i++;
    assert_true(i < FILES);
    snprintf(paths[i], sizeof paths[i], "%s/%s", folder, name);
    return paths[i];
}

static const lf_adapter usual = {.rank = 4, .alpha = 8, .seed = 1, .type = FTK_TYPE_F32};

static void write_arch(const char *path, const char *name)
{
    gw w;
    gw_init(&w);
    am_write(&w, am_find(name));
    assert_true(gw_end(&w, path));
}

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

/* ---- bad adapters */

static const char *base_path;
static float base_scale;

static ftk_err try_adapters(const ftk_adapter *list, size_t n, counting *c)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = (ftk_host){c, count_alloc, count_free, count_log};
    cfg.adapters = list;
    cfg.n_adapters = n;
    ftk_model *m = (ftk_model *)c;
    const ftk_err err = ftk_model_load(&m, base_path, &cfg);
    assert_true((m != NULL) == (err == FTK_OK));
    ftk_model_free(m);
    return err;
}

static ftk_err try_adapter(const char *p, counting *c)
{
    return try_adapters(&(ftk_adapter){p, base_scale}, 1, c);
}

typedef struct bad {
    const char *what;
    const char *skip;    /* a key or tensor of the good adapter that is left out */
    void (*make)(gw *w); /* what is there instead */
    float scale;         /* 0: 1 */
    ftk_err err;
    const char *line;
} bad;

static void put_floats(gw *w, const char *name, uint32_t n_dims, uint64_t n_in, uint64_t n_out,
                       float value)
{
    float *x = malloc((size_t)(n_in * n_out) * sizeof *x);
    if (!x) abort();
    for (uint64_t i = 0; i < n_in * n_out; i++) x[i] = value;
    gw_tensor(w, name, n_dims, (uint64_t[]){n_in, n_out, 1, 1}, FTK_TYPE_F32, x,
              (size_t)(n_in * n_out) * sizeof *x);
    free(x);
}

#define MAKE(name, ...)                                                                            \
    static void name(gw *w)                                                                        \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
    }

#define Q_A "blk.0.attn_q.weight.lora_a"
#define Q_B "blk.0.attn_q.weight.lora_b"

MAKE(nothing, (void)w)
MAKE(a_model, gw_str(w, "general.type", "model"))
MAKE(a_number_as_kind, gw_u32(w, "general.type", 3))
MAKE(another_kind, gw_str(w, "adapter.type", "dora"))
MAKE(another_arch, gw_str(w, "general.architecture", "qwen2"))
MAKE(activated, gw_array(w, "adapter.alora.invocation_tokens", FTK_GGUF_U32, 1, &(uint32_t){7}))
MAKE(alpha_text, gw_str(w, "adapter.lora.alpha", "8"))
MAKE(alpha_nan, gw_f32(w, "adapter.lora.alpha", NAN))
MAKE(alpha_inf, gw_f32(w, "adapter.lora.alpha", INFINITY))
MAKE(alpha_huge, gw_f32(w, "adapter.lora.alpha", 3e38f))
MAKE(task, gw_str(w, "adapter.lora.task_name", "rhymes"))
MAKE(stranger, put_floats(w, "blk.0.attn_q.weight.lora_magnitude", 1, 64, 1, 1))
MAKE(far_layer, put_floats(w, "blk.3.attn_q.weight.lora_a", 2, 64, 4, 1);
     put_floats(w, "blk.3.attn_q.weight.lora_b", 2, 4, 64, 1))
MAKE(output, put_floats(w, "output.weight.lora_a", 2, 64, 4, 1);
     put_floats(w, "output.weight.lora_b", 2, 4, GW_VOCAB, 1))
MAKE(wide_a, put_floats(w, Q_A, 2, 96, 4, 1))
MAKE(short_b, put_floats(w, Q_B, 2, 4, 32, 1))
MAKE(ranks_differ, put_floats(w, Q_B, 2, 5, 64, 1))
MAKE(three_dims, put_floats(w, Q_A, 3, 64, 4, 1))
MAKE(embd_not_flipped, put_floats(w, "token_embd.weight.lora_a", 2, 64, 4, 1);
     put_floats(w, "token_embd.weight.lora_b", 2, 4, GW_VOCAB, 1))
MAKE(a_vector, put_floats(w, "blk.0.attn_norm.weight.lora_a", 2, 64, 1, 1);
     put_floats(w, "blk.0.attn_norm.weight.lora_b", 2, 1, 1, 1))
MAKE(nan_a, put_floats(w, Q_A, 2, 64, 4, NAN))
MAKE(huge_b, put_floats(w, Q_B, 2, 4, 64, 3e38f))
MAKE(norm_good, put_floats(w, "output_norm.weight", 1, 64, 1, 1.5f))
MAKE(norm_short, put_floats(w, "output_norm.weight", 1, 32, 1, 1))
MAKE(norm_unknown, put_floats(w, "blk.0.attn_q_norm.weight", 1, 16, 1, 1))
MAKE(norm_nan, put_floats(w, "blk.1.ffn_norm.weight", 1, 64, 1, NAN))
MAKE(integers, const uint64_t dims[] = {64, 4}; gw_tensor(w, Q_A, 2, dims, 24, NULL, 64 * 4))
MAKE(removed, const uint64_t dims[] = {64, 4}; gw_tensor(w, Q_A, 2, dims, 31, NULL, 4 * 2 * 18))
MAKE(norm_type, const uint64_t dims[] = {64};
     gw_tensor(w, "output_norm.weight", 1, dims, 26, NULL, 64 * 4))
MAKE(rank_0, const uint64_t dims[] = {0, 64}; gw_tensor(w, Q_B, 2, dims, FTK_TYPE_F32, NULL, 0))

/* More ranks than anybody means. */
static void many_ranks(gw *w)
{
    const uint64_t rank = 65568, a[] = {64, rank}, b[] = {rank, 64};
    gw_tensor(w, Q_A, 2, a, FTK_TYPE_Q4_0, NULL, 64 * rank / 32 * 18);
    gw_tensor(w, Q_B, 2, b, FTK_TYPE_Q4_0, NULL, 64 * rank / 32 * 18);
}

static const bad bads[] = {
    {"good", NULL, nothing, 0, FTK_OK, ""},
    {"what it is for", NULL, task, 0, FTK_OK, ""},
    {"no alpha", "adapter.lora.alpha", nothing, 0, FTK_OK, ""},
    {"a model", "general.type", a_model, 0, FTK_ERR_INVALID,
     "is no LoRA adapter: its general.type is not \"adapter\"; a model is named with "
     "-m"},
    {"no kind", "general.type", nothing, 0, FTK_ERR_INVALID,
     "is no LoRA adapter: its general.type is not \"adapter\"; a model is named with -m"},
    {"a number as kind", "general.type", a_number_as_kind, 0, FTK_ERR_INVALID,
     "is no LoRA adapter: its general.type is not \"adapter\"; a model is named with -m"},
    {"another kind", "adapter.type", another_kind, 0, FTK_ERR_UNSUPPORTED,
     "adapter.type is \"dora\": only \"lora\" is supported"},
    {"no kind of adapter", "adapter.type", nothing, 0, FTK_ERR_UNSUPPORTED,
     "adapter.type is \"\": only \"lora\" is supported"},
    {"another architecture", "general.architecture", another_arch, 0, FTK_ERR_INVALID,
     "is an adapter for the architecture \"qwen2\", and the model is of \"llama\": take one that "
     "was "
     "trained for this model"},
    {"activated", NULL, activated, 0, FTK_ERR_UNSUPPORTED,
     "is an activated LoRA (adapter.alora.invocation_tokens), which counts only behind those "
     "tokens: "
     "not supported, give a plain LoRA"},
    {"alpha as a text", "adapter.lora.alpha", alpha_text, 0, FTK_ERR_FORMAT,
     "key adapter.lora.alpha is no finite number: convert the adapter again"},
    {"alpha NaN", "adapter.lora.alpha", alpha_nan, 0, FTK_ERR_FORMAT,
     "key adapter.lora.alpha is no finite number: convert the adapter again"},
    {"alpha infinite", "adapter.lora.alpha", alpha_inf, 0, FTK_ERR_FORMAT,
     "key adapter.lora.alpha is no finite number: convert the adapter again"},
    {"alpha by scale", "adapter.lora.alpha", alpha_huge, 1e30f, FTK_ERR_FORMAT,
     "tensor token_embd.weight.lora_a: its scale, alpha 3e+38 by rank 4 times 1e+30, is not "
     "finite: give "
     "a smaller one"},
    {"scale NaN", NULL, nothing, NAN, FTK_ERR_INVALID,
     "the scale of an adapter must be a finite number"},
    {"scale infinite", NULL, nothing, -INFINITY, FTK_ERR_INVALID,
     "the scale of an adapter must be a finite number"},
    {"a stranger", NULL, stranger, 0, FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight.lora_magnitude is neither of a LoRA pair (.lora_a, .lora_b) nor a "
     "norm: "
     "not supported"},
    {"a layer too many", NULL, far_layer, 0, FTK_ERR_INVALID,
     "changes tensor blk.3.attn_q.weight, which the model does not have: take an adapter that was "
     "trained "
     "for this model"},
    {"output of a tied model", NULL, output, 0, FTK_ERR_INVALID,
     "changes tensor output.weight, which the model does not have, as its output is that of "
     "token_embd.weight: take an adapter that was trained for this model"},
    {"b alone", Q_A, nothing, 0, FTK_ERR_FORMAT,
     "tensor blk.0.attn_q.weight.lora_b is there without blk.0.attn_q.weight.lora_a: convert the "
     "adapter "
     "again"},
    {"a alone", Q_B, nothing, 0, FTK_ERR_FORMAT,
     "tensor blk.0.attn_q.weight.lora_a is there without blk.0.attn_q.weight.lora_b: convert the "
     "adapter "
     "again"},
    {"a too wide", Q_A, wide_a, 0, FTK_ERR_INVALID,
     "tensors blk.0.attn_q.weight.lora_a [96, 4] and .lora_b [4, 64] are not [64, rank] and [rank, "
     "64], as "
     "the model's blk.0.attn_q.weight wants: take an adapter that was trained for this model"},
    {"b too short", Q_B, short_b, 0, FTK_ERR_INVALID,
     "tensors blk.0.attn_q.weight.lora_a [64, 4] and .lora_b [4, 32] are not [64, rank] and [rank, "
     "64], as "
     "the model's blk.0.attn_q.weight wants: take an adapter that was trained for this model"},
    {"two ranks", Q_B, ranks_differ, 0, FTK_ERR_INVALID,
     "tensors blk.0.attn_q.weight.lora_a [64, 4] and .lora_b [5, 64] are not [64, rank] and [rank, "
     "64], as "
     "the model's blk.0.attn_q.weight wants: take an adapter that was trained for this model"},
    {"three dimensions of which one is 1", Q_A, three_dims, 0, FTK_OK, ""},
    {"rank 0", Q_B, rank_0, 0, FTK_ERR_FORMAT,
     "tensor blk.0.attn_q.weight.lora_b: dimension 0 is 0"},
    {"a pair for a vector", NULL, a_vector, 0, FTK_ERR_INVALID,
     "tensor blk.0.attn_norm.weight.lora_a: the model's blk.0.attn_norm.weight is a vector, and "
     "LoRA "
     "changes matrices: take an adapter that was trained for this model"},
    {"NaN", Q_A, nan_a, 0, FTK_ERR_FORMAT,
     "with it, tensor blk.0.attn_q.weight holds values that are not finite, or too large for its "
     "type: "
     "give a smaller scale, or get the adapter again"},
    {"too large", Q_B, huge_b, 1e4f, FTK_ERR_FORMAT,
     "with it, tensor blk.0.attn_q.weight holds values that are not finite, or too large for its "
     "type: "
     "give a smaller scale, or get the adapter again"},
    {"a norm", NULL, norm_good, 0, FTK_OK, ""},
    {"a short norm", NULL, norm_short, 0, FTK_ERR_INVALID,
     "tensor output_norm.weight has 32 values, and the model's has 64: take an adapter that was "
     "trained "
     "for this model"},
    {"a norm of others", NULL, norm_unknown, 0, FTK_ERR_INVALID,
     "changes tensor blk.0.attn_q_norm.weight, which the model does not have: take an adapter that "
     "was "
     "trained for this model"},
    {"a norm of NaN", NULL, norm_nan, 0, FTK_ERR_FORMAT,
     "with it, tensor blk.1.ffn_norm.weight holds values that are not finite, or too large for its "
     "type: "
     "give a smaller scale, or get the adapter again"},
    {"integers", Q_A, integers, 0, FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight.lora_a has type I8, which is not supported: convert the adapter "
     "to F32, "
     "F16 or Q8_0"},
    {"a type that was removed", Q_A, removed, 0, FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight.lora_a has type Q4_0_4_4, which was removed from the format: "
     "convert the "
     "adapter to F32, F16 or Q8_0"},
    {"a norm of integers", NULL, norm_type, 0, FTK_ERR_UNSUPPORTED,
     "tensor output_norm.weight has type I32, which is not supported: convert the adapter to F32, "
     "F16 or "
     "Q8_0"},
};

/* The good adapter, with a thing or two that are not. */
static void write_bad(const char *path, const ftk_gguf *base, const bad *b)
{
    gw w;
    gw_init(&w);
    w.skip = b->skip;
    lf_fill(&w, base, &usual);
    w.skip = NULL;
    b->make(&w);
    assert_true(gw_end(&w, path));
}

static void test_bad(void **state)
{
    (void)state;
    int wrong = 0;
    ftk_gguf *g;
    base_path = in("base");
    write_arch(base_path, "llama-3");
    assert_int_equal(ftk_gguf_open(&g, base_path, NULL), FTK_OK);
    const char *path = in("bad");
    for (size_t i = 0; i < sizeof bads / sizeof *bads; i++) {
        write_bad(path, g, &bads[i]);
        base_scale = bads[i].scale == 0 ? 1 : bads[i].scale;
        wrong += check(bads[i].what, path, try_adapter, bads[i].err, path, bads[i].line);
    }
    base_scale = 1;
    static const struct {
        const char *arch, *line;
    } others[] = {
        {"controlvector", "is a control vector, which is not supported: give a LoRA adapter"},
        {"foretoken-drafter", "is a drafter, not a LoRA adapter: give it with --drafter-file"}};
    gw w;
    for (int i = 0; i < 2; i++) {
        gw_init(&w);
        gw_str(&w, "general.architecture", others[i].arch);
        assert_true(gw_end(&w, path));
        wrong += check(others[i].arch, path, try_adapter, FTK_ERR_INVALID, path, others[i].line);
    }
    gw_init(&w);
    lf_fill(&w, g, &(lf_adapter){.rank = 1, .alpha = 1, .only = "blk.0."});
    embd_not_flipped(&w);
    assert_true(gw_end(&w, path));
    wrong +=
        check("embeddings as other pairs", path, try_adapter, FTK_ERR_INVALID, path,
              "tensors token_embd.weight.lora_a [64, 4] and .lora_b [4, 300] are not [rank, 300] "
              "and [rank, 64], as the model's token_embd.weight wants: take an adapter that was "
              "trained for this model");
    gw_init(&w);
    lf_fill(&w, g, &(lf_adapter){.rank = 1, .alpha = 1, .only = "ffn_"});
    many_ranks(&w);
    assert_true(gw_end(&w, path));
    wrong +=
        check("many ranks", path, try_adapter, FTK_ERR_UNSUPPORTED, path,
              "tensor blk.0.attn_q.weight.lora_b: a rank of 65568, at most 65536 are supported");
    /* Norms alone are no LoRA. */
    gw_init(&w);
    lf_fill(&w, g, &(lf_adapter){.rank = 1, .alpha = 1, .only = "none", .norms = true});
    assert_true(gw_end(&w, path));
    wrong += check("no pairs", path, try_adapter, FTK_ERR_FORMAT, path,
                   "holds no pair of .lora_a and .lora_b: convert the adapter again");
    assert_true(gw_save(path, "PK\3\4", 4));
    counting c = {0};
    assert_int_equal(try_adapter(path, &c), FTK_ERR_FORMAT);
    assert_true(c.errors == 1 && c.live == 0 && strncmp(c.line, path, strlen(path)) == 0);
    wrong +=
        check("a model", base_path, try_adapter, FTK_ERR_INVALID, base_path,
              "is no LoRA adapter: its general.type is not \"adapter\"; a model is named with -m");
    ftk_gguf_free(g);
    assert_int_equal(wrong, 0);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    base_path = in("base");
    write_arch(base_path, "llama");
    counting c = {0};
    assert_int_equal(try_adapters(NULL, 2, &c), FTK_ERR_INVALID);
    assert_string_equal(c.line, "n_adapters is 2, and there is no list");
    assert_int_equal(try_adapters(&(ftk_adapter){NULL, 1}, 1, &c), FTK_ERR_INVALID);
    assert_string_equal(c.line, "no path of an adapter was given");
    assert_int_equal(try_adapters(&(ftk_adapter){"lora/none", 1}, 1, &c), FTK_ERR_IO);
    assert_int_equal(c.live, 0);
    /* An adapter in a model's place. */
    assert_true(lf_write(in("a"), base_path, &usual));
    const char *a = in("a");
    assert_int_equal(
        check("an adapter as a model", a, try_model, FTK_ERR_UNSUPPORTED, a,
              "is an adapter, not a model: name the model that it was trained for with -m, and "
              "give this file with --lora"),
        0);
}

/* Numbers that F16 and Q8_0 cannot hold are found where they were made. */
static void test_too_large_for_type(void **state)
{
    (void)state;
    static const ftk_type types[] = {FTK_TYPE_F16, FTK_TYPE_Q8_0, FTK_TYPE_Q4_0};
    write_arch(in("base"), "llama");
    const char *a = in("a"), *typed = in("typed");
    for (int i = 0; i < 3; i++) {
        assert_true(lf_convert(typed, in("base"), types[i]));
        assert_true(lf_write(a, typed, &usual));
        base_path = typed;
        base_scale = 1e9f;
        assert_int_equal(
            check(ftk_type_name(types[i]), a, try_adapter, FTK_ERR_FORMAT, a,
                  "with it, tensor token_embd.weight holds values that are not finite, or too "
                  "large for its type: give a smaller scale, or get the adapter again"),
            0);
        base_scale = 1;
        assert_int_equal(check(ftk_type_name(types[i]), a, try_adapter, FTK_OK, a, ""), 0);
    }
}

static void test_every_allocation(void **state)
{
    (void)state;
    base_path = in("base");
    write_arch(base_path, "llama-3");
    const lf_adapter norms = {.rank = 2, .alpha = 2, .seed = 9, .norms = true};
    assert_true(lf_write(in("a"), base_path, &usual));
    assert_true(lf_write(in("b"), base_path, &norms));
    const ftk_adapter two[2] = {{in("a"), 1}, {in("b"), 1}};
    long n = 0;
    for (ftk_err err = FTK_ERR_NOMEM; err == FTK_ERR_NOMEM; n++) {
        counting c = {.failing = true, .left = n};
        err = try_adapters(two, 2, &c);
        if (c.live != 0 || (err != FTK_ERR_NOMEM && err != FTK_OK) || c.errors != (err != FTK_OK))
            fail_msg("allocation %ld failed: %s, %d lines, %d blocks held", n, ftk_strerror(err),
                     c.errors, c.live);
    }
    assert_true(n > 60);
}

/* Bytes of the file by chance: it loads, or there is one line. */
static void test_chance(void **state)
{
    (void)state;
    base_path = in("base");
    write_arch(base_path, "llama");
    lf_adapter few = usual;
    few.only = "blk.0.";
    few.norms = true;
    ftk_gguf *g;
    gw w;
    gw_init(&w);
    assert_int_equal(ftk_gguf_open(&g, base_path, NULL), FTK_OK);
    lf_fill(&w, g, &few);
    ftk_gguf_free(g);
    gw_bytes file = gw_finish(&w);
    gw_free(&w);
    uint32_t seed = 3;
    int good = 0;
    for (int i = 0; i < 1500; i++) {
        unsigned char was[3];
        size_t at[3];
        for (int j = 0; j < 3; j++) {
            seed = seed * 1664525u + 1013904223u;
            at[j] = (seed >> 8) % 2600; /* keys and records */
            was[j] = file.p[at[j]];
            seed = seed * 1664525u + 1013904223u;
            file.p[at[j]] = (unsigned char)(seed >> 24);
        }
        const char *path = in("chance");
        assert_true(gw_save(path, file.p, i % 10 == 0 ? file.n * (size_t)i / 1500 : file.n));
        for (int j = 2; j >= 0; j--) file.p[at[j]] = was[j];
        counting c = {0};
        const ftk_err err = try_adapter(path, &c);
        good += err == FTK_OK;
        if (c.live != 0 || c.errors != (err != FTK_OK))
            fail_msg("file %d: %s, %d lines, %d blocks held", i, ftk_strerror(err), c.errors,
                     c.live);
    }
    assert_true(good > 0 && good < 1500);
    free(file.p);
}

static int make_folder(void **state)
{
    (void)state;
    base_scale = 1;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    for (int i = 0; i < FILES; i++) unlink(in(files[i]));
    return rmdir(folder);
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
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_too_large_for_type),
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_chance),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
