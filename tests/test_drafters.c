/* SPDX-License-Identifier: Apache-2.0
 *
 * The drafters, run through the loop on made-up models: the shapes, the alignment of the draft
 * table, honest probabilities, odd sizes, and no memory taken after init.
 */
#include "support.h"

#include "base/sampler.h"
#include "counting.h"
#include "drafters/acceptance.h"
#include "drafters/confidence.h"
#include "engine/session.h"
#include "testkit/statistics.h"
#include "testkit/test_drafters_ops.h"
#include "verifiers/verifier.h"

enum { LONG = 3000, MOST_VOCAB = 4096 };

static float logits[FTK_MAX_NODES * MOST_VOCAB];
static int32_t truth[LONG + FTK_MAX_NODES];

/* ------------------------------------------------------------------ a loop without a model */

static counting blocks;
static const ftk_host host = {&blocks, count_alloc, count_free, count_log};

/* How a made-up model answers behind a wrong token: with the rank of the right answer. */
typedef enum denoiser {
    BLIND,   /* never right */
    PERFECT, /* always right */
    FAIR,    /* right at first rank for half of the places, second for a fifth; else wrong */
} denoiser;

/* The row of a node at text position `pos`: where its path is right, truth[pos + 1]. */
static void fill_row(float *row, int n_vocab, size_t pos, bool right, denoiser d, uint64_t *r)
{
    for (int i = 0; i < n_vocab; i++) row[i] = (float)(next_random(r) % 4096) / 4096;
    uint64_t place = pos * 7919 + 1; /* a place is easy or hard, whatever stands before it */
    next_random(&place);
    const uint32_t luck = next_random(&place) % 100;
    if (right || d == PERFECT || (d == FAIR && luck < 50))
        row[truth[pos + 1]] = 9;
    else if (d == FAIR && luck < 70)
        row[truth[pos + 1]] = 0.99999f; /* among the first */
}

static const ftk_verifier_ops *verifier = &ftk_verifier_exact;
/* Of the drafter that is open. */
static ftk_retrieval retrieval;
static ftk_successors successors;

/* As the engine does it before each draft. */
static void propose(const ftk_drafter_ops *ops, void *drafter, const int32_t *text, size_t n,
                    int budget, ftk_tree *t)
{
    ftk_tree_init(t, text[n - 1]);
    ftk_retrieval_ask(&retrieval, text, n);
    ops->propose(drafter, text, n, budget, t);
}

typedef struct tally {
    size_t steps, accepted, drafted;
    double promised; /* sum of prob */
    int deepest;
    size_t forks; /* nodes that do not hang on the one before */
} tally;

/* Decodes truth[1..n) from truth[0..start); checks every step. The tree is cut where nodes are
 * worth less than `floor`. */
static tally decode(const ftk_drafter_ops *ops, void *drafter, int n_vocab, size_t start, size_t n,
                    int budget, float floor, denoiser d)
{
    static ftk_tree t;
    static int32_t text[LONG + FTK_MAX_NODES];
    static float work[MOST_VOCAB];
    ftk_sampler s = {.cfg = {.top_p = 1, .repeat_penalty = 1}, .n_vocab = n_vocab, .logits = work};
    tally sum = {0};
    uint64_t r = 1;
    memcpy(text, truth, start * sizeof *text);
    for (size_t at = start; at < n;) {
        propose(ops, drafter, text, at, budget, &t);
        assert_in_range(t.n, 1, budget + 1);
        int keep = 1;
        while (keep < t.n && t.prob[keep] >= floor) keep++;
        ftk_tree_cut(&t, keep);
        for (int i = 0; i < t.n; i++) {
            assert_in_range(t.token[i], 0, n_vocab - 1);
            assert_true(t.prob[i] >= 0 && t.prob[i] <= 1);
            if (i > 0) assert_int_equal(ftk_tree_child(&t, t.parent[i], t.token[i]), i);
            bool right = true;
            for (int j = i; j > 0; j = t.parent[j])
                right &= t.token[j] == truth[at - 1 + (size_t)t.depth[j]];
            fill_row(logits + i * n_vocab, n_vocab, at - 1 + (size_t)t.depth[i], right, d, &r);
            if (i > 0) sum.promised += (double)t.prob[i];
            if (i > 0) sum.forks += t.parent[i] != i - 1;
        }
        ftk_verdict v;
        assert_int_equal(verifier->judge(&t, logits, &s, text, at, &v), FTK_OK);
        const ftk_rows rows = {.logits = logits};
        ftk_retrieval_settle(&retrieval, at, v.token, (size_t)v.n_path + 1);
        ftk_successors_settle(&successors, t.token[0], v.token, (size_t)v.n_path + 1);
        if (ops->wants & FTK_WANT_SUCCESSORS) ftk_successors_read(&successors, &t, &v, &rows, true);
        if (t.n > 1) ops->learn(drafter, text, at, &t, &v, &rows);
        sum.steps++;
        sum.accepted += (size_t)v.n_path;
        sum.drafted += (size_t)t.n - 1;
        if (v.n_path > sum.deepest) sum.deepest = v.n_path;
        for (int i = 0; i <= v.n_path && at < n; i++, at++) {
            text[at] = v.token[i];
            assert_int_equal(text[at], truth[at]);
        }
    }
    return sum;
}

