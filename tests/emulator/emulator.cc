/* SPDX-License-Identifier: Apache-2.0
 * See emulator.h; and the runtime of cuda.h on the host's memory. For tests only: it prints and
 * ends the program where a kernel is wrong. */
#include "emulator.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "kernels/cuda/cuda.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

/* ------------------------------------------------------------------ fibers */

namespace
{

/* STRIDE: stacks a power of 2 apart would share the same few lines of every cache. */
enum { MOST = 1024, STACK = 128 << 10, STRIDE = STACK + 9 * 64, WARP = 32 };
enum fiber_state { RUNS, AT_WARP, AT_BLOCK, DONE };

struct fiber {
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    fiber_state state;
    void (*op)(void *const *args);
    void *arg;
    dim3 thread;
};

fiber fibers[MOST], scheduler;
int n_fibers; /* that have a stack */
char *stacks;
int running;
const std::function<void()> *body;
uint32_t disorder = 1; /* decides who runs first */

[[noreturn]] void wrong(const char *what)
{
    fprintf(stderr, "emulated GPU: %s (block %u, %u, %u; warp %d)\n", what, blockIdx.x, blockIdx.y,
            blockIdx.z, running / WARP);
    abort();
}

} // namespace

#if defined(__x86_64__)
/* Saves what a called function has to keep, and goes on on another stack. */
extern "C" void ftk_emu_switch(void **save, void *to);
__asm__(".text\n"
        ".globl ftk_emu_switch\n"
        ".type ftk_emu_switch,@function\n"
        "ftk_emu_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size ftk_emu_switch,.-ftk_emu_switch\n"
        ".section .note.GNU-stack,\"\",@progbits\n"
        ".text\n");
#endif

namespace
{

void change(fiber *from, fiber *to)
{
#if defined(__x86_64__)
    ftk_emu_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
}

fiber *enter(int t)
{
    running = t;
    threadIdx = fibers[t].thread;
    return &fibers[t];
}

/* Lets the next lane of the warp go on, if that has not come as far yet. Stacks that change at one
 * place in the code are what processors predict well, so the scheduler is passed by. */
void leave()
{
    fiber *const f = &fibers[running];
    const int next = running / WARP * WARP + (running + 1) % WARP;
    change(f, fibers[next].state == RUNS ? enter(next) : &scheduler);
}

/* A fiber serves one thread of a block after the other. */
void live()
{
    for (;;) {
        (*body)();
        fibers[running].state = DONE;
        leave();
    }
}

void make_fiber(fiber *f)
{
    if (!stacks) stacks = static_cast<char *>(aligned_alloc(64, (size_t)MOST * STRIDE));
    if (!stacks) wrong("no memory for stacks");
    char *stack = stacks + (f - fibers) * STRIDE;
#if defined(__x86_64__)
    void **top = reinterpret_cast<void **>(stack + STACK) - 3; /* a multiple of 16, less 8 */
    *--top = reinterpret_cast<void *>(live);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f->sp = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = stack;
    f->context.uc_stack.ss_size = STACK;
    makecontext(&f->context, live, 0);
#endif
}

/* Runs a warp until all of it waits at a block's barrier, or is done. */
fiber_state run_warp(int first)
{
    for (;;) {
        disorder = disorder * 1664525u + 1013904223u;
        const int from = (int)(disorder >> 27);
        for (int i = 0; i < WARP; i++) {
            const int t = first + (i + from) % WARP;
            if (fibers[t].state == RUNS) change(&scheduler, enter(t));
        }
        const fiber *f = &fibers[first];
        void *args[WARP];
        for (int i = 0; i < WARP; i++) {
            if (f[i].state != f->state || f[i].op != f->op)
                wrong("lanes of a warp went different ways to a meeting");
            args[i] = f[i].arg;
        }
        if (f->state != AT_WARP) return f->state;
        if (f->op) f->op(args);
        for (int i = 0; i < WARP; i++) fibers[first + i].state = RUNS;
    }
}

void run_block(int n)
{
    for (int i = 0; i < n; i++) {
        fibers[i].state = RUNS;
        fibers[i].op = nullptr;
    }
    for (;;) {
        disorder = disorder * 1664525u + 1013904223u;
        const int n_warps = n / WARP, from = (int)(disorder >> 20) % n_warps;
        fiber_state all = RUNS;
        for (int i = 0; i < n_warps; i++) {
            const fiber_state s = run_warp((i + from) % n_warps * WARP);
            if (all != RUNS && s != all) wrong("warps of a block went different ways to a barrier");
            all = s;
        }
        if (all == DONE) return;
        for (int i = 0; i < n; i++) fibers[i].state = RUNS;
    }
}

} // namespace

