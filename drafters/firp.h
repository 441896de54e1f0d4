/* SPDX-License-Identifier: Apache-2.0
 * What benchmarks and tests may choose of FIRP: an unsigned at ftk_drafter_env.test. */
#ifndef FTK_FIRP_H
#define FTK_FIRP_H

enum {
    FTK_FIRP_NO_RETRIEVAL = 1,
    FTK_FIRP_NO_SUCCESSORS = 2,
    FTK_FIRP_FUSED = 4, /* that schedule, as with FTK_TREE_PAPER */
};

#endif
