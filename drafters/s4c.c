/* SPDX-License-Identifier: Apache-2.0
 *
 * S4C: multi-head drafting with a continuous verification tree ("Speculative Sampling with
 * Syntactic and Semantic Coherence", arXiv 2506.14158). Of the paper no more than the abstract
 * was at hand: what follows is OUR READING of it.
 *
 * Semantic coherence: a head sees the feature of the place before. Syntactic coherence: it sees
 * the token that was chosen there. So heads are a chain. With g_0 the model's feature (the state
 * after its last norm) where it said the root, and x the token a node stands for, head i of its
 * depth makes
 *
 *     z = [x's embedding / its root mean square ; g_i]       u = W_in[i] z
 *     g_(i+1) = u + silu(W_body[i] u)                         logits = output matrix . g_(i+1)
 *
 * for the node's children. All nodes of a depth go through one product.
 *
 * A file may leave either out, to show what it is worth. Key "chained" 0: every head sees g_0.
 * Key "token" 0: z is the feature alone, so that all nodes of a depth have the same children, of
 * one row. Heads with neither are Medusa's (arXiv 2401.10774) but for W_in.
 *
 * The tree: a node is worth the product of its path's probabilities. Of each depth the best
 * nodes, at most WIDTH, get children, CHOICES each; of all candidates the best are drafted. A
 * head's probability counts as what guesses of its size were worth so far (guesses.h). A head
 * runs for as many nodes as it is worth running for: what its surer choices are expected to save
 * (confidence.h), verification taken off, must be more than it takes. Sessions that share a pass
 * share each head's products, too: its weights are read once for the nodes of all. A device runs
 * all heads in one call and chooses the nodes itself, by the same worths (base/target.h); how
 * many heads that are is decided before, and nodes are free. Where it may, it makes the tree as
 * well and verifies it at once.
 *
 * Continuous: the accepted path's last feature is the next g_0, nothing is computed again. The
 * chain of what followed the same words earlier (retrieval.h) and successors (successors.h)
 * join, so that a head runs for what these leave open. Two sources
 * that name one token are one node, worth the more of both. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/sampler.h"
#include "drafters/confidence.h"
#include "drafters/drafter.h"
#include "drafters/guesses.h"
#include "drafters/took.h"

enum {
    MOST_HEADS = FTK_HEADS,
    WIDTH = FTK_HEAD_NODES,
    CHOICES = FTK_LIKELY,
    /* candidates, with the root: */
    MOST = 1 + FTK_CHAIN + FTK_RECYCLED + MOST_HEADS * WIDTH * CHOICES,
    ROWS = FTK_MAX_NODES, /* of a product, of all sessions together */
    FIXED = 8,            /* rows that take no time of their own, about */
};

static const float floor_worth = 0.02f; /* of a node that gets children */

/* Rates. */
enum {
    HEAD_AT = 0, /* [MOST_HEADS][FTK_LIKELY_BINS] */
    /* [MOST_HEADS] one of its choices is right */
    NAMED_AT = HEAD_AT + MOST_HEADS * FTK_LIKELY_BINS,
    RATES = NAMED_AT + MOST_HEADS + FTK_GUESS_RATES,
};

/* What sessions learn together. */
typedef struct known {
    ftk_rate rates[RATES];
    ftk_confidence confidence[MOST_HEADS];
    /* Of a head for so many rows (took.h), on a device of a draft by so many heads. */
    double took[1 + ROWS];
} known;

