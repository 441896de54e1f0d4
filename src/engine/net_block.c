/* SPDX-License-Identifier: Apache-2.0
 * Heads that say all places of a draft at once, whatever its tokens are: the rows behind the
 * text cost next to nothing, as what follows a token of depth i is what the head said for that
 * place.
 *
 * Medusa (arXiv 2401.10774): head i of the last feature says what stands i places behind the
 * next token.
 *
 * DFlash (arXiv 2602.06036): c = norm(fc(states)) of each token of the text gives keys and
 * values of every layer, by no norm and no layer before; they are kept. A block is the last
 * token and block - 1 times the mask token, at the next places. Its rows see all of the text and
 * each other, in both directions, and what they leave, normed, goes through the output matrix:
 * row j says what stands at its own place, or, with from_anchor, at the next one.
 *
 * DSpark (arXiv 2607.05147): the same, and a Markov head: to what a row says of a place comes
 * W2 . W1[token at the place before]. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "net.h"

enum { ROWS = FTK_NET_WAITING };

static int n_depths(const ftk_headfile *h)
{
    if (h->kind == FTK_HEAD_MEDUSA) return h->n_heads;
    return h->from_anchor ? h->block : h->block - 1;
}

static float *of_depth(const ftk_net_seq *s, int depth)
{
    return s->places + (size_t)depth * s->as_seen.stride;
}

/* ---- Medusa */

/* z += the residual block's W x + b, through SiLU. */
static void add_residual(int d, const float *y, const float *bias, float *x)
{
    for (int j = 0; j < d; j++) {
        const float z = y[j] + (bias ? bias[j] : 0);
        const float e = expf(z < 0 ? z : -z);
        x[j] += z * (z < 0 ? e : 1) / (1 + e);
    }
}

/* What a head says for n sessions, at most ROWS. */
static void medusa_depth(ftk_net_seq *const *s, int n, int head)
{
    ftk_net *const net = s[0]->net;
    const ftk_headfile *const h = net->head;
    const ftk_target *const t = s[0]->target;
    const int d = h->target_width;
    float *const x = net->begin, *const y = net->first;
    for (int k = 0; k < n; k++)
        memcpy(x + (size_t)k * (size_t)d, s[k]->left, (size_t)d * sizeof *x);
    for (int i = 0; i < h->n_layers; i++) {
        t->multiply_here(t->ctx, &h->residual[head][i], n, x, y);
        for (int k = 0; k < n; k++)
            add_residual(d, y + (size_t)k * (size_t)d, h->bias[head][i],
                         x + (size_t)k * (size_t)d);
    }
    t->multiply_here(t->ctx, &h->says[head], n, x, net->said);
    for (int k = 0; k < n; k++) {
        const size_t stride = s[k]->as_seen.stride;
        memcpy(of_depth(s[k], head), net->said + (size_t)k * stride, stride * sizeof *net->said);
        s[k]->n_places = head + 1;
    }
}

/* What the heads say of the places up to each row's depth, which they have not said yet; rows of
 * a session stand side by side. */
static void medusa_places(ftk_net_seq *const *s, const int *depth, int n)
{
    ftk_net_seq *some[ROWS];
    for (int head = 0; head < s[0]->net->head->n_heads; head++) {
        int n_some = 0;
        for (int i = 0; i < n; i++) {
            const bool is_met = n_some > 0 && some[n_some - 1] == s[i];
            if (depth[i] >= head && s[i]->n_places == head && !is_met) some[n_some++] = s[i];
        }
        if (n_some > 0) medusa_depth(some, n_some, head);
    }
}

/* Whose feature of the last token but one has come goes to the front; returns how many those
 * are. */
static int medusa_read(ftk_draft_rows **asks, int n)
{
    ftk_net_seq *all[FTK_PASS_SEQS];
    int left = 0;
    for (int i = 0; i < n; i++) {
        ftk_net_seq *const s = asks[i]->ctx;
        const size_t d = (size_t)s->net->head->target_width;
        const int rows = ftk_net_readable(s, asks[i]->n);
        if (rows > 0) {
            ftk_net_gather(s, rows, 0);
            const float *const x = ftk_net_fuse(s->net, s->target, rows);
            memcpy(s->left, x + (size_t)(rows - 1) * d, d * sizeof *s->left);
            s->read += rows;
            s->left_of = s->base + (size_t)s->read;
            ftk_net_forget(s, rows);
        }
        if (s->left_of != asks[i]->n - 1) continue;
        asks[left] = asks[i];
        all[left++] = s;
    }
    if (left > 0) medusa_depth(all, left, 0);
    return left;
}

/* ---- DFlash */

/* Texts of sessions that are stored together. */
typedef struct texts {
    int n, rows; /* sessions, and states of all */
    ftk_net_seq *of[FTK_PASS_SEQS];
    ftk_pass_seq seq[FTK_PASS_SEQS];
} texts;

