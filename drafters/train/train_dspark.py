"""Trains a head of DSpark (arXiv 2607.05147) for a frozen Llama and writes it as a folder of
config.json and safetensors, in DeepSeek's layout, which other programs read as well.

The backbone is DFlash's (arXiv 2602.06036): c = norm(fc(states)) of each token of the text gives
keys and values of every layer.  A block is the last token and copies of a mask token; its rows see
the text before it and each other, in both directions, and row k says what comes k + 1 places behind
the last token.  The Markov head adds W2 W1[x] to that, x the token at the place before.  The
confidence head says how likely a drafted token is to be accepted: it learns what the two
distributions share, and changes nothing of the rest.

Layers have the model's shape, and begin as the model's own where those are a Llama's; the Markov head's
first matrix begins as the embeddings' principal components.
"""
from pathlib import Path

from common import die
from drafting import Base, Run, chain_arguments, check, follow, rank_of, report
from llamafile import layers_of, norms_of, outer_matrices
from safetensorsfile import write_folder
from train_eagle import EPS, Pool, rms, turned
from train_s4c import frequent

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

DECAY = 0.8             # weight of a place against that of the one before it


class Head(nn.Module):
    """Names are those of the file."""

    def __init__(self, c, states, layers, ff, rank, n_draft, last_norm):
        """c: the model's Config, whose heads these layers have, too."""
        super().__init__()
        dim, n_vocab = c.dim, c.vocab
        self.layers, self.head_dim, self.heads, self.groups = layers, c.head_dim, c.heads, c.kv_heads
        self.theta = c.rope_base
        q, kv = self.heads * self.head_dim, self.groups * self.head_dim
        first = torch.zeros(dim, states * dim)
        first[:, -dim:] = torch.eye(dim)        # it begins with the last of the states
        w = {"fc": first, "hidden_norm": torch.ones(dim), "norm": last_norm.clone(),
             "markov_head.markov_w1": torch.randn(n_vocab, rank) * rank ** -0.5,
             "markov_head.markov_w2": torch.zeros(n_draft, rank),
             "confidence_head.proj": torch.zeros(1, dim + rank)}
        shapes = {"self_attn.q_proj": (q, dim), "self_attn.k_proj": (kv, dim),
                  "self_attn.v_proj": (kv, dim), "self_attn.o_proj": (dim, q),
                  "mlp.gate_proj": (ff, dim), "mlp.up_proj": (ff, dim), "mlp.down_proj": (dim, ff)}
        norms = {"input_layernorm": dim, "post_attention_layernorm": dim,
                 "self_attn.q_norm": self.head_dim, "self_attn.k_norm": self.head_dim}
        for i in range(layers):
            for name, (rows, row) in shapes.items():
                zero = name in ("self_attn.o_proj", "mlp.down_proj")
                start = torch.zeros(rows, row) if zero else torch.randn(rows, row) * row ** -0.5
                w[f"layers.{i}.{name}"] = start
            w |= {f"layers.{i}.{name}": torch.ones(n) for name, n in norms.items()}
        # no dots in names of parameters
        self.w = nn.ParameterDict({f"{name}.weight".replace(".", "/"): x for name, x in w.items()})

    @torch.no_grad()
    def take(self, layers, states):
        """Begins as these layers of the model, the first of which reads the last of the states: that one's
        keys and values of the text are then the model's own.  states [n][dim]: some of these."""
        first = layers[0]["input_layernorm"]
        x = rms(states, first)
        self.get("hidden_norm").copy_(first)
        for i, w in enumerate(layers):
            into = w["input_layernorm"] / first     # all read what the first one's norm leaves
            for part in "qkv":
                m = w[f"self_attn.{part}_proj"] * into
                self.of(i, f"self_attn.{part}_proj").copy_(m)
                if part != "v":
                    size = F.linear(x, m).unflatten(-1, (-1, self.head_dim)).pow(2).mean(-1).sqrt()
                    self.of(i, f"self_attn.{part}_norm").fill_(size.mean())
            self.of(i, "input_layernorm").copy_(first)
            for name in ("self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
                         "post_attention_layernorm"):
                self.of(i, name).copy_(w[name])

    @torch.no_grad()
    def know(self, table):
        """The Markov head's first matrix begins as the embeddings' principal components."""
        w1 = self.get("markov_head.markov_w1")
        x = table.float() - table.float().mean(0)
        _, axes = torch.linalg.eigh(x.T @ x)
        x = x @ axes[:, -w1.shape[1]:].to(x)
        w1.copy_(x * (w1.shape[1] ** -0.5 / x.pow(2).mean().sqrt()))

    def get(self, name):
        return self.w[f"{name}.weight".replace(".", "/")]

    def of(self, layer, name):
        return self.get(f"layers.{layer}.{name}")

    def keys(self, layer, x, at):
        """Keys and values of rows x [..., n, dim], which stand at the places at [..., n]."""
        k, v = (F.linear(x, self.of(layer, f"self_attn.{part}_proj")).unflatten(
            -1, (self.groups, self.head_dim)).transpose(-2, -3) for part in "kv")
        k = turned(rms(k, self.of(layer, "self_attn.k_norm")), at.unsqueeze(-2), self.theta)
        each = self.heads // self.groups
        return k.repeat_interleave(each, -3), v.repeat_interleave(each, -3)

    def attend(self, layer, x, at, text, hidden):
        """Of blocks x [B][A][K][dim] at the places at [B][A][K]: text, the keys and values [B][heads]
        [n][head_dim] of the text, of which a block does not see where hidden [B][A][n]."""
        q = F.linear(x, self.of(layer, "self_attn.q_proj")).unflatten(
            -1, (self.heads, self.head_dim)).transpose(-2, -3)              # [B][A][heads][K]
        q = turned(rms(q, self.of(layer, "self_attn.q_norm")), at.unsqueeze(-2), self.theta)
        own_k, own_v = self.keys(layer, x, at)
        text_k, text_v = (part.unsqueeze(1) for part in text)
        seen = (q @ text_k.transpose(-1, -2)).masked_fill(hidden[:, :, None, None], float("-inf"))
        n = seen.shape[-1]
        p = (torch.cat((seen, q @ own_k.transpose(-1, -2)), -1) * self.head_dim ** -0.5).softmax(-1)
        out = p[..., :n] @ text_v + p[..., n:] @ own_v
        return F.linear(out.transpose(-2, -3).flatten(-2), self.of(layer, "self_attn.o_proj"))

    def forward(self, states, x, anchors):
        """What blocks leave, normed [B][A][K][dim]: states [B][n][k][dim] of the text, embeddings x of
        the blocks, whose first rows stand at the places anchors [B][A] of the text."""
        rows = torch.arange(states.shape[1], device=states.device)
        c = rms(F.linear(states.flatten(-2), self.get("fc")), self.get("hidden_norm"))
        at = anchors[..., None] + torch.arange(x.shape[2], device=x.device)
        hidden = rows >= anchors[..., None]
        for i in range(self.layers):
            text = self.keys(i, c, rows.expand(len(c), -1))
            x = x + self.attend(i, rms(x, self.of(i, "input_layernorm")), at, text, hidden)
            y = rms(x, self.of(i, "post_attention_layernorm"))
            y = F.silu(F.linear(y, self.of(i, "mlp.gate_proj"))) * F.linear(y, self.of(i, "mlp.up_proj"))
            x = x + F.linear(y, self.of(i, "mlp.down_proj"))
        return rms(x, self.get("norm"))

    def markov(self, tokens):
        return F.embedding(tokens, self.get("markov_head.markov_w1"))

    def confidence(self, h, m):
        """Before the sigmoid; what it learns goes no further."""
        return F.linear(torch.cat((h, m), -1).detach(), self.get("confidence_head.proj"))[:, 0]

    def tensors(self):
        """As the file has them."""
        return {name.replace("/", "."): w.to(torch.bfloat16) for name, w in self.w.items()}


