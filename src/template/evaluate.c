/* SPDX-License-Identifier: Apache-2.0
 * Expressions to values. */
#include "template/parts.h"

#include <string.h>

/* ------------------------------------------------------------------ names */

static ftk_tmpl_value find_name(ftk_tmpl_run *r, const ftk_tmpl_str *name)
{
    for (const ftk_tmpl_scope *s = r->scope; s; s = s->up)
        for (size_t i = s->n; i-- > 0;)
            if (s->v[i].name == name) return s->v[i].v;
    const ftk_tmpl_function *f = ftk_tmpl_global(name);
    if (!f)
        return ftk_tmpl_undefined_name(&r->job, (ftk_tmpl_value){.kind = TMPL_STRING, .s = name});
    ftk_tmpl_builtin *b = ftk_tmpl_alloc(&r->job, 1, sizeof *b);
    *b = (ftk_tmpl_builtin){f, TMPL_ABSENT_VALUE};
    return (ftk_tmpl_value){.kind = TMPL_BUILTIN, .builtin = b};
}

/* ------------------------------------------------------------------ attributes and elements */

static ftk_tmpl_value loop_attribute(ftk_tmpl_run *r, const ftk_tmpl_loop *loop,
                                     const ftk_tmpl_str *name, bool *found)
{
    const int64_t at = (int64_t)loop->at, n = (int64_t)loop->items->n;
    const struct {
        const char *name;
        int64_t v;
    } numbers[] = {
        {"index", at + 1},         {"index0", at},
        {"revindex", n - at},      {"length", n},
        {"revindex0", n - at - 1}, {"depth", loop->depth + 1},
        {"depth0", loop->depth},
    };
    *found = true;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (ftk_tmpl_same(name, numbers[i].name)) return TMPL_INT_VALUE(numbers[i].v);
    if (ftk_tmpl_same(name, "first")) return TMPL_BOOL_VALUE(at == 0);
    if (ftk_tmpl_same(name, "last")) return TMPL_BOOL_VALUE(at + 1 == n);
    if (ftk_tmpl_same(name, "previtem"))
        return at > 0 ? loop->items->v[at - 1]
                      : ftk_tmpl_undefined_for(&r->job, "there is no previous item");
    if (ftk_tmpl_same(name, "nextitem"))
        return at + 1 < n ? loop->items->v[at + 1]
                          : ftk_tmpl_undefined_for(&r->job, "there is no next item");
    *found = false;
    return TMPL_NONE_VALUE;
}

/* What is neither a method nor an element. */
static ftk_tmpl_value own_attribute(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_str *name,
                                    bool *found)
{
    *found = true;
    if (v.kind == TMPL_LOOP) return loop_attribute(r, v.loop, name, found);
    if (v.kind == TMPL_MACRO && ftk_tmpl_same(name, "name") && v.macro->node->name)
        return (ftk_tmpl_value){.kind = TMPL_STRING, .s = v.macro->node->name};
    if (v.kind == TMPL_OBJECT && v.object->items && ftk_tmpl_same(name, "current"))
        return v.object->items->v[v.object->at];
    if (v.kind == TMPL_NAMESPACE) {
        const ftk_tmpl_value *there =
            ftk_tmpl_dict_find(&r->job, v.dict, (ftk_tmpl_value){.kind = TMPL_STRING, .s = name});
        if (there) return *there;
    }
    *found = false;
    return TMPL_NONE_VALUE;
}

/* Names of Python's own things, which the sandbox keeps to itself. */
static bool is_internal(const ftk_tmpl_str *name)
{
    return name->n > 4 && memcmp(name->p, "__", 2) == 0 &&
           memcmp(name->p + name->n - 2, "__", 2) == 0;
}

static ftk_tmpl_value unsafe(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value name)
{
    ftk_tmpl_undefined *u = ftk_tmpl_alloc(&r->job, 1, sizeof *u);
    *u = (ftk_tmpl_undefined){.unsafe = true, .of_object = true, .object = v, .name = name};
    return (ftk_tmpl_value){.kind = TMPL_UNDEFINED, .undefined = u};
}

/* getattr() alone; TMPL_ABSENT if there is nothing. */
static ftk_tmpl_value get_attribute(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value name)
{
    bool found, is_unsafe = false;
    const ftk_tmpl_value own = own_attribute(r, v, name.s, &found);
    if (found) return own;
    const ftk_tmpl_function *f = ftk_tmpl_method(v, name.s, &is_unsafe);
    if (is_unsafe || is_internal(name.s)) return unsafe(r, v, name);
    if (!f) return TMPL_ABSENT_VALUE;
    ftk_tmpl_builtin *b = ftk_tmpl_alloc(&r->job, 1, sizeof *b);
    *b = (ftk_tmpl_builtin){f, v};
    return (ftk_tmpl_value){.kind = TMPL_BUILTIN, .builtin = b};
}