/* What the open drafter learns; all sessions of an engine have the same. */
static double learned[4096];

static void *fresh_rates(const ftk_drafter_ops *ops)
{
    assert_true(ops->rates_size <= sizeof learned);
    memset(learned, 0, sizeof learned);
    if (ops->rates_init) ops->rates_init(learned);
    return learned;
}

static void *open_drafter(const ftk_drafter_ops *ops, int n_vocab, ftk_tree_shape shape)
{
    static ftk_test_reference reference = {truth, LONG};
    const ftk_drafter_env env = {
        .host = &host,
        .n_vocab = n_vocab,
        .shape = shape,
        .test = ftk_drafter_index(ops->name, strlen(ops->name)) < 0 ? &reference : NULL,
        .retrieval = &retrieval,
        .successors = &successors,
        .rates = fresh_rates(ops)};
    void *const s = calloc(1, ops->state_size);
    blocks.live = 0; /* a test that failed before left some */
    static ftk_retrieval_rates of_retrieval;
    static ftk_successor_rates of_successors;
    ftk_retrieval_rates_init(&of_retrieval);
    ftk_successor_rates_init(&of_successors);
    assert_int_equal(ftk_retrieval_init(&retrieval, &host, LONG + FTK_MAX_NODES, &of_retrieval),
                     FTK_OK);
    assert_int_equal(ftk_successors_init(&successors, &host, n_vocab, &of_successors), FTK_OK);
    successors.least = 0.02f;
    assert_int_equal(ops->init(s, &env), FTK_OK);
    return s;
}

static void close_drafter(const ftk_drafter_ops *ops, void *s)
{
    ops->free(s, &host);
    ftk_retrieval_free(&retrieval, &host);
    ftk_successors_free(&successors, &host);
    free(s);
    assert_int_equal(blocks.live, 0);
}

static tally run(const ftk_drafter_ops *ops, int n_vocab, ftk_tree_shape shape, size_t n,
                 int budget, float floor, denoiser d)
{
    void *const s = open_drafter(ops, n_vocab, shape);
    const long before = blocks.calls;
    const tally sum = decode(ops, s, n_vocab, 1, n, budget, floor, d);
    assert_int_equal(blocks.calls, before);
    close_drafter(ops, s);
    printf("%s, %s, denoiser %d: %.2f tokens a step, %.1f drafted, promised %.2f accepted %.2f\n",
           ops->name, (const char *const[]){"fitted", "paper", "chain"}[shape], d,
           1 + (double)sum.accepted / (double)sum.steps, (double)sum.drafted / (double)sum.steps,
           sum.promised / (double)sum.steps, (double)sum.accepted / (double)sum.steps);
    return sum;
}

static double per_step(tally t)
{
    return 1 + (double)t.accepted / (double)t.steps;
}

/* copies: of 16 places, how many start a copy of an earlier piece */
static void make_truth(int n_vocab, unsigned copies, uint64_t seed)
{
    for (int i = 0; i < LONG + FTK_MAX_NODES; i++) {
        truth[i] = (int32_t)(next_random(&seed) % (unsigned)n_vocab);
        if (i < 50 || next_random(&seed) % 64 >= copies) continue;
        const int from = (int)(next_random(&seed) % (unsigned)(i - 30));
        for (int j = 0; j < 20 && i + 1 < LONG; j++) truth[i++] = truth[from + j];
        truth[i] = (int32_t)(next_random(&seed) % (unsigned)n_vocab);
    }
}

