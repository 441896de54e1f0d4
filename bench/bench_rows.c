/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-rows: what a pass costs by its number of rows and by the tokens cached before it, logits
 * on all rows; and how near one row comes to the speed at which this machine reads memory. In each
 * round every point is measured once, so that a slower moment falls on all of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/session.h"
#include "rows_report.h"
#include "run.h"

enum { MAX_LIST = 32, MAX_ROUNDS = 1000, MAX_DEPTH = 1 << 20 };
static const double sample_seconds = 0.005; /* short passes are repeated for so long */
static const double most_read = 1 << 30;    /* bytes of the buffer that is read */

typedef struct {
    int n, at[MAX_LIST];
} list;

typedef struct {
    const char *model, *json, *plot, *note;
    int threads, rounds;
    list rows, depths;
} options;

/* ---- passes */

/* Reads tokens into the cache up to depth. */
static void fill(ftk_engine *e, ftk_kv_seq *seq, const int32_t *tokens, int depth)
{
    while (seq->len < depth) {
        const int left = depth - seq->len, n = left < FTK_MAX_NODES ? left : FTK_MAX_NODES;
        const ftk_pass_seq pass = {.kv = seq, .n_rows = n, .token = tokens, .first_logits = n};
        if (ftk_kv_reserve(seq, n) != FTK_OK)
            run_die("the KV cache has no room for %d tokens", depth);
        ftk_forward_run(&e->forward, &pass, 1);
        seq->len += n;
    }
}

/* Seconds of one pass; the mean of several where they are short. The first is not counted: it
 * finds in the caches what was measured before. */
static double time_rows(ftk_engine *e, const ftk_kv_seq *seq, const int32_t *tokens, int rows)
{
    const ftk_pass_seq pass = {.kv = seq, .n_rows = rows, .token = tokens};
    ftk_forward_run(&e->forward, &pass, 1);
    const double start = ftk_now();
    int n = 0;
    double seconds;
    do {
        ftk_forward_run(&e->forward, &pass, 1);
        n++;
        seconds = ftk_now() - start;
    } while (seconds < sample_seconds);
    return seconds / n;
}

/* ---- reading memory */

static inline __attribute__((always_inline)) uint64_t sum_words(const uint64_t *p, size_t n)
{
    uint64_t sum[32] = {0};
    for (size_t i = 0; i + 32 <= n; i += 32)
        for (size_t j = 0; j < 32; j++) sum[j] += p[i + j];
    for (int j = 1; j < 32; j++) sum[0] += sum[j];
    return sum[0];
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint64_t sum_words_avx2(const uint64_t *p, size_t n)
{
    return sum_words(p, n);
}
#endif

/* As wide as the machine can: a buffer that fits a cache is not limited by the memory. */
static uint64_t read_words(const uint64_t *p, size_t n)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) return sum_words_avx2(p, n);
#endif
    return sum_words(p, n);
}

typedef struct reading {
    const uint64_t *p;
    size_t n;
    _Atomic uint64_t sum;
} reading;

static void read_share(void *ctx, int ith, int nth)
{
    reading *const r = ctx;
    const size_t share = r->n / (size_t)nth;
    r->sum += read_words(r->p + share * (size_t)ith, share);
}

static uint64_t read_all(const uint64_t *p, size_t n, ftk_team *team)
{
    reading r = {.p = p, .n = n};
    ftk_team_run(team, read_share, &r);
    return r.sum;
}

/* Seconds in which all threads together read a buffer of n words once, the first time not
 * counted. */
static double time_read(const uint64_t *p, size_t n, ftk_team *team, uint64_t *sum)
{
    *sum += read_all(p, n, team);
    const double start = ftk_now();
    int times = 0;
    double seconds;
    do {
        *sum += read_all(p, n, team);
        times++;
        seconds = ftk_now() - start;
    } while (seconds < sample_seconds);
    return seconds / times;
}

/* ---- measuring */

