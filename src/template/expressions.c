/* SPDX-License-Identifier: Apache-2.0
 * Expressions of a template, from the loosest operator to the tightest. */
#include "template/parser.h"

static ftk_tmpl_node *parse_or(ftk_tmpl_parser *p);
static ftk_tmpl_node *parse_unary(ftk_tmpl_parser *p, bool filters);

static ftk_tmpl_node *pair(ftk_tmpl_parser *p, ftk_tmpl_op op, ftk_tmpl_node *a, ftk_tmpl_node *b)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, op);
    node->a = a;
    node->b = b;
    return node;
}

/* Left-associative operators of one rank; a NULL sign ends the list. */
struct rank {
    const char *sign;
    ftk_tmpl_op op;
};

static ftk_tmpl_node *parse_rank(ftk_tmpl_parser *p, const struct rank *ops,
                                 ftk_tmpl_node *(*operand)(ftk_tmpl_parser *p))
{
    ftk_tmpl_node *left = operand(p);
    for (size_t i = 0; ops[i].sign;) {
        if (!ftk_tmpl_take_sign(p, ops[i].sign)) {
            i++;
            continue;
        }
        ftk_tmpl_node *node = ftk_tmpl_node_new(p, ops[i].op);
        node->a = left;
        node->b = operand(p);
        left = node;
        i = 0;
    }
    return left;
}

static ftk_tmpl_node *parse_operand(ftk_tmpl_parser *p)
{
    return parse_unary(p, true);
}

static ftk_tmpl_node *parse_power(ftk_tmpl_parser *p)
{
    static const struct rank ops[] = {{"**", OP_POWER}, {NULL, 0}};
    return parse_rank(p, ops, parse_operand);
}

static ftk_tmpl_node *parse_product(ftk_tmpl_parser *p)
{
    static const struct rank ops[] = {
        {"*", OP_MULTIPLY}, {"/", OP_DIVIDE}, {"//", OP_FLOOR}, {"%", OP_MODULO}, {NULL, 0}};
    return parse_rank(p, ops, parse_power);
}

static ftk_tmpl_node *parse_concat(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *first = parse_product(p);
    if (!ftk_tmpl_at_sign(p, "~")) return first;
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_CONCAT);
    ftk_tmpl_nodes_push(p, &node->v, first);
    while (ftk_tmpl_take_sign(p, "~")) ftk_tmpl_nodes_push(p, &node->v, parse_product(p));
    return node;
}

static ftk_tmpl_node *parse_sum(ftk_tmpl_parser *p)
{
    static const struct rank ops[] = {{"+", OP_ADD}, {"-", OP_SUBTRACT}, {NULL, 0}};
    return parse_rank(p, ops, parse_concat);
}

