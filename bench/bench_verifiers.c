/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-verifiers: how much each verifier accepts, and what judging costs. First on made-up
 * distributions, where drafts are drawn from a drafter's own; every verifier judges the same
 * drafts. Then, for every model file given, on a file of questions: with drafters whose tokens are
 * chosen, or, with --draft-model, with that model, whose tokens `reject` and `traversal` have
 * drawn. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "questions.h"
#include "run.h"
#include "testkit/statistics.h"
#include "verifiers/verifier.h"

enum { VOCAB = 256, NODES = 32, VERIFIERS = 4 };

static size_t n_samples = 4000;
static double temperature = 0.8;

/* ------------------------------------------------------------------ made-up distributions */

typedef struct shape {
    const char *name;
    int n, parent[NODES]; /* drafted nodes */
} shape;

/* Grows a tree whose every node at depth d has width[d] children; returns the number of nodes. */
static int full(const int *width, int depth, int *parent)
{
    int n = 0, from = 0, to = 1; /* of the level above; 0 is the root */
    for (int d = 0; d < depth; d++) {
        for (int i = from; i < to; i++)
            for (int c = 0; c < width[d]; c++) parent[n++] = i;
        from = to;
        to = n + 1;
    }
    return n;
}

typedef struct sample {
    ftk_tree drawn, chosen; /* the same shape, from the same q */
    float drawn_rows[(NODES + 1) * VOCAB], chosen_rows[(NODES + 1) * VOCAB];
    float q[2][NODES + 1][VOCAB];
    double overlap; /* of p and q at the root: sum of min(p, q) */
} sample;

/* Logits of the model, and weights of a drafter whose own logits agree with them so far. */
static void make_row(uint64_t seed, double agree, float *row, float *q)
{
    uint64_t r = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    const float mine = (float)agree, other = (float)sqrt(1 - agree * agree);
    for (int i = 0; i < VOCAB; i++) {
        row[i] = 2.5f * next_normal(&r);
        q[i] = expf((mine * row[i] + other * 2.5f * next_normal(&r)) / (float)temperature);
    }
}

static int32_t pick_child(const ftk_tree *t, int parent, const float *q, bool likeliest,
                          uint64_t *r)
{
    double sum = 0, so_far = 0;
    bool out[VOCAB] = {false};
    for (int i = ftk_tree_next(t, parent, 0); i > 0; i = ftk_tree_next(t, parent, i + 1))
        out[t->token[i]] = true;
    for (int i = 0; i < VOCAB; i++) sum += out[i] ? 0 : (double)q[i];
    const double u = sum * (next_random(r) / 2147483648.0);
    int32_t token = -1;
    for (int32_t i = 0; i < VOCAB; i++) {
        if (out[i]) continue;
        if (token < 0 || (likeliest ? q[i] > q[token] : so_far <= u)) token = i;
        so_far += (double)q[i];
    }
    return token;
}

static double overlap(const float *row, const float *q)
{
    double p_sum = 0, q_sum = 0, both = 0;
    for (int i = 0; i < VOCAB; i++) {
        p_sum += exp((double)row[i] / temperature);
        q_sum += (double)q[i];
    }
    for (int i = 0; i < VOCAB; i++)
        both += fmin(exp((double)row[i] / temperature) / p_sum, (double)q[i] / q_sum);
    return both;
}

static void make_sample(sample *s, const shape *sh, double agree, uint64_t seed)
{
    uint64_t r = seed ^ 0x5555;
    next_random(&r);
    ftk_tree_init(&s->drawn, 0);
    ftk_tree_init(&s->chosen, 0);
    for (int node = 0; node <= sh->n; node++) {
        /* What follows depends on the path: other tokens, other rows. */
        make_row(seed * 64 + (uint64_t)node, agree, s->drawn_rows + node * VOCAB, s->q[0][node]);
        memcpy(s->chosen_rows + node * VOCAB, s->drawn_rows + node * VOCAB, VOCAB * sizeof(float));
        memcpy(s->q[1][node], s->q[0][node], VOCAB * sizeof(float));
    }
    for (int i = 0; i < sh->n; i++) {
        const int parent = sh->parent[i];
        const float *const q = s->q[0][parent];
        ftk_tree_add_drawn(&s->drawn, parent, pick_child(&s->drawn, parent, q, false, &r), 0.5f, q);
        ftk_tree_add(&s->chosen, parent, pick_child(&s->chosen, parent, q, true, &r), 0.5f);
    }
    s->overlap = overlap(s->drawn_rows, s->q[0][0]);
}

