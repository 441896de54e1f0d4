/* SPDX-License-Identifier: Apache-2.0
 * Sessions: opening, prompts, truncation, forks. The loop itself is in step.c. */
#include "session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void ftk_session_config_init(ftk_session_config *cfg)
{
    *cfg = (ftk_session_config){
        .size = sizeof *cfg,
        .drafter = "auto",
        .verifier = "exact",
        .budget = -1,
        .sampling = {.top_p = 1, .repeat_penalty = 1, .repeat_last = 64},
    };
}

/* ---- names */

const char *const *ftk_drafters(void)
{
    static const char *const names[] = {"auto", "none", "jacobi", "lookup", "s4c", "firp", NULL};
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

/* False for an unknown name; *ops is NULL for "none". */
static bool find_drafter(const char *name, const ftk_drafter_ops **ops)
{
    *ops = NULL;
    if (strcmp(name, "none") == 0) return true;
    if (strcmp(name, "auto") ==
        0) /* TR-Jacobi brings retrieval along, and the cost model its size */
        name = "jacobi";
    const int i = ftk_drafter_index(name, strlen(name));
    if (i >= 0) *ops = ftk_drafter_list[i];
    return i >= 0;
}

/* ---- life */

static ftk_err check_sampling(const ftk_sampling *p, const ftk_host *h)
{
    if (!(p->temperature >= 0) || !isfinite(p->temperature))
        return ftk_fail(h, FTK_ERR_INVALID, "temperature %g: give 0 or more", p->temperature);
    if (p->top_k < 0)
        return ftk_fail(h, FTK_ERR_INVALID, "top-k %d: give 1 or more, or 0 for off", p->top_k);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return ftk_fail(h, FTK_ERR_INVALID, "top-p %g: give more than 0 and at most 1", p->top_p);
    if (!(p->min_p >= 0 && p->min_p < 1))
        return ftk_fail(h, FTK_ERR_INVALID, "min-p %g: give 0 or more and less than 1", p->min_p);
    if (!(p->repeat_penalty > 0) || !isfinite(p->repeat_penalty))
        return ftk_fail(h, FTK_ERR_INVALID, "repeat penalty %g: give more than 0",
                        p->repeat_penalty);
    if (p->repeat_last < 0)
        return ftk_fail(h, FTK_ERR_INVALID, "repeat range %d: give 0 or more", p->repeat_last);
    return FTK_OK;
}

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
    if (cfg->shape != FTK_TREE_FITTED && cfg->shape != FTK_TREE_PAPER)
        return ftk_fail(h, FTK_ERR_INVALID, "tree shape %d is unknown", (int)cfg->shape);
    return check_sampling(&cfg->sampling, h);
}

/* What the engine keeps for a drafter; NULL for one of the tests. */
static ftk_learned *learned_by(const ftk_session *s, const ftk_drafter_ops *ops)
{
    for (int i = 0; ftk_drafter_list[i]; i++)
        if (ftk_drafter_list[i] == ops) return &s->engine->learned[i];
    return NULL;
}

static void recall(ftk_session *s)
{
    const ftk_drafter_ops *ops = s->drafter;
    const ftk_learned *l = learned_by(s, ops);
    const bool known = l && l->known;
    s->idle = known ? l->idle : 0;
    s->draft_seconds = known ? l->draft_seconds : 0;
    s->credit = known ? l->credit : FTK_CREDIT;
    if (known && l->rates)
        memcpy((char *)s->drafter_state + ops->rates_at, l->rates, ops->rates_size);
}

static void remember(const ftk_session *s)
{
    const ftk_drafter_ops *ops = s->drafter;
    ftk_learned *l = learned_by(s, ops);
    if (!l || s->stats.steps == 0) return;
    l->known = true;
    l->idle = s->idle;
    l->draft_seconds = s->draft_seconds;
    l->credit = s->credit < FTK_CREDIT_KEPT ? s->credit : FTK_CREDIT_KEPT;
    if (l->rates) memcpy(l->rates, (const char *)s->drafter_state + ops->rates_at, ops->rates_size);
}

