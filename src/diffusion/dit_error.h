/* SPDX-License-Identifier: Apache-2.0
 * How far a forecast is off. */
#ifndef FTK_DIT_ERROR_H
#define FTK_DIT_ERROR_H

#include "kernels/offby.h"

/* Of y[n] against the computed x[n], both made of before[n]; see ftk_cache_metric. Not finite
 * where an input is not. */
double ftk_forecast_error(ftk_cache_metric metric, size_t n, const float *y, const float *x,
                          const float *before);
/* The same of sums over all n. */
double ftk_offby_error(ftk_cache_metric metric, size_t n, const ftk_offby *s);

#endif
