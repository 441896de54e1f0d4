/* SPDX-License-Identifier: Apache-2.0
 * Draft models: a pass, a cache and threads for layers that are not the target's. */
#include "net.h"

#include <string.h>

#include "base/mem.h"
#include "model/tokenizer.h"

enum { ROWS = FTK_NET_WAITING }; /* of a pass: logits of so many are kept */

/* ---- of an engine */

static ftk_err open_pass(ftk_net *net, ftk_team *team, int slots, ftk_type kv_type)
{
    const ftk_model *const m = net->model;
    if (m->hp.head_dim % FTK_QBLOCK != 0 && kv_type == FTK_TYPE_Q8_0) kv_type = FTK_TYPE_F16;
    const ftk_err err = ftk_kv_pool_open(&net->pool, m, slots, kv_type, NULL);
    if (err != FTK_OK) return err;
    return ftk_forward_open_on(&net->forward, m, team, ROWS, slots,
                               net->pool.n_pages * FTK_PAGE + FTK_MAX_NODES, kv_type);
}

/* ctx: the net's meter, which is its first member. */
static bool is_wanted(void *ctx)
{
    const ftk_model *const target = ((const ftk_net *)ctx)->target;
    return !target->wanted || target->wanted(target->host.ctx);
}

static ftk_err load_small(ftk_net *net, const char *path)
{
    const ftk_model *const target = net->target;
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = net->host;
    cfg.wanted = is_wanted;
    cfg.kernels = target->kernels.name;
    const ftk_err err = ftk_model_load(&net->small, path, &cfg);
    net->model = net->small;
    if (err != FTK_OK) return err;
    return ftk_tokenizer_same(target->tokenizer, net->small->tokenizer, path, &net->host);
}

static ftk_net *take_net(const ftk_host *h)
{
    ftk_net *net = ftk_alloc(h, 1, sizeof *net);
    if (net)
        net->host = ftk_meter_host(&net->meter, h);
    else
        ftk_fail(h, FTK_ERR_NOMEM, "no memory for a draft model");
    return net;
}

/* Where it could not be opened there is none. */
static ftk_err settled(ftk_net **out, ftk_err err)
{
    if (err == FTK_OK) return err;
    ftk_net_free(*out);
    *out = NULL;
    return err;
}

ftk_err ftk_net_open_small(ftk_net **out, const char *path, const ftk_model *target, ftk_team *team,
                           int slots, ftk_type kv_type)
{
    ftk_net *const net = *out = take_net(&target->host);
    if (!net) return FTK_ERR_NOMEM;
    net->target = target;
    ftk_err err = load_small(net, path);
    if (err == FTK_OK) err = open_pass(net, team, slots, kv_type);
    return settled(out, err);
}

static ftk_err open_head(ftk_net *net, ftk_forward *f, int slots, ftk_type kv_type)
{
    const ftk_headfile *const head = net->head;
    ftk_err err = FTK_OK;
    const size_t rows = ROWS, width = (size_t)head->model.hp.n_embd;
    net->model = &head->model;
    net->normed = ftk_alloc_raw(
        &net->host, rows * (size_t)head->n_taps * (size_t)head->target_width, sizeof(float));
    net->first = ftk_alloc_raw(&net->host, rows * width, sizeof(float));
    net->begin = ftk_alloc_raw(&net->host, rows * width, sizeof(float));
    if (!net->normed || !net->first || !net->begin)
        return ftk_fail(&net->host, FTK_ERR_NOMEM, "no memory for a head's states");
    for (int i = 0; i < head->n_taps && err == FTK_OK; i++)
        err = ftk_forward_tap(f, head->tap[i], &net->tap[i]);
    if (err == FTK_OK && head->kind != FTK_HEAD_EAGLE3) err = ftk_net_open_blocks(net);
    if (err != FTK_OK || head->kind == FTK_HEAD_MEDUSA) return err;
    err = open_pass(net, &f->team, slots, kv_type);
    if (err == FTK_OK && !head->feeds_normed)
        err = ftk_forward_keep(&net->forward, head->model.hp.n_layer - 1);
    return err;
}

