/* SPDX-License-Identifier: Apache-2.0
 * Python's two ways to format: "%s" % value and "{}".format(value). */
#include "template/parts.h"

#include <math.h>
#include <string.h>

typedef struct spec {
    ftk_tmpl_str fill; /* one character; n 0: a blank */
    char align;        /* < > ^ =, or 0: by the type */
    char sign;         /* + or blank, or 0 */
    char group;        /* , or _, or 0 */
    char type;         /* 0: none */
    bool alt, zero;
    int64_t width, precision; /* precision -1: none */
} spec;

enum { MAX_WIDTH = 1000000, MAX_PRECISION = 40 };

static void pad(ftk_tmpl_job *j, ftk_tmpl_text *t, const spec *s, int64_t n)
{
    static const ftk_tmpl_str blank = {.p = " ", .n = 1}, zero = {.p = "0", .n = 1};
    const ftk_tmpl_str *fill = s->fill.n > 0 ? &s->fill : s->zero ? &zero : &blank;
    for (int64_t i = 0; i < n; i++) {
        ftk_tmpl_spend(j, 1);
        ftk_tmpl_add_str(j, t, fill);
    }
}

/* head stays in front where zeros fill up. */
static void put(ftk_tmpl_job *j, ftk_tmpl_text *t, const spec *s, const ftk_tmpl_str *head,
                const ftk_tmpl_str *body, char usual)
{
    const char align = s->align ? s->align : s->zero && usual == '>' ? '=' : usual;
    const int64_t n = (int64_t)(ftk_tmpl_chars(j, head) + ftk_tmpl_chars(j, body));
    const int64_t space = s->width > n ? s->width - n : 0;
    const int64_t left = align == '<' ? 0 : align == '^' ? space / 2 : space;
    if (align != '=') pad(j, t, s, left);
    ftk_tmpl_add_str(j, t, head);
    if (align == '=') pad(j, t, s, left);
    ftk_tmpl_add_str(j, t, body);
    pad(j, t, s, space - left);
}

static void put_text(ftk_tmpl_job *j, ftk_tmpl_text *t, const spec *s, const ftk_tmpl_str *text)
{
    static const ftk_tmpl_str nothing = {.p = ""};
    const size_t to = s->precision < 0 ? text->n : ftk_tmpl_offset(text, (size_t)s->precision);
    put(j, t, s, &nothing, ftk_tmpl_slice_str(j, text, 0, to).s, '<');
}

/* ------------------------------------------------------------------ numbers */

static size_t digits_of(char *b, uint64_t u, unsigned base, bool upper)
{
    char back[64];
    size_t n = 0;
    do back[n++] = (upper ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
    while ((u /= base) > 0);
    for (size_t i = 0; i < n; i++) b[i] = back[n - 1 - i];
    return n;
}

/* A separator after every third digit, or fourth, of the whole part. */
static size_t group(char *b, size_t n, char with, size_t every)
{
    char out[2 * FTK_TMPL_DIGITS];
    size_t whole = 0, k = 0;
    while (whole < n && b[whole] != '.' && b[whole] != 'e') whole++;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && i < whole && (whole - i) % every == 0) out[k++] = with;
        out[k++] = b[i];
    }
    memcpy(b, out, k);
    return k;
}

static size_t real_digits(ftk_tmpl_job *j, char *b, const spec *s, double f)
{
    const char low = s->type == '%' ? 'f' : (char)(s->type | 32);
    if (s->precision > MAX_PRECISION)
        ftk_tmpl_fail(j, FTK_ERR_UNSUPPORTED, "a number with more than %d decimals", MAX_PRECISION);
    if (s->type == 0 && s->precision < 0) return ftk_tmpl_show_real(b, f);
    const int decimals = s->precision < 0 ? 6 : (int)s->precision;
    size_t n = ftk_tmpl_format_real(b, s->type == '%' ? 100 * f : f,
                                    s->type == 0 || low == 'n' ? 'g' : low, decimals, s->alt);
    if (s->type == 0 && isfinite(f) && !memchr(b, '.', n) && !memchr(b, 'e', n)) {
        memcpy(b + n, ".0", 2);
        n += 2;
    }
    if (s->type >= 'A' && s->type <= 'Z')
        for (size_t i = 0; i < n; i++) b[i] = (char)(b[i] >= 'a' && b[i] <= 'z' ? b[i] - 32 : b[i]);
    if (s->type == '%') b[n++] = '%';
    return n;
}

