/* SPDX-License-Identifier: Apache-2.0
 *
 * Caches: what each branch of each layer does at a step. A policy is a const struct of
 * functions, one file each in caches/; it only chooses actions, and the pass carries them out.
 * State is kept for each sample, and both guidance halves of a sample do the same, so that
 * company changes nothing. */
#ifndef FTK_CACHEPOLICY_H
#define FTK_CACHEPOLICY_H

#include "dit.h"

/* What a branch does. Its output is what comes of its last product, before the gate. */
typedef enum ftk_branch_action {
    FTK_COMPUTE,
    FTK_REUSE,    /* the output that was kept */
    FTK_FORECAST, /* a Taylor series of what was kept */
    FTK_TOKENS,   /* of the feed-forward part: some tokens are computed, and kept; others reuse */
} ftk_branch_action;

enum { FTK_MAX_ORDER = 6, FTK_MAX_HALVES = 2 };

/* What a sample does at a step. */
typedef struct ftk_plan {
    const char *kind; /* for the trace: see ftk_diffusion_trace() */
    bool full;        /* everything is computed */
    int layers;  /* as many are run; if they are not all, the end of the last one as it was when it
                         was last run takes the place of their result */
    bool verify; /* the last layer is also computed, on what its forecast begins with */
    int keep;    /* COMPUTE keeps its output, and forms differences up to this order; -1: it does
                 not */
    float step;  /* what differences are divided by */
    int order;   /* of forecasts */
    float coef[FTK_MAX_ORDER + 1];
    uint8_t (*action)[FTK_BRANCHES]; /* [n_layer] */
    int *n_tokens;                   /* [n_layer] */
    int32_t *tokens;                 /* [n_layer][halves][n_tokens of the shape] */
} ftk_plan;

typedef struct ftk_cache_env {
    const ftk_dit_shape *shape;
    int steps, halves;
    ftk_cache_config cfg;       /* with all defaults put in */
    const ftk_l2c_table *table; /* l2c's */
    const ftk_host *host;
} ftk_cache_env;

/* What a policy wants the pass to keep of each token's part in attention, at layers that are
 * computed. */
typedef enum ftk_kept_scores {
    FTK_SCORES_NONE,
    FTK_SCORES_RECEIVED,
    FTK_SCORES_VALUES
} ftk_kept_scores;

typedef struct ftk_cache_ops {
    const char *name;
    /* Puts defaults in and checks ranges, and what else it needs. Errors: INVALID. */
    ftk_err (*check)(ftk_cache_env *e, const ftk_dit *m);
    int (*orders)(const ftk_cache_env *e);             /* features kept for a branch, 0: none */
    ftk_kept_scores (*scores)(const ftk_cache_env *e); /* or NULL */
    bool keeps_end;                                    /* of the last layer */
    size_t (*state_bytes)(const ftk_cache_env *e);
    void (*start)(const ftk_cache_env *e, void *state, uint64_t seed);
    /* Fills all of *plan but the pointers. step: the index, from steps - 1 down to 0. kept:
     * [halves][n_layer][n_tokens] of scores. */
    void (*plan)(const ftk_cache_env *e, void *state, int step, const float *kept, ftk_plan *plan);
    /* Or NULL. Hears how far a verified forecast was off; true: rejected. If plan->full is set
     * then, the step is to be computed again, by the plan. */
    bool (*judge)(const ftk_cache_env *e, void *state, int step, double error, ftk_plan *plan);
} ftk_cache_ops;

extern const ftk_cache_ops ftk_cache_none, ftk_cache_fora, ftk_cache_speca, ftk_cache_toca,
    ftk_cache_duca, ftk_cache_l2c;

/* The one of that name, or NULL. */
const ftk_cache_ops *ftk_cache_find(const char *name);

/* ---- parts of policies */

/* All of a plan for a step that is computed; its outputs are kept if keep. */
void ftk_plan_full(const ftk_cache_env *e, ftk_plan *plan, bool keep);
/* The same action for all branches. */
void ftk_plan_all(const ftk_cache_env *e, ftk_plan *plan, ftk_branch_action action,
                  const char *kind);
/* Block multiplications of a sample's step, as papers count them; NULL: of a plain one. */
double ftk_plan_work(const ftk_cache_env *e, const ftk_plan *plan);
/* For check(): *v gets `def` where it is NAN, and must be in [least, most]. */
ftk_err ftk_cache_real(const ftk_cache_env *e, const char *what, double def, double least,
                       double most, double *v);
/* The same with -1. */
ftk_err ftk_cache_whole(const ftk_cache_env *e, const char *what, int def, int least, int most,
                        int *v);

#endif
