# SPDX-License-Identifier: Apache-2.0
"""What is used wrongly raises, and takes nothing down."""

import gc
import os
import threading
import time

import numpy as np
import pytest

import foretoken

PROMPT = "Once upon a time there was a king"


@pytest.fixture
def own():
    """An engine of the test's own."""
    engine = foretoken.Engine(threads=1, measure=False)
    yield engine
    engine.close()


CALLS_OF_SESSIONS = [
    lambda s: s.append("a"),
    lambda s: s.truncate(0),
    lambda s: s.tokens,
    lambda s: len(s),
    lambda s: s.text,
    lambda s: s.context,
    lambda s: s.limit(1),
    lambda s: s.set_prompt(0),
    lambda s: s.step(),
    lambda s: s.fork(),
    lambda s: s.configure(temperature=1),
    lambda s: s.logprobs(),
    lambda s: s.stats(),
    lambda s: s.drafter_stats(),
    lambda s: s.generate(max_tokens=1),
    lambda s: next(s.stream()),
    lambda s: s.engine.step([s]),
]

CALLS_OF_ENGINES = [
    lambda e: e.threads,
    lambda e: e.device,
    lambda e: e.stats(),
    lambda e: e.cost(1),
    lambda e: e.add_drafter("a"),
    lambda e: e.find_drafters("a"),
    lambda e: e.has_drafter("lookup"),
    lambda e: e.session(),
    lambda e: e.score("a"),
    lambda e: e.logits("a"),
    lambda e: e.generate("a"),
    lambda e: next(e.stream("a")),
    lambda e: e.model.tokenize("a"),
    lambda e: e.model.detokenize([1]),
    lambda e: e.model.is_end(1),
    lambda e: e.model.chat_text([{"role": "user", "content": "a"}]),
    lambda e: e.model.text_stream(),
    lambda e: foretoken.Engine(e.model),
    lambda e: foretoken.Engine.estimate(e.model),
]


@pytest.mark.parametrize("what", ["session", "engine", "model"])
def test_sessions_after_the_end(own, what):
    session = own.session()
    session.append(PROMPT)
    session.step()
    {"session": session, "engine": own, "model": own.model}[what].close()
    assert session.closed
    for call in CALLS_OF_SESSIONS:
        with pytest.raises(foretoken.ClosedError, match="has been closed"):
            call(session)
    for closed in (session, own, own.model, session):
        closed.close()


def test_engines_and_models_after_the_end(own):
    stream = own.model.text_stream()
    own.model.close()
    for call in CALLS_OF_ENGINES:
        with pytest.raises(foretoken.ClosedError):
            call(own)
    for call in (lambda: stream.push(1), stream.flush):
        with pytest.raises(foretoken.ClosedError):
            call()


@pytest.mark.parametrize(
    "settings, error",
    [
        ({"drafter": "nobody"}, foretoken.InvalidError),
        ({"drafter": "look\0up"}, foretoken.InvalidError),
        ({"drafter": 3}, TypeError),
        ({"verifier": "nobody"}, foretoken.InvalidError),
        ({"temperature": -1}, foretoken.InvalidError),
        ({"temperature": "hot"}, TypeError),
        ({"top_p": 0}, foretoken.InvalidError),
        ({"seed": -1}, foretoken.InvalidError),
        ({"seed": 2**64}, foretoken.InvalidError),
        ({"budget": 128}, foretoken.InvalidError),
        ({"n_ctx": 2**40}, foretoken.InvalidError),
        ({"shape": "round"}, foretoken.InvalidError),
        ({"logit_bias": {4096: 1}}, foretoken.InvalidError),
        ({"logit_bias": {5: float("nan")}}, foretoken.InvalidError),
        ({"logit_bias": {2**31: 1}}, foretoken.InvalidError),
        ({"ends": [-1]}, foretoken.InvalidError),
        ({"ends": "no"}, TypeError),
        ({"logprobs": 21}, foretoken.InvalidError),
        ({"temprature": 1}, TypeError),
        ({"mask": 3}, TypeError),
    ],
)
def test_settings_that_are_wrong(engine, settings, error):
    with pytest.raises(error) as raised:
        engine.session(**settings)
    assert str(raised.value)


@pytest.mark.parametrize(
    "prompt, error",
    [
        ([1, 4096], foretoken.InvalidError),
        ([1, -1], foretoken.InvalidError),
        ([1, 2**40], foretoken.InvalidError),
        ([1.5], TypeError),
        ([True, False], TypeError),
        (["a", "b"], TypeError),
        (np.zeros((2, 2), int), TypeError),
        ([[1, 2], [3]], Exception),
        (None, TypeError),
        (3, TypeError),
        ([], foretoken.InvalidError),
        ("\ud800", ValueError),
        ([{"role": "user"}], foretoken.InvalidError),
        ([{"role": "user", "content": "a\0b"}], foretoken.InvalidError),
        ([{"role": "user", "content": 3}], TypeError),
        ([{"role": "judge", "content": "a"}, 3], foretoken.InvalidError),
    ],
)
def test_prompts_that_are_wrong(engine, prompt, error):
    with pytest.raises(error):
        engine.generate(prompt, max_tokens=4)
    assert engine.generate(PROMPT, max_tokens=2).finish == "limit"


