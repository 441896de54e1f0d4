/* SPDX-License-Identifier: Apache-2.0
 *
 * What diffusion transformers have beside products, gates and attention: norms with modulation,
 * gated sums of outputs that are new, kept or forecast, what a cache chooses tokens by, and how
 * far a forecast is off. What a row does in a branch is read from a list, so that samples with
 * plans of their own go through one launch. */
#include "kernels/cuda/device.h"

namespace
{

enum { THREADS = 256, WARP = 32, WARPS = THREADS / WARP };

__device__ __forceinline__ const float *vector_of(const ftk_cuda_states &s, int row, int which)
{
    return s.seq[row / s.n_tokens].modulation + (size_t)which * (size_t)s.n_embd;
}

/* A row a block; in double, as in plain C. */
__global__ void __launch_bounds__(THREADS)
    norm(ftk_cuda_states s, int shift, float eps, float *y)
{
    const int row = (int)blockIdx.x, n = s.n_embd, at = s.at ? s.at[row] : row;
    if (at < 0) return;
    const float *x = s.x + (size_t)row * (size_t)n;
    const float *add = vector_of(s, row, shift), *scale = vector_of(s, row, shift + 1);
    double sum = 0, square = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) sum += (double)x[i];
    const double mean = block_sum<WARPS>(sum) / n;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        square += ((double)x[i] - mean) * ((double)x[i] - mean);
    const double by = 1.0 / sqrt(block_sum<WARPS>(square) / n + (double)eps);
    y += (size_t)at * (size_t)n;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        y[i] = (float)(((double)x[i] - mean) * by) * (1.0f + scale[i]) + add[i];
}

/* A number a thread. */
__global__ void __launch_bounds__(THREADS)
    add_branch(ftk_cuda_states s, int gate, int block, const float *out)
{
    const int row = (int)blockIdx.x, i = (int)(blockIdx.y * THREADS + threadIdx.x), at = s.at[row];
    if (i >= s.n_embd || at == FTK_CUDA_RESTS) return;
    const ftk_cuda_dit &seq = s.seq[row / s.n_tokens];
    const size_t n = (size_t)s.n_embd;
    const size_t token = (size_t)block * (size_t)s.n_tokens + (size_t)(row % s.n_tokens);
    float *d = seq.kept ? seq.kept + token * (size_t)seq.orders * n + (size_t)i : nullptr;
    float v;
    if (at >= 0) {
        v = out[(size_t)at * n + (size_t)i];
        float next = v;
        for (int o = 0; d && o <= seq.keep; o++, d += n) {
            const float old = *d;
            *d = next;
            next = (next - old) / seq.step;
        }
    } else {
        const int order = at == FTK_CUDA_FORECASTS ? seq.order : 0;
        v = d[0];
        for (int o = 1; o <= order; o++) v += seq.coef[o] * d[(size_t)o * n];
    }
    s.x[(size_t)row * n + (size_t)i] += vector_of(s, row, gate)[i] * v;
}

/* ---- scores of tokens */

struct heads {
    int n_tokens, n_head, head_dim;
    float scale;
    const float *q, *kv;
};

__device__ __forceinline__ float score_of(const heads &h, int row, int head, int key)
{
    const size_t c = (size_t)h.n_head * (size_t)h.head_dim, at = (size_t)head * (size_t)h.head_dim;
    const float *q = h.q + (size_t)row * c + at, *k = h.kv + (size_t)key * 2 * c + at;
    float sum = 0;
    for (int i = 0; i < h.head_dim; i++) sum = fmaf(q[i], k[i], sum);
    return sum * h.scale;
}

/* Of a row and head the largest score, and the sum of exponentials below it: a warp each. */
__global__ void __launch_bounds__(THREADS) softmax_ends(heads h, float *ends)
{
    const int lane = (int)threadIdx.x % WARP;
    const int item = (int)blockIdx.x * WARPS + (int)threadIdx.x / WARP;
    if (item >= h.n_tokens * h.n_head) return;
    const int row = item / h.n_head, head = item % h.n_head;
    float top = -INFINITY, sum = 0;
    for (int k = lane; k < h.n_tokens; k += WARP) {
        const float s = score_of(h, row, head, k), higher = fmaxf(top, s);
        sum = (k == lane ? 0.0f : sum * expf(top - higher)) + expf(s - higher);
        top = higher;
    }
    const float most = warp_max(top);
    sum = warp_sum(lane < h.n_tokens ? sum * expf(top - most) : 0.0f);
    if (lane != 0) return;
    ends[item * 2] = most;
    ends[item * 2 + 1] = sum;
}

