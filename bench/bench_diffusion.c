/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-diffusion: caches of diffusion transformers at several settings each, on one model.
 * Writes a line a run to DIR/runs.csv and the samples as .npy beside it; bench/diffusion.py
 * makes quality and pictures of them. Runs take turns: all settings with one seed, then all with
 * the next. All caches but none are lossy. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cachekeys.h"
#include "cli/npy.h"
#include "foretoken_diffusion.h"
#include "run.h"

enum { MAX_RUNS = 256, MAX_SETTING = 200 };

/* What is run where no --run is given: the method, then settings. "fewer" is none with other
 * steps. */
static const char *const usual[] = {
    "none",
    "fewer steps=25",
    "fewer steps=17",
    "fewer steps=13",
    "fewer steps=10",
    "fewer steps=8",
    "fora interval=2",
    "fora interval=3",
    "fora interval=4",
    "fora interval=5",
    "fora interval=7",
    "speca max-run=4",
    "speca",
    "speca order=1",
    "speca threshold=0.05 max-run=12",
    "speca threshold=inf min-run=8",
    "speca redo=1",
    "speca order=4 threshold=0.3 decay=0.05 floor=0.01 min-run=3 max-run=8 metric=released-l1",
    "toca interval=2",
    "toca interval=3",
    "toca interval=4",
    "toca interval=3 once=1",
    "duca interval=3",
    "duca interval=4",
    "duca interval=5",
    "duca interval=3 tokens=value",
    "duca interval=3 tokens=random",
    "l2c",
};

typedef struct job {
    const char *model, *out, *only, *device;
    const char *runs[MAX_RUNS];
    int n_runs;
    int steps, samples, first_seed, seeds, batch, threads;
    double guidance;
    bool keep;   /* samples */
    bool resume; /* runs that are in runs.csv are not run again */
    ftk_dit *m;
    ftk_dit_info info;
    FILE *csv;
    char *done;  /* what runs.csv held before, NULL: nothing */
    int written; /* lines of runs.csv */
    float *x;
} job;

/* ---- a run's words */

static const char *const metrics[] = {"rel-l2",      "released-l1", "l1",     "l2",
                                      "released-l2", "cosine",      "update", NULL};
static const char *const tokens[] = {"attention", "value", "random", NULL};

static int named(const char *const *names, const char *key, const char *value)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], value) == 0) return i;
    run_refuse("%s=%s is unknown", key, value);
}

static double real(const char *key, const char *value)
{
    char *end;
    const double v = strtod(value, &end);
    if (end == value || *end || isnan(v)) run_refuse("%s=%s is not a number", key, value);
    return v;
}

static int whole(const char *key, const char *value)
{
    const double v = real(key, value);
    if (v != rint(v) || fabs(v) > INT_MAX) run_refuse("%s=%s is no whole number", key, value);
    return (int)v;
}

static bool flag(const char *key, const char *value)
{
    if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
        run_refuse("%s=%s is neither 0 nor 1", key, value);
    return *value == '1';
}

/* One key=value. */
static void take_setting(ftk_diffusion_config *cfg, ftk_cache_config *c, const char *key,
                         const char *value)
{
    const struct {
        const char *key;
        double *real;
        int *whole;
        bool *flag;
    } keys[] = {
        {"steps", NULL, &cfg->steps, NULL},
        {"interval", &c->interval, NULL, NULL},
        {"order", NULL, &c->order, NULL},
        {"threshold", &c->threshold, NULL, NULL},
        {"decay", &c->decay, NULL, NULL},
        {"floor", &c->floor, NULL, NULL},
        {"min-run", NULL, &c->min_run, NULL},
        {"max-run", NULL, &c->max_run, NULL},
        {"redo", NULL, NULL, &c->redo},
        {"fresh", &c->fresh, NULL, NULL},
        {"step-weight", &c->step_weight, NULL, NULL},
        {"layer-weight", &c->layer_weight, NULL, NULL},
        {"stale", &c->stale, NULL, NULL},
        {"bonus", &c->bonus, NULL, NULL},
        {"once", NULL, NULL, &c->once},
        {"l2c-threshold", &c->l2c_threshold, NULL, NULL},
    };
    if (strcmp(key, "metric") == 0) {
        c->metric = (ftk_cache_metric)named(metrics, key, value);
        return;
    }
    if (strcmp(key, "tokens") == 0) {
        c->tokens = (ftk_cache_tokens)named(tokens, key, value);
        return;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(keys[i].key, key) != 0) continue;
        if (keys[i].real) *keys[i].real = real(key, value);
        if (keys[i].whole) *keys[i].whole = whole(key, value);
        if (keys[i].flag) *keys[i].flag = flag(key, value);
        return;
    }
    run_refuse("%s is no setting: see bench-diffusion --help", key);
}

