/* SPDX-License-Identifier: Apache-2.0
 * Drafts of drawn tokens. */
#include "drafters/drawn.h"

#include <string.h>

#include "base/mem.h"
#include "drafters/grown.h"

enum { DEPTH = FTK_DRAWN_DEPTH, SIBLINGS = FTK_DRAWN_SIBLINGS };

static const float least_retrieved =
    0.15f; /* a first retrieved token that comes less often is left out */

typedef struct node {
    int32_t token;
    float prob;
} node;

/* What the tree is made of: retrieval's chain, the drawn one, the siblings of its first token. */
typedef struct parts {
    int n_retrieved, n_chain, n_beside;
    node retrieved[FTK_CHAIN], chain[DEPTH], beside[SIBLINGS - 1];
} parts;

/* ---- drawing */

static float *q_at(const ftk_drawn *d, int depth)
{
    return d->q + (size_t)depth * (size_t)d->n_vocab;
}

/* Weights of a row as the session's sampling has it, but for what counts tokens, in the target's
 * ids. A row that is no distribution gets an even one: how many nodes there are may not depend
 * on it. Returns their sum. */
static double weigh(ftk_grown *g, const float *logits, int depth)
{
    const ftk_draft_model *const m = g->model;
    ftk_drawn *const d = &g->drawn;
    ftk_sampler *const s = &d->sampler;
    float *const q = q_at(d, depth);
    double total;
    s->cfg = *g->sampling;
    s->cfg.repeat_penalty = 1;
    s->cfg.presence_penalty = s->cfg.frequency_penalty = 0;
    s->cfg.min_tokens = 0;
    if (ftk_sampler_weigh(s, logits, NULL, 0, NULL, 0, &total) != FTK_OK) {
        for (int i = 0; i < m->n_out; i++) s->logits[i] = 1;
        total = m->n_out;
    }
    for (int i = 0; i < m->n_out; i++) q[m->vocab ? m->vocab[i] : i] = s->logits[i];
    return total;
}

/* Without the n tokens of `out`; -1: nothing is left. */
static int32_t draw(const ftk_drawn *d, int depth, double total, const int32_t *out, int n,
                    double u)
{
    const float *const q = q_at(d, depth);
    int32_t last = -1;
    for (int i = 0; i < n; i++) total -= q[out[i]];
    double left = u * total;
    for (int32_t token = 0; token < d->n_vocab; token++) {
        if (q[token] <= 0) continue;
        bool is_out = false;
        for (int i = 0; i < n; i++) is_out |= out[i] == token;
        if (is_out) continue;
        last = token;
        left -= q[token];
        if (left < 0) break;
    }
    return last;
}

static double uniform(const ftk_grown *g, size_t n, int i)
{
    return ftk_uniform_sub(g->sampling->seed, n, FTK_DRAFT_SUB + (uint32_t)i);
}

/* ---- parts */

static void retrieve(const ftk_grown *g, parts *p)
{
    const ftk_retrieval *const r = g->guesses.retrieval;
    float prob = 1;
    if (!r || r->n == 0 || ftk_retrieval_goes_on(r, 0) < least_retrieved) return;
    for (; p->n_retrieved < r->n && p->n_retrieved < FTK_CHAIN; p->n_retrieved++) {
        prob *= ftk_retrieval_goes_on(r, p->n_retrieved);
        p->retrieved[p->n_retrieved] = (node){r->recent[p->n_retrieved], prob};
    }
}

/* The first place: the chain's first token and its siblings, behind what was chosen there. */
static void draw_first(const ftk_grown *g, size_t n, double total, parts *p)
{
    int32_t out[1 + SIBLINGS];
    int n_out = 0;
    if (p->n_retrieved > 0) out[n_out++] = p->retrieved[0].token;
    float before = ftk_rate_get(&g->known->drawn.first[0]), missed = 1 - before;
    for (int k = 0; k < (g->drawn.chain ? 1 : SIBLINGS); k++) {
        const int32_t token = draw(&g->drawn, 0, total, out, n_out, uniform(g, n, k));
        if (token < 0) return;
        out[n_out++] = token;
        if (k == 0) {
            p->chain[p->n_chain++] = (node){token, before};
            continue;
        }
        const float right = ftk_rate_get(&g->known->drawn.beside[k - 1]);
        const float prob = missed * right < before ? missed * right : before;
        p->beside[p->n_beside++] = (node){token, prob};
        before = prob;
        missed *= 1 - right;
    }
}

/* The chain goes on as long as a row is expected to bring more than it takes. */
static void draw_on(ftk_grown *g, size_t n, parts *p)
{
    int at = 0;
    for (int depth = 1; depth < DEPTH; depth++) {
        const float prob = p->chain[depth - 1].prob * ftk_rate_get(&g->known->drawn.first[depth]);
        at = ftk_guesses_add(&g->guesses, at, p->chain[depth - 1].token, 0);
        if (!ftk_grown_pays(g, prob, 1, false)) return;
        const float *const logits = ftk_grown_run(g, at);
        if (!logits) return;
        const double total = weigh(g, logits, depth);
        const double u = uniform(g, n, SIBLINGS + depth);
        p->chain[p->n_chain++] = (node){draw(&g->drawn, depth, total, NULL, 0, u), prob};
    }
}

