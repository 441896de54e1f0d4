/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels for AVX-512 but the matrix product, which is in avx512_matmul.c. Compiled with -mavx512f
 * -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c. */
#include "kernels/actblock.h"
#include "kernels/avx512_sum.h"
#include "kernels/avx512_vector.h"

enum { VALUE_PAIRS = 4 };

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

#include "kernels/rowvector.h"

void ftk_avx512_act_pack(ftk_type wtype, int n_in, const float *x, void *dst)
{
    act_pack_rows(wtype, n_in, x, dst);
}

/* ------------------------------------------------------------------ attention */

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
        top = _mm512_max_ps(top, _mm512_mask_loadu_ps(low, first_lanes(n - i), p + i));
    top = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < n; i += 16) {
        const __mmask16 m = first_lanes(n - i);
        const __m512 e = exp_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, p + i), top));
        sum = _mm512_mask_add_ps(sum, m, sum, e);
        _mm512_mask_storeu_ps(p + i, m, e);
    }
    return sum_ps(sum);
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
    fill_rowvector(k);
    k->attn_scratch = attn_scratch_floats;
    k->attention = attn_run;
}
