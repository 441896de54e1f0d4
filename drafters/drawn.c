/* SPDX-License-Identifier: Apache-2.0
 * Drafts of drawn tokens. */
#include "drafters/drawn.h"

#include <string.h>

#include "base/mem.h"
#include "drafters/grown.h"

typedef ftk_drawn_node node;

enum { DEPTH = FTK_DRAWN_DEPTH, SIBLINGS = FTK_DRAWN_SIBLINGS };

static const float least_retrieved =
    0.15f; /* a first retrieved token that comes less often is left out */

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

void ftk_drawn_begin(ftk_grown *g, int32_t root)
{
    const ftk_retrieval *const r = g->guesses.retrieval;
    ftk_drawn *const d = &g->drawn;
    float prob = 1;
    ftk_guesses_begin(&g->guesses, root);
    d->n_retrieved = d->n_chain = d->n_beside = d->last = 0;
    if (!r || r->n == 0 || ftk_retrieval_goes_on(r, 0) < least_retrieved) return;
    for (; d->n_retrieved < r->n && d->n_retrieved < FTK_CHAIN; d->n_retrieved++) {
        prob *= ftk_retrieval_goes_on(r, d->n_retrieved);
        d->retrieved[d->n_retrieved] = (node){r->recent[d->n_retrieved], prob};
    }
}

double ftk_drawn_expected(const ftk_grown *g)
{
    const ftk_drawn *const d = &g->drawn;
    const int n = d->n_chain, more = n == 0 ? g->model->block : 1; /* depths that it may say */
    double tokens = 0, reached = n > 0 ? d->first[n - 1].prob : 1;
    if (d->chain && d->n_retrieved > 0) return 0; /* there is one node a depth */
    for (int depth = n; depth < n + more && depth < DEPTH; depth++)
        tokens += reached *= ftk_rate_get(&g->known->drawn.first[depth]);
    return tokens;
}

static void add_to_chain(ftk_grown *g, int32_t token, float prob)
{
    ftk_drawn *const d = &g->drawn;
    d->first[d->n_chain++] = (node){token, prob};
    d->last = ftk_guesses_add(&g->guesses, d->last, token, 0);
}

/* The first place: the chain's first token and its siblings, behind what was chosen there. */
static void draw_first(ftk_grown *g, size_t n, double total)
{
    ftk_drawn *const d = &g->drawn;
    int32_t out[1 + SIBLINGS];
    int n_out = 0;
    if (d->n_retrieved > 0) out[n_out++] = d->retrieved[0].token;
    float before = ftk_rate_get(&g->known->drawn.first[0]), missed = 1 - before;
    for (int k = 0; k < (d->chain ? 1 : SIBLINGS); k++) {
        const int32_t token = draw(d, 0, total, out, n_out, uniform(g, n, k));
        if (token < 0) return;
        out[n_out++] = token;
        if (k == 0) {
            add_to_chain(g, token, before);
            continue;
        }
        const float right = ftk_rate_get(&g->known->drawn.beside[k - 1]);
        const float prob = missed * right < before ? missed * right : before;
        d->beside[d->n_beside++] = (node){token, prob};
        before = prob;
        missed *= 1 - right;
    }
}

void ftk_drawn_grow(ftk_grown *g, size_t n, const float *logits)
{
    ftk_drawn *const d = &g->drawn;
    const int depth = d->n_chain;
    const double total = weigh(g, logits, depth);
    if (depth == 0) {
        draw_first(g, n, total);
        return;
    }
    const float prob = d->first[depth - 1].prob * ftk_rate_get(&g->known->drawn.first[depth]);
    add_to_chain(g, draw(d, depth, total, NULL, 0, uniform(g, n, SIBLINGS + depth)), prob);
}

/* ---- the tree */

/* The best of all first, siblings in the order in which they were drawn, and what was chosen at
 * the first place in front of them. */
void ftk_drawn_plant(ftk_grown *g, size_t n, int budget, ftk_tree *tree)
{
    ftk_drawn *const d = &g->drawn;
    int r = 0, c = 0, b = 0, at_r = 0, at_c = 0;
    d->asked = n;
    while (ftk_tree_has_room(tree, budget)) {
        const float of_r = r < d->n_retrieved ? d->retrieved[r].prob : -1;
        const float of_c = c < d->n_chain ? d->first[c].prob : -1;
        const float of_b = c > 0 && b < d->n_beside ? d->beside[b].prob : -1;
        if (of_r < 0 && of_c < 0 && of_b < 0) return;
        if (of_r >= 0 && (r == 0 || (of_r >= of_c && of_r >= of_b))) {
            at_r = ftk_tree_add(tree, at_r, d->retrieved[r++].token, of_r);
        } else if (of_c >= of_b) {
            at_c = ftk_tree_add_drawn(tree, at_c, d->first[c].token, of_c, q_at(d, c));
            c++;
        } else {
            ftk_tree_add_drawn(tree, 0, d->beside[b++].token, of_b, q_at(d, 0));
        }
    }
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
