/* SPDX-License-Identifier: Apache-2.0
 * Tools of a request, and which of them has to be called. */
#include <string.h>

#include "serve/fields.h"

enum { MOST_TOOLS = 128, MOST_CALLS = 8 };

static bool check_tool(const json_t *tool, serve_error *e)
{
    const char *const type = json_string_value(json_object_get(tool, "type"));
    const json_t *const f = json_object_get(tool, "function");
    const json_t *const parameters = serve_field(f, "parameters");
    if (!type || strcmp(type, "function") != 0 || !json_string_length(json_object_get(f, "name")))
        return serve_refuse(e, "tools",
                            "tools: each must be {\"type\": \"function\", \"function\": {\"name\": "
                            "...}}; there are no other tools here");
    if (parameters && !json_is_object(parameters))
        return serve_refuse(e, "tools", "tools: parameters must be a JSON schema, an object");
    return true;
}

/* {"type": "function", "function": {"name": ...}} */
static bool read_named(const json_t *how, serve_tools *t, serve_error *e)
{
    const json_t *const f = json_object_get(how, "function");
    const char *const name = json_string_value(json_object_get(f, "name"));
    t->only = name ? serve_tool_named(t->list, name) : NULL;
    if (t->only) return true;
    return serve_refuse(e, "tool_choice",
                        "tool_choice must be \"auto\", \"none\", \"required\", or {\"type\": "
                        "\"function\", \"function\": {\"name\": one of tools}}");
}

static bool read_choice(const json_t *o, serve_tools *t, serve_error *e)
{
    const json_t *const how = serve_field(o, "tool_choice");
    const char *const word = json_string_value(how);
    if (!how) return true;
    t->needed = !word || strcmp(word, "required") == 0;
    if (word && strcmp(word, "none") == 0) t->list = NULL;
    if (word && (t->needed || strcmp(word, "none") == 0 || strcmp(word, "auto") == 0))
        return !t->needed || t->list ||
               serve_refuse(e, "tool_choice", "tool_choice needs tools to choose from");
    return read_named(how, t, e);
}

bool serve_read_tools(const json_t *o, serve_tools *t, serve_error *e)
{
    const json_t *const list = serve_field(o, "tools");
    *t = (serve_tools){.parallel = true};
    if (list && (!json_is_array(list) || json_array_size(list) > MOST_TOOLS))
        return serve_refuse(e, "tools", "tools must be a list of at most %d", MOST_TOOLS);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!check_tool(json_array_get(list, i), e)) return false;
    t->list = json_array_size(list) > 0 ? list : NULL;
    return serve_field_bool(o, "parallel_tool_calls", &t->parallel, e) && read_choice(o, t, e);
}

/* ---- as a format */

static void add(cli_bytes *b, const char *text)
{
    cli_bytes_add(b, text, strlen(text));
}

/* Of a call all but its arguments. With tags these would be no JSON, so it is an object there,
 * too. */
static grammar_piece piece_of(const serve_call_form *form, const json_t *f, const json_t *any)
{
    const json_t *const parameters = serve_field(f, "parameters"), *const name =
                                                                       json_object_get(f, "name");
    char *const quoted = json_dumps(name, JSON_ENCODE_ANY);
    cli_bytes before = {0}, after = {0};
    add(&before, form->before);
    add(&after, "");
    if (form->kind == SERVE_CALL_NAMED) {
        add(&before, json_string_value(name));
        add(&before, form->parting);
    } else {
        add(&before, "{\"name\": ");
        if (quoted) add(&before, quoted);
        add(&before, ", \"");
        add(&before, form->arguments);
        add(&before, "\": ");
        add(&after, "}");
    }
    add(&after, form->after);
    free(quoted);
    return (grammar_piece){before.p, parameters ? parameters : any, after.p};
}

bool serve_tools_format(serve_server *s, serve_request *r, const json_t *schema, serve_error *e)
{
    const serve_tools *const t = &r->tools;
    const serve_call_form *const form = s->call_form;
    const size_t n_tools = t->only ? 1 : json_array_size(t->list);
    const bool several = t->needed && !t->only && t->parallel && form->opening[0];
    json_t *const any = json_pack("{s:s}", "type", "object");
    grammar_piece *const pieces = cli_array(NULL, n_tools + 1, sizeof *pieces);
    for (size_t i = 0; i < n_tools; i++) {
        const json_t *const f =
            t->only ? t->only : json_object_get(json_array_get(t->list, i), "function");
        pieces[i] = piece_of(form, f, any);
    }
    if (schema) pieces[n_tools] = (grammar_piece){"", schema, ""};
    r->format = serve_format_get(s, pieces, n_tools + (schema != NULL), form->between,
                                 several ? MOST_CALLS : 1, "tools", e);
    for (size_t i = 0; i < n_tools; i++) {
        free((char *)(uintptr_t)pieces[i].before);
        free((char *)(uintptr_t)pieces[i].after);
    }
    free(pieces);
    json_decref(any);
    return r->format;
}
