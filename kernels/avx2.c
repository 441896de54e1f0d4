/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels for AVX2 with FMA and F16C but the matrix product, which is in avx2_matmul.c. Compiled
 * with -mavx2 -mfma -mf16c. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>

#include "kernels/actblock.h"
#include "kernels/blocks.h"
#include "kernels/codes.h"
#include "kernels/levels.h"
#include "kernels/rowloops.h"
#include "kernels/vector.h"

/* ------------------------------------------------------------------ tails */

/* All ones in the first `left` lanes. */
INLINE __m256i tail_mask(int left)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE __m256 load_tail(const float *x, int left)
{
    return left >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, tail_mask(left));
}

INLINE void store_tail(float *y, int left, __m256 v)
{
    if (left >= 8)
        _mm256_storeu_ps(y, v);
    else
        _mm256_maskstore_ps(y, tail_mask(left), v);
}

/* ------------------------------------------------------------------ activations */

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

static void act_pack_avx2(ftk_type wtype, int n_in, const float *x, void *dst)
{
    if (ftk_type_block(wtype) == 1) {
        memcpy(dst, x, (size_t)n_in * sizeof(float));
        return;
    }
    ftk_qact *b = dst;
    for (int i = 0; i < n_in; i += FTK_QBLOCK) quantise_block(x + i, b++);
}

/* ------------------------------------------------------------------ elementwise */

/* 2^n for whole n in [-126, 127]. */
INLINE __m256 pow2(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* As in avx512.c; the scaling by 2^n takes two steps, for n exceeds what one exponent holds. */
INLINE __m256 exp_ps(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(-110.0f), _mm256_min_ps(_mm256_set1_ps(110.0f), x));
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 p = _mm256_set1_ps(1.0f / 5040);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(p, pow2(half)), pow2(_mm256_sub_epi32(whole, half)));
}

INLINE float sum_ps(__m256 v)
{
    float s[8];
    _mm256_storeu_ps(s, v);
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

INLINE double sum_pd(__m256d v)
{
    double s[4];
    _mm256_storeu_pd(s, v);
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* In double for the reason given at the plain C entry. */
static void rms_norm_avx2(int n, const float *x, const float *w, float eps, float *y)
{
    __m256d lo = _mm256_setzero_pd(), hi = _mm256_setzero_pd();
    for (int i = 0; i < n; i += 8) {
        const __m256 v = load_tail(x + i, n - i);
        const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
        const __m256d b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
        lo = _mm256_fmadd_pd(a, a, lo);
        hi = _mm256_fmadd_pd(b, b, hi);
    }
    const double mean = sum_pd(_mm256_add_pd(lo, hi)) / n;
    const __m256 scale = _mm256_set1_ps((float)(1.0 / sqrt(mean + (double)eps)));
    for (int i = 0; i < n; i += 8) {
        const __m256 v = _mm256_mul_ps(load_tail(x + i, n - i), scale);
        store_tail(y + i, n - i, _mm256_mul_ps(v, load_tail(w + i, n - i)));
    }
}

static void rope_avx2(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i < n_rot; i += 8) {
            const __m256 v = load_tail(x + i, n_rot - i), t = load_tail(cs + i, n_rot - i);
            const __m256 part = _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), _mm256_movehdup_ps(t));
            store_tail(x + i, n_rot - i, _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(t), part));
        }
    }
}

static void rope_halves_avx2(int n_heads, int head_dim, int n_rot, const float *cs, float *x)
{
    const int half = n_rot / 2;
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i < half; i += 8) {
            const int left = half - i;
            const __m256 a = load_tail(x + i, left), b = load_tail(x + half + i, left);
            const __m256 c = load_tail(cs + i, left), s = load_tail(cs + half + i, left);
            store_tail(x + i, left, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
            store_tail(x + half + i, left, _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
        }
    }
}

static void silu_mul_avx2(int n, float *gate, const float *up)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    for (int i = 0; i < n; i += 8) {
        const __m256 g = load_tail(gate + i, n - i);
        const __m256 e = exp_ps(_mm256_sub_ps(_mm256_setzero_ps(), g));
        const __m256 s = _mm256_div_ps(g, _mm256_add_ps(one, e));
        store_tail(gate + i, n - i, _mm256_mul_ps(s, load_tail(up + i, n - i)));
    }
}

static void gelu_mul_avx2(int n, float *gate, const float *up)
{
    const __m256 one = _mm256_set1_ps(1.0f), c1 = _mm256_set1_ps(-FTK_GELU_1);
    const __m256 c3 = _mm256_set1_ps(-FTK_GELU_3);
    for (int i = 0; i < n; i += 8) {
        const __m256 g = load_tail(gate + i, n - i);
        const __m256 u = _mm256_mul_ps(g, _mm256_fmadd_ps(c3, _mm256_mul_ps(g, g), c1));
        const __m256 s = _mm256_div_ps(g, _mm256_add_ps(one, exp_ps(u)));
        store_tail(gate + i, n - i, _mm256_mul_ps(s, load_tail(up + i, n - i)));
    }
}

