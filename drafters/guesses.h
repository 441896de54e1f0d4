/* SPDX-License-Identifier: Apache-2.0
 *
 * Guesses of several sources in one tree of candidates, for families that draft with
 * probabilities of their own. A source's own probability is no more than a guess: what counts is
 * how often its guesses of that size were right where their path was, measured as they go
 * (acceptance.h). So each guess names the rate that speaks for it, and a candidate is worth the
 * product along its path of the best rate of those sources that named it.
 *
 * Such a rate is that of all places. Where sources disagree, and for what is likeliest but one,
 * it says too much, and the best of several rates says more than any of them. So before
 * candidates become a tree, what each is worth is set right by how often such ones came for each
 * time they were expected: by the size of their share, whether several sources named them, and
 * what stands beside them.
 *
 * A device that finishes a draft (ftk_target.leave) makes the same tree of the same guesses,
 * node for node, by the same rules: plant() of kernels/cuda/draft.cu. */
#ifndef FTK_GUESSES_H
#define FTK_GUESSES_H

#include "base/target.h"
#include "drafters/acceptance.h"
#include "drafters/likely.h"
#include "drafters/retrieval.h"
#include "drafters/successors.h"

struct ftk_drafter_env;

enum {
    FTK_CHAIN = 2 * FTK_RETRIEVED, /* guesses retrieval gives, at most */
    FTK_RECYCLED = 112,            /* guesses successors give, at most */
    /* [FTK_LIKELY_BINS of the share][FTK_BESIDES] the last rates of each family, which are not
     * its own: how often such guesses came for each time that they were expected. */
    FTK_GUESS_RATES = FTK_LIKELY_BINS * FTK_BESIDES,
};

typedef struct ftk_guess {
    int32_t token;
    int16_t parent;            /* guess; that of the root is -1 */
    int16_t first, last, next; /* child, child, sibling in the order they were added; 0: none */
    int16_t depth;             /* of the root 0 */
    int16_t row;               /* the family's own, -1 at first */
    int16_t rate;              /* of the family's own source; -1: it did not name it */
    bool recycled;             /* successors named it */
    bool retrieved;            /* retrieval named it */
    float share;               /* of its parent's worth */
    float worth;
    float extra; /* what verifying it is worth beside the token that it may bring */
} ftk_guess;

typedef struct ftk_guesses {
    int n, cap;
    size_t asked;   /* they are an open prediction of what follows text[0..asked); 0: settled */
    bool chain;     /* trees have one node a depth */
    int n_recycled; /* that successors gave */
    unsigned flags; /* of the environment: FTK_WITHOUT_, FTK_ROWS_ */
    const ftk_retrieval *retrieval;   /* what ftk_guesses_ask() asks; NULL: left out */
    const ftk_successors *successors; /* likewise */
    ftk_guess *all;      /* [cap] all[0] is the root; parents come before their children */
    ftk_candidate *heap; /* [cap] */
    int n_rates;
    ftk_rate *rates; /* [n_rates] the family's, then FTK_GUESS_RATES; none: shares count as said */
} ftk_guesses;

/* The last FTK_GUESS_RATES of rates[n_rates] begin. */
void ftk_guesses_init_rates(ftk_rate *rates, int n_rates);
/* Room for cap guesses, the root among them. Errors: NOMEM; ftk_guesses_free() is due then, too. */
ftk_err ftk_guesses_init(ftk_guesses *g, const ftk_host *host, int cap, ftk_rate *rates,
                         int n_rates);
/* The same as a drafter's environment has it. */
ftk_err ftk_guesses_init_for(ftk_guesses *g, const struct ftk_drafter_env *env, int cap,
                             ftk_rate *rates, int n_rates);
void ftk_guesses_free(ftk_guesses *g, const ftk_host *host);
/* The root alone. */
void ftk_guesses_begin(ftk_guesses *g, int32_t root);
/* What follows history[0..n): its last token as the root, and what the session's sources name. */
void ftk_guesses_ask(ftk_guesses *g, const int32_t *history, size_t n);
/* The guess below `parent` that carries `token`, or -1. */
int ftk_guesses_child(const ftk_guesses *g, int parent, int32_t token);
/* The index of the guess, which may have been there already. -1: no room. */
int ftk_guesses_add(ftk_guesses *g, int parent, int32_t token, int rate);
/* The chains that retrieval predicts, the second one from where it leaves the first, as far as they
 * are likely at all. Their rates are retrieval's, which settles them. NULL: there are none. */
void ftk_guesses_add_retrieved(ftk_guesses *g, const ftk_retrieval *r);
/* What the table has behind all guesses that are there, and behind those. Its rates are its own,
 * which settles them. NULL: there is no table. */
void ftk_guesses_add_successors(ftk_guesses *g, const ftk_successors *s);
/* Tells a device what is there: guess i is known[i], as far as there is room; and what its heads
 * or maps, n of them, are worth: rates [n][FTK_LIKELY_BINS]. least: worth of a node that gets
 * children. */
void ftk_guesses_tell(const ftk_guesses *g, float least, const ftk_rate *rates, int n,
                      ftk_heads_ask *ask);
/* The best guesses of a depth worth at least `least`, at most `most`, the best first: chosen[].
 * linked: only those whose parent has a row. */
int ftk_guesses_best(const ftk_guesses *g, int depth, float least, bool linked, int most,
                     int *chosen);
/* The same children, token[0..n) with these rates, for the best nodes of a depth, at most `width`
 * <= FTK_HEAD_NODES. */
void ftk_guesses_add_row(ftk_guesses *g, int depth, float least, int width, int n,
                         const int32_t *token, const int16_t *rate);
/* truth[0..n) came behind text[0..at): every guess below the true path, of those that are a
 * prediction of what follows there, was right or not, whether or not it was drafted. */
void ftk_guesses_settle(ftk_guesses *g, size_t at, const int32_t *truth, size_t n);
/* The probability that a guess is right and none of those below it is. */
float ftk_guesses_open(const ftk_guesses *g, int guess);
/* Fills the tree best first, with at most `budget` nodes below its root. From now on a guess's
 * worth is what it is beside others. */
void ftk_guesses_plant(ftk_guesses *g, int budget, ftk_tree *tree);
/* All guesses in the order in which they were made, as far as the budget goes: a given shape. */
void ftk_guesses_plant_all(ftk_guesses *g, int budget, ftk_tree *tree);

#endif
