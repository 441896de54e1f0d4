/* SPDX-License-Identifier: Apache-2.0
 * foretoken serve: requests that are wrong, and how the client is told. */
#include "support.h"

#include <unistd.h>

#include "serveclient.h"

static server shared;

static int start_shared(void **state)
{
    (void)state;
    shared = server_start((const char *[]){"--drafter", "none", NULL});
    return 0;
}

/* Of what clients sent nothing is said. */
static int stop_shared(void **state)
{
    (void)state;
    char *said = server_said(&shared);
    const bool quiet = !strstr(said, "Hello") && !strstr(said, "sky");
    if (!quiet) fprintf(stderr, "%s", said);
    free(said);
    return server_stop(&shared) || !quiet;
}

#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]"

static const struct {
    const char *path, *body;
    int status;
    const char *param;
} wrong[] = {
    {"/v1/chat/completions", "{" HELLO, 400, NULL},
    {"/v1/chat/completions", "[1]", 400, NULL},
    {"/v1/chat/completions", "", 400, NULL},
    {"/v1/chat/completions", "{\"messages\":\"Hello\"}", 400, "messages"},
    {"/v1/chat/completions", "{\"messages\":[]}", 400, "messages"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":3}]}", 400, "messages"},
    {"/v1/chat/completions", "{\"messages\":[{\"content\":\"sky\"}]}", 400, "messages"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"\",\"content\":\"sky\"}]}", 400,
     "messages"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":3,\"content\":\"sky\"}]}", 400, "messages"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\"}]}", 400, "messages"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"contents\":\"a\"}]}", 400,
     "messages"},
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"system\",\"content\":null}]}", 400,
     "messages"},
    {"/v1/chat/completions",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 400,
     "messages"},
    {"/v1/chat/completions", "{\"model\":3," HELLO "}", 400, "model"},
    {"/v1/chat/completions", "{\"temperature\":-1," HELLO "}", 400, "temperature"},
    {"/v1/chat/completions", "{\"temperature\":\"hot\"," HELLO "}", 400, "temperature"},
    {"/v1/chat/completions", "{\"temperature\":1e39," HELLO "}", 400, "temperature"},
    {"/v1/chat/completions", "{\"top_p\":1.5," HELLO "}", 400, "top_p"},
    {"/v1/chat/completions", "{\"top_p\":-0.1," HELLO "}", 400, "top_p"},
    {"/v1/chat/completions", "{\"top_k\":-2," HELLO "}", 400, "top_k"},
    {"/v1/chat/completions", "{\"min_p\":1.5," HELLO "}", 400, "min_p"},
    {"/v1/chat/completions", "{\"min_p\":-0.1," HELLO "}", 400, "min_p"},
    {"/v1/chat/completions", "{\"min_tokens\":-1," HELLO "}", 400, "min_tokens"},
    {"/v1/chat/completions", "{\"min_tokens\":3,\"max_tokens\":2," HELLO "}", 400, "min_tokens"},
    {"/v1/completions", "{\"min_tokens\":17,\"prompt\":\"a\"}", 400, "min_tokens"},
    {"/v1/chat/completions", "{\"frequency_penalty\":-2.1," HELLO "}", 400, "frequency_penalty"},
    {"/v1/chat/completions", "{\"presence_penalty\":3," HELLO "}", 400, "presence_penalty"},
    {"/v1/chat/completions", "{\"repetition_penalty\":0," HELLO "}", 400, "repetition_penalty"},
    {"/v1/chat/completions", "{\"max_tokens\":-2," HELLO "}", 400, "max_tokens"},
    {"/v1/chat/completions", "{\"max_tokens\":1e300," HELLO "}", 400, "max_tokens"},
    {"/v1/chat/completions", "{\"max_tokens\":1.5," HELLO "}", 400, "max_tokens"},
    {"/v1/chat/completions", "{\"n\":0," HELLO "}", 400, "n"},
    {"/v1/chat/completions", "{\"n\":129," HELLO "}", 400, "n"},
    {"/v1/chat/completions", "{\"seed\":\"a\"," HELLO "}", 400, "seed"},
    {"/v1/chat/completions", "{\"stop\":\"\"," HELLO "}", 400, "stop"},
    {"/v1/chat/completions", "{\"stop\":[1]," HELLO "}", 400, "stop"},
    {"/v1/chat/completions", "{\"stream\":1," HELLO "}", 400, "stream"},
    {"/v1/chat/completions", "{\"stream\":true,\"stream_options\":1," HELLO "}", 400,
     "stream_options"},
    {"/v1/chat/completions", "{\"logprobs\":2," HELLO "}", 400, "logprobs"},
    {"/v1/chat/completions", "{\"logprobs\":true,\"top_logprobs\":21," HELLO "}", 400,
     "top_logprobs"},
    {"/v1/chat/completions", "{\"top_logprobs\":2," HELLO "}", 400, "top_logprobs"},
    {"/v1/chat/completions", "{\"logit_bias\":{\"x\":1}," HELLO "}", 400, "logit_bias"},
    {"/v1/chat/completions", "{\"logit_bias\":{\"5000\":1}," HELLO "}", 400, "logit_bias"},
    {"/v1/chat/completions", "{\"logit_bias\":{\"5\":101}," HELLO "}", 400, "logit_bias"},
    {"/v1/chat/completions", "{\"response_format\":{\"type\":\"yaml\"}," HELLO "}", 400,
     "response_format"},
    {"/v1/chat/completions", "{\"response_format\":3," HELLO "}", 400, "response_format"},
    {"/v1/chat/completions", "{\"response_format\":{\"type\":\"json_schema\"}," HELLO "}", 400,
     "response_format"},
    {"/v1/chat/completions",
     "{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"not\":{}}}}"
     "," HELLO "}",
     400, "response_format"},
    {"/v1/completions",
     "{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":[]}},\"prompt\":"
     "\"a\"}",
     400, "response_format"},
    {"/v1/chat/completions", "{\"prediction\":\"text\"," HELLO "}", 400, "prediction"},
    {"/v1/chat/completions", "{\"prediction\":{\"type\":\"content\",\"content\":[3]}," HELLO "}",
     400, "prediction"},
    {"/v1/chat/completions", "{\"tools\":[{\"type\":\"function\"}]," HELLO "}", 400, "tools"},
    {"/v1/chat/completions", "{\"tools\":3," HELLO "}", 400, "tools"},
    {"/v1/chat/completions", "{\"tool_choice\":\"required\"," HELLO "}", 400, "tool_choice"},
    {"/v1/chat/completions", "{\"tool_choice\":\"some\"," HELLO "}", 400, "tool_choice"},
    {"/v1/chat/completions",
     "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]," HELLO "}", 400, "tools"},
    {"/v1/chat/completions",
     "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"not\":{}}}}"
     "],"
     "\"tool_choice\":\"required\"," HELLO "}",
     400, "tools"},
    {"/v1/chat/completions",
     "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"tool_choice\":{\"type\":"
     "\"function\",\"function\":{\"name\":\"g\"}}," HELLO "}",
     400, "tool_choice"},
    {"/v1/chat/completions",
     "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}]}", 400,
     "messages"},
    {"/v1/completions", "{}", 400, "prompt"},
    {"/v1/completions", "{\"prompt\":[]}", 400, "prompt"},
    {"/v1/completions", "{\"prompt\":[4096]}", 400, "prompt"},
    {"/v1/completions", "{\"prompt\":[\"a\",2]}", 400, "prompt"},
    {"/v1/completions", "{\"prompt\":\"a\",\"logprobs\":21}", 400, "logprobs"},
    {"/v1/completions", "{\"prompt\":\"a\",\"suffix\":\"b\"}", 400, "suffix"},
    {"/v1/completions", "{\"prompt\":\"a\",\"n\":2,\"best_of\":3}", 400, "best_of"},
    {"/tokenize", "{}", 400, "prompt"},
    {"/detokenize", "{\"tokens\":[-1]}", 400, "tokens"},
    {"/v1/nothing", "{}", 404, NULL},
    {"/", "", 405, NULL},
    {"/v1/models", "{}", 405, NULL},
};

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        reply r = post(&shared, wrong[i].path, wrong[i].body);
        const char *const param = json_string_value(json_at(&r, "error", "param", NULL));
        const char *const expected = wrong[i].param ? wrong[i].param : "(none)";
        if (r.status != wrong[i].status || strcmp(param ? param : "(none)", expected) != 0)
            fail_msg("%s %s: %d %s", wrong[i].path, wrong[i].body, r.status, r.body);
        assert_true(json_string_length(json_at(&r, "error", "message", NULL)) > 0);
        assert_string_equal(text_at(&r, "error", "type", NULL),
                            r.status == 404 ? "not_found_error" : "invalid_request_error");
        reply_free(&r);
    }
    reply r = ask(&shared, "GET", "/v1/chat/completions", "");
    assert_int_equal(r.status, 405);
    assert_true(strstr(r.head, "\r\nAllow: POST\r\n") != NULL);
    reply_free(&r);
    r = ask(&shared, "GET", "/v1/models/another", "");
    assert_int_equal(r.status, 404);
    reply_free(&r);
}

