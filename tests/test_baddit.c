/* SPDX-License-Identifier: Apache-2.0
 * What a bad file of a diffusion transformer can hold, and the one line each gets. Then every key
 * with every type and odd values, files cut at each 64th of their length, and 2,000 corrupted
 * headers: those must load, and draw or say why not, or give exactly one line. */
#include <math.h>

#include "onebad.h"

#include "ditmodel.h"
#include "foretoken_diffusion.h"

static char path[64];

static ftk_err try_dit(const char *p, counting *c)
{
    ftk_dit_config cfg;
    ftk_dit_config_init(&cfg);
    cfg.host = counting_host(c);
    ftk_dit *m = (ftk_dit *)c;
    const ftk_err err = ftk_dit_load(&m, p, &cfg);
    assert_true((m != NULL) == (err == FTK_OK));
    ftk_dit_free(m);
    return err;
}

/* A small model with its L2C table. */
static dm_model base(void)
{
    dm_model m = dm_small();
    m.l2c_steps = 10;
    return m;
}

/* ---- keys */

typedef struct bad_key {
    const char *what, *key;
    int type; /* an ftk_gguf_type, or MISSING */
    uint64_t u;
    double f;
    const char *s;
    ftk_err err;
    const char *line;
} bad_key;

#define NO_KEY(key)        "without " key, key, MISSING, 0, 0, NULL
#define UINT(key, v)       key, key, FTK_GGUF_U32, v, 0, NULL
#define SINT(key, v)       key, key, FTK_GGUF_I32, (uint32_t)(v), 0, NULL
#define LONG(key, v)       key, key, FTK_GGUF_U64, v, 0, NULL
#define BOOL(key, v)       key, key, FTK_GGUF_BOOL, v, 0, NULL
#define REAL(key, v)       key, key, FTK_GGUF_F32, 0, v, NULL
#define TEXT(key, v)       key, key, FTK_GGUF_STRING, 0, 0, v
#define RANGE(key, lo, hi) FTK_ERR_FORMAT, "key " key " is out of range: it must be " lo " to " hi
#define REALS(key, lo, hi)                                                                         \
    FTK_ERR_FORMAT, "key " key " is out of range: it must be above " lo " and at most " hi

