# SPDX-License-Identifier: Apache-2.0
"""Prints tests/ditfigures.h: what diffusers says for small diffusion transformers.

    python3 tests/reference_dit.py > tests/ditfigures.h && ./dev format

It needs torch and diffusers, and reads nothing: weights and pictures come from the recipe in
tests/archmodels.h, started by the tensors' names in a GGUF file of architecture "dit".  The tests
read the figures only, so this runs when a model is added or changed.

The network is diffusers' DiTTransformer2DModel.  Its time frequencies and the epsilon before its MLP
are not those of facebookresearch/DiT; "original" has the latter's.  The sampler stands here, in
double precision; at 1,000 steps its mean and log-variance are compared with diffusers' DDPMScheduler.
A network of chance removes no noise, so pictures grow to some hundreds with the usual betas ("latent");
with those of "pixel" they stay small.
"""
import sys
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDPMScheduler, DiTTransformer2DModel

# GGUF's names of a block's tensors, and diffusers'; attn_qkv is three there.
BLOCK = {"ada": "norm1.linear", "attn_output": "attn1.to_out.0", "ffn_up": "ff.net.0.proj",
         "ffn_down": "ff.net.2"}
EMBEDDED = "transformer_blocks.{}.norm1.emb.{}"     # every block has a copy


@dataclass
class Small:
    name: str
    layers: int
    dim: int
    heads: int
    patch: int
    size: int
    channels: int
    out_channels: int
    classes: int
    t: tuple
    y: tuple
    shift: int = 1          # of the time frequencies
    ffn_eps: float = 1e-5
    beta_end: float = 0.02
    steps: int = 0
    guidance: float = 1.0
    label: int = 0


MODELS = [
    Small("latent", 4, 32, 4, 2, 6, 4, 8, 5, (7, 999), (3, 5), steps=10, guidance=1.5, label=2),
    Small("original", 4, 32, 4, 2, 6, 4, 8, 5, (7, 999), (3, 5), shift=0, ffn_eps=1e-6),
    Small("pixel", 2, 24, 2, 1, 5, 1, 1, 3, (500, 0), (0, 2), beta_end=0.002, steps=10, guidance=2.0, label=1),
]


def weights(name, shape):
    """Elements of a GGUF tensor of the shape [n_out, n_in] or [n], as tests/archmodels.h says."""
    s = 1
    for c in name.encode():
        s = (s * 31 + c) & 0xFFFFFFFF
    u = np.empty(int(np.prod(shape)))
    for i in range(len(u)):
        s = (s * 1664525 + 1013904223) & 0xFFFFFFFF
        u[i] = (s >> 8) / 2**24 - 0.5
    gain = 4 if name == "input" else 0.5 if name.endswith(".bias") else \
        2 if name == "class_embd.weight" else 4 / np.sqrt(shape[-1])
    return torch.from_numpy((gain * u).astype(np.float32).reshape(shape))


