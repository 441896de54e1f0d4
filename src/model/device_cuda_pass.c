/* SPDX-License-Identifier: Apache-2.0
 *
 * A pass on a GPU: it sends a few numbers per row, runs all layers on one queue and waits once, for
 * the likeliest tokens or the logits. The order of the computation is that of forward.c. */
#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "device_cuda.h"

/* ---- inputs */

/* Attention takes so many rows of a sequence at a time. */
int ftk_gpu_parts(const ftk_pass_seq *seq)
{
    return (seq->n_rows + FTK_MAX_NODES - 1) / FTK_MAX_NODES;
}

static int rows_of_part(const ftk_pass_seq *seq, int i)
{
    const int left = seq->n_rows - i * FTK_MAX_NODES;
    return left < FTK_MAX_NODES ? left : FTK_MAX_NODES;
}

size_t ftk_gpu_lay_out(char *base, int n_rows, int n_spans, int n_layer, size_t n_pages,
                       ftk_gpu_inputs *in)
{
    const size_t rows = (size_t)n_rows;
    const ftk_gpu_piece pieces[] = {
        {&in->mask, rows * sizeof *in->mask},
        {&in->draw, rows * sizeof *in->draw},
        {&in->token, rows * sizeof *in->token},
        {&in->pos, rows * sizeof *in->pos},
        {&in->logit_row, rows * sizeof *in->logit_row},
        {&in->span, (size_t)n_spans * sizeof *in->span},
        {&in->route, n_layer > 0 ? sizeof *in->route : 0},
        {&in->fixed, (size_t)n_layer},
        {&in->page, n_pages * sizeof *in->page},
    };
    return ftk_gpu_deal(base, pieces, sizeof pieces / sizeof *pieces);
}

typedef struct turning {
    const ftk_hparams *hp;
    const float *freq;
    int first, n;
    float *lines;
} turning;

static void turn_lines(void *ctx, int ith, int nth)
{
    const turning *const t = ctx;
    const bool halves = (t->hp->arch->flags & FTK_ARCH_ROPE_HALVES) != 0;
    for (int i = ith; i < t->n; i += nth)
        ftk_turn(t->hp, halves, t->freq, t->first + i, t->lines + (size_t)i * (size_t)t->hp->n_rot);
}

/* Cosines and sines of all positions, which are known when the first pass runs. */
static void send_turns(ftk_gpu *c, const ftk_forward *f)
{
    const ftk_hparams *hp = &c->m->hp;
    const size_t line = (size_t)hp->n_rot * sizeof(float);
    const int most = (int)(c->stage_size / line);
    for (int t = 0; t < 1 + (c->turns[1] != c->turns[0]); t++)
        for (int first = 0; first < c->max_slots; first += most) {
            const int n = c->max_slots - first < most ? c->max_slots - first : most;
            float *const lines = (float *)(void *)c->stage;
            ftk_team_run_once(turn_lines, &(turning){hp, f->freq[t], first, n, lines}, &c->m->host);
            ftk_cuda_upload(&c->q, c->turns[t] + (size_t)first * (size_t)hp->n_rot, lines,
                            (size_t)n * line);
            ftk_gpu_wait(c); /* the stage is written again */
        }
    c->turned = true;
}

static ftk_cuda_kv kv_of(const ftk_kv_pool *p, int layer_index, ftk_type type, const int32_t *page)
{
    const size_t i = (size_t)layer_index;
    return (ftk_cuda_kv){.pool = p->data,
                         .page_bytes = ftk_kv_page_bytes(p),
                         .keys = 2 * i * p->plane,
                         .values = (2 * i + 1) * p->plane,
                         .n_head_kv = p->n_head_kv,
                         .head_dim = p->head_dim,
                         .type = type,
                         .page = page};
}

int ftk_gpu_slots_of(const ftk_pass_seq *seq)
{
    return seq->kv->len + seq->slot + seq->n_rows;
}

static int pages_of(const ftk_pass_seq *seq)
{
    return (ftk_gpu_slots_of(seq) + FTK_PAGE - 1) / FTK_PAGE;
}