static int judged(const ftk_verifier_ops *v, const ftk_tree *t, const float *rows, uint64_t seed)
{
    static float work[VOCAB];
    static int32_t order[VOCAB];
    static const int32_t text[] = {0};
    ftk_sampler s = {
        .cfg = {.temperature = (float)temperature, .top_p = 1, .repeat_penalty = 1, .seed = seed},
        .n_vocab = VOCAB,
        .logits = work,
        .order = order};
    ftk_verdict verdict;
    if (v->judge(t, rows, &s, text, 1, &verdict) != FTK_OK) run_die("a row is not finite");
    return verdict.n_path + 1;
}

static void print_mean(double sum, double squares, size_t n)
{
    const double mean = sum / (double)n;
    const double var = squares / (double)n - mean * mean;
    printf(" %.3f ± %.3f |", mean, n > 1 ? sqrt(fmax(var, 0) / (double)(n - 1)) : 0);
}

static void bench_shape(const shape *sh, double agree)
{
    static sample s;
    double sum[VERIFIERS + 1] = {0}, squares[VERIFIERS + 1] = {0}, both = 0;
    for (size_t k = 0; k < n_samples; k++) {
        make_sample(&s, sh, agree, k + 1);
        both += s.overlap;
        for (int i = 0; i <= VERIFIERS; i++) {
            const bool chosen = i == VERIFIERS;
            const double n =
                judged(ftk_verifier_list[chosen ? 0 : i], chosen ? &s.chosen : &s.drawn,
                       chosen ? s.chosen_rows : s.drawn_rows, k);
            sum[i] += n;
            squares[i] += n * n;
        }
    }
    printf("| %s | %d | %.2f |", sh->name, sh->n, both / (double)n_samples);
    for (int i = 0; i <= VERIFIERS; i++) print_mean(sum[i], squares[i], n_samples);
    printf("\n");
}

/* ", lossy" where it is. */
static void print_names(void)
{
    for (int i = 0; i < VERIFIERS; i++)
        printf(" %s%s |", ftk_verifier_list[i]->name,
               ftk_verifier_list[i]->lossless ? "" : " (LOSSY)");
}

static void bench_synthetic(void)
{
    static const struct {
        const char *name;
        int depth, width[4];
    } trees[] = {{"chain of 4", 4, {1, 1, 1, 1}},
                 {"4 on one level", 1, {4}},
                 {"2, 2, 1", 3, {2, 2, 1}},
                 {"4, 2, 1, 1", 4, {4, 2, 1, 1}}};
    static const double agree[] = {0.5, 0.8, 0.95};
    printf(
        "\nMade-up distributions over %d tokens, temperature %.1f, %zu drafts each: tokens a step, "
        "mean and standard error\n\n| tree, children by level | nodes | overlap of p and q |",
        VOCAB, temperature, n_samples);
    print_names();
    printf(" exact, likeliest of q instead |\n|---|---|---|---|---|---|---|---|\n");
    for (int t = 0; t < 4; t++)
        for (int a = 0; a < 3; a++) {
            shape sh = {.name = trees[t].name};
            sh.n = full(trees[t].width, trees[t].depth, sh.parent);
            bench_shape(&sh, agree[a]);
        }
    fflush(stdout);
}

/* ------------------------------------------------------------------ models */

typedef struct tally {
    double sum, squares, judge, forward, seconds;
    uint64_t steps, drafted, emitted;
} tally;

static void answer(ftk_engine *e, const char *drafter, const char *verifier, int budget,
                   const int32_t *prompt, size_t n_prompt, size_t n, uint64_t seed, tally *t)
{
    static run r;
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.verifier = verifier;
    cfg.budget = budget;
    cfg.ignore_end = true;
    cfg.sampling.temperature = (float)temperature;
    cfg.sampling.seed = seed;
    ftk_session *s;
    if (ftk_session_open(&s, e, &cfg) != FTK_OK || run_answer(s, prompt, n_prompt, n, &r) != FTK_OK)
        exit(RUN_FAILED);
    ftk_session_free(s);
    const double rate = (double)r.stats.emitted / (double)r.stats.steps;
    t->sum += rate;
    t->squares += rate * rate;
    t->seconds += r.seconds;
    t->emitted += r.stats.emitted;
    t->judge += r.stats.judge_seconds;
    t->forward += r.stats.forward_seconds;
    t->steps += r.stats.steps;
    t->drafted += r.stats.drafted;
}

