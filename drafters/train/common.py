"""Shared by every script here: which data is read and how, the chat format, and the model.

The model is a plain Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied
embeddings, no biases.  Weights are stored exactly as a GGUF file of architecture "llama" wants
them, so the export is a copy.  Switches of Config make it one of the other architectures that the
runtime opens; llamafile.py sets them.
"""
import hashlib
import json
import lzma
import multiprocessing
import os
import queue
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

# Threads that wait for each other sleep instead of spinning, which matters much on a busy machine.
# OpenMP reads this when torch is loaded, so the scripts import this module before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

# ---------------------------------------------------------------------------------------------
# Data sources.
#
# kind: "text" (documents), "stories" (one newline divides stories), "chat" ({"messages": ...}),
#       "gsm8k" (question/answer), "mbpp" (text/code).
# pre:  how often a document is seen per pretraining epoch (0.5: every second one).
# sft:  the same for the chat fine-tuning, 0 for "not used".


@dataclass(frozen=True)
class Source:
    name: str
    group: str
    kind: str
    path: str
    pre: float
    sft: float


SOURCES = [
    Source("books", "books", "text", "corpus-childrens-books/childrens_books.txt.xz", 1, 0),
    Source("fairytales", "books", "text", "corpus-fairytaleqa/fairytales.txt.xz", 1, 0),
    Source("storybooks", "books", "text", "corpus-storybooks/storybooks.txt.xz", 2, 0),
    Source("tinystories", "books", "stories", "tinystories-sample/tiny_stories.txt.xz", 1, 0),
    Source("oasst", "assistant", "chat",
           "corpus-oasst-samples/oasst_pythia12b_samples.chat.jsonl.xz", 2, 1),
    Source("dolly", "assistant", "chat",
           "corpus-dolly-part/dolly_first6400_nocontext.chat.jsonl.xz", 2, 1),
    Source("dolly_hh", "assistant", "chat",
           "corpus-dolly-part/dolly_hhrlhf_small.chat.jsonl.xz", 2, 1),
    Source("llms_scratch", "assistant", "chat",
           "corpus-instruct-misc/llms_from_scratch.chat.jsonl.xz", 2, 1),
    Source("self_instruct", "assistant", "chat",
           "corpus-instruct-misc/self_instruct_human.chat.jsonl.xz", 2, 1),
    Source("open_conv", "assistant", "chat",
           "corpus-instruct-misc/open_datasets_conversations.chat.jsonl.xz", 2, 1),
    Source("chatterbot", "assistant", "chat",
           "corpus-instruct-misc/chatterbot_pairs.chat.jsonl.xz", 2, 1),
    Source("fairytaleqa", "fairytaleqa", "chat",
           "corpus-fairytaleqa/fairytaleqa.chat.jsonl.xz", 2, 0.2),
    Source("strategyqa", "reasoning", "chat", "corpus-flan-cot/strategyqa.chat.jsonl.xz", 2, 1),
    Source("creak", "reasoning", "chat", "corpus-flan-cot/creak.chat.jsonl.xz", 1, 0.05),
    Source("ecqa", "reasoning", "chat", "corpus-flan-cot/ecqa.chat.jsonl.xz", 2, 0.5),
    Source("sensemaking", "reasoning", "chat", "corpus-flan-cot/sensemaking.chat.jsonl.xz", 2, 0.3),
    Source("qasc", "reasoning", "chat", "corpus-flan-cot/qasc.chat.jsonl.xz", 2, 1),
    Source("aqua", "reasoning", "chat", "corpus-flan-cot/aqua.chat.jsonl.xz", 2, 0.5),
    Source("gsm8k_cot", "gsm8k", "chat", "corpus-flan-cot/gsm8k.chat.jsonl.xz", 1, 0.5),
    Source("gsm8k", "gsm8k", "gsm8k", "gsm8k/train.jsonl.xz", 1, 0.5),
    Source("mbpp", "code", "mbpp", "mbpp/mbpp.jsonl.xz", 2, 1),
    Source("trivia", "trivia", "chat", "corpus-trivia/trivia.chat.jsonl.xz", 0.3, 0.05),
    Source("personachat", "smalltalk", "chat",
           "corpus-personachat/personachat_synthetic.chat.jsonl.xz", 0.5, 0.1),
    Source("topicalchat", "smalltalk", "chat",
           "corpus-topicalchat/topicalchat.chat.jsonl.xz", 0.3, 0.05),
    Source("selfdialogue", "smalltalk", "chat",
           "corpus-selfdialogue/selfdialogue.chat.jsonl.xz", 0.2, 0),
    Source("sgd", "tasks", "chat", "corpus-sgd/sgd_train.chat.jsonl.xz", 0.15, 0),
    Source("sgd_dev", "tasks", "chat", "corpus-sgd/sgd_dev.chat.jsonl.xz", 0.15, 0),
    Source("sgd_test", "tasks", "chat", "corpus-sgd/sgd_test.chat.jsonl.xz", 0.15, 0),
    Source("taskmaster4", "tasks", "chat", "corpus-taskmaster4/taskmaster4.chat.jsonl.xz", 0.2, 0),
]

