/* SPDX-License-Identifier: Apache-2.0
 * Guesses of several sources, and the tree that is made of them. */
#include "drafters/guesses.h"

#include <string.h>

#include "base/mem.h"
#include "base/sampler.h"
#include "drafters/drafter.h"

static const float unlikely = 0.002f; /* to be right: guesses of retrieval that are not made */

ftk_err ftk_guesses_init(ftk_guesses *g, const ftk_host *host, int cap, ftk_rate *rates,
                         int n_rates)
{
    *g = (ftk_guesses){.cap = cap, .rates = rates, .n_rates = n_rates};
    g->all = ftk_alloc(host, (size_t)cap, sizeof *g->all);
    g->heap = ftk_alloc(host, (size_t)cap, sizeof *g->heap);
    if (!g->all || !g->heap)
        return ftk_fail(host, FTK_ERR_NOMEM, "no memory for the candidates of a draft");
    return FTK_OK;
}

ftk_err ftk_guesses_init_for(ftk_guesses *g, const ftk_drafter_env *env, int cap, ftk_rate *rates,
                             int n_rates)
{
    const ftk_err err = ftk_guesses_init(g, env->host, cap, rates, n_rates);
    if (env->test) memcpy(&g->flags, env->test, sizeof g->flags);
    g->chain = env->shape == FTK_TREE_CHAIN;
    g->retrieval = g->flags & FTK_WITHOUT_RETRIEVAL ? NULL : env->retrieval;
    g->successors = g->flags & FTK_WITHOUT_SUCCESSORS ? NULL : env->successors;
    return err;
}

void ftk_guesses_init_rates(ftk_rate *rates, int n_rates)
{
    for (int i = n_rates - FTK_GUESS_RATES; i < n_rates; i++) ftk_rate_init(&rates[i], 1);
}

void ftk_guesses_free(ftk_guesses *g, const ftk_host *host)
{
    ftk_release(host, g->heap);
    ftk_release(host, g->all);
    *g = (ftk_guesses){0};
}

void ftk_guesses_begin(ftk_guesses *g, int32_t root)
{
    g->n = 1;
    g->n_recycled = 0;
    g->asked = 0;
    g->all[0] = (ftk_guess){.token = root, .parent = -1, .row = -1, .rate = -1, .worth = 1};
}

int ftk_guesses_child(const ftk_guesses *g, int parent, int32_t token)
{
    int i = g->all[parent].first;
    while (i && g->all[i].token != token) i = g->all[i].next;
    return i ? i : -1;
}

static void weigh(ftk_guess *all, int guess)
{
    all[guess].worth = all[all[guess].parent].worth * all[guess].share;
}

/* A guess may be worth more or less for another source, and so all below. */
static void change(ftk_guesses *g, int guess, float share)
{
    g->all[guess].share = share;
    weigh(g->all, guess);
    if (!g->all[guess].first) return;
    for (int i = guess + 1; i < g->n; i++) weigh(g->all, i);
}

/* The guess below `parent` that carries `token`, which is worth `share` of its parent at least;
 * -1: no room. */
static int name(ftk_guesses *g, int parent, int32_t token, float share)
{
    int i = ftk_guesses_child(g, parent, token);
    if (i < 0) {
        if (g->n == g->cap) return -1;
        i = g->n++;
        g->all[i] = (ftk_guess){.token = token,
                                .parent = (int16_t)parent,
                                .depth = (int16_t)(g->all[parent].depth + 1),
                                .row = -1,
                                .rate = -1};
        ftk_guess *const above = &g->all[parent];
        if (above->first)
            g->all[above->last].next = (int16_t)i;
        else
            above->first = (int16_t)i;
        above->last = (int16_t)i;
    }
    if (share > g->all[i].share) change(g, i, share);
    return i;
}

int ftk_guesses_add(ftk_guesses *g, int parent, int32_t token, int rate)
{
    const int i = name(g, parent, token, ftk_rate_get(&g->rates[rate]));
    if (i >= 0) g->all[i].rate = (int16_t)rate;
    return i;
}

