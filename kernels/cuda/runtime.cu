/* SPDX-License-Identifier: Apache-2.0
 * The little that is needed of the CUDA runtime. */
#include <cstdio>
#include <new>

#include "kernels/cuda/device.h"

namespace
{

enum { OLDEST = 8 }; /* compute capability that the kernels are compiled for, 8.0 */

/* A queue's stream and the events that time it. */
struct lane {
    cudaStream_t stream;
    cudaEvent_t mark[FTK_CUDA_MARKS];
};

lane *lane_of(const ftk_queue *q)
{
    return static_cast<lane *>(q->own);
}

void keep(ftk_queue *q, cudaError_t e)
{
    if (e != cudaSuccess && q->error == 0) q->error = (int)e;
}

bool say(ftk_cuda_info *info, const char *what, cudaError_t e)
{
    snprintf(info->problem, sizeof info->problem, "%s (%s)", what, cudaGetErrorString(e));
    return false;
}

} // namespace

extern "C" bool ftk_cuda_emulated(void)
{
    return false;
}

extern "C" bool ftk_cuda_probe(int ordinal, ftk_cuda_info *info)
{
    *info = ftk_cuda_info{};
    cudaError_t e = cudaGetDeviceCount(&info->n_devices);
    if (e == cudaErrorInsufficientDriver) {
        int driver = 0, runtime = 0;
        cudaDriverGetVersion(&driver);
        cudaRuntimeGetVersion(&runtime);
        if (driver == 0)
            snprintf(info->problem, sizeof info->problem, "no NVIDIA driver is installed");
        else
            snprintf(info->problem, sizeof info->problem,
                     "the NVIDIA driver is too old: it knows CUDA %d.%d, this build needs %d.%d",
                     driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
        return false;
    }
    if (e == cudaErrorNoDevice || (e == cudaSuccess && info->n_devices == 0)) {
        snprintf(info->problem, sizeof info->problem, "there is no NVIDIA GPU");
        return false;
    }
    if (e != cudaSuccess) return say(info, "the NVIDIA driver does not answer", e);
    if (ordinal >= info->n_devices) {
        snprintf(info->problem, sizeof info->problem, "there is no device %d, only 0 to %d",
                 ordinal, info->n_devices - 1);
        return false;
    }
    cudaDeviceProp p;
    e = cudaGetDeviceProperties(&p, ordinal);
    if (e != cudaSuccess) return say(info, "the device cannot be asked", e);
    snprintf(info->name, sizeof info->name, "%s", p.name);
    info->major = p.major;
    info->minor = p.minor;
    info->n_sm = p.multiProcessorCount;
    if (p.major < OLDEST) {
        snprintf(info->problem, sizeof info->problem,
                 "%s has compute capability %d.%d; this build needs %d.0 or newer", info->name,
                 p.major, p.minor, (int)OLDEST);
        return false;
    }
    e = cudaSetDevice(ordinal);
    if (e == cudaSuccess) e = cudaMemGetInfo(&info->free, &info->total);
    return e == cudaSuccess ? true : say(info, "the device cannot be used", e);
}

extern "C" bool ftk_cuda_open(ftk_queue *q, int ordinal)
{
    *q = ftk_queue{};
    q->device = ordinal;
    lane *l = new (std::nothrow) lane{};
    if (!l) return false;
    q->own = l;
    keep(q, cudaSetDevice(ordinal));
    keep(q, cudaStreamCreateWithFlags(&l->stream, cudaStreamNonBlocking));
    for (cudaEvent_t &mark : l->mark) keep(q, cudaEventCreate(&mark));
    q->stream = l->stream;
    return q->error == 0;
}

extern "C" void ftk_cuda_close(ftk_queue *q)
{
    lane *l = lane_of(q);
    if (!l) return;
    cudaSetDevice(q->device);
    ftk_cuda_wide_close(q);
    for (cudaEvent_t mark : l->mark)
        if (mark) cudaEventDestroy(mark);
    if (l->stream) cudaStreamDestroy(l->stream);
    delete l;
    *q = ftk_queue{};
}

extern "C" void *ftk_cuda_alloc(ftk_queue *q, size_t n)
{
    void *p = nullptr;
    cudaSetDevice(q->device);
    const cudaError_t e = cudaMalloc(&p, n > 0 ? n : 1);
    if (e == cudaSuccess) return p;
    cudaGetLastError(); /* too little memory does not spoil what is done afterwards */
    if (e != cudaErrorMemoryAllocation) keep(q, e);
    return nullptr;
}

extern "C" void ftk_cuda_free(ftk_queue *q, void *p)
{
    (void)q;
    cudaFree(p);
}

extern "C" void *ftk_cuda_alloc_host(ftk_queue *q, size_t n)
{
    void *p = nullptr;
    cudaSetDevice(q->device);
    if (cudaMallocHost(&p, n > 0 ? n : 1) == cudaSuccess) return p;
    cudaGetLastError();
    return nullptr;
}

extern "C" void ftk_cuda_free_host(ftk_queue *q, void *p)
{
    (void)q;
    cudaFreeHost(p);
}

static void copy(ftk_queue *q, void *dst, const void *src, size_t n, cudaMemcpyKind kind)
{
    if (n == 0) return;
    cudaSetDevice(q->device);
    keep(q, cudaMemcpyAsync(dst, src, n, kind, (cudaStream_t)q->stream));
}

extern "C" void ftk_cuda_upload(ftk_queue *q, void *dst, const void *src, size_t n)
{
    copy(q, dst, src, n, cudaMemcpyHostToDevice);
}

extern "C" void ftk_cuda_download(ftk_queue *q, void *dst, const void *src, size_t n)
{
    copy(q, dst, src, n, cudaMemcpyDeviceToHost);
}

extern "C" void ftk_cuda_copy(ftk_queue *q, void *dst, const void *src, size_t n)
{
    copy(q, dst, src, n, cudaMemcpyDeviceToDevice);
}

extern "C" bool ftk_cuda_wait(ftk_queue *q)
{
    keep(q, cudaStreamSynchronize((cudaStream_t)q->stream));
    return q->error == 0;
}

extern "C" void ftk_cuda_mark(ftk_queue *q, int mark)
{
    lane *l = lane_of(q);
    cudaSetDevice(q->device);
    keep(q, cudaEventRecord(l->mark[mark], l->stream));
}

extern "C" double ftk_cuda_elapsed(ftk_queue *q, int mark)
{
    lane *l = lane_of(q);
    keep(q, cudaEventSynchronize(l->mark[mark + 1]));
    float ms = 0;
    keep(q, cudaEventElapsedTime(&ms, l->mark[mark], l->mark[mark + 1]));
    return (double)ms * 1e-3;
}

/* ------------------------------------------------------------------ kept work */

struct ftk_cuda_graph {
    cudaGraphExec_t exec;
};

extern "C" void ftk_cuda_graph_begin(ftk_queue *q)
{
    cudaSetDevice(q->device);
    keep(q, cudaStreamBeginCapture((cudaStream_t)q->stream, cudaStreamCaptureModeThreadLocal));
}

extern "C" ftk_cuda_graph *ftk_cuda_graph_end(ftk_queue *q)
{
    cudaGraph_t graph = nullptr;
    ftk_cuda_graph *g = new (std::nothrow) ftk_cuda_graph{};
    cudaError_t e = cudaStreamEndCapture((cudaStream_t)q->stream, &graph);
    if (e == cudaSuccess && g && q->error == 0) e = cudaGraphInstantiate(&g->exec, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (e == cudaSuccess && g && q->error == 0) return g;
    delete g;
    q->error = 0; /* nothing was done: what is asked again without keeping it will tell */
    cudaGetLastError();
    return nullptr;
}

extern "C" void ftk_cuda_graph_run(ftk_queue *q, ftk_cuda_graph *g)
{
    cudaSetDevice(q->device);
    keep(q, cudaGraphLaunch(g->exec, (cudaStream_t)q->stream));
}

extern "C" void ftk_cuda_graph_free(ftk_cuda_graph *g)
{
    if (g) cudaGraphExecDestroy(g->exec);
    delete g;
}

extern "C" const char *ftk_cuda_error_text(const ftk_queue *q)
{
    return cudaGetErrorString((cudaError_t)q->error);
}
