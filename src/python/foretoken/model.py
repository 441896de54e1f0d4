# SPDX-License-Identifier: Apache-2.0
"""A model: its figures, its vocabulary and its chat template."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence

from ._calls import call, opened, text_of, thread
from ._convert import Tokens, c_ids, c_name, c_path, c_string, encoded, fill, names, token_ids
from ._handles import Handle, SharedHandle
from ._native import ffi, lib
from .errors import InvalidError
from .results import filled

#: One of a conversation: {"role": "user", "content": "..."}.
Message = Mapping[str, str]


def demo_model() -> Path:
    """The small model that comes with the package, to try things."""
    return Path(__file__).parent / "models" / "foretoken-demo-q8_0.gguf"


@dataclass(frozen=True)
class ModelInfo:
    """What a model's file says of it; see ftk_model_info in foretoken.h."""

    name: str
    architecture: str
    kernels: str
    chat_template: str
    has_chat_template: bool
    n_vocab: int
    n_ctx_train: int
    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    head_dim: int
    bos: int
    eos: int
    eot: int
    add_bos: bool
    n_params: int
    weight_bytes: int
    fingerprint: str
    adapted_bytes: int


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter, added to the weights at a scale while they are loaded."""

    path: str | os.PathLike[str]
    scale: float = 1.0


class Model:
    """A model in memory. Any number of threads may use it at once, and any number of engines."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        adapters: Sequence[Adapter | str | os.PathLike[str]] = (),
        kernels: str | None = None,
        vocabulary_only: bool = False,
        progress: Callable[[int, int], Any] | None = None,
    ) -> None:
        """Loads a GGUF file; without a path, the demo model.

        adapters: LoRA files. kernels: "ref", "avx2", "avx512" or "amx"; None is the best there is.
        vocabulary_only: enough to tokenize. progress: called with bytes done and bytes in all.
        """
        self.path = Path(demo_model() if path is None else path)
        config = ffi.new("ftk_model_config *")
        lib.ftk_model_config_fill(config, ffi.sizeof("ftk_model_config"))
        config.host.log = lib.foretoken_log
        level = c_name(kernels, "kernels")
        config.kernels = level
        config.vocabulary_only = vocabulary_only
        listed = [a if isinstance(a, Adapter) else Adapter(a) for a in adapters]
        paths = [c_path(a.path, "an adapter's path") for a in listed]
        items = ffi.new("ftk_adapter[]", [(p, a.scale) for p, a in zip(paths, listed)])
        config.adapters, config.n_adapters = items, len(listed)
        if progress is not None:
            config.progress = lib.foretoken_progress
        file = c_path(self.path, "the model's path")
        outer, thread.progress = thread.progress, progress
        try:
            model = opened("ftk_model", lib.ftk_model_load, lib.ftk_model_free, file, config)
        finally:
            thread.progress = outer
        self._handle = SharedHandle("the model", model, lib.ftk_model_free)
        info = ffi.new("ftk_model_info *")
        lib.ftk_model_report(model, info, ffi.sizeof("ftk_model_info"))
        #: What the file says of the model.
        self.info = filled(ModelInfo, info)

    def close(self) -> None:
        """Closes it and all that was opened on it, once the calls that use it have ended."""
        self._handle.close()

    @property
    def closed(self) -> bool:
        return self._handle.closed

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._handle.free()

    def __repr__(self) -> str:
        return f"<foretoken.Model {self.info.name!r}{', closed' if self.closed else ''}>"

    # ---- text

    def tokenize(
        self, text: str | bytes, *, bos: bool = True, special: bool = False, eos: bool = False
    ) -> list[int]:
        """Token ids of a text. bos and eos: put those in front and behind, if the model asks for them. special: read
        control tokens in the text; never for a user's text."""
        data = encoded(text, "text")
        flags = bos * lib.FTK_TOK_BOS | special * lib.FTK_TOK_SPECIAL | eos * lib.FTK_TOK_EOS
        with self._handle.use() as m:
            ids, n = fill(lib.ftk_tokenize, "int32_t", len(data) + 16, m, data, len(data), flags)
        return ffi.unpack(ids, n) if n else []

    def detokenize_bytes(self, tokens: Tokens, *, special: bool = False) -> bytes:
        """Text of tokens, which may begin or end within a character. special: control tokens, too."""
        ids = token_ids(tokens)
        flags = special * lib.FTK_TOK_SPECIAL
        with self._handle.use() as m:
            text, n = fill(
                lib.ftk_detokenize, "char", 8 * ids.size + 16, m, c_ids(ids), ids.size, flags
            )
        return ffi.buffer(text, n)[:]

    def detokenize(self, tokens: Tokens, *, special: bool = False) -> str:
        """The same as str; what is no UTF-8 comes out as U+FFFD."""
        return self.detokenize_bytes(tokens, special=special).decode("utf-8", "replace")

    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer."""
        ids = token_ids([token])
        with self._handle.use() as m:
            return lib.ftk_model_is_end(m, ids[0])

    def prompt_tokens(self, prompt: str | bytes | Sequence[Message] | Tokens) -> list[int]:
        """Token ids of what a prompt may be: a text to go on with, a conversation to answer, or token ids."""
        if isinstance(prompt, (str, bytes)):
            return self.tokenize(prompt)
        items = list(prompt)
        if items and isinstance(items[0], Mapping):
            return self.chat_tokens(items)
        return token_ids(items, "prompt").tolist()

    def text_stream(self, *, continues: bool = False, stops: Iterable[str] = ()) -> TextStream:
        """Turns tokens into text as they come; see TextStream."""
        return TextStream(self, continues=continues, stops=stops)

    # ---- conversations

    def chat_tokens(self, messages: Sequence[Message], **options: Any) -> list[int]:
        """Token ids of a conversation, in the model's own chat template.

        template: a built-in form, or another of the templates that the file carries. source: the text of a Jinja
        template that is taken instead. add_generation_prompt: end where the answer begins (True). now: what a
        template takes for the date, in seconds since 1970. tools: what the model may call, a list of function
        schemas. variables: more for the template, such as {"enable_thinking": False}.
        """
        with self._handle.use() as m, _Chat(messages, **options) as chat:
            ids, n = fill(
                lib.ftk_chat_tokenize_as, "int32_t", 1024, m, chat.config, chat.messages, chat.n
            )
        return ffi.unpack(ids, n) if n else []

    def chat_text(self, messages: Sequence[Message], **options: Any) -> str:
        """The text of the same, for showing: tokenized again, a user's words may become control tokens."""
        with self._handle.use() as m, _Chat(messages, **options) as chat:
            text, n = fill(lib.ftk_chat_text, "char", 4096, m, chat.config, chat.messages, chat.n)
        return ffi.buffer(text, n)[:].decode("utf-8", "replace")

    def chat_stops(self, template: str | None = None) -> list[str]:
        """Texts that also end an answer under a template, the model's own if none is named."""
        stop = lib.ftk_chat_stop(c_string(template or self.info.chat_template, "template"))
        return [text_of(stop)] if stop else []


