"""Trains the demo DiT on scikit-learn's digits, on the CPU, and writes it as GGUF.

Hybrid loss of arXiv 2102.09672: the noise's mean squared error, and the variational bound for the
variance alone.  The file gets the weights' moving average.  The run is saved every few minutes in
OUTPUT.resume.pt, and goes on from there when the same command is given again; with other --steps it
may end earlier or later, as the learning rate falls only at the end.
"""
import argparse
import pickle
import time
from dataclasses import asdict
from pathlib import Path

from pictures import LEVELS, check_numbers, check_output, die, split

from common import Optimizer
from dit import Config, DiT, Steps
from ditfile import NAMES, TYPES, write_dit

import numpy as np
import torch

WARMUP = 100            # steps
FALLING = 0.3           # share of the steps in which the learning rate falls
AVERAGE = 0.999         # what the moving average keeps a step, at most
DROP = 0.1              # share of labels that become the null label


def normal_divergence(mean_a, log_a, mean_b, log_b):
    """Of normal distributions a from b, in nats per element."""
    return 0.5 * (log_b - log_a - 1 + (log_a - log_b).exp()
                  + (mean_a - mean_b) ** 2 * (-log_b).exp())


def shade_cost(x, mean, log_var):
    """-log of the chance, per element, that a normal distribution rounds to the shades x."""
    half, scale = 1 / (LEVELS - 1), (-0.5 * log_var).exp()
    below = torch.special.ndtr((x - half - mean) * scale)
    above = torch.special.ndtr((x + half - mean) * scale)
    below = torch.where(x < -1 + half, torch.zeros_like(below), below)
    above = torch.where(x > 1 - half, torch.ones_like(above), above)
    return -(above - below).clamp(min=1e-12).log()


class Losses:
    """Noise's error and variational bound at every step of the diffusion."""

    def __init__(self, c):
        steps = Steps(c, c.steps)
        names = ("a", "beta", "log_posterior", "mean_x0", "mean_x")
        self.table = {k: torch.from_numpy(getattr(steps, k)).float() for k in names}
        self.c = c

    def at(self, name, t):
        return self.table[name][t][:, None, None, None]

    def noised(self, x0, noise, t):
        a = self.at("a", t)
        return a.sqrt() * x0 + (1 - a).sqrt() * noise

    def __call__(self, out, x0, noise, t):
        """Per picture the squared error and the bound (0 if no variance is learned), both [B]."""
        eps = out[:, :self.c.channels]
        error = ((eps - noise) ** 2).mean((1, 2, 3))
        if not self.c.learned_variance:
            return error, torch.zeros_like(error)
        x, a = self.noised(x0, noise, t), self.at("a", t)
        guess = (x - (1 - a).sqrt() * eps.detach()) / a.sqrt()   # only the variance learns here
        mean, true = (self.at("mean_x0", t) * v + self.at("mean_x", t) * x for v in (guess, x0))
        low = self.at("log_posterior", t)
        f = (out[:, self.c.channels:] + 1) / 2
        log_var = f * self.at("beta", t).log() + (1 - f) * low
        bound = torch.where(t[:, None, None, None] == 0, shade_cost(x0, mean, log_var),
                            normal_divergence(true, low, mean, log_var))
        return error, bound.mean((1, 2, 3)) / np.log(2)


def learning_rate(step, steps):
    return min(1.0, (step + 1) / WARMUP, max(0.01, (steps - step) / (FALLING * steps)))


