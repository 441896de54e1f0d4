/* SPDX-License-Identifier: Apache-2.0
 *
 * FIRP, "Faster LLM inference via future intermediate representation prediction" (arXiv
 * 2410.20488). From the paper's abstract: linear maps in an intermediate layer make pseudo
 * states of tokens that are not decoded yet; these go through all layers above, where they come
 * closer to the real ones, and the model's own output names the tokens. All else is OUR READING.
 *
 * With h the state behind the first `layer` layers at the last accepted node, which stands at
 * position n, map i makes
 *
 *     z_i = W_i h + E_i e,   i = 1..k, at position n+i;   z_i sees the text up to n, and z_1..z_i
 *
 * and the row of z_i gives the distribution of token n+i+1. Token n+1 is the root of the next
 * draft: the model itself has said it. So z_1 stands where the root stands, and row i-1 is a
 * guess for depth i. e is the root's embedding, scaled to the root mean square of h. It is known
 * between the passes (split), and not known during the pass that decides it (fused): there e is
 * 0. Maps were trained for both; a file without E_i has maps of the state alone, as the abstract
 * has.
 *
 * Two schedules, of which a session has one:
 *  split  when a draft is wanted, the k rows go through the upper layers by themselves. They do if
 *         what is expected of them, by how often the best of each offset has been right where the
 *         session's sources left something open, takes longer without them, at the pace of late.
 *  fused  the paper's (FTK_TREE_PAPER): the pass that verifies a tree carries k rows each for those
 *         FUSED_NODES nodes that are likeliest to be its last accepted ones. If one of them is, its
 *         rows are the next draft. In passes that sessions share nothing joins.
 *
 * Guesses for a depth do not depend on the branch: all nodes of a depth have the same
 * candidates. The tree is made of them best first, with the chain of what followed the same
 * words earlier and with successors (guesses.h). */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "drafters/confidence.h"
#include "drafters/drafter.h"
#include "drafters/guesses.h"
#include "drafters/took.h"

enum {
    MOST_OFFSETS = 8,
    WIDTH = 10,
    MOST = 1 + FTK_CHAIN + FTK_RECYCLED + MOST_OFFSETS * WIDTH * FTK_LIKELY, /* with the root */
    FUSED_NODES = 4,
};

static const float floor_worth = 0.05f; /* of a node that gets children */

/* Rates [MOST_OFFSETS][FTK_LIKELY_BINS], then those of all guesses, see guesses.h. */
enum { OWN = MOST_OFFSETS * FTK_LIKELY_BINS, RATES = OWN + FTK_GUESS_RATES };

/* What sessions learn together. */
typedef struct known {
    ftk_rate rates[RATES];
    ftk_confidence confidence[MOST_OFFSETS];
    double took[2]; /* of a split draft: took.h */
} known;

typedef struct likely {
    int n;
    int32_t token[FTK_LIKELY];
    int8_t bin[FTK_LIKELY];
} likely;

typedef struct firp {
    const ftk_target *target;
    bool fused;
    int layer;
    ftk_maps maps; /* of map[] and of_token[] */
    ftk_heads_ask ask;
    const struct ftk_mat *map[MOST_OFFSETS], *of_token[MOST_OFFSETS];
    ftk_guesses guesses;
    known *known;
    size_t state_of; /* length of the text before whose root `state` stands; 0: none */
    size_t ahead_of; /* length of the text that `ahead` follows; 0: none */
    likely ahead[MOST_OFFSETS];
    int n_nodes; /* whose rows were fused */
    int16_t node[FTK_MAX_NODES];
    float *state; /* [n_embd] */
    float *e;     /* [n_embd] */
    float *z, *y; /* [FTK_MAX_NODES][n_embd] each */
} firp;

/* ------------------------------------------------------------------ the file */

static const ftk_weight *map_weight(const ftk_weights *w, int offset, const char *part, int n_embd,
                                    const ftk_host *host)
{
    char name[32];
    snprintf(name, sizeof name, "offset.%d.%s", offset, part);
    return ftk_weights_get(w, name, n_embd, n_embd, host);
}

static bool has_token_maps(const ftk_weights *w)
{
    for (int i = 0; i < w->n; i++)
        if (strcmp(w->items[i].name, "offset.0.token") == 0) return true;
    return false;
}

