#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many clients at once, at one server or at several that take turns: load.py NAME=URL [NAME=URL...] --questions FILE

Each client asks one question after the other (first turns of a file of Spec-Bench, dealt out so that families are
mixed and no two requests of a round are alike), streamed, at temperature 0, through /v1/chat/completions. Servers take turns
for every number of clients and round, so that drift of the machine hits all alike; all must be up, and idle ones cost nothing.

    --clients LIST   1,4,16,64           --rounds N     3, of which medians are shown, with the least and the most
    --requests N     of a client, 2      --max-new N    128 tokens of an answer at most
    --model NAME     what requests name  --json FILE    all figures

Tokens are what servers count themselves (usage); time to first token is that of the first piece of text, at the median and
at the 95th percentile of all requests."""
import argparse
import http.client
import json
import statistics
import sys
import threading
import time
from urllib.parse import urlsplit

MT_BENCH = {"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"}


def positive(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def positives(text):
    return [positive(word) for word in text.split(",")]


def read_questions(path):
    families = {}
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                q = json.loads(line)
                family = "mt_bench" if q["category"] in MT_BENCH else q["category"]
                families.setdefault(family, []).append(q["turns"][0])
    except OSError as e:
        sys.exit(f"load.py: {path}: {e.strerror}")
    except (ValueError, LookupError, TypeError) as e:
        sys.exit(f"load.py: {path} does not hold questions of Spec-Bench: {type(e).__name__}: {e}")
    if not families:
        sys.exit(f"load.py: {path} holds no question")
    longest = max(len(f) for f in families.values())
    return [f[i] for i in range(longest) for f in families.values() if i < len(f)]


class Request:
    """One answer: when it was asked for, when its first and last text came, tokens by the server's count."""

    def __init__(self, url, model, prompt, max_new):
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": max_new,
                "stream": True, "stream_options": {"include_usage": True}}
        self.first, self.tokens = None, None
        at = urlsplit(url)
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=600)
        self.began = time.monotonic()
        connection.request("POST", at.path.rstrip("/") + "/v1/chat/completions", json.dumps(body),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {answer.read(300).decode(errors='replace')}")
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            piece = json.loads(line[6:])
            if piece.get("usage"):
                self.tokens = piece["usage"]["completion_tokens"]
            if self.first is None and piece["choices"] and piece["choices"][0]["delta"].get("content"):
                self.first = time.monotonic()
        self.ended = time.monotonic()
        connection.close()
        if self.tokens is None:
            raise RuntimeError("the server counts no tokens in its stream: it has to know stream_options")
        if self.first is None:
            self.first = self.ended


def load(url, o, clients, prompts):
    """All answers of one round, and the seconds it took."""
    done, wrong = [], []

    def client(k):
        try:
            for i in range(o.requests):
                done.append(Request(url, o.model, prompts[(i * clients + k) % len(prompts)], o.max_new))
        except (OSError, RuntimeError, http.client.HTTPException) as e:
            wrong.append(str(e))

    threads = [threading.Thread(target=client, args=(k,)) for k in range(clients)]
    began = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if wrong:
        raise SystemExit(f"{url}: {wrong[0]} ({len(wrong)} of {clients} clients failed)")
    return done, time.monotonic() - began


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(p * len(values)))]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("servers", nargs="+")
    p.add_argument("--questions", required=True)
    p.add_argument("--clients", type=positives, default="1,4,16,64")
    p.add_argument("--rounds", type=positive, default=3)
    p.add_argument("--requests", type=positive, default=2)
    p.add_argument("--max-new", type=positive, default=128)
    p.add_argument("--model", default="m")
    p.add_argument("--json")
    o = p.parse_args()
    servers = [s.partition("=")[::2] for s in o.servers]
    if any(not url.startswith("http://") for _, url in servers):
        p.error("servers are given as NAME=http://HOST:PORT")
    prompts = read_questions(o.questions)
    for _, url in servers:  # once, so that nobody pays for what is only done once
        load(url, argparse.Namespace(**{**vars(o), "requests": 1}), 2, prompts[-2:])
    figures, start = [], 0
    for clients in o.clients:
        rows = {name: [] for name, _ in servers}
        for k in range(o.rounds):
            turn = servers[k % len(servers):] + servers[:k % len(servers)]
            mine = prompts[start:] + prompts[:start]  # others than the last round's, which servers may remember
            start = (start + clients * o.requests) % len(prompts)
            for name, url in turn:
                done, seconds = load(url, o, clients, mine)
                waits = [r.first - r.began for r in done]
                rows[name].append({"server": name, "clients": clients, "round": k, "tokens": sum(r.tokens for r in done),
                                   "seconds": seconds, "tokens_per_second": sum(r.tokens for r in done) / seconds,
                                   "first_median": statistics.median(waits), "first_p95": percentile(waits, 0.95)})
        for name, row in rows.items():
            speed = [r["tokens_per_second"] for r in row]
            print(f"{clients:3} clients  {name:24} {statistics.median(speed):8.1f} tokens/s ({min(speed):.1f} to {max(speed):.1f})  "
                  f"first token {statistics.median(r['first_median'] for r in row):6.3f} s, "
                  f"95 % {statistics.median(r['first_p95'] for r in row):6.3f} s", flush=True)
            figures += row
    if o.json:
        with open(o.json, "w", encoding="utf-8") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    sys.exit(main())
