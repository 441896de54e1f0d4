#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# specbench from outside: specbench.sh FOLDER-OF-PROGRAMS DEMO-MODEL; FTK_SHARED_DIR may be set
set -u
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
check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" > check.out 2>&1; then ok "$name"; else not_ok "$name" "$(cat check.out)" "$(cat err)"; fi
}
run() { # ARGUMENTS...
    timeout 200 "$bin/specbench" "$@" > out 2> err
    status=$?
}
# Ends with this status and this one line and prints nothing: STATUS LINE ARGUMENTS...
ends() {
    local wanted=$1 line=$2
    shift 2
    run "$@"
    if [ $status = "$wanted" ] && [ "$(cat err)" = "$line" ] && [ ! -s out ]; then
        ok "ends with $wanted: $line"
    else
        not_ok "ends with $wanted: $line" "status $status" "err \"$(cat err)\"" "$(head -3 out)" "$*"
    fi
}
refused() { ends 2 "$@"; } # the command line: LINE ARGUMENTS...
fails() { ends 1 "$@"; }   # something else
runs() { # NAME ARGUMENTS...
    local name=$1
    shift
    run "$@"
    if [ $status = 0 ]; then ok "$name"; else not_ok "$name" "status $status" "$(cat err)"; fi
}
# Question, token ids and text of all answers of a folder, without what differs from run to run.
answers() { # DIR
    grep -oH '"question_id":[0-9]*\|"turns":\[.*\],"decoding_steps\|"token_ids_hash":[^]]*' \
        "$1"/run_*/*.jsonl | sed "s,^$1/,," | paste - - - | sort
}
count() { cat "$1"/run_*/*.jsonl 2> /dev/null | wc -l; }

long=$(printf 'the king went away and %.0s' $(seq 300))
cat > questions.jsonl << END
{"question_id": 81, "category": "writing", "turns": ["Tell me a story about a dog.", "Another one, about a cat."]}
{"question_id": 82, "category": "coding", "turns": ["Write a Python function that adds two numbers."]}
{"question_id": 83, "category": "stem", "turns": ["What do bees make?"]}
this is no JSON, but a plain prompt
{"question_id": 161, "category": "translation", "turns": ["Translate German to English: Guten Tag."]}
{"question_id": 241, "category": "summarization", "turns": ["Summarize: $long"]}
{"question_id": 401, "category": "rag", "turns": ["Who wrote Romeo and Juliet?", "$long"]}
{"question_id": 402, "category": "rag" "turns": ["a comma is missing"]}
{"question_id": 81, "category": "rag", "turns": ["twice"]}
{"question_id": 403, "category": "rag", "turns": []}
{"question_id": 404, "category": "rag", "turns": ["a", 5]}
{"question_id": 405, "category": 5, "turns": ["a"]}
{"question_id": "x", "category": "rag", "turns": ["a"]}
{"something": "else"}
{"question": "If I have 20 candies and give away 8, how many are left?", "answer": "#### 12"}
{"task_id": "HumanEval/0", "prompt": "def add(a, b):\n", "test": ""}
END
# shellcheck disable=SC2054 # the commas are the option's
args=(-m "$demo" --questions questions.jsonl --drafters none,jacobi,lookup,auto -t 1 --ctx 1024
    --max-new 16 --repeat 2 --warmup 1)

# ---- a whole run

