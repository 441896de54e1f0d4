/* SPDX-License-Identifier: Apache-2.0
 *
 * One forward pass of the model over rows of several sessions. Prefill is a pass over chains,
 * decoding a pass over trees of one node, verification a pass over trees: all the same code, and a
 * row's logits have the same bits in each.
 */
#ifndef FTK_FORWARD_H
#define FTK_FORWARD_H

#include "base/clock.h"
#include "base/sampler.h"
#include "base/target.h"
#include "base/team.h"
#include "base/tree.h"
#include "kv.h"

/* What the caller will not read of a pass, so that a device need not send it. */
enum {
    FTK_SPARE_LOGITS = 1, /* ftk_forward.ranked will do, where there is one */
    FTK_SPARE_FEATURES = 2,
    FTK_SPARE_STATES = 4, /* those that ftk_forward.keep asks for */
};

enum { FTK_PASS_SEQS = 64 }; /* sequences of a pass, at most */

/* The rows of one sequence: provisional slots len + slot .. len + slot + n_rows. */
typedef struct ftk_pass_seq {
    const ftk_kv_seq *kv; /* reserved for n_rows */
    int n_rows; /* 1..FTK_MAX_NODES; on a device that is opened for it a chain alone in its pass
                             may have FTK_WIDE_ROWS (device.h) */
    int slot;   /* of the first row; what stands in lower ones is seen as masks say */
    const int32_t *token; /* [n_rows] */
    const int16_t *depth; /* [n_rows] row i stands at len + depth[i]; NULL: at len + slot + i */
    const uint64_t (*mask)[2]; /* [n_rows] slots of ancestors and self; NULL: a chain from len on */
    int first_logits;          /* rows from here on get logits; n_rows: none */
    unsigned spare;            /* FTK_SPARE_ */
    const ftk_sampling *sampling; /* by which tokens of spared rows are drawn, without its penalty;
                                     NULL: they are the likeliest */
    /* [n_rows][n_embd] for ftk_forward_run_above(); token is NULL then. In a pass of an EAGLE
     * head the states that its rows begin with, beside their tokens. */
    const float *states;
    const ftk_route *route; /* of the only row of a pass; NULL: all layers are run */
    /* NULL, or a device makes the tree, of this draft, in front of the pass: the rows are as
     * many as it may have, given as a chain's, without tokens. */
    ftk_finishing *left;
} ftk_pass_seq;

/* Rows that join a pass of one sequence behind its first `layer` layers (0 < layer < layers).
 * Row i belongs to row node[i] of the sequence, and the rows of a node lie side by side: it sees
 * what the node sees, the node, and the node's rows before it, and stands at the next place.
 * Nothing else sees it. */
typedef struct ftk_pass_append {
    int n, layer;
    const int16_t *node; /* [n] */
    /* Makes their states x[n][n_embd] of the sequence's rows' states[n_rows][n_embd]. */
    void (*states)(void *ctx, const float *states, float *x);
    void *ctx;
    const ftk_maps
        *maps; /* or NULL. On a device these make them instead: a node's row i is map i's */
} ftk_pass_append;

/* What the first layer reads for a token: x[n_embd]. */
void ftk_embed(const ftk_model *m, int32_t token, float *x);

enum { FTK_TAPS = 32 };    /* states of so many layers, at most */
enum { FTK_OWN_ROWS = 4 }; /* rows that threads prepare each for itself, at most */

