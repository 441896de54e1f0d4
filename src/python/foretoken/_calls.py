# SPDX-License-Identifier: Apache-2.0
"""Calls of the library: its errors become exceptions, its warnings go to the logger "foretoken"."""

from __future__ import annotations

import logging
import threading
from typing import Any, Callable

from . import errors
from ._native import ffi, lib

logger = logging.getLogger("foretoken")

_exceptions: dict[int, type[errors.Error]] = {
    lib.FTK_ERR_NOMEM: errors.OutOfMemoryError,
    lib.FTK_ERR_IO: errors.FileError,
    lib.FTK_ERR_FORMAT: errors.FormatError,
    lib.FTK_ERR_UNSUPPORTED: errors.UnsupportedError,
    lib.FTK_ERR_INVALID: errors.InvalidError,
    lib.FTK_ERR_CONTEXT: errors.ContextError,
    lib.FTK_ERR_NUMERIC: errors.NumericError,
    lib.FTK_ERR_DEVICE: errors.DeviceError,
    lib.FTK_ERR_NO_ROOM: errors.NoRoomError,
}

_levels = {lib.FTK_LOG_WARN: logging.WARNING, lib.FTK_LOG_INFO: logging.INFO}

Mask = Callable[..., Any]


class _Thread(threading.local):
    """The call that this thread is in. The library calls its hooks on the thread that called it."""

    def __init__(self) -> None:
        self.said: list[tuple[int, str]] = []
        self.raised: BaseException | None = None
        self.progress: Callable[[int, int], Any] | None = None
        self.masks = 0


thread = _Thread()


def _keep_raised(kind: type[BaseException], value: BaseException, traceback: Any) -> None:
    if thread.raised is None:
        thread.raised = value


@ffi.def_extern(onerror=_keep_raised)
def foretoken_log(ctx: Any, level: int, line: Any) -> None:
    thread.said.append((level, text_of(line)))


@ffi.def_extern(onerror=_keep_raised)
def foretoken_progress(ctx: Any, done: int, total: int) -> None:
    if thread.progress is not None and thread.raised is None:
        thread.progress(done, total)


@ffi.def_extern(onerror=_keep_raised)
def foretoken_mask(ctx: Any, tokens: Any, n: int, allowed: Any) -> None:
    # After an exception nothing is allowed, so that the session ends its step.
    if thread.raised is not None:
        return
    thread.masks += 1
    try:
        ffi.from_handle(ctx)(tokens, n, allowed)
    finally:
        thread.masks -= 1


def text_of(p: Any) -> str:
    """A C string, or "" for NULL."""
    return ffi.string(p).decode("utf-8", "replace") if p else ""


def error_of(err: int, lines: list[str]) -> errors.Error:
    """The exception for an error, which the library explained in these lines, the last one last."""
    kind = _exceptions.get(err, errors.Error)
    return kind(lines[-1] if lines else text_of(lib.ftk_strerror(err)))


def call(function: Callable[..., int], *args: Any) -> None:
    """Calls a function that returns ftk_err. The GIL is released meanwhile."""
    err, lines = call_raw(function, *args)
    if err != lib.FTK_OK:
        raise error_of(err, lines)


def opened(kind: str, function: Callable[..., int], free: Callable[[Any], None], *args: Any) -> Any:
    """Calls a function that makes an object: its first argument is where the pointer goes. If a hook raises, the object
    is freed."""
    out = ffi.new(f"{kind} **")
    try:
        call(function, out, *args)
    except BaseException:
        free(out[0])
        raise
    return out[0]


def call_raw(function: Callable[..., int], *args: Any) -> tuple[int, list[str]]:
    """The same, but an error is returned, with the lines that explain it. What a hook raised is raised."""
    outer = thread.said, thread.raised
    thread.said, thread.raised = [], None
    try:
        err = function(*args)
        said, raised = thread.said, thread.raised
    finally:
        thread.said, thread.raised = outer
    for level, line in said:
        if level in _levels:
            logger.log(_levels[level], "%s", line)
    if raised is not None:
        raise raised
    return err, [line for level, line in said if level == lib.FTK_LOG_ERROR]