static const bad_key keys[] = {
    {NO_KEY("general.architecture"), FTK_ERR_FORMAT,
     "key general.architecture is missing or no string"},
    {UINT("general.architecture", 1), FTK_ERR_FORMAT,
     "key general.architecture is missing or no string"},
    {TEXT("general.architecture", "llama"), FTK_ERR_UNSUPPORTED,
     "architecture \"llama\" is no diffusion transformer: give a file of the architecture dit"},
    {TEXT("general.architecture", "\x1b[2Jdit"), FTK_ERR_UNSUPPORTED,
     "architecture \"\\x1b[2Jdit\" is no diffusion transformer: give a file of the architecture "
     "dit"},
    {NO_KEY("general.name"), FTK_OK, ""},
    {UINT("general.name", 1), FTK_OK, ""},
    {NO_KEY("dit.block_count"), FTK_ERR_FORMAT, "key dit.block_count is missing"},
    {UINT("dit.block_count", 0), RANGE("dit.block_count", "1", "512")},
    {UINT("dit.block_count", 5), FTK_ERR_FORMAT, "tensor blk.4.ada.weight is missing"},
    {UINT("dit.block_count", 3), FTK_ERR_FORMAT,
     "tensor l2c.0.router has shape [8, 5] instead of [6, 5]"},
    {SINT("dit.block_count", -1), RANGE("dit.block_count", "1", "512")},
    {LONG("dit.block_count", (UINT64_C(1) << 32) + 4), RANGE("dit.block_count", "1", "512")},
    {REAL("dit.block_count", 4), FTK_ERR_FORMAT, "key dit.block_count is not an integer"},
    {BOOL("dit.block_count", 1), FTK_ERR_FORMAT, "key dit.block_count is not an integer"},
    {TEXT("dit.block_count", "4"), FTK_ERR_FORMAT, "key dit.block_count is not an integer"},
    {NO_KEY("dit.embedding_length"), FTK_ERR_FORMAT, "key dit.embedding_length is missing"},
    {UINT("dit.embedding_length", 1 << 15), RANGE("dit.embedding_length", "4", "16384")},
    {UINT("dit.embedding_length", 64), FTK_ERR_FORMAT,
     "tensor blk.0.ada.weight has shape [32, 192] instead of [64, 384]"},
    {UINT("dit.embedding_length", 36), FTK_ERR_UNSUPPORTED,
     "dit.embedding_length 36 by dit.attention.head_count 4 gives no even head size of at most "
     "256"},
    {UINT("dit.attention.head_count", 3), FTK_ERR_UNSUPPORTED,
     "dit.embedding_length 32 by dit.attention.head_count 3 gives no even head size of at most "
     "256"},
    {UINT("dit.attention.head_count", 32), FTK_ERR_UNSUPPORTED,
     "dit.embedding_length 32 by dit.attention.head_count 32 gives no even head size of at most "
     "256"},
    {UINT("dit.attention.head_count", 0), RANGE("dit.attention.head_count", "1", "16384")},
    {UINT("dit.attention.head_count", 1), FTK_OK, ""},
    {UINT("dit.feed_forward_length", 0), RANGE("dit.feed_forward_length", "1", "131072")},
    {UINT("dit.feed_forward_length", 127), FTK_ERR_FORMAT,
     "tensor blk.0.ffn_up.weight has shape [32, 128] instead of [32, 127]"},
    {UINT("dit.patch_size", 0), RANGE("dit.patch_size", "1", "64")},
    {UINT("dit.patch_size", 4), FTK_ERR_FORMAT,
     "dit.input_size 6 is not a multiple of dit.patch_size 4"},
    {UINT("dit.patch_size", 3), FTK_ERR_FORMAT,
     "tensor patch_embd.weight has shape [16, 32] instead of [36, 32]"},
    {UINT("dit.input_size", 0), RANGE("dit.input_size", "1", "1024")},
    {UINT("dit.input_size", 1024), FTK_ERR_UNSUPPORTED,
     "262144 tokens a sample are more than 16384"},
    {UINT("dit.input_size", 8), FTK_OK, ""}, /* positions are not in the file */
    {UINT("dit.in_channels", 65), RANGE("dit.in_channels", "1", "64")},
    {UINT("dit.in_channels", 3), FTK_ERR_FORMAT,
     "tensor patch_embd.weight has shape [16, 32] instead of [12, 32]"},
    {NO_KEY("dit.learned_variance"), FTK_ERR_FORMAT, "key dit.learned_variance is missing"},
    {UINT("dit.learned_variance", 1), FTK_ERR_FORMAT, "key dit.learned_variance is not a bool"},
    {BOOL("dit.learned_variance", 0), FTK_ERR_FORMAT,
     "tensor output.weight has shape [32, 32] instead of [32, 16]"},
    {UINT("dit.pixel", 1), FTK_ERR_FORMAT, "key dit.pixel is not a bool"},
    {UINT("dit.class_count", 0), RANGE("dit.class_count", "1", "1048576")},
    {UINT("dit.class_count", 6), FTK_ERR_FORMAT,
     "tensor class_embd.weight has shape [32, 6] instead of [32, 7]"},
    {UINT("dit.timestep_frequency_length", 255), FTK_ERR_FORMAT,
     "dit.embedding_length 32 must be a multiple of 4 and dit.timestep_frequency_length 255 of 2"},
    {UINT("dit.timestep_frequency_length", 128), FTK_ERR_FORMAT,
     "tensor time_embd.0.weight has shape [256, 32] instead of [128, 32]"},
    {REAL("dit.timestep_frequency_shift", 2), REALS("dit.timestep_frequency_shift", "-1", "1")},
    {UINT("dit.timestep_frequency_shift", 1), FTK_ERR_FORMAT,
     "key dit.timestep_frequency_shift is not a float"},
    {UINT("dit.diffusion.steps", 1), RANGE("dit.diffusion.steps", "2", "16384")},
    {REAL("dit.diffusion.beta_start", 0), REALS("dit.diffusion.beta_start", "0", "0.999")},
    {REAL("dit.diffusion.beta_start", NAN), REALS("dit.diffusion.beta_start", "0", "0.999")},
    {REAL("dit.diffusion.beta_start", 0.5), FTK_ERR_FORMAT,
     "dit.diffusion.beta_end 0.02 is below dit.diffusion.beta_start 0.5"},
    {REAL("dit.diffusion.beta_end", 1), REALS("dit.diffusion.beta_end", "0", "0.999")},
    {REAL("dit.attention.layer_norm_epsilon", 0),
     REALS("dit.attention.layer_norm_epsilon", "0", "1")},
    {REAL("dit.feed_forward.layer_norm_epsilon", INFINITY),
     REALS("dit.feed_forward.layer_norm_epsilon", "0", "1")},
    {UINT("dit.guidance_channels", 5), RANGE("dit.guidance_channels", "1", "4")},
    {UINT("dit.guidance_channels", 4), FTK_OK, ""},
    {TEXT("dit.class_names", "one"), FTK_ERR_FORMAT,
     "key dit.class_names is no array of 5 strings"},
    {UINT("dit.l2c.count", 17), RANGE("dit.l2c.count", "0", "16")},
    {UINT("dit.l2c.count", 2), FTK_ERR_FORMAT, "key dit.l2c.1.steps is missing"},
    {UINT("dit.l2c.count", 0), FTK_ERR_UNSUPPORTED,
     "tensor l2c.0.router is no part of a dit model as this build knows it"},
    {UINT("dit.l2c.0.steps", 1), RANGE("dit.l2c.0.steps", "2", "1000")},
    {UINT("dit.l2c.0.steps", 12), FTK_ERR_FORMAT,
     "tensor l2c.0.router has shape [8, 5] instead of [8, 6]"},
    {UINT("dit.l2c.0.steps", 9), FTK_OK, ""},
    {NO_KEY("dit.l2c.0.threshold"), FTK_ERR_FORMAT, "key dit.l2c.0.threshold is missing"},
    {REAL("dit.l2c.0.threshold", NAN), REALS("dit.l2c.0.threshold", "-1", "1")},
};

