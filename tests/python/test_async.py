# SPDX-License-Identifier: Apache-2.0
"""Many at once by asyncio, and what becomes of those who leave, of errors and of closing."""

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest

import foretoken

PROMPT = "Once upon a time there was a king"


def running(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def test_each_is_what_it_is_alone(engine):
    prompts = [f"There were {i} children in the" for i in range(12)]
    alone = [engine.generate(p, max_tokens=20).text for p in prompts]

    async def ask():
        async with foretoken.AsyncEngine(engine, parallel=5) as many:
            whole = await asyncio.gather(*(many.generate(p, max_tokens=20) for p in prompts))
            assert [a.text for a in whole] == alone
            texts = await asyncio.gather(*(read(many.stream(p, max_tokens=20)) for p in prompts))
            assert texts == alone

    async def read(stream):
        text = "".join([piece async for piece in stream])
        assert stream.completion.text == text
        return text

    running(ask())


def test_n_answers_and_what_is_read_again(engine):
    async def ask():
        async with foretoken.AsyncEngine(engine) as many:
            answers = await many.generate_n(PROMPT, 3, temperature=1, seed=5, max_tokens=12)
            assert len({a.text for a in answers}) == 3
            again = await many.generate(PROMPT, max_tokens=12)
            assert again.n_cached >= again.n_prompt - 1
            assert again.tokens == engine.generate(PROMPT, max_tokens=12).tokens

    running(ask())


def test_those_who_leave_free_their_place(engine):
    async def ask():
        async with foretoken.AsyncEngine(engine, parallel=2) as many:
            endless = [many.stream(PROMPT, ignore_end=True) for _ in range(4)]
            async for _ in endless[0]:
                break
            await endless[0].aclose()
            task = asyncio.create_task(many.generate(PROMPT, ignore_end=True))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(many.generate_n(PROMPT, 2, ignore_end=True), 0.05)
            del endless
            answer = await many.generate("The dog", max_tokens=8)
            assert answer.text == engine.generate("The dog", max_tokens=8).text
            while many.load != (0, 0):
                await asyncio.sleep(0.01)

    running(ask())


def test_one_that_fails_is_alone_in_that(engine):
    def boom(tokens):
        raise RuntimeError("boom")

    async def ask():
        async with foretoken.AsyncEngine(engine) as many:
            good = asyncio.create_task(many.generate(PROMPT, max_tokens=20))
            with pytest.raises(RuntimeError, match="boom"):
                await many.generate(PROMPT, mask=boom)
            with pytest.raises(foretoken.ContextError):
                await many.generate([1] * 5000)
            with pytest.raises(foretoken.InvalidError):
                await many.generate(PROMPT, drafter="nobody")
            assert (await good).tokens == engine.generate(PROMPT, max_tokens=20).tokens

    running(ask())


def test_too_many_are_refused(engine):
    async def ask():
        async with foretoken.AsyncEngine(engine, parallel=1, queue=2) as many:
            asked = [many.stream(PROMPT, ignore_end=True, max_tokens=500) for _ in range(2)]
            with pytest.raises(foretoken.BusyError):
                for _ in range(4):
                    asked.append(many.stream(PROMPT, ignore_end=True, max_tokens=500))

    running(ask())


def test_closing_tells_those_who_wait(engine):
    async def ask():
        many = foretoken.AsyncEngine(engine)
        stream = many.stream(PROMPT, ignore_end=True)
        await anext(stream)
        task = asyncio.create_task(many.generate(PROMPT, ignore_end=True))
        await asyncio.sleep(0.01)
        await asyncio.to_thread(many.close)
        with pytest.raises(foretoken.ClosedError):
            await task
        with pytest.raises(foretoken.ClosedError):
            async for _ in stream:
                pass
        with pytest.raises(foretoken.ClosedError):
            await many.generate(PROMPT)

    running(ask())


def test_an_engine_closed_underneath():
    async def ask():
        with foretoken.Engine(threads=1, measure=False) as engine:
            many = foretoken.AsyncEngine(engine)
            task = asyncio.create_task(many.generate(PROMPT, ignore_end=True))
            await asyncio.sleep(0.02)
            await asyncio.to_thread(engine.close)
            with pytest.raises(foretoken.ClosedError):
                await task
            many.close()

    running(ask())


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 24, "ignore_end": True},
        {"max_tokens": 24, "temperature": 0.9, "seed": 4},
        {"max_tokens": 24, "stop": ["king who had a"]},
        {"max_tokens": 8},
        {"ends": [446]},
    ],
)
def test_an_answer_goes_on_from_any_piece(engine, options):
    """What another engine gave, and this one gives, is the whole."""

    async def ask():
        async with foretoken.AsyncEngine(engine) as many:
            first = many.stream(PROMPT, **options)
            pieces = [piece async for piece in first]
            given = [t for p in pieces for t in p.tokens]
            assert given and given == first.completion.tokens[: len(given)]
            for n in range(1, len(pieces) + 1):
                came = [t for p in pieces[:n] for t in p.tokens]
                second = many.stream(PROMPT, resume=came, **options)
                rest = [piece async for piece in second]
                assert "".join(pieces[:n]) + "".join(rest) == first.completion.text
                assert second.completion.tokens == first.completion.tokens
                assert second.completion.text == first.completion.text
                assert second.completion.finish == first.completion.finish

    running(ask())


def test_futures(engine):
    with foretoken.AsyncEngine(engine) as many:
        futures = [many.submit(PROMPT, max_tokens=8, temperature=1, seed=i) for i in range(4)]
        assert [f.result(60).finish for f in futures] == ["limit"] * 4


def test_one_that_is_let_go_of_ends_by_itself(model):
    """But not before what was asked of it is done."""

    async def ask():
        return "".join(
            [p async for p in foretoken.AsyncEngine(engine).stream(PROMPT, max_tokens=20)]
        )

    before = threading.active_count()
    engine = foretoken.Engine(model, threads=1, measure=False)
    wanted = engine.generate(PROMPT, max_tokens=20).text
    assert running(ask()) == wanted
    assert foretoken.AsyncEngine(engine).submit(PROMPT, max_tokens=20).result(60).text == wanted
    gone = weakref.ref(engine)
    del engine
    for _ in range(100):
        gc.collect()
        if threading.active_count() == before and gone() is None:
            return
        time.sleep(0.1)
    raise AssertionError("its thread, or its engine, is still there")


def test_python_may_end_in_the_middle_of_an_answer():
    script = """
        import asyncio, foretoken
        many = foretoken.AsyncEngine(threads=1, measure=False)
        async def ask():
            stream = many.stream("Once upon a time", ignore_end=True)
            print(await anext(stream))
        asyncio.run(ask())
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "") and run.stdout
