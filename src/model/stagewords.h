/* SPDX-License-Identifier: Apache-2.0
 * What stages say to each other. They are processes of one build on machines of one kind, so
 * that structs go over as they lie in memory. */
#ifndef FTK_STAGEWORDS_H
#define FTK_STAGEWORDS_H

#include "stages.h"

#define FTK_STAGE_MAGIC "FTKSTG01"

enum { FTK_STAGE_HELLO, FTK_STAGE_RUN, FTK_STAGE_COPY, FTK_STAGE_MOVE, FTK_STAGE_END };

/* From the last stage to all others, followed by `bytes` more. Of RUN: the layers [first, last),
 * of n_rows rows of n_seqs sequences; the states behind layer `keep` come back, too. */
typedef struct ftk_stage_head {
    uint64_t bytes;
    int32_t kind, first, last, keep, n_seqs, n_rows, states;
} ftk_stage_head;

/* Answered by an ftk_err as int32_t. */
typedef struct ftk_stage_hello {
    char magic[8];
    char fingerprint[17];
    int32_t n_layer;
    ftk_stage_setup setup;
} ftk_stage_hello;

#endif
