/* SPDX-License-Identifier: Apache-2.0
 *
 * S4C: multi-head drafting with a continuous verification tree ("Speculative Sampling with Syntactic and
 * Semantic Coherence", arXiv 2506.14158). Of the paper no more than the abstract was at hand: what
 * follows is OUR READING of it.
 *
 * Semantic coherence: a head sees the feature of the place before. Syntactic coherence: it sees the token
 * that was chosen there. So heads are a chain. With g_0 the model's feature (the state after its last
 * norm) where it said the root, and x the token a node stands for, head i of its depth makes
 *
 *     z = [x's embedding / its root mean square ; g_i]       u = W_in[i] z
 *     g_(i+1) = u + silu(W_body[i] u)                         logits = output matrix . g_(i+1)
 *
 * for the node's children. All nodes of a depth go through one product.
 *
 * A file may leave either out, to show what it is worth. Key "chained" 0: every head sees g_0. Key "token"
 * 0: z is the feature alone, so that all nodes of a depth have the same children, of one row. Heads with
 * neither are Medusa's (arXiv 2401.10774) but for W_in.
 *
 * The tree: a node is worth the product of its path's probabilities. Of each depth the best nodes, at
 * most WIDTH, get children, CHOICES each; of all candidates the best are drafted. A head's probability
 * counts as what guesses of its size were worth so far (guesses.h). A head runs for as many nodes as it
 * is worth running for: the tokens expected of it must take longer to say without it than it runs. A
 * device runs all heads in one call and chooses the nodes itself, by the same worths (base/target.h); how
 * many heads that are is decided before, and nodes are free. Where it may, it makes the tree as well and
 * verifies it at once: then no successor stands behind what heads named.
 *
 * Continuous: the accepted path's last feature is the next g_0, nothing is computed again. What the model
 * said behind the best rejected node, which stood where the new root stands, and what was drafted below
 * the new root's token but not verified, are candidates for the next first place. The chain of what
 * followed the same words earlier (retrieval.h) and the successors of all candidates (successors.h) join,
 * so that a head runs for what these leave open. Two sources that name one token
 * are one node, worth the more of both. */
#include "drafters/s4c.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/sampler.h"
#include "drafters/drafter.h"
#include "drafters/guesses.h"

enum {
    MOST_HEADS = FTK_HEADS,
    WIDTH = FTK_HEAD_NODES,
    CHOICES = FTK_LIKELY,
    KEPT = 3, /* candidates of each kind that are carried over */
    /* candidates, with the root: */
    MOST = 1 + FTK_CHAIN + FTK_RECYCLED + 2 * KEPT + MOST_HEADS * WIDTH * CHOICES,
};

static const float floor_worth = 0.02f; /* of a node that gets children */

typedef enum source { HEAD, REJECTED, UNVERIFIED } source;

/* Rates, by source and class. */
enum {
    HEAD_AT = 0,                                      /* [MOST_HEADS][FTK_LIKELY_BINS] */
    KEPT_AT = HEAD_AT + MOST_HEADS * FTK_LIKELY_BINS, /* [REJECTED, UNVERIFIED][KEPT] */
    BEST_AT = KEPT_AT + 2 * KEPT,      /* [MOST_HEADS] how often a head's best choice is right */
    NAMED_AT = BEST_AT + MOST_HEADS,   /* [MOST_HEADS] how often one of its choices is */
    BESIDE_AT = NAMED_AT + MOST_HEADS, /* [FTK_LIKELY_BINS] of successors, see guesses.h */
    RATES = BESIDE_AT + FTK_LIKELY_BINS + FTK_GUESS_RATES,
};

typedef struct kept {
    int n;
    int32_t token[KEPT];
} kept;

