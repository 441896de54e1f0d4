# SPDX-License-Identifier: Apache-2.0
"""Answers are those of the program, whichever way they are asked for."""

import json
import os
import subprocess

import numpy as np
import pytest

import foretoken

PROMPT = "Once upon a time there was a king"
CHAT = [{"role": "user", "content": "Tell me a story about a dog."}]


def program(*arguments):
    run = subprocess.run(
        [os.environ["FORETOKEN"], "generate", "--demo", "--json", "-n", "40", *arguments],
        capture_output=True,
        check=True,
    )
    return json.loads(run.stdout)


@pytest.mark.skipif(
    "FORETOKEN" not in os.environ, reason="FORETOKEN does not name the program to compare with"
)
@pytest.mark.parametrize(
    "prompt, arguments, settings",
    [
        (PROMPT, ["-p", PROMPT], {}),
        (PROMPT, ["-p", PROMPT, "--temp", "0.8", "--seed", "7"], {"temperature": 0.8, "seed": 7}),
        (PROMPT, ["-p", PROMPT, "--stop", "castle"], {"stop": ["castle"]}),
        (CHAT, ["--chat", "-p", CHAT[0]["content"]], {}),
    ],
)
def test_what_the_program_says(engine, prompt, arguments, settings):
    said = program(*arguments)
    answer = engine.generate(prompt, max_tokens=40, **settings)
    assert answer.text == said["text"]
    assert answer.tokens == said["tokens"]
    assert answer.finish == said["finish"]


@pytest.mark.parametrize("drafter", foretoken.drafters())
@pytest.mark.parametrize("temperature", [0, 0.9])
def test_drafters_change_nothing(engine, drafter, temperature):
    if not foretoken.lossless(drafter=drafter):
        pytest.skip(f"{drafter} is lossy")
    if not engine.has_drafter(drafter):
        pytest.skip(f"{drafter} needs a file that is not there")
    plain = engine.generate(PROMPT, max_tokens=48, drafter="none", temperature=temperature, seed=3)
    drafted = engine.generate(
        PROMPT, max_tokens=48, drafter=drafter, temperature=temperature, seed=3, budget=8
    )
    assert drafted.tokens == plain.tokens
    assert plain.drafted == 0


def test_drafts_are_accepted(engine):
    answer = engine.generate(PROMPT, max_tokens=64, drafter="lookup", budget=8, ignore_end=True)
    assert 0 < answer.accepted <= answer.drafted
    assert answer.accepted < len(answer.tokens)


def test_stream_gives_the_text_piece_by_piece(engine):
    whole = engine.generate(PROMPT, max_tokens=40)
    stream = engine.stream(PROMPT, max_tokens=40)
    pieces = list(stream)
    assert "".join(pieces) == whole.text
    one_by_one = list(engine.stream(PROMPT, max_tokens=40, drafter="none"))  # drafts may bring many tokens at once
    assert len(one_by_one) > 20 and "".join(one_by_one) == whole.text
    assert (stream.completion.tokens, stream.completion.finish) == (whole.tokens, whole.finish)
    cut = engine.stream(PROMPT, max_tokens=40)
    next(cut)
    assert cut.completion is None
    cut.close()
    assert engine.stats().sessions == 0


def test_many_are_each_what_they_are_alone(engine):
    prompts = [f"There were {i} children in the" for i in range(9)] + [
        PROMPT,
        CHAT,
        [1, 300, 301],
        "",
    ]
    alone = [engine.generate(p, max_tokens=24, temperature=0.7, seed=1) for p in prompts]
    together = engine.generate_many(prompts, max_tokens=24, temperature=0.7, seed=1, parallel=5)
    assert [a.tokens for (a,) in together] == [a.tokens for a in alone]
    assert [a.text for (a,) in together] == [a.text for a in alone]


def test_n_answers_to_a_prompt_read_it_once(engine):
    (answers,) = engine.generate_many([PROMPT], n=4, max_tokens=24, temperature=1, seed=5)
    alone = [engine.generate(PROMPT, max_tokens=24, temperature=1, seed=5 + i) for i in range(4)]
    assert [a.text for a in answers] == [a.text for a in alone]
    assert len({a.text for a in answers}) == 4
    assert answers[0].n_cached == 0
    assert all(a.n_cached >= a.n_prompt - 1 for a in answers[1:])


def test_stop_texts(engine):
    whole = engine.generate(PROMPT, max_tokens=40)
    word = whole.text.split()[6]
    stopped = engine.generate(PROMPT, max_tokens=40, stop=["no such text", word])
    assert stopped.finish == "stop"
    assert stopped.text == whole.text[: whole.text.index(word)]
    assert engine.generate(PROMPT, max_tokens=40, stop=word).tokens == stopped.tokens


def test_a_cache_too_small_for_all(model):
    """They wait for each other, are put back in line, and come out the same."""
    prompts = [f"In the year {1000 + i} there lived a man who" for i in range(6)]
    with foretoken.Engine(model, threads=1, measure=False, kv_slots=256) as engine:
        alone = [engine.generate(p, max_tokens=90, ignore_end=True) for p in prompts]
        together = engine.generate_many(prompts, max_tokens=90, ignore_end=True, parallel=6)
        assert [a.tokens for (a,) in together] == [a.tokens for a in alone]
        held = engine.session()
        held.append([1] + [300] * 250)
        held.step(), held.step()
        with pytest.raises(foretoken.NoRoomError):
            engine.generate(PROMPT, max_tokens=8)
        held.close()
        assert engine.generate(PROMPT, max_tokens=8).finish == "limit"


def test_the_end_of_the_context(engine):
    answer = engine.generate(PROMPT, n_ctx=32, ignore_end=True)
    assert answer.finish == "context"
    assert len(answer.tokens) + answer.n_prompt == 32
    with pytest.raises(foretoken.ContextError):
        engine.generate([1] * 33, n_ctx=32)


def test_the_shortest_way(model):
    assert (
        foretoken.generate(PROMPT, model, max_tokens=8).text
        == foretoken.generate(PROMPT, max_tokens=8).text
    )


def test_logprobs_add_up_to_the_score(engine):
    answer = engine.generate(
        PROMPT, max_tokens=20, logprobs=3, prompt_logprobs=True, ignore_end=True
    )
    prompt, own = answer.prompt_logprobs, answer.logprobs
    assert np.isnan(prompt.own[0]) and not np.isnan(prompt.own[1:]).any()
    text = engine.model.tokenize(PROMPT) + answer.tokens
    assert prompt.own[1:].sum(dtype=float) + own.own.sum(dtype=float) == pytest.approx(
        engine.score(text), rel=1e-6
    )
    assert own.tokens.tolist() == answer.tokens == own.best_tokens[:, 0].tolist()
    assert (own.best[:, 0] == own.own).all() and own.best.shape == (20, 3)


def test_logits_are_those_that_logprobs_come_from(engine):
    text = engine.model.tokenize(PROMPT)
    rows = engine.logits(text).astype(float)
    assert rows.shape == (len(text), engine.model.info.n_vocab)
    logs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    assert logs[np.arange(len(text) - 1), text[1:]].sum() == pytest.approx(engine.score(text))
    assert (engine.logits(text, -2) == engine.logits(text)[-2:]).all()
    assert engine.generate(text, max_tokens=1).tokens == [rows[-1].argmax()]
