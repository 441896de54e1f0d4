/* SPDX-License-Identifier: Apache-2.0
 * What all schemas share: values of any kind, and the space between them, of which there is only
 * so much, as a model may go on with it for ever. */
#include <stdlib.h>
#include <string.h>

#include "grammar/rules.h"

/* A blank, or a new line that is indented. */
#define SPACE   "( |\n( {0,32}|\t{0,16}))?"
#define INTEGER "-?(0|[1-9][0-9]{0,17})"
#define NUMBER  "-?(0|[1-9][0-9]{0,14})(\\.[0-9]{1,15})?([eE][-+]?[0-9]{1,2})?"

static int all_of(grammar *g, int a, int b, int c)
{
    return grammar_add_all(g, false, (const int[]){a, b, c}, 3);
}

/* An object or a list of whatever. */
static int container(grammar *g, const common_rules *c, int begin, int member, int end)
{
    const int next = grammar_add_all(g, false, (const int[]){c->comma, member}, 2);
    const int rest = grammar_add_times(g, next, 0, GRAMMAR_ENDLESS);
    const int some = all_of(g, c->space, member, rest);
    const int inner = grammar_add_one(g, (const int[]){some, grammar_add_nothing(g)}, 2);
    return grammar_add_all(g, true, (const int[]){begin, inner, end}, 3);
}

void grammar_add_common(grammar *g, common_rules *c)
{
    c->space = grammar_add_pattern(g, "^" SPACE "$");
    c->comma = grammar_add_pattern(g, "^," SPACE "$");
    c->end_object = grammar_add_pattern(g, "^" SPACE "}$");
    c->end_list = grammar_add_pattern(g, "^" SPACE "]$");
    c->begin_object = grammar_add_text(g, "{", 1);
    c->begin_list = grammar_add_text(g, "[", 1);
    c->colon = grammar_add_pattern(g, "^: ?$");
    c->string = grammar_add_string(g, automaton_any(), false, 0, GRAMMAR_ENDLESS);
    c->integer = grammar_add_pattern(g, "^" INTEGER "$");
    c->number = grammar_add_pattern(g, "^" NUMBER "$");
    c->boolean = grammar_add_pattern(g, "^(true|false)$");
    c->null = grammar_add_text(g, "null", 4);
    c->any = grammar_add_one(g, NULL, 0);
    const int member = all_of(g, c->string, c->colon, c->any);
    c->object = container(g, c, c->begin_object, member, c->end_object);
    c->list = container(g, c, c->begin_list, c->any, c->end_list);
    const int kinds[] = {c->string, c->number, c->boolean, c->null, c->object, c->list};
    grammar_set_part(g, c->any, grammar_add_one(g, kinds, 6));
}

int grammar_add_name(grammar *g, const char *name, size_t n)
{
    json_t *const j = json_stringn(name, n);
    char *const text = grammar_literal(j);
    automaton a = automaton_text(text, strlen(text));
    json_decref(j);
    free(text);
    a.states[a.n - 1].accepts = false; /* a colon, and a blank or none */
    automaton_edge_add(&a, ':', ':', (int)a.n);
    automaton_add(&a, true);
    automaton_edge_add(&a, ' ', ' ', (int)a.n);
    automaton_add(&a, true);
    return grammar_add_bytes(g, a);
}

/* The fewest digits that are read as the same number. */
char *grammar_literal(const json_t *value)
{
    for (size_t digits = 1;; digits++) {
        const size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits);
        char *const text = json_dumps(value, flags);
        json_t *again = text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
        const bool same = json_equal(again, value);
        json_decref(again);
        if (same || digits == 17 || !text) return text;
        free(text);
    }
}
