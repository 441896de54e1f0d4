"""Fine-tunes a pretrained checkpoint for chat, plainly or with multi-step noise (MSN).

Only the assistant's tokens are learned.  With --noise msn a few runs of L input tokens inside
each answer are replaced by earlier tokens of the same sample while the labels stay clean
(arXiv 2406.17404): the model learns to go on sensibly from wrong drafts, which is what a
draft-and-verify decoder asks of it.  Apart from that both ways see the same samples in the same
order with the same schedule.
"""
import argparse
import time
from pathlib import Path

from common import SOURCES, Optimizer, die, gradient_source, load_checkpoint, load_tokens, save_checkpoint

import numpy as np
import torch

LENGTH = 1024
ROWS = 4                # rows of LENGTH tokens per step, one piece of work each
WARMUP = 20             # steps
NOISE_LENGTH = 5        # L


def answers(mine):
    """(start, end) of every assistant turn."""
    edge = np.diff(np.concatenate(([0], mine, [0])).astype(np.int8))
    return list(zip(np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)))


def add_noise(ids, mine, rng, every):
    """Noisy copy of the input ids and a mask of the replaced positions.  An answer of n tokens
    gets one run of noise, or n // every runs when that is more (every = 0: always one).  From
    left to right, each token of a run becomes one drawn from all before it in this sample."""
    noisy, hit = ids.copy(), np.zeros(len(ids), bool)
    for start, end in answers(mine):
        n = end - start
        if n <= NOISE_LENGTH:
            continue
        runs = max(1, n // every) if every else 1
        for first in np.sort(rng.integers(start, end - NOISE_LENGTH, runs)):
            for i in range(first, first + NOISE_LENGTH):
                noisy[i] = noisy[rng.integers(0, i)]
                hit[i] = True
    return noisy, hit


def samples(splits, epoch):
    """The conversations of one epoch, shuffled, each source at its rate."""
    rng = np.random.default_rng(2000 + epoch)
    docs = []
    for source in SOURCES:
        if source.sft:
            split = splits[source.name][0]
            docs += [(source.name, i) for i in range(len(split)) if rng.random() < source.sft]
    rng.shuffle(docs)
    for name, i in docs:
        ids, mine = (v[:LENGTH + 1] for v in splits[name][0].doc(int(i)))
        if mine[1:].any():      # no answer may be left of a long conversation that is cut
            yield ids, mine


def rows(splits, noise, every, samples=samples, length=LENGTH, padding=0):
    """Endless rows (inputs, labels): conversations side by side, the fullest fit out of a small
    pool; what is left of a row is padding without labels."""
    epoch = 0
    while True:
        rng = np.random.default_rng(3000 + epoch)
        pool, source = [], samples(splits, epoch)
        while True:
            x = np.full(length, padding, np.int64)
            y = np.full(length, -100, np.int64)
            used = 0
            while True:
                while len(pool) < 64 and (item := next(source, None)) is not None:
                    pool.append(item)
                fits = [(len(p[0]), k) for k, p in enumerate(pool)
                        if len(p[0]) - 1 <= length - used]
                # The first sample is the oldest of the pool, so that none waits for ever.
                if not fits:
                    break
                ids, mine = pool.pop(max(fits)[1] if used else 0)
                n = len(ids) - 1
                inputs = add_noise(ids, mine, rng, every)[0] if noise == "msn" else ids
                x[used:used + n] = inputs[:-1]
                y[used:used + n] = np.where(mine[1:], ids[1:].astype(np.int64), -100)
                used += n
            if not used:
                break
            yield x, y
        epoch += 1


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--data", required=True, help="folder with the corpora")
    a.add_argument("--work", required=True, help="folder with tokenizer.model and pretrain.pt")
    a.add_argument("--noise", choices=("none", "msn"), required=True,
                   help="none: plain fine-tuning; msn: multi-step noise in the answers")
    a.add_argument("--noise-every", type=int, default=64,
                   help="one run of noise per so many answer tokens, at least one per answer "
                        "(64); 0: exactly one per answer, as in the paper")
    a.add_argument("--output", required=True, help="checkpoint to write")
    length = a.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="as many steps as fit into this time")
    length.add_argument("--steps", type=int, help="this many steps")
    length.add_argument("--like", metavar="CHECKPOINT", help="as many steps as that one had")
    a.add_argument("--muon-lr", type=float, default=0.01, help="for hidden matrices (0.01)")
    a.add_argument("--adam-lr", type=float, default=2e-3, help="embeddings, norms (0.002)")
    a.add_argument("--workers", type=int, default=2, help="processes, one core each (2)")
    a.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    a.add_argument("--eager", action="store_true", help="do not compile the model")
    args = a.parse_args()

    began = time.time()
    splits = load_tokens(args.data, args.work)
    model, _ = load_checkpoint(Path(args.work) / "pretrain.pt")
    steps = args.steps
    if args.like:
        other = torch.load(args.like, map_location="cpu", weights_only=True)
        steps = other.get("steps") or die(f"{args.like} holds no number of steps")
    workers = gradient_source(model, args.device, args.workers, not args.eager)
    optimizer = Optimizer(model, args.muon_lr, args.adam_lr)
    supply = rows(splits, args.noise, args.noise_every)

    step, losses, answered, tokens, shown = 0, [], 0, 0, time.time()
    measured = 10       # the step from which the speed is measured: compiling is over
    while steps is None or step < steps:
        batch = [next(supply) for _ in range(ROWS)]
        total = sum((y != -100).sum() for _, y in batch)
        value = workers.gradients([(x[None], y[None], (y != -100).sum() / total)
                                   for x, y in batch])
        warm = min(1.0, (step + 1) / WARMUP)
        optimizer.step(warm * (max(0.01, 1 - step / steps) if steps else 1.0))
        step += 1
        losses.append(value)
        answered += int(total)
        tokens += ROWS * LENGTH
        if not np.isfinite(value):
            die(f"the loss is {value} at step {step}; try lower learning rates")
        if step == measured:
            t0 = time.time()
        if steps is None and step == measured + 30:
            each = (time.time() - t0) / 30
            steps = step + max(1, int((args.minutes * 60 - (time.time() - began)) / each))
            print(f"{each:.3f} s a step: {steps} steps", flush=True)
        if step % 20 == 0:
            rate = 20 * ROWS * LENGTH / (time.time() - shown)
            print(f"step {step}/{steps or '?'} loss {np.mean(losses):.4f} {rate:.0f} tokens/s "
                  f"{(time.time() - began) / 60:.1f} min", flush=True)
            losses, shown = [], time.time()
    save_checkpoint(args.output, model, steps=step, noise=args.noise)
    print(f"done: {step} steps, {tokens / 1e6:.2f} M tokens, {answered / 1e6:.2f} M of them "
          f"answers, {(time.time() - began) / 60:.1f} minutes; wrote {args.output}", flush=True)


if __name__ == "__main__":
    main()
