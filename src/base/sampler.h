/* SPDX-License-Identifier: Apache-2.0
 * From a row of logits to a token. */
#ifndef FTK_SAMPLER_H
#define FTK_SAMPLER_H

#include "foretoken.h"

typedef struct ftk_ids {
    const int32_t *id;
    size_t n;
} ftk_ids;

/* Zeros, but for the first four, are valid. All memory is the caller's. */
typedef struct ftk_sampler {
    ftk_sampling cfg;
    int n_vocab;
    float *logits;                   /* [n_vocab] work copy */
    int32_t *order;                  /* [n_vocab] ids, for top-k and top-p */
    const struct ftk_chance *chance; /* NULL; for tests, see residual.h */
    size_t n_prompt;                 /* of the history; what follows was generated */
    uint32_t *counts; /* [n_vocab] zeros; NULL without a penalty on generated tokens */
    const ftk_bias *bias;
    size_t n_bias;
    ftk_ids ends[2]; /* what min_tokens holds back: the model's, the session's */
    /* Or NULL: sets the bits of what may follow history and path, in allowed[(n_vocab + 31) / 32],
     * all 0. */
    void (*mask)(void *ctx, const int32_t *history, size_t n_history, const int32_t *path,
                 int n_path, uint32_t *allowed);
    void *mask_ctx;
    uint32_t *allowed; /* with mask */
    bool stuck;      /* set where no token was left; then it is as if 0 were the only one */
} ftk_sampler;

/* Whether no logit is changed before the temperature, wherever a token stands. */
bool ftk_sampler_plain(const ftk_sampler *s);
/* Asks the mask: what it allows stands in s->allowed then. */
void ftk_sampler_mask(ftk_sampler *s, const int32_t *history, size_t n_history, const int32_t *path,
                      int n_path);
static inline bool ftk_sampler_allows(const ftk_sampler *s, int32_t token)
{
    return s->allowed[token / 32] >> token % 32 & 1;
}
/* Whether ftk_sampling asks for counts. */
bool ftk_sampling_counts(const ftk_sampling *p);

/* The token the model says at absolute position pos (the position the new token will take) after
 * the tokens history[0..n_history) followed by path[0..n_path): by what ftk_sampling asks for,
 * in its order, then one random number made from seed and pos. A pure function of its arguments.
 * Errors: NUMERIC when a logit is not finite. */
ftk_err ftk_sampler_pick(ftk_sampler *s, const float *logits, const int32_t *history,
                         size_t n_history, const int32_t *path, int n_path, uint64_t pos,
                         int32_t *token);

/* The distribution ftk_sampler_pick() draws from, as weights in s->logits, 0 for what cannot be
 * drawn; *total gets their sum. At temperature 0 all weight is on one token. */
ftk_err ftk_sampler_weigh(ftk_sampler *s, const float *logits, const int32_t *history,
                          size_t n_history, const int32_t *path, int n_path, double *total);

/* A uniform number in [0, 1) that depends on its arguments alone (counter-based generator). sub is
 * for several numbers at one position: 0 is plain sampling's, FTK_DRAFT_SUB and above are the
 * drafters', what lies between the verifiers'. */
double ftk_uniform_sub(uint64_t seed, uint64_t counter, uint32_t sub);
enum { FTK_DRAFT_SUB = 1 << 30 };
/* The same with sub 0. */
double ftk_uniform(uint64_t seed, uint64_t counter);
/* The k largest of n values, largest first, ties to the lower index; ids[k]. Returns min(k, n). */
int ftk_top_k(const float *x, int n, int k, int32_t *ids);
/* What a device says of a row in place of its logits. */
enum { FTK_BEST = 10 };
typedef struct ftk_ranked {
    int32_t token; /* the model's own, likeliest or drawn; -1: the row holds no logits (NUMERIC) */
    int32_t
        best[FTK_BEST]; /* the likeliest, in ftk_top_k()'s order, behind the vocabulary's last -1 */
    float prob[FTK_BEST]; /* at temperature 1 */
} ftk_ranked;

#endif
