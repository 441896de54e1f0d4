/* SPDX-License-Identifier: Apache-2.0
 * An NVIDIA GPU: what it holds, and for how long. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "device_cuda.h"

/* ---- work space */

/* The longest input or output of a layer's matrices. */
static size_t longest(const ftk_hparams *hp)
{
    return ftk_gpu_most(ftk_gpu_most((size_t)hp->n_embd, (size_t)hp->n_ff),
                        (size_t)hp->n_head * (size_t)hp->head_dim);
}

/* Deals out `work`, or, where that is NULL, only counts. */
static size_t deal_work(ftk_gpu *c)
{
    const ftk_hparams *hp = &c->m->hp;
    const size_t rows = (size_t)c->max_rows, f = sizeof(float);
    const size_t dq = (size_t)hp->n_head * (size_t)hp->head_dim;
    const size_t dkv = (size_t)hp->n_head_kv * (size_t)hp->head_dim;
    const size_t d = (size_t)hp->n_embd * f * rows, ff = (size_t)hp->n_ff * f * rows;
    const size_t one = (size_t)hp->n_embd * f, few = FTK_HEAD_NODES * one;
    const size_t turns = (size_t)c->max_slots * (size_t)hp->n_rot * f;
    const size_t wide = c->wide ? FTK_WIDE_ROWS : 0;
    const size_t most_weights = (size_t)hp->n_embd * ftk_gpu_most(dq, (size_t)hp->n_ff);
    const ftk_gpu_piece pieces[] = {
        {&c->x, d},
        {&c->norm, d},
        {&c->heads, dq * f * rows},
        {&c->kv, 2 * dkv * f * rows},
        {&c->attn, dq * f * rows},
        {&c->gate, ff},
        {&c->up, ff},
        {&c->out, d},
        {&c->logits, (size_t)hp->n_vocab * f * rows},
        {&c->turns[0], turns},
        {&c->turns[1], c->m->rope.freq_window ? turns : 0},
        {&c->best, rows * FTK_BEST * sizeof *c->best},
        {&c->ranked, rows * sizeof *c->ranked},
        {&c->actions, (size_t)hp->n_layer},
        {&c->ranking, ftk_cuda_top_k_bytes(c->max_rows, hp->n_vocab, FTK_BEST)},
        {&c->features, d},
        {&c->states, d},
        {&c->draft.held, one},
        {&c->draft.root, one},
        {&c->draft.e, few},
        {&c->draft.z, 2 * few},
        {&c->draft.u, few},
        {&c->draft.v, few},
        {&c->draft.g[0], few},
        {&c->draft.g[1], few},
        {&c->draft.chain, sizeof *c->draft.chain},
        {&c->partial, c->partial_size},
        {&c->act, c->act_size},
        {&c->in, c->in_size},
        {&c->in_mapped, c->in_mapped_size},
        {&c->wide_room.w, wide ? most_weights * sizeof *c->wide_room.w : 0},
        {&c->wide_room.x, wide * longest(hp) * sizeof *c->wide_room.x},
        {&c->wide_room.scale, wide * f},
        {&c->wide_room.y, wide * longest(hp) * f},
    };
    return ftk_gpu_deal(c->work, pieces, sizeof pieces / sizeof *pieces);
}

/* ---- the KV cache */

static void *mem_alloc(ftk_device *d, size_t n)
{
    return ftk_cuda_alloc(&ftk_gpu_of(d)->q, n);
}

static void mem_free(ftk_device *d, void *p)
{
    ftk_cuda_free(&ftk_gpu_of(d)->q, p);
}

static void kv_copy(ftk_device *d, void *dst, const void *src, size_t n)
{
    ftk_cuda_copy(&ftk_gpu_of(d)->q, dst, src, n);
}

