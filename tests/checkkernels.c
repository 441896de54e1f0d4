/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks and times every entry of the kernel table, on every level this machine has.
 *
 *     checkkernels [--seed N] [--level NAME] [--kernel NAME] [--bench [--rows 1,2,4]]
 *
 * Values are compared with a plain computation in double; what is promised to the bit (a row does
 * not depend on its company, a tree row equals its path as a chain) is compared to the bit. Level
 * "ref" is checked in full, of the others the entries that differ from it. Exit: 0 passed, 1
 * failed, 2 usage, 77 no level beyond ref here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/blocks.h"

/* ------------------------------------------------------------------ bookkeeping */

typedef struct check {
    const ftk_kernels *k, *ref;
    uint64_t seed, rng;
    const char *entry; /* being checked */
    int passed, failed;
} check;

/* One expectation; a failure says how to see it again. Only the first few are printed. */
static bool expect(check *c, bool ok, const char *what, long a, long b)
{
    if (ok) {
        c->passed++;
        return true;
    }
    if (c->failed++ < 20)
        printf("FAIL %s %s: %s (%ld, %ld)\n"
               "  again: checkkernels --seed %llu --level %s --kernel %s\n",
               c->k->name, c->entry, what, a, b, (unsigned long long)c->seed, c->k->name, c->entry);
    return false;
}

