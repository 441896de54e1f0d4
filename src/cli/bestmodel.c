/* SPDX-License-Identifier: Apache-2.0
 * The model that is used where none is named: the best one of models/. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

#ifndef FTK_MODELS_DIR
#define FTK_MODELS_DIR ""
#endif

static const char bundled[] = "foretoken-demo-q8_0.gguf";
static const char bundled_dit[] = "foretoken-demo-dit.gguf";

/* The best first. A base model goes on with a text, but was not taught to answer. */
static const struct {
    const char *file;
    bool answers;
} models[] = {
    {"SmolLM2-135M-Instruct.Q4_1.gguf", true},
    {"gemma-3-270m-Q4_K_M.gguf", false},
    {bundled, true},
};

enum { N_MODELS = sizeof models / sizeof models[0] };

/* The best of one folder. */
static bool find_in(const char *folder, const cli_options *o, char *path, size_t cap)
{
    if (o->command == CLI_IMAGE) {
        const int n = snprintf(path, cap, "%s/%s", folder, bundled_dit);
        return n > 0 && (size_t)n < cap && access(path, R_OK) == 0;
    }
    const bool chat = o->command == CLI_CHAT || o->command == CLI_SERVE || o->chat;
    for (size_t i = o->demo ? N_MODELS - 1 : 0; i < N_MODELS; i++) {
        if (chat && !models[i].answers) continue;
        const int len = snprintf(path, cap, "%s/%s", folder, models[i].file);
        if (len > 0 && (size_t)len < cap && access(path, R_OK) == 0) return true;
    }
    return false;
}

/* The models of an installed program lie beside it. */
static bool find_installed(const cli_options *o, char *path, size_t cap)
{
    static const char models_dir[] = "/../share/foretoken/models";
    char folder[4096 + sizeof models_dir];
    const ssize_t n = readlink("/proc/self/exe", folder, 4096);
    folder[n > 0 ? n : 0] = 0;
    char *slash = strrchr(folder, '/');
    if (!slash) return false;
    memcpy(slash, models_dir, sizeof models_dir);
    return find_in(folder, o, path, cap);
}

int cli_best_model(const cli_options *o, char *path, size_t cap)
{
    if (!find_installed(o, path, cap) && !find_in(FTK_MODELS_DIR, o, path, cap)) {
        cli_say("the bundled model %s was not found; name a model with -m MODEL",
                o->command == CLI_IMAGE ? bundled_dit : bundled);
        return CLI_FAILED;
    }
    if ((o->command == CLI_CHAT || o->command == CLI_SERVE) && !o->demo)
        cli_say("the model is %s; another one with -m MODEL", path);
    return CLI_DONE;
}
