/* SPDX-License-Identifier: Apache-2.0
 * Schemas that hold at the same time, as one; and whether two may. */
#include <stdlib.h>
#include <string.h>

#include "grammar/schema.h"

bool schema_is_note(const char *key)
{
    static const char *const notes[] = {"title",
                                        "description",
                                        "default",
                                        "examples",
                                        "$schema",
                                        "$id",
                                        "id",
                                        "$comment",
                                        "deprecated",
                                        "readOnly",
                                        "writeOnly",
                                        "$defs",
                                        "definitions",
                                        "$vocabulary",
                                        "contentEncoding",
                                        "contentMediaType",
                                        "contentSchema",
                                        "discriminator",
                                        "strict"};
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        if (strcmp(key, notes[i]) == 0) return true;
    return false;
}

/* ---- types */

static const struct {
    const char *name;
    unsigned type;
} type_names[] = {{"object", TYPE_OBJECT},
                  {"array", TYPE_LIST},
                  {"string", TYPE_STRING},
                  {"integer", TYPE_INTEGER},
                  {"number", TYPE_NUMBER | TYPE_INTEGER},
                  {"boolean", TYPE_BOOLEAN},
                  {"null", TYPE_NULL}};

static unsigned type_named(const json_t *name)
{
    const char *const text = json_string_value(name);
    for (size_t i = 0; text && i < sizeof type_names / sizeof *type_names; i++)
        if (strcmp(text, type_names[i].name) == 0) return type_names[i].type;
    return 0;
}

unsigned schema_types(schema_job *j, const json_t *schema)
{
    const json_t *const type = json_object_get(schema, "type");
    unsigned types = 0;
    if (!type) return ALL_TYPES;
    if (!json_is_array(type)) types = type_named(type);
    for (size_t i = 0; i < json_array_size(type); i++) {
        const unsigned one = type_named(json_array_get(type, i));
        types |= one;
        if (one == 0) types = 0;
        if (one == 0) break;
    }
    if (types == 0)
        schema_wrong(j, "the keyword \"type\" must be one, or a list, of object, array, string, "
                        "number, integer, boolean and null");
    return types;
}

unsigned schema_type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return TYPE_OBJECT;
    case JSON_ARRAY: return TYPE_LIST;
    case JSON_STRING: return TYPE_STRING;
    case JSON_INTEGER: return TYPE_INTEGER;
    case JSON_REAL: {
        const double x = json_real_value(v);
        return x > -1e18 && x < 1e18 && x == (double)(int64_t)x ? TYPE_INTEGER : TYPE_NUMBER;
    }
    case JSON_NULL: return TYPE_NULL;
    default: return TYPE_BOOLEAN;
    }
}

/* ---- references */

/* Takes a part of a JSON pointer out of *at: ~1 is /, ~0 is ~, and %XX a byte. */
static void next_part(const char **at, char *part, size_t cap)
{
    const char *p = *at;
    size_t n = 0;
    for (; *p && *p != '/'; p++) {
        char c = *p;
        unsigned byte;
        if (c == '%' && sscanf(p + 1, "%2x", &byte) == 1 && p[1] && p[2]) {
            c = (char)byte;
            p += 2;
        }
        if (c == '~' && (p[1] == '0' || p[1] == '1')) {
            c = p[1] == '0' ? '~' : '/';
            p++;
        }
        if (n + 1 < cap) part[n++] = c;
    }
    part[n] = 0;
    *at = p;
}

const json_t *schema_target(schema_job *j, const char *reference)
{
    const json_t *at = j->root;
    if (reference[0] != '#' || (reference[1] && reference[1] != '/')) {
        schema_wrong(j,
                     "the keyword \"$ref\": \"%.60s\" must lead into the schema itself: \"#/...\"",
                     reference);
        return NULL;
    }
    for (const char *p = reference + 1; *p == '/' && at;) {
        char part[256];
        p++;
        next_part(&p, part, sizeof part);
        if (!json_is_array(at)) {
            at = json_object_get(at, part);
            continue;
        }
        char *end;
        const unsigned long i = strtoul(part, &end, 10);
        at = part[0] && !*end ? json_array_get(at, i) : NULL;
    }
    if (!at) schema_wrong(j, "the keyword \"$ref\": there is nothing at \"%.60s\"", reference);
    return at;
}

/* ---- both at once */

static json_t *own(schema_job *j, json_t *made)
{
    json_array_append_new(j->owned, made);
    return made;
}

