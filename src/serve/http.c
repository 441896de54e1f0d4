/* SPDX-License-Identifier: Apache-2.0
 * HTTP, by libmicrohttpd: what is asked for, by whom, and the way of answers to clients. */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

#include "serve/serve.h"

enum { N_THREADS = 2, BLOCK = 16 << 10, MOST_CONNECTIONS = 1000, MOST_ID = 128 };

static const char type_of_json[] = "application/json";

/* One request as it comes in. */
typedef struct exchange {
    const struct route *route; /* NULL: error says why not */
    const char *allow;         /* the method that would do */
    cli_bytes body;
    size_t n_skipped; /* of a body that nobody will read */
    serve_error error;
    serve_request *request;
} exchange;

typedef struct call {
    serve_server *s;
    struct MHD_Connection *connection;
    exchange *x;
    const char *id; /* of the path's last part */
} call;

/* ---- answers */

static enum MHD_Result send_response(const call *c, int status, struct MHD_Response *response)
{
    const char *id = MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, "x-request-id");
    if (!id || strlen(id) > MOST_ID) id = c->x && c->x->request ? c->x->request->id : NULL;
    if (id) MHD_add_response_header(response, "X-Request-Id", id);
    if (status == 401) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == 429) MHD_add_response_header(response, "Retry-After", "1");
    if (status == 405) MHD_add_response_header(response, "Allow", c->x->allow);
    const enum MHD_Result done = MHD_queue_response(c->connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return done;
}

/* Takes text. */
static enum MHD_Result send_text(const call *c, int status, const char *type, char *text, size_t n)
{
    struct MHD_Response *const r = MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", type);
    return send_response(c, status, r);
}

static enum MHD_Result send_json(const call *c, int status, json_t *j)
{
    char *text = serve_dump(j);
    return send_text(c, status, type_of_json, text, strlen(text));
}

static enum MHD_Result send_error(const call *c, const serve_error *e)
{
    return send_json(c, e->status, serve_reply_error(e));
}

static enum MHD_Result send_or_error(const call *c, json_t *j, const serve_error *e)
{
    return j ? send_json(c, 200, j) : send_error(c, e);
}

/* ---- streams */

static void forget_sent(serve_request *r)
{
    if (r->sent < r->out.n && r->sent < BLOCK) return;
    r->out.n -= r->sent;
    memmove(r->out.p, r->out.p + r->sent, r->out.n);
    r->sent = 0;
}

static ssize_t read_stream(void *ctx, uint64_t pos, char *buf, size_t cap)
{
    (void)pos;
    call *const c = ctx;
    serve_request *const r = c->x->request;
    ssize_t n = 0;
    pthread_mutex_lock(&c->s->lock);
    const size_t left = r->out.n - r->sent;
    if (left > 0) {
        n = (ssize_t)(left < cap ? left : cap);
        memcpy(buf, r->out.p + r->sent, (size_t)n);
        r->sent += (size_t)n;
        forget_sent(r);
        pthread_cond_signal(&c->s->news);
    } else if (r->done) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        r->suspended = true;
        MHD_suspend_connection(c->connection);
    }
    pthread_mutex_unlock(&c->s->lock);
    return n;
}

static enum MHD_Result send_stream(const call *c)
{
    call *const copy = cli_array(NULL, 1, sizeof *copy);
    *copy = *c;
    struct MHD_Response *const r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, copy, free);
    if (!r) {
        free(copy);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", "text/event-stream");
    MHD_add_response_header(r, "Cache-Control", "no-cache");
    MHD_add_response_header(r, "X-Accel-Buffering", "no"); /* nginx passes pieces on at once */
    return send_response(c, 200, r);
}

void serve_http_resume(serve_request *r)
{
    if (!r->suspended) return;
    r->suspended = false;
    MHD_resume_connection(r->connection);
}

/* ---- chats and completions */

/* What the kernel holds back for a client counts, too: it would take megabytes. */
static int bounded_socket(struct MHD_Connection *connection)
{
    const int most = 64 << 10;
    const union MHD_ConnectionInfo *const info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info) return -1;
    setsockopt(info->connect_fd, SOL_SOCKET, SO_SNDBUF, &most, sizeof most);
    return info->connect_fd;
}

