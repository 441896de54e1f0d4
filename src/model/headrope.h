/* SPDX-License-Identifier: Apache-2.0
 * Frequencies of RoPE as the configurations of transformers describe them. */
#ifndef FTK_HEADROPE_H
#define FTK_HEADROPE_H

#include "model/headconfig.h"

/* freq[n_rot / 2], in radians a position: as transformers' modeling_rope_utils.py computes them. */
void ftk_head_rope(const ftk_rope_config *r, int n_rot, float *freq);
/* What cosines and sines are multiplied by. */
double ftk_head_rope_gain(const ftk_rope_config *r);

#endif
