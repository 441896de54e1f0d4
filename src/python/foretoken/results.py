# SPDX-License-Identifier: Apache-2.0
"""What steps, sessions and engines say of themselves, in values of Python."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ._calls import text_of
from ._native import ffi, lib

_finishes = {
    lib.FTK_FINISH_NONE: None,
    lib.FTK_FINISH_END: "end",
    lib.FTK_FINISH_LIMIT: "limit",
    lib.FTK_FINISH_CONTEXT: "context",
    lib.FTK_FINISH_FORBIDDEN: "forbidden",
}


@dataclass(frozen=True)
class StepResult:
    """What one step brought a session."""

    #: Emitted tokens; none while a long prompt is still being read.
    tokens: list[int]
    #: None, or why the answer ended: "end", "limit", "context", "forbidden".
    finish: str | None
    #: Drafted tokens that were verified, and those of them that were accepted.
    drafted: int
    accepted: int
    #: Of this session alone; also what its mask hook raised.
    error: Exception | None = None


@dataclass(frozen=True, eq=False)
class Logprobs:
    """Log-probabilities of tokens [n], by the model's own logits, whatever the sampling. NaN: not known."""

    tokens: npt.NDArray[np.int32]
    #: [n]
    own: npt.NDArray[np.float32]
    #: [n][n_best], the likeliest first; -1 where the vocabulary is smaller.
    best_tokens: npt.NDArray[np.int32]
    best: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class SessionStats:
    """See ftk_stats in foretoken.h."""

    steps: int
    emitted: int
    drafted: int
    accepted: int
    prompt: int
    prefill_seconds: float
    decode_seconds: float
    draft_seconds: float
    forward_seconds: float
    judge_seconds: float
    #: [d]: steps whose accepted path reached depth d + 1.
    accepted_at: list[int]
    bytes: int
    kv_pages: int
    tokens: int
    room: int


@dataclass(frozen=True)
class DrafterStats:
    """How a drafter has fared in a session since it was chosen."""

    name: str
    steps: int
    emitted: int
    speed: float


@dataclass(frozen=True)
class EngineStats:
    """How full an engine is, and what it takes, in bytes; see ftk_engine_stats in foretoken.h."""

    page_tokens: int
    kv_pages: int
    kv_pages_free: int
    kv_bytes: int
    work_bytes: int
    copy_bytes: int
    sessions: int
    session_bytes: int


T = TypeVar("T")


def filled(kind: type[T], c: Any) -> T:
    """A dataclass from the fields of a struct that have its fields' names."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: _value(getattr(c, name)) for name in names})


def _value(value: Any) -> Any:
    if not isinstance(value, ffi.CData):
        return value
    return list(value) if ffi.typeof(value).kind == "array" else text_of(value)


def result_of(c: Any, error: Exception | None) -> StepResult:
    tokens = ffi.unpack(c.tokens, c.n_tokens) if c.n_tokens else []
    return StepResult(tokens, _finishes.get(c.finish), c.drafted, c.accepted, error)
