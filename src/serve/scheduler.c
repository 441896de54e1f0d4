/* SPDX-License-Identifier: Apache-2.0
 * The scheduler: who runs, one step after the other for all of them together, and what becomes of
 * what they say. It alone touches the engine. */
#include "serve/scheduler.h"

#include <time.h>

/* Bytes that may wait for a client before its sessions rest; how long the scheduler sleeps while
 * all rest. */
enum { MOST_UNSENT = 64 << 10, NAP_MS = 100 };

/* ---- who runs */

static bool is_blocked(serve_scheduler *d, const serve_choice *c)
{
    const serve_request *const r = c->request;
    pthread_mutex_lock(&d->s->lock);
    const bool blocked = r->stream && r->out.n - r->sent > MOST_UNSENT;
    pthread_mutex_unlock(&d->s->lock);
    return blocked;
}

static void push_out(serve_scheduler *d, serve_choice *c)
{
    serve_pool_end(&d->pool, c, false);
    serve_wait_in_line(d, c);
    pthread_mutex_lock(&d->s->lock);
    d->s->figures.preempted++;
    pthread_mutex_unlock(&d->s->lock);
}

/* One whose client does not read, or else, if anyone may go, the youngest. */
static bool push_out_one(serve_scheduler *d, bool anyone)
{
    size_t i = d->pool.n_running;
    while (i > 0 && !is_blocked(d, d->pool.running[i - 1])) i--;
    if (i == 0 && anyone && d->pool.n_running > 1) i = d->pool.n_running;
    if (i > 0) push_out(d, d->pool.running[i - 1]);
    return i > 0;
}

/* Further answers to a prompt wait until the first one has read it, and share that. */
static bool waits_for_first(const serve_choice *c)
{
    const serve_choice *const first = c - c->index % c->request->n;
    return c != first && !first->prompt_known;
}

static bool start(serve_scheduler *d, size_t at)
{
    serve_choice *const c = d->waiting[at];
    bool fits = false;
    if (d->pool.n_running == d->pool.most && !push_out_one(d, false)) return false;
    cli_hush(d->why, sizeof d->why);
    ftk_err err = serve_choice_begin(d->s, c);
    do {
        if (err == FTK_OK) err = serve_pool_start(&d->pool, c, &fits);
    } while (err == FTK_OK && !fits && push_out_one(d, false));
    cli_hush(NULL, 0);
    if (err != FTK_OK) {
        serve_fail_request(d, c->request, err);
        return true;
    }
    if (!fits) return false;
    for (at = 0; d->waiting[at] != c;) at++;
    serve_leave_line(d, at);
    pthread_mutex_lock(&d->s->lock);
    serve_mark_started(d, c->request);
    pthread_mutex_unlock(&d->s->lock);
    return true;
}

/* The first in line first; who does not fit keeps those behind waiting. */
static void admit(serve_scheduler *d)
{
    for (size_t i = 0; i < d->n_waiting;) {
        if (waits_for_first(d->waiting[i]) || is_blocked(d, d->waiting[i])) {
            i++;
            continue;
        }
        if (!start(d, i)) break;
        i = 0;
    }
}

/* ---- what a step brought */

static void count(serve_figures *f, const serve_choice *c, const ftk_result *r, size_t n)
{
    f->generated += n;
    if (r->drafted > 0) {
        f->drafts++;
        f->drafted += (uint64_t)r->drafted;
        f->accepted += (uint64_t)r->accepted;
        for (int i = 0; i < r->accepted && i < FTK_MAX_NODES; i++) f->accepted_at[i]++;
    }
    if (!c->finish) return;
    const size_t came = c->n_tokens - c->prompt->n;
    if (came > 1) serve_histogram_add(&f->per_token, (c->last - c->first) / (double)(came - 1));
    *(c->finish[0] == 'l' ? &f->cut : &f->stopped) += 1;
}

/* Under the lock. */
static void send_piece(serve_scheduler *d, serve_choice *c, bool first)
{
    serve_request *const r = c->request;
    if (first) {
        serve_histogram_add(&d->s->figures.first_token, c->last - r->start);
        if (c->index % r->n == 0) { /* a prompt counts once */
            d->s->figures.prompt_tokens += c->prompt->n;
            d->s->figures.cached += c->cached;
        }
    }
    if (!r->stream) return;
    const size_t before = r->out.n;
    serve_reply_piece(d->s, c, &r->out);
    if (c->finish) serve_reply_end(d->s, c, &r->out);
    if (r->out.n == before) return; /* a control token, or a part of a character or of a stop */
    r->ready = true;
    serve_http_resume(r);
}

