/* SPDX-License-Identifier: Apache-2.0
 * A copy of a model's layers in few bits, for rows that may pass a layer roughly (DASH). */
#ifndef FTK_LOWBIT_H
#define FTK_LOWBIT_H

#include "model.h"

/* Whether a copy of this matrix is smaller: its rows are whole blocks, and longer than in Q4_0. */
bool ftk_lowbit_gains(const ftk_mat *w);
/* The matrix in Q4_0, as it would lie in a file: ftk_lowbit_bytes() at `out`. */
size_t ftk_lowbit_bytes(const ftk_mat *w);
void ftk_lowbit_quantise(const ftk_model *m, const ftk_mat *w, void *out);

typedef struct ftk_lowbit {
    ftk_layer *layers; /* [n_layer]; norms and biases are the model's */
    void *data;
} ftk_lowbit;

/* Bytes that a copy of all layers takes. */
size_t ftk_lowbit_size(const ftk_model *m);
/* Makes Q4_0 of the layers' matrices, read from the model's file once more: 4.5 bits a weight,
 * and while it works those of one matrix again. A matrix that is no larger as it is, or whose
 * rows are no multiple of 32, stays the model's own. Errors: NOMEM, which is left to the caller
 * to say. */
ftk_err ftk_lowbit_open(ftk_lowbit *low, const ftk_model *m);
void ftk_lowbit_close(ftk_lowbit *low, const ftk_host *host);

#endif
