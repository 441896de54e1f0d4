/* SPDX-License-Identifier: Apache-2.0
 *
 * The CUDA level, as C sees it: kernels as functions of pointers, shapes and a queue, and the
 * little that is needed of the runtime. Two libraries have these functions: kernels/cuda/ *.cu
 * compiled by nvcc, and the same files compiled as plain C++ with emulator.cc, for tests.
 *
 * Pointers are to device memory unless they say host. Calls return before the work is done; work
 * on a queue is done in order, and the queue keeps the first error. The bits of an output row
 * depend on that row's input alone, as everywhere (kernels.h). */
#ifndef FTK_CUDA_H
#define FTK_CUDA_H

#include "base/policy.h"
#include "base/target.h"
#include "kernels/cuda/tiles.h"
#include "kernels/offby.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ runtime */

/* Work that is done only if one of a byte's values holds: bit *at of `values`. The byte is read
 * when the work is done, so work on the queue before may write it. */
typedef struct ftk_cuda_when {
    const uint8_t *at; /* NULL: always */
    unsigned values;
} ftk_cuda_when;

enum { FTK_CUDA_MARKS = 65 };

typedef struct ftk_queue {
    ftk_cuda_when
        when; /* goes for products, norms, turns, gates, sums and attention that are put on the
                           queue from now on; other work is always done */
    void *stream, *own; /* the runtime's; what else belongs to the queue */
    void *blas;         /* ftk_cuda_wide_open() */
    int device;
    int error;    /* the runtime's number; 0: none yet */
    size_t limit; /* emulated only: bytes that may still be allocated; 0: any */
    int waits;    /* emulated only: how often ftk_cuda_wait() was called */
    int launches; /* emulated only: kernels and copies within the device that were not kept */
    double mark[FTK_CUDA_MARKS]; /* emulated only: when */
} ftk_queue;

typedef struct ftk_cuda_info {
    char name[128];
    char problem[192]; /* why the device cannot be used, in words that finish a sentence */
    int n_devices, major, minor, n_sm;
    size_t total, free; /* bytes */
} ftk_cuda_info;

/* True for the library that runs on the CPU. */
bool ftk_cuda_emulated(void);
/* True if the device can be used; else info->problem says why not. */
bool ftk_cuda_probe(int ordinal, ftk_cuda_info *info);
bool ftk_cuda_open(ftk_queue *q, int ordinal);
void ftk_cuda_close(ftk_queue *q);
void *ftk_cuda_alloc(ftk_queue *q, size_t n); /* 256-byte aligned; NULL: not enough, no error */
void ftk_cuda_free(ftk_queue *q, void *p);    /* accepts NULL */
/* Host memory that copies need not go round. */
void *ftk_cuda_alloc_host(ftk_queue *q, size_t n);
void ftk_cuda_free_host(ftk_queue *q, void *p);
void ftk_cuda_upload(ftk_queue *q, void *dst, const void *host_src, size_t n);
void ftk_cuda_download(ftk_queue *q, void *host_dst, const void *src, size_t n);
void ftk_cuda_copy(ftk_queue *q, void *dst, const void *src, size_t n);
/* Until all work is done; false once there has been an error. */
bool ftk_cuda_wait(ftk_queue *q);
/* Here is the queue's work now: mark 0, 1 ... FTK_CUDA_MARKS - 1. */
void ftk_cuda_mark(ftk_queue *q, int mark);
/* Seconds of the queue's work from a mark to the next one; waits until it has come there. */
double ftk_cuda_elapsed(ftk_queue *q, int mark);
const char *ftk_cuda_error_text(const ftk_queue *q);

/* Work that is kept, to be done again by one call. What is put on the queue between begin and
 * end is not done but kept, with the pointers and numbers it was given; what lies behind the
 * pointers is read when it is done. Only kernels and copies within the device may be kept. */
typedef struct ftk_cuda_graph ftk_cuda_graph;
void ftk_cuda_graph_begin(ftk_queue *q);
/* NULL: the runtime would not keep it. The queue goes on as if nothing had been asked. */
ftk_cuda_graph *ftk_cuda_graph_end(ftk_queue *q);
void ftk_cuda_graph_run(ftk_queue *q, ftk_cuda_graph *g);
void ftk_cuda_graph_free(ftk_cuda_graph *g); /* accepts NULL */

/* ------------------------------------------------------------------ products */

/* w: a matrix as ftk_tiles_pack() wrote it. */
typedef struct ftk_cuda_mat {
    ftk_type type;
    int n_out, n_in;
    const void *data;
} ftk_cuda_mat;

/* x [n_rows][n_in] floats to the activations that matrices of `form` read; not for F32, which
 * reads the floats. dst: ftk_tile_act_bytes(). */
void ftk_cuda_act(ftk_queue *q, ftk_tile_act form, int n_rows, int n_in, const float *x, void *dst);

