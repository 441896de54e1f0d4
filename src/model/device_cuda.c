/* SPDX-License-Identifier: Apache-2.0
 *
 * The pass on an NVIDIA GPU. Weights go there once, in tiles; a pass sends a few numbers per row, runs
 * all layers on one queue and waits once, for the likeliest tokens or the logits. The order of the
 * computation is that of forward.c.
 *
 * Passes that verify a tree or decode plainly are kept whole (ftk_cuda_graph): one for each number of
 * rows, rounded up, and each length, rounded up. All that differs between two passes of a kind lies in
 * the inputs, in device memory; rows that are there only to round up see nothing, are read by nobody
 * and store nothing. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "device.h"
#include "kernels/cuda/cuda.h"

enum {
    ALIGN = 256,
    N_MATS = 7,          /* of a layer */
    STAGE = 8 << 20,     /* bytes of weights that are rearranged at a time, at least a tile */
    PARTIAL = 64 << 20,  /* bytes for attention's chunks, unless one row needs more */
    RESERVE = 256 << 20, /* device memory left to the driver: the kernels, stacks, kept passes */
    KEPT_ROWS = 64,      /* of a pass that may be kept */
    ROW_KINDS = 1 + KEPT_ROWS / FTK_TILE_ROWS,
    SLOT_KINDS = 20, /* powers of 2 of attention's chunks */
};

typedef struct {
    ftk_cuda_mat q, k, v, o, gate, up, down;
    const float *attn_norm, *ffn_norm, *attn_post_norm, *ffn_post_norm, *q_norm, *k_norm;
    const float *q_bias, *k_bias, *v_bias, *o_bias;
} layer;

/* What a pass needs of each row and sequence, in one piece that is sent at once. */
typedef struct {
    uint64_t (*mask)[2];
    int32_t *token, *pos, *logit_row;
    ftk_cuda_span *span; /* of each sequence's parts: n_parts() */
    int32_t *page;       /* of all of them, one after the other */
} inputs;

/* One kind of passes. */
typedef struct {
    bool seen; /* such a pass has run: its kernels are loaded */
    ftk_cuda_graph *graph;
} kept;

typedef struct {
    ftk_device base;
    const ftk_model *m;
    ftk_host host;
    ftk_queue q;
    char name[160];
    char trouble[256]; /* empty: none yet */
    int max_rows;
    int max_slots, max_pages; /* of a sequence */
    layer *layers;
    ftk_cuda_mat embd, output;
    const float *output_norm;
    char *arena; /* weights */
    size_t arena_size, arena_used;
    char *stage; /* host */
    size_t stage_size;
    char *work; /* all of these: */
    float *x, *norm, *heads, *kv, *attn, *gate, *up, *out, *logits, *features, *states, *partial;
    float *turns[2]; /* [max_slots][n_rot] ftk_turn() of every position, for ftk_forward.freq */
    int32_t *best;   /* [max_rows][FTK_BEST] */
    char *act, *ranking;
    size_t partial_size;
    char *in, *in_host; /* see inputs */
    size_t in_size;
    int32_t *best_host;
    bool turned; /* turns holds what it should */
    kept kept[ROW_KINDS][SLOT_KINDS];
    const char *kept_pool; /* kept passes are of these pages, and leave states of that layer */
    int kept_keep;
    bool keeps_none; /* the runtime would not */
    bool wide;       /* there is room for wide passes */
    ftk_cuda_wide wide_room;
    /* of the running pass */
    bool runs_wide;
    const float *wide_of; /* what wide_room.x holds, NULL: nothing */
    ftk_tile_act act_form;
    const float *act_of; /* what act holds, NULL: nothing */
} cuda;

/* Rows of a sequence that attention takes at a time: as many as a mask has bits for. */
static int n_parts(const ftk_pass_seq *seq)
{
    return (seq->n_rows + FTK_MAX_NODES - 1) / FTK_MAX_NODES;
}

static int rows_of_part(const ftk_pass_seq *seq, int i)
{
    const int left = seq->n_rows - i * FTK_MAX_NODES;
    return left < FTK_MAX_NODES ? left : FTK_MAX_NODES;
}

/* A pass, as it is laid out: more rows and slots than there are, if it is to be kept. */
typedef struct {
    const ftk_forward *f;
    const ftk_pass_seq *seqs;
    int n_seqs, first;
    int n_rows, n_logits;
    int n_slots; /* of the only sequence; 0: each has its own */
    inputs in;   /* on the device */
} pass;

static cuda *of(ftk_device *d)
{
    return (cuda *)(void *)d;
}