static void put_number(ftk_tmpl_job *j, ftk_tmpl_text *t, const spec *s, ftk_tmpl_value v)
{
    char b[2 * FTK_TMPL_DIGITS], head[4];
    size_t n = 0, n_head = 0;
    bool negative;
    const char base = (char)(s->type | 32);
    const bool based = base == 'x' || base == 'o' || base == 'b';
    if (ftk_tmpl_is_whole(v) && (s->type == 0 || strchr("dnxXobiu", s->type))) {
        const int64_t i = ftk_tmpl_whole(v);
        negative = i < 0;
        n = digits_of(b, negative ? 0 - (uint64_t)i : (uint64_t)i,
                      base == 'x'   ? 16
                      : base == 'o' ? 8
                      : base == 'b' ? 2
                                    : 10,
                      s->type == 'X');
    } else {
        const double f = ftk_tmpl_real(v);
        negative = signbit(f) != 0;
        n = real_digits(j, b, s, fabs(f));
    }
    if (s->group) n = group(b, n, s->group, based ? 4 : 3);
    if (negative || s->sign) head[n_head++] = negative ? '-' : s->sign;
    if (s->alt && based) {
        head[n_head++] = '0';
        head[n_head++] = s->type;
    }
    const ftk_tmpl_str front = {.p = head, .n = n_head}, body = {.p = b, .n = n, .input = v.input};
    put(j, t, s, &front, &body, '>');
}

/* ------------------------------------------------------------------ "%s" % value */

typedef struct percent {
    ftk_tmpl_job *j;
    const ftk_tmpl_str *f;
    size_t at;
    ftk_tmpl_value args;
    size_t used;
    ftk_tmpl_text out;
} percent;

static ftk_tmpl_value next_value(percent *p)
{
    const bool tuple = p->args.kind == TMPL_LIST && p->args.list->sequence == TMPL_SEQ_TUPLE;
    if (p->used >= (tuple ? p->args.list->n : 1))
        ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "not enough arguments for format string");
    return tuple ? p->args.list->v[p->used++] : (p->used++, p->args);
}

static char peek(const percent *p)
{
    if (p->at >= p->f->n) ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "incomplete format");
    return p->f->p[p->at];
}

/* A number, or '*': the next value. */
static int64_t read_size(percent *p, int64_t absent)
{
    if (peek(p) == '*') {
        p->at++;
        return ftk_tmpl_int_of(p->j, next_value(p), 0);
    }
    int64_t n = absent;
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
        if (n <= MAX_WIDTH) n = 10 * (n < 0 ? 0 : n) + (peek(p) - '0');
    if (n > MAX_WIDTH) ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "a format that is too wide");
    return n;
}

static ftk_tmpl_value keyed_value(percent *p)
{
    const size_t start = ++p->at;
    while (peek(p) != ')') p->at++;
    const ftk_tmpl_value key = ftk_tmpl_slice_str(p->j, p->f, start, p->at++);
    if (p->args.kind != TMPL_DICT)
        ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "format requires a mapping");
    const ftk_tmpl_value *v = ftk_tmpl_dict_find(p->j, p->args.dict, key);
    if (!v)
        ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "'%.*s'", (int)(key.s->n < 60 ? key.s->n : 60),
                      key.s->p);
    return *v;
}

