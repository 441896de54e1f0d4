/* SPDX-License-Identifier: Apache-2.0
 * DASH with parts left out, for benchmarks. */
#ifndef FTK_DASHPARTS_H
#define FTK_DASHPARTS_H

#include <stddef.h>

#include "drafters/dash.h"

/* What stands in the policy's place: the same for every token. */
typedef enum dash_pattern {
    DASH_POLICY, /* nothing does */
    DASH_ALL_FULL,
    DASH_ALL_PARTIAL,
    DASH_EVERY_4TH, /* skipped */
    DASH_EVERY_3RD,
    DASH_EVERY_2ND,
} dash_pattern;

/* Without what FTK_WITHOUT_, FTK_ROWS_ and FTK_DASH_ say, with actions[n_layer] as room for what is
 * fixed. The first two layers and the last stay full. */
ftk_dash_parts dash_parts_make(dash_pattern pattern, unsigned without, int n_layer,
                               uint8_t *actions);

#endif
