/* SPDX-License-Identifier: Apache-2.0
 * Sessions: opening, prompts, truncation, forks. The loop itself is in step.c. */
#include "session.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/floats.h"
#include "base/mem.h"

static const ftk_session_config defaults = {
    .drafter = "auto",
    .verifier = "exact",
    .budget = -1,
    .sampling = {.top_p = 1, .repeat_penalty = 1, .repeat_last = 64},
};

void ftk_session_config_fill(ftk_session_config *cfg, size_t size)
{
    ftk_config_give(cfg, size, &defaults, sizeof defaults);
}

/* ---- names */

const char *const *ftk_drafters(void)
{
    static const char *const names[] = {"auto",   "none",   "jacobi", "lookup",      "recycle",
                                        "s4c",    "firp",   "dash",   "dash-direct", "draft-model",
                                        "eagle3", "dflash", "dspark", "medusa",      NULL};
    return names;
}

const char *const *ftk_verifiers(void)
{
    static const char *const names[] = {"exact", "reject", "traversal", "typical", NULL};
    return names;
}

static const ftk_verifier_ops *find_verifier(const char *name)
{
    for (int i = 0; ftk_verifier_list[i]; i++)
        if (strcmp(ftk_verifier_list[i]->name, name) == 0) return ftk_verifier_list[i];
    return NULL;
}

bool ftk_verifier_lossless(const char *verifier)
{
    const ftk_verifier_ops *v = verifier ? find_verifier(verifier) : NULL;
    return v && v->lossless;
}

bool ftk_drafter_lossless(const char *drafter)
{
    const int i = drafter ? ftk_drafter_index(drafter, strlen(drafter)) : -1;
    const bool other = drafter && (!strcmp(drafter, "none") || !strcmp(drafter, "auto"));
    return other || (i >= 0 && !ftk_drafter_list[i]->decode);
}

/* The first of the list that needs nothing which is not there, and no copy of the layers; `named`:
 * of those whose files the host has named. NULL: none. */
static const ftk_drafter_ops *first_drafter(const ftk_engine *e, bool named)
{
    for (int i = 0; ftk_drafter_list[i]; i++) {
        const ftk_drafter_ops *const ops = ftk_drafter_list[i];
        const bool has_file = e->files[i] || e->nets[i];
        if (named && (!has_file || e->was_found[i])) continue;
        if (!ops->policy && ftk_target_has(e, ops)) return ops;
    }
    return NULL;
}

/* The family of a name, of `auto` the first one; NULL: none. False: the name is unknown. */
static bool find_drafter(const ftk_engine *e, const char *name, const ftk_drafter_ops **ops)
{
    *ops = NULL;
    if (!name) return false;
    if (strcmp(name, "none") == 0) return true;
    const int named = ftk_drafter_index(name, strlen(name));
    if (named >= 0) *ops = ftk_drafter_list[named];
    if (named >= 0 || strcmp(name, "auto") != 0) return named >= 0;
    *ops = first_drafter(e, true);
    if (!*ops) *ops = first_drafter(e, false);
    return true;
}

/* ---- life */

static ftk_err check(const ftk_session_config *cfg, const ftk_engine *e)
{
    const ftk_host *h = &e->host;
    if (cfg->budget < -1 || cfg->budget >= FTK_MAX_NODES)
        return ftk_fail(h, FTK_ERR_INVALID, "budget %d: give 0 to %d, or -1 for automatic",
                        cfg->budget, FTK_MAX_NODES - 1);
    if (cfg->n_ctx < 0 || cfg->n_ctx > e->kv_slots)
        return ftk_fail(h, FTK_ERR_INVALID, "context %d: the engine's KV cache holds %d tokens",
                        cfg->n_ctx, e->kv_slots);
    if (!cfg->verifier || !find_verifier(cfg->verifier))
        return ftk_fail(
            h, FTK_ERR_INVALID,
            "verifier \"%s\" is unknown: there are exact, reject, traversal and typical",
            cfg->verifier ? cfg->verifier : "");
    if (cfg->shape != FTK_TREE_FITTED && cfg->shape != FTK_TREE_PAPER &&
        cfg->shape != FTK_TREE_CHAIN)
        return ftk_fail(h, FTK_ERR_INVALID, "tree shape %d is unknown", (int)cfg->shape);
    return ftk_sampling_check(&cfg->sampling, h);
}