/* What is wrong about a body, in words. */
static void test_unreadable(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"prompt\":\"\\ud83d\"}", "surrogate"},
        {"{\"prompt\":\"a\\u0000\"}", "NUL"},
        {"{\"prompt\":\"\xff\"}", "UTF-8"},
        {"{\"prompt\":\"a\",\"seed\":18446744073709551616}", "seed is 1.8446744073709552e+19; it"},
        {"{\"prompt\":\"a\",\"max_tokens\":1e19}", "max_tokens is 1e+19; it must be -1 to"},
        {"{\"prompt\":\"a\",\"n\":-9223372036854775809}", "n is -9.2233720368547758e+18; it"},
        {"{\"prompt\":[1,18446744073709551616]}", "no token id"},
        {"{\"user\":18446744073709551616,\"prompt\":\"a\\\"", "too early"},
        {"{\"user\":18446744073709551616,\"temperature\":1e400}", "too large"},
        {"{\"prompt\":", "too early"},
        {"{\"prompt\":x}", "from here on"},
        {"null", "must be a JSON object"},
        {"{\"prompt\":\"a\",\"temperature\":1e300}", "0 to 3.4"},
        {"{\"prompt\":\"a\",\"top_p\":1.0000000001}", "top_p is 1.0000000001; it must be 0 to 1"},
        {"{\"prompt\":\"a\",\"temperature\":NaN}", "from here on"},
        {"{\"prompt\":\"a\",\"temperature\":1e400}", "too large"},
        {"{\"prompt\":[[5],[]]}", "no tokens to go on from"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        reply r = post(&shared, "/v1/completions", cases[i][0]);
        assert_int_equal(r.status, 400);
        if (!strstr(text_at(&r, "error", "message", NULL), cases[i][1]))
            fail_msg("%s: %s", cases[i][0], r.body);
        reply_free(&r);
    }
}

