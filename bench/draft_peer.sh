#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One drafter in llama.cpp's llama-speculative-simple and here, on the same prompts, as chains of the same
# length and as each likes it best:
#   draft_peer.sh FOLDER-OF-PROGRAMS LLAMA-SPECULATIVE-SIMPLE MODEL.gguf eagle3|dspark|draft-model DRAFTER.gguf \
#       PROMPTS.txt [LIMIT [TOKENS]]
# PROMPTS.txt: one a line. TEMPLATE is what llama.cpp is asked with, %s the prompt: by default SmolLM2's.
# It reads prompts as they stand; its speed is that of decoding alone, as ours.
set -euo pipefail
[ $# -ge 6 ] || { sed -n '3,8s/^# \?//p' "$0" >&2; exit 2; }
bin=$1 llama=$2 model=$3 kind=$4 head=$5 prompts=$6 limit=${7:-6} tokens=${8:-128} threads=${THREADS:-2}
case $kind in
    draft-model) theirs=draft-simple option=--draft-model ;;
    *) theirs=draft-$kind option=--drafter-file ;;
esac
template=${TEMPLATE:-'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n'}

# tokens, seconds, drafted, accepted of all prompts: CHAIN-LENGTH OPTIONS...
llama() {
    local prompt
    head -n "$limit" "$prompts" | while IFS= read -r prompt; do
        # shellcheck disable=SC2059
        "$llama" -m "$model" -md "$head" --spec-type "$theirs" --spec-draft-n-max "$1" -c 2048 \
            -n "$tokens" --temp 0 -t "$threads" -p "$(printf "$template" "$prompt")" "${@:2}" 2>&1 < /dev/null
    done | awk -v name="llama.cpp, $theirs, chains of $1 at most ${*:2}" '
        / decoded / { for (i = 1; i < NF; i++) if ($i == "decoded") { n += $(i + 1); s += $(i + 4) } }
        /n_drafted/ { drafted += $NF }
        /n_accept / { accepted += $NF }
        END {
            if (n == 0) exit 1
            printf "| %s | %.2f tokens/step | %.1f tokens/s | %.3f of drafted accepted |\n",
                name, n / (n - accepted), n / s, accepted / (drafted + (drafted == 0))
        }'
}

llama 4
llama 3
"$bin/bench-drafters" --questions "$prompts" --limit "$limit" --tokens "$tokens" --threads "$threads" \
    --parts "$kind" "$option" "$head" "$model"
