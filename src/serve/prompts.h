/* SPDX-License-Identifier: Apache-2.0
 * What a request asks the model: a conversation, or texts to go on with, as tokens. */
#ifndef FTK_SERVE_PROMPTS_H
#define FTK_SERVE_PROMPTS_H

#include "serve/serve.h"

/* Fills r->prompts; false: *e. */
bool serve_read_prompts(const serve_server *s, const json_t *o, serve_request *r, serve_error *e);

#endif