static size_t up_to(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- weights */

/* Runs through all matrices and vectors twice: to count bytes, then to send them. */
typedef struct {
    cuda *c;
    size_t bytes;
    bool send;
} loading;

static void *reserve(loading *l, size_t bytes)
{
    char *at = l->send ? l->c->arena + l->bytes : NULL;
    l->bytes += up_to(bytes, ALIGN);
    return at;
}

/* Tiles [first, first + n) to the host's stage. */
static void rearrange(const ftk_mat *w, size_t tile, int first, int n, char *to)
{
#ifdef _OPENMP
#pragma omp parallel for schedule(static)
#endif
    for (int i = 0; i < n; i++)
        ftk_tiles_pack(w->type, w->n_out, w->n_in, w->file, first + i, 1, to + (size_t)i * tile);
}

static void put_matrix(loading *l, const ftk_mat *w, ftk_cuda_mat *to)
{
    const size_t bytes = ftk_tiles_bytes(w->type, w->n_out, w->n_in);
    char *at = reserve(l, bytes);
    if (!l->send) return;
    cuda *c = l->c;
    *to = (ftk_cuda_mat){w->type, w->n_out, w->n_in, at};
    const size_t tile = ftk_tiles_bytes(w->type, FTK_TILE_OUT, w->n_in);
    const int n_tiles = (w->n_out + FTK_TILE_OUT - 1) / FTK_TILE_OUT;
    const int most = (int)(c->stage_size / tile);
    for (int first = 0; first < n_tiles; first += most) {
        const int n = n_tiles - first < most ? n_tiles - first : most;
        rearrange(w, tile, first, n, c->stage);
        const size_t from = (size_t)first * tile, left = bytes - from;
        ftk_cuda_upload(&c->q, at + from, c->stage,
                        left < (size_t)n * tile ? left : (size_t)n * tile);
        ftk_cuda_wait(&c->q); /* the stage is written again */
    }
}

static void put_vector(loading *l, const float *v, int n, const float **to)
{
    if (!v) return;
    float *at = reserve(l, (size_t)n * sizeof *v);
    if (!l->send) return;
    ftk_cuda_upload(&l->c->q, at, v, (size_t)n * sizeof *v);
    *to = at;
}

static void put_layer(loading *l, int i)
{
    const ftk_layer *from = &l->c->m->layers[i];
    const ftk_hparams *hp = &l->c->m->hp;
    const int d = hp->n_embd, dq = hp->n_head * hp->head_dim, dkv = hp->n_head_kv * hp->head_dim;
    layer *to = &l->c->layers[i];
    put_matrix(l, &from->q, &to->q);
    put_matrix(l, &from->k, &to->k);
    put_matrix(l, &from->v, &to->v);
    put_matrix(l, &from->o, &to->o);
    put_matrix(l, &from->gate, &to->gate);
    put_matrix(l, &from->up, &to->up);
    put_matrix(l, &from->down, &to->down);
    put_vector(l, from->attn_norm, d, &to->attn_norm);
    put_vector(l, from->ffn_norm, d, &to->ffn_norm);
    put_vector(l, from->attn_post_norm, d, &to->attn_post_norm);
    put_vector(l, from->ffn_post_norm, d, &to->ffn_post_norm);
    put_vector(l, from->q_norm, hp->head_dim, &to->q_norm);
    put_vector(l, from->k_norm, hp->head_dim, &to->k_norm);
    put_vector(l, from->q_bias, dq, &to->q_bias);
    put_vector(l, from->k_bias, dkv, &to->k_bias);
    put_vector(l, from->v_bias, dkv, &to->v_bias);
    put_vector(l, from->o_bias, d, &to->o_bias);
}

static size_t put_weights(cuda *c, bool send)
{
    loading l = {.c = c, .send = send};
    for (int i = 0; i < c->m->hp.n_layer; i++) put_layer(&l, i);
    put_vector(&l, c->m->output_norm, c->m->hp.n_embd, &c->output_norm);
    put_matrix(&l, &c->m->output, &c->output);
    if (c->m->output.file == c->m->embd.file)
        c->embd = c->output;
    else
        put_matrix(&l, &c->m->embd, &c->embd);
    return l.bytes;
}

static size_t widest_tile(const ftk_model *m)
{
    const ftk_mat *const ends[2] = {&m->embd, &m->output};
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        const size_t n = ftk_tiles_bytes(ends[i]->type, FTK_TILE_OUT, ends[i]->n_in);
        most = n > most ? n : most;
    }
    for (int i = 0; i < m->hp.n_layer; i++) {
        const ftk_layer *l = &m->layers[i];
        const ftk_mat *const mats[N_MATS] = {&l->q,    &l->k,  &l->v,   &l->o,
                                             &l->gate, &l->up, &l->down};
        for (int j = 0; j < N_MATS; j++) {
            const size_t n = ftk_tiles_bytes(mats[j]->type, FTK_TILE_OUT, mats[j]->n_in);
            most = n > most ? n : most;
        }
    }
    return most;
}

