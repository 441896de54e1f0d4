/* SPDX-License-Identifier: Apache-2.0
 *
 * Safetensors: 8 bytes with the length of a header, little-endian; the header, a JSON object
 * with type, shape and place of each tensor; their bytes, one behind the other without a gap.
 * Format: github.com/huggingface/safetensors, README.md. */
#ifndef FTK_SAFETENSORS_H
#define FTK_SAFETENSORS_H

#include "base/mapped.h"

typedef enum ftk_dtype {
    FTK_DTYPE_OTHER, /* known by name and size alone */
    FTK_DTYPE_BOOL,
    FTK_DTYPE_I64,
    FTK_DTYPE_I32,
    FTK_DTYPE_F16,
    FTK_DTYPE_BF16,
    FTK_DTYPE_F32,
    FTK_DTYPE_F64
} ftk_dtype;

typedef struct ftk_safetensor {
    ftk_str name; /* as the header has it */
    ftk_str type; /* "BF16" */
    ftk_dtype dtype;
    int n_dims;
    uint64_t dims[4];      /* as there, the row length last; unused ones are 1 */
    uint64_t offset, size; /* bytes; offset from the start of the tensors */
    const void *data;
} ftk_safetensor;

typedef struct ftk_safetensors {
    ftk_mapped file;
    size_t n;
    ftk_safetensor *items;    /* [n], in the order of the header */
    ftk_safetensor **by_name; /* [n] the same, sorted */
} ftk_safetensors;

/* Maps and checks a file: whatever the header says lies inside it, no two tensors share a byte
 * or a name, no byte belongs to none. Errors: IO, FORMAT, NOMEM, each with one line. */
ftk_err ftk_safetensors_open(ftk_safetensors *s, const char *path, const ftk_host *host);
/* Takes one that is all zero. */
void ftk_safetensors_close(ftk_safetensors *s, const ftk_host *host);
/* NULL: there is none of that name. */
const ftk_safetensor *ftk_safetensors_find(const ftk_safetensors *s, const char *name);

#endif
