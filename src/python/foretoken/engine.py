# SPDX-License-Identifier: Apache-2.0
"""An engine: threads, KV cache and cost model, for any number of sessions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ._calls import call, call_raw, error_of, opened, text_of
from ._convert import Tokens, c_ids, c_name, c_path, put_field, token_ids
from ._handles import LockedHandle
from ._native import ffi, lib
from .answers import Completion, Prompt
from .batch import Batch, Job, TextIterator
from .errors import InvalidError
from .model import Model
from .results import EngineStats, StepResult, filled, result_of
from .session import Session
from .settings import Settings, settings_of

_kv_types = {"f16": lib.FTK_TYPE_F16, "f32": lib.FTK_TYPE_F32, "q8_0": lib.FTK_TYPE_Q8_0}


class Engine:
    """Runs sessions of one model. Its calls and those of its sessions run one at a time, whichever threads they come
    from; while one runs, other threads of Python go on."""

    def __init__(
        self,
        model: Model | str | os.PathLike[str] | None = None,
        *,
        threads: int = 0,
        kv_slots: int = 0,
        kv_type: str = "f16",
        max_rows: int | None = None,
        measure: bool = True,
        device: str | None = None,
        wide_prefill: bool = False,
        drafter_files: Sequence[str | os.PathLike[str]] = (),
        find_drafters: bool = True,
    ) -> None:
        """Opens an engine on a model, or on a file, or on the demo model.

        threads: 0 is one for each processor. kv_slots: the KV cache of all sessions together, in tokens; 0 is the
        model's context, at most 4096. kv_type: "f16", "f32" or "q8_0". measure: time passes, for the cost model.
        device: "cpu", "cuda", "cuda:1" or "auto". drafter_files: trained drafters; find_drafters: also those that
        lie beside the model. What else there is: ftk_engine_config in foretoken.h.
        """
        self._owns_model = not isinstance(model, Model)
        #: The model it runs.
        self.model = model if isinstance(model, Model) else Model(model)
        config, kept = _config(
            dict(
                threads=threads,
                kv_slots=kv_slots,
                max_rows=max_rows,
                measure=measure,
                wide_prefill=wide_prefill,
            ),
            kv_type,
            device,
        )
        free = lib.ftk_engine_free
        with self.model._handle.use() as m:
            engine = opened("ftk_engine", lib.ftk_engine_open, free, m, config)
            self._handle = LockedHandle("the engine", engine, free, self.model._handle)
        for path in drafter_files:
            self.add_drafter(path)
        if find_drafters:
            self.find_drafters(self.model.path)

    @staticmethod
    def estimate(model: Model, **config: Any) -> EngineStats:
        """What such an engine would take, without opening it."""
        kv_type, device = config.pop("kv_type", "f16"), config.pop("device", None)
        c, kept = _config(config, kv_type, device)
        stats = ffi.new("ftk_engine_stats *")
        with model._handle.use() as m:
            call(lib.ftk_engine_estimate, m, c, stats, ffi.sizeof("ftk_engine_stats"))
        return filled(EngineStats, stats)

    def close(self) -> None:
        """Closes it and its sessions, once the call that is in it has ended; and a model that it loaded itself."""
        self._handle.close()
        if self._owns_model:
            self.model.close()

    @property
    def closed(self) -> bool:
        return self._handle.closed

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._handle.free()

    def __repr__(self) -> str:
        return f"<foretoken.Engine of {self.model!r}{', closed' if self.closed else ''}>"

    # ---- what it is

    @property
    def threads(self) -> int:
        with self._handle.use() as e:
            return lib.ftk_engine_threads(e)

    @property
    def device(self) -> str:
        """ "cpu", or a GPU and its name."""
        with self._handle.use() as e:
            return text_of(lib.ftk_engine_device(e))

    def stats(self) -> EngineStats:
        stats = ffi.new("ftk_engine_stats *")
        with self._handle.use() as e:
            lib.ftk_engine_report(e, stats, ffi.sizeof("ftk_engine_stats"))
        return filled(EngineStats, stats)

    def cost(self, rows: int) -> float:
        """Measured seconds of a pass over so many rows, 1 to 128."""
        if not 1 <= rows <= lib.FTK_MAX_NODES:
            raise InvalidError(f"a pass over {rows} rows: give 1 to {lib.FTK_MAX_NODES}")
        with self._handle.use() as e:
            return lib.ftk_engine_cost(e, rows)

    # ---- drafters

    def add_drafter(self, path: str | os.PathLike[str]) -> None:
        """Adds a trained drafter, a GGUF file, for sessions opened from now on."""
        with self._handle.use() as e:
            call(lib.ftk_engine_add_drafter, e, c_path(path, "the drafter's path"))

    def find_drafters(self, beside: str | os.PathLike[str]) -> int:
        """Adds those that lie in the folder of a file and were trained for this model. Gives their number."""
        n = ffi.new("int *")
        with self._handle.use() as e:
            call(lib.ftk_engine_find_drafters, e, c_path(Path(beside), "the path"), n)
        return n[0]

    def has_drafter(self, name: str) -> bool:
        with self._handle.use() as e:
            return lib.ftk_engine_has_drafter(e, c_name(name, "drafter"))

    # ---- sessions

    def session(self, settings: Settings | None = None, **changes: Any) -> Session:
        """Opens a session. Settings are given as such, or one by one: session(temperature=0.7, seed=1)."""
        return Session._open(self, settings_of(settings, changes))

    def step(self, sessions: Iterable[Session]) -> list[StepResult]:
        """One turn of the loop for several sessions together. Of one that fails the result holds the error; the
        others are stepped all the same, unless it is one without any token, for which nobody is stepped."""
        listed = list(sessions)
        if not listed:
            return []
        for session in listed:
            if session.engine is not self:
                raise InvalidError("a session of another engine is among those to be stepped")
        results = ffi.new("ftk_result[]", len(listed))
        with self._handle.use():
            pointers = [session._handle.get() for session in listed]
            err, lines = call_raw(lib.ftk_step, pointers, len(listed), results)
            if err != lib.FTK_OK and not any(r.err != lib.FTK_OK for r in results):
                raise error_of(err, lines)
            return [
                result_of(
                    r,
                    session._take_raised()
                    or (error_of(r.err, lines) if r.err != lib.FTK_OK else None),
                )
                for r, session in zip(results, listed)
            ]

    # ---- answers, without sessions of the caller's own

    def stream(
        self,
        prompt: Prompt,
        settings: Settings | None = None,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        **changes: Any,
    ) -> TextIterator:
        """Answers a prompt; an iterator gives the text as it comes. Settings as in session()."""
        wanted = settings_of(settings, changes)
        return TextIterator(self, Job.of(self, prompt, wanted, max_tokens=max_tokens, stop=stop))

    def generate(
        self,
        prompt: Prompt,
        settings: Settings | None = None,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        **changes: Any,
    ) -> Completion:
        """Answers a prompt: a text to go on with, a conversation, or token ids."""
        (answers,) = self.generate_many(
            [prompt], settings, max_tokens=max_tokens, stop=stop, **changes
        )
        return answers[0]

    def generate_many(
        self,
        prompts: Sequence[Prompt],
        settings: Settings | None = None,
        *,
        n: int = 1,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        parallel: int = 16,
        **changes: Any,
    ) -> list[list[Completion]]:
        """n answers to each of several prompts, made together: for each prompt a list. The first answer has the
        settings' seed, the next one the next. At most `parallel` are stepped at once; each is what it would be alone."""
        wanted = settings_of(settings, changes)
        with Batch(self, parallel=parallel) as batch:
            asked = [
                Job.several(self, p, wanted, n=n, max_tokens=max_tokens, stop=stop) for p in prompts
            ]
            for jobs in asked:
                for job in jobs:
                    batch.add(job)
            batch.run()
        return [[job.result() for job in jobs] for jobs in asked]

    # ---- reading without a session

    def score(self, prompt: str | bytes | Tokens) -> float:
        """Sum of the natural logarithms of the probabilities that the model gives each token after those before it.
        Of a text, BOS comes first if the model asks for it."""
        ids = token_ids(self.model.prompt_tokens(prompt))
        sum_of = ffi.new("double *")
        with self._handle.use() as e:
            call(lib.ftk_score, e, c_ids(ids), ids.size, sum_of)
        return sum_of[0]

    def logits(self, prompt: str | bytes | Tokens, start: int = 0) -> npt.NDArray[np.float32]:
        """The model's logits behind each token from place start on, as an array [n - start][n_vocab]: the row at i is
        for what follows tokens[: start + i + 1]. A negative start counts from the end: -1 is the last row alone."""
        ids = token_ids(self.model.prompt_tokens(prompt))
        first = start + ids.size if start < 0 else start
        if not 0 <= first <= ids.size:
            raise InvalidError(f"logits from token {start} on of {ids.size}")
        rows = np.empty((ids.size - first, self.model.info.n_vocab), np.float32)
        with self._handle.use() as e:
            call(
                lib.ftk_logits,
                e,
                c_ids(ids),
                ids.size,
                first,
                ffi.from_buffer("float[]", rows) if rows.size else ffi.NULL,
            )
        return rows


def generate(
    prompt: Prompt,
    model: Engine | Model | str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    *,
    max_tokens: int | None = 256,
    stop: Sequence[str] = (),
    **changes: Any,
) -> Completion:
    """Answers one prompt. model: an engine, a model, a GGUF file, or None for the demo model; but for an engine, it
    is opened for this one call: who asks more than once keeps an Engine."""
    if isinstance(model, Engine):
        return model.generate(prompt, settings, max_tokens=max_tokens, stop=stop, **changes)
    with Engine(model) as engine:
        return engine.generate(prompt, settings, max_tokens=max_tokens, stop=stop, **changes)


def _config(values: dict[str, Any], kv_type: str, device: str | None) -> tuple[Any, Any]:
    c = ffi.new("ftk_engine_config *")
    lib.ftk_engine_config_fill(c, ffi.sizeof("ftk_engine_config"))
    for name, value in values.items():
        if value is not None:
            put_field(c, name, value)
    if kv_type.lower() not in _kv_types:
        raise InvalidError(f"kv_type {kv_type!r}: give one of {', '.join(_kv_types)}")
    c.kv_type = _kv_types[kv_type.lower()]
    name = c_name(device, "device")
    c.device = name
    return c, name
