/* SPDX-License-Identifier: Apache-2.0
 * From a pattern to an automaton: parsed to a tree, then by Thompson's construction to one that
 * may be in several states, then to one that is in one. A text is read with a mark before it and
 * one behind, so that ^ and $ are characters like others. */
#include <stdlib.h>
#include <string.h>

#include "cli/bytes.h"
#include "grammar/automaton.h"

enum {
    BEGIN = LAST_CHARACTER + 1,
    END,
    MOST_PARTS = 8000, /* of the tree, and of Thompson's automaton */
    MOST_STATES = 4000,
    MOST_INTS = 4000000, /* of all states' sets */
    MOST_DEPTH = 100,
    MOST_TIMES = 2000, /* x{n} */
    NO_LIMIT = -1,
};

typedef struct range {
    uint32_t lo, hi;
} range;

typedef enum part_kind { SET, CAT, EITHER, TIMES } part_kind;

/* Of the tree. SET: ranges [a, b). CAT, EITHER: parts a and b; EMPTY is the empty text. TIMES:
 * part a, min to max times. */
typedef struct part {
    part_kind kind;
    int a, b, min, max;
} part;

enum { EMPTY = -1 };

typedef struct parser {
    const unsigned char *p, *end;
    const char *why;
    int depth;
    part *parts;
    int n_parts, cap_parts;
    range *ranges;
    int n_ranges, cap_ranges;
} parser;

static int fail(parser *s, const char *why)
{
    if (!s->why) s->why = why;
    s->p = s->end;
    return EMPTY;
}

/* ---- sets of characters */

static void add_range(parser *s, uint32_t lo, uint32_t hi)
{
    if (lo > hi) return;
    if (s->n_ranges == s->cap_ranges) {
        s->cap_ranges = 2 * s->cap_ranges + 32;
        s->ranges = cli_array(s->ranges, (size_t)s->cap_ranges, sizeof *s->ranges);
    }
    if (s->n_ranges < 4 * MOST_PARTS)
        s->ranges[s->n_ranges++] = (range){lo, hi};
    else
        fail(s, "is too long");
}

