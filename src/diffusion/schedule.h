/* SPDX-License-Identifier: Apache-2.0
 * The noise schedule of the sampled steps, and what a step does to a sample. */
#ifndef FTK_SCHEDULE_H
#define FTK_SCHEDULE_H

#include "dit.h"

/* A sampled step. Its index counts up from 0, the cleanest; the loop runs down. */
typedef struct ftk_noise_step {
    int t;               /* of the training schedule */
    double kept, before; /* alpha-bar here, and at the next cleaner step (1 at index 0) */
    double beta;         /* 1 - kept / before */
    double log_most;     /* log variance: its upper end, */
    double log_least;    /* its lower end: beta-tilde, at index 0 that of index 1 */
    double log_fixed;    /* and what models take that have learned none */
} ftk_noise_step;

/* steps[n], n in 1..train_steps: timestep i is round(i (T - 1) / (n - 1)), halves to even; the
 * only one of n = 1 is T - 1. */
void ftk_schedule_make(const ftk_dit_shape *s, int n, ftk_noise_step *steps);

/* In place, x[n] by the predicted noise: DDIM with eta 0 (arXiv 2010.02502). */
void ftk_ddim(const ftk_noise_step *s, size_t n, const float *noise, float *x);
/* DDPM (arXiv 2006.11239). spread [n]: the model's variance output (arXiv 2102.09672), or NULL;
 * fresh [n]: normal numbers, or NULL at index 0, where none are added. */
void ftk_ddpm(const ftk_noise_step *s, size_t n, const float *noise, const float *spread,
              const float *fresh, float *x);

/* n normal numbers that depend on seed and stream (0: the start; 1 + index: of that step) alone. */
void ftk_normal_numbers(uint64_t seed, uint32_t stream, float *out, size_t n);

#endif
