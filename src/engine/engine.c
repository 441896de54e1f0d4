/* SPDX-License-Identifier: Apache-2.0
 * The engine: threads, work space, KV cache and cost model that its sessions share. */
#include <math.h>
#include <string.h>

#include "base/config.h"
#include "base/cpus.h"
#include "base/floats.h"
#include "base/mem.h"
#include "session.h"

enum { MAX_ROWS = 4096, DEFAULT_ROWS = 256, DEFAULT_SLOTS = 4096 };

static const ftk_engine_config defaults = {
    .kv_type = FTK_TYPE_F16, .max_rows = DEFAULT_ROWS, .measure = true};

void ftk_engine_config_fill(ftk_engine_config *cfg, size_t size)
{
    ftk_config_give(cfg, size, &defaults, sizeof defaults);
}

static ftk_err check(const ftk_model *m, const ftk_engine_config *cfg)
{
    const ftk_host *h = &m->host;
    const int dim = m->hp.head_dim;
    if (cfg->threads < 0 || cfg->threads > FTK_MAX_THREADS)
        return ftk_fail(h, FTK_ERR_INVALID, "%d threads: give 1 to %d, or 0 for all cores",
                        cfg->threads, FTK_MAX_THREADS);
    if (cfg->kv_slots < 0 || cfg->kv_slots > 1 << 24)
        return ftk_fail(h, FTK_ERR_INVALID, "%d KV slots: give 1 to %d", cfg->kv_slots, 1 << 24);
    if (cfg->max_rows < FTK_MAX_NODES || cfg->max_rows > MAX_ROWS)
        return ftk_fail(h, FTK_ERR_INVALID, "max_rows %d: give %d to %d", cfg->max_rows,
                        FTK_MAX_NODES, MAX_ROWS);
    if (cfg->kv_type != FTK_TYPE_F16 && cfg->kv_type != FTK_TYPE_F32 &&
        cfg->kv_type != FTK_TYPE_Q8_0)
        return ftk_fail(h, FTK_ERR_INVALID, "the KV cache can be F16, F32 or Q8_0 only");
    if (cfg->kv_type == FTK_TYPE_Q8_0 && dim % FTK_QBLOCK != 0)
        return ftk_fail(h, FTK_ERR_UNSUPPORTED,
                        "a KV cache in Q8_0 needs heads of a multiple of %d; this model's have %d: "
                        "use F16",
                        FTK_QBLOCK, dim);
    const int n = cfg->link ? cfg->link->size : 0;
    if ((n > 1 ? n : 0) != (m->n_stages > 1 ? m->n_stages : 0) ||
        (n > 1 && (cfg->link->rank != n - 1 || m->stage != n - 1)))
        return ftk_fail(
            h, FTK_ERR_INVALID,
            "the model has stage %d of %d, and the link says %d of %d: an engine is the last "
            "one of both",
            m->stage, m->n_stages, n ? cfg->link->rank : 0, n);
    if (n > 1 && cfg->device && strcmp(cfg->device, "cpu") != 0)
        return ftk_fail(h, FTK_ERR_UNSUPPORTED, "stages of a model run on the CPU alone");
    return FTK_OK;
}

ftk_err ftk_learned_open(ftk_learned *l, const ftk_drafter_ops *ops, const ftk_host *host)
{
    *l = (ftk_learned){0};
    if (ops->rates_size == 0) return FTK_OK;
    l->rates = ftk_alloc(host, ops->rates_size, 1);
    if (!l->rates) return ftk_fail(host, FTK_ERR_NOMEM, "no memory for what drafters learn");
    ops->rates_init(l->rates);
    return FTK_OK;
}

static ftk_err open_learned(ftk_engine *e)
{
    ftk_err err = FTK_OK;
    for (int i = 0; ftk_drafter_list[i] && err == FTK_OK; i++)
        err = ftk_learned_open(&e->learned[i], ftk_drafter_list[i], &e->host);
    return err;
}

