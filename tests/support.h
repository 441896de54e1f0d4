/* SPDX-License-Identifier: Apache-2.0
 * What the model, engine and allocation tests share. */
#ifndef FTK_TESTS_SUPPORT_H
#define FTK_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "foretoken.h"

#define STORIES FTK_SHARED_DIR "/w-stories260k/"
#define DEMO    FTK_MODELS_DIR "/foretoken-demo-q8_0.gguf"

/* Skips the calling test, loudly, where a file is missing. */
#define NEED(path)                                                                                 \
    do {                                                                                           \
        if (access(path, R_OK) != 0) {                                                             \
            printf("SKIPPED %s: %s is not there\n", __func__, path);                               \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* ftk_target.now of targets that are made here. */
static inline double real_now(void *ctx)
{
    (void)ctx;
    return ftk_now();
}

static inline void print_log(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    if (level <= FTK_LOG_WARN) fprintf(stderr, "%s\n", line);
}

static inline ftk_model *load_model(const char *path)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = print_log;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, path, &cfg), FTK_OK);
    return m;
}

static inline ftk_engine *open_engine(const ftk_model *m, int threads, int slots, ftk_type kv)
{
    ftk_engine_config cfg;
    ftk_engine_config_init(&cfg);
    cfg.threads = threads;
    cfg.kv_slots = slots;
    cfg.kv_type = kv;
    cfg.measure = false;
    ftk_engine *e;
    assert_int_equal(ftk_engine_open(&e, m, &cfg), FTK_OK);
    return e;
}

/* Steps until n tokens are out or the session finishes; returns how many. */
static inline size_t take(ftk_session *s, size_t n, int32_t *out)
{
    size_t got = 0;
    ftk_session_limit(s, n);
    for (;;) {
        ftk_result r;
        assert_int_equal(ftk_step(&s, 1, &r), FTK_OK);
        memcpy(out + got, r.tokens, r.n_tokens * sizeof *out);
        got += r.n_tokens;
        if (r.finish != FTK_FINISH_NONE) return got;
    }
}

#endif
