/* SPDX-License-Identifier: Apache-2.0
 * Methods of strings, lists, mappings and the rest. What would change a value is refused, as the
 * immutable sandbox does. */
#include "template/parts.h"

#include <string.h>

#define METHOD(name)                                                                               \
    static ftk_tmpl_value name(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_value *p,         \
                               const ftk_tmpl_args *args)

static bool given(ftk_tmpl_value v)
{
    return v.kind != TMPL_ABSENT && v.kind != TMPL_NONE;
}

/* ------------------------------------------------------------------ strings: ends */

static ftk_tmpl_value strip(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_value *p, int sides)
{
    return ftk_tmpl_strip(&r->job, v.s, given(p[0]) ? ftk_tmpl_text_of(&r->job, p[0]) : NULL,
                          sides);
}

METHOD(str_strip)
{
    (void)args;
    return strip(r, v, p, TMPL_STRIP_LEFT | TMPL_STRIP_RIGHT);
}

METHOD(str_lstrip)
{
    (void)args;
    return strip(r, v, p, TMPL_STRIP_LEFT);
}

METHOD(str_rstrip)
{
    (void)args;
    return strip(r, v, p, TMPL_STRIP_RIGHT);
}

static bool has_end(const ftk_tmpl_str *s, const ftk_tmpl_str *part, bool at_start)
{
    if (part->n > s->n) return false;
    return part->n == 0 || memcmp(at_start ? s->p : s->p + s->n - part->n, part->p, part->n) == 0;
}

/* The characters from..to of a string, as start and end of its methods say. */
static void clip(ftk_tmpl_run *r, const ftk_tmpl_str *s, const ftk_tmpl_value *p, size_t *from,
                 size_t *to)
{
    const int64_t n = (int64_t)ftk_tmpl_chars(&r->job, s);
    int64_t bounds[2] = {0, n};
    for (int i = 0; i < 2; i++) {
        if (!given(p[i])) continue;
        bounds[i] = ftk_tmpl_int_of(&r->job, p[i], 0);
        if (bounds[i] < 0) bounds[i] = bounds[i] < -n ? 0 : bounds[i] + n;
    }
    *from = bounds[0] > n ? s->n + 1 : ftk_tmpl_offset(s, (size_t)bounds[0]);
    *to = bounds[1] > n ? s->n : ftk_tmpl_offset(s, (size_t)bounds[1]);
}

/* One text, or one of several. */
static ftk_tmpl_value has_any_end(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_value *p,
                                  bool at_start)
{
    size_t from, to;
    clip(r, v.s, p + 1, &from, &to);
    if (from > to) return TMPL_BOOL_VALUE(false);
    const ftk_tmpl_str *s = ftk_tmpl_slice_str(&r->job, v.s, from, to).s;
    if (p[0].kind != TMPL_LIST || p[0].list->sequence != TMPL_SEQ_TUPLE)
        return TMPL_BOOL_VALUE(has_end(s, ftk_tmpl_text_of(&r->job, p[0]), at_start));
    for (size_t i = 0; i < p[0].list->n; i++)
        if (has_end(s, ftk_tmpl_text_of(&r->job, p[0].list->v[i]), at_start))
            return TMPL_BOOL_VALUE(true);
    return TMPL_BOOL_VALUE(false);
}

METHOD(str_startswith)
{
    (void)args;
    return has_any_end(r, v, p, true);
}

METHOD(str_endswith)
{
    (void)args;
    return has_any_end(r, v, p, false);
}

METHOD(str_removeprefix)
{
    (void)args;
    const ftk_tmpl_str *part = ftk_tmpl_text_of(&r->job, p[0]);
    return has_end(v.s, part, true) ? ftk_tmpl_slice_str(&r->job, v.s, part->n, v.s->n) : v;
}

METHOD(str_removesuffix)
{
    (void)args;
    const ftk_tmpl_str *part = ftk_tmpl_text_of(&r->job, p[0]);
    return has_end(v.s, part, false) ? ftk_tmpl_slice_str(&r->job, v.s, 0, v.s->n - part->n) : v;
}

/* ------------------------------------------------------------------ strings: parts */

