#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Three steps of each trainer, on lessons of the demo model: trainers.sh FOLDER-OF-PROGRAMS SOURCE DEMO-MODEL
# Needs PyTorch and the package gguf; FTK_PYTHON names the Python that has them (python3).
set -u
bin=$(readlink -f "${1:?give the folder of the programs}")
train=$(readlink -f "${2:?give the repository}")/drafters/train
demo=$(readlink -f "${3:?give the demo model}")
# shellcheck source=tests/trainerchecks.sh
. "$(dirname "$0")/trainerchecks.sh" drafters/train/requirements.txt torch gguf numpy

trainer() { # FAMILY OPTIONS...
    local family=$1
    shift
    timeout 900 "$python" "$train/train_$family.py" "$demo" lessons "demo-$family.drafter.gguf" "$@"
}

for i in $(seq 60); do
    echo "{\"prompt\": \"Tell me a story about $i animals and the number $((i * 7)).\"}"
done > prompts.jsonl
"$bin/teach" -m "$demo" -o lessons --answer 100 --state 9 --states 2,6,9 prompts.jsonl 2> out || { cat out; exit 1; }

for family in s4c firp dash; do
    check "$family learns" "3 steps in .* wrote demo-$family.drafter.gguf" trainer $family --steps 3
    check "$family goes on" "going on at step 3" trainer $family --steps 4
    check "$family says what it gives" "^\| " trainer $family --steps 4
    check "$family is a drafter" "drafter.family +string +$family" "$bin/foretoken" inspect "demo-$family.drafter.gguf"
