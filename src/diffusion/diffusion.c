/* SPDX-License-Identifier: Apache-2.0
 * Samples: their caches, the steps, what guidance and sampler make of the model's output. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/cpus.h"
#include "base/floats.h"
#include "base/mem.h"
#include "base/meter.h"
#include "dit_device.h"
#include "modulation.h"

enum { TRACE_WORD = 5 }; /* "f/T", a space, and room for the end */

typedef struct sample {
    int32_t label;
    uint64_t seed;
    float *x;         /* [channels][side][side] */
    float *output[2]; /* [out_channels][side][side], with the label and without */
    void *state;      /* the policy's */
    ftk_plan plan;
    ftk_kept kept;
    char *trace; /* [steps * TRACE_WORD] */
    size_t trace_n;
} sample;

struct ftk_diffusion {
    const ftk_dit *m;
    ftk_meter meter;
    ftk_host host; /* counts */
    ftk_diffusion_config cfg;
    const ftk_cache_ops *ops;
    ftk_cache_env env;
    ftk_noise_step *steps;  /* [cfg.steps] */
    ftk_dit_device *device; /* NULL: passes run on the CPU */
    ftk_modulation modulation;
    ftk_dit_pass pass;
    ftk_dit_seq *seqs; /* [batch * halves] */
    int32_t *labels;   /* [batch + 1] */
    float *fresh;      /* [elements], DDPM's noise */
    sample *samples;   /* [batch] */
    int n, left;
    ftk_diffusion_stats stats;
};

static size_t elements(const ftk_dit_shape *s)
{
    return (size_t)s->channels * (size_t)s->side * (size_t)s->side;
}

/* ---- opening */

void ftk_diffusion_config_fill(ftk_diffusion_config *cfg, size_t size)
{
    const ftk_diffusion_config own = {.batch = 1, .steps = 50, .guidance = 1.5};
    ftk_config_give(cfg, size, &own, sizeof own);
}

static ftk_err check_config(const ftk_diffusion *d)
{
    const ftk_diffusion_config *c = &d->cfg;
    const ftk_host *h = &d->m->host;
    const int most = d->m->shape.train_steps;
    if (c->threads < 0 || c->threads > FTK_MAX_THREADS)
        return ftk_fail(h, FTK_ERR_INVALID, "threads is %d: it must be 0 to %d", c->threads,
                        FTK_MAX_THREADS);
    if (c->batch < 1 || c->batch > FTK_MAX_SAMPLES)
        return ftk_fail(h, FTK_ERR_INVALID, "batch is %d: it must be 1 to %d", c->batch,
                        FTK_MAX_SAMPLES);
    if (c->steps < 1 || c->steps > most)
        return ftk_fail(h, FTK_ERR_INVALID, "steps is %d: this model takes 1 to %d", c->steps,
                        most);
    if (c->sampler != FTK_DDIM && c->sampler != FTK_DDPM)
        return ftk_fail(h, FTK_ERR_INVALID, "the sampler is neither DDIM nor DDPM");
    if (!(c->guidance >= 0 && c->guidance <= 1000))
        return ftk_fail(h, FTK_ERR_INVALID, "guidance is %g: it must be 0 to 1000", c->guidance);
    return FTK_OK;
}

static ftk_err take_cache(ftk_diffusion *d)
{
    const ftk_host *h = &d->m->host;
    ftk_cache_config_init(&d->env.cfg);
    if (d->cfg.cache) {
        const ftk_err err =
            ftk_config_take(&d->env.cfg, sizeof d->env.cfg, d->cfg.cache, "cache", h);
        if (err != FTK_OK) return err;
    }
    const ftk_cache_config *c = &d->env.cfg;
    d->cfg.cache = NULL;
    d->ops = ftk_cache_find(c->name);
    if (!d->ops)
        return ftk_fail(h, FTK_ERR_INVALID,
                        "there is no cache \"%s\": it is none, fora, speca, toca, duca or l2c",
                        c->name ? c->name : "");
    if (c->metric < 0 || c->metric >= FTK_N_METRICS || c->tokens < 0 ||
        c->tokens > FTK_TOKENS_RANDOM)
        return ftk_fail(h, FTK_ERR_INVALID, "cache %s: its metric or its tokens are out of range",
                        c->name);
    d->env.cfg.name = d->ops->name; /* the caller's may go */
    d->env.shape = &d->m->shape;
    d->env.steps = d->cfg.steps;
    d->env.halves = d->cfg.guidance == 1 ? 1 : 2;
    d->env.host = h;
    return d->ops->check(&d->env, d->m);
}

