/* SPDX-License-Identifier: Apache-2.0
 * cuBLAS, which is looked for when it is asked for, as it need not be installed. */
#include "kernels/cuda/device.h"

#if __has_include(<cublas_v2.h>)
#include <cstdio>
#include <cublas_v2.h>
#include <dlfcn.h>
#include <new>

namespace
{

enum { ROOM = 32 << 20 }; /* bytes that cuBLAS works in */

/* cublasGemmEx(), which has other forms in C++. */
using gemm_function = cublasStatus_t(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                     int, const void *, const void *, cudaDataType, int,
                                     const void *, cudaDataType, int, const void *, void *,
                                     cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t);

struct blas {
    void *library, *room;
    cublasHandle_t handle;
    decltype(&cublasDestroy_v2) destroy;
    gemm_function *gemm;
};

template <typename F> bool find(void *library, const char *name, F *f)
{
    *f = library ? reinterpret_cast<F>(dlsym(library, name)) : nullptr;
    return *f != nullptr;
}

} // namespace

extern "C" bool ftk_cuda_wide_open(ftk_queue *q)
{
    blas *b = new (std::nothrow) blas{};
    q->blas = b;
    if (!b) return false;
    decltype(&cublasCreate_v2) create;
    decltype(&cublasSetStream_v2) set_stream;
    decltype(&cublasSetWorkspace_v2) set_room;
    char name[32];
    snprintf(name, sizeof name, "libcublas.so.%d", CUBLAS_VER_MAJOR);
    b->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!find(b->library, "cublasCreate_v2", &create) ||
        !find(b->library, "cublasDestroy_v2", &b->destroy) ||
        !find(b->library, "cublasSetStream_v2", &set_stream) ||
        !find(b->library, "cublasSetWorkspace_v2", &set_room) ||
        !find(b->library, "cublasGemmEx", &b->gemm))
        return false;
    b->room = ftk_cuda_alloc(q, ROOM);
    return b->room && create(&b->handle) == CUBLAS_STATUS_SUCCESS &&
           set_stream(b->handle, (cudaStream_t)q->stream) == CUBLAS_STATUS_SUCCESS &&
           set_room(b->handle, b->room, ROOM) == CUBLAS_STATUS_SUCCESS;
}

extern "C" void ftk_cuda_wide_close(ftk_queue *q)
{
    blas *b = static_cast<blas *>(q->blas);
    if (!b) return;
    if (b->handle) b->destroy(b->handle);
    if (b->library) dlclose(b->library);
    cudaFree(b->room);
    delete b;
    q->blas = nullptr;
}

/* cuBLAS counts columns first: to it y is [n_out][n_rows], and w is to be turned round. */
extern "C" void ftk_cuda_gemm(ftk_queue *q, int n_rows, int n_out, int n_in, const uint16_t *x,
                              const uint16_t *w, float *y)
{
    const float one = 1, zero = 0;
    const blas *b = static_cast<const blas *>(q->blas);
    const cublasStatus_t s = b->gemm(b->handle, CUBLAS_OP_T, CUBLAS_OP_N, n_out, n_rows, n_in, &one,
                                     w, CUDA_R_16F, n_in, x, CUDA_R_16F, n_in, &zero, y, CUDA_R_32F,
                                     n_out, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    if (s != CUBLAS_STATUS_SUCCESS && q->error == 0) q->error = (int)cudaErrorUnknown;
}

#else /* a toolkit without it */

extern "C" bool ftk_cuda_wide_open(ftk_queue *)
{
    return false;
}

extern "C" void ftk_cuda_wide_close(ftk_queue *)
{
}

extern "C" void ftk_cuda_gemm(ftk_queue *, int, int, int, const uint16_t *, const uint16_t *,
                              float *)
{
}

#endif
