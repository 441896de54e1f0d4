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
 * The tree: a node is worth the product of its path's probabilities. Of each depth the best WIDTH nodes
 * get children, CHOICES each, as long as a path is worth FLOOR; of all candidates the best are drafted.
 * A head's probability is a guess of its own: what counts is how often guesses of its size were
 * right, measured as they go (acceptance.h).
 *
 * Continuous: the accepted path's last feature is the next g_0, nothing is computed again. What the model
 * said behind the best rejected node, which stood where the new root stands, and what was drafted below
 * the new root's token but not verified, are candidates for the next first place. The chain of what
 * followed the same words earlier (suffix.h) joins as a fourth source. Two sources that name one token
 * are one node, worth the more of both. */
#include "drafters/s4c.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/sampler.h"
#include "drafters/acceptance.h"
#include "drafters/drafter.h"
#include "drafters/suffix.h"

enum {
    MOST_HEADS = 8,
    WIDTH = 10,
    CHOICES = 10,
    CHAIN = 16,
    KEPT = 3, /* candidates of each kind that are carried over */
    BINS = 8,
    MOST = 1 + CHAIN + 2 * KEPT + MOST_HEADS * WIDTH * CHOICES, /* candidates, with the root */
};

static const float floor_worth = 0.1f; /* FLOOR */
static const float norm_eps = 1e-6f;

typedef enum source { HEAD, MATCH, REJECTED, UNVERIFIED, SOURCES } source;

/* A node that may be drafted. class: which rate of a source speaks for it, -1: that source does not. */
typedef struct candidate {
    int32_t token;
    int16_t parent; /* candidate */
    int16_t depth;  /* of the root 0 */
    int16_t row;    /* of its feature among its depth's, -1: it has no children from a head */
    int8_t class[SOURCES];
    float worth;
} candidate;

typedef struct rates {
    ftk_rate head[MOST_HEADS][BINS];
    ftk_rate match[FTK_MATCH_CLASSES];
    ftk_rate kept[2][KEPT]; /* REJECTED, UNVERIFIED */
} rates;

typedef struct kept {
    int n;
    int32_t token[KEPT];
} kept;

typedef struct s4c {
    const ftk_target *target;
    const ftk_weights *weights;
    unsigned flags;
    int n_heads;
    const struct ftk_mat *in[MOST_HEADS], *body[MOST_HEADS];
    ftk_suffix suffix;
    size_t feature_of; /* length of the text whose root `feature` leads to; 0: none */
    size_t asked;      /* the candidates are an open prediction of what follows text[0..asked) */
    kept kept[2];      /* as of feature_of */
    rates rates;
    int n;
    candidate *all;       /* [MOST] all[0] is the root */
    ftk_candidate *heap;  /* [MOST] */
    float *feature;       /* [n_embd] */
    float *g[2];          /* [WIDTH][n_embd] of a depth and of the one before */
    float *z, *e, *u, *v; /* [WIDTH][2 n_embd], [WIDTH][n_embd] each */
    float *logits;        /* [WIDTH][n_head] */
} s4c;

/* ------------------------------------------------------------------ the file */

static const ftk_weight *head_weight(const ftk_weights *w, int head, const char *part, int n_out,
                                     int n_in, const ftk_host *host)
{
    char name[32];
    snprintf(name, sizeof name, "head.%d.%s", head, part);
    return ftk_weights_get(w, name, n_out, n_in, host);
}

static ftk_err s4c_check(const ftk_weights *w, const ftk_target *t, const ftk_host *host)
{
    int heads;
    if (!ftk_weights_int(w, "heads", 1, MOST_HEADS, &heads, host)) return FTK_ERR_FORMAT;
    for (int i = 0; i < heads; i++)
        if (!head_weight(w, i, "in", t->n_embd, 2 * t->n_embd, host) ||
            !head_weight(w, i, "body", t->n_embd, t->n_embd, host))
            return FTK_ERR_FORMAT;
    return FTK_OK;
}

/* ------------------------------------------------------------------ rates */

static int bin_of(float p)
{
    static const float from[BINS - 1] = {0.9f, 0.7f, 0.5f, 0.3f, 0.15f, 0.07f, 0.03f};
    int bin = 0;
    while (bin < BINS - 1 && p < from[bin]) bin++;
    return bin;
}