static json_t *common_types(schema_job *j, const json_t *a, const json_t *b)
{
    const unsigned types = schema_types(j, a) & schema_types(j, b);
    json_t *const list = json_array();
    for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++)
        if ((types & type_names[i].type) == type_names[i].type)
            json_array_append_new(list, json_string(type_names[i].name));
    return list;
}

static json_t *common_values(const json_t *a, const json_t *b)
{
    json_t *const list = json_array();
    for (size_t i = 0; i < json_array_size(a); i++)
        for (size_t k = 0; k < json_array_size(b); k++)
            if (json_equal(json_array_get(a, i), json_array_get(b, k))) {
                json_array_append(list, json_array_get(a, i));
                break;
            }
    return list;
}

static json_t *all_names(const json_t *a, const json_t *b)
{
    json_t *const list = json_copy((json_t *)(uintptr_t)a);
    json_array_extend(list, (json_t *)(uintptr_t)b);
    return list;
}

static json_t *all_properties(schema_job *j, const json_t *a, const json_t *b)
{
    json_t *const all = json_copy((json_t *)(uintptr_t)a);
    const char *name;
    size_t n;
    json_t *v;
    json_object_keylen_foreach((json_t *)(uintptr_t)b, name, n, v)
    {
        json_t *const there = json_object_getn(all, name, n);
        const json_t *const both = there ? schema_both(j, there, v) : v;
        if (both) json_object_setn(all, name, n, (json_t *)(uintptr_t)both);
    }
    return all;
}

/* What a keyword is where both have it; NULL: that cannot be said. */
static json_t *both_keyword(schema_job *j, const char *key, const json_t *a, const json_t *b,
                            const json_t *in_a, const json_t *in_b)
{
    static const char *const larger[] = {"minimum", "exclusiveMinimum", "minLength", "minItems"},
                             *const smaller[] = {"maximum", "exclusiveMaximum", "maxLength",
                                                 "maxItems"};
    if (json_equal(a, b)) return json_incref((json_t *)(uintptr_t)a);
    for (int i = 0; i < 4; i++) {
        const bool up = strcmp(key, larger[i]) == 0, down = strcmp(key, smaller[i]) == 0;
        if (!up && !down) continue;
        const bool first = json_number_value(a) > json_number_value(b);
        return json_incref((json_t *)(uintptr_t)(first == up ? a : b));
    }
    if (strcmp(key, "type") == 0) return common_types(j, in_a, in_b);
    if (strcmp(key, "enum") == 0) return common_values(a, b);
    if (strcmp(key, "required") == 0 && json_is_array(a) && json_is_array(b))
        return all_names(a, b);
    if (strcmp(key, "properties") == 0 && json_is_object(a) && json_is_object(b))
        return all_properties(j, a, b);
    if (strcmp(key, "items") == 0 || strcmp(key, "additionalProperties") == 0) {
        const json_t *const both = schema_both(j, a, b);
        return json_incref((json_t *)(uintptr_t)both);
    }
    return NULL;
}

/* Names that only one knows are wrong where the other one has no others. */
static bool agree_on_names(schema_job *j, const json_t *a, const json_t *b)
{
    const json_t *const names_a = json_object_get(a, "properties");
    const json_t *const names_b = json_object_get(b, "properties");
    const json_t *const others_a = json_object_get(a, "additionalProperties");
    const json_t *const others_b = json_object_get(b, "additionalProperties");
    const char *name;
    json_t *v;
    bool same = json_object_size(names_a) == json_object_size(names_b);
    json_object_foreach((json_t *)(uintptr_t)names_a, name, v) same &=
        json_object_get(names_b, name) != NULL;
    const bool closed =
        (others_a && !json_is_true(others_a)) || (others_b && !json_is_true(others_b));
    if (same || !closed || (!names_a && !others_a) || (!names_b && !others_b)) return true;
    schema_wrong(
        j, "the keyword \"additionalProperties\" is not supported where schemas with different "
           "properties hold together");
    return false;
}

static bool nothing_fits(schema_job *j, const json_t *a, const json_t *b)
{
    const json_t *const one = json_object_get(a, "const"), *const other =
                                                               json_object_get(b, "const");
    if ((schema_types(j, a) & schema_types(j, b)) == 0) return true;
    if (one && other && !json_equal(one, other)) return true;
    const json_t *const some = json_object_get(a, "enum"), *const more = json_object_get(b, "enum");
    if (!json_is_array(some) || !json_is_array(more)) return false;
    return json_array_size(own(j, common_values(some, more))) == 0;
}