static int save_and_check(gw *w, const char *what, ftk_err err, const char *line)
{
    gw_bytes file = gw_finish(w);
    assert_true(gw_save(path, file.p, file.n));
    free(file.p);
    gw_free(w);
    return check(what, path, try_dit, err, path, line);
}

static void test_keys(void **state)
{
    (void)state;
    const dm_model m = base();
    int failed = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        gw w;
        gw_init(&w);
        w.skip = keys[i].key;
        dm_write(&w, &m);
        w.skip = NULL;
        put_key(&w, keys[i].key, keys[i].type, keys[i].u, keys[i].f, keys[i].s);
        failed += save_and_check(&w, keys[i].what, keys[i].err, keys[i].line);
    }
    assert_int_equal(failed, 0);
}

/* ---- every key, with every type and odd values: it loads, and draws or says why not, or gives one
 * line */

/* Two steps of a sample, with the cache that tells most of a model. */
static ftk_err draw(const ftk_dit *m, const char *cache)
{
    ftk_cache_config cc;
    ftk_diffusion_config cfg;
    ftk_cache_config_init(&cc);
    ftk_diffusion_config_init(&cfg);
    cc.name = cache;
    cfg.cache = &cc;
    cfg.threads = 1;
    cfg.steps = 2;
    ftk_diffusion *d;
    ftk_err err = ftk_diffusion_open(&d, m, &cfg);
    const int32_t label = 0;
    const uint64_t seed = 1;
    if (err == FTK_OK) err = ftk_diffusion_begin(d, &label, &seed, NULL, 1);
    while (err == FTK_OK && ftk_diffusion_left(d) > 0) err = ftk_diffusion_step(d);
    ftk_diffusion_free(d);
    return err;
}

