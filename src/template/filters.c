/* SPDX-License-Identifier: Apache-2.0
 * Filters of one value: what may stand behind a '|'. Those of sequences are in filters_list.c. */
#include "template/filters.h"

#include <math.h>
#include <string.h>

static const ftk_tmpl_str *text(ftk_tmpl_run *r, ftk_tmpl_value v)
{
    return ftk_tmpl_str_of(&r->job, v);
}

/* ------------------------------------------------------------------ texts */

static ftk_tmpl_value as_markup(ftk_tmpl_run *r, const ftk_tmpl_str *s, bool markup)
{
    ftk_tmpl_str copy = *s;
    copy.markup = markup;
    return ftk_tmpl_string(&r->job, copy);
}

FILTER(do_string)
{
    (void)p, (void)args;
    return (ftk_tmpl_value){.kind = TMPL_STRING, .s = text(r, v)};
}

FILTER(do_safe)
{
    (void)p, (void)args;
    return as_markup(r, text(r, v), true);
}

FILTER(do_escape)
{
    (void)p, (void)args;
    return (ftk_tmpl_value){.kind = TMPL_STRING, .s = ftk_tmpl_escape(&r->job, v)};
}

FILTER(do_force_escape)
{
    (void)p, (void)args;
    return do_escape(r, as_markup(r, text(r, v), false), NULL, NULL);
}

FILTER(do_trim)
{
    (void)args;
    const bool bare = p[0].kind == TMPL_ABSENT || p[0].kind == TMPL_NONE;
    const ftk_tmpl_str *s = text(r, v);
    return as_markup(r,
                     ftk_tmpl_strip(&r->job, s, bare ? NULL : ftk_tmpl_text_of(&r->job, p[0]),
                                    TMPL_STRIP_LEFT | TMPL_STRIP_RIGHT)
                         .s,
                     s->markup);
}

FILTER(do_upper)
{
    (void)p, (void)args;
    return ftk_tmpl_recase(&r->job, text(r, v), TMPL_UPPER);
}

FILTER(do_lower)
{
    (void)p, (void)args;
    return ftk_tmpl_recase(&r->job, text(r, v), TMPL_LOWER);
}

FILTER(do_capitalize)
{
    (void)p, (void)args;
    return ftk_tmpl_recase(&r->job, text(r, v), TMPL_CAPITALIZE);
}

FILTER(do_title)
{
    (void)p, (void)args;
    return ftk_tmpl_recase(&r->job, text(r, v), TMPL_WORD_TITLE);
}

FILTER(do_replace)
{
    (void)args;
    const int64_t most = p[2].kind == TMPL_NONE ? -1 : ftk_tmpl_int_of(&r->job, p[2], -1);
    return ftk_tmpl_replace(&r->job, text(r, v), text(r, p[0]), text(r, p[1]), most);
}

FILTER(do_format)
{
    (void)p;
    if (args->n > 0 && args->n_named > 0)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                      "can't handle positional and keyword arguments at the same time");
    ftk_tmpl_value given;
    if (args->n_named > 0) {
        ftk_tmpl_dict *d = ftk_tmpl_dict_new(&r->job);
        for (size_t i = 0; i < args->n_named; i++)
            ftk_tmpl_dict_put(&r->job, d, args->named[i].key, args->named[i].value);
        given = ftk_tmpl_dict_of(d);
    } else {
        ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_TUPLE, args->n);
        for (size_t i = 0; i < args->n; i++) l->v[l->n++] = args->v[i];
        given = ftk_tmpl_list_of(l);
    }
    return ftk_tmpl_percent(&r->job, text(r, v), given);
}

static void add_blanks(ftk_tmpl_run *r, ftk_tmpl_text *t, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        ftk_tmpl_spend(&r->job, 1);
        ftk_tmpl_add_word(&r->job, t, " ");
    }
}

FILTER(do_center)
{
    (void)args;
    ftk_tmpl_text t = {0};
    const int64_t chars = (int64_t)ftk_tmpl_chars(&r->job, text(r, v));
    const int64_t width = ftk_tmpl_int_of(&r->job, p[0], 80);
    const int64_t space = width > chars ? width - chars : 0;
    const int64_t left = space / 2 + (space & width & 1);
    add_blanks(r, &t, left);
    ftk_tmpl_add_str(&r->job, &t, text(r, v));
    add_blanks(r, &t, space - left);
    return ftk_tmpl_text_end(&r->job, &t);
}

