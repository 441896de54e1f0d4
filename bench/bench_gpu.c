/* SPDX-License-Identifier: Apache-2.0
 *
 * What passes cost on a GPU, beside what its memory can do.
 *
 *     bench-gpu [--device N] [--shape NAME] [--type NAME] [--depth N] [--quick]
 *
 * Weights are random and lie in memory alone (testkit/memorymodel.h): no file, no library is
 * needed. A time is the median of the wall times of whole passes as greedy steps make them, from
 * the host's tokens to the likeliest tokens of every row on the host; `logits` is a pass over 64
 * rows that gets all logits, as one does when tokens are drawn. GB/s counts the bytes of
 * weights, and share is that over the speed of a copy on the same device, which counts what it
 * reads and what it writes. kept: how many kinds of passes ran as one call (CUDA graphs). A
 * route is a row as DASH runs it, one token by itself: a policy is asked at every layer, and
 * says what the column does. Exit: 0 done, 2 usage or failed, 77 no device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/cuda/cuda.h"
#include "model/device.h"
#include "testkit/memorymodel.h"

enum { POINTS = 8, MOST_REPEATS = 15, SPARE = 64 };

typedef struct {
    int device, depth;
    const char *shape, *type; /* NULL: all */
    bool quick;
} options;

static _Noreturn void stop(const char *what, int status)
{
    char shown[512];
    ftk_show(what, strlen(what), 0, shown, sizeof shown);
    fprintf(stderr, "bench-gpu: %s\n", shown);
    exit(status);
}

static _Noreturn void die(const char *what)
{
    stop(what, 1);
}

/* Of what stands on the command line. */
static _Noreturn void refuse(const char *option, const char *text, const char *why)
{
    char line[256];
    snprintf(line, sizeof line, "%s%s%.100s: %s", option, text[0] ? " " : "", text, why);
    stop(line, 2);
}

/* As run_number() of run.h, which needs the whole library. */
static int number(const char *option, const char *text, int lowest, int highest)
{
    char give[64], *end;
    const long n = strtol(text, &end, 10);
    snprintf(give, sizeof give, "give a whole number from %d to %d", lowest, highest);
    if (end == text || *end || n < lowest || n > highest) refuse(option, text, give);
    return (int)n;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, by_size);
    return n % 2 ? t[n / 2] : (t[n / 2 - 1] + t[n / 2]) / 2;
}

/* ------------------------------------------------------------------ copy, attention */

static double copy_speed(const options *o)
{
    const size_t bytes = (size_t)(o->quick ? 4 : 1024) << 20;
    ftk_queue q;
    if (!ftk_cuda_open(&q, o->device)) die("the device cannot be opened");
    void *a = ftk_cuda_alloc(&q, bytes), *b = ftk_cuda_alloc(&q, bytes);
    if (!a || !b) die("no device memory for a copy");
    double t[MOST_REPEATS];
    for (int i = -2; i < MOST_REPEATS; i++) {
        ftk_cuda_wait(&q);
        ftk_cuda_mark(&q, 0);
        ftk_cuda_copy(&q, a, b, bytes);
        ftk_cuda_mark(&q, 1);
        const double seconds = ftk_cuda_elapsed(&q, 0);
        if (i >= 0) t[i] = seconds;
    }
    if (!ftk_cuda_wait(&q)) die(ftk_cuda_error_text(&q));
    ftk_cuda_free(&q, a);
    ftk_cuda_free(&q, b);
    ftk_cuda_close(&q);
    return 2 * (double)bytes / median(t, MOST_REPEATS);
}

