/* SPDX-License-Identifier: Apache-2.0
 * The sizes of a llama model: by name, or one by one. */
#ifndef FTK_BENCH_SHAPE_H
#define FTK_BENCH_SHAPE_H

#include <stdbool.h>
#include <stdio.h>

/* 0: not given */
typedef struct shape {
    int dim, layers, heads, heads_kv, ffn, vocab;
    int head_dim;
    bool tied; /* the embeddings are the output matrix too */
} shape;

/* Takes an option and its value when it is one of a shape: --shape NAME, --dim N, --layers N,
 * --heads N, --kv-heads N, --ffn N, --vocab N, --head-dim N. A later one counts. False when it is
 * none of them; a value that cannot be ends the program with a line. */
bool shape_option(shape *s, const char *option, const char *value);
/* The table of names, for a help text. */
void shape_print_names(FILE *f);

#endif
