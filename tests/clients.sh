#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Real clients, unmodified, against a server: clients.sh FORETOKEN [MODEL]
# openai, LiteLLM, lm-eval (local-completions, local-chat-completions) and guidellm, of the Python that
# FTK_CLIENTS_PYTHON names, or else installed from PyPI into build/clients. Without MODEL, the demo model. Exit
# status: 77 where the packages are not to be had.
set -u
program=$(readlink -f "${1:?give the foretoken program}")
here=$(dirname "$(readlink -f "$0")")
model=(--demo)
[ $# -lt 2 ] || model=(-m "$(readlink -f "$2")")
packages=(openai jsonschema pydantic litellm "lm_eval[api]" guidellm)

skip() {
    echo "CLIENTS ARE NOT TESTED: $1"
    exit 77
}

python=${FTK_CLIENTS_PYTHON:-}
if [ -z "$python" ]; then
    venv=$here/../build/clients
    python=$venv/bin/python
    if ! "$python" -c 'import openai, litellm, lm_eval, guidellm' 2> /dev/null; then
        python3 -m venv "$venv" || skip "python3 -m venv does not work here"
        "$python" -m pip install -q "${packages[@]}" || skip "pip cannot install ${packages[*]}"
    fi
fi
"$python" -c 'import openai, litellm, lm_eval, guidellm' || skip "$python lacks one of ${packages[*]}"

tmp=$(mktemp -d)
export LITELLM_LOCAL_MODEL_COST_MAP=True HF_HUB_OFFLINE=1 HF_DATASETS_CACHE=$tmp/cache TOKENIZERS_PARALLELISM=false
"$program" serve "${model[@]}" --port 0 --metrics-names vllm --template-file "$here/tools.jinja" \
    2> "$tmp/log" &
server=$!
trap 'kill $server; wait $server; rm -rf "$tmp"' EXIT
for _ in $(seq 600); do
    url=$(sed -n 's/.*listening on //p' "$tmp/log")
    [ -z "$url" ] || break
    sleep 0.1
done
[ -n "$url" ] || { cat "$tmp/log"; exit 1; }
name=$("$python" -c 'import json, sys, urllib.request as u
print(json.load(u.urlopen(sys.argv[1] + "/v1/models"))["data"][0]["id"])' "$url")
failed=0
report() { # WHAT STATUS
    if [ "$2" = 0 ]; then echo "ok   $1"; else echo "not ok   $1"; failed=1; fi
}

# ---- openai, LiteLLM

"$python" "$here/clients.py" "$url"
report "openai and LiteLLM" $?

# ---- lm-eval: which word goes on with a pattern

"$python" "$here/clients_lmeval.py" write "$tmp"
lm_eval() { "$python" -m lm_eval "$@" > "$tmp/lm_eval.log" 2>&1 || { tail -40 "$tmp/lm_eval.log"; false; }; }
lm_eval --model local-completions --include_path "$tmp" --tasks pattern_choice,pattern_words --output_path "$tmp/out" \
    --log_samples --model_args "model=$name,base_url=$url/v1/completions,num_concurrent=4,max_retries=1"
report "lm-eval local-completions runs" $?
"$python" "$here/clients_lmeval.py" check "$tmp" "$url" "$program" "${model[@]}"
report "lm-eval local-completions" $?
rm -rf "$tmp/out"
lm_eval --model local-chat-completions --include_path "$tmp" --tasks pattern_words --apply_chat_template \
    --output_path "$tmp/out" --log_samples \
    --model_args "model=$name,base_url=$url/v1/chat/completions,num_concurrent=4,max_retries=1"
report "lm-eval local-chat-completions" $?

# ---- guidellm

printf 'prompt,output_tokens_count\n' > "$tmp/prompts.csv"
for i in $(seq 12); do echo "Tell me what you know of the number $i,24" >> "$tmp/prompts.csv"; done
for path in chat completions; do
    timeout 300 "$python" -m guidellm run --backend "kind=openai_http,target=$url,model=$name,request_format=/v1/${path/#chat/chat/completions}" \
        --profile kind=concurrent,streams=4 --constraint kind=max_requests,count=12 \
        --data "kind=csv_file,path=$tmp/prompts.csv" --disable-console-interactive \
        --output "kind=json,path=$tmp/guide.json" > "$tmp/guide.log" 2>&1
    status=$?
    [ $status = 0 ] || tail -20 "$tmp/guide.log"
    [ $status != 0 ] || "$python" "$here/clients_lmeval.py" guide "$tmp/guide.json"
    report "guidellm, $path" $?
done
grep -q 'sky' "$tmp/log" && report "nothing of prompts is logged" 1
exit $failed