/* What is odd, and right. */
static void test_odd(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"prompt\":\"a\",\"max_tokens\":2.0,\"seed\":3.0,\"logprobs\":false,\"min_p\":1}",
        "{\"prompt\":\"a\",\"max_tokens\":-1,\"stop\":[\"e\",\" \"]}",
        "{\"prompt\":\"a\\ud83d\\ude00\",\"max_tokens\":1,\"logit_bias\":{\"0\":-100},\"user\":3,"
        "\"best_of\":1,\"suffix\":null}",
        "{\"prompt\":\"a\",\"max_tokens\":1,\"seed\":9223372036854775807,\"user\":"
        "[18446744073709551616,-9223372036854775809,\"\\\" 18446744073709551616\"]}",
        "{\"prompt\":\"a\",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{"
        "\"schema\":{"
        "\"type\":\"integer\",\"minimum\":-18446744073709551616,\"maximum\":18446744073709551615}}}"
        "}",
        "{\"prompt\":\"a\",\"max_tokens\":1,\"n\":2,\"best_of\":2,\"suffix\":\"\"}",
        "{\"prompt\":\"a\",\"max_tokens\":2,\"min_tokens\":2}",
        "{\"prompt\":\"a\",\"max_tokens\":-1,\"min_tokens\":20,\"stop\":\"e\"}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        reply r = post(&shared, "/v1/completions", bodies[i]);
        if (r.status != 200) fail_msg("%s: %s", bodies[i], r.body);
        reply_free(&r);
    }
}

