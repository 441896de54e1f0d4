/* SPDX-License-Identifier: Apache-2.0
 * Drafts that a device makes whole, of heads and of maps, against the same made step by step. */
#include "checkcuda.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sampler.h"
#include "model/device_cuda.h"

enum { HEADS = 3, KNOWN = 6 };

/* What is said of heads, to be computed again. */
typedef struct {
    ftk_heads heads;
    ftk_heads_ask ask;
    ftk_mat mat[2 * HEADS + 1];
    ftk_weight items[2 * HEADS];
    ftk_weights weights;
    int32_t vocab[MOST_VOCAB];
} chain;

/* Matrices of random floats, large enough that some tokens are much likelier than others. */
static ftk_mat random_mat(int n_out, int n_in, uint32_t seed)
{
    const size_t n = (size_t)n_out * (size_t)n_in;
    float *w = malloc(n * sizeof *w);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        w[i] = ((float)(seed >> 8) * 0x1p-23f - 1) * 3 / sqrtf((float)n_in);
    }
    return (ftk_mat){.type = FTK_TYPE_F32, .n_out = n_out, .n_in = n_in, .file = w};
}

/* Guesses come as often as their shares say. */
static void as_said(ftk_heads_ask *ask)
{
    for (int i = 0; i < FTK_HEAD_BINS * FTK_BESIDES; i++)
        ask->comes[i / FTK_BESIDES][i % FTK_BESIDES] = 1;
}

/* kind: bit 0: not chained; 1: no token is seen; 2: a vocabulary; 3: a chain of single nodes. */
static void chain_open(chain *k, const bench *b, unsigned kind)
{
    const int d = b->f.m->hp.n_embd, n_vocab = b->f.m->hp.n_vocab, n_head = n_vocab / 2;
    *k = (chain){.weights = {.n = 2 * HEADS, .items = k->items, .head = &b->f.m->output}};
    k->heads = (ftk_heads){.n = HEADS,
                           .chained = !(kind & 1),
                           .sees_token = !(kind & 2),
                           .width = kind & 8 ? 1 : FTK_HEAD_NODES,
                           .choices = kind & 8 ? 1 : FTK_BEST};
    for (int i = 0; i < 2 * HEADS; i++) {
        const int n_in = i % 2 == 0 && k->heads.sees_token ? 2 * d : d;
        k->mat[i] = random_mat(d, n_in, 17 + (uint32_t)i);
        k->items[i] = (ftk_weight){.n_out = d, .n_in = n_in, .matrix = &k->mat[i]};
        *(i % 2 ? &k->heads.body[i / 2] : &k->heads.in[i / 2]) = &k->mat[i];
    }
    if (kind & 4) {
        k->mat[2 * HEADS] = random_mat(n_head, d, 5);
        for (int i = 0; i < n_head; i++) k->vocab[i] = 2 * i + 1;
        k->weights.head = &k->mat[2 * HEADS];
        k->weights.vocab = k->vocab;
    }
    k->weights.n_head = k->weights.head->n_out;
    k->heads.output = k->weights.head;
    static const float bound[FTK_HEAD_BINS - 1] = {0.4f, 0.2f, 0.1f, 0.07f, 0.05f, 0.03f, 0.02f};
    memcpy(k->ask.bound, bound, sizeof bound);
    k->ask.least = 0.02f;
    for (int i = 0; i < HEADS * FTK_HEAD_BINS; i++)
        k->ask.rate[i / FTK_HEAD_BINS][i % FTK_HEAD_BINS] = 0.9f / (float)(1 + i % FTK_HEAD_BINS);
    as_said(&k->ask);
    char why[400] = "";
    must(b->device->ops->add_weights(b->device, &k->weights, why, sizeof why), why);
}

static void chain_close(chain *k)
{
    for (int i = 0; i <= 2 * HEADS; i++) free((void *)k->mat[i].file);
}

static int32_t token_of(const chain *k, int32_t id)
{
    return k->weights.vocab ? k->weights.vocab[id] : id;
}

typedef struct {
    int32_t token;
    int parent, depth, row;
    float share, worth;
} guess;

enum { GUESSES = FTK_HEAD_KNOWN + HEADS * FTK_HEAD_NODES * FTK_BEST };

