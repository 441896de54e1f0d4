/* SPDX-License-Identifier: Apache-2.0
 * The likeliest tokens of a row of logits. */
#include "drafters/likely.h"

#include "base/sampler.h"
#include "drafters/drafter.h"

/* Numbers side by side in steps of their own, which compilers then turn into vector code. */
enum { LANES = 16, BLOCK = 128 };

const float ftk_likely_bounds[] = {0.9f, 0.7f, 0.5f, 0.3f, 0.15f, 0.07f, 0.03f};

int8_t ftk_likely_bin(float p)
{
    int8_t bin = 0;
    while (bin < FTK_LIKELY_BINS - 1 && p < ftk_likely_bounds[bin]) bin++;
    return bin;
}

/* Of n logits, at most BLOCK, none of which should be above `top`: adds e^(x - top) to the sums;
 * whether one is above, or no number. */
static int add_block(const float *logits, int n, float top, float *sum)
{
    float below[BLOCK];
    int bad = 0, at = 0;
    for (int i = 0; i < n; i++) {
        const float x = logits[i] - top;
        bad |= !(x <= 0);
        below[i] = x > -80 ? x : -80;
    }
    for (; at + LANES <= n; at += LANES)
        for (int j = 0; j < LANES; j++) sum[j] += ftk_exp_small(below[at + j]);
    for (; at < n; at++) sum[0] += ftk_exp_small(below[at]);
    return bad;
}

int ftk_likely(const float *logits, int n, int most, int32_t *best, int8_t *bin)
{
    const int n_best = ftk_top_k(logits, n, most, best);
    const float top = logits[best[0]];
    float part[LANES] = {0}, sum = 0;
    int bad = 0;
    for (int at = 0; at < n; at += BLOCK)
        bad |= add_block(logits + at, n - at < BLOCK ? n - at : BLOCK, top, part);
    if (bad) return 0;
    for (int j = 0; j < LANES; j++) sum += part[j];
    for (int i = 0; i < n_best; i++)
        bin[i] = ftk_likely_bin(ftk_exp_below(logits[best[i]] - top) / sum);
    return n_best;
}

int ftk_rows_best(const ftk_rows *rows, int row, int n_vocab, int k, int32_t *ids)
{
    if (!rows->ranked)
        return ftk_top_k(rows->logits + (size_t)row * (size_t)n_vocab, n_vocab, k, ids);
    const int n = k < n_vocab ? k : n_vocab;
    memcpy(ids, rows->ranked[row].best, (size_t)n * sizeof *ids);
    return n;
}

int ftk_rows_likely(const ftk_rows *rows, int row, int n, int most, int32_t *best, int8_t *bin)
{
    if (!rows->ranked)
        return ftk_likely(rows->logits + (size_t)row * (size_t)n, n, most, best, bin);
    const ftk_ranked *const r = &rows->ranked[row];
    if (r->token < 0) return 0;
    const int n_best = ftk_rows_best(rows, row, n, most, best);
    for (int i = 0; i < n_best; i++) bin[i] = ftk_likely_bin(r->prob[i]);
    return n_best;
}

float ftk_likely_prior(int bin)
{
    static const float prior[FTK_LIKELY_BINS] = {0.93f, 0.75f, 0.55f,  0.37f,
                                                 0.2f,  0.1f,  0.045f, 0.01f};
    return prior[bin];
}
