/* SPDX-License-Identifier: Apache-2.0
 * Values as JSON, as Python's json.dumps() writes them, and JSON as values. */
#include "base/utf8.h"
#include "template/parts.h"

#include <math.h>
#include <string.h>

/* ------------------------------------------------------------------ writing */

static void add_escape(ftk_tmpl_job *j, ftk_tmpl_text *t, uint32_t code, bool input)
{
    static const char hex[] = "0123456789abcdef";
    const char b[] = {
        '\\', 'u', hex[code >> 12 & 15], hex[code >> 8 & 15], hex[code >> 4 & 15], hex[code & 15]};
    ftk_tmpl_add_bytes(j, t, b, sizeof b, input);
}

static void write_char(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_str *s, size_t at,
                       bool ascii)
{
    static const char plain[] = "\"\\\n\r\t\b\f", escaped[] = "\"\\nrtbf";
    const uint32_t c = ftk_tmpl_code(s, at);
    const bool input = ftk_tmpl_mark(s, at);
    const char *known = c != 0 && c < 0x80 ? strchr(plain, (int)c) : NULL;
    if (known) {
        const char b[] = {'\\', escaped[known - plain]};
        ftk_tmpl_add_bytes(j, t, b, 2, input);
    } else if (c < 0x20 || (ascii && c >= 0x7F && c < 0x10000 && c != 0x7F)) {
        add_escape(j, t, c, input);
    } else if (ascii && c >= 0x10000) {
        add_escape(j, t, 0xD800 + ((c - 0x10000) >> 10), input);
        add_escape(j, t, 0xDC00 + ((c - 0x10000) & 0x3FF), input);
    } else {
        ftk_tmpl_add(j, t, s, at, at + ftk_tmpl_char(s, at));
    }
}

static void write_string(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_str *s, bool ascii)
{
    ftk_tmpl_add_word(j, t, "\"");
    ftk_tmpl_spend(j, s->n / 8);
    for (size_t at = 0; at < s->n; at += ftk_tmpl_char(s, at)) write_char(j, t, s, at, ascii);
    ftk_tmpl_add_word(j, t, "\"");
}

static void write_real(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value v)
{
    char b[FTK_TMPL_DIGITS];
    if (isfinite(v.f))
        ftk_tmpl_add_bytes(j, t, b, ftk_tmpl_show_real(b, v.f), v.input);
    else
        ftk_tmpl_add_word(j, t, isnan(v.f) ? "NaN" : v.f > 0 ? "Infinity" : "-Infinity");
}

static void write(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value v, const ftk_tmpl_json *how,
                  int level);

static void write_key(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value key,
                      const ftk_tmpl_json *how)
{
    if (key.kind == TMPL_STRING) {
        write_string(j, t, key.s, how->ascii);
        return;
    }
    if (key.kind != TMPL_NONE && !ftk_tmpl_is_number(key))
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "keys must be str, int, float, bool or None, not %s",
                      ftk_tmpl_type(key));
    ftk_tmpl_add_word(j, t, "\"");
    write(j, t, key, how, 0);
    ftk_tmpl_add_word(j, t, "\"");
}

static void new_line(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_json *how, int level)
{
    if (!how->indent) return;
    ftk_tmpl_add_word(j, t, "\n");
    for (int i = 0; i < level; i++) ftk_tmpl_add_str(j, t, how->indent);
}

static void between(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_json *how, size_t i,
                    int level)
{
    if (i > 0) ftk_tmpl_add_str(j, t, how->comma);
    new_line(j, t, how, level);
}

static void write_list(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_list *l,
                       const ftk_tmpl_json *how, int level)
{
    ftk_tmpl_add_word(j, t, "[");
    for (size_t i = 0; i < l->n; i++) {
        between(j, t, how, i, level + 1);
        write(j, t, l->v[i], how, level + 1);
    }
    if (l->n > 0) new_line(j, t, how, level);
    ftk_tmpl_add_word(j, t, "]");
}

