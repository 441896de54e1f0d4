/* SPDX-License-Identifier: Apache-2.0
 *
 * Times every entry of the kernel table.
 *
 *     benchkernels [--level NAME] [--kernel NAME] [--rows 1,2,4] [--type NAME] [--shape OUTxIN]
 *
 * All levels the machine has, all types and a few shapes by default. A product is shown with its
 * share of what one thread can do: the level's multiplications a second, and the weights' bytes
 * of reading memory, which those in a cache exceed. */

#include "base/clock.h"
#include "kernelcases.h"
#include "peaks.h"

enum { MAX_SIZE = 768 };

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct seconds {
    double median, best; /* far apart: something else ran on this core */
} seconds;

/* Of a call. Each of the repeats runs for a millisecond at least. */
static seconds time_call(void (*call)(void *), void *ctx)
{
    enum { REPEATS = 15 };
    double t[REPEATS];
    call(ctx);
    double start = ftk_now();
    call(ctx);
    const double once = ftk_now() - start;
    const int loops = once > 1e-3 ? 1 : (int)(1e-3 / (once + 1e-8)) + 1;
    for (int r = 0; r < REPEATS; r++) {
        start = ftk_now();
        for (int i = 0; i < loops; i++) call(ctx);
        t[r] = (ftk_now() - start) / loops;
    }
    qsort(t, REPEATS, sizeof *t, by_value);
    return (seconds){.median = t[REPEATS / 2], .best = t[0]};
}

typedef struct timing {
    check *c;
    product *p;
    scene *s;
    int rows;
    float *x, *y, *w;
} timing;

static void call_matmul(void *ctx)
{
    const timing *t = ctx;
    const product *p = t->p;
    t->c->k->matmul(&p->m, p->act, p->stride, t->rows, 0, p->m.n_out, t->y, p->ldy);
}

static void bench_matmul(check *c, ftk_type type, int n_out, int n_in, const int *rows, int n_rows,
                         const peaks *top)
{
    product p = product_new(c, type, n_out, n_in, NORMAL);
    timing t = {.c = c, .p = &p, .y = guarded(MAX_ROWS * p.ldy * sizeof(float))};
    double first = 0;
    for (int i = 0; i < n_rows; i++) {
        t.rows = rows[i];
        const seconds s = time_call(call_matmul, &t);
        if (i == 0) first = s.median;
        const double bytes = (double)ftk_type_bytes(type, (size_t)n_out * (size_t)n_in);
        const double work = 2.0 * n_out * n_in * t.rows / s.median;
        printf("%-7s matmul %-6s %5dx%-4d rows %3d %10.0f ns (best %10.0f) %7.2f GB/s %6.2f x",
               c->k->name, ftk_type_name(type), n_out, n_in, t.rows, s.median * 1e9, s.best * 1e9,
               bytes / s.median * 1e-9, s.median / first);
        printf(top->products > 0 ? "  %3.0f %% of products, %3.0f %% of reading\n" : "\n",
               100 * work / top->products, 100 * bytes / s.median / top->bytes);
        fflush(stdout);
    }
    unguard(t.y);
    product_free(&p);
}

static void call_act_pack(void *ctx)
{
    const timing *t = ctx;
    t->c->k->act_pack(FTK_TYPE_Q8_0, MAX_SIZE, t->x, t->y);
}

static void call_rms_norm(void *ctx)
{
    const timing *t = ctx;
    t->c->k->rms_norm(MAX_SIZE, t->x, t->w, 1e-5f, t->y);
}

static void call_rope(void *ctx)
{
    const timing *t = ctx;
    t->c->k->rope(MAX_SIZE / 64, 64, 64, t->w, t->y);
}

static void call_rope_halves(void *ctx)
{
    const timing *t = ctx;
    t->c->k->rope_halves(MAX_SIZE / 64, 64, 64, t->w, t->y);
}

static void call_gelu_mul(void *ctx)
{
    const timing *t = ctx;
    t->c->k->gelu_mul(MAX_SIZE, t->y, t->w);
}

static void call_silu_mul(void *ctx)
{
    const timing *t = ctx;
    t->c->k->silu_mul(MAX_SIZE, t->y, t->w);
}

static void call_add(void *ctx)
{
    const timing *t = ctx;
    t->c->k->add(MAX_SIZE, t->x, t->y);
}

