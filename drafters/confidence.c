/* SPDX-License-Identifier: Apache-2.0
 * What running a row is expected to bring. */
#include "drafters/confidence.h"

void ftk_confidence_init(ftk_confidence *c)
{
    static const float prior[FTK_LIKELY_BINS] = {0.25f, 0.15f, 0.18f, 0.2f,
                                                 0.14f, 0.06f, 0.01f, 0.01f};
    for (int i = 0; i < FTK_LIKELY_BINS; i++) ftk_rate_init(&c->share[i], prior[i]);
}

void ftk_confidence_see(ftk_confidence *c, int bin)
{
    for (int i = 0; i < FTK_LIKELY_BINS; i++) ftk_rate_see(&c->share[i], i == bin);
}

double ftk_confidence_right(const ftk_confidence *c, const ftk_rate *right)
{
    double sum = 0;
    for (int i = 0; i < FTK_LIKELY_BINS; i++)
        sum += ftk_rate_get(&c->share[i]) * ftk_rate_get(&right[i]);
    return sum;
}

double ftk_confidence_saves(const ftk_confidence *c, const ftk_rate *right, double reached,
                            double token, double verify)
{
    double sum = 0;
    if (reached <= 0) return 0;
    for (int i = 0; i < FTK_LIKELY_BINS; i++) {
        const double saves = reached * ftk_rate_get(&right[i]) * token - verify;
        if (saves > 0) sum += ftk_rate_get(&c->share[i]) * saves;
    }
    return sum;
}
