/* SPDX-License-Identifier: Apache-2.0
 * What tests of heads share: the target's file, and heads beside it. EAGLE_TEST is defined before:
 * what their names begin with, as tests run side by side. */
#ifndef FTK_TESTS_EAGLEHEADS_H
#define FTK_TESTS_EAGLEHEADS_H

#include "support.h"

#include "archmodels.h"
#include "eaglefiles.h"

#define FOLDER FTK_BUILT_DIR "/"
#define TARGET FOLDER EAGLE_TEST "-target.gguf"
#define HEAD   FOLDER EAGLE_TEST "-head"

static char said[1024];
static int n_lines;

static void keep_log(void *ctx, ftk_log_level level, const char *line)
{
    (void)ctx;
    if (level == FTK_LOG_WARN) return;
    snprintf(said, sizeof said, "%s", line);
    n_lines++;
}

static int write_target(void **state)
{
    (void)state;
    gw w;
    gw_init(&w);
    am_write(&w, am_find("llama"));
    return gw_end(&w, TARGET) ? 0 : -1;
}

static ftk_model *load_quietly(void)
{
    ftk_model_config cfg;
    ftk_model_config_init(&cfg);
    cfg.host.log = keep_log;
    ftk_model *m;
    assert_int_equal(ftk_model_load(&m, TARGET, &cfg), FTK_OK);
    return m;
}

static const char *written(const char *name, const ef_how *how)
{
    static char path[512];
    snprintf(path, sizeof path, HEAD "%s", how->layout == EF_GGUF ? ".gguf" : "");
    assert_true(ef_write(path, ef_find(name), how));
    return path;
}

static const char *folder_of(const char *drafter, const ef_how *how)
{
    static char path[512];
    const bool medusa = strcmp(drafter, "medusa") == 0;
    snprintf(path, sizeof path, HEAD "%s", how->layout == EF_GGUF ? ".gguf" : "");
    assert_true(medusa ? ef_write_medusa(path, how)
                       : ef_write_block(path, strcmp(drafter, "dspark") == 0, how));
    return path;
}

#endif