typedef struct s4c {
    const ftk_target *target;
    const ftk_weights *weights;
    unsigned flags;
    int n_heads;
    bool chained, sees_token;
    const struct ftk_mat *in[MOST_HEADS], *body[MOST_HEADS];
    const ftk_retrieval *retrieval;
    const ftk_successors *successors; /* NULL: left out */
    size_t feature_of; /* length of the text whose root `feature` leads to; 0: none */
    size_t asked;      /* the candidates are an open prediction of what follows text[0..asked) */
    kept kept[2];      /* as of feature_of */
    ftk_rate rates[RATES];
    double took[WIDTH]; /* seconds of a head for so many nodes and one, smoothed; 0: not known. On a
                           device, of a draft by so many heads and one */
    ftk_guesses guesses;
    int32_t best[MOST_HEADS][WIDTH]; /* a head's best choice for each node it ran for */
    float *feature;                  /* [n_embd] */
    float *g[2];                     /* [WIDTH][n_embd] of a depth and of the one before */
    float *z, *e, *u, *v; /* [WIDTH][2 n_embd] or [WIDTH][n_embd], [WIDTH][n_embd] each */
    float *logits;        /* [WIDTH][n_head] */
    ftk_heads heads;      /* as a device runs them */
    ftk_heads_ask ask;
} s4c;

/* ------------------------------------------------------------------ the file */

static const ftk_weight *head_weight(const ftk_weights *w, int head, const char *part, int n_out,
                                     int n_in, const ftk_host *host)
{
    char name[32];
    snprintf(name, sizeof name, "head.%d.%s", head, part);
    return ftk_weights_get(w, name, n_out, n_in, host);
}

/* 0 or 1 under a key that may be missing, which means 1. */
static bool get_flag(const ftk_weights *w, const char *key, const ftk_host *host, bool *out)
{
    char name[64];
    ftk_gguf_value any;
    int value = 1;
    snprintf(name, sizeof name, "foretoken.drafter.%s", key);
    if (ftk_gguf_find(w->file, name, &any) && !ftk_weights_int(w, key, 0, 1, &value, host))
        return false;
    *out = value == 1;
    return true;
}

static int inputs(bool sees_token, int n_embd)
{
    return sees_token ? 2 * n_embd : n_embd;
}

static ftk_err s4c_check(const ftk_weights *w, const ftk_target *t, const ftk_host *host)
{
    int heads;
    bool chained, token;
    if (!ftk_weights_int(w, "heads", 1, MOST_HEADS, &heads, host) ||
        !get_flag(w, "chained", host, &chained) || !get_flag(w, "token", host, &token))
        return FTK_ERR_FORMAT;
    for (int i = 0; i < heads; i++)
        if (!head_weight(w, i, "in", t->n_embd, inputs(token, t->n_embd), host) ||
            !head_weight(w, i, "body", t->n_embd, t->n_embd, host))
            return FTK_ERR_FORMAT;
    return FTK_OK;
}

/* ------------------------------------------------------------------ candidates */

static void init_rates(ftk_rate *r)
{
    for (int i = 0; i < MOST_HEADS * FTK_LIKELY_BINS; i++)
        ftk_rate_init(&r[HEAD_AT + i],
                      ftk_likely_prior(i % FTK_LIKELY_BINS) * (i < FTK_LIKELY_BINS ? 1 : 0.9f));
    for (int i = 0; i < 2 * KEPT; i++)
        ftk_rate_init(&r[KEPT_AT + i], 0.15f / (float)(i % KEPT + 1));
    for (int i = 0; i < MOST_HEADS; i++) ftk_rate_init(&r[BEST_AT + i], 0.5f);
    for (int i = 0; i < MOST_HEADS; i++) ftk_rate_init(&r[NAMED_AT + i], 0.75f);
    for (int i = 0; i < FTK_LIKELY_BINS; i++)
        ftk_rate_init(&r[BESIDE_AT + i], 0.2f * ftk_likely_prior(i));
}

static void suggest_kept(s4c *s)
{
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < s->kept[k].n; i++)
            ftk_guesses_add(&s->guesses, 0, s->kept[k].token[i], REJECTED + k,
                            KEPT_AT + k * KEPT + i);
}

/* ------------------------------------------------------------------ heads */

/* z = [token, scaled to rms 1 ; feature] */
static void put_tokens(s4c *s, int n, const int *chosen)
{
    const ftk_target *const t = s->target;
    const size_t d = (size_t)t->n_embd;
    int32_t tokens[WIDTH];
    for (int i = 0; i < n; i++) tokens[i] = s->guesses.all[chosen[i]].token;
    t->embed(t->ctx, n, tokens, s->e);
    for (size_t i = 0; i < (size_t)n; i++) {
        const float *const e = s->e + i * d;
        float sum = 0, *const z = s->z + i * 2 * d;
        for (size_t j = 0; j < d; j++) sum += e[j] * e[j];
        const float scale = 1 / sqrtf(sum / (float)d + FTK_EMBED_EPS);
        for (size_t j = 0; j < d; j++) z[j] = e[j] * scale;
    }
}

