/* SPDX-License-Identifier: Apache-2.0
 * What tests of adapters share: a folder of their own with models and adapters in it. */
#ifndef FTK_TESTS_LORAFOLDER_H
#define FTK_TESTS_LORAFOLDER_H

#include "support.h"

#include "archmodels.h"
#include "lorafiles.h"

static char folder[] = "lora-XXXXXX";

enum { FILES = 13 };

static const char *const files[FILES] = {"base",
                                         "typed",
                                         "merged",
                                         "floats",
                                         "a",
                                         "b",
                                         "c",
                                         "bad",
                                         "chance",
                                         "split",
                                         "split-00001-of-00003.gguf",
                                         "split-00002-of-00003.gguf",
                                         "split-00003-of-00003.gguf"};

/* The path of one of them; it stays. */
static const char *in(const char *name)
{
    static char paths[FILES][64];
    int i = 0;
    while (i < FILES && strcmp(files[i], name) != 0) i++;
    assert_true(i < FILES);
    snprintf(paths[i], sizeof paths[i], "%s/%s", folder, name);
    return paths[i];
}

static const lf_adapter usual = {.rank = 4, .alpha = 8, .seed = 1, .type = FTK_TYPE_F32};

static void write_arch(const char *path, const char *name)
{
    gw w;
    gw_init(&w);
    am_write(&w, am_find(name));
    assert_true(gw_end(&w, path));
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    for (int i = 0; i < FILES; i++) unlink(in(files[i]));
    return rmdir(folder);
}

#endif
