/* SPDX-License-Identifier: Apache-2.0
 * Objects and lists of a schema. */
#include <stdlib.h>
#include <string.h>

#include "grammar/schema.h"

/* ---- objects: members come in the schema's order, and what else there may be behind them */

typedef struct member {
    const char *name;
    size_t n;
    int rule; /* of name and value */
    bool needed;
} member;

typedef struct members {
    member *list;
    size_t n, cap;
    const json_t *others; /* a schema, or NULL: there are none */
} members;

static bool is_needed(const json_t *required, const char *name, size_t n)
{
    for (size_t i = 0; i < json_array_size(required); i++) {
        const json_t *const one = json_array_get(required, i);
        if (json_string_length(one) == n && memcmp(json_string_value(one), name, n) == 0)
            return true;
    }
    return false;
}

static bool add_member(schema_job *j, members *m, const char *name, size_t n, const json_t *schema,
                       bool needed)
{
    if (m->n == SCHEMA_MOST_NAMES) {
        schema_wrong(j, "the keyword \"properties\" has more than %d names", SCHEMA_MOST_NAMES);
        return false;
    }
    if (m->n == m->cap) {
        m->cap = 2 * m->cap + 16;
        m->list = cli_array(m->list, m->cap, sizeof *m->list);
    }
    const int value = schema_compile(j, schema);
    if (value < 0) return false;
    const int parts[] = {grammar_add_name(j->g, name, n), value};
    m->list[m->n++] = (member){name, n, grammar_add_all(j->g, false, parts, 2), needed};
    return true;
}

static bool add_properties(schema_job *j, members *m, const json_t *properties,
                           const json_t *required)
{
    const char *name;
    size_t n;
    const json_t *schema;
    bool ok = true;
    const schema_place p = schema_enter(j, "properties");
    json_object_keylen_foreach((json_t *)(uintptr_t)properties, name, n, schema)
    {
        const schema_place inner = schema_enter(j, name);
        ok = add_member(j, m, name, n, schema, is_needed(required, name, n));
        schema_leave(j, inner);
        if (!ok) break;
    }
    schema_leave(j, p);
    return ok;
}

