#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# mlx 0.32.4 (on CPU): mx.load() of a GGUF file that has a tensor of a type that mlx does not know.
# Expected: an error, as there is one for Q5_0, which mlx knows and can't read; or a dictionary with all tensors but that
#   one.
# Seen: the dictionary ends before the tensor: it and all behind it, of whatever type, are missing, without an error or
#   a warning. MXFP4 is such a type (gpt-oss), TQ2_0 another. What one gets depends on the order in the file; a
#   loader that fills in what the file has, and leaves the rest as it was made, runs with random layers.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check gguf==0.19.0 mlx==0.32.4 mlx-cpu==0.32.4
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import sys
import gguf
import mlx.core as mx
import numpy as np

kinds = gguf.GGMLQuantizationType
row = np.ones((1, 256), np.float32)
tensors = {"one": (row, None), "two": (gguf.quantize(row, kinds.Q8_0), kinds.Q8_0),
           "three": (np.zeros((1, 8 * 17), np.uint8), kinds.MXFP4), "four": (row, None)}

def names(order):
    w = gguf.GGUFWriter("model.gguf", "llama")
    for name in order:
        w.add_tensor(name + ".weight", tensors[name][0], raw_dtype=tensors[name][1])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    got = mx.load("model.gguf")
    found = [name for name in order if name + ".weight" in got]
    print(f"in the file {order}, of which 'three' is MXFP4; loaded {found}")
    return found

seen = [names(["one", "two", "three", "four"]), names(["three", "one", "two", "four"]), names(["one", "two", "four"])]
sys.exit(0 if seen == [["one", "two"], [], ["one", "two", "four"]] else 1)
EOF