ftk_err ftk_net_open_head(ftk_net **out, const char *path, ftk_forward *f, const int *layers,
                          int n_layers, int slots, ftk_type kv_type, const ftk_host *host)
{
    ftk_net *const net = *out = take_net(host);
    if (!net) return FTK_ERR_NOMEM;
    ftk_err err = ftk_headfile_open(&net->head, path, f->m, layers, n_layers, &net->host);
    if (err == FTK_OK) err = open_head(net, f, slots, kv_type);
    return settled(out, err);
}

void ftk_net_free(ftk_net *net)
{
    if (!net) return;
    ftk_forward_close(&net->forward);
    if (net->pool.host) ftk_kv_pool_close(&net->pool);
    ftk_model_free(net->small);
    ftk_headfile_close(net->head);
    ftk_release(&net->host, net->markov);
    ftk_release(&net->host, net->said);
    ftk_release(&net->host, net->begin);
    ftk_release(&net->host, net->first);
    ftk_release(&net->host, net->normed);
    ftk_release(net->meter.under, net);
}

/* ---- rows */

/* A clock of costs hears of the products of all layers as of one; stores: of keys and values. */
static void tell_clock(const ftk_net *net, const ftk_pass_seq *seqs, int n, bool stores)
{
    const ftk_model *const m = net->model;
    int rows = 0, n_logits = 0;
    size_t weights = 0;
    for (int i = 0; i < n; i++) {
        rows += seqs[i].n_rows;
        n_logits += seqs[i].n_rows - seqs[i].first_logits;
    }
    for (int i = 0; i < m->hp.n_layer; i++)
        for (int k = 0; k < FTK_LAYER_MATS; k++) {
            const ftk_layer *const l = &m->layers[i];
            const ftk_mat *const w = ftk_layer_mat(l, k);
            if (!stores || w == &l->k || w == &l->v) weights += (size_t)w->n_out * (size_t)w->n_in;
        }
    const int n_in = m->hp.n_embd;
    net->clock->product(net->clock->ctx, (int)(weights / (size_t)n_in), n_in, rows);
    if (n_logits > 0 && !stores)
        net->clock->product(net->clock->ctx, m->hp.n_vocab, n_in, n_logits);
}

void ftk_net_pass(ftk_net *net, const ftk_pass_seq *seqs, int n)
{
    ftk_forward_run(&net->forward, seqs, n);
    if (net->clock) tell_clock(net, seqs, n, false);
}

void ftk_net_store_states(ftk_net *net, const ftk_pass_seq *seqs, int n)
{
    ftk_forward_store(&net->forward, seqs, n);
    if (net->clock) tell_clock(net, seqs, n, true);
}

bool ftk_net_reserve(ftk_net_seq *s, int n)
{
    const int slots = s->kv.len + n;
    return slots <= s->kv.max_pages * FTK_PAGE &&
           ftk_kv_lacks(&s->kv, slots) <= s->net->pool.n_free &&
           ftk_kv_reserve(&s->kv, n) == FTK_OK;
}

static size_t width(const ftk_net_seq *s)
{
    return (size_t)s->net->head->model.hp.n_embd;
}

/* What row i of the last pass leaves for the rows behind it; of those with logits, where states
 * are fed behind the last norm. */
static const float *left_by(const ftk_net_seq *s, int i)
{
    const ftk_forward *const f = &s->net->forward;
    return (s->net->head->feeds_normed ? f->features : f->states) + (size_t)i * width(s);
}

/* What a row sees: the row above, what that sees, and itself. */
static void place(ftk_net_seq *s, int row, int parent)
{
    uint64_t *const mask = s->mask[row];
    mask[0] = mask[1] = 0;
    if (parent >= 0) memcpy(mask, s->mask[parent], sizeof s->mask[row]);
    mask[row / 64] |= (uint64_t)1 << row % 64;
    s->depth[row] = (int16_t)(parent >= 0 ? s->depth[parent] + 1 : 0);
}