static void init_rates(rates *r)
{
    static const float prior[BINS] = {0.93f, 0.75f, 0.55f, 0.37f, 0.2f, 0.1f, 0.045f, 0.01f};
    for (int i = 0; i < MOST_HEADS; i++)
        for (int b = 0; b < BINS; b++)
            ftk_rate_init(&r->head[i][b], prior[b] * (i == 0 ? 1 : 0.9f));
    for (int c = 0; c < FTK_MATCH_CLASSES; c++) ftk_rate_init(&r->match[c], ftk_match_prior(c));
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < KEPT; i++) ftk_rate_init(&r->kept[k][i], 0.15f / (float)(i + 1));
}

static ftk_rate *rate_of(s4c *s, const candidate *c, source from)
{
    const int class = c->class[from];
    switch (from) {
    case HEAD: return &s->rates.head[c->depth - 1][class];
    case MATCH: return &s->rates.match[class];
    default: return &s->rates.kept[from - REJECTED][class];
    }
}

/* The child of `parent` that carries `token`, or -1. Children come after their parent. */
static int find_child(const s4c *s, int parent, int32_t token)
{
    for (int i = parent + 1; i < s->n; i++)
        if (s->all[i].parent == parent && s->all[i].token == token) return i;
    return -1;
}

/* The tokens that came after the open prediction: every candidate below the true path was right or
 * not. */
static void settle(s4c *s, const int32_t *truth, size_t n)
{
    ftk_rates_fade((ftk_rate *)&s->rates, sizeof s->rates / sizeof(ftk_rate));
    int at = 0;
    for (size_t d = 0; d < n && at >= 0; d++) {
        for (int i = at + 1; i < s->n; i++) {
            const candidate *c = &s->all[i];
            if (c->parent != at) continue;
            for (int from = 0; from < SOURCES; from++)
                if (c->class[from] >= 0)
                    ftk_rate_see(rate_of(s, c, (source)from), c->token == truth[d]);
        }
        at = find_child(s, at, truth[d]);
    }
    s->asked = 0;
}

/* ------------------------------------------------------------------ candidates */

/* A guess of one source for a child of `parent`; one that is there already takes the better of its
 * sources. -1: no room. */
static int suggest(s4c *s, int parent, int32_t token, source from, int class)
{
    int i = find_child(s, parent, token);
    if (i < 0) {
        if (s->n == MOST) return -1;
        i = s->n++;
        s->all[i] = (candidate){.token = token,
                                .parent = (int16_t)parent,
                                .depth = (int16_t)(s->all[parent].depth + 1),
                                .row = -1,
                                .class = {-1, -1, -1, -1}};
    }
    candidate *const c = &s->all[i];
    c->class[from] = (int8_t) class;
    const float worth = s->all[parent].worth * ftk_rate_get(rate_of(s, c, from));
    if (worth > c->worth) c->worth = worth;
    return i;
}

static void suggest_match(s4c *s, const int32_t *history, size_t n)
{
    int32_t chain[CHAIN];
    const ftk_match m = ftk_suffix_longest(&s->suffix);
    if (m.length == 0) return;
    const int most = ftk_suffix_follow(history, n, m.recent, chain, CHAIN);
    int at = 0;
    for (int i = 0; i < most && at >= 0; i++)
        at = suggest(s, at, chain[i], MATCH, ftk_match_class(m.length + i));
}

static void suggest_kept(s4c *s)
{
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < s->kept[k].n; i++)
            suggest(s, 0, s->kept[k].token[i], (source)(REJECTED + k), i);
}

/* ------------------------------------------------------------------ heads */

/* e^x for x <= 0 to 1e-5 of it, in a form that compilers turn into vector code. */
static float exp_below(float x)
{
    x = x > -80 ? x : -80; /* what is no number too */
    const float n = (float)(int)(x * 1.44269504f - 0.5f);
    const float r = x - n * 0.693147181f;
    const float p = 1 + r * (1 + r * (0.5f + r * (0.1666667f + r * (0.0416667f + r * 0.0083333f))));
    const uint32_t bits = (uint32_t)((int)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* The best candidates of a depth that are worth children; returns how many. */
static int choose(const s4c *s, int depth, int most, int *chosen)
{
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->all[i].depth != depth || s->all[i].worth < floor_worth) continue;
        if (depth > 0 && s->all[s->all[i].parent].row < 0) continue; /* no feature to go on from */
        int at = n < most ? n++ : most;
        while (at > 0 && s->all[chosen[at - 1]].worth < s->all[i].worth) {
            if (at < most) chosen[at] = chosen[at - 1];
            at--;
        }
        if (at < most) chosen[at] = i;
    }
    return n;
}

