/* SPDX-License-Identifier: Apache-2.0
 * All questions by all methods. The methods take turns question by question, each beginning as
 * often as any other, so that drift of the machine hits all alike. */
#include "specbench_ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

enum { DEFAULT_CTX = 4096, WARM_TOKENS = 64, SAY_EVERY = 10 /* seconds */ };

typedef struct bench {
    spec_options o; /* with context and template as they are */
    const questions *q;
    spec_world w;
    ftk_engine *engine[SPEC_MAX_METHODS]; /* its own: what a drafter learns stays with the engine */
    size_t *skipped; /* [q->n] tokens of a first turn that does not fit, or 0 */
    size_t n_skipped;
    spec_store *store;
    char id[128];

    /* for the time left: */
    size_t done, all;
    size_t left[SPEC_MAX_METHODS], took[SPEC_MAX_METHODS];
    double seconds[SPEC_MAX_METHODS];
    double said;
} bench;

/* ---- progress */

/* By the mean of each method, and of all where one has none yet. */
static double seconds_left(const bench *b)
{
    double all = 0, sum = 0;
    size_t n = 0;
    for (int m = 0; m < b->o.n_methods; m++) {
        all += b->seconds[m];
        n += b->took[m];
    }
    for (int m = 0; m < b->o.n_methods; m++)
        sum += (double)b->left[m] * (b->took[m] ? b->seconds[m] / (double)b->took[m]
                                     : n        ? all / (double)n
                                                : 0);
    return sum;
}

static void say(bench *b, int lap, const question *q, const spec_method *m, double seconds)
{
    const bool screen = isatty(STDERR_FILENO), last = b->done == b->all;
    const double t = run_now();
    if (!screen && !last && t - b->said < SAY_EVERY) return;
    b->said = t;
    const double left = seconds_left(b);
    char when[48];
    if (left < 100)
        snprintf(when, sizeof when, "%.0f s", left);
    else if (left < 6000)
        snprintf(when, sizeof when, "%.0f min", left / 60);
    else
        snprintf(when, sizeof when, "%.1f h", left / 3600);
    char family[64];
    fprintf(stderr, "%s%zu of %zu answers; run %d of %d, question %lld (%s), %s: %.2f s; %s left%s",
            screen ? "\r\033[K" : "", b->done, b->all, lap + 1, b->o.repeat, q->id,
            run_shown(family, sizeof family, q->category), m->name, seconds, when,
            screen && !last ? "" : "\n");
}

/* ---- before it starts */

static void choose_template(bench *b, const ftk_model_info *info)
{
    if (b->o.tmpl) {
        const char *const *known = ftk_chat_templates();
        while (*known && strcmp(*known, b->o.tmpl) != 0) known++;
        if (!*known)
            run_refuse("--template %s: there is none of that name: see foretoken help chat",
                       b->o.tmpl);
    } else {
        b->o.tmpl = info->chat_template;
        if (!info->has_chat_template)
            run_say("the model has no chat template: %s is used, another one can be chosen with "
                    "--template",
                    b->o.tmpl);
    }
    b->w.stop = ftk_chat_stop(b->o.tmpl);
}

static void choose_context(bench *b, const ftk_model_info *info)
{
    if (b->o.ctx > info->n_ctx_train)
        run_refuse("--ctx %d: the model's context is %d: give that or less", b->o.ctx,
                   info->n_ctx_train);
    if (b->o.ctx == 0) b->o.ctx = info->n_ctx_train < DEFAULT_CTX ? info->n_ctx_train : DEFAULT_CTX;
}

/* First turns that do not fit are known before anything is measured: no method is asked. */
static void skip_questions(bench *b)
{
    b->skipped = calloc(b->q->n, sizeof *b->skipped);
    if (!b->skipped) run_die("no memory for %zu questions", b->q->n);
    for (size_t i = 0; i < b->q->n; i++) {
        const size_t n = spec_prompt(&b->w, &b->q->at[i], 1, NULL);
        if (spec_fits(&b->o, n)) continue;
        b->skipped[i] = n;
        b->n_skipped++;
    }
    if (b->n_skipped == b->q->n)
        run_die("no question fits a context of %d tokens: give a larger --ctx, or another model",
                b->o.ctx);
}

static void write_skipped(const bench *b)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) run_die("no memory for the skipped questions");
    for (size_t i = 0; i < b->q->n; i++) {
        if (b->skipped[i] == 0) continue;
        json_t *o = json_pack("{s:I, s:s, s:s, s:I, s:i}", "question_id",
                              (json_int_t)b->q->at[i].id, "category", b->q->at[i].category,
                              "skipped", "the prompt and an answer do not fit the context",
                              "prompt_tokens", (json_int_t)b->skipped[i], "context", b->o.ctx);
        json_dumpf(o, f, JSON_COMPACT);
        fputc('\n', f);
        json_decref(o);
    }
    fclose(f);
    spec_store_write(b->o.out, "skipped.jsonl", text, n);
    free(text);
}

