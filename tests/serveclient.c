/* SPDX-License-Identifier: Apache-2.0
 * A server that is started for a test, and a small client of HTTP. */
#include "serveclient.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ARGS = 40, PATIENCE = 600 };

static void fail(const char *what)
{
    fprintf(stderr, "serveclient: %s\n", what);
    exit(1);
}

static void nap(void)
{
    const struct timespec t = {.tv_nsec = 10000000};
    nanosleep(&t, NULL);
}

/* ---- programs */

/* Runs the program with its output, or what it says, going to `to`. */
static pid_t run(const char *const *first, const char *const *args, int fd, FILE *to)
{
    const char *argv[MOST_ARGS] = {FTK_PROGRAM};
    size_t n = 1;
    for (; *first; first++) argv[n++] = *first;
    for (; args && *args && n + 1 < MOST_ARGS; args++) argv[n++] = *args;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid < 0) fail("fork failed");
    if (pid > 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* no server outlives its test */
    dup2(fileno(to), fd);
    execv(FTK_PROGRAM, (char *const *)(uintptr_t)argv);
    _exit(127);
}

static char *whole_file(FILE *f)
{
    char *text = calloc(1, 1 << 20);
    const ssize_t n = pread(fileno(f), text, (1 << 20) - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return text;
}

char *server_said(const server *s)
{
    return whole_file(s->log);
}

server server_start(const char *const *args)
{
    const bool own = args && args[0] && strcmp(args[0], "-m") == 0;
    const char *const first[] = {"serve", "--port", "0", "-t", "1", own ? NULL : "--demo", NULL};
    static const char listens[] = "listening on http://127.0.0.1:";
    server s = {.log = tmpfile()};
    s.pid = run(first, args, STDERR_FILENO, s.log);
    for (int i = 0; i < 100 * PATIENCE && s.port == 0; i++) {
        nap();
        char *said = server_said(&s), *at = strstr(said, listens);
        if (at && strchr(at, '\n')) s.port = atoi(at + sizeof listens - 1);
        if (!at && waitpid(s.pid, NULL, WNOHANG) != 0) fail(said);
        free(said);
    }
    if (s.port == 0) fail("the server does not listen");
    return s;
}

int server_wait(server *s)
{
    int status;
    waitpid(s->pid, &status, 0);
    char *said = server_said(s);
    if (status != 0) fprintf(stderr, "%s", said);
    free(said);
    fclose(s->log);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int server_stop(server *s)
{
    kill(s->pid, SIGTERM);
    return server_wait(s);
}

char *generate(const char *const *args)
{
    static const char *const first[] = {"generate", "--demo", "-t", "1", NULL};
    FILE *out = tmpfile();
    int status;
    waitpid(run(first, args, STDOUT_FILENO, out), &status, 0);
    char *text = whole_file(out);
    fclose(out);
    if (status != 0 || !text[0]) fail("generate failed");
    text[strlen(text) - 1] = 0;
    return text;
}

/* ---- HTTP */

int http_open(const server *s, int window)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)s->port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (window) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0) return fd;
    close(fd);
    return -1;
}

static void send_all(int fd, const char *p, size_t n)
{
    for (ssize_t sent; n > 0; p += sent, n -= (size_t)sent)
        if ((sent = send(fd, p, n, MSG_NOSIGNAL)) <= 0) return; /* seen when the answer is read */
}

void http_send(int fd, const char *method, const char *path, const char *headers, const char *body)
{
    char head[1024];
    snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: test\r\n%sContent-Length: %zu\r\n\r\n",
             method, path, headers, strlen(body));
    send_all(fd, head, strlen(head));
    send_all(fd, body, strlen(body));
}

/* What has come of one answer. */
typedef struct incoming {
    char *p;
    size_t n, cap;
} incoming;

static bool read_more(int fd, incoming *in)
{
    if (in->cap - in->n < 65536) in->p = realloc(in->p, in->cap = 2 * in->cap + 131072);
    const ssize_t n = recv(fd, in->p + in->n, 65535, 0);
    if (n > 0) in->n += (size_t)n;
    in->p[in->n] = 0;
    return n > 0;
}

/* Takes the lengths out of a chunked body; false: it is not all there yet. */
static bool join_chunks(const char *from, const char *end, reply *r)
{
    r->n = 0;
    for (;;) {
        char *at;
        const size_t n = strtoul(from, &at, 16);
        if (at + 2 > end || at[0] != '\r') return false;
        if (n == 0) return true;
        from = at + 2;
        if (from + n + 2 > end) return false;
        memcpy(r->body + r->n, from, n);
        r->n += n;
        from += n + 2;
    }
}

