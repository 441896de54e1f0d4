/* SPDX-License-Identifier: Apache-2.0
 *
 * Products with drafters' matrices on a GPU, between the passes. They take the pass's work space, which
 * is nobody's then, and copies go by the stage; each call waits once. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "device_cuda.h"

enum { AT_ONCE = 32 }; /* rows of a product */

/* ---- matrices */

void ftk_gpu_free_drafters(ftk_gpu *c)
{
    for (ftk_gpu_drafter *f = c->drafters, *next; f; f = next) {
        next = f->next;
        ftk_cuda_free(&c->q, f->arena);
        ftk_release(&c->host, f);
    }
    c->drafters = NULL;
}

static bool takes_rows(const ftk_gpu *c, const ftk_cuda_mat *w, int rows)
{
    const size_t n = (size_t)rows, in = (size_t)w->n_in, out = (size_t)w->n_out;
    const size_t work = (size_t)c->max_rows;
    return n * in <= work * (size_t)c->m->hp.n_embd && n * out <= work * (size_t)c->m->hp.n_vocab &&
           n * (in + out) * sizeof(float) <= c->stage_size &&
           ftk_tile_act_bytes(ftk_tile_act_of(w->type), rows, w->n_in) <= c->act_size;
}

/* The target's own output matrix is there already. */
static bool is_new(const ftk_gpu *c, const ftk_mat *w)
{
    return w && w->file != c->m->output.file;
}

static const ftk_mat *matrix_at(const ftk_weights *w, int i)
{
    return i < w->n ? w->items[i].matrix : w->head;
}

/* Sends what is new, or counts its bytes. False: a matrix is too wide. */
static bool put_drafter(ftk_gpu_loading *l, const ftk_weights *w, ftk_gpu_drafter *to)
{
    ftk_gpu *const c = l->c;
    bool fits = true;
    to->n = 0;
    for (int i = 0; i <= w->n; i++) {
        const ftk_mat *const from = matrix_at(w, i);
        if (!is_new(c, from)) continue;
        const ftk_cuda_mat shape = {from->type, from->n_out, from->n_in, NULL};
        fits &= takes_rows(c, &shape, 1) &&
                ftk_tiles_bytes(from->type, FTK_TILE_OUT, from->n_in) <= c->stage_size;
        if (!fits) break;
        to->items[to->n].file = from->file;
        ftk_gpu_put_matrix(l, from, &to->items[to->n++].mat);
    }
    return fits;
}

static ftk_err send_drafter(ftk_gpu *c, const ftk_weights *w, ftk_gpu_drafter *to, char *why,
                            size_t cap)
{
    ftk_cuda_info info;
    ftk_gpu_loading count = {.c = c};
    if (!put_drafter(&count, w, to)) {
        snprintf(why, cap, "a matrix of the drafter is too wide for %s", c->name);
        return FTK_ERR_UNSUPPORTED;
    }
    if (count.bytes == 0) return FTK_OK;
    const bool room =
        ftk_cuda_probe(c->q.device, &info) && count.bytes + ftk_gpu_reserve <= info.free;
    to->arena = room ? ftk_cuda_alloc(&c->q, count.bytes) : NULL;
    if (!to->arena) {
        snprintf(why, cap, "%s has no %zu MiB left for a drafter: use a smaller context or the CPU",
                 c->name, (count.bytes >> 20) + 1);
        return FTK_ERR_NOMEM;
    }
    put_drafter(&(ftk_gpu_loading){.c = c, .arena = to->arena}, w, to);
    ftk_cuda_wait(&c->q);
    ftk_gpu_note_trouble(c);
    if (!c->trouble[0]) return FTK_OK;
    snprintf(why, cap, "%s", c->trouble);
    return FTK_ERR_DEVICE;
}

