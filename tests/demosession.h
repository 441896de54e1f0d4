/* SPDX-License-Identifier: Apache-2.0
 * Sessions on the demo model with every drafter that it has, over an allocator that watches. */
#ifndef FTK_TESTS_DEMOSESSION_H
#define FTK_TESTS_DEMOSESSION_H

#include "support.h"

static inline void plain_free(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

static inline ftk_engine *open_demo(ftk_model **m, void *(*alloc)(void *, size_t, size_t))
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host = (ftk_host){NULL, alloc, plain_free, NULL};
    assert_int_equal(ftk_model_load(m, DEMO, &cfg), FTK_OK);
    ftk_engine *e = open_engine(*m, 1, 613, FTK_TYPE_F16);
    int found;
    assert_int_equal(ftk_engine_find_drafters(e, DEMO, &found), FTK_OK);
    assert_true(found > 0);
    return e;
}

static inline ftk_session *open_session(ftk_engine *e, const char *drafter)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.budget = 8;
    cfg.ignore_end = true;
    ftk_session *s;
    assert_int_equal(ftk_session_open(&s, e, &cfg), FTK_OK);
    return s;
}

#endif
