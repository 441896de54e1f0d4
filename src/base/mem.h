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

/* Formats one line for the log hook, made harmless with ftk_show() and cut at 511 bytes. */
void ftk_log(const ftk_host *h, ftk_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Logs at ERROR level and returns err: return ftk_fail(h, FTK_ERR_IO, "..."). */
ftk_err ftk_fail(const ftk_host *h, ftk_err err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
