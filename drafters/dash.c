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
 * Asynchronous: the action at a layer is asked for while the layer before runs, of the state before
 * that one times its factor.
 *
 * As a drafter the model's own reduced stack says a chain, token by token. What followed the
 * same words earlier (retrieval.h) and successors (successors.h) join, which cost nothing. So a
 * row is run where it promises more than it costs, and while rows have paid so far: tokens that
 * came thanks to them alone are weighed against those that come in the time they took, at the
 * pace of late. Second and third choices hang on the chain. How much a guess is worth is
 * measured as it goes (guesses.h), by its rank, depth and probability. The chain's rows lie in
 * the slots of the tree's first nodes, so its nodes are these. Layers below the first action
 * that is not full are exact: the pass that verifies starts above them (resume).
 *
 * dash-direct is the paper's own use: what the reduced stack says is emitted. LOSSY. */
#include "drafters/dash.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "drafters/drafter.h"
#include "drafters/guesses.h"

enum {
    ROWS = 16, /* of a chain */
    CHOICES = 3,
    DEPTHS = 4,                                           /* that have rates of their own */
    MOST = 1 + FTK_CHAIN + FTK_RECYCLED + ROWS * CHOICES, /* candidates, with the root */
};

static const float smooth = 0.2f, fade = 0.99f; /* of what rows cost */
static const float always_worth = 0.5f;         /* of a chain that FTK_DASH_ALWAYS goes on with */
static const float most_cost = 2; /* plain steps of a row: more was a page that was not there yet */
/* In tokens: what rows may lose at first, earn by each step without them, and have at most. */
static const float balance_first = 2, balance_step = 0.01f, balance_most = 4;

/* Rates [DEPTHS][CHOICES][FTK_LIKELY_BINS], and [FTK_LIKELY_BINS] of successors
 * beside it, then those of all guesses, see guesses.h */
enum {
    BESIDE_AT = DEPTHS * CHOICES * FTK_LIKELY_BINS,
    RATES = BESIDE_AT + FTK_LIKELY_BINS + FTK_GUESS_RATES
};

typedef struct known {
    ftk_rate rates[RATES];
    float row;     /* plain steps that a row takes, smoothed */
    float balance; /* what rows have brought more than they took, in tokens */
} known;