static ftk_err firp_check(const ftk_weights *w, const ftk_target *t, const ftk_host *host)
{
    int layer, offsets;
    if (!ftk_weights_int(w, "layer", 1, t->n_layer - 1, &layer, host) ||
        !ftk_weights_int(w, "offsets", 1, MOST_OFFSETS, &offsets, host))
        return FTK_ERR_FORMAT;
    const bool token = has_token_maps(w);
    for (int i = 0; i < offsets; i++)
        if (!map_weight(w, i, "weight", t->n_embd, host) ||
            (token && !map_weight(w, i, "token", t->n_embd, host)))
            return FTK_ERR_FORMAT;
    return FTK_OK;
}

static int firp_state_layer(const ftk_weights *w)
{
    int layer = 1;
    ftk_weights_int(w, "layer", 1, INT32_MAX, &layer, NULL);
    return layer - 1;
}

/* ------------------------------------------------------------------ guesses */

static void init_known(void *rates)
{
    known *const k = rates;
    ftk_guesses_init_rates(k->rates, RATES);
    for (int i = 0; i < OWN; i++)
        ftk_rate_init(&k->rates[i], 0.9f * ftk_likely_prior(i % FTK_LIKELY_BINS));
    for (int i = 0; i < MOST_OFFSETS; i++) ftk_confidence_init(&k->confidence[i]);
}

/* Rows [first, first + n_offsets) are for what follows text[0..n). */
static void look_at(firp *s, const ftk_rows *rows, int first, size_t n)
{
    for (int i = 0; i < s->maps.n; i++) {
        likely *const l = &s->ahead[i];
        l->n = ftk_rows_likely(rows, first + i, s->target->n_vocab, FTK_LIKELY, l->token, l->bin);
        if (l->n > 0) ftk_confidence_see(&s->known->confidence[i], l->bin[0]);
    }
    s->ahead_of = n;
}

static void add_ahead(firp *s)
{
    for (int i = 0; i < s->maps.n; i++) {
        int16_t rate[FTK_LIKELY];
        for (int k = 0; k < s->ahead[i].n; k++)
            rate[k] = (int16_t)(i * FTK_LIKELY_BINS + s->ahead[i].bin[k]);
        ftk_guesses_add_row(&s->guesses, i, floor_worth, WIDTH, s->ahead[i].n, s->ahead[i].token,
                            rate);
    }
}

/* ------------------------------------------------------------------ pseudo states */

/* s->e, of a token. */
static void scale_embedding(firp *s, int32_t token)
{
    const size_t d = (size_t)s->target->n_embd;
    s->target->embed(s->target->ctx, 1, &token, s->e);
    float sum = 0, of_state = 0;
    for (size_t j = 0; j < d; j++) {
        sum += s->e[j] * s->e[j];
        of_state += s->state[j] * s->state[j];
    }
    const float scale = sqrtf(of_state / (float)d) / sqrtf(sum / (float)d + FTK_EMBED_EPS);
    for (size_t j = 0; j < d; j++) s->e[j] *= scale;
}

/* ------------------------------------------------------------------ the two schedules */

/* Seconds of a split draft, until one was made by what passes over its layers take. */
static double split_takes(const firp *s)
{
    const ftk_target *const t = s->target;
    const double took = ftk_took_of(s->known->took, t, 1, 0, 1);
    return took > 0 ? took : t->seconds(t->ctx, s->layer, s->maps.n);
}

/* The tokens that are expected of a split draft take longer without it, at the pace of late, than
 * it and their verification. */
static bool split_pays(const firp *s)
{
    const ftk_target *const t = s->target;
    const double token = ftk_target_token(t, s->guesses.flags), row = ftk_target_row(t);
    double saves = 0, reached = ftk_guesses_open(&s->guesses, 0);
    for (int i = 0; i < s->maps.n; i++) {
        const ftk_confidence *const c = &s->known->confidence[i];
        const ftk_rate *const right = s->known->rates + i * FTK_LIKELY_BINS;
        saves += ftk_confidence_saves(c, right, reached, token, row);
        reached *= ftk_confidence_right(c, right);
    }
    if (saves > split_takes(s)) return true;
    ftk_took_doubt(s->known->took, t);
    return false;
}

