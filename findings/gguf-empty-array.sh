#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# gguf 0.19.0: an empty array in a file's metadata.
# Expected: add_array(key, []) writes an array of no elements, which the format allows (type and count 0), and
#   which says something else than a missing key; or it raises, as add_key_value() with the same value does when
#   the file is written.
# Seen: the key is left out without a word. A reader that asks whether the key is there (a list of languages, of
#   tags, of merges) gets "never said" for "none".
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check gguf==0.19.0
"$tmp/venv/bin/python" - <<'EOF'
import os
import sys
import tempfile
from gguf import GGUFReader, GGUFWriter

path = os.path.join(tempfile.mkdtemp(), "t.gguf")
try:
    w = GGUFWriter(path, "llama")
    w.add_array("general.languages", [])
    w.add_array("general.tags", ["one"])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    keys = [k for k in GGUFReader(path).fields if k.startswith("general.")]
finally:
    os.remove(path)
    os.rmdir(os.path.dirname(path))
print("asked for general.languages [] and general.tags ['one']; in the file:", keys)
sys.exit(0 if "general.tags" in keys and "general.languages" not in keys else 1)
EOF
