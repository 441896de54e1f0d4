/* SPDX-License-Identifier: Apache-2.0
 *
 * TR-Jacobi: tree- and retrieval-based Jacobi decoding for models trained with ahead noise (Wang et
 * al., "Make Some Noise", arXiv 2406.17404).
 *
 * The draft is a table of DEPTH rows, row i holding the TOP_K candidates for the i-th token after
 * the root, shared by all branches, and a chain of retrieved tokens. The rows come from the last
 * pass: below the last accepted node u hang nodes c1, c2 ... with wrong tokens, but a denoising
 * model says the right thing behind them. c1 stood where the new root stands now, so the output of
 * c1's row is a guess for the first token after the root (row 0), that of c2 for the second (row
 * 1), and so on. Rows without such a source are noise: tokens of the text, which is what the model
 * was trained to see through.
 *
 * The paper's decoder pads short paths with the root and so may accept a token that was not there,
 * and fills rows from the root's output; here a path ends where it ends.
 *
 * FTK_TREE_PAPER: the published tree of 68 nodes. Retrieval takes the longest match of up to 3
 * tokens, the earliest on ties, and starts at the text's first token where nothing matches.
 *
 * FTK_TREE_FITTED: the table's rows are candidates beside the session's sources, all by measured
 * probability (guesses.h). But a tree of only likely nodes would leave no wrong tokens to denoise,
 * so the chain of the likeliest candidates is worth more: where the path ends at node w, the row
 * of its j-th node on the chain fills row j - 1 of the next table, which gains the next step about
 * the probability that the leading candidates of such rows hold that far. What a node of the chain
 * is worth beside its token is the sum over w of P(path ends at w) * gain. Where a model does not
 * denoise, the gain is measured as nothing, and nothing is drafted for it. FTK_TREE_CHAIN: that
 * chain alone. */
#include <string.h>

#include "base/sampler.h"
#include "drafters/drafter.h"
#include "drafters/guesses.h"

enum {
    DEPTH = 8, /* the paper's 5 follow from its tree */
    TOP_K = FTK_BEST,
    WIDTH = 6, /* nodes of a depth that get children */
    PAPER_CHAIN = 5,
    PAPER_KEY = 3,
    MOST = 1 + FTK_CHAIN + FTK_RECYCLED + DEPTH * WIDTH * TOP_K, /* candidates, with the root */
};

/* Where a row comes from. */
typedef enum origin { NOISE, FROM_NOISE, FROM_DRAFT, ORIGINS } origin;

/* Candidates for one place, the likeliest first, all different. */
typedef struct row {
    origin origin;
    int n;
    int32_t token[TOP_K];
} row;

/* Rates [ORIGINS][DEPTH][TOP_K], [FTK_MATCH_CLASSES] of what the paper's way retrieves, then those
 * of all guesses, see guesses.h. */
enum {
    RETRIEVED_AT = ORIGINS * DEPTH * TOP_K,
    RATES = RETRIEVED_AT + FTK_MATCH_CLASSES + FTK_GUESS_RATES
};

typedef struct jacobi {
    ftk_tree_shape shape;
    int n_vocab;
    const ftk_retrieval *retrieval;
    uint64_t noise;  /* counter of the generator */
    size_t expected; /* length of the text the table belongs to; 0: none */
    row table[DEPTH];
    ftk_guesses guesses;
} jacobi;

/* ------------------------------------------------------------------ acceptance */

static int rate_of(origin from, int depth, int column)
{
    return ((int)from * DEPTH + depth) * TOP_K + column;
}

/* Before anything was seen: denoised rows right now and then, noise hardly ever. */
static void init_rates(void *rates)
{
    ftk_rate *const r = rates;
    ftk_guesses_init_rates(r, RATES);
    for (int i = 0; i < RETRIEVED_AT; i++) {
        const float rank = (float)(i % TOP_K + 1), depth = (float)(i / TOP_K % DEPTH);
        ftk_rate_init(&r[i],
                      i < rate_of(FROM_NOISE, 0, 0) ? 0.01f : 0.3f / rank * (1 - 0.1f * depth));
    }
    for (int i = 0; i < FTK_MATCH_CLASSES; i++)
        ftk_rate_init(&r[RETRIEVED_AT + i], ftk_match_prior(i));
}

/* ------------------------------------------------------------------ table */

static int32_t noise(jacobi *s, const int32_t *history, size_t n)
{
    return history[(size_t)(ftk_uniform(0, s->noise++) * (double)n)];
}