/* From one sequence's first page to the next one's. */
static int pages_apart(const ftk_gpu *c, const ftk_gpu_pass *p, int s)
{
    const int of_kind = p->n_slots / FTK_PAGE;
    if (p->n_seqs == 1 || of_kind == 0) return pages_of(&p->seqs[s]);
    return of_kind < c->max_pages ? of_kind : c->max_pages;
}

/* Of a token behind position pos. */
static ftk_cuda_draw draw_of(const ftk_sampling *s, int pos)
{
    return (ftk_cuda_draw){.uniform = ftk_uniform(s->seed, (uint64_t)pos + 1),
                           .temperature = s->temperature,
                           .top_p = s->top_p,
                           .min_p = s->min_p,
                           .top_k = s->top_k};
}

/* Fills and sends the inputs. Those of a draft by maps leave alone what the pass behind it was
 * sent. */
static void send_inputs(ftk_gpu *c, ftk_gpu_pass *p)
{
    char *const to = p->maps && !p->n_joined ? c->in_mapped : c->in;
    size_t n_pages = 0;
    int n_spans = p->policy ? 1 : 0;
    const int n_layer = p->policy ? c->m->hp.n_layer : 0;
    for (int s = 0; s < p->n_seqs; s++) {
        n_pages += (size_t)pages_apart(c, p, s);
        n_spans += ftk_gpu_parts(&p->seqs[s]);
    }
    ftk_gpu_inputs in;
    char *const from = c->in_host + c->in_host_used;
    const size_t bytes = ftk_gpu_lay_out(from, p->n_rows, n_spans, n_layer, n_pages, &in);
    ftk_gpu_lay_out(to, p->n_rows, n_spans, n_layer, n_pages, &p->in);
    c->in_host_used += bytes;
    assert(c->in_host_used <= c->in_host_size);
    memset(from, 0, bytes); /* rows that are not there see nothing */
    int row = 0, n_logits = 0;
    ftk_cuda_span *span = in.span;
    int32_t *page = in.page;
    for (int s = 0; s < p->n_seqs; s++) {
        const ftk_pass_seq *seq = &p->seqs[s];
        for (int i = 0; i < seq->n_rows; i++, row++) {
            in.token[row] = seq->token ? seq->token[i] : 0;
            memcpy(in.mask[row],
                   seq->mask ? seq->mask[i] : p->f->chain[(seq->slot + i) % FTK_MAX_NODES],
                   sizeof in.mask[row]);
            in.pos[row] = seq->kv->len + (seq->depth ? seq->depth[i] : seq->slot + i);
            if (i < seq->first_logits) continue;
            if (seq->sampling) in.draw[n_logits] = draw_of(seq->sampling, in.pos[row]);
            in.logit_row[n_logits++] = row;
        }
        for (int i = 0; i < ftk_gpu_parts(seq); i++) {
            const int prefix = seq->kv->len + i * FTK_MAX_NODES, n = rows_of_part(seq, i);
            *span++ = (ftk_cuda_span){prefix, n, prefix + seq->slot + n};
        }
        memcpy(page, seq->kv->page, (size_t)pages_of(seq) * sizeof *page);
        page += pages_apart(c, p, s);
    }
    if (p->policy) {
        const ftk_pass_seq *seq = p->seqs;
        *span = (ftk_cuda_span){seq->kv->len + seq->slot, 1, ftk_gpu_slots_of(seq)};
        ftk_gpu_fill_route(seq->route, &in);
    }
    ftk_cuda_upload(&c->q, to, from, bytes);
}

/* ---- layers */

static bool arch_has(const ftk_gpu *c, unsigned flag)
{
    return (c->m->hp.arch->flags & flag) != 0;
}

static void embed_rows(ftk_gpu *c, const ftk_gpu_pass *p)
{
    const size_t d = (size_t)c->m->hp.n_embd;
    if (p->maps) {
        ftk_gpu_map(c, p);
        return;
    }
    ftk_cuda_embed(&c->q, &c->embd, p->n_rows, p->in.token, c->m->hp.embd_scale, c->x);
    size_t row = 0;
    for (int s = 0; s < p->n_seqs; row += (size_t)p->seqs[s++].n_rows)
        if (p->seqs[s].states)
            ftk_cuda_upload(&c->q, c->x + row * d, p->seqs[s].states,
                            (size_t)p->seqs[s].n_rows * d * sizeof *c->x);
}

