#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tokenizers 0.23.3 beside sentencepiece 0.2.3: tokens of single bytes, the last character of which is not whole.
# Expected: only what is broken becomes U+FFFD, as in sentencepiece and in Python's decode(errors="replace"). An answer
#   that its limit cuts inside of a character keeps all characters before it, and a stream can rely on what it gave.
# Seen: the decoder ByteFallback judges a whole run of byte tokens at once: where one character of it is broken, each
#   byte of the run becomes U+FFFD, also of characters that were whole, and also the newline. "two emoji", cut in the
#   second, are seven U+FFFD. DecodeStream has given the first by then: at the next token it raises, as its
#   text has changed. Llama 2, Mistral and Gemma write most emoji and rare Chinese characters in such runs.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check tokenizers==0.23.3 sentencepiece==0.2.3
"$tmp/venv/bin/python" - <<'EOF'
import io
import sys
import sentencepiece
from tokenizers import Tokenizer, decoders, models
from tokenizers.decoders import DecodeStream

out = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["the quick brown fox"] * 50), model_writer=out, vocab_size=290, model_type="bpe",
    byte_fallback=True, normalization_rule_name="identity", hard_vocab_limit=False, minloglevel=2)
original = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
pieces = original.id_to_piece(list(range(original.get_piece_size())))
copy = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [], byte_fallback=True))
copy.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                  decoders.Strip(" ", 1, 0)])  # as in tokenizer.json of Llama 2

def stream(ids):
    came, s = [], DecodeStream(skip_special_tokens=True)
    try:
        for i in ids:
            came.append(s.step(copy, i) or "")
    except Exception as e:
        came.append(" " + " ".join(str(e).split()[:2]))
    return "".join(came)

fox, ids = pieces.index("\u2581fox"), original.encode("\U0001f600\U0001f680")
newline = pieces.index("<0x0A>")
whole, cut, lines = [fox, *ids[1:]], [fox, *ids[1:-1]], [fox, *ids[1:5], newline, ids[5], fox]
seen = []
for name, some in (("whole", whole), ("cut by one token", cut), ("broken, and on", lines)):
    seen.append((original.decode(some), copy.decode(some), stream(some)))
    print(f"{name}: sentencepiece {ascii(seen[-1][0])}, tokenizers {ascii(seen[-1][1])}, stream {ascii(seen[-1][2])}")
one, two, no = "fox\U0001f600", "fox\U0001f600\U0001f680", "\ufffd"
sys.exit(0 if seen == [(two, two, two), (one + 3 * no, "fox" + 7 * no, one),
                       (one + "\n" + no + " fox", "fox" + 6 * no + " fox", one + "\n Invalid prefix")] else 1)
EOF
