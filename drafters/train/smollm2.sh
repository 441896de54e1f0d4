#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the bundled drafters of SmolLM2-135M-Instruct, as they lie in models/:
#     smollm2.sh DATA WORK [minutes of teaching] [of training, each]
# DATA: the folder with the corpora; WORK: where lessons and drafters go. What is there already goes on.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: smollm2.sh DATA WORK [minutes of teaching] [of training]" >&2; exit 2; }
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
data=$1 work=$2 teaching=${3:-25} training=${4:-18}
python=${PYTHON:-python3} teach=${TEACH:-$here/../../build/release/teach}
model=${MODEL:-$here/../../models/SmolLM2-135M-Instruct.Q4_1.gguf}
name=SmolLM2-135M-Instruct

train() { # FAMILY WHAT OPTIONS...
    "$python" "$here/train_$1.py" "$model" "$work/lessons" "$work/$name-$1.drafter.gguf" \
        --name "$name, $2" --minutes "$training" "${@:3}"
}

mkdir -p "$work"
[ -e "$work/prompts.jsonl" ] || "$python" "$here/prompts.py" "$data" "$work/prompts.jsonl"
"$teach" -m "$model" -o "$work/lessons" --state 22 --minutes "$teaching" "$work/prompts.jsonl"
train s4c "S4C heads" --draft-vocab 4096 --rest 0.5
train firp "FIRP maps"
train dash "DASH policy" --share 0.6
"$python" "$here/train_msn.py" "$model" "$work/lessons" "$work/$name-msn.lora.gguf" \
    --name "$name, TR-Jacobi" --minutes "$training"
