"""Calibrates and trains DASH's layer skipping for a frozen Llama and writes it as a drafter's GGUF file.

Our reading of "DASH: input-aware dynamic layer skipping", of which only the abstract and a review
could be read.  At each layer a policy chooses for the token at hand: run the layer, run a copy of it
in few bits, or skip it and multiply the state by the layer's compensation.  It sees the state, the two
actions before, and what was spent so far.

Compensation is the least-squares factor from a layer's input to its output, per channel.  The policy
learns by REINFORCE on the model's own states: every position of a text is an episode of its own, whose
row attends to the exact keys and values of the text before it.  Reward of an action a at a layer:
-lambda cost(a) + delta_a cos(state, state of the full model), with delta_full > delta_partial >
delta_skip; at the end whether the likeliest token is the full model's, less the divergence from it.
lambda rises until the mean cost is the share of the layers' cost that was asked for.
"""
from common import die
from drafting import Run, arguments, check
from llamafile import load_frozen

import gguf
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

LENGTH = 512            # tokens of a text
LEAST = 8               # positions inside answers of a text that is learned on
HELD = 8                # texts of a report, which reads each some forty times
CALIBRATED = 24         # texts that the compensation is made of
HARMED, HARMED_LENGTH = 4, 128  # texts in which each layer is left out, and their tokens
PAST = 7                # two actions, one-hot, and the share that was spent
SKIP_DELTA, PARTIAL_DELTA, FULL_DELTA = 0.1, 0.16, 0.2
FULL, PARTIAL, SKIP = range(3)      # the numbers of the file's readers
DELTA = torch.tensor([FULL_DELTA, PARTIAL_DELTA, SKIP_DELTA])
EPS = 1e-6
EXPLORE = 0.05          # share of the choices that are made at random
DECAY = 0.003           # weight of the logits' squares


def scaled(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)


# ---------------------------------------------------------------------------------------------
# The model, layer by layer.


def quantised(model):
    """A copy whose layers went through Q4_0."""
    copy = type(model)(model.c).eval().requires_grad_(False)
    copy.load_state_dict(model.state_dict())
    q = gguf.GGMLQuantizationType.Q4_0
    for name, p in copy.named_parameters():
        if p.dim() == 2 and "embd" not in name:
            p.copy_(torch.from_numpy(gguf.quants.dequantize(
                gguf.quants.quantize(p.numpy(), q), q)))
    return copy


class Base:
    """The frozen model and its low-bit copy, and what skipping costs."""

    def __init__(self, model, args):
        self.model, self.c = model, model.c
        self.blocks = {FULL: model.blk, PARTIAL: quantised(model).blk}
        self.first, self.last = args.first, args.last
        self.cost = torch.tensor([1.0, args.partial_cost, args.skip_cost])
        self.scale = torch.ones(self.c.layers, self.c.dim)

    def decides(self, layer):
        return self.first <= layer < self.c.layers - self.last

    def turn(self, at):
        return self.model.cos[at], self.model.sin[at]

    def keys(self, block, x, at):
        """Keys [kv_heads][n][head_dim] and values of rows at positions `at`."""
        c, h = self.c, block.attn_norm(x)[None]
        k = block.rotated(h, block.attn_k, c.kv_heads, *self.turn(at))[0]
        return k, block.attn_v(h).view(len(x), c.kv_heads, c.head_dim).transpose(0, 1)

    def layer(self, block, x, at, past, own):
        """What a layer makes of rows x [n][dim] at positions `at`, which see keys and values `past` of
        the positions before and their own."""
        c, h = self.c, block.attn_norm(x)[None]
        q = block.rotated(h, block.attn_q, c.heads, *self.turn(at))[0]
        q = q.view(c.kv_heads, -1, len(x), c.head_dim) * c.score_scale
        text = torch.arange(past[0].shape[1])
        hidden = text >= at[:, None]
        if block.window:
            hidden = hidden | (text <= at[:, None] - block.window)
        score = (q @ past[0][:, None].mT).masked_fill(hidden, float("-inf"))
        score = torch.cat((score, (q * own[0][:, None]).sum(-1, keepdim=True)), -1).softmax(-1)
        y = score[..., :-1] @ past[1][:, None] + score[..., -1:] * own[1][:, None]
        y = y.flatten(0, 1).transpose(0, 1).reshape(len(x), -1)
        return block.add_ffn(block.add_attention(x, y))

    def logits(self, x):
        return F.linear(self.model.output_norm(x), self.model.head)

    @torch.no_grad()
    def exact(self, ids):
        """Of a text: the states before each layer and behind the last, keys and values, logits."""
        at, x = torch.arange(len(ids)), self.model.embed(ids)
        states, cache = [x], []
        for block in self.model.blk:
            cache.append(self.keys(block, x, at))
            x = self.layer(block, x, at, cache[-1], cache[-1])
            states.append(x)
        return states, cache, self.logits(x)

    @torch.no_grad()
    def step(self, l, x, at, action, past):
        """The states behind layer l of rows whose actions differ.  past None: the rows are the text,
        one behind the other, and see each other's keys as they left them."""
        own = [t.clone() for t in self.keys(self.blocks[FULL][l], x, at)]
        some = action == PARTIAL
        if some.any():
            for mine, low in zip(own, self.keys(self.blocks[PARTIAL][l], x[some], at[some])):
                mine[:, some] = low
        out = x * self.scale[l]
        for kind in (FULL, PARTIAL):
            rows_ = (action == kind).nonzero()[:, 0]
            if len(rows_):
                out[rows_] = self.layer(self.blocks[kind][l], x[rows_], at[rows_], past or own,
                                        [t[:, rows_] for t in own])
        return out


