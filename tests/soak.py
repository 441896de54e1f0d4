#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many clients for long, some of them bad ones: soak.py FORETOKEN [options]

Answers at temperature 0 have to be what `foretoken generate --chat` prints, with every drafter, while others
break off, read slowly, send nonsense or too much, close half of their connection, and fill the cache. With
--minutes that goes on, and the server's memory must not grow after the first minute. With --rounds it goes on
so often, and what is held while nothing runs must not grow in the second half, nor be much more than at the
start; under a sanitizer, which keeps what is freed, that is not looked at. Time in which the whole of it is
stopped, by SIGSTOP, does not count.

    --prompts N     200                 --at-once N    16
    --drafters A,B  all that there are  --minutes M    0
    --tokens N      24                  --rounds N     1
    -- OPTIONS      of serve and generate: --demo, or -m MODEL
    --without A,B   bad clients to leave out. What a format allows is kept, up to 16 MiB: without wants_json
                    the server's memory has to be flat"""
import argparse
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "n": {"type": "integer", "minimum": 1, "maximum": 99}},
          "required": ["name", "n"], "additionalProperties": False}


N_BAD = 4  # of them at once
PARTS = 8  # of --rounds: after each the server's memory is looked at
TRIM = 6   # seconds in which the server gives back what it does not use


