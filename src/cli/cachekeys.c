/* SPDX-License-Identifier: Apache-2.0
 * Which caches read which setting. */
#include "cachekeys.h"

#include <stddef.h>
#include <string.h>

static const char tokens[] = "toca duca";

static const struct {
    const char *key, *readers;
} all[] = {
    {"interval", "fora toca duca"},
    {"order", "speca"},
    {"threshold", "speca"},
    {"decay", "speca"},
    {"floor", "speca"},
    {"min-run", "speca"},
    {"max-run", "speca"},
    {"metric", "speca"},
    {"redo", "speca"},
    {"fresh", tokens},
    {"step-weight", tokens},
    {"layer-weight", tokens},
    {"stale", tokens},
    {"bonus", tokens},
    {"tokens", tokens},
    {"once", tokens},
    {"l2c-threshold", "l2c"},
};

const char *cli_cache_readers(const char *key)
{
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].key, key) == 0) return all[i].readers;
    return NULL;
}

bool cli_cache_reads(const char *cache, const char *key)
{
    const char *const readers = cli_cache_readers(key);
    const size_t n = strlen(cache);
    for (const char *at = readers; at && *at; at += strspn(at, " ")) {
        const size_t word = strcspn(at, " ");
        if (word == n && memcmp(at, cache, n) == 0) return true;
        at += word;
    }
    return false;
}