/* ---- work space */

static size_t most_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Bytes of the widest activations in any form. */
static size_t act_bytes(const ftk_hparams *hp, int max_rows)
{
    const int n = (int)most_of(most_of((size_t)hp->n_embd, (size_t)hp->n_ff),
                               (size_t)hp->n_head * (size_t)hp->head_dim);
    size_t most = 0;
    for (int form = FTK_TILE_I8; form <= FTK_TILE_BF16; form++)
        most = most_of(most, ftk_tile_act_bytes((ftk_tile_act)form, max_rows, n));
    return most;
}

/* Of all matrices that a layer multiplies by: the most weights, the longest input, the longest output. */
static void largest(const ftk_hparams *hp, size_t *weights, size_t *in, size_t *out)
{
    const size_t d = (size_t)hp->n_embd, ff = (size_t)hp->n_ff;
    const size_t dq = (size_t)hp->n_head * (size_t)hp->head_dim;
    *weights = d * most_of(dq, ff);
    *in = *out = most_of(d, most_of(dq, ff));
}

/* Deals out `work`, or, where that is NULL, only counts. */
static size_t deal_work(cuda *c)
{
    const ftk_hparams *hp = &c->m->hp;
    const size_t rows = (size_t)c->max_rows, f = sizeof(float);
    const size_t dq = (size_t)hp->n_head * (size_t)hp->head_dim;
    const size_t dkv = (size_t)hp->n_head_kv * (size_t)hp->head_dim;
    const size_t d = (size_t)hp->n_embd * f * rows, ff = (size_t)hp->n_ff * f * rows;
    const size_t turns = (size_t)c->max_slots * (size_t)hp->n_rot * f;
    const size_t wide = c->wide ? FTK_WIDE_ROWS : 0;
    size_t most_weights, most_in, most_out;
    largest(hp, &most_weights, &most_in, &most_out);
    struct {
        void *at;
        size_t bytes;
    } parts[] = {
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
        {&c->ranking, ftk_cuda_top_k_bytes(c->max_rows, hp->n_vocab, FTK_BEST)},
        {&c->features, d},
        {&c->states, d},
        {&c->partial, c->partial_size},
        {&c->act, act_bytes(hp, c->max_rows)},
        {&c->in, c->in_size},
        {&c->wide_room.w, wide ? most_weights * sizeof *c->wide_room.w : 0},
        {&c->wide_room.x, wide * most_in * sizeof *c->wide_room.x},
        {&c->wide_room.scale, wide * f},
        {&c->wide_room.y, wide * most_out * f},
    };
    size_t used = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char *at = c->work ? c->work + used : NULL;
        memcpy(parts[i].at, &at, sizeof at);
        used += up_to(parts[i].bytes, ALIGN);
    }
    return used;
}

/* Where a pass's inputs begin in a piece at `base`; returns the bytes. Pages come last: those that are
 * not there are not sent. */
static size_t lay_out(char *base, int n_rows, int n_spans, size_t n_pages, inputs *in)
{
    const size_t rows = (size_t)n_rows;
    const size_t sizes[] = {rows * sizeof *in->mask,
                            rows * sizeof *in->token,
                            rows * sizeof *in->pos,
                            rows * sizeof *in->logit_row,
                            (size_t)n_spans * sizeof *in->span,
                            n_pages * sizeof *in->page};
    enum { N = sizeof sizes / sizeof *sizes };
    size_t used = 0;
    char *at[N];
    for (int i = 0; i < N; i++) {
        at[i] = base ? base + used : NULL;
        used += up_to(sizes[i], 16);
    }
    *in = (inputs){.mask = (void *)at[0],
                   .token = (void *)at[1],
                   .pos = (void *)at[2],
                   .logit_row = (void *)at[3],
                   .span = (void *)at[4],
                   .page = (void *)at[5]};
    return used;
}

/* Cosines and sines of all positions, which are known when the first pass runs. */
static void send_turns(cuda *c, const ftk_forward *f)
{
    const ftk_hparams *hp = &c->m->hp;
    const bool halves = (hp->arch->flags & FTK_ARCH_ROPE_HALVES) != 0;
    const size_t line = (size_t)hp->n_rot * sizeof(float);
    const int most = (int)(c->stage_size / line);
    for (int t = 0; t < 1 + (c->turns[1] != c->turns[0]); t++)
        for (int first = 0; first < c->max_slots; first += most) {
            const int n = c->max_slots - first < most ? c->max_slots - first : most;
            float *const lines = (float *)(void *)c->stage;
#ifdef _OPENMP
#pragma omp parallel for schedule(static)
#endif
            for (int i = 0; i < n; i++)
                ftk_turn(hp, halves, f->freq[t], first + i, lines + (size_t)i * (size_t)hp->n_rot);
            ftk_cuda_upload(&c->q, c->turns[t] + (size_t)first * (size_t)hp->n_rot, lines,
                            (size_t)n * line);
            ftk_cuda_wait(&c->q); /* the stage is written again */
        }
    c->turned = true;
}

