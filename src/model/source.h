/* SPDX-License-Identifier: Apache-2.0
 *
 * Heads that others have made, as they are found: a folder with config.json and safetensors, one
 * safetensors file with config.json beside it, or a GGUF file. Nothing in them is trusted. */
#ifndef FTK_SOURCE_H
#define FTK_SOURCE_H

#include "model/json.h"
#include "model/safetensors.h"

enum { FTK_SOURCE_PARTS = 64 };

typedef struct ftk_source {
    char path[256]; /* for messages */
    const ftk_host *host;
    ftk_gguf *gguf; /* NULL: the rest holds it */
    int n_parts;
    ftk_safetensors parts[FTK_SOURCE_PARTS];
    ftk_mapped config_file;
    ftk_json config;
    bool *used; /* [all tensors] */
} ftk_source;

/* A tensor of numbers that kernels read. */
typedef struct ftk_source_tensor {
    int n_dims;
    uint64_t dims[4]; /* dims[0] is the row length */
    ftk_type type;
    bool is_ids; /* whole numbers of 64 bits; type says nothing */
    const void *data;
} ftk_source_tensor;

/* Whether the path is one of these, by its kind and first bytes; false too where it cannot be
 * read. */
bool ftk_source_is(const char *path);
/* A folder, or a name that ends in .safetensors. */
bool ftk_source_is_checkpoint(const char *path);
/* Errors: those of ftk_gguf_open(), IO, FORMAT, NOMEM. */
ftk_err ftk_source_open(ftk_source *s, const char *path, const ftk_host *host);
/* The same of a checkpoint; of one file config.json may be missing. */
ftk_err ftk_source_look(ftk_source *s, const char *path, const ftk_host *host);
void ftk_source_close(ftk_source *s);

size_t ftk_source_n_tensors(const ftk_source *s);
/* Tensor i of all files of safetensors, and in which it is. */
const ftk_safetensor *ftk_source_at(const ftk_source *s, size_t i, int *part);

/* The tensor of that name, or with "model." before it; false: it is not there. Marks it as used.
 * Errors that are said with a line, *err, else OK: UNSUPPORTED (a type). */
bool ftk_source_find(ftk_source *s, const char *name, ftk_source_tensor *t, ftk_err *err);
/* Errors: UNSUPPORTED, with the name of a tensor that was not used, and is not of `spare`, which
 * ends in NULL: such as begin with one of them, or with "model." and one of them. */
ftk_err ftk_source_check_used(const ftk_source *s, const char *const *spare);

#endif
