/* SPDX-License-Identifier: Apache-2.0 */
#include "checkelements.h"

#include <string.h>

static const int sizes[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 257, 768};
enum { N_SIZES = sizeof sizes / sizeof sizes[0], MAX_SIZE = 768 };

void check_rms_norm(check *c)
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
            if (!expect(c, close_to(y[j], want, 4 * EPS * fabs(want) + 0x1p-147), "value (n, i)", n,
                        j))
                break;
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

void check_rope(check *c)
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
                turned ? 3 * EPS * (fabs(a * co) + fabs(b * si) + fabs(a * si) + fabs(b * co)) +
                             0x1p-147
                       : 0;
            expect(c, close_to(x[j], a * co - b * si, tol), "value (head_dim, i)", d, j);
            expect(c, close_to(x[j + 1], a * si + b * co, tol), "value (head_dim, i)", d, j + 1);
        }
        expect(c, intact(x, n * sizeof *x), "wrote outside", d, n_rot);
        unguard(x);
    }
}

/* Pairs (i, i + n_rot/2) of x are pairs (2i, 2i + 1) of another order: both entries agree. */
void check_rope_halves(check *c)
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
            const double size =
                e < n_rot ? fabs(before[h + e % half]) + fabs(before[h + e % half + half]) : 0;
            expect(c, close_to(x[j], want, 24 * EPS * size + (e < n_rot ? 0x1p-146 : 0)),
                   "value (head_dim, i)", d, j);
        }
        expect(c, intact(x, bytes), "wrote outside", d, n_rot);
        unguard(x);
    }
}

void check_gelu_mul(check *c)
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
            const double tol = (10 + 8 * fabs(u)) * EPS * fabs(want) + 1e-36;
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

void check_silu_mul(check *c)
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
            if (!expect(c, close_to(y[j], want, 10 * EPS * fabs(want) + 1e-36), "value (n, i)", n,
                        j))
                break;
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

void check_add(check *c)
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
void check_halves(check *c)
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

/* Q8_0 as plain C writes it; a block that is not finite has a scale that is none, whichever. */
static void check_stored_blocks(check *c, int n, const float *x)
{
    ftk_q8_0 want[MAX_SIZE / FTK_QBLOCK];
    if (n == 0) return;
    ftk_q8_0 *got = guarded((size_t)n / FTK_QBLOCK * sizeof *got);
    c->k->kv_store(FTK_TYPE_Q8_0, n, x, got);
    c->ref->kv_store(FTK_TYPE_Q8_0, n, x, want);
    for (int i = 0; i < n / FTK_QBLOCK; i++) {
        const bool both = isnan(ftk_f16_f32(got[i].d)) && isnan(ftk_f16_f32(want[i].d));
        expect(c, both || got[i].d == want[i].d, "Q8_0 scale differs from ref", n, i);
        expect(c, same(got[i].q, want[i].q, sizeof want[i].q), "Q8_0 differs from ref", n, i);
    }
    expect(c, intact(got, (size_t)n / FTK_QBLOCK * sizeof *got), "wrote outside", n, 0);
    unguard(got);
}

void check_kv_store(check *c)
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
        check_stored_blocks(c, n / FTK_QBLOCK * FTK_QBLOCK, x);
        expect(c, intact(half, (size_t)n * sizeof *half), "wrote outside", n, i);
        expect(c, intact(full, (size_t)n * sizeof *full), "wrote outside", n, i);
        unguard(half);
        unguard(full);
    }
}