/* As many blanks, or the text itself. */
static const ftk_tmpl_str *indentation(ftk_tmpl_run *r, ftk_tmpl_value width)
{
    if (width.kind == TMPL_STRING) return width.s;
    ftk_tmpl_text t = {0};
    add_blanks(r, &t, ftk_tmpl_int_of(&r->job, width, 4));
    return ftk_tmpl_text_end(&r->job, &t).s;
}

FILTER(do_indent)
{
    (void)args;
    static const ftk_tmpl_str newline = {.p = "\n", .n = 1};
    const ftk_tmpl_str *by = indentation(r, p[0]);
    const bool first = ftk_tmpl_true(p[1]), blank = ftk_tmpl_true(p[2]);
    if (v.kind != TMPL_STRING && v.kind != TMPL_UNDEFINED)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                      "unsupported operand type(s) for +=: '%s' and 'str'", ftk_tmpl_type(v));
    const ftk_tmpl_str *s = ftk_tmpl_text_of(&r->job, v);
    const ftk_tmpl_list *lines =
        ftk_tmpl_lines(&r->job, ftk_tmpl_concat(&r->job, s, &newline).s, false).list;
    ftk_tmpl_text t = {0};
    if (first) ftk_tmpl_add_str(&r->job, &t, by);
    for (size_t i = 0; i < lines->n; i++) {
        if (i > 0) ftk_tmpl_add_str(&r->job, &t, &newline);
        if (i > 0 && (blank || lines->v[i].s->n > 0)) ftk_tmpl_add_str(&r->job, &t, by);
        ftk_tmpl_add_str(&r->job, &t, lines->v[i].s);
    }
    return ftk_tmpl_text_end(&r->job, &t);
}

static void check_length(ftk_tmpl_run *r, ftk_tmpl_value v, int64_t *n)
{
    if (!ftk_tmpl_length(&r->job, v, n))
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "object of type '%s' has no len()",
                      ftk_tmpl_type(v));
}

FILTER(do_truncate)
{
    (void)args;
    int64_t chars;
    static const ftk_tmpl_str dots = {.p = "...", .n = 3}, blank = {.p = " ", .n = 1};
    const ftk_tmpl_str *end = p[2].kind == TMPL_ABSENT ? &dots : text(r, p[2]);
    const int64_t length = ftk_tmpl_int_of(&r->job, p[0], 255);
    const int64_t n_end = (int64_t)ftk_tmpl_chars(&r->job, end);
    const int64_t leeway = p[3].kind == TMPL_NONE ? 5 : ftk_tmpl_int_of(&r->job, p[3], 5);
    if (length < n_end)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "expected length >= %lld, got %lld",
                      (long long)n_end, (long long)length);
    if (leeway < 0) ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "expected leeway >= 0");
    check_length(r, v, &chars);
    if (chars - leeway <= length) return v;
    const ftk_tmpl_str *s = ftk_tmpl_text_of(&r->job, v);
    size_t to = ftk_tmpl_offset(s, (size_t)(length - n_end));
    if (!ftk_tmpl_true(p[1])) {
        const size_t word = ftk_tmpl_find(&r->job, s, &blank, 0, to, true);
        if (word != SIZE_MAX) to = word;
    }
    return ftk_tmpl_concat(&r->job, ftk_tmpl_slice_str(&r->job, s, 0, to).s, end);
}

FILTER(do_wordcount)
{
    (void)p, (void)args;
    const ftk_tmpl_str *s = text(r, v);
    int64_t n = 0;
    bool in = false;
    for (size_t at = 0; at < s->n; at += ftk_tmpl_char(s, at)) {
        const uint32_t c = ftk_tmpl_code(s, at);
        const bool word = ftk_tmpl_is_alpha(c) || (c >= '0' && c <= '9') || c == '_';
        n += word && !in;
        in = word;
    }
    return TMPL_INT_VALUE(n);
}

FILTER(do_tojson)
{
    (void)args;
    static const ftk_tmpl_str comma = {.p = ", ", .n = 2}, tight = {.p = ",", .n = 1},
                              colon = {.p = ": ", .n = 2};
    const bool lines = p[1].kind != TMPL_ABSENT && p[1].kind != TMPL_NONE;
    ftk_tmpl_json how = {.ascii = ftk_tmpl_true(p[0]),
                         .indent = lines ? indentation(r, p[1]) : NULL,
                         .comma = lines ? &tight : &comma,
                         .colon = &colon,
                         .sort = ftk_tmpl_true(p[3])};
    if (p[2].kind != TMPL_ABSENT && p[2].kind != TMPL_NONE) {
        const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, p[2]);
        if (l->n != 2) ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "tojson takes two separators");
        how.comma = ftk_tmpl_text_of(&r->job, l->v[0]);
        how.colon = ftk_tmpl_text_of(&r->job, l->v[1]);
    }
    ftk_tmpl_text t = {0};
    ftk_tmpl_to_json(&r->job, &t, v, &how);
    return ftk_tmpl_text_end(&r->job, &t);
}

