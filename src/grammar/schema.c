/* SPDX-License-Identifier: Apache-2.0
 * From a JSON schema (draft 2020-12, and what older ones have in common with it) to a grammar.
 * What is not known how to hold is refused by name: an answer never breaks a schema that was
 * taken. */
#include "grammar/schema.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- places and errors */

static schema_place enter(schema_job *j, const char *key)
{
    const schema_place p = {strlen(j->path)};
    snprintf(j->path + p.end, sizeof j->path - p.end, "/%s", key);
    return p;
}

schema_place schema_enter(schema_job *j, const char *key)
{
    return enter(j, key);
}

schema_place schema_enter_at(schema_job *j, const char *key, size_t index)
{
    char text[64];
    snprintf(text, sizeof text, "%s/%zu", key, index);
    return enter(j, text);
}

void schema_leave(schema_job *j, schema_place p)
{
    j->path[p.end] = 0;
}

int schema_wrong(schema_job *j, const char *fmt, ...)
{
    if (j->e->message[0]) return SCHEMA_FAILED; /* the first one counts */
    va_list args;
    va_start(args, fmt);
    vsnprintf(j->e->message, sizeof j->e->message, fmt, args);
    va_end(args);
    snprintf(j->e->path, sizeof j->e->path, "%s", j->path);
    return SCHEMA_FAILED;
}

bool schema_works(schema_job *j)
{
    if (j->work++ < SCHEMA_MOST_WORK) return true;
    schema_wrong(j, "the schema is too large");
    return false;
}

bool schema_size(schema_job *j, const json_t *schema, const char *key, uint32_t otherwise,
                 uint32_t *v)
{
    const json_t *const field = json_object_get(schema, key);
    *v = otherwise;
    if (!field) return true;
    const double x = json_number_value(field);
    if (!json_is_number(field) || x < 0 || x > 1e6 || x != (double)(int64_t)x) {
        schema_wrong(j, "the keyword \"%s\" must be a whole number, 0 to 1000000", key);
        return false;
    }
    *v = (uint32_t)x;
    return true;
}

/* ---- keywords */

/* Those of JSON schema that nothing here can hold. Names of no standard are passed over, as it
 * wants. */
static const char *const unsupported[] = {"not",
                                          "if",
                                          "then",
                                          "else",
                                          "dependentRequired",
                                          "dependentSchemas",
                                          "dependencies",
                                          "patternProperties",
                                          "propertyNames",
                                          "minProperties",
                                          "maxProperties",
                                          "uniqueItems",
                                          "contains",
                                          "minContains",
                                          "maxContains",
                                          "multipleOf",
                                          "unevaluatedProperties",
                                          "unevaluatedItems",
                                          "additionalItems",
                                          "$dynamicRef",
                                          "$recursiveRef",
                                          "$anchor",
                                          "$dynamicAnchor",
                                          "extends",
                                          "disallow",
                                          "divisibleBy",
                                          NULL};

static bool is_among(const char *key, const char *const *list)
{
    while (*list && strcmp(*list, key) != 0) list++;
    return *list;
}

/* One that asks for nothing does no harm. */
static bool asks_nothing(const char *key, const json_t *v)
{
    if (strcmp(key, "uniqueItems") == 0) return json_is_false(v);
    if (strcmp(key, "minProperties") == 0) return json_is_integer(v) && json_integer_value(v) == 0;
    return strncmp(key, "unevaluated", 11) == 0 && json_is_true(v);
}

static bool check_keywords(schema_job *j, const json_t *schema)
{
    const char *key;
    const json_t *v;
    json_object_foreach((json_t *)(uintptr_t)schema, key, v)
    {
        if (!is_among(key, unsupported) || asks_nothing(key, v)) continue;
        schema_wrong(j, "the keyword \"%s\" is not supported", key);
        return false;
    }
    return true;
}

/* ---- one of several */

/* Of oneOf exactly one may fit. That a value fits no other is not looked at while it comes, so
 * it has to be sure before. */
static bool check_apart(schema_job *j, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        for (size_t k = 0; k < i; k++)
            if (!schema_apart(j, json_array_get(list, k), json_array_get(list, i))) {
                schema_wrong(j,
                             "the keyword \"oneOf\": a value might fit both %zu and %zu; use "
                             "anyOf, or give them different types or constants",
                             k, i);
                return false;
            }
    return true;
}