runs "a run" "${args[@]}" --out whole
check "bad lines are named" cmp <(grep 'line ' err) - << 'END'
questions.jsonl: line 8 is not JSON: left out
questions.jsonl: line 9 has the question_id of an earlier line: left out
questions.jsonl: line 10 has "turns" that are no list of texts: left out
questions.jsonl: line 11 has "turns" that are no list of texts: left out
questions.jsonl: line 12 has a "category" that is no text: left out
questions.jsonl: line 13 has a "question_id" that is no whole number: left out
questions.jsonl: line 14 has no "turns", "question" or "prompt": left out
END
check "the summary counts them" grep -qF 'questions.jsonl: 9, of them 1 skipped, as they do not fit the context of 1024; 7 bad lines' out
check "progress says how much is left" grep -q '^64 of 64 answers; run 2 of 2, .* left$' err
check "eight files of eight answers" eval '[ $(ls whole/run_*/*.jsonl | wc -l) = 8 -a $(count whole) = 64 ]'
check "what was skipped" eval 'grep -q "\"question_id\":241,.*\"skipped\":\"the prompt and an answer do not fit the context\"" whole/skipped.jsonl && [ $(wc -l < whole/skipped.jsonl) = 1 ]'
check "a turn that does not fit is left out" grep -q '"question_id":401,.*"turns_left_out":1' whole/run_1/auto.jsonl
check "two turns" grep -q '"question_id":81,.*"new_tokens":\[[0-9]*,[0-9]*\]' whole/run_1/none.jsonl
check "families take turns" [ "$(grep -oE '"question_id":[0-9]+' whole/run_1/none.jsonl | cut -d: -f2 | paste -sd ' ')" = "81 4 161 401 15 16 82 83" ]
check "families" eval '[ "$(cut -d, -f5 whole/summary.csv | sed -n 2,8p | paste -sd " ")" = "mt_bench translation math_reasoning rag prompt humaneval overall" ]'
check "the numbers, computed again" "$bin/tests/specbench_sums" whole 2
check "all answers equal those of none" eval '[ $(grep -c ",1$" whole/answers.csv) = 64 ]'
check "the table says so" [ "$(grep -c '| yes | 16 of 16 |$' out)" = 4 ]
for word in "$(basename "$demo")" Q8_0 commit processor "1, " "$(date +%Y)"; do
    check "measured on what: $word" grep -qF "$word" whole/summary.md
done
check "the printed table is the file" cmp out whole/summary.md
if command -v gnuplot > /dev/null; then
    for name in speedup accepted rows; do
        check "$name.svg" grep -q "<svg" whole/$name.svg
        check "$name.png" grep -q PNG whole/$name.png
    done
fi

# ---- with an adapter

"$bin/tests/writelora" "$demo" style.gguf
runs "an adapter" "${args[@]}" --limit 1 --repeat 1 --lora style.gguf --out adapted
check "it is written down" grep -qE '"adapters": "style.gguf [0-9a-f]{16}"' adapted/settings.json
check "it says something else" eval '! cmp -s <(answers whole | grep "run_1/none.*:81\b") <(answers adapted | grep "run_1/none.*:81\b")'
run "${args[@]}" --limit 1 --repeat 1 --out adapted
check "without it the run does not go on" grep -qE '^adapted was made with adapters style.gguf [0-9a-f]{16}, not none: give another --out' err

run "${args[@]}" --limit 1 --repeat 1 --lora style.gguf --drafter-file "${demo%-q8_0.gguf}-s4c.drafter.gguf" --out adapted
check "nor with a drafter's file" grep -qE '^adapted was made with drafter files none, not [^ ]*-s4c.drafter.gguf: give another --out' err

# ---- again, and without a model

answers whole > whole.txt
runs "a finished run does nothing more" "${args[@]}" --out whole
check "it is the same" cmp whole.txt <(answers whole)
cp whole/summary.csv before.csv
PATH=$tmp/nothing "$bin/specbench" --report whole > out 2> err
check "a report without a model and without gnuplot" [ $? = 0 ]
check "it says so" grep -qx 'gnuplot is not installed: there will be no pictures, all else is there' err
check "the same report" cmp before.csv whole/summary.csv
cat > peers.csv << 'END'
peer,family,tokens_per_second,baseline_tokens_per_second,mean_accepted,note
llama.cpp lookup,overall,150,100,1.8,version x
llama.cpp draft,rag,120,100,,
END
runs "peers" --report whole --peers peers.csv
check "peers are shown" grep -qE '^\| llama.cpp lookup \| overall \| 150.0 \| 1.50 \| [0-9.]+ \| 1.80 \| version x \|$' out
echo "nonsense" >> peers.csv
runs "a bad line of peers" --report whole --peers peers.csv
check "it is named" grep -q '^peers.csv: line 4 is not peer,family,' err

