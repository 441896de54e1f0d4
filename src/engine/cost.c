/* SPDX-License-Identifier: Apache-2.0
 * The cost model. */
#include "cost.h"

#include "base/clock.h"

void ftk_cost_flat(ftk_cost *c)
{
    for (int i = 0; i < FTK_COST_POINTS; i++) c->seconds[i] = 1.0;
}

static void keep_rising(ftk_cost *c)
{
    for (int i = 1; i < FTK_COST_POINTS; i++)
        if (c->seconds[i] < c->seconds[i - 1]) c->seconds[i] = c->seconds[i - 1];
}

/* Points from `measured` on: the same cost a row as between the last two, but never more than twice
 * the cost for twice the rows. */
static void extrapolate(ftk_cost *c, int measured)
{
    for (int i = measured; i < FTK_COST_POINTS; i++) {
        const double last = c->seconds[i - 1];
        const double step = i >= 2 ? 2 * (last - c->seconds[i - 2]) : last;
        c->seconds[i] = last + (step < last ? step : last);
    }
}

static double time_pass(ftk_forward *f, const ftk_pass_seq *pass)
{
    const double start = ftk_now();
    ftk_forward_run(f, pass, 1);
    return ftk_now() - start;
}

/* Rounds over all widths, the fastest pass of each: what disturbs a pass only ever adds to it. */
static int time_widths(ftk_cost *c, ftk_forward *f, ftk_pass_seq *pass, int most)
{
    const double budget = 0.06, start = ftk_now();
    int measured = 0;
    for (int round = 0; round < 8; round++)
        for (int i = 0; i < FTK_COST_POINTS && 1 << i <= most; i++) {
            const double spent = ftk_now() - start;
            /* The first round may take half of the time, later ones what is left. */
            const double left = round == 0 ? budget / 2 - spent : budget - spent;
            const double expected =
                i < measured ? c->seconds[i] : 2 * c->seconds[i > 0 ? i - 1 : 0];
            if ((round > 0 || i >= 2) && expected > left) break;
            pass->n_rows = 1 << i;
            const double t = time_pass(f, pass);
            if (i == measured || t < c->seconds[i]) c->seconds[i] = t;
            if (i == measured) measured++;
        }
    for (int i = measured - 1; i > 0; i--)
        if (c->seconds[i - 1] > c->seconds[i]) c->seconds[i - 1] = c->seconds[i];
    return measured;
}

ftk_err ftk_cost_measure(ftk_cost *c, ftk_forward *f, ftk_kv_pool *pool)
{
    static const int32_t tokens[FTK_MAX_NODES]; /* any tokens will do: all are id 0 */
    const int most =
        pool->n_pages * FTK_PAGE < FTK_MAX_NODES ? pool->n_pages * FTK_PAGE : FTK_MAX_NODES;
    ftk_kv_seq seq;
    ftk_err err = ftk_kv_seq_open(&seq, pool, most);
    if (err == FTK_OK) err = ftk_kv_reserve(&seq, most);
    if (err != FTK_OK) {
        ftk_kv_seq_close(&seq);
        return err;
    }
    ftk_pass_seq pass = {.kv = &seq, .n_rows = 1, .token = tokens};
    for (int i = 0; i < 2; i++) time_pass(f, &pass); /* starts the threads, warms the caches */
    extrapolate(c, time_widths(c, f, &pass, most));
    ftk_kv_seq_close(&seq);
    return FTK_OK;
}

/* rows = 2^i + part of the way to 2^(i + 1) */
static int locate(int rows, double *part)
{
    int i = 0;
    while (i + 1 < FTK_COST_POINTS && 1 << (i + 1) <= rows) i++;
    *part = (double)(rows - (1 << i)) / (1 << i);
    return i;
}

double ftk_cost_at(const ftk_cost *c, int rows)
{
    double part;
    const int i = locate(rows < 1 ? 1 : rows, &part);
    if (i == FTK_COST_POINTS - 1) return c->seconds[i];
    return c->seconds[i] + part * (c->seconds[i + 1] - c->seconds[i]);
}

void ftk_cost_update(ftk_cost *c, int rows, double seconds)
{
    const double all = 0.03, near = 0.05;
    double ratio = seconds / ftk_cost_at(c, rows);
    if (!(ratio > 0.25)) ratio = 0.25;
    if (ratio > 2) /* a core was taken away for a moment: not the machine's cost */
        ratio = 2;
    double part;
    const int i = locate(rows, &part);
    for (int j = 0; j < FTK_COST_POINTS; j++) {
        const double here = j == i ? 1 - part : j == i + 1 ? part : 0;
        c->seconds[j] *= 1 + (all + near * here) * (ratio - 1);
    }
    keep_rising(c);
}

int ftk_cost_best(const ftk_cost *c, const ftk_tree *tree, double overhead)
{
    int best = 0;
    double sum = 1, best_rate = 1 / ftk_cost_at(c, 1); /* alone, nothing was drafted */
    for (int n = 1; n < tree->n; n++) {
        sum += tree->prob[n];
        const double rate = sum / (ftk_cost_at(c, n + 1) + overhead);
        if (rate > best_rate) {
            best_rate = rate;
            best = n;
        }
    }
    return best;
}
