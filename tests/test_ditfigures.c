/* SPDX-License-Identifier: Apache-2.0
 * Diffusion transformers against figures of diffusers: single passes, every step of DDIM runs
 * with guidance, and what DDPM makes of an output. Files hold schedules in floats, diffusers in
 * doubles, so the last bits differ. */
#include "ditsupport.h"

#include <math.h>

#include "archmodels.h"
#include "diffusion/dit_pass.h"
#include "diffusion/modulation.h"
#include "ditfigures.h"

enum { N_FIGURES = sizeof dit_figures_all / sizeof dit_figures_all[0] };

static dm_model model_of(const dit_figures *f)
{
    return (dm_model){.layers = f->layers,
                      .dim = f->dim,
                      .heads = f->heads,
                      .ffn = f->ffn,
                      .patch = f->patch,
                      .size = f->size,
                      .channels = f->channels,
                      .out_channels = f->out_channels,
                      .classes = f->classes,
                      .shift = f->shift,
                      .ffn_eps = f->ffn_eps,
                      .beta_end = f->beta_end};
}

static float *input_of(const dit_figures *f, size_t *size)
{
    *size = (size_t)f->channels * (size_t)f->size * (size_t)f->size;
    const size_t n = (size_t)f->n * *size;
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    am_fill("input", 1, n, x);
    return x;
}

/* To 1e-4 of the largest number, or of 1. */
static void assert_close(const char *what, int nth, const float *got, const float *want, size_t n)
{
    double largest = 1, worst = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        const double d = fabs((double)got[i] - (double)want[i]);
        worst = d <= worst ? worst : d;
    }
    if (worst <= 1e-4 * largest) return;
    fail_msg("%s %d: off by %g of %g", what, nth, worst, largest);
}

/* Passes of n pictures (seqs gives their inputs), each at its own timestep; outputs go to y. */
static void run_passes(const dit_figures *f, const ftk_dit *m, const float *const *x, const int *t,
                       const int32_t *labels, int n, float *y)
{
    const size_t out = (size_t)f->out_channels * (size_t)f->size * (size_t)f->size;
    uint8_t action[64][FTK_BRANCHES] = {{0}};
    int n_tokens[64] = {0};
    ftk_plan plan = {
        .full = true, .layers = f->layers, .keep = -1, .action = action, .n_tokens = n_tokens};
    ftk_kept kept = {0};
    ftk_dit_seq seqs[8];
    ftk_noise_step steps[8] = {{0}};
    ftk_modulation mod;
    ftk_dit_pass pass;
    for (int i = 0; i < n; i++) steps[i].t = t[i];
    assert_int_equal(ftk_dit_pass_open(&pass, m, &m->host, 2, n, 1, false, FTK_SCORES_NONE, NULL),
                     FTK_OK);
    assert_int_equal(ftk_modulation_open(&mod, m, &m->host, steps, n, n, &pass.team, NULL), FTK_OK);
    ftk_modulation_prepare(&mod, labels, n, &pass.team);
    for (int i = 0; i < n; i++)
        seqs[i] = (ftk_dit_seq){.input = x[i],
                                .output = y + (size_t)i * out,
                                .modulation = ftk_modulation_at(&mod, labels[i], i),
                                .plan = &plan,
                                .kept = &kept};
    ftk_dit_pass_run(&pass, seqs, n);
    ftk_modulation_close(&mod);
    ftk_dit_pass_close(&pass);
}

static void check_pass(const dit_figures *f, const ftk_dit *m)
{
    size_t size;
    float *const x = input_of(f, &size);
    const size_t out = size / (size_t)f->channels * (size_t)f->out_channels;
    float *const y = malloc((size_t)f->n * out * sizeof *y);
    const float *inputs[8];
    for (int i = 0; i < f->n; i++) inputs[i] = x + (size_t)i * size;
    run_passes(f, m, inputs, f->t, f->y, f->n, y);
    for (int i = 0; i < f->n; i++)
        assert_close(f->name, f->t[i], y + (size_t)i * out, f->out + (size_t)i * out, out);
    free(x);
    free(y);
}

