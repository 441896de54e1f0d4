"""Writes prompts for a model to answer, as JSON lines of messages, from the corpora in DATA: those that
the bundled drafters of real models were trained on.  No prompt of a benchmark is among them.

    python drafters/train/prompts.py DATA prompts.jsonl
"""
import argparse
import json
from pathlib import Path

from common import SOURCES, benchmark_prompts, die, hash01, normalise, read_source

# Prompts of each source, at most.
QUOTAS = {"oasst": 900, "dolly": 2600, "dolly_hh": 700, "llms_scratch": 400, "self_instruct": 427,
          "open_conv": 60, "fairytaleqa": 500, "strategyqa": 200, "ecqa": 200, "aqua": 250,
          "gsm8k": 900, "mbpp": 500, "trivia": 300}
SUMMARIES = {"fairytales": 150, "storybooks": 150, "books": 200}     # documents to be summarised
PASSAGE = 2400          # characters
LONGEST = 4000          # characters of a prompt


def of_conversation(messages):
    """What comes before its first answer, or None."""
    first = next((i for i, m in enumerate(messages) if m["role"] == "assistant"), 0)
    asked = messages[:first]
    if not asked or sum(len(m["content"]) for m in asked) > LONGEST:
        return None
    return [{"role": m["role"], "content": m["content"]} for m in asked]


def of_document(text):
    """A request to summarise its beginning, or None."""
    part = text[:PASSAGE].rsplit("\n", 1)[0].strip()
    return [{"role": "user", "content": f"Summarize: {part}"}] if len(part) > 400 else None


def prompts(data, source, count, make, banned):
    found = {}
    for item in read_source(data, source):
        asked = make(item)
        if asked and (key := normalise(asked[-1]["content"])) not in banned:
            found.setdefault(key, asked)
    return [found[key] for key in sorted(found, key=lambda k: hash01("prompt " + k))[:count]]


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("data", help="folder with the corpora: common.py lists them")
    a.add_argument("output", help="the file to write")
    args = a.parse_args()
    banned, lines = benchmark_prompts(args.data), []
    for source in SOURCES:
        for quotas, make in ((QUOTAS, of_conversation), (SUMMARIES, of_document)):
            if source.name in quotas:
                found = prompts(args.data, source, quotas[source.name], make, banned)
                print(f"{source.name}: {len(found)}", flush=True)
                lines += [json.dumps({"messages": m}, ensure_ascii=False) + "\n" for m in found]
    lines.sort(key=lambda line: hash01("order " + line))    # so that a part has some of each source
    try:
        Path(args.output).write_text("".join(lines), encoding="utf-8")
    except OSError as e:
        die(f"cannot write {args.output}: {e}")


if __name__ == "__main__":
    main()
