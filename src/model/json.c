/* SPDX-License-Identifier: Apache-2.0
 * JSON, strictly. */
#include "model/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum { DEEPEST = 64, MOST = 1 << 22 };

typedef struct reader {
    ftk_json *j;
    const char *what, *start, *p, *end;
    const ftk_host *host;
    int depth;
} reader;

static ftk_err fail(const reader *r, const char *why)
{
    return ftk_fail(r->host, FTK_ERR_FORMAT, "%s: is no JSON: %s at byte %zu", r->what, why,
                    (size_t)(r->p - r->start));
}

static void skip(reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool take(reader *r, char c)
{
    skip(r);
    if (r->p == r->end || *r->p != c) return false;
    r->p++;
    return true;
}

static bool is_digit(const reader *r)
{
    return r->p < r->end && *r->p >= '0' && *r->p <= '9';
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Behind a backslash. */
static bool skip_escape(reader *r)
{
    if (r->p == r->end) return false;
    const char c = *r->p++;
    if (c != 'u') return c && strchr("\"\\/bfnrt", c) != NULL;
    for (int i = 0; i < 4; i++)
        if (r->p == r->end || !is_hex(*r->p++)) return false;
    return true;
}

static ftk_err read_string(reader *r, ftk_str *out)
{
    if (!take(r, '"')) return fail(r, "a string is missing");
    const char *const start = r->p;
    while (r->p < r->end && *r->p != '"') {
        const unsigned char c = (unsigned char)*r->p++;
        if (c < 0x20) return fail(r, "a control character in a string");
        if (c == '\\' && !skip_escape(r)) return fail(r, "an escape that is none");
    }
    if (r->p == r->end) return fail(r, "a string does not end");
    *out = (ftk_str){start, (size_t)(r->p++ - start)};
    return FTK_OK;
}

static ftk_err read_number(reader *r, ftk_json_value *v)
{
    char text[64];
    const char *const start = r->p;
    v->whole = true;
    if (*r->p == '-') r->p++;
    if (!is_digit(r)) return fail(r, "a number without digits");
    const bool zero = *r->p == '0';
    while (is_digit(r)) r->p++;
    if (zero && r->p - start > 1 + (*start == '-')) return fail(r, "a number that begins with 0");
    if (r->p < r->end && *r->p == '.') {
        v->whole = false;
        r->p++;
        if (!is_digit(r)) return fail(r, "a number without digits");
        while (is_digit(r)) r->p++;
    }
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
        v->whole = false;
        r->p++;
        if (r->p < r->end && (*r->p == '+' || *r->p == '-')) r->p++;
        if (!is_digit(r)) return fail(r, "a number without digits");
        while (is_digit(r)) r->p++;
    }
    const size_t n = (size_t)(r->p - start);
    if (n >= sizeof text) return fail(r, "a number of too many digits");
    memcpy(text, start, n);
    text[n] = 0;
    v->kind = FTK_JSON_NUMBER;
    v->number = strtod(text, NULL);
    v->whole &= fabs(v->number) <= 9007199254740992.0;
    return isfinite(v->number) ? FTK_OK : fail(r, "a number that is too large");
}

static bool word(reader *r, const char *text)
{
    const size_t n = strlen(text);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, text, n) != 0) return false;
    r->p += n;
    return true;
}

static ftk_err add(reader *r, int *out)
{
    ftk_json *const j = r->j;
    if (j->n == MOST) return fail(r, "more values than 4194304");
    if (!ftk_grow(r->host, &j->values, (size_t)j->n, 1, &j->cap, sizeof *j->values))
        return ftk_fail(r->host, FTK_ERR_NOMEM, "%s: no memory for its JSON", r->what);
    j->values[ *out = j->n++] = (ftk_json_value){0};
    return FTK_OK;
}

static ftk_err read_value(reader *r, int at);

/* Values up to the closing bracket; in an object each behind its name. */
static ftk_err read_inside(reader *r, int at, bool named)
{
    const char close = named ? '}' : ']';
    int last = 0;
    r->j->values[at].kind = named ? FTK_JSON_OBJECT : FTK_JSON_ARRAY;
    if (take(r, close)) return FTK_OK;
    do {
        int i;
        ftk_str name = {"", 0};
        ftk_err err = named ? read_string(r, &name) : FTK_OK;
        if (err == FTK_OK && named && !take(r, ':')) err = fail(r, "a colon is missing");
        if (err == FTK_OK) err = add(r, &i);
        if (err != FTK_OK) return err;
        r->j->values[i].name = name;
        *(last ? &r->j->values[last].next : &r->j->values[at].first) = i;
        r->j->values[at].count++;
        last = i;
        err = read_value(r, i);
        if (err != FTK_OK) return err;
    } while (take(r, ','));
    return take(r, close) ? FTK_OK : fail(r, "a comma or a closing bracket is missing");
}

static ftk_err read_value(reader *r, int at)
{
    skip(r);
    if (r->p == r->end) return fail(r, "a value is missing");
    ftk_json_value *const v = &r->j->values[at];
    if (*r->p == '{' || *r->p == '[') {
        if (++r->depth > DEEPEST) return fail(r, "more than 64 levels");
        const ftk_err err = read_inside(r, at, *r->p++ == '{');
        r->depth--;
        return err;
    }
    if (*r->p == '"') {
        v->kind = FTK_JSON_STRING;
        return read_string(r, &v->text);
    }
    if (*r->p == '-' || is_digit(r)) return read_number(r, v);
    if (word(r, "null")) return FTK_OK;
    v->kind = FTK_JSON_BOOL;
    v->number = *r->p == 't';
    return word(r, "true") || word(r, "false") ? FTK_OK : fail(r, "a value that is none");
}

ftk_err ftk_json_read(ftk_json *j, const char *text, size_t n, const char *what,
                      const ftk_host *host)
{
    reader r = {j, what, text, text, text + n, host, 0};
    int all;
    *j = (ftk_json){0};
    ftk_err err = add(&r, &all);
    if (err == FTK_OK) err = read_value(&r, all);
    skip(&r);
    return err == FTK_OK && r.p < r.end ? fail(&r, "something behind its end") : err;
}

void ftk_json_free(ftk_json *j, const ftk_host *host)
{
    ftk_release(host, j->values);
    *j = (ftk_json){0};
}

const ftk_json_value *ftk_json_first(const ftk_json *j, const ftk_json_value *in)
{
    return in && in->first ? &j->values[in->first] : NULL;
}

const ftk_json_value *ftk_json_next(const ftk_json *j, const ftk_json_value *v)
{
    return v->next ? &j->values[v->next] : NULL;
}

const ftk_json_value *ftk_json_get(const ftk_json *j, const ftk_json_value *in, const char *name)
{
    if (!in || in->kind != FTK_JSON_OBJECT) return NULL;
    const ftk_json_value *v = ftk_json_first(j, in);
    while (v && !ftk_str_is(v->name, name)) v = ftk_json_next(j, v);
    return v;
}
