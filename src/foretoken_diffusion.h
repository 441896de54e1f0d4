/* SPDX-License-Identifier: Apache-2.0
 *
 * Foretoken's second family: class-conditional diffusion transformers (DiT, arXiv 2212.09748),
 * and caches that leave out a part of their work. It stands in a header of its own because it
 * shares the kernels with the language models and none of their promises: every cache but "none"
 * is LOSSY, the pictures it gives are others than the model's own. The rules of foretoken.h hold
 * here too.
 *
 *     example: picture
 *
 *     ftk_dit_config mc;
 *     ftk_dit_config_init(&mc);
 *     ftk_dit *model = NULL;
 *     ftk_err err = ftk_dit_load(&model, "dit.gguf", &mc);
 *
 *     ftk_diffusion_config dc;
 *     ftk_diffusion_config_init(&dc);
 *     dc.steps = 20;
 *     ftk_diffusion *d = NULL;
 *     if (err == FTK_OK) err = ftk_diffusion_open(&d, model, &dc);
 *
 *     const int32_t label = 0;
 *     const uint64_t seed = 7;
 *     if (err == FTK_OK) err = ftk_diffusion_begin(d, &label, &seed, NULL, 1);
 *     while (err == FTK_OK && ftk_diffusion_left(d) > 0) err = ftk_diffusion_step(d);
 *     // ftk_diffusion_sample(d, 0): channels * side * side floats
 *
 *     ftk_diffusion_free(d);
 *     ftk_dit_free(model);
 *
 *     end of example */
#ifndef FORETOKEN_DIFFUSION_H
#define FORETOKEN_DIFFUSION_H

#include "foretoken.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ model */

typedef struct ftk_dit ftk_dit;

typedef struct ftk_dit_config {
    size_t size;
    ftk_host host;
    const char *kernels; /* as in ftk_model_config */
} ftk_dit_config;

FTK_API void ftk_dit_config_fill(ftk_dit_config *cfg, size_t size);
static inline void ftk_dit_config_init(ftk_dit_config *cfg)
{
    ftk_dit_config_fill(cfg, sizeof *cfg);
}

/* Loads a GGUF file of the architecture dit (docs/diffusion.md has the format). Matrices may be
 * of any supported type. What the architecture does not know is refused. The model may be shared
 * between threads. Errors: those of ftk_gguf_open(), FORMAT, UNSUPPORTED, INVALID (unknown
 * kernels), NOMEM. */
FTK_API ftk_err ftk_dit_load(ftk_dit **out, const char *path, const ftk_dit_config *cfg);
FTK_API void ftk_dit_free(ftk_dit *m);

typedef struct ftk_dit_info {
    const char *name;    /* general.name, "" if absent; as in the file: see ftk_show() */
    const char *kernels; /* level in use */
    int n_layer, n_embd, n_head, n_ff;
    int patch;                    /* side of a patch */
    int side, channels;           /* a sample is [channels][side][side] */
    int n_tokens;                 /* patches of a sample */
    int n_classes;                /* labels are 0 .. n_classes - 1 */
    int train_steps;              /* of the noise schedule: the most that can be sampled with */
    int guided_channels;          /* the first ones, which guidance changes */
    bool learned_variance, pixel; /* pixel: a sample is a picture, -1 black to 1 white */
    int n_l2c;                    /* Learning-to-Cache tables in the file */
    uint64_t n_params, weight_bytes;
} ftk_dit_info;

/* The strings live as long as the model. */
FTK_API void ftk_dit_report(const ftk_dit *m, ftk_dit_info *info, size_t size);
static inline void ftk_dit_get_info(const ftk_dit *m, ftk_dit_info *info)
{
    ftk_dit_report(m, info, sizeof *info);
}
/* The name of a class, as in the file; NULL where it has none or label is out of range. */
FTK_API const char *ftk_dit_class_name(const ftk_dit *m, int32_t label);
/* The number of steps that the i-th Learning-to-Cache table is for; 0: i is out of range. */
FTK_API int ftk_dit_l2c_steps(const ftk_dit *m, int i);

/* ------------------------------------------------------------------ caches */

