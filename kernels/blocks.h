/* SPDX-License-Identifier: Apache-2.0
 * Blocks of the quantised types as GGUF stores them, the activation block, and half floats. */
#ifndef FTK_BLOCKS_H
#define FTK_BLOCKS_H

#include <string.h>

#include "kernels/kernels.h"

#ifdef __cplusplus /* the emulated GPU reads halves, too */
#define FTK_STATIC_ASSERT static_assert
#else
#define FTK_STATIC_ASSERT _Static_assert
#endif

/* w[i] = d * q[i] */
typedef struct ftk_q8_0 {
    uint16_t d; /* f16 */
    int8_t q[FTK_QBLOCK];
} ftk_q8_0;
FTK_STATIC_ASSERT(sizeof(ftk_q8_0) == sizeof(uint16_t) + FTK_QBLOCK, "Q8_0 block is packed");

/* w[i] = d * ((q[i] & 15) - 8), w[i + 16] = d * ((q[i] >> 4) - 8), i < 16. IQ4_NL is laid out like
 * it: w[i] = d * ftk_iq4_values[q] */
typedef struct ftk_q4_0 {
    uint16_t d; /* f16 */
    uint8_t q[FTK_QBLOCK / 2];
} ftk_q4_0;
FTK_STATIC_ASSERT(sizeof(ftk_q4_0) == sizeof(uint16_t) + FTK_QBLOCK / 2, "Q4_0 block is packed");

/* w[i] = d * q + m, q as in Q4_0 but without the 8 */
typedef struct ftk_q4_1 {
    uint16_t d, m; /* f16 */
    uint8_t q[FTK_QBLOCK / 2];
} ftk_q4_1;
FTK_STATIC_ASSERT(sizeof(ftk_q4_1) == 2 * sizeof(uint16_t) + FTK_QBLOCK / 2,
                  "Q4_1 block is packed");

/* w[i] = d * (q - 16): four bits as in Q4_0, the fifth of element i is bit i of h */
typedef struct ftk_q5_0 {
    uint16_t d; /* f16 */
    uint8_t h[FTK_QBLOCK / 8];
    uint8_t q[FTK_QBLOCK / 2];
} ftk_q5_0;
FTK_STATIC_ASSERT(sizeof(ftk_q5_0) == sizeof(uint16_t) + FTK_QBLOCK * 5 / 8,
                  "Q5_0 block is packed");

/* w[i] = d * q + m */
typedef struct ftk_q5_1 {
    uint16_t d, m; /* f16 */
    uint8_t h[FTK_QBLOCK / 8];
    uint8_t q[FTK_QBLOCK / 2];
} ftk_q5_1;
FTK_STATIC_ASSERT(sizeof(ftk_q5_1) == 2 * sizeof(uint16_t) + FTK_QBLOCK * 5 / 8,
                  "Q5_1 block is packed");

/* The K types: FTK_QUNIT elements share one or two f16; each 16 or 32 of them have a whole number
 * as their scale, and in some types another one as their minimum. codes.c knows the order of
 * the bits. */
enum { FTK_QSUBS = FTK_QUNIT / 16, FTK_QUNIT_BLOCKS = FTK_QUNIT / FTK_QBLOCK };

/* w = d * (sc & 15) * q - dmin * (sc >> 4), per 16 elements */
typedef struct ftk_q2_k {
    uint8_t sc[FTK_QSUBS];
    uint8_t q[FTK_QUNIT / 4];
    uint16_t d, dmin; /* f16 */
} ftk_q2_k;
FTK_STATIC_ASSERT(sizeof(ftk_q2_k) == FTK_QSUBS + FTK_QUNIT / 4 + 2 * sizeof(uint16_t),
                  "Q2_K block is packed");

/* w = d * (sc - 32) * (q - 4), per 16 elements; sc has 6 bits, q its third in h */
typedef struct ftk_q3_k {
    uint8_t h[FTK_QUNIT / 8];
    uint8_t q[FTK_QUNIT / 4];
    uint8_t sc[FTK_QSUBS * 6 / 8];
    uint16_t d; /* f16 */
} ftk_q3_k;
FTK_STATIC_ASSERT(sizeof(ftk_q3_k) == FTK_QUNIT * 3 / 8 + FTK_QSUBS * 6 / 8 + sizeof(uint16_t),
                  "Q3_K block is packed");

