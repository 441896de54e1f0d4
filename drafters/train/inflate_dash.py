"""Writes a DASH drafter for an inflated model (`./dev inflate`), whose width is 4^k times the small
model's and which has as many layers: it then chooses what the small one chooses, at the large
model's cost.  The small model's state is the first part of the large one's, the rest is 0, so a
root mean square is 2^k times smaller.
"""
import argparse

from common import die
from drafterfile import PREFIX, fingerprint, write_drafter
from llamafile import norms_of

import gguf
import numpy as np
import torch


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("drafter", help="of the small model")
    a.add_argument("model", help="the large model's GGUF file")
    a.add_argument("output", help="the file to write")
    args = a.parse_args()
    (layers, width, vocab), norms = norms_of(args.model)
    reader = gguf.GGUFReader(args.drafter)
    keys = ("hidden", "first", "last", "partial", "cost.partial", "cost.skip")
    numbers = {k: int(reader.fields[PREFIX + k].contents()) for k in keys}
    vectors = {t.name: np.array(t.data) for t in reader.tensors}
    small = len(vectors["policy.in"]) // numbers["hidden"]
    if width < small or layers * 3 != len(vectors["policy.out_bias"]):
        die(f"{args.model} is no inflated copy of the drafter's model with as many layers")
    inp = np.zeros((width, numbers["hidden"]), np.float32)
    inp[:small] = vectors["policy.in"].reshape(small, -1) * (small / width) ** 0.5
    scale = vectors["scale"].reshape(-1, small)
    scale = np.concatenate((scale, np.ones((len(scale), width - small), np.float32)), 1)
    vectors.update({"policy.in": inp.ravel(), "scale": scale.ravel()})
    write_drafter(args.output, "dash", "inflated", fingerprint((layers, width, vocab), norms), numbers,
                  {k: torch.from_numpy(v) for k, v in vectors.items()}, "f32")


if __name__ == "__main__":
    main()
