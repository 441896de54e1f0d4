/* SPDX-License-Identifier: Apache-2.0
 *
 * Retrieval from the sequence's own past: an online suffix automaton over the committed tokens
 * (Blumer et al., "The smallest automaton recognizing the subwords of a text", 1985; the use as a
 * drafter: SAM-Decoding, arXiv 2411.10666). Appending costs amortised constant time; all memory,
 * about 130 bytes a token, is taken by init.
 */
#ifndef FTK_SUFFIX_H
#define FTK_SUFFIX_H

#include "foretoken.h"

typedef struct ftk_suffix_state ftk_suffix_state;
typedef struct ftk_suffix_edge ftk_suffix_edge;

/* Where the end of the text occurred before: its last `length` tokens also end in front of text
 * positions `first` (earliest) and `recent`. length 0: nowhere. */
typedef struct ftk_match {
    int length;
    int first, recent;
} ftk_match;

typedef struct ftk_suffix {
    int cap;  /* tokens */
    int n;    /* tokens appended */
    int last; /* state of the whole text */
    int n_states, n_edges;
    uint32_t hash_mask;
    /* The longest end of the text that occurred before. `recent` is the latest such occurrence,
     * save in texts with more than 32 nested repeats, where it is some occurrence. */
    ftk_match match;
    ftk_suffix_state *states; /* [2 * cap + 1] */
    ftk_suffix_edge *edges;   /* [3 * cap + 1] */
    int32_t *hash;            /* [hash_mask + 1] edge + 1, or 0 */
} ftk_suffix;

/* For up to cap tokens. Errors: NOMEM; ftk_suffix_free() is due then, too. */
ftk_err ftk_suffix_init(ftk_suffix *s, const ftk_host *host, int cap);
void ftk_suffix_free(ftk_suffix *s, const ftk_host *host);
/* Forgets all tokens. */
void ftk_suffix_reset(ftk_suffix *s);
/* Appends text[s->n..n), as far as there is room. */
void ftk_suffix_sync(ftk_suffix *s, const int32_t *text, size_t n);
/* s->match, of an end of at most max_length tokens. */
ftk_match ftk_suffix_at_most(const ftk_suffix *s, int max_length);
/* The tokens that stand at text[from..), at most `most`, going on periodically where the text ends:
 * what follows if it repeats once more. Returns how many. from < n, or nothing is written. */
int ftk_suffix_follow(const int32_t *text, size_t n, int from, int32_t *out, int most);

#endif
