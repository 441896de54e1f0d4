# SPDX-License-Identifier: Apache-2.0
"""Foretoken in EleutherAI's lm-evaluation-harness, as the model "foretoken":

    python -m foretoken.lm_eval run --model foretoken --model_args model=model.gguf,threads=4 --tasks arc_easy

The harness finds models of its own alone, so that its program has to be started by this one, which takes the same
arguments. In a program, importing this module is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from .batch import Batch, Job
from .engine import Engine
from .scoring import loglikelihoods
from .settings import Settings

# What tasks call a setting, and what it is called here.
_aliases = {"repetition_penalty": "repeat_penalty"}
_limits = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


@register_model("foretoken")
class ForetokenLM(TemplateLM):
    """A model of the harness that an engine answers for."""

    def __init__(
        self,
        model: str | None = None,
        *,
        drafter: str | None = None,
        verifier: str | None = None,
        parallel: int = 16,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        chat_template: str | None = None,
        engine_device: str | None = None,
        device: Any = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
        **config: Any,
    ) -> None:
        """model: a GGUF file, or None for the demo model. drafter and verifier: for what is generated. parallel: how
        many at once. max_length: most tokens of a text; else as many as the KV cache holds. chat_template: a
        built-in form for --apply_chat_template. engine_device: "cuda", say. What else there is goes to Engine():
        threads, kv_slots, kv_type, ... The harness's own device, which is "cuda:0" where nobody names one, and its
        batch_size say nothing here."""
        super().__init__()
        self.engine = Engine(model, device=engine_device, **config)
        self.model = self.engine.model
        stats = self.engine.stats()
        room = stats.kv_pages * stats.page_tokens
        self.max_length = min(max_length or room, room)
        self.max_gen_toks = max_gen_toks
        self._parallel = parallel
        self._settings = Settings(drafter=drafter, verifier=verifier, n_ctx=self.max_length)
        self._template = chat_template
        self._as_chat = False
        info = self.model.info
        self._bos_text = self.model.detokenize([info.bos], special=True) if info.bos >= 0 else ""

    # ---- text

    @property
    def eot_token_id(self) -> int:
        return self.model.info.eos

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context."""
        info = self.model.info
        return info.bos if info.bos >= 0 else info.eos

    @property
    def tokenizer_name(self) -> str:
        return f"foretoken-{self.model.info.fingerprint}-{self._template or 'own'}"

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """A text that a chat template made has control tokens in it, and may have its own BOS."""
        has_bos = self._as_chat and bool(self._bos_text) and string.startswith(self._bos_text)
        bos = add_special_tokens is not False and not has_bos
        return self.model.tokenize(string, bos=bos, special=self._as_chat)

    def tok_decode(self, tokens: Iterable[int], **kwargs: Any) -> str:
        return self.model.detokenize(tokens)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """From now on texts are read as those of a template."""
        self._as_chat = True
        options = {"template": self._template, "add_generation_prompt": add_generation_prompt}
        return self.model.chat_text(chat_history, **options)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        if isinstance(chat_template, str):
            self._template = chat_template
        return (self._template or self.model.info.chat_template) if chat_template else None

    # ---- likelihoods

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        """Of a text that is too long, the end counts."""
        answers: list[tuple[float, bool]] = []
        size = 64 * self._parallel
        for start in tqdm(range(0, len(requests), size), "loglikelihood", disable=disable_tqdm):
            part = requests[start : start + size]
            pairs = [self._cut(context, continuation) for _, context, continuation in part]
            for (texts, *_), found in zip(part, loglikelihoods(self.engine, pairs, self._parallel)):
                answers.append((found.logprob, found.greedy))
                if texts is not None:
                    self.cache_hook.add_partial("loglikelihood", texts, answers[-1])
        return answers

    def _cut(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
        if len(continuation) >= self.max_length:
            raise ValueError(
                f"a continuation of {len(continuation)} tokens does not fit into max_length "
                f"{self.max_length}: give a larger one, and kv_slots"
            )
        return context[-(self.max_length - len(continuation)) :], continuation

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """What fits is scored whole; of longer texts each token once, with as much before it as there is room for."""
        answers = []
        for request in tqdm(requests, "loglikelihood_rolling", disable=disable_tqdm):
            (text,) = request.args
            answers.append(self._rolling(self.tok_encode(text, add_special_tokens=False)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), answers[-1])
        return answers

    def _rolling(self, tokens: list[int]) -> float:
        if len(tokens) < self.max_length:
            return self.engine.score([self.prefix_token_id, *tokens])
        windows = get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length - 1, 1)
        pairs = [make_disjoint_window(window) for window in windows]
        return sum(found.logprob for found in loglikelihoods(self.engine, pairs, self._parallel))

    # ---- answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        with (
            Batch(self.engine, self._parallel) as batch,
            tqdm(total=len(requests), desc="generate_until", disable=disable_tqdm) as bar,
        ):
            jobs = [self._job(*request.args) for request in requests]
            for request, job in zip(requests, jobs):
                job.on_done = lambda r=request, j=job: self._done(r, j, bar)
                batch.add(job)
            batch.run()
        return [job.result().text for job in jobs]

    def _done(self, request: Instance, job: Job, bar: Any) -> None:
        bar.update()
        if job.completion is not None:
            self.cache_hook.add_partial("generate_until", request.args, job.completion.text)

    def _job(self, context: str, options: dict[str, Any]) -> Job:
        options = dict(options)
        given = [options.pop(name) for name in _limits if options.get(name) is not None]
        most = int(given[0]) if given else self.max_gen_toks
        until = options.pop("until", None) or []
        sampled = options.pop("do_sample", None)
        changes = {_aliases.get(name, name): value for name, value in options.items()}
        if sampled is False:
            changes["temperature"] = 0.0
        elif sampled:
            changes.setdefault("temperature", 1.0)
        prompt = self.tok_encode(context)
        room = self.max_length - min(most, self.max_length - 1)
        return Job.of(
            self.engine,
            prompt[-room:],
            self._settings.changed(**changes),
            max_tokens=most,
            stop=[until] if isinstance(until, str) else [text for text in until if text],
        )


def main() -> None:
    """The harness's own program, which knows this model, too."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
