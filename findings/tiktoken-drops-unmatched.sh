#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tiktoken 0.14.0 beside tokenizers 0.23.3: text that the word pattern does not match.
# Expected: a byte-level vocabulary has all 256 bytes, so no text is lost: what the pattern leaves between two
#   matches is a word of its own, as in tokenizers' Split(behavior="isolated"), or an error.
# Seen: tiktoken takes the matches only. What lies between them is dropped without a word, and decode(encode(text))
#   is another text. The patterns that come with the package match everything, so it shows with a pattern of
#   one's own, or one brought over from tokenizers.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check tiktoken==0.14.0 tokenizers==0.23.3
"$tmp/venv/bin/python" - <<'EOF'
import sys
import tiktoken
from tokenizers import Regex, pre_tokenizers

pattern, text = r"\w+|\s+", "a = b; c"
one = tiktoken.Encoding("bytes", pat_str=pattern, special_tokens={},
                        mergeable_ranks={bytes([i]): i for i in range(256)})
back = one.decode(one.encode(text))
words = [w for w, _ in pre_tokenizers.Split(Regex(pattern), behavior="isolated").pre_tokenize_str(text)]
print(f"tiktoken: {text!r} -> {one.encode(text)} -> {back!r}")
print(f"tokenizers: {words}")
sys.exit(0 if back == "a  b c" and "".join(words) == text else 1)
EOF
