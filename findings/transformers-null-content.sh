#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# transformers 5.24.0 beside jinja2 3.1.6: a message that calls a tool and has no text, {"content": null}.
# Expected: the template sees content as None: DeepSeek's ask {% if message['content'] is none %} to tell a call from a
#   text. `tools`, which a conversation may lack, is passed as None by the same version.
# Seen: apply_chat_template() takes members that are null away before. `content is none` is false, and the calls that
#   stand behind it are gone from the prompt; `content is not none` is true of what isn't there, and joining it with
#   eos_token raises. render_jinja_template(), the function below, leaves them. (Nulls further inside stay.)
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check jinja2==3.1.6 transformers==5.24.0
"$tmp/venv/bin/python" - <<'EOF'
import sys
import jinja2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

call = {"function": {"name": "f", "arguments": {"x": None}}}
talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"</s>": 0}, [])), eos_token="</s>")

def ways(template):
    def render(way):
        try:
            return way()
        except jinja2.UndefinedError as e:
            return type(e).__name__
    seen = (render(lambda: jinja2.Environment().from_string(template).render(messages=talk, eos_token="</s>")),
            render(lambda: render_jinja_template([talk], chat_template=template, eos_token="</s>")[0][0]),
            render(lambda: tokenizer.apply_chat_template(talk, chat_template=template, tokenize=False)))
    print(f"{template}\n  jinja2 {seen[0]!r}, render_jinja_template {seen[1]!r}, apply_chat_template {seen[2]!r}")
    return seen

m = "messages[1].content"
calls = ways("{% if " + m + " is none %}{{ messages[1].tool_calls[0].function.name }}{% endif %}")
text = ways("{% if " + m + " is not none %}{{ " + m + " + eos_token }}{% endif %}")
inner = ways("{{ messages[1].tool_calls[0].function.arguments.x is none }}")
tools = ways("{{ tools is none }}")[1:]
sys.exit(0 if calls == ("f", "f", "") and text == ("", "", "UndefinedError") and inner == ("True",) * 3
         and tools == ("True", "True") else 1)
EOF
