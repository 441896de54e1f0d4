/* SPDX-License-Identifier: Apache-2.0
 * The clock that everything here is timed by. */
#ifndef FTK_CLOCK_H
#define FTK_CLOCK_H

#include <time.h>

/* Seconds; never runs backwards. */
static inline double ftk_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Who tells the time in place of the system, and hears of work that takes some: so that a test
 * or a simulation decides what it takes. */
typedef struct ftk_clock {
    double (*now)(void *ctx);
    /* A pass over rows through so many layers was run, where a row has a route counted as its
     * policy counts them; slot_rows: tokens before its sequences, each counted once for every
     * row. n_logits of them had logits. */
    void (*pass)(void *ctx, double layers, int rows, double slot_rows, int n_logits);
    /* Rows went through a drafter's matrix of n_out outputs and n_in inputs. */
    void (*product)(void *ctx, int n_out, int n_in, int rows);
    void *ctx;
} ftk_clock;

static inline double ftk_clock_now(const ftk_clock *c)
{
    return c ? c->now(c->ctx) : ftk_now();
}

#endif
