/* SPDX-License-Identifier: Apache-2.0
 * Whether a value fits a JSON schema. */
#include "jsonfits.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool has_type(const json_t *v, const char *type)
{
    const double x = json_number_value(v);
    if (strcmp(type, "object") == 0) return json_is_object(v);
    if (strcmp(type, "array") == 0) return json_is_array(v);
    if (strcmp(type, "string") == 0) return json_is_string(v);
    if (strcmp(type, "number") == 0) return json_is_number(v);
    if (strcmp(type, "boolean") == 0) return json_is_boolean(v);
    if (strcmp(type, "null") == 0) return json_is_null(v);
    return json_is_integer(v) || (json_is_real(v) && x == (double)(int64_t)x);
}

static bool fits_type(const json_t *v, const json_t *type)
{
    if (!type) return true;
    if (json_is_string(type)) return has_type(v, json_string_value(type));
    for (size_t i = 0; i < json_array_size(type); i++)
        if (has_type(v, json_string_value(json_array_get(type, i)))) return true;
    return false;
}

static size_t characters(const json_t *v)
{
    size_t n = 0;
    for (size_t i = 0; i < json_string_length(v); i++)
        n += ((unsigned char)json_string_value(v)[i] & 0xC0) != 0x80;
    return n;
}

/* No key: no bound. */
static bool at_least(double x, const json_t *schema, const char *key)
{
    const json_t *const bound = json_object_get(schema, key);
    return !bound || x >= json_number_value(bound);
}

static bool at_most(double x, const json_t *schema, const char *key)
{
    const json_t *const bound = json_object_get(schema, key);
    return !bound || x <= json_number_value(bound);
}

static bool fits_object(const json_t *v, const json_t *schema, const json_t *root)
{
    const json_t *const properties = json_object_get(schema, "properties");
    const json_t *const others = json_object_get(schema, "additionalProperties");
    const json_t *const required = json_object_get(schema, "required");
    const char *name;
    json_t *member;
    for (size_t i = 0; i < json_array_size(required); i++)
        if (!json_object_get(v, json_string_value(json_array_get(required, i)))) return false;
    json_object_foreach((json_t *)(uintptr_t)v, name, member)
    {
        const json_t *const own = json_object_get(properties, name);
        if (own ? !json_fits(member, own, root) : others && !json_fits(member, others, root))
            return false;
    }
    return true;
}

static bool fits_list(const json_t *v, const json_t *schema, const json_t *root)
{
    const json_t *const prefix = json_object_get(schema, "prefixItems");
    const json_t *const items = json_object_get(schema, "items");
    const size_t n = json_array_size(v), n_prefix = json_array_size(prefix);
    for (size_t i = 0; i < n; i++) {
        const json_t *const own = i < n_prefix ? json_array_get(prefix, i) : items;
        if (own && !json_fits(json_array_get(v, i), own, root)) return false;
    }
    return at_least((double)n, schema, "minItems") && at_most((double)n, schema, "maxItems");
}

static bool fits_one(const json_t *v, const json_t *list, const json_t *root)
{
    if (!list) return true;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_fits(v, json_array_get(list, i), root)) return true;
    return false;
}

static bool is_among(const json_t *v, const json_t *list)
{
    if (!list) return true;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(v, json_array_get(list, i))) return true;
    return false;
}

static const json_t *target(const json_t *root, const char *reference)
{
    static const char defs[] = "#/$defs/";
    if (strcmp(reference, "#") == 0) return root;
    return json_object_get(json_object_get(root, "$defs"), reference + sizeof defs - 1);
}

bool json_fits(const json_t *v, const json_t *schema, const json_t *root)
{
    if (json_is_boolean(schema)) return json_is_true(schema);
    const char *const reference = json_string_value(json_object_get(schema, "$ref"));
    const json_t *const only = json_object_get(schema, "const");
    const double x = json_number_value(v);
    if (reference && !json_fits(v, target(root, reference), root)) return false;
    if (!fits_type(v, json_object_get(schema, "type")) || (only && !json_equal(only, v)) ||
        !is_among(v, json_object_get(schema, "enum")) ||
        !fits_one(v, json_object_get(schema, "anyOf"), root))
        return false;
    if (json_is_number(v)) return at_least(x, schema, "minimum") && at_most(x, schema, "maximum");
    if (json_is_string(v))
        return at_least((double)characters(v), schema, "minLength") &&
               at_most((double)characters(v), schema, "maxLength");
    if (json_is_array(v)) return fits_list(v, schema, root);
    return !json_is_object(v) || fits_object(v, schema, root);
}