static void deliver(serve_scheduler *d, serve_choice *c, const ftk_result *result)
{
    serve_request *const r = c->request;
    const size_t before = c->n_tokens;
    const ftk_err err = serve_choice_take(d->s, c, result);
    if (err != FTK_OK) {
        serve_fail_request(d, r, err);
        return;
    }
    if (c->n_tokens == before && !c->finish) return;
    const bool first = c->first == 0;
    c->last = cli_now();
    pthread_mutex_lock(&d->s->lock);
    send_piece(d, c, first);
    if (first) c->first = c->last;
    count(&d->s->figures, c, result, c->n_tokens - before);
    pthread_mutex_unlock(&d->s->lock);
    if (!c->finish) return;
    serve_pool_end(&d->pool, c, true);
    if (++r->n_done == r->n_choices) serve_end_request(d, r);
}

/* Where the cache is too small for one alone, its answer ends there, as at the end of the
 * context. */
static bool take_result(serve_scheduler *d, serve_choice *c, ftk_result *result)
{
    if (!c->session) return false; /* its request has failed meanwhile */
    if (result->err == FTK_ERR_NO_ROOM) return true;
    if (result->err == FTK_ERR_CONTEXT) {
        result->err = FTK_OK;
        result->finish = FTK_FINISH_CONTEXT;
    }
    if (result->err != FTK_OK)
        serve_fail_request(d, c->request, result->err);
    else
        deliver(d, c, result);
    return false;
}

static void step(serve_scheduler *d, size_t n)
{
    bool short_of_room = false;
    serve_pool_make_room(&d->pool);
    cli_hush(d->why, sizeof d->why);
    ftk_step(d->sessions, n, d->results);
    cli_hush(NULL, 0);
    /* a request that fails takes its choices along, and the memory they stand in: hold them all */
    for (size_t i = 0; i < n; i++) atomic_fetch_add(&d->stepped[i]->request->refs, 1);
    for (size_t i = 0; i < n; i++) short_of_room |= take_result(d, d->stepped[i], &d->results[i]);
    for (size_t i = 0; i < n; i++) serve_request_unref(d->stepped[i]->request);
    if (short_of_room && !serve_pool_drop(&d->pool)) push_out_one(d, true);
}

static size_t pick(serve_scheduler *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->pool.n_running; i++) {
        if (is_blocked(d, d->pool.running[i])) continue;
        d->stepped[n] = d->pool.running[i];
        d->sessions[n++] = d->pool.running[i]->session;
    }
    return n;
}

/* ---- the loop */

static void show_figures(serve_scheduler *d)
{
    ftk_engine_stats e;
    ftk_engine_get_stats(d->s->w.engine, &e);
    serve_figures *const f = &d->s->figures;
    pthread_mutex_lock(&d->s->lock);
    f->running = d->pool.n_running;
    f->waiting = d->n_waiting;
    f->sessions = e.sessions;
    f->kv_usage = 1 - (double)e.kv_pages_free / (double)e.kv_pages;
    pthread_mutex_unlock(&d->s->lock);
}

static void rest(serve_scheduler *d)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += NAP_MS * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_nsec -= 1000000000L;
        t.tv_sec++;
    }
    if (d->n_requests > 0) /* all of their clients are slow; one may leave */
        pthread_cond_timedwait(&d->s->news, &d->s->lock, &t);
    else
        pthread_cond_wait(&d->s->news, &d->s->lock);
}

void *serve_schedule(void *server)
{
    serve_server *const s = server;
    serve_scheduler d = {.s = s};
    const size_t most = (size_t)s->o->parallel;
    serve_pool_open(&d.pool, s, most);
    d.sessions = cli_array(NULL, most, sizeof(ftk_session *));
    d.stepped = cli_array(NULL, most, sizeof(serve_choice *));
    d.results = cli_array(NULL, most, sizeof *d.results);
    for (size_t n = 0;;) {
        pthread_mutex_lock(&s->lock);
        if (n == 0 && !s->incoming && !s->stop) rest(&d);
        serve_take_incoming(&d);
        const bool stop = s->stop;
        pthread_mutex_unlock(&s->lock);
        if (stop) break;
        serve_drop_gone(&d);
        admit(&d);
        n = pick(&d);
        show_figures(&d); /* a step may take long, and its tokens are sent before it is over */
        if (n > 0) step(&d, n);
        show_figures(&d);
    }
    while (d.n_requests > 0) serve_turn_away(&d, d.requests[0]);
    serve_pool_close(&d.pool);
    free(d.waiting);
    free(d.requests);
    free(d.sessions);
    free(d.stepped);
    free(d.results);
    return NULL;
}
