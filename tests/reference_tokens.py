#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ids that the original tokenizers give for many lines: tests/reference/NAME.ids, for test_reference.c.

    reference_tokens.py SHARED MODELS [NAME...]

SHARED is the folder that FTK_SHARED_DIR names, MODELS the one with the two real models. Needs the Python
packages tokenizers, sentencepiece, tiktoken and gguf. The tests need none of it.

The lines are first those of reference_parts.txt, then ones made of them by chance; reference_lines.c makes the
same ones. A file holds the ids of the former, and for the latter a checksum for every 16 lines.
"""
import base64
import json
import lzma
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
N_MADE, BLOCK = 10240, 16
REPEATED = [" ", " ", " ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2581", "-", "=", ".", "a", "0", "_", "\u200b"]
# Ranges of characters that have long been in Unicode, all of them.
RANGES = [(0x21, 0x7E), (0xA1, 0xFF), (0x100, 0x17F), (0x391, 0x3A1), (0x3B1, 0x3C9), (0x400, 0x45F), (0x5D0, 0x5EA),
          (0x627, 0x63A), (0x64B, 0x652), (0x905, 0x939), (0xE01, 0xE30), (0x300, 0x33F), (0x1E00, 0x1E95),
          (0x2010, 0x2027), (0x2190, 0x21FF), (0x2500, 0x257F), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5),
          (0xAC00, 0xD7A3), (0xFF01, 0xFF5E), (0x1F600, 0x1F64F), (0x1D400, 0x1D454), (0x20000, 0x2A6D6)]


def parts():
    for line in open(os.path.join(HERE, "reference_parts.txt"), encoding="ascii"):
        line = line.rstrip("\n")
        out, i = [], 0
        while i < len(line):
            if line[i] != "\\":
                out.append(line[i])
                i += 1
                continue
            c = line[i + 1]
            digits = {"u": 4, "U": 8}.get(c, 0)
            out.append(chr(int(line[i + 2:i + 2 + digits], 16)) if digits else
                       {"n": "\n", "r": "\r", "t": "\t", "s": " ", "\\": "\\"}[c])
            i += 2 + digits
        yield "".join(out)


class Random:
    def __init__(self):
        self.seed = 20261130

    def below(self, n):
        self.seed = (self.seed * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.seed >> 33) % n


def made_lines(all_parts):
    r = Random()
    for _ in range(N_MADE):
        line = ""
        for _ in range(1 + r.below(10)):
            kind = r.below(8)
            if kind == 0:
                c = REPEATED[r.below(len(REPEATED))]
                line += c * (1 + r.below(40))
            elif kind == 1:
                for _ in range(1 + r.below(12)):
                    line += "0123456789"[r.below(10)]
            elif kind == 2:
                first, last = RANGES[r.below(len(RANGES))]
                for _ in range(1 + r.below(5)):
                    line += chr(first + r.below(last - first + 1))
            else:
                line += all_parts[r.below(len(all_parts))]
            if r.below(2):
                line += " "
        yield line


def checksum(lists):
    """FNV-1a over the ids of some lines, each list with its length in front."""
    h = 2166136261
    for ids in lists:
        for byte in struct.pack("<%dI" % (len(ids) + 1), len(ids), *ids):
            h = (h ^ byte) * 16777619 % 2**32
    return h


# ---- the originals: each a function from text to ids, without BOS and control tokens


def sentencepiece_file(path):
    import sentencepiece
    return sentencepiece.SentencePieceProcessor(model_file=path).encode


def sentencepiece_gguf(path):
    """Gemma's: the model is put together again from a file's lists, by sentencepiece's own classes."""
    import gguf
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    fields = gguf.GGUFReader(path).fields
    tokens, scores, types = (fields["tokenizer.ggml." + k].contents() for k in ("tokens", "scores", "token_type"))
    unknown = fields["tokenizer.ggml.unknown_token_id"].contents()
    model = pb.ModelProto()
    for i, (text, score, kind) in enumerate(zip(tokens, scores, types)):
        if kind == 4:
            text = text.replace(" ", "\u2581")
        model.pieces.add(piece=text, score=score, type=2 if i == unknown else kind)
    model.trainer_spec.model_type = pb.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_id = unknown
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = fields["tokenizer.ggml.add_space_prefix"].contents()
    model.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString()).encode


def tokenizer_json(path):
    """A tokenizer.json without what makes control tokens of text."""
    import tokenizers
    root = json.load(lzma.open(path, "rt", encoding="utf8"))
    root["added_tokens"] = [t for t in root["added_tokens"] if not t["special"]]
    t = tokenizers.Tokenizer.from_str(json.dumps(root))
    return lambda text: t.encode(text, add_special_tokens=False).ids


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+")


def ranks(path, pattern, normal_form=None):
    import tiktoken
    import unicodedata
    table = {}
    for line in open(path, "rb"):
        token, rank = line.split()
        table[base64.b64decode(token)] = int(rank)
    encode = tiktoken.Encoding("reference", pat_str=pattern, mergeable_ranks=table, special_tokens={}).encode_ordinary
    return (lambda text: encode(unicodedata.normalize(normal_form, text))) if normal_form else encode


def gpt2(folder):
    import tokenizers
    merges = [tuple(m.split()) for m in open(folder + "/vocab.bpe", encoding="utf8").read().split("\n")[1:] if m]
    vocab = json.load(open(folder + "/encoder.json", encoding="utf8"))
    t = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda text: t.encode(text).ids


def originals(shared, models):
    return {
        "llama2": lambda: sentencepiece_file(shared + "/tok-llama2/tokenizer.model"),
        "openllama": lambda: sentencepiece_file(shared + "/tok-openllama/tokenizer.model"),
        "gemma3": lambda: sentencepiece_gguf(models + "/gemma-3-270m-Q4_K_M.gguf"),
        "smollm2": lambda: tokenizer_json(shared + "/tok-smollm2/tokenizer.json.xz"),
        "gpt2": lambda: gpt2(shared + "/tok-openai"),
        "qwen2": lambda: ranks(shared + "/tok-qwen2/qwen.tiktoken", GPT4 % "", "NFC"),
        "cl100k": lambda: ranks(shared + "/tok-openai/cl100k_base.tiktoken", GPT4 % "{1,3}"),
    }


def main():
    shared, models, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    table = originals(shared, models)
    given = list(parts())
    made = list(made_lines(given))
    os.makedirs(HERE + "/reference", exist_ok=True)
    for name in names or table:
        encode = table[name]()
        with open("%s/reference/%s.ids" % (HERE, name), "w", encoding="ascii") as out:
            for line in given:
                print(*encode(line), file=out)
            for i in range(0, N_MADE, BLOCK):
                print("%08x" % checksum([encode(line) for line in made[i:i + BLOCK]]), file=out)
        print(name, len(given), "+", N_MADE, "lines")


if __name__ == "__main__":
    main()