/* y = W x + bias, or y += that. Products of the same x share its conversion. norm() ends that, and
 * there is one between any two times at which a buffer that products read is written. */
static void project(ftk_gpu *c, const float *x, const ftk_cuda_mat *w, int n_rows,
                    const float *bias, bool add, float *y, size_t ldy)
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

static void norm(ftk_gpu *c, int n_rows, const float *x, const int32_t *index, const float *w,
                 float *y)
{
    const int d = c->m->hp.n_embd;
    ftk_cuda_rms_norm(&c->q, n_rows, 1, d, x, (size_t)d, index, w, c->m->hp.norm_eps, y, (size_t)d);
    c->act_of = c->wide_of = NULL;
}

/* x += W from + bias, or that normed; W is at `mat` in any version of layer i. */
static void add_block(ftk_gpu *c, const ftk_gpu_pass *p, int i, const float *from, size_t mat,
                      const float *bias, const float *post_norm)
{
    const size_t d = (size_t)c->m->hp.n_embd;
    for (int v = 0; v < ftk_gpu_versions(c, p); v++) {
        const ftk_gpu_layer *l = ftk_gpu_version(c, p, i, v, 0);
        const ftk_cuda_mat *w = (const void *)((const char *)l + mat);
        project(c, from, w, p->n_rows, bias, !post_norm, post_norm ? c->out : c->x, d);
    }
    if (!post_norm) return;
    ftk_gpu_when(c, p, i, FTK_GPU_RUN);
    norm(c, p->n_rows, c->out, NULL, post_norm, c->out);
    ftk_cuda_add(&c->q, (size_t)p->n_rows * d, c->out, c->x);
}

/* Norms, where the layer has weights for it, and turns n heads of each row. */
static void place_heads(ftk_gpu *c, const ftk_gpu_pass *p, int windowed, const float *weight, int n,
                        float *x, size_t ld)
{
    const ftk_hparams *hp = &c->m->hp;
    if (weight)
        ftk_cuda_rms_norm(&c->q, p->n_rows, n, hp->head_dim, x, ld, NULL, weight, hp->norm_eps, x,
                          ld);
    ftk_cuda_rope(&c->q, arch_has(c, FTK_ARCH_ROPE_HALVES), p->n_rows, n, hp->head_dim, hp->n_rot,
                  c->turns[windowed], p->in.pos, x, ld);
}

/* Keys and values of each part to the cache, then its attention, which reads them. A row that has a
 * route stands behind others of its kind: it is stored as if those were committed. */
static void attend(ftk_gpu *c, const ftk_gpu_pass *p, int layer_index)
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
        for (int i = 0; i < ftk_gpu_parts(seq); i++, span++) {
            const int n_rows = rows_of_part(seq, i);
            const int laid_out = p->n_slots && p->n_seqs == 1 ? p->n_rows : n_rows;
            const int n_slots = seq->kv->len + seq->slot + i * FTK_MAX_NODES + n_rows;
            ftk_cuda_kv_store(&c->q, &kv, laid_out, p->policy ? span + 1 : span,
                              c->kv + row * 2 * dkv, c->kv + row * 2 * dkv + dkv, 2 * dkv);
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
        page += pages_apart(c, p, s);
    }
}

static void attention_block(ftk_gpu *c, const ftk_gpu_pass *p, int i)
{
    const ftk_hparams *hp = &c->m->hp;
    const ftk_gpu_layer *l = &c->layers[i];
    const size_t dq = (size_t)hp->n_head * (size_t)hp->head_dim;
    const size_t dkv = (size_t)hp->n_head_kv * (size_t)hp->head_dim;
    float *const keys = c->kv, *const values = c->kv + dkv;
    norm(c, p->n_rows, c->x, NULL, l->attn_norm, c->norm);
    for (int v = 0; v < ftk_gpu_versions(c, p); v++) {
        const ftk_gpu_layer *by = ftk_gpu_version(c, p, i, v, 0);
        project(c, c->norm, &by->q, p->n_rows, l->q_bias, false, c->heads, dq);
        ftk_gpu_version(c, p, i, v, FTK_GPU_SKIP); /* which has a key and a value, too */
        project(c, c->norm, &by->k, p->n_rows, l->k_bias, false, keys, 2 * dkv);
        project(c, c->norm, &by->v, p->n_rows, l->v_bias, false, values, 2 * dkv);
    }
    ftk_gpu_when(c, p, i, FTK_GPU_ALL);
    place_heads(c, p, hp->windowed[i], l->k_norm, hp->n_head_kv, keys, 2 * dkv);
    ftk_gpu_when(c, p, i, FTK_GPU_RUN);
    place_heads(c, p, hp->windowed[i], l->q_norm, hp->n_head, c->heads, dq);
    attend(c, p, i);
    add_block(c, p, i, c->attn, offsetof(ftk_gpu_layer, o), l->o_bias, l->attn_post_norm);
}

