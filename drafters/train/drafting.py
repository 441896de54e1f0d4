"""What the trainers of drafters share: the frozen model they learn from and its lessons, progress that
can be taken up again, and how guesses are measured."""
import argparse
import time
from pathlib import Path

from common import die
from drafterfile import TYPES, fingerprint, write_drafter
from lessons import Lessons
from llamafile import norms_of, outer_matrices

import numpy as np
import torch
import torch.nn.functional as F

WARMUP = 20             # steps
EPS = 1e-6
SAVE_SECONDS = 60
VOCAB_PART = 8192       # rows of the output matrix that are widened at once
ALWAYS = 256            # tokens that each sum over the vocabulary has, the most frequent ones
LIKELIEST = 2           # of each row that it has
BY_CHANCE = 512         # others, drawn anew for each


class Base:
    """Of the frozen model: its embeddings, its output matrix, and what its lessons say of each row.
    vocab: the rising ids of the tokens that may be drafted; None: all."""

    def __init__(self, lessons, path, device, vocab):
        table, output = outer_matrices(path)
        size = len(output)
        ids = torch.arange(size) if vocab is None else torch.as_tensor(vocab)
        self.lessons, self.kept = lessons, ids
        self.table = table.to(device)                               # [vocab][dim]
        self.output = output[ids].to(device)                        # [kept][dim]
        self.output16 = self.output.bfloat16()
        self.place = torch.full((size,), -1, dtype=torch.long)      # of a token among those kept
        self.place[ids] = torch.arange(len(ids))
        counts = torch.from_numpy(lessons.counts())[ids]
        self.always = torch.argsort(counts, descending=True, stable=True)[:ALWAYS].to(device)

    def embedded(self, ids):
        """The tokens' embeddings, scaled to root mean square 1."""
        e = self.table[ids].float()
        return e * torch.rsqrt(e.pow(2).mean(-1, keepdim=True) + EPS)

    def logits(self, h):
        """In float32, of features [n][dim], of the tokens that may be drafted."""
        return torch.cat([F.linear(h.float(), w.float()) for w in self.output.split(VOCAB_PART)], -1)

    def taught(self, rows):
        """What the model said behind each of the lessons' rows: the likeliest tokens [n][top], as places
        among those kept, -1 for others, and their probabilities, 0 for those."""
        place = self.place[torch.from_numpy(self.lessons.best[rows].astype(np.int64))]
        p = torch.from_numpy(self.lessons.logp[rows].astype(np.float32)).exp()
        device = self.output.device
        return place.to(device), torch.where(place >= 0, p, torch.zeros(())).to(device)

    def sample(self, place, rng):
        """Tokens (places) that sums over the vocabulary are estimated by, for rows whose model said `place`:
        the most frequent ones and what it held likeliest, and of all others some by chance; and the logarithm
        of the share that was drawn of each."""
        size, device = len(self.output), self.output.device
        sure = torch.zeros(size, dtype=torch.bool, device=device)
        sure[self.always] = True
        sure[place[:, :LIKELIEST].clamp(min=0)] = True
        others = (~sure).nonzero()[:, 0]
        n = min(BY_CHANCE, len(others))
        drawn = torch.from_numpy(rng.integers(len(others), size=n)).to(device) if n else others
        share = torch.zeros(int(sure.sum()) + n, device=device)
        share[len(share) - n:] = np.log(n / len(others)) if n else 0.0
        return torch.cat((sure.nonzero()[:, 0], others[drawn])), share

    def divergence(self, g, place, p, rng):
        """Of features g [n][dim] against the model's distributions (place, p): what is learned, and the
        divergence itself, [n] each.  What the lessons do not name counts for nothing."""
        wanted = F.embedding_bag(place.clamp(min=0), self.output, per_sample_weights=p, mode="sum")
        log_sum = LogSumExp.apply(g, self.output16, *self.sample(place, rng))
        cross = p.sum(-1) * log_sum - (wanted * g).sum(-1)
        return cross, (cross + (p * p.clamp(min=1e-30).log()).sum(-1)).detach()


class LogSumExp(torch.autograd.Function):
    """log sum exp of W g for a W that is not learned, estimated by its rows `some`, of which exp(share) was
    drawn.  The gradient is made at once, so that no logits are kept."""

    @staticmethod
    def forward(ctx, g, w, some, share):
        some_w = w[some]
        logits = F.linear(g.bfloat16(), some_w, -share.bfloat16()).float()
        value = torch.logsumexp(logits, -1)
        rows = (logits - value[:, None]).exp_().bfloat16() @ some_w
        ctx.save_for_backward(rows)
        return value

    @staticmethod
    def backward(ctx, grad):
        return grad[:, None] * ctx.saved_tensors[0].float(), None, None, None


# ---------------------------------------------------------------------------------------------
# Chains in texts.


