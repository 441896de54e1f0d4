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

/* A line of a table. Its label: the drafter and the text. */
typedef struct {
    const char *drafter; /* NULL: each of the table's families */
    const char *text;
    int budget; /* -1: the cost model decides */
    ftk_tree_shape shape;
    unsigned how;         /* FTK_WITHOUT_, FTK_ROWS_, FTK_DASH_; 0: as others open it */
    dash_pattern pattern; /* of DASH */
} row;

typedef struct {
    const row *row;
    const char *drafter;
    char label[96];
    const char *file;   /* of the drafter; NULL: the one beside the model */
    ftk_engine *engine; /* its own: what a drafter learns stays with the engine */
    double *ratio;      /* [n questions] plain seconds / its seconds */
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
    cfg.shape = m->row->shape;
    cfg.budget = m->row->budget;
    cfg.ignore_end = ignore_end;
    static uint8_t actions[FTK_MAX_LAYERS];
    const int n_layer = m->engine->model->hp.n_layer;
    /* other families look at the first of it, which is `how` */
    ftk_dash_parts parts = dash_parts_make(m->row->pattern, m->row->how, n_layer, actions);
    const int family = ftk_drafter_index(m->drafter, strlen(m->drafter));
    ftk_session *s;
    const ftk_err err =
        m->row->how ? ftk_session_open_with(&s, m->engine, &cfg, ftk_drafter_list[family], &parts)
                    : ftk_session_open(&s, m->engine, &cfg);
    if (err != FTK_OK || run_answer(s, prompt, n_prompt, n, r) != FTK_OK) exit(RUN_FAILED);
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

/* Those that all tables begin with: the others are compared with the first. */
enum { N_PLAIN = 2 };
static const row plain[N_PLAIN] = {
    {"none", "", -1, 0, 0, 0},
    {"none", ", again", -1, 0, 0, 0},
};

static const row drafters[] = {
    {"jacobi", ", fitted tree", -1, 0, 0, 0},
    {"jacobi", ", 7 nodes", 7, 0, 0, 0},
    {"lookup", "", -1, 0, 0, 0},
    {"recycle", "", -1, 0, 0, 0},
    {"s4c", "", -1, 0, 0, 0},
    {"firp", "", -1, 0, 0, 0},
    {"dash", "", -1, 0, 0, 0},
    {"draft-model", "", -1, 0, 0, 0},
    {"eagle3", "", -1, 0, 0, 0},
    {"medusa", "", -1, 0, 0, 0},
    {"dflash", "", -1, 0, 0, 0},
    {"dspark", "", -1, 0, 0, 0},
    {"auto", "", -1, 0, 0, 0},
    {"jacobi", ", paper's 69 rows", -1, FTK_TREE_PAPER, 0, 0},
};

enum {
    NO_RETRIEVAL = FTK_WITHOUT_RETRIEVAL,
    NO_SUCCESSORS = FTK_WITHOUT_SUCCESSORS,
    NEITHER = NO_RETRIEVAL | NO_SUCCESSORS,
    ALWAYS = FTK_ROWS_ALWAYS | NO_RETRIEVAL,
};

static const row s4c_parts[] = {
    {NULL, "", -1, 0, 0, 0},
    {NULL, ", no retrieval", -1, 0, NO_RETRIEVAL, 0},
    {"lookup", "", -1, 0, 0, 0},
};

static const row firp_parts[] = {
    {NULL, "", -1, 0, 0, 0},
    {NULL, ", no retrieval", -1, 0, NO_RETRIEVAL, 0},
    {NULL, ", split, no retrieval, 8 nodes", 8, 0, NO_RETRIEVAL, 0},
    {NULL, ", fused, no retrieval, 8 nodes", 8, 0, NO_RETRIEVAL | FTK_ROWS_JOIN, 0},
    {"lookup", "", -1, 0, 0, 0},
};

static const row grown_parts[] = {
    {NULL, "", -1, 0, 0, 0},
    {NULL, ", no retrieval", -1, 0, NO_RETRIEVAL, 0},
    {NULL, ", no successors", -1, 0, NO_SUCCESSORS, 0},
    {NULL, " alone", -1, 0, NEITHER, 0},
    {NULL, " alone, chains of 4", 4, FTK_TREE_CHAIN, ALWAYS | NO_SUCCESSORS, 0},
    {NULL, " alone, trees of 16", 16, 0, ALWAYS | NO_SUCCESSORS, 0},
    {"lookup", "", -1, 0, 0, 0},
};

/* Those that are called alone have 6 nodes drafted at every step, whether that pays or not. */
static const row dash_parts[] = {
    {"lookup", "", -1, 0, 0, 0},
    {NULL, "", -1, 0, 0, 0},
    {NULL, ", no retrieval", -1, 0, NO_RETRIEVAL, 0},
    {NULL, ", policy alone", 6, 0, ALWAYS, 0},
    {NULL, ", policy alone, no compensation", 6, 0, ALWAYS | FTK_DASH_NO_SCALE, 0},
    {NULL, ", policy alone, a chain", 6, FTK_TREE_CHAIN, ALWAYS, 0},
    {NULL, ", every 4th layer skipped, alone", 6, 0, ALWAYS, DASH_EVERY_4TH},
    {NULL, ", every 3rd layer skipped, alone", 6, 0, ALWAYS, DASH_EVERY_3RD},
    {NULL, ", every 3rd, no compensation", 6, 0, ALWAYS | FTK_DASH_NO_SCALE, DASH_EVERY_3RD},
    {NULL, ", every 2nd layer skipped, alone", 6, 0, ALWAYS, DASH_EVERY_2ND},
    {NULL, ", all layers in few bits, alone", 6, 0, ALWAYS, DASH_ALL_PARTIAL},
    {NULL, ", the whole model, alone", 6, 0, ALWAYS, DASH_ALL_FULL},
};

/* Each family without what the session knows, with one source of that, and with both. */
static const row sources[] = {
    {"lookup", "", -1, 0, 0, 0},
    {"recycle", ", successors", -1, 0, NO_RETRIEVAL, 0},
    {"recycle", ", both", -1, 0, 0, 0},
    {NULL, " alone", -1, 0, NEITHER, 0},
    {NULL, ", retrieval", -1, 0, NO_SUCCESSORS, 0},
    {NULL, ", successors", -1, 0, NO_RETRIEVAL, 0},
    {NULL, ", both", -1, 0, 0, 0},
};

static const row shapes[] = {
    {NULL, ", a tree", -1, 0, 0, 0},
    {NULL, ", a chain", -1, FTK_TREE_CHAIN, 0, 0},
};

enum { MOST_FAMILIES = 8 };

typedef struct {
    const char *parts; /* as given on the command line */
    const row *rows;   /* with a name: once; without: for each family */
    int n;
    const char *families[MOST_FAMILIES];
} table;

#define ROWS(name) name, sizeof(name) / sizeof *(name)
static const table tables[] = {
    {"none", ROWS(drafters), {""}},
    {"s4c", ROWS(s4c_parts), {"s4c"}},
    {"eagle3", ROWS(grown_parts), {"eagle3"}},
    {"dspark", ROWS(grown_parts), {"dspark"}},
    {"draft-model", ROWS(grown_parts), {"draft-model"}},
    {"firp", ROWS(firp_parts), {"firp"}},
    {"dash", ROWS(dash_parts), {"dash"}},
    {"shape", ROWS(shapes), {"lookup", "jacobi", "recycle", "s4c", "firp", "dash", "eagle3"}},
    {"sources", ROWS(sources), {"s4c", "firp", "jacobi", "dash"}},
};

enum { MOST = 24, MOST_HEADS = 4, TABLES = sizeof tables / sizeof *tables };

typedef struct {
    const char *file;
    size_t limit, n; /* prompts, tokens of an answer */
    int threads;
    const table *what;
    const char *drafters[MOST]; /* only these, beside none; of 0: all */
    int n_drafters;
    int n_heads;
    const char *heads[MOST_HEADS]; /* NAME=FILE: other heads of s4c */
} options;

static bool is_wanted(const options *o, const char *drafter)
{
    bool wanted = o->n_drafters == 0 || strcmp(drafter, "none") == 0;
    for (int i = 0; i < o->n_drafters; i++) wanted |= strcmp(drafter, o->drafters[i]) == 0;
    return wanted;
}

/* Whether it is wanted, and this model has its drafter. */
static bool open_method(method *m, const ftk_model *model, const options *o, const char *path,
                        size_t n_prompts)
{
    if (!is_wanted(o, m->drafter)) return false;
    m->engine = run_engine(model, o->threads, 0, device, m->file ? NULL : path);
    if (m->file && ftk_engine_add_drafter(m->engine, m->file) != FTK_OK) exit(RUN_FAILED);
    if (!ftk_engine_has_drafter(m->engine, m->drafter)) {
        ftk_engine_free(m->engine);
        return false;
    }
    m->ratio = calloc(n_prompts, sizeof(double));
    return true;
}

/* The methods of a table; returns how many. */
static int list_methods(const table *t, method *out)
{
    int n = 0;
    for (int i = 0; i < N_PLAIN; i++) out[n++] = (method){.row = &plain[i]};
    for (int f = 0; f < MOST_FAMILIES && (f == 0 || t->families[f]); f++)
        for (int i = 0; i < t->n; i++)
            if (f == 0 || !t->rows[i].drafter)
                out[n++] = (method){.row = &t->rows[i], .drafter = t->families[f]};
    for (int i = 0; i < n; i++) {
        if (out[i].row->drafter) out[i].drafter = out[i].row->drafter;
        snprintf(out[i].label, sizeof out[i].label, "%s%s", out[i].drafter, out[i].row->text);
    }
    return n;
}

/* All that is shown of s4c, of other heads: NAME stands where the label says s4c. */
static int open_heads(method *out, int room, const char *named, const ftk_model *m,
                      const options *o, size_t n_prompts)
{
    const char *const file = strchr(named, '=');
    method all[MOST];
    int kept = 0;
    for (int i = 0, n = list_methods(o->what, all); i < n; i++) {
        if (strcmp(all[i].drafter, "s4c") != 0) continue;
        if (kept == room) run_refuse("--heads: these are more than %d methods", MOST);
        method *const one = &out[kept];
        *one = all[i];
        char label[sizeof one->label];
        snprintf(label, sizeof label, "%.*s%s", (int)(file - named), named, one->row->text);
        run_shown(one->label, sizeof one->label, label);
        one->file = file + 1;
        kept += open_method(one, m, o, NULL, n_prompts);
    }
    return kept;
}

static int open_methods(method *out, const ftk_model *m, const options *o, const char *path,
                        size_t n_prompts)
{
    method all[MOST];
    int kept = 0;
    for (int i = 0, n = list_methods(o->what, all); i < n; i++) {
        out[kept] = all[i];
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
    char name[128], file[128], on[128];
    printf("\n%s (%s), on %s, kernels %s, %d threads, %zu questions, at most %zu tokens%s, "
           "temperature 0; %.0f tokens an answer\n\n",
           run_shown(name, sizeof name, info.name),
           run_shown(file, sizeof file, strrchr(path, '/') ? strrchr(path, '/') + 1 : path),
           run_shown(on, sizeof on, ftk_engine_device(methods[0].engine)), info.kernels,
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
    run_refuse(
        "--parts %s is unknown: there are s4c, eagle3, dspark, draft-model, firp, dash, shape "
        "and sources",
        parts);
    return NULL;
}

static const char *named_file(const char *value)
{
    if (!strchr(value, '=')) run_refuse("--heads %s: give NAME=FILE", value);
    return value;
}

static bool is_ignore(const char *value)
{
    const bool ignore = strcmp(value, "ignore") == 0;
    if (!ignore && strcmp(value, "keep") != 0) run_refuse("--ends %s: give keep or ignore", value);
    return ignore;
}

static const char usage[] =
    "usage: bench-drafters --questions FILE [--limit N] [--tokens N] [--threads N] "
    "[--ends keep|ignore] [--device NAME] "
    "[--parts s4c|eagle3|dspark|draft-model|firp|dash|shape|sources] "
    "[--drafters NAME,...] [--heads NAME=FILE]... [--kernels LEVEL] [--lora FILE]... "
    "[--draft-model FILE] [--drafter-file FILE]... [--drafter-layers L,L,L] MODEL...";

int main(int argc, char **argv)
{
    options o = {.n = 256, .what = &tables[0]};
    int i = 1;
    run_help(argc, argv, usage);
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--questions") == 0)
            o.file = argv[i + 1];
        else if (strcmp(argv[i], "--limit") == 0)
            o.limit = (size_t)run_number(argv[i], argv[i + 1], 0, 100000);
        else if (strcmp(argv[i], "--tokens") == 0)
            o.n = (size_t)run_number(argv[i], argv[i + 1], 1, RUN_MAX);
        else if (strcmp(argv[i], "--ends") == 0)
            ignore_end = is_ignore(argv[i + 1]);
        else if (strcmp(argv[i], "--threads") == 0)
            o.threads = (int)run_number(argv[i], argv[i + 1], 0, 256);
        else if (strcmp(argv[i], "--device") == 0)
            device = argv[i + 1];
        else if (strcmp(argv[i], "--parts") == 0)
            o.what = find_table(argv[i + 1]);
        else if (strcmp(argv[i], "--drafters") == 0)
            o.n_drafters = run_names(argv[i], argv[i + 1], ftk_drafters(), o.drafters, MOST);
        else if (strcmp(argv[i], "--heads") == 0 && o.n_heads < MOST_HEADS)
            o.heads[o.n_heads++] = named_file(argv[i + 1]);
        else if (!run_take_option(argv[i], argv[i + 1]))
            run_refuse(
                "%s is unknown, or given too often: there are --questions, --limit, --tokens, "
                "--ends, --threads, --device, --parts, --drafters, --heads, --kernels, --lora, "
                "--draft-model, --drafter-file and --drafter-layers",
                argv[i]);
    }
    run_operands(argc, argv, i);
    if (i >= argc || !o.file) run_refuse("%s", usage);
    run_files(argc, argv, i);
    for (; i < argc; i++) bench_model(argv[i], &o);
    return 0;
}
