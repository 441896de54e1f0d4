/* SPDX-License-Identifier: Apache-2.0
 * Strings of a template. Whatever is done to one, each byte keeps where it is from. */
#include "base/utf8.h"
#include "template/parts.h"

#include <string.h>

/* ------------------------------------------------------------------ texts that grow */

static void make_room(ftk_tmpl_job *j, ftk_tmpl_text *t, size_t n)
{
    if (n <= t->cap - t->n) return;
    const size_t cap = 2 * (t->n + n) + 48;
    char *p = ftk_tmpl_alloc(j, cap, 1);
    if (t->n > 0) memcpy(p, t->p, t->n);
    t->p = p;
    if (t->marks) {
        unsigned char *marks = ftk_tmpl_alloc(j, cap, 1);
        memcpy(marks, t->marks, t->n);
        t->marks = marks;
    }
    t->cap = cap;
}

/* From now on every byte has a mark of its own. */
static void split_marks(ftk_tmpl_job *j, ftk_tmpl_text *t)
{
    if (t->marks) return;
    t->marks = ftk_tmpl_alloc(j, t->cap, 1);
    memset(t->marks, t->input, t->n);
}

void ftk_tmpl_add_bytes(ftk_tmpl_job *j, ftk_tmpl_text *t, const char *p, size_t n, bool input)
{
    if (n == 0) return;
    make_room(j, t, n);
    if (t->n == 0 && !t->marks) t->input = input;
    if (input != t->input) split_marks(j, t);
    memcpy(t->p + t->n, p, n);
    if (t->marks) memset(t->marks + t->n, input, n);
    t->n += n;
}

void ftk_tmpl_add(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_str *s, size_t from, size_t to)
{
    if (!s->marks) {
        ftk_tmpl_add_bytes(j, t, s->p + from, to - from, s->input);
        return;
    }
    if (to == from) return;
    make_room(j, t, to - from);
    split_marks(j, t);
    memcpy(t->p + t->n, s->p + from, to - from);
    memcpy(t->marks + t->n, s->marks + from, to - from);
    t->n += to - from;
}

void ftk_tmpl_add_str(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_str *s)
{
    ftk_tmpl_add(j, t, s, 0, s->n);
}

void ftk_tmpl_add_word(ftk_tmpl_job *j, ftk_tmpl_text *t, const char *word)
{
    ftk_tmpl_add_bytes(j, t, word, strlen(word), false);
}

void ftk_tmpl_add_code(ftk_tmpl_job *j, ftk_tmpl_text *t, uint32_t code, bool input)
{
    char b[4];
    size_t n = 0;
    if (code < 0x80) {
        b[n++] = (char)code;
    } else if (code < 0x800) {
        b[n++] = (char)(0xC0 | code >> 6);
        b[n++] = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        b[n++] = (char)(0xE0 | code >> 12);
        b[n++] = (char)(0x80 | (code >> 6 & 0x3F));
        b[n++] = (char)(0x80 | (code & 0x3F));
    } else {
        b[n++] = (char)(0xF0 | code >> 18);
        b[n++] = (char)(0x80 | (code >> 12 & 0x3F));
        b[n++] = (char)(0x80 | (code >> 6 & 0x3F));
        b[n++] = (char)(0x80 | (code & 0x3F));
    }
    ftk_tmpl_add_bytes(j, t, b, n, input);
}

ftk_tmpl_value ftk_tmpl_text_end(ftk_tmpl_job *j, const ftk_tmpl_text *t)
{
    return ftk_tmpl_string(
        j, (ftk_tmpl_str){.p = t->p ? t->p : "", .marks = t->marks, .n = t->n, .input = t->input});
}

bool ftk_tmpl_mark(const ftk_tmpl_str *s, size_t at)
{
    return s->marks ? s->marks[at] : s->input;
}

/* ------------------------------------------------------------------ characters */

size_t ftk_tmpl_char(const ftk_tmpl_str *s, size_t at)
{
    const int step = ftk_utf8_step(s->p + at, s->n - at);
    return step > 0 ? (size_t)step : 1;
}

