"""The asynchronous Python SDK: every method once, many at the same time, and readers that leave."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel
from tests.acceptance.behaviours import STORY
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.conftest import TIMEOUT_SECONDS
from tests.acceptance.serving import Served


async def test_create_retrieve_list_and_delete(async_client: AsyncOpenAI) -> None:
    created = await async_client.responses.create(model="gpt-4.1", input="A story, please.")
    assert created.output_text == STORY

    assert (await async_client.responses.retrieve(created.id)).to_dict() == created.to_dict()
    assert [item.id async for item in async_client.responses.input_items.list(created.id)] != []
    assert "echo" in [model.id async for model in async_client.models.list()]
    assert (await async_client.models.retrieve("echo")).id == "echo"

    await async_client.responses.delete(created.id)
    with pytest.raises(openai.NotFoundError):
        await async_client.responses.retrieve(created.id)


async def test_input_items_are_paged_through(async_client: AsyncOpenAI) -> None:
    said = [f"line {number}" for number in range(5)]
    created = await async_client.responses.create(
        model="echo", input=[{"role": "user", "content": text} for text in said]
    )

    pager = async_client.responses.input_items.list(created.id, limit=2, order="asc")

    assert [item.content[0].text async for item in pager] == said  # type: ignore[union-attr]


async def test_a_stream_and_the_helper_say_the_same(async_client: AsyncOpenAI) -> None:
    async with await async_client.responses.create(model="story", input="hello", stream=True) as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
    async with async_client.responses.stream(model="story", input="hello") as helper:
        final = await helper.get_final_response()

    assert "".join(deltas) == final.output_text == STORY


class Answer(BaseModel):
    word: str
    number: int


async def test_a_reply_is_parsed_into_a_model(async_client: AsyncOpenAI) -> None:
    response = await async_client.responses.parse(model="structured", input="Take 7 apples", text_format=Answer)

    assert response.output_parsed == Answer(word="apples", number=7)


async def test_a_background_stream_is_left_resumed_and_followed(
    async_client: AsyncOpenAI, chat: ChatControl, gate: str
) -> None:
    async with await async_client.responses.create(
        model="gated", input=f"gate {gate}", background=True, stream=True
    ) as stream:
        first = await anext(aiter(stream))
    assert first.type == "response.created"
    await asyncio.to_thread(chat.reached, gate)
    await asyncio.to_thread(chat.open, gate)

    async with await async_client.responses.retrieve(first.response.id, stream=True, starting_after=0) as resumed:
        numbers = [event.sequence_number async for event in resumed]
    async with async_client.responses.stream(response_id=first.response.id, starting_after=2) as helper:
        final = await helper.get_final_response()

    assert numbers == list(range(1, len(numbers) + 1))
    assert final.output_text == "Once upon a time."


async def test_a_background_response_is_cancelled(async_client: AsyncOpenAI, chat: ChatControl, gate: str) -> None:
    begun = await async_client.responses.create(model="gated", input=f"gate {gate}", background=True)
    await asyncio.to_thread(chat.reached, gate)

    assert (await async_client.responses.cancel(begun.id)).status == "cancelled"
    await asyncio.to_thread(chat.abandoned, gate)


async def test_many_conversations_at_once_do_not_mix(async_client: AsyncOpenAI) -> None:
    async def talk(name: str) -> str:
        first = await async_client.responses.create(model="memory", input=f"My name is {name}.")
        async with async_client.responses.stream(
            model="memory", input="What is my name?", previous_response_id=first.id
        ) as stream:
            return (await stream.get_final_response()).output_text

    names = [f"Name{number}" for number in range(20)]

    answers = await asyncio.gather(*map(talk, names))

    assert answers == [f"Your name is {name}." for name in names]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_ends_the_run_at_the_model(
    server: Served, chat: ChatControl, gate: str, stream: bool
) -> None:
    async with AsyncOpenAI(base_url=server.direct_url, api_key="any", timeout=TIMEOUT_SECONDS, max_retries=0) as direct:

        async def ask() -> None:
            answer = await direct.responses.create(model="gated", input=f"gate {gate}", stream=stream)
            if stream:
                async for _ in answer:  # type: ignore[union-attr]
                    pass

        asking = asyncio.create_task(ask())
        await asyncio.to_thread(chat.reached, gate)
        asking.cancel()
        await asyncio.wait([asking], timeout=TIMEOUT_SECONDS)
        await asyncio.to_thread(chat.abandoned, gate)

    assert asking.cancelled()