static const float *feature_for(const s4c *s, int head, int node)
{
    if (head == 0 || !s->chained) return s->feature;
    const int row = s->sees_token ? s->guesses.all[s->guesses.all[node].parent].row : 0;
    return s->g[0] + (size_t)row * (size_t)s->target->n_embd;
}

/* Rows that a head needs for n nodes. */
static int rows_for(const s4c *s, int n)
{
    return s->sees_token || n == 0 ? n : 1;
}

/* Features of the chosen nodes' children, s->g[1], and what they say, s->logits. */
static void run_head(s4c *s, int head, int n, const int *chosen)
{
    const ftk_target *const t = s->target;
    const size_t d = (size_t)t->n_embd, row = (size_t)inputs(s->sees_token, t->n_embd);
    if (s->sees_token) put_tokens(s, n, chosen);
    for (size_t i = 0; i < (size_t)n; i++)
        memcpy(s->z + (i + 1) * row - d, feature_for(s, head, chosen[i]), d * sizeof *s->z);
    t->multiply(t->ctx, s->in[head], n, s->z, s->u);
    t->multiply(t->ctx, s->body[head], n, s->u, s->v);
    for (size_t j = 0; j < (size_t)n * d; j++) {
        const float v = s->v[j], e = ftk_exp_below(v < 0 ? v : -v);
        s->g[1][j] = s->u[j] + v * (v < 0 ? e : 1) / (1 + e);
    }
    t->multiply(t->ctx, s->weights->head, n, s->g[1], s->logits);
}

/* Of what a head said, row `row` is a node's. guess[CHOICES], unless NULL, gets the children. */
static void suggest_children(s4c *s, int node, int head, const ftk_rows *said, int row,
                             int16_t *guess)
{
    int32_t best[CHOICES];
    int8_t bin[CHOICES];
    const int most = s->guesses.chain ? 1 : CHOICES;
    const int n = ftk_rows_likely(said, row, s->weights->n_head, most, best, bin);
    s->guesses.all[node].row = (int16_t)row;
    s->best[head][row] = -1;
    for (int i = 0; i < n; i++) {
        const int32_t token = s->weights->vocab ? s->weights->vocab[best[i]] : best[i];
        const int at = ftk_guesses_add(&s->guesses, node, token, HEAD,
                                       HEAD_AT + head * FTK_LIKELY_BINS + bin[i]);
        if (guess) guess[i] = (int16_t)at;
        if (i == 0) s->best[head][row] = token;
    }
    ftk_guesses_answered(&s->guesses, node);
}

static double now(const s4c *s)
{
    return s->target->now(s->target->ctx);
}

/* At the pace of late. */
static double token_seconds(const s4c *s)
{
    const ftk_target *const t = s->target;
    return t->seconds(t->ctx, 0, 1) / t->pace(t->ctx);
}

/* Seconds of a head for n nodes: of a number not seen yet, as of the next smaller one that was. */
static double head_seconds(const s4c *s, int n)
{
    int known = n;
    while (known > 1 && s->took[known - 1] == 0) known--;
    return s->took[known - 1] * (n + 2) / (known + 2);
}

/* For how many of the chosen nodes, the best first, the head is worth running. Times that keep a head
 * from running are not measured again: they are believed a little less each time. */
static int worth_running(s4c *s, int head, int n, const int *chosen)
{
    const double right = ftk_rate_get(&s->rates[BEST_AT + head]);
    const double token = token_seconds(s);
    double tokens = 0, most = 0;
    int best = 0;
    for (int i = 0; i < n; i++) {
        tokens += right * ftk_guesses_open(&s->guesses, chosen[i]);
        const double gain = tokens * token - head_seconds(s, rows_for(s, i + 1));
        if (gain > most) {
            most = gain;
            best = i + 1;
        }
    }
    for (int i = 0; best == 0 && i < WIDTH; i++) s->took[i] *= 0.99;
    return best;
}

