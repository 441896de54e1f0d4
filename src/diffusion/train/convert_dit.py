"""Writes a diffusion transformer as GGUF: a .pt state dict of facebookresearch/DiT, or a folder of
diffusers with a DiTTransformer2DModel (of a whole pipeline, too).

The two programs differ: diffusers spreads the time features' frequencies over 127 steps, not 128, and
has another epsilon before the MLP.  The file of a folder computes what diffusers computes;
--original makes it compute what facebookresearch/DiT does, for weights that were trained there.
"""
import argparse
import json
import math
import pickle
from pathlib import Path

from pictures import check_output, die

from dit import Config, DiT, positions
from ditfile import TYPES, write_dit

import torch

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}   # of the published sizes, for .pt files

# Tensors of the file, and where they stand in facebookresearch/DiT ({} is the block).
ORIGINAL = {"patch_embd": "x_embedder.proj", "time_embd.0": "t_embedder.mlp.0",
            "time_embd.2": "t_embedder.mlp.2", "output_ada": "final_layer.adaLN_modulation.1",
            "output": "final_layer.linear"}
ORIGINAL_BLOCK = {"ada": "adaLN_modulation.1", "attn_qkv": "attn.qkv", "attn_output": "attn.proj",
                  "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2"}
# The same in diffusers.
DIFFUSERS = {"patch_embd": "pos_embed.proj", "output_ada": "proj_out_1", "output": "proj_out_2"}
DIFFUSERS_BLOCK = {"ada": "norm1.linear", "attn_output": "attn1.to_out.0",
                   "ffn_up": "ff.net.0.proj", "ffn_down": "ff.net.2"}
EMBEDDED = {"time_embd.0.weight": "timestep_embedder.linear_1.weight",
            "time_embd.0.bias": "timestep_embedder.linear_1.bias",
            "time_embd.2.weight": "timestep_embedder.linear_2.weight",
            "time_embd.2.bias": "timestep_embedder.linear_2.bias",
            "class_embd.weight": "class_embedder.embedding_table.weight"}
# What a DiTTransformer2DModel has to be for this architecture to be able to compute it.
FIXED = {"norm_type": "ada_norm_zero", "activation_fn": "gelu-approximate", "attention_bias": True,
         "norm_elementwise_affine": False}


WHOLE = ("in_channels", "patch_size", "sample_size", "num_layers", "num_attention_heads",
         "attention_head_dim", "num_embeds_ada_norm")   # numbers of its config.json


class Source:
    """Tensors by name; each is taken once."""

    def __init__(self, path, tensors):
        self.path, self.left = path, tensors

    def peek(self, name, dims):
        value = self.left.get(name)
        if not isinstance(value, torch.Tensor):
            die(f"{self.path}: the tensor {name} is missing: is this a DiT?")
        if value.dim() != dims or 0 in value.shape:
            die(f"{self.path}: {name} has the shape {list(value.shape)}, {dims} dimensions are wanted")
        return value

    def take(self, name, dims):
        value = self.peek(name, dims).float()
        del self.left[name]
        if not torch.isfinite(value).all():
            die(f"{self.path}: {name} holds numbers that are not finite")
        return value

    def linear(self, name, theirs, dims=2):
        weight = self.take(theirs + ".weight", dims)
        return {name + ".weight": weight.flatten(1), name + ".bias": self.take(theirs + ".bias", 1)}

    def blocks(self, prefix):
        """How many blocks there are; their numbers have to be 0, 1 ..."""
        seen = {k[len(prefix):].split(".")[0] for k in self.left if k.startswith(prefix)}
        if seen != {str(i) for i in range(len(seen))} or not seen:
            die(f"{self.path}: there are no tensors {prefix}0, {prefix}1 ... without a gap: is this a "
                "DiT?")
        return len(seen)

    def done(self):
        if self.left:
            die(f"{self.path}: {min(self.left)} is nothing that a DiT has"
                f"{f', and {len(self.left) - 1} more' if len(self.left) > 1 else ''}")


