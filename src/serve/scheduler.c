/* SPDX-License-Identifier: Apache-2.0
 * The scheduler: who runs, one step after the other for all of them together, and what becomes of
 * what they say. It alone touches the engine. */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "serve/pool.h"

/* Bytes that may wait for a client before its sessions rest; how long the scheduler sleeps while all rest. */
enum { MOST_UNSENT = 64 << 10, NAP_MS = 100 };

typedef struct scheduler {
    serve_server *s;
    serve_pool pool;
    serve_choice **waiting; /* in the order of their coming */
    size_t n_waiting, cap_waiting;
    serve_request **requests; /* all that are not done */
    size_t n_requests, cap_requests;
    uint64_t order;
    ftk_session **sessions; /* of a step, its choices and its results */
    serve_choice **stepped;
    ftk_result *results;
    char why[400]; /* what the library said last */
} scheduler;

bool serve_enqueue(serve_server *s, serve_request *r, serve_error *e)
{
    const size_t most = (size_t)s->o->parallel, running = s->figures.running;
    const size_t room = (size_t)s->o->queue + (running < most ? most - running : 0);
    if (s->draining)
        return serve_fail(e, 503, "unavailable_error", NULL, "the server is shutting down");
    if (s->n_queued >= room) {
        s->figures.refused++;
        return serve_fail(e, 429, "rate_limit_error", "queue_full",
                          "too many requests are waiting; try again soon");
    }
    atomic_fetch_add(&r->refs, 1);
    r->next = s->incoming;
    s->incoming = r;
    s->n_queued++;
    pthread_cond_signal(&s->news);
    return true;
}

/* ---- lists */

static void wait_in_line(scheduler *d, serve_choice *c)
{
    if (d->n_waiting == d->cap_waiting) {
        d->cap_waiting = 2 * d->cap_waiting + 64;
        d->waiting = cli_array(d->waiting, d->cap_waiting, sizeof(serve_choice *));
    }
    size_t at = d->n_waiting++;
    for (; at > 0 && d->waiting[at - 1]->order > c->order; at--)
        d->waiting[at] = d->waiting[at - 1];
    d->waiting[at] = c;
}

static void leave_line(scheduler *d, size_t at)
{
    d->n_waiting--;
    memmove(d->waiting + at, d->waiting + at + 1, (d->n_waiting - at) * sizeof *d->waiting);
}

static void add_request(scheduler *d, serve_request *r)
{
    if (d->n_requests == d->cap_requests) {
        d->cap_requests = 2 * d->cap_requests + 64;
        d->requests = cli_array(d->requests, d->cap_requests, sizeof(serve_request *));
    }
    d->requests[d->n_requests++] = r;
    for (size_t i = 0; i < r->n_choices; i++) {
        r->choices[i].order = d->order++;
        wait_in_line(d, &r->choices[i]);
    }
}

/* Under the lock. */
static void take_incoming(scheduler *d)
{
    serve_request *r = NULL, *next;
    for (serve_request *i = d->s->incoming; i; i = next) { /* turned round: the first one first */
        next = i->next;
        i->next = r;
        r = i;
    }
    d->s->incoming = NULL;
    for (; r; r = next) {
        next = r->next;
        add_request(d, r);
    }
}

/* ---- the end of a request */

/* Under the lock. */
static void mark_started(scheduler *d, serve_request *r)
{
    if (!r->started) d->s->n_queued--;
    r->started = true;
}

/* None of its choices runs or waits any longer. */
static void forget(scheduler *d, serve_request *r)
{
    for (size_t i = d->n_waiting; i-- > 0;)
        if (d->waiting[i]->request == r) leave_line(d, i);
    for (size_t i = d->pool.n_running; i-- > 0;)
        if (d->pool.running[i]->request == r) serve_pool_end(&d->pool, d->pool.running[i], true);
    for (size_t i = 0; i < d->n_requests; i++)
        if (d->requests[i] == r) d->requests[i--] = d->requests[--d->n_requests];
}

static void end_request(scheduler *d, serve_request *r)
{
    serve_server *const s = d->s;
    forget(d, r);
    pthread_mutex_lock(&s->lock);
    mark_started(d, r);
    if (r->stream && r->ready) serve_reply_close(s, r, &r->out);
    if (r->error.status)
        s->figures.failed++;
    else if (r->n_done < r->n_choices)
        s->figures.cancelled++;
    serve_histogram_add(&s->figures.whole, serve_now() - r->start);
    r->ready = r->done = true;
    serve_http_resume(r);
    pthread_mutex_unlock(&s->lock);
    serve_request_unref(r);
}

static void fail_request(scheduler *d, serve_request *r, ftk_err err)
{
    serve_server *const s = d->s;
    const char *const why = d->why[0] ? d->why : ftk_strerror(err);
    pthread_mutex_lock(&s->lock);
    serve_fail(&r->error, 500, "server_error", NULL, "%s", why);
    const bool breaks = err == FTK_ERR_DEVICE && !s->broken; /* the engine is of no more use */
    s->broken = s->broken || breaks;
    pthread_mutex_unlock(&s->lock);
    if (breaks) {
        cli_say("%s", why);
        pthread_kill(s->main_thread, SIGTERM);
    }
    end_request(d, r);
}

/* The server ends before it does. */
static void turn_away(scheduler *d, serve_request *r)
{
    pthread_mutex_lock(&d->s->lock);
    serve_fail(&r->error, 503, "unavailable_error", NULL, "the server is shutting down");
    pthread_mutex_unlock(&d->s->lock);
    end_request(d, r);
}

