/* SPDX-License-Identifier: Apache-2.0
 * Loops that do nothing but one instruction, on registers, as many at a time as its latency asks
 * for. */
#include "peaks.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* The best of some calls, each of `operations`. */
static double rate(void (*call)(void), double operations)
{
    double best = INFINITY;
    for (int i = 0; i < 7; i++) {
        const double start = ftk_now();
        call();
        const double seconds = ftk_now() - start;
        best = seconds < best ? seconds : best;
    }
    return operations / best;
}

#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/amxtile.h"

enum { LOOPS = 200000 };

#define OPAQUE(v) __asm__ volatile("" : "+x"(v))

/* What AVX2 has for bytes: two instructions and an addition for 32 products. */
__attribute__((target("avx2"))) static void loop_avx2(void)
{
    __m256i sum[8], x = _mm256_set1_epi8(1), one = _mm256_set1_epi16(1);
    for (int i = 0; i < 8; i++) sum[i] = _mm256_setzero_si256();
    for (int n = 0; n < LOOPS; n++)
        UNROLL for (int i = 0; i < 8; i++)
        {
            OPAQUE(x);
            const __m256i p = _mm256_madd_epi16(_mm256_maddubs_epi16(x, x), one);
            sum[i] = _mm256_add_epi32(sum[i], p);
        }
    for (int i = 0; i < 8; i++) OPAQUE(sum[i]);
}

#undef OPAQUE
#define OPAQUE(v) __asm__ volatile("" : "+v"(v))

__attribute__((target("avx512f,avx512vnni"))) static void loop_avx512(void)
{
    __m512i sum[16], x = _mm512_set1_epi8(1);
    for (int i = 0; i < 16; i++) sum[i] = _mm512_setzero_si512();
    for (int n = 0; n < LOOPS; n++)
        UNROLL for (int i = 0; i < 16; i++)
        {
            OPAQUE(x);
            sum[i] = _mm512_dpbusd_epi32(sum[i], x, x);
        }
    for (int i = 0; i < 16; i++) OPAQUE(sum[i]);
}

/* Two groups of 16 rows by two of 16 outputs. */
static void loop_amx(void)
{
    amx_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.rows[i] = 16;
        config.row_bytes[i] = 64;
    }
    AMX_CONFIGURE(config);
    for (int n = 0; n < LOOPS; n++) {
        AMX_DOT_BF16(0, 4, 6);
        AMX_DOT_BF16(1, 4, 7);
        AMX_DOT_BF16(2, 5, 6);
        AMX_DOT_BF16(3, 5, 7);
    }
    AMX_RELEASE();
}

static double products(const char *level)
{
    if (strcmp(level, "avx2") == 0) return rate(loop_avx2, 2.0 * LOOPS * 8 * 32);
    if (strcmp(level, "avx512") == 0) return rate(loop_avx512, 2.0 * LOOPS * 16 * 64);
    if (strcmp(level, "amx") == 0) return rate(loop_amx, 2.0 * LOOPS * 4 * 16 * 16 * 32);
    return 0;
}
#else
static double products(const char *level)
{
    (void)level;
    return 0;
}
#endif

enum { BYTES = 256 << 20 };

static const uint64_t *buffer;
static volatile uint64_t seen;

static void read_all(void)
{
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < BYTES / sizeof *buffer; i += 8)
        for (size_t j = 0; j < 8; j++) sum[j] += buffer[i + j];
    for (int j = 0; j < 8; j++) seen += sum[j];
}

peaks peaks_of(const char *level)
{
    peaks p = {.products = products(level)};
    uint64_t *const words = malloc(BYTES);
    if (!words) return p;
    memset(words, 1, BYTES);
    buffer = words;
    p.bytes = rate(read_all, BYTES);
    free(words);
    return p;
}