static int by_start(const void *a, const void *b)
{
    const range *const x = a, *const y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/* Ranges from `first` on: in order and apart, or what is between them. */
static void settle_ranges(parser *s, int first, bool negate)
{
    range *const r = s->ranges + first;
    int n = 0;
    const int all = s->n_ranges - first;
    if (all > 0) qsort(r, (size_t)all, sizeof *r, by_start);
    for (int i = 0; i < all; i++) {
        if (n > 0 && r[i].lo <= r[n - 1].hi + 1)
            r[n - 1].hi = r[i].hi > r[n - 1].hi ? r[i].hi : r[n - 1].hi;
        else
            r[n++] = r[i];
    }
    s->n_ranges = first + n;
    if (!negate) return;
    uint32_t next = 0;
    for (int i = 0; i < n; i++) {
        const range gone = s->ranges[first + i];
        if (gone.lo > next) add_range(s, next, gone.lo - 1);
        next = gone.hi + 1;
    }
    add_range(s, next, LAST_CHARACTER);
    memmove(s->ranges + first, s->ranges + first + n,
            (size_t)(s->n_ranges - first - n) * sizeof *s->ranges);
    s->n_ranges -= n;
}

/* \d \w \s and their opposites. */
static bool add_class(parser *s, unsigned char name)
{
    static const range digits[] = {{'0', '9'}},
                       words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                       spaces[] = {{9, 13}, {32, 32}}, /* those that all agree on; */
        all_spaces[] = {{9, 13},          {28, 32},         {0x85, 0x85},     {0xA0, 0xA0},
                        {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                        {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    const struct {
        char name;
        const range *set;
        int n;
    } classes[] = {{'d', digits, 1}, {'w', words, 4}, {'s', spaces, 2},
                   {'D', digits, 1}, {'W', words, 4}, {'S', all_spaces, 11}};
    for (int i = 0; i < 6; i++) {
        if (classes[i].name != name) continue;
        const range *const set = classes[i].set;
        uint32_t next = 0;
        for (int k = 0; k < classes[i].n; k++) {
            if (i < 3)
                add_range(s, set[k].lo, set[k].hi);
            else
                add_range(s, next, set[k].lo - 1);
            next = set[k].hi + 1;
        }
        if (i >= 3) add_range(s, next, LAST_CHARACTER);
        return true;
    }
    return false;
}

static int add_part(parser *s, part one)
{
    if (s->n_parts >= MOST_PARTS) return fail(s, "is too long");
    if (s->n_parts == s->cap_parts) {
        s->cap_parts = 2 * s->cap_parts + 32;
        s->parts = cli_array(s->parts, (size_t)s->cap_parts, sizeof *s->parts);
    }
    s->parts[s->n_parts] = one;
    return s->n_parts++;
}

static int add_set(parser *s, int first, bool negate)
{
    settle_ranges(s, first, negate);
    return add_part(s, (part){.kind = SET, .a = first, .b = s->n_ranges});
}

static int one_character(parser *s, uint32_t c)
{
    const int first = s->n_ranges;
    add_range(s, c, c);
    return add_set(s, first, false);
}

/* ---- reading */

static uint32_t next_character(parser *s)
{
    const unsigned char first = *s->p++;
    if (first < 0x80) return first;
    const int n = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    uint32_t c = first & (0x3Fu >> n);
    for (int i = 0; i < n && s->p < s->end; i++) c = c << 6 | (*s->p++ & 0x3F);
    return c;
}

static uint32_t hex_number(parser *s, int n)
{
    uint32_t c = 0;
    for (int i = 0; i < n; i++) {
        const int digit = s->p < s->end ? grammar_hex(*s->p) : -1;
        if (digit < 0) {
            fail(s, "has a \\x or \\u without its digits");
            return 0;
        }
        c = c << 4 | (uint32_t)digit;
        s->p++;
    }
    return c;
}

/* \uD83D\uDE00 is one character, too. */
static uint32_t escaped_unit(parser *s)
{
    uint32_t c = hex_number(s, 4);
    if (c >= 0xD800 && c < 0xDC00 && s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u') {
        s->p += 2;
        const uint32_t low = hex_number(s, 4);
        if (low < 0xDC00 || low > 0xDFFF) fail(s, "has half of a character");
        return 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    if (c >= 0xD800 && c < 0xE000) fail(s, "has half of a character");
    return c;
}

/* Behind a backslash: a character that stands for itself or another one. */
static uint32_t escaped(parser *s, bool in_class)
{
    static const char names[] = "tnrfv0", codes[] = "\t\n\r\f\v";
    if (s->p >= s->end) {
        fail(s, "ends in a backslash");
        return 0;
    }
    const unsigned char c = *s->p;
    const char *const at = memchr(names, c, 6);
    if (c >= 0x80) return next_character(s);
    s->p++;
    if (c == '0' && s->p < s->end && *s->p >= '0' && *s->p <= '9')
        fail(s, "has an octal escape, which is not supported");
    if (at) return (unsigned char)codes[at - names];
    if (c == 'x') return hex_number(s, 2);
    if (c == 'u') return escaped_unit(s);
    if (c == 'c' && s->p < s->end) return *s->p++ & 31u;
    if (c == 'b' && in_class) return '\b';
    if (c == 'b' || c == 'B')
        fail(s, "has a word boundary, which is not supported");
    else if (c == 'p' || c == 'P')
        fail(s, "has \\p, which is not supported");
    else if ((c >= '1' && c <= '9') || c == 'k')
        fail(s, "has a back reference, which is not supported");
    else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        fail(s, "has an escape that is not known");
    return c;
}

/* One end of a range in brackets; *class: it was a class of its own. */
static uint32_t class_end(parser *s, bool *class)
{
    *class = false;
    if (*s->p != '\\') return next_character(s);
    s->p++;
    if (s->p < s->end && add_class(s, *s->p)) {
        s->p++;
        *class = true;
        return 0;
    }
    return escaped(s, true);
}

static int brackets(parser *s)
{
    const int first = s->n_ranges;
    const bool negate = s->p < s->end && *s->p == '^';
    s->p += negate;
    while (s->p < s->end && *s->p != ']') {
        bool class, last_class = false;
        const uint32_t lo = class_end(s, &class);
        if (class) continue;
        uint32_t hi = lo;
        if (s->end - s->p >= 2 && s->p[0] == '-' && s->p[1] != ']') {
            s->p++;
            hi = class_end(s, &last_class);
        }
        if (last_class) {
            add_range(s, lo, lo);
            add_range(s, '-', '-');
            continue;
        }
        if (hi < lo) return fail(s, "has a range whose end is before its start");
        add_range(s, lo, hi);
    }
    if (s->p >= s->end) return fail(s, "has a [ without its ]");
    s->p++;
    return add_set(s, first, negate);
}

static int alternatives(parser *s);

static int group(parser *s)
{
    if (s->end - s->p >= 2 && s->p[0] == '?') {
        if (s->p[1] == ':') {
            s->p += 2;
        } else if (s->p[1] == '<' && s->end - s->p > 2 && s->p[2] != '=' && s->p[2] != '!') {
            while (s->p < s->end && *s->p != '>') s->p++;
            if (s->p < s->end) s->p++;
        } else {
            return fail(s, "looks ahead or behind, or has flags, which is not supported");
        }
    }
    if (++s->depth > MOST_DEPTH) return fail(s, "is nested too deeply");
    const int inner = alternatives(s);
    s->depth--;
    if (s->p >= s->end || *s->p != ')') return fail(s, "has a ( without its )");
    s->p++;
    return inner;
}

static int dot(parser *s)
{
    const int first = s->n_ranges;
    add_range(s, '\n', '\n');
    add_range(s, '\r', '\r');
    add_range(s, 0x2028, 0x2029);
    return add_set(s, first, true);
}

static int atom(parser *s)
{
    const unsigned char c = *s->p;
    if (c == '*' || c == '+' || c == '?') return fail(s, "repeats nothing");
    if (c >= 0x80) return one_character(s, next_character(s));
    s->p++;
    if (c == '(') return group(s);
    if (c == '[') return brackets(s);
    if (c == '.') return dot(s);
    if (c == '^') return one_character(s, BEGIN);
    if (c == '$') return one_character(s, END);
    if (c != '\\') return one_character(s, c);
    const int first = s->n_ranges;
    if (s->p < s->end && add_class(s, *s->p)) {
        s->p++;
        return add_set(s, first, false);
    }
    return one_character(s, escaped(s, false));
}

static bool digits(parser *s, int *v)
{
    if (s->p >= s->end || *s->p < '0' || *s->p > '9') return false;
    for (*v = 0; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
        if (*v <= MOST_TIMES) *v = 10 * *v + (*s->p - '0');
    return true;
}

/* {n}, {n,} or {n,m}; else the brace is a character like others. */
static bool counts(parser *s, int *min, int *max)
{
    const unsigned char *const from = s->p++;
    bool ok = digits(s, min);
    *max = *min;
    if (ok && s->p < s->end && *s->p == ',') {
        s->p++;
        if (!digits(s, max)) *max = NO_LIMIT;
    }
    ok = ok && s->p < s->end && *s->p == '}';
    s->p = ok ? s->p + 1 : from;
    return ok;
}

static int repeated(parser *s)
{
    int inner = atom(s);
    while (s->p < s->end) {
        int min = 0, max = NO_LIMIT;
        const unsigned char c = *s->p;
        if (c == '{') {
            if (!counts(s, &min, &max)) break;
        } else if (c == '*' || c == '+' || c == '?') {
            s->p++;
            min = c == '+';
            max = c == '?' ? 1 : NO_LIMIT;
        } else {
            break;
        }
        if (s->p < s->end && *s->p == '?') s->p++; /* lazy or not: the same texts */
        if (min > MOST_TIMES || max > MOST_TIMES) return fail(s, "repeats too often");
        if (max != NO_LIMIT && max < min) return fail(s, "has {n,m} with m below n");
        inner = add_part(s, (part){TIMES, inner, 0, min, max});
    }
    return inner;
}

static int sequence(parser *s)
{
    int all = EMPTY;
    while (s->p < s->end && *s->p != '|' && *s->p != ')') {
        /* a brace that counts nothing is a character: see counts() */
        const int one = *s->p == '{' ? (s->p++, one_character(s, '{')) : repeated(s);
        all = all == EMPTY ? one : add_part(s, (part){.kind = CAT, .a = all, .b = one});
    }
    return all;
}

static int alternatives(parser *s)
{
    int all = sequence(s);
    while (s->p < s->end && *s->p == '|') {
        s->p++;
        const int one = sequence(s);
        all = add_part(s, (part){.kind = EITHER, .a = all, .b = one});
    }
    return all;
}

/* ---- Thompson's automaton: a node reads a set and goes on, or goes on to one or two at once */

typedef struct node {
    int set;         /* a part, or -1 */
    int next, other; /* -1: none */
} node;

typedef struct thompson {
    const parser *s;
    node *nodes;
    int n, cap;
    bool full;
} thompson;

static int add_node(thompson *t, node one)
{
    if (t->n >= MOST_PARTS) {
        t->full = true;
        return 0;
    }
    if (t->n == t->cap) {
        t->cap = 2 * t->cap + 64;
        t->nodes = cli_array(t->nodes, (size_t)t->cap, sizeof *t->nodes);
    }
    t->nodes[t->n] = one;
    return t->n++;
}

/* Returns where the part begins that goes on at `next`. */
static int build(thompson *t, int index, int next)
{
    if (index == EMPTY || t->full) return next;
    const part p = t->s->parts[index];
    if (p.kind == SET) return add_node(t, (node){index, next, -1});
    if (p.kind == CAT) return build(t, p.a, build(t, p.b, next));
    if (p.kind == EITHER) {
        const int b = build(t, p.b, next);
        return add_node(t, (node){-1, build(t, p.a, next), b});
    }
    if (p.max == NO_LIMIT) {
        const int loop = add_node(t, (node){-1, -1, next});
        const int inner = build(t, p.a, loop);
        if (!t->full) t->nodes[loop].next = inner;
        next = loop;
    }
    for (int i = p.min; i < p.max && !t->full; i++)
        next = add_node(t, (node){-1, build(t, p.a, next), next});
    for (int i = 0; i < p.min && !t->full; i++) next = build(t, p.a, next);
    return next;
}

/* ---- one state at a time */

typedef struct subsets {
    const thompson *t;
    int final;
    int *sets; /* one behind the other, each in order */
    size_t n_ints, cap_ints;
    struct stretch {
        size_t first, n;
    } * at; /* [state] */
    size_t n, cap;
    bool *in;   /* [node] of the set in hand */
    int *stack; /* [node] */
} subsets;

static void push_int(subsets *u, int v)
{
    if (u->n_ints == u->cap_ints) {
        u->cap_ints = 2 * u->cap_ints + 256;
        u->sets = cli_array(u->sets, u->cap_ints, sizeof *u->sets);
    }
    u->sets[u->n_ints++] = v;
}

static void enter(subsets *u, int at)
{
    int n = 0;
    u->stack[n++] = at;
    while (n > 0) {
        const int i = u->stack[--n];
        if (i < 0 || u->in[i]) continue;
        u->in[i] = true;
        const node *const one = &u->t->nodes[i];
        if (one->set >= 0 || i == u->final) continue;
        if (one->other >= 0 && !u->in[one->other]) u->stack[n++] = one->other;
        if (one->next >= 0 && !u->in[one->next]) u->stack[n++] = one->next;
    }
}

/* The state of the set in hand, which is emptied. */
static int state_of(subsets *u)
{
    const size_t first = u->n_ints;
    for (int i = 0; i < u->t->n; i++)
        if (u->in[i] && (u->t->nodes[i].set >= 0 || i == u->final)) push_int(u, i);
    memset(u->in, 0, (size_t)u->t->n * sizeof *u->in);
    const size_t n = u->n_ints - first;
    for (size_t i = 0; i < u->n; i++)
        if (u->at[i].n == n &&
            memcmp(u->sets + u->at[i].first, u->sets + first, n * sizeof *u->sets) == 0) {
            u->n_ints = first;
            return (int)i;
        }
    if (u->n == u->cap) {
        u->cap = 2 * u->cap + 64;
        u->at = cli_array(u->at, u->cap, sizeof *u->at);
    }
    u->at[u->n].first = first;
    u->at[u->n].n = n;
    return (int)u->n++;
}

static bool reads(const subsets *u, int i, uint32_t c)
{
    const node *const one = &u->t->nodes[i];
    if (one->set < 0) return false;
    const part *const set = &u->t->s->parts[one->set];
    for (int r = set->a; r < set->b; r++)
        if (u->t->s->ranges[r].lo <= c && c <= u->t->s->ranges[r].hi) return true;
    return false;
}

static int after(subsets *u, size_t state, uint32_t c)
{
    const size_t first = u->at[state].first, n = u->at[state].n;
    for (size_t i = 0; i < n; i++)
        if (reads(u, u->sets[first + i], c)) enter(u, u->t->nodes[u->sets[first + i]].next);
    return state_of(u);
}

static bool has_final(const subsets *u, size_t state)
{
    for (size_t i = 0; i < u->at[state].n; i++)
        if (u->sets[u->at[state].first + i] == u->final) return true;
    return false;
}

static int by_value(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Where characters begin to be read otherwise. Returns how many. */
static size_t cuts_of(const subsets *u, size_t state, uint32_t *cuts, size_t most)
{
    size_t n = 0;
    cuts[n++] = 0;
    for (size_t i = 0; i < u->at[state].n; i++) {
        const node *const one = &u->t->nodes[u->sets[u->at[state].first + i]];
        if (one->set < 0) continue;
        const part *const set = &u->t->s->parts[one->set];
        for (int r = set->a; r < set->b && n + 2 <= most; r++) {
            const range in = u->t->s->ranges[r];
            if (in.lo <= LAST_CHARACTER) cuts[n++] = in.lo;
            if (in.hi < LAST_CHARACTER) cuts[n++] = in.hi + 1;
        }
    }
    qsort(cuts, n, sizeof *cuts, by_value);
    size_t kept = 1;
    for (size_t i = 1; i < n; i++)
        if (cuts[i] != cuts[kept - 1]) cuts[kept++] = cuts[i];
    return kept;
}

static bool determine(subsets *u, automaton *a, uint32_t *cuts, size_t most, size_t *work)
{
    for (size_t i = 0; i < u->n; i++) {
        if (u->n > MOST_STATES || u->n_ints > MOST_INTS || *work > PATTERN_WORK) return false;
        const size_t n = cuts_of(u, i, cuts, most);
        const int end = after(u, i, END);
        automaton_add(a, has_final(u, (size_t)end));
        for (size_t k = 0; k < n; k++) {
            const int to = after(u, i, cuts[k]);
            *work += (size_t)u->t->n + u->n + 8 * u->at[i].n;
            const uint32_t last = k + 1 < n ? cuts[k + 1] - 1 : LAST_CHARACTER;
            if (u->at[to].n > 0) automaton_edge_add(a, cuts[k], last, to);
        }
    }
    return true;
}

static bool convert(const thompson *t, int start, int final, automaton *a, size_t *work)
{
    const size_t n = (size_t)t->n, most = 2 * (size_t)t->s->n_ranges * 4 + 16;
    subsets u = {.t = t, .final = final};
    u.in = cli_array(NULL, n, sizeof *u.in);
    u.stack = cli_array(NULL, 2 * n + 2, sizeof *u.stack);
    uint32_t *const cuts = cli_array(NULL, most, sizeof *cuts);
    memset(u.in, 0, n * sizeof *u.in);
    enter(&u, start);
    const int before = state_of(&u);
    u.at[0] = u.at[after(&u, (size_t)before, BEGIN)]; /* the automaton starts behind the mark */
    u.n = 1;
    const bool ok = determine(&u, a, cuts, most, work);
    free(u.in);
    free(u.stack);
    free(u.sets);
    free(u.at);
    free(cuts);
    return ok;
}

/* Whatever stands before and behind, marks among it. */
static int anything(parser *s)
{
    const int first = s->n_ranges;
    add_range(s, 0, END);
    return add_part(s, (part){TIMES, add_set(s, first, false), 0, 0, NO_LIMIT});
}

bool automaton_pattern(automaton *a, const char *pattern, size_t n, size_t *work, const char **why)
{
    parser s = {.p = (const unsigned char *)pattern, .end = (const unsigned char *)pattern + n};
    thompson t = {.s = &s};
    *a = (automaton){0};
    const int before = anything(&s);
    int all = alternatives(&s);
    if (!s.why && s.p < s.end) fail(&s, "has a ) without its (");
    if (!s.why) {
        const int final = add_node(&t, (node){-1, -1, -1});
        const int start = build(&t, before, build(&t, all, build(&t, before, final)));
        if (t.full || !convert(&t, start, final, a, work)) s.why = "is too large";
    }
    free(s.parts);
    free(s.ranges);
    free(t.nodes);
    *why = s.why;
    if (s.why)
        automaton_free(a);
    else
        automaton_trim(a);
    return !s.why;
}
