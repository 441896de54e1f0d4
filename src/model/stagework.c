/* SPDX-License-Identifier: Apache-2.0
 * A stage below the last one: it does as that one says. */
#include <limits.h>
#include <string.h>

#include "base/cpus.h"
#include "base/floats.h"
#include "base/mem.h"
#include "stagewords.h"

typedef struct stage {
    const ftk_model *m;
    const ftk_host *host;
    const ftk_link *link;
    ftk_stage_range own;
    ftk_kv_pool pool;
    ftk_forward forward;
    ftk_kv_seq kv[FTK_PASS_SEQS];
    ftk_pass_seq seqs[FTK_PASS_SEQS];
    int16_t (*depth)[FTK_MAX_NODES]; /* [FTK_PASS_SEQS] */
    uint64_t (*mask)[FTK_MAX_NODES][2];
    int32_t *token; /* [max_rows] */
    float *states;  /* [max_rows][n_embd] */
    int max_slots;
    char *message;
    size_t cap, n, at; /* bytes read of it */
    bool bad;
} stage;

/* ---- reading a message: what it says is checked before it is used */

static void take(stage *s, void *to, size_t n)
{
    if (n == 0) return;
    if (s->bad || n > s->n - s->at) {
        s->bad = true;
        memset(to, 0, n);
        return;
    }
    memcpy(to, s->message + s->at, n);
    s->at += n;
}

static int take_int(stage *s, int least, int most)
{
    int32_t v;
    take(s, &v, sizeof v);
    if (v < least || v > most) s->bad = true;
    return s->bad ? least : v;
}

static void take_pages(stage *s, ftk_kv_seq *kv)
{
    const int len = take_int(s, 0, kv->max_pages * FTK_PAGE);
    const int n = take_int(s, (len + FTK_PAGE - 1) / FTK_PAGE, kv->max_pages);
    for (int i = 0; i < n && !s->bad; i++) ftk_kv_see(kv, i, take_int(s, 0, s->pool.n_pages - 1));
    kv->n_pages = n;
    kv->len = len;
}

static ftk_err lost(const stage *s)
{
    return ftk_fail(s->host, FTK_ERR_DEVICE, "stage %d of %d: another stage is gone", s->link->rank,
                    s->link->size);
}

static ftk_err receive(stage *s, ftk_stage_head *head)
{
    const ftk_link *const l = s->link;
    const int from = l->size - 1;
    if (!l->receive(l->ctx, from, head, sizeof *head)) return lost(s);
    if (head->bytes > s->cap) {
        ftk_release(s->host, s->message);
        s->message =
            head->bytes < (uint64_t)1 << 40 ? ftk_alloc_raw(s->host, head->bytes, 1) : NULL;
        s->cap = s->message ? head->bytes : 0;
        if (!s->message)
            return ftk_fail(s->host, FTK_ERR_NOMEM, "no memory for what a stage is sent");
    }
    s->n = head->bytes;
    s->at = 0;
    if (s->n > 0 && !l->receive(l->ctx, from, s->message, s->n)) return lost(s);
    return FTK_OK;
}

/* ---- a pass */

/* Masks of n rows, which see slots below `end`. */
static void take_masks(stage *s, uint64_t (*mask)[2], int n, int end)
{
    take(s, mask, (size_t)n * sizeof *mask);
    for (int i = 0; i < n; i++)
        for (int j = end; j < FTK_MAX_NODES; j++)
            if (mask[i][j / 64] >> j % 64 & 1) s->bad = true;
}

static void take_rows(stage *s, const ftk_stage_head *head, int i, int row)
{
    ftk_pass_seq *const seq = &s->seqs[i];
    const int d = s->m->hp.n_embd;
    take_pages(s, &s->kv[i]);
    const int n = take_int(s, 1, FTK_MAX_NODES);
    const int slot = take_int(s, 0, FTK_MAX_NODES - n);
    const bool has_mask = take_int(s, 0, 1);
    if (s->kv[i].len + slot + n > s->kv[i].n_pages * FTK_PAGE || row + n > head->n_rows)
        s->bad = true;
    if (has_mask) take_masks(s, s->mask[i], n, slot + n);
    take(s, s->depth[i], (size_t)n * sizeof **s->depth);
    *seq = (ftk_pass_seq){.kv = &s->kv[i],
                          .n_rows = n,
                          .slot = slot,
                          .depth = s->depth[i],
                          .mask = has_mask ? (const uint64_t(*)[2])s->mask[i] : NULL,
                          .first_logits = n};
    if (s->bad) return;
    if (head->states) {
        take(s, s->states + (size_t)row * (size_t)d, (size_t)(n * d) * sizeof *s->states);
        seq->states = s->states + (size_t)row * (size_t)d;
        return;
    }
    take(s, s->token + row, (size_t)n * sizeof *s->token);
    for (int j = 0; j < n; j++)
        if (s->token[row + j] < 0 || s->token[row + j] >= s->m->hp.n_vocab) s->bad = true;
    seq->token = s->token + row;
}

