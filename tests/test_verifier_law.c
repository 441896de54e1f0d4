/* SPDX-License-Identifier: Apache-2.0
 *
 * The law of what verifiers emit, by walking through every draft and every choice with its
 * probability: for all trees of up to 5 drafted nodes, chosen and drawn in every mixture, it has to
 * be that of plain sampling. Rules and drafters that are known to be wrong must fail.
 */
#include "support.h"

#include "base/residual.h"
#include "toymodel.h"
#include "verifiers/walk.h"

enum { MOST_NODES = 5, LAWS = 4096, PROMPT = 2 };

/* ------------------------------------------------------------------ all outcomes */

/* The choices of one run: those that are fixed, then the first of all later ones. */
typedef struct outcomes {
    int n, at;
    int choice[64], options[64];
    double prob; /* of this run */
} outcomes;

static int choose(outcomes *o, int options)
{
    if (o->at == o->n) {
        assert_true(o->n < 64);
        o->options[o->n] = options;
        o->choice[o->n++] = 0;
    }
    return o->choice[o->at++];
}

static bool walk_accept(void *ctx, double p)
{
    outcomes *const o = ctx;
    const bool yes = choose(o, 2) == 0;
    o->prob *= yes ? p : 1 - p;
    return yes;
}

static int32_t walk_draw(void *ctx, const ftk_residual *r)
{
    outcomes *const o = ctx;
    const int32_t token = choose(o, r->n);
    o->prob *= ftk_residual_share(r, token);
    return token;
}

/* False after the last run. */
static bool next_run(outcomes *o)
{
    while (o->n > 0 && ++o->choice[o->n - 1] == o->options[o->n - 1]) o->n--;
    o->at = 0;
    o->prob = 1;
    return o->n > 0;
}

/* ------------------------------------------------------------------ laws */

/* Probabilities of all texts of `length` tokens behind a prompt; first token: lowest digit. */
typedef struct law {
    double p[LAWS];
} law;

/* Adds plain sampling's ends to text[0..n), which comes with probability prob. */
static void add_plain(law *l, ftk_sampler *s, int32_t *text, size_t n, size_t length, double prob)
{
    const int n_vocab = s->n_vocab;
    if (n == PROMPT + length) {
        size_t at = 0;
        for (size_t i = n; i > PROMPT; i--) at = at * (size_t)n_vocab + (size_t)text[i - 1];
        l->p[at] += prob;
        return;
    }
    float row[TOY_MOST] = {0};
    double share[TOY_MOST], total;
    toy_row(n_vocab, text, n, row);
    assert_int_equal(ftk_sampler_weigh(s, row, text, n, NULL, 0, &total), FTK_OK);
    for (int i = 0; i < n_vocab; i++) share[i] = (double)s->logits[i] / total;
    for (int i = 0; i < n_vocab; i++) {
        text[n] = i;
        if (share[i] > 0) add_plain(l, s, text, n + 1, length, prob * share[i]);
    }
}

static double distance(const law *a, const law *b)
{
    double sum = 0;
    for (int i = 0; i < LAWS; i++) sum += fabs(a->p[i] - b->p[i]);
    return sum / 2;
}

/* ------------------------------------------------------------------ drafts */

typedef enum lie { HONEST, OTHER_Q, DROPS } lie;

typedef struct experiment {
    int n_vocab, nodes;
    int parent[MOST_NODES + 1];
    bool drawn[MOST_NODES + 1];
    uint64_t seed;
    lie lie;
    toy_judge judge;
    bool wrong; /* the bonus token may be a child's */
    ftk_sampler s;
    int32_t text[PROMPT + FTK_MAX_NODES];
    size_t length; /* of the texts compared: the depth and one more */
    law got;
    double prob_sum, tokens; /* of all runs; expected tokens of a step */
    ftk_tree t;
    int place[MOST_NODES + 1];        /* of the experiment's nodes in the tree; -1: dropped */
    float q[FTK_MAX_NODES][TOY_MOST]; /* of a node's children */
} experiment;

/* What the children of a node are drawn from depends on the path to it. */
static float *weights_below(experiment *x, int node)
{
    uint64_t r = x->seed;
    for (int i = node; i >= 0; i = x->t.parent[i]) r = r * 131 + (uint64_t)x->t.token[i];
    float *const q = x->q[node];
    for (int i = 0; i < x->n_vocab; i++) q[i] = 3 * expf(1.5f * next_normal(&r));
    return q;
}

