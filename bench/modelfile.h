/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes a GGUF tensor by tensor, so that a model larger than the memory can be made: the keys and
 * the tensors' records are planned first, the data then streams in the same order. The file grows
 * as PATH.part and gets its name when it is whole; whatever ends the program before that, an error
 * or a signal, removes it. Errors end the program with one line. One file at a time. */
#ifndef FTK_BENCH_MODELFILE_H
#define FTK_BENCH_MODELFILE_H

#include "testkit/ggufwriter.h"

typedef struct modelfile {
    gw head;          /* keys go in with gw_u32() and its kin; records with modelfile_plan() */
    uint64_t planned; /* bytes of the data section */
    uint64_t written;
    const char *path;
    void *f; /* FILE */
} modelfile;

void modelfile_init(modelfile *m);
/* The record of the next tensor: [n_out][n_in], or a vector where n_out is 0. */
void modelfile_plan(modelfile *m, const char *name, int n_in, int n_out, ftk_type type);
/* Opens PATH.part, claims its room on the disk and writes the head. What stands at PATH has to be a
 * regular file, if anything. */
void modelfile_begin(modelfile *m, const char *path);
/* Some of the data of the tensors, in the order of their plan. */
void modelfile_write(modelfile *m, const void *p, size_t n);
/* After the last byte of each tensor: up to where the next one begins. */
void modelfile_align(modelfile *m);
/* Everything planned was written: PATH.part becomes PATH. Returns the bytes of the file. */
uint64_t modelfile_end(modelfile *m);

#endif
