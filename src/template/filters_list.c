/* SPDX-License-Identifier: Apache-2.0
 * Filters of sequences and mappings. */
#include "template/filters.h"

#include <string.h>

static bool given(ftk_tmpl_value v)
{
    return v.kind != TMPL_ABSENT && v.kind != TMPL_NONE;
}

/* ------------------------------------------------------------------ attributes of elements */

/* "a.b.0" of an element: attributes of attributes, numbers as places. */
static ftk_tmpl_value path_of(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value path,
                              ftk_tmpl_value missing)
{
    if (path.kind != TMPL_STRING) return ftk_tmpl_item(r, v, path);
    static const ftk_tmpl_str dot = {.p = ".", .n = 1};
    const ftk_tmpl_str *s = path.s;
    for (size_t at = 0; at <= s->n;) {
        size_t to = ftk_tmpl_find(&r->job, s, &dot, at, s->n, false);
        if (to == SIZE_MAX) to = s->n;
        ftk_tmpl_value key = ftk_tmpl_slice_str(&r->job, s, at, to);
        int64_t place;
        if (to > at && strspn(s->p + at, "0123456789") >= to - at &&
            ftk_tmpl_read_whole(s->p + at, to - at, 10, &place))
            key = TMPL_INT_VALUE(place);
        v = ftk_tmpl_item(r, v, key);
        if (v.kind == TMPL_UNDEFINED && missing.kind != TMPL_ABSENT) v = missing;
        at = to + 1;
    }
    return v;
}

static ftk_tmpl_value key_of(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value path, bool exact)
{
    if (given(path)) v = path_of(r, v, path, TMPL_ABSENT_VALUE);
    return !exact && v.kind == TMPL_STRING ? ftk_tmpl_recase(&r->job, v.s, TMPL_LOWER) : v;
}

/* ------------------------------------------------------------------ sorting */

struct sorted {
    ftk_tmpl_value key, v;
};

/* Merges runs of growing length; what is equal stays in order, reversed or not. */
static void sort(ftk_tmpl_run *r, struct sorted *v, size_t n, bool reverse)
{
    struct sorted *from = v, *to = ftk_tmpl_alloc(&r->job, n + 1, sizeof *to);
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            const size_t mid = lo + width < n ? lo + width : n;
            const size_t hi = lo + 2 * width < n ? lo + 2 * width : n;
            size_t a = lo, b = mid;
            for (size_t k = lo; k < hi; k++) {
                bool second = a == mid;
                if (a < mid && b < hi)
                    second = reverse ? ftk_tmpl_order(&r->job, from[a].key, from[b].key, "<") < 0
                                     : ftk_tmpl_order(&r->job, from[b].key, from[a].key, "<") < 0;
                to[k] = second ? from[b++] : from[a++];
            }
        }
        struct sorted *swap = from;
        from = to;
        to = swap;
    }
    if (from != v) memcpy(v, from, n * sizeof *v);
}

/* The keys of "a,b", which are compared one after the other, as a list's elements are. */
static ftk_tmpl_value sort_key(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value path, bool exact)
{
    static const ftk_tmpl_str comma = {.p = ",", .n = 1};
    ftk_tmpl_list *keys = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 1);
    if (path.kind != TMPL_STRING) {
        ftk_tmpl_list_push(&r->job, keys, key_of(r, v, path, exact));
        return ftk_tmpl_list_of(keys);
    }
    for (size_t at = 0; at <= path.s->n;) {
        size_t to = ftk_tmpl_find(&r->job, path.s, &comma, at, path.s->n, false);
        if (to == SIZE_MAX) to = path.s->n;
        ftk_tmpl_list_push(&r->job, keys,
                           key_of(r, v, ftk_tmpl_slice_str(&r->job, path.s, at, to), exact));
        at = to + 1;
    }
    return ftk_tmpl_list_of(keys);
}

static ftk_tmpl_list *sort_list(ftk_tmpl_run *r, const ftk_tmpl_list *l, ftk_tmpl_value path,
                                bool exact, bool reverse)
{
    struct sorted *v = ftk_tmpl_alloc(&r->job, l->n + 1, sizeof *v);
    for (size_t i = 0; i < l->n; i++)
        v[i] = (struct sorted){sort_key(r, l->v[i], path, exact), l->v[i]};
    sort(r, v, l->n, reverse);
    ftk_tmpl_list *result = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, l->n);
    for (size_t i = 0; i < l->n; i++) result->v[result->n++] = v[i].v;
    return result;
}

