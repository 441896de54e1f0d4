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
    assert_false(ftk_engine_has_drafter(e, "eagle3"));
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

/* A file that is cut anywhere, or in which a byte of the header is another one, opens or is
 * refused in one line. */
static void test_damaged(void **state)
{
    (void)state;
    ftk_model *m = load_quietly();
    const ef_how layout = {.layout = EF_EAGLE};
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", written("plain", &layout));
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    static unsigned char all[1 << 20], bad[1 << 20];
    const size_t n = fread(all, 1, sizeof all, f);
    fclose(f);
    uint64_t header;
    memcpy(&header, all, sizeof header);
    for (size_t i = 0; i < 60 + 120; i++) {
        const bool cuts = i < 60;
        size_t size = cuts ? i < 30 ? i * 5 : (size_t)header * (i - 29) / 15 : n;
        if (size > n) size = n - i;
        memcpy(bad, all, n);
        if (!cuts) bad[8 + (i - 60) * header / 120] ^= (unsigned char)(1 + i % 30);
        assert_true(gw_save(path, bad, size));
        ftk_engine *e = open_engine(m, 1, 128, FTK_TYPE_F16);
        said[0] = 0;
        const ftk_err err = ftk_engine_add_drafter(e, HEAD);
        if (cuts) assert_true(err == FTK_ERR_FORMAT);
        assert_true(said[0]);
        ftk_engine_free(e);
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
                          .path = k < 2 ? written("plain", &hows[k])
                                        : folder_of(drafters[k], &hows[k]),
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
        cmocka_unit_test(test_refused), cmocka_unit_test(test_names),
        cmocka_unit_test(test_parts),   cmocka_unit_test(test_looked_into),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_every_allocation),
    };
    return cmocka_run_group_tests(tests, write_target, NULL);
}
