/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target of the server from its sockets on: bytes come in over a connection, in two pieces,
 * as they are or as the body of a request. What is answered is HTTP with JSON or events in it, and
 * the pieces of a stream are the whole text. In place of the engine stands one that says any
 * tokens. */
#include "fuzzing.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/http.h"

enum {
    MOST_TURNS = 64,  /* of the loop below, for one input */
    MOST_TOKENS = 24, /* of an answer */
    MOST_REPLY = 4 << 20,
    KEY = 64,
    FAILS = 8,
    DRAINS = 16 /* bits of an input's second byte */
};

/* Ends the program, and says where. */
static void check(bool ok, int line)
{
    if (ok) return;
    fprintf(stderr, "fuzz_http.c, line %d: this has to hold\n", line);
    abort();
}

#define need(ok) check(ok, __LINE__)

typedef struct fixture {
    serve_server s;
    cli_options o;
    struct MHD_Daemon *daemon;
    ftk_session *session;
    uint64_t random;
    bool fails;          /* requests, in the midst of it */
    cli_bytes said, got; /* the text of the first choice of a stream: as made, and as it came */
} fixture;

static unsigned draw_bits(fixture *f)
{
    f->random = f->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(f->random >> 33);
}

static fixture *open_fixture(void)
{
    static fixture f;
    if (f.daemon) return &f;
    ftk_model_config mc;
    ftk_engine_config ec;
    ftk_session_config sc;
    ftk_model_config_init(&mc);
    ftk_engine_config_init(&ec);
    ftk_session_config_init(&sc);
    ec.threads = 1;
    ec.kv_slots = 256;
    sc.drafter = "none";
    if (ftk_model_load(&f.s.w.model, FTK_MODELS_DIR "/foretoken-demo-q8_0.gguf", &mc) != FTK_OK ||
        ftk_engine_open(&f.s.w.engine, f.s.w.model, &ec) != FTK_OK ||
        ftk_session_open(&f.session, f.s.w.engine, &sc) != FTK_OK)
        abort();
    ftk_model_get_info(f.s.w.model, &f.s.w.info);
    ftk_chat_config_init(&f.s.w.chat);
    f.s.w.chat.source =
        "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|im_start|>"
        "{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}";
    f.o = (cli_options){.parallel = 4, .queue = 4, .max_body = 4000, .timeout = 60};
    f.s.o = &f.o;
    f.s.ctx = 512;
    serve_find_call_form(&f.s);
    snprintf(f.s.name, sizeof f.s.name, "demo");
    pthread_mutex_init(&f.s.lock, NULL);
    pthread_cond_init(&f.s.news, NULL);
    f.daemon = MHD_start_daemon(MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
                                serve_on_request, &f.s, MHD_OPTION_NOTIFY_COMPLETED, serve_on_end,
                                &f.s, MHD_OPTION_END);
    need(f.daemon);
    return &f;
}

/* ---- an engine that says anything */

static void step(fixture *f, serve_choice *c)
{
    int32_t tokens[4];
    const size_t came = c->n_tokens - c->prompt->n, most = c->request->max_tokens;
    size_t n = 1 + draw_bits(f) % 4;
    if (n > most - came) n = most - came;
    for (size_t i = 0; i < n; i++)
        tokens[i] = (int32_t)(draw_bits(f) % (unsigned)f->s.w.info.n_vocab);
    const bool over = came + n >= most || came + n >= MOST_TOKENS;
    const ftk_result r = {.finish = over ? FTK_FINISH_LIMIT : FTK_FINISH_NONE,
                          .tokens = tokens,
                          .n_tokens = n,
                          .drafted = 3,
                          .accepted = n > 1 ? (int)n - 1 : 0};
    need(serve_choice_take(&f->s, c, &r) == FTK_OK);
    c->last = cli_now();
    if (c->request->stream) {
        if (c->index == 0) cli_bytes_add(&f->said, c->text.p ? c->text.p : "", c->text.n);
        serve_reply_piece(&f->s, c, &c->request->out);
        if (c->finish) serve_reply_end(&f->s, c, &c->request->out);
        c->request->ready = true;
        serve_http_resume(c->request);
    }
    c->first = c->last;
}

