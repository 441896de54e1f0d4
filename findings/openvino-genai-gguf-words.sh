#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# openvino-genai 2026.4.1.0: a GGUF file whose tokenizer.ggml.pre is "llama-bpe", as those of Llama 3 say.
# Expected: the text is cut into words as that rule does, " (" being one, for which the vocabulary has a token; or an
#   error, as for an architecture that is not known (which llama is).
# Seen: only "qwen2" and "smollm" are known. Every other name gives a rule of its own, in which punctuation and the space
#   before it are two words: " (" becomes two tokens that the model has hardly seen side by side. No warning; the
#   ids of most prompts are others than in llama.cpp or transformers. tokenizers 0.23.3 shows the words of the rule.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check openvino-genai==2026.4.1.0 gguf==0.19.0 tokenizers==0.23.3
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import sys
import gguf
import numpy as np
import openvino_genai
from tokenizers import Regex, pre_tokenizers

tokens = ["a", "b", "(", "\u0120", "\u0120(", "</s>"]  # U+0120 stands for the space

def encode(rule, text):
    path = f"{rule}.gguf"
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(rule)
    w.add_token_list(tokens)
    w.add_token_types([1] * 5 + [3])
    w.add_token_merges(["\u0120 ("])
    w.add_eos_token_id(5)
    w.add_tensor("token_embd.weight", np.zeros((6, 32), np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return [tokens[i] for i in openvino_genai.Tokenizer(path).encode(text).input_ids.data[0]]

text = "a (b"
llama3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
words = [word for word, _ in pre_tokenizers.Split(Regex(llama3), behavior="isolated").pre_tokenize_str(text)]
seen = {rule: encode(rule, text) for rule in ("qwen2", "llama-bpe")}
print("words of Llama 3's rule:", words)
for rule, pieces in seen.items():
    print(f"{rule}: {pieces}")
sys.exit(0 if words == ["a", " (", "b"] and seen == {
    "qwen2": ["a", "\u0120(", "b"], "llama-bpe": ["a", "\u0120", "(", "b"]} else 1)
EOF
