/* SPDX-License-Identifier: Apache-2.0
 *
 * What kernels are written in: CUDA, or, compiled as plain C++, emulator.h, which runs the
 * threads of a block on the CPU. Everything that is an instruction of the GPU and no C++ stands
 * here, once for each. Compiled without contraction (-fmad=false) and without fast-math; where a
 * fused multiply-add is meant, it says fmaf. */
#ifndef FTK_CUDA_DEVICE_H
#define FTK_CUDA_DEVICE_H

#include "foretoken.h"
#include "kernels/cuda/cuda.h"

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define FTK_UNROLL   _Pragma("unroll")
#define FTK_UNROLL_4 _Pragma("unroll 4")
#define FTK_LAUNCH(queue, kernel, grid, block, ...)                                                \
    do {                                                                                           \
        kernel<<<grid, block, 0, (cudaStream_t)(queue)->stream>>>(__VA_ARGS__);                    \
        if ((queue)->error == 0) (queue)->error = (int)cudaPeekAtLastError();                      \
    } while (0)

static __device__ __forceinline__ float half_float(uint16_t h)
{
    return __half2float(__ushort_as_half(h));
}

static __device__ __forceinline__ uint16_t float_half(float f)
{
    return __half_as_ushort(__float2half_rn(f));
}

static __device__ __forceinline__ uint16_t float_bf16(float f)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(f));
}

static __device__ __forceinline__ uint32_t float_bits(float f)
{
    return __float_as_uint(f);
}

static __device__ __forceinline__ float bits_float(uint32_t u)
{
    return __uint_as_float(u);
}

/* Bytes of x (0..3) and y (4..7), chosen by the nibbles of sel. */
static __device__ __forceinline__ uint32_t pick_bytes(uint32_t x, uint32_t y, uint32_t sel)
{
    return __byte_perm(x, y, sel);
}

template <typename T> static __device__ __forceinline__ T shuffle_xor(T v, int mask)
{
    return __shfl_xor_sync(0xffffffffu, v, mask);
}

static __device__ __forceinline__ uint32_t lanes_that(bool b)
{
    return __ballot_sync(0xffffffffu, b);
}

/* c += a b, a unsigned bytes, b signed: see tiles.h for who holds what. */
static __device__ __forceinline__ void mma_bytes_32(int c[4], const uint32_t a[4],
                                                    const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The same over half a block. */
static __device__ __forceinline__ void mma_bytes_16(int c[4], const uint32_t a[2], uint32_t b)
{
    asm("mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
}

static __device__ __forceinline__ void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void mma_bf16(float c[4], const uint32_t a[4],
                                                const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#else
#include "emulator.h"
#endif

/* All threads agree. */
static __device__ __forceinline__ bool left_out(const ftk_cuda_when &when)
{
    return when.at && !(when.values >> *when.at & 1);
}

static __device__ __forceinline__ float bf16_float(uint16_t h)
{
    return bits_float((uint32_t)h << 16);
}

/* Blocks of `each` for n of them. */
template <typename T> static inline unsigned blocks_for(T n, int each)
{
    return (unsigned)((n + (T)each - 1) / (T)each);
}

/* Over the 32 lanes, in one fixed order; every lane gets the result. */
template <typename T> static __device__ __forceinline__ T warp_sum(T v)
{
    for (int m = 16; m > 0; m /= 2) v += shuffle_xor(v, m);
    return v;
}

/* The same over all threads of a block of so many warps. */
template <int WARPS, typename T> static __device__ T block_sum(T v)
{
    __shared__ T part[WARPS];
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    T all = 0;
    for (int w = 0; w < WARPS; w++) all += part[w];
    __syncthreads(); /* the next one writes there */
    return all;
}

/* NaN is passed over. */
static __device__ __forceinline__ float warp_max(float v)
{
    for (int m = 16; m > 0; m /= 2) v = fmaxf(v, shuffle_xor(v, m));
    return v;
}

#endif
