"""The Python SDK and what the server keeps: retrieve, delete, chains, input items, background, resume, cancel."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response
from tests.acceptance.chat_server import ChatControl


def text_of(item: Any) -> str:
    return str(item.content[0].text)


def test_a_response_is_retrieved_as_it_was_created(client: OpenAI) -> None:
    created = client.responses.create(model="thinker", input="hello", metadata={"a": "b"})

    assert client.responses.retrieve(created.id).to_dict() == created.to_dict()


def test_retrieving_takes_include(client: OpenAI) -> None:
    created = client.responses.create(
        model="echo", input="one two", include=["message.output_text.logprobs"], top_logprobs=1
    )

    included = client.responses.retrieve(created.id, include=["message.output_text.logprobs"])

    assert included.to_dict() == created.to_dict()
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.retrieve(created.id, include=["no.such.thing"])  # type: ignore[list-item]
    assert raised.value.param == "include[0]"


def test_a_deleted_response_is_gone(client: OpenAI) -> None:
    created = client.responses.create(model="echo", input="hello")

    client.responses.delete(created.id)

    for call in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError, match=created.id):
            call(created.id)
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="echo", input="And?", previous_response_id=created.id)
    assert raised.value.code == "previous_response_not_found"
    assert raised.value.param == "previous_response_id"


def test_a_response_that_was_not_stored_cannot_be_retrieved(client: OpenAI) -> None:
    created = client.responses.create(model="echo", input="hello", store=False)

    assert created.store is False  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(created.id)


def test_a_chain_remembers(client: OpenAI) -> None:
    first = client.responses.create(model="memory", input="My name is Alice.")
    second = client.responses.create(model="memory", input="Nice weather.", previous_response_id=first.id)
    third = client.responses.create(model="memory", input="What is my name?", previous_response_id=second.id)
    alone = client.responses.create(model="memory", input="What is my name?")

    assert third.output_text == "Your name is Alice."
    assert third.previous_response_id == second.id
    assert alone.output_text == "I do not know your name."


def test_a_chain_survives_the_loss_of_a_link(client: OpenAI) -> None:
    first = client.responses.create(model="memory", input="My name is Bob.")
    second = client.responses.create(model="memory", input="Nice weather.", previous_response_id=first.id)
    client.responses.delete(first.id)

    third = client.responses.create(model="memory", input="What is my name?", previous_response_id=second.id)

    assert third.output_text == "Your name is Bob."


def test_one_response_may_be_continued_twice(client: OpenAI) -> None:
    first = client.responses.create(model="memory", input="Hello.")
    left = client.responses.create(model="memory", input="My name is Carol.", previous_response_id=first.id)
    right = client.responses.create(model="memory", input="My name is Dave.", previous_response_id=first.id)

    for branch, name in ((left, "Carol"), (right, "Dave")):
        asked = client.responses.create(model="memory", input="What is my name?", previous_response_id=branch.id)
        assert asked.output_text == f"Your name is {name}."


def test_instructions_are_not_inherited(client: OpenAI) -> None:
    first = client.responses.create(model="system", input="Hello.", instructions="Be brief.")
    second = client.responses.create(model="system", input="Hello.", previous_response_id=first.id)

    assert first.output_text == "Be brief."
    assert second.output_text == "nothing"


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_input_items_are_paged_through_in_both_orders(client: OpenAI, order: Any) -> None:
    said = [f"line {number}" for number in range(7)]
    created = client.responses.create(model="echo", input=[{"role": "user", "content": text} for text in said])

    pages = list(client.responses.input_items.list(created.id, limit=3, order=order).iter_pages())
    items = list(client.responses.input_items.list(created.id, limit=3, order=order))

    assert [len(page.data) for page in pages] == [3, 3, 1]
    assert [text_of(item) for item in items] == (said if order == "asc" else said[::-1])
    assert len({item.id for item in items}) == len(said)


def test_input_items_begin_with_the_newest_and_hold_the_chain(client: OpenAI) -> None:
    first = client.responses.create(model="echo", input="one")
    second = client.responses.create(model="echo", input="two", previous_response_id=first.id)

    items = list(client.responses.input_items.list(second.id))

    assert [text_of(item) for item in items] == ["two", "one", "one"]
    after = client.responses.input_items.list(second.id, after=items[0].id, limit=1)
    assert [item.id for item in after.data] == [items[1].id]
    assert after.has_more is True


def test_a_wrong_cursor_is_refused(client: OpenAI) -> None:
    created = client.responses.create(model="echo", input="one")

    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.input_items.list(created.id, after="msg_nobody")
    assert raised.value.param == "after"


# --- In the background ---


def begin(client: OpenAI, gate: str, **more: Any) -> Response:
    return client.responses.create(model="gated", input=f"gate {gate}", background=True, **more)


def wait_until_done(client: OpenAI, response_id: str) -> Response:
    """The SDK's way to wait: a stream where there is one, else asking again."""
    for _ in range(400):
        response = client.responses.retrieve(response_id)
        if response.status not in ("queued", "in_progress"):
            return response
    raise AssertionError(f"{response_id} does not end: {response.status}")