/* ------------------------------------------------------------------ the paper's shape */

static void set_row(int node, int n_vocab, int32_t first)
{
    for (int c = 0; c < 10; c++) logits[node * n_vocab + first + c] = (float)(20 - c);
}

static void test_template(void **state)
{
    (void)state;
    enum { VOCAB = 200 };
    static ftk_tree t;
    void *const s = open_drafter(&ftk_drafter_jacobi, VOCAB, FTK_TREE_PAPER);
    const int32_t text[] = {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 9};
    propose(&ftk_drafter_jacobi, s, text, 11, 127, &t);
    const int32_t retrieved[] = {4, 5, 6, 7, 8};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(t.token[i + 1], retrieved[i]);
        assert_int_equal(t.parent[i + 1], i);
    }
    /* Nothing is accepted; the five rows of the retrieved chain make the next table. */
    memset(logits, 0, sizeof logits);
    for (int i = 0; i < t.n; i++) set_row(i, VOCAB, i >= 1 && i <= 5 ? 100 + 10 * (i - 1) : 50);
    const ftk_verdict v = {.n_path = 0, .path = {0}, .token = {9}};
    ftk_drafter_jacobi.learn(s, text, 11, &t, &v, &(ftk_rows){.logits = logits});
    propose(&ftk_drafter_jacobi, s, text, 12, 127, &t);

    /* 9 never occurred: the retrieved chain is the start of the text. No token appears twice. */
    assert_int_equal(t.n, 69);
    int at_depth[8] = {0}, children[FTK_MAX_NODES] = {0}, leaves[8] = {0};
    for (int i = 1; i < t.n; i++) {
        at_depth[t.depth[i]]++;
        children[t.parent[i]]++;
        if (t.token[i] < 100)
            assert_int_equal(t.token[i], text[t.depth[i] - 1]);
        else
            assert_int_equal((t.token[i] - 100) / 10, t.depth[i] - 1);
    }
    const int want_depth[] = {0, 11, 29, 24, 3, 1, 0};
    for (int d = 0; d < 7; d++) assert_int_equal(at_depth[d], want_depth[d]);
    for (int i = 0; i < t.n; i++)
        if (children[i] == 0) leaves[t.depth[i] + 1]++; /* nodes of the path, root included */
    const int want_leaves[] = {0, 0, 0, 18, 22, 2, 1};
    for (int n = 0; n < 7; n++) assert_int_equal(leaves[n], want_leaves[n]);
    /* Children by prefix; they are always the first columns. */
    const char *const want[] = {
        "10",   "0 10", "00 10", "1 7",  "2 3",  "01 3", "02 2", "10 2", "3 2",  "000 2",
        "4 1",  "5 1",  "6 1",   "7 1",  "8 1",  "9 1",  "03 1", "04 1", "05 1", "06 1",
        "07 1", "20 1", "08 0",  "09 0", "11 0", "16 0", "21 0", "30 0", "31 0", "0000 0",
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const char *const space = strchr(want[i], ' ');
        const int d = space ? (int)(space - want[i]) : 0;
        int node = 0;
        for (int j = 0; j < d; j++) {
            node = ftk_tree_child(&t, node, 100 + 10 * j + want[i][j] - '0');
            assert_true(node > 0);
        }
        const int n = atoi(space ? space : want[i]);
        assert_int_equal(children[node], n + !space); /* the root has a retrieved one, too */
        for (int c = 0; c < n; c++) assert_true(ftk_tree_child(&t, node, 100 + 10 * d + c) > 0);
    }
    close_drafter(&ftk_drafter_jacobi, s);
}

/* ------------------------------------------------------------------ jacobi */

/* A path that ends at a leaf denoises nothing: then the fitted shape keeps the rows that were
 * drafted for later places, and the paper's falls back to noise. */