/* In line; the connection sleeps until there is something to send. */
static enum MHD_Result enqueue(const call *c)
{
    serve_server *const s = c->s;
    serve_request *const r = c->x->request;
    const int fd = bounded_socket(c->connection);
    pthread_mutex_lock(&s->lock);
    const bool queued = serve_enqueue(s, r, &c->x->error);
    if (queued) {
        r->connection = c->connection;
        r->fd = fd;
        r->suspended = true;
        s->n_live++;
        MHD_suspend_connection(c->connection);
    }
    pthread_mutex_unlock(&s->lock);
    if (queued) return MHD_YES;
    const enum MHD_Result done = send_error(c, &c->x->error);
    serve_request_unref(r);
    c->x->request = NULL;
    return done;
}

static enum MHD_Result answer(const call *c)
{
    serve_request *const r = c->x->request;
    pthread_mutex_lock(&c->s->lock);
    const bool streams = r->stream && r->out.n > 0, failed = r->error.status != 0;
    pthread_mutex_unlock(&c->s->lock);
    if (streams) return send_stream(c);
    if (failed) return send_error(c, &r->error);
    if (r->n_done == r->n_choices) return send_json(c, 200, serve_reply(c->s, r));
    return MHD_NO; /* given up, as the client has closed its end */
}

static enum MHD_Result complete(const call *c, bool chat)
{
    exchange *const x = c->x;
    x->request = serve_request_read(c->s, chat, x->body.p, x->body.n, &x->error);
    return x->request ? enqueue(c) : send_error(c, &x->error);
}

static enum MHD_Result on_chat(const call *c)
{
    return complete(c, true);
}

static enum MHD_Result on_completion(const call *c)
{
    return complete(c, false);
}

/* ---- the rest */

static enum MHD_Result on_models(const call *c)
{
    return send_json(c, 200, serve_reply_models(c->s));
}

static enum MHD_Result on_model(const call *c)
{
    if (strcmp(c->id, c->s->name) == 0) return send_json(c, 200, serve_reply_model(c->s));
    serve_error e;
    serve_fail(&e, 404, "not_found_error", "model_not_found",
               "there is no model of that name here; GET /v1/models lists what there is");
    return send_error(c, &e);
}

static enum MHD_Result on_health(const call *c)
{
    pthread_mutex_lock(&c->s->lock);
    const bool draining = c->s->draining;
    pthread_mutex_unlock(&c->s->lock);
    json_t *j = json_object();
    json_object_set_new(j, "status", json_string(draining ? "draining" : "ok"));
    return send_json(c, draining ? 503 : 200, j);
}

static enum MHD_Result on_metrics(const call *c)
{
    cli_bytes out = {0};
    pthread_mutex_lock(&c->s->lock);
    serve_metrics(c->s, &out);
    pthread_mutex_unlock(&c->s->lock);
    return send_text(c, 200, "text/plain; version=0.0.4; charset=utf-8", out.p, out.n);
}

static enum MHD_Result on_tokenize(const call *c)
{
    serve_error e;
    json_t *j = serve_tokenize(c->s, c->x->body.p, c->x->body.n, &e);
    return send_or_error(c, j, &e);
}

static enum MHD_Result on_detokenize(const call *c)
{
    serve_error e;
    json_t *j = serve_detokenize(c->s, c->x->body.p, c->x->body.n, &e);
    return send_or_error(c, j, &e);
}

static enum MHD_Result on_version(const call *c)
{
    json_t *j = json_object();
    json_object_set_new(j, "version", json_string(ftk_version()));
    return send_json(c, 200, j);
}

/* ---- which of them */

typedef struct route {
    const char *path, *method;
    enum MHD_Result (*run)(const call *c);
    bool open; /* without a key */
    bool more; /* path goes on with a name */
} route;

static const route routes[] = {
    {"/chat/completions", "POST", on_chat, false, false},
    {"/completions", "POST", on_completion, false, false},
    {"/models", "GET", on_models, false, false},
    {"/models/", "GET", on_model, false, true},
    {"/health", "GET", on_health, true, false},
    {"/metrics", "GET", on_metrics, false, false},
    {"/tokenize", "POST", on_tokenize, false, false},
    {"/detokenize", "POST", on_detokenize, false, false},
    {"/version", "GET", on_version, false, false},
};

static const char *without_version(const char *url)
{
    return strncmp(url, "/v1/", 4) == 0 ? url + 3 : url;
}