/* 1, and says so, where it is neither. */
static int try_odd(const char *key, int type, const void *value)
{
    const dm_model model = base();
    counting c = {0};
    gw w;
    gw_init(&w);
    w.skip = key;
    dm_write(&w, &model);
    w.skip = NULL;
    if (type == FTK_GGUF_STRING)
        gw_str(&w, key, value);
    else if (type == FTK_GGUF_ARRAY)
        gw_array(&w, key, FTK_GGUF_U32, 2, value);
    else
        gw_scalar(&w, key, (ftk_gguf_type)type, value);
    assert_true(gw_end(&w, path));
    ftk_dit_config cfg;
    ftk_dit_config_init(&cfg);
    cfg.host = counting_host(&c);
    ftk_dit *m;
    ftk_err err = ftk_dit_load(&m, path, &cfg);
    bool good = c.errors == (err != FTK_OK) && (m != NULL) == (err == FTK_OK);
    for (const char *const *name = ftk_caches(); m && *name; name++) {
        c.errors = 0;
        err = draw(m, *name);
        good &= c.errors == (err != FTK_OK);
    }
    ftk_dit_free(m);
    if (good && c.live == 0) return 0;
    print_error("%s of type %d: error %d, %d lines, %d blocks held\n", key, type, (int)err,
                c.errors, c.live);
    return 1;
}

static void test_odd_keys(void **state)
{
    (void)state;
    static const char *const names[] = {
        "general.architecture",
        "general.alignment",
        "general.name",
        "dit.block_count",
        "dit.embedding_length",
        "dit.attention.head_count",
        "dit.feed_forward_length",
        "dit.attention.layer_norm_epsilon",
        "dit.feed_forward.layer_norm_epsilon",
        "dit.patch_size",
        "dit.input_size",
        "dit.in_channels",
        "dit.learned_variance",
        "dit.class_count",
        "dit.class_names",
        "dit.timestep_frequency_length",
        "dit.timestep_frequency_shift",
        "dit.diffusion.steps",
        "dit.diffusion.beta_start",
        "dit.diffusion.beta_end",
        "dit.guidance_channels",
        "dit.pixel",
        "dit.l2c.count",
        "dit.l2c.0.steps",
        "dit.l2c.0.threshold",
    };
    static const int whole[] = {FTK_GGUF_U8,  FTK_GGUF_I8,  FTK_GGUF_U16,
                                FTK_GGUF_I16, FTK_GGUF_U32, FTK_GGUF_I32,
                                FTK_GGUF_U64, FTK_GGUF_I64, FTK_GGUF_BOOL};
    static const uint64_t numbers[] = {0, 1, 2, 3, 255, 0x7fffffff, 0x80000000, UINT64_MAX};
    static const double reals[] = {0, -0.5, 1e-300, 1e-30, 0.5, 1, 3e38, INFINITY, -INFINITY, NAN};
    int failed = 0;
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        for (size_t t = 0; t < sizeof whole / sizeof whole[0]; t++)
            for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
                failed += try_odd(names[k], whole[t], &numbers[i]);
        for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
            const float narrow = (float)reals[i];
            failed += try_odd(names[k], FTK_GGUF_F32, &narrow);
            failed += try_odd(names[k], FTK_GGUF_F64, &reals[i]);
        }
        failed += try_odd(names[k], FTK_GGUF_STRING, "");
        failed += try_odd(names[k], FTK_GGUF_STRING, "dit");
        failed += try_odd(names[k], FTK_GGUF_ARRAY, numbers);
    }
    assert_int_equal(failed, 0);
}