void ftk_emu_meet(ftk_emu_place place, void (*op)(void *const *args), void *arg)
{
    fiber *f = &fibers[running];
    f->state = place == FTK_EMU_WARP ? AT_WARP : AT_BLOCK;
    f->op = op;
    f->arg = arg;
    leave();
}

void ftk_emu_run(dim3 grid, dim3 block, const std::function<void()> &f)
{
    const int n = (int)(block.x * block.y * block.z);
    if (n % WARP != 0 || n > MOST) wrong("a block must be whole warps");
    while (n_fibers < n) make_fiber(&fibers[n_fibers++]);
    body = &f;
    gridDim = grid;
    blockDim = block;
    for (int t = 0; t < n; t++)
        fibers[t].thread = dim3((unsigned)t % block.x, (unsigned)t / block.x % block.y,
                                (unsigned)t / block.x / block.y);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = dim3(grid.x - 1 - x, y, z);
                run_block(n);
            }
}

/* ------------------------------------------------------------------ tensor cores */

namespace
{

/* K inputs of 16 rows by 8 columns, gathered from the lanes. */
template <typename T, int K> struct operands {
    T a[16][K], b[8][K];
};

template <typename C> struct mma_lane {
    C *c;
    const uint32_t *a, *b;
};

template <typename T, int K, typename S, typename C>
void multiply(const operands<T, K> &o, void *const *args)
{
    for (int l = 0; l < WARP; l++) {
        auto *lane = static_cast<mma_lane<C> *>(args[l]);
        for (int i = 0; i < 4; i++) {
            const T *a = o.a[l / 4 + i / 2 * 8], *b = o.b[l % 4 * 2 + i % 2];
            S sum = 0;
            for (int k = 0; k < K; k++) sum += (S)a[k] * (S)b[k];
            lane->c[i] = (C)(lane->c[i] + sum);
        }
    }
}

template <int K> void bytes(void *const *args)
{
    operands<int16_t, K> o;
    for (int l = 0; l < WARP; l++) {
        const auto *lane = static_cast<const mma_lane<int> *>(args[l]);
        for (int half = 0; half < K / 16; half++)
            for (int j = 0; j < 4; j++) {
                const int k = half * 16 + l % 4 * 4 + j;
                for (int r = 0; r < 2; r++)
                    o.a[l / 4 + r * 8][k] = (int16_t)(lane->a[half * 2 + r] >> 8 * j & 0xff);
                o.b[l / 4][k] = (int8_t)(lane->b[half] >> 8 * j & 0xff);
            }
    }
    multiply<int16_t, K, int, int>(o, args);
}

/* Sums in double: what the hardware rounds, and how, is not known to the last bit. */
template <float (*widen)(uint16_t)> void halves(void *const *args)
{
    operands<float, 16> o;
    for (int l = 0; l < WARP; l++) {
        const auto *lane = static_cast<const mma_lane<float> *>(args[l]);
        for (int half = 0; half < 2; half++)
            for (int j = 0; j < 2; j++) {
                const int k = half * 8 + l % 4 * 2 + j;
                for (int r = 0; r < 2; r++)
                    o.a[l / 4 + r * 8][k] = widen((uint16_t)(lane->a[half * 2 + r] >> 16 * j));
                o.b[l / 4][k] = widen((uint16_t)(lane->b[half] >> 16 * j));
            }
    }
    multiply<float, 16, double, float>(o, args);
}

} // namespace

