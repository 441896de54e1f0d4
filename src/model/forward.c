/* SPDX-License-Identifier: Apache-2.0
 *
 * The forward pass, top to bottom in the order of the computation; architectures differ in fields
 * of the layers and in flags of the table in arch.h. One run of the team serves the whole pass;
 * between stages all threads meet at a barrier. Within a stage each thread takes a range of rows,
 * of outputs or of heads - never a part of a reduction.
 */
#include "forward.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "device.h"
#include "stages.h"

typedef struct {
    ftk_forward *f;
    const ftk_pass_seq *seqs;
    int n_seqs, n_rows, n_logits;
    int first;   /* layer */
    bool stores; /* keys and values alone: ftk_forward_store() */
    const ftk_route *route;
    int ith, nth; /* this thread, of how many */
    char *act;    /* [FTK_OWN_ROWS][act_stride], [FTK_OWN_ROWS][n_embd]: this thread's own */
    float *norm;
} worker;

/* Elements of an activation that each thread rather converts for itself than waits for others. */
enum { OWN = 2048 };

static ftk_team *team_of(ftk_forward *f)
{
    return f->lent ? f->lent : &f->team;
}

static void barrier(const worker *w)
{
    if (w->nth > 1) ftk_team_wait(team_of(w->f), w->nth);
}

static ftk_range share(const worker *w, int n, int grain)
{
    return ftk_team_share(w->ith, w->nth, n, grain);
}

/* A row is prepared by one thread for all, or, where rows are few and short, by every thread for
 * itself: that saves a barrier. n: the row's length. */
static bool alone(const worker *w, int n)
{
    return w->nth > 1 && w->n_rows <= FTK_OWN_ROWS && w->n_rows * n <= OWN;
}

static ftk_range rows_to_prepare(const worker *w, int n_rows, int n)
{
    return alone(w, n) ? (ftk_range){0, n_rows} : share(w, n_rows, 1);
}

static char *act_of(const worker *w, int n)
{
    return alone(w, n) ? w->act : w->f->act;
}

static float *norm_of(const worker *w)
{
    return alone(w, w->f->m->hp.n_embd) ? w->norm : w->f->norm;
}

static bool arch_has(const worker *w, unsigned flag)
{
    return (w->f->m->hp.arch->flags & flag) != 0;
}

/* This thread's outputs of y = W act, for all rows. */
static ftk_range multiply(const worker *w, const ftk_mat *mat, int n_rows, float *y, size_t ldy)
{
    const ftk_forward *f = w->f;
    const ftk_kernels *k = &f->m->kernels;
    const ftk_range o = share(w, mat->n_out, k->matmul_grain);
    if (o.begin < o.end)
        k->matmul(mat, act_of(w, mat->n_in), f->act_stride, n_rows, o.begin, o.end, y, ldy);
    return o;
}

/* act = x, as matrices of type t read it. */
static void pack_rows(const worker *w, ftk_type t, int n, const float *x)
{
    char *act = act_of(w, n);
    const ftk_range r = rows_to_prepare(w, w->n_rows, n);
    for (int i = r.begin; i < r.end; i++)
        w->f->m->kernels.act_pack(t, n, x + (size_t)i * (size_t)n,
                                  act + (size_t)i * w->f->act_stride);
}

/* norm_of(w) = rms_norm(x) * weight, per row. */
static void norm_rows(const worker *w, const float *weight)
{
    const ftk_forward *f = w->f;
    const int d = f->m->hp.n_embd;
    float *norm = norm_of(w);
    const ftk_range r = rows_to_prepare(w, w->n_rows, d);
    for (int i = r.begin; i < r.end; i++)
        f->m->kernels.rms_norm(d, f->x + (size_t)i * (size_t)d, weight, f->m->hp.norm_eps,
                               norm + (size_t)i * (size_t)d);
}

/* Where the x of a product comes from. */
typedef enum {
    PACKED,   /* it is in act already */
    NORMED,   /* norm_rows(), by the thread that packs it; nobody reads the old act any more */
    REPACKED, /* the same for another form of act; somebody may still read the old one */
    BY_ALL,   /* all threads made parts of every row */
} source;

/* y = W x + bias for several matrices that read the same x [n_rows][n_in]. They may differ in type;
 * those that read activations in the same form share one conversion. */