/* ---- tensors, one at a time: missing, transposed, of a type nobody knows, not finite, unknown */

static void test_tensors(void **state)
{
    (void)state;
    static const struct {
        const char *skip, *put;
        uint64_t dims[3];
        uint32_t n_dims, type;
        float fill;
        ftk_err err;
        const char *line;
    } cases[] = {
        {"output.bias", NULL, {0}, 0, 0, 0, FTK_ERR_FORMAT, "tensor output.bias is missing"},
        {"blk.3.ffn_down.bias",
         NULL,
         {0},
         0,
         0,
         0,
         FTK_ERR_FORMAT,
         "tensor blk.3.ffn_down.bias is missing"},
        {"l2c.0.router", NULL, {0}, 0, 0, 0, FTK_ERR_FORMAT, "tensor l2c.0.router is missing"},
        {"time_embd.0.weight",
         "time_embd.0.weight",
         {32, 256},
         2,
         0,
         0,
         FTK_ERR_FORMAT,
         "tensor time_embd.0.weight has shape [32, 256] instead of [256, 32]"},
        {"output.bias",
         "output.bias",
         {32, 1, 2},
         3,
         0,
         0,
         FTK_ERR_FORMAT,
         "tensor output.bias has shape [32, 1, ...] instead of [32, 1]"},
        {"output.bias",
         "output.bias",
         {32},
         1,
         24 /* I8 */,
         0,
         FTK_ERR_UNSUPPORTED,
         "tensor output.bias has type I8, which is not supported: convert the model to Q8_0, F16, "
         "BF16 or F32"},
        {"output.bias",
         "output.bias",
         {32},
         1,
         0,
         INFINITY,
         FTK_ERR_FORMAT,
         "tensor output.bias holds values that are not finite"},
        {"l2c.0.router",
         "l2c.0.router",
         {8, 5},
         2,
         0,
         NAN,
         FTK_ERR_FORMAT,
         "tensor l2c.0.router holds values that are not finite"},
        {NULL,
         "pos_embd.weight",
         {32, 9},
         2,
         0,
         0,
         FTK_ERR_UNSUPPORTED,
         "tensor pos_embd.weight is no part of a dit model as this build knows it"},
        {NULL,
         "blk.4.ada.weight",
         {32, 192},
         2,
         0,
         0,
         FTK_ERR_UNSUPPORTED,
         "tensor blk.4.ada.weight is no part of a dit model as this build knows it"},
        {NULL,
         "blk.00.ada.weight",
         {32, 192},
         2,
         0,
         0,
         FTK_ERR_UNSUPPORTED,
         "tensor blk.00.ada.weight is no part of a dit model as this build knows it"},
    };
    static float data[32 * 256];
    const dm_model m = base();
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gw w;
        gw_init(&w);
        w.skip = cases[i].skip;
        dm_write(&w, &m);
        w.skip = NULL;
        for (size_t j = 0; j < sizeof data / sizeof *data; j++) data[j] = cases[i].fill;
        size_t n = cases[i].type == 24 ? 1 : 4;
        for (uint32_t j = 0; j < cases[i].n_dims; j++) n *= (size_t)cases[i].dims[j];
        if (cases[i].put)
            gw_tensor(&w, cases[i].put, cases[i].n_dims, cases[i].dims, cases[i].type, data, n);
        failed += save_and_check(&w, cases[i].line, cases[i].err, cases[i].line);
    }
    assert_int_equal(failed, 0);
}

static int check_names(const ftk_str *names, uint64_t n, ftk_err err, const char *line)
{
    const dm_model m = base();
    gw w;
    gw_init(&w);
    dm_write(&w, &m);
    gw_str_array(&w, "dit.class_names", n, names);
    return save_and_check(&w, "class names", err, line);
}