fails "--peers none.csv: No such file or directory: give a CSV file; bench/peers.md tells more" \
    --report whole --peers none.csv

# ---- killed, and gone on with

kills=0
for _ in $(seq 40); do
    had=$(count killed)
    "$bin/specbench" "${args[@]}" --out killed > out 2> err &
    pid=$!
    while kill -0 $pid 2> /dev/null && [ "$(count killed)" -lt $((had + 9)) ]; do sleep 0.01; done
    if kill -9 $pid 2> /dev/null; then kills=$((kills + 1)); fi
    wait $pid 2> /dev/null
    status=$?
    [ $kills = 2 ] && printf '{"question_id":81,"category":"wri' >> killed/run_2/lookup.jsonl
    [ $status = 0 ] && break
done
check "killed $kills times, then finished" [ $status = 0 -a $kills -ge 3 ]
check "killed: the same answers, each once" cmp whole.txt <(answers killed)
check "killed: the numbers, computed again" "$bin/tests/specbench_sums" killed 2
head -c -40 killed/run_1/auto.jsonl > torn && cp torn killed/run_1/auto.jsonl
runs "a torn last line" "${args[@]}" --out killed
check "it is named" grep -qx 'killed/run_1/auto.jsonl: the last line is torn: cut off, its question is asked again' err
check "it is asked again" cmp whole.txt <(answers killed)

# ---- refusals

refused "usage: specbench -m MODEL --questions FILE --out DIR [options]; specbench --help tells more" \
    -m "$demo" --questions questions.jsonl
refused "--wide is unknown: see specbench --help" --wide 3
refused "--out needs a value, or is unknown: see specbench --help" --out
refused "--max-new 0: give a whole number from 1 to 1048576" --max-new 0
refused "--temp warm: give a number from 0 to 100" --temp warm
drafters=$("$bin/specbench" -m x --questions x --out x --drafters x 2>&1 | sed -n 's/.*give some of \(.*\), with.*/\1/p')
refused "--drafters: there is no \"guess\": give some of $drafters, with commas between them" \
    "${args[@]}" --out new --drafters none,guess
refused "--drafters: there is no \"\": give some of $drafters, with commas between them" \
    "${args[@]}" --out new --drafters none,
refused "--verifiers: there is no \"\": give some of exact, reject, traversal, typical, with commas between them" \
    "${args[@]}" --out new --verifiers ,
fails "none.jsonl: No such file or directory: give a file of questions" \
    "${args[@]}" --out new --questions none.jsonl
fails "none.gguf: cannot be opened: No such file or directory" -m none.gguf \
    --questions <(echo "a prompt") --out new
echo "a prompt" > prompts.txt
args=("${args[@]}" --questions prompts.txt)
refused "--ctx 4096: the model's context is 2048: give that or less" "${args[@]}" --ctx 4096 --out new
refused "--template x: there is none of that name: see foretoken help chat" "${args[@]}" --template x --out new
fails "none/new cannot be made: No such file or directory" "${args[@]}" --out none/new
check "nothing was made" [ ! -e new ]
fails "whole was made with questions questions.jsonl, not prompts.txt: give another --out, or the options it was made with" \
    "${args[@]}" --out whole
runs "plain prompts" "${args[@]}" --out plain
fails "plain was made with max-new 16, not 8: give another --out, or the options it was made with" \
    "${args[@]}" --out plain --max-new 8
fails "plain was made with methods none,jacobi,lookup,auto, not none,lookup: give another --out, or the options it was made with" \
    "${args[@]}" --out plain --drafters lookup
mkdir full && touch full/file
fails "full holds other files and no settings.json: give a new folder" "${args[@]}" --out full
check "it is as it was" [ "$(ls full)" = file ]
if command -v flock > /dev/null; then
    flock plain timeout 100 "$bin/specbench" "${args[@]}" --out plain > out 2> err
    check "two at once" grep -qx 'plain is in use by another specbench: wait for it, or give another --out' err
