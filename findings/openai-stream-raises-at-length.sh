#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# openai 3.57.0: `client.chat.completions.stream()` where an answer ends because max_tokens is reached.
# Expected: get_final_completion() gives the answer as far as it came, with finish_reason "length", as
#   `create()` does; only where a response_format or strict tools are given is there anything to parse.
# Seen: without any format get_final_completion() raises LengthFinishReasonError, though all events came and ended
#   well. The same chunks through `create(stream=True)` end without an error.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check openai==3.57.0
"$tmp/venv/bin/python" - <<'EOF'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai

class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta, finish in (({"role": "assistant", "content": "one"}, None), ({"content": " two"}, None), ({}, "length")):
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m",
                     "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="-", max_retries=0)
ask = dict(model="m", messages=[{"role": "user", "content": "count"}], max_tokens=2)

plain = [c.choices[0].finish_reason for c in client.chat.completions.create(stream=True, **ask)][-1]
text, ended = "", "no error"
try:
    with client.chat.completions.stream(**ask) as stream:
        for event in stream:
            text += event.delta if event.type == "content.delta" else ""
        stream.get_final_completion()
except openai.LengthFinishReasonError as e:
    ended = type(e).__name__
print("create(stream=True): ends with", plain)
print("stream():            text", repr(text), "and", ended)
sys.exit(0 if plain == "length" and text == "one two" and ended == "LengthFinishReasonError" else 1)
EOF
