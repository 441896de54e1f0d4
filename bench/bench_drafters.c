/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-drafters: drafters against plain decoding over a file of prompts (prompts.h), prompt by
 * prompt in turn, so that drift of the machine hits all alike. Prints a Markdown table. With
 * --parts s4c, firp or dash it shows what each part of that family is worth instead: it looks
 * below the public header for that. With --parts shape it sets each family's trees against its
 * chains, both sized by the cost model; with --parts sources it shows what retrieval and
 * successors, which are the session's, are worth to each. What all answers so far gave goes to
 * stderr after each prompt, so that a run that is cut is not lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dashparts.h"
#include "engine/session.h"
#include "prompts.h"
#include "run.h"

typedef struct {
    const char *label, *drafter;
    char named[96];     /* of a label that is made here */
    const char *file;   /* of the drafter; NULL: the one beside the model */
    ftk_engine *engine; /* its own: what a drafter learns stays with the engine */
    ftk_tree_shape shape;
    int budget;
    const ftk_drafter_ops *ops; /* with `how`, flags of drafters/drafter.h */
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

/* Tokens a second, and a step, of the answers so far. */
static void print_so_far(const method *m, int n, size_t done, size_t all)
{
    fprintf(stderr, "%zu of %zu:", done, all);
    for (int i = 0; i < n; i++)
        fprintf(stderr, "%s %s %.0f (%.2f)", i > 0 ? "," : "", m[i].label,
                (double)m[i].emitted / m[i].seconds, (double)m[i].emitted / (double)m[i].steps);
    fputc('\n', stderr);
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
    {.label = "draft-model", .drafter = "draft-model", .budget = -1},
    {.label = "eagle3", .drafter = "eagle3", .budget = -1},
    {.label = "medusa", .drafter = "medusa", .budget = -1},
    {.label = "dflash", .drafter = "dflash", .budget = -1},
    {.label = "dspark", .drafter = "dspark", .budget = -1},
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
    S4C("s4c, no retrieval", FTK_WITHOUT_RETRIEVAL),
    {.label = "lookup", .drafter = "lookup", .budget = -1},
};

#define ALONE (FTK_ROWS_ALWAYS | FTK_WITHOUT_RETRIEVAL | FTK_WITHOUT_SUCCESSORS)
#define GROWN(name, family, text, what, nodes, form)                                               \
    {                                                                                              \
        .label = name text, .drafter = (name), .budget = (nodes), .shape = (form),                 \
        .ops = &(family), .how = (what)                                                            \
    }
#define GROWN_PARTS(name, family)                                                                  \
    {                                                                                              \
        {.label = "none", .drafter = "none", .budget = -1},                                        \
            {.label = "none, again", .drafter = "none", .budget = -1},                             \
            GROWN(name, family, "", 0, -1, FTK_TREE_FITTED),                                       \
            GROWN(name, family, ", no retrieval", FTK_WITHOUT_RETRIEVAL, -1, FTK_TREE_FITTED),     \
            GROWN(name, family, ", no successors", FTK_WITHOUT_SUCCESSORS, -1, FTK_TREE_FITTED),   \
            GROWN(name, family, " alone", FTK_WITHOUT_RETRIEVAL | FTK_WITHOUT_SUCCESSORS, -1,      \
                  FTK_TREE_FITTED),                                                                \
            GROWN(name, family, " alone, chains of 4", ALONE, 4, FTK_TREE_CHAIN),                  \
            GROWN(name, family, " alone, trees of 16", ALONE, 16, FTK_TREE_FITTED),                \
            {.label = "lookup", .drafter = "lookup", .budget = -1},                                \
    }

static const method eagle3_parts[] = GROWN_PARTS("eagle3", ftk_drafter_eagle3);
static const method dspark_parts[] = GROWN_PARTS("dspark", ftk_drafter_dspark);
static const method draft_model_parts[] = GROWN_PARTS("draft-model", ftk_drafter_draft_model);

static const method firp_parts[] = {
    {.label = "none", .drafter = "none", .budget = -1},
    {.label = "none, again", .drafter = "none", .budget = -1},
    FIRP("firp", 0),
    FIRP("firp, no retrieval", FTK_WITHOUT_RETRIEVAL),
    FIRP_OF("firp, split, no retrieval, 8 nodes", FTK_WITHOUT_RETRIEVAL, 8),
    FIRP_OF("firp, fused, no retrieval, 8 nodes", FTK_ROWS_JOIN | FTK_WITHOUT_RETRIEVAL, 8),
    {.label = "lookup", .drafter = "lookup", .budget = -1},
};

#define DASH_SHAPED(what, how, less, form)                                                         \
    {                                                                                              \
        .label = what, .drafter = "dash", .budget = 6, .shape = form, .dash = {                    \
            what,                                                                                  \
            how,                                                                                   \
            FTK_ROWS_ALWAYS | FTK_WITHOUT_RETRIEVAL | (less)                                       \
        }                                                                                          \
    }

#define DASH(what, how, less) DASH_SHAPED(what, how, less, FTK_TREE_FITTED)

/* Those that are called alone have 6 nodes drafted at every step, whether that pays or not. */
static const method dash_parts[] = {
    {.label = "none", .drafter = "none", .budget = -1},
    {.label = "none, again", .drafter = "none", .budget = -1},
    {.label = "lookup", .drafter = "lookup", .budget = -1},
    {.label = "dash", .drafter = "dash", .budget = -1},
    {.label = "dash, no retrieval",
     .drafter = "dash",
     .budget = -1,
     .dash = {"", DASH_POLICY, FTK_WITHOUT_RETRIEVAL}},
    DASH("policy alone", DASH_POLICY, 0),
    DASH("policy alone, no compensation", DASH_POLICY, FTK_DASH_NO_SCALE),
    DASH_SHAPED("policy alone, a chain", DASH_POLICY, 0, FTK_TREE_CHAIN),
    DASH("every 4th layer skipped, alone", DASH_EVERY_4TH, 0),
    DASH("every 3rd layer skipped, alone", DASH_EVERY_3RD, 0),
    DASH("every 3rd, no compensation, alone", DASH_EVERY_3RD, FTK_DASH_NO_SCALE),
    DASH("every 2nd layer skipped, alone", DASH_EVERY_2ND, 0),
    DASH("all layers in few bits, alone", DASH_ALL_PARTIAL, 0),
    DASH("the whole model, alone", DASH_ALL_FULL, 0),
};

/* Each family without what the session knows, with one source of that, and with both. */
#define WITH(family, of, neither_retrieval, no_successors)                                         \
    {.label = family " alone",                                                                     \
     .drafter = family,                                                                            \
     .budget = -1,                                                                                 \
     .ops = of,                                                                                    \
     .how = (neither_retrieval) | (no_successors)},                                                \
        {.label = family ", retrieval",                                                            \
         .drafter = family,                                                                        \
         .budget = -1,                                                                             \
         .ops = of,                                                                                \
         .how = no_successors},                                                                    \
        {.label = family ", successors",                                                           \
         .drafter = family,                                                                        \
         .budget = -1,                                                                             \
         .ops = of,                                                                                \
         .how = neither_retrieval},                                                                \
    {                                                                                              \
        .label = family ", both", .drafter = family, .budget = -1, .ops = of                       \
    }

static const method sources[] = {
    {.label = "none", .drafter = "none", .budget = -1},
    {.label = "none, again", .drafter = "none", .budget = -1},
    {.label = "lookup", .drafter = "lookup", .budget = -1},
    {.label = "recycle, successors",
     .drafter = "recycle",
     .budget = -1,
     .ops = &ftk_drafter_recycle,
     .how = FTK_WITHOUT_RETRIEVAL},
    {.label = "recycle, both", .drafter = "recycle", .budget = -1},
    WITH("s4c", &ftk_drafter_s4c, FTK_WITHOUT_RETRIEVAL, FTK_WITHOUT_SUCCESSORS),
    WITH("firp", &ftk_drafter_firp, FTK_WITHOUT_RETRIEVAL, FTK_WITHOUT_SUCCESSORS),
    WITH("jacobi", &ftk_drafter_jacobi, FTK_WITHOUT_RETRIEVAL, FTK_WITHOUT_SUCCESSORS),
    {.label = "dash alone",
     .drafter = "dash",
     .budget = -1,
     .dash = {"", DASH_POLICY, FTK_WITHOUT_RETRIEVAL | FTK_WITHOUT_SUCCESSORS}},
    {.label = "dash, retrieval",
     .drafter = "dash",
     .budget = -1,
     .dash = {"", DASH_POLICY, FTK_WITHOUT_SUCCESSORS}},
    {.label = "dash, successors",
     .drafter = "dash",
     .budget = -1,
     .dash = {"", DASH_POLICY, FTK_WITHOUT_RETRIEVAL}},
    {.label = "dash, both", .drafter = "dash", .budget = -1},
};

#define TREE(name)                                                                                 \
    {                                                                                              \
        .label = name ", a tree", .drafter = name, .budget = -1                                    \
    }
#define CHAIN(name)                                                                                \
    {                                                                                              \
        .label = name ", a chain", .drafter = name, .budget = -1, .shape = FTK_TREE_CHAIN          \
    }

static const method shapes[] = {
    {.label = "none", .drafter = "none", .budget = -1},
    {.label = "none, again", .drafter = "none", .budget = -1},
    TREE("lookup"),
    CHAIN("lookup"),
    TREE("jacobi"),
    CHAIN("jacobi"),
    TREE("recycle"),
    CHAIN("recycle"),
    TREE("s4c"),
    CHAIN("s4c"),
    TREE("firp"),
    CHAIN("firp"),
    TREE("dash"),
    CHAIN("dash"),
    TREE("eagle3"),
    CHAIN("eagle3"),
};

typedef struct {
    const char *parts; /* as given on the command line */
    const method *methods;
    int n;
} table;

static const table tables[] = {
    {"none", drafters, sizeof drafters / sizeof *drafters},
    {"s4c", s4c_parts, sizeof s4c_parts / sizeof *s4c_parts},
    {"eagle3", eagle3_parts, sizeof eagle3_parts / sizeof *eagle3_parts},
    {"dspark", dspark_parts, sizeof dspark_parts / sizeof *dspark_parts},
    {"draft-model", draft_model_parts, sizeof draft_model_parts / sizeof *draft_model_parts},
    {"firp", firp_parts, sizeof firp_parts / sizeof *firp_parts},
    {"dash", dash_parts, sizeof dash_parts / sizeof *dash_parts},
    {"shape", shapes, sizeof shapes / sizeof *shapes},
    {"sources", sources, sizeof sources / sizeof *sources},
};

enum { MOST = 24, MOST_HEADS = 4, TABLES = sizeof tables / sizeof *tables };

typedef struct {
    const char *file;
    size_t limit, n; /* prompts, tokens of an answer */
    int threads;
    const table *what;
    const char *drafters; /* a list: only these, beside none; NULL: all */
    int n_heads;
    const char *heads[MOST_HEADS]; /* NAME=FILE: other heads of s4c */
} options;

static bool listed(const char *list, const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, n) == 0 && (at[n] == ',' || !at[n])) return true;
    }
    return false;
}

