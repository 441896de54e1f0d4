/* SPDX-License-Identifier: Apache-2.0
 *
 * A device that runs the passes of a DiT in place of the CPU. Weights, states, modulation and what
 * caches keep lie in its memory; samples, plans and the scores of tokens lie with the host. */
#ifndef FTK_DIT_DEVICE_H
#define FTK_DIT_DEVICE_H

#include "dit_pass.h"

struct ftk_dit_device {
    const struct ftk_dit_device_ops *ops;
};

typedef struct ftk_dit_device_ops {
    void (*free)(ftk_dit_device *d);
    const char *(*name)(const ftk_dit_device *d); /* "cuda:0 NVIDIA H100" */
    /* What went wrong first, or NULL. From then on passes do nothing. */
    const char *(*trouble)(const ftk_dit_device *d);
    void *(*mem_alloc)(ftk_dit_device *d, size_t n); /* NULL: no memory */
    void (*mem_free)(ftk_dit_device *d, void *p);    /* accepts NULL */
    /* vectors = the modulation of conditions x [steps][n_embd], which are of the host: a row of
     * ftk_modulation each, but 1 is not added to scales. */
    void (*modulate)(ftk_dit_device *d, const float *x, float *vectors);
    /* ftk_dit_pass_run() */
    void (*run)(ftk_dit_device *d, ftk_dit_pass *p, const ftk_dit_seq *seqs, int n);
} ftk_dit_device_ops;

typedef struct ftk_dit_device_config {
    const char *name; /* "cuda" or "cuda:N" */
    int max_seqs, steps;
    bool checks;
    ftk_kept_scores scores;
} ftk_dit_device_config;

/* On an error why[cap] gets the line that explains it; nothing is logged. Errors: INVALID (no such
 * name), DEVICE (none, or not usable), NOMEM, UNSUPPORTED (this build has none). */
ftk_err ftk_dit_device_open(ftk_dit_device **out, const ftk_dit *m,
                            const ftk_dit_device_config *cfg, char *why, size_t cap);

#endif
