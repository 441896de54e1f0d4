/* SPDX-License-Identifier: Apache-2.0
 * Calls of tools out of a model's text, in whatever pieces it comes. */
#include "support.h"

#include "serve/tools.h"

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},{\"type\":\"function\",\"function\":"
    "{\"name\":\"get\"}},{\"type\":\"function\",\"function\":{\"name\":\"put\",\"parameters\":{"
    "\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"},\"n\":{\"type\":"
    "\"integer\"},\"maybe\":{\"type\":[\"string\",\"null\"]},\"all\":{\"type\":\"array\"}}}}}]";
static const char llama_sign[] = "{\"name\": function name, \"parameters\":";

#define CALLS   SERVE_DEEPSEEK_CALLS
#define CALL    SERVE_DEEPSEEK_CALL
#define SEP     SERVE_DEEPSEEK_SEP
#define END     SERVE_DEEPSEEK_CALL_END
#define ALL_END SERVE_DEEPSEEK_CALLS_END

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
    {llama_sign, "{\"name\":\"f\",\"parameters\":{}}; {\"name\":\"get\",\"parameters\":{}}", "",
     "f{}get{}"},
    {llama_sign, "{\"name\":\"f\",\"parameters\":{}} then",
     "{\"name\":\"f\",\"parameters\":{}} then", ""},
    /* the closing word within a text is none; what lacks a bracket is no call */
    {"<tool_call>",
     "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"</tool_call>\"}}</tool_call>!", "!",
     "f{\"a\":\"</tool_call>\"}"},
    {"<tool_call>", "<tool_call>{\"name\":\"f\",\"arguments\":{}</tool_call> and",
     "<tool_call>{\"name\":\"f\",\"arguments\":{}</tool_call> and", ""},
    {"<tool_call>",
     "<tool_call>[{\"name\":\"f\",\"arguments\":{}},{\"name\":\"get\",\"arguments\":{}}]"
     "</tool_call>",
     "", "f{}get{}"},
    /* an answer that was cut within the closing word */
    {"<tool_call>", "<tool_call>{\"name\":\"f\",\"arguments\":{}}\n</", "", "f{}"},
    {"<tool_call>", "So <tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call", "So", "f{}"},
    {"<tool_call>", "<tool_call>{\"name\":\"f\",\"arguments\":{}}\n</b", "\n</b", "f{}"},
    {"<function=", "<tool_call>\n<function=f>\n</function>\n</tool", "", "f{}"},
    {"<TOOLCALL>", "<TOOLCALL>[{\"name\": \"f\", \"arguments\": {}}]</TOO", "", "f{}"},
    {"function" SEP, CALLS CALL "function" SEP "f\n```json\n{}\n``", "", "f{}"},
    /* Mistral */
    {"[TOOL_CALLS]",
     "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": \"[x]\"}, \"id\": \"abcdefgh1\"}, {"
     "\"name\": \"get\", \"arguments\": {}}]",
     "", "f{\"a\":\"[x]\"}get{}"},
    {"[TOOL_CALLS]", "Wait. [TOOL_CALLS][{\"name\":\"f\",\"arguments\":{}}]", "Wait.", "f{}"},
    {"[TOOL_CALLS]", "[TOOL_CALLS] [{\"name\":\"f\",\"argum",
     "[TOOL_CALLS] [{\"name\":\"f\",\"argum", ""},
    {"[TOOL_CALLS]", "a [TOOL", "a [TOOL", ""},
    {"[TOOL_CALLS]", "[TOOL_CALLS]f[ARGS]{}", "", "f{}"},
    {"[ARGS]", "[TOOL_CALLS]f[ARGS]{\"a\": {\"b\": \"}\"}}[TOOL_CALLS]get[ARGS]{}", "",
     "f{\"a\":{\"b\":\"}\"}}get{}"},
    {"[ARGS]", "Yes.[TOOL_CALLS]get[CALL_ID]a1b2c3d4e[ARGS]{\"k\": 1}", "Yes.", "get{\"k\":1}"},
    {"[ARGS]", "[TOOL_CALLS]f{\"a\": 1}", "", "f{\"a\":1}"},
    {"[ARGS]", "[TOOL_CALLS]other[ARGS]{}", "[TOOL_CALLS]other[ARGS]{}", ""},
    {"[ARGS]", "[TOOL_CALLS]f[ARGS]nothing", "[TOOL_CALLS]f[ARGS]nothing", ""},
    {"[ARGS]", "[TOOL_CALLS]f[ARGS]{\"a\": ", "[TOOL_CALLS]f[ARGS]{\"a\": ", ""},
    {"[ARGS]", "[TOOL_CALLS]f[ARGS]{\"a\" 1} so", "[TOOL_CALLS]f[ARGS]{\"a\" 1} so", ""},
    {"[ARGS]", "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}]", "", "f{}"},
    /* Qwen3-Coder */
    {"<function=",
     "So:\n<tool_call>\n<function=put>\n<parameter=text>\n12\n</parameter>\n<parameter=n>\n12\n"
     "</parameter>\n<parameter=all>\n[1, {\"a\": null}]\n</parameter>\n</function>\n</tool_call>\n",
     "So:", "put{\"text\":\"12\",\"n\":12,\"all\":[1,{\"a\":null}]}"},
    {"<function=",
     "<tool_call><function=put><parameter=text>a\n<b>\n\n</parameter><parameter=maybe>null"
     "</parameter><parameter=n>many</parameter><parameter=x>\ntrue\n</parameter></function>"
     "</tool_call>\n<tool_call>\n<function=f>\n</function>\n</tool_call>",
     "", "put{\"text\":\"a\\n<b>\\n\",\"maybe\":null,\"n\":\"many\",\"x\":true}f{}"},
    {"<function=", "<function=f>\n</function>\n</tool_call> and", " and", "f{}"},
    {"<function=", "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>", "", "f{}"},
    {"<function=", "<tool_call>\n<function=other>\n</function>\n</tool_call>",
     "<tool_call>\n<function=other>\n</function>\n</tool_call>", ""},
    {"<function=", "<tool_call>\n<function=f>\n<parameter=a>\n1\n</param",
     "<tool_call>\n<function=f>\n<parameter=a>\n1\n</param", ""},
    {"<function=", "a <func", "a <func", ""},
    /* Granite, Phi-4-mini */
    {"<|tool_call|>", "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]", "", "f{}"},
    {"<|tool_call|>", "<|tool_call|>[{\"name\":\"get\",\"arguments\":{}}]<|/tool_call|>", "",
     "get{}"},
    /* Nemotron */
    {"<TOOLCALL>",
     "So <TOOLCALL>[{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"get\", \"arguments\": {}}]"
     "</TOOLCALL>",
     "So", "f{}get{}"},
    /* DeepSeek */
    {SEP, "Yes." CALLS CALL "f" SEP "{\"a\": \"```\"}" END CALL "get" SEP "{}" END ALL_END " then",
     "Yes. then", "f{\"a\":\"```\"}get{}"},
    {SEP, CALLS CALL "function" SEP "{}" END ALL_END, CALLS CALL "function" SEP "{}" END ALL_END,
     ""},
    {SEP, CALLS CALL "f" SEP "{\"a\": ", CALLS CALL "f" SEP "{\"a\": ", ""},
    {SEP, CALLS CALL "f" SEP "[1]" END, CALLS CALL "f" SEP "[1]" END, ""},
    {SEP, "a <\uFF5Ctool", "a <\uFF5Ctool", ""},
    {"function" SEP,
     CALLS CALL "function" SEP "f\n```json\n{\"a\": 1}\n```" END "\n" CALL "function" SEP
                "get\n```json\n{}\n```" END ALL_END "\n",
     "", "f{\"a\":1}get{}"},
    {"function" SEP, CALLS "\n" CALL "function" SEP "get\n{}\n" END, "", "get{}"},
    {"function" SEP, CALL "get" SEP "{}", "", "get{}"},
    {"function" SEP, CALLS CALL "function" SEP "other\n{}" END,
     CALLS CALL "function" SEP "other\n{}" END, ""},
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