def made(m):
    """diffusers' model with the recipe's weights."""
    model = DiTTransformer2DModel(
        num_attention_heads=m.heads, attention_head_dim=m.dim // m.heads, in_channels=m.channels,
        out_channels=m.out_channels, num_layers=m.layers, sample_size=m.size, patch_size=m.patch,
        num_embeds_ada_norm=m.classes).eval()
    left = dict(model.named_parameters())

    def put(theirs, value):
        with torch.no_grad():
            left.pop(theirs).copy_(value)

    def linear(name, theirs, n_out, n_in, conv=None):
        put(theirs + ".weight", weights(name + ".weight", (n_out, n_in)).reshape(conv or (n_out, n_in)))
        put(theirs + ".bias", weights(name + ".bias", (n_out,)))

    c, area = m.dim, m.patch * m.patch
    linear("patch_embd", "pos_embed.proj", c, area * m.channels, (c, m.channels, m.patch, m.patch))
    linear("output_ada", "proj_out_1", 2 * c, c)
    linear("output", "proj_out_2", area * m.out_channels, c)
    for i in range(m.layers):
        linear("time_embd.0", EMBEDDED.format(i, "timestep_embedder.linear_1"), c, 256)
        linear("time_embd.2", EMBEDDED.format(i, "timestep_embedder.linear_2"), c, c)
        put(EMBEDDED.format(i, "class_embedder.embedding_table.weight"),
            weights("class_embd.weight", (m.classes + 1, c)))
        for ours, theirs in BLOCK.items():
            shape = left[f"transformer_blocks.{i}.{theirs}.weight"].shape
            linear(f"blk.{i}.{ours}", f"transformer_blocks.{i}.{theirs}", *shape)
        for what in ("weight", "bias"):
            shape = (3 * c, c) if what == "weight" else (3 * c,)
            for part, value in zip("qkv", weights(f"blk.{i}.attn_qkv.{what}", shape).chunk(3)):
                put(f"transformer_blocks.{i}.attn1.to_{part}.{what}", value)
        model.transformer_blocks[i].norm1.emb.time_proj.downscale_freq_shift = m.shift
        model.transformer_blocks[i].norm3.eps = m.ffn_eps
    assert not left, left
    return model


@torch.no_grad()
def answer(model, x, t, y):
    return model(x, timestep=torch.tensor(t), class_labels=torch.tensor(y)).sample


class Sampler:
    def __init__(self, m, n):
        full = np.cumprod(1 - np.linspace(1e-4, m.beta_end, 1000))
        self.m, self.t = m, np.round(np.arange(n) * 999 / (n - 1)).astype(int)
        self.a = full[self.t]
        self.prev = np.concatenate(([1.0], self.a[:-1]))

    def guided(self, model, x, i):
        """The network's answer [out][S][S] for one picture in double precision: up to three channels
        are guided, the others keep what the class alone gives."""
        m = self.m
        own, free = answer(model, torch.from_numpy(x).float()[None].repeat(2, 1, 1, 1),
                           [self.t[i]] * 2, [m.label, m.classes]).double().numpy()
        k = min(3, m.channels)
        return np.concatenate((free[:k] + m.guidance * (own[:k] - free[:k]), own[k:]))

    def x0(self, x, out, i):
        return (x - np.sqrt(1 - self.a[i]) * out[:len(x)]) / np.sqrt(self.a[i])

    def ddim(self, x, out, i):
        return np.sqrt(self.prev[i]) * self.x0(x, out, i) + np.sqrt(1 - self.prev[i]) * out[:len(x)]

    def ddpm(self, x, out, i):
        """Mean and log-variance (None if the network has none)."""
        a, prev = self.a, self.prev
        beta = 1 - a / prev
        true = beta * (1 - prev) / (1 - a)
        mean = (beta[i] * np.sqrt(prev[i]) * self.x0(x, out, i)
                + (1 - prev[i]) * np.sqrt(1 - beta[i]) * x) / (1 - a[i])
        if len(out) == len(x):
            return mean, None
        f = (out[len(x):] + 1) / 2
        return mean, f * np.log(beta[i]) + (1 - f) * np.log(true[max(i, 1)])


def check_ddpm():
    """The sampler's mean and log-variance against DDPMScheduler's, where both have all steps."""
    s = Sampler(MODELS[0], 1000)
    theirs = DDPMScheduler(variance_type="learned_range", clip_sample=False)
    rng = np.random.default_rng(0)
    for i in (1, 250, 999):
        x, out = rng.standard_normal((4, 3, 3)), rng.uniform(-1, 1, (8, 3, 3))
        mean, log_variance = s.ddpm(x, out, i)
        torch.manual_seed(0)
        got = theirs.step(torch.from_numpy(out)[None], i, torch.from_numpy(x)[None]).prev_sample[0]
        torch.manual_seed(0)
        noise = torch.randn((1, 4, 3, 3), dtype=torch.float64)[0].numpy()
        error = np.abs(mean + np.exp(log_variance / 2) * noise - got.numpy()).max()
        assert error < 1e-3, f"step {i}: {error}"  # the scheduler keeps its constants in single precision


