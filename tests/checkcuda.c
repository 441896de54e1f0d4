/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks passes on a device: on an NVIDIA GPU, or emulated, with the same program.
 *
 *     checkcuda [--device N]
 *
 * Logits are compared with those of the CPU's plain C; what is promised to the bit, to the bit: a row
 * does not depend on its company, a tree row equals its path as a chain, and committed, forked and
 * batched sequences go on as one that was read alone. Exit: 0 passed, 1 failed, 77 no device. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/sampler.h"
#include "kernels/blocks.h"
#include "kernels/cuda/cuda.h"
#include "memorymodel.h"
#include "quantise.h"
#include "model/device.h"
#include "model/lowbit.h"

enum { SLOTS = 1024, ROWS = 256, MOST_VOCAB = 400, TEXT = 70 };

static int passed, failed;
static const char *shape_name;

static bool expect(bool ok, const char *what, long a, long b)
{
    passed += ok;
    failed += !ok;
    if (!ok && failed <= 20) printf("FAIL %s: %s (%ld, %ld)\n", shape_name, what, a, b);
    return ok;
}

/* ------------------------------------------------------------------ benches */

/* What a session has, on the CPU or on a device. */
typedef struct {
    ftk_device *device;
    ftk_kv_pool pool;
    ftk_forward f;
} bench;

static void must(ftk_err err, const char *what)
{
    if (err == FTK_OK) return;
    fprintf(stderr, "checkcuda: %s: %s\n", what, ftk_strerror(err));
    exit(2);
}

static void bench_open(bench *b, const ftk_model *m, int ordinal, ftk_type kv, bool wide)
{
    *b = (bench){0};
    if (ordinal >= 0) {
        char name[32], why[400];
        snprintf(name, sizeof name, "cuda:%d", ordinal);
        const ftk_device_config c = {.name = name,
                                     .max_rows = ROWS,
                                     .max_slots = SLOTS + FTK_MAX_NODES,
                                     .kv_type = kv,
                                     .kv_bytes = ftk_kv_pool_bytes(m, SLOTS, kv),
                                     .wide = wide};
        must(ftk_device_open(&b->device, m, &c, why, sizeof why), why);
    }
    must(ftk_kv_pool_open_on(&b->pool, m, SLOTS, kv, b->device), "KV cache");
    must(ftk_forward_open(&b->f, m, 1, ROWS, SLOTS, SLOTS + FTK_MAX_NODES, kv), "pass");
    b->f.device = b->device;
}

static void bench_close(bench *b)
{
    ftk_forward_close(&b->f);
    ftk_kv_pool_close(&b->pool);
    if (b->device) b->device->ops->free(b->device);
}

static ftk_kv_seq seq_new(bench *b)
{
    ftk_kv_seq s;
    must(ftk_kv_seq_open(&s, &b->pool, SLOTS), "sequence");
    return s;
}

static int32_t token_at(const bench *b, int i)
{
    return (int32_t)((unsigned)(i * 7919 + 13) % (unsigned)b->f.m->hp.n_vocab);
}

static int16_t straight[FTK_MAX_NODES];

/* Reads tokens [s->len, n) of the text, `step` rows at a time; logits of the last row stay. */
static void read_to(bench *b, ftk_kv_seq *s, int n, int step)
{
    int32_t tokens[FTK_MAX_NODES];
    while (s->len < n) {
        const int rows = n - s->len < step ? n - s->len : step;
        for (int i = 0; i < rows; i++) tokens[i] = token_at(b, s->len + i);
        must(ftk_kv_reserve(s, rows), "reserve");
        const ftk_pass_seq p = {.kv = s, .n_rows = rows, .token = tokens, .first_logits = rows - 1};
        ftk_forward_run(&b->f, &p, 1);
        ftk_kv_commit(s, straight, rows);
    }
}

static size_t row_bytes(const bench *b)
{
    return (size_t)b->f.m->hp.n_vocab * sizeof(float);
}

/* ------------------------------------------------------------------ trees */

enum { NODES = 21 };

typedef struct {
    int parent[NODES];
    int32_t token[NODES];
    int16_t depth[NODES];
    uint64_t mask[NODES][2];
} tree;

static tree grow(const bench *b)
{
    tree t = {0};
    uint32_t r = 7;
    for (int i = 0; i < NODES; i++) {
        r = r * 1664525u + 1013904223u;
        t.parent[i] = i == 0 ? -1 : i - 1 - (int)(r >> 16) % (i < 3 ? i : 3);
        t.token[i] = token_at(b, 1000 + i);
        if (i > 0) {
            t.depth[i] = (int16_t)(t.depth[t.parent[i]] + 1);
            memcpy(t.mask[i], t.mask[t.parent[i]], sizeof t.mask[i]);
        }
        t.mask[i][i / 64] |= (uint64_t)1 << i % 64;
    }
    return t;
}

static void run_tree(bench *b, ftk_kv_seq *s, const tree *t)
{
    must(ftk_kv_reserve(s, NODES), "reserve");
    const ftk_pass_seq p = {.kv = s,
                            .n_rows = NODES,
                            .token = t->token,
                            .depth = t->depth,
                            .mask = (const uint64_t(*)[2])t->mask};
    ftk_forward_run(&b->f, &p, 1);
}

/* The path to a node as a chain; *n gets its length. */
static void path_to(const tree *t, int node, int16_t *path, int *n)
{
    *n = t->depth[node] + 1;
    for (int i = *n - 1, at = node; i >= 0; i--, at = t->parent[at]) path[i] = (int16_t)at;
}

/* ------------------------------------------------------------------ checks */

static double worst; /* difference to the CPU, in parts of the largest logit */

static void check_close(const bench *cpu, const bench *dev, int rows, double tol)
{
    const int n = cpu->f.m->hp.n_vocab;
    double top = 0, off = 0;
    for (int i = 0; i < rows * n; i++) {
        const double d = fabs((double)cpu->f.logits[i] - (double)dev->f.logits[i]);
        top = fmax(top, fabs((double)cpu->f.logits[i]));
        off = d <= off ? off : d; /* NaN stays */
    }
    worst = off / top <= worst ? worst : off / top;
    expect(off <= tol * top, "logits are not the CPU's (rows, parts per million)", rows,
           (long)(1e6 * off / top));
}

static void check_against_cpu(bench *cpu, bench *dev, double tol)
{
    ftk_kv_seq a = seq_new(cpu), b = seq_new(dev);
    const tree t = grow(dev);
    read_to(cpu, &a, TEXT, 40);
    read_to(dev, &b, TEXT, 40);
    check_close(cpu, dev, 1, tol);
    run_tree(cpu, &a, &t);
    run_tree(dev, &b, &t);
    check_close(cpu, dev, NODES, tol);
    ftk_kv_seq_close(&a);
    ftk_kv_seq_close(&b);
}

/* However a text is cut into passes, its last row is the same. Longer than a chunk of attention. */
static void check_company(bench *b, int n)
{
    static const int steps[] = {128, 1, 9, 37};
    float first[MOST_VOCAB];
    for (int i = 0; i < 4; i++) {
        ftk_kv_seq s = seq_new(b);
        if (steps[i] == 1) read_to(b, &s, n - 7, 64);
        read_to(b, &s, n, steps[i]);
        if (i == 0) memcpy(first, b->f.logits, row_bytes(b));
        expect(memcmp(first, b->f.logits, row_bytes(b)) == 0, "a row depends on its company", n,
               steps[i]);
        ftk_kv_seq_close(&s);
    }
}

/* Every node of a tree, as a chain; and behind a committed path, as behind the same text read. */
static void check_tree(bench *b, int prefix)
{
    const tree t = grow(b);
    ftk_kv_seq s = seq_new(b);
    read_to(b, &s, prefix, 50);
    run_tree(b, &s, &t);
    float *rows = malloc(NODES * row_bytes(b));
    memcpy(rows, b->f.logits, NODES * row_bytes(b));
    const size_t n_vocab = (size_t)b->f.m->hp.n_vocab;
    int16_t path[NODES];
    int32_t tokens[NODES + 1];
    int n;
    for (int node = 0; node < NODES; node += 5) {
        path_to(&t, node, path, &n);
        for (int i = 0; i < n; i++) tokens[i] = t.token[path[i]];
        ftk_kv_seq chain = seq_new(b);
        ftk_kv_fork(&chain, &s);
        must(ftk_kv_reserve(&chain, n), "reserve");
        const ftk_pass_seq p = {.kv = &chain, .n_rows = n, .token = tokens, .first_logits = n - 1};
        ftk_forward_run(&b->f, &p, 1);
        expect(memcmp(rows + (size_t)node * n_vocab, b->f.logits, row_bytes(b)) == 0,
               "a tree row differs from its chain (prefix, node)", prefix, node);
        ftk_kv_seq_close(&chain);
    }
    free(rows);

    /* The forks above copied pages; s itself has its tree no more: it is run again. */
    run_tree(b, &s, &t);
    path_to(&t, NODES - 1, path, &n);
    for (int i = 0; i < n; i++) tokens[i] = t.token[path[i]];
    tokens[n] = token_at(b, 5000);
    ftk_kv_seq read = seq_new(b);
    read_to(b, &read, prefix, 128);
    must(ftk_kv_reserve(&read, n + 1), "reserve");
    ftk_pass_seq p = {.kv = &read, .n_rows = n + 1, .token = tokens, .first_logits = n};
    ftk_forward_run(&b->f, &p, 1);
    float want[MOST_VOCAB];
    memcpy(want, b->f.logits, row_bytes(b));
    ftk_kv_seq_close(&read);
    run_tree(b, &s, &t);
    ftk_kv_commit(&s, path, n);
    must(ftk_kv_reserve(&s, 1), "reserve");
    p = (ftk_pass_seq){.kv = &s, .n_rows = 1, .token = tokens + n};
    ftk_forward_run(&b->f, &p, 1);
    expect(memcmp(want, b->f.logits, row_bytes(b)) == 0,
           "a committed path differs from a text read", prefix, n);
    ftk_kv_seq_close(&s);
}