static const route *find(const char *url)
{
    const char *const path = without_version(url);
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        const route *const r = &routes[i];
        const size_t n = strlen(r->path);
        if (r->more ? strncmp(path, r->path, n) == 0 && path[n] : strcmp(path, r->path) == 0)
            return r;
    }
    return NULL;
}

/* Takes as long whatever the key that was given has in common with ours. */
static bool same_key(const char *given, const char *key)
{
    const size_t n = strlen(given), n_key = strlen(key);
    volatile unsigned char differ = n != n_key;
    for (size_t i = 0; i < n; i++)
        differ = (unsigned char)(differ | (unsigned char)(given[i] ^ key[i < n_key ? i : 0]));
    return !differ;
}

static bool has_key(const call *c)
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
static void choose(const call *c, const char *url, const char *method)
{
    exchange *const x = c->x;
    const route *const r = find(url);
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

static size_t most_skipped(const call *c)
{
    return 4 * (size_t)c->s->o->max_body;
}

static bool declares_too_much(const call *c)
{
    const char *const n =
        MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, "Content-Length");
    return n && strtoull(n, NULL, 10) > most_skipped(c);
}

static void refuse_body(const call *c)
{
    c->x->route = NULL;
    cli_bytes_free(&c->x->body);
    serve_fail(&c->x->error, 413, "invalid_request_error", NULL,
               "the body is larger than %lld bytes, see --max-body", (long long)c->s->o->max_body);
}

static enum MHD_Result begin(call *c, const char *url, const char *method)
{
    c->x = cli_array(NULL, 1, sizeof *c->x);
    *c->x = (exchange){0};
    choose(c, url, method);
    if (!declares_too_much(c)) return MHD_YES;
    refuse_body(c);
    return send_error(c, &c->x->error);
}

/* What is too large, or nobody will read, is not kept; but it is waited for, as clients read an answer only
 * once they have sent all. There is an end to that, too. */
static enum MHD_Result take_body(const call *c, const char *data, size_t *n)
{
    exchange *const x = c->x;
    if (x->route && *n > (size_t)c->s->o->max_body - x->body.n) refuse_body(c);
    if (x->route)
        cli_bytes_add(&x->body, data, *n);
    else
        x->n_skipped += *n;
    *n = 0;
    return x->n_skipped > most_skipped(c) ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_request(void *server, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *n, void **state)
{
    (void)version;
    call c = {.s = server, .connection = connection, .x = *state};
    if (!c.x) {
        const enum MHD_Result done = begin(&c, url, method);
        *state = c.x;
        return done;
    }
    if (*n > 0) return take_body(&c, data, n);
    if (c.x->request) return answer(&c);
    if (!c.x->route) return send_error(&c, &c.x->error);
    c.id = without_version(url) + strlen(c.x->route->path);
    return c.x->route->run(&c);
}

static void on_end(void *server, struct MHD_Connection *connection, void **state,
                   enum MHD_RequestTerminationCode code)
{
    (void)connection;
    (void)code;
    serve_server *const s = server;
    exchange *const x = *state;
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

static struct MHD_Daemon *start(serve_server *s, const struct addrinfo *at)
{
    const unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL |
                           MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
                           (at->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    return MHD_start_daemon(flags, 0, NULL, NULL, on_request, s, MHD_OPTION_SOCK_ADDR, at->ai_addr,
                            MHD_OPTION_NOTIFY_COMPLETED, on_end, s, MHD_OPTION_THREAD_POOL_SIZE,
                            (unsigned)N_THREADS, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)MOST_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
                            (unsigned)s->o->timeout, MHD_OPTION_END);
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
    s->daemon = start(s, at);
    const bool brackets = at->ai_family == AF_INET6;
    freeaddrinfo(at);
    if (!s->daemon) {
        cli_say(
            "cannot listen on port %s of %s: it may be taken, or not be yours; try another --port",
            port, s->o->host);
        return false;
    }
    const union MHD_DaemonInfo *const info =
        MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    cli_say("listening on http://%s%s%s:%u", brackets ? "[" : "", s->o->host, brackets ? "]" : "",
            info ? info->port : (unsigned)s->o->port);
    return true;
}

void serve_http_quiesce(serve_server *s)
{
    const MHD_socket listening = MHD_quiesce_daemon(s->daemon);
    if (listening != MHD_INVALID_SOCKET) close(listening);
}

void serve_http_close(serve_server *s)
{
    if (s->daemon) MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
}