static spread spread_of(double *x, int n)
{
    const size_t count = (size_t)n;
    const double median = run_quantile(x, count, 0.5);
    return (spread){median, run_quantile(x, count, 0.25), run_quantile(x, count, 0.75)};
}

/* The points that fit the model's context. */
static void make_points(rows_report *r, const options *o)
{
    r->points = calloc((size_t)(o->depths.n * o->rows.n), sizeof *r->points);
    if (!r->points) run_die("no memory for the points");
    for (int d = 0; d < o->depths.n; d++) {
        const int depth = o->depths.at[d];
        int fit = 0;
        for (int i = 0; i < o->rows.n; i++)
            if (depth + o->rows.at[i] <= r->model.n_ctx_train) {
                r->points[r->n_points++] = (point){.depth = depth, .rows = o->rows.at[i]};
                fit++;
            }
        if (fit < o->rows.n)
            fprintf(stderr, "depth %d: %d of %d widths left out: the model's context is %d\n",
                    depth, o->rows.n - fit, o->rows.n, r->model.n_ctx_train);
    }
    if (r->n_points == 0) run_die("nothing fits the model's context of %d", r->model.n_ctx_train);
}

/* One sequence for each depth, all of which share the cached tokens they have in common. */
static void open_depths(ftk_engine *e, const list *depths, const int32_t *tokens, ftk_kv_seq *seqs)
{
    for (int d = 0; d < depths->n; d++) {
        const int depth = depths->at[d];
        if (ftk_kv_seq_open(&seqs[d], &e->pool, depth + FTK_MAX_NODES) != FTK_OK) exit(RUN_FAILED);
        if (d > 0) ftk_kv_fork(&seqs[d], &seqs[d - 1]);
        fill(e, &seqs[d], tokens, depth);
    }
    for (int d = 0; d < depths->n; d++)
        if (ftk_kv_reserve(&seqs[d], FTK_MAX_NODES) != FTK_OK)
            run_die("the KV cache has no room for the passes");
}

static void measure(rows_report *r, ftk_engine *e, const options *o, const ftk_kv_seq *seqs,
                    const int32_t *tokens)
{
    const size_t rounds = (size_t)r->rounds;
    const double weights = (double)r->model.weight_bytes;
    const size_t words = (size_t)(weights < most_read ? weights : most_read) / sizeof(uint64_t);
    double *x = calloc(((size_t)r->n_points + 1) * rounds, sizeof *x);
    uint64_t *buffer = ftk_alloc_raw(NULL, words, sizeof *buffer); /* as weights are allocated */
    if (!x || !buffer)
        run_die("no memory for a buffer of %zu MiB to read", words * sizeof *buffer >> 20);
    for (size_t i = 0; i < words; i++) buffer[i] = i;
    double *read = x + (size_t)r->n_points * rounds;
    uint64_t sum = 0;
    for (size_t round = 0; round < rounds; round++) {
        read[round] = time_read(buffer, words, &e->forward.team, &sum);
        for (int i = 0, d = 0; i < r->n_points; i++) {
            while (o->depths.at[d] != r->points[i].depth) d++;
            x[(size_t)i * rounds + round] = time_rows(e, &seqs[d], tokens, r->points[i].rows);
        }
    }
    if (sum == 1) /* never: so that the reading is not optimised away */
        printf("\n");
    for (int i = 0; i < r->n_points; i++)
        r->points[i].seconds = spread_of(x + (size_t)i * rounds, r->rounds);
    r->read_bytes = (double)(words * sizeof *buffer);
    r->read_seconds = spread_of(read, r->rounds);
    ftk_release(NULL, buffer);
    free(x);
}

static ftk_engine *open_engine(const ftk_model *m, const options *o)
{
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = o->threads;
    cfg.measure = false;
    /* the deepest sequence, and for each depth its own last page and rows */
    cfg.kv_slots = o->depths.at[o->depths.n - 1] + o->depths.n * (FTK_MAX_NODES + 2 * FTK_PAGE);
    ftk_engine *e;
    if (ftk_engine_open(&e, m, &cfg) != FTK_OK) exit(RUN_FAILED);
    return e;
}

