# SPDX-License-Identifier: Apache-2.0
"""Sessions: settings, masks, forks, figures; and what the model says of text."""

import numpy as np
import pytest

import foretoken

PROMPT = "Once upon a time there was a king"


@pytest.fixture
def session(engine):
    with engine.session(ignore_end=True) as s:
        s.append(PROMPT)
        yield s


def emitted(session, n):
    """n tokens in single steps."""
    session.limit(n)
    tokens = []
    while len(tokens) < n:
        tokens += session.step().tokens
    return tokens


def test_text_and_back(model):
    for text in ("a b", " leading", "ünïcödé", "", "a\0b", "<|im_start|>"):
        assert model.detokenize(model.tokenize(text)) == text
    assert model.tokenize("a")[0] == model.info.bos != model.tokenize("a", bos=False)[0]
    assert model.detokenize_bytes(model.tokenize(b"\xff")) == b"\xff"
    assert model.is_end(model.info.eos) and not model.is_end(300)


def test_text_streams_hold_back_stops_and_half_characters(model):
    stream = model.text_stream(stops=["END"])
    text = "".join(stream.push(t) for t in model.tokenize("ünï so ENDless", bos=False))
    assert stream.stopped and text == "ünï so "
    for piece in (stream.push(300), stream.flush()):
        assert piece == ""


def test_conversations(model):
    messages = [{"role": "user", "content": "Hi <|im_end|>"}]
    text = model.chat_text(messages)
    assert "Hi <|im_end|>" in text
    assert model.chat_text(messages, add_generation_prompt=False) != text
    assert model.chat_text(messages, template="plain") != model.chat_text(
        messages, template="chatml"
    )
    source = "{{ variables_say }}{% for m in messages %}[{{ m.content }}]{% endfor %}{{ tools | length }}"
    made = model.chat_text(
        messages, source=source, variables={"variables_say": "ja"}, tools=[{"name": "f"}]
    )
    assert made == "ja[Hi <|im_end|>]1"
    assert model.chat_stops("vicuna") and "plain" in foretoken.chat_templates()
    with pytest.raises(foretoken.InvalidError, match="message 0"):
        model.chat_text([{"role": "user"}])
    with pytest.raises(foretoken.InvalidError, match="line 1"):
        model.chat_text(messages, source="{{ raise_exception('no') }}")


def test_steps_and_truncation(session):
    first = emitted(session, 12)
    assert session.tokens[-12:].tolist() == first
    session.truncate(len(session) - 12)
    assert emitted(session, 12) == first
    assert session.text.startswith(PROMPT)
    session.limit(3)
    while (result := session.step()).finish is None:
        pass
    assert result.finish == "limit"


def test_a_session_streams_and_holds_what_it_gave(engine):
    with engine.session(ignore_end=True) as s:
        s.append(PROMPT)
        whole = engine.generate(PROMPT, max_tokens=30, ignore_end=True).text
        word = whole.split()[8]
        text = "".join(s.stream(max_tokens=30, stop=[word]))
        assert text == whole[: whole.index(word)] != whole
        assert s.text == PROMPT + text + word
        s.append(" dragon")
        before = len(s)
        answer = s.generate(max_tokens=5)
        assert len(answer.tokens) == 5 and len(s) == before + 5


def test_forks_are_other_answers(session):
    session.step()
    with session.fork() as same, session.fork(temperature=1.0, seed=9) as other:
        told = emitted(session, 16)
        assert emitted(same, 16) == told
        assert emitted(other, 16) != told
        assert other.settings.seed == 9 and session.settings.seed is None
    with pytest.raises(foretoken.InvalidError, match="origin"):
        session.fork(budget=3)


def test_several_sessions_in_one_step(engine):
    with engine.session(ignore_end=True) as a, engine.session(ignore_end=True) as b:
        a.append(PROMPT), b.append("The dog")
        results = engine.step([a, b])
        assert all(r.error is None for r in results)
        b.truncate(0)
        results = engine.step([a, b])
        assert results[0].error is None and isinstance(results[1].error, foretoken.InvalidError)
        assert a.step().tokens
        assert any(isinstance(r.error, foretoken.InvalidError) for r in engine.step([a, a]))
    assert engine.step([]) == []


