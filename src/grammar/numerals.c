/* SPDX-License-Identifier: Apache-2.0
 * Numbers within bounds, as an automaton over their digits. How long a number is shows only at
 * its end, so digits are compared with a bound's first ones, and lengths later. */
#include <stdlib.h>
#include <string.h>

#include "cli/bytes.h"
#include "grammar/automaton.h"

enum { MOST_WHOLE = 18, MOST_BEFORE = 15, MOST_PART = 15, MOST_STATES = 2000 };

typedef enum order { BELOW, SAME, ABOVE } order;

/* Where a number is: so many digits read, before or behind the point; 0 of the latter: behind
 * the point itself. How what is read compares with the same places of the bounds. */
typedef enum phase { SIGN, WHOLE, PART } phase;
typedef struct place {
    phase phase;
    bool negative;
    bool zero; /* the whole part is a 0 */
    int n;
    order lo, hi;
} place;

/* Of what is not negative. */
typedef struct limits {
    bool possible;
    numeral_bound lo, hi;
} limits;

typedef struct numerals {
    limits sides[2]; /* not negative, negative: of its amount */
    bool whole;
    place places[MOST_STATES];
    int n;
} numerals;

static bool same_place(const place *a, const place *b)
{
    return a->phase == b->phase && a->negative == b->negative && a->zero == b->zero &&
           a->n == b->n && a->lo == b->lo && a->hi == b->hi;
}

static int number_of(numerals *x, place p)
{
    for (int i = 0; i < x->n; i++)
        if (same_place(&x->places[i], &p)) return i;
    if (x->n == MOST_STATES) return -1;
    x->places[x->n] = p;
    return x->n++;
}

static order compare(order so_far, char digit, char bound)
{
    return so_far != SAME ? so_far : digit < bound ? BELOW : digit > bound ? ABOVE : SAME;
}

/* A digit more before the point. */
static order compare_whole(order so_far, const numeral_bound *b, int n, char digit)
{
    return b->whole[n] ? compare(so_far, digit, b->whole[n]) : so_far;
}

/* The whole parts, at their end. */
static order compare_lengths(order so_far, const numeral_bound *b, int n)
{
    const int length = (int)strlen(b->whole);
    return n < length ? BELOW : n > length ? ABOVE : so_far;
}

static bool only_zeros(const char *digits)
{
    return digits[strspn(digits, "0")] == 0;
}

/* A number that ends where it compares so: against the bound, with zeros behind. */
static order at_end(order so_far, const numeral_bound *b, int n_part)
{
    const int length = (int)strlen(b->part);
    return so_far != SAME || n_part >= length || only_zeros(b->part + n_part) ? so_far : BELOW;
}

static bool within(const limits *l, order lo, order hi)
{
    const bool above = !l->lo.given || lo == ABOVE || (lo == SAME && !l->lo.exclusive);
    return above && (!l->hi.given || hi == BELOW || (hi == SAME && !l->hi.exclusive));
}

/* p behind its whole part. */
static place end_of_whole(const numerals *x, place p)
{
    const limits *const l = &x->sides[p.negative];
    p.lo = compare_lengths(p.lo, &l->lo, p.n);
    p.hi = compare_lengths(p.hi, &l->hi, p.n);
    return p;
}

static bool accepts(const numerals *x, place p)
{
    if (p.phase == SIGN || p.n == 0) return false;
    const limits *const l = &x->sides[p.negative];
    if (!l->possible) return false;
    const int n_part = p.phase == PART ? p.n : 0;
    if (p.phase == WHOLE) p = end_of_whole(x, p);
    return within(l, at_end(p.lo, &l->lo, n_part), at_end(p.hi, &l->hi, n_part));
}

static bool digit_follows(const numerals *x, place *p, char digit)
{
    const limits *const l = &x->sides[p->negative];
    if (p->phase == SIGN)
        *p = (place){.phase = WHOLE, .negative = p->negative, .lo = SAME, .hi = SAME};
    if (p->zero && p->phase == WHOLE) return false;
    if (p->n == (p->phase == PART ? MOST_PART : x->whole ? MOST_WHOLE : MOST_BEFORE)) return false;
    if (p->phase == WHOLE) {
        p->zero = p->n == 0 && digit == '0';
        p->lo = compare_whole(p->lo, &l->lo, p->n, digit);
        p->hi = compare_whole(p->hi, &l->hi, p->n, digit);
    } else {
        const int n = p->n;
        p->lo = compare(p->lo, digit, n < (int)strlen(l->lo.part) ? l->lo.part[n] : '0');
        p->hi = compare(p->hi, digit, n < (int)strlen(l->hi.part) ? l->hi.part[n] : '0');
    }
    p->n++;
    return true;
}

/* A whole part that is below lo's or above hi's stays so. */
static bool may_go_on(const numerals *x, place p)
{
    const limits *const l = &x->sides[p.negative];
    return !(l->lo.given && p.lo == BELOW) && !(l->hi.given && p.hi == ABOVE);
}

static void add_edges(numerals *x, automaton *a, place p)
{
    if (p.phase == SIGN && !p.negative)
        automaton_edge_add(a, '-', '-', number_of(x, (place){.phase = SIGN, .negative = true}));
    if (p.phase == WHOLE && !x->whole && p.n > 0) {
        place behind = end_of_whole(x, p);
        if (may_go_on(x, behind)) {
            behind.phase = PART;
            behind.n = 0;
            behind.zero = false;
            automaton_edge_add(a, '.', '.', number_of(x, behind));
        }
    }
    for (char digit = '0'; digit <= '9'; digit++) {
        place next = p;
        if (!digit_follows(x, &next, digit)) continue;
        if (next.phase == PART && !may_go_on(x, next)) continue;
        const int to = number_of(x, next);
        if (to >= 0) automaton_edge_add(a, (uint32_t)digit, (uint32_t)digit, to);
    }
}

/* The amounts of one sign. */
static limits side_of(const numeral_bound *lo, const numeral_bound *hi, bool negative)
{
    const numeral_bound zero = {.given = true, .exclusive = negative, .whole = "0"};
    limits l = {.possible = true, .lo = negative ? *hi : *lo, .hi = negative ? *lo : *hi};
    if (l.hi.given && l.hi.negative != negative) l.possible = false;
    if (!l.lo.given || l.lo.negative != negative) l.lo = zero;
    /* -0 is 0, and written so */
    if (negative && only_zeros(l.lo.whole) && only_zeros(l.lo.part)) l.lo = zero;
    return l;
}

automaton automaton_numerals(const numeral_bound *lo, const numeral_bound *hi, bool whole)
{
    numerals *const x = cli_array(NULL, 1, sizeof *x);
    automaton a = {0};
    *x = (numerals){.whole = whole};
    x->sides[0] = side_of(lo, hi, false);
    x->sides[1] = side_of(lo, hi, true);
    number_of(x, (place){.phase = SIGN});
    for (int i = 0; i < x->n; i++) {
        automaton_add(&a, accepts(x, x->places[i]));
        add_edges(x, &a, x->places[i]);
    }
    free(x);
    automaton_trim(&a);
    return a;
}