static void call_layer_norm(void *ctx)
{
    const timing *t = ctx;
    t->c->k->layer_norm(MAX_SIZE, t->x, t->w, t->w, 1e-6f, t->y);
}

enum { ORDER = 2, SERIES = MAX_SIZE / (ORDER + 1) }; /* so that MAX_SIZE elements are read, too */

static void call_gated_add(void *ctx)
{
    static const float coef[ORDER + 1] = {1, -1, 0.5f};
    const timing *t = ctx;
    t->c->k->gated_add(SERIES, ORDER, t->x, coef, t->w, t->y);
}

/* f is all zeros, so that what is kept stays finite. */
static void call_differences(void *ctx)
{
    static const float f[SERIES];
    const timing *t = ctx;
    t->c->k->differences(SERIES, ORDER, f, -4, t->y);
}

static void call_kv_store(void *ctx)
{
    const timing *t = ctx;
    t->c->k->kv_store(FTK_TYPE_F16, MAX_SIZE, t->x, t->y);
}

static void call_dequant_row(void *ctx)
{
    const timing *t = ctx;
    t->c->k->dequant_row(FTK_TYPE_Q8_0, MAX_SIZE, t->x, t->y);
}

static void call_attention(void *ctx)
{
    const timing *t = ctx;
    for (int h = 0; h < t->s->a.n_head_kv; h++)
        for (int r = 0; r < t->rows; r += FTK_ATTN_TILE) {
            const int end = r + FTK_ATTN_TILE < t->rows ? r + FTK_ATTN_TILE : t->rows;
            t->c->k->attention(&t->s->a, h, r, end, t->s->scratch);
        }
}

static void bench_attention(check *c, const int *rows, int n_rows)
{
    int parent[FTK_MAX_NODES];
    const ftk_attn a = {.n_rows = MAX_ROWS,
                        .n_head = 4,
                        .n_head_kv = 4,
                        .head_dim = 64,
                        .scale = 0.125f,
                        .kv_type = FTK_TYPE_F16,
                        .prefix = 512};
    scene s = scene_new(c, a, MAX_ROWS);
    grow_tree(c, &s, parent);
    fill_scene(c, &s, NORMAL);
    attend(c, &s, FTK_ATTN_TILE);
    timing t = {.c = c, .s = &s};
    for (int i = 0; i < n_rows; i++) {
        t.rows = rows[i];
        const seconds sec = time_call(call_attention, &t);
        printf("%-7s attention 4 heads of 64, prefix 512, F16, rows %3d %10.0f ns (best %10.0f)\n",
               c->k->name, t.rows, sec.median * 1e9, sec.best * 1e9);
    }
    scene_free(&s);
}

/* ------------------------------------------------------------------ main */

typedef struct options {
    const char *level, *kernel, *type;
    int rows[32], n_rows;
    int n_out, n_in; /* 0: all shapes */
} options;

static void bench_matmuls(check *c, const options *o)
{
    const peaks top = peaks_of(c->k->name);
    if (top.products > 0)
        printf("%-7s at most %.0f G products and additions/s, %.1f GB/s read from memory\n",
               c->k->name, top.products * 1e-9, top.bytes * 1e-9);
    /* The last two leave the second-level cache. */
    static const int shapes[][2] = {{256, 768},  {768, 256},   {2048, 2048},
                                    {4096, 256}, {40960, 256}, {8192, 2048}};
    for (int t = 0; t < N_TYPES; t++) {
        if (o->type && strcmp(o->type, ftk_type_name(types[t])) != 0) continue;
        if (o->n_in % (int)ftk_type_block(types[t]) != 0) continue;
        if (o->n_out > 0) bench_matmul(c, types[t], o->n_out, o->n_in, o->rows, o->n_rows, &top);
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0] && o->n_out == 0; s++)
            bench_matmul(c, types[t], shapes[s][0], shapes[s][1], o->rows, o->n_rows, &top);
    }
}

static const struct {
    const char *name;
    void (*call)(void *ctx); /* timed on MAX_SIZE elements */
} entries[] = {
    {"act_pack", call_act_pack},   {"dequant_row", call_dequant_row},
    {"rms_norm", call_rms_norm},   {"rope", call_rope},
    {"silu_mul", call_silu_mul},   {"add", call_add},
    {"kv_store", call_kv_store},   {"rope_halves", call_rope_halves},
    {"gelu_mul", call_gelu_mul},   {"layer_norm", call_layer_norm},
    {"gated_add", call_gated_add}, {"differences", call_differences},
};

