/* SPDX-License-Identifier: Apache-2.0
 * What is left of a distribution when proposals from another one were rejected. */
#ifndef FTK_RESIDUAL_H
#define FTK_RESIDUAL_H

#include "base/sampler.h"

/* Token y has the weight max(0, w[y] - cut * q[y]). One pair of q and cut is enough for any number
 * of rejections, as siblings share their q: max(0, max(0, w - a q) - b q) = max(0, w - (a + b) q).
 * Sums and shares are doubles, and w is never rounded again. */
typedef struct ftk_residual {
    int n;          /* n_vocab */
    float *w;       /* the sampler's work copy; what was rejected has 0 */
    const float *q; /* what rejected tokens were drawn from; NULL: none was drawn */
    double cut;
    double total; /* of the weights that are left */
} ftk_residual;

/* Takes the place of random numbers where a verifier makes a choice. For tests: they walk through
 * all outcomes with it. */
typedef struct ftk_chance {
    void *ctx;
    bool (*accept)(void *ctx, double p); /* only asked for 0 < p < 1 */
    int32_t (*draw)(void *ctx, const ftk_residual *r);
} ftk_chance;

double ftk_residual_weight(const ftk_residual *r, int32_t token);
/* The share of all weight that a token has; 0 where nothing is left. */
double ftk_residual_share(const ftk_residual *r, int32_t token);

/* Takes out what a rejected proposal stood for, given that the node whose children these are is
 * itself accepted with probability a > 0; returns the probability with which it is now. With a = 1
 * that is 1, and where rounding left nothing, the residual stays as it was. q NULL: the token was
 * chosen; else the sum of q over the tokens that could be drawn is `rest`. */
double ftk_residual_reject(ftk_residual *r, int32_t token, const float *q, double rest, double a);

/* The token at u in [0, 1). */
int32_t ftk_residual_draw(const ftk_residual *r, double u);

#endif