/* From guess `at`, whose depth is `from`, on; share: of the first. */
static void add_chain(ftk_guesses *g, const ftk_retrieval *r, const int32_t *chain, int at,
                      int from, float share)
{
    for (int i = from; i < r->n && at >= 0 && g->all[at].worth * share >= unlikely; i++) {
        at = name(g, at, chain[i], share);
        if (at >= 0) g->all[at].retrieved = true;
        if (i + 1 < r->n) share = ftk_retrieval_goes_on(r, i + 1);
    }
}

void ftk_guesses_add_retrieved(ftk_guesses *g, const ftk_retrieval *r)
{
    int fork = 0, at = 0;
    if (!r || r->n == 0) return;
    const int before = g->n;
    add_chain(g, r, r->recent, 0, 0, ftk_retrieval_goes_on(r, 0));
    while (fork < g->n - before && r->recent[fork] == r->first[fork])
        at = ftk_guesses_child(g, at, r->recent[fork++]);
    if (fork == r->n || r->recent[fork] == r->first[fork]) return;
    const float wrong = 1 - ftk_retrieval_goes_on(r, fork);
    add_chain(g, r, r->first, at, fork, wrong * ftk_retrieval_forks(r, fork));
}

void ftk_guesses_add_successors(ftk_guesses *g, const ftk_successors *s)
{
    for (int i = 0; s && i < g->n && g->n_recycled < FTK_RECYCLED; i++) {
        const ftk_successor_set *const set = &s->of[g->all[i].token];
        for (int k = 0; k < FTK_SUCCESSORS && set->size[k] && g->n_recycled < FTK_RECYCLED; k++) {
            const float right = ftk_successor_right(s, set, k, g->all[i].depth);
            if (g->all[i].worth * right < s->least) continue;
            const int n = g->n, at = name(g, i, set->token[k], right);
            if (at < 0) return;
            g->n_recycled += g->n - n;
            g->all[at].recycled = true;
        }
    }
}

void ftk_guesses_ask(ftk_guesses *g, const int32_t *history, size_t n)
{
    ftk_guesses_begin(g, history[n - 1]);
    g->asked = n;
    ftk_guesses_add_retrieved(g, g->retrieval);
    ftk_guesses_add_successors(g, g->successors);
}

static int sources_of(const ftk_guess *c)
{
    return c->retrieved + c->recycled + (c->rate >= 0);
}

static ftk_beside stands(const ftk_guesses *g, int guess)
{
    const ftk_guess *const c = &g->all[guess];
    float rival = 0;
    for (int i = g->all[c->parent].first; i; i = g->all[i].next) {
        if (i == guess) continue;
        const float share = g->all[i].share;
        if (share > c->share || (share == c->share && i < guess)) return FTK_BEHIND;
        if (share > rival) rival = share;
    }
    if (sources_of(c) > 1) return FTK_AGREED;
    return rival > FTK_NEARLY * c->share ? FTK_RIVALLED : FTK_ALONE;
}

static ftk_rate *of_such(const ftk_guesses *g, int guess)
{
    const int bin = ftk_likely_bin(g->all[guess].share);
    return &g->rates[g->n_rates - FTK_GUESS_RATES + bin * FTK_BESIDES + (int)stands(g, guess)];
}

static void weigh_beside(ftk_guesses *g)
{
    if (g->n_rates == 0) return;
    for (int i = 1; i < g->n; i++) {
        const float share = g->all[i].share * ftk_rate_get(of_such(g, i));
        g->all[i].worth = g->all[g->all[i].parent].worth * (share < 1 ? share : 1);
    }
}

void ftk_guesses_tell(const ftk_guesses *g, float least, const ftk_rate *rates, int n,
                      ftk_heads_ask *ask)
{
    ask->least = least;
    memcpy(ask->bound, ftk_likely_bounds, sizeof ask->bound);
    for (int i = 0; i < n * FTK_LIKELY_BINS; i++)
        ask->rate[i / FTK_LIKELY_BINS][i % FTK_LIKELY_BINS] = ftk_rate_get(&rates[i]);
    ask->n_known = g->n < FTK_HEAD_KNOWN ? g->n : FTK_HEAD_KNOWN;
    ask->deepest = 0;
    for (int i = 0; i < ask->n_known; i++) {
        const ftk_guess *const c = &g->all[i];
        ftk_known *const to = &ask->known[i];
        *to = (ftk_known){c->token, c->parent, c->depth, i > 0 ? c->share : 1, sources_of(c)};
        if (c->depth > ask->deepest) ask->deepest = c->depth;
    }
    for (int i = 0; i < FTK_GUESS_RATES; i++)
        ask->comes[i / FTK_BESIDES][i % FTK_BESIDES] =
            ftk_rate_get(&g->rates[g->n_rates - FTK_GUESS_RATES + i]);
}

