"""Files of trained drafters: GGUF of architecture "foretoken-drafter", as src/model/drafterfile.c
reads them, and the base models that drafters can be trained for here."""
from pathlib import Path

from common import die, load_checkpoint

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFValueType

PREFIX = "foretoken.drafter."
TYPES = {"q8_0": Q.Q8_0, "f16": Q.F16, "f32": Q.F32}
SUPPORTED = "supported are checkpoints of pretrain.py and finetune.py, and GGUF files of " \
            "architecture llama with tied embeddings and no rope scaling"


def load_base(path, tokens):
    """The frozen model, checked: what is not supported ends the program."""
    path = str(path)
    if not Path(path).is_file():
        die(f"cannot read the model {path}: there is no such file")
    if not path.endswith((".pt", ".gguf")):
        die(f"{path} is neither a .pt nor a .gguf file; {SUPPORTED}")
    if path.endswith(".gguf"):
        check_gguf(path, tokens)
    try:
        model, _ = load_checkpoint(path)
    except (TypeError, IndexError, EOFError, AttributeError) as e:
        die(f"cannot load the model {path}: {e}; {SUPPORTED}")
    if tokens.sp.get_piece_size() != model.c.vocab:
        die(f"{path} has {model.c.vocab} tokens, tokenizer.model {tokens.sp.get_piece_size()}: "
            "WORK has to hold the model's own tokenizer")
    return model.eval().requires_grad_(False)


def check_gguf(path, tokens):
    try:
        fields = gguf.GGUFReader(path).fields
        value = lambda key: fields[key].contents() if key in fields else None
        arch, scaling = value("general.architecture"), value("llama.rope.scaling.type")
        width, heads = value("llama.embedding_length"), value("llama.attention.head_count")
        turned, pieces = value("llama.rope.dimension_count"), value("tokenizer.ggml.tokens")
    except (OSError, ValueError, IndexError, KeyError) as e:
        die(f"cannot read the model {path}: {e}")
    if arch != "llama":
        die(f"{path} has the architecture {arch}; {SUPPORTED}")
    if scaling not in (None, "none"):
        die(f"{path} scales its rotary positions ({scaling}); {SUPPORTED}")
    if width and heads and turned not in (None, width // heads):
        die(f"{path} turns {turned} of {width // heads} values of a head; {SUPPORTED}")
    sp = tokens.sp
    if pieces != [sp.id_to_piece(i) for i in range(sp.get_piece_size())]:
        die(f"{path} has another tokenizer than tokenizer.model in WORK: WORK has to hold the "
            "model's own")


def fingerprint(model):
    """What a drafter's file names its base model by, as in src/model/model.c: FNV-1a over the sizes
    and the norms, which are the same in every quantisation."""
    c = model.c
    parts = [np.array([c.layers, c.dim, c.vocab], "<u4")]
    for block in model.blk:
        parts += [block.attn_norm.weight, block.ffn_norm.weight]
    parts.append(model.output_norm.weight)
    h = 0xCBF29CE484222325
    for part in parts:
        data = part if isinstance(part, np.ndarray) else \
            part.detach().float().cpu().numpy().astype("<f4")
        for byte in data.tobytes():
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
