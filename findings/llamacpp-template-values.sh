#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# llama.cpp b11549 (in xllamacpp 2026.10.11549) beside jinja2 3.1.6: values in a chat template that are no text.
# Expected: {{ tools }} writes the list as in jinja2, in which the models' makers render: with quotation marks, names
#   and None; or it is an error, as operators are that llama.cpp's own Jinja does not know.
# Seen: an object is written as nothing at all, a list as its elements without anything between, None as nothing. A
#   template that shows a model its tools so shows it none, and no error comes. {{ tools | string }} and "" ~ tools do
#   write them. `default` replaces a None that was given, which jinja2 keeps, and -7 % 3 is -1 in place of 2.
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

given = {"tool": {"name": "f", "strict": None}, "tools": [{"name": "f"}], "names": ["a", 1, None], "none": None}
want = {"{{ tool }}": ("{'name': 'f', 'strict': None}", ""), "{{ tools }}": ("[{'name': 'f'}]", ""),
        "{{ names }}": ("['a', 1, None]", "a1"), "{{ tool.strict }}": ("None", ""),
        "{{ tools | string }}": ("[{'name': 'f'}]",) * 2, "{{ '' ~ tools }}": ("[{'name': 'f'}]",) * 2,
        "{{ tool.strict | default('none given') }}": ("None", "none given"), "{{ -7 % 3 }}": ("2", "-1")}
sys.exit(0 if prompts(given, list(want)) == list(want.values()) else 1)
EOF
"$tmp/venv/bin/python" case.py
