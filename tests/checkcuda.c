/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks passes on a device: on an NVIDIA GPU, or emulated, with the same program.
 *
 *     checkcuda [--device N | --sample]
 *
 * Logits are compared with those of the CPU's plain C; what is promised to the bit, to the bit:
 * a row does not depend on its company, a tree row equals its path as a chain, and committed,
 * forked and batched sequences go on as one that was read alone. Exit: 0 passed, 1 failed, 77 no
 * device. */
#include "checkcuda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/sampler.h"
#include "kernels/blocks.h"
#include "kernels/cuda/cuda.h"
#include "testkit/memorymodel.h"
#include "testkit/quantise.h"

enum { TEXT = 70, SAMPLE = 5 /* the one shape of a sample */ };

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

/* The same tree run once as it stands, once to be kept, and again and again from what was kept,
 * while the text before it grows: always what a chain of its own says. */
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

/* Sequences of different lengths that share a pass, as they share it first, to be kept, and from
 * what was kept, while each grows: what each says alone. */
static void check_kept_together(bench *b)
{
    enum { SEQS = 3, RUNS = 5, MOST_ROWS = FTK_DEVICE_ROWS };
    static const int length[SEQS] = {70, 240, 3}, rows[] = {1, MOST_ROWS};
    static float want[SEQS * MOST_ROWS * MOST_VOCAB];
    const size_t n_vocab = (size_t)b->f.m->hp.n_vocab;
    for (int way = 0; way < 2; way++) {
        const int n = rows[way], kept = b->device->ops->kept(b->device);
        ftk_kv_seq s[SEQS];
        for (int i = 0; i < SEQS; i++) s[i] = seq_new(b);
        for (int run = 0; run < RUNS; run++) {
            ftk_pass_seq p[SEQS];
            int32_t tokens[MOST_ROWS];
            for (int i = 0; i < MOST_ROWS; i++) tokens[i] = token_at(b, run + 31 * i);
            for (int i = 0; i < SEQS; i++) {
                read_to(b, &s[i], length[i] + 5 * run, 64);
                must(ftk_kv_reserve(&s[i], n), "reserve");
                p[i] = (ftk_pass_seq){.kv = &s[i], .n_rows = n, .token = tokens};
                ftk_forward_run(&b->f, &p[i], 1);
                memcpy(want + (size_t)(i * n) * n_vocab, b->f.logits, (size_t)n * row_bytes(b));
            }
            ftk_forward_run(&b->f, p, SEQS);
            expect(memcmp(want, b->f.logits, (size_t)(SEQS * n) * row_bytes(b)) == 0,
                   "a pass of several sequences differs (rows, run)", n, run);
        }
        expect(b->device->ops->kept(b->device) > kept, "no pass of several sequences was kept", n,
               kept);
        for (int i = 0; i < SEQS; i++) ftk_kv_seq_close(&s[i]);
    }
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

/* A text read in one wide piece and some narrow ones is what the CPU reads, roughly, as
 * activations are rounded otherwise; and it is the same to the bit at another time, in other
 * pages. */
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

/* Products for drafters: the output matrix on features gives a pass's own logits, all bits of
 * them; a matrix that is added gives what plain C does, in more rows than one product takes. */
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
        {.temperature = 1, .top_p = 0.7f, .min_p = 0.2f},
        {.temperature = 1.5f, .top_p = 0.8f, .min_p = 0.02f, .top_k = 20},
    };
    static const int lengths[] = {1, 5, 37, 1003, 3001};
    check_shape_name = "drawing";
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
    check_shape_name = "top_k";
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

/* Rows that are 3 at one place and 0 elsewhere bring out the weights themselves, as 16-bit
 * floats. */
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
    check_shape_name = "wide products";
    ftk_queue q;
    if (!ftk_cuda_open(&q, ordinal)) exit(2);
    if (ftk_cuda_wide_open(&q))
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) check_widened(&q, types[i]);
    else
        printf("%-34s skipped: cuBLAS is not installed\n", check_shape_name);
    ftk_cuda_close(&q);
}

/* ------------------------------------------------------------------ refusals */

static void check_refused(const ftk_model *m, const char *device, size_t kv_bytes, ftk_err want,
                          const char *says)
{
    ftk_device *d;
    char why[400] = "";
    const ftk_device_config c = {
        .name = device, .max_rows = ROWS, .max_slots = SLOTS, .kv_bytes = kv_bytes};
    const ftk_err err = ftk_device_open(&d, m, &c, why, sizeof why);
    if (!expect(err == want && !d && strstr(why, says), "refused otherwise (error, wanted)", err,
                want))
        printf("  it said: %s\n", why);
    if (d) d->ops->free(d);
}

static void check_refusals(const ftk_model *m)
{
    check_shape_name = "refusals";
    check_refused(m, "gpu", 0, FTK_ERR_INVALID, "give cpu");
    check_refused(m, "cuda:x", 0, FTK_ERR_INVALID, "give cpu");
    check_refused(m, "cuda:99", 0, FTK_ERR_DEVICE, "no device 99");
    check_refused(m, "cuda", (size_t)1 << 50, FTK_ERR_NOMEM, "MiB are missing");
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
    check_shape_name = cases[i].shape.name;
    ftk_model *m = mm_open(&cases[i].shape, "ref");
    bench cpu, dev;
    bench_open(&cpu, m, -1, cases[i].kv, false);
    bench_open(&dev, m, ordinal, cases[i].kv, false);
    const int before = check_failed;
    check_worst = 0;
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
    if (all || i % 3 == 0) check_kept_together(&dev);
    if (all || i == 0) check_kept_pieces(&dev);
    if (all || i == 1 || i == 3) check_wide(&cpu, m, ordinal, cases[i].kv, 0.05);
    check_states(&dev);
    if (all || i % 2 == 0) check_routes(&cpu, &dev, cases[i].tol);
    if (i == 0 || i == 3) check_maps(&dev, i == 0 ? 1e-5 : 0.02);
    expect(ftk_forward_check(&dev.f) == FTK_OK, "the device failed", 0, 0);
    if (i == 0) check_refusals(m);
    printf("%-34s %s, %.1e of the largest logit from the CPU\n", cases[i].shape.name,
           check_failed == before ? "ok" : "FAILED", check_worst);
    fflush(stdout);
    bench_close(&cpu);
    bench_close(&dev);
    mm_free(m);
}

int main(int argc, char **argv)
{
    int ordinal = 0;
    const bool sample = argc == 2 && strcmp(argv[1], "--sample") == 0;
    if (argc == 3 && strcmp(argv[1], "--device") == 0)
        ordinal = atoi(argv[2]);
    else if (argc != 1 && !sample) {
        fprintf(stderr, "usage: checkcuda [--device N | --sample]\n");
        return 2;
    }
    ftk_cuda_info info;
    if (!ftk_cuda_probe(ordinal, &info)) {
        printf("skipped: %s\n", info.problem);
        return 77;
    }
    printf("%s\n", info.name);
    for (int i = 0; i < FTK_MAX_NODES; i++) straight[i] = (int16_t)i;
    for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++)
        if (!sample || i == SAMPLE) check_shape(i, ordinal);
    check_top_k(ordinal);
    check_drawing(ordinal);
    check_wide_products(ordinal);
    check_policies(ordinal);
    check_planted(ordinal);
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed ? 1 : 0;
}