/* The file of a family that is trained. */
static ftk_err find_weights(const ftk_session *s, const ftk_drafter_ops *ops, const ftk_weights **w)
{
    *w = NULL;
    if (!ops->check) return FTK_OK;
    const ftk_drafterfile *d = s->engine->files[ftk_drafter_index(ops->name, strlen(ops->name))];
    if (!d)
        return ftk_fail(&s->engine->host, FTK_ERR_INVALID,
                        "drafter %s needs weights trained for this model: give its file "
                        "(--drafter-file), or train one, see drafters/train/README.md",
                        ops->name);
    *w = &d->weights;
    return FTK_OK;
}

static ftk_err open_drafter(const ftk_session *s, const ftk_drafter_ops *ops, void **state)
{
    *state = NULL;
    if (!ops) return FTK_OK;
    const ftk_host *h = &s->engine->host;
    const ftk_weights *weights;
    ftk_err err = find_weights(s, ops, &weights);
    if (err != FTK_OK) return err;
    const ftk_drafter_env env = {
        .host = h,
        .n_vocab = s->engine->model->hp.n_vocab,
        .n_ctx = s->n_ctx,
        .shape = s->cfg.shape,
        .seed = s->cfg.sampling.seed,
        .test = s->test,
        .target = &s->target,
        .weights = weights,
    };
    void *p = ftk_alloc(h, 1, ops->state_size);
    err = p ? ops->init(p, &env) : FTK_ERR_NOMEM;
    if (err != FTK_OK) {
        if (p) ops->free(p, h);
        ftk_release(h, p);
        return ftk_fail(h, err, "no memory for drafter %s", ops->name);
    }
    ops->reset(p, s->tokens, s->n_tokens);
    *state = p;
    return FTK_OK;
}

static void close_drafter(ftk_session *s)
{
    if (s->drafter_state) {
        remember(s);
        s->drafter->free(s->drafter_state, &s->engine->host);
    }
    ftk_release(&s->engine->host, s->drafter_state);
    s->drafter_state = NULL;
    s->drafter = NULL;
}

static ftk_err open_parts(ftk_session *s, const ftk_drafter_ops *drafter)
{
    const ftk_host *h = &s->engine->host;
    const int n_vocab = s->engine->model->hp.n_vocab;
    s->tokens = ftk_alloc_raw(h, (size_t)s->n_ctx, sizeof *s->tokens);
    s->sampler = (ftk_sampler){.cfg = s->cfg.sampling, .n_vocab = n_vocab};
    s->sampler.logits = ftk_alloc_raw(h, (size_t)n_vocab, sizeof *s->sampler.logits);
    s->sampler.order = ftk_alloc_raw(h, (size_t)n_vocab, sizeof *s->sampler.order);
    if (!s->tokens || !s->sampler.logits || !s->sampler.order)
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory for a session of %d tokens", s->n_ctx);
    ftk_err err = ftk_kv_seq_open(&s->kv, &s->engine->pool, s->n_ctx);
    if (err == FTK_OK) err = open_drafter(s, drafter, &s->drafter_state);
    if (err == FTK_OK) {
        s->drafter = drafter;
        recall(s);
    }
    return err;
}

