/* SPDX-License-Identifier: Apache-2.0
 * Which kernel level a model runs at when nobody asked for one. */
#ifndef FTK_LEVEL_H
#define FTK_LEVEL_H

#include "foretoken.h"
#include "kernels/kernels.h"

/* *k is the best level of this machine. Where that is AMX, it and the level below multiply a
 * made-up matrix of this type and width by some rows, by many and by a piece of a prompt; if
 * that takes AMX clearly longer, *k becomes the other. So a machine always decides alike. A few
 * milliseconds. Errors: NOMEM. */
ftk_err ftk_level_choose(ftk_kernels *k, ftk_type type, int n_in, const ftk_host *h);

#endif
