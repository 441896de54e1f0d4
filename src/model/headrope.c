/* SPDX-License-Identifier: Apache-2.0
 * Frequencies of RoPE. Llama 3: frequencies whose waves are longer than the context that the
 * model was trained for at first are divided by the factor, short ones stay, and those between
 * are blended. YaRN (arXiv 2309.00071): the same by the number of turns within that context. */
#include "model/headconfig.h"

#include <math.h>

static const double turn = 6.283185307179586;

/* The share of the frequency itself that stays beside what is divided. */
static double llama3(const ftk_rope_config *r, double freq)
{
    const double turns = r->original * freq / turn;
    if (turns < r->low) return 0;
    if (turns > r->high) return 1;
    return (turns - r->low) / (r->high - r->low);
}

/* The dimension whose wave makes so many turns. */
static double dimension(const ftk_rope_config *r, int n_rot, double turns)
{
    return n_rot * log(r->original / (turns * turn)) / (2 * log(r->base));
}

static double yarn(const ftk_rope_config *r, int n_rot, int i)
{
    double low = floor(dimension(r, n_rot, r->high)), high = ceil(dimension(r, n_rot, r->low));
    if (low < 0) low = 0;
    if (high > n_rot - 1) high = n_rot - 1;
    if (low == high) high += 0.001;
    const double ramp = (i - low) / (high - low);
    return 1 - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);
}

void ftk_head_rope(const ftk_rope_config *r, int n_rot, float *freq)
{
    for (int i = 0; i < n_rot / 2; i++) {
        const double f = pow(r->base, -2.0 * i / n_rot);
        double stays = r->kind == FTK_ROPE_PLAIN ? 1 : 0;
        if (r->kind == FTK_ROPE_LLAMA3) stays = llama3(r, f);
        if (r->kind == FTK_ROPE_YARN) stays = yarn(r, n_rot, i);
        freq[i] = (float)(stays == 1 ? f : stays * f + (1 - stays) * f / r->factor);
    }
}

double ftk_head_rope_gain(const ftk_rope_config *r)
{
    if (r->kind != FTK_ROPE_YARN) return 1;
    if (r->gain > 0) return r->gain;
    return r->factor <= 1 ? 1 : 0.1 * log(r->factor) + 1;
}
