/* SPDX-License-Identifier: Apache-2.0
 * What the tiles of bf16 are fed with: half floats and floats, in parts. */
#ifndef FTK_AMXSPLIT_H
#define FTK_AMXSPLIT_H

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>

#include "kernels/amxhalf.h"

enum {
    AMX_DEPTH = 32,     /* elements that a tile product sums over */
    AMX_LIFT = 100,     /* floats are scaled so that they are near 2 to the power of this */
    AMX_BIAS = 127 - 15 /* half floats' parts mean 2^112 times less: see amx.c */
};

/* Half floats to bf16, rounded to nearest, their exponents moved without adding AMX_BIAS. What
 * is not finite becomes 2^16 and more. */
INLINE __m512i half_to_bf16(__m512i h)
{
    const __m512i v = _mm512_mulhrs_epi16(h, _mm512_set1_epi16(1 << 12));
    return _mm512_and_si512(v, _mm512_set1_epi16((int16_t)0x8fff));
}

/* The same in two parts that add up to it. */
INLINE void half_split(__m512i h, __m512i part[2])
{
    const __m512i kept = _mm512_and_si512(h, _mm512_set1_epi16((int16_t)0xfff8));
    part[0] = half_to_bf16(kept);
    part[1] = half_to_bf16(half_sub(h, kept));
}

/* The exponent of the largest of n floats, by its bits: 0 to 254, or 255 where something is not
 * finite. */
INLINE int float_exponent(int n, const float *x)
{
    __m512i most = _mm512_setzero_si512();
    for (int i = 0; i < n; i += 16) {
        const __mmask16 m = n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        const __m512i v = _mm512_maskz_loadu_epi32(m, x + i);
        most = _mm512_max_epu32(most, _mm512_slli_epi32(v, 1)); /* without signs */
    }
    return (int)(_mm512_reduce_max_epu32(most) >> 24);
}

/* bf16 of 16 floats, in words: rounded to nearest, or towards zero. */
INLINE __m256i float_to_bf16(__m512 v, bool nearest)
{
    __m512i bits = _mm512_castps_si512(v);
    if (nearest) {
        const __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        bits = _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff)));
    }
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16));
}

/* What bf16, rounded towards zero, leave of floats. */
INLINE __m512 float_rest(__m512 v)
{
    const __m512i mask = _mm512_set1_epi32((int)0xffff0000);
    const __m512i kept = _mm512_and_si512(_mm512_castps_si512(v), mask);
    return _mm512_sub_ps(v, _mm512_castsi512_ps(kept));
}

INLINE __m512i both_halves(__m256i lo, __m256i hi)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1);
}

#endif