static uint64_t next_u64(check *c)
{
    uint64_t z = c->rng += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int below(check *c, int n)
{
    return (int)(next_u64(c) % (uint64_t)n);
}

static float normal(check *c)
{
    const double u = ((double)(next_u64(c) >> 11) + 1) * 0x1p-53;
    const double v = (double)(next_u64(c) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* Kinds of input: factors on normal numbers. */
static const float factors[] = {1.0f, 1e-20f, 1e30f, 1e-41f};
enum { NORMAL, TINY, HUGE_VALUES, DENORMAL, N_KINDS };

static void fill(check *c, int kind, size_t n, float *x)
{
    for (size_t i = 0; i < n; i++) x[i] = normal(c) * factors[kind];
}

/* ------------------------------------------------------------------ guarded memory */

enum { GUARD = 64, CANARY = 0xa5, BLANK = 0xff /* four of them are a NaN */ };

static void *guarded(size_t bytes)
{
    const size_t total = (bytes + 63) / 64 * 64 + (size_t)2 * GUARD;
    unsigned char *p = aligned_alloc(64, total);
    if (!p) {
        fprintf(stderr, "checkkernels: out of memory\n");
        exit(2);
    }
    memset(p, CANARY, total);
    memset(p + GUARD, BLANK, bytes);
    return p + GUARD;
}

static void unguard(void *p)
{
    free((unsigned char *)p - GUARD);
}

/* Nothing outside [p, p + bytes) was written. */
static bool intact(const void *p, size_t bytes)
{
    const unsigned char *u = p;
    for (int i = 0; i < GUARD; i++)
        if (u[i - GUARD] != CANARY || u[bytes + (size_t)i] != CANARY) return false;
    return true;
}

static bool is_blank(const void *p, size_t bytes)
{
    const unsigned char *u = p;
    for (size_t i = 0; i < bytes; i++)
        if (u[i] != BLANK) return false;
    return true;
}

static bool same(const void *a, const void *b, size_t bytes)
{
    return memcmp(a, b, bytes) == 0;
}

static const double eps = 0x1p-24;

/* Written so that NaN is never close. */
static bool close_to(double got, double want, double tol)
{
    return fabs(got - want) <= tol;
}

/* ------------------------------------------------------------------ matrices */

static const ftk_type types[] = {FTK_TYPE_F32, FTK_TYPE_F16, FTK_TYPE_BF16, FTK_TYPE_Q8_0,
                                 FTK_TYPE_Q4_0};
enum { N_TYPES = sizeof types / sizeof types[0], MAX_ROWS = 128 };

/* A random matrix in GGUF layout. Q8_0 holds all bytes, -128 too. */
static void *random_matrix(check *c, ftk_type type, size_t n)
{
    unsigned char *w = guarded(ftk_type_bytes(type, n));
    if (type == FTK_TYPE_Q8_0 || type == FTK_TYPE_Q4_0) {
        const size_t block = ftk_type_bytes(type, FTK_QBLOCK);
        for (size_t b = 0; b < n / FTK_QBLOCK; b++) {
            const uint16_t d = ftk_f32_f16(normal(c) * 0.01f);
            memcpy(w + b * block, &d, sizeof d);
            for (size_t i = sizeof d; i < block; i++)
                w[b * block + i] = (unsigned char)next_u64(c);
        }
        return w;
    }
    for (size_t i = 0; i < n; i++) {
        const float f = normal(c);
        const uint16_t h = type == FTK_TYPE_F16 ? ftk_f32_f16(f) : ftk_f32_bf16(f);
        if (type == FTK_TYPE_F32) memcpy(w + i * sizeof f, &f, sizeof f);
        else memcpy(w + i * sizeof h, &h, sizeof h);
    }
    return w;
}

/* Element i of a row, by the definition of the type. */
static double element(ftk_type type, const void *row, size_t i)
{
    const size_t b = i / FTK_QBLOCK, j = i % FTK_QBLOCK;
    switch (type) {
    case FTK_TYPE_F32: return ((const float *)row)[i];
    case FTK_TYPE_F16: return ftk_f16_f32(((const uint16_t *)row)[i]);
    case FTK_TYPE_BF16: return ftk_bf16_f32(((const uint16_t *)row)[i]);
    case FTK_TYPE_Q8_0: {
        const ftk_q8_0 *q = (const ftk_q8_0 *)row + b;
        return (double)ftk_f16_f32(q->d) * q->q[j];
    }
    case FTK_TYPE_Q4_0: {
        const ftk_q4_0 *q = (const ftk_q4_0 *)row + b;
        return (double)ftk_f16_f32(q->d) * (j < 16 ? (q->q[j] & 15) - 8 : (q->q[j - 16] >> 4) - 8);
    }
    }
    return NAN;
}

static double activation(ftk_type wtype, const void *act, size_t i)
{
    if (ftk_type_block(wtype) == 1) return ((const float *)act)[i];
    const ftk_qact *a = (const ftk_qact *)act + i / FTK_QBLOCK;
    return (double)a->d * a->q[i % FTK_QBLOCK];
}

/* A matrix, as the level wants it, and packed activations for MAX_ROWS rows. */
typedef struct product {
    ftk_mat m;
    void *gguf, *packed;
    char *act;
    size_t stride, ldy;
    float *x, *single; /* single: [MAX_ROWS][ldy], computed row by row */
} product;

static void pack_rows(check *c, product *p)
{
    for (int r = 0; r < MAX_ROWS; r++)
        c->k->act_pack(p->m.type, p->m.n_in, p->x + (size_t)r * (size_t)p->m.n_in,
                       p->act + (size_t)r * p->stride);
}

static product product_new(check *c, ftk_type type, int n_out, int n_in, int kind)
{
    product p = {.m = {.type = type, .n_out = n_out, .n_in = n_in}, .ldy = (size_t)n_out + 5};
    const size_t cells = (size_t)n_out * (size_t)n_in;
    p.gguf = random_matrix(c, type, cells);
    p.m.data = p.gguf;
    const size_t bytes = c->k->pack_bytes(type, n_out, n_in);
    if (bytes) {
        p.packed = guarded(bytes);
        c->k->pack(type, n_out, n_in, p.gguf, p.packed);
        expect(c, intact(p.packed, bytes), "pack wrote outside its output", n_out, n_in);
        p.m.data = p.packed;
    }
    p.stride = c->k->act_bytes(type, n_in);
    expect(c, p.stride % 64 == 0, "act_bytes is no multiple of 64", n_out, n_in);
    p.act = guarded(MAX_ROWS * p.stride);
    p.x = guarded(MAX_ROWS * (size_t)n_in * sizeof(float));
    fill(c, kind, MAX_ROWS * (size_t)n_in, p.x);
    pack_rows(c, &p);
    expect(c, intact(p.act, MAX_ROWS * p.stride), "act_pack wrote outside", n_out, n_in);
    p.single = guarded(MAX_ROWS * p.ldy * sizeof(float));
    return p;
}

static void product_free(product *p)
{
    unguard(p->gguf);
    if (p->packed) unguard(p->packed);
    unguard(p->act);
    unguard(p->x);
    unguard(p->single);
}

static void one_by_one(check *c, product *p)
{
    for (int r = 0; r < MAX_ROWS; r++)
        c->k->matmul(&p->m, p->act + (size_t)r * p->stride, p->stride, 1, 0, p->m.n_out,
                     p->single + (size_t)r * p->ldy, p->ldy);
    expect(c, intact(p->single, MAX_ROWS * p->ldy * sizeof(float)), "matmul wrote outside",
           p->m.n_out, p->m.n_in);
}

static bool product_close(const product *p, int r, int o)
{
    const size_t n = (size_t)p->m.n_in;
    const char *row = (const char *)p->gguf + (size_t)o * ftk_type_bytes(p->m.type, n);
    double sum = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        const double t = element(p->m.type, row, i) *
                         activation(p->m.type, p->act + (size_t)r * p->stride, i);
        sum += t;
        size += fabs(t);
    }
    const double tol = eps * (16 + (double)n / 16) * size + (double)n * 0x1p-149;
    return close_to(p->single[(size_t)r * p->ldy + (size_t)o], sum, tol);
}

static void check_values(check *c, const product *p)
{
    for (int r = 0; r < 3; r++)
        for (int o = 0; o < p->m.n_out; o++)
            if (!expect(c, product_close(p, r, o), "value is off (row, output)", r, o)) return;
}

/* The rows of a call equal those computed alone; columns behind n_out stay as they were. */
static void check_company(check *c, const product *p)
{
    float *y = guarded(MAX_ROWS * p->ldy * sizeof(float));
    for (int n = 1; n <= MAX_ROWS; n = n < 17 ? n + 1 : n == 17 ? 69 : n == 69 ? 128 : 129) {
        memset(y, BLANK, MAX_ROWS * p->ldy * sizeof(float));
        c->k->matmul(&p->m, p->act, p->stride, n, 0, p->m.n_out, y, p->ldy);
        for (size_t r = 0; r < MAX_ROWS; r++) {
            const float *row = y + r * p->ldy;
            const size_t n_out = (size_t)p->m.n_out;
            const size_t used = r < (size_t)n ? n_out : 0;
            if (!expect(c, same(row, p->single + r * p->ldy, used * sizeof(float)),
                        "row depends on its company (rows, row)", n, (long)r)) break;
            if (!expect(c, is_blank(row + used, (p->ldy - used) * sizeof(float)),
                        "matmul wrote beside its rows (rows, row)", n, (long)r)) break;
        }
    }
    expect(c, intact(y, MAX_ROWS * p->ldy * sizeof(float)), "matmul wrote outside", 0, 0);
    unguard(y);
}

/* The output range in random pieces, as threads would take it. */
static void check_cuts(check *c, const product *p)
{
    const int rows = 11, grain = c->k->matmul_grain;
    const size_t bytes = (size_t)rows * p->ldy * sizeof(float);
    float *y = guarded(bytes);
    for (int o = 0, end; o < p->m.n_out; o = end) {
        end = o + grain * (1 + below(c, 3));
        end = end < p->m.n_out ? end : p->m.n_out;
        c->k->matmul(&p->m, p->act, p->stride, rows, o, end, y, p->ldy);
    }
    expect(c, same(y, p->single, bytes), "result depends on the cuts", p->m.n_out, p->m.n_in);
    unguard(y);
}

/* A value that is not finite spoils its own row, all of it, and no other. */
static void check_not_finite(check *c, product *p, float bad)
{
    const int rows = 9, hit = 4;
    const size_t n_in = (size_t)p->m.n_in, n_out = (size_t)p->m.n_out;
    float *x = p->x + (size_t)hit * n_in;
    const size_t at = (size_t)below(c, p->m.n_in);
    const float kept = x[at];
    x[at] = bad;
    pack_rows(c, p);
    float *y = guarded((size_t)rows * p->ldy * sizeof(float));
    c->k->matmul(&p->m, p->act, p->stride, rows, 0, p->m.n_out, y, p->ldy);
    for (int r = 0; r < rows; r++) {
        const float *row = y + (size_t)r * p->ldy;
        if (r != hit) {
            expect(c, same(row, p->single + (size_t)r * p->ldy, n_out * sizeof(float)),
                   "a bad row changed another", r, 0);
            continue;
        }
        bool hidden = false;
        for (size_t o = 0; o < n_out; o++) hidden |= isfinite(row[o]);
        expect(c, !hidden, "a value that is not finite was hidden", (long)n_out, (long)n_in);
    }
    x[at] = kept;
    pack_rows(c, p);
    unguard(y);
}

static void check_matmul(check *c)
{
    static const struct {
        int n_out, n_in;
    } shapes[] = {{1, 32}, {16, 32}, {17, 64}, {40, 96}, {7, 256}, {75, 288}, {130, 768},
                  {1, 1}, {5, 3}, {33, 65}};
    for (int t = 0; t < N_TYPES; t++) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            if (shapes[s].n_in % (int)ftk_type_block(types[t]) != 0) continue;
            for (int kind = 0; kind < N_KINDS; kind++) {
                product p = product_new(c, types[t], shapes[s].n_out, shapes[s].n_in, kind);
                one_by_one(c, &p);
                check_values(c, &p);
                check_company(c, &p);
                check_cuts(c, &p);
                check_not_finite(c, &p, NAN);
                check_not_finite(c, &p, INFINITY);
                product_free(&p);
            }
        }
    }
}

