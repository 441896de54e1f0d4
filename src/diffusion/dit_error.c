/* SPDX-License-Identifier: Apache-2.0
 * How far a forecast is off: one pass over the numbers, in eight lanes so that it is not one long
 * chain of sums. */
#include "dit_error.h"

enum { LANES = 8 };

static double total(const double *lane)
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

double ftk_offby_error(ftk_cache_metric metric, size_t n, const ftk_offby *s)
{
    switch (metric) {
    case FTK_METRIC_REL_L2:
    case FTK_METRIC_UPDATE: return sqrt(s->a) / (sqrt(s->b) + FTK_OFFBY_TINY);
    case FTK_METRIC_L2:
    case FTK_METRIC_RELEASED_L2: return sqrt(s->a / (double)n);
    case FTK_METRIC_RELEASED_L1:
    case FTK_METRIC_L1: return s->a / (double)n;
    case FTK_METRIC_COSINE: return 1 - s->a / (sqrt(s->b) * sqrt(s->c) + FTK_OFFBY_TINY);
    case FTK_N_METRICS: break;
    }
    return NAN;
}

double ftk_forecast_error(ftk_cache_metric metric, size_t n, const float *y, const float *x,
                          const float *before)
{
    double a[LANES] = {0}, b[LANES] = {0}, c[LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        const size_t lane = i % LANES;
        ftk_offby s = {a[lane], b[lane], c[lane]};
        ftk_offby_add(metric, (double)y[i], (double)x[i], (double)before[i], &s);
        a[lane] = s.a;
        b[lane] = s.b;
        c[lane] = s.c;
    }
    const ftk_offby all = {total(a), total(b), total(c)};
    return ftk_offby_error(metric, n, &all);
}
