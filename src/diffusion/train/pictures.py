"""The pictures that the demo DiT learns from, and what every script here takes from the drafters'.

scikit-learn's digits: 1,797 handwritten digits of 8 x 8 pixels in 17 shades, the test part of
"Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, doi 10.24432/C50P49, CC BY 4.0).
"""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "drafters" / "train"))

from common import die

import numpy as np

LEVELS = 17             # shades, 0..16
HELD_OUT = 297          # pictures that nothing is trained on


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