/* Quantised activations are within half a step, and the same bits on every level. */
static void check_act_pack(check *c)
{
    enum { N = 96 };
    float x[N];
    ftk_qact got[N / FTK_QBLOCK], want[N / FTK_QBLOCK];
    for (int i = 0; i < 400; i++) {
        const ftk_type type = i % 2 ? FTK_TYPE_Q8_0 : FTK_TYPE_Q4_0;
        const int kind = i / 2 % N_KINDS;
        fill(c, kind, N, x);
        if (i % 7 == 0) memset(x, 0, FTK_QBLOCK * sizeof *x);
        if (i % 11 == 0) x[33] = i % 2 ? NAN : -INFINITY;
        if (i % 13 == 0) x[5] = 0.5f * x[6];
        c->k->act_pack(type, N, x, got);
        c->ref->act_pack(type, N, x, want);
        for (int b = 0; b < N / FTK_QBLOCK; b++) {
            if (isnan(want[b].d) && isnan(got[b].d)) got[b].d = want[b].d;
            int32_t sum = 0;
            bool near = true;
            for (int j = 0; j < FTK_QBLOCK; j++) {
                const double step = got[b].d, v = x[b * FTK_QBLOCK + j];
                sum += got[b].q[j];
                near &= close_to(step * got[b].q[j], v, step * 0.5001 + (double)FTK_QACT_TINY);
            }
            const bool spoilt = i % 11 == 0 && b == 1;
            expect(c, spoilt ? isnan(got[b].d) : near, "quantised wrongly (case, block)", i, b);
            expect(c, got[b].bias == sum * (type == FTK_TYPE_Q8_0 ? -128 : -8), "bias", i, b);
        }
        expect(c, same(got, want, sizeof got), "bits differ from ref", i, 0);
    }
}

static void check_dequant_row(check *c)
{
    const int n = 96;
    for (int t = 0; t < N_TYPES; t++) {
        void *w = random_matrix(c, types[t], (size_t)n);
        float *y = guarded((size_t)n * sizeof *y);
        c->k->dequant_row(types[t], n, w, y);
        for (int i = 0; i < n; i++)
            expect(c, y[i] == (float)element(types[t], w, (size_t)i), "value (type, i)", types[t],
                   i);
        expect(c, intact(y, (size_t)n * sizeof *y), "wrote outside", types[t], n);
        unguard(y);
        unguard(w);
    }
}

/* ------------------------------------------------------------------ elementwise */

static const int sizes[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 257, 768};
enum { N_SIZES = sizeof sizes / sizeof sizes[0], MAX_SIZE = 768 };

static void check_rms_norm(check *c)
{
    float x[MAX_SIZE], w[MAX_SIZE];
    for (int i = 0; i < N_SIZES * N_KINDS; i++) {
        const int n = sizes[i / N_KINDS];
        const size_t bytes = (size_t)n * sizeof(float);
        fill(c, i % N_KINDS, (size_t)n, x);
        fill(c, NORMAL, (size_t)n, w);
        float *y = guarded(bytes), *in_place = guarded(bytes);
        c->k->rms_norm(n, x, w, 1e-5f, y);
        double sum = 0;
        for (int j = 0; j < n; j++) sum += (double)x[j] * x[j];
        const double scale = 1 / sqrt(sum / n + (double)1e-5f);
        for (int j = 0; j < n; j++) {
            const double want = x[j] * scale * w[j];
            if (!expect(c, close_to(y[j], want, 4 * eps * fabs(want) + 0x1p-147), "value (n, i)", n,
                        j)) break;
        }
        memcpy(in_place, x, bytes);
        c->k->rms_norm(n, in_place, w, 1e-5f, in_place);
        expect(c, same(y, in_place, bytes), "in place differs", n, 0);
        expect(c, intact(y, bytes), "wrote outside", n, 0);
        x[n / 2] = NAN;
        c->k->rms_norm(n, x, w, 1e-5f, y);
        expect(c, isnan(y[0]) && isnan(y[n - 1]), "NaN was hidden", n, 0);
        unguard(y);
        unguard(in_place);
    }
}

