/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzz target of JSON schemas to grammars: a schema, as text or, behind a #, as fuzzjson.h makes
 * it of bytes; and behind a NUL a text that is read by it. A schema is refused with a reason, or
 * what its grammar says is JSON and taken again, without a way that ends nowhere. */
#include "fuzzing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzzjson.h"
#include "grammarwalks.h"

static const char *const vocabulary[] = {"type",
                                         "object",
                                         "array",
                                         "string",
                                         "number",
                                         "integer",
                                         "boolean",
                                         "null",
                                         "properties",
                                         "required",
                                         "additionalProperties",
                                         "items",
                                         "prefixItems",
                                         "minItems",
                                         "maxItems",
                                         "enum",
                                         "const",
                                         "anyOf",
                                         "oneOf",
                                         "allOf",
                                         "$ref",
                                         "#",
                                         "#/$defs/a",
                                         "#/properties/a",
                                         "#/items",
                                         "$defs",
                                         "a",
                                         "b",
                                         "minLength",
                                         "maxLength",
                                         "pattern",
                                         "^[a-c]{2}$",
                                         "x|y*",
                                         "(a|b)+c?",
                                         "\\\\d\\\\s",
                                         "minimum",
                                         "maximum",
                                         "exclusiveMinimum",
                                         "exclusiveMaximum",
                                         "format",
                                         "date",
                                         "uuid",
                                         "title",
                                         "type",
                                         "type",
                                         "object",
                                         "properties",
                                         "items",
                                         "anyOf",
                                         "required"};

static void check_said(grammar *g, uint64_t seed)
{
    char *text = grammar_say(g, &seed);
    if (!text) return; /* too long */
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!v || !grammar_takes(g, text)) {
        fprintf(stderr, "said: %s\n", text);
        abort();
    }
    json_decref(v);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *const nul = memchr(data, 0, size);
    const size_t n = nul ? (size_t)(nul - data) : size;
    json_t *schema =
        size > 0 && data[0] == '#'
            ? fuzz_json(data + 1, n - 1, vocabulary, sizeof vocabulary / sizeof *vocabulary)
            : json_loadb((const char *)data, n, JSON_DECODE_ANY, NULL);
    grammar_error e;
    if (!schema) return 0;
    grammar *g = grammar_new(NULL, &(grammar_piece){"", schema, ""}, 1, "", 1, &e);
    json_decref(schema);
    if (!g && (!e.message[0] || e.path[0] != '#')) abort();
    if (!g) return 0;
    int at = grammar_start(g);
    for (size_t i = n + 1; i < size && at != GRAMMAR_DEAD; i++) at = grammar_step(g, at, data[i]);
    check_said(g, size);
    grammar_tidy(g);
    check_said(g, size + 1);
    grammar_free(g);
    return 0;
}

bool fuzz_seed(size_t i, gw_bytes *out)
{
    static const char *const seeds[] = {
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"minLength\":2},\"b\":{"
        "\"type\":"
        "\"integer\",\"minimum\":-3,\"exclusiveMaximum\":17}},\"required\":[\"a\"],"
        "\"additionalProperties\":false}",
        "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]},"
        "\"maxItems\":3}",
        "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"enum\":[\"x\",2.5,null]}],\"items\":"
        "false,\"minItems\":1}",
        "{\"type\":\"string\",\"pattern\":\"^(ab|c[^d-f]{2,3})*\\\\d+$\",\"maxLength\":12}",
        "{\"type\":\"string\",\"pattern\":\"x.y|[\\\\w\\\\S]?z\"}",
        "{\"type\":\"number\",\"minimum\":-0.25,\"maximum\":1e3}",
        "{\"$ref\":\"#/$defs/"
        "n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"number\"},"
        "\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
        "n\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}}}",
        "{\"oneOf\":[{\"properties\":{\"k\":{\"const\":\"a\"}},\"required\":[\"k\"]},{"
        "\"properties\":{\"k\":{\"const\":"
        "\"b\"}},\"required\":[\"k\"]}],\"type\":\"object\"}",
        "{\"allOf\":[{\"type\":[\"object\",\"null\"]},{\"properties\":{\"x\":{\"maxLength\":3}}},{"
        "\"required\":[\"x\"]}]}",
        "{\"type\":[\"string\",\"integer\",\"boolean\"],\"format\":\"date-time\"}",
        "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"boolean\"},\"properties\":{"
        "\"\\u00e9\":true}}",
        "{\"format\":\"email\",\"type\":\"string\",\"minLength\":5,\"title\":\"t\"}",
        "true",
    };
    static const char text[] = "{\"a\": \"x\\u00e9\", \"b\": [1, -2.5e3, null]}";
    enum { N = sizeof seeds / sizeof *seeds, N_MADE = 40 };
    if (i >= N + N_MADE) return false;
    if (i >= N) { /* bytes for fuzzjson.h */
        uint64_t r = i;
        gw_put(out, "#", 1);
        for (int k = 0; k < 80; k++) {
            const unsigned char byte = (unsigned char)(grammar_draw(&r) % 255 + 1);
            gw_put(out, &byte, 1);
        }
        return true;
    }
    gw_put(out, seeds[i], strlen(seeds[i]) + 1);
    gw_put(out, text, sizeof text - 1);
    return true;
}