static void time_head(s4c *s, int n, double seconds)
{
    double *const took = &s->took[n - 1];
    if (*took == 0) *took = seconds;
    if (seconds > 4 * *took) seconds = 4 * *took; /* another program had the core */
    *took += 0.2 * (seconds - *took);
}

static void run_heads(s4c *s)
{
    const int most = s->guesses.chain ? 1 : WIDTH;
    const bool linked = s->chained && s->sees_token;
    for (int head = 0; head < s->n_heads; head++) {
        int chosen[WIDTH];
        ftk_guesses_add_successors(&s->guesses, s->successors);
        int n = ftk_guesses_best(&s->guesses, head, floor_worth, linked, most, chosen);
        n = worth_running(s, head, n, chosen);
        if (n == 0) return;
        const int rows = rows_for(s, n);
        const double start = now(s);
        run_head(s, head, rows, chosen);
        const ftk_rows said = {.logits = s->logits};
        for (int i = 0; i < n; i++)
            suggest_children(s, chosen[i], head, &said, rows == n ? i : 0, NULL);
        time_head(s, rows, now(s) - start);
        float *const before = s->g[0];
        s->g[0] = s->g[1];
        s->g[1] = before;
    }
}

/* ------------------------------------------------------------------ heads on a device */

/* Seconds of a draft by n heads: of a number not seen yet, as of the next smaller one that was. */
static double chain_seconds(const s4c *s, int n)
{
    int known = n;
    while (known > 1 && s->took[known - 1] == 0) known--;
    return s->took[known - 1] * (n + 1) / (known + 1);
}

/* How likely it is that the text comes by a node of that depth and what is known ends there. */
static double open_at(const s4c *s, int depth)
{
    const ftk_guesses *const g = &s->guesses;
    double open = 0;
    for (int i = 0; i < g->n; i++)
        if (g->all[i].depth == depth && g->all[i].worth >= floor_worth)
            open += ftk_guesses_open(g, i);
    return open;
}

/* How many heads are worth running, as worth_running() has it of nodes: a head is reached where what was
 * known ends at its depth, or where one of the choices of the head before is right. */
static int heads_worth_running(s4c *s)
{
    const double token = token_seconds(s);
    double reached = 0, tokens = 0, most = 0;
    int best = 0;
    for (int head = 0; head < s->n_heads; head++) {
        reached += open_at(s, head);
        tokens += ftk_rate_get(&s->rates[BEST_AT + head]) * reached;
        const double gain = tokens * token - chain_seconds(s, head + 1);
        if (gain > most) {
            most = gain;
            best = head + 1;
        }
        reached *= ftk_rate_get(&s->rates[NAMED_AT + head]);
    }
    for (int i = 0; best == 0 && i < WIDTH; i++) s->took[i] *= 0.99;
    return best;
}

/* What is known before the heads run: guess i is known[i]. */
static void tell_device(s4c *s)
{
    ftk_guesses_tell(&s->guesses, &s->ask);
    for (int i = 0; i < MOST_HEADS * FTK_LIKELY_BINS; i++)
        s->ask.rate[i / FTK_LIKELY_BINS][i % FTK_LIKELY_BINS] =
            ftk_rate_get(&s->rates[HEAD_AT + i]);
}

/* The guesses that the heads' choices are. */
static void suggest_said(s4c *s, const ftk_heads_said *said)
{
    int16_t guess[FTK_HEAD_KNOWN + MOST_HEADS * WIDTH * CHOICES];
    memset(guess, -1, sizeof guess);
    for (int i = 0; i < s->ask.n_known; i++) guess[i] = (int16_t)i;
    for (int head = 0; head < s->heads.n; head++) {
        const ftk_rows rows = {.ranked = said->said[head]};
        for (int i = 0; i < said->n[head]; i++) {
            const int node = guess[said->node[head][i]];
            if (node >= 0)
                suggest_children(s, node, head, &rows, s->sees_token ? i : 0,
                                 guess + FTK_HEAD_KNOWN + (head * WIDTH + i) * CHOICES);
        }
    }
}

