"""Trains a head of EAGLE-3 (arXiv 2503.01840) for a frozen Llama and writes it as a folder of
config.json and safetensors, in EAGLE's layout, which other programs read as well.

A row pairs a state with the token behind it: for tokens of the text the state is fc of the model's
states entering some layers (teach --states), for drafted ones what the row before left.  One layer,
a last norm, and the model's own output matrix say what comes next.  As in the paper the head learns
on what it leaves itself: step s of a row runs on its own state of step s - 1, sees the text up to
the row, and of the steps before its own row alone.  It learns the model's own distributions.
"""
from pathlib import Path

from common import die
from drafting import Base, Run, chain_arguments, check, follow, rank_of, report
from llamafile import norms_of
from safetensorsfile import write_folder
from train_s4c import frequent

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

DECAY = 0.8             # weight of a step against that of the one before it
EPS, THETA = 1e-5, 10000.0


def rms(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * weight


def turned(x, at, theta=THETA):
    """x [..., n, dim] turned by the positions at [..., n]: dimensions i and i + dim / 2 together."""
    half = x.shape[-1] // 2
    angle = at[..., None].float() * theta ** (-torch.arange(half, device=x.device) / half)
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Head(nn.Module):
    """Names are those of the file."""

    def __init__(self, dim, states, ff, last_norm):
        super().__init__()
        self.head_dim = 64 if dim % 64 == 0 else 32
        self.heads = dim // self.head_dim
        self.groups = self.heads // 3 if self.heads % 3 == 0 else self.heads
        q, kv = self.heads * self.head_dim, self.groups * self.head_dim
        first = torch.zeros(dim, states * dim)
        first[:, -dim:] = torch.eye(dim)        # it begins with the last of the states
        shapes = {"self_attn.q_proj": (q, 2 * dim), "self_attn.k_proj": (kv, 2 * dim),
                  "self_attn.v_proj": (kv, 2 * dim), "self_attn.o_proj": (dim, q),
                  "mlp.gate_proj": (ff, dim), "mlp.up_proj": (ff, dim), "mlp.down_proj": (dim, ff)}
        # no dots in names of parameters
        self.w = nn.ParameterDict({"fc/weight": first, "norm/weight": last_norm.clone()})
        for name in ("input_layernorm", "hidden_norm", "post_attention_layernorm"):
            self.w[f"midlayer/{name}/weight"] = torch.ones(dim)
        for name, (rows, row) in shapes.items():
            zero = name in ("self_attn.o_proj", "mlp.down_proj")
            start = torch.zeros(rows, row) if zero else torch.randn(rows, row) * row ** -0.5
            self.w[f"midlayer.{name}.weight".replace(".", "/")] = start

    def get(self, name):
        return self.w[f"midlayer.{name}.weight".replace(".", "/")]

    def first(self, states):
        """What rows of the text begin with; states [..., k, dim]."""
        return F.linear(states.flatten(-2), self.w["fc/weight"])

    def split(self, x, groups):
        return x.unflatten(-1, (groups, self.head_dim)).transpose(-2, -3)

    def attend(self, q, kept, step):
        """q [B][heads][n][dim] of rows at this step; kept: keys and values of all steps so far."""
        k, v = (x.repeat_interleave(self.heads // self.groups, 1) for x in kept[0])
        n, scale = q.shape[-2], self.head_dim ** -0.5
        scores = [(q @ k.transpose(-1, -2) * scale).masked_fill(
            torch.ones(n, n, dtype=torch.bool, device=q.device).triu(1), float("-inf"))]
        own = [[x.repeat_interleave(self.heads // self.groups, 1) for x in one]
               for one in kept[1:step + 1]]
        scores += [(q * one[0]).sum(-1, keepdim=True) * scale for one in own]
        p = torch.cat(scores, -1).softmax(-1)
        out = p[..., :n] @ v
        for i, one in enumerate(own):
            out = out + p[..., n + i, None] * one[1]
        return out

    def forward(self, e, g, kept, step):
        """What rows leave, of raw embeddings and states [B][n][dim]; kept gets their keys and values."""
        at = torch.arange(e.shape[1], device=e.device) + step
        x = torch.cat((rms(e, self.get("input_layernorm")), rms(g, self.get("hidden_norm"))), -1)
        q, k, v = (self.split(F.linear(x, self.get(f"self_attn.{part}_proj")), groups)
                   for part, groups in (("q", self.heads), ("k", self.groups), ("v", self.groups)))
        kept.append((turned(k, at), v))
        out = self.attend(turned(q, at), kept, step).transpose(-2, -3).flatten(-2)
        h = g + F.linear(out, self.get("self_attn.o_proj"))
        x = rms(h, self.get("post_attention_layernorm"))
        up = F.silu(F.linear(x, self.get("mlp.gate_proj"))) * F.linear(x, self.get("mlp.up_proj"))
        return h + F.linear(up, self.get("mlp.down_proj"))

    def said(self, h):
        return rms(h, self.w["norm/weight"])

    def tensors(self):
        """As the file has them."""
        return {name.replace("/", "."): w.to(torch.bfloat16) for name, w in self.w.items()}


class Pool:
    """Windows of the lessons' texts."""
    shows = "divergence"

    def __init__(self, run, base, head):
        self.lessons, self.args, self.base, self.head = run.lessons, run.args, base, head
        self.positions = 0
        self.texts = [t for t in self.lessons.learned() if t.stop - t.start >= 16]
        lengths = np.array([t.stop - t.start for t in self.texts], float)
        if not len(lengths):
            die("the lessons hold no text of 16 tokens")
        self.chance = lengths / lengths.sum()

    def windows(self, rng):
        """Rows [B][W] of random windows, and where the text of each ends."""
        width, starts, ends = self.args.window, [], []
        for i in rng.choice(len(self.texts), self.args.batch // width + 1, p=self.chance):
            t = self.texts[i]
            starts.append(t.start + rng.integers(max(t.stop - t.start - width, 0) + 1))
            ends.append(t.stop)
        return np.array(starts)[:, None] + np.arange(width), np.array(ends)[:, None]

    def loss(self, rng):
        base, head, lessons = self.base, self.head, self.lessons
        rows, ends = self.windows(rng)
        inside = np.minimum(rows, ends - 1)
        states = torch.from_numpy(lessons.states[inside.ravel()].astype(np.float32))
        g = head.first(states.to(base.table.device).unflatten(0, rows.shape))
        loss, shown, kept = 0.0, [], []
        for step in range(self.args.ahead):
            p = rows + 1 + step                 # where the model itself says the same
            good = p + 1 < ends
            at = np.minimum(p, ends - 1)
            good &= (lessons.mine[np.minimum(at + 1, ends - 1).ravel()].reshape(at.shape) > 0) | (
                rng.random(at.shape) < self.args.rest)
            token = torch.from_numpy(lessons.tokens[at.ravel()].astype(np.int64)).to(g.device)
            e = base.table[token].float().unflatten(0, at.shape)
            with torch.autocast(g.device.type, torch.bfloat16):
                g = head(e, g, kept, step).float()
            if not good.any():
                break
            chosen = head.said(g)[torch.from_numpy(good)]
            cross, divergence = base.divergence(chosen, *base.taught(at[good]), rng)
            shown.append(divergence.mean().item())
            loss = loss + DECAY ** step * cross.mean()
        self.positions += rows.size
        return loss, shown + [0.0] * (self.args.ahead - len(shown))


@torch.no_grad()
def ranks(base, head, text, ahead):
    """What measure() wants of a text."""
    x, best, mine = follow(base.lessons, text)
    n, device = len(x), base.table.device
    states = torch.from_numpy(base.lessons.states[text].astype(np.float32)).to(device)
    out = torch.full((n, ahead), -1, dtype=torch.long)
    own = torch.zeros(n, ahead, dtype=torch.bool)
    g, kept, same = head.first(states)[None], [], torch.ones(n, dtype=torch.bool)
    rows = torch.arange(n)
    for step in range(ahead):
        p = (rows + 1 + step).clamp(max=n - 1)
        g = head(base.table[x[p].to(device)].float()[None], g, kept, step)
        first = mine[(rows + 1).clamp(max=n - 1)]
        at = (first & (rows + 2 + step < n) & mine[(p + 1).clamp(max=n - 1)]).nonzero()[:, 0]
        same = same & (x[p] == best[p - 1])
        if not len(at):
            break
        logits = base.logits(head.said(g[0, at.to(device)]))
        out[at, step] = rank_of(base, logits, best[p[at]]).cpu()
        own[at, step] = same[at]
    return out.numpy(), own.numpy()


def config_of(run, head, ff, vocab):
    size = run.lessons.about["n_vocab"]
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
            "hidden_size": run.dim, "intermediate_size": ff, "num_hidden_layers": 1,
            "num_attention_heads": head.heads, "num_key_value_heads": head.groups,
            "head_dim": head.head_dim, "hidden_act": "silu", "rms_norm_eps": EPS,
            "rope_theta": THETA, "max_position_embeddings": 8192, "vocab_size": size,
            "draft_vocab_size": size if vocab is None else len(vocab),
            "eagle_aux_hidden_state_layer_ids": run.lessons.about["states"],
            "tie_word_embeddings": False, "torch_dtype": "bfloat16"}


def options():
    a = chain_arguments(__doc__, "eagle3")
    a.add_argument("--ahead", type=int, default=4, help="steps on its own states, and one (4)")
    a.add_argument("--window", type=int, default=128, help="tokens of a text at once (128)")
    a.add_argument("--ff", type=int, help="width of the feed-forward part (8/3 of the model's)")
    a.add_argument("--draft-vocab", type=int, metavar="N",
                   help="draft only the N tokens most frequent in training answers")
    a.set_defaults(lr=0.001)
    return check(a.parse_args(), ahead=(1, 8), window=(16, 4096), ff=(32, 1 << 16))


def main():
    args = options()
    run = Run(args)
    if not run.lessons.about.get("states"):
        die(f"{args.lessons} holds no states of several layers: run teach with --states, say "
            f"--states 2,{run.layers // 2},{run.layers - 3}")
    vocab = None if args.draft_vocab is None else frequent(run.lessons, args.draft_vocab)
    base = Base(run.lessons, args.model, args.device, vocab)
    ff = args.ff or -(-8 * run.dim // 3 // 64) * 64
    head = Head(run.dim, len(run.lessons.about["states"]), ff, norms_of(args.model)[1][-1].float())
    run.begin(head, {"ff": ff, "ahead": args.ahead, "draft_vocab": args.draft_vocab})
    run.learn(Pool(run, base, head))
    tensors = head.tensors()
    if vocab is not None:
        kept = torch.as_tensor(np.asarray(vocab, np.int64))
        tensors["d2t"] = kept - torch.arange(len(kept))
        tensors["t2d"] = torch.zeros(run.lessons.about["n_vocab"], dtype=torch.bool)
        tensors["t2d"][kept] = True
    write_folder(args.output, config_of(run, head, ff, vocab), tensors)
    size = (Path(args.output) / "model.safetensors").stat().st_size
    print(f"{run.step} steps in {run.seconds() / 60:.1f} minutes; wrote {args.output}, {size} bytes",
          flush=True)
    report(run.lessons, args.ahead, "step", lambda text: ranks(base, head, text, args.ahead))


if __name__ == "__main__":
    main()
