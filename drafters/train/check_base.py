"""Checks that the trainers read a model as the runtime does: the perplexity of a text by both.

Ends with status 1 where the perplexities differ by more than --most.
"""
import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

from common import die
from llamafile import bos_of, load_frozen

import torch
import torch.nn.functional as F

REPOSITORY = Path(__file__).resolve().parents[2]


def find_program():
    built = REPOSITORY / "build/release/foretoken"
    found = built if built.is_file() else shutil.which("foretoken")
    return found or die("the program foretoken is not built: run ./dev build, or give --foretoken PATH")


def call(program, command, text):
    try:
        done = subprocess.run([str(c) for c in (program, *command)], input=text.encode(),
                              capture_output=True)
    except OSError as e:
        die(f"cannot run {program}: {e}")
    if done.returncode:
        die(f"{program} {command[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def by_runtime(program, gguf, text, window, threads):
    """(perplexity, tokens counted)"""
    answer = json.loads(call(program, ["perplexity", "-m", gguf, "-f", "-", "-c", window, "-t", threads,
                                       "--kv", "f32", "--json"], text))
    return answer["perplexity"], answer["tokens"]


@torch.no_grad()
def by_loader(model, bos, ids, window):
    """The same, counted as src/cli/cmd_perplexity.c counts: windows that move on by half their size,
    of which the new half counts."""
    start = [] if bos is None else [bos]
    size, done, nats, n = window - len(start), 0, 0.0, 0
    while done < len(ids):
        at = max(0, done - size // 2)
        part = torch.tensor([*start, *ids[at:at + size]])
        log = F.log_softmax(model.logits(part[None])[0, :-1], -1)
        loss = -log.gather(1, part[1:, None])[:, 0]
        new = min(len(loss), min(len(ids), at + size) - done)
        nats, n = nats + loss[len(loss) - new:].double().sum().item(), n + new
        done = min(len(ids), at + size)
    return math.exp(nats / n), n


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model", help="a .gguf file")
    a.add_argument("text", help="a text file; a few thousand characters will do")
    a.add_argument("--foretoken", metavar="PATH", help="the program (build/release/foretoken)")
    a.add_argument("--window", type=int, default=256, help="tokens of a window (256)")
    a.add_argument("--characters", type=int, default=6000, help="of the text that are read (6000)")
    a.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    a.add_argument("--most", type=float, default=0.1, metavar="PERCENT",
                   help="how far the two may differ (0.1)")
    args = a.parse_args()
    torch.set_num_threads(args.threads)
    program = args.foretoken or find_program()
    try:
        text = Path(args.text).read_text(encoding="utf-8")[:args.characters]
    except (OSError, UnicodeDecodeError) as e:
        die(f"cannot read {args.text}: {e}")
    model = load_frozen(args.model, exact=True)
    theirs, count = by_runtime(program, args.model, text, args.window, args.threads)
    ids = [int(i) for i in call(program, ["tokenize", "-m", args.model], text).split()]
    ours, n = by_loader(model, bos_of(args.model), ids, args.window)
    off = 100 * abs(ours / theirs - 1)
    same = n == count and off <= args.most
    print(f"{args.model}: {len(ids)} tokens; perplexity {ours:.4f} over {n} tokens, of the runtime "
          f"{theirs:.4f} over {count}: {off:.4f} %, {'the same' if same else 'NOT the same'}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