typedef struct s4c {
    const ftk_target *target;
    const ftk_weights *weights;
    int n_heads;
    size_t feature_of; /* length of the text whose root `feature` leads to; 0: none */
    known *known;
    ftk_guesses guesses;
    int first_row;   /* of its rows of the depth before, among those of all sessions */
    float *feature;  /* [n_embd] */
    ftk_heads heads; /* on a device as many as the last draft ran */
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

static void init_known(void *rates)
{
    known *const k = rates;
    ftk_rate *const r = k->rates;
    ftk_guesses_init_rates(r, RATES);
    for (int i = 0; i < MOST_HEADS * FTK_LIKELY_BINS; i++)
        ftk_rate_init(&r[HEAD_AT + i],
                      ftk_likely_prior(i % FTK_LIKELY_BINS) * (i < FTK_LIKELY_BINS ? 1 : 0.9f));
    for (int i = 0; i < MOST_HEADS; i++) ftk_rate_init(&r[NAMED_AT + i], 0.75f);
    for (int i = 0; i < MOST_HEADS; i++) ftk_confidence_init(&k->confidence[i]);
}

/* ------------------------------------------------------------------ heads */

/* Work space of the engine, [ROWS][n_embd] each or as it says: of what all sessions ask. */
typedef struct space {
    float *g[2];   /* features of a depth, and of the one before */
    float *z;      /* [ROWS][2 n_embd] */
    float *u, *v;  /* v: embeddings, too */
    float *logits; /* [ROWS][n_head] */
} space;

static size_t s4c_space(const ftk_weights *w, const ftk_target *t)
{
    return (size_t)ROWS * (6 * (size_t)t->n_embd + (size_t)w->n_head);
}

static space space_of(const s4c *s)
{
    const size_t each = ROWS * (size_t)s->target->n_embd;
    float *const all = *s->target->space;
    return (space){
        {all, all + each}, all + 2 * each, all + 4 * each, all + 5 * each, all + 6 * each};
}

/* Rows that heads run for a session: its nodes, the best first. */
typedef struct asked {
    s4c *s;
    int taken;         /* nodes that a head is worth running for */
    int chosen[WIDTH]; /* their guesses */
} asked;

/* z = [token, scaled to rms 1 ; feature] */
static void put_tokens(const s4c *s, const space *w, int n, const int32_t *tokens)
{
    const ftk_target *const t = s->target;
    const size_t d = (size_t)t->n_embd;
    t->embed(t->ctx, n, tokens, w->v);
    for (size_t i = 0; i < (size_t)n; i++) {
        const float *const e = w->v + i * d;
        float sum = 0, *const z = w->z + i * 2 * d;
        for (size_t j = 0; j < d; j++) sum += e[j] * e[j];
        const float scale = 1 / sqrtf(sum / (float)d + FTK_EMBED_EPS);
        for (size_t j = 0; j < d; j++) z[j] = e[j] * scale;
    }
}

static const float *feature_for(const s4c *s, const space *w, int head, int node)
{
    if (head == 0 || !s->heads.chained) return s->feature;
    const int row = s->heads.sees_token ? s->guesses.all[s->guesses.all[node].parent].row : 0;
    return w->g[0] + (size_t)(s->first_row + row) * (size_t)s->target->n_embd;
}

/* Rows that a head needs for n nodes. */
static int rows_for(const s4c *s, int n)
{
    return s->heads.sees_token || n == 0 ? n : 1;
}

/* Features of the nodes' children, w->g[1], and what they say, w->logits. */
static void run_head(const s4c *s, const space *w, int head, int n)
{
    const ftk_target *const t = s->target;
    const size_t d = (size_t)t->n_embd;
    t->multiply(t->ctx, s->heads.in[head], n, w->z, w->u);
    t->multiply(t->ctx, s->heads.body[head], n, w->u, w->v);
    for (size_t j = 0; j < (size_t)n * d; j++) {
        const float v = w->v[j], e = ftk_exp_below(v < 0 ? v : -v);
        w->g[1][j] = w->u[j] + v * (v < 0 ? e : 1) / (1 + e);
    }
    t->multiply(t->ctx, s->weights->head, n, w->g[1], w->logits);
}

/* Of what a head said, row `row` is a node's, its session's `own`. guess[CHOICES], unless NULL,
 * gets the children. */
static void suggest_children(s4c *s, int node, int head, const ftk_rows *said, int row, int own,
                             int16_t *guess)
{
    int32_t best[CHOICES];
    int8_t bin[CHOICES];
    const int n = ftk_rows_likely(said, row, s->weights->n_head, s->heads.choices, best, bin);
    s->guesses.all[node].row = (int16_t)own;
    if (n > 0) ftk_confidence_see(&s->known->confidence[head], bin[0]);
    for (int i = 0; i < n; i++) {
        const int32_t token = s->weights->vocab ? s->weights->vocab[best[i]] : best[i];
        const int at =
            ftk_guesses_add(&s->guesses, node, token, HEAD_AT + head * FTK_LIKELY_BINS + bin[i]);
        if (guess) guess[i] = (int16_t)at;
    }
}

static double now(const s4c *s)
{
    return s->target->now(s->target->ctx);
}

static const ftk_rate *rates_of(const s4c *s, int head)
{
    return s->known->rates + HEAD_AT + head * FTK_LIKELY_BINS;
}

/* Seconds that a head saves by naming the children of a session's node. */
static double saved_by(const s4c *s, int node, int head)
{
    const ftk_target *const t = s->target;
    return ftk_confidence_saves(&s->known->confidence[head], rates_of(s, head),
                                ftk_guesses_open(&s->guesses, node),
                                ftk_target_token(t, s->guesses.flags), ftk_target_row(t));
}

/* Takes of each session the nodes, the best first, that a head is worth running for; returns how
 * many rows that are. */
static int take_nodes(asked *all, int n, int head)
{
    const ftk_work work = {all[0].s->known->took, NULL, FIXED, ROWS};
    ftk_wish wish[FTK_ASKS];
    for (int i = 0; i < n; i++) {
        s4c *const s = all[i].s;
        const ftk_heads *const h = &s->heads;
        wish[i] = (ftk_wish){.target = s->target, .first = 1, .more = h->sees_token};
        wish[i].n = ftk_guesses_best(&s->guesses, head, floor_worth, h->chained && h->sees_token,
                                     h->width, all[i].chosen);
        for (int k = 0; k < wish[i].n; k++) wish[i].saves[k] = saved_by(s, all[i].chosen[k], head);
    }
    const int rows = ftk_took_choose(&work, wish, n);
    for (int i = 0; i < n; i++) all[i].taken = wish[i].taken;
    return rows;
}

/* What the head sees of the nodes that it runs for, session by session. */
static void put_rows(const asked *all, int n, const space *w, int head)
{
    const s4c *const any = all[0].s;
    const size_t d = (size_t)any->target->n_embd;
    const size_t row = (size_t)inputs(any->heads.sees_token, any->target->n_embd);
    int32_t tokens[ROWS] = {0};
    int rows = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < rows_for(any, all[i].taken); j++)
            tokens[rows++] = all[i].s->guesses.all[all[i].chosen[j]].token;
    if (any->heads.sees_token) put_tokens(any, w, rows, tokens);
    float *z = w->z + row - d;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < rows_for(any, all[i].taken); j++, z += row)
            memcpy(z, feature_for(all[i].s, w, head, all[i].chosen[j]), d * sizeof *z);
}