/* The ends of the ranges: what leaves the likeliest token alone says what temperature 0 does. */
static void test_likeliest(void **state)
{
    (void)state;
    static const char *const fields[] = {"\"temperature\":0",
                                         "\"temperature\":1e-40",
                                         "\"temperature\":2,\"top_p\":0",
                                         "\"temperature\":2,\"top_p\":1e-300",
                                         "\"temperature\":2,\"top_k\":1",
                                         "\"temperature\":2,\"min_p\":1"};
    char body[256], first[256] = "";
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        snprintf(body, sizeof body, "{\"prompt\":\"The sky is\",\"max_tokens\":12,%s}", fields[i]);
        reply r = post(&shared, "/v1/completions", body);
        assert_int_equal(r.status, 200);
        const char *const text = text_at(&r, "choices", "text", NULL);
        if (i == 0) snprintf(first, sizeof first, "%s", text);
        if (strcmp(text, first) != 0) fail_msg("%s: \"%s\", not \"%s\"", body, text, first);
        reply_free(&r);
    }
}

/* Models have roles of their own: "tool" and "ipython" go to the template as they are. */
static void test_roles(void **state)
{
    (void)state;
    static const char *const roles[] = {"system", "developer", "assistant", "tool", "ipython"};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        char body[256];
        snprintf(body, sizeof body,
                 "{\"max_tokens\":1,\"messages\":[{\"role\":\"%s\",\"content\":\"a\"}]}", roles[i]);
        reply r = post(&shared, "/v1/chat/completions", body);
        if (r.status != 200) fail_msg("%s: %s", roles[i], r.body);
        reply_free(&r);
    }
}

static void test_long_prompt(void **state)
{
    (void)state;
    char *body = calloc(1, 20000);
    strcpy(body, "{\"prompt\":\"");
    for (int i = 0; i < 3000; i++) strcat(body, " sky");
    strcat(body, "\"}");
    reply r = post(&shared, "/v1/completions", body);
    assert_int_equal(r.status, 400);
    assert_string_equal(text_at(&r, "error", "code", NULL), "context_length_exceeded");
    reply_free(&r);
    free(body);
}

static reply ask_with(const server *s, const char *path, const char *header)
{
    const int fd = http_open(s, 0);
    http_send(fd, "GET", path, header, "");
    reply r = http_read(fd);
    close(fd);
    return r;
}

/* Pages from elsewhere may ask where that was allowed, and a browser asks for leave without a
 * key. */
static void test_origin(void **state)
{
    (void)state;
    static const char asks[] = "Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n"
                               "Access-Control-Request-Headers: authorization\r\n";
    server s = server_start((const char *[]){"--api-key", "secret", "--allow-origin", "http://a",
                                             "--drafter", "none", NULL});
    for (int i = 0; i < 2; i++) {
        const int fd = http_open(i ? &shared : &s, 0);
        http_send(fd, "OPTIONS", "/v1/chat/completions", asks, "");
        reply r = http_read(fd);
        close(fd);
        assert_int_equal(r.status, i ? 405 : 204);
        const bool told = strstr(r.head, "Access-Control-Allow-Headers: authorization\r\n");
        assert_int_equal(told, !i);
        reply_free(&r);
    }
    reply r = ask_with(&s, "/v1/models", "Origin: http://a\r\n");
    assert_int_equal(r.status, 401);
    assert_non_null(strstr(r.head, "Access-Control-Allow-Origin: http://a\r\n"));
    reply_free(&r);
    assert_int_equal(server_stop(&s), 0);
}

