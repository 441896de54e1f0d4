"""Trains S4C drafting heads for a frozen Llama and writes them as a drafter's GGUF file.

Our reading of arXiv 2506.14158, of which only the abstract could be read.  Head i makes, of the
token x[t+1+i] and the feature g_i of the head before it, the next feature

    z = [e / rms(e) ; g_i]  with e the token's embedding,   u = W_in z,   g_{i+1} = u + silu(W_body u)

and the model's own output matrix makes logits of it, for the token x[t+2+i].  g_0 is the model's
state behind its last norm at t.  W_in begins as [0 | 1] and W_body as 0: each head repeats the
feature.  The heads learn from the model's own distributions and features, on conversations, some
documents, and (--own) on what the model itself answers, greedily.
"""
import argparse
import time
from pathlib import Path

from common import SOURCES, Muon, Tokens, die, load_tokens
from drafterfile import TYPES, fingerprint, load_base, write_drafter
from finetune import rows

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

LENGTH = 1024           # tokens of a row
ROWS = 4                # rows read at once
WARMUP = 20             # steps
DECAY = 0.8             # weight of a head against that of the one before it
EPS = 1e-6
SAVE_SECONDS = 60
OWN_PROMPT, OWN_ANSWER = 96, 128    # tokens at most

# ---------------------------------------------------------------------------------------------
# The heads.


class Heads(nn.Module):
    def __init__(self, dim, count):
        super().__init__()
        start = torch.cat((torch.zeros(dim, dim), torch.eye(dim)), 1)
        self.w_in = nn.ParameterList(start.clone() for _ in range(count))
        self.body = nn.ParameterList(torch.zeros(dim, dim) for _ in range(count))

    def __len__(self):
        return len(self.body)

    def forward(self, i, e, g):
        """The feature behind head i, of embeddings scaled to rms 1 and features, [n][dim] each."""
        u = F.linear(torch.cat((e, g), -1), self.w_in[i])
        return u + F.silu(F.linear(u, self.body[i]))

    def matrices(self):
        for i in range(len(self)):
            yield f"head.{i}.in", self.w_in[i]
            yield f"head.{i}.body", self.body[i]


class Base:
    """The frozen model: in bfloat16 with float32 norms for features, in float32 for measuring."""

    def __init__(self, model, device, vocab):
        self.exact = model.to(device)
        self.table = model.token_embd.weight                       # [vocab][dim]
        self.scaled = self.table * torch.rsqrt(self.table.pow(2).mean(-1, keepdim=True) + EPS)
        self.quick = type(model)(model.c).to(device).requires_grad_(False)
        self.quick.load_state_dict(model.state_dict())
        for module in self.quick.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                module.bfloat16()
        self.kept = None if vocab is None else torch.as_tensor(vocab, device=device)
        self.output = self.table if vocab is None else self.table[self.kept]
        self.output16 = self.output.bfloat16()

    @torch.no_grad()
    def teach(self, h):
        """Of features [n][dim]: the expected row of the output matrix, the probability of all that
        may be drafted, and the sum of p log p."""
        logs = F.log_softmax(F.linear(h, self.quick.token_embd.weight).float(), -1)
        logs = logs if self.kept is None else logs[:, self.kept]
        p = logs.exp()
        return (p.bfloat16() @ self.output16).float(), p.sum(-1), (p * logs).sum(-1)


class LogSumExp(torch.autograd.Function):
    """log sum exp of W g, for a W that is not learned: the gradient is made at once, so that no
    logits are kept."""

    @staticmethod
    def forward(ctx, g, w):
        logits = F.linear(g.bfloat16(), w).float()
        logs = F.log_softmax(logits, -1)
        value = logits[:, 0] - logs[:, 0]
        ctx.save_for_backward(logs.exp_().bfloat16() @ w)
        return value

    @staticmethod
    def backward(ctx, grad):
        return grad[:, None] * ctx.saved_tensors[0].float(), None


# ---------------------------------------------------------------------------------------------
# Texts.