/* The attention of one layer alone, over zeros: a chain of rows behind `depth` slots. */
static double attention_time(const options *o, int heads, int heads_kv, int dim, int rows,
                             int depth)
{
    const size_t row = (size_t)dim * sizeof(uint16_t), plane = (size_t)heads_kv * FTK_PAGE * row;
    const int n_pages = (depth + rows + FTK_PAGE - 1) / FTK_PAGE;
    const size_t n_q = (size_t)rows * (size_t)heads * (size_t)dim;
    const size_t partial = ftk_cuda_attn_partial(rows, heads, dim, depth + rows);
    float *zeros = calloc(n_q, sizeof *zeros);
    int32_t *pages = calloc((size_t)n_pages, sizeof *pages);
    uint64_t(*mask)[2] = calloc((size_t)rows, sizeof *mask);
    char *empty = calloc((size_t)n_pages, 2 * plane);
    if (!zeros || !pages || !mask || !empty) die("no memory");
    for (int i = 0; i < n_pages; i++) pages[i] = n_pages - 1 - i;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j <= i; j++) mask[i][j / 64] |= (uint64_t)1 << j % 64;
    ftk_queue q;
    if (!ftk_cuda_open(&q, o->device)) die("the device cannot be opened");
    const ftk_cuda_kv kv = {.pool = ftk_cuda_alloc(&q, (size_t)n_pages * 2 * plane),
                            .page_bytes = 2 * plane,
                            .values = plane,
                            .n_head_kv = heads_kv,
                            .head_dim = dim,
                            .type = FTK_TYPE_F16,
                            .page = ftk_cuda_alloc(&q, (size_t)n_pages * sizeof *pages)};
    float *query = ftk_cuda_alloc(&q, n_q * sizeof *query);
    uint64_t(*masks)[2] = ftk_cuda_alloc(&q, (size_t)rows * sizeof *masks);
    const ftk_cuda_span span = {depth, rows, depth + rows};
    ftk_cuda_span *spans = ftk_cuda_alloc(&q, sizeof *spans);
    const ftk_cuda_attn a = {.n_rows = rows,
                             .n_slots = depth + rows,
                             .span = spans,
                             .n_head = heads,
                             .scale = 0.1f,
                             .q = query,
                             .out = ftk_cuda_alloc(&q, n_q * sizeof *query),
                             .mask = (const uint64_t(*)[2])masks,
                             .partial = ftk_cuda_alloc(&q, partial),
                             .partial_bytes = partial};
    if (!kv.pool || !kv.page || !query || !masks || !spans || !a.out || !a.partial)
        die("no device memory");
    ftk_cuda_upload(&q, spans, &span, sizeof span);
    ftk_cuda_upload(&q, kv.pool, empty, (size_t)n_pages * 2 * plane);
    ftk_cuda_upload(&q, (void *)kv.page, pages, (size_t)n_pages * sizeof *pages);
    ftk_cuda_upload(&q, query, zeros, n_q * sizeof *query);
    ftk_cuda_upload(&q, masks, mask, (size_t)rows * sizeof *masks);
    double t[MOST_REPEATS];
    for (int i = -2; i < MOST_REPEATS; i++) {
        ftk_cuda_wait(&q);
        ftk_cuda_mark(&q, 0);
        ftk_cuda_attention(&q, &a, &kv);
        ftk_cuda_mark(&q, 1);
        const double seconds = ftk_cuda_elapsed(&q, 0);
        if (i >= 0) t[i] = seconds;
    }
    if (!ftk_cuda_wait(&q)) die(ftk_cuda_error_text(&q));
    void *const device[] = {kv.pool, (void *)kv.page, query, masks, spans, a.out, a.partial};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++) ftk_cuda_free(&q, device[i]);
    ftk_cuda_close(&q);
    free(zeros);
    free(pages);
    free(mask);
    free(empty);
    return median(t, MOST_REPEATS);
}

static void bench_attention(const options *o, double copy)
{
    static const struct {
        int heads, heads_kv, rows, depth;
    } cases[] = {{32, 32, 1, 8192},
                 {32, 8, 1, 8192},
                 {32, 8, 16, 8192},
                 {32, 32, 16, 8192},
                 {32, 8, 64, 8192}};
    printf("\nattention of one layer, heads of 128, F16 cache\n"
           "heads  kv heads  rows  depth       us    GB/s  share\n");
    for (int i = 0; i < (o->quick ? 1 : (int)(sizeof cases / sizeof cases[0])); i++) {
        const int depth = o->quick ? 300 : cases[i].depth;
        const double t =
            attention_time(o, cases[i].heads, cases[i].heads_kv, 128, cases[i].rows, depth);
        const double bytes = 2.0 * depth * cases[i].heads_kv * 128 * sizeof(uint16_t);
        printf("%5d  %8d  %4d  %5d  %7.1f  %6.0f  %4.0f%%\n", cases[i].heads, cases[i].heads_kv,
               cases[i].rows, depth, t * 1e6, bytes / t * 1e-9, 100 * bytes / t / copy);
    }
}

