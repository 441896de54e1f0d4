/* SPDX-License-Identifier: Apache-2.0
 *
 * Products with weights in tiles (tiles.h), unpacked between memory and the tensor cores.
 * Weights are the rows of a fragment, activation rows its columns, so that one activation row
 * costs the weights' traffic and little else.
 *
 * Order of the sums, the same for every number of rows: warp w of a block's eight takes blocks
 * w, w + 8, w + 16 ... of 32 inputs in rising order. Sums of codes by codes are whole numbers,
 * those of 16-bit floats are left to the tensor cores, from 0 for each block; each is multiplied
 * by its scales and added to the warp's sum. The eight sums are added in the order of the warps.
 * Which columns a fragment carries besides does not reach a column's sum. */
#include "kernels/cuda/device.h"
#include "kernels/forms.h"

namespace
{

enum {
    WARPS = 8, /* of a block, that share the inputs of its tiles */
    THREADS = WARPS * FTK_TILE_LANES,
    MIN_BLOCKS = 2, /* of a multiprocessor, that registers must leave room for */
};

struct form {
    int bits, offset, sub, unit;
    bool min, table;
};

__host__ __device__ constexpr form form_of(int type)
{
    switch (type) {
#define FORM_CASE(name, ...)                                                                       \
    case FTK_TYPE_##name: return form{__VA_ARGS__};
        FTK_FORMS(FORM_CASE)
#undef FORM_CASE
    default: return form{0, 0, 0, 0, false, false};
    }
}

/* Sizes of tiles.h, of a block type and of 16-bit floats. */
template <int TYPE> struct layout {
    static constexpr form f = form_of(TYPE);
    static constexpr bool floats = f.bits == 0;
    static constexpr int per_unit = floats ? 1 : f.unit / FTK_QBLOCK;
    static constexpr int subs = floats ? 1 : FTK_QBLOCK / f.sub;
    static constexpr int halves = FTK_TILE_OUT * 2; /* bytes of d, of dm */
    static constexpr int sc = !floats && f.unit == FTK_QUNIT ? subs * FTK_TILE_OUT : 0;
    static constexpr int scales = floats ? 0 : (f.min ? 2 : 1) * (halves + per_unit * sc);
    static constexpr int codes = (floats ? 16 : f.bits) * FTK_TILE_OUT * FTK_QBLOCK / 8;
    static constexpr int unit = scales + per_unit * codes;
    static constexpr int words = floats ? 8 : f.bits == 8 ? 4 : (f.bits + 1) / 2;
    /* parts of the activations, bytes of a group's block */
    static constexpr int parts = TYPE == FTK_TYPE_F16 ? 2 : 3;
    static constexpr int part = FTK_TILE_ROWS * FTK_QBLOCK * 2;
    static constexpr int act_d = floats ? parts * part : FTK_TILE_ROWS * FTK_QBLOCK;
    static constexpr int act = act_d + FTK_TILE_ROWS * 4 + (floats ? 0 : FTK_TILE_ROWS * 8);
};

/* What a lane reads of a block, as it lies in memory. */
template <int TYPE> struct raw {
    uint32_t q[layout<TYPE>::words];
    uint32_t d, dm, sc, mn;
};

__device__ __forceinline__ uint32_t load32(const unsigned char *p)
{
    return *reinterpret_cast<const uint32_t *>(p);
}

__device__ __forceinline__ uint32_t load16(const unsigned char *p)
{
    return *reinterpret_cast<const uint16_t *>(p);
}

__device__ __forceinline__ void load128(const unsigned char *p, uint32_t *to)
{
    const uint4 v = *reinterpret_cast<const uint4 *>(p);
    to[0] = v.x;
    to[1] = v.y;
    to[2] = v.z;
    to[3] = v.w;
}

template <int TYPE>
__device__ __forceinline__ void load_codes(const unsigned char *p, int lane, uint32_t *q)
{
    constexpr form f = form_of(TYPE);
    if constexpr (f.bits == 0) {
        load128(p + lane * 16, q);
        load128(p + FTK_TILE_LANES * 16 + lane * 16, q + 4);
    } else if constexpr (f.bits == 8) {
        load128(p + lane * 16, q);
    } else {
        int at = 0;
        if constexpr (f.bits >= 4) {
            const uint2 v = *reinterpret_cast<const uint2 *>(p + lane * 8);
            q[at++] = v.x;
            q[at++] = v.y;
            p += FTK_TILE_LANES * 8;
        }
        if constexpr (f.bits & 2) {
            q[at++] = load32(p + lane * 4);
            p += FTK_TILE_LANES * 4;
        }
        if constexpr (f.bits & 1) q[at++] = load16(p + lane * 2);
    }
}

/* Scales come for the rows g and g + 8 together. */
template <int TYPE>
__device__ __forceinline__ void load_raw(const unsigned char *tile, int b, int lane, raw<TYPE> *r)
{
    using L = layout<TYPE>;
    const int in_unit = b % L::per_unit, g = lane / 4;
    const unsigned char *unit = tile + (size_t)(b / L::per_unit) * L::unit;
    load_codes<TYPE>(unit + L::scales + in_unit * L::codes, lane, r->q);
    if constexpr (!L::floats) {
        r->d = load32(unit + g * 4);
        if constexpr (L::f.min) r->dm = load32(unit + L::halves + g * 4);
        if constexpr (L::sc > 0) {
            const unsigned char *sc = unit + (L::f.min ? 2 : 1) * (L::halves + in_unit * L::sc);
            if constexpr (L::subs == 2) {
                r->sc = load32(sc + g * 4);
                if constexpr (L::f.min) r->mn = load32(sc + L::sc + g * 4);
            } else {
                r->sc = load16(sc + g * 2);
                if constexpr (L::f.min) r->mn = load16(sc + L::sc + g * 2);
            }
        }
    }
}

/* Four IQ4 codes, a byte each, to their values plus 127. */
__device__ __forceinline__ uint32_t look_up(uint32_t codes)
{
    uint32_t sel = codes & 0x07070707u;
    sel = (sel | sel >> 4) & 0x00ff00ffu;
    sel = (sel | sel >> 8) & 0xffffu;
    /* 0, 23, 44, 62 | 78, 92, 105, 117 | 128, 140, 152, 165 | 180, 196, 216, 240 */
    const uint32_t low = pick_bytes(0x3e2c1700u, 0x75695c4eu, sel);
    const uint32_t high = pick_bytes(0xa5988c80u, 0xf0d8c4b4u, sel);
    const uint32_t from_high = (codes >> 3 & 0x01010101u) * 0xffu;
    return (low & ~from_high) | (high & from_high);
}

/* A block's codes as unsigned bytes, the words a0..a3; or its 16-bit floats, of two steps. */
template <int TYPE> __device__ __forceinline__ void unpack(const uint32_t *q, uint32_t *a)
{
    constexpr form f = form_of(TYPE);
    if constexpr (f.bits == 0) {
        for (int i = 0; i < 8; i++) a[i] = q[i];
    } else if constexpr (f.bits == 8) {
        for (int i = 0; i < 4; i++) a[i] = q[i];
    } else {
        constexpr int nibble = f.bits >= 4 ? 4 : 0, pairs = nibble ? 2 : 0;
        constexpr int singles = pairs + (f.bits & 2 ? 1 : 0);
        for (int i = 0; i < 4; i++) {
            uint32_t v = 0;
            if constexpr (nibble) v = q[i / 2] >> i % 2 * 4 & 0x0f0f0f0fu;
            if constexpr (f.table) v = look_up(v);
            if constexpr (f.bits & 2) v |= (q[pairs] >> 2 * i & 0x03030303u) << nibble;
            if constexpr (f.bits & 1)
                v |= (((q[singles] >> 4 * i & 15u) * 0x00204081u) & 0x01010101u) << (f.bits - 1);
            a[i] = v;
        }
    }
}

/* Scales and minima of rows g (0) and g + 8 (1), of a block's halves. */
struct scales {
    float s[2][2], m[2][2];
};

__device__ __forceinline__ float signed_byte(uint32_t word, int i)
{
    return (float)(int8_t)(word >> 8 * i & 0xff);
}

template <int TYPE> __device__ __forceinline__ scales read_scales(const raw<TYPE> *r)
{
    using L = layout<TYPE>;
    scales s = {};
    for (int row = 0; row < 2; row++) {
        const float d = half_float((uint16_t)(r->d >> 16 * row));
        float dm = 0;
        if constexpr (L::f.min) dm = half_float((uint16_t)(r->dm >> 16 * row));
        for (int h = 0; h < L::subs; h++) {
            s.s[row][h] = L::sc > 0 ? d * signed_byte(r->sc, row * L::subs + h) : d;
            s.m[row][h] = L::sc > 0 ? dm * signed_byte(r->mn, row * L::subs + h) : dm;
        }
    }
    return s;
}

/* One block against eight rows: codes. act: the group's block. */
template <int TYPE, int MT>
__device__ __forceinline__ void add_codes(const uint32_t (*a)[4], const scales *s,
                                          const unsigned char *act, int lane, float (*acc)[4])
{
    using L = layout<TYPE>;
    constexpr form f = form_of(TYPE);
    constexpr int offset = f.table ? 127 : f.offset;
    const uint2 q = *reinterpret_cast<const uint2 *>(act + lane * 8);
    const uint32_t b[2] = {q.x, q.y};
    const float2 d = *reinterpret_cast<const float2 *>(act + L::act_d + lane % 4 * 8);
    const int4 m = *reinterpret_cast<const int4 *>(act + L::act_d + 32 + lane % 4 * 16);
    const int minus[2][2] = {{m.x, m.y}, {m.z, m.w}}; /* of the lane's columns, of the halves */
    for (int t = 0; t < MT; t++) {
        int c[2][4] = {};
        if constexpr (L::subs == 2) {
            mma_bytes_16(c[0], a[t], b[0]);
            mma_bytes_16(c[1], a[t] + 2, b[1]);
        } else {
            mma_bytes_32(c[0], a[t], b);
        }
        for (int i = 0; i < 4; i++) {
            const int row = i / 2, col = i % 2;
            float sum;
            if constexpr (L::subs == 2) {
                sum = s[t].s[row][0] * (float)(c[0][i] + offset * minus[col][0]);
                sum = fmaf(s[t].s[row][1], (float)(c[1][i] + offset * minus[col][1]), sum);
                if constexpr (f.min) {
                    sum = fmaf(-s[t].m[row][0], (float)minus[col][0], sum);
                    sum = fmaf(-s[t].m[row][1], (float)minus[col][1], sum);
                }
            } else {
                const int all = minus[col][0] + minus[col][1];
                sum = s[t].s[row][0] * (float)(c[0][i] + offset * all);
                if constexpr (f.min) sum = fmaf(-s[t].m[row][0], (float)all, sum);
            }
            acc[t][i] = fmaf(sum, col ? d.y : d.x, acc[t][i]);
        }
    }
}

/* The same: 16-bit floats, by activations in parts, the largest first. */
template <int TYPE, int MT>
__device__ __forceinline__ void add_floats(const uint32_t (*a)[8], const unsigned char *act,
                                           int lane, float (*acc)[4])
{
    using L = layout<TYPE>;
    const float2 d = *reinterpret_cast<const float2 *>(act + L::act_d + lane % 4 * 8);
    uint32_t b[L::parts][4];
    for (int p = 0; p < L::parts; p++) load128(act + p * L::part + lane * 16, b[p]);
    for (int t = 0; t < MT; t++) {
        float c[4] = {};
        for (int step = 0; step < 2; step++)
            for (int p = 0; p < L::parts; p++) {
                if constexpr (TYPE == FTK_TYPE_F16)
                    mma_f16(c, a[t] + step * 4, b[p] + step * 2);
                else
                    mma_bf16(c, a[t] + step * 4, b[p] + step * 2);
            }
        for (int i = 0; i < 4; i++) acc[t][i] = fmaf(c[i], i % 2 ? d.y : d.x, acc[t][i]);
    }
}

struct product {
    ftk_cuda_when when;
    const unsigned char *w, *act;
    size_t tile_bytes;
    int n_blocks, n_out, n_rows, n_tiles;
    const float *bias;
    bool add;
    float *y;
    size_t ldy;
};

/* Blocks of 32 that a warp has on their way at a time: as many as registers allow. */
template <int TYPE, int MT> __host__ __device__ constexpr int ahead()
{
    return MT > 1 ? 1 : layout<TYPE>::words >= 8 ? 2 : 4;
}

template <int TYPE, int MT>
__device__ __forceinline__ void load_ahead(const product &p, int tile, int b, int lane,
                                           raw<TYPE> (*r)[MT])
{
    FTK_UNROLL
    for (int u = 0; u < ahead<TYPE, MT>(); u++)
        if (b + u * WARPS < p.n_blocks) {
            FTK_UNROLL
            for (int t = 0; t < MT; t++)
                if (tile + t < p.n_tiles)
                    load_raw<TYPE>(p.w + (size_t)(tile + t) * p.tile_bytes, b + u * WARPS, lane,
                                   &r[u][t]);
        }
}

/* MT tiles by up to NT groups of rows. */
template <int TYPE, int MT, int NT>
__global__ void __launch_bounds__(THREADS, MIN_BLOCKS) matmul_tiles(product p)
{
    using L = layout<TYPE>;
    constexpr int AHEAD = ahead<TYPE, MT>();
    if (left_out(p.when)) return;
    const int lane = (int)threadIdx.x % FTK_TILE_LANES, warp = (int)threadIdx.x / FTK_TILE_LANES;
    const int tile = (int)blockIdx.x * MT, group = (int)blockIdx.y * NT;
    const int n_groups = (p.n_rows + FTK_TILE_ROWS - 1) / FTK_TILE_ROWS;
    const size_t group_bytes = (size_t)p.n_blocks * L::act;
    float acc[NT][MT][4] = {};
    raw<TYPE> next[AHEAD][MT] = {};
    load_ahead<TYPE, MT>(p, tile, warp, lane, next);
    for (int b0 = warp; b0 < p.n_blocks; b0 += AHEAD * WARPS) {
        raw<TYPE> now[AHEAD][MT];
        FTK_UNROLL
        for (int u = 0; u < AHEAD; u++)
            for (int t = 0; t < MT; t++) now[u][t] = next[u][t];
        load_ahead<TYPE, MT>(p, tile, b0 + AHEAD * WARPS, lane, next);
        FTK_UNROLL
        for (int u = 0; u < AHEAD; u++) {
            const int b = b0 + u * WARPS;
            if (b >= p.n_blocks) break;
            uint32_t a[MT][L::floats ? 8 : 4];
            scales s[MT];
            FTK_UNROLL
            for (int t = 0; t < MT; t++) {
                unpack<TYPE>(now[u][t].q, a[t]);
                if constexpr (!L::floats) s[t] = read_scales<TYPE>(&now[u][t]);
            }
            const unsigned char *act = p.act + (size_t)group * group_bytes + (size_t)b * L::act;
            FTK_UNROLL
            for (int n = 0; n < NT; n++) {
                if (NT > 1 && group + n >= n_groups) break;
                if constexpr (L::floats)
                    add_floats<TYPE, MT>(a, act + (size_t)n * group_bytes, lane, acc[n]);
                else
                    add_codes<TYPE, MT>(a, s, act + (size_t)n * group_bytes, lane, acc[n]);
            }
        }
    }

    /* The warps' sums, two fragments at a time: each half of the threads adds up one. */
    __shared__ float part[2][WARPS][4 * FTK_TILE_LANES];
    constexpr int HALF = THREADS / 2;
    const int mine = (int)threadIdx.x / HALF, cell = (int)threadIdx.x % HALF;
    FTK_UNROLL
    for (int pair = 0; pair < (NT * MT + 1) / 2; pair++) {
        FTK_UNROLL
        for (int h = 0; h < 2; h++)
            for (int i = 0; i < 4 && 2 * pair + h < NT * MT; i++)
                part[h][warp][i * FTK_TILE_LANES + lane] =
                    acc[(2 * pair + h) / MT][(2 * pair + h) % MT][i];
        __syncthreads();
        const int f = 2 * pair + mine, i = cell / FTK_TILE_LANES, l = cell % FTK_TILE_LANES;
        const int o = (tile + f % MT) * FTK_TILE_OUT + l / 4 + i / 2 * 8;
        const int r = (group + f / MT) * FTK_TILE_ROWS + l % 4 * 2 + i % 2;
        if (f < NT * MT && o < p.n_out && r < p.n_rows) {
            float sum = part[mine][0][cell];
            for (int w = 1; w < WARPS; w++) sum += part[mine][w][cell];
            if (p.bias) sum += p.bias[o];
            float *y = p.y + (size_t)r * p.ldy + o;
            *y = p.add ? *y + sum : sum;
        }
        __syncthreads();
    }
}

/* F32 weights, in rows: a warp an output, eight activation rows at a time. */
__global__ void __launch_bounds__(THREADS) matmul_f32(product p, int n_in)
{
    const int lane = (int)threadIdx.x % FTK_TILE_LANES, warp = (int)threadIdx.x / FTK_TILE_LANES;
    const int o = (int)blockIdx.x * WARPS + warp, r0 = (int)blockIdx.y * FTK_TILE_ROWS;
    if (o >= p.n_out || left_out(p.when)) return;
    const float *w = reinterpret_cast<const float *>(p.w) + (size_t)o * (size_t)n_in;
    const float *x = reinterpret_cast<const float *>(p.act) + (size_t)r0 * (size_t)n_in;
    float acc[FTK_TILE_ROWS] = {};
    for (int k = lane; k < n_in; k += FTK_TILE_LANES) {
        const float v = w[k];
        FTK_UNROLL
        for (int r = 0; r < FTK_TILE_ROWS; r++)
            if (r0 + r < p.n_rows) acc[r] = fmaf(v, x[(size_t)r * (size_t)n_in + k], acc[r]);
    }
    FTK_UNROLL
    for (int r = 0; r < FTK_TILE_ROWS; r++) {
        float sum = warp_sum(acc[r]);
        if (lane != 0 || r0 + r >= p.n_rows) continue;
        if (p.bias) sum += p.bias[o];
        float *y = p.y + (size_t)(r0 + r) * p.ldy + o;
        *y = p.add ? *y + sum : sum;
    }
}

template <int TYPE, int MT, int NT> void launch(ftk_queue *q, const product &p)
{
    const int groups = (p.n_rows + FTK_TILE_ROWS - 1) / FTK_TILE_ROWS;
    const dim3 grid(blocks_for(p.n_tiles, MT), blocks_for(groups, NT));
    FTK_LAUNCH(q, (matmul_tiles<TYPE, MT, NT>), grid, dim3(THREADS), p);
}

/* Two tiles a block where there are many rows, so that activations are read half as often. */
template <int TYPE> void launch_type(ftk_queue *q, const product &p)
{
    if (p.n_rows <= FTK_TILE_ROWS)
        launch<TYPE, 1, 1>(q, p);
    else if (p.n_rows <= 4 * FTK_TILE_ROWS)
        launch<TYPE, 1, 4>(q, p);
    else
        launch<TYPE, 2, 8>(q, p);
}

/* ------------------------------------------------------------------ activations */

/* One block of 32 of a row, an input a lane, as kernels/ref.c quantises it, to the bit. */
__device__ __forceinline__ void pack_i8(float x, int row, int lane, unsigned char *dst)
{
    const float round_even = 12582912.0f;       /* 1.5 2^23 */
    const float tiny = 1.5046327690525280e-36f; /* FTK_QACT_TINY, 2^-119 */
    uint32_t most = float_bits(x) & 0x7fffffffu;
    for (int m = 16; m > 0; m /= 2) {
        const uint32_t other = shuffle_xor(most, m);
        most = other > most ? other : most;
    }
    const float amax = bits_float(most);
    const bool finite = most < 0x7f800000u;
    const float inv = finite && amax >= tiny ? 127.0f / amax : 0.0f;
    const float scaled = finite ? x * inv : 0.0f;
    const int q = (int)(float_bits(scaled + round_even) - float_bits(round_even));
    int minus = -q;
    for (int m = 8; m > 0; m /= 2) minus += shuffle_xor(minus, m);
    dst[(row * 4 + lane % 16 / 4) * 8 + lane / 16 * 4 + lane % 4] = (unsigned char)(int8_t)q;
    unsigned char *d = dst + FTK_TILE_ROWS * FTK_QBLOCK;
    if (lane == 0)
        reinterpret_cast<float *>(d)[row] = !finite   ? bits_float(0x7fc00000u)
                                            : inv > 0 ? amax / 127.0f
                                                      : 0.0f;
    if (lane % 16 == 0) reinterpret_cast<int *>(d + FTK_TILE_ROWS * 4)[row * 2 + lane / 16] = minus;
}

__device__ __forceinline__ float power_of_two(int e)
{
    return bits_float((uint32_t)(e + 127) << 23);
}

/* The same in parts of 16-bit floats, scaled by a power of two so that neither the largest part
 * overflows nor the smallest one vanishes. */
template <int TYPE>
__device__ __forceinline__ void pack_parts(float x, int row, int lane, unsigned char *dst)
{
    using L = layout<TYPE>;
    uint32_t most = float_bits(x) & 0x7fffffffu;
    for (int m = 16; m > 0; m /= 2) {
        const uint32_t other = shuffle_xor(most, m);
        most = other > most ? other : most;
    }
    const bool finite = most < 0x7f800000u;
    const int e = most < 0x00800000u ? 1 : (int)(most >> 23);
    const int up =
        127 + 14 - e; /* the largest becomes 2^14 or more; in two factors, as it may be 140 */
    float rest = finite ? x * power_of_two(up / 2) * power_of_two(up - up / 2) : 0.0f;
    const int j = lane % 16 / 8, t = lane % 8 / 2;
    unsigned char *at = dst + (row * 4 + t) * 16 + (lane / 16 * 2 + j) * 4 + lane % 2 * 2;
    for (int p = 0; p < L::parts; p++, at += L::part) {
        uint16_t h;
        if constexpr (TYPE == FTK_TYPE_F16) {
            h = float_half(rest);
            rest -= half_float(h);
        } else {
            h = float_bf16(rest);
            rest -= bf16_float(h);
        }
        *reinterpret_cast<uint16_t *>(at) = h;
    }
    if (lane == 0)
        reinterpret_cast<float *>(dst + L::act_d)[row] =
            finite ? power_of_two(-(up / 2)) * power_of_two(up / 2 - up) : bits_float(0x7fc00000u);
}

/* A warp a block of a group; rows that are not there are zeros. */
template <int FORM>
__global__ void __launch_bounds__(THREADS)
    pack_act(int n_rows, int n_in, int n_blocks, const float *x, unsigned char *dst)
{
    const int lane = (int)threadIdx.x % FTK_TILE_LANES, warp = (int)threadIdx.x / FTK_TILE_LANES;
    const int b = (int)blockIdx.x * WARPS + warp, group = (int)blockIdx.y;
    constexpr int TYPE = FORM == FTK_TILE_F16    ? FTK_TYPE_F16
                         : FORM == FTK_TILE_BF16 ? FTK_TYPE_BF16
                                                 : FTK_TYPE_Q8_0;
    if (b >= n_blocks) return;
    dst += ((size_t)group * (size_t)n_blocks + (size_t)b) * layout<TYPE>::act;
    const int k = b * FTK_QBLOCK + lane;
    for (int row = 0; row < FTK_TILE_ROWS; row++) {
        const int r = group * FTK_TILE_ROWS + row;
        const float v = r < n_rows && k < n_in ? x[(size_t)r * (size_t)n_in + (size_t)k] : 0.0f;
        if constexpr (FORM == FTK_TILE_I8)
            pack_i8(v, row, lane, dst);
        else
            pack_parts<TYPE>(v, row, lane, dst);
    }
}

/* ------------------------------------------------------------------ embeddings */

/* A code or a float of a tile, by its row and its place in a block: see tiles.h. */
template <int TYPE>
__device__ __forceinline__ float weight_at(const unsigned char *tile, int b, int row, int k)
{
    using L = layout<TYPE>;
    constexpr form f = form_of(TYPE);
    if constexpr (L::floats) {
        const int lane = row % 8 * 4 + k % 8 / 2, i = k % 16 / 8 * 2 + row / 8;
        const size_t word = (size_t)((b * 2 + k / 16) * FTK_TILE_LANES + lane) * 4 + (size_t)i;
        const uint16_t h = (uint16_t)load16(tile + word * 4 + k % 2 * 2);
        return TYPE == FTK_TYPE_F16 ? half_float(h) : bf16_float(h);
    } else {
        const int lane = row % 8 * 4 + k % 16 / 4, i = k / 16 * 2 + row / 8, h = k / 16;
        raw<TYPE> r = {};
        uint32_t a[4];
        load_raw<TYPE>(tile, b, lane, &r);
        unpack<TYPE>(r.q, a);
        const scales s = read_scales<TYPE>(&r);
        const int half = L::subs == 2 ? h : 0;
        /* computed by hand, as indices into registers would not be */
        const uint32_t word = i == 0 ? a[0] : i == 1 ? a[1] : i == 2 ? a[2] : a[3];
        const int code = (int)(word >> k % 4 * 8 & 0xff) - (f.table ? 127 : f.offset);
        const float scale = row < 8 ? (half ? s.s[0][1] : s.s[0][0]) : half ? s.s[1][1] : s.s[1][0];
        const float min = row < 8 ? (half ? s.m[0][1] : s.m[0][0]) : half ? s.m[1][1] : s.m[1][0];
        const float v = scale * (float)code;
        return f.min ? v + min : v;
    }
}

template <int TYPE>
__global__ void __launch_bounds__(THREADS)
    embed_tiles(const unsigned char *w, size_t tile_bytes, int n_in, const int32_t *token,
                float scale, float *y)
{
    const int o = token[blockIdx.x];
    const unsigned char *tile = w + (size_t)(o / FTK_TILE_OUT) * tile_bytes;
    for (int k = (int)threadIdx.x; k < n_in; k += THREADS) {
        const float v = weight_at<TYPE>(tile, k / FTK_QBLOCK, o % FTK_TILE_OUT, k % FTK_QBLOCK);
        y[(size_t)blockIdx.x * (size_t)n_in + (size_t)k] = scale == 1.0f ? v : v * scale;
    }
}

__global__ void __launch_bounds__(THREADS)
    embed_f32(const float *w, int n_in, const int32_t *token, float scale, float *y)
{
    const float *row = w + (size_t)token[blockIdx.x] * (size_t)n_in;
    for (int k = (int)threadIdx.x; k < n_in; k += THREADS)
        y[(size_t)blockIdx.x * (size_t)n_in + (size_t)k] = row[k] * scale;
}

/* ------------------------------------------------------------------ wide products */

/* A warp a block of a tile to y [n_out][n_in]: each lane has two or four neighbours of every
 * word. */
template <int TYPE>
__global__ void __launch_bounds__(THREADS)
    widen_tiles(const unsigned char *w, size_t tile_bytes, int n_out, int n_in, uint16_t *y)
{
    using L = layout<TYPE>;
    constexpr form f = form_of(TYPE);
    const int lane = (int)threadIdx.x % FTK_TILE_LANES, warp = (int)threadIdx.x / FTK_TILE_LANES;
    const int b = (int)blockIdx.x * WARPS + warp, o0 = (int)blockIdx.y * FTK_TILE_OUT + lane / 4;
    if (b >= n_in / FTK_QBLOCK) return;
    raw<TYPE> r = {};
    load_raw<TYPE>(w + (size_t)blockIdx.y * tile_bytes, b, lane, &r);
    uint32_t a[L::floats ? 8 : 4];
    unpack<TYPE>(r.q, a);
    scales s = {};
    if constexpr (!L::floats) s = read_scales<TYPE>(&r);
    FTK_UNROLL
    for (int i = 0; i < (L::floats ? 8 : 4); i++) {
        const int o = o0 + i % 2 * 8;
        if (o >= n_out) continue;
        uint16_t *to = y + (size_t)o * (size_t)n_in + (size_t)b * FTK_QBLOCK;
        if constexpr (L::floats) {
            to += i / 2 * 8 + lane % 4 * 2;
            *reinterpret_cast<uint32_t *>(to) = a[i];
        } else {
            const int half = L::subs == 2 ? i / 2 : 0;
            uint32_t pair[2] = {};
            for (int j = 0; j < 4; j++) {
                const int code = (int)(a[i] >> 8 * j & 0xff) - (f.table ? 127 : f.offset);
                float v = s.s[i % 2][half] * (float)code;
                if constexpr (f.min) v += s.m[i % 2][half];
                pair[j / 2] |= (uint32_t)float_half(v) << j % 2 * 16;
            }
            uint2 both;
            both.x = pair[0];
            both.y = pair[1];
            *reinterpret_cast<uint2 *>(to + i / 2 * 16 + lane % 4 * 4) = both;
        }
    }
}

/* A row to 16-bit floats times a power of two, which brings its largest near their upper end; a row
 * that is not finite becomes NaN. */
__global__ void __launch_bounds__(THREADS)
    halve_rows(int n_in, const float *x, uint16_t *y, float *scale)
{
    __shared__ uint32_t part[WARPS];
    x += (size_t)blockIdx.x * (size_t)n_in;
    y += (size_t)blockIdx.x * (size_t)n_in;
    uint32_t most = 0;
    for (int k = (int)threadIdx.x; k < n_in; k += THREADS) {
        const uint32_t bits = float_bits(x[k]) & 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    for (int m = 16; m > 0; m /= 2) {
        const uint32_t other = shuffle_xor(most, m);
        most = other > most ? other : most;
    }
    if (threadIdx.x % FTK_TILE_LANES == 0) part[threadIdx.x / FTK_TILE_LANES] = most;
    __syncthreads();
    for (int w = 0; w < WARPS; w++) most = part[w] > most ? part[w] : most;
    const bool finite = most < 0x7f800000u;
    const int e = most < 0x00800000u ? 1 : (int)(most >> 23), up = 127 + 14 - e;
    for (int k = (int)threadIdx.x; k < n_in; k += THREADS)
        y[k] = float_half(finite ? x[k] * power_of_two(up / 2) * power_of_two(up - up / 2) : 0.0f);
    if (threadIdx.x == 0)
        scale[blockIdx.x] =
            finite ? power_of_two(-(up / 2)) * power_of_two(up / 2 - up) : bits_float(0x7fc00000u);
}

/* y = scale[r] * sum + bias, or y += that. */
__global__ void __launch_bounds__(THREADS)
    finish_rows(int n_out, const float *sum, const float *scale, const float *bias, bool add,
                float *y, size_t ldy)
{
    const int o = (int)(blockIdx.x * THREADS + threadIdx.x), r = (int)blockIdx.y;
    if (o >= n_out) return;
    float v = sum[(size_t)r * (size_t)n_out + (size_t)o] * scale[r];
    if (bias) v += bias[o];
    y += (size_t)r * ldy + (size_t)o;
    *y = add ? *y + v : v;
}

#define FTK_TILE_TYPES(X)                                                                          \
    X(F16)                                                                                         \
    X(BF16)                                                                                        \
    X(Q8_0)                                                                                        \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS)

} // namespace

