/* SPDX-License-Identifier: Apache-2.0
 * Sampling: the same bits whatever the company and the threads, caches that amount to another
 * one, checks that notice, figures that add up, and whatever fails. */
#include "ditsupport.h"

#include <math.h>

#include "diffusion/dit_pass.h"
#include "diffusion/modulation.h"
#include "onebad.h"

static const char *const caches[] = {"none", "fora", "speca", "toca", "duca", "l2c"};
enum { N_CACHES = sizeof caches / sizeof caches[0], STEPS = 10, MOST = 4 };

/* Smooth, so that forecasts are accepted; with a table. */
static dm_model smooth(void)
{
    dm_model m = dm_small();
    m.damp = 1;
    m.calm = 0.3;
    m.l2c_steps = STEPS;
    return m;
}

static ftk_diffusion_config run_config(const ftk_cache_config *cache, int threads, int batch)
{
    ftk_diffusion_config c;
    ftk_diffusion_config_init(&c);
    c.threads = threads;
    c.batch = batch;
    c.steps = STEPS;
    c.cache = cache;
    return c;
}

static const int32_t labels[MOST] = {2, 0, 5 /* none */, 2};
static const uint64_t seeds[MOST] = {1, 2, 3, 4};

/* Samples [MOST] in batches of `batch`, to out. */
static void draw(const ftk_dit *m, ftk_diffusion_config cfg, float *out)
{
    const size_t n = sample_size(m);
    ftk_diffusion *const d = open_diffusion(m, &cfg);
    for (int i = 0; i < MOST; i += cfg.batch) {
        const int some = MOST - i < cfg.batch ? MOST - i : cfg.batch;
        run_diffusion(d, labels + i, seeds + i, some);
        for (int j = 0; j < some; j++)
            memcpy(out + (size_t)(i + j) * n, ftk_diffusion_sample(d, j), n * sizeof *out);
    }
    ftk_diffusion_free(d);
}

static float *room(const ftk_dit *m)
{
    float *const x = malloc(MOST * sample_size(m) * sizeof *x);
    assert_non_null(x);
    return x;
}

static bool same(const ftk_dit *m, const float *a, const float *b)
{
    return memcmp(a, b, MOST * sample_size(m) * sizeof *a) == 0;
}

/* ---- bits */

static void check_company(const ftk_dit *m, const char *name, ftk_diffusion_sampler sampler,
                          double guidance)
{
    float *const want = room(m), *const got = room(m);
    const ftk_cache_config cache = cache_named(name);
    static const int ways[][2] = {{2, 1}, {3, 1}, {1, 4}, {2, 3}, {2, 4}};
    ftk_diffusion_config cfg = run_config(&cache, 1, 1);
    cfg.sampler = sampler;
    cfg.guidance = guidance;
    draw(m, cfg, want);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        cfg.threads = ways[i][0];
        cfg.batch = ways[i][1];
        memset(got, 0xff, MOST * sample_size(m) * sizeof *got);
        draw(m, cfg, got);
        if (!same(m, want, got))
            fail_msg("%s: %d threads, %d at once: other bits", name, cfg.threads, cfg.batch);
    }
    free(want);
    free(got);
}

static void test_company(void **state)
{
    (void)state;
    const dm_model model = smooth();
    const char *levels[8];
    ftk_kernels_levels(levels);
    for (int l = 0; l < 8 && levels[l]; l++) {
        ftk_dit *const m = load_dit(&model, levels[l]);
        const bool best = l == 7 || !levels[l + 1];
        for (int i = 0; i < N_CACHES; i += best ? 1 : 2) /* none, speca and duca at all levels */
            check_company(m, caches[i], FTK_DDIM, 1.5);
        if (!best) {
            ftk_dit_free(m);
            continue;
        }
        check_company(m, "none", FTK_DDPM, 1.5);
        check_company(m, "duca", FTK_DDPM, 1); /* no second half */
        ftk_dit_free(m);
    }
}

static void test_types(void **state)
{
    (void)state;
    static const ftk_type types[] = {FTK_TYPE_F16, FTK_TYPE_BF16, FTK_TYPE_Q8_0};
    dm_model model = smooth();
    ftk_dit *m = load_dit(&model, NULL);
    float *const want = room(m), *const got = room(m);
    const ftk_diffusion_config cfg = run_config(NULL, 2, 4);
    draw(m, cfg, want);
    const size_t n = MOST * sample_size(m);
    ftk_dit_free(m);
    for (int i = 0; i < 3; i++) {
        model.type = types[i];
        m = load_dit(&model, NULL);
        draw(m, cfg, got);
        double off = 0, all = 0;
        for (size_t j = 0; j < n; j++) {
            off += ((double)got[j] - want[j]) * ((double)got[j] - want[j]);
            all += (double)want[j] * want[j];
        }
        assert_true(off > 0 && sqrt(off / all) < 0.05);
        check_company(m, "speca", FTK_DDIM, 1.5);
        ftk_dit_free(m);
    }
    free(want);
    free(got);
}

