/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels for AVX-512 but the matrix product, which is in avx512_matmul.c. Compiled with -mavx512f
 * -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>

#include "kernels/actblock.h"
#include "kernels/avx512_sum.h"
#include "kernels/blocks.h"
#include "kernels/codes.h"
#include "kernels/levels.h"
#include "kernels/rowloops.h"
#include "kernels/vector.h"

/* ------------------------------------------------------------------ activations */

INLINE __m512 abs_ps(__m512 x)
{
    const __m512i bits = _mm512_castps_si512(x);
    return _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
}

/* Bit for bit what the plain C level computes. */
INLINE void quantise_block(const float *x, ftk_qact *b)
{
    const __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
    const __m512i mag =
        _mm512_max_epu32(_mm512_castps_si512(abs_ps(x0)), _mm512_castps_si512(abs_ps(x1)));
    const uint32_t amax_bits = _mm512_reduce_max_epu32(mag);
    const float inv = start_codes(amax_bits, b);
    const __mmask16 keep = isnan(b->d) ? 0 : 0xffff;
    const __m512 v = _mm512_set1_ps(inv);
    const __m512i q0 = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(x0, v));
    const __m512i q1 = _mm512_maskz_cvtps_epi32(keep, _mm512_mul_ps(x1, v));
    store_codes(_mm256_set_m128i(_mm512_cvtepi32_epi8(q1), _mm512_cvtepi32_epi8(q0)), b);
}

void ftk_avx512_act_pack(ftk_type wtype, int n_in, const float *x, void *dst)
{
    if (ftk_type_block(wtype) == 1) {
        memcpy(dst, x, (size_t)n_in * sizeof(float));
        return;
    }
    ftk_qact *b = dst;
    for (int i = 0; i < n_in; i += FTK_QBLOCK) quantise_block(x + i, b++);
}

/* ------------------------------------------------------------------ elementwise */

INLINE __mmask16 tail_mask(int left)
{
    return left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
}

/* e^x: x = n ln 2 + r, the series of e^r to r^7 / 7!, scaled by 2^n. NaN stays NaN; large x gives
 * infinity, small x subnormal numbers and then 0. */
INLINE __m512 exp_ps(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-110.0f), _mm512_min_ps(_mm512_set1_ps(110.0f), x));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(0x1.715476p+0f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

INLINE double sum_pd(__m512d v)
{
    double s[8];
    _mm512_storeu_pd(s, v);
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* In double for the reason given at the plain C entry. */
static void rms_norm_avx512(int n, const float *x, const float *w, float eps, float *y)
{
    __m512d lo = _mm512_setzero_pd(), hi = _mm512_setzero_pd();
    for (int i = 0; i < n; i += 16) {
        const __m512 v = _mm512_maskz_loadu_ps(tail_mask(n - i), x + i);
        const __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
        const __m512d b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
        lo = _mm512_fmadd_pd(a, a, lo);
        hi = _mm512_fmadd_pd(b, b, hi);
    }
    const double mean = sum_pd(_mm512_add_pd(lo, hi)) / n;
    const __m512 scale = _mm512_set1_ps((float)(1.0 / sqrt(mean + (double)eps)));
    for (int i = 0; i < n; i += 16) {
        const __mmask16 m = tail_mask(n - i);
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), scale);
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, w + i)));
    }
}

static void rope_avx512(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i < n_rot; i += 16) {
            const __mmask16 m = tail_mask(n_rot - i);
            const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
            const __m512 t = _mm512_maskz_loadu_ps(m, cs + i);
            const __m512 swapped = _mm512_permute_ps(v, 0xb1);
            const __m512 part = _mm512_mul_ps(swapped, _mm512_movehdup_ps(t));
            _mm512_mask_storeu_ps(x + i, m, _mm512_fmaddsub_ps(v, _mm512_moveldup_ps(t), part));
        }
    }
}

