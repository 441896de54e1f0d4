/* SPDX-License-Identifier: Apache-2.0
 * Small diffusion transformers. */
#include "ditmodel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archmodels.h"
#include "testkit/quantise.h"

enum { FREQ = 256 };

dm_model dm_small(void)
{
    return (dm_model){.layers = 4,
                      .dim = 32,
                      .heads = 4,
                      .ffn = 128,
                      .patch = 2,
                      .size = 6,
                      .channels = 4,
                      .out_channels = 8,
                      .classes = 5};
}

static void put_keys(gw *w, const dm_model *m)
{
    gw_str(w, "general.architecture", "dit");
    gw_str(w, "general.name", "small");
    gw_u32(w, "dit.block_count", (uint32_t)m->layers);
    gw_u32(w, "dit.embedding_length", (uint32_t)m->dim);
    gw_u32(w, "dit.attention.head_count", (uint32_t)m->heads);
    gw_u32(w, "dit.feed_forward_length", (uint32_t)m->ffn);
    gw_f32(w, "dit.attention.layer_norm_epsilon", 1e-6f);
    if (m->ffn_eps > 0) gw_f32(w, "dit.feed_forward.layer_norm_epsilon", (float)m->ffn_eps);
    gw_u32(w, "dit.patch_size", (uint32_t)m->patch);
    gw_u32(w, "dit.input_size", (uint32_t)m->size);
    gw_u32(w, "dit.in_channels", (uint32_t)m->channels);
    gw_bool(w, "dit.learned_variance", m->out_channels != m->channels);
    gw_u32(w, "dit.class_count", (uint32_t)m->classes);
    gw_u32(w, "dit.timestep_frequency_length", FREQ);
    gw_f32(w, "dit.timestep_frequency_shift", (float)m->shift);
    gw_u32(w, "dit.diffusion.steps", 1000);
    gw_f32(w, "dit.diffusion.beta_start", 1e-4f);
    gw_f32(w, "dit.diffusion.beta_end", m->beta_end > 0 ? (float)m->beta_end : 0.02f);
    gw_bool(w, "dit.pixel", m->pixel);
}

static void put_l2c(gw *w, const dm_model *m)
{
    if (m->l2c_steps == 0) return;
    const int branches = 2 * m->layers, rows = (m->l2c_steps + 1) / 2;
    float *x = malloc((size_t)(branches * rows) * sizeof *x);
    if (!x) abort();
    for (int i = 0; i < branches * rows; i++) {
        const float half = i / branches < rows / 2 ? 1 : 0;
        x[i] = m->l2c_value > 0 ? (float)m->l2c_value : half;
    }
    gw_u32(w, "dit.l2c.count", 1);
    gw_u32(w, "dit.l2c.0.steps", (uint32_t)m->l2c_steps);
    gw_f32(w, "dit.l2c.0.threshold", 0.1f);
    gw_tensor(w, "l2c.0.router", 2, (uint64_t[]){(uint64_t)branches, (uint64_t)rows}, FTK_TYPE_F32,
              x, (size_t)(branches * rows) * sizeof *x);
    free(x);
}

static void change(const dm_model *m, const char *name, int n_in, size_t n, float *x)
{
    const bool time = strcmp(name, "time_embd.0.weight") == 0, ada = strstr(name, "ada.weight");
    for (size_t i = 0; time && m->damp > 0 && i < n; i++) {
        const int half = n_in / 2, f = (int)(i % (size_t)n_in) % half;
        x[i] *= (float)exp(-m->damp * 20 * exp(-log(10000) * f / half));
    }
    for (size_t i = 0; ada && m->calm > 0 && i < n; i++) x[i] *= (float)m->calm;
}

static void put(gw *w, const dm_model *m, const char *name, int n_in, int n_out)
{
    const size_t n = (size_t)n_in * (size_t)n_out;
    const size_t block = ftk_type_block(m->type), bytes = ftk_type_bytes(m->type, n);
    float *const x = malloc(n * sizeof *x);
    unsigned char *const data = malloc(bytes);
    if (!x || !data) abort();
    am_fill(name, n_in, n, x);
    change(m, name, n_in, n, x);
    const uint64_t dims[] = {(uint64_t)n_in, (uint64_t)n_out};
    if (n_out == 1 || n_in % (int)block != 0) {
        gw_tensor(w, name, n_out == 1 ? 1 : 2, dims, FTK_TYPE_F32, x, n * sizeof *x);
    } else {
        for (size_t i = 0; i < n / block; i++)
            quantise(m->type, x + i * block, data + i * (bytes / (n / block)));
        gw_tensor(w, name, 2, dims, (uint32_t)m->type, data, bytes);
    }
    free(x);
    free(data);
}

static void put_layer(gw *w, const dm_model *m, int layer)
{
    const int c = m->dim;
    const struct {
        const char *name;
        int n_in, n_out;
    } parts[] = {
        {"ada", c, 6 * c},     {"attn_qkv", c, 3 * c},  {"attn_output", c, c},
        {"ffn_up", c, m->ffn}, {"ffn_down", m->ffn, c},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", layer, parts[i].name);
        put(w, m, name, parts[i].n_in, parts[i].n_out);
        snprintf(name, sizeof name, "blk.%d.%s.bias", layer, parts[i].name);
        put(w, m, name, parts[i].n_out, 1);
    }
}

void dm_write(gw *w, const dm_model *m)
{
    const int c = m->dim, cells = m->patch * m->patch;
    put_keys(w, m);
    put_l2c(w, m);
    put(w, m, "patch_embd.weight", cells * m->channels, c);
    put(w, m, "patch_embd.bias", c, 1);
    put(w, m, "time_embd.0.weight", FREQ, c);
    put(w, m, "time_embd.0.bias", c, 1);
    put(w, m, "time_embd.2.weight", c, c);
    put(w, m, "time_embd.2.bias", c, 1);
    put(w, m, "class_embd.weight", c, m->classes + 1);
    for (int i = 0; i < m->layers; i++) put_layer(w, m, i);
    put(w, m, "output_ada.weight", c, 2 * c);
    put(w, m, "output_ada.bias", 2 * c, 1);
    put(w, m, "output.weight", c, cells * m->out_channels);
    put(w, m, "output.bias", cells * m->out_channels, 1);
}

bool dm_save(const dm_model *m, const char *path)
{
    gw w;
    gw_init(&w);
    dm_write(&w, m);
    return gw_end(&w, path);
}