/* True: the device goes on from here, up to the tree, and s4c_finished() gets what the heads said. */
static bool run_on_device(s4c *s, int budget)
{
    const ftk_target *const t = s->target;
    ftk_guesses_add_successors(&s->guesses, s->successors);
    s->heads.n = heads_worth_running(s);
    if (s->heads.n == 0) return false;
    const double start = now(s);
    tell_device(s);
    const ftk_unfinished draft = {
        .heads = &s->heads, .ask = &s->ask, .seconds = chain_seconds(s, s->heads.n)};
    if (t->leave(t->ctx, &draft, budget)) return true;
    const ftk_heads_said *const said = t->run_heads(t->ctx, &s->heads, &s->ask);
    if (!said) return false;
    suggest_said(s, said);
    time_head(s, s->heads.n, now(s) - start);
    return false;
}

static void s4c_finished(void *state, const ftk_finished *f)
{
    s4c *const s = state;
    suggest_said(s, f->said);
    time_head(s, s->heads.n, f->seconds);
}

/* ------------------------------------------------------------------ what is kept */

/* What the model said behind the likeliest node that was rejected where the new root stands. */
static void keep_rejected(s4c *s, const ftk_tree *tree, const ftk_verdict *v, const ftk_rows *rows)
{
    s->kept[0].n = 0;
    const int last = v->path[v->n_path];
    int best = -1;
    for (int i = ftk_tree_next(tree, last, last + 1); i >= 0; i = ftk_tree_next(tree, last, i + 1))
        if (best < 0 || tree->prob[i] > tree->prob[best]) best = i;
    if (best < 0) return;
    s->kept[0].n = ftk_rows_best(rows, best, s->target->n_vocab, KEPT, s->kept[0].token);
}

/* What was drafted below the new root's token, if that was a candidate the tree had no room for. */
static void keep_unverified(s4c *s, const int32_t *truth, int n)
{
    s->kept[1].n = 0;
    int at = 0;
    for (int i = 0; i < n && at >= 0; i++) at = ftk_guesses_child(&s->guesses, at, truth[i]);
    if (at <= 0) return;
    const ftk_guess *const all = s->guesses.all;
    for (int i = all[at].first; i && s->kept[1].n < KEPT; i = all[i].next)
        s->kept[1].token[s->kept[1].n++] = all[i].token;
}

/* Of each head that ran for a node of the true path, whether its best choice came, and whether one did. */
static void see_heads(s4c *s, const int32_t *truth, int n)
{
    int at = 0;
    for (int i = 0; i < n && i < s->n_heads && at >= 0; i++) {
        const int row = s->guesses.all[at].row;
        if (row < 0) return;
        ftk_rate_see(&s->rates[BEST_AT + i], s->best[i][row] == truth[i]);
        at = ftk_guesses_child(&s->guesses, at, truth[i]);
        ftk_rate_see(&s->rates[NAMED_AT + i], at >= 0 && s->guesses.all[at].rate[HEAD] >= 0);
    }
}

/* ------------------------------------------------------------------ the drafter */

/* What stays of what a device is asked. */
static void tell_heads(s4c *s, bool chain)
{
    s->heads = (ftk_heads){.output = s->weights->head,
                           .chained = s->chained,
                           .sees_token = s->sees_token,
                           .width = chain ? 1 : WIDTH,
                           .choices = chain ? 1 : CHOICES};
    memcpy(s->heads.in, s->in, sizeof s->in);
    memcpy(s->heads.body, s->body, sizeof s->body);
    s->ask.least = floor_worth;
    memcpy(s->ask.bound, ftk_likely_bounds, sizeof s->ask.bound);
}

/* Memory for heads that are not a device's. */
static bool take_room(s4c *s, const ftk_host *h)
{
    const size_t d = (size_t)s->target->n_embd;
    s->feature = ftk_alloc(h, d, sizeof(float));
    s->g[0] = ftk_alloc(h, WIDTH * d, sizeof(float));
    s->g[1] = ftk_alloc(h, WIDTH * d, sizeof(float));
    s->z = ftk_alloc(h, WIDTH * 2 * d, sizeof(float));
    s->e = ftk_alloc(h, WIDTH * d, sizeof(float));
    s->u = ftk_alloc(h, WIDTH * d, sizeof(float));
    s->v = ftk_alloc(h, WIDTH * d, sizeof(float));
    s->logits = ftk_alloc(h, WIDTH * (size_t)s->weights->n_head, sizeof(float));
    return s->feature && s->g[0] && s->g[1] && s->z && s->e && s->u && s->v && s->logits;
}

