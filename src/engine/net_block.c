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

enum { BLOCK = FTK_CONFIG_BLOCK };

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

static void medusa_depth(ftk_net_seq *s, int head)
{
    const ftk_headfile *const h = s->net->head;
    const ftk_target *const t = s->target;
    const size_t d = (size_t)h->target_width;
    float *const x = s->net->begin, *const y = s->net->begin + d;
    memcpy(x, s->left, d * sizeof *x);
    for (int i = 0; i < h->n_layers; i++) {
        t->multiply(t->ctx, &h->residual[head][i], 1, x, y);
        for (size_t j = 0; j < d; j++) {
            const float z = y[j] + (h->bias[head][i] ? h->bias[head][i][j] : 0);
            const float e = expf(z < 0 ? z : -z);
            x[j] += z * (z < 0 ? e : 1) / (1 + e);
        }
    }
    t->multiply(t->ctx, &h->says[head], 1, x, of_depth(s, head));
}

/* The feature of the last token but one, where it has come. */
static bool medusa_read(ftk_net_seq *s, size_t n)
{
    const int rows = ftk_net_readable(s, n);
    if (rows > 0) {
        memcpy(s->left,
               ftk_net_states(s, rows) + (size_t)(rows - 1) * (size_t)s->net->head->target_width,
               (size_t)s->net->head->target_width * sizeof *s->left);
        s->left_of = s->base + (size_t)s->read + (size_t)rows;
        s->read += rows;
        ftk_net_forget(s, rows);
    }
    return s->left_of == n - 1;
}

/* ---- DFlash */

bool ftk_net_store(ftk_net_seq *s, int n)
{
    const ftk_headfile *const h = s->net->head;
    const ftk_hparams *const hp = &h->model.hp;
    const size_t d = (size_t)hp->n_embd;
    if (!ftk_net_reserve(s, n)) return false;
    float *const c = s->net->begin;
    const float *const x = ftk_net_states(s, n);
    for (size_t i = 0; i < (size_t)n; i++)
        h->model.kernels.rms_norm(hp->n_embd, x + i * d, h->context_norm, hp->norm_eps, c + i * d);
    ftk_forward_store(&s->net->forward, &(ftk_pass_seq){.kv = &s->kv, .n_rows = n, .states = c});
    ftk_kv_truncate(&s->kv, s->kv.len + n);
    ftk_net_forget(s, n);
    return true;
}

static bool run_block(ftk_net_seq *s, int32_t anchor)
{
    const ftk_headfile *const h = s->net->head;
    const ftk_forward *const f = &s->net->forward;
    int32_t token[BLOCK];
    uint64_t mask[BLOCK][2];
    int16_t depth[BLOCK];
    for (int i = 0; i < h->block; i++) {
        token[i] = i ? h->mask_token : anchor;
        depth[i] = (int16_t)i;
        mask[i][0] = ((uint64_t)1 << h->block) - 1;
        mask[i][1] = 0;
    }
    if (!ftk_net_reserve(s, h->block)) return false;
    const ftk_pass_seq seq = {.kv = &s->kv,
                              .n_rows = h->block,
                              .token = token,
                              .depth = depth,
                              .mask = (const uint64_t(*)[2])mask,
                              .first_logits = h->from_anchor ? 0 : 1};
    ftk_net_pass(s->net, &seq, 1);
    memcpy(s->places, f->logits, (size_t)n_depths(h) * s->as_seen.stride * sizeof *s->places);
    return true;
}

static bool dflash_read(ftk_net_seq *s, const int32_t *history, size_t n)
{
    const int rows = ftk_net_readable(s, n);
    if (rows > 0 && !ftk_net_store(s, rows)) return false;
    return s->base + (size_t)s->kv.len == n - 1 && run_block(s, history[n - 1]);
}

/* ---- both */

/* What follows the token at this depth (the text's last one has depth 0), in y[stride]. */
static void say(ftk_net_seq *s, int depth, int32_t token, float *y)
{
    const ftk_headfile *const h = s->net->head;
    const size_t n = s->as_seen.stride;
    memcpy(y, of_depth(s, depth), n * sizeof *y);
    if (h->markov1.n_out == 0) return;
    const size_t row = ftk_type_bytes(h->markov1.type, (size_t)h->markov1.n_in);
    h->model.kernels.dequant_row(h->markov1.type, h->markov1.n_in,
                                 (const char *)h->markov1.data + (size_t)token * row, s->markov);
    s->target->multiply(s->target->ctx, &h->markov2, 1, s->markov, s->more);
    for (size_t i = 0; i < n; i++) y[i] += s->more[i];
}

static size_t block_unread(void *ctx, size_t n)
{
    const int rows = ftk_net_readable(ctx, n);
    return rows > 0 ? (size_t)rows : 1;
}

static const float *block_read(void *ctx, const int32_t *history, size_t n)
{
    ftk_net_seq *const s = ctx;
    const bool medusa = s->net->head->kind == FTK_HEAD_MEDUSA;
    s->n_rows = s->n_places = 0;
    if (n < 2 || !(medusa ? medusa_read(s, n) : dflash_read(s, history, n))) return NULL;
    if (medusa) medusa_depth(s, 0);
    s->n_places = medusa ? 1 : n_depths(s->net->head);
    say(s, 0, history[n - 1], s->said);
    return s->said;
}

static const float *block_run(void *ctx, int n, const int32_t *token, const int16_t *parent)
{
    ftk_net_seq *const s = ctx;
    const int first = s->n_rows;
    if (n > FTK_NET_SAID || first + n > FTK_MAX_NODES) return NULL;
    for (int i = 0; i < n; i++) {
        const int depth = parent[i] < 0 ? 1 : s->depth[parent[i]] + 1;
        if (depth >= n_depths(s->net->head)) return NULL;
        for (; s->n_places <= depth; s->n_places++) medusa_depth(s, s->n_places);
        s->depth[first + i] = (int16_t)depth;
        say(s, depth, token[i], s->said + (size_t)i * s->as_seen.stride);
    }
    s->n_rows += n;
    return s->said;
}

static void block_keep(void *ctx, int n, const int16_t *row)
{
    (void)n, (void)row;
    ((ftk_net_seq *)ctx)->n_rows = 0;
}

ftk_err ftk_net_open_block(ftk_net_seq *s, const ftk_host *host)
{
    const ftk_headfile *const h = s->net->head;
    ftk_draft_model *const m = &s->as_seen;
    const size_t row = m->stride * sizeof(float);
    m->block = n_depths(h);
    m->unread = block_unread;
    m->read = block_read;
    m->run = block_run;
    m->read_all = m->run_all = NULL;
    m->keep = block_keep;
    s->places = ftk_alloc_raw(host, (size_t)m->block, row);
    s->said = ftk_alloc_raw(host, FTK_NET_SAID, row);
    s->more = ftk_alloc_raw(host, 1, row);
    s->markov = ftk_alloc_raw(host, (size_t)h->markov1.n_in + 1, sizeof(float));
    if (s->places && s->said && s->more && s->markov) return FTK_OK;
    return ftk_fail(host, FTK_ERR_NOMEM, "no memory for what a head says");
}