static ftk_kept_scores scores_of(const ftk_diffusion *d)
{
    return d->ops->scores ? d->ops->scores(&d->env) : FTK_SCORES_NONE;
}

static void *take(const ftk_diffusion *d, size_t n, size_t size, bool *ok)
{
    void *const p = ftk_alloc_raw(&d->host, n, size);
    *ok &= p != NULL;
    return p;
}

/* Memory that only passes read and write. */
static void *take_there(const ftk_diffusion *d, size_t n, size_t size, bool *ok)
{
    if (!d->device) return take(d, n, size, ok);
    void *const p = d->device->ops->mem_alloc(d->device, n * size);
    *ok &= p != NULL;
    return p;
}

static void release_there(const ftk_diffusion *d, void *p)
{
    if (d->device)
        d->device->ops->mem_free(d->device, p);
    else
        ftk_release(&d->host, p);
}

static bool open_sample(ftk_diffusion *d, sample *s)
{
    const ftk_dit_shape *shape = &d->m->shape;
    const size_t cells = (size_t)shape->side * (size_t)shape->side;
    const size_t halves = (size_t)d->env.halves, layers = (size_t)shape->n_layer;
    const size_t n = (size_t)shape->n_tokens, c = (size_t)shape->n_embd;
    bool ok = true;
    s->x = take(d, elements(shape), sizeof(float), &ok);
    for (size_t h = 0; h < halves; h++)
        s->output[h] = take(d, (size_t)shape->out_channels * cells, sizeof(float), &ok);
    s->state = take(d, d->ops->state_bytes(&d->env), 1, &ok);
    s->plan.action = take(d, layers, sizeof *s->plan.action, &ok);
    s->plan.n_tokens = take(d, layers, sizeof *s->plan.n_tokens, &ok);
    s->trace = take(d, (size_t)d->cfg.steps + 1, TRACE_WORD, &ok);
    s->kept.orders = d->ops->orders(&d->env);
    if (s->kept.orders > 0)
        s->kept.features = take_there(d, halves * layers * FTK_BRANCHES * n,
                                      (size_t)s->kept.orders * c * sizeof(float), &ok);
    if (d->ops->scores) {
        s->plan.tokens = take(d, layers * halves, n * sizeof *s->plan.tokens, &ok);
        s->kept.scores = take(d, halves * layers, n * sizeof(float), &ok);
    }
    if (d->ops->keeps_end) s->kept.end = take_there(d, halves * n, c * sizeof(float), &ok);
    return ok;
}

static void close_sample(const ftk_diffusion *d, sample *s)
{
    void *const all[] = {s->x,           s->output[0],   s->output[1],
                         s->state,       s->plan.action, s->plan.n_tokens,
                         s->plan.tokens, s->trace,       s->kept.scores};
    release_there(d, s->kept.features);
    release_there(d, s->kept.end);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ftk_release(&d->host, all[i]);
}

/* "auto" ends up with none where there is none. */
static ftk_err open_device(ftk_diffusion *d)
{
    const char *const name = d->cfg.device;
    d->cfg.device = NULL; /* the caller's may go */
    if (!name || strcmp(name, "cpu") == 0) return FTK_OK;
    const bool any = strcmp(name, "auto") == 0;
    const ftk_dit_device_config dc = {.name = any ? "cuda" : name,
                                      .max_seqs = d->cfg.batch * d->env.halves,
                                      .steps = d->cfg.steps,
                                      .checks = d->ops->judge != NULL,
                                      .scores = scores_of(d)};
    char why[400];
    const ftk_err err = ftk_dit_device_open(&d->device, d->m, &dc, why, sizeof why);
    if (err == FTK_OK) return FTK_OK;
    if (!any) return ftk_fail(&d->host, err, "%s", why);
    ftk_log(&d->host, FTK_LOG_WARN, "%s; the CPU is used", why);
    return FTK_OK;
}

