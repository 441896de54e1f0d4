/* SPDX-License-Identifier: Apache-2.0
 * Values of a template: making them, comparing them, walking them. */
#include "template/parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------ making */

ftk_tmpl_value ftk_tmpl_string(ftk_tmpl_job *j, ftk_tmpl_str s)
{
    ftk_tmpl_str *copy = ftk_tmpl_alloc(j, 1, sizeof *copy);
    *copy = s;
    return (ftk_tmpl_value){.kind = TMPL_STRING, .s = copy};
}

ftk_tmpl_value ftk_tmpl_word(ftk_tmpl_job *j, const char *word)
{
    return ftk_tmpl_string(j, (ftk_tmpl_str){.p = word, .n = strlen(word)});
}

ftk_tmpl_value ftk_tmpl_list_of(ftk_tmpl_list *l)
{
    return (ftk_tmpl_value){.kind = TMPL_LIST, .list = l};
}

ftk_tmpl_value ftk_tmpl_dict_of(ftk_tmpl_dict *d)
{
    return (ftk_tmpl_value){.kind = TMPL_DICT, .dict = d};
}

ftk_tmpl_list *ftk_tmpl_list_new(ftk_tmpl_job *j, ftk_tmpl_sequence sequence, size_t cap)
{
    ftk_tmpl_list *l = ftk_tmpl_alloc(j, 1, sizeof *l);
    *l = (ftk_tmpl_list){.sequence = sequence, .cap = cap};
    if (cap > 0) l->v = ftk_tmpl_alloc(j, cap, sizeof *l->v);
    return l;
}

void ftk_tmpl_list_push(ftk_tmpl_job *j, ftk_tmpl_list *l, ftk_tmpl_value v)
{
    if (l->n == l->cap) {
        l->cap = 2 * l->cap + 4;
        ftk_tmpl_value *grown = ftk_tmpl_alloc(j, l->cap, sizeof *grown);
        if (l->n > 0) memcpy(grown, l->v, l->n * sizeof *grown);
        l->v = grown;
    }
    l->v[l->n++] = v;
}

ftk_tmpl_value ftk_tmpl_tuple2(ftk_tmpl_job *j, ftk_tmpl_value a, ftk_tmpl_value b)
{
    ftk_tmpl_list *l = ftk_tmpl_list_new(j, TMPL_SEQ_TUPLE, 2);
    l->v[0] = a;
    l->v[1] = b;
    l->n = 2;
    return ftk_tmpl_list_of(l);
}

ftk_tmpl_dict *ftk_tmpl_dict_new(ftk_tmpl_job *j)
{
    ftk_tmpl_dict *d = ftk_tmpl_alloc(j, 1, sizeof *d);
    *d = (ftk_tmpl_dict){0};
    return d;
}

static void check_hashable(ftk_tmpl_job *j, ftk_tmpl_value key)
{
    const bool list = key.kind == TMPL_LIST && key.list->sequence == TMPL_SEQ_LIST;
    if (list || key.kind == TMPL_DICT)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "unhashable type: '%s'", ftk_tmpl_type(key));
}

ftk_tmpl_value *ftk_tmpl_dict_find(ftk_tmpl_job *j, const ftk_tmpl_dict *d, ftk_tmpl_value key)
{
    check_hashable(j, key);
    ftk_tmpl_spend(j, d->n / 4);
    for (size_t i = 0; i < d->n; i++)
        if (ftk_tmpl_equal(j, d->v[i].key, key)) return &d->v[i].value;
    return NULL;
}

void ftk_tmpl_dict_put(ftk_tmpl_job *j, ftk_tmpl_dict *d, ftk_tmpl_value key, ftk_tmpl_value v)
{
    ftk_tmpl_value *there = ftk_tmpl_dict_find(j, d, key);
    if (there) {
        *there = v;
        return;
    }
    if (d->n == d->cap) {
        d->cap = 2 * d->cap + 4;
        struct ftk_tmpl_pair *grown = ftk_tmpl_alloc(j, d->cap, sizeof *grown);
        if (d->n > 0) memcpy(grown, d->v, d->n * sizeof *grown);
        d->v = grown;
    }
    d->v[d->n++] = (struct ftk_tmpl_pair){key, v};
}

static ftk_tmpl_value undefined(ftk_tmpl_job *j, ftk_tmpl_undefined u)
{
    ftk_tmpl_undefined *copy = ftk_tmpl_alloc(j, 1, sizeof *copy);
    *copy = u;
    return (ftk_tmpl_value){.kind = TMPL_UNDEFINED, .undefined = copy};
}

