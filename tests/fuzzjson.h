/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a JSON value made of given words: inputs of which most are not refused at once. */
#ifndef FTK_TESTS_FUZZJSON_H
#define FTK_TESTS_FUZZJSON_H

#include <jansson.h>
#include <stdint.h>

json_t *fuzz_json(const uint8_t *p, size_t n, const char *const *words, size_t n_words);

#endif
