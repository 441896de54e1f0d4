/* SPDX-License-Identifier: Apache-2.0
 * What a drafter's own work takes. */
#include "drafters/took.h"

static const double smooth = 0.2;
static const double most = 4;    /* times as long as usual: another program had the core */
static const double fade = 0.01; /* of what is believed, in the time of a plain step */

/* Seconds of a pass over one row, but for its first layer. */
static double pass(const ftk_target *t)
{
    return t->seconds(t->ctx, 1, 1);
}

void ftk_took_see(double *took, const ftk_target *t, int n, double seconds)
{
    if (n < 1) return;
    double *const usual = &took[n], passes = seconds / pass(t);
    if (*usual == 0) *usual = passes;
    if (passes > most * *usual) passes = most * *usual;
    *usual += smooth * (passes - *usual);
    took[0] = 0;
}

double ftk_took_of(const double *took, const ftk_target *t, int n, int fixed)
{
    int near = n;
    if (n < 1) return 0;
    while (near > 1 && took[near] == 0) near--;
    return (1 - took[0]) * took[near] * (n + fixed) / (near + fixed) * pass(t);
}

void ftk_took_doubt(double *took, const ftk_target *t)
{
    const double part = t->seconds(t->ctx, 0, 1) / pass(t);
    took[0] += (1 - took[0]) * fade * (part < 1 ? part : 1);
}