static void rope_halves_avx512(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    const int half = n_rot / 2;
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i < half; i += 16) {
            const __mmask16 m = tail_mask(half - i);
            const __m512 a = _mm512_maskz_loadu_ps(m, x + i);
            const __m512 b = _mm512_maskz_loadu_ps(m, x + half + i);
            const __m512 c = _mm512_maskz_loadu_ps(m, cs + i);
            const __m512 s = _mm512_maskz_loadu_ps(m, cs + half + i);
            _mm512_mask_storeu_ps(x + i, m, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
            _mm512_mask_storeu_ps(x + half + i, m, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
        }
    }
}

static void silu_mul_avx512(int n, float *gate, const float *up)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int i = 0; i < n; i += 16) {
        const __mmask16 m = tail_mask(n - i);
        const __m512 g = _mm512_maskz_loadu_ps(m, gate + i);
        const __m512 e = exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), g));
        const __m512 s = _mm512_div_ps(g, _mm512_add_ps(one, e));
        _mm512_mask_storeu_ps(gate + i, m, _mm512_mul_ps(s, _mm512_maskz_loadu_ps(m, up + i)));
    }
}

static void gelu_mul_avx512(int n, float *gate, const float *up)
{
    const __m512 one = _mm512_set1_ps(1.0f), c1 = _mm512_set1_ps(-FTK_GELU_1);
    const __m512 c3 = _mm512_set1_ps(-FTK_GELU_3);
    for (int i = 0; i < n; i += 16) {
        const __mmask16 m = tail_mask(n - i);
        const __m512 g = _mm512_maskz_loadu_ps(m, gate + i);
        const __m512 u = _mm512_mul_ps(g, _mm512_fmadd_ps(c3, _mm512_mul_ps(g, g), c1));
        const __m512 s = _mm512_div_ps(g, _mm512_add_ps(one, exp_ps(u)));
        _mm512_mask_storeu_ps(gate + i, m, _mm512_mul_ps(s, _mm512_maskz_loadu_ps(m, up + i)));
    }
}

static void add_avx512(int n, const float *x, float *y)
{
    for (int i = 0; i < n; i += 16) {
        const __mmask16 m = tail_mask(n - i);
        const __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, y + i);
        _mm512_mask_storeu_ps(y + i, m, _mm512_add_ps(b, a));
    }
}

static void kv_store_avx512(ftk_type kv_type, int n, const float *x, void *dst)
{
    if (kv_type == FTK_TYPE_F32) {
        memcpy(dst, x, (size_t)n * sizeof(float));
        return;
    }
    if (kv_type == FTK_TYPE_Q8_0) {
        ftk_q8_0_write(n, x, dst);
        return;
    }
    for (int i = 0; i < n; i += 16) {
        const __mmask16 m = tail_mask(n - i);
        const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        const __m256i h = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16((uint16_t *)dst + i, m, h);
    }
}

/* ------------------------------------------------------------------ attention */

static void widen_q8_0(int n, const ftk_q8_0 *b, float *dst, const ftk_q8_0 *next)
{
    for (int i = 0; i < n; i += FTK_QBLOCK, b++, next++) {
        _mm_prefetch((const void *)next, _MM_HINT_T0);
        const __m512 d = _mm512_set1_ps(ftk_f16_f32(b->d));
        for (int j = 0; j < FTK_QBLOCK; j += 16) {
            const __m512i q = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(b->q + j)));
            _mm512_storeu_ps(dst + i + j, _mm512_mul_ps(_mm512_cvtepi32_ps(q), d));
        }
    }
}

static void widen_f16(int n, const uint16_t *src, float *dst, const uint16_t *next)
{
    int i = 0;
    for (; i + 32 <= n; i += 32) {
        _mm_prefetch((const void *)(next + i), _MM_HINT_T0);
        for (int j = i; j < i + 32; j += 16)
            _mm512_storeu_ps(dst + j, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(src + j))));
    }
    for (; i < n; i += 16) {
        const __mmask16 m = tail_mask(n - i);
        const __m256i h = _mm256_maskz_loadu_epi16(m, src + i);
        _mm512_mask_storeu_ps(dst + i, m, _mm512_cvtph_ps(h));
    }
}

