# SPDX-License-Identifier: Apache-2.0
"""Foretoken: exact speculative decoding of large language models.

    import foretoken

    print(foretoken.generate("Once upon a time", max_tokens=64))

    engine = foretoken.Engine("model.gguf")
    for text in engine.stream([{"role": "user", "content": "Why is the sky blue?"}]):
        print(text, end="", flush=True)

A Model is a file in memory, an Engine runs it, a Session is one text that it writes. AsyncEngine answers many at
once. Without a file the model is the small one that comes with the package.
"""

from ._calls import text_of as _text_of
from ._native import lib as _lib
from .aio import AsyncEngine, AsyncTextIterator
from .answers import Completion, Piece
from .batch import TextIterator
from .engine import Engine, generate
from .errors import (
    BusyError,
    ClosedError,
    ContextError,
    DeviceError,
    Error,
    FileError,
    FormatError,
    InvalidError,
    NoRoomError,
    NumericError,
    OutOfMemoryError,
    UnsupportedError,
)
from .model import Adapter, Model, ModelInfo, TextStream, chat_templates, demo_model
from .results import DrafterStats, EngineStats, Logprobs, SessionStats, StepResult
from .scoring import Likelihood, loglikelihoods
from .session import Session
from .settings import Settings, drafters, lossless, verifiers

__version__ = _text_of(_lib.ftk_version())

__all__ = [
    "Adapter",
    "AsyncEngine",
    "AsyncTextIterator",
    "BusyError",
    "ClosedError",
    "Completion",
    "ContextError",
    "DeviceError",
    "DrafterStats",
    "Engine",
    "EngineStats",
    "Error",
    "FileError",
    "FormatError",
    "InvalidError",
    "Likelihood",
    "Logprobs",
    "Model",
    "ModelInfo",
    "NoRoomError",
    "NumericError",
    "OutOfMemoryError",
    "Piece",
    "Session",
    "SessionStats",
    "Settings",
    "StepResult",
    "TextIterator",
    "TextStream",
    "UnsupportedError",
    "chat_templates",
    "demo_model",
    "drafters",
    "generate",
    "loglikelihoods",
    "lossless",
    "verifiers",
]