/* Two sequences in one pass, one of them a fork that writes to a shared page. */
static void check_batch(bench *b)
{
    const tree t = grow(b);
    ftk_kv_seq s = seq_new(b), fork = seq_new(b);
    read_to(b, &s, 70, 70);
    ftk_kv_fork(&fork, &s);
    float alone[MOST_VOCAB], chain[MOST_VOCAB];
    run_tree(b, &s, &t);
    const size_t n_vocab = (size_t)b->f.m->hp.n_vocab;
    memcpy(alone, b->f.logits + 12 * n_vocab, row_bytes(b));
    read_to(b, &fork, 90, 30);
    memcpy(chain, b->f.logits, row_bytes(b));
    ftk_kv_truncate(&fork, 70);
    int32_t tokens[20];
    for (int i = 0; i < 20; i++) tokens[i] = token_at(b, 70 + i);
    must(ftk_kv_reserve(&fork, 20), "reserve");
    const ftk_pass_seq both[2] = {{.kv = &fork, .n_rows = 20, .token = tokens, .first_logits = 19},
                                  {.kv = &s,
                                   .n_rows = NODES,
                                   .token = t.token,
                                   .depth = t.depth,
                                   .mask = (const uint64_t(*)[2])t.mask}};
    ftk_forward_run(&b->f, both, 2);
    expect(memcmp(chain, b->f.logits, row_bytes(b)) == 0, "a batched chain differs", 0, 0);
    expect(memcmp(alone, b->f.logits + 13 * n_vocab, row_bytes(b)) == 0, "a batched tree differs",
           0, 0);
    ftk_kv_seq_close(&s);
    ftk_kv_seq_close(&fork);
}

/* Kept states go in again above their layer; features are what the output matrix reads. */
static void check_states(bench *b)
{
    enum { N = 11 };
    const size_t d = (size_t)b->f.m->hp.n_embd;
    must(ftk_forward_keep(&b->f, 0), "states");
    ftk_kv_seq s = seq_new(b);
    int32_t tokens[N];
    for (int i = 0; i < N; i++) tokens[i] = token_at(b, i);
    must(ftk_kv_reserve(&s, N), "reserve");
    ftk_pass_seq p = {.kv = &s, .n_rows = N, .token = tokens};
    ftk_forward_run(&b->f, &p, 1);
    float *states = malloc(N * d * sizeof *states), *logits = malloc(N * row_bytes(b));
    float *features = malloc(N * d * sizeof *features);
    memcpy(states, b->f.states, N * d * sizeof *states);
    memcpy(features, b->f.features, N * d * sizeof *features);
    memcpy(logits, b->f.logits, N * row_bytes(b));
    p.token = NULL;
    p.states = states;
    ftk_forward_run_above(&b->f, &p, 1, 1);
    expect(memcmp(logits, b->f.logits, N * row_bytes(b)) == 0, "upper layers differ", N, 0);
    expect(memcmp(features, b->f.features, N * d * sizeof *features) == 0, "features differ", N, 0);
    b->f.keep = -1;
    free(states);
    free(features);
    free(logits);
    ftk_kv_seq_close(&s);
}

/* The same tree run once as it stands, once to be kept, and again and again from what was kept, while
 * the text before it grows: always what a chain of its own says. */
static void check_kept(bench *b)
{
    const tree t = grow(b);
    const size_t n_vocab = (size_t)b->f.m->hp.n_vocab;
    ftk_kv_seq s = seq_new(b), chain = seq_new(b);
    int16_t path[NODES];
    int32_t tokens[NODES];
    int n;
    path_to(&t, NODES - 1, path, &n);
    for (int i = 0; i < n; i++) tokens[i] = t.token[path[i]];
    for (int prefix = 200; prefix < 300; prefix += 19) {
        read_to(b, &s, prefix, 64);
        read_to(b, &chain, prefix, 64);
        must(ftk_kv_reserve(&chain, n), "reserve");
        const ftk_pass_seq p = {.kv = &chain, .n_rows = n, .token = tokens, .first_logits = n - 1};
        ftk_forward_run(&b->f, &p, 1);
        float want[MOST_VOCAB];
        memcpy(want, b->f.logits, row_bytes(b));
        for (int i = 0; i < 3; i++) {
            memset(b->f.logits, 0, NODES * row_bytes(b));
            run_tree(b, &s, &t);
            expect(memcmp(want, b->f.logits + (NODES - 1) * n_vocab, row_bytes(b)) == 0,
                   "a kept pass differs (prefix, run)", prefix, i);
        }
    }
    expect(b->device->ops->kept(b->device) > 0, "no pass was kept", 0, 0);
    ftk_kv_seq_close(&s);
    ftk_kv_seq_close(&chain);
}

/* Pieces of a prompt that are kept leave the keys that others leave. */
static void check_kept_pieces(bench *b)
{
    const int n = 3 * FTK_MAX_NODES + 1, kept = b->device->ops->kept(b->device);
    float want[MOST_VOCAB];
    for (int i = 0; i < 4; i++) {
        ftk_kv_seq s = seq_new(b);
        while (i > 0 && s.len + FTK_MAX_NODES < n) {
            int32_t tokens[FTK_MAX_NODES];
            for (int t = 0; t < FTK_MAX_NODES; t++) tokens[t] = token_at(b, s.len + t);
            must(ftk_kv_reserve(&s, FTK_MAX_NODES), "reserve");
            const ftk_pass_seq p = {
                .kv = &s, .n_rows = FTK_MAX_NODES, .token = tokens, .first_logits = FTK_MAX_NODES};
            ftk_forward_run(&b->f, &p, 1);
            ftk_kv_truncate(&s, s.len + FTK_MAX_NODES);
        }
        read_to(b, &s, n, 100);
        if (i == 0) memcpy(want, b->f.logits, row_bytes(b));
        expect(memcmp(want, b->f.logits, row_bytes(b)) == 0, "a kept piece differs", i, 0);
        ftk_kv_seq_close(&s);
    }
    expect(b->device->ops->kept(b->device) > kept, "no piece was kept", kept, 0);
}

static bool has_wide(int ordinal)
{
    ftk_queue q;
    if (!ftk_cuda_open(&q, ordinal)) exit(2);
    const bool has = ftk_cuda_wide_open(&q);
    ftk_cuda_close(&q);
    return has;
}

/* A text read in one wide piece and some narrow ones is what the CPU reads, roughly, as activations are
 * rounded otherwise; and it is the same to the bit at another time, in other pages. */
static void check_wide(bench *cpu, const ftk_model *m, int ordinal, ftk_type kv, double tol)
{
    enum { N = FTK_WIDE_ROWS + 30 };
    static int32_t tokens[FTK_WIDE_ROWS];
    bench dev;
    if (!has_wide(ordinal)) return;
    bench_open(&dev, m, ordinal, kv, true);
    float first[MOST_VOCAB];
    for (int i = 0; i < FTK_WIDE_ROWS; i++) tokens[i] = token_at(&dev, i);
    for (int round = 0; round < 2; round++) {
        ftk_kv_seq a = seq_new(&dev);
        if (round == 1) read_to(&dev, &a, 130, 64);
        ftk_kv_truncate(&a, 0);
        must(ftk_kv_reserve(&a, FTK_WIDE_ROWS), "reserve");
        const ftk_pass_seq p = {
            .kv = &a, .n_rows = FTK_WIDE_ROWS, .token = tokens, .first_logits = FTK_WIDE_ROWS};
        ftk_forward_run(&dev.f, &p, 1);
        ftk_kv_truncate(&a, FTK_WIDE_ROWS);
        read_to(&dev, &a, N, 30);
        if (round == 0) memcpy(first, dev.f.logits, row_bytes(&dev));
        expect(memcmp(first, dev.f.logits, row_bytes(&dev)) == 0, "a wide piece differs", N, round);
        ftk_kv_seq_close(&a);
    }
    ftk_kv_seq b = seq_new(cpu);
    read_to(cpu, &b, N, 128);
    check_close(cpu, &dev, 1, tol);
    ftk_kv_seq_close(&b);
    bench_close(&dev);
}

