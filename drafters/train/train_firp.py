"""Trains FIRP's linear maps for a frozen Llama and writes them as a drafter's GGUF file.

After arXiv 2410.20488, of which only the abstract could be read; the rest is our reading.  Of the
state h behind the first LAYER layers at position t, the maps make the pseudo states

    z_i = W_i h + E_i e,   i = 1..OFFSETS,   at positions t+i

which run through the layers above as the model's own states would: z_i attends to the text up to t,
to z_1..z_i, and to nothing else.  The model's own output makes of it the distribution of token
t+i+1.  e is the embedding of token t+1, scaled to the root mean square of h, where the drafter knows
that token, and 0 where it does not: both are learned.  W_i begins as 1, E_i as 0.  The loss is the
divergence from the model's own distribution, on conversations, some documents, and (--own) on what
the model itself answers, greedily.
"""
from drafting import (Base, LogSumExp, Run, chain_arguments, chains, check, die, follow,
                      held_out_texts, rank_of, report)

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

ROWS = 2                # read at once
AT_ONCE = 4             # rows whose chains share a step
DECAY = 0.8             # weight of an offset against that of the one before it


class Maps(nn.Module):
    def __init__(self, dim, count, token):
        super().__init__()
        self.weight = nn.ParameterList(torch.eye(dim) for _ in range(count))
        self.token = nn.ParameterList(torch.zeros(dim, dim) for _ in range(count if token else 0))

    def __len__(self):
        return len(self.weight)

    def forward(self, h, e):
        """Pseudo states [n][offsets][dim] of states and of embeddings with root mean square 1 (or 0),
        [n][dim] each."""
        z = torch.stack([F.linear(h, w) for w in self.weight], 1)
        if len(self.token):
            e = e * h.pow(2).mean(-1, keepdim=True).sqrt()
            z = z + torch.stack([F.linear(e, w) for w in self.token], 1)
        return z

    def matrices(self):
        for i, w in enumerate(self.weight):
            yield f"offset.{i}.weight", w
        for i, w in enumerate(self.token):
            yield f"offset.{i}.token", w


# ---------------------------------------------------------------------------------------------
# The model in two parts.


@torch.no_grad()
def read(model, ids, layer):
    """Of a text [n]: the states behind the first `layer` layers [n][dim], keys and values of the
    layers above, [kv_heads][n][head_dim] each, and the features [n][dim]."""
    c, n, kept, above = model.c, len(ids), None, []
    x = model.token_embd(ids[None])
    cos, sin = model.cos[:n].to(x.dtype), model.sin[:n].to(x.dtype)
    for i, block in enumerate(model.blk):
        if i == layer:
            kept = x[0]
        if i >= layer:
            h = block.attn_norm(x)
            above.append((block.rotated(h, block.attn_k, c.kv_heads, cos, sin)[0],
                          block.attn_v(h).view(n, c.kv_heads, c.head_dim).transpose(0, 1)))
        x = block(x, cos, sin)
    return kept, above, model.output_norm(x)[0]


