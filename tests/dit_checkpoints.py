# SPDX-License-Identifier: Apache-2.0
"""convert_dit.py on checkpoints of small diffusion transformers: dit_checkpoints.py FOLDER

Writes into FOLDER what diffusers and facebookresearch/DiT would write, with the weights of
reference_dit.py, and the same with one mistake each.  What is converted has to compute as diffusers
does; each mistake has to be refused in one line.  Needs torch, diffusers, safetensors and gguf.
"""
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src" / "diffusion" / "train"))

import convert_dit
import reference_dit
from convert_dit import DIFFUSERS_BLOCK, EMBEDDED, ORIGINAL, ORIGINAL_BLOCK
from ditfile import read_dit

import numpy as np
import torch

MODELS = {m.name: m for m in reference_dit.MODELS}
TOP = {"pos_embed.proj": "x_embedder.proj", "proj_out_1": "final_layer.adaLN_modulation.1",
       "proj_out_2": "final_layer.linear"}


def as_original(model, m):
    """The state dict that facebookresearch/DiT would have, of a diffusers model."""
    theirs, out = model.state_dict(), {}
    for what in ("weight", "bias"):
        for key, name in TOP.items():
            out[f"{name}.{what}"] = theirs[f"{key}.{what}"].clone()
        for i in range(m.layers):
            block = f"transformer_blocks.{i}."
            for ours, name in ORIGINAL_BLOCK.items():
                if ours in DIFFUSERS_BLOCK:
                    out[f"blocks.{i}.{name}.{what}"] = theirs[
                        f"{block}{DIFFUSERS_BLOCK[ours]}.{what}"].clone()
            out[f"blocks.{i}.attn.qkv.{what}"] = torch.cat(
                [theirs[f"{block}attn1.to_{p}.{what}"] for p in "qkv"])
    for ours, key in EMBEDDED.items():
        name, what = ours.rsplit(".", 1)
        value = theirs[f"transformer_blocks.0.norm1.emb.{key}"].clone()
        out["y_embedder.embedding_table.weight" if name == "class_embd" else
            f"{ORIGINAL[name]}.{what}"] = value
    out["pos_embed"] = model.pos_embed.pos_embed.clone()
    return out


def write(folder):
    for name in ("latent", "pixel"):
        reference_dit.made(MODELS[name]).save_pretrained(folder / name)
    m = MODELS["original"]
    torch.save(as_original(reference_dit.made(m), m), folder / "original.pt")
    pipeline = folder / "pipeline"
    shutil.copytree(folder / "latent", pipeline / "transformer")
    labels = {str(i): f"kind {i}, another word" for i in range(MODELS["latent"].classes)}
    (pipeline / "model_index.json").write_text(json.dumps({"id2label": labels}))