static void widen_f32(int n, const float *src, float *dst, const float *next)
{
    for (int i = 0; i < n; i += 16) {
        const __mmask16 m = tail_mask(n - i);
        _mm_prefetch((const void *)(next + i), _MM_HINT_T0);
        _mm512_mask_storeu_ps(dst + i, m, _mm512_maskz_loadu_ps(m, src + i));
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

INLINE __m512 halves(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}

INLINE __m512 quarters(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

/* Lane i of the result is the sum of v[i]. Each vector's lanes are added in the same tree: 8 apart,
 * then 4, 2, 1. */
INLINE __m512 sum_each(const __m512 *v)
{
    __m512 q[4];
    UNROLL for (int i = 0; i < 4; i++) q[i] =
        quarters(halves(v[i], v[i + 4]), halves(v[i + 8], v[i + 12]));
    const __m512 a =
        _mm512_add_ps(_mm512_shuffle_ps(q[0], q[1], 0x44), _mm512_shuffle_ps(q[0], q[1], 0xee));
    const __m512 b =
        _mm512_add_ps(_mm512_shuffle_ps(q[2], q[3], 0x44), _mm512_shuffle_ps(q[2], q[3], 0xee));
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}

/* p[i] = lanes [4 i, 4 i + 4). */
INLINE void store_quarters(float *p, size_t p_stride, __m512 v)
{
    _mm_store_ps(p, _mm512_castps512_ps128(v));
    _mm_store_ps(p + p_stride, _mm512_extractf32x4_ps(v, 1));
    _mm_store_ps(p + 2 * p_stride, _mm512_extractf32x4_ps(v, 2));
    _mm_store_ps(p + 3 * p_stride, _mm512_extractf32x4_ps(v, 3));
}

/* For pairs (4 or 1) and 16 / pairs keys, both constants where this is called. The first 16
 * elements are multiplied and the others added, so that acc needs no zeros before. */
INLINE void score_tile(int pairs, const float *q, const float *k, size_t dim, float scale, float *p,
                       size_t p_stride)
{
    const int keys = 16 / pairs;
    __m512 acc[16], key[16];
    UNROLL for (int i = 0; i < keys; i++) key[i] = _mm512_load_ps(k + (size_t)i * dim);
    UNROLL for (int i = 0; i < 16; i++) acc[i] =
        _mm512_mul_ps(_mm512_load_ps(q + (size_t)(i / keys) * dim), key[i % keys]);
    for (size_t d = 16; d < dim; d += 16) {
        UNROLL for (int i = 0; i < keys; i++) key[i] = _mm512_load_ps(k + (size_t)i * dim + d);
        UNROLL for (int i = 0; i < 16; i++) acc[i] = _mm512_fmadd_ps(
            _mm512_load_ps(q + (size_t)(i / keys) * dim + d), key[i % keys], acc[i]);
    }
    const __m512 s = _mm512_mul_ps(sum_each(acc), _mm512_set1_ps(scale));
    if (pairs == 1)
        _mm512_store_ps(p, s);
    else
        store_quarters(p, p_stride, s);
}

/* Four pairs at a time share what they read of the keys. */
static void score_keys(int n_pairs, const float *q, const float *k, size_t dim, int n, float scale,
                       float *p, size_t p_stride)
{
    int j = 0;
    for (; j + 4 <= n_pairs; j += 4, q += 4 * dim, p += 4 * p_stride)
        for (int s = 0; s < n; s += 4)
            score_tile(4, q, k + (size_t)s * dim, dim, scale, p + s, p_stride);
    for (; j < n_pairs; j++, q += dim, p += p_stride)
        for (int s = 0; s < n; s += 16)
            score_tile(1, q, k + (size_t)s * dim, dim, scale, p + s, p_stride);
}

static float softmax(int n, float *p)
{
    const __m512 low = _mm512_set1_ps(-INFINITY);
    __m512 top = low;
    for (int i = 0; i < n; i += 16)
        top = _mm512_max_ps(top, _mm512_mask_loadu_ps(low, tail_mask(n - i), p + i));
    top = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < n; i += 16) {
        const __mmask16 m = tail_mask(n - i);
        const __m512 e = exp_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, p + i), top));
        sum = _mm512_mask_add_ps(sum, m, sum, e);
        _mm512_mask_storeu_ps(p + i, m, e);
    }
    return sum_ps(sum);
}