class Blocks(Pool):
    """Blocks behind random tokens of windows of the lessons' texts."""
    shows = "divergence of each place, confidence's error"

    def __init__(self, run, base, head, mask):
        super().__init__(run, base, head)
        self.mask = mask

    def loss(self, rng):
        rows, ends = self.windows(rng)
        block, width = self.args.block, self.args.window
        anchors = np.sort(rng.integers(1, width, (len(rows), self.args.blocks)), 1)
        lessons, device = self.lessons, self.base.table.device
        inside = np.minimum(rows, ends - 1)
        states = torch.from_numpy(lessons.states[inside.ravel()].astype(np.float32))
        p = rows[:, :1, None] + anchors[..., None] + np.arange(block)   # what the model says there
        good, at = p + 1 < ends[..., None], np.minimum(p, ends[..., None] - 1)
        after = np.minimum(at + 1, ends[..., None] - 1)
        good &= (lessons.mine[after.ravel()].reshape(at.shape) > 0) | (
            rng.random(at.shape) < self.args.rest)
        tokens = torch.from_numpy(lessons.tokens[at.ravel()].astype(np.int64)).view(at.shape)
        self.positions += anchors.size
        if not good.any():
            return torch.zeros((), requires_grad=True), [0.0] * (block + 1)
        with torch.autocast(device.type, torch.bfloat16):
            h = self.head(states.to(device).unflatten(0, rows.shape), self.embedded(tokens),
                          torch.from_numpy(anchors).to(device)).float()
        return self.compare(h[torch.from_numpy(good)], tokens[torch.from_numpy(good)].to(device),
                            at[good], np.nonzero(good)[2], rng)

    def embedded(self, tokens):
        """The raw embeddings of blocks: the last token, and the mask token for the others."""
        ids = torch.full(tokens.shape, self.mask)
        ids[..., 0] = tokens[..., 0]
        return self.base.table[ids.to(self.base.table.device)].float()

    def compare(self, h, before, at, place_of, rng):
        """h [n][dim] behind tokens `before`, with what the model said at the lessons' rows `at`."""
        base, head = self.base, self.head
        m, w2 = head.markov(before), head.get("markov_head.markov_w2")
        place, p = base.taught(at)
        some, share = base.sample(place, rng)
        log_sum = torch.logsumexp(
            F.linear(h.bfloat16(), base.output16[some]).float() + m @ w2[some].T - share, -1)
        bag = lambda w: F.embedding_bag(place.clamp(min=0), w, per_sample_weights=p, mode="sum")
        cross = p.sum(-1) * log_sum - (bag(base.output) * h).sum(-1) - (bag(w2) * m).sum(-1)
        with torch.no_grad():
            known = place.clamp(min=0)
            logits = (base.output[known] @ h[..., None] + w2[known] @ m[..., None])[..., 0]
            shared = torch.minimum((logits - log_sum[:, None]).exp(), p).sum(-1).clamp(max=1)
            divergence = cross + (p * p.clamp(min=1e-30).log()).sum(-1)
        sure = F.binary_cross_entropy_with_logits(head.confidence(h, m), shared)
        k = torch.from_numpy(place_of).to(h.device)
        shown = [divergence[k == i].mean().item() if (k == i).any() else 0.0
                 for i in range(self.args.block)]
        return (cross * DECAY ** k).mean() + sure, shown + [sure.item()]


