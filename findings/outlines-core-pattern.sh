#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# outlines_core 0.2.14: the keyword "pattern" of a JSON schema, as build_regex_from_schema() turns it into a regex.
# Expected: a pattern may match anywhere in the string unless it is anchored (JSON Schema, "pattern"): "b" allows
#   "abc", "^b" all that begins with b.
# Seen: "^b$" allows "b", as it should; "b" allows nothing but "b"; and with one anchor only, "^b" or "b$", the anchor
#   is copied into the middle of the regex, behind the quotation mark, where it can't hold: no string is
#   possible at all, not even "b", and no error says so. With maxLength beside it the pattern is not looked at.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check outlines_core==0.2.14
"$tmp/venv/bin/python" - <<'EOF'
import json
import re
import sys
from outlines_core.json_schema import build_regex_from_schema

def allows(schema, text):
    return bool(re.fullmatch(build_regex_from_schema(json.dumps(schema)), json.dumps(text)))

seen = {}
for pattern in ("^b$", "b", "^b", "b$"):
    seen[pattern] = [t for t in ("b", "abc", "bc", "ab") if allows({"type": "string", "pattern": pattern}, t)]
    print(f"pattern {pattern}: allows {seen[pattern]}")
both = [t for t in ("b", "zz") if allows({"type": "string", "pattern": "^b$", "maxLength": 5}, t)]
print(f"pattern ^b$ with maxLength 5: allows {both}")
sys.exit(0 if seen == {"^b$": ["b"], "b": ["b"], "^b": [], "b$": []} and both == ["b", "zz"] else 1)
EOF