static void project(const worker *w, const float *x, const ftk_mat *mat, const float *bias,
                    float *y, size_t ldy, source from)
{
    const int n = mat->n_in;
    if (from != PACKED) {
        if (from == BY_ALL || (from == REPACKED && !alone(w, n))) barrier(w);
        pack_rows(w, mat->type, n, x);
        if (!alone(w, n)) barrier(w);
    }
    const ftk_range o = multiply(w, mat, w->n_rows, y, ldy);
    for (int r = 0; bias && r < w->n_rows; r++)
        w->f->m->kernels.add(o.end - o.begin, bias + o.begin, y + (size_t)r * ldy + o.begin);
}

/* Of b's x, once a has read it: matrices may read the same packed activations, see
 * ftk_kernels.act_pack. */
static source after(const ftk_mat *a, const ftk_mat *b)
{
    return (ftk_type_block(a->type) == 1) == (ftk_type_block(b->type) == 1) ? PACKED : REPACKED;
}

/* x += out on this thread's columns, which are those it has just multiplied. */
static void add_columns(const worker *w)
{
    const ftk_forward *f = w->f;
    const int d = f->m->hp.n_embd;
    const ftk_range o = share(w, d, f->m->kernels.matmul_grain);
    for (int r = 0; r < w->n_rows; r++) {
        const size_t at = (size_t)r * (size_t)d + (size_t)o.begin;
        f->m->kernels.add(o.end - o.begin, f->out + at, f->x + at);
    }
}

/* x += out, per row: out is complete, or normed first. */
static void add_rows(const worker *w, const float *post_norm)
{
    const ftk_forward *f = w->f;
    if (!post_norm) {
        add_columns(w);
        barrier(w);
        return;
    }
    barrier(w);
    const int d = f->m->hp.n_embd;
    const ftk_range r = share(w, w->n_rows, 1);
    for (int i = r.begin; i < r.end; i++) {
        float *out = f->out + (size_t)i * (size_t)d;
        f->m->kernels.rms_norm(d, out, post_norm, f->m->hp.norm_eps, out);
        f->m->kernels.add(d, out, f->x + (size_t)i * (size_t)d);
    }
    barrier(w);
}

/* Norms, where the layer has weights for it, and turns n heads of one row. */
static void place_heads(const worker *w, const float *norm, const float *cs, int n, float *x)
{
    const ftk_kernels *k = &w->f->m->kernels;
    const ftk_hparams *hp = &w->f->m->hp;
    for (int h = 0; norm && h < n; h++)
        k->rms_norm(hp->head_dim, x + h * hp->head_dim, norm, hp->norm_eps, x + h * hp->head_dim);
    if (arch_has(w, FTK_ARCH_ROPE_HALVES))
        k->rope_halves(n, hp->head_dim, hp->n_rot, cs, x);
    else
        k->rope(n, hp->head_dim, hp->n_rot, cs, x);
}

/* A thread takes whole KV heads where they can be dealt out evenly: then it attends only to keys
 * that it has stored itself. Else rows to store, and tiles of rows of a head to attend. */
static bool by_heads(const worker *w)
{
    return w->f->m->hp.n_head_kv % w->nth == 0;
}

static const float *turn_of(const worker *w, int layer, int i)
{
    const ftk_hparams *hp = &w->f->m->hp;
    return w->f->cs[hp->windowed[layer]] + (size_t)i * (size_t)hp->n_rot;
}

/* Turns queries of a row's KV heads [h0, h1). */
static void turn_heads(const worker *w, int layer, int i, int h0, int h1)
{
    const ftk_hparams *hp = &w->f->m->hp;
    const int dim = hp->head_dim, group = hp->n_head / hp->n_head_kv;
    float *q = w->f->q + (size_t)i * (size_t)(hp->n_head * dim) + h0 * group * dim;
    place_heads(w, w->f->m->layers[layer].q_norm, turn_of(w, layer, i), (h1 - h0) * group, q);
}

/* Turns keys of a row's KV heads [h0, h1) and stores their keys and values. */
static void store_heads(const worker *w, int layer, int i, int h0, int h1)
{
    const ftk_forward *f = w->f;
    const ftk_kernels *k = &f->m->kernels;
    const ftk_hparams *hp = &f->m->hp;
    const ftk_layer *l = &f->m->layers[layer];
    const int dim = hp->head_dim;
    const size_t dkv = (size_t)(hp->n_head_kv * dim);
    const float *cs = turn_of(w, layer, i);
    float *key = f->kv + (size_t)i * 2 * dkv, *value = key + dkv;
    place_heads(w, l->k_norm, cs, h1 - h0, key + h0 * dim);
    const struct ftk_row *row = &f->rows[i];
    for (int h = h0; h < h1; h++) {
        k->kv_store(f->kv_type, dim, key + h * dim, ftk_kv_at(row->kv, layer, 0, h, row->slot));
        k->kv_store(f->kv_type, dim, value + h * dim, ftk_kv_at(row->kv, layer, 1, h, row->slot));
    }
}