FILTER(do_sort)
{
    (void)args;
    return ftk_tmpl_list_of(
        sort_list(r, ftk_tmpl_walk(&r->job, v), p[2], ftk_tmpl_true(p[1]), ftk_tmpl_true(p[0])));
}

static ftk_tmpl_list *pairs_of(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_sequence sequence)
{
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, sequence, v.dict->n);
    for (size_t i = 0; i < v.dict->n; i++)
        l->v[l->n++] = ftk_tmpl_tuple2(&r->job, v.dict->v[i].key, v.dict->v[i].value);
    return l;
}

FILTER(do_dictsort)
{
    (void)args;
    const bool by_value = p[1].kind == TMPL_STRING && ftk_tmpl_same(p[1].s, "value");
    if (p[1].kind != TMPL_ABSENT && !by_value &&
        !(p[1].kind == TMPL_STRING && ftk_tmpl_same(p[1].s, "key")))
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "You can only sort by either \"key\" or \"value\"");
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(&r->job, v);
    if (v.kind != TMPL_DICT)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "'%s' object has no attribute 'items'",
                      ftk_tmpl_type(v));
    return ftk_tmpl_list_of(sort_list(r, pairs_of(r, v, TMPL_SEQ_LIST), TMPL_INT_VALUE(by_value),
                                      ftk_tmpl_true(p[0]), ftk_tmpl_true(p[2])));
}

FILTER(do_groupby)
{
    (void)args;
    const bool exact = ftk_tmpl_true(p[2]);
    const ftk_tmpl_list *l = sort_list(r, ftk_tmpl_walk(&r->job, v), p[0], exact, false);
    ftk_tmpl_list *groups = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 0), *group = NULL;
    ftk_tmpl_value last = TMPL_ABSENT_VALUE;
    for (size_t i = 0; i < l->n; i++) {
        const ftk_tmpl_value key = key_of(r, l->v[i], p[0], exact);
        if (key.kind == TMPL_UNDEFINED && l->n > 1) ftk_tmpl_fail_undefined(&r->job, key);
        if (!group || !ftk_tmpl_equal(&r->job, key, last)) {
            group = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 0);
            ftk_tmpl_list_push(
                &r->job, groups,
                ftk_tmpl_tuple2(&r->job, path_of(r, l->v[i], p[0], p[1]), ftk_tmpl_list_of(group)));
        }
        ftk_tmpl_list_push(&r->job, group, l->v[i]);
        last = key;
    }
    return ftk_tmpl_list_of(groups);
}

/* ------------------------------------------------------------------ choosing */

/* select, map and their like take none, false and 0 for nothing to walk. */
static const ftk_tmpl_list *walk_if_true(ftk_tmpl_run *r, ftk_tmpl_value v)
{
    return ftk_tmpl_true(v) ? ftk_tmpl_walk(&r->job, v)
                            : ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 0);
}

/* Whether an element is chosen: by a test that is named, else by its truth. */
static bool passes(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_args *args, size_t skip)
{
    if (args->n <= skip) return ftk_tmpl_true(v);
    const ftk_tmpl_args rest = {args->v + skip + 1, args->n - skip - 1, args->named, args->n_named};
    return ftk_tmpl_apply_test(r, ftk_tmpl_text_of(&r->job, args->v[skip]), v, &rest);
}

static ftk_tmpl_value choose(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_args *args,
                             bool by_attribute, bool wanted)
{
    if (by_attribute && args->n == 0)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "Missing parameter for attribute name");
    ftk_tmpl_list *chosen = ftk_tmpl_list_new(&r->job, TMPL_SEQ_GENERATOR, 0);
    const ftk_tmpl_list *l = walk_if_true(r, v);
    for (size_t i = 0; i < l->n; i++) {
        const ftk_tmpl_value judged =
            by_attribute ? path_of(r, l->v[i], args->v[0], TMPL_ABSENT_VALUE) : l->v[i];
        if (passes(r, judged, args, by_attribute) == wanted)
            ftk_tmpl_list_push(&r->job, chosen, l->v[i]);
    }
    return ftk_tmpl_list_of(chosen);
}

FILTER(do_select)
{
    (void)p;
    return choose(r, v, args, false, true);
}

FILTER(do_reject)
{
    (void)p;
    return choose(r, v, args, false, false);
}

FILTER(do_selectattr)
{
    (void)p;
    return choose(r, v, args, true, true);
}