/* A stable sort of few keys. */
static void sort_pairs(ftk_tmpl_job *j, struct ftk_tmpl_pair *v, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const struct ftk_tmpl_pair moved = v[i];
        size_t k = i;
        for (; k > 0 && ftk_tmpl_order(j, moved.key, v[k - 1].key, "<") < 0; k--) v[k] = v[k - 1];
        v[k] = moved;
    }
}

static void write_dict(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_dict *d,
                       const ftk_tmpl_json *how, int level)
{
    const struct ftk_tmpl_pair *v = d->v;
    if (how->sort && d->n > 1) {
        struct ftk_tmpl_pair *sorted = ftk_tmpl_alloc(j, d->n, sizeof *sorted);
        memcpy(sorted, d->v, d->n * sizeof *sorted);
        sort_pairs(j, sorted, d->n);
        v = sorted;
    }
    ftk_tmpl_add_word(j, t, "{");
    for (size_t i = 0; i < d->n; i++) {
        between(j, t, how, i, level + 1);
        write_key(j, t, v[i].key, how);
        ftk_tmpl_add_str(j, t, how->colon);
        write(j, t, v[i].value, how, level + 1);
    }
    if (d->n > 0) new_line(j, t, how, level);
    ftk_tmpl_add_word(j, t, "}");
}

static void write(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value v, const ftk_tmpl_json *how,
                  int level)
{
    ftk_tmpl_enter(j);
    if (v.kind == TMPL_NONE)
        ftk_tmpl_add_word(j, t, "null");
    else if (v.kind == TMPL_BOOL)
        ftk_tmpl_add_word(j, t, v.b ? "true" : "false");
    else if (v.kind == TMPL_INT)
        ftk_tmpl_show(j, t, v);
    else if (v.kind == TMPL_FLOAT)
        write_real(j, t, v);
    else if (v.kind == TMPL_STRING)
        write_string(j, t, v.s, how->ascii);
    else if (v.kind == TMPL_LIST && v.list->sequence <= TMPL_SEQ_TUPLE)
        write_list(j, t, v.list, how, level);
    else if (v.kind == TMPL_DICT)
        write_dict(j, t, v.dict, how, level);
    else
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "Object of type %s is not JSON serializable",
                      ftk_tmpl_type(v));
    ftk_tmpl_leave(j);
}

void ftk_tmpl_to_json(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value v, const ftk_tmpl_json *how)
{
    write(j, t, v, how, 0);
}

/* ------------------------------------------------------------------ reading */

typedef struct reader {
    ftk_tmpl_job *j;
    const char *start, *p, *what;
} reader;

static _Noreturn void refuse(reader *r, const char *why)
{
    ftk_tmpl_fail(r->j, FTK_ERR_INVALID, "%s are no JSON: %s at byte %zu", r->what, why,
                  (size_t)(r->p - r->start));
}

static void skip_blanks(reader *r)
{
    r->p += strspn(r->p, " \t\r\n");
}

static bool take(reader *r, char c)
{
    skip_blanks(r);
    if (*r->p != c) return false;
    r->p++;
    return true;
}

static void need(reader *r, char c)
{
    const char why[] = {'"', c, '"', ' ', 'i', 's', ' ', 'm', 'i', 's', 's', 'i', 'n', 'g', '\0'};
    if (!take(r, c)) refuse(r, why);
}

static uint32_t read_hex(reader *r)
{
    int64_t code;
    if (strspn(r->p, "0123456789abcdefABCDEF") < 4 || !ftk_tmpl_read_whole(r->p, 4, 16, &code))
        refuse(r, "a \\u without four digits");
    r->p += 4;
    return (uint32_t)code;
}

