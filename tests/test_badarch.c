/* SPDX-License-Identifier: Apache-2.0
 * What a bad model of one architecture or another can hold, and the one line each gets. What is the
 * same for all of them is tested with llama, in test_badkeys.c and test_badweights.c. */
#include "onebad.h"

#include <math.h>

#include "archmodels.h"

static char path[64];

static int check_file(gw *w, const char *what, ftk_err err, const char *line)
{
    gw_bytes file = gw_finish(w);
    assert_true(gw_save(path, file.p, file.n));
    free(file.p);
    gw_free(w);
    return check(what, path, try_model, err, path, line);
}

/* ------------------------------------------------------------------ keys */

/* A key of the good model, replaced by this value. */
typedef struct bad_key {
    const char *what, *model, *key;
    int type; /* or MISSING, or ARRAY of 7 elements elem */
    uint64_t u;
    double f;
    const char *s;
    ftk_gguf_type elem;
    ftk_err err;
    const char *line;
} bad_key;

#define NO_KEY(model, key)            "without " key, model, key, MISSING, 0, 0, NULL, 0
#define UINT(what, model, key, v)     what, model, key, FTK_GGUF_U32, v, 0, NULL, 0
#define SINT(what, model, key, v)     what, model, key, FTK_GGUF_I32, (uint64_t)(v), 0, NULL, 0
#define BOOL(what, model, key, v)     what, model, key, FTK_GGUF_BOOL, v, 0, NULL, 0
#define REAL(what, model, key, v)     what, model, key, FTK_GGUF_F32, 0, v, NULL, 0
#define TEXT(what, model, key, v)     what, model, key, FTK_GGUF_STRING, 0, 0, v, 0
#define SEVEN(what, model, key, elem) what, model, key, FTK_GGUF_ARRAY, 0, 0, NULL, elem

