/* SPDX-License-Identifier: Apache-2.0
 * What checkkernels asks of elementwise entries: norms, RoPE, gates, sums, conversions. */
#ifndef FTK_TESTS_CHECKELEMENTS_H
#define FTK_TESTS_CHECKELEMENTS_H

#include "kernelcases.h"

void check_rms_norm(check *c);
void check_rope(check *c);
void check_rope_halves(check *c);
void check_gelu_mul(check *c);
void check_silu_mul(check *c);
void check_add(check *c);
void check_halves(check *c);
void check_kv_store(check *c);

#endif