/* ---- caches that amount to another one */

static void assert_alike(const ftk_dit *m, const char *what, const ftk_cache_config *a,
                         const ftk_cache_config *b, int steps)
{
    float *const one = room(m), *const two = room(m);
    ftk_diffusion_config ca = run_config(a, 2, 4), cb = run_config(b, 2, 4);
    ca.steps = cb.steps = steps;
    draw(m, ca, one);
    draw(m, cb, two);
    if (!same(m, one, two)) fail_msg("%s: other bits", what);
    free(one);
    free(two);
}

static void test_identities(void **state)
{
    (void)state;
    dm_model model = smooth();
    ftk_dit *m = load_dit(&model, NULL);
    const ftk_cache_config none = cache_named("none");
    ftk_cache_config c = cache_named("fora");
    c.interval = 1;
    assert_alike(m, "fora of interval 1", &c, &none, STEPS);
    c = cache_named("speca");
    c.redo = true;
    c.threshold = c.min_run = 0;
    assert_alike(m, "speca that rejects all, and computes", &c, &none, STEPS);
    /* forecasts that pass are what they are without a check, and a step is not redone */
    ftk_cache_config free_run = cache_named("speca"), checked = free_run;
    free_run.threshold = checked.threshold = INFINITY;
    free_run.min_run = free_run.max_run = checked.max_run = 4;
    checked.min_run = 1;
    assert_alike(m, "speca that accepts all", &free_run, &checked, 20);
    checked.redo = true;
    assert_alike(m, "speca that has nothing to redo", &free_run, &checked, 20);
    c = cache_named("l2c");
    c.l2c_threshold = -1;
    assert_alike(m, "l2c that computes all", &c, &none, STEPS);

    ftk_cache_config toca = cache_named("toca"), duca = cache_named("duca"),
                     fora = cache_named("fora");
    toca.fresh = 0;
    toca.interval = fora.interval = 2;
    assert_alike(m, "toca without tokens", &toca, &fora, 3);
    toca.fresh = duca.fresh = 0.2;
    toca.bonus = duca.bonus = 0.5;
    toca.interval = duca.interval = 1.2; /* never more than 2 */
    for (int tokens = 0; tokens <= FTK_TOKENS_RANDOM; tokens++) {
        toca.tokens = duca.tokens = (ftk_cache_tokens)tokens;
        assert_alike(m, "duca without aggressive steps", &toca, &duca, 20);
    }
    ftk_dit_free(m);
}

/* What is not alike must differ, or the tests above say nothing. */
static void test_differences(void **state)
{
    (void)state;
    const dm_model model = smooth();
    ftk_dit *const m = load_dit(&model, NULL);
    float *const want = room(m), *const got = room(m);
    draw(m, run_config(NULL, 2, 4), want);
    for (int i = 1; i < N_CACHES; i++) {
        const ftk_cache_config c = cache_named(caches[i]);
        draw(m, run_config(&c, 2, 4), got);
        if (same(m, want, got)) fail_msg("%s changes nothing", caches[i]);
    }
    for (int tokens = 0; tokens <= FTK_TOKENS_RANDOM; tokens++) {
        ftk_cache_config c = cache_named("toca");
        c.tokens = (ftk_cache_tokens)tokens;
        c.fresh = 0.2;
        float *const last = tokens % 2 ? want : got;
        draw(m, run_config(&c, 2, 4), last);
        assert_false(same(m, want, got));
    }
    free(want);
    free(got);
    ftk_dit_free(m);
}

/* ---- single passes, by plans of ours */

typedef struct lab {
    ftk_dit *m;
    ftk_dit_pass pass;
    ftk_modulation mod;
    ftk_noise_step steps[2];
    uint8_t action[8][FTK_BRANCHES];
    int n_tokens[8];
    int32_t tokens[8 * 2 * 16];
    ftk_plan plan;
    ftk_kept kept;
    size_t n_kept;
    float input[4 * 36], output[2][8 * 36];
} lab;

