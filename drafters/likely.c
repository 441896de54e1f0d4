/* SPDX-License-Identifier: Apache-2.0
 * The likeliest tokens of a row of logits. */
#include "drafters/likely.h"

#include "base/row.h"
#include "base/sampler.h"
#include "drafters/drafter.h"

const float ftk_likely_bounds[] = {0.9f, 0.7f, 0.5f, 0.3f, 0.15f, 0.07f, 0.03f};

int8_t ftk_likely_bin(float p)
{
    int8_t bin = 0;
    while (bin < FTK_LIKELY_BINS - 1 && p < ftk_likely_bounds[bin]) bin++;
    return bin;
}

int ftk_likely(const float *logits, int n, int most, int32_t *best, int8_t *bin)
{
    float top;
    if (!ftk_row_max(logits, n, &top)) return 0;
    const int n_best = ftk_top_k(logits, n, most, best);
    const double sum = ftk_row_weigh(logits, n, top, 1, NULL);
    for (int i = 0; i < n_best; i++)
        bin[i] = ftk_likely_bin((float)(ftk_row_weight(logits[best[i]], top, 1) / sum));
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