/* ---- the tree */

static bool has_room(const ftk_tree *t, int budget)
{
    return t->n <= budget && t->n < FTK_MAX_NODES;
}

/* The best of all first, siblings in the order in which they were drawn, and what was chosen at
 * the first place in front of them. */
static void plant(const ftk_grown *g, const parts *p, int budget, ftk_tree *tree)
{
    int r = 0, c = 0, b = 0, at_r = 0, at_c = 0;
    while (has_room(tree, budget)) {
        const float of_r = r < p->n_retrieved ? p->retrieved[r].prob : -1;
        const float of_c = c < p->n_chain ? p->chain[c].prob : -1;
        const float of_b = c > 0 && b < p->n_beside ? p->beside[b].prob : -1;
        if (of_r < 0 && of_c < 0 && of_b < 0) return;
        if (of_r >= 0 && (r == 0 || (of_r >= of_c && of_r >= of_b))) {
            at_r = ftk_tree_add(tree, at_r, p->retrieved[r++].token, of_r);
        } else if (of_c >= of_b) {
            at_c = ftk_tree_add_drawn(tree, at_c, p->chain[c].token, of_c, q_at(&g->drawn, c));
            c++;
        } else {
            ftk_tree_add_drawn(tree, 0, p->beside[b++].token, of_b, q_at(&g->drawn, 0));
        }
    }
}

void ftk_drawn_propose(ftk_grown *g, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    const ftk_draft_model *const m = g->model;
    parts p = {0};
    retrieve(g, &p);
    const size_t unread = m->unread(m->ctx, n);
    g->late = unread > FTK_GROWN_LATE;
    const bool alone = g->drawn.chain && p.n_retrieved > 0; /* where there is one node a depth */
    const float *logits = NULL;
    if (!g->late && !alone &&
        ftk_grown_pays(g, ftk_rate_get(&g->known->drawn.first[0]), (int)unread, true))
        logits = ftk_grown_read(g, history, n);
    if (logits) draw_first(g, n, weigh(g, logits, 0), &p);
    if (p.n_chain > 0) draw_on(g, n, &p);
    plant(g, &p, budget, tree);
    g->drawn.asked = n;
}

/* ---- what came of it */

void ftk_drawn_settle(ftk_grown *g, size_t n, const ftk_tree *tree, const ftk_verdict *v)
{
    ftk_drawn_rates *const r = &g->known->drawn;
    if (!g->drawn.q || g->drawn.asked != n || tree->n < 2) return;
    g->drawn.asked = 0;
    ftk_rates_fade(r->first, DEPTH);
    ftk_rates_fade(r->beside, SIBLINGS - 1);
    for (int depth = 0, at = 0; depth < DEPTH; depth++) {
        const int next = depth < v->n_path ? v->path[depth + 1] : -1;
        int k = 0, first = -1;
        if (next >= 0 && !tree->q[next]) return; /* what was chosen came before what was drawn */
        for (int i = ftk_tree_next(tree, at, at + 1); i >= 0; i = ftk_tree_next(tree, at, i + 1)) {
            if (!tree->q[i]) continue;
            if (k == 0) first = i;
            ftk_rate_see(k == 0 ? &r->first[depth] : &r->beside[k - 1], i == next);
            if (i == next) break;
            k++;
        }
        if (next < 0 || next != first) return;
        at = next;
    }
}

/* ---- life */

bool ftk_drawn_due(const ftk_drawn *d, const ftk_sampling *sampling)
{
    return d->q && sampling->temperature > 0;
}

void ftk_drawn_init_rates(ftk_drawn_rates *r)
{
    for (int i = 0; i < DEPTH; i++) ftk_rate_init(&r->first[i], 0.6f);
    for (int i = 0; i < SIBLINGS - 1; i++) ftk_rate_init(&r->beside[i], 0.3f);
}

ftk_err ftk_drawn_init(ftk_drawn *d, const ftk_drafter_env *env)
{
    const ftk_host *const h = env->host;
    const size_t n_out = (size_t)env->model->n_out;
    *d = (ftk_drawn){.n_vocab = env->n_vocab, .chain = env->shape == FTK_TREE_CHAIN};
    d->sampler.n_vocab = env->model->n_out;
    d->sampler.logits = ftk_alloc(h, n_out, sizeof(float));
    d->sampler.order = ftk_alloc(h, n_out, sizeof(int32_t));
    d->q = ftk_alloc(h, DEPTH * (size_t)env->n_vocab, sizeof(float));
    if (d->sampler.logits && d->sampler.order && d->q) return FTK_OK;
    return ftk_fail(h, FTK_ERR_NOMEM, "no memory for what drafts are drawn from");
}

void ftk_drawn_free(ftk_drawn *d, const ftk_host *host)
{
    ftk_release(host, d->q);
    ftk_release(host, d->sampler.order);
    ftk_release(host, d->sampler.logits);
    *d = (ftk_drawn){0};
}