static void lab_open(lab *l, const dm_model *model)
{
    *l = (lab){.m = load_dit(model, NULL)};
    const ftk_dit_shape *s = &l->m->shape;
    assert_int_equal(
        ftk_dit_pass_open(&l->pass, l->m, &l->m->host, 2, 2, 2, true, FTK_SCORES_RECEIVED, NULL),
        FTK_OK);
    ftk_schedule_make(s, 2, l->steps);
    assert_int_equal(
        ftk_modulation_open(&l->mod, l->m, &l->m->host, l->steps, 2, 2, &l->pass.team, NULL),
        FTK_OK);
    const int32_t both[] = {1, s->n_classes};
    ftk_modulation_prepare(&l->mod, both, 2, &l->pass.team);
    const size_t tokens = 2 * (size_t)s->n_layer * (size_t)s->n_tokens;
    l->n_kept = tokens * FTK_BRANCHES * 3 * (size_t)s->n_embd;
    l->kept.orders = 3;
    l->kept.features = calloc(l->n_kept, sizeof(float));
    l->kept.scores = calloc(tokens, sizeof(float));
    l->plan = (ftk_plan){.layers = s->n_layer,
                         .step = 1,
                         .coef = {1},
                         .action = l->action,
                         .n_tokens = l->n_tokens,
                         .tokens = l->tokens};
    for (size_t i = 0; i < 2 * (size_t)s->n_layer * 9; i++) l->tokens[i] = 8 - (int32_t)(i % 9);
    ftk_diffusion_noise(3, l->input, 4 * 36);
}

static void lab_close(lab *l)
{
    free(l->kept.features);
    free(l->kept.scores);
    ftk_modulation_close(&l->mod);
    ftk_dit_pass_close(&l->pass);
    ftk_dit_free(l->m);
}

/* A pass in which attention and the feed-forward part of all layers do this; returns the error
 * of a check, or 0. */
static double lab_run(lab *l, ftk_branch_action attention, ftk_branch_action mlp, bool keep,
                      bool verify)
{
    ftk_dit_seq seqs[2];
    for (int i = 0; i < l->m->shape.n_layer; i++) {
        l->action[i][FTK_ATTENTION] = (uint8_t)attention;
        l->action[i][FTK_MLP] = (uint8_t)mlp;
        l->n_tokens[i] = mlp == FTK_TOKENS ? 9 : 0;
    }
    l->plan.keep = keep ? 0 : -1;
    l->plan.verify = verify;
    for (int h = 0; h < 2; h++)
        seqs[h] = (ftk_dit_seq){.input = l->input,
                                .output = l->output[h],
                                .modulation =
                                    ftk_modulation_at(&l->mod, h ? l->m->shape.n_classes : 1, 1),
                                .plan = &l->plan,
                                .kept = &l->kept,
                                .half = h};
    ftk_dit_pass_run(&l->pass, seqs, 2);
    return verify ? l->pass.errors[0] : 0;
}

static void test_actions(void **state)
{
    (void)state;
    const dm_model model = dm_small();
    lab l;
    lab_open(&l, &model);
    float want[2][8 * 36];
    lab_run(&l, FTK_COMPUTE, FTK_COMPUTE, true, false);
    memcpy(want, l.output, sizeof want);
    lab_run(&l, FTK_REUSE, FTK_REUSE, false, false);
    assert_memory_equal(want, l.output, sizeof want); /* of the same input */
    lab_run(&l, FTK_FORECAST, FTK_FORECAST, false, false);
    assert_memory_equal(want, l.output, sizeof want); /* of order 0 */
    for (size_t i = 0; i < l.n_kept; i++) l.kept.features[i] = -1;
    lab_run(&l, FTK_COMPUTE, FTK_TOKENS, true, false);
    assert_memory_equal(want, l.output, sizeof want); /* all tokens, backwards */
    for (int i = 0; i < 4; i++) l.n_tokens[i] = 9;
    lab_run(&l, FTK_REUSE, FTK_REUSE, false, false);
    assert_memory_equal(want, l.output, sizeof want); /* they were kept */
    lab_close(&l);
}

/* Attention that tokens received: all of it is given, one part by each token. */
static void test_received(void **state)
{
    (void)state;
    const dm_model model = dm_small();
    lab l;
    lab_open(&l, &model);
    lab_run(&l, FTK_COMPUTE, FTK_COMPUTE, true, false);
    for (int i = 0; i < 2 * 4; i++) {
        double sum = 0;
        for (int t = 0; t < 9; t++) {
            assert_true(l.kept.scores[i * 9 + t] > 0);
            sum += l.kept.scores[i * 9 + t];
        }
        assert_true(fabs(sum - 9) < 1e-4);
    }
    lab_close(&l);
}