/* What the engine keeps for a drafter; for one of the tests the family keeps it. Errors: NOMEM. */
static ftk_err find_learned(const ftk_session *s, ftk_family *f, void **rates)
{
    ftk_learned *l = NULL;
    for (int i = 0; ftk_drafter_list[i]; i++)
        if (ftk_drafter_list[i] == f->ops) l = &s->engine->learned[i];
    const bool listed = l != NULL;
    if (!listed) l = &f->own;
    f->measured = &l->measured;
    f->reach = FTK_REACH;
    const ftk_err err = listed ? FTK_OK : ftk_learned_open(l, f->ops, &s->host);
    *rates = l->rates;
    return err;
}

/* The file of a family that is trained. */
static ftk_err find_weights(const ftk_session *s, const ftk_drafter_ops *ops, const ftk_weights **w)
{
    *w = NULL;
    if (ops->wants & FTK_WANT_MODEL && !ftk_target_has(s->engine, ops))
        return ftk_fail(&s->host, FTK_ERR_INVALID, "drafter %s needs %s", ops->name,
                        ops == &ftk_drafter_draft_model
                            ? "a small model of the same vocabulary: give its GGUF file "
                              "(--draft-model)"
                            : "a head that was trained for this model: give its folder or file "
                              "(--drafter-file)");
    if (!ops->check) return FTK_OK;
    *w = ftk_target_weights(s->engine, ops);
    const char *left_out = *w ? NULL : ftk_target_left_out(s->engine, ops);
    if (left_out)
        return ftk_fail(&s->host, FTK_ERR_INVALID,
                        "drafter %s: there is a file, but it was left out: %s", ops->name,
                        left_out);
    if (!*w)
        return ftk_fail(&s->host, FTK_ERR_INVALID,
                        "drafter %s needs weights trained for this model: give its file "
                        "(--drafter-file), or train one, see drafters/train/README.md",
                        ops->name);
    return FTK_OK;
}

/* What a draft model reads of this session stays with it, whoever drafts. */
static ftk_err open_net(ftk_session *s, const ftk_drafter_ops *ops, const ftk_draft_model **model)
{
    *model = NULL;
    if (!(ops->wants & FTK_WANT_MODEL)) return FTK_OK;
    const int i = ftk_drafter_index(ops->name, strlen(ops->name));
    ftk_err err = FTK_OK;
    if (!s->nets[i])
        err = ftk_net_seq_open(&s->nets[i], s->engine->nets[i], s->n_ctx, &s->target, &s->host);
    if (err == FTK_OK) *model = &s->nets[i]->as_seen;
    return err;
}

static void close_family(const ftk_session *s, ftk_family *f)
{
    if (f->state) f->ops->free(f->state, &s->host);
    ftk_release(&s->host, f->state);
    ftk_release(&s->host, f->own.rates);
    *f = (ftk_family){0};
}

static bool has_retrieval(const ftk_session *s)
{
    return s->retrieval.suffix.cap > 0;
}

static bool has_successors(const ftk_session *s)
{
    return s->successors.of != NULL;
}

static ftk_err open_retrieval(ftk_session *s)
{
    if (has_retrieval(s)) return FTK_OK;
    const ftk_err err =
        ftk_retrieval_init(&s->retrieval, &s->host, s->n_ctx, &s->engine->retrieval);
    if (err != FTK_OK) ftk_retrieval_free(&s->retrieval, &s->host);
    return err;
}

static ftk_err open_successors(ftk_session *s)
{
    if (has_successors(s)) return FTK_OK;
    ftk_engine *const e = s->engine;
    const ftk_err err =
        ftk_successors_init(&s->successors, &s->host, e->model->hp.n_vocab, &e->successors);
    s->successors.clock = e->clock;
    return err;
}

/* What stays once there was a family for it, whichever drafts. */
static ftk_err open_shared(ftk_session *s, const ftk_drafter_ops *ops)
{
    const ftk_err err = open_retrieval(s);
    return err == FTK_OK && ops->wants & FTK_WANT_SUCCESSORS ? open_successors(s) : err;
}