static void store(const worker *w, int layer, bool queries)
{
    const int n_head_kv = w->f->m->hp.n_head_kv;
    const bool heads = by_heads(w);
    const ftk_range h = heads ? share(w, n_head_kv, 1) : (ftk_range){0, n_head_kv};
    const ftk_range r = heads ? (ftk_range){0, w->n_rows} : share(w, w->n_rows, 1);
    for (int i = r.begin; i < r.end; i++) {
        if (queries) turn_heads(w, layer, i, h.begin, h.end);
        store_heads(w, layer, i, h.begin, h.end);
    }
    if (!heads) barrier(w);
}

/* Rows of a sequence that attend together. Where threads take tiles, tiles are such that the one
 * which has most to do is done soonest; keys and values are widened for each, which takes as
 * long as some rows. */
static int rows_to_attend(const worker *w, int n_rows)
{
    enum { WIDENING = 3 };
    const int n_head_kv = w->f->m->hp.n_head_kv;
    int best = FTK_ATTN_TILE, least = INT_MAX;
    for (int rows = FTK_ATTN_TILE; rows > 0 && !by_heads(w); rows--) {
        const int tiles = (n_rows + rows - 1) / rows;
        const int most = (tiles * n_head_kv + w->nth - 1) / w->nth;
        const int time = most * (WIDENING + (rows < n_rows ? rows : n_rows));
        if (time >= least) continue;
        least = time;
        best = rows;
    }
    return best;
}

static void attend(const worker *w, int layer)
{
    const ftk_forward *f = w->f;
    const ftk_hparams *hp = &f->m->hp;
    const size_t dq = (size_t)hp->n_head * (size_t)hp->head_dim;
    float *scratch = f->scratch + (size_t)w->ith * f->scratch_stride;
    const bool heads = by_heads(w);
    const ftk_range own = heads ? share(w, hp->n_head_kv, 1) : (ftk_range){0, hp->n_head_kv};
    int row = 0, item = 0;
    for (int s = 0; s < w->n_seqs; s++) {
        const ftk_pass_seq *seq = &w->seqs[s];
        const ftk_attn a = {
            .n_rows = seq->n_rows,
            .n_head = hp->n_head,
            .n_head_kv = hp->n_head_kv,
            .head_dim = hp->head_dim,
            .window = hp->windowed[layer] ? hp->window : 0,
            .scale = hp->attn_scale,
            .kv_type = f->kv_type,
            .q = f->q + (size_t)row * dq,
            .out = f->attn + (size_t)row * dq,
            .k_pages = ftk_kv_keys(seq->kv, layer),
            .v_pages = ftk_kv_values(seq->kv, layer),
            .prefix = seq->kv->len,
            .mask = seq->mask ? seq->mask : (const uint64_t(*)[2])f->chain + seq->slot,
        };
        const int tile = rows_to_attend(w, seq->n_rows);
        for (int r = 0; r < seq->n_rows; r += tile) {
            const int end = r + tile < seq->n_rows ? r + tile : seq->n_rows;
            for (int h = own.begin; h < own.end; h++)
                if (heads || item++ % w->nth == w->ith)
                    f->m->kernels.attention(&a, h, r, end, scratch);
        }
        row += seq->n_rows;
    }
}

/* What the attention of an EAGLE head's first layer reads. */
static void pair_rows(const worker *w, const ftk_layer *l)
{
    const ftk_forward *f = w->f;
    const ftk_hparams *hp = &f->m->hp;
    const size_t d = (size_t)hp->n_embd;
    const ftk_range r = share(w, w->n_rows, 1);
    for (size_t i = (size_t)r.begin; i < (size_t)r.end; i++) {
        float *const x = f->x + i * d, *const pair = f->pair + i * 2 * d;
        ftk_embed(f->m, f->rows[i].token, pair);
        f->m->kernels.rms_norm(hp->n_embd, pair, l->attn_norm, hp->norm_eps, pair);
        f->m->kernels.rms_norm(hp->n_embd, x, l->hidden_norm, hp->norm_eps, pair + d);
        if (arch_has(w, FTK_ARCH_NORM_RESIDUAL)) memcpy(x, pair + d, d * sizeof *x);
    }
}