/* A forecast that is right has no error; one number that is wrong makes one, in any layer. */
static void test_checks(void **state)
{
    (void)state;
    const dm_model model = dm_small();
    lab l;
    lab_open(&l, &model);
    for (int metric = 0; metric < FTK_N_METRICS; metric++) {
        l.pass.metric = (ftk_cache_metric)metric;
        lab_run(&l, FTK_COMPUTE, FTK_COMPUTE, true, false);
        const double right = lab_run(&l, FTK_FORECAST, FTK_FORECAST, false, true);
        assert_true(fabs(right) < 1e-7); /* the cosine's is rounded */
        float *const kept[] = {l.kept.features, l.kept.features + l.n_kept - 96};
        for (int i = 0; i < 2; i++) {
            const float before = *kept[i];
            *kept[i] += 100;
            const double wrong = lab_run(&l, FTK_FORECAST, FTK_FORECAST, false, true);
            assert_true(wrong > 1e-5);
            *kept[i] = NAN;
            assert_false(isfinite(lab_run(&l, FTK_FORECAST, FTK_FORECAST, false, true)));
            *kept[i] = before;
        }
    }
    lab_close(&l);
}

/* ---- figures */

static void test_work(void **state)
{
    (void)state;
    const dm_model model = smooth();
    ftk_dit *const m = load_dit(&model, NULL);
    for (int i = 0; i < N_CACHES + 1; i++) {
        ftk_cache_config c = cache_named(i < N_CACHES ? caches[i] : "speca");
        c.redo = i == N_CACHES;
        c.threshold = 0.003; /* for speca: some are rejected */
        const ftk_diffusion_config cfg = run_config(&c, 2, 3);
        ftk_diffusion *const d = open_diffusion(m, &cfg);
        run_diffusion(d, labels, seeds, 3);
        ftk_diffusion_stats t;
        ftk_diffusion_get_stats(d, &t);
        assert_int_equal(t.steps, 3 * STEPS);
        assert_true(t.bytes > 0 && t.other > 0);
        assert_true(fabs(t.counted - t.measured) < 1e-9 * t.plain);
        assert_true(i == 0 ? t.counted == t.plain : t.counted < 1.2 * t.plain);
        const double redone = c.redo ? (double)t.rejected : 0;
        const double sum = t.computed + t.partial + t.reused + t.forecast + t.skipped;
        assert_true(fabs(sum - redone - 3 * STEPS) < 1e-9);
        assert_true(t.rejected <= t.verified && (double)t.verified <= t.forecast);
        assert_true((strcmp(c.name, "speca") == 0) == (t.verified > 0));
        ftk_diffusion_free(d);
    }
    ftk_dit_free(m);
}

static int full_steps(const ftk_dit *m, int32_t label)
{
    ftk_cache_config c = cache_named("speca");
    c.threshold = 0.02;
    ftk_diffusion_config cfg = run_config(&c, 2, 1);
    cfg.steps = 50;
    ftk_diffusion *const d = open_diffusion(m, &cfg);
    run_diffusion(d, &label, seeds, 1);
    ftk_diffusion_stats t;
    ftk_diffusion_get_stats(d, &t);
    ftk_diffusion_free(d);
    return (int)t.computed;
}

/* A model whose features jump from step to step is computed more often than one whose do not. */
static void test_adaptive(void **state)
{
    (void)state;
    dm_model model = smooth();
    ftk_dit *const easy = load_dit(&model, NULL);
    model.damp = 0;
    model.calm = 1;
    ftk_dit *const hard = load_dit(&model, NULL);
    const int few = full_steps(easy, 1), many = full_steps(hard, 1);
    if (few >= many) fail_msg("%d full steps of a smooth model, %d of one that jumps", few, many);
    ftk_dit_free(easy);
    ftk_dit_free(hard);
}

