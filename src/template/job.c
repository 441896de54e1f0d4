/* SPDX-License-Identifier: Apache-2.0
 * A job of the template room: its memory, its bounds, its way out. */
#include "base/mem.h"
#include "template/parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct ftk_tmpl_block {
    struct ftk_tmpl_block *next;
    _Alignas(16) char data[];
};

ftk_err ftk_tmpl_guard(ftk_tmpl_job *j, void (*body)(ftk_tmpl_job *j, void *ctx), void *ctx)
{
    j->err = FTK_OK;
    if (setjmp(j->escape) == 0) body(j, ctx);
    return j->err;
}

void ftk_tmpl_job_free(ftk_tmpl_job *j)
{
    while (j->blocks) {
        struct ftk_tmpl_block *next = j->blocks->next;
        ftk_release(j->host, j->blocks);
        j->blocks = next;
    }
}

void ftk_tmpl_fail(ftk_tmpl_job *j, ftk_err err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(j->message, sizeof j->message, fmt, args) < 0) j->message[0] = '\0';
    va_end(args);
    j->err = err;
    longjmp(j->escape, 1);
}

static void take_block(ftk_tmpl_job *j, size_t bytes)
{
    const size_t size = bytes > FTK_TMPL_BLOCK ? bytes : FTK_TMPL_BLOCK;
    const size_t whole = size + sizeof(struct ftk_tmpl_block);
    if (whole > j->left)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "it takes more memory than a template may have");
    struct ftk_tmpl_block *block = ftk_alloc_raw(j->host, whole, 1);
    if (!block) ftk_tmpl_fail(j, FTK_ERR_NOMEM, "no memory for %zu bytes", whole);
    j->left -= whole;
    block->next = j->blocks;
    j->blocks = block;
    j->at = block->data;
    j->end = block->data + size;
}

void *ftk_tmpl_alloc(ftk_tmpl_job *j, size_t n, size_t size)
{
    if (n > j->left / size)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "it takes more memory than a template may have");
    const size_t bytes = (n * size + 15) & ~(size_t)15;
    ftk_tmpl_spend(j, bytes / 64);
    if (bytes > (size_t)(j->end - j->at)) take_block(j, bytes);
    void *p = j->at;
    j->at += bytes;
    return p;
}

void ftk_tmpl_spend(ftk_tmpl_job *j, size_t steps)
{
    if (steps > j->steps)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "it takes more steps than a template may have");
    j->steps -= steps;
}

void ftk_tmpl_enter(ftk_tmpl_job *j)
{
    if (++j->depth > FTK_TMPL_DEPTH)
        ftk_tmpl_fail(j, FTK_ERR_INVALID, "it is nested too deeply, or calls itself for ever");
    ftk_tmpl_spend(j, 1);
}
