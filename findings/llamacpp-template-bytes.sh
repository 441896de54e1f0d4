#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# llama.cpp b11549 (in xllamacpp 2026.10.11549) beside jinja2 3.1.6: letters that are not ASCII in a chat template.
# Expected: texts are counted, cut and put in capitals by characters, as in jinja2: {{ text[:9] }} is 9 characters, and
#   text | length says how many there are.
# Seen: by bytes. Chinese text is three times as long as the template thinks, so results of tools are cut that were to
#   stay whole; a cut goes through a character, of which U+FFFD is left in the prompt; upper and capitalize leave
#   letters with an accent as they are. Prompts in English are the same in both, so tests with those don't show it.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check gguf==0.19.0 jinja2==3.1.6 xllamacpp==2026.10.11549
cd "$tmp"
cat >model.py <<'EOF'
import json
import urllib.request
import gguf
import jinja2
import numpy as np
import xllamacpp

def write():
    """A model of no layer's worth: two tokens, all weights 0. Only its template is asked for."""
    w = gguf.GGUFWriter("model.gguf", "llama")
    w.add_context_length(512)
    w.add_block_count(1)
    w.add_head_count(1)
    w.add_embedding_length(32)
    w.add_feed_forward_length(32)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(["a", "b"])
    w.add_token_types([1, 1])
    w.add_token_merges(["a b"])
    for name in ("token_embd", "output"):
        w.add_tensor(f"{name}.weight", np.zeros((2, 32), np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        w.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        w.add_tensor(f"blk.0.{name}.weight", np.zeros((32, 32), np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()

def prompts(given, expressions):
    """What jinja2 and llama.cpp's server (/apply-template) write for each of them."""
    write()
    template = "{% if given %}" + "\n".join(expressions) + "{% endif %}"
    p = xllamacpp.CommonParams()
    p.model.path, p.chat_template, p.use_jinja, p.force_pure_content_parser = "model.gguf", template, True, True
    p.verbosity = -1
    p.n_ctx, p.port, p.warmup, p.cpuparams.n_threads = 512, 0, False, 1
    server = xllamacpp.Server(p)
    ask = {"messages": [{"role": "user", "content": "end"}], "chat_template_kwargs": {"given": True, **given}}
    answer = urllib.request.urlopen(urllib.request.Request(
        server.listening_address + "/apply-template", json.dumps(ask).encode(), {"Content-Type": "application/json"}))
    other = json.loads(answer.read().decode())["prompt"].split("\n")
    own = jinja2.Environment().from_string(template).render(given=True, **given).split("\n")
    for e, one, two in zip(expressions, own, other):
        print(f"{e}: jinja2 {one!r}, llama.cpp {two!r}")
    return list(zip(own, other))
EOF
cat >case.py <<'EOF'
import sys
from model import prompts

given = {"zh": "\u4eca\u5929\u5929\u6c14", "fr": "\u00e9t\u00e9", "en": "summer"}
cut = "{{ zh[:4] ~ '...' if zh | length > 9 else zh }}"
want = {"{{ zh | length }}": ("4", "12"), cut: ("\u4eca\u5929\u5929\u6c14", "\u4eca\ufffd..."),
        "{{ fr[:2] }}": ("\u00e9t", "\u00e9"), "{{ fr | upper }}": ("\u00c9T\u00c9", "\u00e9T\u00e9"),
        "{{ fr | capitalize }}": ("\u00c9t\u00e9", "\u00e9t\u00e9"),
        "{{ en | length }}": ("6", "6"), "{{ en[:4] | upper }}": ("SUMM", "SUMM")}
sys.exit(0 if prompts(given, list(want)) == list(want.values()) else 1)
EOF
"$tmp/venv/bin/python" case.py