/* In one batch each sample has steps of its own, those that it has alone. */
static void test_each_its_own(void **state)
{
    (void)state;
    const dm_model model = smooth();
    ftk_dit *const m = load_dit(&model, NULL);
    bool differ = false;
    for (double threshold = 0.001; threshold < 0.2; threshold *= 1.5) {
        ftk_cache_config c = cache_named("speca");
        c.threshold = threshold;
        c.min_run = 1;
        ftk_diffusion_config cfg = run_config(&c, 1, MOST);
        cfg.steps = 30;
        ftk_diffusion *const all = open_diffusion(m, &cfg), *const alone = open_diffusion(m, &cfg);
        run_diffusion(all, labels, seeds, MOST);
        for (int i = 0; i < MOST; i++) {
            run_diffusion(alone, labels + i, seeds + i, 1);
            assert_string_equal(ftk_diffusion_trace(all, i), ftk_diffusion_trace(alone, 0));
            differ |= strcmp(ftk_diffusion_trace(all, i), ftk_diffusion_trace(all, 0)) != 0;
        }
        ftk_diffusion_free(all);
        ftk_diffusion_free(alone);
    }
    assert_true(differ);
    ftk_dit_free(m);
}

/* ---- what fails */

static void test_settings(void **state)
{
    (void)state;
    const dm_model model = dm_small();
    char path[] = "/tmp/foretoken-dit-XXXXXX";
    close(mkstemp(path));
    assert_true(dm_save(&model, path));
    counting host = {0};
    ftk_dit_config mc;
    ftk_dit_config_init(&mc);
    mc.host = counting_host(&host);
    ftk_dit *m;
    assert_int_equal(ftk_dit_load(&m, path, &mc), FTK_OK);
    unlink(path);
    const struct {
        const char *line, *cache;
        size_t field; /* of the cache's, or with `run` of the run's config */
        bool run, real;
        double value;
    } cases[] = {
#define RUN(f, v)      NULL, offsetof(ftk_diffusion_config, f), true, false, v
#define REAL(c, f, v)  c, offsetof(ftk_cache_config, f), false, true, v
#define WHOLE(c, f, v) c, offsetof(ftk_cache_config, f), false, false, v
        {"threads is -1: it must be 0 to 256", RUN(threads, -1)},
        {"batch is 0: it must be 1 to 1024", RUN(batch, 0)},
        {"batch is 1025: it must be 1 to 1024", RUN(batch, 1025)},
        {"steps is 0: this model takes 1 to 1000", RUN(steps, 0)},
        {"steps is 1001: this model takes 1 to 1000", RUN(steps, 1001)},
        {"the sampler is neither DDIM nor DDPM", RUN(sampler, 2)},
        {"cache fora: interval is 0: it must be 1 to 16384", REAL("fora", interval, 0)},
        {"cache toca: interval is inf: it must be 1 to 1000", REAL("toca", interval, INFINITY)},
        {"cache speca: order is 7: it must be 0 to 6", WHOLE("speca", order, 7)},
        {"cache speca: order is -2: it must be 0 to 6", WHOLE("speca", order, -2)},
        {"cache speca: threshold is -1: it must be 0 to inf", REAL("speca", threshold, -1)},
        {"cache speca: decay is 2: it must be 0 to 1", REAL("speca", decay, 2)},
        {"cache speca: floor is -1: it must be 0 to inf", REAL("speca", floor, -1)},
        {"cache speca: min-run is -2: it must be 0 to 16384", WHOLE("speca", min_run, -2)},
        {"cache speca: max-run is 0: it must be 1 to 16384", WHOLE("speca", max_run, 0)},
        {"cache speca: its metric or its tokens are out of range", WHOLE("speca", metric, 99)},
        {"cache duca: its metric or its tokens are out of range", WHOLE("duca", tokens, 3)},
        {"cache duca: fresh is 1.5: it must be 0 to 1", REAL("duca", fresh, 1.5)},
        {"cache toca: step-weight is 11: it must be -10 to 10", REAL("toca", step_weight, 11)},
        {"cache toca: layer-weight is 11: it must be -10 to 10", REAL("toca", layer_weight, 11)},
        {"cache toca: stale is -1: it must be 0 to 1000", REAL("toca", stale, -1)},
        {"cache toca: bonus is -1: it must be 0 to 1000", REAL("toca", bonus, -1)},
        {"there is no cache \"tea\": it is none, fora, speca, toca, duca or l2c",
         WHOLE("tea", order, 1)},
        {"the model has no Learning-to-Cache table: train one, or take another cache",
         WHOLE("l2c", order, 1)},
#undef RUN
#undef REAL
#undef WHOLE
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ftk_cache_config c = cache_named(cases[i].cache ? cases[i].cache : "none");
        ftk_diffusion_config cfg = run_config(&c, 1, 1);
        char *const at = (cases[i].run ? (char *)&cfg : (char *)&c) + cases[i].field;
        if (cases[i].real)
            memcpy(at, &cases[i].value, sizeof(double));
        else
            memcpy(at, &(int){(int)cases[i].value}, sizeof(int));
        const int before = host.live;
        host.errors = 0;
        ftk_diffusion *d = (ftk_diffusion *)&host;
        assert_int_equal(ftk_diffusion_open(&d, m, &cfg), FTK_ERR_INVALID);
        assert_null(d);
        assert_string_equal(host.line, cases[i].line);
        assert_int_equal(host.errors, 1);
        assert_int_equal(host.live, before);
    }
    ftk_diffusion_config cfg = run_config(NULL, 1, 2);
    cfg.guidance = NAN;
    ftk_diffusion *d;
    assert_int_equal(ftk_diffusion_open(&d, m, &cfg), FTK_ERR_INVALID);
    cfg.guidance = 1;
    assert_int_equal(ftk_diffusion_open(&d, m, &cfg), FTK_OK);
    assert_int_equal(ftk_diffusion_step(d), FTK_ERR_INVALID);
    assert_int_equal(ftk_diffusion_begin(d, labels, seeds, NULL, 3), FTK_ERR_INVALID);
    assert_int_equal(ftk_diffusion_begin(d, (int32_t[]){6}, seeds, NULL, 1), FTK_ERR_INVALID);
    assert_string_equal(host.line, "label 6 is out of range: give 0 to 4, or 5 for none");
    assert_int_equal(ftk_diffusion_begin(d, (int32_t[]){-1}, seeds, NULL, 1), FTK_ERR_INVALID);
    assert_null(ftk_diffusion_sample(d, 0));
    ftk_diffusion_free(d);
    ftk_dit_free(m);
    assert_int_equal(host.live, 0);
}

