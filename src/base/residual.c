/* SPDX-License-Identifier: Apache-2.0
 * What is left of a distribution when proposals from another one were rejected. */
#include "base/residual.h"

double ftk_residual_weight(const ftk_residual *r, int32_t token)
{
    const double w = (double)r->w[token];
    if (!r->q) return w;
    const double left = w - r->cut * (double)r->q[token];
    return left > 0 ? left : 0;
}

double ftk_residual_share(const ftk_residual *r, int32_t token)
{
    return r->total > 0 ? ftk_residual_weight(r, token) / r->total : 0;
}

static double sum(const ftk_residual *r)
{
    double total = 0;
    for (int32_t i = 0; i < r->n; i++) total += ftk_residual_weight(r, i);
    return total;
}

/* With p = the shares and the node accepted with probability a, a p(y) is what y is to come with.
 * The proposal, drawn from q, has provided for min(q(y), a p(y)) of it; max(0, a p(y) - q(y)) is
 * still due, in the 1 - sum of min(q, a p) = due + 1 - a that remain. */
double ftk_residual_reject(ftk_residual *r, int32_t token, const float *q, double rest, double a)
{
    const ftk_residual before = *r;
    const float w = r->w[token];
    if (before.total <= 0) return a;
    r->total -= ftk_residual_weight(r, token);
    r->w[token] = 0;
    if (q) {
        r->q = q;
        r->cut += before.total / (a * rest);
    }
    if (q || r->total < 1e-9 * before.total) r->total = sum(r); /* else no digits were lost */
    if (r->total > 0) {
        const double due = a * r->total / before.total;
        return due / (due + (1 - a));
    }
    if (a < 1) return 0;
    *r = before;
    r->w[token] = w;
    return 1;
}

int32_t ftk_residual_draw(const ftk_residual *r, double u)
{
    double so_far = 0;
    int32_t token = 0;
    for (int32_t i = 0; i < r->n; i++) {
        const double w = ftk_residual_weight(r, i);
        if (w <= 0) continue;
        token = i;
        so_far += w;
        if (so_far > u * r->total) break;
    }
    return token;
}
