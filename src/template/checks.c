/* SPDX-License-Identifier: Apache-2.0
 * Tests: what may stand behind `is`. */
#include "template/parts.h"

#define TEST(name)                                                                                 \
    static ftk_tmpl_value name(ftk_tmpl_run *r, ftk_tmpl_value v, const ftk_tmpl_value *p,         \
                               const ftk_tmpl_args *args)

#define SIMPLE(name, condition)                                                                    \
    TEST(name)                                                                                     \
    {                                                                                              \
        (void)r, (void)p, (void)args;                                                              \
        return TMPL_BOOL_VALUE(condition);                                                         \
    }

SIMPLE(is_defined, v.kind != TMPL_UNDEFINED)
SIMPLE(is_undefined, v.kind == TMPL_UNDEFINED)
SIMPLE(is_none, v.kind == TMPL_NONE)
SIMPLE(is_boolean, v.kind == TMPL_BOOL)
SIMPLE(is_true, v.kind == TMPL_BOOL && v.b)
SIMPLE(is_false, v.kind == TMPL_BOOL && !v.b)
SIMPLE(is_integer, v.kind == TMPL_INT)
SIMPLE(is_float, v.kind == TMPL_FLOAT)
SIMPLE(is_number, ftk_tmpl_is_number(v))
SIMPLE(is_string, v.kind == TMPL_STRING)
SIMPLE(is_mapping, v.kind == TMPL_DICT)
SIMPLE(is_iterable, v.kind == TMPL_STRING || v.kind == TMPL_LIST || v.kind == TMPL_DICT ||
                        v.kind == TMPL_UNDEFINED || v.kind == TMPL_LOOP)
SIMPLE(is_sequence, v.kind == TMPL_STRING || v.kind == TMPL_DICT || v.kind == TMPL_UNDEFINED ||
                        (v.kind == TMPL_LIST && v.list->sequence <= TMPL_SEQ_RANGE))
SIMPLE(is_callable, ftk_tmpl_callable(v))
SIMPLE(is_escaped, v.kind == TMPL_STRING && v.s->markup)
SIMPLE(is_filter, v.kind == TMPL_STRING && ftk_tmpl_filter(v.s))
SIMPLE(is_test, v.kind == TMPL_STRING && ftk_tmpl_test(v.s))

static ftk_tmpl_value remainder_of(ftk_tmpl_run *r, ftk_tmpl_value v, ftk_tmpl_value by)
{
    return ftk_tmpl_binary(&r->job, OP_MODULO, v, by);
}

TEST(is_odd)
{
    (void)p, (void)args;
    return TMPL_BOOL_VALUE(
        ftk_tmpl_equal(&r->job, remainder_of(r, v, TMPL_INT_VALUE(2)), TMPL_INT_VALUE(1)));
}

TEST(is_even)
{
    (void)p, (void)args;
    return TMPL_BOOL_VALUE(
        ftk_tmpl_equal(&r->job, remainder_of(r, v, TMPL_INT_VALUE(2)), TMPL_INT_VALUE(0)));
}

TEST(is_divisible)
{
    (void)args;
    return TMPL_BOOL_VALUE(ftk_tmpl_equal(&r->job, remainder_of(r, v, p[0]), TMPL_INT_VALUE(0)));
}

/* All letters of one case, and one at least. */
static bool has_only(ftk_tmpl_run *r, ftk_tmpl_value v, bool wanted)
{
    const ftk_tmpl_str *s = ftk_tmpl_str_of(&r->job, v);
    bool any = false, upper;
    for (size_t at = 0; at < s->n; at += ftk_tmpl_char(s, at)) {
        if (!ftk_tmpl_has_case(ftk_tmpl_code(s, at), &upper)) continue;
        if (upper != wanted) return false;
        any = true;
    }
    return any;
}

TEST(is_lower)
{
    (void)p, (void)args;
    return TMPL_BOOL_VALUE(has_only(r, v, false));
}