static void check_rope(check *c)
{
    static const int dims[][2] = {{2, 2}, {8, 8}, {8, 4}, {64, 64}, {80, 20}, {48, 48}, {128, 128}};
    const int heads = 3;
    float cs[128], before[3 * 128];
    for (int i = 0; i < 7 * N_KINDS; i++) {
        const int d = dims[i / N_KINDS][0], n_rot = dims[i / N_KINDS][1];
        const size_t n = (size_t)(heads * d);
        float *x = guarded(n * sizeof *x);
        fill(c, i % N_KINDS, n, before);
        fill(c, NORMAL, (size_t)n_rot, cs);
        memcpy(x, before, n * sizeof *x);
        c->k->rope(heads, d, n_rot, cs, x);
        for (int j = 0; j < heads * d; j += 2) {
            const double a = before[j], b = before[j + 1];
            const bool turned = j % d < n_rot;
            const double co = turned ? cs[j % d] : 1, si = turned ? cs[j % d + 1] : 0;
            const double tol =
                turned ? 3 * eps * (fabs(a * co) + fabs(b * si) + fabs(a * si) + fabs(b * co)) +
                             0x1p-147 : 0;
            expect(c, close_to(x[j], a * co - b * si, tol), "value (head_dim, i)", d, j);
            expect(c, close_to(x[j + 1], a * si + b * co, tol), "value (head_dim, i)", d, j + 1);
        }
        expect(c, intact(x, n * sizeof *x), "wrote outside", d, n_rot);
        unguard(x);
    }
}

/* Pairs (i, i + n_rot/2) of x are pairs (2i, 2i + 1) of another order: both entries agree. */
static void check_rope_halves(check *c)
{
    static const int dims[][2] = {{2, 2}, {8, 8}, {8, 4}, {64, 64}, {80, 20}, {48, 36}, {128, 96}};
    const int heads = 3;
    float cs[128], split[128], before[3 * 128], pairs[3 * 128];
    for (int i = 0; i < 7 * N_KINDS; i++) {
        const int d = dims[i / N_KINDS][0], n_rot = dims[i / N_KINDS][1], half = n_rot / 2;
        const size_t bytes = (size_t)(heads * d) * sizeof(float);
        float *x = guarded(bytes);
        fill(c, i % N_KINDS, (size_t)(heads * d), before);
        fill(c, NORMAL, (size_t)n_rot, cs);
        memcpy(x, before, bytes);
        memcpy(pairs, before, bytes);
        for (int j = 0; j < n_rot; j++) {
            split[j / 2 + j % 2 * half] = cs[j];
            for (int h = 0; h < heads; h++) pairs[h * d + j] = before[h * d + j / 2 + j % 2 * half];
        }
        c->ref->rope(heads, d, n_rot, cs, pairs);
        c->k->rope_halves(heads, d, n_rot, split, x);
        for (int j = 0; j < heads * d; j++) {
            const int h = j / d * d, e = j % d, p = e < half ? 2 * e : 2 * (e - half) + 1;
            const double want = e < n_rot ? pairs[h + p] : before[j];
            const double size = e < n_rot ? fabs(before[h + e % half]) +
                                                fabs(before[h + e % half + half]) : 0;
            expect(c, close_to(x[j], want, 24 * eps * size + (e < n_rot ? 0x1p-146 : 0)),
                   "value (head_dim, i)", d, j);
        }
        expect(c, intact(x, bytes), "wrote outside", d, n_rot);
        unguard(x);
    }
}

static void check_gelu_mul(check *c)
{
    float gate[MAX_SIZE], up[MAX_SIZE];
    for (int i = 0; i < N_SIZES * (N_KINDS + 1); i++) {
        const int n = sizes[i / (N_KINDS + 1)], kind = i % (N_KINDS + 1);
        const size_t bytes = (size_t)n * sizeof(float);
        fill(c, kind % N_KINDS, (size_t)n, gate);
        for (int j = 0; kind == N_KINDS && j < n; j++) gate[j] *= 5; /* where e^-2u leaves range */
        fill(c, NORMAL, (size_t)n, up);
        float *y = guarded(bytes);
        memcpy(y, gate, bytes);
        c->k->gelu_mul(n, y, up);
        for (int j = 0; j < n; j++) {
            const double g = gate[j], u = sqrt(2 / acos(-1)) * (g + 0.044715 * g * g * g);
            const double want = g / (1 + exp(-2 * u)) * up[j];
            const double tol = (10 + 8 * fabs(u)) * eps * fabs(want) + 1e-36;
            if (!expect(c, close_to(y[j], want, tol), "value (n, i)", n, j)) break;
        }
        for (int j = 0; j < n; j += 5) {
            float g = gate[j];
            c->k->gelu_mul(1, &g, up + j);
            expect(c, same(&g, y + j, sizeof g), "bits depend on the place (n, i)", n, j);
        }
        expect(c, intact(y, bytes), "wrote outside", n, 0);
        y[n / 2] = NAN;
        c->k->gelu_mul(n, y, up);
        expect(c, isnan(y[n / 2]), "NaN was hidden", n, 0);
        unguard(y);
    }
}

static void check_silu_mul(check *c)
{
    float gate[MAX_SIZE], up[MAX_SIZE];
    for (int i = 0; i < N_SIZES * (N_KINDS + 1); i++) {
        const int n = sizes[i / (N_KINDS + 1)], kind = i % (N_KINDS + 1);
        const size_t bytes = (size_t)n * sizeof(float);
        fill(c, kind % N_KINDS, (size_t)n, gate);
        for (int j = 0; kind == N_KINDS && j < n; j++) gate[j] *= 40; /* where e^x leaves range */
        fill(c, NORMAL, (size_t)n, up);
        float *y = guarded(bytes);
        memcpy(y, gate, bytes);
        c->k->silu_mul(n, y, up);
        for (int j = 0; j < n; j++) {
            const double g = gate[j], want = g / (1 + exp(-g)) * up[j];
            if (!expect(c, close_to(y[j], want, 10 * eps * fabs(want) + 1e-36), "value (n, i)", n,
                        j)) break;
        }
        /* A value's bits do not depend on its lane. */
        for (int j = 0; j < n; j += 5) {
            float g = gate[j];
            c->k->silu_mul(1, &g, up + j);
            expect(c, same(&g, y + j, sizeof g), "bits depend on the place (n, i)", n, j);
        }
        expect(c, intact(y, bytes), "wrote outside", n, 0);
        y[n / 2] = NAN;
        c->k->silu_mul(n, y, up);
        expect(c, isnan(y[n / 2]), "NaN was hidden", n, 0);
        unguard(y);
    }
}

