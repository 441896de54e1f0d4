/* SPDX-License-Identifier: Apache-2.0
 * Calls of tools within a model's text. */
#include <string.h>
#include <sys/random.h>

#include "serve/tools.h"

/* Hermes, Qwen and many others; Llama 3. */
static const serve_call_form forms[] = {
    {"<tool_call>\n", "\n</tool_call>", "arguments", "<tool_call>"},
    {"", "", "parameters", "{\"name\": function name, \"parameters\":"},
};

static const char opening[] = "<tool_call>", closing[] = "</tool_call>", blank[] = " \t\r\n";

const serve_call_form *serve_call_form_of(const char *text)
{
    for (size_t i = 0; text && i < sizeof forms / sizeof *forms; i++)
        if (strstr(text, forms[i].sign)) return &forms[i];
    return &forms[0];
}

const json_t *serve_tool_named(const json_t *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *const f = json_object_get(json_array_get(tools, i), "function");
        const char *const own = json_string_value(json_object_get(f, "name"));
        if (own && strcmp(own, name) == 0) return f;
    }
    return NULL;
}

/* ---- writing */

static bool write_call(const serve_call_form *form, const json_t *call, cli_bytes *out)
{
    const json_t *const f = json_object_get(call, "function");
    const json_t *const name = json_object_get(f, "name"), *const text =
                                                               json_object_get(f, "arguments");
    if (!json_is_string(name) || !json_is_string(text)) return false;
    json_t *arguments = json_loads(json_string_value(text), JSON_DECODE_ANY, NULL);
    if (!arguments) arguments = json_incref((json_t *)(uintptr_t)text);
    json_t *j = json_object();
    json_object_set(j, "name", (json_t *)(uintptr_t)name);
    json_object_set_new(j, form->arguments, arguments);
    char *const dump = json_dumps(j, JSON_REAL_PRECISION(17));
    json_decref(j);
    if (!dump) return false;
    cli_bytes_add(out, form->before, strlen(form->before));
    cli_bytes_add(out, dump, strlen(dump));
    cli_bytes_add(out, form->after, strlen(form->after));
    free(dump);
    return true;
}

bool serve_write_calls(const serve_call_form *form, const json_t *calls, cli_bytes *out)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        if (out->n > 0) cli_bytes_add(out, "\n", 1);
        if (!write_call(form, json_array_get(calls, i), out)) return false;
    }
    return json_is_array(calls);
}

/* ---- reading */

static json_t *call_of(const char *name, const json_t *arguments)
{
    uint64_t word = 0;
    char id[32];
    if (getrandom(&word, sizeof word, GRND_NONBLOCK) < 0) word = (uintptr_t)arguments;
    snprintf(id, sizeof id, "call_%016llx", (unsigned long long)word);
    char *const text =
        json_is_string(arguments) ? NULL : json_dumps(arguments, JSON_COMPACT | JSON_ENCODE_ANY);
    json_t *f = json_object(), *j = json_object();
    json_object_set_new(f, "name", json_string(name));
    json_object_set_new(f, "arguments", json_string(text ? text : json_string_value(arguments)));
    json_object_set_new(j, "id", json_string(id));
    json_object_set_new(j, "type", json_string("function"));
    json_object_set_new(j, "function", f);
    free(text);
    return j;
}

/* One call, or several as a list, if the text is that and nothing else. */
static bool read_call(serve_calls *c, const char *p, size_t n)
{
    json_t *const j = json_loadb(p, n, JSON_ALLOW_NUL, NULL);
    json_t *const found = json_array();
    const size_t n_calls = json_is_array(j) ? json_array_size(j) : json_is_object(j);
    bool ok = n_calls > 0;
    for (size_t i = 0; i < n_calls && ok; i++) {
        const json_t *const one = json_is_array(j) ? json_array_get(j, i) : j;
        const char *const name = json_string_value(json_object_get(one, "name"));
        const json_t *arguments = json_object_get(one, c->form->arguments);
        if (!arguments) arguments = json_object_get(one, "arguments");
        if (!arguments) arguments = json_object_get(one, "parameters");
        ok = name && serve_tool_named(c->tools, name) &&
             (json_is_object(arguments) || json_is_string(arguments));
        if (ok) json_array_append_new(found, call_of(name, arguments));
    }
    if (ok && !c->list) c->list = json_array();
    if (ok) json_array_extend(c->list, found);
    json_decref(found);
    json_decref(j);
    return ok;
}

static void drop(cli_bytes *b, size_t n)
{
    b->n -= n;
    memmove(b->p, b->p + n, b->n);
    b->p[b->n] = 0;
}

static void give(serve_calls *c, size_t n, cli_bytes *text)
{
    if (n == 0) return;
    cli_bytes_add(text, c->held.p, n);
    drop(&c->held, n);
    c->begun = true;
}

static size_t space_before(const char *p, size_t n)
{
    while (n > 0 && strchr(blank, p[n - 1])) n--;
    return n;
}

/* What is surely no part of a call: up to space at the end, and what may be an opening's start. */
static size_t surely_text(const cli_bytes *held)
{
    size_t n = held->n;
    for (size_t k = sizeof opening - 2; k > 0; k--)
        if (k <= held->n && memcmp(held->p + held->n - k, opening, k) == 0) {
            n = held->n - k;
            break;
        }
    return space_before(held->p, n);
}

/* Calls with words around them, which text may stand before and behind. Space beside a call
 * belongs to it. */
static void read_marked(serve_calls *c, bool ends, cli_bytes *text)
{
    for (;;) {
        char *const p = c->held.p;
        char *const start = p ? memmem(p, c->held.n, opening, sizeof opening - 1) : NULL;
        if (!start) break;
        const size_t at = (size_t)(start - p), from = at + sizeof opening - 1;
        char *const end = memmem(p + from, c->held.n - from, closing, sizeof closing - 1);
        const size_t to = end ? (size_t)(end - p) : c->held.n;
        if (!end && !ends) {
            give(c, space_before(p, at), text);
            return;
        }
        const size_t behind = end ? to + sizeof closing - 1 : to;
        if (read_call(c, p + from, to - from)) {
            const size_t kept = space_before(p, at);
            give(c, kept, text);
            drop(&c->held, behind - kept);
        } else {
            give(c, behind, text);
        }
    }
    if (!ends) {
        give(c, surely_text(&c->held), text);
        return;
    }
    /* space is all that may stand behind calls without being text */
    if (json_array_size(c->list) > 0 && space_before(c->held.p, c->held.n) == 0) c->held.n = 0;
    give(c, c->held.n, text);
}

/* A call that is the whole answer: it begins like one, or is none. */
static void read_bare(serve_calls *c, bool ends, cli_bytes *text)
{
    const size_t n = c->held.n;
    size_t first = 0;
    while (first < n && strchr(blank, c->held.p[first])) first++;
    const bool like_one =
        !c->begun && first < n && (c->held.p[first] == '{' || c->held.p[first] == '[');
    if (!ends && !c->begun && (like_one || first == n)) return;
    if (like_one && read_call(c, c->held.p, n))
        c->held.n = 0;
    else
        give(c, n, text);
}

void serve_calls_feed(serve_calls *c, const char *p, size_t n, bool ends, cli_bytes *text)
{
    if (!c->form) {
        cli_bytes_add(text, p, n);
        return;
    }
    cli_bytes_add(&c->held, p, n);
    if (c->form->before[0])
        read_marked(c, ends, text);
    else
        read_bare(c, ends, text);
}

void serve_calls_free(serve_calls *c)
{
    cli_bytes_free(&c->held);
    json_decref(c->list);
}