/* ---- the KV cache */

static void *kv_alloc(ftk_device *d, size_t n)
{
    return ftk_cuda_alloc(&of(d)->q, n);
}

static void kv_free(ftk_device *d, void *p)
{
    ftk_cuda_free(&of(d)->q, p);
}

static void kv_copy(ftk_device *d, void *dst, const void *src, size_t n)
{
    ftk_cuda_copy(&of(d)->q, dst, src, n);
}

static size_t page_bytes(const ftk_kv_pool *p)
{
    return p->plane * 2 * (size_t)p->n_layer;
}

static void kv_move(ftk_device *d, const ftk_kv_seq *s, const int16_t *path, int n)
{
    const ftk_kv_pool *p = s->pool;
    int32_t pages[FTK_CUDA_MOVE_PAGES] = {0};
    for (int i = 0; i < FTK_CUDA_MOVE_PAGES && s->len / FTK_PAGE + i < s->n_pages; i++)
        pages[i] = s->page[s->len / FTK_PAGE + i];
    ftk_cuda_kv_move(&of(d)->q, p->data, page_bytes(p),
                     (size_t)p->n_layer * 2 * (size_t)p->n_head_kv, p->row, pages, s->len, path, n);
}

static ftk_cuda_kv kv_of(const ftk_kv_pool *p, int layer_index, ftk_type type, const int32_t *page)
{
    const size_t i = (size_t)layer_index;
    return (ftk_cuda_kv){.pool = p->data,
                         .page_bytes = page_bytes(p),
                         .keys = 2 * i * p->plane,
                         .values = (2 * i + 1) * p->plane,
                         .n_head_kv = p->n_head_kv,
                         .head_dim = p->head_dim,
                         .type = type,
                         .page = page};
}

/* ---- the pass */

static bool arch_has(const cuda *c, unsigned flag)
{
    return (c->m->hp.arch->flags & flag) != 0;
}

/* Pages that hold a sequence's committed slots and its rows. */
static int pages_of(const ftk_pass_seq *seq)
{
    return (seq->kv->len + seq->n_rows + FTK_PAGE - 1) / FTK_PAGE;
}

/* Fills and sends the inputs. */
static void send_inputs(cuda *c, pass *p)
{
    size_t n_pages = 0;
    int n_spans = 0;
    for (int s = 0; s < p->n_seqs; s++) {
        n_pages += (size_t)pages_of(&p->seqs[s]);
        n_spans += n_parts(&p->seqs[s]);
    }
    inputs in;
    const size_t bytes = lay_out(c->in_host, p->n_rows, n_spans, n_pages, &in);
    lay_out(c->in, p->n_rows, n_spans, n_pages, &p->in);
    memset(c->in_host, 0, bytes); /* rows that are not there see nothing */
    int row = 0, n_logits = 0;
    ftk_cuda_span *span = in.span;
    int32_t *page = in.page;
    for (int s = 0; s < p->n_seqs; s++) {
        const ftk_pass_seq *seq = &p->seqs[s];
        for (int i = 0; i < seq->n_rows; i++, row++) {
            in.token[row] = seq->token ? seq->token[i] : 0;
            memcpy(in.mask[row], seq->mask ? seq->mask[i] : p->f->chain[i % FTK_MAX_NODES],
                   sizeof in.mask[row]);
            in.pos[row] = seq->kv->len + (seq->depth ? seq->depth[i] : i);
            if (i >= seq->first_logits) in.logit_row[n_logits++] = row;
        }
        for (int i = 0; i < n_parts(seq); i++) {
            const int prefix = seq->kv->len + i * FTK_MAX_NODES, n = rows_of_part(seq, i);
            *span++ = (ftk_cuda_span){prefix, n, prefix + n};
        }
        memcpy(page, seq->kv->page, (size_t)pages_of(seq) * sizeof *page);
        page += pages_of(seq);
    }
    ftk_cuda_upload(&c->q, c->in, c->in_host, bytes);
}

static void embed_rows(cuda *c, const pass *p)
{
    const size_t d = (size_t)c->m->hp.n_embd;
    ftk_cuda_embed(&c->q, &c->embd, p->n_rows, p->in.token, c->m->hp.embd_scale, c->x);
    size_t row = 0;
    for (int s = 0; s < p->n_seqs; row += (size_t)p->seqs[s++].n_rows)
        if (p->seqs[s].states)
            ftk_cuda_upload(&c->q, c->x + row * d, p->seqs[s].states,
                            (size_t)p->seqs[s].n_rows * d * sizeof *c->x);
}

