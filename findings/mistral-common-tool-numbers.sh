#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# mistral_common 1.13.1: what the model reads of the text that a tool gave back, with the v3 tokenizer.
# Expected: the text. `content` of a tool's message is a string, and the v7 tokenizer hands it on as it is.
# Seen: a text that happens to be JSON is read as JSON and written anew: a version "3.10" becomes 3.1, "0.1000" 0.1,
#   "1e400" Infinity, and of two equal keys one is lost. "3.10.1" and "007", which are no JSON, become strings in
#   quotation marks. The arguments of the call are read and written anew by both. A model that asked a tool for
#   the newest version is told another one.
# Exit status: 1 if this has changed.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check 'mistral_common[sentencepiece]==1.13.1'
"$tmp/venv/bin/python" - <<'EOF'
import sys
from mistral_common.protocol.instruct.messages import AssistantMessage, ToolMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import Function, FunctionCall, Tool, ToolCall
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

tools = [Tool(function=Function(name="version", parameters={}))]
call = ToolCall(id="abcdefghi", function=FunctionCall(name="version", arguments='{"above": 3.10}'))

def prompt(tokenizer, told):
    messages = [UserMessage(content="Which?"), AssistantMessage(content=None, tool_calls=[call]),
                ToolMessage(tool_call_id="abcdefghi", name="version", content=told)]
    made = tokenizer.encode_chat_completion(ChatCompletionRequest(messages=messages, tools=tools))
    return made.text.replace("\u2581", " ")

def between(text, before, behind):
    return text.split(before)[-1].split(behind)[0].strip()

v3, v7 = MistralTokenizer.v3(), MistralTokenizer.v7()
want = {"3.10": "3.1", "0.1000": "0.1", "1e400": "Infinity", '{"a": 1, "a": 2}': '{"a": 2}', "3.10.1": '"3.10.1"'}
good = True
for told, expect in want.items():
    three = between(prompt(v3, told), '{"content":', ', "call_id"')
    seven = between(prompt(v7, told), "[TOOL_CONTENT]", "[/TOOL_RESULTS]")
    print(f"the tool says {told}: v3 {three}, v7 {seven}")
    good &= three == expect and seven == told
arguments = [between(prompt(v, "x"), '"arguments":', ', "id"') for v in (v3, v7)]
print(f"arguments {call.function.arguments}: v3 {arguments[0]}, v7 {arguments[1]}")
sys.exit(0 if good and arguments == ['{"above": 3.1}'] * 2 else 1)
EOF
