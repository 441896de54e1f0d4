/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts on a GPU, between the passes: products with drafters' matrices, and whole drafts.
 * Products take the pass's work space, which is nobody's then, and copies go by pinned memory;
 * each call waits once. */
#include <assert.h>
#include <stddef.h>
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
        for (int i = 0; i < 2 * FTK_HEADS; i++)
            ftk_cuda_graph_free(f->chain[i / FTK_HEADS][i % FTK_HEADS].graph);
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
static bool put_drafter(ftk_gpu_loading *l, const ftk_gpu *c, const ftk_weights *w,
                        ftk_gpu_drafter *to)
{
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
    if (fits && w->vocab)
        to->vocab = ftk_gpu_put(l, w->vocab, (size_t)w->n_head * sizeof *w->vocab);
    return fits;
}

static ftk_err send_drafter(ftk_gpu *c, const ftk_weights *w, ftk_gpu_drafter *to, char *why,
                            size_t cap)
{
    ftk_gpu_loading l = ftk_gpu_load(c, NULL);
    if (!put_drafter(&l, c, w, to))
        return ftk_why(why, cap, FTK_ERR_UNSUPPORTED, "a matrix of the drafter is too wide for %s",
                       c->life.name);
    if (l.bytes == 0) return FTK_OK;
    to->arena = ftk_gpu_take(&c->life, l.bytes, "a drafter", why, cap);
    if (!to->arena) return FTK_ERR_NOMEM;
    l = ftk_gpu_load(c, to->arena);
    put_drafter(&l, c, w, to);
    return ftk_gpu_arrives(&c->life, why, cap);
}

ftk_err ftk_gpu_add_weights(ftk_device *d, const ftk_weights *w, char *why, size_t cap)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    const size_t most = (size_t)w->n + 1;
    ftk_gpu_drafter *const f = ftk_alloc_raw(&c->host, 1, sizeof *f + most * sizeof f->items[0]);
    if (!f) return ftk_why(why, cap, FTK_ERR_NOMEM, "no memory for a drafter");
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

static const ftk_cuda_mat *item_of(const ftk_gpu_drafter *f, const ftk_mat *w)
{
    for (int i = 0; i < f->n; i++)
        if (f->items[i].file == w->file) return &f->items[i].mat;
    return NULL;
}

/* The file that a matrix came with. */
static ftk_gpu_drafter *drafter_of(const ftk_gpu *c, const ftk_mat *w)
{
    ftk_gpu_drafter *f = c->drafters;
    while (f && !item_of(f, w)) f = f->next;
    assert(f && "a matrix that was never added");
    return f;
}

static const ftk_cuda_mat *matrix_of(const ftk_gpu *c, const ftk_mat *w)
{
    return w->file == c->m->output.file ? &c->output : item_of(drafter_of(c, w), w);
}

static int rows_at_once(const ftk_gpu *c, const ftk_cuda_mat *w, int n)
{
    int rows = n < AT_ONCE ? n : AT_ONCE;
    while (!takes_rows(c, w, rows)) rows--;
    return rows;
}

/* y = W x, or y += that, for n rows that take no more than there is room for. */
static void multiply(ftk_gpu *c, const ftk_cuda_mat *w, int n, const float *x, bool add, float *y,
                     size_t ldy)
{
    const ftk_tile_act form = ftk_tile_act_of(w->type);
    if (form != FTK_TILE_F32) ftk_cuda_act(&c->q, form, n, w->n_in, x, c->act);
    ftk_cuda_matmul(&c->q, w, form == FTK_TILE_F32 ? (const void *)x : c->act, n, NULL, add, y,
                    ldy);
}

void ftk_gpu_multiply(ftk_device *d, const ftk_mat *mat, int n, const float *x, float *y)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    const ftk_cuda_mat *const w = matrix_of(c, mat);
    const size_t in = (size_t)w->n_in, out = (size_t)w->n_out;
    if (c->life.trouble[0]) memset(y, 0, (size_t)n * out * sizeof *y);
    if (c->life.trouble[0]) return;
    for (int i = 0, most = rows_at_once(c, w, n); i < n; i += most) {
        const int rows = n - i < most ? n - i : most;
        const size_t bytes = (size_t)rows * out * sizeof *y;
        char *const back = c->stage + (size_t)rows * in * sizeof *x;
        memcpy(c->stage, x + (size_t)i * in, (size_t)rows * in * sizeof *x);
        ftk_cuda_upload(&c->q, c->x, c->stage, (size_t)rows * in * sizeof *x);
        multiply(c, w, rows, c->x, false, c->logits, out);
        ftk_cuda_download(&c->q, back, c->logits, bytes);
        ftk_gpu_wait(c);
        memcpy(y + (size_t)i * out, back, bytes);
    }
}