def attend(q, k, v, keys, values, hidden):
    """Of pseudo rows q [n][heads][offsets][head_dim], their own keys and values [n][kv_heads]
    [offsets][head_dim], and the text's [kv_heads][tokens][head_dim]; hidden [n][offsets][tokens +
    offsets]: what a row does not see."""
    n, heads, o, d = q.shape
    kv, t = keys.shape[:2]
    q = q.reshape(n, kv, heads // kv, o, d) * d ** -0.5
    flat = q.permute(1, 0, 2, 3, 4).reshape(kv, -1, d)
    text = (flat @ keys.mT).view(kv, n, -1, o, t)
    own = (q @ k[:, :, None].mT).permute(1, 0, 2, 3, 4)
    p = torch.cat((text, own), -1).masked_fill(hidden[:, None], float("-inf")).softmax(-1)
    y = (p[..., :t].reshape(kv, -1, t) @ values).view(kv, n, -1, o, d)
    y = y.permute(1, 0, 2, 3, 4) + p[..., t:].permute(1, 0, 2, 3, 4) @ v[:, :, None]
    return y.reshape(n, heads, o, d).transpose(1, 2).reshape(n, o, heads * d)


def run_above(model, layer, above, z, at):
    """Features [n][offsets][dim] of the pseudo states z of the positions `at` [n] of one text."""
    c, (n, o, _), t = model.c, z.shape, above[0][0].shape[1]
    place = at[:, None] + 1 + torch.arange(o, device=z.device)
    place = place.clamp(max=c.context - 1)
    cos, sin = model.cos[place].to(z.dtype), model.sin[place].to(z.dtype)
    later = torch.arange(t, device=z.device) > at[:, None]
    later_own = torch.ones(o, o, dtype=torch.bool, device=z.device).triu(1)
    hidden = torch.cat((later[:, None].expand(n, o, t), later_own.expand(n, o, o)), -1)
    for block, (keys, values) in zip(model.blk[layer:], above):
        h = block.attn_norm(z)
        q = block.rotated(h, block.attn_q, c.heads, cos, sin)
        k = block.rotated(h, block.attn_k, c.kv_heads, cos, sin)
        v = block.attn_v(h).view(n, o, c.kv_heads, c.head_dim).transpose(1, 2)
        z = z + block.attn_output(attend(q, k, v, keys, values, hidden))
        h = block.ffn_norm(z)
        z = z + block.ffn_down(F.silu(block.ffn_gate(h)) * block.ffn_up(h))
    return model.output_norm(z)


# ---------------------------------------------------------------------------------------------
# Learning.


class Pool:
    """The rows that were read last, with what the loss wants of the model at each position."""
    shows = "divergence"

    def __init__(self, run, maps):
        self.base, self.maps, self.args, self.edges = run.base, maps, run.args, run.edges
        self.rows, self.next, self.answers = [], 0, 0

    def add(self, pairs, rng):
        """Reads rows (inputs, labels); returns for how many steps these are good."""
        x, answers, good = chains(pairs, self.args.rest, len(self.maps), self.edges, rng)
        self.answers += answers
        for ids, g in zip(x, good):
            if not g.any():
                continue
            ids = torch.from_numpy(ids).to(self.base.table.device)
            state, above, h = read(self.base.quick, ids, self.args.layer)
            target = torch.from_numpy(np.flatnonzero(g.any(-1))).to(ids.device)
            target = (target[:, None] + 1 + torch.arange(len(self.maps), device=ids.device)).unique()
            target = target[target < len(ids)]
            wanted = torch.zeros(len(ids), dtype=torch.long, device=ids.device)
            wanted[target] = torch.arange(len(target), device=ids.device)
            self.rows[self.next:self.next + 1] = [(ids, torch.from_numpy(g).to(ids.device), state,
                                                   above, wanted, self.base.teach(h[target]))]
            self.next = (self.next + 1) % self.args.keep
        return self.args.reuse * int(good[..., 0].sum()) / self.args.batch

    def loss(self, rng):
        """The loss of random chains, and per offset the divergence from the model."""
        loss, shown, maps, base = 0.0, [], self.maps, self.base
        for r in rng.choice(len(self.rows), AT_ONCE):
            ids, good, state, above, wanted, (row, mass, plogp) = self.rows[r]
            at = good[:, 0].nonzero()[:, 0]
            some = rng.choice(len(at), min(len(at), self.args.batch // AT_ONCE), replace=False)
            at = at[torch.from_numpy(some).to(at.device)]
            e = base.embedded(ids[at + 1])
            known = torch.from_numpy(rng.random(len(at)) < self.args.known).to(e.device)
            z = maps(state[at].float(), e * known[:, None])
            g = run_above(base.quick, self.args.layer, above, z.bfloat16(), at).float()
            divergence = []
            for i in range(len(maps)):
                on = good[at, i]
                p, one = wanted[at[on] + 1 + i], g[on, i]
                ce = mass[p] * LogSumExp.apply(one, base.output16) - (row[p] * one).sum(-1)
                loss = loss + DECAY ** i * ce.sum() / (len(at) * AT_ONCE)
                divergence.append((ce.detach() + plogp[p]).mean().item())
            shown.append(divergence)
        return loss, np.mean(shown, 0)


@torch.no_grad()
def ranks(base, maps, layer, ids, mine, token):
    """What measure() wants of a text, with the root's token known or not."""
    x, _, best, usable = follow(base, ids, mine)
    state, above, _ = read(base.exact, x, layer)
    n, at = len(x), usable[1:].nonzero()[:, 0]
    out = torch.full((n, len(maps)), -1, dtype=torch.long)
    own = torch.zeros(n, len(maps), dtype=torch.bool)
    if not len(at):
        return out.numpy(), own.numpy()
    e = base.embedded(x[at + 1]) * float(token)
    z = maps(state[at].float(), e).to(state.dtype)
    g = run_above(base.exact, layer, above, z, at)
    same = torch.ones(len(at), dtype=torch.bool, device=x.device)
    keep = same.clone()
    for i in range(len(maps)):
        p = at + 1 + i
        keep = keep & (p + 1 < n) & usable[(p + 1).clamp(max=n - 1)]
        at, g, p, same, keep = at[keep], g[keep], p[keep], same[keep], keep[keep]
        if not len(at):
            break
        same = same & (x[p] == best[p - 1])
        out[at, i] = rank_of(base, base.logits(g[:, i]), best[p]).cpu()
        own[at, i] = same.cpu()
    return out.numpy(), own.numpy()


def options():
    a = chain_arguments(__doc__, "firp")
    a.add_argument("--layer", type=int, help="layers below the pseudo states (3 of 4)")
    a.add_argument("--offsets", type=int, default=3, help="pseudo states (3)")
    a.add_argument("--no-token", action="store_true",
                   help="maps of the state alone, as in the paper's abstract")
    a.add_argument("--known", type=float, default=0.5,
                   help="share of the chains that know the token behind the state (0.5)")
    a.add_argument("--keep", type=int, default=16, help="rows of 1024 tokens that are kept (16)")
    return check(a.parse_args(), offsets=(1, 8), known=(0, 1), keep=(1, 10**4))


def main():
    args = options()
    run = Run(args)
    c = run.model.c
    args.layer = c.layers * 3 // 4 if args.layer is None else args.layer
    if not 1 <= args.layer < c.layers:
        die(f"--layer has to be from 1 to {c.layers - 1}")
    base = Base(run.model, args.device, None)
    maps = Maps(c.dim, args.offsets, not args.no_token)
    run.begin(base, maps, {"layer": args.layer, "offsets": args.offsets, "token": not args.no_token})
    run.learn(Pool(run, maps), ROWS)
    run.write("firp", {"layer": args.layer, "offsets": args.offsets}, dict(maps.matrices()),
              args.type)
    texts = held_out_texts(run)
    for token in (False, True)[:1 + (len(maps.token) > 0)]:
        print(f"\nwith the first token behind the state {'known' if token else 'not known'}:")
        report(texts, args.offsets, "offset",
               lambda ids, mine: ranks(base, maps, args.layer, ids, mine, token))


if __name__ == "__main__":
    main()
