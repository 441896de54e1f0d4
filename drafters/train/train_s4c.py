"""Trains S4C drafting heads for a frozen Llama and writes them as a drafter's GGUF file.

Our reading of arXiv 2506.14158, of which only the abstract could be read.  Head i makes, of the
token x[t+1+i] and the feature g_i of the head before it, the next feature

    z = [e / rms(e) ; g_i]  with e the token's embedding,   u = W_in z,   g_{i+1} = u + silu(W_body u)

and the model's own output matrix makes logits of it, for the token x[t+2+i].  g_0 is the model's
state behind its last norm at t.  W_in begins as [0 | 1] and W_body as 0: each head repeats the
feature.  The heads learn from the model's own distributions and features, as the program teach kept
them.

To compare with: --independent gives each head g_0 in place of the feature of the head before it,
--no-token keeps the tokens from them (z is the feature alone).  With both, heads are as Medusa's.
"""
from common import die
from drafterfile import read_drafter
from drafting import Base, Run, chain_arguments, check, follow, rank_of, report, starts_of

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

DECAY = 0.8             # weight of a head against that of the one before it

# ---------------------------------------------------------------------------------------------
# The heads.


class Heads(nn.Module):
    def __init__(self, dim, count, token, chained):
        super().__init__()
        self.token, self.chained = token, chained
        start = torch.cat((torch.zeros(dim, dim), torch.eye(dim)), 1) if token else torch.eye(dim)
        self.w_in = nn.ParameterList(start.clone() for _ in range(count))
        self.body = nn.ParameterList(torch.zeros(dim, dim) for _ in range(count))

    def __len__(self):
        return len(self.body)

    def forward(self, i, e, g):
        """The feature behind head i, of embeddings scaled to rms 1 and features, [n][dim] each; and
        the feature that head i + 1 sees."""
        u = F.linear(torch.cat((e, g), -1) if self.token else g, self.w_in[i])
        new = u + F.silu(F.linear(u, self.body[i]))
        return new, new if self.chained else g

    @torch.no_grad()
    def take(self, path, base, numbers):
        """The matrices of a file of such heads, of the same model."""
        have = dict(self.matrices())
        shapes = {name: tuple(m.shape) for name, m in have.items()}
        for name, matrix in read_drafter(path, "s4c", base, numbers, shapes).items():
            have[name].copy_(torch.from_numpy(matrix))

    def matrices(self):
        for i in range(len(self)):
            yield f"head.{i}.in", self.w_in[i]
            yield f"head.{i}.body", self.body[i]


# ---------------------------------------------------------------------------------------------
# Learning.


class Pool:
    """Chains of the lessons' answers."""
    shows = "divergence"

    def __init__(self, run, base, heads):
        lessons, args = run.lessons, run.args
        self.base, self.heads, self.args, self.positions = base, heads, args, 0
        self.lessons = lessons
        rng = np.random.default_rng(5000)
        self.rows, self.lengths = starts_of(lessons, lessons.learned(), args.heads, args.rest, rng)

    def features(self, rows):
        h = self.lessons.feature[rows]
        return torch.from_numpy(h.astype(np.float32)).to(self.args.device)

    def loss(self, rng):
        """The loss of random chains, and per head the divergence from the model."""
        base, count, tokens = self.base, self.args.batch, self.lessons.tokens
        drawn = np.sort(rng.integers(len(self.rows), size=count))
        at, lengths = self.rows[drawn], self.lengths[drawn]
        g, loss, shown = self.features(at), 0.0, []
        for i in range(len(self.heads)):
            keep = lengths > i
            at, lengths, g = at[keep], lengths[keep], g[torch.from_numpy(keep)]
            p = at + 1 + i                                # where the model itself predicts the same
            token = torch.from_numpy(tokens[p].astype(np.int64)).to(g.device)
            with torch.autocast(g.device.type, torch.bfloat16):
                new, g = self.heads(i, base.embedded(token), g)
            new = new.float()
            near = F.smooth_l1_loss(new, self.features(p))
            cross, divergence = base.divergence(new, *base.taught(p), rng)
            shown.append(divergence.mean().item())
            loss = loss + DECAY ** i * len(at) / count * (cross.mean() + self.args.smooth * near)
        self.positions += count
        return loss, shown


# ---------------------------------------------------------------------------------------------
# Measuring.


@torch.no_grad()
def ranks(base, heads, text):
    """What measure() wants of a text."""
    x, best, mine = follow(base.lessons, text)
    feature = torch.from_numpy(base.lessons.feature[text].astype(np.float32))
    n, device = len(x), base.table.device
    out = torch.full((n, len(heads)), -1, dtype=torch.long)
    own = torch.zeros(n, len(heads), dtype=torch.bool)
    at = (mine[1:]).nonzero()[:, 0]
    g, same = feature[at].to(device), torch.ones(len(at), dtype=torch.bool)
    for i in range(len(heads)):
        p = at + 1 + i
        keep = (p + 1 < n) & mine[(p + 1).clamp(max=n - 1)]
        at, g, p, same = at[keep], g[keep.to(device)], p[keep], same[keep]
        if not len(at):
            break
        same = same & (x[p] == best[p - 1])
        new, g = heads(i, base.embedded(x[p].to(device)), g)
        out[at, i] = rank_of(base, base.logits(new), best[p]).cpu()
        own[at, i] = same
    return out.numpy(), own.numpy()


# ---------------------------------------------------------------------------------------------


def frequent(lessons, count):
    """The `count` tokens that are most frequent in answers, rising, with those that end them."""
    size = lessons.about["n_vocab"]
    if not 8 <= count <= size:
        die(f"--draft-vocab {count}: this model has {size} tokens; give a number from 8 to that")
    seen = lessons.counts()
    ends = lessons.tokens[lessons.docs[1:] - 1]
    seen[ends[np.bincount(ends, minlength=size)[ends] > len(ends) // 20]] = np.inf
    return np.sort(np.argsort(-seen, kind="stable")[:count])


def options():
    a = chain_arguments(__doc__, "s4c")
    a.add_argument("--heads", type=int, default=5, help="tokens drafted in a chain (5)")
    a.add_argument("--independent", action="store_true",
                   help="every head sees the model's feature, not that of the head before it")
    a.add_argument("--no-token", action="store_true", help="no head sees a token")
    a.add_argument("--smooth", type=float, default=5.0,
                   help="weight of the features' distance in the loss (5)")
    a.add_argument("--draft-vocab", type=int, metavar="N",
                   help="draft only the N tokens most frequent in training answers")
    a.add_argument("--start", metavar="FILE", help="begin with the heads of this file")
    return check(a.parse_args(), heads=(1, 16), smooth=(0, 100))


def main():
    args = options()
    run = Run(args)
    vocab = None if args.draft_vocab is None else frequent(run.lessons, args.draft_vocab)
    base = Base(run.lessons, args.model, args.device, vocab)
    heads = Heads(run.dim, args.heads, not args.no_token, not args.independent)
    numbers = {"heads": args.heads, "token": heads.token, "chained": heads.chained}
    if args.start:
        heads.take(args.start, run.print, numbers)
    run.begin(heads, numbers | {"draft_vocab": args.draft_vocab})
    run.learn(Pool(run, base, heads))
    run.write("s4c", numbers, dict(heads.matrices()), args.type, vocab)
    report(run.lessons, args.heads, "head", lambda text: ranks(base, heads, text))


if __name__ == "__main__":
    main()
