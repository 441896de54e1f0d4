#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`vllm bench serve` against our server, without vLLM's engine:

    clients_vllm.py FORETOKEN MODEL TOKENIZER

The client is the package's own, as it is; what it takes from the engine's LoRA for paths alone is left out, as that would
load the whole of it. It needs vllm (pip install --no-deps will do), torch and what it then misses, and a folder with the
model's tokenizer.json and config.json. Ends with 77 where it is not there. What has to hold: all requests are
answered, each with as many tokens as were asked for, and the client finds our figures of speculation."""
import contextlib
import io
import re
import subprocess
import sys
import types


def client():
    """Its parser of arguments, and its main()."""
    names = "vllm.lora", "vllm.lora.utils", "vllm.lora.request"
    parts = {name: types.ModuleType(name) for name in names}
    parts["vllm.lora"].__path__ = []
    parts["vllm.lora.utils"].get_adapter_absolute_path = lambda path: path
    parts["vllm.lora.request"].LoRARequest = type("LoRARequest", (), {})
    sys.modules.update(parts)
    from vllm.benchmarks.serve import add_cli_args, main
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    return parser, main


def main():
    program, model, tokenizer = sys.argv[1:4]
    try:
        parser, run = client()
    except ImportError as e:
        print(f"SKIPPED: vllm's client is not there: {e}")
        return 77
    server = subprocess.Popen([program, "serve", "-m", model, "--port", "0", "--metrics-names", "vllm", "--drafter", "recycle"],
                              stderr=subprocess.PIPE, text=True)
    url = next(line.split()[-1] for line in server.stderr if "listening on" in line)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            run(parser.parse_args(["--backend", "openai", "--base-url", url, "--endpoint", "/v1/completions", "--model", "any",
                                   "--tokenizer", tokenizer, "--dataset-name", "random", "--random-input-len", "32",
                                   "--random-output-len", "48", "--num-prompts", "8", "--max-concurrency", "4"]))
    finally:
        server.terminate()
        server.wait(60)
    text = said.getvalue()
    print(text)
    figures = dict(re.findall(r"^(.*?):\s+([\d.]+)\s*$", text, re.M))
    ok = figures.get("Successful requests") == "8" and figures.get("Total generated tokens") == str(8 * 48) and "Acceptance rate (%)" in figures
    print("ok" if ok else "not ok")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
