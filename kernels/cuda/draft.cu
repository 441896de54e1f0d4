/* SPDX-License-Identifier: Apache-2.0
 *
 * What lies between two products of a draft: which nodes get children, what a head reads of
 * them, what it makes of its product; and the tree of all guesses, as rows of the pass that
 * verifies it. Whole drafts are chains of these and of the kernels of a pass. */
#include "kernels/cuda/device.h"

namespace
{

enum { THREADS = 256, WARPS = THREADS / 32 };

/* Guesses of one depth: those that were known, and the choices of the head before. */
enum {
    CHOICES = FTK_HEAD_NODES * FTK_BEST,
    MOST = FTK_HEAD_KNOWN + CHOICES,
    PICKERS = (MOST + 31) / 32 * 32,
    PLANTERS = FTK_HEAD_SLOTS, /* one for each guess */
};
static_assert(PLANTERS % 32 == 0 && PLANTERS <= 1024, "a block");
static_assert((int)FTK_MAX_NODES <= (int)PLANTERS, "a thread for each node");

/* The first bin whose bound is not above p. */
__device__ __forceinline__ int bin_of(const float *bound, float p)
{
    int bin = 0;
    while (bin < FTK_HEAD_BINS - 1 && p < bound[bin]) bin++;
    return bin;
}

/* Choice k of a head for its node r; one that was known has a larger share now, if anything. Two
 * choices never name the same known guess. */
__device__ ftk_cuda_guess named_by(const ftk_cuda_pick &how, ftk_cuda_draft *d, int head, int r,
                                   int k)
{
    const ftk_cuda_guess none = {-1, 0, -1, 0, 0};
    if (r >= d->said.n[head] || k >= how.choices) return none;
    const ftk_ranked *const said =
        (const ftk_ranked *)d->said.said + head * how.apart + (how.sees_token ? r : 0);
    if (said->token < 0 || said->best[k] < 0) return none;
    const int32_t token = how.vocab ? how.vocab[said->best[k]] : said->best[k];
    const float rate = d->ask.rate[head][bin_of(d->ask.bound, said->prob[k])];
    const int32_t parent = d->said.node[head][r];
    for (int i = 0; i < d->ask.n_known; i++) {
        ftk_known *const other = &d->ask.known[i];
        if (other->parent != parent || other->token != token) continue;
        other->sources++;
        if (rate > other->share) other->share = rate;
        return none;
    }
    return {d->all[parent].worth * rate, token, parent, rate, 1};
}

/* What the guesses of a depth are worth, where those above it have their worths: those that a
 * head names, then those that were known. By all threads of a block, one for each. */
__device__ void weigh(const ftk_cuda_pick &how, int n_heads, int depth, ftk_cuda_draft *d)
{
    const int i = (int)threadIdx.x, slot = i - FTK_HEAD_KNOWN, head = depth - 1;
    if (head >= 0 && head < n_heads && slot >= 0 && slot < CHOICES)
        d->all[FTK_HEAD_KNOWN + head * CHOICES + slot] =
            named_by(how, d, head, slot / FTK_BEST, slot % FTK_BEST);
    if (depth == 0 && i < FTK_HEAD_KNOWN) d->row_of[i] = -1;
    __syncthreads();
    if (i < d->ask.n_known && d->ask.known[i].depth == depth) {
        const ftk_known *const k = &d->ask.known[i];
        const float above = k->parent >= 0 ? d->all[k->parent].worth : 1;
        d->all[i] = {above * k->share, k->token, k->parent, k->share, k->sources};
    }
}

/* See ftk_cuda_draft_pick(): by a block of PICKERS threads or more, one for each guess of the
 * depth. */
__device__ void choose(const ftk_cuda_pick &how, int head, ftk_cuda_draft *d)
{
    __shared__ float worth[MOST];
    const bool linked = how.chained && how.sees_token;
    const int i = (int)threadIdx.x, before = FTK_HEAD_KNOWN + (head - 1) * CHOICES;
    if (i < FTK_HEAD_NODES) d->token[i] = d->from[i] = 0;
    weigh(how, head, head, d);
    __syncthreads();
    int slot = -1, row = -1;
    if (i < FTK_HEAD_KNOWN) {
        const ftk_known *const k = &d->ask.known[i];
        if (i < d->ask.n_known && k->depth == head) {
            row = k->parent < 0 ? -1 : d->row_of[k->parent];
            if (!linked || k->parent < 0 || row >= 0) slot = i;
        }
    } else if (i < MOST && head > 0) {
        slot = before + i - FTK_HEAD_KNOWN;
        row = (i - FTK_HEAD_KNOWN) / FTK_BEST;
    }
    float mine = slot >= 0 ? d->all[slot].worth : -1;
    if (mine < d->ask.least) mine = -1;
    if (i < MOST) worth[i] = mine;
    __syncthreads();
    int rank = 0, n = 0;
    for (int j = 0; j < MOST; j++) {
        n += worth[j] >= 0;
        rank += worth[j] > mine || (worth[j] == mine && j < i);
    }
    if (i == 0) d->said.n[head] = n < how.width ? n : how.width;
    if (mine < 0 || rank >= how.width) return;
    d->said.node[head][rank] = slot;
    d->token[rank] = d->all[slot].token;
    if (head > 0 && linked) d->from[rank] = row;
    if (i < FTK_HEAD_KNOWN) d->row_of[i] = rank;
}

__global__ void __launch_bounds__(PICKERS) pick(ftk_cuda_pick how, ftk_cuda_draft *d)
{
    choose(how, how.head, d);
}

/* How guess i stands beside its siblings, among `end` guesses. */
__device__ ftk_beside stands(const float *share, const int16_t *parent, int end, int i, int sources)
{
    float rival = 0;
    for (int j = 0; j < end; j++) {
        if (parent[j] != parent[i] || j == i || share[j] < 0) continue;
        if (share[j] > share[i] || (share[j] == share[i] && j < i)) return FTK_BEHIND;
        if (share[j] > rival) rival = share[j];
    }
    if (sources > 1) return FTK_AGREED;
    return rival > FTK_NEARLY * share[i] ? FTK_RIVALLED : FTK_ALONE;
}

/* What guess i is worth beside others, from what those above it are; share -1: it is not there.
 * By all threads of a block. */
__device__ void weigh_beside(const ftk_cuda_draft *d, int n_heads, int end, float *share,
                             const int16_t *parent, float *worth)
{
    const int i = (int)threadIdx.x;
    const bool there = share[i] >= 0;
    float mine = share[i];
    if (there && parent[i] >= 0) {
        const ftk_beside how = stands(share, parent, end, i, d->all[i].sources);
        mine *= d->ask.comes[bin_of(d->ask.bound, mine)][how];
        if (!(mine < 1)) mine = 1;
    }
    worth[i] = there ? mine : -1;
    const int known = i < d->ask.n_known ? d->ask.known[i].depth : 0;
    const int depth = i < FTK_HEAD_KNOWN ? known : (i - FTK_HEAD_KNOWN) / CHOICES + 1;
    const int deepest = d->ask.deepest > n_heads ? d->ask.deepest : n_heads;
    for (int at = 1; at <= deepest; at++) {
        __syncthreads();
        if (there && depth == at) worth[i] = worth[parent[i]] * mine;
    }
    __syncthreads();
}

/* A chain has of each node's children the best, and no other guess. By all threads of a block. */
__device__ void keep_best(const int16_t *parent, int end, float *worth)
{
    __shared__ bool leads[PLANTERS];
    const int i = (int)threadIdx.x;
    bool best = worth[i] >= 0;
    for (int j = 0; j < end && best; j++)
        best = parent[j] != parent[i] || worth[j] < worth[i] || (worth[j] == worth[i] && j >= i);
    leads[i] = best;
    __syncthreads();
    for (int up = i; up >= 0 && best; up = parent[up]) best = leads[up];
    if (!best) worth[i] = -1;
    __syncthreads();
}

/* Whether guess a becomes a node before b, where both are worth the same: nodes come best first,
 * of equal ones those first whose parents do, then those that were there first. */
__device__ bool before(const float *worth, const int16_t *parent, int a, int b)
{
    for (;;) {
        const int up_a = parent[a], up_b = parent[b];
        if (up_a == up_b) return a < b;
        if (up_a < 0 || up_b < 0) return up_a < 0;
        if (worth[up_a] != worth[up_b]) return worth[up_a] > worth[up_b];
        a = up_a;
        b = up_b;
    }
}

/* Fills the tree's n and pay, as ftk_sizing has it. By all threads of a block. */
__device__ void cut(ftk_cuda_draft *d, int there)
{
    __shared__ double rate[FTK_MAX_NODES]; /* tokens a second, of so many nodes */
    const ftk_sizing *const s = &d->size;
    const int i = (int)threadIdx.x;
    if (i < there) rate[i] = (double)d->tree.node[i].prob;
    __syncthreads();
    if (i == 0)
        for (int j = 1; j < there; j++) rate[j] += rate[j - 1];
    __syncthreads();
    if (i < there) rate[i] = (s->others + rate[i]) / s->seconds[i];
    __syncthreads();
    if (i > 0) return;
    int n = s->all ? there - 1 : 0;
    for (int j = 1; j < there && !s->all; j++)
        if (rate[j] > rate[n]) n = j;
    d->tree.there = there;
    d->tree.pay = n;
    if (n == 0) n = s->probe < there ? s->probe : there - 1;
    d->tree.n = 1 + (n < s->room ? n : s->room);
}

/* Row i, which was that of node i of a chain, if it is there. By all threads of a block. */
__device__ void lay_row(const ftk_cuda_rows &rows, const ftk_planted *t, const int16_t *up_of,
                        int i, bool there)
{
    uint64_t low = 0, high = 0;
    int depth = i;
    if (i < t->n) {
        depth = -1;
        for (int up = i; up >= 0; up = up_of[up], depth++) {
            const uint64_t bit = (uint64_t)1 << up % 64;
            low |= up < 64 ? bit : 0;
            high |= up < 64 ? 0 : bit;
        }
    }
    ftk_cuda_draw draw = {};
    int32_t pos = 0;
    if (there) draw = rows.draw[depth];
    if (there) pos = rows.pos[depth];
    __syncthreads(); /* all have read where others write */
    if (!there) return;
    rows.draw[i] = draw;
    rows.pos[i] = pos;
    rows.token[i] = i < t->n ? t->node[i].token : 0;
    rows.mask[i][0] = low;
    rows.mask[i][1] = high;
}

/* A block of PLANTERS threads, one for each guess, then one for each node: see
 * ftk_cuda_draft_plant(). */
__global__ void __launch_bounds__(PLANTERS, 1)
    plant(ftk_cuda_pick how, int n_heads, ftk_cuda_rows rows, ftk_cuda_draft *d)
{
    __shared__ float share[PLANTERS], worth[PLANTERS];
    __shared__ int16_t parent[PLANTERS], node_of[PLANTERS];
    __shared__ int16_t guess_of[FTK_MAX_NODES], up_of[FTK_MAX_NODES];
    const int i = (int)threadIdx.x;
    for (int head = how.head; head < n_heads; head++) {
        choose(how, head, d);
        __syncthreads();
    }
    for (int depth = n_heads; depth == n_heads || depth <= d->ask.deepest; depth++) {
        weigh(how, n_heads, depth, d);
        __syncthreads();
    }
    const int all = FTK_HEAD_KNOWN + n_heads * CHOICES;
    const bool there = (i < FTK_HEAD_KNOWN ? i < d->ask.n_known : i < all) && d->all[i].worth >= 0;
    share[i] = there ? d->all[i].share : -1;
    parent[i] = (int16_t)(there ? d->all[i].parent : -1);
    __syncthreads();
    weigh_beside(d, n_heads, all, share, parent, worth);
    if (d->size.chain) keep_best(parent, all, worth);
    const float mine = worth[i];
    int rank = 0, n = 0;
    const int end = mine >= 0 || i < FTK_MAX_NODES ? all : 0;
    for (int j = 0; j < end; j++) {
        n += worth[j] >= 0;
        rank += worth[j] > mine || (mine >= 0 && worth[j] == mine && before(worth, parent, j, i));
    }
    if (n > d->size.most + 1) n = d->size.most + 1;
    node_of[i] = (int16_t)rank;
    if (mine >= 0 && rank < n) guess_of[rank] = (int16_t)i;
    __syncthreads();
    if (i < n) {
        const int guess = guess_of[i], up = parent[guess];
        up_of[i] = (int16_t)(up >= 0 ? node_of[up] : -1);
        d->tree.node[i] = {d->all[guess].token, worth[guess], up_of[i]};
    }
    __syncthreads();
    cut(d, n);
    __syncthreads();
    lay_row(rows, &d->tree, up_of, i, i <= d->size.room);
    if (i > 0) return;
    rows.span->n_rows = d->tree.n;
    rows.span->n_slots = rows.span->prefix + d->tree.n;
}

/* The root of the mean square of n numbers and eps, by one block. */
__device__ float size_of(int n, const float *x, float eps)
{
    float sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) sum += x[i] * x[i];
    return sqrtf(block_sum<WARPS>(sum) / (float)n + eps);
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

extern "C" void ftk_cuda_draft_plant(ftk_queue *q, const ftk_cuda_pick *how, int n_heads,
                                     const ftk_cuda_rows *rows, ftk_cuda_draft *draft)
{
    FTK_LAUNCH(q, plant, dim3(1), dim3(PLANTERS), *how, n_heads, *rows, draft);
}

extern "C" void ftk_cuda_draft_join(ftk_queue *q, int n_rows, int d, const float *e, float eps,
                                    const float *g, const int32_t *from, float *z)
{
    FTK_LAUNCH(q, join, dim3((unsigned)n_rows), dim3(THREADS), d, e, eps, g, from, z);
}

extern "C" void ftk_cuda_silu_add(ftk_queue *q, size_t n, const float *u, const float *v, float *y)
{
    FTK_LAUNCH(q, silu_add, dim3(blocks_for(n, THREADS)), dim3(THREADS), n, u, v, y);
}

extern "C" void ftk_cuda_scale_like(ftk_queue *q, int n, const float *like, float eps, float *x)
{
    FTK_LAUNCH(q, scale_like, dim3(1), dim3(THREADS), n, like, eps, x);
}
