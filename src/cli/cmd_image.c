/* SPDX-License-Identifier: Apache-2.0
 * foretoken image: pictures of a diffusion transformer. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cachekeys.h"
#include "common.h"
#include "foretoken_diffusion.h"
#include "picture.h"
#include "progress.h"

enum { ALL_CLASSES = 16, MAX_CLASSES = 1000, MAX_PICTURES = 1 << 20, MAX_SIDE = 16384 };

typedef struct studio {
    char path[8192];
    ftk_dit *model;
    ftk_dit_info info;
    ftk_diffusion *diffusion;
    int32_t classes[MAX_CLASSES]; /* a row of the grid each */
    int n_classes, each, n;       /* pictures of a class, and in all */
    float *x;
    double start, shown;
} studio;

/* ---- what is asked for */

/* The class that text[n] names, or -1. */
static int32_t find_class(const ftk_dit *m, const ftk_dit_info *info, const char *text, size_t n)
{
    for (int32_t i = 0; i < info->n_classes; i++) {
        const char *name = ftk_dit_class_name(m, i);
        if (name && strlen(name) == n && memcmp(name, text, n) == 0) return i;
    }
    if (n == 0 || n > 7 || strspn(text, "0123456789") < n) return -1;
    const long i = strtol(text, NULL, 10);
    return i < info->n_classes ? (int32_t)i : -1;
}

static int read_classes(studio *s, const cli_options *o)
{
    if (!o->classes) {
        if (s->info.n_classes > ALL_CLASSES)
            return cli_say_usage(o->command, "the model has %d classes: give some with --class",
                                 s->info.n_classes);
        for (int i = 0; i < s->info.n_classes; i++) s->classes[s->n_classes++] = i;
        return CLI_DONE;
    }
    for (const char *at = o->classes;; at++) {
        const size_t n = strcspn(at, ",");
        const int32_t label = find_class(s->model, &s->info, at, n);
        if (label < 0)
            return cli_say_usage(o->command,
                                 "--class: the model has no class \"%.*s\"; give numbers from 0 to "
                                 "%d or names, as in --class 0,1",
                                 (int)(n < 80 ? n : 80), at, s->info.n_classes - 1);
        if (s->n_classes == MAX_CLASSES)
            return cli_say_usage(o->command, "--class: more than %d classes", MAX_CLASSES);
        s->classes[s->n_classes++] = label;
        at += n;
        if (*at == 0) return CLI_DONE;
    }
}

/* Whether the cache reads the options of caches that were given. */
static int check_cache_options(const cli_options *o)
{
    const struct {
        const char *key;
        bool given;
    } all[] = {
        {"interval", !isnan(o->cache_interval)},
        {"order", o->cache_order >= 0},
        {"threshold", !isnan(o->cache_threshold)},
        {"decay", !isnan(o->cache_decay)},
        {"floor", !isnan(o->cache_floor)},
        {"min-run", o->cache_min_run >= 0},
        {"max-run", o->cache_max_run >= 0},
        {"metric", o->cache_metric != NULL},
        {"redo", o->cache_redo},
        {"fresh", !isnan(o->cache_fresh)},
        {"step-weight", !isnan(o->cache_step_weight)},
        {"layer-weight", !isnan(o->cache_layer_weight)},
        {"stale", !isnan(o->cache_stale)},
        {"bonus", !isnan(o->cache_bonus)},
        {"tokens", o->cache_tokens != NULL},
        {"once", o->cache_once},
        {"l2c-threshold", !isnan(o->cache_l2c_threshold)},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].given && !cli_cache_reads(o->image_cache, all[i].key))
            return cli_say_usage(o->command,
                                 "--cache-%s is not an option of the cache %s, but of: %s",
                                 all[i].key, o->image_cache, cli_cache_readers(all[i].key));
    return CLI_DONE;
}

static int name_index(const char *const *names, const char *name)
{
    int i = 0;
    while (name && names[i] && strcmp(names[i], name) != 0) i++;
    return name && names[i] ? i : 0;
}

