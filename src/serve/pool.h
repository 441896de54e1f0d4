/* SPDX-License-Identifier: Apache-2.0
 * The sessions that run, and those that have finished and are kept for what they have read. */
#ifndef FTK_SERVE_POOL_H
#define FTK_SERVE_POOL_H

#include "serve/serve.h"

typedef struct serve_idle {
    ftk_session *session;
    bool ignore_eos;
} serve_idle;

typedef struct serve_pool {
    const serve_server *s;
    serve_choice **running; /* [most], the first in line first */
    size_t n_running, most;
    serve_idle *idle; /* [most], the longest unused first */
    size_t n_idle;
} serve_pool;

void serve_pool_open(serve_pool *p, const serve_server *s, size_t most);
void serve_pool_close(serve_pool *p);
/* Gives c a session that holds its tokens, and as many of them cached as there are to be had: where
 * room for them can be made without taking it from one that runs. *fits is false where it can't. */
ftk_err serve_pool_start(serve_pool *p, serve_choice *c, bool *fits);
/* c runs no longer. What its session has read is kept for those to come, or given up. */
void serve_pool_end(serve_pool *p, serve_choice *c, bool keep);
/* False: there is none to give up. */
bool serve_pool_drop(serve_pool *p);
/* Gives up idle sessions where those that run would soon want their room. */
void serve_pool_make_room(serve_pool *p);

#endif
