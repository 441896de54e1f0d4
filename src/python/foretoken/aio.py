# SPDX-License-Identifier: Apache-2.0
"""Many answers at once, for asyncio and for threads: one thread steps the engine, all that run together."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from typing import Any, AsyncIterator, Sequence

from .answers import Completion, Piece, Prompt
from .batch import Batch, Job
from .engine import Engine
from .errors import BusyError, ClosedError
from .model import Model
from .settings import Settings, settings_of

#: Seconds after which an idle thread looks whether anybody is there still.
NAP = 1.0

_open: weakref.WeakSet[_Scheduler] = weakref.WeakSet()


class _Scheduler:
    """The thread that owns a batch. Others hand it jobs, and mark those that are wanted no longer."""

    def __init__(self, engine: Engine, parallel: int, queue: int) -> None:
        self.engine = engine
        self.queue = queue
        self.process = os.getpid()
        self._batch = Batch(engine, parallel)
        self._changed = threading.Condition()
        self._incoming: deque[Job] = deque()
        self._jobs: set[Job] = set()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="foretoken", daemon=True)
        self._thread.start()
        _open.add(self)

    def add(self, jobs: Sequence[Job]) -> None:
        with self._changed:
            if self._stop:
                raise ClosedError("the engine has been closed")
            if len(self._incoming) + len(self._batch.waiting) + len(jobs) > max(
                self.queue, len(jobs)
            ):
                raise BusyError(f"{self.queue} answers wait already: ask again later")
            self._incoming.extend(jobs)
            self._jobs.update(jobs)
            self._changed.notify_all()

    def load(self) -> tuple[int, int]:
        """Answers that run and that wait."""
        with self._changed:
            return len(self._batch.running), len(self._incoming) + len(self._batch.waiting)

    @property
    def stopped(self) -> bool:
        return self._stop

    def let_go(self) -> None:
        """Has the thread end by itself; for Python's collector, which may run where no lock can be taken."""
        self._stop = True

    def close(self) -> None:
        """Waits for the step that runs; what is not done by then fails with ClosedError."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread and os.getpid() == self.process:
            self._thread.join()

    def _run(self) -> None:
        error: BaseException = ClosedError("the engine was closed before the answer was done")
        try:
            while self._take_in():
                self._batch.step()
                self._forget_done()
        except BaseException as raised:  # of the engine: those who wait have to hear of it
            error = raised
        with self._changed:
            self._stop = True
            left = [job for job in self._jobs if not job.done]
            self._jobs.clear()
        try:
            self._batch.close()
        except ClosedError:
            pass
        for job in left:
            job.error = error
            job.end()

    def _take_in(self) -> bool:
        with self._changed:
            while not (self._stop or self._incoming or self._batch.busy):
                self._changed.wait(NAP)
            while self._incoming:
                self._batch.add(self._incoming.popleft())
            return not self._stop

    def _forget_done(self) -> None:
        with self._changed:
            self._jobs = {job for job in self._jobs if not (job.done or job.cancelled)}


@atexit.register
def _close_all() -> None:
    """No thread may be inside the library when Python takes down what it works on."""
    for scheduler in list(_open):
        if scheduler.process == os.getpid():
            scheduler.close()


class AsyncTextIterator(AsyncIterator[Piece]):
    """The text of an answer as it comes. Once it has ended, completion holds the whole of it; aclose(), or letting
    go of it, ends it before."""

    def __init__(self, scheduler: _Scheduler, job: Job) -> None:
        self._job = job
        self._texts: asyncio.Queue[Piece | None] = asyncio.Queue()
        self._ended = False
        loop, texts = asyncio.get_running_loop(), self._texts

        # It knows nothing of the iterator, so that one that is let go of is collected at once.
        def hand_over(text: Piece | None) -> None:
            try:
                loop.call_soon_threadsafe(texts.put_nowait, text)
            except RuntimeError:  # the loop is closed: nobody listens
                job.cancelled = True

        job.emit = hand_over
        job.on_done = lambda: hand_over(None)
        scheduler.add([job])

    def __aiter__(self) -> AsyncTextIterator:
        return self

    async def __anext__(self) -> Piece:
        if self._ended:
            raise StopAsyncIteration
        try:
            text = await self._texts.get()
        except asyncio.CancelledError:
            self._end()
            raise
        if text is not None:
            return text
        self._ended = True
        if self._job.error is not None:
            raise self._job.error
        raise StopAsyncIteration

    @property
    def completion(self) -> Completion | None:
        """The whole answer, or None as long as it comes."""
        return self._job.completion

    def _end(self) -> None:
        self._ended = True
        self._job.cancelled = True

    async def aclose(self) -> None:
        self._end()

    async def __aenter__(self) -> AsyncTextIterator:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end()

    def __del__(self) -> None:
        if hasattr(self, "_job"):
            self._job.cancelled = True


class AsyncEngine:
    """Answers many prompts at once, whichever tasks and threads they come from. One thread owns the engine; each
    answer is what it would be alone."""

    def __init__(
        self,
        engine: Engine | Model | str | os.PathLike[str] | None = None,
        *,
        parallel: int = 16,
        queue: int = 1024,
        **config: Any,
    ) -> None:
        """engine: one that is open, or what Engine() takes, with its keywords. parallel: answers that run at once;
        queue: answers that may wait beside them, more are refused with BusyError."""
        self._owns = not isinstance(engine, Engine)
        if isinstance(engine, Engine) and config:
            raise TypeError(f"{', '.join(config)}: the engine is open already")
        self.engine = engine if isinstance(engine, Engine) else Engine(engine, **config)
        self._scheduler = _Scheduler(self.engine, parallel, queue)

    def close(self) -> None:
        """Ends what runs, with ClosedError for those who wait for it, and closes an engine that it opened itself."""
        self._scheduler.close()
        if self._owns:
            self.engine.close()

    def __del__(self) -> None:
        if hasattr(self, "_scheduler"):
            self._scheduler.let_go()

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def __enter__(self) -> AsyncEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Also where its thread has ended by an error."""
        return self._scheduler.stopped

    @property
    def load(self) -> tuple[int, int]:
        """How many answers run, and how many wait."""
        return self._scheduler.load()

    def stream(
        self,
        prompt: Prompt,
        settings: Settings | None = None,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        resume: Sequence[int] = (),
        **changes: Any,
    ) -> AsyncTextIterator:
        """Answers a prompt; `async for` gives the text as it comes. Settings as in Engine.session(). resume: tokens of
        the answer that came from elsewhere: it goes on behind them."""
        wanted = settings_of(settings, changes)
        job = Job.of(self.engine, prompt, wanted, max_tokens=max_tokens, stop=stop, resume=resume)
        job.owner = self
        return AsyncTextIterator(self._scheduler, job)

    async def generate(
        self, prompt: Prompt, settings: Settings | None = None, **options: Any
    ) -> Completion:
        """Answers a prompt. Options as in stream()."""
        return (await self.generate_n(prompt, 1, settings, **options))[0]

    async def generate_n(
        self, prompt: Prompt, n: int, settings: Settings | None = None, **options: Any
    ) -> list[Completion]:
        """n answers to a prompt, with seeds one after the other. The prompt is read once."""
        jobs, futures = self._submit(prompt, n, settings, **options)
        try:
            return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))
        finally:
            for job in jobs:
                job.cancelled = True

    def submit(
        self, prompt: Prompt, settings: Settings | None = None, **options: Any
    ) -> Future[Completion]:
        """The same for who has no event loop: a concurrent.futures.Future."""
        return self._submit(prompt, 1, settings, **options)[1][0]

    def _submit(
        self,
        prompt: Prompt,
        n: int,
        settings: Settings | None,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        **changes: Any,
    ) -> tuple[list[Job], list[Future[Completion]]]:
        wanted = settings_of(settings, changes)
        jobs = Job.several(self.engine, prompt, wanted, n=n, max_tokens=max_tokens, stop=stop)
        for job in jobs:
            job.owner = self
        futures = [_future_of(job) for job in jobs]
        self._scheduler.add(jobs)
        return jobs, futures


def _future_of(job: Job) -> Future[Completion]:
    future: Future[Completion] = Future()

    def done() -> None:
        if not future.set_running_or_notify_cancel():
            return
        if job.error is not None:
            future.set_exception(job.error)
        else:
            future.set_result(job.result())

    def cancelled(f: Future[Completion]) -> None:
        job.cancelled = job.cancelled or f.cancelled()

    job.on_done = done
    future.add_done_callback(cancelled)
    return future
