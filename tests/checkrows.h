/* SPDX-License-Identifier: Apache-2.0
 * What checkkernels asks of the entries that diffusion transformers added. */
#ifndef FTK_TESTS_CHECKROWS_H
#define FTK_TESTS_CHECKROWS_H

#include "kernelcases.h"

void check_layer_norm(check *c);
void check_gated_add(check *c);
void check_differences(check *c);
/* ftk_attn.columns */
void check_columns(check *c);

#endif
