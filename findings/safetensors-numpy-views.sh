#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# safetensors 0.8.0 with numpy 2.4.6: what save() writes of an array that is a view.
# Expected: a transposed array or a slice comes back with its own values, or save() refuses
#   it, as the same package's functions for torch do with a tensor that is not contiguous.
# Seen: no error and no warning. The file has the shape of the view and bytes of the memory behind it in
#   storage order, so the values are in other places, or are elements that the view does not have. A weight
#   that was transposed for an export is stored wrong. (The documentation asks for contiguous arrays; nothing
#   checks it.) np.ascontiguousarray() before save() mends it.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
"$tmp/venv/bin/python" - <<'EOF'
import sys
import numpy as np
from safetensors.numpy import load, save

a = np.arange(6, dtype=np.float32).reshape(2, 3)
wrong = 0
for name, view in (("transposed", a.T), ("slice", a[:, 1:])):
    back = load(save({"x": view}))["x"]
    copied = load(save({"x": np.ascontiguousarray(view)}))["x"]
    print(f"{name}: {view.tolist()} comes back as {back.tolist()}, its copy as {copied.tolist()}")
    assert np.array_equal(copied, view)
    wrong += back.shape == view.shape and not np.array_equal(back, view)
sys.exit(0 if wrong == 2 else 1)
EOF