/* Of several only the first, and nothing behind it. */
static void test_one(void **state)
{
    (void)state;
    static const char *const said[][2] = {
        {"<tool_call>",
         "Now <tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call> and <tool_call>{"
         "\"name\":\"get\",\"arguments\":{}}</tool_call> so"},
        {"[TOOL_CALLS]", "Now [TOOL_CALLS][{\"name\":\"f\",\"arguments\":{}},{\"name\":\"get\","
                         "\"arguments\":{}}] so"},
        {"[ARGS]", "Now[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]get[ARGS]{}"},
    };
    json_t *tools = json_loads(tools_text, 0, NULL);
    for (size_t i = 0; i < 3; i++) {
        serve_calls c = {.form = serve_call_form_of(said[i][0]), .tools = tools, .one = true};
        cli_bytes text = {0};
        size_t full_at = 0, n = strlen(said[i][1]);
        for (size_t at = 0; at < n; at++) {
            serve_calls_feed(&c, said[i][1] + at, 1, at + 1 == n, &text);
            if (!full_at && serve_calls_full(&c)) full_at = at;
        }
        assert_true(full_at > 0 && full_at < n - 3);
        assert_int_equal(json_array_size(c.list), 1);
        assert_string_equal(text.p, "Now");
        cli_bytes_free(&text);
        serve_calls_free(&c);
    }
    json_decref(tools);
}

