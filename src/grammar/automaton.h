/* SPDX-License-Identifier: Apache-2.0
 * Finite automata over characters: Unicode code points within strings, bytes elsewhere. */
#ifndef FTK_GRAMMAR_AUTOMATON_H
#define FTK_GRAMMAR_AUTOMATON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAST_CHARACTER = 0x10FFFF };

typedef struct automaton_edge {
    uint32_t lo, hi;
    int to;
} automaton_edge;

typedef struct automaton_state {
    size_t first; /* of its edges, which are in order and do not overlap */
    size_t n;
    bool accepts;
} automaton_state;

/* State 0 is the start. All-zero is empty: no state, nothing is accepted. */
typedef struct automaton {
    automaton_state *states;
    size_t n, cap;
    automaton_edge *edges;
    size_t n_edges, cap_edges;
} automaton;

/* States are added in order, each with its edges before the next one. */
void automaton_add(automaton *a, bool accepts);
void automaton_edge_add(automaton *a, uint32_t lo, uint32_t hi, int to);
/* Takes out what leads nowhere; all of it, if nothing is accepted. */
void automaton_trim(automaton *a);
/* -1: none. */
int automaton_step(const automaton *a, int state, uint32_t c);
/* Whether from this state on everything is accepted. */
bool automaton_takes_all(const automaton *a, int state);
void automaton_free(automaton *a);

/* The text alone; any character; any text but these (n of them, sizes in bytes, UTF-8). */
automaton automaton_text(const char *text, size_t n);
automaton automaton_any(void);
automaton automaton_texts(const char *const *texts, const size_t *sizes, size_t n, bool within);

/* The value of a hexadecimal digit; -1: it is none. */
static inline int grammar_hex(unsigned char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* ---- regexp.c */

enum { PATTERN_WORK = 60000000 }; /* of which all patterns of a schema may take so much together */

/* A pattern as JSON schemas have it, ECMA-262's without look-around, back references, word
 * boundaries and \p: it may stand anywhere in the text but where ^ and $ say otherwise. *work
 * grows by what it took. False: *why says why not, in a few words. */
bool automaton_pattern(automaton *a, const char *pattern, size_t n, size_t *work, const char **why);

/* ---- numerals.c */

typedef struct numeral_bound {
    bool given, exclusive, negative;
    char whole[400], part[400]; /* digits, before and behind the point */
} numeral_bound;

/* Numbers from lo to hi as JSON writes them without an exponent. */
automaton automaton_numerals(const numeral_bound *lo, const numeral_bound *hi, bool whole);

#endif