static void check_ranked(const ftk_ranked *r, const int32_t *want, const float *x, int n, int row)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp((double)x[i] - x[want[0]]);
    expect(r->token == want[0], "the likeliest token is another", row, r->token);
    expect(memcmp(want, r->best, sizeof r->best) == 0, "the likeliest tokens are others", row, 0);
    for (int k = 0; k < FTK_BEST; k++) {
        const double p = exp((double)x[want[k]] - x[want[0]]) / sum;
        expect(fabs(r->prob[k] - p) <= 1e-5, "a probability is another (row, rank)", row, k);
    }
}

/* A pass that spares its logits leaves what they rank highest, beside one that does not. */
static void check_best(bench *b)
{
    enum { N = 7 };
    const int n_vocab = b->f.m->hp.n_vocab;
    int32_t tokens[N];
    for (int i = 0; i < N; i++) tokens[i] = token_at(b, i);
    ftk_kv_seq s[2] = {seq_new(b), seq_new(b)};
    ftk_pass_seq p[2];
    for (int i = 0; i < 2; i++) {
        must(ftk_kv_reserve(&s[i], N), "reserve");
        p[i] = (ftk_pass_seq){.kv = &s[i], .n_rows = N, .token = tokens, .first_logits = i};
    }
    p[0].spare = FTK_SPARE_LOGITS | FTK_SPARE_FEATURES;
    b->f.logits[0] = 77;
    ftk_forward_run(&b->f, p, 2);
    expect(b->f.logits[0] == 77, "spared logits came", 0, 0);
    for (int i = 1; i < N; i++) {
        int32_t want[FTK_BEST];
        ftk_top_k(b->f.logits + (size_t)(N + i - 1) * (size_t)n_vocab, n_vocab, FTK_BEST, want);
        for (int k = 0; k < 2; k++)
            check_ranked(&b->f.ranked[k ? N + i - 1 : i], want,
                         b->f.logits + (size_t)(N + i - 1) * (size_t)n_vocab, n_vocab, i);
    }
    for (int i = 0; i < 2; i++) ftk_kv_seq_close(&s[i]);
}

/* Products for drafters: the output matrix on features gives a pass's own logits, all bits of them; a
 * matrix that is added gives what plain C does, in more rows than one product takes. */
static void check_drafter(bench *b)
{
    enum { N = 70, OUT = 37 };
    ftk_device *const d = b->device;
    const size_t n_embd = (size_t)b->f.m->hp.n_embd;
    int32_t tokens[N];
    for (int i = 0; i < N; i++) tokens[i] = token_at(b, i);
    ftk_kv_seq s = seq_new(b);
    must(ftk_kv_reserve(&s, N), "reserve");
    ftk_pass_seq p = {.kv = &s, .n_rows = N, .token = tokens};
    ftk_forward_run(&b->f, &p, 1);
    float *y = malloc(N * row_bytes(b)), *x = malloc(N * n_embd * sizeof *x);
    memcpy(x, b->f.features, N * n_embd * sizeof *x);
    d->ops->multiply(d, &b->f.m->output, N, x, y);
    expect(memcmp(y, b->f.logits, N * row_bytes(b)) == 0, "a drafter's logits differ", N, 0);
    ftk_kv_seq_close(&s);

    float *w = malloc(OUT * n_embd * sizeof *w);
    for (size_t i = 0; i < OUT * n_embd; i++) w[i] = (float)(i * 7919 % 1009) / 1009 - 0.5f;
    const ftk_mat mat = {.type = FTK_TYPE_F32, .n_out = OUT, .n_in = (int)n_embd, .file = w};
    const ftk_weight items[2] = {{.n_out = 1, .n_in = 3, .vector = w},
                                 {.n_out = OUT, .n_in = (int)n_embd, .matrix = &mat}};
    const ftk_weights weights = {.n = 2, .items = items, .head = &b->f.m->output};
    char why[400] = "";
    must(d->ops->add_weights(d, &weights, why, sizeof why), why);
    d->ops->multiply(d, &mat, N, x, y);
    for (size_t i = 0; i < N; i++)
        for (size_t o = 0; o < OUT; o++) {
            double sum = 0, size = 0;
            for (size_t k = 0; k < n_embd; k++) {
                sum += (double)w[o * n_embd + k] * x[i * n_embd + k];
                size += fabs((double)w[o * n_embd + k] * x[i * n_embd + k]);
            }
            expect(fabs(y[i * OUT + o] - sum) <= 1e-5 * size, "a drafter's product", (long)i,
                   (long)o);
        }
    const ftk_mat wide = {
        .type = FTK_TYPE_F32, .n_out = 1, .n_in = (int)n_embd * (ROWS + 1), .file = y};
    const ftk_weight too_wide = {.n_out = 1, .n_in = wide.n_in, .matrix = &wide};
    expect(d->ops->add_weights(d, &(ftk_weights){.n = 1, .items = &too_wide}, why, sizeof why) ==
               FTK_ERR_UNSUPPORTED,
           "a matrix that is too wide was taken", 0, 0);
    free(w);
    free(x);
    free(y);
}

/* ------------------------------------------------------------------ routes */

static uint32_t dice;

static float roll(void)
{
    dice = dice * 1664525u + 1013904223u;
    return (float)(dice >> 8) * 0x1p-23f - 1;
}

enum { MOST_POLICY = 1 << 18 };

/* A policy of random numbers, which lie in `all` one after the other. */
static ftk_policy make_policy(int n_layer, int n_embd, int units, float *all)
{
    ftk_policy p = {.n_layer = n_layer,
                    .n_embd = n_embd,
                    .units = units,
                    .first = 1,
                    .partial = true,
                    .cost = {1, 0.6f, 0.1f}};
    const struct {
        const float **at;
        int n;
        float base, spread;
    } parts[] = {{&p.in, n_embd * units, 0, 2 / sqrtf((float)n_embd)},
                 {&p.past, FTK_POLICY_PAST * units, 0, 1},
                 {&p.bias, n_layer * units, 0.3f, 1},
                 {&p.out, n_layer * FTK_ACTIONS * units, 0, 2},
                 {&p.out_bias, n_layer * FTK_ACTIONS, 0, 0.3f},
                 {&p.scale, n_layer * n_embd, 1, 0.3f}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].at = all;
        for (int k = 0; k < parts[i].n; k++) *all++ = parts[i].base + parts[i].spread * roll();
    }
    return p;
}

/* By how much the best action at a layer is better than the second best, in double. */
static double margin_of(const ftk_policy *p, int layer, const float *x, const uint8_t *past)
{
    double square = 0, spent = 0, best = -INFINITY, second = -INFINITY;
    double h[FTK_POLICY_UNITS];
    for (int i = 0; i < p->n_embd; i++) square += (double)x[i] * x[i];
    for (int l = 0; l < layer; l++) spent += p->cost[past[l]];
    for (int k = 0; k < p->units; k++) {
        h[k] = p->bias[layer * p->units + k] + p->past[past[layer - 1] * p->units + k] +
               p->past[(FTK_ACTIONS + past[layer > 1 ? layer - 2 : 0]) * p->units + k] +
               p->past[2 * FTK_ACTIONS * p->units + k] * spent / p->n_layer;
        for (int i = 0; i < p->n_embd; i++)
            h[k] +=
                p->in[i * p->units + k] * x[i] / sqrt(square / p->n_embd + (double)FTK_POLICY_EPS);
    }
    for (int a = 0; a < FTK_ACTIONS; a++) {
        if (a == FTK_PARTIAL && !p->partial) continue;
        double v = p->out_bias[layer * FTK_ACTIONS + a];
        for (int k = 0; k < p->units; k++)
            if (h[k] > 0) v += h[k] * p->out[(layer * FTK_ACTIONS + a) * p->units + k];
        second = fmax(second, fmin(v, best));
        best = fmax(best, v);
    }
    return best - second;
}

/* Numbers of a policy on the device. */
static ftk_policy send_policy(ftk_queue *q, const ftk_policy *p, const float *all, char *at)
{
    ftk_policy to = *p;
    ftk_cuda_upload(q, at, all, MOST_POLICY * sizeof *all);
    const float **const parts[] = {&to.in, &to.past, &to.bias, &to.out, &to.out_bias, &to.scale};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        *parts[i] = (const float *)(void *)(at + ((const char *)*parts[i] - (const char *)all));
    return to;
}

