/* SPDX-License-Identifier: Apache-2.0
 * Strings, numbers and constants of a schema. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/schema.h"

/* ---- strings */

/* Formats that are held; others say nothing. Days are 01 to 31 in every month. */
static const struct {
    const char *name, *pattern;
} formats[] = {
#define DATE "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
#define TIME                                                                                       \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]" \
    ")"
#define BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    {"ipv4", "^" BYTE "(\\." BYTE "){3}$"},
    {"email",
     "^[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,32})?@([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\\.){1,3}"
     "[a-z]{2,12}$"},
};

/* A free string's automaton, or that of its pattern, or format. */
static bool characters(schema_job *j, const json_t *schema, automaton *a, bool *plain)
{
    const json_t *const pattern = json_object_get(schema, "pattern");
    const char *const format = json_string_value(json_object_get(schema, "format"));
    const char *text = json_string_value(pattern), *why;
    *plain = true;
    if (pattern && !text) {
        schema_wrong(j, "the keyword \"pattern\" must be a text");
        return false;
    }
    for (size_t i = 0; !text && format && i < sizeof formats / sizeof *formats; i++)
        if (strcmp(format, formats[i].name) == 0) text = formats[i].pattern;
    if (!text) {
        *plain = false;
        *a = automaton_any();
        return true;
    }
    const size_t n = pattern ? json_string_length(pattern) : strlen(text);
    if (automaton_pattern(a, text, n, &j->pattern_work, &why)) return true;
    schema_wrong(j, "the keyword \"pattern\": \"%.80s\" %s", text, why);
    return false;
}

int schema_string(schema_job *j, const json_t *schema)
{
    enum { MOST_CELLS = 4 << 20 };
    automaton a;
    bool plain;
    uint32_t min, max;
    if (!schema_size(j, schema, "minLength", 0, &min) ||
        !schema_size(j, schema, "maxLength", GRAMMAR_ENDLESS, &max) ||
        !characters(j, schema, &a, &plain))
        return SCHEMA_FAILED;
    const size_t lengths = max == GRAMMAR_ENDLESS ? min : max;
    if (plain && lengths > 0) j->n_cells += a.n * (lengths + 1);
    if (j->n_cells > MOST_CELLS) {
        automaton_free(&a);
        return schema_wrong(j, "the keyword \"pattern\" is too large beside such lengths");
    }
    return grammar_add_string(j->g, a, plain, min, max);
}

/* ---- numbers */

/* The fewest digits that mean the number, and how many of them stand before the point: a whole
 * number's own, as a double does not tell all of them apart. */
