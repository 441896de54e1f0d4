# SPDX-License-Identifier: Apache-2.0
"""Prints tests/eaglefigures.h: what the package speculators computes for the heads of tests/eaglefiles.c.

    python3 tests/reference_eagle.py > tests/eaglefigures.h

It needs torch, transformers and speculators, and reads nothing: weights and states come from the recipe in
tests/archmodels.h by the tensors' names in safetensors, the heads' shapes stand below as in ef_heads[]. The
layers, norms and matrices are those of the package's Eagle3DraftModel; the rows go through them as an engine runs
them: verified ones first, then drafted ones that begin with what the row before them left.
"""
import copy
import importlib.metadata
import sys

import numpy as np
import torch
from speculators.models.dflash import DFlashDraftModel, DFlashSpeculatorConfig
from speculators.models.dspark import DSparkDraftModel, DSparkSpeculatorConfig
from speculators.models.eagle3 import Eagle3DraftModel, Eagle3SpeculatorConfig
from transformers import DynamicCache, LlamaConfig
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config

VOCAB, DRAFT, WIDTH, TEXT, STEPS, EVERY = 300, 120, 64, 12, 5, 15
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
HEADS = {
    "plain": {},
    "whole": {"whole": True, "rope": LLAMA3, "bias": True},
    "qwen3": {"qwen3": True, "norm_before_residual": True, "fc_norm": True},
    "before": {"norm_before_fc": True, "norm_before_residual": True, "rope": YARN},
    "fed": {"norm_output": True, "fc_norm": True},
}


BLOCK, MASK_TOKEN, RANK = 4, 299, 8
BLOCKS = {"dflash": (DFlashDraftModel, DFlashSpeculatorConfig, {}),
          "dspark": (DSparkDraftModel, DSparkSpeculatorConfig, {"markov_rank": RANK})}


def weights(name, shape):
    s = 1
    for c in name.encode():
        s = (s * 31 + c) & 0xFFFFFFFF
    n = int(np.prod(shape))
    u = np.empty(n)
    for i in range(n):
        s = (s * 1664525 + 1013904223) & 0xFFFFFFFF
        u[i] = (s >> 8) / 2**24 - 0.5
    if "norm." in name and name.endswith("weight"):
        x = 1 + u / 2
    elif name.endswith(".bias"):
        x = u / 2
    elif name in ("embed_tokens.weight", "states", "feature"):
        x = 2 * u
    else:
        x = 4 * u / np.sqrt(shape[-1])
    return torch.from_numpy(x.astype(np.float32).reshape(shape))


def target_id(row):
    """What d2t says of a row of the head."""
    return 2 * row + row % 2


def layer_of(kind, layers, rope, **more):
    layer = kind(hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=layers,
                 num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=VOCAB,
                 rms_norm_eps=1e-5, max_position_embeddings=128,
                 rope_parameters={"rope_theta": 10000.0, **rope}, **more)
    layer._attn_implementation = "eager"
    return layer