static ftk_cache_config cache_of(const cli_options *o)
{
    ftk_cache_config c;
    ftk_cache_config_init(&c);
    c.name = o->image_cache;
    c.interval = o->cache_interval;
    c.order = (int)o->cache_order;
    c.threshold = o->cache_threshold;
    c.decay = o->cache_decay;
    c.floor = o->cache_floor;
    c.min_run = (int)o->cache_min_run;
    c.max_run = (int)o->cache_max_run;
    c.metric = (ftk_cache_metric)name_index(cli_cache_metrics(), o->cache_metric);
    c.redo = o->cache_redo;
    c.fresh = o->cache_fresh;
    c.step_weight = o->cache_step_weight;
    c.layer_weight = o->cache_layer_weight;
    c.stale = o->cache_stale;
    c.bonus = o->cache_bonus;
    c.tokens = (ftk_cache_tokens)name_index(cli_cache_tokens(), o->cache_tokens);
    c.once = o->cache_once;
    c.l2c_threshold = o->cache_l2c_threshold;
    return c;
}

/* ---- opening */

static int open_model(studio *s, const cli_options *o)
{
    if (o->model)
        snprintf(s->path, sizeof s->path, "%s", o->model);
    else {
        const int status = cli_best_model(o, s->path, sizeof s->path);
        if (status != CLI_DONE) return status;
    }
    ftk_dit_config cfg;
    ftk_dit_config_init(&cfg);
    cfg.host = cli_host();
    cfg.kernels = o->kernels;
    const ftk_err err = ftk_dit_load(&s->model, s->path, &cfg);
    if (err != FTK_OK) {
        cli_fail(err, s->path);
        return err == FTK_ERR_INVALID && o->kernels ? CLI_USAGE : CLI_FAILED;
    }
    ftk_dit_get_info(s->model, &s->info);
    return CLI_DONE;
}