static const bad_key keys[] = {
    {UINT("good: another key", "qwen2", "general.file_type", 0), FTK_OK, ""},
    {TEXT("keys of another architecture", "qwen3", "general.architecture", "llama"), FTK_ERR_FORMAT,
     "key llama.block_count is missing"},
    {NO_KEY("phi3", "phi3.embedding_length"), FTK_ERR_FORMAT,
     "key phi3.embedding_length is missing"},
    {UINT("experts", "qwen2", "qwen2.expert_count", 4), FTK_ERR_UNSUPPORTED,
     "a mixture of experts (qwen2.expert_count 4) is not supported yet"},
    {UINT("keys of 34, values of 32", "qwen3", "qwen3.attention.key_length", 34),
     FTK_ERR_UNSUPPORTED, "key length 34 and value length 32 differ: not supported yet"},

    /* what would run as another model */
    {REAL("logit scale", "llama", "llama.logit_scale", 0.5), FTK_ERR_UNSUPPORTED,
     "key llama.logit_scale is not supported yet"},
    {REAL("logit scale of 1", "llama", "llama.logit_scale", 1), FTK_OK, ""},
    {REAL("residual scale", "llama", "llama.residual_scale", 0.25), FTK_ERR_UNSUPPORTED,
     "key llama.residual_scale is not supported yet"},
    {REAL("embedding scale", "llama", "llama.embedding_scale", 12), FTK_ERR_UNSUPPORTED,
     "key llama.embedding_scale is not supported yet"},
    {REAL("logits capped", "gemma3", "gemma3.final_logit_softcapping", 30), FTK_ERR_UNSUPPORTED,
     "key gemma3.final_logit_softcapping is not supported yet"},
    {REAL("logits not capped", "gemma3", "gemma3.final_logit_softcapping", 0), FTK_OK, ""},
    {REAL("logits capped by NaN", "gemma3", "gemma3.final_logit_softcapping", NAN),
     FTK_ERR_UNSUPPORTED, "key gemma3.final_logit_softcapping is not supported yet"},
    {REAL("scores capped", "gemma3", "gemma3.attn_logit_softcapping", 50), FTK_ERR_UNSUPPORTED,
     "key gemma3.attn_logit_softcapping is not supported yet"},
    {UINT("scores capped by an integer", "gemma3", "gemma3.attn_logit_softcapping", 0),
     FTK_ERR_UNSUPPORTED, "key gemma3.attn_logit_softcapping is not supported yet"},
    {BOOL("not causal", "qwen2", "qwen2.attention.causal", 0), FTK_ERR_UNSUPPORTED,
     "attention that is not causal (qwen2.attention.causal) is not supported"},
    {BOOL("causal", "qwen2", "qwen2.attention.causal", 1), FTK_OK, ""},
    {UINT("causal as a number", "qwen2", "qwen2.attention.causal", 1), FTK_ERR_UNSUPPORTED,
     "attention that is not causal (qwen2.attention.causal) is not supported"},

    {REAL("attention scale 0", "qwen3", "qwen3.attention.scale", 0), FTK_ERR_FORMAT,
     "key qwen3.attention.scale is out of range: it must be above 0 and at most 1e+06"},
    {REAL("attention scale NaN", "qwen3", "qwen3.attention.scale", NAN), FTK_ERR_FORMAT,
     "key qwen3.attention.scale is out of range: it must be above 0 and at most 1e+06"},
    {UINT("attention scale an integer", "qwen3", "qwen3.attention.scale", 1), FTK_ERR_FORMAT,
     "key qwen3.attention.scale is not a float"},

    /* windows */
    {NO_KEY("gemma3", "gemma3.attention.sliding_window"), FTK_ERR_FORMAT,
     "key gemma3.attention.sliding_window is missing"},
    {UINT("no window", "gemma3", "gemma3.attention.sliding_window", 0), FTK_OK, ""},
    {SINT("window of -1", "gemma3", "gemma3.attention.sliding_window", -1), FTK_ERR_FORMAT,
     "key gemma3.attention.sliding_window is out of range: it must be 0 to 134217728"},
    {UINT("window of 2^31", "phi3", "phi3.attention.sliding_window", UINT32_C(1) << 31),
     FTK_ERR_FORMAT,
     "key phi3.attention.sliding_window is out of range: it must be 0 to 134217728"},
    {REAL("window a float", "phi3", "phi3.attention.sliding_window", 8), FTK_ERR_FORMAT,
     "key phi3.attention.sliding_window is not an integer"},
    {NO_KEY("phi3", "phi3.attention.sliding_window"), FTK_OK, ""},
    {UINT("window where there is none", "qwen2", "qwen2.attention.sliding_window", 8),
     FTK_ERR_UNSUPPORTED,
     "a window of 8 tokens (qwen2.attention.sliding_window) is not supported for this "
     "architecture"},
    {UINT("window of the whole context", "qwen2", "qwen2.attention.sliding_window", AM_CONTEXT),
     FTK_OK, ""},
    {UINT("every 513th layer", "gemma3", "gemma3.attention.sliding_window_pattern", 513),
     FTK_ERR_FORMAT,
     "key gemma3.attention.sliding_window_pattern is out of range: it must be 0 to 512"},
    {UINT("every third layer", "gemma3", "gemma3.attention.sliding_window_pattern", 3), FTK_OK, ""},
    {TEXT("pattern a string", "gemma3", "gemma3.attention.sliding_window_pattern", "LLLLLG"),
     FTK_ERR_FORMAT, "key gemma3.attention.sliding_window_pattern is not an integer"},
    {SEVEN("pattern of bools", "gemma3", "gemma3.attention.sliding_window_pattern", FTK_GGUF_BOOL),
     FTK_OK, ""},
    {SEVEN("pattern of integers", "gemma3", "gemma3.attention.sliding_window_pattern",
           FTK_GGUF_I32),
     FTK_OK, ""},
    {SEVEN("pattern of floats", "gemma3", "gemma3.attention.sliding_window_pattern", FTK_GGUF_F32),
     FTK_ERR_FORMAT,
     "key gemma3.attention.sliding_window_pattern is not a number, and not an array of one bool "
     "for each of 7 layers"},
    {SEVEN("pattern of 7 for 4 layers", "gemma3-scaled", "gemma3.attention.sliding_window_pattern",
           FTK_GGUF_BOOL),
     FTK_ERR_FORMAT,
     "key gemma3.attention.sliding_window_pattern is not a number, and not an array of one bool "
     "for each of 4 layers"},

    /* RoPE */
    {NO_KEY("gemma3", "gemma3.rope.freq_base"), FTK_OK, ""},
    {REAL("base of windowed layers 0", "gemma3", "gemma3.rope.freq_base_swa", 0), FTK_ERR_FORMAT,
     "key gemma3.rope.freq_base_swa is out of range: it must be above 0 and at most 1e+12"},
    {REAL("base of windowed layers", "gemma3", "gemma3.rope.freq_base_swa", 5000), FTK_OK, ""},
    {UINT("10 dimensions of 16", "qwen2", "qwen2.rope.dimension_count", 10), FTK_OK, ""},
    {UINT("11 dimensions of 16", "qwen2", "qwen2.rope.dimension_count", 11), FTK_ERR_FORMAT,
     "qwen2.rope.dimension_count 11 is odd"},
    {TEXT("scaling yarn", "qwen2", "qwen2.rope.scaling.type", "yarn"), FTK_ERR_UNSUPPORTED,
     "qwen2.rope.scaling.type is not supported: only none and linear are"},
    {TEXT("scaling yarn", "phi3", "phi3.rope.scaling.type", "yarn"), FTK_ERR_UNSUPPORTED,
     "phi3.rope.scaling.type is not supported: only none, linear and longrope are"},
    {UINT("scaling 1", "phi3", "phi3.rope.scaling.type", 1), FTK_ERR_UNSUPPORTED,
     "phi3.rope.scaling.type is not supported: only none, linear and longrope are"},
    {TEXT("scaling longrope", "phi3-long", "phi3.rope.scaling.type", "longrope"), FTK_OK, ""},
    {TEXT("scaling longrope", "qwen3", "qwen3.rope.scaling.type", "longrope"), FTK_ERR_UNSUPPORTED,
     "qwen3.rope.scaling.type is not supported: only none and linear are"},
    {REAL("attention factor 0", "phi3-long", "phi3.rope.scaling.attn_factor", 0), FTK_ERR_FORMAT,
     "key phi3.rope.scaling.attn_factor is out of range: it must be above 0 and at most 1000"},
    {REAL("attention factor infinite", "phi3-long", "phi3.rope.scaling.attn_factor", INFINITY),
     FTK_ERR_FORMAT,
     "key phi3.rope.scaling.attn_factor is out of range: it must be above 0 and at most 1000"},
    {NO_KEY("phi3-long", "phi3.rope.scaling.attn_factor"), FTK_OK, ""},
    {UINT("original context of 0", "phi3-long", "phi3.rope.scaling.original_context_length", 0),
     FTK_ERR_FORMAT,
     "key phi3.rope.scaling.original_context_length is out of range: it must be 1 to 134217728"},
};

