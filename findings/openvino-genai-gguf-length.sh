#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# openvino-genai 2026.4.1.0: the tokenizer of a GGUF file and a long prompt.
# Expected: encode() gives all tokens of a text, as transformers does, and as the file says that the model reads 32,768;
#   who wants less says max_length.
# Seen: of a text of 10,000 tokens it gives the last 8,192. The beginning is gone (the system message, the BOS, the
#   document) without a warning; max_length=20000 does not bring it back, and max_length=100 takes nothing off. A
#   pipeline made of the file answers such prompts as if nothing had happened.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check openvino-genai==2026.4.1.0 gguf==0.19.0
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import sys
import gguf
import numpy as np
import openvino_genai

tokens = ["a", "b", "c", "ab", "</s>"]
w = gguf.GGUFWriter("model.gguf", "llama")
w.add_context_length(32768)
w.add_tokenizer_model("gpt2")
w.add_tokenizer_pre("qwen2")
w.add_token_list(tokens)
w.add_token_types([1, 1, 1, 1, 3])
w.add_token_merges(["a b"])
w.add_eos_token_id(4)
w.add_tensor("token_embd.weight", np.zeros((5, 32), np.float16))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()

tokenizer = openvino_genai.Tokenizer("model.gguf")
text = "a" + "c" * 9998 + "b"
seen = {}
for most in (None, 20000, 100):
    ids = tokenizer.encode(text, **({"max_length": most} if most else {})).input_ids.data[0]
    seen[most] = len(ids), tokens[ids[0]], tokens[ids[-1]]
    print(f"10000 tokens from a to b, max_length {most}: {seen[most][0]} tokens from {seen[most][1]} to {seen[most][2]}")
sys.exit(0 if set(seen.values()) == {(8192, "c", "b")} else 1)
EOF
