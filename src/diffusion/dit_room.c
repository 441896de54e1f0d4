/* SPDX-License-Identifier: Apache-2.0
 * The memory of a pass. */
#include <string.h>

#include "base/mem.h"
#include "dit_pass.h"

static int widest(const ftk_dit_shape *s)
{
    const int patch = s->patch * s->patch * s->out_channels;
    const int n = s->n_embd > s->n_ff ? s->n_embd : s->n_ff;
    return n > patch ? n : patch;
}

static void place_pages(ftk_dit_pass *p, size_t seqs)
{
    const size_t pages = ((size_t)p->m->shape.n_tokens + FTK_PAGE - 1) / FTK_PAGE;
    for (size_t i = 0; i < seqs * 2 * pages; i++) p->page[i] = p->pages + i * p->page_floats;
}

ftk_err ftk_dit_pass_open(ftk_dit_pass *p, const ftk_dit *m, const ftk_host *h, int threads,
                          int max_seqs, int halves, bool checks, ftk_kept_scores scores,
                          ftk_dit_device *device)
{
    const ftk_dit_shape *s = &m->shape;
    const size_t seqs = (size_t)max_seqs * (checks ? 2 : 1), n = (size_t)s->n_tokens;
    const size_t rows = seqs * n, c = (size_t)s->n_embd, pages = (n + FTK_PAGE - 1) / FTK_PAGE;
    const size_t patch = (size_t)(s->patch * s->patch * s->out_channels);
    const size_t nth = (size_t)threads;
    *p = (ftk_dit_pass){.m = m, .host = h, .device = device, .scores = scores, .halves = halves};
    const ftk_err err = ftk_team_open(&p->team, threads, h);
    if (err != FTK_OK) return err;
    p->act_stride = m->kernels.act_bytes(FTK_TYPE_F32, widest(s));
    p->scratch_stride = (m->kernels.attn_scratch(s->head_dim, 1, s->n_tokens) + 15) / 16 * 16;
    p->page_floats = (size_t)s->n_head * FTK_PAGE * (size_t)s->head_dim;
    const bool received = scores == FTK_SCORES_RECEIVED;
    const size_t tiles = (n + FTK_ATTN_TILE - 1) / FTK_ATTN_TILE;
    const struct {
        void *to; /* a pointer to a pointer */
        size_t n, size;
    } parts[] = {
        {&p->x, rows, c * sizeof(float)},
        {&p->before, checks ? rows / 2 : 0, c * sizeof(float)},
        {&p->q, rows, c * sizeof(float)},
        {&p->kv, rows, 2 * c * sizeof(float)},
        {&p->attn, rows, c * sizeof(float)},
        {&p->out, rows, c * sizeof(float)},
        {&p->hidden, rows, (size_t)s->n_ff * sizeof(float)},
        {&p->act, rows, p->act_stride},
        {&p->norm, nth, c * sizeof(float)},
        {&p->patches, rows, patch * sizeof(float)},
        {&p->pages, seqs * 2 * pages, p->page_floats * sizeof(float)},
        {&p->page, seqs * 2 * pages, sizeof *p->page},
        {&p->mask, n, sizeof *p->mask},
        {&p->columns, received ? seqs * tiles * n : 0, (size_t)s->n_head * sizeof(float)},
        {&p->scratch, nth, p->scratch_stride * sizeof(float)},
        {&p->ones, (size_t)s->n_ff, sizeof(float)},
        {&p->errors, (size_t)max_seqs, sizeof *p->errors},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].n == 0 || (device && parts[i].to != (void *)&p->errors)) continue;
        void *const got = ftk_alloc_raw(h, parts[i].n, parts[i].size);
        if (!got)
            return ftk_fail(h, FTK_ERR_NOMEM,
                            "no memory for %d samples at once: use a smaller batch",
                            max_seqs / halves);
        memcpy(parts[i].to, &got, sizeof got);
    }
    if (device) return FTK_OK;
    memset(p->mask, 0, n * sizeof *p->mask);
    for (int i = 0; i < s->n_ff; i++) p->ones[i] = 1;
    place_pages(p, seqs);
    return FTK_OK;
}

void ftk_dit_pass_close(ftk_dit_pass *p)
{
    if (!p->m) return;
    ftk_team_close(&p->team);
    void *const all[] = {p->x,      p->before,  p->q,       p->kv,      p->attn,  p->out,
                         p->hidden, p->act,     p->norm,    p->patches, p->pages, (void *)p->page,
                         p->mask,   p->columns, p->scratch, p->ones,    p->errors};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ftk_release(p->host, all[i]);
    *p = (ftk_dit_pass){0};
}
