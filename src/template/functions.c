/* SPDX-License-Identifier: Apache-2.0
 * Built-in functions: how arguments reach their parameters, and those that need no value in
 * front. */
#include "template/parts.h"

#include <string.h>

const ftk_tmpl_function *ftk_tmpl_lookup(const ftk_tmpl_function *table, size_t n,
                                         const ftk_tmpl_str *name)
{
    for (size_t i = 0; i < n; i++)
        if (ftk_tmpl_same(name, table[i].name)) return &table[i];
    return NULL;
}

/* ------------------------------------------------------------------ arguments */

/* The next word of a list of parameters; *must: it has to be given. */
static bool next_parameter(const char **at, ftk_str *name, bool *must)
{
    *at += strspn(*at, " ");
    *must = **at == '!';
    *at += *must;
    *name = (ftk_str){*at, strcspn(*at, " ")};
    *at += name->n;
    return name->n > 0;
}

static void bind(ftk_tmpl_run *r, const ftk_tmpl_function *f, const ftk_tmpl_args *args,
                 ftk_tmpl_value p[FTK_TMPL_PARAMETERS])
{
    const char *at = f->params;
    ftk_str name;
    bool must;
    size_t n = 0, n_named = 0;
    for (; next_parameter(&at, &name, &must); n++) {
        p[n] = n < args->n ? args->v[n] : TMPL_ABSENT_VALUE;
        for (size_t i = 0; i < args->n_named; i++) {
            const ftk_tmpl_str *key = args->named[i].key.s;
            if (key->n != name.n || memcmp(key->p, name.p, name.n) != 0) continue;
            if (p[n].kind != TMPL_ABSENT)
                ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                              "%s() got multiple values for argument '%.*s'", f->name, (int)name.n,
                              name.p);
            p[n] = args->named[i].value;
            n_named++;
        }
        if (must && p[n].kind == TMPL_ABSENT)
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "%s() misses its argument '%.*s'", f->name,
                          (int)name.n, name.p);
    }
    if (args->n > n || n_named < args->n_named)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "%s() has no parameter for one of its arguments",
                      f->name);
}

ftk_tmpl_value ftk_tmpl_apply(ftk_tmpl_run *r, const ftk_tmpl_function *f, ftk_tmpl_value self,
                              const ftk_tmpl_args *args)
{
    ftk_tmpl_value p[FTK_TMPL_PARAMETERS];
    ftk_tmpl_enter(&r->job);
    const bool any = strcmp(f->params, "*") == 0;
    if (!any) bind(r, f, args, p);
    const ftk_tmpl_value v = f->call(r, self, any ? NULL : p, args);
    ftk_tmpl_leave(&r->job);
    return v;
}

int64_t ftk_tmpl_int_of(ftk_tmpl_job *j, ftk_tmpl_value v, int64_t absent)
{
    if (v.kind == TMPL_ABSENT) return absent;
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(j, v);
    if (!ftk_tmpl_is_whole(v))
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "'%s' object cannot be interpreted as an integer",
                      ftk_tmpl_type(v));
    return ftk_tmpl_whole(v);
}

const ftk_tmpl_str *ftk_tmpl_text_of(ftk_tmpl_job *j, ftk_tmpl_value v)
{
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(j, v);
    if (v.kind != TMPL_STRING)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "must be str, not %s", ftk_tmpl_type(v));
    return v.s;
}

/* ------------------------------------------------------------------ functions */

static ftk_tmpl_value call_range(ftk_tmpl_run *r, ftk_tmpl_value self, const ftk_tmpl_value *p,
                                 const ftk_tmpl_args *args)
{
    (void)self;
    int64_t start = ftk_tmpl_int_of(&r->job, p[0], 0), stop = ftk_tmpl_int_of(&r->job, p[1], 0);
    const int64_t step = ftk_tmpl_int_of(&r->job, p[2], 1);
    if (args->n == 1) {
        stop = start;
        start = 0;
    }
    if (step == 0) ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "range() arg 3 must not be zero");
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_RANGE, 0);
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (l->n == FTK_TMPL_RANGE)
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                          "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                          FTK_TMPL_RANGE);
        ftk_tmpl_list_push(&r->job, l, TMPL_INT_VALUE(i));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    l->range[0] = start;
    l->range[1] = stop;
    l->range[2] = step;
    return ftk_tmpl_list_of(l);
}

