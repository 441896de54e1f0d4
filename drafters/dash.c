/* SPDX-License-Identifier: Apache-2.0
 *
 * DASH: layer skipping as a Markov decision process ("DASH: Input-Aware Dynamic Layer Skipping for
 * Efficient LLM Inference with Markov Decision Policies", arXiv 2505.17420). Of the paper no more
 * than the abstract and a review were at hand: what follows is OUR READING of it.
 *
 * At each layer but the first and the last ones a policy chooses for the token at hand: the layer,
 * its copy in few bits, or none of it; then the state is multiplied by a factor per channel, fitted
 * to what the layer makes of states on average (compensation). How it chooses is in base/policy.h.
 *
 * The paper asks for an action while the layer before runs. Here it is asked for when the layer's
 * state is there: there is nothing to hide (docs/drafters.md).
 *
 * As a drafter the model's own reduced stack says a chain, token by token. What followed the
 * same words earlier (retrieval.h) and successors (successors.h) join, which cost nothing. So a
 * row is run where what is expected of it takes longer without it, at the pace of late, than it
 * and its verification take. Second and third choices hang on the chain. How much a guess is
 * worth is measured as it goes (guesses.h), by its rank, depth and probability.
 *
 * dash-direct is the paper's own use: what the reduced stack says is emitted. LOSSY. */
#include "drafters/dash.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "drafters/confidence.h"
#include "drafters/drafter.h"
#include "drafters/guesses.h"
#include "drafters/took.h"

enum {
    ROWS = 16, /* of a chain */
    CHOICES = 3,
    DEPTHS = 4,                                           /* that have rates of their own */
    MOST = 1 + FTK_CHAIN + FTK_RECYCLED + ROWS * CHOICES, /* candidates, with the root */
};

static const float always_worth = 0.5f; /* of a chain that FTK_ROWS_ALWAYS goes on with */

/* Rates [DEPTHS][CHOICES][FTK_LIKELY_BINS], then those of all guesses, see guesses.h */
enum { OWN = DEPTHS * CHOICES * FTK_LIKELY_BINS, RATES = OWN + FTK_GUESS_RATES };

typedef struct known {
    ftk_rate rates[RATES];
    ftk_confidence confidence[DEPTHS];
    double took[2]; /* of a row: took.h */
} known;

typedef struct dash {
    const ftk_target *target;
    ftk_dash_parts parts;
    ftk_policy policy;
    ftk_route route;
    known *known; /* of all sessions */
    ftk_guesses guesses;
    int n_rows;       /* of the chain that were run */
    uint8_t *actions; /* [n_layer] */
} dash;

/* ------------------------------------------------------------------ the file */

static bool get_vector(const ftk_weights *w, const char *name, int n, const ftk_host *host,
                       const float **out)
{
    const ftk_weight *t = ftk_weights_get(w, name, 0, n, host);
    if (t) *out = t->vector;
    return t != NULL;
}

static bool get_cost(const ftk_weights *w, const char *key, const ftk_host *host, float *out)
{
    int thousandths;
    if (!ftk_weights_int(w, key, 0, 1000, &thousandths, host)) return false;
    *out = (float)thousandths / 1000;
    return true;
}

static bool read_policy(ftk_policy *p, const ftk_weights *w, const ftk_target *t,
                        const ftk_host *host)
{
    int partial;
    *p = (ftk_policy){.n_layer = t->n_layer, .n_embd = t->n_embd, .cost = {1}};
    if (!ftk_weights_int(w, "hidden", 1, FTK_POLICY_UNITS, &p->units, host) ||
        !ftk_weights_int(w, "first", 1, t->n_layer, &p->first, host) ||
        !ftk_weights_int(w, "last", 1, t->n_layer, &p->last, host) ||
        !ftk_weights_int(w, "partial", 0, 1, &partial, host) ||
        !get_cost(w, "cost.partial", host, &p->cost[FTK_PARTIAL]) ||
        !get_cost(w, "cost.skip", host, &p->cost[FTK_SKIP]))
        return false;
    const int outputs = p->n_layer * FTK_ACTIONS;
    p->partial = partial != 0;
    return get_vector(w, "policy.in", p->n_embd * p->units, host, &p->in) &&
           get_vector(w, "policy.past", FTK_POLICY_PAST * p->units, host, &p->past) &&
           get_vector(w, "policy.bias", p->n_layer * p->units, host, &p->bias) &&
           get_vector(w, "policy.out", outputs * p->units, host, &p->out) &&
           get_vector(w, "policy.out_bias", outputs, host, &p->out_bias) &&
           get_vector(w, "scale", p->n_layer * p->n_embd, host, &p->scale);
}

