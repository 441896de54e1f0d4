/* SPDX-License-Identifier: Apache-2.0
 * Operators on values, with Python's meaning; whole numbers have 64 bits here. */
#include "template/parts.h"

#include <math.h>
#include <string.h>

static _Noreturn void fail_operands(ftk_tmpl_job *j, const char *op, ftk_tmpl_value a,
                                    ftk_tmpl_value b)
{
    ftk_tmpl_fail(j, FTK_ERR_INVALID, "unsupported operand type(s) for %s: '%s' and '%s'", op,
                  ftk_tmpl_type(a), ftk_tmpl_type(b));
}

static _Noreturn void fail_large(ftk_tmpl_job *j)
{
    ftk_tmpl_fail(j, FTK_ERR_UNSUPPORTED, "a whole number of more than 64 bits");
}

/* ------------------------------------------------------------------ numbers */

static int64_t whole_power(ftk_tmpl_job *j, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
    if (base == -1) return exponent % 2 == 0 ? 1 : -1;
    for (; exponent > 0; exponent--)
        if (__builtin_mul_overflow(result, base, &result)) fail_large(j);
    return result;
}

/* Rounded down, as its remainder has the divisor's sign. */
static int64_t floor_whole(ftk_tmpl_job *j, int64_t a, int64_t b, int64_t *rest, const char *why)
{
    if (b == 0) ftk_tmpl_fail(j, FTK_ERR_INVALID, "%s", why);
    if (b == -1) {
        int64_t negated;
        *rest = 0;
        if (__builtin_sub_overflow((int64_t)0, a, &negated)) fail_large(j);
        return negated;
    }
    const bool down = a % b != 0 && (a % b < 0) != (b < 0);
    *rest = a % b + (down ? b : 0);
    return a / b - down;
}

static ftk_tmpl_value whole(ftk_tmpl_job *j, ftk_tmpl_op op, int64_t a, int64_t b)
{
    int64_t v = 0, rest = 0;
    bool over = false;
    switch (op) {
    case OP_ADD: over = __builtin_add_overflow(a, b, &v); break;
    case OP_SUBTRACT: over = __builtin_sub_overflow(a, b, &v); break;
    case OP_MULTIPLY: over = __builtin_mul_overflow(a, b, &v); break;
    case OP_FLOOR: v = floor_whole(j, a, b, &rest, "integer division or modulo by zero"); break;
    case OP_MODULO:
        floor_whole(j, a, b, &rest, "integer modulo by zero");
        v = rest;
        break;
    default: v = whole_power(j, a, b); break;
    }
    if (over) fail_large(j);
    return TMPL_INT_VALUE(v);
}

static double real_modulo(double a, double b)
{
    const double rest = fmod(a, b);
    if (rest == 0) return copysign(0, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
}

static double real_power(ftk_tmpl_job *j, double a, double b)
{
    if (a == 0 && b < 0)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "0.0 cannot be raised to a negative power");
    if (a < 0 && b != floor(b)) ftk_tmpl_fail(j, FTK_ERR_UNSUPPORTED, "a complex number");
    const double v = pow(a, b);
    if (isinf(v) && !isinf(a) && !isinf(b))
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "(34, 'Numerical result out of range')");
    return v;
}

static ftk_tmpl_value real(ftk_tmpl_job *j, ftk_tmpl_op op, double a, double b)
{
    ftk_tmpl_value v = {.kind = TMPL_FLOAT};
    if (b == 0 && (op == OP_DIVIDE || op == OP_FLOOR || op == OP_MODULO))
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "%s",
                      op == OP_DIVIDE  ? "float division by zero"
                      : op == OP_FLOOR ? "float floor division by zero"
                                       : "float modulo");
    switch (op) {
    case OP_ADD: v.f = a + b; break;
    case OP_SUBTRACT: v.f = a - b; break;
    case OP_MULTIPLY: v.f = a * b; break;
    case OP_DIVIDE: v.f = a / b; break;
    case OP_FLOOR: v.f = floor((a - real_modulo(a, b)) / b + 0.5); break;
    case OP_MODULO: v.f = real_modulo(a, b); break;
    default: v.f = real_power(j, a, b); break;
    }
    return v;
}

static ftk_tmpl_value numbers(ftk_tmpl_job *j, ftk_tmpl_op op, ftk_tmpl_value a, ftk_tmpl_value b)
{
    const bool both_whole = ftk_tmpl_is_whole(a) && ftk_tmpl_is_whole(b);
    const bool stays_whole =
        op != OP_DIVIDE && !(op == OP_POWER && both_whole && ftk_tmpl_whole(b) < 0);
    if (op == OP_DIVIDE && both_whole && ftk_tmpl_whole(b) == 0)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "division by zero");
    ftk_tmpl_value v = both_whole && stays_whole
                           ? whole(j, op, ftk_tmpl_whole(a), ftk_tmpl_whole(b))
                           : real(j, op, ftk_tmpl_real(a), ftk_tmpl_real(b));
    v.input = a.input || b.input;
    return v;
}

