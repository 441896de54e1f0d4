"""The pictures that the demo DiT learns from, and what every script here takes from the drafters'.

scikit-learn's digits: 1,797 handwritten digits of 8 x 8 pixels in 17 shades, the test part of
"Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, doi 10.24432/C50P49, CC BY 4.0).
"""
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "drafters" / "train"))

from common import die

import numpy as np

LEVELS = 17             # shades, 0..16
HELD_OUT = 297          # pictures that nothing is trained on


def check_output(path):
    """Before the work: whether path can become a file of ours."""
    path = Path(path)
    folder = path.resolve().parent
    if not folder.is_dir():
        die(f"cannot write {path}: there is no such folder")
    if path.exists() and not path.is_file():
        die(f"cannot write {path}: it is {'a folder' if path.is_dir() else 'no regular file'}")
    if not os.access(folder, os.W_OK):
        die(f"cannot write {path}: its folder cannot be written to")


def check_numbers(args, **ranges):
    """ranges: (least, most) of options; what is no number is in none."""
    for name, (least, most) in ranges.items():
        if not least <= getattr(args, name) <= most:
            die(f"--{name.replace('_', '-')} has to be from {least:g} to {most:g}")


def digits():
    """Pictures [1797][1][8][8] from -1 (black) to 1, and their classes."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        die("the pictures come with scikit-learn: pip install scikit-learn")
    data = load_digits()
    x = data.images.astype(np.float32) / ((LEVELS - 1) / 2) - 1
    return x[:, None], data.target.astype(np.int64)


def split():
    """(pictures, classes) to learn from, and those that are held out, the same ones each time."""
    x, y = digits()
    order = np.random.default_rng(1797).permutation(len(x))
    learned, held = order[HELD_OUT:], order[:HELD_OUT]
    return (x[learned], y[learned]), (x[held], y[held])
