"""What the program `teach` kept of a model and its texts: lessons.h says what lies in the folder."""
import json
from pathlib import Path

from common import die

import numpy as np

HELD = 50               # one text of so many is held out
LEAST = 4096            # tokens


class Lessons:
    """tokens, mine, feature, best, logp, and state where it was kept: arrays of rows, in files that are read
    where they are looked at.  docs [texts + 1]: where each text begins, and the end.  Which texts are for measuring
    goes by their number, so that those stay when more are made."""

    def __init__(self, folder):
        folder = Path(folder)
        try:
            self.about = json.loads((folder / "lessons.json").read_text(encoding="utf-8"))
            done = np.fromfile(folder / "done.i64", np.int64).reshape(-1, 2)
            starts = np.fromfile(folder / "docs.i64", np.int64)[:len(done)]
            n = int(done[-1, 1]) if len(done) else 0
            a = self.about
            rows = {"tokens": ("i32", ()), "mine": ("u8", ()), "feature": ("f16", (a["n_embd"],)),
                    "best": ("i32", (a["top"],)), "logp": ("f16", (a["top"],))}
            if a["state"]:
                rows["state"] = ("f16", (a["n_embd"],))
            if a.get("states"):
                rows["states"] = ("f16", (len(a["states"]), a["n_embd"]))
            if n < LEAST:
                die(f"{folder} holds {n} tokens: {LEAST} at least are needed; let teach go on")
            kinds = {"i32": np.int32, "u8": np.uint8, "f16": np.float16}
            for name, (kind, shape) in rows.items():
                setattr(self, name, np.memmap(folder / f"{name}.{kind}", kinds[kind], "r",
                                              shape=(n, *shape)))
        except (OSError, ValueError, KeyError, TypeError) as e:
            die(f"{folder} holds no lessons: {e}; the program teach makes them")
        self.folder, self.n, self.docs = folder, n, np.append(starts, n)
        self.held = done[:, 0] % HELD == 0
        self.held[:1] |= not self.held.any()

    def check(self, fingerprint, name):
        """Ends the program where the lessons are another model's."""
        if self.about["model"] != fingerprint:
            die(f"{self.folder} holds lessons of the model {self.about['model']}, and {name} is "
                f"{fingerprint}: run teach with this file")

    def text(self, i):
        """The rows of a text."""
        return slice(int(self.docs[i]), int(self.docs[i + 1]))

    def held_out(self):
        return [self.text(i) for i in np.flatnonzero(self.held)]

    def learned(self):
        """The texts that are learned on, in the order in which they were done."""
        return [self.text(i) for i in np.flatnonzero(~self.held)]

    def counts(self):
        """How often each token is expected in answers, by the model's own distributions."""
        seen = np.zeros(self.about["n_vocab"])
        for at in range(0, self.n, 1 << 16):
            rows = slice(at, min(at + (1 << 16), self.n))
            # what stands behind a row is of an answer if the token there is
            answers = np.append(self.mine[rows][1:], 0).astype(bool)
            p = np.exp(self.logp[rows][answers].astype(np.float32))
            seen += np.bincount(self.best[rows][answers].ravel(), p.ravel(), len(seen))
        return seen