/* Whether it is wanted, and this model has its drafter. */
static bool open_method(method *m, const ftk_model *model, const options *o, const char *path,
                        size_t n_prompts)
{
    if (o->drafters && strcmp(m->drafter, "none") != 0 && !listed(o->drafters, m->drafter))
        return false;
    m->engine = run_engine(model, o->threads, 0, device, m->file ? NULL : path);
    if (m->file && ftk_engine_add_drafter(m->engine, m->file) != FTK_OK) exit(1);
    if (!ftk_engine_has_drafter(m->engine, m->drafter)) {
        ftk_engine_free(m->engine);
        return false;
    }
    m->ratio = calloc(n_prompts, sizeof(double));
    return true;
}

/* All that is shown of s4c, of other heads: NAME stands where the label says s4c. */
static int open_heads(method *out, int room, const char *named, const ftk_model *m,
                      const options *o, size_t n_prompts)
{
    const char *const file = strchr(named, '=');
    if (!file) run_die("--heads %s: give NAME=FILE", named);
    int kept = 0;
    for (int i = 0; i < o->what->n; i++) {
        if (strcmp(o->what->methods[i].drafter, "s4c") != 0) continue;
        if (kept == room) run_die("--heads: these are more than %d methods", MOST);
        const char *const rest = o->what->methods[i].label + strlen("s4c");
        method *const one = &out[kept];
        *one = o->what->methods[i];
        snprintf(one->named, sizeof one->named, "%.*s%s", (int)(file - named), named, rest);
        one->label = one->named;
        one->file = file + 1;
        kept += open_method(one, m, o, NULL, n_prompts);
    }
    return kept;
}

