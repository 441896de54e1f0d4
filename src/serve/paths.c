/* SPDX-License-Identifier: Apache-2.0
 * What is answered at which path. */
#include <string.h>
#include <sys/socket.h>

#include "serve/http.h"

enum { BLOCK = 16 << 10, MOST_ID = 128 };

static const char type_of_json[] = "application/json";

/* ---- answers */

/* What is sent back as it came. */
static bool is_plain(const char *id)
{
    size_t n = 0;
    while (id[n] > ' ' && id[n] <= '~') n++;
    return !id[n] && n > 0 && n <= MOST_ID;
}

/* Browsers ask, and keep an answer from a page that is not allowed to have it. */
static void allow_origin(const serve_call *c, struct MHD_Response *response)
{
    const char *const allowed = c->s->o->allow_origin;
    if (!allowed) return;
    MHD_add_response_header(response, "Access-Control-Allow-Origin", allowed);
    MHD_add_response_header(response, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
    if (!c->x || !c->x->preflight) return;
    const char *const wanted = MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND,
                                                           "Access-Control-Request-Headers");
    MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST");
    if (wanted) MHD_add_response_header(response, "Access-Control-Allow-Headers", wanted);
    MHD_add_response_header(response, "Access-Control-Max-Age", "600");
}

static enum MHD_Result send_response(const serve_call *c, int status, struct MHD_Response *response)
{
    const char *id = MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, "x-request-id");
    if (!id || !is_plain(id)) id = c->x && c->x->request ? c->x->request->id : NULL;
    if (id) MHD_add_response_header(response, "X-Request-Id", id);
    allow_origin(c, response);
    if (status == 401) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == 429) MHD_add_response_header(response, "Retry-After", "1");
    if (status == 405) MHD_add_response_header(response, "Allow", c->x->allow);
    const enum MHD_Result done = MHD_queue_response(c->connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return done;
}

/* Takes text. */
static enum MHD_Result send_text(const serve_call *c, int status, const char *type, char *text,
                                 size_t n)
{
    struct MHD_Response *const r = MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", type);
    return send_response(c, status, r);
}

static enum MHD_Result send_json(const serve_call *c, int status, json_t *j)
{
    char *text = serve_dump(j);
    return send_text(c, status, type_of_json, text, strlen(text));
}

enum MHD_Result serve_send_error(const serve_call *c, const serve_error *e)
{
    return send_json(c, e->status, serve_reply_error(e));
}

static enum MHD_Result send_or_error(const serve_call *c, json_t *j, const serve_error *e)
{
    return j ? send_json(c, 200, j) : serve_send_error(c, e);
}

enum MHD_Result serve_send_preflight(const serve_call *c)
{
    struct MHD_Response *const r = MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
    return r ? send_response(c, 204, r) : MHD_NO;
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
    serve_call *const c = ctx;
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

static enum MHD_Result send_stream(const serve_call *c)
{
    serve_call *const copy = cli_array(NULL, 1, sizeof *copy);
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
static enum MHD_Result enqueue(const serve_call *c)
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
    const enum MHD_Result done = serve_send_error(c, &c->x->error);
    serve_request_unref(r);
    c->x->request = NULL;
    return done;
}

enum MHD_Result serve_send_answer(const serve_call *c)
{
    serve_request *const r = c->x->request;
    pthread_mutex_lock(&c->s->lock);
    const bool streams = r->stream && r->out.n > 0, failed = r->error.status != 0;
    pthread_mutex_unlock(&c->s->lock);
    if (streams) return send_stream(c);
    if (failed) return serve_send_error(c, &r->error);
    if (r->n_done == r->n_choices) return send_json(c, 200, serve_reply(c->s, r));
    return MHD_NO; /* given up, as the client has closed its end */
}

static enum MHD_Result complete(const serve_call *c, bool chat)
{
    serve_exchange *const x = c->x;
    x->request = serve_request_read(c->s, chat, x->body.p, x->body.n, &x->error);
    return x->request ? enqueue(c) : serve_send_error(c, &x->error);
}

static enum MHD_Result on_chat(const serve_call *c)
{
    return complete(c, true);
}

static enum MHD_Result on_completion(const serve_call *c)
{
    return complete(c, false);
}

/* ---- the rest */

static enum MHD_Result on_models(const serve_call *c)
{
    return send_json(c, 200, serve_reply_models(c->s));
}

static enum MHD_Result on_model(const serve_call *c)
{
    if (strcmp(c->id, c->s->name) == 0) return send_json(c, 200, serve_reply_model(c->s));
    serve_error e;
    serve_fail(&e, 404, "not_found_error", "model_not_found",
               "there is no model of that name here; GET /v1/models lists what there is");
    return serve_send_error(c, &e);
}

static enum MHD_Result on_health(const serve_call *c)
{
    pthread_mutex_lock(&c->s->lock);
    const bool draining = c->s->draining;
    pthread_mutex_unlock(&c->s->lock);
    json_t *j = json_object();
    json_object_set_new(j, "status", json_string(draining ? "draining" : "ok"));
    return send_json(c, draining ? 503 : 200, j);
}

static enum MHD_Result on_metrics(const serve_call *c)
{
    cli_bytes out = {0};
    pthread_mutex_lock(&c->s->lock);
    serve_metrics(c->s, &out);
    pthread_mutex_unlock(&c->s->lock);
    return send_text(c, 200, "text/plain; version=0.0.4; charset=utf-8", out.p, out.n);
}

static enum MHD_Result on_tokenize(const serve_call *c)
{
    serve_error e;
    json_t *j = serve_tokenize(c->s, c->x->body.p, c->x->body.n, &e);
    return send_or_error(c, j, &e);
}

static enum MHD_Result on_detokenize(const serve_call *c)
{
    serve_error e;
    json_t *j = serve_detokenize(c->s, c->x->body.p, c->x->body.n, &e);
    return send_or_error(c, j, &e);
}

static enum MHD_Result on_tokenizer_info(const serve_call *c)
{
    return send_json(c, 200, serve_tokenizer_info(c->s));
}

static enum MHD_Result on_version(const serve_call *c)
{
    json_t *j = json_object();
    json_object_set_new(j, "version", json_string(ftk_version()));
    return send_json(c, 200, j);
}

/* ---- which of them */

static const serve_route routes[] = {
    {"/chat/completions", "POST", on_chat, false, false},
    {"/completions", "POST", on_completion, false, false},
    {"/models", "GET", on_models, false, false},
    {"/models/", "GET", on_model, false, true},
    {"/health", "GET", on_health, true, false},
    {"/metrics", "GET", on_metrics, false, false},
    {"/tokenize", "POST", on_tokenize, false, false},
    {"/detokenize", "POST", on_detokenize, false, false},
    {"/tokenizer_info", "GET", on_tokenizer_info, false, false},
    {"/", "GET", serve_send_page, true, false},
    {"/page.js", "GET", serve_send_page_script, true, false},
    {"/page.css", "GET", serve_send_page_style, true, false},
    {"/version", "GET", on_version, false, false},
};

static const char *without_version(const char *url)
{
    return strncmp(url, "/v1/", 4) == 0 ? url + 3 : url;
}

const serve_route *serve_route_find(const char *url)
{
    const char *const path = without_version(url);
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        const serve_route *const r = &routes[i];
        const size_t n = strlen(r->path);
        if (r->more ? strncmp(path, r->path, n) == 0 && path[n] : strcmp(path, r->path) == 0)
            return r;
    }
    return NULL;
}

const char *serve_route_name(const serve_route *r, const char *url)
{
    return without_version(url) + strlen(r->path);
}