static void test_leaf(void **state)
{
    (void)state;
    enum { VOCAB = 250 };
    static ftk_tree t;
    const int32_t text[] = {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 240, 241, 242};
    for (int shape = 0; shape < 2; shape++) {
        void *const s = open_drafter(&ftk_drafter_jacobi, VOCAB, shape);
        propose(&ftk_drafter_jacobi, s, text, 11, 127, &t);
        memset(logits, 0, sizeof logits);
        for (int i = 1, node = 0; i <= 5; i++) {
            node = ftk_tree_child(&t, node, text[2 + i]); /* the retrieved chain */
            set_row(node, VOCAB, 100 + 10 * (i - 1));
        }
        ftk_tree_cut(&t, 40);
        ftk_drafter_jacobi.learn(s, text, 11, &t, &(ftk_verdict){.token = {240}},
                                 &(ftk_rows){.logits = logits});
        propose(&ftk_drafter_jacobi, s, text, 12, 127, &t);
        assert_true(ftk_tree_child(&t, ftk_tree_child(&t, 0, 100), 110) > 0);
        ftk_tree_init(&t, 240);
        assert_int_equal(ftk_tree_add(&t, 0, 241, 0.5f), 1); /* a leaf that is accepted */
        ftk_drafter_jacobi.learn(s, text, 12, &t,
                                 &(ftk_verdict){.n_path = 1, .path = {0, 1}, .token = {241, 242}},
                                 &(ftk_rows){.logits = logits});
        propose(&ftk_drafter_jacobi, s, text, 14, 127, &t);
        int kept = 0;
        for (int i = 1; i < t.n; i++) kept += t.token[i] >= 100 && t.token[i] < 150;
        const int node = ftk_tree_child(&t, ftk_tree_child(&t, 0, 120), 130);
        assert_true(shape == FTK_TREE_FITTED ? node > 0 : kept == 0);
        close_drafter(&ftk_drafter_jacobi, s);
    }
}

static void test_alignment(void **state)
{
    (void)state;
    make_truth(500, 0, 3); /* nothing to retrieve */
    for (int shape = 0; shape < 2; shape++) {
        /* A step that denoises 4 or 5 rows, then one that accepts them, then again. */
        assert_true(per_step(run(&ftk_drafter_jacobi, 500, shape, 2000, 127, 0, PERFECT)) > 3);
        const double fair = per_step(run(&ftk_drafter_jacobi, 500, shape, 2000, 127, 0, FAIR));
        assert_true(fair > 1.8 && fair < 3.3);
        /* Only noise, which is right now and then. */
        assert_true(per_step(run(&ftk_drafter_jacobi, 500, shape, 2000, 127, 0, BLIND)) < 1.15);
    }
}

/* Cut where nodes stop paying, the tree must still denoise, and give up where that fails. */
static void test_cut(void **state)
{
    (void)state;
    make_truth(500, 0, 3);
    const tally perfect = run(&ftk_drafter_jacobi, 500, FTK_TREE_FITTED, 2500, 127, 0.05f, PERFECT);
    assert_true(per_step(perfect) > 3 && perfect.drafted < 14 * perfect.steps);
    const tally fair = run(&ftk_drafter_jacobi, 500, FTK_TREE_FITTED, 2500, 127, 0.05f, FAIR);
    assert_true(per_step(fair) > 1.7 && fair.drafted < 20 * fair.steps);
    const tally blind = run(&ftk_drafter_jacobi, 500, FTK_TREE_FITTED, 2500, 127, 0.05f, BLIND);
    assert_true(blind.drafted < 2 * blind.steps);
}

static void test_chain(void **state)
{
    (void)state;
    static const ftk_drafter_ops *const both[] = {&ftk_drafter_jacobi, &ftk_drafter_lookup};
    make_truth(500, 6, 5);
    for (int k = 0; k < 2; k++) {
        const tally tree = run(both[k], 500, FTK_TREE_FITTED, LONG, 60, 0, FAIR);
        const tally chain = run(both[k], 500, FTK_TREE_CHAIN, LONG, 60, 0, FAIR);
        assert_true(tree.forks > 0 && chain.forks == 0);
        assert_true(per_step(chain) > 1.5);
    }
}

static void test_retrieval(void **state)
{
    (void)state;
    make_truth(500, 6, 5);
    const tally paper = run(&ftk_drafter_jacobi, 500, FTK_TREE_PAPER, LONG, 127, 0, BLIND);
    const tally fitted = run(&ftk_drafter_jacobi, 500, FTK_TREE_FITTED, LONG, 127, 0, BLIND);
    const tally lookup = run(&ftk_drafter_lookup, 500, FTK_TREE_FITTED, LONG, 127, 0, BLIND);
    assert_true(per_step(paper) > 1.7);
    assert_true(per_step(fitted) > per_step(paper));
    assert_true(per_step(lookup) > per_step(paper));
    assert_true(fitted.deepest > 10 && lookup.deepest > 16);
    assert_true(paper.deepest <= 5);
}