/* At white space; most parts, or all for -1. */
static ftk_tmpl_value split_spaces(ftk_tmpl_run *r, const ftk_tmpl_str *s, int64_t most)
{
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 0);
    size_t at = 0;
    ftk_tmpl_spend(&r->job, s->n / 8);
    for (;;) {
        while (at < s->n && ftk_tmpl_is_space(ftk_tmpl_code(s, at))) at += ftk_tmpl_char(s, at);
        if (at >= s->n) break;
        if (most-- == 0) {
            ftk_tmpl_list_push(&r->job, l, ftk_tmpl_slice_str(&r->job, s, at, s->n));
            break;
        }
        const size_t start = at;
        while (at < s->n && !ftk_tmpl_is_space(ftk_tmpl_code(s, at))) at += ftk_tmpl_char(s, at);
        ftk_tmpl_list_push(&r->job, l, ftk_tmpl_slice_str(&r->job, s, start, at));
    }
    return ftk_tmpl_list_of(l);
}

/* The list's elements in the other order. */
static ftk_tmpl_value turn_round(ftk_tmpl_list *l)
{
    for (size_t i = 0; i < l->n / 2; i++) {
        const ftk_tmpl_value swap = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = swap;
    }
    return ftk_tmpl_list_of(l);
}

static ftk_tmpl_value rsplit_spaces(ftk_tmpl_run *r, const ftk_tmpl_str *s, int64_t most)
{
    const ftk_tmpl_list *all = split_spaces(r, s, -1).list;
    if (most < 0 || (int64_t)all->n <= most) return ftk_tmpl_list_of((ftk_tmpl_list *)all);
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 0);
    const size_t first = all->n - (size_t)most;
    const ftk_tmpl_str *front = s;
    if (first < all->n)
        front = ftk_tmpl_slice_str(&r->job, s, 0, (size_t)(all->v[first].s->p - s->p)).s;
    ftk_tmpl_list_push(&r->job, l, ftk_tmpl_strip(&r->job, front, NULL, TMPL_STRIP_RIGHT));
    for (size_t i = first; i < all->n; i++) ftk_tmpl_list_push(&r->job, l, all->v[i]);
    return ftk_tmpl_list_of(l);
}

static const ftk_tmpl_str *separator(ftk_tmpl_run *r, ftk_tmpl_value v)
{
    const ftk_tmpl_str *s = ftk_tmpl_text_of(&r->job, v);
    if (s->n == 0) ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "empty separator");
    return s;
}

METHOD(str_split)
{
    (void)args;
    const int64_t most = ftk_tmpl_int_of(&r->job, p[1], -1);
    if (!given(p[0])) return split_spaces(r, v.s, most);
    const ftk_tmpl_str *sep = separator(r, p[0]);
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 0);
    size_t at = 0;
    for (int64_t i = 0; most < 0 || i < most; i++) {
        const size_t to = ftk_tmpl_find(&r->job, v.s, sep, at, v.s->n, false);
        if (to == SIZE_MAX) break;
        ftk_tmpl_list_push(&r->job, l, ftk_tmpl_slice_str(&r->job, v.s, at, to));
        at = to + sep->n;
    }
    ftk_tmpl_list_push(&r->job, l, ftk_tmpl_slice_str(&r->job, v.s, at, v.s->n));
    return ftk_tmpl_list_of(l);
}

METHOD(str_rsplit)
{
    (void)args;
    const int64_t most = ftk_tmpl_int_of(&r->job, p[1], -1);
    if (!given(p[0])) return rsplit_spaces(r, v.s, most);
    const ftk_tmpl_str *sep = separator(r, p[0]);
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 0);
    size_t to = v.s->n;
    for (int64_t i = 0; most < 0 || i < most; i++) {
        const size_t at = ftk_tmpl_find(&r->job, v.s, sep, 0, to, true);
        if (at == SIZE_MAX) break;
        ftk_tmpl_list_push(&r->job, l, ftk_tmpl_slice_str(&r->job, v.s, at + sep->n, to));
        to = at;
    }
    ftk_tmpl_list_push(&r->job, l, ftk_tmpl_slice_str(&r->job, v.s, 0, to));
    return turn_round(l);
}

