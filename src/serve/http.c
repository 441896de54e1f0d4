/* SPDX-License-Identifier: Apache-2.0
 * HTTP, by libmicrohttpd: connections, bodies and keys. */
#include "serve/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

enum { N_THREADS = 2, MOST_CONNECTIONS = 1000 };

/* ---- who may ask, and what */

/* Takes as long whatever the key that was given has in common with ours. Blanks around it are the
 * header's. */
static bool same_key(const char *given, const char *key)
{
    given += strspn(given, " \t");
    size_t n = strlen(given);
    while (n > 0 && (given[n - 1] == ' ' || given[n - 1] == '\t')) n--;
    const size_t n_key = strlen(key);
    volatile unsigned char differ = n != n_key;
    for (size_t i = 0; i < n; i++)
        differ = (unsigned char)(differ | (unsigned char)(given[i] ^ key[i < n_key ? i : 0]));
    return !differ;
}

static bool has_key(const serve_call *c)
{
    static const char bearer[] = "Bearer ";
    const char *given =
        MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, "Authorization");
    if (given && strncasecmp(given, bearer, sizeof bearer - 1) == 0)
        return same_key(given + sizeof bearer - 1, c->s->key);
    given = MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, "api-key");
    return given && same_key(given, c->s->key);
}

/* Sets the exchange's route, or its error. */
static void choose(const serve_call *c, const char *url, const char *method)
{
    serve_exchange *const x = c->x;
    const serve_route *const r = serve_route_find(url);
    x->preflight = r && c->s->o->allow_origin && strcmp(method, "OPTIONS") == 0;
    if (x->preflight) return;
    if (c->s->key && !(r && r->open) && !has_key(c)) {
        serve_fail(&x->error, 401, "authentication_error", "invalid_api_key",
                   "the key is missing or wrong: send it as Authorization: Bearer KEY");
    } else if (!r) {
        serve_fail(&x->error, 404, "not_found_error", NULL, "there is nothing at this path");
    } else if (strcmp(method, r->method) != 0 &&
               !(strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0)) {
        x->allow = r->method;
        serve_fail(&x->error, 405, "invalid_request_error", NULL, "use %s here", r->method);
    } else {
        x->route = r;
    }
}

static size_t most_skipped(const serve_call *c)
{
    return 4 * (size_t)c->s->o->max_body;
}

static bool declares_too_much(const serve_call *c)
{
    const char *const n =
        MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, "Content-Length");
    return n && strtoull(n, NULL, 10) > most_skipped(c);
}

static void refuse_body(const serve_call *c)
{
    c->x->route = NULL;
    cli_bytes_free(&c->x->body);
    serve_fail(&c->x->error, 413, "invalid_request_error", NULL,
               "the body is larger than %lld bytes, see --max-body", (long long)c->s->o->max_body);
}

static enum MHD_Result begin(serve_call *c, const char *url, const char *method)
{
    c->x = cli_array(NULL, 1, sizeof *c->x);
    *c->x = (serve_exchange){0};
    choose(c, url, method);
    if (!declares_too_much(c)) return MHD_YES;
    refuse_body(c);
    return serve_send_error(c, &c->x->error);
}

/* What is too large, or nobody will read, is not kept; but it is waited for, as clients read an
 * answer only once they have sent all. There is an end to that, too. */
static enum MHD_Result take_body(const serve_call *c, const char *data, size_t *n)
{
    serve_exchange *const x = c->x;
    if (x->route && *n > (size_t)c->s->o->max_body - x->body.n) refuse_body(c);
    if (x->route)
        cli_bytes_add(&x->body, data, *n);
    else
        x->n_skipped += *n;
    *n = 0;
    return x->n_skipped > most_skipped(c) ? MHD_NO : MHD_YES;
}

enum MHD_Result serve_on_request(void *server, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *n, void **state)
{
    (void)version;
    serve_call c = {.s = server, .connection = connection, .x = *state};
    if (!c.x) {
        const enum MHD_Result done = begin(&c, url, method);
        *state = c.x;
        return done;
    }
    if (*n > 0) return take_body(&c, data, n);
    if (c.x->request) return serve_send_answer(&c);
    if (c.x->preflight) return serve_send_preflight(&c);
    if (!c.x->route) return serve_send_error(&c, &c.x->error);
    c.id = serve_route_name(c.x->route, url);
    return c.x->route->run(&c);
}

void serve_on_end(void *server, struct MHD_Connection *connection, void **state,
                  enum MHD_RequestTerminationCode code)
{
    (void)connection;
    (void)code;
    serve_server *const s = server;
    serve_exchange *const x = *state;
    if (!x) return;
    if (x->request) {
        pthread_mutex_lock(&s->lock);
        x->request->connection = NULL;
        x->request->fd = -1;
        x->request->suspended = false;
        s->n_live--;
        pthread_cond_signal(&s->news);
        pthread_mutex_unlock(&s->lock);
        serve_request_unref(x->request);
    }
    cli_bytes_free(&x->body);
    free(x);
    *state = NULL;
}

/* ---- the daemon */

/* Not with epoll: threads that both stop listening may end the process (0.9.75, 1.0.1). */
static struct MHD_Daemon *start(serve_server *s, const struct addrinfo *at)
{
    const unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
                           MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
                           (at->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    return MHD_start_daemon(flags, 0, NULL, NULL, serve_on_request, s, MHD_OPTION_SOCK_ADDR,
                            at->ai_addr, MHD_OPTION_NOTIFY_COMPLETED, serve_on_end, s,
                            MHD_OPTION_THREAD_POOL_SIZE, (unsigned)N_THREADS,
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)MOST_CONNECTIONS,
                            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)s->o->timeout, MHD_OPTION_END);
}

bool serve_http_open(serve_server *s)
{
    char port[16];
    snprintf(port, sizeof port, "%lld", (long long)s->o->port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *at;
    const int why = getaddrinfo(s->o->host, port, &hints, &at);
    if (why != 0) {
        cli_say("cannot listen on %s: %s; give an address of this machine with --host", s->o->host,
                gai_strerror(why));
        return false;
    }
    errno = 0;
    s->listening = MHD_INVALID_SOCKET;
    s->daemon = start(s, at);
    const bool brackets = at->ai_family == AF_INET6;
    freeaddrinfo(at);
    if (!s->daemon) {
        cli_say("cannot listen on port %s of %s: %s; try another %s", port, s->o->host,
                errno ? strerror(errno) : "it may be taken, or not be yours",
                errno == EADDRNOTAVAIL ? "--host" : "--port");
        return false;
    }
    const union MHD_DaemonInfo *const info =
        MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    cli_say("listening on http://%s%s%s:%u", brackets ? "[" : "", s->o->host, brackets ? "]" : "",
            info ? info->port : (unsigned)s->o->port);
    return true;
}

/* A thread of the daemon may be about to use the socket, which therefore stays until the last. */
void serve_http_quiesce(serve_server *s)
{
    s->listening = MHD_quiesce_daemon(s->daemon);
    if (s->listening != MHD_INVALID_SOCKET) shutdown(s->listening, SHUT_RDWR);
}

void serve_http_close(serve_server *s)
{
    if (!s->daemon) return;
    MHD_stop_daemon(s->daemon);
    if (s->listening != MHD_INVALID_SOCKET) close(s->listening);
    s->daemon = NULL;
}
