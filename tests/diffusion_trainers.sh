#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Three steps of the diffusion trainers, and the converters: diffusion_trainers.sh SOURCE
# Needs PyTorch, gguf and scikit-learn, for the converters diffusers too; FTK_PYTHON names the Python (python3).
set -u
source=$(readlink -f "${1:?give the repository}")
train=$source/src/diffusion/train
python=${FTK_PYTHON:-python3}
if ! "$python" -c 'import torch, gguf, numpy, sklearn' 2> /dev/null; then
    echo "SKIPPED: $python has no torch, gguf, numpy or scikit-learn: pip install -r src/diffusion/train/requirements.txt"
    exit 77
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
n_failed=0

check() { # NAME PATTERN COMMAND...: succeeds, and says something that matches
    local name=$1 pattern=$2
    shift 2
    if "$@" > out 2>&1 && grep -Eq -- "$pattern" out; then
        echo "ok   $name"
    else
        n_failed=$((n_failed + 1))
        echo "not ok   $name: wanted $pattern"
        sed 's/^/    /' out
    fi
}

refused() { # LINE COMMAND...: fails with this one line
    local line=$1
    shift
    if ! "$@" > /dev/null 2> out && [ "$(wc -l < out)" = 1 ] && grep -Fq -- "$line" out; then
        echo "ok   refused: $line"
    else
        n_failed=$((n_failed + 1))
        echo "not ok   refused: $line"
        sed 's/^/    /' out
    fi
}

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
refused "--steps has to be at least 1" small --steps 0
refused "there is no such folder" run train_dit no/x.gguf --steps 1
refused "has to be a multiple of 4 x --heads" run train_dit x.gguf --dim 36 --heads 4
cp small.gguf small.gguf.resume.pt
refused "cannot load small.gguf.resume.pt" small --steps 5
check "a router is learned" "wrote routed.gguf" run train_l2c small.gguf routed.gguf --steps 10 --updates 3 --threads 1
check "a second router" "wrote routed.gguf" run train_l2c routed.gguf routed.gguf --steps 5 --updates 3 --threads 1
check "both are there" "2 routers: 10 steps, 5 steps" run train_l2c routed.gguf --list
refused "cannot read no.gguf" run train_l2c no.gguf x.gguf
check "the classifier learns" "wrote judge.npz" run train_classifier judge.npz --epochs 1
check "pictures are judged" "^plain +10 " run sample_dit small.gguf --judge judge.npz --steps 10 --count 70 --threads 1

if ! "$python" -c 'import diffusers, safetensors' 2> /dev/null; then
    echo "SKIPPED in part: $python has no diffusers or safetensors: pip install -r src/diffusion/train/requirements.txt"
    [ $n_failed = 0 ]
    exit
fi
points() { "$python" "$source/tests/dit_checkpoints.py" "$@"; }
convert() { run convert_dit "$1" c.gguf --type f32 "${@:2}"; }
points write . 2> out || { cat out; exit 1; }
points bad . 2> out || { cat out; exit 1; }
for name in latent pixel; do
    check "$name is converted" "wrote c.gguf" convert $name
    check "$name computes as diffusers does" "differs by" points check c.gguf $name
done
check "a pipeline is converted" "wrote c.gguf" convert pipeline
check "and has class names" "differs by .*'kind 0', 'kind 1'" points check c.gguf latent
check "a state dict is converted" "wrote c.gguf" convert original.pt --heads 4
check "it computes as the original does" "differs by" points check c.gguf original
check "a folder can, too" "wrote c.gguf" convert latent --original
check "and does" "differs by" points check c.gguf original
refused "does not say how many heads there are: give --heads" convert original.pt
refused "cannot be split into 5 heads" convert original.pt --heads 5
refused "the tensor blocks.1.mlp.fc2.bias is missing" convert missing.pt --heads 4
refused "blocks.1.extra is nothing that a DiT has" convert more.pt --heads 4
refused "blk.2.attn_output.weight has the shape [32, 31]" convert shape.pt --heads 4
refused "final_layer.linear.bias holds numbers that are not finite" convert nan.pt --heads 4
refused "learned positions are not supported" convert learned.pt --heads 4
refused "without a gap" convert gap.pt --heads 4
refused "only squares are supported" convert patch.pt --heads 4
refused "holds no state dict" convert list.pt --heads 4
refused "not a file of tensors alone" convert noise.pt --heads 4
refused "not a file of tensors alone" convert pickled.pt --heads 4
refused "there is no such file or folder" convert nothing.pt
refused "activation_fn is geglu" convert gelu
refused "a UNet2DModel, not a DiTTransformer2DModel" convert unet
refused "config.json says 5 blocks, 4 are there" convert layers
refused "patch_size is two, a number is wanted" convert text
refused "cannot read cut/diffusion_pytorch_model.safetensors" convert cut
refused "block 2 has other embeddings than block 0" convert other
mkdir empty
refused "there is no config.json" convert empty
[ $n_failed = 0 ]