def make_samples(texts, own):
    """What finetune.rows() packs: the conversations of an epoch, each source at its rate, with
    `texts` of all pieces of documents and every answer of the model's own."""
    def samples(splits, epoch):
        rng = np.random.default_rng(5000 + epoch)
        items = []
        for source in SOURCES:
            split = splits[source.name][0]
            for i in range(len(split)):
                if source.kind in ("text", "stories"):
                    for at in range(0, len(split.doc(i)[0]), LENGTH + 1):
                        if rng.random() < texts:
                            items.append((split, i, at))
                elif source.sft and rng.random() < source.sft:
                    items.append((split, i, 0))
        items += [(None, i, 0) for i in range(len(own))]
        rng.shuffle(items)
        for split, i, at in items:
            ids, mine = own[i] if split is None else \
                (v[at:at + LENGTH + 1] for v in split.doc(i))
            if mine[1:].any():
                yield ids, mine
    return samples


def starts_of_answers(split, i):
    ids, mine = split.doc(i)
    return ids, np.flatnonzero(np.diff(mine.astype(np.int8)) == 1) + 1


def own_prompts(splits, side, count, rng, groups=None):
    """Prompts: a conversation up to one of its answers, or the beginning of a document."""
    pool = [(s, i) for s in SOURCES for i in range(len(splits[s.name][side]))
            if (s.group in groups if groups else rng.random() < max(s.sft, 0.3 * (s.group == "books")))]
    rng.shuffle(pool)
    prompts = []
    for source, i in pool:
        ids, starts = starts_of_answers(splits[source.name][side], i)
        if source.kind in ("text", "stories"):
            starts = np.array([rng.integers(8, 48)])
        starts = starts[(starts <= OWN_PROMPT) & (starts < len(ids))]
        if len(starts) and len(prompts) < count:
            prompts.append(ids[:rng.choice(starts)].astype(np.int64))
    return prompts


@torch.no_grad()
def answer(model, prompts, most, stops, say=None, batch=128):
    """The model's greedy continuations of up to `most` tokens, as (ids, mine).  Rows of a batch
    stand at the same position, and those with longer prompts still read while others write."""
    device, c, done = model.token_embd.weight.device, model.c, []
    group = c.heads // c.kv_heads
    prompts = sorted(prompts, key=len)
    for first in range(0, len(prompts), batch):
        part = prompts[first:first + batch]
        ends = torch.tensor([len(p) for p in part], device=device)
        total = min(int(ends.max()) + most, c.context)
        ids = torch.zeros(len(part), total, dtype=torch.long, device=device)
        for row, p in zip(ids, part):
            row[:len(p)] = torch.from_numpy(p)
        lengths = torch.minimum(ends + most, torch.tensor(total, device=device))
        keys, values = ([torch.zeros(len(part), c.kv_heads, total, c.head_dim, device=device,
                                     dtype=model.blk[0].attn_q.weight.dtype)
                         for _ in range(c.layers)] for _ in range(2))
        for t in range(total - 1):
            x = model.token_embd(ids[:, t:t + 1])
            cos, sin = (v[t:t + 1].to(x.dtype) for v in (model.cos, model.sin))
            for block, ks, vs in zip(model.blk, keys, values):
                h = block.attn_norm(x)
                q = block.rotated(h, block.attn_q, c.heads, cos, sin)
                ks[:, :, t] = block.rotated(h, block.attn_k, c.kv_heads, cos, sin)[:, :, 0]
                vs[:, :, t] = block.attn_v(h).view(len(part), c.kv_heads, c.head_dim)
                q = q.view(len(part), c.kv_heads, group, c.head_dim)
                score = (q @ ks[:, :, :t + 1].mT).float() * c.head_dim ** -0.5
                y = score.softmax(-1).to(x.dtype) @ vs[:, :, :t + 1]
                x = x + block.attn_output(y.reshape(len(part), 1, -1))
                h = block.ffn_norm(x)
                x = x + block.ffn_down(F.silu(block.ffn_gate(h)) * block.ffn_up(h))
            writes = (t + 1 >= ends) & (t + 1 < lengths)
            if not writes.any():
                if (t + 1 >= ends).all():
                    break
                continue
            logits = F.linear(model.output_norm(x[:, 0]), model.token_embd.weight)
            new = logits.argmax(-1)
            ids[:, t + 1] = torch.where(writes, new, ids[:, t + 1])
            stopped = writes & torch.isin(new, stops)
            lengths = torch.where(stopped, torch.full_like(lengths, t + 2), lengths)
        for row, p, n in zip(ids.cpu().numpy(), part, lengths.tolist()):
            done.append((row[:n].astype(np.uint16), (np.arange(n) >= len(p)).astype(np.uint8)))
        if say:
            say(len(done), len(prompts))
    return done