class _Chat:
    """A conversation as the library wants it; all of it lives as long as this."""

    def __init__(
        self,
        messages: Sequence[Message],
        *,
        template: str | None = None,
        source: str | None = None,
        add_generation_prompt: bool = True,
        now: int | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = ffi.new("ftk_chat_config *")
        lib.ftk_chat_config_fill(self.config, ffi.sizeof("ftk_chat_config"))
        texts = {
            "tmpl": template,
            "source": source,
            "tools": None if tools is None else json.dumps(tools),
            "vars": None if variables is None else json.dumps(variables),
        }
        self._kept = [c_name(text, name) for name, text in texts.items()]
        for name, text in zip(texts, self._kept):
            setattr(self.config, name, text)
        self.config.add_generation_prompt = add_generation_prompt
        if now is not None:
            self.config.now = now
        self.n = len(messages)
        self.messages = ffi.new(
            "ftk_message[]", [self._message(i, m) for i, m in enumerate(messages)]
        )

    def _message(self, i: int, message: Message) -> tuple[Any, Any]:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise InvalidError(f'message {i}: give {{"role": ..., "content": ...}}')
        pair = tuple(c_string(message[key], f"message {i}, {key}") for key in ("role", "content"))
        self._kept += pair
        return pair[0], pair[1]

    def __enter__(self) -> _Chat:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class TextStream:
    """Turns tokens into text as they come, whole characters at a time; what may be the start of a stop text waits."""

    def __init__(self, model: Model, *, continues: bool = False, stops: Iterable[str] = ()) -> None:
        """continues: the text goes on from earlier tokens, so a leading space is kept. stops: texts that end it."""
        texts = [c_string(stop, "a stop text") for stop in stops]
        array = ffi.new("char *[]", texts)
        with model._handle.use() as m:
            free = lib.ftk_stream_free
            stream = opened(
                "ftk_stream", lib.ftk_stream_open, free, m, continues, array, len(texts)
            )
            self._handle = Handle("the text stream", stream, free, model._handle)
        self._model = model
        self._lock = threading.Lock()
        #: Whether a stop text came; all that follows gives nothing.
        self.stopped = False

    def push(self, token: int) -> str:
        """What can be shown once this token is there."""
        text, n, stopped = ffi.new("char **"), ffi.new("size_t *"), ffi.new("bool *")
        with self._lock, self._model._handle.use():
            call(
                lib.ftk_stream_push,
                self._handle.get(),
                int(token_ids([token])[0]),
                text,
                n,
                stopped,
            )
            self.stopped = bool(stopped[0])
            return ffi.buffer(text[0], n[0])[:].decode("utf-8") if n[0] else ""

    def flush(self) -> str:
        """What was waiting."""
        text, n = ffi.new("char **"), ffi.new("size_t *")
        with self._lock, self._model._handle.use():
            call(lib.ftk_stream_flush, self._handle.get(), text, n)
            return ffi.buffer(text[0], n[0])[:].decode("utf-8", "replace") if n[0] else ""

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._handle.free()


def chat_templates() -> list[str]:
    """The built-in forms of conversations."""
    return names(lib.ftk_chat_templates())
