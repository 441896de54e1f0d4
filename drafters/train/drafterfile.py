"""Files of trained drafters: GGUF of architecture "foretoken-drafter", as src/model/drafterfile.c
reads them."""
from pathlib import Path

from common import die

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFValueType

PREFIX = "foretoken.drafter."
TYPES = {"q8_0": Q.Q8_0, "f16": Q.F16, "f32": Q.F32}


def fingerprint(sizes, norms):
    """What a drafter's file names its base model by, as in src/model/model.c: FNV-1a over the sizes
    and the norms, which are the same in every quantisation."""
    parts = [np.array(sizes, "<u4")] + [v.detach().float().cpu().numpy().astype("<f4") for v in norms]
    h = 0xCBF29CE484222325
    for part in parts:
        for byte in part.tobytes():
            h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def write_drafter(path, family, name, base, numbers, matrices, kind, vocab=None):
    """numbers: {key: whole number}; matrices: {name: tensor [n_out][n_in], or a vector, which is
    written in f32}; kind: of TYPES, of which q8_0 becomes f16 where rows are no multiple of 32;
    vocab: the rising ids of the tokens it drafts, None for all."""
    part = f"{path}.part"
    try:
        w = gguf.GGUFWriter(part, "foretoken-drafter")
        w.add_name(name)
        w.add_quantization_version(gguf.GGML_QUANT_VERSION)
        w.add_string(PREFIX + "family", family)
        w.add_string(PREFIX + "base", base)
        for key, value in numbers.items():
            w.add_uint32(PREFIX + key, int(value))
        if vocab is not None:
            w.add_key_value(PREFIX + "vocab", [int(v) for v in vocab], GGUFValueType.ARRAY,
                            sub_type=GGUFValueType.UINT32)
        for key, matrix in matrices.items():
            data = matrix.detach().float().cpu().numpy()
            if data.ndim == 1:
                w.add_tensor(key, data.astype(np.float32))
            elif TYPES[kind] == Q.Q8_0 and data.shape[1] % 32 == 0:
                w.add_tensor(key, gguf.quants.quantize(data, Q.Q8_0), raw_dtype=Q.Q8_0)
            else:
                w.add_tensor(key, data.astype(np.float32 if kind == "f32" else np.float16))
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        Path(part).rename(path)
    except OSError as e:
        die(f"cannot write {path}: {e}")


def read_drafter(path, family, base, numbers, shapes):
    """The matrices of such a file, as f32 [n_out][n_in] by name: of that family, that base and those
    numbers, exactly those named in shapes; ends with a line where it is not."""
    want = {"family": family, "base": base} | {key: int(n) for key, n in numbers.items()}
    hint = {key: ": give the options that it was trained with" for key in numbers}
    try:
        r = gguf.GGUFReader(path)
        says = {key: r.fields[PREFIX + key].contents() for key in want if PREFIX + key in r.fields}
    except (OSError, KeyError, ValueError, IndexError) as e:
        die(f"{path}: no drafter's file: {e}")
    for key, value in want.items():
        if says.get(key, value if key in numbers else "not there") != value:
            die(f"{path}: its {key} is {says.get(key, 'not there')}, wanted is {value}{hint.get(key, '')}")
    found = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
             for t in r.tensors}
    there = {name: m.shape for name, m in found.items()}
    for name in sorted(shapes.keys() | there.keys()):
        if shapes.get(name) != there.get(name):
            die(f"{path}: {name} is {there.get(name, 'not there')}, wanted is "
                f"{shapes.get(name, 'none of it')}: give the options that it was trained with")
    return found
