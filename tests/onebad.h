/* SPDX-License-Identifier: Apache-2.0
 * What the tests of bad files share: one line for one error. */
#ifndef FTK_TESTS_ONEBAD_H
#define FTK_TESTS_ONEBAD_H

#include <string.h>
#include <unistd.h>

#include "counting.h"
#include "testkit/ggufwriter.h"

/* Opens and closes what is at p; c tells how it went. */
typedef ftk_err attempt(const char *p, counting *c);

static inline ftk_err try_reader(const char *p, counting *c)
{
    const ftk_host host = counting_host(c);
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
    cfg.host = counting_host(c);
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
    const char *const error = c.errors > 0 ? c.line : ""; /* a warning is none */
    if (got == err && c.errors == (err != FTK_OK) && c.live == 0 && !strcmp(error, expected))
        return 0;
    print_error("%s\n  expected %d, '%s'\n  got      %d, '%s' (%d lines, %d blocks held)\n", what,
                (int)err, expected, (int)got, error, c.errors, c.live);
    return 1;
}

/* What is put in place of a key; MISSING: nothing is. */
enum { MISSING = -1 };

static inline void put_key(gw *w, const char *key, int type, uint64_t u, double f, const char *s)
{
    switch (type) {
    case FTK_GGUF_U32: gw_u32(w, key, (uint32_t)u); break;
    case FTK_GGUF_F32: gw_f32(w, key, (float)f); break;
    case FTK_GGUF_STRING: gw_str(w, key, s); break;
    case MISSING: break;
    default: gw_scalar(w, key, (ftk_gguf_type)type, &u);
    }
}

static inline uint32_t random_below(uint64_t *seed, size_t n)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*seed >> 33) % n);
}

#endif