/* "method key=value ..."; *name gets the method's name. */
static void take_words(const char *words, char name[MAX_SETTING], ftk_diffusion_config *cfg,
                       ftk_cache_config *c)
{
    char copy[MAX_SETTING];
    if (strlen(words) >= sizeof copy || strchr(words, ',')) run_refuse("\"%s\" is no run", words);
    strcpy(copy, words);
    char *rest = NULL, *word = strtok_r(copy, " ", &rest);
    if (!word) run_refuse("a run is empty");
    strcpy(name, word);
    while ((word = strtok_r(NULL, " ", &rest))) {
        char *const equals = strchr(word, '=');
        if (!equals) run_refuse("\"%s\" of the run \"%s\" is no key=value", word, words);
        *equals = 0;
        take_setting(cfg, c, word, equals + 1);
        if (strcmp(word, "steps") != 0 && !cli_cache_reads(name, word))
            run_refuse("%s is no setting of %s, but of: %s", word, name, cli_cache_readers(word));
    }
}

/* ---- a run */

/* Of the wall, and of the processor, which other programs disturb less. */
typedef struct times {
    double wall, cpu;
} times;

static double read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static times now(void)
{
    return (times){read_clock(CLOCK_MONOTONIC), read_clock(CLOCK_PROCESS_CPUTIME_ID)};
}

static times draw(const job *j, ftk_diffusion *d, uint64_t seed)
{
    const ftk_dit_info *i = &j->info;
    const size_t size = (size_t)i->channels * (size_t)i->side * (size_t)i->side;
    int32_t labels[FTK_MAX_SAMPLES];
    uint64_t seeds[FTK_MAX_SAMPLES];
    const times start = now();
    for (int first = 0; first < j->samples; first += j->batch) {
        const int n = j->samples - first < j->batch ? j->samples - first : j->batch;
        for (int k = 0; k < n; k++) {
            labels[k] = (first + k) % i->n_classes;
            seeds[k] = seed * 1000003 + (uint64_t)(first + k);
        }
        ftk_err err = ftk_diffusion_begin(d, labels, seeds, NULL, n);
        while (err == FTK_OK && ftk_diffusion_left(d) > 0) err = ftk_diffusion_step(d);
        if (err != FTK_OK) run_die("the samples could not be made");
        for (int k = 0; k < n; k++)
            memcpy(j->x + (size_t)(first + k) * size, ftk_diffusion_sample(d, k),
                   size * sizeof *j->x);
    }
    const times end = now();
    return (times){end.wall - start.wall, end.cpu - start.cpu};
}

static void save(const job *j, const char *file)
{
    char path[4096];
    const int dims[4] = {j->samples, j->info.channels, j->info.side, j->info.side};
    snprintf(path, sizeof path, "%s/%s", j->out, file);
    FILE *f = fopen(path, "wb");
    const bool written = f && cli_npy_write(f, j->x, dims);
    if (!f || fclose(f) != 0 || !written)
        run_die("%s: cannot be written: %s", path, strerror(errno));
}

/* What the words of a run ask for; cache goes into cfg. */
static void take_run(const job *j, const char *words, char name[MAX_SETTING],
                     ftk_diffusion_config *cfg, ftk_cache_config *cache)
{
    ftk_cache_config_init(cache);
    ftk_diffusion_config_init(cfg);
    cfg->steps = j->steps;
    cfg->batch = j->batch;
    cfg->threads = j->threads;
    cfg->guidance = j->guidance;
    cfg->cache = cache;
    cfg->device = j->device;
    take_words(words, name, cfg, cache);
    cache->name = strcmp(name, "fewer") == 0 ? "none" : name;
}

static bool has_table(const job *j, int steps)
{
    for (int i = 0; i < j->info.n_l2c; i++)
        if (ftk_dit_l2c_steps(j->m, i) == steps) return true;
    return false;
}

static void open_run(const job *j, int nth, ftk_diffusion **d, const ftk_diffusion_config *cfg)
{
    const ftk_err err = ftk_diffusion_open(d, j->m, cfg);
    if (err == FTK_OK) return;
    run_say("\"%s\" cannot be run", j->runs[nth]);
    run_exit(err, true);
}

/* Before the first run, which may take hours, whether the others can be run, on the CPU. */
static void check_runs(const job *j)
{
    for (int i = 0; i < j->n_runs; i++) {
        char name[MAX_SETTING];
        ftk_cache_config cache;
        ftk_diffusion_config cfg;
        ftk_diffusion *d = NULL;
        take_run(j, j->runs[i], name, &cfg, &cache);
        cfg.batch = cfg.threads = 1;
        cfg.device = NULL;
        for (int k = 0; k < i; k++)
            if (strcmp(j->runs[k], j->runs[i]) == 0)
                run_refuse("\"%s\" is given twice", j->runs[i]);
        if (strcmp(name, "l2c") == 0 && !has_table(j, cfg.steps))
            run_say("l2c is left out: the model has no table for %d steps", cfg.steps);
        else
            open_run(j, i, &d, &cfg);
        ftk_diffusion_free(d);
    }
}

