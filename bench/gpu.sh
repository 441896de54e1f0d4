#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that needs an NVIDIA GPU, inside nine minutes: builds, checks, measures, prints one table.
#
#     bench/gpu.sh [--out FOLDER]
#
# Needs nvcc, CMake and a C compiler; no package manager, no library, no model file. FOLDER (default:
# build/gpu-results) gets the whole log. Exit status: 0 all done and right, 1 something failed, 77 no GPU.
set -uo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

out=build/gpu-results
if [ "${1:-}" = --out ] && [ -n "${2:-}" ]; then
    out=$2
elif [ $# -gt 0 ]; then
    echo "usage: bench/gpu.sh [--out FOLDER]" >&2
    exit 2
fi
mkdir -p "$out"
build=build/gpu
begin=$SECONDS
failed=0
results=()

# step NAME SECONDS COMMAND...: its output goes to the log; the end of it is shown if it fails.
step() {
    local name=$1 limit=$2 start=$SECONDS status
    shift 2
    timeout "$limit" "$@" > "$out/$name.log" 2>&1
    status=$?
    case $status in
        0) results+=("$name: ok, $((SECONDS - start)) s") ;;
        77) results+=("$name: skipped: $(tail -n 1 "$out/$name.log")") ;;
        124) results+=("$name: NOT FINISHED in $limit s") failed=1 ;;
        *) results+=("$name: FAILED, status $status") failed=1 ;;
    esac
    echo "${results[-1]}"
    [ $status = 0 ] || tail -n 15 "$out/$name.log"
    return $status
}

nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
if ! [ -x "$nvcc" ]; then
    echo "skipped: there is no nvcc"
    exit 77
fi
export CUDACXX=$nvcc

# The device's own architecture alone: the others would only cost time here.
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1 | tr -d .)
case $arch in
    '') echo "skipped: nvidia-smi finds no GPU"; exit 77 ;;
    90 | 100 | 103) arch=${arch}a-real ;;
    *) arch=$arch-real ;;
esac
nvidia-smi | tee "$out/nvidia-smi.log" | sed -n 1,20p

step configure 60 cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DFTK_CUDA=ON \
    -DFTK_DEVICE_ONLY=ON "-DCMAKE_CUDA_ARCHITECTURES=$arch" || exit 1
step build 180 cmake --build "$build" -j "$(nproc)" || exit 1

bin=$build/tests/gpu
step checkkernels 90 "$bin/gpu-checkkernels" --level cuda
step checkcuda 90 "$bin/gpu-checkcuda"
if command -v compute-sanitizer > /dev/null; then
    # races and barriers are what the emulation cannot show; a few cases, as all is many times slower
    step memcheck 60 compute-sanitizer --tool memcheck --error-exitcode 9 "$bin/bench-gpu" --quick
    step racecheck 60 compute-sanitizer --tool racecheck --error-exitcode 9 "$bin/bench-gpu" --quick
    step synccheck 45 compute-sanitizer --tool synccheck --error-exitcode 9 "$bin/bench-gpu" --quick
else
    results+=("compute-sanitizer: skipped: it is not installed")
fi
left=$((525 - (SECONDS - begin)))
[ "$left" -gt 30 ] || left=30
step bench "$left" "$bin/bench-gpu"

{
    echo
    echo "commit $(git describe --always --dirty 2> /dev/null || echo unknown), nvcc $("$nvcc" --version |
        sed -n 's/.*release \([0-9.]*\).*/\1/p')"
    printf '%s\n' "${results[@]}"
    echo
    cat "$out/bench.log"
} | tee "$out/gpu.txt"
exit $failed