static ftk_err dash_check(const ftk_weights *w, const ftk_target *t, const ftk_host *host)
{
    ftk_policy p;
    if (!read_policy(&p, w, t, host)) return FTK_ERR_FORMAT;
    if (p.first + p.last >= t->n_layer)
        return ftk_fail(host, FTK_ERR_FORMAT,
                        "%s: keys foretoken.drafter.first and last leave none of the %d layers to "
                        "decide about",
                        w->path, t->n_layer);
    return FTK_OK;
}

static ftk_policy dash_policy(const ftk_weights *w, const ftk_target *t)
{
    static const ftk_host quiet;
    ftk_policy p;
    read_policy(&p, w, t, &quiet);
    return p;
}

/* ------------------------------------------------------------------ rows */

static const ftk_rows *run_row(dash *s, int depth, int32_t token)
{
    const ftk_rows *said = s->target->run_route(s->target->ctx, depth, token, &s->route);
    for (int l = 0; s->parts.taken && said && l < s->policy.n_layer; l++)
        s->parts.taken[s->actions[l]]++;
    return said;
}

/* ------------------------------------------------------------------ rates */

static void init_known(void *rates)
{
    known *const k = rates;
    ftk_guesses_init_rates(k->rates, RATES);
    for (int i = 0; i < OWN; i++)
        ftk_rate_init(&k->rates[i], ftk_likely_prior(i % FTK_LIKELY_BINS));
    for (int i = 0; i < DEPTHS; i++) ftk_confidence_init(&k->confidence[i]);
}

/* Which rates those of the row for a node of this depth are. */
static int class_of(int depth)
{
    return depth < DEPTHS ? depth : DEPTHS - 1;
}

static int stack_rate(int class, int rank, int bin)
{
    return (class * CHOICES + rank) * FTK_LIKELY_BINS + bin;
}

/* ------------------------------------------------------------------ candidates */

/* The children of `node` by the stack; the first of them, or -1 for logits that are not finite. */
static int suggest_choices(dash *s, int node, const ftk_rows *said)
{
    int32_t best[CHOICES];
    int8_t bin[CHOICES];
    const int most = s->guesses.chain ? 1 : CHOICES;
    const int n = ftk_rows_likely(said, 0, s->target->n_vocab, most, best, bin);
    const int class = class_of(s->guesses.all[node].depth);
    if (n > 0) ftk_confidence_see(&s->known->confidence[class], bin[0]);
    for (int i = 0; i < n; i++)
        ftk_guesses_add(&s->guesses, node, best[i], stack_rate(class, i, bin[i]));
    return n > 0 ? ftk_guesses_child(&s->guesses, node, best[0]) : -1;
}

/* A row costs its own time, and what it says has to be verified. */
static bool pays(const dash *s, int node)
{
    if (s->parts.without & FTK_ROWS_ALWAYS) return s->guesses.all[node].worth > always_worth;
    const ftk_target *const t = s->target;
    const int class = class_of(s->n_rows);
    const double saves = ftk_confidence_saves(
        &s->known->confidence[class], s->known->rates + stack_rate(class, 0, 0),
        ftk_guesses_open(&s->guesses, node), ftk_target_token(t, 0),
        ftk_target_verify(t, s->n_rows + 1, 1));
    return saves > ftk_took_of(s->known->took, t, 1, 0, 1);
}

