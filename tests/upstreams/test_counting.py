"""Counting tokens without a run: as the real engine counts them, and as servers of other kinds are asked."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tests.upstreams.asking import Json, asked, function, user
from tests.upstreams.embedded_engine import MODEL, STORY, Heard, begin, gone, within
from tests.upstreams.gguf_files import BUNDLED
from tests.upstreams.servers import Conversation, Talk, WaitlessClock, reply, serving

from antiphon.clock import SystemClock
from antiphon.engine.ports.upstreams import ModelRequest, UpstreamError
from antiphon.upstreams.chat_completions import ChatCompletions, Options
from antiphon.upstreams.chat_completions.counting import counted
from antiphon.upstreams.chat_completions.request import form_of
from antiphon.upstreams.embedded.sizing import Settings
from antiphon.upstreams.embedded.upstream import Embedded

WEATHER = function(
    "get_weather",
    description="Get the weather",
    parameters={"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
)
TIME = function("get_time", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
CALL: Json = {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": '{"location": "Paris"}'}
OUTPUT: Json = {"type": "function_call_output", "call_id": "c", "output": "sunny"}
ANSWER: Json = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello, Ann!"}]}
PICTURE: Json = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}],
}

# --- The real engine ---

on_linux = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd")


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Embedded]:
    made = Embedded({MODEL: BUNDLED}, SystemClock(), Settings(engine_slots=1))
    yield made
    await within(made.close())


REQUESTS: dict[str, tuple[list[Json], dict[str, Any], str | None]] = {
    "one word": ([user("Hi")], {}, None),
    "a story": ([user(STORY)], {}, None),
    "instructions": ([user(STORY)], {"instructions": "You are kind."}, None),
    "scripts of the world": ([user("Grüße 日本 🦄 e\u0301\u200d <|im_end|> <|user|>")], {}, None),
    "spaces": ([user("  a \n\n\t b  ")], {}, None),
    "nothing": ([user("")], {}, None),
    "a long text": ([user("one two three " * 300)], {}, None),
    "earlier turns": ([user("I am Ann."), ANSWER, user("Who am I?")], {}, None),
    "tools": ([user(STORY)], {"tools": [WEATHER, TIME]}, None),
    "tools that may not be called": ([user(STORY)], {"tools": [WEATHER], "tool_choice": "none"}, None),
    "a required call": ([user(STORY)], {"tools": [WEATHER, TIME], "tool_choice": "required"}, None),
    "a named function": (
        [user(STORY)],
        {"tools": [WEATHER, TIME], "tool_choice": {"type": "function", "name": "get_time"}},
        None,
    ),
    "a call and its result": ([user("Weather?"), CALL, OUTPUT], {"tools": [WEATHER]}, None),
    "a schema": (
        [user("Rex is a dog.")],
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"enum": ["cat", "dog"]}}}},
        None,
    ),
    "logprobs": ([user(STORY)], {"include": ["message.output_text.logprobs"], "top_logprobs": 2}, None),
    "a reply that was cut": ([user(STORY)], {}, "Once upon a time, a uni"),
}


@on_linux
async def test_the_count_is_that_of_a_run(engine: Embedded) -> None:
    for name, (items, parameters, prefix) in REQUESTS.items():
        request = asked(*items, model=MODEL, max_output_tokens=16, **parameters)
        request = msgspec.structs.replace(request, prefix=prefix)
        count = await within(engine.count(request))
        stop = await within(engine.run(request, Heard()))

        assert stop.usage is not None
        assert count == stop.usage.input_tokens, name


@on_linux
async def test_in_two_steps_the_count_is_the_same(engine: Embedded) -> None:
    """As llama.cpp was asked before it counted by itself."""
    await within(engine.count(asked(user("Hi"), model=MODEL)))
    running = engine._engines[MODEL]._running
    assert running is not None
    paths: list[str] = []

    async def in_two_steps(path: str, body: bytes, *, from_root: bool) -> bytes | None:
        paths.append(path)
        return (
            None
            if path.endswith("/input_tokens")
            else await running.dialect._caller.post(path, body, from_root=from_root)
        )

    for name, (items, parameters, prefix) in REQUESTS.items():
        request = msgspec.structs.replace(asked(*items, model=MODEL, **parameters), prefix=prefix)
        form = form_of(request, Options(), stream=False)
        direct = await within(running.dialect.count(request))
        assert await within(counted("llamacpp", form, in_two_steps)) == direct, name
    assert paths[:3] == ["/chat/completions/input_tokens", "/apply-template", "/tokenize"]


@on_linux
async def test_more_than_the_model_takes_is_counted_too(engine: Embedded) -> None:
    count = await within(engine.count(asked(user("one two three " * 2000), model=MODEL)))

    assert count is not None
    assert count > 6000


@on_linux
async def test_a_count_waits_for_no_slot_and_keeps_the_model_loaded() -> None:
    engine = Embedded({MODEL: BUNDLED}, SystemClock(), Settings(engine_slots=1, engine_idle_seconds=0.05))
    heard = Heard()
    busy = begin(engine, heard)
    await within(heard.spoke.wait())

    count = await within(engine.count(asked(user("Hi"), model=MODEL)))

    assert not busy.done()
    assert count == 4
    pid = engine.loaded()[MODEL]
    busy.cancel()
    await asyncio.wait([busy])
    await gone(pid)
    await within(engine.close())


@on_linux
async def test_too_many_at_once_are_refused() -> None:
    engine = Embedded({MODEL: BUNDLED}, SystemClock(), Settings(engine_slots=1, engine_waiting=0))
    heard = Heard()
    busy = begin(engine, heard)
    await within(heard.spoke.wait())

    with pytest.raises(UpstreamError, match="Too many requests wait"):
        await within(engine.count(asked(user("Hi"), model=MODEL)))

    busy.cancel()
    await asyncio.wait([busy])
    await within(engine.close())


@on_linux
async def test_what_a_run_would_refuse_is_refused(engine: Embedded) -> None:
    with pytest.raises(UpstreamError) as unknown:
        await engine.count(asked(user("Hi"), model="other"))
    with pytest.raises(UpstreamError) as malformed:
        await within(engine.count(asked(user("a"), {**CALL, "arguments": "{bad"}, OUTPUT, model=MODEL)))

    assert (unknown.value.status, unknown.value.code) == (404, "model_not_found")
    assert malformed.value.status == 400


# --- Servers ---


def by_path(replies: Mapping[str, bytes]) -> Talk:
    """Each path has its reply; every other is a 404."""

    async def talk(conversation: Conversation) -> None:
        while (one := await conversation.request()) is not None:
            missing = reply(b'{"detail":"Not Found"}', "404 Not Found", content_type="application/json")
            await conversation.send(replies.get(one.path, missing))

    return talk


class Counted:
    """What a server counted, and what it was asked: paths and bodies."""

    def __init__(self, tokens: int | None, asked: list[tuple[str, Json]]) -> None:
        self.tokens = tokens
        self.asked = asked


async def count(
    replies: Mapping[str, bytes], request: ModelRequest, server: str | None, *, path: str = "/v1", **options: Any
) -> Counted:
    async with serving(by_path(replies)) as here:
        url = f"http://127.0.0.1:{here.port}{path}"
        upstream = ChatCompletions(url, WaitlessClock(), server=server, options={"*": Options(**options)})
        try:
            async with asyncio.timeout(5):
                tokens = await upstream.count(request)
        finally:
            await upstream.close()
        return Counted(tokens, [(one.path, json.loads(one.body)) for one in here.asked])


VLLM_TOKENS = reply(b'{"count":3,"max_model_len":4096,"tokens":[1,2,3],"token_strs":null}')
HI = {"role": "user", "content": "Hi"}


async def test_vllm_is_asked_for_the_tokens_of_the_messages() -> None:
    request = asked(user("Hi"), tools=[TIME], temperature=0.5, max_output_tokens=16)

    counted = await count({"/tokenize": VLLM_TOKENS}, request, "vllm")

    assert counted.tokens == 3
    [(path, body)] = counted.asked
    tool = {"type": "function", "function": {"name": "get_time", "parameters": TIME["parameters"]}}
    assert (path, body) == ("/tokenize", {"model": "m", "messages": [HI], "tools": [tool]})


async def test_what_shapes_the_prompt_reaches_vllms_template() -> None:
    request = msgspec.structs.replace(asked(user("Hi"), reasoning={"effort": "low"}), prefix="Well")

    counted = await count(
        {"/tokenize": VLLM_TOKENS}, request, "vllm", extra_body={"chat_template_kwargs": {"a": 1}, "top_k": 2}
    )

    assert counted.asked[0][1] == {
        "model": "m",
        "messages": [HI, {"role": "assistant", "content": "Well"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "chat_template_kwargs": {"a": 1, "reasoning_effort": "low"},
    }


@pytest.mark.parametrize(("base", "path"), [("/v1", "/tokenize"), ("", "/tokenize"), ("/llm/v1", "/llm/tokenize")])
async def test_the_endpoint_stands_beside_the_version(base: str, path: str) -> None:
    counted = await count({path: VLLM_TOKENS}, asked(user("Hi")), "vllm", path=base)

    assert counted.tokens == 3


async def test_llama_cpp_counts_by_itself() -> None:
    path = "/v1/chat/completions/input_tokens"
    counted = await count(
        {path: reply(b'{"input_tokens":7,"object":"response.input_tokens"}')}, asked(user("Hi")), "llamacpp"
    )

    assert counted.tokens == 7
    assert counted.asked == [(path, {"model": "m", "messages": [HI], "stream": False})]


async def test_an_older_llama_cpp_counts_in_two_steps() -> None:
    counted = await count(
        {"/apply-template": reply(b'{"prompt":"<s>Hi"}'), "/tokenize": reply(b'{"tokens":[1,2]}')},
        asked(user("Hi")),
        "llamacpp",
    )

    assert counted.tokens == 2
    assert [path for path, _ in counted.asked] == [
        "/v1/chat/completions/input_tokens",
        "/apply-template",
        "/tokenize",
    ]
    # The template's text holds special tokens, and the tokenizer adds the one at the beginning, as for a run.
    assert counted.asked[2][1] == {"model": "m", "content": "<s>Hi", "add_special": True, "parse_special": True}


@pytest.mark.parametrize(
    ("server", "replies"),
    [
        ("vllm", {}),
        ("vllm", {"/tokenize": reply(b"{}", "405 Method Not Allowed")}),
        ("llamacpp", {}),
        ("llamacpp", {"/apply-template": reply(b'{"prompt":"Hi"}')}),
        ("llamacpp", {"/apply-template": reply(b"{}")}),
        ("llamacpp", {"/v1/chat/completions/input_tokens": reply(b"{}")}),
    ],
)
async def test_a_server_that_cannot_count(server: str, replies: dict[str, bytes]) -> None:
    assert (await count(replies, asked(user("Hi")), server)).tokens is None


@pytest.mark.parametrize(
    ("server", "request_"),
    [
        (None, asked(user("Hi"))),
        ("openai", asked(user("Hi"))),
        ("vllm", asked(user("Hi"), model="openai/gpt-oss-20b")),
        ("vllm", asked(PICTURE)),
        ("llamacpp", asked(user("a"), CALL, {**OUTPUT, "output": PICTURE["content"]})),
    ],
    ids=["unknown", "another", "a form of its own", "a picture", "a tool's picture"],
)
async def test_who_is_not_asked(server: str | None, request_: ModelRequest) -> None:
    counted = await count({"/tokenize": VLLM_TOKENS}, request_, server)

    assert (counted.tokens, counted.asked) == (None, [])


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (reply(b"nonsense"), 502, "malformed count"),
        (reply(b'{"tokens":["a"]}'), 502, "malformed count"),
        (reply(b'{"error":{"message":"no such role"}}', "400 Bad Request"), 400, "no such role"),
        (reply(b'{"error":{"message":"busy"}}', "503 Service Unavailable"), 503, "busy"),
    ],
)
async def test_a_count_that_fails(data: bytes, status: int, message: str) -> None:
    with pytest.raises(UpstreamError, match=message) as raised:
        await count({"/tokenize": data}, asked(user("Hi")), "vllm")

    assert raised.value.status == status


async def test_a_count_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.upstreams.calling.COUNT_SECONDS", 0.05)

    async def talk(conversation: Conversation) -> None:
        await conversation.closed()

    async with serving(talk) as here:
        upstream = ChatCompletions(here.url, WaitlessClock(), server="vllm")
        with pytest.raises(UpstreamError, match="did not count the tokens") as raised:
            await upstream.count(asked(user("Hi")))
        await upstream.close()

    assert raised.value.status == 504
