"""What the trainers of drafters share: the frozen model they learn from, its texts and its own
answers, progress that can be taken up again, and how guesses are measured."""
import argparse
import copy
import time
from pathlib import Path

from common import Muon, die
from drafterfile import TYPES, fingerprint_for, write_drafter
from finetune import rows
from llamafile import load_base
from texts import Corpora, TextFile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

LENGTH = 1024           # tokens of a row, where the model has room for as many
WARMUP = 20             # steps
EPS = 1e-6
SAVE_SECONDS = 60
OWN_ANSWER = 128        # tokens at most
OWN_HELD = 64           # answers of a report
LOGITS = 1 << 24        # that are made at once
CACHE = 1 << 28         # numbers of keys and values that are kept for answers
VOCAB_PART = 8192       # rows of the output matrix that are widened at once


def parts_for(h, vocab):
    """Features [n][dim] in parts whose logits are not too many."""
    return h.split(max(16, LOGITS // vocab))


class Base:
    """The frozen model: in bfloat16 with float32 norms for features, in float32 for measuring. Of a
    large model there is the former only."""

    def __init__(self, model, device, vocab):
        self.exact = self.quick = model.to(device)
        if model.head.dtype != torch.bfloat16:
            self.quick = copy.deepcopy(model)
            for module in self.quick.modules():
                if isinstance(module, (nn.Linear, nn.Embedding)):
                    module.bfloat16()
        self.table = model.token_embd.weight                       # [vocab][dim]
        self.kept = None if vocab is None else torch.as_tensor(vocab, device=device)
        self.output = model.head if vocab is None else model.head[self.kept]
        self.output16 = self.output.bfloat16()

    def embedded(self, ids):
        """The tokens' embeddings, scaled to root mean square 1."""
        e = self.table[ids].float()
        return e * torch.rsqrt(e.pow(2).mean(-1, keepdim=True) + EPS)

    def logits(self, h, kept=True):
        """In float32, of features [n][dim]; kept: of the tokens that may be drafted only."""
        output = self.output if kept else self.exact.head
        return torch.cat([F.linear(h.float(), w.float()) for w in output.split(VOCAB_PART)], -1)

    @torch.no_grad()
    def teach(self, h):
        """Of features [n][dim]: the expected row of the output matrix, the probability of all that
        may be drafted, and the sum of p log p."""
        out = []
        for part in parts_for(h, len(self.table)):
            logs = F.log_softmax(F.linear(part, self.quick.head).float(), -1)
            logs = logs if self.kept is None else logs[:, self.kept]
            p = logs.exp()
            out.append(((p.bfloat16() @ self.output16).float(), p.sum(-1), (p * logs).sum(-1)))
        return tuple(torch.cat(v) for v in zip(*out))


class LogSumExp(torch.autograd.Function):
    """log sum exp of W g, for a W that is not learned: the gradient is made at once, so that no
    logits are kept."""

    @staticmethod
    def forward(ctx, g, w):
        values, rows = [], []
        for part in parts_for(g.bfloat16(), len(w)):
            logits = F.linear(part, w).float()
            logs = F.log_softmax(logits, -1)
            values.append(logits[:, 0] - logs[:, 0])
            rows.append(logs.exp_().bfloat16() @ w)
        ctx.save_for_backward(torch.cat(rows))
        return torch.cat(values)

    @staticmethod
    def backward(ctx, grad):
        return grad[:, None] * ctx.saved_tensors[0].float(), None


# ---------------------------------------------------------------------------------------------
# Answers, and chains in texts.


@torch.no_grad()
def answer(model, prompts, most, stops, say=None):
    """The model's greedy continuations of up to `most` tokens, as (ids, mine).  Rows of a batch
    stand at the same position, and those with longer prompts still read while others write."""
    device, c, done = model.token_embd.weight.device, model.c, []
    group = c.heads // c.kv_heads
    prompts = sorted(prompts, key=len)
    longest = max((len(p) for p in prompts), default=0) + most
    batch = max(1, min(128, CACHE // (2 * c.layers * c.kv_heads * c.head_dim * longest)))
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
            logits = F.linear(model.output_norm(x[:, 0]), model.head)
            new = logits.argmax(-1)
            ids[:, t + 1] = torch.where(writes, new, ids[:, t + 1])
            stopped = writes & torch.isin(new, stops)
            lengths = torch.where(stopped, torch.full_like(lengths, t + 2), lengths)
        for row, p, n in zip(ids.cpu().numpy(), part, lengths.tolist()):
            done.append((row[:n].astype(np.int32), (np.arange(n) >= len(p)).astype(np.uint8)))
        if say:
            say(len(done), len(prompts))
    return done


def chains(pairs, rest, count, edges, rng):
    """Of rows (inputs, labels): the inputs [rows][length]; how many belong to answers; and per position
    and offset 1..count whether a chain that starts there has that token to learn, [rows][length]
    [count].  A position inside an answer may start a chain, which ends with the answer; of the others
    the share `rest` may.  edges: the tokens before and behind samples."""
    x, y = (np.stack(v) for v in zip(*pairs))
    inside = ~np.isin(x, edges)
    mine = y != -100
    answers = int(mine.sum())
    good, out = mine | (rng.random(x.shape) < rest), np.zeros((*x.shape, count), bool)
    for i in range(count):
        k = 1 + i
        good = good & np.pad(inside[:, k:], ((0, 0), (0, k)))
        mine = mine & np.pad((y != -100)[:, k:], ((0, 0), (0, k)))
        good = good & (mine | (y == -100))
        out[..., i] = good
    return x, answers, out


# ---------------------------------------------------------------------------------------------
# Measuring.


@torch.no_grad()
def follow(base, ids, mine):
    """Of a text, read exactly: its tokens, features and the model's most likely tokens behind each,
    and which tokens may be drafted."""
    x = torch.from_numpy(ids.astype(np.int64)).to(base.table.device)
    h = base.exact.hidden(x[None])[0]
    return x, h, base.logits(h, kept=False).argmax(-1), torch.from_numpy(mine.astype(bool)).to(x.device)


def rank_of(base, logits, best):
    """The rank (0: the first) that rows of logits, over the tokens that may be drafted, give `best`."""
    if base.kept is None:
        return (logits > logits.gather(1, best[:, None])).sum(-1)
    wanted = torch.searchsorted(base.kept, best).clamp(max=len(base.kept) - 1)
    rank = (logits > logits.gather(1, wanted[:, None])).sum(-1)
    return torch.where(base.kept[wanted] == best, rank, torch.full_like(rank, len(base.table)))


def measure(every, items):
    """Of (ranks, own) for each item: for every start t of a chain inside an answer, and every offset,
    the rank of the model's most likely token (-1 behind the answer's end), and whether all text tokens
    of the chain were most likely themselves.  Shares of first and first-five places per offset, and
    tokens per pass when the greedy chain is checked pass by pass along the text."""
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
        t, end = int(np.flatnonzero(mine)[0]), min(len(ids), len(rank)) - 1
        while t < end:          # token t is known and drafts start behind it
            n = 0
            while n < rank.shape[1] and rank[t - 1, n] == 0:
                n += 1
            produced, passes, t = produced + n + 1, passes + 1, t + n + 1
    return top1, top5, 1 + float(np.cumprod(cond).sum()), produced / max(passes, 1), int(
        (r[:, 0] >= 0).sum())


def held_out_texts(run):
    """(what is held out as written, the model's own greedy answers to its prompts), in rows."""
    cut = lambda texts: [(ids[:run.length], mine[:run.length]) for ids, mine in texts
                         if mine[1:run.length].any()]
    prompts = run.texts.prompts(True, OWN_HELD, np.random.default_rng(8000))
    own = answer(run.model, prompts, OWN_ANSWER, run.stops)
    return cut(run.texts.written()), cut((i, m) for i, m in own if m.sum() > 1)


def report(texts, count, part, ranks):
    """A table for the two held-out texts; ranks(ids, mine) gives what measure() wants."""
    print("on held-out text; right is what the model itself holds most likely")
    print("| text | positions | " + " | ".join(
        f"{part} {i} top-1 / top-5" for i in range(count)) + " |")
    print("|---" * (count + 2) + "|")
    results = []
    for name, items in zip(("as written", "the model's own greedy answers"), texts):
        every = [ranks(ids, mine) for ids, mine in items]
        top1, top5, along, walked, n = measure(every, items)
        results.append((along, walked))
        print(f"| {name} | {n} | " + " | ".join(
            f"{a:.3f} / {b:.3f}" for a, b in zip(top1, top5)) + " |")
    print(f"expected tokens per step, of chains of {count} tokens: {results[1][1]:.3f}, counted pass by "
          "pass along the model's own greedy answers;")
    print(f"{results[0][0]:.3f} by the text as written: 1 + the sum over depths of the product of "
          "top-1 rates, each among the positions where the text's tokens so far were the model's "
          "most likely and all guesses before were right", flush=True)


# ---------------------------------------------------------------------------------------------
# A run.


def arguments(description, family):
    """The options that every trainer has."""
    a = argparse.ArgumentParser(description=description,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model", help="the frozen model: a .gguf file, a folder with config.json and "
                                 "*.safetensors, or a .pt checkpoint")
    a.add_argument("output",
                   help=f"the drafter's file to write, MODEL-{family}.drafter.gguf by custom")
    a.add_argument("--text", metavar="FILE",
                   help="what to learn on: plain text, or JSON lines of {messages} or of {prompt, "
                        "response}; .xz and .gz are read too")
    a.add_argument("--tokens", type=float, default=5, metavar="M",
                   help="million tokens of the text that are read at most (5)")
    a.add_argument("--foretoken", metavar="PATH",
                   help="the program that makes tokens of the text (build/release/foretoken)")
    a.add_argument("--for", dest="gguf", metavar="MODEL.gguf",
                   help="where the model is a folder: the GGUF file of it that the drafter is for, if "
                        "it has other tokens or norms than the folder")
    a.add_argument("--data", help="in place of --text: folder with the demo's corpora")
    a.add_argument("--work", help="with --data: folder with tokenizer.model")
    length = a.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="as long as this, all but the report")
    length.add_argument("--steps", type=int, help="this many steps")
    a.add_argument("--own", type=int, default=0, metavar="N",
                   help="learn on the model's own greedy answers to N prompts too (0)")
    a.add_argument("--texts", type=float, default=0.05,
                   help="with --data: share of the documents that an epoch has beside the "
                        "conversations (0.05)")
    a.add_argument("--name", help="general.name (of the output file)")
    a.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    a.set_defaults(device="cpu")
    return a


def chain_arguments(description, family):
    """And those of trainers that learn chains of guesses by matrices."""
    a = arguments(description, family)
    a.add_argument("--rest", type=float, default=0.1,
                   help="share of the positions outside answers to learn (0.1)")
    a.add_argument("--batch", type=int, default=512, help="chains per step (512)")
    a.add_argument("--reuse", type=float, default=3,
                   help="how often a position is used before the next are read (3)")
    a.add_argument("--lr", type=float, default=0.03, help="of Muon (0.03)")
    a.add_argument("--type", choices=TYPES, default="q8_0", help="of the matrices (q8_0)")
    a.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return a


def check(args, **ranges):
    """Ends the program with one line where an option is out of range."""
    if (args.data is None) != (args.work is None) or (args.text is None) == (args.data is None):
        die("give --text FILE, or --data and --work for the demo's corpora")
    ranges |= {"own": (0, 10**6), "tokens": (0.02, 1000), "texts": (0, 1), "rest": (0, 1),
               "batch": (1, 10**6), "reuse": (0.01, 1000), "threads": (1, 1024), "lr": (1e-6, 1)}
    for name, (low, high) in ranges.items():
        if name in vars(args) and not low <= getattr(args, name) <= high:
            die(f"--{name.replace('_', '-')} has to be from {low} to {high}")
    if (args.steps is not None and args.steps < 1) or (args.minutes is not None and
                                                        args.minutes <= 0):
        die("--minutes and --steps have to be above 0")
    if args.device == "cuda" and not torch.cuda.is_available():
        die("--device cuda: this PyTorch sees no GPU; leave the option out to train on the CPU")
    if not Path(args.output).resolve().parent.is_dir():
        die(f"cannot write {args.output}: there is no such folder")
    return args


class Run:
    """A model that is learned from, what it is learned on, and progress that can be taken up again:
    OUTPUT.resume.pt."""

    def __init__(self, args, length=LENGTH):
        torch.set_num_threads(args.threads)
        torch.manual_seed(1)
        self.args, self.model = args, load_base(args.model)
        self.print = fingerprint_for(self.model, args.gguf)
        self.length = min(length, self.model.c.context)
        self.texts = Corpora(args.data, args.work) if args.text is None else \
            TextFile(args.text, int(args.tokens * 1e6), self.length, args.model, args.foretoken)
        self.texts.check(args.model, self.model)
        self.edges = [self.texts.padding if v is None else v
                      for v in (self.texts.bos, self.texts.padding)]
        self.stops = torch.tensor(self.texts.ends, device=args.device)
        self.path = Path(f"{args.output}.resume.pt")

    def begin(self, base, learned, made, optimizer=Muon):
        """`made`: the options that a run which goes on must share.  self.kept: what else it keeps."""
        self.base, self.learned, self.kept = base, learned.to(self.stops.device), {}
        self.optimizer = optimizer(list(learned.parameters()))
        self.made = {"base": self.print, "own": self.args.own, "texts": self.args.texts} | \
            self.texts.words | made
        self.step, self.batches, self.spent, self.own = 0, 0, 0.0, None
        self.began = self.saved = time.time()
        if self.path.exists():
            self.load()
        if self.args.own and self.own is None:
            self.answer_own()

    def load(self):
        try:
            s = torch.load(self.path, map_location="cpu", weights_only=True)
            if s["made"] != self.made:
                die(f"{self.path} is of another model or other options ({s['made']}, now "
                    f"{self.made}): delete it to start afresh")
            self.learned.load_state_dict(s["learned"])
            self.optimizer.load_state_dict(s["optimizer"])
            self.step, self.batches, self.spent = s["step"], s["batches"], s["spent"]
            self.kept = s["kept"]
            if s["own"] is not None:
                self.own = [(i.numpy(), m.numpy()) for i, m in s["own"]]
        except (OSError, KeyError, ValueError, RuntimeError, TypeError) as e:
            die(f"cannot load {self.path}: {e}; delete it to start afresh")
        print(f"going on at step {self.step}, after {self.spent / 60:.1f} minutes", flush=True)

    def save(self):
        own = self.own and [(torch.from_numpy(i), torch.from_numpy(m)) for i, m in self.own]
        part = self.path.with_name(self.path.name + ".part")
        torch.save({"made": self.made, "learned": self.learned.state_dict(), "own": own,
                    "optimizer": self.optimizer.state_dict(), "step": self.step,
                    "batches": self.batches, "spent": self.seconds(), "kept": self.kept}, part)
        part.rename(self.path)
        self.saved = time.time()

    def seconds(self):
        return self.spent + time.time() - self.began

    def done(self):
        """How much of the run is done, 0 to 1."""
        a = self.args
        return self.step / a.steps if a.steps else self.seconds() / (a.minutes * 60)

    def say(self, what):
        print(f"{what}, {self.seconds() / 60:.1f} min", flush=True)

    def answer_own(self):
        say = lambda done, all_: self.say(f"{done} of {all_} prompts answered")
        prompts = self.texts.prompts(False, self.args.own, np.random.default_rng(6000))
        self.own = answer(self.base.quick, prompts, OWN_ANSWER, self.stops, say)
        self.save()

    def supply(self):
        """Endless rows (inputs, labels) of the texts and the model's own answers."""
        samples = self.texts.samples(self.args.texts, self.own or [], self.length)
        return rows(None, "none", 0, samples, self.length, self.texts.padding)

    def learn(self, pool, at_once):
        """pool.add(rows, rng) reads `at_once` rows and returns for how many steps they are good,
        pool.loss(rng) is the loss of a step, with figures to show, which pool.shows names;
        pool.answers counts the answers' tokens."""
        args, supply = self.args, self.supply()
        for _ in range(self.batches * at_once):
            next(supply)
        rng = np.random.default_rng(7000 + self.step)
        losses, shown, due = [], time.time(), 0.0
        while (done := self.done()) < 1:
            if due < 1:             # steps until the next rows are read
                due += pool.add([next(supply) for _ in range(at_once)], rng)
                self.batches += 1
                continue
            due -= 1
            loss, parts = pool.loss(rng)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.learned.parameters(), 1.0)
            self.optimizer.step(args.lr * min((self.step + 1) / WARMUP, 1.0, 1.25 * (1 - done) + 0.01))
            self.learned.zero_grad(set_to_none=True)
            self.step += 1
            losses.append(parts)
            if not np.isfinite(loss.item()):
                die(f"the loss is {loss.item()} at step {self.step}; try a lower --lr")
            if time.time() - shown > 10:
                left = self.seconds() * (1 / max(self.done(), 1e-9) - 1)
                print(f"step {self.step} {pool.shows} " +
                      " ".join(f"{v:.3f}" for v in np.mean(losses, 0)) +
                      f", {pool.answers / 1e3:.0f} k answer tokens, {self.seconds() / 60:.1f} min, "
                      f"{max(left, 0) / 60:.1f} left", flush=True)
                losses, shown = [], time.time()
            if time.time() - self.saved > SAVE_SECONDS:
                self.save()
        self.save()

    def write(self, family, numbers, matrices, kind, vocab=None):
        args = self.args
        name = args.name or Path(args.output).name.removesuffix(".gguf")
        write_drafter(args.output, family, name, self.print, numbers, matrices, kind, vocab)
        print(f"{self.step} steps in {self.seconds() / 60:.1f} minutes; wrote {args.output}, "
              f"{Path(args.output).stat().st_size} bytes", flush=True)