static void store_texts(texts *t)
{
    if (t->n == 0) return;
    ftk_net *const net = t->of[0]->net;
    const ftk_headfile *const h = net->head;
    const ftk_hparams *const hp = &h->model.hp;
    const size_t d = (size_t)hp->n_embd;
    float *c = net->begin;
    const float *const x = ftk_net_fuse(net, t->of[0]->target, t->rows);
    for (size_t i = 0; i < (size_t)t->rows; i++)
        h->model.kernels.rms_norm(hp->n_embd, x + i * d, h->context_norm, hp->norm_eps, c + i * d);
    for (int i = 0; i < t->n; c += (size_t)t->seq[i++].n_rows * d) t->seq[i].states = c;
    ftk_net_store_states(net, t->seq, t->n);
    for (int i = 0; i < t->n; i++) {
        ftk_kv_truncate(&t->of[i]->kv, t->of[i]->kv.len + t->seq[i].n_rows);
        ftk_net_forget(t->of[i], t->seq[i].n_rows);
    }
    t->n = t->rows = 0;
}

/* Its first n states that wait; false: there is no room. */
static bool join_text(texts *t, ftk_net_seq *s, int n)
{
    if (!ftk_net_reserve(s, n)) return false;
    if (t->rows + n > ROWS) store_texts(t);
    ftk_net_gather(s, n, t->rows);
    t->of[t->n] = s;
    t->seq[t->n++] = (ftk_pass_seq){.kv = &s->kv, .n_rows = n};
    t->rows += n;
    return true;
}

bool ftk_net_store(ftk_net_seq *s, int n)
{
    texts t = {0};
    const bool has_room = join_text(&t, s, n);
    store_texts(&t);
    return has_room;
}

/* Blocks of sessions that share a pass. */
typedef struct blocks {
    int n;
    ftk_net_seq *of[FTK_PASS_SEQS];
    ftk_pass_seq seq[FTK_PASS_SEQS];
    int32_t token[ROWS];
} blocks;

static void run_blocks(blocks *b)
{
    if (b->n == 0) return;
    ftk_net *const net = b->of[0]->net;
    const size_t n = (size_t)n_depths(net->head) * b->of[0]->as_seen.stride;
    ftk_net_pass(net, b->seq, b->n);
    for (int i = 0; i < b->n; i++) {
        memcpy(b->of[i]->places, net->forward.logits + (size_t)i * n, n * sizeof(float));
        b->of[i]->n_places = n_depths(net->head);
    }
    b->n = 0;
}

/* The block behind a text that ends in `anchor`; all of it sees all of it. False: no room. */
static bool join_block(blocks *b, ftk_net_seq *s, int32_t anchor)
{
    const ftk_headfile *const h = s->net->head;
    if (!ftk_net_reserve(s, h->block)) return false;
    if ((b->n + 1) * h->block > ROWS) run_blocks(b);
    int32_t *const token = b->token + b->n * h->block;
    token[0] = anchor;
    for (int i = 1; i < h->block; i++) token[i] = h->mask_token;
    b->of[b->n] = s;
    b->seq[b->n++] = (ftk_pass_seq){.kv = &s->kv,
                                    .n_rows = h->block,
                                    .token = token,
                                    .depth = s->net->block_depth,
                                    .mask = (const uint64_t(*)[2])s->net->block_mask,
                                    .first_logits = h->from_anchor ? 0 : 1};
    return true;
}

/* Whose texts can be gone on from goes to the front; returns how many those are. */
static int dflash_read(ftk_draft_rows **asks, int n)
{
    int left = 0;
    texts t = {0};
    for (int i = 0; i < n; i++) {
        ftk_net_seq *const s = asks[i]->ctx;
        const int rows = ftk_net_readable(s, asks[i]->n);
        if (rows > 0) join_text(&t, s, rows);
    }
    store_texts(&t);
    blocks b = {0};
    for (int i = 0; i < n; i++) {
        ftk_net_seq *const s = asks[i]->ctx;
        const bool good = s->base + (size_t)s->kv.len == asks[i]->n - 1;
        if (good && join_block(&b, s, asks[i]->history[asks[i]->n - 1])) asks[left++] = asks[i];
    }
    run_blocks(&b);
    return left;
}

/* ---- both */

/* What follows n tokens at these depths (the text's last one has depth 0), in net->said. Each is
 * of the session s[i]. */