ftk_tmpl_value ftk_tmpl_attribute(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value name)
{
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(&r->job, v);
    const ftk_tmpl_value found = get_attribute(r, v, name);
    if (found.kind != TMPL_ABSENT) return found;
    const ftk_tmpl_value *there =
        v.kind == TMPL_DICT ? ftk_tmpl_dict_find(&r->job, v.dict, name) : NULL;
    return there ? *there : ftk_tmpl_undefined_of(&r->job, v, name);
}

static bool is_indexed(ftk_tmpl_value v)
{
    return v.kind == TMPL_STRING || (v.kind == TMPL_LIST && v.list->sequence <= TMPL_SEQ_RANGE);
}

/* The bounds of a slice of n elements, as Python clips them. */
static int64_t slice_bounds(ftk_tmpl_run *r, const ftk_tmpl_value *part, int64_t n, int64_t *from,
                            int64_t *to)
{
    for (int i = 0; i < 3; i++)
        if (part[i].kind != TMPL_NONE && !ftk_tmpl_is_whole(part[i]))
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                          "slice indices must be integers or None or have an __index__ method");
    const int64_t step = part[2].kind == TMPL_NONE ? 1 : ftk_tmpl_whole(part[2]);
    if (step == 0) ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "slice step cannot be zero");
    const int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    int64_t *const bounds[] = {from, to};
    for (int i = 0; i < 2; i++) {
        const bool start = (i == 0) == (step > 0);
        int64_t v = start ? low : high;
        if (part[i].kind != TMPL_NONE) {
            v = ftk_tmpl_whole(part[i]);
            if (v < 0) v = v < -n ? low : v + n;
            if (v < low) v = low;
            if (v > high) v = high;
        }
        *bounds[i] = v;
    }
    return step;
}

static ftk_tmpl_value slice_string(ftk_tmpl_run *r, const ftk_tmpl_str *s, int64_t from, int64_t to,
                                   int64_t step)
{
    if (step == 1)
        return ftk_tmpl_slice_str(&r->job, s, ftk_tmpl_offset(s, (size_t)from),
                                  ftk_tmpl_offset(s, (size_t)(to > from ? to : from)));
    const ftk_tmpl_list *chars =
        ftk_tmpl_walk(&r->job, (ftk_tmpl_value){.kind = TMPL_STRING, .s = s});
    ftk_tmpl_text t = {0};
    for (int64_t i = from; step > 0 ? i < to : i > to; i += step) {
        ftk_tmpl_add_str(&r->job, &t, chars->v[i].s);
        if (step > 0 ? step >= to - i : step <= to - i) break;
    }
    return ftk_tmpl_text_end(&r->job, &t);
}

static ftk_tmpl_value slice(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_value *parts)
{
    int64_t n, from, to;
    ftk_tmpl_length(&r->job, v, &n);
    const int64_t step = slice_bounds(r, parts, n, &from, &to);
    if (v.kind == TMPL_STRING) return slice_string(r, v.s, from, to, step);
    const bool tuple = v.list->sequence == TMPL_SEQ_TUPLE;
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, tuple ? TMPL_SEQ_TUPLE : TMPL_SEQ_LIST, 0);
    for (int64_t i = from; step > 0 ? i < to : i > to; i += step) {
        ftk_tmpl_list_push(&r->job, l, v.list->v[i]);
        if (step > 0 ? step >= to - i : step <= to - i) break;
    }
    return ftk_tmpl_list_of(l);
}

static ftk_tmpl_value indexed(ftk_tmpl_run *r, ftk_tmpl_value v, int64_t i)
{
    int64_t n;
    ftk_tmpl_length(&r->job, v, &n);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return TMPL_ABSENT_VALUE;
    if (v.kind == TMPL_LIST) return v.list->v[i];
    const size_t at = ftk_tmpl_offset(v.s, (size_t)i);
    return ftk_tmpl_slice_str(&r->job, v.s, at, at + ftk_tmpl_char(v.s, at));
}

