/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-drafters: drafters against plain decoding over a file of prompts (prompts.h), prompt by prompt
 * in turn, so that drift of the machine hits all alike. Prints a Markdown table. With --parts s4c, firp or
 * dash it shows what each part of that family is worth instead: it looks below the public header for that.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dashparts.h"
#include "drafters/firp.h"
#include "drafters/s4c.h"
#include "engine/session.h"
#include "prompts.h"
#include "run.h"

typedef struct {
    const char *label, *drafter;
    ftk_engine *engine; /* its own: what a drafter learns stays with the engine */
    ftk_tree_shape shape;
    int budget;
    const ftk_drafter_ops *ops; /* with `how`: FTK_S4C_, FTK_FIRP_ */
    unsigned how;
    dash_variant dash; /* of DASH; its label NULL: whole */
    double *ratio;     /* [n questions] plain seconds / its seconds */
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
    static uint8_t actions[FTK_MAX_LAYERS];
    ftk_dash_parts dash = dash_parts_make(&m->dash, m->engine->model->hp.n_layer, actions);
    ftk_session *s;
    const ftk_err err = m->ops ? ftk_session_open_with(&s, m->engine, &cfg, m->ops, &m->how)
                        : m->dash.label
                            ? ftk_session_open_with(&s, m->engine, &cfg, &ftk_drafter_dash, &dash)
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
    {.label = "recycle", .drafter = "recycle", .budget = -1},
    {.label = "s4c", .drafter = "s4c", .budget = -1},
    {.label = "firp", .drafter = "firp", .budget = -1},
    {.label = "dash", .drafter = "dash", .budget = -1},
    {.label = "auto", .drafter = "auto", .budget = -1},
    {.label = "jacobi, paper's 69 rows",
     .drafter = "jacobi",
     .shape = FTK_TREE_PAPER,
     .budget = -1},
};

#define S4C(text, what)                                                                            \
    {                                                                                              \
        .label = text, .drafter = "s4c", .budget = -1, .ops = &ftk_drafter_s4c, .how = what        \
    }
#define FIRP_OF(text, what, nodes)                                                                 \
    {                                                                                              \
        .label = text, .drafter = "firp", .budget = nodes, .ops = &ftk_drafter_firp, .how = what   \
    }
#define FIRP(text, what) FIRP_OF(text, what, -1)

static const method s4c_parts[] = {
    {.label = "none", .drafter = "none", .budget = -1},
    {.label = "none, again", .drafter = "none", .budget = -1},
    S4C("s4c", 0),
    S4C("s4c, not continuous", FTK_S4C_NOT_CONTINUOUS),
    S4C("s4c, no retrieval", FTK_S4C_NO_RETRIEVAL),
    S4C("s4c, heads alone", FTK_S4C_NO_RETRIEVAL | FTK_S4C_NOT_CONTINUOUS),
    S4C("s4c, a chain", FTK_S4C_CHAIN),
    S4C("s4c, a chain of heads alone",
        FTK_S4C_CHAIN | FTK_S4C_NO_RETRIEVAL | FTK_S4C_NOT_CONTINUOUS),
    {.label = "lookup", .drafter = "lookup", .budget = -1},
};

static const method firp_parts[] = {
    {.label = "none", .drafter = "none", .budget = -1},
    {.label = "none, again", .drafter = "none", .budget = -1},
    FIRP("firp", 0),
    FIRP("firp, split", FTK_FIRP_NO_FUSED),
    FIRP("firp, fused", FTK_FIRP_NO_SPLIT),
    FIRP("firp, no retrieval", FTK_FIRP_NO_RETRIEVAL),
    FIRP("firp, split, no retrieval", FTK_FIRP_NO_FUSED | FTK_FIRP_NO_RETRIEVAL),
    FIRP("firp, fused, no retrieval", FTK_FIRP_NO_SPLIT | FTK_FIRP_NO_RETRIEVAL),
    FIRP_OF("firp, split, no retrieval, 8 nodes", FTK_FIRP_NO_FUSED | FTK_FIRP_NO_RETRIEVAL, 8),
    FIRP_OF("firp, fused for 4 nodes, no retrieval, 8 nodes",
            FTK_FIRP_NO_SPLIT | FTK_FIRP_FOUR_JOIN | FTK_FIRP_NO_RETRIEVAL, 8),
    {.label = "lookup", .drafter = "lookup", .budget = -1},
};

