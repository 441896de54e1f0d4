#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# foretoken image from outside: image.sh PROGRAM WRITEDIT DEMO-MODEL
set -u
program=$(readlink -f "${1:?give the foretoken program}")
writedit=$(readlink -f "${2:?give writedit}")
demo=$(readlink -f "${3:?give the bundled model}")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
n_failed=0
export LC_ALL=C.UTF-8

"$writedit" pixel.gguf pixel && "$writedit" latent.gguf latent || exit 1

check() { # NAME, after a test of the shell
    if [ "$1" = 0 ]; then echo "ok   $2"; else echo "not ok   $2: $3"; n_failed=$((n_failed + 1)); fi
}

# STATUS LINE ARGUMENTS...: it fails with this one line
fails() {
    local status=$1 line=$2
    shift 2
    out=$("$program" image "$@" 2>&1 < /dev/null)
    local got=$?
    [ $got = "$status" ] && [ "$out" = "$line" ]
    check $? "fails: $*" "status $got, \"$out\", wanted $status, \"$line\""
}

# OPTIONS: what goes wrong
fails 2 'foretoken image: no file to write is named; give one with -o FILE.png or --npy FILE' -m pixel.gguf
fails 2 'foretoken image: -o: the model makes no pictures but latents of 4 channels; write them with --npy' \
    -m latent.gguf -o x.png
fails 2 "foretoken image: -o and --npy can't both go to standard output" -m pixel.gguf -o - --npy -
fails 2 "foretoken image: -o and --npy can't both go to x.png" -m pixel.gguf -o x.png --npy x.png
fails 2 "foretoken image: -o and --npy can't both go to ./x.png" -m pixel.gguf -o x.png --npy ./x.png
fails 2 "foretoken image: -o and --npy can't both go to standard output" -m pixel.gguf -o /dev/stdout --npy -
cp pixel.gguf own.gguf && ln own.gguf again.png
fails 2 'foretoken image: --npy: again.png is the model; give another file to write' -m own.gguf --npy again.png
fails 2 'foretoken image: -o: again.png is the model; give another file to write' -m own.gguf -o again.png
fails 2 'foretoken image: -o: own.gguf is the model; give another file to write' -m own.gguf -o own.gguf
fails 2 'foretoken image: --device: "gpu" is unknown; give cpu, auto, cuda or cuda:N, as in --device cuda:0' -m pixel.gguf -o x.png --device gpu
fails 2 "foretoken image: -o: a grid of 1000 x 5 pictures is larger than 16384 pixels a side; write them with --npy, or \
make fewer" -m pixel.gguf -o x.png -n 1000
fails 1 'foretoken: cannot write .: Is a directory' -m pixel.gguf --npy .
fails 2 'foretoken image: --class: the model has no class "5"; give numbers from 0 to 4 or names, as in --class 0,1' \
    -m pixel.gguf -o x.png --class 0,5
fails 2 'foretoken image: --class: the model has no class ""; give numbers from 0 to 4 or names, as in --class 0,1' \
    -m pixel.gguf -o x.png --class 0,
fails 2 'foretoken image: --class: "" is empty; give classes by number or name, as in --class 0,1' \
    -m pixel.gguf -o x.png --class ''
fails 2 'foretoken image: -n: "0" is out of range; give 1 to 1048576, as in -n 8' -m pixel.gguf -o x.png -n 0
fails 2 'foretoken image: -n: 5 classes and 1048576 pictures of each are too many' -m pixel.gguf -o x.png -n 1048576
fails 2 'foretoken image: --steps: "0" is out of range; give 1 to 16384, as in --steps 50' -m pixel.gguf -o x.png \
    --steps 0
fails 2 'foretoken: steps is 1001: this model takes 1 to 1000' -m pixel.gguf -o x.png --steps 1001
fails 2 'foretoken image: --cfg: "nan" is not a number; give 0 to 1000, as in --cfg 4' -m pixel.gguf -o x.png --cfg nan
fails 2 'foretoken image: --cache: "tea" is unknown; give none, fora, speca, toca, duca or l2c, as in --cache none' \
    -m pixel.gguf -o x.png --cache tea
fails 2 'foretoken image: --sampler: "euler" is unknown; give ddim or ddpm, as in --sampler ddim' \
    -m pixel.gguf -o x.png --sampler euler
fails 2 'foretoken image: --cache-order is not an option of the cache toca, but of: speca' \
    -m pixel.gguf -o x.png --cache toca --cache-order 2
fails 2 'foretoken image: --cache-interval is not an option of the cache none, but of: fora toca duca' \
    -m pixel.gguf -o x.png --cache-interval 2
fails 2 'foretoken image: --cache-order: "7" is out of range; give 0 to 6, as in --cache-order 2' \
    -m pixel.gguf -o x.png --cache speca --cache-order 7
fails 2 'foretoken image: unknown option "--temp"; see foretoken help image' -m pixel.gguf --temp 1
fails 2 'foretoken image: unexpected argument "x.png"; see foretoken help image' -m pixel.gguf x.png
fails 2 'foretoken: the model has no Learning-to-Cache table for 50 steps: it has one for 10' \
    -m pixel.gguf -o x.png --cache l2c
fails 2 'foretoken: the model has no Learning-to-Cache table for 40 steps: it has one for 50, 20' \
    -m "$demo" -o x.png --cache l2c --steps 40
fails 2 'foretoken image: --cache-threshold: "1e999" is out of range; give 0 or more, or inf, as in --cache-threshold 0.02' \
    -m pixel.gguf -o x.png --cache speca --cache-threshold 1e999