ftk_err ftk_session_open_with(ftk_session **out, ftk_engine *e, const ftk_session_config *cfg,
                              const ftk_drafter_ops *drafter, void *test)
{
    *out = NULL;
    if (!e) return FTK_ERR_INVALID;
    if (!cfg || cfg->size != sizeof *cfg)
        return ftk_fail(&e->host, FTK_ERR_INVALID,
                        "session config was not made by ftk_session_config_init()");
    ftk_err err = check(cfg, e);
    if (err != FTK_OK) return err;
    ftk_session *s = ftk_alloc(&e->host, 1, sizeof *s);
    if (!s) return ftk_fail(&e->host, FTK_ERR_NOMEM, "no memory for a session");
    s->engine = e;
    s->cfg = *cfg;
    s->n_ctx = cfg->n_ctx ? cfg->n_ctx : e->kv_slots;
    s->limit = SIZE_MAX;
    s->reach = FTK_REACH;
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

static ftk_err unknown_drafter(const ftk_engine *e, const char *name)
{
    char list[128] = "";
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
    if (!e || !cfg || cfg->size != sizeof *cfg)
        return ftk_session_open_with(out, e, cfg, NULL, NULL); /* says what is wrong */
    const ftk_drafter_ops *ops;
    if (!cfg->drafter || !find_drafter(cfg->drafter, &ops)) return unknown_drafter(e, cfg->drafter);
    return ftk_session_open_with(out, e, cfg, ops, NULL);
}

ftk_err ftk_session_fork(ftk_session **out, ftk_session *s)
{
    if (s->drafter_state) remember(s); /* the copy begins with it */
    ftk_err err = ftk_session_open_with(out, s->engine, &s->cfg, s->drafter, s->test);
    if (err != FTK_OK) return err;
    ftk_session *copy = *out;
    memcpy(copy->tokens, s->tokens, s->n_tokens * sizeof *s->tokens);
    copy->n_tokens = s->n_tokens;
    copy->limit = s->limit;
    ftk_kv_fork(&copy->kv, &s->kv);
    if (copy->drafter) copy->drafter->reset(copy->drafter_state, copy->tokens, copy->n_tokens);
    return FTK_OK;
}

void ftk_session_free(ftk_session *s)
{
    if (!s) return;
    const ftk_host h = s->engine->host;
    close_drafter(s);
    ftk_kv_seq_close(&s->kv);
    ftk_release(&h, s->sampler.order);
    ftk_release(&h, s->sampler.logits);
    ftk_release(&h, s->tokens);
    ftk_release(&h, s);
}

/* ---- tokens */

ftk_err ftk_session_append(ftk_session *s, const int32_t *tokens, size_t n)
{
    const ftk_host *h = &s->engine->host;
    const int n_vocab = s->engine->model->hp.n_vocab;
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= n_vocab)
            return ftk_fail(h, FTK_ERR_INVALID, "token %d is not in the vocabulary of %d",
                            tokens[i], n_vocab);
    if (n > (size_t)s->n_ctx - s->n_tokens)
        return ftk_fail(h, FTK_ERR_CONTEXT,
                        "%zu tokens do not fit: the context of %d holds %zu already", n, s->n_ctx,
                        s->n_tokens);
    if (n > 0) memcpy(s->tokens + s->n_tokens, tokens, n * sizeof *tokens);
    s->n_tokens += n;
    return FTK_OK;
}

ftk_err ftk_session_truncate(ftk_session *s, size_t n)
{
    if (n > s->n_tokens)
        return ftk_fail(&s->engine->host, FTK_ERR_INVALID,
                        "cannot keep %zu tokens: the session has %zu", n, s->n_tokens);
    s->n_tokens = n;
    if (n > 0 && (size_t)s->kv.len >= n) /* the last token is never cached: it is the next root */
        ftk_kv_truncate(&s->kv, (int)n - 1);
    if (n == 0) ftk_kv_truncate(&s->kv, 0);
    if (s->drafter) s->drafter->reset(s->drafter_state, s->tokens, n);
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

ftk_err ftk_session_set_drafter(ftk_session *s, const char *drafter)
{
    const ftk_drafter_ops *ops;
    if (!drafter || !find_drafter(drafter, &ops)) return unknown_drafter(s->engine, drafter);
    void *state;
    const ftk_err err = open_drafter(s, ops, &state);
    if (err != FTK_OK) return err;
    close_drafter(s);
    s->drafter = ops;
    s->drafter_state = state;
    recall(s);
    return FTK_OK;
}

void ftk_session_get_stats(const ftk_session *s, ftk_stats *stats)
{
    *stats = s->stats;
}