/* Rows that the stage before has run come from there. */
static ftk_err take_states(stage *s, const ftk_stage_head *head)
{
    const size_t d = (size_t)s->m->hp.n_embd;
    const ftk_link *const l = s->link;
    if (!l->receive(l->ctx, l->rank - 1, s->states, (size_t)head->n_rows * d * sizeof *s->states))
        return lost(s);
    size_t row = 0;
    for (int i = 0; i < head->n_seqs; row += (size_t)s->seqs[i++].n_rows) {
        s->seqs[i].token = NULL;
        s->seqs[i].states = s->states + row * d;
    }
    return FTK_OK;
}

static ftk_err run(stage *s, const ftk_stage_head *head)
{
    ftk_forward *const f = &s->forward;
    const ftk_link *const l = s->link;
    const size_t bytes = (size_t)head->n_rows * (size_t)s->m->hp.n_embd * sizeof *f->x;
    const int first = head->first > s->own.begin ? head->first : s->own.begin;
    const int last = head->last < s->own.end ? head->last : s->own.end;
    const bool keeps = head->keep >= first && head->keep < last;
    ftk_err err = FTK_OK;
    if (first >= last) return FTK_OK; /* none of its layers */
    if (head->first < s->own.begin) err = take_states(s, head);
    if (err == FTK_OK && keeps && f->keep != head->keep) err = ftk_forward_keep(f, head->keep);
    if (err != FTK_OK) return err;
    f->keep = keeps ? head->keep : -1;
    f->layers = last;
    ftk_forward_run_above(f, s->seqs, head->n_seqs, first);
    if (keeps && !l->send(l->ctx, l->size - 1, f->states, bytes)) return lost(s);
    const int to = head->last > s->own.end ? l->rank + 1 : l->size - 1;
    return l->send(l->ctx, to, f->x, bytes) ? FTK_OK : lost(s);
}

static ftk_err take_pass(stage *s, const ftk_stage_head *head)
{
    int row = 0;
    if (head->n_seqs < 1 || head->n_seqs > FTK_PASS_SEQS || head->n_rows > s->forward.max_rows ||
        head->first < 0 || head->last > s->m->hp.n_layer)
        s->bad = true;
    for (int i = 0; i < head->n_seqs && !s->bad; row += s->seqs[i++].n_rows)
        take_rows(s, head, i, row);
    if (row != head->n_rows) s->bad = true;
    return s->bad ? FTK_OK : run(s, head);
}

/* ---- the cache */

static void copy_page(stage *s)
{
    const int to = take_int(s, 0, s->pool.n_pages - 1), from = take_int(s, 0, s->pool.n_pages - 1);
    if (!s->bad) ftk_kv_copy_page(&s->pool, to, from);
}

static void move(stage *s)
{
    int16_t path[FTK_MAX_NODES];
    take_pages(s, &s->kv[0]);
    const int n = take_int(s, 0, FTK_MAX_NODES);
    take(s, path, (size_t)n * sizeof *path);
    for (int i = 0; i < n; i++)
        if (path[i] < i || s->kv[0].len + path[i] >= s->kv[0].n_pages * FTK_PAGE) s->bad = true;
    if (!s->bad) ftk_kv_move(&s->kv[0], path, n);
}

/* ---- life */

static ftk_err open_parts(stage *s, const ftk_stage_setup *u, int threads)
{
    const ftk_host *const h = s->host;
    ftk_err err = ftk_kv_pool_open(&s->pool, s->m, u->slots, u->kv_type, NULL);
    if (err == FTK_OK)
        err = ftk_forward_open(&s->forward, s->m, threads, u->max_rows, u->context, u->max_slots,
                               u->kv_type);
    for (int i = 0; i < FTK_PASS_SEQS && err == FTK_OK; i++)
        err = ftk_kv_seq_open(&s->kv[i], &s->pool, u->max_slots);
    if (err != FTK_OK) return err;
    s->pool.begin = s->own.begin;
    s->pool.end = s->own.end;
    s->depth = ftk_alloc(h, FTK_PASS_SEQS, sizeof *s->depth);
    s->mask = ftk_alloc(h, FTK_PASS_SEQS, sizeof *s->mask);
    s->token = ftk_alloc(h, (size_t)u->max_rows, sizeof *s->token);
    s->states = ftk_alloc(h, (size_t)u->max_rows, (size_t)s->m->hp.n_embd * sizeof *s->states);
    if (!s->depth || !s->mask || !s->token || !s->states)
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory for a stage: use a smaller max_rows");
    return FTK_OK;
}