def test_a_background_response_goes_on_without_its_client(client: OpenAI, chat: ChatControl, gate: str) -> None:
    begun = begin(client, gate)
    assert begun.status in ("queued", "in_progress")
    assert begun.background is True
    chat.reached(gate)
    assert client.responses.retrieve(begun.id).status == "in_progress"

    chat.open(gate)

    assert wait_until_done(client, begun.id).output_text == "Once upon a time."


def test_a_background_response_in_progress_tells_what_it_has_said(client: OpenAI, chat: ChatControl, gate: str) -> None:
    begun = begin(client, gate)
    chat.reached(gate)
    said = [client.responses.retrieve(begun.id).output_text]
    for _ in range(400):
        said.append(client.responses.retrieve(begun.id).output_text)
        if said[-1] == "Once upon":
            break
    partial = client.responses.retrieve(begun.id)
    assert (partial.status, partial.output_text) == ("in_progress", "Once upon")
    assert [item.status for item in partial.output] == ["in_progress"]  # type: ignore[union-attr]
    assert all(later.startswith(earlier) for earlier, later in pairwise(said))

    chat.open(gate)

    whole = wait_until_done(client, begun.id)
    assert whole.output_text == "Once upon a time."
    assert [item.id for item in whole.output] == [item.id for item in partial.output]  # type: ignore[union-attr]


def test_a_background_response_is_cancelled(client: OpenAI, chat: ChatControl, gate: str) -> None:
    begun = begin(client, gate)
    chat.reached(gate)

    cancelled = client.responses.cancel(begun.id)

    assert cancelled.status == "cancelled"
    chat.abandoned(gate)
    assert client.responses.retrieve(begun.id).to_dict() == cancelled.to_dict()
    assert client.responses.cancel(begun.id).to_dict() == cancelled.to_dict()


def test_only_a_running_background_response_can_be_cancelled(client: OpenAI, chat: ChatControl, gate: str) -> None:
    foreground = client.responses.create(model="echo", input="hello")
    done = begin(client, gate)
    chat.open(gate)
    wait_until_done(client, done.id)

    with pytest.raises(openai.BadRequestError, match="synchronous"):
        client.responses.cancel(foreground.id)
    with pytest.raises(openai.BadRequestError, match="completed"):
        client.responses.cancel(done.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_nobody")


def test_a_background_response_in_progress_cannot_be_deleted(client: OpenAI, chat: ChatControl, gate: str) -> None:
    begun = begin(client, gate)
    chat.reached(gate)

    with pytest.raises(openai.BadRequestError, match="in-flight"):
        client.responses.delete(begun.id)
    chat.open(gate)
    wait_until_done(client, begun.id)
    client.responses.delete(begun.id)


def test_a_background_stream_is_resumed_where_it_was_left(client: OpenAI, chat: ChatControl, gate: str) -> None:
    begun = begin(client, gate, stream=True)
    seen = []
    for event in begun:
        seen.append(event)
        if event.type == "response.output_text.delta" and event.delta == " upon":
            break
    begun.close()
    response_id = seen[0].response.id
    chat.open(gate)

    with client.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number) as resumed:
        seen += resumed

    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed"
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    assert text == seen[-1].response.output_text == "Once upon a time."


def test_a_finished_background_stream_can_be_read_again(client: OpenAI, chat: ChatControl, gate: str) -> None:
    chat.open(gate)
    with begin(client, gate, stream=True) as stream:
        first = [event.to_dict() for event in stream]
    response_id = first[0]["response"]["id"]

    with client.responses.retrieve(response_id, stream=True) as stream:
        again = [event.to_dict() for event in stream]
    with client.responses.retrieve(response_id, stream=True, starting_after=len(first) - 1) as stream:
        nothing = list(stream)

    assert again == first
    assert nothing == []


def test_the_helper_follows_a_background_response(client: OpenAI, chat: ChatControl, gate: str) -> None:
    with client.responses.stream(model="gated", input=f"gate {gate}", background=True) as stream:
        first = next(iter(stream))
        assert first.type == "response.created"
    chat.open(gate)

    with client.responses.stream(response_id=first.response.id, starting_after=4) as stream:
        numbers = [event.sequence_number for event in stream]
        final = stream.get_final_response()

    assert numbers == list(range(5, 5 + len(numbers)))
    assert final.output_text == "Once upon a time."


def test_a_cancelled_background_stream_ends_as_failed(client: OpenAI, chat: ChatControl, gate: str) -> None:
    stream = begin(client, gate, stream=True)
    events = []
    for event in stream:
        events.append(event)
        if event.type == "response.output_text.delta" and event.delta == " upon":
            client.responses.cancel(events[0].response.id)

    assert events[-1].type == "response.failed"
    assert events[-1].response.status == "cancelled"


def test_a_foreground_response_cannot_be_streamed_again(client: OpenAI) -> None:
    with client.responses.create(model="echo", input="hello", stream=True) as stream:
        *_, last = stream

    with pytest.raises(openai.BadRequestError, match="background=true") as raised:
        client.responses.retrieve(last.response.id, stream=True)
    assert raised.value.param == "stream"


def test_a_background_response_that_is_not_stored_can_be_fetched_but_not_continued(
    client: OpenAI, chat: ChatControl, gate: str
) -> None:
    chat.open(gate)
    begun = begin(client, gate, store=False)

    assert wait_until_done(client, begun.id).output_text == "Once upon a time."
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="echo", input="And?", previous_response_id=begun.id)
