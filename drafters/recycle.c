/* SPDX-License-Identifier: Apache-2.0
 *
 * Token recycling ("Turning Trash into Treasure: Accelerating Inference of Large Language Models with Token
 * Recycling", arXiv 2408.08696): for every token, the tokens that the model found likeliest behind it
 * the last time it was read, accepted or not. A tree of such successors is drafted; it needs no
 * training and no match in the text.
 *
 * The paper's table has 8 successors and a fixed tree of 80 nodes. Here a successor comes with the size of
 * its probability at that time, what guesses of such a size were worth is measured by depth
 * (guesses.h), and the best nodes are drafted, with the chain of what followed the same words earlier.
 *
 * Rows that were rejected, and passes whose tree is another drafter's, are read where that costs next to
 * nothing; of its own tree the accepted path always. */
#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "drafters/drafter.h"
#include "drafters/guesses.h"

enum {
    SUCCESSORS = 8,
    DEPTH = 6,
    WIDTH = 6, /* nodes of a depth that get children */
    MOST = 1 + 16 + DEPTH * WIDTH * SUCCESSORS,
};

static const float floor_worth = 0.05f;      /* of a node that gets children */
static const double next_to_nothing = 0.005; /* of a plain step, to read one row */

enum {
    TABLE,
    RATES = DEPTH * FTK_LIKELY_BINS
}; /* the one source; rates [DEPTH][FTK_LIKELY_BINS] */

typedef struct successors {
    int32_t token[SUCCESSORS]; /* the likeliest first */
    int8_t bin[SUCCESSORS];
    int8_t n;
} successors;

typedef struct recycle {
    const ftk_target *target;
    successors *table; /* [n_vocab] */
    const ftk_retrieval *retrieval;
    ftk_guesses guesses;
    size_t asked; /* the guesses are an open prediction of what follows text[0..asked) */
    double took;  /* seconds to read a row, smoothed; 0: not known */
    ftk_rate rates[RATES];
} recycle;

static ftk_err recycle_init(void *state, const ftk_drafter_env *env)
{
    recycle *const s = state;
    s->target = env->target;
    s->retrieval = env->retrieval;
    for (int i = 0; i < RATES; i++)
        ftk_rate_init(&s->rates[i], 0.7f * ftk_likely_prior(i % FTK_LIKELY_BINS));
    s->table = ftk_alloc(env->host, (size_t)env->n_vocab, sizeof *s->table);
    if (!s->table)
        return ftk_fail(env->host, FTK_ERR_NOMEM, "no memory for the successors of %d tokens",
                        env->n_vocab);
    const ftk_err err = ftk_guesses_init(&s->guesses, env->host, MOST, s->rates, RATES);
    s->guesses.chain = env->shape == FTK_TREE_CHAIN;
    return err;
}

static void recycle_free(void *state, const ftk_host *host)
{
    recycle *const s = state;
    ftk_guesses_free(&s->guesses, host);
    ftk_release(host, s->table);
    s->table = NULL;
}

/* What the model said behind a token remains a guess in any text: the table stays. */
static void recycle_reset(void *state, const int32_t *history, size_t n)
{
    (void)history, (void)n;
    ((recycle *)state)->asked = 0;
}

static void suggest_successors(recycle *s)
{
    for (int d = 0; d < DEPTH; d++) {
        int chosen[WIDTH];
        const int n = ftk_guesses_best(&s->guesses, d, floor_worth, false, WIDTH, chosen);
        for (int i = 0; i < n; i++) {
            const successors *next = &s->table[s->guesses.all[chosen[i]].token];
            for (int k = 0; k < next->n; k++)
                ftk_guesses_add(&s->guesses, chosen[i], next->token[k], TABLE,
                                d * FTK_LIKELY_BINS + next->bin[k]);
        }
    }
}

static void recycle_propose(void *state, const int32_t *history, size_t n, int budget,
                            ftk_tree *tree)
{
    recycle *const s = state;
    ftk_guesses_begin(&s->guesses, history[n - 1]);
    ftk_guesses_add_retrieved(&s->guesses, s->retrieval);
    suggest_successors(s);
    s->asked = n;
    ftk_guesses_plant(&s->guesses, budget, tree);
}

static void read_row(recycle *s, int32_t token, const ftk_rows *rows, int row)
{
    successors *const next = &s->table[token];
    next->n =
        (int8_t)ftk_rows_likely(rows, row, s->target->n_vocab, SUCCESSORS, next->token, next->bin);
}

static void recycle_learn(void *state, const int32_t *history, size_t n, const ftk_tree *tree,
                          const ftk_verdict *verdict, const ftk_rows *rows)
{
    (void)history;
    recycle *const s = state;
    const bool own = s->asked == n;
    if (own) ftk_guesses_settle(&s->guesses, verdict->token, (size_t)verdict->n_path + 1);
    s->asked = 0;
    const bool cheap = s->took <= next_to_nothing * s->target->seconds(s->target->ctx, 0, 1);
    if (!own && !cheap) return;
    const double start = ftk_now();
    const int n_read = cheap ? tree->n : verdict->n_path + 1;
    for (int i = 0; i < n_read; i++) {
        const int node = cheap ? i : verdict->path[i];
        read_row(s, tree->token[node], rows, node);
    }
    const double took = (ftk_now() - start) / n_read;
    s->took = s->took == 0 || took < s->took ? took : s->took + 0.05 * (took - s->took);
}

const ftk_drafter_ops ftk_drafter_recycle = {
    .name = "recycle",
    .state_size = sizeof(recycle),
    .rates_at = offsetof(recycle, rates),
    .rates_size = RATES * sizeof(ftk_rate),
    .wants = FTK_WANT_PASSES,
    .init = recycle_init,
    .propose = recycle_propose,
    .learn = recycle_learn,
    .reset = recycle_reset,
    .free = recycle_free,
};
