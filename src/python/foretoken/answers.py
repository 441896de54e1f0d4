# SPDX-License-Identifier: Apache-2.0
"""Answers: tokens and text of what a session says, until it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Sequence, Union

import numpy as np
import numpy.typing as npt

from ._convert import Tokens
from .errors import InvalidError
from .model import Message, Model
from .results import Logprobs, StepResult

if TYPE_CHECKING:
    from .session import Session

#: A text to go on with, a conversation to answer, or token ids.
Prompt = Union[str, bytes, Sequence[Message], Tokens]


@dataclass(frozen=True)
class Completion:
    """A whole answer."""

    text: str
    #: Up to the one that ended it: the end token, or the one with which a stop text was whole.
    tokens: list[int]
    #: Why it ended: "end", "stop" (a stop text), "limit", "context", "forbidden" (nothing may follow).
    finish: str
    #: Tokens of the prompt, and those of them that were there already.
    n_prompt: int
    n_cached: int
    #: Drafted tokens that were verified, and those of the answer's that were drafted.
    drafted: int
    accepted: int
    #: Of the answer's tokens, if the setting logprobs is given.
    logprobs: Logprobs | None = None
    #: Of the prompt's, if prompt_logprobs is; the first has none (NaN).
    prompt_logprobs: Logprobs | None = None

    def __str__(self) -> str:
        return self.text


class Piece(str):
    """A piece of text as it comes, with the tokens that came with it: those whose text waited before among them."""

    tokens: list[int]

    def __new__(cls, text: str, tokens: list[int]) -> Piece:
        piece = super().__new__(cls, text)
        piece.tokens = tokens
        return piece


class Answer:
    """An answer while it comes."""

    def __init__(
        self,
        model: Model,
        *,
        max_tokens: int | None = None,
        stops: Sequence[str] = (),
        continues: bool = False,
    ) -> None:
        if isinstance(stops, str):
            stops = (stops,)
        if max_tokens is not None and max_tokens < 0:
            raise InvalidError(f"max_tokens {max_tokens}: give 0 or more, or None for no limit")
        self._stream = model.text_stream(continues=continues, stops=stops)
        self.max_tokens = max_tokens
        self.tokens: list[int] = []
        self.text = ""
        self.finish: str | None = None
        self.drafted = self.accepted = 0
        self._logprobs: list[Logprobs] = []
        self._n_given = 0

    def resume(self, tokens: Sequence[int], ended: bool) -> None:
        """Goes on behind tokens that came elsewhere, with text that was given there. ended: by the last of them."""
        self.tokens = list(tokens)
        self.text = "".join(map(self._stream.push, self.tokens))
        self._n_given = len(self.tokens)
        self.finish = "stop" if self._stream.stopped else "end" if ended else None
        if ended:
            self.text += self._stream.flush()

    @property
    def left(self) -> int | None:
        """How many tokens may still come."""
        return None if self.max_tokens is None else self.max_tokens - len(self.tokens)

    def take(self, result: StepResult, session: Session) -> Piece:
        """Takes in a step of the session; gives the text that can be shown now."""
        text, taken = "", 0
        for token in result.tokens:
            if self._stream.stopped:
                break
            text += self._stream.push(token)
            taken += 1
        self.tokens += result.tokens[:taken]
        self.drafted += result.drafted
        self.accepted += min(result.accepted, taken)
        if taken and session.settings.logprobs is not None:
            end = len(session)
            first = end - len(result.tokens)
            self._logprobs.append(session.logprobs(first, first + taken))
        self.finish = "stop" if self._stream.stopped else result.finish
        if self.finish is not None:
            text += self._stream.flush()
        self.text += text
        piece = Piece(text, self.tokens[self._n_given :] if text else [])
        self._n_given += len(piece.tokens)
        return piece

    def completion(
        self, n_prompt: int, n_cached: int = 0, prompt_logprobs: Logprobs | None = None
    ) -> Completion:
        assert self.finish is not None
        return Completion(
            self.text,
            self.tokens,
            self.finish,
            n_prompt,
            n_cached,
            self.drafted,
            self.accepted,
            _joined(self._logprobs) if self._logprobs else None,
            prompt_logprobs,
        )


def _joined(parts: Sequence[Logprobs]) -> Logprobs:
    def all_of(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    return Logprobs(all_of("tokens"), all_of("own"), all_of("best_tokens"), all_of("best"))
