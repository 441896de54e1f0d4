/* SPDX-License-Identifier: Apache-2.0
 * Between scheduler.c, which says who runs, and lineup.c, which knows who is there. */
#ifndef FTK_SERVE_SCHEDULER_H
#define FTK_SERVE_SCHEDULER_H

#include "serve/pool.h"

typedef struct serve_scheduler {
    serve_server *s;
    serve_pool pool;
    serve_choice **waiting; /* in the order of their coming */
    size_t n_waiting, cap_waiting;
    serve_request **requests; /* all that are not done */
    size_t n_requests, cap_requests;
    uint64_t order;
    ftk_session **sessions; /* of a step, its choices and its results */
    serve_choice **stepped;
    ftk_result *results;
    char why[400]; /* what the library said last */
} serve_scheduler;

/* Under the lock. */
void serve_take_incoming(serve_scheduler *d);
void serve_mark_started(serve_scheduler *d,
                        serve_request *r); /* it counts in the queue no longer */

void serve_wait_in_line(serve_scheduler *d, serve_choice *c);
void serve_leave_line(serve_scheduler *d, size_t at);
/* None of its choices runs or waits any longer, and the client gets what there is. */
void serve_end_request(serve_scheduler *d, serve_request *r);
void serve_fail_request(serve_scheduler *d, serve_request *r, ftk_err err);
/* The server ends before it does. */
void serve_turn_away(serve_scheduler *d, serve_request *r);
/* Ends those whose clients have closed their end of the connection. */
void serve_drop_gone(serve_scheduler *d);

#endif