static bool is_sane(const ftk_stage_setup *u)
{
    enum { MOST = (1 << 24) + 4 * FTK_MAX_NODES };
    return u->slots > 0 && u->slots <= MOST && u->context > 0 && u->context <= MOST &&
           u->max_slots > 0 && u->max_slots <= MOST && u->max_rows >= FTK_MAX_NODES &&
           u->max_rows <= 4096 &&
           (u->kv_type == FTK_TYPE_F16 || u->kv_type == FTK_TYPE_F32 ||
            u->kv_type == FTK_TYPE_Q8_0);
}

static ftk_err open_stage(stage *s, int threads)
{
    ftk_stage_head head;
    ftk_stage_hello hello;
    ftk_err err = receive(s, &head);
    if (err != FTK_OK) return err;
    take(s, &hello, sizeof hello);
    if (s->bad || head.kind != FTK_STAGE_HELLO ||
        memcmp(hello.magic, FTK_STAGE_MAGIC, sizeof hello.magic) != 0 || !is_sane(&hello.setup))
        err = ftk_fail(s->host, FTK_ERR_UNSUPPORTED,
                       "the last stage is of another version of foretoken");
    else if (hello.n_layer != s->m->hp.n_layer ||
             memcmp(hello.fingerprint, s->m->fingerprint, sizeof hello.fingerprint) != 0)
        err = ftk_fail(s->host, FTK_ERR_INVALID, "the last stage has another model");
    else
        err = open_parts(s, &hello.setup, threads);
    const int32_t answer = err;
    if (!s->link->send(s->link->ctx, s->link->size - 1, &answer, sizeof answer)) return lost(s);
    return err;
}

static void close_stage(stage *s)
{
    const ftk_host *const h = s->host;
    ftk_forward_close(&s->forward);
    for (int i = 0; i < FTK_PASS_SEQS; i++) {
        s->kv[i].n_pages = 0; /* they are the last stage's to give back */
        ftk_kv_seq_close(&s->kv[i]);
    }
    if (s->pool.host) ftk_kv_pool_close(&s->pool);
    ftk_release(h, s->depth);
    ftk_release(h, s->mask);
    ftk_release(h, s->token);
    ftk_release(h, s->states);
    ftk_release(h, s->message);
}

static ftk_err serve(stage *s)
{
    for (;;) {
        ftk_stage_head head;
        ftk_err err = receive(s, &head);
        if (err != FTK_OK) return err;
        switch (head.kind) {
        case FTK_STAGE_RUN: err = take_pass(s, &head); break;
        case FTK_STAGE_COPY: copy_page(s); break;
        case FTK_STAGE_MOVE: move(s); break;
        case FTK_STAGE_END: return FTK_OK;
        default: s->bad = true;
        }
        if (err != FTK_OK) return err;
        if (s->bad)
            return ftk_fail(s->host, FTK_ERR_FORMAT,
                            "stage %d was sent what it does not understand", s->link->rank);
    }
}

ftk_err ftk_stage_run(const ftk_model *m, const ftk_link *link, int threads)
{
    if (!m || !link) return FTK_ERR_INVALID;
    if (link->rank < 0 || link->rank >= link->size - 1 || m->stage != link->rank ||
        m->n_stages != link->size || !m->layers)
        return ftk_fail(
            &m->host, FTK_ERR_INVALID,
            "stage %d of %d: load the model as this stage; the last one opens an engine",
            link->rank, link->size);
    stage *s = ftk_alloc(&m->host, 1, sizeof *s);
    if (!s) return ftk_fail(&m->host, FTK_ERR_NOMEM, "no memory for a stage");
    s->m = m;
    s->host = &m->host;
    s->link = link;
    s->own = ftk_stage_layers(m->hp.n_layer, link->rank, link->size);
    const ftk_floats floats = ftk_floats_enter();
    ftk_err err = open_stage(s, threads ? threads : ftk_cpus());
    if (err == FTK_OK) err = serve(s);
    close_stage(s);
    ftk_floats_leave(&floats);
    ftk_release(&m->host, s);
    return err;
}
