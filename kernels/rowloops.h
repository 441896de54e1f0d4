/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries that are plain loops over a row. Each level includes them and so compiles them for its
 * own instructions; as sums are kept in a fixed number of lanes, the bits are the same at every
 * level. */
#ifndef FTK_ROWLOOPS_H
#define FTK_ROWLOOPS_H

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/vector.h"

enum { ROW_LANES = 16 };

static inline double row_sum_lanes(const double *s)
{
    double half[ROW_LANES / 2];
    for (int l = 0; l < ROW_LANES / 2; l++) half[l] = s[l] + s[l + ROW_LANES / 2];
    return ((half[0] + half[4]) + (half[2] + half[6])) +
           ((half[1] + half[5]) + (half[3] + half[7]));
}

/* Of x - mean, or of its squares. */
static inline double row_sum(int n, const float *x, double mean, bool square)
{
    double s[ROW_LANES] = {0};
    int i = 0;
    for (; i + ROW_LANES <= n; i += ROW_LANES) {
        for (int l = 0; l < ROW_LANES; l++) {
            const double d = (double)x[i + l] - mean;
            s[l] += square ? d * d : d;
        }
    }
    for (int l = 0; i + l < n; l++) {
        const double d = (double)x[i + l] - mean;
        s[l] += square ? d * d : d;
    }
    return row_sum_lanes(s);
}

/* Sums are in double, for the same reason as in rms_norm. */
static void layer_norm_rows(int n, const float *x, const float *w, const float *b, float eps,
                            float *y)
{
    const double mean = row_sum(n, x, 0, false) / n;
    const double scale = 1.0 / sqrt(row_sum(n, x, mean, true) / n + (double)eps);
    for (int i = 0; i < n; i++) y[i] = (float)(((double)x[i] - mean) * scale) * w[i] + b[i];
}

/* With `order` known to the compiler, which then takes many elements at once. */
INLINE void add_series(int n, int order, const float *restrict d, const float *restrict c,
                       const float *restrict gate, float *restrict x)
{
    const size_t stride = (size_t)n;
    for (int i = 0; i < n; i++) {
        float v = d[i];
        for (int o = 1; o <= order; o++) v += c[o] * d[(size_t)o * stride + (size_t)i];
        x[i] += gate[i] * v;
    }
}

INLINE void renew_differences(int n, int order, const float *restrict f, float step,
                              float *restrict d)
{
    const size_t stride = (size_t)n;
    for (int i = 0; i < n; i++) {
        float v = f[i];
        for (int o = 0; o < order; o++) {
            const float old = d[(size_t)o * stride + (size_t)i];
            d[(size_t)o * stride + (size_t)i] = v;
            v = (v - old) / step;
        }
        d[(size_t)order * stride + (size_t)i] = v;
    }
}

static void gated_add_rows(int n, int order, const float *d, const float *c, const float *gate,
                           float *x)
{
    switch (order) {
    case 0: add_series(n, 0, d, c, gate, x); break;
    case 1: add_series(n, 1, d, c, gate, x); break;
    case 2: add_series(n, 2, d, c, gate, x); break;
    case 3: add_series(n, 3, d, c, gate, x); break;
    case 4: add_series(n, 4, d, c, gate, x); break;
    default: add_series(n, order, d, c, gate, x);
    }
}

static void differences_rows(int n, int order, const float *f, float step, float *d)
{
    switch (order) {
    case 0: memcpy(d, f, (size_t)n * sizeof *d); break;
    case 1: renew_differences(n, 1, f, step, d); break;
    case 2: renew_differences(n, 2, f, step, d); break;
    case 3: renew_differences(n, 3, f, step, d); break;
    case 4: renew_differences(n, 4, f, step, d); break;
    default: renew_differences(n, order, f, step, d);
    }
}

static inline void fill_rowloops(ftk_kernels *k)
{
    k->layer_norm = layer_norm_rows;
    k->gated_add = gated_add_rows;
    k->differences = differences_rows;
}

#endif
