/* SPDX-License-Identifier: Apache-2.0
 * The arithmetic that blocktile.h and rowvector.h ask for, in AVX2 with FMA and F16C. */
#ifndef FTK_AVX2_VECTOR_H
#define FTK_AVX2_VECTOR_H

#include <immintrin.h>

#include "kernels/blocks.h"
#include "kernels/codes.h"
#include "kernels/vector.h"

enum { WIDTH = 8 };

typedef __m256i vi;
typedef __m256 vf;

INLINE vi vi_load(const void *p)
{
    return _mm256_load_si256(p);
}

INLINE vi moved(vi v, int from, int to)
{
    if (from < to) return _mm256_slli_epi16(v, to - from);
    return from > to ? _mm256_srli_epi16(v, from - to) : v;
}

INLINE vi vi_bits(vi v, int from, int to, int mask)
{
    return _mm256_and_si256(moved(v, from, to), _mm256_set1_epi8((char)mask));
}

INLINE vi vi_or_bits(vi base, vi v, int from, int to, int mask)
{
    return _mm256_or_si256(base, vi_bits(v, from, to, mask));
}

INLINE vi vi_lookup(vi v)
{
    const __m128i values = _mm_loadu_si128((const void *)ftk_iq4_values);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), v);
}

INLINE vi vi_bytes(const void *p)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(p));
}

INLINE vi vi_nibbles(const void *p, int half)
{
    const vi v = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p));
    return half ? _mm256_srli_epi32(v, 4) : _mm256_and_si256(v, _mm256_set1_epi32(15));
}

INLINE vi broadcast4(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

INLINE vi vi_set1(int i)
{
    return _mm256_set1_epi32(i);
}

INLINE vf vf_of(vi v)
{
    return _mm256_cvtepi32_ps(v);
}

INLINE vf vf_halves(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

INLINE vf vf_set1(float f)
{
    return _mm256_set1_ps(f);
}

INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

INLINE vf vf_widen(ftk_type type, const unsigned char *w)
{
    if (type == FTK_TYPE_F32) return _mm256_load_ps((const void *)w);
    const __m128i h = _mm_load_si128((const void *)w);
    if (type == FTK_TYPE_F16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

INLINE vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf vf_round(vf v)
{
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n for whole n in [-126, 127]. */
INLINE vf pow2(vi n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* In two steps, for n exceeds what one exponent holds. */
INLINE vf vf_times_pow2(vf v, vf n)
{
    const vi whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return v * pow2(half) * pow2(_mm256_sub_epi32(whole, half));
}

INLINE vf vf_turn(vf v, vf cs)
{
    const vf part = _mm256_permute_ps(v, 0xb1) * _mm256_movehdup_ps(cs);
    return _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(cs), part);
}

/* All ones in the first n lanes. */
INLINE vi first_lanes(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE vf vf_load(const float *x, int n)
{
    return n >= WIDTH ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, first_lanes(n));
}

INLINE void vf_store(float *y, int n, vf v)
{
    if (n >= WIDTH)
        _mm256_storeu_ps(y, v);
    else
        _mm256_maskstore_ps(y, first_lanes(n), v);
}

INLINE void vf_store_halves(uint16_t *y, int n, vf v)
{
    const __m128i h = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    if (n >= WIDTH)
        _mm_storeu_si128((void *)y, h);
    else
        memcpy(y, &h, (size_t)n * sizeof *y);
}

typedef __m256d vd;

INLINE void add_squares(vf v, vd sum[2])
{
    const vd lo = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    const vd hi = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
    sum[0] = _mm256_fmadd_pd(lo, lo, sum[0]);
    sum[1] = _mm256_fmadd_pd(hi, hi, sum[1]);
}

INLINE double sum_pd(vd v)
{
    double s[4];
    _mm256_storeu_pd(s, v);
    return (s[0] + s[2]) + (s[1] + s[3]);
}

#endif