METHOD(str_splitlines)
{
    (void)args;
    return ftk_tmpl_lines(&r->job, v.s, ftk_tmpl_true(p[0]));
}

static ftk_tmpl_value partition(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value by, bool last)
{
    const ftk_tmpl_str *sep = separator(r, by);
    const size_t at = ftk_tmpl_find(&r->job, v.s, sep, 0, v.s->n, last);
    const ftk_tmpl_value nothing = ftk_tmpl_slice_str(&r->job, v.s, 0, 0);
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_TUPLE, 3);
    l->n = 3;
    if (at == SIZE_MAX) {
        l->v[0] = last ? nothing : v;
        l->v[1] = nothing;
        l->v[2] = last ? v : nothing;
    } else {
        l->v[0] = ftk_tmpl_slice_str(&r->job, v.s, 0, at);
        l->v[1] = ftk_tmpl_slice_str(&r->job, v.s, at, at + sep->n);
        l->v[2] = ftk_tmpl_slice_str(&r->job, v.s, at + sep->n, v.s->n);
    }
    return ftk_tmpl_list_of(l);
}

METHOD(str_partition)
{
    (void)args;
    return partition(r, v, p[0], false);
}

METHOD(str_rpartition)
{
    (void)args;
    return partition(r, v, p[0], true);
}

/* ------------------------------------------------------------------ strings: searching */

/* The number of the character, -1 if it is not there. */
static int64_t find(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_value *p, bool last)
{
    size_t from, to;
    clip(r, v.s, p + 1, &from, &to);
    const size_t at = ftk_tmpl_find(&r->job, v.s, ftk_tmpl_text_of(&r->job, p[0]), from, to, last);
    if (at == SIZE_MAX) return -1;
    return (int64_t)ftk_tmpl_chars(&r->job, ftk_tmpl_slice_str(&r->job, v.s, 0, at).s);
}

static ftk_tmpl_value need_found(ftk_tmpl_run *r, int64_t at)
{
    if (at < 0) ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "substring not found");
    return TMPL_INT_VALUE(at);
}

METHOD(str_find)
{
    (void)args;
    return TMPL_INT_VALUE(find(r, v, p, false));
}

METHOD(str_rfind)
{
    (void)args;
    return TMPL_INT_VALUE(find(r, v, p, true));
}

METHOD(str_index)
{
    (void)args;
    return need_found(r, find(r, v, p, false));
}

METHOD(str_rindex)
{
    (void)args;
    return need_found(r, find(r, v, p, true));
}

METHOD(str_count)
{
    (void)args;
    const ftk_tmpl_str *part = ftk_tmpl_text_of(&r->job, p[0]);
    size_t at, to;
    int64_t n = 0;
    clip(r, v.s, p + 1, &at, &to);
    if (at > to) return TMPL_INT_VALUE(0);
    if (part->n == 0)
        return TMPL_INT_VALUE(
            (int64_t)ftk_tmpl_chars(&r->job, ftk_tmpl_slice_str(&r->job, v.s, at, to).s) + 1);
    for (;; n++) {
        at = ftk_tmpl_find(&r->job, v.s, part, at, to, false);
        if (at == SIZE_MAX) return TMPL_INT_VALUE(n);
        at += part->n;
    }
}

/* ------------------------------------------------------------------ strings: kinds of
 * characters */

static ftk_tmpl_value all_are(ftk_tmpl_run *r, const ftk_tmpl_str *s, bool (*is)(uint32_t c))
{
    ftk_tmpl_spend(&r->job, s->n / 8);
    for (size_t at = 0; at < s->n; at += ftk_tmpl_char(s, at))
        if (!is(ftk_tmpl_code(s, at))) return TMPL_BOOL_VALUE(false);
    return TMPL_BOOL_VALUE(s->n > 0);
}