/* ------------------------------------------------------------------ sequences */

static ftk_tmpl_value add_strings(ftk_tmpl_job *j, const ftk_tmpl_str *a, const ftk_tmpl_str *b)
{
    if (!a->markup && !b->markup) return ftk_tmpl_concat(j, a, b);
    a = ftk_tmpl_escape(j, (ftk_tmpl_value){.kind = TMPL_STRING, .s = a});
    b = ftk_tmpl_escape(j, (ftk_tmpl_value){.kind = TMPL_STRING, .s = b});
    ftk_tmpl_str sum = *ftk_tmpl_concat(j, a, b).s;
    sum.markup = true;
    return ftk_tmpl_string(j, sum);
}

static bool is_plain_list(ftk_tmpl_value v)
{
    return v.kind == TMPL_LIST && v.list->sequence <= TMPL_SEQ_TUPLE;
}

static ftk_tmpl_value add(ftk_tmpl_job *j, ftk_tmpl_value a, ftk_tmpl_value b)
{
    if (a.kind == TMPL_STRING && b.kind == TMPL_STRING) return add_strings(j, a.s, b.s);
    if (a.kind == TMPL_STRING)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "can only concatenate str (not \"%s\") to str",
                      ftk_tmpl_type(b));
    if (!is_plain_list(a)) fail_operands(j, "+", a, b);
    if (!is_plain_list(b) || a.list->sequence != b.list->sequence)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "can only concatenate %s (not \"%s\") to %s",
                      ftk_tmpl_type(a), ftk_tmpl_type(b), ftk_tmpl_type(a));
    ftk_tmpl_list *l = ftk_tmpl_list_new(j, a.list->sequence, a.list->n + b.list->n);
    for (size_t i = 0; i < a.list->n; i++) l->v[l->n++] = a.list->v[i];
    for (size_t i = 0; i < b.list->n; i++) l->v[l->n++] = b.list->v[i];
    return ftk_tmpl_list_of(l);
}

static ftk_tmpl_value repeat(ftk_tmpl_job *j, ftk_tmpl_value a, int64_t times)
{
    if (a.kind == TMPL_STRING) {
        ftk_tmpl_text t = {0};
        for (int64_t i = 0; i < times && a.s->n > 0; i++) {
            ftk_tmpl_spend(j, 1);
            ftk_tmpl_add_str(j, &t, a.s);
        }
        return ftk_tmpl_text_end(j, &t);
    }
    ftk_tmpl_list *l = ftk_tmpl_list_new(j, a.list->sequence, 0);
    for (int64_t i = 0; i < times && a.list->n > 0; i++)
        for (size_t k = 0; k < a.list->n; k++) ftk_tmpl_list_push(j, l, a.list->v[k]);
    return ftk_tmpl_list_of(l);
}

static ftk_tmpl_value multiply(ftk_tmpl_job *j, ftk_tmpl_value a, ftk_tmpl_value b)
{
    const bool a_repeats = a.kind == TMPL_STRING || is_plain_list(a);
    const bool b_repeats = b.kind == TMPL_STRING || is_plain_list(b);
    if (a_repeats && ftk_tmpl_is_whole(b)) return repeat(j, a, ftk_tmpl_whole(b));
    if (b_repeats && ftk_tmpl_is_whole(a)) return repeat(j, b, ftk_tmpl_whole(a));
    if (a_repeats || b_repeats)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "can't multiply sequence by non-int of type '%s'",
                      ftk_tmpl_type(a_repeats ? b : a));
    fail_operands(j, "*", a, b);
}

ftk_tmpl_value ftk_tmpl_binary(ftk_tmpl_job *j, ftk_tmpl_op op, ftk_tmpl_value a, ftk_tmpl_value b)
{
    static const char *const signs[] = {
        [OP_ADD] = "+",    [OP_SUBTRACT] = "-", [OP_MULTIPLY] = "*",       [OP_DIVIDE] = "/",
        [OP_FLOOR] = "//", [OP_MODULO] = "%",   [OP_POWER] = "** or pow()"};
    if (ftk_tmpl_is_number(a) && ftk_tmpl_is_number(b)) return numbers(j, op, a, b);
    if (op == OP_MODULO && a.kind == TMPL_STRING) return ftk_tmpl_percent(j, a.s, b);
    if (a.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(j, a);
    if (b.kind == TMPL_UNDEFINED) ftk_tmpl_fail_undefined(j, b);
    if (op == OP_ADD) return add(j, a, b);
    if (op == OP_MULTIPLY) return multiply(j, a, b);
    fail_operands(j, signs[op], a, b);
}
