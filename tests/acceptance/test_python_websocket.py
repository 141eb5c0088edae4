"""The Python SDK over WebSocket: `client.responses.connect()`, synchronous and asynchronous."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from tests.acceptance.chat_server import ChatControl
from tests.acceptance.conftest import KEY, Served

ENDS = ("response.completed", "response.incomplete", "response.failed", "error")


def told(connection: Any, **request: Any) -> list[Any]:
    """Everything that answers one request."""
    connection.send({"type": "response.create", "model": "echo", **request})
    events = []
    for event in connection:
        events.append(event)
        if event.type in ENDS:
            break
    return events


def said(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def test_responses_one_after_another(client: OpenAI) -> None:
    with client.responses.connect() as connection:
        connection.response.create(model="echo", input="zero")
        assert [event.type for event in told(connection, input="one")][-1] == "response.completed"
        while connection.recv().type != "response.completed":
            pass
        first = told(connection, input="one two")
        second = told(connection, input="three", previous_response_id=first[-1].response.id)

    assert (said(first), said(second)) == ("one two", "three")
    assert [event.sequence_number for event in second] == [*range(len(second))]
    assert client.responses.retrieve(second[-1].response.id).output_text == "three"


def test_what_is_not_stored_is_continued_with_what_is_new(client: OpenAI, chat: ChatControl) -> None:
    with client.responses.connect() as connection:
        warm = told(connection, input="first words", store=False, generate=False)
        first = told(connection, input="then these", store=False, previous_response_id=warm[-1].response.id)
        told(connection, input="and last these", store=False, previous_response_id=first[-1].response.id)

    [seen] = chat.asked("and last these")
    assert [message["content"] for message in seen["messages"]] == [
        "first words",
        "then these",
        "then these",
        "and last these",
    ]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first[-1].response.id)


def test_an_error_leaves_the_connection_as_it_is(client: OpenAI) -> None:
    with client.responses.connect() as connection:
        [error] = told(connection, input="hello", previous_response_id="resp_nobody")
        again = told(connection, input="hello")

    assert (error.type, error.status) == ("error", 400)
    assert (error.error.code, error.error.param) == ("previous_response_not_found", "previous_response_id")
    assert said(again) == "hello"


def test_steering_is_refused_with_its_input(client: OpenAI) -> None:
    with client.responses.connect() as connection:
        made = told(connection, input="hello")[-1].response.id
        connection.send({"type": "response.steer", "previous_response_id": made, "input": "No, this."})
        refused = connection.recv()

    assert refused.type == "response.steer.failed"
    assert (refused.error.code, refused.steer.input) == ("steering_not_supported", "No, this.")


def test_a_key_is_asked_for(guarded: Served) -> None:
    with OpenAI(base_url=guarded.base_url, api_key=KEY) as known, known.responses.connect() as connection:
        assert told(connection, input="hello")[-1].type == "response.completed"
    with OpenAI(base_url=guarded.base_url, api_key="sk-wrong") as unknown, pytest.raises(Exception, match="401"):
        unknown.responses.connect(max_retries=0).enter()


async def test_the_asynchronous_sdk(async_client: AsyncOpenAI) -> None:
    async with async_client.responses.connect() as connection:
        await connection.response.create(model="echo", input="hello there")
        events = []
        async for event in connection:
            events.append(event)
            if event.type in ENDS:
                break

    assert said(events) == "hello there"