uint32_t ftk_tmpl_code(const ftk_tmpl_str *s, size_t at)
{
    const unsigned char *p = (const unsigned char *)s->p + at;
    switch (ftk_utf8_step(s->p + at, s->n - at)) {
    case 1: return p[0];
    case 2: return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    case 3: return (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    case 4:
        return (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
    default: return 0xDC00u + p[0]; /* as Python has bytes that are no UTF-8 */
    }
}

size_t ftk_tmpl_chars(ftk_tmpl_job *j, const ftk_tmpl_str *s)
{
    size_t n = 0;
    ftk_tmpl_spend(j, s->n / 16);
    for (size_t at = 0; at < s->n; at += ftk_tmpl_char(s, at)) n++;
    return n;
}

size_t ftk_tmpl_offset(const ftk_tmpl_str *s, size_t chars)
{
    size_t at = 0;
    for (; chars > 0 && at < s->n; chars--) at += ftk_tmpl_char(s, at);
    return at;
}

bool ftk_tmpl_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool ftk_tmpl_same(const ftk_tmpl_str *s, const char *word)
{
    return strlen(word) == s->n && memcmp(s->p, word, s->n) == 0;
}

/* ------------------------------------------------------------------ str() and repr() */

static bool printable(uint32_t c)
{
    if (c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0xAD) return false;
    if (c > 0x20 && ftk_tmpl_is_space(c)) return false;
    if ((c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
        (c >= 0x2060 && c <= 0x206F))
        return false;
    return !(c >= 0xD800 && c <= 0xF8FF) && c != 0xFEFF && (c & 0xFFFE) != 0xFFFE && c < 0xE0000;
}

static void add_hex(ftk_tmpl_job *j, ftk_tmpl_text *t, char letter, uint32_t code, int digits,
                    bool input)
{
    static const char hex[] = "0123456789abcdef";
    char b[12] = {'\\', letter};
    for (int i = 0; i < digits; i++) b[2 + i] = hex[code >> 4 * (digits - 1 - i) & 15];
    ftk_tmpl_add_bytes(j, t, b, (size_t)digits + 2, input);
}

static void repr_char(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_str *s, size_t at,
                      char quote)
{
    const uint32_t c = ftk_tmpl_code(s, at);
    const bool input = ftk_tmpl_mark(s, at);
    const char *named = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : NULL;
    if (named)
        ftk_tmpl_add_bytes(j, t, named, 2, input);
    else if (!printable(c))
        add_hex(j, t,
                c < 0x100     ? 'x'
                : c < 0x10000 ? 'u'
                              : 'U',
                c,
                c < 0x100     ? 2
                : c < 0x10000 ? 4
                              : 8,
                input);
    else {
        if (c == '\\' || c == (unsigned char)quote) ftk_tmpl_add_bytes(j, t, "\\", 1, input);
        ftk_tmpl_add(j, t, s, at, at + ftk_tmpl_char(s, at));
    }
}

static void repr_string(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_str *s)
{
    const bool single = s->n > 0 && memchr(s->p, '\'', s->n);
    const char quote = single && !memchr(s->p, '"', s->n) ? '"' : '\'';
    if (s->markup) ftk_tmpl_add_word(j, t, "Markup(");
    ftk_tmpl_add_bytes(j, t, &quote, 1, false);
    for (size_t at = 0; at < s->n; at += ftk_tmpl_char(s, at)) repr_char(j, t, s, at, quote);
    ftk_tmpl_add_bytes(j, t, &quote, 1, false);
    if (s->markup) ftk_tmpl_add_word(j, t, ")");
}

static void show_list(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_list *l)
{
    static const char *const open[] = {"[",           "(", "", "dict_keys([", "dict_values([",
                                       "dict_items(["};
    static const char *const close[] = {"]", ")", "", "])", "])", "])"};
    ftk_tmpl_add_word(j, t, open[l->sequence]);
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0) ftk_tmpl_add_word(j, t, ", ");
        ftk_tmpl_repr(j, t, l->v[i]);
    }
    if (l->sequence == TMPL_SEQ_TUPLE && l->n == 1) ftk_tmpl_add_word(j, t, ",");
    ftk_tmpl_add_word(j, t, close[l->sequence]);
}

static void show_range(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_list *l)
{
    ftk_tmpl_add_word(j, t, "range(");
    for (int i = 0; i < (l->range[2] == 1 ? 2 : 3); i++) {
        if (i > 0) ftk_tmpl_add_word(j, t, ", ");
        ftk_tmpl_show(j, t, TMPL_INT_VALUE(l->range[i]));
    }
    ftk_tmpl_add_word(j, t, ")");
}

static void show_dict(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_dict *d)
{
    ftk_tmpl_add_word(j, t, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0) ftk_tmpl_add_word(j, t, ", ");
        ftk_tmpl_repr(j, t, d->v[i].key);
        ftk_tmpl_add_word(j, t, ": ");
        ftk_tmpl_repr(j, t, d->v[i].value);
    }
    ftk_tmpl_add_word(j, t, "}");
}

