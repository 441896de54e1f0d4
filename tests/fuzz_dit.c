/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target of diffusion transformers: any bytes as a file. What loads, and is small, also
 * runs two steps, with a cache that the length of the file chooses. */
#include "fuzzing.h"

#include <stdlib.h>

#include "ditmodel.h"
#include "foretoken_diffusion.h"

static void run(const ftk_dit *m, size_t size, const int *n_errors)
{
    const char *const *names = ftk_caches();
    ftk_cache_config cache;
    ftk_diffusion_config cfg;
    ftk_cache_config_init(&cache);
    ftk_diffusion_config_init(&cfg);
    cache.name = names[size % 6];
    cache.threshold = 0;
    cfg.cache = &cache;
    cfg.threads = 1;
    cfg.steps = 2;
    const int before = *n_errors;
    ftk_diffusion *d;
    ftk_err err = ftk_diffusion_open(&d, m, &cfg);
    if ((err == FTK_OK) != (d != NULL)) abort();
    const int32_t label = 0;
    const uint64_t seed = size;
    if (d) err = ftk_diffusion_begin(d, &label, &seed, NULL, 1);
    while (err == FTK_OK && ftk_diffusion_left(d) > 0) err = ftk_diffusion_step(d);
    if (*n_errors - before != (err != FTK_OK)) abort();
    ftk_diffusion_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int n_errors;
    ftk_dit_config cfg;
    ftk_dit_config_init(&cfg);
    cfg.host = *fuzz_host(&n_errors);
    cfg.kernels = "ref";
    ftk_dit *m;
    const ftk_err err = ftk_dit_load(&m, fuzz_file(data, size), &cfg);
    if ((err == FTK_OK) != (m != NULL) || n_errors != (err != FTK_OK)) abort();
    if (m) {
        ftk_dit_info info;
        ftk_dit_get_info(m, &info);
        for (int i = -1; i <= info.n_classes && i < 100; i++) (void)ftk_dit_class_name(m, i);
        if (info.n_tokens <= 64 && info.n_classes <= 1000) run(m, size, &n_errors);
    }
    ftk_dit_free(m);
    return 0;
}

/* ------------------------------------------------------------------ seeds */

bool fuzz_seed(size_t i, gw_bytes *out)
{
    static const ftk_type types[] = {FTK_TYPE_F32, FTK_TYPE_F16, FTK_TYPE_BF16, FTK_TYPE_Q8_0};
    if (i >= 4) return false;
    static const ftk_str names[] = {{"a", 1}, {"", 0}, {"ccc", 3}};
    const dm_model m = {.layers = 1 + (int)i % 2,
                        .dim = i == 3 ? 32 : 8,
                        .heads = 2,
                        .ffn = i == 3 ? 32 : 12,
                        .patch = 1 + (int)i % 2,
                        .size = 2,
                        .channels = 1,
                        .out_channels = 1 + (int)i % 2,
                        .classes = 3,
                        .type = types[i],
                        .l2c_steps = i == 1 ? 2 : 0};
    gw w;
    gw_init(&w);
    dm_write(&w, &m);
    if (i == 2) gw_str_array(&w, "dit.class_names", 3, names);
    *out = gw_finish(&w);
    gw_free(&w);
    return true;
}