/* The names, NULL-terminated:
 * - none: every branch of every layer is computed at every step
 * - fora: all branches are reused, but at every `interval`-th step (arXiv 2407.01425)
 * - speca: branches are forecast by a Taylor series; the last layer is computed beside its
 *   forecast, and says how good that was (arXiv 2509.11628)
 * - toca: attention is reused, the feed-forward part computed for some tokens (arXiv 2410.05317)
 * - duca: those steps in turn with others that leave out all layers (arXiv 2412.18911)
 * - l2c: a table in the model's file says which branches are reused (arXiv 2406.01733) */
FTK_API const char *const *ftk_caches(void);
/* False for every cache but none; also for names that are not known. */
FTK_API bool ftk_cache_lossless(const char *name);

/* How far a forecast is off: over both guidance halves of a sample. x: the state behind the last
 * layer, y: the same by the forecast, from the same forecast state before the layer. */
typedef enum ftk_cache_metric {
    FTK_METRIC_REL_L2,      /* |y - x| / |x|: the paper's (default) */
    FTK_METRIC_RELEASED_L1, /* mean of |y - x| / (|x| + 1e-10), the released program's default */
    FTK_METRIC_L1,          /* mean of |y - x| */
    FTK_METRIC_L2,          /* root of the mean of (y - x)^2 */
    FTK_METRIC_RELEASED_L2, /* root of the mean of ((y - x) / (|x| + 1e-10))^2 */
    FTK_METRIC_COSINE,      /* 1 - cos(x, y) */
    FTK_METRIC_UPDATE,      /* |y - x| / |x - state before the layer|: relative L2 of what the layer
                                adds, which the state would mask */
    FTK_N_METRICS
} ftk_cache_metric;

typedef enum ftk_cache_tokens {
    FTK_TOKENS_ATTENTION, /* those that received the most attention */
    FTK_TOKENS_VALUE,     /* those with the shortest values */
    FTK_TOKENS_RANDOM,
} ftk_cache_tokens;

/* What a cache does not read is ignored. NAN and -1 mean: the cache's own default, in brackets. */
typedef struct ftk_cache_config {
    size_t size;
    const char *name; /* "none" */
    /* fora: full steps are those whose index is a multiple of it, 1..16384 [3].
     * toca, duca: the schedule's N0, 1..1000 [3] */
    double interval;
    /* ---- speca */
    int order;               /* of the Taylor series, 0..6 [2] */
    double threshold, decay; /* tau0 [0.02], beta [0.1]: an error may be tau0 beta^progress */
    double floor;            /* and no less than this [0] */
    int min_run;             /* forecasts in a row that are not checked [3] */
    int max_run;             /* and that are the most [8] */
    ftk_cache_metric metric;
    /* A step whose forecast was rejected is computed; else (default) the next one is, as in the
     * released program. */
    bool redo;
    /* ---- toca, duca */
    double fresh;       /* R0, share of tokens that are computed [toca 0.07, duca 0.05] */
    double step_weight; /* w_t [2] and w_l [-0.2] of the share's schedule */
    double layer_weight;
    double stale;            /* lambda3, weight of a token's age [0.25] */
    double bonus;            /* of the best token of a 2 x 2 cell [toca 0.6, duca 0.8] */
    ftk_cache_tokens tokens; /* ATTENTION */
    /* Whether a step is full is decided once; else (default) in each layer, of which the first
     * changes the interval, as in the released programs. */
    bool once;
    /* ---- l2c */
    double l2c_threshold; /* a branch whose value is above it is computed [the file's] */
} ftk_cache_config;

FTK_API void ftk_cache_config_fill(ftk_cache_config *cfg, size_t size);
static inline void ftk_cache_config_init(ftk_cache_config *cfg)
{
    ftk_cache_config_fill(cfg, sizeof *cfg);
}

/* ------------------------------------------------------------------ sampling */

typedef enum ftk_diffusion_sampler {
    FTK_DDIM, /* eta 0: the start noise decides all */
    FTK_DDPM, /* ancestral, with noise at each step */
} ftk_diffusion_sampler;

enum { FTK_MAX_SAMPLES = 1024 };

