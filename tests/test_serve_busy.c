/* SPDX-License-Identifier: Apache-2.0
 * foretoken serve with many clients at once, slow ones, those that leave, and at its end. */
#include "support.h"

#include <dirent.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "serveclient.h"

enum { N = 8 };

static const char *const questions[N] = {
    "Why is the sky blue?", "What is a cat?",    "Who was Napoleon?",
    "Tell me a story.",     "How do birds fly?", "What is the capital of France?",
    "Count to ten.",        "What is love?",
};

static int ask_later(const server *s, const char *question, const char *fields)
{
    char body[512];
    snprintf(body, sizeof body, "{%s,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
             fields, question);
    const int fd = http_open(s, 0);
    assert_true(fd >= 0);
    http_send(fd, "POST", "/v1/chat/completions", "", body);
    return fd;
}

static void sleep_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void assert_same_text(char *a, char *b)
{
    assert_string_equal(a, b);
    free(a);
    free(b);
}

/* All at once, whole and streamed: each gets what it would get alone. */
static void ask_all(const server *s, const char *most)
{
    char plain[128], streamed[160];
    int fds[2 * N];
    snprintf(plain, sizeof plain, "\"temperature\":0,\"ignore_eos\":true,\"max_tokens\":%s", most);
    snprintf(streamed, sizeof streamed, "%s,\"stream\":true", plain);
    for (int i = 0; i < 2 * N; i++)
        fds[i] = ask_later(s, questions[i % N], i < N ? plain : streamed);
    char *texts[N];
    for (int i = 0; i < 2 * N; i++) {
        reply r = http_read(fds[i]);
        close(fds[i]);
        assert_int_equal(r.status, 200);
        if (i < N)
            texts[i] = text_of(&r, 0);
        else
            assert_same_text(streamed_text(&r, 0, true), strdup(texts[i - N]));
        reply_free(&r);
    }
    for (int i = 0; i < N; i++)
        assert_same_text(texts[i],
                         generate((const char *[]){"--chat", "-p", questions[i], "-n", most,
                                                   "--ignore-eos", "--drafter", "none", NULL}));
}

static void test_together(void **state)
{
    (void)state;
    server s = server_start((const char *[]){"--parallel", "5", "--budget", "6", NULL});
    ask_all(&s, "24");
    assert_true(figure(&s, "num_requests_running") == 0);
    assert_int_equal(server_stop(&s), 0);
}

/* A cache that holds about one and a half of them. */
static void test_preemption(void **state)
{
    (void)state;
    server s = server_start((const char *[]){"--parallel", "4", "--ctx", "200", "--cache", "224",
                                             "--budget", "4", NULL});
    ask_all(&s, "110");
    assert_true(figure(&s, "num_preemptions_total") > 0);
    assert_int_equal(server_stop(&s), 0);
}

/* Where the context ends, the answer does. */
static void test_context(void **state)
{
    (void)state;
    server s = server_start((const char *[]){"--ctx", "48", "--drafter", "none", NULL});
    const int fd = ask_later(&s, questions[0], "\"temperature\":0,\"ignore_eos\":true");
    reply r = http_read(fd);
    close(fd);
    const json_t *const usage = json_object_get(r.json, "usage");
    assert_true(strstr(r.body, "\"finish_reason\":\"length\"") != NULL);
    assert_int_equal(json_integer_value(json_object_get(usage, "total_tokens")), 48);
    reply_free(&r);
    assert_int_equal(server_stop(&s), 0);
}

static int64_t cached(const reply *r)
{
    const json_t *const usage = json_object_get(r->json, "usage");
    return json_integer_value(
        json_object_get(json_object_get(usage, "prompt_tokens_details"), "cached_tokens"));
}

static reply complete_as(const server *s, const char *prompt, const char *fields)
{
    char body[1024];
    snprintf(body, sizeof body, "{\"prompt\":\"%s\",%s,\"max_tokens\":8}", prompt, fields);
    return post(s, "/v1/completions", body);
}

static reply complete(const server *s, const char *prompt)
{
    return complete_as(s, prompt, "\"temperature\":0");
}

static void assert_generated(const reply *r, const char *prompt)
{
    assert_same_text(text_of(r, 0), generate((const char *[]){"-p", prompt, "-n", "8", "--drafter",
                                                              "none", NULL}));
}

#define STORY "Once upon a time there was a king who had three sons and a large house by the sea."

static void test_prefix(void **state)
{
    (void)state;
    server s = server_start((const char *[]){"--parallel", "2", "--drafter", "none", NULL});
    static const char *const longer = STORY " The eldest was tall.", *const other =
                                                                         STORY " One day";
    reply r = complete(&s, STORY);
    const int64_t n =
        json_integer_value(json_object_get(json_object_get(r.json, "usage"), "prompt_tokens"));
    assert_int_equal(cached(&r), 0);
    assert_generated(&r, STORY);
    reply_free(&r);
    r = complete(&s, longer);
    assert_true(cached(&r) >= n - 2 && cached(&r) <= n);
    assert_generated(&r, longer);
    reply_free(&r);
    r = complete(&s, other);
    assert_true(cached(&r) >= n / 2 && cached(&r) <= n);
    assert_generated(&r, other);
    reply_free(&r);
    r = complete(&s, "Nothing of that kind");
    assert_true(cached(&r) <= 1);
    reply_free(&r);
    assert_int_equal(server_stop(&s), 0);
}