FILTER(do_rejectattr)
{
    (void)p;
    return choose(r, v, args, true, false);
}

FILTER(do_unique)
{
    (void)args;
    ftk_tmpl_list *kept = ftk_tmpl_list_new(&r->job, TMPL_SEQ_GENERATOR, 0);
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    ftk_tmpl_dict *seen = ftk_tmpl_dict_new(&r->job);
    for (size_t i = 0; i < l->n; i++) {
        const ftk_tmpl_value key = key_of(r, l->v[i], p[1], ftk_tmpl_true(p[0]));
        if (ftk_tmpl_dict_find(&r->job, seen, key)) continue;
        ftk_tmpl_dict_put(&r->job, seen, key, TMPL_NONE_VALUE);
        ftk_tmpl_list_push(&r->job, kept, l->v[i]);
    }
    return ftk_tmpl_list_of(kept);
}

static ftk_tmpl_value extreme(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_value *p, int sign)
{
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    const bool exact = ftk_tmpl_true(p[0]);
    if (l->n == 0)
        return ftk_tmpl_undefined_for(&r->job, "No aggregated item, sequence was empty.");
    size_t best = 0;
    for (size_t i = 1; i < l->n; i++)
        if (sign * ftk_tmpl_order(&r->job, key_of(r, l->v[i], p[1], exact),
                                  key_of(r, l->v[best], p[1], exact), sign < 0 ? "<" : ">") ==
            1)
            best = i;
    return l->v[best];
}

FILTER(do_min)
{
    (void)args;
    return extreme(r, v, p, -1);
}

FILTER(do_max)
{
    (void)args;
    return extreme(r, v, p, 1);
}

FILTER(do_first)
{
    (void)p, (void)args;
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    return l->n > 0 ? l->v[0]
                    : ftk_tmpl_undefined_for(&r->job, "No first item, sequence was empty.");
}

FILTER(do_last)
{
    (void)p, (void)args;
    if (v.kind == TMPL_LIST && v.list->sequence == TMPL_SEQ_GENERATOR)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "'generator' object is not reversible");
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    return l->n > 0 ? l->v[l->n - 1]
                    : ftk_tmpl_undefined_for(&r->job, "No last item, sequence was empty.");
}

/* ------------------------------------------------------------------ others */

FILTER(do_list)
{
    (void)p, (void)args;
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    ftk_tmpl_list *copy = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, l->n);
    for (size_t i = 0; i < l->n; i++) copy->v[copy->n++] = l->v[i];
    return ftk_tmpl_list_of(copy);
}

FILTER(do_items)
{
    (void)p, (void)args;
    if (v.kind == TMPL_UNDEFINED)
        return ftk_tmpl_list_of(ftk_tmpl_list_new(&r->job, TMPL_SEQ_GENERATOR, 0));
    if (v.kind != TMPL_DICT)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "Can only get item pairs from a mapping.");
    return ftk_tmpl_list_of(pairs_of(r, v, TMPL_SEQ_GENERATOR));
}

FILTER(do_join)
{
    (void)args;
    static const ftk_tmpl_str nothing = {.p = ""};
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    const ftk_tmpl_str *with = p[0].kind == TMPL_ABSENT ? &nothing : ftk_tmpl_str_of(&r->job, p[0]);
    if (!given(p[1])) return ftk_tmpl_join(&r->job, l, with);
    ftk_tmpl_list *parts = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, l->n);
    for (size_t i = 0; i < l->n; i++)
        parts->v[parts->n++] = path_of(r, l->v[i], p[1], TMPL_ABSENT_VALUE);
    return ftk_tmpl_join(&r->job, parts, with);
}

FILTER(do_reverse)
{
    (void)p, (void)args;
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    ftk_tmpl_list *back = ftk_tmpl_list_new(&r->job, TMPL_SEQ_GENERATOR, l->n);
    for (size_t i = l->n; i-- > 0;) back->v[back->n++] = l->v[i];
    if (v.kind != TMPL_STRING) return ftk_tmpl_list_of(back);
    static const ftk_tmpl_str nothing = {.p = ""};
    return ftk_tmpl_join(&r->job, back, &nothing);
}

FILTER(do_sum)
{
    (void)args;
    ftk_tmpl_value sum = p[1].kind == TMPL_ABSENT ? TMPL_INT_VALUE(0) : p[1];
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    for (size_t i = 0; i < l->n; i++) {
        const ftk_tmpl_value part =
            given(p[0]) ? path_of(r, l->v[i], p[0], TMPL_ABSENT_VALUE) : l->v[i];
        sum = ftk_tmpl_binary(&r->job, OP_ADD, sum, part);
    }
    return sum;
}

