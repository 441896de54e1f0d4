/* SPDX-License-Identifier: Apache-2.0
 *
 * What a drafter's own work takes, as measured: heads for some rows, rows of a small model, layers
 * that a policy leaves. One rule for all: time by the number of rows, in passes of the model over
 * one row, so that it holds when other programs slow the machine down; smoothed, and believed a
 * little less the longer it has kept a drafter from that work, until that is tried again. */
#ifndef FTK_TOOK_H
#define FTK_TOOK_H

#include "base/target.h"

/* took[n] for n rows; 0: not known. took[0]: how far these are doubted. n rows took so long. */
void ftk_took_see(double *took, const ftk_target *t, int n, double seconds);
/* Seconds of n rows: of a number not seen yet by the next smaller one that was, where as many as
 * `fixed` rows take no time of their own. 0: nothing is known. */
double ftk_took_of(const double *took, const ftk_target *t, int n, int fixed);
/* It kept the drafter from its work in a step of a session. */
void ftk_took_doubt(double *took, const ftk_target *t);

/* Seconds that a token takes without a draft of one's own, at the pace of late. */
static inline double ftk_target_token(const ftk_target *t)
{
    return t->seconds(t->ctx, 0, 1) / t->pace(t->ctx);
}

#endif
