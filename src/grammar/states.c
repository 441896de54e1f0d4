/* SPDX-License-Identifier: Apache-2.0
 * Walking a grammar. A state is the set of all that may still have to be read, each a stack of
 * frames; equal frames and equal sets are kept once, so that what was worked out for one is
 * known for good: where a byte leads, and which tokens may come. */
#include <stdlib.h>
#include <string.h>

#include "grammar/rules.h"

enum {
    MOST_STATES = 1 << 15,
    MOST_FRAMES = 1 << 18,
    MOST_BYTES = 16 << 20,
    MOST_WAYS = 1024, /* of a state: any of them ends well, so the rest may go */
    MOST_SEEN = GRAMMAR_SEEN_SLOTS / 2,
};

/* ---- frames */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t hash_of_frame(const frame *f)
{
    uint64_t h =
        mix((uint64_t)(uint32_t)f->rule << 32 | (uint32_t)f->parent, (uint32_t)f->at.state);
    return mix(h, (uint64_t)f->at.count << 32 | f->at.part);
}

static bool same_frame(const frame *a, const frame *b)
{
    return a->rule == b->rule && a->parent == b->parent && a->at.state == b->at.state &&
           a->at.count == b->at.count && a->at.part == b->at.part;
}

static void put_frame(grammar *g, int i)
{
    size_t at = hash_of_frame(&g->frames[i]) & (g->frame_slots - 1);
    while (g->frame_at[at]) at = (at + 1) & (g->frame_slots - 1);
    g->frame_at[at] = i + 1;
}

static void grow_frames(grammar *g)
{
    g->cap_frames *= 2;
    g->frames = cli_array(g->frames, g->cap_frames, sizeof *g->frames);
    g->frame_slots = 2 * g->cap_frames;
    g->frame_at = cli_array(g->frame_at, g->frame_slots, sizeof *g->frame_at);
    memset(g->frame_at, 0, g->frame_slots * sizeof *g->frame_at);
    for (size_t i = 1; i < g->n_frames; i++) put_frame(g, (int)i);
}

/* The level is the parent's, or one deeper within what nests. */
static int frame_of(grammar *g, int of, quoted at, int parent)
{
    const frame f = {of, parent, at, g->frames[parent].depth + g->rules[of].nests};
    size_t slot = hash_of_frame(&f) & (g->frame_slots - 1);
    for (; g->frame_at[slot]; slot = (slot + 1) & (g->frame_slots - 1))
        if (same_frame(&g->frames[g->frame_at[slot] - 1], &f)) return g->frame_at[slot] - 1;
    if (g->n_frames == g->cap_frames) grow_frames(g);
    g->frames[g->n_frames] = f;
    put_frame(g, (int)g->n_frames);
    return (int)g->n_frames++;
}

/* ---- what may come next: rules are opened until bytes are wanted */

static void later(grammar *g, int of, int parent)
{
    if (g->n_todo == g->cap_todo) {
        g->cap_todo = 2 * g->cap_todo + 64;
        g->todo = cli_array(g->todo, g->cap_todo, sizeof *g->todo);
    }
    g->todo[g->n_todo++] = (pair){of, parent};
}

static void add_found(grammar *g, int f)
{
    if (g->n_found == MOST_WAYS) return;
    if (g->n_found == g->cap_found) {
        g->cap_found = 2 * g->cap_found + 64;
        g->found = cli_array(g->found, g->cap_found, sizeof *g->found);
    }
    g->found[g->n_found++] = f;
}

/* Alternatives may lead round in circles, and to the same from several sides. */
static bool is_new(grammar *g, int of, int parent)
{
    size_t at = mix((uint64_t)(uint32_t)of, (uint64_t)(uint32_t)parent) % GRAMMAR_SEEN_SLOTS;
    for (; g->seen_in[at] == g->closure; at = (at + 1) % GRAMMAR_SEEN_SLOTS)
        if (g->seen[at].rule == of && g->seen[at].parent == parent) return false;
    if (g->n_seen == MOST_SEEN) return false;
    g->n_seen++;
    g->seen[at] = (pair){of, parent};
    g->seen_in[at] = g->closure;
    return true;
}

static bool fits(const grammar *g, int of, int parent)
{
    return g->frames[parent].depth + g->rules[of].depth <= GRAMMAR_MOST_DEPTH;
}

static int part_of(const grammar *g, const rule *r, size_t i)
{
    return g->parts[r->first + i];
}

