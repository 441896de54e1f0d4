# SPDX-License-Identifier: Apache-2.0
"""Values of Python as the library wants them, checked on the way."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterable, Union

import numpy as np
import numpy.typing as npt

from ._calls import call_raw, error_of
from ._native import ffi, lib
from .errors import InvalidError

Tokens = Union[Iterable[int], npt.NDArray[np.integer]]
Ids = npt.NDArray[np.int32]


def encoded(text: str | bytes, what: str) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8")
    if isinstance(text, (bytes, bytearray, memoryview)):
        return bytes(text)
    raise TypeError(f"{what}: give a text, not {type(text).__name__}")


def c_string(text: str | bytes, what: str) -> Any:
    """For functions that take a terminated text."""
    data = encoded(text, what)
    if b"\0" in data:
        raise InvalidError(
            f"{what} holds a NUL character, behind which the library would see nothing"
        )
    return ffi.new("char[]", data)


def c_path(path: str | os.PathLike[str], what: str) -> Any:
    return c_string(os.fsencode(path), what)


def c_name(name: str | None, what: str) -> Any:
    return ffi.NULL if name is None else c_string(name, what)


def put_field(c: Any, name: str, value: Any) -> None:
    """Sets a field of a struct. Whether the value is in its range is the library's to say, if C can hold it."""
    try:
        setattr(c, name, value)
    except OverflowError as error:
        raise InvalidError(f"{name}: {value!r} is out of range") from error
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error


def token_ids(tokens: Tokens, what: str = "tokens") -> Ids:
    """Token ids as an array. Whether the vocabulary has them is the library's to say."""
    if isinstance(tokens, (str, bytes)):
        raise TypeError(f"{what}: give token ids, not a text")
    ids = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens))
    if ids.size == 0:
        return np.empty(0, np.int32)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise TypeError(f"{what}: give a list of whole numbers")
    if ids.min() < -(2**31) or ids.max() >= 2**31:
        raise InvalidError(f"{what}: no vocabulary has such a token as {max(ids, key=abs)}")
    return np.ascontiguousarray(ids, np.int32)


def c_ids(ids: Ids) -> Any:
    """A view; ids has to stay alive."""
    return ffi.from_buffer("int32_t[]", ids) if ids.size else ffi.NULL


def fill(function: Callable[..., int], kind: str, first: int, *args: Any) -> tuple[Any, int]:
    """Calls a function that ends in (buffer, capacity, *needed), with as large a buffer as it needs."""
    n_out = ffi.new("size_t *")
    cap = first
    while True:
        buffer = ffi.new(f"{kind}[]", cap)
        err, lines = call_raw(function, *args, buffer, cap, n_out)
        if err == lib.FTK_ERR_SPACE and n_out[0] > cap:
            cap = n_out[0]
        elif err != lib.FTK_OK:
            raise error_of(err, lines)
        else:
            return buffer, n_out[0]


def names(list_of: Any) -> list[str]:
    """A NULL-terminated list of C strings."""
    found: list[str] = []
    while list_of[len(found)]:
        found.append(ffi.string(list_of[len(found)]).decode())
    return found