ftk_tmpl_value ftk_tmpl_item(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value key)
{
    ftk_tmpl_value found = TMPL_ABSENT_VALUE;
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(&r->job, v);
    if (v.kind == TMPL_DICT && key.kind != TMPL_SLICE && key.kind != TMPL_DICT &&
        !(key.kind == TMPL_LIST && key.list->sequence == TMPL_SEQ_LIST)) {
        const ftk_tmpl_value *there = ftk_tmpl_dict_find(&r->job, v.dict, key);
        if (there) found = *there;
    } else if (key.kind == TMPL_SLICE) {
        if (v.kind == TMPL_DICT)
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "unhashable type: 'slice'");
        if (!is_indexed(v))
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "'%s' object is not subscriptable",
                          ftk_tmpl_type(v));
        return slice(r, v, key.list->v);
    } else if (is_indexed(v) && ftk_tmpl_is_whole(key)) {
        found = indexed(r, v, ftk_tmpl_whole(key));
    }
    if (found.kind == TMPL_ABSENT && key.kind == TMPL_STRING) found = get_attribute(r, v, key);
    return found.kind != TMPL_ABSENT ? found : ftk_tmpl_undefined_of(&r->job, v, key);
}

/* ------------------------------------------------------------------ calls */

static void push_named(ftk_tmpl_run *r, struct ftk_tmpl_pair *named, size_t *n, ftk_tmpl_value key,
                       ftk_tmpl_value v)
{
    for (size_t i = 0; i < *n; i++)
        if (ftk_tmpl_equal(&r->job, named[i].key, key))
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                          "got multiple values for keyword argument '%.*s'",
                          (int)(key.s->n < 60 ? key.s->n : 60), key.s->p);
    named[(*n)++] = (struct ftk_tmpl_pair){key, v};
}

ftk_tmpl_args ftk_tmpl_eval_args(ftk_tmpl_run *r, const ftk_tmpl_named *list)
{
    if (!list) return (ftk_tmpl_args){0};
    const ftk_tmpl_list *rest = NULL;
    const ftk_tmpl_dict *more = NULL;
    ftk_tmpl_value *v = ftk_tmpl_alloc(&r->job, list->n + 1, sizeof *v);
    for (size_t i = 0; i < list->n; i++) v[i] = ftk_tmpl_eval(r, list->v[i]);
    if (list->rest) rest = ftk_tmpl_walk(&r->job, ftk_tmpl_eval(r, list->rest));
    if (list->rest_named) {
        const ftk_tmpl_value dict = ftk_tmpl_eval(r, list->rest_named);
        if (dict.kind != TMPL_DICT)
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "argument after ** must be a mapping, not %s",
                          ftk_tmpl_type(dict));
        more = dict.dict;
    }
    const size_t n_rest = rest ? rest->n : 0, n_more = more ? more->n : 0;
    ftk_tmpl_value *by_place = ftk_tmpl_alloc(&r->job, list->n + n_rest + 1, sizeof *by_place);
    struct ftk_tmpl_pair *named = ftk_tmpl_alloc(&r->job, list->n + n_more + 1, sizeof *named);
    ftk_tmpl_args args = {.v = by_place, .named = named};
    for (size_t i = 0; i < list->n; i++) {
        if (list->names[i])
            push_named(r, named, &args.n_named,
                       (ftk_tmpl_value){.kind = TMPL_STRING, .s = list->names[i]}, v[i]);
        else
            by_place[args.n++] = v[i];
    }
    for (size_t i = 0; i < n_rest; i++) by_place[args.n++] = rest->v[i];
    for (size_t i = 0; i < n_more; i++) {
        if (more->v[i].key.kind != TMPL_STRING)
            ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "keywords must be strings");
        push_named(r, named, &args.n_named, more->v[i].key, more->v[i].value);
    }
    return args;
}

static ftk_tmpl_value call_loop(ftk_tmpl_run *r, const ftk_tmpl_loop *loop,
                                const ftk_tmpl_args *args)
{
    if (!loop->recursive)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID,
                      "The loop must have the 'recursive' marker to be called recursively.");
    if (args->n != 1 || args->n_named > 0)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "a recursive loop takes one argument");
    ftk_tmpl_text t = {0}, *const out = r->out;
    r->out = &t;
    ftk_tmpl_run_loop(r, loop->node, loop->scope, args->v[0], loop->depth + 1);
    r->out = out;
    return ftk_tmpl_text_end(&r->job, &t);
}

/* A joiner: nothing the first time, then its text. */
static ftk_tmpl_value call_object(ftk_tmpl_run *r, ftk_tmpl_object *o)
{
    if (strcmp(o->type, "Joiner") != 0)
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "'%s' object is not callable", o->type);
    return o->at++ > 0 ? o->items->v[0] : ftk_tmpl_word(&r->job, "");
}