/* "auto" ends up with none where there is none. */
static ftk_err open_device(ftk_engine *e, const ftk_engine_config *cfg, int slots)
{
    const char *name = cfg->device;
    if (!name || strcmp(name, "cpu") == 0) return FTK_OK;
    const bool any = strcmp(name, "auto") == 0;
    const int pages = (slots + FTK_PAGE - 1) / FTK_PAGE;
    const ftk_device_config dc = {.name = any ? "cuda" : name,
                                  .max_rows = cfg->max_rows,
                                  .max_slots = pages * FTK_PAGE + FTK_MAX_NODES,
                                  .kv_bytes = ftk_kv_pool_bytes(e->model, slots, cfg->kv_type),
                                  .wide = cfg->wide_prefill};
    char why[400];
    const ftk_err err = ftk_device_open(&e->device, e->model, &dc, why, sizeof why);
    if (err == FTK_OK) {
        e->wide = cfg->wide_prefill ? FTK_WIDE_ROWS : 0;
        return FTK_OK;
    }
    if (!any) return ftk_fail(&e->host, err, "%s", why);
    ftk_log(&e->host, FTK_LOG_WARN, "%s; the CPU is used", why);
    return FTK_OK;
}

/* Before the first pass, which they run, too. */
static ftk_err open_stages(ftk_engine *e, const ftk_engine_config *cfg)
{
    if (!cfg->link || cfg->link->size <= 1) return FTK_OK;
    const ftk_stage_setup setup = {.slots = cfg->kv_slots,
                                   .max_rows = cfg->max_rows,
                                   .context = cfg->kv_slots,
                                   .max_slots = e->pool.n_pages * FTK_PAGE + FTK_MAX_NODES,
                                   .kv_type = cfg->kv_type};
    const ftk_err err = ftk_stages_open(&e->stages, e->model, cfg->link, &setup);
    e->forward.below = e->pool.stages = &e->stages;
    e->pool.begin = e->stages.end;
    return err;
}

static ftk_err open_parts(ftk_engine *e, const ftk_engine_config *cfg)
{
    const int slots = cfg->kv_slots;
    e->kv_slots = slots;
    ftk_err err = open_device(e, cfg, slots);
    if (err == FTK_OK) err = ftk_kv_pool_open(&e->pool, e->model, slots, cfg->kv_type, e->device);
    const int rows = cfg->max_rows > e->wide ? cfg->max_rows : e->wide;
    if (err == FTK_OK)
        err = ftk_forward_open(&e->forward, e->model, cfg->threads, rows, slots,
                               e->pool.n_pages * FTK_PAGE + FTK_MAX_NODES, cfg->kv_type);
    e->forward.device = e->device;
    e->forward.clock = e->clock;
    if (err == FTK_OK) err = open_stages(e, cfg);
    if (err == FTK_OK) err = open_learned(e);
    ftk_cost_flat(&e->cost);
    if (err == FTK_OK && cfg->measure) err = ftk_cost_measure(&e->cost, &e->forward, &e->pool);
    if (err == FTK_OK) err = ftk_forward_check(&e->forward);
    return err;
}

static ftk_err open_engine(ftk_engine **out, const ftk_model *m, const ftk_engine_config *cfg,
                           const ftk_clock *clock)
{
    const ftk_host *h = &m->host;
    ftk_engine *e = ftk_alloc(h, 1, sizeof *e);
    if (!e) return ftk_fail(h, FTK_ERR_NOMEM, "no memory for an engine");
    e->model = m;
    e->host = *h;
    e->clock = clock;
    e->credit = FTK_CREDIT;
    e->next_plain = FTK_FIRST_PLAIN;
    for (int i = 0; i < FTK_COST_POINTS; i++) e->next_width[i] = FTK_FIRST_WIDER;
    e->pace = (ftk_pace){FTK_PLAIN, FTK_PLAIN};
    ftk_retrieval_rates_init(&e->retrieval);
    ftk_successor_rates_init(&e->successors);
    const ftk_err err = open_parts(e, cfg);
    if (err != FTK_OK) {
        ftk_engine_free(e);
        return err;
    }
    *out = e;
    return FTK_OK;
}

