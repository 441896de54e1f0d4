/* SPDX-License-Identifier: Apache-2.0
 * Requests from their coming to their end: in line, and out of it. */
#include "serve/scheduler.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

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

void serve_wait_in_line(serve_scheduler *d, serve_choice *c)
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

void serve_leave_line(serve_scheduler *d, size_t at)
{
    d->n_waiting--;
    memmove(d->waiting + at, d->waiting + at + 1, (d->n_waiting - at) * sizeof *d->waiting);
}

static void add_request(serve_scheduler *d, serve_request *r)
{
    if (d->n_requests == d->cap_requests) {
        d->cap_requests = 2 * d->cap_requests + 64;
        d->requests = cli_array(d->requests, d->cap_requests, sizeof(serve_request *));
    }
    d->requests[d->n_requests++] = r;
    for (size_t i = 0; i < r->n_choices; i++) {
        r->choices[i].order = d->order++;
        serve_wait_in_line(d, &r->choices[i]);
    }
}

void serve_take_incoming(serve_scheduler *d)
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

void serve_mark_started(serve_scheduler *d, serve_request *r)
{
    if (!r->started) d->s->n_queued--;
    r->started = true;
}

/* None of its choices runs or waits any longer. */
static void forget(serve_scheduler *d, serve_request *r)
{
    for (size_t i = d->n_waiting; i-- > 0;)
        if (d->waiting[i]->request == r) serve_leave_line(d, i);
    for (size_t i = d->pool.n_running; i-- > 0;)
        if (d->pool.running[i]->request == r) serve_pool_end(&d->pool, d->pool.running[i], true);
    for (size_t i = 0; i < d->n_requests; i++)
        if (d->requests[i] == r) d->requests[i--] = d->requests[--d->n_requests];
}

void serve_end_request(serve_scheduler *d, serve_request *r)
{
    serve_server *const s = d->s;
    forget(d, r);
    pthread_mutex_lock(&s->lock);
    serve_mark_started(d, r);
    if (r->stream && r->ready) serve_reply_close(s, r, &r->out);
    if (r->error.status)
        s->figures.failed++;
    else if (r->n_done < r->n_choices)
        s->figures.cancelled++;
    serve_histogram_add(&s->figures.whole, cli_now() - r->start);
    r->ready = r->done = true;
    serve_http_resume(r);
    pthread_mutex_unlock(&s->lock);
    serve_request_unref(r);
}

void serve_fail_request(serve_scheduler *d, serve_request *r, ftk_err err)
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
    serve_end_request(d, r);
}

void serve_turn_away(serve_scheduler *d, serve_request *r)
{
    pthread_mutex_lock(&d->s->lock);
    serve_fail(&r->error, 503, "unavailable_error", NULL, "the server is shutting down");
    pthread_mutex_unlock(&d->s->lock);
    serve_end_request(d, r);
}

/* Clients that have closed their end of the connection. The lock keeps descriptors what they
 * are. */
void serve_drop_gone(serve_scheduler *d)
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
                serve_end_request(d, d->requests[from + i]);
    }
}