ftk_tmpl_value ftk_tmpl_call(ftk_tmpl_run *r, ftk_tmpl_value f, const ftk_tmpl_args *args)
{
    switch ((ftk_tmpl_kind)f.kind) {
    case TMPL_UNDEFINED: ftk_tmpl_fail_undefined(&r->job, f);
    case TMPL_BUILTIN: return ftk_tmpl_apply(r, f.builtin->f, f.builtin->self, args);
    case TMPL_MACRO: return ftk_tmpl_call_macro(r, f.macro, args, TMPL_ABSENT_VALUE);
    case TMPL_LOOP: return call_loop(r, f.loop, args);
    case TMPL_OBJECT: return call_object(r, f.object);
    default:
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "'%s' object is not callable", ftk_tmpl_type(f));
    }
}

/* ------------------------------------------------------------------ expressions */

static bool compare(ftk_tmpl_run *r, ftk_tmpl_op op, ftk_tmpl_value a, ftk_tmpl_value b)
{
    ftk_tmpl_job *j = &r->job;
    switch (op) {
    case OP_EQUAL: return ftk_tmpl_equal(j, a, b);
    case OP_UNEQUAL: return !ftk_tmpl_equal(j, a, b);
    case OP_LESS: return ftk_tmpl_order(j, a, b, "<") < 0;
    case OP_LESS_EQUAL: return ftk_tmpl_order(j, a, b, "<=") <= 0;
    case OP_GREATER: return ftk_tmpl_order(j, a, b, ">") == 1;
    case OP_GREATER_EQUAL: {
        const int order = ftk_tmpl_order(j, a, b, ">=");
        return order == 0 || order == 1;
    }
    case OP_IN: return ftk_tmpl_contains(j, b, a);
    default: return !ftk_tmpl_contains(j, b, a);
    }
}

static ftk_tmpl_value eval_comparison(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    ftk_tmpl_value left = ftk_tmpl_eval(r, node->a);
    for (size_t i = 0; i < node->v.n; i++) {
        const ftk_tmpl_value right = ftk_tmpl_eval(r, node->v.v[i]->a);
        if (!compare(r, node->v.v[i]->op, left, right)) return TMPL_BOOL_VALUE(false);
        left = right;
    }
    return TMPL_BOOL_VALUE(true);
}

static ftk_tmpl_value eval_concat(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    ftk_tmpl_text t = {0};
    for (size_t i = 0; i < node->v.n; i++)
        ftk_tmpl_show(&r->job, &t, ftk_tmpl_eval(r, node->v.v[i]));
    return ftk_tmpl_text_end(&r->job, &t);
}

static ftk_tmpl_value eval_list(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    ftk_tmpl_list *l =
        ftk_tmpl_list_new(&r->job, node->op == OP_LIST ? TMPL_SEQ_LIST : TMPL_SEQ_TUPLE, node->v.n);
    for (size_t i = 0; i < node->v.n; i++) l->v[l->n++] = ftk_tmpl_eval(r, node->v.v[i]);
    return ftk_tmpl_list_of(l);
}

static ftk_tmpl_value eval_dict(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    ftk_tmpl_dict *d = ftk_tmpl_dict_new(&r->job);
    for (size_t i = 0; i < node->v.n; i += 2) {
        const ftk_tmpl_value key = ftk_tmpl_eval(r, node->v.v[i]);
        ftk_tmpl_dict_put(&r->job, d, key, ftk_tmpl_eval(r, node->v.v[i + 1]));
    }
    return ftk_tmpl_dict_of(d);
}

static ftk_tmpl_value eval_slice(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    const ftk_tmpl_node *const parts[] = {node->a, node->b, node->c};
    ftk_tmpl_list *l = ftk_tmpl_list_new(&r->job, TMPL_SEQ_TUPLE, 3);
    for (int i = 0; i < 3; i++)
        l->v[l->n++] = parts[i] ? ftk_tmpl_eval(r, parts[i]) : TMPL_NONE_VALUE;
    return (ftk_tmpl_value){.kind = TMPL_SLICE, .list = l};
}

