"""The class-conditional diffusion transformer (DiT, arXiv 2212.09748) and its sampler, in PyTorch.

Modules are named as the tensors of a GGUF file of architecture "dit", so that the file is a copy of
the state.  Shapes: B pictures, N tokens, C channels of a token, L blocks, c channels of a picture.
"""
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    layers: int = 12
    dim: int = 96
    heads: int = 4
    ffn: int = 384
    patch: int = 2
    size: int = 8               # side of the picture
    channels: int = 1
    classes: int = 10           # the null label is one more
    learned_variance: bool = True
    frequencies: int = 256      # numbers that a time step becomes
    shift: float = 0.0          # of the time features' frequencies: 1 in diffusers' program
    eps: float = 1e-6
    ffn_eps: float = 1e-6       # before the MLP: 1e-5 in diffusers' program
    steps: int = 1000           # of the diffusion
    beta_start: float = 1e-4
    beta_end: float = 0.02

    @property
    def out_channels(self):
        return self.channels * (2 if self.learned_variance else 1)

    @property
    def guided(self):
        """Channels that guidance is applied to; the reference never guides more than three."""
        return min(3, self.channels)


def positions(dim, side):
    """[side * side][dim]: the first half of the channels tells the column, the second the row."""
    at = torch.arange(side, dtype=torch.float64)
    omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    wave = at[:, None] * omega
    one = torch.cat((wave.sin(), wave.cos()), 1)
    column, row = one.repeat(side, 1), one.repeat_interleave(side, 0)
    return torch.cat((column, row), 1).float()


def time_features(t, count, shift):
    """[B][count] of steps [B]: cosines, then sines.

    Angles go up to 999, where a frequency's last bit in single precision counts: the order of the
    operations is that of the published programs."""
    half = count // 2
    i = torch.arange(half, dtype=torch.float32, device=t.device)
    wave = t.float()[:, None] * torch.exp(-math.log(10000.0) * i / (half - shift))
    return torch.cat((wave.cos(), wave.sin()), 1)


def modulated(x, shift, scale, eps):
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale) + shift


class Block(nn.Module):
    """adaLN-zero: a fresh block adds nothing."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.ada = nn.Linear(c.dim, 6 * c.dim)
        self.attn_qkv = nn.Linear(c.dim, 3 * c.dim)
        self.attn_output = nn.Linear(c.dim, c.dim)
        self.ffn_up = nn.Linear(c.dim, c.ffn)
        self.ffn_down = nn.Linear(c.ffn, c.dim)

    def attention(self, x, shift, scale):
        b, n, dim = x.shape
        qkv = self.attn_qkv(modulated(x, shift, scale, self.c.eps))
        q, k, v = qkv.view(b, n, 3, self.c.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.attn_output(mixed.transpose(1, 2).reshape(b, n, dim))

    def mlp(self, x, shift, scale):
        up = self.ffn_up(modulated(x, shift, scale, self.c.ffn_eps))
        return self.ffn_down(F.gelu(up, approximate="tanh"))


class DiT(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.patch_embd = nn.Linear(c.patch * c.patch * c.channels, c.dim)
        self.time_embd = nn.Sequential(nn.Linear(c.frequencies, c.dim), nn.SiLU(),
                                       nn.Linear(c.dim, c.dim))
        self.class_embd = nn.Embedding(c.classes + 1, c.dim)
        self.blk = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.output_ada = nn.Linear(c.dim, 2 * c.dim)
        self.output = nn.Linear(c.dim, c.patch * c.patch * c.out_channels)
        self.register_buffer("at", positions(c.dim, c.size // c.patch), persistent=False)
        self.fresh()

    def fresh(self):
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.xavier_uniform_(m.weight)
                nn.init.zeros_(m.bias)
        for e in (self.class_embd, self.time_embd[0], self.time_embd[2]):
            nn.init.normal_(e.weight, std=0.02)
        for e in [b.ada for b in self.blk] + [self.output_ada, self.output]:
            nn.init.zeros_(e.weight)

    def tokens(self, x):
        """[B][N][c * p * p] of pictures: patches row by row, in each channel, row, column."""
        b, p = len(x), self.c.patch
        n = self.c.size // p
        cut = x.view(b, self.c.channels, n, p, n, p)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, n * n, -1)

    def picture(self, rows):
        """[B][out][S][S] of token outputs, in each of which a pixel's channels stand together."""
        b, p = len(rows), self.c.patch
        n = self.c.size // p
        cut = rows.view(b, n, n, p, p, self.c.out_channels)
        return cut.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, self.c.size, self.c.size)

    def forward(self, x, t, y, branch=None):
        """x [B][c][S][S], t [B] steps 0..999, y [B] classes; [B][out][S][S].

        branch(i, compute): gives the output of branch i, 2 l the attention of block l, 2 l + 1 its
        MLP, before the gate; compute() computes it.  None: all are computed."""
        branch = branch or (lambda i, compute: compute())
        h = self.patch_embd(self.tokens(x)) + self.at
        wave = time_features(t, self.c.frequencies, self.c.shift)
        cond = F.silu(self.time_embd(wave) + self.class_embd(y))
        for l, block in enumerate(self.blk):
            sh1, sc1, g1, sh2, sc2, g2 = block.ada(cond)[:, None].chunk(6, -1)
            h = h + g1 * branch(2 * l, lambda: block.attention(h, sh1, sc1))
            h = h + g2 * branch(2 * l + 1, lambda: block.mlp(h, sh2, sc2))
        shift, scale = self.output_ada(cond)[:, None].chunk(2, -1)
        return self.picture(self.output(modulated(h, shift, scale, self.c.eps)))


