/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-loop: what the loop itself costs. The always-right drafter at depth 15 shows the most that
 * speculation can give on this machine, the always-wrong one the most it can cost: a 16-row pass
 * for every token. Plain decoding alternates with both.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session.h"
#include "questions.h"
#include "run.h"
#include "testkit/test_drafters_ops.h"

enum { MAX_PROMPT = 512, TOKENS = 256, PROMPTS = 40 };

static void answer(ftk_engine *e, const ftk_drafter_ops *ops, int budget, void *truth,
                   const int32_t *prompt, size_t n_prompt, run *r)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.budget = budget;
    cfg.ignore_end = true;
    ftk_session *s;
    if (ftk_session_open_with(&s, e, &cfg, ops, truth) != FTK_OK ||
        run_answer(s, prompt, n_prompt, TOKENS, r) != FTK_OK)
        exit(RUN_FAILED);
    ftk_session_free(s);
}

static void print_ratio(const char *what, double *x, size_t n)
{
    const double median = run_quantile(x, n, 0.5);
    printf("%s: %.2f (10 %% %.2f, 90 %% %.2f, %zu prompts)\n", what, median,
           run_quantile(x, n, 0.1), run_quantile(x, n, 0.9), n);
}

static const char usage[] = "usage: bench-loop --questions FILE [--threads N] MODEL";

int main(int argc, char **argv)
{
    const char *file = NULL;
    int threads = 0, at = 1;
    run_help(argc, argv, usage);
    for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
        if (strcmp(argv[at], "--questions") == 0)
            file = argv[at + 1];
        else if (strcmp(argv[at], "--threads") == 0)
            threads = (int)run_number(argv[at], argv[at + 1], 0, 256);
        else
            run_refuse("%s is unknown: there are --questions and --threads", argv[at]);
    }
    run_operands(argc, argv, at);
    if (at + 1 != argc || !file) run_refuse("%s", usage);
    questions q;
    if (questions_read(&q, file, PROMPTS) != 0) return RUN_FAILED;
    ftk_model *m = run_model(argv[at]);
    ftk_engine *e = run_engine(m, threads, 0, NULL, NULL);
    double right[PROMPTS], wrong[PROMPTS], plain[PROMPTS];
    for (size_t i = 0; i < q.n; i++) {
        static run none, r;
        int32_t whole[MAX_PROMPT + TOKENS];
        const size_t n = run_prompt(m, q.at[i].turns[0], whole, MAX_PROMPT);
        answer(e, NULL, 0, NULL, whole, n, &none);
        memcpy(whole + n, none.tokens, none.n * sizeof *whole);
        ftk_test_reference truth = {whole, n + none.n};
        answer(e, &ftk_drafter_right, 15, &truth, whole, n, &r);
        right[i] = none.seconds / r.seconds;
        answer(e, &ftk_drafter_wrong, 15, &truth, whole, n, &r);
        wrong[i] = r.seconds / none.seconds;
        plain[i] = (double)none.n / none.seconds;
    }
    printf("threads %d\n", ftk_engine_threads(e));
    print_ratio("plain tokens/s", plain, q.n);
    print_ratio("always right, depth 15, speed-up", right, q.n);
    print_ratio("always wrong, 16 rows, slow-down", wrong, q.n);
    printf("cost model: 16 rows / 1 row = %.2f\n", ftk_engine_cost(e, 16) / ftk_engine_cost(e, 1));
    ftk_engine_free(e);
    ftk_model_free(m);
    questions_free(&q);
    return 0;
}
