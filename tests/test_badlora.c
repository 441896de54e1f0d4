/* SPDX-License-Identifier: Apache-2.0
 * What a bad LoRA adapter is told; every allocation fails once. */
#include "onebad.h"

#include <math.h>

#include "lorafolder.h"

static const char *base_path;
static float base_scale = 1;

static ftk_err try_adapters(const ftk_adapter *list, size_t n, counting *c)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = counting_host(c);
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

static ftk_err load_both(counting *c, void *two)
{
    const ftk_err err = try_adapters(two, 2, c);
    assert_int_equal(c->errors, err != FTK_OK);
    return err;
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
    counting c = {0};
    assert_true(fail_each(&c, "two adapters", load_both, (void *)two) > 59);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_too_large_for_type),
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_chance),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
