#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A model over processes of each MPI that is there says what one process says: mpi.sh FORETOKEN MODEL TEXT
set -u
foretoken=$1 model=$2 text=$3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n_run=0 n_failed=0

fail() {
    n_failed=$((n_failed + 1))
    echo "not ok   $*"
    sed 's/^/    /' "$tmp/err"
}

head -c 4000 "$text" > "$tmp/text"
generate=(generate -m "$model" -p "Once upon a time there was a king" -n 80 -t 1)
chat=(chat -m "$model" -n 20 -t 1)
perplexity=(perplexity -m "$model" -f "$tmp/text" -c 256 -t 1)
"$foretoken" "${generate[@]}" > "$tmp/generated"
"$foretoken" "${perplexity[@]}" > "$tmp/perplexity"
printf 'Hello\nWho are you?\n' > "$tmp/said"
"$foretoken" "${chat[@]}" < "$tmp/said" > "$tmp/chatted"
echo secret > "$tmp/key"

# The server's answers are those of one process, and it ends well when its last process is asked to.
serve() {
    "${run[@]}" -n 2 "$foretoken" serve -m "$model" -t 1 --port 0 --api-key-file "$tmp/key" --mpi \
        < /dev/null > "$tmp/out" 2> "$tmp/err" &
    local mpirun=$! port= p
    for _ in $(seq 600); do
        port=$(sed -n 's/.*listening on http:.*:\([0-9]*\)$/\1/p' "$tmp/err")
        [ -n "$port" ] && break
        sleep 0.1
    done
    for _ in 1 2; do
        curl -s -m 300 "http://127.0.0.1:$port/v1/completions" -H 'Authorization: Bearer secret' \
            -d '{"prompt": "Once upon a time there was a king", "max_tokens": 80, "temperature": 0}' |
            python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["text"])' > "$tmp/served"
        cmp "$tmp/generated" "$tmp/served" || { kill $mpirun; return 1; }
    done
    for p in $(pgrep -x foretoken); do # those of this run, by the file that they were given
        tr '\0' ' ' 2> /dev/null < "/proc/$p/cmdline" | grep -q -e "$tmp/key" && kill -TERM "$p"
    done
    wait $mpirun
}

for mpi in openmpi mpich; do
    if [ ! -e "$(dirname "$foretoken")/foretoken-$mpi.so" ] || ! command -v "mpirun.$mpi" > /dev/null; then
        echo "SKIPPED: $mpi is not there (lib$mpi-dev, and $mpi or $mpi-bin)"
        continue
    fi
    run=("mpirun.$mpi")
    # it counts cores, and does not like to be root
    [ $mpi = mpich ] || run+=(--oversubscribe --allow-run-as-root)
    n_run=$((n_run + 1))
    for n in 1 2 3; do
        timeout 300 "${run[@]}" -n $n "$foretoken" "${generate[@]}" --mpi > "$tmp/out" 2> "$tmp/err" &&
            cmp "$tmp/generated" "$tmp/out" || fail "$mpi, $n processes: generate"
    done
    timeout 300 "${run[@]}" -n 2 "$foretoken" "${perplexity[@]}" --mpi > "$tmp/out" 2> "$tmp/err" &&
        cmp "$tmp/perplexity" "$tmp/out" || fail "$mpi: perplexity"
    timeout 300 "${run[@]}" -n 2 "$foretoken" "${chat[@]}" --mpi < "$tmp/said" > "$tmp/out" 2> "$tmp/err" &&
        cmp "$tmp/chatted" "$tmp/out" || fail "$mpi: chat"
    serve || fail "$mpi: serve"
    if timeout 300 "${run[@]}" -n 2 "$foretoken" generate -m "$tmp/text" -p a --mpi > "$tmp/out" 2> "$tmp/err"; then
        fail "$mpi: a model that is none"
    fi
    echo "ok   $mpi"
done
if "$foretoken" "${generate[@]}" --mpi > "$tmp/out" 2> "$tmp/err" || ! grep -q "mpirun -n 2" "$tmp/err"; then
    fail "--mpi without mpirun"
fi
[ $n_failed = 0 ] || exit 1
[ $n_run -gt 0 ] || exit 77
