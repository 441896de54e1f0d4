/* SPDX-License-Identifier: Apache-2.0
 *
 * Arithmetic of 32 half floats for AMX's unpacking: the instructions, which every processor with
 * tiles has, or, with FTK_AMX_EMULATED, what gives the same bits without them. Numbers below the
 * smallest exponent are kept. */
#ifndef FTK_AMXHALF_H
#define FTK_AMXHALF_H

#include <immintrin.h>

#include "kernels/vector.h"

#ifndef FTK_AMX_EMULATED

INLINE __m512i half_mul(__m512i a, __m512i b)
{
    return _mm512_castph_si512(_mm512_mul_ph(_mm512_castsi512_ph(a), _mm512_castsi512_ph(b)));
}

INLINE __m512i half_sub(__m512i a, __m512i b)
{
    return _mm512_castph_si512(_mm512_sub_ph(_mm512_castsi512_ph(a), _mm512_castsi512_ph(b)));
}

/* a b + c, rounded once. */
INLINE __m512i half_fma(__m512i a, __m512i b, __m512i c)
{
    return _mm512_castph_si512(
        _mm512_fmadd_ph(_mm512_castsi512_ph(a), _mm512_castsi512_ph(b), _mm512_castsi512_ph(c)));
}

/* Of signed words. */
INLINE __m512i half_of(__m512i words)
{
    return _mm512_castph_si512(_mm512_cvtepi16_ph(words));
}

#else

/* 16 of the words, as floats. */
INLINE __m512 half_floats(__m512i v, int upper)
{
    return _mm512_cvtph_ps(upper ? _mm512_extracti64x4_epi64(v, 1) : _mm512_castsi512_si256(v));
}

INLINE __m512i half_round(__m512 lo, __m512 hi)
{
    const __m256i l = _mm512_cvtps_ph(lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i h = _mm512_cvtps_ph(hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_inserti64x4(_mm512_castsi256_si512(l), h, 1);
}

/* Products of halves are exact as floats. */
INLINE __m512i half_mul(__m512i a, __m512i b)
{
    return half_round(_mm512_mul_ps(half_floats(a, 0), half_floats(b, 0)),
                      _mm512_mul_ps(half_floats(a, 1), half_floats(b, 1)));
}

/* Differences of halves round to the same halves when they are rounded to floats before: these
 * have more than twice as many bits. */
INLINE __m512i half_sub(__m512i a, __m512i b)
{
    return half_round(_mm512_sub_ps(half_floats(a, 0), half_floats(b, 0)),
                      _mm512_sub_ps(half_floats(a, 1), half_floats(b, 1)));
}

/* A sum of floats whose last bit is set if it is not exact: what is rounded to fewer bits after
 * that is rounded as if from the exact sum. */
INLINE __m512 sum_to_odd(__m512 a, __m512 b)
{
    const __m512 sum = _mm512_add_ps(a, b), back = _mm512_sub_ps(sum, a);
    const __m512 error =
        _mm512_add_ps(_mm512_sub_ps(a, _mm512_sub_ps(sum, back)), _mm512_sub_ps(b, back));
    const __m512i bits = _mm512_castps_si512(sum), one = _mm512_set1_epi32(1);
    const __mmask16 even = _mm512_testn_epi32_mask(bits, one);
    const __mmask16 odd = even & _mm512_cmp_ps_mask(error, _mm512_setzero_ps(), _CMP_NEQ_OQ);
    /* the error's sign says which of the two neighbours the exact sum lies beside */
    const __m512i differ = _mm512_xor_si512(_mm512_castps_si512(error), bits);
    const __mmask16 down = _mm512_movepi32_mask(differ);
    const __m512i up = _mm512_mask_add_epi32(bits, odd & (__mmask16)~down, bits, one);
    return _mm512_castsi512_ps(_mm512_mask_sub_epi32(up, odd & down, up, one));
}

INLINE __m512i half_fma(__m512i a, __m512i b, __m512i c)
{
    __m512 sum[2];
    for (int i = 0; i < 2; i++)
        sum[i] = sum_to_odd(_mm512_mul_ps(half_floats(a, i), half_floats(b, i)), half_floats(c, i));
    return half_round(sum[0], sum[1]);
}

INLINE __m512i half_of(__m512i words)
{
    const __m512i lo = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(words));
    const __m512i hi = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(words, 1));
    return half_round(_mm512_cvtepi32_ps(lo), _mm512_cvtepi32_ps(hi));
}

#endif
#endif
