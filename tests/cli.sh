#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The program from outside: cli.sh PROGRAM
# Reads the model of FTK_SHARED_DIR, else the bundled one of FTK_MODELS_DIR, the one that
# FTK_BPE_MODEL names, and FTK_LORA, an adapter for the bundled one. Exit status: 0, 1 if a
# check failed, 77 if nothing could be run.
set -u
program=$(readlink -f "${1:?give the foretoken program}")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n_passed=0 n_failed=0 n_skipped=0
export LC_ALL=C.UTF-8

# ---- checks

ok() { n_passed=$((n_passed + 1)); echo "ok   $1"; }
not_ok() { # NAME WHAT...
    n_failed=$((n_failed + 1))
    echo "not ok   $1"
    shift
    printf '    %s\n' "$@"
}
skip() { n_skipped=$((n_skipped + 1)); echo "ok   $1 # SKIPPED: $2"; }

# Runs the program on standard input; sets status, out, err. Output keeps its trailing newlines,
# but for one. What is said of loading that takes more than a second is left out: it depends on the machine.
run() {
    timeout 120 "$program" "$@" > "$tmp/out" 2> "$tmp/err"
    status=$?
    out=$(cat "$tmp/out" && echo x) out=${out%x} out=${out%$'\n'}
    err=$(sed -E '/^foretoken[a-z ]*: preparing [0-9]+ MiB of weights, [0-9]+ % done$/d' "$tmp/err")
}

expect() { # NAME STATUS OUT ERR, after run
    if [ "$status" = "$2" ] && [ "$out" = "$3" ] && [ "$err" = "$4" ]; then
        ok "$1"
    else
        not_ok "$1" "status $status, wanted $2" "out \"$out\"" "wanted \"$3\"" "err \"$err\"" \
            "wanted \"$4\""
    fi
}

# The command line is refused: LINE ARGUMENTS...
refused() {
    local line=$1
    shift
    run "$@" < /dev/null
    expect "refused: $*" 2 "" "$line"
}

# It fails: NAME LINE ARGUMENTS...
fails() {
    local name=$1 line=$2
    shift 2
    run "$@"
    expect "$name" 1 "" "$line"
}

# It prints: NAME TEXT ARGUMENTS...
prints() {
    local name=$1 text=$2
    shift 2
    run "$@"
    expect "$name" 0 "$text" ""
}

# Its output matches a regular expression: NAME PATTERN ARGUMENTS...
matches() {
    local name=$1 pattern=$2
    shift 2
    run "$@"
    if [ "$status" = 0 ] && [[ $out =~ $pattern ]]; then
        ok "$name"
    else
        not_ok "$name" "status $status" "out \"$out\"" "wanted $pattern" "err \"$err\""
    fi
}

# ---- without a model

matches "version" '^foretoken [0-9]+\.[0-9]+\.[0-9]+$' --version
matches "help" 'foretoken generate .*foretoken inspect ' help
matches "--help" 'foretoken generate .*foretoken inspect ' --help
for command in chat generate tokenize perplexity inspect serve; do
    matches "help $command" "^foretoken $command .*--help" help $command
    matches "$command --help" "^foretoken $command .*--help" $command --help
done
run < /dev/null
[[ $status = 2 && $out = "" && $err = *"foretoken help"* ]] && ok "no command" ||
    not_ok "no command" "status $status" "$out" "$err"

refused 'foretoken: there is no command "sing"; see foretoken help' sing
refused 'foretoken: there is no command "sing"; see foretoken help' help sing
refused 'foretoken: unexpected argument "--sing"; see foretoken help' help chat --sing
refused 'foretoken: unexpected argument "sing"; see foretoken help' --version sing
refused 'foretoken generate: unknown option "--sing"; see foretoken help generate' generate --sing
refused 'foretoken tokenize: unknown option "--temp"; see foretoken help tokenize' \
    tokenize --temp 1
refused 'foretoken generate: unknown option "--chat=1"; see foretoken help generate' \
    generate --chat=1
refused 'foretoken generate: unexpected argument "b"; see foretoken help generate' \
    generate -p a b
refused 'foretoken generate: there is nothing to complete; give -p TEXT or -f FILE' generate
refused 'foretoken generate: -p and -f exclude each other; give one of them' generate -p a -f b
refused 'foretoken generate: -m and --demo exclude each other; give one of them' \
    generate -p a -m b --demo
refused 'foretoken image: -m and --demo exclude each other; give one of them' image -m b --demo
# A model that is not there is no matter: what is wrong is said before.
for command in chat serve "generate --chat -p a"; do
    # shellcheck disable=SC2086
    refused "foretoken ${command%% *}: --template and --template-file exclude each other; give one of them" \
        $command -m "$tmp/none" --template chatml --template-file a
    # shellcheck disable=SC2086
    refused "foretoken ${command%% *}: --drafter-layers is about one --drafter-file; give that once" \
        $command -m "$tmp/none" --drafter-layers 1,2
    # shellcheck disable=SC2086
    refused "foretoken ${command%% *}: unknown option \"--sing\"; see foretoken help ${command%% *}" \
        $command -m "$tmp/none" --sing
done
refused 'foretoken generate: --system needs --chat; add it' generate -p a --system b
refused 'foretoken perplexity: there is no text; give one with -f FILE' perplexity
refused 'foretoken inspect: no file was named; give one, as in foretoken inspect model.gguf' inspect
refused 'foretoken inspect: no file was named; give one, as in foretoken inspect model.gguf' inspect ""
refused 'foretoken inspect: unexpected argument "b"; see foretoken help inspect' inspect a b
refused 'foretoken generate: -m: "" is empty; give a GGUF file, as in -m model.gguf' \
    generate -p a -m ""
refused 'foretoken tokenize: -m: "" is empty; give a GGUF file, as in -m model.gguf' tokenize --model=
refused 'foretoken generate: -f: "" is empty; give a text file, or - for standard input, as in -f text.txt' \
    generate -f ""
refused 'foretoken generate: --drafter-file: "" is empty; give a drafter'"'"'s GGUF file, as in --drafter-file model-s4c.drafter.gguf' \
    generate -p a --drafter-file ""
refused 'foretoken generate: --lora: "" is empty; give a LoRA adapter'"'"'s GGUF file, as in --lora adapter.gguf' \
    generate -p a --lora ""
for value in a.gguf a.gguf:x a.gguf: a.gguf:inf a.gguf:0x1; do
    refused 'foretoken perplexity: --lora-scaled: "'$value'" does not end in a colon and a number; give a LoRA adapter'"'"'s GGUF file, a colon and a finite number, as in --lora-scaled adapter.gguf:0.5' \
        perplexity -f a --lora-scaled $value
