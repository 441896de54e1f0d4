/* SPDX-License-Identifier: Apache-2.0
 * Files of heads that are wrong are refused in a line that says why; what can be seen in good ones;
 * every allocation fails once. */
#define EAGLE_TEST "badeagle"
#include "eagleheads.h"

#include "drafterlife.h"

#include <unistd.h>

static void expect_refused(ftk_engine *e, const char *path, const ftk_drafter_config *cfg,
                           ftk_err err, const char *says)
{
    said[0] = 0;
    const ftk_err got = ftk_engine_add_drafter_as(e, path, cfg);
    if (got != err || !strstr(said, says))
        fail_msg("%s instead of \"%s\" (%s)", said, says, ftk_strerror(got));
    static const char *const heads[] = {"eagle3", "dflash", "dspark", "medusa"};
    for (int i = 0; i < 4; i++) assert_false(ftk_engine_has_drafter(e, heads[i]));
}

static void test_refused(void **state)
{
    (void)state;
    ftk_model *m = load_quietly();
    ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
    static const struct {
        ef_how how;
        const char *head, *says;
        ftk_err err;
    } bad[] = {
        {{.without = "fc.weight"}, "plain", "tensor fc.weight is missing", FTK_ERR_FORMAT},
        {{.without = "layers.0.mlp.up_proj.weight"},
         "plain",
         "tensor layers.0.mlp.up_proj.weight is missing",
         FTK_ERR_FORMAT},
        {{.without = "layers.0.self_attn.k_norm.weight", .layout = EF_SPECULATORS},
         "qwen3",
         "self_attn.k_norm.weight is missing",
         FTK_ERR_FORMAT},
        {{.d2t_more = 1000}, "plain", "tensor d2t names token", FTK_ERR_FORMAT},
        {{.d2t_more = -3}, "plain", "for row 119: not one of 300, or twice", FTK_ERR_FORMAT},
        {{.d2t_more = 1000, .layout = EF_GGUF}, "plain", "tensor d2t names token", FTK_ERR_FORMAT},
        {{.config = "{"}, "plain", "is no JSON: a string is missing at byte 1", FTK_ERR_FORMAT},
        {{.config = "[]"}, "plain", "is no JSON object", FTK_ERR_FORMAT},
        {{.config = "{\"hidden_size\": 64}"},
         "plain",
         "has none of draft_vocab_size",
         FTK_ERR_INVALID},
        {{.more = "\"target_hidden_size\": 4096, "},
         "plain",
         "was made for a model of width 4096; this model's width is 64",
         FTK_ERR_INVALID},
        {{.more = "\"vocab_size\": 151936, "},
         "plain",
         "was made for a vocabulary of 151936 tokens; this model's has 300",
         FTK_ERR_INVALID},
        {{.more = "\"hidden_size\": 128, "}, "plain", "has shape", FTK_ERR_FORMAT},
        {{.more = "\"hidden_size\": 3.5, "},
         "plain",
         "hidden_size in its configuration is no",
         FTK_ERR_FORMAT},
        {{.more = "\"num_key_value_heads\": 3, "},
         "plain",
         "heads (3 for keys)",
         FTK_ERR_UNSUPPORTED},
        {{.more = "\"num_hidden_layers\": 4, "}, "plain", "has 4 layers", FTK_ERR_UNSUPPORTED},
        {{.more = "\"hidden_act\": \"gelu\", "},
         "plain",
         "hidden_act is not silu",
         FTK_ERR_UNSUPPORTED},
        {{.more = "\"norm_output\": true, "},
         "plain",
         "the file does not say who wrote it",
         FTK_ERR_UNSUPPORTED},
        {{.more = "\"rope_scaling\": {\"rope_type\": \"longrope\"}, "},
         "plain",
         "RoPE scaling longrope is not supported",
         FTK_ERR_UNSUPPORTED},
        {{.more = "\"eagle_aux_hidden_state_layer_ids\": [2, 4, 1], "},
         "plain",
         "reads the state entering layer 4, and the model has 3 layers",
         FTK_ERR_INVALID},
        {{.more = "\"eagle_aux_hidden_state_layer_ids\": \"all\", "},
         "plain",
         "no list of 1 to 16 layers",
         FTK_ERR_FORMAT},
        {{.more = "\"speculators_model_type\": \"mtp\", "},
         "plain",
         "is a head of the kind \"mtp\"",
         FTK_ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(e, written(bad[i].head, &bad[i].how), NULL, bad[i].err, bad[i].says);
    ftk_drafter_config cfg;
    ftk_drafter_config_init(&cfg);
    const ef_how good = {.layout = EF_EAGLE};
    cfg.layers = (int[]){2, 1, 4};
    cfg.n_layers = 3;
    expect_refused(e, written("plain", &good), &cfg, FTK_ERR_INVALID, "entering layer 4");
    cfg.n_layers = 2;
    expect_refused(e, written("plain", &good), &cfg, FTK_ERR_INVALID,
                   "another number of layers than 2");
    cfg.n_layers = 99;
    expect_refused(e, written("plain", &good), &cfg, FTK_ERR_INVALID, "99 layers: give 1 to 16");
    expect_refused(e, FTK_MODELS_DIR "/foretoken-demo-s4c.drafter.gguf", NULL, FTK_ERR_INVALID,
                   "was trained for another model");
    cfg.layers = (int[]){3, 1, 2};
    cfg.n_layers = 3;
    expect_refused(e, folder_of("medusa", &good), &cfg, FTK_ERR_INVALID,
                   "heads of Medusa read the last layer's state alone: leave --drafter-layers out");
    said[0] = 0;
    assert_int_equal(ftk_engine_add_drafter_as(e, written("plain", &good), &cfg), FTK_OK);
    assert_non_null(strstr(said, "states entering layers 3, 1, 2 of 3; 120 of 300 tokens"));
    assert_int_equal(ftk_engine_add_drafter(e, written("plain", &good)), FTK_ERR_INVALID);
    assert_non_null(strstr(said, "there is a drafter eagle3 already"));
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* What is wrong with heads of all kinds; keys that would change what is computed, too. */
static void test_refused_kinds(void **state)
{
    (void)state;
    ftk_model *m = load_quietly();
    ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
    static const struct {
        const char *drafter;
        ef_how how;
        const char *says;
        ftk_err err;
    } wrong[] = {
        {"eagle3", {.more = "\"logit_scale\": 0.5, "}, "says logit_scale 0.5", FTK_ERR_UNSUPPORTED},
        {"medusa", {.more = "\"logit_scale\": 0.5, "}, "says logit_scale 0.5", FTK_ERR_UNSUPPORTED},
        {"eagle3", {.more = "\"is_causal\": false, "}, "says is_causal false", FTK_ERR_UNSUPPORTED},
        {"dflash", {.more = "\"is_causal\": true, "}, "says is_causal true", FTK_ERR_UNSUPPORTED},
        {"dflash", {.more = "\"shift_label\": true, "}, "shift_label true", FTK_ERR_UNSUPPORTED},
        {"dflash",
         {.more = "\"eagle_config\": {\"projector_type\": \"domino\"}, "},
         "says projector_type domino",
         FTK_ERR_UNSUPPORTED},
        {"dspark",
         {.more = "\"attention_modes\": [\"gqa\", \"kda\"], "},
         "says attention_modes kda",
         FTK_ERR_UNSUPPORTED},
        {"dspark",
         {.more = "\"final_logit_softcapping\": 30, "},
         "final_logit_softcapping 30",
         FTK_ERR_UNSUPPORTED},
        {"dspark",
         {.more = "\"markov_head_type\": \"rnn\", "},
         "than vanilla",
         FTK_ERR_UNSUPPORTED},
        {"eagle3",
         {.more = "\"norm_before_fc\": true, "},
         "tensor input_norm.weight is missing",
         FTK_ERR_FORMAT},
        {"eagle3",
         {.more = "\"fc_norm\": true, "},
         "tensor fc_norm.0.weight is missing",
         FTK_ERR_FORMAT},
        {"eagle3",
         {.more = "\"attention_bias\": true, "},
         "self_attn.q_proj.bias is missing",
         FTK_ERR_FORMAT},
        {"eagle3",
         {.d2t_less = 1},
         "d2t names 119 tokens, its configuration says 120",
         FTK_ERR_FORMAT},
        {"eagle3",
         {.layout = EF_GGUF, .d2t_less = 1},
         "tensor output.weight has shape [64, 120] instead of [64, 119]",
         FTK_ERR_FORMAT},
        {"eagle3",
         {.more = "\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 5.0}}, "},
         "RoPE scaling by kinds of layers is not supported",
         FTK_ERR_UNSUPPORTED},
        {"eagle3",
         {.more = "\"rope_parameters\": {\"rope_type\": \"dynamic\", \"alpha\": 1000}, "},
         "RoPE scaling with alpha is not supported",
         FTK_ERR_UNSUPPORTED},
        {"eagle3",
         {.more = "\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4, \"truncate\": "
                  "false}, "},
         "yarn with truncate false is not supported",
         FTK_ERR_UNSUPPORTED},
        {"eagle3",
         {.more = "\"partial_rotary_factor\": 2, "},
         "partial_rotary_factor in its configuration is no part of a head",
         FTK_ERR_FORMAT},
        {"eagle3",
         {.more = "\"layer_types\": [\"chunked_attention\"], "},
         "its layer_types name one that is no full_attention",
         FTK_ERR_UNSUPPORTED},
        {"dflash",
         {.more = "\"layer_types\": [\"full_attention\", \"sliding_attention\"], "
                  "\"sliding_window\": 8, "},
         "with a sliding window are not supported",
         FTK_ERR_UNSUPPORTED},
        {"dflash",
         {.more =
              "\"use_sliding_window\": true, \"sliding_window\": 8, \"max_window_layers\": 1, "},
         "with a sliding window are not supported",
         FTK_ERR_UNSUPPORTED},
        {"dflash",
         {.more = "\"num_target_layers\": 36, "},
         "was made for a model of 36 layers; this model has 3",
         FTK_ERR_INVALID},
        {"dflash",
         {.more = "\"mask_token_id\": 300, ", .layout = EF_SPECULATORS},
         "its mask token, 300, is not one of this model's 300",
         FTK_ERR_INVALID},
        {"dflash",
         {.more = "\"block_size\": 33, ", .layout = EF_SPECULATORS},
         "block_size in its configuration is no number from 2 to 32",
         FTK_ERR_FORMAT},
        {"dflash",
         {.without = "hidden_norm.weight"},
         "hidden_norm.weight is missing",
         FTK_ERR_FORMAT},
        {"dspark",
         {.without = "markov_head.markov_w1.weight"},
         "markov_w1.weight is missing",
         FTK_ERR_FORMAT},
        {"dspark",
         {.more = "\"markov_rank\": 0, ", .deepseek = true},
         "no part of",
         FTK_ERR_UNSUPPORTED},
        {"medusa", {.without = "1.1.linear.weight"}, "head 1 has 1 layers", FTK_ERR_FORMAT},
        {"medusa", {.without = "2.2.weight"}, "tensor 2.2.weight is missing", FTK_ERR_FORMAT},
        {"medusa",
         {.more = "\"speculators_model_type\": \"medusa\", "},
         "of speculators' this build knows eagle3, dflash and dspark",
         FTK_ERR_UNSUPPORTED},
        {"eagle3",
         {.layout = EF_GGUF, .key = "logit_scale", .number = 2},
         "logit_scale 2",
         FTK_ERR_UNSUPPORTED},
        {"dflash",
         {.layout = EF_GGUF, .key = "attention.sliding_window", .number = 8},
         "attention.sliding_window 8",
         FTK_ERR_UNSUPPORTED},
        {"eagle3",
         {.layout = EF_GGUF, .word = "other"},
         "was made for another vocabulary: its token 299 is \"other\", the model's is \"",
         FTK_ERR_INVALID},
        {"dspark",
         {.layout = EF_GGUF, .words_less = 1},
         "was made for a vocabulary of 299 tokens; this model's has 300",
         FTK_ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *const drafter = wrong[i].drafter;
        const bool eagle = strcmp(drafter, "eagle3") == 0;
        expect_refused(e,
                       eagle ? written("plain", &wrong[i].how) : folder_of(drafter, &wrong[i].how),
                       NULL, wrong[i].err, wrong[i].says);
    }
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Layers that nothing names, those that DeepSeek names, and what is written but changes nothing. */
static void test_read(void **state)
{
    (void)state;
    static const struct {
        const char *drafter;
        ef_how how;
        const char *says;
    } good[] = {
        {"dspark", {.deepseek = true}, "dspark: states entering layers 0, 1, 3 of 3;"},
        {"dflash",
         {.more = "\"dflash_config\": {\"mask_token_id\": 299}, ", .narrow = true},
         "dflash: states entering layers 2, 1 of 3;"},
        {"dflash",
         {.more =
              "\"num_target_layers\": 3, \"is_causal\": false, \"logit_scale\": 1.0, "
              "\"layer_types\": [\"full_attention\", \"full_attention\"], \"sliding_window\": 8, "},
         "dflash: states entering layers 1, 2, 3 of 3;"},
        {"dflash",
         {.layout = EF_GGUF, .key = "attention.sliding_window"},
         "dflash: states entering layers 2, 1, 0 of 3;"},
        {"eagle3",
         {.more = "\"rope_parameters\": {\"full_attention\": {\"rope_theta\": -1}, "
                  "\"sliding_attention\": {\"rope_theta\": 500}}, ",
          .layout = EF_SPECULATORS},
         "eagle3: states entering layers 2, 1, 0 of 3;"},
        {"eagle3",
         {.more = "\"use_sliding_window\": false, \"sliding_window\": 8, \"is_causal\": true, "},
         "eagle3: states entering layers 2, 1, 0 of 3;"},
        {"medusa",
         {.more = "\"original_lm_head\": true, ",
          .without = "1.2.weight",
          .layout = EF_SPECULATORS},
         "medusa: 3 heads of 2 layers; 300 of 300 tokens"},
    };
    ftk_model *m = load_quietly();
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
        const char *const drafter = good[i].drafter;
        const bool eagle = strcmp(drafter, "eagle3") == 0;
        said[0] = 0;
        ftk_engine_add_drafter(e, eagle ? written("plain", &good[i].how)
                                        : folder_of(drafter, &good[i].how));
        if (!strstr(said, good[i].says)) fail_msg("%s instead of \"%s\"", said, good[i].says);
        assert_true(ftk_engine_has_drafter(e, drafter));
        ftk_engine_free(e);
    }
    ftk_model_free(m);
}

/* One safetensors file may be named, too, and a folder that has none is no head. */
static void test_names(void **state)
{
    (void)state;
    ftk_model *m = load_quietly();
    ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
    const ef_how layout = {.layout = EF_SPECFORGE};
    char file[600];
    snprintf(file, sizeof file, "%s/model.safetensors", written("plain", &layout));
    expect_refused(e, FOLDER, NULL, FTK_ERR_IO, "config.json: cannot be opened");
    said[0] = 0;
    assert_int_equal(ftk_engine_add_drafter(e, file), FTK_OK);
    assert_non_null(
        strstr(said, "states entering layers 2, 1, 3 of 3")); /* one more than is written */
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* Files of which some are missing, and tensors that are in two of them. */
static void test_parts(void **state)
{
    (void)state;
    ftk_model *m = load_quietly();
    ftk_engine *e = open_engine(m, 1, 256, FTK_TYPE_F16);
    const ef_how layout = {.layout = EF_EAGLE};
    char file[600], part[600], other[600];
    const char *const folder = written("plain", &layout);
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    snprintf(part, sizeof part, "%s/model-00001-of-00003.safetensors", folder);
    snprintf(other, sizeof other, "%s/other.safetensors", folder);
    assert_int_equal(rename(file, part), 0);
    expect_refused(e, folder, NULL, FTK_ERR_INVALID,
                   "holds 1 safetensors files of 3: get the others");
    assert_int_equal(rename(part, file), 0);
    assert_int_equal(link(file, other), 0);
    expect_refused(e, folder, NULL, FTK_ERR_FORMAT, "is in two of its files");
    assert_int_equal(unlink(other), 0);
    assert_int_equal(ftk_engine_add_drafter(e, folder), FTK_OK);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* What `inspect` sees. */
static void test_looked_into(void **state)
{
    (void)state;
    const ef_how layout = {.layout = EF_SPECULATORS};
    const char *const folder = written("qwen3", &layout);
    ftk_checkpoint *c;
    ftk_checkpoint_tensor t = {0};
    assert_true(ftk_checkpoint_is(folder) && ftk_checkpoint_is("a.safetensors"));
    assert_false(ftk_checkpoint_is("a.gguf"));
    assert_int_equal(ftk_checkpoint_open(&c, folder, NULL), FTK_OK);
    assert_int_equal(ftk_checkpoint_n_files(c), 1);
    size_t found = 0;
    for (size_t i = 0; i < ftk_checkpoint_n_tensors(c); i++) {
        ftk_checkpoint_tensor_at(c, i, &t);
        if (t.name.n != 9 || memcmp(t.name.p, "fc.weight", 9) != 0) continue;
        found++;
        assert_true(t.n_dims == 2 && t.dims[0] == 64 && t.dims[1] == 192);
        assert_true(t.size == 4 * 64 * 192 && t.type.n == 3 && memcmp(t.type.p, "F32", 3) == 0);
    }
    assert_int_equal(found, 1);
    assert_int_equal(ftk_checkpoint_config(c).p[0], '{');
    ftk_checkpoint_free(c);
    assert_int_equal(ftk_checkpoint_open(&c, FOLDER, NULL), FTK_ERR_IO);
    assert_null(c);
    ftk_checkpoint_free(NULL);
}

/* ---- files that came to harm */

static unsigned char all[1 << 20], bad[1 << 20];

static size_t read_all(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t n = fread(all, 1, sizeof all, f);
    fclose(f);
    return n;
}

/* Whether it can be opened with the file as it is now; if not there is one line. */
static ftk_err try_damaged(ftk_engine **e, const ftk_model *m, const char *path)
{
    said[0] = 0;
    n_lines = 0;
    const ftk_err err = ftk_engine_add_drafter(*e, path);
    if (!said[0] || n_lines != 1) fail_msg("%d lines, the last one \"%s\"", n_lines, said);
    if (err != FTK_OK) return err;
    ftk_engine_free(*e);
    *e = open_engine(m, 1, 128, FTK_TYPE_F16);
    return err;
}

/* Cut anywhere; then a byte of the first `header` is another one. must: a cut one is refused. */
static void harm(const ftk_model *m, const char *path, const char *file, size_t header, bool must)
{
    enum { CUTS = 60, BYTES = 120 };
    ftk_engine *e = open_engine(m, 1, 128, FTK_TYPE_F16);
    const size_t n = read_all(file);
    for (size_t i = 0; i < CUTS + BYTES; i++) {
        const bool cuts = i < CUTS;
        size_t size = n;
        if (cuts)
            size = i < CUTS / 2 ? header * i / (CUTS / 2) : n - 1 - (n - 1) * (i - CUTS / 2) / CUTS;
        memcpy(bad, all, n);
        if (!cuts) bad[(i - CUTS) * header / BYTES] ^= (unsigned char)(1 + i % 30);
        assert_true(gw_save(file, bad, size));
        const ftk_err err = try_damaged(&e, m, path);
        if (cuts && must && err != FTK_ERR_FORMAT)
            fail_msg("%s of %zu bytes: %s", file, size, ftk_strerror(err));
    }
    assert_true(gw_save(file, all, n));
    assert_int_equal(try_damaged(&e, m, path), FTK_OK);
    ftk_engine_free(e);
}

/* Of each kind a file that is cut anywhere, or in which a byte of the header is another one, opens
 * or is refused in one line. */
static void test_damaged(void **state)
{
    (void)state;
    static const char *const drafters[] = {"eagle3", "dflash", "dspark", "medusa"};
    ftk_model *m = load_quietly();
    for (int k = 0; k < 7; k++) { /* Medusa has no GGUF */
        const ef_how how = {.layout = k < 4 ? EF_EAGLE : EF_GGUF};
        const char *const drafter = drafters[k % 4];
        const char *const path = k % 4 ? folder_of(drafter, &how) : written("plain", &how);
        if (how.layout == EF_GGUF) {
            harm(m, path, path, 12000, true);
            continue;
        }
        char file[600];
        uint64_t header;
        snprintf(file, sizeof file, "%s/model.safetensors", path);
        assert_true(read_all(file) > sizeof header);
        memcpy(&header, all, sizeof header);
        harm(m, path, file, sizeof header + (size_t)header, true);
        snprintf(file, sizeof file, "%s/config.json", path);
        harm(m, path, file, read_all(file), true);
    }
    ftk_model_free(m);
}

/* ---- memory */

static void test_every_allocation(void **state)
{
    (void)state;
    const ef_how hows[] = {{.layout = EF_EAGLE, .borrows = true},
                           {.layout = EF_GGUF},
                           {.layout = EF_EAGLE},
                           {.layout = EF_SPECULATORS, .borrows = true},
                           {.layout = EF_EAGLE}};
    static const char *const drafters[] = {"eagle3", "eagle3", "dflash", "dspark", "medusa"};
    for (int k = 0; k < 5; k++) {
        drafter_life l = {.model = TARGET,
                          .path =
                              k < 2 ? written("plain", &hows[k]) : folder_of(drafters[k], &hows[k]),
                          .drafter = drafters[k],
                          .verifier = "exact",
                          .add = ftk_engine_add_drafter};
        counting c = {0};
        fail_each(&c, drafters[k], live_with_drafter, &l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_refused_kinds),
        cmocka_unit_test(test_read),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_parts),   cmocka_unit_test(test_looked_into),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_every_allocation),
    };
    return cmocka_run_group_tests(tests, write_target, NULL);
}