void mma_bytes_32(int c[4], const uint32_t a[4], const uint32_t b[2])
{
    mma_lane<int> lane = {c, a, b};
    ftk_emu_meet(FTK_EMU_WARP, bytes<32>, &lane);
}

void mma_bytes_16(int c[4], const uint32_t a[2], uint32_t b)
{
    mma_lane<int> lane = {c, a, &b};
    ftk_emu_meet(FTK_EMU_WARP, bytes<16>, &lane);
}

void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    mma_lane<float> lane = {c, a, b};
    ftk_emu_meet(FTK_EMU_WARP, halves<ftk_f16_f32>, &lane);
}

void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    mma_lane<float> lane = {c, a, b};
    ftk_emu_meet(FTK_EMU_WARP, halves<ftk_bf16_f32>, &lane);
}

/* ------------------------------------------------------------------ the runtime */

/* Copies are under way until the queue is waited for: what they read of host memory that is pinned
 * must stay as it is, and what they write is there no sooner. */
namespace
{

struct piece {
    const void *at;
    size_t n;
};

struct on_its_way {
    ftk_queue *q;
    void *to;         /* null: a copy from the host */
    const void *from; /* of the host */
    std::vector<char> bytes;
};

std::vector<piece> pinned;
std::vector<on_its_way> copies;

bool is_pinned(const void *p)
{
    for (const piece &m : pinned) {
        const char *at = static_cast<const char *>(m.at);
        if (p >= at && p < at + m.n) return true;
    }
    return false;
}

std::vector<char> bytes_of(const void *p, size_t n)
{
    const char *at = static_cast<const char *>(p);
    return std::vector<char>(at, at + n);
}

void forget(const ftk_queue *q)
{
    copies.erase(
        std::remove_if(copies.begin(), copies.end(), [=](const on_its_way &c) { return c.q == q; }),
        copies.end());
}

void arrive(const ftk_queue *q)
{
    for (const on_its_way &c : copies) {
        if (c.q != q) continue;
        if (c.to)
            memcpy(c.to, c.bytes.data(), c.bytes.size());
        else if (memcmp(c.from, c.bytes.data(), c.bytes.size()) != 0)
            wrong("host memory was written while it was copied");
    }
    forget(q);
}

} // namespace

bool ftk_cuda_emulated(void)
{
    return true;
}

bool ftk_cuda_probe(int ordinal, ftk_cuda_info *info)
{
    *info = ftk_cuda_info{};
    info->n_devices = 1;
    if (ordinal > 0) {
        snprintf(info->problem, sizeof info->problem, "there is no device %d, only 0", ordinal);
        return false;
    }
    snprintf(info->name, sizeof info->name, "emulated");
    info->total = info->free = (size_t)4 << 30;
    return true;
}

bool ftk_cuda_open(ftk_queue *q, int ordinal)
{
    *q = ftk_queue{};
    q->device = ordinal;
    return true;
}

void ftk_cuda_close(ftk_queue *q)
{
    forget(q);
    *q = ftk_queue{};
}

/* Memory of a GPU is not zeroed, and neither is this. */
void *ftk_cuda_alloc(ftk_queue *q, size_t n)
{
    if (q->own) wrong("memory was asked for while work was kept");
    if (q->limit && n > q->limit) return nullptr;
    void *p = aligned_alloc(256, (n + 255) / 256 * 256);
    if (p) memset(p, 0xff, n);
    if (p && q->limit) q->limit -= n;
    return p;
}

void ftk_cuda_free(ftk_queue *, void *p)
{
    free(p);
}

