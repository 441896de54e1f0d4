/* SPDX-License-Identifier: Apache-2.0
 * What benchmarks may leave out of TR-Jacobi: an unsigned at ftk_drafter_env.test. */
#ifndef FTK_JACOBI_H
#define FTK_JACOBI_H

enum {
    FTK_JACOBI_NO_RETRIEVAL = 1,
    FTK_JACOBI_NO_SUCCESSORS = 2,
};

#endif