#define DASH(what, how, less)                                                                      \
    {                                                                                              \
        .label = what, .drafter = "dash", .budget = 6, .dash = {                                   \
            what,                                                                                  \
            how,                                                                                   \
            FTK_DASH_ALWAYS | FTK_DASH_NO_RETRIEVAL | (less)                                       \
        }                                                                                          \
    }

/* Those that are called alone have 6 nodes drafted at every step, whether that pays or not. */
static const method dash_parts[] = {
    {.label = "none", .drafter = "none", .budget = -1},
    {.label = "none, again", .drafter = "none", .budget = -1},
    {.label = "lookup", .drafter = "lookup", .budget = -1},
    {.label = "dash", .drafter = "dash", .budget = -1},
    {.label = "dash, no retrieval",
     .drafter = "dash",
     .budget = -1,
     .dash = {"", DASH_POLICY, FTK_DASH_NO_RETRIEVAL}},
    DASH("policy alone", DASH_POLICY, 0),
    DASH("policy alone, asked in time", DASH_POLICY, FTK_DASH_IN_TIME),
    DASH("policy alone, no compensation", DASH_POLICY, FTK_DASH_NO_SCALE),
    DASH("policy alone, all rows from the first layer", DASH_POLICY, FTK_DASH_NO_RESUME),
    DASH("policy alone, a chain", DASH_POLICY, FTK_DASH_CHAIN),
    DASH("every 4th layer skipped, alone", DASH_EVERY_4TH, 0),
    DASH("every 3rd layer skipped, alone", DASH_EVERY_3RD, 0),
    DASH("every 3rd, no compensation, alone", DASH_EVERY_3RD, FTK_DASH_NO_SCALE),
    DASH("every 2nd layer skipped, alone", DASH_EVERY_2ND, 0),
    DASH("all layers in few bits, alone", DASH_ALL_PARTIAL, 0),
    DASH("the whole model, alone", DASH_ALL_FULL, 0),
};

typedef struct {
    const char *parts; /* as given on the command line */
    const method *methods;
    int n;
} table;

static const table tables[] = {
    {"none", drafters, sizeof drafters / sizeof *drafters},
    {"s4c", s4c_parts, sizeof s4c_parts / sizeof *s4c_parts},
    {"firp", firp_parts, sizeof firp_parts / sizeof *firp_parts},
    {"dash", dash_parts, sizeof dash_parts / sizeof *dash_parts},
};

enum { MOST = 16, TABLES = sizeof tables / sizeof *tables };

/* Those whose drafter this model has. */
static int open_methods(method *out, const table *from, const ftk_model *m, int threads,
                        const char *path, size_t n_prompts)
{
    int kept = 0;
    for (int i = 0; i < from->n; i++) {
        method *const one = &out[kept];
        *one = from->methods[i];
        one->engine = run_engine(m, threads, device, path);
        if (!ftk_engine_has_drafter(one->engine, one->drafter)) {
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
    const table *what;
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
    const int n_methods = open_methods(methods, o->what, m, o->threads, path, p.n);
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

static const table *find_table(const char *parts)
{
    for (int i = 1; i < TABLES; i++)
        if (strcmp(tables[i].parts, parts) == 0) return &tables[i];
    run_die("--parts %s is unknown: there are s4c, firp and dash", parts);
    return NULL;
}

int main(int argc, char **argv)
{
    options o = {.n = 256, .what = &tables[0]};
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
        else if (strcmp(argv[i], "--parts") == 0)
            o.what = find_table(argv[i + 1]);
        else
            run_die("%s is unknown: there are --questions, --limit, --tokens, --ends, --threads, "
                    "--device and --parts",
                    argv[i]);
    }
    if (i >= argc || !o.file || o.n < 1 || o.n > RUN_MAX)
        run_die("usage: bench-drafters --questions FILE [--limit N] [--tokens N] [--threads N] "
                "[--ends keep|ignore] [--device NAME] [--parts s4c|firp|dash] MODEL...");
    for (; i < argc; i++) bench_model(argv[i], &o);
    return 0;
}
