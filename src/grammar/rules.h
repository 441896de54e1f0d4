/* SPDX-License-Identifier: Apache-2.0
 * Between schema.c, which makes a grammar's rules, states.c, which walks them, and tokenmask.c. */
#ifndef FTK_GRAMMAR_RULES_H
#define FTK_GRAMMAR_RULES_H

#include "grammar/automaton.h"
#include "grammar/grammar.h"

enum {
    GRAMMAR_MOST_RULES = 1 << 16,
    GRAMMAR_MOST_DEPTH = 48, /* of objects and lists within each other, in an answer */
    GRAMMAR_SEEN_SLOTS = 1 << 13,
    GRAMMAR_ENDLESS = UINT32_MAX,
    GRAMMAR_NEVER = 0xFFFF, /* rule.depth: nothing fits, however deep */
};

typedef enum rule_kind {
    RULE_BYTES,  /* an automaton over bytes */
    RULE_STRING, /* a JSON string: an automaton over its characters, and how many they may be */
    RULE_ALL,    /* parts one behind the other; nests: one level deeper */
    RULE_ONE,    /* one of the parts */
    RULE_TIMES,  /* the one part min to max times */
} rule_kind;

typedef struct rule {
    rule_kind kind;
    bool nests;
    bool plain;     /* strings: only what has to be escaped is */
    uint16_t depth; /* levels that it takes at least */
    uint32_t min, max;
    int automaton;    /* of bytes and strings */
    uint8_t *lengths; /* strings with a pattern and bounds: [state][length <= most], or NULL */
    size_t first, n;  /* of its parts */
} rule;

/* ---- quoted.c: one string, byte by byte. Zeros are its start. */

typedef struct quoted {
    int state;
    uint32_t count; /* of characters, as far as that matters */
    uint32_t part;  /* what is read of a character */
} quoted;

typedef enum quoted_end { QUOTED_WRONG, QUOTED_ON, QUOTED_CLOSED } quoted_end;

quoted_end grammar_quoted_step(const grammar *g, const rule *r, quoted *q, unsigned char byte);
/* Within a character of several bytes. */
bool grammar_quoted_within(const quoted *q);
/* Between two characters. */
bool grammar_quoted_between(const quoted *q);
/* Finds which lengths lead to an end; false: none does from the start. */
bool grammar_quoted_prepare(const grammar *g, rule *r);

/* ---- ruleset.c: rules of a grammar that is being made. All return the rule. */

int grammar_add_rule(grammar *g, rule one, const int *parts, size_t n);
/* Gives a rule that was added without parts its only one. */
void grammar_set_part(grammar *g, int of, int part);
/* Each takes the automaton. */
int grammar_add_bytes(grammar *g, automaton a);
int grammar_add_string(grammar *g, automaton a, bool plain, uint32_t min, uint32_t max);
int grammar_add_text(grammar *g, const char *text, size_t n);
int grammar_add_pattern(grammar *g, const char *pattern); /* of bytes, one of ours, anchored */
int grammar_add_all(grammar *g, bool nests, const int *parts, size_t n);
int grammar_add_one(grammar *g, const int *parts, size_t n);
int grammar_add_times(grammar *g, int part, uint32_t min, uint32_t max);
int grammar_add_nothing(grammar *g); /* the empty text */
/* How deep each rule goes at least, with those that nothing fits found. */
void grammar_find_depths(grammar *g);

/* ---- values.c: parts of JSON that many schemas share */

typedef struct common_rules {
    int space; /* what may stand in front of a member, */
    int comma; /* behind the one before it, */
    int end_object, end_list, begin_object, begin_list;
    int colon;
    int string, integer, number, boolean, null, any, object, list;
} common_rules;

void grammar_add_common(grammar *g, common_rules *c);
/* "name": and what may stand behind it. */
int grammar_add_name(grammar *g, const char *name, size_t n);
/* A value that JSON writes so, and no other way. NULL on failure, to be freed. */
char *grammar_literal(const json_t *value);

/* ---- states.c */

/* What is left to be read, from the innermost rule outwards; 0: nothing. Equal ones are one. */
typedef struct frame {
    int rule;
    int parent;
    quoted at; /* bytes: state alone; all: the next part; times: how often so far, in count */
    uint32_t depth;
} frame;

/* A set of frames, in order. */
typedef struct frame_set {
    size_t first, n;
    int *next;      /* [256] -1: not known; NULL: none is */
    uint32_t *mask; /* of tokens, or NULL */
} frame_set;

typedef struct pair {
    int rule, parent; /* rule -1: the frame `parent` goes on */
} pair;

struct grammar {
    const grammar_words *words;
    rule *rules;
    size_t n_rules, cap_rules;
    int *parts;
    size_t n_parts, cap_parts;
    automaton *automata;
    size_t n_automata, cap_automata;
    int root;

    /* what walking makes, and grammar_tidy() forgets */
    uint64_t epoch;
    frame *frames; /* [0] is the end */
    size_t n_frames, cap_frames;
    int *frame_at; /* [frame_slots] frame + 1, or 0 */
    size_t frame_slots;
    frame_set *states; /* [0] is dead, [1] the start */
    size_t n_states, cap_states;
    int *members;
    size_t n_members, cap_members;
    int *state_at;
    size_t state_slots;
    size_t bytes; /* of rows and masks */
    pair *todo;   /* of the closure in hand */
    size_t n_todo, cap_todo, n_seen;
    pair seen[GRAMMAR_SEEN_SLOTS];
    uint32_t seen_in[GRAMMAR_SEEN_SLOTS], closure; /* in which one: others are forgotten */
    int *found;                                    /* its frames */
    size_t n_found, cap_found;
};

void grammar_open_states(grammar *g);
void grammar_close_states(grammar *g);

/* ---- tokenmask.c */

/* Of a state that has one frame, within a string where any text may follow: characters that may
 * come; 0: it is none such. */
size_t grammar_free_text(const grammar *g, int state);

#endif
