/* SPDX-License-Identifier: Apache-2.0
 * LoRA adapters for any model, and models that had them added before: what test_lora compares. They
 * end the program when memory runs out. */
#ifndef FTK_TESTS_LORAFILES_H
#define FTK_TESTS_LORAFILES_H

#include "testkit/ggufwriter.h"

typedef struct lf_adapter {
    int rank;
    float alpha; /* NAN: no key */
    uint32_t seed;
    ftk_type type;    /* of the pairs, where their rows are whole blocks; else F32 */
    const char *only; /* NULL: all matrices, else those with this in their names */
    bool norms;       /* and all norms */
} lf_adapter;

/* The keys and tensors of an adapter for the model. w is initialised. */
void lf_fill(gw *w, const ftk_gguf *model, const lf_adapter *a);
/* The same as a file. False when the model cannot be read or the file not be written. */
bool lf_write(const char *path, const char *model, const lf_adapter *a);
/* The model with its matrices in another type, where their rows are whole blocks of it. */
bool lf_convert(const char *path, const char *model, ftk_type type);
/* The model with adapters added to its weights: in F32, as B A row by row, and rounded once. Types
 * of blocks become Q8_0, or with `floats` F32. */
bool lf_merge(const char *path, const char *model, const ftk_adapter *adapters, size_t n,
              bool floats);

#endif