static ftk_err open_parts(ftk_diffusion *d)
{
    const ftk_diffusion_config *c = &d->cfg;
    const int halves = d->env.halves, threads = c->threads > 0 ? c->threads : ftk_cpus();
    const size_t batch = (size_t)c->batch;
    bool ok = true;
    d->steps = take(d, (size_t)c->steps, sizeof *d->steps, &ok);
    d->seqs = take(d, batch * (size_t)halves, sizeof *d->seqs, &ok);
    d->labels = take(d, batch + 1, sizeof *d->labels, &ok);
    d->fresh = take(d, elements(&d->m->shape), sizeof *d->fresh, &ok);
    d->samples = ftk_alloc(&d->host, batch, sizeof *d->samples);
    ok = ok && d->samples;
    for (int i = 0; ok && i < c->batch; i++) ok = open_sample(d, &d->samples[i]);
    if (!ok)
        return ftk_fail(&d->host, FTK_ERR_NOMEM,
                        "no memory for %d samples with the cache %s: use a smaller batch", c->batch,
                        d->ops->name);
    ftk_schedule_make(&d->m->shape, c->steps, d->steps);
    ftk_err err = ftk_dit_pass_open(&d->pass, d->m, &d->host, threads, c->batch * halves, halves,
                                    d->ops->judge != NULL, scores_of(d), d->device);
    if (err != FTK_OK) return err;
    d->pass.metric = d->env.cfg.metric;
    return ftk_modulation_open(&d->modulation, d->m, &d->host, d->steps, c->steps,
                               c->batch + (halves > 1), &d->pass.team, d->device);
}

static ftk_err open_diffusion(ftk_diffusion *d)
{
    ftk_err err = check_config(d);
    if (err == FTK_OK) err = take_cache(d);
    if (err == FTK_OK) err = open_device(d);
    return err == FTK_OK ? open_parts(d) : err;
}

ftk_err ftk_diffusion_open(ftk_diffusion **out, const ftk_dit *m, const ftk_diffusion_config *cfg)
{
    *out = NULL;
    const ftk_host *h = &m->host;
    ftk_diffusion_config own;
    ftk_diffusion_config_init(&own);
    ftk_err err = ftk_config_take(&own, sizeof own, cfg, "diffusion", h);
    if (err != FTK_OK) return err;
    ftk_diffusion *d = ftk_alloc(h, 1, sizeof *d);
    if (!d) return ftk_fail(h, FTK_ERR_NOMEM, "no memory for a sampler");
    d->m = m;
    d->meter.under = h;
    d->host = ftk_meter_host(&d->meter, h);
    d->cfg = own;
    const ftk_floats floats = ftk_floats_enter();
    err = open_diffusion(d);
    ftk_floats_leave(&floats);
    if (err != FTK_OK) {
        ftk_diffusion_free(d);
        return err;
    }
    *out = d;
    return FTK_OK;
}

void ftk_diffusion_free(ftk_diffusion *d)
{
    if (!d) return;
    ftk_modulation_close(&d->modulation);
    ftk_dit_pass_close(&d->pass);
    for (int i = 0; d->samples && i < d->cfg.batch; i++) close_sample(d, &d->samples[i]);
    void *const all[] = {d->steps, d->seqs, d->labels, d->fresh, d->samples};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ftk_release(&d->host, all[i]);
    if (d->device) d->device->ops->free(d->device);
    ftk_release(&d->m->host, d);
}

/* ---- beginning */

void ftk_diffusion_noise(uint64_t seed, float *out, size_t n)
{
    const ftk_floats floats = ftk_floats_enter();
    ftk_normal_numbers(seed, 0, out, n);
    ftk_floats_leave(&floats);
}

