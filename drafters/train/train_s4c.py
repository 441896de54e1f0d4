"""Trains S4C drafting heads for a frozen Llama and writes them as a drafter's GGUF file.

Our reading of arXiv 2506.14158, of which only the abstract could be read.  Head i makes, of the
token x[t+1+i] and the feature g_i of the head before it, the next feature

    z = [e / rms(e) ; g_i]  with e the token's embedding,   u = W_in z,   g_{i+1} = u + silu(W_body u)

and the model's own output matrix makes logits of it, for the token x[t+2+i].  g_0 is the model's
state behind its last norm at t.  W_in begins as [0 | 1] and W_body as 0: each head repeats the
feature.  The heads learn from the model's own distributions and features, on conversations, some
documents, and (--own) on what the model itself answers, greedily.

To compare with: --independent gives each head g_0 in place of the feature of the head before it,
--no-token keeps the tokens from them (z is the feature alone).  With both, heads are as Medusa's.
"""
from common import die
from drafting import (Base, LogSumExp, Run, chain_arguments, chains, check, follow, held_out_texts,
                      rank_of, report)

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

ROWS = 4                # read at once
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

    def matrices(self):
        for i in range(len(self)):
            yield f"head.{i}.in", self.w_in[i]
            yield f"head.{i}.body", self.body[i]


# ---------------------------------------------------------------------------------------------
# Learning.


class Pool:
    """Positions that were read last: their features, and what the loss wants of the model at each,
    made once and used for several steps."""
    shows = "divergence"

    def __init__(self, run, heads):
        args, dim, batch = run.args, run.model.c.dim, ROWS * run.length
        each = 4 * dim + 16 + 4 * args.heads      # bytes of a position
        size = max(1, args.keep * 2**20 // each // batch) * batch
        make = lambda *shape, **kind: torch.zeros(*shape, device=args.device, **kind)
        self.base, self.heads, self.args, self.edges = run.base, heads, args, run.edges
        self.size, self.at, self.answers = size, 0, 0
        self.h, self.row = (make(size, dim, dtype=torch.bfloat16) for _ in range(2))
        self.mass, self.plogp, self.weights = make(size), make(size), make(size, args.heads)
        self.tokens, self.starts = make(size, dtype=torch.long), None

    def add(self, pairs, rng):
        """Reads rows (inputs, labels); returns for how many steps these are good."""
        x, answers, good = chains(pairs, self.args.rest, self.args.heads, self.edges, rng)
        self.answers += answers
        target = np.zeros_like(good[..., 0])
        for i in range(self.args.heads):
            target[:, 1 + i:] |= good[:, :-1 - i, i]
        place = slice(self.at, self.at + x.size)
        to = lambda v: torch.from_numpy(np.ascontiguousarray(v)).to(self.h.device)
        with torch.no_grad():
            h = self.base.quick.hidden(to(x)).flatten(0, 1)
        self.h[place], self.tokens[place] = h, to(x).flatten()
        self.weights[place] = to(good.astype(np.float32)).flatten(0, 1)
        wanted = to(target).flatten().nonzero()[:, 0]
        row, mass, plogp = self.base.teach(h[wanted])
        wanted += self.at
        self.row[wanted], self.mass[wanted], self.plogp[wanted] = row.bfloat16(), mass, plogp
        self.starts = (self.weights[:, 0] > 0).nonzero()[:, 0]
        self.at = (self.at + x.size) % self.size
        return self.args.reuse * int(good[..., 0].sum()) / self.args.batch

    def loss(self, rng):
        """The loss of random chains, and per head the divergence from the model."""
        base, count = self.base, self.args.batch
        at = rng.integers(len(self.starts), size=count)
        at = self.starts[torch.from_numpy(at).to(self.h.device)]
        g, loss, shown = self.h[at].float(), 0.0, []
        for i in range(len(self.heads)):
            keep = self.weights[at, i] > 0
            at, g = at[keep], g[keep]
            p = at + 1 + i                                # where the model itself predicts the same
            new, g = self.heads(i, base.embedded(self.tokens[p]), g)
            near = F.smooth_l1_loss(new, self.h[p].float())
            ce = self.mass[p] * LogSumExp.apply(new, base.output16) - \
                (self.row[p].float() * new).sum(-1)
            shown.append((ce.detach() + self.plogp[p]).mean().item())
            loss = loss + DECAY ** i * len(at) / count * (ce.mean() + self.args.smooth * near)
        return loss, shown


# ---------------------------------------------------------------------------------------------
# Measuring.


@torch.no_grad()
def ranks(base, heads, ids, mine):
    """What measure() wants of a text."""
    x, h, best, usable = follow(base, ids, mine)
    n = len(x)
    out = torch.full((n, len(heads)), -1, dtype=torch.long)
    own = torch.zeros(n, len(heads), dtype=torch.bool)
    at = (usable[1:]).nonzero()[:, 0]
    g, same = h[at].float(), torch.ones(len(at), dtype=torch.bool, device=x.device)
    for i in range(len(heads)):
        p = at + 1 + i
        keep = (p + 1 < n) & usable[(p + 1).clamp(max=n - 1)]
        at, g, p, same = at[keep], g[keep], p[keep], same[keep]
        if not len(at):
            break
        same = same & (x[p] == best[p - 1])
        new, g = heads(i, base.embedded(x[p]), g)
        out[at, i] = rank_of(base, base.logits(new), best[p]).cpu()
        own[at, i] = same.cpu()
    return out.numpy(), own.numpy()


# ---------------------------------------------------------------------------------------------


def frequent(texts, count, size):
    """The `count` tokens most frequent in training answers, rising, with the end tokens."""
    if not 8 <= count <= size:
        die(f"--draft-vocab {count}: this model has {size} tokens; give a number from 8 to that")
    seen = texts.counts(size)
    seen[texts.ends] = np.iinfo(np.int64).max
    return np.sort(np.argsort(-seen, kind="stable")[:count])


def options():
    a = chain_arguments(__doc__, "s4c")
    a.add_argument("--heads", type=int, default=5, help="tokens drafted in a chain (5)")
    a.add_argument("--independent", action="store_true",
                   help="every head sees the model's feature, not that of the head before it")
    a.add_argument("--no-token", action="store_true", help="no head sees a token")
    a.add_argument("--smooth", type=float, default=5.0,
                   help="weight of the features' distance in the loss (5)")
    a.add_argument("--keep", type=int, default=400, metavar="MIB",
                   help="memory for positions that are kept (400)")
    a.add_argument("--draft-vocab", type=int, metavar="N",
                   help="draft only the N tokens most frequent in training answers")
    return check(a.parse_args(), heads=(1, 16), smooth=(0, 100), keep=(1, 10**6))


def main():
    args = options()
    run = Run(args)
    size = run.model.c.vocab
    vocab = None if args.draft_vocab is None else \
        frequent(run.texts, args.draft_vocab, size)
    base = Base(run.model, args.device, vocab)
    heads = Heads(run.model.c.dim, args.heads, not args.no_token, not args.independent)
    numbers = {"heads": args.heads, "token": heads.token, "chained": heads.chained}
    run.begin(base, heads, numbers | {"draft_vocab": args.draft_vocab})
    run.learn(Pool(run, heads), ROWS)
    run.write("s4c", numbers, dict(heads.matrices()), args.type, vocab)
    report(held_out_texts(run), args.heads, "head", lambda ids, mine: ranks(base, heads, ids, mine))


if __name__ == "__main__":
    main()
