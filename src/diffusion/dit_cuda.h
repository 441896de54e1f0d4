/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of a CUDA device for DiTs, as its own files see them: dit_cuda.c (life, memory),
 * dit_cuda_pass.c (passes). Weights get there as those of language models do. */
#ifndef FTK_DIT_CUDA_H
#define FTK_DIT_CUDA_H

#include "dit_device.h"
#include "model/device_cuda.h"

typedef struct ftk_dit_gpu_layer {
    ftk_cuda_mat ada, q, kv, o, up, down;
    const float *ada_bias, *qkv_bias, *o_bias, *up_bias, *down_bias;
} ftk_dit_gpu_layer;

typedef struct ftk_dit_gpu {
    ftk_dit_device base;
    const ftk_dit *m;
    ftk_host host;
    ftk_dit_device_config cfg;
    ftk_queue q;
    ftk_gpu_life life;
    ftk_dit_gpu_layer *layers;
    ftk_cuda_mat patch_embd, output_ada, output;
    const float *patch_bias, *output_ada_bias, *output_bias, *positions;
    char *arena, *stage; /* weights; the host's, for tiles */
    size_t stage_size;
    int max_rows; /* of states, those of checks among them */
    char *work;   /* all of these: */
    float *x, *before, *norm, *queries, *kv, *attn, *hidden, *out, *patches, *pool, *partial;
    float *ends, *scores, *condition;
    char *act;
    int32_t *at; /* [n_layer][branches][rows] */
    int32_t *page;
    uint64_t (*mask)[2];
    ftk_cuda_span *span; /* to store keys, to attend */
    ftk_cuda_dit *seq;
    ftk_offby *offby; /* [samples][FTK_CUDA_OFFBY_PARTS] */
    size_t partial_size, act_size;
    char *pinned; /* the host's copies: */
    int32_t *at_host;
    float *patches_host, *output_host, *scores_host;
    ftk_cuda_dit *seq_host;
    ftk_offby *offby_host;
} ftk_dit_gpu;

static inline ftk_dit_gpu *ftk_dit_gpu_of(ftk_dit_device *d)
{
    return (ftk_dit_gpu *)(void *)d;
}

/* ftk_dit_device_ops of these names */
void ftk_dit_gpu_modulate(ftk_dit_device *d, const float *x, float *vectors);
void ftk_dit_gpu_run(ftk_dit_device *d, ftk_dit_pass *p, const ftk_dit_seq *seqs, int n);

#endif