/* What the trees promise in sum is what is accepted. */
static void check_honest(tally t, double low, double high)
{
    const double ratio = t.promised / (double)t.accepted;
    if (ratio < low || ratio > high) fail_msg("promised / accepted is %.2f", ratio);
}

static void test_honest(void **state)
{
    (void)state;
    make_truth(500, 6, 8);
    check_honest(run(&ftk_drafter_jacobi, 500, FTK_TREE_PAPER, LONG, 127, 0, FAIR), 0.8, 1.25);
    check_honest(run(&ftk_drafter_jacobi, 500, FTK_TREE_PAPER, LONG, 20, 0, FAIR), 0.8, 1.25);
    check_honest(run(&ftk_drafter_lookup, 500, FTK_TREE_FITTED, LONG, 127, 0, BLIND), 0.75, 1.3);
    check_honest(run(&ftk_drafter_lookup, 500, FTK_TREE_FITTED, LONG, 8, 0, BLIND), 0.75, 1.3);
    make_truth(3, 0, 8); /* short matches that mean nothing */
    check_honest(run(&ftk_drafter_lookup, 3, FTK_TREE_FITTED, LONG, 127, 0, BLIND), 0.75, 1.3);
    check_honest(run(&ftk_drafter_lookup, 3, FTK_TREE_FITTED, LONG, 127, 0.2f, BLIND), 0.75, 1.3);
}

/* While nothing is drafted, predictions are judged all the same: a text that starts to repeat is
 * noticed. */
static void test_notices(void **state)
{
    (void)state;
    static ftk_tree t;
    uint64_t r = 6;
    const ftk_drafter_ops *const both[] = {&ftk_drafter_jacobi, &ftk_drafter_lookup};
    for (int k = 0; k < 2; k++) {
        void *const s = open_drafter(both[k], 3, FTK_TREE_FITTED);
        for (int i = 0; i < LONG; i++)
            truth[i] = i < 1000 ? (int32_t)(next_random(&r) % 3) : truth[i - 12];
        float before = 0, after = 0;
        for (size_t n = 1; n < 1200; n++) {
            propose(both[k], s, truth, n, 127, &t);
            ftk_retrieval_settle(&retrieval, n, truth + n, 1);
            if (n > 900 && n < 1000 && t.n > 1) before += t.prob[1] / 99;
            if (n >= 1100 && t.n > 1) after += t.prob[1] / 100;
        }
        assert_true(before < 0.6f && after > 0.9f);
        close_drafter(both[k], s);
    }
}

/* ------------------------------------------------------------------ odd sizes, reset, memory */

static void test_odd_sizes(void **state)
{
    (void)state;
    const ftk_drafter_ops *const both[] = {&ftk_drafter_jacobi, &ftk_drafter_lookup};
    const int budgets[] = {0, 1, 2, 5, 67, 68, 127};
    for (int n_vocab = 1; n_vocab <= 16; n_vocab++)
        for (int shape = 0; shape < 2; shape++)
            for (int k = 0; k < 2; k++)
                for (int b = 0; b < 7; b++) {
                    make_truth(n_vocab, 3, (uint64_t)n_vocab);
                    void *const s = open_drafter(both[k], n_vocab, shape);
                    decode(both[k], s, n_vocab, 1, 120, budgets[b], 0, FAIR);
                    close_drafter(both[k], s);
                }
}

static void reset(const ftk_drafter_ops *ops, void *drafter, size_t n)
{
    ftk_retrieval_reset(&retrieval, truth, n);
    ops->reset(drafter, truth, n);
}

/* After reset() a drafter goes on as a fresh one would, save for what it measured; a second run
 * over the same text takes no more steps than the first. */
static void test_reset(void **state)
{
    (void)state;
    make_truth(300, 6, 9);
    const ftk_drafter_ops *const both[] = {&ftk_drafter_jacobi, &ftk_drafter_lookup};
    for (int k = 0; k < 2; k++) {
        void *const s = open_drafter(both[k], 300, FTK_TREE_FITTED);
        const tally a = decode(both[k], s, 300, 1, 1000, 127, 0, BLIND);
        const long before = blocks.calls;
        reset(both[k], s, 400);
        decode(both[k], s, 300, 400, 1000, 127, 0, BLIND);
        reset(both[k], s, 0);
        const tally b = decode(both[k], s, 300, 1, 1000, 127, 0, BLIND);
        assert_int_equal(blocks.calls, before);
        assert_true(b.steps <= a.steps + a.steps / 20);
        close_drafter(both[k], s);
    }
}