/* y[r * ldy + o] = W[o] . x[r] + bias[o], bias may be NULL; if `add`, y += that. */
void ftk_cuda_matmul(ftk_queue *q, const ftk_cuda_mat *w, const void *act, int n_rows,
                     const float *bias, bool add, float *y, size_t ldy);

/* y[i] = scale * row token[i] of the matrix, n_rows rows of n_in floats. */
void ftk_cuda_embed(ftk_queue *q, const ftk_cuda_mat *w, int n_rows, const int32_t *token,
                    float scale, float *y);

/* ------------------------------------------------------------------ wide products */

/* Products of many rows through cuBLAS, with the weights as 16-bit floats. Which of a call's
 * rows a row is may show in its last bits, and how many there are does: calls that are to agree
 * must have the same n_rows, and the row the same place. */

/* Loads cuBLAS; false: it is not installed, or not to be used. ftk_cuda_close() closes it. */
bool ftk_cuda_wide_open(ftk_queue *q);
void ftk_cuda_wide_close(ftk_queue *q);
/* Block types and F16, in rows of whole blocks. */
bool ftk_cuda_wide_fits(const ftk_cuda_mat *w);

/* Work space: for the largest matrix, n_rows of the longest input, their scales, n_rows of the
 * longest output. */
typedef struct ftk_cuda_wide {
    uint16_t *w, *x;
    float *scale, *y;
} ftk_cuda_wide;

/* x [n_rows][n_in] to room->x, for any number of products. */
void ftk_cuda_wide_act(ftk_queue *q, int n_rows, int n_in, const float *x,
                       const ftk_cuda_wide *room);
/* As ftk_cuda_matmul(). */
void ftk_cuda_wide_matmul(ftk_queue *q, const ftk_cuda_mat *w, int n_rows,
                          const ftk_cuda_wide *room, const float *bias, bool add, float *y,
                          size_t ldy);
/* y[r][o] = sum over k of w[o][k] x[r][k], all of them without gaps. */
void ftk_cuda_gemm(ftk_queue *q, int n_rows, int n_out, int n_in, const uint16_t *x,
                   const uint16_t *w, float *y);

/* ------------------------------------------------------------------ rows */

/* Norms `heads` pieces of n floats in each of n_rows rows, ldx apart; row i is row index[i] of
 * x, if there is an index. y may be x. */
void ftk_cuda_rms_norm(ftk_queue *q, int n_rows, int heads, int n, const float *x, size_t ldx,
                       const int32_t *index, const float *w, float eps, float *y, size_t ldy);
/* Turns n_heads heads of each row, by line pos[row] of cs [][n_rot]: ftk_kernels.rope, or
 * .rope_halves. */
void ftk_cuda_rope(ftk_queue *q, bool halves, int n_rows, int n_heads, int head_dim, int n_rot,
                   const float *cs, const int32_t *pos, float *x, size_t ldx);
/* gate[i] = silu(gate[i]) * up[i], or gelu; up NULL: ones. */
void ftk_cuda_gate(ftk_queue *q, bool gelu, size_t n, float *gate, const float *up);
/* y += x */
void ftk_cuda_add(ftk_queue *q, size_t n, const float *x, float *y);

/* ------------------------------------------------------------------ routes */

/* How a row goes by a policy. In device memory, so that kept work goes by the row at hand. */
typedef struct ftk_cuda_route {
    uint8_t scaled; /* by the policy's scale */
    uint8_t fixed;  /* the actions are those of a list */
} ftk_cuda_route;

/* With x[n_embd] the state before `layer`: the action at that layer to actions[n_layer], where
 * those before stand. p's pointers are to device memory, p->fixed [n_layer] is read where the route
 * says so. Layer after layer, from 0 on. */
void ftk_cuda_choose(ftk_queue *q, const ftk_policy *p, const ftk_cuda_route *route, int layer,
                     const float *x, uint8_t *actions);
/* x[n_embd] *= the policy's scale at a layer, if the route is scaled. */
void ftk_cuda_leave_out(ftk_queue *q, const ftk_policy *p, const ftk_cuda_route *route, int layer,
                        float *x);

/* ------------------------------------------------------------------ logits */

/* The k largest of each row of n, largest first, ties to the lower index: ids [n_rows][k], -1
 * behind the n-th. A row whose numbers are not logits - one is NaN or +infinite, or all are
 * -infinite - has -1 for its first id. room: ftk_cuda_top_k_bytes(). */
void ftk_cuda_top_k(ftk_queue *q, int n_rows, int n, int k, const float *x, void *room,
                    int32_t *ids);
size_t ftk_cuda_top_k_bytes(int n_rows, int n, int k);

