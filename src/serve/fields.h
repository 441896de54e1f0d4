/* SPDX-License-Identifier: Apache-2.0
 * Fields of a JSON object, with their types and ranges. One that is missing or null leaves *v as
 * it is. Each returns false where the value is wrong, and *e names the field. */
#ifndef FTK_SERVE_FIELDS_H
#define FTK_SERVE_FIELDS_H

#include "serve/serve.h"

/* The field, or NULL where it is missing or null. */
const json_t *serve_field(const json_t *o, const char *name);
bool serve_field_bool(const json_t *o, const char *name, bool *v, serve_error *e);
bool serve_field_whole(const json_t *o, const char *name, int64_t min, int64_t max, int64_t *v,
                       serve_error *e);
bool serve_field_real(const json_t *o, const char *name, double min, double max, float *v,
                      serve_error *e);
/* A list of token ids in tokens (to be freed), each in [0, n_vocab). */
bool serve_field_ids(const json_t *list, const char *name, int n_vocab, int32_t **tokens, size_t *n,
                     serve_error *e);
/* The body, which has to be an object, with whole numbers beyond 63 bits as reals; NULL: *e. */
json_t *serve_body(const char *body, size_t n, serve_error *e);

#endif