/* Each session hears what was said of its nodes. */
static void hear(asked *all, int n, const space *w, int head)
{
    const ftk_rows said = {.logits = w->logits};
    int row = 0;
    for (int i = 0; i < n; i++) {
        asked *const a = &all[i];
        const bool each = a->s->heads.sees_token;
        for (int j = 0; j < a->taken; j++)
            suggest_children(a->s, a->chosen[j], head, &said, row + (each ? j : 0), each ? j : 0,
                             NULL);
        a->s->first_row = row;
        row += rows_for(a->s, a->taken);
    }
}

/* Head by head, for all sessions. */
static void run_heads(asked *all, int n)
{
    space w = n > 0 ? space_of(all[0].s) : (space){0};
    for (int head = 0; n > 0 && head < all[0].s->n_heads; head++) {
        const int rows = take_nodes(all, n, head);
        if (rows == 0) return;
        const double start = now(all[0].s);
        put_rows(all, n, &w, head);
        run_head(all[0].s, &w, head, rows);
        hear(all, n, &w, head);
        ftk_took_see(all[0].s->known->took, all[0].s->target, rows, now(all[0].s) - start);
        float *const before = w.g[0];
        w.g[0] = w.g[1];
        w.g[1] = before;
        int left = 0; /* those that go on */
        for (int i = 0; i < n; i++)
            if (all[i].taken > 0) all[left++] = all[i];
        n = left;
    }
}

