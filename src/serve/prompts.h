/* SPDX-License-Identifier: Apache-2.0
 * What a request asks the model: a conversation, or texts to go on with, as tokens. */
#ifndef FTK_SERVE_PROMPTS_H
#define FTK_SERVE_PROMPTS_H

#include "serve/serve.h"

/* The texts of a list of parts, put together as they stand; false: *e names the field. */
bool serve_read_parts(const json_t *parts, const char *field, cli_bytes *text, serve_error *e);
/* Fills r->prompts; false: *e. */
bool serve_read_prompts(const serve_server *s, const json_t *o, serve_request *r, serve_error *e);

#endif
