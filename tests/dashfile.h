/* SPDX-License-Identifier: Apache-2.0
 * A file of family dash that suits a model. */
#ifndef FTK_TESTS_DASHFILE_H
#define FTK_TESTS_DASHFILE_H

#include "support.h"

#include "base/policy.h"
#include "model/model.h"
#include "testkit/ggufwriter.h"

enum { DASH_UNITS = 5, DASH_ITEMS = 6, DASH_KEYS = 6 };

static const char *const dash_keys[DASH_KEYS] = {
    "foretoken.drafter.hidden",  "foretoken.drafter.first",        "foretoken.drafter.last",
    "foretoken.drafter.partial", "foretoken.drafter.cost.partial", "foretoken.drafter.cost.skip"};

/* A policy of random numbers, the same blind to what was done before, or one that never leaves
 * anything out. */
typedef enum dash_kind { DASH_RANDOM, DASH_BY_STATE, DASH_ALL_FULL } dash_kind;

static inline float dash_noise(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / (1 << 24) - 0.5f;
}

static inline void write_dash(const char *path, const ftk_model *m, dash_kind kind)
{
    static const uint32_t values[DASH_KEYS] = {DASH_UNITS, 2, 1, 1, 600, 100};
    const int d = m->hp.n_embd, n_layer = m->hp.n_layer;
    const struct {
        const char *name;
        int n;
    } all[DASH_ITEMS] = {{"policy.in", d * DASH_UNITS},
                         {"policy.past", FTK_POLICY_PAST * DASH_UNITS},
                         {"policy.bias", n_layer * DASH_UNITS},
                         {"policy.out", n_layer * FTK_ACTIONS * DASH_UNITS},
                         {"policy.out_bias", n_layer * FTK_ACTIONS},
                         {"scale", n_layer * d}};
    uint32_t seed = 12;
    gw w;
    gw_init(&w);
    gw_str(&w, "general.architecture", "foretoken-drafter");
    gw_str(&w, "foretoken.drafter.family", "dash");
    gw_str(&w, "foretoken.drafter.base", m->fingerprint);
    for (int i = 0; i < DASH_KEYS; i++) gw_u32(&w, dash_keys[i], values[i]);
    float *v = calloc((size_t)n_layer * (size_t)d, sizeof *v);
    for (int i = 0; i < DASH_ITEMS; i++) {
        for (int j = 0; j < all[i].n; j++) {
            v[j] = i == 5 ? 1 + 0.1f * dash_noise(&seed) : dash_noise(&seed);
            if (i == 1 && kind == DASH_BY_STATE) v[j] = 0;
            if (i == 4)
                v[j] = j % FTK_ACTIONS == FTK_FULL ? (kind == DASH_ALL_FULL ? 100 : 0.3f) : 0;
        }
        gw_tensor(&w, all[i].name, 1, &(uint64_t){(uint64_t)all[i].n}, FTK_TYPE_F32, v,
                  (size_t)all[i].n * sizeof *v);
    }
    assert_true(gw_end(&w, path));
    free(v);
}

#endif
