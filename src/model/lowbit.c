/* SPDX-License-Identifier: Apache-2.0
 * Layers in few bits. */
#include "lowbit.h"

#include <math.h>

#include "base/mem.h"
#include "base/team.h"
#include "kernels/blocks.h"

static size_t row_bytes(ftk_type type, const ftk_mat *w)
{
    return ftk_type_bytes(type, (size_t)w->n_in);
}

bool ftk_lowbit_gains(const ftk_mat *w)
{
    return w->n_in % FTK_QBLOCK == 0 && row_bytes(FTK_TYPE_Q4_0, w) < row_bytes(w->type, w);
}

size_t ftk_lowbit_bytes(const ftk_mat *w)
{
    return row_bytes(FTK_TYPE_Q4_0, w) * (size_t)w->n_out;
}

/* Bytes of the copy: packed, or as in a file where the level reads that. */
static size_t copy_bytes(const ftk_model *m, const ftk_mat *w)
{
    const size_t packed = m->kernels.pack_bytes(FTK_TYPE_Q4_0, w->n_out, w->n_in);
    return ((packed > 0 ? packed : ftk_lowbit_bytes(w)) + 63) / 64 * 64;
}

/* The number of the largest magnitude becomes -8 steps, and the others the nearest of 16. */
static void quantise_block(const float *x, ftk_q4_0 *b)
{
    float top = 0;
    for (int i = 0; i < FTK_QBLOCK; i++)
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    const float d = top / -8, inverse = d != 0 ? 1 / d : 0;
    b->d = ftk_f32_f16(d);
    for (int i = 0; i < FTK_QBLOCK / 2; i++) {
        const int low = (int)(x[i] * inverse + 8.5f);
        const int high = (int)(x[i + FTK_QBLOCK / 2] * inverse + 8.5f);
        b->q[i] = (uint8_t)((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
    }
}

static void quantise_row(const ftk_model *m, const ftk_mat *w, const char *in, ftk_q4_0 *out)
{
    float x[FTK_QUNIT];
    for (int i = 0; i < w->n_in; i += FTK_QUNIT) {
        const int n = w->n_in - i < FTK_QUNIT ? w->n_in - i : FTK_QUNIT;
        m->kernels.dequant_row(w->type, n, in + ftk_type_bytes(w->type, (size_t)i), x);
        for (int k = 0; k < n; k += FTK_QBLOCK) quantise_block(x + k, out++);
    }
}

typedef struct quantising {
    const ftk_model *m;
    const ftk_mat *w;
    ftk_q4_0 *out;
} quantising;

static void quantise_share(void *ctx, int ith, int nth)
{
    const quantising *const q = ctx;
    const ftk_mat *const w = q->w;
    const ftk_range own = ftk_team_share(ith, nth, w->n_out, 1);
    for (int r = own.begin; r < own.end; r++)
        quantise_row(q->m, w, (const char *)w->file + (size_t)r * row_bytes(w->type, w),
                     q->out + (size_t)r * (size_t)(w->n_in / FTK_QBLOCK));
}

void ftk_lowbit_quantise(const ftk_model *m, const ftk_mat *w, void *out)
{
    quantising q = {m, w, out};
    ftk_team_run_once(quantise_share, &q, &m->host);
}

/* Makes the copy of one matrix at `at`; returns where the next one goes. */
static char *copy(const ftk_model *m, ftk_mat *w, char *work, char *at)
{
    const bool packs = m->kernels.pack_bytes(FTK_TYPE_Q4_0, w->n_out, w->n_in) > 0;
    const size_t n = copy_bytes(m, w);
    ftk_lowbit_quantise(m, w, packs ? work : at);
    if (packs) m->kernels.pack(FTK_TYPE_Q4_0, w->n_out, w->n_in, work, at);
    *w = (ftk_mat){
        .type = FTK_TYPE_Q4_0, .n_out = w->n_out, .n_in = w->n_in, .data = at, .cached = w->cached};
    return at + n;
}

/* largest: bytes of the largest matrix, as it is made. */
static size_t measure(const ftk_model *m, size_t *largest)
{
    size_t bytes = 0;
    *largest = 0;
    for (int i = 0; i < m->hp.n_layer; i++)
        for (int j = 0; j < FTK_LAYER_MATS; j++) {
            const ftk_mat *const w = ftk_layer_mat(&m->layers[i], j);
            if (!ftk_lowbit_gains(w)) continue;
            bytes += copy_bytes(m, w);
            if (ftk_lowbit_bytes(w) > *largest) *largest = ftk_lowbit_bytes(w);
        }
    return bytes;
}

size_t ftk_lowbit_size(const ftk_model *m)
{
    size_t largest;
    return measure(m, &largest);
}

ftk_err ftk_lowbit_open(ftk_lowbit *low, const ftk_model *m)
{
    const ftk_host *h = &m->host;
    const size_t n_layer = (size_t)m->hp.n_layer;
    size_t largest;
    const size_t bytes = measure(m, &largest);
    *low = (ftk_lowbit){.layers = ftk_alloc(h, n_layer, sizeof *low->layers),
                        .data = ftk_alloc_raw(h, bytes, 1)};
    char *work = ftk_alloc_raw(h, largest, 1), *at = low->data;
    const bool fits = low->layers && low->data && work;
    for (size_t i = 0; fits && i < n_layer; i++) {
        low->layers[i] = m->layers[i];
        for (int j = 0; j < FTK_LAYER_MATS; j++) {
            ftk_mat *const w = ftk_layer_mat(&low->layers[i], j);
            if (ftk_lowbit_gains(w)) at = copy(m, w, work, at);
        }
    }
    ftk_release(h, work);
    if (fits) return FTK_OK;
    ftk_lowbit_close(low, h);
    return FTK_ERR_NOMEM;
}

void ftk_lowbit_close(ftk_lowbit *low, const ftk_host *host)
{
    ftk_release(host, low->data);
    ftk_release(host, low->layers);
    *low = (ftk_lowbit){0};
}