/* Mistral's are nine letters or digits; a model's own id stays. */
static void test_ids(void **state)
{
    (void)state;
    static const char said[] = "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]f[CALL_ID]a1b2c3d4e[ARGS]{}";
    json_t *tools = json_loads(tools_text, 0, NULL);
    serve_calls c = {.form = serve_call_form_of("[ARGS]"), .tools = tools};
    cli_bytes text = {0};
    serve_calls_feed(&c, said, sizeof said - 1, true, &text);
    const char *const own = json_string_value(json_object_get(json_array_get(c.list, 0), "id"));
    assert_int_equal(strlen(own), 9);
    assert_int_equal(strspn(own, "0123456789abcdefghijklmnopqrstuvwxyz"), 9);
    assert_string_equal(json_string_value(json_object_get(json_array_get(c.list, 1), "id")),
                        "a1b2c3d4e");
    cli_bytes_free(&text);
    serve_calls_free(&c);
    json_decref(tools);
}

/* What was called is written as the model would have. */
static void test_writing(void **state)
{
    (void)state;
    static const char calls[] =
        "[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
        "\"{\\\"a\\\":1,\\\"b\\\":\\\"x\\\"}\"}},{\"function\":{\"name\":\"get\",\"arguments\":"
        "\"\"}}]";
    static const char *const written[][2] = {
        {"<tool_call>",
         "Yes.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1, \"b\": \"x\"}}\n"
         "</tool_call>\n<tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n"
         "</tool_call>"},
        {"[ARGS]", "Yes.\n[TOOL_CALLS]f[ARGS]{\"a\": 1, \"b\": \"x\"}[TOOL_CALLS]get[ARGS]{}"},
        {"<function=",
         "Yes.\n<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=b>"
         "\nx\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=get>\n"
         "</function>\n</tool_call>"},
        {SEP, "Yes.\n" CALLS CALL "f" SEP "{\"a\": 1, \"b\": \"x\"}" END ALL_END CALLS CALL
              "get" SEP "{}" END ALL_END},
    };
    json_t *j = json_loads(calls, 0, NULL);
    cli_bytes out = {0};
    assert_true(serve_are_calls(j));
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        out.n = 0;
        cli_bytes_add(&out, "Yes.", 4);
        serve_write_calls(serve_call_form_of(written[i][0]), j, &out);
        assert_string_equal(out.p, written[i][1]);
    }
    out.n = 0;
    json_array_remove(j, 1);
    serve_write_calls(serve_call_form_of(llama_sign), j, &out);
    assert_string_equal(out.p, "{\"name\": \"f\", \"parameters\": {\"a\": 1, \"b\": \"x\"}}");
    cli_bytes_free(&out);
    json_t *const shown = serve_template_calls(j, false);
    const json_t *const f = json_object_get(json_array_get(shown, 0), "function");
    assert_true(json_is_object(json_object_get(f, "arguments")));
    json_decref(shown);
    json_decref(j);
    assert_false(serve_are_calls(json_true()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
