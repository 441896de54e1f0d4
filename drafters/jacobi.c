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
 * FTK_TREE_FITTED: nodes by falling worth; retrieval by the longest match, its latest
 * occurrence, up to CHAIN tokens; and successors of the node's own token (successors.h) are
 * children, too, tried behind the retrieved one. What a node is worth is first its probability,
 * as measured (acceptance.h). But a tree of only such nodes would leave no wrong tokens to
 * denoise, so under each node one chain, of the likeliest children, is worth more: where the
 * path ends at node w, the row of its j-th chain node fills row j - 1 of the next table, which
 * gains the next step about the probability that the leading candidates of such rows hold that
 * far. prob of a node is what it is worth: its probability, plus the sum over its chain's
 * possible w of P(path ends at w) * gain. Where a model does not denoise, the gain is measured
 * as nothing, and nothing is drafted for it. FTK_TREE_CHAIN: that chain alone. */
#include "drafters/jacobi.h"

#include <stddef.h>
#include <string.h>

#include "base/mem.h"
#include "base/sampler.h"
#include "drafters/drafter.h"

enum {
    DEPTH = 8, /* the paper's 5 follow from its tree */
    TOP_K = FTK_BEST,
    PAPER_CHAIN = 5,
    PAPER_KEY = 3,
    CHAIN = 16,
    /* Extra columns, which as children are tried first, in this order: */
    RETRIEVED = TOP_K,
    NEXT = TOP_K + 1, /* successors of the node's own token */
    COLUMNS = NEXT + FTK_SUCCESSORS,
};

/* Where a row comes from. */
typedef enum origin { NOISE, FROM_NOISE, FROM_DRAFT, ORIGINS } origin;

/* Candidates for one place, the likeliest first, all different. */
typedef struct row {
    origin origin;
    int n;
    int32_t token[TOP_K];
} row;

typedef struct rates {
    /* [parent is of column 0][origin][row][column]: right, where the retrieved token and the
     * columns before were wrong */
    ftk_rate column[2][ORIGINS][DEPTH][TOP_K];
    /* [names the same token as column 0 of a denoised row][match class]: begins with what retrieval
     * knows of the class, whatever else names the token */
    ftk_rate retrieved[2][FTK_MATCH_CLASSES];
    /* [the same][size]: likewise, with what the table knows of that size and depth */
    ftk_rate next[2][FTK_LIKELY_BINS];
} rates;

typedef struct jacobi {
    unsigned flags;
    ftk_tree_shape shape;
    int n_vocab;
    const ftk_retrieval *retrieval;
    const ftk_successors *successors; /* NULL: left out */
    uint64_t noise;                   /* counter of the generator */
    size_t expected;                  /* length of the text the table belongs to; 0: none */
    row table[DEPTH];
    size_t asked; /* the table and chain are an open prediction of what follows text[0..asked) */
    int32_t root;
    int match_length; /* in the text, before the chain */
    int n_chain;
    int32_t chain[CHAIN];
    rates *rates;              /* of all sessions */
    ftk_candidate *candidates; /* [FTK_MAX_NODES * COLUMNS] */
} jacobi;

/* ------------------------------------------------------------------ acceptance */

/* Before anything was seen: denoised rows right now and then, noise hardly ever. */
static void init_rates(void *of)
{
    rates *const r = of;
    for (int line = 0; line < 2; line++)
        for (int from = 0; from < ORIGINS; from++)
            for (int d = 0; d < DEPTH; d++)
                for (int k = 0; k < TOP_K; k++) {
                    const float denoised =
                        (line ? 0.3f : 0.2f) / (float)(k + 1) * (1 - 0.1f * (float)d);
                    ftk_rate_init(&r->column[line][from][d][k], from == NOISE ? 0.01f : denoised);
                }
}

/* What the path to a node says about the guesses for its children. */
typedef struct place {
    int32_t token; /* the node's */
    int depth;     /* of the node: its children take row `depth` */
    bool on_chain; /* all tokens so far are the retrieved ones */
    bool leading;  /* the node's own token is of column 0; true for the root */
} place;

static place root_place(const jacobi *s)
{
    return (place){.token = s->root, .on_chain = true, .leading = true};
}

static bool has_row(const place *p)
{
    return p->depth < DEPTH;
}

static bool has_chain(const jacobi *s, const place *p)
{
    return p->on_chain && p->depth < s->n_chain;
}

static place place_below(const jacobi *s, const place *p, int32_t token)
{
    const int d = p->depth;
    place below = {.token = token, .depth = d + 1};
    below.on_chain = has_chain(s, p) && s->chain[d] == token;
    below.leading = has_row(p) && s->table[d].n > 0 && s->table[d].token[0] == token;
    return below;
}