/* The split schedule: the pseudo states of `state` and the root, through the upper layers. */
static const ftk_rows *run_maps(firp *s, int32_t root)
{
    const ftk_target *const t = s->target;
    const size_t d = (size_t)t->n_embd;
    s->maps.token = root;
    if (t->run_mapped) return t->run_mapped(t->ctx, s->layer, &s->maps);
    if (s->maps.of_token) scale_embedding(s, root);
    for (int i = 0; i < s->maps.n; i++) {
        float *const z = s->z + (size_t)i * d;
        t->multiply(t->ctx, s->map[i], 1, s->state, z);
        if (!s->maps.of_token) continue;
        t->multiply(t->ctx, s->of_token[i], 1, s->e, s->y);
        for (size_t j = 0; j < d; j++) z[j] += s->y[j];
    }
    return t->run_above(t->ctx, s->layer, s->maps.n, s->z);
}

static void split(firp *s, int32_t root, size_t n)
{
    const ftk_target *const t = s->target;
    const double start = t->now(t->ctx);
    const ftk_rows *const rows = run_maps(s, root);
    if (!rows) return;
    look_at(s, rows, 0, n);
    ftk_took_see(s->known->took, t, 1, t->now(t->ctx) - start);
}

/* The fused schedule: x[nodes][offsets][n_embd], of the states of the tree's rows. */
static void firp_appended(void *state, const float *states, float *x)
{
    firp *const s = state;
    const ftk_target *const t = s->target;
    const size_t d = (size_t)t->n_embd, k = (size_t)s->maps.n, n = (size_t)s->n_nodes;
    for (size_t j = 0; j < n; j++)
        memcpy(s->z + j * d, states + (size_t)s->node[j] * d, d * sizeof *x);
    for (size_t i = 0; i < k; i++) {
        t->multiply(t->ctx, s->map[i], s->n_nodes, s->z, s->y);
        for (size_t j = 0; j < n; j++) memcpy(x + (j * k + i) * d, s->y + j * d, d * sizeof *x);
    }
}

static const ftk_maps *firp_append_maps(void *state)
{
    return &((firp *)state)->maps;
}

/* last[i]: the probability that node i is the last that is accepted. Returns the highest. */
static int likeliest_last(const float *last, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (last[i] > last[best]) best = i;
    return best;
}

/* True: the device goes on from here, up to the tree, and firp_finished() gets what the rows
 * said. */
static bool left_to_device(firp *s, int32_t root, int budget)
{
    const ftk_target *const t = s->target;
    if (!t->leave) return false;
    ftk_guesses_tell(&s->guesses, floor_worth, s->known->rates, s->maps.n, &s->ask);
    s->maps.token = root;
    const ftk_unfinished draft = {.maps = &s->maps,
                                  .layer = s->layer,
                                  .ask = &s->ask,
                                  .seconds = split_takes(s)};
    return t->leave(t->ctx, &draft, budget);
}

static void firp_finished(void *state, const ftk_finished *f)
{
    firp *const s = state;
    look_at(s, &(ftk_rows){.ranked = f->said->said[0]}, 0, s->guesses.asked);
    add_ahead(s);
    ftk_took_see(s->known->took, s->target, 1, f->seconds);
}

static int firp_append(void *state, const ftk_tree *tree, int most, int16_t *node)
{
    firp *const s = state;
    const int k = s->maps.n;
    s->n_nodes = 0;
    if (!s->fused) return 0;
    float last[FTK_MAX_NODES];
    for (int i = 0; i < tree->n; i++) last[i] = tree->prob[i];
    for (int i = 1; i < tree->n; i++) last[tree->parent[i]] -= tree->prob[i];
    while (s->n_nodes < FUSED_NODES && s->n_nodes < tree->n && (s->n_nodes + 1) * k <= most) {
        const int i = likeliest_last(last, tree->n);
        for (int j = 0; j < k; j++) node[s->n_nodes * k + j] = (int16_t)i;
        s->node[s->n_nodes++] = (int16_t)i;
        last[i] = -1;
    }
    return s->n_nodes * k;
}

/* ------------------------------------------------------------------ the drafter */

