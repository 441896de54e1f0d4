/* SPDX-License-Identifier: Apache-2.0
 * foretoken serve: answers that have a form, calls of tools, predictions. */
#include "support.h"

#include "jsonfits.h"
#include "serveclient.h"

static server drafting, plain; /* with drafts and without */

#define TEMPLATE "--template-file", FTK_CASES_DIR "/tools.jinja"

static int start(void **state)
{
    (void)state;
    drafting = server_start((const char *[]){TEMPLATE, "--budget", "6", NULL});
    plain = server_start((const char *[]){TEMPLATE, "--drafter", "none", NULL});
    return 0;
}

static int stop(void **state)
{
    (void)state;
    const int status = server_stop(&drafting);
    return server_stop(&plain) || status;
}

/* Fields beside messages with one question. */
static char *body_of(const char *fields)
{
    char *body = calloc(1, strlen(fields) + 200);
    sprintf(body, "{%s,\"messages\":[{\"role\":\"user\",\"content\":\"Tell me of a cat.\"}]}",
            fields);
    return body;
}

static reply ask_chat(const server *s, const char *fields)
{
    char *body = body_of(fields);
    reply r = post(s, "/v1/chat/completions", body);
    if (r.status != 200) fail_msg("%s: %s", body, r.body);
    free(body);
    return r;
}

static int64_t detail(const reply *r, const char *name)
{
    return json_integer_value(
        json_object_get(json_at(r, "usage", "completion_tokens_details", NULL), name));
}

#define CAT                                                                                        \
    "{\"type\":\"object\",\"properties\":{\"description\":{\"type\":\"string\",\"maxLength\":20}," \
    "\"lives_at_home\":{\"type\":\"boolean\"},\"favourite_food\":{\"enum\":[\"fish\",\"mice\"]},"  \
    "\"age\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":20}},\"required\":[\"description\","  \
    "\"lives_at_home\",\"favourite_food\",\"age\"],\"additionalProperties\":false}"
#define AS_CAT                                                                                     \
    "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"cat\",\"strict\":"  \
    "true,\"schema\":" CAT "}}"

static void assert_cat(char *text)
{
    json_t *v = json_loads(text, 0, NULL), *schema = json_loads(CAT, 0, NULL);
    if (!v || !json_fits(v, schema, schema)) fail_msg("no cat: %s", text);
    json_decref(v);
    json_decref(schema);
    free(text);
}

/* Answers fit, are the same with drafts, whole and in pieces; of what is forced most is drafted. */
static void test_schema(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        char fields[1024], streamed[1100];
        snprintf(fields, sizeof fields, "\"temperature\":%d,\"seed\":4,\"max_tokens\":300," AS_CAT,
                 i);
        snprintf(streamed, sizeof streamed, "\"stream\":true,%s", fields);
        reply a = ask_chat(&drafting, fields), b = ask_chat(&plain, fields);
        reply c = ask_chat(&drafting, streamed);
        char *text = text_of(&a, 0), *same = text_of(&b, 0), *pieces = streamed_text(&c, 0, true);
        assert_string_equal(text, same);
        assert_string_equal(text, pieces);
        assert_string_equal(text_at(&a, "choices", "finish_reason", NULL), "stop");
        assert_true(detail(&a, "accepted_prediction_tokens") >= 10);
        free(same);
        free(pieces);
        assert_cat(text);
        reply_free(&a);
        reply_free(&b);
        reply_free(&c);
    }
    reply r = ask_chat(&drafting, "\"n\":3,\"seed\":1,\"max_tokens\":300," AS_CAT);
    for (size_t i = 0; i < 3; i++) assert_cat(text_of(&r, i));
    reply_free(&r);
}

static void test_object(void **state)
{
    (void)state;
    reply r =
        ask_chat(&drafting, "\"temperature\":0,\"max_tokens\":250,\"response_format\":{\"type\":"
                            "\"json_object\"}");
    char *text = text_of(&r, 0);
    assert_int_equal(text[strspn(text, " ")], '{');
    if (strcmp(text_at(&r, "choices", "finish_reason", NULL), "stop") == 0) {
        json_t *v = json_loads(text, 0, NULL);
        assert_true(json_is_object(v));
        json_decref(v);
    }
    free(text);
    reply_free(&r);
    r = post(
        &drafting, "/v1/completions",
        "{\"prompt\":\"A number:\",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
        "{\"schema\":{\"type\":\"integer\",\"minimum\":10,\"maximum\":12}}}}");
    text = text_of(&r, 0);
    assert_true(atoi(text) >= 10 && atoi(text) <= 12);
    free(text);
    reply_free(&r);
}

