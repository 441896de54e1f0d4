/* SPDX-License-Identifier: Apache-2.0
 *
 * All vectors that shift, scale and gate, of all steps, made once for each label: they depend on
 * timestep and label alone. adaLN holds a third of a DiT's weights, and step by step reading
 * them again would be most of what a cached step costs. */
#ifndef FTK_MODULATION_H
#define FTK_MODULATION_H

#include "base/team.h"
#include "dit_device.h"
#include "schedule.h"

typedef struct ftk_modulation {
    const ftk_dit *m;
    const ftk_host *host;
    ftk_dit_device *device; /* vectors lie in its memory; NULL: there is none */
    int n_steps, capacity;
    int32_t *label; /* [capacity] whose vectors are there; -1: nobody's */
    /* [capacity][n_steps][row]: n_layer times FTK_ADA vectors, then shift and scale of the last
     * layer; to scales 1 has been added, but for a device */
    float *vectors;
    size_t row;
    float *times;  /* [n_steps][n_embd] embeddings of the timesteps */
    float *hidden; /* [n_steps + 1][widest], work */
    char *act;     /* [n_steps][act_stride], work */
    size_t act_stride;
    float *ones;
    double work; /* multiplications so far */
} ftk_modulation;

/* Room for so many labels, more where that is cheap. device: it computes the vectors, of which
 * hosts see nothing then; or NULL. Errors: NOMEM. */
ftk_err ftk_modulation_open(ftk_modulation *t, const ftk_dit *m, const ftk_host *host,
                            const ftk_noise_step *steps, int n_steps, int labels, ftk_team *team,
                            ftk_dit_device *device);
void ftk_modulation_close(ftk_modulation *t);
/* Makes what is missing of labels[n], n at most the labels it was opened for. */
void ftk_modulation_prepare(ftk_modulation *t, const int32_t *labels, int n, ftk_team *team);
/* The vectors of a label that was prepared. */
const float *ftk_modulation_at(const ftk_modulation *t, int32_t label, int step);

#endif