def starts_of(lessons, texts, count, rest, rng):
    """Rows that a chain of up to `count` tokens may start behind, and how many of its tokens there are to
    learn: those inside answers, and of the others the share `rest`."""
    rows, lengths = [], []
    for t in texts:
        mine = np.asarray(lessons.mine[t]).astype(bool)
        n = len(mine)
        at = np.arange(n - 2)
        # the token behind the start is known, and the model says what comes behind it
        good = mine[1:-1] | (rng.random(n - 2) < rest)
        at = at[good]
        rows.append(t.start + at)
        lengths.append(np.minimum(count, n - 2 - at))
    return np.concatenate(rows), np.concatenate(lengths)


# ---------------------------------------------------------------------------------------------
# Measuring.


def follow(lessons, text):
    """Of a text: its tokens, the model's most likely token behind each, and whose the tokens are."""
    t = lambda v: torch.from_numpy(np.ascontiguousarray(v))
    return (t(lessons.tokens[text].astype(np.int64)), t(lessons.best[text][:, 0].astype(np.int64)),
            t(lessons.mine[text].astype(bool)))


def rank_of(base, logits, best):
    """The rank (0: the first) that rows of logits, over the tokens that may be drafted, give `best`."""
    place = base.place[best].to(logits.device)
    rank = (logits > logits.gather(1, place.clamp(min=0)[:, None])).sum(-1)
    return torch.where(place >= 0, rank, torch.full_like(rank, len(base.table)))


def measure(every, items):
    """Of (ranks, own) for each text: for every start t of a chain inside an answer, and every offset,
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
    for (rank, _), mine in zip(every, items):
        t, end = int(np.flatnonzero(mine)[0]), min(len(mine), len(rank)) - 1
        while t < end:          # token t is known and drafts start behind it
            n = 0
            while n < rank.shape[1] and rank[t - 1, n] == 0:
                n += 1
            produced, passes, t = produced + n + 1, passes + 1, t + n + 1
    return top1, top5, 1 + float(np.cumprod(cond).sum()), produced / max(passes, 1), int(
        (r[:, 0] >= 0).sum())


def report(lessons, count, part, ranks):
    """A table of the held-out texts; ranks(text) gives what measure() wants of its rows."""
    texts = [t for t in lessons.held_out() if lessons.mine[t][1:].any()]
    every = [ranks(t) for t in texts]
    top1, top5, along, walked, n = measure(every, [np.asarray(lessons.mine[t]) for t in texts])
    print(f"on {len(texts)} held-out texts, {n} positions; right is what the model itself holds most likely")
    print("| | " + " | ".join(f"{part} {i}" for i in range(count)) + " |")
    print("|---" * (count + 1) + "|")
    for name, shares in (("first", top1), ("among the first five", top5)):
        print(f"| {name} | " + " | ".join(f"{v:.3f}" for v in shares) + " |")
    print(f"expected tokens per step, of chains of {count} tokens: {walked:.3f}, counted pass by pass along "
          f"the texts; {along:.3f}: 1 + the sum over depths of the product of the shares of right guesses, each "
          "where the text's tokens so far were the model's most likely and all guesses before were right",
          flush=True)


# ---------------------------------------------------------------------------------------------
# A run.


def arguments(description, custom):
    """The options that every trainer has.  custom: what its output is called, behind the model's name."""
    a = argparse.ArgumentParser(description=description,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model", help="the frozen model, a .gguf file")
    a.add_argument("lessons", help="the folder that the program teach made of it")
    a.add_argument("output",
                   help=f"the file to write, MODEL-{custom} by custom")
    length = a.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="as long as this, all but the report")
    length.add_argument("--steps", type=int, help="this many steps")
    a.add_argument("--name", help="general.name (of the output file)")
    a.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    a.set_defaults(device="cpu")
    return a


def chain_arguments(description, family):
    """And those of trainers that learn chains of guesses by matrices."""
    a = arguments(description, f"{family}.drafter.gguf")
    a.add_argument("--rest", type=float, default=0.1,
                   help="share of the positions outside answers to learn (0.1)")
    a.add_argument("--batch", type=int, default=1024, help="chains per step (1024)")
    a.add_argument("--lr", type=float, default=0.003, help="of Adam (0.003)")
    a.add_argument("--type", choices=TYPES, default="q8_0", help="of the matrices (q8_0)")
    a.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return a


def check(args, **ranges):
    """Ends the program with one line where an option is out of range."""
    ranges |= {"rest": (0, 1), "batch": (1, 10**6), "threads": (1, 1024), "lr": (1e-6, 1)}
    for name, (low, high) in ranges.items():
        value = getattr(args, name, None)
        if value is not None and not low <= value <= high:
            die(f"--{name.replace('_', '-')} has to be from {low} to {high}")
    if (args.steps is not None and args.steps < 1) or (args.minutes is not None and
                                                        args.minutes <= 0):
        die("--minutes and --steps have to be above 0")
    if args.device == "cuda" and not torch.cuda.is_available():
        die("--device cuda: this PyTorch sees no GPU; leave the option out to train on the CPU")
    if not Path(args.output).resolve().parent.is_dir():
        die(f"cannot write {args.output}: there is no such folder")
    return args


