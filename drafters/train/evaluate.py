"""Compares checkpoints on the held-out one percent.

Prints a table of bits per byte (the assistant's tokens in chats, everything in documents) by
group of sources, and the token loss inside noisy answers: at the positions whose input token was
replaced, at the other positions of the same answers, and at all of them without noise.
"""
import argparse
from pathlib import Path

from common import GROUPS, SOURCES, evaluate, load_tokens
from llamafile import load_base

import numpy as np
import torch
import torch.nn.functional as F

from finetune import add_noise


@torch.no_grad()
def noisy_losses(model, splits, every, per_source=40, length=1024):
    """Mean loss in nats per token: clean, at replaced inputs, at the other inputs."""
    rng = np.random.default_rng(4000)
    sums = np.zeros(3)
    counts = np.zeros(3)
    for source in SOURCES:
        if not source.sft:
            continue
        split = splits[source.name][1]
        for i in range(min(per_source, len(split))):
            ids, mine = (v[:length] for v in split.doc(i))
            noisy, hit = add_noise(ids, mine, rng, every)
            learned = mine[1:].astype(bool)
            if not hit.any():
                continue
            x = torch.from_numpy(np.stack([ids, noisy]).astype(np.int64))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model.logits(x[:, :-1])
            target = x[0, 1:].expand(2, -1)
            loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
            clean, wrong = loss.view(2, -1).numpy()
            for k, (values, where) in enumerate(((clean, learned), (wrong, learned & hit[:-1]),
                                                 (wrong, learned & ~hit[:-1]))):
                sums[k] += values[where].sum()
                counts[k] += where.sum()
    return sums / counts, counts


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("checkpoints", nargs="+", help=".pt files")
    a.add_argument("--data", required=True, help="folder with the corpora")
    a.add_argument("--work", required=True, help="folder with tokenizer.model")
    a.add_argument("--noise-every", type=int, default=64, help="as in finetune.py (64)")
    a.add_argument("--max-tokens", type=int, default=40_000, help="per source (40000)")
    args = a.parse_args()
    splits = load_tokens(args.data, args.work)
    columns = []
    for path in args.checkpoints:
        model = load_base(path)
        model.eval()
        bits = evaluate(model, splits, GROUPS, args.max_tokens)
        losses, counts = noisy_losses(model, splits, args.noise_every)
        columns.append((bits, losses))
    names = [Path(p).stem for p in args.checkpoints]
    print("| bits per byte | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for group in columns[0][0]:
        print(f"| {group} | " + " | ".join(f"{bits[group]:.3f}" for bits, _ in columns) + " |")
    print()
    print("| loss of answer tokens (nats) | tokens | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 2) + "|")
    for k, label in enumerate(("clean input", "noisy answer, replaced inputs",
                               "noisy answer, other inputs")):
        print(f"| {label} | {int(counts[k])} | " +
              " | ".join(f"{losses[k]:.3f}" for _, losses in columns) + " |")


if __name__ == "__main__":
    main()