ftk_tmpl_value ftk_tmpl_undefined_name(ftk_tmpl_job *j, ftk_tmpl_value name)
{
    return undefined(j, (ftk_tmpl_undefined){.name = name});
}

ftk_tmpl_value ftk_tmpl_undefined_of(ftk_tmpl_job *j, ftk_tmpl_value object, ftk_tmpl_value name)
{
    return undefined(j, (ftk_tmpl_undefined){.of_object = true, .object = object, .name = name});
}

ftk_tmpl_value ftk_tmpl_undefined_for(ftk_tmpl_job *j, const char *reason)
{
    return undefined(j, (ftk_tmpl_undefined){.reason = reason});
}

/* ------------------------------------------------------------------ types */

const char *ftk_tmpl_type(ftk_tmpl_value v)
{
    static const char *const sequences[] = {"list",        "tuple",      "range",    "dict_keys",
                                            "dict_values", "dict_items", "generator"};
    switch ((ftk_tmpl_kind)v.kind) {
    case TMPL_ABSENT:
    case TMPL_UNDEFINED: return "Undefined";
    case TMPL_NONE: return "NoneType";
    case TMPL_BOOL: return "bool";
    case TMPL_INT: return "int";
    case TMPL_FLOAT: return "float";
    case TMPL_STRING: return v.s->markup ? "Markup" : "str";
    case TMPL_LIST: return sequences[v.list->sequence];
    case TMPL_DICT: return "dict";
    case TMPL_NAMESPACE: return "TemplateNamespace";
    case TMPL_SLICE: return "slice";
    case TMPL_MACRO: return "Macro";
    case TMPL_BUILTIN:
        return v.builtin->self.kind == TMPL_ABSENT ? "function" : "builtin_function_or_method";
    case TMPL_LOOP: return "LoopContext";
    case TMPL_OBJECT: return v.object->type;
    }
    return "object";
}

const char *ftk_tmpl_object_type(ftk_tmpl_job *j, ftk_tmpl_value v)
{
    if (v.kind == TMPL_NONE) return "None";
    char *text = ftk_tmpl_alloc(j, 64, 1);
    const char *module = "";
    if (v.kind == TMPL_LOOP || v.kind == TMPL_MACRO) module = "jinja2.runtime.";
    if (v.kind == TMPL_OBJECT) module = "jinja2.utils.";
    if (v.kind == TMPL_STRING && v.s->markup) module = "markupsafe.";
    snprintf(text, 64, "%s%s object", module, ftk_tmpl_type(v));
    return text;
}

void ftk_tmpl_fail_undefined(ftk_tmpl_job *j, ftk_tmpl_value v)
{
    const ftk_tmpl_undefined *u = v.undefined;
    if (u->reason) ftk_tmpl_fail(j, FTK_ERR_INVALID, "%s", u->reason);
    ftk_tmpl_text name = {0};
    ftk_tmpl_repr(j, &name, u->name);
    const int n = (int)(name.n < 200 ? name.n : 200);
    if (!u->of_object) ftk_tmpl_fail(j, FTK_ERR_INVALID, "%.*s is undefined", n, name.p);
    const char *object = ftk_tmpl_object_type(j, u->object);
    if (u->unsafe)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "access to attribute %.*s of '%s' object is unsafe.", n,
                      name.p, ftk_tmpl_type(u->object));
    if (u->name.kind == TMPL_STRING)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "'%s' has no attribute %.*s", object, n, name.p);
    ftk_tmpl_fail(j, FTK_ERR_INVALID, "%s has no element %.*s", object, n, name.p);
}

bool ftk_tmpl_callable(ftk_tmpl_value v)
{
    return v.kind == TMPL_MACRO || v.kind == TMPL_BUILTIN || v.kind == TMPL_LOOP ||
           v.kind == TMPL_UNDEFINED || v.kind == TMPL_OBJECT;
}

bool ftk_tmpl_true(ftk_tmpl_value v)
{
    switch ((ftk_tmpl_kind)v.kind) {
    case TMPL_ABSENT:
    case TMPL_UNDEFINED:
    case TMPL_NONE: return false;
    case TMPL_BOOL: return v.b;
    case TMPL_INT: return v.i != 0;
    case TMPL_FLOAT: return v.f != 0;
    case TMPL_STRING: return v.s->n > 0;
    case TMPL_LIST: return v.list->sequence == TMPL_SEQ_GENERATOR || v.list->n > 0;
    case TMPL_DICT: return v.dict->n > 0;
    default: return true;
    }
}