SYSTEM = "You are a helpful assistant."


def die(message):
    """Ends the program with one clear line."""
    sys.exit(f"error: {message}")


def read_xz(path):
    try:
        return lzma.open(path, "rt", encoding="utf-8").read()
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as e:
        die(f"cannot read {path}: {e}")


def normalise(text):
    """Case and spaces do not count when two prompts are compared."""
    return " ".join(text.lower().split())


def hash01(key):
    """A number in [0, 1) that depends on nothing but the text."""
    return int.from_bytes(hashlib.sha1(key.encode()).digest()[:6], "big") / 2**48


def benchmark_prompts(data):
    """Every prompt of the benchmarks that the finished model may be measured with."""
    prompts = set()
    for name in ("spec-bench/question.jsonl", "mt-bench/question.jsonl",
                 "mt-bench/vicuna_bench_question.jsonl"):
        path = Path(data) / name
        if not path.exists():
            die(f"{path} is missing: it is needed to keep benchmark prompts out of training")
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                prompts.update(normalise(turn) for turn in json.loads(line)["turns"])
    for line in read_xz(Path(data) / "gsm8k/test.jsonl.xz").splitlines():
        prompts.add(normalise(json.loads(line)["question"]))
    return prompts


def chat_pair(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def read_source(data, source):
    """Yields str (a document) or a list of messages (a conversation)."""
    raw = read_xz(Path(data) / source.path)
    if source.kind == "text":
        yield from (d.strip() for d in raw.split("<|endoftext|>") if d.strip())
        return
    if source.kind == "stories":
        # Paragraphs are divided by a blank line, stories by a single newline.
        yield from (s.strip() for s in re.split(r"(?<!\n)\n(?!\n)", raw) if s.strip())
        return
    for line in raw.splitlines():
        if not line.strip():
            continue
        row = json.loads(line)
        if source.kind == "chat":
            messages = [m for m in row["messages"] if m["content"].strip()]
            if any(m["role"] == "assistant" for m in messages):
                yield messages
        elif source.kind == "gsm8k":
            answer = re.sub(r"<<.*?>>", "", row["answer"])
            answer = re.sub(r"\n#### *(.+?)\s*$", r"\nThe answer is \1.", answer)
            yield chat_pair(row["question"].strip(), answer.strip())
        elif source.kind == "mbpp":
            code = row["code"].replace("\r\n", "\n").replace("\t", "    ")
            code = "\n".join(l.rstrip() for l in code.split("\n"))
            yield chat_pair(row["text"].strip(), code.strip())


def key_of(item):
    """What decides about train or validation: a document's text or the first user message, so
    that several answers to one prompt fall on the same side."""
    return item if isinstance(item, str) else normalise(item[0]["content"])


def is_validation(item):
    return hash01("split " + key_of(item)) < 0.01


# ---------------------------------------------------------------------------------------------
# Tokens.


class Tokens:
    """The tokenizer and the chat format.  Control tokens are inserted as ids; the text between
    two of them is encoded on its own."""

    def __init__(self, model_file):
        import sentencepiece
        if not Path(model_file).exists():
            die(f"{model_file} is missing: run tokenizer.py first")
        self.sp = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
        self.bos, self.eos = self.sp.bos_id(), self.sp.eos_id()
        self.im_start = self.sp.piece_to_id("<|im_start|>")
        self.im_end = self.sp.piece_to_id("<|im_end|>")
        self.newline = self.sp.encode("\n")

    def document(self, text):
        return [self.bos] + self.sp.encode(text) + [self.eos]

    def message(self, role, content):
        """Ids of one message and how many of them come before its content."""
        head = len(self.sp.encode(role + "\n")) + 1
        ids = [self.im_start] + self.sp.encode(role + "\n" + content) + [self.im_end]
        return ids, head

    def prompt(self, user, system=None):
        ids = [self.bos]
        for role, text in ([("system", system)] if system else []) + [("user", user)]:
            ids += self.message(role, text)[0] + self.newline
        return ids + [self.im_start] + self.sp.encode("assistant\n")

    def conversation(self, messages, system=None):
        """Ids, and for each id whether it is the assistant's (content and <|im_end|>)."""
        ids, mine = [self.bos], [0]
        if system:
            part, _ = self.message("system", system)
            ids += part + self.newline
            mine += [0] * (len(part) + len(self.newline))
        for m in messages:
            part, head = self.message(m["role"], m["content"])
            own = 1 if m["role"] == "assistant" else 0
            ids += part + self.newline
            mine += [0] * head + [own] * (len(part) - head) + [0] * len(self.newline)
        return ids, mine


@dataclass
class Split:
    """Encoded documents of one source, one behind the other."""
    ids: np.ndarray       # uint16
    mine: np.ndarray      # uint8: 1 where the token is the assistant's (all 1 in documents)
    starts: np.ndarray    # int64, one more than there are documents
    bytes: np.ndarray     # int64: UTF-8 bytes that the marked tokens spell, per document

    def __len__(self):
        return len(self.starts) - 1

    def doc(self, i):
        a, b = self.starts[i], self.starts[i + 1]
        return self.ids[a:b], self.mine[a:b]


def encode_items(tokens, items):
    ids, mine, starts, size = [], [], [0], []
    for item in items:
        if isinstance(item, str):
            d = tokens.document(item)
            m = [0] + [1] * (len(d) - 1)
            n = len(item.encode())
        else:
            system = SYSTEM if hash01("system " + key_of(item)) < 0.1 else None
            d, m = tokens.conversation(item, system)
            n = sum(len(x["content"].encode()) for x in item if x["role"] == "assistant")
        ids.append(np.array(d, np.uint16))
        mine.append(np.array(m, np.uint8))
        starts.append(starts[-1] + len(d))
        size.append(n)
    join = lambda parts, t: np.concatenate(parts) if parts else np.zeros(0, t)
    return Split(join(ids, np.uint16), join(mine, np.uint8), np.array(starts, np.int64),
                 np.array(size, np.int64))


def encode_source(data, source, tokens, banned):
    train, valid, dropped = [], [], 0
    for item in read_source(data, source):
        if not isinstance(item, str) and any(
                m["role"] == "user" and normalise(m["content"]) in banned for m in item):
            dropped += 1
        elif is_validation(item):
            valid.append(item)
        elif max(source.pre, source.sft) >= 1 or \
                hash01("keep " + key_of(item)) < max(source.pre, source.sft):
            train.append(item)
    return encode_items(tokens, train), encode_items(tokens, valid), dropped


def _encode_job(job):
    data, work, source, banned = job
    out = Path(work) / "tokens" / f"{source.name}.npz"
    train, valid, dropped = encode_source(data, source, Tokens(Path(work) / "tokenizer.model"),
                                          banned)
    arrays = {f"{side}_{k}": v for side, split in (("train", train), ("valid", valid))
              for k, v in vars(split).items()}
    part = out.with_suffix(".part.npz")
    np.savez(part, **arrays)
    part.rename(out)
    return f"{source.name}: {len(train)} train, {len(valid)} validation, {dropped} dropped, " \
           f"{len(train.ids)} tokens"


def load_tokens(data, work, jobs=2):
    """{name: (train, valid)} of every source; encoded once and then kept under WORK/tokens."""
    folder = Path(work) / "tokens"
    folder.mkdir(parents=True, exist_ok=True)
    todo = [s for s in SOURCES if not (folder / f"{s.name}.npz").exists()]
    if todo:
        banned = benchmark_prompts(data)
        todo.sort(key=lambda s: -(Path(data) / s.path).stat().st_size)
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            for line in pool.imap(_encode_job, [(data, work, s, banned) for s in todo]):
                print(line, flush=True)
    result = {}
    for s in SOURCES:
        with np.load(folder / f"{s.name}.npz") as z:
            result[s.name] = tuple(Split(*(z[f"{side}_{k}"] for k in
                                           ("ids", "mine", "starts", "bytes")))
                                   for side in ("train", "valid"))
    return result


# ---------------------------------------------------------------------------------------------
# The model.


@dataclass
class Config:
    vocab: int = 4096
    layers: int = 12
    dim: int = 256
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 768
    context: int = 2048
    eps: float = 1e-5
    rope_base: float = 10000.0
    head_size: int = 0          # 0: dim / heads
    frequencies: tuple = ()     # of a head's pairs, radians per token; (): those of rope_base
    tied: bool = True           # the embeddings are the output matrix too
    biased: tuple = ()          # the matrices of the attention that have a bias
    arch: str = "llama"         # as GGUF files name it
    halves: bool = False        # RoPE turns (i, i + turned / 2), else (2 i, 2 i + 1)
    turned: int = 0             # numbers of a head that RoPE turns, the first ones; 0: all
    rope_gain: float = 1.0      # what those are multiplied by
    query_scale: float = 0.0    # of scores; 0: 1 / sqrt(head_dim)
    embedding_scale: float = 1.0
    window: int = 0             # tokens that a windowed layer sees, itself among them
    windowed: tuple = ()        # whether each layer is; (): none
    window_frequencies: tuple = ()  # of these layers; (): as the others'
    qk_norm: bool = False       # q and k are normed head by head, before RoPE
    post_norm: bool = False     # so is what attention and feed-forward add to the state
    gelu: bool = False          # gates through GELU (tanh), else through SiLU
    fused: bool = False         # in the file q, k, v are rows of one tensor, gate and up of another

    @property
    def head_dim(self):
        return self.head_size or self.dim // self.heads

    @property
    def score_scale(self):
        return self.query_scale or self.head_dim ** -0.5


class Norm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        f = x.float()
        f = f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.eps)
        return (f * self.weight).to(x.dtype)