/* OP_COMPARE stands for none. */
static ftk_tmpl_op take_comparison(ftk_tmpl_parser *p)
{
    static const struct rank ops[] = {{"==", OP_EQUAL},         {"!=", OP_UNEQUAL},
                                      {"<=", OP_LESS_EQUAL},    {"<", OP_LESS},
                                      {">=", OP_GREATER_EQUAL}, {">", OP_GREATER}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (ftk_tmpl_take_sign(p, ops[i].sign)) return ops[i].op;
    if (ftk_tmpl_take_word(p, "in")) return OP_IN;
    if (!ftk_tmpl_at_word(p, "not")) return OP_COMPARE;
    p->at++;
    const bool in = ftk_tmpl_take_word(p, "in");
    if (!in) p->at--;
    return in ? OP_NOT_IN : OP_COMPARE;
}

static ftk_tmpl_node *parse_comparison(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *first = parse_sum(p), *node = NULL;
    for (;;) {
        const ftk_tmpl_op op = take_comparison(p);
        if (op == OP_COMPARE) return node ? node : first;
        if (!node) node = pair(p, OP_COMPARE, first, NULL);
        ftk_tmpl_nodes_push(p, &node->v, pair(p, op, parse_sum(p), NULL));
    }
}

static ftk_tmpl_node *parse_not(ftk_tmpl_parser *p)
{
    if (!ftk_tmpl_take_word(p, "not")) return parse_comparison(p);
    ftk_tmpl_enter(p->j);
    ftk_tmpl_node *node = pair(p, OP_NOT, parse_not(p), NULL);
    ftk_tmpl_leave(p->j);
    return node;
}

static ftk_tmpl_node *parse_and(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *left = parse_not(p);
    while (ftk_tmpl_take_word(p, "and")) left = pair(p, OP_AND, left, parse_not(p));
    return left;
}

static ftk_tmpl_node *parse_or(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *left = parse_and(p);
    while (ftk_tmpl_take_word(p, "or")) left = pair(p, OP_OR, left, parse_and(p));
    return left;
}

ftk_tmpl_node *ftk_tmpl_parse_expression(ftk_tmpl_parser *p)
{
    ftk_tmpl_enter(p->j);
    ftk_tmpl_node *node = parse_or(p);
    while (ftk_tmpl_take_word(p, "if")) {
        ftk_tmpl_node *condition = pair(p, OP_CONDITION, NULL, node);
        condition->a = parse_or(p);
        if (ftk_tmpl_take_word(p, "else")) condition->c = ftk_tmpl_parse_expression(p);
        node = condition;
    }
    ftk_tmpl_leave(p->j);
    return node;
}

/* ------------------------------------------------------------------ several */

static bool ends_tuple(ftk_tmpl_parser *p, const char *end)
{
    const ftk_tmpl_token_kind kind = ftk_tmpl_peek(p)->kind;
    return kind == TOKEN_PRINT_END || kind == TOKEN_BLOCK_END || ftk_tmpl_at_sign(p, ")") ||
           (end && ftk_tmpl_at_word(p, end));
}

/* parse is called for each part. */
static ftk_tmpl_node *parse_parts(ftk_tmpl_parser *p, ftk_tmpl_node *(*parse)(ftk_tmpl_parser *p),
                                  const char *end, bool in_brackets)
{
    ftk_tmpl_node *tuple = ftk_tmpl_node_new(p, OP_TUPLE);
    bool comma = false;
    while (!ends_tuple(p, end)) {
        ftk_tmpl_nodes_push(p, &tuple->v, parse(p));
        if (!ftk_tmpl_take_sign(p, ",")) break;
        comma = true;
    }
    if (!comma && tuple->v.n == 1) return tuple->v.v[0];
    if (!comma && !in_brackets) ftk_tmpl_unexpected(p, "");
    return tuple;
}

ftk_tmpl_node *ftk_tmpl_parse_tuple(ftk_tmpl_parser *p, bool conditions, const char *end)
{
    return parse_parts(p, conditions ? ftk_tmpl_parse_expression : parse_or, end, false);
}

static ftk_tmpl_node *parse_list(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_LIST);
    while (!ftk_tmpl_at_sign(p, "]")) {
        if (node->v.n > 0) ftk_tmpl_need_sign(p, ",");
        if (ftk_tmpl_at_sign(p, "]")) break;
        ftk_tmpl_nodes_push(p, &node->v, ftk_tmpl_parse_expression(p));
    }
    ftk_tmpl_next(p);
    return node;
}

static ftk_tmpl_node *parse_dict(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_DICT);
    while (!ftk_tmpl_at_sign(p, "}")) {
        if (node->v.n > 0) ftk_tmpl_need_sign(p, ",");
        if (ftk_tmpl_at_sign(p, "}")) break;
        ftk_tmpl_nodes_push(p, &node->v, ftk_tmpl_parse_expression(p));
        ftk_tmpl_need_sign(p, ":");
        ftk_tmpl_nodes_push(p, &node->v, ftk_tmpl_parse_expression(p));
    }
    ftk_tmpl_next(p);
    return node;
}