static void attention_block(const worker *w, int i, const ftk_layer *l)
{
    const ftk_forward *f = w->f;
    const ftk_hparams *hp = &f->m->hp;
    const size_t dq = (size_t)hp->n_head * (size_t)hp->head_dim;
    const size_t dkv = (size_t)hp->n_head_kv * (size_t)hp->head_dim;
    const float *norm = l->hidden_norm ? f->pair : norm_of(w);
    if (l->hidden_norm)
        pair_rows(w, l);
    else
        norm_rows(w, l->attn_norm);
    project(w, norm, &l->q, l->q_bias, f->q, dq, l->hidden_norm ? BY_ALL : NORMED);
    project(w, norm, &l->k, l->k_bias, f->kv, 2 * dkv, after(&l->q, &l->k));
    project(w, norm, &l->v, l->v_bias, f->kv + dkv, 2 * dkv, after(&l->k, &l->v));
    barrier(w);
    store(w, i, true);
    attend(w, i);
    project(w, f->attn, &l->o, l->o_bias, f->out, (size_t)hp->n_embd, BY_ALL);
    add_rows(w, l->attn_post_norm);
}

static void ffn_block(const worker *w, const ftk_layer *l)
{
    const ftk_forward *f = w->f;
    const ftk_hparams *hp = &f->m->hp;
    const float *norm = norm_of(w);
    norm_rows(w, l->ffn_norm);
    project(w, norm, &l->gate, NULL, f->gate, (size_t)hp->n_ff, NORMED);
    project(w, norm, &l->up, NULL, f->up, (size_t)hp->n_ff, after(&l->gate, &l->up));
    const ftk_kernels *k = &f->m->kernels;
    const ftk_range o = share(w, hp->n_ff, k->matmul_grain);
    for (int r = 0; r < w->n_rows; r++) {
        const size_t at = (size_t)r * (size_t)hp->n_ff + (size_t)o.begin;
        (arch_has(w, FTK_ARCH_GELU) ? k->gelu_mul : k->silu_mul)(o.end - o.begin, f->gate + at,
                                                                 f->up + at);
    }
    project(w, f->gate, &l->down, NULL, f->out, (size_t)hp->n_embd, BY_ALL);
    add_rows(w, l->ffn_post_norm);
}

/* A layer that a row leaves out: of its state come key and value, and then it is scaled. */
static void skip_block(const worker *w, int i)
{
    const ftk_forward *f = w->f;
    const ftk_layer *l = &f->m->layers[i];
    const ftk_hparams *hp = &f->m->hp;
    const size_t dkv = (size_t)hp->n_head_kv * (size_t)hp->head_dim;
    const float *norm = norm_of(w);
    norm_rows(w, l->attn_norm);
    project(w, norm, &l->k, l->k_bias, f->kv, 2 * dkv, NORMED);
    project(w, norm, &l->v, l->v_bias, f->kv + dkv, 2 * dkv, after(&l->k, &l->v));
    barrier(w);
    store(w, i, false);
    const ftk_range o = share(w, hp->n_embd, 1);
    const float *all = w->route->policy->scale;
    const float *scale = all ? all + (size_t)i * (size_t)hp->n_embd : NULL;
    for (int j = o.begin; scale && j < o.end; j++) f->x[j] *= scale[j];
    barrier(w);
}

/* Keys and values of the states themselves. */
static void store_block(const worker *w, int i)
{
    const ftk_forward *f = w->f;
    const ftk_layer *l = &f->m->layers[i];
    const ftk_hparams *hp = &f->m->hp;
    const size_t dkv = (size_t)hp->n_head_kv * (size_t)hp->head_dim;
    project(w, f->x, &l->k, l->k_bias, f->kv, 2 * dkv, BY_ALL);
    project(w, f->x, &l->v, l->v_bias, f->kv + dkv, 2 * dkv,
            after(&l->k, &l->v) == PACKED ? PACKED : BY_ALL);
    barrier(w);
    store(w, i, false);
    barrier(w);
}

/* The action at a layer. Every thread asks for itself, which saves a barrier. */
static uint8_t action_at(const worker *w, int layer)
{
    const ftk_route *r = w->route;
    if (!r) return FTK_FULL;
    const uint8_t action = ftk_policy_choose(r->policy, layer, w->f->x, r->actions);
    if (w->ith == 0) r->actions[layer] = action;
    return action;
}

