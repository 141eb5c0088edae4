"""The Python SDK and conversations: their items, and the responses that run in them."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.acceptance.chat_server import ChatControl


def texts(client: OpenAI, conversation: str) -> list[str]:
    """What the messages of a conversation say, oldest first; read page by page."""
    listed: Any = client.conversations.items.list(conversation, order="asc", limit=2)
    return [one.content[0].text for one in listed]


def refused(call: Any, *arguments: Any, **given: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as raised:
        call(*arguments, **given)
    return raised.value


def test_the_life_of_a_conversation(client: OpenAI) -> None:
    made = client.conversations.create(
        metadata={"topic": "demo"}, items=[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    )

    assert made.id.startswith("conv_")
    assert (made.object, made.metadata) == ("conversation", {"topic": "demo"})
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "other"})
    assert client.conversations.retrieve(made.id) == changed
    assert (changed.id, changed.created_at, changed.metadata) == (made.id, made.created_at, {"topic": "other"})
    assert texts(client, made.id) == ["Hello", "Hi"]
    gone = client.conversations.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "conversation.deleted")
    for call in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
        error = refused(call, made.id)
        assert made.id in error.message


def test_an_empty_one_has_no_metadata_and_no_items(client: OpenAI) -> None:
    made = client.conversations.create()

    assert made.metadata == {}
    assert client.conversations.items.list(made.id).data == []


def test_items_are_added_read_and_taken_out(client: OpenAI) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "one"}])

    added = client.conversations.items.create(
        conversation.id,
        items=[
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "two"}]},
            {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "seen"},
        ],
    )

    ids = [one.id for one in added.data]
    assert (added.first_id, added.last_id, added.has_more) == (ids[0], ids[-1], False)
    newest = client.conversations.items.list(conversation.id, limit=2)
    assert [one.id for one in newest.data] == ids[:0:-1]
    assert newest.has_more
    one: Any = client.conversations.items.retrieve(ids[1], conversation_id=conversation.id)
    assert (one.type, one.status, one.call_id) == ("function_call", "completed", "call_1")
    left = client.conversations.items.delete(ids[0], conversation_id=conversation.id)
    assert left == conversation
    assert [one.id for one in client.conversations.items.list(conversation.id)][:2] == ids[:0:-1]
    for call in (client.conversations.items.retrieve, client.conversations.items.delete):
        error = refused(call, ids[0], conversation_id=conversation.id)
        assert (error.status_code, ids[0] in error.message) == (404, True)


@pytest.mark.parametrize(("items", "code", "param"), [
    ([], "empty_array", "items"),
    ([{"role": "user", "content": "x"}] * 21, "array_above_max_length", "items"),
    ([{"role": "user", "content": 1}], "invalid_type", "items[0].content"),
    ([{"role": "nobody", "content": "x"}], "invalid_value", "items[0].role"),
    ([{"type": "no_such_thing"}], "invalid_value", "items[0].type"),
    ([{"role": "user", "content": [{"type": "input_text"}]}], "missing_required_parameter", "items[0].content[0].text"),
    ("text", "invalid_type", "items"),
    (None, "missing_required_parameter", "items"),
])  # fmt: skip
def test_items_that_are_wrong(client: OpenAI, items: Any, code: str, param: str) -> None:
    conversation = client.conversations.create()

    error = refused(client.conversations.items.create, conversation.id, items=items)

    assert (error.status_code, error.code, error.param) == (400, code, param)
    assert "input" not in error.message.replace("input_text", "")


def test_metadata_that_is_wrong(client: OpenAI) -> None:
    conversation = client.conversations.create()
    for given, param in (({"k": "x" * 513}, "metadata.k"), ({str(n): "" for n in range(17)}, "metadata")):
        assert refused(client.conversations.create, metadata=given).param == param
        assert refused(client.conversations.update, conversation.id, metadata=given).param == param
    error = refused(client.conversations.update, conversation.id, metadata=openai.omit)
    assert (error.code, error.param) == ("missing_required_parameter", "metadata")


def test_responses_remember_what_is_in_it(client: OpenAI) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "My name is Alice."}])

    first = client.responses.create(model="memory", input="Nice weather.", conversation=conversation.id)
    second = client.responses.create(
        model="memory", input=[{"role": "user", "content": "Who am I?"}], conversation={"id": conversation.id}
    )

    assert second.output_text == first.output_text == "Your name is Alice."
    assert second.conversation is not None
    assert (second.conversation.id, second.previous_response_id) == (conversation.id, None)
    assert client.responses.retrieve(second.id).to_dict() == second.to_dict()
    said = ["My name is Alice.", "Nice weather.", "Your name is Alice.", "Who am I?", "Your name is Alice."]
    assert texts(client, conversation.id) == said
    listed: Any = client.responses.input_items.list(second.id, order="asc")
    assert [one.content[0].text for one in listed] == said[:-1]
    aside = client.responses.create(model="memory", input="And?", previous_response_id=second.id)
    assert aside.output_text == "Your name is Alice."
    assert texts(client, conversation.id) == said


def test_a_stream_in_a_conversation(client: OpenAI) -> None:
    conversation = client.conversations.create()
    with client.responses.stream(model="echo", input="one two", conversation=conversation.id) as stream:
        final = stream.get_final_response()

    assert final.conversation is not None
    assert final.conversation.id == conversation.id
    assert texts(client, conversation.id) == ["one two", "one two"]


def test_what_is_not_stored_is_in_the_conversation(client: OpenAI) -> None:
    conversation = client.conversations.create()
    made = client.responses.create(model="echo", input="quiet", conversation=conversation.id, store=False)

    assert texts(client, conversation.id) == ["quiet", "quiet"]
    assert refused(client.responses.retrieve, made.id).status_code == 404


def test_a_background_run_holds_its_conversation(client: OpenAI, chat: ChatControl) -> None:
    conversation = client.conversations.create()
    gate = f"conversation-{conversation.id}"
    made = client.responses.create(
        model="gated", input=f"gate {gate}", conversation=conversation.id, background=True
    )  # fmt: skip

    error = refused(
        client.with_options(max_retries=0).responses.create, model="echo", input="no", conversation=conversation.id
    )
    assert (error.status_code, error.code, error.param) == (400, "conversation_locked", "conversation")
    assert "Another process is currently operating on this conversation. Please retry in a few seconds." in str(error)
    added = refused(client.conversations.items.create, conversation.id, items=[{"role": "user", "content": "x"}])
    assert added.code == "conversation_locked"
    cancelled = client.responses.cancel(made.id)
    assert cancelled.status == "cancelled"
    assert texts(client, conversation.id) == []
    client.responses.create(model="echo", input="now", conversation=conversation.id)
    assert texts(client, conversation.id) == ["now", "now"]


def test_what_fails_is_not_in_it_and_frees_it(client: OpenAI) -> None:
    conversation = client.conversations.create()
    once = client.with_options(max_retries=0)
    for model in ("overloaded", "no-such-model"):
        assert refused(once.responses.create, model=model, input="x", conversation=conversation.id).status_code >= 400
    with pytest.raises(openai.APIStatusError):
        once.responses.create(model="overloaded", input="x", conversation=conversation.id, stream=True)
    client.responses.create(model="echo", input="good", conversation=conversation.id)

    assert texts(client, conversation.id) == ["good", "good"]


def test_who_leaves_frees_it(client: OpenAI, chat: ChatControl) -> None:
    conversation = client.conversations.create()
    gate = f"left-{conversation.id}"
    stream = client.responses.create(
        model="gated", input=f"gate {gate}", conversation=conversation.id, stream=True
    )  # fmt: skip
    next(iter(stream))
    stream.close()
    chat.abandoned(gate)

    client.responses.create(model="echo", input="good", conversation=conversation.id)
    assert texts(client, conversation.id) == ["good", "good"]


def test_a_conversation_that_is_not_there(client: OpenAI) -> None:
    error = refused(client.responses.create, model="echo", input="x", conversation="conv_0")

    assert (error.status_code, error.code, error.param) == (404, None, "conversation")
    assert "Conversation with id 'conv_0' not found." in error.message
    both = refused(client.responses.create, model="echo", input="x", conversation="c", previous_response_id="r")
    assert (both.code, both.param) == ("mutually_exclusive_parameters", "previous_response_id")


def test_tokens_are_counted_with_the_conversation(client: OpenAI) -> None:
    long = client.conversations.create(items=[{"role": "user", "content": "word " * 500}])
    short = client.conversations.create()
    counted = [
        client.responses.input_tokens.count(model="echo", input="x", conversation=one.id).input_tokens
        for one in (long, short)
    ]

    assert counted[0] > counted[1] + 300
    assert texts(client, short.id) == []
    error = refused(client.responses.input_tokens.count, model="echo", input="x", conversation="conv_0")
    assert error.status_code == 404


def test_a_deleted_conversation_leaves_its_responses(client: OpenAI) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "My name is Bob."}])
    made = client.responses.create(model="memory", input="Hello.", conversation=conversation.id)
    client.conversations.delete(conversation.id)

    after = client.responses.create(model="memory", input="Who am I?", previous_response_id=made.id)
    assert after.output_text == "Your name is Bob."
    assert len(client.responses.input_items.list(made.id).data) == 2