static ftk_tmpl_value eval_sign(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    const ftk_tmpl_value v = ftk_tmpl_eval(r, node->a);
    if (v.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(&r->job, v);
    if (!ftk_tmpl_is_number(v))
        ftk_tmpl_fail(&r->job, FTK_ERR_INVALID, "bad operand type for unary %c: '%s'",
                      node->op == OP_NEGATE ? '-' : '+', ftk_tmpl_type(v));
    if (node->op == OP_POSITIVE) return ftk_tmpl_binary(&r->job, OP_ADD, TMPL_INT_VALUE(0), v);
    if (v.kind == TMPL_FLOAT)
        return (ftk_tmpl_value){.kind = TMPL_FLOAT, .input = v.input, .f = -v.f};
    return ftk_tmpl_binary(&r->job, OP_SUBTRACT, TMPL_INT_VALUE(0), v);
}

static ftk_tmpl_value eval_condition(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    static const char before[] = "the inline if-expression on line ";
    static const char after[] = " evaluated to false and no else section was defined.";
    if (ftk_tmpl_true(ftk_tmpl_eval(r, node->a))) return ftk_tmpl_eval(r, node->b);
    if (node->c) return ftk_tmpl_eval(r, node->c);
    ftk_tmpl_text t = {0};
    ftk_tmpl_add_word(&r->job, &t, before);
    ftk_tmpl_show(&r->job, &t, TMPL_INT_VALUE(node->line));
    ftk_tmpl_add_bytes(&r->job, &t, after, sizeof after, false);
    return ftk_tmpl_undefined_for(&r->job, t.p);
}

ftk_tmpl_value ftk_tmpl_eval_filters(ftk_tmpl_run *r, const ftk_tmpl_node *node, ftk_tmpl_value v)
{
    ftk_tmpl_enter(&r->job);
    if (node->a) v = ftk_tmpl_eval_filters(r, node->a, v);
    const ftk_tmpl_args args = ftk_tmpl_eval_args(r, node->args);
    v = ftk_tmpl_apply_filter(r, node->name, v, &args);
    ftk_tmpl_leave(&r->job);
    return v;
}

static ftk_tmpl_value eval_named(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    const ftk_tmpl_value v = ftk_tmpl_eval(r, node->a);
    const ftk_tmpl_args args = ftk_tmpl_eval_args(r, node->args);
    r->job.line = node->line;
    if (node->op == OP_CALL) return ftk_tmpl_call(r, v, &args);
    if (node->op == OP_FILTER) return ftk_tmpl_apply_filter(r, node->name, v, &args);
    return TMPL_BOOL_VALUE(ftk_tmpl_apply_test(r, node->name, v, &args));
}

static ftk_tmpl_value eval(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    ftk_tmpl_value v;
    switch ((ftk_tmpl_op)node->op) {
    case OP_CONST: return node->k;
    case OP_NAME: return find_name(r, node->name);
    case OP_LIST:
    case OP_TUPLE: return eval_list(r, node);
    case OP_DICT: return eval_dict(r, node);
    case OP_ATTRIBUTE: return ftk_tmpl_attribute(r, ftk_tmpl_eval(r, node->a), node->k);
    case OP_ITEM:
        v = ftk_tmpl_eval(r, node->a);
        return ftk_tmpl_item(r, v, ftk_tmpl_eval(r, node->b));
    case OP_SLICE: return eval_slice(r, node);
    case OP_CALL:
    case OP_FILTER:
    case OP_TEST: return eval_named(r, node);
    case OP_NOT: return TMPL_BOOL_VALUE(!ftk_tmpl_true(ftk_tmpl_eval(r, node->a)));
    case OP_NEGATE:
    case OP_POSITIVE: return eval_sign(r, node);
    case OP_CONCAT: return eval_concat(r, node);
    case OP_AND:
        v = ftk_tmpl_eval(r, node->a);
        return ftk_tmpl_true(v) ? ftk_tmpl_eval(r, node->b) : v;
    case OP_OR:
        v = ftk_tmpl_eval(r, node->a);
        return ftk_tmpl_true(v) ? v : ftk_tmpl_eval(r, node->b);
    case OP_COMPARE: return eval_comparison(r, node);
    case OP_CONDITION: return eval_condition(r, node);
    default:
        v = ftk_tmpl_eval(r, node->a);
        return ftk_tmpl_binary(&r->job, node->op, v, ftk_tmpl_eval(r, node->b));
    }
}

ftk_tmpl_value ftk_tmpl_eval(ftk_tmpl_run *r, const ftk_tmpl_node *node)
{
    ftk_tmpl_enter(&r->job);
    r->job.line = node->line;
    const ftk_tmpl_value v = eval(r, node);
    ftk_tmpl_leave(&r->job);
    return v;
}