done
refused 'foretoken chat: --lora-scaled: "a:1e39" is out of range; give a LoRA adapter'"'"'s GGUF file, a colon and a finite number, as in --lora-scaled adapter.gguf:0.5' \
    chat --lora-scaled a:1e39
refused 'foretoken chat: --lora-scaled: ":1" names no file; give a LoRA adapter'"'"'s GGUF file, a colon and a finite number, as in --lora-scaled adapter.gguf:0.5' \
    chat --lora-scaled :1
refused 'foretoken generate: --lora: "i" is one too many; give a LoRA adapter'"'"'s GGUF file, as in --lora adapter.gguf' \
    generate -p a --lora a --lora b --lora-scaled c:1 --lora d --lora e --lora f --lora g --lora h --lora i
refused 'foretoken tokenize: unknown option "--lora"; see foretoken help tokenize' tokenize --lora a
refused 'foretoken serve: --port: "65536" is out of range; give 0 to 65535, as in --port 8080' serve --port 65536
refused 'foretoken serve: --parallel: "0" is out of range; give 1 to 256, as in --parallel 8' serve --parallel 0
refused 'foretoken serve: --metrics-names: "tgi" is unknown; give vllm, as in --metrics-names vllm' \
    serve --metrics-names tgi
refused 'foretoken serve: --api-key: "" is empty; give a key that is not empty, as in --api-key secret' \
    serve --api-key ""
for origin in "" chat.example https:// ://chat.example https://chat.example/ "https://a.example https://b.example" "https://*"; do
    refused 'foretoken serve: --allow-origin: "'"$origin"'" is none; give an origin, or *, as in --allow-origin https://chat.example' \
        serve --allow-origin "$origin"
done
refused 'foretoken serve: unknown option "--temp"; see foretoken help serve' serve --temp 1
# What the command line says reaches no terminal as it is: C0, DEL, C1, broken UTF-8, turned letters.
refused 'foretoken: there is no command "a\x1b[2Jb\x7f\xc2\x9bc\x9bd\xe2\x80\xaee\x0af"; see foretoken help' \
    $'a\x1b[2Jb\x7f\xc2\x9bc\x9bd\xe2\x80\xaee\nf'
refused 'foretoken generate: --temp: "\x1b]0;t\x07" is not a number; give 0 or more, as in --temp 0.8' \
    generate -p a --temp $'\e]0;t\a'

# value OPTION VALUE WHAT GIVE EXAMPLE
value() {
    refused "foretoken generate: $1: \"$2\" $3; give $4, as in $1 $5" generate -p a "$1" "$2"
}
value --temp abc "is not a number" "0 or more" 0.8
value --temp "" "is not a number" "0 or more" 0.8
value --temp nan "is not a number" "0 or more" 0.8
value --temp 0x10 "is not a number" "0 or more" 0.8
value --temp -1 "is out of range" "0 or more" 0.8
value --temp 1e999 "is out of range" "0 or more" 0.8
value --top-p 0 "is out of range" "more than 0, at most 1" 0.9
value --min-p 1 "is out of range" "0 or more, less than 1" 0.05
value --repeat-penalty 0 "is out of range" "more than 0" 1.1
value --presence-penalty x "is not a number" "a number" 0.5
value --frequency-penalty 1e99 "is out of range" "a number" 0.5
value --logit-bias 7 "is no id and number" "a token's id and a number" 42:-100
value --logit-bias 7: "is no id and number" "a token's id and a number" 42:-100
value --logit-bias -7:1 "is no id and number" "a token's id and a number" 42:-100
value --logit-bias 7:nan "is no id and number" "a token's id and a number" 42:-100
value --logit-bias 7:1e99 "is out of range" "a token's id and a number" 42:-100
value --logit-bias 99999999999:1 "is out of range" "a token's id and a number" 42:-100
value --top-k -1 "is out of range" "0 or more; 0 is off" 40
value -n 1.5 "is not a whole number" "0 or more, or -1 for no limit" 64
value -n 99999999999999999999999 "is out of range" "0 or more, or -1 for no limit" 64
value -n -2 "is out of range" "0 or more, or -1 for no limit" 64
value -t 0 "is out of range" "1 to 256" 4
value -t 257 "is out of range" "1 to 256" 4
value -c 0 "is out of range" "1 to 16777216" 2048
value --budget 128 "is out of range" "0 to 127, or -1 to let costs decide" 16
value --seed -1 "is not a whole number" "0 to 18446744073709551615" 7
value --seed 18446744073709551616 "is out of range" "0 to 18446744073709551615" 7
value --drafter x "is unknown" "auto, none, jacobi, lookup, recycle, s4c, firp, dash, dash-direct, draft-model, eagle3, dflash, dspark or medusa" auto
value --drafter-layers 1,x "is no list of layers" "1 to 16 layers with commas between them" 2,15,27
value --verifier x "is unknown" "exact, reject, traversal or typical" exact
value --tree x "is unknown" "fitted, chain or paper" fitted
value --kernels x "is unknown" "ref, avx2, avx512 or amx" ref
value --kv x "is unknown" "f16, f32 or q8_0" f16
value --template x "is unknown" \
    "chatml, llama2, llama3, vicuna, zephyr, mistral, gemma, phi3 or plain" chatml
for device in gpu "" cuda: cuda:x cuda:1x cudas; do
    value --device "$device" "is unknown" "cpu, auto, cuda or cuda:N" cuda:0
done
value --stop "" "is empty" "a text that is not empty" "'User:'"
refused 'foretoken generate: --temp: a value is missing; give 0 or more, as in --temp 0.8' \
    generate -p a --temp

fails "no such model" "foretoken: $tmp/none: cannot be opened: No such file or directory" \
    generate -m "$tmp/none" -p a
fails "a model that is a folder" "foretoken: $tmp: is a directory, not a GGUF file" \
    generate -m "$tmp" -p a
echo "not a model, but text" > "$tmp/text"
fails "a model that is a text" \
    "foretoken: $tmp/text: not a GGUF file: it starts with 'not ' instead of 'GGUF'" \
    inspect "$tmp/text"
# Nothing that is no GGUF file goes unnamed; more in test_notgguf.
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n' > "$tmp/pointer"
fails "a model that is a Git LFS pointer" "foretoken: $tmp/pointer: not a GGUF file: it is a Git LFS \
pointer, not the file itself: run git lfs pull, or download the file" generate -m "$tmp/pointer" -p a
echo '<!doctype html><html>' > "$tmp/page"
fails "a model that is an HTML page" "foretoken: $tmp/page: not a GGUF file: it is an HTML page, what \
a server sends when a download fails: log in if need be, and get the file again" inspect "$tmp/page"
: > "$tmp/empty"
fails "a model that is empty" "foretoken: $tmp/empty: is empty: get it again" tokenize -m "$tmp/empty" < /dev/null
fails "a model whose name is a command to the terminal" \
    "foretoken: $tmp/\\x1b[2J\\xc2\\x9b: cannot be opened: No such file or directory" \
    inspect "$tmp/"$'\e[2J\xc2\x9b'