static int one_of(schema_job *j, const json_t *schema, const char *key)
{
    enum { MOST = 500 };
    const json_t *const list = json_object_get(schema, key);
    const size_t n = json_array_size(list);
    if (n == 0 || n > MOST)
        return schema_wrong(j, "the keyword \"%s\" must be a list of 1 to %d schemas", key, MOST);
    if (key[0] == 'o' && !check_apart(j, list)) return SCHEMA_FAILED;
    json_t *const base = json_copy((json_t *)(uintptr_t)schema);
    json_object_del(base, key);
    json_array_append_new(j->owned, base);
    int parts[MOST];
    for (size_t i = 0; i < n; i++) {
        const json_t *branch = json_array_get(list, i);
        const schema_place p = schema_enter_at(j, key, i);
        bool bare = true; /* nothing beside the list says anything */
        const char *name;
        json_t *v;
        json_object_foreach(base, name, v) bare &= schema_is_note(name);
        if (!bare) branch = schema_both(j, base, branch);
        parts[i] = branch ? schema_compile(j, branch) : SCHEMA_FAILED;
        schema_leave(j, p);
        if (parts[i] < 0) return SCHEMA_FAILED;
    }
    return grammar_add_one(j->g, parts, n);
}

/* ---- by type */

/* What keywords say where there is no type. */
static unsigned implied_types(const json_t *schema, unsigned types)
{
    static const struct {
        const char *key;
        unsigned type;
    } list[] = {{"properties", TYPE_OBJECT},
                {"required", TYPE_OBJECT},
                {"additionalProperties", TYPE_OBJECT},
                {"items", TYPE_LIST},
                {"prefixItems", TYPE_LIST},
                {"minItems", TYPE_LIST},
                {"maxItems", TYPE_LIST},
                {"pattern", TYPE_STRING},
                {"minLength", TYPE_STRING},
                {"maxLength", TYPE_STRING},
                {"minimum", TYPE_NUMBER},
                {"maximum", TYPE_NUMBER},
                {"exclusiveMinimum", TYPE_NUMBER},
                {"exclusiveMaximum", TYPE_NUMBER}};
    unsigned implied = 0;
    if (json_object_get(schema, "type")) return types;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (json_object_get(schema, list[i].key)) implied |= list[i].type;
    return implied ? implied : types;
}

static int of_type(schema_job *j, const json_t *schema, unsigned type)
{
    switch (type) {
    case TYPE_OBJECT: return schema_object(j, schema);
    case TYPE_LIST: return schema_list(j, schema);
    case TYPE_STRING: return schema_string(j, schema);
    case TYPE_INTEGER: return schema_number(j, schema, true);
    case TYPE_NUMBER: return schema_number(j, schema, false);
    case TYPE_BOOLEAN: return j->common.boolean;
    default: return j->common.null;
    }
}

static int by_type(schema_job *j, const json_t *schema)
{
    unsigned types = schema_types(j, schema);
    if (types == 0) return SCHEMA_FAILED;
    if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
        return schema_literals(j, schema, types);
    types = implied_types(schema, types);
    if (types == ALL_TYPES) return j->common.any;
    if (types & TYPE_NUMBER) types &= ~(unsigned)TYPE_INTEGER;
    int parts[8];
    size_t n = 0;
    for (unsigned type = 1; type < ALL_TYPES; type <<= 1) {
        if (!(types & type)) continue;
        parts[n] = of_type(j, schema, type);
        if (parts[n++] < 0) return SCHEMA_FAILED;
    }
    return n == 1 ? parts[0] : grammar_add_one(j->g, parts, n);
}

/* ---- a schema */

static int known_rule(const schema_job *j, const json_t *schema, schema_compiler *by)
{
    for (size_t i = 0; i < j->n_known; i++)
        if (j->known[i].schema == schema && j->known[i].by == by) return j->known[i].rule;
    return SCHEMA_FAILED;
}

/* What may come up within itself gets its rule first, and what is in it later. */
static int compile_known(schema_job *j, const json_t *schema, schema_compiler *by)
{
    int known = known_rule(j, schema, by);
    if (known >= 0) return known;
    if (j->n_known == j->cap_known) {
        j->cap_known = 2 * j->cap_known + 16;
        j->known = cli_array(j->known, j->cap_known, sizeof *j->known);
    }
    known = grammar_add_one(j->g, NULL, 0);
    j->known[j->n_known++] = (schema_known){schema, by, known};
    const int inner = by(j, schema);
    if (inner < 0) return SCHEMA_FAILED;
    grammar_set_part(j->g, known, inner);
    return known;
}