extern "C" void ftk_cuda_act(ftk_queue *q, ftk_tile_act form, int n_rows, int n_in, const float *x,
                             void *dst)
{
    const int n_blocks = (int)blocks_for(n_in, FTK_QBLOCK);
    const dim3 grid(blocks_for(n_blocks, WARPS), blocks_for(n_rows, FTK_TILE_ROWS));
    unsigned char *to = static_cast<unsigned char *>(dst);
    switch (form) {
    case FTK_TILE_I8:
        FTK_LAUNCH(q, pack_act<FTK_TILE_I8>, grid, dim3(THREADS), n_rows, n_in, n_blocks, x, to);
        break;
    case FTK_TILE_F16:
        FTK_LAUNCH(q, pack_act<FTK_TILE_F16>, grid, dim3(THREADS), n_rows, n_in, n_blocks, x, to);
        break;
    case FTK_TILE_BF16:
        FTK_LAUNCH(q, pack_act<FTK_TILE_BF16>, grid, dim3(THREADS), n_rows, n_in, n_blocks, x, to);
        break;
    case FTK_TILE_F32: break;
    }
}

extern "C" void ftk_cuda_matmul(ftk_queue *q, const ftk_cuda_mat *w, const void *act, int n_rows,
                                const float *bias, bool add, float *y, size_t ldy)
{
    product p = {};
    p.when = q->when;
    p.w = static_cast<const unsigned char *>(w->data);
    p.act = static_cast<const unsigned char *>(act);
    p.tile_bytes = ftk_tiles_bytes(w->type, FTK_TILE_OUT, w->n_in);
    p.n_blocks = (int)blocks_for(w->n_in, FTK_QBLOCK);
    p.n_out = w->n_out;
    p.n_rows = n_rows;
    p.n_tiles = (w->n_out + FTK_TILE_OUT - 1) / FTK_TILE_OUT;
    p.bias = bias;
    p.add = add;
    p.y = y;
    p.ldy = ldy;
    switch (w->type) {
#define LAUNCH_CASE(name)                                                                          \
    case FTK_TYPE_##name: launch_type<FTK_TYPE_##name>(q, p); break;
        FTK_TILE_TYPES(LAUNCH_CASE)
#undef LAUNCH_CASE
    case FTK_TYPE_F32: {
        const dim3 grid(blocks_for(w->n_out, WARPS), blocks_for(n_rows, FTK_TILE_ROWS));
        FTK_LAUNCH(q, matmul_f32, grid, dim3(THREADS), p, w->n_in);
        break;
    }
    }
}