@torch.no_grad()
def calibrate(base, texts, say):
    """The compensation; and the divergence when a layer alone is skipped, or run in few bits."""
    c = base.c
    top, below = torch.zeros(c.layers, c.dim), torch.zeros(c.layers, c.dim)
    for ids in texts:
        states, _, _ = base.exact(ids)
        for l in range(c.layers):
            top[l] += (states[l] * states[l + 1]).sum(0)
            below[l] += states[l].pow(2).sum(0)
    base.scale = top / below.clamp(min=1e-9)
    harm = torch.zeros(c.layers, 3)
    for ids in texts[:HARMED]:
        ids = ids[:HARMED_LENGTH]
        states, cache, logits = base.exact(ids)
        at, p = torch.arange(len(ids)), logits.log_softmax(-1)
        for l in range(base.first, c.layers - base.last):
            for kind in (PARTIAL, SKIP):
                x = base.step(l, states[l], at, torch.full((len(ids),), kind), cache[l])
                for k in range(l + 1, c.layers):
                    x = base.step(k, x, at, torch.zeros(len(ids), dtype=torch.long), cache[k])
                q = base.logits(x).log_softmax(-1)
                harm[l, kind] += (p.exp() * (p - q)).sum(-1).mean() / HARMED
        say("calibrating")
    return harm


# ---------------------------------------------------------------------------------------------
# The policy.


class Policy(nn.Module):
    def __init__(self, layers, dim, hidden, partial):
        super().__init__()
        self.inp = nn.Parameter(torch.randn(dim, hidden) / dim ** 0.5)
        self.past = nn.Parameter(torch.randn(PAST, hidden) * 0.3)
        self.bias = nn.Parameter(torch.zeros(layers, hidden))
        self.out = nn.Parameter(torch.zeros(layers, 3, hidden))
        start = [0.0, 1.5, 0.0] if partial else [1.5, 0.0, 0.0]
        self.out_bias = nn.Parameter(torch.tensor(start).repeat(layers, 1))
        self.partial = partial

    def forward(self, l, x, past):
        h = F.relu(scaled(x) @ self.inp + past @ self.past + self.bias[l])
        logits = h @ self.out[l].T + self.out_bias[l]
        if not self.partial:
            logits = logits.index_fill(1, torch.tensor(PARTIAL), float("-inf"))
        return logits

    def vectors(self):
        return {"policy.in": self.inp.flatten(), "policy.past": self.past.flatten(),
                "policy.bias": self.bias.flatten(), "policy.out": self.out.flatten(),
                "policy.out_bias": self.out_bias.flatten()}