/* Column 0 of a denoised row names it, too. */
static bool is_first(const jacobi *s, const place *p, int32_t token)
{
    const row *const r = &s->table[p->depth < DEPTH ? p->depth : 0];
    return has_row(p) && r->origin != NOISE && r->token[0] == token;
}

static ftk_rate *chain_rate(jacobi *s, const place *p)
{
    const bool same = is_first(s, p, s->chain[p->depth]);
    const int class = ftk_match_class(s->match_length + p->depth);
    ftk_rate *const rate = &s->rates->retrieved[same][class];
    rate->prior = ftk_rate_get(&s->retrieval->rates.goes_on[class]);
    return rate;
}

static const ftk_successor_set *successors_of(const jacobi *s, const place *p)
{
    static const ftk_successor_set none;
    return s->successors ? &s->successors->of[p->token] : &none;
}

static ftk_rate *next_rate(jacobi *s, const place *p, const ftk_successor_set *set, int k)
{
    const bool same = is_first(s, p, set->token[k]);
    ftk_rate *const rate = &s->rates->next[same][set->size[k] - 1];
    rate->prior = ftk_successor_right(s->successors, set, k, p->depth);
    return rate;
}

static bool is_successor(const ftk_successor_set *set, int32_t token)
{
    for (int k = 0; k < FTK_SUCCESSORS && set->size[k]; k++)
        if (set->token[k] == token) return true;
    return false;
}

static ftk_rate *column_rates(jacobi *s, const place *p)
{
    return s->rates->column[p->leading][s->table[p->depth].origin][p->depth];
}

/* share[c]: the probability, given the node, that its child of column c is right. */
static void shares(jacobi *s, const place *p, float *share)
{
    float rest = 1;
    memset(share, 0, COLUMNS * sizeof *share);
    const int32_t retrieved = has_chain(s, p) ? s->chain[p->depth] : -1;
    if (retrieved >= 0) {
        share[RETRIEVED] = ftk_rate_get(chain_rate(s, p));
        rest -= share[RETRIEVED];
    }
    const ftk_successor_set *const next = successors_of(s, p);
    for (int k = 0; k < FTK_SUCCESSORS && next->size[k]; k++) {
        if (next->token[k] == retrieved) continue;
        share[NEXT + k] = rest * ftk_rate_get(next_rate(s, p, next, k));
        rest -= share[NEXT + k];
    }
    if (!has_row(p)) return;
    const ftk_rate *const rate = column_rates(s, p);
    const row *const r = &s->table[p->depth];
    for (int c = 0; c < r->n; c++) {
        if (r->token[c] == retrieved || is_successor(next, r->token[c])) continue;
        share[c] = rest * ftk_rate_get(&rate[c]);
        rest -= share[c];
    }
}

/* The token that came below a place, whatever the tree held there. */
static void see(jacobi *s, const place *p, int32_t truth)
{
    const int32_t retrieved = has_chain(s, p) ? s->chain[p->depth] : -1;
    if (retrieved >= 0) {
        ftk_rate_see(chain_rate(s, p), retrieved == truth);
        if (retrieved == truth) return;
    }
    const ftk_successor_set *const next = successors_of(s, p);
    for (int k = 0; k < FTK_SUCCESSORS && next->size[k]; k++) {
        if (next->token[k] == retrieved) continue;
        ftk_rate_see(next_rate(s, p, next, k), next->token[k] == truth);
        if (next->token[k] == truth) return;
    }
    if (!has_row(p)) return;
    ftk_rate *const rate = column_rates(s, p);
    const row *const r = &s->table[p->depth];
    for (int c = 0; c < r->n; c++) {
        if (r->token[c] == retrieved || is_successor(next, r->token[c])) continue;
        ftk_rate_see(&rate[c], r->token[c] == truth);
        if (r->token[c] == truth) return;
    }
}

/* The tokens that came after the open prediction. A place is looked at only when all before it were
 * guessed, by any column: only then could it have been reached. */