static bool is_digit(uint32_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(uint32_t c)
{
    return is_digit(c) || ftk_tmpl_is_alpha(c);
}

METHOD(str_isdigit)
{
    (void)p, (void)args;
    return all_are(r, v.s, is_digit);
}

METHOD(str_isalpha)
{
    (void)p, (void)args;
    return all_are(r, v.s, ftk_tmpl_is_alpha);
}

METHOD(str_isalnum)
{
    (void)p, (void)args;
    return all_are(r, v.s, is_alnum);
}

METHOD(str_isspace)
{
    (void)p, (void)args;
    return all_are(r, v.s, ftk_tmpl_is_space);
}

METHOD(str_islower)
{
    (void)p, (void)args;
    const ftk_tmpl_str name = {.p = "lower", .n = 5};
    return TMPL_BOOL_VALUE(ftk_tmpl_apply_test(r, &name, v, &(ftk_tmpl_args){0}));
}

METHOD(str_isupper)
{
    (void)p, (void)args;
    const ftk_tmpl_str name = {.p = "upper", .n = 5};
    return TMPL_BOOL_VALUE(ftk_tmpl_apply_test(r, &name, v, &(ftk_tmpl_args){0}));
}

/* ------------------------------------------------------------------ strings: made of them */

METHOD(str_upper)
{
    (void)p, (void)args;
    return ftk_tmpl_recase(&r->job, v.s, TMPL_UPPER);
}

METHOD(str_lower)
{
    (void)p, (void)args;
    return ftk_tmpl_recase(&r->job, v.s, TMPL_LOWER);
}

METHOD(str_title)
{
    (void)p, (void)args;
    return ftk_tmpl_recase(&r->job, v.s, TMPL_TITLE);
}

METHOD(str_capitalize)
{
    (void)p, (void)args;
    return ftk_tmpl_recase(&r->job, v.s, TMPL_CAPITALIZE);
}

METHOD(str_swapcase)
{
    (void)p, (void)args;
    ftk_tmpl_text t = {0};
    for (size_t at = 0; at < v.s->n;) {
        bool upper;
        const size_t n = ftk_tmpl_char(v.s, at);
        const ftk_tmpl_str *c = ftk_tmpl_slice_str(&r->job, v.s, at, at + n).s;
        if (ftk_tmpl_has_case(ftk_tmpl_code(v.s, at), &upper))
            c = ftk_tmpl_recase(&r->job, c, upper ? TMPL_LOWER : TMPL_UPPER).s;
        ftk_tmpl_add_str(&r->job, &t, c);
        at += n;
    }
    return ftk_tmpl_text_end(&r->job, &t);
}

METHOD(str_replace)
{
    (void)args;
    return ftk_tmpl_replace(&r->job, v.s, ftk_tmpl_text_of(&r->job, p[0]),
                            ftk_tmpl_text_of(&r->job, p[1]), ftk_tmpl_int_of(&r->job, p[2], -1));
}

METHOD(str_join)
{
    (void)args;
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, p[0]);
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].kind != TMPL_STRING)
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                          "sequence item %zu: expected str instance, %s found", i,
                          ftk_tmpl_type(l->v[i]));
    return ftk_tmpl_join(&r->job, l, v.s);
}

METHOD(str_format)
{
    (void)p;
    return ftk_tmpl_format(r, v.s, args);
}

/* Filled up to a width with p[1], or blanks; `left` of every two go to the left. */
static ftk_tmpl_value fill(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_value *p, int left)
{
    static const ftk_tmpl_str blank = {.p = " ", .n = 1};
    const ftk_tmpl_str *with = p[1].kind == TMPL_ABSENT ? &blank : ftk_tmpl_text_of(&r->job, p[1]);
    const int64_t width = ftk_tmpl_int_of(&r->job, p[0], 0);
    const int64_t chars = (int64_t)ftk_tmpl_chars(&r->job, v.s);
    const int64_t space = width > chars ? width - chars : 0;
    const int64_t front = left == 1 ? space / 2 + (space & width & 1) : left == 0 ? 0 : space;
    if (ftk_tmpl_chars(&r->job, with) != 1)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                      "The fill character must be exactly one character long");
    ftk_tmpl_text t = {0};
    for (int64_t i = 0; i < front; i++)
        ftk_tmpl_spend(&r->job, 1), ftk_tmpl_add_str(&r->job, &t, with);
    ftk_tmpl_add_str(&r->job, &t, v.s);
    for (int64_t i = front; i < space; i++)
        ftk_tmpl_spend(&r->job, 1), ftk_tmpl_add_str(&r->job, &t, with);
    return ftk_tmpl_text_end(&r->job, &t);
}

