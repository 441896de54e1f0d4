/* SPDX-License-Identifier: Apache-2.0
 *
 * What the vector levels do row by row: all entries but the matrix product and the attention, and
 * of this what attntile.h asks for and is alike. The arithmetic is defined before by the including
 * file, as for blocktile.h; and beside what stands there:
 *
 * - vf_load(x, n): the first n lanes, zeros behind them; vf_store_halves(y, n, v): to f16.
 * - vf_min(a, b), vf_max(a, b): b where one is NaN; vf_round(v): to whole numbers, ties to even;
 *   vf_times_pow2(v, n) = v 2^n.
 * - vf_turn(v, cs): neighbouring lanes are turned by the cosine and the sine of their places.
 * - vd: a vector of doubles. add_squares(v, sum): those of v, to two of them; sum_pd(v): of lanes.
 * - quantise_block(x, b): activations, bit for bit as the plain C level does it.
 * - VALUE_PAIRS: 2 or 4, pairs of attention whose sums over values registers hold at a time. */
#ifndef FTK_ROWVECTOR_H
#define FTK_ROWVECTOR_H

#include <math.h>

#include "kernels/blocks.h"
#include "kernels/codes.h"
#include "kernels/levels.h"
#include "kernels/rowloops.h"

static void act_pack_rows(ftk_type wtype, int n_in, const float *x, void *dst)
{
    if (ftk_type_block(wtype) == 1) {
        memcpy(dst, x, (size_t)n_in * sizeof(float));
        return;
    }
    ftk_qact *b = dst;
    for (int i = 0; i < n_in; i += FTK_QBLOCK) quantise_block(x + i, b++);
}

/* ------------------------------------------------------------------ elementwise */

/* e^x: x = n ln 2 + r, the series of e^r to r^7 / 7!, scaled by 2^n. NaN stays NaN; large x gives
 * infinity, small x subnormal numbers and then 0. */
INLINE vf exp_ps(vf x)
{
    x = vf_max(vf_set1(-110.0f), vf_min(vf_set1(110.0f), x));
    const vf n = vf_round(x * vf_set1(0x1.715476p+0f));
    vf r = vf_fnma(n, vf_set1(0x1.62e4p-1f), x);
    r = vf_fnma(n, vf_set1(0x1.7f7d1cp-20f), r);
    vf p = vf_set1(1.0f / 5040);
    p = vf_fma(p, r, vf_set1(1.0f / 720));
    p = vf_fma(p, r, vf_set1(1.0f / 120));
    p = vf_fma(p, r, vf_set1(1.0f / 24));
    p = vf_fma(p, r, vf_set1(1.0f / 6));
    p = vf_fma(p, r, vf_set1(0.5f));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_times_pow2(p, n);
}

/* In double for the reason given at the plain C entry. */
static void rms_norm_rows(int n, const float *x, const float *w, float eps, float *y)
{
    vd sum[2] = {{0}, {0}};
    for (int i = 0; i < n; i += WIDTH) add_squares(vf_load(x + i, n - i), sum);
    const double mean = sum_pd(sum[0] + sum[1]) / n;
    const vf scale = vf_set1((float)(1.0 / sqrt(mean + (double)eps)));
    for (int i = 0; i < n; i += WIDTH)
        vf_store(y + i, n - i, vf_load(x + i, n - i) * scale * vf_load(w + i, n - i));
}

static void rope_rows(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    for (int h = 0; h < n_heads; h++, x += head_dim)
        for (int i = 0; i < n_rot; i += WIDTH)
            vf_store(x + i, n_rot - i,
                     vf_turn(vf_load(x + i, n_rot - i), vf_load(cs + i, n_rot - i)));
}

static void rope_halves_rows(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    const int half = n_rot / 2;
    for (int h = 0; h < n_heads; h++, x += head_dim)
        for (int i = 0; i < half; i += WIDTH) {
            const int left = half - i;
            const vf a = vf_load(x + i, left), b = vf_load(x + half + i, left);
            const vf c = vf_load(cs + i, left), s = vf_load(cs + half + i, left);
            vf_store(x + i, left, vf_fma(a, c, -(b * s)));
            vf_store(x + half + i, left, vf_fma(a, s, b * c));
        }
}

static void silu_mul_rows(int n, float *gate, const float *up)
{
    for (int i = 0; i < n; i += WIDTH) {
        const vf g = vf_load(gate + i, n - i), s = g / (vf_set1(1.0f) + exp_ps((vf){0} - g));
        vf_store(gate + i, n - i, s * vf_load(up + i, n - i));
    }
}

static void gelu_mul_rows(int n, float *gate, const float *up)
{
    for (int i = 0; i < n; i += WIDTH) {
        const vf g = vf_load(gate + i, n - i);
        const vf u = g * vf_fma(vf_set1(-FTK_GELU_3), g * g, vf_set1(-FTK_GELU_1));
        const vf s = g / (vf_set1(1.0f) + exp_ps(u));
        vf_store(gate + i, n - i, s * vf_load(up + i, n - i));
    }
}

static void add_to_rows(int n, const float *x, float *y)
{
    for (int i = 0; i < n; i += WIDTH)
        vf_store(y + i, n - i, vf_load(y + i, n - i) + vf_load(x + i, n - i));
}