class Run:
    """What a training consists of, and its file OUTPUT.resume.pt."""

    def __init__(self, args):
        torch.set_num_threads(args.threads)
        torch.manual_seed(1)
        self.args, self.c = args, Config(layers=args.layers, dim=args.dim, heads=args.heads,
                                         ffn=4 * args.dim)
        self.model = DiT(self.c)
        self.average = DiT(self.c)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizer = Optimizer(self.model, args.muon_lr, args.adam_lr)
        self.step, self.spent = 0, 0.0
        self.path = Path(f"{args.output}.resume.pt")
        if self.path.exists():
            self.load()
        self.compute = self.model if args.eager else torch.compile(self.model, dynamic=False)
        self.losses = Losses(self.c)
        x, y = split()[0]
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def load(self):
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state["config"] != asdict(self.c):
                die(f"{self.path} is of a model with other options: remove it, or give those again")
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.spent = state["step"], state["spent"]
        except (OSError, KeyError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError):
            die(f"cannot load {self.path}: it is not what this script has saved; remove it")
        print(f"going on at step {self.step}", flush=True)

    def save(self):
        part = Path(f"{self.path}.part")
        try:
            torch.save({"config": asdict(self.c), "model": self.model.state_dict(),
                        "average": self.average.state_dict(), "step": self.step,
                        "spent": self.spent, "optimizer": self.optimizer.state_dict()}, part)
            part.rename(self.path)
        except (OSError, RuntimeError) as e:
            die(f"cannot write {self.path}: {str(e).splitlines()[0]}")

    def batch(self):
        """Pictures, classes, steps and noise, which depend on nothing but the step."""
        g = torch.Generator().manual_seed(self.step)
        count = self.args.batch
        drawn = torch.randint(len(self.x), (count,), generator=g)
        null = torch.rand(count, generator=g) < DROP
        y = self.y[drawn].masked_fill(null, self.c.classes)
        # One step out of each equal part of the diffusion: less chance in the loss.
        t = (torch.arange(count) + torch.rand(count, generator=g)) * (self.c.steps / count)
        x = self.x[drawn]
        return x, y, t.long().clamp(max=self.c.steps - 1), torch.randn(x.shape, generator=g)

    def learn_step(self):
        x, y, t, noise = self.batch()
        out = self.compute(self.losses.noised(x, noise, t), t, y)
        error, bound = (v.mean() for v in self.losses(out, x, noise, t))
        if not torch.isfinite(error + bound):
            die(f"the loss is {error + bound} at step {self.step}: start again with a lower --muon-lr")
        (error + bound).backward()
        self.optimizer.step(learning_rate(self.step, self.args.steps))
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()),
                                 1 - keep)
        self.step += 1
        return error.item(), bound.item()

    def learn(self):
        began, before, first = time.time(), self.spent, self.step
        saved, shown = began, []
        while self.step < self.args.steps:
            shown.append(self.learn_step())
            now = time.time()
            self.spent = before + now - began
            if self.step % self.args.show == 0 or self.step == self.args.steps:
                error, bound = np.mean(shown, 0)
                each = (now - began) / (self.step - first)
                print(f"step {self.step}/{self.args.steps}  error {error:.4f}  bound {bound:.4f}  "
                      f"{self.args.batch / each:.0f} pictures/s  "
                      f"{each * (self.args.steps - self.step) / 60:.1f} min left", flush=True)
                shown = []
            if now - saved > self.args.save_every:
                self.save()
                saved = now
        self.save()

    @torch.no_grad()
    def held_out(self):
        """Mean squared error of the noise on pictures that were not trained on, eight steps each."""
        x, y = (torch.from_numpy(v).repeat_interleave(8, 0) for v in split()[1])
        g = torch.Generator().manual_seed(0)
        t = torch.arange(8).repeat(len(x) // 8) * 125 + 62
        noise = torch.randn(x.shape, generator=g)
        out = self.average(self.losses.noised(x, noise, t), t, y)
        return self.losses(out, x, noise, t)[0].mean().item()


def options():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("output", help="the .gguf file to write")
    a.add_argument("--steps", type=int, default=3000, help="(3000)")
    a.add_argument("--batch", type=int, default=128, help="pictures a step (128)")
    a.add_argument("--layers", type=int, default=12, help="(12)")
    a.add_argument("--dim", type=int, default=96, help="channels of a token (96)")
    a.add_argument("--heads", type=int, default=4, help="(4)")
    a.add_argument("--muon-lr", type=float, default=0.02, help="for hidden matrices (0.02)")
    a.add_argument("--adam-lr", type=float, default=2e-3, help="for embeddings and biases (0.002)")
    a.add_argument("--type", choices=TYPES, default="f16", help="of the matrices (f16)")
    a.add_argument("--threads", type=int, default=2, help="(2)")
    a.add_argument("--show", type=int, default=50, help="steps between two lines (50)")
    a.add_argument("--save-every", type=float, default=120, help="seconds (120)")
    a.add_argument("--eager", action="store_true", help="do not compile the model")
    args = a.parse_args()
    check_numbers(args, steps=(1, 10 ** 9), batch=(1, 1 << 20), layers=(1, 512), dim=(4, 1 << 14),
                  heads=(1, 1 << 12), muon_lr=(0, 1e3), adam_lr=(0, 1e3), threads=(1, 256),
                  show=(1, 10 ** 9), save_every=(0, 1e9))
    if args.dim % (4 * args.heads):
        die(f"--dim {args.dim}: it has to be a multiple of 4 x --heads")
    check_output(args.output)
    return args


def main():
    args = options()
    run = Run(args)
    weights = sum(p.numel() for p in run.model.parameters())
    print(f"{weights / 1e6:.2f} M weights, {len(run.x)} pictures", flush=True)
    run.learn()
    write_dit(args.output, run.average, args.type, name="Foretoken demo digits",
              licence="cc-by-4.0", classes=NAMES)
    print(f"{run.step} steps in {run.spent / 60:.1f} minutes; error on held-out pictures "
          f"{run.held_out():.4f}; wrote {args.output}")


if __name__ == "__main__":
    main()
