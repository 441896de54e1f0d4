/* SPDX-License-Identifier: Apache-2.0
 *
 * Measured acceptance: how often guesses of a kind were right where their path was. They are judged
 * by the token that came, whether or not they were in the tree.
 */
#ifndef FTK_ACCEPTANCE_H
#define FTK_ACCEPTANCE_H

#include "base/tree.h"

/* A share. The prior weighs as much as 2 observations, all of the past as much as 100. */
typedef struct ftk_rate {
    float hits, tries;
    float prior;
} ftk_rate;

void ftk_rate_init(ftk_rate *r, float prior);
void ftk_rate_see(ftk_rate *r, bool hit);
float ftk_rate_get(const ftk_rate *r);
/* Of a rate that says how often hits came for each that was expected: one was expected that
 * often. */
void ftk_rate_see_expected(ftk_rate *r, bool hit, float expected);
/* What was seen counts a little less with every step, so that what looked hopeless is tried again
 * some thousand steps later. */
void ftk_rates_fade(ftk_rate *r, size_t n);

/* How far a retrieved token can be trusted is read off the number of tokens that matched before it:
 * 1, 2, 3-4, 5-8, 9-16, 17 and more. */
enum { FTK_MATCH_CLASSES = 6 };
int ftk_match_class(int length);
float ftk_match_prior(int match_class);

/* Candidate nodes, the best first: a binary heap. */
typedef struct ftk_candidate {
    float value; /* what it is ordered by */
    int32_t token;
    int16_t parent; /* in the tree */
    int16_t slot;   /* the drafter's own */
} ftk_candidate;

typedef struct ftk_heap {
    int n, cap;
    ftk_candidate *items;
} ftk_heap;

/* A full heap drops the candidate. Equal values come out by parent, then by slot. */
void ftk_heap_push(ftk_heap *h, ftk_candidate c);
bool ftk_heap_pop(ftk_heap *h, ftk_candidate *c);

#endif