# ---------------------------------------------------------------------------------------------
# The sampler.


class Steps:
    """The diffusion's constants at n spaced steps, in double precision; index 0 is the cleanest."""

    def __init__(self, c, n):
        self.c, self.n = c, n
        full = np.cumprod(1 - np.linspace(c.beta_start, c.beta_end, c.steps))
        self.t = np.round(np.arange(n) * (c.steps - 1) / max(1, n - 1)).astype(int)
        self.a = full[self.t]
        self.a_prev = np.append(1.0, self.a[:-1])
        self.beta = 1 - self.a / self.a_prev
        self.posterior = self.beta * (1 - self.a_prev) / (1 - self.a)
        self.log_posterior = np.log(np.append(self.posterior[1:2], self.posterior[1:]))
        self.mean_x0 = self.beta * np.sqrt(self.a_prev) / (1 - self.a)
        self.mean_x = (1 - self.a_prev) * np.sqrt(1 - self.beta) / (1 - self.a)

    def x0(self, x, eps, i):
        return float(np.sqrt(1 / self.a[i])) * x - float(np.sqrt(1 / self.a[i] - 1)) * eps

    def ddim(self, x, out, i):
        """The picture a step cleaner, without noise; out as the network gives it."""
        eps = out[:, :x.shape[1]]
        kept = float(np.sqrt(self.a_prev[i])) * self.x0(x, eps, i)
        return kept + float(np.sqrt(1 - self.a_prev[i])) * eps

    def ddpm(self, x, out, i):
        """Mean and log-variance of the picture a step cleaner."""
        eps, v = out[:, :x.shape[1]], out[:, x.shape[1]:]
        mean = float(self.mean_x0[i]) * self.x0(x, eps, i) + float(self.mean_x[i]) * x
        f = (v + 1) / 2
        return mean, f * float(np.log(self.beta[i])) + (1 - f) * float(self.log_posterior[i])


def guided(model, x, t, y, weight, branch=None):
    """The network's answer for x [B], guided: both halves see the same pictures."""
    null = torch.full_like(y, model.c.classes)
    both = model(torch.cat((x, x)), torch.full((2 * len(x),), float(t), device=x.device),
                 torch.cat((y, null)), branch)
    own, free = both.chunk(2)
    k = model.c.guided
    return torch.cat((free[:, :k] + weight * (own[:, :k] - free[:, :k]), own[:, k:]), 1)


@torch.no_grad()
def sample(model, y, n, weight, noise, branches=None):
    """Pictures [B][c][S][S] of classes y by n DDIM steps from noise.

    branches(i): what forward() takes as branch at step i, from n - 1 to 0."""
    steps, x = Steps(model.c, n), noise
    for i in reversed(range(n)):
        out = guided(model, x, steps.t[i], y, weight, branches and branches(i))
        x = steps.ddim(x, out, i)
    return x
