/* SPDX-License-Identifier: Apache-2.0
 * What drafters may use of the model between the passes that verify; and their files. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/floats.h"
#include "base/mem.h"
#include "model/gguf.h"
#include "session.h"

/* ---- products */

enum { SMALL = 1 << 17 }; /* weights of a matrix that one thread reads sooner than two can meet */

static void embed(void *ctx, int n, const int32_t *tokens, float *x)
{
    const ftk_session *s = ctx;
    const ftk_model *m = s->engine->model;
    for (int i = 0; i < n; i++) ftk_embed(m, tokens[i], x + (size_t)i * (size_t)m->hp.n_embd);
}

static void last_norm(void *ctx, int n, const float *x, float *y)
{
    const ftk_session *s = ctx;
    const ftk_model *m = s->engine->model;
    const size_t d = (size_t)m->hp.n_embd;
    for (size_t i = 0; i < (size_t)n; i++)
        m->kernels.rms_norm((int)d, x + i * d, m->output_norm, m->hp.norm_eps, y + i * d);
}

typedef struct product {
    const ftk_engine *e;
    const ftk_mat *w;
    int n;
    float *y;
} product;

static void multiply_share(void *ctx, int ith, int nth)
{
    const product *const p = ctx;
    const ftk_mat *const w = p->w;
    const ftk_kernels *k = &p->e->model->kernels;
    const ftk_range o = ftk_team_share(ith, nth, w->n_out, k->matmul_grain);
    if (o.begin < o.end)
        k->matmul(w, p->e->target_act, p->e->target_stride, p->n, o.begin, o.end, p->y,
                  (size_t)w->n_out);
}

static void multiply_here(void *ctx, const ftk_mat *w, int n, const float *x, float *y)
{
    ftk_engine *const e = ((const ftk_session *)ctx)->engine;
    for (int i = 0; i < n; i++)
        e->model->kernels.act_pack(w->type, w->n_in, x + (size_t)i * (size_t)w->n_in,
                                   e->target_act + (size_t)i * e->target_stride);
    product p = {e, w, n, y};
    if ((int64_t)w->n_out * w->n_in > SMALL)
        ftk_team_run(&e->forward.team, multiply_share, &p);
    else
        multiply_share(&p, 0, 1);
    const ftk_clock *const clock = e->clock;
    if (clock) clock->product(clock->ctx, w->n_out, w->n_in, n);
}

static void multiply(void *ctx, const ftk_mat *w, int n, const float *x, float *y)
{
    ftk_device *const d = ((const ftk_session *)ctx)->engine->device;
    if (d)
        d->ops->multiply(d, w, n, x, y);
    else
        multiply_here(ctx, w, n, x, y);
}

static double now(void *ctx)
{
    return ftk_engine_now(((const ftk_session *)ctx)->engine);
}

/* ---- upper layers */

ftk_rows ftk_rows_of(const ftk_forward *f, bool spared, size_t first)
{
    if (spared && f->ranked) return (ftk_rows){.ranked = f->ranked + first};
    return (ftk_rows){.logits = f->logits + first * (size_t)f->m->hp.n_vocab};
}

static const unsigned spare_all = FTK_SPARE_LOGITS | FTK_SPARE_FEATURES | FTK_SPARE_STATES;

static bool has_room(ftk_session *s, int n)
{
    return s->room >= n && ftk_kv_reserve(&s->kv, n) == FTK_OK;
}

/* A device's trouble is said by the step that runs into it. */
static bool works(const ftk_engine *e)
{
    return !e->device || !e->device->ops->trouble(e->device);
}

static const ftk_rows *rows_above(ftk_session *s)
{
    s->above = ftk_rows_of(&s->engine->forward, true, 0);
    return works(s->engine) ? &s->above : NULL;
}

static const ftk_rows *run_above(void *ctx, int layer, int n, const float *x)
{
    ftk_session *s = ctx;
    if (!has_room(s, n)) return NULL;
    const ftk_pass_seq seq = {.kv = &s->kv, .n_rows = n, .spare = spare_all, .states = x};
    ftk_forward_run_above(&s->engine->forward, &seq, 1, layer);
    return rows_above(s);
}

