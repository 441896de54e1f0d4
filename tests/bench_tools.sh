#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# makemodel, inflate, bench-rows, makedit and bench-diffusion from outside, and numbers given to the others:
# bench_tools.sh FOLDER-OF-PROGRAMS DEMO-MODEL
set -u
sources=$(dirname "$(readlink -f "$0")")
bin=$(readlink -f "${1:?give the folder of the programs}")
demo=$(readlink -f "${2:?give the demo model}")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
n_passed=0 n_failed=0
export LC_ALL=C.UTF-8

ok() { n_passed=$((n_passed + 1)); echo "ok   $1"; }
not_ok() { # NAME WHAT...
    n_failed=$((n_failed + 1))
    echo "not ok   $1"
    shift
    printf '    %s\n' "$@"
}

run() { # PROGRAM ARGUMENTS...
    local program=$1
    shift
    timeout 120 "$bin/$program" "$@" > out 2> err
    status=$?
}

# Ends with this status and this one line, prints nothing and leaves no file: STATUS LINE PROGRAM ARGUMENTS...
ends() {
    local wanted=$1 line=$2
    shift 2
    run "$@"
    if [ $status = "$wanted" ] && [ "$(cat err)" = "$line" ] && [ ! -s out ] && [ ! -e x.gguf ] &&
        [ ! -e x.gguf.part ]; then
        ok "ends with $wanted: $*"
    else
        not_ok "ends with $wanted: $*" "status $status" "err \"$(cat err)\"" "wanted \"$line\"" "$(ls)"
    fi
}
refused() { ends 2 "$@"; } # the command line: LINE PROGRAM ARGUMENTS...
fails() { ends 1 "$@"; }   # something else

# Succeeds, and says something that matches: PATTERN PROGRAM ARGUMENTS...
does() {
    local pattern=$1
    shift
    run "$@"
    if [ $status = 0 ] && [[ $(cat out) =~ $pattern ]]; then
        ok "$*"
    else
        not_ok "$*" "status $status" "out \"$(cat out)\"" "wanted $pattern" "err \"$(cat err)\""
    fi
}

check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" > check.out 2>&1; then ok "$name"; else not_ok "$name" "$(cat check.out)"; fi
}

# ---- makemodel

tiny=(--dim 256 --layers 2 --heads 4 --kv-heads 2 --ffn 256 --vocab 1000 --context 256)
types=$("$bin/makemodel" --help | sed -n 's/.*of all matrices: \(.*\) (default.*/\1/p')
check "makemodel names its types" [ "${types#* Q4_0}" != "$types" ]

refused "usage: makemodel [options] OUT.gguf; makemodel --help tells more" makemodel --shape 15m
refused "usage: makemodel [options] OUT.gguf; makemodel --help tells more" makemodel x.gguf y.gguf
refused "--wide is unknown: see makemodel --help" makemodel --wide 3 x.gguf
refused "--dim needs a value, or is unknown: see makemodel --help" makemodel --dim
refused "shape 2t is unknown: there are 15m, 110m, 135m, 1b, 7b and 13b" \
    makemodel --shape 2t x.gguf
refused "--dim is missing: give it, or a --shape" makemodel x.gguf
refused "--dim 12x: give a whole number from 32 to 65536" makemodel --dim 12x x.gguf
refused "--layers 0: give a whole number from 1 to 512" makemodel --layers 0 x.gguf
refused "--vocab 99999999999999999999: give a whole number from 512 to 524288" \
    makemodel --vocab 99999999999999999999 x.gguf
refused "--type Q9: give one of $types" makemodel "${tiny[@]}" --type Q9 x.gguf
refused "--tied maybe: give yes or no" makemodel "${tiny[@]}" --tied maybe x.gguf
refused "4 heads are no multiple of 3 kv heads" makemodel "${tiny[@]}" --kv-heads 3 x.gguf
refused "--dim 65 is no multiple of 4 heads: give --head-dim" makemodel "${tiny[@]}" --dim 65 x.gguf
refused "heads of 3 cannot be: the size must be even and at most 256" \
    makemodel "${tiny[@]}" --head-dim 3 x.gguf
refused "token_embd.weight: rows of 80 weights are no multiple of the 32 in a block of Q4_0" \
    makemodel "${tiny[@]}" --dim 80 --type Q4_0 x.gguf
fails "none/x.gguf.part cannot be written: No such file or directory" \
    makemodel "${tiny[@]}" none/x.gguf

