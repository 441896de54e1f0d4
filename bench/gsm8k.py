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
        raise RuntimeError(f"status {answer.status}: {said[:300]}")
    return json.loads(said)["choices"][0]["message"]["content"] or ""


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("url")
    p.add_argument("questions")
    p.add_argument("--limit", type=int)
    p.add_argument("--clients", type=int, default=16)
    p.add_argument("--max-new", type=int, default=256)
    p.add_argument("--json")
    o = p.parse_args()
    if not o.url.startswith("http://"):
        p.error("the server is given as http://HOST:PORT")
    try:
        with (lzma.open if o.questions.endswith(".xz") else open)(o.questions, "rt", encoding="utf-8") as lines:
            asked = [json.loads(line) for line in lines][:o.limit]
        gold = [float(q["answer"].rpartition("####")[2].replace(",", "")) for q in asked]
        with ThreadPoolExecutor(o.clients) as pool:
            texts = list(pool.map(lambda q: ask(o.url, q["question"], o.max_new), asked))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, lzma.LZMAError, http.client.HTTPException) as e:
        sys.exit(f"gsm8k.py: {o.url}, {o.questions}: {e or type(e).__name__}")
    if not asked:
        sys.exit(f"gsm8k.py: {o.questions} holds no question")
    said = [last_number(t) for t in texts]
    right = sum(s is not None and abs(s - g) < 1e-6 for s, g in zip(said, gold))
    share = right / len(asked)
    error = math.sqrt(share * (1 - share) / len(asked))
    print(f"{right} of {len(asked)} right: {100 * share:.1f} +- {100 * error:.1f} %; "
          f"{sum(s is None for s in said)} without a number")
    if o.json:
        with open(o.json, "w", encoding="utf-8") as f:
            json.dump([{"said": s, "right": g, "text": t} for s, g, t in zip(said, gold, texts)], f, indent=1)


if __name__ == "__main__":
    sys.exit(main())
