/* SPDX-License-Identifier: Apache-2.0
 * Statements of a template; expressions are in expressions.c. */
#include "template/parser.h"

#include "base/mem.h"

#include <string.h>

/* ------------------------------------------------------------------ tokens */

ftk_tmpl_token *ftk_tmpl_peek(ftk_tmpl_parser *p)
{
    return &p->tokens.v[p->at];
}

bool ftk_tmpl_at_sign(ftk_tmpl_parser *p, const char *sign)
{
    const ftk_tmpl_token *t = ftk_tmpl_peek(p);
    return t->kind == TOKEN_SIGN && strlen(sign) == t->text.n &&
           memcmp(t->text.p, sign, t->text.n) == 0;
}

bool ftk_tmpl_at_word(ftk_tmpl_parser *p, const char *word)
{
    const ftk_tmpl_token *t = ftk_tmpl_peek(p);
    return t->kind == TOKEN_NAME && strlen(word) == t->text.n &&
           memcmp(t->text.p, word, t->text.n) == 0;
}

void ftk_tmpl_next(ftk_tmpl_parser *p)
{
    if (ftk_tmpl_peek(p)->kind != TOKEN_END) p->at++;
    p->j->line = ftk_tmpl_peek(p)->line;
}

bool ftk_tmpl_take_sign(ftk_tmpl_parser *p, const char *sign)
{
    const bool there = ftk_tmpl_at_sign(p, sign);
    if (there) ftk_tmpl_next(p);
    return there;
}

bool ftk_tmpl_take_word(ftk_tmpl_parser *p, const char *word)
{
    const bool there = ftk_tmpl_at_word(p, word);
    if (there) ftk_tmpl_next(p);
    return there;
}

void ftk_tmpl_unexpected(ftk_tmpl_parser *p, const char *wanted)
{
    static const char *const kinds[] = {
        [TOKEN_END] = "end of template",
        [TOKEN_DATA] = "template data / text",
        [TOKEN_PRINT_BEGIN] = "begin of print statement",
        [TOKEN_PRINT_END] = "end of print statement",
        [TOKEN_BLOCK_BEGIN] = "begin of statement block",
        [TOKEN_BLOCK_END] = "end of statement block",
    };
    const ftk_tmpl_token *t = ftk_tmpl_peek(p);
    const char *kind = t->kind <= TOKEN_BLOCK_END ? kinds[t->kind] : NULL;
    const char *text = kind ? kind : t->text.p;
    const int n = (int)(kind ? strlen(kind) : t->text.n < 60 ? t->text.n : 60);
    p->j->line = t->line;
    if (wanted && !wanted[0])
        ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "Expected an expression, got '%.*s'", n, text);
    if (wanted)
        ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "expected token '%s', got '%.*s'", wanted, n, text);
    ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "unexpected '%.*s'", n, text);
}

void ftk_tmpl_need_sign(ftk_tmpl_parser *p, const char *sign)
{
    if (!ftk_tmpl_take_sign(p, sign)) ftk_tmpl_unexpected(p, sign);
}

/* One pointer for each name, so that names can be compared by it. */
static const ftk_tmpl_str *intern(ftk_tmpl_parser *p, ftk_str text)
{
    ftk_template *t = p->t;
    ftk_tmpl_spend(p->j, t->n_names / 16);
    for (size_t i = 0; i < t->n_names; i++)
        if (t->names[i]->n == text.n && memcmp(t->names[i]->p, text.p, text.n) == 0)
            return t->names[i];
    if (t->n_names == p->names_cap) {
        p->names_cap = 2 * p->names_cap + 64;
        const ftk_tmpl_str **grown = ftk_tmpl_alloc(p->j, p->names_cap, sizeof *grown);
        if (t->n_names > 0) memcpy(grown, t->names, t->n_names * sizeof *grown);
        t->names = grown;
    }
    return t->names[t->n_names++] =
               ftk_tmpl_string(p->j, (ftk_tmpl_str){.p = text.p, .n = text.n}).s;
}

const ftk_tmpl_str *ftk_tmpl_need_name(ftk_tmpl_parser *p)
{
    const ftk_tmpl_token *t = ftk_tmpl_peek(p);
    if (t->kind != TOKEN_NAME) ftk_tmpl_unexpected(p, "name");
    const ftk_tmpl_str *name = intern(p, t->text);
    ftk_tmpl_next(p);
    return name;
}

/* ------------------------------------------------------------------ nodes */