static void show_whole(ftk_tmpl_job *j, ftk_tmpl_text *t, int64_t i, bool input)
{
    char b[24];
    size_t at = sizeof b;
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    do b[--at] = (char)('0' + u % 10);
    while ((u /= 10) > 0);
    if (i < 0) b[--at] = '-';
    ftk_tmpl_add_bytes(j, t, b + at, sizeof b - at, input);
}

static void show_other(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value v)
{
    char real[FTK_TMPL_DIGITS];
    switch ((ftk_tmpl_kind)v.kind) {
    case TMPL_NONE: ftk_tmpl_add_word(j, t, "None"); break;
    case TMPL_BOOL: ftk_tmpl_add_word(j, t, v.b ? "True" : "False"); break;
    case TMPL_INT: show_whole(j, t, v.i, v.input); break;
    case TMPL_FLOAT: ftk_tmpl_add_bytes(j, t, real, ftk_tmpl_show_real(real, v.f), v.input); break;
    case TMPL_LIST:
        if (v.list->sequence == TMPL_SEQ_RANGE)
            show_range(j, t, v.list);
        else if (v.list->sequence == TMPL_SEQ_GENERATOR)
            ftk_tmpl_fail(j, FTK_ERR_INVALID, "a generator is printed; use the filter list");
        else
            show_list(j, t, v.list);
        break;
    case TMPL_DICT: show_dict(j, t, v.dict); break;
    case TMPL_NAMESPACE:
        ftk_tmpl_add_word(j, t, "<Namespace ");
        show_dict(j, t, v.dict);
        ftk_tmpl_add_word(j, t, ">");
        break;
    case TMPL_LOOP:
        ftk_tmpl_add_word(j, t, "<LoopContext ");
        show_whole(j, t, (int64_t)v.loop->at + 1, false);
        ftk_tmpl_add_word(j, t, "/");
        show_whole(j, t, (int64_t)v.loop->items->n, false);
        ftk_tmpl_add_word(j, t, ">");
        break;
    case TMPL_MACRO:
        ftk_tmpl_add_word(j, t, v.macro->node->name ? "<Macro " : "<Macro anonymous>");
        if (!v.macro->node->name) break;
        repr_string(j, t, v.macro->node->name);
        ftk_tmpl_add_word(j, t, ">");
        break;
    case TMPL_SLICE:
        ftk_tmpl_add_word(j, t, "slice(");
        for (size_t i = 0; i < 3; i++) {
            if (i > 0) ftk_tmpl_add_word(j, t, ", ");
            ftk_tmpl_repr(j, t, v.list->v[i]);
        }
        ftk_tmpl_add_word(j, t, ")");
        break;
    default: /* Python shows an address */
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "a '%s' is printed", ftk_tmpl_type(v));
    }
}

void ftk_tmpl_repr(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value v)
{
    ftk_tmpl_enter(j);
    if (v.kind == TMPL_STRING)
        repr_string(j, t, v.s);
    else if (v.kind == TMPL_UNDEFINED)
        ftk_tmpl_add_word(j, t, "Undefined");
    else
        show_other(j, t, v);
    ftk_tmpl_leave(j);
}