static void kv_move(ftk_device *d, const ftk_kv_seq *s, const int16_t *path, int n)
{
    const ftk_kv_pool *p = s->pool;
    int32_t pages[FTK_CUDA_MOVE_PAGES] = {0};
    for (int i = 0; i < FTK_CUDA_MOVE_PAGES && s->len / FTK_PAGE + i < s->n_pages; i++)
        pages[i] = s->page[s->len / FTK_PAGE + i];
    ftk_cuda_kv_move(&ftk_gpu_of(d)->q, p->data, ftk_kv_page_bytes(p),
                     (size_t)p->n_layer * 2 * (size_t)p->n_head_kv, p->row, pages, s->len, path, n);
}

/* ---- life */

void ftk_gpu_wait(ftk_gpu *c)
{
    ftk_gpu_sync(&c->life);
    c->in_host_used = 0;
}

static void free_device(ftk_device *d)
{
    ftk_gpu *c = ftk_gpu_of(d);
    if (c->q.own || ftk_cuda_emulated()) {
        ftk_gpu_drop_kept(c);
        ftk_cuda_free(&c->q, c->arena);
        ftk_cuda_free(&c->q, c->work);
        ftk_cuda_free(&c->q, c->tapped);
        ftk_cuda_free_host(&c->q, c->in_host);
        ftk_cuda_free_host(&c->q, c->ranked_host);
        ftk_cuda_free_host(&c->q, c->draft_host);
        ftk_gpu_free_drafters(c);
        ftk_gpu_free_routes(c);
        ftk_cuda_free_host(&c->q, c->stage);
        ftk_cuda_close(&c->q);
    }
    const ftk_host h = c->host;
    ftk_release(&h, c->layers);
    ftk_release(&h, c);
}

static const char *name(const ftk_device *d)
{
    return ((const ftk_gpu *)(const void *)d)->life.name;
}

static const char *trouble(const ftk_device *d)
{
    const ftk_gpu *c = (const void *)d;
    return c->life.trouble[0] ? c->life.trouble : NULL;
}

static const ftk_device_ops ops = {
    .free = free_device,
    .name = name,
    .trouble = trouble,
    .mem_alloc = mem_alloc,
    .mem_free = mem_free,
    .kv_copy = kv_copy,
    .kv_move = kv_move,
    .tap = ftk_gpu_tap,
    .run = ftk_gpu_run,
    .add_weights = ftk_gpu_add_weights,
    .add_policy = ftk_gpu_add_policy,
    .add_low_bits = ftk_gpu_add_low_bits,
    .multiply = ftk_gpu_multiply,
    .hold = ftk_gpu_hold,
    .run_heads = ftk_gpu_run_heads,
    .run_mapped = ftk_gpu_run_mapped,
    .run_appending = ftk_gpu_run_appending,
    .kept = ftk_gpu_n_kept,
};

static size_t mib(size_t bytes)
{
    return bytes >> 20;
}

/* Sizes of everything; what is missing is said before anything is sent. */
static ftk_err plan(ftk_gpu *c, const ftk_device_config *cfg, const ftk_cuda_info *info, char *why,
                    size_t cap)
{
    const ftk_hparams *hp = &c->m->hp;
    ftk_gpu_inputs in;
    c->wide = cfg->wide;
    c->max_rows = c->wide && cfg->max_rows < FTK_WIDE_ROWS ? FTK_WIDE_ROWS : cfg->max_rows;
    c->max_slots = cfg->max_slots;
    c->max_pages = (cfg->max_slots + FTK_PAGE - 1) / FTK_PAGE + 1;
    c->partial_size = ftk_gpu_attn_bytes(hp->n_head, hp->head_dim, cfg->max_slots, FTK_MAX_NODES);
    c->in_size = ftk_gpu_lay_out(NULL, c->max_rows, c->max_rows + 1, hp->n_layer,
                                 (size_t)c->max_rows * (size_t)c->max_pages, &in);
    c->in_mapped_size = ftk_gpu_lay_out(NULL, FTK_HEADS, 1, 0, (size_t)c->max_pages, &in);
    c->in_host_size = 2 * c->in_size + FTK_PASS_SEQS * c->in_mapped_size;
    c->act_size = ftk_gpu_act_bytes(c->max_rows, (int)longest(hp));
    c->arena_size = ftk_gpu_put_weights(c);
    c->stage_size = ftk_gpu_most((size_t)FTK_GPU_STAGE, ftk_gpu_widest_tile(c->m));
    const size_t need = c->arena_size + deal_work(c) + cfg->kv_bytes + ftk_gpu_reserve;
    if (need <= info->free) return FTK_OK;
    return ftk_why(
        why, cap, FTK_ERR_NOMEM,
        "%s has %zu MiB free of %zu; weights of %zu MiB, a KV cache of %zu and passes of %zu do "
        "not fit, %zu MiB are missing: use fewer bits, a smaller context or the CPU",
        c->life.name, mib(info->free), mib(info->total), mib(c->arena_size), mib(cfg->kv_bytes),
        mib(deal_work(c)), mib(need - info->free) + 1);
}