typedef struct ftk_diffusion_config {
    size_t size;
    int threads; /* 0: one per processor */
    int batch;   /* samples at once, 1..FTK_MAX_SAMPLES [1] */
    int steps;   /* 1..train_steps [50] */
    ftk_diffusion_sampler sampler;
    double guidance;               /* 1: none, which halves the work [1.5] */
    const ftk_cache_config *cache; /* NULL: none; read by ftk_diffusion_open() alone */
    /* Who runs the passes, as in ftk_engine_config. On a device the bits of a sample are others
     * than the CPU's, and the same in any company; the model is copied to it for each sampler. */
    const char *device;
} ftk_diffusion_config;

FTK_API void ftk_diffusion_config_fill(ftk_diffusion_config *cfg, size_t size);
static inline void ftk_diffusion_config_init(ftk_diffusion_config *cfg)
{
    ftk_diffusion_config_fill(cfg, sizeof *cfg);
}

/* A sampler of its own threads and memory. It belongs to one thread at a time. */
typedef struct ftk_diffusion ftk_diffusion;

/* The model must outlive it. Errors: INVALID (a setting is out of its range, or the model has no
 * Learning-to-Cache table for so many steps), NOMEM, DEVICE, UNSUPPORTED (a device in a build
 * without). */
FTK_API ftk_err ftk_diffusion_open(ftk_diffusion **out, const ftk_dit *m,
                                   const ftk_diffusion_config *cfg);
FTK_API void ftk_diffusion_free(ftk_diffusion *d);

/* Starts n samples (1..batch), labels and seeds [n], in place of those that were running. start:
 * [n][channels][side][side] of noise, or NULL: made of the seeds. A label may be n_classes,
 * which is none. A sample depends on its own label, seed and start alone, whatever the others
 * are and however many threads there are. Errors: INVALID. */
FTK_API ftk_err ftk_diffusion_begin(ftk_diffusion *d, const int32_t *labels, const uint64_t *seeds,
                                    const float *start, int n);
/* Steps that are left; 0 before the first begin. */
FTK_API int ftk_diffusion_left(const ftk_diffusion *d);
/* One denoising step of all samples. Errors: NUMERIC (values that are not finite came out; then
 * the run is over), DEVICE (the same), INVALID (none is left). */
FTK_API ftk_err ftk_diffusion_step(ftk_diffusion *d);
/* The i-th sample as it is now, [channels][side][side]; valid until the next call. NULL: there is
 * none. */
FTK_API const float *ftk_diffusion_sample(const ftk_diffusion *d, int i);
/* The noise that a seed stands for, n = channels * side * side floats. */
FTK_API void ftk_diffusion_noise(uint64_t seed, float *out, size_t n);
/* What the steps of the i-th sample were so far, words with a space between: F full, P forecast,
 * V forecast and checked, R checked, rejected and computed, T some tokens computed or attention
 * reused, A all layers left out, C reused, L by a Learning-to-Cache table; f/T and f/A: the
 * first layer full, the others as in T or A. Valid until the next call. */
FTK_API const char *ftk_diffusion_trace(const ftk_diffusion *d, int i);

/* "cpu", or "cuda:0 " and the device's own name; lives as long as the sampler. */
FTK_API const char *ftk_diffusion_device(const ftk_diffusion *d);

typedef struct ftk_diffusion_stats {
    uint64_t steps; /* of all samples since open, each counted by itself */
    /* Of these; a step whose branches do different things counts by its shares. What was
     * computed in place of a rejected forecast counts as forecast, too. */
    double computed, partial, reused, forecast, skipped;
    uint64_t verified; /* forecasts that were checked */
    uint64_t rejected; /* of those, found wrong */
    /* Multiplications of blocks, as papers count them (products and attention; an operation of a
     * TFLOP figure is half of one): of a plain sampler, of the plan, and of the kernels' calls. */
    double plain, counted, measured;
    double other;   /* of embeddings, modulation and the last layer, in kernels' calls */
    uint64_t bytes; /* of the host's memory that it holds */
} ftk_diffusion_stats;

FTK_API void ftk_diffusion_report(const ftk_diffusion *d, ftk_diffusion_stats *stats, size_t size);
static inline void ftk_diffusion_get_stats(const ftk_diffusion *d, ftk_diffusion_stats *stats)
{
    ftk_diffusion_report(d, stats, sizeof *stats);
}

#ifdef __cplusplus
}
#endif
#endif
