/* SPDX-License-Identifier: Apache-2.0
 * Diffusion transformers on the emulated GPU: the CPU's samples and decisions, the same bits in any
 * company, caches that amount to another one, and a device that fails or has no memory. */
#include "ditsupport.h"

#include <math.h>

#include "diffusion/dit_cuda.h"
#include "onebad.h"

enum { STEPS = 8, MOST = 3 };

static const int32_t labels[MOST] = {2, 5 /* none */, 0};
static const uint64_t seeds[MOST] = {1, 2, 3};

/* The last device that was opened: this stands in front of the library's function. */
static ftk_dit_device *last;
ftk_err __real_ftk_dit_device_open(ftk_dit_device **out, const ftk_dit *m,
                                   const ftk_dit_device_config *cfg, char *why, size_t cap);
ftk_err __wrap_ftk_dit_device_open(ftk_dit_device **out, const ftk_dit *m,
                                   const ftk_dit_device_config *cfg, char *why, size_t cap);
ftk_err __wrap_ftk_dit_device_open(ftk_dit_device **out, const ftk_dit *m,
                                   const ftk_dit_device_config *cfg, char *why, size_t cap)
{
    const ftk_err err = __real_ftk_dit_device_open(out, m, cfg, why, cap);
    last = *out;
    return err;
}

/* Two layers, over 4 tokens of 32 numbers, smooth, with a table. */
static dm_model small(ftk_type type)
{
    dm_model m = dm_small();
    m.layers = 2;
    m.size = 4;
    m.type = type;
    m.damp = 1;
    m.calm = 0.3;
    m.l2c_steps = STEPS;
    return m;
}

typedef struct drawn {
    float x[MOST * 4 * 36];
    char trace[MOST][STEPS * 5];
    ftk_diffusion_stats stats;
} drawn;

static ftk_diffusion_config config(const ftk_cache_config *cache, const char *device, int batch)
{
    ftk_diffusion_config c;
    ftk_diffusion_config_init(&c);
    c.threads = 1;
    c.batch = batch;
    c.steps = STEPS;
    c.cache = cache;
    c.device = device;
    return c;
}

static void draw(const ftk_dit *m, const ftk_diffusion_config *cfg, drawn *to)
{
    const size_t n = sample_size(m);
    memset(to, 0, sizeof *to);
    ftk_diffusion *const d = open_diffusion(m, cfg);
    for (int i = 0; i < MOST; i += cfg->batch) {
        const int some = MOST - i < cfg->batch ? MOST - i : cfg->batch;
        run_diffusion(d, labels + i, seeds + i, some);
        for (int j = 0; j < some; j++) {
            memcpy(to->x + (size_t)(i + j) * n, ftk_diffusion_sample(d, j), n * sizeof *to->x);
            snprintf(to->trace[i + j], sizeof to->trace[0], "%s", ftk_diffusion_trace(d, j));
        }
    }
    ftk_diffusion_get_stats(d, &to->stats);
    ftk_diffusion_free(d);
}

/* The largest difference, of the largest number. */
static double apart(const drawn *a, const drawn *b)
{
    double most = 0, off = 0;
    for (size_t i = 0; i < sizeof a->x / sizeof *a->x; i++) {
        most = fmax(most, fabs((double)a->x[i]));
        off = fmax(off, fabs((double)a->x[i] - (double)b->x[i]));
    }
    return off / most;
}

/* The CPU's decisions and samples, and the same bits in another company. */
static void compare(const ftk_dit *m, ftk_cache_config *cache, double guidance, double allowed)
{
    drawn cpu, alone, together;
    ftk_diffusion_config cfg = config(cache, "cpu", MOST);
    cfg.guidance = guidance;
    draw(m, &cfg, &cpu);
    cfg.device = "cuda";
    draw(m, &cfg, &together);
    cfg.batch = 1;
    draw(m, &cfg, &alone);
    assert_memory_equal(alone.x, together.x, sizeof alone.x);
    for (int i = 0; i < MOST; i++) {
        assert_string_equal(cpu.trace[i], together.trace[i]);
        assert_string_equal(alone.trace[i], together.trace[i]);
    }
    const double off = apart(&cpu, &together);
    if (!(off <= allowed)) fail_msg("%s: off by %g", cache->name, off);
    assert_true(fabs(together.stats.counted - together.stats.measured) <
                1e-9 * together.stats.plain);
    assert_true(fabs(together.stats.other - cpu.stats.other) < 1e-9 * cpu.stats.other);
}

