/* SPDX-License-Identifier: Apache-2.0
 * An NVIDIA GPU for a DiT: what it holds, and for how long. */
#include "dit_cuda.h"

#include <stdio.h>

#include "base/mem.h"

/* ---- memory */

static int widest(const ftk_dit_shape *s)
{
    const int n = s->n_embd > s->n_ff ? s->n_embd : s->n_ff;
    const int patch = s->patch * s->patch * s->channels;
    return n > patch ? n : patch;
}

static size_t pages_of(const ftk_dit_shape *s)
{
    return ((size_t)s->n_tokens + FTK_PAGE - 1) / FTK_PAGE;
}

static size_t n_cells(const ftk_dit_gpu *c) /* of patches, in or out, in a row */
{
    const ftk_dit_shape *s = &c->m->shape;
    return (size_t)(s->patch * s->patch * s->out_channels);
}

static size_t deal_work(ftk_dit_gpu *c)
{
    const ftk_dit_shape *s = &c->m->shape;
    const size_t rows = (size_t)c->max_rows, n = (size_t)s->n_tokens, f = sizeof(float);
    const size_t line = (size_t)s->n_embd * f, seqs = rows / n, layers = (size_t)s->n_layer;
    const bool received = c->cfg.scores == FTK_SCORES_RECEIVED;
    const ftk_gpu_piece pieces[] = {
        {&c->x, rows * line},
        {&c->before, c->cfg.checks ? rows / 2 * line : 0},
        {&c->norm, rows * line},
        {&c->queries, rows * line},
        {&c->kv, 2 * rows * line},
        {&c->attn, rows * line},
        {&c->hidden, rows * (size_t)s->n_ff * f},
        {&c->out, rows * line},
        {&c->patches, rows * n_cells(c) * f},
        {&c->pool, 2 * pages_of(s) * FTK_PAGE * line},
        {&c->partial, c->partial_size},
        {&c->ends, received ? n * (size_t)s->n_head * 2 * f : 0},
        {&c->scores, c->cfg.scores ? seqs * layers * n * f : 0},
        {&c->condition, (size_t)c->cfg.steps * line},
        {&c->act, c->act_size},
        {&c->at, layers * FTK_BRANCHES * rows * sizeof *c->at},
        {&c->page, pages_of(s) * sizeof *c->page},
        {&c->mask, n * sizeof *c->mask},
        {&c->span, 2 * sizeof *c->span},
        {&c->seq, seqs * sizeof *c->seq},
        {&c->offby, seqs * FTK_CUDA_OFFBY_PARTS * sizeof *c->offby},
    };
    return ftk_gpu_deal(c->work, pieces, sizeof pieces / sizeof *pieces);
}

static size_t deal_pinned(ftk_dit_gpu *c)
{
    const ftk_dit_shape *s = &c->m->shape;
    const size_t rows = (size_t)c->max_rows, n = (size_t)s->n_tokens, layers = (size_t)s->n_layer;
    const size_t seqs = rows / n;
    const ftk_gpu_piece pieces[] = {
        {&c->at_host, layers * FTK_BRANCHES * rows * sizeof *c->at_host},
        {&c->patches_host, rows * n_cells(c) * sizeof *c->patches_host},
        {&c->output_host, rows * n_cells(c) * sizeof *c->output_host},
        {&c->scores_host, c->cfg.scores ? seqs * layers * n * sizeof *c->scores_host : 0},
        {&c->seq_host, seqs * sizeof *c->seq_host},
        {&c->offby_host, seqs * FTK_CUDA_OFFBY_PARTS * sizeof *c->offby_host},
    };
    return ftk_gpu_deal(c->pinned, pieces, sizeof pieces / sizeof *pieces);
}

/* Sends the weights, or only counts their bytes. */
static size_t put_weights(ftk_dit_gpu *c)
{
    const ftk_dit *m = c->m;
    const ftk_dit_shape *s = &m->shape;
    const int n = s->n_embd, patch_out = (int)n_cells(c);
    ftk_gpu_loading l = {&c->q, &c->host, c->stage, c->stage_size, c->arena, 0};
    for (int i = 0; i < s->n_layer; i++) {
        const ftk_dit_layer *from = &m->layers[i];
        ftk_dit_gpu_layer *to = &c->layers[i];
        ftk_gpu_put_matrix(&l, &from->ada, &to->ada);
        ftk_gpu_put_matrix(&l, &from->q, &to->q);
        ftk_gpu_put_matrix(&l, &from->kv, &to->kv);
        ftk_gpu_put_matrix(&l, &from->o, &to->o);
        ftk_gpu_put_matrix(&l, &from->up, &to->up);
        ftk_gpu_put_matrix(&l, &from->down, &to->down);
        ftk_gpu_put_vector(&l, from->ada_bias, FTK_ADA * n, &to->ada_bias);
        ftk_gpu_put_vector(&l, from->qkv_bias, 3 * n, &to->qkv_bias);
        ftk_gpu_put_vector(&l, from->o_bias, n, &to->o_bias);
        ftk_gpu_put_vector(&l, from->up_bias, s->n_ff, &to->up_bias);
        ftk_gpu_put_vector(&l, from->down_bias, n, &to->down_bias);
    }
    ftk_gpu_put_matrix(&l, &m->patch_embd, &c->patch_embd);
    ftk_gpu_put_matrix(&l, &m->output_ada, &c->output_ada);
    ftk_gpu_put_matrix(&l, &m->output, &c->output);
    ftk_gpu_put_vector(&l, m->patch_bias, n, &c->patch_bias);
    ftk_gpu_put_vector(&l, m->output_ada_bias, 2 * n, &c->output_ada_bias);
    ftk_gpu_put_vector(&l, m->output_bias, patch_out, &c->output_bias);
    ftk_gpu_put_vector(&l, m->positions, s->n_tokens * n, &c->positions);
    return l.bytes;
}