ftk_tmpl_node *ftk_tmpl_node_new(ftk_tmpl_parser *p, ftk_tmpl_op op)
{
    ftk_tmpl_node *node = ftk_tmpl_alloc(p->j, 1, sizeof *node);
    *node = (ftk_tmpl_node){.op = (uint8_t)op, .line = ftk_tmpl_peek(p)->line};
    return node;
}

void ftk_tmpl_nodes_push(ftk_tmpl_parser *p, ftk_tmpl_nodes *list, ftk_tmpl_node *node)
{
    if (list->n == list->cap) {
        list->cap = 2 * list->cap + 4;
        ftk_tmpl_node **grown = ftk_tmpl_alloc(p->j, list->cap, sizeof *grown);
        if (list->n > 0) memcpy(grown, list->v, list->n * sizeof *grown);
        list->v = grown;
    }
    list->v[list->n++] = node;
}

void ftk_tmpl_named_push(ftk_tmpl_parser *p, ftk_tmpl_named *list, const ftk_tmpl_str *name,
                         ftk_tmpl_node *node)
{
    if (list->n == list->cap) {
        list->cap = 2 * list->cap + 4;
        ftk_tmpl_node **v = ftk_tmpl_alloc(p->j, list->cap, sizeof *v);
        const ftk_tmpl_str **names = ftk_tmpl_alloc(p->j, list->cap, sizeof *names);
        if (list->n > 0) {
            memcpy(v, list->v, list->n * sizeof *v);
            memcpy(names, list->names, list->n * sizeof *names);
        }
        list->v = v;
        list->names = names;
    }
    list->v[list->n] = node;
    list->names[list->n++] = name;
}

/* ------------------------------------------------------------------ statements */

static void parse_body(ftk_tmpl_parser *p, ftk_tmpl_nodes *body, const char *const *ends);

static void need_block_end(ftk_tmpl_parser *p)
{
    if (ftk_tmpl_peek(p)->kind != TOKEN_BLOCK_END) ftk_tmpl_unexpected(p, "end of statement block");
    ftk_tmpl_next(p);
}

/* The rest of the tag that opens a body, the body, and the word that ends it, of which there are
 * up to four. */
static void parse_until(ftk_tmpl_parser *p, ftk_tmpl_nodes *body, const char *const *ends)
{
    ftk_tmpl_take_sign(p, ":");
    need_block_end(p);
    parse_body(p, body, ends);
}

static void parse_to(ftk_tmpl_parser *p, ftk_tmpl_nodes *body, const char *end)
{
    const char *const ends[] = {end, NULL};
    parse_until(p, body, ends);
    ftk_tmpl_next(p);
}

static ftk_tmpl_node *parse_if(ftk_tmpl_parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_IF);
    do {
        ftk_tmpl_node *body = ftk_tmpl_node_new(p, OP_SCOPE);
        ftk_tmpl_nodes_push(p, &node->v, ftk_tmpl_parse_tuple(p, false, NULL));
        parse_until(p, &body->body, ends);
        ftk_tmpl_nodes_push(p, &node->v, body);
    } while (ftk_tmpl_take_word(p, "elif"));
    if (ftk_tmpl_take_word(p, "else"))
        parse_to(p, &node->other, "endif");
    else
        ftk_tmpl_next(p);
    return node;
}

static ftk_tmpl_node *parse_for(ftk_tmpl_parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_FOR);
    node->a = ftk_tmpl_parse_target(p, false);
    if (!ftk_tmpl_take_word(p, "in")) ftk_tmpl_unexpected(p, "in");
    node->b = ftk_tmpl_parse_tuple(p, false, "recursive");
    if (ftk_tmpl_take_word(p, "if")) node->c = ftk_tmpl_parse_expression(p);
    node->recursive = ftk_tmpl_take_word(p, "recursive");
    p->loops++;
    parse_until(p, &node->body, ends);
    p->loops--;
    if (ftk_tmpl_take_word(p, "else"))
        parse_to(p, &node->other, "endfor");
    else
        ftk_tmpl_next(p);
    return node;
}

static ftk_tmpl_node *parse_set(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_SET);
    node->a = ftk_tmpl_parse_target(p, true);
    if (ftk_tmpl_take_sign(p, "=")) {
        node->b = ftk_tmpl_parse_tuple(p, true, NULL);
        return node;
    }
    node->op = OP_CAPTURE;
    node->b = ftk_tmpl_parse_filters(p, NULL);
    parse_to(p, &node->body, "endset");
    return node;
}

