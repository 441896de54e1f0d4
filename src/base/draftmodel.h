/* SPDX-License-Identifier: Apache-2.0
 *
 * A draft model, in the literature's word: layers of a drafter's own that read tokens as the
 * target does, with a cache of their own for one session. It may be a small model of the
 * target's vocabulary, or a head whose rows begin with features of the target. */
#ifndef FTK_DRAFTMODEL_H
#define FTK_DRAFTMODEL_H

#include "foretoken.h"

/* What one of several sessions asks of a draft model. */
typedef struct ftk_draft_rows {
    void *ctx;              /* of its ftk_draft_model */
    const int32_t *history; /* read_all(): [n] its text; run_all(): not looked at */
    size_t n;               /* run_all(): rows */
    const int32_t *token;   /* [n] */
    const int16_t *parent;  /* [n] */
    const float *logits;    /* gets what read() or run() returns */
} ftk_draft_rows;

/* Functions fail never: what they need was taken before, and where the cache is short they say
 * so. The rows that were run behind the text have numbers from 0 on, until the text is read
 * again. */
typedef struct ftk_draft_model {
    void *ctx;
    int n_out;            /* of a row's logits those that count: the first so many */
    size_t stride;        /* from one row's to the next one's, in floats */
    const int32_t *vocab; /* [n_out] the tokens that they are of; NULL: logit i is token i's */
    int block; /* so many depths read() has worked out: rows of them take next to nothing; 1:
                  none but its own */
    /* Tokens of the text that read() would have to run. */
    size_t (*unread)(void *ctx, size_t n);
    /* Reads what is unread of history[0..n), of which all that was read before is still the
     * start. The logits behind it, valid until the next call; NULL: there are none now. */
    const float *(*read)(void *ctx, const int32_t *history, size_t n);
    /* Runs n more rows: token[i] behind row parent[i], which is one that was run before this
     * call, or -1, the text. Their logits [n][stride], valid until the next call; NULL: there is
     * no room. */
    const float *(*run)(void *ctx, int n, const int32_t *token, const int16_t *parent);
    /* The same of several sessions of an engine in one pass, so that weights are read once for
     * all; `most` rows (unread ones, for read_all()) together at most. All logits are valid until
     * the next call for any of them. NULL: one is asked after the other. */
    int most;
    void (*read_all)(ftk_draft_rows *asks, int n);
    void (*run_all)(ftk_draft_rows *asks, int n);
    /* row[0..n), each behind the one before, became the text's next tokens: they are read, where
     * the model can use what they left. Other rows are forgotten. */
    void (*keep)(void *ctx, int n, const int16_t *row);
} ftk_draft_model;

#endif
