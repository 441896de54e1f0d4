/* SPDX-License-Identifier: Apache-2.0
 * What a drafter's own work takes. */
#include "drafters/took.h"

static const double smooth = 0.2;
static const double most = 4;    /* times as long as usual: another program had the core */
static const double fade = 0.01; /* of what is believed, in the time of a plain step */

void ftk_took_see(double *took, int n, double seconds)
{
    double *const usual = &took[n];
    if (n < 1) return;
    if (*usual == 0) *usual = seconds;
    if (seconds > most * *usual) seconds = most * *usual;
    *usual += smooth * (seconds - *usual);
    took[0] = 0;
}

double ftk_took_of(const double *took, int n, int fixed)
{
    int near = n;
    if (n < 1) return 0;
    while (near > 1 && took[near] == 0) near--;
    return (1 - took[0]) * took[near] * (n + fixed) / (near + fixed);
}

void ftk_took_doubt(double *took, const ftk_target *t)
{
    const double part = t->seconds(t->ctx, 0, 1) / t->seconds(t->ctx, 1, 1);
    took[0] += (1 - took[0]) * fade * (part < 1 ? part : 1);
}
