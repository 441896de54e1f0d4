/* SPDX-License-Identifier: Apache-2.0
 * Whether a value fits a JSON schema, by itself: for what the tests make schemas of. */
#ifndef FTK_TESTS_JSONFITS_H
#define FTK_TESTS_JSONFITS_H

#include <jansson.h>
#include <stdbool.h>

bool json_fits(const json_t *value, const json_t *schema, const json_t *root);

#endif