static void bench(const options *given)
{
    options o = *given;
    ftk_model *m = run_model(o.model);
    rows_report r = {.path = o.model, .note = o.note, .rounds = o.rounds};
    ftk_model_get_info(m, &r.model);
    make_points(&r, &o);
    const int deepest = r.points[r.n_points - 1].depth;
    while (o.depths.at[o.depths.n - 1] > deepest) o.depths.n--; /* no point is left of it */
    ftk_engine *e = open_engine(m, &o);
    r.threads = ftk_engine_threads(e);
    int32_t tokens[FTK_MAX_NODES];
    for (int i = 0; i < FTK_MAX_NODES; i++)
        tokens[i] = (int32_t)((int64_t)(i + 1) * 7919 % r.model.n_vocab);
    ftk_kv_seq seqs[MAX_LIST];
    open_depths(e, &o.depths, tokens, seqs);
    measure(&r, e, &o, seqs, tokens);
    rows_report_print(&r);
    if (o.json) rows_report_json(&r, o.json);
    if (o.plot) rows_report_plot(&r, o.plot);
    for (int d = 0; d < o.depths.n; d++) ftk_kv_seq_close(&seqs[d]);
    free(r.points);
    ftk_engine_free(e);
    ftk_model_free(m);
}

/* ---- the command line */

static void help(void)
{
    printf(
        "bench-rows -m MODEL [options]: the cost of passes by rows and depth\n\n"
        "  -t N           threads (default: all cores)\n"
        "  --kernels L    the level of the kernels: ref, avx2, avx512 or amx (default: the best)\n"
        "  --rows LIST    rows of a pass (default 1,2,4,8,16,24,32,48,64,96,128)\n"
        "  --depths LIST  tokens cached before it (default 0,256,2048)\n"
        "  --rounds N     samples of each (default 7)\n"
        "  --json FILE    the numbers, for programs\n"
        "  --plot FILE    a picture, .png or .svg, if gnuplot is installed\n"
        "  --note TEXT    goes into the report: the commit, say\n");
}

/* "1,2,4": rising numbers. */
static list read_list(const char *option, const char *text, int least, int most)
{
    list l = {.n = run_numbers(option, text, least, most, l.at, MAX_LIST)};
    for (int i = 1; i < l.n; i++)
        if (l.at[i] <= l.at[i - 1])
            run_refuse("%s %s: give rising numbers with commas between them", option, text);
    return l;
}

static void take_option(options *o, const char *option, const char *value)
{
    if (strcmp(option, "-m") == 0)
        o->model = value;
    else if (strcmp(option, "-t") == 0)
        o->threads = (int)run_number(option, value, 1, 256);
    else if (strcmp(option, "--rows") == 0)
        o->rows = read_list(option, value, 1, FTK_MAX_NODES);
    else if (strcmp(option, "--depths") == 0)
        o->depths = read_list(option, value, 0, MAX_DEPTH);
    else if (strcmp(option, "--rounds") == 0)
        o->rounds = (int)run_number(option, value, 1, MAX_ROUNDS);
    else if (strcmp(option, "--json") == 0)
        o->json = value;
    else if (strcmp(option, "--plot") == 0)
        o->plot = value;
    else if (strcmp(option, "--note") == 0)
        o->note = value;
    else if (!run_take_option(option, value))
        run_refuse("%s is unknown: see bench-rows --help", option);
}

int main(int argc, char **argv)
{
    options o = {
        .rounds = 7,
        .rows = {11, {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128}},
        .depths = {3, {0, 256, 2048}},
    };
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--help") == 0) {
            help();
            return 0;
        }
        if (i + 1 >= argc)
            run_refuse("%s needs a value, or is unknown: see bench-rows --help", argv[i]);
        take_option(&o, argv[i], argv[i + 1]);
    }
    if (!o.model) run_refuse("usage: bench-rows -m MODEL [options]; bench-rows --help tells more");
    if (o.plot && !rows_report_can_plot(o.plot)) o.plot = NULL;
    bench(&o);
    return 0;
}