/* y = W x + bias, or y += that. Products of the same x share its conversion. norm() ends that, and
 * there is one between any two times at which a buffer that products read is written. */
static void project(cuda *c, const float *x, const ftk_cuda_mat *w, int n_rows, const float *bias,
                    bool add, float *y, size_t ldy)
{
    if (c->runs_wide && ftk_cuda_wide_fits(w)) {
        if (c->wide_of != x) ftk_cuda_wide_act(&c->q, n_rows, w->n_in, x, &c->wide_room);
        c->wide_of = x;
        ftk_cuda_wide_matmul(&c->q, w, n_rows, &c->wide_room, bias, add, y, ldy);
        return;
    }
    const ftk_tile_act form = ftk_tile_act_of(w->type);
    if (form != FTK_TILE_F32 && (c->act_of != x || c->act_form != form)) {
        ftk_cuda_act(&c->q, form, n_rows, w->n_in, x, c->act);
        c->act_of = x;
        c->act_form = form;
    }
    const void *act = form == FTK_TILE_F32 ? (const void *)x : c->act;
    ftk_cuda_matmul(&c->q, w, act, n_rows, bias, add, y, ldy);
}

static void norm(cuda *c, int n_rows, const float *x, const int32_t *index, const float *w,
                 float *y)
{
    const int d = c->m->hp.n_embd;
    ftk_cuda_rms_norm(&c->q, n_rows, 1, d, x, (size_t)d, index, w, c->m->hp.norm_eps, y, (size_t)d);
    c->act_of = c->wide_of = NULL;
}

/* x += W from + bias, or that normed. */
static void add_block(cuda *c, int n_rows, const float *from, const ftk_cuda_mat *w,
                      const float *bias, const float *post_norm)
{
    const size_t d = (size_t)c->m->hp.n_embd;
    project(c, from, w, n_rows, bias, !post_norm, post_norm ? c->out : c->x, d);
    if (!post_norm) return;
    norm(c, n_rows, c->out, NULL, post_norm, c->out);
    ftk_cuda_add(&c->q, (size_t)n_rows * d, c->out, c->x);
}

/* Norms, where the layer has weights for it, and turns n heads of each row. */
static void place_heads(cuda *c, const pass *p, int windowed, const float *weight, int n, float *x,
                        size_t ld)
{
    const ftk_hparams *hp = &c->m->hp;
    if (weight)
        ftk_cuda_rms_norm(&c->q, p->n_rows, n, hp->head_dim, x, ld, NULL, weight, hp->norm_eps, x,
                          ld);
    ftk_cuda_rope(&c->q, arch_has(c, FTK_ARCH_ROPE_HALVES), p->n_rows, n, hp->head_dim, hp->n_rot,
                  c->turns[windowed], p->in.pos, x, ld);
}

/* Keys and values of each part to the cache, then its attention, which reads them. */
static void attend(cuda *c, const pass *p, int layer_index)
{
    const ftk_hparams *hp = &c->m->hp;
    const size_t dq = (size_t)hp->n_head * (size_t)hp->head_dim;
    const size_t dkv = (size_t)hp->n_head_kv * (size_t)hp->head_dim;
    size_t row = 0;
    const ftk_cuda_span *span = p->in.span;
    const int32_t *page = p->in.page;
    for (int s = 0; s < p->n_seqs; s++) {
        const ftk_pass_seq *seq = &p->seqs[s];
        const ftk_cuda_kv kv = kv_of(seq->kv->pool, layer_index, p->f->kv_type, page);
        for (int i = 0; i < n_parts(seq); i++, span++) {
            const int n_rows = rows_of_part(seq, i), laid_out = p->n_slots ? p->n_rows : n_rows;
            const int n_slots = seq->kv->len + i * FTK_MAX_NODES + n_rows;
            ftk_cuda_kv_store(&c->q, &kv, laid_out, span, c->kv + row * 2 * dkv,
                              c->kv + row * 2 * dkv + dkv, 2 * dkv);
            const ftk_cuda_attn a = {.n_rows = laid_out,
                                     .n_slots = p->n_slots ? p->n_slots : n_slots,
                                     .span = span,
                                     .n_head = hp->n_head,
                                     .window = hp->windowed[layer_index] ? hp->window : 0,
                                     .scale = hp->attn_scale,
                                     .q = c->heads + row * dq,
                                     .out = c->attn + row * dq,
                                     .mask = (const uint64_t(*)[2])p->in.mask + row,
                                     .partial = c->partial,
                                     .partial_bytes = c->partial_size};
            ftk_cuda_attention(&c->q, &a, &kv);
            row += (size_t)n_rows;
        }
        page += pages_of(seq);
    }
}