/* ------------------------------------------------------------------ single values */

static ftk_tmpl_node *constant(ftk_tmpl_parser *p, ftk_tmpl_value v)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_CONST);
    node->k = v;
    return node;
}

static ftk_tmpl_node *parse_name(ftk_tmpl_parser *p)
{
    if (ftk_tmpl_take_word(p, "true") || ftk_tmpl_take_word(p, "True"))
        return constant(p, TMPL_BOOL_VALUE(true));
    if (ftk_tmpl_take_word(p, "false") || ftk_tmpl_take_word(p, "False"))
        return constant(p, TMPL_BOOL_VALUE(false));
    if (ftk_tmpl_take_word(p, "none") || ftk_tmpl_take_word(p, "None"))
        return constant(p, TMPL_NONE_VALUE);
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_NAME);
    node->name = ftk_tmpl_need_name(p);
    return node;
}

static ftk_tmpl_node *parse_primary(ftk_tmpl_parser *p)
{
    const ftk_tmpl_token *t = ftk_tmpl_peek(p);
    ftk_tmpl_node *node;
    if (t->kind == TOKEN_NAME) return parse_name(p);
    if (t->kind == TOKEN_INT || t->kind == TOKEN_REAL || t->kind == TOKEN_STRING) {
        node = constant(p, t->value);
        ftk_tmpl_next(p);
        for (; t->kind == TOKEN_STRING && ftk_tmpl_peek(p)->kind == TOKEN_STRING; ftk_tmpl_next(p))
            node->k = ftk_tmpl_concat(p->j, node->k.s, ftk_tmpl_peek(p)->value.s);
        return node;
    }
    if (ftk_tmpl_take_sign(p, "(")) {
        node = parse_parts(p, ftk_tmpl_parse_expression, NULL, true);
        ftk_tmpl_need_sign(p, ")");
        return node;
    }
    if (ftk_tmpl_take_sign(p, "[")) return parse_list(p);
    if (ftk_tmpl_take_sign(p, "{")) return parse_dict(p);
    ftk_tmpl_unexpected(p, NULL);
}

/* ------------------------------------------------------------------ behind a value */

static ftk_tmpl_named *parse_arguments(ftk_tmpl_parser *p)
{
    ftk_tmpl_named *list = ftk_tmpl_alloc(p->j, 1, sizeof *list);
    *list = (ftk_tmpl_named){0};
    bool named = false, first = true;
    for (; !ftk_tmpl_take_sign(p, ")"); first = false) {
        if (!first) ftk_tmpl_need_sign(p, ",");
        if (ftk_tmpl_take_sign(p, ")")) break;
        const ftk_tmpl_token *next = p->tokens.v + p->at + 1;
        const bool assigns = ftk_tmpl_peek(p)->kind == TOKEN_NAME && next->kind == TOKEN_SIGN &&
                             next->text.n == 1 && next->text.p[0] == '=';
        if (!list->rest && !list->rest_named && ftk_tmpl_take_sign(p, "*")) {
            list->rest = ftk_tmpl_parse_expression(p);
        } else if (!list->rest_named && ftk_tmpl_take_sign(p, "**")) {
            list->rest_named = ftk_tmpl_parse_expression(p);
        } else if (assigns && !list->rest_named) {
            const ftk_tmpl_str *name = ftk_tmpl_need_name(p);
            ftk_tmpl_next(p);
            ftk_tmpl_named_push(p, list, name, ftk_tmpl_parse_expression(p));
            named = true;
        } else if (named || list->rest || list->rest_named) {
            ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "invalid syntax for function call expression");
        } else {
            ftk_tmpl_named_push(p, list, NULL, ftk_tmpl_parse_expression(p));
        }
    }
    return list;
}

