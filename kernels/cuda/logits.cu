/* SPDX-License-Identifier: Apache-2.0
 *
 * From rows of logits to tokens: the likeliest ones, how probable they are, and one that is drawn.
 *
 * A token is drawn by its weight w = exp((x - largest) / temperature) among those that top-k,
 * min-p and top-p leave, as base/sampler.c does it; only that the order in which weights are
 * laid side by side, so that one uniform number points at one of them, is always that of the
 * ids. Weights are summed as multiples of 2^-40, whole numbers, whose sums are the same in any
 * order; so nothing is sorted: top-k and top-p are a search for the number that divides those
 * within from those without. */
#include "kernels/cuda/device.h"

namespace
{

enum { THREADS = 256, WARPS = THREADS / 32 };

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

/* The k first of a piece of a row, a round for each: every thread holds EACH numbers, and the
 * first of those behind the last one found is looked for. ids NULL: x is the row itself, an id
 * is a place in it. Leaves -1 where a piece has fewer, and, for its first, -2 where the piece
 * holds what is no logit. */
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

/* ------------------------------------------------------------------ drawing */

enum { MANY = 1024, CREWS = MANY / 32 }; /* threads of a row, and their warps */

typedef unsigned long long mass; /* of tokens: their number, or their weight in 2^-40 */

/* v[j] of all threads, to all of them. */
template <int N> __device__ void block_total(mass v[N])
{
    __shared__ mass part[N][CREWS];
    for (int j = 0; j < N; j++) {
        const mass own = warp_sum(v[j]);
        if (threadIdx.x % 32 == 0) part[j][threadIdx.x / 32] = own;
    }
    __syncthreads();
    for (int j = 0; j < N; j++) {
        v[j] = 0;
        for (int w = 0; w < CREWS; w++) v[j] += part[j][w];
    }
    __syncthreads();
}

/* The sum of f(i) over [0, n). */
template <typename F> __device__ mass total_of(int n, F f)
{
    mass sum[1] = {0};
    FTK_UNROLL_4
    for (int i = (int)threadIdx.x; i < n; i += MANY) sum[0] += f(i);
    block_total<1>(sum);
    return sum[0];
}

/* The first i at which f(0) + ... + f(i) is more than target, which is less than the sum of all.
 * Each warp sums a run of its own; the one whose run holds the place looks there again. */
template <typename F> __device__ int place_of(int n, mass target, F f)
{
    __shared__ mass part[CREWS];
    __shared__ mass piece[32];
    __shared__ int found;
    const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    const int run = (n + MANY - 1) / MANY * 32;
    const int begin = warp * run, end = begin + run < n ? begin + run : n;
    mass own = 0;
    FTK_UNROLL_4
    for (int i = begin + lane; i < end; i += 32) own += f(i);
    own = warp_sum(own);
    if (lane == 0) part[warp] = own;
    __syncthreads();
    mass before = 0;
    for (int w = 0; w < warp; w++) before += part[w];
    if (before <= target && target < before + own) {
        int first = begin;
        for (;; first += 32) {
            const mass here = first + lane < end ? f(first + lane) : 0;
            const mass all = warp_sum(here);
            if (target < before + all) {
                piece[lane] = here;
                break;
            }
            before += all;
        }
        __syncwarp();
        int i = 0;
        for (mass sum = before + piece[0]; sum <= target; sum += piece[i]) i++;
        if (lane == 0) found = first + i;
    }
    __syncthreads();
    const int at = found;
    __syncthreads();
    return at;
}

/* Those with a larger key, and of those with this very one those up to an index. */
struct division {
    uint32_t key;
    int last;
    __device__ bool holds(uint32_t k, int i) const
    {
        return k > key || (k == key && i <= last);
    }
};

/* The fewest of the largest keys, ties to the lower index, that make up `need`, which is not
 * more than all. key(i) is 0 for what does not count, mass_of() goes by the key. Bits of the key
 * are found two at a time, the highest first. */
template <typename K, typename M> __device__ division divide(int n, mass need, K key, M mass_of)
{
    uint32_t least = 0;
    for (int shift = 30; shift >= 0; shift -= 2) {
        mass from[3] = {0, 0, 0};
        FTK_UNROLL_4
        for (int i = (int)threadIdx.x; i < n; i += MANY) {
            const uint32_t k = key(i);
            const mass m = mass_of(k);
            FTK_UNROLL
            for (uint32_t d = 1; d <= 3; d++)
                if (k >= least + (d << shift)) from[d - 1] += m;
        }
        block_total<3>(from);
        uint32_t digit = 0;
        for (int d = 0; d < 3; d++) digit += from[d] >= need;
        least += digit << shift;
    }
    const mass above = total_of(n, [&](int i) {
        const uint32_t k = key(i);
        return k > least ? mass_of(k) : 0;
    });
    const mass each = mass_of(least), rest = (need - above + each - 1) / each;
    const int last = place_of(n, rest - 1, [&](int i) -> mass { return key(i) == least; });
    return division{least, last};
}

/* Whole numbers in the order of the logits. */
__device__ __forceinline__ uint32_t key_of(float x)
{
    const uint32_t bits = float_bits(x + 0.0f); /* -0 is 0 */
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* Weights are not negative, so their bits are in their order. */
__device__ __forceinline__ mass mass_of_weight(uint32_t bits)
{
    return (mass)(bits_float(bits) * 0x1p40f);
}

/* What is left of a row when top-k, top-p and min-p have been there. */
struct candidates {
    const float *x;
    float top, temperature;
    division by_logit, by_weight;
    float least; /* weight, of what top-p has left */

    /* Bits of the weight, before top-p. */
    __device__ uint32_t weight(int i) const
    {
        const float d = (x[i] - top) / temperature;
        if (!(d > -80)) return 0;
        return by_logit.holds(key_of(x[i]), i) ? float_bits(expf(d)) : 0;
    }
    __device__ mass operator()(int i) const
    {
        const uint32_t w = weight(i);
        return by_weight.holds(w, i) && bits_float(w) >= least ? mass_of_weight(w) : 0;
    }
};

/* Of a total, as sums of doubles would have it. */
__device__ __forceinline__ mass share(double part, mass total)
{
    return (mass)(part * (double)total);
}

__device__ int draw(int n, const float *x, float top, const ftk_cuda_draw &how)
{
    candidates c = {x, top, how.temperature, {0, n}, {0, n}, 0};
    if (how.top_k > 0 && how.top_k < n)
        c.by_logit = divide(
            n, (mass)how.top_k, [&](int i) { return key_of(x[i]); },
            [](uint32_t) -> mass { return 1; });
    mass total = total_of(n, c);
    if (how.top_p < 1) {
        mass need = share(how.top_p, total);
        need += (double)need < (double)how.top_p * (double)total;
        if (need == 0) need = 1;
        c.by_weight = divide(
            n, need, [&](int i) { return c.weight(i); }, mass_of_weight);
        total = total_of(n, c);
    }
    if (how.min_p > 0) {
        c.least = how.min_p;
        total = total_of(n, c);
    }
    const mass target = share(how.uniform, total);
    return place_of(n, target < total ? target : total - 1, c);
}

/* A block for each row: see ftk_cuda_rank(). */
__global__ void __launch_bounds__(MANY)
    rank(int n, int k, const float *x, const ftk_cuda_draw *draws, const int32_t *ids, int32_t *out)
{
    const size_t row = blockIdx.x;
    x += row * (size_t)n;
    ids += row * (size_t)k;
    out += row * (size_t)(1 + 2 * k);
    const int first = ids[0];
    const float top = first < 0 ? 0 : x[first];
    float sum = 0;
    if (first >= 0) {
        FTK_UNROLL_4
        for (int i = (int)threadIdx.x; i < n; i += MANY) sum += expf(x[i] - top);
    }
    const float all = block_sum<CREWS>(sum);
    if ((int)threadIdx.x < k) {
        const int id = ids[threadIdx.x];
        out[1 + threadIdx.x] = id;
        const float p = first < 0 || id < 0 ? 0 : expf(x[id] - top) / all;
        out[1 + k + (int)threadIdx.x] = (int32_t)float_bits(p);
    }
    int token = first;
    if (first >= 0 && draws && draws[row].temperature > 0) token = draw(n, x, top, draws[row]);
    if (threadIdx.x == 0) out[0] = token;
}

int pieces_of(int n)
{
    return (int)blocks_for(n, PIECE);
}

} // namespace

/* Two lists of k for each piece of each row, as one level of the search reads what the other
 * wrote. */
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
    FTK_LAUNCH(q, refuse, dim3(blocks_for(n_rows, THREADS)), dim3(THREADS), n_rows, k, x, ids);
}

extern "C" void ftk_cuda_rank(ftk_queue *q, int n_rows, int n, int k, const float *x,
                              const ftk_cuda_draw *draws, const int32_t *ids, int32_t *out)
{
    FTK_LAUNCH(q, rank, dim3((unsigned)n_rows), dim3(MANY), n, k, x, draws, ids, out);
}
