#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Three steps of the diffusion trainers, and the converters: diffusion_trainers.sh SOURCE
# Needs PyTorch, gguf and scikit-learn, for the converters diffusers too; FTK_PYTHON names the Python (python3).
set -u
source=$(readlink -f "${1:?give the repository}")
train=$source/src/diffusion/train
# shellcheck source=tests/trainerchecks.sh
. "$(dirname "$0")/trainerchecks.sh" src/diffusion/train/requirements.txt torch gguf numpy sklearn
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
mkdir runs

run() { # SCRIPT OPTIONS...
    local script=$1
    shift
    timeout 600 "$python" "$train/$script.py" "$@"
}

small() {
    run train_dit small.gguf --layers 2 --dim 32 --heads 2 --batch 8 --threads 1 --eager "$@"
}
check "dit learns" "^3 steps in .* wrote small.gguf" small --steps 3 --show 1
check "dit goes on" "going on at step 3" small --steps 4
refused "of a model with other options" small --steps 5 --dim 64
refused "--steps has to be from 1 to" small --steps 0
refused "--heads has to be from 1 to" run train_dit x.gguf --heads 0
refused "--muon-lr has to be from 0 to" run train_dit x.gguf --muon-lr nan
refused "it is a folder" run train_dit runs --steps 1
mkfifo pipe
for script in "train_dit pipe" "train_classifier pipe" "train_l2c small.gguf pipe" "convert_dit small.gguf pipe"; do
    # shellcheck disable=SC2086 # words
    refused "cannot write pipe: it is no regular file" run $script
done
refused "small.gguf is what is read" run convert_dit small.gguf ./small.gguf
refused "there is no such folder" run train_l2c small.gguf no/x.gguf
refused "--cost has to be from 0 to" run train_l2c small.gguf x.gguf --cost nan
refused "--steps has to be from 2 to 1000" run train_l2c small.gguf x.gguf --steps 1
refused "--count has to be from 1 to" run sample_dit small.gguf --count 0
refused "there is no such folder" run sample_dit small.gguf -o no/x.npy
head -c 3000 small.gguf > cut.gguf
refused "cannot read cut.gguf" run train_l2c cut.gguf x.gguf
refused "there is no such folder" run train_dit no/x.gguf --steps 1
refused "has to be a multiple of 4 x --heads" run train_dit x.gguf --dim 36 --heads 4
cp small.gguf small.gguf.resume.pt
refused "cannot load small.gguf.resume.pt" small --steps 5
check "a router is learned" "wrote routed.gguf" run train_l2c small.gguf routed.gguf --steps 10 --updates 3 --threads 1
check "a second router" "wrote routed.gguf" run train_l2c routed.gguf routed.gguf --steps 5 --updates 3 --threads 1
check "both are there" "2 routers: 10 steps, 5 steps" run train_l2c routed.gguf --list
refused "cannot read no.gguf" run train_l2c no.gguf x.gguf
check "the classifier learns" "wrote judge.npz" run train_classifier judge.npz --epochs 1
check "pictures are judged" "^plain +10 " run sample_dit small.gguf --judge judge.npz --steps 10 --count 70 --threads 1 \
    -o runs/a.npy

judged() { "$python" "$source/bench/diffusion.py" "$@"; }
runs() { # LINE...: what bench-diffusion writes
    echo "method,setting,seed,steps,guidance,samples,file,seconds,macs,macs_plain,computed,partial,reused,forecast,skipped,verified,rejected"
    printf '%s\n' "$@"
}
plain=none,,0,10,1.5,70,a.npy,9,8,8,1,0,0,0,0,0,0
fora=fora,interval=2,0,10,1.5,70,a.npy,6,4,8,.5,0,.5,0,0,0,0
runs $plain $fora > runs/runs.csv
check "a bench is judged" "^\| FORA \| interval=2 \| 10 \| 1.50 \| 2.00 \|" judged runs
check "by counted work" "^\\| FORA \\| interval=2 \\| 10 \\| 2.00 \\| [0-9.]+ \\|" judged runs --counted
check "and summed up" "^none,,1," grep none runs/summary.csv
mkdir quiet
runs ${plain/,9,/,12,} ${fora/,6,/,3,} > quiet/runs.csv
check "with times of other runs" "^\| FORA \| interval=2 \| 10 \| 4.00 \| 2.00 \|" judged runs --timed quiet
refused "--timed: there is no run of fora interval=2" eval "runs $plain > quiet/runs.csv; judged runs --timed quiet"
refused "there is no run of the method none with the seed 0" eval "runs $fora > runs/runs.csv; judged runs"
refused "line 2: seconds is '', a number is wanted" eval "runs ${plain/,9,/,,} > runs/runs.csv; judged runs"
refused "line 2: the column rejected is missing" eval "runs ${plain%,0} > runs/runs.csv; judged runs"
refused "line 2: the column cpu_seconds is missing" eval "runs $plain > runs/runs.csv; judged runs --cpu"
refused "70 pictures, 71 are said to be there" eval "runs ${plain/,70,/,71,} > runs/runs.csv; judged runs"
refused "cannot read runs/b.npy" eval "runs ${plain/a.npy/b.npy} > runs/runs.csv; judged runs"
refused "there are no runs in it" eval "runs > runs/runs.csv; judged runs"
refused "cannot read no/runs.csv" judged no
refused "cannot read the classifier no.npz" eval "runs $plain > runs/runs.csv; judged runs --classifier no.npz"

if ! "$python" -c 'import diffusers, safetensors' 2> /dev/null; then
    echo "SKIPPED in part: $python has no diffusers or safetensors: pip install -r src/diffusion/train/requirements.txt"
    [ $n_failed = 0 ]
    exit
fi
check "checkpoints are converted" "^ok +empty" "$python" "$source/tests/dit_checkpoints.py" .
[ $n_failed = 0 ]
