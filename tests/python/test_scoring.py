# SPDX-License-Identifier: Apache-2.0
"""Likelihoods of continuations: those that ftk_score() sums."""

import pytest

import foretoken

CONTEXT = "Once upon a time there was a"
ENDS = [" king", " dog", " green idea that slept", "", " man who had"]


@pytest.fixture
def pairs(engine):
    tokenize = engine.model.tokenize
    contexts = [tokenize(CONTEXT), tokenize("The cat and the"), [1]]
    return [(c, tokenize(end, bos=False)) for c in contexts for end in ENDS]


def test_they_are_differences_of_scores(engine, pairs):
    found = foretoken.loglikelihoods(engine, pairs)
    for (context, end), likelihood in zip(pairs, found):
        wanted = engine.score(context + end) - engine.score(context)
        assert likelihood.logprob == pytest.approx(wanted, rel=1e-5, abs=1e-5)
        assert len(likelihood.logprobs) == len(end)


def test_greedy_is_what_the_model_says(engine, pairs):
    for context, _ in pairs[:: len(ENDS)]:
        said = engine.generate(context, max_tokens=5, ignore_end=True).tokens
        other = said[:4] + [said[4] + 1]
        found = foretoken.loglikelihoods(engine, [(context, said), (context, other)])
        assert [f.greedy for f in found] == [True, False]


@pytest.mark.parametrize("parallel", [1, 3])
def test_neither_company_nor_room_matters(engine, model, pairs, parallel):
    alone = [foretoken.loglikelihoods(engine, [pair])[0].logprob for pair in pairs]
    together = foretoken.loglikelihoods(engine, pairs, parallel=parallel)
    assert [f.logprob for f in together] == alone
    with foretoken.Engine(model, threads=1, measure=False, kv_slots=128) as small:
        assert [f.logprob for f in foretoken.loglikelihoods(small, pairs)] == alone
        with pytest.raises(foretoken.ContextError):
            foretoken.loglikelihoods(small, [([1] * 100, [300] * 60)])


def test_what_is_wrong(engine):
    with pytest.raises(foretoken.InvalidError, match="no token"):
        foretoken.loglikelihoods(engine, [([], [1])])
    with pytest.raises(foretoken.InvalidError):
        foretoken.loglikelihoods(engine, [([1], [4096])])
    assert foretoken.loglikelihoods(engine, []) == []