# ---------------------------------------------------------------------------------------------
# Learning.


class Pool:
    """Positions that were read last: their features, and what the loss wants of the model at each,
    made once and used for several steps."""

    def __init__(self, base, size, heads, device):
        dim = base.table.shape[1]
        make = lambda *shape, **kind: torch.zeros(*shape, device=device, **kind)
        self.base, self.heads, self.size, self.at, self.answers = base, heads, size, 0, 0
        self.h, self.row = (make(size, dim, dtype=torch.bfloat16) for _ in range(2))
        self.mass, self.plogp, self.weights = make(size), make(size), make(size, heads)
        self.tokens, self.starts = make(size, dtype=torch.long), None

    def add(self, pairs, rest, bos, rng):
        """Reads rows (inputs, labels).  A position inside an answer may start a chain; of the others
        the share `rest` may.  Returns how many may."""
        x, y = (np.stack(v) for v in zip(*pairs))
        inside = (x != bos) & (x != 0)      # 0, the unknown token, is the padding behind samples
        mine = y != -100
        self.answers += int(mine.sum())
        good, weights = mine | (rng.random(x.shape) < rest), np.zeros((*x.shape, self.heads), np.float32)
        target = np.zeros_like(inside)
        for i in range(self.heads):
            k = 1 + i
            good = good & np.pad(inside[:, k:], ((0, 0), (0, k)))
            mine = mine & np.pad((y != -100)[:, k:], ((0, 0), (0, k)))
            # A chain that began in an answer ends with it.
            good = good & (mine | (y == -100))
            weights[..., i] = good
            target[:, k:] |= good[:, :-k]
        place = slice(self.at, self.at + x.size)
        to = lambda v: torch.from_numpy(np.ascontiguousarray(v)).to(self.h.device)
        with torch.no_grad():
            h = self.base.quick.hidden(to(x)).flatten(0, 1)
        self.h[place], self.tokens[place] = h, to(x).flatten()
        self.weights[place] = to(weights).flatten(0, 1)
        wanted = to(target).flatten().nonzero()[:, 0]
        row, mass, plogp = self.base.teach(h[wanted])
        wanted += self.at
        self.row[wanted], self.mass[wanted], self.plogp[wanted] = row.bfloat16(), mass, plogp
        self.starts = (self.weights[:, 0] > 0).nonzero()[:, 0]
        self.at = (self.at + x.size) % self.size
        return int(weights[..., 0].sum())


def loss_of(pool, heads, count, smooth, rng):
    """The loss of `count` random chains, and per head the divergence from the model."""
    base = pool.base
    at = pool.starts[torch.from_numpy(rng.integers(len(pool.starts), size=count)).to(pool.h.device)]
    g, loss, shown = pool.h[at].float(), 0.0, []
    for i in range(len(heads)):
        keep = pool.weights[at, i] > 0
        at, g = at[keep], g[keep]
        p = at + 1 + i                                   # where the model itself predicts the same
        g = heads(i, base.scaled[pool.tokens[p]], g)
        near = F.smooth_l1_loss(g, pool.h[p].float())
        ce = pool.mass[p] * LogSumExp.apply(g, base.output16) - (pool.row[p].float() * g).sum(-1)
        shown.append((ce.detach() + pool.plogp[p]).mean().item())
        loss = loss + DECAY ** i * len(at) / count * (ce.mean() + smooth * near)
    return loss, shown


# ---------------------------------------------------------------------------------------------
# Measuring.