/* ---- passes that sessions share */

typedef struct joint {
    int n, rows; /* sessions, and rows of all */
    ftk_pass_seq seq[FTK_PASS_SEQS];
    ftk_draft_rows *of[FTK_PASS_SEQS];
} joint;

static void join(joint *j, ftk_draft_rows *ask, ftk_pass_seq seq)
{
    j->of[j->n] = ask;
    j->seq[j->n++] = seq;
    j->rows += seq.n_rows;
}

/* Of each session the rows ask->token behind what was run before; a head's begin with what their
 * parents left. */
static void join_rows(joint *j, ftk_draft_rows *ask)
{
    ftk_net_seq *const s = ask->ctx;
    const int first = s->n_rows, n = (int)ask->n;
    const size_t d = s->net->head ? width(s) : 0;
    ask->logits = NULL;
    if (j->rows + n > ROWS || first + n > FTK_MAX_NODES || !ftk_net_reserve(s, first + n)) return;
    float *const begin = s->net->begin + (size_t)j->rows * d;
    for (int i = 0; i < n; i++) {
        const int parent = ask->parent[i];
        place(s, first + i, parent);
        if (d > 0)
            memcpy(begin + (size_t)i * d, parent < 0 ? s->left : s->states + (size_t)parent * d,
                   d * sizeof *begin);
    }
    join(j, ask,
         (ftk_pass_seq){.kv = &s->kv,
                        .n_rows = n,
                        .slot = first,
                        .token = ask->token,
                        .depth = s->depth + first,
                        .mask = (const uint64_t(*)[2])s->mask + first,
                        .states = d > 0 ? begin : NULL});
}

static void net_run(ftk_draft_rows *asks, int n)
{
    joint j = {0};
    ftk_net *const net = ((ftk_net_seq *)asks[0].ctx)->net;
    const ftk_forward *const f = &net->forward;
    for (int i = 0; i < n; i++) join_rows(&j, &asks[i]);
    if (j.n == 0) return;
    ftk_net_pass(net, j.seq, j.n);
    for (int i = 0, row = 0; i < j.n; row += j.seq[i++].n_rows) {
        ftk_net_seq *const s = j.of[i]->ctx;
        const size_t n_rows = (size_t)j.seq[i].n_rows;
        j.of[i]->logits = f->logits + (size_t)row * s->as_seen.stride;
        if (net->head)
            memcpy(s->states + (size_t)s->n_rows * width(s), left_by(s, row),
                   n_rows * width(s) * sizeof(float));
        s->n_rows += (int)n_rows;
    }
}

/* ---- a small model */

static size_t small_unread(void *ctx, size_t n)
{
    const ftk_net_seq *const s = ctx;
    const size_t len = (size_t)s->kv.len;
    return len < n ? n - len : 1; /* for its logits the last one is run again */
}

/* A prompt may be longer than what a pass of drafts reads. False: there is no room. */
static bool read_most(ftk_net_seq *s, const int32_t *history, size_t n)
{
    while (small_unread(s, n) > ROWS) {
        if (!ftk_net_reserve(s, ROWS)) return false;
        const ftk_pass_seq seq = {
            .kv = &s->kv, .n_rows = ROWS, .token = history + s->kv.len, .first_logits = ROWS};
        ftk_net_pass(s->net, &seq, 1);
        ftk_kv_truncate(&s->kv, s->kv.len + ROWS);
    }
    return true;
}