static ftk_err s4c_init(void *state, const ftk_drafter_env *env)
{
    s4c *const s = state;
    s->target = env->target;
    s->weights = env->weights;
    s->retrieval = env->retrieval;
    if (env->test) memcpy(&s->flags, env->test, sizeof s->flags);
    s->successors = s->flags & FTK_S4C_NO_SUCCESSORS ? NULL : env->successors;
    const ftk_host *const h = env->host;
    const int n_embd = s->target->n_embd;
    ftk_weights_int(s->weights, "heads", 1, MOST_HEADS, &s->n_heads, h);
    get_flag(s->weights, "chained", h, &s->chained);
    get_flag(s->weights, "token", h, &s->sees_token);
    const int n_in = inputs(s->sees_token, n_embd);
    for (int i = 0; i < s->n_heads; i++) {
        s->in[i] = head_weight(s->weights, i, "in", n_embd, n_in, h)->matrix;
        s->body[i] = head_weight(s->weights, i, "body", n_embd, n_embd, h)->matrix;
    }
    init_rates(s->rates);
    tell_heads(s, env->shape == FTK_TREE_CHAIN);
    if (ftk_guesses_init(&s->guesses, h, MOST, s->rates, RATES) != FTK_OK) return FTK_ERR_NOMEM;
    s->guesses.chain = env->shape == FTK_TREE_CHAIN;
    s->guesses.beside = BESIDE_AT;
    if (!s->target->run_heads && !take_room(s, h))
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory for the candidates of a draft");
    return FTK_OK;
}

static void s4c_free(void *state, const ftk_host *host)
{
    s4c *const s = state;
    ftk_guesses_free(&s->guesses, host);
    void *const all[] = {s->feature, s->g[0], s->g[1], s->z, s->e, s->u, s->v, s->logits};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ftk_release(host, all[i]);
    *s = (s4c){0};
}

static void s4c_reset(void *state, const int32_t *history, size_t n)
{
    (void)history, (void)n;
    s4c *const s = state;
    s->asked = s->feature_of = 0;
}

static void s4c_propose(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    s4c *const s = state;
    ftk_guesses_begin(&s->guesses, history[n - 1]);
    if (!(s->flags & FTK_S4C_NO_RETRIEVAL)) ftk_guesses_add_retrieved(&s->guesses, s->retrieval);
    s->asked = n;
    if (s->feature_of == n) {
        if (!(s->flags & FTK_S4C_NOT_CONTINUOUS)) suggest_kept(s);
        if (!s->target->run_heads)
            run_heads(s);
        else if (run_on_device(s, budget))
            return;
    }
    ftk_guesses_add_successors(&s->guesses, s->successors);
    ftk_guesses_plant(&s->guesses, budget, tree);
}

static void s4c_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                      const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history;
    s4c *const s = state;
    const int emitted = verdict->n_path + 1;
    s->kept[0].n = s->kept[1].n = 0;
    if (s->asked == n) {
        keep_rejected(s, tree, verdict, rows);
        keep_unverified(s, verdict->token, emitted);
        see_heads(s, verdict->token, emitted);
        ftk_guesses_settle(&s->guesses, verdict->token, (size_t)emitted);
        s->asked = 0;
    }
    const ftk_target *const t = s->target;
    const size_t d = (size_t)t->n_embd;
    const int last = verdict->path[verdict->n_path];
    if (t->hold)
        t->hold(t->ctx, FTK_HELD_FEATURE, last);
    else
        memcpy(s->feature, rows->features + (size_t)last * d, d * sizeof *s->feature);
    s->feature_of = n + (size_t)emitted;
}

const ftk_drafter_ops ftk_drafter_s4c = {
    .name = "s4c",
    .state_size = sizeof(s4c),
    .rates_at = offsetof(s4c, rates),
    .rates_size = RATES * sizeof(ftk_rate),
    .wants = FTK_WANT_FEATURES | FTK_WANT_SUCCESSORS,
    .check = s4c_check,
    .init = s4c_init,
    .propose = s4c_propose,
    .finished = s4c_finished,
    .learn = s4c_learn,
    .reset = s4c_reset,
    .free = s4c_free,
};