static void run_layer(const worker *w, int i, uint8_t action)
{
    if (action == FTK_SKIP) {
        skip_block(w, i);
        return;
    }
    const bool low = action == FTK_PARTIAL && w->f->low;
    const ftk_layer *l = low ? &w->f->low[i] : &w->f->m->layers[i];
    attention_block(w, i, l);
    ffn_block(w, l);
}

void ftk_turn(const ftk_hparams *hp, bool halves, const float *freq, int pos, float *cs)
{
    const int half = hp->n_rot / 2;
    for (int j = 0; j < half; j++) {
        const double angle = (double)pos * freq[j];
        cs[halves ? j : 2 * j] = (float)cos(angle) * hp->rope_gain;
        cs[halves ? j + half : 2 * j + 1] = (float)sin(angle) * hp->rope_gain;
    }
}

void ftk_embed(const ftk_model *m, int32_t token, float *x)
{
    const int d = m->hp.n_embd;
    const size_t row_bytes = ftk_type_bytes(m->embd.type, (size_t)d);
    m->kernels.dequant_row(m->embd.type, d, (const char *)m->embd.data + (size_t)token * row_bytes,
                           x);
    for (int i = 0; m->hp.embd_scale != 1.0f && i < d; i++) x[i] *= m->hp.embd_scale;
}

static void embed_rows(const worker *w)
{
    const ftk_forward *f = w->f;
    const ftk_hparams *hp = &f->m->hp;
    const ftk_range r = share(w, w->n_rows, 1);
    for (int i = r.begin; i < r.end; i++) {
        float *x = f->x + (size_t)i * (size_t)hp->n_embd;
        if (f->rows[i].state)
            memcpy(x, f->rows[i].state, (size_t)hp->n_embd * sizeof *x);
        else
            ftk_embed(f->m, f->rows[i].token, x);
        for (int t = 0; t < 1 + (f->cs[1] != f->cs[0]); t++)
            ftk_turn(hp, arch_has(w, FTK_ARCH_ROPE_HALVES), f->freq[t], f->rows[i].pos,
                     f->cs[t] + (size_t)i * (size_t)hp->n_rot);
    }
}

/* Final norm and output matrix, for the rows that asked: they move up to the front of act. */
static void output_rows(const worker *w)
{
    const ftk_forward *f = w->f;
    const ftk_kernels *k = &f->m->kernels;
    const ftk_hparams *hp = &f->m->hp;
    const ftk_range mine = rows_to_prepare(w, w->n_logits, hp->n_embd);
    char *act = act_of(w, hp->n_embd);
    int row = 0, nth_logits = 0;
    for (int s = 0; s < w->n_seqs; row += w->seqs[s++].n_rows)
        for (int i = w->seqs[s].first_logits; i < w->seqs[s].n_rows; i++, nth_logits++) {
            if (nth_logits < mine.begin || nth_logits >= mine.end) continue;
            const size_t d = (size_t)hp->n_embd;
            float *const all = alone(w, hp->n_embd) && w->ith > 0 ? w->norm : f->features;
            float *const feature = all + (size_t)nth_logits * d;
            k->rms_norm(hp->n_embd, f->x + (size_t)(row + i) * d, f->m->output_norm, hp->norm_eps,
                        feature);
            k->act_pack(f->m->output.type, hp->n_embd, feature,
                        act + (size_t)nth_logits * f->act_stride);
        }
    if (!alone(w, hp->n_embd)) barrier(w);
    if (w->n_logits > 0) multiply(w, &f->m->output, w->n_logits, f->logits, (size_t)hp->n_vocab);
}

/* The states that enter a layer, where heads want them. */
static void tap_states(const worker *w, int layer)
{
    const ftk_forward *f = w->f;
    const size_t d = (size_t)f->m->hp.n_embd;
    const ftk_range r = share(w, w->n_rows, 1);
    for (size_t t = 0; t < (size_t)f->n_taps; t++)
        if (f->tap[t] == layer)
            memcpy(f->tapped + (t * (size_t)f->max_rows + (size_t)r.begin) * d,
                   f->x + (size_t)r.begin * d, (size_t)(r.end - r.begin) * d * sizeof *f->x);
}

static void keep_states(const worker *w)
{
    const ftk_forward *f = w->f;
    const size_t d = (size_t)f->m->hp.n_embd;
    const ftk_range r = share(w, w->n_rows, 1);
    memcpy(f->states + (size_t)r.begin * d, f->x + (size_t)r.begin * d,
           (size_t)(r.end - r.begin) * d * sizeof *f->x);
}

