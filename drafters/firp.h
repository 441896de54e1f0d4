/* SPDX-License-Identifier: Apache-2.0
 * What benchmarks and tests may choose of FIRP: an unsigned at ftk_drafter_env.test. */
#ifndef FTK_FIRP_H
#define FTK_FIRP_H

enum {
    FTK_FIRP_NO_RETRIEVAL = 1,
    FTK_FIRP_NO_FUSED = 2,
    FTK_FIRP_NO_SPLIT = 4,
    FTK_FIRP_FOUR_JOIN = 8, /* rows of the four likeliest nodes join, whatever that costs */
    FTK_FIRP_NO_SUCCESSORS = 16,
};

#endif