does "^makemodel " makemodel --help
for type in $types; do
    does "^$type.gguf: 1\.3 million weights in $type, " \
        makemodel "${tiny[@]}" --type $type $type.gguf
    does . foretoken generate -m $type.gguf -p "Once upon a time" -n 8
done
does "^t.gguf: 0\.9 million" makemodel "${tiny[@]}" --tied yes --vocab 512 t.gguf
does . foretoken generate -m t.gguf -p "tied" -n 8
does . makemodel "${tiny[@]}" --type Q8_0 again.gguf
check "the same seed gives the same file" cmp Q8_0.gguf again.gguf
does . makemodel "${tiny[@]}" --type Q8_0 --seed 2 again.gguf
check "another seed gives another" eval '! cmp -s Q8_0.gguf again.gguf'
printf 'Once upon a time\n\xff\xc3\xa4' > text
"$bin/foretoken" tokenize -m F16.gguf < text > ids
"$bin/foretoken" tokenize -m F16.gguf --decode < ids > back
check "its vocabulary gives texts back" cmp text back
check "its pieces join" [ "$(wc -w < ids)" -lt 19 ]

# A write that fails in the middle, and one that is ended by a signal.
(
    ulimit -f 100
    trap '' XFSZ
    "$bin/makemodel" "${tiny[@]}" --type F32 x.gguf > out 2> err
)
check "a full disk: one line" grep -q '^x.gguf.part cannot be written: ' err
check "a full disk: nothing is left" [ ! -e x.gguf -a ! -e x.gguf.part ]
"$bin/makemodel" --shape 13b --type F16 x.gguf > out 2> err &
maker=$!
for _ in $(seq 200); do [ -e x.gguf.part ] && break; sleep 0.02; done
kill $maker
wait $maker 2> /dev/null
check "ended by a signal: nothing is left" [ ! -e x.gguf -a ! -e x.gguf.part ]
rm -f x.gguf x.gguf.part

# ---- inflate

line="usage: inflate [options] SMALL.gguf LARGE.gguf [SMALL.drafter.gguf LARGE.drafter.gguf]...; \
inflate --help tells more"
refused "$line" inflate --dim 512 "$demo"
refused "s4c.gguf: give the name of its large copy too" inflate --dim 512 "$demo" x.gguf s4c.gguf
fails "none.gguf: cannot be opened: No such file or directory" \
    inflate --dim 512 "$demo" x.gguf none.gguf y.gguf
line="$demo: is no drafter: its general.architecture is not foretoken-drafter; a model is named with -m"
fails "$line" inflate --dim 512 "$demo" x.gguf "$demo" y.gguf
refused "--vocab is unknown: see inflate --help" inflate --vocab 8000 "$demo" x.gguf
refused "--type is unknown: see inflate --help" inflate --type F16 "$demo" x.gguf
fails "none.gguf: cannot be opened: No such file or directory" inflate --dim 512 none.gguf x.gguf
refused "--dim 128: the small model has 256 already" inflate --dim 128 "$demo" x.gguf
refused "--layers 6: the small model has 12 already" inflate --layers 6 "$demo" x.gguf
refused "that shape's heads, 6 of 48, cannot be cut into heads of 64" \
    inflate --shape 15m "$demo" x.gguf
refused "6 heads are no multiple of 4 kv heads" inflate --heads 6 --kv-heads 4 "$demo" x.gguf
does . makemodel --dim 96 --layers 1 --heads 6 --kv-heads 2 --ffn 64 --vocab 512 six.gguf
refused "6 heads on 3 kv heads cannot hold the small model's 6 on 2: it needs 4 kv heads" \
    inflate --kv-heads 3 six.gguf x.gguf
does . makemodel --dim 64 --layers 1 --heads 4 --ffn 64 --vocab 512 narrow.gguf
line="blk.0.attn_output.weight: blocks of 32 weights (Q8_0) would be torn: keep as many heads to a \
kv head as the small model has, or sizes that are multiples of the block"
refused "$line" inflate --heads 8 narrow.gguf x.gguf
refused "token_embd.weight: rows of 400 weights are no multiple of the 32 in a block of Q8_0" \
    inflate --dim 400 "$demo" x.gguf
head -c 100000 "$demo" > cut.gguf
run inflate --dim 512 cut.gguf x.gguf
check "inflate: a damaged model" [ $status = 1 -a "$(wc -l < err)" = 1 -a ! -e x.gguf.part ]