/* Features of the chosen nodes' children: s->g[1]. */
static void run_head(s4c *s, int head, int n, const int *chosen)
{
    const ftk_target *const t = s->target;
    const size_t d = (size_t)t->n_embd;
    int32_t tokens[WIDTH];
    for (int i = 0; i < n; i++) tokens[i] = s->all[chosen[i]].token;
    t->embed(t->ctx, n, tokens, s->e);
    for (size_t i = 0; i < (size_t)n; i++) {
        const candidate *const c = &s->all[chosen[i]];
        const float *const e = s->e + i * d;
        float sum = 0, *const z = s->z + i * 2 * d;
        for (size_t j = 0; j < d; j++) sum += e[j] * e[j];
        const float scale = 1 / sqrtf(sum / (float)d + norm_eps);
        for (size_t j = 0; j < d; j++) z[j] = e[j] * scale;
        const float *const g = head == 0 ? s->feature : s->g[0] + (size_t)s->all[c->parent].row * d;
        memcpy(z + d, g, d * sizeof *z);
    }
    t->multiply(t->ctx, s->in[head], n, s->z, s->u);
    t->multiply(t->ctx, s->body[head], n, s->u, s->v);
    for (size_t j = 0; j < (size_t)n * d; j++) {
        const float v = s->v[j], e = exp_below(v < 0 ? v : -v);
        s->g[1][j] = s->u[j] + v * (v < 0 ? e : 1) / (1 + e);
    }
    t->multiply(t->ctx, s->weights->head, n, s->g[1], s->logits);
}

static void suggest_children(s4c *s, int node, const float *logits)
{
    const int n = s->weights->n_head;
    int32_t best[CHOICES];
    const int most = s->flags & FTK_S4C_CHAIN ? 1 : CHOICES;
    const int n_best = ftk_top_k(logits, n, most, best);
    const float top = logits[best[0]];
    float sum = 0;
    for (int i = 0; i < n; i++) sum += exp_below(logits[i] - top);
    if (!(sum > 0)) return; /* a feature that is not finite */
    for (int i = 0; i < n_best; i++) {
        const float p = exp_below(logits[best[i]] - top) / sum;
        const int32_t token = s->weights->vocab ? s->weights->vocab[best[i]] : best[i];
        suggest(s, node, token, HEAD, bin_of(p));
    }
}

static void run_heads(s4c *s)
{
    const size_t n_head = (size_t)s->weights->n_head;
    const int most = s->flags & FTK_S4C_CHAIN ? 1 : WIDTH;
    for (int head = 0; head < s->n_heads; head++) {
        int chosen[WIDTH];
        const int n = choose(s, head, most, chosen);
        if (n == 0) return;
        run_head(s, head, n, chosen);
        for (int i = 0; i < n; i++) {
            s->all[chosen[i]].row = (int16_t)i;
            suggest_children(s, chosen[i], s->logits + (size_t)i * n_head);
        }
        float *const before = s->g[0];
        s->g[0] = s->g[1];
        s->g[1] = before;
    }
}

/* ------------------------------------------------------------------ the tree */

static void push_children(s4c *s, ftk_heap *heap, int parent, int node)
{
    for (int i = parent + 1; i < s->n; i++)
        if (s->all[i].parent == parent)
            ftk_heap_push(heap, (ftk_candidate){.value = s->all[i].worth,
                                                .token = s->all[i].token,
                                                .parent = (int16_t)node,
                                                .slot = (int16_t)i});
}

/* Best first. A node that two sources made worth more than its parent's share is no better than it. */
static void plant(s4c *s, int budget, ftk_tree *tree)
{
    ftk_heap heap = {.cap = MOST, .items = s->heap};
    push_children(s, &heap, 0, 0);
    for (ftk_candidate c;
         tree->n <= budget && tree->n < FTK_MAX_NODES && ftk_heap_pop(&heap, &c);) {
        const float above = tree->prob[c.parent];
        const int node = ftk_tree_add(tree, c.parent, c.token, c.value < above ? c.value : above);
        push_children(s, &heap, c.slot, node);
    }
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
    for (int i = 0; i < n && at >= 0; i++) at = find_child(s, at, truth[i]);
    if (at <= 0) return;
    for (int i = at + 1; i < s->n && s->kept[1].n < KEPT; i++)
        if (s->all[i].parent == at) s->kept[1].token[s->kept[1].n++] = s->all[i].token;
}

