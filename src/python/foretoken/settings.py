# SPDX-License-Identifier: Apache-2.0
"""How a session drafts, verifies and draws its tokens."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Callable, Literal, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ._calls import call
from ._convert import c_ids, c_name, names, put_field, token_ids
from ._native import ffi, lib
from .errors import InvalidError

#: Says which tokens may come next: called with the session's tokens and, behind them, those on the way to a place of
#: a draft, as an array of its own. It gives an array of n_vocab truth values, token ids, or None for all of them. It has
#: to depend on the tokens alone, is called several times in a step, and may not use the engine that asks it.
MaskHook = Callable[[npt.NDArray[np.int32]], Any]

_shapes = {"fitted": lib.FTK_TREE_FITTED, "paper": lib.FTK_TREE_PAPER, "chain": lib.FTK_TREE_CHAIN}

_sampling = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "repeat_last",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
)

#: What is fixed once a session is open; the drafter alone can be changed.
OPENING = ("drafter", "verifier", "budget", "shape", "n_ctx", "ignore_end")


@dataclass(frozen=True)
class Settings:
    """Settings of a session. None is the library's default, as foretoken.h has it."""

    #: "auto", "none", or another of drafters().
    drafter: str | None = None
    #: "exact", or another of verifiers().
    verifier: str | None = None
    #: Most drafted tokens a step, 0 to 127; -1: the cost model decides.
    budget: int | None = None
    #: How drafts branch.
    shape: Literal["fitted", "paper", "chain"] | None = None
    #: Most tokens of the session; 0: as many as the engine's KV cache holds.
    n_ctx: int | None = None
    #: Go on behind a token that ends an answer.
    ignore_end: bool | None = None

    #: 0 takes the likeliest token.
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last: int | None = None
    #: Random numbers depend on it and on the position of a token alone.
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    #: No token that ends an answer comes before so many.
    min_tokens: int | None = None

    #: Added to the logits of tokens.
    logit_bias: Mapping[int, float] | None = None
    #: Further tokens that end an answer.
    ends: Sequence[int] | None = None
    #: What may come next.
    mask: MaskHook | None = None
    #: Keep log-probabilities: so many likeliest tokens of each place (0 to 20) beside the one that stands there.
    logprobs: int | None = None
    #: And of prompts.
    prompt_logprobs: bool = False

    def changed(self, **changes: Any) -> Settings:
        """The same with some of them changed."""
        known = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise TypeError(
                f"there is no setting {unknown[0]!r}: give some of {', '.join(sorted(known))}"
            )
        return dataclasses.replace(self, **changes)

    def opened_alike(self, other: Settings) -> bool:
        """Whether a session of the one can go on as one of the other."""
        return all(getattr(self, name) == getattr(other, name) for name in OPENING)


def settings_of(settings: Settings | None, changes: Mapping[str, Any]) -> Settings:
    return (settings or Settings()).changed(**changes)


def drafters() -> list[str]:
    """All drafters there are; an engine has those that need no file, and those whose file it found."""
    return names(lib.ftk_drafters())


def verifiers() -> list[str]:
    return names(lib.ftk_verifiers())


def lossless(*, drafter: str | None = None, verifier: str | None = None) -> bool:
    """Whether what comes of them is the model's own text."""
    return (drafter is None or lib.ftk_drafter_lossless(c_name(drafter, "drafter"))) and (
        verifier is None or lib.ftk_verifier_lossless(c_name(verifier, "verifier"))
    )


def put(c: Any, settings: Settings, field_names: Sequence[str]) -> None:
    """Those that are given, into a struct that holds defaults."""
    for name in field_names:
        value = getattr(settings, name)
        if value is not None:
            put_field(c, name, value)


def session_config(settings: Settings) -> tuple[Any, list[Any]]:
    """An ftk_session_config, and what has to stay alive with it."""
    c = ffi.new("ftk_session_config *")
    lib.ftk_session_config_fill(c, ffi.sizeof("ftk_session_config"))
    kept = []
    for name in ("drafter", "verifier"):
        if getattr(settings, name) is not None:
            kept.append(c_name(getattr(settings, name), name))
            setattr(c, name, kept[-1])
    put(c, settings, ("budget", "n_ctx", "ignore_end"))
    if settings.shape is not None:
        if settings.shape not in _shapes:
            raise InvalidError(f"shape {settings.shape!r}: give one of {', '.join(_shapes)}")
        c.shape = _shapes[settings.shape]
    put(c.sampling, settings, _sampling)
    return c, kept


class Mask:
    """A mask hook as the library calls it."""

    def __init__(self, hook: MaskHook, n_vocab: int) -> None:
        self._hook = hook
        self._n_vocab = n_vocab
        #: What the hook raised; from then on nothing is allowed.
        self.raised: Exception | None = None
        self.handle = ffi.new_handle(self)

    def __call__(self, tokens: Any, n: int, allowed: Any) -> None:
        if self.raised is not None:
            return
        # a copy: the library's own is gone after the call
        text = (
            np.frombuffer(ffi.buffer(tokens, 4 * n), np.int32).copy()
            if n
            else np.empty(0, np.int32)
        )
        try:
            self._write(self._hook(text), ffi.buffer(allowed, 4 * ((self._n_vocab + 31) // 32)))
        except Exception as error:
            self.raised = error

    def _write(self, answer: Any, words: Any) -> None:
        may = np.zeros(self._n_vocab, bool)
        if answer is None:
            may[:] = True
        elif isinstance(answer, np.ndarray) and answer.dtype == bool:
            if answer.shape != may.shape:
                raise InvalidError(
                    f"the mask hook gave an array of {answer.shape}, wanted ({self._n_vocab},)"
                )
            may = answer
        else:
            ids = token_ids(answer, "the mask hook's answer")
            if ids.size and not 0 <= ids.min() <= ids.max() < self._n_vocab:
                raise InvalidError(
                    f"the mask hook allows a token outside of the vocabulary of {self._n_vocab}"
                )
            may[ids] = True
        bits = np.packbits(may, bitorder="little").tobytes()
        words[: len(bits)] = bits


def set_sampling(session: Any, settings: Settings) -> None:
    c, _ = session_config(settings)
    call(lib.ftk_session_set_sampling, session, ffi.addressof(c, "sampling"))


def set_bias(session: Any, logit_bias: Mapping[int, float] | None) -> None:
    bias = dict(logit_bias or {})
    ids = token_ids(bias.keys(), "logit_bias")
    c = ffi.new("ftk_bias[]", [(int(t), float(b)) for t, b in zip(ids, bias.values())])
    call(lib.ftk_session_set_bias, session, c, len(c))


def set_ends(session: Any, ends: Sequence[int] | None) -> None:
    ids = token_ids(ends or (), "ends")
    call(lib.ftk_session_set_ends, session, c_ids(ids), ids.size)


def set_logprobs(session: Any, n_best: int | None, prompt: bool) -> None:
    call(lib.ftk_session_set_logprobs, session, -1 if n_best is None else n_best, prompt)
