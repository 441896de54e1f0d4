/* SPDX-License-Identifier: Apache-2.0
 * Settings of diffusion caches by name, and which caches read them. */
#ifndef FTK_CLI_CACHEKEYS_H
#define FTK_CLI_CACHEKEYS_H

#include <stdbool.h>

/* The caches that read a setting ("interval", "order", ...), with spaces between; NULL: there is no
 * such setting. */
const char *cli_cache_readers(const char *key);
/* Whether this cache is one of them. */
bool cli_cache_reads(const char *cache, const char *key);

#endif
