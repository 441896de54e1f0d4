/* SPDX-License-Identifier: Apache-2.0
 *
 * What a row does at a layer, as base/policy.c has it: one block, which reads the state and the
 * projection once. Its answer stays in device memory, where the layer's kernels look whether
 * they are meant (ftk_cuda_when). */
#include "kernels/cuda/device.h"

namespace
{

enum { THREADS = 1024, WARPS = THREADS / 32, BLOCK = 256 };

__device__ __forceinline__ float cost_of(const ftk_policy &p, int action)
{
    return action == FTK_FULL      ? p.cost[FTK_FULL]
           : action == FTK_PARTIAL ? p.cost[FTK_PARTIAL]
                                   : p.cost[FTK_SKIP];
}

/* Thread t has numbers t, t + step ... of the projection, all of one unit, as step is a multiple of
 * their number; then a thread a unit adds up. */
__device__ void project(const ftk_policy &p, const float *x, float *unit)
{
    __shared__ float part[THREADS], square[WARPS];
    const int t = (int)threadIdx.x, groups = THREADS / p.units, step = groups * p.units;
    float h = 0, sum = 0;
    if (t < step) {
        const float *w = p.in + t;
        FTK_UNROLL_4
        for (int i = t / p.units; i < p.n_embd; i += groups, w += step) h += x[i] * *w;
    }
    for (int i = t; i < p.n_embd; i += THREADS) sum += x[i] * x[i];
    sum = warp_sum(sum);
    part[t] = h;
    if (t % 32 == 0) square[t / 32] = sum;
    __syncthreads();
    if (t >= p.units) return;
    float all = 0;
    h = 0;
    for (int w = 0; w < WARPS; w++) all += square[w];
    for (int g = 0; g < groups; g++) h += part[g * p.units + t];
    unit[t] = h * (1 / sqrtf(all / (float)p.n_embd + FTK_POLICY_EPS));
}

/* What the units get besides, and what is left of them. */
__device__ void add_past(const ftk_policy &p, int layer, const uint8_t *actions, float *unit)
{
    const int t = (int)threadIdx.x;
    float spent = 0;
    for (int l = t % 32; l < layer; l += 32) spent += cost_of(p, actions[l]);
    spent = warp_sum(spent);
    if (t >= p.units) return;
    const int one = actions[layer - 1], two = actions[layer > 1 ? layer - 2 : 0];
    const float *past = p.past + t;
    const float h = unit[t] + past[one * p.units] + past[(FTK_ACTIONS + two) * p.units] +
                    past[2 * FTK_ACTIONS * p.units] * (spent / (float)p.n_layer) +
                    p.bias[(size_t)layer * (size_t)p.units + (size_t)t];
    unit[t] = h > 0 ? h : 0;
}

__global__ void __launch_bounds__(THREADS)
    choose(ftk_policy p, const ftk_cuda_route *r, int layer, const float *x, uint8_t *actions)
{
    __shared__ float unit[FTK_POLICY_UNITS], value[FTK_ACTIONS];
    const int t = (int)threadIdx.x, warp = t / 32, lane = t % 32;
    if (r->fixed || layer < p.first || layer >= p.n_layer - p.last) {
        if (t == 0) actions[layer] = r->fixed ? p.fixed[layer] : (uint8_t)FTK_FULL;
        return;
    }
    project(p, x, unit);
    add_past(p, layer, actions, unit);
    __syncthreads();
    if (warp < FTK_ACTIONS) {
        const size_t row = (size_t)layer * FTK_ACTIONS + (size_t)warp;
        float sum = 0;
        for (int k = lane; k < p.units; k += 32)
            sum += unit[k] * p.out[row * (size_t)p.units + (size_t)k];
        sum = warp_sum(sum);
        if (lane == 0) value[warp] = p.out_bias[row] + sum;
    }
    __syncthreads();
    if (t > 0) return;
    int action = FTK_FULL;
    if (p.partial && value[FTK_PARTIAL] > value[action]) action = FTK_PARTIAL;
    if (value[FTK_SKIP] > value[action]) action = FTK_SKIP;
    actions[layer] = (uint8_t)action;
}

__global__ void __launch_bounds__(BLOCK)
    leave_out(ftk_cuda_when when, ftk_policy p, const ftk_cuda_route *r, int layer, float *x)
{
    const int i = (int)(blockIdx.x * BLOCK + threadIdx.x);
    if (i < p.n_embd && r->scaled && !left_out(when))
        x[i] *= p.scale[(size_t)layer * (size_t)p.n_embd + (size_t)i];
}

} // namespace

extern "C" void ftk_cuda_choose(ftk_queue *q, const ftk_policy *p, const ftk_cuda_route *route,
                                int layer, const float *x, uint8_t *actions)
{
    FTK_LAUNCH(q, choose, dim3(1), dim3(THREADS), *p, route, layer, x, actions);
}

extern "C" void ftk_cuda_leave_out(ftk_queue *q, const ftk_policy *p, const ftk_cuda_route *route,
                                   int layer, float *x)
{
    FTK_LAUNCH(q, leave_out, dim3(blocks_for(p->n_embd, BLOCK)), dim3(BLOCK), q->when, *p, route,
               layer, x);
}