ftk_err ftk_engine_take_config(const ftk_model *m, const ftk_engine_config *cfg,
                               ftk_engine_config *own)
{
    *own = defaults;
    ftk_err err = ftk_config_take(own, sizeof *own, cfg, "engine", &m->host);
    if (err == FTK_OK && !m->layers)
        err = ftk_fail(&m->host, FTK_ERR_INVALID,
                       "the model was loaded for its vocabulary alone: load it whole");
    if (err == FTK_OK) err = check(m, own);
    const int ctx = m->hp.n_ctx_train;
    if (!own->kv_slots) own->kv_slots = ctx < DEFAULT_SLOTS ? ctx : DEFAULT_SLOTS;
    if (!own->threads) own->threads = ftk_cpus();
    return err;
}

ftk_err ftk_engine_open_by(ftk_engine **out, const ftk_model *m, const ftk_engine_config *cfg,
                           const ftk_clock *clock)
{
    *out = NULL;
    if (!m) return FTK_ERR_INVALID;
    ftk_engine_config own;
    ftk_err err = ftk_engine_take_config(m, cfg, &own);
    if (err != FTK_OK) return err;
    const ftk_floats floats = ftk_floats_enter();
    return ftk_floats_after(&floats, open_engine(out, m, &own, clock));
}

ftk_err ftk_engine_open(ftk_engine **out, const ftk_model *m, const ftk_engine_config *cfg)
{
    return ftk_engine_open_by(out, m, cfg, NULL);
}

void ftk_engine_free(ftk_engine *e)
{
    if (!e) return;
    const ftk_host h = e->host;
    ftk_stages_close(&e->stages);
    for (int i = 0; i < FTK_MAX_DRAFTERS; i++) {
        ftk_release(&h, e->learned[i].rates);
        if (e->files[i]) ftk_drafterfile_close(e->files[i], &h);
        ftk_release(&h, e->files[i]);
        ftk_net_free(e->nets[i]);
    }
    ftk_forward_close(&e->forward); /* whose threads draft models have */
    ftk_lowbit_close(&e->low, &h);
    ftk_release(&h, e->target_act);
    ftk_release(&h, e->target_space);
    if (e->pool.host) ftk_kv_pool_close(&e->pool);
    if (e->device) e->device->ops->free(e->device);
    ftk_release(&h, e);
}

int ftk_engine_threads(const ftk_engine *e)
{
    return e->forward.team.threads;
}

const char *ftk_engine_device(const ftk_engine *e)
{
    return e->device ? e->device->ops->name(e->device) : "cpu";
}

double ftk_engine_cost(const ftk_engine *e, int rows)
{
    const ftk_floats floats = ftk_floats_enter();
    const double seconds = ftk_cost_at(&e->cost, rows > FTK_MAX_NODES ? FTK_MAX_NODES : rows, 0);
    ftk_floats_leave(&floats);
    return seconds;
}

/* ---- scoring */

ftk_err ftk_check_tokens(const ftk_engine *e, const int32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= e->model->hp.n_vocab)
            return ftk_fail(&e->host, FTK_ERR_INVALID, "token %d is not in the vocabulary of %d",
                            tokens[i], e->model->hp.n_vocab);
    return FTK_OK;
}

ftk_err ftk_not_finite(const ftk_engine *e)
{
    return ftk_fail(&e->host, FTK_ERR_NUMERIC,
                    "the model gave logits that are not finite: its weights are damaged");
}

/* What becomes of the logits behind tokens[place]. */
typedef void row_visit(void *ctx, const ftk_engine *e, int place, const float *row);

