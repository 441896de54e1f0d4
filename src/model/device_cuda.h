/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of a CUDA device, as its own files see them:
 *
 *     device_cuda.c          what it holds, work space, the KV cache's memory
 *     device_cuda_life.c     finding a GPU, its memory, its troubles: dit_cuda.h has these, too
 *     device_cuda_weights.c  matrices and vectors to the device
 *     device_cuda_pass.c     a pass
 *     device_cuda_route.c    policies, and the layers in few bits, for rows that have a route
 *     device_cuda_graph.c    passes and drafts that are kept whole
 *     device_cuda_drafter.c  drafters' matrices, products with them, whole drafts */
#ifndef FTK_DEVICE_CUDA_H
#define FTK_DEVICE_CUDA_H

#include "device.h"
#include "kernels/cuda/cuda.h"

enum {
    FTK_GPU_ALIGN = 256,
    FTK_GPU_STAGE = 8 << 20, /* bytes of weights that are rearranged at a time, at least a tile */
    FTK_GPU_KEPT_ROWS = 64,  /* of a pass that may be kept */
    FTK_GPU_TREE_KINDS = 1 + FTK_GPU_KEPT_ROWS / FTK_TILE_ROWS,
    FTK_GPU_PIECE = FTK_GPU_TREE_KINDS, /* the kind of whole pieces of prompts */
    FTK_GPU_MAPPED,                     /* that of a draft by maps */
    FTK_GPU_ROUTED,                     /* that of a row that has a route */
    FTK_GPU_ROW_KINDS,
    FTK_GPU_KEPT_SEQS = 8,   /* sequences of a pass that may be kept */
    FTK_GPU_SLOT_KINDS = 20, /* powers of 2 of attention's chunks */
};
/* Device memory left to the driver: the kernels, stacks, kept passes. */
static const size_t ftk_gpu_reserve = (size_t)256 << 20;

/* A GPU as its owner speaks of it. */
typedef struct ftk_gpu_life {
    ftk_queue *q;
    char name[160];    /* "cuda:0 NVIDIA H100" */
    char trouble[256]; /* what went wrong first; empty: nothing yet */
} ftk_gpu_life;

/* A part of a piece of memory. */
typedef struct ftk_gpu_piece {
    void *at; /* a pointer to the pointer that gets its place */
    size_t bytes;
} ftk_gpu_piece;

typedef struct {
    ftk_cuda_mat q, k, v, o, gate, up, down;
    const float *attn_norm, *ffn_norm, *attn_post_norm, *ffn_post_norm, *q_norm, *k_norm;
    const float *q_bias, *k_bias, *v_bias, *o_bias;
} ftk_gpu_layer;

/* ftk_layer_mat() on the device. */
static inline ftk_cuda_mat *ftk_gpu_layer_mat(ftk_gpu_layer *l, int i)
{
    ftk_cuda_mat *const all[FTK_LAYER_MATS] = {&l->q,    &l->k,  &l->v,   &l->o,
                                               &l->gate, &l->up, &l->down};
    return all[i];
}

/* What a pass needs of each row and sequence, in one piece that is sent at once. */
typedef struct {
    uint64_t (*mask)[2];
    ftk_cuda_draw *draw; /* of each row with logits */
    int32_t *token, *pos, *logit_row;
    ftk_cuda_span *span; /* of each sequence's parts: n_parts() */
    int32_t *page;       /* of all of them, one after the other */
    /* of a row that has a route, else not sent; where it is stored is in span[1] */
    ftk_cuda_route *route;
    uint8_t *fixed; /* [n_layer] */
} ftk_gpu_inputs;

/* One kind of passes. */
typedef struct {
    bool seen; /* such a pass has run: its kernels are loaded */
    ftk_cuda_graph *graph;
} ftk_gpu_kept;

/* The matrices of a drafter's file, in memory of their own. */
typedef struct ftk_gpu_drafter {
    struct ftk_gpu_drafter *next;
    char *arena;
    const int32_t *vocab;             /* of the file; NULL: it has none */
    ftk_gpu_kept chain[2][FTK_HEADS]; /* drafts by 1, 2 ... heads: of one node a depth, of trees */
    int n;
    struct {
        const void *file; /* ftk_mat.file: what they are known by */
        ftk_cuda_mat mat;
    } items[];
} ftk_gpu_drafter;