static void run(void *ctx, int ith, int nth)
{
    const worker *const all = ctx;
    const ftk_forward *const f = all->f;
    worker own = *all;
    own.ith = ith;
    own.nth = nth;
    own.act = f->own_act + (size_t)ith * FTK_OWN_ROWS * f->act_stride;
    own.norm = f->own_norm + (size_t)ith * FTK_OWN_ROWS * (size_t)f->m->hp.n_embd;
    const worker *const w = &own;
    embed_rows(w);
    if (w->route || alone(w, w->f->m->hp.n_embd))
        barrier(w); /* else each thread norms the rows it has just written */
    for (int i = 0; i < w->f->layers && w->stores; i++) store_block(w, i);
    if (w->stores) return;
    for (int i = w->first; i < w->f->layers; i++) {
        const uint8_t action = action_at(w, i);
        tap_states(w, i);
        run_layer(w, i, action);
        if (i == w->f->keep) keep_states(w);
    }
    tap_states(w, w->f->layers);
    output_rows(w);
}

/* Layers that were run, in whole ones. */
static double layers_run(const worker *w)
{
    const ftk_route *const r = w->route;
    double layers = 0;
    for (int i = w->first; i < w->f->layers; i++) {
        const uint8_t action = r ? r->actions[i] : FTK_FULL;
        const bool whole = action == FTK_FULL || (action == FTK_PARTIAL && !w->f->low);
        layers += whole ? 1 : r->policy->cost[action];
    }
    return layers;
}

void ftk_forward_run(ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs)
{
    ftk_forward_run_above(f, seqs, n_seqs, 0);
}

/* On the CPU. */
static void run_rows(ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs, int first, bool stores)
{
    if (f->below && first < f->below->end) {
        seqs = ftk_stages_run(f->below, f, seqs, n_seqs, first);
        first = f->below->end;
    }
    const size_t d = (size_t)f->m->hp.n_embd;
    double slot_rows = 0;
    worker all = {.f = f,
                  .seqs = seqs,
                  .n_seqs = n_seqs,
                  .first = first,
                  .stores = stores,
                  .route = seqs[0].route};
    for (int s = 0; s < n_seqs; s++) {
        const ftk_pass_seq *seq = &seqs[s];
        slot_rows += (double)seq->kv->len * seq->n_rows;
        for (int i = 0; i < seq->n_rows; i++)
            f->rows[all.n_rows++] = (struct ftk_row){
                .token = seq->token ? seq->token[i] : 0,
                .state = seq->states ? seq->states + (size_t)i * d : NULL,
                .pos = seq->kv->len + (seq->depth ? seq->depth[i] : seq->slot + i),
                .slot = seq->kv->len + seq->slot + i,
                .kv = seq->kv,
            };
        all.n_logits += seq->n_rows - seq->first_logits;
    }
    ftk_team_run(team_of(f), run, &all);
    const ftk_clock *const clock = f->clock;
    if (clock) clock->pass(clock->ctx, layers_run(&all), all.n_rows, slot_rows, all.n_logits);
}

void ftk_forward_run_above(ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs, int first)
{
    if (f->device)
        f->device->ops->run(f->device, f, seqs, n_seqs, first);
    else
        run_rows(f, seqs, n_seqs, first, false);
}

void ftk_forward_store(ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs)
{
    run_rows(f, seqs, n_seqs, 0, true);
}

/* Masks, depths of all rows: the sequence's, then those that join. */
static void join(ftk_forward *f, const ftk_pass_seq *seq, const ftk_pass_append *a)
{
    const uint64_t(*mask)[2] = seq->mask ? seq->mask : (const uint64_t(*)[2])f->chain;
    const int n = seq->n_rows;
    memcpy(f->joined, mask, (size_t)n * sizeof *f->joined);
    for (int i = 0; i < n; i++) f->joined_depth[i] = (int16_t)(seq->depth ? seq->depth[i] : i);
    for (int i = 0; i < a->n; i++) {
        const int before = i > 0 && a->node[i] == a->node[i - 1] ? n + i - 1 : a->node[i];
        memcpy(f->joined[n + i], f->joined[before], sizeof *f->joined);
        f->joined[n + i][(n + i) / 64] |= (uint64_t)1 << (n + i) % 64;
        f->joined_depth[n + i] = (int16_t)(f->joined_depth[before] + 1);
    }
}

