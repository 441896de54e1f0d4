#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""openai, LiteLLM and jsonschema against a server: clients.py URL

Everything a client is told comes through their own types; what they cannot read they refuse."""
import asyncio
import json
import sys
import time
import typing
import urllib.request

import jsonschema
import openai
import pydantic

URL = sys.argv[1]
client = openai.OpenAI(base_url=URL + "/v1", api_key="none", max_retries=0)
MODEL = client.models.list().data[0].id
SKY = [{"role": "user", "content": "Why is the sky blue?"}]
n_failed = 0


def check(what, holds, more=""):
    global n_failed
    n_failed += not holds
    print("ok  " if holds else "not ok  ", what, more if not holds else "", flush=True)


def figure(name):
    text = urllib.request.urlopen(URL + "/metrics").read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("foretoken:" + name))


def chat(**fields):
    return client.chat.completions.create(model=MODEL, **{"temperature": 0, "max_tokens": 32, "messages": SKY, **fields})


def plain():
    a, b = chat(), chat()
    check("a chat", a.choices[0].message.content and a.choices[0].message.role == "assistant")
    check("the same again", a.choices[0].message.content == b.choices[0].message.content)
    check("usage", a.usage.total_tokens == a.usage.prompt_tokens + a.usage.completion_tokens <= 100)
    check("cached tokens", b.usage.prompt_tokens_details.cached_tokens > 0)
    check("model by name", client.models.retrieve(MODEL).id == MODEL)
    c = client.completions.create(model=MODEL, prompt=["Once upon", "The sky is"], max_tokens=5, temperature=0)
    check("completions of two prompts", [x.index for x in c.choices] == [0, 1])
    several = chat(n=3, temperature=1, seed=3)
    check("n", len({x.message.content for x in several.choices}) == 3 and [x.index for x in several.choices] == [0, 1, 2])
    parts = chat(messages=[{"role": "developer", "content": "Be brief."},
                           {"role": "user", "content": [{"type": "text", "text": "Why is the sky blue?"}]}],
                 store=False, metadata={"a": "b"}, user="me", service_tier="auto", max_tokens=None, max_completion_tokens=4)
    check("parts, developer, fields of no concern", parts.choices[0].finish_reason == "length")


def streaming():
    whole = chat().choices[0].message.content
    pieces, usage, finish = [], None, None
    with chat(stream=True, stream_options={"include_usage": True}) as stream:
        for chunk in stream:
            if chunk.choices:
                pieces.append(chunk.choices[0].delta.content or "")
                finish = chunk.choices[0].finish_reason or finish
            else:
                usage = chunk.usage
    check("a stream", "".join(pieces) == whole and finish in ("stop", "length"))
    check("its usage", usage and usage.completion_tokens > 0)
    with client.chat.completions.stream(model=MODEL, messages=SKY, temperature=0, stop="\n", max_tokens=300) as stream:
        events = list(stream)  # it takes an answer that is cut for an error
        said = stream.get_final_completion().choices[0].message.content
        check("the stream helper", said == chat(stop="\n", max_tokens=300).choices[0].message.content and len(events) > 2)
    text = "".join(c.choices[0].text for c in client.completions.create(
        model=MODEL, prompt="Once upon a time", max_tokens=12, temperature=0, stream=True))
    check("a stream of completions", text == client.completions.create(
        model=MODEL, prompt="Once upon a time", max_tokens=12, temperature=0).choices[0].text)


def logprobs():
    a = chat(logprobs=True, top_logprobs=3).choices[0]
    words = a.logprobs.content
    check("logprobs", all(w.logprob == max(t.logprob for t in w.top_logprobs) for w in words))
    check("their bytes", bytes(b for w in words for b in w.bytes).decode().startswith(a.message.content))
    c = client.completions.create(model=MODEL, prompt="The sky is blue", max_tokens=1, logprobs=2, echo=True, temperature=0)
    own = c.choices[0].logprobs.token_logprobs
    check("echo with logprobs", own[0] is None and all(x <= 0 for x in own[1:]) and len(own) == c.usage.total_tokens)


def errors():
    def refused(kind, param, **fields):
        try:
            chat(**fields)
            check(f"{fields}", False)
        except kind as e:
            check(f"{kind.__name__} names {param}", e.param == param, e)

    refused(openai.BadRequestError, "temperature", temperature=-1)
    refused(openai.BadRequestError, "messages", messages=[])
    refused(openai.BadRequestError, "response_format", response_format={"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"type": "integer", "multipleOf": 2}}})
    try:
        chat(messages=[{"role": "user", "content": "sky " * 20000}])
        check("a prompt too long", False)
    except openai.BadRequestError as e:
        check("a prompt too long", e.code == "context_length_exceeded")
    try:
        client.models.retrieve("another")
        check("a model that is not there", False)
    except openai.NotFoundError as e:
        check("a model that is not there", e.code == "model_not_found")


def cancelled():
    before = figure("request_success_total")
    stream = chat(stream=True, max_tokens=2000, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    end = time.time() + 30
    while figure("num_requests_running") > 0 and time.time() < end:
        time.sleep(0.1)
    check("a stream that is closed ends", figure("num_requests_running") == 0 and figure("request_success_total") > before)

    async def leave():
        patient = openai.AsyncOpenAI(base_url=URL + "/v1", api_key="none", max_retries=0)
        try:
            await asyncio.wait_for(patient.chat.completions.create(
                model=MODEL, messages=SKY, max_tokens=2000, extra_body={"ignore_eos": True}), 0.5)
        except asyncio.TimeoutError:
            pass
        many = await asyncio.gather(*(patient.chat.completions.create(
            model=MODEL, messages=SKY, temperature=0, max_tokens=16) for _ in range(8)))
        await patient.close()
        return many

    many = asyncio.run(leave())
    check("eight at once, all the same", len({x.choices[0].message.content for x in many}) == 1)
    end = time.time() + 30
    while figure("num_requests_running") > 0 and time.time() < end:
        time.sleep(0.1)
    check("a call that is given up ends", figure("num_requests_running") == 0)


Word = typing.Annotated[str, pydantic.Field(max_length=16)]  # small models go on and on


class Address(pydantic.BaseModel):
    city: Word
    zip: str = pydantic.Field(pattern="^[0-9]{5}$")


class Person(pydantic.BaseModel):
    name: Word
    age: int = pydantic.Field(ge=0, le=130)
    tags: list[Word] = pydantic.Field(max_length=3)
    address: Address | None


def formats():
    question = [{"role": "user", "content": "Invent a person who lives in Rome, as JSON."}]
    a = client.chat.completions.parse(model=MODEL, messages=question, temperature=0, max_tokens=400, response_format=Person)
    check("parse() with pydantic", isinstance(a.choices[0].message.parsed, Person), a.choices[0].message.content)
    with client.chat.completions.stream(model=MODEL, messages=question, temperature=0, max_tokens=400,
                                        response_format=Person) as stream:
        for _ in stream:
            pass
        check("parsed from a stream", stream.get_final_completion().choices[0].message.parsed == a.choices[0].message.parsed)
    schema = {"type": "object", "properties": {"sum": {"type": "integer", "minimum": 3, "maximum": 9},
                                               "why": {"type": "string", "maxLength": 40}}, "required": ["sum", "why"],
              "additionalProperties": False}
    for temperature in (0, 1.5):
        text = chat(temperature=temperature, max_tokens=300, seed=1, response_format={
            "type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": schema}}).choices[0].message.content
        jsonschema.validate(json.loads(text), schema)
    check("a schema, cold and hot", True)
    code = "\n".join(f"line {i}: the quick brown fox number {i * i}" for i in range(12))
    a = chat(messages=[{"role": "user", "content": "Repeat:\n" + code}], max_tokens=150)
    b = chat(messages=[{"role": "user", "content": "Repeat:\n" + code}], max_tokens=150,
             prediction={"type": "content", "content": code})
    check("a prediction changes nothing", a.choices[0].message.content == b.choices[0].message.content)
    check("and is counted", b.usage.completion_tokens_details.accepted_prediction_tokens >= 0)


def tools():
    class GetWeather(pydantic.BaseModel):
        city: Word
        unit: str = pydantic.Field(pattern="^[CF]$")

    offered = [openai.pydantic_function_tool(GetWeather)]
    question = [{"role": "user", "content": "What is the weather in Rome?"}]
    fields = {"messages": question, "tools": offered, "max_tokens": 200, "parallel_tool_calls": False}
    try:
        a = chat(**fields, tool_choice="required")
    except openai.BadRequestError as e:
        check("tools are refused, as the template knows none", "knows none" in str(e), e)
        return
    call = a.choices[0].message.tool_calls[0]
    check("a tool is called", call.function.name == "GetWeather" and a.choices[0].finish_reason == "tool_calls")
    GetWeather.model_validate_json(call.function.arguments)
    b = client.chat.completions.parse(model=MODEL, temperature=0, **fields,
                                      tool_choice={"type": "function", "function": {"name": "GetWeather"}})
    check("by name, parsed", isinstance(b.choices[0].message.tool_calls[0].function.parsed_arguments, GetWeather))
    with client.chat.completions.stream(model=MODEL, temperature=0, tool_choice="required", **fields) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    check("in a stream", final.message.tool_calls[0].function.arguments == call.function.arguments)
    told = chat(messages=question + [a.choices[0].message.model_dump(exclude_none=True),
                                     {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}],
                tools=offered)
    check("its result goes back", told.choices[0].message.content is not None)


def litellm_too():
    import litellm
    litellm.telemetry = False
    for prefix in ("openai", "hosted_vllm"):
        fields = {"model": f"{prefix}/{MODEL}", "api_base": URL + "/v1", "api_key": "none", "messages": SKY,
                  "temperature": 0, "max_tokens": 32}
        whole = litellm.completion(**fields).choices[0].message.content
        pieces = "".join(c.choices[0].delta.content or "" for c in litellm.completion(**fields, stream=True))
        check(f"LiteLLM, {prefix}/", whole == pieces == chat().choices[0].message.content, (whole, pieces))
        parsed = litellm.completion(**{**fields, "max_tokens": 400}, response_format=Address).choices[0].message.content
        Address.model_validate_json(parsed)
    check("LiteLLM's response_format", True)
    try:
        litellm.completion(**{**fields, "temperature": -1})
        check("LiteLLM's errors", False)
    except litellm.BadRequestError:
        check("LiteLLM's errors", True)


for part in (plain, streaming, logprobs, errors, cancelled, formats, tools, litellm_too):
    try:
        part()
    except Exception as e:  # one that is broken does not hide the others
        check(part.__name__, False, repr(e))
print(f"{n_failed} failed")
sys.exit(n_failed > 0)
