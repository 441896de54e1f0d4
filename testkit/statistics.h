/* SPDX-License-Identifier: Apache-2.0
 * What the tests of random choices share. */
#ifndef FTK_TESTKIT_STATISTICS_H
#define FTK_TESTKIT_STATISTICS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline uint32_t next_random(uint64_t *r)
{
    *r = *r * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*r >> 33);
}

/* Roughly normal, mean 0, spread 1. */
static inline float next_normal(uint64_t *r)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += next_random(r) / 2147483648.0;
    return (float)sum;
}

/* Whether counts fit the probabilities p of n outcomes: Pearson's chi-square against its value at
 * 4.5 standard deviations (Wilson and Hilferty). Outcomes expected less than 5 times are pooled;
 * an impossible one that came is a misfit. */
static inline bool chi_square_fits(const size_t *counts, const double *p, int n)
{
    double total = 0, chi = 0, pooled = 0, pooled_seen = 0;
    int df = -1;
    for (int i = 0; i < n; i++) total += (double)counts[i];
    for (int i = 0; i < n; i++) {
        const double want = total * p[i], seen = (double)counts[i];
        if (want == 0 && seen > 0) return false;
        if (want < 5) {
            pooled += want;
            pooled_seen += seen;
        } else {
            chi += (seen - want) * (seen - want) / want;
            df++;
        }
    }
    if (pooled >= 5) {
        chi += (pooled_seen - pooled) * (pooled_seen - pooled) / pooled;
        df++;
    }
    if (df < 1) return true;
    const double v = 2.0 / (9.0 * df);
    return chi <= df * pow(1 - v + 4.5 * sqrt(v), 3);
}

#endif
