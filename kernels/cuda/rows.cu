/* SPDX-License-Identifier: Apache-2.0
 * What is done row by row or number by number, and the choice of the likeliest tokens. */
#include "kernels/cuda/device.h"

namespace
{

enum { THREADS = 256, WARPS = THREADS / 32 };

/* 2 sqrt(2/pi), and that times 0.044715: see ftk_kernels.gelu_mul. */
#define GELU_1 1.5957691216057308f
#define GELU_3 0.07135481282052458f

/* In double, as in plain C: the square of a float never overflows there. */
__global__ void __launch_bounds__(THREADS)
    rms_norm(int heads, int n, const float *x, size_t ldx, const int32_t *index, const float *w,
             float eps, float *y, size_t ldy)
{
    __shared__ double part[WARPS];
    const int row = (int)blockIdx.x / heads, head = (int)blockIdx.x % heads;
    const size_t from = index ? (size_t)index[row] : (size_t)row;
    x += from * ldx + (size_t)head * (size_t)n;
    y += (size_t)row * ldy + (size_t)head * (size_t)n;
    double sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) sum += (double)x[i] * (double)x[i];
    for (int m = 16; m > 0; m /= 2) sum += shuffle_xor(sum, m);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
    __syncthreads();
    double all = 0;
    for (int i = 0; i < WARPS; i++) all += part[i];
    const float scale = (float)(1.0 / sqrt(all / n + (double)eps));
    for (int i = (int)threadIdx.x; i < n; i += THREADS) y[i] = x[i] * scale * w[i];
}

__global__ void __launch_bounds__(THREADS)
    rope(bool halves, int n_heads, int head_dim, int n_rot, const float *cs, const int32_t *pos,
         float *x, size_t ldx)
{
    const int half = n_rot / 2;
    cs += (size_t)pos[blockIdx.x] * (size_t)n_rot;
    x += (size_t)blockIdx.x * ldx;
    for (int i = (int)threadIdx.x; i < n_heads * half; i += THREADS) {
        const int p = i % half, from = i / half * head_dim;
        float *at = x + from + (halves ? p : 2 * p);
        float *to = at + (halves ? half : 1);
        const float c = cs[halves ? p : 2 * p], s = cs[halves ? p + half : 2 * p + 1];
        const float a = *at, b = *to;
        *at = a * c - b * s;
        *to = a * s + b * c;
    }
}

__global__ void __launch_bounds__(THREADS) gate(bool gelu, size_t n, float *x, const float *up)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    const float v = x[i], u = gelu ? v * (GELU_1 + GELU_3 * (v * v)) : v;
    x[i] = v / (1.0f + expf(-u)) * up[i];
}

__global__ void __launch_bounds__(THREADS) add(size_t n, const float *x, float *y)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) y[i] += x[i];
}

/* A place in the order of the largest: by value, then by index. */
struct place {
    float v;
    int i;
};

__device__ __forceinline__ bool before(place a, place b)
{
    return a.v > b.v || (a.v == b.v && a.i < b.i);
}

__device__ __forceinline__ place first_of(place a, int mask)
{
    const place b = {shuffle_xor(a.v, mask), shuffle_xor(a.i, mask)};
    return before(b, a) ? b : a;
}

enum { EACH = 8, PIECE = THREADS * EACH }; /* numbers of a thread, of a block */

/* The k first of a piece of a row, a round for each: every thread holds EACH numbers, and the first of
 * those behind the last one found is looked for. ids NULL: x is the row itself, an id is a place in it.
 * Leaves -1 where a piece has fewer, and, for its first, -2 where the piece holds what is no logit. */