METHOD(str_ljust)
{
    (void)args;
    return fill(r, v, p, 0);
}

METHOD(str_center)
{
    (void)args;
    return fill(r, v, p, 1);
}

METHOD(str_rjust)
{
    (void)args;
    return fill(r, v, p, 2);
}

METHOD(str_zfill)
{
    (void)args;
    const bool sign = v.s->n > 0 && (v.s->p[0] == '-' || v.s->p[0] == '+');
    const int64_t width = ftk_tmpl_int_of(&r->job, p[0], 0) - sign;
    const ftk_tmpl_value body = ftk_tmpl_slice_str(&r->job, v.s, sign, v.s->n);
    const ftk_tmpl_value how[] = {TMPL_INT_VALUE(width), ftk_tmpl_word(&r->job, "0")};
    return ftk_tmpl_concat(&r->job, ftk_tmpl_slice_str(&r->job, v.s, 0, sign).s,
                           fill(r, body, how, 2).s);
}

/* ------------------------------------------------------------------ mappings and lists */

METHOD(dict_get)
{
    (void)args;
    const ftk_tmpl_value *there = ftk_tmpl_dict_find(&r->job, v.dict, p[0]);
    return there ? *there : p[1].kind == TMPL_ABSENT ? TMPL_NONE_VALUE : p[1];
}

static ftk_tmpl_value view(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_sequence sequence)
{
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, sequence, v.dict->n);
    for (size_t i = 0; i < v.dict->n; i++)
        l->v[l->n++] = sequence == TMPL_SEQ_KEYS ? v.dict->v[i].key
                       : sequence == TMPL_SEQ_VALUES
                           ? v.dict->v[i].value
                           : ftk_tmpl_tuple2(&r->job, v.dict->v[i].key, v.dict->v[i].value);
    return ftk_tmpl_list_of(l);
}

METHOD(dict_items)
{
    (void)p, (void)args;
    return view(r, v, TMPL_SEQ_ITEMS);
}

METHOD(dict_keys)
{
    (void)p, (void)args;
    return view(r, v, TMPL_SEQ_KEYS);
}

METHOD(dict_values)
{
    (void)p, (void)args;
    return view(r, v, TMPL_SEQ_VALUES);
}

METHOD(copy)
{
    (void)r, (void)p, (void)args;
    return v; /* nothing changes */
}

METHOD(list_index)
{
    (void)args;
    for (size_t i = 0; i < v.list->n; i++)
        if (ftk_tmpl_equal(&r->job, v.list->v[i], p[0])) return TMPL_INT_VALUE((int64_t)i);
    ftk_tmpl_text t = {0};
    ftk_tmpl_repr(&r->job, &t, p[0]);
    ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "%.*s is not in list", (int)(t.n < 60 ? t.n : 60), t.p);
}

METHOD(list_count)
{
    (void)args;
    int64_t n = 0;
    for (size_t i = 0; i < v.list->n; i++) n += ftk_tmpl_equal(&r->job, v.list->v[i], p[0]);
    return TMPL_INT_VALUE(n);
}

/* ------------------------------------------------------------------ loops and other objects */

METHOD(loop_cycle)
{
    (void)p;
    if (args->n == 0) ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "no items for cycling given");
    return args->v[v.loop->at % args->n];
}

METHOD(loop_changed)
{
    (void)p;
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_TUPLE, args->n);
    for (size_t i = 0; i < args->n; i++) l->v[l->n++] = args->v[i];
    const ftk_tmpl_value now = ftk_tmpl_list_of(l);
    if (v.loop->changed.kind == TMPL_LIST && ftk_tmpl_equal(&r->job, v.loop->changed, now))
        return TMPL_BOOL_VALUE(false);
    v.loop->changed = now;
    return TMPL_BOOL_VALUE(true);
}

METHOD(cycler_next)
{
    (void)r, (void)p, (void)args;
    const ftk_tmpl_value item = v.object->items->v[v.object->at];
    v.object->at = (v.object->at + 1) % v.object->items->n;
    return item;
}

METHOD(cycler_reset)
{
    (void)r, (void)p, (void)args;
    v.object->at = 0;
    return TMPL_NONE_VALUE;
}

