/* SPDX-License-Identifier: Apache-2.0
 * A diffusion transformer, loaded: shape, weights as the kernels read them. */
#ifndef FTK_DIT_H
#define FTK_DIT_H

#include "foretoken_diffusion.h"
#include "kernels/kernels.h"

/* Branches of a layer, in the order they run. */
enum { FTK_ATTENTION, FTK_MLP, FTK_BRANCHES };
/* Vectors of a layer's modulation, in the file's order. */
enum { FTK_SHIFT_1, FTK_SCALE_1, FTK_GATE_1, FTK_SHIFT_2, FTK_SCALE_2, FTK_GATE_2, FTK_ADA };

typedef struct ftk_dit_shape {
    int n_layer, n_embd, n_head, head_dim, n_ff;
    int patch, side, channels, out_channels, grid, n_tokens;
    int n_classes, n_freq; /* n_freq: numbers of a timestep's embedding, even */
    int train_steps, guided_channels;
    float ffn_norm_eps, norm_eps; /* of the norm before the feed-forward part; of all others */
    double freq_shift; /* taken off the number of frequencies that they are spread over */
    double beta_start, beta_end;
    bool learned_variance, pixel;
} ftk_dit_shape;

typedef struct ftk_dit_layer {
    ftk_mat ada, q, kv, o, up, down; /* kv: keys, then values */
    const float *ada_bias, *qkv_bias, *o_bias, *up_bias, *down_bias;
} ftk_dit_layer;

typedef struct ftk_l2c_table {
    int steps;
    double threshold;
    const float
        *value; /* [steps / 2, rounded up][2 n_layer]: of index 0, 2, 4 ..., attention first */
} ftk_l2c_table;

enum { FTK_MAX_L2C = 16 };

struct ftk_dit {
    ftk_host host;
    ftk_kernels kernels;
    ftk_dit_shape shape;
    ftk_gguf *file;
    char *name;
    char *class_names;       /* n_classes terminated texts; NULL: there are none */
    const char **class_name; /* [n_classes], in those */
    float *vectors;          /* biases, tables and positions */
    void *packed;
    ftk_dit_layer *layers;
    ftk_mat patch_embd, time_0, time_2, class_embd, output_ada,
        output; /* class_embd: GGUF layout */
    const float *patch_bias, *time_0_bias, *time_2_bias, *output_ada_bias, *output_bias;
    const float *positions; /* [n_tokens][n_embd] */
    int n_l2c;
    ftk_l2c_table l2c[FTK_MAX_L2C];
    uint64_t n_params, weight_bytes;
};

/* The key values of a file, each checked. Errors: FORMAT, UNSUPPORTED. */
ftk_err ftk_dit_shape_read(ftk_dit_shape *s, const ftk_gguf *file, const char *path,
                           const ftk_host *host);
/* *out: the whole number of a key in [least, most]; where it is missing, `absent`, or, if that
 * is below 0, an error. */
ftk_err ftk_dit_key_int(const ftk_gguf *file, const char *path, const char *key, int least,
                        int most, int absent, int *out, const ftk_host *host);
/* The same for a number in (above, most]; absent NAN: an error. */
ftk_err ftk_dit_key_real(const ftk_gguf *file, const char *path, const char *key, double above,
                         double most, double absent, double *out, const ftk_host *host);

#endif