static void test_not_finite(void **state)
{
    (void)state;
    dm_model model = dm_small();
    model.calm = 1e30;
    ftk_dit *const m = load_dit(&model, NULL);
    const ftk_diffusion_config cfg = run_config(NULL, 1, 1);
    ftk_diffusion *const d = open_diffusion(m, &cfg);
    assert_int_equal(ftk_diffusion_begin(d, labels, seeds, NULL, 1), FTK_OK);
    assert_int_equal(ftk_diffusion_step(d), FTK_ERR_NUMERIC);
    assert_int_equal(ftk_diffusion_left(d), 0);
    ftk_diffusion_free(d);
    ftk_dit_free(m);
}

typedef struct file_and_cache {
    const char *path, *cache;
} file_and_cache;

/* Loads, opens, runs a step. */
static ftk_err try_all(counting *c, void *with)
{
    const file_and_cache *const f = with;
    ftk_dit_config mc;
    ftk_dit_config_init(&mc);
    mc.host = counting_host(c);
    ftk_dit *m;
    ftk_err err = ftk_dit_load(&m, f->path, &mc);
    assert_int_equal(c->errors, err != FTK_OK);
    if (err != FTK_OK) return err;
    const ftk_cache_config cc = cache_named(f->cache);
    const ftk_diffusion_config dc = run_config(&cc, 2, 2);
    ftk_diffusion *d;
    err = ftk_diffusion_open(&d, m, &dc);
    assert_int_equal(c->errors, err != FTK_OK);
    if (err == FTK_OK) {
        const int before = c->live;
        assert_int_equal(ftk_diffusion_begin(d, labels, seeds, NULL, 2), FTK_OK);
        assert_int_equal(ftk_diffusion_step(d), FTK_OK);
        assert_int_equal(c->live, before); /* nothing is taken on the way */
    }
    ftk_diffusion_free(d);
    ftk_dit_free(m);
    return err;
}

static void test_memory(void **state)
{
    (void)state;
    const dm_model model = smooth();
    char path[] = "/tmp/foretoken-dit-XXXXXX";
    close(mkstemp(path));
    assert_true(dm_save(&model, path));
    for (int i = 0; i < N_CACHES; i++) {
        counting c = {0};
        assert_true(fail_each(&c, caches[i], try_all, &(file_and_cache){path, caches[i]}) > 20);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_company),    cmocka_unit_test(test_types),
        cmocka_unit_test(test_identities), cmocka_unit_test(test_differences),
        cmocka_unit_test(test_actions),    cmocka_unit_test(test_received),
        cmocka_unit_test(test_checks),     cmocka_unit_test(test_work),
        cmocka_unit_test(test_adaptive),   cmocka_unit_test(test_each_its_own),
        cmocka_unit_test(test_settings),   cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
