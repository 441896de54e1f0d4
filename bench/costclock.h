/* SPDX-License-Identifier: Apache-2.0
 * A clock that goes on by what work is said to take, so that the loop decides the same on every
 * run. */
#ifndef FTK_BENCH_COSTCLOCK_H
#define FTK_BENCH_COSTCLOCK_H

#include "base/clock.h"
#include "foretoken.h"

enum { COSTCLOCK_POINTS = 16 };

typedef struct costclock {
    ftk_clock clock; /* for the engine; the rest must stay where it is */
    double seconds;  /* that it shows */
    double worked;   /* the same on a machine that nothing else slows down */
    int n;           /* points: so many rows take so long */
    double rows[COSTCLOCK_POINTS], takes[COSTCLOCK_POINTS];
    double deep;           /* seconds that a token before a row adds to it */
    double slow;           /* 1, or by how much other programs slow all down for a while */
    double weights;        /* of the whole model */
    double output_weights; /* of its output matrix */
    int layers;
} costclock;

/* One for passes of m, with the costs that a line of the file (bench/costs.txt) gives under a
 * name; false: there are none, or they are not understood. */
bool costclock_open(costclock *c, const ftk_model *m, const char *path, const char *name);

#endif
