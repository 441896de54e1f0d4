# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of small diffusion transformers for tests/diffusion_trainers.sh.

    dit_checkpoints.py write FOLDER     what diffusers and facebookresearch/DiT would write, in FOLDER
    dit_checkpoints.py bad FOLDER       the same with one mistake each
    dit_checkpoints.py check GGUF NAME  the file against diffusers' own model NAME of reference_dit.py

The weights are those of reference_dit.py.  Needs torch, diffusers, safetensors and gguf.
"""
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src" / "diffusion" / "train"))

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
                             ("layers", "num_layers", 5), ("text", "patch_size", "two")):
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


@torch.no_grad()
def check(path, name):
    m = MODELS[name]
    model, about = read_dit(path)
    x = reference_dit.weights("input", (len(m.t), m.channels, m.size, m.size))
    got = model(x, torch.tensor(m.t), torch.tensor(m.y))
    error = (got - reference_dit.answer(reference_dit.made(m), x, m.t, m.y)).abs().max().item()
    print(f"{name}: differs by {error:.1e}, classes {about['classes']}")
    return 0 if error < 1e-4 else 1


if __name__ == "__main__":
    what, path, *rest = sys.argv[1:]
    sys.exit(check(path, *rest) if what == "check" else {"write": write, "bad": bad}[what](Path(path)))