/* Features of head h's children for a node with that token: what is said of them is ranked. */
static void next_feature(const bench *b, const chain *k, int h, int32_t token, const float *g,
                         float *next)
{
    ftk_device *const dev = b->device;
    const size_t d = (size_t)b->f.m->hp.n_embd;
    float *z = malloc(2 * d * sizeof *z), *u = malloc(d * sizeof *u), *v = malloc(d * sizeof *v);
    double sum = 0;
    ftk_embed(b->f.m, token, z);
    for (size_t i = 0; i < d; i++) sum += (double)z[i] * z[i];
    for (size_t i = 0; i < d; i++)
        z[i] = (float)(z[i] / sqrt(sum / (double)d + (double)FTK_EMBED_EPS));
    memcpy(k->heads.sees_token ? z + d : z, g, d * sizeof *z);
    dev->ops->multiply(dev, k->heads.in[h], 1, z, u);
    dev->ops->multiply(dev, k->heads.body[h], 1, u, v);
    for (size_t i = 0; i < d; i++) next[i] = (float)(u[i] + v[i] / (1 + exp(-(double)v[i])));
    free(z);
    free(u);
    free(v);
}

/* A row's tokens and probabilities are those of its feature. */
static void check_said(const bench *b, const chain *k, const ftk_ranked *r, const float *feature,
                       int h, double tol)
{
    const int n = k->heads.output->n_out;
    float *x = malloc((size_t)n * sizeof *x);
    int32_t best[FTK_BEST];
    b->device->ops->multiply(b->device, k->heads.output, 1, feature, x);
    ftk_top_k(x, n, FTK_BEST, best);
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp((double)x[i] - x[best[0]]);
    for (int i = 0; i < FTK_BEST; i++) {
        const double ith = exp((double)x[best[i]] - x[best[0]]) / sum;
        const double own = exp((double)x[r->best[i]] - x[best[0]]) / sum;
        expect(fabs(r->prob[i] - ith) <= tol, "a head's probability (head, rank)", h, i);
        expect(fabs(r->prob[i] - own) <= tol, "a head's token (head, rank)", h, i);
    }
    expect(r->token == r->best[0], "a head's token is not its likeliest", h, 0);
    free(x);
}

/* The best guesses of a depth, as base/target.h has it, of what the device says of the heads
 * before. */
static int choose(const chain *k, guess *all, int depth, int *node)
{
    for (int i = 0; i < GUESSES; i++)
        if (all[i].depth == depth)
            all[i].worth = (all[i].parent < 0 ? 1 : all[all[i].parent].worth) * all[i].share;
    for (int n = 0;; n++) {
        int best = -1;
        for (int i = 0; i < GUESSES; i++) {
            const bool linked = all[i].parent < 0 || !k->heads.chained || !k->heads.sees_token ||
                                all[all[i].parent].row >= 0;
            if (all[i].depth == depth && all[i].row < 0 && all[i].worth >= k->ask.least && linked &&
                (best < 0 || all[i].worth > all[best].worth))
                best = i;
        }
        if (best < 0 || n == k->heads.width) return n;
        all[best].row = n;
        node[n] = best;
    }
}

static void name_children(const chain *k, guess *all, int h, int r, int parent, const ftk_ranked *s)
{
    for (int c = 0; c < k->heads.choices; c++) {
        int bin = 0, at = FTK_HEAD_KNOWN + (h * FTK_HEAD_NODES + r) * FTK_BEST + c;
        while (bin < FTK_HEAD_BINS - 1 && s->prob[c] < k->ask.bound[bin]) bin++;
        const float share = k->ask.rate[h][bin];
        for (int i = 0; i < k->ask.n_known; i++)
            if (all[i].parent == parent && all[i].token == token_of(k, s->best[c])) at = i;
        if (at >= FTK_HEAD_KNOWN)
            all[at] = (guess){token_of(k, s->best[c]), parent, h + 1, -1, share, -1};
        else if (share > all[at].share)
            all[at].share = share;
    }
}

/* All that was said is what heads and nodes, computed one by one, give. Returns how many known
 * guesses got children. */
