/* SPDX-License-Identifier: Apache-2.0
 * The sum of a vector's floats. */
#ifndef FTK_AVX512_SUM_H
#define FTK_AVX512_SUM_H

#include <immintrin.h>

#include "kernels/vector.h"

/* The lanes of a sum, added in a fixed tree: _mm512_reduce_add_ps() leaves it to the compiler. */
INLINE float sum_ps(__m512 v)
{
    v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0x4e));
    v = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0xb1));
    v = _mm512_add_ps(v, _mm512_permute_ps(v, 0x4e));
    v = _mm512_add_ps(v, _mm512_permute_ps(v, 0xb1));
    return _mm512_cvtss_f32(v);
}

#endif