/* What is chosen layer after layer on made-up states is what the host chooses; ends are full. */
static void check_choices(ftk_queue *q, int n_embd, int units, int counts[FTK_ACTIONS])
{
    enum { LAYERS = 40, EMBD = 2051 };
    static float all[MOST_POLICY], x[LAYERS][EMBD], scaled[EMBD];
    static uint8_t want[LAYERS], got[LAYERS], fixed[LAYERS];
    ftk_policy p = make_policy(LAYERS, n_embd, units, all);
    char *numbers = ftk_cuda_alloc(q, sizeof all);
    float *dx = ftk_cuda_alloc(q, sizeof x);
    ftk_cuda_route *dr = ftk_cuda_alloc(q, sizeof *dr);
    uint8_t *da = ftk_cuda_alloc(q, sizeof got), *df = ftk_cuda_alloc(q, sizeof fixed);
    for (int round = 0; round < 16; round++) {
        const ftk_cuda_route r = {
            .ahead = round & 1, .scaled = round >> 1 & 1, .fixed = round == 15};
        p.partial = round & 4;
        p.first = 1 + (round & 8) / 4;
        p.last = round & 3;
        ftk_policy on = send_policy(q, &p, all, numbers);
        on.fixed = df;
        for (int l = 0; l < LAYERS; l++) {
            for (int i = 0; i < n_embd; i++) x[l][i] = roll() * (float)(1 << l % 20);
            fixed[l] = (uint8_t)(l * 7 % FTK_ACTIONS);
        }
        ftk_cuda_upload(q, dx, x, sizeof x);
        ftk_cuda_upload(q, dr, &r, sizeof r);
        ftk_cuda_upload(q, df, fixed, sizeof fixed);
        memset(got, FTK_SKIP, sizeof got); /* what the last round left is no answer */
        ftk_cuda_upload(q, da, got, sizeof got);
        for (int l = 0; l < LAYERS; l++) ftk_cuda_choose(q, &on, dr, l, dx + l * EMBD, da);
        ftk_cuda_download(q, got, da, sizeof got);
        expect(ftk_cuda_wait(q), "the device failed", 0, 0);
        p.fixed = r.fixed ? fixed : NULL;
        for (int l = 0; l < LAYERS; l++) {
            const float *state = x[l];
            if (r.ahead && l > 0) state = x[l - 1];
            for (int i = 0; r.ahead && r.scaled && l > 0 && i < n_embd; i++)
                scaled[i] = state[i] * p.scale[(l - 1) * n_embd + i];
            if (r.ahead && r.scaled && l > 0) state = scaled;
            want[l] = ftk_policy_choose(&p, l, state, got);
            counts[got[l]]++;
            if (want[l] != got[l] && !r.fixed && l >= p.first && l < LAYERS - p.last)
                expect(margin_of(&p, l, state, got) < 1e-3, "another action (layer, round)", l,
                       round);
            else
                expect(want[l] == got[l], "another action at an end (layer, round)", l, round);
        }
        p.fixed = NULL;
        /* the state of a layer that is left out */
        ftk_cuda_leave_out(q, &on, dr, 3, dx);
        ftk_cuda_download(q, scaled, dx, (size_t)n_embd * sizeof *scaled);
        expect(ftk_cuda_wait(q), "the device failed", 0, 0);
        for (int i = 0; i < n_embd; i++)
            expect(scaled[i] == (r.scaled ? x[0][i] * p.scale[3 * n_embd + i] : x[0][i]),
                   "scaled otherwise", i, round);
    }
    void *const memory[] = {numbers, dx, dr, da, df};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) ftk_cuda_free(q, memory[i]);
}

static void check_policies(int ordinal)
{
    static const int sizes[][2] = {{7, 1}, {96, 5}, {2051, 16}, {1000, 33}, {300, 64}};
    int counts[FTK_ACTIONS] = {0};
    shape_name = "policies";
    ftk_queue q;
    if (!ftk_cuda_open(&q, ordinal)) exit(2);
    for (int i = 0; i < (int)(sizeof sizes / sizeof *sizes); i++)
        check_choices(&q, sizes[i][0], sizes[i][1], counts);
    for (int a = 0; a < FTK_ACTIONS; a++)
        expect(counts[a] > 200, "an action is rare", a, counts[a]);
    ftk_cuda_close(&q);
}

/* A row behind s and the rows of lower depths. */
static void run_route(bench *b, const ftk_kv_seq *s, int depth, const ftk_policy *p, bool ahead,
                      uint8_t *actions)
{
    const int32_t token = token_at(b, 3000 + depth);
    const ftk_route route = {.policy = p, .ahead = ahead, .actions = actions};
    const ftk_pass_seq seq = {
        .kv = s, .n_rows = 1, .slot = depth, .token = &token, .route = &route};
    ftk_forward_run(&b->f, &seq, 1);
}

enum { DEPTHS = 5 };

/* Rows that run every layer are those of a chain, to the bit, and so is the pass after others. */
static void check_full_routes(bench *b, const ftk_policy *p, int prefix)
{
    const size_t n_vocab = (size_t)b->f.m->hp.n_vocab;
    uint8_t actions[FTK_MAX_LAYERS], wild[FTK_MAX_LAYERS], full[FTK_MAX_LAYERS] = {0};
    ftk_policy all_full = *p, others = *p;
    all_full.fixed = full;
    others.fixed = wild;
    for (int l = 0; l < p->n_layer; l++) wild[l] = (uint8_t)(1 + l % 2);
    ftk_kv_seq s = seq_new(b);
    read_to(b, &s, prefix, 50);
    must(ftk_kv_reserve(&s, DEPTHS), "reserve");
    int32_t tokens[DEPTHS];
    for (int i = 0; i < DEPTHS; i++) tokens[i] = token_at(b, 3000 + i);
    const ftk_pass_seq chain = {.kv = &s, .n_rows = DEPTHS, .token = tokens};
    float *want = malloc(DEPTHS * row_bytes(b));
    ftk_forward_run(&b->f, &chain, 1);
    memcpy(want, b->f.logits, DEPTHS * row_bytes(b));
    for (int round = 0; round < 3; round++) {
        for (int d = 0; d < DEPTHS; d++) run_route(b, &s, d, &others, round == 1, actions);
        for (int d = 0; d < DEPTHS; d++) {
            memset(actions, 9, sizeof actions);
            run_route(b, &s, d, &all_full, round == 2, actions);
            expect(memcmp(actions, full, (size_t)p->n_layer) == 0, "not full", d, round);
            expect(memcmp(want + (size_t)d * n_vocab, b->f.logits, row_bytes(b)) == 0,
                   "a full route is not its row (depth, round)", d, round);
        }
        for (int d = 0; d < DEPTHS; d++) run_route(b, &s, d, &others, false, actions);
        expect(memcmp(actions, wild, (size_t)p->n_layer) == 0, "not what was fixed", round, 0);
        ftk_forward_run(&b->f, &chain, 1);
        expect(memcmp(want, b->f.logits, DEPTHS * row_bytes(b)) == 0,
               "routes are seen by the pass after them", round, 0);
    }
    free(want);
    ftk_kv_seq_close(&s);
}

/* Rows by a policy do what the CPU's do, up to rounding: which may turn a choice that is close. Where an
 * action was another, what follows is compared with the CPU's own by those actions. */
static void check_routes(bench *cpu, bench *dev, double tol)
{
    static float all[MOST_POLICY];
    const ftk_model *m = dev->f.m;
    ftk_device *const d = dev->device;
    char why[400] = "";
    ftk_lowbit copy = {0};
    dice = 77;
    ftk_policy p = make_policy(m->hp.n_layer, m->hp.n_embd, 16, all);
    must(d->ops->add_policy(d, &p, why, sizeof why), why);
    must(ftk_lowbit_open(&copy, m), "layers in few bits");
    must(d->ops->add_low_bits(d, why, sizeof why), why);
    must(d->ops->add_low_bits(d, why, sizeof why), why);
    cpu->f.low = copy.layers;
    int counts[FTK_ACTIONS] = {0}, others = 0, rows = 0;
    for (int round = 0; round < 8; round++) {
        ftk_policy by = p;
        if (round & 2) by.scale = NULL;
        uint8_t actions[2][FTK_MAX_LAYERS], wild[FTK_MAX_LAYERS];
        for (int l = 0; l < m->hp.n_layer; l++) wild[l] = (uint8_t)((l + round) % FTK_ACTIONS);
        if (round > 5) by.fixed = wild;
        ftk_kv_seq a = seq_new(cpu), b = seq_new(dev);
        read_to(cpu, &a, 20 + round, 40);
        read_to(dev, &b, 20 + round, 40);
        must(ftk_kv_reserve(&a, DEPTHS), "reserve");
        must(ftk_kv_reserve(&b, DEPTHS), "reserve");
        for (int depth = 0; depth < DEPTHS; depth++, rows++) {
            run_route(dev, &b, depth, &by, round & 1, actions[0]);
            run_route(cpu, &a, depth, &by, round & 1, actions[1]);
            for (int l = 0; l < m->hp.n_layer; l++) counts[actions[0][l]]++;
            if (memcmp(actions[0], actions[1], (size_t)m->hp.n_layer) != 0) {
                ftk_policy same = by;
                same.fixed = actions[0];
                run_route(cpu, &a, depth, &same, round & 1, actions[1]);
                others++;
            }
            check_close(cpu, dev, 1, tol);
        }
        ftk_kv_seq_close(&a);
        ftk_kv_seq_close(&b);
    }
    for (int i = 0; i < FTK_ACTIONS; i++)
        expect(counts[i] > 2, "an action was never taken", i, counts[i]);
    expect(others <= rows / 10, "other actions than on the CPU (rows, of)", others, rows);
    check_full_routes(dev, &p, 250); /* into another chunk of attention */
    expect(d->ops->kept(d) > 0, "no route was kept", 0, 0);
    cpu->f.low = NULL;
    ftk_lowbit_close(&copy, &m->host);
}

/* ------------------------------------------------------------------ drafts */

enum { HEADS = 3, KNOWN = 6 };