/* a, a:b, :b:c ... */
static ftk_tmpl_node *parse_subscribed(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *parts[3] = {NULL};
    if (!ftk_tmpl_at_sign(p, ":")) parts[0] = ftk_tmpl_parse_expression(p);
    if (!ftk_tmpl_take_sign(p, ":")) return parts[0];
    for (int i = 1; i < 3; i++) {
        const bool empty =
            ftk_tmpl_at_sign(p, ":") || ftk_tmpl_at_sign(p, "]") || ftk_tmpl_at_sign(p, ",");
        if (!empty) parts[i] = ftk_tmpl_parse_expression(p);
        if (i == 1 && !ftk_tmpl_take_sign(p, ":")) break;
    }
    ftk_tmpl_node *node = pair(p, OP_SLICE, parts[0], parts[1]);
    node->c = parts[2];
    return node;
}

static ftk_tmpl_node *parse_subscript(ftk_tmpl_parser *p, ftk_tmpl_node *of)
{
    ftk_tmpl_node *keys = ftk_tmpl_node_new(p, OP_TUPLE);
    while (!ftk_tmpl_at_sign(p, "]")) {
        if (keys->v.n > 0) ftk_tmpl_need_sign(p, ",");
        ftk_tmpl_nodes_push(p, &keys->v, parse_subscribed(p));
    }
    ftk_tmpl_next(p);
    return pair(p, OP_ITEM, of, keys->v.n == 1 ? keys->v.v[0] : keys);
}

static ftk_tmpl_node *parse_dot(ftk_tmpl_parser *p, ftk_tmpl_node *of)
{
    const ftk_tmpl_token *t = ftk_tmpl_peek(p);
    if (t->kind == TOKEN_INT) {
        ftk_tmpl_next(p);
        return pair(p, OP_ITEM, of, constant(p, t->value));
    }
    if (t->kind != TOKEN_NAME) ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "expected name or number");
    ftk_tmpl_node *node = pair(p, OP_ATTRIBUTE, of, NULL);
    node->name = ftk_tmpl_need_name(p);
    node->k = (ftk_tmpl_value){.kind = TMPL_STRING, .s = node->name};
    return node;
}

static ftk_tmpl_node *parse_call(ftk_tmpl_parser *p, ftk_tmpl_node *of)
{
    ftk_tmpl_node *node = pair(p, OP_CALL, of, NULL);
    node->args = parse_arguments(p);
    return node;
}

static ftk_tmpl_node *parse_postfix(ftk_tmpl_parser *p, ftk_tmpl_node *node)
{
    for (;;) {
        if (ftk_tmpl_take_sign(p, "."))
            node = parse_dot(p, node);
        else if (ftk_tmpl_take_sign(p, "["))
            node = parse_subscript(p, node);
        else if (ftk_tmpl_take_sign(p, "("))
            node = parse_call(p, node);
        else
            return node;
    }
}

/* The name of a filter or a test, which may have dots in it. */
static const ftk_tmpl_str *parse_dotted(ftk_tmpl_parser *p)
{
    const ftk_tmpl_str *name = ftk_tmpl_need_name(p);
    while (ftk_tmpl_take_sign(p, ".")) {
        const ftk_tmpl_str dot = {.p = ".", .n = 1};
        name = ftk_tmpl_concat(p->j, ftk_tmpl_concat(p->j, name, &dot).s, ftk_tmpl_need_name(p)).s;
    }
    return name;
}

static ftk_tmpl_node *parse_filter(ftk_tmpl_parser *p, ftk_tmpl_node *of)
{
    ftk_tmpl_node *node = pair(p, OP_FILTER, of, NULL);
    node->name = parse_dotted(p);
    if (ftk_tmpl_take_sign(p, "(")) node->args = parse_arguments(p);
    return node;
}

ftk_tmpl_node *ftk_tmpl_parse_filters(ftk_tmpl_parser *p, ftk_tmpl_node *node)
{
    while (ftk_tmpl_take_sign(p, "|")) node = parse_filter(p, node);
    return node;
}

