/* SPDX-License-Identifier: Apache-2.0
 *
 * Loops over a row of logits, which is as long as the vocabulary: compiled for wide vectors too,
 * and run with the widest that the processor has. All give the same bits: sums are made in lanes,
 * whose number is the same everywhere, and nothing is fused. */
#ifndef FTK_ROW_H
#define FTK_ROW_H

#include <stdbool.h>

/* The largest of n >= 1 values; false where one is NaN or +Inf, or all are -Inf. */
bool ftk_row_max(const float *x, int n, float *max);
/* The first index from `from` on whose value is above the limit; n: there is none. */
int ftk_row_above(const float *x, int n, int from, float limit);
/* w[i] = e^((x[i] - max) / t), t > 0, to 2e-7 of it; 0 where the exponent is not above -80, which
 * is lost in any sum. Returns ftk_row_sum() of them. w may be x, or NULL: the sum alone. */
double ftk_row_weigh(const float *x, int n, float max, float t, float *w);
/* Of one value what ftk_row_weigh() makes of each. */
float ftk_row_weight(float x, float max, float t);
double ftk_row_sum(const float *w, int n);
/* Where the sum of weights, which are not negative, gets above `at`; at the latest at the last that
 * is not 0. */
int ftk_row_find(const float *w, int n, double at);

#endif
