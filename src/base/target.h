/* SPDX-License-Identifier: Apache-2.0
 *
 * The target, in the literature's word: the model a drafter drafts for, as far as drafters may
 * use it between the passes that verify; and the trained weights of a drafter's own. */
#ifndef FTK_TARGET_H
#define FTK_TARGET_H

#include "policy.h"
#include "sampler.h"

struct ftk_mat; /* a matrix as the kernels read it */
struct ftk_rows;

/* How a row gets through the layers. */
typedef struct ftk_route {
    const ftk_policy *policy;
    uint8_t *actions; /* [n_layer] gets what was chosen */
} ftk_route;

/* ---- what a device does of a draft, in one go */

/* Added to the mean square of an embedding whose size is taken away. */
#define FTK_EMBED_EPS 1e-6f

/* What a device holds of a pass for a session: a row's feature, a row's state behind the layer that
 * passes keep. */
typedef enum ftk_held { FTK_HELD_FEATURE, FTK_HELD_STATE, FTK_HELD } ftk_held;

enum {
    FTK_HEADS = 8,        /* that run one after the other */
    FTK_HEAD_NODES = 10,  /* of a depth that get children */
    FTK_HEAD_KNOWN = 160, /* guesses that are there before, at most: further ones are not told */
    FTK_HEAD_BINS = 8,    /* classes of probability */
};

/* S4C's heads: drafters/s4c.c says what they compute, of the held feature. Head i names children
 * of nodes of depth i: of the `width` best, `choices` each. */
typedef struct ftk_heads {
    int n;
    const struct ftk_mat *in[FTK_HEADS], *body[FTK_HEADS];
    const struct ftk_mat *output; /* of ftk_weights: its head */
    bool chained;       /* a head sees the feature that the one before made, else the held one */
    bool sees_token;    /* else all nodes of a depth have the same children */
    int width, choices; /* at most FTK_HEAD_NODES, FTK_BEST */
} ftk_heads;

/* A guess beside its siblings: by share, of equal ones the first before others. */
typedef enum ftk_beside {
    FTK_AGREED,   /* the best; several sources named it */
    FTK_ALONE,    /* the best, by far */
    FTK_RIVALLED, /* the best, and one source names it; another guess is nearly as good */
    FTK_BEHIND,   /* not the best */
    FTK_BESIDES
} ftk_beside;

#define FTK_NEARLY 0.3f /* of the best one's share: a rival */

/* A guess; the first one is the root, and parents come before their children. */
typedef struct ftk_known {
    int32_t token, parent, depth; /* parent -1 of the root, depth 0 */
    float share;                  /* of its parent's worth; of the root 1 */
    int32_t sources;              /* that named it */
} ftk_known;

/* A head's choice of probability p has the head's rate of the first bin whose bound is not above
 * p for its share; of two that name a token below one node, the more counts. A guess is worth as
 * much as its parent times its share. Nodes are chosen by worth, ties to the one that was there
 * first. For the tree each share is taken `comes` times, at most 1: by its bin and by what
 * stands beside it. */
typedef struct ftk_heads_ask {
    int32_t n_known, deepest; /* the depth of the deepest guess */
    float least;              /* worth of a node that gets children */
    float bound[FTK_HEAD_BINS - 1], rate[FTK_HEADS][FTK_HEAD_BINS];
    float comes[FTK_HEAD_BINS][FTK_BESIDES];
    ftk_known known[FTK_HEAD_KNOWN];
} ftk_heads_ask;

/* The choices of each head, and for which nodes: known[i] is node i, choice k of row r of head h
 * is node FTK_HEAD_KNOWN + (h * FTK_HEAD_NODES + r) * FTK_BEST + k, unless known[] has it. Row r
 * is that of node r; if no token is seen, row 0 is that of all. */
typedef struct ftk_heads_said {
    int32_t n[FTK_HEADS];
    int32_t node[FTK_HEADS][FTK_HEAD_NODES];
    ftk_ranked said[FTK_HEADS][FTK_HEAD_NODES];
} ftk_heads_said;

/* FIRP's maps: drafters/firp.c says what they compute, of a state, the held one as a rule, and
 * of a token. */
typedef struct ftk_maps {
    int n;
    const struct ftk_mat *const *of_state;
    const struct ftk_mat *const *of_token; /* NULL: there are none */
    int32_t token;
} ftk_maps;

/* A draft of which what heads or maps name is missing, and the tree. Row i of what maps make
 * names children of nodes of depth i: of the FTK_HEAD_NODES best, FTK_BEST each, as a head does
 * that sees no token. */
typedef struct ftk_unfinished {
    const ftk_heads *heads; /* NULL: by maps, from `layer` on */
    const ftk_maps *maps;
    int layer;
    const ftk_heads_ask *ask;
    double seconds; /* that heads or maps are expected to take */
} ftk_unfinished;

/* How large the tree is that a device makes of all guesses, best first (drafters/guesses.h): of
 * the first `most` nodes below the root those that pay, as ftk_cost_best() has it; if none does,
 * `probe`; and no more than `room`. */
typedef struct ftk_sizing {
    int32_t most, room, probe;
    int32_t all;                   /* whatever pays: as many as there are */
    int32_t chain;                 /* one node a depth */
    double others;                 /* tokens that the pass gives to other sessions */
    double seconds[FTK_MAX_NODES]; /* [most + 1] of a pass that verifies so many */
} ftk_sizing;

