/* SPDX-License-Identifier: Apache-2.0
 *
 * A policy says what a row does at each layer, by the row's state and what it did before. It is
 * plain numbers, so that a device that runs the layers can go by it too (kernels/cuda/route.cu).
 *
 * With x the state before a layer:
 *
 *     h = relu(in x / rms(x) + past [action before; the one before that; share of the cost spent]
 *              + bias[layer])
 *     action = argmax of out[layer] h + out_bias[layer] */
#ifndef FTK_POLICY_H
#define FTK_POLICY_H

#include "foretoken.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a row does at a layer: it runs the layer, or a copy of it in few bits, or leaves it out:
 * then its state is multiplied by the layer's scale, and the layer's key and value are made of
 * the state all the same, so that later rows find them. Without a copy FTK_PARTIAL is FTK_FULL. */
typedef enum ftk_action { FTK_FULL, FTK_PARTIAL, FTK_SKIP, FTK_ACTIONS } ftk_action;

enum { FTK_POLICY_UNITS = 64, FTK_POLICY_PAST = 2 * FTK_ACTIONS + 1 };
#define FTK_POLICY_EPS 1e-6f /* of rms(x) */

typedef struct ftk_policy {
    int n_layer, n_embd, units; /* 1..FTK_POLICY_UNITS */
    int first, last;         /* layers at the beginning (one at least) and the end that are full */
    bool partial;            /* it may choose FTK_PARTIAL */
    const float *in;         /* [n_embd][units] */
    const float *past;       /* [FTK_POLICY_PAST][units] */
    const float *bias;       /* [n_layer][units] */
    const float *out;        /* [n_layer][FTK_ACTIONS][units] */
    const float *out_bias;   /* [n_layer][FTK_ACTIONS] */
    float cost[FTK_ACTIONS]; /* of a layer, a full one 1 */
    const float *scale;      /* [n_layer][n_embd]; NULL: 1 */
    const uint8_t *fixed; /* [n_layer] actions that are taken whatever the numbers say, or NULL */
} ftk_policy;

/* The ftk_action at a layer, of the state x[n_embd] before it; past[0..layer): those before. */
uint8_t ftk_policy_choose(const ftk_policy *p, int layer, const float *x, const uint8_t *past);

#ifdef __cplusplus
}
#endif
#endif
