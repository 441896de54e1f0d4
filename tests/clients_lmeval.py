#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""For clients.sh: two made-up tasks for lm-eval, and what came of them.

clients_lmeval.py write DIR | check DIR URL FORETOKEN MODEL... | guide FILE"""
import glob
import json
import random
import subprocess
import sys
import tempfile
import urllib.request

WORDS = "apple river table stone cloud horse paper green music night seven bread".split()

TASK = """task: pattern_choice
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/items.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
metric_list:
  - metric: acc
"""

SAY = """task: pattern_words
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/items.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: "{{{{choices[label]}}}}"
generation_kwargs:
  until: ["\\n", "."]
  max_gen_toks: 8
metric_list:
  - metric: exact_match
"""


def write(folder):
    r = random.Random(5)
    with open(folder + "/items.jsonl", "w") as f:
        for _ in range(40):
            pattern = r.sample(WORDS, 3)
            others = r.sample([w for w in WORDS if w not in pattern], 3)
            choices = [pattern[2], *others]
            r.shuffle(choices)
            text = " ".join(pattern * 4 + pattern[:2])
            f.write(json.dumps({"text": text, "choices": choices, "label": choices.index(pattern[2])}) + "\n")
    for name, task in (("choice", TASK), ("words", SAY)):
        with open(f"{folder}/{name}.yaml", "w") as f:
            f.write(task.format(folder=folder))


def post(url, path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def ids(url, text):
    return post(url, "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]


def sums(url, prompt):
    own = post(url, "/v1/completions", {"prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 0})["choices"][0]
    return own["logprobs"]["token_logprobs"]


def log_likelihood(program, model, text):
    """ftk_score()'s, by the command line."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write(text)
        f.flush()
        said = subprocess.run([program, "perplexity", *model, "-f", f.name, "--json"], capture_output=True, text=True, check=True)
    said = json.loads(said.stdout)
    return -said["nats_per_token"] * said["tokens"]


def check(folder, url, program, *model):
    (file,) = glob.glob(folder + "/out/**/samples_pattern_choice*.jsonl", recursive=True)
    samples = [json.loads(line) for line in open(file)]
    right = sum(s["acc"] for s in samples)
    print(f"pattern_choice: {right:.0f} of {len(samples)} right, by chance {len(samples) / 4:.0f}")
    bad = 0
    for s in samples[:10]:
        text = s["doc"]["text"]
        n = len(ids(url, text))
        for choice, answer in zip(s["doc"]["choices"], s["resps"]):
            own = sum(sums(url, ids(url, text + " " + choice))[n:])
            bad += abs(own - float(answer[0][0])) > 1e-4
    print(f"{bad} of lm-eval's log-likelihoods are not the server's own")
    for s in samples[:3]:
        text = s["doc"]["text"]
        own, score = sum(x for x in sums(url, text) if x is not None), log_likelihood(program, model, text)
        if abs(own - score) > 1e-3:
            print("not ftk_score()'s:", own, score)
            bad += 1
    return bad > 0 or right < 0.6 * len(samples)


def guide(file):
    report = json.load(open(file))
    totals = report["benchmarks"][0]["metrics"]["request_totals"]
    print("guidellm:", totals)
    return totals["successful"] < 10 or totals["errored"] > 0


if __name__ == "__main__":
    sys.exit({"write": write, "check": check, "guide": guide}[sys.argv[1]](*sys.argv[2:]))
