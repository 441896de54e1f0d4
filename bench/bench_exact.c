/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-exact: for every model file given, every drafter (always-right and always-wrong among
 * them), 1 and 2 threads (or once, on a device), greedy and seeded sampling: are the tokens those
 * of plain decoding of that prompt alone? With --sessions 1,2,7 the first prompt is answered alone,
 * the next two share passes, then seven, then one again. --methods usual: drafters as a session has
 * them by default, no fixed sizes, no other shapes and verifiers. The other lossless verifiers
 * promise that for greedy decoding alone. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drafters/dash.h"
#include "engine/session.h"
#include "prompts.h"
#include "run.h"
#include "testkit/test_drafters_ops.h"

typedef struct {
    const char
        *name; /* of the public list, or NULL for ops; with both: DASH, whose rows need not pay */
    const ftk_drafter_ops *ops;
    ftk_tree_shape shape;
    int budget;
    const char *verifier; /* NULL: exact */
} method;

static const method methods[] = {
    {"none", NULL, FTK_TREE_FITTED, -1, NULL},
    {"jacobi", NULL, FTK_TREE_FITTED, -1, NULL},
    {"jacobi", NULL, FTK_TREE_FITTED, 40,
     NULL}, /* a fixed size: drafts are verified on every step */
    {"jacobi", NULL, FTK_TREE_PAPER, -1, NULL},
    {"lookup", NULL, FTK_TREE_FITTED, -1, NULL},
    {"lookup", NULL, FTK_TREE_FITTED, 16, NULL},
    {"s4c", NULL, FTK_TREE_FITTED, -1, NULL},
    {"s4c", NULL, FTK_TREE_FITTED, 24, NULL},
    {"s4c", NULL, FTK_TREE_FITTED, 24, "traversal"},
    {"recycle", NULL, FTK_TREE_FITTED, -1, NULL},
    {"recycle", NULL, FTK_TREE_FITTED, 24, NULL},
    {"auto", NULL, FTK_TREE_FITTED, -1, NULL},
    {"auto", NULL, FTK_TREE_FITTED, 24, NULL},
    {"firp", NULL, FTK_TREE_FITTED, -1, NULL},
    {"firp", NULL, FTK_TREE_FITTED, 24, NULL},
    {"firp", NULL, FTK_TREE_FITTED, 24, "traversal"},
    {"dash", NULL, FTK_TREE_FITTED, -1, NULL},
    {"dash", NULL, FTK_TREE_FITTED, 12, NULL},
    {"dash", &ftk_drafter_dash, FTK_TREE_FITTED, 12, NULL},
    {"auto", NULL, FTK_TREE_CHAIN, 24, NULL},
    {"dash", NULL, FTK_TREE_CHAIN, 12, NULL},
    {"dash", &ftk_drafter_dash, FTK_TREE_CHAIN, 12, "traversal"},
    {"draft-model", NULL, FTK_TREE_FITTED, -1, NULL},
    {"draft-model", NULL, FTK_TREE_FITTED, 24, NULL},
    {"draft-model", NULL, FTK_TREE_CHAIN, 8, "reject"},
    {"eagle3", NULL, FTK_TREE_FITTED, -1, NULL},
    {"eagle3", NULL, FTK_TREE_FITTED, 24, NULL},
    {"eagle3", NULL, FTK_TREE_CHAIN, 8, "traversal"},
    {"dspark", NULL, FTK_TREE_FITTED, 24, NULL},
    {"dflash", NULL, FTK_TREE_FITTED, 24, NULL},
    {"medusa", NULL, FTK_TREE_FITTED, 24, NULL},
    {NULL, &ftk_drafter_right, FTK_TREE_FITTED, 15, NULL},
    {NULL, &ftk_drafter_wrong, FTK_TREE_FITTED, 16, NULL},
    {"jacobi", NULL, FTK_TREE_FITTED, 40, "reject"},
    {NULL, &ftk_drafter_draws, FTK_TREE_FITTED, 15, "reject"},
    {NULL, &ftk_drafter_draws, FTK_TREE_FITTED, 15, "traversal"},
};

enum { N_METHODS = sizeof methods / sizeof methods[0], MAX_PROMPT = 1024 };

static ftk_session *open_session(ftk_engine *e, const method *m, float temperature, uint64_t seed,
                                 void *reference)
{
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.budget = m->budget;
    if (m->verifier) cfg.verifier = m->verifier;
    cfg.shape = m->shape;
    cfg.ignore_end = true;
    cfg.n_ctx = MAX_PROMPT;
    cfg.sampling.temperature = temperature;
    cfg.sampling.seed = seed;
    ftk_session *s;
    ftk_err err;
    if (m->ops) {
        ftk_dash_parts all_rows = {.without = FTK_ROWS_ALWAYS};
        err = ftk_session_open_with(&s, e, &cfg, m->ops, m->name ? &all_rows : reference);
    } else {
        cfg.drafter = m->name;
        err = ftk_session_open(&s, e, &cfg);
    }
    if (err != FTK_OK) exit(RUN_FAILED);
    return s;
}

