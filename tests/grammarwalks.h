/* SPDX-License-Identifier: Apache-2.0
 * Ways through a grammar, byte by byte. */
#ifndef FTK_TESTS_GRAMMARWALKS_H
#define FTK_TESTS_GRAMMARWALKS_H

#include "grammar/grammar.h"

/* splitmix64 */
uint64_t grammar_draw(uint64_t *seed);
/* A text made by chance that the grammar takes, to be freed. Every byte of its way leads to an
 * end, and it hurries there after some; new lines are not among it. NULL: it has become too
 * long. */
char *grammar_say(grammar *g, uint64_t *seed);
bool grammar_takes(grammar *g, const char *text);
/* Whether it takes the text as the start of one. */
bool grammar_begins(grammar *g, const char *text);

#endif