extern "C" void ftk_cuda_embed(ftk_queue *q, const ftk_cuda_mat *w, int n_rows,
                               const int32_t *token, float scale, float *y)
{
    const size_t tile_bytes = ftk_tiles_bytes(w->type, FTK_TILE_OUT, w->n_in);
    const unsigned char *data = static_cast<const unsigned char *>(w->data);
    const dim3 grid((unsigned)n_rows);
    switch (w->type) {
#define EMBED_CASE(name)                                                                           \
    case FTK_TYPE_##name:                                                                          \
        FTK_LAUNCH(q, embed_tiles<FTK_TYPE_##name>, grid, dim3(THREADS), data, tile_bytes,         \
                   w->n_in, token, scale, y);                                                      \
        break;
        FTK_TILE_TYPES(EMBED_CASE)
#undef EMBED_CASE
    case FTK_TYPE_F32:
        FTK_LAUNCH(q, embed_f32, grid, dim3(THREADS), static_cast<const float *>(w->data), w->n_in,
                   token, scale, y);
        break;
    }
}

extern "C" bool ftk_cuda_wide_fits(const ftk_cuda_mat *w)
{
    return w->type != FTK_TYPE_F32 && w->type != FTK_TYPE_BF16 && w->n_in % FTK_QBLOCK == 0;
}

