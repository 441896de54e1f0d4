/* SPDX-License-Identifier: Apache-2.0
 * How far a forecast is off: one pass over the numbers, in eight lanes so that it is not one long
 * chain of sums. */
#include "dit_error.h"

#include <math.h>

enum { LANES = 8 };
static const double tiny = 1e-10; /* below what a state's numbers are, but 0 */

typedef struct sums {
    double a[LANES], b[LANES], c[LANES];
} sums;

static void add(ftk_cache_metric metric, double y, double x, double before, sums *s, size_t lane)
{
    const double d = y - x;
    switch (metric) {
    case FTK_METRIC_REL_L2:
    case FTK_METRIC_L2:
        s->a[lane] += d * d;
        s->b[lane] += x * x;
        break;
    case FTK_METRIC_UPDATE:
        s->a[lane] += d * d;
        s->b[lane] += (x - before) * (x - before);
        break;
    case FTK_METRIC_RELEASED_L1: s->a[lane] += fabs(d) / (fabs(x) + tiny); break;
    case FTK_METRIC_RELEASED_L2: {
        const double r = d / (fabs(x) + tiny);
        s->a[lane] += r * r;
        break;
    }
    case FTK_METRIC_L1: s->a[lane] += fabs(d); break;
    case FTK_METRIC_COSINE:
        s->a[lane] += x * y;
        s->b[lane] += x * x;
        s->c[lane] += y * y;
        break;
    case FTK_N_METRICS: break;
    }
}

static double total(const double *lane)
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

double ftk_forecast_error(ftk_cache_metric metric, size_t n, const float *y, const float *x,
                          const float *before)
{
    sums s = {0};
    for (size_t i = 0; i < n; i++)
        add(metric, (double)y[i], (double)x[i], (double)before[i], &s, i % LANES);
    const double a = total(s.a), b = total(s.b), c = total(s.c);
    switch (metric) {
    case FTK_METRIC_REL_L2:
    case FTK_METRIC_UPDATE: return sqrt(a) / (sqrt(b) + tiny);
    case FTK_METRIC_L2:
    case FTK_METRIC_RELEASED_L2: return sqrt(a / (double)n);
    case FTK_METRIC_RELEASED_L1:
    case FTK_METRIC_L1: return a / (double)n;
    case FTK_METRIC_COSINE: return 1 - a / (sqrt(b) * sqrt(c) + tiny);
    case FTK_N_METRICS: break;
    }
    return NAN;
}
