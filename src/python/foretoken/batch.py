# SPDX-License-Identifier: Apache-2.0
"""Many answers of one engine at once: who runs, who waits, and what of earlier ones is used again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ._convert import token_ids
from .answers import Answer, Completion, Piece, Prompt
from .errors import ContextError, InvalidError, NoRoomError
from .results import Logprobs, StepResult
from .session import Session
from .settings import Settings

if TYPE_CHECKING:
    from .engine import Engine

#: Fewer common tokens are as soon read again as looked up.
LEAST_SHARED = 8
#: Tokens that one step may take of the KV cache for a session.
STEP_TOKENS = 128


class Job:
    """One answer that is wanted."""

    def __init__(
        self,
        answer: Answer,
        prompt: npt.NDArray[np.int32],
        settings: Settings,
        first: Job | None,
    ) -> None:
        self.answer = answer
        self.prompt = prompt
        self.settings = settings
        #: Another one of the same prompt, that reads it for both.
        self.first = first
        #: Called with each piece of text, and with nothing once the answer is done.
        self.emit: Callable[[Piece], Any] | None = None
        self.on_done: Callable[[], Any] | None = None
        self.session: Session | None = None
        self.completion: Completion | None = None
        self.error: BaseException | None = None
        #: Set by whoever wants it no longer; it ends with the next turn.
        self.cancelled = False
        #: Who has to live until it is done.
        self.owner: Any = None
        self.order = 0
        self.begun = False  # its prompt has been read
        self._cached = 0
        self._prompt_logprobs: Logprobs | None = None

    @classmethod
    def several(
        cls,
        engine: Engine,
        prompt: Prompt,
        settings: Settings,
        *,
        n: int,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        resume: Sequence[int] = (),
    ) -> list[Job]:
        """n answers to one prompt, with seeds one after the other. resume: tokens of the first one that came
        elsewhere, and are not given again."""
        if n < 1:
            raise InvalidError(f"{n} answers to a prompt: give 1 or more")
        if not isinstance(prompt, (str, bytes)):
            prompt = list(prompt)
        chat = (
            not isinstance(prompt, (str, bytes)) and bool(prompt) and isinstance(prompt[0], Mapping)
        )
        ids = token_ids(engine.model.prompt_tokens(prompt), "prompt")
        stops = [stop] if isinstance(stop, str) else list(stop)
        if chat:
            stops += engine.model.chat_stops()
        jobs: list[Job] = []
        for i in range(n):
            answer = Answer(
                engine.model,
                max_tokens=max_tokens,
                stops=stops,
                continues=not chat and ids.size > 0,
            )
            own = (
                settings
                if i == 0
                else settings.changed(
                    seed=((settings.seed or 0) + i) % 2**64, prompt_logprobs=False
                )
            )
            jobs.append(cls(answer, ids, own, jobs[0] if jobs else None))
        if resume:
            jobs[0]._resume(token_ids(resume, "resume").tolist(), engine)
        return jobs

    def _resume(self, tokens: list[int], engine: Engine) -> None:
        ends = self.settings.ends or ()
        ended = tokens[-1] in ends or (
            engine.model.is_end(tokens[-1]) and not self.settings.ignore_end
        )
        self.answer.resume(tokens, ended)

    @classmethod
    def of(cls, engine: Engine, prompt: Prompt, settings: Settings, **options: Any) -> Job:
        (job,) = cls.several(engine, prompt, settings, n=1, **options)
        return job

    @property
    def done(self) -> bool:
        return self.completion is not None or self.error is not None

    @property
    def tokens(self) -> npt.NDArray[np.int32]:
        """Of the prompt, and what came."""
        return np.concatenate([self.prompt, np.asarray(self.answer.tokens, np.int32)])

    def result(self) -> Completion:
        if self.error is not None:
            raise self.error
        assert self.completion is not None
        return self.completion

    @property
    def reads_all(self) -> bool:
        """Log-probabilities of a prompt are found while it is read."""
        return self.settings.prompt_logprobs and not self.begun

    @property
    def waits_for_first(self) -> bool:
        return self.first is not None and not (
            self.first.begun or self.first.done or self.first.cancelled
        )

    def start(self, session: Session, shared: int) -> None:
        """The session holds the first `shared` of its tokens and, maybe, others behind."""
        tokens = self.tokens
        session.truncate(shared)
        session._apply(self.settings)
        session.append(tokens[shared:])
        session.set_prompt(len(self.prompt))
        session.limit(self.answer.left)
        self.session = session
        if not self.begun:
            self._cached = max(min(shared, len(self.prompt) - 1), 0)

    def take(self, result: StepResult) -> None:
        assert self.session is not None
        if result.tokens or result.finish is not None:
            if not self.begun and self.reads_all:
                self._prompt_logprobs = self.session.logprobs(0, len(self.prompt))
            self.begun = True
        text = self.answer.take(result, self.session)
        if self.emit is not None and text:
            self.emit(text)
        if self.answer.finish is not None:
            self.completion = self.answer.completion(
                len(self.prompt), self._cached, self._prompt_logprobs
            )

    def end(self) -> None:
        if self.on_done is not None:
            self.on_done()


class Batch:
    """Steps jobs of one engine together. It belongs to one thread at a time."""

    def __init__(self, engine: Engine, parallel: int = 16) -> None:
        if parallel < 1:
            raise InvalidError(f"{parallel} answers at once: give 1 or more")
        self.engine = engine
        self.parallel = parallel
        self.running: list[Job] = []  # the first in line first
        self.waiting: list[Job] = []  # in the order of their coming
        self._idle: list[tuple[Session, npt.NDArray[np.int32]]] = []  # the longest unused first
        self._orders = 0

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all that is there."""
        for job in self.running:
            self._free(job)
        self.running, self.waiting = [], []
        while self._drop_idle():
            pass

    def add(self, job: Job) -> None:
        self._orders += 1
        job.order = self._orders
        if job.answer.finish is None:
            self.waiting.append(job)
        else:  # it had ended where it came from
            job.completion = job.answer.completion(len(job.prompt))
            job.end()

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    def run(self) -> None:
        """Until all are done."""
        while self.busy:
            self.step()

    def step(self) -> None:
        """One turn of all that run. What goes wrong with one of them is its own; what goes wrong with the engine is
        raised."""
        self._drop_cancelled()
        self._admit()
        if not self.running:
            return
        self._make_room()
        stepped = list(self.running)
        sessions = [job.session for job in stepped if job.session is not None]
        short_of_room = None
        for job, result in zip(stepped, self.engine.step(sessions)):
            if isinstance(result.error, NoRoomError):
                short_of_room = result.error
            elif result.error is not None and not isinstance(result.error, ContextError):
                self._fail(job, result.error)
            else:
                self._take(job, result)
        if short_of_room is not None and not self._drop_idle():
            self._push_out(short_of_room)

    # ---- what becomes of them

    def _take(self, job: Job, result: StepResult) -> None:
        if isinstance(result.error, ContextError):
            result = StepResult(result.tokens, "context", result.drafted, result.accepted)
        try:
            job.take(result)
        except Exception as error:
            self._fail(job, error)
            return
        if not job.done:
            return
        self.running.remove(job)
        assert job.session is not None
        if len(self._idle) == self.parallel:
            self._drop_idle()
        self._idle.append((job.session, job.tokens))
        job.session = None
        job.end()

    def _fail(self, job: Job, error: BaseException) -> None:
        job.error = error
        if job in self.running:
            self.running.remove(job)
        self._free(job)
        job.end()

    def _free(self, job: Job) -> None:
        if job.session is not None:
            job.session.close()
            job.session = None

    def _drop_cancelled(self) -> None:
        for job in [job for job in self.running if job.cancelled]:
            self.running.remove(job)
            self._free(job)
        self.waiting = [job for job in self.waiting if not job.cancelled]

    def _push_out(self, why: NoRoomError) -> None:
        """The youngest waits again; alone, it has no room for what others than this batch hold."""
        job = self.running[-1]
        if len(self.running) == 1:
            self._fail(job, why)
            return
        self.running.pop()
        self._free(job)
        self.waiting.append(job)
        self.waiting.sort(key=lambda j: j.order)

    # ---- who runs

    def _admit(self) -> None:
        """The first in line first; who does not fit keeps those behind waiting."""
        for job in list(self.waiting):
            if job.waits_for_first:
                continue
            if len(self.running) == self.parallel:
                break
            try:
                if not self._start(job):
                    break
            except Exception as error:
                self.waiting.remove(job)
                self._fail(job, error)
                continue
            self.waiting.remove(job)
            self.running.append(job)
            self.running.sort(key=lambda j: j.order)

    def _start(self, job: Job) -> bool:
        tokens = job.tokens
        while True:
            shared, session, idle = self._find(job, tokens)
            if self._has_room(len(tokens) - shared, len(self.running)):
                break
            if not self._drop_idle(spared=session):
                if self.running:
                    return False
                break
        if session is None:
            session = self.engine.session(job.settings)
        elif idle is None or len(self._idle[idle][1]) - shared > shared:
            session = session.fork()
        else:
            del self._idle[idle]
        try:
            job.start(session, shared)
        except BaseException:
            session.close()
            raise
        return True

    def _find(
        self, job: Job, tokens: npt.NDArray[np.int32]
    ) -> tuple[int, Session | None, int | None]:
        """Whose tokens it may go on from: how many, and the place of the session in idle, if it is there."""
        best: tuple[int, Session | None, int | None] = (0, None, None)
        if job.reads_all:
            return best
        donors = [(session, known, i) for i, (session, known) in enumerate(self._idle)]
        for other in self.running:
            if other.session is not None:
                donors.append((other.session, other.tokens[: len(other.session)], None))  # type: ignore[arg-type]
        for session, known, at in donors:
            if not session.settings.opened_alike(job.settings):
                continue
            shared = _common(known, tokens)
            if shared >= LEAST_SHARED and shared > best[0]:
                best = shared, session, at
        return best

    # ---- room in the KV cache

    def _has_room(self, n_tokens: int, n_others: int) -> bool:
        """A page for each session that runs is left free, so that a new one does not push out another at once."""
        stats = self.engine.stats()
        return stats.kv_pages_free >= n_tokens // stats.page_tokens + 1 + n_others

    def _make_room(self) -> None:
        n = len(self.running)
        while self._idle and not self._has_room(STEP_TOKENS * n, n):
            self._drop_idle()

    def _drop_idle(self, spared: Session | None = None) -> bool:
        """Gives up the longest unused one. False: there is none."""
        for i, (session, _) in enumerate(self._idle):
            if session is not spared:
                session.close()
                del self._idle[i]
                return True
        return False


class TextIterator(Iterator[Piece]):
    """The text of an answer as it comes. Once it has ended, completion holds the whole of it; close() ends it
    before."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._batch = Batch(engine)
        self._job = job
        self._texts: list[Piece] = []
        job.emit = self._texts.append
        self._batch.add(job)

    def __next__(self) -> Piece:
        while not self._texts and self._batch.busy:
            self._batch.step()
            if self._job.done:
                self._batch.close()
        if self._texts:
            return self._texts.pop(0)
        if self._job.error is not None:
            raise self._job.error
        raise StopIteration

    @property
    def completion(self) -> Completion | None:
        """The whole answer, or None as long as it comes."""
        return self._job.completion

    def close(self) -> None:
        self._batch.close()


def _common(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32]) -> int:
    """How many tokens they begin with alike."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if differ.size else n