does "^inflate " inflate --help
does "one token reads" inflate --dim 512 --layers 3 --heads 8 t.gguf x.gguf
does "dim 512, layers 3, heads 8 on 2" inflate --dim 512 --layers 3 --heads 8 t.gguf big.gguf
rm -f x.gguf

s4c=$(dirname "$demo")/foretoken-demo-s4c.drafter.gguf
if [ -e "$s4c" ]; then
    run inflate --dim 512 t.gguf x.gguf "$s4c" y.gguf
    check "inflate: a drafter of another model" eval '[ $status = 1 -a "$(wc -l < err)" = 1 ] &&
        grep -q "was trained for another model" err && [ ! -e x.gguf -a ! -e y.gguf ]'
    LC_ALL=C sed 's/\(drafter.family.\{12\}\)s4c/\1xyz/' "$s4c" > xyz.gguf # the key's type and its length
    fails "xyz.gguf: drafters of the family xyz cannot be inflated: only s4c, firp and dash can" \
        inflate --dim 512 "$demo" x.gguf xyz.gguf y.gguf
    LC_ALL=C sed 's/head\.1\.body/head.1.bodx/' "$s4c" > damaged.gguf
    fails "damaged.gguf: tensor head.1.body is missing" \
        inflate --dim 512 "$demo" x.gguf damaged.gguf y.gguf
    does "big.drafter.gguf: s4c, 10 tensors" \
        inflate --dim 512 "$demo" big.gguf "$s4c" big.drafter.gguf
else
    echo "SKIPPED inflating drafters: $s4c is not there"
fi

# ---- bench-rows

refused "usage: bench-rows -m MODEL [options]; bench-rows --help tells more" bench-rows
refused "--width is unknown: see bench-rows --help" bench-rows --width 3
refused "-m needs a value, or is unknown: see bench-rows --help" bench-rows -m
refused "-t 0: give a whole number from 1 to 256" bench-rows -m t.gguf -t 0
refused "--rows 129: give a whole number from 1 to 128" bench-rows -m t.gguf --rows 1,129
refused "--rows 4,2: give rising numbers with commas between them" \
    bench-rows -m t.gguf --rows 4,2
refused '--depths "": give at most 32 whole numbers with commas between them' bench-rows -m t.gguf --depths ""
refused "--plot p.gif: give a name that ends in .png or .svg, without quotes" \
    bench-rows -m t.gguf --plot p.gif
fails "none.gguf: cannot be opened: No such file or directory" bench-rows -m none.gguf

quick=(-m t.gguf -t 2 --rounds 2 --rows 1,8)
does "^bench-rows " bench-rows --help
does "128 \| 8 \|.*plain reading of .* GB/s" \
    bench-rows "${quick[@]}" --depths 0,128 --json rows.json --note "a note"
check "bench-rows: JSON" grep -q '"note": "a note"' rows.json
does "0 \| 8 \|" bench-rows "${quick[@]}" --depths 0,1000
check "bench-rows: what does not fit" \
    grep -qx "depth 1000: 2 of 2 widths left out: the model's context is 256" err
does "plain reading" bench-rows "${quick[@]}" --depths 0 --plot rows.svg
if command -v gnuplot > /dev/null; then
    check "bench-rows: plot" grep -q "<svg" rows.svg
else
    check "bench-rows: no gnuplot" \
        grep -qx -- "--plot rows.svg: gnuplot is not installed: there will be no plot" err
fi

# ---- makedit, bench-diffusion

refused 'usage: makedit [options] OUT.gguf; makedit --help tells more' makedit
refused '--shape xl is unknown: see makedit --help' makedit --shape xl x.gguf
refused '--layers 0: give a whole number from 1 to 512' makedit --layers 0 x.gguf
mkfifo pipe
fails 'pipe cannot be written: it is no regular file' makedit --shape s8 --layers 1 pipe
check "makedit: it is left as it is" test -p pipe
fails '. cannot be written: it is no regular file' makedit --shape s8 --layers 1 .
does "^makedit .*xl2 l2 b2 s2 s4 s8" makedit --help
does "^d.gguf: 3.9 million weights in Q8_0, 3 MiB" makedit --shape s8 --layers 1 d.gguf
refused 'usage: bench-diffusion -m MODEL --out DIR [options]' bench-diffusion
diffusion=(-m d.gguf --out runs -t 2 --samples 3 --batch 2 --steps 4)
refused '"order" of the run "speca order" is no key=value' bench-diffusion "${diffusion[@]}" --run "speca order"
refused 'depth is no setting: see bench-diffusion --help' bench-diffusion "${diffusion[@]}" --run "speca depth=2"
refused 'order=x is not a number' bench-diffusion "${diffusion[@]}" --run "speca order=x"
refused 'order=1.5 is no whole number' bench-diffusion "${diffusion[@]}" --run "speca order=1.5"
refused 'max-run=1e99 is no whole number' bench-diffusion "${diffusion[@]}" --run "speca max-run=1e99"
refused 'decay=nan is not a number' bench-diffusion "${diffusion[@]}" --run "speca decay=nan"
refused 'redo=2 is neither 0 nor 1' bench-diffusion "${diffusion[@]}" --run "speca redo=2"
refused 'order is no setting of fora, but of: speca' bench-diffusion "${diffusion[@]}" --run "fora order=2"
refused 'interval is no setting of none, but of: fora toca duca' bench-diffusion "${diffusion[@]}" --run "none interval=2"
refused '"fora" is given twice' bench-diffusion "${diffusion[@]}" --run fora --run none --run fora
refused '--only spec: give some of none, fewer, fora, speca, toca, duca and l2c' \
    bench-diffusion "${diffusion[@]}" --only "none spec"