static void begin(ftk_diffusion *d, const int32_t *labels, const uint64_t *seeds,
                  const float *start, int n)
{
    const size_t size = elements(&d->m->shape);
    const int32_t nobody = d->m->shape.n_classes;
    int n_labels = 0;
    if (d->env.halves > 1) d->labels[n_labels++] = nobody;
    for (int i = 0; i < n; i++) {
        sample *const s = &d->samples[i];
        s->label = d->labels[n_labels++] = labels[i];
        s->seed = seeds[i];
        s->trace_n = 0;
        s->trace[0] = 0;
        d->ops->start(&d->env, s->state, s->seed);
        if (start)
            memcpy(s->x, start + (size_t)i * size, size * sizeof *s->x);
        else
            ftk_normal_numbers(s->seed, 0, s->x, size);
    }
    ftk_modulation_prepare(&d->modulation, d->labels, n_labels, &d->pass.team);
    d->n = n;
    d->left = d->cfg.steps;
}

ftk_err ftk_diffusion_begin(ftk_diffusion *d, const int32_t *labels, const uint64_t *seeds,
                            const float *start, int n)
{
    const ftk_host *h = &d->m->host;
    const int none = d->m->shape.n_classes;
    if (n < 1 || n > d->cfg.batch)
        return ftk_fail(h, FTK_ERR_INVALID, "%d samples were asked for: give 1 to %d", n,
                        d->cfg.batch);
    for (int i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] > none)
            return ftk_fail(h, FTK_ERR_INVALID,
                            "label %d is out of range: give 0 to %d, or %d for none", labels[i],
                            none - 1, none);
    const ftk_floats floats = ftk_floats_enter();
    begin(d, labels, seeds, start, n);
    ftk_floats_leave(&floats);
    return FTK_OK;
}

/* ---- a step */

/* The guidance halves of samples[which[i]], by their plans. */
static void run_pass(ftk_diffusion *d, int index, const bool *which)
{
    int n = 0;
    for (int i = 0; i < d->n; i++) {
        sample *const s = &d->samples[i];
        if (which && !which[i]) continue;
        for (int h = 0; h < d->env.halves; h++) {
            const int32_t label = h == 0 ? s->label : d->m->shape.n_classes;
            d->seqs[n++] = (ftk_dit_seq){
                .input = s->x,
                .output = s->output[h],
                .modulation = ftk_modulation_at(&d->modulation, label, index),
                .plan = &s->plan,
                .kept = &s->kept,
                .half = h,
            };
        }
    }
    ftk_dit_pass_run(&d->pass, d->seqs, n);
}

/* Which kind of step a plan is. */
static void account(ftk_diffusion *d, const ftk_plan *plan)
{
    ftk_diffusion_stats *const t = &d->stats;
    const int n = FTK_BRANCHES * d->m->shape.n_layer;
    int of[FTK_TOKENS + 1] = {0};
    for (int i = 0; i < n; i++) of[plan->action[i / FTK_BRANCHES][i % FTK_BRANCHES]]++;
    if (plan->layers < d->m->shape.n_layer) {
        t->skipped++;
    } else if (of[FTK_TOKENS] > 0) {
        t->partial++;
    } else {
        t->computed += (double)of[FTK_COMPUTE] / n;
        t->reused += (double)of[FTK_REUSE] / n;
        t->forecast += (double)of[FTK_FORECAST] / n;
    }
    t->verified += plan->verify;
    t->counted += ftk_plan_work(&d->env, plan);
}

static void trace(sample *s)
{
    if (s->trace_n > 0) s->trace[s->trace_n++] = ' ';
    const size_t n = strlen(s->plan.kind);
    memcpy(s->trace + s->trace_n, s->plan.kind, n + 1);
    s->trace_n += n;
}

/* Has policies judge the forecasts that were checked; steps that are to be computed again are. */
static void check_forecasts(ftk_diffusion *d, int index)
{
    bool again[FTK_MAX_SAMPLES];
    int n = 0;
    for (int i = 0; i < d->n; i++) {
        sample *const s = &d->samples[i];
        again[i] = false;
        if (!s->plan.verify) continue;
        if (d->ops->judge(&d->env, s->state, index, d->pass.errors[i], &s->plan))
            d->stats.rejected++;
        again[i] = s->plan.full;
        n += again[i];
    }
    if (n == 0) return;
    run_pass(d, index, again);
    for (int i = 0; i < d->n; i++) {
        if (again[i]) account(d, &d->samples[i].plan);
    }
}

