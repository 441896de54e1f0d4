/* SPDX-License-Identifier: Apache-2.0
 *
 * AMX tiles: the instructions, or, with FTK_AMX_EMULATED, plain C that does what they do, so that the
 * product built on them is tested on machines that have none.
 *
 * Inline assembly, because GCC 12's _tile_loadconfig() tells the compiler of 8 of the 64 bytes it
 * reads, and the stores of the others are dropped. */
#ifndef FTK_AMXTILE_H
#define FTK_AMXTILE_H

#include <stdint.h>
#include <string.h>

#include "kernels/vector.h"

/* Palette 1: eight tiles of at most 16 rows of 64 bytes. */
typedef struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_config;
_Static_assert(sizeof(amx_config) == 64, "as the processor reads it");

#ifndef FTK_AMX_EMULATED

#define AMX_CONFIGURE(config) __asm__ volatile("ldtilecfg %0" : : "m"(config))
#define AMX_RELEASE()         __asm__ volatile("tilerelease")
#define AMX_ZERO(t)           __asm__ volatile("tilezero %%tmm" #t : :)
#define AMX_LOAD(t, from, stride)                                                                  \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t                                               \
                     :                                                                             \
                     : "r"(from), "r"((long)(stride))                                              \
                     : "memor"                                                                     \
                       "y")
#define AMX_STORE(t, to, stride)                                                                   \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)"                                           \
                     :                                                                             \
                     : "r"(to), "r"((long)(stride))                                                \
                     : "memory")
/* c[m][n] += sum of a[m][4 k + i] (signed) * b[k][4 n + i] (unsigned) */
#define AMX_DOT(c, a, b) __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)

#else

typedef struct amx_state {
    amx_config config;
    union {
        uint8_t u[16][64];
        int8_t s[16][64];
        int32_t i[16][16];
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

static inline void amx_dot(amx_state *s, int c, int a, int b)
{
    for (int m = 0; m < s->config.rows[c]; m++)
        for (int k = 0; k < s->config.row_bytes[a] / 4; k++)
            for (int n = 0; n < s->config.row_bytes[c] / 4; n++)
                for (int i = 0; i < 4; i++)
                    s->tile[c].i[m][n] += s->tile[a].s[m][4 * k + i] * s->tile[b].u[k][4 * n + i];
}

static _Thread_local amx_state amx_state_; /* for tests only */

#define AMX_CONFIGURE(c)          (amx_state_ = (amx_state){.config = (c)})
#define AMX_RELEASE()             ((void)0)
#define AMX_ZERO(t)               memset(&amx_state_.tile[t], 0, sizeof amx_state_.tile[t])
#define AMX_LOAD(t, from, stride) amx_load(&amx_state_, t, from, (size_t)(stride))
#define AMX_STORE(t, to, stride)  amx_store(&amx_state_, t, to, (size_t)(stride))
#define AMX_DOT(c, a, b)          amx_dot(&amx_state_, c, a, b)

#endif
#endif