void ftk_guesses_add_row(ftk_guesses *g, int depth, float least, int width, int n,
                         const int32_t *token, const int16_t *rate)
{
    int chosen[FTK_HEAD_NODES];
    const int n_chosen = ftk_guesses_best(g, depth, least, false, width, chosen);
    for (int i = 0; i < n_chosen; i++)
        for (int k = 0; k < n; k++) ftk_guesses_add(g, chosen[i], token[k], rate[k]);
}

int ftk_guesses_best(const ftk_guesses *g, int depth, float least, bool linked, int most,
                     int *chosen)
{
    int n = 0;
    for (int i = 0; i < g->n; i++) {
        if (g->all[i].depth != depth || g->all[i].worth < least) continue;
        if (linked && depth > 0 && g->all[g->all[i].parent].row < 0) continue;
        int at = n < most ? n++ : most;
        while (at > 0 && g->all[chosen[at - 1]].worth < g->all[i].worth) {
            if (at < most) chosen[at] = chosen[at - 1];
            at--;
        }
        if (at < most) chosen[at] = i;
    }
    return n;
}

void ftk_guesses_settle(ftk_guesses *g, size_t at, const int32_t *truth, size_t n)
{
    int node = 0;
    const bool open = g->asked > 0 && g->asked == at;
    if (open) g->asked = 0;
    if (!open || g->n_rates == 0) return;
    ftk_rates_fade(g->rates, (size_t)g->n_rates);
    for (size_t d = 0; d < n && node >= 0; d++) {
        for (int i = g->all[node].first; i; i = g->all[i].next) {
            const ftk_guess *c = &g->all[i];
            ftk_rate_see_expected(of_such(g, i), c->token == truth[d], c->share);
            if (c->rate >= 0) ftk_rate_see(&g->rates[c->rate], c->token == truth[d]);
        }
        node = ftk_guesses_child(g, node, truth[d]);
    }
}

float ftk_guesses_open(const ftk_guesses *g, int guess)
{
    float most = 0;
    for (int i = g->all[guess].first; i; i = g->all[i].next)
        if (g->all[i].worth > most) most = g->all[i].worth;
    return g->all[guess].worth - most;
}

/* ---- the tree */

static float value_of(const ftk_guess *c)
{
    const float value = c->worth + c->extra;
    return value < 1 ? value : 1;
}

static void push(const ftk_guesses *g, ftk_heap *heap, int guess, int node)
{
    ftk_heap_push(heap, (ftk_candidate){.value = value_of(&g->all[guess]),
                                        .token = g->all[guess].token,
                                        .parent = (int16_t)node,
                                        .slot = (int16_t)guess});
}

/* Of a chain the best. */
static void push_children(const ftk_guesses *g, ftk_heap *heap, int parent, int node)
{
    int best = 0;
    for (int i = g->all[parent].first; i; i = g->all[i].next) {
        if (!best || value_of(&g->all[i]) > value_of(&g->all[best])) best = i;
        if (!g->chain) push(g, heap, i, node);
    }
    if (g->chain && best) push(g, heap, best, node);
}

static int add_node(const ftk_guesses *g, ftk_tree *tree, int parent, int guess)
{
    return ftk_tree_add(tree, parent, g->all[guess].token, value_of(&g->all[guess]));
}

void ftk_guesses_plant_all(ftk_guesses *g, int budget, ftk_tree *tree)
{
    weigh_beside(g);
    for (int i = 1; i < g->n && ftk_tree_has_room(tree, budget); i++)
        add_node(g, tree, g->all[i].parent, i);
}

void ftk_guesses_plant(ftk_guesses *g, int budget, ftk_tree *tree)
{
    ftk_heap heap = {.cap = g->cap, .items = g->heap};
    weigh_beside(g);
    push_children(g, &heap, 0, 0);
    for (ftk_candidate c; ftk_tree_has_room(tree, budget) && ftk_heap_pop(&heap, &c);)
        push_children(g, &heap, c.slot, add_node(g, tree, c.parent, c.slot));
}