static ftk_err open_family(ftk_session *s, const ftk_drafter_ops *ops, ftk_family *f)
{
    const ftk_host *h = &s->host;
    *f = (ftk_family){0};
    if (!ops) return FTK_OK;
    f->ops = ops;
    const ftk_weights *weights = NULL;
    const ftk_draft_model *model = NULL;
    void *rates = NULL;
    ftk_err err = open_shared(s, ops);
    if (err == FTK_OK) err = find_weights(s, ops, &weights);
    if (err == FTK_OK) err = find_learned(s, f, &rates);
    if (err == FTK_OK) err = ftk_target_low_bits(s->engine, ops);
    if (err == FTK_OK) err = ftk_target_space(s->engine, ops, &s->target);
    if (err == FTK_OK && ops->wants & (FTK_WANT_FEATURES | FTK_WANT_STATES))
        err = ftk_target_hold(s);
    if (err == FTK_OK) err = open_net(s, ops, &model);
    const ftk_drafter_env env = {
        .host = h,
        .n_vocab = s->engine->model->hp.n_vocab,
        .shape = s->cfg.shape,
        .test = s->test,
        .target = &s->target,
        .retrieval = &s->retrieval,
        .successors = ops->wants & FTK_WANT_SUCCESSORS ? &s->successors : NULL,
        .weights = weights,
        .rates = rates,
        .model = model,
        .sampling = &s->cfg.sampling,
        .draws = s->verifier->uses_draws,
    };
    if (err == FTK_OK) {
        f->state = ftk_alloc(h, 1, ops->state_size);
        err = f->state ? ops->init(f->state, &env) : FTK_ERR_NOMEM;
        if (err != FTK_OK) ftk_fail(h, err, "no memory for drafter %s", ops->name);
    }
    if (err == FTK_OK)
        ops->reset(f->state, s->tokens, s->n_tokens);
    else
        close_family(s, f);
    return err;
}

static ftk_err open_parts(ftk_session *s, const ftk_drafter_ops *drafter)
{
    const ftk_host *h = &s->host;
    const int n_vocab = s->engine->model->hp.n_vocab;
    s->tokens = ftk_alloc_raw(h, (size_t)s->n_ctx, sizeof *s->tokens);
    s->sampler = (ftk_sampler){.n_vocab = n_vocab};
    s->sampler.logits = ftk_alloc_raw(h, (size_t)n_vocab, sizeof *s->sampler.logits);
    s->sampler.order = ftk_alloc_raw(h, (size_t)n_vocab, sizeof *s->sampler.order);
    if (!s->tokens || !s->sampler.logits || !s->sampler.order)
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory for a session of %d tokens", s->n_ctx);
    ftk_err err = ftk_session_take_sampling(s, &s->cfg.sampling);
    if (err == FTK_OK) err = ftk_kv_seq_open(&s->kv, &s->engine->pool, s->n_ctx);
    return err == FTK_OK ? open_family(s, drafter, &s->family) : err;
}

static void join_list(ftk_session *s)
{
    ftk_engine *const e = s->engine;
    s->older = e->sessions;
    if (s->older) s->older->newer = s;
    e->sessions = s;
    e->n_open++;
}

static void leave_list(ftk_session *s)
{
    ftk_engine *const e = s->engine;
    if (s->older) s->older->newer = s->newer;
    *(s->newer ? &s->newer->older : &e->sessions) = s->older;
    e->n_open--;
}

static ftk_err open_session(ftk_session **out, ftk_engine *e, const ftk_session_config *cfg,
                            const ftk_drafter_ops *drafter, void *test)
{
    ftk_err err = check(cfg, e);
    if (err != FTK_OK) return err;
    ftk_session *s = ftk_alloc(&e->host, 1, sizeof *s);
    if (!s) return ftk_fail(&e->host, FTK_ERR_NOMEM, "no memory for a session");
    s->engine = e;
    s->host = ftk_meter_host(&s->meter, &e->host);
    join_list(s);
    s->cfg = *cfg;
    s->n_ctx = cfg->n_ctx ? cfg->n_ctx : e->kv_slots;
    s->limit = SIZE_MAX;
    s->logprobs.n_best = -1;
    s->exact_kv = s->room = INT_MAX;
    s->test = test;
    ftk_target_init(&s->target, s);
    s->verifier = find_verifier(cfg->verifier);
    err = open_parts(s, drafter);
    if (err != FTK_OK) {
        ftk_session_free(s);
        return err;
    }
    *out = s;
    return FTK_OK;
}