done
msn() {
    timeout 900 "$python" "$train/train_msn.py" "$demo" lessons demo-msn.lora.gguf "$@"
}
check "msn learns" "3 steps in .* wrote demo-msn.lora.gguf" msn --steps 3
check "msn goes on" "going on at step 3" msn --steps 4
check "msn says what it gives" "^\| with the adapter" msn --steps 4
check "msn is an adapter" "adapter.type +string +lora" "$bin/foretoken" inspect demo-msn.lora.gguf
"$bin/foretoken" generate -m "$demo" --lora demo-msn.lora.gguf --drafter jacobi -n 48 --temp 0 -p "Once upon a time" > j 2> out
"$bin/foretoken" generate -m "$demo" --lora demo-msn.lora.gguf --drafter none -n 48 --temp 0 -p "Once upon a time" > n 2> out
check "msn drafts, and is exact" same eval "[ -s j ] && cmp j n && echo same"
eagle() {
    timeout 900 "$python" "$train/train_eagle.py" "$demo" lessons demo-eagle3 "$@"
}
check "eagle3 learns" "3 steps in .* wrote demo-eagle3, " eagle --steps 3
check "eagle3 goes on" "going on at step 3" eagle --steps 4
check "eagle3 says what it gives" "^\| " eagle --steps 4
check "eagle3 is a head" "midlayer.self_attn.q_proj.weight  BF16" "$bin/foretoken" inspect demo-eagle3
dspark() {
    timeout 900 "$python" "$train/train_dspark.py" "$demo" lessons demo-dspark --layers 1 --rank 16 "$@"
}
check "dspark learns" "3 steps in .* wrote demo-dspark, " dspark --steps 3
check "dspark goes on" "going on at step 3" dspark --steps 4
check "dspark says what it gives" "^\| " dspark --steps 4
check "dspark is a head" "markov_head.markov_w2.weight  BF16" "$bin/foretoken" inspect demo-dspark
rm -f ./*.resume.pt
check "a head of DSpark of frequent tokens" "wrote demo-dspark, " dspark --steps 3 --draft-vocab 512
check "a head of frequent tokens" "wrote demo-eagle3, " eagle --steps 3 --draft-vocab 512
mv demo-s4c.drafter.gguf before.gguf
check "heads of frequent tokens, from others on" "wrote demo-s4c.drafter.gguf" trainer s4c --steps 1 --lr 1e-6 \
    --draft-vocab 512 --start before.gguf
start_is_kept() { # the heads are as before, but for the rounding and one tiny step
    "$python" -c 'import sys, gguf, numpy as np
read = lambda path: [gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors]
old, new = read("before.gguf"), read("demo-s4c.drafter.gguf")
eye = max(abs(m[:, -m.shape[0]:] - np.eye(m.shape[0])).max() for m in old[::2])
print("off", max(abs(a - b).max() for a, b in zip(old, new)), "of", eye)
sys.exit(not max(abs(a - b).max() for a, b in zip(old, new)) < eye / 4)' && echo kept
}
check "heads go on from those" kept start_is_kept
refused "its family is firp, wanted is s4c" trainer s4c --steps 1 --start demo-firp.drafter.gguf --draft-vocab 256
refused "its heads is 5, wanted is 3" trainer s4c --steps 1 --heads 3 --start before.gguf --draft-vocab 256
refused "its chained is 1, wanted is 0" trainer s4c --steps 1 --independent --start before.gguf --draft-vocab 256
refused "no drafter's file" trainer s4c --steps 1 --start prompts.jsonl --draft-vocab 256
for drafter in none s4c firp dash; do
    "$bin/foretoken" generate -m "$demo" --drafter $drafter -n 48 --temp 0 -p "Once upon a time" > $drafter.text \
        $([ $drafter = none ] || echo --drafter-file "demo-$drafter.drafter.gguf") 2> out || cat out
    check "$drafter drafts" . cat $drafter.text
    check "$drafter is exact" same eval "cmp none.text $drafter.text && echo same"
done
"$bin/foretoken" generate -m "$demo" --drafter eagle3 --drafter-file demo-eagle3 --budget 6 -n 48 --temp 0 \
    -p "Once upon a time" > eagle3.text 2> found
check "eagle3 says what was found" "eagle3: states entering layers 2, 6, 9 of 12; 512 of 4096 tokens" cat found
check "eagle3 is exact" same eval "cmp none.text eagle3.text && echo same"
"$bin/foretoken" generate -m "$demo" --drafter dspark --drafter-file demo-dspark --budget 6 -n 48 --temp 0 \
    -p "Once upon a time" > dspark.text 2> found
check "dspark says what was found" "dspark: states entering layers 2, 6, 9 of 12; 512 of 4096 tokens.*a Markov head" cat found
check "dspark is exact" same eval "cmp none.text dspark.text && echo same"
check "eagle3 as llama.cpp's GGUF" "wrote demo-eagle3.gguf" "$python" "$train/head_gguf.py" demo-eagle3 "$demo" \
    demo-eagle3.gguf
check "with rows of the output matrix" "output.weight +Q8_0" "$bin/foretoken" inspect demo-eagle3.gguf
"$bin/foretoken" generate -m "$demo" --drafter eagle3 --drafter-file demo-eagle3.gguf --budget 6 -n 48 --temp 0 \
    -p "Once upon a time" > eagle3.text 2> found
check "and says what was found" "512 of 4096 tokens; as llama.cpp writes it" cat found
check "and is exact" same eval "cmp none.text eagle3.text && echo same"
mkdir beside
cp "$demo" beside/demo.gguf
cp demo-eagle3.gguf beside/demo-eagle3.drafter.gguf
"$bin/foretoken" generate -m beside/demo.gguf --drafter eagle3 --budget 6 -n 48 --temp 0 -p "Once upon a time" \
    > eagle3.text 2> found
check "what was found beside the model is said, too" "eagle3: states entering layers 2, 6, 9 of 12" cat found
check "and is found beside the model" same eval "cmp none.text eagle3.text && echo same"
check "dspark as llama.cpp's GGUF" "wrote demo-dspark.gguf" "$python" "$train/head_gguf.py" demo-dspark "$demo" \
    demo-dspark.gguf
check "with what it needs alone" "wrote demo-dspark-lean.gguf" "$python" "$train/head_gguf.py" demo-dspark "$demo" \
    demo-dspark-lean.gguf --lean
for kind in dspark dspark-lean; do
    "$bin/foretoken" generate -m "$demo" --drafter dspark --drafter-file demo-$kind.gguf --budget 6 -n 48 --temp 0 \
        -p "Once upon a time" > dspark.text 2> found
    check "$kind says what was found" "dspark: states entering layers 2, 6, 9 of 12; 512 of 4096 tokens.*as llama.cpp" \
        cat found
    check "$kind is exact" same eval "cmp none.text dspark.text && echo same"
done
refused "holds no head" "$python" "$train/head_gguf.py" . "$demo" x.gguf

refused "of another model or other options" trainer s4c --steps 5 --heads 3
refused "holds no lessons" "$python" "$train/train_s4c.py" "$demo" . x.gguf --steps 1
refused "this model has 4096 tokens" trainer s4c --steps 3 --draft-vocab 5000
refused "has to lie in 0-11" msn --steps 3 --layers 3-12
refused "--lr has to be from" trainer firp --steps 3 --lr 7
refused "there is no such folder" "$python" "$train/train_s4c.py" "$demo" lessons no/x.gguf --steps 1
refused "cannot load the model $tmp/prompts.jsonl" "$python" "$train/train_s4c.py" "$tmp/prompts.jsonl" lessons x.gguf \
    --steps 1
rm -rf lessons
"$bin/teach" -m "$demo" -o lessons --answer 100 prompts.jsonl 2> out || cat out
refused "holds no states" trainer firp --steps 3
refused "run teach with --states, say --states 2,6,9" eagle --steps 3
refused "run teach with --states, say --states 2,6,9" dspark --steps 3
sed -i 's/"model": "/"model": "0/' lessons/lessons.json
refused "holds lessons of the model 0" trainer s4c --steps 3
[ $n_failed = 0 ]