ftk_tmpl_node *ftk_tmpl_parse_filters_inline(ftk_tmpl_parser *p)
{
    return ftk_tmpl_parse_filters(p, parse_filter(p, NULL));
}

/* A test may have one argument without brackets. */
static bool at_argument(ftk_tmpl_parser *p)
{
    const ftk_tmpl_token_kind kind = ftk_tmpl_peek(p)->kind;
    if (kind == TOKEN_NAME)
        return !ftk_tmpl_at_word(p, "else") && !ftk_tmpl_at_word(p, "or") &&
               !ftk_tmpl_at_word(p, "and");
    return kind == TOKEN_STRING || kind == TOKEN_INT || kind == TOKEN_REAL ||
           ftk_tmpl_at_sign(p, "[") || ftk_tmpl_at_sign(p, "{");
}

static ftk_tmpl_node *parse_test(ftk_tmpl_parser *p, ftk_tmpl_node *of)
{
    const bool negated = ftk_tmpl_take_word(p, "not");
    ftk_tmpl_node *node = pair(p, OP_TEST, of, NULL);
    node->name = parse_dotted(p);
    if (ftk_tmpl_take_sign(p, "(")) {
        node->args = parse_arguments(p);
    } else if (at_argument(p)) {
        if (ftk_tmpl_at_word(p, "is"))
            ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "You cannot chain multiple tests with is");
        node->args = ftk_tmpl_alloc(p->j, 1, sizeof *node->args);
        *node->args = (ftk_tmpl_named){0};
        ftk_tmpl_named_push(p, node->args, NULL, parse_postfix(p, parse_primary(p)));
    }
    return negated ? pair(p, OP_NOT, node, NULL) : node;
}

static ftk_tmpl_node *parse_unary(ftk_tmpl_parser *p, bool filters)
{
    ftk_tmpl_node *node;
    ftk_tmpl_enter(p->j);
    if (ftk_tmpl_take_sign(p, "-"))
        node = pair(p, OP_NEGATE, parse_unary(p, false), NULL);
    else if (ftk_tmpl_take_sign(p, "+"))
        node = pair(p, OP_POSITIVE, parse_unary(p, false), NULL);
    else
        node = parse_primary(p);
    node = parse_postfix(p, node);
    while (filters) {
        if (ftk_tmpl_take_sign(p, "|"))
            node = parse_filter(p, node);
        else if (ftk_tmpl_take_word(p, "is"))
            node = parse_test(p, node);
        else if (ftk_tmpl_take_sign(p, "("))
            node = parse_call(p, node);
        else
            break;
    }
    ftk_tmpl_leave(p->j);
    return node;
}

/* ------------------------------------------------------------------ targets */

static void check_target(ftk_tmpl_parser *p, const ftk_tmpl_node *node)
{
    if (node->op == OP_NAME || node->op == OP_NAMESPACE) return;
    if (node->op != OP_TUPLE && node->op != OP_LIST)
        ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "can't assign to this");
    for (size_t i = 0; i < node->v.n; i++) check_target(p, node->v.v[i]);
}

static ftk_tmpl_node *parse_attribute_target(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *node = parse_primary(p);
    if (node->op != OP_NAME || !ftk_tmpl_take_sign(p, ".")) return node;
    ftk_tmpl_node *target = pair(p, OP_NAMESPACE, node, NULL);
    target->name = ftk_tmpl_need_name(p);
    target->k = (ftk_tmpl_value){.kind = TMPL_STRING, .s = target->name};
    return target;
}

ftk_tmpl_node *ftk_tmpl_parse_target(ftk_tmpl_parser *p, bool attributes)
{
    ftk_tmpl_node *node =
        parse_parts(p, attributes ? parse_attribute_target : parse_primary, "in", false);
    check_target(p, node);
    return node;
}
