/* SPDX-License-Identifier: Apache-2.0
 * Checks of norms with modulation, gated sums, differences, and of attention that is summed by
 * key. Levels compile one text of the first three for themselves, so they must give plain C's
 * bits. */
#include "checkrows.h"

#include <string.h>

enum { N_SIZES = 13, MOST = 768, ORDERS = 4, TOKENS = 130 };

static const int sizes[N_SIZES] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 257, MOST};
static const double ulp = 0x1p-24;

void check_layer_norm(check *c)
{
    float x[MOST], w[MOST], b[MOST], want[MOST];
    for (int i = 0; i < N_SIZES * N_KINDS; i++) {
        const int n = sizes[i / N_KINDS];
        const size_t bytes = (size_t)n * sizeof(float);
        fill(c, i % N_KINDS, (size_t)n, x);
        fill(c, NORMAL, (size_t)n, w);
        fill(c, NORMAL, (size_t)n, b);
        for (int j = 0; i % 2 && j < n; j++) x[j] += 100; /* the mean is large */
        float *y = guarded(bytes), *in_place = guarded(bytes);
        c->k->layer_norm(n, x, w, b, 1e-6f, y);
        c->ref->layer_norm(n, x, w, b, 1e-6f, want);
        expect(c, same(y, want, bytes), "differs from ref (n)", n, 0);
        double mean = 0, square = 0;
        for (int j = 0; j < n; j++) mean += x[j];
        mean /= n;
        for (int j = 0; j < n; j++) square += (x[j] - mean) * (x[j] - mean);
        const double scale = 1 / sqrt(square / n + (double)1e-6f);
        for (int j = 0; j < n; j++) {
            const double v = (x[j] - mean) * scale * w[j];
            const double tol = 4 * ulp * (fabs(v) + fabs((double)b[j])) + 1e-9 + 0x1p-146;
            if (!expect(c, fabs(y[j] - (v + b[j])) <= tol, "value (n, i)", n, j)) break;
        }
        memcpy(in_place, x, bytes);
        c->k->layer_norm(n, in_place, w, b, 1e-6f, in_place);
        expect(c, same(y, in_place, bytes), "in place differs", n, 0);
        expect(c, intact(y, bytes), "wrote outside", n, 0);
        x[n / 2] = NAN;
        c->k->layer_norm(n, x, w, b, 1e-6f, y);
        expect(c, isnan(y[0]) && isnan(y[n - 1]), "NaN was hidden", n, 0);
        unguard(y);
        unguard(in_place);
    }
}

void check_gated_add(check *c)
{
    static float d[(ORDERS + 1) * MOST];
    float gate[MOST], before[MOST], want[MOST], coef[ORDERS + 1];
    for (int i = 0; i < N_SIZES * (ORDERS + 1); i++) {
        const int n = sizes[i / (ORDERS + 1)], order = i % (ORDERS + 1);
        const size_t bytes = (size_t)n * sizeof(float);
        fill(c, NORMAL, (size_t)(n * (order + 1)), d);
        fill(c, NORMAL, (size_t)n, gate);
        fill(c, NORMAL, (size_t)n, before);
        fill(c, NORMAL, ORDERS + 1, coef);
        float *x = guarded(bytes);
        memcpy(x, before, bytes);
        memcpy(want, before, bytes);
        c->k->gated_add(n, order, d, coef, gate, x);
        c->ref->gated_add(n, order, d, coef, gate, want);
        expect(c, same(x, want, bytes), "differs from ref (n, order)", n, order);
        for (int j = 0; j < n; j++) {
            double sum = d[j], size = fabs(sum);
            for (int o = 1; o <= order; o++) {
                sum += (double)coef[o] * d[o * n + j];
                size += fabs((double)coef[o] * d[o * n + j]);
            }
            const double tol = 8 * ulp * (fabs((double)gate[j]) * size + fabs((double)before[j]));
            if (!expect(c, fabs(x[j] - (before[j] + gate[j] * sum)) <= tol, "value (n, i)", n, j))
                break;
        }
        expect(c, intact(x, bytes), "wrote outside", n, order);
        unguard(x);
    }
}

/* Differences by their definition, in the same order of the same operations. */
void check_differences(check *c)
{
    static float before[(ORDERS + 1) * MOST];
    float f[MOST];
    for (int i = 0; i < N_SIZES * (ORDERS + 1); i++) {
        const int n = sizes[i / (ORDERS + 1)], order = i % (ORDERS + 1);
        const size_t bytes = (size_t)(n * (order + 1)) * sizeof(float);
        const float step = -(float)(1 + i % 5);
        fill(c, NORMAL, (size_t)(n * (order + 1)), before);
        fill(c, NORMAL, (size_t)n, f);
        float *d = guarded(bytes);
        memcpy(d, before, bytes);
        c->k->differences(n, order, f, step, d);
        for (int j = 0; j < n; j++) {
            float want = f[j];
            for (int o = 0; o <= order; o++) {
                expect(c, d[o * n + j] == want, "value (n, order)", n, o);
                want = (want - before[o * n + j]) / step;
            }
        }
        expect(c, intact(d, bytes), "wrote outside", n, order);
        unguard(d);
    }
}

