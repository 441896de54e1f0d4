"""Writes a DASH drafter for an inflated model (`./dev inflate`), whose width is 4^k times the small
model's and which has as many layers: it then chooses what the small one chooses, at the large
model's cost.  The small model's state is the first part of the large one's, the rest is 0, so a
root mean square is 2^k times smaller.
"""
import argparse
from types import SimpleNamespace as Some

from common import die
from drafterfile import PREFIX, fingerprint, write_drafter

import gguf
import numpy as np
import torch


def sizes_and_norms(path):
    """What fingerprint() wants of a model."""
    reader = gguf.GGUFReader(path)
    tensors = {t.name: t for t in reader.tensors}
    norm = lambda name: Some(weight=torch.from_numpy(np.array(tensors[name + ".weight"].data)))
    setting = lambda name: int(reader.fields["llama." + name].contents())
    c = Some(layers=setting("block_count"), dim=setting("embedding_length"),
             vocab=int(tensors["token_embd.weight"].shape[1]))
    blocks = [Some(attn_norm=norm(f"blk.{i}.attn_norm"), ffn_norm=norm(f"blk.{i}.ffn_norm"))
              for i in range(c.layers)]
    return Some(c=c, blk=blocks, output_norm=norm("output_norm"))


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("drafter", help="of the small model")
    a.add_argument("model", help="the large model's GGUF file")
    a.add_argument("output", help="the file to write")
    args = a.parse_args()
    large = sizes_and_norms(args.model)
    width = large.c.dim
    reader = gguf.GGUFReader(args.drafter)
    keys = ("hidden", "first", "last", "partial", "cost.partial", "cost.skip")
    numbers = {k: int(reader.fields[PREFIX + k].contents()) for k in keys}
    vectors = {t.name: np.array(t.data) for t in reader.tensors}
    small = len(vectors["policy.in"]) // numbers["hidden"]
    if width < small or large.c.layers * 3 != len(vectors["policy.out_bias"]):
        die(f"{args.model} is no inflated copy of the drafter's model with as many layers")
    inp = np.zeros((width, numbers["hidden"]), np.float32)
    inp[:small] = vectors["policy.in"].reshape(small, -1) * (small / width) ** 0.5
    scale = vectors["scale"].reshape(-1, small)
    scale = np.concatenate((scale, np.ones((len(scale), width - small), np.float32)), 1)
    vectors.update({"policy.in": inp.ravel(), "scale": scale.ravel()})
    write_drafter(args.output, "dash", "inflated", fingerprint(large), numbers,
                  {k: torch.from_numpy(v) for k, v in vectors.items()}, "f32")


if __name__ == "__main__":
    main()