/* ------------------------------------------------------------------ the drafter */

static ftk_err s4c_init(void *state, const ftk_drafter_env *env)
{
    s4c *const s = state;
    s->target = env->target;
    s->weights = env->weights;
    if (env->test) memcpy(&s->flags, env->test, sizeof s->flags);
    const ftk_host *const h = env->host;
    const int n_embd = s->target->n_embd;
    ftk_weights_int(s->weights, "heads", 1, MOST_HEADS, &s->n_heads, h);
    for (int i = 0; i < s->n_heads; i++) {
        s->in[i] = head_weight(s->weights, i, "in", n_embd, 2 * n_embd, h)->matrix;
        s->body[i] = head_weight(s->weights, i, "body", n_embd, n_embd, h)->matrix;
    }
    init_rates(&s->rates);
    const size_t d = (size_t)n_embd;
    s->all = ftk_alloc(h, MOST, sizeof *s->all);
    s->heap = ftk_alloc(h, MOST, sizeof *s->heap);
    s->feature = ftk_alloc(h, d, sizeof(float));
    s->g[0] = ftk_alloc(h, WIDTH * d, sizeof(float));
    s->g[1] = ftk_alloc(h, WIDTH * d, sizeof(float));
    s->z = ftk_alloc(h, WIDTH * 2 * d, sizeof(float));
    s->e = ftk_alloc(h, WIDTH * d, sizeof(float));
    s->u = ftk_alloc(h, WIDTH * d, sizeof(float));
    s->v = ftk_alloc(h, WIDTH * d, sizeof(float));
    s->logits = ftk_alloc(h, WIDTH * (size_t)s->weights->n_head, sizeof(float));
    if (!s->all || !s->heap || !s->feature || !s->g[0] || !s->g[1] || !s->z || !s->e || !s->u ||
        !s->v || !s->logits)
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory for the candidates of a draft");
    return ftk_suffix_init(&s->suffix, h, env->n_ctx);
}

static void s4c_free(void *state, const ftk_host *host)
{
    s4c *const s = state;
    ftk_suffix_free(&s->suffix, host);
    void *const all[] = {s->all, s->heap, s->feature, s->g[0], s->g[1],
                         s->z,   s->e,    s->u,       s->v,    s->logits};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ftk_release(host, all[i]);
    *s = (s4c){0};
}

static void s4c_reset(void *state, const int32_t *history, size_t n)
{
    s4c *const s = state;
    s->asked = s->feature_of = 0;
    ftk_suffix_reset(&s->suffix);
    ftk_suffix_sync(&s->suffix, history, n);
}

static void s4c_propose(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    s4c *const s = state;
    ftk_suffix_sync(&s->suffix, history, n);
    s->n = 1;
    s->all[0] = (candidate){.token = history[n - 1], .parent = -1, .row = -1, .worth = 1};
    if (!(s->flags & FTK_S4C_NO_RETRIEVAL)) suggest_match(s, history, n);
    if (s->feature_of == n) {
        if (!(s->flags & FTK_S4C_NOT_CONTINUOUS)) suggest_kept(s);
        run_heads(s);
    }
    s->asked = n;
    plant(s, budget, tree);
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
        settle(s, verdict->token, (size_t)emitted);
    }
    const size_t d = (size_t)s->target->n_embd;
    memcpy(s->feature, rows->features + (size_t)verdict->path[verdict->n_path] * d,
           d * sizeof *s->feature);
    s->feature_of = n + (size_t)emitted;
}

const ftk_drafter_ops ftk_drafter_s4c = {
    .name = "s4c",
    .state_size = sizeof(s4c),
    .rates_at = offsetof(s4c, rates),
    .rates_size = sizeof(rates),
    .wants = FTK_WANT_FEATURES,
    .check = s4c_check,
    .init = s4c_init,
    .propose = s4c_propose,
    .learn = s4c_learn,
    .reset = s4c_reset,
    .free = s4c_free,
};