/* ---- what is held */

void ftk_gpu_hold(ftk_device *d, ftk_held what, int row, float *to)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    const size_t n = (size_t)c->m->hp.n_embd;
    const float *const from = what == FTK_HELD_FEATURE ? c->features : c->states;
    ftk_cuda_copy(&c->q, to, from + (size_t)row * n, n * sizeof *to);
}

/* To where kept work finds it. */
static void take_held(ftk_gpu *c, const float *held)
{
    ftk_cuda_copy(&c->q, c->draft.held, held, (size_t)c->m->hp.n_embd * sizeof *held);
}

/* ---- a draft by heads */

typedef struct {
    const ftk_heads *heads;
    const ftk_cuda_mat *in[FTK_HEADS], *body[FTK_HEADS], *output;
    const int32_t *vocab;
} chain;

/* The features of head h for its rows, to draft.g[h % 2]. */
static void run_head(ftk_gpu *c, const chain *k, int h, int rows)
{
    const ftk_gpu_draft *const t = &c->draft;
    const int d = c->m->hp.n_embd;
    const bool first = h == 0 || !k->heads->chained;
    if (k->heads->sees_token)
        ftk_cuda_embed(&c->q, &c->embd, rows, t->chain->token, c->m->hp.embd_scale, t->e);
    ftk_cuda_draft_join(&c->q, rows, d, k->heads->sees_token ? t->e : NULL, FTK_EMBED_EPS,
                        first ? t->held : t->g[(h + 1) % 2], t->chain->from, t->z);
    multiply(c, k->in[h], rows, t->z, false, t->u, (size_t)d);
    multiply(c, k->body[h], rows, t->u, false, t->v, (size_t)d);
    ftk_cuda_silu_add(&c->q, (size_t)rows * (size_t)d, t->u, t->v, t->g[h % 2]);
}

static ftk_cuda_pick picks_of(const ftk_heads *heads, const int32_t *vocab)
{
    return (ftk_cuda_pick){.width = heads->width,
                           .choices = heads->choices,
                           .chained = heads->chained,
                           .sees_token = heads->sees_token,
                           .apart = FTK_HEAD_NODES,
                           .vocab = vocab};
}

static void run_chain(ftk_gpu *c, const void *ctx)
{
    const chain *const k = ctx;
    const ftk_heads *const heads = k->heads;
    ftk_cuda_pick how = picks_of(heads, k->vocab);
    for (int h = 0; h < heads->n; h++) {
        const int rows = h == 0 || !heads->sees_token ? 1 : heads->width;
        how.head = h;
        ftk_cuda_draft_pick(&c->q, &how, c->draft.chain);
        run_head(c, k, h, rows);
        multiply(c, k->output, rows, c->draft.g[h % 2], false, c->logits, (size_t)k->output->n_out);
        ftk_gpu_rank(c, rows, k->output->n_out, c->logits, NULL, c->draft.chain->said.said[h]);
    }
}

/* By way of `from`. size: NULL where no tree is made. */
static void send_ask(ftk_gpu *c, ftk_cuda_draft *from, const ftk_heads_ask *ask,
                     const ftk_sizing *size)
{
    const size_t known = (size_t)ask->n_known * sizeof ask->known[0];
    const size_t bytes = offsetof(ftk_cuda_draft, ask) + offsetof(ftk_heads_ask, known) + known;
    const size_t first = size ? offsetof(ftk_cuda_draft, size) : offsetof(ftk_cuda_draft, ask);
    if (size) from->size = *size;
    from->ask = *ask;
    ftk_cuda_upload(&c->q, (char *)c->draft.chain + first, (char *)from + first, bytes - first);
}