/* What a head takes, before the first draft: as long as that is not known all heads seem worth
 * running for all nodes. The first run of all fetches its weights. */
static void time_head(s4c *s)
{
    if (s->known->took[1] > 0 || s->target->run_heads) return;
    const space w = space_of(s);
    memset(w.z, 0, WIDTH * (size_t)inputs(s->heads.sees_token, s->target->n_embd) * sizeof *w.z);
    run_head(s, &w, 0, 1);
    for (int rows = 1; rows <= WIDTH; rows += WIDTH - 1) {
        const double start = now(s);
        run_head(s, &w, 0, rows);
        ftk_took_see(s->known->took, s->target, rows, now(s) - start);
    }
}

/* ------------------------------------------------------------------ heads on a device */

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

/* How many heads are worth running, as take_nodes() has it of nodes: a head is reached where
 * what was known ends at its depth, or where one of the choices of the head before is right. */
static int heads_worth_running(s4c *s)
{
    const double token = ftk_target_token(s->target, s->guesses.flags);
    double reached = 0, tokens = 0, most = 0;
    int best = 0;
    for (int head = 0; head < s->n_heads; head++) {
        reached += open_at(s, head);
        tokens += ftk_confidence_right(&s->known->confidence[head], rates_of(s, head)) * reached;
        const double gain =
            tokens * token - ftk_took_of(s->known->took, s->target, head + 1, 1, MOST_HEADS);
        if (gain > most || gain == INFINITY) {
            most = gain;
            best = head + 1;
        }
        reached *= ftk_rate_get(&s->known->rates[NAMED_AT + head]);
    }
    if (best == 0) ftk_took_doubt(s->known->took, s->target);
    return best;
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
            const int node = guess[said->node[head][i]], row = s->heads.sees_token ? i : 0;
            if (node >= 0)
                suggest_children(s, node, head, &rows, row, row,
                                 guess + FTK_HEAD_KNOWN + (head * WIDTH + i) * CHOICES);
        }
    }
}

/* True: the device goes on from here, up to the tree, and s4c_finished() gets what the heads
 * said. */
static bool run_on_device(s4c *s, int budget)
{
    const ftk_target *const t = s->target;
    s->heads.n = heads_worth_running(s);
    if (s->heads.n == 0) return false;
    const double start = now(s);
    ftk_guesses_tell(&s->guesses, floor_worth, s->known->rates + HEAD_AT, MOST_HEADS, &s->ask);
    const ftk_unfinished draft = {
        .heads = &s->heads,
        .ask = &s->ask,
        .seconds = ftk_took_of(s->known->took, s->target, s->heads.n, 1, MOST_HEADS)};
    if (t->leave(t->ctx, &draft, budget)) return true;
    const ftk_heads_said *const said = t->run_heads(t->ctx, &s->heads, &s->ask);
    if (!said) return false;
    suggest_said(s, said);
    ftk_took_see(s->known->took, s->target, s->heads.n, now(s) - start);
    return false;
}

static void s4c_finished(void *state, const ftk_finished *f)
{
    s4c *const s = state;
    suggest_said(s, f->said);
    ftk_took_see(s->known->took, s->target, s->heads.n, f->seconds);
}

/* ------------------------------------------------------------------ the drafter */

/* Of each head that ran for a node of the true path, whether one of its choices came. */
static void see_heads(s4c *s, const int32_t *truth, int n)
{
    int at = 0;
    for (int i = 0; i < n && i < s->n_heads && at >= 0; i++) {
        if (s->guesses.all[at].row < 0) return;
        at = ftk_guesses_child(&s->guesses, at, truth[i]);
        ftk_rate_see(&s->known->rates[NAMED_AT + i], at >= 0 && s->guesses.all[at].rate >= 0);
    }
}