static ftk_err take_config(const ftk_engine *e, const ftk_session_config *cfg,
                           ftk_session_config *own)
{
    *own = defaults;
    return ftk_config_take(own, sizeof *own, cfg, "session", &e->host);
}

ftk_err ftk_session_open_with(ftk_session **out, ftk_engine *e, const ftk_session_config *cfg,
                              const ftk_drafter_ops *drafter, void *test)
{
    *out = NULL;
    if (!e) return FTK_ERR_INVALID;
    ftk_session_config own;
    const ftk_err err = take_config(e, cfg, &own);
    return err == FTK_OK ? open_session(out, e, &own, drafter, test) : err;
}

static void reset_family(ftk_session *s)
{
    if (has_retrieval(s)) ftk_retrieval_reset(&s->retrieval, s->tokens, s->n_tokens);
    if (s->family.ops) s->family.ops->reset(s->family.state, s->tokens, s->n_tokens);
}

static ftk_err unknown_drafter(const ftk_engine *e, const char *name)
{
    char list[256] = "";
    const char *const *names = ftk_drafters();
    for (int i = 0; names[i]; i++) {
        const char *sep = i == 0 ? "" : names[i + 1] ? ", " : " and ";
        const size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", sep, names[i]);
    }
    return ftk_fail(&e->host, FTK_ERR_INVALID, "drafter \"%s\" is unknown: there are %s",
                    name ? name : "", list);
}

ftk_err ftk_session_open(ftk_session **out, ftk_engine *e, const ftk_session_config *cfg)
{
    *out = NULL;
    if (!e) return FTK_ERR_INVALID;
    ftk_session_config own;
    ftk_err err = take_config(e, cfg, &own);
    if (err != FTK_OK) return err;
    const ftk_floats floats = ftk_floats_enter();
    const ftk_drafter_ops *ops;
    return ftk_floats_after(&floats, find_drafter(e, own.drafter, &ops)
                                         ? open_session(out, e, &own, ops, NULL)
                                         : unknown_drafter(e, own.drafter));
}

static ftk_err fork_session(ftk_session **out, ftk_session *s, const ftk_sampling *sampling)
{
    ftk_session_config cfg = s->cfg;
    if (sampling) cfg.sampling = *sampling;
    ftk_err err = open_session(out, s->engine, &cfg, s->family.ops, s->test);
    if (err != FTK_OK) return err;
    ftk_session *copy = *out;
    err = ftk_settings_copy(copy, s);
    if (err == FTK_OK) err = ftk_logprobs_copy(copy, s);
    if (err != FTK_OK) {
        ftk_session_free(copy);
        *out = NULL;
        return err;
    }
    memcpy(copy->tokens, s->tokens, s->n_tokens * sizeof *s->tokens);
    copy->n_tokens = s->n_tokens;
    copy->limit = s->limit;
    copy->exact_kv = s->exact_kv;
    ftk_kv_fork(&copy->kv, &s->kv);
    for (int i = 0; i < FTK_MAX_DRAFTERS; i++)
        if (copy->nets[i]) ftk_net_seq_fork(copy->nets[i], s->nets[i]);
    if (has_successors(copy)) ftk_successors_copy(&copy->successors, &s->successors);
    reset_family(copy);
    return FTK_OK;
}

ftk_err ftk_session_fork(ftk_session **out, ftk_session *s, const ftk_sampling *sampling)
{
    *out = NULL;
    const ftk_floats floats = ftk_floats_enter();
    return ftk_floats_after(&floats, fork_session(out, s, sampling));
}

