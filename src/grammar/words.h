/* SPDX-License-Identifier: Apache-2.0
 * A vocabulary's tokens as bytes, in a trie. */
#ifndef FTK_GRAMMAR_WORDS_H
#define FTK_GRAMMAR_WORDS_H

#include "grammar/grammar.h"

/* A node of a trie, in the order of a walk: its first child stands behind it. */
typedef struct trie_node {
    uint32_t skip;  /* the node behind all of its descendants */
    uint32_t first; /* of its tokens */
    uint16_t n;
    uint8_t depth; /* of the root's children: 0 */
    uint8_t byte;
} trie_node;

typedef struct trie {
    trie_node *nodes;
    size_t n, cap;
    int32_t *tokens;
} trie;

enum { LONGEST_WORD = 255 }; /* bytes; longer tokens are not used */

struct grammar_words {
    int n_vocab;
    char *bytes;   /* of all tokens, one behind the other */
    size_t *start; /* [n_vocab + 1] */
    int32_t *ends; /* that end an answer */
    size_t n_ends;
    trie all, odd;    /* odd: those that are not smooth */
    uint32_t *smooth; /* bits: may stand within any free string without changing where it is */
    uint8_t *lengths; /* [n_vocab] characters of smooth ones, and 0 */
    size_t longest_smooth;
};

static inline const unsigned char *grammar_word(const grammar_words *w, int32_t token, size_t *n)
{
    *n = w->start[token + 1] - w->start[token];
    return (const unsigned char *)w->bytes + w->start[token];
}
bool grammar_is_end(const grammar_words *w, int32_t token);

#endif
