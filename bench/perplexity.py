# SPDX-License-Identifier: Apache-2.0
"""Perplexity of one model on one text, beside llama.cpp and transformers in F32.

    python3 bench/perplexity.py --foretoken build/release/foretoken --llama LLAMA/build/bin \
        --transformers --chunks 20 --size 1024 MODEL.gguf TEXT

All programs get the same token ids in the same chunks.  The text is cut, at a line's end, where it
fills the chunks; its ids are those of `foretoken tokenize`, and those of llama-tokenize have to be the
same.  Then the rule is that of llama-perplexity: chunks side by side, each read by itself; where the
model wants BOS, it stands before the text and takes the place of each chunk's first token; the second
half of a chunk is predicted, size - size / 2 - 1 tokens, and the perplexity is over all of them.

It needs the package gguf.  A program that is not named is left out.  --transformers needs torch,
transformers and accelerate; it reads the same GGUF file, its weights as they are dequantised, in F32.
--levels and --kv run foretoken again with other kernels and caches, --threads is for all.  --json FILE
keeps the figures.  Exit status: 1 if a perplexity of foretoken is further than --within (0.5 %) from
that of transformers, 2 if nothing could be compared, ids that differ among it.
"""
import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile

from load import positive


def fail(text):
    print(f"perplexity.py: {text}", file=sys.stderr)
    sys.exit(2)


def run(command, **more):
    try:
        done = subprocess.run(command, capture_output=True, check=False, **more)
    except OSError as e:
        fail(f"{command[0]}: {e.strerror}")
    if done.returncode != 0:
        fail(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr.decode()[-2000:]}")
    return done.stdout


def our_ids(args, text):
    return [int(i) for i in run([args.foretoken, "tokenize", "-m", args.model], input=text).split()]


def metadata(path):
    """(whether texts begin with BOS, its id)"""
    import gguf
    fields = gguf.GGUFReader(path).fields

    def get(key, other):
        return fields[key].contents() if key in fields else other
    kind = get("tokenizer.ggml.model", "llama")
    return (get("tokenizer.ggml.add_bos_token", kind == "llama"),
            get("tokenizer.ggml.bos_token_id", -1))


def cut(args, bos):
    """The text's first lines that fill the chunks, without the last newline, which llama.cpp drops."""
    with open(args.text, "rb") as f:
        lines = f.read().splitlines(keepends=True)

    def first(n):
        return b"".join(lines[:n]).rstrip(b"\n")
    want = args.chunks * args.size - bos
    low, high = 0, len(lines)
    if len(our_ids(args, first(high))) < want:
        fail(f"{args.text} is too short for {args.chunks} chunks of {args.size} tokens")
    while high - low > 1:
        middle = (low + high) // 2
        if len(our_ids(args, first(middle))) < want:
            low = middle
        else:
            high = middle
    ids = our_ids(args, first(high))
    if len(ids) - want >= args.size:
        fail(f"line {high} of {args.text} is longer than a chunk")
    return first(high), ids


def foretoken(args, path, level, kv):
    kernels = ["--kernels", level] if level != "best" else []
    out = json.loads(run([args.foretoken, "perplexity", "--json", "--chunks", "-c", str(args.size),
                          "-t", str(args.threads), "--kv", kv, "-m", args.model, "-f", path, *kernels]))
    return out["perplexity"], out["tokens"]


def same_ids(args, path, ids):
    out = run([os.path.join(args.llama, "llama-tokenize"), "-m", args.model, "-f", path, "--ids",
               "--no-bos", "--no-escape", "--no-parse-special"])
    theirs = json.loads(out[out.rindex(b"["):])
    for i, (a, b) in enumerate(zip(ids + [-1], theirs + [-1])):
        if a != b:
            fail(f"token {i}: foretoken has {ids[i:i + 5]}, llama-tokenize {theirs[i:i + 5]}")