/* ------------------------------------------------------------------ numbers */

static ftk_str stripped(ftk_tmpl_run *r, const ftk_tmpl_str *s)
{
    const ftk_tmpl_str *t = ftk_tmpl_strip(&r->job, s, NULL, TMPL_STRIP_LEFT | TMPL_STRIP_RIGHT).s;
    return (ftk_str){t->p, t->n};
}

/* Small letters, whatever their case in p. */
static bool same_letters(const char *p, size_t n, const char *word)
{
    if (strlen(word) != n) return false;
    for (size_t i = 0; i < n; i++)
        if ((p[i] | 32) != word[i]) return false;
    return true;
}

/* float() of Python; false where it raises. */
static bool to_real(ftk_tmpl_run *r, ftk_tmpl_value v, double *f)
{
    static const char *const words[] = {"inf", "infinity", "nan"};
    if (ftk_tmpl_is_number(v)) {
        *f = ftk_tmpl_real(v);
        return true;
    }
    if (v.kind != TMPL_STRING) return false;
    const ftk_str s = stripped(r, v.s);
    if (ftk_tmpl_read_real(s.p, s.n, f)) return true;
    const size_t sign = s.n > 0 && (s.p[0] == '-' || s.p[0] == '+');
    for (int i = 0; i < 3; i++) {
        if (!same_letters(s.p + sign, s.n - sign, words[i])) continue;
        *f = i < 2 ? (double)INFINITY : (double)NAN;
        if (sign && s.p[0] == '-') *f = -*f;
        return true;
    }
    return false;
}

static bool is_input(ftk_tmpl_value v)
{
    return v.kind == TMPL_STRING ? v.s->n > 0 && (v.s->marks || v.s->input) : v.input;
}

static bool real_to_whole(double f, int64_t *i)
{
    if (!isfinite(f)) return false;
    if (f < -9223372036854775808.0 || f >= 9223372036854775808.0) return false;
    *i = (int64_t)f;
    return true;
}

FILTER(do_int)
{
    (void)args;
    const int64_t base = ftk_tmpl_int_of(&r->job, p[1], 10);
    ftk_tmpl_value number = {.kind = TMPL_INT, .input = is_input(v)};
    double f;
    if (base != 0 && (base < 2 || base > 36)) return p[0].kind == TMPL_ABSENT ? number : p[0];
    if (v.kind == TMPL_STRING) {
        const ftk_str s = stripped(r, v.s);
        if (ftk_tmpl_read_whole(s.p, s.n, (int)base, &number.i)) return number;
    }
    if (ftk_tmpl_is_whole(v)) {
        number.i = ftk_tmpl_whole(v);
        return number;
    }
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(&r->job, v);
    if (to_real(r, v, &f)) {
        if (real_to_whole(f, &number.i)) return number;
        if (isfinite(f))
            ftk_tmpl_fail(&r->job, FTK_ERR_UNSUPPORTED, "a whole number of more than 64 bits");
    }
    return p[0].kind == TMPL_ABSENT ? TMPL_INT_VALUE(0) : p[0];
}

FILTER(do_float)
{
    (void)args;
    ftk_tmpl_value number = {.kind = TMPL_FLOAT, .input = is_input(v)};
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(&r->job, v);
    if (to_real(r, v, &number.f)) return number;
    return p[0].kind == TMPL_ABSENT ? (ftk_tmpl_value){.kind = TMPL_FLOAT} : p[0];
}

FILTER(do_abs)
{
    (void)p, (void)args;
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(&r->job, v);
    if (!ftk_tmpl_is_number(v))
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "bad operand type for abs(): '%s'",
                      ftk_tmpl_type(v));
    if (v.kind == TMPL_FLOAT)
        v.f = fabs(v.f);
    else if (ftk_tmpl_whole(v) < 0)
        v = ftk_tmpl_binary(&r->job, OP_SUBTRACT, TMPL_INT_VALUE(0), v);
    else
        v = (ftk_tmpl_value){.kind = TMPL_INT, .input = v.input, .i = ftk_tmpl_whole(v)};
    return v;
}

