/* SPDX-License-Identifier: Apache-2.0
 * Memory and messages, through the host. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, LINE_MAX_BYTES = 512 };

/* Weights, caches and logits are read and written in long runs, each row on pages of its own: with
 * pages of 4 KiB most of the time may go into finding them. */
static void *alloc_pages(size_t bytes)
{
    const size_t huge = (size_t)2 << 20;
    if (bytes < 2 * huge || bytes > SIZE_MAX - huge) return aligned_alloc(ALIGN, bytes);
    bytes = (bytes + huge - 1) / huge * huge;
    void *p = aligned_alloc(huge, bytes);
#ifdef MADV_HUGEPAGE
    if (p) madvise(p, bytes, MADV_HUGEPAGE); /* a wish: nothing is lost where it is not granted */
#endif
    return p;
}

void *ftk_alloc_raw(const ftk_host *h, size_t n, size_t size)
{
    if (size != 0 && n > (SIZE_MAX - ALIGN) / size) return NULL;
    size_t bytes = n * size;
    if (bytes == 0) bytes = 1;
    /* aligned_alloc() wants whole multiples, and kernels may read the tail of the last line. */
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return h && h->alloc ? h->alloc(h->ctx, bytes, ALIGN) : alloc_pages(bytes);
}

void *ftk_alloc(const ftk_host *h, size_t n, size_t size)
{
    void *p = ftk_alloc_raw(h, n, size);
    if (p) memset(p, 0, n * size);
    return p;
}

void ftk_release(const ftk_host *h, void *p)
{
    if (!p) return;
    /* Whoever gave the memory takes it back: free belongs to alloc. */
    if (!h || !h->alloc)
        free(p);
    else if (h->free)
        h->free(h->ctx, p);
}

bool ftk_grow(const ftk_host *h, void *list, size_t n, size_t more, size_t *cap, size_t size)
{
    if (more <= *cap - n) return true;
    if (more > SIZE_MAX / 4 - n) return false;
    const size_t longer = 2 * (n + more) + 64;
    void *old, *const p = ftk_alloc_raw(h, longer, size);
    if (!p) return false;
    memcpy(&old, list, sizeof old);
    if (n > 0) memcpy(p, old, n * size);
    ftk_release(h, old);
    memcpy(list, &p, sizeof p);
    *cap = longer;
    return true;
}

static void log_line(const ftk_host *h, ftk_log_level level, const char *fmt, va_list args)
{
    if (!h || !h->log) return;
    char raw[2 * LINE_MAX_BYTES], line[LINE_MAX_BYTES]; /* one is never cut before the other is */
    if (vsnprintf(raw, sizeof raw, fmt, args) < 0) raw[0] = '\0';
    for (char *c = raw; *c; c++)
        if (*c == '\n' || *c == '\r') *c = ' ';
    ftk_show(raw, strlen(raw), 0, line, sizeof line);
    h->log(h->ctx, level, line);
}

void ftk_log(const ftk_host *h, ftk_log_level level, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    log_line(h, level, fmt, args);
    va_end(args);
}

ftk_err ftk_fail(const ftk_host *h, ftk_err err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    log_line(h, FTK_LOG_ERROR, fmt, args);
    va_end(args);
    return err;
}

ftk_err ftk_why(char *why, size_t cap, ftk_err err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, cap, fmt, args);
    va_end(args);
    return err;
}