static void test_keys(void **state)
{
    (void)state;
    int failed = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        gw w;
        gw_init(&w);
        w.skip = keys[i].key;
        am_write(&w, am_find(keys[i].model));
        w.skip = NULL;
        if (keys[i].type == FTK_GGUF_ARRAY)
            gw_array(&w, keys[i].key, keys[i].elem, 7, (const unsigned char[28]){1});
        else
            put_key(&w, keys[i].key, keys[i].type, keys[i].u, keys[i].f, keys[i].s);
        failed += check_file(&w, keys[i].what, keys[i].err, keys[i].line);
    }
    assert_int_equal(failed, 0);
}

/* ------------------------------------------------------------------ tensors */

/* A tensor of the good model, replaced by this one of bytes `fill`; n_in 0: missing. */
typedef struct bad_tensor {
    const char *what, *model, *name;
    uint64_t n_in, n_out;
    unsigned char fill;
    ftk_err err;
    const char *line;
} bad_tensor;

static const bad_tensor tensors[] = {
    {"good: a query bias", "llama", "blk.0.attn_q.bias", 64, 1, 0, FTK_OK, ""},
    {"bias of another size", "llama", "blk.0.attn_k.bias", 64, 1, 0, FTK_ERR_FORMAT,
     "tensor blk.0.attn_k.bias has shape [64, 1] instead of [32, 1]"},
    {"bias of NaN", "llama", "blk.1.attn_output.bias", 64, 1, 0xFF, FTK_ERR_FORMAT,
     "tensor blk.1.attn_output.bias holds values that are not finite"},
    {"norm of queries in llama", "llama", "blk.0.attn_q_norm.weight", 16, 1, 0, FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q_norm.weight is no part of a llama model as this build knows it"},
    {"a tensor beside the layers", "llama", "v.patch_embd.weight", 16, 1, 0, FTK_ERR_UNSUPPORTED,
     "tensor v.patch_embd.weight is no part of a llama model as this build knows it"},
    {"layer 01", "llama", "blk.01.attn_q.weight", 64, 64, 0, FTK_ERR_UNSUPPORTED,
     "tensor blk.01.attn_q.weight is no part of a llama model as this build knows it"},
    {"layer -1", "llama", "blk.-1.attn_q.weight", 64, 64, 0, FTK_ERR_UNSUPPORTED,
     "tensor blk.-1.attn_q.weight is no part of a llama model as this build knows it"},

    {"no query bias", "qwen2", "blk.2.attn_q.bias", 0, 0, 0, FTK_ERR_FORMAT,
     "tensor blk.2.attn_q.bias is missing"},
    {"output bias", "qwen2", "blk.2.attn_output.bias", 64, 1, 0, FTK_ERR_UNSUPPORTED,
     "tensor blk.2.attn_output.bias is no part of a qwen2 model as this build knows it"},
    {"llama's factors", "qwen2", "rope_freqs.weight", 8, 1, 0, FTK_ERR_UNSUPPORTED,
     "tensor rope_freqs.weight is no part of a qwen2 model as this build knows it"},

    {"no norm of keys", "qwen3", "blk.1.attn_k_norm.weight", 0, 0, 0, FTK_ERR_FORMAT,
     "tensor blk.1.attn_k_norm.weight is missing"},
    {"norm of all queries", "qwen3", "blk.1.attn_q_norm.weight", 128, 1, 0, FTK_ERR_FORMAT,
     "tensor blk.1.attn_q_norm.weight has shape [128, 1] instead of [32, 1]"},
    {"query bias", "qwen3", "blk.0.attn_q.bias", 128, 1, 0, FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.bias is no part of a qwen3 model as this build knows it"},

    {"no fused queries", "phi3", "blk.0.attn_qkv.weight", 0, 0, 0, FTK_ERR_FORMAT,
     "tensor blk.0.attn_qkv.weight is missing"},
    {"fused rows: too few", "phi3", "blk.0.attn_qkv.weight", 64, 128, 0, FTK_ERR_FORMAT,
     "tensor blk.0.attn_qkv.weight has shape [64, 128] instead of [64, 192]"},
    {"queries beside the fused", "phi3", "blk.0.attn_q.weight", 64, 64, 0, FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight is no part of a phi3 model as this build knows it"},
    {"up without gate", "phi3", "blk.2.ffn_up.weight", 64, 96, 0, FTK_ERR_FORMAT,
     "tensor blk.2.ffn_up.weight has shape [64, 96] instead of [64, 192]"},
    {"no long factors", "phi3-long", "rope_factors_long.weight", 0, 0, 0, FTK_ERR_FORMAT,
     "tensor rope_factors_long.weight is missing"},
    {"no short factors", "phi3-long", "rope_factors_short.weight", 0, 0, 0, FTK_ERR_FORMAT,
     "tensor rope_factors_short.weight is missing"},
    {"long factors of 0", "phi3-long", "rope_factors_long.weight", 6, 1, 0, FTK_ERR_FORMAT,
     "tensor rope_factors_long.weight holds values that are not positive"},
    {"short factors: too many", "phi3-long", "rope_factors_short.weight", 8, 1, 1, FTK_ERR_FORMAT,
     "tensor rope_factors_short.weight has shape [8, 1] instead of [6, 1]"},

    {"no norm behind attention", "gemma3", "blk.6.post_attention_norm.weight", 0, 0, 0,
     FTK_ERR_FORMAT, "tensor blk.6.post_attention_norm.weight is missing"},
    {"norm of NaN", "gemma3", "blk.6.post_ffw_norm.weight", 64, 1, 0xFF, FTK_ERR_FORMAT,
     "tensor blk.6.post_ffw_norm.weight holds values that are not finite"},
    {"output of its own", "gemma3", "output.weight", 64, 300, 0, FTK_OK, ""},
    {"a layer too many", "gemma3", "blk.7.attn_norm.weight", 64, 1, 0, FTK_ERR_UNSUPPORTED,
     "tensor blk.7.attn_norm.weight is no part of a gemma3 model as this build knows it"},
};

static void test_tensors(void **state)
{
    (void)state;
    int failed = 0;
    static unsigned char data[64 * 300 * 4];
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        const bad_tensor *b = &tensors[i];
        gw w;
        gw_init(&w);
        w.skip = b->name;
        am_write(&w, am_find(b->model));
        w.skip = NULL;
        memset(data, b->fill, sizeof data);
        if (b->n_in > 0)
            gw_tensor(&w, b->name, b->n_out == 1 ? 1 : 2, (uint64_t[]){b->n_in, b->n_out},
                      FTK_TYPE_F32, data, (size_t)(b->n_in * b->n_out) * 4);
        failed += check_file(&w, b->what, b->err, b->line);
    }
    assert_int_equal(failed, 0);
}

/* ------------------------------------------------------------------ memory, chance */

static ftk_err load_and_free(counting *c, void *file)
{
    const ftk_err err = try_model(file, c);
    assert_int_equal(c->errors, err != FTK_OK);
    return err;
}

static void test_every_allocation(void **state)
{
    (void)state;
    static const char *const names[] = {"phi3-long", "gemma3"};
    for (int i = 0; i < 2; i++) {
        gw w;
        gw_init(&w);
        am_write(&w, am_find(names[i]));
        assert_int_equal(check_file(&w, names[i], FTK_OK, ""), 0);
        counting c = {0};
        fail_each(&c, names[i], load_and_free, path);
    }
}

/* Bytes before the weights changed: the model loads, or gives one line. */
static void test_corruption(void **state)
{
    (void)state;
    static const unsigned char worst[] = {0, 1, 0x7F, 0x80, 0xFF};
    uint64_t seed = 20240601;
    for (int i = 0; i < am_n_models; i++) {
        if (am_models[i].layers > 10) continue;
        gw w;
        gw_init(&w);
        am_write(&w, &am_models[i]);
        gw_bytes file = gw_finish(&w);
        const size_t header = file.n - w.data.n;
        gw_free(&w);
        unsigned char *good = malloc(header);
        assert_non_null(good);
        memcpy(good, file.p, header);
        for (int round = 0; round < 150; round++) {
            for (uint32_t n = 1 + random_below(&seed, 4); n > 0; n--) {
                const size_t where = random_below(&seed, header);
                const uint32_t how = random_below(&seed, 8);
                file.p[where] =
                    how < sizeof worst ? worst[how] : (unsigned char)random_below(&seed, 256);
            }
            assert_true(gw_save(path, file.p, file.n));
            counting c = {0};
            const ftk_err err = try_model(path, &c);
            assert_int_equal(c.errors, err != FTK_OK);
            assert_int_equal(c.live, 0);
            memcpy(file.p, good, header);
        }
        free(good);
        free(file.p);
    }
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/ftk-test-badarch-%ld.gguf", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_corruption),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