/* What tokens get of each other's attention: the same outputs as without, the right sums, and
 * sums of a tile that do not depend on the others. */
static void check_scene(check *c, int n, int head_dim, int n_head)
{
    const size_t dim = (size_t)head_dim, heads = (size_t)n_head, width = heads * dim;
    const size_t pages = ((size_t)n + FTK_PAGE - 1) / FTK_PAGE, page = heads * FTK_PAGE * dim;
    const size_t tiles = ((size_t)n + FTK_ATTN_TILE - 1) / FTK_ATTN_TILE;
    const size_t out_bytes = (size_t)n * width * sizeof(float);
    const size_t sum_bytes = tiles * heads * (size_t)n * sizeof(float);
    float *q = guarded(out_bytes), *plain = guarded(out_bytes), *out = guarded(out_bytes);
    float *k = guarded(pages * page * sizeof *k), *v = guarded(pages * page * sizeof *v);
    float *columns = guarded(sum_bytes);
    uint64_t(*mask)[2] = guarded((size_t)n * sizeof *mask);
    float *scratch = guarded(c->k->attn_scratch(head_dim, 1, n) * sizeof *scratch);
    const void *k_pages[4], *v_pages[4];
    fill(c, NORMAL, (size_t)n * width, q);
    fill(c, NORMAL, pages * page, k);
    fill(c, NORMAL, pages * page, v);
    memset(mask, 0, (size_t)n * sizeof *mask);
    for (size_t i = 0; i < pages; i++) {
        k_pages[i] = k + i * page;
        v_pages[i] = v + i * page;
    }
    ftk_attn a = {.n_rows = n,
                  .n_head = n_head,
                  .n_head_kv = n_head,
                  .head_dim = head_dim,
                  .scale = (float)(1 / sqrt(head_dim)),
                  .kv_type = FTK_TYPE_F32,
                  .q = q,
                  .out = plain,
                  .k_pages = k_pages,
                  .v_pages = v_pages,
                  .prefix = n,
                  .mask = (const uint64_t(*)[2])mask};
    for (int with = 0; with < 2; with++) {
        a.out = with ? out : plain;
        a.columns = with ? columns : NULL;
        for (int r = 0; r < n; r += FTK_ATTN_TILE)
            for (int h = 0; h < n_head; h++)
                c->k->attention(&a, h, r, r + FTK_ATTN_TILE < n ? r + FTK_ATTN_TILE : n, scratch);
    }
    expect(c, same(plain, out, out_bytes), "asking changes the output (tokens, head_dim)", n,
           head_dim);
    expect(c, intact(columns, sum_bytes), "wrote outside", n, head_dim);
    for (int h = 0; h < n_head; h++) {
        static double want[TOKENS];
        for (int r0 = 0; r0 < n; r0 += FTK_ATTN_TILE) {
            memset(want, 0, sizeof want);
            for (int r = r0; r < r0 + FTK_ATTN_TILE && r < n; r++) {
                static double p[TOKENS];
                double sum = 0;
                for (int s = 0; s < n; s++) {
                    const size_t at = ((size_t)h * FTK_PAGE + (size_t)(s % FTK_PAGE)) * dim;
                    double dot = 0;
                    for (size_t e = 0; e < dim; e++)
                        dot += (double)q[(size_t)r * width + (size_t)h * dim + e] *
                               k[(size_t)(s / FTK_PAGE) * page + at + e];
                    sum += p[s] = exp(dot * (double)a.scale);
                }
                for (int s = 0; s < n; s++) want[s] += p[s] / sum;
            }
            const float *got =
                columns + ((size_t)(r0 / FTK_ATTN_TILE) * heads + (size_t)h) * (size_t)n;
            for (int s = 0; s < n; s++)
                if (!expect(c, fabs(got[s] - want[s]) <= 1e-4 * want[s] + 1e-7,
                            "sum of a key (tokens, key)", n, s))
                    break;
        }
    }
    void *const all[] = {q, plain, out, k, v, columns, mask, scratch};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) unguard(all[i]);
}

void check_columns(check *c)
{
    static const int scenes[][3] = {{1, 8, 1},   {9, 8, 4},   {16, 24, 4},    {17, 16, 2},
                                    {64, 72, 2}, {65, 32, 3}, {TOKENS, 72, 1}};
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++)
        check_scene(c, scenes[i][0], scenes[i][1], scenes[i][2]);
}