/* Reads the first n tokens. */
static ftk_err read_rows(ftk_engine *e, ftk_kv_seq *seq, const int32_t *tokens, int n,
                         row_visit *visit, void *ctx)
{
    while (seq->len < n) {
        const int left = n - seq->len;
        const int rows = left < FTK_MAX_NODES ? left : FTK_MAX_NODES;
        const ftk_err err = ftk_kv_reserve(seq, rows);
        if (err != FTK_OK) return err;
        const ftk_pass_seq pass = {.kv = seq, .n_rows = rows, .token = tokens + seq->len};
        ftk_forward_run(&e->forward, &pass, 1);
        const ftk_err failed = ftk_forward_check(&e->forward);
        if (failed != FTK_OK) return failed;
        for (int i = 0; i < rows; i++)
            visit(ctx, e, seq->len + i,
                  e->forward.logits + (size_t)i * (size_t)e->model->hp.n_vocab);
        seq->len += rows;
    }
    return FTK_OK;
}

static ftk_err check_text(const ftk_engine *e, const int32_t *tokens, size_t n, const char *what)
{
    if (n < 1 || n > (size_t)e->pool.n_pages * FTK_PAGE)
        return ftk_fail(&e->host, FTK_ERR_INVALID, "%zu tokens to %s: give 1 to %d", n, what,
                        e->pool.n_pages * FTK_PAGE);
    return ftk_check_tokens(e, tokens, n);
}

/* The same, by a sequence of its own. */
static ftk_err read_text(ftk_engine *e, const int32_t *tokens, size_t n, row_visit *visit,
                         void *ctx)
{
    ftk_kv_seq seq;
    const ftk_floats floats = ftk_floats_enter();
    ftk_err err = ftk_kv_seq_open(&seq, &e->pool, (int)n);
    if (err == FTK_OK) err = read_rows(e, &seq, tokens, (int)n, visit, ctx);
    ftk_kv_seq_close(&seq);
    ftk_floats_leave(&floats);
    return err;
}

typedef struct scored {
    const int32_t *tokens;
    double *sum;
} scored;

static void add_score(void *ctx, const ftk_engine *e, int place, const float *row)
{
    const scored *const s = ctx;
    const ftk_softmax all = ftk_softmax_of(row, e->model->hp.n_vocab);
    *s->sum += ftk_softmax_log(&all, row[s->tokens[place + 1]]);
}

ftk_err ftk_score(ftk_engine *e, const int32_t *tokens, size_t n, double *log_prob)
{
    *log_prob = 0;
    ftk_err err = check_text(e, tokens, n, "score");
    /* the last token predicts nothing we score */
    if (err != FTK_OK || n == 1) return err;
    err = read_text(e, tokens, n - 1, add_score, &(scored){tokens, log_prob});
    if (err != FTK_OK) return err;
    return isfinite(*log_prob) ? FTK_OK : ftk_not_finite(e);
}

typedef struct wanted {
    float *logits;
    int from;
} wanted;

static void copy_row(void *ctx, const ftk_engine *e, int place, const float *row)
{
    const wanted *const w = ctx;
    const size_t n_vocab = (size_t)e->model->hp.n_vocab;
    if (place < w->from) return;
    memcpy(w->logits + (size_t)(place - w->from) * n_vocab, row, n_vocab * sizeof *row);
}

ftk_err ftk_logits(ftk_engine *e, const int32_t *tokens, size_t n, size_t from, float *logits)
{
    const ftk_err err = check_text(e, tokens, n, "read");
    if (err != FTK_OK) return err;
    if (from > n)
        return ftk_fail(&e->host, FTK_ERR_INVALID, "logits from token %zu on of %zu: give 0 to %zu",
                        from, n, n);
    return read_text(e, tokens, n, copy_row, &(wanted){logits, (int)from});
}
