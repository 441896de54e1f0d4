/* SPDX-License-Identifier: Apache-2.0
 * What a row ranks highest, whether a device sent that or the row itself. */
#include <string.h>

#include "drafters/drafter.h"

int ftk_rows_best(const ftk_rows *rows, int row, int n_vocab, int k, int32_t *ids)
{
    if (!rows->ranked)
        return ftk_top_k(rows->logits + (size_t)row * (size_t)n_vocab, n_vocab, k, ids);
    const int n = k < n_vocab ? k : n_vocab;
    memcpy(ids, rows->ranked[row].best, (size_t)n * sizeof *ids);
    return n;
}
