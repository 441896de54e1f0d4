/* SPDX-License-Identifier: Apache-2.0
 *
 * Retrieval: what followed the end of the text earlier, and how far that has been right. A
 * session has one, whichever families draft in it: it reads each committed token once and is
 * settled once a step, whoever drafted, so that families neither keep an index each nor learn
 * the same thing twice. */
#ifndef FTK_RETRIEVAL_H
#define FTK_RETRIEVAL_H

#include "drafters/acceptance.h"
#include "drafters/suffix.h"

enum { FTK_RETRIEVED = FTK_MAX_NODES - 1 }; /* tokens of a chain */

/* By match class, of all sessions of an engine. */
typedef struct ftk_retrieval_rates {
    ftk_rate goes_on[FTK_MATCH_CLASSES]; /* a token of a chain, where the chain held so far */
    /* The first token of the earliest chain that differs, where the recent one was wrong. */
    ftk_rate forks[FTK_MATCH_CLASSES];
} ftk_retrieval_rates;

typedef struct ftk_retrieval {
    ftk_suffix suffix;
    ftk_retrieval_rates *rates;
    /* The open prediction: what follows text[0..asked), after the longest end of the text that
     * occurred before. asked 0: none. */
    size_t asked;
    int length;                                          /* tokens that matched */
    int n;                                               /* of each chain; 0: nothing matched */
    int32_t recent[FTK_RETRIEVED], first[FTK_RETRIEVED]; /* behind the latest, the earliest match */
} ftk_retrieval;

void ftk_retrieval_rates_init(ftk_retrieval_rates *rates);
/* For texts of up to cap tokens; rates outlive it. Errors: NOMEM; ftk_retrieval_free() is due
 * then, too. */
ftk_err ftk_retrieval_init(ftk_retrieval *r, const ftk_host *host, int cap,
                           ftk_retrieval_rates *rates);
void ftk_retrieval_free(ftk_retrieval *r, const ftk_host *host);
/* The text was truncated to text[0..n). Rates stay. */
void ftk_retrieval_reset(ftk_retrieval *r, const int32_t *text, size_t n);
/* Reads the tokens of text[0..n) that are new, and predicts what follows. */
void ftk_retrieval_ask(ftk_retrieval *r, const int32_t *text, size_t n);
/* truth[0..n) came behind text[0..at): what was predicted there, if anything, was right or not. */
void ftk_retrieval_settle(ftk_retrieval *r, size_t at, const int32_t *truth, size_t n);
/* How likely token `at` of a chain is, where the chain held so far. */
float ftk_retrieval_goes_on(const ftk_retrieval *r, int at);
/* How likely the first token is with which the earliest chain leaves the recent one, at `at`,
 * where the recent one is wrong. */
float ftk_retrieval_forks(const ftk_retrieval *r, int at);

#endif
