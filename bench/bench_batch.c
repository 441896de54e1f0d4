/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-batch: what sessions that share passes say together, by their number and their drafter,
 * over plain decoding. The sessions of a run read their prompts first, which is not counted, and
 * then decode until they have said so many tokens together; or, with --arrive, a new prompt
 * follows where an answer ends, its reading is counted, and so is how long answers take to begin
 * and to go on. Methods take turns, run by run. With --costs the clock goes on by what passes
 * are said to take, and every run decides the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session.h"
#include "prompts.h"
#include "run.h"
#include "testkit/costclock.h"

enum { MOST_SESSIONS = 64, MOST_METHODS = 16, MOST_RUNS = 64, MAX_PROMPT = 1024, SLOTS = 1536 };

typedef struct {
    const char *model, *questions, *costs, *costs_file, *names[MOST_METHODS];
    int n_names, sessions[MOST_METHODS], n_sessions, tokens, runs, threads;
    bool arrive, each; /* each: all runs' speeds, too, to compare two builds run by run */
    double least;      /* over none, of the median, else the run has failed */
} options;

/* Of one run. */
typedef struct {
    double seconds;
    size_t tokens, steps, n_first, n_next;
    double *first, *next; /* seconds to the first token of an answer, between its later ones */
} outcome;

typedef struct {
    const char *name;
    ftk_engine *engine;
    costclock clock;
    double speed[MOST_RUNS], per_step;
    outcome last;
} method;

typedef struct {
    ftk_session *s;
    int prompt;
    size_t said;
    double since; /* when it began to wait for its next token */
} seat;

typedef struct {
    const options *o;
    method *m;
    const prompts *p;
    int32_t **reference; /* [p->n][tokens] as plain decoding says them, from the first run on */
    size_t *n_reference;
    int next; /* prompt */
    size_t wrong;
} bench;

/* By a table's clock, what was done counts, and not by how much other programs slowed it down. */
static double now(const method *m)
{
    return m->clock.n > 0 ? m->clock.worked : ftk_engine_now(m->engine);
}

static void sit(bench *b, seat *at, int prompt)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = b->m->name;
    cfg.n_ctx = SLOTS;
    cfg.ignore_end = true;
    const struct prompt *const p = &b->p->at[(size_t)prompt % b->p->n];
    *at = (seat){.prompt = prompt, .since = now(b->m)};
    if (ftk_session_open(&at->s, b->m->engine, &cfg) != FTK_OK ||
        ftk_session_append(at->s, p->tokens, p->n) != FTK_OK)
        exit(RUN_FAILED);
}

/* Compares what came with what plain decoding said, as far as that is known; plain decoding
 * makes it known. */
static void compare(bench *b, const seat *at, const ftk_result *r)
{
    const size_t which = (size_t)at->prompt % b->p->n, most = SLOTS;
    int32_t *const text = b->reference[which];
    size_t *const known = &b->n_reference[which];
    for (size_t i = 0; i < r->n_tokens && at->said + i < most; i++) {
        if (at->said + i < *known)
            b->wrong += text[at->said + i] != r->tokens[i];
        else if (at->said + i == *known && strcmp(b->m->name, "none") == 0)
            text[(*known)++] = r->tokens[i];
    }
}

static void took(outcome *out, seat *at, size_t n, double time)
{
    const double waited = time - at->since;
    if (at->said == 0)
        out->first[out->n_first++] = waited;
    else
        for (size_t i = 0; i < n; i++) out->next[out->n_next++] = waited / (double)n;
    at->since = time;
}

/* One step of all; returns the tokens that came. */
static size_t step(bench *b, seat *seats, int n, outcome *out)
{
    ftk_session *s[MOST_SESSIONS] = {0};
    ftk_result r[MOST_SESSIONS];
    size_t tokens = 0;
    for (int i = 0; i < n; i++) s[i] = seats[i].s;
    if (ftk_step(s, (size_t)n, r) != FTK_OK) exit(RUN_FAILED);
    const double time = now(b->m);
    for (int i = 0; i < n; i++) {
        if (r[i].n_tokens == 0) continue;
        compare(b, &seats[i], &r[i]);
        took(out, &seats[i], r[i].n_tokens, time);
        seats[i].said += r[i].n_tokens;
        tokens += r[i].n_tokens;
        out->steps++;
    }
    return tokens;
}

static bool all_read(const seat *seats, int n)
{
    for (int i = 0; i < n; i++)
        if (seats[i].said == 0) return false;
    return true;
}

/* Sessions decode side by side until they have said n times `tokens`. */
static void decode_together(bench *b, seat *seats, int n, outcome *out)
{
    while (!all_read(seats, n)) step(b, seats, n, out);
    *out = (outcome){.first = out->first, .next = out->next};
    const double start = now(b->m);
    while (out->tokens < (size_t)n * (size_t)b->o->tokens) out->tokens += step(b, seats, n, out);
    out->seconds = now(b->m) - start;
}

