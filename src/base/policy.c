/* SPDX-License-Identifier: Apache-2.0
 * What a row does at a layer. */
#include "policy.h"

#include <math.h>
#include <string.h>

/* h = in x / rms(x) */
static void project(const ftk_policy *p, const float *x, float *h)
{
    float part[8] = {0}, sum = 0;
    memset(h, 0, (size_t)p->units * sizeof *h);
    for (int i = 0; i < p->n_embd; i++) {
        const float *w = p->in + (size_t)i * (size_t)p->units;
        part[i % 8] += x[i] * x[i];
        for (int k = 0; k < p->units; k++) h[k] += x[i] * w[k];
    }
    for (int i = 0; i < 8; i++) sum += part[i];
    const float scale = 1 / sqrtf(sum / (float)p->n_embd + FTK_POLICY_EPS);
    for (int k = 0; k < p->units; k++) h[k] *= scale;
}

static void add_past(const ftk_policy *p, int layer, const uint8_t *past, float *h)
{
    float spent = 0;
    for (int l = 0; l < layer; l++) spent += p->cost[past[l]];
    const size_t n = (size_t)p->units;
    const float *one = p->past + past[layer - 1] * n;
    const float *two = p->past + (FTK_ACTIONS + past[layer > 1 ? layer - 2 : 0]) * n;
    const float *share = p->past + 2 * FTK_ACTIONS * n, *bias = p->bias + (size_t)layer * n;
    for (size_t k = 0; k < n; k++)
        h[k] += one[k] + two[k] + share[k] * (spent / (float)p->n_layer) + bias[k];
}

uint8_t ftk_policy_choose(const ftk_policy *p, int layer, const float *x, const uint8_t *past)
{
    if (p->fixed) return p->fixed[layer];
    if (layer < p->first || layer >= p->n_layer - p->last) return FTK_FULL;
    float h[FTK_POLICY_UNITS], best = 0;
    uint8_t action = FTK_FULL;
    project(p, x, h);
    add_past(p, layer, past, h);
    for (uint8_t a = 0; a < FTK_ACTIONS; a++) {
        const size_t at = (size_t)layer * FTK_ACTIONS + a;
        float value = p->out_bias[at];
        for (int k = 0; k < p->units; k++)
            value += h[k] > 0 ? h[k] * p->out[at * (size_t)p->units + (size_t)k] : 0;
        if (a == FTK_PARTIAL && !p->partial) continue;
        if (a == FTK_FULL || value > best) {
            best = value;
            action = a;
        }
    }
    return action;
}
