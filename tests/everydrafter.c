/* SPDX-License-Identifier: Apache-2.0 */
#include "everydrafter.h"

#include <stdio.h>
#include <string.h>

#include "archmodels.h"
#include "drafters/dash.h"
#include "eaglefiles.h"
#include "engine/session.h"

enum { N_HEADS = 4, MAX_PATH = 512 };

static const char *const demo = FTK_MODELS_DIR "/foretoken-demo-q8_0.gguf";
static char small[MAX_PATH], smaller[MAX_PATH], head[N_HEADS][MAX_PATH];

static bool write_model(const char *path, const char *name)
{
    gw w;
    gw_init(&w);
    am_write(&w, am_find(name));
    return gw_end(&w, path);
}

int ed_write(const char *name)
{
    static const char *const heads[N_HEADS] = {"eagle3", "dflash", "dspark", "medusa"};
    const ef_how how = {.layout = EF_EAGLE};
    snprintf(small, sizeof small, FTK_BUILT_DIR "/%s-small.gguf", name);
    snprintf(smaller, sizeof smaller, FTK_BUILT_DIR "/%s-smaller.gguf", name);
    for (int i = 0; i < N_HEADS; i++)
        snprintf(head[i], sizeof head[i], FTK_BUILT_DIR "/%s-%s", name, heads[i]);
    return write_model(small, "llama") && write_model(smaller, "qwen3") &&
                   ef_write(head[0], ef_find("plain"), &how) &&
                   ef_write_block(head[1], false, &how) && ef_write_block(head[2], true, &how) &&
                   ef_write_medusa(head[3], &how)
               ? 0
               : -1;
}

const char *ed_path(ed_place where)
{
    return where == ED_DEMO ? demo : small;
}

ftk_err ed_add(ftk_engine *e, ed_place where)
{
    int found;
    if (where == ED_DEMO) {
        const ftk_err err = ftk_engine_find_drafters(e, demo, &found);
        return err == FTK_OK ? ftk_engine_add_draft_model(e, demo) : err;
    }
    ftk_err err = ftk_engine_add_draft_model(e, smaller);
    for (int i = 0; i < N_HEADS && err == FTK_OK; i++) err = ftk_engine_add_drafter(e, head[i]);
    return err;
}

int ed_drafters(const ftk_engine *e, const char **names)
{
    int n = 0;
    for (const char *const *name = ftk_drafters(); *name && n < ED_MAX_DRAFTERS; name++)
        if (strcmp(*name, "none") != 0 && ftk_engine_has_drafter(e, *name)) names[n++] = *name;
    return n;
}

ftk_err ed_prompt(const ftk_model *m, ed_place where, int which, int32_t *tokens, size_t *n)
{
    static const char *const text[ED_PROMPTS] = {"Once upon a time",
                                                 "one two one two one two one two one",
                                                 "The king",
                                                 "a a a a a a a a a",
                                                 "Tell me a story about a dog",
                                                 "A dog and a cat went",
                                                 "There was a little girl who",
                                                 "He said: \"I am",
                                                 "1, 2, 3, 4, 5,",
                                                 "The sun",
                                                 "Mum and Dad",
                                                 "It was a dark night, and",
                                                 "b",
                                                 "In the garden there was a tree. In the tree",
                                                 "Why",
                                                 "Then they all"};
    if (where == ED_DEMO)
        return ftk_tokenize(m, text[which], strlen(text[which]), FTK_TOK_BOS, tokens, ED_MAX_PROMPT,
                            n);
    *n = (size_t)(3 + 11 * which % 50);
    for (size_t i = 0; i < *n; i++) tokens[i] = 3 + ((int)i * (7 + which) + which) % 250;
    return FTK_OK;
}

static ftk_err open_at(ftk_session **out, ftk_engine *e, ed_place where, const char *drafter,
                       int budget, int which, bool always)
{
    static ftk_dash_parts parts = {.without = FTK_ROWS_ALWAYS}; /* others look at the first of it */
    static const char *const greedy[] = {"exact", "reject", "traversal"};
    ftk_session_config cfg;
    ftk_session_config_init(&cfg);
    cfg.drafter = drafter;
    cfg.budget = budget;
    cfg.n_ctx = ED_CONTEXT;
    cfg.ignore_end = true;
    if (which % 2)
        cfg.sampling.temperature = 0.4f + 0.1f * (float)which;
    else
        cfg.verifier = greedy[which / 2 % 3];
    cfg.sampling.seed = (uint64_t)which;
    int32_t tokens[ED_MAX_PROMPT];
    size_t n;
    const int family = ftk_drafter_index(drafter, strlen(drafter));
    ftk_err err = always ? ftk_session_open_with(out, e, &cfg, ftk_drafter_list[family], &parts)
                         : ftk_session_open(out, e, &cfg);
    if (err != FTK_OK) return err;
    err = ed_prompt(e->model, where, which, tokens, &n);
    if (err == FTK_OK) err = ftk_session_append(*out, tokens, n);
    if (err == FTK_OK) return FTK_OK;
    ftk_session_free(*out);
    *out = NULL;
    return err;
}

ftk_err ed_open(ftk_session **out, ftk_engine *e, ed_place where, const char *drafter, int budget,
                int which)
{
    return open_at(out, e, where, drafter, budget, which, false);
}

bool ed_has_rows(const char *drafter)
{
    const int i = ftk_drafter_index(drafter, strlen(drafter)); /* auto: -1 */
    return i >= 0 && (ftk_drafter_list[i]->check || ftk_drafter_list[i]->wants & FTK_WANT_MODEL);
}

ftk_err ed_open_always(ftk_session **out, ftk_engine *e, ed_place where, const char *drafter,
                       int budget, int which)
{
    return open_at(out, e, where, drafter, budget, which, true);
}