__global__ void __launch_bounds__(THREADS) top_k(int n, int k, const float *x, const int32_t *ids,
                                                 int n_pieces, float *values, int32_t *found)
{
    __shared__ place part[WARPS];
    __shared__ uint32_t spoilt[WARPS];
    const int piece = (int)blockIdx.x, row = (int)blockIdx.y, warp = (int)threadIdx.x / 32;
    x += (size_t)row * (size_t)n;
    place mine[EACH];
    bool bad = false;
    FTK_UNROLL
    for (int e = 0; e < EACH; e++) {
        const int i = piece * PIECE + e * THREADS + (int)threadIdx.x;
        mine[e] = place{-INFINITY, -1};
        if (i < n) mine[e] = place{x[i], ids ? ids[(size_t)row * (size_t)n + (size_t)i] : i};
        bad |= !(mine[e].v < INFINITY) || mine[e].i == -2;
    }
    const uint32_t who = lanes_that(bad);
    const size_t out = ((size_t)row * (size_t)n_pieces + (size_t)piece) * (size_t)k;
    place last = {INFINITY, -1};
    for (int round = 0; round < k; round++) {
        place best = {-INFINITY, INT32_MAX};
        FTK_UNROLL
        for (int e = 0; e < EACH; e++)
            if (mine[e].i >= 0 && before(last, mine[e]) && before(mine[e], best)) best = mine[e];
        for (int m = 16; m > 0; m /= 2) best = first_of(best, m);
        if (threadIdx.x % 32 == 0) {
            part[warp] = best;
            spoilt[warp] = who;
        }
        __syncthreads();
        bad = false;
        for (int w = 0; w < WARPS; w++) {
            if (before(part[w], best)) best = part[w];
            bad |= spoilt[w] != 0;
        }
        if (threadIdx.x == 0) {
            found[out + (size_t)round] = bad && round == 0 ? -2 : best.i < INT32_MAX ? best.i : -1;
            values[out + (size_t)round] = best.v;
        }
        last = best;
        __syncthreads();
    }
}

/* What is left of rows that are no rows of logits: -1. */
__global__ void __launch_bounds__(THREADS)
    refuse(int n_rows, int k, const float *values, int32_t *ids)
{
    const int row = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (row >= n_rows) return;
    const size_t at = (size_t)row * (size_t)k;
    if (ids[at] < 0 || values[at] == -INFINITY) ids[at] = -1;
}

int pieces_of(int n)
{
    return (n + PIECE - 1) / PIECE;
}

dim3 blocks_for(size_t n)
{
    return dim3((unsigned)((n + THREADS - 1) / THREADS));
}

} // namespace

extern "C" void ftk_cuda_rms_norm(ftk_queue *q, int n_rows, int heads, int n, const float *x,
                                  size_t ldx, const int32_t *index, const float *w, float eps,
                                  float *y, size_t ldy)
{
    FTK_LAUNCH(q, rms_norm, dim3((unsigned)(n_rows * heads)), dim3(THREADS), heads, n, x, ldx,
               index, w, eps, y, ldy);
}

extern "C" void ftk_cuda_rope(ftk_queue *q, bool halves, int n_rows, int n_heads, int head_dim,
                              int n_rot, const float *cs, const int32_t *pos, float *x, size_t ldx)
{
    FTK_LAUNCH(q, rope, dim3((unsigned)n_rows), dim3(THREADS), halves, n_heads, head_dim, n_rot, cs,
               pos, x, ldx);
}

extern "C" void ftk_cuda_gate(ftk_queue *q, bool gelu, size_t n, float *x, const float *up)
{
    FTK_LAUNCH(q, gate, blocks_for(n), dim3(THREADS), gelu, n, x, up);
}

extern "C" void ftk_cuda_add(ftk_queue *q, size_t n, const float *x, float *y)
{
    FTK_LAUNCH(q, add, blocks_for(n), dim3(THREADS), n, x, y);
}

/* Two lists of k for each piece of each row, as one level of the search reads what the other wrote. */
extern "C" size_t ftk_cuda_top_k_bytes(int n_rows, int n, int k)
{
    return (size_t)n_rows * (size_t)pieces_of(n) * (size_t)k * 2 *
           (sizeof(float) + sizeof(int32_t));
}

extern "C" void ftk_cuda_top_k(ftk_queue *q, int n_rows, int n, int k, const float *x, void *room,
                               int32_t *ids)
{
    const size_t half = (size_t)n_rows * (size_t)pieces_of(n) * (size_t)k;
    float *values = static_cast<float *>(room);
    int32_t *found = reinterpret_cast<int32_t *>(values + 2 * half);
    const int32_t *from = nullptr;
    for (int level = 0;; level++) {
        const int n_pieces = pieces_of(n);
        float *to_values = values + level % 2 * half;
        int32_t *to = n_pieces == 1 ? ids : found + level % 2 * half;
        const dim3 grid((unsigned)n_pieces, (unsigned)n_rows);
        FTK_LAUNCH(q, top_k, grid, dim3(THREADS), n, k, x, from, n_pieces, to_values, to);
        x = to_values;
        if (n_pieces == 1) break;
        from = to;
        n = n_pieces * k;
    }
    FTK_LAUNCH(q, refuse, blocks_for((size_t)n_rows), dim3(THREADS), n_rows, k, x, ids);
}