/* The schema stands elsewhere in what clients of other servers send. */
static void test_object_with_schema(void **state)
{
    (void)state;
    static const char *const places[] = {"schema", "value"};
    for (int i = 0; i < 2; i++) {
        char fields[256];
        snprintf(
            fields, sizeof fields,
            "\"max_tokens\":60,\"response_format\":{\"type\":\"json_object\",\"%s\":{\"const\":"
            "\"a cat\"}}",
            places[i]);
        reply r = ask_chat(&drafting, fields);
        char *text = text_of(&r, 0);
        assert_string_equal(text, "\"a cat\"");
        free(text);
        reply_free(&r);
    }
    char *body = body_of("\"response_format\":{\"type\":\"json_object\",\"schema\":3}");
    reply r = post(&drafting, "/v1/chat/completions", body);
    assert_int_equal(r.status, 400);
    free(body);
    reply_free(&r);
}

/* Signs that end a line, but not one of an event, do not stand in events as they are. */
static void test_ends_of_lines(void **state)
{
    (void)state;
    static const char want[] = "\"a\xe2\x80\xa8 b\xe2\x80\xa9 c\xc2\x85 \xc3\xa9\"";
    for (int stream = 0; stream < 2; stream++) {
        char fields[256];
        snprintf(fields, sizeof fields,
                 "\"max_tokens\":60,\"stream\":%s,\"response_format\":{\"type\":\"json_schema\","
                 "\"json_schema\":{\"schema\":{\"const\":%s}}}",
                 stream ? "true" : "false", want);
        reply r = ask_chat(&drafting, fields);
        char *text = stream ? streamed_text(&r, 0, true) : text_of(&r, 0);
        assert_string_equal(text, want);
        assert_null(strstr(r.body, "\xe2\x80\xa8"));
        assert_null(strstr(r.body, "\xe2\x80\xa9"));
        assert_null(strstr(r.body, "\xc2\x85"));
        free(text);
        reply_free(&r);
    }
}

/* The answer itself, predicted: it is told, and stays what it is; so it does with one that is
 * wrong. */
static void test_prediction(void **state)
{
    (void)state;
    reply r = ask_chat(&plain, "\"temperature\":0,\"max_tokens\":24");
    char *text = text_of(&r, 0);
    reply_free(&r);
    for (int i = 0; i < 4; i++) {
        json_t *v = json_pack("{s:s,s:o}", "type", "content", "content",
                              i == 0   ? json_string(text)
                              : i == 1 ? json_pack("[{s:s,s:s}]", "type", "text", "text", text)
                              : i == 2 ? json_string("Nothing of that kind was ever said.")
                                       : json_string(""));
        char *dump = json_dumps(v, 0), fields[2048];
        snprintf(fields, sizeof fields, "\"temperature\":0,\"max_tokens\":24,\"prediction\":%s",
                 dump);
        reply a = ask_chat(i % 2 ? &plain : &drafting, fields);
        char *said = text_of(&a, 0);
        assert_string_equal(said, text);
        const int64_t right = detail(&a, "accepted_prediction_tokens");
        const int64_t wrong = detail(&a, "rejected_prediction_tokens");
        if (i < 2 && (right < 8 || wrong > 2)) fail_msg("%d %d: %s", (int)right, (int)wrong, text);
        if (i == 2) assert_true(right <= 3 && wrong >= 5);
        if (i == 3) assert_true(right == 0 && wrong == 0);
        free(said);
        free(dump);
        json_decref(v);
        reply_free(&a);
    }
    free(text);
}

/* ---- tools */

#define TOOLS                                                                                      \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"look\",\"parameters\":{\"type\":"  \
    "\"object\",\"properties\":{\"where\":{\"enum\":[\"here\",\"there\"]}},\"required\":["         \
    "\"where\"],\"additionalProperties\":false}}},{\"type\":\"function\",\"function\":{\"name\":"  \
    "\"wait\",\"parameters\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\","    \
    "\"minimum\":1,\"maximum\":9}},\"required\":[\"n\"],\"additionalProperties\":false}}}],"       \
    "\"temperature\":0,\"parallel_tool_calls\":false"

static void assert_call(const json_t *call, const char *name, const char *key)
{
    const json_t *const f = json_object_get(call, "function");
    assert_true(strncmp(json_string_value(json_object_get(call, "id")), "call_", 5) == 0);
    if (name) assert_string_equal(json_string_value(json_object_get(f, "name")), name);
    json_t *v = json_loads(json_string_value(json_object_get(f, "arguments")), 0, NULL);
    assert_true(json_is_object(v) && (!key || json_object_get(v, key)));
    json_decref(v);
}

