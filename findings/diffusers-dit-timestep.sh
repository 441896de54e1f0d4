#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# diffusers 0.42.1: what DiTTransformer2DModel tells a DiT's weights about the timestep, and an epsilon.
# Expected: the embedding of the program that the weights come from (facebookresearch/DiT): cosines, then sines, of
#   t exp(-ln(10000) i / 128), i = 0 .. 127; and all layer norms with an epsilon of 1e-6, as there. diffusers has that
#   embedding for DiT's descendant PixArt, in the same file.
# Seen: i / 127. Angles are up to 6.9 % off, and the features by up to 1.98, where 2 is the most that two
#   sines can differ: converted weights see others than they were trained with. The frequencies are no parameter of the
#   model. The norm before the feed-forward part has 1e-5.
# A converter has to write down which of the two a file is for. PyTorch is a download of some GB.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check torch==2.15.0 diffusers==0.42.1
"$tmp/venv/bin/python" - <<'EOF'
import math
import sys

import torch
from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import CombinedTimestepTextProjEmbeddings

model = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
                              sample_size=8, num_embeds_ada_norm=10)
t = torch.arange(1000)
angles = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(128) / 128)
original = torch.cat((angles.cos(), angles.sin()), 1)
block = model.transformer_blocks[0]
off = (block.norm1.emb.time_proj(t) - original).abs().max().item()
pixart = (CombinedTimestepTextProjEmbeddings(16, 16).time_proj(t) - original).abs().max().item()
eps = [block.norm1.norm.eps, block.norm3.eps, model.norm_out.eps]
print(f"largest difference from the original's features: DiT {off:.3g}, PixArt {pixart:.3g}; epsilons {eps}")
sys.exit(0 if off > 1.5 and pixart < 1e-3 and eps == [1e-6, 1e-5, 1e-6] else 1)
EOF