/* What is said of heads, to be computed again. */
typedef struct {
    ftk_heads heads;
    ftk_heads_ask ask;
    ftk_mat mat[2 * HEADS + 1];
    ftk_weight items[2 * HEADS];
    ftk_weights weights;
    int32_t vocab[MOST_VOCAB];
} chain;

/* Matrices of random floats, large enough that some tokens are much likelier than others. */
static ftk_mat random_mat(int n_out, int n_in, uint32_t seed)
{
    const size_t n = (size_t)n_out * (size_t)n_in;
    float *w = malloc(n * sizeof *w);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        w[i] = ((float)(seed >> 8) * 0x1p-23f - 1) * 3 / sqrtf((float)n_in);
    }
    return (ftk_mat){.type = FTK_TYPE_F32, .n_out = n_out, .n_in = n_in, .file = w};
}

/* kind: bit 0: not chained; 1: no token is seen; 2: a vocabulary; 3: a chain of single nodes. */
static void chain_open(chain *k, const bench *b, unsigned kind)
{
    const int d = b->f.m->hp.n_embd, n_vocab = b->f.m->hp.n_vocab, n_head = n_vocab / 2;
    *k = (chain){.weights = {.n = 2 * HEADS, .items = k->items, .head = &b->f.m->output}};
    k->heads = (ftk_heads){.n = HEADS,
                           .chained = !(kind & 1),
                           .sees_token = !(kind & 2),
                           .width = kind & 8 ? 1 : FTK_HEAD_NODES,
                           .choices = kind & 8 ? 1 : FTK_BEST};
    for (int i = 0; i < 2 * HEADS; i++) {
        const int n_in = i % 2 == 0 && k->heads.sees_token ? 2 * d : d;
        k->mat[i] = random_mat(d, n_in, 17 + (uint32_t)i);
        k->items[i] = (ftk_weight){.n_out = d, .n_in = n_in, .matrix = &k->mat[i]};
        *(i % 2 ? &k->heads.body[i / 2] : &k->heads.in[i / 2]) = &k->mat[i];
    }
    if (kind & 4) {
        k->mat[2 * HEADS] = random_mat(n_head, d, 5);
        for (int i = 0; i < n_head; i++) k->vocab[i] = 2 * i + 1;
        k->weights.head = &k->mat[2 * HEADS];
        k->weights.vocab = k->vocab;
    }
    k->weights.n_head = k->weights.head->n_out;
    k->heads.output = k->weights.head;
    static const float bound[FTK_HEAD_BINS - 1] = {0.4f, 0.2f, 0.1f, 0.07f, 0.05f, 0.03f, 0.02f};
    memcpy(k->ask.bound, bound, sizeof bound);
    k->ask.least = 0.02f;
    for (int i = 0; i < HEADS * FTK_HEAD_BINS; i++)
        k->ask.rate[i / FTK_HEAD_BINS][i % FTK_HEAD_BINS] = 0.9f / (float)(1 + i % FTK_HEAD_BINS);
    char why[400] = "";
    must(b->device->ops->add_weights(b->device, &k->weights, why, sizeof why), why);
}

static void chain_close(chain *k)
{
    for (int i = 0; i <= 2 * HEADS; i++) free((void *)k->mat[i].file);
}

static int32_t token_of(const chain *k, int32_t id)
{
    return k->weights.vocab ? k->weights.vocab[id] : id;
}

typedef struct {
    int32_t token;
    int parent, depth, row;
    float worth;
} guess;

enum { GUESSES = FTK_HEAD_KNOWN + HEADS * FTK_HEAD_NODES * FTK_BEST };

/* Features of head h's children for a node with that token: what is said of them is ranked. */
static void next_feature(const bench *b, const chain *k, int h, int32_t token, const float *g,
                         float *next)
{
    ftk_device *const dev = b->device;
    const size_t d = (size_t)b->f.m->hp.n_embd;
    float *z = malloc(2 * d * sizeof *z), *u = malloc(d * sizeof *u), *v = malloc(d * sizeof *v);
    double sum = 0;
    ftk_embed(b->f.m, token, z);
    for (size_t i = 0; i < d; i++) sum += (double)z[i] * z[i];
    for (size_t i = 0; i < d; i++)
        z[i] = (float)(z[i] / sqrt(sum / (double)d + (double)FTK_EMBED_EPS));
    memcpy(k->heads.sees_token ? z + d : z, g, d * sizeof *z);
    dev->ops->multiply(dev, k->heads.in[h], 1, z, u);
    dev->ops->multiply(dev, k->heads.body[h], 1, u, v);
    for (size_t i = 0; i < d; i++) next[i] = (float)(u[i] + v[i] / (1 + exp(-(double)v[i])));
    free(z);
    free(u);
    free(v);
}

/* A row's tokens and probabilities are those of its feature. */
static void check_said(const bench *b, const chain *k, const ftk_ranked *r, const float *feature,
                       int h, double tol)
{
    const int n = k->heads.output->n_out;
    float *x = malloc((size_t)n * sizeof *x);
    int32_t best[FTK_BEST];
    b->device->ops->multiply(b->device, k->heads.output, 1, feature, x);
    ftk_top_k(x, n, FTK_BEST, best);
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp((double)x[i] - x[best[0]]);
    for (int i = 0; i < FTK_BEST; i++) {
        const double ith = exp((double)x[best[i]] - x[best[0]]) / sum;
        const double own = exp((double)x[r->best[i]] - x[best[0]]) / sum;
        expect(fabs(r->prob[i] - ith) <= tol, "a head's probability (head, rank)", h, i);
        expect(fabs(r->prob[i] - own) <= tol, "a head's token (head, rank)", h, i);
    }
    expect(r->token == r->best[0], "a head's token is not its likeliest", h, 0);
    free(x);
}

/* The best guesses of a depth, as base/target.h has it, of what the device says of the heads before. */
static int choose(const chain *k, guess *all, int depth, int *node)
{
    for (int n = 0;; n++) {
        int best = -1;
        for (int i = 0; i < GUESSES; i++) {
            const bool linked = all[i].parent < 0 || !k->heads.chained || !k->heads.sees_token ||
                                all[all[i].parent].row >= 0;
            if (all[i].depth == depth && all[i].row < 0 && all[i].worth >= k->ask.least && linked &&
                (best < 0 || all[i].worth > all[best].worth))
                best = i;
        }
        if (best < 0 || n == k->heads.width) return n;
        all[best].row = n;
        node[n] = best;
    }
}

static void name_children(const chain *k, guess *all, int h, int r, int parent, const ftk_ranked *s)
{
    for (int c = 0; c < k->heads.choices; c++) {
        int bin = 0, at = FTK_HEAD_KNOWN + (h * FTK_HEAD_NODES + r) * FTK_BEST + c;
        while (bin < FTK_HEAD_BINS - 1 && s->prob[c] < k->ask.bound[bin]) bin++;
        const float worth = all[parent].worth * k->ask.rate[h][bin];
        for (int i = 0; i < k->ask.n_known; i++)
            if (all[i].parent == parent && all[i].token == token_of(k, s->best[c])) at = i;
        if (at >= FTK_HEAD_KNOWN)
            all[at] = (guess){token_of(k, s->best[c]), parent, h + 1, -1, worth};
        else if (worth > all[at].worth)
            all[at].worth = worth;
    }
}

/* All that was said is what heads and nodes, computed one by one, give. Returns how many known guesses
 * got children. */
static int check_chain(const bench *b, const chain *k, const float *feature,
                       const ftk_heads_said *said, double tol)
{
    const size_t d = (size_t)b->f.m->hp.n_embd;
    static guess all[GUESSES];
    float *g[2];
    int known = 0;
    for (int i = 0; i < 2; i++) g[i] = malloc(FTK_HEAD_NODES * d * sizeof *g[i]);
    for (int i = 0; i < GUESSES; i++) all[i] = (guess){-1, -1, -1, -1, -1};
    for (int i = 0; i < k->ask.n_known; i++) {
        const ftk_known *const a = &k->ask.known[i];
        all[i] = (guess){a->token, a->parent, a->depth, -1, a->worth};
    }
    for (int h = 0; h < HEADS; h++) {
        int node[FTK_HEAD_NODES];
        const int n = choose(k, all, h, node);
        if (!expect(said->n[h] == n, "so many nodes get children (head, nodes)", h, said->n[h]) ||
            !expect(memcmp(said->node[h], node, (size_t)n * sizeof *node) == 0,
                    "other nodes get children (head)", h, 0))
            break;
        for (int r = 0; r < n; r++) {
            const int row = k->heads.sees_token ? r : 0;
            const float *from = feature;
            if (h > 0 && k->heads.chained)
                from = g[(h + 1) % 2] +
                       (k->heads.sees_token ? (size_t)all[all[node[r]].parent].row : 0) * d;
            known += node[r] < FTK_HEAD_KNOWN;
            if (row == r) {
                next_feature(b, k, h, all[node[r]].token, from, g[h % 2] + (size_t)r * d);
                check_said(b, k, &said->said[h][r], g[h % 2] + (size_t)r * d, h, tol);
            }
            name_children(k, all, h, r, node[r], &said->said[h][row]);
        }
    }
    for (int i = 0; i < 2; i++) free(g[i]);
    return known;
}