static void attention_block(cuda *c, const pass *p, int i)
{
    const ftk_hparams *hp = &c->m->hp;
    const layer *l = &c->layers[i];
    const size_t dq = (size_t)hp->n_head * (size_t)hp->head_dim;
    const size_t dkv = (size_t)hp->n_head_kv * (size_t)hp->head_dim;
    float *const keys = c->kv, *const values = c->kv + dkv;
    norm(c, p->n_rows, c->x, NULL, l->attn_norm, c->norm);
    project(c, c->norm, &l->q, p->n_rows, l->q_bias, false, c->heads, dq);
    project(c, c->norm, &l->k, p->n_rows, l->k_bias, false, keys, 2 * dkv);
    project(c, c->norm, &l->v, p->n_rows, l->v_bias, false, values, 2 * dkv);
    place_heads(c, p, hp->windowed[i], l->q_norm, hp->n_head, c->heads, dq);
    place_heads(c, p, hp->windowed[i], l->k_norm, hp->n_head_kv, keys, 2 * dkv);
    attend(c, p, i);
    add_block(c, p->n_rows, c->attn, &l->o, l->o_bias, l->attn_post_norm);
}

static void ffn_block(cuda *c, int n_rows, int i)
{
    const layer *l = &c->layers[i];
    const size_t ff = (size_t)c->m->hp.n_ff;
    norm(c, n_rows, c->x, NULL, l->ffn_norm, c->norm);
    project(c, c->norm, &l->gate, n_rows, NULL, false, c->gate, ff);
    project(c, c->norm, &l->up, n_rows, NULL, false, c->up, ff);
    ftk_cuda_gate(&c->q, arch_has(c, FTK_ARCH_GELU), (size_t)n_rows * ff, c->gate, c->up);
    add_block(c, n_rows, c->gate, &l->down, NULL, l->ffn_post_norm);
}

/* All that a pass computes, from the inputs to logits, features and states. */
static void compute(cuda *c, const pass *p)
{
    const size_t d = (size_t)c->m->hp.n_embd;
    c->act_of = c->wide_of = NULL;
    embed_rows(c, p);
    for (int i = p->first; i < p->f->layers; i++) {
        attention_block(c, p, i);
        ffn_block(c, p->n_rows, i);
        if (i == p->f->keep)
            ftk_cuda_copy(&c->q, c->states, c->x, (size_t)p->n_rows * d * sizeof *c->x);
    }
    if (p->n_logits == 0) return;
    norm(c, p->n_logits, c->x, p->in.logit_row, c->output_norm, c->features);
    project(c, c->features, &c->output, p->n_logits, NULL, false, c->logits,
            (size_t)c->m->hp.n_vocab);
}

/* What the caller reads of the rows [0, n_logits) and [0, n_rows) comes back. */
static void fetch(cuda *c, const pass *p, int n_rows, int n_logits)
{
    const ftk_forward *f = p->f;
    const size_t d = (size_t)c->m->hp.n_embd, n_vocab = (size_t)c->m->hp.n_vocab;
    bool ranked = false;
    size_t row = 0;
    for (int s = 0; s < p->n_seqs; s++) {
        const ftk_pass_seq *seq = &p->seqs[s];
        const size_t n = (size_t)(seq->n_rows - seq->first_logits);
        if (seq->spare & FTK_SPARE_LOGITS)
            ranked |= n > 0;
        else
            ftk_cuda_download(&c->q, f->logits + row * n_vocab, c->logits + row * n_vocab,
                              n * n_vocab * sizeof(float));
        if (!(seq->spare & FTK_SPARE_FEATURES))
            ftk_cuda_download(&c->q, f->features + row * d, c->features + row * d,
                              n * d * sizeof(float));
        row += n;
    }
    if (ranked) {
        ftk_cuda_top_k(&c->q, n_logits, (int)n_vocab, FTK_BEST, c->logits, c->ranking, c->best);
        ftk_cuda_download(&c->q, c->best_host, c->best,
                          (size_t)n_logits * FTK_BEST * sizeof *c->best);
    }
    if (f->keep >= 0)
        ftk_cuda_download(&c->q, f->states, c->states, (size_t)n_rows * d * sizeof(float));
}

static void note_trouble(cuda *c)
{
    if (c->q.error == 0 || c->trouble[0]) return;
    snprintf(c->trouble, sizeof c->trouble, "%s failed: %s", c->name, ftk_cuda_error_text(&c->q));
}

/* ---- kept passes */

static void drop_kept(cuda *c)
{
    for (int i = 0; i < ROW_KINDS; i++)
        for (int j = 0; j < SLOT_KINDS; j++) {
            ftk_cuda_graph_free(c->kept[i][j].graph);
            c->kept[i][j] = (kept){0};
        }
}

