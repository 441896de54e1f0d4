/* SPDX-License-Identifier: Apache-2.0
 * foretoken serve: calls of tools in the forms of Mistral, Qwen3-Coder and DeepSeek. The model is
 * the demo model with one of its control tokens renamed. */
#include "support.h"

#include "serveclient.h"

static const char word[] = "[TOOL_CALLS]", *const forms[] = {"list",   "named", "tags",
                                                             "fenced", "plain", "alone"};

enum { N = 6, WORD = 3 /* its token */ };

static server servers[N], thinking, built_in;
static char path[] = "/tmp/foretoken-calls-XXXXXX";

/* The demo model, whose <|im_start|> is the word, of the same length. */
static void write_model(void)
{
    static const char old[] = "\x0C\0\0\0\0\0\0\0<|im_start|>";
    FILE *f = fopen(FTK_MODELS_DIR "/foretoken-demo-q8_0.gguf", "rb"), *to;
    const int fd = mkstemp(path);
    if (!f || fd < 0 || !(to = fdopen(fd, "wb"))) fail_msg("no model");
    fseek(f, 0, SEEK_END);
    const size_t n = (size_t)ftell(f);
    char *const bytes = malloc(n);
    rewind(f);
    assert_int_equal(fread(bytes, 1, n, f), n);
    char *const at = memmem(bytes, n, old, sizeof old - 1);
    assert_non_null(at);
    memcpy(at + 8, word, sizeof word - 1);
    assert_int_equal(fwrite(bytes, 1, n, to), n);
    assert_int_equal(fclose(to), 0);
    fclose(f);
    free(bytes);
}

static int start(void **state)
{
    (void)state;
    write_model();
    for (size_t i = 0; i < N; i++) {
        char vars[64];
        snprintf(vars, sizeof vars, "{\"form\":\"%s\"}", forms[i]);
        const char *const file = i < 2    ? FTK_CASES_DIR "/tools_mistral.jinja"
                                 : i == 2 ? FTK_CASES_DIR "/tools_tags.jinja"
                                          : FTK_CASES_DIR "/tools_deepseek.jinja";
        servers[i] = server_start((const char *[]){"-m", path, "--template-file", file,
                                                   "--template-vars", vars, "--budget", "4", NULL});
    }
    thinking =
        server_start((const char *[]){"--template-file", FTK_CASES_DIR "/thoughts.jinja", NULL});
    built_in = server_start((const char *[]){"--template", "chatml", NULL});
    return 0;
}

static int stop(void **state)
{
    (void)state;
    int status = server_stop(&thinking) | server_stop(&built_in);
    for (size_t i = 0; i < N; i++) status |= server_stop(&servers[i]);
    remove(path);
    return status;
}

#define TOOLS                                                                                      \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":{\"type\":"  \
    "\"object\",\"properties\":{\"where\":{\"enum\":[\"here\",\"there\"]}},\"required\":["         \
    "\"where\"],\"additionalProperties\":false}}},{\"type\":\"function\",\"function\":{\"name\":"  \
    "\"wait\",\"parameters\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\","    \
    "\"minimum\":1,\"maximum\":9}},\"required\":[\"n\"],\"additionalProperties\":false}}}],"       \
    "\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"Look and wait.\"}]"

static void assert_call(size_t form, const json_t *call, const char *name)
{
    const json_t *const f = json_object_get(call, "function");
    const char *const id = json_string_value(json_object_get(call, "id"));
    const char *const own = json_string_value(json_object_get(f, "name"));
    if (form < 2)
        assert_int_equal(strlen(id), 9);
    else
        assert_int_equal(strncmp(id, "call_", 5), 0);
    if (name) assert_string_equal(own, name);
    json_t *v = json_loads(json_string_value(json_object_get(f, "arguments")), 0, NULL);
    assert_non_null(json_object_get(v, strcmp(own, "look") == 0 ? "where" : "n"));
    json_decref(v);
}