double ftk_target_share(const ftk_model *m, int layer)
{
    const ftk_layer *l = &m->layers[0]; /* all are of one shape */
    double each = 0;
    for (int i = 0; i < FTK_LAYER_MATS; i++)
        each += (double)ftk_layer_mat(l, i)->n_out * ftk_layer_mat(l, i)->n_in;
    const double output = (double)m->output.n_out * m->output.n_in;
    return (each * (m->hp.n_layer - layer) + output) / (each * m->hp.n_layer + output);
}

static double seconds(void *ctx, int layer, int rows)
{
    const ftk_session *s = ctx;
    const ftk_engine *e = s->engine;
    if (layer == 0) return ftk_size_token(s) + ftk_size_more(s, rows - 1);
    return ftk_target_share(e->model, layer) * ftk_cost_at(&e->cost, rows, s->kv.len);
}

static double pace(void *ctx)
{
    return ftk_session_pace(ctx);
}

static const ftk_rows *run_route(void *ctx, int depth, int32_t token, const ftk_route *route)
{
    ftk_session *s = ctx;
    ftk_forward *f = &s->engine->forward;
    if (!has_room(s, depth + 1)) return NULL;
    const unsigned spare =
        s->decoding ? ftk_session_spare(s) : FTK_SPARE_LOGITS | FTK_SPARE_FEATURES;
    const ftk_pass_seq seq = {.kv = &s->kv,
                              .n_rows = 1,
                              .slot = depth,
                              .token = &token,
                              .spare = spare,
                              .sampling = s->decoding ? &s->cfg.sampling : NULL,
                              .route = route};
    ftk_forward_run(f, &seq, 1);
    s->above = ftk_rows_of(f, spare & FTK_SPARE_LOGITS, 0);
    return works(s->engine) ? &s->above : NULL;
}

/* ---- whole drafts on a device */

float *ftk_target_held(const ftk_session *s, ftk_held what)
{
    return s->held + (size_t)what * (size_t)s->engine->model->hp.n_embd;
}

static void hold(void *ctx, ftk_held what, int row)
{
    const ftk_session *s = ctx;
    ftk_device *const d = s->engine->device;
    d->ops->hold(d, what, s->first_row[what] + row, ftk_target_held(s, what));
}

static const ftk_heads_said *run_heads(void *ctx, const ftk_heads *h, const ftk_heads_ask *ask)
{
    const ftk_session *s = ctx;
    ftk_device *const d = s->engine->device;
    return d->ops->run_heads(d, h, ask, ftk_target_held(s, FTK_HELD_FEATURE));
}

static const ftk_rows *run_mapped(void *ctx, int layer, const ftk_maps *maps)
{
    ftk_session *s = ctx;
    ftk_device *const d = s->engine->device;
    if (!has_room(s, maps->n)) return NULL;
    int32_t token[FTK_MAX_NODES];
    for (int i = 0; i < maps->n; i++) token[i] = maps->token;
    const ftk_pass_seq seq = {.kv = &s->kv, .n_rows = maps->n, .token = token, .spare = spare_all};
    d->ops->run_mapped(d, &s->engine->forward, &seq, layer, maps,
                       ftk_target_held(s, FTK_HELD_STATE));
    return rows_above(s);
}

ftk_err ftk_target_hold(ftk_session *s)
{
    ftk_device *const d = s->engine->device;
    if (!d || s->held) return FTK_OK;
    s->held = d->ops->mem_alloc(d, FTK_HELD * (size_t)s->engine->model->hp.n_embd * sizeof(float));
    return s->held ? FTK_OK
                   : ftk_fail(&s->engine->host, FTK_ERR_NOMEM,
                              "no memory on the device for what a drafter holds");
}

void ftk_target_release(ftk_session *s)
{
    ftk_device *const d = s->engine->device;
    if (d) d->ops->mem_free(d, s->held);
    s->held = NULL;
}