/* ------------------------------------------------------------------ which there are */

static const ftk_tmpl_function of_strings[] = {
    {"capitalize", "", str_capitalize},
    {"casefold", "", str_lower},
    {"center", "!width fillchar", str_center},
    {"count", "!sub start end", str_count},
    {"endswith", "!suffix start end", str_endswith},
    {"find", "!sub start end", str_find},
    {"format", "*", str_format},
    {"index", "!sub start end", str_index},
    {"isalnum", "", str_isalnum},
    {"isalpha", "", str_isalpha},
    {"isdecimal", "", str_isdigit},
    {"isdigit", "", str_isdigit},
    {"islower", "", str_islower},
    {"isnumeric", "", str_isdigit},
    {"isspace", "", str_isspace},
    {"isupper", "", str_isupper},
    {"join", "!iterable", str_join},
    {"ljust", "!width fillchar", str_ljust},
    {"lower", "", str_lower},
    {"lstrip", "chars", str_lstrip},
    {"partition", "!sep", str_partition},
    {"removeprefix", "!prefix", str_removeprefix},
    {"removesuffix", "!suffix", str_removesuffix},
    {"replace", "!old !new count", str_replace},
    {"rfind", "!sub start end", str_rfind},
    {"rindex", "!sub start end", str_rindex},
    {"rjust", "!width fillchar", str_rjust},
    {"rpartition", "!sep", str_rpartition},
    {"rsplit", "sep maxsplit", str_rsplit},
    {"rstrip", "chars", str_rstrip},
    {"split", "sep maxsplit", str_split},
    {"splitlines", "keepends", str_splitlines},
    {"startswith", "!prefix start end", str_startswith},
    {"strip", "chars", str_strip},
    {"swapcase", "", str_swapcase},
    {"title", "", str_title},
    {"upper", "", str_upper},
    {"zfill", "!width", str_zfill},
};
static const ftk_tmpl_function of_dicts[] = {
    {"copy", "", copy},      {"get", "!key default", dict_get}, {"items", "", dict_items},
    {"keys", "", dict_keys}, {"values", "", dict_values},
};
static const ftk_tmpl_function of_lists[] = {
    {"count", "!value", list_count},
    {"index", "!value", list_index},
    {"copy", "", copy},
};
static const ftk_tmpl_function of_loops[] = {{"changed", "*", loop_changed},
                                             {"cycle", "*", loop_cycle}};
static const ftk_tmpl_function of_cyclers[] = {{"next", "", cycler_next},
                                               {"reset", "", cycler_reset}};

/* What changes a list or a mapping. */
static bool changes(ftk_tmpl_value v, const ftk_tmpl_str *name)
{
    static const char *const lists[] = {"append", "clear",   "extend", "insert", "pop",
                                        "remove", "reverse", "sort",   NULL};
    static const char *const dicts[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    const bool list = v.kind == TMPL_LIST && v.list->sequence == TMPL_SEQ_LIST;
    if (!list && v.kind != TMPL_DICT) return false;
    for (const char *const *word = list ? lists : dicts; *word; word++)
        if (ftk_tmpl_same(name, *word)) return true;
    return false;
}

#define LOOKUP(table) ftk_tmpl_lookup(table, sizeof(table) / sizeof *(table), name)

const ftk_tmpl_function *ftk_tmpl_method(ftk_tmpl_value v, const ftk_tmpl_str *name, bool *unsafe)
{
    *unsafe = changes(v, name);
    if (*unsafe) return NULL;
    switch ((ftk_tmpl_kind)v.kind) {
    case TMPL_STRING: return LOOKUP(of_strings);
    case TMPL_DICT: return LOOKUP(of_dicts);
    case TMPL_LIST:
        if (v.list->sequence > TMPL_SEQ_RANGE) return NULL;
        return ftk_tmpl_lookup(of_lists, v.list->sequence == TMPL_SEQ_LIST ? 3 : 2, name);
    case TMPL_LOOP: return LOOKUP(of_loops);
    case TMPL_OBJECT: return strcmp(v.object->type, "Cycler") == 0 ? LOOKUP(of_cyclers) : NULL;
    default: return NULL;
    }
}