/* With the control token and without it, whole and streamed. */
static void test_required(void **state)
{
    (void)state;
    for (size_t i = 0; i < N; i++) {
        int64_t n_tokens[2];
        for (int likes = 0; likes < 2; likes++) {
            char body[2048];
            snprintf(body, sizeof body,
                     "{" TOOLS ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":"
                     "\"wait\"}},\"logit_bias\":{\"%d\":%d}}",
                     WORD, likes ? 100 : -100);
            reply r = post(&servers[i], "/v1/chat/completions", body);
            if (r.status != 200) fail_msg("%s: %s", forms[i], r.body);
            const json_t *const calls = json_at(&r, "choices", "message", "tool_calls");
            if (json_array_size(calls) != 1) fail_msg("%s: %s", forms[i], r.body);
            assert_call(i, json_array_get(calls, 0), "wait");
            assert_string_equal(text_at(&r, "choices", "finish_reason", NULL), "tool_calls");
            assert_true(json_is_null(json_at(&r, "choices", "message", "content")));
            n_tokens[likes] = json_integer_value(json_at(&r, "usage", "completion_tokens", NULL));
            reply_free(&r);
        }
        if (i < 2) assert_true(n_tokens[1] < n_tokens[0]);
    }
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    for (size_t i = 0; i < N; i++)
        for (int parallel = 0; parallel < 2; parallel++) {
            char body[2048];
            snprintf(body, sizeof body,
                     "{" TOOLS ",\"stream\":true,\"tool_choice\":\"required\",\"max_tokens\":200,"
                     "\"parallel_tool_calls\":%s}",
                     parallel ? "true" : "false");
            reply r = post(&servers[i], "/v1/chat/completions", body);
            assert_int_equal(r.status, 200);
            int n_calls = 0;
            for (const char *at = r.body; (at = strstr(at, "data: {")); at++) {
                json_t *const event = json_loads(at + 6, JSON_DISABLE_EOF_CHECK, NULL);
                const json_t *const c = json_array_get(json_object_get(event, "choices"), 0);
                const json_t *const calls =
                    json_object_get(json_object_get(c, "delta"), "tool_calls");
                if (calls) assert_call(i, json_array_get(calls, 0), NULL);
                n_calls += calls != NULL;
                json_decref(event);
            }
            if (parallel)
                assert_true(n_calls >= 1 && n_calls <= 8);
            else
                assert_int_equal(n_calls, 1);
            reply_free(&r);
        }
}

#define TALK(content)                                                                              \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"[TOOL_CALLS]\"},{\"role\":\"assistant\","     \
    "\"content\":" content ",\"tool_calls\":[{\"id\":\"abcdefgh1\",\"type\":\"function\","         \
    "\"function\":{\"name\":\"look\",\"arguments\":\"{\\\"where\\\":\\\"here\\\"}\"}}]},"          \
    "{\"role\":\"tool\",\"tool_call_id\":\"abcdefgh1\",\"content\":\"nothing\"}]}"
#define CALL_NAME                                                                                  \
    "<\uFF5Ctool calls begin\uFF5C><\uFF5Ctool call begin\uFF5C>look<\uFF5Ctool sep\uFF5C>"
#define PLAIN_CALL                                                                                 \
    CALL_NAME "{\"where\":\"here\"}<\uFF5Ctool call end\uFF5C><\uFF5Ctool calls end\uFF5C>"

/* The conversation, as the model is told it, has the text, and the word as a token so often. */
static void assert_server_told(const server *to, const char *body, size_t n_words, const char *text)
{
    reply r = post(to, "/tokenize", body);
    if (r.status != 200) fail_msg("%s: %s", body, r.body);
    json_t *const tokens = json_object_get(r.json, "tokens");
    for (size_t k = 0; k < json_array_size(tokens); k++)
        n_words -= json_integer_value(json_array_get(tokens, k)) == WORD;
    assert_int_equal(n_words, 0);
    json_t *ask = json_pack("{s:O}", "tokens", tokens);
    char *const asked = json_dumps(ask, 0);
    reply back = post(to, "/detokenize", asked);
    if (!strstr(text_at(&back, "prompt", NULL, NULL), text))
        fail_msg("%s: %s", body, text_at(&back, "prompt", NULL, NULL));
    free(asked);
    json_decref(ask);
    reply_free(&back);
    reply_free(&r);
}

static void assert_told(size_t form, const char *body, size_t n_words, const char *text)
{
    assert_server_told(&servers[form], body, n_words, text);
}

/* Calls of the conversation go through the template, so that its own words are control tokens, and
 * those of a client are not. */
