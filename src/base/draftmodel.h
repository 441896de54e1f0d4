/* SPDX-License-Identifier: Apache-2.0
 *
 * A draft model, in the literature's word: layers of a drafter's own that read tokens as the
 * target does, with a cache of their own for one session. It may be a small model of the
 * target's vocabulary, or a head whose rows begin with features of the target. */
#ifndef FTK_DRAFTMODEL_H
#define FTK_DRAFTMODEL_H

#include "foretoken.h"

/* What a session asks of its draft model. */
typedef struct ftk_draft_rows {
    void *ctx;              /* of its ftk_draft_model */
    const int32_t *history; /* read(): [n] its text; run(): not looked at */
    size_t n;               /* run(): rows */
    const int32_t *token;   /* [n] */
    const int16_t *parent;  /* [n] */
    const float *logits;    /* what is said, valid until the next call for any of the sessions */
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
    /* What sessions of one engine ask is run in one pass, so that weights are read once. */
    /* Reads what is unread of history[0..n), of which all that was read before is still the
     * start. logits: those behind it; NULL: there are none now. */
    void (*read)(ftk_draft_rows *asks, int n);
    /* Runs n more rows: token[i] behind row parent[i], which is one that was run before this
     * call, or -1, the text. logits: [n][stride]; NULL: there is no room. */
    void (*run)(ftk_draft_rows *asks, int n);
    /* row[0..n), each behind the one before, became the text's next tokens: they are read, where
     * the model can use what they left. Other rows are forgotten. */
    void (*keep)(void *ctx, int n, const int16_t *row);
} ftk_draft_model;

/* Of one session; returns the logits. */
static inline const float *ftk_draft_read(const ftk_draft_model *m, const int32_t *history,
                                          size_t n)
{
    ftk_draft_rows ask = {.ctx = m->ctx, .history = history, .n = n};
    m->read(&ask, 1);
    return ask.logits;
}

#endif
