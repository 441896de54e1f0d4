/* SPDX-License-Identifier: Apache-2.0
 * A loaded model: hyper-parameters, weights as the kernels read them, tokenizer. */
#ifndef FTK_MODEL_H
#define FTK_MODEL_H

#include "arch.h"
#include "kernels/kernels.h"
#include "tokenizer.h"

/* What an architecture lacks is NULL. */
typedef struct ftk_layer {
    const float *attn_norm, *ffn_norm;           /* [n_embd] */
    const float *attn_post_norm, *ffn_post_norm; /* [n_embd] */
    const float *q_norm, *k_norm;                /* [head_dim] */
    /* [n_embd] of the first layer of an EAGLE head: its attention reads [attn_norm(embedding) ;
     * hidden_norm(state)], so that q, k and v are [][2 n_embd]. NULL in all others. */
    const float *hidden_norm;
    const float *q_bias, *k_bias, *v_bias, *o_bias;
    ftk_mat q, k, v, o;     /* q [n_head * head_dim][n_embd], o its transpose's shape */
    ftk_mat gate, up, down; /* gate, up [n_ff][n_embd]; down [n_embd][n_ff] */
} ftk_layer;

enum { FTK_LAYER_MATS = 7 };

/* The i-th matrix of a layer; as writable as the layer. */
static inline ftk_mat *ftk_layer_mat(const ftk_layer *l, int i)
{
    const ftk_mat *const all[FTK_LAYER_MATS] = {&l->q,    &l->k,  &l->v,   &l->o,
                                                &l->gate, &l->up, &l->down};
    return (ftk_mat *)all[i];
}

enum { FTK_MAX_LAYERS = 512 };

typedef struct ftk_hparams {
    const ftk_arch *arch;
    int n_vocab, n_ctx_train, n_layer, n_embd, n_ff;
    int n_head, n_head_kv, head_dim;
    float norm_eps;
    float embd_scale; /* embeddings are multiplied by it */
    float attn_scale; /* and scores by this */
    int window;       /* keys a windowed layer sees, the row's own among them */
    bool windowed[FTK_MAX_LAYERS];
    int n_rot;                    /* leading dimensions of a head that RoPE turns; even */
    double rope_base, rope_scale; /* positions are multiplied by rope_scale */
    double rope_base_window;      /* of windowed layers, whose scale is 1; 0: they turn alike */
    float rope_gain;              /* cosines and sines are multiplied by it */
    int n_ctx_short;              /* contexts above it turn by the long factors, if there are */
} ftk_hparams;

/* In hparams.c: all fields but n_vocab, of a file. Errors: FORMAT, UNSUPPORTED, each with one line
 * that names the key. */
ftk_err ftk_hparams_read(ftk_hparams *hp, const ftk_gguf *file, const char *path,
                         const ftk_host *host);

/* Radians per position, [n_rot / 2] each; two of them may be the same. */
typedef struct ftk_rope {
    const float *freq;        /* layers that see everything */
    const float *freq_long;   /* the same in contexts above n_ctx_short */
    const float *freq_window; /* NULL: windowed layers turn alike */
} ftk_rope;

bool ftk_all_finite(int n, const float *v);

struct ftk_model {
    ftk_host host;
    bool (*wanted)(void *ctx); /* of the config: asked again while a draft model for it is loaded */
    ftk_kernels kernels;
    ftk_hparams hp;
    ftk_gguf *file; /* the mapping: embeddings and unpacked weights are read from it */
    ftk_tokenizer *tokenizer;
    char *name;
    float *vectors;           /* all norms, one arena */
    ftk_rope rope;            /* in vectors */
    const float *output_norm; /* [n_embd] */
    void *packed;             /* all packed weights, one arena */
    void *adapted;            /* matrices that LoRA adapters changed, in GGUF layout; NULL: none */
    uint64_t adapted_bytes;
    ftk_layer *layers; /* [n_layer] */
    ftk_mat embd;      /* [n_vocab][n_embd], always GGUF layout */
    ftk_mat output;    /* [n_vocab][n_embd] */
    uint64_t n_params, weight_bytes;
    char fingerprint[17];
    int stage, n_stages; /* of how many it has the layers; 0, 0: all */
};

#endif