static void small_read(ftk_draft_rows *asks, int n)
{
    joint j = {0};
    ftk_net *const net = ((ftk_net_seq *)asks[0].ctx)->net;
    for (int i = 0; i < n; i++) {
        ftk_net_seq *const s = asks[i].ctx;
        s->n_rows = 0;
        asks[i].logits = NULL;
        if (!read_most(s, asks[i].history, asks[i].n)) continue;
        const int rows = (int)small_unread(s, asks[i].n);
        ftk_kv_truncate(&s->kv, (int)asks[i].n - rows);
        if (j.rows + rows > ROWS || !ftk_net_reserve(s, rows)) continue;
        join(&j, &asks[i],
             (ftk_pass_seq){.kv = &s->kv,
                            .n_rows = rows,
                            .token = asks[i].history + s->kv.len,
                            .first_logits = rows - 1});
    }
    if (j.n > 0) ftk_net_pass(net, j.seq, j.n);
    for (int i = 0; i < j.n; i++) {
        ftk_net_seq *const s = j.of[i]->ctx;
        ftk_kv_truncate(&s->kv, s->kv.len + j.seq[i].n_rows);
        j.of[i]->logits = net->forward.logits + (size_t)i * s->as_seen.stride;
    }
}

static void small_keep(void *ctx, int n, const int16_t *row)
{
    ftk_net_seq *const s = ctx;
    ftk_kv_commit(&s->kv, row, n);
    s->n_rows = 0;
}

/* ---- a head */

/* All states of a token, one behind the other. */
static size_t state_size(const ftk_net_seq *s)
{
    return (size_t)s->net->head->n_taps * (size_t)s->net->head->target_width;
}

/* The token whose state is read next. */
static size_t next_place(const ftk_net_seq *s)
{
    return s->base + (size_t)(s->kv.len + s->read);
}

void ftk_net_gather(ftk_net_seq *s, int n, int at)
{
    const ftk_headfile *const h = s->net->head;
    const size_t dt = (size_t)h->target_width, all = state_size(s);
    float *const to = s->net->normed + (size_t)at * all;
    memcpy(to, s->waiting, (size_t)n * all * sizeof *to);
    for (size_t i = 0; i < (size_t)n; i++) {
        float *const x = to + i * all;
        if (h->tap_normed) s->target->last_norm(s->target->ctx, 1, x, x);
        if (h->input_norm)
            h->model.kernels.rms_norm((int)all, x, h->input_norm, h->model.hp.norm_eps, x);
        for (int t = 0; t < h->n_taps && h->fc_norm[t]; t++)
            h->model.kernels.rms_norm((int)dt, x + (size_t)t * dt, h->fc_norm[t],
                                      h->model.hp.norm_eps, x + (size_t)t * dt);
    }
}

const float *ftk_net_fuse(const ftk_net *net, const ftk_target *t, int n)
{
    if (net->head->fc.n_out == 0) return net->normed;
    t->multiply_here(t->ctx, &net->head->fc, n, net->normed, net->first);
    return net->first;
}

void ftk_net_forget(ftk_net_seq *s, int n)
{
    const size_t all = state_size(s);
    s->n_waiting -= n;
    memmove(s->waiting, s->waiting + (size_t)n * all,
            (size_t)s->n_waiting * all * sizeof *s->waiting);
}

/* States that can be read of a text of n tokens. */
int ftk_net_readable(const ftk_net_seq *s, size_t n)
{
    const size_t at = next_place(s);
    if (n < 1 || at >= n - 1) return 0;
    return n - 1 - at < (size_t)s->n_waiting ? (int)(n - 1 - at) : s->n_waiting;
}

static size_t head_unread(void *ctx, size_t n)
{
    const int rows = ftk_net_readable(ctx, n);
    return rows > 0 ? (size_t)rows : 1;
}

/* Some states that wait, whose next tokens are known, join a pass; false: there is no room. */
static bool join_states(joint *j, ftk_draft_rows *ask, int n)
{
    ftk_net_seq *const s = ask->ctx;
    if (j->rows + n > ROWS || !ftk_net_reserve(s, n)) return false;
    ftk_net_gather(s, n, j->rows);
    join(j, ask,
         (ftk_pass_seq){.kv = &s->kv,
                        .n_rows = n,
                        .token = ask->history + next_place(s) + 1,
                        .first_logits = n - 1});
    return true;
}

