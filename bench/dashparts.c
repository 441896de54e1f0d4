/* SPDX-License-Identifier: Apache-2.0
 * DASH with parts left out. */
#include "dashparts.h"

#include <string.h>

#include "base/target.h"

enum { FIRST = 2, LAST = 1 };

ftk_dash_parts dash_parts_make(dash_pattern pattern, unsigned without, int n_layer,
                               uint8_t *actions)
{
    static const int every[] = {[DASH_EVERY_4TH] = 4, [DASH_EVERY_3RD] = 3, [DASH_EVERY_2ND] = 2};
    memset(actions, FTK_FULL, (size_t)n_layer);
    for (int l = FIRST; l < n_layer - LAST; l++) {
        if (pattern == DASH_ALL_PARTIAL) actions[l] = FTK_PARTIAL;
        if (pattern >= DASH_EVERY_4TH && (l - FIRST + 1) % every[pattern] == 0)
            actions[l] = FTK_SKIP;
    }
    return (ftk_dash_parts){.without = without, .fixed = pattern == DASH_POLICY ? NULL : actions};
}
