"""Models from GGUF files (every architecture that the runtime opens, weights of any type) and from
folders in Hugging Face's layout (config.json, *.safetensors), as common.Llama.

The runtime's src/model/arch.c and hparams.c are what this follows: what they would run as another
model than the file's is refused here too.
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

ARCHS = {"llama": {},           # with switches of Config
         "qwen2": {"halves": True, "biased": ("attn_q", "attn_k", "attn_v")},
         "qwen3": {"halves": True, "qk_norm": True},
         "phi3": {"halves": True, "fused": True},
         "gemma3": {"halves": True, "qk_norm": True, "post_norm": True, "gelu": True}}
WINDOWED = ("llama", "phi3", "gemma3")      # those that may have a sliding window
FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
WIDE_LAYERS = 62            # Gemma 3 27B: scores are divided by sqrt(dim / heads), which no key tells

GGUF_NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
              "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
              "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
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
        self.arch = self.get("general.architecture")

    def get(self, key, default=None):
        return self.fields[key].contents() if key in self.fields else default

    def own(self, key, default=None):
        """Of a key of the file's architecture."""
        return self.get(f"{self.arch}.{key}", default)

    def needed(self, key, default=None):
        value = self.own(key, default)
        if value is None:
            raise Unfit(f"the key {self.arch}.{key} is missing")
        return value

    def tensor(self, name, first=0, rows=None):
        """All rows, or `rows` of them."""
        if name not in self.tensors:
            raise Unfit(f"the tensor {name} is missing")
        t = self.tensors[name]
        data = t.data if rows is None else t.data[first:first + rows]
        return torch.from_numpy(np.array(gguf.quants.dequantize(data, t.tensor_type), np.float32))


def check_gguf(f):
    if f.arch not in ARCHS:
        raise Unfit(f"the architecture {f.arch} is not supported, only {', '.join(ARCHS)} are")
    for key in ("expert_count", "logit_scale", "residual_scale", "embedding_scale",
                "attn_logit_softcapping", "final_logit_softcapping"):
        harmless = (0, 1) if key.endswith("_scale") else (0,)
        if f.own(key, 0) not in harmless:
            raise Unfit(f"{f.arch}.{key} is not supported")
    if not f.own("attention.causal", True):
        raise Unfit(f"attention that is not causal ({f.arch}.attention.causal) is not supported")
    known = ("none", "linear") + ("longrope",) * (f.arch == "phi3")
    if (scaling := f.own("rope.scaling.type", "none")) not in known:
        raise Unfit(f"rotary positions scaled by {scaling} are not supported, only "
                    f"{' and '.join(known[1:])} and, for llama, the tensor rope_freqs.weight are")


def window_of(f, layers):
    """Switches of Config for layers that see a window: as src/model/hparams.c reads them."""
    gemma = f.arch == "gemma3"
    window = (f.needed if gemma else f.own)("attention.sliding_window", None) or 0
    if window and f.arch not in WINDOWED:
        if window < f.needed("context_length"):
            raise Unfit(f"a window of {window} tokens is not supported for {f.arch}")
        window = 0
    if not window:
        return {}
    pattern = f.own("attention.sliding_window_pattern", 6 if gemma else 0)
    if isinstance(pattern, int):
        pattern = [not pattern or i % pattern < pattern - 1 for i in range(layers)]
    if len(pattern) != layers:
        raise Unfit(f"{f.arch}.attention.sliding_window_pattern has not one value for each layer")
    return {"window": window, "windowed": tuple(map(bool, pattern))}


def factors_of(f, context):
    """The tensor that divides frequencies, None for none. The long factors are the runtime's choice
    from the context on that it is opened with; here that is the trainers'."""
    if f.arch == "llama" and FACTORS[0] in f.tensors:
        return f.tensor(FACTORS[0]).double().numpy()
    if f.arch != "phi3" or not set(FACTORS[1:]) & set(f.tensors):
        return None
    original = f.own("rope.scaling.original_context_length", f.needed("context_length"))
    return [f.tensor(name).double().numpy() for name in FACTORS[1:]][context > original]


def rope_of(f, head_dim, context):
    """Switches of Config for rotary positions."""
    gemma = f.arch == "gemma3"
    base = f.own("rope.freq_base", 1e6 if gemma else 1e4)
    turned = f.own("rope.dimension_count", head_dim)
    kind = f.own("rope.scaling.type")
    scale = f.own("rope.scale_linear", 1) if kind is None else \
        f.needed("rope.scaling.factor") if kind == "linear" else 1
    factors = factors_of(f, context)
    c = {"rope_base": base, "turned": turned, "rope_gain": f.own("rope.scaling.attn_factor", 1.0)}
    if turned != head_dim or scale != 1 or factors is not None:
        divisor = scale * (1 if factors is None else factors)
        c["frequencies"] = all_pairs(plain_frequencies(base, turned) / divisor, head_dim)
    if gemma:
        local = plain_frequencies(f.own("rope.freq_base_swa", 1e4), turned)
        c["window_frequencies"] = all_pairs(local, head_dim)
    return c


