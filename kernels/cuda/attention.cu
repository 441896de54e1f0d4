/* SPDX-License-Identifier: Apache-2.0
 *
 * Tree attention. A block takes one KV head, one chunk of 256 keys and 16 pairs of an activation
 * row and a query head of the group, so that a key is read once for 16 pairs. A second kernel
 * merges the chunks of each pair.
 *
 * Everything counts in the row's logical order (ftk_attn): the prefix, then the row's ancestors.
 * A chunk is 256 places of that order, a step 32 of them; a step's keys are one a lane. Steps
 * that lie in the prefix are the same keys for all pairs and are done for all of them at once;
 * in others each row has keys of its own, and they are done row by row. Either way a pair goes
 * through the same operations on the same numbers, whatever the other pairs see, and wherever a
 * key is stored. Keys that a pair does not see are not multiplied by zero but left out. */
#include "kernels/blocks.h"
#include "kernels/cuda/device.h"

namespace
{

enum {
    STEP = 32, /* keys, one a lane */
    WARPS = 4,
    THREADS = WARPS * STEP,
    MERGE_THREADS = 128,
    MOST_NODES = 128,
};

/* A row's keys: [first, n) of its logical order. */
struct seen {
    int first, n;
};

__device__ __forceinline__ seen keys_of(const uint64_t (*mask)[2], int row, int prefix, int window)
{
    seen s;
    s.n = prefix + __popcll(mask[row][0]) + __popcll(mask[row][1]);
    s.first = window > 0 && s.n > window ? s.n - window : 0;
    return s;
}

struct job {
    ftk_cuda_when when;
    const ftk_cuda_span *span;
    int row0, n_rows, n_head, group, window, n_chunks;
    float scale;
    const float *q;
    float *out;
    const uint64_t (*mask)[2];
    float *sums; /* [n_rows][n_head][n_chunks][2]: largest score, sum of exponentials */
    float *acc;  /* [n_rows][n_head][n_chunks][head_dim] */
};

/* Pairs of a block: what shared memory has room for beside the keys of a step. */
__host__ __device__ constexpr int pairs_of(int type, int dim)
{
    return type != FTK_TYPE_F16 && dim > 128 ? 8 : 16;
}

/* Numbers of a word of 4 bytes, in which a thread holds a part of a key or value: F16 as they
 * are; Q8_0 as floats. */
__host__ __device__ constexpr int per_word(int type)
{
    return type == FTK_TYPE_F16 ? 2 : 1;
}

__host__ __device__ constexpr size_t row_bytes_of(int type, int dim)
{
    return type == FTK_TYPE_Q8_0 ? (size_t)(dim / FTK_QBLOCK) * sizeof(ftk_q8_0)
                                 : (size_t)dim * 4 / (size_t)per_word(type);
}

/* Word w of a key or value that lies at `row`. */
template <int TYPE> __device__ __forceinline__ uint32_t load_word(const char *row, int w)
{
    if constexpr (TYPE != FTK_TYPE_Q8_0) {
        return reinterpret_cast<const uint32_t *>(row)[w];
    } else {
        const ftk_q8_0 *b = reinterpret_cast<const ftk_q8_0 *>(row) + w / FTK_QBLOCK;
        return float_bits(half_float(b->d) * (float)b->q[w % FTK_QBLOCK]);
    }
}

/* Rows of this launch that are there. */
__device__ __forceinline__ int rows_of(const job &j)
{
    const int left = j.span->n_rows - j.row0;
    return left < j.n_rows ? left : j.n_rows;
}

/* Where a pair of the launch leaves what it found in a chunk. */
__device__ __forceinline__ size_t cell_of(const job &j, int head_kv, int pair, int chunk)
{
    const int head = head_kv * j.group + pair % j.group;
    return ((size_t)(pair / j.group) * (size_t)j.n_head + (size_t)head) * (size_t)j.n_chunks +
           (size_t)chunk;
}

template <int TYPE> __device__ __forceinline__ float element(uint32_t word, int i)
{
    return per_word(TYPE) == 2 ? half_float((uint16_t)(word >> 16 * i)) : bits_float(word);
}

/* Keys of one step to shared memory. row_of: where each key's row lies from `keys_at` on. */
template <int TYPE>
__device__ __forceinline__ void fetch_keys(const char *keys_at, int words, int n_keys,
                                           const size_t *row_of, uint32_t *keys)
{
    const int lane = (int)threadIdx.x % STEP;
    for (int k = (int)threadIdx.x / STEP; k < n_keys; k += WARPS) {
        const char *key = keys_at + row_of[k];
        for (int w = lane; w < words; w += STEP)
            keys[k * (words | 1) + w] = load_word<TYPE>(key, w);
    }
}

template <int TYPE, int DIM>
__global__ void __launch_bounds__(THREADS) attend_chunk(job j, ftk_cuda_kv kv)
{
    constexpr int E = per_word(TYPE), MOST_WORDS = DIM / E;
    constexpr int PAIRS = pairs_of(TYPE, DIM),
                  OWN = PAIRS / WARPS; /* whose scores a warp computes */
    /* Values: LANES threads have words l, l + LANES ... each, of every GROUPS-th pair. */
    constexpr int LANES = MOST_WORDS < STEP ? STEP : MOST_WORDS < THREADS ? MOST_WORDS : THREADS;
    constexpr int GROUPS = THREADS / LANES, MINE = PAIRS / GROUPS;
    constexpr int ROUNDS = (MOST_WORDS + LANES - 1) / LANES;
    __shared__ uint32_t keys[STEP * (MOST_WORDS + 1)];
    __shared__ float queries[PAIRS][DIM];
    __shared__ float weight[STEP][PAIRS], shrink[PAIRS];
    __shared__ uint32_t visible[PAIRS], partly[WARPS];
    __shared__ uint8_t ancestor[PAIRS][MOST_NODES]; /* of the rows of this block, by rank */
    __shared__ size_t row_of[STEP]; /* where the step's rows lie in the cache of this head */

    if (left_out(j.when)) return;
    const int lane = (int)threadIdx.x % STEP, warp = (int)threadIdx.x / STEP;
    const int chunk = (int)blockIdx.x, head_kv = (int)blockIdx.y;
    const int prefix = j.span->prefix;
    const int pair0 = (int)blockIdx.z * PAIRS, all_pairs = rows_of(j) * j.group;
    if (pair0 >= all_pairs || chunk * FTK_CUDA_CHUNK >= j.span->n_slots) return;
    const int n_pairs = all_pairs - pair0 < PAIRS ? all_pairs - pair0 : PAIRS;
    const int row0 = pair0 / j.group, n_rows = (pair0 + n_pairs - 1) / j.group - row0 + 1;
    const int dim = kv.head_dim, words = dim / E;
    const size_t row_bytes = row_bytes_of(TYPE, dim);
    const char *head_at = kv.pool + (size_t)head_kv * FTK_PAGE * row_bytes;

    for (int i = (int)threadIdx.x; i < n_rows * MOST_NODES; i += THREADS) {
        const int r = i / MOST_NODES, node = i % MOST_NODES;
        const uint64_t *m = j.mask[j.row0 + row0 + r];
        if (!(m[node / 64] >> node % 64 & 1)) continue;
        const uint64_t below = m[node / 64] & (((uint64_t)1 << node % 64) - 1);
        ancestor[r][__popcll(below) + (node < 64 ? 0 : __popcll(m[0]))] = (uint8_t)node;
    }
    for (int p = warp; p < n_pairs; p += WARPS) {
        const int head = head_kv * j.group + (pair0 + p) % j.group;
        const size_t row = (size_t)(j.row0 + (pair0 + p) / j.group);
        const float *q = j.q + (row * (size_t)j.n_head + (size_t)head) * (size_t)dim;
        for (int i = lane; i < dim; i += STEP) queries[p][i] = q[i];
    }

    /* the warp's own pairs, every fourth one; all lanes know the same */
    const int n_own = (n_pairs - warp + WARPS - 1) / WARPS;
    seen sees[OWN];
    float top[OWN], sum[OWN];
    for (int o = 0; o < OWN; o++) {
        const int p = o * WARPS + warp;
        sees[o] = seen{0, 0};
        if (p < n_pairs)
            sees[o] = keys_of(j.mask, j.row0 + (pair0 + p) / j.group, prefix, j.window);
        top[o] = -INFINITY;
        sum[o] = 0;
    }
    const int word = (int)threadIdx.x % LANES, group = (int)threadIdx.x / LANES;
    float acc[MINE][ROUNDS][E] = {};

    for (int i0 = chunk * FTK_CUDA_CHUNK; i0 < (chunk + 1) * FTK_CUDA_CHUNK; i0 += STEP) {
        const bool shared = i0 + STEP <= prefix;
        for (int r = 0; r < (shared ? 1 : n_rows); r++) {
            int n_keys = STEP;
            if (!shared) {
                const int n = keys_of(j.mask, j.row0 + row0 + r, prefix, 0).n;
                n_keys = n - i0 < STEP ? n - i0 : STEP;
                if (n_keys <= 0) continue; /* all threads agree */
            }
            __syncthreads(); /* what the last round left is no longer read */
            if ((int)threadIdx.x < n_keys) {
                const int i = i0 + lane;
                const int slot = i < prefix ? i : prefix + ancestor[r][i - prefix];
                row_of[lane] = (size_t)kv.page[slot / FTK_PAGE] * kv.page_bytes +
                               (size_t)(slot % FTK_PAGE) * row_bytes;
            }
            __syncthreads();
            fetch_keys<TYPE>(head_at + kv.keys, words, n_keys, row_of, keys);
            __syncthreads();

            float s[OWN][2] = {};
            if (lane < n_keys)
                for (int w = 0; w < words; w++) {
                    const uint32_t k = keys[lane * (words | 1) + w];
                    FTK_UNROLL
                    for (int o = 0; o < OWN; o++) {
                        if (o >= n_own) break; /* one row alone has few pairs */
                        const float *q = &queries[o * WARPS + warp][w * E];
                        if (E == 2) {
                            s[o][0] = fmaf(element<TYPE>(k, 0), q[0], s[o][0]);
                            s[o][1] = fmaf(element<TYPE>(k, 1), q[E - 1], s[o][1]);
                        } else if (w % 2) {
                            s[o][1] = fmaf(element<TYPE>(k, 0), q[0], s[o][1]);
                        } else {
                            s[o][0] = fmaf(element<TYPE>(k, 0), q[0], s[o][0]);
                        }
                    }
                }
            bool hidden = false;
            FTK_UNROLL
            for (int o = 0; o < OWN; o++) {
                if (o >= n_own) break;
                const int p = o * WARPS + warp, i = i0 + lane;
                const bool mine = (shared || (pair0 + p) / j.group == row0 + r);
                const bool sees_it = mine && lane < n_keys && i >= sees[o].first && i < sees[o].n;
                const float score = (s[o][0] + s[o][1]) * j.scale;
                const float new_top = fmaxf(top[o], warp_max(sees_it ? score : -INFINITY));
                const float e = sees_it ? expf(score - new_top) : 0.0f;
                const float less = new_top == top[o] ? 1.0f : expf(top[o] - new_top);
                sum[o] = sum[o] * less + warp_sum(e);
                top[o] = new_top;
                const uint32_t who = lanes_that(sees_it);
                hidden |= who != 0xffffffffu;
                weight[lane][p] = e;
                if (lane == 0) {
                    shrink[p] = less;
                    visible[p] = who;
                }
            }
            if (lane == 0) partly[warp] = hidden;
            __syncthreads();

            FTK_UNROLL
            for (int c = 0; c < MINE; c++) {
                const int p = c * GROUPS + group;
                if (p >= n_pairs) break;
                for (int w = 0; w < ROUNDS; w++)
                    for (int e = 0; e < E; e++) acc[c][w][e] *= shrink[p];
            }
            const bool all = !(partly[0] | partly[1] | partly[2] | partly[3]);
            FTK_UNROLL_4
            for (int k = 0; k < n_keys; k++) {
                const char *value = head_at + kv.values + row_of[k];
                FTK_UNROLL
                for (int w = 0; w < ROUNDS; w++) {
                    if (word + w * LANES >= words) continue;
                    const uint32_t v = load_word<TYPE>(value, word + w * LANES);
                    FTK_UNROLL
                    for (int c = 0; c < MINE; c++) {
                        const int p = c * GROUPS + group;
                        if (p >= n_pairs) break;
                        if (!all && !(visible[p] >> k & 1)) continue;
                        FTK_UNROLL
                        for (int e = 0; e < E; e++)
                            acc[c][w][e] = fmaf(weight[k][p], element<TYPE>(v, e), acc[c][w][e]);
                    }
                }
            }
        }
    }

    FTK_UNROLL
    for (int o = 0; o < OWN; o++) {
        const int p = o * WARPS + warp;
        if (p >= n_pairs || lane != 0) continue;
        const size_t at = cell_of(j, head_kv, pair0 + p, chunk);
        j.sums[at * 2] = top[o];
        j.sums[at * 2 + 1] = sum[o];
    }
    FTK_UNROLL
    for (int c = 0; c < MINE; c++) {
        const int p = c * GROUPS + group;
        if (p >= n_pairs) continue;
        float *to = j.acc + cell_of(j, head_kv, pair0 + p, chunk) * (size_t)dim;
        FTK_UNROLL
        for (int w = 0; w < ROUNDS; w++)
            for (int e = 0; e < E && word + w * LANES < words; e++)
                to[(word + w * LANES) * E + e] = acc[c][w][e];
    }
}

/* A pair's chunks, in rising order. */
__global__ void __launch_bounds__(MERGE_THREADS) merge_chunks(job j, int dim)
{
    const int row = (int)blockIdx.x / j.n_head;
    if (row >= rows_of(j) || left_out(j.when)) return;
    const seen s = keys_of(j.mask, j.row0 + row, j.span->prefix, j.window);
    const int begin = s.first / FTK_CUDA_CHUNK, end = (s.n + FTK_CUDA_CHUNK - 1) / FTK_CUDA_CHUNK;
    const float *sums = j.sums + (size_t)blockIdx.x * (size_t)j.n_chunks * 2;
    const float *acc = j.acc + (size_t)blockIdx.x * (size_t)j.n_chunks * (size_t)dim;
    float *out = j.out + ((size_t)j.row0 * (size_t)j.n_head + blockIdx.x) * (size_t)dim;
    float top = -INFINITY;
    for (int c = begin; c < end; c++) top = fmaxf(top, sums[c * 2]);
    for (int i = (int)threadIdx.x; i < dim; i += MERGE_THREADS) {
        float all = 0, value = 0;
        for (int c = begin; c < end; c++) {
            const float w = expf(sums[c * 2] - top);
            all = fmaf(w, sums[c * 2 + 1], all);
            value = fmaf(w, acc[(size_t)c * (size_t)dim + (size_t)i], value);
        }
        out[i] = value / all;
    }
}

/* ------------------------------------------------------------------ the cache */

/* A warp's 32 numbers, as ftk_q8_0_write() does it, to the bit. */
__device__ __forceinline__ void store_block(float v, ftk_q8_0 *to)
{
    const float tiny = 1.5046327690525280e-36f; /* FTK_QACT_TINY, 2^-119 */
    const float most = warp_max(fabsf(v));
    const bool finite = lanes_that(!(fabsf(v) < INFINITY)) == 0;
    const float inv = finite && most >= tiny ? 127.0f / most : 0.0f;
    to->q[threadIdx.x % STEP] = inv > 0 ? (int8_t)rintf(v * inv) : (int8_t)0;
    if (threadIdx.x % STEP == 0) to->d = finite ? float_half(most / 127.0f) : (uint16_t)0x7e00;
}

__global__ void __launch_bounds__(THREADS)
    store_kv(ftk_cuda_kv kv, const ftk_cuda_span *span, const float *keys, const float *values,
             size_t ld)
{
    const int row = (int)blockIdx.x, head = (int)blockIdx.y, slot = span->prefix + row;
    if (row >= span->n_rows) return;
    const size_t dim = (size_t)kv.head_dim;
    const size_t row_bytes = row_bytes_of(kv.type, kv.head_dim);
    char *page = kv.pool + (size_t)kv.page[slot / FTK_PAGE] * kv.page_bytes;
    page += ((size_t)head * FTK_PAGE + (size_t)(slot % FTK_PAGE)) * row_bytes;
    for (size_t i = threadIdx.x; i < 2 * dim; i += THREADS) {
        const bool value = i >= dim;
        const size_t e = value ? i - dim : i;
        const float v = (value ? values : keys)[(size_t)row * ld + (size_t)head * dim + e];
        char *to = page + (value ? kv.values : kv.keys);
        if (kv.type == FTK_TYPE_F16)
            reinterpret_cast<uint16_t *>(to)[e] = float_half(v);
        else if (kv.type == FTK_TYPE_F32)
            reinterpret_cast<float *>(to)[e] = v;
        else
            store_block(v, reinterpret_cast<ftk_q8_0 *>(to) + e / FTK_QBLOCK);
    }
}

struct moves {
    int32_t pages[FTK_CUDA_MOVE_PAGES];
    int16_t path[MOST_NODES];
    int base, n;
};

/* A thread moves two bytes of all slots, one slot after the other: sources lie behind targets. */
__global__ void __launch_bounds__(THREADS)
    move_kv(char *pool, size_t page_bytes, size_t row_bytes, size_t n_cells, moves m)
{
    const size_t cell = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (cell >= n_cells) return;
    const size_t per_row = row_bytes / 2, plane = cell / per_row;
    const size_t at = plane * FTK_PAGE * row_bytes + cell % per_row * 2;
    for (int i = 0; i < m.n; i++) {
        if (m.path[i] == i) continue;
        const int from = m.base + m.path[i], to = m.base + i, page0 = m.base / FTK_PAGE;
        const char *src = pool + (size_t)m.pages[from / FTK_PAGE - page0] * page_bytes + at +
                          (size_t)(from % FTK_PAGE) * row_bytes;
        char *dst = pool + (size_t)m.pages[to / FTK_PAGE - page0] * page_bytes + at +
                    (size_t)(to % FTK_PAGE) * row_bytes;
        *reinterpret_cast<uint16_t *>(dst) = *reinterpret_cast<const uint16_t *>(src);
    }
}

template <int TYPE, int DIM> void launch_dim(ftk_queue *q, const job &j, const ftk_cuda_kv &kv)
{
    const dim3 grid((unsigned)j.n_chunks, (unsigned)kv.n_head_kv,
                    blocks_for(j.n_rows * j.group, pairs_of(TYPE, DIM)));
    FTK_LAUNCH(q, (attend_chunk<TYPE, DIM>), grid, dim3(THREADS), j, kv);
}

template <int TYPE> void launch(ftk_queue *q, const job &j, const ftk_cuda_kv &kv)
{
    if (kv.head_dim <= 64)
        launch_dim<TYPE, 64>(q, j, kv);
    else if (kv.head_dim <= 128)
        launch_dim<TYPE, 128>(q, j, kv);
    else
        launch_dim<TYPE, FTK_MAX_HEAD_DIM>(q, j, kv);
}

} // namespace

