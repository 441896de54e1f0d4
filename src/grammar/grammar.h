/* SPDX-License-Identifier: Apache-2.0
 *
 * What an answer may look like: JSON by a schema, alone or within words that stand around it, as an
 * automaton over bytes with a stack, and the masks of tokens that follow from it.
 *
 * A grammar is made by any thread. What walks it (all below grammar_new()) changes its tables: that
 * is for one thread at a time. */
#ifndef FTK_GRAMMAR_GRAMMAR_H
#define FTK_GRAMMAR_GRAMMAR_H

#include <jansson.h>

#include "cli/common.h"

/* ---- words.c: a vocabulary as bytes. Read-only once it is made. */

typedef struct grammar_words grammar_words;

/* shown: control tokens that stand for their text; the others can't come. */
grammar_words *grammar_words_new(const ftk_model *m, int n_vocab, const int32_t *shown,
                                 size_t n_shown);
void grammar_words_free(grammar_words *w);

/* ---- schema.c: from a JSON schema to rules */

typedef struct grammar grammar;

/* A value that fits schema, with fixed texts around it ("" for none). */
typedef struct grammar_piece {
    const char *before;
    const json_t *schema;
    const char *after;
} grammar_piece;

typedef struct grammar_error {
    char path[200]; /* a JSON pointer into the schema: "#/properties/a" */
    char message[256];
} grammar_error;

/* One of the pieces, or 1 to `most` of them with `between` in between. NULL: *e says what of a
 * schema is wrong, contradicts itself or is not supported. words may be NULL where no masks are
 * asked for. */
grammar *grammar_new(const grammar_words *words, const grammar_piece *pieces, size_t n,
                     const char *between, size_t most, grammar_error *e);
void grammar_free(grammar *g);

/* ---- states.c: walking it byte by byte. A state is a number, good until grammar_epoch() changes,
 * which it does between calls only, by grammar_tidy(). */

enum { GRAMMAR_DEAD = 0 };

int grammar_start(grammar *g);
/* GRAMMAR_DEAD: the byte may not come there. Every other state can be brought to an end. */
int grammar_step(grammar *g, int state, unsigned char byte);
bool grammar_may_end(const grammar *g, int state);
/* Forgets all states where they have become many. */
void grammar_tidy(grammar *g);
uint64_t grammar_epoch(const grammar *g);

/* ---- tokenmask.c: the same by tokens */

/* Sets the bits of the tokens that may follow: see ftk_mask. */
void grammar_mask(grammar *g, int state, uint32_t *allowed);

/* An answer on its way through a grammar, which the caller keeps. All-zero but for g and start is
 * valid. */
typedef struct grammar_walk {
    grammar *g;
    size_t start; /* tokens before the answer */
    int32_t *tokens;
    int *states; /* [i]: behind tokens[0..i) of the answer */
    size_t n, cap;
    uint64_t epoch;
} grammar_walk;

void grammar_walk_free(grammar_walk *w);
/* A ftk_mask, with a grammar_walk for its ctx. */
void grammar_allow(void *walk, const int32_t *tokens, size_t n, uint32_t *allowed);
/* What must come behind tokens[0..n), whatever is chosen: as text, at most cap bytes. */
size_t grammar_forced(grammar_walk *w, const int32_t *tokens, size_t n, char *text, size_t cap);

#endif