static void ffn_block(ftk_gpu *c, const ftk_gpu_pass *p, int i)
{
    const ftk_gpu_layer *l = &c->layers[i];
    const size_t ff = (size_t)c->m->hp.n_ff;
    ftk_gpu_when(c, p, i, FTK_GPU_RUN);
    norm(c, p->n_rows, c->x, NULL, l->ffn_norm, c->norm);
    for (int v = 0; v < ftk_gpu_versions(c, p); v++) {
        const ftk_gpu_layer *by = ftk_gpu_version(c, p, i, v, 0);
        project(c, c->norm, &by->gate, p->n_rows, NULL, false, c->gate, ff);
        project(c, c->norm, &by->up, p->n_rows, NULL, false, c->up, ff);
    }
    ftk_gpu_when(c, p, i, FTK_GPU_RUN);
    ftk_cuda_gate(&c->q, arch_has(c, FTK_ARCH_GELU), (size_t)p->n_rows * ff, c->gate, c->up);
    add_block(c, p, i, c->gate, offsetof(ftk_gpu_layer, down), NULL, l->ffn_post_norm);
}

/* The states that enter a layer, where heads want them. */
static void tap_states(ftk_gpu *c, const ftk_gpu_pass *p, int layer)
{
    const size_t d = (size_t)c->m->hp.n_embd;
    if (p->n_rows > c->max_rows) return; /* a wide piece leaves none */
    for (size_t t = 0; t < (size_t)p->f->n_taps; t++)
        if (p->f->tap[t] == layer)
            ftk_cuda_copy(&c->q, c->tapped + t * (size_t)c->max_rows * d, c->x,
                          (size_t)p->n_rows * d * sizeof *c->x);
}

ftk_err ftk_gpu_tap(ftk_device *d, int n)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    const size_t one = (size_t)c->max_rows * (size_t)c->m->hp.n_embd * sizeof(float);
    float *const more = ftk_cuda_alloc(&c->q, (size_t)n * one);
    if (!more) return FTK_ERR_NOMEM;
    ftk_gpu_drop_kept(c); /* passes that leave states elsewhere */
    ftk_cuda_free(&c->q, c->tapped);
    c->tapped = more;
    return FTK_OK;
}

void ftk_gpu_compute(ftk_gpu *c, const void *pass)
{
    const ftk_gpu_pass *const p = pass;
    const size_t d = (size_t)c->m->hp.n_embd;
    c->act_of = c->wide_of = NULL;
    c->runs_wide = p->n_seqs == 1 && p->n_rows > FTK_MAX_NODES;
    embed_rows(c, p);
    for (int i = p->first; i < p->f->layers; i++) {
        tap_states(c, p, i);
        ftk_gpu_choose(c, p, i);
        attention_block(c, p, i);
        ffn_block(c, p, i);
        ftk_gpu_leave_out(c, p, i);
        if (i == p->f->keep)
            ftk_cuda_copy(&c->q, c->states, c->x, (size_t)p->n_rows * d * sizeof *c->x);
    }
    tap_states(c, p, p->f->layers);
    if (p->n_logits == 0) return;
    norm(c, p->n_logits, c->x, p->in.logit_row, c->output_norm, c->features);
    project(c, c->features, &c->output, p->n_logits, NULL, false, c->logits,
            (size_t)c->m->hp.n_vocab);
}

