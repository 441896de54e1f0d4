/* SPDX-License-Identifier: Apache-2.0
 * The architectures, and the tensors of their layers. Names as GGUF files have them. */
#include "model/arch.h"

#include <stdio.h>

#include "base/str.h"
#include "model/model.h"

static const ftk_arch archs[] = {
    {
        .name = "llama", /* the rows of q and k are stored such that pairs lie side by side */
        .flags = FTK_ARCH_ROPE_FREQS | FTK_ARCH_BIAS_ANY | FTK_ARCH_WINDOW,
        .rope_base = 1e4,
    },
    {
        .name = "qwen2",
        .flags = FTK_ARCH_ROPE_HALVES | FTK_ARCH_BIAS_QKV,
        .rope_base = 1e4,
    },
    {
        .name = "qwen3",
        .flags = FTK_ARCH_ROPE_HALVES | FTK_ARCH_NORM_QK,
        .rope_base = 1e4,
    },
    {
        .name = "phi3",
        .flags = FTK_ARCH_ROPE_HALVES | FTK_ARCH_ROPE_FACTORS | FTK_ARCH_FUSED | FTK_ARCH_WINDOW,
        .rope_base = 1e4,
    },
    {
        .name = "gemma3",
        .flags = FTK_ARCH_ROPE_HALVES | FTK_ARCH_NORM_QK | FTK_ARCH_NORM_POST | FTK_ARCH_GELU |
                 FTK_ARCH_EMBD_SCALE | FTK_ARCH_WINDOW,
        .window_period = 6,
        .rope_base = 1e6,
        .rope_base_window = 1e4,
        .wide_scale_layers = 62, /* 27B, which no key tells from the others */
    },
};
enum { N_ARCHS = sizeof archs / sizeof archs[0] };

const ftk_arch *ftk_arch_find(ftk_str name)
{
    for (int i = 0; i < N_ARCHS; i++)
        if (ftk_str_is(name, archs[i].name)) return &archs[i];
    return NULL;
}

const char *ftk_arch_names(char *buf, size_t cap)
{
    size_t n = 0;
    buf[0] = '\0';
    for (int i = 0; i < N_ARCHS && n < cap; i++)
        n += (size_t)snprintf(buf + n, cap - n, "%s%s",
                              i == 0             ? ""
                              : i == N_ARCHS - 1 ? " and "
                                                 : ", ",
                              archs[i].name);
    return buf;
}

/* ---- parts of a layer */

#define MATRIX(name, n_in, n_out, field)                                                           \
    name ".weight", FTK_DIM_##n_in, FTK_DIM_##n_out, FTK_DIM_##n_out, FTK_DIM_0,                   \
        offsetof(ftk_layer, field)
#define ROWS(name, n_in, rows, n_out, first, field)                                                \
    name ".weight", FTK_DIM_##n_in, FTK_DIM_##rows, FTK_DIM_##n_out, FTK_DIM_##first,              \
        offsetof(ftk_layer, field)
#define VECTOR(name, n, field)                                                                     \
    name, FTK_DIM_##n, FTK_DIM_1, FTK_DIM_1, FTK_DIM_0, offsetof(ftk_layer, field)

static const ftk_part parts[] = {
    {MATRIX("attn_q", EMBD, Q, q), 0, FTK_ARCH_FUSED, false},
    {MATRIX("attn_k", EMBD, KV, k), 0, FTK_ARCH_FUSED, false},
    {MATRIX("attn_v", EMBD, KV, v), 0, FTK_ARCH_FUSED, false},
    {ROWS("attn_qkv", EMBD, QKV, Q, 0, q), FTK_ARCH_FUSED, 0, false},
    {ROWS("attn_qkv", EMBD, QKV, KV, Q, k), FTK_ARCH_FUSED, 0, false},
    {ROWS("attn_qkv", EMBD, QKV, KV, Q_KV, v), FTK_ARCH_FUSED, 0, false},
    {MATRIX("attn_output", Q, EMBD, o), 0, 0, false},
    {MATRIX("ffn_gate", EMBD, FF, gate), 0, FTK_ARCH_FUSED, false},
    {MATRIX("ffn_up", EMBD, FF, up), 0, FTK_ARCH_FUSED, false},
    {ROWS("ffn_up", EMBD, FF2, FF, 0, gate), FTK_ARCH_FUSED, 0, false},
    {ROWS("ffn_up", EMBD, FF2, FF, FF, up), FTK_ARCH_FUSED, 0, false},
    {MATRIX("ffn_down", FF, EMBD, down), 0, 0, false},

    {VECTOR("attn_norm.weight", EMBD, attn_norm), 0, 0, false},
    {VECTOR("ffn_norm.weight", EMBD, ffn_norm), 0, 0, false},
    {VECTOR("attn_q_norm.weight", HEAD, q_norm), FTK_ARCH_NORM_QK, 0, false},
    {VECTOR("attn_k_norm.weight", HEAD, k_norm), FTK_ARCH_NORM_QK, 0, false},
    {VECTOR("post_attention_norm.weight", EMBD, attn_post_norm), FTK_ARCH_NORM_POST, 0, false},
    {VECTOR("post_ffw_norm.weight", EMBD, ffn_post_norm), FTK_ARCH_NORM_POST, 0, false},
    {VECTOR("attn_q.bias", Q, q_bias), FTK_ARCH_BIAS_QKV, 0, false},
    {VECTOR("attn_k.bias", KV, k_bias), FTK_ARCH_BIAS_QKV, 0, false},
    {VECTOR("attn_v.bias", KV, v_bias), FTK_ARCH_BIAS_QKV, 0, false},
    {VECTOR("attn_q.bias", Q, q_bias), FTK_ARCH_BIAS_ANY, 0, true},
    {VECTOR("attn_k.bias", KV, k_bias), FTK_ARCH_BIAS_ANY, 0, true},
    {VECTOR("attn_v.bias", KV, v_bias), FTK_ARCH_BIAS_ANY, 0, true},
    {VECTOR("attn_output.bias", EMBD, o_bias), FTK_ARCH_BIAS_ANY, 0, true},
};

const ftk_part *ftk_arch_parts(size_t *n)
{
    *n = sizeof parts / sizeof parts[0];
    return parts;
}

bool ftk_arch_has(const ftk_arch *a, const ftk_part *part)
{
    return (a->flags & part->need) == part->need && (a->flags & part->lack) == 0;
}