/* A step of DDPM from the first picture: its mean, and its variance by what a noise of 1 adds. */
static void check_ddpm_at(const dit_figures *f, const ftk_dit *m, int index, int nth)
{
    size_t size;
    float *const x = input_of(f, &size);
    const size_t out = size / (size_t)f->channels * (size_t)f->out_channels;
    float *const y = malloc(2 * out * sizeof *y), *const one = malloc(3 * size * sizeof *one);
    float *const mean = one + size, *const more = mean + size;
    ftk_noise_step steps[64];
    ftk_schedule_make(&m->shape, f->steps, steps);
    const int t[] = {steps[index].t, steps[index].t};
    const int32_t labels[] = {f->label, f->classes};
    const float *const inputs[] = {x, x};
    run_passes(f, m, inputs, t, labels, 2, y);
    const size_t guided = (size_t)m->shape.guided_channels * (size_t)f->size * (size_t)f->size;
    for (size_t i = 0; i < guided; i++)
        y[i] = y[out + i] + (float)f->guidance * (y[i] - y[out + i]);
    for (size_t i = 0; i < size; i++) one[i] = 1;
    memcpy(mean, x, size * sizeof *x);
    const float *const spread = m->shape.learned_variance ? y + size : NULL;
    ftk_ddpm(&steps[index], size, y, spread, NULL, mean);
    assert_close(f->name, index, mean, f->mean + (size_t)nth * size, size);
    if (f->log_variance) {
        memcpy(more, x, size * sizeof *x);
        ftk_ddpm(&steps[index], size, y, spread, one, more);
        for (size_t i = 0; i < size; i++) more[i] -= mean[i];
        float *const want = y;
        for (size_t i = 0; i < size; i++)
            want[i] = expf(f->log_variance[(size_t)nth * size + i] / 2);
        assert_close(f->name, index, more, want, size);
    }
    free(x);
    free(y);
    free(one);
}

static void check_ddpm(const dit_figures *f, const ftk_dit *m)
{
    if (!f->mean) return;
    check_ddpm_at(f, m, f->steps / 2, 0);
    check_ddpm_at(f, m, 0, 1);
}

static void check_ddim(const dit_figures *f, const ftk_dit *m)
{
    size_t size;
    float *const x = input_of(f, &size);
    ftk_diffusion_config cfg;
    ftk_diffusion_config_init(&cfg);
    cfg.steps = f->steps;
    cfg.guidance = f->guidance;
    ftk_diffusion *const d = open_diffusion(m, &cfg);
    const int32_t label = f->label;
    const uint64_t seed = 0;
    assert_int_equal(ftk_diffusion_begin(d, &label, &seed, x, 1), FTK_OK);
    for (int i = 0; i < f->steps; i++) {
        assert_int_equal(ftk_diffusion_step(d), FTK_OK);
        assert_close(f->name, i, ftk_diffusion_sample(d, 0), f->ddim + (size_t)i * size, size);
    }
    assert_int_equal(ftk_diffusion_left(d), 0);
    ftk_diffusion_free(d);
    free(x);
}

static void each_level(void (*see)(const dit_figures *f, const ftk_dit *m))
{
    const char *levels[8];
    ftk_kernels_levels(levels);
    for (int l = 0; l < 8 && levels[l]; l++) {
        for (int i = 0; i < N_FIGURES; i++) {
            const dm_model model = model_of(&dit_figures_all[i]);
            ftk_dit *const m = load_dit(&model, levels[l]);
            see(&dit_figures_all[i], m);
            ftk_dit_free(m);
        }
    }
}

static void check_runs(const dit_figures *f, const ftk_dit *m)
{
    if (f->steps > 0) check_ddim(f, m);
}

static void test_pass(void **state)
{
    (void)state;
    each_level(check_pass);
}

static void test_ddim(void **state)
{
    (void)state;
    each_level(check_runs);
}

static void test_ddpm(void **state)
{
    (void)state;
    each_level(check_ddpm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pass),
        cmocka_unit_test(test_ddim),
        cmocka_unit_test(test_ddpm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