class Adam(torch.optim.Adam):
    """With a learning rate of each step.  On matrices this small Muon's orthogonal updates cost as much as
    the gradients."""

    def __init__(self, parameters):
        super().__init__(parameters, betas=(0.9, 0.98))

    def step(self, lr):
        for group in self.param_groups:
            group["lr"] = lr
        super().step()


class Run:
    """A model that is learned from, its lessons, and progress that can be taken up again:
    OUTPUT.resume.pt."""

    def __init__(self, args):
        torch.set_num_threads(args.threads)
        torch.manual_seed(1)
        self.args = args
        sizes, norms = norms_of(args.model)
        self.print, (self.layers, self.dim, self.vocab) = fingerprint(sizes, norms), sizes
        self.lessons = Lessons(args.lessons)
        self.lessons.check(self.print, args.model)
        self.path = Path(f"{args.output}.resume.pt")

    def begin(self, learned, made):
        """`made`: the options that a run which goes on must share.  self.kept: what else it keeps."""
        self.learned, self.kept = learned.to(self.args.device), {}
        self.optimizer = Adam(list(learned.parameters()))
        self.made = {"base": self.print, "texts": self.lessons.about["texts"]} | made
        self.step, self.spent = 0, 0.0
        self.began = self.saved = time.time()
        if self.path.exists():
            self.load()

    def load(self):
        try:
            s = torch.load(self.path, map_location="cpu", weights_only=True)
            if s["made"] != self.made:
                die(f"{self.path} is of another model or other options ({s['made']}, now "
                    f"{self.made}): delete it to start afresh")
            self.learned.load_state_dict(s["learned"])
            self.optimizer.load_state_dict(s["optimizer"])
            self.step, self.spent, self.kept = s["step"], s["spent"], s["kept"]
        except (OSError, KeyError, ValueError, RuntimeError, TypeError) as e:
            die(f"cannot load {self.path}: {e}; delete it to start afresh")
        print(f"going on at step {self.step}, after {self.spent / 60:.1f} minutes", flush=True)

    def save(self):
        part = self.path.with_name(self.path.name + ".part")
        try:
            torch.save({"made": self.made, "learned": self.learned.state_dict(),
                        "optimizer": self.optimizer.state_dict(), "step": self.step,
                        "spent": self.seconds(), "kept": self.kept}, part)
            part.rename(self.path)
        except (OSError, RuntimeError) as e:
            die(f"cannot write {self.path}: {e}")
        self.saved = time.time()

    def seconds(self):
        return self.spent + time.time() - self.began

    def done(self):
        """How much of the run is done, 0 to 1."""
        a = self.args
        return self.step / a.steps if a.steps else self.seconds() / (a.minutes * 60)

    def say(self, what):
        print(f"{what}, {self.seconds() / 60:.1f} min", flush=True)

    def learn(self, pool):
        """pool.loss(rng) is the loss of a step, with figures to show, which pool.shows names;
        pool.positions counts what was learned."""
        args, losses, shown, seen = self.args, [], time.time(), 0
        while (done := self.done()) < 1:
            rng = np.random.default_rng((7000, self.step))
            loss, parts = pool.loss(rng)
            if loss.requires_grad:      # else the pool has done it, part by part
                loss.backward()
            torch.nn.utils.clip_grad_norm_(self.learned.parameters(), 1.0)
            self.optimizer.step(args.lr * min((self.step + 1) / WARMUP, 1.0, 1.25 * (1 - done) + 0.01))
            self.learned.zero_grad(set_to_none=True)
            self.step += 1
            losses.append(parts)
            if not np.isfinite(loss.item()):
                die(f"the loss is {loss.item()} at step {self.step}; try a lower --lr")
            if (past := time.time() - shown) > 10:
                left = self.seconds() * (1 / max(self.done(), 1e-9) - 1)
                print(f"step {self.step} {pool.shows} " +
                      " ".join(f"{v:.3f}" for v in np.mean(losses, 0)) +
                      f", {60 * (pool.positions - seen) / past / 1e3:.0f} k positions a minute, "
                      f"{self.seconds() / 60:.1f} min, {max(left, 0) / 60:.1f} left", flush=True)
                losses, shown, seen = [], time.time(), pool.positions
            if time.time() - self.saved > SAVE_SECONDS:
                self.save()
        self.save()

    def write(self, family, numbers, matrices, kind, vocab=None):
        args = self.args
        name = args.name or Path(args.output).name.removesuffix(".gguf")
        write_drafter(args.output, family, name, self.print, numbers, matrices, kind, vocab)
        print(f"{self.step} steps in {self.seconds() / 60:.1f} minutes; wrote {args.output}, "
              f"{Path(args.output).stat().st_size} bytes", flush=True)
