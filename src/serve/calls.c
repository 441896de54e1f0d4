/* SPDX-License-Identifier: Apache-2.0
 * Calls of tools within a model's text, which comes in pieces. */
#include <string.h>

#include "serve/tools.h"

static const char blank[] = " \t\r\n";

static bool is_blank(char c)
{
    return c && strchr(blank, c);
}

static void drop(cli_bytes *b, size_t n)
{
    b->n -= n;
    memmove(b->p, b->p + n, b->n);
    b->p[b->n] = 0;
}

static void give(serve_calls *c, size_t n, cli_bytes *text)
{
    if (n == 0) return;
    cli_bytes_add(text, c->held.p, n);
    drop(&c->held, n);
    c->begun = true;
}

static size_t space_before(const char *p, size_t n)
{
    while (n > 0 && is_blank(p[n - 1])) n--;
    return n;
}

/* How much of the end may be the start of a word. */
static size_t start_of(const char *word, const cli_bytes *held)
{
    size_t k = word ? strlen(word) - 1 : 0;
    while (k > 0 && (k > held->n || memcmp(held->p + held->n - k, word, k) != 0)) k--;
    return k;
}

/* What is surely no part of a call: up to space at the end, and what may be an opening's start. */
static size_t surely_text(const serve_calls *c)
{
    const size_t a = start_of(c->form->opening, &c->held), b = start_of(c->form->without, &c->held);
    return space_before(c->held.p, c->held.n - (a > b ? a : b));
}

/* The first opening, and its length; or NULL. */
static const char *find_opening(const serve_calls *c, size_t *n)
{
    const char *const words[] = {c->form->opening, c->form->without};
    const char *first = NULL;
    for (size_t i = 0; i < 2 && words[i] && c->held.n > 0; i++) {
        const char *const at = memmem(c->held.p, c->held.n, words[i], strlen(words[i]));
        if (!at || (first && first < at)) continue;
        first = at;
        *n = strlen(words[i]);
    }
    return first;
}

static void keep(serve_calls *c, json_t *calls)
{
    if (!c->list) c->list = json_array();
    json_array_extend(c->list, calls);
    while (c->one && json_array_size(c->list) > 1) json_array_remove(c->list, 1);
}

bool serve_calls_full(const serve_calls *c)
{
    return c->one && c->list;
}

/* Calls with words around them, which text may stand before and behind. Space beside a call
 * belongs to it. */
static void read_marked(serve_calls *c, bool ends, cli_bytes *text)
{
    while (!serve_calls_full(c)) {
        size_t n_opening = 0, used = 0;
        const char *const start = find_opening(c, &n_opening);
        if (!start) break;
        const size_t at = (size_t)(start - c->held.p), kept = space_before(c->held.p, at);
        json_t *const calls = json_array();
        const serve_found found = serve_read_calls(c, start, c->held.n - at, ends, calls, &used);
        if (found == SERVE_FOUND) keep(c, calls);
        json_decref(calls);
        give(c, found == SERVE_NONE ? at + n_opening : kept, text);
        if (found == SERVE_UNDECIDED) return;
        if (found == SERVE_FOUND) drop(&c->held, at - kept + used);
    }
    if (serve_calls_full(c)) {
        c->held.n = 0;
    } else if (!ends) {
        give(c, surely_text(c), text);
    } else {
        /* space is all that may stand behind calls without being text */
        if (c->list && space_before(c->held.p, c->held.n) == 0) c->held.n = 0;
        give(c, c->held.n, text);
    }
}

/* Calls that are the whole answer: it begins like one, or is none. */
static void read_bare(serve_calls *c, bool ends, cli_bytes *text)
{
    const size_t n = c->held.n;
    size_t first = 0;
    while (first < n && is_blank(c->held.p[first])) first++;
    const bool like_one =
        !c->begun && first < n && (c->held.p[first] == '{' || c->held.p[first] == '[');
    if (!ends && !c->begun && (like_one || first == n)) return;
    json_t *const calls = json_array();
    if (like_one && serve_read_bare_calls(c, c->held.p, n, calls)) {
        keep(c, calls);
        c->held.n = 0;
    } else {
        give(c, n, text);
    }
    json_decref(calls);
}

void serve_calls_feed(serve_calls *c, const char *p, size_t n, bool ends, cli_bytes *text)
{
    if (!c->form) {
        cli_bytes_add(text, p, n);
        return;
    }
    cli_bytes_add(&c->held, p, n);
    if (c->form->opening[0])
        read_marked(c, ends, text);
    else
        read_bare(c, ends, text);
}

void serve_calls_free(serve_calls *c)
{
    cli_bytes_free(&c->held);
    json_decref(c->list);
}
