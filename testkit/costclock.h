/* SPDX-License-Identifier: Apache-2.0
 * A clock that goes on by what work is said to take, so that the loop decides the same on every
 * run. */
#ifndef FTK_TESTKIT_COSTCLOCK_H
#define FTK_TESTKIT_COSTCLOCK_H

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

/* One for passes of m, with costs such as "1:4.5 4:5.3 64:40 deep:0.5 slow:3", as bench/costs.txt
 * has them behind a name; false: they are not understood. */
bool costclock_make(costclock *c, const ftk_model *m, const char *table);
/* With those that a line of a file gives under a name; false also: there are none. */
bool costclock_open(costclock *c, const ftk_model *m, const char *path, const char *name);
/* Seconds of a whole pass over so many rows, or of as much work, on an empty sequence. */
double costclock_takes(const costclock *c, double rows);

#endif