static void end(fixture *f, serve_request *r)
{
    pthread_mutex_lock(&f->s.lock);
    if (r->stream && r->ready) serve_reply_close(&f->s, r, &r->out);
    r->ready = r->done = true;
    serve_http_resume(r);
    pthread_mutex_unlock(&f->s.lock);
    serve_request_unref(r);
}

/* As far as the request goes, which may have lost its client. */
static void answer(fixture *f, serve_request *r)
{
    for (size_t i = 0; i < r->n_choices; i++) {
        serve_choice *const c = &r->choices[i];
        c->session = f->session;
        need(serve_choice_begin(&f->s, c) == FTK_OK);
        while (!c->finish && !r->error.status) {
            if (f->fails && draw_bits(f) % 4 == 0)
                serve_fail(&r->error, 500, "server_error", NULL, "it \"fails\"\n");
            else
                step(f, c);
        }
        c->session = NULL;
        r->n_done += c->finish != NULL;
    }
    end(f, r);
}

static void schedule(fixture *f)
{
    pthread_mutex_lock(&f->s.lock);
    serve_request *r = f->s.incoming, *next;
    f->s.incoming = NULL;
    for (serve_request *i = r; i; i = i->next) f->s.n_queued--;
    pthread_mutex_unlock(&f->s.lock);
    for (; r; r = next) {
        next = r->next;
        answer(f, r);
    }
}

/* ---- what came back */

/* The body without chunks' lengths, in place; the end of the answer, or NULL: it was cut off. */
static char *unchunk(char *p, const char *end, cli_bytes *body)
{
    for (;;) {
        char *line;
        const size_t n = strtoul(p, &line, 16);
        need(line > p || p == end);
        if (end - line < 2 || n > (size_t)(end - line - 2)) return NULL;
        need(line[0] == '\r');
        cli_bytes_add(body, line + 2, n);
        p = line + 2 + n + 2;
        if (n == 0) return p;
        if (p >= end) return NULL;
    }
}

static void take_event(fixture *f, const char *p, size_t n)
{
    static const char data[] = "data: ";
    need(n > sizeof data && memcmp(p, data, sizeof data - 1) == 0);
    if (strncmp(p + 6, "[DONE]", 6) == 0) return;
    json_t *const j = json_loadb(p + 6, n - 6, JSON_ALLOW_NUL, NULL);
    need(json_is_object(j));
    json_t *const c = json_array_get(json_object_get(j, "choices"), 0);
    const json_t *text = json_object_get(json_object_get(c, "delta"), "content");
    if (!text) text = json_object_get(c, "text");
    if (text && json_integer_value(json_object_get(c, "index")) == 0)
        cli_bytes_add(&f->got, json_string_value(text), json_string_length(text));
    json_decref(j);
}

static void check_events(fixture *f, const cli_bytes *body, bool whole)
{
    static const char done[] = "data: [DONE]\n\n";
    const char *p = body->p, *const end = p + body->n;
    const size_t n_done = sizeof done - 1;
    f->got.n = 0;
    for (const char *to; (to = memmem(p, (size_t)(end - p), "\n\n", 2)); p = to + 2)
        take_event(f, p, (size_t)(to - p));
    if (!whole) return;
    need(p == end && body->n >= n_done && memcmp(end - n_done, done, n_done) == 0);
    need(f->got.n == f->said.n && memcmp(f->got.p, f->said.p, f->got.n) == 0);
}

