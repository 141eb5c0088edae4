"""The Python SDK sends an `Idempotency-Key` where its user says so, and tries again with it when the network fails."""

from __future__ import annotations

import asyncio
import threading
from uuid import uuid4

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from tests.acceptance.behaviours import STORY
from tests.acceptance.chat_server import ChatControl


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


def test_a_request_sent_again_is_answered_with_the_same_response(
    client: OpenAI, chat: ChatControl, key: dict[str, str]
) -> None:
    said = f"once {key['Idempotency-Key']}"
    first = client.responses.create(model="story", input=said, extra_headers=key)
    second = client.responses.create(model="story", input=said, extra_headers=key)

    assert second.to_dict() == first.to_dict()
    assert len(chat.asked(said)) == 1


def test_a_stream_sent_again_has_the_same_text(client: OpenAI, chat: ChatControl, key: dict[str, str]) -> None:
    said = f"once {key['Idempotency-Key']}"
    told = []
    for _ in range(2):
        with client.responses.stream(model="thinker", input=said, extra_headers=key) as stream:
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            told.append((text, stream.get_final_response().to_dict()))

    assert told[0] == told[1]
    assert told[0][0] == "I have thought about it."
    assert len(chat.asked(said)) == 1


def test_the_sdk_tries_again_after_its_timeout_and_joins(
    direct: OpenAI, chat: ChatControl, key: dict[str, str], gate: str
) -> None:
    """Nobody waits any more when it tries again, so that the run begins anew; it is never two at once."""
    opener = threading.Timer(0.8, chat.open, [gate])
    opener.start()
    try:
        response = direct.with_options(timeout=1.0, max_retries=4).responses.create(
            model="gated", input=f"gate {gate}", extra_headers=key
        )
    finally:
        opener.join()

    assert response.output_text == "Once upon a time."


async def test_many_at_once_are_one_call_of_the_model(
    async_client: AsyncOpenAI, chat: ChatControl, key: dict[str, str]
) -> None:
    said = f"together {key['Idempotency-Key']}"
    responses = await asyncio.gather(
        *(async_client.responses.create(model="story", input=said, extra_headers=key) for _ in range(8))
    )

    assert {response.id for response in responses} == {responses[0].id}
    assert responses[0].output_text == STORY
    assert len(chat.asked(said)) == 1


def test_another_body_is_refused_and_not_sent_again(client: OpenAI, key: dict[str, str]) -> None:
    client.responses.create(model="story", input="one", extra_headers=key)

    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.responses.create(model="story", input="two", extra_headers=key)

    assert refused.value.code == "idempotency_key_reused"
