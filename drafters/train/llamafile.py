"""Llama-style models from GGUF files (architecture llama, weights of any type) and from folders in
Hugging Face's layout (config.json, *.safetensors), as common.Llama.

The runtime's src/model/hparams.c is what this follows: what it would run as another model than the
file's is refused here too.
"""
import json
import math
import re
from contextlib import contextmanager
from pathlib import Path

from common import Config, Llama, die

import gguf
import numpy as np
import torch

MOST_POSITIONS = 4096       # texts are read in pieces shorter than that
MOST_EXACT = 100_000_000    # parameters of a model that is kept in float32; larger ones in bfloat16

GGUF_NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
              "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
              "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
              "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
FOLDER_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight":
                "model.norm.weight", "output.weight": "lm_head.weight"}


class Unfit(ValueError):
    """What a model has that is not supported here, or lacks."""


@contextmanager
def clear_errors(path):
    """Whatever is wrong with the model at `path` ends the program with one line."""
    try:
        yield
    except Unfit as e:
        die(f"{path}: {e}")
    except Exception as e:      # gguf and safetensors raise many kinds at damaged files
        die(f"cannot load the model {path}: {type(e).__name__}: {e}; is the file whole?")


def load_base(path):
    """The frozen model at `path`: a .pt checkpoint, a .gguf file or a folder."""
    from common import load_checkpoint
    path = Path(path)
    if not path.exists():
        die(f"cannot read the model {path}: there is no such file")
    if path.is_dir():
        model = load_folder(path)
    elif path.suffix in (".pt", ".gguf"):
        model = load_checkpoint(path)[0]
    else:
        die(f"{path} is no .gguf file, no folder with config.json and *.safetensors, and no .pt "
            "checkpoint of these scripts")
    return model.eval().requires_grad_(False)


def build(c, tensor, exact):
    """The model of the shape `c`, of weights that tensor(name) gives one at a time; exact: float32,
    False: matrices in bfloat16, None: by the model's size."""
    with torch.device("meta"):
        model = Llama(c)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    if exact is None:
        exact = sum(math.prod(s) for s in shapes.values()) <= MOST_EXACT
    state = {}
    for name, shape in shapes.items():
        value = tensor(name)
        if value.shape != shape:
            raise Unfit(f"the tensor {name} has the shape {list(value.shape)} instead of "
                        f"{list(shape)}")
        keep = exact or len(shape) < 2 and not name.endswith("bias")
        state[name] = value.to(torch.float32 if keep else torch.bfloat16).contiguous()
    model.load_state_dict(state, assign=True)
    model.make_rotary()
    return model


# ---------------------------------------------------------------------------------------------
# Rotary positions.


def llama3_factors(frequencies, factor, low, high, context):
    """What Llama 3's scaling divides frequencies by: long waves by `factor`, short ones by 1."""
    turns = context * frequencies / (2 * math.pi)       # in the context of the first training
    share = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / (share + (1 - share) / factor)


