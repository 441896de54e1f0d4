#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that needs an NVIDIA GPU, inside nine minutes: builds, checks, measures, prints one table.
#
#     bench/gpu.sh [--out FOLDER] [--emulate]
#
# Needs nvcc, CMake and a C and C++ compiler; no package manager, no library, no file from outside.
# FOLDER (default: build/gpu-results) gets the whole log, and gpu.md, which belongs under docs/results/.
# --emulate tries this script itself without a GPU: kernels run on the CPU, all that can be small is, and
# no time means anything. Exit status: 0 all done and right, 1 something failed, 77 no GPU.
set -uo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

usage() {
    echo "usage: bench/gpu.sh [--out FOLDER] [--emulate]" >&2
    exit 2
}

out=build/gpu-results
emulate=
while [ $# -gt 0 ]; do
    case $1 in
        --out) [ $# -gt 1 ] || usage; out=$2; shift ;;
        --emulate) emulate=1 ;;
        *) usage ;;
    esac
    shift
done
mkdir -p "$out"
total=525 # seconds that everything may take
begin=$SECONDS
failed=0
results=()

# step NAME SECONDS COMMAND...: its output goes to the log; the end of it is shown if it fails. Beyond
# the total nothing is started.
step() {
    local name=$1 limit=$2 start=$SECONDS status
    local left=$((total - (SECONDS - begin)))
    shift 2
    [ -z "$emulate" ] || limit=600 # no time means anything there
    if [ "$left" -lt 5 ]; then
        results+=("$name | skipped: no time is left")
        echo "${results[-1]}"
        return 1
    fi
    [ "$left" -gt "$limit" ] || limit=$left
    timeout "$limit" "$@" > "$out/$name.log" 2>&1
    status=$?
    case $status in
        0) results+=("$name | ok, $((SECONDS - start)) s") ;;
        77) results+=("$name | skipped: $(tail -n 1 "$out/$name.log")") ;;
        124) results+=("$name | NOT FINISHED in $limit s") failed=1 ;;
        *) results+=("$name | FAILED, status $status") failed=1 ;;
    esac
    echo "${results[-1]}"
    [ $status = 0 ] || tail -n 15 "$out/$name.log"
    return $status
}

# ---- what differs where there is no GPU

if [ -n "$emulate" ]; then
    build=build/gpu-emulated
    total=3600
    options=(-DFTK_CUDA=EMULATED)
    compiler="none: the kernels run on the CPU"
    checkkernels=(--level cuda-emu)
    quick=(--quick)
    exact=(--limit 1 --tokens 5)
    asked=(--limit 1 --tokens 6)
    drawn=(--samples 1 --batch 1 --steps 4)
    shape=(--layers 13 --ffn 1024)
else
    nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
    if ! [ -x "$nvcc" ]; then
        echo "skipped: there is no nvcc"
        exit 77
    fi
    export CUDACXX=$nvcc
    compiler="nvcc $("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')"
    # The device's own architecture alone: the others would only cost time here.
    arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1 | tr -d .)
    case $arch in
        '') echo "skipped: nvidia-smi finds no GPU"; exit 77 ;;
        90 | 100 | 103) arch=${arch}a-real ;;
        *) arch=$arch-real ;;
    esac
    nvidia-smi | tee "$out/nvidia-smi.log" | sed -n 1,20p
    build=build/gpu
    options=(-DFTK_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$arch")
    checkkernels=(--level cuda)
    quick=()
    exact=(--limit 6 --tokens 96)
    asked=(--tokens 192)
    drawn=(--samples 256 --batch 64)
    shape=(--shape 7b)
fi

# ---- build

step configure 60 cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DFTK_DEVICE_ONLY=ON \
    "${options[@]}" || exit 1
step build 180 cmake --build "$build" -j "$(nproc)" || exit 1

# ---- what must be right

bin=$build/tests/gpu
demo=models/foretoken-demo-q8_0.gguf
prompts=bench/demo.ids
step checkkernels 60 "$bin/gpu-checkkernels" "${checkkernels[@]}"
step checkcuda 60 "$bin/gpu-checkcuda"
step exact 60 "$build/bench-exact" --device cuda --prompts "$prompts" "${exact[@]}" "$demo"

# ---- what is measured

step passes 150 "$bin/bench-gpu" "${quick[@]}"
step drafters 60 "$build/bench-drafters" --device cuda --questions "$prompts" "${asked[@]}" "$demo"
step pictures 40 "$build/bench-diffusion" --device cuda -m models/foretoken-demo-dit.gguf --out "$out/pictures" \
    --keep no "${drawn[@]}" --run none --run speca --run toca --run "duca tokens=value"
large=$(readlink -f "$out")/demo-q4_0-as-7b.gguf
drafters=()
for family in s4c firp; do
    small=models/foretoken-demo-$family.drafter.gguf
    [ ! -e "$small" ] || drafters+=("$small" "${large%.gguf}-$family.drafter.gguf")
done
if step requantize 20 "$build/requantize" "$demo" "$out/demo-q4_0.gguf" Q4_0 &&
    step inflate 60 "$build/inflate" "${shape[@]}" "$out/demo-q4_0.gguf" "$large" \
        "${drafters[@]}"; then
    step drafters-7b 120 "$build/bench-drafters" --device cuda --questions "$prompts" \
        "${asked[@]}" "$large"
fi
rm -f "$large" "${large%.gguf}"-*.drafter.gguf "$out/demo-q4_0.gguf"

# ---- races and barriers, which the emulation cannot show; a few cases, as all is many times slower

if [ -n "$emulate" ]; then
    results+=("compute-sanitizer | skipped: there is no GPU")
elif command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck synccheck; do
        step "$tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$bin/bench-gpu" --quick
    done
else
    results+=("compute-sanitizer | skipped: it is not installed")
fi

# ---- one report

show() { [ ! -s "$out/$1.log" ] || cat "$out/$1.log"; }
# without what bench-drafters says after each question
tables() { show "$1" | grep -vE '^[0-9]+ of [0-9]+: ' || true; }
{
    echo "# On a GPU: commit $(git describe --always --dirty 2> /dev/null || echo unknown), $compiler"
    echo
    echo "\`bench/gpu.sh\`, $((SECONDS - begin)) s in all."
    echo
    echo "| step | |"
    echo "|---|---|"
    printf '| %s |\n' "${results[@]}"
    echo
    echo "## Passes"
    echo
    echo '```'
    show passes
    echo '```'
    echo
    echo "## Diffusion transformer"
    echo
    echo '```'
    show pictures
    echo '```'
    echo
    echo "## Drafters: the bundled model, and Q4_0 at the cost of 7 B"
    tables drafters
    show inflate | sed 's/^/    /;1s/^    .*gguf:/\n    inflated:/'
    tables drafters-7b
} > "$out/gpu.md"
cat "$out/gpu.md"
exit $failed