def fill(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not name.startswith("verifier"):
                p.copy_(weights(name, list(p.shape)))
    return model.float().eval()


def make(how):
    kind = Qwen3Config if how.get("qwen3") else LlamaConfig
    layer = layer_of(kind, 1, how.get("rope", {"rope_type": "default"}),
                     attention_bias=how.get("bias", False))
    flags = {k: how.get(k, False)
             for k in ("norm_before_residual", "norm_before_fc", "fc_norm", "norm_output")}
    config = Eagle3SpeculatorConfig(transformer_layer_config=layer,
                                    draft_vocab_size=VOCAB if how.get("whole") else DRAFT, **flags)
    return fill(Eagle3DraftModel(config))


def pass_over(model, cache, tokens, states, first):
    """Rows of a chain from the place `first` on; their logits and what they leave."""
    n, past = len(tokens), cache.get_seq_length()
    x = torch.cat([model.embed_tokens(torch.tensor([tokens])), states], dim=-1)
    at = torch.arange(first, first + n)[None]
    mask = torch.full((n, past + n), float("-inf")).triu(past + 1)[None, None]
    h = model.layers[0](x, attention_mask=mask, position_ids=at, past_key_values=cache,
                        cache_position=torch.arange(past, past + n),
                        position_embeddings=model.rotary_emb(x, at))
    normed = model.norm(h)
    return model.lm_head(normed)[0], normed if model.config.norm_output else h


def text_token(i):
    return (i * 7 + 3) % VOCAB


def drafted(depth, branch):
    return (50 + depth * 13 + branch * 31) % VOCAB


def run(model):
    """Logits behind the text, then those of a chain of STEPS, then of a branch behind its first row."""
    x = weights("states", [TEXT - 1, 3 * WIDTH])[None]
    if model.input_norm is not None:
        x = model.input_norm(x)
    if model.fc_norm is not None:
        parts = zip(model.fc_norm, x.chunk(3, dim=-1))
        x = torch.cat([norm(part) for norm, part in parts], dim=-1)
    cache, rows = DynamicCache(), []
    tokens = [text_token(i + 1) for i in range(TEXT - 1)]
    logits, left = pass_over(model, cache, tokens, model.fc(x), 0)
    rows.append(logits[-1])
    left = left[:, -1:]
    fork = None
    for depth in range(STEPS):
        logits, left = pass_over(model, cache, [drafted(depth, 0)], left, TEXT - 1 + depth)
        rows.append(logits[0])
        if depth == 0:
            fork = copy.deepcopy(cache), left
    cache, left = fork
    for depth in range(1, 3):
        logits, left = pass_over(model, cache, [drafted(depth, 1)], left, TEXT - 1 + depth)
        rows.append(logits[0])
    return rows


def make_block(kind):
    cls, config, more = BLOCKS[kind]
    layer = layer_of(Qwen3Config, 2, {"rope_type": "default"})
    return fill(cls(config(transformer_layer_config=layer, draft_vocab_size=DRAFT,
                           block_size=BLOCK, aux_hidden_state_layer_ids=[2, 1, 0],
                           mask_token_id=MASK_TOKEN, **more)))


def run_block(model):
    """Logits of what follows the text, then those behind each of a chain of drafted tokens."""
    c = model.hidden_norm(model.fc(weights("states", [TEXT - 1, 3 * WIDTH])[None]))
    x = model.embed_tokens(torch.tensor([[text_token(TEXT - 1)] + [MASK_TOKEN] * (BLOCK - 1)]))
    at = torch.arange(TEXT - 1 + BLOCK)[None]
    for layer in model.layers:
        x = layer(hidden_states=x, target_hidden=c, attention_mask=None, position_ids=at,
                  position_embeddings=model.rotary_emb(x, at))
    logits = model.lm_head(model.norm(x))[0]
    if not model.config.sample_from_anchor:
        return list(logits[1:])
    before = torch.tensor([text_token(TEXT - 1)] + [drafted(i, 0) for i in range(BLOCK - 1)])
    bias = model.markov_head.block_bias(prev_token_ids=before[None], hidden_states=x)
    return list(logits + bias[0])


def run_medusa():
    """Three heads of two layers, by Medusa's own formula."""
    rows = []
    for head in range(3):
        x = weights("feature", [WIDTH])
        for i in range(2):
            w, b = (weights(f"{head}.{i}.linear.{part}", shape)
                    for part, shape in (("weight", [WIDTH, WIDTH]), ("bias", [WIDTH])))
            x = x + torch.nn.functional.silu(w @ x + b)
        rows.append(weights(f"{head}.2.weight", [VOCAB, WIDTH]) @ x)
    return rows


def main():
    packages = ("torch", "transformers", "speculators")
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
    print("/* SPDX-License-Identifier: Apache-2.0")
    print(" * Logits of the heads in eaglefiles.c, from tests/reference_eagle.py with")
    print(f" * {versions}, in float32: every {EVERY}th. */")
    print(f"enum {{ EAGLE_TEXT = {TEXT}, EAGLE_STEPS = {STEPS}, EAGLE_EVERY = {EVERY}, "
          f"EAGLE_SHOWN = {DRAFT // EVERY} }};")
    print("/* clang-format off */")
    print("static const struct eagle_figure {")
    print("    const char *head;")
    print("    int row; /* 0: behind the text; then those that are drafted */")
    print("    float logit[EAGLE_SHOWN];")
    print("} eagle_figures[] = {")
    with torch.no_grad():
        heads = {name: run(make(how)) for name, how in HEADS.items()}
        heads.update((kind, run_block(make_block(kind))) for kind in BLOCKS)
        heads["medusa"] = run_medusa()
        for name, rows in heads.items():
            for i, row in enumerate(rows):
                shown = ", ".join(f"{float(v):.6f}f" for v in row[:DRAFT:EVERY])
                print(f'    {{"{name}", {i}, {{{shown}}}}},')
    print("};")
    sys.stdout.flush()


main()
