/* SPDX-License-Identifier: Apache-2.0
 *
 * Lessons: what a model makes of texts, kept in a folder for the trainers of drafters
 * (lessons.py). Arrays without a header, little-endian, a row for each token, text behind text:
 *
 *     tokens.i32   [n]          the token
 *     mine.u8      [n]          1: it is part of an answer
 *     feature.f16  [n][n_embd]  the state behind the last norm, which gives what comes next
 *     best.i32     [n][top]     the likeliest tokens to come next, the likeliest first
 *     logp.f16     [n][top]     and the logarithms of their probabilities
 *     state.f16    [n][n_embd]  the state behind layer `state`, where one was asked for
 *     states.f16   [n][k][n_embd]  those entering each of the k layers `states`, if asked for
 *     docs.i64     [texts]      the row each text begins at
 *     done.i64     [texts][2]   which of the texts given it is, and the row it ends at
 *     lessons.json              model, sizes and options
 *
 * A text counts once it stands in done.i64: what lies behind the last one is cut off when a run
 * goes on. */
#ifndef FTK_LESSONS_H
#define FTK_LESSONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What one text has so far. */
typedef struct lesson {
    int64_t source;
    size_t n;        /* tokens, all that are known */
    size_t n_rows;   /* of them, those that the model has read */
    int32_t *tokens; /* [cap] as the others below */
    uint8_t *mine;
    uint16_t *feature, *state; /* [cap][n_embd]; state NULL: not wanted */
    uint16_t *states;          /* [cap][k][n_embd]; NULL: not wanted */
    int32_t *best;             /* [cap][top] */
    uint16_t *logp;
} lesson;

typedef struct lessons {
    const char *folder;
    size_t n_embd, top;
    bool state;
    size_t n_states;
    int64_t n_docs, n_rows;
    uint8_t *taken; /* [n_texts] texts that are there already */
    int64_t n_texts;
    int fd[9];
} lessons;

/* Makes the folder, or goes on in it. about: what lessons.json has to say, which a run that goes
 * on must share. Exits with a line where that cannot be. */
void lessons_open(lessons *l, const char *about);
/* Writes a text; exits where that fails, with nothing half there. */
void lessons_add(lessons *l, const lesson *d);
void lessons_close(lessons *l);

#endif