@torch.no_grad()
def ranks(base, heads, ids, mine):
    """For every start t of a chain inside an answer, and every head: the rank that the head gives
    to the model's most likely token (0: the first), -1 behind the answer's end; and whether all
    text tokens of the chain were most likely themselves."""
    x = torch.from_numpy(ids.astype(np.int64)).to(base.table.device)
    h = base.exact.hidden(x[None])[0]
    best = F.linear(h, base.table).argmax(-1)
    usable = torch.from_numpy(mine.astype(bool)).to(x.device)
    n = len(x)
    out = torch.full((n, len(heads)), -1, dtype=torch.long)
    own = torch.zeros(n, len(heads), dtype=torch.bool)
    at = (usable[1:]).nonzero()[:, 0]
    g, same = h[at], torch.ones(len(at), dtype=torch.bool, device=x.device)
    for i in range(len(heads)):
        p = at + 1 + i
        keep = (p + 1 < n) & usable[(p + 1).clamp(max=n - 1)]
        at, g, p, same = at[keep], g[keep], p[keep], same[keep]
        if not len(at):
            break
        same = same & (x[p] == best[p - 1])
        g = heads(i, base.scaled[x[p]], g)
        logits = F.linear(g, base.output)
        if base.kept is None:
            wanted, known = best[p], torch.ones_like(same)
        else:
            wanted = torch.searchsorted(base.kept, best[p]).clamp(max=len(base.kept) - 1)
            known = base.kept[wanted] == best[p]
        rank = (logits > logits.gather(1, wanted[:, None])).sum(-1)
        out[at, i] = torch.where(known, rank, torch.full_like(rank, len(base.table))).cpu()
        own[at, i] = same.cpu()
    return out.numpy(), own.numpy()


def measure(base, heads, items):
    """Shares of first and first-five places per head, and tokens per pass when the greedy chain of
    all heads is checked pass by pass along the text."""
    every = [ranks(base, heads, ids[:LENGTH], mine[:LENGTH]) for ids, mine in items]
    r, own = np.concatenate([e[0] for e in every]), np.concatenate([e[1] for e in every])
    top1, top5, cond = [], [], []
    good = np.ones(len(r), bool)
    for i in range(r.shape[1]):
        valid = r[:, i] >= 0
        top1.append((r[valid, i] == 0).mean() if valid.any() else 0.0)
        top5.append((r[valid, i] < 5).mean() if valid.any() else 0.0)
        on = valid & good & own[:, i]
        cond.append((r[on, i] == 0).mean() if on.any() else 0.0)
        good = on & (r[:, i] == 0)
    produced = passes = 0
    for (rank, _), (ids, mine) in zip(every, items):
        t, end = int(np.flatnonzero(mine)[0]), min(len(ids), LENGTH) - 1
        while t < end:          # token t is known and drafts start behind it
            n = 0
            while n < rank.shape[1] and rank[t - 1, n] == 0:
                n += 1
            produced, passes, t = produced + n + 1, passes + 1, t + n + 1
    return top1, top5, 1 + float(np.cumprod(cond).sum()), produced / max(passes, 1), int(
        (r[:, 0] >= 0).sum())


def report(base, heads, splits, stops, held_out):
    text = []
    for source in SOURCES:
        if source.group == "assistant":
            split = splits[source.name][1]
            text += [split.doc(i) for i in range(len(split))]
    text = [(ids, mine) for ids, mine in text if mine[1:LENGTH].any()]
    print("held-out conversations of the assistant sources; right is what the model itself holds "
          "most likely")
    print("| text | positions | " + " | ".join(
        f"head {i} top-1 / top-5" for i in range(len(heads))) + " |")
    print("|---" * (len(heads) + 2) + "|")
    results = []
    for name, items in (("as written", text), ("the model's own greedy answers", held_out)):
        top1, top5, along, walked, n = measure(base, heads, items)
        results.append((along, walked))
        print(f"| {name} | {n} | " + " | ".join(
            f"{a:.3f} / {b:.3f}" for a, b in zip(top1, top5)) + " |")
    print(f"greedy chains of {len(heads)} tokens: {results[1][1]:.3f} tokens per pass, counted pass by "
          "pass along the model's own greedy answers;")
    print(f"{results[0][0]:.3f} by the text as written: 1 + the sum over depths of the product of "
          "top-1 rates, each among the positions where the text's tokens so far were the model's "
          "most likely and all heads before were right", flush=True)


# ---------------------------------------------------------------------------------------------


def frequent(splits, count, tokens, size):
    """The `count` tokens most frequent in training answers, rising, with the end tokens."""
    if not 8 <= count <= size:
        die(f"--draft-vocab {count}: this model has {size} tokens; give a number from 8 to that")
    seen = np.zeros(size, np.int64)
    for source in SOURCES:
        if source.sft:
            split = splits[source.name][0]
            seen += np.bincount(split.ids[split.mine == 1], minlength=size)
    always = [tokens.im_end, tokens.eos]
    seen[always] = np.iinfo(np.int64).max
    return np.sort(np.argsort(-seen, kind="stable")[:count])


