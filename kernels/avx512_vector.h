/* SPDX-License-Identifier: Apache-2.0
 *
 * The arithmetic that blocktile.h and rowvector.h ask for, in AVX-512 with VNNI. Codes stay
 * unsigned, as the multiplication of unsigned by signed bytes wants them: IQ4 values have 128
 * added, and offsets are taken off by the sums of the activations. */
#ifndef FTK_AVX512_VECTOR_H
#define FTK_AVX512_VECTOR_H

#include <immintrin.h>

#include "kernels/blocks.h"
#include "kernels/panel.h"
#include "kernels/vector.h"

enum { WIDTH = 16 };

typedef __m512i vi;
typedef __m512 vf;

INLINE vi vi_load(const void *p)
{
    return _mm512_load_si512(p);
}

INLINE vi moved(vi v, int from, int to)
{
    if (from < to) return _mm512_slli_epi16(v, (unsigned)(to - from));
    return from > to ? _mm512_srli_epi16(v, (unsigned)(from - to)) : v;
}

INLINE vi vi_bits(vi v, int from, int to, int mask)
{
    return _mm512_and_si512(moved(v, from, to), _mm512_set1_epi8((char)mask));
}

INLINE vi vi_or_bits(vi base, vi v, int from, int to, int mask)
{
    enum { A_OR_B_AND_C = 0xf8 };
    return _mm512_ternarylogic_epi32(base, moved(v, from, to), _mm512_set1_epi8((char)mask),
                                     A_OR_B_AND_C);
}

INLINE vi vi_lookup(vi v)
{
    const __m128i values = _mm_loadu_si128((const void *)ftk_iq4_values);
    const __m128i up = _mm_xor_si128(values, _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(up), v);
}

INLINE vi vi_bytes(const void *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(p));
}

INLINE vi vi_nibbles(const void *p, int half)
{
    const vi v = _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
    return half ? _mm512_srli_epi32(v, 4) : _mm512_and_si512(v, _mm512_set1_epi32(15));
}

INLINE vi broadcast4(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

INLINE vi vi_set1(int i)
{
    return _mm512_set1_epi32(i);
}

INLINE vf vf_of(vi v)
{
    return _mm512_cvtepi32_ps(v);
}

INLINE vf vf_halves(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

INLINE vf vf_set1(float f)
{
    return _mm512_set1_ps(f);
}

INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vf vf_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

INLINE vf vf_widen(ftk_type type, const unsigned char *w)
{
    if (type == FTK_TYPE_F32) return _mm512_load_ps(w);
    const __m256i h = _mm256_load_si256((const void *)w);
    if (type == FTK_TYPE_F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

INLINE vf vf_round(vf v)
{
    return _mm512_roundscale_ps(v, 0);
}

INLINE vf vf_times_pow2(vf v, vf n)
{
    return _mm512_scalef_ps(v, n);
}

INLINE vf vf_turn(vf v, vf cs)
{
    const vf part = _mm512_permute_ps(v, 0xb1) * _mm512_movehdup_ps(cs);
    return _mm512_fmaddsub_ps(v, _mm512_moveldup_ps(cs), part);
}

INLINE __mmask16 first_lanes(int n)
{
    return n >= WIDTH ? 0xffff : n > 0 ? (__mmask16)((1u << n) - 1) : 0;
}

INLINE vf vf_load(const float *x, int n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), x);
}

INLINE void vf_store(float *y, int n, vf v)
{
    _mm512_mask_storeu_ps(y, first_lanes(n), v);
}

INLINE void vf_store_halves(uint16_t *y, int n, vf v)
{
    const __m256i h = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(y, first_lanes(n), h);
}

typedef __m512d vd;

INLINE void add_squares(vf v, vd sum[2])
{
    const vd lo = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    const vd hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    sum[0] = _mm512_fmadd_pd(lo, lo, sum[0]);
    sum[1] = _mm512_fmadd_pd(hi, hi, sum[1]);
}

INLINE double sum_pd(vd v)
{
    double s[8];
    _mm512_storeu_pd(s, v);
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

/* Where both halves have one scale, lo is the sum of both. */
typedef struct dots {
    vi lo, hi;
} dots;

/* What an offset, a power of two, adds to the product of codes. */
INLINE vi offset_sum(int offset, int minus)
{
    if (offset == 0) return _mm512_setzero_si512();
    return _mm512_slli_epi32(_mm512_set1_epi32(minus), (unsigned)__builtin_ctz((unsigned)offset));
}

INLINE void dots_start(ftk_type type, const ftk_qact *a, dots *d)
{
    const ftk_form f = ftk_type_form(type);
    const int offset = f.table ? 128 : f.offset;
    const bool both = f.sub == FTK_QBLOCK;
    d->lo = offset_sum(offset, both ? a->minus : a->minus_half[0]);
    d->hi = both ? d->lo : offset_sum(offset, a->minus_half[1]);
}

INLINE void dots_add(ftk_type type, int g, const vi *v, const int8_t *q, dots *d)
{
    (void)g;
    const vi x0 = broadcast4(q), x1 = broadcast4(q + FTK_QBLOCK / 2);
    d->lo = _mm512_dpbusd_epi32(d->lo, v[0], x0);
    if (ftk_type_form(type).sub == FTK_QBLOCK)
        d->lo = _mm512_dpbusd_epi32(d->lo, v[1], x1);
    else
        d->hi = _mm512_dpbusd_epi32(d->hi, v[1], x1);
}

INLINE vi dots_half(ftk_type type, const dots *d, int i)
{
    (void)type;
    return i ? d->hi : d->lo;
}

INLINE vi dots_both(ftk_type type, const dots *d)
{
    (void)type;
    return d->lo;
}

#endif