static ftk_err firp_init(void *state, const ftk_drafter_env *env)
{
    firp *const s = state;
    const ftk_host *const h = env->host;
    const ftk_weights *const w = env->weights;
    s->target = env->target;
    const int n_embd = s->target->n_embd;
    s->layer = firp_state_layer(w) + 1;
    s->maps = (ftk_maps){.of_state = s->map, .of_token = has_token_maps(w) ? s->of_token : NULL};
    ftk_weights_int(w, "offsets", 1, MOST_OFFSETS, &s->maps.n, h);
    for (int i = 0; i < s->maps.n; i++) {
        s->map[i] = map_weight(w, i, "weight", n_embd, h)->matrix;
        if (s->maps.of_token) s->of_token[i] = map_weight(w, i, "token", n_embd, h)->matrix;
    }
    s->known = env->rates;
    if (ftk_guesses_init_for(&s->guesses, env, MOST, s->known->rates, RATES) != FTK_OK)
        return FTK_ERR_NOMEM;
    s->fused = env->shape == FTK_TREE_PAPER || s->guesses.flags & FTK_ROWS_JOIN;
    if (s->target->run_mapped) return FTK_OK; /* states are a device's */
    const size_t d = (size_t)n_embd;
    s->state = ftk_alloc(h, d, sizeof(float));
    s->e = ftk_alloc(h, d, sizeof(float));
    s->z = ftk_alloc(h, FTK_MAX_NODES * d, sizeof(float));
    s->y = ftk_alloc(h, FTK_MAX_NODES * d, sizeof(float));
    if (!s->state || !s->e || !s->z || !s->y)
        return ftk_fail(h, FTK_ERR_NOMEM, "no memory for pseudo states");
    return FTK_OK;
}

static void firp_free(void *state, const ftk_host *host)
{
    firp *const s = state;
    ftk_guesses_free(&s->guesses, host);
    void *const all[] = {s->state, s->e, s->z, s->y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ftk_release(host, all[i]);
    *s = (firp){0};
}

static void firp_reset(void *state, const int32_t *history, size_t n)
{
    (void)history, (void)n;
    firp *const s = state;
    s->guesses.asked = s->state_of = s->ahead_of = 0;
}

static void firp_propose(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree)
{
    firp *const s = state;
    ftk_guesses_ask(&s->guesses, history, n);
    if (s->fused && budget > FTK_MAX_NODES - 1 - FUSED_NODES * s->maps.n)
        budget = FTK_MAX_NODES - 1 - FUSED_NODES * s->maps.n;
    if (s->ahead_of != n && s->state_of == n && !s->fused && split_pays(s)) {
        if (left_to_device(s, history[n - 1], budget)) return;
        split(s, history[n - 1], n);
    }
    if (s->ahead_of == n) add_ahead(s);
    ftk_guesses_plant(&s->guesses, budget, tree);
}

static void firp_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                       const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history, (void)tree;
    firp *const s = state;
    const int last = verdict->path[verdict->n_path];
    const size_t next = n + (size_t)verdict->n_path + 1;
    ftk_guesses_settle(&s->guesses, n, verdict->token, (size_t)verdict->n_path + 1);
    const ftk_target *const t = s->target;
    const size_t d = (size_t)t->n_embd;
    if (t->hold)
        t->hold(t->ctx, FTK_HELD_STATE, last);
    else
        memcpy(s->state, rows->states + (size_t)last * d, d * sizeof *s->state);
    s->state_of = next;
    for (int j = 0; rows->appended && j < s->n_nodes; j++)
        if (s->node[j] == last) look_at(s, rows->appended, j * s->maps.n, next);
}

const ftk_drafter_ops ftk_drafter_firp = {
    .name = "firp",
    .state_size = sizeof(firp),
    .rates_size = sizeof(known),
    .rates_init = init_known,
    .wants = FTK_WANT_STATES | FTK_WANT_SUCCESSORS,
    .check = firp_check,
    .state_layer = firp_state_layer,
    .init = firp_init,
    .propose = firp_propose,
    .finished = firp_finished,
    .append = firp_append,
    .appended = firp_appended,
    .append_maps = firp_append_maps,
    .learn = firp_learn,
    .reset = firp_reset,
    .free = firp_free,
};
