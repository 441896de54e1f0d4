/* SPDX-License-Identifier: Apache-2.0
 * Fields of a JSON object, with their types and ranges, and what is wrong with one. */
#include "serve/fields.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

bool serve_refuse(serve_error *e, const char *param, const char *fmt, ...)
{
    *e = (serve_error){.status = 400, .type = "invalid_request_error"};
    snprintf(e->param, sizeof e->param, "%s", param);
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->message, sizeof e->message, fmt, args);
    va_end(args);
    return false;
}

bool serve_fail(serve_error *e, int status, const char *type, const char *code, const char *fmt,
                ...)
{
    *e = (serve_error){.status = status, .type = type, .code = code};
    va_list args;
    va_start(args, fmt);
    vsnprintf(e->message, sizeof e->message, fmt, args);
    va_end(args);
    return false;
}

const json_t *serve_field(const json_t *o, const char *name)
{
    const json_t *const v = json_object_get(o, name);
    return json_is_null(v) ? NULL : v;
}

bool serve_field_bool(const json_t *o, const char *name, bool *v, serve_error *e)
{
    const json_t *const field = serve_field(o, name);
    if (!field) return true;
    if (!json_is_boolean(field)) return serve_refuse(e, name, "%s must be true or false", name);
    *v = json_is_true(field);
    return true;
}

/* 5, or 5.0, as some languages write it. */
static bool is_whole(const json_t *field, int64_t *v)
{
    const double real = json_real_value(field);
    const bool whole = json_is_real(field) && fabs(real) <= 0x1p53 && floor(real) >= real;
    *v = whole ? (int64_t)real : json_integer_value(field);
    return whole || json_is_integer(field);
}

bool serve_field_whole(const json_t *o, const char *name, int64_t min, int64_t max, int64_t *v,
                       serve_error *e)
{
    const json_t *const field = serve_field(o, name);
    const double real = json_real_value(field);
    int64_t x;
    if (!field) return true;
    if (fabs(real) > 0x1p53 && (real < (double)min || real > (double)max || fabs(real) >= 0x1p63))
        return serve_refuse(e, name, "%s is %.17g; it must be %lld to %lld", name, real,
                            (long long)min, (long long)max);
    if (!is_whole(field, &x)) return serve_refuse(e, name, "%s must be a whole number", name);
    if (x < min || x > max)
        return serve_refuse(e, name, "%s is %lld; it must be %lld to %lld", name, (long long)x,
                            (long long)min, (long long)max);
    *v = x;
    return true;
}

bool serve_field_real(const json_t *o, const char *name, double min, double max, float *v,
                      serve_error *e)
{
    const json_t *const field = serve_field(o, name);
    if (!field) return true;
    if (!json_is_number(field)) return serve_refuse(e, name, "%s must be a number", name);
    const double x = json_number_value(field);
    *v = (float)x;
    if (x >= min && x <= max) return true;
    if (max < FLT_MAX || x > max)
        return serve_refuse(e, name, "%s is %.12g; it must be %g to %g", name, x, min, max);
    return serve_refuse(e, name, "%s is %.12g; it must be %s", name, x,
                        min > 0 ? "more than 0" : "0 or more");
}

bool serve_field_ids(const json_t *list, const char *name, int n_vocab, int32_t **tokens, size_t *n,
                     serve_error *e)
{
    *n = 0;
    *tokens = cli_array(NULL, json_array_size(list), sizeof **tokens);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *const id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= n_vocab)
            return serve_refuse(e, name, "%s holds something that is no token id; ids are 0 to %d",
                                name, n_vocab - 1);
        (*tokens)[(*n)++] = (int32_t)json_integer_value(id);
    }
    return true;
}

static const char *why_unread(const json_error_t *why)
{
    switch (json_error_code(why)) {
    case json_error_premature_end_of_input: return "it ends too early";
    case json_error_invalid_utf8: return "what follows is no UTF-8";
    case json_error_null_character: return "a text must not hold the character NUL";
    case json_error_numeric_overflow: return "a number is too large";
    case json_error_stack_overflow: return "it is nested too deeply";
    default: break;
    }
    return strstr(why->text, "nicode") ? "half of a surrogate pair stands alone"
                                       : "it cannot be read from here on";
}

/* Bytes of the text that stands at p. */
static size_t text_at(const char *p)
{
    size_t n = 1;
    while (p[n] && p[n] != '"') n += p[n] == '\\' && p[n + 1] ? 2 : 1;
    return n + (p[n] == '"');
}

/* The body with whole numbers beyond 63 bits as reals; jansson reads either all so or none. */
static json_t *load_large(const char *body, size_t n, json_error_t *why)
{
    cli_bytes from = {0}, to = {0};
    cli_bytes_add(&from, body, n);
    for (const char *p = from.p; *p;) {
        size_t len = *p == '"' ? text_at(p) : strspn(p, "-0123456789.eE+");
        const bool whole = *p != '"' && len > 0 && strcspn(p, ".eE+") >= len;
        if (len == 0) len = strcspn(p, "\"-0123456789.eE+");
        errno = 0;
        if (whole) strtoll(p, NULL, 10);
        cli_bytes_add(&to, p, len);
        if (whole && errno == ERANGE) cli_bytes_add(&to, "e0", 2);
        p += len;
    }
    json_t *root = json_loadb(to.p, to.n, JSON_DECODE_ANY, why);
    cli_bytes_free(&from);
    cli_bytes_free(&to);
    return root;
}

json_t *serve_body(const char *body, size_t n, serve_error *e)
{
    json_error_t why;
    json_t *root = json_loadb(body ? body : "", n, JSON_DECODE_ANY, &why);
    if (!root && json_error_code(&why) == json_error_numeric_overflow && !memchr(body, 0, n))
        root = load_large(body, n, &why);
    if (!root)
        serve_refuse(e, "", "the body cannot be read as JSON: line %d, column %d: %s", why.line,
                     why.column, why_unread(&why));
    else if (!json_is_object(root))
        serve_refuse(e, "", "the body must be a JSON object");
    if (json_is_object(root)) return root;
    json_decref(root);
    return NULL;
}