void ftk_gpu_rank(ftk_gpu *c, int n, int n_vocab, const float *logits, const ftk_cuda_draw *draws,
                  ftk_ranked *to)
{
    _Static_assert(sizeof(ftk_ranked) == (1 + 2 * FTK_BEST) * sizeof(int32_t),
                   "as kernels write it");
    ftk_cuda_top_k(&c->q, n, n_vocab, FTK_BEST, logits, c->ranking, c->best);
    ftk_cuda_rank(&c->q, n, n_vocab, FTK_BEST, logits, draws, c->best, &to->token);
}

/* What the caller reads of the rows comes back, n_logits of which have logits. */
static void fetch(ftk_gpu *c, const ftk_gpu_pass *p, int n_logits)
{
    const ftk_forward *f = p->f;
    const size_t d = (size_t)c->m->hp.n_embd, n_vocab = (size_t)c->m->hp.n_vocab;
    bool ranked = false;
    size_t row = 0, state = 0;
    for (int s = 0; s < p->n_seqs; s++) {
        const ftk_pass_seq *seq = &p->seqs[s];
        const size_t n = (size_t)(seq->n_rows - seq->first_logits), all = (size_t)seq->n_rows;
        if (seq->spare & FTK_SPARE_LOGITS)
            ranked |= n > 0;
        else
            ftk_cuda_download(&c->q, f->logits + row * n_vocab, c->logits + row * n_vocab,
                              n * n_vocab * sizeof(float));
        if (!(seq->spare & FTK_SPARE_FEATURES))
            ftk_cuda_download(&c->q, f->features + row * d, c->features + row * d,
                              n * d * sizeof(float));
        if (f->keep >= 0 && !(seq->spare & FTK_SPARE_STATES))
            ftk_cuda_download(&c->q, f->states + state * d, c->states + state * d,
                              all * d * sizeof(float));
        row += n;
        state += all;
    }
    for (size_t t = 0; t < (size_t)f->n_taps && state <= (size_t)c->max_rows; t++) {
        const size_t at = t * (size_t)c->max_rows * d;
        ftk_cuda_download(&c->q, f->tapped + t * (size_t)f->max_rows * d, c->tapped + at,
                          state * d * sizeof(float));
    }
    if (ranked) {
        ftk_gpu_rank(c, n_logits, (int)n_vocab, c->logits, p->in.draw, c->ranked);
        ftk_cuda_download(&c->q, c->ranked_host, c->ranked, (size_t)n_logits * sizeof *c->ranked);
    }
    if (p->policy) ftk_cuda_download(&c->q, c->actions_host, c->actions, (size_t)c->m->hp.n_layer);
}

int ftk_gpu_put_pass(ftk_gpu *c, ftk_gpu_pass *p)
{
    if (c->life.trouble[0]) return 0;
    if (!c->turned) send_turns(c, p->f);
    for (int s = 0; s < p->n_seqs; s++) {
        p->n_rows += p->seqs[s].n_rows;
        p->n_logits += p->seqs[s].n_rows - p->seqs[s].first_logits;
    }
    const int n_logits = p->n_logits;
    const ftk_route *const route = p->seqs[0].route;
    if (route) p->policy = ftk_gpu_policy_of(c, route->policy);
    ftk_gpu_kept *k = ftk_gpu_kind(c, p);
    send_inputs(c, p);
    ftk_gpu_put_drafts(c, p);
    ftk_gpu_do(c, k, ftk_gpu_compute, p);
    return n_logits;
}

void ftk_gpu_run_pass(ftk_gpu *c, ftk_forward *f, ftk_gpu_pass *p)
{
    if (c->life.trouble[0]) return;
    fetch(c, p, ftk_gpu_put_pass(c, p));
    f->ranked = c->ranked_host;
    ftk_gpu_wait(c);
    ftk_gpu_take_drafts(c, p);
    const ftk_route *const route = p->seqs[0].route;
    if (route) memcpy(route->actions, c->actions_host, (size_t)c->m->hp.n_layer);
}

void ftk_gpu_run(ftk_device *d, ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs, int first)
{
    ftk_gpu_pass p = {.f = f, .seqs = seqs, .n_seqs = n_seqs, .first = first};
    ftk_gpu_run_pass(ftk_gpu_of(d), f, &p);
}