def llama(args, path, kv, more):
    done = subprocess.run([os.path.join(args.llama, "llama-perplexity"), "-m", args.model, "-f", path,
                           "-c", str(args.size), "-b", str(args.size), "-ub", str(args.size),
                           "-t", str(args.threads), "--no-escape", "-ctk", kv, "-ctv", kv, *more],
                          capture_output=True, check=False)
    text = (done.stdout + done.stderr).decode(errors="replace")
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", text)
    if not found:
        fail(f"llama-perplexity: exit status {done.returncode}\n{text[-2000:]}")
    return float(found[1])


def transformers_f32(args, ids, bos):
    import torch
    from transformers import AutoModelForCausalLM
    torch.set_num_threads(args.threads)
    folder, name = os.path.split(os.path.abspath(args.model))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    ids = ([bos] if bos is not None else []) + ids
    nats, n, half = 0.0, 0, args.size // 2
    for at in range(0, args.chunks * args.size, args.size):
        chunk = torch.tensor(ids[at:at + args.size])
        if bos is not None:
            chunk[0] = bos
        with torch.inference_mode():
            states = model.model(chunk[None]).last_hidden_state[0, half:-1]
            logits = model.lm_head(states).double()
        nats += torch.nn.functional.cross_entropy(logits, chunk[half + 1:], reduction="sum").item()
        n += args.size - half - 1
        print(f"  chunk {at // args.size + 1}: {math.exp(nats / n):.4f} so far", file=sys.stderr, flush=True)
    return math.exp(nats / n), n


def words(text):
    if "" in text.split(","):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of words with commas between them")
    return text.split(",")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("model")
    p.add_argument("text")
    p.add_argument("--foretoken", required=True, help="the program")
    p.add_argument("--llama", help="the folder of llama-perplexity and llama-tokenize")
    p.add_argument("--transformers", action="store_true")
    p.add_argument("--chunks", type=positive, default=20)
    p.add_argument("--size", type=positive, default=1024, help="tokens in a chunk")
    p.add_argument("--threads", type=positive, default=2)
    p.add_argument("--levels", type=words, default="best", help="kernels of foretoken, by comma")
    p.add_argument("--kv", type=words, default="f16", help="caches, by comma: f16, f32, q8_0")
    p.add_argument("--within", type=float, default=0.5, help="percent")
    p.add_argument("--json")
    return p.parse_args()


def main():
    args = arguments()
    add_bos, bos = metadata(args.model)
    text, ids = cut(args, add_bos)
    rows = []
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(text)
        file.flush()
        if args.llama:
            same_ids(args, file.name, ids)
        print(f"{os.path.basename(args.model)}, {os.path.basename(args.text)}: {len(text)} bytes, "
              f"{len(ids)} tokens, {args.chunks} chunks of {args.size}", flush=True)
        if args.transformers:
            rows.append(("transformers F32", *transformers_f32(args, ids, bos if add_bos else None)))
            print(f"  {rows[-1][0]:32} {rows[-1][1]:9.4f}", flush=True)
        for kv in args.kv:
            for level in args.levels:
                rows.append((f"foretoken {level}, KV {kv}", *foretoken(args, file.name, level, kv)))
                print(f"  {rows[-1][0]:32} {rows[-1][1]:9.4f}", flush=True)
            if args.llama:
                rows.append((f"llama.cpp, KV {kv}", llama(args, file.name, kv, []), rows[-1][2]))
                print(f"  {rows[-1][0]:32} {rows[-1][1]:9.4f}", flush=True)
    if len({n for _, _, n in rows}) != 1:
        fail(f"not the same tokens were predicted: {rows}")
    worst = report(args, rows)
    sys.exit(1 if worst > args.within else 0)


def report(args, rows):
    """Prints how far each is from transformers, or else the last; the worst of foretoken, percent."""
    base = rows[0] if args.transformers else rows[-1]
    worst = 0
    for name, value, _ in rows:
        away = 100 * (value / base[1] - 1)
        print(f"  {name:32} {value:9.4f} {away:+8.3f} %")
        if name.startswith("foretoken"):
            worst = max(worst, abs(away))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"model": os.path.basename(args.model), "text": os.path.basename(args.text),
                       "tokens_predicted": base[2], "chunks": args.chunks, "size": args.size,
                       "perplexity": {name: value for name, value, _ in rows}}, f, indent=1)
    return worst


if __name__ == "__main__":
    main()