static void read_joined(joint *j)
{
    const ftk_net_seq *const any = j->of[0]->ctx;
    const ftk_forward *const f = &any->net->forward;
    const float *states = ftk_net_fuse(any->net, any->target, j->rows);
    for (int i = 0; i < j->n; states += (size_t)j->seq[i++].n_rows * width(any))
        j->seq[i].states = states;
    ftk_net_pass(any->net, j->seq, j->n);
    for (int i = 0, row = 0; i < j->n; i++) {
        ftk_net_seq *const s = j->of[i]->ctx;
        const int n = j->seq[i].n_rows;
        row += n;
        memcpy(s->left, left_by(s, s->net->head->feeds_normed ? i : row - 1),
               width(s) * sizeof(float));
        ftk_kv_truncate(&s->kv, s->kv.len + n);
        ftk_net_forget(s, n);
        j->of[i]->logits = f->logits + (size_t)i * s->as_seen.stride;
    }
}

/* The last row is that of the last token but one: its state and the last token say what follows. */
static void head_read(ftk_draft_rows *asks, int n)
{
    joint j = {0};
    for (int i = 0; i < n; i++) {
        ftk_net_seq *const s = asks[i].ctx;
        const int rows = ftk_net_readable(s, asks[i].n);
        s->n_rows = 0;
        asks[i].logits = NULL;
        if (rows > 0 && next_place(s) + (size_t)rows == asks[i].n - 1)
            join_states(&j, &asks[i], rows);
    }
    if (j.n > 0) read_joined(&j);
}

/* Reads n states that wait, whose next tokens are known. False: there is no room. */
static bool read_states(ftk_net_seq *s, const int32_t *text, int n)
{
    joint j = {0};
    ftk_draft_rows ask = {.ctx = s, .history = text};
    if (!join_states(&j, &ask, n)) return false;
    read_joined(&j);
    return true;
}

/* Rows of drafts began with states that were guessed, or with none: the true ones are read. */
static void head_keep(void *ctx, int n, const int16_t *row)
{
    (void)n, (void)row;
    ((ftk_net_seq *)ctx)->n_rows = 0;
}

/* Of what was read the first n tokens' stay. */
static void keep_first(ftk_net_seq *s, int n)
{
    if (s->net->head->kind == FTK_HEAD_MEDUSA)
        s->read = n;
    else
        ftk_kv_truncate(&s->kv, n);
}

static void begin_at(ftk_net_seq *s, size_t place)
{
    keep_first(s, 0);
    s->base = place;
    s->n_waiting = 0;
}

/* What waits for the end of a text that is longer than there is room for. */
static bool read_some(ftk_net_seq *s, const int32_t *text, int n)
{
    switch (s->net->head->kind) {
    case FTK_HEAD_EAGLE3: return read_states(s, text, n);
    case FTK_HEAD_MEDUSA: s->read += n; break;
    default: return ftk_net_store(s, n);
    }
    ftk_net_forget(s, n);
    return true;
}

void ftk_net_seq_see(ftk_net_seq *s, const int32_t *text, size_t n, size_t at, const ftk_forward *f,
                     size_t row)
{
    if (!s->net->head) return;
    const size_t dt = (size_t)s->net->head->target_width, all = state_size(s);
    const size_t next = next_place(s);
    if (at < s->base || at > next + (size_t)s->n_waiting) { /* what lies between is not known */
        begin_at(s, at);
    } else if (at < next) {
        keep_first(s, (int)(at - s->base));
        s->n_waiting = 0;
    } else {
        s->n_waiting = (int)(at - next);
    }
    if (s->n_waiting == FTK_NET_WAITING) {
        const int rows = ftk_net_readable(s, n);
        if (rows == 0 || !read_some(s, text, rows)) begin_at(s, at);
    }
    float *const to = s->waiting + (size_t)s->n_waiting++ * all;
    for (int t = 0; t < s->net->head->n_taps; t++)
        memcpy(to + (size_t)t * dt,
               f->tapped + ((size_t)s->net->tap[t] * (size_t)f->max_rows + row) * dt,
               dt * sizeof *to);
}

