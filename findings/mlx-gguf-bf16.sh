#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# mlx 0.32.4 (on CPU): mx.load() of a GGUF file with weights of BF16.
# Expected: an array of mx.bfloat16 with the file's bits, as F16 and F32 come back, and as the same weights come back
#   from a safetensors file.
# Seen: an array of float16. What is above 65,504 is infinite (BF16 goes to 3e38), what is below 6e-8 is 0, and small
#   weights lose bits: of a million drawn at a spread of 1e-5, more than a third are others. No warning; one
#   outlier of a model trained in BF16 turns the logits into NaN.
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

BF16 = gguf.GGMLQuantizationType.BF16
values = np.array([[1.0, -0.5, 99840.0, -2.0**120, 2.0**-30]], np.float32)
small = np.random.default_rng(0).standard_normal((1000, 1000)).astype(np.float32) * np.float32(1e-5)
bits = {"values.weight": gguf.quantize(values, BF16), "small.weight": gguf.quantize(small, BF16)}
w = gguf.GGUFWriter("model.gguf", "llama")
for name, b in bits.items():
    w.add_tensor(name, b, raw_dtype=BF16)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
mx.save_safetensors("model.safetensors", {n: mx.array(b.view(np.uint16)).view(mx.bfloat16) for n, b in bits.items()})

seen = {}
for file in ("model.gguf", "model.safetensors"):
    got = mx.load(file)
    numbers = {n: np.array(a.astype(mx.float32)) for n, a in got.items()}
    away = float((numbers["small.weight"] != gguf.dequantize(bits["small.weight"], BF16)).mean())
    seen[file] = str(got["values.weight"].dtype), numbers["values.weight"][0].tolist(), away
    print(f"{file}: {seen[file][0]} {seen[file][1]}; {away:.0%} of the small weights are others")
inf = float("inf")
kind, numbers, away = seen["model.gguf"]
sys.exit(0 if (kind, numbers) == ("mlx.core.float16", [1.0, -0.5, inf, -inf, 0.0]) and away > 0.3
         and seen["model.safetensors"] == ("mlx.core.bfloat16", values[0].tolist(), 0.0) else 1)
EOF
