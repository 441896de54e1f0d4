/* SPDX-License-Identifier: Apache-2.0
 * What benchmarks may leave out of token recycling: an unsigned at ftk_drafter_env.test. */
#ifndef FTK_RECYCLE_H
#define FTK_RECYCLE_H

enum { FTK_RECYCLE_NO_RETRIEVAL = 1 };

#endif
