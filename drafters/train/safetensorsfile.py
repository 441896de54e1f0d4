"""Folders of config.json and safetensors, as heads are published in."""
import json
from pathlib import Path

from common import die

import numpy as np
import torch

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64", torch.bool: "BOOL"}


def raw(tensor):
    t = tensor.detach().cpu().contiguous()
    return (t.view(torch.int16) if t.dtype == torch.bfloat16 else t).numpy().tobytes()


def write_folder(path, config, tensors):
    """config: what config.json says; tensors: {name: tensor}."""
    header, data, at = {}, [], 0
    for name, tensor in tensors.items():
        data.append(raw(tensor))
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [at, at + len(data[-1])]}
        at += len(data[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    try:
        folder = Path(path)
        folder.mkdir(exist_ok=True)
        part = folder / "model.safetensors.part"
        part.write_bytes(np.uint64(len(text)).tobytes() + text + b"".join(data))
        part.rename(folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    except OSError as e:
        die(f"cannot write {path}: {e}")