/* What was read for one is not read again for another who samples otherwise, and changes nothing of
 * what either says; until so many came since that it was given up. */
static void test_prefix_of_others(void **state)
{
    (void)state;
    static const char hot[] =
        "\"temperature\":0.9,\"seed\":5,\"presence_penalty\":1,\"logit_bias\":{\"300\":4}";
    static const char *const others[] = {"Two dogs", "My house", "A bird"};
    server s = server_start((const char *[]){"--parallel", "2", "--drafter", "lookup", NULL});
    reply first = complete_as(&s, STORY, hot), r = complete(&s, STORY);
    assert_int_equal(cached(&first), 0);
    assert_true(cached(&r) > 10);
    assert_generated(&r, STORY);
    reply_free(&r);
    r = complete_as(&s, STORY, hot);
    assert_true(cached(&r) > 10);
    assert_same_text(text_of(&r, 0), text_of(&first, 0));
    reply_free(&r);
    for (int i = 0; i < 3; i++) {
        r = complete(&s, others[i]);
        reply_free(&r);
    }
    r = complete_as(&s, STORY, hot);
    assert_true(cached(&r) <= 1);
    assert_same_text(text_of(&r, 0), text_of(&first, 0));
    reply_free(&r);
    reply_free(&first);
    assert_int_equal(server_stop(&s), 0);
}

/* ---- clients that are not patient, or too much so */

/* Behind such a context it takes seconds on any machine. */
#define LONG "--ctx", "16000", "--parallel", "1", "--drafter", "none"
static const char endless[] = "\"temperature\":0,\"ignore_eos\":true,\"stream\":true";

static void test_gone(void **state)
{
    (void)state;
    enum { N_GONE = 20 };
    static const char aborted[] =
        "request_success_total{model_name=\"foretoken-demo-q8_0\",finished_reason=\"abort\"";
    server s = server_start((const char *[]){LONG, NULL});
    char piece[64];
    int fd;
    for (int i = 0; i < N_GONE; i++) { /* whose first token is there is told to run */
        fd = ask_later(&s, questions[i % 3], endless);
        assert_true(recv(fd, piece, sizeof piece, 0) > 0);
        assert_true(figure(&s, "num_requests_running") == 1);
        close(fd);
        assert_true(figure_becomes(&s, aborted, i + 1));
        assert_true(figure_becomes(&s, "num_requests_running", 0));
    }
    /* one that waits for all of it, and one behind it in line */
    fd = ask_later(&s, questions[0], "\"temperature\":0,\"ignore_eos\":true");
    assert_true(figure_becomes(&s, "num_requests_running", 1));
    const int second = ask_later(&s, questions[1], "\"temperature\":0");
    assert_true(figure_becomes(&s, "num_requests_waiting", 1));
    close(second);
    close(fd);
    assert_true(figure_becomes(&s, aborted, N_GONE + 2));
    assert_true(figure_becomes(&s, "num_requests_running", 0));
    assert_true(figure(&s, "num_requests_waiting") == 0);
    assert_true(figure(&s, "generation_tokens_total") < 16000);
    assert_int_equal(server_stop(&s), 0);
}

/* Asks for far more than the sockets hold between them, and reads none of it. */
static int ask_slowly(const server *s)
{
    const int fd = http_open(s, 4096);
    http_send(fd, "POST", "/v1/completions", "",
              "{\"temperature\":0,\"ignore_eos\":true,\"stream\":true,\"logprobs\":20,\"n\":2,"
              "\"max_tokens\":600,\"prompt\":\"The\"}");
    double before = -1, now = 0;
    while (now == 0 || now != before) { /* until it rests */
        before = now;
        sleep_ms(300);
        now = figure(s, "generation_tokens_total");
    }
    assert_true(now < 1200);
    return fd;
}

/* It gets all that it asked for, once it reads. */
static void read_slow(int fd)
{
    reply r = http_read(fd);
    close(fd);
    char *expected = generate(
        (const char *[]){"-p", "The", "-n", "600", "--ignore-eos", "--drafter", "none", NULL});
    assert_same_text(streamed_text(&r, 0, false), strdup(expected));
    assert_same_text(streamed_text(&r, 1, false), expected);
    assert_string_equal(r.body + r.n - 14, "data: [DONE]\n\n");
    reply_free(&r);
}

/* A short answer, as it is in an empty house. */
static void read_short(int fd, const char *question)
{
    reply r = http_read(fd);
    close(fd);
    assert_int_equal(r.status, 200);
    assert_same_text(text_of(&r, 0), generate((const char *[]){"--chat", "-p", question, "-n", "20",
                                                               "--drafter", "none", NULL}));
    reply_free(&r);
}