/* (a, b=1) of a macro or a call block. */
static ftk_tmpl_named *parse_parameters(ftk_tmpl_parser *p)
{
    ftk_tmpl_named *list = ftk_tmpl_alloc(p->j, 1, sizeof *list);
    *list = (ftk_tmpl_named){0};
    ftk_tmpl_need_sign(p, "(");
    while (!ftk_tmpl_at_sign(p, ")")) {
        if (list->n > 0) ftk_tmpl_need_sign(p, ",");
        const ftk_tmpl_str *name = ftk_tmpl_need_name(p);
        ftk_tmpl_node *value = ftk_tmpl_take_sign(p, "=") ? ftk_tmpl_parse_expression(p) : NULL;
        if (!value && list->n > 0 && list->v[list->n - 1])
            ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "non-default argument follows default argument");
        ftk_tmpl_named_push(p, list, name, value);
    }
    ftk_tmpl_next(p);
    return list;
}

/* What the words in a macro's body ask for. */
static void parse_macro_body(ftk_tmpl_parser *p, ftk_tmpl_node *node, const char *end)
{
    const size_t from = p->at;
    const int loops = p->loops;
    p->loops = 0;
    parse_to(p, &node->body, end);
    p->loops = loops;
    for (size_t i = from; i < p->at; i++) {
        const ftk_str s = p->tokens.v[i].text;
        if (p->tokens.v[i].kind != TOKEN_NAME) continue;
        node->uses_caller |= s.n == 6 && memcmp(s.p, "caller", 6) == 0;
        node->uses_kwargs |= s.n == 6 && memcmp(s.p, "kwargs", 6) == 0;
        node->uses_varargs |= s.n == 7 && memcmp(s.p, "varargs", 7) == 0;
    }
}

static ftk_tmpl_node *parse_macro(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_MACRO);
    node->name = ftk_tmpl_need_name(p);
    node->args = parse_parameters(p);
    parse_macro_body(p, node, "endmacro");
    return node;
}

static ftk_tmpl_node *parse_call(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_CALLER);
    if (ftk_tmpl_at_sign(p, "(")) {
        node->args = parse_parameters(p);
    } else {
        node->args = ftk_tmpl_alloc(p->j, 1, sizeof *node->args);
        *node->args = (ftk_tmpl_named){0};
    }
    node->a = ftk_tmpl_parse_expression(p);
    if (node->a->op != OP_CALL) ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "expected call");
    parse_macro_body(p, node, "endcall");
    return node;
}

static ftk_tmpl_node *parse_filter(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_FILTERED);
    node->b = ftk_tmpl_parse_filters_inline(p);
    parse_to(p, &node->body, "endfilter");
    return node;
}

static ftk_tmpl_node *parse_with(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_WITH);
    while (ftk_tmpl_peek(p)->kind != TOKEN_BLOCK_END) {
        if (node->v.n > 0) ftk_tmpl_need_sign(p, ",");
        ftk_tmpl_nodes_push(p, &node->v, ftk_tmpl_parse_target(p, false));
        ftk_tmpl_need_sign(p, "=");
        ftk_tmpl_nodes_push(p, &node->v, ftk_tmpl_parse_expression(p));
    }
    parse_to(p, &node->body, "endwith");
    return node;
}

static ftk_tmpl_node *parse_print(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_PRINT);
    while (ftk_tmpl_peek(p)->kind != TOKEN_BLOCK_END) {
        if (node->v.n > 0) ftk_tmpl_need_sign(p, ",");
        ftk_tmpl_nodes_push(p, &node->v, ftk_tmpl_parse_expression(p));
    }
    return node;
}

/* {% generation %}: what the model itself says, which is marked for training alone. */
static ftk_tmpl_node *parse_generation(ftk_tmpl_parser *p)
{
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_SCOPE);
    const int loops = p->loops;
    p->loops = 0;
    parse_to(p, &node->body, "endgeneration");
    p->loops = loops;
    return node;
}

static ftk_tmpl_node *parse_jump(ftk_tmpl_parser *p, ftk_tmpl_op op)
{
    if (p->loops == 0) ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "break or continue outside of a loop");
    return ftk_tmpl_node_new(p, op);
}

static ftk_tmpl_node *parse_break(ftk_tmpl_parser *p)
{
    return parse_jump(p, OP_BREAK);
}

static ftk_tmpl_node *parse_continue(ftk_tmpl_parser *p)
{
    return parse_jump(p, OP_CONTINUE);
}