static ftk_tmpl_value number_for(percent *p, const spec *s, ftk_tmpl_value v)
{
    const bool whole = strchr("diuxXo", s->type) != NULL;
    const bool hex = strchr("xXo", s->type) != NULL;
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(p->j, v);
    if (!ftk_tmpl_is_number(v) || (hex && v.kind == TMPL_FLOAT)) {
        if (whole)
            ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "%%%c format: %s is required, not %s", s->type,
                          hex ? "an integer" : "a real number", ftk_tmpl_type(v));
        ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "must be real number, not %s", ftk_tmpl_type(v));
    }
    if (whole && v.kind == TMPL_FLOAT) {
        if (!(fabs(v.f) < 9e18))
            ftk_tmpl_fail(p->j, FTK_ERR_UNSUPPORTED, "a whole number of more than 64 bits");
        v = (ftk_tmpl_value){.kind = TMPL_INT, .input = v.input, .i = (int64_t)v.f};
    }
    return v;
}

static void put_percent(percent *p, spec *s, ftk_tmpl_value v)
{
    if (s->type == 's' || s->type == 'r' || s->type == 'a') {
        ftk_tmpl_text t = {0};
        if (s->type == 's')
            ftk_tmpl_show(p->j, &t, v);
        else
            ftk_tmpl_repr(p->j, &t, v);
        if (!s->align) s->align = '>';
        s->zero = false;
        put_text(p->j, &p->out, s, ftk_tmpl_text_end(p->j, &t).s);
    } else if (s->type == 'c') {
        ftk_tmpl_text t = {0};
        if (v.kind == TMPL_STRING)
            ftk_tmpl_add_str(p->j, &t, v.s);
        else if (ftk_tmpl_is_whole(v))
            ftk_tmpl_add_code(p->j, &t, (uint32_t)ftk_tmpl_whole(v) % 0x110000, v.input);
        if (!(ftk_tmpl_is_whole(v) || (v.kind == TMPL_STRING && ftk_tmpl_chars(p->j, v.s) == 1)))
            ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "%%c requires int or char");
        put_text(p->j, &p->out, s, ftk_tmpl_text_end(p->j, &t).s);
    } else if (strchr("diuxXoeEfFgG", s->type)) {
        put_number(p->j, &p->out, s, number_for(p, s, v));
    } else {
        ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "unsupported format character '%c'", s->type);
    }
}

static void convert(percent *p)
{
    spec s = {.precision = -1};
    ftk_tmpl_value v = TMPL_ABSENT_VALUE;
    if (peek(p) == '(') v = keyed_value(p);
    for (; peek(p) && strchr("#0- +", peek(p)); p->at++) {
        const char flag = peek(p);
        if (flag == '#') s.alt = true;
        if (flag == '0') s.zero = true;
        if (flag == '-') s.align = '<';
        if (flag == '+' || (flag == ' ' && s.sign == 0)) s.sign = flag;
    }
    s.width = read_size(p, 0);
    if (s.width < 0) {
        s.align = '<';
        s.width = -s.width;
    }
    if (peek(p) == '.') {
        p->at++;
        s.precision = read_size(p, 0);
    }
    while (peek(p) == 'l' || peek(p) == 'h' || peek(p) == 'L') p->at++;
    s.type = peek(p);
    p->at++;
    if (s.align == '<') s.zero = false;
    if (s.type == '%') {
        ftk_tmpl_add_word(p->j, &p->out, "%");
        return;
    }
    if (s.type == '\0') ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "unsupported format character");
    put_percent(p, &s, v.kind == TMPL_ABSENT ? next_value(p) : v);
}

ftk_tmpl_value ftk_tmpl_percent(ftk_tmpl_job *j, const ftk_tmpl_str *f, ftk_tmpl_value args)
{
    percent p = {.j = j, .f = f, .args = args};
    while (p.at < f->n) {
        const char *found = memchr(f->p + p.at, '%', f->n - p.at);
        const size_t to = found ? (size_t)(found - f->p) : f->n;
        ftk_tmpl_spend(j, 1);
        ftk_tmpl_add(j, &p.out, f, p.at, to);
        p.at = to + 1;
        if (found) convert(&p);
    }
    const bool tuple = args.kind == TMPL_LIST && args.list->sequence == TMPL_SEQ_TUPLE;
    const bool needs_none =
        args.kind == TMPL_DICT || args.kind == TMPL_UNDEFINED || (args.kind == TMPL_LIST && !tuple);
    if (p.used < (tuple ? args.list->n : 1) && !needs_none)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "not all arguments converted during string formatting");
    return ftk_tmpl_text_end(j, &p.out);
}

