/* SPDX-License-Identifier: Apache-2.0
 *
 * What a drafter is: init, propose, learn, reset, free. One const array lists them all; nothing is
 * registered at run time. A drafter knows the token tree and what this interface hands it - of the
 * model what base/target.h says, of the text's repeats what retrieval.h says, of its
 * rows what successors.h says; no cache, no other drafter.
 */
#ifndef FTK_DRAFTER_H
#define FTK_DRAFTER_H

#include "base/draftmodel.h"
#include "base/sampler.h"
#include "base/target.h"
#include "base/tree.h"
#include "drafters/retrieval.h"
#include "drafters/successors.h"
#include "drafters/trained.h"

typedef struct ftk_drafter ftk_drafter;

/* What benchmarks and tests may ask of the drafters of the list: an unsigned at
 * ftk_drafter_env.test. dash.h has more, behind it. */
enum {
    FTK_WITHOUT_RETRIEVAL = 1,
    FTK_WITHOUT_SUCCESSORS = 2,
    FTK_ROWS_ALWAYS = 4, /* heads, draft models and policies run as far as they may, paid or not */
    FTK_ROWS_JOIN = 8,   /* firp's fused schedule, as with FTK_TREE_PAPER */
};

/* What it points to stays as long as the drafter, except host and test. */
typedef struct ftk_drafter_env {
    const ftk_host *host;
    int n_vocab;
    ftk_tree_shape shape;
    void *test; /* for the drafters of the tests, and what benchmarks leave out; else NULL */
    const ftk_target *target;
    /* The session's, which has it asked before each propose() and settles it before each
     * learn(). */
    const ftk_retrieval *retrieval;
    const ftk_successors *successors; /* likewise, of families that want them; else NULL */
    const ftk_weights *weights;       /* of a family that is trained, checked; else NULL */
    void *rates; /* [rates_size of its ops] of all sessions of the engine; NULL when that is 0 */
    const ftk_draft_model *model; /* of a family that has one; else NULL */
    const ftk_sampling *sampling; /* the session's, as it is now */
    bool draws;                   /* its verifier makes use of what drawn tokens were drawn from */
} ftk_drafter_env;

/* What a drafter wants to see of every pass that gives logits, not of those alone that verified
 * its own tree. With one of these learn() is called after plain steps too, and when a prompt has
 * been read, with a tree that is the root alone. */
enum {
    FTK_WANT_FEATURES = 1,
    FTK_WANT_STATES = 2, /* behind the layer that state_layer() names */
    FTK_WANT_PASSES = 4, /* none of that */
    /* Not of passes: the session's table of successors. */
    FTK_WANT_SUCCESSORS = 8,
    FTK_WANT_MODEL = 16, /* a draft model that was added to the engine */
};

/* Rows of the pass that verified a tree: row i at node i. */
typedef struct ftk_rows {
    const float *logits;      /* [tree->n][n_vocab]; NULL where `ranked` says enough */
    const ftk_ranked *ranked; /* [tree->n], or NULL: then there are logits */
    const float *features; /* [tree->n][n_embd]: states after the last norm; NULL on a device, which
                              holds what it is told to (ftk_target.hold) */
    const float *states;   /* [tree->n][n_embd]; NULL unless wanted, and on a device */
    const struct ftk_rows *appended; /* logits of those that joined; NULL: none did */
} ftk_rows;

/* The k <= FTK_BEST likeliest tokens of a row, as ftk_top_k() gives them; returns their number. */
int ftk_rows_best(const ftk_rows *rows, int row, int n_vocab, int k, int32_t *ids);

enum { FTK_ASKS = 64 }; /* sessions that are asked together, at most */

/* What propose() is told. */
typedef struct ftk_ask {
    void *state;
    const int32_t *history;
    size_t n;
    int budget;
    ftk_tree *tree;
} ftk_ask;

