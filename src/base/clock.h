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

#endif
