/* SPDX-License-Identifier: Apache-2.0
 * The noise schedule, and the two samplers. */
#include "schedule.h"

#include <math.h>

#include "base/sampler.h"

/* alpha-bar behind the training step `last`, going on from *kept behind *at - 1. */
static double kept_until(const ftk_dit_shape *s, int last, int *at, double kept)
{
    const double slope = (s->beta_end - s->beta_start) / (s->train_steps - 1);
    for (; *at <= last; ++*at) kept *= 1 - (s->beta_start + slope * *at);
    return kept;
}

void ftk_schedule_make(const ftk_dit_shape *s, int n, ftk_noise_step *steps)
{
    double before = 1, kept = 1;
    int at = 0;
    for (int i = 0; i < n; i++) {
        const int last = s->train_steps - 1;
        const int t = n == 1 ? last : (int)rint((double)i * last / (n - 1));
        kept = kept_until(s, t, &at, kept);
        const double beta = 1 - kept / before;
        const double least = log(beta * (1 - before) / (1 - kept));
        steps[i] = (ftk_noise_step){.t = t,
                                    .kept = kept,
                                    .before = before,
                                    .beta = beta,
                                    .log_most = log(beta),
                                    .log_least = least,
                                    .log_fixed = log(beta)};
        before = kept;
    }
    steps[0].log_least = n > 1 ? steps[1].log_least : steps[0].log_most;
    steps[0].log_fixed = steps[0].log_least;
}

/* The clean sample that the predicted noise speaks for. */
static double clean(const ftk_noise_step *s, double x, double noise)
{
    return sqrt(1 / s->kept) * x - sqrt(1 / s->kept - 1) * noise;
}

void ftk_ddim(const ftk_noise_step *s, size_t n, const float *noise, float *x)
{
    const double a = sqrt(s->before), b = sqrt(1 - s->before);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(a * clean(s, x[i], noise[i]) + b * (double)noise[i]);
}

void ftk_ddpm(const ftk_noise_step *s, size_t n, const float *noise, const float *spread,
              const float *fresh, float *x)
{
    const double a = s->beta * sqrt(s->before) / (1 - s->kept);
    const double b = (1 - s->before) * sqrt(s->kept / s->before) / (1 - s->kept);
    for (size_t i = 0; i < n; i++) {
        const double mean = a * clean(s, x[i], noise[i]) + b * (double)x[i];
        const double f = spread ? ((double)spread[i] + 1) / 2 : 0;
        const double logvar = spread ? f * s->log_most + (1 - f) * s->log_least : s->log_fixed;
        x[i] = (float)(fresh ? mean + exp(logvar / 2) * (double)fresh[i] : mean);
    }
}

/* Box and Muller's way, two at a time. */
void ftk_normal_numbers(uint64_t seed, uint32_t stream, float *out, size_t n)
{
    const double turn = 6.283185307179586;
    for (size_t i = 0; i < n; i += 2) {
        const double u = ftk_uniform_sub(seed, i / 2, 2 * stream);
        const double v = ftk_uniform_sub(seed, i / 2, 2 * stream + 1);
        const double radius = sqrt(-2 * log(1 - u));
        out[i] = (float)(radius * cos(turn * v));
        if (i + 1 < n) out[i + 1] = (float)(radius * sin(turn * v));
    }
}