/* Names that are required, but no properties. */
static bool add_required(schema_job *j, members *m, const json_t *schema)
{
    const json_t *const properties = json_object_get(schema, "properties");
    const json_t *const required = json_object_get(schema, "required");
    const bool closed = json_is_false(json_object_get(schema, "additionalProperties"));
    for (size_t i = 0; i < json_array_size(required); i++) {
        const json_t *const name = json_array_get(required, i);
        const char *const text = json_string_value(name);
        const size_t n = json_string_length(name);
        if (!text) {
            schema_wrong(j, "the keyword \"required\" must be a list of names");
            return false;
        }
        bool there = json_object_getn(properties, text, n) != NULL;
        for (size_t k = 0; k < m->n && !there; k++)
            there = m->list[k].n == n && memcmp(m->list[k].name, text, n) == 0;
        if (there) continue;
        if (closed) {
            schema_wrong(j, "the keyword \"required\" names \"%.60s\", which is no property", text);
            return false;
        }
        if (!add_member(j, m, text, n, m->others ? m->others : json_true(), true)) return false;
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    const member *const x = a, *const y = b;
    const int order = memcmp(x->name, y->name, x->n < y->n ? x->n : y->n);
    return order ? order : x->n < y->n ? -1 : x->n > y->n;
}

/* A name that no member has. */
static int other_name(schema_job *j, const members *m)
{
    if (m->n == 0) return j->common.string;
    member *const sorted = cli_array(NULL, m->n, sizeof *sorted);
    const char **const texts = cli_array(NULL, m->n, sizeof *texts);
    size_t *const sizes = cli_array(NULL, m->n, sizeof *sizes);
    memcpy(sorted, m->list, m->n * sizeof *sorted);
    qsort(sorted, m->n, sizeof *sorted, by_name);
    for (size_t i = 0; i < m->n; i++) {
        texts[i] = sorted[i].name;
        sizes[i] = sorted[i].n;
    }
    const automaton a = automaton_texts(texts, sizes, m->n, false);
    free(sorted);
    free(texts);
    free(sizes);
    return grammar_add_string(j->g, a, false, 0, GRAMMAR_ENDLESS);
}

static int two(schema_job *j, int a, int b)
{
    return grammar_add_all(j->g, false, (const int[]){a, b}, 2);
}

/* What may stand behind the last of the members: *first, where none came, and *rest. */
static bool add_others(schema_job *j, const members *m, int *first, int *rest)
{
    *first = *rest = grammar_add_nothing(j->g);
    if (!m->others) return true;
    const schema_place p = schema_enter(j, "additionalProperties");
    const int value = schema_compile(j, m->others);
    schema_leave(j, p);
    if (value < 0) return false;
    const int parts[] = {other_name(j, m), j->common.colon, value};
    const int other = grammar_add_all(j->g, false, parts, 3);
    *rest = grammar_add_times(j->g, two(j, j->common.comma, other), 0, GRAMMAR_ENDLESS);
    const int some[] = {two(j, two(j, j->common.space, other), *rest), *first};
    *first = grammar_add_one(j->g, some, 2);
    return true;
}

/* From the last member backwards: what may follow where one has come, and where none has. */
static int chain(schema_job *j, const members *m, int first, int rest)
{
    for (size_t i = m->n; i-- > 0;) {
        const member *const one = &m->list[i];
        const int with_comma[] = {j->common.comma, one->rule, rest};
        const int with_space[] = {j->common.space, one->rule, rest};
        const int then[] = {grammar_add_all(j->g, false, with_comma, 3), rest};
        const int now[] = {grammar_add_all(j->g, false, with_space, 3), first};
        rest = one->needed ? then[0] : grammar_add_one(j->g, then, 2);
        first = one->needed ? now[0] : grammar_add_one(j->g, now, 2);
    }
    return first;
}

/* Where nothing is said of other names, those that are named are all. */
static const json_t *others_of(const json_t *schema)
{
    const json_t *const others = json_object_get(schema, "additionalProperties");
    if (!others)
        return json_object_size(json_object_get(schema, "properties")) > 0 ? NULL : json_true();
    return json_is_false(others) ? NULL : others;
}

int schema_object(schema_job *j, const json_t *schema)
{
    const json_t *const properties = json_object_get(schema, "properties");
    const json_t *const required = json_object_get(schema, "required");
    if (properties && !json_is_object(properties))
        return schema_wrong(j, "the keyword \"properties\" must be an object");
    if (required && !json_is_array(required))
        return schema_wrong(j, "the keyword \"required\" must be a list of names");
    members m = {.others = others_of(schema)};
    int first, rest, made = SCHEMA_FAILED;
    if (add_properties(j, &m, properties, required) && add_required(j, &m, schema) &&
        add_others(j, &m, &first, &rest)) {
        const int parts[] = {j->common.begin_object, chain(j, &m, first, rest),
                             j->common.end_object};
        made = grammar_add_all(j->g, true, parts, 3);
    }
    free(m.list);
    return made;
}

/* ---- lists */

typedef struct items {
    const json_t *prefix;
    int others; /* the rule of those behind it; -1: there are none */
    uint32_t min, max;
} items;

/* Behind n items; those of the prefix may be missing as far as min allows. */
static int tail(schema_job *j, const items *t, uint32_t n_prefix)
{
    if (t->others < 0 || t->max <= n_prefix) return grammar_add_nothing(j->g);
    const uint32_t min = t->min > n_prefix ? t->min - n_prefix : 0;
    const uint32_t max = t->max == GRAMMAR_ENDLESS ? t->max : t->max - n_prefix;
    if (n_prefix > 0) return grammar_add_times(j->g, two(j, j->common.comma, t->others), min, max);
    const int next = two(j, j->common.comma, t->others);
    const uint32_t fewer = max == GRAMMAR_ENDLESS ? max : max - 1;
    const int more = grammar_add_times(j->g, next, min > 0 ? min - 1 : 0, fewer);
    const int some = two(j, two(j, j->common.space, t->others), more);
    if (min > 0) return some;
    return grammar_add_one(j->g, (const int[]){some, grammar_add_nothing(j->g)}, 2);
}

static int list_inside(schema_job *j, const items *t)
{
    enum { MOST = 500 };
    const size_t n_given = json_array_size(t->prefix);
    int rules[MOST];
    if (n_given > MOST)
        return schema_wrong(j, "the keyword \"prefixItems\" holds more than %d schemas", MOST);
    const uint32_t n = n_given < t->max ? (uint32_t)n_given : t->max;
    for (uint32_t i = 0; i < n; i++) {
        const schema_place p = schema_enter_at(j, "prefixItems", i);
        rules[i] = schema_compile(j, json_array_get(t->prefix, i));
        schema_leave(j, p);
        if (rules[i] < 0) return SCHEMA_FAILED;
    }
    int after = tail(j, t, n);
    if (t->others < 0 && t->min > n) after = grammar_add_one(j->g, NULL, 0); /* too few, always */
    for (uint32_t i = n; i-- > 0;) {
        const int before = i > 0 ? j->common.comma : j->common.space;
        after = two(j, before, two(j, rules[i], after));
        if (i >= t->min)
            after = grammar_add_one(j->g, (const int[]){after, grammar_add_nothing(j->g)}, 2);
    }
    return after;
}

int schema_list(schema_job *j, const json_t *schema)
{
    const json_t *const given = json_object_get(schema, "items");
    items t = {.prefix = json_object_get(schema, "prefixItems"), .others = SCHEMA_FAILED};
    if (!schema_size(j, schema, "minItems", 0, &t.min) ||
        !schema_size(j, schema, "maxItems", GRAMMAR_ENDLESS, &t.max))
        return SCHEMA_FAILED;
    if (json_is_array(given))
        return schema_wrong(j, "the keyword \"items\" must be a schema; a list of them is "
                               "\"prefixItems\" today");
    if (t.prefix && !json_is_array(t.prefix))
        return schema_wrong(j, "the keyword \"prefixItems\" must be a list of schemas");
    if (t.min > t.max) return grammar_add_one(j->g, NULL, 0);
    if (!json_is_false(given) && !(t.prefix && !given)) {
        const schema_place p = schema_enter(j, "items");
        t.others = given ? schema_compile(j, given) : j->common.any;
        schema_leave(j, p);
        if (t.others < 0) return SCHEMA_FAILED;
    } else if (!given && t.min > json_array_size(t.prefix)) {
        t.others = j->common.any;
    }
    const int inside = list_inside(j, &t);
    if (inside < 0) return SCHEMA_FAILED;
    const int parts[] = {j->common.begin_list, inside, j->common.end_list};
    return grammar_add_all(j->g, true, parts, 3);
}
