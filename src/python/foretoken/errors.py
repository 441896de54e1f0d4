# SPDX-License-Identifier: Apache-2.0
"""What can go wrong: one exception for each error of the library, with the line that explains it."""


class Error(Exception):
    """Something failed. The text is the library's line, which says what is wrong and how to mend it."""


class OutOfMemoryError(Error, MemoryError):
    """Memory could not be had (FTK_ERR_NOMEM)."""


class FileError(Error, OSError):
    """A file could not be opened, read or mapped (FTK_ERR_IO)."""


class FormatError(Error, ValueError):
    """A file's content is malformed (FTK_ERR_FORMAT)."""


class UnsupportedError(Error, NotImplementedError):
    """Well-formed, but not supported by this build (FTK_ERR_UNSUPPORTED)."""


class InvalidError(Error, ValueError):
    """A value is out of its range (FTK_ERR_INVALID)."""


class ContextError(Error):
    """Too long: the context is full, or the whole KV cache too small (FTK_ERR_CONTEXT)."""


class NumericError(Error, ArithmeticError):
    """The model gave values that are not finite (FTK_ERR_NUMERIC)."""


class DeviceError(Error):
    """A GPU is missing or has failed (FTK_ERR_DEVICE)."""


class NoRoomError(Error):
    """Other sessions hold the KV cache just now: step again once some are closed (FTK_ERR_NO_ROOM)."""


class ClosedError(Error):
    """The object, or what it was opened on, has been closed."""


class BusyError(Error):
    """Called from inside a hook of the same engine, where it may not be; or too many requests wait."""
