#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# gguf 0.19.0, beside the ggml 0.13.1 inside pywhispercpp 1.5.1: bytes of a block of Q8_1.
# Expected: the table that sizes tensors for Python has the sizes of the library that reads the files, for every type
#   that both know.
# Seen: GGML_QUANT_SIZES says 40 bytes for 32 elements (two floats), ggml_type_size() 36 (two half floats, for
#   years). All other types agree. So offsets that gguf gives to what follows a tensor of Q8_1 are too large by a
#   ninth of it, and a reader that trusts them reads beside its data.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check gguf==0.19.0
"$tmp/venv/bin/pip" install -q --disable-pip-version-check --no-deps pywhispercpp==1.5.1
"$tmp/venv/bin/python" - <<'EOF'
import ctypes
import glob
import sys
import sysconfig
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

site = sysconfig.get_paths()["purelib"]
ggml = ctypes.CDLL(sorted(glob.glob(site + "/libggml-base.so*"))[0])
ggml.ggml_type_size.restype = ctypes.c_size_t
ggml.ggml_blck_size.restype = ctypes.c_int64
known = [t for t in T if t.value <= T.BF16.value]
differ = {}
for t in known:
    here, there = GGML_QUANT_SIZES[t], (ggml.ggml_blck_size(t.value), ggml.ggml_type_size(t.value))
    if here != there:
        differ[t.name] = (here, there)
print(f"{len(known)} types; elements and bytes of a block, gguf's and ggml's, where they differ: {differ}")
sys.exit(0 if differ == {"Q8_1": ((32, 40), (32, 36))} else 1)
EOF
