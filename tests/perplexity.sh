#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Perplexity of real models against F32: perplexity.sh PROGRAM MODELS-DIR TEXT
# TEXT is the LICENSE. The right values are those of transformers 5.24, its weights dequantised from the
# same files, in F32, on the same chunks of the original tokenizers' ids (bench/perplexity.py). What is
# rounded on the way may cost half a percent; a wrong pass or wrong ids cost more: with runs of spaces
# cut wrongly, as they once were for Gemma 3, it was 20.5. Exit status: 77 if no model is there.
set -u
program=${1:?give the foretoken program} models=${2:?give the folder of models} text=${3:?give the text}
n_passed=0 n_failed=0 n_skipped=0

check() { # FILE CONTEXT TOKENS F32
    local model=$models/$1 out
    if [ ! -f "$model" ]; then
        echo "SKIPPED   $1: not in $models, so its perplexity is not checked"
        n_skipped=$((n_skipped + 1))
        return
    fi
    out=$("$program" perplexity --chunks -c "$2" -m "$model" -f "$text") || out="exit status $?"
    if awk -v tokens="$3" -v f32="$4" '
        $1 == "tokens" { n = $2 }
        $1 == "perplexity" { p = $2 }
        END { exit !(n == tokens && p > f32 * 0.995 && p < f32 * 1.005) }' <<< "$out"; then
        echo "ok   $1"
        n_passed=$((n_passed + 1))
    else
        printf 'not ok   %s: wanted %s tokens and %s within 0.5 %%\n%s\n' "$1" "$3" "$4" "$out"
        n_failed=$((n_failed + 1))
    fi
}

check SmolLM2-135M-Instruct.Q4_1.gguf 512 1020 15.9166
check gemma-3-270m-Q4_K_M.gguf 1024 1022 7.9335

echo "$n_passed passed, $n_failed failed, $n_skipped skipped"
[ "$n_failed" = 0 ] || exit 1
[ "$n_passed" != 0 ] || exit 77
