/* SPDX-License-Identifier: Apache-2.0
 * Files of trained drafters: opened, checked against the model they were trained for, packed. */
#ifndef FTK_DRAFTERFILE_H
#define FTK_DRAFTERFILE_H

#include "base/target.h"
#include "model.h"

typedef struct ftk_drafterfile {
    ftk_weights weights;  /* views of what follows */
    const ftk_host *host; /* while it is opened */
    char *path;
    ftk_gguf *file;
    ftk_weight *items;
    struct ftk_mat *mats; /* [n + 1]: of the items, and the head */
    float *vectors;
    void *packed;
    void *rows; /* the head's, where they are read in place */
    int32_t *vocab;
    int widest; /* the longest row a matrix reads */
} ftk_drafterfile;

/* Whether the file is a drafter for this model; nothing else of it is looked at. family: gets
 * the name it states, cut to cap - 1 bytes, "" where it is not known. Errors: as below. */
ftk_err ftk_drafterfile_identify(const char *path, const ftk_model *m, char *family, size_t cap,
                                 const ftk_host *host);
/* *family: the name it states, in the file. packed: matrices are for the CPU's kernels; else
 * they stay in the GGUF layout, for a device that takes copies (ftk_mat.file). Errors: those of
 * ftk_gguf_open(); FORMAT (a key or tensor is malformed), UNSUPPORTED (a type), INVALID (no
 * drafter, or one for another model), NOMEM. */
ftk_err ftk_drafterfile_open(ftk_drafterfile *d, const char *path, const ftk_model *m, bool packed,
                             ftk_str *family, const ftk_host *host);
void ftk_drafterfile_close(ftk_drafterfile *d, const ftk_host *host);

/* Rows ids[n] of a matrix, in its GGUF layout; NULL: no memory. */
void *ftk_drafter_gather(const ftk_mat *w, const int32_t *ids, int n, const ftk_host *host);
/* Packs a matrix to `at` as m's level wants it, and returns where the next one goes. It is read
 * with every draft, as its model is with every pass: so it is cached where m's output is. */
char *ftk_drafter_pack(const ftk_model *m, ftk_mat *w, char *at);

#endif