static void judge_all(experiment *x, double prob)
{
    static float logits[FTK_MAX_NODES * TOY_MOST];
    outcomes o = {.prob = 1};
    const ftk_chance chance = {&o, walk_accept, walk_draw};
    toy_forward(x->n_vocab, &x->t, x->text, PROMPT, logits);
    do {
        ftk_verdict v;
        x->s.chance = &chance;
        assert_int_equal(x->judge(&x->t, logits, &x->s, x->text, PROMPT, &v), FTK_OK);
        x->s.chance = NULL;
        if (o.prob == 0) continue;
        if (!x->wrong && o.prob > 1e-15) toy_check(&x->t, &v); /* what rounding leaves is any */
        x->prob_sum += prob * o.prob;
        x->tokens += prob * o.prob * (v.n_path + 1);
        int32_t text[PROMPT + FTK_MAX_NODES];
        memcpy(text, x->text, PROMPT * sizeof *text);
        memcpy(text + PROMPT, v.token, ((size_t)v.n_path + 1) * sizeof *text);
        add_plain(&x->got, &x->s, text, PROMPT + (size_t)v.n_path + 1, x->length, prob * o.prob);
    } while (next_run(&o));
}

static void draft(experiment *x, int node, double prob);

static void draft_drawn(experiment *x, int node, double prob)
{
    const int parent = x->place[x->parent[node]];
    float *const q = weights_below(x, parent);
    double share[TOY_MOST], rest = 0;
    for (int i = 0; i < x->n_vocab; i++) {
        share[i] = ftk_tree_child(&x->t, parent, i) < 0 ? (double)q[i] : 0;
        rest += share[i];
    }
    if (x->lie == OTHER_Q)
        for (int i = 0; i < x->n_vocab; i++) q[i] = 1;
    for (int32_t i = 0; i < x->n_vocab; i++) {
        if (share[i] == 0) continue;
        const int n = x->t.n;
        x->place[node] = -1;
        if (x->lie != DROPS || i % 2)
            x->place[node] = ftk_tree_add_drawn(&x->t, parent, i, 0.5f, q);
        draft(x, node + 1, prob * share[i] / rest);
        ftk_tree_cut(&x->t, n);
    }
}

/* Adds the experiment's nodes from `node` on in every way, and judges every tree. */
static void draft(experiment *x, int node, double prob)
{
    if (node > x->nodes) {
        judge_all(x, prob);
    } else if (x->place[x->parent[node]] < 0) {
        x->place[node] = -1;
        draft(x, node + 1, prob);
    } else if (x->drawn[node]) {
        draft_drawn(x, node, prob);
    } else {
        /* Where a sibling has the token, the two become one. */
        const int32_t token = (int32_t)((x->seed + 7 * (uint64_t)node) % (uint64_t)x->n_vocab);
        const int n = x->t.n;
        x->place[node] = ftk_tree_add(&x->t, x->place[x->parent[node]], token, 0.5f);
        draft(x, node + 1, prob);
        ftk_tree_cut(&x->t, n);
    }
}

/* The distance of the law from plain sampling's. */
static double run(experiment *x)
{
    static law want;
    x->text[0] = 1;
    x->text[1] = (int32_t)(x->seed % (uint64_t)x->n_vocab);
    int depth[MOST_NODES + 1] = {0};
    x->length = 1;
    for (int i = 1; i <= x->nodes; i++) {
        depth[i] = depth[x->parent[i]] + 1;
        if ((size_t)depth[i] + 1 > x->length) x->length = (size_t)depth[i] + 1;
    }
    memset(&x->got, 0, sizeof x->got);
    memset(&want, 0, sizeof want);
    x->prob_sum = x->tokens = 0;
    ftk_tree_init(&x->t, x->text[1]);
    x->place[0] = 0;
    draft(x, 1, 1);
    assert_true(fabs(x->prob_sum - 1) < 1e-12);
    int32_t text[PROMPT + FTK_MAX_NODES];
    memcpy(text, x->text, PROMPT * sizeof *text);
    add_plain(&want, &x->s, text, PROMPT, x->length, 1);
    return distance(&x->got, &want);
}

/* ------------------------------------------------------------------ which trees */

