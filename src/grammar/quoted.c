/* SPDX-License-Identifier: Apache-2.0
 * A JSON string byte by byte: UTF-8 and escapes become characters, and a byte may come only where
 * some character that begins so leads to an end. */
#include <stdlib.h>
#include <string.h>

#include "grammar/rules.h"

/* quoted.part: what is read of a character, in the top byte; numbers below. */
enum {
    OPENING, /* the quote is still to come */
    BETWEEN,
    IN_UTF8,   /* its length, bytes left, bits so far */
    ESCAPED,   /* behind the backslash */
    IN_HEX,    /* digits read, and their value */
    IN_LOW_A,  /* of a pair, the first half is read: 10 bits */
    IN_LOW_B,  /* and a backslash */
    IN_LOW_HEX /* and the u: the first half, digits read, and their value */
};

static uint32_t kind_of(uint32_t part)
{
    return part >> 28;
}

static uint32_t pack(uint32_t kind, uint32_t a, uint32_t b, uint32_t value)
{
    return kind << 28 | a << 25 | b << 22 | value;
}

static const char short_names[] = "\"\\/bfnrt", short_codes[] = "\"\\/\b\f\n\r\t";

/* ---- which characters may come */

static const automaton *automaton_of(const grammar *g, const rule *r)
{
    return &g->automata[r->automaton];
}

/* Lengths that are told apart: 0 to this. */
static uint32_t last_count(const rule *r)
{
    return r->max == GRAMMAR_ENDLESS ? r->min : r->max;
}

/* False: one more is too many. */
static bool count_one(const rule *r, uint32_t *count)
{
    if (*count < last_count(r))
        ++*count;
    else if (r->max != GRAMMAR_ENDLESS)
        return false;
    return true;
}

static bool leads_on(const rule *r, int state, uint32_t count)
{
    return !r->lengths || r->lengths[(size_t)state * (last_count(r) + 1) + count];
}

/* Whether some character from lo to hi may come. Halves of pairs and NUL are none. */
static bool some(const grammar *g, const rule *r, const quoted *q, uint32_t lo, uint32_t hi)
{
    const automaton *const a = automaton_of(g, r);
    const automaton_state *const s = &a->states[q->state];
    uint32_t count = q->count;
    if (lo == 0) lo = 1;
    if (lo >= 0xD800 && lo <= 0xDFFF) lo = 0xE000;
    if (hi >= 0xD800 && hi <= 0xDFFF) hi = 0xD7FF;
    if (hi > LAST_CHARACTER) hi = LAST_CHARACTER;
    if (lo > hi || !count_one(r, &count)) return false;
    size_t at = s->first, end = s->first + s->n;
    for (size_t top = end; at < top;) { /* the first edge that ends at lo or behind it */
        const size_t mid = at + (top - at) / 2;
        if (a->edges[mid].hi < lo)
            at = mid + 1;
        else
            top = mid;
    }
    for (; at < end && a->edges[at].lo <= hi; at++) {
        const uint32_t from = a->edges[at].lo > lo ? a->edges[at].lo : lo;
        const uint32_t to = a->edges[at].hi < hi ? a->edges[at].hi : hi;
        if (from >= 0xD800 && to <= 0xDFFF) continue;
        if (leads_on(r, a->edges[at].to, count)) return true;
    }
    return false;
}

static quoted_end take(const grammar *g, const rule *r, quoted *q, uint32_t c)
{
    if (!some(g, r, q, c, c)) return QUOTED_WRONG;
    q->state = automaton_step(automaton_of(g, r), q->state, c);
    count_one(r, &q->count);
    q->part = pack(BETWEEN, 0, 0, 0);
    return QUOTED_ON;
}

static bool is_short(uint32_t c)
{
    return c > 0 && c < 0x80 && memchr(short_codes, (int)c, sizeof short_codes - 1);
}

/* Whether \u and units of UTF-16 from lo to hi may come. */
static bool some_unit(const grammar *g, const rule *r, const quoted *q, uint32_t lo, uint32_t hi)
{
    if (r->plain) {
        for (uint32_t c = lo; c <= hi && c < 0x20; c++)
            if (!is_short(c) && some(g, r, q, c, c)) return true;
        return false;
    }
    const uint32_t first = lo > 0xD800 ? lo : 0xD800, last = hi < 0xDBFF ? hi : 0xDBFF;
    if (some(g, r, q, lo, hi)) return true;
    return first <= last && some(g, r, q, 0x10000 + ((first - 0xD800) << 10),
                                 0x10000 + ((last - 0xD800) << 10) + 0x3FF);
}

