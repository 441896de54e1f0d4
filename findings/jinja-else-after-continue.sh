#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# jinja2 3.1.6 with its loopcontrols extension, as transformers renders chat templates: when the `else`
# of a `for` runs.
# Expected: where the loop had no turn at all, as the manual says; or, as in Python, where no `break`
#   ended it.
# Seen: where no turn came to its end. A loop whose every turn ends in `continue` runs its `else`, though
#   it has written text; so does one that leaves by `break` in its first turn, but not in its second. An
#   evaluator of chat templates that follows the manual, or Python, renders another prompt.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check jinja2==3.1.6
"$tmp/venv/bin/python" - <<'EOF'
import sys
from jinja2 import Environment

env = Environment(extensions=["jinja2.ext.loopcontrols"])
cases = [
    ("{% for x in [] %}{{ x }}{% else %}E{% endfor %}", "E"),
    ("{% for x in [1, 2] %}{{ x }}{% else %}E{% endfor %}", "12"),
    ("{% for x in [1, 2] %}{{ x }}{% continue %}{% else %}E{% endfor %}", "12E"),
    ("{% for x in [1, 2] %}{{ x }}{% break %}{% else %}E{% endfor %}", "1E"),
    ("{% for x in [1, 2] %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}", "12"),
]
same = True
for source, seen in cases:
    got = env.from_string(source).render()
    print(f"{source}  gives  {got!r}")
    same = same and got == seen
sys.exit(0 if same else 1)
EOF