/* How a row's token is drawn: ftk_sampling, without a penalty. */
typedef struct ftk_cuda_draw {
    double uniform;    /* in [0, 1) */
    float temperature; /* 0: it is the likeliest one */
    float top_p, min_p;
    int32_t top_k; /* 0: all */
} ftk_cuda_draw;

/* What is said of each row in place of its logits, in `out` one after the other: the token that
 * is drawn
 * - the likeliest, if draws is NULL -, then the k ids of ftk_cuda_top_k(), then as many floats,
 *   their
 * probabilities at temperature 1. Of rows that are none of logits the token is -1, and so is the
 * first id. */
void ftk_cuda_rank(ftk_queue *q, int n_rows, int n, int k, const float *x,
                   const ftk_cuda_draw *draws, const int32_t *ids, int32_t *out);

/* ------------------------------------------------------------------ drafts */

/* A draft by heads or maps, in device memory. */
enum { FTK_HEAD_SLOTS = FTK_HEAD_KNOWN + FTK_HEADS * FTK_HEAD_NODES * FTK_BEST }; /* of guesses */

typedef struct ftk_cuda_guess {
    float worth; /* negative: there is none */
    int32_t token, parent;
    float share;
    int32_t sources;
} ftk_cuda_guess;

typedef struct ftk_cuda_draft {
    ftk_sizing size; /* what goes there */
    ftk_heads_ask ask;
    ftk_planted tree; /* what comes back */
    ftk_heads_said said;
    ftk_cuda_guess all[FTK_HEAD_SLOTS]; /* by ftk_heads_said's numbers */
    int32_t row_of[FTK_HEAD_KNOWN];     /* of ask.known, -1: it has none */
    int32_t token[FTK_HEAD_NODES], from[FTK_HEAD_NODES];
} ftk_cuda_draft;

typedef struct ftk_cuda_pick {
    int head, width, choices;
    bool chained, sees_token; /* ftk_heads */
    int apart;                /* rows of said.said from one head to the next */
    const int32_t *vocab;     /* which token row i of the output is; NULL: i */
} ftk_cuda_pick;

/* Chooses the nodes that a head names children of, by what the heads before said: said.n and
 * .node of the head. token and from get the nodes' tokens and the rows of the features that they
 * see, 0 behind the last of them. */
void ftk_cuda_draft_pick(ftk_queue *q, const ftk_cuda_pick *how, ftk_cuda_draft *draft);

/* What the pass that verifies a tree reads of its rows, laid out for a chain as long as
 * draft->size.room says, with the root. */
typedef struct ftk_cuda_rows {
    uint64_t (*mask)[2];
    ftk_cuda_draw *draw;
    int32_t *token, *pos;
    struct ftk_cuda_span *span;
} ftk_cuda_rows;

/* Makes the tree of all guesses, those of `n_heads` heads among them, and its rows; rows that it
 * is too small for see nothing. how->head: heads whose nodes were not chosen before are chosen
 * now, from this one on. */
void ftk_cuda_draft_plant(ftk_queue *q, const ftk_cuda_pick *how, int n_heads,
                          const ftk_cuda_rows *rows, ftk_cuda_draft *draft);
/* z[r] = [e[r] scaled to a mean square of 1 ; g[from[r]]], each of d numbers; g[from[r]] alone
 * where e is NULL. eps is added to e's mean square. */
void ftk_cuda_draft_join(ftk_queue *q, int n_rows, int d, const float *e, float eps, const float *g,
                         const int32_t *from, float *z);
/* y = u + silu(v) */
void ftk_cuda_silu_add(ftk_queue *q, size_t n, const float *u, const float *v, float *y);
/* x scaled to the mean square of `like`, both of n numbers. */
void ftk_cuda_scale_like(ftk_queue *q, int n, const float *like, float eps, float *x);

/* ------------------------------------------------------------------ KV cache, attention */

/* Where the cache of one layer lies: page p begins at pool + p * page_bytes, its keys (values) at
 * `keys` (`values`) from there: [n_head_kv][FTK_PAGE][head_dim] of type: F16, F32, or Q8_0 where
 * head_dim is a multiple of 32. */
typedef struct ftk_cuda_kv {
    char *pool;
    size_t page_bytes, keys, values;
    int n_head_kv, head_dim;
    ftk_type type;
    const int32_t *page; /* slot s lies in page[s / FTK_PAGE] */
} ftk_cuda_kv;

/* A session's rows in a pass. It lies in device memory, so that kept work (ftk_cuda_graph) goes
 * by the numbers of the pass at hand. */
typedef struct ftk_cuda_span {
    int32_t prefix;  /* committed slots */
    int32_t n_rows;  /* further ones that the work is laid out for are left alone */
    int32_t n_slots; /* committed and provisional: no bit of a mask lies behind */
} ftk_cuda_span;

/* Keys and values of a span's rows, ld floats apart, to slots prefix, prefix + 1 ... The work is
 * laid out for n_rows rows. */