const json_t *schema_both(schema_job *j, const json_t *a, const json_t *b)
{
    if (!schema_works(j)) return NULL;
    if (json_is_true(a)) return b;
    if (json_is_true(b) || json_is_false(a)) return a;
    if (json_is_false(b)) return b;
    a = schema_flat(j, a);
    b = a ? schema_flat(j, b) : NULL;
    if (!a || !b) return NULL;
    if (!json_is_object(a) || !json_is_object(b)) return schema_both(j, a, b);
    if (!agree_on_names(j, a, b)) return NULL;
    if (nothing_fits(j, a, b)) return json_false();
    json_t *const all = own(j, json_copy((json_t *)(uintptr_t)a));
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)b, key, v)
    {
        const json_t *const there = json_object_get(all, key);
        if (!there || schema_is_note(key)) {
            json_object_set(all, key, v);
            continue;
        }
        json_t *const both = both_keyword(j, key, there, v, a, b);
        if (!both) {
            schema_wrong(j, "the keyword \"%s\" holds twice here, which is not supported", key);
            return NULL;
        }
        json_object_set_new(all, key, both);
    }
    return j->e->message[0] ? NULL : all;
}

const json_t *schema_flat(schema_job *j, const json_t *schema)
{
    const json_t *const reference = json_object_get(schema, "$ref");
    const json_t *const all = json_object_get(schema, "allOf");
    if (!json_is_object(schema) && !json_is_boolean(schema)) {
        schema_wrong(j, "a schema must be an object, or true or false");
        return NULL;
    }
    if (!reference && !all) return schema;
    if (!schema_works(j)) return NULL;
    if (j->depth == SCHEMA_MOST_DEPTH || (all && !json_is_array(all)) ||
        (reference && !json_is_string(reference))) {
        schema_wrong(j, j->depth == SCHEMA_MOST_DEPTH ? "schemas refer to each other too deeply"
                        : all ? "the keyword \"allOf\" must be a list of schemas"
                              : "the keyword \"$ref\" must be a text");
        return NULL;
    }
    json_t *const rest = own(j, json_copy((json_t *)(uintptr_t)schema));
    json_object_del(rest, "$ref");
    json_object_del(rest, "allOf");
    const json_t *flat = rest;
    j->depth++;
    if (reference) {
        const json_t *const target = schema_target(j, json_string_value(reference));
        flat = target ? schema_both(j, target, rest) : NULL;
    }
    for (size_t i = 0; i < json_array_size(all) && flat; i++)
        flat = schema_both(j, flat, json_array_get(all, i));
    j->depth--;
    return flat;
}

/* ---- apart */

static const json_t *values_of(schema_job *j, const json_t *schema)
{
    const json_t *const only = json_object_get(schema, "const");
    if (!only) return json_object_get(schema, "enum");
    json_t *const list = own(j, json_array());
    json_array_append(list, (json_t *)(uintptr_t)only);
    return list;
}

static unsigned types_of(schema_job *j, const json_t *schema)
{
    const json_t *const values = values_of(j, schema);
    unsigned types = 0;
    for (size_t i = 0; i < json_array_size(values); i++)
        types |= schema_type_of(json_array_get(values, i));
    return values ? types : schema_types(j, schema);
}

/* Some property that both have to have cannot fit both. */
static bool members_apart(schema_job *j, const json_t *a, const json_t *b)
{
    const json_t *const names_a = json_object_get(a, "properties");
    const json_t *const names_b = json_object_get(b, "properties");
    const json_t *const needed = json_object_get(b, "required");
    const json_t *const list = json_object_get(a, "required");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *const name = json_array_get(list, i);
        const char *const text = json_string_value(name);
        const json_t *const in_a = text ? json_object_get(names_a, text) : NULL;
        const json_t *const in_b = text ? json_object_get(names_b, text) : NULL;
        if (!in_a || !in_b) continue;
        for (size_t k = 0; k < json_array_size(needed); k++)
            if (json_equal(json_array_get(needed, k), name) && schema_apart(j, in_a, in_b))
                return true;
    }
    return false;
}

bool schema_apart(schema_job *j, const json_t *a, const json_t *b)
{
    if (json_is_false(a) || json_is_false(b)) return true;
    if (!schema_works(j)) return true; /* it has failed */
    a = schema_flat(j, a);
    b = a ? schema_flat(j, b) : NULL;
    if (!a || !b) return true;
    if (!json_is_object(a) || !json_is_object(b)) return false;
    const unsigned types = types_of(j, a) & types_of(j, b);
    if (types == 0) return true;
    const json_t *const in_a = values_of(j, a), *const in_b = values_of(j, b);
    if (in_a && in_b) {
        json_t *const both = own(j, common_values(in_a, in_b));
        return json_array_size(both) == 0;
    }
    return types == TYPE_OBJECT && members_apart(j, a, b);
}