static void fill_with_noise(jacobi *s, row *r, const int32_t *history, size_t n)
{
    *r = (row){.origin = NOISE};
    for (int c = 0; c < TOP_K; c++) {
        const int32_t token = noise(s, history, n);
        int i = 0;
        while (i < r->n && r->token[i] != token) i++;
        if (i == r->n) r->token[r->n++] = token;
    }
}

/* The path of wrong tokens below `node` that denoised the most places, the likeliest of those;
 * returns its length, at most DEPTH. */
static int rest_of_path(const ftk_tree *t, int node, int *path)
{
    int best = node;
    for (int i = node + 1; i < t->n; i++) {
        const bool below = t->mask[i][node / 64] >> node % 64 & 1;
        if (below && t->depth[i] <= t->depth[node] + DEPTH &&
            (t->depth[i] > t->depth[best] ||
             (t->depth[i] == t->depth[best] && t->prob[i] > t->prob[best])))
            best = i;
    }
    const int n = t->depth[best] - t->depth[node];
    for (int i = n - 1; i >= 0; i--, best = t->parent[best]) path[i] = best;
    return n;
}

/* Of the candidates that were drafted for the places after the new root, those that are left: in
 * the fitted shape better than noise where nothing was denoised. */
static void shift(jacobi *s, int by)
{
    for (int i = 0; i < DEPTH; i++) {
        const bool left = s->shape != FTK_TREE_PAPER && i + by < DEPTH;
        s->table[i] = left ? s->table[i + by] : (row){.origin = NOISE};
        if (s->table[i].origin == NOISE)
            s->table[i].n = 0;
        else
            s->table[i].origin = FROM_NOISE;
    }
}

/* The origin of the row that a guess's output makes. */
static origin denoised_by(const jacobi *s, const ftk_guess *c)
{
    const bool noisy = c->depth <= DEPTH && s->table[c->depth - 1].origin == NOISE;
    return noisy && !c->retrieved && !c->recycled ? FROM_NOISE : FROM_DRAFT;
}

/* The guess that a node was; -1: it was none. */
static int guess_of(const jacobi *s, const ftk_tree *tree, int node)
{
    if (node == 0) return 0;
    const int up = guess_of(s, tree, tree->parent[node]);
    return up < 0 ? -1 : ftk_guesses_child(&s->guesses, up, tree->token[node]);
}

static void refill(jacobi *s, const ftk_tree *tree, const ftk_verdict *verdict,
                   const ftk_rows *rows)
{
    const int accepted = verdict->n_path;
    int rest[DEPTH];
    const int n = rest_of_path(tree, verdict->path[accepted], rest);
    origin from[DEPTH];
    for (int i = 0, at = guess_of(s, tree, verdict->path[accepted]); i < n; i++) {
        at = at < 0 ? -1 : ftk_guesses_child(&s->guesses, at, tree->token[rest[i]]);
        from[i] = at < 0 ? FROM_DRAFT : denoised_by(s, &s->guesses.all[at]);
    }
    shift(s, accepted + 1);
    for (int i = 0; i < n; i++) {
        row *const r = &s->table[i];
        r->n = ftk_rows_best(rows, rest[i], s->n_vocab, TOP_K, r->token);
        r->origin = from[i];
    }
}

/* ------------------------------------------------------------------ the paper's tree */

/* Medusa's 63-node tree mc_sim_7b_63 as columns from the root, in its own order. */
static const char *const template[] = {
    "0",   "00",  "1",   "01",  "2",   "000", "10",  "02",  "3",    "03",  "4",    "04",  "20",
    "05",  "001", "5",   "06",  "6",   "07",  "010", "11",  "7",    "08",  "002",  "30",  "09",
    "8",   "9",   "100", "020", "12",  "003", "40",  "21",  "004",  "005", "0000", "011", "006",
    "030", "50",  "13",  "007", "008", "009", "60",  "040", "14",   "70",  "012",  "200", "31",
    "22",  "80",  "050", "15",  "101", "021", "90",  "060", "0001", "16",  "070",
};

/* The child of one column below a guess, or -1; of a token that is there already, that. */
static int add_column(jacobi *s, int at, int column)
{
    const int depth = s->guesses.all[at].depth;
    const row *const r = &s->table[depth];
    if (column >= r->n) return -1;
    return ftk_guesses_add(&s->guesses, at, r->token[column], rate_of(r->origin, depth, column));
}

