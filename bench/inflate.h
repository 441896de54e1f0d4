/* SPDX-License-Identifier: Apache-2.0
 * How inflate lays a small model into a larger shape: what its own file and that of drafters share.
 * Errors end the program with one line. */
#ifndef FTK_BENCH_INFLATE_H
#define FTK_BENCH_INFLATE_H

#include "model/model.h"
#include "modelfile.h"
#include "shape.h"

/* Indices along one side of a matrix: where each of the large one comes from. */
typedef struct axis {
    int n;
    int *from; /* [n] index in the small one, or NEW, or LIVE */
} axis;

enum {
    NEW = -1,  /* always 0 where a matrix reads it */
    LIVE = -2, /* new, but not 0: no matrix may read it */
};

/* STREAM_IN is what a norm leaves of the stream, features too. STREAM_RAW is the stream before a
 * norm, of which later copies are LIVE; TOKEN_AND_FEATURE is STREAM_RAW and STREAM_IN in a row. */
enum { STREAM_IN, STREAM_OUT, QUERY, KV, FFN, VOCAB, STREAM_RAW, TOKEN_AND_FEATURE, N_AXES };

/* What the weights are that are not the small model's. AT_NEW: noise for new inputs, which are 0,
 * and zeros for all others. */
typedef enum fill { ZEROS, NOISE, AT_NEW } fill;

typedef struct matrix {
    const char *name;
    int in, out; /* axes */
    fill beside; /* of an old output, for new inputs: ZEROS or NOISE */
    fill below;  /* of a new output */
} matrix;

typedef struct job {
    const ftk_model *small;
    shape s;       /* of the large one; heads are of the small one's size */
    int copies;    /* of the stream */
    double factor; /* mean of squares, large over small */
    axis axes[N_AXES];
    uint64_t noise;
    bool planning;
    modelfile m; /* the file being written */
} job;

/* n indices, all NEW. */
void inflate_axis(axis *a, int n);
/* [at, at + n) come from [from, from + n). */
void inflate_place(axis *a, int at, int from, int n);
/* All axes of the model, once shape and copies are known. */
void inflate_lay_out(job *j);
/* The layer of the small model that layer i of the large one is, or -1; spread evenly. *near is
 * the last that came before. */
int inflate_small_layer(const job *j, int i, int *near);
/* Plans or writes a matrix of the large model, from one of the small one or, for a new layer, of
 * its type. */
void inflate_matrix(job *j, const char *name, const matrix *p, const ftk_tensor_info *old,
                    bool is_new);
/* Plans all tensors of the large model, or writes them. */
void inflate_put_tensors(job *j, bool planning);
void inflate_put_keys(job *j);
/* Nothing of the small model may be lost in silence. */
void inflate_check_known(const ftk_model *small);
/* A model with its weights as they stand in the file. */
ftk_model *inflate_load(const char *path);

/* Files of trained drafters, n pairs of a small one and a large one to be written. The first adds
 * the axes they need and refuses what cannot be inflated, the second writes; in between the large
 * model is written. */
void inflate_check_drafters(job *j, int n, char *const *pairs);
void inflate_write_drafters(job *j, const char *large_model, int n, char *const *pairs);

#endif
