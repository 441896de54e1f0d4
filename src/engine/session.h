/* SPDX-License-Identifier: Apache-2.0
 * Engine and session, as their own files and the tests see them. */
#ifndef FTK_SESSION_H
#define FTK_SESSION_H

#include "cost.h"
#include "drafters/drafter.h"
#include "model/device.h"
#include "model/drafterfile.h"
#include "model/forward.h"
#include "verifiers/verifier.h"

/* Where a drafter's next session begins: what the last one that ended had measured. */
typedef struct ftk_learned {
    void *rates; /* [rates_size of its ops]; NULL when that is 0 */
    bool known;
    double draft_seconds, credit;
    int idle;
} ftk_learned;

struct ftk_engine {
    const ftk_model *model;
    ftk_host host;
    ftk_device *device; /* NULL: the CPU */
    ftk_kv_pool pool;
    ftk_forward forward;
    ftk_cost cost;
    /* in the order of ftk_drafter_list: */
    ftk_learned learned[FTK_MAX_DRAFTERS];
    ftk_drafterfile *files[FTK_MAX_DRAFTERS]; /* NULL: none, or not a trained family */
    char *target_act; /* [FTK_MAX_NODES][target_stride] activations of drafters' products */
    size_t target_stride;
    int kv_slots;
};

#define FTK_CREDIT      0.5 /* plain steps that the first drafts of a session may lose */
#define FTK_CREDIT_KEPT 2   /* the same, where drafts gained that much in the session before */
enum { FTK_REACH = 16 };    /* nodes asked of a drafter at least, when the cost model decides */

struct ftk_session {
    ftk_engine *engine;
    ftk_session_config cfg;
    int n_ctx;
    int32_t *tokens; /* [n_ctx] committed; those from kv.len on are not cached yet */
    size_t n_tokens;
    size_t limit; /* tokens that may still be emitted */
    ftk_kv_seq kv;
    ftk_sampler sampler;
    const ftk_verifier_ops *verifier;
    const ftk_drafter_ops *drafter; /* NULL: none */
    void *drafter_state;
    ftk_target target;
    void *test; /* for drafters of the tests */
    int reach;  /* nodes asked for, while the cost model decides: some more than paid lately */
    int idle;   /* steps since drafting last paid, while it does not */
    ftk_tree tree;
    int n_joined; /* rows of the drafter that join the tree's pass, and their nodes */
    int16_t joined[FTK_MAX_NODES];
    double join_seconds; /* what those of the last pass cost: part of the next draft's price */
    double spent;        /* seconds that the present draft took */
    ftk_verdict verdict;
    double draft_seconds; /* what proposing costs, smoothed */
    double credit;        /* what drafts may still lose, in plain steps: see settle_credit() */
    bool stepping;        /* taken by the running ftk_step(), to find doubles */
    ftk_stats stats;
};

/* The cost model decides how many nodes are drafted. */
bool ftk_session_sizes_itself(const ftk_session *s);
/* What drafters may use of the model; s outlives it. */
void ftk_target_init(ftk_target *t, ftk_session *s);
/* Which part of all weights that a pass reads is read from this layer on. */
double ftk_target_share(const ftk_model *m, int layer);
/* Takes work space for products of rows up to this long. Errors: NOMEM (what was there stays). */
ftk_err ftk_target_room(ftk_engine *e, int widest);
/* The index of a family in ftk_drafter_list, or -1. */
int ftk_drafter_index(const char *name, size_t n);

/* As ftk_session_open(), with a drafter from outside the list (cfg->drafter is not looked at). */
FTK_API ftk_err ftk_session_open_with(ftk_session **out, ftk_engine *e,
                                      const ftk_session_config *cfg, const ftk_drafter_ops *drafter,
                                      void *test);

#endif
