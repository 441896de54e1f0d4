/* SPDX-License-Identifier: Apache-2.0
 * Loops over rows. */
#include "base/row.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Lanes of a loop, and values whose sums in lanes become one number. */
enum { LANES = 32, BLOCK = 512 };

/* e^d, 0 unless d > -80: 2^n e^r with |r| <= ln 2 / 2, and a Taylor series for that. */
INLINE float weight(float d)
{
    static const float to_whole = 12582912.0f; /* 1.5 * 2^23: sums with it are whole numbers */
    const float x = d > -80 ? d : -80;
    /* A statement of its own: so it is rounded to a float by any processor. */
    const float shifted = x * 1.44269504f + to_whole;
    const float n = shifted - to_whole;
    const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    const float p =
        1 + r * (1 + r * (0.5f + r * (0.166666667f +
                                      r * (0.0416666667f +
                                           r * (8.33333333e-3f +
                                                r * (1.38888889e-3f + r * 1.98412698e-4f))))));
    const uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return d > -80 ? p * scale : 0;
}

INLINE int least(int a, int b)
{
    return a < b ? a : b;
}

INLINE bool max_of(const float *x, int n, float *max)
{
    float m[LANES];
    int32_t bad[LANES] = {0};
    int32_t any = 0;
    for (int j = 0; j < LANES; j++) m[j] = -INFINITY;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            bad[j] |= !(x[i + j] <= FLT_MAX);
            m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
        }
    for (; i < n; i++) {
        any |= !(x[i] <= FLT_MAX);
        m[0] = x[i] > m[0] ? x[i] : m[0];
    }
    *max = m[0];
    for (int j = 0; j < LANES; j++) {
        any |= bad[j];
        *max = m[j] > *max ? m[j] : *max;
    }
    return !any && *max >= -FLT_MAX;
}

INLINE int above(const float *x, int n, int from, float limit)
{
    int i = from;
    for (; i + LANES <= n; i += LANES) {
        int32_t any = 0;
        for (int j = 0; j < LANES; j++) any |= x[i + j] > limit;
        if (any) break;
    }
    while (i < n && !(x[i] > limit)) i++;
    return i;
}

INLINE double block_sum(const float *w, int n)
{
    double sum[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) sum[j] += w[i + j];
    for (; i < n; i++) sum[i % LANES] += w[i];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) sum[j] += sum[j + half];
    return sum[0];
}

/* What differences are multiplied by; never infinite, as the largest value's is 0. */
INLINE float coldness(float t)
{
    return 1 / t < FLT_MAX ? 1 / t : FLT_MAX;
}

INLINE double weigh(const float *x, int n, float max, float t, float *w)
{
    const float cold = coldness(t);
    double total = 0;
    for (int at = 0; at < n; at += BLOCK) {
        float own[BLOCK];
        const int m = least(n - at, BLOCK);
        float *const y = w ? w + at : own;
        int i = 0;
        for (; i + LANES <= m; i += LANES) {
            float d[LANES];
            for (int j = 0; j < LANES; j++) d[j] = (x[at + i + j] - max) * cold;
            for (int j = 0; j < LANES; j++) y[i + j] = weight(d[j]);
        }
        for (; i < m; i++) y[i] = weight((x[at + i] - max) * cold);
        total += block_sum(y, m);
    }
    return total;
}

INLINE double sum_of(const float *w, int n)
{
    double total = 0;
    for (int at = 0; at < n; at += BLOCK) total += block_sum(w + at, least(n - at, BLOCK));
    return total;
}

/* The block first, then the place in it, one after the other. */
INLINE int find(const float *w, int n, double limit)
{
    double total = 0;
    int last = 0, at = 0;
    for (; at < n; at += BLOCK) {
        const double block = block_sum(w + at, least(n - at, BLOCK));
        if (block > 0) last = at;
        if (total + block > limit) break;
        total += block;
    }
    if (at >= n) total = -INFINITY; /* the last one */
    const int end = last + least(n - last, BLOCK);
    int place = last;
    for (int i = last; i < end; i++) {
        if (w[i] == 0) continue;
        place = i;
        total += w[i];
        if (total > limit) break;
    }
    return place;
}

/* Each loop three times over. */
#if defined(__x86_64__) && defined(__GNUC__)
#define WIDE(result, name, body, params, args)                                                     \
    __attribute__((target("avx512f"))) static result body##_avx512 params                          \
    {                                                                                              \
        return body args;                                                                          \
    }                                                                                              \
    __attribute__((target("avx2"))) static result body##_avx2 params                               \
    {                                                                                              \
        return body args;                                                                          \
    }                                                                                              \
    result name params                                                                             \
    {                                                                                              \
        if (__builtin_cpu_supports("avx512f")) return body##_avx512 args;                          \
        if (__builtin_cpu_supports("avx2")) return body##_avx2 args;                               \
        return body args;                                                                          \
    }
#else
#define WIDE(result, name, body, params, args)                                                     \
    result name params                                                                             \
    {                                                                                              \
        return body args;                                                                          \
    }
#endif

WIDE(bool, ftk_row_max, max_of, (const float *x, int n, float *max), (x, n, max))
WIDE(int, ftk_row_above, above, (const float *x, int n, int from, float limit), (x, n, from, limit))
WIDE(double, ftk_row_weigh, weigh, (const float *x, int n, float max, float t, float *w),
     (x, n, max, t, w))
WIDE(double, ftk_row_sum, sum_of, (const float *w, int n), (w, n))
WIDE(int, ftk_row_find, find, (const float *w, int n, double at), (w, n, at))

float ftk_row_weight(float x, float max, float t)
{
    return weight((x - max) * coldness(t));
}
