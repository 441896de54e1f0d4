/* SPDX-License-Identifier: Apache-2.0
 * What a pass costs, by its number of rows; and so how many drafted rows pay. */
#ifndef FTK_COST_H
#define FTK_COST_H

#include "model/forward.h"

enum { FTK_COST_POINTS = 8 }; /* 1, 2, 4 ... 128 rows; further rows cost what the last ones do */

typedef struct ftk_cost {
    double seconds[FTK_COST_POINTS]; /* on an empty sequence */
    double slot, slot_row; /* what each token before the rows adds, by itself and for each row */
    double logits;         /* of a row's time, the part that its logits take */
    /* Of the relative errors of points, and of what depth adds, as far as is known: covariance. */
    double variance[FTK_COST_POINTS + 1][FTK_COST_POINTS + 1];
} ftk_cost;

/* x, or the nearest bound. */
static inline double ftk_between(double least, double x, double most)
{
    return x < least ? least : x > most ? most : x;
}

/* The rows of a pass, which may be of several sequences. */
typedef struct ftk_width {
    int rows;
    int mute;         /* of these: without logits, as most of a prompt are */
    double slots;     /* tokens before the sequences, of all together */
    double slot_rows; /* the same, each counted once for every row of its sequence */
} ftk_width;

static inline ftk_width ftk_width_of(int rows, int depth)
{
    return (ftk_width){rows, 0, depth, (double)depth * rows};
}

/* With more rows of a sequence that is there, behind `depth` tokens. */
static inline ftk_width ftk_width_with(ftk_width w, int rows, int depth)
{
    return (ftk_width){w.rows + rows, w.mute, w.slots, w.slot_rows + (double)depth * rows};
}

/* With another sequence, all of whose rows have logits. */
static inline ftk_width ftk_width_and(ftk_width w, int rows, int depth)
{
    return (ftk_width){w.rows + rows, w.mute, w.slots + depth, w.slot_rows + (double)depth * rows};
}

/* A flat curve: all widths cost the same. */
void ftk_cost_flat(ftk_cost *c);
/* Times passes of 1, 2, 4 ... rows on an empty sequence, the fastest of several each, for ~120 ms;
 * wider ones than fit are extrapolated, and of a large model only some layers are run. Then what
 * logits take, and what a long text before the rows adds, where the cache has room. Errors: those
 * of ftk_kv_reserve(). */
ftk_err ftk_cost_measure(ftk_cost *c, ftk_forward *f, ftk_kv_pool *pool);
/* Seconds of a pass, interpolated. */
double ftk_cost_of(const ftk_cost *c, ftk_width w);
/* The point that so many rows are nearest to. */
int ftk_cost_point(int rows);
/* Of rows of one sequence, behind `depth` tokens. */
double ftk_cost_at(const ftk_cost *c, int rows, int depth);
/* A pass took so long: moves the whole curve, as the machine's speed changes for all widths, and
 * the points around it some more, what depth adds as far as it is part of the time; then twice the
 * rows take no less time, and at most 2.5 times as much. */
void ftk_cost_update(ftk_cost *c, ftk_width w, double seconds);
/* What a draft that took so long is taken to have cost, next to a plain step's seconds. Drafts
 * of one family may take a thousand times as long as others of it, as layers are run or not, and
 * all is counted; but more than two plain steps, where the family's drafts do not *usually take
 * that (smoothed, in seconds), was another program that had the core. */
double ftk_cost_of_draft(double *usually, double seconds, double plain);

/* Sessions that share a pass. */
typedef struct ftk_company {
    int n; /* that decode in it, 1 at least; others read prompts */
    ftk_width
        rows; /* of the pass before drafts are sized: one for each of them, and those of prompts */
    double seconds; /* of a pass over these rows */
    double plain;   /* of one over the rows that decode alone: n tokens of plain decoding */
    double alone;   /* of one over a single row behind as many tokens as theirs on average */
} ftk_company;

/* decoding: one row for each of the n sessions that decode; rows: those, and what prompts add. */
ftk_company ftk_company_of(const ftk_cost *c, int n, ftk_width decoding, ftk_width rows);
/* Seconds that so many more rows of a session, behind `depth` tokens, add to the pass. */
double ftk_cost_more(const ftk_cost *c, const ftk_company *with, int rows, int depth);
/* How many of a tree's nodes below the root, which have these probabilities, the first ones of
 * them, give the most expected tokens per second of the pass. What the tree has cost already is
 * spent, whatever is verified of it. */
int ftk_cost_best(const ftk_cost *c, const ftk_company *with, const float *prob, int nodes,
                  int depth);

#endif