/* The noise in s->output[0]: guidance pushes the guided channels away from what no label would
 * give. */
static void guide(const ftk_diffusion *d, sample *s)
{
    const ftk_dit_shape *shape = &d->m->shape;
    const size_t n = (size_t)shape->guided_channels * (size_t)shape->side * (size_t)shape->side;
    const float w = (float)d->cfg.guidance;
    float *const with = s->output[0];
    const float *const without = s->output[1];
    for (size_t i = 0; d->env.halves > 1 && i < n; i++)
        with[i] = without[i] + w * (with[i] - without[i]);
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static ftk_err denoise(ftk_diffusion *d, sample *s, int index)
{
    const ftk_noise_step *step = &d->steps[index];
    const size_t n = elements(&d->m->shape);
    guide(d, s);
    if (d->cfg.sampler == FTK_DDIM) {
        ftk_ddim(step, n, s->output[0], s->x);
    } else {
        const float *const spread = d->m->shape.learned_variance ? s->output[0] + n : NULL;
        if (index > 0) ftk_normal_numbers(s->seed, 1 + (uint32_t)index, d->fresh, n);
        ftk_ddpm(step, n, s->output[0], spread, index > 0 ? d->fresh : NULL, s->x);
    }
    if (all_finite(s->x, n)) return FTK_OK;
    return ftk_fail(&d->m->host, FTK_ERR_NUMERIC,
                    "values that are not finite came out at step index %d: the model, or the cache "
                    "%s, does not hold",
                    index, d->ops->name);
}

static ftk_err device_trouble(const ftk_diffusion *d)
{
    const char *const trouble = d->device ? d->device->ops->trouble(d->device) : NULL;
    return trouble ? ftk_fail(&d->m->host, FTK_ERR_DEVICE, "%s", trouble) : FTK_OK;
}

static ftk_err step(ftk_diffusion *d, int index)
{
    for (int i = 0; i < d->n; i++) {
        sample *const s = &d->samples[i];
        d->ops->plan(&d->env, s->state, index, s->kept.scores, &s->plan);
        account(d, &s->plan);
        d->stats.steps++;
        d->stats.plain += ftk_plan_work(&d->env, NULL);
    }
    run_pass(d, index, NULL);
    ftk_err err = device_trouble(d);
    if (err == FTK_OK && d->ops->judge) {
        check_forecasts(d, index);
        err = device_trouble(d);
    }
    for (int i = 0; i < d->n && err == FTK_OK; i++) {
        trace(&d->samples[i]);
        err = denoise(d, &d->samples[i], index);
    }
    return err;
}

ftk_err ftk_diffusion_step(ftk_diffusion *d)
{
    if (d->left == 0)
        return ftk_fail(&d->m->host, FTK_ERR_INVALID, "no step is left: begin other samples first");
    const ftk_floats floats = ftk_floats_enter();
    const ftk_err err = step(d, d->left - 1);
    ftk_floats_leave(&floats);
    d->left = err == FTK_OK ? d->left - 1 : 0;
    return err;
}

/* ---- looking */

int ftk_diffusion_left(const ftk_diffusion *d)
{
    return d->left;
}

const float *ftk_diffusion_sample(const ftk_diffusion *d, int i)
{
    return i >= 0 && i < d->n ? d->samples[i].x : NULL;
}

const char *ftk_diffusion_trace(const ftk_diffusion *d, int i)
{
    return i >= 0 && i < d->n ? d->samples[i].trace : "";
}

const char *ftk_diffusion_device(const ftk_diffusion *d)
{
    return d->device ? d->device->ops->name(d->device) : "cpu";
}

void ftk_diffusion_report(const ftk_diffusion *d, ftk_diffusion_stats *stats, size_t size)
{
    ftk_diffusion_stats own = d->stats;
    own.measured = d->pass.work;
    own.other = d->pass.other + d->modulation.work;
    own.bytes = d->meter.bytes;
    ftk_config_report(stats, size, &own, sizeof own);
}