/* All but one token, which depends on the text; beside that of a draft's path it is another. */
static void forbid_one(void *ctx, const int32_t *history, size_t n_history, const int32_t *path,
                       int n_path, uint32_t *allowed)
{
    const size_t n = n_history + (size_t)n_path;
    const int32_t last = n_path > 0 ? path[n_path - 1] : history[n_history - 1];
    const int n_vocab = *(const int *)ctx;
    allowed[0] = ~(1u << ((size_t)last + n) % (size_t)n_vocab);
}

static ftk_sampler settings(int n_vocab, int which)
{
    static const ftk_bias bias = {1, 0.7f};
    static const int32_t end = 0;
    static int mask_of;
    ftk_sampler s = toy_sampler(n_vocab, which % 3 == 1 ? 0.6f : 1);
    s.cfg.top_k = which % 4 == 1 ? 2 : 0;
    s.cfg.top_p = which % 5 == 2 ? 0.8f : 1;
    s.cfg.min_p = which % 5 == 3 ? 0.2f : 0;
    s.cfg.repeat_penalty = which % 2 ? 1.4f : 1;
    s.cfg.repeat_last = 1 + which % 3;
    s.cfg.presence_penalty = which % 4 == 2 ? 0.5f : 0;
    s.cfg.frequency_penalty = which % 4 == 2 ? 0.4f : 0;
    s.cfg.min_tokens = which % 5 == 4 ? 2 : 0;
    s.n_prompt = PROMPT;
    s.ends[0] = (ftk_ids){&end, 1};
    s.bias = &bias;
    s.n_bias = which % 7 == 3;
    mask_of = n_vocab;
    s.mask_ctx = &mask_of;
    if (which % 6 == 5) s.mask = forbid_one;
    return s;
}

/* The parents and kinds that a number stands for; false where a node would have more children than
 * there are tokens. */
static bool decode(experiment *x, int nodes, int code)
{
    int children[MOST_NODES + 1] = {0};
    x->nodes = nodes;
    for (int i = 1; i <= nodes; i++) {
        x->parent[i] = code % i;
        code /= i;
        x->drawn[i] = code % 2;
        code /= 2;
        if (++children[x->parent[i]] > x->n_vocab) return false;
    }
    return true;
}

static int codes(int nodes)
{
    int n = 1;
    for (int i = 1; i <= nodes; i++) n *= 2 * i;
    return n;
}

/* The largest distance over all trees; mean tokens of a step. */
static double worst(toy_judge judge, int n_vocab, int most_nodes, double *tokens)
{
    static experiment x;
    double far = 0;
    int n = 0;
    *tokens = 0;
    for (int nodes = 1; nodes <= most_nodes; nodes++)
        for (int code = 0; code < codes(nodes); code++) {
            x = (experiment){.n_vocab = n_vocab, .seed = 17 * (uint64_t)code + 3, .judge = judge};
            x.s = settings(n_vocab, code);
            if (!decode(&x, nodes, code)) continue;
            const double d = run(&x);
            if (d > far) far = d;
            *tokens += x.tokens;
            n++;
        }
    *tokens /= n;
    return far;
}

static void test_all_trees(void **state)
{
    (void)state;
    static const ftk_verifier_ops *const lossless[] = {&ftk_verifier_reject,
                                                       &ftk_verifier_traversal};
    double tokens[2];
    for (int v = 0; v < 2; v++) {
        double ignored;
        const double three = worst(lossless[v]->judge, 3, 5, &tokens[v]);
        const double four = worst(lossless[v]->judge, 4, 4, &ignored);
        const double five = worst(lossless[v]->judge, 5, 3, &ignored);
        printf("%s: at most %.1e, %.1e and %.1e from plain sampling with 3, 4 and 5 tokens; %.4f "
               "tokens a step\n",
               lossless[v]->name, three, four, five, tokens[v]);
        assert_true(three < 1e-12 && four < 1e-12 && five < 1e-12);
    }
    assert_true(tokens[1] > tokens[0]);
}

/* ------------------------------------------------------------------ what must fail */

/* As `reject`, but forgets: what was rejected is not taken from the distribution. */
static ftk_err judge_forgetful(const ftk_tree *tree, const float *logits, ftk_sampler *sampler,
                               const int32_t *history, size_t n, ftk_verdict *v)
{
    ftk_walk k = {tree, logits, sampler, history, n, .verdict = v};
    ftk_err err = ftk_walk_load(&k, 0);
    for (int child = 1; err == FTK_OK && child < tree->n;) {
        if (tree->parent[child] == k.node && ftk_walk_accept(&k, ftk_walk_ratio(&k, child)))
            err = ftk_walk_load(&k, child);
        child++;
    }
    return err == FTK_OK ? ftk_walk_down(&k, tree->n) : err;
}