fails 2 'foretoken image: --cfg: "inf" is out of range; give 0 to 1000, as in --cfg 4' -m pixel.gguf -o x.png --cfg inf
fails 2 'foretoken: the model has no Learning-to-Cache table: train one, or take another cache' \
    -m latent.gguf --npy x.npy --cache l2c
fails 2 'foretoken: cache toca: interval is 2000: it must be 1 to 1000' -m pixel.gguf -o x.png --cache toca \
    --cache-interval 2000
fails 1 'foretoken: missing.gguf: cannot be opened: No such file or directory' -m missing.gguf -o x.png
fails 1 'foretoken: cannot write nowhere/x.png: No such file or directory' -m pixel.gguf -o nowhere/x.png --steps 2
[ ! -e x.png ] && [ ! -e x.npy ]
check $? "nothing was written" "a file is there"

out=$("$program" image -m pixel.gguf --class 1 --steps 4 --cache speca --cache-threshold inf --npy - 2>&1 > any.npy)
check $? "a forecast may be wrong by anything" "$out"

# Where writing fails there is one line, and nothing half-written is left.
quick=(-m pixel.gguf --class 1 --steps 2)
if [ -w /dev/full ]; then
    fails 1 'foretoken: cannot write /dev/full: No space left on device' "${quick[@]}" -o /dev/full
    fails 1 'foretoken: cannot write /dev/full: No space left on device' "${quick[@]}" --npy /dev/full
    for option in -o --npy; do
        out=$("$program" image "${quick[@]}" "$option" - 2>&1 > /dev/full)
        [ $? = 1 ] && [ "$out" = "foretoken: cannot write to standard output: No space left on device" ]
        check $? "standard output is full: $option" "$out"
    done
fi
for to in "-o x.png" "--npy x.npy"; do
    # shellcheck disable=SC2086 # two words
    out=$(ulimit -f 1 && "$program" image "${quick[@]}" -n 200 $to 2>&1)
    [ $? = 1 ] && [ "$out" = "foretoken: cannot write ${to#* }: File too large" ] && [ ! -e "${to#* }" ]
    check $? "a file that is too large: $to" "$out"
done
# A reader that leaves is no failure.
for option in -o --npy; do
    out=$({ "$program" image "${quick[@]}" -n 1600 --scale 1 "$option" - 2>&1 >&3; echo $?; } 3> >(exec true))
    [ "$out" = 0 ]
    check $? "a reader that leaves: $option" "$out"
done

# What comes out: a PNG of five rows of 2, 8 x 8 pixels by 4, 2 between them; and the numbers
"$program" image -m pixel.gguf -n 2 --scale 4 --steps 4 -o a.png --npy a.npy 2> err
check $? "a grid" "$(cat err)"
png=$(od -An -tx1 -N26 a.png | tr -d ' \n')
[ "$png" = "89504e470d0a1a0a0000000d4948445200000042000000a80800" ]
check $? "66 x 168 pixels, grey" "$png"
head -c 128 a.npy | tr -d '\0' | grep -qa "'<f4', 'fortran_order': False, 'shape': (10, 1, 8, 8)"
check $? "npy" "another head"
[ "$(wc -c < a.npy)" = $((128 + 10 * 64 * 4)) ]
check $? "npy size" "$(wc -c < a.npy)"
# Threads and batches change nothing, the seed does, and picture 3 of seed 0 is picture 0 of seed 3.
"$program" image -m pixel.gguf -n 2 --steps 4 --npy b.npy -t 1 --batch 3
cmp a.npy b.npy
check $? "threads and batches" "other bytes"
"$program" image -m pixel.gguf --class 1 -n 1 --seed 3 --steps 4 --npy - > c.npy
cmp <(tail -c +$((129 + 3 * 256)) a.npy | head -c 256) <(tail -c 256 c.npy)
check $? "seeds count up" "other bytes"

for cache in fora speca toca duca l2c; do
    "$program" image -m pixel.gguf --class 2 --steps 10 --cache "$cache" --npy d.npy --trace --stats 2> err
    check $? "$cache" "$(cat err)"
    [ "$(head -1 err)" = "foretoken: cache $cache is lossy: the pictures are not quite those of the model; \
--cache none makes those" ]
    check $? "$cache is called lossy" "$(head -1 err)"
    grep -q "^cache            $cache (lossy)$" err && grep -q '^0: F ' err
    check $? "$cache: figures and trace" "$(cat err)"
done
"$program" image -m pixel.gguf --class 2 --steps 10 --cache none --npy d.npy --trace --stats 2> err
[ "$(head -1 err)" = "0: F F F F F F F F F F" ] && grep -q '^cache            none$' err
check $? "none is not" "$(cat err)"
"$program" image -m pixel.gguf --class 2 --steps 12 --cache fora --cache-interval 4 --npy e.npy --trace 2> err
[ "$(tail -1 err)" = "0: F C C F C C C F C C C F" ]
check $? "the interval is an option" "$(tail -1 err)"
"$program" help image | grep -q -- '--cache-metric NAME'
check $? "help" "no such option"

# The bundled model: its classes have names, and SpeCa leaves out most of the work.
if [ -e "$demo" ]; then
    "$program" image --class three,8 -n 2 --cache speca -o demo.png --stats 2> err
    check $? "the bundled model" "$(cat err)"
    grep -Eq '^multiplications .* [4-9]\.[0-9]+ times fewer' err
    check $? "speca on it" "$(cat err)"
else
    echo "ok   the bundled model # SKIPPED: $demo is not there"
fi

# A model of one family is not taken for one of the other.
out=$("$program" generate -m pixel.gguf -p x 2>&1)
[ "$out" = 'foretoken: pixel.gguf: is a diffusion transformer, not a language model: foretoken image runs it' ]
check $? "generate" "$out"
[ $n_failed = 0 ]
