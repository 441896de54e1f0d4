"""Models from GGUF files, of every architecture that the runtime opens and weights of any type, as
common.Llama.

The runtime's src/model/arch.c and hparams.c are what this follows: what they would run as another
model than the file's is refused here too.
"""
import math
import re
from contextlib import contextmanager
from pathlib import Path

from common import Config, Llama, die, load_checkpoint

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
BOS_UNASKED = ("llama-bpe", "llama3", "llama-v3", "falcon3", "tekken", "pixtral")   # pretokenizer.c
WIDE_LAYERS = 62            # Gemma 3 27B: scores are divided by sqrt(dim / heads), which no key tells


class Unfit(ValueError):
    """What a model has that is not supported here, or lacks."""


@contextmanager
def clear_errors(path):
    """Whatever is wrong with the model at `path` ends the program with one line."""
    try:
        yield
    except Unfit as e:
        die(f"{path}: {e}")
    except Exception as e:      # gguf raises many kinds at damaged files
        die(f"cannot load the model {path}: {type(e).__name__}: {e}; is the file whole?")


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


def load_base(path):
    """To train on, or to look at: of a .gguf file, dequantised, or of a .pt file."""
    return load_gguf(path) if str(path).endswith(".gguf") else load_checkpoint(path)[0]


def load_frozen(path, exact):
    """To learn from."""
    return load_gguf(path, exact).eval().requires_grad_(False)


# ---------------------------------------------------------------------------------------------
# Parts.


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


LAYER_NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
               "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
               "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
               "ffn_norm": "post_attention_layernorm"}


def halves(x, heads):
    """Rows of q or k in which RoPE turns neighbours: with those half a head apart."""
    return x.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(x.shape)


def layers_of(path, numbers):
    """Config, and the layers of these numbers as safetensors of a Llama have them; none where the model
    has more to its layers than a Llama."""
    with clear_errors(path):
        f = Gguf(path)
        c = gguf_config(f)
        if c.arch != "llama" or c.biased or c.windowed or len(c.frequencies):
            return c, []
        layers = [{new: f.tensor(f"blk.{i}.{old}.weight") for old, new in LAYER_NAMES.items()}
                  for i in numbers]
        for w in layers:
            w["self_attn.q_proj"] = halves(w["self_attn.q_proj"], c.heads)
            w["self_attn.k_proj"] = halves(w["self_attn.k_proj"], c.kv_heads)
        return c, layers


def bos_of(path):
    """The token that the runtime puts before a text, None if it does not."""
    with clear_errors(path):
        f = Gguf(path)
        get = lambda key, default=None: f.get(f"tokenizer.ggml.{key}", default)
        pieces = get("model") == "llama"
        asked = get("add_bos_token", pieces or get("pre") in BOS_UNASKED)
        return get("bos_token_id", 1 if pieces else None) if asked else None