static void test_types(void **state)
{
    (void)state;
    const struct {
        ftk_type type;
        double allowed;
    } all[] = {{FTK_TYPE_F32, 1e-4},
               {FTK_TYPE_F16, 1e-4},
               {FTK_TYPE_BF16, 1e-4},
               {FTK_TYPE_Q8_0, 1e-2}}; /* rounding of activations to bytes turns on the last bit */
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const dm_model model = small(all[i].type);
        ftk_dit *const m = load_dit(&model, NULL);
        ftk_cache_config c = cache_named("none");
        compare(m, &c, 1.5, all[i].allowed);
        ftk_dit_free(m);
    }
}

static void test_caches(void **state)
{
    (void)state;
    const dm_model model = small(FTK_TYPE_F16);
    ftk_dit *const m = load_dit(&model, NULL);
    const double allowed = 1e-4;
    ftk_cache_config c = cache_named("fora");
    compare(m, &c, 1.5, allowed);
    c = cache_named("l2c");
    compare(m, &c, 1, allowed);
    c = cache_named("speca");
    c.min_run = 1;
    c.order = 3;
    for (int metric = 0; metric < FTK_N_METRICS; metric++) {
        c.metric = (ftk_cache_metric)metric;
        c.threshold = 0.01 * (1 + metric % 2);
        c.redo = metric % 3 == 0;
        compare(m, &c, metric == FTK_METRIC_L1 ? 1 : 1.5, allowed);
    }
    for (int tokens = 0; tokens <= FTK_TOKENS_RANDOM; tokens++) {
        c = cache_named("toca");
        c.tokens = (ftk_cache_tokens)tokens;
        c.fresh = 0.3;
        compare(m, &c, 1.5, allowed);
        c.name = "duca";
        compare(m, &c, 1.5, allowed);
    }
    ftk_dit_free(m);
}

/* More rows than attention takes at a time, heads and inputs that fill no block, few channels. */
static void test_shapes(void **state)
{
    (void)state;
    dm_model model = small(FTK_TYPE_F16);
    model.layers = 1;
    model.size = 12;
    model.heads = 2;
    model.dim = 20;
    model.ffn = 44;
    model.channels = model.out_channels = 1;
    ftk_dit *const m = load_dit(&model, NULL);
    ftk_cache_config c = cache_named("toca");
    c.fresh = 0.3;
    c.interval = 2;
    compare(m, &c, 2, 1e-4);
    ftk_dit_free(m);
}

/* ---- caches that amount to another one, to the bit */

static void assert_alike(const ftk_dit *m, const ftk_cache_config *a, const ftk_cache_config *b)
{
    drawn one, two;
    const ftk_diffusion_config ca = config(a, "cuda", MOST), cb = config(b, "cuda:0", 2);
    draw(m, &ca, &one);
    draw(m, &cb, &two);
    assert_memory_equal(one.x, two.x, sizeof one.x);
}

static void test_identities(void **state)
{
    (void)state;
    const dm_model model = small(FTK_TYPE_F16);
    ftk_dit *const m = load_dit(&model, NULL);
    const ftk_cache_config none = cache_named("none");
    ftk_cache_config c = cache_named("fora"), toca = cache_named("toca");
    c.interval = 1;
    assert_alike(m, &c, &none);
    c = cache_named("speca");
    c.redo = true;
    c.threshold = c.min_run = 0;
    assert_alike(m, &c, &none);
    c = cache_named("l2c");
    c.l2c_threshold = -1;
    assert_alike(m, &c, &none);
    c = cache_named("duca");
    toca.fresh = c.fresh = 0.3;
    toca.bonus = c.bonus = 0.5;
    toca.interval = c.interval = 1.2;
    assert_alike(m, &toca, &c);
    ftk_dit_free(m);
}

/* ---- what fails */

static ftk_dit *load_counting(const dm_model *model, counting *host)
{
    char path[] = "/tmp/foretoken-dit-XXXXXX";
    close(mkstemp(path));
    assert_true(dm_save(model, path));
    ftk_dit_config mc;
    ftk_dit_config_init(&mc);
    mc.host = counting_host(host);
    ftk_dit *m;
    assert_int_equal(ftk_dit_load(&m, path, &mc), FTK_OK);
    unlink(path);
    return m;
}

static ftk_err try_open(const ftk_dit *m, const char *device, int batch)
{
    const ftk_cache_config cache = cache_named("speca");
    const ftk_diffusion_config cfg = config(&cache, device, batch);
    ftk_diffusion *d;
    const ftk_err err = ftk_diffusion_open(&d, m, &cfg);
    ftk_diffusion_free(d);
    return err;
}

