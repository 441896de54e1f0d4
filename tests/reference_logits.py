# SPDX-License-Identifier: Apache-2.0
"""Prints tests/archfigures.h: what transformers says for the models of tests/archmodels.c.

    python3 tests/reference_logits.py > tests/archfigures.h

It needs torch and transformers, and reads nothing: the weights come from the recipe in
tests/archmodels.h, the models' shapes stand below as in am_models[].  The tests read the figures
only, so this runs when a model is added or changed.
"""
import sys

import numpy as np
import torch
import transformers
from transformers import (Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM,
                          MistralConfig, MistralForCausalLM, Phi3Config, Phi3ForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

VOCAB, CONTEXT, ORIGINAL, TOKENS = 300, 4096, 24, 100
POSITIONS = [0, 7, 8, 23, 63, 99]
TOP = 4


def weights(name, shape):
    """Elements of a GGUF tensor, in its order, with the shape [n_out, n_in] or [n]."""
    s = 1
    for c in name.encode():
        s = (s * 31 + c) & 0xFFFFFFFF
    n = int(np.prod(shape))
    u = np.empty(n)
    for i in range(n):
        s = (s * 1664525 + 1013904223) & 0xFFFFFFFF
        u[i] = (s >> 8) / 2**24 - 0.5
    if name.endswith("norm.weight"):
        x = 1 + u / 2
    elif name.endswith(".bias"):
        x = u / 2
    elif name == "token_embd.weight":
        x = 2 * u
    else:
        x = 4 * u / np.sqrt(shape[-1])
    return torch.from_numpy(x.astype(np.float32).reshape(shape))


def unpermute(w, heads):
    """Rows of q and k as GGUF stores them for llama, pairs side by side, back to halves."""
    shape = w.shape
    half = shape[0] // heads // 2
    return w.reshape(heads, half, 2, -1).transpose(1, 2).reshape(shape).contiguous()


def layer_names(kind):
    """Names in GGUF and in the state dict."""
    names = {
        "attn_norm.weight": "input_layernorm.weight",
        "attn_output.weight": "self_attn.o_proj.weight",
        "attn_output.bias": "self_attn.o_proj.bias",
        "ffn_norm.weight": "post_attention_layernorm.weight",
        "ffn_down.weight": "mlp.down_proj.weight",
        "ffn_gate.weight": "mlp.gate_proj.weight",
        "ffn_up.weight": "mlp.up_proj.weight",
        "attn_q_norm.weight": "self_attn.q_norm.weight",
        "attn_k_norm.weight": "self_attn.k_norm.weight",
    }
    for part in "qkv":
        for what in ("weight", "bias"):
            names[f"attn_{part}.{what}"] = f"self_attn.{part}_proj.{what}"
    if kind == "phi3":
        names["attn_qkv.weight"] = "self_attn.qkv_proj.weight"
        names["ffn_up.weight"] = "mlp.gate_up_proj.weight"
    if kind == "gemma3":
        names["post_attention_norm.weight"] = "post_attention_layernorm.weight"
        names["ffn_norm.weight"] = "pre_feedforward_layernorm.weight"
        names["post_ffw_norm.weight"] = "post_feedforward_layernorm.weight"
    return {hf: gguf for gguf, hf in names.items()}


def fill(model, kind):
    """Gives every parameter of the model the values of its GGUF tensor."""
    config = model.config
    names = layer_names(kind)
    alone = {"model.embed_tokens.weight": "token_embd.weight",
             "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    with torch.no_grad():
        for hf, parameter in model.named_parameters():
            if hf in alone:
                name = alone[hf]
            else:
                _, _, layer, rest = hf.split(".", 3)
                name = f"blk.{layer}.{names[rest]}"
            value = weights(name, tuple(parameter.shape))
            if kind == "llama" and ".attn_q." in name:
                value = unpermute(value, config.num_attention_heads)
            if kind == "llama" and ".attn_k." in name:
                value = unpermute(value, config.num_key_value_heads)
            if kind == "gemma3" and name.endswith("norm.weight"):
                value = value - 1  # exact: the values lie in [3/4, 5/4)
            parameter.copy_(value)


def make(cls, config, kind):
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = cls(config).float().eval()
    fill(model, kind)
    return model


def common(layers, embd, heads, heads_kv, ff, tied):
    return dict(vocab_size=VOCAB, hidden_size=embd, intermediate_size=ff, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=heads_kv, rms_norm_eps=1e-5,
                max_position_embeddings=CONTEXT, tie_word_embeddings=tied, pad_token_id=0,
                bos_token_id=1, eos_token_id=2)


def rope(base, kind="default", **more):
    return dict(rope_type=kind, rope_theta=base, **more)


def gemma(layers, embd, heads, heads_kv, head_dim, ff, scalar, full, types=None):
    config = Gemma3TextConfig(
        **common(layers, embd, heads, heads_kv, ff, True), head_dim=head_dim, sliding_window=8,
        query_pre_attn_scalar=scalar, layer_types=types,
        rope_parameters={"full_attention": full, "sliding_attention": rope(1e4)})
    return make(Gemma3ForCausalLM, config, "gemma3")


def models():
    yield "llama", make(LlamaForCausalLM, LlamaConfig(
        **common(3, 64, 4, 2, 96, False), rope_parameters=rope(1e4)), "llama")
    yield "llama-3", make(LlamaForCausalLM, LlamaConfig(
        **common(3, 64, 4, 4, 96, True), attention_bias=True,
        rope_parameters=rope(1e4, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=32)), "llama")
    yield "llama-linear", make(LlamaForCausalLM, LlamaConfig(
        **common(2, 64, 4, 1, 96, False), rope_parameters=rope(1e4, "linear", factor=4.0)), "llama")
    yield "mistral", make(MistralForCausalLM, MistralConfig(
        **common(3, 64, 4, 2, 96, False), head_dim=16, sliding_window=8,
        rope_parameters=rope(1e4)), "llama")
    yield "qwen2", make(Qwen2ForCausalLM, Qwen2Config(
        **common(3, 64, 4, 2, 96, True), rope_parameters=rope(1e6)), "qwen2")
    yield "qwen3", make(Qwen3ForCausalLM, Qwen3Config(
        **common(3, 64, 4, 2, 96, False), head_dim=32, rope_parameters=rope(1e6)), "qwen3")
    yield "phi3", make(Phi3ForCausalLM, Phi3Config(
        **common(3, 64, 4, 4, 96, False), sliding_window=8, rope_parameters=rope(1e4)), "phi3")
    yield "phi3-long", make(Phi3ForCausalLM, Phi3Config(
        **common(3, 64, 4, 2, 96, True), original_max_position_embeddings=ORIGINAL,
        rope_parameters=rope(1e4, "longrope", partial_rotary_factor=0.75,
                             short_factor=[1 + i / 10 for i in range(6)],
                             long_factor=[2 + i / 2 for i in range(6)],
                             original_max_position_embeddings=ORIGINAL)), "phi3")
    yield "gemma3", gemma(7, 64, 4, 1, 32, 96, 32, rope(1e6))
    yield "gemma3-scaled", gemma(4, 64, 4, 2, 16, 96, 64, rope(1e6, "linear", factor=8.0),
                                 ["sliding_attention", "full_attention"] * 2)
    yield "gemma3-wide", gemma(62, 32, 2, 1, 32, 32, 16, rope(1e6))


def figures(name, model, n):
    """Lines {name, tokens, position, {ids}, {logits}} for a run over the first n tokens."""
    ids = torch.tensor([[3 + (i * 7919 + 13) % 297 for i in range(n)]])
    with torch.no_grad():
        logits = model(ids).logits[0]
    for p in POSITIONS:
        if p < n:
            top = torch.topk(logits[p], TOP)
            tokens = ", ".join(str(t) for t in top.indices.tolist())
            values = ", ".join(f"{v:.5f}f" for v in top.values.tolist())
            print(f'    {{"{name}", {n}, {p}, {{{tokens}}}, {{{values}}}}},')


def main():
    print("/* SPDX-License-Identifier: Apache-2.0\n"
          " * The largest logits of the models in archmodels.c, from tests/reference_logits.py"
          " with\n"
          f" * torch {torch.__version__.split('+')[0]} and transformers"
          f" {transformers.__version__}, in float32. */\n"
          f"enum {{ FIGURE_TOP = {TOP} }};\n"
          "static const struct figure {\n"
          "    const char *model;\n"
          "    int n_tokens; /* of the run; position is below it */\n"
          "    int position;\n"
          "    int token[FIGURE_TOP];\n"
          "    float logit[FIGURE_TOP];\n"
          "} figures[] = {")
    for name, model in models():
        print(name, file=sys.stderr)
        if name == "phi3-long":
            figures(name, model, ORIGINAL)
        figures(name, model, TOKENS)
    print("};")


if __name__ == "__main__":
    main()
