"""Pretrains the model on everything, for a given time.

The clock decides the length, or --tokens: the schedule follows the share of the budget that is used
up (constant learning rate, then a linear decay over the last quarter; long sequences at the end).
The run is saved every few minutes and goes on from there when it is started again.
"""
import argparse
import math
import time
from datetime import datetime, timedelta
from pathlib import Path

from common import (SOURCES, Config, Llama, Optimizer, die, gradient_source, load_checkpoint,
                    load_tokens, save_checkpoint)
from llamafile import load_base

import numpy as np
import torch

BATCH = 8192            # tokens per step; pieces of it go to the workers
SHORT, LONG = 512, 2048
WARMUP = 50             # steps
DECAY_FROM = 0.75       # share of the time budget
LONG_FROM = 0.87


def stream(splits, epoch):
    """One epoch: every source at its rate, documents shuffled, as one row of tokens."""
    rng = np.random.default_rng(1000 + epoch)
    docs = []
    for source in SOURCES:
        split = splits[source.name][0]
        # A source that is sampled below 1 was thinned out when it was encoded.
        kept = min(1.0, max(source.pre, source.sft))
        rate = source.pre / kept
        whole, rest = int(rate), rate - int(rate)
        for i in range(len(split)):
            docs += [(source.name, i)] * (whole + int(rng.random() < rest))
    rng.shuffle(docs)
    return np.concatenate([splits[name][0].doc(int(i))[0] for name, i in docs])


def seconds_until(clock):
    try:
        hour, minute = map(int, clock.split(":"))
        end = datetime.now().replace(hour=hour, minute=minute, second=0, microsecond=0)
    except ValueError:
        die(f"--until wants HH:MM, not {clock}")
    if end <= datetime.now():
        end += timedelta(days=1)
    return (end - datetime.now()).total_seconds()


def learning_rate(step, progress):
    warm = min(1.0, (step + 1) / WARMUP)
    decay = min(1.0, max(0.0, 1 - progress) / (1 - DECAY_FROM))
    return warm * max(decay, 0.01)


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--data", required=True, help="folder with the corpora")
    a.add_argument("--work", required=True, help="folder with tokenizer.model; pretrain.pt and "
                                                 "pretrain-resume.pt are written there")
    length = a.add_mutually_exclusive_group(required=True)
    length.add_argument("--until", metavar="HH:MM", help="train up to this time of day")
    length.add_argument("--minutes", type=float, help="train this long, earlier runs counted in")
    length.add_argument("--tokens", type=float, help="train on so many million tokens")
    a.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    a.add_argument("--start", metavar="FILE", help="weights to begin with: a .pt or a .gguf file")
    a.add_argument("--workers", type=int, default=2, help="processes, one core each (2)")
    a.add_argument("--micro-batch", type=int, default=2, help="sequences of 512 tokens that go "
                                                              "through the model at once (2)")
    a.add_argument("--muon-lr", type=float, default=0.02, help="for hidden matrices (0.02)")
    a.add_argument("--adam-lr", type=float, default=3e-3, help="embeddings, norms (0.003)")
    a.add_argument("--eager", action="store_true", help="do not compile the model")
    a.add_argument("--save-every", type=float, default=180, help="seconds (180)")
    args = a.parse_args()

    work = Path(args.work)
    torch.manual_seed(1)
    splits = load_tokens(args.data, args.work)
    resume = work / "pretrain-resume.pt"
    at = {"step": 0, "tokens": 0, "spent": 0.0, "epoch": 0, "position": 0}
    if resume.exists():
        model, state = load_checkpoint(resume)
        at = state["at"]
        print(f"going on from step {at['step']}", flush=True)
    elif args.start:
        model = load_base(args.start)
    else:
        model = Llama(Config())
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    workers = gradient_source(model, args.device, args.workers, not args.eager)
    optimizer = Optimizer(model, args.muon_lr, args.adam_lr)
    if at["step"]:
        optimizer.load_state_dict(state["optimizer"])

    spent_before, began = at["spent"], time.time()
    if args.until:
        budget = spent_before + seconds_until(args.until)
    elif args.minutes:
        budget = args.minutes * 60
    row = stream(splits, at["epoch"])
    print(f"one epoch has {len(row) / 1e6:.2f} M tokens", flush=True)

    saved, shown, shown_tokens, losses = time.time(), time.time(), at["tokens"], []
    while True:
        at["spent"] = spent_before + time.time() - began
        progress = at["tokens"] / (args.tokens * 1e6) if args.tokens else at["spent"] / budget
        if progress >= 1:
            break
        if at["position"] + BATCH + 1 > len(row):
            at["epoch"] += 1
            at["position"] = 0
            row = stream(splits, at["epoch"])
        length = LONG if progress >= LONG_FROM else SHORT
        piece = row[at["position"]:at["position"] + BATCH + 1].astype(np.int64)
        x, y = piece[:-1].reshape(-1, length), piece[1:].reshape(-1, length)
        n = max(1, args.micro_batch * SHORT // length)
        total = workers.gradients([(x[i:i + n], y[i:i + n], n / len(x))
                                   for i in range(0, len(x), n)])
        if not math.isfinite(total):
            die(f"the loss is {total} at step {at['step']}; start again with a lower --muon-lr")
        factor = learning_rate(at["step"], progress)
        norm = optimizer.step(factor)
        at["step"] += 1
        at["tokens"] += BATCH
        at["position"] += BATCH
        losses.append(total)
        now = time.time()
        if at["step"] % 20 == 0:
            rate = (at["tokens"] - shown_tokens) / (now - shown)
            print(f"step {at['step']} loss {np.mean(losses):.4f} norm {norm:.2f} "
                  f"rate {factor:.3f} length {length} {rate:.0f} tokens/s "
                  f"{at['tokens'] / 1e6:.2f} M tokens {100 * progress:.1f} % "
                  f"left {at['spent'] / 60 * (1 / max(progress, 1e-3) - 1):.1f} min", flush=True)
            shown, shown_tokens, losses = now, at["tokens"], []
        if now - saved > args.save_every:
            save_checkpoint(resume, model, optimizer=optimizer.state_dict(), at=at)
            saved = now

    save_checkpoint(work / "pretrain.pt", model, at=at)
    resume.unlink(missing_ok=True)
    print(f"done: {at['step']} steps, {at['tokens'] / 1e6:.2f} M tokens, "
          f"{at['spent'] / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