typedef struct {
    size_t same, differ;
    uint64_t emitted, steps;
} tally;

enum { MOST_SIZES = 16 };

static bool usual_alone; /* drafters as a session has them by default, and no variants */
static int sizes[MOST_SIZES] = {1}, n_sizes = 1; /* of the groups of sessions, by turns */

/* Answers of a group of prompts. */
typedef struct {
    run r[RUN_TOGETHER];
    int32_t whole[RUN_TOGETHER][MAX_PROMPT + RUN_MAX]; /* with the prompts before them */
    ftk_test_reference truth[RUN_TOGETHER];            /* what is in whole */
} answers;

static bool is_usual(const method *m)
{
    return !m->ops && !m->verifier && m->budget < 0 && m->shape == FTK_TREE_FITTED;
}

/* Plain decoding of each alone. */
static void say_plainly(ftk_engine *e, float temperature, uint64_t seed, const struct prompt *p,
                        size_t n_prompts, size_t n, answers *a)
{
    for (size_t i = 0; i < n_prompts; i++) {
        ftk_session *s = open_session(e, &methods[0], temperature, seed + i, NULL);
        run *const r = &a->r[i];
        if (run_answer(s, p[i].tokens, p[i].n, n, r) != FTK_OK) exit(RUN_FAILED);
        ftk_session_free(s);
        memcpy(a->whole[i], p[i].tokens, p[i].n * sizeof *a->whole[i]);
        memcpy(a->whole[i] + p[i].n, r->tokens, r->n * sizeof *r->tokens);
        a->truth[i] = (ftk_test_reference){a->whole[i], p[i].n + r->n};
    }
}

/* A group of prompts, one setting: plain decoding on the first engine is the reference for all. */
static void compare(ftk_engine *const engines[2], float temperature, uint64_t seed,
                    const struct prompt *p, size_t n_prompts, size_t n, tally t[2][N_METHODS])
{
    static answers plain;
    static run r[RUN_TOGETHER];
    say_plainly(engines[0], temperature, seed, p, n_prompts, n, &plain);
    for (int e = 0; e < 2 && engines[e]; e++)
        for (int i = 0; i < N_METHODS; i++) {
            ftk_session *s[RUN_TOGETHER];
            if (methods[i].verifier && temperature > 0) continue;
            if (usual_alone && !is_usual(&methods[i])) continue;
            if (methods[i].name && !ftk_engine_has_drafter(engines[e], methods[i].name)) continue;
            for (size_t j = 0; j < n_prompts; j++) {
                s[j] =
                    open_session(engines[e], &methods[i], temperature, seed + j, &plain.truth[j]);
                if (ftk_session_append(s[j], p[j].tokens, p[j].n) != FTK_OK) exit(RUN_FAILED);
            }
            if (run_together(s, n_prompts, n, r) != FTK_OK) exit(RUN_FAILED);
            for (size_t j = 0; j < n_prompts; j++) {
                const run *const want = &plain.r[j];
                const bool same = r[j].n == want->n && memcmp(r[j].tokens, want->tokens,
                                                              want->n * sizeof *want->tokens) == 0;
                ftk_session_free(s[j]);
                t[e][i].same += same;
                t[e][i].differ += !same;
                t[e][i].emitted += r[j].stats.emitted;
                t[e][i].steps += r[j].stats.steps;
            }
        }
}

static const char *label(const method *m, char *buf, size_t n)
{
    static const char *const shapes[] = {"", " (paper)", " (chain)"};
    snprintf(buf, n, "%s%s%s%s%s%s", m->ops ? m->ops->name : m->name, shapes[m->shape],
             m->budget >= 0 && !m->ops ? " (fixed)" : "", m->ops && m->name ? " (all rows)" : "",
             m->verifier ? ", " : "", m->verifier ? m->verifier : "");
    return buf;
}

static const char *device; /* NULL: the CPU */
static const char
    *beside; /* whose folder trained drafters are taken from; NULL: each model's own */

static void print(const char *path, float temperature, int threads, const char *name,
                  const tally *t, size_t n)
{
    char shown[256];
    const char *slash = strrchr(path, '/');
    printf("%s temperature %.1f threads %d %-16s %zu of %zu equal, %.2f tokens/step\n",
           run_shown(shown, sizeof shown, slash ? slash + 1 : path), temperature, threads, name,
           t->same, n, (double)t->emitted / (double)t->steps);
}

