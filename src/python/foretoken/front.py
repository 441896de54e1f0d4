# SPDX-License-Identifier: Apache-2.0
"""The entrance of the Ray Serve application: a part of OpenAI's HTTP over replicas. What it does not know it refuses, so
that nothing is left out in silence; the whole of it is `foretoken serve`."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ray import exceptions
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from . import ray as replicas
from .answers import Completion
from .errors import BusyError, ContextError, InvalidError

# OpenAI's names, and ours.
FIELDS = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repetition_penalty": "repeat_penalty",
    "min_tokens": "min_tokens",
    "ignore_eos": "ignore_end",
}

# Fields that would change the answer; others are passed over, as servers do.
REFUSED = (
    "tools",
    "functions",
    "response_format",
    "logprobs",
    "top_logprobs",
    "echo",
    "best_of",
    "suffix",
)

FINISHES = {"limit": "length", "context": "length"}


class Refusal(Exception):
    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Front:
    """Takes requests, has replicas answer them, and goes on elsewhere when one is lost."""

    def __init__(self, handle: DeploymentHandle, name: str) -> None:
        self._replicas = handle
        self._name = name

    async def __call__(self, request: Request) -> Response:
        path = request.url.path.rstrip("/").removeprefix("/v1").removesuffix("/health")
        if path == "" and request.method == "GET":
            return JSONResponse({"status": "ok"})
        if path == "/models" and request.method == "GET":
            model = {"id": self._name, "object": "model", "created": 0, "owned_by": "foretoken"}
            return JSONResponse({"object": "list", "data": [model]})
        kind = {"/chat/completions": "chat", "/completions": "text"}.get(path)
        if kind is None or request.method != "POST":
            return _error(
                404, "paths are POST /v1/chat/completions, /v1/completions, GET /v1/models, /health"
            )
        try:
            body = json.loads(await request.body())
            answer = _Answer(kind, body, self._name)
        except ValueError:
            return _error(400, "the body is no JSON object")
        except Refusal as refusal:
            return _error(400, str(refusal), refusal.param)
        pieces = replicas.answers(self._replicas, answer.prompt, answer.options)
        try:
            first = await anext(pieces)
        except Exception as error:
            return _failure(error)
        if body.get("stream"):
            return StreamingResponse(answer.events(first, pieces), media_type="text/event-stream")
        try:
            while "completion" not in first:
                first = await anext(pieces)
        except Exception as error:
            return _failure(error)
        return JSONResponse(answer.whole(first["completion"]))


class _Answer:
    """One request, and how it is answered."""

    def __init__(self, kind: str, body: Any, name: str) -> None:
        if not isinstance(body, Mapping):
            raise Refusal("the body is no JSON object")
        self.kind = kind
        self.prompt = self._prompt(body)
        for name in REFUSED:
            value = body.get(name)
            if value not in (None, False, [], {"type": "text"}):
                raise Refusal(f"{name} is not known here", name)
        if body.get("n") not in (None, 1):
            raise Refusal("n: one answer at a time", "n")
        self.options = {
            ours: body[name] for name, ours in FIELDS.items() if body.get(name) is not None
        }
        self.options.setdefault("temperature", 1.0)
        if kind == "text":
            self.options.setdefault("max_tokens", 16)
        if "seed" not in self.options:  # one that holds for all replicas that may go on with it
            self.options["seed"] = uuid.uuid4().int >> 64
        self._usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self._same = {
            "id": f"{'chatcmpl' if kind == 'chat' else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": name,
        }

    def _prompt(self, body: Mapping[str, Any]) -> Any:
        name = "messages" if self.kind == "chat" else "prompt"
        prompt = body.get(name)
        if self.kind == "text" and isinstance(prompt, str):
            return prompt
        if not isinstance(prompt, list) or not prompt:
            raise Refusal(f"{name} is missing, or is of another type than it should be", name)
        if self.kind == "chat":
            return [self._message(message) for message in prompt]
        if not all(type(token) is int for token in prompt):
            raise Refusal("prompt: give one text or one list of token ids", name)
        return prompt

    def _message(self, message: Any) -> dict[str, str]:
        content = message.get("content") if isinstance(message, Mapping) else None
        if isinstance(content, list) and all(
            isinstance(part, Mapping) and part.get("type") == "text" for part in content
        ):
            content = "".join(str(part.get("text", "")) for part in content)
        if not isinstance(content, str) or not isinstance(message.get("role"), str):
            raise Refusal("messages: give a role and a text as content for each", "messages")
        return {"role": message["role"], "content": content}

    def whole(self, completion: Completion) -> dict[str, Any]:
        said: dict[str, Any] = {"text": completion.text}
        if self.kind == "chat":
            said = {"message": {"role": "assistant", "content": completion.text}}
        choice = {"index": 0, **said, "finish_reason": _finish(completion), "logprobs": None}
        return {**self._head(False), "choices": [choice], "usage": _usage(completion)}

    async def events(
        self, first: dict[str, Any], rest: AsyncIterator[dict[str, Any]]
    ) -> AsyncIterator[str]:
        """Server-sent events. An error after the first one is an event, too."""
        try:
            piece = first
            if self.kind == "chat":
                yield self._event({"role": "assistant", "content": ""}, None)
            while "completion" not in piece:
                yield self._event({"content": piece["text"]}, None)
                piece = await anext(rest)
            completion = piece["completion"]
            yield self._event({}, _finish(completion))
            if self._usage:
                yield _data({**self._head(True), "choices": [], "usage": _usage(completion)})
        except Exception as error:
            yield _data(json.loads(bytes(_failure(error).body)))
        yield "data: [DONE]\n\n"

    def _event(self, delta: dict[str, str], finish: str | None) -> str:
        said: dict[str, Any] = {"delta": delta}
        if self.kind == "text":
            said = {"text": delta.get("content", "")}
        choice = {"index": 0, **said, "finish_reason": finish, "logprobs": None}
        return _data({**self._head(True), "choices": [choice]})

    def _head(self, streamed: bool) -> dict[str, Any]:
        object_name = "text_completion"
        if self.kind == "chat":
            object_name = "chat.completion.chunk" if streamed else "chat.completion"
        return {**self._same, "object": object_name}


def _finish(completion: Completion) -> str:
    return FINISHES.get(completion.finish, "stop")


def _usage(completion: Completion) -> dict[str, Any]:
    n = len(completion.tokens)
    return {
        "prompt_tokens": completion.n_prompt,
        "completion_tokens": n,
        "total_tokens": completion.n_prompt + n,
        "prompt_tokens_details": {"cached_tokens": completion.n_cached},
        "completion_tokens_details": {
            "accepted_prediction_tokens": completion.accepted,
            "rejected_prediction_tokens": completion.drafted - completion.accepted,
        },
    }


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _failure(error: BaseException) -> JSONResponse:
    """What a replica refused, or that it is gone."""
    cause = error.cause if isinstance(error, exceptions.RayTaskError) else error
    if isinstance(cause, BusyError):
        return _error(429, str(cause), headers={"Retry-After": "1"})
    if isinstance(cause, (InvalidError, ContextError, TypeError)):
        return _error(400, str(cause))
    if isinstance(cause, replicas.ReplicaLostError):
        return _error(503, str(cause))
    return _error(500, f"{type(cause).__name__}: {cause}")


def _error(
    status: int, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    kind = "invalid_request_error" if status < 429 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": param, "code": None}}
    return JSONResponse(body, status, headers)
