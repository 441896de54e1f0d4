/* SPDX-License-Identifier: Apache-2.0
 * How far a forecast is off, as the CPU and the GPU sum it up: see ftk_cache_metric. */
#ifndef FTK_OFFBY_H
#define FTK_OFFBY_H

#include <math.h>

#include "foretoken_diffusion.h"

#if defined(__CUDACC__)
#define FTK_ANYWHERE static __host__ __device__ inline
#else
#define FTK_ANYWHERE static inline
#endif

/* What a metric is made of. */
typedef struct ftk_offby {
    double a, b, c;
} ftk_offby;

#define FTK_OFFBY_TINY 1e-10 /* below what a state's numbers are, but 0 */

/* One number: y by the forecast, x computed, both made of `before`. */
FTK_ANYWHERE void ftk_offby_add(ftk_cache_metric metric, double y, double x, double before,
                                ftk_offby *s)
{
    const double d = y - x;
    switch (metric) {
    case FTK_METRIC_REL_L2:
    case FTK_METRIC_L2:
        s->a += d * d;
        s->b += x * x;
        break;
    case FTK_METRIC_UPDATE:
        s->a += d * d;
        s->b += (x - before) * (x - before);
        break;
    case FTK_METRIC_RELEASED_L1: s->a += fabs(d) / (fabs(x) + FTK_OFFBY_TINY); break;
    case FTK_METRIC_RELEASED_L2: {
        const double r = d / (fabs(x) + FTK_OFFBY_TINY);
        s->a += r * r;
        break;
    }
    case FTK_METRIC_L1: s->a += fabs(d); break;
    case FTK_METRIC_COSINE:
        s->a += x * y;
        s->b += x * x;
        s->c += y * y;
        break;
    case FTK_N_METRICS: break;
    }
}

#endif
