/* SPDX-License-Identifier: Apache-2.0
 * What an engine and its sessions take of memory and of the KV cache. */
#include <string.h>

#include "base/config.h"
#include "session.h"

static ftk_engine_stats estimate(const ftk_model *m, int slots, ftk_type kv_type, int threads,
                                 int max_rows)
{
    const int pages = (slots + FTK_PAGE - 1) / FTK_PAGE;
    return (ftk_engine_stats){
        .page_tokens = FTK_PAGE,
        .kv_pages = (uint64_t)pages,
        .kv_pages_free = (uint64_t)pages,
        .kv_bytes = ftk_kv_pool_bytes(m, slots, kv_type),
        .work_bytes = ftk_forward_bytes(m, threads, max_rows, pages * FTK_PAGE + FTK_MAX_NODES)};
}

ftk_err ftk_engine_estimate(const ftk_model *m, const ftk_engine_config *cfg,
                            ftk_engine_stats *stats, size_t size)
{
    if (!m) return FTK_ERR_INVALID;
    ftk_engine_config own;
    const ftk_err err = ftk_engine_take_config(m, cfg, &own);
    if (err != FTK_OK) return err;
    const bool wide = own.wide_prefill && own.device && strcmp(own.device, "cpu") != 0;
    const int rows = wide && own.max_rows < FTK_WIDE_ROWS ? FTK_WIDE_ROWS : own.max_rows;
    const ftk_engine_stats e = estimate(m, own.kv_slots, own.kv_type, own.threads, rows);
    ftk_config_report(stats, size, &e, sizeof e);
    return FTK_OK;
}

void ftk_engine_report(const ftk_engine *e, ftk_engine_stats *stats, size_t size)
{
    const ftk_forward *const f = &e->forward;
    ftk_engine_stats now =
        estimate(e->model, e->kv_slots, f->kv_type, f->team.threads, f->max_rows);
    now.kv_pages_free = (uint64_t)e->pool.n_free;
    now.copy_bytes = e->has_low ? ftk_lowbit_size(e->model) : 0;
    now.sessions = e->n_open;
    for (int i = 0; i < FTK_MAX_DRAFTERS; i++)
        if (e->nets[i]) now.draft_bytes += e->nets[i]->meter.bytes;
    for (const ftk_session *s = e->sessions; s; s = s->older)
        now.session_bytes += ftk_session_bytes(s);
    ftk_config_report(stats, size, &now, sizeof now);
}

/* What a host gives, and on a device what is held there; page tables come from elsewhere. */
uint64_t ftk_session_bytes(const ftk_session *s)
{
    const ftk_kv_seq *const kv = &s->kv;
    const uint64_t page =
        sizeof *kv->page + 2 * (uint64_t)s->engine->model->hp.n_layer * sizeof *kv->plane;
    const uint64_t held =
        s->held ? FTK_HELD * (uint64_t)s->engine->model->hp.n_embd * sizeof(float) : 0;
    return sizeof *s + s->meter.bytes + (uint64_t)kv->max_pages * page + held;
}

void ftk_session_report(const ftk_session *s, ftk_stats *stats, size_t size)
{
    ftk_stats now = s->stats;
    now.bytes = ftk_session_bytes(s);
    now.kv_pages = (uint64_t)s->kv.n_pages;
    now.tokens = s->n_tokens;
    now.room = (uint64_t)s->n_ctx - s->n_tokens;
    ftk_config_report(stats, size, &now, sizeof now);
}

ftk_err ftk_session_estimate(ftk_engine *e, const ftk_session_config *cfg, uint64_t *bytes)
{
    ftk_session *s;
    *bytes = 0;
    const ftk_err err = ftk_session_open(&s, e, cfg);
    if (err == FTK_OK) *bytes = ftk_session_bytes(s);
    ftk_session_free(s);
    return err;
}
