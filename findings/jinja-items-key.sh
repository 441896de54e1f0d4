#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# jinja2 3.1.6 beside minijinja 3.1.0: a JSON schema's "items" in a chat template.
# Chat templates walk the parameters of tools: {% if p.items %} list of {{ p.items.type }} {% endif %}.
# Expected: p.items is the schema's entry "items" where there is one, and undefined where there is none.
# Seen: with jinja2, in which transformers renders templates, an attribute of the object wins over its key, so
#   p.items is always the method dict.items: the branch is taken for a plain string too, the type of the elements
#   is empty, and no error comes ("keys", "values", "get", "copy" and "update" likewise). minijinja, the engine
#   of servers written in Rust, takes the key where there is one and the method else: the same template says
#   two things, and both call a string a list. p['items'] means the key alone in jinja2.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check jinja2==3.1.6 minijinja==3.1.0
"$tmp/venv/bin/python" - <<'EOF'
import sys
import jinja2
import minijinja

template = "{% if p.items %}list of {{ p.items.type }}{% else %}{{ p.type }}{% endif %}"
parameters = ({"type": "array", "items": {"type": "integer"}}, {"type": "string"})
seen = [(jinja2.Environment().from_string(template).render(p=p),
         minijinja.Environment().render_str(template, p=p)) for p in parameters]
for p, (one, other) in zip(parameters, seen):
    print(f"{p}: jinja2 {one!r}, minijinja {other!r}")
sys.exit(0 if seen == [("list of ", "list of integer"), ("list of ", "list of ")] else 1)
EOF