static void check_add(check *c)
{
    float x[MAX_SIZE], before[MAX_SIZE];
    for (int i = 0; i < N_SIZES * N_KINDS; i++) {
        const int n = sizes[i / N_KINDS];
        const size_t bytes = (size_t)n * sizeof(float);
        float *y = guarded(bytes);
        fill(c, i % N_KINDS, (size_t)n, x);
        fill(c, i % N_KINDS, (size_t)n, before);
        memcpy(y, before, bytes);
        c->k->add(n, x, y);
        for (int j = 0; j < n; j++) expect(c, y[j] == before[j] + x[j], "value (n, i)", n, j);
        expect(c, intact(y, bytes), "wrote outside", n, 0);
        unguard(y);
    }
}

/* Halves: widening all 65536 and storing them gives them back; between two neighbours the nearer
 * one is chosen, the even one in the middle. */
static void check_halves(check *c)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = ftk_f16_f32((uint16_t)h);
        uint16_t back[3] = {0};
        float around[3] = {f, f, f};
        const bool finite = (h & 0x7fff) < 0x7bff;
        if (finite) {
            const float middle = f + (ftk_f16_f32((uint16_t)(h + 1)) - f) / 2;
            around[1] = middle;
            around[2] = nextafterf(middle, h & 0x8000 ? -INFINITY : INFINITY);
        }
        c->k->kv_store(FTK_TYPE_F16, 3, around, back);
        bool ok = isnan(f) ? (back[0] & 0x7fff) > 0x7c00 : back[0] == h;
        if (finite) ok &= back[1] == h + (h & 1) && back[2] == h + 1;
        expect(c, ok, "half float", (long)h, back[1]);
    }
    static const float large[] = {65504.0f, 65519.996f, 65520.0f, 1e30f};
    static const uint16_t stored[] = {0x7bff, 0x7bff, 0x7c00, 0x7c00};
    uint16_t got[4];
    c->k->kv_store(FTK_TYPE_F16, 4, large, got);
    expect(c, same(got, stored, sizeof got), "large half floats", got[1], got[2]);
}

static void check_kv_store(check *c)
{
    float x[MAX_SIZE];
    uint16_t want[MAX_SIZE];
    check_halves(c);
    for (int i = 0; i < N_SIZES * N_KINDS; i++) {
        const int n = sizes[i / N_KINDS];
        fill(c, i % N_KINDS, (size_t)n, x);
        uint16_t *half = guarded((size_t)n * sizeof *half);
        float *full = guarded((size_t)n * sizeof *full);
        c->k->kv_store(FTK_TYPE_F16, n, x, half);
        c->ref->kv_store(FTK_TYPE_F16, n, x, want);
        c->k->kv_store(FTK_TYPE_F32, n, x, full);
        expect(c, same(half, want, (size_t)n * sizeof *half), "F16 differs from ref", n, i);
        expect(c, same(full, x, (size_t)n * sizeof *full), "F32 is not a copy", n, i);
        expect(c, intact(half, (size_t)n * sizeof *half), "wrote outside", n, i);
        expect(c, intact(full, (size_t)n * sizeof *full), "wrote outside", n, i);
        unguard(half);
        unguard(full);
    }
}

/* ------------------------------------------------------------------ attention */

enum { MAX_PAGES = 16 };

typedef struct scene {
    ftk_attn a;
    int n_nodes, n_pages;
    uint64_t mask[FTK_MAX_NODES][2];
    void *k_pages[MAX_PAGES], *v_pages[MAX_PAGES];
    size_t out_bytes, slot_bytes; /* slot_bytes: one slot of one head */
    float *q, *scratch;
} scene;

static size_t slot_at(const scene *s, int head_kv, int slot)
{
    return ((size_t)head_kv * FTK_PAGE + (size_t)(slot % FTK_PAGE)) * s->slot_bytes;
}

static void copy_slot(const scene *from, int a, scene *to, int b)
{
    for (int h = 0; h < from->a.n_head_kv; h++) {
        memcpy((char *)to->k_pages[b / FTK_PAGE] + slot_at(to, h, b),
               (char *)from->k_pages[a / FTK_PAGE] + slot_at(from, h, a), from->slot_bytes);
        memcpy((char *)to->v_pages[b / FTK_PAGE] + slot_at(to, h, b),
               (char *)from->v_pages[a / FTK_PAGE] + slot_at(from, h, a), from->slot_bytes);
    }
}

/* Empty pages, blank: what no row sees is NaN. */
static scene scene_new(const check *c, ftk_attn a, int n_nodes)
{
    scene s = {.a = a, .n_nodes = n_nodes};
    const int slots = a.prefix + n_nodes;
    s.slot_bytes = (size_t)a.head_dim * ftk_type_bytes(a.kv_type, 1);
    s.n_pages = (slots + FTK_PAGE - 1) / FTK_PAGE;
    for (int p = 0; p < s.n_pages; p++) {
        s.k_pages[p] = guarded((size_t)a.n_head_kv * FTK_PAGE * s.slot_bytes);
        s.v_pages[p] = guarded((size_t)a.n_head_kv * FTK_PAGE * s.slot_bytes);
    }
    s.out_bytes = (size_t)a.n_rows * (size_t)(a.n_head * a.head_dim) * sizeof(float);
    s.q = guarded(s.out_bytes);
    s.a.out = guarded(s.out_bytes);
    s.scratch =
        guarded(c->k->attn_scratch(a.head_dim, a.n_head / a.n_head_kv, slots) * sizeof(float));
    return s;
}

static void scene_free(scene *s)
{
    for (int p = 0; p < s->n_pages; p++) {
        unguard(s->k_pages[p]);
        unguard(s->v_pages[p]);
    }
    unguard(s->q);
    unguard(s->a.out);
    unguard(s->scratch);
}

