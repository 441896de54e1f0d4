/* SPDX-License-Identifier: Apache-2.0
 *
 * What lies between two products of a draft: which nodes get children, what a head reads of them, what it
 * makes of its product. Whole drafts are chains of these and of the kernels of a pass. */
#include "kernels/cuda/device.h"

namespace
{

enum { THREADS = 256, WARPS = THREADS / 32 };

/* Guesses of one depth: those that were known, and the choices of the head before. */
enum {
    CHOICES = FTK_HEAD_NODES * FTK_BEST,
    MOST = FTK_HEAD_KNOWN + CHOICES,
    PICKERS = (MOST + 31) / 32 * 32,
};

struct guess {
    float worth; /* negative: it gets no children */
    int32_t token, row;
};

/* The first bin whose bound is not above p. */
__device__ __forceinline__ int bin_of(const float *bound, float p)
{
    int bin = 0;
    while (bin < FTK_HEAD_BINS - 1 && p < bound[bin]) bin++;
    return bin;
}

/* Choice k of the head before for its node r; one that was known is worth more now, if anything. Two
 * choices never name the same known guess. */
__device__ guess named_by(const ftk_cuda_pick &how, ftk_cuda_draft *d, int r, int k)
{
    const guess none = {-1, 0, -1};
    const int before = how.head - 1;
    if (r >= d->said.n[before] || k >= how.choices) return none;
    const ftk_ranked *const said = &d->said.said[before][how.sees_token ? r : 0];
    if (said->token < 0 || said->best[k] < 0) return none;
    const int32_t token = how.vocab ? how.vocab[said->best[k]] : said->best[k];
    const float rate = d->ask.rate[before][bin_of(d->ask.bound, said->prob[k])];
    const float worth = d->worth[before][r] * rate;
    const int32_t parent = d->said.node[before][r];
    for (int i = 0; i < d->ask.n_known; i++) {
        ftk_known *const other = &d->ask.known[i];
        if (other->parent != parent || other->token != token) continue;
        if (worth > other->worth) other->worth = worth;
        return none;
    }
    return guess{worth, token, r};
}

__device__ guess known_at(const ftk_cuda_pick &how, const ftk_cuda_draft *d, int i)
{
    const guess none = {-1, 0, -1};
    if (i >= d->ask.n_known || d->ask.known[i].depth != how.head) return none;
    const int32_t parent = d->ask.known[i].parent, row = parent < 0 ? -1 : d->row_of[parent];
    const bool linked = !how.chained || !how.sees_token || parent < 0 || row >= 0;
    return linked ? guess{d->ask.known[i].worth, d->ask.known[i].token, row} : none;
}

/* A block of PICKERS threads, one for each guess: see ftk_cuda_draft_pick(). */
__global__ void __launch_bounds__(PICKERS) pick(ftk_cuda_pick how, ftk_cuda_draft *d)
{
    __shared__ float worth[MOST];
    const int i = (int)threadIdx.x, slot = i - FTK_HEAD_KNOWN;
    guess mine = {-1, 0, -1};
    if (how.head == 0 && i < FTK_HEAD_KNOWN) d->row_of[i] = -1;
    if (i < FTK_HEAD_NODES) d->token[i] = d->from[i] = 0;
    if (how.head > 0 && slot >= 0 && slot < CHOICES)
        mine = named_by(how, d, slot / FTK_BEST, slot % FTK_BEST);
    __syncthreads();
    if (i < FTK_HEAD_KNOWN) mine = known_at(how, d, i);
    if (mine.worth < d->ask.least) mine.worth = -1;
    if (i < MOST) worth[i] = mine.worth;
    __syncthreads();
    int rank = 0, n = 0;
    for (int j = 0; j < MOST; j++) {
        n += worth[j] >= 0;
        rank += worth[j] > mine.worth || (worth[j] == mine.worth && j < i);
    }
    if (i == 0) d->said.n[how.head] = n < how.width ? n : how.width;
    if (mine.worth < 0 || rank >= how.width) return;
    const int first = FTK_HEAD_KNOWN + (how.head - 1) * CHOICES;
    d->said.node[how.head][rank] = i < FTK_HEAD_KNOWN ? i : first + slot;
    d->worth[how.head][rank] = mine.worth;
    d->token[rank] = mine.token;
    if (how.head > 0 && how.chained && how.sees_token) d->from[rank] = mine.row;
    if (i < FTK_HEAD_KNOWN) d->row_of[i] = rank;
}

/* The root of the mean square of n numbers and eps, by one block. */
__device__ float size_of(int n, const float *x, float eps)
{
    __shared__ float part[WARPS];
    float sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) sum += x[i] * x[i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
    __syncthreads();
    float all = 0;
    for (int w = 0; w < WARPS; w++) all += part[w];
    __syncthreads();
    return sqrtf(all / (float)n + eps);
}

__global__ void __launch_bounds__(THREADS)
    join(int d, const float *e, float eps, const float *g, const int32_t *from, float *z)
{
    const size_t row = blockIdx.x, n = (size_t)d;
    g += (size_t)from[row] * n;
    z += row * (e ? 2 * n : n);
    if (e) {
        e += row * n;
        const float scale = 1 / size_of(d, e, eps);
        for (int i = (int)threadIdx.x; i < d; i += THREADS) z[i] = e[i] * scale;
        z += n;
    }
    for (int i = (int)threadIdx.x; i < d; i += THREADS) z[i] = g[i];
}

__global__ void __launch_bounds__(THREADS)
    silu_add(size_t n, const float *u, const float *v, float *y)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) y[i] = u[i] + v[i] / (1.0f + expf(-v[i]));
}

__global__ void __launch_bounds__(THREADS) scale_like(int n, const float *like, float eps, float *x)
{
    const float scale = size_of(n, like, 0) / size_of(n, x, eps);
    for (int i = (int)threadIdx.x; i < n; i += THREADS) x[i] *= scale;
}

} // namespace

extern "C" void ftk_cuda_draft_pick(ftk_queue *q, const ftk_cuda_pick *how, ftk_cuda_draft *draft)
{
    FTK_LAUNCH(q, pick, dim3(1), dim3(PICKERS), *how, draft);
}

extern "C" void ftk_cuda_draft_join(ftk_queue *q, int n_rows, int d, const float *e, float eps,
                                    const float *g, const int32_t *from, float *z)
{
    FTK_LAUNCH(q, join, dim3((unsigned)n_rows), dim3(THREADS), d, e, eps, g, from, z);
}

extern "C" void ftk_cuda_silu_add(ftk_queue *q, size_t n, const float *u, const float *v, float *y)
{
    FTK_LAUNCH(q, silu_add, dim3((unsigned)((n + THREADS - 1) / THREADS)), dim3(THREADS), n, u, v,
               y);
}

extern "C" void ftk_cuda_scale_like(ftk_queue *q, int n, const float *like, float eps, float *x)
{
    FTK_LAUNCH(q, scale_like, dim3(1), dim3(THREADS), n, like, eps, x);
}
