/* SPDX-License-Identifier: Apache-2.0
 * What the benchmark programs share. */
#include "run.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

void run_log(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    if (level <= FTK_LOG_WARN) fprintf(stderr, "%s\n", line);
}

const char *run_shown(char *buf, size_t cap, const char *text)
{
    ftk_show(text, strlen(text), 0, buf, cap);
    return buf;
}

static void say(const char *fmt, va_list args)
{
    char line[2048], shown[2048];
    vsnprintf(line, sizeof line, fmt, args);
    fprintf(stderr, "%s\n", run_shown(shown, sizeof shown, line));
}

void run_say(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
}

void run_die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
    exit(RUN_FAILED);
}

void run_refuse(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
    exit(RUN_USAGE);
}

void run_exit(ftk_err err, bool named)
{
    exit(err == FTK_ERR_INVALID && named ? RUN_USAGE : RUN_FAILED);
}

void run_help(int argc, char **argv, const char *usage)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
        puts(usage);
        exit(0);
    }
}

void run_operands(int argc, char **argv, int i)
{
    for (; i < argc; i++)
        if (argv[i][0] == '-')
            run_refuse("%s needs a value, is unknown, or stands behind a file", argv[i]);
}

void run_files(int argc, char **argv, int i)
{
    for (; i < argc; i++)
        if (access(argv[i], R_OK) != 0)
            run_die("%s: cannot be opened: %s", argv[i], strerror(errno));
}

long long run_number(const char *option, const char *text, long long lowest, long long highest)
{
    char *end;
    errno = 0;
    const long long n = strtoll(text, &end, 10);
    if (end == text || *end || errno || n < lowest || n > highest)
        run_refuse("%s %s: give a whole number from %lld to %lld", option, text, lowest, highest);
    return n;
}

int run_numbers(const char *option, const char *list, int lowest, int highest, int *out, int cap)
{
    int n = 0;
    for (const char *at = list;; at++) {
        char word[16];
        const size_t length = strcspn(at, ",");
        if (n == cap || length == 0 || length >= sizeof word)
            run_refuse("%s \"%s\": give at most %d whole numbers with commas between them", option,
                       list, cap);
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        out[n++] = (int)run_number(option, word, lowest, highest);
        if (!*(at += length)) return n;
    }
}

/* The name in known that equals word[0..n). */
static const char *find_name(const char *option, const char *const *known, const char *word, int n)
{
    char all[256] = "";
    for (int i = 0; known[i]; i++) {
        if (strlen(known[i]) == (size_t)n && memcmp(known[i], word, (size_t)n) == 0)
            return known[i];
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", known[i]);
    }
    run_refuse("%s: there is no \"%.*s\": give some of %s, with commas between them", option, n,
               word, all);
}

int run_names(const char *option, const char *list, const char *const *known, const char **out,
              int cap)
{
    int n = 0;
    for (const char *at = list;; at++) {
        const int length = (int)strcspn(at, ",");
        const char *const name = find_name(option, known, at, length);
        int i = 0;
        while (i < n && out[i] != name) i++;
        if (i == cap) run_refuse("%s \"%s\": give at most %d names", option, list, cap);
        if (i == n) out[n++] = name;
        if (!*(at += length)) return n;
    }
}

double run_positive(const char *option, const char *text)
{
    char *end;
    const double x = strtod(text, &end);
    if (end == text || *end || !(x > 0) || isinf(x))
        run_refuse("%s %s: give a number above 0", option, text);
    return x;
}

double run_real(const char *option, const char *text, double lowest, double highest)
{
    char *end;
    const double x = strtod(text, &end);
    if (end == text || *end || !(x >= lowest && x <= highest))
        run_refuse("%s %s: give a number from %g to %g", option, text, lowest, highest);
    return x;
}

void run_cpu_name(char *out, size_t n)
{
    snprintf(out, n, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value || !value[1]) continue;
        snprintf(out, n, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
        break;
    }
    if (f) fclose(f);
}

enum { MAX_LORAS = 8 };

static ftk_adapter loras[MAX_LORAS];
static size_t n_loras;

enum { MAX_DRAFTERS = 8 };

static const char *draft_model, *kernels, *drafters[MAX_DRAFTERS];
static size_t n_drafters;
static const char *layers_given;
static int layers[16];
static size_t n_layers;

static void take_layers(const char *option, const char *list)
{
    n_layers = 0;
    layers_given = list;
    for (const char *at = list;; at++) {
        char *end;
        const long layer = strtol(at, &end, 10);
        if (*at < '0' || *at > '9' || (*end && *end != ',') || layer > 1 << 20 ||
            n_layers == sizeof layers / sizeof *layers)
            run_refuse("%s %s: give 1 to 16 layers with commas between them, as in 2,15,27", option,
                       list);
        layers[n_layers++] = (int)layer;
        if (!*(at = end)) return;
    }
}