/* ------------------------------------------------------------------ comparing */

/* Tuples equal tuples only, lists lists; views and ranges as what they show. */
static bool equal_lists(ftk_tmpl_job *j, const ftk_tmpl_list *a, const ftk_tmpl_list *b)
{
    if (a == b) return true;
    if (a->sequence != b->sequence || a->n != b->n) return false;
    if (a->sequence == TMPL_SEQ_GENERATOR || a->sequence == TMPL_SEQ_VALUES) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!ftk_tmpl_equal(j, a->v[i], b->v[i])) return false;
    return true;
}

static bool equal_dicts(ftk_tmpl_job *j, const ftk_tmpl_dict *a, const ftk_tmpl_dict *b)
{
    if (a == b) return true;
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        const ftk_tmpl_value *other = ftk_tmpl_dict_find(j, b, a->v[i].key);
        if (!other || !ftk_tmpl_equal(j, a->v[i].value, *other)) return false;
    }
    return true;
}

static bool equal_within(ftk_tmpl_job *j, ftk_tmpl_value a, ftk_tmpl_value b)
{
    if (ftk_tmpl_is_whole(a) && ftk_tmpl_is_whole(b)) return ftk_tmpl_whole(a) == ftk_tmpl_whole(b);
    if (ftk_tmpl_is_number(a) && ftk_tmpl_is_number(b)) return ftk_tmpl_real(a) == ftk_tmpl_real(b);
    if (a.kind != b.kind) return false;
    switch ((ftk_tmpl_kind)a.kind) {
    case TMPL_UNDEFINED:
    case TMPL_NONE: return true;
    case TMPL_STRING:
        ftk_tmpl_spend(j, a.s->n == b.s->n ? a.s->n / 64 : 0);
        return a.s->n == b.s->n && (a.s->n == 0 || memcmp(a.s->p, b.s->p, a.s->n) == 0);
    case TMPL_LIST: return equal_lists(j, a.list, b.list);
    case TMPL_DICT: return equal_dicts(j, a.dict, b.dict);
    case TMPL_BUILTIN: return a.builtin->f == b.builtin->f && a.builtin == b.builtin;
    default: return a.dict == b.dict;
    }
}

bool ftk_tmpl_equal(ftk_tmpl_job *j, ftk_tmpl_value a, ftk_tmpl_value b)
{
    ftk_tmpl_enter(j);
    const bool same = equal_within(j, a, b);
    ftk_tmpl_leave(j);
    return same;
}

static int order_strings(const ftk_tmpl_str *a, const ftk_tmpl_str *b)
{
    const size_t n = a->n < b->n ? a->n : b->n;
    const int order = n > 0 ? memcmp(a->p, b->p, n) : 0; /* UTF-8 is in the order of code points */
    return order != 0 ? (order > 0) - (order < 0) : (a->n > b->n) - (a->n < b->n);
}

static int order_lists(ftk_tmpl_job *j, const ftk_tmpl_list *a, const ftk_tmpl_list *b,
                       const char *op)
{
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (!ftk_tmpl_equal(j, a->v[i], b->v[i])) return ftk_tmpl_order(j, a->v[i], b->v[i], op);
    return (a->n > b->n) - (a->n < b->n);
}