static int open_methods(method *out, const ftk_model *m, const options *o, const char *path,
                        size_t n_prompts)
{
    int kept = 0;
    for (int i = 0; i < o->what->n; i++) {
        out[kept] = o->what->methods[i];
        kept += open_method(&out[kept], m, o, path, n_prompts);
    }
    for (int i = 0; i < o->n_heads; i++)
        kept += open_heads(&out[kept], MOST - kept, o->heads[i], m, o, n_prompts);
    return kept;
}

enum { MAX_PROMPT = 1536 };

static void bench_model(const char *path, const options *o)
{
    ftk_model *m = run_model(path);
    prompts p;
    prompts_read(&p, o->file, o->limit, MAX_PROMPT, m);
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    method methods[MOST];
    const int n_methods = open_methods(methods, m, o, path, p.n);
    for (size_t i = 0; i < p.n; i++) {
        static run r[MOST];
        int order[MOST];
        /* what ran before leaves traces in the caches, for a fifth of a short answer's time */
        run_shuffle(order, n_methods);
        for (int j = 0; j < n_methods; j++) {
            const int k = order[j];
            answer(&methods[k], p.at[i].tokens, p.at[i].n, o->n, &r[k]);
        }
        for (int k = 0; k < n_methods; k++) count(&methods[k], &r[k], &r[0], i);
        print_so_far(methods, n_methods, i + 1, p.n);
    }
    char name[128], file[128];
    printf("\n%s (%s), on %s, kernels %s, %d threads, %zu questions, at most %zu tokens%s, "
           "temperature 0; %.0f tokens an answer\n\n",
           run_shown(name, sizeof name, info.name),
           run_shown(file, sizeof file, strrchr(path, '/') ? strrchr(path, '/') + 1 : path),
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
    run_die("--parts %s is unknown: there are s4c, eagle3, dspark, draft-model, firp, dash, shape "
            "and sources",
            parts);
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
        else if (strcmp(argv[i], "--drafters") == 0)
            o.drafters = argv[i + 1];
        else if (strcmp(argv[i], "--heads") == 0 && o.n_heads < MOST_HEADS)
            o.heads[o.n_heads++] = argv[i + 1];
        else if (!run_take_option(argv[i], argv[i + 1]))
            run_die("%s is unknown, or given too often: there are --questions, --limit, --tokens, "
                    "--ends, --threads, --device, --parts, --drafters, --heads, --lora, "
                    "--draft-model, --drafter-file and --drafter-layers",
                    argv[i]);
    }
    if (i >= argc || !o.file || o.n < 1 || o.n > RUN_MAX)
        run_die("usage: bench-drafters --questions FILE [--limit N] [--tokens N] [--threads N] "
                "[--ends keep|ignore] [--device NAME] "
                "[--parts s4c|eagle3|dspark|draft-model|firp|dash|shape|sources] "
                "[--drafters NAME,...] [--heads NAME=FILE]... [--lora FILE]... "
                "[--draft-model FILE] [--drafter-file FILE]... [--drafter-layers L,L,L] MODEL...");
    for (; i < argc; i++) bench_model(argv[i], &o);
    return 0;
}