def bad(folder):
    state = torch.load(folder / "original.pt", weights_only=True)

    def save(name, **changes):
        torch.save({k: v for k, v in (state | changes).items() if v is not None},
                   folder / f"{name}.pt")

    save("missing", **{"blocks.1.mlp.fc2.bias": None})
    save("more", **{"blocks.1.extra": torch.ones(2)})
    save("shape", **{"blocks.2.attn.proj.weight": torch.ones(32, 31)})
    save("nan", **{"final_layer.linear.bias": state["final_layer.linear.bias"] * np.nan})
    save("learned", pos_embed=state["pos_embed"] + 0.1)
    save("gap", **{k.replace("blocks.3", "blocks.4"): v for k, v in state.items()
                   if k.startswith("blocks.3")}, **{k: None for k in state if "blocks.3" in k})
    save("patch", **{"x_embedder.proj.weight": torch.ones(32, 4, 2, 1)})
    torch.save([torch.ones(1)], folder / "list.pt")
    (folder / "noise.pt").write_bytes(b"no such thing as a checkpoint" * 9)
    torch.save({"state": {1, 2}, "args": Path("x")}, folder / "pickled.pt")
    for name, key, value in (("gelu", "activation_fn", "geglu"), ("unet", "_class_name", "UNet2DModel"),
                             ("layers", "num_layers", 5), ("text", "patch_size", "two"),
                             ("zero", "patch_size", 0), ("half", "sample_size", 7.5),
                             ("eps", "norm_eps", "1e-6"),
                             ("odd", "norm_eps", float("nan")), ("wide", "sample_size", 1 << 20),
                             ("large", "sample_size", 258), ("huge", "num_attention_heads", 1 << 40)):
        to = folder / name
        shutil.copytree(folder / "latent", to)
        config = json.loads((to / "config.json").read_text())
        (to / "config.json").write_text(json.dumps(config | {key: value}))
    shutil.copytree(folder / "latent", folder / "cut")
    file = folder / "cut" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    other = reference_dit.made(replace(MODELS["latent"], name="other"))
    with torch.no_grad():
        other.transformer_blocks[2].norm1.emb.timestep_embedder.linear_1.bias[3] += 1
    other.save_pretrained(folder / "other")
    (folder / "empty").mkdir()
    for name, index in (("away", {"weight_map": {"pos_embed.proj.weight": "../latent/x.safetensors"}}),
                        ("parts", {"weight_map": ["x.safetensors"]}), ("list", [1])):
        shutil.copytree(folder / "latent", folder / name)
        (folder / name / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copytree(folder / "pipeline", folder / "names")
    (folder / "names" / "model_index.json").write_text(json.dumps({"id2label": ["kind"] * 5}))


# Arguments for convert_dit.py, and the model of reference_dit.py that it has to compute as.
GOOD = [("latent", "latent"), ("pixel", "pixel"), ("pipeline", "latent"),
        ("names", "latent"), ("latent --original", "original"), ("original.pt --heads 4", "original")]

# Arguments, and what the one line has to hold.
MISTAKES = [
    ("original.pt", "does not say how many heads there are: give --heads"),
    ("original.pt --heads 5", "cannot be split into 5 heads"),
    ("original.pt --heads 0", "--heads has to be at least 1"),
    ("missing.pt --heads 4", "the tensor blocks.1.mlp.fc2.bias is missing"),
    ("more.pt --heads 4", "blocks.1.extra is nothing that a DiT has"),
    ("shape.pt --heads 4", "blk.2.attn_output.weight has the shape [32, 31]"),
    ("nan.pt --heads 4", "final_layer.linear.bias holds numbers that are not finite"),
    ("learned.pt --heads 4", "learned positions are not supported"),
    ("gap.pt --heads 4", "without a gap"),
    ("patch.pt --heads 4", "only squares are supported"),
    ("list.pt --heads 4", "holds no state dict"),
    ("noise.pt --heads 4", "not a file of tensors alone"),
    ("pickled.pt --heads 4", "not a file of tensors alone"),
    ("nothing.pt", "there is no such file or folder"),
    ("gelu", "activation_fn is geglu"),
    ("unet", "a UNet2DModel, not a DiTTransformer2DModel"),
    ("layers", "config.json says 5 blocks, 4 are there"),
    ("text", "patch_size is two, a whole number from 1 on is wanted"),
    ("zero", "patch_size is 0, a whole number from 1 on is wanted"),
    ("half", "sample_size is 7.5, a whole number from 1 on is wanted"),
    ("eps", "norm_eps is 1e-6, a number between 0 and 1 is wanted"),
    ("odd", "norm_eps is nan, a number between 0 and 1 is wanted"),
    ("wide", "1048576 in a picture's are more than 1024, the most that is supported"),
    ("large", "16641 tokens are more than 16384, the most that is supported"),
    ("original.pt --heads 32", "heads of 1 numbers; an even number is wanted"),
    ("huge", "the tensors are not of the heads and classes that config.json has"),
    ("away", "weight_map is no list of the files beside it"),
    ("parts", "weight_map is no list of the files beside it"),
    ("list", "index.json: no JSON object"),
    ("cut", "cannot read cut/diffusion_pytorch_model.safetensors"),
    ("other", "block 2 has other embeddings than block 0"),
    ("empty", "there is no config.json"),
]


def convert(words):
    """Runs the converter on words; the line that it ends with, or None."""
    name, *more = words.split()
    sys.argv = ["convert_dit.py", name, "c.gguf", "--type", "f32", *more]
    try:
        convert_dit.main()
    except SystemExit as e:
        return str(e.code)
    return None


@torch.no_grad()
def difference(name):
    """Of c.gguf from diffusers' own computation, and its class names."""
    m = MODELS[name]
    model, about = read_dit("c.gguf")
    x = reference_dit.weights("input", (len(m.t), m.channels, m.size, m.size))
    got = model(x, torch.tensor(m.t), torch.tensor(m.y))
    wanted = reference_dit.answer(reference_dit.made(m), x, m.t, m.y)
    return (got - wanted).abs().max().item(), about["classes"]


def main():
    n_failed = 0

    def say(good, text):
        nonlocal n_failed
        n_failed += not good
        print("ok  " if good else "not ok  ", text)

    for words, name in GOOD:
        line = convert(words)
        error, classes = difference(name) if line is None else (np.inf, None)
        named = classes is not None and classes[:2] == ["kind 0", "kind 1"]
        say(error < 1e-4 and named == (words == "pipeline"),
            f"{words}: {line or f'as {name}, differs by {error:.1e}'}")
    for words, wanted in MISTAKES:
        line = convert(words) or "nothing was said"
        say(wanted in line and "\n" not in line, f"{words}: {line}")
    return 1 if n_failed else 0


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    write(Path("."))
    bad(Path("."))
    sys.exit(main())
