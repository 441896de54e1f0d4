/* SPDX-License-Identifier: Apache-2.0
 * How far a forecast is off. */
#ifndef FTK_DIT_ERROR_H
#define FTK_DIT_ERROR_H

#include "foretoken_diffusion.h"

/* Of y[n] against the computed x[n], both made of before[n]; see ftk_cache_metric. Not finite
 * where an input is not. */
double ftk_forecast_error(ftk_cache_metric metric, size_t n, const float *y, const float *x,
                          const float *before);

#endif