/* Rows in tiles of `tile`. The scene is passed in place, so the pointers into it are set here. */
static void attend(check *c, scene *s, int tile)
{
    s->a.k_pages = (const void *const *)s->k_pages;
    s->a.v_pages = (const void *const *)s->v_pages;
    s->a.mask = (const uint64_t(*)[2])s->mask;
    s->a.q = s->q;
    memset(s->a.out, BLANK, s->out_bytes);
    for (int h = 0; h < s->a.n_head_kv; h++)
        for (int r = 0; r < s->a.n_rows; r += tile) {
            const int end = r + tile < s->a.n_rows ? r + tile : s->a.n_rows;
            c->k->attention(&s->a, h, r, end, s->scratch);
        }
    const int slots = s->a.prefix + s->n_nodes, group = s->a.n_head / s->a.n_head_kv;
    const size_t floats = c->k->attn_scratch(s->a.head_dim, group, slots);
    expect(c, intact(s->scratch, floats * sizeof(float)), "scratch is too small", slots, group);
    expect(c, intact(s->a.out, s->out_bytes), "wrote outside", slots, group);
}

static double kv_at(const scene *s, void *const *pages, int head_kv, int slot, int i)
{
    const char *p = (const char *)pages[slot / FTK_PAGE] + slot_at(s, head_kv, slot);
    return element(s->a.kv_type, p, (size_t)i);
}

static bool in_path(const scene *s, int row, int slot)
{
    const int j = slot - s->a.prefix;
    return j < 0 || (s->mask[row][j / 64] >> (j % 64) & 1);
}

static bool visible(const scene *s, int row, int slot)
{
    int behind = 0; /* keys of the row's path from this one on */
    for (int i = slot; s->a.window > 0 && i <= s->a.prefix + row; i++) behind += in_path(s, row, i);
    return in_path(s, row, slot) && behind <= s->a.window;
}

/* One row and head by the textbook, in double. */
static bool row_close(const scene *s, int row, int head)
{
    const int d = s->a.head_dim, slots = s->a.prefix + s->n_nodes;
    const int kv = head / (s->a.n_head / s->a.n_head_kv);
    const size_t at = ((size_t)row * (size_t)s->a.n_head + (size_t)head) * (size_t)d;
    double p[MAX_PAGES * FTK_PAGE], top = -INFINITY, sum = 0, score_err = 0;
    int n = 0;
    for (int i = 0; i < slots; i++) {
        if (!visible(s, row, i)) continue;
        double dot = 0, size = 0;
        for (int e = 0; e < d; e++) {
            const double t = s->q[at + (size_t)e] * kv_at(s, s->k_pages, kv, i, e);
            dot += t;
            size += fabs(t);
        }
        p[i] = dot * (double)s->a.scale;
        score_err = fmax(score_err, size * (double)s->a.scale * eps * (8 + d / 8.0));
        top = fmax(top, p[i]);
        n++;
    }
    for (int i = 0; i < slots; i++)
        if (visible(s, row, i)) sum += p[i] = exp(p[i] - top);
    for (int e = 0; e < d; e++) {
        double want = 0, size = 0;
        for (int i = 0; i < slots; i++) {
            if (!visible(s, row, i)) continue;
            const double t = p[i] / sum * kv_at(s, s->v_pages, kv, i, e);
            want += t;
            size += fabs(t);
        }
        const double tol = size * (4 * score_err + eps * (24 + n / 8.0)) + n * 0x1p-147;
        if (!close_to(s->a.out[at + (size_t)e], want, tol)) return false;
    }
    return true;
}

/* Node 0 is the root; others hang under a random earlier node, mostly a late one. */
static void grow_tree(check *c, scene *s, int *parent)
{
    for (int i = 0; i < s->n_nodes; i++) {
        parent[i] = i == 0 ? -1 : i - 1 - below(c, i < 4 ? i : 4);
        if (i > 0) memcpy(s->mask[i], s->mask[parent[i]], sizeof s->mask[i]);
        s->mask[i][i / 64] |= (uint64_t)1 << (i % 64);
    }
}

static void fill_scene(check *c, scene *s, int kind)
{
    float x[FTK_MAX_HEAD_DIM];
    const float sharp = kind == HUGE_VALUES ? 8.0f : 1.0f;
    for (int slot = 0; slot < s->a.prefix + s->n_nodes; slot++)
        for (int h = 0; h < s->a.n_head_kv; h++) {
            fill(c, kind == HUGE_VALUES ? NORMAL : kind, (size_t)s->a.head_dim, x);
            c->ref->kv_store(s->a.kv_type, s->a.head_dim, x,
                             (char *)s->k_pages[slot / FTK_PAGE] + slot_at(s, h, slot));
            const bool big = s->a.kv_type == FTK_TYPE_F32;
            fill(c, kind == HUGE_VALUES && !big ? NORMAL : kind, (size_t)s->a.head_dim, x);
            c->ref->kv_store(s->a.kv_type, s->a.head_dim, x,
                             (char *)s->v_pages[slot / FTK_PAGE] + slot_at(s, h, slot));
        }
    fill(c, NORMAL, s->out_bytes / sizeof(float), s->q);
    for (size_t i = 0; i < s->out_bytes / sizeof(float); i++) s->q[i] *= sharp;
}

/* The path to `node` decoded as a chain, `committed` of its nodes being prefix already. */
static void check_chain(check *c, scene *tree, const int *parent, int node, bool all_committed)
{
    int path[FTK_MAX_NODES], depth = 0;
    for (int i = node; i >= 0; i = parent[i]) path[depth++] = i;
    const int committed = all_committed ? depth - 1 : below(c, depth);
    ftk_attn a = tree->a;
    a.n_rows = 1;
    a.prefix += committed;
    scene s = scene_new(c, a, depth - committed);
    for (int i = 0; i < tree->a.prefix; i++) copy_slot(tree, i, &s, i);
    for (int i = 0; i < depth; i++)
        copy_slot(tree, tree->a.prefix + path[depth - 1 - i], &s, tree->a.prefix + i);
    for (int i = 0; i < s.n_nodes; i++) s.mask[0][i / 64] |= (uint64_t)1 << (i % 64);
    const size_t row = (size_t)(a.n_head * a.head_dim);
    memcpy(s.q, tree->q + (size_t)node * row, row * sizeof(float));
    attend(c, &s, 1);
    expect(c, same(s.a.out, tree->a.out + (size_t)node * row, row * sizeof(float)),
           "a tree row differs from its chain (node, committed)", node, committed);
    scene_free(&s);
}

