# SPDX-License-Identifier: Apache-2.0
"""How likely texts are behind other texts: what multiple choice is scored with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ._convert import Ids, Tokens, token_ids
from .errors import InvalidError, NoRoomError
from .session import Session

if TYPE_CHECKING:
    from .engine import Engine


@dataclass(frozen=True, eq=False)
class Likelihood:
    """How likely a continuation is behind its context."""

    #: Sum of the natural logarithms of its tokens' probabilities, each after all before it.
    logprob: float
    #: Whether it is what the model itself would say, token for token.
    greedy: bool
    #: Of each of its tokens.
    logprobs: npt.NDArray[np.float32]


def loglikelihoods(
    engine: Engine, pairs: Sequence[tuple[Tokens, Tokens]], parallel: int = 16
) -> list[Likelihood]:
    """Of pairs of a context, which has at least one token, and a continuation. Continuations of one context are read
    together, `parallel` at a time, and the context once for all of them."""
    if parallel < 1:
        raise InvalidError(f"{parallel} continuations at once: give 1 or more")
    found: dict[int, Likelihood] = {}
    groups: dict[bytes, list[int]] = {}
    ids = [(token_ids(a, "context"), token_ids(b, "continuation")) for a, b in pairs]
    for i, (context, _) in enumerate(ids):
        if context.size == 0:
            raise InvalidError(
                "a context has no token: give BOS, or another that a text may begin with"
            )
        groups.setdefault(context.tobytes(), []).append(i)
    for members in groups.values():
        with _opened(engine, ids[members[0]][0]) as origin:
            _read_group(origin, [ids[i][1] for i in members], members, found, parallel)
    return [found[i] for i in range(len(pairs))]


def _opened(engine: Engine, context: Ids) -> Session:
    session = engine.session(drafter="none", logprobs=1, prompt_logprobs=True)
    session.append(context)
    session.limit(0)
    return session


def _read_group(
    origin: Session,
    continuations: Sequence[Ids],
    places: Sequence[int],
    found: dict[int, Likelihood],
    parallel: int,
) -> None:
    """What does not fit into the KV cache beside others is read after them."""
    n_context = len(origin)
    if len(continuations) > 1:
        _read(origin)
    left = list(zip(places, continuations))
    while left:
        now, left = left[:parallel], left[parallel:]
        forks = [origin.fork() for _ in now]
        try:
            for fork, (_, continuation) in zip(forks, now):
                fork.append(continuation)
            errors = _read_all(origin, forks)
            for fork, error, (place, continuation) in zip(forks, errors, now):
                if error is None:
                    found[place] = _likelihood(fork, n_context)
                elif isinstance(error, NoRoomError) and len(now) > 1:
                    left.append((place, continuation))
                    parallel = 1
                else:
                    raise error
        finally:
            for fork in forks:
                fork.close()


def _read(session: Session) -> None:
    while session.step().finish is None:
        pass


def _read_all(origin: Session, sessions: Sequence[Session]) -> list[Exception | None]:
    errors: dict[Session, Exception | None] = {}
    while reading := [session for session in sessions if session not in errors]:
        for session, result in zip(reading, origin.engine.step(reading)):
            if result.error is not None or result.finish is not None:
                errors[session] = result.error
    return [errors[session] for session in sessions]


def _likelihood(session: Session, n_context: int) -> Likelihood:
    kept = session.logprobs(n_context)
    greedy = bool((kept.best_tokens[:, 0] == kept.tokens).all())
    return Likelihood(float(kept.own.sum(dtype=np.float64)), greedy, kept.own)
