/* SPDX-License-Identifier: Apache-2.0
 * Which keys a row of an attention call sees. */
#ifndef FTK_ATTNMASK_H
#define FTK_ATTNMASK_H

#include "kernels/levels.h"

/* The number of provisional slots up to the highest bit set in a mask. */
static inline int attn_mask_end(const uint64_t *mask)
{
    if (mask[1]) return 128 - __builtin_clzll(mask[1]);
    return mask[0] ? 64 - __builtin_clzll(mask[0]) : 0;
}

/* The number of slots before the first one that a mask leaves out. */
static inline int attn_mask_lead(const uint64_t *mask)
{
    if (~mask[0]) return __builtin_ctzll(~mask[0]);
    return ~mask[1] ? 64 + __builtin_ctzll(~mask[1]) : 128;
}

static inline int attn_mask_count(const uint64_t *mask)
{
    return __builtin_popcountll(mask[0]) + __builtin_popcountll(mask[1]);
}

/* Where a row's window begins in its logical order of keys, which is that of slots as far as the
 * prefix goes. */
static inline int attn_row_first(const ftk_attn *a, int row)
{
    if (a->window <= 0) return 0;
    const int n = a->prefix + attn_mask_count(a->mask[row]);
    return n > a->window ? n - a->window : 0;
}

static inline bool attn_sees(const uint64_t *mask, int j)
{
    return mask[j / 64] >> j % 64 & 1;
}

#endif
