/* SPDX-License-Identifier: Apache-2.0
 * Small models of every architecture. */
#include "archmodels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/folder.h"

/* clang-format off */
const am_model am_models[] = {
    {.name = "llama", .arch = "llama", .layers = 3, .embd = 64, .heads = 4, .heads_kv = 2,
     .head_dim = 16, .ff = 96, .rope_base = 1e4},
    {.name = "llama-3", .arch = "llama", .layers = 3, .embd = 64, .heads = 4, .heads_kv = 4,
     .head_dim = 16, .ff = 96, .rope_base = 1e4, .tied = true, .biases = true, .llama3 = true},
    {.name = "llama-linear", .arch = "llama", .layers = 2, .embd = 64, .heads = 4, .heads_kv = 1,
     .head_dim = 16, .ff = 96, .rope_base = 1e4, .linear = 4},
    {.name = "mistral", .arch = "llama", .layers = 3, .embd = 64, .heads = 4, .heads_kv = 2,
     .head_dim = 16, .ff = 96, .rope_base = 1e4, .window = 8},
    {.name = "qwen2", .arch = "qwen2", .layers = 3, .embd = 64, .heads = 4, .heads_kv = 2,
     .head_dim = 16, .ff = 96, .rope_base = 1e6, .tied = true, .biases = true},
    {.name = "qwen3", .arch = "qwen3", .layers = 3, .embd = 64, .heads = 4, .heads_kv = 2,
     .head_dim = 32, .ff = 96, .rope_base = 1e6},
    {.name = "phi3", .arch = "phi3", .layers = 3, .embd = 64, .heads = 4, .heads_kv = 4,
     .head_dim = 16, .ff = 96, .rope_base = 1e4, .window = 8},
    {.name = "phi3-long", .arch = "phi3", .layers = 3, .embd = 64, .heads = 4, .heads_kv = 2,
     .head_dim = 16, .ff = 96, .rope_base = 1e4, .n_rot = 12, .tied = true, .longrope = true},
    {.name = "gemma3", .arch = "gemma3", .layers = 7, .embd = 64, .heads = 4, .heads_kv = 1,
     .head_dim = 32, .ff = 96, .rope_base = 1e6, .window = 8, .tied = true},
    {.name = "gemma3-scaled", .arch = "gemma3", .layers = 4, .embd = 64, .heads = 4, .heads_kv = 2,
     .head_dim = 16, .ff = 96, .rope_base = 1e6, .window = 8, .tied = true, .linear = 8,
     .attn_scale = 0.125, .pattern = true},
    {.name = "gemma3-wide", .arch = "gemma3", .layers = 62, .embd = 32, .heads = 2, .heads_kv = 1,
     .head_dim = 32, .ff = 32, .rope_base = 1e6, .window = 8, .tied = true},
};
/* clang-format on */
const int am_n_models = sizeof am_models / sizeof am_models[0];

const am_model *am_find(const char *name)
{
    for (int i = 0; i < am_n_models; i++)
        if (strcmp(am_models[i].name, name) == 0) return &am_models[i];
    return NULL;
}

/* ---- keys */

static const char *key(const am_model *m, const char *name)
{
    static char buf[96];
    snprintf(buf, sizeof buf, "%s.%s", m->arch, name);
    return buf;
}

static void put_keys(gw *w, const am_model *m)
{
    gw_str(w, "general.architecture", m->arch);
    gw_str(w, "general.name", m->name);
    gw_u32(w, key(m, "block_count"), (uint32_t)m->layers);
    gw_u32(w, key(m, "context_length"), AM_CONTEXT);
    gw_u32(w, key(m, "embedding_length"), (uint32_t)m->embd);
    gw_u32(w, key(m, "feed_forward_length"), (uint32_t)m->ff);
    gw_u32(w, key(m, "attention.head_count"), (uint32_t)m->heads);
    gw_u32(w, key(m, "attention.head_count_kv"), (uint32_t)m->heads_kv);
    gw_f32(w, key(m, "attention.layer_norm_rms_epsilon"), 1e-5f);
    if (m->head_dim * m->heads != m->embd) {
        gw_u32(w, key(m, "attention.key_length"), (uint32_t)m->head_dim);
        gw_u32(w, key(m, "attention.value_length"), (uint32_t)m->head_dim);
    }
    gw_f32(w, key(m, "rope.freq_base"), (float)m->rope_base);
    if (m->n_rot) gw_u32(w, key(m, "rope.dimension_count"), (uint32_t)m->n_rot);
    if (m->window) gw_u32(w, key(m, "attention.sliding_window"), (uint32_t)m->window);
    if (m->attn_scale > 0) gw_f32(w, key(m, "attention.scale"), (float)m->attn_scale);
    if (m->linear > 0) {
        gw_str(w, key(m, "rope.scaling.type"), "linear");
        gw_f32(w, key(m, "rope.scaling.factor"), (float)m->linear);
    }
    if (m->pattern) /* layers 0 and 2 are windowed */
        gw_array(w, key(m, "attention.sliding_window_pattern"), FTK_GGUF_BOOL, 4, "\1\0\1\0");
    if (m->longrope) {
        const double ratio = (double)AM_CONTEXT / AM_ORIGINAL;
        gw_u32(w, key(m, "rope.scaling.original_context_length"), AM_ORIGINAL);
        gw_f32(w, key(m, "rope.scaling.attn_factor"),
               (float)sqrt(1 + log(ratio) / log(AM_ORIGINAL)));
    }
    gw_tiny_tokenizer(w);
}

/* ---- tensors */

typedef void put(void *ctx, const char *name, int n_in, int n_out);