/* What a pass costs by its rows, as the engine's cost model found it. */
static void write_costs(const bench *b)
{
    char text[FTK_MAX_NODES * 32];
    size_t n = (size_t)snprintf(text, sizeof text, "rows,seconds\n");
    for (int rows = 1; rows <= FTK_MAX_NODES; rows++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%d,%.9f\n", rows,
                              ftk_engine_cost(b->engine[0], rows));
    spec_store_write(b->o.out, "rowcost.csv", text, n);
}

static ftk_engine *open_engine(const bench *b)
{
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = b->o.threads;
    cfg.kv_slots = b->o.ctx;
    cfg.device = b->o.device;
    ftk_engine *e;
    const ftk_err err = ftk_engine_open(&e, b->w.model, &cfg);
    if (err != FTK_OK) run_exit(err, cfg.device);
    run_add_drafters(e, b->o.model);
    return e;
}

static void count_left(bench *b)
{
    for (int lap = 0; lap < b->o.repeat; lap++)
        for (int m = 0; m < b->o.n_methods; m++)
            for (size_t i = 0; i < b->q->n; i++) {
                if (b->skipped[i] > 0) continue;
                b->all++;
                if (spec_store_has(b->store, lap, m, i))
                    b->done++;
                else
                    b->left[m]++;
            }
}

static void warm_up(bench *b)
{
    size_t first = 0;
    while (b->skipped[first] > 0) first++;
    const int n = b->o.max_new < WARM_TOKENS ? b->o.max_new : WARM_TOKENS;
    for (int i = 0; i < b->o.warmup; i++)
        for (int m = 0; m < b->o.n_methods; m++)
            spec_warm_up(&b->w, b->engine[m], &b->o.methods[m], &b->q->at[first], n);
}

/* ---- all of it */

static void ask(bench *b, int lap, int m, size_t i)
{
    if (b->skipped[i] > 0 || spec_store_has(b->store, lap, m, i)) return;
    double seconds;
    const question *q = &b->q->at[i];
    json_t *answer = spec_ask(&b->w, b->engine[m], &b->o.methods[m], q, &seconds);
    spec_store_add(b->store, lap, m, i, answer);
    json_decref(answer);
    b->done++;
    b->left[m]--;
    b->took[m]++;
    b->seconds[m] += seconds;
    say(b, lap, q, &b->o.methods[m], seconds);
}

static void ask_all(bench *b)
{
    for (int m = 1; m < b->o.n_methods; m++) b->engine[m] = open_engine(b);
    warm_up(b);
    b->said = run_now();
    for (int lap = 0; lap < b->o.repeat; lap++)
        for (size_t i = 0; i < b->q->n; i++)
            for (int k = 0; k < b->o.n_methods; k++)
                ask(b, lap, (int)((i + (size_t)lap + (size_t)k) % (size_t)b->o.n_methods), i);
}

static void name_model(bench *b)
{
    const char *slash = strrchr(b->o.model, '/'), *name = slash ? slash + 1 : b->o.model;
    const char *dot = strrchr(name, '.');
    snprintf(b->id, sizeof b->id, "%.*s", dot ? (int)(dot - name) : (int)strlen(name), name);
}

void spec_run(const spec_options *o, const questions *q)
{
    bench b = {.o = *o, .q = q};
    b.w = (spec_world){.o = &b.o, .model = run_model(o->model), .id = b.id};
    ftk_model_info info;
    ftk_model_get_info(b.w.model, &info);
    name_model(&b);
    choose_template(&b, &info);
    choose_context(&b, &info);
    b.w.prompt = calloc((size_t)b.o.ctx, sizeof *b.w.prompt);
    if (!b.w.prompt) run_die("no memory for a context of %d tokens", b.o.ctx);
    skip_questions(&b);
    b.engine[0] = open_engine(&b);
    json_t *settings =
        spec_settings(&b.o, q, b.w.model, ftk_engine_threads(b.engine[0]), b.n_skipped);
    b.store = spec_store_open(&b.o, q, settings);
    json_decref(settings);
    count_left(&b);
    write_skipped(&b);
    if (b.done > 0 && b.done < b.all)
        run_say("%s: %zu of %zu answers are there: it goes on behind them", o->out, b.done, b.all);
    if (b.done < b.all) {
        write_costs(&b);
        ask_all(&b);
    }
    spec_store_close(b.store);
    for (int m = 0; m < b.o.n_methods; m++) ftk_engine_free(b.engine[m]);
    ftk_model_free(b.w.model);
    free(b.w.prompt);
    free(b.skipped);
}
