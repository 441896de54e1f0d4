/* SPDX-License-Identifier: Apache-2.0
 *
 * Guesses of several sources in one tree of candidates, for families that draft with probabilities
 * of their own. A source's own probability is no more than a guess: what counts is how often its
 * guesses of that size were right where their path was, measured as they go (acceptance.h). So each
 * guess names the rate that speaks for it, and a candidate is worth the product along its path of the
 * best rate of those sources that named it.
 */
#ifndef FTK_GUESSES_H
#define FTK_GUESSES_H

#include <string.h>

#include "base/target.h"
#include "drafters/acceptance.h"
#include "drafters/retrieval.h"

struct ftk_rows;

enum {
    FTK_SOURCES = 3, /* of one family, at most; retrieval is not one of them */
    FTK_LIKELY_BINS = FTK_HEAD_BINS,
    FTK_LIKELY = 10, /* guesses a row of logits gives, at most */
    FTK_CHAIN = 16,  /* guesses retrieval gives, at most */
};

typedef struct ftk_guess {
    int32_t token;
    int16_t parent;            /* guess; that of the root is -1 */
    int16_t first, last, next; /* child, child, sibling in the order they were added; 0: none */
    int16_t depth;             /* of the root 0 */
    int16_t row;               /* the family's own, -1 at first */
    int16_t rate[FTK_SOURCES]; /* -1: that source did not name it */
    bool retrieved;            /* retrieval named it */
    float worth;
} ftk_guess;

typedef struct ftk_guesses {
    int n, cap;
    bool chain;          /* trees have one node a depth */
    ftk_guess *all;      /* [cap] all[0] is the root; parents come before their children */
    ftk_candidate *heap; /* [cap] */
    int n_rates;
    ftk_rate *rates; /* [n_rates] the family's */
} ftk_guesses;

/* Room for cap guesses, the root among them. Errors: NOMEM; ftk_guesses_free() is due then, too. */
ftk_err ftk_guesses_init(ftk_guesses *g, const ftk_host *host, int cap, ftk_rate *rates,
                         int n_rates);
void ftk_guesses_free(ftk_guesses *g, const ftk_host *host);
/* The root alone. */
void ftk_guesses_begin(ftk_guesses *g, int32_t root);
/* The guess below `parent` that carries `token`, or -1. */
int ftk_guesses_child(const ftk_guesses *g, int parent, int32_t token);
/* The index of the guess, which may have been there already. -1: no room. */
int ftk_guesses_add(ftk_guesses *g, int parent, int32_t token, int source, int rate);
/* The chain that retrieval predicts. Its rates are retrieval's, which settles them. */
void ftk_guesses_add_retrieved(ftk_guesses *g, const ftk_retrieval *r);
/* The best guesses of a depth worth at least `least`, at most `most`, the best first: chosen[].
 * linked: only those whose parent has a row. */
int ftk_guesses_best(const ftk_guesses *g, int depth, float least, bool linked, int most,
                     int *chosen);
/* truth[0..n) came: every guess below the true path was right or not. */
void ftk_guesses_settle(ftk_guesses *g, const int32_t *truth, size_t n);
/* The probability that a guess is right and none of those below it is. */
float ftk_guesses_open(const ftk_guesses *g, int guess);
/* Fills the tree best first, with at most `budget` nodes below its root. */
void ftk_guesses_plant(ftk_guesses *g, int budget, ftk_tree *tree);
/* The same behind the path from the root to `leaf`, whose guesses become nodes 1, 2, ... */
void ftk_guesses_plant_path(ftk_guesses *g, int leaf, int budget, ftk_tree *tree);

/* The `most` (up to FTK_LIKELY) largest of n logits, largest first, and the bin of each one's
 * probability. Returns how many: none where a logit is NaN or the largest is infinite. */
int ftk_likely(const float *logits, int n, int most, int32_t *best, int8_t *bin);
/* The same of a row of n logits, whether there are the logits or what a device says of them. */
int ftk_rows_likely(const struct ftk_rows *rows, int row, int n, int most, int32_t *best,
                    int8_t *bin);
/* A probability belongs to the first bin whose bound is not above it, or to the last one. */
extern const float ftk_likely_bounds[FTK_LIKELY_BINS - 1];
/* What a probability of that bin means as long as nothing was measured. */
float ftk_likely_prior(int bin);
/* e^x for x <= 0 to 1e-5 of it, in a form that compilers turn into vector code. */
static inline float ftk_exp_below(float x)
{
    x = x > -80 ? x : -80; /* what is no number too */
    const float n = (float)(int)(x * 1.44269504f - 0.5f);
    const float r = x - n * 0.693147181f;
    const float p = 1 + r * (1 + r * (0.5f + r * (0.1666667f + r * (0.0416667f + r * 0.0083333f))));
    const uint32_t bits = (uint32_t)((int)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

#endif
