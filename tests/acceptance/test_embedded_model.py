"""A bare `antiphon serve`: no upstream, no key, no network, the bundled model in the embedded engine.

Asserts what must hold for any sane weights; what depends on how good they are is asked several times and must work
more often than not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from openai.types.responses import FunctionToolParam
from pydantic import BaseModel
from tests.acceptance.serving import Served
from tests.acceptance.test_javascript import STORY, run

MODEL = "antiphon-demo"
PROMPT = "Tell me a three sentence bedtime story about a unicorn."
#: The first request starts the engine.
ANSWER_SECONDS = 60
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def demo(bare: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=bare.base_url, api_key="any", timeout=ANSWER_SECONDS, max_retries=0) as client:
        yield client


def mostly(outcomes: list[bool]) -> bool:
    return sum(outcomes) > len(outcomes) / 2


def test_the_bundled_model_is_offered_and_the_start_says_that_every_name_leads_to_it(
    demo: OpenAI, bare: Served
) -> None:
    assert MODEL in [model.id for model in demo.models.list()]
    assert MODEL in bare.process.said


def test_the_first_example_works_in_python_as_it_is_written(demo: OpenAI) -> None:
    response = demo.responses.create(model="gpt-4.1", input=PROMPT)

    assert response.status == "completed"
    assert response.model == MODEL
    assert len(response.output_text.split()) >= 10
    assert response.usage is not None
    assert response.usage.output_tokens >= 10


def test_the_first_example_works_in_javascript_as_it_is_written(node: Path, bare: Served) -> None:
    run(node, STORY, OPENAI_BASE_URL=bare.base_url, OPENAI_API_KEY="any")


def test_a_story_streams_piece_by_piece(demo: OpenAI) -> None:
    with demo.responses.stream(model=MODEL, input=PROMPT) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()

    assert final.status == "completed"
    assert len(deltas) >= 5
    assert "".join(deltas) == final.output_text


def test_the_same_greedy_request_has_the_same_answer(demo: OpenAI) -> None:
    first, second = (demo.responses.create(model=MODEL, input=PROMPT, temperature=0).output_text for _ in range(2))

    assert first == second


def test_a_limit_cuts_the_answer(demo: OpenAI) -> None:
    response = demo.responses.create(model=MODEL, input=PROMPT, max_output_tokens=16)

    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert response.usage.output_tokens == 16


def test_names_are_remembered_over_previous_response_id(demo: OpenAI) -> None:
    def is_known(name: str) -> bool:
        first = demo.responses.create(model=MODEL, input=f"My name is {name}.", temperature=0)
        second = demo.responses.create(
            model=MODEL, input="What is my name?", previous_response_id=first.id, temperature=0
        )
        assert second.status == "completed"
        assert second.output_text
        return name in second.output_text

    assert mostly([is_known(name) for name in ("Alice", "Bob", "Clara", "David", "Emma")])


def test_a_tool_is_called_and_its_result_used(demo: OpenAI) -> None:
    def is_called(city: str) -> bool:
        asked: Any = {"model": MODEL, "tools": [WEATHER], "temperature": 0}
        called = demo.responses.create(input=f"What is the weather in {city}?", tool_choice="required", **asked)
        [call] = called.output
        assert call.type == "function_call"
        assert call.name == "get_weather"
        arguments = json.loads(call.arguments)
        assert set(arguments) == {"location"}
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "It is sunny, 21 degrees."}
        answered = demo.responses.create(input=[result], previous_response_id=called.id, **asked)
        assert answered.status == "completed"
        return city in arguments["location"]

    assert mostly([is_called(city) for city in ("Paris", "Oslo", "Lisbon")])


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "get_weather"}])
@pytest.mark.parametrize("question", [PROMPT, "Hello!", "What is the weather in Rome?"])
def test_a_call_is_made_whatever_is_asked(demo: OpenAI, choice: Any, question: str) -> None:
    asked: Any = {"model": MODEL, "input": question, "tools": [WEATHER], "tool_choice": choice, "temperature": 0}
    whole = demo.responses.create(**asked)
    with demo.responses.stream(**asked) as stream:
        deltas = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]

    [call] = whole.output
    assert call.type == "function_call"
    assert whole.status == "completed"
    assert list(json.loads(call.arguments)) == ["location"]
    assert len(deltas) > 2
    assert "".join(deltas) == call.arguments


MANAGED: Any = [{"type": "compaction", "compact_threshold": 1000}]


@pytest.mark.parametrize("way", ["endpoint", "trigger", "management"])
def test_what_the_user_said_survives_a_compaction(demo: OpenAI, way: str) -> None:
    """The model is far too small to sum anything up: what survives with it are the user's own words."""
    asked: Any = {"model": MODEL, "temperature": 0}

    def is_known(name: str) -> bool:
        question: Any = {"role": "user", "content": "What is my name?"}
        talk: Any = [{"role": "user", "content": f"My name is {name}."}]
        if way == "management":
            talk.append({"role": "assistant", "content": "Once upon a time. " * 300})
            answered = demo.responses.create(input=[*talk, question], context_management=MANAGED, **asked)
            assert [item.type for item in answered.output] == ["compaction", "message"]
        elif way == "trigger":
            stored = demo.responses.create(input=[*talk, {"type": "compaction_trigger"}], **asked)
            assert [item.type for item in stored.output] == ["compaction"]
            answered = demo.responses.create(input=[question], previous_response_id=stored.id, **asked)
        else:
            made = demo.responses.compact(model=MODEL, input=talk)
            compacted: Any = [item.to_dict(warnings=False) for item in made.output]
            answered = demo.responses.create(input=[*compacted, question], **asked)
        assert answered.status == "completed"
        return name in answered.output_text

    assert mostly([is_known(name) for name in ("Alice", "Bob", "Clara", "David", "Emma")])


