/* SPDX-License-Identifier: Apache-2.0
 *
 * A GPU made of one CPU thread, for tests: the words of CUDA that the kernels use, in plain C++.
 * The threads of a block are fibers that run one after the other up to the next place where they
 * have to meet, warps in an order that changes from meeting to meeting, so that a barrier that
 * is missing shows. Threads that do not meet where the others do end the program with a line
 * that says so. Shared memory is static: blocks run one at a time. Instructions over a warp, the
 * tensor cores' among them, are done for all lanes at once, in plain C++. */
#ifndef FTK_EMULATOR_H
#define FTK_EMULATOR_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#include "kernels/blocks.h"

#define __global__
#define __device__
#define __host__
#define __constant__    static
#define __forceinline__ inline
#define __shared__      static
#define __launch_bounds__(...)
#define FTK_UNROLL
#define FTK_UNROLL_4

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

enum ftk_emu_place { FTK_EMU_WARP, FTK_EMU_BLOCK };
/* Waits for the other threads of the warp or the block; then op, if any, is called once with
 * what each lane gave, and all go on. */
void ftk_emu_meet(ftk_emu_place place, void (*op)(void *const *args), void *arg);
void ftk_emu_run(dim3 grid, dim3 block, const std::function<void()> &body);
/* Does it now, or keeps it where the queue keeps work. */
struct ftk_queue;
void ftk_emu_submit(ftk_queue *q, const std::function<void()> &work);

/* A kernel is given copies of its arguments, as on the GPU: it may run later. */
template <typename... P, typename... A>
static inline void ftk_emu_launch(ftk_queue *q, void (*kernel)(P...), dim3 grid, dim3 block,
                                  A... args)
{
    const std::tuple<P...> given(args...);
    ftk_emu_submit(q, [=] { ftk_emu_run(grid, block, [&] { std::apply(kernel, given); }); });
}

#define FTK_LAUNCH(queue, kernel, grid, block, ...)                                                \
    ftk_emu_launch(queue, kernel, grid, block, __VA_ARGS__)

static inline void __syncthreads()
{
    ftk_emu_meet(FTK_EMU_BLOCK, nullptr, nullptr);
}

static inline void __syncwarp()
{
    ftk_emu_meet(FTK_EMU_WARP, nullptr, nullptr);
}

static inline float half_float(uint16_t h)
{
    return ftk_f16_f32(h);
}

static inline uint16_t float_half(float f)
{
    return ftk_f32_f16(f);
}

static inline uint16_t float_bf16(float f)
{
    return ftk_f32_bf16(f);
}

static inline uint32_t float_bits(float f)
{
    return ftk_f32_bits(f);
}

static inline float bits_float(uint32_t u)
{
    return ftk_bits_f32(u);
}

static inline int __popcll(unsigned long long v)
{
    return __builtin_popcountll(v);
}

static inline uint32_t pick_bytes(uint32_t x, uint32_t y, uint32_t sel)
{
    const uint64_t all = (uint64_t)y << 32 | x;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) out |= (uint32_t)(all >> (sel >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return out;
}

template <typename T> struct ftk_emu_shuffle {
    T in, out;
    int mask;
};

template <typename T> static inline T shuffle_xor(T v, int mask)
{
    ftk_emu_shuffle<T> s = {v, v, mask};
    ftk_emu_meet(
        FTK_EMU_WARP,
        [](void *const *args) {
            for (int l = 0; l < 32; l++) {
                auto *mine = static_cast<ftk_emu_shuffle<T> *>(args[l]);
                mine->out = static_cast<ftk_emu_shuffle<T> *>(args[l ^ mine->mask])->in;
            }
        },
        &s);
    return s.out;
}

struct ftk_emu_vote {
    bool in;
    uint32_t out;
};

static inline uint32_t lanes_that(bool b)
{
    ftk_emu_vote v = {b, 0};
    ftk_emu_meet(
        FTK_EMU_WARP,
        [](void *const *args) {
            uint32_t all = 0;
            for (int l = 0; l < 32; l++)
                all |= (uint32_t) static_cast<ftk_emu_vote *>(args[l])->in << l;
            for (int l = 0; l < 32; l++) static_cast<ftk_emu_vote *>(args[l])->out = all;
        },
        &v);
    return v.out;
}

/* The products of the tensor cores, in emulator.cc. */
void mma_bytes_32(int c[4], const uint32_t a[4], const uint32_t b[2]);
void mma_bytes_16(int c[4], const uint32_t a[2], uint32_t b);
void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2]);
void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]);

#endif
