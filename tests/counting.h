/* SPDX-License-Identifier: Apache-2.0
 * A host that counts what the library holds and says, and that has no memory when it is told to. */
#ifndef FTK_TESTS_COUNTING_H
#define FTK_TESTS_COUNTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "foretoken.h"

/* {0} counts and fails nothing. */
typedef struct counting {
    int live;      /* blocks that are held */
    long calls;    /* how often one was asked for */
    long fail_at;  /* the call that fails; 0: none */
    bool stepping; /* calls are counted in in_step, too */
    long in_step;
    int errors, warnings;
    char line[512]; /* the last of them */
} counting;

static inline void *count_alloc(void *ctx, size_t size, size_t align)
{
    counting *c = ctx;
    c->in_step += c->stepping;
    if (++c->calls == c->fail_at) return NULL;
    if (size > (size_t)64 << 20) return NULL; /* no file of the tests justifies more */
    void *p = aligned_alloc(align, (size + align - 1) / align * align);
    c->live += p != NULL;
    return p;
}

static inline void count_free(void *ctx, void *p)
{
    ((counting *)ctx)->live--;
    free(p);
}

static inline void count_log(void *ctx, ftk_log_level level, const char *line)
{
    counting *c = ctx;
    if (level > FTK_LOG_WARN) return;
    c->errors += level == FTK_LOG_ERROR;
    c->warnings += level == FTK_LOG_WARN;
    snprintf(c->line, sizeof c->line, "%s", line);
}

static inline ftk_host counting_host(counting *c)
{
    return (ftk_host){c, count_alloc, count_free, count_log};
}

/* A life begins and ends with the same blocks held, whatever fails in it. */
typedef ftk_err counted_life(counting *c, void *with);

/* Lives it with each of its allocations failed once: it ends with NOMEM and says why, and when
 * none fails it ends well, without having allocated in a step. Returns how many there are. */
static inline long fail_each(counting *c, const char *what, counted_life *life, void *with)
{
    const int held = c->live;
    for (long at = 1;; at++) {
        c->calls = c->in_step = c->errors = 0;
        c->fail_at = at;
        const ftk_err err = life(c, with);
        const bool failed = c->calls >= at;
        c->fail_at = 0;
        if (c->live != held)
            fail_msg("%s: %d blocks leaked, allocation %ld failing", what, c->live - held, at);
        if (err != (failed ? FTK_ERR_NOMEM : FTK_OK) || failed != (c->errors > 0))
            fail_msg("%s: %s and %d lines, allocation %ld %s", what, ftk_strerror(err), c->errors,
                     at, failed ? "failing" : "not being there");
        if (failed) continue;
        if (c->in_step > 0) fail_msg("%s: steps allocate %ld times", what, c->in_step);
        return at - 1;
    }
}

#endif