void ftk_tmpl_show(ftk_tmpl_job *j, ftk_tmpl_text *t, ftk_tmpl_value v)
{
    if (v.kind == TMPL_STRING)
        ftk_tmpl_add_str(j, t, v.s);
    else if (v.kind != TMPL_UNDEFINED)
        ftk_tmpl_repr(j, t, v);
}

const ftk_tmpl_str *ftk_tmpl_str_of(ftk_tmpl_job *j, ftk_tmpl_value v)
{
    if (v.kind == TMPL_STRING) return v.s;
    ftk_tmpl_text t = {0};
    ftk_tmpl_show(j, &t, v);
    return ftk_tmpl_text_end(j, &t).s;
}

/* ------------------------------------------------------------------ parts of strings */

ftk_tmpl_value ftk_tmpl_slice_str(ftk_tmpl_job *j, const ftk_tmpl_str *s, size_t from, size_t to)
{
    ftk_tmpl_str part = *s;
    part.p += from;
    part.n = to - from;
    if (part.marks) part.marks += from;
    return ftk_tmpl_string(j, part);
}

size_t ftk_tmpl_find(ftk_tmpl_job *j, const ftk_tmpl_str *s, const ftk_tmpl_str *needle,
                     size_t from, size_t to, bool last)
{
    if (from > to || needle->n > to - from) return SIZE_MAX;
    ftk_tmpl_spend(j, (to - from) / 32);
    if (needle->n == 0) return last ? to : from;
    if (!last) {
        const char *found = memmem(s->p + from, to - from, needle->p, needle->n);
        return found ? (size_t)(found - s->p) : SIZE_MAX;
    }
    ftk_tmpl_spend(j, to - from);
    for (size_t at = to - needle->n + 1; at-- > from;)
        if (s->p[at] == needle->p[0] && memcmp(s->p + at, needle->p, needle->n) == 0) return at;
    return SIZE_MAX;
}

static bool strips(ftk_tmpl_job *j, const ftk_tmpl_str *s, size_t at, size_t n,
                   const ftk_tmpl_str *chars)
{
    if (!chars) return ftk_tmpl_is_space(ftk_tmpl_code(s, at));
    const ftk_tmpl_str one = {.p = s->p + at, .n = n};
    return ftk_tmpl_find(j, chars, &one, 0, chars->n, false) != SIZE_MAX;
}

/* Start of the character that ends at `to`. */
static size_t before(const ftk_tmpl_str *s, size_t from, size_t to)
{
    for (size_t n = 4; n > 1; n--) {
        if (to - from < n) continue;
        if (ftk_utf8_step(s->p + to - n, n) == (int)n) return to - n;
    }
    return to - 1;
}

ftk_tmpl_value ftk_tmpl_strip(ftk_tmpl_job *j, const ftk_tmpl_str *s, const ftk_tmpl_str *chars,
                              int sides)
{
    size_t from = 0, to = s->n;
    while ((sides & TMPL_STRIP_LEFT) && from < to) {
        const size_t n = ftk_tmpl_char(s, from);
        if (!strips(j, s, from, n, chars)) break;
        from += n;
    }
    while ((sides & TMPL_STRIP_RIGHT) && from < to) {
        const size_t at = before(s, from, to);
        if (!strips(j, s, at, to - at, chars)) break;
        to = at;
    }
    ftk_tmpl_spend(j, (s->n - (to - from)) / 8);
    return ftk_tmpl_slice_str(j, s, from, to);
}

/* Between all characters, and at both ends. */
static void replace_nothing(ftk_tmpl_job *j, ftk_tmpl_text *t, const ftk_tmpl_str *s,
                            const ftk_tmpl_str *with, int64_t most)
{
    size_t at = 0;
    for (; most != 0; most -= most > 0) {
        ftk_tmpl_add_str(j, t, with);
        if (at == s->n) return;
        const size_t n = ftk_tmpl_char(s, at);
        ftk_tmpl_add(j, t, s, at, at + n);
        at += n;
        ftk_tmpl_spend(j, 1);
    }
    ftk_tmpl_add(j, t, s, at, s->n);
}

