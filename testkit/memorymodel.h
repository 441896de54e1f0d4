/* SPDX-License-Identifier: Apache-2.0
 * Models of random weights made in memory: no file, no vocabulary, nothing but what a pass
 * reads. For the checks and measurements of devices, which must run where no library is
 * installed. */
#ifndef FTK_TESTKIT_MEMORYMODEL_H
#define FTK_TESTKIT_MEMORYMODEL_H

#include "model/model.h"

typedef struct mm_shape {
    const char *name;
    int layers, embd, ff, heads, heads_kv, head_dim, vocab;
    int n_rot;                /* 0: head_dim */
    int window;               /* of every second layer; 0: none */
    unsigned flags;           /* FTK_ARCH_*: RoPE, biases, norms, gate */
    ftk_type attn, ffn, ends; /* of q, k, v, o; of gate, up, down; of embeddings and output */
    bool tied;
    bool
        repeated; /* all layers have the same weights, and a matrix few different rows: quick to
                     make */
} mm_shape;

/* Ends the program when there is no memory. level: of the CPU's kernels. */
ftk_model *mm_open(const mm_shape *shape, const char *level);
void mm_free(ftk_model *m);
/* Bytes of weights a pass over one row reads. */
uint64_t mm_bytes(const ftk_model *m);

#endif