def arguments():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model", help="the frozen model: a .pt checkpoint or a .gguf file")
    a.add_argument("output", help="the drafter's file to write, MODEL-s4c.drafter.gguf by custom")
    a.add_argument("--data", required=True, help="folder with the corpora")
    a.add_argument("--work", required=True, help="folder with tokenizer.model")
    length = a.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="as long as this, all but the report")
    length.add_argument("--steps", type=int, help="this many steps")
    a.add_argument("--heads", type=int, default=5, help="tokens drafted in a chain (5)")
    a.add_argument("--own", type=int, default=0, metavar="N",
                   help="learn on the model's own greedy answers to N prompts too (0)")
    a.add_argument("--texts", type=float, default=0.05,
                   help="share of the documents that an epoch has beside the conversations (0.05)")
    a.add_argument("--rest", type=float, default=0.1,
                   help="share of the positions outside answers to learn (0.1)")
    a.add_argument("--smooth", type=float, default=5.0,
                   help="weight of the features' distance in the loss (5)")
    a.add_argument("--batch", type=int, default=512, help="chains per step (512)")
    a.add_argument("--reuse", type=float, default=3,
                   help="how often a position is used before the next are read (3)")
    a.add_argument("--keep", type=int, default=400, metavar="MIB",
                   help="memory for positions that are kept (400)")
    a.add_argument("--draft-vocab", type=int, metavar="N",
                   help="draft only the N tokens most frequent in training answers")
    a.add_argument("--lr", type=float, default=0.03, help="of Muon (0.03)")
    a.add_argument("--type", choices=TYPES, default="q8_0", help="of the matrices (q8_0)")
    a.add_argument("--name", help="general.name (of the output file)")
    a.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    a.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return check(a.parse_args())


def check(args):
    for name, low, high in (("heads", 1, 16), ("own", 0, 10**6), ("texts", 0, 1), ("rest", 0, 1),
                            ("smooth", 0, 100), ("batch", 1, 10**6), ("reuse", 0.01, 1000),
                            ("keep", 1, 10**6), ("threads", 1, 1024), ("lr", 1e-6, 1)):
        if not low <= getattr(args, name) <= high:
            die(f"--{name} has to be from {low} to {high}")
    if (args.steps is not None and args.steps < 1) or (args.minutes is not None and
                                                        args.minutes <= 0):
        die("--minutes and --steps have to be above 0")
    if args.device == "cuda" and not torch.cuda.is_available():
        die("--device cuda: this PyTorch sees no GPU; leave the option out to train on the CPU")
    if not Path(args.output).resolve().parent.is_dir():
        die(f"cannot write {args.output}: there is no such folder")
    return args


class Run:
    """Progress that can be taken up again: OUTPUT.resume.pt."""

    def __init__(self, args, base_print, heads, muon):
        self.args, self.heads, self.muon = args, heads, muon
        self.path = Path(f"{args.output}.resume.pt")
        self.made = {"base": base_print, "heads": args.heads, "draft_vocab": args.draft_vocab,
                     "own": args.own, "texts": args.texts}
        self.step, self.batches, self.spent, self.own = 0, 0, 0.0, None
        self.began = self.saved = time.time()
        if self.path.exists():
            self.load()

    def load(self):
        try:
            s = torch.load(self.path, map_location="cpu", weights_only=True)
            if s["made"] != self.made:
                die(f"{self.path} is of another model or other options ({s['made']}, now "
                    f"{self.made}): delete it to start afresh")
            self.heads.load_state_dict(s["heads"])
            self.muon.load_state_dict(s["muon"])
            self.step, self.batches, self.spent = s["step"], s["batches"], s["spent"]
            if s["own"] is not None:
                self.own = [(i.numpy().astype(np.uint16), m.numpy()) for i, m in s["own"]]
        except (OSError, KeyError, ValueError, RuntimeError, TypeError) as e:
            die(f"cannot load {self.path}: {e}; delete it to start afresh")
        print(f"going on at step {self.step}, after {self.spent / 60:.1f} minutes", flush=True)

    def save(self):
        own = self.own and [(torch.from_numpy(i.astype(np.int32)), torch.from_numpy(m))
                            for i, m in self.own]
        part = self.path.with_name(self.path.name + ".part")
        torch.save({"made": self.made, "heads": self.heads.state_dict(), "own": own,
                    "muon": self.muon.state_dict(), "step": self.step, "batches": self.batches,
                    "spent": self.seconds()}, part)
        part.rename(self.path)
        self.saved = time.time()

    def seconds(self):
        return self.spent + time.time() - self.began

    def done(self):
        """How much of the run is done, 0 to 1."""
        a = self.args
        return self.step / a.steps if a.steps else self.seconds() / (a.minutes * 60)


