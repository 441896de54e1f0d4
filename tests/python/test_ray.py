# SPDX-License-Identifier: Apache-2.0
"""Replicas on two local nodes of Ray, as it comes from the package index; one of them is killed in mid answer."""

import asyncio
import json
import logging
import os
import sys
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("ray", reason="ray is not installed")
pytest.importorskip("ray.serve", reason="ray[serve] is not installed")

import ray
from ray import serve
from ray.cluster_utils import Cluster

import foretoken
import foretoken.ray
from foretoken.ray import answers

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

PROMPT = "Once upon a time there was a king"
PORT = 18431
CONFIG = {"measure": False}


def slowly(tokens):
    """A mask that allows everything, and takes its time: there has to be something to kill."""
    time.sleep(0.02)


LONG = {"max_tokens": 120, "ignore_end": True, "drafter": "none"}


@pytest.fixture(scope="module")
def cluster():
    for check in ("READY", "HEALTH"):  # on a busy machine they take their time
        os.environ[f"RAY_SERVE_PROXY_{check}_CHECK_TIMEOUT_S"] = "120"
    small = {"object_store_memory": 80 << 20}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 6, "resources": {"answers": 1}, **small}
    )
    cluster.other = cluster.add_node(num_cpus=3, resources={"answers": 1}, **small)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")
    yield cluster
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def replicas(cluster):
    """Two, one on each node."""
    serve.start(proxy_location="HeadOnly", http_options={"port": PORT})
    application = foretoken.ray.app(
        min_replicas=2,
        max_replicas=2,
        ray_actor_options={"resources": {"answers": 1}},
        **CONFIG,
    )
    serve.run(application, name="foretoken")
    return serve.get_deployment_handle("Replica", "foretoken")


async def told(replicas, prompt, options, hurry=None, **how):
    """The text of an answer, and the completion that it ends with. hurry: called after each piece."""
    text, completion = "", None
    async for piece in answers(replicas, prompt, options, **how):
        assert completion is None
        text += piece.get("text", "")
        completion = piece.get("completion")
        if hurry is not None:
            hurry()
    assert completion is not None and completion.text == text
    return completion


def post(path, body, status=200):
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == status
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        assert error.code == status
        return error.read().decode()


# ---- actors


def test_an_actor_answers_as_an_engine_does(cluster, engine):
    actor = foretoken.ray.actor(**CONFIG)
    wanted = engine.generate(PROMPT, max_tokens=20)
    assert ray.get(actor.generate.remote(PROMPT, {"max_tokens": 20})).tokens == wanted.tokens
    assert asyncio.run(told(actor, PROMPT, {"max_tokens": 20})).tokens == wanted.tokens
    with pytest.raises(foretoken.InvalidError, match="temperature"):
        ray.get(actor.generate.remote(PROMPT, {"temperature": -1}))
    with pytest.raises(foretoken.InvalidError, match="temperature"):
        asyncio.run(told(actor, PROMPT, {"temperature": -1}))
    ray.kill(actor)


def test_an_actor_killed_in_mid_answer_goes_on(cluster, engine):
    actor = foretoken.ray.actor(**CONFIG)
    wanted = engine.generate(PROMPT, temperature=0.8, seed=5, **LONG)
    pieces = []

    def kill():
        pieces.append(1)
        if len(pieces) == 10:
            ray.kill(actor, no_restart=False)

    options = {"mask": slowly, "temperature": 0.8, "seed": 5, **LONG}
    answer = asyncio.run(told(actor, PROMPT, options, kill, retries=8))
    assert answer.tokens == wanted.tokens and answer.text == wanted.text
    ray.kill(actor)


def test_an_actor_that_stays_away_is_said(cluster):
    actor = foretoken.ray.actor(options={"max_restarts": 0}, **CONFIG)
    pieces = []

    def kill():
        pieces.append(1)
        if len(pieces) == 5:
            ray.kill(actor)

    with pytest.raises(foretoken.ray.ReplicaLostError, match="lost 2 times, after [1-9]"):
        asyncio.run(told(actor, PROMPT, {"mask": slowly, **LONG}, kill, retries=1))


# ---- Serve


