# SPDX-License-Identifier: Apache-2.0
"""Replicas on Ray: an actor, and a Ray Serve application.

    from ray import serve
    import foretoken.ray

    serve.run(foretoken.ray.app("model.gguf", max_replicas=8, num_cpus=4))

Each replica has an engine of its own. An answer is fixed by its prompt, settings and seed, so that one whose replica is
lost goes on elsewhere behind what was given already, and nobody notices; see answers().
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import exceptions, serve
from ray.serve.handle import DeploymentHandle
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from ._calls import logger
from .aio import AsyncEngine
from .answers import Completion, Prompt
from .errors import ClosedError, Error
from .model import demo_model

#: What says that a replica is gone, or was not there.
LOST = (
    exceptions.RayActorError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    exceptions.WorkerCrashedError,
)

#: So many characters of a text, or tokens, decide which replica has it. Few, as prompts grow from one request to the next.
PREFIX = 64


class ReplicaLostError(Error):
    """The replica of an answer was lost, and so were those that took its place."""


class Replica:
    """An engine and its thread: what the actor and the deployment are made of."""

    def __init__(
        self, model: str | None = None, *, parallel: int = 16, queue: int = 1024, **config: Any
    ) -> None:
        """What AsyncEngine() takes."""
        self._engine = AsyncEngine(model, parallel=parallel, queue=queue, **config)

    async def stream(
        self, prompt: Prompt, options: Mapping[str, Any] | None = None, resume: Sequence[int] = ()
    ) -> AsyncIterator[dict[str, Any]]:
        """Answers a prompt: {"text", "tokens"} for each piece, and {"completion"} at the end, without which the answer
        is not whole. options: those of AsyncEngine.stream(). resume: tokens that came from another replica."""
        stream = self._engine.stream(prompt, resume=resume, **(options or {}))
        try:
            async for piece in stream:
                yield {"text": str(piece), "tokens": piece.tokens}
            yield {"completion": stream.completion}
        finally:
            await stream.aclose()

    async def generate(
        self, prompt: Prompt, options: Mapping[str, Any] | None = None
    ) -> Completion:
        """The whole answer at once."""
        return await self._engine.generate(prompt, **(options or {}))

    async def load(self) -> tuple[int, int]:
        """Answers that run, and that wait."""
        return self._engine.load

    async def where(self) -> str:
        """The node that it runs on."""
        return ray.get_runtime_context().get_node_id()

    def check_health(self) -> None:
        """For Ray Serve, which replaces a replica whose check fails."""
        if self._engine.closed:
            raise ClosedError("the engine has ended")


def actor(
    model: str | None = None,
    *,
    num_cpus: int = 1,
    options: Mapping[str, Any] | None = None,
    **config: Any,
) -> Any:
    """A Ray actor with an engine of num_cpus threads, that is started anew when it is lost. options: more for Ray,
    such as {"resources": {...}, "max_restarts": 0}. config: what Replica() takes."""
    wanted = {"num_cpus": num_cpus, "max_restarts": -1, **(options or {})}
    return ray.remote(Replica).options(**wanted).remote(model, threads=num_cpus, **config)


def app(
    model: str | None = None,
    *,
    num_cpus: int = 1,
    min_replicas: int = 1,
    max_replicas: int = 1,
    target_ongoing_requests: int = 8,
    parallel: int = 16,
    most_ahead: int = 8,
    ray_actor_options: Mapping[str, Any] | None = None,
    deployment: Mapping[str, Any] | None = None,
    **config: Any,
) -> serve.Application:
    """A Ray Serve application: an entrance that speaks a part of OpenAI's HTTP, see foretoken.front, and replicas with an
    engine of num_cpus threads each. Serve starts and ends them so that each has about target_ongoing_requests.

    Prompts that begin alike go to one replica, as long as it has at most most_ahead requests more than another.
    deployment: more for serve.deployment(). config: what Replica() takes."""
    from .front import Front

    options: dict[str, Any] = {
        "name": "Replica",
        "ray_actor_options": {"num_cpus": num_cpus, **(ray_actor_options or {})},
        "autoscaling_config": {
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
            "target_ongoing_requests": target_ongoing_requests,
        },
        "max_ongoing_requests": 2 * parallel,
        "request_router_config": {
            "request_router_class": "foretoken.ray.PrefixRouter",
            "request_router_kwargs": {"most_ahead": most_ahead},
        },
        **(deployment or {}),
    }
    replicas = serve.deployment(**options)(Replica)
    bound = replicas.bind(model, threads=num_cpus, parallel=parallel, **config)
    front = serve.deployment(name="Front", max_ongoing_requests=10000)(Front)
    return front.bind(bound, Path(model or demo_model()).stem)


# ---- asking


async def answers(
    replicas: Any,
    prompt: Prompt,
    options: Mapping[str, Any] | None = None,
    *,
    retries: int = 5,
    patience: float = 0.2,
) -> AsyncIterator[dict[str, Any]]:
    """What Replica.stream() gives, of an actor or of a Serve handle to replicas. Where the one that answers is lost, the
    answer goes on in another one, behind the tokens that were given. After `retries` of that, each `patience` seconds
    and twice as long as the one before later, it ends with ReplicaLostError: in any case with {"completion"} or an
    exception, never before."""
    came: list[int] = []
    why: BaseException | None = None
    for attempt in range(retries + 1):
        if attempt > 0:
            logger.warning(
                "a replica was lost; its answer goes on in another behind %d tokens: %s",
                len(came),
                why,
            )
            await asyncio.sleep(patience * 2 ** (attempt - 1))
        try:
            async for piece in _pieces(replicas, prompt, dict(options or {}), came):
                came += piece.get("tokens", [])
                yield piece
                if "completion" in piece:
                    return
            why = None  # a stream that ends too early is no answer either
        except LOST as error:
            why = error
    raise ReplicaLostError(
        f"the replica was lost {retries + 1} times, after {len(came)} tokens of the answer"
    ) from why


async def _pieces(
    replicas: Any, prompt: Prompt, options: dict[str, Any], came: Sequence[int]
) -> AsyncIterator[dict[str, Any]]:
    if isinstance(replicas, DeploymentHandle):
        stream: Any = replicas.options(stream=True).stream.remote(prompt, options, list(came))
        cancel = stream.cancel
    else:
        stream = replicas.stream.options(num_returns="streaming").remote(
            prompt, options, list(came)
        )
        cancel = lambda: ray.cancel(stream)  # noqa: E731
    whole = False
    try:
        async for piece in stream:
            yield await piece if isinstance(piece, ray.ObjectRef) else piece
        whole = True
    finally:
        if not whole:
            cancel()


# ---- who has which prompt


def prefix_of(prompt: Any) -> str:
    """What of a prompt decides which replica has it: the start of a text; of a conversation all up to its first question,
    so that it stays where it is."""
    if isinstance(prompt, bytes):
        prompt = prompt.decode("utf-8", "replace")
    if isinstance(prompt, str):
        return prompt[:PREFIX]
    items = list(prompt)
    if not items or not isinstance(items[0], Mapping):
        return " ".join(map(str, items[:PREFIX]))
    roles = [message.get("role") for message in items]
    first = roles.index("user") if "user" in roles else 0
    return "\0".join(f"{m.get('role')}\0{m.get('content')}" for m in items[: first + 1])


def ranked(prefix: str, names: Sequence[str]) -> list[str]:
    """Replicas in the order in which a prefix wants them. Each prefix has an order of its own, the same for all who ask;
    when one goes or comes, only what it has or gets moves (rendezvous hashing)."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{name}\0{prefix}".encode()).digest())


class PrefixRouter(RequestRouter):
    """Sends prompts that begin alike to one replica, so that it has read what they share. Where that one is too far
    ahead in requests, the next in their order takes over."""

    def initialize_state(self, **kwargs: Any) -> None:
        self._most_ahead = kwargs.get("most_ahead", 8)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        lengths = {name: self._length(replica) for name, replica in by_name.items()}
        args = pending_request.args if pending_request is not None else ()
        order = ranked(prefix_of(args[0]) if args else "", list(by_name))
        least = min(lengths.values(), default=0)
        order.sort(key=lambda name: lengths[name] > least + self._most_ahead)
        return [[by_name[name]] for name in order]

    def _length(self, replica: RunningReplica) -> int:
        return self.replica_queue_len_cache.get(replica.replica_id) or 0
