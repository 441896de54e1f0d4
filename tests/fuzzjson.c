/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a JSON value. */
#include "fuzzjson.h"

enum { MOST_DEPTH = 12 };

typedef struct reader {
    const uint8_t *p, *end;
    const char *const *words;
    size_t n_words;
} reader;

static uint8_t next(reader *r)
{
    return r->p < r->end ? *r->p++ : 0;
}

static const char *word(reader *r)
{
    return r->words[next(r) % r->n_words];
}

static json_t *number(reader *r)
{
    static const double odd[] = {0.5, -0.0,         1e300, -1e-300, 9007199254740993.0,
                                 0.1, 2147483648.0, 1e15};
    const uint8_t kind = next(r);
    if (kind >= 240) return json_real(odd[kind % 8]);
    if (kind >= 200) return json_real((double)(int8_t)next(r) / 8);
    if (kind >= 190) return json_integer((json_int_t)((uint64_t)next(r) << 8 * (kind % 8)));
    return json_integer((json_int_t)(kind % 24) - 4);
}

static json_t *value(reader *r, int depth)
{
    if (r->p >= r->end) return json_null();
    const uint8_t kind = next(r);
    const int n = kind / 16 % 6;
    if (kind % 16 == 0) return json_null();
    if (kind % 16 == 1) return json_boolean(n % 2);
    if (kind % 16 <= 4) return number(r);
    if (kind % 16 <= 7 || depth == MOST_DEPTH) return json_string(word(r));
    json_t *j = kind % 16 <= 9 ? json_array() : json_object();
    for (int i = 0; i < n; i++) {
        if (json_is_array(j))
            json_array_append_new(j, value(r, depth + 1));
        else {
            const char *const key = word(r);
            json_object_set_new(j, key, value(r, depth + 1));
        }
    }
    return j;
}

json_t *fuzz_json(const uint8_t *p, size_t n, const char *const *words, size_t n_words)
{
    reader r = {p, p + n, words, n_words};
    return value(&r, 0);
}
