/* SPDX-License-Identifier: Apache-2.0
 * Floats to the block types, for test models: plain rounding to the range of each block, no search
 * for better scales. */
#ifndef FTK_QUANTISE_H
#define FTK_QUANTISE_H

#include "kernels/kernels.h"

/* One block of ftk_type_block() floats to ftk_type_bytes() bytes, aligned to 2; any type the
 * kernels run. */
void quantise(ftk_type type, const float *x, unsigned char *out);

#endif
