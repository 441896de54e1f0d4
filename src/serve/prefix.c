/* SPDX-License-Identifier: Apache-2.0
 * Sessions for requests: what another one has read of the same tokens is not read again. */
#include <string.h>

#include "serve/pool.h"

void serve_pool_open(serve_pool *p, const serve_server *s, size_t most)
{
    *p = (serve_pool){.s = s, .most = most};
    p->running = cli_array(NULL, most, sizeof(serve_choice *));
    p->idle = cli_array(NULL, most, sizeof *p->idle);
}

void serve_pool_close(serve_pool *p)
{
    while (p->n_running > 0) serve_pool_end(p, p->running[0], false);
    while (serve_pool_drop(p)) continue;
    free(p->running);
    free(p->idle);
}

/* Whose tokens a new one may go on from. */
typedef struct donor {
    ftk_session *session; /* NULL: none */
    bool idle;
    size_t at;     /* in idle */
    size_t common; /* tokens */
} donor;

static void consider(donor *best, const serve_choice *c, ftk_session *session, bool idle, size_t at)
{
    size_t n, same = 0;
    const int32_t *tokens = ftk_session_tokens(session, &n);
    const size_t most = n < c->n_tokens ? n : c->n_tokens;
    while (same < most && tokens[same] == c->tokens[same]) same++;
    if (same <= best->common) return;
    *best = (donor){session, idle, at, same};
}

/* Log-probabilities of a prompt are found while it is read, so those who want them read all of
 * it. */
static bool reads_all(const serve_choice *c)
{
    return c->request->echo && c->request->n_best >= 0 && !c->prompt_known;
}

static donor find(const serve_pool *p, const serve_choice *c)
{
    donor best = {0};
    if (reads_all(c)) return best;
    for (size_t i = 0; i < p->n_idle; i++)
        if (p->idle[i].ignore_eos == c->request->ignore_eos)
            consider(&best, c, p->idle[i].session, true, i);
    for (size_t i = 0; i < p->n_running; i++)
        if (p->running[i]->request->ignore_eos == c->request->ignore_eos)
            consider(&best, c, p->running[i]->session, false, i);
    return best;
}

static void remove_idle(serve_pool *p, size_t at)
{
    p->n_idle--;
    memmove(p->idle + at, p->idle + at + 1, (p->n_idle - at) * sizeof *p->idle);
}

/* Gives up the longest unused one but `spared`. */
static bool drop_but(serve_pool *p, const ftk_session *spared)
{
    for (size_t i = 0; i < p->n_idle; i++) {
        if (p->idle[i].session == spared) continue;
        ftk_session_free(p->idle[i].session);
        remove_idle(p, i);
        return true;
    }
    return false;
}

bool serve_pool_drop(serve_pool *p)
{
    return drop_but(p, NULL);
}

/* A page for each session that runs is left free, so that a new one does not push out another at
 * once. */
static bool has_room(const serve_pool *p, size_t n_tokens, size_t n_others)
{
    ftk_engine_stats e;
    ftk_engine_get_stats(p->s->w.engine, &e);
    const uint64_t need = n_tokens / e.page_tokens + 1 + n_others;
    return e.kv_pages_free >= need;
}

void serve_pool_make_room(serve_pool *p)
{
    enum { STEP = 128 }; /* what one step may take */
    while (p->n_idle > 0 && !has_room(p, STEP * p->n_running, p->n_running)) serve_pool_drop(p);
}

static bool find_room(serve_pool *p, const serve_choice *c, donor *d)
{
    for (;;) {
        *d = find(p, c);
        if (has_room(p, c->n_tokens - d->common, p->n_running)) return true;
        if (!drop_but(p, d->session) && !serve_pool_drop(p)) break;
    }
    return p->n_running == 0;
}

static ftk_err open_session(const serve_pool *p, const serve_choice *c, ftk_session **out)
{
    const cli_options *const o = p->s->o;
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = o->drafter;
    cfg.budget = (int)o->budget;
    cfg.n_ctx = (int)p->s->ctx;
    cfg.ignore_end = c->request->ignore_eos;
    cfg.sampling = c->request->sampling;
    return ftk_session_open(out, p->s->w.engine, &cfg);
}

/* An idle session is taken over if more of it is shared than would be cut, else forked, so that
 * conversations which begin alike do not push each other out. */
static ftk_err get_session(serve_pool *p, const serve_choice *c, const donor *d, ftk_session **out)
{
    if (!d->session) return open_session(p, c, out);
    size_t n;
    ftk_session_tokens(d->session, &n);
    if (!d->idle || n - d->common > d->common) return ftk_session_fork(out, d->session, NULL);
    *out = d->session;
    remove_idle(p, d->at);
    return FTK_OK;
}

static ftk_err prepare(serve_choice *c, ftk_session *session, size_t common)
{
    const serve_request *const r = c->request;
    ftk_sampling sampling = r->sampling;
    sampling.seed = c->seed;
    const size_t generated = c->n_tokens - c->prompt->n;
    ftk_session_limit(session, r->max_tokens == SIZE_MAX ? SIZE_MAX : r->max_tokens - generated);
    ftk_err err = ftk_session_truncate(session, common);
    if (err == FTK_OK) err = ftk_session_set_sampling(session, &sampling);
    if (err == FTK_OK) err = ftk_session_set_bias(session, r->biases, r->n_biases);
    if (err == FTK_OK) err = ftk_session_set_logprobs(session, r->n_best, reads_all(c));
    if (err == FTK_OK)
        err = ftk_session_set_mask(session, r->format ? grammar_allow : NULL, &c->walk);
    const bool foresees = r->format || r->n_predicted > 0;
    if (err == FTK_OK) err = ftk_session_set_forecast(session, foresees ? serve_foresee : NULL, c);
    if (err == FTK_OK) err = ftk_session_append(session, c->tokens + common, c->n_tokens - common);
    if (err == FTK_OK) err = ftk_session_set_prompt(session, c->prompt->n);
    return err;
}

ftk_err serve_pool_start(serve_pool *p, serve_choice *c, bool *fits)
{
    donor d;
    *fits = p->n_running < p->most && find_room(p, c, &d);
    if (!*fits) return FTK_OK;
    ftk_session *session = NULL;
    ftk_err err = get_session(p, c, &d, &session);
    if (err == FTK_OK) err = prepare(c, session, d.common);
    if (err != FTK_OK) {
        ftk_session_free(session);
        return err;
    }
    ftk_stats stats;
    ftk_session_get_stats(session, &stats);
    c->read_before = stats.prompt;
    c->session = session;
    size_t at = p->n_running++;
    for (; at > 0 && p->running[at - 1]->order > c->order; at--)
        p->running[at] = p->running[at - 1];
    p->running[at] = c;
    return FTK_OK;
}

void serve_pool_end(serve_pool *p, serve_choice *c, bool keep)
{
    size_t at = 0;
    while (p->running[at] != c) at++;
    p->n_running--;
    memmove(p->running + at, p->running + at + 1, (p->n_running - at) * sizeof *p->running);
    if (keep) {
        ftk_session_set_mask(c->session, NULL, NULL);
        ftk_session_set_forecast(c->session, NULL, NULL);
        if (p->n_idle == p->most) serve_pool_drop(p);
        p->idle[p->n_idle++] = (serve_idle){c->session, c->request->ignore_eos};
    } else {
        ftk_session_free(c->session);
    }
    c->session = NULL;
}
