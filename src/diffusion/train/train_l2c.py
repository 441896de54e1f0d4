"""Learns Learning-to-Cache's table (arXiv 2406.01733) for a DiT, and writes it into the model's file.

Steps alternate: odd indices are computed, at even ones a branch is computed or its output of the
step before is kept.  One number per even step and branch, 0 to 1, mixes the two while learning;
what it costs to compute pulls the numbers down.  Later a branch is computed where its number is
above a threshold.  The weights stay as they are.  A table for the same number of steps is replaced.
"""
import argparse
import time
from pathlib import Path

from pictures import check_numbers, check_output, die, split

from dit import Steps
from ditfile import TYPES, read_dit, write_dit

import numpy as np
import torch

LIMIT = 5.0             # of the logits


class Router:
    def __init__(self, model, args):
        self.model, self.args = model.requires_grad_(False), args
        self.steps = Steps(model.c, args.steps)
        g = torch.Generator().manual_seed(args.seed)
        shape = ((args.steps + 1) // 2, 2 * model.c.layers)
        self.logits = torch.randn(shape, generator=g).requires_grad_(True)
        self.optimizer = torch.optim.AdamW([self.logits], lr=args.lr, weight_decay=0)
        x, y = split()[0]
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def noised(self, rows, index, g):
        a = float(self.steps.a[index])
        x = self.x[rows]
        return a ** 0.5 * x + (1 - a) ** 0.5 * torch.randn(x.shape, generator=g)

    def update(self, at):
        """Learns from one pair of steps; gives the squared error and the computed share of both."""
        g = torch.Generator().manual_seed(self.args.seed * 1000003 + at)
        odd = 2 * int(torch.randint(self.args.steps // 2, (1,), generator=g)) + 1
        rows = torch.randint(len(self.x), (self.args.batch,), generator=g)
        null = torch.rand(len(rows), generator=g) < 0.1
        y = self.y[rows].masked_fill(null, self.model.c.classes)
        at_step = lambda i: torch.full((len(rows),), int(self.steps.t[i]))
        kept, fresh = {}, {}

        def keeping(store):
            def branch(i, compute):
                store[i] = compute()
                return store[i]
            return branch

        with torch.no_grad():
            x = self.noised(rows, odd, g)
            x = self.steps.ddim(x, self.model(x, at_step(odd), y, keeping(kept)), odd)
            wanted = self.model(x, at_step(odd - 1), y)
        share = self.logits[(odd - 1) // 2].sigmoid()
        got = self.model(x, at_step(odd - 1), y,
                         lambda i, compute: share[i] * compute() + (1 - share[i]) * kept[i])
        error = ((got - wanted) ** 2).mean()
        self.optimizer.zero_grad()
        (error + self.args.cost * share.sum()).backward()
        self.optimizer.step()
        with torch.no_grad():
            self.logits.clamp_(-LIMIT, LIMIT)
        return error.item(), share.mean().item()

    def learn(self):
        began, shown = time.time(), []
        for at in range(self.args.updates):
            shown.append(self.update(at))
            if (at + 1) % 100 == 0 or at + 1 == self.args.updates:
                error, share = np.mean(shown, 0)
                left = (time.time() - began) / (at + 1) * (self.args.updates - at - 1) / 60
                print(f"update {at + 1}/{self.args.updates}  error {error:.2e}  "
                      f"mixed {share:.3f}  {left:.1f} min left", flush=True)
                shown = []
        return self.logits.detach().sigmoid().numpy()


def show(table, threshold):
    """Per even step, the cleanest first, how many branches are computed."""
    on = table > threshold
    print("computed of", table.shape[1], "from the cleanest step:", *on.sum(1))
    print(f"{on.mean():.1%} of the branches at even steps are computed")


def options():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model", help="a .gguf file of train_dit.py")
    a.add_argument("output", nargs="?", help="the .gguf file to write; may be the same")
    a.add_argument("--list", action="store_true", help="only say which tables there are")
    a.add_argument("--steps", type=int, default=50, help="of the sampler (50)")
    a.add_argument("--cost", type=float, default=5e-5, help="of a computed branch, in the loss (5e-5)")
    a.add_argument("--threshold", type=float, default=0.1, help="above it: compute (0.1)")
    a.add_argument("--updates", type=int, default=2000, help="(2000)")
    a.add_argument("--batch", type=int, default=16, help="pictures an update (16)")
    a.add_argument("--lr", type=float, default=0.05, help="(0.05)")
    a.add_argument("--seed", type=int, default=1, help="(1)")
    a.add_argument("--type", choices=TYPES, default="f16", help="of the file's matrices (f16)")
    a.add_argument("--threads", type=int, default=2, help="(2)")
    args = a.parse_args()
    check_numbers(args, steps=(2, 1000), cost=(0, 1e9), threshold=(0, 1), updates=(1, 10 ** 9),
                  batch=(1, 1 << 20), lr=(0, 1e3), seed=(0, 1 << 40), threads=(1, 256))
    if not args.list and not args.output:
        die("which file is to be written? Give its name behind the model's, or --list")
    if args.output:
        check_output(args.output)
    return args


def main():
    args = options()
    torch.set_num_threads(args.threads)
    model, about = read_dit(args.model)
    if args.list:
        print(f"{len(about['routers'])} routers: "
              + ", ".join(f"{steps} steps" for steps, _, _ in about["routers"]))
        for _, threshold, table in about["routers"]:
            show(table, threshold)
        return
    if args.steps > model.c.steps:
        die(f"--steps {args.steps}: {args.model} takes {model.c.steps} at most")
    if (model.c.size, model.c.channels, model.c.classes) != (8, 1, 10):
        die(f"{args.model}: not a model of these digits, so it cannot learn from them")
    table = Router(model, args).learn()
    show(table, args.threshold)
    about["routers"] = [r for r in about["routers"] if r[0] != args.steps]
    about["routers"].append((args.steps, args.threshold, table))
    write_dit(args.output, model, args.type, **about)
    print(f"wrote {args.output}, {Path(args.output).stat().st_size} bytes")


if __name__ == "__main__":
    main()