/* The kind of a pass, which is then laid out for all of its kind; NULL: it is none to keep. */
static kept *kind_of(cuda *c, pass *p)
{
    const ftk_pass_seq *seq = p->seqs;
    if (c->keeps_none || p->n_seqs != 1 || p->first > 0 || seq->states || seq->first_logits > 0 ||
        seq->n_rows > KEPT_ROWS || p->f->layers < c->m->hp.n_layer)
        return NULL;
    int rows = 0, slots = 0;
    if (seq->n_rows > 1) rows = (seq->n_rows + FTK_TILE_ROWS - 1) / FTK_TILE_ROWS;
    while (FTK_CUDA_CHUNK << slots < seq->kv->len + seq->n_rows) slots++;
    if (slots >= SLOT_KINDS) return NULL;
    const char *pool = seq->kv->pool->data;
    if (c->kept_pool != pool || c->kept_keep != p->f->keep) drop_kept(c);
    c->kept_pool = pool;
    c->kept_keep = p->f->keep;
    p->n_rows = p->n_logits = rows ? rows * FTK_TILE_ROWS : 1;
    p->n_slots = FTK_CUDA_CHUNK << slots;
    return &c->kept[rows][slots];
}

/* The first pass of a kind is done as it stands, as kernels may be loaded then; the second one is kept,
 * and all further ones are one call. */
static void compute_kept(cuda *c, kept *k, const pass *p)
{
    if (k->seen && !k->graph && !c->keeps_none) {
        ftk_cuda_graph_begin(&c->q);
        compute(c, p);
        k->graph = ftk_cuda_graph_end(&c->q);
        c->keeps_none = !k->graph;
    }
    k->seen = true;
    if (k->graph)
        ftk_cuda_graph_run(&c->q, k->graph);
    else
        compute(c, p);
}

static int n_kept(const ftk_device *d)
{
    const cuda *c = (const void *)d;
    int n = 0;
    for (int i = 0; i < ROW_KINDS; i++)
        for (int j = 0; j < SLOT_KINDS; j++) n += c->kept[i][j].graph != NULL;
    return c->keeps_none ? -1 : n;
}

static void run(ftk_device *d, ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs, int first)
{
    cuda *c = of(d);
    if (c->trouble[0]) return;
    if (!c->turned) send_turns(c, f);
    int n_rows = 0, n_logits = 0;
    for (int s = 0; s < n_seqs; s++) {
        n_rows += seqs[s].n_rows;
        n_logits += seqs[s].n_rows - seqs[s].first_logits;
    }
    pass p = {.f = f,
              .seqs = seqs,
              .n_seqs = n_seqs,
              .first = first,
              .n_rows = n_rows,
              .n_logits = n_logits};
    c->runs_wide = n_seqs == 1 && n_rows > FTK_MAX_NODES;
    kept *k = kind_of(c, &p);
    send_inputs(c, &p);
    if (k)
        compute_kept(c, k, &p);
    else
        compute(c, &p);
    fetch(c, &p, n_rows, n_logits);
    f->best = c->best_host;
    ftk_cuda_wait(&c->q);
    note_trouble(c);
}

/* ---- life */

static void free_device(ftk_device *d)
{
    cuda *c = of(d);
    if (c->q.own || ftk_cuda_emulated()) {
        drop_kept(c);
        ftk_cuda_free(&c->q, c->arena);
        ftk_cuda_free(&c->q, c->work);
        ftk_cuda_free_host(&c->q, c->in_host);
        ftk_cuda_free_host(&c->q, c->best_host);
        ftk_cuda_free_host(&c->q, c->stage);
        ftk_cuda_close(&c->q);
    }
    const ftk_host h = c->host;
    ftk_release(&h, c->layers);
    ftk_release(&h, c);
}

static const char *name(const ftk_device *d)
{
    return ((const cuda *)(const void *)d)->name;
}

static const char *trouble(const ftk_device *d)
{
    const cuda *c = (const void *)d;
    return c->trouble[0] ? c->trouble : NULL;
}

static const ftk_device_ops ops = {
    .free = free_device,
    .name = name,
    .trouble = trouble,
    .kv_alloc = kv_alloc,
    .kv_free = kv_free,
    .kv_copy = kv_copy,
    .kv_move = kv_move,
    .run = run,
    .kept = n_kept,
};

static size_t mib(size_t bytes)
{
    return bytes >> 20;
}

