/* SPDX-License-Identifier: Apache-2.0
 * The forms in which models call tools, and calls written in them. */
#include <string.h>

#include "serve/tools.h"

#define DEEPSEEK_WORDS                                                                             \
    {                                                                                              \
        SERVE_DEEPSEEK_CALLS, SERVE_DEEPSEEK_CALL, SERVE_DEEPSEEK_SEP, SERVE_DEEPSEEK_CALL_END,    \
            SERVE_DEEPSEEK_CALLS_END                                                               \
    }

/* The first one whose sign is there. Sources: the chat templates of Qwen3-Coder; of Mistral Small
 * 3.2 and later; of Mistral 7B v0.3, Nemo and Small 3.1; of Hermes, Qwen 2.5, Qwen 3 and many
 * others; of Granite 3 and Phi-4-mini; of DeepSeek R1 and its distillations, and V3.1; of Llama
 * Nemotron; of Llama 3.1 to 3.3. */
static const serve_call_form forms[] = {
    {.sign = "<function=",
     .kind = SERVE_CALL_TAGS,
     .opening = "<tool_call>",
     .without = "<function=",
     .closing = "</tool_call>",
     .before = "<tool_call>\n",
     .after = "\n</tool_call>",
     .between = "\n",
     .arguments = "arguments",
     .words = {"<tool_call>", "</tool_call>"}},
    {.sign = "[ARGS]",
     .kind = SERVE_CALL_NAMED,
     .opening = "[TOOL_CALLS]",
     .closing = "",
     .before = "[TOOL_CALLS]",
     .after = "",
     .between = "",
     .arguments = "arguments",
     .parting = "[ARGS]",
     .mistral = true,
     .words = {"[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"}},
    {.sign = "[TOOL_CALLS]",
     .kind = SERVE_CALL_JSON,
     .opening = "[TOOL_CALLS]",
     .closing = "",
     .before = "[TOOL_CALLS] [",
     .after = "]",
     .between = "",
     .arguments = "arguments",
     .mistral = true,
     .words = {"[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"}},
    {.sign = "<tool_call>",
     .kind = SERVE_CALL_JSON,
     .opening = "<tool_call>",
     .closing = "</tool_call>",
     .before = "<tool_call>\n",
     .after = "\n</tool_call>",
     .between = "\n",
     .arguments = "arguments",
     .words = {"<tool_call>", "</tool_call>"}},
    {.sign = "<|tool_call|>",
     .kind = SERVE_CALL_JSON,
     .opening = "<|tool_call|>",
     .closing = "<|/tool_call|>",
     .before = "<|tool_call|>[",
     .after = "]",
     .between = "",
     .arguments = "arguments",
     .words = {"<|tool_call|>", "<|/tool_call|>"}},
    {.sign = "function" SERVE_DEEPSEEK_SEP,
     .kind = SERVE_CALL_NAMED,
     .opening = SERVE_DEEPSEEK_CALLS,
     .without = SERVE_DEEPSEEK_CALL,
     .closing = SERVE_DEEPSEEK_CALLS_END,
     .before = SERVE_DEEPSEEK_CALLS SERVE_DEEPSEEK_CALL "function" SERVE_DEEPSEEK_SEP,
     .after = "\n```" SERVE_DEEPSEEK_CALL_END SERVE_DEEPSEEK_CALLS_END,
     .between = "\n",
     .arguments = "arguments",
     .parting = "\n```json\n",
     .words = DEEPSEEK_WORDS},
    {.sign = SERVE_DEEPSEEK_SEP,
     .kind = SERVE_CALL_NAMED,
     .opening = SERVE_DEEPSEEK_CALLS,
     .without = SERVE_DEEPSEEK_CALL,
     .closing = SERVE_DEEPSEEK_CALLS_END,
     .before = SERVE_DEEPSEEK_CALLS SERVE_DEEPSEEK_CALL,
     .after = SERVE_DEEPSEEK_CALL_END SERVE_DEEPSEEK_CALLS_END,
     .between = "",
     .arguments = "arguments",
     .parting = SERVE_DEEPSEEK_SEP,
     .words = DEEPSEEK_WORDS},
    {.sign = "<TOOLCALL>",
     .kind = SERVE_CALL_JSON,
     .opening = "<TOOLCALL>",
     .closing = "</TOOLCALL>",
     .before = "<TOOLCALL>[",
     .after = "]</TOOLCALL>",
     .between = "",
     .arguments = "arguments",
     .words = {"<TOOLCALL>", "</TOOLCALL>"}},
    {.sign = "{\"name\": function name, \"parameters\":",
     .kind = SERVE_CALL_BARE,
     .opening = "",
     .closing = "",
     .before = "",
     .after = "",
     .between = "\n",
     .arguments = "parameters"},
};