static void bench_model(const char *path, const questions *q, size_t n, int threads, int budget,
                        size_t seeds)
{
    static const char *const chosen[] = {"jacobi", "lookup"}, *const drawn[] = {"draft-model"};
    const char *const *const drafters = run_draft_model() ? drawn : chosen;
    const int methods = VERIFIERS * (run_draft_model() ? 1 : 2);
    ftk_model *m = run_model(path);
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    /* An engine for each, as what a drafter learns stays with it; all in turn, question by
     * question. */
    ftk_engine *engines[2 * VERIFIERS];
    tally t[2 * VERIFIERS];
    memset(t, 0, sizeof t);
    for (int i = 0; i < methods; i++)
        engines[i] = run_engine(m, threads, 0, NULL, run_draft_model() ? path : NULL);
    for (size_t k = 0; k < q->n * seeds; k++) {
        static int32_t prompt[1536];
        const size_t n_prompt = run_prompt(m, q->at[k % q->n].turns[0], prompt, 1536);
        for (int i = 0; i < methods; i++)
            answer(engines[i], drafters[i / VERIFIERS], ftk_verifiers()[i % VERIFIERS], budget,
                   prompt, n_prompt, n, k, &t[i]);
    }
    char name[128];
    printf(
        "\n%s, vocabulary %d, kernels %s, %d threads, temperature %.1f, %zu questions, %zu seeds, "
        "%zu tokens each, end tokens ignored, at most %d drafted a step\n\n"
        "| drafter | verifier | lossless | tokens a step, mean and standard error | drafted a step "
        "| tokens/s | judging, us a step | judging, of the pass |\n"
        "|---|---|---|---|---|---|---|---|\n",
        run_shown(name, sizeof name, info.name), info.n_vocab, info.kernels,
        ftk_engine_threads(engines[0]), temperature, q->n, seeds, n, budget);
    for (int i = 0; i < methods; i++) {
        const ftk_verifier_ops *const v = ftk_verifier_list[i % VERIFIERS];
        printf("| %s | %s | %s |", drafters[i / VERIFIERS], v->name, v->lossless ? "yes" : "LOSSY");
        print_mean(t[i].sum, t[i].squares, q->n * seeds);
        printf(" %.1f | %.0f | %.1f | %.1f %% |\n", (double)t[i].drafted / (double)t[i].steps,
               (double)t[i].emitted / t[i].seconds, 1e6 * t[i].judge / (double)t[i].steps,
               100 * t[i].judge / t[i].forward);
        ftk_engine_free(engines[i]);
    }
    fflush(stdout);
    ftk_model_free(m);
}

static const char usage[] =
    "usage: bench-verifiers [--samples N] [--temp T] [--questions FILE [--limit N] [--tokens N] "
    "[--seeds N] [--threads N] [--budget N] [--kernels LEVEL] [--lora FILE]... "
    "[--draft-model FILE] [--drafter-file FILE]... [--drafter-layers L,L,L] MODEL...]";

int main(int argc, char **argv)
{
    const char *file = NULL;
    size_t limit = 0, n = 96, seeds = 1;
    int threads = 1, budget = 16, i = 1;
    run_help(argc, argv, usage);
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        const char *const o = argv[i], *const value = argv[i + 1];
        if (strcmp(o, "--questions") == 0)
            file = value;
        else if (strcmp(o, "--limit") == 0)
            limit = (size_t)run_number(o, value, 0, 100000);
        else if (strcmp(o, "--tokens") == 0)
            n = (size_t)run_number(o, value, 1, RUN_MAX);
        else if (strcmp(o, "--seeds") == 0)
            seeds = (size_t)run_number(o, value, 1, 1000);
        else if (strcmp(o, "--threads") == 0)
            threads = (int)run_number(o, value, 0, 256);
        else if (strcmp(o, "--budget") == 0)
            budget = (int)run_number(o, value, 0, 127);
        else if (strcmp(o, "--samples") == 0)
            n_samples = (size_t)run_number(o, value, 0, 10000000);
        else if (strcmp(o, "--temp") == 0)
            temperature = run_real(o, value, 0.01, 100);
        else if (!run_take_option(o, value))
            run_refuse("%s is unknown: see bench-verifiers --help", o);
    }
    run_operands(argc, argv, i);
    if (i < argc && !file) run_refuse("%s", usage);
    run_files(argc, argv, i);
    if (n_samples > 0) bench_synthetic();
    if (i == argc) return 0;
    questions q;
    if (questions_read(&q, file, limit) != 0) return RUN_FAILED;
    for (; i < argc; i++) bench_model(argv[i], &q, n, threads, budget, seeds);
    questions_free(&q);
    return 0;
}
