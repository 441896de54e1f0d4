/* SPDX-License-Identifier: Apache-2.0
 *
 * A model's layers in stages, each in a process of its own. The last one, in which the engine
 * is, runs the upper layers; those below it follow what it sends: passes, and what becomes of
 * slots of the KV cache. Rows' states go from stage to stage as they are, so that the bits are
 * those of one process. Stages have the same pages of the cache under the same numbers, each for
 * its own layers. */
#ifndef FTK_STAGES_H
#define FTK_STAGES_H

#include "forward.h"

/* The layers [begin, end) of a stage. */
typedef struct ftk_stage_range {
    int begin, end;
} ftk_stage_range;

ftk_stage_range ftk_stage_layers(int n_layer, int stage, int n_stages);

/* What the last stage has of those below. */
typedef struct ftk_stages {
    const ftk_host *host;
    ftk_link link;
    int end; /* layers below it are run elsewhere */
    size_t n_embd;
    float *x;      /* [max_rows][n_embd] states in front of layer `end` */
    char *message; /* [cap] */
    size_t cap, n;
    ftk_pass_seq seqs[FTK_PASS_SEQS];
    bool lost; /* from then on passes do nothing */
} ftk_stages;

typedef struct ftk_stage_setup {
    int slots, max_rows, context,
        max_slots; /* as ftk_kv_pool_open() and ftk_forward_open() take them */
    ftk_type kv_type;
} ftk_stage_setup;

/* Has the other stages open what they need. Errors: DEVICE (one is lost, or has another model),
 * NOMEM. */
ftk_err ftk_stages_open(ftk_stages *s, const ftk_model *m, const ftk_link *link,
                        const ftk_stage_setup *setup);
/* They end. Accepts what is half open. */
void ftk_stages_close(ftk_stages *s);
/* Runs the layers below s->end, from `first` on, and gives the sequences with states in place of
 * tokens. */
const ftk_pass_seq *ftk_stages_run(ftk_stages *s, ftk_forward *f, const ftk_pass_seq *seqs,
                                   int n_seqs, int first);
/* What ftk_kv_reserve() does to a page that is shared, and ftk_kv_commit() to slots. */
void ftk_stages_copy(ftk_stages *s, int32_t to, int32_t from);
void ftk_stages_move(ftk_stages *s, const ftk_kv_seq *kv, const int16_t *path, int n);

#endif
