"""Checks that the trainers read a model as the runtime does: the perplexity of a text by both.

For a folder give the GGUF file of it too, which the runtime reads: --for MODEL.gguf.  Ends with
status 1 where the perplexities differ by more than --most.
"""
import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

from common import die
from drafterfile import fingerprint_for
from llamafile import load_folder, load_gguf
from vocabularies import find_program, open_vocabulary

import torch
import torch.nn.functional as F


def by_runtime(program, gguf, text, window, threads):
    """(perplexity, tokens counted)"""
    command = [program, "perplexity", "-m", gguf, "-f", "-", "-c", window, "-t", threads, "--kv", "f32",
               "--json"]
    try:
        done = subprocess.run([str(c) for c in command], input=text.encode(), capture_output=True)
    except OSError as e:
        die(f"cannot run {program}: {e}")
    if done.returncode:
        die(f"{program} perplexity: {done.stderr.decode(errors='replace').strip()}")
    answer = json.loads(done.stdout)
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
    a.add_argument("model", help="a .gguf file, or a folder with config.json and *.safetensors")
    a.add_argument("text", help="a text file; a few thousand characters will do")
    a.add_argument("--for", dest="gguf", metavar="MODEL.gguf", help="the GGUF file of a folder")
    a.add_argument("--foretoken", metavar="PATH", help="the program (build/release/foretoken)")
    a.add_argument("--window", type=int, default=256, help="tokens of a window (256)")
    a.add_argument("--characters", type=int, default=6000, help="of the text that are read (6000)")
    a.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    a.add_argument("--most", type=float, default=0.1, metavar="PERCENT",
                   help="how far the two may differ (0.1)")
    args = a.parse_args()
    torch.set_num_threads(args.threads)
    folder = Path(args.model).is_dir()
    if folder and not args.gguf:
        die(f"{args.model} is a folder: give --for MODEL.gguf, a GGUF file of the same weights")
    gguf, program = args.gguf or args.model, args.foretoken or find_program()
    try:
        text = Path(args.text).read_text(encoding="utf-8")[:args.characters]
    except (OSError, UnicodeDecodeError) as e:
        die(f"cannot read {args.text}: {e}")
    model = (load_folder if folder else load_gguf)(args.model, exact=True)
    theirs, count = by_runtime(program, gguf, text, args.window, args.threads)
    failed = False
    for path in dict.fromkeys((args.model, gguf)):
        vocabulary = open_vocabulary(path, program)
        ids = vocabulary.encode([text], False)[0]
        ours, n = by_loader(model, vocabulary.bos, ids.tolist(), args.window)
        off = 100 * abs(ours / theirs - 1)
        same = n == count and off <= args.most
        failed = failed or not same
        print(f"{path}: {len(ids)} tokens; perplexity {ours:.4f} over {n} tokens, of the runtime "
              f"{theirs:.4f} over {count}: {off:.4f} %, {'the same' if same else 'NOT the same'}")
    own, wanted = fingerprint_for(model, None), fingerprint_for(model, gguf)
    print(f"fingerprint {own}" + ("" if own == wanted else f", of the GGUF file {wanted}: the trainers "
                                  "need --for"))
    sys.exit(failed)


if __name__ == "__main__":
    main()
