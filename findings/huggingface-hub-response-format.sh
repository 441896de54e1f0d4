#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# huggingface_hub 2.4.0: InferenceClient(base_url=...) and a response_format of the type json_schema.
# Expected: the server at base_url gets the response_format that was given, as it gets tools, stop and the rest, and
#   as openai 3.57.0 sends it.
# Seen: it is rewritten for text-generation-inference, whatever the server: {"type": "json_object", "value": schema},
#   without name and strict. A server that knows OpenAI's json_object reads "any object" and leaves the unknown
#   member alone: the schema is lost without an error, and answers that break it come back as good ones.
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
        Server.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps({"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "{}"}, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
at = dict(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="-")
hub, peer = InferenceClient(**at), openai.OpenAI(max_retries=0, **at)

schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
given = {"type": "json_schema", "json_schema": {"name": "count", "strict": True, "schema": schema}}
ask = dict(model="m", messages=[{"role": "user", "content": "count"}], response_format=given, stop=["."])
seen = {}
for name, create in (("openai", peer.chat.completions.create), ("huggingface_hub", hub.chat_completion)):
    create(**ask)
    seen[name] = Server.asked["response_format"], Server.asked["stop"]
    print(f"{name}: {json.dumps(seen[name][0])}")
sys.exit(0 if seen == {"openai": (given, ["."]),
                       "huggingface_hub": ({"type": "json_object", "value": schema}, ["."])} else 1)
EOF