/* NaN in a slot reaches the rows that see it, wholly, and leaves the others alone. node: counted
 * from the prefix's end, negative in the prefix. */
static void check_spoilt(check *c, scene *s, const float *clean, int node, bool in_key)
{
    void *const *pages = in_key ? s->k_pages : s->v_pages;
    const int slot = s->a.prefix + node, d = s->a.head_dim;
    char *at = (char *)pages[slot / FTK_PAGE] + slot_at(s, 0, slot);
    char kept[FTK_MAX_HEAD_DIM * sizeof(float)];
    memcpy(kept, at, s->slot_bytes);
    memset(at, BLANK, s->slot_bytes);
    attend(c, s, FTK_ATTN_TILE);
    const int group = s->a.n_head / s->a.n_head_kv;
    for (int r = 0; r < s->a.n_rows; r++) {
        const float *got = s->a.out + (size_t)r * (size_t)(s->a.n_head * d);
        if (!visible(s, r, slot)) {
            expect(c, same(got, clean + (got - s->a.out), (size_t)(s->a.n_head * d) * sizeof *got),
                   "an invisible slot changed a row (row, node)", r, node);
            continue;
        }
        bool all = true;
        for (int i = 0; i < group * d; i++) all &= isnan(got[i]) != 0;
        expect(c, all, "NaN was hidden (row, node)", r, node);
    }
    memcpy(at, kept, s->slot_bytes);
}

static void check_scene(check *c, ftk_attn a, int n_nodes, int kind)
{
    int parent[FTK_MAX_NODES];
    a.n_rows = n_nodes;
    scene s = scene_new(c, a, n_nodes);
    grow_tree(c, &s, parent);
    fill_scene(c, &s, kind);
    attend(c, &s, FTK_ATTN_TILE);
    for (int r = 0; r < n_nodes; r += 1 + n_nodes / 8)
        for (int h = 0; h < a.n_head; h++)
            expect(c, row_close(&s, r, h), "value is off (row, head)", r, h);
    float *clean = guarded(s.out_bytes);
    memcpy(clean, s.a.out, s.out_bytes);
    for (int tile = 1; tile < FTK_ATTN_TILE; tile += 2) {
        attend(c, &s, tile);
        expect(c, same(s.a.out, clean, s.out_bytes), "rows depend on the tile (size, rows)", tile,
               n_nodes);
    }
    for (int i = 0; i < 4; i++) check_chain(c, &s, parent, below(c, n_nodes), i == 0);
    check_spoilt(c, &s, clean, below(c, n_nodes), true);
    check_spoilt(c, &s, clean, below(c, n_nodes), false);
    for (int i = 0; a.window > 0 && a.prefix > 0 && i < 4; i++)
        check_spoilt(c, &s, clean, -1 - below(c, a.prefix), i % 2);
    unguard(clean);
    scene_free(&s);
}

static void check_attention(check *c)
{
    static const int dims[] = {2, 8, 16, 36, 48, 64, 80, 128, 256};
    static const int heads[][2] = {{1, 1}, {4, 2}, {8, 1}, {6, 2}, {3, 3}};
    static const int prefixes[] = {0, 1, 15, 63, 64, 65, 130, 300};
    static const int nodes[] = {1, 2, 7, 17, 64, 65, 128};
    static const int windows[] = {0, 0, 0, 1, 5, 16, 70, 200};
    for (int i = 0; i < 240; i++) {
        const int h = below(c, 5);
        ftk_attn a = {.head_dim = dims[i % 9], .n_head = heads[h][0], .n_head_kv = heads[h][1]};
        a.scale = (float)(1 / sqrt(a.head_dim));
        a.kv_type = below(c, 2) ? FTK_TYPE_F16 : FTK_TYPE_F32;
        a.prefix = prefixes[below(c, 8)];
        const int n_nodes = nodes[below(c, 7)];
        const int kind = below(c, 3) ? NORMAL : below(c, N_KINDS);
        a.window = windows[below(c, 8)];
        check_scene(c, a, n_nodes, kind);
    }
}

/* ------------------------------------------------------------------ timing */