static int check_chain(const bench *b, const chain *k, const float *feature,
                       const ftk_heads_said *said, double tol)
{
    const size_t d = (size_t)b->f.m->hp.n_embd;
    static guess all[GUESSES];
    float *g[2];
    int known = 0;
    for (int i = 0; i < 2; i++) g[i] = malloc(FTK_HEAD_NODES * d * sizeof *g[i]);
    for (int i = 0; i < GUESSES; i++) all[i] = (guess){-1, -1, -1, -1, -1, -1};
    for (int i = 0; i < k->ask.n_known; i++) {
        const ftk_known *const a = &k->ask.known[i];
        all[i] = (guess){a->token, a->parent, a->depth, -1, a->share, -1};
    }
    for (int h = 0; h < HEADS; h++) {
        int node[FTK_HEAD_NODES];
        const int n = choose(k, all, h, node);
        if (!expect(said->n[h] == n, "so many nodes get children (head, nodes)", h, said->n[h]) ||
            !expect(memcmp(said->node[h], node, (size_t)n * sizeof *node) == 0,
                    "other nodes get children (head)", h, 0))
            break;
        for (int r = 0; r < n; r++) {
            const int row = k->heads.sees_token ? r : 0;
            const float *from = feature;
            if (h > 0 && k->heads.chained)
                from = g[(h + 1) % 2] +
                       (k->heads.sees_token ? (size_t)all[all[node[r]].parent].row : 0) * d;
            known += node[r] < FTK_HEAD_KNOWN;
            if (row == r) {
                next_feature(b, k, h, all[node[r]].token, from, g[h % 2] + (size_t)r * d);
                check_said(b, k, &said->said[h][r], g[h % 2] + (size_t)r * d, h, tol);
            }
            name_children(k, all, h, r, node[r], &said->said[h][row]);
        }
    }
    for (int i = 0; i < 2; i++) free(g[i]);
    return known;
}

/* A draft by heads in one call and with one wait, run as it stands, to be kept, and from what
 * was kept. */
void check_heads(bench *b, unsigned kind, double tol)
{
    enum { N = 9, ROW = 6 };
    ftk_device *const dev = b->device;
    const size_t d = (size_t)b->f.m->hp.n_embd;
    int32_t tokens[N];
    for (int i = 0; i < N; i++) tokens[i] = token_at(b, i);
    ftk_kv_seq s = seq_new(b);
    must(ftk_kv_reserve(&s, N), "reserve");
    const ftk_pass_seq p = {.kv = &s, .n_rows = N, .token = tokens};
    ftk_forward_run(&b->f, &p, 1);
    float *held = dev->ops->mem_alloc(dev, d * sizeof *held);
    dev->ops->hold(dev, FTK_HELD_FEATURE, ROW, held);
    float *feature = malloc(d * sizeof *feature);
    memcpy(feature, b->f.features + ROW * d, d * sizeof *feature);
    read_to(b, &s, 20, 20); /* another pass leaves other features */
    chain k;
    chain_open(&k, b, kind);
    k.ask.n_known = 1;
    k.ask.known[0] = (ftk_known){token_at(b, 50), -1, 0, 1, 1};
    ftk_heads_said first = *dev->ops->run_heads(dev, &k.heads, &k.ask, held);
    expect(check_chain(b, &k, feature, &first, tol) == 1, "the root alone was known", kind, 0);
    /* Beside it, what the first head names in third place, with a chain below, and what it does
     * not. */
    const int32_t third = token_of(&k, first.said[0][0].best[2]);
    int32_t other = 0;
    for (int i = 0; i < FTK_BEST; i++)
        if (token_of(&k, first.said[0][0].best[i]) == other) other++, i = -1;
    k.ask.n_known = KNOWN;
    k.ask.deepest = 3;
    k.ask.known[1] = (ftk_known){third, 0, 1, 0.7f, 1};
    k.ask.known[2] = (ftk_known){token_at(b, 51), 1, 2, 0.9f, 1};
    k.ask.known[3] = (ftk_known){token_at(b, 52), 2, 3, 0.8f, 1};
    k.ask.known[4] =
        (ftk_known){other, 0, 1, 0.01f, 1}; /* not worth children, so not what is below it */
    k.ask.known[5] = (ftk_known){token_at(b, 53), 4, 2, 1, 1};
    const int kept = dev->ops->kept(dev);
    for (int i = 0; i < 3; i++) {
        const ftk_heads_said *const said = dev->ops->run_heads(dev, &k.heads, &k.ask, held);
        if (i == 0) {
            first = *said;
            expect(check_chain(b, &k, feature, said, tol) >= (kind & 8 ? 1 : 3),
                   "nothing known was worth it", kind, 0);
        }
        for (int h = 0; h < HEADS; h++) {
            const size_t rows = k.heads.sees_token ? (size_t)said->n[h] : 1;
            expect(memcmp(said->node[h], first.node[h], (size_t)said->n[h] * sizeof **said->node) ==
                           0 &&
                       memcmp(said->said[h], first.said[h], rows * sizeof **said->said) == 0,
                   "a kept draft differs (kind, run)", kind, i);
        }
    }
    expect(dev->ops->kept(dev) > kept, "no draft was kept", kind, kept);
    if (!(kind & 8))
        check_finished(b, &s, &(ftk_unfinished){.heads = &k.heads, .ask = &k.ask}, held,
                       first.said[0], 1);
    chain_close(&k);
    dev->ops->mem_free(dev, held);
    free(feature);
    ftk_kv_seq_close(&s);
}

