#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Spec-Bench's protocol over a running llama-server; peers.md tells the whole of it.
#   peers.sh ask URL QUESTIONS.jsonl [MAX-NEW [LIMIT-PER-FAMILY]] > ANSWERS.tsv
#   peers.sh table NAME PLAIN.tsv ANSWERS.tsv [NOTE]              lines for specbench --peers
set -euo pipefail

need() {
    command -v "$1" > /dev/null || { echo "$1 is not installed: apt-get install $1" >&2; exit 1; }
}

# family, question, tokens, tokens that were drafted and accepted, seconds, the answers
ask() {
    local url=$1 file=$2 most=${3:-1024} limit=${4:-1000000} question family id messages reply turn n
    need curl
    need jq
    declare -A had
    while IFS= read -r question; do
        family=$(jq -r '.category as $c | if ["writing", "roleplay", "reasoning", "math", "coding",
            "extraction", "stem", "humanities"] | index($c) then "mt_bench" else $c end' <<< "$question")
        had[$family]=$((${had[$family]:-0} + 1))
        [ "${had[$family]}" -le "$limit" ] || continue
        id=$(jq .question_id <<< "$question")
        messages='[]'
        local tokens=0 accepted=0 seconds=0 texts='[]'
        for ((turn = 0; turn < $(jq '.turns | length' <<< "$question"); turn++)); do
            messages=$(jq -c --argjson q "$question" \
                ". + [{role: \"user\", content: \$q.turns[$turn]}]" <<< "$messages")
            reply=$(jq -c --argjson n "$most" '{messages: ., max_tokens: $n, temperature: 0,
                cache_prompt: false}' <<< "$messages" | curl -sS --fail-with-body -w '\n%{time_total}' \
                -H 'Content-Type: application/json' --data-binary @- "$url/v1/chat/completions") || {
                echo "question $id: $reply: left out" >&2
                continue 2
            }
            n=${reply##*$'\n'}
            reply=${reply%$'\n'*}
            tokens=$((tokens + $(jq '.timings.predicted_n' <<< "$reply")))
            accepted=$((accepted + $(jq '.timings.draft_n_accepted // 0' <<< "$reply")))
            seconds=$(awk -v a="$seconds" -v b="$n" 'BEGIN { printf "%.6f", a + b }')
            texts=$(jq -c --argjson r "$reply" '. + [$r.choices[0].message.content]' <<< "$texts")
            messages=$(jq -c --argjson r "$reply" \
                '. + [{role: "assistant", content: $r.choices[0].message.content}]' <<< "$messages")
        done
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$family" "$id" "$tokens" "$accepted" "$seconds" "$texts"
    done < "$file"
}

# Tokens per second as the mean over questions; tokens per step with the bonus token.
table() {
    awk -F '\t' -v name="$1" -v note="${4:-}" '
        function add(k) {
            n[k, f]++
            rate[k, f] += $3 / $5
            tokens[k, f] += $3
            steps[k, f] += $3 - $4
        }
        FNR == 1 { f++ }
        f == 1 { plain[$2] = $6 }
        f == 2 { compared++; equal += plain[$2] == $6 }
        { add($1); add("overall"); families[$1]; families["overall"] }
        END {
            for (k in families)
                if (n[k, 1] && n[k, 2])
                    printf "%s,%s,%.3f,%.3f,%.4f,%s%d of %d equal to plain\n", name, k,
                        rate[k, 2] / n[k, 2], rate[k, 1] / n[k, 1], tokens[k, 2] / steps[k, 2],
                        note == "" ? "" : note "; ", equal, compared
        }' "$2" "$3" | sort
}

case ${1:-}:$# in
    ask:[3-9]*) shift; ask "$@" ;;
    table:[4-9]*) shift; table "$@" ;;
    *)
        echo "usage: peers.sh ask URL QUESTIONS.jsonl [MAX-NEW [LIMIT-PER-FAMILY]], or peers.sh table NAME" \
            "PLAIN.tsv ANSWERS.tsv [NOTE]; bench/peers.md tells the whole of it" >&2
        exit 2
        ;;
esac