def gguf_config(f):
    check_gguf(f)
    dim, heads = f.needed("embedding_length"), f.needed("attention.head_count")
    layers, head_dim = f.needed("block_count"), f.own("attention.key_length", dim // heads)
    context = min(f.needed("context_length"), MOST_POSITIONS)
    biased = tuple(n for n in ("attn_q", "attn_k", "attn_v", "attn_output")
                   if f"blk.0.{n}.bias" in f.tensors)
    wide = f.arch == "gemma3" and layers == WIDE_LAYERS
    return Config(
        vocab=len(f.get("tokenizer.ggml.tokens", ())), layers=layers, dim=dim, heads=heads,
        kv_heads=f.own("attention.head_count_kv", heads), ffn=f.needed("feed_forward_length"),
        context=context, eps=f.needed("attention.layer_norm_rms_epsilon"),
        head_size=0 if head_dim * heads == dim else head_dim, tied="output.weight" not in f.tensors,
        arch=f.arch, embedding_scale=dim ** 0.5 if f.arch == "gemma3" else 1.0,
        query_scale=f.own("attention.scale") or (dim // heads if wide else head_dim) ** -0.5,
        **{"biased": biased} | ARCHS[f.arch] | window_of(f, layers) | rope_of(f, head_dim, context))


def stored_rows(c):
    """{matrix of a layer: (the tensor of a file that it is rows of, the first one, how many)} where
    that has another name or other rows."""
    if not c.fused:
        return {}
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
    return {"attn_q": ("attn_qkv", 0, q), "attn_k": ("attn_qkv", q, kv),
            "attn_v": ("attn_qkv", q + kv, kv),
            "ffn_gate": ("ffn_up", 0, c.ffn), "ffn_up": ("ffn_up", c.ffn, c.ffn)}


def load_gguf(path, exact=None):
    with clear_errors(path):
        f = Gguf(path)
        c, used = gguf_config(f), {n for n in FACTORS if (n == FACTORS[0]) == (f.arch == "llama")}
        rows = stored_rows(c)

        def tensor(name):
            *block, part, kind = name.split(".")
            part, *which = rows.get(part, (part,)) if block else (part,)
            used.add(name := ".".join((*block, part, kind)))
            return f.tensor(name, *which)

        model = build(c, tensor, exact)
        if spare := set(f.tensors) - used:
            raise Unfit(f"the tensor {min(spare)} is no part of a {f.arch} model as it is known here")
        return model


# ---------------------------------------------------------------------------------------------
# Folders.


FOLDERS = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}


def check_folder(j):
    kind = j.get("model_type")
    if kind not in FOLDERS:
        raise Unfit(f"the model_type {kind} is not supported for folders, only {', '.join(FOLDERS)} "
                    "are: give a GGUF file of it")
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


def folder_window(j, layers):
    """Switches of Config for Mistral's window; a Qwen's has to be off."""
    window = j.get("sliding_window") or 0
    if j["model_type"] == "mistral" and window:
        return {"window": window, "windowed": (True,) * layers}
    if j.get("use_sliding_window") and window < j["max_position_embeddings"]:
        raise Unfit("a sliding window (use_sliding_window) is not supported for this model_type")
    return {}


def folder_config(j):
    check_folder(j)
    dim, heads, layers = j["hidden_size"], j["num_attention_heads"], j["num_hidden_layers"]
    head_dim, arch = j.get("head_dim") or dim // heads, FOLDERS[j["model_type"]]
    base, frequencies = folder_frequencies(j, head_dim)
    biased = ("attn_q", "attn_k", "attn_v", "attn_output") if j.get("attention_bias") else ()
    return Config(
        vocab=j["vocab_size"], layers=layers, dim=dim, heads=heads,
        kv_heads=j.get("num_key_value_heads") or heads, ffn=j["intermediate_size"],
        context=min(j["max_position_embeddings"], MOST_POSITIONS),
        eps=j["rms_norm_eps"], rope_base=base,
        head_size=0 if head_dim * heads == dim else head_dim, frequencies=frequencies,
        tied=bool(j.get("tie_word_embeddings", False)), arch=arch,
        **{"biased": biased} | ARCHS[arch] | folder_window(j, layers))


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
        return pairs_of_halves(value, heads) if heads and not self.c.halves else value


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
