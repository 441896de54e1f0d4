/* SPDX-License-Identifier: Apache-2.0
 *
 * Heads that others have made, as they publish them: EAGLE-3 ("EAGLE-3: Scaling up Inference
 * Acceleration of Large Language Models via Training-Time Test", arXiv 2503.01840) in the
 * layouts of EAGLE, SpecForge and speculators and in llama.cpp's GGUF; DFlash, DSpark and
 * Medusa. Made ready for a pass: `model` is one that ftk_forward runs, of EAGLE-3 over rows that
 * begin with a token and a state.
 *
 * EAGLE-3: a row's first state is fc of the target's states at some layers; those of rows that
 * are drafted begin with what the row before them left. Row i pairs the state of token i with
 * the embedding of token i + 1. */
#ifndef FTK_HEADFILE_H
#define FTK_HEADFILE_H

#include "model/model.h"
#include "model/headconfig.h"

enum { FTK_HEAD_TAPS = 16, FTK_MEDUSA_HEADS = 8, FTK_MEDUSA_LAYERS = 4 };

typedef struct ftk_headfile {
    ftk_head_kind kind;
    ftk_host host;
    ftk_source source;
    ftk_model model; /* its kernels, sizes, layers and head; no file and no tokenizer of its own */
    ftk_arch arch;
    int n_taps,
        tap[FTK_HEAD_TAPS]; /* states entering these layers of the target; n_layer: the last
                               one's */
    bool tap_normed;        /* the only state is taken behind the target's last norm */
    int target_width;
    struct ftk_mat fc; /* [n_embd][n_taps * target_width]; n_out 0: the state is the target's own */
    const float *fc_norm[FTK_HEAD_TAPS], *input_norm; /* of each state, of all; NULL: none */
    bool feeds_normed; /* what a row leaves for the next one is taken behind the last norm */
    /* DFlash: see net_block.c. */
    int block, mask_token;
    bool from_anchor;
    const float *context_norm; /* [n_embd] of what fc makes */
    struct ftk_mat markov1,
        markov2; /* [tokens][rank] in GGUF layout, [n_vocab][rank]; n_out 0: there is none */
    /* Medusa: the same. */
    int n_heads, n_layers;
    struct ftk_mat residual[FTK_MEDUSA_HEADS][FTK_MEDUSA_LAYERS], says[FTK_MEDUSA_HEADS];
    const float *bias[FTK_MEDUSA_HEADS][FTK_MEDUSA_LAYERS];
    int32_t *vocab; /* [model.hp.n_vocab]; NULL: row i of the head is token i */
    float *vectors;
    size_t n_vectors;
    void *packed, *rows;
    char about[640]; /* what it is, in one line */
} ftk_headfile;

/* layers [n_layers]: instead of what the file says; 0: that. Errors: those of ftk_source_open(),
 * FORMAT, UNSUPPORTED, INVALID (no such head, one for another model), NOMEM. */
ftk_err ftk_headfile_open(ftk_headfile **out, const char *path, const ftk_model *target,
                          const int *layers, int n_layers, const ftk_host *host);
void ftk_headfile_close(ftk_headfile *f);

#endif