static bool wanted(const options *o, const char *name)
{
    return !o->kernel || strcmp(o->kernel, name) == 0;
}

static void bench_level(check *c, const options *o)
{
    float x[MAX_SIZE], y[MAX_SIZE], w[MAX_SIZE];
    fill(c, NORMAL, MAX_SIZE, x);
    fill(c, NORMAL, MAX_SIZE, y);
    for (int j = 0; j < MAX_SIZE; j++) w[j] = j % 2 ? 0.0f : 1.0f;
    timing t = {.c = c, .x = x, .y = y, .w = w};
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        if (!wanted(o, entries[i].name)) continue;
        const seconds s = time_call(entries[i].call, &t);
        printf("%-7s %-11s %d elements %10.0f ns (best %10.0f)\n", c->k->name, entries[i].name,
               MAX_SIZE, s.median * 1e9, s.best * 1e9);
    }
    if (wanted(o, "matmul")) bench_matmuls(c, o);
    if (wanted(o, "attention")) bench_attention(c, o->rows, o->n_rows);
}

static bool parse_rows(options *o, const char *list)
{
    o->n_rows = 0;
    for (const char *at = list; o->n_rows < 32; at++) {
        char *end;
        const long n = strtol(at, &end, 10);
        if (end == at || n < 1 || n > MAX_ROWS || (*end && *end != ',')) return false;
        o->rows[o->n_rows++] = (int)n;
        if (!*(at = end)) return true;
    }
    return false;
}

static bool parse_shape(options *o, const char *shape)
{
    char *end;
    o->n_out = (int)strtol(shape, &end, 10);
    if (o->n_out < 1 || *end != 'x') return false;
    o->n_in = (int)strtol(end + 1, &end, 10);
    return o->n_in >= FTK_QBLOCK && o->n_in % FTK_QBLOCK == 0 && *end == 0;
}

static bool is_kernel(const char *name)
{
    bool found = strcmp(name, "matmul") == 0 || strcmp(name, "attention") == 0;
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        found |= strcmp(name, entries[i].name) == 0;
    return found;
}

static bool is_type(const char *name)
{
    bool found = false;
    for (int t = 0; t < N_TYPES; t++) found |= strcmp(name, ftk_type_name(types[t])) == 0;
    return found;
}

static bool parse(options *o, int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *arg = argv[i], *value = argv[i + 1];
        if (strcmp(arg, "--level") == 0)
            o->level = value;
        else if (strcmp(arg, "--kernel") == 0 && is_kernel(value))
            o->kernel = value;
        else if (strcmp(arg, "--type") == 0 && is_type(value))
            o->type = value;
        else if (strcmp(arg, "--rows") == 0 && parse_rows(o, value))
            continue;
        else if (strcmp(arg, "--shape") == 0 && parse_shape(o, value))
            continue;
        else
            return false;
    }
    return argc % 2 == 1;
}

int main(int argc, char **argv)
{
    options o = {0};
    parse_rows(&o, "1,2,4,8,16,32,64");
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: benchkernels [--level NAME] [--kernel NAME] [--rows 1,2,4] "
                        "[--type NAME] [--shape OUTxIN]; kernels: matmul attention");
        for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
            fprintf(stderr, " %s", entries[i].name);
        fputs("; types:", stderr);
        for (int t = 0; t < N_TYPES; t++) fprintf(stderr, " %s", ftk_type_name(types[t]));
        fputs("\n", stderr);
        return 2;
    }
    const char *names[8];
    ftk_kernels_levels(names);
    ftk_kernels ref, k;
    ftk_kernels_fill(&ref, "ref");
    check c = {.ref = &ref, .k = &k, .seed = 1, .rng = 1};
    bool found = false;
    for (int i = 0; i < 8 && names[i]; i++) {
        if (o.level && strcmp(o.level, names[i]) != 0) continue;
        found = ftk_kernels_fill(&k, names[i]);
        bench_level(&c, &o);
    }
    if (found) return 0;
    fprintf(stderr, "benchkernels: this machine has no level \"%s\"\n", o.level);
    return 2;
}