fi
fails "full/settings.json is no settings file of specbench: give a folder that it made" --report full
cp -r plain twice && cat plain/run_1/none.jsonl >> twice/run_1/none.jsonl
fails "twice/run_1/none.jsonl: line 2 answers question 1 again: remove one of the two" "${args[@]}" --out twice
echo "damage" > twice/run_1/none.jsonl
fails "twice/run_1/none.jsonl: line 1 is no answer: remove the line, it will be asked again" "${args[@]}" --out twice
seq 2000 | paste -sd ' ' > prompts.txt
fails "no question fits a context of 1024 tokens: give a larger --ctx, or another model" "${args[@]}" --out new
printf '\n' > prompts.txt
fails "prompts.txt: holds no questions" "${args[@]}" --out new
printf 'What do bees make?\n' > prompts.txt

# ---- other ways to run

runs "above temperature 0" -m "$demo" --questions questions.jsonl --limit 1 --temp 0.8 --seed 3 -t 1 \
    --ctx 256 --max-new 16 --repeat 1 --warmup 0 --out warm
check "equal there too" eval '[ $(grep -c ",1$" warm/answers.csv) = $(($(wc -l < warm/answers.csv) - 1)) ]'
check "a limit for each family" grep -q '"question_id":81' warm/run_1/none.jsonl -a
check "of one question" eval '! grep -q "\"question_id\":8[23]" warm/run_1/none.jsonl'
runs "a full context" -m "$demo" --questions questions.jsonl --limit 1 --temp 1.5 -t 1 --ctx 128 \
    --max-new 100 --repeat 1 --warmup 0 --out room
check "is said" grep -q '"finish":\[.*"context"' room/run_1/none.jsonl
"$bin/makemodel" --dim 64 --layers 1 --heads 2 --ffn 64 --vocab 512 --context 256 random.gguf > /dev/null
runs "a model without a template" -m random.gguf --questions prompts.txt -t 1 --max-new 8 --repeat 1 \
    --drafters none --out random
check "the fallback is said once" [ "$(grep -cx 'the model has no chat template: plain is used, another one can be chosen with --template' err)" = 1 ]
# Nothing in it but text, newlines and tabs.
harmless() { # FILES
    [ -z "$(cat "$@" | LC_ALL=C tr -cd '\000-\010\013-\037\177')" ] && ! LC_ALL=C grep -q $'\xc2[\x80-\x9f]' "$@"
}
LC_ALL=C sed 's/Foretoken demo/F\x1b[2J\xc2\x9ben demo/' "$demo" > hostile.gguf
echo '{"question_id": 1, "category": "a\u001b[2J\u009b", "turns": ["What do bees make?"]}' > hostile.jsonl
runs "names that are commands to a terminal" -m hostile.gguf --questions hostile.jsonl -t 1 --max-new 8 \
    --repeat 1 --drafters none --warmup 0 --out hostile
check "reach none" harmless out err hostile/summary.md
check "but can be read" eval 'grep -qF "F[2Jen demo" out && grep -qF "a\x1b[2J\xc2\x9b" err'
data=${FTK_SHARED_DIR:-none}/spec-bench/question.jsonl
if [ -e "$data" ]; then
    runs "Spec-Bench's own questions" -m "$demo" --questions "$data" --drafters lookup --limit 1 \
        --max-new 4 --repeat 1 --warmup 0 -t 1 --out spec
    check "six families" eval '[ "$(cut -d, -f5 spec/summary.csv | sed -n 2,8p | paste -sd " ")" = "mt_bench translation summarization qa math_reasoning rag overall" ]'
    check "their numbers, computed again" "$bin/tests/specbench_sums" spec 1
else
    echo "skipped: Spec-Bench's own questions, which are not at $data"
fi

echo "$n_passed passed, $n_failed failed"
[ $n_failed = 0 ]