static void test_tools(void **state)
{
    (void)state;
    reply r = ask_chat(&drafting, TOOLS ",\"tool_choice\":\"required\"");
    const json_t *calls = json_at(&r, "choices", "message", "tool_calls");
    assert_int_equal(json_array_size(calls), 1);
    assert_call(json_array_get(calls, 0), NULL, NULL);
    assert_true(json_is_null(json_at(&r, "choices", "message", "content")));
    assert_string_equal(text_at(&r, "choices", "finish_reason", NULL), "tool_calls");
    reply_free(&r);
    r = ask_chat(&drafting,
                 TOOLS ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"wait\"}}");
    calls = json_at(&r, "choices", "message", "tool_calls");
    assert_int_equal(json_array_size(calls), 1);
    assert_call(json_array_get(calls, 0), "wait", "n");
    reply_free(&r);
    r = ask_chat(&drafting, TOOLS ",\"max_tokens\":8,\"tool_choice\":\"auto\"");
    assert_true(json_is_string(json_at(&r, "choices", "message", "content")));
    const int64_t shown = json_integer_value(json_at(&r, "usage", "prompt_tokens", NULL));
    reply_free(&r);
    r = ask_chat(&drafting, TOOLS ",\"max_tokens\":8,\"tool_choice\":\"none\"");
    assert_true(json_integer_value(json_at(&r, "usage", "prompt_tokens", NULL)) < shown);
    reply_free(&r);
}

static void test_tools_streamed(void **state)
{
    (void)state;
    reply r = ask_chat(&drafting, TOOLS ",\"stream\":true,\"tool_choice\":\"required\"");
    int n_calls = 0;
    for (const char *at = r.body; (at = strstr(at, "data: {")); at++) {
        json_t *const event = json_loads(at + 6, JSON_DISABLE_EOF_CHECK, NULL);
        const json_t *const c = json_array_get(json_object_get(event, "choices"), 0);
        const json_t *const calls = json_object_get(json_object_get(c, "delta"), "tool_calls");
        if (calls) {
            const json_t *const call = json_array_get(calls, 0);
            assert_int_equal(json_integer_value(json_object_get(call, "index")), n_calls++);
            assert_call(call, NULL, NULL);
        }
        json_decref(event);
    }
    assert_int_equal(n_calls, 1);
    assert_true(strstr(r.body, "\"finish_reason\":\"tool_calls\"") != NULL);
    reply_free(&r);
}

/* Calls and their results go back into the conversation: as text of the model's own form. */
static void test_tools_told(void **state)
{
    (void)state;
    static const char
        called[] =
            "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"call_1\",\"type\":"
            "\"function\",\"function\":{\"name\":\"look\",\"arguments\":\"{\\\"where\\\":"
            "\\\"here\\\"}\"}}]}",
        written[] =
            "{\"role\":\"assistant\",\"content\":\"<tool_call>\\n{\\\"name\\\": \\\"look\\\", "
            "\\\"arguments\\\": {\\\"where\\\": \\\"here\\\"}}\\n</tool_call>\"}";
    char *tokens[2];
    for (int i = 0; i < 2; i++) {
        char body[2048];
        snprintf(body, sizeof body,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"Look.\"},%s,{\"role\":\"tool\","
                 "\"tool_call_id\":\"call_1\",\"content\":\"nothing\"}]," TOOLS "}",
                 i ? written : called);
        reply r = post(&drafting, "/tokenize", body);
        assert_int_equal(r.status, 200);
        tokens[i] = json_dumps(json_object_get(r.json, "tokens"), 0);
        reply_free(&r);
    }
    assert_string_equal(tokens[0], tokens[1]);
    free(tokens[0]);
    free(tokens[1]);
}

/* As lm-eval asks for it: control tokens are looked up by their texts. */
static void test_tokenizer_info(void **state)
{
    (void)state;
    reply r = ask(&drafting, "GET", "/tokenizer_info", "");
    char body[256];
    const char *const eos = text_at(&r, "eos_token", NULL, NULL);
    assert_true(strstr(text_at(&r, "chat_template", NULL, NULL), "tool_call") != NULL);
    snprintf(body, sizeof body, "{\"prompt\":\"%s\",\"add_special_tokens\":false}", eos);
    reply ids = post(&drafting, "/tokenize", body);
    assert_int_equal(json_integer_value(json_at(&ids, "count", NULL, NULL)), 1);
    reply_free(&ids);
    snprintf(body, sizeof body,
             "{\"prompt\":\"%s\",\"add_special_tokens\":false,\"parse_special\":false}", eos);
    ids = post(&drafting, "/tokenize", body);
    assert_true(json_integer_value(json_at(&ids, "count", NULL, NULL)) > 1);
    reply_free(&ids);
    reply_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_object),
        cmocka_unit_test(test_object_with_schema),
        cmocka_unit_test(test_ends_of_lines),
        cmocka_unit_test(test_prediction),
        cmocka_unit_test(test_tools),
        cmocka_unit_test(test_tools_streamed),
        cmocka_unit_test(test_tools_told),
        cmocka_unit_test(test_tokenizer_info),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