enum { MAPS = 2 };

typedef struct {
    bench *b;
    const ftk_maps *maps;
    const int16_t *node; /* of every row that joins */
    int n;
} joining;

/* What maps make of nodes' states, one product after the other. */
static void map_states(void *ctx, const float *states, float *x)
{
    const joining *const j = ctx;
    ftk_device *const dev = j->b->device;
    const size_t d = (size_t)j->b->f.m->hp.n_embd;
    for (int i = 0; i < j->n; i++)
        dev->ops->multiply(dev, j->maps->of_state[i % MAPS], 1, states + (size_t)j->node[i] * d,
                           x + (size_t)i * d);
}

/* Rows that join a tree's pass are the same to the bit whether their states are made there or go
 * by the host. */
static void check_joined(bench *b, const ftk_maps *maps)
{
    enum { NODES_ = 3, JOIN = NODES_ * MAPS };
    static const int16_t node[JOIN] = {4, 4, 0, 0, NODES - 1, NODES - 1};
    const tree t = grow(b);
    joining j = {b, maps, node, JOIN};
    ftk_kv_seq s = seq_new(b);
    read_to(b, &s, 30, 30);
    must(ftk_kv_reserve(&s, NODES + JOIN), "reserve");
    const ftk_pass_seq p = {.kv = &s,
                            .n_rows = NODES,
                            .token = t.token,
                            .depth = t.depth,
                            .mask = (const uint64_t(*)[2])t.mask,
                            .spare = FTK_SPARE_STATES};
    ftk_pass_append a = {.n = JOIN, .layer = 1, .node = node, .states = map_states, .ctx = &j};
    ftk_forward_run_appending(&b->f, &p, &a);
    float *want = malloc((NODES + JOIN) * row_bytes(b));
    memcpy(want, b->f.logits, (NODES + JOIN) * row_bytes(b));
    a.maps = maps;
    const ftk_queue *const q = &((ftk_gpu *)(void *)b->device)->q;
    const int waits = q->waits;
    ftk_forward_run_appending(&b->f, &p, &a);
    expect(!ftk_cuda_emulated() || q->waits == waits + 1, "waits for rows that join", q->waits,
           waits);
    expect(memcmp(want, b->f.logits, (NODES + JOIN) * row_bytes(b)) == 0, "rows that join differ",
           NODES, JOIN);
    free(want);
    ftk_kv_seq_close(&s);
}

/* A draft by maps is what upper layers give over the same states made on the host: to the bit
 * without a token, roughly with one; kept or not. */