void *ftk_cuda_alloc_host(ftk_queue *, size_t n)
{
    void *p = aligned_alloc(256, (n + 255) / 256 * 256);
    if (p) pinned.push_back({p, n});
    return p;
}

void ftk_cuda_free_host(ftk_queue *q, void *p)
{
    arrive(q);
    pinned.erase(
        std::remove_if(pinned.begin(), pinned.end(), [=](const piece &m) { return m.at == p; }),
        pinned.end());
    free(p);
}

void ftk_cuda_upload(ftk_queue *q, void *dst, const void *src, size_t n)
{
    if (q->own) wrong("a copy from the host was to be kept");
    if (n == 0) return;
    memcpy(dst, src, n);
    if (is_pinned(src)) copies.push_back({q, nullptr, src, bytes_of(src, n)});
}

void ftk_cuda_download(ftk_queue *q, void *dst, const void *src, size_t n)
{
    if (q->own) wrong("a copy to the host was to be kept");
    if (n == 0) return;
    copies.push_back({q, dst, nullptr, bytes_of(src, n)});
    memset(dst, 0xff, n);
}

void ftk_cuda_copy(ftk_queue *q, void *dst, const void *src, size_t n)
{
    if (n) ftk_emu_submit(q, [=] { memcpy(dst, src, n); });
}

bool ftk_cuda_wait(ftk_queue *q)
{
    if (q->own) wrong("work that is kept was waited for");
    arrive(q);
    q->waits++;
    return q->error == 0;
}

bool ftk_cuda_wide_open(ftk_queue *)
{
    return true;
}

void ftk_cuda_wide_close(ftk_queue *)
{
}

void ftk_cuda_gemm(ftk_queue *q, int n_rows, int n_out, int n_in, const uint16_t *x,
                   const uint16_t *w, float *y)
{
    const size_t n = (size_t)n_in, rows = (size_t)n_rows, outs = (size_t)n_out;
    ftk_emu_submit(q, [=] {
        std::vector<float> a(rows * n), b(n);
        for (size_t i = 0; i < rows * n; i++) a[i] = ftk_f16_f32(x[i]);
        for (size_t o = 0; o < outs; o++) {
            for (size_t k = 0; k < n; k++) b[k] = ftk_f16_f32(w[o * n + k]);
            for (size_t r = 0; r < rows; r++) {
                float sum = 0;
                for (size_t k = 0; k < n; k++) sum += a[r * n + k] * b[k];
                y[r * outs + o] = sum;
            }
        }
    });
}

/* q->own is the graph that keeps what is submitted, if any. */
struct ftk_cuda_graph {
    std::vector<std::function<void()>> work;
};

void ftk_emu_submit(ftk_queue *q, const std::function<void()> &work)
{
    if (q->own) {
        static_cast<ftk_cuda_graph *>(q->own)->work.push_back(work);
        return;
    }
    q->launches++;
    work();
}

void ftk_cuda_graph_begin(ftk_queue *q)
{
    q->own = new ftk_cuda_graph;
}

ftk_cuda_graph *ftk_cuda_graph_end(ftk_queue *q)
{
    ftk_cuda_graph *g = static_cast<ftk_cuda_graph *>(q->own);
    q->own = nullptr;
    return g;
}

void ftk_cuda_graph_run(ftk_queue *, ftk_cuda_graph *g)
{
    for (const auto &work : g->work) work();
}

void ftk_cuda_graph_free(ftk_cuda_graph *g)
{
    delete g;
}

void ftk_cuda_mark(ftk_queue *q, int mark)
{
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    q->mark[mark] = std::chrono::duration<double>(now).count();
}

double ftk_cuda_elapsed(ftk_queue *q, int mark)
{
    return q->mark[mark + 1] - q->mark[mark];
}

const char *ftk_cuda_error_text(const ftk_queue *)
{
    return "the emulated GPU failed";
}