/* ------------------------------------------------------------------ passes */

typedef struct {
    ftk_device *device;
    ftk_kv_pool pool;
    ftk_forward f;
    ftk_kv_seq seq;
    int32_t token[FTK_MAX_NODES];
} bench;

/* False when the model does not fit, or, for wide prefill, cuBLAS is not there. */
static bool bench_open(bench *b, const options *o, const ftk_model *m, bool wide)
{
    char name[32], why[400];
    const int slots = o->depth + (wide ? FTK_WIDE_ROWS : FTK_MAX_NODES) + SPARE;
    snprintf(name, sizeof name, "cuda:%d", o->device);
    const ftk_device_config c = {.name = name,
                                 .max_rows = FTK_MAX_NODES,
                                 .max_slots = slots + FTK_MAX_NODES,
                                 .kv_bytes = ftk_kv_pool_bytes(m, slots, FTK_TYPE_F16),
                                 .wide = wide};
    *b = (bench){0};
    const ftk_err err = ftk_device_open(&b->device, m, &c, why, sizeof why);
    if (err == FTK_ERR_NOMEM || (wide && err == FTK_ERR_DEVICE)) {
        printf("%-5s skipped: %s\n", m->hp.arch->name, why);
        return false;
    }
    if (err != FTK_OK) die(why);
    if (ftk_kv_pool_open(&b->pool, m, slots, FTK_TYPE_F16, b->device) != FTK_OK ||
        ftk_forward_open(&b->f, m, 1, FTK_MAX_NODES, slots, slots + FTK_MAX_NODES, FTK_TYPE_F16) !=
            FTK_OK ||
        ftk_kv_seq_open(&b->seq, &b->pool, slots) != FTK_OK)
        die("no memory");
    b->f.device = b->device;
    for (int i = 0; i < FTK_MAX_NODES; i++) b->token[i] = i * 37 % m->hp.n_vocab;
    return true;
}

static void bench_close(bench *b)
{
    ftk_kv_seq_close(&b->seq);
    ftk_forward_close(&b->f);
    ftk_kv_pool_close(&b->pool);
    b->device->ops->free(b->device);
}

static void pass(bench *b, int rows, int first_logits, unsigned spare)
{
    if (ftk_kv_reserve(&b->seq, rows) != FTK_OK) die("the KV cache is full");
    const ftk_pass_seq p = {.kv = &b->seq,
                            .n_rows = rows,
                            .token = b->token,
                            .first_logits = first_logits,
                            .spare = spare | FTK_SPARE_FEATURES};
    ftk_forward_run(&b->f, &p, 1);
    const char *trouble = b->device->ops->trouble(b->device);
    if (trouble) die(trouble);
}

static double pass_time(const options *o, bench *b, int rows, unsigned spare)
{
    double t[MOST_REPEATS], total = 0;
    int n = 0;
    for (int i = 0; i < (o->quick ? 0 : 3); i++) pass(b, rows, 0, spare);
    while (n < (o->quick ? 1 : MOST_REPEATS) && (n < 5 || total < 0.5)) {
        const double start = ftk_now();
        pass(b, rows, 0, spare);
        total += t[n++] = ftk_now() - start;
    }
    return median(t, n);
}

/* Reads up to the depth. */
static void fill_cache(bench *b, int depth)
{
    static int16_t straight[FTK_MAX_NODES];
    for (int i = 0; i < FTK_MAX_NODES; i++) straight[i] = (int16_t)i;
    while (b->seq.len < depth) {
        const int left = depth - b->seq.len, rows = left < FTK_MAX_NODES ? left : FTK_MAX_NODES;
        pass(b, rows, rows, FTK_SPARE_LOGITS);
        ftk_kv_commit(&b->seq, straight, rows);
    }
}

