#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# jinja2 3.1.6 beside transformers 5.24.0: the filter tojson, with which chat templates write tools.
# Expected: a template gives the same text in jinja2 as in transformers, which renders it with jinja2: the
#   order of keys is the one in which the tool was described, which is how models saw tools in training.
# Seen: jinja2's own tojson sorts the keys, and writes < > & ' and all that is not ASCII as \u escapes, even without
#   autoescape. transformers puts a filter of its own in its place, which does neither. A renderer that follows
#   jinja2's documentation gives every tool prompt with other tokens: "description" before "name".
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

tool = {"name": "f", "description": "a's é"}
template = "{{ messages[0].tool | tojson }}"
one = jinja2.Environment().from_string(template).render(messages=[{"tool": tool}])
other = render_jinja_template([[{"role": "user", "tool": tool}]], chat_template=template)[0][0]
print("jinja2:      ", one)
print("transformers:", other)
sys.exit(0 if one == r'{"description": "a\u0027s \u00e9", "name": "f"}'
         and other == '{"name": "f", "description": "a\'s é"}' else 1)
EOF