static int compile_flat(schema_job *j, const json_t *schema)
{
    if (!check_keywords(j, schema)) return SCHEMA_FAILED;
    if (json_object_get(schema, "anyOf")) return one_of(j, schema, "anyOf");
    if (json_object_get(schema, "oneOf")) return one_of(j, schema, "oneOf");
    return by_type(j, schema);
}

static int flatten_and_compile(schema_job *j, const json_t *schema)
{
    const json_t *const flat = schema_flat(j, schema);
    if (!flat) return SCHEMA_FAILED;
    return json_is_object(flat) ? compile_flat(j, flat) : schema_compile(j, flat);
}

/* A reference that stands alone. */
static const char *plain_reference(const json_t *schema)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)schema, key,
                        v) if (strcmp(key, "$ref") != 0 && !schema_is_note(key)) return NULL;
    return json_string_value(json_object_get(schema, "$ref"));
}

static int compile_object(schema_job *j, const json_t *schema)
{
    const char *const reference = plain_reference(schema);
    if (reference) {
        const json_t *const target = schema_target(j, reference);
        return target ? compile_known(j, target, schema_compile) : SCHEMA_FAILED;
    }
    if (json_object_get(schema, "$ref") || json_object_get(schema, "allOf"))
        return compile_known(j, schema, flatten_and_compile);
    return compile_flat(j, schema);
}

int schema_compile(schema_job *j, const json_t *schema)
{
    if (json_is_true(schema)) return j->common.any;
    if (json_is_false(schema)) return grammar_add_one(j->g, NULL, 0);
    if (!json_is_object(schema))
        return schema_wrong(j, "a schema must be an object, or true or false");
    if (j->depth == SCHEMA_MOST_DEPTH) return schema_wrong(j, "schemas are nested too deeply");
    if (j->g->n_rules > GRAMMAR_MOST_RULES) return schema_wrong(j, "the schema is too large");
    j->depth++;
    const int made = compile_object(j, schema);
    j->depth--;
    return made;
}

/* ---- grammars */

static int piece(schema_job *j, const grammar_piece *p)
{
    j->root = p->schema;
    j->n_known = 0;
    snprintf(j->path, sizeof j->path, "#");
    const int value = compile_known(j, p->schema, schema_compile);
    if (value < 0) return SCHEMA_FAILED;
    grammar_find_depths(j->g);
    if (j->g->rules[value].depth > GRAMMAR_MOST_DEPTH)
        return schema_wrong(j, "no value fits this schema");
    const int parts[] = {grammar_add_text(j->g, p->before, strlen(p->before)), value,
                         grammar_add_text(j->g, p->after, strlen(p->after))};
    return grammar_add_all(j->g, false, parts, 3);
}

/* One of them, or several with `between`; a blank may stand in front, as tokens bring one along. */
static int answer(schema_job *j, const int *pieces, size_t n, const char *between, size_t most)
{
    grammar *const g = j->g;
    const int one = grammar_add_one(g, pieces, n);
    const int blank = grammar_add_pattern(g, "^ ?$");
    if (most == 1) return grammar_add_all(g, false, (const int[]){blank, one}, 2);
    const int next[] = {grammar_add_text(g, between, strlen(between)), one};
    const int more =
        grammar_add_times(g, grammar_add_all(g, false, next, 2), 0, (uint32_t)most - 1);
    return grammar_add_all(g, false, (const int[]){blank, one, more}, 3);
}

grammar *grammar_new(const grammar_words *words, const grammar_piece *pieces, size_t n,
                     const char *between, size_t most, grammar_error *e)
{
    grammar *const g = cli_array(NULL, 1, sizeof *g);
    schema_job j = {.g = g, .owned = json_array(), .e = e};
    int *const parts = cli_array(NULL, n, sizeof *parts);
    *g = (grammar){.words = words};
    *e = (grammar_error){0};
    grammar_add_common(g, &j.common);
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) ok = (parts[i] = piece(&j, &pieces[i])) >= 0;
    if (ok) g->root = answer(&j, parts, n, between, most);
    free(parts);
    free(j.known);
    json_decref(j.owned);
    grammar_find_depths(g);
    grammar_open_states(g);
    if (ok) return g;
    grammar_free(g);
    return NULL;
}

void grammar_free(grammar *g)
{
    if (!g) return;
    grammar_close_states(g);
    for (size_t i = 0; i < g->n_rules; i++) free(g->rules[i].lengths);
    for (size_t i = 0; i < g->n_automata; i++) automaton_free(&g->automata[i]);
    free(g->rules);
    free(g->parts);
    free(g->automata);
    free(g);
}