def test_a_turn_that_is_under_way_survives_a_compaction(demo: OpenAI) -> None:
    """The result of a tool is used although everything before the turn has become a summary."""

    def is_used(degrees: int) -> bool:
        talk: Any = [
            {"role": "user", "content": "Once upon a time. " * 300},
            {"role": "assistant", "content": "Well told!"},
            {"role": "user", "content": "What is the weather in Paris?"},
            {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": '{"location": "Paris"}'},
            {"type": "function_call_output", "call_id": "c", "output": f"It is sunny, {degrees} degrees."},
        ]
        made = demo.responses.create(
            model=MODEL, input=talk, tools=[WEATHER], temperature=0, context_management=MANAGED
        )
        assert [item.type for item in made.output] == ["compaction", "message"]
        return str(degrees) in made.output_text

    assert mostly([is_used(degrees) for degrees in (21, 12, 30)])


def test_a_talk_beyond_the_window_is_answered_without_its_oldest_turns(demo: OpenAI) -> None:
    talk: Any = [{"role": "user", "content": "My name is Alice."}]
    for _ in range(40):
        talk += [{"role": "assistant", "content": "Once upon a time. " * 20}, {"role": "user", "content": "Go on."}]
    talk += [{"role": "assistant", "content": "The end."}, {"role": "user", "content": "My name is Bob."}]
    counted = demo.responses.input_tokens.count(model=MODEL, input=talk)

    with pytest.raises(BadRequestError) as raised:
        demo.responses.create(model=MODEL, input=talk)
    answered = demo.responses.create(model=MODEL, input=talk, truncation="auto", max_output_tokens=64)

    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "input")
    assert answered.usage is not None
    assert 1000 < answered.usage.input_tokens <= 2048 - 64 < counted.input_tokens


class Person(BaseModel):
    name: str
    age: int


def test_a_reply_holds_to_its_schema(demo: OpenAI) -> None:
    response = demo.responses.parse(
        model=MODEL, input="Alice is 30 years old. Who is it?", text_format=Person, temperature=0
    )

    assert response.status == "completed"
    assert isinstance(response.output_parsed, Person)


def test_a_reader_that_leaves_does_not_disturb_the_next(demo: OpenAI, bare: Served) -> None:
    with OpenAI(base_url=bare.direct_url, api_key="any", timeout=ANSWER_SECONDS) as direct:
        for _ in range(5):
            with direct.responses.create(model=MODEL, input=PROMPT, stream=True) as stream:
                next(iter(stream))

    assert demo.responses.create(model=MODEL, input=PROMPT).status == "completed"


def test_a_background_story_is_told(demo: OpenAI) -> None:
    with demo.responses.create(model=MODEL, input=PROMPT, background=True, stream=True) as stream:
        first = next(iter(stream))
    assert first.type == "response.created"

    with demo.responses.stream(response_id=first.response.id) as helper:
        final = helper.get_final_response()

    assert final.status == "completed"
    assert demo.responses.retrieve(final.id).output_text == final.output_text
