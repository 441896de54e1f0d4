/* SPDX-License-Identifier: Apache-2.0
 *
 * What a drafter's own work takes, as measured: heads for some rows, rows of a small model, layers
 * that a policy leaves. One rule for all: time by the number of rows, in passes of the model over
 * one row, so that it holds when other programs slow the machine down; smoothed, and believed a
 * little less the longer it has kept a drafter from that work, until that is tried again. */
#ifndef FTK_TOOK_H
#define FTK_TOOK_H

#include "base/target.h"

/* took[n] for n rows; 0: not known. took[0]: how far these are doubted. n rows took so long. */
void ftk_took_see(double *took, const ftk_target *t, int n, double seconds);
/* Seconds of n rows: of a number not seen yet by the next smaller one that was, or the next larger
 * one up to `most`, where as many as `fixed` rows take no time of their own. 0: nothing is
 * known. */
double ftk_took_of(const double *took, const ftk_target *t, int n, int fixed, int most);
/* It kept the drafter from its work in a step of a session. */
void ftk_took_doubt(double *took, const ftk_target *t);

/* A kind of work, of which sessions may share a pass. */
typedef struct ftk_work {
    double *took;
    const double *like; /* work that takes about as long, until this is known; NULL: none */
    int fixed, most;    /* rows that take no time of their own; and of a pass */
} ftk_work;

/* Nodes that a session would have it done for, and seconds that each saves, most first. */
typedef struct ftk_wish {
    const ftk_target *target; /* the session's */
    int n, first, more;       /* rows of the first node, and of each further one */
    int taken;                /* of these nodes; 0 before they are chosen */
    double saves[FTK_HEAD_NODES];
} ftk_wish;

/* Takes always the node that saves most of those next to be taken of n sessions: as many as save
 * most, less what their rows take. Returns how many rows that are; where none, what is believed
 * of their time is doubted. */
int ftk_took_choose(const ftk_work *work, ftk_wish *all, int n);

/* Seconds to verify n rows more than `rows`. */
static inline double ftk_target_verify(const ftk_target *t, int rows, int n)
{
    return t->seconds(t->ctx, 0, rows + n) - t->seconds(t->ctx, 0, rows);
}

/* Of one row, where there are a few. */
static inline double ftk_target_row(const ftk_target *t)
{
    enum { FEW = 3 };
    return ftk_target_verify(t, 1, FEW) / FEW;
}

/* Seconds that a token takes without a draft of one's own, at the pace of late: what it is worth to
 * name it. Flags are those of the environment: with FTK_ROWS_ALWAYS they have no end. */
double ftk_target_token(const ftk_target *t, unsigned flags);

#endif