bool run_take_option(const char *option, const char *value)
{
    if (strcmp(option, "--kernels") == 0) {
        kernels = value;
        return true;
    }
    if (strcmp(option, "--draft-model") == 0) {
        draft_model = value;
        return true;
    }
    if (strcmp(option, "--drafter-file") == 0) {
        if (n_drafters == MAX_DRAFTERS)
            run_refuse("%s %s: at most %d", option, value, MAX_DRAFTERS);
        drafters[n_drafters++] = value;
        return true;
    }
    if (strcmp(option, "--drafter-layers") == 0) {
        take_layers(option, value);
        return true;
    }
    if (strcmp(option, "--lora") != 0) return false;
    if (n_loras == MAX_LORAS) run_refuse("--lora %s: at most %d adapters", value, MAX_LORAS);
    loras[n_loras++] = (ftk_adapter){.path = value, .scale = 1};
    return true;
}

size_t run_drafter_files(const char *const **paths, const char **given)
{
    *paths = drafters;
    *given = layers_given;
    return n_drafters;
}

size_t run_loras(const ftk_adapter **list)
{
    *list = loras;
    return n_loras;
}

ftk_model *run_model(const char *path)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = run_log;
    cfg.adapters = loras;
    cfg.n_adapters = n_loras;
    cfg.kernels = kernels;
    ftk_model *m;
    const ftk_err err = ftk_model_load(&m, path, &cfg);
    if (err != FTK_OK) run_exit(err, kernels && n_loras == 0); /* an adapter may be INVALID, too */
    return m;
}

const char *run_draft_model(void)
{
    return draft_model;
}

void run_add_drafters(ftk_engine *e, const char *beside)
{
    int found;
    ftk_drafter_config cfg;
    ftk_drafter_config_init(&cfg);
    cfg.layers = layers;
    cfg.n_layers = n_layers;
    if (n_layers > 0 && n_drafters != 1)
        run_refuse("--drafter-layers is about one --drafter-file; give that once");
    for (size_t i = 0; i < n_drafters; i++)
        if (ftk_engine_add_drafter_as(e, drafters[i], &cfg) != FTK_OK) exit(RUN_FAILED);
    if (draft_model && ftk_engine_add_draft_model(e, draft_model) != FTK_OK) exit(RUN_FAILED);
    if (ftk_engine_find_drafters(e, beside, &found) != FTK_OK) exit(RUN_FAILED);
}

ftk_engine *run_engine(const ftk_model *m, int threads, int kv_slots, const char *device,
                       const char *path)
{
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = threads;
    cfg.kv_slots = kv_slots;
    cfg.device = device;
    ftk_engine *e;
    const ftk_err err = ftk_engine_open(&e, m, &cfg);
    if (err != FTK_OK) run_exit(err, device);
    if (path) run_add_drafters(e, path);
    return e;
}

size_t run_prompt(const ftk_model *m, const char *text, int32_t *tokens, size_t cap)
{
    const ftk_message msg = {"user", text};
    size_t n;
    const ftk_err err = ftk_chat_tokenize(m, NULL, &msg, 1, tokens, cap, &n);
    if (err != FTK_OK) run_die("a prompt could not be tokenized: %s", ftk_strerror(err));
    return n;
}

ftk_err run_together(ftk_session *const *sessions, size_t n_sessions, size_t n, run *r)
{
    ftk_session *going[RUN_TOGETHER];
    size_t whose[RUN_TOGETHER], n_going = n_sessions;
    for (size_t i = 0; i < n_sessions; i++) {
        going[i] = sessions[whose[i] = i];
        r[i].n = 0;
        ftk_session_get_stats(going[i], &r[i].stats);
        r[i].seconds = -r[i].stats.decode_seconds;
        ftk_session_limit(going[i], n < RUN_MAX ? n : RUN_MAX);
    }
    while (n_going > 0) {
        ftk_result step[RUN_TOGETHER];
        const ftk_err err = ftk_step(going, n_going, step);
        if (err != FTK_OK) return err;
        size_t left = 0;
        for (size_t i = 0; i < n_going; i++) {
            run *const to = &r[whose[i]];
            memcpy(to->tokens + to->n, step[i].tokens, step[i].n_tokens * sizeof *to->tokens);
            to->n += step[i].n_tokens;
            if (step[i].finish != FTK_FINISH_NONE) continue;
            whose[left] = whose[i];
            going[left++] = going[i];
        }
        n_going = left;
    }
    for (size_t i = 0; i < n_sessions; i++) {
        ftk_session_get_stats(sessions[i], &r[i].stats);
        r[i].seconds += r[i].stats.decode_seconds;
    }
    return FTK_OK;
}

ftk_err run_answer(ftk_session *s, const int32_t *prompt, size_t n_prompt, size_t n, run *r)
{
    const ftk_err err = ftk_session_append(s, prompt, n_prompt);
    return err == FTK_OK ? run_together(&s, 1, n, r) : err;
}

double run_now(void)
{
    return ftk_now();
}

void run_shuffle(int *order, int n)
{
    static uint32_t seed = 1;
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        const int j = (int)((seed >> 8) % (uint32_t)(i + 1));
        order[i] = order[j];
        order[j] = i;
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double run_quantile(double *x, size_t n, double q)
{
    if (n == 0) return 0;
    qsort(x, n, sizeof *x, ascending);
    return x[(size_t)(q * (double)(n - 1) + 0.5)];
}
