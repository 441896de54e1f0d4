/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel table. ftk_kernels_fill() puts the plain C entries in first; then each CPU level, as
 * far as CPU and OS support it and `level` allows, overwrites what it improves.
 *
 * The promise all entries keep: the bits of an output row depend on that row's input alone - not on
 * how many rows are computed together, how the output range is cut among threads, or at which row
 * of a tile it sits. So every output element is one fixed sequence of operations.
 * Entries allocate nothing, fail never and touch no global state; any thread may call them.
 */
#ifndef FTK_KERNELS_H
#define FTK_KERNELS_H

#include "foretoken.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    FTK_PAGE = 64,      /* KV slots per page */
    FTK_ATTN_TILE = 16, /* query rows the attention entry takes at once, at most */
    FTK_MAX_HEAD_DIM = 256,
    FTK_QBLOCK = 32, /* elements that share a scale of the activations */
    FTK_QUNIT = 256, /* elements of a block of the K types and IQ4_XS */
};

/* A weight matrix W [n_out][n_in], row-major; y = W x. data is in the GGUF layout when
 * pack_bytes() is 0 for it, else in the layout pack() wrote (64-byte aligned). n_in is a multiple
 * of ftk_type_block(). file: always the GGUF layout, for devices; NULL in matrices no device runs.
 * cached: between two passes the processor's cache keeps it, so that nothing need be prefetched. */
typedef struct ftk_mat {
    ftk_type type;
    int n_out, n_in;
    const void *data, *file;
    bool cached;
} ftk_mat;

/* One attention call: the rows of one session. Row r sees committed slots [0, prefix) and, of the
 * provisional slots prefix + j, those whose bit j is set in mask[r] (its ancestors and itself).
 * Logical order of the keys of a row: prefix ascending, then set bits ascending; all reductions run
 * in that order, so a tree row gives the same bits as its path decoded as a chain. With a window, a
 * row sees the last `window` keys of its logical order only, itself among them. */
typedef struct ftk_attn {
    int n_rows, n_head, n_head_kv, head_dim; /* n_head % n_head_kv == 0; head_dim even */
    int window;                              /* 0: all keys */
    float scale;
    ftk_type kv_type;           /* F16, F32, or Q8_0 if head_dim is a multiple of FTK_QBLOCK */
    const float *q;             /* [n_rows][n_head][head_dim], RoPE applied */
    float *out;                 /* [n_rows][n_head][head_dim] */
    const void *const *k_pages; /* slot s lies in page s / FTK_PAGE; a page is
                                   [n_head_kv][FTK_PAGE][head_dim] of kv_type */
    const void *const *v_pages;
    int prefix;
    const uint64_t (*mask)[2]; /* [n_rows]; at most 128 provisional slots */
    /* NULL, or [n_rows / FTK_ATTN_TILE, rounded up][n_head][prefix]: the softmax weights that each
     * slot of the prefix gets from the rows of a tile, summed. Tiles then begin at multiples of
     * FTK_ATTN_TILE, and there is no window. Devices know nothing of it. */
    float *columns;
} ftk_attn;