static void read_escape(reader *r, ftk_tmpl_text *t)
{
    static const char names[] = "\"\\/nrtbf", chars[] = "\"\\/\n\r\t\b\f";
    const char c = *r->p;
    const char *known = c ? strchr(names, c) : NULL;
    if (known) {
        r->p++;
        ftk_tmpl_add_bytes(r->j, t, chars + (known - names), 1, true);
        return;
    }
    if (c != 'u') refuse(r, "an unknown escape");
    r->p++;
    uint32_t code = read_hex(r);
    if (code >= 0xD800 && code < 0xDC00 && r->p[0] == '\\' && r->p[1] == 'u') {
        const char *back = r->p;
        r->p += 2;
        const uint32_t low = read_hex(r);
        if (low >= 0xDC00 && low < 0xE000)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        else
            r->p = back;
    }
    if (code >= 0xD800 && code < 0xE000) code = 0xFFFD;
    ftk_tmpl_add_code(r->j, t, code, true);
}

static ftk_tmpl_value read_string(reader *r)
{
    ftk_tmpl_text t = {.input = true};
    for (;;) {
        const size_t n = strcspn(r->p, "\"\\");
        ftk_tmpl_add_bytes(r->j, &t, r->p, n, true);
        r->p += n;
        if (*r->p == '\0') refuse(r, "a text without an end");
        if (*r->p++ == '"') return ftk_tmpl_text_end(r->j, &t);
        read_escape(r, &t);
    }
}

static ftk_tmpl_value read_number(reader *r)
{
    const size_t n = strspn(r->p, "0123456789+-.eE");
    ftk_tmpl_value v = {.kind = TMPL_INT, .input = true};
    if (!ftk_tmpl_read_whole(r->p, n, 10, &v.i)) {
        v.kind = TMPL_FLOAT;
        if (!ftk_tmpl_read_real(r->p, n, &v.f)) refuse(r, "something unknown");
    }
    r->p += n;
    return v;
}

static ftk_tmpl_value read(reader *r);

static ftk_tmpl_value read_list(reader *r)
{
    ftk_tmpl_list *l = ftk_tmpl_list_new(r->j, TMPL_SEQ_LIST, 0);
    if (take(r, ']')) return ftk_tmpl_list_of(l);
    do ftk_tmpl_list_push(r->j, l, read(r));
    while (take(r, ','));
    need(r, ']');
    return ftk_tmpl_list_of(l);
}

static ftk_tmpl_value read_dict(reader *r)
{
    ftk_tmpl_dict *d = ftk_tmpl_dict_new(r->j);
    if (take(r, '}')) return ftk_tmpl_dict_of(d);
    do {
        need(r, '"');
        const ftk_tmpl_value key = read_string(r);
        need(r, ':');
        ftk_tmpl_dict_put(r->j, d, key, read(r));
    } while (take(r, ','));
    need(r, '}');
    return ftk_tmpl_dict_of(d);
}

static bool take_word(reader *r, const char *word)
{
    const size_t n = strlen(word);
    if (strncmp(r->p, word, n) != 0) return false;
    r->p += n;
    return true;
}

static ftk_tmpl_value read(reader *r)
{
    ftk_tmpl_enter(r->j);
    ftk_tmpl_value v;
    skip_blanks(r);
    if (take(r, '{'))
        v = read_dict(r);
    else if (take(r, '['))
        v = read_list(r);
    else if (take(r, '"'))
        v = read_string(r);
    else if (take_word(r, "true"))
        v = TMPL_BOOL_VALUE(true);
    else if (take_word(r, "false"))
        v = TMPL_BOOL_VALUE(false);
    else if (take_word(r, "null"))
        v = TMPL_NONE_VALUE;
    else
        v = read_number(r);
    ftk_tmpl_leave(r->j);
    return v;
}

ftk_tmpl_value ftk_tmpl_from_json(ftk_tmpl_job *j, const char *text, const char *what)
{
    reader r = {j, text, text, what};
    const ftk_tmpl_value v = read(&r);
    skip_blanks(&r);
    if (*r.p != '\0') refuse(&r, "more behind the end");
    return v;
}