@torch.no_grad()
def ranks(pool, text):
    """What measure() wants of a text."""
    base, head, block = pool.base, pool.head, pool.args.block
    x, best, mine = follow(base.lessons, text)
    n, device = len(x), base.table.device
    states = torch.from_numpy(base.lessons.states[text].astype(np.float32)).to(device)[None]
    out = torch.full((n, block), -1, dtype=torch.long)
    own = torch.zeros(n, block, dtype=torch.bool)
    for starts in torch.arange(n - 1).split(64):
        p = (starts[:, None] + 1 + torch.arange(block)).clamp(max=n - 1)
        h = head(states, pool.embedded(x[p])[None], (starts + 1)[None].to(device))[0]
        same = torch.ones(len(starts), dtype=torch.bool)
        for k in range(block):
            at = p[:, k]
            same = same & (x[at] == best[at - 1])
            good = mine[starts + 1] & (starts + 2 + k < n) & mine[(at + 1).clamp(max=n - 1)]
            own[starts, k] = same
            if good.any():
                logits = base.logits(h[good, k]) + (
                    head.markov(x[at[good]].to(device)) @ head.get("markov_head.markov_w2").T)
                out[starts[good], k] = rank_of(base, logits, best[at[good]]).cpu()
    return out.numpy(), own.numpy()


