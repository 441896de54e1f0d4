/* SPDX-License-Identifier: Apache-2.0
 *
 * What differs between model architectures: one table of them, one of the tensors their layers are
 * made of. Hyper-parameters, loader and pass read these and know no architecture by name. */
#ifndef FTK_ARCH_H
#define FTK_ARCH_H

#include "foretoken.h"

enum {
    FTK_ARCH_ROPE_HALVES = 1 << 0,  /* RoPE turns (i, i + n_rot/2); else the pairs (2i, 2i + 1) */
    FTK_ARCH_ROPE_FREQS = 1 << 1,   /* rope_freqs.weight may divide the frequencies */
    FTK_ARCH_ROPE_FACTORS = 1 << 2, /* rope_factors_short and _long.weight may, by context length */
    FTK_ARCH_BIAS_QKV = 1 << 3,     /* queries, keys and values have biases */
    FTK_ARCH_BIAS_ANY = 1 << 4,     /* they and the attention's output may have */
    FTK_ARCH_NORM_QK = 1 << 5,      /* queries and keys are normed head by head, before RoPE */
    FTK_ARCH_NORM_POST = 1 << 6,    /* so is what a block adds to the residual stream */
    FTK_ARCH_FUSED = 1 << 7,        /* q, k, v are rows of one tensor; gate and up of another */
    FTK_ARCH_GELU = 1 << 8,         /* gates through GELU (tanh); else SiLU */
    FTK_ARCH_EMBD_SCALE = 1 << 9,   /* embeddings are multiplied by sqrt(n_embd) */
    FTK_ARCH_WINDOW = 1 << 10,      /* layers may see a sliding window only */
    /* Of a layer with hidden_norm: what it adds to is the state behind that norm. */
    FTK_ARCH_NORM_RESIDUAL = 1 << 11,
};

typedef struct ftk_arch {
    const char *name; /* as general.architecture has it, and the prefix of its keys */
    unsigned flags;
    int window_period;       /* each such layer sees everything, the others a window, which the
                                file must name; 0: the window, where there is one, is for all */
    double rope_base;        /* where the file does not say */
    double rope_base_window; /* the same for layers with a window; 0: they turn like the others */
    int wide_scale_layers;   /* a model of so many layers divides scores by sqrt(n_embd / n_head) */
} ftk_arch;

/* NULL when there is none of that name. */
const ftk_arch *ftk_arch_find(ftk_str name);
/* "a, b and c": all names, for a message. Returns buf. */
const char *ftk_arch_names(char *buf, size_t cap);

/* The sizes a layer's tensors are made of. */
typedef enum ftk_dim {
    FTK_DIM_0,
    FTK_DIM_1,
    FTK_DIM_EMBD,
    FTK_DIM_HEAD,
    FTK_DIM_Q,    /* n_head * head_dim */
    FTK_DIM_KV,   /* n_head_kv * head_dim */
    FTK_DIM_Q_KV, /* Q + KV */
    FTK_DIM_QKV,  /* Q + 2 KV */
    FTK_DIM_FF,
    FTK_DIM_FF2, /* 2 FF */
    FTK_N_DIMS
} ftk_dim;

/* A field of ftk_layer and the tensor "blk.N.<name>" [rows][n_in] it is read from: its rows
 * first .. first + n_out. Rows of FTK_DIM_1 make it a vector of n_in floats, else it is an
 * ftk_mat. */
typedef struct ftk_part {
    const char *name;
    ftk_dim n_in, rows;
    ftk_dim n_out, first;
    size_t field;        /* offset in ftk_layer */
    unsigned need, lack; /* for architectures that have all of one and none of the other */
    bool optional;
} ftk_part;

/* The parts of a layer; *n gets their number. */
const ftk_part *ftk_arch_parts(size_t *n);
bool ftk_arch_has(const ftk_arch *a, const ftk_part *part);

#endif