static void run_once(job *j, int nth, int seed)
{
    char name[MAX_SETTING], file[MAX_SETTING + 32] = "";
    ftk_cache_config cache;
    ftk_diffusion_config cfg;
    take_run(j, j->runs[nth], name, &cfg, &cache);
    if (strcmp(name, "l2c") == 0 && !has_table(j, cfg.steps)) return;
    const char *setting = strchr(j->runs[nth], ' ');
    char key[2 * MAX_SETTING];
    snprintf(key, sizeof key, "\n%s,%s,%d,%d,%g,%d,", name, setting ? setting + 1 : "", seed,
             cfg.steps, cfg.guidance, j->samples);
    if (j->done && strstr(j->done, key)) return;
    ftk_diffusion *d;
    open_run(j, nth, &d, &cfg);
    const times took = draw(j, d, (uint64_t)seed);
    ftk_diffusion_stats t;
    ftk_diffusion_get_stats(d, &t);
    ftk_diffusion_free(d);
    if (j->keep) {
        snprintf(file, sizeof file, "%03d-%s-seed%d.npy", j->written, name, seed);
        save(j, file);
    }
    const double n = j->samples, steps = (double)t.steps;
    fprintf(j->csv, "%s%s,%.6f,%.9g,%.9g,%.6f,%.6f,%.6f,%.6f,%.6f,%.6f,%.6f,%.9g,%.6f\n", key + 1,
            file, took.wall, t.counted / n, t.plain / n, t.computed / steps, t.partial / steps,
            t.reused / steps, t.forecast / steps, t.skipped / steps, (double)t.verified / steps,
            (double)t.rejected / steps, t.measured / n, took.cpu);
    fflush(j->csv);
    j->written++;
    printf("%-60s seed %d  %8.3f s  %5.2f times fewer multiplications%s\n", j->runs[nth], seed,
           took.wall, t.plain * j->steps / cfg.steps / t.counted,
           ftk_cache_lossless(cache.name) ? "" : "  (lossy)");
    fflush(stdout);
}

/* ---- the command line */

static void help(void)
{
    printf(
        "bench-diffusion -m MODEL --out DIR [options]\n\n"
        "  --run WORDS   a method and its settings, as in \"speca threshold=0.1 order=2\"; may be\n"
        "                given again; in place of the usual ones, which are:\n");
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        printf("                  %s\n", usual[i]);
    printf("  --only NAMES  of these, the methods named, with spaces between\n"
           "  --samples N   of each run (default 2000); sample i has class i mod the classes\n"
           "  --seeds N     runs of each (default 1), with the seeds 0, 1, ...\n"
           "  --first-seed N  in place of 0\n"
           "  --steps N     default 50; \"fewer steps=25\" has its own\n"
           "  --cfg W       guidance (default 1.5)\n"
           "  --batch N     default 4\n"
           "  -t THREADS    default: one per processor\n"
           "  --device NAME cpu (default), auto, cuda or cuda:N\n"
           "  --keep no     samples are not written\n"
           "  --resume yes  goes on where a run into DIR was ended: what runs.csv has is kept\n");
}

static bool yes_or_no(const char *option, const char *value)
{
    if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
        run_refuse("%s %s: give yes or no", option, value);
    return *value == 'y';
}

static void take_option(job *j, const char *option, const char *value)
{
    if (strcmp(option, "-m") == 0) {
        j->model = value;
    } else if (strcmp(option, "--out") == 0) {
        j->out = value;
    } else if (strcmp(option, "--device") == 0) {
        j->device = value;
    } else if (strcmp(option, "--only") == 0) {
        j->only = value;
    } else if (strcmp(option, "--run") == 0) {
        if (j->n_runs == MAX_RUNS) run_refuse("more than %d runs", MAX_RUNS);
        j->runs[j->n_runs++] = value;
    } else if (strcmp(option, "--samples") == 0) {
        j->samples = (int)run_number(option, value, 1, 1 << 20);
    } else if (strcmp(option, "--seeds") == 0) {
        j->seeds = (int)run_number(option, value, 1, 1000);
    } else if (strcmp(option, "--first-seed") == 0) {
        j->first_seed = (int)run_number(option, value, 0, 1 << 20);
    } else if (strcmp(option, "--steps") == 0) {
        j->steps = (int)run_number(option, value, 1, 1 << 14);
    } else if (strcmp(option, "--batch") == 0) {
        j->batch = (int)run_number(option, value, 1, FTK_MAX_SAMPLES);
    } else if (strcmp(option, "-t") == 0) {
        j->threads = (int)run_number(option, value, 1, 256);
    } else if (strcmp(option, "--cfg") == 0) {
        j->guidance = run_real(option, value, 0, 1000);
    } else if (strcmp(option, "--keep") == 0) {
        j->keep = yes_or_no(option, value);
    } else if (strcmp(option, "--resume") == 0) {
        j->resume = yes_or_no(option, value);
    } else {
        run_refuse("%s is unknown: see bench-diffusion --help", option);
    }
}

