/* SPDX-License-Identifier: Apache-2.0
 * Draft models: a pass, a cache and threads for layers that are not the target's. */
#include "net.h"

#include <string.h>

#include "base/mem.h"
#include "model/tokenizer.h"

enum { ROWS = 64 }; /* of a pass: logits of so many are kept */

/* ---- of an engine */

static ftk_err open_parts(ftk_net *net, const char *path, const ftk_model *target, ftk_team *team,
                          int slots, ftk_type kv_type)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = target->host;
    cfg.kernels = target->kernels.name;
    ftk_err err = ftk_model_load(&net->model, path, &cfg);
    if (err == FTK_OK)
        err = ftk_tokenizer_same(target->tokenizer, net->model->tokenizer, path, &target->host);
    if (err != FTK_OK) return err;
    if (net->model->hp.head_dim % FTK_QBLOCK != 0 && kv_type == FTK_TYPE_Q8_0)
        kv_type = FTK_TYPE_F16;
    err = ftk_kv_pool_open(&net->pool, net->model, slots, kv_type);
    if (err != FTK_OK) return err;
    return ftk_forward_open_on(&net->forward, net->model, team, ROWS, slots,
                               net->pool.n_pages * FTK_PAGE + FTK_MAX_NODES, kv_type);
}

ftk_err ftk_net_open(ftk_net **out, const char *path, const ftk_model *target, ftk_team *team,
                     int slots, ftk_type kv_type)
{
    const ftk_host *const h = &target->host;
    *out = NULL;
    ftk_net *net = ftk_alloc(h, 1, sizeof *net);
    if (!net) return ftk_fail(h, FTK_ERR_NOMEM, "%s: no memory for a draft model", path);
    const ftk_err err = open_parts(net, path, target, team, slots, kv_type);
    if (err == FTK_OK)
        *out = net;
    else
        ftk_net_free(net, h);
    return err;
}

void ftk_net_free(ftk_net *net, const ftk_host *host)
{
    if (!net) return;
    ftk_forward_close(&net->forward);
    if (net->pool.host) ftk_kv_pool_close(&net->pool);
    ftk_model_free(net->model);
    ftk_release(host, net);
}

/* ---- rows */

static bool reserve(ftk_net_seq *s, int n)
{
    const int slots = s->kv.len + n;
    return slots <= s->kv.max_pages * FTK_PAGE &&
           ftk_kv_lacks(&s->kv, slots) <= s->net->pool.n_free &&
           ftk_kv_reserve(&s->kv, n) == FTK_OK;
}

static size_t unread(void *ctx, size_t n)
{
    const ftk_net_seq *const s = ctx;
    const size_t len = (size_t)s->kv.len;
    return len < n ? n - len : 1; /* for its logits the last one is run again */
}

static const float *read_text(void *ctx, const int32_t *history, size_t n)
{
    ftk_net_seq *const s = ctx;
    ftk_forward *const f = &s->net->forward;
    s->n_rows = 0;
    ftk_kv_truncate(&s->kv, (int)(n - unread(s, n)));
    while ((size_t)s->kv.len < n) {
        const size_t left = n - (size_t)s->kv.len;
        const int rows = left < ROWS ? (int)left : ROWS;
        if (!reserve(s, rows)) return NULL;
        const ftk_pass_seq seq = {.kv = &s->kv,
                                  .n_rows = rows,
                                  .token = history + s->kv.len,
                                  .first_logits = (size_t)rows == left ? rows - 1 : rows};
        ftk_forward_run(f, &seq, 1);
        ftk_kv_truncate(&s->kv, s->kv.len + rows);
    }
    return f->logits;
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

static const float *run_rows(void *ctx, int n, const int32_t *token, const int16_t *parent)
{
    ftk_net_seq *const s = ctx;
    ftk_forward *const f = &s->net->forward;
    const int first = s->n_rows;
    if (n > ROWS || first + n > FTK_MAX_NODES || !reserve(s, first + n)) return NULL;
    for (int i = 0; i < n; i++) place(s, first + i, parent[i]);
    const ftk_pass_seq seq = {.kv = &s->kv,
                              .n_rows = n,
                              .slot = first,
                              .token = token,
                              .depth = s->depth + first,
                              .mask = (const uint64_t(*)[2])s->mask + first};
    ftk_forward_run(f, &seq, 1);
    s->n_rows += n;
    return f->logits;
}

static void keep_rows(void *ctx, int n, const int16_t *row)
{
    ftk_net_seq *const s = ctx;
    ftk_kv_commit(&s->kv, row, n);
    s->n_rows = 0;
}

/* ---- of a session */

ftk_err ftk_net_seq_open(ftk_net_seq **out, ftk_net *net, int n_ctx, int n_vocab,
                         const ftk_host *host)
{
    *out = NULL;
    ftk_net_seq *s = ftk_alloc(host, 1, sizeof *s);
    if (!s) return ftk_fail(host, FTK_ERR_NOMEM, "no memory for a draft model's tokens");
    const int n_own = net->model->hp.n_vocab;
    s->net = net;
    s->as_seen = (ftk_draft_model){.ctx = s,
                                   .n_out = n_own < n_vocab ? n_own : n_vocab,
                                   .stride = (size_t)n_own,
                                   .unread = unread,
                                   .read = read_text,
                                   .run = run_rows,
                                   .keep = keep_rows};
    const ftk_err err = ftk_kv_seq_open(&s->kv, &net->pool, n_ctx + FTK_MAX_NODES);
    if (err == FTK_OK)
        *out = s;
    else
        ftk_net_seq_free(s, host);
    return err;
}

void ftk_net_seq_free(ftk_net_seq *s, const ftk_host *host)
{
    if (!s) return;
    ftk_kv_seq_close(&s->kv);
    ftk_release(host, s);
}

void ftk_net_seq_truncate(ftk_net_seq *s, size_t n)
{
    s->n_rows = 0;
    if ((size_t)s->kv.len > n) ftk_kv_truncate(&s->kv, (int)n);
}

void ftk_net_seq_fork(ftk_net_seq *dst, const ftk_net_seq *src)
{
    ftk_kv_fork(&dst->kv, &src->kv);
}