static void test_told(void **state)
{
    (void)state;
    static const char *const shown[] = {
        /* a low block is a space to the demo model */
        "[TOOL_CALLS] [{\"name\": \"look\", \"arguments\": {\"where\": \"here\"}, \"id\": "
        "\"abcdefgh1\"}]",
        "[TOOL_CALLS]look[ARGS]{\"where\": \"here\"}",
        "<tool_call>\n<function=look>\n<parameter=where>\nhere\n</parameter>\n</function>\n"
        "</tool_call>",
        "<\uFF5Ctool calls begin\uFF5C><\uFF5Ctool call begin\uFF5C>function"
        "<\uFF5Ctool sep\uFF5C>look\n```json\n{\"where\":\"here\"}\n```"
        "<\uFF5Ctool call end\uFF5C><\uFF5Ctool calls end\uFF5C>",
        PLAIN_CALL,
        PLAIN_CALL};
    for (size_t i = 0; i < N; i++) assert_told(i, TALK("null"), i < 2 ? 1 : 0, shown[i]);
}

/* A template that shows calls of messages without content only: those beside one go into it. */
static void test_beside_text(void **state)
{
    (void)state;
    assert_told(N - 1, TALK("\"\""), 0, PLAIN_CALL);
    assert_told(N - 1, TALK("\"So:\""), 0, "So:\n" CALL_NAME);
}

/* What the template says of a call that it cannot take. */
static void test_refused(void **state)
{
    (void)state;
    reply r =
        post(&servers[0], "/v1/chat/completions",
             "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"tool_"
             "calls\""
             ":[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"look\",\"arguments\":"
             "\"{}\"}}]}]}");
    assert_int_equal(r.status, 400);
    assert_non_null(strstr(text_at(&r, "error", "message", NULL), "nine characters"));
    reply_free(&r);
    r = post(
        &servers[1], "/v1/chat/completions",
        "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":1}}]}]}");
    assert_int_equal(r.status, 400);
    assert_non_null(strstr(text_at(&r, "error", "message", NULL), "tool_calls"));
    reply_free(&r);
}

#define THOUGHT(members)                                                                           \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":"    \
    "\"b\"," members "},{\"role\":\"user\",\"content\":\"c\"}]}"

/* What a model thought comes under three names, and a template that knows no calls sees it under
 * each; null is none, and the first counts. */
static void test_thoughts(void **state)
{
    (void)state;
    static const char *const ways[][2] = {
        {THOUGHT("\"reasoning\":\"why\""), "why, why, why: b"},
        {THOUGHT("\"thinking\":\"why\",\"reasoning\":null"), "why, why, why: b"},
        {THOUGHT("\"reasoning\":\"x\",\"thinking\":\"y\",\"reasoning_content\":\"z\""),
         "z, z, z: b"},
        {THOUGHT("\"reasoning\":\"x\",\"thinking\":\"y\",\"reasoning_content\":null"),
         "y, y, y: b"},
        {THOUGHT("\"name\":\"Ann\""), "none, none, none: Ann b"}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        assert_server_told(&thinking, ways[i][0], 3, ways[i][1]);
    assert_server_told(&built_in, THOUGHT("\"reasoning\":\"why\""), 4, "assistant\nb");
}

static void test_wrong_members(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {THOUGHT("\"reasoning\":{\"effort\":1}"), "messages: reasoning must be a text"},
        {THOUGHT("\"thinking\":1,\"reasoning\":\"a\""), "messages: thinking must be a text"},
        {THOUGHT("\"reasoning_content\":[]"), "messages: reasoning_content must be a text"},
        {THOUGHT("\"tool_call_id\":1"), "messages: tool_call_id must be a text"},
        {THOUGHT("\"name\":false"), "messages: name must be a text"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        reply r = post(&built_in, "/v1/chat/completions", wrong[i][0]);
        assert_int_equal(r.status, 400);
        assert_string_equal(text_at(&r, "error", "message", NULL), wrong[i][1]);
        assert_string_equal(text_at(&r, "error", "param", NULL), "messages");
        reply_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_required),      cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_told),          cmocka_unit_test(test_beside_text),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_thoughts),
        cmocka_unit_test(test_wrong_members),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
