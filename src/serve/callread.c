/* SPDX-License-Identifier: Apache-2.0
 * Calls read out of a text that may not be whole yet. */
#include <ctype.h>
#include <string.h>
#include <sys/random.h>

#include "serve/tools.h"

enum { MOST_NAME = 256 };

/* ---- a text, and how far it is read */

typedef struct scan {
    const char *p;
    size_t n, at;
    bool ends; /* nothing follows */
} scan;

/* What is not there may come. */
static serve_found missing(const scan *s)
{
    return s->ends ? SERVE_NONE : SERVE_UNDECIDED;
}

static void skip_blanks(scan *s)
{
    while (s->at < s->n && strchr(" \t\r\n", s->p[s->at]) && s->p[s->at]) s->at++;
}

static serve_found next_word(scan *s, const char *word)
{
    const size_t len = strlen(word), left = s->n - s->at, n = left < len ? left : len;
    if (memcmp(s->p + s->at, word, n) != 0) return SERVE_NONE;
    if (n < len) return missing(s);
    s->at += len;
    return SERVE_FOUND;
}

/* Everything up to a word, and behind it. */
static serve_found next_up_to(scan *s, const char *word, const char **p, size_t *n)
{
    const size_t len = strlen(word);
    *p = s->p + s->at;
    const char *const end = memmem(*p, s->n - s->at, word, len);
    if (!end) return missing(s);
    *n = (size_t)(end - *p);
    s->at += *n + len;
    return SERVE_FOUND;
}

/* An object or a list, by its brackets: what stands within may still be no JSON. */
static serve_found next_json(scan *s, const char **p, size_t *n)
{
    static const char outside[] = " \t\r\n,:+-.0123456789truefalsnE";
    size_t depth = 0;
    bool quoted = false;
    *p = s->p + s->at;
    for (size_t i = s->at; i < s->n; i++) {
        const char c = s->p[i];
        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth == 0) {
            return SERVE_NONE;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '}' || c == ']') {
            if (--depth > 0) continue;
            *n = i + 1 - s->at;
            s->at = i + 1;
            return SERVE_FOUND;
        } else if (!c || !strchr(outside, c)) {
            return SERVE_NONE;
        }
    }
    return missing(s);
}

/* A word that may be left out, and space in front of it. Of an answer that ends within the word
 * nothing is left. */
static serve_found skip_closing(scan *s, const char *word)
{
    scan ahead = {s->p, s->n, s->at, false};
    if (!word[0]) return SERVE_FOUND;
    skip_blanks(&ahead);
    const serve_found found = next_word(&ahead, word);
    if (found == SERVE_FOUND) s->at = ahead.at;
    if (found != SERVE_UNDECIDED) return SERVE_FOUND;
    if (s->ends) s->at = s->n;
    return s->ends ? SERVE_FOUND : SERVE_UNDECIDED;
}

/* ---- calls */

const json_t *serve_tool_named(const json_t *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *const f = json_object_get(json_array_get(tools, i), "function");
        const char *const own = json_string_value(json_object_get(f, "name"));
        if (own && strcmp(own, name) == 0) return f;
    }
    return NULL;
}

static void make_id(const serve_calls *c, char *id, size_t cap)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    uint64_t word = 0;
    if (getrandom(&word, sizeof word, GRND_NONBLOCK) < 0) word = (uintptr_t)c + 7919 * c->held.n;
    if (!c->form->mistral) {
        snprintf(id, cap, "call_%016llx", (unsigned long long)word);
        return;
    }
    for (size_t i = 0; i < 9; i++, word /= sizeof letters - 1)
        id[i] = letters[word % (sizeof letters - 1)];
    id[9] = 0;
}

/* id: that of the model, or NULL. */
static void add_call(const serve_calls *c, const char *name, const char *id,
                     const json_t *arguments, json_t *calls)
{
    char own[32];
    char *const text =
        json_is_string(arguments) ? NULL : json_dumps(arguments, JSON_COMPACT | JSON_ENCODE_ANY);
    make_id(c, own, sizeof own);
    json_t *const f = json_object(), *const j = json_object();
    json_object_set_new(f, "name", json_string(name));
    json_object_set_new(f, "arguments", json_string(text ? text : json_string_value(arguments)));
    json_object_set_new(j, "id", json_string(id && c->form->mistral && id[0] ? id : own));
    json_object_set_new(j, "type", json_string("function"));
    json_object_set_new(j, "function", f);
    json_array_append_new(calls, j);
    free(text);
}

