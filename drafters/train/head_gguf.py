"""Writes a head of EAGLE-3, DFlash or DSpark, a folder as train_eagle.py and train_dspark.py make it, as
llama.cpp's GGUF: head_gguf.py HEAD MODEL.gguf OUTPUT.gguf.  The tokenizer is the model's.  Rows of q and
k of EAGLE-3 are reordered to pairs that turn together, d2t becomes the tokens' ids.  Named *.drafter.gguf,
it is found beside the model."""
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
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}
NAMES = {"fc.weight": "fc.weight", "norm.weight": "output_norm.weight",
         "lm_head.weight": "output.weight", "embed_tokens.weight": "token_embd.weight", "d2t": "d2t"}
EAGLE = {"input_norm.weight": "enc.output_norm.weight"}
BLOCK = {"hidden_norm.weight": "enc.output_norm.weight",
         "markov_head.markov_w1.weight": "markov_w1.weight",
         "markov_head.markov_w2.weight": "markov_w2.weight",
         "confidence_head.proj.weight": "conf_proj.weight",
         "confidence_head.proj.bias": "conf_proj.bias"}
KEYS = {"hidden_size": ("embedding_length", "target_hidden_size"),
        "intermediate_size": ("feed_forward_length",), "num_attention_heads": ("attention.head_count",),
        "num_key_value_heads": ("attention.head_count_kv",), "num_hidden_layers": ("block_count",),
        "head_dim": ("attention.key_length", "attention.value_length", "rope.dimension_count"),
        "max_position_embeddings": ("context_length",), "vocab_size": ("vocab_size",)}


def family_of(config):
    """eagle3, dflash or dspark; the GGUF has one architecture, dflash, for the last two."""
    if "block_size" not in config:
        return "eagle3"
    return "dspark" if "markov_rank" in config else "dflash"


def names_of(config):
    """{the folder's name of a tensor: the file's}."""
    eagle = family_of(config) == "eagle3"
    names = NAMES | (EAGLE if eagle else BLOCK)
    for i in range(config["num_hidden_layers"]):
        of = "midlayer" if eagle else f"layers.{i}"
        names |= {f"{of}.{a}.weight": f"blk.{i}.{b}.weight" for a, b in LAYER.items()}
    return names


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
        die(f"{path} holds no head: {e!r}; train_eagle.py and train_dspark.py write such folders")


def pairs(x, heads):
    """Rows of q or k: i and i + half of a head side by side."""
    return x.reshape(heads, 2, -1, x.shape[-1]).swapaxes(1, 2).reshape(x.shape)


def write_keys(w, config, base):
    """base: the model's fingerprint, by which Foretoken finds the file beside it."""
    arch = w.arch
    w.add_string(f"{PREFIX}family", family_of(config))
    w.add_string(f"{PREFIX}base", base)
    for key, names in KEYS.items():
        for name in names:
            w.add_uint32(f"{arch}.{name}", config[key])
    w.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", config["rms_norm_eps"])
    w.add_float32(f"{arch}.rope.freq_base", config["rope_theta"])
    if arch == "eagle3":
        w.add_array("eagle3.target_layers", config["eagle_aux_hidden_state_layer_ids"])
        w.add_bool("eagle3.norm_before_residual", config.get("norm_before_residual", False))
        return
    # the folder names the layers that states leave, the file those that they enter
    w.add_array("dflash.target_layers", [i + 1 for i in config["target_layer_ids"]])
    w.add_uint32("dflash.block_size", config["block_size"])
    w.add_bool("dflash.sample_from_anchor", config.get("sample_from_anchor", False))
    w.add_uint32("tokenizer.ggml.mask_token_id", config["mask_token_id"])


def write_tokenizer(w, model):
    for field in model.fields.values():
        if field.name.startswith("tokenizer.") and field.name != "tokenizer.ggml.mask_token_id":
            of = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            w.add_key_value(field.name, field.contents(), field.types[0], sub_type=of)


def write_output(w, tokens, model):
    """llama.cpp takes the model's output matrix only whole: of a reduced vocabulary its rows are
    written, as they lie in the model's file."""
    tensors = {t.name: t for t in model.tensors}
    t = tensors.get("output.weight", tensors["token_embd.weight"])
    w.add_tensor("output.weight", np.ascontiguousarray(t.data[tokens]), raw_dtype=t.tensor_type)


def write_tensors(w, config, arrays, kind):
    names, eagle = names_of(config), w.arch == "eagle3"
    for name, x in arrays.items():
        if name == "t2d":
            continue
        if name not in names:
            die(f"tensor {name} has no place in llama.cpp's file")
        if name == "d2t":
            w.add_tensor("d2t", x + np.arange(len(x)), raw_dtype=Q.I64)
            continue
        x = np.ascontiguousarray(x, np.float32)
        if eagle and name.endswith("q_proj.weight"):
            x = pairs(x, config["num_attention_heads"])
        if eagle and name.endswith("k_proj.weight"):
            x = pairs(x, config["num_key_value_heads"])
        if x.ndim == 1 or kind == "f32":
            w.add_tensor(names[name], x)
        elif TYPES[kind] == Q.Q8_0 and x.shape[1] % 32 == 0:
            w.add_tensor(names[name], gguf.quants.quantize(x, Q.Q8_0), raw_dtype=Q.Q8_0)
        else:
            w.add_tensor(names[name], x.astype(np.float16))


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("head", help="the folder")
    a.add_argument("model", help="the model that it was trained for, a .gguf file")
    a.add_argument("output", help="the file to write")
    a.add_argument("--type", choices=TYPES, default="q8_0", help="of the matrices (q8_0)")
    a.add_argument("--name", help="general.name (of the output file)")
    a.add_argument("--lean", action="store_true",
                   help="without the tokenizer and the model's output rows, which Foretoken does not need")
    args = a.parse_args()
    config, arrays = read_folder(args.head)
    try:
        model = GGUFReader(args.model)
        arch = "eagle3" if family_of(config) == "eagle3" else "dflash"
        w = gguf.GGUFWriter(f"{args.output}.part", arch)
        w.add_name(args.name or Path(args.output).name.removesuffix(".gguf"))
        write_keys(w, config, fingerprint(*norms_of(args.model)))
        if not args.lean:
            write_tokenizer(w, model)
        if "d2t" in arrays and "lm_head.weight" not in arrays and not args.lean:
            write_output(w, arrays["d2t"] + np.arange(len(arrays["d2t"])), model)
        write_tensors(w, config, arrays, args.type)
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