def test_numbers_that_are_wrong(engine, model):
    with engine.session() as s:
        s.append(PROMPT)
        for call in (s.truncate, s.limit, s.set_prompt):
            with pytest.raises(foretoken.InvalidError):
                call(-1)
        for call in (s.truncate, s.set_prompt):
            with pytest.raises(foretoken.InvalidError):
                call(1000)
    for start in (10**6, -(10**6)):
        with pytest.raises(foretoken.InvalidError):
            engine.logits("a", start)
    with pytest.raises(foretoken.InvalidError):
        engine.score([])
    for rows in (0, 129):
        with pytest.raises(foretoken.InvalidError):
            engine.cost(rows)
    for config in (
        {"threads": -1},
        {"threads": 2**40},
        {"kv_type": "q4"},
        {"max_rows": 1},
        {"device": "abacus"},
    ):
        with pytest.raises(foretoken.Error):
            foretoken.Engine(model, **config)
    with pytest.raises(foretoken.InvalidError):
        engine.generate(PROMPT, max_tokens=-1)
    for options in ({"n": 0}, {"parallel": 0}):
        with pytest.raises(foretoken.InvalidError):
            engine.generate_many([PROMPT], **options)
    with pytest.raises(foretoken.InvalidError):
        model.text_stream(stops=[""])
    with foretoken.Engine(model, threads=1, measure=False) as other, engine.session() as s:
        with pytest.raises(foretoken.InvalidError, match="another engine"):
            other.step([s])


def test_masks_that_are_wrong(engine):
    def boom(tokens):
        raise RuntimeError("boom")

    beside = engine.session(ignore_end=True)
    beside.append(PROMPT)
    for hook, error in (
        (boom, RuntimeError),
        (lambda tokens: [4096], foretoken.InvalidError),
        (lambda tokens: np.ones(3, bool), foretoken.InvalidError),
        (lambda tokens: "yes", TypeError),
        (lambda: None, TypeError),
        (lambda tokens: engine.stats(), foretoken.BusyError),
        (lambda tokens: beside.step(), foretoken.BusyError),
        (lambda tokens: engine.close(), foretoken.BusyError),
        (lambda tokens: engine.model.close(), foretoken.BusyError),
    ):
        with pytest.raises(error):
            engine.generate(PROMPT, mask=hook, max_tokens=4)
        with engine.session(mask=hook) as s:
            s.append(PROMPT)
            mine, other = engine.step([s, beside])
            assert isinstance(mine.error, error) and other.tokens
    beside.close()


def test_a_mask_ended_by_the_keyboard(engine):
    def interrupted(tokens):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(PROMPT, mask=interrupted, max_tokens=4)
    assert engine.generate(PROMPT, max_tokens=2).finish == "limit"


def test_sessions_are_collected_while_a_step_runs(engine):
    """Also those that a hook lets go of, inside the step itself."""
    held = [engine.session() for _ in range(8)]

    def lets_go(tokens):
        if held:
            held.pop()
            gc.collect()
        return None

    assert engine.generate(PROMPT, mask=lets_go, max_tokens=12, ignore_end=True).finish == "limit"
    assert not held


def test_everything_is_collected_in_any_order():
    for _ in range(5):
        engine = foretoken.Engine(threads=1, measure=False)
        session, stream = engine.session(), engine.model.text_stream()
        session.append(PROMPT)
        session.step()
        session.cycle = [session, engine, stream]
        del engine, session, stream
        gc.collect()


def test_what_was_opened_keeps_its_origin():
    session = foretoken.Engine(threads=1, measure=False).session()
    gc.collect()
    session.append(PROMPT)
    assert len(session.generate(max_tokens=4).tokens) == 4


def test_threads_on_one_engine(engine):
    """One call at a time, whoever calls; and others of Python go on meanwhile."""
    wanted = engine.generate(PROMPT, max_tokens=24).tokens
    got, ticks = [], []
    threads = [
        threading.Thread(target=lambda: got.append(engine.generate(PROMPT, max_tokens=24).tokens))
        for _ in range(6)
    ]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        ticks.append(1)
        time.sleep(0.001)
    assert got == [wanted] * 6 and ticks


def test_closing_while_others_step():
    """Who steps then gets ClosedError, nothing else."""
    for _ in range(3):
        engine = foretoken.Engine(threads=1, measure=False)
        wrong, started = [], threading.Barrier(4)

        def steps():
            started.wait()
            try:
                while True:
                    engine.generate(PROMPT, max_tokens=16)
            except foretoken.ClosedError:
                pass
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=steps) for _ in range(3)]
        for t in threads:
            t.start()
        started.wait()
        time.sleep(0.05)
        engine.model.close()
        for t in threads:
            t.join(30)
        assert not wrong and not any(t.is_alive() for t in threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork() here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_fork_the_child_goes_on():
    with foretoken.Engine(threads=2, measure=False) as engine:
        wanted = engine.generate(PROMPT, max_tokens=16).tokens
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = int(engine.generate(PROMPT, max_tokens=16).tokens != wanted)
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