static size_t digits_of(const json_t *number, char all[32], int *point)
{
    char text[64];
    const double x = fabs(json_number_value(number));
    if (json_is_integer(number)) {
        const json_int_t whole = json_integer_value(number);
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, whole);
        snprintf(all, 32, "%s", text + (whole < 0));
        *point = (int)strlen(all);
        return strlen(all);
    }
    for (int digits = 0; digits <= 16; digits++) {
        snprintf(text, sizeof text, "%.*e", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    size_t n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') all[n++] = *p;
    *point = 1 + atoi(p + 1);
    return n;
}

/* The number as digits before and behind the point. */
static bool write_bound(const json_t *number, numeral_bound *b)
{
    char all[32];
    int point;
    const size_t n = digits_of(number, all, &point);
    if (point > 300 || point < -300) return false;
    b->given = true;
    b->negative = json_number_value(number) < 0;
    size_t whole = 0, part = 0;
    for (int i = 0; i < point || i < (int)n || part == 0; i++) {
        const char digit = i < (int)n ? all[i] : '0';
        if (i >= point) {
            for (int zeros = point; i == 0 && zeros < 0; zeros++) b->part[part++] = '0';
            b->part[part++] = digit;
        } else {
            b->whole[whole++] = digit;
        }
    }
    if (whole == 0) b->whole[0] = '0';
    return true;
}

/* The narrower of the two: both may be given. */
static bool read_bound(schema_job *j, const json_t *schema, const char *key, const char *exclusive,
                       bool lower, numeral_bound *b)
{
    const char *const keys[] = {key, exclusive};
    double best = 0;
    for (int i = 0; i < 2; i++) {
        const json_t *const v = json_object_get(schema, keys[i]);
        if (!v) continue;
        const double x = json_number_value(v);
        if (!json_is_number(v)) {
            schema_wrong(j, "the keyword \"%s\" must be a number", keys[i]);
            return false;
        }
        if (b->given && (lower ? x < best : x > best)) continue;
        *b = (numeral_bound){.exclusive = i == 1};
        best = x;
        if (write_bound(v, b)) continue;
        schema_wrong(j, "the keyword \"%s\": %g is too large or too small a number", keys[i], x);
        return false;
    }
    return true;
}

int schema_number(schema_job *j, const json_t *schema, bool whole)
{
    numeral_bound lo = {0}, hi = {0};
    if (!read_bound(j, schema, "minimum", "exclusiveMinimum", true, &lo) ||
        !read_bound(j, schema, "maximum", "exclusiveMaximum", false, &hi))
        return SCHEMA_FAILED;
    if (!lo.given && !hi.given) return whole ? j->common.integer : j->common.number;
    return grammar_add_bytes(j->g, automaton_numerals(&lo, &hi, whole));
}

/* ---- constants */

/* Besides enum and const only what is looked at here. */
static bool check_beside(schema_job *j, const json_t *schema)
{
    static const char *const fine[] = {"enum", "const", "type", "format"};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)schema, key, v)
    {
        bool known = schema_is_note(key);
        for (size_t i = 0; i < 4 && !known; i++) known = strcmp(key, fine[i]) == 0;
        static const char *const others[] = {"pattern",          "minLength",
                                             "maxLength",        "minimum",
                                             "maximum",          "exclusiveMinimum",
                                             "exclusiveMaximum", "properties",
                                             "required",         "items",
                                             "minItems",         "maxItems",
                                             "prefixItems",      "additionalProperties"};
        for (size_t i = 0; i < sizeof others / sizeof *others && !known; i++) {
            if (strcmp(key, others[i]) != 0) continue;
            schema_wrong(j, "the keyword \"%s\" is not supported beside enum or const", key);
            return false;
        }
    }
    return true;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int texts_rule(schema_job *j, char **texts, size_t n)
{
    size_t *const sizes = cli_array(NULL, n, sizeof *sizes);
    if (n > 0) qsort(texts, n, sizeof *texts, by_text);
    for (size_t i = 0; i < n; i++) sizes[i] = strlen(texts[i]);
    automaton a = automaton_texts((const char *const *)texts, sizes, n, true);
    automaton_trim(&a);
    free(sizes);
    return grammar_add_bytes(j->g, a);
}

int schema_literals(schema_job *j, const json_t *schema, unsigned types)
{
    const json_t *const list = json_object_get(schema, "enum");
    const json_t *const only = json_object_get(schema, "const");
    const size_t n_all = list ? json_array_size(list) : 1;
    if (list && (!json_is_array(list) || n_all == 0 || n_all > SCHEMA_MOST_VALUES))
        return schema_wrong(j, "the keyword \"enum\" must be a list of 1 to %d values",
                            SCHEMA_MOST_VALUES);
    if (!check_beside(j, schema)) return SCHEMA_FAILED;
    char **const texts = cli_array(NULL, n_all, sizeof *texts);
    size_t n = 0;
    for (size_t i = 0; i < n_all; i++) {
        const json_t *const v = list ? json_array_get(list, i) : only;
        if (!(schema_type_of(v) & types) || (only && !json_equal(only, v))) continue;
        texts[n] = grammar_literal(v);
        if (texts[n]) n++;
    }
    const int made = texts_rule(j, texts, n);
    while (n > 0) free(texts[--n]);
    free(texts);
    return made;
}
