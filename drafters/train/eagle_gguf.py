"""Writes a head of EAGLE-3, a folder as train_eagle.py makes it, as llama.cpp's GGUF: eagle_gguf.py HEAD
MODEL.gguf OUTPUT.gguf.  The tokenizer is the model's.  Rows of q and k are reordered to pairs that turn
together, d2t becomes the tokens' ids.  Named *.drafter.gguf, it is found beside the model."""
import argparse
import json
from pathlib import Path

from common import die
from drafterfile import PREFIX, TYPES, fingerprint
from llamafile import norms_of

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf import GGUFReader, GGUFValueType

LAYER = {"input_layernorm": "attn_norm", "hidden_norm": "attn_norm_2",
         "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}
NAMES = {"fc.weight": "fc.weight", "input_norm.weight": "enc.output_norm.weight",
         "norm.weight": "output_norm.weight", "lm_head.weight": "output.weight",
         "embed_tokens.weight": "token_embd.weight", "d2t": "d2t"}
NAMES |= {f"midlayer.{a}.weight": f"blk.0.{b}.weight" for a, b in LAYER.items()}


def read_folder(path):
    """What config.json says, and {name: array} in float32, d2t in int64."""
    try:
        config = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
        data = (Path(path) / "model.safetensors").read_bytes()
        n = int(np.frombuffer(data, "<u8", 1)[0])
        header, arrays = json.loads(data[8:8 + n]), {}
        for name, t in header.items():
            if name == "__metadata__":
                continue
            raw = data[8 + n:][slice(*t["data_offsets"])]
            if t["dtype"] == "BF16":
                x = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
            else:
                x = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2", "I64": "<i8", "BOOL": "u1"}[
                    t["dtype"]])
            arrays[name] = x.reshape(t["shape"])
        return config, arrays
    except (OSError, ValueError, KeyError, IndexError) as e:
        die(f"{path} holds no head: {e!r}; train_eagle.py writes such folders")


def pairs(x, heads):
    """Rows of q or k: i and i + half of a head side by side."""
    return x.reshape(heads, 2, -1, x.shape[-1]).swapaxes(1, 2).reshape(x.shape)


def write_keys(w, config, model, base):
    """base: the model's fingerprint, by which Foretoken finds the file beside it."""
    w.add_string(f"{PREFIX}family", "eagle3")
    w.add_string(f"{PREFIX}base", base)
    for key, name in (("hidden_size", "embedding_length"), ("intermediate_size", "feed_forward_length"),
                      ("num_attention_heads", "attention.head_count"),
                      ("num_key_value_heads", "attention.head_count_kv"),
                      ("head_dim", "attention.key_length"), ("head_dim", "attention.value_length"),
                      ("head_dim", "rope.dimension_count"), ("hidden_size", "target_hidden_size"),
                      ("max_position_embeddings", "context_length")):
        w.add_uint32(f"eagle3.{name}", config[key])
    w.add_uint32("eagle3.block_count", 1)
    w.add_uint32("eagle3.vocab_size", config["vocab_size"])
    w.add_float32("eagle3.attention.layer_norm_rms_epsilon", config["rms_norm_eps"])
    w.add_float32("eagle3.rope.freq_base", config["rope_theta"])
    w.add_array("eagle3.target_layers", config["eagle_aux_hidden_state_layer_ids"])
    w.add_bool("eagle3.norm_before_residual", config.get("norm_before_residual", False))
    for field in model.fields.values():
        if field.name.startswith("tokenizer."):
            of = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            w.add_key_value(field.name, field.contents(), field.types[0], sub_type=of)


def write_output(w, tokens, model):
    """llama.cpp takes the model's output matrix only whole: of a reduced vocabulary its rows are
    written, as they lie in the model's file."""
    tensors = {t.name: t for t in model.tensors}
    t = tensors.get("output.weight", tensors["token_embd.weight"])
    w.add_tensor("output.weight", np.ascontiguousarray(t.data[tokens]), raw_dtype=t.tensor_type)


def write_tensors(w, config, arrays, kind, model):
    if "d2t" in arrays and "lm_head.weight" not in arrays:
        write_output(w, arrays["d2t"] + np.arange(len(arrays["d2t"])), model)
    for name, x in arrays.items():
        if name == "t2d":
            continue
        if name not in NAMES:
            die(f"tensor {name} has no place in llama.cpp's file")
        if name == "d2t":
            w.add_tensor("d2t", x + np.arange(len(x)), raw_dtype=Q.I64)
            continue
        x = np.ascontiguousarray(x, np.float32)
        if name.endswith("q_proj.weight"):
            x = pairs(x, config["num_attention_heads"])
        if name.endswith("k_proj.weight"):
            x = pairs(x, config["num_key_value_heads"])
        if x.ndim == 1 or kind == "f32":
            w.add_tensor(NAMES[name], x)
        elif TYPES[kind] == Q.Q8_0 and x.shape[1] % 32 == 0:
            w.add_tensor(NAMES[name], gguf.quants.quantize(x, Q.Q8_0), raw_dtype=Q.Q8_0)
        else:
            w.add_tensor(NAMES[name], x.astype(np.float16))


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("head", help="the folder")
    a.add_argument("model", help="the model that it was trained for, a .gguf file")
    a.add_argument("output", help="the file to write")
    a.add_argument("--type", choices=TYPES, default="q8_0", help="of the matrices (q8_0)")
    a.add_argument("--name", help="general.name (of the output file)")
    args = a.parse_args()
    config, arrays = read_folder(args.head)
    try:
        model = GGUFReader(args.model)
        w = gguf.GGUFWriter(f"{args.output}.part", "eagle3")
        w.add_name(args.name or Path(args.output).name.removesuffix(".gguf"))
        write_keys(w, config, model, fingerprint(*norms_of(args.model)))
        write_tensors(w, config, arrays, args.type, model)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        Path(f"{args.output}.part").rename(args.output)
    except (OSError, ValueError, KeyError) as e:
        die(f"cannot write {args.output}: {e!r}")
    print(f"wrote {args.output}, {Path(args.output).stat().st_size} bytes")


if __name__ == "__main__":
    main()