def plain_frequencies(base, turned):
    return base ** (-2.0 * np.arange(turned // 2) / turned)


def all_pairs(frequencies, head_dim):
    """For Config: pairs behind the rotated ones stand still."""
    still = np.zeros(head_dim // 2 - len(frequencies))
    return tuple(np.concatenate((frequencies, still)).tolist())


# ---------------------------------------------------------------------------------------------
# GGUF.


class Gguf:
    """A GGUF file, or all parts of one that was split."""

    def __init__(self, path):
        path = Path(path)
        part = re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", path.name)
        paths = [path] if not part else [
            path.with_name(f"{part[1]}-{i + 1:05d}-of-{part[2]}.gguf") for i in range(int(part[2]))]
        readers = [gguf.GGUFReader(p) for p in paths]
        self.fields = readers[0].fields
        self.tensors = {t.name: t for r in readers for t in r.tensors}

    def get(self, key, default=None):
        return self.fields[key].contents() if key in self.fields else default

    def of_llama(self, key, default=None):
        value = self.get(f"llama.{key}", default)
        if value is None:
            raise Unfit(f"the key llama.{key} is missing")
        return value

    def tensor(self, name):
        if name not in self.tensors:
            raise Unfit(f"the tensor {name} is missing")
        t = self.tensors[name]
        return torch.from_numpy(np.array(gguf.quants.dequantize(t.data, t.tensor_type), np.float32))


def check_gguf(f):
    if (arch := f.get("general.architecture")) != "llama":
        raise Unfit(f"the architecture {arch} is not supported by the trainers, only llama is")
    for key in ("expert_count", "logit_scale", "residual_scale", "embedding_scale",
                "attention.scale"):
        if f.get(f"llama.{key}", 0) not in (0, 1):
            raise Unfit(f"llama.{key} is not supported by the trainers")
    if (scaling := f.get("llama.rope.scaling.type", "none")) not in ("none", "linear"):
        raise Unfit(f"rotary positions scaled by {scaling} are not supported, only linear and the "
                    "tensor rope_freqs.weight are")
    if f.get("llama.rope.scaling.attn_factor", 1) != 1:
        raise Unfit("llama.rope.scaling.attn_factor is not supported by the trainers")


def gguf_frequencies(f, head_dim):
    base, turned = f.of_llama("rope.freq_base", 1e4), f.of_llama("rope.dimension_count", head_dim)
    linear = f.get("llama.rope.scaling.type") == "linear"
    scale = f.of_llama("rope.scaling.factor") if linear else \
        f.get("llama.rope.scale_linear", 1) if "llama.rope.scaling.type" not in f.fields else 1
    if turned == head_dim and scale == 1 and "rope_freqs.weight" not in f.tensors:
        return base, ()
    frequencies = plain_frequencies(base, turned) / scale
    if "rope_freqs.weight" in f.tensors:
        frequencies = frequencies / f.tensor("rope_freqs.weight").double().numpy()
    return base, all_pairs(frequencies, head_dim)


def gguf_config(f):
    check_gguf(f)
    dim, heads = f.of_llama("embedding_length"), f.of_llama("attention.head_count")
    head_dim = f.of_llama("attention.key_length", dim // heads)
    base, frequencies = gguf_frequencies(f, head_dim)
    context = f.of_llama("context_length")
    biased = tuple(n for n in ("attn_q", "attn_k", "attn_v", "attn_output")
                   if f"blk.0.{n}.bias" in f.tensors)
    return Config(
        vocab=len(f.get("tokenizer.ggml.tokens", ())), layers=f.of_llama("block_count"), dim=dim,
        heads=heads, kv_heads=f.of_llama("attention.head_count_kv", heads),
        ffn=f.of_llama("feed_forward_length"),
        context=min(context, f.get("llama.attention.sliding_window") or context, MOST_POSITIONS),
        eps=f.of_llama("attention.layer_norm_rms_epsilon"), rope_base=base,
        head_size=0 if head_dim * heads == dim else head_dim, frequencies=frequencies,
        tied="output.weight" not in f.tensors, biased=biased)


def load_gguf(path, exact=None):
    with clear_errors(path):
        f = Gguf(path)
        model = build(gguf_config(f), f.tensor, exact)
        spare = set(f.tensors) - {n for n, _ in model.named_parameters()} - {"rope_freqs.weight"}
        if spare:
            raise Unfit(f"the tensor {min(spare)} is none of a Llama's")
        return model


# ---------------------------------------------------------------------------------------------
# Folders.


def check_folder(j):
    kind = j.get("model_type")
    if kind not in ("llama", "mistral"):
        raise Unfit(f"the model_type {kind} is not supported by the trainers, only llama and mistral "
                    "are")
    if j.get("hidden_act", "silu") != "silu" or j.get("mlp_bias"):
        raise Unfit("only feed-forward layers with silu and without biases are supported")
    if j.get("quantization_config"):
        raise Unfit("its weights are quantised: give the unquantised folder, or a GGUF file of it")
    if j.get("partial_rotary_factor", 1) != 1:
        raise Unfit("partial_rotary_factor is not supported")


def folder_frequencies(j, head_dim):
    rope = j.get("rope_parameters") or j.get("rope_scaling") or {}
    base = rope.get("rope_theta", j.get("rope_theta", 1e4))
    kind = rope.get("rope_type", rope.get("type", "default"))
    frequencies = plain_frequencies(base, head_dim)
    if kind == "linear":
        return base, all_pairs(frequencies / rope["factor"], head_dim)
    if kind == "llama3":
        factors = llama3_factors(frequencies, rope["factor"], rope["low_freq_factor"],
                                 rope["high_freq_factor"], rope["original_max_position_embeddings"])
        return base, all_pairs(frequencies / factors, head_dim)
    if kind != "default":
        raise Unfit(f"rotary positions scaled by {kind} are not supported, only linear and llama3 are")
    return base, ()


def folder_config(j):
    check_folder(j)
    dim, heads = j["hidden_size"], j["num_attention_heads"]
    head_dim = j.get("head_dim") or dim // heads
    base, frequencies = folder_frequencies(j, head_dim)
    context = j["max_position_embeddings"]
    return Config(
        vocab=j["vocab_size"], layers=j["num_hidden_layers"], dim=dim, heads=heads,
        kv_heads=j.get("num_key_value_heads") or heads, ffn=j["intermediate_size"],
        context=min(context, j.get("sliding_window") or context, MOST_POSITIONS),
        eps=j["rms_norm_eps"], rope_base=base,
        head_size=0 if head_dim * heads == dim else head_dim, frequencies=frequencies,
        tied=bool(j.get("tie_word_embeddings", False)),
        biased=("attn_q", "attn_k", "attn_v", "attn_output") if j.get("attention_bias") else ())


def pairs_of_halves(w, heads):
    """Rows of q or k, of which a head's halves are rotated with each other, as GGUF stores them: with
    pairs side by side."""
    return w.view(heads, 2, w.shape[0] // heads // 2, -1).transpose(1, 2).reshape(w.shape)


class Folder:
    def __init__(self, path, c):
        try:
            from safetensors import safe_open
        except ImportError:
            die("the package safetensors is missing: pip install -r requirements.txt")
        self.c, self.files = c, {}
        for file in sorted(Path(path).glob("*.safetensors")):
            part = safe_open(file, framework="pt")
            self.files |= {name: part for name in part.keys()}
        if not self.files:
            raise Unfit("no *.safetensors in this folder: it has to hold config.json, the weights in "
                        "safetensors and tokenizer.json or tokenizer.model")

    def tensor(self, name):
        own = FOLDER_NAMES.get(name)
        if not own:
            _, layer, part, kind = name.split(".")
            own = f"model.layers.{layer}.{GGUF_NAMES[part]}.{kind}"
        if own not in self.files:
            raise Unfit(f"the tensor {own} is missing")
        value = self.files[own].get_tensor(own)
        heads = {"attn_q": self.c.heads, "attn_k": self.c.kv_heads}.get(name.split(".")[-2])
        return pairs_of_halves(value, heads) if heads else value


def load_folder(path, exact=None):
    with clear_errors(path):
        config = Path(path) / "config.json"
        if not config.is_file():
            raise Unfit("no config.json in this folder: it has to hold that, the weights in "
                        "safetensors and tokenizer.json or tokenizer.model")
        c = folder_config(json.loads(config.read_text(encoding="utf-8")))
        return build(c, Folder(path, c).tensor, exact)


# ---------------------------------------------------------------------------------------------


def norms_of(path):
    """(layers, dim, vocab) and the norms of a GGUF file, in the order of the fingerprint."""
    with clear_errors(path):
        f = Gguf(path)
        c = gguf_config(f)
        names = [f"blk.{i}.{n}.weight" for i in range(c.layers) for n in ("attn_norm", "ffn_norm")]
        return (c.layers, c.dim, c.vocab), [f.tensor(n) for n in names + ["output_norm.weight"]]


def outer_matrices(path):
    """The embeddings and the output matrix of a GGUF file, [vocab][dim] each, in float32."""
    with clear_errors(path):
        f = Gguf(path)
        table = f.tensor("token_embd.weight")
        return table, f.tensor("output.weight") if "output.weight" in f.tensors else table