static void guess_as_paper(jacobi *s, const int32_t *history, size_t n)
{
    const ftk_match m = ftk_suffix_at_most(&s->retrieval->suffix, PAPER_KEY);
    for (int i = 0, at = 0; i < PAPER_CHAIN; i++) {
        const size_t from = (size_t)m.first + (size_t)i;
        const int32_t token = from < n ? history[from] : noise(s, history, n);
        at = ftk_guesses_add(&s->guesses, at, token, RETRIEVED_AT + ftk_match_class(m.length + i));
        s->guesses.all[at].retrieved = true;
    }
    for (size_t i = 0; i < sizeof template / sizeof *template; i++)
        for (int k = 0, at = 0; template[i][k] && at >= 0; k++)
            at = add_column(s, at, template[i][k] - '0');
}

/* ------------------------------------------------------------------ the fitted tree */

static void add_rows(jacobi *s)
{
    for (int d = 0; d < DEPTH; d++) {
        const row *const r = &s->table[d];
        int16_t rate[TOP_K];
        for (int k = 0; k < r->n; k++) rate[k] = (int16_t)rate_of(r->origin, d, k);
        ftk_guesses_add_row(&s->guesses, d, 0, WIDTH, r->n, r->token, rate);
    }
}

/* What row j is worth to the next step. */
static float gain(const jacobi *s, origin from, int j)
{
    float so_far = 1;
    for (int d = 0; d <= j; d++) so_far *= ftk_rate_get(&s->guesses.rates[rate_of(from, d, 0)]);
    return so_far;
}

/* Nodes of the chain are worth the rows that they may make. */
static void price_chain(jacobi *s)
{
    ftk_guess *const all = s->guesses.all;
    float ends[DEPTH] = {0}; /* [j]: probability that the path ends j nodes up the chain */
    for (int at = 0, best = 0; all[at].first; at = best, best = 0) {
        for (int i = all[at].first; i; i = all[i].next)
            if (!best || all[i].worth > all[best].worth) best = i;
        memmove(ends + 1, ends, (DEPTH - 1) * sizeof *ends);
        ends[0] = ftk_guesses_open(&s->guesses, at);
        for (int j = 0; j < DEPTH; j++)
            all[best].extra += ends[j] * gain(s, denoised_by(s, &all[best]), j);
    }
}

/* ------------------------------------------------------------------ the drafter */

static ftk_err jacobi_init(void *state, const ftk_drafter_env *env)
{
    jacobi *const s = state;
    s->shape = env->shape;
    s->n_vocab = env->n_vocab;
    s->retrieval = env->retrieval;
    return ftk_guesses_init_for(&s->guesses, env, MOST, env->rates, RATES);
}

static void jacobi_free(void *state, const ftk_host *host)
{
    ftk_guesses_free(&((jacobi *)state)->guesses, host);
}

static void jacobi_reset(void *state, const int32_t *history, size_t n)
{
    (void)history, (void)n;
    jacobi *const s = state;
    s->guesses.asked = s->expected = 0;
    s->noise = 0;
}

static void jacobi_propose(void *state, const int32_t *history, size_t n, int budget,
                           ftk_tree *tree)
{
    jacobi *const s = state;
    ftk_guesses *const g = &s->guesses;
    ftk_guesses_settle(g, g->asked, history + g->asked, n - g->asked);
    if (s->expected != n) memset(s->table, 0, sizeof s->table);
    for (int i = 0; i < DEPTH; i++)
        if (s->table[i].n == 0) fill_with_noise(s, &s->table[i], history, n);
    if (s->shape == FTK_TREE_PAPER) {
        ftk_guesses_begin(g, history[n - 1]);
        g->asked = n;
        guess_as_paper(s, history, n);
        ftk_guesses_plant_all(g, budget, tree);
        return;
    }
    ftk_guesses_ask(g, history, n);
    add_rows(s);
    price_chain(s);
    ftk_guesses_plant(g, budget, tree);
}

static void jacobi_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                         const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history;
    jacobi *const s = state;
    if (s->guesses.asked != n) return;
    refill(s, tree, verdict, rows);
    ftk_guesses_settle(&s->guesses, n, verdict->token, (size_t)verdict->n_path + 1);
    s->expected = n + (size_t)verdict->n_path + 1;
}

const ftk_drafter_ops ftk_drafter_jacobi = {
    .name = "jacobi",
    .state_size = sizeof(jacobi),
    .rates_size = RATES * sizeof(ftk_rate),
    .rates_init = init_rates,
    .wants = FTK_WANT_SUCCESSORS,
    .init = jacobi_init,
    .propose = jacobi_propose,
    .learn = jacobi_learn,
    .reset = jacobi_reset,
    .free = jacobi_free,
};