def causal_attention(q, k, v, scale, window=0, rows=128):
    """[batch][heads or kv_heads][tokens][head_dim] each; window: keys that a query sees, 0: all before
    it.  On a CPU torch's fused bfloat16 attention takes half of the training time; products over `rows`
    queries at a time with the keys they see take a quarter of that."""
    t, out = q.shape[2], []
    k, v = (u.repeat_interleave(q.shape[1] // k.shape[1], 1) for u in (k, v))
    window = window or t
    if q.is_cuda and window >= t:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    for i in range(0, t, rows):
        n, first = min(rows, t - i), max(0, i - window + 1)
        every = torch.ones(n, i + n - first, dtype=torch.bool, device=q.device)
        hidden = every.triu(i - first + 1)
        if i + n > window:
            hidden |= every.tril(i - first - window)
        score = (q[:, :, i:i + n] @ k[:, :, first:i + n].transpose(-1, -2)).float() * scale
        p = score.masked_fill(hidden, float("-inf")).softmax(-1).to(q.dtype)
        out.append(p @ v[:, :, first:i + n])
    return torch.cat(out, 2)


class Block(nn.Module):
    """A layer; kind: which of the model's turns is its own."""

    def __init__(self, c, layer=0):
        super().__init__()
        self.c = c
        linear = lambda i, o, name=None: nn.Linear(i, o, bias=name in c.biased)
        self.window = c.window if c.windowed and c.windowed[layer] else 0
        self.kind = int(self.window > 0 and c.window_frequencies != ())
        self.attn_norm = Norm(c.dim, c.eps)
        self.attn_q = linear(c.dim, c.heads * c.head_dim, "attn_q")
        self.attn_k = linear(c.dim, c.kv_heads * c.head_dim, "attn_k")
        self.attn_v = linear(c.dim, c.kv_heads * c.head_dim, "attn_v")
        if c.qk_norm:
            self.attn_q_norm, self.attn_k_norm = (Norm(c.head_dim, c.eps) for _ in range(2))
        self.attn_output = linear(c.heads * c.head_dim, c.dim, "attn_output")
        self.ffn_norm = Norm(c.dim, c.eps)
        self.ffn_gate = linear(c.dim, c.ffn)
        self.ffn_up = linear(c.dim, c.ffn)
        self.ffn_down = linear(c.ffn, c.dim)
        if c.post_norm:
            self.post_attention_norm, self.post_ffw_norm = (Norm(c.dim, c.eps) for _ in range(2))

    def pairs(self, y):
        """The first and the second number of each pair that RoPE turns, and of those behind, which
        stand still."""
        c = self.c
        if not c.halves:
            return y[..., 0::2], y[..., 1::2]
        turned = c.turned or c.head_dim
        still = (c.head_dim - turned) // 2
        a, b, more_a, more_b = y.split((turned // 2, turned // 2, still, still), -1)
        return (torch.cat((a, more_a), -1), torch.cat((b, more_b), -1)) if still else (a, b)

    def rotated(self, x, layer, n, cos, sin):
        """One projection with rotary positions: [batch][n heads][tokens][head_dim].  The pairs' first
        numbers come before their second ones, whatever the order in the file: the product of q and k
        is the same, and this vectorises better."""
        y = layer(x).view(x.shape[0], x.shape[1], n, self.c.head_dim)
        if self.c.qk_norm:
            y = (self.attn_q_norm if layer is self.attn_q else self.attn_k_norm)(y)
        cos, sin = (v[..., self.kind:self.kind + 1, :] for v in (cos, sin))
        a, b = self.pairs(y)
        y = torch.cat((a * cos - b * sin, a * sin + b * cos), -1)
        return y.to(x.dtype).transpose(1, 2)

    def add_attention(self, x, y):
        """The state x with what attention gave, y [batch][tokens][heads * head_dim]."""
        y = self.attn_output(y)
        return x + (self.post_attention_norm(y) if self.c.post_norm else y)

    def add_ffn(self, x):
        h = self.ffn_norm(x)
        gate = self.ffn_gate(h)
        gate = F.gelu(gate, approximate="tanh") if self.c.gelu else F.silu(gate)
        y = self.ffn_down(gate * self.ffn_up(h))
        return x + (self.post_ffw_norm(y) if self.c.post_norm else y)

    def forward(self, x, cos, sin, attention=causal_attention):
        c = self.c
        b, t, _ = x.shape
        h = self.attn_norm(x)
        q = self.rotated(h, self.attn_q, c.heads, cos, sin)
        k = self.rotated(h, self.attn_k, c.kv_heads, cos, sin)
        v = self.attn_v(h).view(b, t, c.kv_heads, c.head_dim).transpose(1, 2)
        y = attention(q, k, v, c.score_scale, self.window)
        return self.add_ffn(self.add_attention(x, y.transpose(1, 2).reshape(b, t, -1)))


class Llama(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.token_embd = nn.Embedding(c.vocab, c.dim)
        self.blk = nn.ModuleList(Block(c, i) for i in range(c.layers))
        self.output_norm = Norm(c.dim, c.eps)
        if not c.tied:
            self.output = nn.Linear(c.dim, c.vocab, bias=False)
        self.make_rotary()
        for name, p in self.named_parameters():
            if p.dim() == 2:
                out = name.endswith(("attn_output.weight", "ffn_down.weight"))
                std = 0.02 if "embd" in name else (0.6 / p.shape[1] ** 0.5)
                nn.init.normal_(p, std=std / (2 * c.layers) ** 0.5 if out else std)

    def make_rotary(self):
        """cos and sin [context][kinds][head_dim / 2]: of all layers, then of windowed ones where these
        turn otherwise."""
        c, half = self.c, self.c.head_dim // 2
        kinds = [torch.tensor(c.frequencies) if c.frequencies else
                 c.rope_base ** (-torch.arange(half).float() / half)]
        if c.window_frequencies:
            kinds.append(torch.tensor(c.window_frequencies))
        frequencies = torch.stack(kinds)
        angle = torch.arange(c.context).double()[:, None, None] * frequencies
        gain = torch.where(frequencies > 0, c.rope_gain, 1.0)
        self.register_buffer("cos", angle.cos().float() * gain, persistent=False)
        self.register_buffer("sin", angle.sin().float() * gain, persistent=False)

    @property
    def head(self):
        """The output matrix [vocab][dim]."""
        return self.token_embd.weight if self.c.tied else self.output.weight

    def embed(self, ids):
        return self.token_embd(ids) * self.c.embedding_scale

    def hidden(self, ids):
        t = ids.shape[1]
        x = self.embed(ids)
        if torch.is_autocast_enabled(ids.device.type):
            x = x.bfloat16()
        cos, sin = self.cos[:t].to(x.dtype), self.sin[:t].to(x.dtype)
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output_norm(x)

    def logits(self, ids):
        return F.linear(self.hidden(ids), self.head).float()

    def forward(self, ids, labels):
        """Mean cross-entropy over the labels that are not -100."""
        return F.cross_entropy(self.logits(ids).flatten(0, 1), labels.flatten(),
                               ignore_index=-100)


def save_checkpoint(path, model, **more):
    path = Path(path)
    part = path.with_name(path.name + ".part")
    state = {k: v.detach().clone() for k, v in model.state_dict().items()}
    torch.save({"config": asdict(model.c), "model": state, **more}, part)
    part.rename(path)


def load_checkpoint(path):
    """(model, the other entries) of a .pt file."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model = Llama(Config(**state["config"]))
        model.load_state_dict(state["model"])
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, EOFError) as e:
        die(f"cannot load the checkpoint {path}: {e}")
    return model, state


# ---------------------------------------------------------------------------------------------
# Optimisation.


def orthogonal(g):
    """Newton-Schulz: the nearest (semi-)orthogonal matrices, for a stack of matrices with no
    more rows than columns."""
    x = g.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.float()


class Muon:
    """Momentum with orthogonalised updates for the hidden matrices; matrices of one shape are
    handled as one stack."""

    def __init__(self, params, momentum=0.95):
        self.momentum = momentum
        self.stacks = {}
        for p in params:
            wide = p.shape[0] <= p.shape[1]
            key = (min(p.shape), max(p.shape))
            self.stacks.setdefault(key, []).append((p, wide))
        self.buffers = {k: torch.zeros(len(v), *k, device=v[0][0].device)
                        for k, v in self.stacks.items()}

    @torch.no_grad()
    def step(self, lr, weight_decay=0.0):
        for key, entries in self.stacks.items():
            g = torch.stack([p.grad if wide else p.grad.mT for p, wide in entries])
            m = self.buffers[key]
            m.lerp_(g, 1 - self.momentum)
            update = orthogonal(g.lerp(m, self.momentum))
            for (p, wide), u in zip(entries, update):
                u = u if wide else u.mT
                p.mul_(1 - lr * weight_decay)
                p.add_(u, alpha=-lr * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)

    def state_dict(self):
        return {f"{a}x{b}": v for (a, b), v in self.buffers.items()}

    def load_state_dict(self, state):
        for (a, b), v in self.buffers.items():
            v.copy_(state[f"{a}x{b}"])


class Optimizer:
    """Muon for the hidden matrices, AdamW for embeddings and norms."""

    def __init__(self, model, muon_lr, adam_lr, weight_decay=0.01):
        self.model, self.muon_lr, self.adam_lr = model, muon_lr, adam_lr
        self.weight_decay = weight_decay
        hidden = [p for n, p in model.named_parameters() if p.dim() == 2 and "embd" not in n]
        rest = [p for n, p in model.named_parameters() if p.dim() != 2 or "embd" in n]
        self.muon = Muon(hidden)
        self.adam = torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0,
                                      fused=True)

    def step(self, factor):
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.adam_lr * factor
        self.adam.step()
        self.muon.step(self.muon_lr * factor, self.weight_decay)
        self.model.zero_grad(set_to_none=True)
        return norm.item()

    def state_dict(self):
        return {"adam": self.adam.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state):
        self.adam.load_state_dict(state["adam"])
        self.muon.load_state_dict(state["muon"])


class Accelerator:
    """Gradients from one GPU."""

    def __init__(self, model, device, compiled):
        self.device = device
        self.model = torch.compile(model, dynamic=False) if compiled else model

    def gradients(self, pieces):
        """pieces: (inputs, labels, weight).  Adds to p.grad, returns the weighted loss."""
        total = 0.0
        for inputs, labels, weight in pieces:
            inputs, labels = (torch.from_numpy(np.ascontiguousarray(v)).to(self.device)
                              for v in (inputs, labels))
            with torch.autocast(self.device, dtype=torch.bfloat16):
                loss = self.model(inputs, labels) * float(weight)
            loss.backward()
            total += loss.detach()
        return float(total)


def gradient_source(model, device, workers, compiled):
    """Moves the model to the device and returns what computes its gradients there."""
    if device == "cpu":
        return Workers(model, workers, compiled)
    if not torch.cuda.is_available():
        die("--device cuda: this PyTorch sees no GPU; leave the option out to train on the CPU")
    return Accelerator(model.to(device), device, compiled)


class Workers:
    """Gradients from several processes.  Each computes with one thread on one core, on weights
    in shared memory, and takes the next piece of a batch when it is done with one; a core that
    is busy with something else slows down its own share only."""

    def __init__(self, model, count, compiled):
        from torch import multiprocessing
        c = multiprocessing.get_context("spawn")
        model.share_memory()
        self.params = list(model.parameters())
        self.grads = [[torch.zeros_like(p).share_memory_() for p in self.params]
                      for _ in range(count)]
        self.jobs, self.results = c.Queue(), c.Queue()
        self.workers = [c.Process(target=_worker, daemon=True,
                                  args=(model, g, self.jobs, self.results, compiled))
                        for g in self.grads]
        for w in self.workers:
            w.start()

    def gradients(self, pieces):
        """pieces: (inputs, labels, weight).  Sets p.grad, returns the weighted loss."""
        for inputs, labels, weight in pieces:
            self.jobs.put((np.ascontiguousarray(inputs), np.ascontiguousarray(labels),
                           float(weight)))
        total = 0.0
        for _ in pieces:
            while True:
                try:
                    total += self.results.get(timeout=5)
                    break
                except queue.Empty:
                    if not all(w.is_alive() for w in self.workers):
                        die("a worker process ended; its own message is above")
        for p, *parts in zip(self.params, *self.grads):
            p.grad = torch.stack(parts).sum(0)
            for g in parts:
                g.zero_()
        return total


def _worker(model, grads, jobs, results, compiled):
    torch.set_num_threads(1)
    for p, g in zip(model.parameters(), grads):
        p.grad = g
    f = torch.compile(model, dynamic=False) if compiled else model
    while True:
        try:
            inputs, labels, weight = jobs.get(timeout=5)
        except queue.Empty:
            if not multiprocessing.parent_process().is_alive():
                return
            continue
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = f(torch.from_numpy(inputs), torch.from_numpy(labels)) * weight
        loss.backward()
        results.put(loss.item())


# ---------------------------------------------------------------------------------------------
# Measuring.


@torch.no_grad()
def evaluate(model, splits, groups, max_tokens=40_000, length=1024):
    """Bits per byte by group of sources: the loss of the assistant's tokens (of all tokens in
    plain documents) over the bytes they spell.  Long documents are cut at `length` tokens."""
    nats, size = {}, {}
    for source in SOURCES:
        split = splits[source.name][1]
        seen = 0
        for i in range(len(split)):
            ids, mine = split.doc(i)
            share = 1.0
            if len(ids) > length:
                ids, full, mine = ids[:length], mine.sum(), mine[:length]
                share = mine.sum() / full if full else 0.0
            if not mine.any() or seen > max_tokens:
                continue
            seen += len(ids)
            x = torch.from_numpy(ids.astype(np.int64))[None]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model.logits(x[:, :-1])[0]
            loss = F.cross_entropy(logits, x[0, 1:], reduction="none")
            total = (loss * torch.from_numpy(mine[1:].astype(np.float32))).sum().item()
            nats[source.group] = nats.get(source.group, 0) + total
            size[source.group] = size.get(source.group, 0) + split.bytes[i] * share
    bits = {g: nats[g] / np.log(2) / size[g] for g in groups if g in nats}
    bits["all"] = sum(nats.values()) / np.log(2) / sum(size.values())
    return bits


GROUPS = list(dict.fromkeys(s.group for s in SOURCES))