/* One answer; where the next one begins, or NULL. */
static char *check_answer(fixture *f, char *p, char *end)
{
    char *const body = memmem(p, (size_t)(end - p), "\r\n\r\n", 4);
    if (!body) return NULL;
    body[2] = 0;
    need(strncmp(p, "HTTP/1.", 7) == 0);
    const int status = atoi(p + 9);
    if (status == 100) return body + 4;
    need(status >= 200 && status < 600);
    const bool events = strstr(p, "text/event-stream"), json = strstr(p, "application/json");
    const char *const length = strcasestr(p, "Content-Length:");
    cli_bytes text = {0};
    char *next = NULL;
    cli_bytes_add(&text, "", 0);
    if (length) {
        const size_t n = strtoul(length + 15, NULL, 10);
        if (n <= (size_t)(end - body - 4)) {
            cli_bytes_add(&text, body + 4, n);
            next = body + 4 + n;
        }
    } else if (strcasestr(p, "chunked")) {
        next = unchunk(body + 4, end, &text);
    }
    if (events) check_events(f, &text, next != NULL);
    if (json && next) {
        json_t *const j = json_loadb(text.p, text.n, JSON_ALLOW_NUL, NULL);
        need(json_is_object(j) && (status == 200 || json_object_get(j, "error") || status == 503));
        json_decref(j);
    }
    cli_bytes_free(&text);
    return next;
}

static void check_all(fixture *f, cli_bytes *reply, bool one)
{
    char *p = reply->p, *const end = p + reply->n;
    int n = 0;
    while (p && p < end && n++ < (one ? 1 : 100)) p = check_answer(f, p, end);
}

/* ---- requests */

static const char *const paths[] = {"/v1/chat/completions",
                                    "/v1/completions",
                                    "/tokenize",
                                    "/detokenize",
                                    "/v1/models",
                                    "/",
                                    "/metrics",
                                    "/v1/models/x"};
static const char *const heads[] = {"",
                                    "Expect: 100-continue\r\n",
                                    "Connection: close\r\n",
                                    "Authorization: Bearer secret\r\n",
                                    "api-key: wrong\r\n",
                                    "X-Request-Id: a b\tc\r\n",
                                    "Origin: http://x\r\n",
                                    "Content-Type: application/json\r\n"};

