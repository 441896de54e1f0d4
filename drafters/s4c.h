/* SPDX-License-Identifier: Apache-2.0
 * What benchmarks may leave out of S4C, to show what it is worth: an unsigned at
 * ftk_drafter_env.test. */
#ifndef FTK_S4C_H
#define FTK_S4C_H

enum {
    FTK_S4C_NO_RETRIEVAL = 1,
    FTK_S4C_NO_SUCCESSORS = 2,
};

#endif