extern "C" size_t ftk_cuda_attn_partial(int n_rows, int n_head, int head_dim, int max_slots)
{
    const size_t chunks = ((size_t)max_slots + FTK_CUDA_CHUNK - 1) / FTK_CUDA_CHUNK;
    return (size_t)n_rows * (size_t)n_head * chunks * ((size_t)head_dim + 2) * sizeof(float);
}

extern "C" void ftk_cuda_attention(ftk_queue *q, const ftk_cuda_attn *a, const ftk_cuda_kv *kv)
{
    job j = {};
    j.when = q->when;
    j.n_head = a->n_head;
    j.group = a->n_head / kv->n_head_kv;
    j.window = a->window;
    j.span = a->span;
    j.n_chunks = (a->n_slots + FTK_CUDA_CHUNK - 1) / FTK_CUDA_CHUNK;
    j.scale = a->scale;
    j.q = a->q;
    j.out = a->out;
    j.mask = a->mask;
    j.sums = a->partial;
    const size_t one = ftk_cuda_attn_partial(1, a->n_head, kv->head_dim, a->n_slots);
    const size_t fit = a->partial_bytes / one;
    const int most = fit < (size_t)a->n_rows ? (int)fit : a->n_rows;
    j.acc = j.sums + (size_t)most * (size_t)a->n_head * (size_t)j.n_chunks * 2;
    for (j.row0 = 0; j.row0 < a->n_rows; j.row0 += most) {
        j.n_rows = a->n_rows - j.row0 < most ? a->n_rows - j.row0 : most;
        if (kv->type == FTK_TYPE_F16)
            launch<FTK_TYPE_F16>(q, j, *kv);
        else if (kv->type == FTK_TYPE_F32)
            launch<FTK_TYPE_F32>(q, j, *kv);
        else
            launch<FTK_TYPE_Q8_0>(q, j, *kv);
        FTK_LAUNCH(q, merge_chunks, dim3((unsigned)(j.n_rows * a->n_head)), dim3(MERGE_THREADS), j,
                   kv->head_dim);
    }
}

extern "C" void ftk_cuda_kv_store(ftk_queue *q, const ftk_cuda_kv *kv, int n_rows,
                                  const ftk_cuda_span *span, const float *keys, const float *values,
                                  size_t ld)
{
    const dim3 grid((unsigned)n_rows, (unsigned)kv->n_head_kv);
    FTK_LAUNCH(q, store_kv, grid, dim3(THREADS), *kv, span, keys, values, ld);
}

extern "C" void ftk_cuda_kv_move(ftk_queue *q, char *pool, size_t page_bytes, size_t planes,
                                 size_t row_bytes, const int32_t pages[FTK_CUDA_MOVE_PAGES],
                                 int base, const int16_t *path, int n)
{
    moves m = {};
    for (int i = 0; i < FTK_CUDA_MOVE_PAGES; i++) m.pages[i] = pages[i];
    for (int i = 0; i < n; i++) m.path[i] = path[i];
    m.base = base;
    m.n = n;
    const size_t cells = planes * (row_bytes / 2);
    FTK_LAUNCH(q, move_kv, dim3(blocks_for(cells, THREADS)), dim3(THREADS), pool, page_bytes,
               row_bytes, cells, m);
}