def array(name, kind, values):
    values = np.asarray(values).ravel()
    text = [f"{v:.8g}f" if "." in f"{v:.8g}" or "e" in f"{v:.8g}" else f"{v:.8g}.0f"
            for v in values] if kind == "float" else [str(int(v)) for v in values]
    lines, line = [], "   "
    for word in text:
        if len(line) + len(word) + 2 > 100:
            lines.append(line)
            line = "   "
        line += f" {word},"
    print(f"static const {kind} {name}[] = {{", *lines, line, "};", sep="\n")


def figures(m):
    """Prints the arrays of a model, and gives its line of the table."""
    model = made(m)
    x = weights("input", (len(m.t), m.channels, m.size, m.size))
    array(f"{m.name}_t", "int", m.t)
    array(f"{m.name}_y", "int", m.y)
    array(f"{m.name}_out", "float", answer(model, x, m.t, m.y).numpy())
    names = {k: "NULL" for k in ("ddim", "mean", "log_variance")}
    if m.steps:
        s, at, path = Sampler(m, m.steps), x[0].double().numpy(), []
        for i in reversed(range(m.steps)):
            at = s.ddim(at, s.guided(model, at, i), i)
            path.append(at)
        start = x[0].double().numpy()
        drawn = [s.ddpm(start, s.guided(model, start, i), i) for i in (m.steps // 2, 0)]
        for name, values in (("ddim", path), ("mean", [d[0] for d in drawn]),
                             ("log_variance", [d[1] for d in drawn])):
            if values[0] is not None:
                array(f"{m.name}_{name}", "float", values)
                names[name] = f"{m.name}_{name}"
    row = {k: getattr(m, k) for k in ("layers", "dim", "heads", "patch", "size", "channels",
                                      "out_channels", "classes", "shift", "ffn_eps", "beta_end",
                                      "steps", "guidance", "label")}
    row |= {"ffn": 4 * m.dim, "n": len(m.t), **{k: f"{m.name}_{k}" for k in ("t", "y", "out")}} | names
    return f'    {{.name = "{m.name}", ' + ", ".join(f".{k} = {v}" for k, v in row.items()) + "},"


HEAD = """/* SPDX-License-Identifier: Apache-2.0
 * Written by tests/reference_dit.py: do not edit.
 * What diffusers %s says for small diffusion transformers. Weights and pictures follow the recipe
 * of archmodels.h, in class_embd.weight as in token_embd.weight; pictures are the tensor "input"
 * [n][channels][size][size], whose elements are 4u. */
#ifndef FTK_TESTS_DITFIGURES_H
#define FTK_TESTS_DITFIGURES_H

#include <stddef.h>
"""

TABLE = """
typedef struct dit_figures {
    const char *name;
    int layers, dim, heads, ffn, patch, size, channels, out_channels, classes;
    double shift;   /* of the time frequencies */
    double ffn_eps; /* of the norm before the MLP; the others have 1e-6 */
    double beta_end;
    int n;          /* pictures of the single pass */
    const int *t, *y;        /* [n]; y == classes: the null label */
    const float *out;        /* [n][out_channels][size][size] */
    int steps;               /* of the DDIM run from the first picture; 0: none */
    double guidance;
    int label;
    const float *ddim;       /* [steps][channels][size][size], after each step, the noisiest first */
    const float *mean;       /* [2][channels][size][size]: DDPM's at index steps / 2, and at 0, */
    const float *log_variance; /* both from the first picture; NULL: none is learned */
} dit_figures;

static const dit_figures dit_figures_all[] = {"""


def main():
    import diffusers
    torch.set_num_threads(1)
    check_ddpm()
    print(HEAD % diffusers.__version__)
    rows = [figures(m) for m in MODELS]
    print(TABLE, *rows, "};", "", "#endif", sep="\n")


if __name__ == "__main__":
    sys.exit(main())
