#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real model, if it was fetched: real_model.sh PROGRAM MODEL PATTERN PROMPT [generate's options]
# The answer has to match the pattern, and every drafter has to give the text of plain decoding.
# Exit status: 0, 1 if a check failed, 77 if the model is not there.
set -u
program=$1 model=$2 pattern=$3 prompt=$4
shift 4
if [ ! -e "$model" ]; then
    echo "SKIPPED: $model is not there; ./dev model tells how to fetch it"
    exit 77
fi
export LC_ALL=C.UTF-8
err=$(mktemp)
trap 'rm -f "$err"' EXIT
failed=0

check() { # NAME COMMAND...
    if "${@:2}"; then echo "ok   $1"; else echo "not ok   $1"; failed=1; fi
}
says() { timeout 600 "$program" generate -m "$model" --drafter "$@" 2> "$err" || cat "$err"; }
same() { [ -n "$1" ] && [ "$1" = "$2" ] || { printf '    "%s"\n' "$@"; return 1; }; }

answer=$(says none -p "$prompt" -n 12 "$@")
matches() { [[ $1 =~ $pattern ]] || { echo "it says \"$1\", wanted $pattern"; return 1; }; }
check "it knows the answer" matches "$answer"

# Drafts pay where a text repeats itself.
long="$prompt Write it five times, one below the other, with a number before each."
for sampling in "--temp 0" "--temp 0.8 --seed 7"; do
    # shellcheck disable=SC2086
    plain=$(says none -p "$long" -n 48 $sampling "$@")
    for drafter in lookup recycle jacobi auto; do
        # shellcheck disable=SC2086
        check "$drafter, $sampling" same "$(says $drafter -p "$long" -n 48 $sampling "$@")" "$plain"
    done
done
exit $failed