/* Part i of a rule that has them all. The last one goes on behind the parent at once, where the
 * level does not change. */
static void open_part(grammar *g, int of, size_t i, int parent)
{
    const rule *const r = &g->rules[of];
    const bool last = i + 1 == r->n && !r->nests;
    const quoted next = {.state = (int)i + 1};
    later(g, part_of(g, r, i), last ? parent : frame_of(g, of, next, parent));
}

static void open_times(grammar *g, int of, uint32_t done, int parent)
{
    const rule *const r = &g->rules[of];
    const uint32_t most = r->max == GRAMMAR_ENDLESS ? r->min : r->max;
    const int inner = part_of(g, r, 0);
    if ((done < r->max || r->max == GRAMMAR_ENDLESS) && fits(g, inner, parent)) {
        const quoted at = {.count = done < most ? done + 1 : done};
        later(g, inner, frame_of(g, of, at, parent));
    }
    if (done >= r->min) later(g, -1, parent);
}

static void open_bytes(grammar *g, int of, int parent)
{
    const automaton *const a = &g->automata[g->rules[of].automaton];
    if (a->states[0].n > 0) add_found(g, frame_of(g, of, (quoted){0}, parent));
    if (a->states[0].accepts) later(g, -1, parent);
}

static void open_rule(grammar *g, int of, int parent)
{
    const rule *const r = &g->rules[of];
    if (!fits(g, of, parent)) return;
    switch (r->kind) {
    case RULE_BYTES: open_bytes(g, of, parent); break;
    case RULE_STRING: add_found(g, frame_of(g, of, (quoted){0}, parent)); break;
    case RULE_ALL:
        if (r->n > 0)
            open_part(g, of, 0, parent);
        else
            later(g, -1, parent);
        break;
    case RULE_ONE:
        if (!is_new(g, of, parent)) break;
        for (size_t i = 0; i < r->n; i++) later(g, part_of(g, r, i), parent);
        break;
    case RULE_TIMES: open_times(g, of, 0, parent); break;
    }
}

/* What a frame has waited for is read. */
static void go_on(grammar *g, int i)
{
    const frame f = g->frames[i];
    if (i == 0)
        add_found(g, 0);
    else if (g->rules[f.rule].kind == RULE_TIMES)
        open_times(g, f.rule, f.at.count, f.parent);
    else if ((size_t)f.at.state < g->rules[f.rule].n)
        open_part(g, f.rule, (size_t)f.at.state, f.parent);
    else
        later(g, -1, f.parent);
}

static void close_over(grammar *g)
{
    g->n_seen = 0;
    g->closure++;
    while (g->n_todo > 0) {
        const pair one = g->todo[--g->n_todo];
        if (one.rule >= 0)
            open_rule(g, one.rule, one.parent);
        else if (is_new(g, -1, one.parent))
            go_on(g, one.parent);
    }
}

/* ---- states */

