# SPDX-License-Identifier: Apache-2.0
"""A session: one text that is being written, step by step."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from . import settings as wanted
from ._calls import call, opened
from ._convert import Tokens, c_ids, c_name, token_ids
from ._handles import Handle
from ._native import ffi, lib
from .answers import Answer, Completion
from .errors import ClosedError, InvalidError
from .model import Message
from .results import DrafterStats, Logprobs, SessionStats, StepResult, filled
from .settings import Mask, MaskHook, Settings, settings_of

if TYPE_CHECKING:
    from .engine import Engine


class Session:
    """One conversation of an engine. Engine.session() opens it, append() gives it tokens, step() writes on."""

    def __init__(self, engine: Engine, pointer: Any, settings: Settings) -> None:
        """Not for callers: Engine.session() opens sessions."""
        self.engine = engine
        self.settings = settings
        self._handle = Handle("the session", pointer, lib.ftk_session_free, engine._handle)
        self._mask: Mask | None = None

    @classmethod
    def _open(cls, engine: Engine, settings: Settings) -> Session:
        config, kept = wanted.session_config(settings)
        with engine._handle.use() as e:
            pointer = opened("ftk_session", lib.ftk_session_open, lib.ftk_session_free, e, config)
            session = cls(engine, pointer, settings)
        try:
            session._apply(settings, opened=True)
        except BaseException:
            session.close()
            raise
        return session

    def _apply(self, settings: Settings, *, opened: bool = False) -> None:
        """All settings that can be changed. opened: the session has them as it was opened."""
        with self._use() as s:
            if not opened:
                wanted.set_sampling(s, settings)
            if not opened or settings.logit_bias:
                wanted.set_bias(s, settings.logit_bias)
            if not opened or settings.ends:
                wanted.set_ends(s, settings.ends)
            if not opened or settings.logprobs is not None:
                wanted.set_logprobs(s, settings.logprobs, settings.prompt_logprobs)
            self._set_mask(s, settings.mask)
        self.settings = settings

    @contextlib.contextmanager
    def _use(self) -> Iterator[Any]:
        """The session's pointer, while the engine is held for a call."""
        with self.engine._handle.use():
            yield self._handle.get()

    def close(self) -> None:
        """Frees it. Its pages of the KV cache are there for others."""
        with contextlib.suppress(ClosedError), self.engine._handle.use():
            self._handle.free()

    @property
    def closed(self) -> bool:
        return self._handle.closed

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle") and not self._handle.closed:
            self.engine._handle.leave(self._handle)

    # ---- its text

    def append(self, prompt: str | bytes | Sequence[Message] | Tokens) -> None:
        """Adds a prompt: token ids, a text, or a conversation. Nothing is computed before the next step. What is
        appended to a session that has tokens is a text to go on with, without BOS."""
        if isinstance(prompt, (str, bytes)) and len(self) > 0:
            ids = token_ids(self.engine.model.tokenize(prompt, bos=False))
        else:
            ids = token_ids(self.engine.model.prompt_tokens(prompt))
        with self._use() as s:
            call(lib.ftk_session_append, s, c_ids(ids), ids.size)

    def truncate(self, n: int) -> None:
        """Keeps the first n tokens."""
        with self._use() as s:
            call(lib.ftk_session_truncate, s, _count(n))

    @property
    def tokens(self) -> npt.NDArray[np.int32]:
        """All its tokens, as an array of its own."""
        n = ffi.new("size_t *")
        with self._use() as s:
            p = lib.ftk_session_tokens(s, n)
            return (
                np.frombuffer(ffi.buffer(p, 4 * n[0]), np.int32).copy()
                if n[0]
                else np.empty(0, np.int32)
            )

    def __len__(self) -> int:
        n = ffi.new("size_t *")
        with self._use() as s:
            lib.ftk_session_tokens(s, n)
        return n[0]

    @property
    def text(self) -> str:
        return self.engine.model.detokenize(self.tokens)

    @property
    def context(self) -> int:
        """Most tokens it can hold."""
        with self._use() as s:
            return lib.ftk_session_context(s)

    def limit(self, n: int | None) -> None:
        """At most n more tokens are emitted; None: no limit."""
        with self._use() as s:
            lib.ftk_session_limit(
                s, 2 ** (8 * ffi.sizeof("size_t")) - 1 if n is None else _count(n)
            )

    def set_prompt(self, n: int) -> None:
        """What stands behind the first n tokens counts as generated. append() moves that by itself."""
        with self._use() as s:
            call(lib.ftk_session_set_prompt, s, _count(n))

    # ---- steps

    def step(self) -> StepResult:
        """One turn of the loop. Raises what went wrong; the session keeps its tokens, and can be stepped again."""
        (result,) = self.engine.step([self])
        if result.error is not None:
            raise result.error
        return result

    def stream(self, *, max_tokens: int | None = None, stop: Sequence[str] = ()) -> Iterator[str]:
        """Writes on, and gives the text as it comes, until the answer ends. The session then holds what was given: what
        a step brought behind a stop text is cut off."""
        before = len(self)
        answer = Answer(self.engine.model, max_tokens=max_tokens, stops=stop, continues=before > 0)
        self.limit(max_tokens)
        while answer.finish is None:
            text = answer.take(self.step(), self)
            if answer.finish is not None:
                self.truncate(before + len(answer.tokens))
            if text:
                yield text

    def generate(self, *, max_tokens: int | None = None, stop: Sequence[str] = ()) -> Completion:
        """The same, the whole answer at once."""
        before = len(self)
        answer = Answer(self.engine.model, max_tokens=max_tokens, stops=stop, continues=before > 0)
        self.limit(max_tokens)
        while answer.finish is None:
            answer.take(self.step(), self)
        self.truncate(before + len(answer.tokens))
        return answer.completion(before)

    def fork(self, **sampling: Any) -> Session:
        """A second session that goes on from the same tokens, which are not read again. What is given of sampling
        (temperature, seed, ...) is changed; forks with seeds of their own are other answers to the same prompt."""
        settings = self.settings.changed(**sampling)
        if not settings.opened_alike(self.settings):
            raise InvalidError(f"a fork keeps {', '.join(wanted.OPENING)} of its origin")
        free = lib.ftk_session_free
        with self._use() as s:
            pointer = opened("ftk_session", lib.ftk_session_fork, free, s, ffi.NULL)
            fork = Session(self.engine, pointer, self.settings)
        try:
            if self.settings.mask is not None:
                with fork._use() as f:
                    fork._set_mask(f, self.settings.mask)
            if settings != self.settings:
                fork.configure(**sampling)
        except BaseException:
            fork.close()
            raise
        return fork

    # ---- settings: in force from the next token on

    def configure(self, **changes: Any) -> None:
        """Changes settings between steps: sampling, logit_bias, ends, mask, logprobs, drafter."""
        settings = settings_of(self.settings, changes)
        fixed = [
            n
            for n in wanted.OPENING
            if n != "drafter" and getattr(settings, n) != getattr(self.settings, n)
        ]
        if fixed:
            raise InvalidError(f"{fixed[0]} is fixed once a session is open")
        with self._use() as s:
            if settings.drafter != self.settings.drafter:
                call(lib.ftk_session_set_drafter, s, c_name(settings.drafter or "auto", "drafter"))
            wanted.set_sampling(s, settings)
            if "logit_bias" in changes:
                wanted.set_bias(s, settings.logit_bias)
            if "ends" in changes:
                wanted.set_ends(s, settings.ends)
            if "logprobs" in changes or "prompt_logprobs" in changes:
                wanted.set_logprobs(s, settings.logprobs, settings.prompt_logprobs)
            if "mask" in changes:
                self._set_mask(s, settings.mask)
        self.settings = settings

    def _set_mask(self, s: Any, hook: MaskHook | None) -> None:
        if hook is not None and not callable(hook):
            raise TypeError(f"mask: give a function, not {type(hook).__name__}")
        mask = Mask(hook, self.engine.model.info.n_vocab) if hook is not None else None
        call(
            lib.ftk_session_set_mask,
            s,
            lib.foretoken_mask if mask else ffi.NULL,
            mask.handle if mask else ffi.NULL,
        )
        self._mask = mask

    def _take_raised(self) -> Exception | None:
        """What the mask hook raised in the last step."""
        if self._mask is None or self._mask.raised is None:
            return None
        raised, self._mask.raised = self._mask.raised, None
        return raised

    # ---- what it knows

    def logprobs(self, start: int = 0, stop: int | None = None) -> Logprobs:
        """Log-probabilities of the tokens at places start to stop, once the setting logprobs has them kept. An array
        of its own: the library's is gone with the next step."""
        n_best = max(self.settings.logprobs or 0, 0)
        tokens = self.tokens
        start, stop, _ = slice(start, stop).indices(len(tokens))
        n = max(stop - start, 0)
        own = np.full(n, np.nan, np.float32)
        best = np.zeros((n, n_best), [("token", np.int32), ("logprob", np.float32)])
        best["token"], best["logprob"] = -1, np.nan
        p, likeliest = ffi.new("float *"), ffi.new("ftk_logprob **")
        with self._use() as s:
            for i in range(n):
                if lib.ftk_session_logprobs(s, start + i, p, likeliest):
                    own[i] = p[0]
                    if n_best:
                        best[i] = np.frombuffer(ffi.buffer(likeliest[0], 8 * n_best), best.dtype)
        return Logprobs(tokens[start:stop], own, best["token"], best["logprob"])

    def stats(self) -> SessionStats:
        stats = ffi.new("ftk_stats *")
        with self._use() as s:
            lib.ftk_session_report(s, stats, ffi.sizeof("ftk_stats"))
        return filled(SessionStats, stats)

    def drafter_stats(self) -> list[DrafterStats]:
        """Of the drafter at work; with "auto", of the one that it took."""
        stats = ffi.new("ftk_drafter_stats[]", 16)
        with self._use() as s:
            n = lib.ftk_session_drafter_stats(s, stats, len(stats))
        return [filled(DrafterStats, stats[i]) for i in range(n)]

    def __repr__(self) -> str:
        if self.closed:
            return "<foretoken.Session, closed>"
        given = ", ".join(
            f"{f.name}={getattr(self.settings, f.name)!r}"
            for f in dataclasses.fields(Settings)
            if getattr(self.settings, f.name) != f.default
        )
        return f"<foretoken.Session {given or 'with default settings'}>"


def _count(n: int) -> int:
    if n < 0:
        raise InvalidError(f"{n} tokens: give 0 or more")
    return n