refused '--only names no method' bench-diffusion "${diffusion[@]}" --only ""
refused '--keep maybe: give yes or no' bench-diffusion "${diffusion[@]}" --keep maybe
refused '--resume 1: give yes or no' bench-diffusion "${diffusion[@]}" --resume 1
refused '--cfg nan: give a number from 0 to 1000' bench-diffusion "${diffusion[@]}" --cfg nan
refused '--first-seed -1: give a whole number from 0 to 1048576' bench-diffusion "${diffusion[@]}" --first-seed -1
# All runs are looked at before the first one.
refused $'there is no cache "tea": it is none, fora, speca, toca, duca or l2c\n"tea" cannot be run' \
    bench-diffusion "${diffusion[@]}" --run none --run tea
refused $'cache fora: interval is 0: it must be 1 to 16384\n"fora interval=0" cannot be run' \
    bench-diffusion "${diffusion[@]}" --run none --run "fora interval=0"
check "bench-diffusion: nothing was made of that" test ! -e runs
does "^bench-diffusion " bench-diffusion --help
does "fora interval=2 .* 1.33 times fewer multiplications  \(lossy\)" bench-diffusion "${diffusion[@]}" --seeds 2 \
    --run none --run "fora interval=2" --run l2c
check "bench-diffusion: l2c is left out" grep -qx "l2c is left out: the model has no table for 4 steps" err
check "bench-diffusion: a line a run" test "$(wc -l < runs/runs.csv)" = 5
check "bench-diffusion: columns" test "$(awk -F, '{ print NF }' runs/runs.csv | sort -u)" = 19
does "^none +seed 1 " bench-diffusion "${diffusion[@]}" --first-seed 1 --out second --run none
check "bench-diffusion: another seed alone" cmp second/000-none-seed1.npy runs/002-none-seed1.npy
# 4 steps, of which index 3, 2 and 0 are full; a sample has 2 halves of 16 tokens
plain=$((4 * 2 * (12 * 16 * 384 * 384 + 2 * 16 * 16 * 384)))
check "bench-diffusion: multiplications" awk -F, -v plain=$plain \
    'NR > 1 && ($9 != $18 || $10 != plain || ($1 == "fora" && $9 * 4 != $10 * 3)) { exit 1 }' runs/runs.csv
check "bench-diffusion: samples" test "$(stat -c %s runs/003-fora-seed1.npy)" = $((128 + 3 * 4 * 32 * 32 * 4))
# Ended within the last line, it goes on there, and only there; and with runs that were not asked for before
mv runs/003-fora-seed1.npy whole.npy
head -c -9 runs/runs.csv > cut.csv && mv cut.csv runs/runs.csv
does "^fewer steps=2 +seed 0 .* 2.00 times fewer .*fora interval=2 +seed 1 .*fewer steps=2 +seed 1 " bench-diffusion "${diffusion[@]}" \
    --seeds 2 --resume yes --run none --run "fora interval=2" --run "fewer steps=2"
check "bench-diffusion: a line a run still" test "$(wc -l < runs/runs.csv)" = 7
check "bench-diffusion: what was cut off is made again" cmp runs/004-fora-seed1.npy whole.npy
echo "method,setting" > runs/runs.csv
fails 'runs/runs.csv is of another version of this program: give another --out' \
    bench-diffusion "${diffusion[@]}" --resume yes --run none