typedef struct dash {
    const ftk_target *target;
    ftk_dash_parts parts;
    ftk_policy policy;
    ftk_route route;
    const ftk_retrieval *retrieval;
    const ftk_successors *successors; /* NULL: left out */
    size_t asked; /* the candidates are an open prediction of what follows text[0..asked) */
    known *known; /* of all sessions */
    ftk_guesses guesses;
    int n_rows;       /* of the chain that were run */
    int exact[ROWS];  /* layers of a row that were full, up to the first that was not */
    uint8_t *actions; /* [n_layer] */
    /* NULL where nothing is resumed: */
    float *states; /* [ROWS][n_layer][n_embd] */
    float *ready;  /* [FTK_MAX_NODES][n_embd] */
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

static int layers_exact(const dash *s)
{
    int n = 0;
    while (n < s->policy.n_layer - 1 && s->actions[n] == FTK_FULL) n++;
    return n;
}

/* ------------------------------------------------------------------ rates */

static void init_known(void *rates)
{
    known *const k = rates;
    ftk_guesses_init_rates(k->rates, RATES);
    for (int i = 0; i < RATES - FTK_GUESS_RATES; i++)
        ftk_rate_init(&k->rates[i],
                      ftk_likely_prior(i % FTK_LIKELY_BINS) * (i < BESIDE_AT ? 1 : 0.2f));
    k->balance = balance_first;
}

/* depth: of the guess, from 1 on */
static int stack_rate(int depth, int rank, int bin)
{
    const int at = depth < DEPTHS ? depth - 1 : DEPTHS - 1;
    return (at * CHOICES + rank) * FTK_LIKELY_BINS + bin;
}

static void add_balance(dash *s, float tokens)
{
    const float sum = s->known->balance + tokens;
    s->known->balance = sum < balance_most ? sum : balance_most;
}

/* What a pass over so many rows takes more than a plain step, in plain steps. */
static float wider(const dash *s, int rows)
{
    const ftk_target *t = s->target;
    return (float)(t->seconds(t->ctx, 0, rows) / t->seconds(t->ctx, 0, 1)) - 1;
}

static double now(const dash *s)
{
    return s->target->now(s->target->ctx);
}

static float pace(const dash *s)
{
    return (float)s->target->pace(s->target->ctx);
}

/* The tokens that came after the open prediction: those that came thanks to the stack alone are
 * what rows have brought. Rows of the chain answer for the tree that was verified with them. */
static void settle(dash *s, const int32_t *truth, int n, int verified)
{
    ftk_guesses_settle(&s->guesses, truth, (size_t)n);
    for (int d = 0, at = 0; d + 1 < n; d++) {
        at = ftk_guesses_child(&s->guesses, at, truth[d]);
        if (at < 0) break;
        if (!s->guesses.all[at].shared) add_balance(s, 1);
    }
    add_balance(s, s->n_rows == 0 ? balance_step : -wider(s, verified) * pace(s));
}

/* ------------------------------------------------------------------ candidates */

/* The children of `node` by the stack; the first of them, or -1 for logits that are not finite. */
static int suggest_choices(dash *s, int node, const ftk_rows *said)
{
    int32_t best[CHOICES];
    int8_t bin[CHOICES];
    const int most = s->guesses.chain ? 1 : CHOICES;
    const int n = ftk_rows_likely(said, 0, s->target->n_vocab, most, best, bin);
    const int depth = s->guesses.all[node].depth + 1;
    for (int i = 0; i < n; i++)
        ftk_guesses_add(&s->guesses, node, best[i], stack_rate(depth, i, bin[i]));
    ftk_guesses_answered(&s->guesses, node);
    return n > 0 ? ftk_guesses_child(&s->guesses, node, best[0]) : -1;
}

/* A row costs its own time, and what it says has to be verified. */
static bool pays(const dash *s, int node)
{
    if (s->parts.without & FTK_DASH_ALWAYS) return s->guesses.all[node].worth > always_worth;
    const float more = wider(s, s->n_rows + 2) - wider(s, s->n_rows + 1);
    return s->known->balance > 0 &&
           ftk_guesses_open(&s->guesses, node) > (s->known->row + more) * pace(s);
}

/* The row of a node at the end of the chain; false: there is no room. */
static bool run_node(dash *s, int node, const ftk_rows **said)
{
    const size_t each = (size_t)s->policy.n_layer * (size_t)s->policy.n_embd;
    if (s->states) s->route.states = s->states + (size_t)s->n_rows * each;
    const double start = now(s);
    *said = run_row(s, s->n_rows, s->guesses.all[node].token);
    if (!*said) return false;
    const float steps = (float)((now(s) - start) / s->target->seconds(s->target->ctx, 0, 1));
    const float cost = steps < most_cost ? steps : most_cost;
    s->known->row += smooth * (cost - s->known->row);
    add_balance(s, -cost * pace(s));
    s->exact[s->n_rows++] = layers_exact(s);
    return true;
}

/* Runs the reduced stack along its own first choices; where the chain of them ends. */
static int run_chain(dash *s, int budget)
{
    const ftk_rows *said;
    int at = 0;
    while (s->n_rows < ROWS && s->n_rows < budget && pays(s, at)) {
        const int next = run_node(s, at, &said) ? suggest_choices(s, at, said) : -1;
        if (next < 0) break;
        at = next;
    }
    return at;
}

/* ------------------------------------------------------------------ the drafter */

static ftk_err take_memory(dash *s, const ftk_host *h)
{
    const size_t d = (size_t)s->policy.n_embd, layers = (size_t)s->policy.n_layer;
    if (ftk_guesses_init(&s->guesses, h, MOST, s->known->rates, RATES) != FTK_OK)
        return FTK_ERR_NOMEM;
    s->actions = ftk_alloc(h, layers, sizeof *s->actions);
    const bool resumes = s->target->resumes;
    if (resumes) s->states = ftk_alloc_raw(h, ROWS * layers * d, sizeof(float));
    if (resumes) s->ready = ftk_alloc_raw(h, FTK_MAX_NODES * d, sizeof(float));
    if (s->actions && (!resumes || (s->states && s->ready))) return FTK_OK;
    return ftk_fail(h, FTK_ERR_NOMEM, "no memory for the states of a draft");
}

static ftk_err dash_init(void *state, const ftk_drafter_env *env)
{
    dash *const s = state;
    s->target = env->target;
    s->retrieval = env->retrieval;
    if (env->test) memcpy(&s->parts, env->test, sizeof s->parts);
    s->successors = s->parts.without & FTK_DASH_NO_SUCCESSORS ? NULL : env->successors;
    s->policy = dash_policy(env->weights, env->target);
    s->policy.fixed = s->parts.fixed;
    if (s->parts.without & FTK_DASH_NO_SCALE) s->policy.scale = NULL;
    s->known = env->rates;
    const ftk_err err = take_memory(s, env->host);
    if (err != FTK_OK) return err;
    s->guesses.chain = env->shape == FTK_TREE_CHAIN;
    s->guesses.beside = BESIDE_AT;
    s->route = (ftk_route){
        .policy = &s->policy,
        .ahead = !(s->parts.without & FTK_DASH_IN_TIME),
        .actions = s->actions,
    };
    return FTK_OK;
}

static void dash_free(void *state, const ftk_host *host)
{
    dash *const s = state;
    ftk_guesses_free(&s->guesses, host);
    void *const all[] = {s->actions, s->states, s->ready};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ftk_release(host, all[i]);
    *s = (dash){0};
}

static void dash_reset(void *state, const int32_t *history, size_t n)
{
    (void)history, (void)n;
    dash *const s = state;
    s->asked = 0;
    s->n_rows = 0;
}

static void dash_propose(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    dash *const s = state;
    ftk_guesses_begin(&s->guesses, history[n - 1]);
    s->n_rows = 0;
    if (!(s->parts.without & FTK_DASH_NO_RETRIEVAL))
        ftk_guesses_add_retrieved(&s->guesses, s->retrieval);
    ftk_guesses_add_successors(&s->guesses, s->successors);
    const int end = run_chain(s, budget);
    if (s->n_rows == 0) s->known->row *= fade; /* it is tried again some time */
    ftk_guesses_add_successors(&s->guesses, s->successors);
    s->asked = n;
    ftk_guesses_plant_path(&s->guesses, end, budget, tree);
}

static int dash_resume(void *state, const ftk_tree *tree, int *n_ready, float **states)
{
    dash *const s = state;
    const size_t d = (size_t)s->policy.n_embd, layers = (size_t)s->policy.n_layer;
    const int n = s->n_rows < tree->n ? s->n_rows : tree->n;
    if (n == 0 || !s->states || s->parts.without & FTK_DASH_NO_RESUME) return 0;
    int first = s->exact[0];
    for (int i = 1; i < n; i++) first = s->exact[i] < first ? s->exact[i] : first;
    for (size_t i = 0; i < (size_t)n; i++)
        memcpy(s->ready + i * d, s->states + (i * layers + (size_t)first) * d, d * sizeof(float));
    *n_ready = n;
    *states = s->ready;
    return first;
}

static void dash_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                       const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history, (void)rows;
    dash *const s = state;
    if (s->asked == n) settle(s, verdict->token, verdict->n_path + 1, tree->n);
    s->asked = 0;
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
    .resume = dash_resume,
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

static void direct_propose(void *state, const int32_t *history, size_t n, int budget,
                           ftk_tree *tree)
{
    (void)state, (void)history, (void)n, (void)budget, (void)tree;
}

static void direct_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                         const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)state, (void)history, (void)n, (void)tree, (void)verdict, (void)rows;
}

static void direct_reset(void *state, const int32_t *history, size_t n)
{
    (void)state, (void)history, (void)n;
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
    .propose = direct_propose,
    .decode = direct_decode,
    .learn = direct_learn,
    .reset = direct_reset,
    .free = dash_free,
};