/* The row of a node at the end of the chain; false: there is no room. */
static bool run_node(dash *s, int node, const ftk_rows **said)
{
    const ftk_target *const t = s->target;
    const double start = t->now(t->ctx);
    *said = run_row(s, s->n_rows, s->guesses.all[node].token);
    if (!*said) return false;
    ftk_took_see(s->known->took, t, 1, t->now(t->ctx) - start);
    s->n_rows++;
    return true;
}

/* Runs the reduced stack along its own first choices. */
static void run_chain(dash *s, int budget)
{
    const ftk_rows *said;
    for (int at = 0; at >= 0 && s->n_rows < ROWS && s->n_rows < budget && pays(s, at);)
        at = run_node(s, at, &said) ? suggest_choices(s, at, said) : -1;
}

/* ------------------------------------------------------------------ the drafter */

static ftk_err dash_init(void *state, const ftk_drafter_env *env)
{
    dash *const s = state;
    s->target = env->target;
    if (env->test) memcpy(&s->parts, env->test, sizeof s->parts);
    s->policy = dash_policy(env->weights, env->target);
    s->policy.fixed = s->parts.fixed;
    if (s->parts.without & FTK_DASH_NO_SCALE) s->policy.scale = NULL;
    s->known = env->rates;
    if (ftk_guesses_init_for(&s->guesses, env, MOST, s->known->rates, RATES) != FTK_OK)
        return FTK_ERR_NOMEM;
    s->actions = ftk_alloc(env->host, (size_t)s->policy.n_layer, sizeof *s->actions);
    if (!s->actions) return ftk_fail(env->host, FTK_ERR_NOMEM, "no memory for a row's actions");
    s->route = (ftk_route){.policy = &s->policy, .actions = s->actions};
    return FTK_OK;
}

static void dash_free(void *state, const ftk_host *host)
{
    dash *const s = state;
    ftk_guesses_free(&s->guesses, host);
    ftk_release(host, s->actions);
    *s = (dash){0};
}

static void dash_reset(void *state, const int32_t *history, size_t n)
{
    (void)history, (void)n;
    dash *const s = state;
    s->guesses.asked = 0;
    s->n_rows = 0;
}

static void dash_propose(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    dash *const s = state;
    ftk_guesses_ask(&s->guesses, history, n);
    s->n_rows = 0;
    run_chain(s, budget);
    if (s->n_rows == 0) ftk_took_doubt(s->known->took, s->target);
    ftk_guesses_plant(&s->guesses, budget, tree);
}

static void dash_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                       const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history, (void)tree, (void)rows;
    dash *const s = state;
    ftk_guesses_settle(&s->guesses, n, verdict->token, (size_t)verdict->n_path + 1);
    s->n_rows = 0; /* the cache has moved on */
}

const ftk_drafter_ops ftk_drafter_dash = {
    .name = "dash",
    .state_size = sizeof(dash),
    .rates_size = sizeof(known),
    .rates_init = init_known,
    .wants = FTK_WANT_PASSES | FTK_WANT_SUCCESSORS,
    .check = dash_check,
    .policy = dash_policy,
    .init = dash_init,
    .propose = dash_propose,
    .learn = dash_learn,
    .reset = dash_reset,
    .free = dash_free,
};

/* ------------------------------------------------------------------ dash-direct */

static void direct_decode(void *state, const int32_t *history, size_t n)
{
    dash *const s = state;
    run_row(s, 0, history[n - 1]);
}

const ftk_drafter_ops ftk_drafter_dash_direct = {
    .name = "dash-direct",
    .family = "dash",
    .state_size = sizeof(dash),
    .rates_size = sizeof(known),
    .rates_init = init_known,
    .wants = FTK_WANT_PASSES,
    .check = dash_check,
    .policy = dash_policy,
    .init = dash_init,
    .decode = direct_decode,
    .learn = dash_learn,
    .reset = dash_reset,
    .free = dash_free,
};