/* All heads, one after the other, to the queue. Returns what their choices are ids of. */
static const int32_t *put_heads(ftk_gpu *c, const ftk_heads *h, const float *feature)
{
    ftk_gpu_drafter *const f = drafter_of(c, h->in[0]);
    chain k = {.heads = h, .output = matrix_of(c, h->output), .vocab = f->vocab};
    for (int i = 0; i < h->n; i++) {
        k.in[i] = matrix_of(c, h->in[i]);
        k.body[i] = matrix_of(c, h->body[i]);
    }
    take_held(c, feature);
    ftk_gpu_do(c, c->keeps_none ? NULL : &f->chain[h->width > 1][h->n - 1], run_chain, &k);
    return f->vocab;
}

/* Bytes of what is said in so many blocks of rows. */
static size_t said_bytes(int n)
{
    return offsetof(ftk_heads_said, said) + (size_t)n * FTK_HEAD_NODES * sizeof(ftk_ranked);
}

const ftk_heads_said *ftk_gpu_run_heads(ftk_device *d, const ftk_heads *h, const ftk_heads_ask *ask,
                                        const float *feature)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    ftk_heads_said *const said = &c->draft_host->said;
    if (c->life.trouble[0]) return NULL;
    send_ask(c, c->draft_host, ask, NULL);
    put_heads(c, h, feature);
    ftk_cuda_download(&c->q, said, &c->draft.chain->said, said_bytes(h->n));
    ftk_gpu_wait(c);
    return c->life.trouble[0] ? NULL : said;
}

/* ---- a draft by maps */

/* The held state, and the token of the first row, if they go by tokens. */
static void map_held(ftk_gpu *c, const ftk_gpu_pass *p)
{
    const ftk_maps *const maps = p->maps;
    const size_t d = (size_t)c->m->hp.n_embd;
    float *const e = c->draft.root;
    for (int i = 0; i < maps->n; i++)
        multiply(c, matrix_of(c, maps->of_state[i]), 1, c->draft.held, false, c->x + (size_t)i * d,
                 d);
    if (!maps->of_token) return;
    ftk_cuda_embed(&c->q, &c->embd, 1, p->in.token, c->m->hp.embd_scale, e);
    ftk_cuda_scale_like(&c->q, (int)d, c->draft.held, FTK_EMBED_EPS, e);
    for (int i = 0; i < maps->n; i++)
        multiply(c, matrix_of(c, maps->of_token[i]), 1, e, true, c->x + (size_t)i * d, d);
}

/* The states of nodes, which the first rows have in place of tokens. */
static void map_joined(ftk_gpu *c, const ftk_gpu_pass *p)
{
    const ftk_maps *const maps = p->maps;
    const size_t d = (size_t)c->m->hp.n_embd, ld = (size_t)maps->n * d;
    const int nodes = p->n_joined / maps->n, n = p->n_rows - p->n_joined;
    ftk_cuda_copy(&c->q, c->x, c->states, (size_t)n * d * sizeof *c->x);
    ftk_cuda_draft_join(&c->q, nodes, (int)d, NULL, 0, c->states, p->in.token, c->norm);
    for (int i = 0; i < maps->n; i++)
        multiply(c, matrix_of(c, maps->of_state[i]), nodes, c->norm, false,
                 c->x + (size_t)(n + i) * d, ld);
}

void ftk_gpu_map(ftk_gpu *c, const ftk_gpu_pass *p)
{
    if (p->n_joined)
        map_joined(c, p);
    else
        map_held(c, p);
}

void ftk_gpu_run_mapped(ftk_device *d, ftk_forward *f, const ftk_pass_seq *seq, int first,
                        const ftk_maps *maps, const float *state)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    ftk_gpu_pass p = {.f = f, .seqs = seq, .n_seqs = 1, .first = first, .maps = maps};
    take_held(c, state);
    ftk_gpu_run_pass(c, f, &p);
}

void ftk_gpu_run_appending(ftk_device *d, ftk_forward *f, const ftk_pass_seq *below,
                           const ftk_pass_seq *all, const ftk_pass_append *a)
{
    ftk_gpu *const c = ftk_gpu_of(d);
    const int layers = f->layers;
    ftk_gpu_pass first = {.f = f, .seqs = below, .n_seqs = 1};
    f->layers = a->layer;
    ftk_gpu_put_pass(c, &first);
    f->layers = layers;
    int32_t node[FTK_MAX_NODES] = {0};
    for (int i = 0; i < a->n / a->maps->n; i++) node[i] = a->node[i * a->maps->n];
    ftk_pass_seq seq = *all;
    seq.token = node;
    ftk_gpu_pass second = {
        .f = f, .seqs = &seq, .n_seqs = 1, .first = a->layer, .maps = a->maps, .n_joined = a->n};
    ftk_gpu_run_pass(c, f, &second);
}

