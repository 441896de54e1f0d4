/* SPDX-License-Identifier: Apache-2.0
 *
 * The matrix product for AVX2 with FMA and F16C. Compiled with -mavx2 -mfma -mf16c. The one
 * instruction that multiplies unsigned by signed bytes adds pairs in 16 bits, which saturate; so
 * Q8_0 and IQ4 values are signed here, and the wider the codes, the sooner sums go on in 32. */
#include "kernels/avx2_vector.h"

#include "kernels/levels.h"

INLINE bool is_signed(ftk_type type)
{
    const ftk_form f = ftk_type_form(type);
    return f.bits == 8 || f.table;
}

/* As 16 registers hold them: floats have two sums each, other types one or two, whose place the
 * sums of finished blocks leave to them. */
INLINE int tile_rows(ftk_type type)
{
    return ftk_type_form(type).bits ? 6 : 3;
}

/* One row has registers for two. */
INLINE int tile_vectors(ftk_type type, int rows)
{
    const int bits = ftk_type_form(type).bits;
    return rows == 1 || bits == 0 || bits == 4 || is_signed(type) ? 2 : 1;
}

/* Sums of the halves. Signed codes: 32 bits in lo, of both halves. 4 bits: 16 bits in lo, of both,
 * for 8 * 2 * 15 * 127 fits. Up to 5 bits: 16 bits, for 4 * 2 * 31 * 127 fits. 6 bits: 2 * 2 * 63
 * * 127 fits, so two groups are added up before they go to 32 bits. */
typedef struct dots {
    vi lo, hi;
    vi lo16, hi16; /* of 6 bits: the group before */
    vi off[2];
} dots;

INLINE vi widened(vi v)
{
    return _mm256_madd_epi16(v, _mm256_set1_epi16(1));
}

/* What an offset, a power of two, adds to the product of codes. */
INLINE vi offset_sum(int offset, int minus)
{
    return _mm256_slli_epi32(_mm256_set1_epi32(minus), __builtin_ctz((unsigned)offset));
}

INLINE void dots_start(ftk_type type, const ftk_qact *a, dots *d)
{
    const ftk_form f = ftk_type_form(type);
    d->lo = d->hi = d->lo16 = d->hi16 = d->off[0] = d->off[1] = _mm256_setzero_si256();
    if (is_signed(type) || f.offset == 0) return;
    const bool both = f.sub == FTK_QBLOCK;
    d->off[0] = offset_sum(f.offset, both ? a->minus : a->minus_half[0]);
    d->off[1] = offset_sum(f.offset, a->minus_half[1]);
}

/* |w| times x with the sign of w: 128 * 127 * 2 fits 16 bits. */
INLINE vi signed_dot(vi w, vi x)
{
    return widened(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)));
}

/* The compiler is to add here and now: it would put sums off until all products of a block are
 * there, which is more than the registers hold. */
INLINE void settle(vi *sum)
{
    __asm__("" : "+x"(*sum));
}

INLINE void dots_add(ftk_type type, int g, const vi *v, const int8_t *q, dots *d)
{
    const vi x0 = broadcast4(q), x1 = broadcast4(q + FTK_QBLOCK / 2);
    if (is_signed(type)) {
        const vi s = _mm256_add_epi32(signed_dot(v[0], x0), signed_dot(v[1], x1));
        d->lo = _mm256_add_epi32(d->lo, s);
        settle(&d->lo);
        return;
    }
    const vi lo = _mm256_maddubs_epi16(v[0], x0), hi = _mm256_maddubs_epi16(v[1], x1);
    if (ftk_type_form(type).bits == 4) {
        d->lo = _mm256_add_epi16(d->lo, _mm256_add_epi16(lo, hi));
    } else if (ftk_type_form(type).bits < 6) {
        d->lo = _mm256_add_epi16(d->lo, lo);
        d->hi = _mm256_add_epi16(d->hi, hi);
    } else if (g % 2 == 0) {
        d->lo16 = lo;
        d->hi16 = hi;
    } else {
        d->lo = _mm256_add_epi32(d->lo, widened(_mm256_add_epi16(d->lo16, lo)));
        d->hi = _mm256_add_epi32(d->hi, widened(_mm256_add_epi16(d->hi16, hi)));
    }
    settle(&d->lo);
    if (ftk_type_form(type).bits != 4) settle(&d->hi);
}

INLINE vi dots_half(ftk_type type, const dots *d, int i)
{
    const vi v = i ? d->hi : d->lo;
    const vi sum = ftk_type_form(type).bits < 6 ? widened(v) : v;
    return ftk_type_form(type).offset ? _mm256_add_epi32(sum, d->off[i]) : sum;
}

INLINE vi dots_both(ftk_type type, const dots *d)
{
    const ftk_form f = ftk_type_form(type);
    if (is_signed(type)) return d->lo;
    const vi lo = widened(d->lo);
    const vi sum = f.bits == 4 ? lo : _mm256_add_epi32(lo, widened(d->hi));
    return f.offset ? _mm256_add_epi32(sum, d->off[0]) : sum;
}

#include "kernels/matmultile.h"

static void pack_avx2(ftk_type type, int n_out, int n_in, const void *src, void *dst)
{
    ftk_panels_pack(type, LANES, 0x80, n_out, n_in, src, dst);
}

void ftk_kernels_avx2_matmul(ftk_kernels *k)
{
    k->pack_bytes = pack_bytes_tiles;
    k->pack = pack_avx2;
    k->matmul_grain = WIDTH;
    k->matmul = matmul_tiles;
}