class Fixed:
    """The same action for every token: actions [layers]."""

    def __init__(self, actions):
        self.actions = actions

    def __call__(self, l, x, past):
        return F.one_hot(torch.full((len(x),), self.actions[l]), 3).float() * 100


def walk(base, policy, x, at, past, sample=False, seen=None):
    """Runs rows through all layers.  past: keys and values by layer, None: their own.  Returns the last
    states, the actions [layers][n], (layer, log probabilities, logits) where they were sampled, and
    cosines with `seen`."""
    c, n = base.c, len(x)
    actions = torch.zeros(c.layers, n, dtype=torch.long)
    near, spent, logs = torch.ones(c.layers, n), torch.zeros(n), []
    for l in range(c.layers):
        if base.decides(l):
            before = F.one_hot(actions[l - 2:l] if l > 1 else actions[[l - 1, l - 1]], 3).float()
            given = torch.cat((before[1], before[0], (spent / c.layers)[:, None]), 1)
            logits = policy(l, x, given)
            actions[l] = logits.argmax(-1)
            if sample:
                allowed = (~logits.isinf()).float()
                p = (1 - EXPLORE) * logits.softmax(-1) + EXPLORE * allowed / allowed.sum(-1, keepdim=True)
                actions[l] = torch.multinomial(p, 1)[:, 0]
                logs.append((l, p.clamp(min=1e-9).log(), logits.nan_to_num(neginf=0.0)))
        x = base.step(l, x, at, actions[l], past and past[l])
        spent = spent + base.cost[actions[l]]
        if seen is not None:
            near[l] = F.cosine_similarity(x, seen[l + 1], dim=-1)
    return x, actions, logs, near


def loss_of(base, policy, ids, mine, args, weight, rng):
    """The loss of episodes of one text, and what there is to show."""
    states, cache, logits = base.exact(ids)
    pool = mine.nonzero()[:, 0]
    at = pool[torch.from_numpy(rng.permutation(len(pool))[:args.rows])]
    r, n = args.rollouts, len(at)
    at = at.repeat(r)
    x, actions, logs, near = walk(base, policy, states[0][at], at, cache, True, [s[at] for s in states])
    p, q = logits[at].log_softmax(-1), base.logits(x).log_softmax(-1)
    kl = (p.exp() * (p - q)).sum(-1)
    same = (p.argmax(-1) == q.argmax(-1)).float()
    reward = DELTA[actions] * near - weight * base.cost[actions] / base.c.layers
    to_go = reward.flip(0).cumsum(0).flip(0) + same - kl.clamp(max=4)
    to_go = to_go.view(base.c.layers, r, n)
    gain = (to_go - to_go.mean(1, keepdim=True)).flatten(1)
    gain = gain / (gain.std() + 1e-6)
    loss = 0.0
    for l, log, logits in logs:
        taken = log.gather(1, actions[l][:, None])[:, 0]
        entropy = -(log.exp() * log.clamp(min=-30)).sum(-1)
        loss = loss - (gain[l] * taken + args.entropy * entropy).mean() \
            + DECAY * logits.pow(2).mean()
    cost = base.cost[actions].mean().item()
    return loss, (cost, same.mean().item(), kl.mean().item())


# ---------------------------------------------------------------------------------------------
# Measuring.


@torch.no_grad()
def measure(base, policy, items):
    """Over positions inside answers.  As a drafter, behind an exact text: the share of the layers'
    cost, of likeliest tokens that are the model's, and of them in runs.  As a decoder, behind its own
    keys and values: nats per token of the text, against the model's own."""
    cost = same = count = deep = kept = 0
    nats = own = 0.0
    for ids, mine in items:
        states, cache, logits = base.exact(ids)
        at = torch.arange(len(ids))
        want = logits.argmax(-1)
        x, actions, _, _ = walk(base, policy, states[0], at, cache)
        right = base.logits(x).argmax(-1) == want
        cost += base.cost[actions][:, mine].mean(0).sum().item()
        same += right[mine].sum().item()
        count += int(mine.sum())
        full = (actions == FULL).long().cumprod(0).sum(0)
        deep += full[mine].sum().item()
        predicts = mine[1:]
        x, _, _, _ = walk(base, policy, states[0], at, None)
        for total, l in ((0, base.logits(x)), (1, logits)):
            ce = F.cross_entropy(l[:-1][predicts], ids[1:][predicts], reduction="sum").item()
            nats, own = (nats + ce, own) if total == 0 else (nats, own + ce)
        kept += int(predicts.sum())
    return {"cost": cost / count, "same": same / count, "deep": deep / count,
            "nats": nats / kept, "own": own / kept}


