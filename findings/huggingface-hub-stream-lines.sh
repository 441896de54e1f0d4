#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# huggingface_hub 2.4.0: a streamed chat answer that holds U+2028, U+2029 or U+0085.
# Expected: the three characters arrive. JSON lets them stand in a string as they are, and lines of server-sent events
#   end at CR and LF only.
# Seen: InferenceClient's lines end at all that str.splitlines() takes for an end: the data is cut inside of the string,
#   and the stream ends with a JSONDecodeError in the middle of the answer. openai reads the same bytes well. A
#   server in Python that writes ASCII only never meets this; one that writes UTF-8 as it is has to escape these three.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check huggingface_hub==2.4.0 openai==3.57.0
"$tmp/venv/bin/python" - <<'EOF'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai
from huggingface_hub import InferenceClient

class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for text, finish in (("one", None), (told, None), ("three", "stop")):
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m",
                     "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
            self.wfile.write(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
at = dict(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="-")
hub, peer = InferenceClient(**at), openai.OpenAI(max_retries=0, **at)

def read(stream):
    came = []
    try:
        for chunk in stream:
            came.append(chunk.choices[0].delta.content)
    except ValueError as e:
        came.append(type(e).__name__)
    return came

good = True
for told in ("a\u2028b", "a\u2029b", "a\u0085b", "a b"):
    ask = dict(model="m", messages=[{"role": "user", "content": told}], stream=True)
    seen, whole = read(hub.chat_completion(**ask)), read(peer.chat.completions.create(**ask))
    print(f"{ascii(told)}: openai {ascii(whole)}, huggingface_hub {ascii(seen)}")
    good &= whole == ["one", told, "three"] and seen == (whole if told == "a b" else ["one", "JSONDecodeError"])
sys.exit(0 if good else 1)
EOF