static double now(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

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
    double start = now();
    call(ctx);
    const double once = now() - start;
    const int loops = once > 1e-3 ? 1 : (int)(1e-3 / (once + 1e-8)) + 1;
    for (int r = 0; r < REPEATS; r++) {
        start = now();
        for (int i = 0; i < loops; i++) call(ctx);
        t[r] = (now() - start) / loops;
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

static void bench_matmul(check *c, ftk_type type, int n_out, int n_in, const int *rows, int n_rows)
{
    product p = product_new(c, type, n_out, n_in, NORMAL);
    timing t = {.c = c, .p = &p, .y = guarded(MAX_ROWS * p.ldy * sizeof(float))};
    double first = 0;
    for (int i = 0; i < n_rows; i++) {
        t.rows = rows[i];
        const seconds s = time_call(call_matmul, &t);
        if (i == 0) first = s.median;
        const double bytes = (double)ftk_type_bytes(type, (size_t)n_out * (size_t)n_in);
        printf("%-7s matmul %-4s %5dx%-4d rows %3d %10.0f ns (best %10.0f) %7.2f GB/s %6.2f x\n",
               c->k->name, ftk_type_name(type), n_out, n_in, t.rows, s.median * 1e9, s.best * 1e9,
               bytes / s.median * 1e-9, s.median / first);
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
    const ftk_attn a = {.n_rows = MAX_ROWS, .n_head = 4, .n_head_kv = 4, .head_dim = 64,
                        .scale = 0.125f, .kv_type = FTK_TYPE_F16, .prefix = 512};
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

/* Both tables hold the same function in a slot. */
typedef void (*any_fn)(void);
static bool differ(any_fn a, any_fn b)
{
    return a != b;
}

typedef struct entry {
    const char *name;
    void (*run)(check *c);
    void (*call)(void *ctx); /* timed on MAX_SIZE elements; NULL: has a bench of its own */
} entry;

static const entry entries[] = {
    {"act_pack", check_act_pack, call_act_pack},
    {"matmul", check_matmul, NULL},
    {"dequant_row", check_dequant_row, call_dequant_row},
    {"rms_norm", check_rms_norm, call_rms_norm},
    {"rope", check_rope, call_rope},
    {"silu_mul", check_silu_mul, call_silu_mul},
    {"add", check_add, call_add},
    {"kv_store", check_kv_store, call_kv_store},
    {"attention", check_attention, NULL},
    {"rope_halves", check_rope_halves, call_rope_halves},
    {"gelu_mul", check_gelu_mul, call_gelu_mul},
};
enum { N_ENTRIES = sizeof entries / sizeof entries[0] };

static bool replaced(const ftk_kernels *k, const ftk_kernels *ref, int i)
{
    switch (i) {
    case 0: return differ((any_fn)k->act_pack, (any_fn)ref->act_pack);
    case 1: return differ((any_fn)k->matmul, (any_fn)ref->matmul);
    case 2: return differ((any_fn)k->dequant_row, (any_fn)ref->dequant_row);
    case 3: return differ((any_fn)k->rms_norm, (any_fn)ref->rms_norm);
    case 4: return differ((any_fn)k->rope, (any_fn)ref->rope);
    case 5: return differ((any_fn)k->silu_mul, (any_fn)ref->silu_mul);
    case 6: return differ((any_fn)k->add, (any_fn)ref->add);
    case 7: return differ((any_fn)k->kv_store, (any_fn)ref->kv_store);
    case 8: return differ((any_fn)k->attention, (any_fn)ref->attention);
    case 9: return differ((any_fn)k->rope_halves, (any_fn)ref->rope_halves);
    default: return differ((any_fn)k->gelu_mul, (any_fn)ref->gelu_mul);
    }
}

typedef struct options {
    uint64_t seed;
    const char *level, *kernel;
    bool bench;
    int rows[32], n_rows;
} options;

static void bench_entry(check *c, const options *o, int i)
{
    /* The last one leaves the second-level cache, as a small model does. */
    static const int shapes[][2] = {{256, 768}, {768, 256}, {2048, 2048}, {4096, 256},
                                    {40960, 256}};
    if (entries[i].call) {
        float x[MAX_SIZE], y[MAX_SIZE], w[MAX_SIZE];
        fill(c, NORMAL, MAX_SIZE, x);
        fill(c, NORMAL, MAX_SIZE, y);
        for (int j = 0; j < MAX_SIZE; j++) w[j] = j % 2 ? 0.0f : 1.0f;
        timing t = {.c = c, .x = x, .y = y, .w = w};
        const seconds s = time_call(entries[i].call, &t);
        printf("%-7s %-11s %d elements %10.0f ns (best %10.0f)\n", c->k->name, entries[i].name,
               MAX_SIZE, s.median * 1e9, s.best * 1e9);
    } else if (strcmp(entries[i].name, "attention") == 0) {
        bench_attention(c, o->rows, o->n_rows);
    } else {
        for (int t = 0; t < N_TYPES; t++)
            for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
                bench_matmul(c, types[t], shapes[s][0], shapes[s][1], o->rows, o->n_rows);
    }
}

static void run_level(check *c, const options *o)
{
    for (int i = 0; i < N_ENTRIES; i++) {
        if (o->kernel && strcmp(o->kernel, entries[i].name) != 0) continue;
        if (c->k != c->ref && !replaced(c->k, c->ref, i)) continue;
        c->entry = entries[i].name;
        c->rng = o->seed + (uint64_t)i * 1000003; /* so that one entry alone gets the same inputs */
        const int failed = c->failed;
        if (o->bench) bench_entry(c, o, i);
        else entries[i].run(c);
        if (!o->bench)
            printf("%-7s %-11s %s\n", c->k->name, c->entry, c->failed == failed ? "ok" : "FAILED");
        fflush(stdout);
    }
}

static bool parse_rows(options *o, const char *list)
{
    o->n_rows = 0;
    while (*list && o->n_rows < 32) {
        char *end;
        const long n = strtol(list, &end, 10);
        if (end == list || n < 1 || n > MAX_ROWS) return false;
        o->rows[o->n_rows++] = (int)n;
        list = *end == ',' ? end + 1 : end;
    }
    return o->n_rows > 0;
}

static bool parse(options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(arg, "--bench") == 0) {
            o->bench = true;
            continue;
        }
        if (!value) return false;
        i++;
        if (strcmp(arg, "--seed") == 0) o->seed = strtoull(value, NULL, 10);
        else if (strcmp(arg, "--level") == 0) o->level = value;
        else if (strcmp(arg, "--kernel") == 0) o->kernel = value;
        else if (strcmp(arg, "--rows") != 0 || !parse_rows(o, value)) return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    options o = {.seed = 1};
    parse_rows(&o, "1,2,4,8,16,32,64");
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: checkkernels [--seed N] [--level NAME] [--kernel NAME] "
                        "[--bench [--rows 1,2,4]]\n");
        return 2;
    }
    const char *names[8];
    ftk_kernels_levels(names);
    ftk_kernels ref, k;
    ftk_kernels_fill(&ref, "ref");
    check c = {.ref = &ref, .seed = o.seed};
    bool found = false;
    for (int i = 0; i < 8 && names[i]; i++) {
        if (o.level && strcmp(o.level, names[i]) != 0) continue;
        if (!ftk_kernels_fill(&k, names[i])) return 2;
        c.k = i == 0 ? &ref : &k;
        found = true;
        run_level(&c, &o);
    }
    if (!found) {
        fprintf(stderr, "checkkernels: this machine has no level \"%s\"\n", o.level);
        return 2;
    }
    if (o.bench) return 0;
    if (!names[1] && !c.failed) {
        printf("skipped: this machine has no level beyond ref\n");
        return 77;
    }
    printf("%d passed, %d failed\n", c.passed, c.failed);
    return c.failed ? 1 : 0;
}