ftk_err ftk_gpu_add_weights(ftk_device *d, const ftk_weights *w, char *why, size_t cap)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    const size_t most = (size_t)w->n + 1;
    ftk_gpu_drafter *const f = ftk_alloc_raw(&c->host, 1, sizeof *f + most * sizeof f->items[0]);
    if (!f) {
        snprintf(why, cap, "no memory for a drafter");
        return FTK_ERR_NOMEM;
    }
    *f = (ftk_gpu_drafter){.next = c->drafters};
    const ftk_err err = send_drafter(c, w, f, why, cap);
    if (err == FTK_OK) {
        c->drafters = f;
        return FTK_OK;
    }
    ftk_cuda_free(&c->q, f->arena);
    ftk_release(&c->host, f);
    return err;
}

/* ---- products */

static const ftk_cuda_mat *matrix_of(const ftk_gpu *c, const ftk_mat *w)
{
    if (w->file == c->m->output.file) return &c->output;
    for (const ftk_gpu_drafter *f = c->drafters; f; f = f->next)
        for (int i = 0; i < f->n; i++)
            if (f->items[i].file == w->file) return &f->items[i].mat;
    assert(!"a matrix that was never added");
    return NULL;
}

static int rows_at_once(const ftk_gpu *c, const ftk_cuda_mat *w, int n)
{
    int rows = n < AT_ONCE ? n : AT_ONCE;
    while (!takes_rows(c, w, rows)) rows--;
    return rows;
}

/* c->logits = W x, for n rows that take no more than there is room for. */
static void product(ftk_gpu *c, const ftk_cuda_mat *w, int n, const float *x)
{
    const size_t bytes = (size_t)n * (size_t)w->n_in * sizeof *x;
    memcpy(c->stage, x, bytes);
    ftk_cuda_upload(&c->q, c->x, c->stage, bytes);
    const ftk_tile_act form = ftk_tile_act_of(w->type);
    if (form != FTK_TILE_F32) ftk_cuda_act(&c->q, form, n, w->n_in, c->x, c->act);
    ftk_cuda_matmul(&c->q, w, form == FTK_TILE_F32 ? (const void *)c->x : c->act, n, NULL, false,
                    c->logits, (size_t)w->n_out);
}

void ftk_gpu_multiply(ftk_device *d, const ftk_mat *mat, int n, const float *x, float *y)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    const ftk_cuda_mat *const w = matrix_of(c, mat);
    const size_t in = (size_t)w->n_in, out = (size_t)w->n_out;
    if (c->trouble[0]) memset(y, 0, (size_t)n * out * sizeof *y);
    if (c->trouble[0]) return;
    for (int i = 0, most = rows_at_once(c, w, n); i < n; i += most) {
        const int rows = n - i < most ? n - i : most;
        const size_t bytes = (size_t)rows * out * sizeof *y;
        char *const back = c->stage + (size_t)rows * in * sizeof *x;
        product(c, w, rows, x + (size_t)i * in);
        ftk_cuda_download(&c->q, back, c->logits, bytes);
        ftk_cuda_wait(&c->q);
        memcpy(y + (size_t)i * out, back, bytes);
    }
    ftk_gpu_note_trouble(c);
}

const ftk_ranked *ftk_gpu_rank_product(ftk_device *d, const ftk_mat *mat, int n, const float *x)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    const ftk_cuda_mat *const w = matrix_of(c, mat);
    ftk_ranked *const back = c->ranked_host + c->max_rows;
    assert(w->n_out <= c->m->hp.n_vocab && n <= FTK_MAX_NODES);
    for (int i = 0, most = rows_at_once(c, w, n); i < n && !c->trouble[0]; i += most) {
        const int rows = n - i < most ? n - i : most;
        product(c, w, rows, x + (size_t)i * (size_t)w->n_in);
        ftk_gpu_rank(c, rows, w->n_out, c->logits, NULL);
        ftk_cuda_download(&c->q, back + i, c->ranked, (size_t)rows * sizeof *back);
        ftk_cuda_wait(&c->q);
        ftk_gpu_note_trouble(c);
    }
    for (int i = 0; i < n && c->trouble[0]; i++) back[i].token = -1;
    return back;
}
