/* SPDX-License-Identifier: Apache-2.0
 * Random weights of any type, as GGUF stores them. */
#ifndef FTK_BENCH_WEIGHTS_H
#define FTK_BENCH_WEIGHTS_H

#include "foretoken.h"

typedef struct weight_type weight_type; /* a line of the table in weights.c */

/* NULL when random weights of that type cannot be made. */
const weight_type *weights_named(const char *name);
const weight_type *weights_of(uint32_t type);
/* All names in one line. */
const char *weights_names(void);

ftk_type weights_type(const weight_type *t);
uint32_t weights_file_type(const weight_type *t); /* general.file_type of a model of them */
/* n weights (a multiple of the type's block) about zero with standard deviation `deviation`, into
 * out. Evenly spread, not normal: random bits make full use of a block's range. *state is a seed
 * and moves on. */
void weights_random(const weight_type *t, uint64_t *state, double deviation, size_t n, void *out);
/* Multiplies n weights (a multiple of the type's block) by `factor`: blocks by their scales
 * alone. */
void weights_scale(const weight_type *t, double factor, size_t n, void *weights);

#endif
