/* SPDX-License-Identifier: Apache-2.0
 * Calls of tools out of a model's text, in whatever pieces it comes. */
#include "support.h"

#include "serve/tools.h"

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},{\"type\":\"function\",\"function\":"
    "{\"name\":\"get\"}}]";
static const char llama_sign[] = "{\"name\": function name, \"parameters\":";

/* calls: names and arguments one behind the other */
static const struct {
    const char *sign, *said, *text, *calls;
} cases[] = {
    {"<tool_call>", "Hello, world.", "Hello, world.", ""},
    {"<tool_call>", "  spaces stay  ", "  spaces stay  ", ""},
    {"<tool_call>", "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>", "",
     "f{\"a\":1}"},
    {"<tool_call>", "I look.\n\n<tool_call>{\"name\":\"get\",\"arguments\":{}}</tool_call>\n",
     "I look.", "get{}"},
    {"<tool_call>",
     "<tool_call>\n{\"name\":\"f\",\"arguments\":{}}\n</tool_call>\n<tool_call>\n{\"name\":\"get\","
     "\"arguments\":{\"x\":\"</tool>\"}}\n</tool_call>",
     "", "f{}get{\"x\":\"</tool>\"}"},
    {"<tool_call>", "<tool_call>{\"name\":\"f\",\"arguments\":\"{}\"}", "", "f{}"},
    {"<tool_call>", "<tool_call>{\"name\":\"f\",\"arg", "<tool_call>{\"name\":\"f\",\"arg", ""},
    {"<tool_call>", "<tool_call>{\"name\":\"other\",\"arguments\":{}}</tool_call>",
     "<tool_call>{\"name\":\"other\",\"arguments\":{}}</tool_call>", ""},
    {"<tool_call>", "a <tool_call>nonsense</tool_call> b", "a <tool_call>nonsense</tool_call> b",
     ""},
    {"<tool_call>", "2 < 3 and <tool", "2 < 3 and <tool", ""},
    {"<tool_call>", "{\"name\":\"f\",\"arguments\":{}}", "{\"name\":\"f\",\"arguments\":{}}", ""},
    {llama_sign, "{\"name\": \"f\", \"parameters\": {\"a\": [1, \"x\"]}}", "",
     "f{\"a\":[1,\"x\"]}"},
    {llama_sign, " \n{\"name\": \"get\", \"arguments\": {}}\n", "", "get{}"},
    {llama_sign, "[{\"name\":\"f\",\"parameters\":{}},{\"name\":\"get\",\"parameters\":{}}]", "",
     "f{}get{}"},
    {llama_sign, "{\"name\": \"g\", \"parameters\": {}}", "{\"name\": \"g\", \"parameters\": {}}",
     ""},
    {llama_sign, "{\"colour\": \"red\"}", "{\"colour\": \"red\"}", ""},
    {llama_sign, "Well, {\"name\":\"f\",\"parameters\":{}}",
     "Well, {\"name\":\"f\",\"parameters\":{}}", ""},
    {llama_sign, "", "", ""},
};

static void check(size_t i, size_t piece, const json_t *tools)
{
    serve_calls c = {.form = serve_call_form_of(cases[i].sign), .tools = tools};
    cli_bytes text = {0}, calls = {0};
    cli_bytes_add(&text, "", 0);
    cli_bytes_add(&calls, "", 0);
    const size_t n = strlen(cases[i].said);
    for (size_t at = 0; at < n; at += piece)
        serve_calls_feed(&c, cases[i].said + at, n - at < piece ? n - at : piece, false, &text);
    serve_calls_feed(&c, "", 0, true, &text);
    for (size_t k = 0; k < json_array_size(c.list); k++) {
        const json_t *const f = json_object_get(json_array_get(c.list, k), "function");
        const char *const name = json_string_value(json_object_get(f, "name"));
        const char *const arguments = json_string_value(json_object_get(f, "arguments"));
        cli_bytes_add(&calls, name, strlen(name));
        cli_bytes_add(&calls, arguments, strlen(arguments));
    }
    if (strcmp(text.p, cases[i].text) != 0 || strcmp(calls.p, cases[i].calls) != 0)
        fail_msg("%s in pieces of %zu: \"%s\" and \"%s\"", cases[i].said, piece, text.p, calls.p);
    cli_bytes_free(&text);
    cli_bytes_free(&calls);
    serve_calls_free(&c);
}

static void test_reading(void **state)
{
    (void)state;
    json_t *tools = json_loads(tools_text, 0, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t piece = 1; piece < 60; piece += 1 + piece / 5) check(i, piece, tools);
    json_decref(tools);
}

/* What was called is written as the model would have. */
static void test_writing(void **state)
{
    (void)state;
    static const char calls[] =
        "[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
        "\"{\\\"a\\\":1}\"}},{\"function\":{\"name\":\"get\",\"arguments\":\"\"}}]";
    json_t *j = json_loads(calls, 0, NULL);
    cli_bytes out = {0};
    cli_bytes_add(&out, "Yes.", 4);
    assert_true(serve_write_calls(serve_call_form_of("<tool_call>"), j, &out));
    assert_string_equal(out.p,
                        "Yes.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n"
                        "</tool_call>\n<tool_call>\n{\"name\": \"get\", \"arguments\": \"\"}\n"
                        "</tool_call>");
    out.n = 0;
    json_array_remove(j, 1);
    assert_true(serve_write_calls(serve_call_form_of(llama_sign), j, &out));
    assert_string_equal(out.p, "{\"name\": \"f\", \"parameters\": {\"a\": 1}}");
    cli_bytes_free(&out);
    json_decref(j);
    assert_false(serve_write_calls(serve_call_form_of(NULL), json_true(), &out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