static ftk_err s4c_init(void *state, const ftk_drafter_env *env)
{
    s4c *const s = state;
    s->target = env->target;
    s->weights = env->weights;
    const ftk_host *const h = env->host;
    const int n_embd = s->target->n_embd;
    const bool chain = env->shape == FTK_TREE_CHAIN;
    s->heads = (ftk_heads){
        .output = s->weights->head, .width = chain ? 1 : WIDTH, .choices = chain ? 1 : CHOICES};
    ftk_weights_int(s->weights, "heads", 1, MOST_HEADS, &s->n_heads, h);
    get_flag(s->weights, "chained", h, &s->heads.chained);
    get_flag(s->weights, "token", h, &s->heads.sees_token);
    const int n_in = inputs(s->heads.sees_token, n_embd);
    for (int i = 0; i < s->n_heads; i++) {
        s->heads.in[i] = head_weight(s->weights, i, "in", n_embd, n_in, h)->matrix;
        s->heads.body[i] = head_weight(s->weights, i, "body", n_embd, n_embd, h)->matrix;
    }
    s->known = env->rates;
    if (ftk_guesses_init_for(&s->guesses, env, MOST, s->known->rates, RATES) != FTK_OK)
        return FTK_ERR_NOMEM;
    if (!s->target->run_heads) s->feature = ftk_alloc(h, (size_t)n_embd, sizeof(float));
    if (!s->target->run_heads && !s->feature)
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory for the candidates of a draft");
    time_head(s);
    return FTK_OK;
}

static void s4c_free(void *state, const ftk_host *host)
{
    s4c *const s = state;
    ftk_guesses_free(&s->guesses, host);
    ftk_release(host, s->feature);
    *s = (s4c){0};
}

static void s4c_reset(void *state, const int32_t *history, size_t n)
{
    (void)history, (void)n;
    s4c *const s = state;
    s->guesses.asked = s->feature_of = 0;
}

/* What is known before heads run; false: they cannot. */
static bool begin(s4c *s, const ftk_ask *ask)
{
    ftk_guesses_ask(&s->guesses, ask->history, ask->n);
    return s->feature_of == ask->n;
}

static void s4c_propose_all(const ftk_ask *asks, int n)
{
    asked all[FTK_ASKS];
    bool left[FTK_ASKS] = {false};
    int n_asked = 0;
    for (int i = 0; i < n; i++) {
        s4c *const s = asks[i].state;
        if (!begin(s, &asks[i])) continue;
        if (s->target->run_heads)
            left[i] = run_on_device(s, asks[i].budget);
        else
            all[n_asked++] = (asked){.s = s};
    }
    run_heads(all, n_asked);
    for (int i = 0; i < n; i++)
        if (!left[i])
            ftk_guesses_plant(&((s4c *)asks[i].state)->guesses, asks[i].budget, asks[i].tree);
}

static void s4c_propose(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    const ftk_ask ask = {state, history, n, budget, tree};
    s4c_propose_all(&ask, 1);
}

static void s4c_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                      const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history, (void)tree;
    s4c *const s = state;
    const int emitted = verdict->n_path + 1;
    if (s->guesses.asked == n) see_heads(s, verdict->token, emitted);
    ftk_guesses_settle(&s->guesses, n, verdict->token, (size_t)emitted);
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
    .rates_size = sizeof(known),
    .rates_init = init_known,
    .space = s4c_space,
    .wants = FTK_WANT_FEATURES | FTK_WANT_SUCCESSORS,
    .check = s4c_check,
    .init = s4c_init,
    .propose = s4c_propose,
    .propose_all = s4c_propose_all,
    .finished = s4c_finished,
    .learn = s4c_learn,
    .reset = s4c_reset,
    .free = s4c_free,
};
