/* SPDX-License-Identifier: Apache-2.0
 *
 * The pass of a DiT over the guidance halves of several samples, each by its own plan. The rows
 * of all that compute a branch go through its products together; a row's bits do not depend on
 * the others. */
#ifndef FTK_DIT_PASS_H
#define FTK_DIT_PASS_H

#include "base/team.h"
#include "cachepolicy.h"

/* What is kept of a sample between steps; NULL: not kept. Features and ends lie in the memory of
 * the device, if one runs the passes. */
typedef struct ftk_kept {
    int orders;
    float *features; /* [halves][n_layer][branches][n_tokens][orders][n_embd] */
    float *scores;   /* [halves][n_layer][n_tokens], of attention */
    float *end;      /* [halves][n_tokens][n_embd], of the last layer */
} ftk_kept;

/* A guidance half of a sample. */
typedef struct ftk_dit_seq {
    const float *input;      /* [channels][side][side] */
    float *output;           /* [out_channels][side][side] */
    const float *modulation; /* see modulation.h */
    const ftk_plan *plan;
    ftk_kept *kept;
    int half; /* halves of a sample follow each other, in the same pass */
} ftk_dit_seq;

typedef struct ftk_dit_device ftk_dit_device;

typedef struct ftk_dit_pass {
    const ftk_dit *m;
    const ftk_host *host;
    ftk_dit_device *device; /* runs passes; NULL: the team does */
    ftk_team team;
    ftk_kept_scores scores; /* what is kept of attention */
    ftk_cache_metric metric;
    int halves;
    size_t act_stride, scratch_stride, page_floats;
    float *x; /* [rows][n_embd]: states; behind those of a run's sequences the states of checks */
    float *before; /* [rows of checks][n_embd]: states before the last layer */
    float *q, *kv, *attn, *out;
    float *hidden;     /* [rows][n_ff] */
    char *act;         /* [rows][act_stride] */
    float *norm;       /* [threads][n_embd] */
    float *patches;    /* [rows][widest of a patch's input and output] */
    float *pages;      /* [seqs][2][pages of a sequence][n_head][FTK_PAGE][head_dim] */
    const void **page; /* [seqs][2][pages] */
    uint64_t (*mask)[2];
    float *columns;     /* [seqs][tiles][n_head][n_tokens], for received attention */
    float *scratch;     /* [threads][scratch_stride] */
    float *ones;        /* [n_ff] */
    double *errors;     /* [seqs] of samples that were checked, at their first half */
    double work, other; /* multiplications of blocks, and of the rest */
} ftk_dit_pass;

/* checks: samples may be verified. device: runs the passes; or NULL. Errors: NOMEM. */
ftk_err ftk_dit_pass_open(ftk_dit_pass *p, const ftk_dit *m, const ftk_host *host, int threads,
                          int max_seqs, int halves, bool checks, ftk_kept_scores scores,
                          ftk_dit_device *device);
void ftk_dit_pass_close(ftk_dit_pass *p);
/* Token t of a sample as the first product reads it: channel, row, column. */
void ftk_dit_patch(const ftk_dit_shape *s, const float *in, int t, float *patch);
/* And as the last one leaves it: row, column, channel. */
void ftk_dit_unpatch(const ftk_dit_shape *s, const float *patch, int t, float *out);
/* Runs seqs[n]. Samples are n / halves; p->errors [n / halves] then holds those of checks. */
void ftk_dit_pass_run(ftk_dit_pass *p, const ftk_dit_seq *seqs, int n);

#endif
