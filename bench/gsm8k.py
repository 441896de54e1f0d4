#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many of GSM8K's questions a served model answers rightly: gsm8k.py URL test.jsonl[.xz] [options]

    --limit N    the first N questions (all)     --clients N   questions at once (16)
    --max-new N  tokens of an answer (256)       --json FILE   every question's number, right number and text

Right is an answer whose last number is the one behind GSM8K's "####". Questions are asked as they stand, without
examples, through /v1/chat/completions at temperature 0. To see what an adapter costs, ask a server with --lora and one without."""
import argparse
import http.client
import json
import lzma
import math
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from load import positive

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_number(text):
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def ask(url, question, max_new):
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=600)
    connection.request("POST", at.path.rstrip("/") + "/v1/chat/completions",
                       json.dumps({"model": "m", "messages": [{"role": "user", "content": question}], "temperature": 0,
                                   "max_tokens": max_new}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read().decode(errors="replace")
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}: {said[:300]!r}")
    try:
        return str(json.loads(said)["choices"][0]["message"]["content"] or "")
    except (ValueError, LookupError, TypeError):
        raise RuntimeError(f"no answer of a chat: {said[:300]!r}") from None


def read_questions(path, limit):
    """[(question, right number)]"""
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8") as lines:
        asked = [json.loads(line) for line in lines][:limit]
    return [(q["question"], float(q["answer"].rpartition("####")[2].replace(",", ""))) for q in asked]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("url")
    p.add_argument("questions")
    p.add_argument("--limit", type=positive)
    p.add_argument("--clients", type=positive, default=16)
    p.add_argument("--max-new", type=positive, default=256)
    p.add_argument("--json")
    o = p.parse_args()
    try:
        asked = read_questions(o.questions, o.limit)
        report = open(o.json, "w", encoding="utf-8") if o.json else None  # not after an hour
    except OSError as e:
        sys.exit(f"gsm8k.py: {e.filename}: {e.strerror}")
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, lzma.LZMAError) as e:
        sys.exit(f"gsm8k.py: {o.questions} does not hold questions of GSM8K: {type(e).__name__}: {e}")
    if not asked:
        sys.exit(f"gsm8k.py: {o.questions} holds no question")
    try:
        if not o.url.startswith("http://") or not urlsplit(o.url).hostname:
            p.error("the server is given as http://HOST:PORT")
        with ThreadPoolExecutor(o.clients) as pool:
            texts = list(pool.map(lambda q: ask(o.url, q[0], o.max_new), asked))
    except (OSError, ValueError, RuntimeError, http.client.HTTPException) as e:
        sys.exit(f"gsm8k.py: {o.url}: {e}")
    gold, said = [right for _, right in asked], [last_number(t) for t in texts]
    right = sum(s is not None and abs(s - g) < 1e-6 for s, g in zip(said, gold))
    share = right / len(asked)
    error = math.sqrt(share * (1 - share) / len(asked))
    print(f"{right} of {len(asked)} right: {100 * share:.1f} +- {100 * error:.1f} %; "
          f"{sum(s is None for s in said)} without a number")
    if report:
        with report as f:
            json.dump([{"said": s, "right": g, "text": t} for s, g, t in zip(said, gold, texts)], f, indent=1)


if __name__ == "__main__":
    sys.exit(main())