void ftk_target_init(ftk_target *t, ftk_session *s)
{
    const ftk_hparams *hp = &s->engine->model->hp;
    const bool on_device = s->engine->device != NULL;
    *t = (ftk_target){
        .ctx = s,
        .n_vocab = hp->n_vocab,
        .n_embd = hp->n_embd,
        .n_layer = hp->n_layer,
        .now = now,
        .space = &s->engine->target_space,
        .embed = embed,
        .multiply = multiply,
        .multiply_here = multiply_here,
        .last_norm = last_norm,
        .run_above = run_above,
        .seconds = seconds,
        .pace = pace,
        .run_route = run_route,
        .hold = on_device ? hold : NULL,
        .run_heads = on_device ? run_heads : NULL,
        .run_mapped = on_device ? run_mapped : NULL,
        .leave = on_device ? ftk_finish_leave : NULL,
    };
}

/* ---- files */

int ftk_drafter_index(const char *name, size_t n)
{
    for (int i = 0; ftk_drafter_list[i]; i++)
        if (strlen(ftk_drafter_list[i]->name) == n &&
            memcmp(ftk_drafter_list[i]->name, name, n) == 0)
            return i;
    return -1;
}

bool ftk_drafter_reads_files(int i)
{
    return i >= 0 && ftk_drafter_list[i]->check && !ftk_drafter_list[i]->family;
}

ftk_err ftk_target_room(ftk_engine *e, int widest)
{
    const size_t stride = e->model->kernels.act_bytes(FTK_TYPE_F32, widest);
    if (stride <= e->target_stride) return FTK_OK;
    char *act = ftk_alloc_raw(&e->host, FTK_MAX_NODES, stride);
    if (!act) return ftk_fail(&e->host, FTK_ERR_NOMEM, "no memory for a drafter's products");
    ftk_release(&e->host, e->target_act);
    e->target_act = act;
    e->target_stride = stride;
    return FTK_OK;
}

ftk_err ftk_target_space(ftk_engine *e, const ftk_drafter_ops *ops, const ftk_target *t)
{
    const size_t n = ops->space && !e->device ? ops->space(ftk_target_weights(e, ops), t) : 0;
    if (n <= e->target_floats) return FTK_OK;
    float *const space = ftk_alloc_raw(&e->host, n, sizeof *space);
    if (!space) return ftk_fail(&e->host, FTK_ERR_NOMEM, "no memory for a drafter's work space");
    ftk_release(&e->host, e->target_space);
    e->target_space = space;
    e->target_floats = n;
    return FTK_OK;
}

/* The index of the family whose files a drafter reads. */
static int family_of(const ftk_drafter_ops *ops)
{
    const char *name = ops->family ? ops->family : ops->name;
    return ftk_drafter_index(name, strlen(name));
}

const ftk_weights *ftk_target_weights(const ftk_engine *e, const ftk_drafter_ops *ops)
{
    const ftk_drafterfile *d = e->files[family_of(ops)];
    return d ? &d->weights : NULL;
}

/* What a drafter is told before there is a session. */
static ftk_target sizes_of(const ftk_model *m)
{
    return (ftk_target){.n_vocab = m->hp.n_vocab, .n_embd = m->hp.n_embd, .n_layer = m->hp.n_layer};
}

ftk_err ftk_target_low_bits(ftk_engine *e, const ftk_drafter_ops *ops)
{
    char why[400];
    const ftk_target sizes = sizes_of(e->model);
    const bool wanted =
        !e->has_low && ops->policy && ops->policy(ftk_target_weights(e, ops), &sizes).partial;
    const uint64_t bytes = wanted ? ftk_lowbit_size(e->model) : 0;
    if (bytes == 0) return FTK_OK;
    const unsigned long long mib = (bytes + (1 << 20) - 1) >> 20;
    snprintf(why, sizeof why, "there is no memory for the layers in few bits, %llu MiB", mib);
    const ftk_err err = e->device ? e->device->ops->add_low_bits(e->device, why, sizeof why)
                                  : ftk_lowbit_open(&e->low, e->model);
    e->has_low = err == FTK_OK;
    e->forward.low = e->low.layers;
    if (err == FTK_OK)
        ftk_log(&e->host, FTK_LOG_INFO,
                "drafter %s: a copy of the layers in few bits takes %llu MiB", ops->name, mib);
    else
        ftk_log(&e->host, FTK_LOG_ERROR, "drafter %s: %s", ops->name, why);
    return err;
}