static const char usual[] = "<tool_call>";

const serve_call_form *serve_call_form_of(const char *text)
{
    for (size_t i = 0; text && i < sizeof forms / sizeof *forms; i++)
        if (strstr(text, forms[i].sign)) return &forms[i];
    return serve_call_form_of(usual);
}

/* ---- calls of a client */

static const json_t *function_of(const json_t *call)
{
    return json_object_get(call, "function");
}

bool serve_are_calls(const json_t *calls)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *const f = function_of(json_array_get(calls, i));
        if (!json_is_string(json_object_get(f, "name")) ||
            !json_is_string(json_object_get(f, "arguments")))
            return false;
    }
    return json_is_array(calls);
}

/* Their value; the text itself where it is no JSON. */
static json_t *arguments_of(const json_t *f)
{
    const json_t *const text = json_object_get(f, "arguments");
    json_t *const value = json_loads(json_string_value(text), JSON_DECODE_ANY, NULL);
    if (value) return value;
    return json_string_length(text) > 0 ? json_incref((json_t *)(uintptr_t)text) : json_object();
}

json_t *serve_template_calls(const json_t *calls, bool as_text)
{
    json_t *const list = json_array();
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *const call = json_copy(json_array_get(calls, i));
        json_t *const f = json_copy((json_t *)(uintptr_t)function_of(call));
        if (!as_text) json_object_set_new(f, "arguments", arguments_of(f));
        json_object_set_new(call, "function", f);
        json_array_append_new(list, call);
    }
    return list;
}

static void add(cli_bytes *out, const char *text)
{
    cli_bytes_add(out, text, strlen(text));
}

static void add_json(cli_bytes *out, const json_t *j)
{
    char *const text = json_dumps(j, JSON_REAL_PRECISION(17) | JSON_ENCODE_ANY);
    if (text) add(out, text);
    free(text);
}

static void write_tags(const char *name, const json_t *arguments, cli_bytes *out)
{
    const char *key;
    const json_t *v;
    add(out, "<function=");
    add(out, name);
    add(out, ">\n");
    json_object_foreach((json_t *)(uintptr_t)arguments, key, v)
    {
        add(out, "<parameter=");
        add(out, key);
        add(out, ">\n");
        if (json_is_string(v))
            cli_bytes_add(out, json_string_value(v), json_string_length(v));
        else
            add_json(out, v);
        add(out, "\n</parameter>\n");
    }
    add(out, "</function>");
}

static void write_object(const serve_call_form *form, const json_t *name, const json_t *arguments,
                         cli_bytes *out)
{
    add(out, "{\"name\": ");
    add_json(out, name);
    add(out, ", \"");
    add(out, form->arguments);
    add(out, "\": ");
    add_json(out, arguments);
    add(out, "}");
}

void serve_write_calls(const serve_call_form *form, const json_t *calls, cli_bytes *out)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *const f = function_of(json_array_get(calls, i));
        const json_t *const name = json_object_get(f, "name");
        json_t *const arguments = arguments_of(f);
        if (out->n > 0) add(out, i > 0 ? form->between : "\n");
        add(out, form->before);
        if (form->kind == SERVE_CALL_NAMED) {
            add(out, json_string_value(name));
            add(out, form->parting);
            add_json(out, arguments);
        } else if (form->kind == SERVE_CALL_TAGS) {
            write_tags(json_string_value(name), arguments, out);
        } else {
            write_object(form, name, arguments, out);
        }
        add(out, form->after);
        json_decref(arguments);
    }
}
