/* SPDX-License-Identifier: Apache-2.0
 * Small diffusion transformers, of the recipe in archmodels.h: gates and the last layer are not
 * zero, as they are in a model that nobody has trained, and with which nothing would be tested. */
#ifndef FTK_TESTS_DITMODEL_H
#define FTK_TESTS_DITMODEL_H

#include "testkit/ggufwriter.h"

/* Zeros mean: the defaults in brackets. */
typedef struct dm_model {
    int layers, dim, heads, ffn, patch, size, channels, out_channels, classes;
    double shift, ffn_eps, beta_end; /* [0, 1e-6, 0.02] */
    ftk_type type;                   /* of matrices [F32] */
    bool pixel;
    double damp; /* time_embd.0.weight is multiplied by exp(-damp times the frequency in steps), so
                    that features move smoothly from step to step [0] */
    double calm; /* ada weights are multiplied by it [1] */
    int l2c_steps;    /* a table for so many: its value is 0 in the noisier half, else 1 [none] */
    double l2c_value; /* of all branches in place of 0 and 1, if it is not 0 */
} dm_model;

/* 4 layers of 32 over 9 tokens, 4 channels and their variance, 5 classes. */
dm_model dm_small(void);
void dm_write(gw *w, const dm_model *m);
/* The file; false when it cannot be written. */
bool dm_save(const dm_model *m, const char *path);

#endif
