/* SPDX-License-Identifier: Apache-2.0
 * Tensors that no model has, and values that are not finite. See test_badfiles.c. */
#include "badfile.h"

/* ------------------------------------------------------------------ tensors of the model */

/* A tensor of the good model, replaced by this one; n_dims 0: missing. */
typedef struct bad_tensor {
    const char *what, *name;
    uint32_t type, n_dims;
    uint64_t dims[4];
    unsigned char fill;
    ftk_err err;
    const char *line;
} bad_tensor;

#define EMBD       "token_embd.weight"
#define CONVERT_TO "convert the model to Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32"
static const bad_tensor tensors[] = {
    {"no embeddings", EMBD, 0, 0, {0}, 0, FTK_ERR_FORMAT, "tensor token_embd.weight is missing"},
    {"no ffn_up",
     "blk.1.ffn_up.weight",
     0,
     0,
     {0},
     0,
     FTK_ERR_FORMAT,
     "tensor blk.1.ffn_up.weight is missing"},
    {"no norm",
     "blk.0.attn_norm.weight",
     0,
     0,
     {0},
     0,
     FTK_ERR_FORMAT,
     "tensor blk.0.attn_norm.weight is missing"},
    {"no last norm",
     "output_norm.weight",
     0,
     0,
     {0},
     0,
     FTK_ERR_FORMAT,
     "tensor output_norm.weight is missing"},
    {"embeddings of a token less",
     EMBD,
     0,
     2,
     {64, 299},
     0,
     FTK_ERR_FORMAT,
     "tensor token_embd.weight has shape [64, 299] instead of [64, 300]"},
    {"embeddings of a token more",
     EMBD,
     0,
     2,
     {64, 301},
     0,
     FTK_ERR_FORMAT,
     "tensor token_embd.weight has shape [64, 301] instead of [64, 300]"},
    {"embeddings transposed",
     EMBD,
     0,
     2,
     {300, 64},
     0,
     FTK_ERR_FORMAT,
     "tensor token_embd.weight has shape [300, 64] instead of [64, 300]"},
    {"embeddings in F16", EMBD, 1, 2, {64, 300}, 0, FTK_OK, ""},
    {"embeddings in Q8_0", EMBD, 8, 2, {64, 300}, 0, FTK_OK, ""},
    {"output of another shape",
     "output.weight",
     0,
     2,
     {64, 64},
     0,
     FTK_ERR_FORMAT,
     "tensor output.weight has shape [64, 64] instead of [64, 300]"},
    {"ffn_down transposed",
     "blk.0.ffn_down.weight",
     0,
     2,
     {64, 96},
     0,
     FTK_ERR_FORMAT,
     "tensor blk.0.ffn_down.weight has shape [64, 96] instead of [96, 64]"},
    {"attn_q of three dimensions",
     "blk.0.attn_q.weight",
     0,
     3,
     {64, 64, 2},
     0,
     FTK_ERR_FORMAT,
     "tensor blk.0.attn_q.weight has shape [64, 64, ...] instead of [64, 64]"},
    {"attn_q of one dimension",
     "blk.0.attn_q.weight",
     0,
     1,
     {4096},
     0,
     FTK_ERR_FORMAT,
     "tensor blk.0.attn_q.weight has shape [4096, 1] instead of [64, 64]"},
    {"attn_q in Q5_0", "blk.0.attn_q.weight", 6, 2, {64, 64}, 0, FTK_OK, ""},
    {"attn_q in MXFP4",
     "blk.0.attn_q.weight",
     39,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type MXFP4, which is not supported: convert the model to "
     "Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32"},
    {"attn_q in NVFP4",
     "blk.0.attn_q.weight",
     40,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type NVFP4, which is not supported: " CONVERT_TO},
    {"embeddings in Q2_0",
     EMBD,
     42,
     2,
     {64, 300},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor token_embd.weight has type Q2_0, which is not supported: " CONVERT_TO},
    {"attn_q in Q4_3, which was removed",
     "blk.0.attn_q.weight",
     5,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type Q4_3, which was removed from the format: " CONVERT_TO},
    {"attn_q in Q4_0_8_8, which was removed",
     "blk.0.attn_q.weight",
     33,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type Q4_0_8_8, which was removed from the "
     "format: " CONVERT_TO},
    {"attn_q in IQ4_NL_4_4, which was removed",
     "blk.0.attn_q.weight",
     36,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type IQ4_NL_4_4, which was removed from the "
     "format: " CONVERT_TO},
    {"attn_q in a type nobody knows yet",
     "blk.0.attn_q.weight",
     43,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type 43, which is newer than this build: " CONVERT_TO},
    {"a norm in type -1",
     "output_norm.weight",
     UINT32_MAX,
     1,
     {64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor output_norm.weight has type 4294967295, which is newer than this build: " CONVERT_TO},
    {"attn_q in I32",
     "blk.0.attn_q.weight",
     26,
     2,
     {64, 64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q.weight has type I32, which is not supported: convert the model to "
     "Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32"},
    {"norm of 32",
     "output_norm.weight",
     0,
     1,
     {32},
     0,
     FTK_ERR_FORMAT,
     "tensor output_norm.weight has shape [32, 1] instead of [64, 1]"},
    {"norm in F64",
     "output_norm.weight",
     28,
     1,
     {64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor output_norm.weight has type F64, which is not supported: convert the model to "
     "Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32"},
    {"norm of NaN",
     "blk.1.ffn_norm.weight",
     0,
     1,
     {64},
     0xFF,
     FTK_ERR_FORMAT,
     "tensor blk.1.ffn_norm.weight holds values that are not finite"},
    {"RoPE factors of 0",
     "rope_freqs.weight",
     0,
     1,
     {8},
     0,
     FTK_ERR_FORMAT,
     "tensor rope_freqs.weight holds values that are not positive"},
    {"RoPE factors of NaN",
     "rope_freqs.weight",
     0,
     1,
     {8},
     0xFF,
     FTK_ERR_FORMAT,
     "tensor rope_freqs.weight holds values that are not finite"},
    {"RoPE factors: too few",
     "rope_freqs.weight",
     0,
     1,
     {7},
     0,
     FTK_ERR_FORMAT,
     "tensor rope_freqs.weight has shape [7, 1] instead of [8, 1]"},
    {"a bias the pass would leave out",
     "blk.0.ffn_up.bias",
     0,
     1,
     {96},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.0.ffn_up.bias is no part of a llama model as this build knows it"},
    {"a tensor of no known use",
     "blk.9.x\x1b",
     0,
     1,
     {64},
     0,
     FTK_ERR_UNSUPPORTED,
     "tensor blk.9.x\\x1b is no part of a llama model as this build knows it"},
};

static void test_tensors(void **state)
{
    (void)state;
    int failed = 0;
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        const bad_tensor *b = &tensors[i];
        gw w;
        gw_init(&w);
        w.skip = b->name;
        gw_tiny_llama(&w);
        w.skip = NULL;
        unsigned char data[64 * 301 * 4];
        memset(data, b->fill, sizeof data);
        if (b->n_dims > 0) gw_tensor(&w, b->name, b->n_dims, b->dims, b->type, data, sizeof data);
        failed += check_model(&w, b->what, b->err, b->line);
    }
    assert_int_equal(failed, 0);
}

static void expect_numeric(const char *what)
{
    counting c = {0};
    ftk_model_config mc;
    ftk_model_config_init(&mc);
    mc.host = counting_host(&c);
    ftk_model *model;
    assert_int_equal(ftk_model_load(&model, path, &mc), FTK_OK);
    ftk_engine_config ec;
    ftk_engine_config_init(&ec);
    ec.threads = 1;
    ec.measure = false;
    ftk_engine *engine;
    assert_int_equal(ftk_engine_open(&engine, model, &ec), FTK_OK);
    ftk_session_config sc;
    ftk_session_config_init(&sc);
    ftk_session *session;
    assert_int_equal(ftk_session_open(&session, engine, &sc), FTK_OK);
    assert_int_equal(ftk_session_append(session, (const int32_t[]){1, 270, 280}, 3), FTK_OK);
    ftk_result r;
    const ftk_err err = ftk_step(&session, 1, &r);
    if (err != FTK_ERR_NUMERIC) print_error("%s: step gave %d\n", what, (int)err);
    assert_int_equal(err, FTK_ERR_NUMERIC);
    assert_int_equal(r.err, FTK_ERR_NUMERIC);
    assert_int_equal(r.n_tokens, 0);
    assert_int_equal(ftk_session_set_logprobs(session, 2, true), FTK_OK);
    assert_int_equal(ftk_step(&session, 1, &r), FTK_ERR_NUMERIC); /* the prompt's rows, too */
    assert_int_equal(c.errors, 2);
    ftk_session_free(session);
    ftk_engine_free(engine);
    ftk_model_free(model);
    assert_int_equal(c.live, 0);
}

/* Values that are not finite: the model loads, its first step says so and emits nothing. */
static void test_not_finite(void **state)
{
    (void)state;
    static const struct {
        const char *tensor;
        uint32_t type;
        uint64_t n_in, n_out;
    } cases[] = {
        {"token_embd.weight", FTK_TYPE_Q8_0, GW_EMBD, GW_VOCAB},
        {"blk.1.attn_q.weight", FTK_TYPE_Q4_0, GW_EMBD, GW_EMBD},
        {"blk.0.attn_v.weight", FTK_TYPE_F16, GW_EMBD, GW_EMBD / GW_HEADS * GW_HEADS_KV},
        {"blk.1.ffn_down.weight", FTK_TYPE_F32, GW_FF, GW_EMBD},
        {"output.weight", FTK_TYPE_BF16, GW_EMBD, GW_VOCAB},
        {"blk.0.attn_q.weight", FTK_TYPE_Q5_1, GW_EMBD, GW_EMBD},
        {"blk.0.attn_output.weight", FTK_TYPE_IQ4_NL, GW_EMBD, GW_EMBD},
    };
    static unsigned char ones[GW_EMBD * GW_VOCAB * 4]; /* NaN as a float, and as a scale */
    memset(ones, 0xFF, sizeof ones);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gw w;
        gw_init(&w);
        w.skip = cases[i].tensor;
        gw_tiny_llama(&w);
        w.skip = NULL;
        gw_tensor(&w, cases[i].tensor, 2, (uint64_t[]){cases[i].n_in, cases[i].n_out},
                  cases[i].type, ones, sizeof ones);
        gw_bytes file = gw_finish(&w);
        assert_true(gw_save(path, file.p, file.n));
        free(file.p);
        gw_free(&w);
        expect_numeric(cases[i].tensor);
    }
}

int main(void)
{
    choose_path();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_not_finite),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