typedef struct ftk_kernels {
    const char *name; /* level of the fastest entries: "ref", "avx2", "avx512", "amx" */

    /* Packed weights: bytes that pack() needs, 0 when the GGUF layout is read in place. */
    size_t (*pack_bytes)(ftk_type type, int n_out, int n_in);
    void (*pack)(ftk_type type, int n_out, int n_in, const void *src, void *dst);

    /* Activations in the form matmul() reads for a weight type: bytes of one row (a multiple of
     * 64), and the conversion of one row to 64-byte aligned memory. A level has two forms: one
     * for all block types - ftk_qact, int8 with a float scale amax/127 per FTK_QBLOCK, but for
     * AMX - and one for all others, which is the wider one: the floats themselves, behind which
     * a level may have more. */
    size_t (*act_bytes)(ftk_type wtype, int n_in);
    void (*act_pack)(ftk_type wtype, int n_in, const float *x, void *dst);

    /* y[r * ldy + o] = W[o] . x[r] for r in [0, n_rows), o in [o0, o1). o0 is a multiple of
     * matmul_grain, o1 too or n_out. act: n_rows rows, act_stride bytes apart. */
    int matmul_grain;
    void (*matmul)(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o0, int o1,
                   float *y, size_t ldy);

    /* One row of a matrix in GGUF layout to floats (token embeddings). */
    void (*dequant_row)(ftk_type type, int n, const void *row, float *y);

    /* y = x / sqrt(mean(x^2) + eps) * w; y may be x. */
    void (*rms_norm)(int n, const float *x, const float *w, float eps, float *y);
    /* Rotates pairs (2i, 2i+1), i < n_rot/2, of each head by cs[2i] = cos, cs[2i+1] = sin. */
    void (*rope)(int n_heads, int head_dim, int n_rot, const float *cs, float *x);
    /* The same for pairs (i, i + n_rot/2): cs holds n_rot/2 cosines, then as many sines. */
    void (*rope_halves)(int n_heads, int head_dim, int n_rot, const float *cs, float *x);
    /* gate[i] = silu(gate[i]) * up[i] */
    void (*silu_mul)(int n, float *gate, const float *up);
    /* gate[i] = gelu(gate[i]) * up[i], gelu in its tanh form:
     * x/2 (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3) */
    void (*gelu_mul)(int n, float *gate, const float *up);
    /* y = (x - mean(x)) / sqrt(variance(x) + eps) * w + b; y may be x. */
    void (*layer_norm)(int n, const float *x, const float *w, const float *b, float eps, float *y);
    /* x += gate * (d[0] + c[1] d[1] + ... + c[order] d[order]); d [order + 1][n]. */
    void (*gated_add)(int n, int order, const float *d, const float *c, const float *gate,
                      float *x);
    /* Differences of a sequence, of which f is the newest: d'[0] = f and, for o < order,
     * d'[o + 1] = (d'[o] - d[o]) / step. d [order + 1][n]; f is not in it. */
    void (*differences)(int n, int order, const float *f, float step, float *d);
    /* y += x */
    void (*add)(int n, const float *x, float *y);
    /* n floats, a head's key or value, to the KV type. */
    void (*kv_store)(ftk_type kv_type, int n, const float *x, void *dst);

    /* Rows [row0, row1) (at most FTK_ATTN_TILE of them) of one KV head's group of query heads.
     * Softmax over each row's visible keys (at least one). scratch: attn_scratch() floats, 64-byte
     * aligned, of the calling thread. Each key is read once for all rows and heads of the group. */
    size_t (*attn_scratch)(int head_dim, int group, int max_slots);
    void (*attention)(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch);
} ftk_kernels;

/* Bytes that a packed matrix takes where others follow it; 0: its layout in the file is read. */
static inline size_t ftk_packed_bytes(const ftk_kernels *k, const ftk_mat *w)
{
    return (k->pack_bytes(w->type, w->n_out, w->n_in) + 63) / 64 * 64;
}

/* Fills the table for this machine, no higher than `level` (NULL: the best). False when the level
 * is unknown to this build or the machine lacks it. */
bool ftk_kernels_fill(ftk_kernels *k, const char *level);
/* NULL-terminated names of the levels this machine can run, lowest first. Where it has AMX,
 * Linux is asked for leave to use tiles; refused, amx is not among them. */
void ftk_kernels_levels(const char *names[8]);
/* Size of the last-level cache that one core reaches; 0 where nothing says it. */
size_t ftk_cache_bytes(void);

typedef struct ftk_type_entry {
    const char *name;
    uint16_t block, bytes; /* elements and bytes of a block; 0: not known */
    enum { FTK_TYPE_NEWER, FTK_TYPE_KNOWN, FTK_TYPE_RUNS, FTK_TYPE_REMOVED } state;
} ftk_type_entry;

/* What is known of a type of the format; all zero: it is newer than this build. */
const ftk_type_entry *ftk_type_find(uint32_t type);
/* Bytes of n elements of a type in GGUF layout, n a multiple of the type's block; else, or for an
 * unsupported type, 0. */
size_t ftk_type_bytes(ftk_type type, size_t n);
/* Elements in a block of the type: 1, FTK_QBLOCK or FTK_QUNIT. */
size_t ftk_type_block(ftk_type type);

#ifdef __cplusplus
}
#endif
#endif