static int by_number(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

static uint64_t hash_of_set(const int *p, size_t n)
{
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = mix(h, (uint64_t)(uint32_t)p[i]);
    return h;
}

static void put_state(grammar *g, int i)
{
    const frame_set *const s = &g->states[i];
    size_t at = hash_of_set(g->members + s->first, s->n) & (g->state_slots - 1);
    while (g->state_at[at]) at = (at + 1) & (g->state_slots - 1);
    g->state_at[at] = i + 1;
}

static void grow_states(grammar *g)
{
    g->cap_states *= 2;
    g->states = cli_array(g->states, g->cap_states, sizeof *g->states);
    g->state_slots = 2 * g->cap_states;
    g->state_at = cli_array(g->state_at, g->state_slots, sizeof *g->state_at);
    memset(g->state_at, 0, g->state_slots * sizeof *g->state_at);
    for (size_t i = 0; i < g->n_states; i++) put_state(g, (int)i);
}

static int new_state(grammar *g)
{
    if (g->n_states == g->cap_states) grow_states(g);
    if (g->n_members + g->n_found > g->cap_members) {
        g->cap_members = 2 * (g->n_members + g->n_found) + 256;
        g->members = cli_array(g->members, g->cap_members, sizeof *g->members);
    }
    if (g->n_found > 0) memcpy(g->members + g->n_members, g->found, g->n_found * sizeof *g->found);
    g->states[g->n_states] = (frame_set){.first = g->n_members, .n = g->n_found};
    g->n_members += g->n_found;
    put_state(g, (int)g->n_states);
    return (int)g->n_states++;
}

/* Of the frames that were found. */
static int state_of(grammar *g)
{
    size_t n = 0;
    if (g->n_found > 1) qsort(g->found, g->n_found, sizeof *g->found, by_number);
    for (size_t i = 0; i < g->n_found; i++)
        if (n == 0 || g->found[i] != g->found[n - 1]) g->found[n++] = g->found[i];
    g->n_found = n;
    size_t at = hash_of_set(g->found, n) & (g->state_slots - 1);
    for (; g->state_at[at]; at = (at + 1) & (g->state_slots - 1)) {
        const frame_set *const s = &g->states[g->state_at[at] - 1];
        if (s->n == n &&
            (n == 0 || memcmp(g->members + s->first, g->found, n * sizeof *g->found) == 0))
            return g->state_at[at] - 1;
    }
    return new_state(g);
}

/* A byte for one frame. */
static void step_frame(grammar *g, int i, unsigned char byte)
{
    if (i == 0) return; /* nothing comes behind the end */
    const frame f = g->frames[i];
    const rule *const r = &g->rules[f.rule];
    quoted at = f.at;
    if (r->kind == RULE_STRING) {
        const quoted_end end = grammar_quoted_step(g, r, &at, byte);
        if (end == QUOTED_ON) add_found(g, frame_of(g, f.rule, at, f.parent));
        if (end == QUOTED_CLOSED) later(g, -1, f.parent);
        return;
    }
    const automaton *const a = &g->automata[r->automaton];
    at.state = automaton_step(a, at.state, byte);
    if (at.state < 0) return;
    if (a->states[at.state].n > 0) add_found(g, frame_of(g, f.rule, at, f.parent));
    if (a->states[at.state].accepts) later(g, -1, f.parent);
}

static int work_out(grammar *g, int from, unsigned char byte)
{
    g->n_found = g->n_todo = 0;
    const frame_set s = g->states[from];
    for (size_t i = 0; i < s.n; i++) step_frame(g, g->members[s.first + i], byte);
    close_over(g);
    return state_of(g);
}

/* Within a character: such states are many, and each is seldom come by. */
static bool is_passing(const grammar *g, const frame_set *s)
{
    return s->n == 1 && grammar_quoted_within(&g->frames[g->members[s->first]].at);
}

int grammar_step(grammar *g, int from, unsigned char byte)
{
    frame_set *s = &g->states[from];
    if (s->next && s->next[byte] >= 0) return s->next[byte];
    const int to = work_out(g, from, byte);
    s = &g->states[from];
    if (is_passing(g, s)) return to;
    if (!s->next) {
        s->next = cli_array(NULL, 256, sizeof *s->next);
        memset(s->next, 0xFF, 256 * sizeof *s->next);
        g->bytes += 256 * sizeof *s->next;
    }
    return s->next[byte] = to;
}

int grammar_start(grammar *g)
{
    (void)g;
    return 1;
}

bool grammar_may_end(const grammar *g, int at)
{
    const frame_set *const s = &g->states[at];
    return s->n > 0 && g->members[s->first] == 0;
}

void grammar_open_states(grammar *g)
{
    g->cap_frames = g->cap_states = 64;
    g->n_frames = g->n_states = g->n_members = g->n_todo = g->n_found = 0;
    grow_frames(g);
    grow_states(g);
    g->frames[g->n_frames++] = (frame){0};
    state_of(g); /* dead */
    later(g, g->root, 0);
    close_over(g);
    state_of(g);
}

static void forget_states(grammar *g)
{
    for (size_t i = 0; i < g->n_states; i++) {
        free(g->states[i].next);
        free(g->states[i].mask);
    }
    g->n_states = 0;
    g->bytes = 0;
}

void grammar_tidy(grammar *g)
{
    if (g->n_states < MOST_STATES && g->n_frames < MOST_FRAMES && g->bytes < MOST_BYTES) return;
    forget_states(g);
    grammar_open_states(g);
    g->epoch++;
}

uint64_t grammar_epoch(const grammar *g)
{
    return g->epoch;
}

void grammar_close_states(grammar *g)
{
    forget_states(g);
    free(g->frames);
    free(g->frame_at);
    free(g->states);
    free(g->members);
    free(g->state_at);
    free(g->todo);
    free(g->found);
}
