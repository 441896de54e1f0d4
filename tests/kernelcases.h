/* SPDX-License-Identifier: Apache-2.0
 * Inputs for the kernels: what checkkernels and benchkernels share. Random numbers come from the
 * check's generator; memory is guarded, and running out of it ends the program. */
#ifndef FTK_KERNELCASES_H
#define FTK_KERNELCASES_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/blocks.h"

typedef struct check {
    const ftk_kernels *k, *ref;
    uint64_t seed, rng;
    const char *entry; /* being checked */
    bool device;       /* the CUDA level, or its emulation: no KV cache in Q8_0 */
    bool emulated;     /* slow: fewer cases */
    int passed, failed;
} check;

/* One expectation; a failure says how to see it again. Only the first few are printed. */
bool expect(check *c, bool ok, const char *what, long a, long b);

/* Half a unit in the last place of a float. */
#define EPS 0x1p-24

/* Written so that NaN is never close. */
static inline bool close_to(double got, double want, double tol)
{
    return fabs(got - want) <= tol;
}

/* AMX multiplies floats of fewer bits, where others multiply whole numbers. */
static inline bool in_tiles(const check *c)
{
    return strncmp(c->k->name, "amx", 3) == 0;
}

uint64_t next_u64(check *c);
int below(check *c, int n);
float normal(check *c);

/* Kinds of input: factors on normal numbers. */
enum { NORMAL, TINY, HUGE_VALUES, DENORMAL, N_KINDS };
void fill(check *c, int kind, size_t n, float *x);

/* ------------------------------------------------------------------ guarded memory */

enum { GUARD = 64, CANARY = 0xa5, BLANK = 0xff /* four of them are a NaN */ };

void *guarded(size_t bytes); /* blank, with canaries around it; 64-byte aligned */
void unguard(void *p);
bool intact(const void *p, size_t bytes); /* nothing outside [p, p + bytes) was written */
bool is_blank(const void *p, size_t bytes);
bool same(const void *a, const void *b, size_t bytes);

/* ------------------------------------------------------------------ matrices */

enum { MAX_ROWS = 128, N_TYPES = 15 };
extern const ftk_type types[N_TYPES]; /* all that the kernels can multiply */

/* A random matrix of n elements in GGUF layout: of blocks all bytes but the half floats. */
void *random_matrix(check *c, ftk_type type, size_t n);

/* A matrix, as the level wants it, and packed activations for MAX_ROWS rows. */
typedef struct product {
    ftk_mat m;
    void *gguf, *packed;
    char *act;
    size_t stride, ldy;
    float *x, *single; /* single: [MAX_ROWS][ldy], computed row by row */
} product;

product product_new(check *c, ftk_type type, int n_out, int n_in, int kind);
void product_free(product *p);
void pack_rows(check *c, product *p); /* x to act */

/* ------------------------------------------------------------------ attention */

enum { MAX_PAGES = 16 };

typedef struct scene {
    ftk_attn a;
    int n_nodes, n_pages;
    uint64_t mask[FTK_MAX_NODES][2];
    void *k_pages[MAX_PAGES], *v_pages[MAX_PAGES];
    size_t out_bytes, slot_bytes; /* slot_bytes: one slot of one head */
    float *q, *scratch;
} scene;

size_t slot_at(const scene *s, int head_kv, int slot);
/* Empty pages, blank: what no row sees is NaN. */
scene scene_new(const check *c, ftk_attn a, int n_nodes);
void scene_free(scene *s);
/* Node 0 is the root; others hang under a random earlier node, mostly a late one. */
void grow_tree(check *c, scene *s, int *parent);
void fill_scene(check *c, scene *s, int kind);
/* Rows in tiles of `tile`. The scene is passed in place, so the pointers into it are set here. */
void attend(check *c, scene *s, int tile);

#endif