def expected(a, c):
    """The best tokens per full pass of drafting chains of g tokens at acceptance a and cost c, with
    a verification that costs what a pass does: the largest over g, and g."""
    best = (1.0, 0)
    for g in range(1, 17):
        best = max(best, ((1 - a ** (g + 1)) / (1 - a + 1e-9) / (1 + g * c), g))
    return best


def every_nth(base, n):
    return Fixed([SKIP if base.decides(l) and (l - base.first) % n == n - 1 else FULL
                  for l in range(base.c.layers)])


def least_harm(base, harm, count):
    middle = [l for l in range(base.c.layers) if base.decides(l)]
    gone = sorted(middle, key=lambda l: harm[l, SKIP].item())[:count]
    return Fixed([SKIP if l in gone else FULL for l in range(base.c.layers)])


def report(base, policy, harm, items):
    print("held-out texts, positions inside answers. cost: of the layers, 1 is the full model; right: "
          "behind an exact text the likeliest token is the model's; exact: layers before the first that "
          "was not full; draft: most tokens per pass's time of chains at that cost and rate, the "
          "length of the chain; perplexity behind its own keys and values")
    print("| policy | cost | right | exact layers | draft | perplexity | of the full model |")
    print("|---|---|---|---|---|---|---|")

    def line(name, p):
        m = measure(base, p, items)
        rate, g = expected(m["same"], m["cost"])
        print(f"| {name} | {m['cost']:.3f} | {m['same']:.3f} | {m['deep']:.1f} | {rate:.2f} ({g}) | "
              f"{np.exp(m['nats']):.2f} | {np.exp(m['own']):.2f} |", flush=True)

    line("trained", policy)
    calibrated = base.scale
    for what, scale in (("", calibrated), (", no compensation", torch.ones_like(calibrated)),
                        (", one factor a layer", calibrated.mean(1, keepdim=True).expand_as(calibrated))):
        base.scale = scale
        if what:
            line("trained" + what, policy)
        middle = base.c.layers - base.first - base.last
        for n, nth in ((4, "4th"), (3, "3rd"), (2, "2nd")):
            if n <= middle and what != ", one factor a layer":
                line(f"every {nth} of the middle skipped{what}", every_nth(base, n))
    base.scale = calibrated
    for count in (1, 2, 3, 4):
        line(f"the {count} least harmful always skipped", least_harm(base, harm, count))
    if policy.partial:
        line("all of the middle in few bits",
             Fixed([PARTIAL if base.decides(l) else FULL for l in range(base.c.layers)]))


@torch.no_grad()
def say_choices(base, policy, items):
    taken = torch.zeros(base.c.layers, 3)
    for ids, mine in items:
        states, cache, _ = base.exact(ids)
        at = mine.nonzero()[:, 0]
        _, actions, _, _ = walk(base, policy, states[0][at], at, cache)
        taken += F.one_hot(actions, 3).sum(1)
    taken /= taken.sum(1, keepdim=True)
    print("share of full / partial / skipped by layer: " + ", ".join(
        "/".join(f"{v:.2f}" for v in row) for row in taken.tolist()), flush=True)


# ---------------------------------------------------------------------------------------------


def texts_of(lessons, slices):
    """(ids, mine) of lessons, as many to a text as it has room for; mine[i]: position i predicts a token of
    an answer."""
    ids, mine = [], []
    for k, t in enumerate(slices, 1):
        part, own = lessons.tokens[t].astype(np.int64), lessons.mine[t].astype(bool)
        ids.append(torch.from_numpy(part))
        mine.append(torch.from_numpy(np.append(own[1:], False)))
        if k == len(slices) or sum(map(len, ids)) >= LENGTH:
            both = torch.cat(ids)[:LENGTH], torch.cat(mine)[:LENGTH]
            ids, mine = [], []
            if both[1].sum() >= LEAST:
                yield both