/* Nearest of all trees with a drawn node at which a lie can show. */
static double nearest(toy_judge judge, lie how)
{
    static experiment x;
    double near = 1;
    for (int code = 0; code < codes(2); code++) {
        x = (experiment){.n_vocab = 4, .seed = 3 + (uint64_t)code, .judge = judge, .lie = how};
        x.wrong = judge == judge_forgetful;
        x.s = settings(4, 0);
        decode(&x, 2, code);
        if (!x.drawn[1]) continue;
        const double d = run(&x);
        if (d < near) near = d;
    }
    return near;
}

static void test_wrong_ones_fail(void **state)
{
    (void)state;
    const double forgetful = nearest(judge_forgetful, HONEST);
    printf("forgetful: at least %.3f from plain sampling\n", forgetful);
    assert_true(forgetful > 1e-3);
    for (int v = 1; v < 3; v++) {
        const double other = nearest(ftk_verifier_list[v]->judge, OTHER_Q);
        const double drops = nearest(ftk_verifier_list[v]->judge, DROPS);
        printf("%s: %.3f with another q, %.3f with tokens dropped\n", ftk_verifier_list[v]->name,
               other, drops);
        assert_true(other > 1e-3 && drops > 1e-3);
        assert_true(nearest(ftk_verifier_list[v]->judge, HONEST) < 1e-12);
    }
}

/* Typical acceptance is called lossy for a reason. It draws with plain sampling's numbers, which
 * outcomes do not replace: one chosen child that is likely enough is always taken. */
static void test_typical_is_lossy(void **state)
{
    (void)state;
    static ftk_tree t;
    const float logits[2][4] = {{logf(0.6f), logf(0.2f), logf(0.15f), logf(0.05f)}, {0}};
    const int32_t text[] = {0};
    for (int32_t token = 0; token < 4; token++) {
        ftk_tree_init(&t, 0);
        ftk_tree_add(&t, 0, token, 0.5f);
        ftk_sampler s = toy_sampler(4, 1);
        int taken = 0;
        for (s.cfg.seed = 0; s.cfg.seed < 400; s.cfg.seed++) {
            ftk_verdict v;
            assert_int_equal(ftk_verifier_typical.judge(&t, logits[0], &s, text, 1, &v), FTK_OK);
            toy_check(&t, &v);
            taken += v.n_path;
        }
        /* exp(-H) = 0.355: above 0.09 all are likely enough */
        if (token < 3)
            assert_int_equal(taken, 400);
        else
            assert_in_range(taken, 5, 45);
    }
}

/* ------------------------------------------------------------------ strengths */

/* Expected tokens of a step: a chain, a tree of two and one below each, one level of three. */
static void test_strength(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int nodes, parent[MOST_NODES + 1];
    } shape[] = {{"chain of 2", 2, {0, 0, 1}},
                 {"chain of 3", 3, {0, 0, 1, 2}},
                 {"2, then 1", 4, {0, 0, 0, 1, 2}},
                 {"3 on one level", 3, {0, 0, 0, 0}}};
    for (int i = 0; i < 4; i++) {
        double tokens[2] = {0};
        for (int v = 0; v < 2; v++)
            for (uint64_t seed = 0; seed < 12; seed++) {
                static experiment x;
                x = (experiment){.n_vocab = 4,
                                 .seed = seed,
                                 .nodes = shape[i].nodes,
                                 .judge = ftk_verifier_list[1 + v]->judge};
                x.s = toy_sampler(4, 1);
                memcpy(x.parent, shape[i].parent, sizeof x.parent);
                for (int j = 1; j <= x.nodes; j++) x.drawn[j] = true;
                assert_true(run(&x) < 1e-12);
                tokens[v] += x.tokens / 12;
            }
        printf("%s: reject %.4f, traversal %.4f tokens a step\n", shape[i].name, tokens[0],
               tokens[1]);
        assert_true(tokens[1] > tokens[0] - 1e-12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_trees),
        cmocka_unit_test(test_wrong_ones_fail),
        cmocka_unit_test(test_typical_is_lossy),
        cmocka_unit_test(test_strength),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