FILTER(do_round)
{
    (void)args;
    const int64_t decimals = ftk_tmpl_int_of(&r->job, p[0], 0);
    const ftk_tmpl_str *how = p[1].kind == TMPL_ABSENT ? NULL : ftk_tmpl_text_of(&r->job, p[1]);
    const bool up = how && ftk_tmpl_same(how, "ceil"), down = how && ftk_tmpl_same(how, "floor");
    if (how && !up && !down && !ftk_tmpl_same(how, "common"))
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "method must be common, ceil or floor");
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(&r->job, v);
    if (!ftk_tmpl_is_number(v))
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "type %s doesn't define __round__ method",
                      ftk_tmpl_type(v));
    if (decimals < -300 || decimals > 300) return v;
    if (up || down) {
        const double scale = pow(10, (double)decimals), f = ftk_tmpl_real(v) * scale;
        v = (ftk_tmpl_value){
            .kind = TMPL_FLOAT, .input = v.input, .f = (up ? ceil(f) : floor(f)) / scale};
        return v;
    }
    if (v.kind != TMPL_FLOAT && decimals >= 0)
        return (ftk_tmpl_value){.kind = TMPL_INT, .input = v.input, .i = ftk_tmpl_whole(v)};
    char b[FTK_TMPL_DIGITS];
    if (decimals >= 0 && decimals <= 22 && isfinite(v.f)) {
        const size_t n = ftk_tmpl_format_real(b, v.f, 'f', (int)decimals, false);
        ftk_tmpl_read_real(b, n, &v.f);
    } else if (decimals < 0) {
        const double scale = pow(10, (double)-decimals), f = ftk_tmpl_real(v) / scale;
        const double rounded = nearbyint(f) * scale;
        if (v.kind == TMPL_FLOAT)
            v.f = rounded;
        else
            v = TMPL_INT_VALUE((int64_t)rounded);
    }
    return v;
}

/* ------------------------------------------------------------------ any value */

FILTER(do_default)
{
    (void)args;
    if (v.kind != TMPL_UNDEFINED && !(ftk_tmpl_true(p[1]) && !ftk_tmpl_true(v))) return v;
    return p[0].kind == TMPL_ABSENT ? ftk_tmpl_word(&r->job, "") : p[0];
}

FILTER(do_length)
{
    (void)p, (void)args;
    int64_t n;
    check_length(r, v, &n);
    return TMPL_INT_VALUE(n);
}

FILTER(do_attr)
{
    (void)args;
    if (v.kind == TMPL_DICT) {
        bool unsafe;
        if (!ftk_tmpl_method(v, ftk_tmpl_text_of(&r->job, p[0]), &unsafe) && !unsafe)
            return ftk_tmpl_undefined_of(&r->job, v, p[0]);
    }
    return ftk_tmpl_attribute(r, v, p[0]);
}

const ftk_tmpl_function *ftk_tmpl_filter(const ftk_tmpl_str *name)
{
    static const ftk_tmpl_function table[] = {
        {"abs", "", do_abs},
        {"attr", "!name", do_attr},
        {"capitalize", "", do_capitalize},
        {"center", "width", do_center},
        {"count", "", do_length},
        {"d", "default_value boolean", do_default},
        {"default", "default_value boolean", do_default},
        {"e", "", do_escape},
        {"escape", "", do_escape},
        {"float", "default", do_float},
        {"forceescape", "", do_force_escape},
        {"format", "*", do_format},
        {"indent", "width first blank", do_indent},
        {"int", "default base", do_int},
        {"length", "", do_length},
        {"lower", "", do_lower},
        {"replace", "!old !new count", do_replace},
        {"round", "precision method", do_round},
        {"safe", "", do_safe},
        {"string", "", do_string},
        {"title", "", do_title},
        {"tojson", "ensure_ascii indent separators sort_keys", do_tojson},
        {"trim", "chars", do_trim},
        {"truncate", "length killwords end leeway", do_truncate},
        {"upper", "", do_upper},
        {"wordcount", "", do_wordcount},
    };
    const ftk_tmpl_function *f = ftk_tmpl_lookup(table, sizeof table / sizeof *table, name);
    return f ? f : ftk_tmpl_list_filter(name);
}

ftk_tmpl_value ftk_tmpl_apply_filter(ftk_tmpl_run *r, const ftk_tmpl_str *name, ftk_tmpl_value v,
                                     const ftk_tmpl_args *args)
{
    const ftk_tmpl_function *f = ftk_tmpl_filter(name);
    if (!f)
        ftk_tmpl_fail(&r->job, FTK_ERR_UNSUPPORTED, "No filter named '%.*s'.",
                      (int)(name->n < 60 ? name->n : 60), name->p);
    return ftk_tmpl_apply(r, f, v, args);
}