FILTER(do_map)
{
    (void)p;
    ftk_tmpl_value path = TMPL_ABSENT_VALUE, missing = TMPL_ABSENT_VALUE;
    for (size_t i = 0; args->n == 0 && i < args->n_named; i++) {
        if (ftk_tmpl_same(args->named[i].key.s, "attribute")) path = args->named[i].value;
        if (ftk_tmpl_same(args->named[i].key.s, "default") && given(args->named[i].value))
            missing = args->named[i].value;
    }
    if (args->n == 0 && path.kind == TMPL_ABSENT)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "map requires a filter argument");
    const ftk_tmpl_list *l = walk_if_true(r, v);
    ftk_tmpl_list *result = ftk_tmpl_list_new(&r->job, TMPL_SEQ_GENERATOR, l->n);
    const ftk_tmpl_args rest = {args->n > 0 ? args->v + 1 : NULL, args->n > 0 ? args->n - 1 : 0,
                                args->named, args->n_named};
    for (size_t i = 0; i < l->n; i++)
        result->v[result->n++] =
            args->n == 0
                ? path_of(r, l->v[i], path, missing)
                : ftk_tmpl_apply_filter(r, ftk_tmpl_text_of(&r->job, args->v[0]), l->v[i], &rest);
    return ftk_tmpl_list_of(result);
}

FILTER(do_batch)
{
    (void)args;
    const int64_t n = ftk_tmpl_int_of(&r->job, p[0], 1);
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    ftk_tmpl_list *rows = ftk_tmpl_list_new(&r->job, TMPL_SEQ_GENERATOR, 0), *row = NULL;
    for (size_t i = 0; i < l->n; i++) {
        if (!row || (int64_t)row->n == n) {
            row = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 0);
            ftk_tmpl_list_push(&r->job, rows, ftk_tmpl_list_of(row));
        }
        ftk_tmpl_list_push(&r->job, row, l->v[i]);
    }
    while (row && given(p[1]) && (int64_t)row->n < n) ftk_tmpl_list_push(&r->job, row, p[1]);
    return ftk_tmpl_list_of(rows);
}

FILTER(do_slice)
{
    (void)args;
    const int64_t n = ftk_tmpl_int_of(&r->job, p[0], 1);
    const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, v);
    ftk_tmpl_list *columns = ftk_tmpl_list_new(&r->job, TMPL_SEQ_GENERATOR, 0);
    if (n == 0) ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "integer division or modulo by zero");
    const int64_t each = n > 0 ? (int64_t)l->n / n : 0, more = n > 0 ? (int64_t)l->n % n : 0;
    size_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        ftk_tmpl_list *column = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 0);
        for (int64_t k = 0; k < each + (i < more); k++)
            ftk_tmpl_list_push(&r->job, column, l->v[at++]);
        if (given(p[1]) && i >= more) ftk_tmpl_list_push(&r->job, column, p[1]);
        ftk_tmpl_list_push(&r->job, columns, ftk_tmpl_list_of(column));
    }
    return ftk_tmpl_list_of(columns);
}

const ftk_tmpl_function *ftk_tmpl_list_filter(const ftk_tmpl_str *name)
{
    static const ftk_tmpl_function table[] = {
        {"batch", "!linecount fill_with", do_batch},
        {"dictsort", "case_sensitive by reverse", do_dictsort},
        {"first", "", do_first},
        {"groupby", "!attribute default case_sensitive", do_groupby},
        {"items", "", do_items},
        {"join", "d attribute", do_join},
        {"last", "", do_last},
        {"list", "", do_list},
        {"map", "*", do_map},
        {"max", "case_sensitive attribute", do_max},
        {"min", "case_sensitive attribute", do_min},
        {"reject", "*", do_reject},
        {"rejectattr", "*", do_rejectattr},
        {"reverse", "", do_reverse},
        {"select", "*", do_select},
        {"selectattr", "*", do_selectattr},
        {"slice", "!slices fill_with", do_slice},
        {"sort", "reverse case_sensitive attribute", do_sort},
        {"sum", "attribute start", do_sum},
        {"unique", "case_sensitive attribute", do_unique},
    };
    return ftk_tmpl_lookup(table, sizeof table / sizeof *table, name);
}
