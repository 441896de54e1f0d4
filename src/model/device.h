/* SPDX-License-Identifier: Apache-2.0
 *
 * A device that runs passes in place of the CPU: weights, KV cache and activations lie in its
 * memory, and logits, features and kept states come back to where the CPU's pass leaves them.
 * The engine opens one, if it was asked to; the KV cache and the pass call it through its table
 * of functions. */
#ifndef FTK_DEVICE_H
#define FTK_DEVICE_H

#include "forward.h"

struct ftk_device {
    const struct ftk_device_ops *ops;
};

typedef struct ftk_device_ops {
    void (*free)(ftk_device *d);
    const char *(*name)(const ftk_device *d); /* "cuda:0 NVIDIA H100" */
    /* What went wrong first, or NULL. From then on passes do nothing. */
    const char *(*trouble)(const ftk_device *d);
    void *(*mem_alloc)(ftk_device *d, size_t n); /* NULL: no memory */
    void (*mem_free)(ftk_device *d, void *p);    /* accepts NULL */
    void (*kv_copy)(ftk_device *d, void *dst, const void *src, size_t n);
    /* What ftk_kv_commit() does to the slots. */
    void (*kv_move)(ftk_device *d, const ftk_kv_seq *s, const int16_t *path, int n);
    /* Room for the states of n layers (ftk_forward.tap), which passes of up to max_rows rows leave
     * in ftk_forward.tapped. Errors: NOMEM. */
    ftk_err (*tap)(ftk_device *d, int n);
    /* ftk_forward_run_above(); one wait, whatever drafts are finished in front of it */
    void (*run)(ftk_device *d, ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs, int first);
    /* Copies the matrices of a drafter's file, which the functions below then know. On an error,
     * why[cap] says what is missing. Errors: NOMEM, UNSUPPORTED (a matrix is too wide), DEVICE. */
    ftk_err (*add_weights)(ftk_device *d, const ftk_weights *w, char *why, size_t cap);
    /* Copies a policy's numbers, by which routes then go: of theirs `in` is looked at, and what
     * may differ between two of one file, `fixed` and whether there is a `scale`. Errors: NOMEM,
     * DEVICE. */
    ftk_err (*add_policy)(ftk_device *d, const ftk_policy *p, char *why, size_t cap);
    /* Makes the copy of the layers in few bits (lowbit.h), once. Errors: NOMEM, DEVICE. */
    ftk_err (*add_low_bits)(ftk_device *d, char *why, size_t cap);
    /* ftk_target's: of w only its `file` is looked at. */
    void (*multiply)(ftk_device *d, const ftk_mat *w, int n, const float *x, float *y);
    /* What row `row` of the last pass left - of those with logits, of all for states - to
     * to[n_embd]. */
    void (*hold)(ftk_device *d, ftk_held what, int row, float *to);
    /* ftk_target's, with what is held. */
    const ftk_heads_said *(*run_heads)(ftk_device *d, const ftk_heads *h, const ftk_heads_ask *ask,
                                       const float *feature);
    /* run() from layer `first` on over seq's rows, made by maps. */
    void (*run_mapped)(ftk_device *d, ftk_forward *f, const ftk_pass_seq *seq, int first,
                       const ftk_maps *maps, const float *state);
    /* ftk_forward_run_appending(), of rows that maps make: run() of the layers below a->layer,
     * then of the others over all rows, of the states that the first part has left; one wait. */
    void (*run_appending)(ftk_device *d, ftk_forward *f, const ftk_pass_seq *below,
                          const ftk_pass_seq *all, const ftk_pass_append *a);
    /* How many kinds of passes and drafts are kept whole, to be run by one call; -1: that was
     * refused. */
    int (*kept)(const ftk_device *d);
} ftk_device_ops;

#define FTK_DEVICE_UNKNOWN "device \"%s\" is not known: give cpu, auto, cuda or cuda:N"

/* What an engine will ask for. */
typedef struct ftk_device_config {
    const char *name;        /* "cuda" or "cuda:N" */
    int max_rows, max_slots; /* FTK_MAX_NODES rows at least */
    size_t kv_bytes;         /* of the whole cache */
    bool wide;               /* passes of one chain of FTK_WIDE_ROWS, without logits, are run too */
} ftk_device_config;

/* Passes over more than one row are run for a multiple of so many. */
enum { FTK_DEVICE_ROWS = 8 };

/* Rows of a piece of a prompt whose products a library for large ones computes: see
 * docs/cuda.md. */
enum { FTK_WIDE_ROWS = 512 };

/* A device with m's weights. On an error, why[cap] gets the line that explains it; nothing is
 * logged. Errors: INVALID (no such name), DEVICE (none, or not usable), NOMEM (what is missing),
 * UNSUPPORTED. */
ftk_err ftk_device_open(ftk_device **out, const ftk_model *m, const ftk_device_config *cfg,
                        char *why, size_t cap);
/* True for what ftk_device_open() may know: "cuda", "cuda:N". */
bool ftk_device_known(const char *name, int *ordinal);
/* Of builds without CUDA: why there is no such device. Errors: UNSUPPORTED, INVALID (no such
 * name). */
ftk_err ftk_device_missing(const char *name, char *why, size_t cap);

#endif
