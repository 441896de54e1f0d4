#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tokenizers 0.23.3: the ids of added tokens in a tokenizer.json.
# Expected: a token that the file lists in added_tokens with "id" has that id: the row of the embedding it was
#   trained with.
# Seen: the ids are not used, only their order: tokens are numbered anew from the count of the vocabulary. Where ids
#   were left free, the token gets another one; where the vocabulary has a hole below, as one that was cut down and
#   kept its ids, it gets the id of an ordinary word: two words with one id, and decoding gives the wrong one.
#   Nothing is said, and a file saved again has the new ids.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check tokenizers==0.23.3
"$tmp/venv/bin/python" - <<'EOF'
import json
import sys
from tokenizers import Tokenizer

def ids(vocabulary, added):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = Tokenizer.from_str(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [{"id": i, "content": t, **flags} for t, i in added.items()],
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "one"}}))
    words = ["two", *added]
    got = tokenizer.encode(" ".join(words)).ids
    back = [tokenizer.decode([i], skip_special_tokens=False) for i in got]
    saved = [t["id"] for t in json.loads(tokenizer.to_str())["added_tokens"]]
    wanted = {"two": vocabulary["two"], **added}
    print(f"the file: {wanted}, got {dict(zip(words, got))}, decoded {back}, saved {saved}")
    return got, back, saved

plain = ids({"one": 0, "two": 1}, {"<x>": 2, "<y>": 3})
free = ids({"one": 0, "two": 1}, {"<x>": 8, "<y>": 9})
hole = ids({"one": 0, "two": 3}, {"<x>": 4, "<y>": 5})
sys.exit(0 if plain == free == ([1, 2, 3], ["two", "<x>", "<y>"], [2, 3])
         and hole == ([3, 2, 3], ["<y>", "<x>", "<y>"], [2, 3]) else 1)
EOF
