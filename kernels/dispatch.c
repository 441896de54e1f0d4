/* SPDX-License-Identifier: Apache-2.0
 * Chooses kernels by what the CPU has and what the OS saves on a context switch. */
#include <string.h>

#include "kernels/levels.h"

#if defined(__unix__)
#include <unistd.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static bool has(uint32_t reg, uint32_t bits)
{
    return (reg & bits) == bits;
}

/* The best level: 0 ref, 1 avx2, 2 avx512, 3 amx. */
static int machine_level(void)
{
    /* XCR0: SSE, AVX; and opmask, ZMM high; and tiles with their configuration */
    enum { YMM_STATE = 0x6, ZMM_STATE = 0xe6, TILE_STATE = 0x600e6 };
    enum { AMX_BF16 = 1 << 22, HALVES = 1 << 23, AMX_TILE = 1 << 24 }; /* in edx */
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!has(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C)) return 0;
    const uint64_t os = xcr0();
    if ((os & YMM_STATE) != YMM_STATE) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, bit_AVX2)) return 0;
    if ((os & ZMM_STATE) != ZMM_STATE) return 1;
    const bool wide = has(b, bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ);
    if (!wide || !has(c, bit_AVX512VNNI)) return 1;
    return (os & TILE_STATE) == TILE_STATE && has(d, AMX_TILE | AMX_BF16 | HALVES) ? 3 : 2;
}

/* The largest cache that this core reaches, as the processor itself describes it: AMD's in
 * another leaf than Intel's. sysconf() may count in the caches of cores elsewhere on the
 * processor. */
static size_t own_cache(void)
{
    static const uint32_t leaves[] = {4, 0x8000001d};
    size_t most = 0;
    for (int i = 0; i < 2 && most == 0; i++) {
        uint32_t a, b, c, d;
        for (uint32_t n = 0; n < 16 && __get_cpuid_count(leaves[i], n, &a, &b, &c, &d); n++) {
            if ((a & 31) == 0) break; /* no more of them */
            const size_t line = (b & 0xfff) + 1, parts = (b >> 12 & 0x3ff) + 1;
            const size_t size = ((b >> 22) + 1) * parts * line * ((size_t)c + 1);
            most = size > most ? size : most;
        }
    }
    return most;
}

/* Linux lets a process use tiles once it has asked: they make its signal frames 8 KiB larger. */
static bool permit_tiles(void)
{
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    return false;
#endif
}
#else
static size_t own_cache(void)
{
    return 0;
}

static bool permit_tiles(void)
{
    return false;
}

static int machine_level(void)
{
    return 0;
}
#endif

static const struct {
    const char *name;
    void (*fill)(ftk_kernels *k);
} levels[] = {
    {"ref", ftk_kernels_ref},
#if defined(__x86_64__)
    {"avx2", ftk_kernels_avx2},
    {"avx512", ftk_kernels_avx512},
    {"amx", ftk_kernels_amx},
#endif
};
enum { N_LEVELS = sizeof levels / sizeof levels[0], AMX = 3 };
_Static_assert(N_LEVELS < 8, "ftk_kernels_levels() hands out an array of 8");

bool ftk_kernels_fill(ftk_kernels *k, const char *level)
{
    const int best = machine_level();
    int want = best;
    if (level) {
        want = 0;
        while (want < N_LEVELS && strcmp(levels[want].name, level) != 0) want++;
    }
    if (want > best) return false;
    if (want == AMX && !permit_tiles()) {
        if (level) return false;
        want = AMX - 1;
    }
    *k = (ftk_kernels){0};
    for (int i = 0; i <= want; i++) {
        levels[i].fill(k);
        k->name = levels[i].name;
    }
    return true;
}

size_t ftk_cache_bytes(void)
{
    const size_t own = own_cache();
    if (own > 0) return own;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    const long n = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return n > 0 ? (size_t)n : 0;
#else
    return 0;
#endif
}

void ftk_kernels_levels(const char *names[8])
{
    int best = machine_level();
    if (best == AMX && !permit_tiles()) best = AMX - 1;
    for (int i = 0; i < 8; i++) names[i] = i <= best && i < N_LEVELS ? levels[i].name : NULL;
}