/* w = d * sc * q - dmin * mn, per 32 elements; sc and mn have 6 bits each */
typedef struct ftk_q4_k {
    uint16_t d, dmin; /* f16 */
    uint8_t sc[FTK_QUNIT_BLOCKS * 12 / 8];
    uint8_t q[FTK_QUNIT / 2];
} ftk_q4_k;
FTK_STATIC_ASSERT(sizeof(ftk_q4_k) ==
                      2 * sizeof(uint16_t) + FTK_QUNIT_BLOCKS * 12 / 8 + FTK_QUNIT / 2,
                  "Q4_K block is packed");

/* The same; q has its fifth bit in h. */
typedef struct ftk_q5_k {
    uint16_t d, dmin; /* f16 */
    uint8_t sc[FTK_QUNIT_BLOCKS * 12 / 8];
    uint8_t h[FTK_QUNIT / 8];
    uint8_t q[FTK_QUNIT / 2];
} ftk_q5_k;
FTK_STATIC_ASSERT(sizeof(ftk_q5_k) == sizeof(ftk_q4_k) + FTK_QUNIT / 8, "Q5_K block is packed");

/* w = d * sc * (q - 32), per 16 elements; q has its two high bits in h */
typedef struct ftk_q6_k {
    uint8_t q[FTK_QUNIT / 2];
    uint8_t h[FTK_QUNIT / 4];
    int8_t sc[FTK_QSUBS];
    uint16_t d; /* f16 */
} ftk_q6_k;
FTK_STATIC_ASSERT(sizeof(ftk_q6_k) == FTK_QUNIT * 6 / 8 + FTK_QSUBS + sizeof(uint16_t),
                  "Q6_K block is packed");

/* w = d * (sc - 32) * ftk_iq4_values[q], per 32 elements; sc: 4 bits in sc_lo, 2 in sc_hi */
typedef struct ftk_iq4_xs {
    uint16_t d; /* f16 */
    uint16_t sc_hi;
    uint8_t sc_lo[FTK_QUNIT_BLOCKS / 2];
    uint8_t q[FTK_QUNIT / 2];
} ftk_iq4_xs;
FTK_STATIC_ASSERT(sizeof(ftk_iq4_xs) == 2 * sizeof(uint16_t) + FTK_QUNIT_BLOCKS / 2 + FTK_QUNIT / 2,
                  "IQ4_XS block is packed");

/* Activations for the block types; every level reads this form. x[i] = d * q[i], where q is in
 * [-127, 127]. d is NaN when any of the 32 floats was not finite. The sums, with their sign turned,
 * serve weights that have a minimum and codes with an offset: each is one addition to a dot. */
typedef struct ftk_qact {
    float d;
    int32_t minus, minus_half[2]; /* - sums of q: of all, of the first and the last 16 */
    int8_t q[FTK_QBLOCK];
} ftk_qact;
FTK_STATIC_ASSERT(sizeof(ftk_qact) == sizeof(float) + 3 * sizeof(int32_t) + FTK_QBLOCK,
                  "no padding");

/* A block whose largest magnitude is below this counts as zeros: 127 / amax must not overflow. */
#define FTK_QACT_TINY 0x1p-119f

static inline float ftk_bits_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t ftk_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float ftk_bf16_f32(uint16_t h)
{
    return ftk_bits_f32((uint32_t)h << 16);
}

/* Exact for every input: a subnormal half is a small integer times 2^-24. */
static inline float ftk_f16_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t mag = h & 0x7fffu;
    if (mag < 0x0400u) return ftk_bits_f32(sign | ftk_f32_bits((float)mag * 0x1p-24f));
    if (mag < 0x7c00u) return ftk_bits_f32(sign | ((mag << 13) + (112u << 23)));
    const uint32_t quiet = mag > 0x7c00u ? 0x400000u : 0;
    return ftk_bits_f32(sign | 0x7f800000u | quiet | mag << 13);
}

/* To nearest, ties to even; too large becomes infinity, NaN stays NaN. */
static inline uint16_t ftk_f32_f16(float f)
{
    const uint32_t bits = ftk_f32_bits(f);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t mag = bits & 0x7fffffffu;
    uint32_t h;
    if (mag > 0x7f800000u)
        h = 0x7e00u | (mag >> 13 & 0x1ffu);
    else if (mag >= 0x47800000u)
        h = 0x7c00u;
    else if (mag >= 0x38800000u)
        h = (mag - (112u << 23) + 0xfffu + (mag >> 13 & 1u)) >> 13;
    /* Adding 0.5 leaves, in the lowest bits, the value in units of 2^-24, rounded by the FPU. */
    else
        h = ftk_f32_bits(ftk_bits_f32(mag) + 0.5f) - 0x3f000000u;
    return (uint16_t)(sign | h);
}

/* To nearest, ties to even. */
static inline uint16_t ftk_f32_bf16(float f)
{
    const uint32_t bits = ftk_f32_bits(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif
