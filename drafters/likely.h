/* SPDX-License-Identifier: Apache-2.0
 *
 * The likeliest tokens of a row of logits, each with the size of its probability: a bin. What a
 * guess of such a size is worth is measured (acceptance.h). */
#ifndef FTK_LIKELY_H
#define FTK_LIKELY_H

#include <stdint.h>
#include <string.h>

#include "base/target.h"

struct ftk_rows;

enum {
    FTK_LIKELY_BINS = FTK_HEAD_BINS,
    FTK_LIKELY = 10, /* guesses a row of logits gives, at most */
};

/* The `most` (up to FTK_LIKELY) largest of n logits, largest first, and the bin of each one's
 * probability. Returns how many: none where a logit is NaN or the largest is infinite. */
int ftk_likely(const float *logits, int n, int most, int32_t *best, int8_t *bin);
/* The same of a row of n logits, whether there are the logits or what a device says of them. */
int ftk_rows_likely(const struct ftk_rows *rows, int row, int n, int most, int32_t *best,
                    int8_t *bin);
int8_t ftk_likely_bin(float p);
/* A probability belongs to the first bin whose bound is not above it, or to the last one. */
extern const float ftk_likely_bounds[FTK_LIKELY_BINS - 1];
/* What a probability of that bin means as long as nothing was measured. */
float ftk_likely_prior(int bin);
/* e^x to 1e-5 of it for x <= 0, below -80 as there, in a form that compilers turn into vector code;
 * what is no number counts as -80. */
static inline float ftk_exp_below(float x)
{
    const float limited = x > -80 ? x : -80;
    const float n = (float)(int)(limited * 1.44269504f - 0.5f);
    const float r = limited - n * 0.693147181f;
    const float p = 1 + r * (1 + r * (0.5f + r * (0.1666667f + r * (0.0416667f + r * 0.0083333f))));
    const uint32_t bits = (uint32_t)((int)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

#endif
