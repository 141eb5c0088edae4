"""The Python SDK and function tools: calls, outputs, the loop by reference and by replay."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import FunctionToolParam, Response
from pydantic import BaseModel
from tests.acceptance.chat_server import ChatControl


def tool(name: str, argument: str) -> FunctionToolParam:
    parameters: dict[str, object] = {
        "type": "object",
        "properties": {argument: {"type": "string"}},
        "required": [argument],
        "additionalProperties": False,
    }
    return {"type": "function", "name": name, "description": f"Does {name}.", "parameters": parameters, "strict": True}


WEATHER = tool("get_weather", "city")
TIME = tool("get_time", "zone")


def calls(response: Response) -> dict[str, Any]:
    """The arguments of every call, by the function's name."""
    return {item.name: json.loads(item.arguments) for item in response.output if item.type == "function_call"}


def outputs(response: Response) -> list[Any]:
    return [
        {"type": "function_call_output", "call_id": item.call_id, "output": f"{item.name} is fine"}
        for item in response.output
        if item.type == "function_call"
    ]


def test_a_function_is_called_and_its_result_told(client: OpenAI) -> None:
    called = client.responses.create(model="caller", input="get_weather in Rome", tools=[WEATHER, TIME])
    assert calls(called) == {"get_weather": {"city": "Rome"}}

    answered = client.responses.create(
        model="caller", previous_response_id=called.id, input=outputs(called), tools=[WEATHER, TIME]
    )

    assert answered.output_text == "The tools said: get_weather is fine"


def test_parallel_calls_are_all_answered(client: OpenAI, chat: ChatControl) -> None:
    called = client.responses.create(model="caller", input="get_weather and get_time in Oslo", tools=[WEATHER, TIME])
    assert calls(called) == {"get_weather": {"city": "Oslo"}, "get_time": {"zone": "Oslo"}}

    answered = client.responses.create(
        model="caller", previous_response_id=called.id, input=outputs(called), tools=[WEATHER, TIME]
    )

    assert answered.output_text == "The tools said: get_weather is fine, get_time is fine"
    roles = [message["role"] for message in chat.asked("get_weather and get_time in Oslo")[-1]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool"]


def test_the_loop_works_with_replayed_items_and_nothing_stored(client: OpenAI) -> None:
    items: list[Any] = [{"role": "user", "content": "get_weather and get_time in Lima"}]
    called = client.responses.create(model="caller", input=items, tools=[WEATHER, TIME], store=False)

    items += [item.to_dict() for item in called.output] + outputs(called)
    answered = client.responses.create(model="caller", input=items, tools=[WEATHER, TIME], store=False)

    assert answered.output_text == "The tools said: get_weather is fine, get_time is fine"


def test_calls_stream(client: OpenAI) -> None:
    with client.responses.stream(
        model="caller", input="get_weather and get_time in Bern", tools=[WEATHER, TIME]
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()

    deltas = [event for event in events if event.type == "response.function_call_arguments.delta"]
    whole = {index: "".join(event.delta for event in deltas if event.output_index == index) for index in (0, 1)}
    assert [json.loads(text) for text in whole.values()] == [{"city": "Bern"}, {"zone": "Bern"}]
    assert calls(final) == {"get_weather": {"city": "Bern"}, "get_time": {"zone": "Bern"}}


def test_a_streamed_call_is_continued(client: OpenAI) -> None:
    with client.responses.stream(model="caller", input="get_time in Kyiv", tools=[TIME]) as stream:
        called = stream.get_final_response()

    with client.responses.stream(
        model="caller", previous_response_id=called.id, input=outputs(called), tools=[TIME]
    ) as stream:
        assert stream.get_final_response().output_text == "The tools said: get_time is fine"


class Order(BaseModel):
    """Orders things."""

    thing: str
    count: int


def test_parse_reads_the_arguments_of_calls(client: OpenAI) -> None:
    response = client.responses.parse(
        model="caller",
        input="Order 3 pizza",
        tools=[openai.pydantic_function_tool(Order)],  # type: ignore[list-item]
    )

    [call] = response.output
    assert call.type == "function_call"
    assert call.parsed_arguments == Order(thing="pizza", count=3)


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", "required"),
        ({"type": "function", "name": "get_time"}, {"type": "function", "function": {"name": "get_time"}}),
    ],
)
def test_a_call_may_be_demanded(client: OpenAI, chat: ChatControl, choice: Any, sent: Any) -> None:
    text = f"demanded get_time by {'name' if isinstance(choice, dict) else 'mode'}"

    response = client.responses.create(model="caller", input=text, tools=[WEATHER, TIME], tool_choice=choice)

    assert list(calls(response)) == ["get_time"]
    assert chat.asked(text)[0]["tool_choice"] == sent
    assert client.responses.retrieve(response.id).to_dict()["tool_choice"] == choice