void ftk_session_free(ftk_session *s)
{
    if (!s) return;
    const ftk_host *h = &s->host;
    leave_list(s);
    close_family(s, &s->family);
    ftk_retrieval_free(&s->retrieval, h);
    ftk_successors_free(&s->successors, h);
    for (int i = 0; i < FTK_MAX_DRAFTERS; i++) ftk_net_seq_free(s->nets[i], h);
    ftk_target_release(s);
    ftk_kv_seq_close(&s->kv);
    ftk_settings_close(s);
    ftk_logprobs_close(s);
    ftk_release(h, s->sampler.order);
    ftk_release(h, s->sampler.logits);
    ftk_release(h, s->tokens);
    ftk_release(&s->engine->host, s);
}

/* ---- tokens */

ftk_err ftk_session_append(ftk_session *s, const int32_t *tokens, size_t n)
{
    const ftk_host *h = &s->host;
    const ftk_err err = ftk_check_tokens(s->engine, tokens, n);
    if (err != FTK_OK) return err;
    if (n > (size_t)s->n_ctx - s->n_tokens)
        return ftk_fail(h, FTK_ERR_CONTEXT,
                        "%zu tokens do not fit: the context of %d holds %zu already", n, s->n_ctx,
                        s->n_tokens);
    if (n > 0) memcpy(s->tokens + s->n_tokens, tokens, n * sizeof *tokens);
    ftk_logprobs_forget(s, s->n_tokens, n);
    s->n_tokens += n;
    if (n > 0) s->sampler.n_prompt = s->n_tokens;
    s->lead = 0;
    return FTK_OK;
}

ftk_err ftk_session_truncate(ftk_session *s, size_t n)
{
    if (n > s->n_tokens)
        return ftk_fail(&s->host, FTK_ERR_INVALID, "cannot keep %zu tokens: the session has %zu", n,
                        s->n_tokens);
    s->n_tokens = n;
    if (s->sampler.n_prompt > n) s->sampler.n_prompt = n;
    s->lead = 0;
    if (n > 0 && (size_t)s->kv.len >= n) /* the last token is never cached: it is the next root */
        ftk_kv_truncate(&s->kv, (int)n - 1);
    if (n == 0) ftk_kv_truncate(&s->kv, 0);
    for (int i = 0; i < FTK_MAX_DRAFTERS; i++)
        if (s->nets[i]) ftk_net_seq_truncate(s->nets[i], n);
    if (s->kv.len <= s->exact_kv) s->exact_kv = INT_MAX;
    reset_family(s);
    return FTK_OK;
}

const int32_t *ftk_session_tokens(const ftk_session *s, size_t *n)
{
    *n = s->n_tokens;
    return s->tokens;
}

size_t ftk_session_context(const ftk_session *s)
{
    return (size_t)s->n_ctx;
}

void ftk_session_limit(ftk_session *s, size_t n)
{
    s->limit = n;
}

static ftk_err set_drafter(ftk_session *s, const char *drafter)
{
    const ftk_drafter_ops *ops;
    if (!find_drafter(s->engine, drafter, &ops)) return unknown_drafter(s->engine, drafter);
    ftk_family opened;
    const ftk_err err = open_family(s, ops, &opened);
    if (err != FTK_OK) return err;
    close_family(s, &s->family);
    s->family = opened;
    if (s->kv.len > s->exact_kv) ftk_kv_truncate(&s->kv, s->exact_kv); /* it is read again */
    s->exact_kv = INT_MAX;
    return FTK_OK;
}

ftk_err ftk_session_set_drafter(ftk_session *s, const char *drafter)
{
    const ftk_floats floats = ftk_floats_enter();
    return ftk_floats_after(&floats, set_drafter(s, drafter));
}

size_t ftk_session_drafter_stats(const ftk_session *s, ftk_drafter_stats *out, size_t most)
{
    const ftk_family *const f = &s->family;
    if (!f->ops || most == 0) return 0;
    *out = (ftk_drafter_stats){.name = f->ops->name, .steps = f->steps, .emitted = f->emitted};
    const ftk_floats floats = ftk_floats_enter();
    if (f->measured->spent > 0) out->speed = f->measured->tokens / f->measured->spent;
    ftk_floats_leave(&floats);
    return 1;
}
