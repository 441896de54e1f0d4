/* SPDX-License-Identifier: Apache-2.0
 *
 * Small heads of EAGLE-3 for the model "llama" of archmodels.h, in every layout, of the recipe that
 * tests/reference_eagle.py follows too; and safetensors, which may be made wrong on purpose. */
#ifndef FTK_TESTS_EAGLEFILES_H
#define FTK_TESTS_EAGLEFILES_H

#include "testkit/ggufwriter.h"

enum {
    EF_VOCAB = 300,
    EF_DRAFT = 120,
    EF_WIDTH = 64,
    EF_FF = 96,
    EF_HEADS = 4,
    EF_HEADS_KV = 2,
    EF_DIM = 16
};

typedef enum ef_layout { EF_EAGLE, EF_SPECFORGE, EF_SPECULATORS, EF_GGUF } ef_layout;

typedef struct ef_head {
    const char *name;
    bool whole; /* its head has all tokens */
    bool qwen3, bias, norm_residual, fc_norm, before_fc, fed;
    const char *rope; /* what stands in rope_parameters beside rope_theta, or NULL */
} ef_head;

extern const ef_head ef_heads[];
extern const int ef_n_heads;
const ef_head *ef_find(const char *name);

/* What to leave out, or to do otherwise. */
typedef struct ef_how {
    ef_layout layout;
    bool borrows;        /* no embeddings and no output matrix of its own */
    ftk_type type;       /* of matrices: F32 (0), F16 or BF16 */
    const char *without; /* a tensor, as speculators names it, or NULL */
    const char *config;  /* in place of its config.json */
    const char *more;    /* behind the first bracket of config.json */
    int64_t d2t_more;    /* added to the last number of d2t */
    int d2t_less;        /* numbers that it lacks at its end */
    const char *key;     /* of a GGUF, a number more behind the architecture's name, or NULL */
    float number;
    const char *word; /* of a GGUF, in place of its last token, or NULL */
    int words_less;   /* tokens that it lacks at its end */
    bool narrow;      /* fc of as many states as DFlash has layers */
    bool deepseek;    /* DSpark with all keys in the whole, as DeepSeek writes them */
} ef_how;

enum { EF_BLOCK = 4, EF_MASK = 299, EF_RANK = 8, EF_MEDUSA = 3 };

/* The same of a head of DFlash, in z-lab's layout (EF_EAGLE) or speculators', or, with markov,
 * of DSpark. */
bool ef_write_block(const char *path, bool markov, const ef_how *how);
/* EF_MEDUSA heads of two layers, as Medusa writes them (EF_EAGLE) or as vLLM does. */
bool ef_write_medusa(const char *path, const ef_how *how);
/* Writes a head into the folder, which is made, or with EF_GGUF into a file; false when it
 * cannot. */
bool ef_write(const char *path, const ef_head *head, const ef_how *how);

/* ef_weights(): elements of a tensor by the recipe, as many as the product of its sizes; to be
 * freed. */
float *ef_weights(const char *name, size_t n, int row);
/* The token of a row of the head. */
int32_t ef_target_id(int row);

/* Safetensors, in memory. */
typedef struct st {
    gw_bytes header, data;
} st;
void st_tensor(st *s, const char *name, const char *dtype, int n_dims, const uint64_t *dims,
               const void *data, size_t bytes);
/* The whole file; s is free then. */
gw_bytes st_finish(st *s);

#endif
