"""Trains TR-Jacobi's adapter: a LoRA by which a frozen model goes on sensibly behind wrong tokens.

After "Make Some Noise" (arXiv 2406.17404): inside answers, runs of L = 5 input tokens become noise, each
drawn from all tokens before it, and the labels stay clean.  There the whole model is fine-tuned on the
noisy text.  Here the noise hangs on the clean text as branches of a tree, as the tokens of a draft do
when the runtime verifies one: a run sees the clean text before it and itself, and nothing sees a run.
So a text has room for many runs, and its clean rows are read in the same pass.

What is learned is what the frozen model itself says of the clean text, as the program teach kept it:
its distribution, for the clean rows, so that it stays the model it was, and for the noisy ones that of
the clean row at the same place.  Of the layers below the first that gets an adapter no gradients are
made.  The output is an adapter's GGUF file as llama.cpp has them.
"""
from pathlib import Path

from common import die
from drafting import Base, LogSumExp, Run, arguments, check
from llamafile import load_frozen, stored_rows

import gguf
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

NOISE_LENGTH = 5        # L
DECAY = 0.8             # weight of a noisy place against that of the one before it
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
HELD = 24               # texts of the report
LOGITS = 1 << 24        # that are made at once


# ---------------------------------------------------------------------------------------------
# The adapter.


class Pair(nn.Module):
    """W becomes W + scale * B A; A [rank][n_in] and B [n_out][rank] of one tensor of the file."""

    def __init__(self, n_in, n_out, rank):
        super().__init__()
        self.a = nn.Parameter(torch.randn(rank, n_in) * n_in ** -0.5)
        self.b = nn.Parameter(torch.zeros(n_out, rank))


class Adapted(nn.Module):
    """A frozen matrix with rows [first, first + n_out) of a pair."""

    def __init__(self, linear, pair, first, scale):
        super().__init__()
        self.linear, self.pair, self.scale = linear, pair, scale
        self.rows = slice(first, first + linear.out_features)

    def forward(self, x):
        y = self.linear(x)
        if not self.scale:
            return y
        a, b = self.pair.a.to(x.dtype), self.pair.b[self.rows].to(x.dtype)
        low = F.linear(x, a).flatten(0, -2)
        return torch.addmm(y.flatten(0, -2), low, b.T, alpha=self.scale).view_as(y)


class Adapter(nn.Module):
    """Pairs for tensors of the layers `layers` of a model, which uses them from then on."""

    def __init__(self, model, layers, targets, rank, alpha):
        super().__init__()
        self.names, self.pairs, self.adapted = [], nn.ModuleList(), []
        self.alpha, self.scale = alpha, alpha / rank
        fused = stored_rows(model.c)
        for layer in layers:
            block, found = model.blk[layer], {}
            for part in MATRICES:
                name, first, _ = fused.get(part, (part, 0, 0))
                if name in targets:
                    found.setdefault(name, []).append((part, first))
            for name, parts in found.items():
                linears = [getattr(block, part) for part, _ in parts]
                pair = Pair(linears[0].in_features, sum(l.out_features for l in linears), rank)
                self.names.append(f"blk.{layer}.{name}.weight")
                self.pairs.append(pair)
                for linear, (part, first) in zip(linears, parts):
                    setattr(block, part, Adapted(linear, pair, first, self.scale))
                    self.adapted.append(getattr(block, part))

    def use(self, used):
        for m in self.adapted:
            m.scale = self.scale if used else 0.0


def write_adapter(path, adapter, arch, name, kind):
    part = f"{path}.part"
    try:
        w = gguf.GGUFWriter(part, arch)
        w.add_type("adapter")
        w.add_name(name)
        w.add_string("adapter.type", "lora")
        w.add_float32("adapter.lora.alpha", adapter.alpha)
        for name, pair in zip(adapter.names, adapter.pairs):
            for letter, p in (("a", pair.a), ("b", pair.b)):
                w.add_tensor(f"{name}.lora_{letter}", p.detach().cpu().numpy().astype(kind))
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        Path(part).rename(path)
    except OSError as e:
        die(f"cannot write {path}: {e}")


# ---------------------------------------------------------------------------------------------
# Texts with noise on them.


