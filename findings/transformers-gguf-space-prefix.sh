#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# transformers 5.24.0: a SentencePiece vocabulary of a GGUF file that asks for no space before the text.
# Expected: from_pretrained(gguf_file=...) heeds tokenizer.ggml.add_space_prefix = false: "the" gives the piece "the",
#   " the" the piece with U+2581, two different texts. The key is read: it is in the table of what is taken.
# Seen: the converter, convert_gguf_tokenizer(), gets the flag and does not use it: both texts give the piece
#   with U+2581, so every first word of a prompt, and after it each one that begins behind a control token, has
#   another id than in the model's training. (Called here directly, as reading the file needs PyTorch.)
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check transformers==5.24.0
"$tmp/venv/bin/python" - <<'EOF'
import sys
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_TOKENIZER_MAPPING, convert_gguf_tokenizer

words = ["\u2581", "t", "h", "e", "th", "the", "\u2581the"]
tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + words
flag = GGUF_TOKENIZER_MAPPING["tokenizer"]["ggml.add_space_prefix"]
vocabulary = {"tokenizer_type": "llama", "tokens": tokens, "token_type": [2, 3, 3] + [6] * 256 + [1] * len(words),
              "scores": [0.0] * 259 + [-float(i) for i in range(len(words))],
              "bos_token_id": 1, "eos_token_id": 2, "unk_token_id": 0, flag: False}
tokenizer, _ = convert_gguf_tokenizer("llama", vocabulary)
seen = [tokenizer.encode(text, add_special_tokens=False).tokens for text in ("the", " the")]
print(f"{flag} False: 'the' gives {seen[0]}, ' the' gives {seen[1]}")
sys.exit(0 if seen == [["\u2581the"], ["\u2581the"]] else 1)
EOF
