/* SPDX-License-Identifier: Apache-2.0
 * What the configuration of a head says, whoever wrote it. */
#ifndef FTK_HEADCONFIG_H
#define FTK_HEADCONFIG_H

#include "model/source.h"

typedef enum ftk_rope_kind {
    FTK_ROPE_PLAIN,
    FTK_ROPE_LINEAR,
    FTK_ROPE_LLAMA3,
    FTK_ROPE_YARN
} ftk_rope_kind;

typedef struct ftk_rope_config {
    ftk_rope_kind kind;
    double base, factor, low, high; /* low, high: of llama3; of yarn beta_slow and beta_fast */
    double original;                /* context that it was trained for before */
    double gain;                    /* of yarn; 0: by its factor */
} ftk_rope_config;

typedef enum ftk_head_kind {
    FTK_HEAD_EAGLE3,
    FTK_HEAD_MEDUSA,
    FTK_HEAD_DFLASH,
    FTK_HEAD_DSPARK, /* the same with a Markov head */
} ftk_head_kind;

enum { FTK_CONFIG_LAYERS = 16, FTK_CONFIG_BLOCK = 32 };

typedef enum ftk_said { FTK_SAID_NOT, FTK_SAID_FALSE, FTK_SAID_TRUE } ftk_said;

typedef struct ftk_head_config {
    ftk_head_kind kind;
    int block, mask_token,
        markov;       /* DFlash: rows of a block, the token that stands for what is not known; its
                                    Markov head's rank, 0: there is none */
    bool from_anchor; /* a block's first row already says what follows */
    int n_layer, width, target_width; /* 0: as the target */
    int n_target_layer;               /* of the model that it was made for; 0: not said */
    int n_ff, n_head, n_head_kv, head_dim;
    int n_vocab, n_draft_vocab; /* 0: not said */
    double eps, partial;        /* partial: of a head that RoPE turns */
    ftk_rope_config rope;
    int window;                       /* 0: none */
    int n_ids, id[FTK_CONFIG_LAYERS]; /* layers whose entering states are wanted; 0: not said */
    bool spread_ids;                  /* where they are not said, evenly, as z-lab has it */
    bool norm_residual, feeds_normed, no_states;
    ftk_said input_norm, fc_norms, bias; /* tensors that are to be there, or not */
    bool one_output;                     /* Medusa: all heads share a matrix */
    const char *writer;                  /* "speculators" ... */
} ftk_head_config;

/* Of config.json, or of a GGUF's keys. Errors: FORMAT, UNSUPPORTED, INVALID (of no such head),
 * each with one line. */
ftk_err ftk_head_config_read(ftk_head_config *c, const ftk_source *s);
/* In headkeys.c: whether there is a key that changes what a head of the kind computes, and that is
 * not read. Errors: UNSUPPORTED, with one line. */
ftk_err ftk_head_keys_check(const ftk_source *s, ftk_head_kind kind);

/* In headrope.c: freq[n_rot / 2], in radians a position, as transformers' modeling_rope_utils.py
 * computes them; and what cosines and sines are multiplied by. */
void ftk_head_rope(const ftk_rope_config *r, int n_rot, float *freq);
double ftk_head_rope_gain(const ftk_rope_config *r);

#endif
