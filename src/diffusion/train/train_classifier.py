"""Trains the classifier that judges pictures of digits, in a minute, and writes bench/judge.py's file.

It learns from the pictures that the DiT learns from, and is tested on the held-out ones.  The file
holds the mean and the covariance of its features over all real pictures as well.
"""
import argparse
import sys
from pathlib import Path

from pictures import ROOT, check_numbers, check_output, die, digits, split

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(ROOT / "bench"))
from judge import Judge


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.hidden, self.last = nn.Linear(512, 64), nn.Linear(64, 10)

    def features(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.relu(self.hidden(F.dropout(x.flatten(1), 0.3, self.training)))

    def forward(self, x):
        return self.last(F.dropout(self.features(x), 0.3, self.training))


def learn(model, x, y, epochs):
    steps = epochs * -(-len(x) // 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            noisy = x[rows] + 0.1 * torch.randn(len(rows), 1, 8, 8)   # samples are not in 17 shades
            loss = F.cross_entropy(model(noisy), y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}/{epochs}  loss {loss.item():.4f}", flush=True)


@torch.no_grad()
def write(path, model):
    x, _ = digits()
    f = model.features(torch.from_numpy(x)).double().numpy()
    arrays = {k: v.numpy() for k, v in model.state_dict().items()}
    part = Path(f"{path}.part")
    try:
        with open(part, "wb") as file:
            np.savez_compressed(file, **arrays, mean=f.mean(0), covariance=np.cov(f, rowvar=False))
        part.rename(path)
    except OSError as e:
        die(f"cannot write {path}: {e}")


def check(path, model):
    """The numpy pass has to say what PyTorch says; then what it makes of real pictures."""
    judge, (x, y) = Judge(path), split()[1]
    with torch.no_grad():
        theirs = model.features(torch.from_numpy(x)).numpy()
    difference = np.abs(judge.features(x) - theirs).max()
    if not difference < 1e-3:
        die(f"numpy and PyTorch differ by {difference} in a feature")
    fid, recognised = judge.judge(x, y)
    learned = judge.judge(*split()[0])
    print(f"held-out pictures: {recognised:.4f} recognised, FID {fid:.3f} ({len(x)} of them); "
          f"learned ones: {learned[1]:.4f}, FID {learned[0]:.3f}; wrote {path}")


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("output", help="the .npz file to write")
    a.add_argument("--epochs", type=int, default=60, help="(60)")
    a.add_argument("--seed", type=int, default=1, help="(1)")
    args = a.parse_args()
    check_numbers(args, epochs=(1, 10 ** 6), seed=(0, 1 << 62))
    check_output(args.output)
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model = Classifier()
    learn(model, *(torch.from_numpy(v) for v in split()[0]), args.epochs)
    model.eval()
    write(args.output, model)
    check(args.output, model)


if __name__ == "__main__":
    main()