/* Work space of passes up to max_rows rows, and the threads that run them. */
typedef struct ftk_forward {
    const ftk_model *m;
    const ftk_layer *low;   /* [n_layer] the layers in few bits; NULL: none. Set by who made them */
    ftk_stages *below;      /* other processes run the layers below its end; NULL: none do */
    ftk_device *device;     /* runs the passes; NULL: the CPU does. Set by who opened both */
    const ftk_clock *clock; /* hears of passes; NULL: nobody does. Set by who opened f */
    int layers; /* a pass runs the first so many: all of them, but while costs are measured */
    int max_rows;
    ftk_type kv_type;
    float *x;         /* [max_rows][n_embd] the residual stream */
    float *norm;      /* [max_rows][n_embd] */
    float *pair;      /* [max_rows][2 n_embd] of an EAGLE head's first layer; else NULL */
    float *q;         /* [max_rows][n_head * head_dim] */
    float *kv;        /* [max_rows][2 * n_head_kv * head_dim] keys, then values */
    float *attn;      /* [max_rows][n_head * head_dim] */
    float *gate, *up; /* [max_rows][n_ff] */
    float *out;       /* [max_rows][n_embd] what a block adds to x */
    char *act;        /* [max_rows][act_stride] activations as matmul reads them */
    size_t act_stride;
    char *own_act;        /* [threads][FTK_OWN_ROWS][act_stride] of passes over few rows */
    float *own_norm;      /* [threads][FTK_OWN_ROWS][n_embd] */
    const float *freq[2]; /* [n_rot / 2] of layers that see everything, of windowed ones */
    float *cs[2];   /* [max_rows][n_rot] cos and sin of the row's position, for each of the two;
                       the second is the first where they turn alike */
    float *scratch; /* [threads][scratch_stride] attention */
    size_t scratch_stride;
    uint64_t (*chain)[2];  /* [FTK_MAX_NODES] masks of a chain */
    uint64_t (*joined)[2]; /* [FTK_MAX_NODES] masks and depths of a pass that rows join */
    int16_t *joined_depth;
    struct ftk_row {
        int32_t token;
        const float *state; /* NULL: the token's embedding */
        int pos, slot;
        const ftk_kv_seq *kv;
    } * rows;                 /* [max_rows] */
    ftk_team team;            /* its own, unless it was opened on another's */
    ftk_team *lent;           /* that one; NULL: its own */
    float *logits;            /* [max_rows][n_vocab] rows that asked for them, in order */
    float *features;          /* [max_rows][n_embd] of the same rows: states after the last norm */
    const ftk_ranked *ranked; /* [max_rows] the same rows: a device's, of sequences that spare their
                                 logits; NULL on the CPU, which leaves those to all */
    int keep;                 /* passes leave the states behind this layer in states; -1: none */
    float *states;            /* [max_rows][n_embd] of all rows; NULL until ftk_forward_keep() */
    int n_taps,
        tap[FTK_TAPS]; /* states that passes leave for heads: entering layer tap[i], or, where that
                                 is n_layer, behind the last one */
    float *tapped;     /* [n_taps][max_rows][n_embd] of all rows; NULL: there are none */
} ftk_forward;

/* context: the most tokens a sequence may have, which decides between frequencies for short and
 * for long ones. max_slots: committed and provisional slots of a sequence. f must stay where it
 * is. Errors: NOMEM; then f is to be closed all the same. */
ftk_err ftk_forward_open(ftk_forward *f, const ftk_model *m, int threads, int max_rows, int context,
                         int max_slots, ftk_type kv_type);
/* The same with the threads of another pass, which outlives this one and does not run at the
 * same time. Errors: NOMEM, likewise. */
ftk_err ftk_forward_open_on(ftk_forward *f, const ftk_model *m, ftk_team *lent, int max_rows,
                            int context, int max_slots, ftk_type kv_type);
void ftk_forward_close(ftk_forward *f);
/* What ftk_forward_open() takes, but for its threads. */
uint64_t ftk_forward_bytes(const ftk_model *m, int threads, int max_rows, int max_slots);
/* Runs the pass; the sum of n_rows is at most max_rows. Logits are left in f->logits, sequence by
 * sequence. Nothing can fail: values that are not finite show in the logits. */
void ftk_forward_run(ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs);
/* The same for the layers from `first` on, over states in place of tokens. */
void ftk_forward_run_above(ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs, int first);
/* Keys and values alone, in every layer of these very states, which no norm and no layer changes
 * before: what a DFlash head sees of the text. */
void ftk_forward_store(ftk_forward *f, const ftk_pass_seq *seqs, int n_seqs);
/* The pass of one sequence, with rows that join it: n_rows + a->n is at most FTK_MAX_NODES and
 * max_rows, and kv is reserved for them. All rows get logits, the joining ones last. The logits
 * of the sequence's rows have the bits that they have without. Behind layer - 1,
 * ftk_forward_keep() is on. */
void ftk_forward_run_appending(ftk_forward *f, const ftk_pass_seq *seq, const ftk_pass_append *a);
/* DEVICE, with a line for the log, once the device has failed: then what passes left means
 * nothing. */
ftk_err ftk_forward_check(const ftk_forward *f);
/* Cosines and sines of a position, [n_rot], in the order in which RoPE in pairs or halves reads
 * them. */
void ftk_turn(const ftk_hparams *hp, bool halves, const float *freq, int pos, float *cs);
/* From now on passes keep the states behind a layer. Errors: NOMEM. */
ftk_err ftk_forward_keep(ftk_forward *f, int layer);
/* From now on they leave the states entering `layer`, in [0, n_layer]; *index gets its place
 * among taps. Errors: NOMEM, UNSUPPORTED (more than FTK_TAPS). */
ftk_err ftk_forward_tap(ftk_forward *f, int layer, int *index);

#endif