static void settle(jacobi *s, const int32_t *truth, size_t n)
{
    ftk_rates_fade((ftk_rate *)s->rates->column, sizeof s->rates->column / sizeof(ftk_rate));
    ftk_rates_fade((ftk_rate *)s->rates->retrieved, sizeof s->rates->retrieved / sizeof(ftk_rate));
    ftk_rates_fade((ftk_rate *)s->rates->next, sizeof s->rates->next / sizeof(ftk_rate));
    place p = root_place(s);
    for (size_t d = 0; d < n && (has_row(&p) || has_chain(s, &p)); d++) {
        see(s, &p, truth[d]);
        p = place_below(s, &p, truth[d]);
    }
    s->asked = 0;
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

static void refill(jacobi *s, const ftk_tree *tree, const ftk_verdict *verdict,
                   const ftk_rows *rows)
{
    const int accepted = verdict->n_path;
    int rest[DEPTH];
    const int n = rest_of_path(tree, verdict->path[accepted], rest);
    origin from[DEPTH];
    for (int i = 0; i < n; i++) { /* of the token at rest[i], if it is the table's */
        const int d = tree->depth[rest[i]] - 1;
        const bool noisy = d < DEPTH && s->table[d].origin == NOISE &&
                           !(d < s->n_chain && s->chain[d] == tree->token[rest[i]]);
        from[i] = noisy ? FROM_NOISE : FROM_DRAFT;
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

/* Adds the node of one column below `node`, or -1. */
static int add_column(jacobi *s, ftk_tree *tree, int node, place *p, int column)
{
    float share[COLUMNS];
    const bool retrieved = column == RETRIEVED;
    if (retrieved ? !has_chain(s, p) : column >= s->table[p->depth].n) return -1;
    const int32_t token = retrieved ? s->chain[p->depth] : s->table[p->depth].token[column];
    shares(s, p, share);
    *p = place_below(s, p, token);
    return ftk_tree_add(tree, node, token, tree->prob[node] * share[column]);
}

/* A column that repeats another one's token is that one's node. */
static void plant_paper(jacobi *s, ftk_tree *tree)
{
    place p = root_place(s);
    for (int i = 0, node = 0; i < s->n_chain && node >= 0; i++)
        node = add_column(s, tree, node, &p, RETRIEVED);
    for (size_t i = 0; i < sizeof template / sizeof *template; i++) {
        p = root_place(s);
        int node = 0;
        for (const char *c = template[i]; *c && node >= 0; c++)
            node = add_column(s, tree, node, &p, *c - '0');
    }
}

/* ------------------------------------------------------------------ the fitted tree */

typedef struct planted {
    place place;
    float prob;
    int feeder;        /* the column of the chain's next node; -1: it ends here */
    float ends[DEPTH]; /* [j]: probability that the path ends j nodes up the chain */
} planted;

typedef struct fit {
    planted nodes[FTK_MAX_NODES];
    ftk_heap heap;
    float gain[ORIGINS][DEPTH]; /* by origin of the row, what row j is worth to the next step */
} fit;

static void measure_gain(const jacobi *s, fit *f)
{
    for (int from = 0; from < ORIGINS; from++) {
        float so_far = 1;
        for (int d = 0; d < DEPTH; d++)
            f->gain[from][d] = so_far *= ftk_rate_get(&s->rates->column[1][from][d][0]);
    }
}

/* The origin of the row that this token's output makes. */
static origin denoised_by(const jacobi *s, const place *p, int column)
{
    const bool noisy = column < RETRIEVED && s->table[p->depth].origin == NOISE;
    return noisy ? FROM_NOISE : FROM_DRAFT;
}

static float feeding(const jacobi *s, const fit *f, const planted *node, int column)
{
    const float *const gain = f->gain[denoised_by(s, &node->place, column)];
    float sum = 0;
    for (int j = 0; j < DEPTH; j++) sum += node->ends[j] * gain[j];
    return sum;
}

static int32_t token_of(const jacobi *s, const place *p, int column)
{
    if (column >= NEXT) return successors_of(s, p)->token[column - NEXT];
    return column == RETRIEVED ? s->chain[p->depth] : s->table[p->depth].token[column];
}

static void push_children(jacobi *s, fit *f, int at)
{
    planted *const node = &f->nodes[at];
    const place *const p = &node->place;
    float share[COLUMNS], rest = 1;
    shares(s, p, share);
    node->feeder = -1;
    for (int c = 0; c < COLUMNS; c++) {
        rest -= share[c];
        if (share[c] > 0 && (node->feeder < 0 || share[c] > share[node->feeder])) node->feeder = c;
    }
    node->ends[0] = rest > 0 ? node->prob * rest : 0;
    for (int c = 0; c < COLUMNS; c++) {
        if (share[c] <= 0 || (s->shape == FTK_TREE_CHAIN && c != node->feeder)) continue;
        ftk_candidate k = {
            .prob = node->prob * share[c], .parent = (int16_t)at, .slot = (int16_t)c};
        if (c >= NEXT && k.prob < s->successors->least) continue;
        k.token = token_of(s, p, c);
        k.value = k.prob + (c == node->feeder ? feeding(s, f, node, c) : 0);
        ftk_heap_push(&f->heap, k);
    }
}

static void plant_fitted(jacobi *s, int budget, ftk_tree *tree)
{
    fit f;
    f.heap = (ftk_heap){.cap = FTK_MAX_NODES * COLUMNS, .items = s->candidates};
    measure_gain(s, &f);
    f.nodes[0] = (planted){.place = root_place(s), .prob = 1};
    for (ftk_candidate c; tree->n <= budget;) {
        push_children(s, &f, tree->n - 1);
        if (!ftk_heap_pop(&f.heap, &c)) return;
        const planted *const parent = &f.nodes[c.parent];
        const int i = ftk_tree_add(tree, c.parent, c.token, c.value);
        tree->recycled[i] = c.slot >= NEXT && !is_first(s, &parent->place, c.token);
        planted *const node = &f.nodes[i];
        *node = (planted){.place = place_below(s, &parent->place, c.token), .prob = c.prob};
        if (c.slot == parent->feeder)
            memcpy(node->ends + 1, parent->ends, (DEPTH - 1) * sizeof *node->ends);
    }
}

/* ------------------------------------------------------------------ the drafter */

static ftk_err jacobi_init(void *state, const ftk_drafter_env *env)
{
    jacobi *const s = state;
    s->shape = env->shape;
    s->n_vocab = env->n_vocab;
    if (env->test) memcpy(&s->flags, env->test, sizeof s->flags);
    s->retrieval = env->retrieval;
    const bool with = s->shape != FTK_TREE_PAPER && !(s->flags & FTK_JACOBI_NO_SUCCESSORS);
    s->successors = with ? env->successors : NULL;
    s->rates = env->rates;
    s->candidates = ftk_alloc(env->host, FTK_MAX_NODES * COLUMNS, sizeof *s->candidates);
    if (!s->candidates)
        return ftk_fail(env->host, FTK_ERR_NOMEM, "no memory for the candidates of a draft");
    return FTK_OK;
}

static void jacobi_free(void *state, const ftk_host *host)
{
    jacobi *const s = state;
    ftk_release(host, s->candidates);
    s->candidates = NULL;
}

static void jacobi_reset(void *state, const int32_t *history, size_t n)
{
    (void)history, (void)n;
    jacobi *const s = state;
    s->asked = s->expected = 0;
    s->noise = 0;
}

static void retrieve(jacobi *s, const int32_t *history, size_t n)
{
    const ftk_retrieval *const r = s->retrieval;
    if (s->shape != FTK_TREE_PAPER) {
        s->match_length = r->length;
        s->n_chain = r->n < CHAIN ? r->n : CHAIN;
        if (s->flags & FTK_JACOBI_NO_RETRIEVAL) s->n_chain = 0;
        memcpy(s->chain, r->recent, (size_t)s->n_chain * sizeof *s->chain);
        return;
    }
    const ftk_match m = ftk_suffix_at_most(&r->suffix, PAPER_KEY);
    s->match_length = m.length;
    s->n_chain = PAPER_CHAIN;
    for (int i = 0; i < PAPER_CHAIN; i++) {
        const size_t from = (size_t)m.first + (size_t)i;
        s->chain[i] = from < n ? history[from] : noise(s, history, n);
    }
}

static void jacobi_propose(void *state, const int32_t *history, size_t n, int budget,
                           ftk_tree *tree)
{
    jacobi *const s = state;
    if (s->asked > 0) settle(s, history + s->asked, n - s->asked);
    if (s->expected != n) memset(s->table, 0, sizeof s->table);
    for (int i = 0; i < DEPTH; i++)
        if (s->table[i].n == 0) fill_with_noise(s, &s->table[i], history, n);
    retrieve(s, history, n);
    s->root = history[n - 1];
    s->asked = n;
    if (budget > FTK_MAX_NODES - 1) budget = FTK_MAX_NODES - 1;
    if (s->shape != FTK_TREE_PAPER)
        plant_fitted(s, budget, tree);
    else
        plant_paper(s, tree);
    ftk_tree_cut(tree, budget + 1);
}

static void jacobi_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                         const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history;
    jacobi *const s = state;
    if (s->asked != n) return;
    settle(s, verdict->token, (size_t)verdict->n_path + 1);
    refill(s, tree, verdict, rows);
    s->expected = n + (size_t)verdict->n_path + 1;
}

const ftk_drafter_ops ftk_drafter_jacobi = {
    .name = "jacobi",
    .state_size = sizeof(jacobi),
    .rates_size = sizeof(rates),
    .rates_init = init_rates,
    .wants = FTK_WANT_SUCCESSORS,
    .init = jacobi_init,
    .propose = jacobi_propose,
    .learn = jacobi_learn,
    .reset = jacobi_reset,
    .free = jacobi_free,
};