typedef struct ftk_drafter_ops {
    const char *name;
    const char *family; /* whose files it reads, where they are another's; else NULL */
    size_t state_size;
    /* Plain data that says how well the drafter's guesses do with this model, and what they
     * take: all sessions of an engine learn it together. Size 0: none. rates_init() gets it
     * zeroed. */
    size_t rates_size;
    void (*rates_init)(void *rates);
    /* Or NULL: floats of work space that sessions share, on the CPU (ftk_target.space); weights
     * are checked. */
    size_t (*space)(const ftk_weights *weights, const ftk_target *target);
    unsigned wants; /* FTK_WANT_ */
    /* Of a family that is trained, else NULL: whether the file's content is what init() needs.
     * Errors: FORMAT, with a message. */
    ftk_err (*check)(const ftk_weights *weights, const ftk_target *target, const ftk_host *host);
    int (*state_layer)(const ftk_weights *weights); /* with FTK_WANT_STATES; weights are checked */
    /* Or NULL: by which rows that it runs by run_route() go, but for `fixed`; weights are
     * checked. */
    ftk_policy (*policy)(const ftk_weights *weights, const ftk_target *target);
    /* Takes all memory the drafter will ever need. state is zeroed. Errors: NOMEM. On error,
     * free() is called by the caller. */
    ftk_err (*init)(void *state, const ftk_drafter_env *env);
    /* Fills `tree` (already holding its root) with at most `budget` further nodes, best first,
     * prob estimated. history[0..n): all committed tokens, the root last. The history only grew
     * by appending since the last propose or learn, or reset() was called in between. */
    void (*propose)(void *state, const int32_t *history, size_t n, int budget, ftk_tree *tree);
    /* Or NULL: the same for several sessions of an engine that share a pass, so that weights are
     * read once for all. */
    void (*propose_all)(const ftk_ask *asks, int n);
    /* Or NULL: then no draft is left to a device (ftk_target.leave). Of one that propose() left
     * there in this step, once it was verified: what heads or maps said, before learn(). */
    void (*finished)(void *state, const ftk_finished *finished);
    /* Rows that join the pass which verifies `tree`, behind the layer of state_layer(); NULL:
     * none ever do. Asked of sessions that have a pass to themselves, once the tree has its
     * size. Returns how many, at most `most`, rows of one node side by side: row i belongs to
     * node[i]. It sees what its node sees, the node, and the node's rows before it, and stands
     * at the next place behind the last of these. Nothing else sees it, and its keys are
     * forgotten. */
    int (*append)(void *state, const ftk_tree *tree, int most, int16_t *node);
    /* With append, in the middle of the pass: x[rows][n_embd], the states of those rows, from the
     * states[tree->n][n_embd] of the tree's behind that layer. */
    void (*appended)(void *state, const float *states, float *x);
    /* Or NULL. With append, of maps that a device has: a node's row i is what map i makes of its
     * state. Such a device does not call appended(). */
    const ftk_maps *(*append_maps)(void *state);
    /* Or NULL. LOSSY: runs the root by run_route(), in place of the pass, so that what is
     * emitted is not what the model says. Then there is no propose(). */
    void (*decode)(void *state, const int32_t *history, size_t n);
    /* What became of the tree that was verified (possibly cut shorter than proposed). history as of
     * before this step. */
    void (*learn)(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                  const ftk_verdict *verdict, const ftk_rows *rows);
    /* The history was truncated to its first n tokens. */
    void (*reset)(void *state, const int32_t *history, size_t n);
    void (*free)(void *state, const ftk_host *host);
} ftk_drafter_ops;

extern const ftk_drafter_ops ftk_drafter_dash;        /* trained: needs a file */
extern const ftk_drafter_ops ftk_drafter_dash_direct; /* the same, LOSSY */
extern const ftk_drafter_ops ftk_drafter_jacobi;
extern const ftk_drafter_ops ftk_drafter_lookup;
extern const ftk_drafter_ops ftk_drafter_recycle;
/* Trained: they need a file. */
extern const ftk_drafter_ops ftk_drafter_s4c;
extern const ftk_drafter_ops ftk_drafter_firp;
extern const ftk_drafter_ops ftk_drafter_draft_model; /* needs a small model */
/* Heads that others have made: they need one. */
extern const ftk_drafter_ops ftk_drafter_eagle3;
extern const ftk_drafter_ops ftk_drafter_dspark;
extern const ftk_drafter_ops ftk_drafter_dflash;
extern const ftk_drafter_ops ftk_drafter_medusa;

enum { FTK_MAX_DRAFTERS = 16 };

/* NULL-terminated; at most FTK_MAX_DRAFTERS. */
extern const ftk_drafter_ops *const ftk_drafter_list[];

#endif