/* A draft by heads in one call and with one wait, run as it stands, to be kept, and from what was kept. */
static void check_heads(bench *b, unsigned kind, double tol)
{
    enum { N = 9, ROW = 6 };
    ftk_device *const dev = b->device;
    const size_t d = (size_t)b->f.m->hp.n_embd;
    int32_t tokens[N];
    for (int i = 0; i < N; i++) tokens[i] = token_at(b, i);
    ftk_kv_seq s = seq_new(b);
    must(ftk_kv_reserve(&s, N), "reserve");
    const ftk_pass_seq p = {.kv = &s, .n_rows = N, .token = tokens};
    ftk_forward_run(&b->f, &p, 1);
    float *held = dev->ops->mem_alloc(dev, d * sizeof *held);
    dev->ops->hold(dev, FTK_HELD_FEATURE, ROW, held);
    float *feature = malloc(d * sizeof *feature);
    memcpy(feature, b->f.features + ROW * d, d * sizeof *feature);
    read_to(b, &s, 20, 20); /* another pass leaves other features */
    chain k;
    chain_open(&k, b, kind);
    k.ask.n_known = 1;
    k.ask.known[0] = (ftk_known){token_at(b, 50), -1, 0, 1};
    ftk_heads_said first = *dev->ops->run_heads(dev, &k.heads, &k.ask, held);
    expect(check_chain(b, &k, feature, &first, tol) == 1, "the root alone was known", kind, 0);
    /* Beside it, what the first head names in third place, with a chain below, and what it does not. */
    const int32_t third = token_of(&k, first.said[0][0].best[2]);
    int32_t other = 0;
    for (int i = 0; i < FTK_BEST; i++)
        if (token_of(&k, first.said[0][0].best[i]) == other) other++, i = -1;
    k.ask.n_known = KNOWN;
    k.ask.known[1] = (ftk_known){third, 0, 1, 0.7f};
    k.ask.known[2] = (ftk_known){token_at(b, 51), 1, 2, 0.6f};
    k.ask.known[3] = (ftk_known){token_at(b, 52), 2, 3, 0.5f};
    k.ask.known[4] =
        (ftk_known){other, 0, 1, 0.01f}; /* not worth children, so not what is below it */
    k.ask.known[5] = (ftk_known){token_at(b, 53), 4, 2, 0.5f};
    const int kept = dev->ops->kept(dev);
    for (int i = 0; i < 3; i++) {
        const ftk_heads_said *const said = dev->ops->run_heads(dev, &k.heads, &k.ask, held);
        if (i == 0) {
            first = *said;
            expect(check_chain(b, &k, feature, said, tol) >= (kind & 8 ? 1 : 3),
                   "nothing known was worth it", kind, 0);
        }
        for (int h = 0; h < HEADS; h++) {
            const size_t rows = k.heads.sees_token ? (size_t)said->n[h] : 1;
            expect(memcmp(said->node[h], first.node[h], (size_t)said->n[h] * sizeof **said->node) ==
                           0 &&
                       memcmp(said->said[h], first.said[h], rows * sizeof **said->said) == 0,
                   "a kept draft differs (kind, run)", kind, i);
        }
    }
    expect(dev->ops->kept(dev) > kept, "no draft was kept", kind, kept);
    chain_close(&k);
    dev->ops->mem_free(dev, held);
    free(feature);
    ftk_kv_seq_close(&s);
}

enum { MAPS = 2 };

typedef struct {
    bench *b;
    const ftk_maps *maps;
    const int16_t *node; /* of every row that joins */
    int n;
} joining;

/* What maps make of nodes' states, one product after the other. */
static void map_states(void *ctx, const float *states, float *x)
{
    const joining *const j = ctx;
    ftk_device *const dev = j->b->device;
    const size_t d = (size_t)j->b->f.m->hp.n_embd;
    for (int i = 0; i < j->n; i++)
        dev->ops->multiply(dev, j->maps->of_state[i % MAPS], 1, states + (size_t)j->node[i] * d,
                           x + (size_t)i * d);
}

/* Rows that join a tree's pass are the same to the bit whether their states are made there or go by the
 * host. */
static void check_joined(bench *b, const ftk_maps *maps)
{
    enum { NODES_ = 3, JOIN = NODES_ * MAPS };
    static const int16_t node[JOIN] = {4, 4, 0, 0, NODES - 1, NODES - 1};
    const tree t = grow(b);
    joining j = {b, maps, node, JOIN};
    ftk_kv_seq s = seq_new(b);
    read_to(b, &s, 30, 30);
    must(ftk_kv_reserve(&s, NODES + JOIN), "reserve");
    const ftk_pass_seq p = {.kv = &s,
                            .n_rows = NODES,
                            .token = t.token,
                            .depth = t.depth,
                            .mask = (const uint64_t(*)[2])t.mask,
                            .spare = FTK_SPARE_STATES};
    ftk_pass_append a = {.n = JOIN, .layer = 1, .node = node, .states = map_states, .ctx = &j};
    ftk_forward_run_appending(&b->f, &p, &a);
    float *want = malloc((NODES + JOIN) * row_bytes(b));
    memcpy(want, b->f.logits, (NODES + JOIN) * row_bytes(b));
    a.maps = maps;
    ftk_forward_run_appending(&b->f, &p, &a);
    expect(memcmp(want, b->f.logits, (NODES + JOIN) * row_bytes(b)) == 0, "rows that join differ",
           NODES, JOIN);
    free(want);
    ftk_kv_seq_close(&s);
}

/* A draft by maps is what upper layers give over the same states made on the host: to the bit without a
 * token, roughly with one; kept or not. */
static void check_maps(bench *b, double tol)
{
    enum { N = 9, ROW = 6 };
    ftk_device *const dev = b->device;
    const size_t d = (size_t)b->f.m->hp.n_embd, n_vocab = (size_t)b->f.m->hp.n_vocab;
    ftk_mat mat[2 * MAPS];
    ftk_weight items[2 * MAPS];
    const ftk_mat *all[2 * MAPS];
    for (int i = 0; i < 2 * MAPS; i++) {
        mat[i] = random_mat((int)d, (int)d, 71 + (uint32_t)i);
        items[i] = (ftk_weight){.n_out = (int)d, .n_in = (int)d, .matrix = all[i] = &mat[i]};
    }
    char why[400] = "";
    must(dev->ops->add_weights(
             dev, &(ftk_weights){.n = 2 * MAPS, .items = items, .head = &b->f.m->output}, why,
             sizeof why),
         why);
    must(ftk_forward_keep(&b->f, 0), "states");
    ftk_kv_seq s = seq_new(b);
    read_to(b, &s, 40, 40);
    int32_t tokens[N];
    for (int i = 0; i < N; i++) tokens[i] = token_at(b, 40 + i);
    must(ftk_kv_reserve(&s, N), "reserve");
    ftk_pass_seq p = {.kv = &s, .n_rows = N, .token = tokens};
    ftk_forward_run(&b->f, &p, 1);
    float *held = dev->ops->mem_alloc(dev, d * sizeof *held);
    dev->ops->hold(dev, FTK_HELD_STATE, ROW, held);
    float *h = malloc(d * sizeof *h), *e = malloc(d * sizeof *e), *z = malloc(MAPS * d * sizeof *z);
    float *y = malloc(d * sizeof *y);
    memcpy(h, b->f.states + ROW * d, d * sizeof *h);
    ftk_maps maps = {.n = MAPS, .of_state = all, .token = tokens[2]};
    for (int with = 0; with < 2; with++) {
        double sum = 0, of_state = 0;
        ftk_embed(b->f.m, maps.token, e);
        for (size_t i = 0; i < d; i++) {
            sum += (double)e[i] * e[i];
            of_state += (double)h[i] * h[i];
        }
        const double scale = sqrt(of_state / (sum + (double)d * (double)FTK_EMBED_EPS));
        for (size_t i = 0; i < d; i++) e[i] = (float)(e[i] * scale);
        for (size_t i = 0; i < MAPS; i++) {
            dev->ops->multiply(dev, all[i], 1, h, z + i * d);
            dev->ops->multiply(dev, all[MAPS + i], 1, e, y);
            for (size_t k = 0; k < d && with; k++) z[i * d + k] += y[k];
        }
        p = (ftk_pass_seq){.kv = &s, .n_rows = MAPS, .states = z};
        ftk_forward_run_above(&b->f, &p, 1, 1);
        float want[MAPS * MOST_VOCAB];
        memcpy(want, b->f.logits, MAPS * row_bytes(b));
        maps.of_token = with ? all + MAPS : NULL;
        int32_t same[MAPS] = {maps.token, maps.token};
        p = (ftk_pass_seq){.kv = &s, .n_rows = MAPS, .token = same};
        const int kept = dev->ops->kept(dev);
        for (int run = 0; run < 3; run++) {
            dev->ops->run_mapped(dev, &b->f, &p, 1, &maps, held);
            double top = 0, off = 0;
            for (size_t i = 0; i < MAPS * n_vocab; i++) {
                top = fmax(top, fabs((double)want[i]));
                off = fmax(off, fabs((double)want[i] - (double)b->f.logits[i]));
            }
            expect(off <= (with ? tol : 0) * top, "a draft by maps differs (token, run)", with,
                   run);
        }
        expect(with || dev->ops->kept(dev) > kept, "no draft was kept", kept, 0);
    }
    check_joined(b, &maps);
    b->f.keep = -1;
    for (int i = 0; i < 2 * MAPS; i++) free((void *)mat[i].file);
    dev->ops->mem_free(dev, held);
    void *const rows[] = {h, e, y, z};
    for (int i = 0; i < 4; i++) free(rows[i]);
    ftk_kv_seq_close(&s);
}