def answer_own(run, base, splits, stops):
    def say(done, all_):
        print(f"{done} of {all_} prompts answered, {run.seconds() / 60:.1f} min", flush=True)

    prompts = own_prompts(splits, 0, run.args.own, np.random.default_rng(6000))
    run.own = answer(base.quick, prompts, OWN_ANSWER, stops, say)
    run.save()


def train(run, base, heads, muon, splits, tokens):
    args = run.args
    supply = rows(splits, "none", 0, make_samples(args.texts, run.own or []))
    for _ in range(run.batches * ROWS):
        next(supply)
    rng = np.random.default_rng(7000 + run.step)
    each = 4 * base.table.shape[1] + 16 + 4 * args.heads      # bytes of a position
    batch = ROWS * LENGTH
    pool = Pool(base, max(1, args.keep * 2**20 // each // batch) * batch, args.heads, args.device)
    losses, shown, due = [], time.time(), 0.0
    while (done := run.done()) < 1:
        if due < 1:             # steps until the next rows are read
            fresh = pool.add([next(supply) for _ in range(ROWS)], args.rest, tokens.bos, rng)
            due += args.reuse * fresh / args.batch
            run.batches += 1
            continue
        due -= 1
        loss, parts = loss_of(pool, heads, args.batch, args.smooth, rng)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(heads.parameters(), 1.0)
        muon.step(args.lr * min((run.step + 1) / WARMUP, 1.0, 1.25 * (1 - done) + 0.01))
        heads.zero_grad(set_to_none=True)
        run.step += 1
        losses.append(parts)
        if not np.isfinite(loss.item()):
            die(f"the loss is {loss.item()} at step {run.step}; try a lower --lr")
        if time.time() - shown > 10:
            left = run.seconds() * (1 / max(run.done(), 1e-9) - 1)
            print(f"step {run.step} divergence " +
                  " ".join(f"{v:.3f}" for v in np.mean(losses, 0)) +
                  f", {pool.answers / 1e3:.0f} k answer tokens, {run.seconds() / 60:.1f} min, "
                  f"{max(left, 0) / 60:.1f} left", flush=True)
            losses, shown = [], time.time()
        if time.time() - run.saved > SAVE_SECONDS:
            run.save()
    run.save()


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    tokens = Tokens(Path(args.work) / "tokenizer.model")
    model = load_base(args.model, tokens)
    splits = load_tokens(args.data, args.work)
    vocab = None if args.draft_vocab is None else \
        frequent(splits, args.draft_vocab, tokens, model.c.vocab)
    named = fingerprint(model)
    base = Base(model, args.device, vocab)
    heads = Heads(model.c.dim, args.heads).to(args.device)
    muon = Muon(list(heads.parameters()))
    run = Run(args, named, heads, muon)
    stops = torch.tensor([tokens.im_end, tokens.eos], device=args.device)
    if args.own and run.own is None:
        answer_own(run, base, splits, stops)
    train(run, base, heads, muon, splits, tokens)
    write_drafter(args.output, "s4c", args.name or Path(args.output).name.removesuffix(".gguf"),
                  named, {"heads": args.heads}, dict(heads.matrices()), args.type, vocab)
    print(f"{run.step} steps in {run.seconds() / 60:.1f} minutes; wrote {args.output}, "
          f"{Path(args.output).stat().st_size} bytes", flush=True)
    held_out = answer(base.exact, own_prompts(splits, 1, 64, np.random.default_rng(8000),
                                              ("assistant",)), OWN_ANSWER, stops)
    report(base, heads, splits, stops, [(i, m) for i, m in held_out if m.sum() > 1])


if __name__ == "__main__":
    main()
