/* SPDX-License-Identifier: Apache-2.0
 *
 * Successors ("Turning Trash into Treasure: Accelerating Inference of Large Language Models with
 * Token Recycling", arXiv 2408.08696): for every token, the tokens that the model found
 * likeliest behind it the last time it was read, accepted or not. A session has one table,
 * whichever families draft in it: it is read and settled once a step, whoever drafted. Unlike
 * the paper's, a successor comes with the size of its probability at that time, and what guesses
 * of such a size were worth is measured by depth. */
#ifndef FTK_SUCCESSORS_H
#define FTK_SUCCESSORS_H

#include "base/clock.h"
#include "base/tree.h"
#include "drafters/acceptance.h"
#include "drafters/likely.h"

enum {
    FTK_SUCCESSORS = 8,
    FTK_SUCCESSOR_DEPTHS = 6, /* that have rates of their own; deeper ones have the last one's */
};

/* Of one token, the likeliest first. */
typedef struct ftk_successor_set {
    int32_t token[FTK_SUCCESSORS];
    int8_t size[FTK_SUCCESSORS]; /* 1 + the bin of its probability; 0: there are no more */
} ftk_successor_set;

/* Of all sessions of an engine. */
typedef struct ftk_successor_rates {
    ftk_rate right[FTK_SUCCESSOR_DEPTHS][FTK_LIKELY_BINS]; /* where the tokens before were right */
    double took; /* seconds to read a row, smoothed; 0: not known */
} ftk_successor_rates;

typedef struct ftk_successors {
    int n_vocab;
    ftk_successor_set *of; /* [n_vocab]; NULL: the session has none */
    ftk_successor_rates *rates;
    const ftk_clock *clock; /* that reading is timed by; NULL: the system's */
    float least; /* probability below which a guess is not worth making: set before each draft */
} ftk_successors;

void ftk_successor_rates_init(ftk_successor_rates *rates);
/* For a vocabulary: 40 bytes a token; rates outlive it. Errors: NOMEM; ftk_successors_free() is
 * due then, too. */
ftk_err ftk_successors_init(ftk_successors *s, const ftk_host *host, int n_vocab,
                            ftk_successor_rates *rates);
void ftk_successors_free(ftk_successors *s, const ftk_host *host);
/* Begins with what another session of the same model has read. */
void ftk_successors_copy(ftk_successors *s, const ftk_successors *from);
/* How likely successor k of a set is at a node of this depth, where the node is right. */
float ftk_successor_right(const ftk_successors *s, const ftk_successor_set *set, int k, int depth);
/* truth[0..n) came behind the root: what the table held there, before this step's rows are read,
 * was right or not. */
void ftk_successors_settle(ftk_successors *s, int32_t root, const int32_t *truth, size_t n);
/* Reads rows of a pass over `tree`: all, with `all`, else those of accepted nodes behind which
 * something came that the table did not expect. Returns how many. */
int ftk_successors_read(ftk_successors *s, const ftk_tree *tree, const ftk_verdict *verdict,
                        const struct ftk_rows *rows, bool all);

#endif
