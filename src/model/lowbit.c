/* SPDX-License-Identifier: Apache-2.0
 * Layers in few bits. */
#include "lowbit.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/blocks.h"

enum { MATS = 7 };

static void mats_of(ftk_layer *l, ftk_mat *mats[MATS])
{
    ftk_mat *const all[MATS] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    memcpy(mats, all, sizeof all);
}

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

void ftk_lowbit_quantise(const ftk_model *m, const ftk_mat *w, void *out)
{
#ifdef _OPENMP
#pragma omp parallel for schedule(static)
#endif
    for (int r = 0; r < w->n_out; r++)
        quantise_row(m, w, (const char *)w->file + (size_t)r * row_bytes(w->type, w),
                     (ftk_q4_0 *)out + (size_t)r * (size_t)(w->n_in / FTK_QBLOCK));
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

ftk_err ftk_lowbit_open(ftk_lowbit *low, const ftk_model *m)
{
    const ftk_host *h = &m->host;
    const size_t n_layer = (size_t)m->hp.n_layer;
    *low = (ftk_lowbit){.layers = ftk_alloc(h, n_layer, sizeof *low->layers)};
    ftk_mat *mats[MATS];
    size_t bytes = 0, largest = 0;
    for (size_t i = 0; low->layers && i < n_layer; i++) {
        low->layers[i] = m->layers[i];
        mats_of(&low->layers[i], mats);
        for (int j = 0; j < MATS; j++) {
            if (!ftk_lowbit_gains(mats[j])) continue;
            bytes += copy_bytes(m, mats[j]);
            largest = ftk_lowbit_bytes(mats[j]) > largest ? ftk_lowbit_bytes(mats[j]) : largest;
        }
    }
    low->data = ftk_alloc_raw(h, bytes, 1);
    char *work = ftk_alloc_raw(h, largest, 1), *at = low->data;
    const bool fits = low->layers && low->data && work;
    for (size_t i = 0; fits && i < n_layer; i++) {
        mats_of(&low->layers[i], mats);
        for (int j = 0; j < MATS; j++)
            if (ftk_lowbit_gains(mats[j])) at = copy(m, mats[j], work, at);
    }
    ftk_release(h, work);
    if (fits) return FTK_OK;
    ftk_lowbit_close(low, h);
    return ftk_fail(h, FTK_ERR_NOMEM, "needs %zu MiB for the layers in few bits", bytes >> 20);
}

void ftk_lowbit_close(ftk_lowbit *low, const ftk_host *host)
{
    ftk_release(host, low->data);
    ftk_release(host, low->layers);
    *low = (ftk_lowbit){0};
}
