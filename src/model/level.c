/* SPDX-License-Identifier: Apache-2.0 */
#include "level.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum { N_OUT = 256, MOST_ROWS = 64, TRIES = 5 };

typedef struct trial {
    const ftk_kernels *k;
    ftk_mat w;
    void *act;
    size_t stride;
    float *y;
} trial;

/* Seconds, the best of some tries. */
static double product(const trial *t, int rows)
{
    double best = INFINITY;
    for (int i = 0; i < TRIES; i++) {
        const double start = ftk_now();
        t->k->matmul(&t->w, t->act, t->stride, rows, 0, N_OUT, t->y, N_OUT);
        const double seconds = ftk_now() - start;
        best = seconds < best ? seconds : best;
    }
    return best;
}

/* The logarithm of the mean time of a product, geometric over the numbers of rows; NaN without
 * memory. */
static double log_time(const ftk_kernels *k, ftk_type type, int n_in, const ftk_host *h)
{
    static const int rows[] = {4, 16, MOST_ROWS};
    enum { N_ROWS = sizeof rows / sizeof rows[0] };
    const size_t bytes = ftk_type_bytes(type, (size_t)n_in) * N_OUT;
    const size_t packed = k->pack_bytes(type, N_OUT, n_in);
    trial t = {.k = k, .w = {.type = type, .n_out = N_OUT, .n_in = n_in}};
    t.stride = k->act_bytes(type, n_in);
    void *const file = ftk_alloc(h, bytes, 1);
    void *const data = ftk_alloc_raw(h, packed ? packed : 1, 1);
    float *const x = ftk_alloc(h, (size_t)n_in, sizeof *x);
    t.act = ftk_alloc_raw(h, MOST_ROWS, t.stride);
    t.y = ftk_alloc_raw(h, (size_t)MOST_ROWS * N_OUT, sizeof *t.y);
    double sum = NAN;
    if (file && data && x && t.act && t.y) {
        if (packed) k->pack(type, N_OUT, n_in, file, data);
        t.w.data = packed ? data : file;
        for (int r = 0; r < MOST_ROWS; r++)
            k->act_pack(type, n_in, x, (char *)t.act + (size_t)r * t.stride);
        sum = 0;
        for (int i = 0; i < N_ROWS; i++) sum += log(product(&t, rows[i])) / N_ROWS;
    }
    void *const all[] = {file, data, x, t.act, t.y};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ftk_release(h, all[i]);
    return sum;
}

ftk_err ftk_level_choose(ftk_kernels *k, ftk_type type, int n_in, const ftk_host *h)
{
    static const double clearly = 0.25; /* more than other programs do to the best of some tries */
    ftk_kernels below;
    if (strcmp(k->name, "amx") != 0 || !ftk_kernels_fill(&below, "avx512")) return FTK_OK;
    const double amx = log_time(k, type, n_in, h), other = log_time(&below, type, n_in, h);
    if (isnan(amx) || isnan(other))
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory to try the kernels' levels");
    if (other + clearly < amx) *k = below;
    return FTK_OK;
}
