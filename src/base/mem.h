/* SPDX-License-Identifier: Apache-2.0
 * Memory and messages, through the host. */
#ifndef FTK_MEM_H
#define FTK_MEM_H

#include "foretoken.h"

/* NULL on failure or when n * size overflows; memory is zeroed and 64-byte aligned. n 0 gives a
 * valid pointer. */
void *ftk_alloc(const ftk_host *h, size_t n, size_t size);
/* The same, not zeroed: pages that are never touched cost nothing. */
void *ftk_alloc_raw(const ftk_host *h, size_t n, size_t size);
void ftk_release(const ftk_host *h, void *p); /* accepts NULL */
/* Room for `more` elements behind the n in a list of *cap, to which `list` is a pointer to a
 * pointer: they go to a larger one. False: there is no memory, and nothing has changed. */
bool ftk_grow(const ftk_host *h, void *list, size_t n, size_t more, size_t *cap, size_t size);

/* Formats one line for the log hook, made harmless with ftk_show() and cut at 511 bytes. */
void ftk_log(const ftk_host *h, ftk_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Logs at ERROR level and returns err: return ftk_fail(h, FTK_ERR_IO, "..."). */
ftk_err ftk_fail(const ftk_host *h, ftk_err err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same of what has a `host` and a `path`, which comes first: FTK_FAIL(reader, FORMAT, "key %s:
 * ...", key). The empty string at the end is what C11 wants of a macro that may get no arguments
 * behind the format. */
#define FTK_FAIL(at, err, ...) FTK_FAIL_WITH(at, err, __VA_ARGS__, "")
#define FTK_FAIL_WITH(at, err, fmt, ...)                                                           \
    ftk_fail((at)->host, FTK_ERR_##err, "%s: " fmt "%s", (at)->path, __VA_ARGS__)
/* The line into why[cap] in place of the log. Returns err. */
ftk_err ftk_why(char *why, size_t cap, ftk_err err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