def test_serve_over_http(replicas, engine):
    chat = [{"role": "user", "content": "Tell me a story."}]
    for path, key, prompt in (
        ("completions", "prompt", PROMPT),
        ("chat/completions", "messages", chat),
    ):
        wanted = engine.generate(prompt, max_tokens=24)
        body = {key: prompt, "max_tokens": 24, "temperature": 0}
        whole = json.loads(post(f"/v1/{path}", body))
        choice = whole["choices"][0]
        assert choice.get("text", choice.get("message", {}).get("content")) == wanted.text
        assert whole["usage"]["completion_tokens"] == len(wanted.tokens)
        assert choice["finish_reason"] == ("length" if wanted.finish == "limit" else "stop")
        options = {"stream": True, "stream_options": {"include_usage": True}}
        lines = post(f"/v1/{path}", {**body, **options}).split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
        assert events[-1]["usage"] == {**whole["usage"], **_same_in(events[-1]["usage"])}
        choices = [event["choices"][0] for event in events[:-1]]
        text = "".join(c.get("text", c.get("delta", {}).get("content", "")) for c in choices)
        assert text == wanted.text and len(choices) > 2


def _same_in(usage):
    """What depends on who read it before, and on time."""
    return {key: usage[key] for key in ("prompt_tokens_details", "completion_tokens_details")}


def test_serve_says_what_is_there(replicas):
    for path in ("/v1/models", "/health", "/"):
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=60) as answer:
            said = json.load(answer)
        assert path != "/v1/models" or said["data"][0]["id"] == "foretoken-demo-q8_0"


def test_serve_refuses(replicas):
    for body, word in (
        ({"prompt": 3}, "prompt"),
        ({}, "prompt"),
        ({"prompt": "a", "n": 2}, "n:"),
        ({"prompt": "a", "logprobs": 1}, "logprobs"),
        ({"prompt": "a", "temperature": -1}, "temperature"),
        ({"prompt": "a", "temperature": "hot"}, "temperature"),
        ({"prompt": [1] * 5000}, "context"),
        ([], "object"),
    ):
        assert word in json.loads(post("/v1/completions", body, 400))["error"]["message"], body
    assert "messages" in post("/v1/chat/completions", {"messages": [{"role": "user"}]}, 400)
    assert "paths" in post("/v1/embeddings", {}, 404)


def test_prompts_that_begin_alike_go_to_one_replica(replicas):
    async def ask():
        for i in range(6):
            prompt = f"{i} is the number of a story that begins with these words: once upon a time"
            first = await told(replicas, prompt, {"max_tokens": 4})
            again = [await told(replicas, prompt + " in a", {"max_tokens": 4}) for _ in range(3)]
            assert all(answer.n_cached >= first.n_prompt - 1 for answer in again)

    async def talk():
        for i in range(6):
            chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"{i}?"}]
            said = await told(replicas, chat, {"max_tokens": 12})
            more = [
                {"role": "assistant", "content": said.text},
                {"role": "user", "content": "And?"},
            ]
            assert (
                await told(replicas, chat + more, {"max_tokens": 4})
            ).n_cached >= said.n_prompt - 4

    asyncio.run(ask())
    asyncio.run(talk())


def test_ranks_spread_and_stay():
    names = [f"replica{i}" for i in range(4)]
    firsts = {p: foretoken.ray.ranked(p, names) for p in map(str, range(400))}
    for name in names:
        assert 60 < sum(order[0] == name for order in firsts.values()) < 140
    for prefix, order in firsts.items():
        fewer = foretoken.ray.ranked(prefix, names[:3])
        assert fewer == [name for name in order if name != "replica3"]


def test_a_node_killed_in_mid_answer(cluster, replicas, engine, caplog):
    """None of twelve answers is lost or changed, and those that moved are said."""
    prompts = [f"There were {i} old men in the village of" for i in range(12)]
    wanted = [engine.generate(p, **LONG).tokens for p in prompts]
    begun = set()

    async def ask():
        asked = [
            asyncio.create_task(
                told(replicas, p, {"mask": slowly, **LONG}, lambda p=p: begun.add(p), retries=8)
            )
            for p in prompts
        ]
        while len(begun) < len(prompts):
            await asyncio.sleep(0.05)
        assert not any(task.done() for task in asked)
        await asyncio.to_thread(cluster.remove_node, cluster.other, allow_graceful=False)
        return await asyncio.gather(*asked)

    with caplog.at_level(logging.WARNING, "foretoken"):
        found = asyncio.run(asyncio.wait_for(ask(), 240))
    assert [answer.tokens for answer in found] == wanted
    moved = [record for record in caplog.records if "goes on in another" in record.message]
    assert 0 < len(moved)
