/* SPDX-License-Identifier: Apache-2.0
 * The last stage's side: what it sends to those below, and the rows that come back. */
#include "stages.h"

#include <string.h>

#include "base/mem.h"
#include "stagewords.h"

ftk_stage_range ftk_stage_layers(int n_layer, int stage, int n_stages)
{
    if (n_stages <= 1) return (ftk_stage_range){0, n_layer};
    return (ftk_stage_range){(int)((int64_t)n_layer * stage / n_stages),
                             (int)((int64_t)n_layer * (stage + 1) / n_stages)};
}

/* ---- a message: its head, and then what belongs to it */

static void put(ftk_stages *s, const void *p, size_t n)
{
    if (n == 0) return;
    if (!ftk_grow(s->host, &s->message, s->n, n, &s->cap, 1)) {
        s->lost = true;
        return;
    }
    memcpy(s->message + s->n, p, n);
    s->n += n;
}

static void put_int(ftk_stages *s, int v)
{
    const int32_t own = v;
    put(s, &own, sizeof own);
}

static void send_all(ftk_stages *s, ftk_stage_head head)
{
    head.bytes = s->n;
    for (int to = 0; to < s->link.rank && !s->lost; to++)
        if (!s->link.send(s->link.ctx, to, &head, sizeof head) ||
            (s->n > 0 && !s->link.send(s->link.ctx, to, s->message, s->n)))
            s->lost = true;
    s->n = 0;
}

static void put_pages(ftk_stages *s, const ftk_kv_seq *kv)
{
    put_int(s, kv->len);
    put_int(s, kv->n_pages);
    put(s, kv->page, (size_t)kv->n_pages * sizeof *kv->page);
}

/* ---- a pass */

static void put_rows(ftk_stages *s, const ftk_pass_seq *seq)
{
    put_pages(s, seq->kv);
    put_int(s, seq->n_rows);
    put_int(s, seq->slot);
    put_int(s, seq->mask != NULL);
    if (seq->mask) put(s, seq->mask, (size_t)seq->n_rows * sizeof *seq->mask);
    for (int i = 0; i < seq->n_rows; i++) {
        const int16_t depth = (int16_t)(seq->depth ? seq->depth[i] : seq->slot + i);
        put(s, &depth, sizeof depth);
    }
    if (seq->states)
        put(s, seq->states, (size_t)seq->n_rows * s->n_embd * sizeof *seq->states);
    else
        put(s, seq->token, (size_t)seq->n_rows * sizeof *seq->token);
}

static void receive(ftk_stages *s, int from, float *x, size_t n_rows)
{
    const size_t bytes = n_rows * s->n_embd * sizeof *x;
    if (!s->lost && !s->link.receive(s->link.ctx, from, x, bytes)) s->lost = true;
    if (s->lost) memset(x, 0, bytes);
}

const ftk_pass_seq *ftk_stages_run(ftk_stages *s, ftk_forward *f, const ftk_pass_seq *seqs,
                                   int n_seqs, int first)
{
    size_t n_rows = 0, row = 0;
    const int last = f->layers < s->end ? f->layers : s->end;
    for (int i = 0; i < n_seqs; i++) {
        put_rows(s, &seqs[i]);
        n_rows += (size_t)seqs[i].n_rows;
    }
    send_all(s, (ftk_stage_head){.kind = FTK_STAGE_RUN,
                                 .first = first,
                                 .last = last,
                                 .keep = f->keep,
                                 .n_seqs = n_seqs,
                                 .n_rows = (int32_t)n_rows,
                                 .states = seqs[0].states != NULL});
    const int n_layer = f->m->hp.n_layer, n_stages = s->link.size;
    for (int from = 0; from < s->link.rank; from++) {
        const ftk_stage_range r = ftk_stage_layers(n_layer, from, n_stages);
        if (f->keep >= first && f->keep < last && f->keep >= r.begin && f->keep < r.end)
            receive(s, from, f->states, n_rows);
        if (last > r.begin && last <= r.end) receive(s, from, s->x, n_rows);
    }
    for (int i = 0; i < n_seqs; i++) {
        s->seqs[i] = seqs[i];
        s->seqs[i].token = NULL;
        s->seqs[i].states = s->x + row * s->n_embd;
        row += (size_t)seqs[i].n_rows;
    }
    return s->seqs;
}

/* ---- the cache */

void ftk_stages_copy(ftk_stages *s, int32_t to, int32_t from)
{
    put_int(s, to);
    put_int(s, from);
    send_all(s, (ftk_stage_head){.kind = FTK_STAGE_COPY});
}

void ftk_stages_move(ftk_stages *s, const ftk_kv_seq *kv, const int16_t *path, int n)
{
    put_pages(s, kv);
    put_int(s, n);
    put(s, path, (size_t)n * sizeof *path);
    send_all(s, (ftk_stage_head){.kind = FTK_STAGE_MOVE});
}

/* ---- life */

ftk_err ftk_stages_open(ftk_stages *s, const ftk_model *m, const ftk_link *link,
                        const ftk_stage_setup *setup)
{
    const ftk_host *const h = &m->host;
    *s = (ftk_stages){.host = h, .link = *link, .n_embd = (size_t)m->hp.n_embd};
    s->end = ftk_stage_layers(m->hp.n_layer, link->rank, link->size).begin;
    s->x = ftk_alloc(h, (size_t)setup->max_rows, s->n_embd * sizeof *s->x);
    if (!s->x) return ftk_fail(h, FTK_ERR_NOMEM, "no memory for states between stages");
    ftk_stage_hello hello = {.setup = *setup, .n_layer = m->hp.n_layer};
    memcpy(hello.magic, FTK_STAGE_MAGIC, sizeof hello.magic);
    memcpy(hello.fingerprint, m->fingerprint, sizeof hello.fingerprint);
    put(s, &hello, sizeof hello);
    send_all(s, (ftk_stage_head){.kind = FTK_STAGE_HELLO});
    for (int from = 0; from < link->rank && !s->lost; from++) {
        int32_t err;
        if (!link->receive(link->ctx, from, &err, sizeof err))
            s->lost = true;
        else if (err != FTK_OK)
            return ftk_fail(h, FTK_ERR_DEVICE, "stage %d of %d is not ready (%s): it says why",
                            from, link->size, ftk_strerror((ftk_err)err));
    }
    return s->lost ? ftk_fail(h, FTK_ERR_DEVICE, "a stage of the model is not there") : FTK_OK;
}

void ftk_stages_close(ftk_stages *s)
{
    if (!s->host) return;
    s->n = 0;
    send_all(s, (ftk_stage_head){.kind = FTK_STAGE_END});
    ftk_release(s->host, s->message);
    ftk_release(s->host, s->x);
    *s = (ftk_stages){0};
}