class Tree:
    """A text and its runs of noise: ids and positions of all rows, the text's first; before [row]: the
    text's tokens that a row sees, run [row]: which it belongs to, 0 for the text itself.  What is
    learned: rows, the text's rows that say it of them, and how far into a run each is; of clean ones 0 in
    answers and -1 elsewhere."""

    def __init__(self, ids, mine, runs, rng):
        n = len(ids)
        starts = draw_starts(mine, runs, rng)[:, None]
        place = np.arange(NOISE_LENGTH)
        noise = np.zeros((len(starts), NOISE_LENGTH), ids.dtype)
        for j in place:         # of the text before the run, or of the run so far
            at = rng.integers(0, starts[:, 0] + j)
            inside = at - starts[:, 0]
            noise[:, j] = np.where(inside < 0, ids[np.minimum(at, n - 1)],
                                   noise[np.arange(len(starts)), np.maximum(inside, 0)])
        text = np.arange(n)
        clean = text[:-1]
        whole = lambda v: np.broadcast_to(v, noise.shape).ravel()
        self.n, self.size = n, n + noise.size
        self.ids = np.concatenate((ids, noise.ravel()))
        self.position = np.concatenate((text, (starts + place).ravel()))
        self.before = np.concatenate((text + 1, whole(starts)))
        self.run = np.concatenate((np.zeros(n, int), whole(1 + np.arange(len(starts))[:, None])))
        self.rows = np.concatenate((clean, np.arange(n, self.size)))
        self.says = np.concatenate((clean, (starts + place).ravel()))
        self.depth = np.concatenate((mine[1:].astype(int) - 1, whole(1 + place)))

    def seen(self, device):
        """Which rows a row sees, [rows][rows], and how many tokens lie between them."""
        before, run, position = (torch.from_numpy(v).to(device) for v in
                                 (self.before, self.run, self.position))
        row = torch.arange(self.size, device=device)
        text = row[None] < before[:, None]
        own = (run[:, None] == run[None]) & (run[:, None] > 0) & (row[None] <= row[:, None])
        return text | own, position[:, None] - position[None]


