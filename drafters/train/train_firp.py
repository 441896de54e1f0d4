"""Trains FIRP's linear maps for a frozen Llama and writes them as a drafter's GGUF file.

After arXiv 2410.20488, of which only the abstract could be read; the rest is our reading.  Of the
state h behind the first LAYER layers at position t, the maps make the pseudo states

    z_i = W_i h + E_i e,   i = 1..OFFSETS,   at positions t+i

which run through the layers above as the model's own states would: z_i attends to the text up to t,
to z_1..z_i, and to nothing else.  The model's own output makes of it the distribution of token
t+i+1.  e is the embedding of token t+1, scaled to the root mean square of h, where the drafter knows
that token, and 0 where it does not: both are learned.  W_i begins as 1, E_i as 0.  The loss is the
divergence from the model's own distribution, as the program teach kept it, with the states.
"""
from common import die
from drafting import Base, Run, chain_arguments, check, follow, rank_of, report, starts_of
from llamafile import load_frozen

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

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
def read(model, layer, states):
    """Of a text's states behind the first `layer` layers, [n][dim]: keys and values of the layers above,
    [kv_heads][n][head_dim] each."""
    c, n, x, above = model.c, len(states), states[None], []
    cos, sin = model.cos[:n].to(x.dtype), model.sin[:n].to(x.dtype)
    for block in model.blk[layer:]:
        h = block.attn_norm(x)
        above.append((block.rotated(h, block.attn_k, c.kv_heads, cos, sin)[0],
                      block.attn_v(h).view(n, c.kv_heads, c.head_dim).transpose(0, 1)))
        x = block(x, cos, sin)
    return above


