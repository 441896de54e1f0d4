#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# jinja2 3.1.6: a variable of the context that a loop reads, and that the template sets further down.
# Expected: the loop sees the context's value, and what follows the `set` sees the new one, as it is
#   outside of loops.
# Seen: inside the loop (and in filter blocks and macros) the name is undefined, which prints as nothing,
#   from the first turn on, because a `set` of that name stands somewhere behind the loop. Take the `set`
#   away and the value is back. A chat template that uses `bos_token` in its loop and empties it
#   afterwards loses it, without a word.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check jinja2==3.1.6
"$tmp/venv/bin/python" - <<'EOF'
import sys
from jinja2 import Environment

cases = [
    ("{{ bos }}|{% set bos = '' %}{{ bos }}", "<s>|"),
    ("{% for m in 'ab' %}{{ bos }}{{ m }}{% endfor %}|{{ bos }}", "<s>a<s>b|<s>"),
    ("{% for m in 'ab' %}{{ bos }}{{ m }}{% endfor %}|{% set bos = '' %}{{ bos }}", "ab|"),
    ("{% filter upper %}{{ bos }}{% endfilter %}|{% set bos = '' %}", "|"),
]
same = True
for source, seen in cases:
    got = Environment().from_string(source).render(bos="<s>")
    print(f"{source}  gives  {got!r}")
    same = same and got == seen
sys.exit(0 if same else 1)
EOF