/* ------------------------------------------------------------------ "{}".format(value) */

typedef struct braces {
    ftk_tmpl_run *r;
    const ftk_tmpl_str *f;
    const ftk_tmpl_args *args;
    size_t next;
    ftk_tmpl_text out;
} braces;

static bool is_align(char c)
{
    return c == '<' || c == '>' || c == '^' || c == '=';
}

static spec read_spec(braces *b, size_t at, size_t to)
{
    spec s = {.precision = -1};
    const char *const p = b->f->p;
    const size_t n = at < to ? ftk_tmpl_char(b->f, at) : 0;
    if (at + n < to && is_align(p[at + n])) {
        s.fill = *ftk_tmpl_slice_str(&b->r->job, b->f, at, at + n).s;
        at += n;
    }
    if (at < to && is_align(p[at])) s.align = p[at++];
    if (at < to && (p[at] == '+' || p[at] == '-' || p[at] == ' ')) {
        s.sign = p[at] == '-' ? 0 : p[at];
        at++;
    }
    if (at < to && p[at] == '#') s.alt = at++ < to;
    if (at < to && p[at] == '0') s.zero = at++ < to;
    for (; at < to && p[at] >= '0' && p[at] <= '9'; at++)
        if (s.width <= MAX_WIDTH) s.width = 10 * s.width + (p[at] - '0');
    if (s.width > MAX_WIDTH)
        ftk_tmpl_fail(&b->r->job, FTK_ERR_INVALID, "a format that is too wide");
    if (at < to && (p[at] == ',' || p[at] == '_')) s.group = p[at++];
    if (at < to && p[at] == '.')
        for (at++, s.precision = 0; at < to && p[at] >= '0' && p[at] <= '9'; at++)
            if (s.precision <= MAX_WIDTH) s.precision = 10 * s.precision + (p[at] - '0');
    if (at < to) s.type = p[at++];
    if (at < to || (s.type && !strchr("sdnxXobeEfFgG%", s.type)))
        ftk_tmpl_fail(&b->r->job, FTK_ERR_INVALID, "Invalid format specifier");
    return s;
}

/* The value behind "0", "name" or "", which is the next one. */
static ftk_tmpl_value named_value(braces *b, size_t from, size_t to)
{
    ftk_tmpl_job *j = &b->r->job;
    const ftk_tmpl_value name = ftk_tmpl_slice_str(j, b->f, from, to);
    int64_t place = from == to ? (int64_t)b->next++ : -1;
    const bool is_place = from == to || ftk_tmpl_read_whole(b->f->p + from, to - from, 10, &place);
    if (is_place && place >= 0 && (size_t)place < b->args->n) return b->args->v[place];
    if (is_place) ftk_tmpl_fail(j, FTK_ERR_INVALID, "tuple index out of range");
    for (size_t i = 0; i < b->args->n_named; i++)
        if (ftk_tmpl_equal(j, b->args->named[i].key, name)) return b->args->named[i].value;
    ftk_tmpl_fail(j, FTK_ERR_INVALID, "'%.*s'", (int)(to - from < 60 ? to - from : 60),
                  b->f->p + from);
}

/* "0.name[key]" */
static ftk_tmpl_value field_value(braces *b, size_t at, size_t to)
{
    const char *const p = b->f->p;
    size_t end = at;
    while (end < to && p[end] != '.' && p[end] != '[') end++;
    ftk_tmpl_value v = named_value(b, at, end);
    while (end < to) {
        const bool dot = p[end] == '.';
        const size_t start = ++end;
        while (end < to && (dot ? p[end] != '.' && p[end] != '[' : p[end] != ']')) end++;
        ftk_tmpl_value key = ftk_tmpl_slice_str(&b->r->job, b->f, start, end);
        int64_t place;
        if (!dot && ftk_tmpl_read_whole(p + start, end - start, 10, &place))
            key = TMPL_INT_VALUE(place);
        v = dot ? ftk_tmpl_attribute(b->r, v, key) : ftk_tmpl_item(b->r, v, key);
        end += !dot && end < to;
    }
    return v;
}