/* A token a block. */
__global__ void __launch_bounds__(THREADS) received(heads h, const float *ends, float *scores)
{
    const int token = (int)blockIdx.x;
    double sum = 0;
    for (int item = (int)threadIdx.x; item < h.n_tokens * h.n_head; item += THREADS) {
        const float s = score_of(h, item / h.n_head, item % h.n_head, token);
        sum += (double)(expf(s - ends[item * 2]) / ends[item * 2 + 1]);
    }
    const double all = block_sum<WARPS>(sum);
    if (threadIdx.x == 0) scores[token] = (float)(all / h.n_head);
}

/* A warp a token, a head a lane. */
__global__ void __launch_bounds__(THREADS) short_values(heads h, float *scores)
{
    const int lane = (int)threadIdx.x % WARP;
    const int token = (int)blockIdx.x * WARPS + (int)threadIdx.x / WARP;
    if (token >= h.n_tokens) return;
    const size_t c = (size_t)h.n_head * (size_t)h.head_dim;
    const float *value = h.kv + (size_t)token * 2 * c + c;
    double sum = 0;
    for (int head = lane; head < h.n_head; head += WARP) {
        double square = 0;
        for (int i = 0; i < h.head_dim; i++) {
            const double v = (double)value[(size_t)head * (size_t)h.head_dim + (size_t)i];
            square += v * v;
        }
        sum += 1 - sqrt(square);
    }
    sum = warp_sum(sum);
    if (lane == 0) scores[token] = (float)sum;
}

/* ---- checks */

__global__ void __launch_bounds__(THREADS)
    offby(ftk_cache_metric metric, size_t n, const float *y, const float *x, const float *before,
          ftk_offby *parts)
{
    ftk_offby s = {0, 0, 0};
    const size_t first = (size_t)blockIdx.x * THREADS + threadIdx.x;
    for (size_t i = first; i < n; i += (size_t)FTK_CUDA_OFFBY_PARTS * THREADS)
        ftk_offby_add(metric, (double)y[i], (double)x[i], (double)before[i], &s);
    s.a = block_sum<WARPS>(s.a);
    s.b = block_sum<WARPS>(s.b);
    s.c = block_sum<WARPS>(s.c);
    if (threadIdx.x == 0) parts[blockIdx.x] = s;
}

} // namespace

extern "C" void ftk_cuda_dit_norm(ftk_queue *q, const ftk_cuda_states *s, int shift, float eps,
                                  float *y)
{
    FTK_LAUNCH(q, norm, dim3((unsigned)s->n_rows), dim3(THREADS), *s, shift, eps, y);
}

extern "C" void ftk_cuda_dit_add(ftk_queue *q, const ftk_cuda_states *s, int gate, int block,
                                 const float *out)
{
    const dim3 grid((unsigned)s->n_rows, blocks_for(s->n_embd, THREADS));
    FTK_LAUNCH(q, add_branch, grid, dim3(THREADS), *s, gate, block, out);
}

extern "C" void ftk_cuda_dit_received(ftk_queue *q, int n_tokens, int n_head, int head_dim,
                                      float scale, const float *queries, const float *kv,
                                      float *room, float *scores)
{
    const heads h = {n_tokens, n_head, head_dim, scale, queries, kv};
    FTK_LAUNCH(q, softmax_ends, dim3(blocks_for(n_tokens * n_head, WARPS)), dim3(THREADS), h, room);
    FTK_LAUNCH(q, received, dim3((unsigned)n_tokens), dim3(THREADS), h, room, scores);
}

extern "C" void ftk_cuda_dit_values(ftk_queue *q, int n_tokens, int n_head, int head_dim,
                                    const float *kv, float *scores)
{
    const heads h = {n_tokens, n_head, head_dim, 0, nullptr, kv};
    FTK_LAUNCH(q, short_values, dim3(blocks_for(n_tokens, WARPS)), dim3(THREADS), h, scores);
}

extern "C" void ftk_cuda_dit_offby(ftk_queue *q, ftk_cache_metric metric, size_t n, const float *y,
                                   const float *x, const float *before, ftk_offby *parts)
{
    FTK_LAUNCH(q, offby, dim3(FTK_CUDA_OFFBY_PARTS), dim3(THREADS), metric, n, y, x, before, parts);
}
