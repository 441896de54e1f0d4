/* SPDX-License-Identifier: Apache-2.0
 * What the files of checkcuda share: what is counted, models on the CPU or a device, texts and
 * trees. */
#ifndef FTK_TESTS_CHECKCUDA_H
#define FTK_TESTS_CHECKCUDA_H

#include "model/device.h"

enum { MOST_VOCAB = 400, SLOTS = 1024, ROWS = 256 };

extern int check_passed, check_failed;
extern const char *check_shape_name;    /* for messages */
extern double check_worst;              /* difference to the CPU, in parts of the largest logit */
extern int16_t straight[FTK_MAX_NODES]; /* the path of a chain */

/* What a session has, on the CPU or on a device. */
typedef struct {
    ftk_device *device;
    ftk_kv_pool pool;
    ftk_forward f;
} bench;

enum { NODES = 21 };

typedef struct {
    int parent[NODES];
    int32_t token[NODES];
    int16_t depth[NODES];
    uint64_t mask[NODES][2];
} tree;

bool expect(bool ok, const char *what, long a, long b);
void must(ftk_err err, const char *what);
void bench_open(bench *b, const ftk_model *m, int ordinal, ftk_type kv, bool wide);
void bench_close(bench *b);
ftk_kv_seq seq_new(bench *b);
int32_t token_at(const bench *b, int i);
/* Reads tokens [s->len, n) of the text, `step` rows at a time; logits of the last row stay. */
void read_to(bench *b, ftk_kv_seq *s, int n, int step);
size_t row_bytes(const bench *b);
tree grow(const bench *b);
void run_tree(bench *b, ftk_kv_seq *s, const tree *t);
/* The path to a node as a chain; *n gets its length. */
void path_to(const tree *t, int node, int16_t *path, int *n);
void check_close(const bench *cpu, const bench *dev, int rows, double tol);

/* ---- checkcuda_draft.c: whole drafts, of a family's heads or maps */

void check_heads(bench *b, unsigned kind, double tol);
void check_maps(bench *b, double tol);

/* ---- checkcuda_plant.c: trees of drafts that a device finishes */

void check_planted(int ordinal);
void check_finished(bench *b, ftk_kv_seq *s, const ftk_unfinished *draft, const float *held,
                    const ftk_ranked *said, int n_said);

/* ---- checkcuda_route.c: policies, and rows that go by them */

void check_policies(int ordinal);
void check_routes(bench *cpu, bench *dev, double tol);

#endif