/* What products with the drafter's matrices need, or on a device the matrices themselves, or a
 * policy. */
static ftk_err take_room(ftk_engine *e, const ftk_drafter_ops *ops, const ftk_drafterfile *d,
                         const ftk_host *host)
{
    char why[400];
    if (!e->device) return ftk_target_room(e, d->widest);
    const ftk_device_ops *const on = e->device->ops;
    const ftk_target sizes = sizes_of(e->model);
    ftk_err err;
    if (ops->policy) {
        const ftk_policy p = ops->policy(&d->weights, &sizes);
        err = on->add_policy(e->device, &p, why, sizeof why);
    } else {
        err = on->add_weights(e->device, &d->weights, why, sizeof why);
    }
    return err == FTK_OK ? err : ftk_fail(host, err, "%s: %s", d->path, why);
}

static ftk_err add_opened(ftk_engine *e, ftk_drafterfile *d, ftk_str family, const ftk_host *host)
{
    char shown[64];
    const int i = ftk_drafter_index(family.p, family.n);
    if (!ftk_drafter_reads_files(i))
        return ftk_fail(host, FTK_ERR_UNSUPPORTED,
                        "%s: family \"%s\" is not one this build has a drafter for", d->path,
                        ftk_gguf_show(shown, sizeof shown, family));
    const ftk_drafter_ops *ops = ftk_drafter_list[i];
    if (e->files[i])
        return ftk_fail(host, FTK_ERR_INVALID, "%s: there is a drafter %s already: %s", d->path,
                        ops->name, e->files[i]->path);
    if (e->forward.below && ops->policy)
        return ftk_fail(host, FTK_ERR_UNSUPPORTED,
                        "%s: drafter %s leaves layers out, which a model in stages cannot", d->path,
                        ops->name);
    const ftk_target sizes = sizes_of(e->model);
    ftk_err err = ops->check(&d->weights, &sizes, host);
    if (err == FTK_OK && ops->wants & FTK_WANT_STATES)
        err = ftk_forward_keep(&e->forward, ops->state_layer(&d->weights));
    if (err == FTK_OK) err = take_room(e, ops, d, host);
    if (err == FTK_OK) e->files[i] = d;
    return err;
}

static const ftk_drafter_ops *const of_kind[] = {
    [FTK_HEAD_EAGLE3] = &ftk_drafter_eagle3,
    [FTK_HEAD_MEDUSA] = &ftk_drafter_medusa,
    [FTK_HEAD_DFLASH] = &ftk_drafter_dflash,
    [FTK_HEAD_DSPARK] = &ftk_drafter_dspark,
};

/* The longest row that its products outside of passes read. */
static int widest_of(const ftk_headfile *head)
{
    const int d = head->kind == FTK_HEAD_MEDUSA ? head->target_width : head->markov2.n_in;
    return head->fc.n_in > d ? head->fc.n_in : d;
}

/* It runs on the CPU, whatever runs the passes that leave its states. */
static ftk_err add_head(ftk_engine *e, const char *path, const ftk_drafter_config *cfg,
                        const ftk_host *host)
{
    ftk_net *net;
    ftk_err err = ftk_net_open_head(&net, path, &e->forward, cfg ? cfg->layers : NULL,
                                    cfg ? (int)cfg->n_layers : 0, e->kv_slots, e->forward.kv_type,
                                    &e->host); /* which outlives it */
    if (err != FTK_OK) return err;
    const ftk_drafter_ops *const ops = of_kind[net->head->kind];
    const int i = family_of(ops);
    if (e->nets[i])
        err = ftk_fail(host, FTK_ERR_INVALID, "%s: there is a drafter %s already: %s", path,
                       ops->name, e->nets[i]->head->source.path);
    if (err == FTK_OK) err = ftk_target_room(e, widest_of(net->head));
    if (err != FTK_OK) {
        ftk_net_free(net);
        return err;
    }
    ftk_log(host, FTK_LOG_INFO, "%s: %s: %s", path, ops->name, net->head->about);
    e->nets[i] = net;
    net->clock = e->clock;
    return FTK_OK;
}

