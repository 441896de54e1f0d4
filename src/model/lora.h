/* SPDX-License-Identifier: Apache-2.0
 *
 * LoRA adapters (arXiv 2106.09685): files that hold, for a matrix W [n_out][n_in] of a model, two
 * narrow ones A [rank][n_in] and B [n_out][rank], and mean W + scale B A. Here the sum is made
 * once, while the model is loaded, so that kernels, devices and drafters see no more than other
 * weights.
 *
 * The adapters are opened before the tensors of the model are looked for; then each tensor that one
 * of them changes is replaced by a place in memory, which gets its content once all tensors are
 * known. */
#ifndef FTK_LORA_H
#define FTK_LORA_H

#include "model.h"

typedef struct ftk_lora ftk_lora;

/* Opens n adapters for the model, whose file is open and whose architecture is known, checks them
 * against it, and takes memory for what they change, which m->adapted owns. Errors: those of
 * ftk_gguf_open(); INVALID (a scale or a path; no adapter, or one for another model), FORMAT,
 * UNSUPPORTED, NOMEM. */
ftk_err ftk_lora_open(ftk_lora **out, ftk_model *m, const ftk_adapter *adapters, size_t n);
/* Takes NULL. */
void ftk_lora_close(ftk_lora *l);

/* Of a matrix that is changed, type, data and size become those of its place in memory. l may be
 * NULL. */
void ftk_lora_replace(const ftk_lora *l, ftk_tensor_info *info);
/* A vector was read to v, which is where a change will be made. l may be NULL. */
void ftk_lora_see(ftk_lora *l, const ftk_tensor_info *info, float *v);

/* Tensors that are changed. l may be NULL. */
size_t ftk_lora_n_changes(const ftk_lora *l);
/* Makes the i-th change, once the loader has found all tensors of the model to have the shapes they
 * must have; *bytes gets those of the matrix. Errors: FORMAT (not finite), NOMEM. */
ftk_err ftk_lora_apply(ftk_lora *l, size_t i, uint64_t *bytes);

#endif
