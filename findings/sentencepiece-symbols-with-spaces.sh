#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sentencepiece 0.2.3: user-defined symbols that are or contain spaces.
# Expected: a symbol named in user_defined_symbols is always one piece where it stands in a text. Two
#   spaces and "new york" are such symbols here, with normalisation off and extra spaces kept.
# Seen: both are in the vocabulary with an id, and no text ever gives them, as spaces have become U+2581 before
#   symbols are looked for, and symbols are stored as they were given. They have to be given with U+2581 in place of
#   spaces; then they match. Files that list such pieces with plain spaces (GGUF of Gemma 3) and are
#   rebuilt for sentencepiece as they stand lose every run of spaces in silence.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check sentencepiece==0.2.3
"$tmp/venv/bin/python" - <<'EOF'
import io
import sys
import sentencepiece

def train(symbols):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox jumps over new york and a lazy dog"] * 50),
        model_writer=out, vocab_size=330, model_type="bpe", byte_fallback=True, minloglevel=2,
        user_defined_symbols=symbols, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=False, hard_vocab_limit=False)
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())

plain, marked = train(["  ", "new york"]), train(["\u2581\u2581", "new\u2581york"])
text = "a  new york"
with_spaces, with_marks = plain.encode(text, out_type=str), marked.encode(text, out_type=str)
print(f"symbols with spaces (ids {plain.piece_to_id('  ')}, {plain.piece_to_id('new york')}): {with_spaces}")
print(f"symbols with U+2581: {with_marks}")
sys.exit(0 if not {"  ", "new york"} & set(with_spaces) and plain.piece_to_id("new york") > 2
         and {"\u2581\u2581", "new\u2581york"} <= set(with_marks) else 1)
EOF