static bool some_escape(const grammar *g, const rule *r, const quoted *q)
{
    if (!r->plain) return some(g, r, q, 1, LAST_CHARACTER);
    return some(g, r, q, 1, 0x1F) || some(g, r, q, '"', '"') || some(g, r, q, '\\', '\\');
}

/* ---- bytes */

/* Where all characters are welcome it is the same which one has begun: states stay few. */
static uint32_t whichever(const grammar *g, const rule *r, const quoted *q, uint32_t n,
                          uint32_t left, uint32_t bits)
{
    static const uint32_t examples[] = {0xC0, 0x1000, 0x40000};
    return automaton_takes_all(automaton_of(g, r), q->state) ? examples[n - 2] >> 6 * left : bits;
}

static quoted_end begin_utf8(const grammar *g, const rule *r, quoted *q, unsigned char c)
{
    const uint32_t n = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    static const uint32_t least[] = {0x80, 0x800, 0x10000};
    if (c < 0xC2 || c > 0xF4) return QUOTED_WRONG;
    const uint32_t bits = c & (0x7Fu >> n), rest = 6 * (n - 1);
    const uint32_t lo = bits << rest, hi = lo + (1u << rest) - 1;
    if (!some(g, r, q, lo > least[n - 2] ? lo : least[n - 2], hi)) return QUOTED_WRONG;
    const bool edge = c == 0xE0 || c == 0xED || c == 0xF0 || c == 0xF4; /* what follows matters */
    q->part = pack(IN_UTF8, n, n - 1, edge ? bits : whichever(g, r, q, n, n - 1, bits));
    return QUOTED_ON;
}

static quoted_end go_on_utf8(const grammar *g, const rule *r, quoted *q, unsigned char c)
{
    static const uint32_t least[] = {0x80, 0x800, 0x10000};
    const uint32_t n = q->part >> 25 & 7, left = (q->part >> 22 & 7) - 1, rest = 6 * left;
    if ((c & 0xC0) != 0x80) return QUOTED_WRONG;
    const uint32_t bits = (q->part & 0x3FFFFF) << 6 | (c & 0x3F);
    uint32_t lo = bits << rest;
    const uint32_t hi = lo + (1u << rest) - 1;
    if (lo < least[n - 2]) lo = least[n - 2];
    if (left == 0) return lo == hi ? take(g, r, q, hi) : QUOTED_WRONG;
    if (lo > hi || !some(g, r, q, lo, hi)) return QUOTED_WRONG;
    q->part = pack(IN_UTF8, n, left, whichever(g, r, q, n, left, bits));
    return QUOTED_ON;
}

static quoted_end after_backslash(const grammar *g, const rule *r, quoted *q, unsigned char c)
{
    const char *const at = c ? memchr(short_names, c, sizeof short_names - 1) : NULL;
    if (at && !(r->plain && c == '/'))
        return take(g, r, q, (unsigned char)short_codes[at - short_names]);
    if (c != 'u' || !some_unit(g, r, q, 0, 0xFFFF)) return QUOTED_WRONG;
    q->part = pack(IN_HEX, 0, 0, 0);
    return QUOTED_ON;
}

static quoted_end hex_digit(const grammar *g, const rule *r, quoted *q, unsigned char c)
{
    const int digit = grammar_hex(c);
    const uint32_t n = (q->part >> 25 & 7) + 1, value = (q->part & 0xFFFF) << 4 | (uint32_t)digit;
    if (digit < 0) return QUOTED_WRONG;
    const uint32_t rest = 4 * (4 - n), lo = value << rest, hi = lo + (1u << rest) - 1;
    if (!some_unit(g, r, q, lo, hi)) return QUOTED_WRONG;
    if (n < 4)
        q->part = pack(IN_HEX, n, 0, value);
    else if (value >= 0xD800 && value <= 0xDBFF)
        q->part = pack(IN_LOW_A, 0, 0, value - 0xD800);
    else
        return take(g, r, q, value);
    return QUOTED_ON;
}

