/* SPDX-License-Identifier: Apache-2.0
 * The levels behind the kernel table. Each function overwrites the entries its level improves. The
 * form of activations is the same on all levels but AMX, the form of weights is not; so pack_bytes,
 * pack, matmul_grain and matmul are replaced together, and with AMX act_bytes and act_pack too. */
#ifndef FTK_LEVELS_H
#define FTK_LEVELS_H

#include <string.h>

#include "kernels/kernels.h"

/* 2 sqrt(2/pi), and that times 0.044715: see ftk_kernels.gelu_mul. */
#define FTK_GELU_1 1.5957691216057308f
#define FTK_GELU_3 0.07135481282052458f

/* ftk_attn.columns of the tile that a row is in, of one head; NULL where nobody wants them. */
static inline float *ftk_attn_columns(const ftk_attn *a, int row, int head)
{
    const size_t at = (size_t)(row / FTK_ATTN_TILE) * (size_t)a->n_head + (size_t)head;
    return a->columns ? a->columns + at * (size_t)a->prefix : NULL;
}

/* Zeros to those of n heads, before the tile's rows add what they give. */
static inline void ftk_attn_clear_columns(const ftk_attn *a, int row, int head, int n)
{
    float *columns = ftk_attn_columns(a, row, head);
    if (columns) memset(columns, 0, (size_t)n * (size_t)a->prefix * sizeof *columns);
}

void ftk_kernels_ref(ftk_kernels *k);
size_t ftk_ref_act_bytes(ftk_type wtype, int n_in);
#if defined(__x86_64__)
void ftk_kernels_avx2(ftk_kernels *k);
void ftk_kernels_avx512(ftk_kernels *k);
/* Of these the weights' part. */
void ftk_kernels_avx2_matmul(ftk_kernels *k);
void ftk_kernels_avx512_matmul(ftk_kernels *k);
/* On top of AVX-512, which takes what tiles do not; of these the attention. */
void ftk_kernels_amx(ftk_kernels *k);
void ftk_kernels_amx_attention(ftk_kernels *k);
/* For tests: see amxtile.h. */
void ftk_kernels_amx_emulated(ftk_kernels *k);
void ftk_kernels_amx_attention_emulated(ftk_kernels *k);

/* Entries that a level calls for what it does not improve. */
void ftk_avx512_act_pack(ftk_type wtype, int n_in, const float *x, void *dst);
size_t ftk_avx512_attn_scratch(int head_dim, int group, int max_slots);
void ftk_avx512_attention(const ftk_attn *a, int head_kv, int row0, int row1, float *scratch);
void ftk_avx512_matmul(const ftk_mat *w, const void *act, size_t act_stride, int n_rows, int o0,
                       int o1, float *y, size_t ldy);
#endif

#endif
