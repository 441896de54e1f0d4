/* SPDX-License-Identifier: Apache-2.0
 * A file of family firp that suits the demo model. */
#ifndef FTK_TESTS_FIRPFILE_H
#define FTK_TESTS_FIRPFILE_H

#include "support.h"

#include "testkit/ggufwriter.h"

/* Pseudo states that are the state itself, and the root's embedding where `tokens`. */
static inline void write_firp(const char *path, const ftk_model *m, bool tokens)
{
    ftk_model_info info;
    ftk_model_get_info(m, &info);
    const size_t d = (size_t)info.n_embd;
    float *one = calloc(d * d, sizeof *one);
    for (size_t i = 0; i < d; i++) one[i * d + i] = 1;
    gw w;
    gw_init(&w);
    gw_str(&w, "general.architecture", "foretoken-drafter");
    gw_str(&w, "foretoken.drafter.family", "firp");
    gw_str(&w, "foretoken.drafter.base", info.fingerprint);
    gw_u32(&w, "foretoken.drafter.layer", 8);
    gw_u32(&w, "foretoken.drafter.offsets", 2);
    for (int i = 0; i < 2 + 2 * tokens; i++) {
        char name[32];
        snprintf(name, sizeof name, "offset.%d.%s", i % 2, i < 2 ? "weight" : "token");
        gw_tensor(&w, name, 2, (uint64_t[]){d, d}, FTK_TYPE_F32, one, d * d * 4);
    }
    assert_true(gw_end(&w, path));
    free(one);
}

#endif