/* What never changes: the pages of a sequence, masks in which nothing is hidden. */
static void send_constants(ftk_dit_gpu *c)
{
    const int n = c->m->shape.n_tokens;
    const ftk_cuda_span span[2] = {{0, n, n}, {n, n, n}};
    const uint64_t none[2] = {0, 0};
    for (int32_t i = 0; i < (int32_t)pages_of(&c->m->shape); i++)
        ftk_cuda_upload(&c->q, c->page + i, &i, sizeof i);
    for (int i = 0; i < n; i++) ftk_cuda_upload(&c->q, c->mask + i, none, sizeof none);
    ftk_cuda_upload(&c->q, c->span, span, sizeof span);
}

/* ---- life */

static void free_device(ftk_dit_device *d)
{
    ftk_dit_gpu *const c = ftk_dit_gpu_of(d);
    if (c->q.own || ftk_cuda_emulated()) {
        ftk_cuda_free(&c->q, c->arena);
        ftk_cuda_free(&c->q, c->work);
        ftk_cuda_free_host(&c->q, c->stage);
        ftk_cuda_free_host(&c->q, c->pinned);
        ftk_cuda_close(&c->q);
    }
    const ftk_host h = c->host;
    ftk_release(&h, c->layers);
    ftk_release(&h, c);
}

static const char *name(const ftk_dit_device *d)
{
    return ((const ftk_dit_gpu *)(const void *)d)->life.name;
}

static const char *trouble(const ftk_dit_device *d)
{
    const ftk_dit_gpu *c = (const void *)d;
    return c->life.trouble[0] ? c->life.trouble : NULL;
}

static void *mem_alloc(ftk_dit_device *d, size_t n)
{
    return ftk_cuda_alloc(&ftk_dit_gpu_of(d)->q, n);
}

static void mem_free(ftk_dit_device *d, void *p)
{
    ftk_cuda_free(&ftk_dit_gpu_of(d)->q, p);
}

static const ftk_dit_device_ops ops = {
    .free = free_device,
    .name = name,
    .trouble = trouble,
    .mem_alloc = mem_alloc,
    .mem_free = mem_free,
    .modulate = ftk_dit_gpu_modulate,
    .run = ftk_dit_gpu_run,
};

static ftk_err fill(ftk_dit_gpu *c, const ftk_cuda_info *info, char *why, size_t cap)
{
    const ftk_dit_shape *s = &c->m->shape;
    c->max_rows = c->cfg.max_seqs * s->n_tokens * (c->cfg.checks ? 2 : 1);
    c->partial_size = ftk_gpu_attn_bytes(s->n_head, s->head_dim, s->n_tokens, s->n_tokens);
    const int rows = c->max_rows > c->cfg.steps ? c->max_rows : c->cfg.steps;
    c->act_size = ftk_gpu_act_bytes(rows, widest(s));
    c->stage_size = ftk_gpu_most((size_t)FTK_GPU_STAGE, FTK_TILE_OUT * (size_t)widest(s) *
                                                            sizeof(float)); /* any type's tile */
    const size_t weights = put_weights(c), work = deal_work(c);
    if (weights + work + ftk_gpu_reserve <= info->free) {
        c->arena = ftk_cuda_alloc(&c->q, weights);
        c->work = ftk_cuda_alloc(&c->q, work);
        c->stage = ftk_cuda_alloc_host(&c->q, c->stage_size);
        c->pinned = ftk_cuda_alloc_host(&c->q, deal_pinned(c));
    }
    if (!c->arena || !c->work || !c->stage || !c->pinned) {
        snprintf(why, cap,
                 "%s has %zu MiB free; weights of %zu MiB and passes of %zu MiB do not fit: use "
                 "fewer bits, a smaller batch or the CPU",
                 c->life.name, info->free >> 20, weights >> 20, work >> 20);
        return FTK_ERR_NOMEM;
    }
    deal_work(c);
    deal_pinned(c);
    put_weights(c);
    send_constants(c);
    return ftk_gpu_arrives(&c->life, why, cap);
}

ftk_err ftk_dit_device_open(ftk_dit_device **out, const ftk_dit *m,
                            const ftk_dit_device_config *cfg, char *why, size_t cap)
{
    _Static_assert((int)FTK_CUDA_ORDERS == FTK_MAX_ORDER + 1, "as plans have them");
    int ordinal;
    ftk_cuda_info info;
    *out = NULL;
    ftk_err err = ftk_gpu_find(cfg->name, &ordinal, &info, why, cap);
    if (err != FTK_OK) return err;
    ftk_dit_gpu *const c = ftk_alloc(&m->host, 1, sizeof *c);
    ftk_dit_gpu_layer *const layers = ftk_alloc(&m->host, (size_t)m->shape.n_layer, sizeof *layers);
    if (!c || !layers) {
        ftk_release(&m->host, c);
        ftk_release(&m->host, layers);
        snprintf(why, cap, "device %s: no memory on the host", cfg->name);
        return FTK_ERR_NOMEM;
    }
    c->base.ops = &ops;
    c->m = m;
    c->host = m->host;
    c->cfg = *cfg;
    c->layers = layers;
    err = ftk_gpu_begin(&c->life, &c->q, ordinal, &info, why, cap);
    if (err == FTK_OK) err = fill(c, &info, why, cap);
    if (err != FTK_OK) {
        free_device(&c->base);
        return err;
    }
    *out = &c->base;
    return FTK_OK;
}