/* An id that could not stand in a header of its own is not sent back. */
static void test_request_id(void **state)
{
    (void)state;
    reply r = ask_with(&shared, "/health", "X-Request-Id: a-1\r\n");
    assert_non_null(strstr(r.head, "X-Request-Id: a-1\r\n"));
    reply_free(&r);
    r = ask_with(&shared, "/health",
                 "X-Request-Id: a\x01"
                 "b\r\n");
    assert_null(strstr(r.head, "X-Request-Id"));
    reply_free(&r);
}

static void test_key_and_body(void **state)
{
    (void)state;
    server s = server_start(
        (const char *[]){"--api-key", "secret", "--max-body", "2000", "--drafter", "none", NULL});
    const struct {
        const char *path, *header;
        int status;
    } cases[] = {
        {"/v1/models", "", 401},
        {"/v1/models", "Authorization: Bearer secre\r\n", 401},
        {"/v1/models", "Authorization: Bearer secrets\r\n", 401},
        {"/v1/models", "Authorization: Bearer \r\n", 401},
        {"/v1/models", "Authorization: Bearer secret\r\n", 200},
        {"/v1/models", "Authorization: bearer  secret \r\n", 200},
        {"/v1/models", "Authorization: Basic secret\r\n", 401},
        {"/v1/models", "Authorization: secret\r\n", 401},
        {"/v1/models", "api-key: secret\r\n", 200},
        {"/nothing", "", 401},
        {"/health", "", 200},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        reply r = ask_with(&s, cases[i].path, cases[i].header);
        if (r.status != cases[i].status) fail_msg("%s %s", cases[i].path, cases[i].header);
        if (r.status == 401)
            assert_string_equal(text_at(&r, "error", "code", NULL), "invalid_api_key");
        reply_free(&r);
    }
    char *body = calloc(1, 9001);
    for (size_t n = 1000; n <= 9000; n += 4000) { /* taken; read and refused; refused at once */
        memset(body, ' ', n);
        const int fd = http_open(&s, 0);
        http_send(fd, "POST", "/v1/completions", "api-key: secret\r\n", body);
        reply r = http_read(fd);
        close(fd);
        assert_int_equal(r.status, n <= 2000 ? 400 : 413);
        reply_free(&r);
    }
    free(body);
    assert_int_equal(server_stop(&s), 0);
}

static void test_port_taken(void **state)
{
    (void)state;
    char command[1024], said[1024] = "";
    snprintf(command, sizeof command, "%s serve --demo -t 1 --port %d 2>&1", FTK_PROGRAM,
             shared.port);
    FILE *const f = popen(command, "r");
    assert_non_null(f);
    assert_non_null(fgets(said, sizeof said, f));
    assert_int_equal(pclose(f), 1 << 8);
    if (!strstr(said, "Address already in use; try another --port")) fail_msg("%s", said);
}

/* A template that fails is known at the start; what needs none is answered. */
static void test_template(void **state)
{
    (void)state;
    static const char broken[] = "a\n{% if %}";
    char path[] = "/tmp/foretoken-template-XXXXXX";
    const int fd = mkstemp(path);
    assert_int_equal(write(fd, broken, sizeof broken - 1), sizeof broken - 1);
    close(fd);
    server s = server_start((const char *[]){"--template-file", path, "--drafter", "none", NULL});
    char *const said = server_said(&s);
    assert_non_null(strstr(said, "the chat template, line 2: "));
    free(said);
    reply r = post(&s, "/v1/chat/completions", "{" HELLO "}");
    assert_int_equal(r.status, 400);
    reply_free(&r);
    r = post(&s, "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}");
    assert_int_equal(r.status, 200);
    reply_free(&r);
    assert_int_equal(server_stop(&s), 0);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong),        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_odd),          cmocka_unit_test(test_likeliest),
        cmocka_unit_test(test_roles),        cmocka_unit_test(test_long_prompt),
        cmocka_unit_test(test_origin),       cmocka_unit_test(test_request_id),
        cmocka_unit_test(test_key_and_body), cmocka_unit_test(test_port_taken),
        cmocka_unit_test(test_template),
    };
    return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