static void bench_shape(const options *o, mm_shape shape, ftk_type type, double copy)
{
    shape.attn = shape.ffn = shape.ends = type;
    shape.repeated = true;
    ftk_model *m = mm_open(&shape, "ref");
    bench b;
    if (bench_open(&b, o, m, false)) {
        double t[POINTS];
        fill_cache(&b, o->depth);
        for (int i = 0; i < POINTS; i++) t[i] = pass_time(o, &b, 1 << i, FTK_SPARE_LOGITS);
        const double all = pass_time(o, &b, 64, 0), bytes = (double)mm_bytes(m);
        printf("%-5s %-5s %6.2f", shape.name, ftk_type_name(type), bytes / 0x1p30);
        for (int i = 0; i < POINTS; i++) printf(" %7.3f", t[i] * 1e3);
        printf(" %7.3f  %5.2f  %6.0f  %4.0f%%  %4d\n", all * 1e3, t[6] / t[0], bytes / t[0] * 1e-9,
               100 * bytes / t[0] / copy, b.device->ops->kept(b.device));
        fflush(stdout);
        bench_close(&b);
    }
    mm_free(m);
}

/* Rows of a prompt a second, narrowly and through cuBLAS. */
static void bench_prefill(const options *o, mm_shape shape, ftk_type type)
{
    static int32_t tokens[FTK_WIDE_ROWS];
    shape.attn = shape.ffn = shape.ends = type;
    shape.repeated = true;
    ftk_model *m = mm_open(&shape, "ref");
    bench b;
    if (!bench_open(&b, o, m, true)) {
        mm_free(m);
        return;
    }
    double t[2][3];
    for (int i = -1; i < 2 * (o->quick ? 1 : 3); i++) {
        const bool wide = i < 0 || i % 2;
        const int rows = wide ? FTK_WIDE_ROWS : FTK_MAX_NODES;
        const double start = ftk_now();
        for (int done = 0; done < FTK_WIDE_ROWS; done += rows) {
            if (ftk_kv_reserve(&b.seq, rows) != FTK_OK) die("the KV cache is full");
            const ftk_pass_seq p = {
                .kv = &b.seq, .n_rows = rows, .token = tokens, .first_logits = rows};
            ftk_forward_run(&b.f, &p, 1);
            ftk_kv_truncate(&b.seq, b.seq.len + rows);
        }
        if (i >= 0) t[wide][i / 2] = ftk_now() - start;
        ftk_kv_truncate(&b.seq, 0);
    }
    const char *trouble = b.device->ops->trouble(b.device);
    if (trouble) die(trouble);
    const int n = o->quick ? 1 : 3;
    printf("%-5s %-5s  %8.0f  %8.0f\n", shape.name, ftk_type_name(type),
           FTK_WIDE_ROWS / median(t[0], n), FTK_WIDE_ROWS / median(t[1], n));
    bench_close(&b);
    mm_free(m);
}

/* ------------------------------------------------------------------ routes */

enum { UNITS = 16, ROUTES = 3 };

/* A policy that is asked in earnest, but always says the same: at every `every`-th layer this
 * action, at the others FTK_FULL. */
static ftk_policy make_policy(const ftk_model *m, ftk_action action, int every)
{
    const int n_layer = m->hp.n_layer, d = m->hp.n_embd;
    const int outputs = n_layer * FTK_ACTIONS,
              sizes[] = {d * UNITS, FTK_POLICY_PAST * UNITS, n_layer * UNITS, outputs * UNITS,
                         n_layer * d};
    float *bias = calloc((size_t)outputs, sizeof *bias), *zeros[5];
    for (int i = 0; i < 5; i++)
        if (!(zeros[i] = calloc((size_t)sizes[i], sizeof *bias)) || !bias) die("no memory");
    for (int l = 0; l < n_layer; l++)
        bias[l * FTK_ACTIONS + (int)(l % every == every - 1 ? action : FTK_FULL)] = 1;
    for (int i = 0; i < n_layer * d; i++) zeros[4][i] = 1;
    return (ftk_policy){.n_layer = n_layer,
                        .n_embd = d,
                        .units = UNITS,
                        .first = 1,
                        .partial = true,
                        .in = zeros[0],
                        .past = zeros[1],
                        .bias = zeros[2],
                        .out = zeros[3],
                        .out_bias = bias,
                        .cost = {1},
                        .scale = zeros[4]};
}

static void free_policy(const ftk_policy *p)
{
    const float *const all[] = {p->in, p->past, p->bias, p->out, p->out_bias, p->scale};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free((void *)all[i]);
}