static bool take_body(const incoming *in, const char *at, reply *r)
{
    const char *const length = strcasestr(r->head, "\r\nContent-Length:");
    r->body = realloc(r->body, in->n + 1);
    if (atoi(r->head + sizeof "HTTP/1.1") == 204) return true; /* it has none */
    if (!length) return join_chunks(at, in->p + in->n, r);
    r->n = (size_t)atol(length + 17);
    if ((size_t)(in->p + in->n - at) < r->n) return false;
    memcpy(r->body, at, r->n);
    return true;
}

reply http_read(int fd)
{
    reply r = {0};
    incoming in = {0};
    size_t seen = 0;
    for (bool done = false; !done && read_more(fd, &in);) {
        const char *const end = strstr(in.p, "\r\n\r\n");
        /* joining is done again only when much has come, or the end may be there */
        const bool may_end =
            in.n - seen > in.n / 2 || strcmp(in.p + in.n - 2, "\r\n") == 0 || in.n < 65536;
        if (!end) continue;
        if (!r.head) r.head = strndup(in.p, (size_t)(end + 2 - in.p));
        if (strcasestr(r.head, "\r\nContent-Length:") || may_end) {
            done = take_body(&in, end + 4, &r);
            seen = in.n;
        }
    }
    free(in.p);
    if (!r.head) return r;
    r.status = atoi(r.head + sizeof "HTTP/1.1");
    if (!r.body) r.body = calloc(1, 1);
    r.body[r.n] = 0;
    r.json = json_loadb(r.body, r.n, 0, NULL);
    return r;
}

void reply_free(reply *r)
{
    free(r->head);
    free(r->body);
    json_decref(r->json);
    *r = (reply){0};
}

reply ask(const server *s, const char *method, const char *path, const char *body)
{
    const int fd = http_open(s, 0);
    if (fd < 0) return (reply){0};
    http_send(fd, method, path, "", body);
    reply r = http_read(fd);
    close(fd);
    return r;
}

reply post(const server *s, const char *path, const char *body)
{
    return ask(s, "POST", path, body);
}

/* ---- what is in an answer */

double figure(const server *s, const char *name)
{
    reply r = ask(s, "GET", "/metrics", "");
    double v = -1;
    char start[128];
    const int n = snprintf(start, sizeof start, "\nforetoken:%s", name);
    const char *at = r.body ? strstr(r.body, start) : NULL;
    if (at) at = strchr(at + n, ' ');
    if (at) v = atof(at + 1);
    reply_free(&r);
    return v;
}

bool figure_becomes(const server *s, const char *name, double v)
{
    for (int i = 0; i < 12000; i++) {
        if (figure(s, name) == v) return true;
        nap();
    }
    return false;
}

const json_t *json_at(const reply *r, const char *a, const char *b, const char *c)
{
    const json_t *j = json_object_get(r->json, a);
    if (json_is_array(j)) j = json_array_get(j, 0);
    if (b) j = json_object_get(j, b);
    return c ? json_object_get(j, c) : j;
}

const char *text_at(const reply *r, const char *a, const char *b, const char *c)
{
    const char *const text = json_string_value(json_at(r, a, b, c));
    return text ? text : "(no text)";
}

char *text_of(const reply *r, size_t choice)
{
    const json_t *const c = json_array_get(json_object_get(r->json, "choices"), choice);
    const json_t *text = json_object_get(c, "text");
    if (!text) text = json_object_get(json_object_get(c, "message"), "content");
    return strdup(json_is_string(text) ? json_string_value(text) : "(no text)");
}

char *streamed_text(const reply *r, size_t choice, bool chat)
{
    char *text = calloc(1, r->n + 1);
    for (const char *at = r->body; (at = strstr(at, "data: {")); at++) {
        json_t *const event = json_loads(at + 6, JSON_DISABLE_EOF_CHECK, NULL);
        const json_t *c = json_array_get(json_object_get(event, "choices"), 0);
        const json_t *const index = json_object_get(c, "index");
        if (chat) c = json_object_get(c, "delta");
        const json_t *const piece = json_object_get(c, chat ? "content" : "text");
        if (piece && (size_t)json_integer_value(index) == choice)
            strcat(text, json_string_value(piece));
        json_decref(event);
    }
    return text;
}
