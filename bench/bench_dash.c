/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-dash: what dash-direct costs and gives. Windows of a text are read token by token by the
 * whole model, by the policy, and with layers skipped or in few bits that are the same for every
 * token, with and without compensation. All see the same tokens; per window they take turns, in
 * another order each. Prints a Markdown table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "dashparts.h"
#include "engine/session.h"
#include "run.h"

typedef struct {
    const char *label;
    dash_pattern pattern;
    unsigned without; /* FTK_DASH_ */
} variant;

static const variant variants[] = {
    {"the whole model", DASH_ALL_FULL, 0},
    {"policy", DASH_POLICY, 0},
    {"policy, no compensation", DASH_POLICY, FTK_DASH_NO_SCALE},
    {"every 4th layer skipped", DASH_EVERY_4TH, 0},
    {"every 4th, no compensation", DASH_EVERY_4TH, FTK_DASH_NO_SCALE},
    {"every 3rd layer skipped", DASH_EVERY_3RD, 0},
    {"every 3rd, no compensation", DASH_EVERY_3RD, FTK_DASH_NO_SCALE},
    {"every 2nd layer skipped", DASH_EVERY_2ND, 0},
    {"every 2nd, no compensation", DASH_EVERY_2ND, FTK_DASH_NO_SCALE},
    {"all layers in few bits", DASH_ALL_PARTIAL, 0},
};

enum { N = sizeof variants / sizeof variants[0], WINDOW = 256, MOST_WINDOWS = 256 };

typedef struct tally {
    uint64_t taken[FTK_ACTIONS];
    double nats, seconds;
    size_t n, agrees;
    double ratio[MOST_WINDOWS]; /* the whole model's seconds / its own */
} tally;

/* Reads a window; best[i] is the likeliest token behind text[i]. Returns seconds. */
static double read_window(ftk_engine *e, const variant *v, const int32_t *text, int n, tally *t,
                          int32_t *best)
{
    static uint8_t actions[FTK_MAX_LAYERS];
    ftk_dash_parts parts = dash_parts_make(v->pattern, v->without, e->model->hp.n_layer, actions);
    parts.taken = t->taken;
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    ftk_session *s;
    if (ftk_session_open_with(&s, e, &cfg, &ftk_drafter_dash_direct, &parts) != FTK_OK ||
        ftk_session_append(s, text, (size_t)n) != FTK_OK)
        exit(RUN_FAILED);
    double seconds = 0;
    for (int i = 0; i + 1 < n; i++) {
        const double start = ftk_now();
        if (ftk_kv_reserve(&s->kv, 1) != FTK_OK) exit(RUN_FAILED);
        s->family.ops->decode(s->family.state, s->tokens, (size_t)i + 1);
        ftk_kv_commit(&s->kv, &(int16_t){0}, 1);
        seconds += ftk_now() - start;
        const ftk_softmax of = ftk_softmax_of(e->forward.logits, e->model->hp.n_vocab);
        t->nats -= ftk_softmax_log(&of, e->forward.logits[text[i + 1]]);
        ftk_top_k(e->forward.logits, e->model->hp.n_vocab, 1, &best[i]);
    }
    t->n += (size_t)n - 1;
    ftk_session_free(s);
    return seconds;
}

static void measure(ftk_engine *e, const int32_t *text, int windows, tally *t)
{
    static int32_t best[N][WINDOW];
    for (int w = 0; w < windows; w++) {
        double seconds[N];
        int order[N];
        run_shuffle(order, N);
        for (int i = 0; i < N; i++) {
            const int v = order[i];
            seconds[v] = read_window(e, &variants[v], text + w * WINDOW, WINDOW, &t[v], best[v]);
        }
        for (int v = 0; v < N; v++) {
            t[v].seconds += seconds[v];
            t[v].ratio[w] = seconds[0] / seconds[v];
            for (int i = 0; i + 1 < WINDOW; i++) t[v].agrees += best[v][i] == best[0][i];
        }
    }
}

static void print(const variant *v, tally *t, int windows)
{
    const double layers = (double)(t->taken[0] + t->taken[1] + t->taken[2]) / 100;
    printf("| %s | %.1f %% | %.1f %% | %.1f %% | %.3f | %.1f %% | %.0f | %.2f (%.2f-%.2f) |\n",
           v->label, (double)t->taken[FTK_FULL] / layers, (double)t->taken[FTK_PARTIAL] / layers,
           (double)t->taken[FTK_SKIP] / layers, exp(t->nats / (double)t->n),
           100 * (double)t->agrees / (double)t->n, (double)t->n / t->seconds,
           run_quantile(t->ratio, (size_t)windows, 0.5),
           run_quantile(t->ratio, (size_t)windows, 0.25),
           run_quantile(t->ratio, (size_t)windows, 0.75));
}

static int32_t *read_text(const ftk_model *m, const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) run_die("%s cannot be read", path);
    const size_t most = (size_t)1 << 20;
    char *text = malloc(most);
    int32_t *tokens = malloc(most * sizeof *tokens);
    const size_t bytes = fread(text, 1, most, f);
    fclose(f);
    if (ftk_tokenize(m, text, bytes, 0, tokens, most, n) != FTK_OK) exit(RUN_FAILED);
    free(text);
    return tokens;
}

static const char usage[] = "usage: bench-dash --text FILE [--windows N] [--threads N] MODEL";

int main(int argc, char **argv)
{
    const char *file = NULL;
    int threads = 0, windows = 16, at = 1;
    run_help(argc, argv, usage);
    for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
        if (strcmp(argv[at], "--text") == 0)
            file = argv[at + 1];
        else if (strcmp(argv[at], "--windows") == 0)
            windows = (int)run_number(argv[at], argv[at + 1], 1, MOST_WINDOWS);
        else if (strcmp(argv[at], "--threads") == 0)
            threads = (int)run_number(argv[at], argv[at + 1], 1, 256);
        else
            run_refuse("%s is unknown: there are --text, --windows and --threads", argv[at]);
    }
    run_operands(argc, argv, at);
    if (at + 1 != argc || !file) run_refuse("%s", usage);
    ftk_model *m = run_model(argv[at]);
    ftk_engine *e = run_engine(m, threads, 0, NULL, argv[at]);
    if (!ftk_engine_has_drafter(e, "dash")) run_die("there is no DASH file beside %s", argv[at]);
    size_t n;
    int32_t *text = read_text(m, file, &n);
    if ((size_t)windows > n / WINDOW) windows = (int)(n / WINDOW);
    if (windows < 1) run_die("%s is too short: %d tokens are needed", file, WINDOW);
    static tally t[N];
    measure(e, text, windows, t);
    char shown[256];
    printf("\n%s, %d windows of %d tokens, %d threads; agrees: the likeliest token is the whole "
           "model's\n\n| | full | few bits | skipped | perplexity | agrees | tokens/s | speed-up a "
           "window, median (quartiles) |\n|---|---|---|---|---|---|---|---|\n",
           run_shown(shown, sizeof shown, argv[at]), windows, WINDOW, ftk_engine_threads(e));
    for (int v = 0; v < N; v++) /* without a copy in few bits, layers were run in full */
        if (e->low.layers || variants[v].pattern != DASH_ALL_PARTIAL)
            print(&variants[v], &t[v], windows);
    free(text);
    ftk_engine_free(e);
    ftk_model_free(m);
    return 0;
}
