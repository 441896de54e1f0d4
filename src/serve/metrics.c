/* SPDX-License-Identifier: Apache-2.0
 * /metrics: figures as Prometheus reads them, under our names, and, where asked for, under
 * vLLM's, by which routers and benchmarks know a server. */
#include <stdarg.h>
#include <string.h>

#include "serve/serve.h"

/* Upper bounds, in seconds. */
static const double bounds[SERVE_N_BOUNDS] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                              0.5,   1,     2.5,  5,     10,   30,  120};

void serve_histogram_add(serve_histogram *h, double seconds)
{
    size_t i = 0;
    while (i < SERVE_N_BOUNDS && seconds > bounds[i]) i++;
    h->counts[i]++;
    h->n++;
    h->sum += seconds;
}

typedef struct page {
    cli_bytes *out;
    const char *prefix;
    char labels[640]; /* without braces */
} page;

static void add(cli_bytes *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(cli_bytes *out, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    cli_bytes_add(out, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}

static void figure(const page *p, const char *type, const char *name, double v)
{
    add(p->out, "# TYPE %s:%s %s\n", p->prefix, name, type);
    add(p->out, "%s:%s{%s} %.17g\n", p->prefix, name, p->labels, v);
}

static void histogram(const page *p, const char *name, const serve_histogram *h)
{
    uint64_t n = 0;
    add(p->out, "# TYPE %s:%s histogram\n", p->prefix, name);
    for (int i = 0; i < SERVE_N_BOUNDS; i++) {
        n += h->counts[i];
        add(p->out, "%s:%s_bucket{%s,le=\"%g\"} %llu\n", p->prefix, name, p->labels, bounds[i],
            (unsigned long long)n);
    }
    add(p->out, "%s:%s_bucket{%s,le=\"+Inf\"} %llu\n", p->prefix, name, p->labels,
        (unsigned long long)h->n);
    add(p->out, "%s:%s_sum{%s} %.9g\n", p->prefix, name, p->labels, h->sum);
    add(p->out, "%s:%s_count{%s} %llu\n", p->prefix, name, p->labels, (unsigned long long)h->n);
}

static void endings(const page *p, const char *name, const serve_figures *f)
{
    const struct {
        const char *why;
        uint64_t n;
    } list[] = {
        {"stop", f->stopped}, {"length", f->cut}, {"abort", f->cancelled}, {"error", f->failed}};
    add(p->out, "# TYPE %s:%s counter\n", p->prefix, name);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        add(p->out, "%s:%s{%s,finished_reason=\"%s\"} %llu\n", p->prefix, name, p->labels,
            list[i].why, (unsigned long long)list[i].n);
}

static void drafts(const page *p, const serve_figures *f)
{
    const char *const name = "spec_decode_num_accepted_tokens_per_pos_total";
    figure(p, "counter", "spec_decode_num_drafts_total", (double)f->drafts);
    figure(p, "counter", "spec_decode_num_draft_tokens_total", (double)f->drafted);
    figure(p, "counter", "spec_decode_num_accepted_tokens_total", (double)f->accepted);
    add(p->out, "# TYPE %s:%s counter\n", p->prefix, name);
    for (int i = 0; i < FTK_MAX_NODES && (i == 0 || f->accepted_at[i] > 0); i++)
        add(p->out, "%s:%s{%s,position=\"%d\"} %llu\n", p->prefix, name, p->labels, i,
            (unsigned long long)f->accepted_at[i]);
}

/* In line, and those that the scheduler has not seen yet. */
static size_t waiting(const serve_server *s)
{
    size_t n = s->figures.waiting;
    for (const serve_request *r = s->incoming; r; r = r->next) n += r->n_choices;
    return n;
}

/* What both names have. */
static void common(const page *p, const serve_server *s)
{
    const serve_figures *const f = &s->figures;
    figure(p, "gauge", "num_requests_running", (double)f->running);
    figure(p, "gauge", "num_requests_waiting", (double)waiting(s));
    figure(p, "gauge", "kv_cache_usage_perc", f->kv_usage);
    figure(p, "counter", "prompt_tokens_total", (double)f->prompt_tokens);
    figure(p, "counter", "generation_tokens_total", (double)f->generated);
    figure(p, "counter", "num_preemptions_total", (double)f->preempted);
    endings(p, "request_success_total", f);
    drafts(p, f);
    histogram(p, "time_to_first_token_seconds", &f->first_token);
    histogram(p, "time_per_output_token_seconds", &f->per_token);
    histogram(p, "e2e_request_latency_seconds", &f->whole);
}

/* A label's value: quotes and backslashes are escaped; a file's name may hold anything. */
static void label(char *to, size_t cap, const char *name)
{
    size_t n = (size_t)snprintf(to, cap, "model_name=\"");
    for (; *name && n + 4 < cap; name++) {
        if (*name == '"' || *name == '\\') to[n++] = '\\';
        to[n++] = *name == '\n' ? ' ' : *name;
    }
    snprintf(to + n, cap - n, "\"");
}

void serve_metrics(const serve_server *s, cli_bytes *out)
{
    const serve_figures *const f = &s->figures;
    page p = {.out = out, .prefix = "foretoken"};
    label(p.labels, sizeof p.labels, s->name);
    common(&p, s);
    figure(&p, "gauge", "sessions_open", (double)f->sessions);
    figure(&p, "counter", "prompt_tokens_cached_total", (double)f->cached);
    figure(&p, "counter", "requests_refused_total", (double)f->refused);
    if (!s->o->metrics_names) return;
    p.prefix = "vllm";
    const size_t n = strlen(p.labels);
    snprintf(p.labels + n, sizeof p.labels - n, ",engine=\"0\"");
    common(&p, s);
}