static void say(ftk_net_seq *const *s, const int *depth, const int32_t *token, int n)
{
    ftk_net *const net = s[0]->net;
    const ftk_headfile *const h = net->head;
    const size_t stride = s[0]->as_seen.stride, rank = (size_t)h->markov1.n_in;
    if (h->markov1.n_out > 0) {
        const size_t row = ftk_type_bytes(h->markov1.type, rank);
        for (int i = 0; i < n; i++)
            h->model.kernels.dequant_row(h->markov1.type, (int)rank,
                                         (const char *)h->markov1.data + (size_t)token[i] * row,
                                         net->markov + (size_t)i * rank);
        s[0]->target->multiply_here(s[0]->target->ctx, &h->markov2, n, net->markov, net->said);
    }
    for (int i = 0; i < n; i++) {
        float *const y = net->said + (size_t)i * stride;
        const float *const place = of_depth(s[i], depth[i]);
        if (h->markov1.n_out == 0)
            memcpy(y, place, stride * sizeof *y);
        else
            for (size_t j = 0; j < stride; j++) y[j] += place[j];
    }
}

static void block_read(ftk_draft_rows *asks, int n)
{
    ftk_draft_rows *of[FTK_PASS_SEQS];
    ftk_net_seq *s[FTK_PASS_SEQS];
    int32_t last[FTK_PASS_SEQS];
    static const int first[FTK_PASS_SEQS];
    ftk_net *const net = ((ftk_net_seq *)asks[0].ctx)->net;
    int left = 0;
    for (int i = 0; i < n; i++) {
        ftk_net_seq *const one = asks[i].ctx;
        one->n_rows = one->n_places = 0;
        asks[i].logits = NULL;
        if (asks[i].n >= 2) of[left++] = &asks[i];
    }
    left = net->head->kind == FTK_HEAD_MEDUSA ? medusa_read(of, left) : dflash_read(of, left);
    if (left == 0) return;
    for (int i = 0; i < left; i++) {
        s[i] = of[i]->ctx;
        last[i] = of[i]->history[of[i]->n - 1];
        of[i]->logits = net->said + (size_t)i * s[i]->as_seen.stride;
    }
    say(s, first, last, left);
}

/* The depths of a session's next rows; false: there is no room, or nothing is said of one. */
static bool find_depths(const ftk_draft_rows *ask, int *depth)
{
    ftk_net_seq *const s = ask->ctx;
    const int first = s->n_rows, n = (int)ask->n;
    if (first + n > FTK_MAX_NODES) return false;
    for (int i = 0; i < n; i++) {
        depth[i] = ask->parent[i] < 0 ? 1 : s->depth[ask->parent[i]] + 1;
        if (depth[i] >= n_depths(s->net->head)) return false;
    }
    for (int i = 0; i < n; i++) s->depth[first + i] = (int16_t)depth[i];
    s->n_rows += n;
    return true;
}

static void block_run(ftk_draft_rows *asks, int n)
{
    ftk_net *const net = ((ftk_net_seq *)asks[0].ctx)->net;
    ftk_net_seq *s[ROWS];
    int32_t token[ROWS];
    int depth[ROWS], rows = 0;
    for (int i = 0; i < n; i++) {
        asks[i].logits = NULL;
        if (rows + (int)asks[i].n > ROWS || !find_depths(&asks[i], depth + rows)) continue;
        for (size_t k = 0; k < asks[i].n; k++, rows++) {
            s[rows] = asks[i].ctx;
            token[rows] = asks[i].token[k];
        }
        asks[i].logits = net->said + ((size_t)rows - asks[i].n) * s[rows - 1]->as_seen.stride;
    }
    if (rows == 0) return;
    if (net->head->kind == FTK_HEAD_MEDUSA) medusa_places(s, depth, rows);
    say(s, depth, token, rows);
}

ftk_err ftk_net_open_blocks(ftk_net *net)
{
    const ftk_headfile *const h = net->head;
    net->said = ftk_alloc_raw(&net->host, ROWS, (size_t)h->model.hp.n_vocab * sizeof(float));
    net->markov = ftk_alloc_raw(&net->host, ROWS, ((size_t)h->markov1.n_in + 1) * sizeof(float));
    if (!net->said || !net->markov)
        return ftk_fail(&net->host, FTK_ERR_NOMEM, "no memory for what a head says");
    for (int i = 0; i < h->block; i++) {
        net->block_depth[i] = (int16_t)i;
        net->block_mask[i][0] = ((uint64_t)1 << h->block) - 1;
    }
    return FTK_OK;
}

ftk_err ftk_net_seq_open_blocks(ftk_net_seq *s, const ftk_host *host)
{
    ftk_draft_model *const m = &s->as_seen;
    m->block = n_depths(s->net->head);
    m->read = block_read;
    m->run = block_run;
    s->places = ftk_alloc_raw(host, (size_t)m->block, m->stride * sizeof *s->places);
    return s->places ? FTK_OK
                     : ftk_fail(host, FTK_ERR_NOMEM, "no memory for what a head says of places");
}