/* The second half of a pair: its first digit is D. */
static quoted_end low_digit(const grammar *g, const rule *r, quoted *q, unsigned char c)
{
    const int digit = grammar_hex(c);
    const uint32_t n = (q->part >> 25 & 7) + 1, high = q->part >> 12 & 0x3FF;
    if (digit < 0 || (n == 1 && digit != 0xD)) return QUOTED_WRONG;
    const uint32_t value = n == 1 ? 0 : (q->part & 0xFFF) << 4 | (uint32_t)digit;
    const uint32_t rest = 4 * (4 - n);
    uint32_t lo = value << rest, hi = lo + (1u << rest) - 1; /* of DC00 to DFFF without the D */
    if (hi < 0xC00 || lo > 0xFFF) return QUOTED_WRONG;
    lo = lo < 0xC00 ? 0 : lo - 0xC00;
    hi = hi > 0xFFF ? 0x3FF : hi - 0xC00;
    const uint32_t base = 0x10000 + (high << 10);
    if (n == 4) return take(g, r, q, base + lo);
    if (!some(g, r, q, base + lo, base + hi)) return QUOTED_WRONG;
    q->part = pack(IN_LOW_HEX, n, 0, high << 12 | value);
    return QUOTED_ON;
}

static quoted_end between(const grammar *g, const rule *r, quoted *q, unsigned char c)
{
    if (c == '"') {
        const bool ends = automaton_of(g, r)->states[q->state].accepts && q->count >= r->min;
        return ends ? QUOTED_CLOSED : QUOTED_WRONG;
    }
    if (c == '\\') {
        q->part = pack(ESCAPED, 0, 0, 0);
        return some_escape(g, r, q) ? QUOTED_ON : QUOTED_WRONG;
    }
    if (c < 0x20) return QUOTED_WRONG;
    return c < 0x80 ? take(g, r, q, c) : begin_utf8(g, r, q, c);
}

static quoted_end expect(quoted *q, unsigned char c, unsigned char expected, uint32_t part)
{
    q->part = part;
    return c == expected ? QUOTED_ON : QUOTED_WRONG;
}

quoted_end grammar_quoted_step(const grammar *g, const rule *r, quoted *q, unsigned char c)
{
    switch (kind_of(q->part)) {
    case OPENING: return expect(q, c, '"', pack(BETWEEN, 0, 0, 0));
    case BETWEEN: return between(g, r, q, c);
    case IN_UTF8: return go_on_utf8(g, r, q, c);
    case ESCAPED: return after_backslash(g, r, q, c);
    case IN_HEX: return hex_digit(g, r, q, c);
    case IN_LOW_A: return expect(q, c, '\\', pack(IN_LOW_B, 0, 0, q->part & 0x3FF));
    case IN_LOW_B: return expect(q, c, 'u', pack(IN_LOW_HEX, 0, 0, (q->part & 0x3FF) << 12));
    default: return low_digit(g, r, q, c);
    }
}

bool grammar_quoted_within(const quoted *q)
{
    return kind_of(q->part) == IN_UTF8;
}

bool grammar_quoted_between(const quoted *q)
{
    return kind_of(q->part) == BETWEEN;
}

/* ---- lengths */

/* One round over the states for all lengths, from the longest down; false: nothing new. */
static bool spread(const automaton *a, const rule *r)
{
    const uint32_t last = last_count(r);
    bool more = false;
    for (uint32_t count = last + 1; count-- > 0;)
        for (size_t i = 0; i < a->n; i++) {
            uint8_t *const cell = &r->lengths[i * (last + 1) + count];
            uint32_t next = count;
            if (*cell) continue;
            if (!count_one(r, &next)) continue;
            for (size_t k = 0; k < a->states[i].n && !*cell; k++)
                *cell = r->lengths[(size_t)a->edges[a->states[i].first + k].to * (last + 1) + next];
            more |= *cell;
        }
    return more;
}

bool grammar_quoted_prepare(const grammar *g, rule *r)
{
    const automaton *const a = automaton_of(g, r);
    if (a->n == 0 || r->min > r->max) return false;
    const bool bounded = r->min > 0 || r->max != GRAMMAR_ENDLESS;
    if (!bounded || automaton_takes_all(a, 0)) return true;
    const size_t row = (size_t)last_count(r) + 1;
    r->lengths = cli_array(NULL, a->n * row, 1);
    for (size_t i = 0; i < a->n; i++)
        for (size_t count = 0; count < row; count++)
            r->lengths[i * row + count] = a->states[i].accepts && count >= r->min;
    while (spread(a, r)) continue;
    return r->lengths[0];
}
