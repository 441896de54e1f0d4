#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# gguf 0.19.0 beside transformers 5.24.0: a model's folder with a chat template in two places.
# Expected: SpecialVocab, through which converters write a model's template into its GGUF file, takes the one that
#   transformers takes: chat_template.jinja, where newer models have it, before the entry in tokenizer_config.json.
# Seen: the entry wins, and be it null: then the file has no template at all. Models whose template was mended in
#   the new place (a tool form, a thinking block) are converted with the old one, and nothing tells: what talks to the
#   GGUF file builds other prompts than transformers. Only with one of the two places do both agree.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check gguf==0.19.0 transformers==5.24.0
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import json
import os
import sys
from gguf import SpecialVocab
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

def templates(folder, entry, file):
    os.mkdir(folder)
    Tokenizer(models.BPE({"a": 0, "b": 1}, [])).save(f"{folder}/tokenizer.json")
    with open(f"{folder}/tokenizer_config.json", "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", **entry}, f)
    if file:
        with open(f"{folder}/chat_template.jinja", "w") as f:
            f.write(file)
    both = AutoTokenizer.from_pretrained(folder).chat_template, SpecialVocab(folder).chat_template
    print(f"tokenizer_config.json {entry}, chat_template.jinja {file}: transformers {both[0]}, gguf {both[1]}")
    return both

seen = [templates("both", {"chat_template": "old"}, "new"), templates("null", {"chat_template": None}, "new"),
        templates("file", {}, "new"), templates("entry", {"chat_template": "old"}, None)]
sys.exit(0 if seen == [("new", "old"), ("new", None), ("new", "new"), ("old", "old")] else 1)
EOF
