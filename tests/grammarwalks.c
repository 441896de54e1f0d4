/* SPDX-License-Identifier: Apache-2.0
 * Ways through a grammar, byte by byte. */
#include "grammarwalks.h"

#include <stdlib.h>
#include <string.h>

uint64_t grammar_draw(uint64_t *seed)
{
    uint64_t z = *seed += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Bytes that lead to an end soon come first. */
static int hurry(grammar *g, int at)
{
    static const char order[] = "\"]}:, 0123456789tfnrueals-[{";
    for (const char *p = order; *p; p++)
        if (grammar_step(g, at, (unsigned char)*p) != GRAMMAR_DEAD) return (unsigned char)*p;
    return -1;
}

static int any_byte(grammar *g, int at, uint64_t *seed)
{
    unsigned char open[256];
    size_t n = 0;
    for (int byte = 0; byte < 256; byte++)
        if (byte != '\n' && grammar_step(g, at, (unsigned char)byte) != GRAMMAR_DEAD)
            open[n++] = (unsigned char)byte;
    if (n == 0) return -1;
    /* strings would be long, and full of odd characters */
    const uint64_t r = grammar_draw(seed);
    if (r % 4 == 0 && grammar_step(g, at, '"') != GRAMMAR_DEAD) return '"';
    return open[(r >> 8) % n];
}

char *grammar_say(grammar *g, uint64_t *seed)
{
    enum { CALM = 150, MOST = 20000 };
    cli_bytes out = {0};
    int at = grammar_start(g);
    cli_bytes_add(&out, "", 0);
    while (out.n < MOST) {
        if (grammar_may_end(g, at) && (out.n > CALM || grammar_draw(seed) % 3 == 0)) break;
        int byte = out.n > CALM && grammar_draw(seed) % 2 ? hurry(g, at) : -1;
        if (byte < 0) byte = any_byte(g, at, seed);
        if (byte < 0) break;
        const char c = (char)byte;
        cli_bytes_add(&out, &c, 1);
        at = grammar_step(g, at, (unsigned char)byte);
    }
    if (out.n == MOST) {
        cli_bytes_free(&out);
        return NULL;
    }
    if (!grammar_may_end(g, at)) {
        cli_bytes_add(&out, "  (no way on)", 13);
        fprintf(stderr, "no way on behind %s\n", out.p);
    }
    return out.p;
}

static int walk(grammar *g, const char *text)
{
    int at = grammar_start(g);
    for (; *text && at != GRAMMAR_DEAD; text++) at = grammar_step(g, at, (unsigned char)*text);
    return at;
}

bool grammar_takes(grammar *g, const char *text)
{
    const int at = walk(g, text);
    return at != GRAMMAR_DEAD && grammar_may_end(g, at);
}

bool grammar_begins(grammar *g, const char *text)
{
    return walk(g, text) != GRAMMAR_DEAD;
}