/* ---- drafts that are finished in front of a pass */

typedef struct {
    ftk_cuda_pick how;
    int n_heads, n_blocks; /* of rows that are said */
} planting;

static planting plant_heads(ftk_gpu *c, const ftk_finishing *d)
{
    const ftk_heads *const h = d->draft.heads;
    planting p = {picks_of(h, put_heads(c, h, d->held)), h->n, h->n};
    p.how.head = h->n;
    return p;
}

/* Rows of maps are said one after the other, and no node was chosen for them yet. */
static planting plant_maps(ftk_gpu *c, const ftk_forward *f, const ftk_kv_seq *kv,
                           const ftk_finishing *d)
{
    const ftk_maps *const maps = d->draft.maps;
    int32_t token[FTK_HEADS];
    for (int i = 0; i < maps->n; i++) token[i] = maps->token;
    const ftk_pass_seq rows = {.kv = kv, .n_rows = maps->n, .token = token};
    ftk_gpu_pass p = {.f = f, .seqs = &rows, .n_seqs = 1, .first = d->draft.layer, .maps = maps};
    take_held(c, d->held);
    ftk_gpu_put_pass(c, &p);
    ftk_gpu_rank(c, maps->n, c->m->hp.n_vocab, c->logits, NULL, c->draft.chain->said.said[0]);
    return (planting){{.width = FTK_HEAD_NODES, .choices = FTK_BEST, .apart = 1}, maps->n, 1};
}

/* A draft, and its tree in place of the chain in `rows`; what comes of it goes to `host`. */
static void put_draft(ftk_gpu *c, const ftk_forward *f, const ftk_pass_seq *seq,
                      const ftk_cuda_rows *rows, ftk_cuda_draft *host)
{
    const ftk_finishing *const d = seq->left;
    ftk_cuda_draft *const there = c->draft.chain;
    send_ask(c, host, d->draft.ask, &d->size);
    const planting p = d->draft.heads ? plant_heads(c, d) : plant_maps(c, f, seq->kv, d);
    ftk_cuda_draft_plant(&c->q, &p.how, p.n_heads, rows, there);
    ftk_cuda_download(&c->q, &host->tree, &there->tree,
                      offsetof(ftk_cuda_draft, said) - offsetof(ftk_cuda_draft, tree) +
                          said_bytes(p.n_blocks));
}

_Static_assert((int)FTK_CUDA_MARKS > (int)FTK_PASS_SEQS, "one behind each draft");

void ftk_gpu_put_drafts(ftk_gpu *c, const ftk_gpu_pass *p)
{
    ftk_cuda_rows at = {.mask = p->in.mask,
                        .draw = p->in.draw,
                        .token = p->in.token,
                        .pos = p->in.pos,
                        .span = p->in.span};
    int n = 0;
    for (int s = 0; s < p->n_seqs; s++) {
        const ftk_pass_seq *const seq = &p->seqs[s];
        if (seq->left) {
            if (n == 0) ftk_cuda_mark(&c->q, 0);
            put_draft(c, p->f, seq, &at, &c->draft_host[n]);
            ftk_cuda_mark(&c->q, ++n);
        }
        at.mask += seq->n_rows;
        at.draw += seq->n_rows - seq->first_logits;
        at.token += seq->n_rows;
        at.pos += seq->n_rows;
        at.span += ftk_gpu_parts(seq);
    }
}

void ftk_gpu_take_drafts(ftk_gpu *c, const ftk_gpu_pass *p)
{
    int n = 0;
    for (int s = 0; s < p->n_seqs; s++) {
        ftk_finishing *const d = p->seqs[s].left;
        if (!d || c->life.trouble[0]) continue;
        const ftk_cuda_draft *const host = &c->draft_host[n];
        d->done = (ftk_finished){&host->tree, &host->said, ftk_cuda_elapsed(&c->q, n++)};
    }
}