def draw_starts(mine, every, rng):
    """Where runs begin: about one for `every` tokens of answers, each within one of them, and with a
    token of it behind."""
    if len(mine) <= NOISE_LENGTH:
        return np.zeros(0, int)
    inside = np.lib.stride_tricks.sliding_window_view(mine, NOISE_LENGTH + 1).all(1)
    good = np.flatnonzero(inside[1:]) + 1       # noise needs a token before it
    return np.sort(rng.choice(good, max(1, len(good) // every), replace=False)) if len(good) else good


class Forest:
    """Trees side by side in one pass, each of which sees itself only."""

    def __init__(self, trees, model, device):
        self.trees, self.masks = trees, []
        offsets = np.cumsum([0] + [t.size for t in trees])
        whole = lambda parts: torch.from_numpy(np.concatenate(parts)).to(device)
        self.ids = whole([t.ids for t in trees])
        self.position = whole([t.position for t in trees])
        self.rows = whole([t.rows + at for t, at in zip(trees, offsets)])
        self.depth = whole([t.depth for t in trees])
        for t in trees:
            seen, distance = t.seen(device)
            mask = lambda s: torch.zeros(s.shape, device=device).masked_fill_(~s, float("-inf"))
            self.masks.append({w: mask(seen & (distance < w) if w else seen)
                               for w in {b.window for b in model.blk}})

    def attention(self, q, k, v, scale, window):
        """In place of common.causal_attention()."""
        out, at, kv = [], 0, k.shape[1]
        for t, masks in zip(self.trees, self.masks):
            queries, keys, values = (u[0, :, at:at + t.size] for u in (q, k, v))
            queries = queries.reshape(kv, -1, q.shape[3])       # heads that share keys, row by row
            score = (queries @ keys.mT).float().mul_(scale).view(-1, t.size, t.size)
            p = score.add_(masks[window]).softmax(-1).to(q.dtype)
            out.append((p.view(kv, -1, t.size) @ values).view(-1, t.size, q.shape[3]))
            at += t.size
        return torch.cat(out, 1)[None]

    def features(self, model, first=0):
        """Of the rows to learn, [rows][dim]; gradients go down to the layer `first`."""
        x = model.embed(self.ids[None])
        cos, sin = (u[self.position].to(x.dtype) for u in (model.cos, model.sin))
        with torch.no_grad():
            for block in model.blk[:first]:
                x = block(x, cos, sin, self.attention)
        for block in model.blk[first:]:
            x = block(x, cos, sin, self.attention)
        return model.output_norm(x[0, self.rows]).float()


# ---------------------------------------------------------------------------------------------
# Learning.


class Pool:
    shows = "divergence of clean and of noisy places"

    def __init__(self, run, base, model, first):
        self.lessons, self.base, self.model, self.first = run.lessons, base, model, first
        self.args, self.positions = run.args, 0
        self.texts = [t for t in run.lessons.learned() if run.lessons.mine[t][1:].any()]
        if not self.texts:
            die(f"{run.args.lessons} holds no answers to learn from: let teach go on")

    def draw(self, rng):
        """Trees of random texts until their rows fill a step; the rows of the lessons behind them."""
        trees, rows, size = [], [], 0
        while size < self.args.batch:
            text = self.texts[rng.integers(len(self.texts))]
            trees.append(tree_of(self.lessons, text, self.args.noise_every, rng))
            rows.append(text.start + trees[-1].says)
            size += trees[-1].size
        return trees, np.concatenate(rows)

    def divergence(self, g, rows, rng):
        """Of features g from what the lessons say of the same places, over a sample of the vocabulary:
        the same one for both, so that no gradient is left where they agree."""
        base = self.base
        f = torch.from_numpy(self.lessons.feature[rows].astype(np.float32)).to(g.device)
        sample = base.sample(base.taught(rows)[0], rng)
        total = LogSumExp.apply(f.requires_grad_(), base.output16, *sample)
        expected, = torch.autograd.grad(total.sum(), f)
        return LogSumExp.apply(g, base.output16, *sample) - total.detach() - \
            ((g - f.detach()) * expected).sum(-1)

    def loss(self, rng):
        args, (trees, rows) = self.args, self.draw(rng)
        forest = Forest(trees, self.model, args.device)
        away = self.divergence(forest.features(self.model, self.first), rows, rng)
        clean = forest.depth <= 0
        weight = torch.where(clean, 0.0, DECAY ** (forest.depth - 1))
        noisy = (weight * away).sum() / weight.sum().clamp(min=1)
        self.positions += len(rows)
        kept = away[clean].mean()
        return args.clean * kept + noisy, (kept.item(), noisy.item())


def tree_of(lessons, text, every, rng):
    return Tree(lessons.tokens[text].astype(np.int64), lessons.mine[text].astype(bool), every, rng)


# ---------------------------------------------------------------------------------------------
# The report.


def said(base, g, following, own):
    """Of features g: the logarithms of probabilities, those of the following tokens, and whether the
    likeliest is the model's own."""
    for part in torch.arange(len(g)).split(max(1, LOGITS // len(base.table))):
        logs = F.log_softmax(base.logits(g[part]), -1)
        yield logs, logs.gather(1, following[part, None])[:, 0], logs.argmax(-1) == own[part]


@torch.no_grad()
def measure(run, base, model, adapter, text, rng):
    """Of the rows of a text's tree: depths, [rows][2] for the model without and with the adapter: the loss
    and whether the model's own next token is the likeliest; the divergence of the second from the first."""
    tree = tree_of(run.lessons, text, run.args.noise_every, rng)
    forest = Forest([tree], model, run.args.device)
    features = []
    for used in (False, True):
        adapter.use(used)
        features.append(forest.features(model))
    device = features[0].device
    following = torch.from_numpy(tree.ids[tree.says + 1]).to(device)
    own = torch.from_numpy(run.lessons.best[text.start + tree.says, 0].astype(np.int64)).to(device)
    loss, right, away = [], [], []
    for before, after in zip(*(said(base, g, following, own) for g in features)):
        loss.append(-torch.stack((before[1], after[1]), -1))
        right.append(torch.stack((before[2], after[2]), -1))
        away.append((before[0].exp() * (before[0] - after[0])).sum(-1))
    return [tree.depth] + [torch.cat(v).double().cpu().numpy() for v in (loss, right, away)]


def report(run, base, model, adapter):
    rng = np.random.default_rng(9000)
    texts = [t for t in run.lessons.held_out() if run.lessons.mine[t][1:].any()]
    texts = texts[::max(1, len(texts) // HELD)][:HELD]
    every = [measure(run, base, model, adapter, t, rng) for t in texts]
    depth, loss, right, away = (np.concatenate(v) for v in zip(*every))
    clean, noisy, mean = depth == 0, depth > 0, lambda v: f"{v.mean():.3f}" if len(v) else "-"
    print(f"on {len(texts)} held-out texts, {clean.sum()} places in answers and {noisy.sum()} in runs of "
          "noise: the share where the likeliest token is the model's own next one")
    print("| | clean | " + " | ".join(f"noise {j}" for j in range(1, NOISE_LENGTH + 1)) + " |")
    print("|---" * (NOISE_LENGTH + 2) + "|")
    for i, name in enumerate(("the model", "with the adapter")):
        print(f"| {name} | " + " | ".join(mean(right[depth == j, i])
                                          for j in range(NOISE_LENGTH + 1)) + " |")
    print(f"loss of clean answers: {mean(loss[clean, 0])}, with the adapter {mean(loss[clean, 1])}; "
          f"divergence of the two {mean(away[clean])}", flush=True)


# ---------------------------------------------------------------------------------------------


def options():
    a = arguments(__doc__, "msn.lora.gguf")
    a.add_argument("--rank", type=int, default=16, help="of the pairs (16)")
    a.add_argument("--alpha", type=float, help="over the rank, what the change is multiplied by (2 ranks)")
    a.add_argument("--layers", metavar="FROM-TO",
                   help="that get pairs, from 0, both ends among them (the upper two thirds)")
    a.add_argument("--targets", default=",".join(MATRICES), help="matrices that get pairs (all: %(default)s)")
    a.add_argument("--noise-every", type=int, default=4,
                   help="one run of noise per so many answer tokens, at least one per text (4)")
    a.add_argument("--clean", type=float, default=10.0,
                   help="weight of the clean places against the noisy ones (10)")
    a.add_argument("--batch", type=int, default=1024, help="rows of a step, noisy ones among them (1024)")
    a.add_argument("--lr", type=float, default=2e-3, help="of Adam (0.002)")
    a.add_argument("--type", choices=("f16", "f32"), default="f16", help="of the pairs (f16)")
    a.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return check(a.parse_args(), rank=(1, 1024), alpha=(1e-3, 1e6), noise_every=(1, 10**6),
                 clean=(0, 1e3))


def layers_of(text, layers):
    """The range that --layers names."""
    if text is None:
        return range(layers // 3, layers)
    try:
        first, last = map(int, text.split("-"))
    except ValueError:
        die(f"--layers {text} is no range of layers as 10-29 is")
    if not 0 <= first <= last < layers:
        die(f"--layers {text} has to lie in 0-{layers - 1}: the model has {layers} layers")
    return range(first, last + 1)


def targets_of(text, c):
    """The tensors that --targets names, as the file has them."""
    names = text.split(",")
    for name in names:
        if name not in MATRICES:
            die(f"--targets {name}: a layer's matrices are {', '.join(MATRICES)}")
    fused = stored_rows(c)
    return sorted({fused.get(name, (name,))[0] for name in names})


def main():
    args = options()
    run = Run(args)
    model = load_frozen(args.model, exact=False).to(args.device)
    layers, targets = layers_of(args.layers, model.c.layers), targets_of(args.targets, model.c)
    alpha = args.alpha or 2.0 * args.rank
    adapter = Adapter(model, layers, targets, args.rank, alpha)
    run.begin(adapter, {"rank": args.rank, "alpha": alpha, "layers": [layers[0], layers[-1]],
                        "targets": targets, "noise_every": args.noise_every, "clean": args.clean})
    base = Base(run.lessons, args.model, args.device, None)
    run.learn(Pool(run, base, model, layers[0]))
    name = args.name or Path(args.output).name.removesuffix(".gguf")
    write_adapter(args.output, adapter, model.c.arch, name, {"f16": np.float16, "f32": np.float32}[args.type])
    print(f"{run.step} steps in {run.seconds() / 60:.1f} minutes; wrote {args.output}, "
          f"{Path(args.output).stat().st_size} bytes", flush=True)
    report(run, base, model, adapter)


if __name__ == "__main__":
    main()
