/* SPDX-License-Identifier: Apache-2.0
 * Unicode's normal form C: a letter and the marks on it become one character where there is one. */
#ifndef FTK_COMPOSE_H
#define FTK_COMPOSE_H

#include "foretoken.h"

/* Normal form C of n bytes of valid UTF-8, in time n log n whatever the text. *out is NULL where
 * the text is in that form already, else it is to be released. Errors: NOMEM. */
ftk_err ftk_compose(const ftk_host *host, const char *text, size_t n, char **out, size_t *n_out);

#endif