def attend(q, k, v, keys, values, hidden, scale):
    """Of pseudo rows q [n][heads][offsets][head_dim], their own keys and values [n][kv_heads]
    [offsets][head_dim], and the text's [kv_heads][tokens][head_dim]; hidden [n][offsets][tokens +
    offsets]: what a row does not see."""
    n, heads, o, d = q.shape
    kv, t = keys.shape[:2]
    q = q.reshape(n, kv, heads // kv, o, d) * scale
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
    text = torch.arange(t, device=z.device)
    later = (text > at[:, None])[:, None].expand(n, o, t)
    later_own = torch.ones(o, o, dtype=torch.bool, device=z.device).triu(1).expand(n, o, o)
    for block, (keys, values) in zip(model.blk[layer:], above):
        hidden = later | (text <= place[..., None] - block.window) if block.window else later
        h = block.attn_norm(z)
        q = block.rotated(h, block.attn_q, c.heads, cos, sin)
        k = block.rotated(h, block.attn_k, c.kv_heads, cos, sin)
        v = block.attn_v(h).view(n, o, c.kv_heads, c.head_dim).transpose(1, 2)
        y = attend(q, k, v, keys, values, torch.cat((hidden, later_own), -1), c.score_scale)
        z = block.add_ffn(block.add_attention(z, y))
    return model.output_norm(z)


# ---------------------------------------------------------------------------------------------
# Learning.


class Pool:
    """Chains of the lessons' answers, of as many texts to a step as have enough."""
    shows = "divergence"

    def __init__(self, run, base, model, maps):
        self.lessons, self.base, self.model = run.lessons, base, model
        self.maps, self.args, self.positions = maps, run.args, 0
        self.texts = [t for t in run.lessons.learned() if run.lessons.mine[t][1:-1].any()]

    def states(self, text):
        states = torch.from_numpy(self.lessons.state[text].astype(np.float32))
        return states.to(self.args.device)

    def loss_of(self, text, rng):
        """Summed over chains of a text: what is learned, and per offset the divergence and the chains."""
        args, lessons, base, count = self.args, self.lessons, self.base, len(self.maps)
        rows, lengths = starts_of(lessons, [text], count, args.rest, rng)
        lengths = torch.from_numpy(lengths)
        at = torch.from_numpy(rows - text.start).to(args.device)
        token = torch.from_numpy(lessons.tokens[rows + 1].astype(np.int64)).to(args.device)
        states = self.states(text)
        e = base.embedded(token)
        known = torch.from_numpy(rng.random(len(at)) < args.known).to(e.device)
        z = self.maps(states[at], e * known[:, None])
        above = read(self.model, args.layer, states.bfloat16())
        g = run_above(self.model, args.layer, above, z.bfloat16(), at).float()
        loss, shown = 0.0, np.zeros((2, count))
        for i in range(count):
            on = lengths > i
            cross, divergence = base.divergence(g[on, i], *base.taught(rows[on.numpy()] + 1 + i), rng)
            loss = loss + DECAY ** i * cross.sum()
            shown[:, i] = divergence.sum().item(), len(divergence)
        return loss, shown, len(rows)

    def loss(self, rng):
        """The loss of random chains, and per offset the divergence from the model."""
        total, shown, n = 0.0, 0.0, 0
        while n < self.args.batch:
            loss, parts, chains = self.loss_of(self.texts[rng.integers(len(self.texts))], rng)
            loss.backward()             # of each text on its own: what it took is free again
            total, shown, n = total + loss.detach(), shown + parts, n + chains
        for p in self.maps.parameters():
            p.grad /= n
        self.positions += n
        return total / n, shown[0] / shown[1]


@torch.no_grad()
def ranks(pool, text, token):
    """What measure() wants of a text, with the root's token known or not."""
    base, maps, layer = pool.base, pool.maps, pool.args.layer
    x, best, mine = follow(base.lessons, text)
    states, n, at = pool.states(text), len(x), mine[1:].nonzero()[:, 0]
    out = torch.full((n, len(maps)), -1, dtype=torch.long)
    own = torch.zeros(n, len(maps), dtype=torch.bool)
    if not len(at):
        return out.numpy(), own.numpy()
    place = at.to(states.device)
    e = base.embedded(x[at + 1].to(states.device)) * float(token)
    above = read(pool.model, layer, states.bfloat16())
    g = run_above(pool.model, layer, above, maps(states[place], e).bfloat16(), place).float().cpu()
    same = torch.ones(len(at), dtype=torch.bool)
    keep = same.clone()
    for i in range(len(maps)):
        p = at + 1 + i
        keep = keep & (p + 1 < n) & mine[(p + 1).clamp(max=n - 1)]
        at, g, p, same, keep = at[keep], g[keep], p[keep], same[keep], keep[keep]
        if not len(at):
            break
        same = same & (x[p] == best[p - 1])
        logits = base.logits(g[:, i].to(base.output.device))
        out[at, i] = rank_of(base, logits, best[p]).cpu()
        own[at, i] = same
    return out.numpy(), own.numpy()


def options():
    a = chain_arguments(__doc__, "firp")
    a.add_argument("--offsets", type=int, default=3, help="pseudo states (3)")
    a.add_argument("--no-token", action="store_true",
                   help="maps of the state alone, as in the paper's abstract")
    a.add_argument("--known", type=float, default=0.5,
                   help="share of the chains that know the token behind the state (0.5)")
    return check(a.parse_args(), offsets=(1, 8), known=(0, 1))


def main():
    args = options()
    run = Run(args)
    args.layer = run.lessons.about["state"]
    if not 1 <= args.layer < run.layers:
        die(f"{args.lessons} holds no states to make guesses of: give teach --state L, with an L from 1 to "
            f"{run.layers - 1}, say {run.layers * 3 // 4}")
    model = load_frozen(args.model, exact=False).to(args.device)
    base = Base(run.lessons, args.model, args.device, None)
    maps = Maps(run.dim, args.offsets, not args.no_token)
    run.begin(maps, {"layer": args.layer, "offsets": args.offsets, "token": not args.no_token})
    pool = Pool(run, base, model, maps)
    run.learn(pool)
    run.write("firp", {"layer": args.layer, "offsets": args.offsets}, dict(maps.matrices()),
              args.type)
    for token in (False, True)[:1 + (len(maps.token) > 0)]:
        print(f"\nwith the first token behind the state {'known' if token else 'not known'}:")
        report(run.lessons, args.offsets, "offset", lambda text: ranks(pool, text, token))


if __name__ == "__main__":
    main()