void ftk_cuda_kv_store(ftk_queue *q, const ftk_cuda_kv *kv, int n_rows, const ftk_cuda_span *span,
                       const float *keys, const float *values, size_t ld);

/* Slots base + path[i] to base + i, for i = 0, 1 ... n - 1, in all layers: `planes` of row bytes
 * [n_head_kv][FTK_PAGE] one after the other in a page. pages[j] holds slots (base / FTK_PAGE + j) *
 * FTK_PAGE and on. path and pages are of the host. */
enum { FTK_CUDA_MOVE_PAGES = 3 };
void ftk_cuda_kv_move(ftk_queue *q, char *pool, size_t page_bytes, size_t planes, size_t row_bytes,
                      const int32_t pages[FTK_CUDA_MOVE_PAGES], int base, const int16_t *path,
                      int n);

enum {
    FTK_CUDA_CHUNK = 256, /* keys of a row, in its logical order, that are summed by themselves */
};

/* What ftk_attn says, for all rows and heads of one session. */
typedef struct ftk_cuda_attn {
    int n_rows, n_slots; /* that the work is laid out for: as many as the span's, or more */
    const ftk_cuda_span *span;
    int n_head, window;
    float scale;
    const float *q; /* [n_rows][n_head][head_dim] */
    float *out;
    const uint64_t (*mask)[2]; /* [n_rows] */
    float *partial; /* of partial_bytes; fewer rows are taken at once where it is small */
    size_t partial_bytes;
} ftk_cuda_attn;

/* Bytes of partial for n_rows rows over so many slots. One row's worth is the least that will
 * do. */
size_t ftk_cuda_attn_partial(int n_rows, int n_head, int head_dim, int max_slots);
void ftk_cuda_attention(ftk_queue *q, const ftk_cuda_attn *a, const ftk_cuda_kv *kv);

/* ------------------------------------------------------------------ diffusion transformers */

enum {
    FTK_CUDA_ORDERS = 7,       /* of a Taylor series, at most */
    FTK_CUDA_OFFBY_PARTS = 32, /* that an error is summed up in */
};

/* What a row does in a branch, where it is not computed. */
enum { FTK_CUDA_REUSES = -1, FTK_CUDA_FORECASTS = -2, FTK_CUDA_RESTS = -3 };

/* A sequence of a pass: a guidance half of a sample, or the check of one. */
typedef struct ftk_cuda_dit {
    const float *modulation; /* vectors of n_embd numbers, of this step */
    float *kept; /* [layers][branches][n_tokens][orders][n_embd]; NULL: nothing is kept */
    int32_t orders;
    int32_t keep;  /* differences up to this order are formed of what is computed; -1: none */
    int32_t order; /* of forecasts */
    float step;    /* what differences are divided by */
    float coef[FTK_CUDA_ORDERS];
} ftk_cuda_dit;

/* The states of a pass, [n_rows][n_embd], n_tokens of each sequence. */
typedef struct ftk_cuda_states {
    int n_rows, n_tokens, n_embd;
    const ftk_cuda_dit *seq;
    float *x;
    /* [n_rows]: the place of each row among those that are computed, or what it does instead;
     * NULL: all are computed, in order */
    const int32_t *at;
} ftk_cuda_states;

/* y[at] = the row normed, times 1 + vector shift + 1 of its modulation, plus vector shift; of rows
 * that are computed. */
void ftk_cuda_dit_norm(ftk_queue *q, const ftk_cuda_states *s, int shift, float eps, float *y);
/* x += vector `gate` times a branch's output: out[at] where the row is computed, which is then
 * kept; else what was kept, or its series. block: of [n_tokens][orders][n_embd] in what is kept,
 * which one. */
void ftk_cuda_dit_add(ftk_queue *q, const ftk_cuda_states *s, int gate, int block,
                      const float *out);
/* Of a sequence's q [n_tokens][heads] and kv [n_tokens][keys, values], heads of head_dim numbers:
 * scores[t] = the softmax weight that token t gets, summed over rows, the mean of the heads.
 * room: [n_tokens][n_head][2]. */
void ftk_cuda_dit_received(ftk_queue *q, int n_tokens, int n_head, int head_dim, float scale,
                           const float *queries, const float *kv, float *room, float *scores);
/* scores[t] = sum of 1 - |value| over the heads. */
void ftk_cuda_dit_values(ftk_queue *q, int n_tokens, int n_head, int head_dim, const float *kv,
                         float *scores);
/* Sums of y[n] against x[n], both made of before[n], in parts. */
void ftk_cuda_dit_offby(ftk_queue *q, ftk_cache_metric metric, size_t n, const float *y,
                        const float *x, const float *before, ftk_offby parts[FTK_CUDA_OFFBY_PARTS]);

#ifdef __cplusplus
}
#endif
#endif