def test_bias_and_ends(session):
    first = session.fork()
    likeliest = emitted(first, 1)[0]
    first.close()
    with session.fork(logit_bias={likeliest: -100.0}) as biased:
        assert emitted(biased, 1)[0] != likeliest
        biased.configure(logit_bias=None)
        biased.truncate(len(biased) - 1)
        assert emitted(biased, 1)[0] == likeliest
    with session.fork(ends=[likeliest]) as ended:
        result = ended.step()
        assert result.finish == "end" and result.tokens == [likeliest]


def test_changing_the_drafter(session):
    with session.fork() as plain:
        told = emitted(plain, 24)
    session.configure(drafter="lookup")
    assert emitted(session, 24) == told
    assert [d.name for d in session.drafter_stats()] == ["lookup"]
    with pytest.raises(foretoken.InvalidError, match="n_ctx is fixed"):
        session.configure(n_ctx=100)


@pytest.mark.parametrize("drafter", ["none", "lookup", "auto"])
def test_masks(engine, drafter):
    """A letter that may not come, as ids and as truth values; drafts change nothing."""
    model = engine.model
    allowed = [t for t in range(model.info.n_vocab) if "k" not in model.detokenize([300, t])]
    truth = np.zeros(model.info.n_vocab, bool)
    truth[allowed] = True
    asked = []

    def as_ids(tokens):
        asked.append(len(tokens))
        return allowed

    settings = dict(max_tokens=24, drafter=drafter, budget=6, ignore_end=True)
    by_ids = engine.generate(PROMPT, mask=as_ids, **settings)
    by_truth = engine.generate(PROMPT, mask=lambda tokens: truth, **settings)
    assert "k" not in by_ids.text and by_ids.tokens == by_truth.tokens
    assert asked and min(asked) == by_ids.n_prompt
    free = engine.generate(PROMPT, mask=lambda tokens: None, **settings)
    assert free.tokens == engine.generate(PROMPT, **settings).tokens != by_ids.tokens


def test_a_mask_that_allows_nothing_or_one(engine):
    nothing = engine.generate(PROMPT, mask=lambda tokens: [], max_tokens=9)
    assert nothing.finish == "forbidden" and nothing.tokens == []
    model = engine.model
    wanted = model.tokenize(" and they lived happily", bos=False)
    start = len(model.tokenize(PROMPT))

    def script(tokens):
        place = len(tokens) - start
        return wanted[place : place + 1] or [model.info.eos]

    forced = engine.generate(PROMPT, mask=script, max_tokens=40, drafter="lookup", budget=6)
    assert forced.tokens == wanted + [model.info.eos] and forced.accepted > 0


def test_figures(session):
    emitted(session, 8)
    stats = session.stats()
    assert (
        stats.emitted == 8
        and stats.tokens == len(session)
        and stats.room == session.context - len(session)
    )
    assert len(stats.accepted_at) == 128 and stats.bytes > 0
    engine = session.engine.stats()
    assert engine.sessions == 1 and engine.kv_pages - engine.kv_pages_free == stats.kv_pages
    estimate = foretoken.Engine.estimate(session.engine.model, threads=1)
    assert estimate.kv_bytes == engine.kv_bytes
    assert session.engine.cost(8) > 0


def test_loading(tmp_path):
    done = []
    with foretoken.Model(progress=lambda now, all_: done.append((now, all_))) as model:
        assert model.info.n_vocab == 4096 and model.info.fingerprint
    assert not done or done[-1][0] == done[-1][1]
    with foretoken.Model(vocabulary_only=True) as words:
        assert words.tokenize("a")
        with pytest.raises(foretoken.Error):
            foretoken.Engine(words)
    with pytest.raises(foretoken.FileError, match="nowhere"):
        foretoken.Model(tmp_path / "nowhere.gguf")
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(foretoken.FormatError):
        foretoken.Model(tmp_path / "text.gguf")
    with pytest.raises(foretoken.FileError):
        foretoken.Model(adapters=[tmp_path / "no.lora.gguf"])
    with pytest.raises(RuntimeError, match="stop"):
        foretoken.Model(progress=_stops)


def _stops(now, all_):
    raise RuntimeError("stop")
