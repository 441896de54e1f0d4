#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# llguidance 1.9.1: numbers with trailing zeros under "maximum".
# Expected: {"type": "number", "maximum": 1.5} lets 1.50 through, which is 1.5, as any JSON validator says, and as
#   it lets 1.00 through.
# Seen: 1.5, 1.49 and 1.00 are accepted, 1.50 is not: the digits of the bound itself may not be followed by zeros,
#   those below it may. A bound at a whole number (maximum 1) accepts 1.00. A model that writes
#   prices with two digits is forced off the bound's value, to 1.5 or 1.49.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check llguidance==1.9.1
"$tmp/venv/bin/python" - <<'EOF'
import json
import sys
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

class Bytes:
    tokens = [bytes([i]) for i in range(256)] + [b"<eos>"]
    eos_token_id, bos_token_id, special_token_ids = 256, None, [256]

    def __call__(self, text):
        return list(text.encode() if isinstance(text, str) else text)

tokenizer = LLTokenizer(TokenizerWrapper(Bytes()))

def accepts(maximum, text):
    grammar = LLMatcher.grammar_from_json_schema(json.dumps({"type": "number", "maximum": maximum}))
    matcher = LLMatcher(tokenizer, grammar)
    assert not matcher.get_error(), matcher.get_error()
    ids = list(text.encode())
    return matcher.validate_tokens(ids) == len(ids) and matcher.consume_tokens(ids) and matcher.is_accepting()

seen = {(m, t): accepts(m, t) for m in (1.5, 1) for t in ("1.5", "1.50", "1.49", "1.00")}
for (m, t), yes in seen.items():
    print(f"maximum {m}: {t} {'accepted' if yes else 'refused'}")
want = {(1.5, "1.5"): True, (1.5, "1.50"): False, (1.5, "1.49"): True, (1.5, "1.00"): True, (1, "1.00"): True}
sys.exit(0 if all(seen[k] == v for k, v in want.items()) else 1)
EOF