static void test_names(void **state)
{
    (void)state;
    const ftk_str names[] = {{"a", 1}, {"", 0}, {"c\0c", 3}, {"d", 1}, {"e", 1}};
    const ftk_str good[] = {{"a", 1}, {"", 0}, {"\x1b[2J", 4}, {"d", 1}, {"e", 1}};
    assert_int_equal(
        check_names(names, 4, FTK_ERR_FORMAT, "key dit.class_names is no array of 5 strings"), 0);
    assert_int_equal(
        check_names(names, 5, FTK_ERR_FORMAT, "string 2 of dit.class_names holds a NUL byte"), 0);
    assert_int_equal(check_names(good, 5, FTK_OK, ""), 0);
    ftk_dit_config cfg;
    ftk_dit_config_init(&cfg);
    ftk_dit *dit;
    assert_int_equal(ftk_dit_load(&dit, path, &cfg), FTK_OK);
    assert_string_equal(ftk_dit_class_name(dit, 0), "a");
    assert_string_equal(ftk_dit_class_name(dit, 2), "\x1b[2J");
    assert_string_equal(ftk_dit_class_name(dit, 4), "e");
    assert_null(ftk_dit_class_name(dit, 5));
    assert_null(ftk_dit_class_name(dit, -1));
    assert_int_equal(ftk_dit_l2c_steps(dit, 0), 10);
    assert_int_equal(ftk_dit_l2c_steps(dit, 1), 0);
    ftk_dit_free(dit);
}

/* ---- no file, no level, no config */

static void test_outside(void **state)
{
    (void)state;
    counting c = {0};
    ftk_dit_config cfg;
    ftk_dit_config_init(&cfg);
    cfg.host = counting_host(&c);
    ftk_dit *m;
    assert_int_equal(ftk_dit_load(&m, NULL, &cfg), FTK_ERR_INVALID);
    assert_string_equal(c.line, "no path of a model was given");
    cfg.kernels = "sse9";
    assert_int_equal(ftk_dit_load(&m, path, &cfg), FTK_ERR_INVALID);
    assert_string_equal(c.line, "kernels \"sse9\" are unknown or not for this machine");
    assert_int_equal(ftk_dit_load(&m, path, NULL), FTK_ERR_INVALID);
    ftk_dit_config empty = {0};
    assert_int_equal(ftk_dit_load(&m, path, &empty), FTK_ERR_INVALID);
    assert_null(m);
    ftk_dit_free(NULL);
    ftk_diffusion_free(NULL);
    assert_int_equal(c.live, 0);
}

/* ---- chance */

static void try_bytes(const void *p, size_t n)
{
    counting c = {0};
    assert_true(gw_save(path, p, n));
    const ftk_err err = try_dit(path, &c);
    assert_int_equal(c.errors, err != FTK_OK);
    assert_int_equal(c.live, 0);
}

static void test_chance(void **state)
{
    (void)state;
    dm_model m = base();
    m.layers = 1;
    gw w;
    gw_init(&w);
    dm_write(&w, &m);
    gw_bytes file = gw_finish(&w);
    gw_free(&w);
    for (size_t i = 0; i < 64; i++) try_bytes(file.p, file.n * i / 64);
    uint32_t rng = 1;
    for (int i = 0; i < 2000; i++) {
        size_t at[3];
        unsigned char was[3];
        for (int j = 0; j < 3; j++) {
            rng = rng * 1664525u + 1013904223u;
            at[j] = (rng >> 8) % 3072; /* keys and records */
            was[j] = file.p[at[j]];
            file.p[at[j]] = (unsigned char)(rng >> 3);
        }
        try_bytes(file.p, file.n);
        for (int j = 2; j >= 0; j--) file.p[at[j]] = was[j];
    }
    free(file.p);
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/foretoken-baddit-%d.gguf", (int)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),    cmocka_unit_test(test_odd_keys),
        cmocka_unit_test(test_tensors), cmocka_unit_test(test_names),
        cmocka_unit_test(test_outside), cmocka_unit_test(test_chance),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
