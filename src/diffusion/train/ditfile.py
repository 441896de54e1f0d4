"""GGUF files of architecture "dit", as src/diffusion reads them."""
from dataclasses import asdict
from pathlib import Path

from pictures import die

from dit import Config, DiT
from drafterfile import TYPES, Q

import gguf
import numpy as np
import torch

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

# Keys of the file, and what they are in Config.
WHOLE = {"block_count": "layers", "embedding_length": "dim", "attention.head_count": "heads",
         "feed_forward_length": "ffn", "patch_size": "patch", "input_size": "size",
         "in_channels": "channels", "class_count": "classes",
         "timestep_frequency_length": "frequencies", "diffusion.steps": "steps"}
REAL = {"attention.layer_norm_epsilon": "eps", "feed_forward.layer_norm_epsilon": "ffn_eps",
        "timestep_frequency_shift": "shift", "diffusion.beta_start": "beta_start",
        "diffusion.beta_end": "beta_end"}


def add_tensor(w, name, data, kind):
    """kind: of TYPES, for matrices; q8_0 becomes f16 where rows are no multiple of 32."""
    data = np.ascontiguousarray(data, np.float32)
    if data.ndim == 1 or kind == "f32":
        w.add_tensor(name, data)
    elif kind == "q8_0" and data.shape[1] % 32 == 0:
        w.add_tensor(name, gguf.quants.quantize(data, Q.Q8_0), raw_dtype=Q.Q8_0)
    else:
        w.add_tensor(name, data.astype(np.float16))


def write_dit(path, model, kind, name, licence=None, classes=None, pixel=True, routers=()):
    """routers: (steps, threshold, table [ceil(steps / 2)][2 L]) of Learning-to-Cache."""
    part = f"{path}.part"
    try:
        w = gguf.GGUFWriter(part, "dit")
        w.add_name(name)
        if licence:
            w.add_license(licence)
        w.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, field in WHOLE.items():
            w.add_uint32("dit." + key, getattr(model.c, field))
        for key, field in REAL.items():
            w.add_float32("dit." + key, getattr(model.c, field))
        w.add_bool("dit.learned_variance", model.c.learned_variance)
        w.add_bool("dit.pixel", pixel)
        if classes:
            w.add_array("dit.class_names", classes)
        for key, value in model.state_dict().items():
            add_tensor(w, key, value.detach().float().numpy(), kind)
        if routers:
            w.add_uint32("dit.l2c.count", len(routers))
        for i, (steps, threshold, table) in enumerate(routers):
            w.add_uint32(f"dit.l2c.{i}.steps", steps)
            w.add_float32(f"dit.l2c.{i}.threshold", threshold)
            w.add_tensor(f"l2c.{i}.router", np.ascontiguousarray(table, np.float32))
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        Path(part).rename(path)
    except OSError as e:
        die(f"cannot write {path}: {e}")


def read_dit(path):
    """(model, {what else write_dit() takes}) of a file."""
    try:
        r = gguf.GGUFReader(path)
        value = {k: f.contents() for k, f in r.fields.items()}
        arch = value.get("general.architecture")
        if arch != "dit":
            die(f"{path}: a model of architecture {arch}, not dit")
        c = Config(learned_variance=value["dit.learned_variance"],
                   **{f: value["dit." + k] for k, f in (WHOLE | REAL).items() if "dit." + k in value})
        tensors = {t.name: np.array(gguf.quants.dequantize(t.data, t.tensor_type), np.float32)
                   for t in r.tensors}
        model = DiT(c)
        model.load_state_dict({k: torch.from_numpy(tensors[k]) for k in model.state_dict()})
        routers = [(value[f"dit.l2c.{i}.steps"], value[f"dit.l2c.{i}.threshold"],
                    tensors[f"l2c.{i}.router"]) for i in range(value.get("dit.l2c.count", 0))]
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, RuntimeError) as e:
        die(f"cannot read {path}: {(str(e).splitlines() or ['it is cut off or damaged'])[0]}")
    return model, {"name": value.get("general.name", ""), "classes": value.get("dit.class_names"),
                   "licence": value.get("general.license"), "pixel": value.get("dit.pixel", False),
                   "routers": routers}