/* Four answers a seat on average; a new prompt comes where one ends. */
static void serve(bench *b, seat *seats, int n, outcome *out)
{
    const int all = b->next + 3 * n;
    const double start = now(b->m);
    while (n > 0) {
        out->tokens += step(b, seats, n, out);
        for (int i = 0; i < n; i++) {
            if (seats[i].said < (size_t)b->o->tokens) continue;
            ftk_session_free(seats[i].s);
            if (b->next < all)
                sit(b, &seats[i], b->next++);
            else
                seats[i--] = seats[--n];
        }
    }
    out->seconds = now(b->m) - start;
}

/* A run of the method with n sessions, whose prompts begin with `first`. */
static void run_once(bench *b, int n, int first, outcome *out)
{
    seat seats[MOST_SESSIONS];
    const size_t most = (size_t)n * (size_t)(b->o->tokens + FTK_MAX_NODES) * 5;
    *out = (outcome){.first = calloc((size_t)n * 5, sizeof(double)),
                     .next = calloc(most, sizeof(double))};
    if (!out->first || !out->next) run_die("no memory for times");
    b->next = first;
    for (int i = 0; i < n; i++) sit(b, &seats[i], b->next++);
    if (b->o->arrive) {
        serve(b, seats, n, out);
        return;
    }
    decode_together(b, seats, n, out);
    for (int i = 0; i < n; i++) ftk_session_free(seats[i].s);
}

static void forget(outcome *out)
{
    free(out->first);
    free(out->next);
}

/* Returns the median over plain decoding. */
static double print_row(const options *o, int n, method *m, const method *plain, size_t wrong)
{
    double ratio[MOST_RUNS], speed[MOST_RUNS];
    for (int i = 0; i < o->runs; i++) ratio[i] = m->speed[i] / plain->speed[i];
    memcpy(speed, m->speed, sizeof speed);
    printf("| %d | %s | %.0f | %.3f (%.3f-%.3f) | %.2f |", n, m->name,
           run_quantile(speed, (size_t)o->runs, 0.5), run_quantile(ratio, (size_t)o->runs, 0.5),
           run_quantile(ratio, (size_t)o->runs, 0), run_quantile(ratio, (size_t)o->runs, 1),
           m->per_step);
    if (o->arrive)
        printf(" %.0f / %.0f |", 1e3 * run_quantile(m->last.first, m->last.n_first, 0.5),
               1e3 * run_quantile(m->last.first, m->last.n_first, 0.95));
    printf(" %.1f / %.1f | %s |\n", 1e3 * run_quantile(m->last.next, m->last.n_next, 0.5),
           1e3 * run_quantile(m->last.next, m->last.n_next, 0.95), wrong ? "NO" : "yes");
    for (int i = 0; o->each && i < o->runs; i++) printf("%s%.4g", i ? " " : "  ", m->speed[i]);
    if (o->each) printf("\n");
    fflush(stdout);
    return run_quantile(ratio, (size_t)o->runs, 0.5);
}

/* All methods with n sessions, run by run in turn. Returns how many said other tokens or were
 * too slow. */
static int measure(bench *b, method *methods, int n)
{
    const options *const o = b->o;
    size_t wrong[MOST_METHODS] = {0};
    int failed = 0;
    for (int r = -1; r < o->runs; r++) /* the first is not counted */
        for (int i = 0; i < o->n_names; i++) {
            b->m = &methods[(i + r + 1) % o->n_names];
            if (r <= 0) b->m = &methods[i]; /* plain decoding makes the reference */
            b->wrong = 0;
            forget(&b->m->last);
            run_once(b, n, (r + 1) * n, &b->m->last);
            wrong[b->m - methods] += b->wrong;
            if (r < 0) continue;
            b->m->speed[r] = (double)b->m->last.tokens / b->m->last.seconds;
            b->m->per_step = (double)b->m->last.tokens / (double)b->m->last.steps;
        }
    for (int i = 0; i < o->n_names; i++) {
        const double ratio = print_row(o, n, &methods[i], &methods[0], wrong[i]);
        failed += wrong[i] > 0 || ratio < o->least;
    }
    return failed;
}

/* ---- life */

static void open_method(method *m, const options *o, const ftk_model *model, const char *name)
{
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    int most = 1;
    for (int i = 0; i < o->n_sessions; i++)
        if (o->sessions[i] > most) most = o->sessions[i];
    cfg.threads = o->threads;
    cfg.kv_slots = most * SLOTS;
    *m = (method){.name = name};
    if (o->costs && !costclock_open(&m->clock, model, o->costs_file, o->costs))
        run_die("--costs %s: %s has no such line, or it is not of the form NAME ROWS:MS ROWS:MS "
                "... [deep:US]",
                o->costs, o->costs_file);
    if (ftk_engine_open_by(&m->engine, model, &cfg, o->costs ? &m->clock.clock : NULL) != FTK_OK)
        exit(RUN_FAILED);
    run_add_drafters(m->engine, o->model);
    if (!ftk_engine_has_drafter(m->engine, name))
        run_die("--drafters %s: its file is not beside the model", name);
}

