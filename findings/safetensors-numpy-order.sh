#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# safetensors 0.8.0: numpy arrays whose elements do not lie row by row, as a transposed matrix's.
# Expected: safetensors.numpy.save() writes the elements in the order that the format has, row by row, as 0.7.0 did;
#   or it raises, as safetensors.torch does. numpy calls such a matrix contiguous, too (F_CONTIGUOUS).
# Seen: the bytes are written as they lie, under the transposed shape: what is read back has the right shape and the
#   wrong elements, and no error tells. Converters that save w.T (GPT-2's weights lie the other way round)
#   write a model that loads and talks nonsense. numpy.ascontiguousarray() before saving avoids it.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
cat >"$tmp/order.py" <<'EOF'
import sys
from importlib.metadata import version

import numpy as np
from safetensors.numpy import load, save

w = np.arange(6, dtype=np.float32).reshape(2, 3)
cases = {"w": w, "w.T": w.T, "asfortranarray(w)": np.asfortranarray(w),
         "ascontiguousarray(w.T)": np.ascontiguousarray(w.T)}
same = {name: np.array_equal(load(save({"w": a}))["w"], a) for name, a in cases.items()}
print(version("safetensors"), {name: "same" if yes else "others" for name, yes in same.items()})
print("      w.T is", w.T.tolist(), "and read back", load(save({"w": w.T}))["w"].tolist())
wrong = ["w.T", "asfortranarray(w)"] if sys.argv[1] == "wrong" else []
sys.exit(0 if w.T.flags.f_contiguous and [name for name, yes in same.items() if not yes] == wrong else 1)
EOF
for run in 0.7.0:right 0.8.0:wrong; do
    "$tmp/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 safetensors=="${run%:*}"
    "$tmp/venv/bin/python" "$tmp/order.py" "${run#*:}"
done
