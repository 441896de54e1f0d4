/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries that are plain loops over a row. Each level includes them and so compiles them for its own
 * instructions; as sums are kept in a fixed number of lanes, the bits are the same at every level. */
#ifndef FTK_ROWLOOPS_H
#define FTK_ROWLOOPS_H

#include <math.h>

#include "kernels/kernels.h"

enum { ROW_LANES = 16, ROW_ORDERS = 8 };

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

static void gated_add_rows(int n, int order, const float *d, const float *c, const float *gate,
                           float *x)
{
    const size_t stride = (size_t)n;
    int i = 0;
    for (; i + ROW_LANES <= n; i += ROW_LANES) {
        float v[ROW_LANES];
        for (int l = 0; l < ROW_LANES; l++) v[l] = d[i + l];
        for (int o = 1; o <= order; o++)
            for (int l = 0; l < ROW_LANES; l++)
                v[l] += c[o] * d[(size_t)o * stride + (size_t)(i + l)];
        for (int l = 0; l < ROW_LANES; l++) x[i + l] += gate[i + l] * v[l];
    }
    for (; i < n; i++) {
        float v = d[i];
        for (int o = 1; o <= order; o++) v += c[o] * d[(size_t)o * stride + (size_t)i];
        x[i] += gate[i] * v;
    }
}

static void differences_rows(int n, int order, const float *f, float step, float *d)
{
    const size_t stride = (size_t)n;
    for (int i = 0; i < n; i++) {
        float v = f[i];
        for (int o = 0; o < order; o++) {
            float *const at = d + (size_t)o * stride + (size_t)i;
            const float old = *at;
            *at = v;
            v = (v - old) / step;
        }
        d[(size_t)order * stride + (size_t)i] = v;
    }
}

static inline void fill_rowloops(ftk_kernels *k)
{
    k->layer_norm = layer_norm_rows;
    k->gated_add = gated_add_rows;
    k->differences = differences_rows;
}

#endif