ftk_err ftk_target_add_file(ftk_engine *e, const char *path, const ftk_drafter_config *cfg,
                            const ftk_host *host)
{
    if (ftk_source_is(path)) return add_head(e, path, cfg, host);
    if (cfg && cfg->n_layers > 0)
        return ftk_fail(host, FTK_ERR_INVALID, "%s: has no layers to be given: leave them out",
                        path);
    ftk_drafterfile *d = ftk_alloc(host, 1, sizeof *d);
    if (!d) return ftk_fail(host, FTK_ERR_NOMEM, "%s: no memory for a drafter", path);
    ftk_str family;
    ftk_err err = ftk_drafterfile_open(d, path, e->model, !e->device, &family, host);
    if (err == FTK_OK) {
        err = add_opened(e, d, family, host);
        if (err != FTK_OK) ftk_drafterfile_close(d, host);
    }
    if (err != FTK_OK) ftk_release(host, d);
    return err;
}

void ftk_drafter_config_fill(ftk_drafter_config *cfg, size_t size)
{
    ftk_config_give(cfg, size, &(ftk_drafter_config){0}, sizeof *cfg);
}

ftk_err ftk_engine_add_drafter(ftk_engine *e, const char *path)
{
    return ftk_engine_add_drafter_as(e, path, NULL);
}

ftk_err ftk_engine_add_drafter_as(ftk_engine *e, const char *path, const ftk_drafter_config *cfg)
{
    if (!path) return ftk_fail(&e->host, FTK_ERR_INVALID, "no path of a drafter's file was given");
    ftk_drafter_config own = {0};
    const ftk_err taken =
        cfg ? ftk_config_take(&own, sizeof own, cfg, "drafter", &e->host) : FTK_OK;
    if (taken != FTK_OK) return taken;
    if (own.n_layers > FTK_HEAD_TAPS || (own.n_layers > 0 && !own.layers))
        return ftk_fail(&e->host, FTK_ERR_INVALID,
                        "%zu layers: give 1 to %d, or 0 for the file's own", own.n_layers,
                        FTK_HEAD_TAPS);
    const ftk_floats floats = ftk_floats_enter();
    return ftk_floats_after(&floats, ftk_target_add_file(e, path, &own, &e->host));
}

bool ftk_target_has(const ftk_engine *e, const ftk_drafter_ops *ops)
{
    const int i = family_of(ops);
    if (ops->wants & FTK_WANT_MODEL && !e->nets[i]) return false;
    return !ops->check || e->files[i];
}

bool ftk_engine_has_drafter(const ftk_engine *e, const char *drafter)
{
    if (!drafter) return false;
    if (strcmp(drafter, "none") == 0 || strcmp(drafter, "auto") == 0) return true;
    const int i = ftk_drafter_index(drafter, strlen(drafter));
    return i >= 0 && ftk_target_has(e, ftk_drafter_list[i]);
}

const char *ftk_engine_drafter_about(const ftk_engine *e, const char *drafter)
{
    const int i = drafter ? ftk_drafter_index(drafter, strlen(drafter)) : -1;
    return i >= 0 && e->nets[i] && e->nets[i]->head ? e->nets[i]->head->about : NULL;
}

/* ---- draft models */

static ftk_err add_draft_model(ftk_engine *e, const char *path)
{
    const int i = family_of(&ftk_drafter_draft_model);
    if (e->nets[i])
        return ftk_fail(&e->host, FTK_ERR_INVALID, "%s: there is a draft model already", path);
    const ftk_err err = ftk_net_open_small(&e->nets[i], path, e->model, &e->forward.team,
                                           e->kv_slots, e->forward.kv_type);
    if (err == FTK_OK) e->nets[i]->clock = e->clock;
    return err;
}

ftk_err ftk_engine_add_draft_model(ftk_engine *e, const char *path)
{
    if (!path) return ftk_fail(&e->host, FTK_ERR_INVALID, "no path of a draft model was given");
    const ftk_floats floats = ftk_floats_enter();
    return ftk_floats_after(&floats, add_draft_model(e, path));
}