static void kv_store_rows(ftk_type kv_type, int n, const float *x, void *dst)
{
    if (kv_type == FTK_TYPE_F32)
        memcpy(dst, x, (size_t)n * sizeof(float));
    else if (kv_type == FTK_TYPE_Q8_0)
        ftk_q8_0_write(n, x, dst);
    else
        for (int i = 0; i < n; i += WIDTH)
            vf_store_halves((uint16_t *)dst + i, n - i, vf_load(x + i, n - i));
}

static inline void fill_rowvector(ftk_kernels *k)
{
    fill_rowloops(k);
    k->act_pack = act_pack_rows; /* the form and size of the plain C level */
    k->rms_norm = rms_norm_rows;
    k->rope = rope_rows;
    k->rope_halves = rope_halves_rows;
    k->silu_mul = silu_mul_rows;
    k->gelu_mul = gelu_mul_rows;
    k->add = add_to_rows;
    k->kv_store = kv_store_rows;
}

/* ------------------------------------------------------------------ attention */

static void widen_q8_0(int n, const ftk_q8_0 *b, float *dst, const ftk_q8_0 *next)
{
    for (int i = 0; i < n; i += FTK_QBLOCK, b++, next++) {
        _mm_prefetch((const void *)next, _MM_HINT_T0);
        const vf d = vf_set1(ftk_f16_f32(b->d));
        for (int j = 0; j < FTK_QBLOCK; j += WIDTH)
            vf_store(dst + i + j, WIDTH, vf_of(vi_bytes(b->q + j)) * d);
    }
}

static void widen_f16(int n, const uint16_t *src, float *dst, const uint16_t *next)
{
    int i = 0;
    for (; i + 32 <= n; i += 32) {
        _mm_prefetch((const void *)(next + i), _MM_HINT_T0);
        for (int j = i; j < i + 32; j += WIDTH) vf_store(dst + j, WIDTH, vf_halves(src + j));
    }
    for (; i + WIDTH <= n; i += WIDTH) vf_store(dst + i, WIDTH, vf_halves(src + i));
    for (; i < n; i++) dst[i] = ftk_f16_f32(src[i]);
}

static void widen_f32(int n, const float *src, float *dst, const float *next)
{
    for (int i = 0; i < n; i += 16) {
        _mm_prefetch((const void *)(next + i), _MM_HINT_T0);
        memcpy(dst + i, src + i, (size_t)(n - i < 16 ? n - i : 16) * sizeof *dst);
    }
}

static void widen(ftk_type type, int n, const void *src, float *dst, const void *next)
{
    switch (type) {
    case FTK_TYPE_F32: widen_f32(n, src, dst, next); break;
    case FTK_TYPE_Q8_0: widen_q8_0(n, src, dst, next); break;
    default: widen_f16(n, src, dst, next);
    }
}

/* pairs and vectors are constants where this is called. */
INLINE void add_values_tile(int pairs, int vectors, int n, const float *p, size_t p_stride,
                            const float *v, size_t dim, float *acc)
{
    vf sum[4][4];
    UNROLL for (int i = 0; i < pairs; i++) UNROLL for (int c = 0; c < vectors; c++) sum[i][c] =
        vf_load(acc + (size_t)i * dim + c * WIDTH, WIDTH);
    for (int s = 0; s < n; s++, v += dim) {
        UNROLL for (int i = 0; i < pairs; i++)
        {
            const vf w = vf_set1(p[(size_t)i * p_stride + (size_t)s]);
            UNROLL for (int c = 0; c < vectors; c++) sum[i][c] =
                vf_fma(w, vf_load(v + c * WIDTH, WIDTH), sum[i][c]);
        }
    }
    UNROLL for (int i = 0; i < pairs; i++) UNROLL for (int c = 0; c < vectors; c++)
        vf_store(acc + (size_t)i * dim + c * WIDTH, WIDTH, sum[i][c]);
}

INLINE void add_values_pairs(int pairs, int n, const float *p, size_t p_stride, const float *v,
                             size_t dim, float *acc)
{
    size_t d = 0;
    for (; d + 4 * WIDTH <= dim; d += 4 * WIDTH)
        add_values_tile(pairs, 4, n, p, p_stride, v + d, dim, acc + d);
    for (; d < dim; d += 16)
        add_values_tile(pairs, 16 / WIDTH, n, p, p_stride, v + d, dim, acc + d);
}

static void add_values(int n_pairs, int n, const float *p, size_t p_stride, const float *v,
                       size_t dim, float *acc)
{
    int i = 0;
    for (; VALUE_PAIRS == 4 && i + 4 <= n_pairs; i += 4)
        add_values_pairs(4, n, p + (size_t)i * p_stride, p_stride, v, dim, acc + (size_t)i * dim);
    for (; i + 2 <= n_pairs; i += 2)
        add_values_pairs(2, n, p + (size_t)i * p_stride, p_stride, v, dim, acc + (size_t)i * dim);
    for (; i < n_pairs; i++)
        add_values_pairs(1, n, p + (size_t)i * p_stride, p_stride, v, dim, acc + (size_t)i * dim);
}

#endif
