/* SPDX-License-Identifier: Apache-2.0
 *
 * Drafts that grow by a draft model (base/draftmodel.h), depth by depth: of each depth the best
 * nodes, at most FTK_GROWN_WIDTH, are run, and what it finds likeliest behind each are its
 * children; the best of all nodes are drafted. A node is worth the product of its path's
 * probabilities, which count as what guesses of their size were worth so far (guesses.h). So a
 * tree of EAGLE-2's kind (arXiv 2406.16858), but one that stops where running a row takes longer
 * than saying what it is expected to bring without it. The chain of what followed the same words
 * earlier and successors join, so that rows are run for what these leave open. Rows of what was
 * accepted are kept.
 *
 * Where the verifier makes use of it, and the temperature is above 0, tokens are drawn instead:
 * drawn.h. */
#ifndef FTK_GROWN_H
#define FTK_GROWN_H

#include "drafters/confidence.h"
#include "drafters/drafter.h"
#include "drafters/drawn.h"
#include "drafters/guesses.h"

enum {
    FTK_GROWN_WIDTH = 8,
    FTK_GROWN_DEPTH = 16,
    FTK_GROWN_CLASSES =
        6, /* of depths that have rates of their own; deeper ones have the last one's */
    FTK_GROWN_LATE = 32, /* tokens not read yet beyond which reading them is no draft's affair */
    FTK_GROWN_TIMED = 64,  /* rows of a pass, whose times are known */
};

/* Rates, by depth. */
enum {
    FTK_GROWN_GUESS = 0, /* [CLASSES][FTK_LIKELY_BINS] */
    FTK_GROWN_RATES = FTK_GROWN_CLASSES * FTK_LIKELY_BINS + FTK_GUESS_RATES,
};

/* What sessions learn together. */
typedef struct ftk_grown_known {
    ftk_rate rates[FTK_GROWN_RATES];
    ftk_confidence confidence[FTK_GROWN_CLASSES];
    ftk_drawn_rates drawn;
    /* Of run() and of read(): took.h. */
    double took[2][FTK_GROWN_TIMED + 1];
} ftk_grown_known;

typedef struct ftk_grown {
    const ftk_target *target;
    const ftk_draft_model *model;
    const ftk_sampling *sampling;
    size_t grew; /* length of the text that the model's rows stand behind; 0: there are none */
    int n_rows;  /* that the model has run for this draft */
    ftk_grown_known *known;
    ftk_guesses guesses;
    ftk_drawn drawn;
} ftk_grown;

/* For the ops of a drafter whose state is this. */
void ftk_grown_init_known(void *rates);
ftk_err ftk_grown_init(void *state, const ftk_drafter_env *env);
void ftk_grown_free(void *state, const ftk_host *host);
void ftk_grown_reset(void *state, const int32_t *history, size_t n);
void ftk_grown_propose(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree);
void ftk_grown_propose_all(const ftk_ask *asks, int n);
void ftk_grown_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                     const ftk_verdict *verdict, const ftk_rows *rows);

/* Of the rows that the last draft has run those stay that lead to what has come since. */
void ftk_grown_keep(ftk_grown *g, const int32_t *history, size_t n);
/* Whether there is so much of text[0..n) to read that it cannot draft before. */
bool ftk_grown_late(const ftk_grown *g, size_t n);
/* Reads text[0..n), which is no draft. */
void ftk_grown_read(const ftk_grown *g, const int32_t *history, size_t n);
/* Whether reading a token of the text saves more than its part of a pass that reads several, where
 * nothing else is known of what follows; if not, what is believed of that pass is doubted. */
bool ftk_grown_pays(ftk_grown *g);

#endif
