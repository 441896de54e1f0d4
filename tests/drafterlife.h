/* SPDX-License-Identifier: Apache-2.0
 * The whole life of a session with a drafter that comes from a file, for fail_each(). */
#ifndef FTK_TESTS_DRAFTERLIFE_H
#define FTK_TESTS_DRAFTERLIFE_H

#include "counting.h"

typedef struct drafter_life {
    const char *model, *path, *drafter, *verifier;
    ftk_err (*add)(ftk_engine *e, const char *path);
    float temperature;
} drafter_life;

static inline ftk_err live_with_drafter(counting *c, void *with)
{
    const drafter_life *const l = with;
    ftk_model_config mc;
    ftk_model_config_init(&mc);
    mc.host = counting_host(c);
    ftk_engine_config ec;
    ftk_engine_config_init(&ec);
    ec.threads = 1;
    ec.kv_slots = 128;
    ec.measure = false;
    ftk_session_config sc;
    ftk_session_config_init(&sc);
    sc.drafter = l->drafter;
    sc.verifier = l->verifier;
    sc.budget = 8;
    sc.sampling.temperature = l->temperature;
    ftk_model *m;
    ftk_engine *e = NULL;
    ftk_session *s = NULL, *f = NULL;
    ftk_err err = ftk_model_load(&m, l->model, &mc);
    if (err == FTK_OK) err = ftk_engine_open(&e, m, &ec);
    if (err == FTK_OK) err = l->add(e, l->path);
    if (err == FTK_OK) err = ftk_session_open(&s, e, &sc);
    if (err == FTK_OK) err = ftk_session_append(s, (int32_t[]){5, 6, 7}, 3);
    c->stepping = true;
    for (int i = 0; i < 8 && err == FTK_OK; i++) err = ftk_step(&s, 1, &(ftk_result){0});
    c->stepping = false;
    if (err == FTK_OK) err = ftk_session_fork(&f, s, NULL);
    ftk_session_free(f);
    ftk_session_free(s);
    ftk_engine_free(e);
    ftk_model_free(m);
    return err;
}

#endif