ftk_tmpl_value ftk_tmpl_replace(ftk_tmpl_job *j, const ftk_tmpl_str *s, const ftk_tmpl_str *old,
                                const ftk_tmpl_str *with, int64_t most)
{
    ftk_tmpl_text t = {0};
    size_t at = 0;
    if (old->n == 0) {
        replace_nothing(j, &t, s, with, most);
        at = s->n;
    }
    for (; at < s->n && most != 0; most -= most > 0) {
        const char *found = memmem(s->p + at, s->n - at, old->p, old->n);
        if (!found) break;
        const size_t to = (size_t)(found - s->p);
        ftk_tmpl_spend(j, 1 + (to - at) / 32);
        ftk_tmpl_add(j, &t, s, at, to);
        ftk_tmpl_add_str(j, &t, with);
        at = to + old->n;
    }
    ftk_tmpl_spend(j, (s->n - at) / 32);
    ftk_tmpl_add(j, &t, s, at, s->n);
    return ftk_tmpl_text_end(j, &t);
}

static bool ends_line(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

ftk_tmpl_value ftk_tmpl_lines(ftk_tmpl_job *j, const ftk_tmpl_str *s, bool keep_ends)
{
    ftk_tmpl_list *l = ftk_tmpl_list_new(j, TMPL_SEQ_LIST, 0);
    size_t start = 0;
    ftk_tmpl_spend(j, s->n / 8);
    for (size_t at = 0; at < s->n;) {
        const uint32_t c = ftk_tmpl_code(s, at);
        size_t next = at + ftk_tmpl_char(s, at);
        if (ends_line(c)) {
            if (c == '\r' && next < s->n && s->p[next] == '\n') next++;
            ftk_tmpl_list_push(j, l, ftk_tmpl_slice_str(j, s, start, keep_ends ? next : at));
            start = next;
        }
        at = next;
    }
    if (start < s->n) ftk_tmpl_list_push(j, l, ftk_tmpl_slice_str(j, s, start, s->n));
    return ftk_tmpl_list_of(l);
}

ftk_tmpl_value ftk_tmpl_join(ftk_tmpl_job *j, const ftk_tmpl_list *l, const ftk_tmpl_str *with)
{
    ftk_tmpl_text t = {0};
    for (size_t i = 0; i < l->n; i++) {
        ftk_tmpl_spend(j, 1);
        if (i > 0) ftk_tmpl_add_str(j, &t, with);
        ftk_tmpl_show(j, &t, l->v[i]);
    }
    return ftk_tmpl_text_end(j, &t);
}

ftk_tmpl_value ftk_tmpl_concat(ftk_tmpl_job *j, const ftk_tmpl_str *a, const ftk_tmpl_str *b)
{
    ftk_tmpl_text t = {0};
    ftk_tmpl_add_str(j, &t, a);
    ftk_tmpl_add_str(j, &t, b);
    return ftk_tmpl_text_end(j, &t);
}

const ftk_tmpl_str *ftk_tmpl_escape(ftk_tmpl_job *j, ftk_tmpl_value v)
{
    const ftk_tmpl_str *s = ftk_tmpl_str_of(j, v);
    if (s->markup) return s;
    ftk_tmpl_text t = {0};
    for (size_t at = 0; at < s->n; at++) {
        const char c = s->p[at];
        const char *name = c == '&'    ? "&amp;"
                           : c == '<'  ? "&lt;"
                           : c == '>'  ? "&gt;"
                           : c == '\'' ? "&#39;"
                           : c == '"'  ? "&#34;"
                                       : NULL;
        if (name)
            ftk_tmpl_add_bytes(j, &t, name, strlen(name), ftk_tmpl_mark(s, at));
        else
            ftk_tmpl_add(j, &t, s, at, at + 1);
    }
    ftk_tmpl_str escaped = *ftk_tmpl_text_end(j, &t).s;
    escaped.markup = true;
    return ftk_tmpl_string(j, escaped).s;
}
