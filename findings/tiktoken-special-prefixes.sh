#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tiktoken 0.14.0 beside tokenizers 0.23.3: special tokens one of which begins like another.
# Expected: the longest that stands in the text, as in tokenizers: three newlines, for which there is a token, are that
#   token (Gemma's vocabulary has such runs of newlines among its added tokens); or the first in the order of the
#   dictionary, as in a regular expression made of it.
# Seen: neither. The order is that of a hash table inside: one pair takes the longer, one the shorter, whatever the
#   order in which they were given. "<a>bc" is never found beside "<a>", though encode_single_token() has its id and
#   decode() gives its text. A vocabulary brought over gives other ids, and decode(encode(text)) looks right.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check tiktoken==0.14.0 tokenizers==0.23.3
"$tmp/venv/bin/python" - <<'EOF'
import itertools
import sys
import tiktoken
from tokenizers import Tokenizer, models

def ids(special):
    """Of the last one's text: by tiktoken in every order of the dictionary, and by tokenizers."""
    table = {t: 256 + i for i, t in enumerate(special)}
    tik = {tuple(tiktoken.Encoding("bytes", pat_str=r"(?s).", special_tokens={t: table[t] for t in order},
                                   mergeable_ranks={bytes([i]): i for i in range(256)})
                 .encode(special[-1], allowed_special="all")) for order in itertools.permutations(special)}
    other = Tokenizer(models.BPE({f"byte {i}": i for i in range(256)}, []))
    other.add_special_tokens(special)
    seen = tik, other.encode(special[-1]).ids
    print(f"{special}: tiktoken {sorted(map(list, tik))}, tokenizers {seen[1]}")
    return seen

newlines, words = ids(["\n", "\n\n", "\n\n\n"]), ids(["<a>", "<a>b", "<a>bc"])
turn = ids(["<|im_start|>", "<|im_start|>user"])
sys.exit(0 if newlines == ({(257, 256)}, [258]) and words == ({(256, 98, 99)}, [258])
         and turn == ({(257,)}, [257]) else 1)
EOF