void check_maps(bench *b, double tol)
{
    enum { N = 9, ROW = 6 };
    ftk_device *const dev = b->device;
    const size_t d = (size_t)b->f.m->hp.n_embd, n_vocab = (size_t)b->f.m->hp.n_vocab;
    ftk_mat mat[2 * MAPS];
    ftk_weight items[2 * MAPS];
    const ftk_mat *all[2 * MAPS];
    for (int i = 0; i < 2 * MAPS; i++) {
        mat[i] = random_mat((int)d, (int)d, 71 + (uint32_t)i);
        items[i] = (ftk_weight){.n_out = (int)d, .n_in = (int)d, .matrix = all[i] = &mat[i]};
    }
    char why[400] = "";
    must(dev->ops->add_weights(
             dev, &(ftk_weights){.n = 2 * MAPS, .items = items, .head = &b->f.m->output}, why,
             sizeof why),
         why);
    must(ftk_forward_keep(&b->f, 0), "states");
    ftk_kv_seq s = seq_new(b);
    read_to(b, &s, 40, 40);
    int32_t tokens[N];
    for (int i = 0; i < N; i++) tokens[i] = token_at(b, 40 + i);
    must(ftk_kv_reserve(&s, N), "reserve");
    ftk_pass_seq p = {.kv = &s, .n_rows = N, .token = tokens};
    ftk_forward_run(&b->f, &p, 1);
    float *held = dev->ops->mem_alloc(dev, d * sizeof *held);
    dev->ops->hold(dev, FTK_HELD_STATE, ROW, held);
    float *h = malloc(d * sizeof *h), *e = malloc(d * sizeof *e), *z = malloc(MAPS * d * sizeof *z);
    float *y = malloc(d * sizeof *y);
    memcpy(h, b->f.states + ROW * d, d * sizeof *h);
    ftk_maps maps = {.n = MAPS, .of_state = all, .token = tokens[2]};
    ftk_ranked said[MAPS];
    ftk_heads_ask ask = {.n_known = 2,
                         .deepest = 1,
                         .least = 0.02f,
                         .known = {{maps.token, -1, 0, 1, 0}, {tokens[3], 0, 1, 0.8f, 1}}};
    for (int i = 0; i < MAPS * FTK_HEAD_BINS; i++) /* all choices are of the first bin */
        ask.rate[i / FTK_HEAD_BINS][i % FTK_HEAD_BINS] = 0.5f;
    as_said(&ask);
    for (int with = 0; with < 2; with++) {
        double sum = 0, of_state = 0;
        ftk_embed(b->f.m, maps.token, e);
        for (size_t i = 0; i < d; i++) {
            sum += (double)e[i] * e[i];
            of_state += (double)h[i] * h[i];
        }
        const double scale = sqrt(of_state / (sum + (double)d * (double)FTK_EMBED_EPS));
        for (size_t i = 0; i < d; i++) e[i] = (float)(e[i] * scale);
        for (size_t i = 0; i < MAPS; i++) {
            dev->ops->multiply(dev, all[i], 1, h, z + i * d);
            dev->ops->multiply(dev, all[MAPS + i], 1, e, y);
            for (size_t k = 0; k < d && with; k++) z[i * d + k] += y[k];
        }
        p = (ftk_pass_seq){.kv = &s, .n_rows = MAPS, .states = z};
        ftk_forward_run_above(&b->f, &p, 1, 1);
        float want[MAPS * MOST_VOCAB];
        memcpy(want, b->f.logits, MAPS * row_bytes(b));
        maps.of_token = with ? all + MAPS : NULL;
        int32_t same[MAPS] = {maps.token, maps.token};
        p = (ftk_pass_seq){.kv = &s, .n_rows = MAPS, .token = same};
        const int kept = dev->ops->kept(dev);
        for (int run = 0; run < 3; run++) {
            dev->ops->run_mapped(dev, &b->f, &p, 1, &maps, held);
            double top = 0, off = 0;
            for (size_t i = 0; i < MAPS * n_vocab; i++) {
                top = fmax(top, fabs((double)want[i]));
                off = fmax(off, fabs((double)want[i] - (double)b->f.logits[i]));
            }
            expect(off <= (with ? tol : 0) * top, "a draft by maps differs (token, run)", with,
                   run);
        }
        p.spare = FTK_SPARE_LOGITS | FTK_SPARE_FEATURES | FTK_SPARE_STATES;
        dev->ops->run_mapped(dev, &b->f, &p, 1, &maps, held);
        memcpy(said, b->f.ranked, sizeof said);
        check_finished(b, &s, &(ftk_unfinished){.maps = &maps, .layer = 1, .ask = &ask}, held, said,
                       MAPS);
        expect(with || dev->ops->kept(dev) > kept, "no draft was kept", kept, 0);
    }
    check_joined(b, &maps);
    b->f.keep = -1;
    for (int i = 0; i < 2 * MAPS; i++) free((void *)mat[i].file);
    dev->ops->mem_free(dev, held);
    void *const rows[] = {h, e, y, z};
    for (int i = 0; i < 4; i++) free(rows[i]);
    ftk_kv_seq_close(&s);
}
