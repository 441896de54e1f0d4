/* SPDX-License-Identifier: Apache-2.0
 * Successors. */
#include "drafters/successors.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

static const double slower = 0.05; /* how fast a longer time to read a row is believed */

void ftk_successor_rates_init(ftk_successor_rates *rates)
{
    for (int d = 0; d < FTK_SUCCESSOR_DEPTHS; d++)
        for (int bin = 0; bin < FTK_LIKELY_BINS; bin++)
            ftk_rate_init(&rates->right[d][bin], 0.7f * ftk_likely_prior(bin));
    rates->took = 0;
}

ftk_err ftk_successors_init(ftk_successors *s, const ftk_host *host, int n_vocab,
                            ftk_successor_rates *rates)
{
    *s = (ftk_successors){.n_vocab = n_vocab, .rates = rates};
    s->of = ftk_alloc(host, (size_t)n_vocab, sizeof *s->of);
    if (s->of) return FTK_OK;
    return ftk_fail(host, FTK_ERR_NOMEM, "no memory for the successors of %d tokens", n_vocab);
}

void ftk_successors_free(ftk_successors *s, const ftk_host *host)
{
    ftk_release(host, s->of);
    s->of = NULL;
}

void ftk_successors_copy(ftk_successors *s, const ftk_successors *from)
{
    memcpy(s->of, from->of, (size_t)s->n_vocab * sizeof *s->of);
}

static int depth_class(int depth)
{
    return depth < FTK_SUCCESSOR_DEPTHS ? depth : FTK_SUCCESSOR_DEPTHS - 1;
}

float ftk_successor_right(const ftk_successors *s, const ftk_successor_set *set, int k, int depth)
{
    return ftk_rate_get(&s->rates->right[depth_class(depth)][set->size[k] - 1]);
}

void ftk_successors_settle(ftk_successors *s, int32_t root, const int32_t *truth, size_t n)
{
    ftk_rates_fade(s->rates->right[0], FTK_SUCCESSOR_DEPTHS * FTK_LIKELY_BINS);
    int32_t before = root;
    for (size_t d = 0; d < n; d++) {
        const ftk_successor_set *const set = &s->of[before];
        for (int k = 0; k < FTK_SUCCESSORS && set->size[k]; k++)
            ftk_rate_see(&s->rates->right[depth_class((int)d)][set->size[k] - 1],
                         set->token[k] == truth[d]);
        before = truth[d];
    }
}

static void read_row(ftk_successors *s, int32_t token, const struct ftk_rows *rows, int row)
{
    ftk_successor_set *const set = &s->of[token];
    int8_t bin[FTK_SUCCESSORS];
    const int n = ftk_rows_likely(rows, row, s->n_vocab, FTK_SUCCESSORS, set->token, bin);
    for (int k = 0; k < FTK_SUCCESSORS; k++) set->size[k] = k < n ? (int8_t)(bin[k] + 1) : 0;
}

/* What came is what the table has first. */
static bool expected(const ftk_successors *s, int32_t token, int32_t truth)
{
    const ftk_successor_set *const set = &s->of[token];
    return set->size[0] && set->token[0] == truth;
}

int ftk_successors_read(ftk_successors *s, const ftk_tree *tree, const ftk_verdict *verdict,
                        const struct ftk_rows *rows, bool all)
{
    const double start = ftk_clock_now(s->clock);
    int n = 0;
    if (all) {
        for (; n < tree->n; n++) read_row(s, tree->token[n], rows, n);
    } else {
        for (int i = 0; i <= verdict->n_path; i++) {
            const int node = verdict->path[i];
            if (expected(s, tree->token[node], verdict->token[i])) continue;
            read_row(s, tree->token[node], rows, node);
            n++;
        }
    }
    if (n == 0) return 0;
    const double took = (ftk_clock_now(s->clock) - start) / n;
    double *const usually = &s->rates->took;
    *usually = *usually == 0 || took < *usually ? took : *usually + slower * (took - *usually);
    return n;
}