fails "a prompt whose name is one" "foretoken: cannot open $tmp/\\x1b[2J: No such file or directory" \
    generate -f "$tmp/"$'\e[2J'
fails "no such prompt" "foretoken: cannot open $tmp/none: No such file or directory" \
    generate -f "$tmp/none"
fails "a prompt that is a folder" "foretoken: cannot read $tmp: Is a directory" generate -f "$tmp"
timeout 20 "$program" help > /dev/full 2> "$tmp/err"
[[ $? = 1 && $(cat "$tmp/err") = "foretoken: cannot write to standard output: No space left on device" ]] &&
    ok "help to a full device" || not_ok "help to a full device" "$(cat "$tmp/err")"

# ---- with a model

finish() {
    echo "$n_passed passed, $n_failed failed, $n_skipped skipped"
    [ "$n_failed" = 0 ] || exit 1
    [ "$n_passed" != 0 ] || exit 77
    exit 0
}

stories=${FTK_SHARED_DIR:-}/w-stories260k/stories260K-f32.gguf
demo=${FTK_MODELS_DIR:-}/foretoken-demo-q8_0.gguf
golden=
if [ -r "$stories" ]; then
    model=$stories
    golden=${stories%/*}/greedy_200_text.txt
elif [ -r "$demo" ]; then
    model=$demo
else
    skip "everything that takes a model" "there is neither $stories nor $demo"
    finish
fi
m=(-m "$model")

# generate
matches "generate" . generate "${m[@]}" -p "Once upon a time" -n 12
plain=$out
[ "$err" = "" ] && ok "generate says nothing else" || not_ok "generate says nothing else" "$err"
prints "generate -f" "$plain" generate "${m[@]}" -f - -n 12 < <(printf 'Once upon a time')
prints "generate --option=value" "$plain" generate --model="$model" --prompt="Once upon a time" \
    --tokens=12
for drafter in none jacobi lookup auto; do
    prints "generate --drafter $drafter" "$plain" generate "${m[@]}" -p "Once upon a time" -n 12 \
        --drafter $drafter
    prints "generate --drafter $drafter, the paper's tree" "$plain" generate "${m[@]}" \
        -p "Once upon a time" -n 12 --drafter $drafter --tree paper
    prints "generate --drafter $drafter, one thread, reference kernels" "$plain" \
        generate "${m[@]}" -p "Once upon a time" -n 12 --drafter $drafter -t 1 --budget 5
done
# Devices: with a GPU it runs there, else one line says why not; auto always runs.
run generate "${m[@]}" -p "Once upon a time" -n 12 --device cuda
if [ "$status" = 0 ]; then
    ok "--device cuda"
else
    [[ $status = 1 && $out = "" && $err =~ ^foretoken:\ device\ cuda:\ [^$'\n']+$ ]] &&
        ok "--device cuda, refused in one line" || not_ok "--device cuda" "$status" "$out" "$err"
    run generate "${m[@]}" -p "Once upon a time" -n 12 --device auto
    [[ $status = 0 && $out = "$plain" && $err =~ "; the CPU is used"$ ]] &&
        ok "--device auto goes on" || not_ok "--device auto" "$status" "$out" "$err"
fi
run generate "${m[@]}" -p "Once upon a time" -n 40 --temp 0.8 --seed 7 --drafter none
sampled=$out
prints "sampled text, drafted" "$sampled" generate "${m[@]}" -p "Once upon a time" -n 40 \
    --temp 0.8 --seed 7 --drafter jacobi --budget 16
run generate "${m[@]}" -p "Once upon a time" -n 40 --temp 0.8 --seed 8 --drafter none
[ "$out" != "$sampled" ] && ok "another seed, another text" ||
    not_ok "another seed, another text" "$out"
run generate "${m[@]}" -p "Once upon a time" -n 40
forty=$out
for option in "--presence-penalty 1" "--frequency-penalty 1" "--logit-bias 300:20 --logit-bias 301:19"; do
    run generate "${m[@]}" -p "Once upon a time" -n 40 $option --drafter none
    changed=$out
    [[ $status = 0 && $changed != "$forty" ]] && ok "$option, another text" ||
        not_ok "$option, another text" "$status" "$out" "$err"
    prints "$option, drafted" "$changed" generate "${m[@]}" -p "Once upon a time" -n 40 \
        $option --drafter jacobi --budget 16
done
run generate "${m[@]}" -p a --logit-bias 99999999:1
[[ $status = 1 && $err = *"token 99999999 is not in the vocabulary"* ]] &&
    ok "a bias of no token" || not_ok "a bias of no token" "$status" "$err"
if [ -n "$golden" ] && [ -r "$golden" ]; then
    run generate "${m[@]}" -p "" -n 40 --kernels ref
    [[ $out != "" && $(cat "$golden") = "$out"* ]] && ok "the reference text" ||
        not_ok "the reference text" "$out"
else
    skip "the reference text" "it is not there"
fi
prints "generate -n 0" "" generate "${m[@]}" -p a -n 0
matches "an empty prompt" "" generate "${m[@]}" -p "" -n 3
matches "a prompt that is not UTF-8" "" generate "${m[@]}" -p $'\xff\xfe\xc3' -n 3
head -c 200 "$program" > "$tmp/binary"
matches "a prompt of binary bytes" "" generate "${m[@]}" -f "$tmp/binary" -n 3
prints "--stop" "" generate "${m[@]}" -p "Once upon a time" -n 12 --stop "${plain:0:1}"
prints "--stop, twice" "${plain:0:6}" generate "${m[@]}" -p "Once upon a time" -n 12 \
    --stop "@@@" --stop "${plain:6:4}"
run generate "${m[@]}" -p "Once upon a time" -n 12 --stop "${plain:0:1}" --drafter none --json
[[ $out =~ \"tokens\":\ \[[0-9]+\],\ \"finish\":\ \"stop\", ]] && ok "--stop ends the work" ||
    not_ok "--stop ends the work" "$out"

# The same tokens give the same figures, whatever ends them. The prompt holds the answer, so that drafts
# go beyond the stop text.
again="Once upon a time$plain Once upon a time"
run generate "${m[@]}" -p "$again" -n 30 --drafter lookup --budget 16 --ignore-eos
figures() { # of the JSON in $out: tokens, steps, and their ratio; less is drafted before the end of -n
    sed -E 's/.*("tokens": .*\]), "finish".*("steps": [0-9]+), .*("tokens_per_step": [0-9.]+),.*/\1 \2 \3/' \
        <<< "$out"
}
half=${out:0:12}
for stop in "${half: -3}" "${half: -6:4}" "${half: -1}"; do
    run generate "${m[@]}" -p "$again" -n 30 --drafter lookup --budget 16 --ignore-eos --json --stop "$stop"
    stopped=$(figures) reason=${out#*\"finish\": } tokens=${out#*\"tokens\": [} tokens=${tokens%%]*}
    kept=$(wc -w <<< "$tokens")
    run generate "${m[@]}" -p "$again" -n "$kept" --drafter lookup --budget 16 --ignore-eos --json
    [[ $reason = '"stop"'* && $out = *'"finish": "limit"'* && $(figures) = "$stopped" ]] &&
        ok "figures of $kept tokens ended by --stop and by -n" ||
        not_ok "figures of $kept tokens ended by --stop and by -n" "$stopped" "$(figures)"
    run generate "${m[@]}" -p "$again" -n 30 --drafter lookup --budget 16 --ignore-eos --stop "$stop" --stats
    [[ $err =~ ^\[$kept\ tokens, ]] && ok "--stats counts them, too" ||
        not_ok "--stats counts them, too" "$kept" "$err"
done

run generate "${m[@]}" -p "Once upon a time" -n 12 --json
pattern='^\{"text": ".*", "tokens": \[([0-9]+, ){11}[0-9]+\], "finish": "limit", "prompt_tokens": [0-9]+,'
pattern+=' "steps": [0-9]+, "drafted": [0-9]+, "accepted": [0-9]+, "tokens_per_step": [0-9.]+,'
pattern+=' "prefill_seconds": [0-9.e-]+, "decode_seconds": [0-9.e-]+,'
pattern+=' "tokens_per_second": [0-9.e+]+, "drafter": "auto", "verifier": "exact",'
pattern+=' "lossless": true, "kernels": "[a-z0-9]+", "device": "cpu", "threads": [0-9]+\}$'
[[ $status = 0 && $err = "" && $out =~ $pattern ]] && ok "generate --json" ||
    not_ok "generate --json" "$out" "$err"
for verifier in reject traversal; do
    prints "--verifier $verifier" "$plain" generate "${m[@]}" -p "Once upon a time" -n 12 \
        --verifier $verifier
done
run generate "${m[@]}" -p "Once upon a time" -n 12 --verifier typical --json --stats
pattern='^foretoken: verifier typical is lossy: .*, lossy\]$'
[[ $status = 0 && $out =~ '"verifier": "typical", "lossless": false,' && $err =~ $pattern ]] &&
    ok "a lossy verifier is called so" || not_ok "a lossy verifier is called so" "$out" "$err"
# Trained drafters, beside the bundled model.
demo=(-m "${FTK_MODELS_DIR:-}/foretoken-demo-q8_0.gguf")
if run generate "${demo[@]}" -p "Once upon a time" -n 12 && [ "$status" = 0 ]; then
    prints "--demo" "$out" generate --demo -p "Once upon a time" -n 12
else
    skip "--demo" "$err"
fi
run generate "${demo[@]}" -p "Once upon a time" -n 12 --drafter dash
if [ "$status" = 0 ]; then
    prints "--drafter dash" "$out" generate "${demo[@]}" -p "Once upon a time" -n 12 --drafter none
    run generate "${demo[@]}" -p "Once upon a time" -n 12 --drafter dash-direct --json --stats
    pattern='^foretoken: drafter dash-direct is lossy: .*, lossy\]$'
    [[ $status = 0 && $err =~ $pattern &&
        $out =~ '"drafter": "dash-direct", "verifier": "exact", "lossless": false,' ]] &&
        ok "a lossy drafter is called so" ||
        not_ok "a lossy drafter is called so" "$out" "$err"
    run chat "${demo[@]}" -n 4 < <(printf '/drafter dash-direct\n')
    expect "/drafter with a lossy one" 0 "" "foretoken: drafter dash-direct
foretoken: drafter dash-direct is lossy: it leaves out layers, which changes what the model says"
else
    skip "trained drafters" "$err"
fi
run chat "${m[@]}" -n 4 --verifier typical < <(printf 'Hello\nHello\n')
[[ $status = 0 && $(grep -c "is lossy" <<< "$err") = 1 ]] && ok "chat says so once" ||
    not_ok "chat says so once" "$err"
run generate "${m[@]}" -p "Once upon a time" -n 12 --stats
[[ $out = "$plain" && $err =~ ^\[12\ tokens,\ [0-9.]+\ tokens/s,\ [0-9.]+\ tokens\ per\ step, ]] &&
    ok "generate --stats" || not_ok "generate --stats" "$out" "$err"

run generate "${m[@]}" -p "Once upon a time" -n 99 -c 16 --ignore-eos
pattern='^foretoken: the context of 16 tokens is full; [0-9]+ were generated, a larger -c allows more$'
[[ $status = 1 && $out != "" && $err =~ $pattern ]] && ok "a full context" ||
    not_ok "a full context" "status $status" "$out" "$err"
run generate "${m[@]}" -p "Once upon a time" -n 99 -c 16 --ignore-eos --json
[[ $status = 1 && $out = *'"finish": "context"'* ]] && ok "a full context, in JSON" ||
    not_ok "a full context, in JSON" "$out"
run generate "${m[@]}" -p "Once upon a time" -n 0 --json
[[ $status = 0 && $out = *'"tokens": [], "finish": "limit"'* ]] && ok "no tokens, in JSON" ||
    not_ok "no tokens, in JSON" "$out"
run generate "${m[@]}" -p "Once upon a time, there was a" -n 9 -c 2
pattern='^foretoken: the prompt has [0-9]+ tokens, the context holds 2; shorten it or raise -c$'
[[ $status = 1 && $out = "" && $err =~ $pattern ]] && ok "a prompt that does not fit" ||
    not_ok "a prompt that does not fit" "status $status" "$out" "$err"
run generate "${m[@]}" -p Once -n 3 -c 100000
pattern='^foretoken: -c 100000 is more than the [0-9]+ tokens this model was trained for; '
[[ $status = 0 && $out != "" && $err =~ $pattern ]] && ok "a context beyond the model's" ||
    not_ok "a context beyond the model's" "status $status" "$out" "$err"

matches "generate --chat" "" generate "${m[@]}" -p "Hello" -n 8 --chat --template plain \
    --system "Be kind."
printf 'a\0b' > "$tmp/nul"
fails "a NUL byte in a message" \
    "foretoken: the prompt holds a NUL byte, and --chat takes text only; leave out --chat" \
    generate "${m[@]}" -f "$tmp/nul" -n 3 --chat --template plain
printf '{{ raise_exception("Roles must\x1b[2J alternate") }}' > "$tmp/raises.jinja"
fails "a template that refuses" "foretoken: the chat template, line 1: Roles must\\x1b[2J alternate" \
    generate "${m[@]}" -p Hello -n 3 --chat --template-file "$tmp/raises.jinja"
fails "chat: a template that refuses" "foretoken: the chat template, line 1: Roles must\\x1b[2J alternate" \
    chat "${m[@]}" -n 3 --template-file "$tmp/raises.jinja"
printf 'a\n{%% if %%}' > "$tmp/broken.jinja"
fails "a template that is none" \
    "foretoken: the chat template, line 2: Expected an expression, got 'end of statement block'" \
    generate "${m[@]}" -p Hello -n 3 --chat --template-file "$tmp/broken.jinja"
fails "no template file" "foretoken: cannot open $tmp/none.jinja: No such file or directory" \
    generate "${m[@]}" -p Hello -n 3 --chat --template-file "$tmp/none.jinja"
for vars in x '{' '[]' ''; do
    refused "foretoken generate: --template-vars: \"$vars\" is no JSON object; give a JSON object, as in --template-vars '{\"enable_thinking\": false}'" \
        generate "${m[@]}" -p Hello -n 3 --chat --template plain --template-vars "$vars"
done
refused "foretoken generate: --template-file needs --chat; add it" generate -p a --template-file x
refused "foretoken generate: --template and --template-file exclude each other; give one of them" \
    generate "${m[@]}" -p a --chat --template plain --template-file x
printf '{{ messages[0].content }}{{ more }}' > "$tmp/same.jinja"
run generate "${m[@]}" -p "Once upon a time" -n 8
plain=$out
run generate "${m[@]}" -p "Once upon" -n 8 --chat --template-file "$tmp/same.jinja" \
    --template-vars '{"more": " a time"}'
[[ $status = 0 && $err = "" && $(sed 's/^ //' <<< "$plain") = $(sed 's/^ //' <<< "$out") ]] &&
    ok "a template from a file" || not_ok "a template from a file" "$plain" "$out" "$err"
if [ "$model" = "$stories" ]; then
    run generate "${m[@]}" -p "Hello" -n 8 --chat
    [[ $status = 0 && $err = "foretoken: the model has no chat template; plain is used, which goes by its vocabulary; another one can be chosen with --template" ]] &&
        ok "no chat template" || not_ok "no chat template" "$err"
else
    skip "no chat template" "this model has one"
fi

# output that cannot be written
timeout 60 "$program" generate "${m[@]}" -p Once -n 9 > /dev/full 2> "$tmp/err"
[[ $? = 1 && $(cat "$tmp/err") = "foretoken: cannot write to standard output: No space left on device" ]] &&
    ok "a full device" || not_ok "a full device" "$(cat "$tmp/err")"
timeout 60 "$program" generate "${m[@]}" -p Once -n 9 >&- 2> "$tmp/err"
[[ $? = 1 && $(cat "$tmp/err") = "foretoken: cannot write to standard output: Bad file descriptor" ]] &&
    ok "standard output closed" || not_ok "standard output closed" "$(cat "$tmp/err")"
{ timeout 60 "$program" generate "${m[@]}" -p Once -n 200 --ignore-eos 2> "$tmp/err"
  echo $? > "$tmp/status"; } | head -c 3 > /dev/null
[[ $(cat "$tmp/status") = 0 && ! -s $tmp/err ]] && ok "a reader that leaves" ||
    not_ok "a reader that leaves" "status $(cat "$tmp/status")" "$(cat "$tmp/err")"

# tokenize
matches "tokenize" '^[0-9]+( [0-9]+)*$' tokenize "${m[@]}" < <(printf 'Once upon a time')
prints "tokenize nothing" "" tokenize "${m[@]}" < /dev/null
round_trip() { # NAME FORMAT
    printf "$2" > "$tmp/in"
    timeout 60 "$program" tokenize "${m[@]}" < "$tmp/in" |
        timeout 60 "$program" tokenize "${m[@]}" --decode > "$tmp/back"
    cmp -s "$tmp/in" "$tmp/back" && ok "$1" || not_ok "$1" "$(od -c "$tmp/back" | head -n 5)"
}
round_trip "text and back" 'Hello, world'
round_trip "blanks and newlines and back" '  two  blanks\n\n\tand a tab \n'
round_trip "letters past ASCII and back" 'na\303\257ve \342\202\254 \360\237\230\200'
round_trip "any bytes and back" 'a\000b\377\376\n'
run tokenize "${m[@]}" < <(printf '<s>') && plain_ids=$out
run tokenize "${m[@]}" --special < <(printf '<s>')
[[ $out != "$plain_ids" && $out =~ ^[0-9]+$ ]] && ok "tokenize --special" ||
    not_ok "tokenize --special" "$out" "$plain_ids"
prints "tokenize --decode --special" "<s>" tokenize "${m[@]}" --decode --special < <(echo "$out")
vocab=${FTK_SHARED_DIR:-}/tok-llamacpp-vocabs/ggml-vocab-gpt-2.gguf
if [ -r "$vocab" ]; then
    prints "tokenize with a file that is a vocabulary alone" "15496 995" tokenize -m "$vocab" \
        < <(printf 'Hello world')
    fails "generate with a file that is a vocabulary alone" \
        "foretoken: $vocab: architecture \"gpt2\" is not supported, only llama, qwen2, qwen3, phi3 and gemma3 are" \
        generate -m "$vocab" -p a
else
    skip "tokenize with a file that is a vocabulary alone" "$vocab is missing"
fi
fails "an id that is none" \
    'foretoken: "abc" is not a token id; give whole numbers with blanks between them' \
    tokenize "${m[@]}" --decode < <(echo "1 abc")
run tokenize "${m[@]}" --decode < <(echo "1 9999999999")
pattern='^foretoken: 9999999999 is not a token id of this model; they go from 0 to [0-9]+$'
[[ $status = 1 && $out = "" && $err =~ $pattern ]] && ok "an id out of range" ||
    not_ok "an id out of range" "$out" "$err"

# perplexity
for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
    echo "Once upon a time, there was a little girl named Lily. She loved to play outside."
done > "$tmp/story"
matches "perplexity" \
    '^tokens +[0-9]+.nats per token +[0-9.]+.perplexity +[0-9.]+.bits per byte +[0-9.]+$' \
    perplexity "${m[@]}" -f "$tmp/story" -c 64
matches "perplexity --chunks" \
    '^tokens +[0-9]+.nats per token +[0-9.]+.perplexity +[0-9.]+$' \
    perplexity "${m[@]}" -f "$tmp/story" -c 16 --chunks
run perplexity "${m[@]}" -f "$tmp/story" -c 64 --json
pattern='^\{"tokens": [0-9]+, "bytes": 972, "window": 64, "nats_per_token": [0-9.]+,'
pattern+=' "perplexity": [0-9.]+, "bits_per_byte": [0-9.]+\}$'
[[ $status = 0 && $out =~ $pattern ]] && ok "perplexity --json" || not_ok "perplexity --json" "$out"
counted=$(echo "$out" | sed 's/{"tokens": \([0-9]*\),.*/\1/')
run tokenize "${m[@]}" < "$tmp/story"
[ "$(echo "$out" | wc -w)" = "$counted" ] && ok "every token counts once" ||
    not_ok "every token counts once" "$counted" "$out"
head -n 2 "$tmp/story" > "$tmp/lines"
run perplexity "${m[@]}" -f "$tmp/lines" -c 200 && wide=$out
prints "a window wider than the text changes nothing" "$wide" perplexity "${m[@]}" \
    -f "$tmp/lines" -c 300
fails "an empty text" "foretoken: /dev/null is too short: there is no token to predict" \
    perplexity "${m[@]}" -f /dev/null
refused 'foretoken perplexity: -c: "1" leaves no token to predict; give 2 or more' \
    perplexity "${m[@]}" -f "$tmp/story" -c 1

# inspect
matches "inspect" 'GGUF version [23], .*general.architecture +string +llama' inspect "$model"
matches "inspect: tensors" 'token_embd.weight +[A-Z0-9_]+ +[0-9]+ x [0-9]+ +at [0-9]+ +[0-9]+ bytes' \
    inspect "$model"
matches "inspect: arrays are shortened" 'array +[0-9]+ string: \[.*, \.\.\.\]' inspect "$model"
pattern='^\{"file": ".*", "version": [23], "alignment": [0-9]+, "metadata": \{.*'
pattern+='"general.architecture": \{"type": "string", "value": "llama"\}.*"tensors": \[\{"name": "'
matches "inspect --json" "$pattern" inspect "$model" --json
short=${#out}
[[ $out = *'"shortened": true'* ]] && ok "inspect --json shortens" || not_ok "inspect --json shortens"
run inspect "$model" --json --full
[[ ${#out} -gt $short && $out != *'"shortened": true'* ]] && ok "inspect --json --full" ||
    not_ok "inspect --json --full"
vocab=${FTK_SHARED_DIR:-}/tok-llamacpp-vocabs/ggml-vocab-gpt-2.gguf
if [ -r "$vocab" ]; then
    matches "inspect a vocabulary without a model" ' 0 tensors' inspect "$vocab"
else
    skip "inspect a vocabulary without a model" "$vocab is not there"
fi
head -c 5000 "$model" > "$tmp/cut"
run inspect "$tmp/cut"
[[ $status = 1 && $out = "" && $err = "foretoken: $tmp/cut: "* && $err != *$'\n'* ]] &&
    ok "inspect a file that was cut" || not_ok "inspect a file that was cut" "$status $out $err"

# LoRA adapters
lora=${FTK_LORA:-}
if [ -r "$lora" ]; then
    matches "inspect: an adapter" 'LoRA adapter for llama, alpha 8, rank 4: [0-9]+ pairs, of .*attn_q.*adapter.type +string +lora' \
        inspect "$lora"
    matches "inspect --json: an adapter" '"adapter": \{"architecture": "llama", "alpha": 8.0, "pairs": [0-9]+, "least_rank": 4, "most_rank": 4, "changes": \[.*"attn_q"' \
        inspect "$lora" --json
    demo=(-m "${FTK_MODELS_DIR:-}/foretoken-demo-q8_0.gguf")
    nats() { # ARGUMENTS...: nats per token of the story
        run perplexity "${demo[@]}" -f "$tmp/lines" -c 64 "$@"
        [ "$err" = "" ] && sed -n 's/nats per token  //p' "$tmp/out"
    }
    alone=$(nats) with=$(nats --lora "$lora") half=$(nats --lora-scaled "$lora:0.5")
    none=$(nats --lora-scaled "$lora:0.5" --lora-scaled "$lora:-0.5") twice=$(nats --lora-scaled "$lora:0.5" \
        --lora-scaled="$lora:0.5")
    [[ $alone != "" && $with != "" && $half != "" && $with != "$alone" && $half != "$alone" && $half != "$with" ]] &&
        ok "perplexity --lora" || not_ok "perplexity --lora" "$alone, $with, $half"
    close() { awk "BEGIN { exit !(($1 - $2)^2 < 1e-4) }"; }
    close "$none" "$alone" && close "$twice" "$with" && ok "adapters add up" ||
        not_ok "adapters add up" "$none and $alone, $twice and $with"
    run generate "${demo[@]}" -p "Once upon a time" -n 24 --lora "$lora" --drafter none
    plain=$out
    run generate "${demo[@]}" -p "Once upon a time" -n 24 && [ "$plain" != "$out" ] &&
        ok "generate --lora says something else" || not_ok "generate --lora says something else" "$out"
    prints "generate --lora: drafts change nothing" "$plain" generate "${demo[@]}" -p "Once upon a time" -n 24 \
        --lora "$lora"
    run chat "${demo[@]}" -n 4 --lora "$lora" < <(echo hello)
    [[ $status = 0 && $out != "" && $err = *"cut after 4 tokens"* ]] && ok "chat --lora" || not_ok "chat --lora" "$out" "$err"
    fails "an adapter with -m" "foretoken: $lora: is an adapter, not a model: name the model that it was trained for with -m, and give this file with --lora" \
        generate -m "$lora" -p a
    for kernels in "" "--kernels ref"; do # shellcheck disable=SC2086
        fails "a model with --lora $kernels" "foretoken: ${demo[1]}: is no LoRA adapter: its general.type is not \"adapter\"; a model is named with -m" \
            generate "${demo[@]}" -p a --lora "${demo[1]}" $kernels
    done
    fails "no adapter there" "foretoken: $tmp/none: cannot be opened: No such file or directory" \
        generate "${demo[@]}" -p a --lora "$tmp/none"
else
    skip "LoRA adapters" "FTK_LORA names none"
fi

# A name in a file that would clear the screen, in every place where it is shown.
harmless() { # FILE: nothing in it but text, newlines and tabs
    [ -z "$(LC_ALL=C tr -cd '\000-\010\013-\037\177' < "$1")" ] && ! LC_ALL=C grep -q $'\xc2[\x80-\x9f]' "$1"
}
shown='F\x1b[2J\xc2\x9ben demo'
LC_ALL=C sed 's/Foretoken demo/F\x1b[2J\xc2\x9ben demo/; s/cc-by-sa/a\x1bb\xc2\x85\x7f\x07\x08/' \
    "${FTK_MODELS_DIR:-}/foretoken-demo-q8_0.gguf" > "$tmp/hostile"
run inspect "$tmp/hostile"
[[ $out = *"$shown"* && $out = *'a\x1bb\xc2\x85\x7f\x07\x08-4.0'* ]] && harmless "$tmp/out" &&
    ok "inspect shows no control characters" || not_ok "inspect shows no control characters" "$out"
run inspect "$tmp/hostile" --json
[[ $out = *'"F\u001B[2J\u009Ben demo"'* && $out = *'"a\u001Bb\u0085\u007F\u0007\b-4.0"'* ]] &&
    harmless "$tmp/out" && ok "nor does inspect --json" || not_ok "nor does inspect --json" "$out"
LC_ALL=C sed 's/llama.block_count/llama.bl\x1b[2J_cou\xc2/' "${FTK_MODELS_DIR:-}/foretoken-demo-q8_0.gguf" \
    > "$tmp/hostile-key"
fails "nor a message about a key" "foretoken: $tmp/hostile-key: key llama.bl\\x1b[2J_cou\\xc2: the name is not valid UTF-8 text" \
    inspect "$tmp/hostile-key"

# a byte-pair vocabulary
bpe=${FTK_BPE_MODEL:-}
if [ -r "$bpe" ]; then
    prints "tokenize: byte pairs" "272 277 283 256" tokenize -m "$bpe" < <(printf 'hello world<tool> t')
    prints "tokenize --decode: byte pairs" "hello world<tool> t" tokenize -m "$bpe" --decode \
        < <(echo "272 277 283 256")
    prints "tokenize --special: byte pairs" "281 272 282" tokenize -m "$bpe" --special \
        < <(printf '<|im_start|>hello<|im_end|>')
    run generate -m "$bpe" -p "hello world" -n 4
    [[ $status = 0 && $err = "" ]] && ok "generate: byte pairs" ||
        not_ok "generate: byte pairs" "status $status" "$out" "$err"
    run chat -m "$bpe" -n 4 < <(echo hello)
    [[ $status = 0 && $err != *template* ]] && ok "chat: byte pairs" ||
        not_ok "chat: byte pairs" "status $status" "$out" "$err"
    matches "inspect: byte pairs" 'tokenizer.ggml.pre +string +gpt-2' inspect "$bpe"
    LC_ALL=C sed 's/gpt-2/gpt-9/' "$bpe" > "$tmp/pre"
    run tokenize -m "$tmp/pre" < <(printf hello)
    expect "a pre-tokenizer nobody knows" 0 272 "foretoken: $tmp/pre: tokenizer.ggml.pre is 'gpt-9', \
which is not known: text is cut into words as for 'default', which the model may not have been \
trained with"
    # Types that no pass can run: inspect and tokenize read the file all the same.
    odd() { # TYPE NAME SIZE WHY
        local file=${bpe%.gguf}-$1.gguf
        matches "inspect with type $1" "blk.0.attn_q.weight +$2 +64 x 64 +at [0-9]+ +$3" inspect "$file"
        prints "tokenize with type $1" "272" tokenize -m "$file" < <(printf hello)
        fails "generate with type $1" "foretoken: $file: tensor blk.0.attn_q.weight has type $4: \
convert the model to Q4_K, Q5_K, Q6_K, Q8_0, F16, BF16 or F32" generate -m "$file" -p hello
    }
    odd 33 Q4_0_8_8 "2304 bytes" "Q4_0_8_8, which was removed from the format"
    odd 40 NVFP4 "2304 bytes" "NVFP4, which is not supported"
    odd 77 "type 77" "size unknown" "77, which is newer than this build"
    matches "inspect --json with a type nobody knows" \
        '"name": "blk.0.attn_q.weight", "type": "type 77", "dims": \[64, 64\], "shard": 0, "offset": [0-9]+, "size": null\}' \
        inspect "${bpe%.gguf}-77.gguf" --json
else
    skip "a byte-pair vocabulary" "FTK_BPE_MODEL names no file"
fi

# chat, line by line
c=(chat "${m[@]}" --template chatml)
run "${c[@]}" -n 5 < <(printf 'Hello\n\n   \nAnd then?\n')
[[ $status = 0 && $out != *'>'* && $err != *error* ]] && ok "chat" || not_ok "chat" "$out" "$err"
first=$out
run "${c[@]}" -n 5 --drafter none < <(printf 'Hello\nAnd then?')
[ "$out" = "$first" ] && ok "chat without a drafter says the same" ||
    not_ok "chat without a drafter says the same" "$out" "$first"
run "${c[@]}" -n 5 < <(printf 'Hello\n/reset\nHello\n')
half=$(( (${#out} - 1) / 2 ))
[[ ${out:0:half} = "${out:half+1}" && $err = *"foretoken: the conversation is forgotten"* ]] &&
    ok "/reset" || not_ok "/reset" "$out" "$err"
fails_softly() { # NAME LINE INPUT
    run "${c[@]}" < <(printf '%s\n' "$3")
    expect "$1" 0 "" "$2"
}
fails_softly "an unknown command" 'foretoken: "/sing" is no command; /help lists them' "/sing a song"
fails_softly "/drafter with a wrong name" \
    'foretoken: /drafter: "x" is unknown; give auto, none, jacobi, lookup, recycle, s4c, firp, dash, dash-direct, draft-model, eagle3, dflash, dspark or medusa' "/drafter x"
fails_softly "/drafter" "foretoken: drafter lookup" "/drafter lookup"
for command in /quit /exit /help /reset; do
    fails_softly "$command with a word behind it" "foretoken: $command: \"now\" is one too many; give nothing" \
        "$command now"
done
fails_softly "blanks behind a command" "foretoken: drafter lookup" $'/drafter  lookup \t\r'
fails_softly "/stats with a wrong word" \
    'foretoken: /stats: "x" is unknown; give on, off or nothing' "/stats x"
run "${c[@]}" < <(printf '/help\n/stats\n/quit\nHello\n')
[[ $status = 0 && $out = "" && $err = *"/drafter NAME"*"tokens per step"* ]] &&
    ok "/help, /stats, /quit" || not_ok "/help, /stats, /quit" "$out" "$err"
prints "chat with nothing" "" "${c[@]}" < /dev/null

long=$(printf 'again and %.0s' {1..60})
run "${c[@]}" -c 96 -n 8 < <(printf '%s\nHi\n' "$long")
pattern='^foretoken: this message takes [0-9]+ tokens, [0-9]+ fit; it was not sent: '
[[ $status = 0 && $out != "" && $err =~ $pattern ]] && ok "a message that does not fit" ||
    not_ok "a message that does not fit" "status $status" "$out" "$err"
run "${c[@]}" -c 128 -n 16 < <(for i in 1 2 3 4 5 6 7 8; do echo "Tell me a story $i"; done)
dropped=$(grep -c 'no longer fits the 128 tokens of the context' "$tmp/err")
[[ $status = 0 && $dropped = 1 ]] && ok "old turns are dropped, and that is said once" ||
    not_ok "old turns are dropped, and that is said once" "status $status" "$out" "$err"
slid=$out
run "${c[@]}" -c 128 -n 16 --drafter none < <(for i in 1 2 3 4 5 6 7 8; do echo "Tell me a story $i"; done)
[ "$out" = "$slid" ] && ok "and the answers do not depend on the drafter" ||
    not_ok "and the answers do not depend on the drafter" "$out" "$slid"
run "${c[@]}" -c 48 --system "$long" < <(echo Hi)
pattern='^foretoken: the system message takes [0-9]+ tokens, [0-9]+ fit; shorten it or use a larger -c$'
[[ $status = 1 && $out = "" && $err =~ $pattern ]] && ok "a system message that does not fit" ||
    not_ok "a system message that does not fit" "$out" "$err"
run "${c[@]}" -n 4 < <(printf 'a\000b\nHi\n')
[[ $status = 0 && $err = *"foretoken: a line with a NUL byte in it was left out"* ]] &&
    ok "a line with a NUL byte" || not_ok "a line with a NUL byte" "$err"
timeout 60 "$program" "${c[@]}" -n 4 < <(echo Hi) > /dev/full 2> "$tmp/err"
[[ $? = 1 && $(tail -n 1 "$tmp/err") = "foretoken: cannot write to standard output: No space left on device" ]] &&
    ok "chat to a full device" || not_ok "chat to a full device" "$(cat "$tmp/err")"

# Messages of several lines: one answer each.
answers() { # INPUT: how many
    run "${c[@]}" -n 4 --stats < <(printf "$1")
    grep -c "tokens per step" "$tmp/err"
}
several() { # NAME NUMBER INPUT
    local n
    n=$(answers "$3")
    [ "$n" = "$2" ] && ok "$1" || not_ok "$1" "$n answers, wanted $2" "$err"
}
several "a line is a message" 2 'one\ntwo\n'
several "a backslash at its end goes on" 1 'one\\\ntwo\n'
several "two do not" 2 'one\\\\\ntwo\n'
several "a quoted block" 2 '"""\none\n/help\n\ntwo\n"""\nthree\n'
several "CR LF" 2 '"""one\r\ntwo"""\r\nthree\r\n'
several "a last line without an end" 1 'one\\\ntwo'
run "${c[@]}" -n 4 --stats < <(printf '"""one\ntwo')
[[ $status = 0 && $err = 'foretoken: the """ that opened the last message were not closed: it is taken as far as it came'*"tokens per step"* ]] &&
    ok "a block without an end is said" || not_ok "a block without an end is said" "$err"
run "${c[@]}" -n 4 < <(printf '"""/help"""\n')
[[ $status = 0 && $out != "" && $err != *command* ]] && ok "what is quoted is no command" ||
    not_ok "what is quoted is no command" "$out" "$err"

# Drafters beside the model that nobody named: said, left out, and said again to whoever asks.
mkdir "$tmp/beside"
ln -s "${FTK_MODELS_DIR:-}/foretoken-demo-q8_0.gguf" "$tmp/beside/model.gguf"
head -c 100000 "${FTK_MODELS_DIR:-}/foretoken-demo-s4c.drafter.gguf" > "$tmp/beside/demo-s4c.drafter.gguf"
mkfifo "$tmp/beside/pipe.drafter.gguf"
cut="$tmp/beside/demo-s4c.drafter.gguf: tensor head.0.in: 40096 of its 139264 bytes are missing: the file is cut short, get it again"
warned="foretoken: a drafter is left out: $cut
foretoken: a drafter is left out: $tmp/beside/pipe.drafter.gguf: is not a regular file, so it cannot be mapped"
b=(-m "$tmp/beside/model.gguf")
run generate "${b[@]}" -p "Once upon a time" -n 12 --drafter none && spoken=$out
expect "odd drafters are not looked at with none" 0 "$spoken" ""
for drafter in auto lookup; do
    run generate "${b[@]}" -p "Once upon a time" -n 12 --drafter $drafter
    expect "odd drafters end nothing with $drafter" 0 "$spoken" "$warned"
done
run generate "${b[@]}" -p a --drafter s4c
expect "who asks for one is told" 1 "" "$warned
foretoken: drafter s4c: there is a file, but it was left out: $cut"
run chat "${b[@]}" --drafter none < <(printf '/drafter s4c\n/drafter lookup\n')
expect "in a chat, too" 0 "" "$warned
foretoken: drafter s4c: there is a file, but it was left out: $cut
foretoken: drafter lookup"
run generate "${b[@]}" -p a --drafter-file "$tmp/beside/demo-s4c.drafter.gguf"
expect "a drafter that was named is an error" 1 "" "foretoken: $cut"

# chat in a terminal
if command -v script > /dev/null; then
    typed() { # TYPED ARGUMENTS...: bytes, each after a moment
        local keys=$1
        shift
        { sleep 2; printf '%b' "$keys"; sleep 3; printf '\004'; sleep 1; } |
            timeout 60 script -qec "$(printf '%q ' "$program" "$@")" /dev/null 2>&1
    }
    shown=$(typed 'Hello\r' "${c[@]}" -n 4 --stats)
    [[ $shown = *"/help lists commands"*"Hello"*"tokens per step"* ]] && ok "chat in a terminal" ||
        not_ok "chat in a terminal" "$shown"
    shown=$(typed '\033[200~one\rtwo\r\033[201~\r' "${c[@]}" -n 4 --stats)
    [[ $(grep -c "tokens per step" <<< "$shown") = 1 && $shown = *$'\e[?2004h'*$'\e[?2004l'* ]] &&
        ok "what is pasted is one message" || not_ok "what is pasted is one message" "$shown"
    shown=$(typed '/quit\r' chat -m "$tmp/hostile")
    [[ $shown = *'F\x1b[2J\xc2\x9ben demo, '* && $shown != *$'\e[2J'* ]] &&
        ok "a model's name is no command to the terminal" ||
        not_ok "a model's name is no command to the terminal" "$shown"
    printf '\033[31mred\302\233x\a\ttab\n' > "$tmp/coloured"
    run tokenize "${m[@]}" < "$tmp/coloured"
    echo "$out" > "$tmp/ids"
    shown=$(script -qec "$(printf '%q ' "$program" tokenize "${m[@]}" --decode) < $tmp/ids" /dev/null)
    [ "$shown" = $'[31mredx\ttab\r' ] && ok "nor is a model's text" || not_ok "nor is a model's text" "$shown"
    run tokenize "${m[@]}" --decode < "$tmp/ids"
    cmp -s "$tmp/out" "$tmp/coloured" && ok "a pipe gets all of it" || not_ok "a pipe gets all of it" "$out"
    shown=$(typed 'Hel\003' "${c[@]}")
    [[ $shown = *"Ctrl-C again, or Ctrl-D, leaves"* ]] && ok "Ctrl-C at the prompt" ||
        not_ok "Ctrl-C at the prompt" "$shown"
else
    skip "chat in a terminal" "there is no script(1)"
fi

finish
