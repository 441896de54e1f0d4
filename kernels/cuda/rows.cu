/* SPDX-License-Identifier: Apache-2.0
 * What is done row by row or number by number. */
#include "kernels/cuda/device.h"

namespace
{

enum { THREADS = 256, WARPS = THREADS / 32 };

/* 2 sqrt(2/pi), and that times 0.044715: see ftk_kernels.gelu_mul. */
#define GELU_1 1.5957691216057308f
#define GELU_3 0.07135481282052458f

/* In double, as in plain C: the square of a float never overflows there. */
__global__ void __launch_bounds__(THREADS)
    rms_norm(ftk_cuda_when when, int heads, int n, const float *x, size_t ldx, const int32_t *index,
             const float *w, float eps, float *y, size_t ldy)
{
    if (left_out(when)) return;
    const int row = (int)blockIdx.x / heads, head = (int)blockIdx.x % heads;
    const size_t from = index ? (size_t)index[row] : (size_t)row;
    x += from * ldx + (size_t)head * (size_t)n;
    y += (size_t)row * ldy + (size_t)head * (size_t)n;
    double sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) sum += (double)x[i] * (double)x[i];
    const float scale = (float)(1.0 / sqrt(block_sum<WARPS>(sum) / n + (double)eps));
    for (int i = (int)threadIdx.x; i < n; i += THREADS) y[i] = x[i] * scale * w[i];
}

__global__ void __launch_bounds__(THREADS)
    rope(ftk_cuda_when when, bool halves, int n_heads, int head_dim, int n_rot, const float *cs,
         const int32_t *pos, float *x, size_t ldx)
{
    if (left_out(when)) return;
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

__global__ void __launch_bounds__(THREADS)
    gate(ftk_cuda_when when, bool gelu, size_t n, float *x, const float *up)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n || left_out(when)) return;
    const float v = x[i], u = gelu ? v * (GELU_1 + GELU_3 * (v * v)) : v;
    x[i] = v / (1.0f + expf(-u)) * (up ? up[i] : 1.0f);
}

__global__ void __launch_bounds__(THREADS)
    add(ftk_cuda_when when, size_t n, const float *x, float *y)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n && !left_out(when)) y[i] += x[i];
}

} // namespace

extern "C" void ftk_cuda_rms_norm(ftk_queue *q, int n_rows, int heads, int n, const float *x,
                                  size_t ldx, const int32_t *index, const float *w, float eps,
                                  float *y, size_t ldy)
{
    FTK_LAUNCH(q, rms_norm, dim3((unsigned)(n_rows * heads)), dim3(THREADS), q->when, heads, n, x,
               ldx, index, w, eps, y, ldy);
}

extern "C" void ftk_cuda_rope(ftk_queue *q, bool halves, int n_rows, int n_heads, int head_dim,
                              int n_rot, const float *cs, const int32_t *pos, float *x, size_t ldx)
{
    FTK_LAUNCH(q, rope, dim3((unsigned)n_rows), dim3(THREADS), q->when, halves, n_heads, head_dim,
               n_rot, cs, pos, x, ldx);
}

extern "C" void ftk_cuda_gate(ftk_queue *q, bool gelu, size_t n, float *x, const float *up)
{
    FTK_LAUNCH(q, gate, dim3(blocks_for(n, THREADS)), dim3(THREADS), q->when, gelu, n, x, up);
}

extern "C" void ftk_cuda_add(ftk_queue *q, size_t n, const float *x, float *y)
{
    FTK_LAUNCH(q, add, dim3(blocks_for(n, THREADS)), dim3(THREADS), q->when, n, x, y);
}