refused $'device "gpu" is not known: give cpu, auto, cuda or cuda:N\n"none" cannot be run' \
    bench-diffusion "${diffusion[@]}" --device gpu --run none

# ---- numbers that are none, or too large or small, of the programs that are not tried above

refused "--threads x: give a whole number from 0 to 256" bench-loop --threads x t.gguf
refused "--limit -1: give a whole number from 0 to 100000" bench-drafters --limit -1 t.gguf
refused "--tokens 9z: give a whole number from 1 to 4096" bench-drafters --tokens 9z t.gguf
refused "--tokens 0: give a whole number from 1 to 1023" bench-exact --tokens 0 t.gguf
refused "--limit x: give a whole number from 0 to 100000" bench-exact --limit x t.gguf
refused '--methods "": give usual or all' bench-exact --methods "" t.gguf
refused '--sessions "1,,2": give at most 16 whole numbers with commas between them' bench-exact --sessions 1,,2 t.gguf
refused "--temp nan: give a number from 0.01 to 100" bench-verifiers --temp nan
refused "--runs 1.5: give a whole number from 1 to 64" bench-batch -m t.gguf --runs 1.5
refused "--least 0: give a number above 0" bench-batch -m t.gguf --least 0
refused "--windows 0: give a whole number from 1 to 256" bench-dash --windows 0 t.gguf
refused "TOKENS x: give a whole number from 1 to 1024" bench-stages t.gguf x
refused "N 0: give a whole number from 1 to 1048576" promptids t.gguf text 0
refused "--dim x: give a whole number from 32 to 65536" inflate --dim x t.gguf x.gguf
refused "bench-gpu: --depth 1e3: give a whole number from 1 to 1048576" tests/bench-gpu-emulated --depth 1e3
refused "bench-gpu: --deep: it is unknown; see bench-gpu --help" tests/bench-gpu-emulated --deep 1
refused "bench-gpu: --deep: it needs a value, or is unknown; see bench-gpu --help" tests/bench-gpu-emulated --deep
refused "bench-gpu: --shape 8b: give one of 110m 1.1b 7b 13b" tests/bench-gpu-emulated --shape 8b
refused "bench-gpu: --type Q9: give one of F16 Q8_0 Q4_0 Q4_K" tests/bench-gpu-emulated --quick --type Q9

# ---- lists, and other words that are none

echo "writing 1 3 5" > short.ids
drafters=$("$bin/bench-batch" --drafters x 2>&1 | sed -n 's/.*give some of \(.*\), with.*/\1/p')
for list in , "" none, ,none none,,lookup; do
    refused "--drafters: there is no \"\": give some of $drafters, with commas between them" \
        bench-batch -m t.gguf --drafters "$list"
    refused "--drafters: there is no \"\": give some of $drafters, with commas between them" \
        bench-drafters --questions text --drafters "$list" t.gguf
    refused "--sessions \"${list//[a-z]/}\": give at most 16 whole numbers with commas between them" \
        bench-batch -m t.gguf --sessions "${list//[a-z]/}"
done
refused "--drafters: there is no \"guess\": give some of $drafters, with commas between them" \
    bench-batch -m none.gguf --drafters lookup,guess
refused "--drafters: there is no \"guess\": give some of $drafters, with commas between them" \
    bench-drafters --questions text --drafters guess none.gguf
refused "--drafter-layers 1,: give 1 to 16 layers with commas between them, as in 2,15,27" \
    bench-batch -m t.gguf --drafter-layers 1,
fails "--drafters s4c: its file is not beside the model" bench-batch -m t.gguf --questions short.ids --drafters s4c
refused "--states 1,,2: give layers with commas between them, as in 2,15,27" teach -m t.gguf -o lessons --states 1,,2 text
refused "--ends never: give keep or ignore" bench-drafters --questions text --ends never none.gguf
refused "--heads s4c: give NAME=FILE" bench-drafters --questions text --heads s4c none.gguf
refused 'kernels "best" are unknown or not for this machine' bench-rows -m t.gguf --kernels best
refused 'device "gpu" is not known: give cpu, auto, cuda or cuda:N' \
    bench-drafters --questions short.ids --device gpu t.gguf

for wrong in "--kernel sing" "--type Q9" "--rows 1," "--rows ," "--rows 1,,2" "--rows 1;2" "--shape 3"; do
    # shellcheck disable=SC2086
    run tests/benchkernels $wrong
    check "benchkernels $wrong" eval '[ $status = 2 -a ! -s out ] && grep -qx "usage: benchkernels .*" err'
done