/* The bytes as they are, or as a body, of a length or in chunks. */
static void make_request(uint8_t how, uint8_t more, const uint8_t *p, size_t n, cli_bytes *out)
{
    char line[256];
    if (how < 64) {
        cli_bytes_add(out, (const char *)p, n);
        return;
    }
    const char *const method = how % 32 == 31 ? "HEAD" : how % 8 >= 4 ? "GET" : "POST";
    snprintf(line, sizeof line, "%s %s HTTP/1.1\r\nHost: x\r\n%s", method, paths[how % 8],
             heads[more % 8]);
    cli_bytes_add(out, line, strlen(line));
    if (how < 128) {
        snprintf(line, sizeof line, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", n);
        cli_bytes_add(out, line, strlen(line));
        cli_bytes_add(out, (const char *)p, n);
        if (n > 0)
            cli_bytes_add(out, "\r\n0\r\n\r\n", 7);
        else
            cli_bytes_add(out, "\r\n", 2);
        return;
    }
    snprintf(line, sizeof line, "Content-Length: %zu\r\n\r\n", n);
    cli_bytes_add(out, line, strlen(line));
    cli_bytes_add(out, (const char *)p, n);
}

static bool receive(int fd, cli_bytes *reply)
{
    char block[1 << 14];
    ssize_t n, all = 0;
    while (reply->n < MOST_REPLY && (n = recv(fd, block, sizeof block, MSG_DONTWAIT)) > 0) {
        cli_bytes_add(reply, block, (size_t)n);
        all += n;
    }
    return all > 0;
}

static int n_connections(const fixture *f)
{
    return (int)MHD_get_daemon_info(f->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)
        ->num_connections;
}

/* Until nothing moves any more. */
static void run(fixture *f, int fd, cli_bytes *reply)
{
    for (int i = 0, idle = 0; i < MOST_TURNS && idle < 8; i++) {
        MHD_run(f->daemon);
        schedule(f);
        idle = receive(fd, reply) ? 0 : idle + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fixture *const f = open_fixture();
    int fds[2];
    cli_bytes request = {0}, reply = {0};
    if (size < 3 || size > 20000) return 0;
    need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    cli_bytes_add(&request, "", 0);
    cli_bytes_add(&reply, "", 0);
    f->random = size * 7919u + data[2];
    f->said.n = 0;
    cli_bytes_add(&f->said, "", 0);
    cli_bytes_add(&f->got, "", 0);
    f->fails = data[1] & FAILS;
    f->s.draining = (data[1] & (DRAINS | KEY)) == (DRAINS | KEY);
    f->s.key = data[1] & KEY ? (char *)(uintptr_t) "secret" : NULL;
    make_request(data[0], data[1], data + 3, size - 3, &request);
    const struct sockaddr at = {.sa_family = AF_UNIX};
    need(MHD_add_connection(f->daemon, fds[1], &at, sizeof at) == MHD_YES);
    const size_t half = request.n * data[2] / 255;
    need(send(fds[0], request.p, half, MSG_NOSIGNAL) >= 0);
    run(f, fds[0], &reply);
    send(fds[0], request.p + half, request.n - half, MSG_NOSIGNAL);
    run(f, fds[0], &reply);
    check_all(f, &reply, data[0] >= 64);
    close(fds[0]);
    for (int i = 0; n_connections(f) > 0; i++) {
        MHD_run(f->daemon);
        schedule(f);
        need(i <= MOST_TURNS);
    }
    need(f->s.n_live == 0 && f->s.n_queued == 0 && !f->s.incoming);
    cli_bytes_free(&request);
    cli_bytes_free(&reply);
    return 0;
}

bool fuzz_seed(size_t i, gw_bytes *out)
{
    static const struct {
        unsigned char head[3];
        const char *text;
    } seeds[] = {
        {{0, 0, 200},
         "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"},
        {{0, 0, 90},
         "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n"
         "{\"prompt\":\"a\",\"max_tokens\": 3 }GET /version HTTP/1.0\r\n\r\n"},
        {{0, 0, 255},
         "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
         "5\r\n{\"pro\r\n1a;x=y\r\nmpt\":\"a\",\"max_tokens\": 3 }\r\n0\r\n\r\n"},
        {{0, 0, 30}, "OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\nOrigin: http://y\r\n\r\n"},
        {{128, 0, 255},
         "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stream\":true,\"n\":2,"
         "\"logprobs\":true,"
         "\"top_logprobs\":2,\"stream_options\":{\"include_usage\":true,\"include_tokens\":true}}"},
        {{160, 0, 255},
         "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"n\":3,\"stop\":[\"a\",\"e \"]}"},
        {{128, 8, 100}, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stream\":true}"},
        {{136, 88, 100}, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stream\":true}"},
        {{129, 67, 255},
         "{\"prompt\":[[1,2,3],[4]],\"echo\":true,\"logprobs\":3,\"max_tokens\":4,\"stream\":"
         "true}"},
        {{137, 0, 255},
         "{\"prompt\":[\"Once\",\"a\"],\"echo\":true,\"logprobs\":2,\"max_tokens\":0}"},
        {{144, 1, 255},
         "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\","
         "\"function\":{\"name\":\"f\"}}],\"tool_choice\":\"auto\",\"stream\":true}"},
        {{72, 1, 128},
         "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"prediction\":{\"type\":"
         "\"content\","
         "\"content\":\"abc\"},\"stream\":true,\"max_tokens\":9}"},
        {{130, 0, 255}, "{\"prompt\":\"The sky\",\"add_special_tokens\":false}"},
        {{131, 0, 255}, "{\"tokens\":[1,300,42]}"},
        {{132, 0, 255}, ""},
        {{159, 0, 255}, ""},
    };
    if (i >= sizeof seeds / sizeof *seeds) return false;
    gw_put(out, seeds[i].head, 3);
    gw_put(out, seeds[i].text, strlen(seeds[i].text));
    return true;
}