extern "C" void ftk_cuda_wide_act(ftk_queue *q, int n_rows, int n_in, const float *x,
                                  const ftk_cuda_wide *room)
{
    FTK_LAUNCH(q, halve_rows, dim3((unsigned)n_rows), dim3(THREADS), n_in, x, room->x, room->scale);
}

static void widen(ftk_queue *q, const ftk_cuda_mat *w, uint16_t *to)
{
    const size_t tile_bytes = ftk_tiles_bytes(w->type, FTK_TILE_OUT, w->n_in);
    const unsigned char *data = static_cast<const unsigned char *>(w->data);
    const dim3 grid(blocks_for(w->n_in, FTK_QBLOCK * WARPS), blocks_for(w->n_out, FTK_TILE_OUT));
    switch (w->type) {
#define WIDEN_CASE(name)                                                                           \
    case FTK_TYPE_##name:                                                                          \
        FTK_LAUNCH(q, widen_tiles<FTK_TYPE_##name>, grid, dim3(THREADS), data, tile_bytes,         \
                   w->n_out, w->n_in, to);                                                         \
        break;
        FTK_TILE_TYPES(WIDEN_CASE)
#undef WIDEN_CASE
    default: break; /* ftk_cuda_wide_fits() says no */
    }
}

extern "C" void ftk_cuda_wide_matmul(ftk_queue *q, const ftk_cuda_mat *w, int n_rows,
                                     const ftk_cuda_wide *room, const float *bias, bool add,
                                     float *y, size_t ldy)
{
    widen(q, w, room->w);
    ftk_cuda_gemm(q, n_rows, w->n_out, w->n_in, room->x, room->w, room->y);
    const dim3 grid(blocks_for(w->n_out, THREADS), (unsigned)n_rows);
    FTK_LAUNCH(q, finish_rows, grid, dim3(THREADS), w->n_out, room->y, room->scale, bias, add, y,
               ldy);
}
