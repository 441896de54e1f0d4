#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the demo model from the corpora to the GGUF file, and its plain twin beside it:
#     demo.sh DATA WORK [cpu|cuda] [million tokens of pre-training] [steps of fine-tuning]
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: demo.sh DATA WORK [cpu|cuda] [tokens, in millions] [steps]" >&2; exit 2; }
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
data=$1 work=$2 device=${3:-cpu} tokens=${4:-80} steps=${5:-1500}
python=${PYTHON:-python3}
run() { "$python" "$here/$1.py" "${@:2}"; }

mkdir -p "$work"
[ -e "$work/tokenizer.model" ] || run tokenizer --data "$data" --work "$work"
[ -e "$work/pretrain.pt" ] ||
    run pretrain --data "$data" --work "$work" --device "$device" --tokens "$tokens" --micro-batch 16
for noise in msn none; do
    name=$([ $noise = msn ] && echo demo || echo sft)
    [ -e "$work/$name.pt" ] ||
        run finetune --data "$data" --work "$work" --device "$device" --noise $noise \
            --steps "$steps" --output "$work/$name.pt"
    run export_gguf "$work/$name.pt" "$work/foretoken-$name-q8_0.gguf" \
        --tokenizer "$work/tokenizer.model"
done
run evaluate --data "$data" --work "$work" --max-tokens 15000 \
    "$work/pretrain.pt" "$work/sft.pt" "$work/demo.pt"