/* Where that is long ago, a line on how far it is. */
static void tell(const char *path, float temperature, size_t done, size_t of, tally t[2][N_METHODS])
{
    static double told;
    size_t differ = 0;
    if (told > 0 && run_now() - told < 20) return;
    told = run_now();
    for (int e = 0; e < 2; e++)
        for (int i = 0; i < N_METHODS; i++) differ += t[e][i].differ;
    run_say("%s, temperature %.1f: %zu of %zu prompts; %zu answers differ", path, temperature, done,
            of, differ);
}

static size_t check_model(const char *path, const char *file, size_t limit, size_t n,
                          size_t *passed)
{
    int most = 1;
    for (int i = 0; i < n_sizes; i++) most = sizes[i] > most ? sizes[i] : most;
    ftk_model *m = run_model(path);
    const int slots = most > 1 ? most * MAX_PROMPT : 0;
    const char *from = beside ? beside : path;
    ftk_engine *const engines[2] = {run_engine(m, 1, slots, device, from),
                                    device ? NULL : run_engine(m, 2, slots, NULL, from)};
    size_t failed = 0;
    prompts p;
    prompts_read(&p, file, limit, MAX_PROMPT - n, m);
    for (int setting = 0; setting < 2; setting++) {
        const float temperature = setting ? 0.8f : 0;
        static tally t[2][N_METHODS];
        memset(t, 0, sizeof t);
        size_t done = 0;
        for (int turn = 0; done < p.n; turn++) {
            const size_t size = (size_t)sizes[turn % n_sizes], left = p.n - done;
            const size_t n_prompts = size < left ? size : left;
            compare(engines, temperature, 1000 + done, p.at + done, n_prompts, n, t);
            tell(path, temperature, done += n_prompts, p.n, t);
        }
        for (int e = 0; e < 2; e++)
            for (int i = 0; i < N_METHODS; i++) {
                char name[64];
                if (t[e][i].steps == 0) continue;
                print(path, temperature, e + 1, label(&methods[i], name, sizeof name), &t[e][i],
                      p.n);
                *passed += t[e][i].same;
                failed += t[e][i].differ;
            }
        fflush(stdout);
    }
    prompts_free(&p);
    ftk_engine_free(engines[1]);
    ftk_engine_free(engines[0]);
    ftk_model_free(m);
    return failed;
}

static const char usage[] =
    "usage: bench-exact --prompts FILE [--limit N] [--tokens N] [--sessions N,N,N] "
    "[--methods usual|all] [--beside MODEL] [--device NAME] [--kernels LEVEL] [--lora FILE]... "
    "[--draft-model FILE] [--drafter-file FILE]... [--drafter-layers L,L,L] MODEL...";

int main(int argc, char **argv)
{
    const char *file = NULL;
    size_t limit = 0, n = 128, passed = 0, failed = 0;
    int i = 1;
    run_help(argc, argv, usage);
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--prompts") == 0)
            file = argv[i + 1];
        else if (strcmp(argv[i], "--limit") == 0)
            limit = (size_t)run_number(argv[i], argv[i + 1], 0, 100000);
        else if (strcmp(argv[i], "--tokens") == 0)
            n = (size_t)run_number(argv[i], argv[i + 1], 1, MAX_PROMPT - 1);
        else if (strcmp(argv[i], "--sessions") == 0)
            n_sizes = run_numbers(argv[i], argv[i + 1], 1, RUN_TOGETHER, sizes, MOST_SIZES);
        else if (strcmp(argv[i], "--methods") == 0 && strcmp(argv[i + 1], "all") == 0)
            usual_alone = false;
        else if (strcmp(argv[i], "--methods") == 0 && strcmp(argv[i + 1], "usual") == 0)
            usual_alone = true;
        else if (strcmp(argv[i], "--methods") == 0)
            run_refuse("--methods \"%s\": give usual or all", argv[i + 1]);
        else if (strcmp(argv[i], "--beside") == 0)
            beside = argv[i + 1];
        else if (strcmp(argv[i], "--device") == 0)
            device = argv[i + 1];
        else if (!run_take_option(argv[i], argv[i + 1]))
            run_refuse(
                "%s is unknown: there are --prompts, --limit, --tokens, --sessions, "
                "--methods usual or all, --beside, --device, --kernels, --lora, --draft-model, "
                "--drafter-file and --drafter-layers",
                argv[i]);
    }
    run_operands(argc, argv, i);
    if (i >= argc || !file) run_refuse("%s", usage);
    run_files(argc, argv, i);
    if (beside && access(beside, R_OK) != 0) run_die("--beside %s: %s", beside, strerror(errno));
    for (; i < argc; i++) failed += check_model(argv[i], file, limit, n, &passed);
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed != 0;
}