void ftk_forward_run_appending(ftk_forward *f, const ftk_pass_seq *seq, const ftk_pass_append *a)
{
    const int layers = f->layers, n = seq->n_rows;
    join(f, seq, a);
    const ftk_pass_seq all = {.kv = seq->kv,
                              .n_rows = n + a->n,
                              .depth = f->joined_depth,
                              .mask = (const uint64_t(*)[2])f->joined,
                              .spare = seq->spare,
                              .sampling = seq->sampling,
                              .states = a->maps ? NULL : f->states};
    ftk_pass_seq below = *seq;
    below.first_logits = n;
    if (a->maps) {
        f->device->ops->run_appending(f->device, f, &below, &all, a);
        return;
    }
    below.spare &= ~(unsigned)FTK_SPARE_STATES;
    f->layers = a->layer;
    ftk_forward_run(f, &below, 1);
    f->layers = layers;
    a->states(a->ctx, f->states, f->states + (size_t)n * (size_t)f->m->hp.n_embd);
    ftk_forward_run_above(f, &all, 1, a->layer);
}

/* ---- life */

static size_t widest_act(const ftk_model *m)
{
    const ftk_hparams *hp = &m->hp;
    const int dq = hp->n_head * hp->head_dim;
    int n = hp->n_embd > hp->n_ff ? hp->n_embd : hp->n_ff;
    n = n > dq ? n : dq;
    if (m->layers[0].q.n_in > n) n = m->layers[0].q.n_in;
    return m->kernels.act_bytes(FTK_TYPE_F32, n); /* the widest form there is */
}

/* Memory of passes: where the pointer to it is, and n times size bytes; 0: it is not needed. */
typedef struct part {
    void *at;
    size_t n, size;
} part;

enum { PARTS = 21 };

static void list_parts(ftk_forward *f, int threads, part list[PARTS])
{
    const ftk_hparams *hp = &f->m->hp;
    const size_t rows = (size_t)f->max_rows, own = (size_t)threads * FTK_OWN_ROWS;
    const size_t d = (size_t)hp->n_embd * sizeof(float), ff = (size_t)hp->n_ff * sizeof(float);
    const size_t turn = (size_t)hp->n_rot * sizeof(float), vocab = (size_t)hp->n_vocab;
    const size_t head = (size_t)hp->head_dim * sizeof(float), scratch = f->scratch_stride;
    const size_t dq = (size_t)hp->n_head * head, dkv = (size_t)hp->n_head_kv * head;
    const part all[PARTS] = {{&f->x, rows, d},
                             {&f->norm, rows, d},
                             {&f->pair, f->m->layers[0].hidden_norm ? rows : 0, 2 * d},
                             {&f->q, rows, dq},
                             {&f->kv, rows, 2 * dkv},
                             {&f->attn, rows, dq},
                             {&f->gate, rows, ff},
                             {&f->up, rows, ff},
                             {&f->out, rows, d},
                             {&f->act, rows, f->act_stride},
                             {&f->own_act, own, f->act_stride},
                             {&f->own_norm, own, d},
                             {&f->cs[0], rows, turn},
                             {&f->cs[1], f->m->rope.freq_window ? rows : 0, turn},
                             {&f->scratch, (size_t)threads, scratch * sizeof *f->scratch},
                             {&f->chain, FTK_MAX_NODES, sizeof *f->chain},
                             {&f->joined, FTK_MAX_NODES, sizeof *f->joined},
                             {&f->joined_depth, FTK_MAX_NODES, sizeof *f->joined_depth},
                             {&f->rows, rows, sizeof *f->rows},
                             {&f->logits, rows, vocab * sizeof *f->logits},
                             {&f->features, rows, d}};
    memcpy(list, all, sizeof all);
}

/* Without memory. */
static ftk_forward sized(const ftk_model *m, int max_rows, int max_slots, ftk_type kv_type)
{
    const ftk_hparams *hp = &m->hp;
    const size_t scratch =
        m->kernels.attn_scratch(hp->head_dim, hp->n_head / hp->n_head_kv, max_slots);
    return (ftk_forward){.m = m,
                         .layers = hp->n_layer,
                         .max_rows = max_rows,
                         .kv_type = kv_type,
                         .keep = -1,
                         .act_stride = widest_act(m),
                         .scratch_stride = (scratch + 15) / 16 * 16};
}

uint64_t ftk_forward_bytes(const ftk_model *m, int threads, int max_rows, int max_slots)
{
    ftk_forward f = sized(m, max_rows, max_slots, FTK_TYPE_F32);
    part list[PARTS];
    uint64_t bytes = 0;
    list_parts(&f, threads, list);
    for (int i = 0; i < PARTS; i++) bytes += list[i].n * list[i].size;
    return bytes;
}