/* ---- of a session */

static ftk_err open_states(ftk_net_seq *s, const ftk_host *host)
{
    const size_t all = state_size(s) * sizeof(float), d = width(s) * sizeof(float);
    s->waiting = ftk_alloc_raw(host, FTK_NET_WAITING, all);
    s->states = ftk_alloc_raw(host, FTK_MAX_NODES, d);
    s->left = ftk_alloc(host, 1, d);
    if (s->waiting && s->states && s->left) return FTK_OK;
    return ftk_fail(host, FTK_ERR_NOMEM, "no memory for a head's states");
}

static ftk_draft_model seen_by_drafters(ftk_net_seq *s, int n_vocab)
{
    const ftk_headfile *const h = s->net->head;
    const int n_own = s->net->model->hp.n_vocab;
    const bool all = !h || !h->vocab;
    return (ftk_draft_model){.ctx = s,
                             .n_out = all && n_own > n_vocab ? n_vocab : n_own,
                             .stride = (size_t)n_own,
                             .vocab = h ? h->vocab : NULL,
                             .block = 1,
                             .unread = h ? head_unread : small_unread,
                             .read = h ? head_read : small_read,
                             .run = net_run,
                             .keep = h ? head_keep : small_keep};
}

ftk_err ftk_net_seq_open(ftk_net_seq **out, ftk_net *net, int n_ctx, const ftk_target *target,
                         const ftk_host *host)
{
    *out = NULL;
    ftk_net_seq *s = ftk_alloc(host, 1, sizeof *s);
    if (!s) return ftk_fail(host, FTK_ERR_NOMEM, "no memory for a draft model's tokens");
    s->net = net;
    s->target = target;
    s->as_seen = seen_by_drafters(s, target->n_vocab);
    ftk_err err = FTK_OK;
    if (net->pool.host) err = ftk_kv_seq_open(&s->kv, &net->pool, n_ctx + FTK_MAX_NODES);
    if (err == FTK_OK && net->head) err = open_states(s, host);
    if (err == FTK_OK && net->head && net->head->kind != FTK_HEAD_EAGLE3)
        err = ftk_net_seq_open_blocks(s, host);
    if (err == FTK_OK)
        *out = s;
    else
        ftk_net_seq_free(s, host);
    return err;
}

void ftk_net_seq_free(ftk_net_seq *s, const ftk_host *host)
{
    if (!s) return;
    float *const all[] = {s->waiting, s->states, s->left, s->places};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ftk_release(host, all[i]);
    ftk_kv_seq_close(&s->kv);
    ftk_release(host, s);
}

/* A head's row of a token has seen the next one, too. */
void ftk_net_seq_truncate(ftk_net_seq *s, size_t n)
{
    const size_t most = !s->net->head ? n : n > s->base ? n - s->base - 1 : 0;
    s->n_rows = 0;
    s->left_of = 0;
    if ((size_t)(s->kv.len + s->read) > most) {
        if (s->net->head)
            keep_first(s, (int)most);
        else
            ftk_kv_truncate(&s->kv, (int)most);
        s->n_waiting = 0;
    } else if (s->net->head && next_place(s) + (size_t)s->n_waiting > n) {
        s->n_waiting = n > next_place(s) ? (int)(n - next_place(s)) : 0;
    }
}

void ftk_net_seq_fork(ftk_net_seq *dst, const ftk_net_seq *src)
{
    if (src->kv.pool) ftk_kv_fork(&dst->kv, &src->kv);
    if (!src->net->head) return;
    dst->base = src->base;
    dst->read = src->read;
    dst->n_waiting = src->n_waiting;
    memcpy(dst->waiting, src->waiting, (size_t)src->n_waiting * state_size(src) * sizeof(float));
}