class Server:
    def __init__(self, program, options, more):
        self.process = subprocess.Popen([program, "serve", "--port", "0", *options, *more], stderr=subprocess.PIPE, text=True)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if "listening on " in line:
                self.port = int(line.rsplit(":", 1)[1])
                break
        else:
            raise SystemExit("".join(self.said))
        threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True).start()

    def memory(self):
        """MiB of its own: pages of the model's file come as they are read."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("RssAnon")) / 1024

    def stop(self):
        self.process.terminate()
        return self.process.wait(120)

    def ask(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def running(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        names = ("foretoken:num_requests_running", "foretoken:num_requests_waiting")
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(names))


def chat(prompt, tokens, **more):
    return json.dumps({"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": tokens, **more}).encode()


def raw(server, body, head=""):
    s = socket.create_connection(("127.0.0.1", server.port), timeout=600)
    s.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return s


# ---- bad clients. Each returns what is wrong with the server, or None.

def breaks_off(server, r, prompt):
    s = raw(server, chat(prompt, 400, stream=True, ignore_eos=True))
    if r.random() < 0.7:
        s.recv(r.randrange(1, 4000))
    s.close()


def reads_slowly(server, r, prompt):
    s = raw(server, chat(prompt, 120, stream=True, ignore_eos=True, logprobs=True, top_logprobs=20))
    end = time.time() + r.random() * 3
    while time.time() < end:
        time.sleep(0.2)
        if not s.recv(64):
            break
    s.close()


def closes_half(server, r, prompt):
    s = raw(server, chat(prompt, 400, ignore_eos=True, stream=r.random() < 0.5))
    s.shutdown(socket.SHUT_WR)
    while s.recv(65536):
        pass
    s.close()


def stops_within(server, r, prompt):
    body = chat(prompt, 5)
    s = socket.create_connection(("127.0.0.1", server.port), timeout=600)
    s.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:r.randrange(len(body))])
    time.sleep(r.random())
    s.close()


def sends_nonsense(server, r, prompt):
    body = bytearray(chat(prompt, 5))
    for _ in range(r.randrange(1, 4)):
        body[r.randrange(len(body))] = r.randrange(256)
    status, _ = server.ask("/v1/chat/completions", bytes(body))
    return None if status in (200, 400, 429) else f"nonsense got {status}"


def sends_too_much(server, r, prompt):
    try:
        status, _ = server.ask("/v1/chat/completions", b"{" + b" " * r.choice([5 << 20, 20 << 20]))
    except (ConnectionError, http.client.HTTPException):
        return None  # closed before it was all sent
    return None if status == 413 else f"a body too large got {status}"


def sends_much(server, r, prompt):
    body = chat(prompt, 2, extra=[str(i) * r.randrange(1, 30) for i in range(r.randrange(100, 40000))])
    status, _ = server.ask("/v1/chat/completions", body)
    return None if status in (200, 413, 429) else f"a large body got {status}"


def fills_cache(server, r, prompt):
    words = " ".join(str(r.randrange(10**6)) for _ in range(r.randrange(20, 90)))
    status, _ = server.ask("/v1/chat/completions", chat(words, 200, ignore_eos=True))
    return None if status in (200, 400, 429) else f"a long prompt got {status}"


def cannot_wait(server, r, prompt):
    s = socket.create_connection(("127.0.0.1", server.port), timeout=600)
    s.sendall(r.choice([b"", b"GET", b"\0\1\2\xff\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]))
    s.settimeout(r.random())
    try:
        s.recv(1000)
    except (TimeoutError, ConnectionError):
        pass
    s.close()


def asks_around(server, r, prompt):
    if server.running() < 0:
        return "fewer than no answers run"
    status, answer = server.ask("/tokenize", json.dumps({"prompt": prompt}))
    return None if status == 200 and answer["count"] == len(answer["tokens"]) else f"/tokenize: {status} {answer}"


def wants_json(server, r, prompt):
    status, answer = server.ask("/v1/chat/completions", chat(prompt, 300, temperature=1, response_format={
        "type": "json_schema", "json_schema": {"schema": SCHEMA}}))
    if status == 429:
        return None
    v = json.loads(answer["choices"][0]["message"]["content"])
    ok = list(v) == ["name", "n"] and isinstance(v["name"], str) and len(v["name"]) <= 12 and 1 <= v["n"] <= 99
    return None if ok else f"no such object: {v}"


BAD = [breaks_off, reads_slowly, closes_half, stops_within, sends_nonsense, sends_much, sends_too_much, fills_cache, cannot_wait,
       asks_around, wants_json]


class Watch(threading.Thread):
    """Seconds in which we were not stopped, and the server's memory in MiB by them."""
    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.seconds, self.samples, self.over = server, 0, [], False
        self.start()

    def run(self):
        while not self.over:
            begun = time.time()
            time.sleep(1)
            self.seconds += min(time.time() - begun, 2)
            try:
                self.samples.append((self.seconds, self.server.memory()))
            except OSError:
                return  # it has ended

    def grown(self):
        """The mean of the second minute, and that of the later minute in which it was largest."""
        minutes = {}
        for t, m in self.samples:
            minutes.setdefault(int(t // 60), []).append(m)
        means = [sum(m) / len(m) for _, m in sorted(minutes.items()) if len(m) > 20]
        return (means[1], max(means[2:])) if len(means) > 2 else None


def grown_by_halves(held):
    """The most that was held in the first half, and in the second."""
    return (max(held[1:PARTS // 2]), max(held[PARTS // 2:])) if len(held) == PARTS else None


class Run:
    def __init__(self, server, expected, tokens, at_once):
        self.server, self.expected, self.tokens, self.at_once = server, expected, tokens, at_once
        self.wrong, self.n_done, self.n_bad, self.lock, self.over = [], 0, {}, threading.Lock(), False

    def fail(self, what):
        with self.lock:
            self.wrong.append(what)
            print("not ok  ", what, flush=True)

    def good(self, prompts):
        while True:
            with self.lock:
                if not prompts:
                    return
                prompt = prompts.pop()
            while True:
                status, answer = self.server.ask("/v1/chat/completions", chat(prompt, self.tokens))
                if status != 429:
                    break
                time.sleep(0.2)
            said = answer["choices"][0]["message"]["content"] if status == 200 else answer
            if said != self.expected[prompt]:
                self.fail(f"{prompt!r}: {said!r}, not {self.expected[prompt]!r}")
            with self.lock:
                self.n_done += 1

    def bad(self, seed, which, least):
        """One kind after the other, at least so many, until it is over."""
        r = random.Random(seed)
        prompts, n = list(self.expected), 0
        while not self.over or n < least:
            kind = BAD[(which + N_BAD * n) % len(BAD)]
            n += 1
            try:
                wrong = kind(self.server, r, r.choice(prompts))
            except Exception as e:
                wrong = None if self.over else f"{kind.__name__}: {e!r}"
            if wrong:
                self.fail(wrong)
            with self.lock:
                self.n_bad[kind.__name__] = self.n_bad.get(kind.__name__, 0) + 1

    def once(self, seed):
        prompts = list(self.expected)
        random.Random(seed).shuffle(prompts)
        self.over = False
        least = len(BAD) / N_BAD if seed == 1 else 0  # each kind comes once
        bad = [threading.Thread(target=self.bad, args=(seed * 100 + i, seed + i, least)) for i in range(N_BAD)]
        good = [threading.Thread(target=self.good, args=(prompts,)) for _ in range(self.at_once)]
        for t in bad + good:
            t.start()
        for t in good:
            t.join()
        self.over = True
        for t in bad:
            t.join()
        end = time.time() + 60
        while self.server.running() > 0 and time.time() < end:
            time.sleep(0.2)
        if self.server.running() > 0:
            self.fail("something runs that nobody waits for")


def touch_all(server):
    """What the engine has set aside for the widest pass and a full cache counts from when it is first used: at
    once, by eight long prompts of which each row has its logits."""
    def one(i):
        r = random.Random(i)
        server.ask("/v1/completions", json.dumps({"prompt": [r.randrange(5, 200) for _ in range(960)], "echo": True, "logprobs": 1,
                                                  "temperature": 0, "max_tokens": 30, "ignore_eos": True}))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def is_sanitized(program):
    with open(program, "rb") as f:
        code = f.read()
    return b"__asan_init" in code or b"__tsan_init" in code


def generated(program, options, prompt, tokens):
    said = subprocess.run([program, "generate", *options, "--chat", "-p", prompt, "-n", str(tokens), "--drafter", "none"],
                          capture_output=True, check=True)
    return said.stdout[:-1].decode()


def drafters(program):
    text = subprocess.run([program, "help", "serve"], capture_output=True, text=True, check=True).stdout
    at = text.split("--drafter NAME", 1)[1].split("\n")[1]
    return [name for name in at.replace(" or ", ", ").replace(",", " ").split() if name != "dash-direct"]


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("program")
    p.add_argument("--prompts", type=int, default=200)
    p.add_argument("--at-once", type=int, default=16)
    p.add_argument("--drafters", default="")
    p.add_argument("--minutes", type=float, default=0)
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--tokens", type=int, default=24)
    p.add_argument("--without", default="")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    a = p.parse_args(sys.argv[1:at])
    BAD[:] = [kind for kind in BAD if kind.__name__ not in a.without.split(",")]
    options = sys.argv[at + 1:] or ["--demo", "-t", "1"]
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../bench/prompts.txt")) as f:
        lines = [line.strip() for line in f if line.strip()]
    prompts = [lines[i % len(lines)] + ("" if i < len(lines) else f" ({i})") for i in range(a.prompts)]
    expected = {prompt: generated(a.program, options, prompt, a.tokens) for prompt in prompts}
    wrong = 0
    for name in a.drafters.split(",") if a.drafters else drafters(a.program):
        try:
            server = Server(a.program, options, ["--drafter", name, "--parallel", "8", "--max-body", "4000000",
                                                 "--ctx", "1000", "--cache", "3000", "--timeout", "600"])
        except SystemExit as e:
            if "needs a file" not in str(e):
                raise
            print(f"skipped  {name}: {str(e).strip().splitlines()[-1]}")
            continue
        run = Run(server, expected, a.tokens, a.at_once)
        if a.minutes or a.rounds > 1:
            touch_all(server)
            time.sleep(TRIM)
        start = server.memory()
        watch, held, n_rounds = Watch(server), [], 0
        while n_rounds < a.rounds or watch.seconds < 60 * a.minutes:
            n_rounds += 1
            run.once(n_rounds)
            if not a.minutes and a.rounds >= PARTS and n_rounds * PARTS % a.rounds < PARTS:
                time.sleep(TRIM)
                held.append(server.memory())
            if a.minutes or len(held) > 0 and n_rounds * PARTS % a.rounds < PARTS:
                print(f"{watch.seconds / 60:.1f} minutes: {run.n_done} answers, {server.memory():.1f} MiB", flush=True)
        watch.over, grown, last = True, watch.grown() if a.minutes else grown_by_halves(held), server.memory()
        if is_sanitized(a.program):
            grown = None
        if grown and grown[1] > 1.02 * grown[0] + (0 if "wants_json" in a.without else 16):
            run.fail(f"memory grew from {grown[0]:.1f} to {grown[1]:.1f} MiB")
        if grown and held and grown[1] > 1.15 * start:
            run.fail(f"{grown[1]:.1f} MiB are held, and {start:.1f} were at the start")
        status = server.stop()
        if status != 0 or any("Sanitizer" in line for line in server.said):
            run.fail(f"exit status {status}: {''.join(server.said)}")
        when = "in the second minute" if a.minutes else "at first"
        most = f"{start:.1f} MiB, {grown[0]:.1f} {when}, at most {grown[1]:.1f} later" if grown else f"{last:.1f} MiB"
        print(f"{'not ok' if run.wrong else 'ok'}   {name}: {run.n_done} answers, {most}; bad clients: {run.n_bad}", flush=True)
        wrong += len(run.wrong)
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