/* ------------------------------------------------------------------ drawing */

/* Logits with ties and holes, spread as a model's are. */
static void make_logits(float *x, int n)
{
    uint32_t r = 11;
    for (int i = 0; i < n; i++) {
        r = r * 1664525u + 1013904223u;
        const double u = ((r >> 8) + 0.5) * 0x1p-24;
        x[i] = i % 7 == 3 ? -INFINITY : (float)(floor(-64 * log(u)) / 32);
    }
    for (int i = 0; i + 1 < n; i += 9) x[i] = x[n - 1 - i];
}

/* Every token lies where the host's weights, side by side by id, have it. */
static void check_draws(ftk_queue *q, int n, const ftk_sampling *how)
{
    enum { M = 61 };
    float *x = malloc((size_t)(M * n) * sizeof *x), *w = malloc((size_t)n * sizeof *w);
    int32_t *order = malloc((size_t)n * sizeof *order);
    make_logits(x, n);
    for (int i = 1; i < M; i++) memcpy(x + i * n, x, (size_t)n * sizeof *x);
    x[2 * n + n / 2] = NAN;
    ftk_sampler s = {.cfg = *how, .n_vocab = n, .logits = w, .order = order};
    double total;
    must(ftk_sampler_weigh(&s, x, NULL, 0, NULL, 0, &total), "weights");
    ftk_cuda_draw draws[M];
    for (int i = 0; i < M; i++) {
        const double u = i == 0 ? 0 : i == 1 ? 1 - 0x1p-53 : (i - 1.5) / (M - 2);
        draws[i] = (ftk_cuda_draw){u, how->temperature, how->top_p, how->min_p, how->top_k};
    }
    draws[3].temperature = 0;
    ftk_ranked got[M];
    float *dx = ftk_cuda_alloc(q, (size_t)(M * n) * sizeof *x);
    ftk_cuda_draw *dd = ftk_cuda_alloc(q, sizeof draws);
    int32_t *ids = ftk_cuda_alloc(q, M * FTK_BEST * sizeof *ids);
    ftk_ranked *out = ftk_cuda_alloc(q, sizeof got);
    void *room = ftk_cuda_alloc(q, ftk_cuda_top_k_bytes(M, n, FTK_BEST));
    ftk_cuda_upload(q, dx, x, (size_t)(M * n) * sizeof *x);
    ftk_cuda_upload(q, dd, draws, sizeof draws);
    ftk_cuda_top_k(q, M, n, FTK_BEST, dx, room, ids);
    ftk_cuda_rank(q, M, n, FTK_BEST, dx, dd, ids, &out->token);
    ftk_cuda_download(q, got, out, sizeof got);
    expect(ftk_cuda_wait(q), "the device failed", 0, 0);
    for (int i = 0; i < M; i++) {
        const int32_t t = got[i].token;
        if (i == 2 || i == 3) {
            expect(t == (i == 2 ? -1 : got[0].best[0]), "not drawn, but another token", i, t);
            continue;
        }
        if (!expect(t >= 0 && t < n && w[t] > 0, "a token that cannot be drawn", i, t)) continue;
        double before = 0;
        for (int k = 0; k < t; k++) before += w[k];
        const double u = draws[i].uniform * total, off = 1e-6 * total;
        expect(u >= before - off && u <= before + w[t] + off, "a token from elsewhere", i, t);
    }
    void *const all[] = {dx, dd, ids, out, room};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ftk_cuda_free(q, all[i]);
    free(order);
    free(w);
    free(x);
}

static void check_drawing(int ordinal)
{
    static const ftk_sampling ways[] = {
        {.temperature = 1, .top_p = 1},
        {.temperature = 0.3f, .top_p = 1},
        {.temperature = 1e-30f, .top_p = 1},
        {.temperature = 50, .top_p = 1},
        {.temperature = 1, .top_p = 1, .top_k = 1},
        {.temperature = 1, .top_p = 1, .top_k = 2},
        {.temperature = 2, .top_p = 1, .top_k = 17},
        {.temperature = 1, .top_p = 1, .top_k = 1000000},
        {.temperature = 1, .top_p = 0.9f},
        {.temperature = 3, .top_p = 0.5f},
        {.temperature = 1, .top_p = 1e-6f},
        {.temperature = 1, .top_p = 1, .min_p = 0.1f},
        {.temperature = 1.5f, .top_p = 0.8f, .min_p = 0.02f, .top_k = 20},
    };
    static const int lengths[] = {1, 5, 37, 1003, 3001};
    shape_name = "drawing";
    ftk_queue q;
    if (!ftk_cuda_open(&q, ordinal)) exit(2);
    for (int l = 0; l < (int)(sizeof lengths / sizeof *lengths); l++)
        for (int i = 0; i < (int)(sizeof ways / sizeof *ways); i++)
            check_draws(&q, lengths[l], &ways[i]);
    ftk_cuda_close(&q);
}

/* ------------------------------------------------------------------ top-k */

static void check_top_k(int ordinal)
{
    enum { K = FTK_BEST, R = 6, MOST = 500000 };
    static const int lengths[] = {3, 1003, 2048, 2049, 40001, MOST}; /* one, two, three levels */
    static float x[R][MOST];
    shape_name = "top_k";
    ftk_queue q;
    if (!ftk_cuda_open(&q, ordinal)) exit(2);
    int32_t ids[R][K], want[K];
    float *dx = ftk_cuda_alloc(&q, sizeof x);
    int32_t *di = ftk_cuda_alloc(&q, sizeof ids);
    void *room = ftk_cuda_alloc(&q, ftk_cuda_top_k_bytes(R, MOST, K));
    for (int l = 0; l < (int)(sizeof lengths / sizeof *lengths); l++) {
        const int n = lengths[l];
        float *rows = x[0];
        for (int r = 0; r < R; r++)
            for (int i = 0; i < n; i++) /* many ties, and -Inf, which is a logit */
                rows[r * n + i] = i % 5 ? (float)((i % 97 * 7919 + r * 31) % 97) : -INFINITY;
        rows[n - 1] = 98; /* of row 0, in the last piece */
        rows[n + n / 2] = NAN;
        rows[2 * n + n - 1] = INFINITY;
        for (int i = 0; i < n; i++) rows[3 * n + i] = -INFINITY;
        ftk_cuda_upload(&q, dx, rows, (size_t)(R * n) * sizeof *rows);
        ftk_cuda_top_k(&q, R, n, K, dx, room, di);
        ftk_cuda_download(&q, ids, di, sizeof ids);
        expect(ftk_cuda_wait(&q), "the device failed", 0, 0);
        for (int r = 0; r < R; r++) {
            for (int k = 0; k < K; k++) want[k] = -1;
            ftk_top_k(rows + r * n, n, K, want);
            if (r >= 1 && r <= 3) /* NaN, Inf, nothing finite */
                expect(ids[r][0] == -1, "what is no logit was hidden (row, n)", r, n);
            else
                expect(memcmp(ids[r], want, sizeof want) == 0, "wrong tokens (row, n)", r, n);
        }
    }
    ftk_cuda_free(&q, dx);
    ftk_cuda_free(&q, di);
    ftk_cuda_free(&q, room);
    ftk_cuda_close(&q);
}

/* ------------------------------------------------------------------ wide products */