void am_fill(const char *name, int n_in, size_t n, float *x)
{
    const bool norm = ftk_ends_with(name, "norm.weight"), bias = ftk_ends_with(name, ".bias");
    const bool embd =
        strcmp(name, "token_embd.weight") == 0 || strcmp(name, "class_embd.weight") == 0;
    uint32_t s = 1;
    for (const char *c = name; *c; c++) s = s * 31 + (unsigned char)*c;
    for (size_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        const double u = (double)(s >> 8) / (1 << 24) - 0.5;
        x[i] = (float)(norm ? 1 + u / 2 : bias ? u / 2 : embd ? 2 * u : 4 * u / sqrt(n_in));
    }
}

static void put_tensor(void *ctx, const char *name, int n_in, int n_out)
{
    const size_t n = (size_t)n_in * (size_t)n_out;
    float *x = malloc(n * sizeof *x);
    if (!x) abort();
    am_fill(name, n_in, n, x);
    gw_tensor(ctx, name, n_out == 1 ? 1 : 2, (uint64_t[]){(uint64_t)n_in, (uint64_t)n_out},
              FTK_TYPE_F32, x, n * sizeof *x);
    free(x);
}

static void count_tensor(void *ctx, const char *name, int n_in, int n_out)
{
    (void)name;
    *(size_t *)ctx += (size_t)n_in * (size_t)n_out;
}

static void each_in_layer(const am_model *m, int layer, put *see, void *ctx)
{
    const int d = m->embd, q = m->heads * m->head_dim, kv = m->heads_kv * m->head_dim;
    const bool phi = strcmp(m->arch, "phi3") == 0, gemma = strcmp(m->arch, "gemma3") == 0;
    const bool qk_norm = gemma || strcmp(m->arch, "qwen3") == 0;
    const bool o_bias = m->biases && strcmp(m->arch, "llama") == 0;
    const struct {
        const char *name;
        int n_in, n_out;
        bool there;
    } parts[] = {
        {"attn_norm.weight", d, 1, true},
        {"attn_q.weight", d, q, !phi},
        {"attn_k.weight", d, kv, !phi},
        {"attn_v.weight", d, kv, !phi},
        {"attn_qkv.weight", d, q + 2 * kv, phi},
        {"attn_q.bias", q, 1, m->biases},
        {"attn_k.bias", kv, 1, m->biases},
        {"attn_v.bias", kv, 1, m->biases},
        {"attn_q_norm.weight", m->head_dim, 1, qk_norm},
        {"attn_k_norm.weight", m->head_dim, 1, qk_norm},
        {"attn_output.weight", q, d, true},
        {"attn_output.bias", d, 1, o_bias},
        {"post_attention_norm.weight", d, 1, gemma},
        {"ffn_norm.weight", d, 1, true},
        {"ffn_gate.weight", d, m->ff, !phi},
        {"ffn_up.weight", d, phi ? 2 * m->ff : m->ff, true},
        {"ffn_down.weight", m->ff, d, true},
        {"post_ffw_norm.weight", d, 1, gemma},
    };
    char name[64];
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(name, sizeof name, "blk.%d.%s", layer, parts[i].name);
        if (parts[i].there) see(ctx, name, parts[i].n_in, parts[i].n_out);
    }
}

static void each_tensor(const am_model *m, put *see, void *ctx)
{
    see(ctx, "token_embd.weight", m->embd, GW_VOCAB);
    for (int i = 0; i < m->layers; i++) each_in_layer(m, i, see, ctx);
    see(ctx, "output_norm.weight", m->embd, 1);
    if (!m->tied) see(ctx, "output.weight", m->embd, GW_VOCAB);
}

/* The factors by which llama 3 divides frequencies: 8 for wavelengths above 32, none below 8,
 * something in between for those in between (low_freq_factor 1, high_freq_factor 4, original
 * context 32). */
static void put_llama3(gw *w, const am_model *m)
{
    float factor[64];
    const int half = m->head_dim / 2;
    for (int i = 0; i < half; i++) {
        const double wave = 2 * acos(-1) * pow(m->rope_base, 2.0 * i / m->head_dim);
        const double smooth = (32 / wave - 1) / (4 - 1);
        factor[i] = (float)(wave < 8 ? 1 : wave > 32 ? 8 : 1 / ((1 - smooth) / 8 + smooth));
    }
    gw_tensor(w, "rope_freqs.weight", 1, (uint64_t[]){(uint64_t)half}, FTK_TYPE_F32, factor,
              (size_t)half * sizeof *factor);
}

/* Short factors 1 + i/10, long ones 2 + i/2. */
static void put_longrope(gw *w, const am_model *m)
{
    float shorter[64], longer[64];
    const int half = m->n_rot / 2;
    for (int i = 0; i < half; i++) {
        shorter[i] = (float)(1 + i / 10.0);
        longer[i] = (float)(2 + i / 2.0);
    }
    const size_t bytes = (size_t)half * sizeof *longer;
    gw_tensor(w, "rope_factors_long.weight", 1, (uint64_t[]){(uint64_t)half}, FTK_TYPE_F32, longer,
              bytes);
    gw_tensor(w, "rope_factors_short.weight", 1, (uint64_t[]){(uint64_t)half}, FTK_TYPE_F32,
              shorter, bytes);
}

void am_write(gw *w, const am_model *m)
{
    put_keys(w, m);
    each_tensor(m, put_tensor, w);
    if (m->llama3) put_llama3(w, m);
    if (m->longrope) put_longrope(w, m);
}

size_t am_n_params(const am_model *m)
{
    size_t n = m->llama3 ? (size_t)m->head_dim / 2 : m->longrope ? (size_t)m->n_rot : 0;
    each_tensor(m, count_tensor, &n);
    return n;
}