# The scripts, where there is a Python: argparse writes the usage before the line.
scripts=$(dirname "$sources")/bench
wrong() { # LINE SCRIPT ARGUMENTS...
    local line=$1 script=$2
    shift 2
    PYTHONDONTWRITEBYTECODE=1 python3 "$scripts/$script.py" "$@" > out 2> err
    check "$script $*" [ $? = 2 -a "$(tail -n 1 err)" = "$script.py: error: $line" -a ! -s out ]
}
if command -v python3 > /dev/null; then
    for list in , "" 1, ,1 1,,2 1,0 x; do
        word=$(tr , '\n' <<< "$list" | grep -vx '[1-9]' | head -n 1)
        wrong "argument --clients: '$word' is no number above 0" load a=http://x --questions text --clients "$list"
    done
    for option in rounds requests max-new; do
        wrong "argument --$option: '0' is no number above 0" load a=http://x --questions text --$option 0
    done
    wrong "argument --limit: '-1' is no number above 0" gsm8k http://x text --limit=-1
    wrong "argument --size: '0' is no number above 0" perplexity m text --foretoken x --size 0
    wrong "argument --kv: 'f16,' is no list of words with commas between them" perplexity m text --foretoken x --kv f16,
    PYTHONDONTWRITEBYTECODE=1 python3 "$scripts/load.py" a=http://x --questions none.jsonl > out 2> err
    check "load.py without its questions" [ $? = 1 -a "$(cat err)" = "load.py: none.jsonl: No such file or directory" ]
else
    echo "SKIPPED bench/*.py: there is no python3"
fi

# Of several models all are looked for first.
fails "none.gguf: cannot be opened: No such file or directory" bench-exact --prompts short.ids t.gguf none.gguf
fails "none.gguf: cannot be opened: No such file or directory" bench-drafters --questions short.ids t.gguf none.gguf
fails "none.gguf: cannot be opened: No such file or directory" \
    bench-verifiers --samples 0 --questions short.ids t.gguf none.gguf
fails "--beside none.gguf: No such file or directory" bench-exact --prompts short.ids --beside none.gguf t.gguf
fails "none.gguf: cannot be opened: No such file or directory" bench-diffusion -m none.gguf --out runs

# An option that is wrong is no file, wherever it stands; and each program says what there is.

stands="needs a value, is unknown, or stands behind a file"
refused "--wide $stands" bench-exact --prompts text --wide
refused "--tokens $stands" bench-exact --prompts text none.gguf --tokens 3
refused "--tokens $stands" bench-drafters --questions text none.gguf --tokens 3
refused "--tokens $stands" bench-verifiers --questions text none.gguf --tokens 3
refused "--threads $stands" bench-loop --questions text --threads
refused "--threads $stands" bench-dash --text text --threads
refused "--tokens $stands" bench-stages t.gguf --tokens
for program in bench-batch bench-dash bench-drafters bench-exact bench-loop bench-stages bench-verifiers promptids \
    requantize; do
    usage=$("$bin/$program" --help)
    does "^usage: $program " $program --help
    case $program in
        bench-verifiers) refused "$usage" $program --samples 0 none.gguf ;;
        *) refused "$usage" $program ;;
    esac
done

# Nothing in it but text, newlines and tabs.
harmless() { # FILES
    [ -z "$(cat "$@" | LC_ALL=C tr -cd '\000-\010\013-\037\177')" ] && ! LC_ALL=C grep -q $'\xc2[\x80-\x9f]' "$@"
}
LC_ALL=C sed 's/Foretoken demo/F\x1b[2J\xc2\x9ben demo/' "$demo" > hostile.gguf
does 'F\\x1b\[2J\\xc2\\x9ben demo' bench-rows -m hostile.gguf -t 1 --rounds 1 --rows 1 --depths 0
check "a model's name is no command to the terminal" harmless out err
does . bench-rows -m t.gguf -t 1 --rounds 1 --rows 1 --depths 0 --note $'\e[2J'
check "neither is a note" harmless out err
fails 'no\x1b[2J/y.gguf cannot be written' requantize t.gguf $'no\e[2J/y.gguf' F32
fails '\x1b[2J\xc2\x9b.gguf: cannot be opened: No such file or directory' \
    bench-rows -m $'\e[2J\xc2\x9b.gguf'
refused '--rows \x1b[2J: give a whole number from 1 to 128' \
    bench-rows -m t.gguf --rows $'\e[2J'

echo "$n_passed passed, $n_failed failed"
[ $n_failed = 0 ]