/* Rows that are 3 at one place and 0 elsewhere bring out the weights themselves, as 16-bit floats. */
static void check_widened(ftk_queue *q, ftk_type type)
{
    enum { OUT = 37, IN = 512, ROWS_ = 9 };
    static float x[ROWS_][IN], w[OUT][IN], y[ROWS_][OUT];
    static unsigned char packed[OUT * IN * 4];
    const size_t block = ftk_type_block(type), row = ftk_type_bytes(type, IN);
    int32_t token[OUT];
    uint32_t random = 5;
    for (int o = 0; o < OUT; o++) {
        for (int k = 0; k < IN; k++) {
            random = random * 1664525u + 1013904223u;
            w[o][k] = (float)(random >> 8) * 0x1p-23f - 1;
        }
        for (size_t k = 0; k < IN; k += block)
            quantise(type, w[o] + k, packed + (size_t)o * row + ftk_type_bytes(type, k));
        token[o] = o;
    }
    for (int r = 0; r < ROWS_; r++) x[r][r * 61] = 3;
    const size_t bytes = ftk_tiles_bytes(type, OUT, IN);
    char *tiles = malloc(bytes);
    ftk_tiles_pack(type, OUT, IN, packed, 0, (OUT + FTK_TILE_OUT - 1) / FTK_TILE_OUT, tiles);
    const ftk_cuda_mat m = {type, OUT, IN, ftk_cuda_alloc(q, bytes)};
    const ftk_cuda_wide room = {.w = ftk_cuda_alloc(q, sizeof w / 2),
                                .x = ftk_cuda_alloc(q, sizeof x / 2),
                                .scale = ftk_cuda_alloc(q, ROWS_ * sizeof(float)),
                                .y = ftk_cuda_alloc(q, sizeof y)};
    float *dx = ftk_cuda_alloc(q, sizeof x), *dw = ftk_cuda_alloc(q, sizeof w);
    float *dy = ftk_cuda_alloc(q, sizeof y);
    int32_t *ids = ftk_cuda_alloc(q, sizeof token);
    ftk_cuda_upload(q, (void *)m.data, tiles, bytes);
    ftk_cuda_upload(q, dx, x, sizeof x);
    ftk_cuda_upload(q, ids, token, sizeof token);
    ftk_cuda_embed(q, &m, OUT, ids, 1.0f, dw);
    ftk_cuda_wide_act(q, ROWS_, IN, dx, &room);
    ftk_cuda_wide_matmul(q, &m, ROWS_, &room, NULL, false, dy, OUT);
    ftk_cuda_download(q, w, dw, sizeof w);
    ftk_cuda_download(q, y, dy, sizeof y);
    expect(ftk_cuda_wait(q), "the device failed", 0, 0);
    for (int r = 0; r < ROWS_; r++)
        for (int o = 0; o < OUT; o++)
            expect(y[r][o] == 3 * ftk_f16_f32(ftk_f32_f16(w[o][r * 61])), ftk_type_name(type), r,
                   o);
    void *const all[] = {(void *)m.data, room.w, room.x, room.scale, room.y, dx, dw, dy, ids};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ftk_cuda_free(q, all[i]);
    free(tiles);
}

static void check_wide_products(int ordinal)
{
    static const ftk_type types[] = {FTK_TYPE_F16,   FTK_TYPE_Q8_0, FTK_TYPE_Q4_0, FTK_TYPE_Q4_1,
                                     FTK_TYPE_Q5_0,  FTK_TYPE_Q5_1, FTK_TYPE_Q2_K, FTK_TYPE_Q3_K,
                                     FTK_TYPE_Q4_K,  FTK_TYPE_Q5_K, FTK_TYPE_Q6_K, FTK_TYPE_IQ4_NL,
                                     FTK_TYPE_IQ4_XS};
    shape_name = "wide products";
    ftk_queue q;
    if (!ftk_cuda_open(&q, ordinal)) exit(2);
    if (ftk_cuda_wide_open(&q))
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) check_widened(&q, types[i]);
    else
        printf("%-34s skipped: cuBLAS is not installed\n", shape_name);
    ftk_cuda_close(&q);
}

/* ------------------------------------------------------------------ refusals */

static void check_refused(const ftk_model *m, const char *device, ftk_type kv, size_t kv_bytes,
                          ftk_err want, const char *says)
{
    ftk_device *d;
    char why[400] = "";
    const ftk_device_config c = {
        .name = device, .max_rows = ROWS, .max_slots = SLOTS, .kv_type = kv, .kv_bytes = kv_bytes};
    const ftk_err err = ftk_device_open(&d, m, &c, why, sizeof why);
    if (!expect(err == want && !d && strstr(why, says), "refused otherwise (error, wanted)", err,
                want))
        printf("  it said: %s\n", why);
    if (d) d->ops->free(d);
}

static void check_refusals(const ftk_model *m)
{
    shape_name = "refusals";
    check_refused(m, "gpu", FTK_TYPE_F16, 0, FTK_ERR_INVALID, "give cpu");
    check_refused(m, "cuda:x", FTK_TYPE_F16, 0, FTK_ERR_INVALID, "give cpu");
    check_refused(m, "cuda:99", FTK_TYPE_F16, 0, FTK_ERR_DEVICE, "no device 99");
    check_refused(m, "cuda", FTK_TYPE_F16, (size_t)1 << 50, FTK_ERR_NOMEM, "MiB are missing");
}

/* ------------------------------------------------------------------ main */

#define QWEN  (FTK_ARCH_ROPE_HALVES | FTK_ARCH_BIAS_QKV | FTK_ARCH_NORM_QK)
#define GEMMA (FTK_ARCH_ROPE_HALVES | FTK_ARCH_NORM_POST | FTK_ARCH_GELU | FTK_ARCH_EMBD_SCALE)

/* tol: rounding alone; where activations are quantised, a last bit may move one by a step. */
static const struct {
    mm_shape shape;
    ftk_type kv;
    double tol;
} cases[] = {
    {{"f32", 2, 96, 160, 6, 2, 16, 133, .attn = FTK_TYPE_F32, .ffn = FTK_TYPE_F32,
      .ends = FTK_TYPE_F32},
     FTK_TYPE_F32,
     1e-5},
    {{"f16", 2, 96, 160, 6, 2, 16, 133, .attn = FTK_TYPE_F16, .ffn = FTK_TYPE_F16,
      .ends = FTK_TYPE_F16, .tied = true},
     FTK_TYPE_F16,
     1e-3},
    {{"bf16, biases, head norms", 2, 100, 150, 5, 5, 20, 90, .flags = QWEN, .attn = FTK_TYPE_BF16,
      .ffn = FTK_TYPE_BF16, .ends = FTK_TYPE_F32},
     FTK_TYPE_F32,
     1e-5},
    {{"q8_0, its cache too", 2, 128, 192, 4, 1, 32, 200, .attn = FTK_TYPE_Q8_0,
      .ffn = FTK_TYPE_Q8_0, .ends = FTK_TYPE_Q8_0},
     FTK_TYPE_Q8_0,
     0.02},
    {{"q4_0 and f16, windows, post norms", 3, 128, 160, 4, 2, 40, 130, .n_rot = 24, .window = 23,
      .flags = GEMMA, .attn = FTK_TYPE_Q4_0, .ffn = FTK_TYPE_F16, .ends = FTK_TYPE_Q8_0,
      .tied = true},
     FTK_TYPE_F16,
     0.02},
    {{"q4_k and q6_k", 2, 256, 512, 4, 2, 64, 150, .attn = FTK_TYPE_Q4_K, .ffn = FTK_TYPE_Q6_K,
      .ends = FTK_TYPE_Q6_K},
     FTK_TYPE_F16,
     0.02},
    {{"f16, more layers", 7, 64, 96, 4, 2, 16, 90, .window = 40, .flags = QWEN,
      .attn = FTK_TYPE_F16, .ffn = FTK_TYPE_Q8_0, .ends = FTK_TYPE_F16},
     FTK_TYPE_F32,
     0.02},
};

static void check_shape(int i, int ordinal)
{
    shape_name = cases[i].shape.name;
    ftk_model *m = mm_open(&cases[i].shape, "ref");
    bench cpu, dev;
    bench_open(&cpu, m, -1, cases[i].kv, false);
    bench_open(&dev, m, ordinal, cases[i].kv, false);
    const int before = failed;
    worst = 0;
    check_against_cpu(&cpu, &dev, cases[i].tol);
    /* past a chunk of attention, and a tree across one; emulated, not every time */
    const bool all = !ftk_cuda_emulated();
    check_company(&dev, all || i % 3 == 1 ? 290 : 75);
    check_tree(&dev, all || i % 3 == 2 ? 251 : 53);
    check_batch(&dev);
    check_best(&dev);
    if (i == 0 || i == 3) check_drafter(&dev);
    for (unsigned kind = 0; (i == 0 || i == 3) && kind < 16; kind++)
        if (all || kind < 5 || kind == 12) check_heads(&dev, kind, i == 0 ? 1e-4 : 0.02);
    if (all || i % 3 == 0) check_kept(&dev);
    if (all || i == 0) check_kept_pieces(&dev);
    if (all || i == 1 || i == 3) check_wide(&cpu, m, ordinal, cases[i].kv, 0.05);
    check_states(&dev);
    if (all || i % 2 == 0) check_routes(&cpu, &dev, cases[i].tol);
    if (i == 0 || i == 3) check_maps(&dev, i == 0 ? 1e-5 : 0.02);
    expect(ftk_forward_check(&dev.f) == FTK_OK, "the device failed", 0, 0);
    if (i == 0) check_refusals(m);
    printf("%-34s %s, %.1e of the largest logit from the CPU\n", cases[i].shape.name,
           failed == before ? "ok" : "FAILED", worst);
    fflush(stdout);
    bench_close(&cpu);
    bench_close(&dev);
    mm_free(m);
}

int main(int argc, char **argv)
{
    int ordinal = 0;
    if (argc == 3 && strcmp(argv[1], "--device") == 0)
        ordinal = atoi(argv[2]);
    else if (argc != 1) {
        fprintf(stderr, "usage: checkcuda [--device N]\n");
        return 2;
    }
    ftk_cuda_info info;
    if (!ftk_cuda_probe(ordinal, &info)) {
        printf("skipped: %s\n", info.problem);
        return 77;
    }
    printf("%s\n", info.name);
    for (int i = 0; i < FTK_MAX_NODES; i++) straight[i] = (int16_t)i;
    for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++) check_shape(i, ordinal);
    check_top_k(ordinal);
    check_drawing(ordinal);
    check_wide_products(ordinal);
    check_policies(ordinal);
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