static void put_field(braces *b, const spec *s, ftk_tmpl_value v)
{
    ftk_tmpl_job *j = &b->r->job;
    const bool bare = !s->type && !s->width && s->precision < 0 && !s->align && !s->sign &&
                      !s->group && !s->zero && !s->alt;
    const bool number = ftk_tmpl_is_number(v) && !(v.kind == TMPL_BOOL && bare);
    if (number && v.kind != TMPL_FLOAT && s->precision >= 0 &&
        !(s->type && strchr("eEfFgG%", s->type)))
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "Precision not allowed in integer format specifier");
    if (number && s->type == 's')
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "Unknown format code 's' for object of type '%s'",
                      ftk_tmpl_type(v));
    if (number && v.kind == TMPL_FLOAT && s->type && strchr("dxXob", s->type))
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "Unknown format code '%c' for object of type 'float'",
                      s->type);
    if (v.kind == TMPL_STRING && s->type && s->type != 's')
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "Unknown format code '%c' for object of type 'str'",
                      s->type);
    if (v.kind == TMPL_STRING && s->sign)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "Sign not allowed in string format specifier");
    if (v.kind == TMPL_STRING && s->alt)
        ftk_tmpl_fail(j, FTK_ERR_INVALID,
                      "Alternate form (#) not allowed in string format specifier");
    if (v.kind == TMPL_STRING && s->align == '=')
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "'=' alignment not allowed in string format specifier");
    if (v.kind == TMPL_STRING && s->group)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "Cannot specify '%c' with 's'.", s->group);
    if (!number && v.kind != TMPL_STRING && !bare)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "unsupported format string passed to %s.__format__",
                      ftk_tmpl_type(v));
    if (number)
        put_number(j, &b->out, s, v);
    else
        put_text(j, &b->out, s, ftk_tmpl_str_of(j, v));
}

/* f[at..to) stands between braces. */
static void replace_field(braces *b, size_t at, size_t to)
{
    const char *const p = b->f->p;
    size_t name = at;
    while (name < to && p[name] != '!' && p[name] != ':') name++;
    ftk_tmpl_value v = field_value(b, at, name);
    if (name + 1 < to && p[name] == '!') {
        ftk_tmpl_text t = {0};
        if (p[name + 1] == 's')
            ftk_tmpl_show(&b->r->job, &t, v);
        else
            ftk_tmpl_repr(&b->r->job, &t, v);
        v = ftk_tmpl_text_end(&b->r->job, &t);
        name += 2;
    }
    const spec s = read_spec(b, name < to && p[name] == ':' ? name + 1 : to, to);
    put_field(b, &s, v);
}

ftk_tmpl_value ftk_tmpl_format(ftk_tmpl_run *r, const ftk_tmpl_str *f, const ftk_tmpl_args *args)
{
    braces b = {.r = r, .f = f, .args = args};
    for (size_t at = 0; at < f->n;) {
        const char c = f->p[at];
        ftk_tmpl_spend(&r->job, 1);
        if ((c == '{' || c == '}') && at + 1 < f->n && f->p[at + 1] == c) {
            ftk_tmpl_add(&r->job, &b.out, f, at, at + 1);
            at += 2;
        } else if (c == '{') {
            size_t to = at + 1;
            while (to < f->n && f->p[to] != '}' && f->p[to] != '{') to++;
            if (to >= f->n)
                ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "expected '}' before end of string");
            if (f->p[to] == '{')
                ftk_tmpl_fail(&r->job, FTK_ERR_UNSUPPORTED, "a field within a field of a format");
            replace_field(&b, at + 1, to);
            at = to + 1;
        } else if (c == '}') {
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "Single '}' encountered in format string");
        } else {
            ftk_tmpl_add(&r->job, &b.out, f, at, at + 1);
            at++;
        }
    }
    return ftk_tmpl_text_end(&r->job, &b.out);
}