static ftk_err open_parts(ftk_forward *f, int threads, int context)
{
    const ftk_model *const m = f->m;
    part list[PARTS];
    list_parts(f, threads, list);
    for (int i = 0; i < PARTS; i++) {
        if (list[i].n == 0) continue;
        void *const p = ftk_alloc_raw(&m->host, list[i].n, list[i].size);
        if (!p)
            return ftk_fail(&m->host, FTK_ERR_NOMEM,
                            "no memory for passes of %d rows: use a smaller max_rows", f->max_rows);
        memcpy(list[i].at, &p, sizeof p);
    }
    f->freq[0] = context > m->hp.n_ctx_short ? m->rope.freq_long : m->rope.freq;
    f->freq[1] = m->rope.freq_window;
    if (!f->freq[1]) f->cs[1] = f->cs[0];
    memset(f->chain, 0, FTK_MAX_NODES * sizeof *f->chain);
    for (int i = 0; i < FTK_MAX_NODES; i++)
        for (int j = 0; j <= i; j++) f->chain[i][j / 64] |= (uint64_t)1 << j % 64;
    return FTK_OK;
}

ftk_err ftk_forward_open(ftk_forward *f, const ftk_model *m, int threads, int max_rows, int context,
                         int max_slots, ftk_type kv_type)
{
    *f = sized(m, max_rows, max_slots, kv_type);
    const ftk_err err = ftk_team_open(&f->team, threads, &m->host);
    return err == FTK_OK ? open_parts(f, threads, context) : err;
}

ftk_err ftk_forward_open_on(ftk_forward *f, const ftk_model *m, ftk_team *lent, int max_rows,
                            int context, int max_slots, ftk_type kv_type)
{
    *f = sized(m, max_rows, max_slots, kv_type);
    f->lent = lent;
    return open_parts(f, lent->threads, context);
}

ftk_err ftk_forward_check(const ftk_forward *f)
{
    if (f->below && f->below->lost)
        return ftk_fail(&f->m->host, FTK_ERR_DEVICE, "another stage of the model is gone");
    const char *trouble = f->device ? f->device->ops->trouble(f->device) : NULL;
    return trouble ? ftk_fail(&f->m->host, FTK_ERR_DEVICE, "%s", trouble) : FTK_OK;
}

ftk_err ftk_forward_keep(ftk_forward *f, int layer)
{
    const size_t d = (size_t)f->m->hp.n_embd;
    if (!f->states) f->states = ftk_alloc_raw(&f->m->host, (size_t)f->max_rows, d * sizeof(float));
    if (!f->states) return ftk_fail(&f->m->host, FTK_ERR_NOMEM, "no memory for states of a layer");
    f->keep = layer;
    return FTK_OK;
}

ftk_err ftk_forward_tap(ftk_forward *f, int layer, int *index)
{
    const ftk_host *const h = &f->m->host;
    const size_t one = (size_t)f->max_rows * (size_t)f->m->hp.n_embd * sizeof(float);
    for (*index = 0; *index < f->n_taps; ++*index)
        if (f->tap[*index] == layer) return FTK_OK;
    if (f->n_taps == FTK_TAPS)
        return ftk_fail(h, FTK_ERR_UNSUPPORTED, "states of more than %d layers are asked for",
                        FTK_TAPS);
    if (f->device && f->device->ops->tap(f->device, f->n_taps + 1) != FTK_OK)
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory for states of a layer on the device");
    float *const more = ftk_alloc_raw(h, (size_t)f->n_taps + 1, one);
    if (!more) return ftk_fail(h, FTK_ERR_NOMEM, "no memory for states of a layer");
    ftk_release(h, f->tapped);
    f->tapped = more;
    f->tap[f->n_taps++] = layer;
    return FTK_OK;
}

void ftk_forward_close(ftk_forward *f)
{
    if (!f->m) return;
    const ftk_host *h = &f->m->host;
    ftk_team_close(&f->team);
    if (f->cs[1] == f->cs[0]) f->cs[1] = NULL;
    part list[PARTS];
    list_parts(f, 0, list);
    for (int i = 0; i < PARTS; i++) {
        void *p;
        memcpy(&p, list[i].at, sizeof p);
        ftk_release(h, p);
    }
    ftk_release(h, f->states);
    ftk_release(h, f->tapped);
    *f = (ftk_forward){0};
}