/* Sizes of everything; what is missing is said before anything is sent. */
static ftk_err plan(cuda *c, const ftk_device_config *cfg, const ftk_cuda_info *info, char *why,
                    size_t cap)
{
    const ftk_hparams *hp = &c->m->hp;
    inputs in;
    c->wide = cfg->wide;
    c->max_rows = c->wide && cfg->max_rows < FTK_WIDE_ROWS ? FTK_WIDE_ROWS : cfg->max_rows;
    c->max_slots = cfg->max_slots;
    c->max_pages = (cfg->max_slots + FTK_PAGE - 1) / FTK_PAGE + 1;
    const size_t one = ftk_cuda_attn_partial(1, hp->n_head, hp->head_dim, cfg->max_slots);
    const size_t all = one * FTK_MAX_NODES;
    c->partial_size = all < (size_t)PARTIAL ? all : most_of(one, (size_t)PARTIAL);
    c->in_size =
        lay_out(NULL, c->max_rows, c->max_rows, (size_t)c->max_rows * (size_t)c->max_pages, &in);
    c->arena_size = put_weights(c, false);
    c->stage_size = most_of((size_t)STAGE, widest_tile(c->m));
    const size_t need = c->arena_size + deal_work(c) + cfg->kv_bytes + (size_t)RESERVE;
    if (need <= info->free) return FTK_OK;
    snprintf(
        why, cap,
        "%s has %zu MiB free of %zu; weights of %zu MiB, a KV cache of %zu and passes of %zu do "
        "not fit, %zu MiB are missing: use fewer bits, a smaller context or the CPU",
        c->name, mib(info->free), mib(info->total), mib(c->arena_size), mib(cfg->kv_bytes),
        mib(deal_work(c)), mib(need - info->free) + 1);
    return FTK_ERR_NOMEM;
}

static ftk_err fill(cuda *c, char *why, size_t cap)
{
    c->arena = ftk_cuda_alloc(&c->q, c->arena_size);
    c->work = ftk_cuda_alloc(&c->q, deal_work(c));
    c->stage = ftk_cuda_alloc_host(&c->q, c->stage_size);
    c->in_host = ftk_cuda_alloc_host(&c->q, c->in_size);
    c->best_host = ftk_cuda_alloc_host(&c->q, (size_t)c->max_rows * FTK_BEST * sizeof *c->best);
    if (!c->arena || !c->work || !c->stage || !c->in_host || !c->best_host) {
        snprintf(why, cap, "%s: no memory for weights of %zu MiB and passes of %zu MiB", c->name,
                 mib(c->arena_size), mib(deal_work(c)));
        return FTK_ERR_NOMEM;
    }
    deal_work(c);
    if (!c->m->rope.freq_window) c->turns[1] = c->turns[0];
    put_weights(c, true);
    ftk_cuda_wait(&c->q);
    note_trouble(c);
    if (!c->trouble[0]) return FTK_OK;
    snprintf(why, cap, "%s", c->trouble);
    return FTK_ERR_DEVICE;
}

ftk_err ftk_device_open(ftk_device **out, const ftk_model *m, const ftk_device_config *cfg,
                        char *why, size_t cap)
{
    *out = NULL;
    int ordinal;
    ftk_cuda_info info;
    if (!ftk_device_known(cfg->name, &ordinal)) {
        snprintf(why, cap, FTK_DEVICE_UNKNOWN, cfg->name);
        return FTK_ERR_INVALID;
    }
    if (!ftk_cuda_probe(ordinal, &info)) {
        snprintf(why, cap, "device %s: %s", cfg->name, info.problem);
        return FTK_ERR_DEVICE;
    }
    cuda *c = ftk_alloc(&m->host, 1, sizeof *c);
    layer *layers = ftk_alloc(&m->host, (size_t)m->hp.n_layer, sizeof *layers);
    if (!c || !layers) {
        ftk_release(&m->host, c);
        ftk_release(&m->host, layers);
        snprintf(why, cap, "device %s: no memory on the host", cfg->name);
        return FTK_ERR_NOMEM;
    }
    c->layers = layers;
    c->base.ops = &ops;
    c->m = m;
    c->host = m->host;
    snprintf(c->name, sizeof c->name, "cuda:%d %s", ordinal, info.name);
    ftk_err err = FTK_OK;
    if (!ftk_cuda_open(&c->q, ordinal)) {
        snprintf(why, cap, "%s cannot be used: %s", c->name, ftk_cuda_error_text(&c->q));
        err = FTK_ERR_DEVICE;
    }
    if (err == FTK_OK && cfg->wide && !ftk_cuda_wide_open(&c->q)) {
        snprintf(why, cap, "%s: wide prefill needs cuBLAS, which is not installed or does not work",
                 c->name);
        err = FTK_ERR_DEVICE;
    }
    if (err == FTK_OK) err = plan(c, cfg, &info, why, cap);
    if (err == FTK_OK) err = fill(c, why, cap);
    if (err != FTK_OK) {
        free_device(&c->base);
        return err;
    }
    *out = &c->base;
    return FTK_OK;
}