/* {"name", "arguments"}, or a list of such: all of them are of tools, or none is taken. */
static bool add_json(const serve_calls *c, const char *p, size_t n, json_t *calls)
{
    json_t *const j = json_loadb(p, n, JSON_ALLOW_NUL, NULL);
    const size_t n_calls = json_is_array(j) ? json_array_size(j) : json_is_object(j);
    const size_t before = json_array_size(calls);
    bool ok = n_calls > 0;
    for (size_t i = 0; i < n_calls && ok; i++) {
        const json_t *const one = json_is_array(j) ? json_array_get(j, i) : j;
        const char *const name = json_string_value(json_object_get(one, "name"));
        const json_t *arguments = json_object_get(one, c->form->arguments);
        if (!arguments) arguments = json_object_get(one, "arguments");
        if (!arguments) arguments = json_object_get(one, "parameters");
        ok = name && serve_tool_named(c->tools, name) &&
             (json_is_object(arguments) || json_is_string(arguments));
        if (ok) add_call(c, name, json_string_value(json_object_get(one, "id")), arguments, calls);
    }
    while (!ok && json_array_size(calls) > before) json_array_remove(calls, before);
    json_decref(j);
    return ok;
}

static serve_found read_json(const serve_calls *c, scan *s, json_t *calls)
{
    const char *p;
    size_t n;
    serve_found found = next_json(s, &p, &n);
    if (found == SERVE_FOUND) found = skip_closing(s, c->form->closing);
    if (found != SERVE_FOUND) return found;
    return add_json(c, p, n, calls) ? SERVE_FOUND : SERVE_NONE;
}

/* Terminates a copy of a name of a tool; false: it is none. */
static bool is_tool(const serve_calls *c, const char *p, size_t n, char *name)
{
    if (n == 0 || n > MOST_NAME || memchr(p, 0, n)) return false;
    memcpy(name, p, n);
    name[n] = 0;
    return serve_tool_named(c->tools, name) != NULL;
}

/* ---- Mistral: name[CALL_ID]id[ARGS]{...} */

static serve_found read_named(const serve_calls *c, scan *s, json_t *calls)
{
    char name[MOST_NAME + 1], id[16] = "";
    const char *p = s->p + s->at;
    size_t n = 0;
    while (s->at + n < s->n && !strchr("[{\n", p[n]) && n <= MOST_NAME) n++;
    if (s->at + n == s->n && n <= MOST_NAME) return missing(s);
    if (!is_tool(c, p, n, name)) return SERVE_NONE;
    s->at += n;
    serve_found found = next_word(s, "[CALL_ID]");
    if (found == SERVE_UNDECIDED) return found;
    if (found == SERVE_FOUND) {
        for (n = 0; s->at < s->n && isalnum((unsigned char)s->p[s->at]); s->at++)
            if (n + 1 < sizeof id) id[n++] = s->p[s->at];
        if (s->at == s->n) return missing(s);
    }
    found = next_word(s, "[ARGS]");
    if (found == SERVE_UNDECIDED) return found;
    skip_blanks(s);
    if (s->at == s->n) return missing(s);
    found = s->p[s->at] == '{' ? next_json(s, &p, &n) : SERVE_NONE;
    if (found != SERVE_FOUND) return found;
    json_t *const arguments = json_loadb(p, n, JSON_ALLOW_NUL, NULL);
    if (arguments) add_call(c, name, id, arguments, calls);
    json_decref(arguments);
    return arguments ? SERVE_FOUND : SERVE_NONE;
}

/* ---- DeepSeek: a word, name, a word, {...}; or a word, "function", a word, name, fenced {...} */

static serve_found read_arguments(const serve_calls *c, scan *s, const char *name, json_t *calls)
{
    const char *p;
    size_t n;
    skip_blanks(s);
    if (s->at == s->n) return missing(s);
    serve_found found = s->p[s->at] == '{' ? next_json(s, &p, &n) : SERVE_NONE;
    if (found == SERVE_FOUND) found = skip_closing(s, "```");
    if (found == SERVE_FOUND) found = skip_closing(s, SERVE_DEEPSEEK_CALL_END);
    if (found == SERVE_FOUND) found = skip_closing(s, c->form->closing);
    if (found != SERVE_FOUND) return found;
    json_t *const arguments = json_loadb(p, n, JSON_ALLOW_NUL, NULL);
    if (arguments) add_call(c, name, NULL, arguments, calls);
    json_decref(arguments);
    return arguments ? SERVE_FOUND : SERVE_NONE;
}

static serve_found read_fenced(const serve_calls *c, scan *s, json_t *calls)
{
    static const char kind[] = "function", fence[] = "```json";
    char name[MOST_NAME + 1];
    const char *p;
    size_t n;
    serve_found found = skip_closing(s, SERVE_DEEPSEEK_CALL);
    if (found == SERVE_FOUND) found = next_up_to(s, SERVE_DEEPSEEK_SEP, &p, &n);
    if (found == SERVE_FOUND && s->at == s->n) return missing(s);
    if (found == SERVE_FOUND && n == sizeof kind - 1 && memcmp(p, kind, n) == 0 &&
        s->p[s->at] != '{') {
        found = next_up_to(s, "\n", &p, &n);
        if (found == SERVE_FOUND) found = skip_closing(s, fence);
    }
    if (found != SERVE_FOUND) return found;
    return is_tool(c, p, n, name) ? read_arguments(c, s, name, calls) : SERVE_NONE;
}