static ftk_err fill(ftk_gpu *c, char *why, size_t cap)
{
    c->arena = ftk_cuda_alloc(&c->q, c->arena_size);
    c->work = ftk_cuda_alloc(&c->q, deal_work(c));
    c->stage = ftk_cuda_alloc_host(&c->q, c->stage_size);
    c->in_host = ftk_cuda_alloc_host(&c->q, c->in_host_size);
    const size_t n_ranked = (size_t)c->max_rows + FTK_MAX_NODES;
    c->ranked_host =
        ftk_cuda_alloc_host(&c->q, n_ranked * sizeof *c->ranked_host + (size_t)c->m->hp.n_layer);
    c->draft_host = ftk_cuda_alloc_host(&c->q, FTK_PASS_SEQS * sizeof *c->draft_host);
    if (!c->arena || !c->work || !c->stage || !c->in_host || !c->ranked_host || !c->draft_host)
        return ftk_why(why, cap, FTK_ERR_NOMEM,
                       "%s: no memory for weights of %zu MiB and passes of %zu MiB", c->life.name,
                       mib(c->arena_size), mib(deal_work(c)));
    c->actions_host = (uint8_t *)(c->ranked_host + n_ranked);
    deal_work(c);
    if (!c->m->rope.freq_window) c->turns[1] = c->turns[0];
    ftk_gpu_put_weights(c);
    return ftk_gpu_arrives(&c->life, why, cap);
}

ftk_err ftk_device_open(ftk_device **out, const ftk_model *m, const ftk_device_config *cfg,
                        char *why, size_t cap)
{
    assert(cfg->max_rows >= FTK_MAX_NODES);
    *out = NULL;
    int ordinal;
    ftk_cuda_info info;
    ftk_err err = ftk_gpu_find(cfg->name, &ordinal, &info, why, cap);
    if (err != FTK_OK) return err;
    ftk_gpu *c = ftk_alloc(&m->host, 1, sizeof *c);
    ftk_gpu_layer *layers = ftk_alloc(&m->host, (size_t)m->hp.n_layer, sizeof *layers);
    if (!c || !layers) {
        ftk_release(&m->host, c);
        ftk_release(&m->host, layers);
        return ftk_why(why, cap, FTK_ERR_NOMEM, "device %s: no memory on the host", cfg->name);
    }
    c->layers = layers;
    c->base.ops = &ops;
    c->m = m;
    c->host = m->host;
    err = ftk_gpu_begin(&c->life, &c->q, ordinal, &info, why, cap);
    if (err == FTK_OK && cfg->wide && !ftk_cuda_wide_open(&c->q))
        err = ftk_why(why, cap, FTK_ERR_DEVICE,
                      "%s: wide prefill needs cuBLAS, which is not installed or does not work",
                      c->life.name);
    if (err == FTK_OK) err = plan(c, cfg, &info, why, cap);
    if (err == FTK_OK) err = fill(c, why, cap);
    if (err != FTK_OK) {
        free_device(&c->base);
        return err;
    }
    *out = &c->base;
    return FTK_OK;
}