static void add_avx2(int n, const float *x, float *y)
{
    for (int i = 0; i < n; i += 8)
        store_tail(y + i, n - i, _mm256_add_ps(load_tail(y + i, n - i), load_tail(x + i, n - i)));
}

static void kv_store_avx2(ftk_type kv_type, int n, const float *x, void *dst)
{
    if (kv_type == FTK_TYPE_F32) {
        memcpy(dst, x, (size_t)n * sizeof(float));
        return;
    }
    if (kv_type == FTK_TYPE_Q8_0) {
        ftk_q8_0_write(n, x, dst);
        return;
    }
    uint16_t *y = dst;
    for (int i = 0; i < n; i += 8) {
        const __m128i h = _mm256_cvtps_ph(load_tail(x + i, n - i), _MM_FROUND_TO_NEAREST_INT);
        const size_t count = n - i >= 8 ? 8 : (size_t)(n - i);
        memcpy(y + i, &h, count * sizeof *y);
    }
}

/* ------------------------------------------------------------------ attention */

static void widen_q8_0(int n, const ftk_q8_0 *b, float *dst, const ftk_q8_0 *next)
{
    for (int i = 0; i < n; i += FTK_QBLOCK, b++, next++) {
        _mm_prefetch((const void *)next, _MM_HINT_T0);
        const __m256 d = _mm256_set1_ps(ftk_f16_f32(b->d));
        for (int j = 0; j < FTK_QBLOCK; j += 8) {
            const __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(b->q + j)));
            _mm256_storeu_ps(dst + i + j, _mm256_mul_ps(_mm256_cvtepi32_ps(q), d));
        }
    }
}

static void widen_f16(int n, const uint16_t *src, float *dst, const uint16_t *next)
{
    int i = 0;
    for (; i + 32 <= n; i += 32) {
        _mm_prefetch((const void *)(next + i), _MM_HINT_T0);
        for (int j = i; j < i + 32; j += 8)
            _mm256_storeu_ps(dst + j, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(src + j))));
    }
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

/* pairs and vectors are constants where this is called. */
INLINE void add_values_tile(int pairs, int vectors, int n, const float *p, size_t p_stride,
                            const float *v, size_t dim, float *acc)
{
    __m256 sum[2][4];
    UNROLL for (int i = 0; i < pairs; i++) UNROLL for (int c = 0; c < vectors; c++) sum[i][c] =
        _mm256_load_ps(acc + (size_t)i * dim + c * 8);
    for (int s = 0; s < n; s++, v += dim) {
        UNROLL for (int i = 0; i < pairs; i++)
        {
            const __m256 w = _mm256_set1_ps(p[(size_t)i * p_stride + (size_t)s]);
            UNROLL for (int c = 0; c < vectors; c++) sum[i][c] =
                _mm256_fmadd_ps(w, _mm256_load_ps(v + c * 8), sum[i][c]);
        }
    }
    UNROLL for (int i = 0; i < pairs; i++) UNROLL for (int c = 0; c < vectors; c++)
        _mm256_store_ps(acc + (size_t)i * dim + c * 8, sum[i][c]);
}

INLINE void add_values_pairs(int pairs, int n, const float *p, size_t p_stride, const float *v,
                             size_t dim, float *acc)
{
    size_t d = 0;
    for (; d + 32 <= dim; d += 32) add_values_tile(pairs, 4, n, p, p_stride, v + d, dim, acc + d);
    for (; d < dim; d += 16) add_values_tile(pairs, 2, n, p, p_stride, v + d, dim, acc + d);
}

static void add_values(int n_pairs, int n, const float *p, size_t p_stride, const float *v,
                       size_t dim, float *acc)
{
    int i = 0;
    for (; i + 2 <= n_pairs; i += 2)
        add_values_pairs(2, n, p + (size_t)i * p_stride, p_stride, v, dim, acc + (size_t)i * dim);
    for (; i < n_pairs; i++)
        add_values_pairs(1, n, p + (size_t)i * p_stride, p_stride, v, dim, acc + (size_t)i * dim);
}

#include "kernels/attntile.h"

static void attention_avx2(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch)
{
    attn_run(a, head_kv, row0, row1, scratch);
}

void ftk_kernels_avx2(ftk_kernels *k)
{
    ftk_kernels_avx2_matmul(k);
    k->act_pack = act_pack_avx2; /* the form and size of the plain C level */
    fill_rowloops(k);
    k->rms_norm = rms_norm_avx2;
    k->rope = rope_avx2;
    k->rope_halves = rope_halves_avx2;
    k->silu_mul = silu_mul_avx2;
    k->gelu_mul = gelu_mul_avx2;
    k->add = add_avx2;
    k->kv_store = kv_store_avx2;
    k->attn_scratch = attn_scratch_floats;
    k->attention = attention_avx2;
}
#else
typedef int ftk_avx2_unused; /* a translation unit may not be empty */
#endif
