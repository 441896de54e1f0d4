/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-drafters: drafters against plain decoding over a file of prompts (prompts.h), prompt by prompt
 * in turn, so that drift of the machine hits all alike. Prints a Markdown table. With --parts s4c it
 * shows what each part of S4C is worth instead: it looks below the public header for that.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drafters/s4c.h"
#include "engine/session.h"
#include "prompts.h"
#include "run.h"

typedef struct {
    const char *label, *drafter;
    ftk_engine *engine; /* its own: what a drafter learns stays with the engine */
    ftk_tree_shape shape;
    int budget;
    unsigned without; /* of S4C: FTK_S4C_ */
    double *ratio;    /* [n questions] plain seconds / its seconds */
    double seconds, draft, forward, judge;
    uint64_t emitted, steps, drafted, accepted_at[8];
    size_t same;
} method;

static bool ignore_end;    /* answers go on to the full number of tokens */
static const char *device; /* NULL: the CPU */

static void answer(method *m, const int32_t *prompt, size_t n_prompt, size_t n, run *r)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = m->drafter;
    cfg.shape = m->shape;
    cfg.budget = m->budget;
    cfg.ignore_end = ignore_end;
    ftk_session *s;
    const ftk_err err =
        m->without ? ftk_session_open_with(&s, m->engine, &cfg, &ftk_drafter_s4c, &m->without)
                   : ftk_session_open(&s, m->engine, &cfg);
    if (err != FTK_OK || run_answer(s, prompt, n_prompt, n, r) != FTK_OK) exit(1);
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

/* Methods of which all but the first are compared with it. */
static const method drafters[] = {
    {.label = "none", .drafter = "none", .budget = -1},
    {.label = "none, again", .drafter = "none", .budget = -1},
    {.label = "jacobi, fitted tree", .drafter = "jacobi", .budget = -1},
    {.label = "jacobi, 7 nodes", .drafter = "jacobi", .budget = 7},
    {.label = "lookup", .drafter = "lookup", .budget = -1},
    {.label = "s4c", .drafter = "s4c", .budget = -1},
    {.label = "auto", .drafter = "auto", .budget = -1},
    {.label = "jacobi, paper's 69 rows",
     .drafter = "jacobi",
     .shape = FTK_TREE_PAPER,
     .budget = -1},
};

static const method parts[] = {
    {.label = "none", .drafter = "none", .budget = -1},
    {.label = "none, again", .drafter = "none", .budget = -1},
    {.label = "s4c", .drafter = "s4c", .budget = -1},
    {.label = "s4c, not continuous",
     .drafter = "s4c",
     .budget = -1,
     .without = FTK_S4C_NOT_CONTINUOUS},
    {.label = "s4c, no retrieval", .drafter = "s4c", .budget = -1, .without = FTK_S4C_NO_RETRIEVAL},
    {.label = "s4c, heads alone",
     .drafter = "s4c",
     .budget = -1,
     .without = FTK_S4C_NO_RETRIEVAL | FTK_S4C_NOT_CONTINUOUS},
    {.label = "s4c, a chain", .drafter = "s4c", .budget = -1, .without = FTK_S4C_CHAIN},
    {.label = "s4c, a chain of heads alone",
     .drafter = "s4c",
     .budget = -1,
     .without = FTK_S4C_CHAIN | FTK_S4C_NO_RETRIEVAL | FTK_S4C_NOT_CONTINUOUS},
    {.label = "lookup", .drafter = "lookup", .budget = -1},
};

enum { MOST = 16 };

/* Those whose drafter this model has. */
static int open_methods(method *out, const method *from, int n, const ftk_model *m, int threads,
                        const char *path, size_t n_prompts)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        method *const one = &out[kept];
        *one = from[i];
        one->engine = run_engine(m, threads, device, path);
        if (strcmp(one->drafter, "s4c") == 0 && !ftk_engine_has_drafter(one->engine, "s4c")) {
            ftk_engine_free(one->engine);
            continue;
        }
        one->ratio = calloc(n_prompts, sizeof(double));
        kept++;
    }
    return kept;
}

typedef struct {
    const char *file;
    size_t limit, n; /* prompts, tokens of an answer */
    int threads;
    bool s4c_parts;
} options;

enum { MAX_PROMPT = 1536 };

static void bench_model(const char *path, const options *o)
{
    ftk_model *m = run_model(path);
    prompts p;
    prompts_read(&p, o->file, o->limit, MAX_PROMPT, m);
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    method methods[MOST];
    const int n_methods =
        o->s4c_parts
            ? open_methods(methods, parts, sizeof parts / sizeof *parts, m, o->threads, path, p.n)
            : open_methods(methods, drafters, sizeof drafters / sizeof *drafters, m, o->threads,
                           path, p.n);
    for (size_t i = 0; i < p.n; i++) {
        static run r[MOST];
        int order[MOST];
        shuffle(order, n_methods);
        for (int j = 0; j < n_methods; j++) {
            const int k = order[j];
            answer(&methods[k], p.at[i].tokens, p.at[i].n, o->n, &r[k]);
        }
        for (int k = 0; k < n_methods; k++) count(&methods[k], &r[k], &r[0], i);
    }
    printf("\n%s (%s), on %s, kernels %s, %d threads, %zu questions, at most %zu tokens%s, "
           "temperature 0; %.0f tokens an answer\n\n",
           info.name, strrchr(path, '/') ? strrchr(path, '/') + 1 : path,
           ftk_engine_device(methods[0].engine), info.kernels,
           ftk_engine_threads(methods[0].engine), p.n, o->n,
           ignore_end ? ", end tokens ignored" : "", (double)methods[0].emitted / (double)p.n);
    printf(
        "| drafter | tokens/step | tokens/s | speed-up, total time | speed-up a question, median "
        "(quartiles) | drafted/step | drafting, of the time | equal "
        "to none | accepted at depth "
        "1..6 |\n|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < n_methods; i++) {
        print(&methods[i], &methods[0], p.n);
        free(methods[i].ratio);
        ftk_engine_free(methods[i].engine);
    }
    fflush(stdout);
    prompts_free(&p);
    ftk_model_free(m);
}

int main(int argc, char **argv)
{
    options o = {.n = 256};
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--questions") == 0)
            o.file = argv[i + 1];
        else if (strcmp(argv[i], "--limit") == 0)
            o.limit = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--tokens") == 0)
            o.n = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--ends") == 0)
            ignore_end = strcmp(argv[i + 1], "ignore") == 0;
        else if (strcmp(argv[i], "--threads") == 0)
            o.threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--device") == 0)
            device = argv[i + 1];
        else if (strcmp(argv[i], "--parts") == 0 && strcmp(argv[i + 1], "s4c") == 0)
            o.s4c_parts = true;
        else
            run_die(
                "%s %s is unknown: there are --questions, --limit, --tokens, --ends, --threads, "
                "--device and --parts s4c",
                argv[i], argv[i + 1]);
    }
    if (i >= argc || !o.file || o.n < 1 || o.n > RUN_MAX)
        run_die("usage: bench-drafters --questions FILE [--limit N] [--tokens N] [--threads N] "
                "[--ends keep|ignore] [--device NAME] [--parts s4c] MODEL...");
    for (; i < argc; i++) bench_model(argv[i], &o);
    return 0;
}