/* pairs and vectors are constants where this is called. */
INLINE void add_values_tile(int pairs, int vectors, int n, const float *p, size_t p_stride,
                            const float *v, size_t dim, float *acc)
{
    __m512 sum[4][4];
    UNROLL for (int i = 0; i < pairs; i++) UNROLL for (int c = 0; c < vectors; c++) sum[i][c] =
        _mm512_load_ps(acc + (size_t)i * dim + c * 16);
    for (int s = 0; s < n; s++, v += dim) {
        UNROLL for (int i = 0; i < pairs; i++)
        {
            const __m512 w = _mm512_set1_ps(p[(size_t)i * p_stride + (size_t)s]);
            UNROLL for (int c = 0; c < vectors; c++) sum[i][c] =
                _mm512_fmadd_ps(w, _mm512_load_ps(v + c * 16), sum[i][c]);
        }
    }
    UNROLL for (int i = 0; i < pairs; i++) UNROLL for (int c = 0; c < vectors; c++)
        _mm512_store_ps(acc + (size_t)i * dim + c * 16, sum[i][c]);
}

INLINE void add_values_pairs(int pairs, int n, const float *p, size_t p_stride, const float *v,
                             size_t dim, float *acc)
{
    size_t d = 0;
    for (; d + 64 <= dim; d += 64) add_values_tile(pairs, 4, n, p, p_stride, v + d, dim, acc + d);
    for (; d < dim; d += 16) add_values_tile(pairs, 1, n, p, p_stride, v + d, dim, acc + d);
}

static void add_values(int n_pairs, int n, const float *p, size_t p_stride, const float *v,
                       size_t dim, float *acc)
{
    int i = 0;
    for (; i + 4 <= n_pairs; i += 4)
        add_values_pairs(4, n, p + (size_t)i * p_stride, p_stride, v, dim, acc + (size_t)i * dim);
    for (; i + 2 <= n_pairs; i += 2)
        add_values_pairs(2, n, p + (size_t)i * p_stride, p_stride, v, dim, acc + (size_t)i * dim);
    for (; i < n_pairs; i++)
        add_values_pairs(1, n, p + (size_t)i * p_stride, p_stride, v, dim, acc + (size_t)i * dim);
}

#include "kernels/attntile.h"

size_t ftk_avx512_attn_scratch(int head_dim, int group, int max_slots)
{
    return attn_scratch_floats(head_dim, group, max_slots);
}

void ftk_avx512_attention(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch)
{
    attn_run(a, head_kv, row0, row1, scratch);
}

void ftk_kernels_avx512(ftk_kernels *k)
{
    ftk_kernels_avx512_matmul(k);
    k->act_pack = ftk_avx512_act_pack; /* the form and size of the plain C level */
    fill_rowloops(k);
    k->rms_norm = rms_norm_avx512;
    k->rope = rope_avx512;
    k->rope_halves = rope_halves_avx512;
    k->silu_mul = silu_mul_avx512;
    k->gelu_mul = gelu_mul_avx512;
    k->add = add_avx512;
    k->kv_store = kv_store_avx512;
    k->attn_scratch = ftk_avx512_attn_scratch;
    k->attention = ftk_avx512_attention;
}
#else
typedef int ftk_avx512_unused; /* a translation unit may not be empty */
#endif
