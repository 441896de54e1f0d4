#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# transformers 5.24.0: what a chat template sees of `tools` and `documents` when a conversation has none.
# Expected: they are not defined, as in Jinja every name is that nobody gave a value, so that a template may ask
#   {% if tools is defined %}, the documented test for just that.
# Seen: transformers always passes both, as None. `tools is defined` is true for every conversation, and
#   `tools | length` ends it with a TypeError where a name that is not defined would give 0. A renderer that leaves
#   out what it was not given writes another prompt than transformers for such templates, without a word.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check jinja2==3.1.6 transformers==5.24.0
"$tmp/venv/bin/python" - <<'EOF'
import sys
import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

def render(template):
    try:
        return render_jinja_template([[{"role": "user", "content": "a"}]], chat_template=template)[0][0]
    except TypeError as e:
        return f"TypeError: {e}"

asked = "{% if tools is defined %}tools{% else %}none{% endif %}/{{ documents is defined }}"
own = jinja2.Environment().from_string(asked).render()
seen, length = render(asked), render("{{ tools | length }}")
print("jinja2:      ", own)
print("transformers:", seen)
print("tools | length:", length, "and in jinja2", jinja2.Environment().from_string("{{ tools | length }}").render())
sys.exit(0 if own == "none/False" and seen == "tools/True" and length.startswith("TypeError") else 1)
EOF