static void test_wrong_devices(void **state)
{
    (void)state;
    counting host = {0};
    const dm_model model = small(FTK_TYPE_F16);
    ftk_dit *const m = load_counting(&model, &host);
    assert_int_equal(try_open(m, "gpu", 1), FTK_ERR_INVALID);
    assert_string_equal(host.line, "device \"gpu\" is not known: give cpu, auto, cuda or cuda:N");
    assert_int_equal(try_open(m, "cuda:1", 1), FTK_ERR_DEVICE);
    assert_string_equal(host.line, "device cuda:1: there is no device 1, only 0");
    ftk_diffusion *d;
    const ftk_diffusion_config cfg = config(NULL, "auto", 1);
    assert_int_equal(ftk_diffusion_open(&d, m, &cfg), FTK_OK);
    assert_string_equal(ftk_diffusion_device(d), "cuda:0 emulated");
    ftk_diffusion_free(d);
    ftk_dit_free(m);
    assert_int_equal(host.live, 0);
}

static ftk_err open_on_device(counting *c, void *m)
{
    const ftk_err err = try_open(m, "cuda", 2);
    assert_int_equal(c->errors, err != FTK_OK);
    return err;
}

static void test_memory(void **state)
{
    (void)state;
    dm_model model = small(FTK_TYPE_F16);
    counting host = {0};
    ftk_dit *m = load_counting(&model, &host);
    fail_each(&host, "on a device", open_on_device, m);
    ftk_dit_free(m);
    model.size = 128; /* 4,096 tokens, of 1,024 samples */
    m = load_counting(&model, &host);
    assert_int_equal(try_open(m, "cuda", 1024), FTK_ERR_NOMEM);
    assert_non_null(strstr(host.line, "do not fit: use fewer bits, a smaller batch or the CPU"));
    ftk_dit_free(m);
    assert_int_equal(host.live, 0);
}

static void test_trouble(void **state)
{
    (void)state;
    const dm_model model = small(FTK_TYPE_F16);
    counting host = {0};
    ftk_dit *const m = load_counting(&model, &host);
    const ftk_cache_config cache = cache_named("speca");
    const ftk_diffusion_config cfg = config(&cache, "cuda", 1);
    ftk_diffusion *const d = open_diffusion(m, &cfg);
    assert_int_equal(ftk_diffusion_begin(d, labels, seeds, NULL, 1), FTK_OK);
    assert_int_equal(ftk_diffusion_step(d), FTK_OK);
    ftk_dit_gpu_of(last)->q.error = 1;
    host.errors = 0;
    assert_int_equal(ftk_diffusion_step(d), FTK_ERR_DEVICE);
    assert_string_equal(host.line, "cuda:0 emulated failed: the emulated GPU failed");
    assert_int_equal(host.errors, 1);
    assert_int_equal(ftk_diffusion_left(d), 0);
    /* it stays so */
    assert_int_equal(ftk_diffusion_begin(d, labels, seeds, NULL, 1), FTK_OK);
    assert_int_equal(ftk_diffusion_step(d), FTK_ERR_DEVICE);
    ftk_diffusion_free(d);
    ftk_dit_free(m);
    assert_int_equal(host.live, 0);
}

/* A step is one wait; where a forecast is computed again, two. */
static void test_waits(void **state)
{
    (void)state;
    const dm_model model = small(FTK_TYPE_F16);
    ftk_dit *const m = load_dit(&model, NULL);
    ftk_cache_config cache = cache_named("speca");
    cache.redo = true;
    cache.min_run = cache.threshold = 0;
    const ftk_diffusion_config cfg = config(&cache, "cuda", 2);
    ftk_diffusion *const d = open_diffusion(m, &cfg);
    assert_int_equal(ftk_diffusion_begin(d, labels, seeds, NULL, 2), FTK_OK);
    for (int i = 0; i < 4; i++) {
        const int before = ftk_dit_gpu_of(last)->q.waits;
        assert_int_equal(ftk_diffusion_step(d), FTK_OK);
        assert_int_equal(ftk_dit_gpu_of(last)->q.waits - before, i == 0 ? 1 : 2);
    }
    ftk_diffusion_free(d);
    ftk_dit_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),         cmocka_unit_test(test_caches),
        cmocka_unit_test(test_shapes),        cmocka_unit_test(test_identities),
        cmocka_unit_test(test_wrong_devices), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_trouble),       cmocka_unit_test(test_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
