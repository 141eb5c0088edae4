"""Both dialects against a real server that speaks them: the embedded engine's, which is llama.cpp's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.upstreams.asking import asked, function, user
from tests.upstreams.embedded_engine import MODEL, STORY, Heard, within
from tests.upstreams.gguf_files import BUNDLED

from antiphon.clock import SystemClock
from antiphon.engine.ports.upstreams import ModelRequest, Stop
from antiphon.upstreams.embedded.sizing import Settings
from antiphon.upstreams.embedded.upstream import Embedded
from antiphon.upstreams.messages import Messages
from antiphon.upstreams.responses import Responses

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd")

WEATHER = function(
    "get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
HISTORY: list[dict[str, Any]] = [
    user("How is the weather in Paris?"),
    {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
]


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Embedded]:
    made = Embedded({MODEL: BUNDLED}, SystemClock(), Settings(engine_slots=1))
    yield made
    await within(made.close())


@pytest_asyncio.fixture(params=[Responses, Messages])
async def upstream(engine: Embedded, request: pytest.FixtureRequest) -> AsyncIterator[Responses | Messages]:
    """A stranger to the engine, who has its address and its key."""
    await within(engine.count(asked(user("Hi"), model=MODEL)))  # which loads it
    running = engine._engines[MODEL]._running
    assert running is not None
    made = request.param(f"{running.child.address}/v1", SystemClock(), key=running.dialect._caller._key, name="llama")
    yield made
    await made.close()


async def run(upstream: Responses | Messages, request: ModelRequest) -> tuple[Heard, Stop]:
    heard = Heard()
    stop: list[Stop] = []

    async def running() -> None:
        stop.append(await upstream.run(request, heard))

    await within(running())
    return heard, stop[0]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_story_is_told_and_its_tokens_are_counted(upstream: Responses | Messages, stream: bool) -> None:
    request = asked(user(STORY), model=MODEL, temperature=0.0, instructions="You are kind.", stream=stream)

    heard, stop = await run(upstream, request)

    assert len(heard.text.split()) > 10
    assert stop.reason == "stop"
    assert stop.usage is not None
    assert stop.usage.output_tokens > 10
    assert await upstream.count(request) == stop.usage.input_tokens


async def test_a_history_with_calls_is_understood(upstream: Responses | Messages) -> None:
    request = asked(*HISTORY, model=MODEL, temperature=0.0, tools=[WEATHER], stream=True, max_output_tokens=64)

    heard, stop = await run(upstream, request)

    assert "sunny" in heard.text
    assert stop.usage is not None


async def test_a_limit_ends_the_reply(upstream: Responses | Messages) -> None:
    request = asked(user(STORY), model=MODEL, temperature=0.0, stream=True, max_output_tokens=16)

    heard, stop = await run(upstream, request)

    assert stop.usage is not None
    assert stop.usage.output_tokens == 16
    assert heard.text
    # As a Responses server, llama.cpp may call completed what its limit has cut.
    assert stop.reason == "length" or isinstance(upstream, Responses)


async def test_the_models_are_listed(upstream: Responses | Messages) -> None:
    (model,) = await upstream.models()

    assert model.owned_by == "llamacpp"
