#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Spec-Bench's protocol in OpenVINO GenAI; peers.md tells the whole of it.

    bench/peers_openvino.py MODEL.gguf QUESTIONS.jsonl --threads 2 [--lookup] > ANSWERS.tsv

Prints the lines of `peers.sh ask`, so that `peers.sh table` sums them up: family, question, tokens, drafted tokens that
were accepted, seconds, the answers. Every prompt is read anew, whatever the pipeline has read before; the time is that of
template, tokenizer, passes and text. Families take turns, as in specbench. It needs the package openvino-genai.

    --max-new N    tokens of an answer at most, 1024        --lookup                  drafts by looking up the last tokens
    --limit N      the first N questions of each family     --num-assistant-tokens N  drafted tokens, 5
    --threads N    all cores                                --max-ngram-size N        tokens looked up at most, 3
    --as-it-comes  without the properties under which lookup gives the text of plain decoding

(This file's name is not openvino.py, as Python would then find it in place of the package.)"""
import argparse
import json
import os
import sys
import time

from load import MT_BENCH, positive

# Else the rows of a pass change its last bits and more: activations of 8 bits, sums of bfloat16 where the processor has it
EXACT = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f16"}


def fail(text):
    print(f"peers_openvino.py: {text}", file=sys.stderr)
    sys.exit(1)


def read_questions(path, limit):
    """(family, id, turns), the first `limit` of each family in turn."""
    families, number = {}, 0
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                q = json.loads(line)
                family = "mt_bench" if q["category"] in MT_BENCH else q["category"]
                families.setdefault(family, []).append((family, q["question_id"], q["turns"]))
    except OSError as e:
        fail(f"{path}: {e.strerror}")
    except (ValueError, KeyError, TypeError) as e:
        fail(f"{path}: line {number} is no question of Spec-Bench: {type(e).__name__}: {e}")
    if not families:
        fail(f"{path}: holds no questions")
    turns = max(map(len, families.values()))
    return [f[i] for i in range(min(limit or turns, turns)) for f in families.values() if i < len(f)]


class Peer:
    def __init__(self, o):
        try:
            import openvino_genai as genai
        except ImportError as e:
            fail(f"{e}: pip install openvino-genai")
        # Its own defaults but for the cache of what was read before, which would spare a second turn the first.
        scheduler = genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False
        scheduler.max_num_batched_tokens = sys.maxsize
        properties = {} if o.as_it_comes else EXACT
        if o.threads:
            properties = {**properties, "INFERENCE_NUM_THREADS": o.threads}
        if o.lookup:
            properties = {**properties, "prompt_lookup": True}
        try:
            self.pipeline = genai.LLMPipeline(o.model, "CPU", scheduler_config=scheduler, **properties)
        except RuntimeError as e:  # its last line says what, those before where in its source
            fail(f"{o.model}: {str(e).strip().splitlines()[-1]}")
        self.tokenizer = self.pipeline.get_tokenizer()
        self.config = genai.GenerationConfig(do_sample=False)
        if o.lookup:
            self.config.num_assistant_tokens = o.num_assistant_tokens
            self.config.max_ngram_size = o.max_ngram_size

    def answer(self, messages, most):
        """(tokens of the prompt, tokens, drafted tokens among them, seconds, text)"""
        self.config.max_new_tokens = most
        began = time.perf_counter()
        prompt = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        ids = self.tokenizer.encode(prompt, add_special_tokens=False)
        result = self.pipeline.generate(ids, self.config)
        text = self.tokenizer.decode(result.tokens[0])
        seconds = time.perf_counter() - began
        tokens, passes = len(result.tokens[0]), len(result.perf_metrics.raw_metrics.m_batch_sizes)
        return ids.input_ids.shape[1], tokens, tokens - passes, seconds, text


def ask(peer, question, most):
    family, number, turns = question
    messages, tokens, accepted, seconds, read = [], 0, 0, 0.0, []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        prompt, n, drafted, took, text = peer.answer(messages, most)
        messages.append({"role": "assistant", "content": text})
        tokens, accepted, seconds = tokens + n, accepted + drafted, seconds + took
        read.append(prompt)
    texts = json.dumps([m["content"] for m in messages[1::2]], ensure_ascii=False, separators=(",", ":"))
    print(family, number, tokens, accepted, f"{seconds:.6f}", texts, sep="\t", flush=True)
    print(f"question {number}: prompts of {read} tokens, {tokens} answered", file=sys.stderr)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("questions")
    p.add_argument("--max-new", type=positive, default=1024)
    p.add_argument("--limit", type=positive)
    p.add_argument("--threads", type=positive)
    p.add_argument("--lookup", action="store_true")
    p.add_argument("--num-assistant-tokens", type=positive, default=5)
    p.add_argument("--max-ngram-size", type=positive, default=3)
    p.add_argument("--as-it-comes", action="store_true")
    o = p.parse_args()
    questions = read_questions(o.questions, o.limit)
    if not os.path.isfile(o.model):
        fail(f"{o.model}: no such file")
    peer = Peer(o)
    for _, _, turns in questions[:3]:  # as specbench warms up, so that nobody pays for what is only done once
        peer.answer([{"role": "user", "content": turns[0]}], min(o.max_new, 64))
    for question in questions:
        ask(peer, question, o.max_new)


if __name__ == "__main__":
    main()
