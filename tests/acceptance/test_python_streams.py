"""The Python SDK streams: raw events, the helper with its accumulator, and readers that leave."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from openai import NotFoundError, OpenAI
from pydantic import BaseModel
from tests.acceptance.behaviours import STORY
from tests.acceptance.chat_server import ChatControl


def test_a_stream_brings_the_whole_ladder_of_events(client: OpenAI) -> None:
    with client.responses.create(model="echo", input="hello there", stream=True) as stream:
        events = list(stream)

    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "hello there"


def test_a_streamed_response_is_stored_as_it_was_streamed(client: OpenAI) -> None:
    with client.responses.create(model="thinker", input="hello", stream=True) as stream:
        *_, last = stream

    assert last.type == "response.completed"
    assert client.responses.retrieve(last.response.id).to_dict() == last.response.to_dict()


def test_the_helper_gathers_the_text_and_the_final_response(client: OpenAI) -> None:
    text = ""
    with client.responses.stream(model="gpt-4.1", input="A story, please.") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
                assert event.snapshot == text
        final = stream.get_final_response()

    assert text == STORY
    assert final.output_text == STORY
    assert final.status == "completed"


class Answer(BaseModel):
    word: str
    number: int


def test_the_helper_parses_structured_output(client: OpenAI) -> None:
    with client.responses.stream(model="structured", input="Take 7 apples", text_format=Answer) as stream:
        final = stream.get_final_response()

    assert final.output_parsed == Answer(word="apples", number=7)


@pytest.mark.parametrize("model", ["thinker", "refuser", "story"])
def test_a_stream_ends_in_what_the_whole_reply_would_be(client: OpenAI, model: str) -> None:
    whole = client.responses.create(model=model, input="the same")

    with client.responses.stream(model=model, input="the same") as stream:
        final = stream.get_final_response()

    assert [item.type for item in final.output] == [item.type for item in whole.output]
    assert final.output_text == whole.output_text
    assert final.usage is not None
    assert whole.usage is not None
    assert final.usage.input_tokens == whole.usage.input_tokens


def test_a_stream_that_was_cut_ends_in_incomplete(client: OpenAI) -> None:
    with client.responses.create(
        model="echo", input=" ".join(["word"] * 20), max_output_tokens=16, stream=True
    ) as stream:
        *_, last = stream

    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("model", ["failing", "breaking"])
def test_a_model_that_fails_in_the_middle_fails_the_stream(client: OpenAI, model: str) -> None:
    with client.responses.create(model=model, input="hello", stream=True) as stream:
        events = list(stream)

    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert last.response.error.message
    assert last.response.output_text == "So far so good"


def test_log_probabilities_stream_with_their_text(client: OpenAI) -> None:
    with client.responses.create(
        model="echo", input="one two", include=["message.output_text.logprobs"], top_logprobs=1, stream=True
    ) as stream:
        deltas = [event for event in stream if event.type == "response.output_text.delta"]

    assert [[entry.token for entry in delta.logprobs] for delta in deltas] == [["one"], [" two"]]


def test_events_arrive_while_the_model_is_still_speaking(client: OpenAI, chat: ChatControl, gate: str) -> None:
    text = ""
    with client.responses.create(model="gated", input=f"gate {gate}", stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
            if text == "Once upon":
                chat.open(gate)

    assert text == "Once upon a time."


def test_a_reader_that_leaves_ends_the_run_and_leaves_nothing(direct: OpenAI, chat: ChatControl, gate: str) -> None:
    with direct.responses.create(model="gated", input=f"gate {gate}", stream=True) as stream:
        first = next(iter(stream))
        assert first.type == "response.created"
        chat.reached(gate)

    chat.abandoned(gate)
    with pytest.raises(NotFoundError):
        direct.responses.retrieve(first.response.id)


def test_the_model_is_let_go_within_a_tenth_of_a_second(direct: OpenAI, chat: ChatControl) -> None:
    def seconds_until_let_go() -> float:
        gate = f"gate{uuid4().hex}"
        with direct.responses.create(model="gated", input=f"gate {gate}", stream=True):
            chat.reached(gate)
        left = time.perf_counter()
        chat.abandoned(gate)
        return time.perf_counter() - left

    assert min(seconds_until_let_go() for _ in range(5)) < 0.1
