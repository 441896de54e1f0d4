/* SPDX-License-Identifier: Apache-2.0
 * Lists of tokens that grow. */
#ifndef FTK_TOKENS_H
#define FTK_TOKENS_H

#include "foretoken.h"

/* A growing list of tokens; all zero but host is an empty one. */
typedef struct ftk_tokens {
    const ftk_host *host;
    int32_t *v;
    size_t n, cap;
} ftk_tokens;

/* Errors: NOMEM, and the list is as before. */
ftk_err ftk_tokens_push(ftk_tokens *list, const int32_t *tokens, size_t n);
/* Ends a list in the manner of ftk_tokenize(): *n_out is its length, the tokens are copied if they
 * fit, and the list is freed. err is what filling it returned and is passed on. */
ftk_err ftk_tokens_end(ftk_tokens *list, ftk_err err, int32_t *tokens, size_t cap, size_t *n_out);

#endif
