/* SPDX-License-Identifier: Apache-2.0
 * What the tests of bad files share: a host that counts, and one line for one error. */
#ifndef FTK_TESTS_ONEBAD_H
#define FTK_TESTS_ONEBAD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "testkit/ggufwriter.h"

typedef struct counting {
    int live, errors;
    long left; /* allocations until one fails, where `failing` */
    bool failing;
    char line[512];
} counting;

static inline void *count_alloc(void *ctx, size_t size, size_t align)
{
    counting *c = ctx;
    if (size > (size_t)64 << 20) return NULL; /* no file of these tests justifies more */
    if (c->failing && c->left-- == 0) return NULL;
    c->live++;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static inline void count_free(void *ctx, void *p)
{
    ((counting *)ctx)->live--;
    free(p);
}

static inline void count_log(void *ctx, ftk_log_level level, const char *line)
{
    counting *c = ctx;
    if (level != FTK_LOG_ERROR) return;
    c->errors++;
    snprintf(c->line, sizeof c->line, "%s", line);
}

/* Opens and closes what is at p; c tells how it went. */
typedef ftk_err attempt(const char *p, counting *c);

static inline ftk_err try_reader(const char *p, counting *c)
{
    const ftk_host host = {c, count_alloc, count_free, count_log};
    ftk_gguf *g = (ftk_gguf *)c;
    const ftk_err err = ftk_gguf_open(&g, p, &host);
    assert_true((g != NULL) == (err == FTK_OK));
    ftk_gguf_free(g);
    return err;
}

static inline ftk_err try_model(const char *p, counting *c)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = (ftk_host){c, count_alloc, count_free, count_log};
    ftk_model *m = (ftk_model *)c;
    const ftk_err err = ftk_model_load(&m, p, &cfg);
    assert_true((m != NULL) == (err == FTK_OK));
    ftk_model_free(m);
    return err;
}

/* 1, and says so, unless the attempt gives this error and this one line, behind the path `at`. */
static inline int check(const char *what, const char *p, attempt *try, ftk_err err, const char *at,
                        const char *line)
{
    counting c = {0};
    const ftk_err got = try(p, &c);
    char expected[512] = "";
    if (err != FTK_OK) snprintf(expected, sizeof expected, "%s: %s", at, line);
    if (got == err && c.errors == (err != FTK_OK) && c.live == 0 && !strcmp(c.line, expected))
        return 0;
    print_error("%s\n  expected %d, '%s'\n  got      %d, '%s' (%d lines, %d blocks held)\n", what,
                (int)err, expected, (int)got, c.line, c.errors, c.live);
    return 1;
}

#endif
