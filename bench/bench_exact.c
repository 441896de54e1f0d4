/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-exact: for every model file given, every drafter (always-right and always-wrong among
 * them), 1 and 2 threads (or once, on a device), greedy and seeded sampling: are the tokens
 * those of plain decoding? The other lossless verifiers promise that for greedy decoding alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    if (err != FTK_OK) exit(1);
    return s;
}

typedef struct {
    size_t same, differ;
    uint64_t emitted, steps;
} tally;

/* One prompt, one setting: plain decoding on the first engine is the reference for all. */
static void compare(ftk_engine *const engines[2], float temperature, uint64_t seed,
                    const int32_t *prompt, size_t n_prompt, size_t n, tally t[2][N_METHODS])
{
    static run reference, r;
    static int32_t whole[MAX_PROMPT + RUN_MAX];
    ftk_session *s = open_session(engines[0], &methods[0], temperature, seed, NULL);
    if (run_answer(s, prompt, n_prompt, n, &reference) != FTK_OK) exit(1);
    ftk_session_free(s);
    memcpy(whole, prompt, n_prompt * sizeof *whole);
    memcpy(whole + n_prompt, reference.tokens, reference.n * sizeof *whole);
    ftk_test_reference truth = {whole, n_prompt + reference.n};
    for (int e = 0; e < 2 && engines[e]; e++)
        for (int i = 0; i < N_METHODS; i++) {
            if (methods[i].verifier && temperature > 0) continue;
            if (methods[i].name && !ftk_engine_has_drafter(engines[e], methods[i].name)) continue;
            s = open_session(engines[e], &methods[i], temperature, seed, &truth);
            if (run_answer(s, prompt, n_prompt, n, &r) != FTK_OK) exit(1);
            ftk_session_free(s);
            const bool same = r.n == reference.n &&
                              memcmp(r.tokens, reference.tokens, r.n * sizeof *r.tokens) == 0;
            t[e][i].same += same;
            t[e][i].differ += !same;
            t[e][i].emitted += r.stats.emitted;
            t[e][i].steps += r.stats.steps;
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

static size_t check_model(const char *path, const char *file, size_t limit, size_t n,
                          size_t *passed)
{
    ftk_model *m = run_model(path);
    const char *from = beside ? beside : path;
    ftk_engine *const engines[2] = {run_engine(m, 1, device, from),
                                    device ? NULL : run_engine(m, 2, NULL, from)};
    size_t failed = 0;
    prompts p;
    prompts_read(&p, file, limit, MAX_PROMPT - n, m);
    for (int setting = 0; setting < 2; setting++) {
        const float temperature = setting ? 0.8f : 0;
        static tally t[2][N_METHODS];
        memset(t, 0, sizeof t);
        for (size_t i = 0; i < p.n; i++)
            compare(engines, temperature, 1000 + i, p.at[i].tokens, p.at[i].n, n, t);
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

int main(int argc, char **argv)
{
    const char *file = NULL;
    size_t limit = 0, n = 128, passed = 0, failed = 0;
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--prompts") == 0)
            file = argv[i + 1];
        else if (strcmp(argv[i], "--limit") == 0)
            limit = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--tokens") == 0)
            n = strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--beside") == 0)
            beside = argv[i + 1];
        else if (strcmp(argv[i], "--device") == 0)
            device = argv[i + 1];
        else if (!run_take_option(argv[i], argv[i + 1]))
            run_die("%s is unknown: there are --prompts, --limit, --tokens, --beside, --device, "
                    "--lora, --draft-model, --drafter-file and --drafter-layers",
                    argv[i]);
    }
    if (i >= argc || !file || n < 1 || n >= MAX_PROMPT)
        run_die("usage: bench-exact --prompts FILE [--limit N] [--tokens N] [--beside MODEL] "
                "[--device NAME] [--lora FILE]... [--draft-model FILE] [--drafter-file FILE]... "
                "[--drafter-layers L,L,L] MODEL...");
    for (; i < argc; i++) failed += check_model(argv[i], file, limit, n, &passed);
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed != 0;
}