def test_a_call_is_made_by_a_model_that_has_to_be_asked_twice(client: OpenAI) -> None:
    asked: Any = {"model": "persuaded", "input": "Hi", "tools": [WEATHER, TIME], "tool_choice": "required"}
    whole = client.responses.create(**asked)
    with client.responses.stream(**asked) as stream:
        events = list(stream)

    assert calls(whole) == {"get_weather": {"city": "Rome"}}
    assert [item.type for item in whole.output] == ["function_call"]
    assert not any(event.type == "response.output_text.delta" for event in events)
    assert calls(stream.get_final_response()) == calls(whole)


def test_a_named_function_is_called_for_a_model_that_never_calls(client: OpenAI) -> None:
    response = client.responses.create(
        model="talker", input="Rome", tools=[WEATHER, TIME], tool_choice={"type": "function", "name": "get_time"}
    )

    assert response.status == "completed"
    assert list(calls(response)) == ["get_time"]
    assert list(calls(response)["get_time"]) == ["zone"]


def test_one_of_several_functions_is_called_for_a_model_that_never_calls(client: OpenAI) -> None:
    response = client.responses.create(model="talker", input="Rome", tools=[WEATHER, TIME], tool_choice="required")

    assert response.status == "completed"
    assert len(calls(response)) == 1


def test_a_call_that_never_comes_is_no_answer(client: OpenAI) -> None:
    response = client.responses.create(model="story", input="Rome", tools=[WEATHER, TIME], tool_choice="required")

    assert response.status == "failed"
    assert response.output == []
    assert response.error is not None
    assert "did not call" in response.error.message


def test_tools_are_not_offered_when_the_choice_is_none(client: OpenAI, chat: ChatControl) -> None:
    response = client.responses.create(model="caller", input="get_time is not wanted", tools=[TIME], tool_choice="none")

    assert response.output_text == "No tool was named."
    assert "tools" not in chat.asked("get_time is not wanted")[0]


def test_only_allowed_tools_are_offered(client: OpenAI, chat: ChatControl) -> None:
    text = "allowed get_weather and get_time"
    choice: Any = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "get_time"}]}

    response = client.responses.create(model="caller", input=text, tools=[WEATHER, TIME], tool_choice=choice)

    assert list(calls(response)) == ["get_time"]
    assert [entry["function"]["name"] for entry in chat.asked(text)[0]["tools"]] == ["get_time"]


def test_tools_that_cannot_be_run_are_named_in_a_header(client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        model="caller", input="get_time now", tools=[TIME, {"type": "web_search"}]
    )

    assert raw.headers["x-antiphon-warnings"] == "tools[1]"
    assert [entry.type for entry in raw.parse().tools] == ["function", "web_search"]


def test_an_output_without_its_call_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="call_nobody") as raised:
        client.responses.create(
            model="caller", input=[{"type": "function_call_output", "call_id": "call_nobody", "output": "x"}]
        )

    assert raised.value.param == "input"


def test_a_call_without_its_output_is_refused(client: OpenAI) -> None:
    called = client.responses.create(model="caller", input="get_time in Pisa", tools=[TIME])

    with pytest.raises(openai.BadRequestError, match="No tool output found"):
        client.responses.create(model="caller", previous_response_id=called.id, input="And?", tools=[TIME])
