# SPDX-License-Identifier: Apache-2.0
"""Who owns which object of the library. Each is freed once, after what was opened on it, and never while a call
is in it; whoever uses it later gets ClosedError.

Handles of an object and of what it was opened on know each other, strongly, in both directions: so objects
in Python may be collected in any order.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import Any, Callable, Iterator

from ._calls import thread
from .errors import BusyError, ClosedError


class Handle:
    """One object of the library, and what was opened on it."""

    def __init__(
        self, what: str, pointer: Any, free: Callable[[Any], None], parent: Handle | None = None
    ) -> None:
        self.what = what
        self._cell = [pointer]  # taken out by who frees it: only one can
        self._free = free
        self.parent = parent
        self.children: set[Handle] = set()
        if parent is not None:
            parent.children.add(self)

    @property
    def closed(self) -> bool:
        return not self._cell

    def get(self) -> Any:
        """The pointer; the caller holds what keeps it from being freed."""
        try:
            return self._cell[0]
        except IndexError:
            raise ClosedError(f"{self.what} has been closed") from None

    def free(self) -> None:
        """Frees it and, before, what was opened on it. The caller holds what keeps others out; Python's collector
        need not, where nobody can be in a call: all that is opened on an object keeps it alive."""
        for child in list(self.children):
            child.free()
        with contextlib.suppress(IndexError):
            self._free(self._cell.pop())
        if self.parent is not None:
            self.parent.children.discard(self)


class SharedHandle(Handle):
    """An object that any number of threads may use at once: a model."""

    def __init__(self, what: str, pointer: Any, free: Callable[[Any], None]) -> None:
        super().__init__(what, pointer, free)
        self._users = 0
        self._closing = False
        self._changed = threading.Condition(threading.Lock())

    @contextlib.contextmanager
    def use(self) -> Iterator[Any]:
        with self._changed:
            if self._closing:
                raise ClosedError(f"{self.what} has been closed")
            self._users += 1
        try:
            yield self.get()
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Waits for those that use it, and closes what was opened on it."""
        refuse_in_hook()
        with self._changed:
            self._closing = True
            while self._users > 0:
                self._changed.wait()
        for child in list(self.children):
            if isinstance(child, LockedHandle):
                child.close()
        self.free()


class LockedHandle(Handle):
    """An object that belongs to one thread at a time, together with what was opened on it: an engine."""

    def __init__(
        self, what: str, pointer: Any, free: Callable[[Any], None], parent: Handle | None = None
    ) -> None:
        super().__init__(what, pointer, free, parent)
        self._lock = threading.Lock()
        self._owner = 0
        self._left: deque[Handle] = deque()  # to be freed by who holds the lock

    @contextlib.contextmanager
    def use(self) -> Iterator[Any]:
        if self._owner == threading.get_ident():
            raise BusyError(
                f"{self.what} is in a call on this thread: a mask hook may not use the engine that asks it"
            )
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield self.get()
            finally:
                self._sweep()
                self._owner = 0
        self._sweep_if_free()

    def close(self) -> None:
        """Waits for the call that is in it."""
        refuse_in_hook()
        with contextlib.suppress(ClosedError), self.use():
            self.free()

    def leave(self, handle: Handle) -> None:
        """Frees what was opened on it, at once or when the call that is in it ends: for Python's collector, which
        may run at any place."""
        self._left.append(handle)
        self._sweep_if_free()

    def _sweep(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._left.popleft().free()

    def _sweep_if_free(self) -> None:
        while self._left and self._lock.acquire(blocking=False):
            try:
                self._sweep()
            finally:
                self._lock.release()


def refuse_in_hook() -> None:
    """Closing waits for calls that are running, and a hook runs inside one."""
    if thread.masks > 0:
        raise BusyError("a mask hook may not close anything")