static const char *base_name(const char *path)
{
    const char *const slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *folder_of(const char *path, char *buf, size_t cap)
{
    const int n = (int)(base_name(path) - path);
    snprintf(buf, cap, "%.*s", n > 0 ? n : 1, n > 0 ? path : ".");
    return buf;
}

/* Before the work, not after it. */
static bool check_writable(const char *path)
{
    if (!path || strcmp(path, "-") == 0) return true;
    char folder[4096];
    folder_of(path, folder, sizeof folder);
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        errno = EISDIR;
    else if (access(access(path, F_OK) == 0 ? path : folder, W_OK) == 0)
        return true;
    cli_say("cannot write %s: %s", path, strerror(errno));
    return false;
}

/* What a path leads to; "-" is standard output. */
static bool look_at(const char *path, struct stat *st)
{
    return (strcmp(path, "-") == 0 ? fstat(STDOUT_FILENO, st) : stat(path, st)) == 0;
}

/* Whether two paths name one file, there or not yet; a device takes what all write. */
static bool is_same_file(const char *a, const char *b)
{
    struct stat at[2];
    const char *const path[2] = {a, b};
    if (strcmp(a, b) == 0) return true;
    const bool there = look_at(a, &at[0]), other = look_at(b, &at[1]);
    if (there && other)
        return !S_ISCHR(at[0].st_mode) && at[0].st_dev == at[1].st_dev &&
               at[0].st_ino == at[1].st_ino;
    if (there || other || strcmp(base_name(a), base_name(b)) != 0) return false;
    for (int i = 0; i < 2; i++) {
        char folder[4096];
        if (stat(folder_of(path[i], folder, sizeof folder), &at[i]) != 0) return false;
    }
    return at[0].st_dev == at[1].st_dev && at[0].st_ino == at[1].st_ino;
}

static int check_output(const studio *s, const cli_options *o)
{
    if (!o->output && !o->npy)
        return cli_say_usage(o->command,
                             "no file to write is named; give one with -o FILE.png or --npy FILE");
    if (o->output && o->npy && is_same_file(o->npy, o->output))
        return cli_say_usage(o->command, "-o and --npy can't both go to %s",
                             strcmp(o->npy, "-") == 0 ? "standard output" : o->npy);
    const struct {
        const char *option, *path;
    } to[] = {{"-o", o->output}, {"--npy", o->npy}};
    for (size_t i = 0; i < sizeof to / sizeof *to; i++)
        if (to[i].path && is_same_file(to[i].path, s->path))
            return cli_say_usage(o->command, "%s: %s is the model; give another file to write",
                                 to[i].option, to[i].path);
    if (o->output && (!s->info.pixel || (s->info.channels != 1 && s->info.channels != 3)))
        return cli_say_usage(o->command,
                             "-o: the model makes no pictures but latents of %d channels; write "
                             "them with --npy",
                             s->info.channels);
    return check_writable(o->output) && check_writable(o->npy) ? CLI_DONE : CLI_FAILED;
}

/* Pixels of the grid that one of the model becomes. */
static int scale_of(const studio *s, const cli_options *o)
{
    const int fit = 64 / s->info.side;
    return o->scale > 0 ? (int)o->scale : fit > 1 ? fit : 1;
}

/* Whether the pictures are not too many, for memory and for a PNG. */
static int check_number(studio *s, const cli_options *o)
{
    if ((int64_t)s->n_classes * o->n > MAX_PICTURES)
        return cli_say_usage(o->command, "-n: %d classes and %lld pictures of each are too many",
                             s->n_classes, (long long)o->n);
    s->each = (int)o->n;
    s->n = s->n_classes * s->each;
    const int64_t cell = (int64_t)s->info.side * scale_of(s, o) + CLI_GAP;
    if (!o->output || (s->each * cell <= MAX_SIDE && s->n_classes * cell <= MAX_SIDE))
        return CLI_DONE;
    return cli_say_usage(
        o->command,
        "-o: a grid of %d x %d pictures is larger than %d pixels a side; write them "
        "with --npy, or make fewer",
        s->each, s->n_classes, MAX_SIDE);
}

static int open_diffusion(studio *s, const cli_options *o)
{
    const ftk_cache_config cache = cache_of(o);
    ftk_diffusion_config cfg;
    ftk_diffusion_config_init(&cfg);
    cfg.threads = (int)o->threads;
    cfg.batch = o->batch < s->n ? (int)o->batch : s->n;
    cfg.steps = (int)o->steps;
    cfg.sampler = o->sampler && strcmp(o->sampler, "ddpm") == 0 ? FTK_DDPM : FTK_DDIM;
    cfg.guidance = o->cfg;
    cfg.cache = &cache;
    cfg.device = o->device;
    const ftk_err err = ftk_diffusion_open(&s->diffusion, s->model, &cfg);
    if (err == FTK_OK) return CLI_DONE;
    cli_fail(err, "the sampler could not be opened");
    return err == FTK_ERR_INVALID ? CLI_USAGE : CLI_FAILED;
}

/* ---- drawing */

/* On a terminal, a bar that is kept up to date and goes away at the end. */
static void show_progress(studio *s, double share)
{
    enum { WIDTH = 30 };
    const double t = cli_now(), spent = t - s->start;
    if (!isatty(STDERR_FILENO) || (share < 1 && t - s->shown < 0.1)) return;
    s->shown = t;
    if (share >= 1) {
        cli_progress_clear();
        return;
    }
    char bar[WIDTH + 1] = "";
    for (int i = 0; i < WIDTH; i++) bar[i] = i < share * WIDTH ? '#' : '.';
    cli_progress_show("[%s] %3d %%, %.0f s left ", bar, (int)(100 * share),
                      share > 0 ? spent / share - spent : 0);
}

static void print_traces(const studio *s, int first, int n)
{
    for (int i = 0; i < n; i++) {
        const char *trace = ftk_diffusion_trace(s->diffusion, i);
        fprintf(stderr, "%d: %s\n", first + i, trace);
    }
}

static ftk_err draw_batch(studio *s, const cli_options *o, int first, int n)
{
    const size_t size = (size_t)s->info.channels * (size_t)s->info.side * (size_t)s->info.side;
    int32_t *labels = cli_array(NULL, (size_t)n, sizeof *labels);
    uint64_t *seeds = cli_array(NULL, (size_t)n, sizeof *seeds);
    for (int i = 0; i < n; i++) {
        labels[i] = s->classes[(first + i) / s->each];
        seeds[i] = o->seed + (uint64_t)(first + i);
    }
    ftk_err err = ftk_diffusion_begin(s->diffusion, labels, seeds, NULL, n);
    while (err == FTK_OK && ftk_diffusion_left(s->diffusion) > 0) {
        const double done = 1 - (double)ftk_diffusion_left(s->diffusion) / (double)o->steps;
        show_progress(s, (first + n * done) / s->n);
        err = ftk_diffusion_step(s->diffusion);
    }
    for (int i = 0; i < n; i++)
        memcpy(s->x + (size_t)(first + i) * size, ftk_diffusion_sample(s->diffusion, i),
               size * sizeof *s->x);
    if (err == FTK_OK && o->trace) {
        show_progress(s, 1);
        print_traces(s, first, n);
    }
    free(labels);
    free(seeds);
    return err;
}

static void print_stats(const studio *s, const cli_options *o, double seconds)
{
    ftk_diffusion_stats t;
    ftk_diffusion_get_stats(s->diffusion, &t);
    const double steps = (double)t.steps;
    char device[128];
    const char *const name = ftk_diffusion_device(s->diffusion);
    ftk_show(name, strlen(name), 0, device, sizeof device);
    fprintf(stderr,
            "device           %s\n"
            "cache            %s%s\n"
            "samples          %d in %.2f s, %.3f s each\n"
            "steps            %.1f %% computed, %.1f %% in part, %.1f %% reused, %.1f %% forecast, "
            "%.1f %% skipped\n"
            "forecasts        %llu checked, %llu rejected\n"
            "multiplications  %.4g of %.4g, %.2f times fewer (counted; %.4g measured)\n"
            "memory           %.1f MiB\n",
            device, o->image_cache, ftk_cache_lossless(o->image_cache) ? "" : " (lossy)", s->n,
            seconds, seconds / s->n, 100 * t.computed / steps, 100 * t.partial / steps,
            100 * t.reused / steps, 100 * t.forecast / steps, 100 * t.skipped / steps,
            (unsigned long long)t.verified, (unsigned long long)t.rejected, t.counted, t.plain,
            t.plain / t.counted, t.measured, (double)t.bytes / (1 << 20));
}

static int write_files(const studio *s, const cli_options *o)
{
    const cli_pictures p = {.x = s->x,
                            .n = s->n,
                            .channels = s->info.channels,
                            .side = s->info.side,
                            .columns = s->each,
                            .scale = scale_of(s, o)};
    if (o->output && !cli_save_png(&p, o->output)) return CLI_FAILED;
    return o->npy && !cli_save_npy(&p, o->npy) ? CLI_FAILED : CLI_DONE;
}

static int draw(studio *s, const cli_options *o)
{
    const size_t size = (size_t)s->info.channels * (size_t)s->info.side * (size_t)s->info.side;
    s->x = cli_array(NULL, (size_t)s->n, size * sizeof *s->x);
    s->start = cli_now();
    ftk_err err = FTK_OK;
    for (int i = 0; i < s->n && err == FTK_OK; i += (int)o->batch)
        err = draw_batch(s, o, i, s->n - i < o->batch ? s->n - i : (int)o->batch);
    show_progress(s, 1);
    if (err != FTK_OK) return cli_fail(err, "the pictures could not be made");
    if (o->stats) print_stats(s, o, cli_now() - s->start);
    return write_files(s, o);
}

static int make(studio *s, const cli_options *o)
{
    int status = check_cache_options(o);
    if (status == CLI_DONE) status = open_model(s, o);
    if (status == CLI_DONE) status = check_output(s, o);
    if (status == CLI_DONE) status = read_classes(s, o);
    if (status != CLI_DONE) return status;
    status = check_number(s, o);
    if (status == CLI_DONE) status = open_diffusion(s, o);
    if (status != CLI_DONE) return status;
    if (!ftk_cache_lossless(o->image_cache))
        cli_say("cache %s is lossy: the pictures are not quite those of the model; --cache none "
                "makes those",
                o->image_cache);
    return draw(s, o);
}

int cmd_image(const cli_options *o)
{
    static studio s;
    const int status = make(&s, o);
    free(s.x);
    ftk_diffusion_free(s.diffusion);
    ftk_dit_free(s.model);
    return status;
}
