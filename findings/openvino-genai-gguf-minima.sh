#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# openvino-genai 2026.4.1.0: GGUF files with weights of Q4_1 and Q4_K, which have a step and a minimum in each block.
# Expected: a weight is code * step + minimum (Q4_1) or code * step - minimum (Q4_K), as gguf 0.19.0 and llama.cpp have
#   it; what a reader may change is the last bits.
# Seen: the minimum is turned into a whole zero point of 4 bits: it is rounded to a multiple of the step, up to half a
#   step off for every weight of the block, and where it is not between -15 steps and 0, the rest of a division by 16 is
#   taken, so that weights between 1 and 2 become others between 0 and 1. Nothing is said; every Q4_1 and Q4_K file is
#   another model than in llama.cpp. Q8_0, which has no minimum, comes through unchanged.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check openvino-genai==2026.4.1.0 gguf==0.19.0
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import os
import sys
import gguf
import numpy as np
import openvino
import openvino_genai

D = 256  # the width, and the number of weights that the table of embeddings has in a row

def write(folder, table, kind):
    os.mkdir(folder)
    w = gguf.GGUFWriter(f"{folder}/model.gguf", "llama")
    w.add_file_type(1)
    w.add_block_count(1)
    w.add_head_count(4)
    w.add_embedding_length(D)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(["a", "b", "</s>"])
    w.add_token_types([1, 1, 3])
    w.add_token_merges(["a b"])
    w.add_eos_token_id(2)
    w.add_tensor("token_embd.weight", table, raw_dtype=kind)
    w.add_tensor("output.weight", np.zeros((3, D), np.float16))
    w.add_tensor("output_norm.weight", np.ones(D, np.float32))
    for name in ("attn_norm", "ffn_norm"):
        w.add_tensor(f"blk.0.{name}.weight", np.ones(D, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        w.add_tensor(f"blk.0.{name}.weight", np.zeros((D, D), np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()

def read(folder):
    """The table of embeddings, as the model has it that OpenVINO makes of the file."""
    openvino_genai.LLMPipeline(f"{folder}/model.gguf", "CPU", enable_save_ov_model=True)
    model = openvino.Core().read_model(f"{folder}/openvino_model.xml")
    rows = next(op for op in model.get_ordered_ops() if op.get_type_name() == "Gather"
                and op.output(0).get_partial_shape().rank.get_length() == 3)
    ids = next(p for p in model.get_parameters() if "input_ids" in p.output(0).get_names())
    table = openvino.compile_model(openvino.Model([rows.output(0)], [ids]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return table({0: np.array([[0, 1, 2]])})[0][0]

def q4_k(step, minimum):
    """One block of 256, whose 8 parts have the same step and minimum."""
    head = np.array([step, minimum], np.float16).tobytes()
    return head + bytes([1] * 8 + [0x11] * 4) + bytes(range(128))

away = {}
def compare(name, table, kind):
    write(name, table, kind)
    true = gguf.dequantize(table, kind)
    off = np.abs(read(name) - true).max(axis=1)
    step = (true.max(axis=1) - true.min(axis=1)) / (255 if kind == gguf.GGMLQuantizationType.Q8_0 else 15)
    away[name] = off / step
    print(f"{name}: rows differ by {', '.join(f'{x:.2f}' for x in away[name])} steps at most")

ramp = np.tile(np.arange(16, dtype=np.float32) / 16, D // 16)
rows = np.stack([ramp - 0.5, ramp - 0.46875, ramp + 1])  # minima of -8, -7.5 and 16 steps
kinds = gguf.GGMLQuantizationType
for kind in (kinds.Q8_0, kinds.Q4_1):
    compare(kind.name, gguf.quantize(rows, kind), kind)
blocks = [q4_k(1 / 16, m) for m in (8 / 16, 7.5 / 16, 16 / 16)]
compare("Q4_K", np.frombuffer(b"".join(blocks), np.uint8).reshape(3, -1), kinds.Q4_K)
sys.exit(0 if away["Q8_0"].max() < 0.05 and all(
    a[0] < 0.05 and 0.45 < a[1] < 0.55 and a[2] > 15 for a in (away["Q4_1"], away["Q4_K"])) else 1)
EOF