class Pool:
    """Texts of the lessons, side by side."""
    shows = "cost, right, divergence, lambda"

    def __init__(self, run, base, policy):
        self.run, self.base, self.policy, self.positions = run, base, policy, 0
        self.texts = list(texts_of(run.lessons, run.lessons.learned()))
        if not self.texts:
            die(f"{run.args.lessons} holds less than a text of {LENGTH} tokens: let teach go on")

    def loss(self, rng):
        """The loss of episodes of a text, and what they cost and gave."""
        args, kept = self.run.args, self.run.kept
        ids, mine = self.texts[rng.integers(len(self.texts))]
        loss, parts = loss_of(self.base, self.policy, ids, mine, args, kept["lambda"], rng)
        kept["lambda"] = max(0.0, kept["lambda"] + 0.3 * (parts[0] - args.share))
        self.positions += min(args.rows, int(mine.sum()))
        return loss, (*parts, kept["lambda"])


def begin(run, base):
    """Of a run that does not go on: the compensation, and what layers are worth."""
    texts = [ids for ids, _ in texts_of(run.lessons, run.lessons.learned())][:CALIBRATED]
    run.kept = {"harm": calibrate(base, texts, run.say), "scale": base.scale, "lambda": 2.0}
    run.save()


def options():
    a = arguments(__doc__, "dash.drafter.gguf")
    a.add_argument("--share", type=float, default=0.6,
                   help="of the layers' cost that a token may take on average (0.6)")
    a.add_argument("--first", type=int, default=2, help="layers that are always full at first (2)")
    a.add_argument("--last", type=int, default=1, help="and at the end (1)")
    a.add_argument("--partial", type=int, choices=(0, 1), default=1,
                   help="0: no layers in few bits (1)")
    a.add_argument("--partial-cost", type=float, default=0.6,
                   help="of a layer in few bits, against a full one (0.6)")
    a.add_argument("--skip-cost", type=float, default=0.1,
                   help="of a skipped layer, which still makes its key and value (0.1)")
    a.add_argument("--hidden", type=int, default=16, help="units of the policy (16)")
    a.add_argument("--rows", type=int, default=128, help="positions of a text to learn on (128)")
    a.add_argument("--rollouts", type=int, default=4, help="episodes of a position (4)")
    a.add_argument("--entropy", type=float, default=0.01, help="weight of the entropy (0.01)")
    a.add_argument("--lr", type=float, default=0.02, help="of Adam (0.02)")
    return check(a.parse_args(), share=(0.05, 1), first=(1, 64), last=(1, 64),
                 partial_cost=(0.01, 1), skip_cost=(0, 1), hidden=(1, 64), rows=(1, LENGTH),
                 rollouts=(2, 64), entropy=(0, 1))


def main():
    args = options()
    run = Run(args)
    model = load_frozen(args.model, exact=True)
    if args.first + args.last >= model.c.layers:
        die(f"--first and --last leave none of {model.c.layers} layers to decide about")
    base = Base(model, args)
    policy = Policy(model.c.layers, model.c.dim, args.hidden, bool(args.partial))
    numbers = {"hidden": args.hidden, "first": args.first, "last": args.last, "partial": args.partial,
               "cost.partial": round(1000 * args.partial_cost), "cost.skip": round(1000 * args.skip_cost)}
    run.begin(policy, numbers | {"share": args.share})
    if not run.kept:
        begin(run, base)
    base.scale, harm = run.kept["scale"], run.kept["harm"]
    print("divergence without the layer / with it in few bits: " + ", ".join(
        f"{l}: {v[SKIP]:.3f}/{v[PARTIAL]:.3f}" for l, v in enumerate(harm.tolist())
        if base.decides(l)), flush=True)
    run.learn(Pool(run, base, policy))
    run.write("dash", numbers, {"scale": base.scale.flatten(), **policy.vectors()}, "f32")
    held = list(texts_of(run.lessons, run.lessons.held_out()))[:HELD]
    print(f"\nheld-out texts, {sum(int(m.sum()) for _, m in held)} positions", flush=True)
    say_choices(base, policy, held)
    report(base, policy, harm, held)


if __name__ == "__main__":
    main()