/* The numbers of a policy, in memory of their own. */
typedef struct ftk_gpu_policy {
    struct ftk_gpu_policy *next;
    const float *key; /* ftk_policy.in of the host: what it is known by */
    char *arena;
    ftk_policy p; /* on the device */
} ftk_gpu_policy;

/* What a draft needs: rows of n_embd numbers, by a tree's or one. */
typedef struct {
    float *held, *root;   /* the feature or state, an embedding */
    float *e, *z, *u, *v; /* [FTK_HEAD_NODES]; z of twice the length */
    float *g[2];          /* [FTK_HEAD_NODES] of a depth and of the one before */
    ftk_cuda_draft *chain;
} ftk_gpu_draft;

typedef struct ftk_gpu {
    ftk_device base;
    const ftk_model *m;
    ftk_host host;
    ftk_queue q;
    ftk_gpu_life life;
    int max_rows;
    int max_slots, max_pages; /* of a sequence */
    ftk_gpu_layer *layers;
    ftk_cuda_mat embd, output;
    const float *output_norm;
    char *arena; /* weights */
    size_t arena_size;
    char *stage; /* host */
    size_t stage_size;
    char *work; /* all of these: */
    float *x, *norm, *heads, *kv, *attn, *gate, *up, *out, *logits, *features, *states, *partial;
    float *tapped;   /* [taps of the passes][max_rows][n_embd], an allocation of its own; or NULL */
    float *turns[2]; /* [max_slots][n_rot] ftk_turn() of every position, for ftk_forward.freq */
    int32_t *best;   /* [max_rows][FTK_BEST] */
    ftk_ranked *ranked; /* [max_rows] */
    uint8_t *actions;   /* [n_layer] of a row that has a route */
    char *act, *ranking;
    size_t partial_size, act_size;
    char *in, *in_mapped; /* see ftk_gpu_inputs: of passes, of drafts by maps in front of them */
    size_t in_size, in_mapped_size;
    char *in_host; /* what goes there, piece by piece until the next wait */
    size_t in_host_size, in_host_used;
    ftk_ranked *ranked_host; /* [max_rows] of the last pass, [FTK_MAX_NODES] of a drafter's rows */
    uint8_t *actions_host;   /* behind them */
    ftk_gpu_draft draft;
    ftk_cuda_draft *draft_host; /* [FTK_PASS_SEQS] what goes of drafts, and what comes */
    ftk_gpu_drafter *drafters;
    ftk_gpu_policy *policies;
    ftk_gpu_layer *low; /* [n_layer] the layers in few bits; NULL: none */
    char *low_arena;
    bool turned; /* turns holds what it should */
    /* by sequences, their rows and their slots */
    ftk_gpu_kept kept[FTK_GPU_KEPT_SEQS][FTK_GPU_ROW_KINDS][FTK_GPU_SLOT_KINDS];
    /* kept passes are of these pages, leave states of that layer, and go by this policy */
    const char *kept_pool;
    int kept_keep;
    const void *kept_maps; /* the file of these */
    const ftk_gpu_policy *kept_policy;
    bool keeps_none; /* the runtime would not */
    bool wide;       /* there is room for wide passes */
    ftk_cuda_wide wide_room;
    /* of the running pass */
    bool runs_wide;
    const float *wide_of; /* what wide_room.x holds, NULL: nothing */
    ftk_tile_act act_form;
    const float *act_of; /* what act holds, NULL: nothing */
} ftk_gpu;

/* Runs through matrices and vectors twice: to count bytes, then to send them. */
typedef struct {
    ftk_queue *q;
    const ftk_host *host;
    char *stage; /* of the host, for a tile at least */
    size_t stage_size;
    char *arena; /* NULL: they are counted */
    size_t bytes;
} ftk_gpu_loading;

static inline ftk_gpu_loading ftk_gpu_load(ftk_gpu *c, char *arena)
{
    return (ftk_gpu_loading){&c->q, &c->host, c->stage, c->stage_size, arena, 0};
}

/* A pass, as it is laid out: more rows and slots than there are, if it is to be kept. */
typedef struct {
    const ftk_forward *f;
    const ftk_pass_seq *seqs;
    int n_seqs, first;
    int n_rows, n_logits;
    int n_slots;                  /* of every sequence; 0: each has its own */
    const ftk_gpu_policy *policy; /* of the only row, which has a route; or NULL */
    /* Make the rows' states; NULL: rows are tokens, or states of the host's. */
    const ftk_maps *maps;
    int n_joined;      /* the last rows are made, of states of the first; 0: all, of what is held */
    ftk_gpu_inputs in; /* on the device */
} ftk_gpu_pass;

