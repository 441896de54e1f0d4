/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels for AVX2 with FMA and F16C but the matrix product, which is in avx2_matmul.c. Compiled
 * with -mavx2 -mfma -mf16c. */
#include "kernels/actblock.h"
#include "kernels/avx2_vector.h"

enum { VALUE_PAIRS = 2 };

/* Bit for bit what the plain C level computes. */
INLINE void quantise_block(const float *x, ftk_qact *b)
{
    __m256 v[4];
    __m256i mag = _mm256_setzero_si256();
    UNROLL for (int i = 0; i < 4; i++)
    {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        const __m256i bits = _mm256_castps_si256(v[i]);
        mag = _mm256_max_epu32(mag, _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff)));
    }
    __m128i most = _mm_max_epu32(_mm256_castsi256_si128(mag), _mm256_extracti128_si256(mag, 1));
    most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0x4e));
    most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0xb1));
    const float inv = start_codes((uint32_t)_mm_cvtsi128_si32(most), b);
    if (inv == 0) {
        store_codes(_mm256_setzero_si256(), b);
        return;
    }
    __m256i q[4];
    UNROLL for (int i = 0; i < 4; i++) q[i] =
        _mm256_cvtps_epi32(_mm256_mul_ps(v[i], _mm256_set1_ps(inv)));
    /* Packing goes by halves, so fours of bytes end up as 0 2 4 6 1 3 5 7. */
    const __m256i bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    store_codes(_mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)), b);
}

#include "kernels/rowvector.h"

/* ------------------------------------------------------------------ attention */

INLINE float sum_ps(__m256 v)
{
    float s[8];
    _mm256_storeu_ps(s, v);
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* Lane i of the result is the sum of v[i], each added in the same tree. */
INLINE __m128 sum_each(const __m256 *v)
{
    const __m256 s = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

/* pairs is a constant where this is called. */
INLINE void score_tile(int pairs, const float *q, const float *k, size_t dim, float scale, float *p,
                       size_t p_stride)
{
    __m256 acc[2][4];
    UNROLL for (int j = 0; j < pairs; j++) UNROLL for (int i = 0; i < 4; i++) acc[j][i] =
        _mm256_setzero_ps();
    for (size_t d = 0; d < dim; d += 8) {
        UNROLL for (int j = 0; j < pairs; j++)
        {
            const __m256 v = _mm256_load_ps(q + (size_t)j * dim + d);
            UNROLL for (int i = 0; i < 4; i++) acc[j][i] =
                _mm256_fmadd_ps(v, _mm256_load_ps(k + (size_t)i * dim + d), acc[j][i]);
        }
    }
    UNROLL for (int j = 0; j < pairs; j++)
        _mm_store_ps(p + (size_t)j * p_stride, _mm_mul_ps(sum_each(acc[j]), _mm_set1_ps(scale)));
}

static void score_keys(int n_pairs, const float *q, const float *k, size_t dim, int n, float scale,
                       float *p, size_t p_stride)
{
    int j = 0;
    for (; j + 2 <= n_pairs; j += 2, q += 2 * dim, p += 2 * p_stride)
        for (int s = 0; s < n; s += 4)
            score_tile(2, q, k + (size_t)s * dim, dim, scale, p + s, p_stride);
    for (; j < n_pairs; j++, q += dim, p += p_stride)
        for (int s = 0; s < n; s += 4)
            score_tile(1, q, k + (size_t)s * dim, dim, scale, p + s, p_stride);
}

static float softmax(int n, float *p)
{
    __m256 top = _mm256_set1_ps(-INFINITY);
    const int padded = (n + 15) / 16 * 16;
    for (int i = n; i < padded; i++) p[i] = -INFINITY;
    for (int i = 0; i < padded; i += 8) top = _mm256_max_ps(top, _mm256_load_ps(p + i));
    float lanes[8];
    _mm256_storeu_ps(lanes, top);
    for (int i = 1; i < 8; i++) lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    top = _mm256_set1_ps(lanes[0]);
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = 0; i < padded; i += 16) {
        for (int h = 0; h < 2; h++) {
            const __m256 e = exp_ps(_mm256_sub_ps(_mm256_load_ps(p + i + 8 * h), top));
            sum[h] = _mm256_add_ps(sum[h], e);
            _mm256_store_ps(p + i + 8 * h, e);
        }
    }
    return sum_ps(_mm256_add_ps(sum[0], sum[1]));
}

#include "kernels/attntile.h"

void ftk_kernels_avx2(ftk_kernels *k)
{
    ftk_kernels_avx2_matmul(k);
    fill_rowvector(k);
    k->attn_scratch = attn_scratch_floats;
    k->attention = attn_run;
}