def config_of(run, head, args, vocab, mask):
    size = run.lessons.about["n_vocab"]
    return {"architectures": ["DSparkDraftModel"], "model_type": "qwen3",
            "hidden_size": run.dim, "intermediate_size": args.ff, "num_hidden_layers": head.layers,
            "num_attention_heads": head.heads, "num_key_value_heads": head.groups,
            "head_dim": head.head_dim, "hidden_act": "silu", "rms_norm_eps": EPS,
            "rope_theta": head.theta, "max_position_embeddings": 8192, "vocab_size": size,
            "draft_vocab_size": size if vocab is None else len(vocab),
            "num_target_layers": run.layers, "block_size": args.block, "mask_token_id": mask,
            # those whose output is read
            "target_layer_ids": [i - 1 for i in run.lessons.about["states"]],
            "markov_rank": args.rank, "markov_head_type": "vanilla", "enable_confidence_head": True,
            "confidence_head_with_markov": True, "sample_from_anchor": True,
            "tie_word_embeddings": False, "torch_dtype": "bfloat16"}


def options():
    a = chain_arguments(__doc__, "dspark")
    a.add_argument("--block", type=int, default=7, help="tokens of a draft (7)")
    a.add_argument("--layers", type=int, default=2, help="layers of the backbone (2)")
    a.add_argument("--rank", type=int, default=64, help="of the Markov head (64)")
    a.add_argument("--window", type=int, default=128, help="tokens of a text at once (128)")
    a.add_argument("--blocks", type=int, default=16, help="blocks in a window (16)")
    a.add_argument("--ff", type=int, help="width of the feed-forward parts (the model's)")
    a.add_argument("--draft-vocab", type=int, metavar="N",
                   help="draft only the N tokens most frequent in training answers")
    a.set_defaults(lr=0.001)
    return check(a.parse_args(), block=(2, 32), layers=(1, 12), rank=(1, 1024), window=(16, 4096),
                 blocks=(1, 4096), ff=(32, 1 << 16))


def main():
    args = options()
    run = Run(args)
    states = run.lessons.about.get("states")
    if not states or 0 in states:
        die(f"{args.lessons} holds no states of several layers above the embeddings: run teach with "
            f"--states, say --states 2,{run.layers // 2},{run.layers - 3}")
    last = states[-1]
    c, own = layers_of(args.model, [min(last + i, run.layers - 1) for i in range(args.layers)])
    args.ff = args.ff or c.ffn
    head = Head(c, len(states), args.layers, args.ff, args.rank, args.draft_vocab or c.vocab,
                norms_of(args.model)[1][-1].float())
    if own and args.ff == c.ffn:
        head.take(own, torch.from_numpy(run.lessons.states[:4096, -1].astype(np.float32)))
    head.know(outer_matrices(args.model)[0])
    run.begin(head, {"ff": args.ff, "block": args.block, "layers": args.layers, "rank": args.rank,
                     "draft_vocab": args.draft_vocab})
    # With more lessons these would be others. The mask is a token that no answer needs.
    mask = run.kept.setdefault("mask", int(np.argmin(run.lessons.counts())))
    vocab = None if args.draft_vocab is None else np.array(run.kept.setdefault(
        "vocab", [int(token) for token in frequent(run.lessons, args.draft_vocab)]))
    base = Base(run.lessons, args.model, args.device, vocab)
    pool = Blocks(run, base, head, mask)
    run.learn(pool)
    tensors = head.tensors()
    if vocab is not None:
        kept = torch.as_tensor(np.asarray(vocab, np.int64))
        tensors["d2t"] = kept - torch.arange(len(kept))
        tensors["t2d"] = torch.zeros(c.vocab, dtype=torch.bool)
        tensors["t2d"][kept] = True
    write_folder(args.output, config_of(run, head, args, vocab, mask), tensors)
    written = (Path(args.output) / "model.safetensors").stat().st_size
    print(f"{run.step} steps in {run.seconds() / 60:.1f} minutes; wrote {args.output}, {written} bytes",
          flush=True)
    report(run.lessons, args.block, "place", lambda text: ranks(pool, text))


if __name__ == "__main__":
    main()