/* ---- Qwen3-Coder: <function=name> <parameter=key> text </parameter> </function> */

static bool allows(const json_t *type, const char *word)
{
    for (size_t i = 0; i < json_array_size(type); i++)
        if (allows(json_array_get(type, i), word)) return true;
    return json_is_string(type) && strcmp(json_string_value(type), word) == 0;
}

/* Texts stand there as they are, other values as JSON: the schema says which it is. */
static json_t *value_of(const json_t *schema, const char *p, size_t n)
{
    const json_t *const type = json_object_get(schema, "type");
    json_t *v = json_loadb(p, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (v && allows(type, "string") && !(json_is_null(v) && allows(type, "null"))) {
        json_decref(v);
        v = NULL;
    }
    return v ? v : cli_json_text(p, n);
}

static serve_found read_parameter(const json_t *schemas, scan *s, json_t *arguments)
{
    const char *key, *p;
    size_t n_key, n;
    serve_found found = next_up_to(s, ">", &key, &n_key);
    if (found == SERVE_FOUND) found = next_up_to(s, "</parameter>", &p, &n);
    if (found != SERVE_FOUND) return found;
    if (n_key == 0 || n_key > MOST_NAME || memchr(key, 0, n_key)) return SERVE_NONE;
    char name[MOST_NAME + 1];
    memcpy(name, key, n_key);
    name[n_key] = 0;
    const size_t from = n > 0 && p[0] == '\n', to = n - (n > from && p[n - 1] == '\n');
    json_t *const value = value_of(json_object_get(schemas, name), p + from, to - from);
    /* a key that is no UTF-8 is no key */
    return json_object_set_new(arguments, name, value) == 0 ? SERVE_FOUND : SERVE_NONE;
}

static serve_found read_parameters(const json_t *schemas, scan *s, json_t *arguments)
{
    for (;;) {
        skip_blanks(s);
        const serve_found ended = next_word(s, "</function>");
        if (ended == SERVE_FOUND) return SERVE_FOUND;
        serve_found found = next_word(s, "<parameter=");
        if (found == SERVE_FOUND) found = read_parameter(schemas, s, arguments);
        if (found != SERVE_FOUND) return ended == SERVE_UNDECIDED ? ended : found;
    }
}

static serve_found read_tags(const serve_calls *c, scan *s, json_t *calls)
{
    char name[MOST_NAME + 1];
    const char *p;
    size_t n;
    serve_found found = next_word(s, "<function=");
    if (found == SERVE_FOUND) found = next_up_to(s, ">", &p, &n);
    if (found != SERVE_FOUND) return found;
    if (!is_tool(c, p, n, name)) return SERVE_NONE;
    const json_t *const parameters =
        json_object_get(serve_tool_named(c->tools, name), "parameters");
    json_t *const arguments = json_object();
    found = read_parameters(json_object_get(parameters, "properties"), s, arguments);
    if (found == SERVE_FOUND) found = skip_closing(s, c->form->closing);
    if (found == SERVE_FOUND) add_call(c, name, NULL, arguments, calls);
    json_decref(arguments);
    return found;
}

/* ---- */

serve_found serve_read_calls(const serve_calls *c, const char *p, size_t n, bool ends,
                             json_t *calls, size_t *used)
{
    const size_t n_opening = strlen(c->form->opening);
    scan s = {p, n, 0, ends};
    if (n >= n_opening && memcmp(p, c->form->opening, n_opening) == 0) s.at = n_opening;
    skip_blanks(&s);
    if (s.at == s.n) return missing(&s);
    serve_found found = SERVE_NONE;
    if (p[s.at] == '{' || p[s.at] == '[')
        found = read_json(c, &s, calls);
    else if (c->form->mistral)
        found = read_named(c, &s, calls);
    else if (c->form->kind == SERVE_CALL_NAMED)
        found = read_fenced(c, &s, calls);
    else if (c->form->kind == SERVE_CALL_TAGS)
        found = read_tags(c, &s, calls);
    *used = s.at;
    return found;
}

bool serve_read_bare_calls(const serve_calls *c, const char *p, size_t n, json_t *calls)
{
    scan s = {p, n, 0, true};
    bool ok = true;
    do {
        const char *one;
        size_t n_one;
        skip_blanks(&s);
        ok = next_json(&s, &one, &n_one) == SERVE_FOUND && add_json(c, one, n_one, calls);
        skip_blanks(&s);
        if (ok && s.at < n && p[s.at] == ';') s.at++;
    } while (ok && s.at < n);
    return ok;
}
