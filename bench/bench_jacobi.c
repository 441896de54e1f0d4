/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-jacobi: drafters against plain decoding over a file of questions, question by question in
 * turn, so that drift of the machine hits all alike. Prints a Markdown table.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "questions.h"
#include "run.h"

typedef struct {
    const char *label, *drafter;
    ftk_engine *engine; /* its own: what a drafter learns stays with the engine */
    ftk_tree_shape shape;
    int budget;
    double *ratio; /* [n questions] plain seconds / its seconds */
    double seconds, draft, forward, judge;
    uint64_t emitted, steps, drafted, accepted_at[8];
    size_t same;
} method;

static bool ignore_end; /* answers go on to the full number of tokens */

static void answer(const method *m, const int32_t *prompt, size_t n_prompt, size_t n, run *r)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = m->drafter;
    cfg.shape = m->shape;
    cfg.budget = m->budget;
    cfg.ignore_end = ignore_end;
    ftk_session *s;
    if (ftk_session_open(&s, m->engine, &cfg) != FTK_OK ||
        run_answer(s, prompt, n_prompt, n, r) != FTK_OK)
        exit(1);
    ftk_session_free(s);
}

static void count(method *m, const run *r, const run *plain, size_t i)
{
    m->ratio[i] = r->seconds > 0 ? plain->seconds / r->seconds : 1;
    m->seconds += r->seconds;
    m->draft += r->stats.draft_seconds;
    m->forward += r->stats.forward_seconds;
    m->judge += r->stats.judge_seconds;
    m->emitted += r->stats.emitted;
    m->steps += r->stats.steps;
    m->drafted += r->stats.drafted;
    m->same += r->n == plain->n && memcmp(r->tokens, plain->tokens, r->n * sizeof *r->tokens) == 0;
    for (int d = 0; d < 8; d++) m->accepted_at[d] += r->stats.accepted_at[d];
}

static void print(const method *m, const method *plain, size_t n)
{
    printf("| %s | %.2f | %.0f | %.2f | %.2f (%.2f-%.2f) | %.1f | "
           "%.0f %% | %zu/%zu |",
           m->label, (double)m->emitted / (double)m->steps, (double)m->emitted / m->seconds,
           plain->seconds / m->seconds, run_quantile(m->ratio, n, 0.5),
           run_quantile(m->ratio, n, 0.25), run_quantile(m->ratio, n, 0.75),
           (double)m->drafted / (double)m->steps, 100 * m->draft / m->seconds, m->same, n);
    for (int d = 0; d < 6; d++) printf(" %.2f", (double)m->accepted_at[d] / (double)m->steps);
    printf(" |\n");
}

/* Another order for each question: what ran before leaves its traces in the caches, for a fifth of
 * the time of a short answer. */
static void shuffle(int *order, int n)
{
    static uint32_t seed = 1;
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        const int j = (int)((seed >> 8) % (uint32_t)(i + 1));
        order[i] = order[j];
        order[j] = i;
    }
}

static void bench_model(const char *path, const questions *q, size_t n, int threads)
{
    ftk_model *m = run_model(path);
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    method methods[] = {
        {.label = "none", .drafter = "none", .budget = -1},
        {.label = "none, again", .drafter = "none", .budget = -1},
        {.label = "jacobi, fitted tree", .drafter = "jacobi", .budget = -1},
        {.label = "jacobi, 7 nodes", .drafter = "jacobi", .budget = 7},
        {.label = "lookup", .drafter = "lookup", .budget = -1},
        {.label = "auto", .drafter = "auto", .budget = -1},
        {.label = "jacobi, paper's 69 rows",
         .drafter = "jacobi",
         .shape = FTK_TREE_PAPER,
         .budget = -1},
    };
    enum { N = sizeof methods / sizeof methods[0] };
    for (int i = 0; i < N; i++) {
        methods[i].engine = run_engine(m, threads, path);
        methods[i].ratio = calloc(q->n, sizeof(double));
    }
    for (size_t i = 0; i < q->n; i++) {
        static int32_t prompt[1536];
        static run r[N];
        const size_t n_prompt = run_prompt(m, q->at[i].turns[0], prompt, 1536);
        int order[N];
        shuffle(order, N);
        for (int j = 0; j < N; j++) {
            const int k = order[j];
            answer(&methods[k], prompt, n_prompt, n, &r[k]);
        }
        for (int k = 0; k < N; k++) count(&methods[k], &r[k], &r[0], i);
    }
    printf("\n%s (%s), kernels %s, %d threads, %zu questions, at most %zu tokens%s, temperature 0; "
           "%.0f tokens an answer\n\n",
           info.name, strrchr(path, '/') ? strrchr(path, '/') + 1 : path, info.kernels,
           ftk_engine_threads(methods[0].engine), q->n, n, ignore_end ? ", end tokens ignored" : "",
           (double)methods[0].emitted / (double)q->n);
    printf(
        "| drafter | tokens/step | tokens/s | speed-up, total time | speed-up a question, median "
        "(quartiles) | drafted/step | drafting, of the time | equal "
        "to none | accepted at depth "
        "1..6 |\n|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < N; i++) {
        print(&methods[i], &methods[0], q->n);
        free(methods[i].ratio);
        ftk_engine_free(methods[i].engine);
    }
    fflush(stdout);
    ftk_model_free(m);
}

int main(int argc, char **argv)
{
    const char *file = NULL;
    size_t limit = 0, n = 256;
    int threads = 0, i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--questions") == 0)
            file = argv[i + 1];
        else if (strcmp(argv[i], "--limit") == 0)
            limit = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--tokens") == 0)
            n = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--ends") == 0)
            ignore_end = strcmp(argv[i + 1], "ignore") == 0;
        else if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(argv[i + 1]);
        else
            run_die("%s is unknown: there are --questions, --limit, --tokens, --ends and --threads",
                    argv[i]);
    }
    if (i >= argc || !file || n < 1 || n > RUN_MAX)
        run_die("usage: bench-jacobi --questions FILE [--limit N] [--tokens N] [--threads N] "
                "[--ends keep|ignore] MODEL...");
    questions q;
    if (questions_read(&q, file, limit) != 0) return 1;
    for (; i < argc; i++) bench_model(argv[i], &q, n, threads);
    questions_free(&q);
    return 0;
}