static double route_time(const options *o, bench *b, const ftk_policy *p)
{
    uint8_t actions[FTK_MAX_LAYERS];
    const ftk_route route = {.policy = p, .actions = actions};
    const ftk_pass_seq seq = {.kv = &b->seq,
                              .n_rows = 1,
                              .token = b->token,
                              .spare = FTK_SPARE_LOGITS | FTK_SPARE_FEATURES,
                              .route = &route};
    double t[MOST_REPEATS];
    const int n = o->quick ? 1 : MOST_REPEATS;
    if (ftk_kv_reserve(&b->seq, 1) != FTK_OK) die("the KV cache is full");
    for (int i = o->quick ? 0 : -3; i < n; i++) {
        const double start = ftk_now();
        ftk_forward_run(&b->f, &seq, 1);
        if (i >= 0) t[i] = ftk_now() - start;
    }
    const char *trouble = b->device->ops->trouble(b->device);
    if (trouble) die(trouble);
    return median(t, n);
}

static void bench_route(const options *o, mm_shape shape, ftk_type type)
{
    static const struct {
        ftk_action action;
        int every;
    } routes[ROUTES] = {{FTK_FULL, 1}, {FTK_PARTIAL, 1}, {FTK_SKIP, 2}};
    char why[400];
    shape.attn = shape.ffn = shape.ends = type;
    shape.repeated = true;
    ftk_model *m = mm_open(&shape, "ref");
    bench b;
    if (bench_open(&b, o, m, false)) {
        fill_cache(&b, o->depth);
        printf("%-5s %-5s %8.3f", shape.name, ftk_type_name(type),
               pass_time(o, &b, 1, FTK_SPARE_LOGITS) * 1e3);
        for (int copy = 0; copy < 2; copy++) {
            if (copy && b.device->ops->add_low_bits(b.device, why, sizeof why) != FTK_OK) die(why);
            for (int i = 0; i < ROUTES; i++) {
                if (!copy && routes[i].action == FTK_PARTIAL) continue;
                const ftk_policy p = make_policy(m, routes[i].action, routes[i].every);
                if (b.device->ops->add_policy(b.device, &p, why, sizeof why) != FTK_OK) die(why);
                printf(" %8.3f", route_time(o, &b, &p) * 1e3);
                free_policy(&p);
            }
        }
        printf("\n");
        fflush(stdout);
        bench_close(&b);
    }
    mm_free(m);
}

static const mm_shape shapes[] = {
    {.name = "110m",
     .layers = 12,
     .embd = 768,
     .ff = 2048,
     .heads = 12,
     .heads_kv = 4,
     .head_dim = 64,
     .vocab = 32000,
     .tied = true},
    {.name = "1.1b",
     .layers = 22,
     .embd = 2048,
     .ff = 5632,
     .heads = 32,
     .heads_kv = 4,
     .head_dim = 64,
     .vocab = 32000},
    {.name = "7b",
     .layers = 32,
     .embd = 4096,
     .ff = 11008,
     .heads = 32,
     .heads_kv = 32,
     .head_dim = 128,
     .vocab = 32000},
    {.name = "13b",
     .layers = 40,
     .embd = 5120,
     .ff = 13824,
     .heads = 40,
     .heads_kv = 40,
     .head_dim = 128,
     .vocab = 32000},
};
/* For a look at whether this program itself works. */
static const mm_shape tiny = {.name = "tiny",
                              .layers = 1,
                              .embd = 256,
                              .ff = 256,
                              .heads = 8,
                              .heads_kv = 2,
                              .head_dim = 32,
                              .vocab = 64};

static const ftk_type types[] = {FTK_TYPE_F16, FTK_TYPE_Q8_0, FTK_TYPE_Q4_0, FTK_TYPE_Q4_K};

static void bench_passes(const options *o, double copy)
{
    printf(
        "\npasses at depth %d, ms by rows\n"
        "shape type     GiB       1       2       4       8      16      32      64     128  logits"
        "   64/1    GB/s  share  kept\n",
        o->depth);
    const int n = o->quick ? 1 : (int)(sizeof shapes / sizeof shapes[0]);
    for (int s = 0; s < n; s++)
        for (int t = 0; t < (int)(sizeof types / sizeof types[0]); t++) {
            const mm_shape shape = o->quick ? tiny : shapes[s];
            if (o->shape && strcmp(o->shape, shape.name) != 0) continue;
            if (o->type && strcmp(o->type, ftk_type_name(types[t])) != 0) continue;
            bench_shape(o, shape, types[t], copy);
        }
}