def fitted(path, c, state):
    """The model, if all shapes are as its settings say."""
    if c.dim < 4 or c.dim % 4 or c.heads < 1 or c.dim % c.heads:
        die(f"{path}: {c.dim} channels of a token cannot be split into {c.heads} heads, or in four")
    if c.classes < 1 or c.size < 1 or c.size % c.patch:
        die(f"{path}: {c.classes} classes, pictures of {c.size} and patches of {c.patch}: a whole "
            "number of patches is wanted, and a class besides the null label")
    for value, most, what in ((c.layers, 512, "blocks"), (c.dim, 1 << 14, "channels of a token"),
                              (c.dim // c.heads, 256, "numbers in a head"), (c.ffn, 1 << 17, "hidden ones"),
                              (c.patch, 64, "pixels in a patch's side"), (c.size, 1024, "in a picture's"),
                              ((c.size // c.patch) ** 2, 1 << 14, "tokens"), (c.channels, 64, "channels"),
                              (c.classes, 1 << 20, "classes")):
        if value > most:
            die(f"{path}: {value} {what} are more than {most}, the most that is supported")
    if c.dim // c.heads % 2:
        die(f"{path}: heads of {c.dim // c.heads} numbers; an even number is wanted")
    model = DiT(c)
    for key, value in model.state_dict().items():
        if state[key].shape != value.shape:
            die(f"{path}: the tensor for {key} has the shape {list(state[key].shape)}, "
                f"{list(value.shape)} is wanted")
    model.load_state_dict(state)
    return model


def from_original(path, heads):
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        die(f"{path}: not a file of tensors alone that torch.load(weights_only=True) reads; a whole "
            "training state has to be reduced to its state dict (\"ema\") first")
    if isinstance(tensors, dict) and isinstance(tensors.get("ema"), dict):
        tensors = tensors["ema"]
    if not isinstance(tensors, dict):
        die(f"{path}: holds no state dict")
    s, block = Source(path, dict(tensors)), "blocks.{}."
    dim, channels, patch, other = s.peek("x_embedder.proj.weight", 4).shape
    if patch != other:
        die(f"{path}: patches of {patch} x {other}, only squares are supported")
    n_out = len(s.peek("final_layer.linear.weight", 2)) // (patch * patch)
    if n_out not in (channels, 2 * channels):
        die(f"{path}: {n_out} channels come out of {channels}, {channels} or {2 * channels} are wanted")
    at = s.take("pos_embed", 3)
    side = math.isqrt(at.shape[1])
    if heads is None and dim not in HEADS:
        die(f"{path}: such a file does not say how many heads there are: give --heads")
    c = Config(layers=s.blocks("blocks."), dim=dim, heads=heads or HEADS[dim],
               ffn=len(s.peek("blocks.0.mlp.fc1.weight", 2)), patch=patch, size=side * patch,
               channels=channels, learned_variance=n_out == 2 * channels,
               classes=len(s.peek("y_embedder.embedding_table.weight", 2)) - 1,
               frequencies=s.peek("t_embedder.mlp.0.weight", 2).shape[1])
    state = {"class_embd.weight": s.take("y_embedder.embedding_table.weight", 2)}
    for name, theirs in ORIGINAL.items():
        state |= s.linear(name, theirs, 4 if name == "patch_embd" else 2)
    for i in range(c.layers):
        for name, theirs in ORIGINAL_BLOCK.items():
            state |= s.linear(f"blk.{i}.{name}", block.format(i) + theirs)
    s.done()
    model = fitted(path, c, state)
    if at[0].shape != model.at.shape or (at[0] - positions(dim, side)).abs().max() > 1e-4:
        die(f"{path}: pos_embed is not the fixed sines and cosines: learned positions are not supported")
    return model, None


def read_json(path):
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        die(f"cannot read {path}: {e}")
    if not isinstance(value, dict):
        die(f"{path}: no JSON object")
    return value


def safetensors_of(folder):
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        die("diffusers' folders are read with safetensors: pip install safetensors")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        die(f"{folder}: there is no .safetensors file")
    index = list(folder.glob("*.safetensors.index.json"))
    if index:
        parts = read_json(index[0]).get("weight_map")
        if not isinstance(parts, dict) or any(Path(str(f)).name != f for f in parts.values()):
            die(f"{index[0]}: weight_map is no list of the files beside it")
        files = sorted({folder / f for f in parts.values()})
    elif len(files) > 1:
        die(f"{folder}: which of {files[0].name} and {files[1].name}? Leave one there")
    tensors = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except (OSError, SafetensorError) as e:
            die(f"cannot read {file}: {e}")
    return tensors


def folder_settings(folder):
    """The folder of the transformer itself, its config.json, and the pipeline's class names."""
    names = None
    if (folder / "transformer" / "config.json").exists():
        index = folder / "model_index.json"
        ids = read_json(index).get("id2label") if index.exists() else None
        names = (isinstance(ids, dict) and
                 [str(ids.get(str(i), i)).split(",")[0] for i in range(len(ids))])
        folder = folder / "transformer"
    if not (folder / "config.json").exists():
        die(f"{folder}: there is no config.json: this wants a folder that diffusers has written")
    config = read_json(folder / "config.json")
    kind = config.get("_class_name")
    if kind not in ("DiTTransformer2DModel", "Transformer2DModel"):
        die(f"{folder}/config.json: a {kind}, not a DiTTransformer2DModel")
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            die(f"{folder}/config.json: {key} is {config[key]}, only {value} is supported")
    return folder, config, names


def from_folder(path, original):
    folder, config, names = folder_settings(Path(path))
    get = {"in_channels": 4, "patch_size": 2, "sample_size": 32, "num_layers": 28,
           "num_attention_heads": 16, "attention_head_dim": 72, "num_embeds_ada_norm": 1000,
           "norm_eps": 1e-5, "out_channels": None} | config
    for key in WHOLE:
        if type(get[key]) is not int or get[key] < 1:
            die(f"{folder}/config.json: {key} is {get[key]}, a whole number from 1 on is wanted")
    if type(get["norm_eps"]) not in (int, float) or not 0 < get["norm_eps"] < 1:
        die(f"{folder}/config.json: norm_eps is {get['norm_eps']}, a number between 0 and 1 is wanted")
    s = Source(folder, safetensors_of(folder))
    channels, out = get["in_channels"], get["out_channels"] or get["in_channels"]
    if out not in (channels, 2 * channels):
        die(f"{folder}: {out} channels come out of {channels}, {channels} or {2 * channels} are wanted")
    layers = s.blocks("transformer_blocks.")
    if layers != get["num_layers"]:
        die(f"{folder}: config.json says {get['num_layers']} blocks, {layers} are there")
    c = Config(layers=layers, dim=get["num_attention_heads"] * get["attention_head_dim"],
               heads=get["num_attention_heads"], patch=get["patch_size"], size=get["sample_size"],
               ffn=len(s.peek("transformer_blocks.0.ff.net.0.proj.weight", 2)), channels=channels,
               classes=get["num_embeds_ada_norm"], learned_variance=out == 2 * channels)
    table = f"transformer_blocks.0.norm1.emb.{EMBEDDED['class_embd.weight']}"
    if (len(s.peek("pos_embed.proj.weight", 4)), len(s.peek(table, 2))) != (c.dim, c.classes + 1):
        die(f"{folder}: the tensors are not of the heads and classes that config.json has")
    if not original:
        c.shift, c.ffn_eps = 1.0, get["norm_eps"]
    s.left.pop("pos_embed.pos_embed", None)     # the fixed positions, in old folders
    state = {}
    for name, theirs in DIFFUSERS.items():
        state |= s.linear(name, theirs, 4 if name == "patch_embd" else 2)
    for i in range(layers):
        state |= folder_block(s, i, state)
    s.done()
    return fitted(folder, c, state), names


def folder_block(s, i, before):
    """Tensors of block i; its copies of the embeddings have to be those of the first."""
    prefix, state = f"transformer_blocks.{i}.", {}
    for name, theirs in EMBEDDED.items():
        value = s.take(f"{prefix}norm1.emb.{theirs}", 1 if name.endswith("bias") else 2)
        if i and not torch.equal(before[name], value):
            die(f"{s.path}: block {i} has other embeddings than block 0 ({theirs}): a DiT has them once")
        state[name] = value
    for what, dims in (("weight", 2), ("bias", 1)):
        parts = [s.take(f"{prefix}attn1.to_{part}.{what}", dims) for part in "qkv"]
        if len({p.shape for p in parts}) != 1:
            die(f"{s.path}: the queries, keys and values of block {i} have different shapes")
        state[f"blk.{i}.attn_qkv.{what}"] = torch.cat(parts)
    for name, theirs in DIFFUSERS_BLOCK.items():
        state |= s.linear(f"blk.{i}.{name}", prefix + theirs)
    return state


def options():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("input", help="a .pt file, or a folder of diffusers")
    a.add_argument("output", help="the .gguf file to write")
    a.add_argument("--type", choices=TYPES, default="f16", help="of the matrices (f16)")
    a.add_argument("--heads", type=int, help="of a .pt file (those of the published sizes)")
    a.add_argument("--original", action="store_true",
                   help="compute as facebookresearch/DiT does: for folders made from its files")
    a.add_argument("--pixel", action="store_true", help="it makes pictures, not latents")
    a.add_argument("--name", help="general.name (the input's name)")
    a.add_argument("--license", help="general.license")
    args = a.parse_args()
    if args.heads is not None and args.heads < 1:
        die("--heads has to be at least 1")
    check_output(args.output)
    if Path(args.output).resolve() == Path(args.input).resolve():
        die(f"{args.output} is what is read: give another file to write")
    return args


def main():
    args = options()
    if Path(args.input).is_dir():
        model, names = from_folder(args.input, args.original)
    elif Path(args.input).exists():
        model, names = from_original(args.input, args.heads)
    else:
        die(f"{args.input}: there is no such file or folder")
    if names and len(names) != model.c.classes:
        names = None
    write_dit(args.output, model, args.type, name=args.name or Path(args.input).stem,
              licence=args.license, classes=names, pixel=args.pixel)
    c = model.c
    print(f"wrote {args.output}: {c.layers} blocks, {c.dim} channels, {c.heads} heads, pictures of "
          f"{c.channels} x {c.size} x {c.size}, {c.classes} classes")


if __name__ == "__main__":
    main()