/* Text the drafter did not draft (a new turn of the user) may be appended between two steps. */
static void test_appended(void **state)
{
    (void)state;
    make_truth(500, 0, 4);
    void *const s = open_drafter(&ftk_drafter_jacobi, 500, FTK_TREE_FITTED);
    tally sum = {0};
    for (size_t at = 1; at + 200 < LONG; at += 200) {
        const tally t = decode(&ftk_drafter_jacobi, s, 500, at, at + 150, 127, 0, PERFECT);
        sum.steps += t.steps;
        sum.accepted += t.accepted;
    }
    assert_true(per_step(sum) > 3);
    close_drafter(&ftk_drafter_jacobi, s);
}

static ftk_err init_and_free(counting *c, void *with)
{
    const ftk_drafter_ops *const ops = with;
    const ftk_host h = counting_host(c);
    const ftk_drafter_env env = {.host = &h,
                                 .n_vocab = 100,
                                 .shape = FTK_TREE_FITTED,
                                 .rates = fresh_rates(ops)};
    void *const s = calloc(1, ops->state_size);
    const ftk_err err = ops->init(s, &env);
    ops->free(s, &h);
    free(s);
    return err;
}

static void test_no_memory(void **state)
{
    (void)state;
    for (int k = 0; ftk_drafter_list[k]; k++) {
        const ftk_drafter_ops *const ops = ftk_drafter_list[k];
        if (ops->check)
            continue; /* trained: needs a target and weights, as in test_s4c and test_dash */
        counting c = {0};
        fail_each(&c, ops->name, init_and_free, (void *)ops);
    }
}

/* Whoever is named can be had, and has one name. */
static void test_list(void **state)
{
    (void)state;
    const char *const *const names = ftk_drafters();
    int n = 0, n_names = 0;
    for (; ftk_drafter_list[n]; n++) {
        const char *const name = ftk_drafter_list[n]->name;
        int found = 0;
        for (int i = 0; names[i]; i++) found += strcmp(names[i], name) == 0;
        assert_int_equal(found, 1);
        assert_int_equal(ftk_drafter_index(name, strlen(name)), n);
    }
    while (names[n_names]) n_names++;
    assert_int_equal(n_names, n + 2); /* auto and none */
    assert_int_equal(ftk_drafter_index("auto", 4), -1);
}

/* ------------------------------------------------------------------ the tests' own drafters */

static void test_right_and_wrong(void **state)
{
    (void)state;
    make_truth(50, 0, 2);
    const int budgets[] = {0, 1, 7, 127};
    for (int b = 0; b < 4; b++) {
        const size_t n = 1 + 10 * (size_t)(budgets[b] + 1);
        const tally right = run(&ftk_drafter_right, 50, FTK_TREE_FITTED, n, budgets[b], 0, BLIND);
        assert_int_equal(right.steps, 10);
        const tally wrong =
            run(&ftk_drafter_wrong, 50, FTK_TREE_FITTED, 100, budgets[b], 0, PERFECT);
        assert_int_equal(wrong.accepted, 0);
        assert_int_equal(wrong.drafted, 99 * budgets[b]);
    }
}

/* ------------------------------------------------------------------ verifiers */

/* decode() compares every token; greedy, all verifiers say the same in as many steps. */
static void test_verifiers(void **state)
{
    (void)state;
    static const ftk_drafter_ops *const ops[] = {&ftk_drafter_jacobi, &ftk_drafter_lookup,
                                                 &ftk_drafter_right, &ftk_drafter_draws};
    make_truth(300, 12, 5);
    for (int d = 0; d < 4; d++) {
        size_t steps = 0;
        for (int i = 0; ftk_verifier_list[i]; i++) {
            verifier = ftk_verifier_list[i];
            const tally t = run(ops[d], 300, FTK_TREE_FITTED, 500, 24, 0, FAIR);
            assert_true(t.accepted > 0 && (i == 0 || t.steps == steps));
            steps = t.steps;
        }
    }
    verifier = &ftk_verifier_exact;
}