static void bench_prefills(const options *o)
{
    enum { SHAPE_7B = 2 };
    printf("\nprompts, tokens/s at depth 0\nshape type     narrow      wide\n");
    bench_prefill(o, o->quick ? tiny : shapes[SHAPE_7B], FTK_TYPE_F16);
    bench_prefill(o, o->quick ? tiny : shapes[SHAPE_7B], FTK_TYPE_Q4_0);
}

static void bench_routes(const options *o)
{
    enum { SHAPE_110M = 0, SHAPE_7B = 2 };
    printf("\nroutes at depth %d, ms a row; with copy: the layers in few bits are there\n"
           "                      no copy              with copy\n"
           "shape type      pass     full half out     full few bits half out\n",
           o->depth);
    bench_route(o, o->quick ? tiny : shapes[SHAPE_110M], FTK_TYPE_F16);
    if (o->quick) return;
    bench_route(o, shapes[SHAPE_7B], FTK_TYPE_F16);
    bench_route(o, shapes[SHAPE_7B], FTK_TYPE_Q8_0);
}

/* ------------------------------------------------------------------ main */

static const char usage[] =
    "usage: bench-gpu [--device N] [--shape NAME] [--type NAME] [--depth N] [--quick]";

/* Whether name is one of n; list becomes what may be given. */
static bool known(const char *name, const char *const *names, int n, char *list, size_t cap)
{
    bool found = false;
    snprintf(list, cap, "give one of");
    for (int i = 0; i < n; i++) {
        found |= strcmp(name, names[i]) == 0;
        snprintf(list + strlen(list), cap - strlen(list), " %s", names[i]);
    }
    return found;
}

static void check(const options *o)
{
    enum { SHAPES = sizeof shapes / sizeof *shapes, TYPES = sizeof types / sizeof *types };
    const char *shape_names[SHAPES] = {tiny.name}, *type_names[TYPES];
    char list[128];
    for (int i = 0; i < SHAPES && !o->quick; i++) shape_names[i] = shapes[i].name;
    for (int i = 0; i < TYPES; i++) type_names[i] = ftk_type_name(types[i]);
    if (o->shape && !known(o->shape, shape_names, o->quick ? 1 : SHAPES, list, sizeof list))
        refuse("--shape", o->shape, list);
    if (o->type && !known(o->type, type_names, TYPES, list, sizeof list))
        refuse("--type", o->type, list);
}

static options parse(int argc, char **argv)
{
    options o = {.depth = 512};
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            puts(usage);
            exit(0);
        }
        if (strcmp(arg, "--quick") == 0) {
            o.quick = true;
            o.depth = 40;
            continue;
        }
        if (!value) refuse(arg, "", "it needs a value, or is unknown; see bench-gpu --help");
        i++;
        if (strcmp(arg, "--device") == 0)
            o.device = number(arg, value, 0, 63);
        else if (strcmp(arg, "--shape") == 0)
            o.shape = value;
        else if (strcmp(arg, "--type") == 0)
            o.type = value;
        else if (strcmp(arg, "--depth") == 0)
            o.depth = number(arg, value, 1, 1 << 20);
        else
            refuse(arg, "", "it is unknown; see bench-gpu --help");
    }
    check(&o);
    return o;
}

int main(int argc, char **argv)
{
    const options o = parse(argc, argv);
    ftk_cuda_info info;
    if (!ftk_cuda_probe(o.device, &info)) {
        printf("skipped: %s\n", info.problem);
        return 77;
    }
    const double copy = copy_speed(&o);
    char name[256];
    ftk_show(info.name, strlen(info.name), 0, name, sizeof name);
    printf("%s, %d multiprocessors, compute capability %d.%d, %zu MiB; a copy moves %.0f GB/s\n",
           name, info.n_sm, info.major, info.minor, info.total >> 20, copy * 1e-9);
    fflush(stdout);
    bench_attention(&o, copy);
    bench_passes(&o, copy);
    if (!o.shape && !o.type) bench_prefills(&o);
    if (!o.shape && !o.type) bench_routes(&o);
    return 0;
}