/* The usual runs, of the methods that were named. */
static void choose_runs(job *j)
{
    char copy[MAX_SETTING], *rest = NULL;
    const char *const names = j->only ? j->only : "none fewer fora speca toca duca l2c";
    if (strlen(names) >= sizeof copy) run_refuse("--only %s is too long", names);
    strcpy(copy, names);
    for (char *name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
        const int before = j->n_runs;
        for (size_t i = 0; i < sizeof usual / sizeof usual[0] && j->n_runs < MAX_RUNS; i++)
            if (strcspn(usual[i], " ") == strlen(name) && !strncmp(usual[i], name, strlen(name)))
                j->runs[j->n_runs++] = usual[i];
        if (j->n_runs == before)
            run_refuse("--only %s: give some of none, fewer, fora, speca, toca, duca and l2c",
                       name);
    }
    if (j->n_runs == 0) run_refuse("--only names no method");
}

static const char header[] =
    "method,setting,seed,steps,guidance,samples,file,seconds,macs,macs_plain,computed,partial,"
    "reused,forecast,skipped,verified,rejected,macs_measured,cpu_seconds\n";

/* What runs.csv holds, in whole lines; behind them it is cut off. NULL: it is not there. */
static char *read_done(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f) return NULL;
    char *text = NULL;
    size_t cap = 0;
    const ssize_t n = getdelim(&text, &cap, 0, f);
    fclose(f);
    if (n < 0) {
        free(text);
        return NULL;
    }
    if (strncmp(text, header, strlen(header)) != 0)
        run_die("%s is of another version of this program: give another --out", path);
    *(strrchr(text, '\n') + 1) = 0;
    if (truncate(path, (off_t)strlen(text)) != 0)
        run_die("%s: cannot be written: %s", path, strerror(errno));
    return text;
}

static void open_csv(job *j)
{
    char path[4096];
    if (mkdir(j->out, 0777) != 0 && errno != EEXIST)
        run_die("%s: cannot be made: %s", j->out, strerror(errno));
    snprintf(path, sizeof path, "%s/runs.csv", j->out);
    if (j->resume) j->done = read_done(path);
    j->csv = fopen(path, j->done ? "a" : "w");
    if (!j->csv) run_die("%s: cannot be written: %s", path, strerror(errno));
    if (!j->done) fputs(header, j->csv);
    for (const char *at = j->done ? strchr(j->done, '\n') + 1 : ""; *at; at++)
        j->written += *at == '\n';
}

int main(int argc, char **argv)
{
    job j = {.steps = 50, .samples = 2000, .seeds = 1, .batch = 4, .guidance = 1.5, .keep = true};
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--help") == 0) {
            help();
            return 0;
        }
        if (i + 1 >= argc)
            run_refuse("%s needs a value, or is unknown: see bench-diffusion --help", argv[i]);
        take_option(&j, argv[i], argv[i + 1]);
    }
    if (!j.model || !j.out) run_refuse("usage: bench-diffusion -m MODEL --out DIR [options]");
    if (j.n_runs == 0) choose_runs(&j);
    ftk_dit_config mc;
    ftk_dit_config_init(&mc);
    mc.host.log = run_log;
    if (ftk_dit_load(&j.m, j.model, &mc) != FTK_OK) exit(RUN_FAILED);
    ftk_dit_get_info(j.m, &j.info);
    const size_t size = (size_t)j.info.channels * (size_t)j.info.side * (size_t)j.info.side;
    j.x = malloc((size_t)j.samples * size * sizeof *j.x);
    if (!j.x) run_die("no memory for %d samples", j.samples);
    check_runs(&j);
    open_csv(&j);
    for (int seed = j.first_seed; seed < j.first_seed + j.seeds; seed++)
        for (int i = 0; i < j.n_runs; i++) run_once(&j, i, seed);
    const bool written = !ferror(j.csv);
    if (fclose(j.csv) != 0 || !written)
        run_die("%s/runs.csv: cannot be written: %s", j.out, strerror(errno));
    free(j.x);
    free(j.done);
    ftk_dit_free(j.m);
    return 0;
}
