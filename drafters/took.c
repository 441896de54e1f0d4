/* SPDX-License-Identifier: Apache-2.0
 * What a drafter's own work takes. */
#include "drafters/took.h"

#include <math.h>

#include "drafters/drafter.h"

static const double smooth = 0.2;
static const double longest = 4; /* times as long as usual: another program had the core */
static const double fade = 0.01; /* of what is believed, in the time of a plain step */

/* Seconds of a pass over one row, but for its first layer. */
static double pass(const ftk_target *t)
{
    return t->seconds(t->ctx, 1, 1);
}

void ftk_took_see(double *took, const ftk_target *t, int n, double seconds)
{
    if (n < 1) return;
    double *const usual = &took[n], passes = seconds / pass(t);
    if (*usual == 0) *usual = passes;
    if (passes > longest * *usual) passes = longest * *usual;
    *usual += smooth * (passes - *usual);
    took[0] = 0;
}

double ftk_took_of(const double *took, const ftk_target *t, int n, int fixed, int most)
{
    int near = n;
    if (n < 1) return 0;
    while (near > 1 && took[near] == 0) near--;
    while (near < most && took[near] == 0) near++;
    return (1 - took[0]) * took[near] * (n + fixed) / (near + fixed) * pass(t);
}

void ftk_took_doubt(double *took, const ftk_target *t)
{
    const double part = t->seconds(t->ctx, 0, 1) / pass(t);
    took[0] += (1 - took[0]) * fade * (part < 1 ? part : 1);
}

/* ---- whether it is worth it */

double ftk_target_token(const ftk_target *t, unsigned flags)
{
    return flags & FTK_ROWS_ALWAYS ? INFINITY : t->seconds(t->ctx, 0, 1) / t->pace(t->ctx);
}

/* Whose next node saves most. */
static ftk_wish *next_wish(ftk_wish *all, int n)
{
    ftk_wish *best = NULL;
    for (int i = 0; i < n; i++) {
        ftk_wish *const w = &all[i];
        if (w->taken == w->n) continue;
        if (!best || w->saves[w->taken] > best->saves[best->taken]) best = w;
    }
    return best;
}

static double takes(const ftk_work *work, const ftk_target *t, int rows)
{
    const int n = rows < work->most ? rows : work->most;
    const double own = ftk_took_of(work->took, t, n, work->fixed, work->most);
    return own > 0 || !work->like ? own : ftk_took_of(work->like, t, n, work->fixed, work->most);
}

int ftk_took_choose(const ftk_work *work, ftk_wish *all, int n)
{
    double sum = 0, best = 0;
    int rows = 0, best_rows = 0, nodes = 0, best_nodes = 0;
    for (ftk_wish *w; rows < work->most && (w = next_wish(all, n)) && w->saves[w->taken] > 0;) {
        sum += w->saves[w->taken];
        rows += w->taken++ == 0 ? w->first : w->more;
        nodes++;
        const double gain = sum - takes(work, w->target, rows);
        if (gain <= best && gain != INFINITY) continue;
        best = gain;
        best_rows = rows;
        best_nodes = nodes;
    }
    for (int i = 0; i < n; i++) all[i].taken = 0;
    for (; best_nodes > 0; best_nodes--) next_wish(all, n)->taken++;
    if (best_rows == 0) ftk_took_doubt(work->took, all[0].target);
    return best_rows;
}
