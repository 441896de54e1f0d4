# SPDX-License-Identifier: Apache-2.0
"""How good pictures of digits are, by a small classifier trained on real ones; numpy alone.

FID here is the Fréchet distance between the classifier's 64 features of the pictures and of the real
ones (not Inception's: comparable within this project only); recognised is the share of pictures that
the classifier takes for their class.  The file, models/digits-classifier.npz, comes from
src/diffusion/train/train_classifier.py and holds the real pictures' features, too.
"""
import sys
import zipfile

try:
    import numpy as np
except ImportError:
    sys.exit("error: numpy is not there: apt-get install python3-numpy, or pip install numpy")


def fail(text):
    sys.exit(f"error: {text}")


def convolved(x, weight, bias):
    """[B][m][h][w] of x [B][c][h][w] by weight [m][c][3][3], zeros around, then ReLU."""
    b, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    columns = np.stack([padded[:, :, i:i + h, j:j + w] for i in range(3) for j in range(3)], 2)
    out = np.einsum("bckhw,mck->bmhw", columns, weight.reshape(len(weight), c, 9), optimize=True)
    return np.maximum(out + bias[:, None, None], 0)


def halved(x):
    """The largest of each 2 x 2 pixels."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).max((3, 5))


def frechet(mean_a, cov_a, mean_b, cov_b):
    """Squared Fréchet distance of two normal distributions."""
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    both = np.linalg.eigvalsh(root @ cov_b @ root)
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b)
                 - 2 * np.sqrt(np.maximum(both, 0)).sum())


class Judge:
    SHAPES = {"conv1.weight": (16, 1, 3, 3), "conv1.bias": (16,), "conv2.weight": (32, 16, 3, 3),
              "conv2.bias": (32,), "hidden.weight": (64, 512), "hidden.bias": (64,),
              "last.weight": (10, 64), "last.bias": (10,), "mean": (64,), "covariance": (64, 64)}

    def __init__(self, path):
        try:
            with np.load(path) as z:
                self.w = {k: z[k].astype(np.float64) for k in self.SHAPES}
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as e:
            fail(f"cannot read the classifier {path}: {e}")
        for key, shape in self.SHAPES.items():
            if self.w[key].shape != shape or not np.isfinite(self.w[key]).all():
                fail(f"{path}: {key} is not a classifier's")

    def features(self, x):
        """[B][64] of pictures [B][1][8][8] from -1 to 1."""
        w = self.w
        x = convolved(np.clip(x, -1, 1), w["conv1.weight"], w["conv1.bias"])
        x = halved(convolved(x, w["conv2.weight"], w["conv2.bias"]))
        return np.maximum(x.reshape(len(x), -1) @ w["hidden.weight"].T + w["hidden.bias"], 0)

    def classes(self, features):
        return (features @ self.w["last.weight"].T + self.w["last.bias"]).argmax(1)

    def fid(self, features):
        return frechet(features.mean(0), np.cov(features, rowvar=False), self.w["mean"],
                       self.w["covariance"])

    def judge(self, x, y):
        """FID and the share recognised of pictures x [B][1][8][8] that should show classes y [B]."""
        if x.ndim != 4 or x.shape[1:] != (1, 8, 8) or len(x) < 65:
            fail(f"pictures of the shape {list(x.shape)}: at least 65 x 1 x 8 x 8 are wanted")
        f = np.concatenate([self.features(x[i:i + 500]) for i in range(0, len(x), 500)])
        if not np.isfinite(f).all():
            return float("inf"), 0.0
        return self.fid(f), float((self.classes(f) == y).mean())
