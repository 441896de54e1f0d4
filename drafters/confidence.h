/* SPDX-License-Identifier: Apache-2.0
 *
 * Confidence of a source's rows: what running one is expected to bring. Its best choice may not be
 * worth verifying on average, and still be where the row is sure of it. So what is kept is how
 * often a best choice has a probability of which size (likely.h); how often choices of that size
 * are right is what the source's guesses have rates of. An average alone, once low, would stay so:
 * rows that are not run cannot show that they are better. */
#ifndef FTK_CONFIDENCE_H
#define FTK_CONFIDENCE_H

#include "drafters/acceptance.h"
#include "drafters/likely.h"

typedef struct ftk_confidence {
    ftk_rate share[FTK_LIKELY_BINS]; /* of rows: those whose best choice is of that size */
} ftk_confidence;

void ftk_confidence_init(ftk_confidence *c);
/* A row's best choice was of this size. */
void ftk_confidence_see(ftk_confidence *c, int bin);
/* How often the best choice of such a row is right; right[FTK_LIKELY_BINS]: by its size. */
double ftk_confidence_right(const ftk_confidence *c, const ftk_rate *right);
/* Seconds that a row saves by naming what follows a place which the text comes by with probability
 * `reached`, where a token takes `token` seconds without it, less `verify` seconds for each choice
 * that is worth them. */
double ftk_confidence_saves(const ftk_confidence *c, const ftk_rate *right, double reached,
                            double token, double verify);

#endif