typedef struct ftk_planted_node {
    int32_t token;
    float prob;
    int32_t parent;
} ftk_planted_node;

/* The tree that a device made. */
typedef struct ftk_planted {
    int32_t n;     /* with the root, which is node 0 */
    int32_t there; /* before it was cut */
    int32_t pay;   /* nodes below the root, of those there */
    ftk_planted_node node[FTK_MAX_NODES];
} ftk_planted;

/* What a device did of a step whose draft it finished. */
typedef struct ftk_finished {
    const ftk_planted *tree;
    const ftk_heads_said *said; /* by maps: said[0] holds their rows, one after the other */
    double seconds;             /* that the draft took */
} ftk_finished;

/* A draft that a device finishes in front of the pass that verifies it. */
typedef struct ftk_finishing {
    ftk_unfinished draft;
    ftk_sizing size;
    const float *held; /* what heads or maps begin with */
    ftk_finished done; /* gets what came of it, valid until the next pass */
} ftk_finishing;

/* ---- the target */

/* Functions run on the engine's threads and fail never: what they need was taken before. Rows are
 * row-major, one after the other, at most FTK_MAX_NODES. */
typedef struct ftk_target {
    void *ctx;
    int n_vocab, n_embd, n_layer;
    double (*now)(void *ctx); /* seconds, by the engine's clock */
    /* Work space of the engine, as large as a family asked (ftk_drafter_ops.space), until the
     * next is asked. */
    float *const *space;
    /* x[n][n_embd]: what the first layer reads for these tokens. */
    void (*embed)(void *ctx, int n, const int32_t *tokens, float *x);
    /* y[n][n_out] = W x[n][n_in], with W one of the drafter's matrices or its head. */
    void (*multiply)(void *ctx, const struct ftk_mat *w, int n, const float *x, float *y);
    /* The same on the CPU, of any matrix. */
    void (*multiply_here)(void *ctx, const struct ftk_mat *w, int n, const float *x, float *y);
    /* y[n][n_embd]: the target's last norm, which makes features of states. */
    void (*last_norm)(void *ctx, int n, const float *x, float *y);
    /* Runs the layers from `layer` on over states x[n][n_embd], taken for those behind layer -
     * 1, as a chain that starts at the root's position, behind everything before the root; then
     * the rows' logits, or what is likeliest by them, valid until the next pass. The cache
     * forgets the rows. NULL, if it has no room for them. */
    const struct ftk_rows *(*run_above)(void *ctx, int layer, int n, const float *x);
    /* Seconds, as measured so far. Layer 0: what so many of the session's rows take of the pass
     * that verifies its draft, which others may share; of one row what a token of plain decoding
     * takes there. Others: of a pass of the session's own over so many rows, from that layer on. */
    double (*seconds)(void *ctx, int layer, int rows);
    /* Tokens that come in the time of a plain step of late, drafts and all; 1 at least. So much
     * is a plain step's time worth. */
    double (*pace)(void *ctx);
    /* Runs one token `depth` places behind the root, behind everything before the root and the
     * rows of lower depths that were run this way last. Its keys and values stay in the slot of
     * row `depth` until a pass takes that. The row's logits, or what is likeliest by them, valid
     * until the next pass; NULL, if the cache has no room. */
    const struct ftk_rows *(*run_route)(void *ctx, int depth, int32_t token,
                                        const ftk_route *route);
    /* The four below are a device's, which holds features and states; NULL on the CPU. Of the
     * pass that is being learned from: what row `row` of the tree left is held, in place of what
     * was. */
    void (*hold)(void *ctx, ftk_held what, int row);
    /* Runs heads over the held feature; valid until the next call. NULL: the device has failed,
     * which the next pass tells. */
    const ftk_heads_said *(*run_heads)(void *ctx, const ftk_heads *h, const ftk_heads_ask *ask);
    /* run_above() over what the maps make of the held state. */
    const struct ftk_rows *(*run_mapped)(void *ctx, int layer, const ftk_maps *maps);
    /* Asked by propose(), with the budget that it was given: true, if the device finishes the
     * draft in front of the pass that verifies it, in one go. propose() then leaves the tree as
     * it is; what the draft points to stays until the drafter's finished() is called, or
     * propose() again. False: this step is none for that. */
    bool (*leave)(void *ctx, const ftk_unfinished *draft, int budget);
} ftk_target;

/* A tensor of a drafter's file: a matrix [n_out][n_in], or a vector of n_in floats (n_out is 1). */
typedef struct ftk_weight {
    char name[64];
    int n_out, n_in;
    const struct ftk_mat *matrix; /* NULL: a vector */
    const float *vector;          /* NULL: a matrix */
} ftk_weight;

/* A drafter's file, open: general.architecture foretoken-drafter. Keys begin with the prefix
 * foretoken.drafter. */
typedef struct ftk_weights {
    const char *path; /* for messages */
    const ftk_gguf *file;
    int n;
    const ftk_weight *items;
    /* The target's output matrix, [n_head][n_embd], on features: all of it, or, where the file has
     * the key "vocab", the rows of the tokens listed there. */
    const struct ftk_mat *head;
    int n_head;
    const int32_t *vocab; /* [n_head]; NULL: row i is token i */
} ftk_weights;

#endif
