/* SPDX-License-Identifier: Apache-2.0
 * What the parser's two halves share. */
#ifndef FTK_TEMPLATE_PARSER_H
#define FTK_TEMPLATE_PARSER_H

#include "template/parts.h"

typedef struct ftk_tmpl_parser {
    ftk_tmpl_job *j;
    ftk_template *t;
    ftk_tmpl_tokens tokens;
    size_t at, names_cap;
    int loops; /* round what is being parsed */
} ftk_tmpl_parser;

ftk_tmpl_token *ftk_tmpl_peek(ftk_tmpl_parser *p);
void ftk_tmpl_next(ftk_tmpl_parser *p);
bool ftk_tmpl_at_sign(ftk_tmpl_parser *p, const char *sign);
bool ftk_tmpl_at_word(ftk_tmpl_parser *p, const char *word);
/* True, and moved on, if it is there. */
bool ftk_tmpl_take_sign(ftk_tmpl_parser *p, const char *sign);
bool ftk_tmpl_take_word(ftk_tmpl_parser *p, const char *word);
/* These fail if it is not. */
void ftk_tmpl_need_sign(ftk_tmpl_parser *p, const char *sign);
const ftk_tmpl_str *ftk_tmpl_need_name(ftk_tmpl_parser *p);
/* wanted: what should be there, NULL if no one knows, "" for an expression. */
_Noreturn void ftk_tmpl_unexpected(ftk_tmpl_parser *p, const char *wanted);

ftk_tmpl_node *ftk_tmpl_node_new(ftk_tmpl_parser *p, ftk_tmpl_op op);
void ftk_tmpl_nodes_push(ftk_tmpl_parser *p, ftk_tmpl_nodes *list, ftk_tmpl_node *node);
void ftk_tmpl_named_push(ftk_tmpl_parser *p, ftk_tmpl_named *list, const ftk_tmpl_str *name,
                         ftk_tmpl_node *node);

ftk_tmpl_node *ftk_tmpl_parse_expression(ftk_tmpl_parser *p);
/* One expression, or several with commas between; end: a word before which a comma may stand. */
ftk_tmpl_node *ftk_tmpl_parse_tuple(ftk_tmpl_parser *p, bool conditions, const char *end);
/* What can be assigned to; attributes: of a namespace, too. */
ftk_tmpl_node *ftk_tmpl_parse_target(ftk_tmpl_parser *p, bool attributes);
/* The filters, each with its '|', behind a value; node NULL: of one that is still to come. */
ftk_tmpl_node *ftk_tmpl_parse_filters(ftk_tmpl_parser *p, ftk_tmpl_node *node);
/* The same, of which the first stands without its '|'. */
ftk_tmpl_node *ftk_tmpl_parse_filters_inline(ftk_tmpl_parser *p);

#endif
