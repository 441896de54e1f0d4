/* SPDX-License-Identifier: Apache-2.0
 * The codes of a block of activations and their sums, as levels with AVX2 and more write them. */
#ifndef FTK_ACTBLOCK_H
#define FTK_ACTBLOCK_H

#include <immintrin.h>
#include <math.h>

#include "kernels/blocks.h"
#include "kernels/vector.h"

INLINE void store_codes(__m256i q, ftk_qact *b)
{
    _mm256_storeu_si256((void *)b->q, q);
    /* Of four bytes, of eight, of 16: each half of q in one half of the sums. */
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i sum = _mm256_madd_epi16(_mm256_maddubs_epi16(ones, q), _mm256_set1_epi16(1));
    sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0xb1));
    sum = _mm256_add_epi32(sum, _mm256_shuffle_epi32(sum, 0x4e));
    b->minus_half[0] = -_mm_cvtsi128_si32(_mm256_castsi256_si128(sum));
    b->minus_half[1] = -_mm_cvtsi128_si32(_mm256_extracti128_si256(sum, 1));
    b->minus = b->minus_half[0] + b->minus_half[1];
}

/* What x is multiplied by, for codes up to 127; sets b->d. amax_bits: the largest magnitude of
 * the block. Zero if all codes are to be zero. */
INLINE float start_codes(uint32_t amax_bits, ftk_qact *b)
{
    const float amax = ftk_bits_f32(amax_bits);
    const bool finite = amax_bits < 0x7f800000u;
    const float inv = finite && amax >= FTK_QACT_TINY ? 127.0f / amax : 0.0f;
    b->d = !finite ? NAN : inv > 0 ? amax / 127.0f : 0.0f;
    return inv;
}

#endif
