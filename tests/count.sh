#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# How large the library is: lines of C, functions, decimal constants of what drafts. The library is src/ without programs and
# what stands beside them, kernels, drafters (without trainers) and verifiers.
set -eu
cd "$(dirname "$0")/.."
files=$(git ls-files 'src/*.c' 'src/*.h' 'kernels/*.[ch]' 'kernels/cuda/*' 'drafters/*.[ch]' 'verifiers/*.[ch]' |
    grep -Ev '^(src/(cli|serve|grammar|template|diffusion|python|mpi)|drafters/train)/?' |
    grep -E '\.(c|h|cc|cu|cuh)$')
drafting=$(printf '%s\n' "$files" |
    grep -E '^(drafters/|kernels/cuda/draft\.cu|src/engine/(size|draft|ledger|finish|forecast|cost)\.)')
set -- $files
printf 'library: %s lines in %s files\n' "$(cat "$@" | wc -l)" $#
printf 'library: %s functions\n' "$(cat "$@" | grep -cE '^\{$')"
set -- $drafting
printf 'drafting: %s lines in %s files\n' "$(cat "$@" | wc -l)" $#
printf 'drafting: %s decimal constants\n' \
    "$(cat "$@" | sed 's://.*::; s:/\*.*\*/::' | grep -oE '(^|[^A-Za-z0-9_.])[0-9]*\.[0-9]+(e-?[0-9]+)?f?' | wc -l)"
