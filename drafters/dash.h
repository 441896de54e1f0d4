/* SPDX-License-Identifier: Apache-2.0
 * What benchmarks may leave out of DASH, to show what it is worth: at ftk_drafter_env.test. */
#ifndef FTK_DASH_H
#define FTK_DASH_H

#include <stdint.h>

/* Beside those of drafter.h: */
enum {
    FTK_DASH_NO_SCALE = 16, /* skipped layers leave the state as it is */
};

typedef struct ftk_dash_parts {
    unsigned without;
    const uint8_t *fixed; /* [n_layer] the same ftk_action for every token; NULL: the policy's */
    uint64_t *taken; /* [FTK_ACTIONS] counts the layers of all rows by action; NULL: nobody asks */
} ftk_dash_parts;

#endif