/* ------------------------------------------------------------------ acceptance */

static void test_rates(void **state)
{
    (void)state;
    ftk_rate r;
    ftk_rate_init(&r, 0.3f);
    assert_true(fabsf(ftk_rate_get(&r) - 0.3f) < 1e-6f);
    uint64_t seed = 1;
    for (int i = 0; i < 2000; i++) ftk_rate_see(&r, next_random(&seed) % 4 == 0);
    assert_true(fabsf(ftk_rate_get(&r) - 0.25f) < 0.15f);
    for (int i = 0; i < 300; i++) ftk_rate_see(&r, true);
    assert_true(ftk_rate_get(&r) > 0.9f && ftk_rate_get(&r) < 1);
    for (int i = 0; i < 20000; i++) ftk_rates_fade(&r, 1); /* back to the prior in the end */
    assert_true(fabsf(ftk_rate_get(&r) - 0.3f) < 0.01f);
    const int lengths[] = {1, 2, 3, 4, 5, 8, 9, 16, 17, 1000},
              classes[] = {0, 1, 2, 2, 3, 3, 4, 4, 5, 5};
    for (int i = 0; i < 10; i++) assert_int_equal(ftk_match_class(lengths[i]), classes[i]);
}

/* Rows that are right in a quarter of the places pay where they know in which ones. */
static void test_confidence(void **state)
{
    (void)state;
    enum { SURE = 0, UNSURE = 4 };
    ftk_confidence c;
    ftk_rate right[FTK_LIKELY_BINS];
    ftk_confidence_init(&c);
    double share = 0;
    for (int i = 0; i < FTK_LIKELY_BINS; i++) share += ftk_rate_get(&c.share[i]);
    assert_true(fabs(share - 1) < 1e-6);
    for (int i = 0; i < FTK_LIKELY_BINS; i++) ftk_rate_init(&right[i], 0.5f);
    for (int i = 0; i < 2000; i++) {
        const int bin = i % 5 == 0 ? SURE : UNSURE;
        ftk_confidence_see(&c, bin);
        ftk_rate_see(&right[bin], bin == SURE ? i % 10 != 5 || i % 100 == 5 : i % 10 == 1);
    }
    const double mean = ftk_confidence_right(&c, right), token = 2;
    assert_true(mean > 0.18 && mean < 0.32);
    const double saves = ftk_confidence_saves(&c, right, 1, token, 0.8);
    assert_true(mean * token < 0.8 && saves > 0.01 && saves < 0.2 * (token - 0.8));
    assert_true(ftk_confidence_saves(&c, right, 0.5, token, 0.8) < saves);
    assert_true(ftk_confidence_saves(&c, right, 1, token, 2.1) == 0);
    assert_true(ftk_confidence_saves(&c, right, 0, INFINITY, 0.8) == 0);
    assert_true(ftk_confidence_saves(&c, right, 0.1, INFINITY, 0.8) == INFINITY);
}

static void test_heap(void **state)
{
    (void)state;
    uint64_t r = 1;
    ftk_candidate items[64], c, last = {0};
    for (int round = 0; round < 500; round++) {
        ftk_heap h = {.cap = 64, .items = items};
        const int n = (int)(next_random(&r) % 80);
        for (int i = 0; i < n; i++) {
            c = (ftk_candidate){.value = (float)(next_random(&r) % 9), .parent = (int16_t)i};
            ftk_heap_push(&h, c);
        }
        int out = 0;
        for (; ftk_heap_pop(&h, &c); last = c, out++)
            assert_true(out == 0 || c.value < last.value ||
                        (c.value == last.value && c.parent > last.parent));
        assert_int_equal(out, n < 64 ? n : 64);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_template),  cmocka_unit_test(test_leaf),
        cmocka_unit_test(test_alignment), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_chain),     cmocka_unit_test(test_retrieval),
        cmocka_unit_test(test_honest),    cmocka_unit_test(test_notices),
        cmocka_unit_test(test_odd_sizes), cmocka_unit_test(test_reset),
        cmocka_unit_test(test_appended),  cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_list),      cmocka_unit_test(test_right_and_wrong),
        cmocka_unit_test(test_verifiers), cmocka_unit_test(test_rates),
        cmocka_unit_test(test_confidence),
        cmocka_unit_test(test_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
