/* SPDX-License-Identifier: Apache-2.0
 *
 * AMX tiles: the instructions, or, with FTK_AMX_EMULATED, plain C that does what they do, so
 * that the product built on them is tested on machines that have none.
 *
 * Inline assembly, because GCC 12's _tile_loadconfig() tells the compiler of 8 of the 64 bytes it
 * reads, and the stores of the others are dropped. */
#ifndef FTK_AMXTILE_H
#define FTK_AMXTILE_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/blocks.h"
#include "kernels/vector.h"

/* Palette 1: eight tiles of at most 16 rows of 64 bytes. */
typedef struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_config;
_Static_assert(sizeof(amx_config) == 64, "as the processor reads it");

#ifndef FTK_AMX_EMULATED

/* Tiles are numbers, constants. */
#define AMX_CONFIGURE(config) __asm__ volatile("ldtilecfg %0" : : "m"(config))
#define AMX_RELEASE()         __asm__ volatile("tilerelease")
#define AMX_ZERO(t)           __asm__ volatile("tilezero %%tmm%c0" : : "i"(t))
#define AMX_LOAD(t, from, stride)                                                                  \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2"                                               \
                     :                                                                             \
                     : "r"(from), "r"((long)(stride)), "i"(t)                                      \
                     : "memory")
#define AMX_STORE(t, to, stride)                                                                   \
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)"                                              \
                     :                                                                             \
                     : "r"(to), "r"((long)(stride)), "i"(t)                                        \
                     : "memory")
/* See amx_dot_bf16() below for the order of the sums. */
#define AMX_DOT_BF16(c, a, b)                                                                      \
    __asm__ volatile("tdpbf16ps %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(b), "i"(a), "i"(c))

/* Of what a file defines, as it is or, for tests, emulated. */
#define FTK_AMX_NAME(name) name

#else

typedef struct amx_state {
    amx_config config;
    union {
        uint8_t u[16][64];
        uint16_t h[16][32];
        float f[16][16];
    } tile[8];
} amx_state;

static inline void amx_load(amx_state *s, int t, const void *from, size_t stride)
{
    memset(&s->tile[t], 0, sizeof s->tile[t]);
    for (int r = 0; r < s->config.rows[t]; r++)
        memcpy(s->tile[t].u[r], (const char *)from + (size_t)r * stride, s->config.row_bytes[t]);
}

static inline void amx_store(const amx_state *s, int t, void *to, size_t stride)
{
    for (int r = 0; r < s->config.rows[t]; r++)
        memcpy((char *)to + (size_t)r * stride, s->tile[t].u[r], s->config.row_bytes[t]);
}

/* Zero in place of what has less than the smallest exponent. */
static inline float amx_flush(float f)
{
    return fabsf(f) < FLT_MIN ? copysignf(0, f) : f;
}

static inline float amx_fma(uint16_t a, uint16_t b, float c)
{
    return amx_flush(fmaf(amx_flush(ftk_bf16_f32(a)), amx_flush(ftk_bf16_f32(b)), c));
}

/* c[m][n] += (the sum of a[m][2 k] * b[k][2 n] over k) + (that of a[m][2 k + 1] * b[k][2 n + 1]) */
static inline void amx_dot_bf16(amx_state *s, int c, int a, int b)
{
    for (int m = 0; m < s->config.rows[c]; m++) {
        float even[16] = {0}, odd[16] = {0};
        for (int k = 0; k < s->config.row_bytes[a] / 4; k++)
            for (int n = 0; n < 16; n++) {
                const uint16_t *x = s->tile[a].h[m] + 2 * k, *w = s->tile[b].h[k] + 2 * n;
                even[n] = amx_fma(x[0], w[0], even[n]);
                odd[n] = amx_fma(x[1], w[1], odd[n]);
            }
        for (int n = 0; n < 16; n++) {
            float *sum = &s->tile[c].f[m][n];
            *sum = amx_flush(amx_flush(*sum) + amx_flush(even[n] + odd[n]));
        }
    }
}

static _Thread_local amx_state amx_state_; /* for tests only */

#define AMX_CONFIGURE(c)          (amx_state_ = (amx_state){.config = (c)})
#define AMX_RELEASE()             ((void)0)
#define AMX_ZERO(t)               memset(&amx_state_.tile[t], 0, sizeof amx_state_.tile[t])
#define AMX_LOAD(t, from, stride) amx_load(&amx_state_, t, from, (size_t)(stride))
#define AMX_STORE(t, to, stride)  amx_store(&amx_state_, t, to, (size_t)(stride))
#define AMX_DOT_BF16(c, a, b)     amx_dot_bf16(&amx_state_, c, a, b)

#define FTK_AMX_NAME(name) name##_emulated

#endif
#endif
