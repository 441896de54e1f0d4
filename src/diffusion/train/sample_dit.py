"""Samples a DiT of the digits with PyTorch, to see how good it is and to compare the runtime with.

For each seed: the plain sampler, fewer steps, plain reuse (FORA: all is computed every N-th step), and
Learning-to-Cache where the file has a table; FID and the share recognised by bench/judge.py.
"""
import argparse
import sys
import time

from pictures import ROOT, check_numbers, check_output, die

from dit import sample
from ditfile import read_dit

import numpy as np
import torch

sys.path.insert(0, str(ROOT / "bench"))
from judge import Judge


def every(interval, n):
    """FORA: steps whose index is a multiple of the interval, and the first, compute all branches."""
    kept = {}

    def branches(step):
        def branch(i, compute):
            if step % interval == 0 or step == n - 1:
                kept[i] = compute()
            return kept[i]
        return branch
    return branches


def routed(threshold, table, n):
    """Learning-to-Cache: odd steps, and the first, compute all; even ones what the table says."""
    kept = {}

    def branches(step):
        def branch(i, compute):
            if step % 2 or step == n - 1:
                kept[i] = compute()
                return kept[i]
            return compute() if table[step // 2, i] > threshold else kept[i]
        return branch
    return branches


def ways(args, routers):
    """(name, steps, branches) of all that is sampled."""
    yield "plain", args.steps, None
    for n in args.fewer:
        yield "fewer", n, None
    for n in args.fora:
        yield f"fora {n}", args.steps, every(n, args.steps)
    for steps, threshold, table in routers:
        yield f"l2c {np.mean(table > threshold):.2f}", steps, routed(threshold, table, steps)


def noise_of(args, model, seed):
    c = model.c
    if args.noise:
        try:
            x = np.load(args.noise)
        except (OSError, ValueError, EOFError) as e:
            die(f"cannot read {args.noise}: {e}")
        if x.shape[1:] != (c.channels, c.size, c.size) or len(x) == 0:
            die(f"{args.noise}: pictures of the shape {list(x.shape[1:])}, "
                f"{[c.channels, c.size, c.size]} is wanted")
        return torch.from_numpy(np.array(x, np.float32))
    g = torch.Generator().manual_seed(seed)
    return torch.randn(args.count, c.channels, c.size, c.size, generator=g)


def sampled(model, args, n, branches, seed):
    noise = noise_of(args, model, seed)
    y = torch.arange(len(noise)) % model.c.classes
    parts = [sample(model, y[i:i + 250], n, args.cfg, noise[i:i + 250], branches)
             for i in range(0, len(noise), 250)]
    return torch.cat(parts).numpy(), y.numpy()


def numbers(text):
    return [int(v) for v in text.split(",") if v]


def options():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model", help="a .gguf file of train_dit.py")
    a.add_argument("--judge", default=str(ROOT / "models" / "digits-classifier.npz"),
                   help="the file of train_classifier.py (models/digits-classifier.npz)")
    a.add_argument("--steps", type=int, default=50, help="(50)")
    a.add_argument("--cfg", type=float, default=1.5, help="guidance (1.5)")
    a.add_argument("--count", type=int, default=2000, help="pictures, classes in turn (2000)")
    a.add_argument("--seeds", type=numbers, default=[1], metavar="S,...", help="(1)")
    a.add_argument("--fewer", type=numbers, default=[], metavar="N,...", help="fewer steps")
    a.add_argument("--fora", type=numbers, default=[], metavar="N,...", help="intervals of reuse")
    a.add_argument("--noise", metavar="FILE", help="a .npy file of start noise, in place of seeds")
    a.add_argument("-o", "--output", metavar="FILE", help="keep the last pictures as .npy")
    a.add_argument("--threads", type=int, default=2, help="(2)")
    args = a.parse_args()
    check_numbers(args, cfg=(0, 1000), count=(1, 1 << 20), threads=(1, 256))
    if not all(2 <= n <= 1000 for n in [args.steps, *args.fewer]) or min(args.fora, default=1) < 1:
        die("steps have to be from 2 to 1000, intervals of --fora at least 1")
    if not args.seeds or not all(0 <= s <= 1 << 62 for s in args.seeds):
        die(f"--seeds have to be from 0 to {1 << 62}")
    if args.output:
        check_output(args.output)
    return args


def main():
    args = options()
    torch.set_num_threads(args.threads)
    model, about = read_dit(args.model)
    judge = Judge(args.judge)
    for name, n, branches in ways(args, about["routers"]):
        for seed in args.seeds:
            began = time.time()
            x, y = sampled(model, args, n, branches, seed)
            fid, recognised = judge.judge(x, y)
            print(f"{name:8} {n:4} steps  seed {seed}  FID {fid:.3f}  recognised {recognised:.4f}  "
                  f"{time.time() - began:.1f} s", flush=True)
    try:
        if args.output:
            np.save(args.output, x)
    except OSError as e:
        die(f"cannot write {args.output}: {e}")


if __name__ == "__main__":
    main()
