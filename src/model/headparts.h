/* SPDX-License-Identifier: Apache-2.0
 * What loaders of heads share: tensors by name, the vocabulary, the output matrix, packing. */
#ifndef FTK_HEADPARTS_H
#define FTK_HEADPARTS_H

#include "model/headconfig.h"
#include "model/headfile.h"

enum { FTK_HEAD_NAME = 96, FTK_HEAD_MATS = 128 };

typedef struct ftk_head_loader {
    ftk_headfile *f;
    const ftk_model *target;
    ftk_head_config c;
    struct ftk_mat
        *mats[FTK_HEAD_MATS]; /* those that lie in the file, or are gathered: to be packed */
    int n_mats;
    int layer; /* whose tensors are looked for */
} ftk_head_loader;

/* Names of a tensor in safetensors and in GGUF; of a layer's, behind its prefix. */
typedef struct ftk_head_names {
    const char *safe, *gguf;
    bool of_layer;
} ftk_head_names;

/* Errors of all: FORMAT (not there, of another shape), UNSUPPORTED (a type), NOMEM, each with
 * one line. */

/* Under whatever prefix it is there; name gets what it was last looked for as. */
bool ftk_head_find(ftk_head_loader *l, const ftk_head_names *n, ftk_source_tensor *t,
                   char name[FTK_HEAD_NAME], ftk_err *err);
ftk_err ftk_head_missing(const ftk_head_loader *l, const char *name);
/* A matrix [n_out][n_in], which is packed later. */
ftk_err ftk_head_matrix(ftk_head_loader *l, const ftk_head_names *n, int n_in, int n_out,
                        struct ftk_mat *mat);
/* Floats in the arena; one that may be missing leaves *out NULL. */
ftk_err ftk_head_vector(ftk_head_loader *l, const ftk_head_names *n, int len, bool needed,
                        const float **out);
/* The width, the vocabulary, d2t or another list of tokens, the output matrix and the
 * embeddings, of its own or the target's. */
ftk_err ftk_head_output(ftk_head_loader *l);
ftk_err ftk_head_pack(ftk_head_loader *l);
/* All of a Medusa file, in medusafile.c. */
ftk_err ftk_medusa_load(ftk_head_loader *l);
/* Whether a matrix, by its name, has a row for each of the model's tokens, and not many more; NULL:
 * the same of the vocabulary that the configuration speaks of. Errors: INVALID. */
ftk_err ftk_head_check_rows(const ftk_head_loader *l, const char *name, uint64_t rows);
/* d2t, token_map: *n_out gets how many rows have a token of their own; 0: there is no such list. */
ftk_err ftk_head_vocab(ftk_head_loader *l, int *n_out);

#endif