static int order_within(ftk_tmpl_job *j, ftk_tmpl_value a, ftk_tmpl_value b, const char *op)
{
    if (ftk_tmpl_is_whole(a) && ftk_tmpl_is_whole(b)) {
        const int64_t x = ftk_tmpl_whole(a), y = ftk_tmpl_whole(b);
        return (x > y) - (x < y);
    }
    if (ftk_tmpl_is_number(a) && ftk_tmpl_is_number(b)) {
        const double x = ftk_tmpl_real(a), y = ftk_tmpl_real(b);
        if (isnan(x) || isnan(y)) return 2; /* no order holds */
        return (x > y) - (x < y);
    }
    if (a.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(j, a);
    if (b.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(j, b);
    if (a.kind == TMPL_STRING && b.kind == TMPL_STRING) {
        ftk_tmpl_spend(j, (a.s->n < b.s->n ? a.s->n : b.s->n) / 64);
        return order_strings(a.s, b.s);
    }
    if (a.kind == TMPL_LIST && b.kind == TMPL_LIST && a.list->sequence == b.list->sequence &&
        a.list->sequence <= TMPL_SEQ_TUPLE)
        return order_lists(j, a.list, b.list, op);
    ftk_tmpl_fail(j, FTK_ERR_INVALID, "'%s' not supported between instances of '%s' and '%s'", op,
                  ftk_tmpl_type(a), ftk_tmpl_type(b));
}

int ftk_tmpl_order(ftk_tmpl_job *j, ftk_tmpl_value a, ftk_tmpl_value b, const char *op)
{
    ftk_tmpl_enter(j);
    const int order = order_within(j, a, b, op);
    ftk_tmpl_leave(j);
    return order;
}

bool ftk_tmpl_contains(ftk_tmpl_job *j, ftk_tmpl_value in, ftk_tmpl_value v)
{
    if (in.kind == TMPL_DICT) return ftk_tmpl_dict_find(j, in.dict, v) != NULL;
    if (in.kind == TMPL_STRING) {
        if (v.kind == TMPL_UNDEFINED || v.kind != TMPL_STRING)
            ftk_tmpl_fail(j, FTK_ERR_INVALID,
                          "'in <string>' requires string as left operand, not %s",
                          ftk_tmpl_type(v));
        return ftk_tmpl_find(j, in.s, v.s, 0, in.s->n, false) != SIZE_MAX;
    }
    if (in.kind != TMPL_LIST && in.kind != TMPL_UNDEFINED)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "argument of type '%s' is not iterable",
                      ftk_tmpl_type(in));
    const ftk_tmpl_list *l = ftk_tmpl_walk(j, in);
    for (size_t i = 0; i < l->n; i++)
        if (ftk_tmpl_equal(j, l->v[i], v)) return true;
    return false;
}

/* ------------------------------------------------------------------ walking */

static const ftk_tmpl_list *walk_string(ftk_tmpl_job *j, const ftk_tmpl_str *s)
{
    ftk_tmpl_list *l = ftk_tmpl_list_new(j, TMPL_SEQ_LIST, ftk_tmpl_chars(j, s));
    for (size_t at = 0; at < s->n;) {
        const size_t n = ftk_tmpl_char(s, at);
        ftk_tmpl_list_push(j, l, ftk_tmpl_slice_str(j, s, at, at + n));
        at += n;
    }
    return l;
}

static const ftk_tmpl_list *walk_generator(ftk_tmpl_job *j, ftk_tmpl_list *g)
{
    ftk_tmpl_list *l = ftk_tmpl_list_new(j, TMPL_SEQ_LIST, 0);
    l->v = g->used < g->n ? g->v + g->used : NULL;
    l->n = l->cap = g->n - g->used;
    g->used = g->n;
    return l;
}

const ftk_tmpl_list *ftk_tmpl_walk(ftk_tmpl_job *j, ftk_tmpl_value v)
{
    switch ((ftk_tmpl_kind)v.kind) {
    case TMPL_UNDEFINED: return ftk_tmpl_list_new(j, TMPL_SEQ_LIST, 0);
    case TMPL_STRING: return walk_string(j, v.s);
    case TMPL_LIST:
        ftk_tmpl_spend(j, v.list->n / 8);
        return v.list->sequence == TMPL_SEQ_GENERATOR ? walk_generator(j, v.list) : v.list;
    case TMPL_DICT: {
        ftk_tmpl_list *l = ftk_tmpl_list_new(j, TMPL_SEQ_LIST, v.dict->n);
        for (size_t i = 0; i < v.dict->n; i++) l->v[l->n++] = v.dict->v[i].key;
        return l;
    }
    default: ftk_tmpl_fail(j, FTK_ERR_INVALID, "'%s' object is not iterable", ftk_tmpl_type(v));
    }
}

bool ftk_tmpl_length(ftk_tmpl_job *j, ftk_tmpl_value v, int64_t *n)
{
    *n = 0;
    switch ((ftk_tmpl_kind)v.kind) {
    case TMPL_UNDEFINED: return true;
    case TMPL_STRING: *n = (int64_t)ftk_tmpl_chars(j, v.s); return true;
    case TMPL_LIST: *n = (int64_t)v.list->n; return v.list->sequence != TMPL_SEQ_GENERATOR;
    case TMPL_DICT: *n = (int64_t)v.dict->n; return true;
    case TMPL_LOOP: *n = (int64_t)v.loop->items->n; return true;
    default: return false;
    }
}