TEST(is_upper)
{
    (void)p, (void)args;
    return TMPL_BOOL_VALUE(has_only(r, v, true));
}

TEST(is_in)
{
    (void)args;
    return TMPL_BOOL_VALUE(ftk_tmpl_contains(&r->job, p[0], v));
}

TEST(is_equal)
{
    (void)args;
    return TMPL_BOOL_VALUE(ftk_tmpl_equal(&r->job, v, p[0]));
}

TEST(is_unequal)
{
    (void)args;
    return TMPL_BOOL_VALUE(!ftk_tmpl_equal(&r->job, v, p[0]));
}

/* The very same object; of small values Python keeps one. */
TEST(is_same)
{
    (void)args;
    return TMPL_BOOL_VALUE(v.kind == p[0].kind && ftk_tmpl_equal(&r->job, v, p[0]) &&
                           (v.kind < TMPL_STRING || v.s == p[0].s));
}

TEST(is_less)
{
    (void)args;
    return TMPL_BOOL_VALUE(ftk_tmpl_order(&r->job, v, p[0], "<") < 0);
}

TEST(is_less_equal)
{
    (void)args;
    return TMPL_BOOL_VALUE(ftk_tmpl_order(&r->job, v, p[0], "<=") <= 0);
}

TEST(is_greater)
{
    (void)args;
    return TMPL_BOOL_VALUE(ftk_tmpl_order(&r->job, v, p[0], ">") == 1);
}

TEST(is_greater_equal)
{
    (void)args;
    const int order = ftk_tmpl_order(&r->job, v, p[0], ">=");
    return TMPL_BOOL_VALUE(order == 0 || order == 1);
}

const ftk_tmpl_function *ftk_tmpl_test(const ftk_tmpl_str *name)
{
    static const ftk_tmpl_function table[] = {
        {"defined", "", is_defined},
        {"undefined", "", is_undefined},
        {"none", "", is_none},
        {"boolean", "", is_boolean},
        {"true", "", is_true},
        {"false", "", is_false},
        {"integer", "", is_integer},
        {"float", "", is_float},
        {"number", "", is_number},
        {"string", "", is_string},
        {"mapping", "", is_mapping},
        {"iterable", "", is_iterable},
        {"sequence", "", is_sequence},
        {"callable", "", is_callable},
        {"escaped", "", is_escaped},
        {"filter", "", is_filter},
        {"test", "", is_test},
        {"odd", "", is_odd},
        {"even", "", is_even},
        {"divisibleby", "!num", is_divisible},
        {"lower", "", is_lower},
        {"upper", "", is_upper},
        {"in", "!seq", is_in},
        {"sameas", "!other", is_same},
        {"==", "!other", is_equal},
        {"eq", "!other", is_equal},
        {"equalto", "!other", is_equal},
        {"!=", "!other", is_unequal},
        {"ne", "!other", is_unequal},
        {"<", "!other", is_less},
        {"lt", "!other", is_less},
        {"lessthan", "!other", is_less},
        {"<=", "!other", is_less_equal},
        {"le", "!other", is_less_equal},
        {">", "!other", is_greater},
        {"gt", "!other", is_greater},
        {"greaterthan", "!other", is_greater},
        {">=", "!other", is_greater_equal},
        {"ge", "!other", is_greater_equal},
    };
    return ftk_tmpl_lookup(table, sizeof table / sizeof *table, name);
}

bool ftk_tmpl_apply_test(ftk_tmpl_run *r, const ftk_tmpl_str *name, ftk_tmpl_value v,
                         const ftk_tmpl_args *args)
{
    const ftk_tmpl_function *f = ftk_tmpl_test(name);
    if (!f)
        ftk_tmpl_fail(&r->job, FTK_ERR_UNSUPPORTED, "No test named '%.*s'.",
                      (int)(name->n < 60 ? name->n : 60), name->p);
    return ftk_tmpl_true(ftk_tmpl_apply(r, f, v, args));
}
