#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# transformers 5.24.0 beside gguf 0.19.0: "add_bos_token" in a model's tokenizer_config.json.
# Expected: it says whether texts begin with the BOS token, as it did for Llama's tokenizers, as the same word does
#   when it is given to from_pretrained(), and as gguf believes, which hands it on in tokenizer.ggml.add_bos_token.
# Seen: beside a tokenizer.json it is read by nobody in transformers: that file's post-processor decides, for Llama's
#   class too, and the attribute add_bos_token is False even where a BOS is put. A GGUF file made of the folder says the
#   opposite: its readers leave the BOS away, or set one, where transformers, and with it every comparison of
#   logits and perplexity, does otherwise.
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
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer

def ids(folder, in_file, asked):
    os.mkdir(folder)
    t = Tokenizer(models.BPE({"<s>": 0, "a": 1, "b": 2, "ab": 3}, [("a", "b")]))
    t.add_special_tokens(["<s>"])
    if in_file:
        t.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    t.save(f"{folder}/tokenizer.json")
    with open(f"{folder}/tokenizer_config.json", "w") as f:
        json.dump({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "add_bos_token": asked}, f)
    loaded, told = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(folder, add_bos_token=asked)
    seen = (loaded.encode("ab"), loaded.add_bos_token, told.encode("ab"), SpecialVocab(folder).add_special_token["bos"])
    print(f"tokenizer.json {'with' if in_file else 'without'} BOS, add_bos_token {asked}: ids {seen[0]}, "
          f"attribute {seen[1]}; given by hand {seen[2]}; gguf {seen[3]}")
    return seen

without, with_bos = ids("never", True, False), ids("always", False, True)
agree = ids("agree", True, True)
sys.exit(0 if without == ([0, 3], False, [3], False) and with_bos == ([3], False, [0, 3], True)
         and agree == ([0, 3], False, [0, 3], True) else 1)
EOF