static const char usage[] =
    "usage: bench-batch -m MODEL [--questions FILE] [--sessions 1,4,16] [--drafters "
    "lookup,s4c,auto] [--tokens 128] [--runs 3] [--threads N] [--kernels LEVEL] [--arrive] "
    "[--each] [--costs NAME [--costs-file FILE]] [--lora FILE]... [--draft-model FILE] "
    "[--drafter-file FILE]... [--drafter-layers L,L,L] [--least X: fail where a median over plain "
    "decoding is below]";

static void take_option(options *o, const char *name, const char *value)
{
    const char *words[MOST_METHODS];
    if (strcmp(name, "-m") == 0)
        o->model = value;
    else if (strcmp(name, "--questions") == 0)
        o->questions = value;
    else if (strcmp(name, "--costs") == 0)
        o->costs = value;
    else if (strcmp(name, "--costs-file") == 0)
        o->costs_file = value;
    else if (strcmp(name, "--tokens") == 0)
        o->tokens = (int)run_number(name, value, 1, SLOTS - MAX_PROMPT - FTK_MAX_NODES);
    else if (strcmp(name, "--runs") == 0)
        o->runs = (int)run_number(name, value, 1, MOST_RUNS);
    else if (strcmp(name, "--threads") == 0)
        o->threads = (int)run_number(name, value, 1, 256);
    else if (strcmp(name, "--least") == 0)
        o->least = run_positive(name, value);
    else if (strcmp(name, "--drafters") == 0) {
        o->n_names = 1;
        const int n = run_names(name, value, ftk_drafters(), words, MOST_METHODS - 1);
        for (int i = 0; i < n; i++)
            if (strcmp(words[i], "none") != 0) o->names[o->n_names++] = words[i];
    } else if (strcmp(name, "--sessions") == 0) {
        o->n_sessions = run_numbers(name, value, 1, MOST_SESSIONS, o->sessions, MOST_METHODS);
    } else if (!run_take_option(name, value))
        run_refuse("%s is unknown; %s", name, usage);
}

int main(int argc, char **argv)
{
    options o = {.costs_file = "bench/costs.txt",
                 .questions = "bench/prompts.txt",
                 .names = {"none", "lookup", "recycle", "s4c", "auto"},
                 .n_names = 5,
                 .sessions = {1, 2, 4, 8, 16, 32},
                 .n_sessions = 6,
                 .tokens = 128,
                 .runs = 3};
    run_help(argc, argv, usage);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--arrive") == 0)
            o.arrive = true;
        else if (strcmp(argv[i], "--each") == 0)
            o.each = true;
        else if (i + 1 < argc)
            take_option(&o, argv[i], argv[i + 1]), i++;
        else
            run_refuse("%s", usage);
    }
    if (!o.model) run_refuse("%s", usage);
    ftk_model *const model = run_model(o.model);
    prompts p;
    prompts_read(&p, o.questions, 0, MAX_PROMPT, model);
    if (p.n == 0) run_die("%s holds no prompt of at most %d tokens", o.questions, MAX_PROMPT);
    bench b = {.o = &o,
               .p = &p,
               .reference = calloc(p.n, sizeof *b.reference),
               .n_reference = calloc(p.n, sizeof(size_t))};
    for (size_t i = 0; i < p.n; i++) b.reference[i] = calloc(SLOTS, sizeof(int32_t));
    static method methods[MOST_METHODS];
    for (int i = 0; i < o.n_names; i++) open_method(&methods[i], &o, model, o.names[i]);
    char shown[256];
    printf("%s, %d threads, %s, %d tokens a session, %d runs\n\n",
           run_shown(shown, sizeof shown, o.model), ftk_engine_threads(methods[0].engine),
           o.costs ? o.costs : "measured", o.tokens, o.runs);
    printf("| sessions | drafter | tokens/s | over none | tokens/step |%s ms between tokens, 50 / "
           "95 %% | equal |\n",
           o.arrive ? " ms to the first, 50 / 95 % |" : "");
    printf("|---|---|---|---|---|%s---|---|\n", o.arrive ? "---|" : "");
    int failed = 0;
    for (int i = 0; i < o.n_sessions; i++) failed += measure(&b, methods, o.sessions[i]);
    for (int i = 0; i < o.n_names; i++) {
        forget(&methods[i].last);
        ftk_engine_free(methods[i].engine);
    }
    for (size_t i = 0; i < p.n; i++) free(b.reference[i]);
    free(b.reference);
    free(b.n_reference);
    prompts_free(&p);
    ftk_model_free(model);
    return failed > 0;
}