/* dict(): of a mapping or of pairs, and of named arguments. */
static ftk_tmpl_dict *make_dict(ftk_tmpl_run *r, const ftk_tmpl_args *args)
{
    ftk_tmpl_dict *d = ftk_tmpl_dict_new(&r->job);
    if (args->n > 1)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "dict expected at most 1 argument, got %zu",
                      args->n);
    if (args->n == 1 && args->v[0].kind == TMPL_DICT) {
        for (size_t i = 0; i < args->v[0].dict->n; i++)
            ftk_tmpl_dict_put(&r->job, d, args->v[0].dict->v[i].key, args->v[0].dict->v[i].value);
    } else if (args->n == 1) {
        const ftk_tmpl_list *l = ftk_tmpl_walk(&r->job, args->v[0]);
        for (size_t i = 0; i < l->n; i++) {
            const ftk_tmpl_list *pair = ftk_tmpl_walk(&r->job, l->v[i]);
            if (pair->n != 2)
                ftk_tmpl_fail(
                    &r->job, FTK_ERR_INVALID,
                    "dictionary update sequence element #%zu has length %zu; 2 is required", i,
                    pair->n);
            ftk_tmpl_dict_put(&r->job, d, pair->v[0], pair->v[1]);
        }
    }
    for (size_t i = 0; i < args->n_named; i++)
        ftk_tmpl_dict_put(&r->job, d, args->named[i].key, args->named[i].value);
    return d;
}

static ftk_tmpl_value call_dict(ftk_tmpl_run *r, ftk_tmpl_value self, const ftk_tmpl_value *p,
                                const ftk_tmpl_args *args)
{
    (void)self, (void)p;
    return ftk_tmpl_dict_of(make_dict(r, args));
}

static ftk_tmpl_value call_namespace(ftk_tmpl_run *r, ftk_tmpl_value self, const ftk_tmpl_value *p,
                                     const ftk_tmpl_args *args)
{
    (void)self, (void)p;
    return (ftk_tmpl_value){.kind = TMPL_NAMESPACE, .dict = make_dict(r, args)};
}

static ftk_tmpl_value object(ftk_tmpl_run *r, const char *type, ftk_tmpl_list *items)
{
    ftk_tmpl_object *o = ftk_tmpl_alloc(&r->job, 1, sizeof *o);
    *o = (ftk_tmpl_object){type, items, 0};
    return (ftk_tmpl_value){.kind = TMPL_OBJECT, .object = o};
}

static ftk_tmpl_value call_cycler(ftk_tmpl_run *r, ftk_tmpl_value self, const ftk_tmpl_value *p,
                                  const ftk_tmpl_args *args)
{
    (void)self, (void)p;
    if (args->n == 0)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "at least one item has to be provided");
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, args->n);
    for (size_t i = 0; i < args->n; i++) l->v[l->n++] = args->v[i];
    return object(r, "Cycler", l);
}

static ftk_tmpl_value call_joiner(ftk_tmpl_run *r, ftk_tmpl_value self, const ftk_tmpl_value *p,
                                  const ftk_tmpl_args *args)
{
    (void)self, (void)args;
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_LIST, 1);
    l->v[l->n++] = p[0].kind == TMPL_ABSENT ? ftk_tmpl_word(&r->job, ", ") : p[0];
    return object(r, "Joiner", l);
}

static ftk_tmpl_value call_raise(ftk_tmpl_run *r, ftk_tmpl_value self, const ftk_tmpl_value *p,
                                 const ftk_tmpl_args *args)
{
    (void)self, (void)args;
    const ftk_tmpl_str *why = ftk_tmpl_str_of(&r->job, p[0]);
    ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "%.*s", (int)(why->n < 300 ? why->n : 300), why->p);
}

static ftk_tmpl_value call_now(ftk_tmpl_run *r, ftk_tmpl_value self, const ftk_tmpl_value *p,
                               const ftk_tmpl_args *args)
{
    (void)self, (void)args;
    return ftk_tmpl_date(&r->job, ftk_tmpl_text_of(&r->job, p[0]), r->in->now);
}

const ftk_tmpl_function *ftk_tmpl_global(const ftk_tmpl_str *name)
{
    static const ftk_tmpl_function table[] = {
        {"range", "!start stop step", call_range},
        {"dict", "*", call_dict},
        {"namespace", "*", call_namespace},
        {"cycler", "*", call_cycler},
        {"joiner", "sep", call_joiner},
        {"raise_exception", "!message", call_raise},
        {"strftime_now", "!format", call_now},
    };
    return ftk_tmpl_lookup(table, sizeof table / sizeof *table, name);
}