/* Clients that have closed their end of the connection. The lock keeps descriptors what they are. */
static void drop_gone(scheduler *d)
{
    struct pollfd polled[64];
    for (size_t from = d->n_requests; from > 0;) {
        const size_t n = from < 64 ? from : 64;
        from -= n;
        pthread_mutex_lock(&d->s->lock);
        for (size_t i = 0; i < n; i++)
            polled[i] = (struct pollfd){.fd = d->requests[from + i]->fd, .events = POLLRDHUP};
        if (poll(polled, n, 0) < 0)
            for (size_t i = 0; i < n; i++) polled[i].revents = 0;
        for (size_t i = 0; i < n; i++)
            if (!d->requests[from + i]->connection) polled[i].revents = POLLHUP;
        pthread_mutex_unlock(&d->s->lock);
        for (size_t i = n; i-- > 0;) /* the last one takes the place of one that ends */
            if (polled[i].revents & (POLLRDHUP | POLLHUP | POLLERR))
                end_request(d, d->requests[from + i]);
    }
}

/* ---- who runs */

static bool is_blocked(scheduler *d, const serve_choice *c)
{
    const serve_request *const r = c->request;
    pthread_mutex_lock(&d->s->lock);
    const bool blocked = r->stream && r->out.n - r->sent > MOST_UNSENT;
    pthread_mutex_unlock(&d->s->lock);
    return blocked;
}

static void push_out(scheduler *d, serve_choice *c)
{
    serve_pool_end(&d->pool, c, false);
    wait_in_line(d, c);
    pthread_mutex_lock(&d->s->lock);
    d->s->figures.preempted++;
    pthread_mutex_unlock(&d->s->lock);
}

/* One whose client does not read, or else, if anyone may go, the youngest. */
static bool push_out_one(scheduler *d, bool anyone)
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

static bool start(scheduler *d, size_t at)
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
        fail_request(d, c->request, err);
        return true;
    }
    if (!fits) return false;
    for (at = 0; d->waiting[at] != c;) at++;
    leave_line(d, at);
    pthread_mutex_lock(&d->s->lock);
    mark_started(d, c->request);
    pthread_mutex_unlock(&d->s->lock);
    return true;
}

/* The first in line first; who does not fit keeps those behind waiting. */
static void admit(scheduler *d)
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
    *(c->finish[0] == 's' ? &f->stopped : &f->cut) += 1;
}

/* Under the lock. */
static void send_piece(scheduler *d, serve_choice *c, bool first)
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
    serve_reply_piece(d->s, c, &r->out);
    if (c->finish) serve_reply_end(d->s, c, &r->out);
    r->ready = true;
    serve_http_resume(r);
}

static void deliver(scheduler *d, serve_choice *c, const ftk_result *result)
{
    serve_request *const r = c->request;
    const size_t before = c->n_tokens;
    const ftk_err err = serve_choice_take(c, result);
    if (err != FTK_OK) {
        fail_request(d, r, err);
        return;
    }
    if (c->n_tokens == before && !c->finish) return;
    const bool first = c->first == 0;
    c->last = serve_now();
    pthread_mutex_lock(&d->s->lock);
    send_piece(d, c, first);
    if (first) c->first = c->last;
    count(&d->s->figures, c, result, c->n_tokens - before);
    pthread_mutex_unlock(&d->s->lock);
    if (!c->finish) return;
    serve_pool_end(&d->pool, c, true);
    if (++r->n_done == r->n_choices) end_request(d, r);
}

/* Where the cache is too small for one alone, its answer ends there, as at the end of the context. */
static bool take_result(scheduler *d, serve_choice *c, ftk_result *result)
{
    if (!c->session) return false; /* its request has failed meanwhile */
    if (result->err == FTK_ERR_NO_ROOM) return true;
    if (result->err == FTK_ERR_CONTEXT) {
        result->err = FTK_OK;
        result->finish = FTK_FINISH_CONTEXT;
    }
    if (result->err != FTK_OK)
        fail_request(d, c->request, result->err);
    else
        deliver(d, c, result);
    return false;
}

static void step(scheduler *d, size_t n)
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

static size_t pick(scheduler *d)
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

static void show_figures(scheduler *d)
{
    ftk_engine_stats e;
    ftk_engine_get_stats(d->s->w.engine, &e);
    serve_figures *const f = &d->s->figures;
    f->running = d->pool.n_running;
    f->waiting = d->n_waiting;
    f->sessions = e.sessions;
    f->kv_usage = 1 - (double)e.kv_pages_free / (double)e.kv_pages;
}

static void rest(scheduler *d)
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
    scheduler d = {.s = s};
    const size_t most = (size_t)s->o->parallel;
    serve_pool_open(&d.pool, s, most);
    d.sessions = cli_array(NULL, most, sizeof(ftk_session *));
    d.stepped = cli_array(NULL, most, sizeof(serve_choice *));
    d.results = cli_array(NULL, most, sizeof *d.results);
    for (size_t n = 0;;) {
        pthread_mutex_lock(&s->lock);
        if (n == 0 && !s->incoming && !s->stop) rest(&d);
        take_incoming(&d);
        const bool stop = s->stop;
        pthread_mutex_unlock(&s->lock);
        if (stop) break;
        drop_gone(&d);
        admit(&d);
        n = pick(&d);
        if (n > 0) step(&d, n);
        pthread_mutex_lock(&s->lock);
        show_figures(&d);
        pthread_mutex_unlock(&s->lock);
    }
    while (d.n_requests > 0) turn_away(&d, d.requests[0]);
    serve_pool_close(&d.pool);
    free(d.waiting);
    free(d.requests);
    free(d.sessions);
    free(d.stepped);
    free(d.results);
    return NULL;
}