static inline ftk_gpu *ftk_gpu_of(ftk_device *d)
{
    return (ftk_gpu *)(void *)d;
}

static inline size_t ftk_gpu_up_to(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static inline size_t ftk_gpu_most(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* ---- device_cuda.c */

/* ftk_gpu_sync(), after which inputs may be written again. */
void ftk_gpu_wait(ftk_gpu *c);

/* ---- device_cuda_life.c: on an error why[cap] gets the line that explains it */

/* A device by its name. Errors: INVALID (no such name), DEVICE (none, or not usable). */
ftk_err ftk_gpu_find(const char *device, int *ordinal, ftk_cuda_info *info, char *why, size_t cap);
/* Opens its queue. l is zeroed, and q's owner's. Errors: DEVICE. */
ftk_err ftk_gpu_begin(ftk_gpu_life *l, ftk_queue *q, int ordinal, const ftk_cuda_info *info,
                      char *why, size_t cap);
/* Until the queue's work is done; keeps the first error in words. */
void ftk_gpu_sync(ftk_gpu_life *l);
/* The same for what was sent. Errors: DEVICE. */
ftk_err ftk_gpu_arrives(ftk_gpu_life *l, char *why, size_t cap);
/* Memory beside what is there already; NULL: there is not so much. what: it is for. */
char *ftk_gpu_take(const ftk_gpu_life *l, size_t bytes, const char *what, char *why, size_t cap);
/* Bytes for the chunks of attention over n_slots: those of all rows, unless that is much. */
size_t ftk_gpu_attn_bytes(int n_head, int head_dim, int n_slots, int n_rows);
/* Bytes of n_rows rows of activations in any form. */
size_t ftk_gpu_act_bytes(int n_rows, int n_in);
/* Deals `from` out, or, where that is NULL, only counts. */
size_t ftk_gpu_deal(char *from, const ftk_gpu_piece *pieces, size_t n);

/* ---- device_cuda_weights.c */

/* Sends the model's weights to the arena, or, where that is NULL, only counts its bytes. */
size_t ftk_gpu_put_weights(ftk_gpu *c);
/* Sends a matrix, whose place is then in `to`; or only counts. */
void ftk_gpu_put_matrix(ftk_gpu_loading *l, const ftk_mat *w, ftk_cuda_mat *to);
/* Sends bytes and returns where they are; or only counts. */
const void *ftk_gpu_put(ftk_gpu_loading *l, const void *from, size_t bytes);
/* The same of a vector of n floats; NULL is passed over. */
void ftk_gpu_put_vector(ftk_gpu_loading *l, const float *v, int n, const float **to);
/* Bytes of the largest tile, the least that the stage must hold. */
size_t ftk_gpu_widest_tile(const ftk_model *m);

/* ---- device_cuda_pass.c */

/* Where a pass's inputs begin in a piece at `base`; returns the bytes. Pages come last: those
 * that are not there are not sent. n_layer: of a route; 0: there is none. */
size_t ftk_gpu_lay_out(char *base, int n_rows, int n_spans, int n_layer, size_t n_pages,
                       ftk_gpu_inputs *in);
/* All that an ftk_gpu_pass computes, from the inputs to logits, features and states. */
void ftk_gpu_compute(ftk_gpu *c, const void *pass);
/* Slots of a sequence: committed ones, and provisional ones up to its last row's. */
int ftk_gpu_slots_of(const ftk_pass_seq *seq);
/* How many parts a sequence has, in each of which masks have a bit for every row. */
int ftk_gpu_parts(const ftk_pass_seq *seq);
/* Counts p's rows, and puts it on the queue, unless the device has failed. Returns how many have
 * logits. */
int ftk_gpu_put_pass(ftk_gpu *c, ftk_gpu_pass *p);
/* The same, and waits for it: what the caller reads of its rows is there. */
void ftk_gpu_run_pass(ftk_gpu *c, ftk_forward *f, ftk_gpu_pass *p);
/* ftk_device_ops.tap */
ftk_err ftk_gpu_tap(ftk_device *d, int n);
/* ftk_device_ops.run */
void ftk_gpu_run(ftk_device *d, ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs, int first);

/* What is said of each of n rows of logits [n][n_vocab]. draws may be NULL. */
void ftk_gpu_rank(ftk_gpu *c, int n, int n_vocab, const float *logits, const ftk_cuda_draw *draws,
                  ftk_ranked *to);

/* ---- device_cuda_graph.c */

/* The kind of a pass, which is then laid out for all of its kind; NULL: it is none to keep. */
ftk_gpu_kept *ftk_gpu_kind(ftk_gpu *c, ftk_gpu_pass *p);
/* Does work, which is kept from the second time on; k NULL: it is not to be. */
void ftk_gpu_do(ftk_gpu *c, ftk_gpu_kept *k, void (*work)(ftk_gpu *c, const void *ctx),
                const void *ctx);
void ftk_gpu_drop_kept(ftk_gpu *c);
/* ftk_device_ops.kept */
int ftk_gpu_n_kept(const ftk_device *d);

/* ---- device_cuda_route.c */

/* ftk_device_ops of these names */
ftk_err ftk_gpu_add_policy(ftk_device *d, const ftk_policy *p, char *why, size_t cap);
ftk_err ftk_gpu_add_low_bits(ftk_device *d, char *why, size_t cap);
void ftk_gpu_free_routes(ftk_gpu *c);
/* The policy that was added; p: the host's. */
const ftk_gpu_policy *ftk_gpu_policy_of(const ftk_gpu *c, const ftk_policy *p);
/* A route's part of a pass's inputs. */
void ftk_gpu_fill_route(const ftk_route *r, const ftk_gpu_inputs *in);
/* Before a layer: chooses its action. */
void ftk_gpu_choose(ftk_gpu *c, const ftk_gpu_pass *p, int layer);
/* Behind it: scales the state of a row that leaves it out; what follows is done by all. */
void ftk_gpu_leave_out(ftk_gpu *c, const ftk_gpu_pass *p, int layer);
/* What is put on the queue from now on is done by a row whose action at a layer is one of
 * `actions`, a sum of FTK_GPU_; by rows without a route always. */
enum {
    FTK_GPU_FULL = 1 << FTK_FULL,
    FTK_GPU_PARTIAL = 1 << FTK_PARTIAL,
    FTK_GPU_SKIP = 1 << FTK_SKIP,
    FTK_GPU_RUN = FTK_GPU_FULL | FTK_GPU_PARTIAL,
    FTK_GPU_ALL = FTK_GPU_RUN | FTK_GPU_SKIP,
};
void ftk_gpu_when(ftk_gpu *c, const ftk_gpu_pass *p, int layer, unsigned actions);
/* How many versions of its layers a pass multiplies by: the model's, and on a route those in few
 * bits. */
int ftk_gpu_versions(const ftk_gpu *c, const ftk_gpu_pass *p);
/* A layer in one of them; what is put on the queue from now on is done where the action is that
 * version, or one of `also`, which is looked at for the first alone. */
const ftk_gpu_layer *ftk_gpu_version(ftk_gpu *c, const ftk_gpu_pass *p, int layer, int version,
                                     unsigned also);

/* ---- device_cuda_drafter.c: ftk_device_ops of these names */

ftk_err ftk_gpu_add_weights(ftk_device *d, const ftk_weights *w, char *why, size_t cap);
void ftk_gpu_multiply(ftk_device *d, const ftk_mat *w, int n, const float *x, float *y);
void ftk_gpu_hold(ftk_device *d, ftk_held what, int row, float *to);
const ftk_heads_said *ftk_gpu_run_heads(ftk_device *d, const ftk_heads *h, const ftk_heads_ask *ask,
                                        const float *feature);
void ftk_gpu_run_mapped(ftk_device *d, ftk_forward *f, const ftk_pass_seq *seq, int first,
                        const ftk_maps *maps, const float *state);
void ftk_gpu_run_appending(ftk_device *d, ftk_forward *f, const ftk_pass_seq *below,
                           const ftk_pass_seq *all, const ftk_pass_append *a);
/* The drafts that are finished in front of a pass, behind its inputs, of which they make others. */
void ftk_gpu_put_drafts(ftk_gpu *c, const ftk_gpu_pass *p);
/* What came of them. */
void ftk_gpu_take_drafts(ftk_gpu *c, const ftk_gpu_pass *p);
/* c->x = the states that p->maps make. */
void ftk_gpu_map(ftk_gpu *c, const ftk_gpu_pass *p);
void ftk_gpu_free_drafters(ftk_gpu *c);

#endif