static ftk_tmpl_node *parse_statement(ftk_tmpl_parser *p)
{
    static const struct {
        const char *word;
        ftk_tmpl_node *(*parse)(ftk_tmpl_parser *p);
    } statements[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call},
        {"filter", parse_filter},
        {"with", parse_with},
        {"print", parse_print},
        {"break", parse_break},
        {"continue", parse_continue},
        {"generation", parse_generation},
    };
    static const char *const others[] = {"block",  "extends", "include",
                                         "import", "from",    "autoescape"};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (ftk_tmpl_take_word(p, statements[i].word)) return statements[i].parse(p);
    const ftk_tmpl_token *t = ftk_tmpl_peek(p);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (ftk_tmpl_at_word(p, others[i]))
            ftk_tmpl_fail(p->j, FTK_ERR_UNSUPPORTED, "the tag '%s' is not supported", others[i]);
    if (t->kind != TOKEN_NAME) ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "tag name expected");
    ftk_tmpl_fail(p->j, FTK_ERR_INVALID, "Encountered unknown tag '%.*s'.",
                  (int)(t->text.n < 60 ? t->text.n : 60), t->text.p);
}

static bool at_end(ftk_tmpl_parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (ftk_tmpl_at_word(p, *ends)) return true;
    return false;
}

static ftk_tmpl_node *parse_data(ftk_tmpl_parser *p)
{
    const ftk_str text = ftk_tmpl_peek(p)->text;
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_TEXT);
    node->k = ftk_tmpl_string(p->j, (ftk_tmpl_str){.p = text.p, .n = text.n});
    ftk_tmpl_next(p);
    return node;
}

static ftk_tmpl_node *parse_output(ftk_tmpl_parser *p)
{
    ftk_tmpl_next(p);
    ftk_tmpl_node *node = ftk_tmpl_node_new(p, OP_PRINT);
    ftk_tmpl_nodes_push(p, &node->v, ftk_tmpl_parse_tuple(p, true, NULL));
    if (ftk_tmpl_peek(p)->kind != TOKEN_PRINT_END) ftk_tmpl_unexpected(p, "end of print statement");
    ftk_tmpl_next(p);
    return node;
}

/* Up to one of the words in ends, at which it stops; or, with NULL, to the end. */
static void parse_body(ftk_tmpl_parser *p, ftk_tmpl_nodes *body, const char *const *ends)
{
    ftk_tmpl_enter(p->j);
    for (;;) {
        const ftk_tmpl_token_kind kind = ftk_tmpl_peek(p)->kind;
        if (kind == TOKEN_END) break;
        if (kind == TOKEN_DATA) {
            ftk_tmpl_nodes_push(p, body, parse_data(p));
        } else if (kind == TOKEN_PRINT_BEGIN) {
            ftk_tmpl_nodes_push(p, body, parse_output(p));
        } else {
            ftk_tmpl_next(p);
            if (at_end(p, ends)) break;
            ftk_tmpl_nodes_push(p, body, parse_statement(p));
            need_block_end(p);
        }
    }
    if (ends && ftk_tmpl_peek(p)->kind == TOKEN_END)
        ftk_tmpl_fail(p->j, FTK_ERR_INVALID,
                      "Unexpected end of template. The template still has to say '%s'.", *ends);
    ftk_tmpl_leave(p->j);
}

/* ------------------------------------------------------------------ the whole */

struct source {
    ftk_template *t;
    const char *text;
    size_t n;
};

static void parse(ftk_tmpl_job *j, void *ctx)
{
    const struct source *s = ctx;
    ftk_tmpl_parser p = {.j = j, .t = s->t, .tokens = ftk_tmpl_lex(j, s->text, s->n)};
    parse_body(&p, &s->t->body, NULL);
}

ftk_err ftk_template_parse(ftk_template **out, const char *text, size_t n, const ftk_host *host,
                           ftk_template_error *error)
{
    enum { MAX_TEXT = 1 << 20, MEMORY = 64 << 20 };
    *out = NULL;
    *error = (ftk_template_error){.message = "no memory"};
    ftk_template *t = ftk_alloc(host, 1, sizeof *t);
    if (!t) return FTK_ERR_NOMEM;
    t->size = n;
    t->job = (ftk_tmpl_job){.host = host, .left = MEMORY, .steps = 1000000 + 1000 * (uint64_t)n};
    struct source s = {t, text, n};
    ftk_err err = FTK_ERR_INVALID;
    if (n > MAX_TEXT)
        strcpy(t->job.message, "it is larger than 1 MiB");
    else
        err = ftk_tmpl_guard(&t->job, parse, &s);
    if (err == FTK_OK) {
        *out = t;
        return FTK_OK;
    }
    error->line = t->job.line;
    memcpy(error->message, t->job.message, sizeof error->message);
    ftk_template_free(t);
    return err;
}

void ftk_template_free(ftk_template *t)
{
    if (!t) return;
    const ftk_host *host = t->job.host;
    ftk_tmpl_job_free(&t->job);
    ftk_release(host, t);
}