static const char brief[] = "\"temperature\":0,\"max_tokens\":20";

static void test_slow(void **state)
{
    (void)state;
    server s = server_start((const char *[]){"--parallel", "2", "--drafter", "none", NULL});
    const int slow = ask_slowly(&s);
    int fds[2]; /* both places are to be had for others */
    for (int i = 0; i < 2; i++) fds[i] = ask_later(&s, questions[i], brief);
    for (int i = 0; i < 2; i++) read_short(fds[i], questions[i]);
    read_slow(slow);
    assert_int_equal(server_stop(&s), 0);
}

static void test_full(void **state)
{
    (void)state;
    server s = server_start((const char *[]){LONG, "--queue", "1", NULL});
    const int first = ask_later(&s, questions[0], endless);
    assert_true(figure_becomes(&s, "num_requests_running", 1));
    const int second = ask_later(&s, questions[1], "\"temperature\":0,\"max_tokens\":4");
    assert_true(figure_becomes(&s, "num_requests_waiting", 1));
    const int third = ask_later(&s, questions[2], "\"temperature\":0,\"max_tokens\":4");
    reply r = http_read(third);
    assert_int_equal(r.status, 429);
    assert_true(strstr(r.head, "\r\nRetry-After: 1\r\n") != NULL);
    reply_free(&r);
    close(third);
    close(first);
    r = http_read(second); /* its turn has come */
    assert_int_equal(r.status, 200);
    reply_free(&r);
    close(second);
    assert_int_equal(server_stop(&s), 0);
}

/* ---- the end */

/* Asks on a connection that is there already. */
static int status_of(int fd, const char *method, const char *path)
{
    http_send(fd, method, path, "", strcmp(method, "POST") == 0 ? "{\"prompt\":\"The\"}" : "");
    reply r = http_read(fd);
    const int status = r.status;
    reply_free(&r);
    return status;
}

/* What Linux calls the socket that listens on a server's port. */
static unsigned long listening(const server *s)
{
    char line[512];
    unsigned long inode = 0;
    FILE *const f = fopen("/proc/net/tcp", "r");
    assert_non_null(f);
    while (inode == 0 && fgets(line, sizeof line, f)) {
        unsigned port, status;
        unsigned long found;
        if (sscanf(line, " %*d: %*x:%x %*x:%*x %x %*s %*s %*s %*d %*d %lu", &port, &status,
                   &found) == 3 &&
            port == (unsigned)s->port && status == 10)
            inode = found;
    }
    fclose(f);
    return inode;
}

static bool holds(const server *s, unsigned long inode)
{
    char path[64], name[320], to[64], wanted[64];
    bool found = false;
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    snprintf(path, sizeof path, "/proc/%d/fd", (int)s->pid);
    DIR *const d = opendir(path);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) {
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        const ssize_t n = readlink(name, to, sizeof to - 1);
        to[n > 0 ? n : 0] = 0;
        found = found || strcmp(to, wanted) == 0;
    }
    closedir(d);
    return found;
}

/* Who is there is served to the end; nobody else comes in. The socket that nobody comes in by stays
 * until the threads that may look at it have ended. */
static void test_drain(void **state)
{
    (void)state;
    server s = server_start(
        (const char *[]){"--parallel", "1", "--drain", "600", "--drafter", "none", NULL});
    const int kept = http_open(&s, 0), slow = ask_slowly(&s);
    assert_int_equal(status_of(kept, "GET", "/health"), 200);
    const unsigned long door = listening(&s);
    assert_true(door > 0 && holds(&s, door));
    kill(s.pid, SIGTERM);
    while (status_of(kept, "GET", "/health") == 200) sleep_ms(10);
    assert_int_equal(status_of(kept, "GET", "/health"), 503);
    assert_int_equal(status_of(kept, "POST", "/v1/completions"), 503);
    for (int fd; (fd = http_open(&s, 0)) >= 0; close(fd)) sleep_ms(10);
    assert_true(holds(&s, door));
    close(kept);
    read_slow(slow);
    assert_int_equal(server_wait(&s), 0);
}

/* What is not done in time is told so. */
static void test_drain_late(void **state)
{
    (void)state;
    server s = server_start((const char *[]){LONG, "--drain", "0", NULL});
    const int streamed = ask_later(&s, questions[0], endless);
    assert_true(figure_becomes(&s, "num_requests_running", 1));
    const int waiting = ask_later(&s, questions[1], "\"temperature\":0");
    assert_true(figure_becomes(&s, "num_requests_waiting", 1));
    kill(s.pid, SIGINT);
    reply r = http_read(streamed);
    assert_int_equal(r.status, 200);
    assert_true(strstr(r.body, "data: {\"error\":{\"message\":\"the server is shutting down\"") !=
                NULL);
    reply_free(&r);
    r = http_read(waiting);
    assert_int_equal(r.status, 503);
    reply_free(&r);
    close(streamed);
    close(waiting);
    assert_int_equal(server_wait(&s), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_preemption),
        cmocka_unit_test(test_context),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_prefix_of_others),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_drain_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
