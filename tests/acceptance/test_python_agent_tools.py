"""The Python SDK with custom tools, namespaces, tool searches, and the items that bring tools and settings along."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import (
    CustomToolParam,
    NamespaceToolParam,
    Response,
    ResponseCustomToolCall,
    ResponseFunctionToolCall,
    ResponseToolSearchCall,
    ResponseToolSearchOutputItem,
    ToolSearchToolParam,
)
from tests.acceptance.chat_server import ChatControl

PATCH: CustomToolParam = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
CRM: NamespaceToolParam = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [
        {
            "type": "function",
            "name": "find",
            "description": "Finds a customer.",
            "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
        {"type": "custom", "name": "query", "description": "Asks the database."},
    ],
}
LATER: NamespaceToolParam = {**CRM, "tools": [{**CRM["tools"][0], "defer_loading": True}]}  # type: ignore[typeddict-item]
SEARCH: ToolSearchToolParam = {"type": "tool_search"}
CLIENT_SEARCH: ToolSearchToolParam = {
    "type": "tool_search",
    "execution": "client",
    "description": "Finds tools.",
    "parameters": {"type": "object", "properties": {"words": {"type": "string"}}},
}


def custom_call(response: Response) -> ResponseCustomToolCall:
    [item] = response.output
    assert isinstance(item, ResponseCustomToolCall)
    return item


def function_call(response: Response) -> ResponseFunctionToolCall:
    [item] = response.output
    assert isinstance(item, ResponseFunctionToolCall)
    return item


@pytest.mark.parametrize("output", ["fine", [{"type": "input_text", "text": "fine"}]])
def test_a_custom_tool_is_called_and_its_result_told(client: OpenAI, output: Any) -> None:
    called = client.responses.create(model="caller", input="apply_patch with hello", tools=[PATCH])
    item = custom_call(called)
    assert (item.name, item.input, item.namespace) == ("apply_patch", "hello", None)

    answered = client.responses.create(
        model="caller",
        previous_response_id=called.id,
        input=[{"type": "custom_tool_call_output", "call_id": item.call_id, "output": output}],
        tools=[PATCH],
    )

    assert answered.output_text == "The tools said: fine"
    listed = client.responses.input_items.list(answered.id, order="asc").to_dict()["data"]
    assert isinstance(listed, list)
    assert [entry["type"] for entry in listed] == ["message", "custom_tool_call", "custom_tool_call_output"]


def test_a_custom_call_streams(client: OpenAI) -> None:
    with client.responses.stream(model="caller", input="apply_patch with hello", tools=[PATCH]) as stream:
        events = list(stream)
        final = stream.get_final_response()

    deltas = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == "hello"
    [done] = [event for event in events if event.type == "response.custom_tool_call_input.done"]
    assert done.input == custom_call(final).input == "hello"


def test_a_custom_call_is_whole_in_the_background(client: OpenAI) -> None:
    stream = client.responses.create(
        model="caller", input="apply_patch in the background", tools=[PATCH], background=True, stream=True
    )
    deltas = [event.delta for event in stream if event.type == "response.custom_tool_call_input.delta"]

    assert deltas == ["background"]


def test_replayed_custom_calls_are_sent_as_they_were_made(client: OpenAI, chat: ChatControl) -> None:
    text = "apply_patch to be replayed"
    items: list[Any] = [{"role": "user", "content": text}]
    called = client.responses.create(model="caller", input=items, tools=[PATCH, CRM], store=False)
    items += [item.to_dict() for item in called.output]
    items.append({"type": "custom_tool_call_output", "call_id": custom_call(called).call_id, "output": "done"})

    answered = client.responses.create(model="caller", input=items, tools=[PATCH, CRM], store=False)

    assert answered.output_text == "The tools said: done"
    call = chat.asked(text)[-1]["messages"][1]["tool_calls"][0]["function"]
    assert call == {"name": "apply_patch", "arguments": '{"input":"replayed"}'}


def test_a_tool_in_a_namespace_is_called_by_both_its_names(client: OpenAI) -> None:
    called = client.responses.create(model="caller", input="crm__find Ada", tools=[CRM])
    item = function_call(called)
    assert (item.namespace, item.name, item.arguments) == ("crm", "find", '{"name": "Ada"}')

    answered = client.responses.create(
        model="caller",
        input=[
            {"role": "user", "content": "crm__find Ada"},
            item.to_dict(),  # type: ignore[list-item]
            {"type": "function_call_output", "call_id": item.call_id, "output": "Ada Lovelace"},
        ],
        tools=[CRM],
    )

    assert answered.output_text == "The tools said: Ada Lovelace"
    assert answered.tools[0].to_dict() == CRM


def test_a_custom_tool_in_a_namespace_streams(client: OpenAI) -> None:
    with client.responses.stream(model="caller", input="crm__query all", tools=[CRM]) as stream:
        final = stream.get_final_response()

    item = custom_call(final)
    assert (item.namespace, item.name, item.input) == ("crm", "query", "all")


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"type": "custom", "name": "apply_patch"}, "apply_patch"),
        ({"type": "custom", "name": "query"}, "crm__query"),
        ({"type": "function", "name": "find"}, "crm__find"),
    ],
)
def test_any_of_them_may_be_demanded(client: OpenAI, chat: ChatControl, choice: Any, name: str) -> None:
    text = f"whichever, {name} is demanded"

    response = client.responses.create(model="caller", input=text, tools=[PATCH, CRM], tool_choice=choice)

    assert chat.asked(text)[0]["tool_choice"] == {"type": "function", "function": {"name": name}}
    assert len(response.output) == 1
    assert response.to_dict()["tool_choice"] == choice


def test_only_allowed_ones_are_offered(client: OpenAI, chat: ChatControl) -> None:
    text = "apply_patch or crm__query"
    choice: Any = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "query"}]}

    response = client.responses.create(model="caller", input=text, tools=[PATCH, CRM], tool_choice=choice)

    assert custom_call(response).name == "query"
    assert [tool["function"]["name"] for tool in chat.asked(text)[0]["tools"]] == ["crm__query"]


def test_a_tool_that_is_not_declared_cannot_be_demanded(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="'other' not found") as raised:
        client.responses.create(
            model="caller", input="Hi", tools=[PATCH], tool_choice={"type": "custom", "name": "other"}
        )

    assert raised.value.param == "tool_choice"


@pytest.mark.parametrize("streamed", [False, True])
def test_this_server_searches_for_tools(client: OpenAI, chat: ChatControl, streamed: bool) -> None:
    text = f"tool_search for customer, {'streamed' if streamed else 'whole'}: find"
    if streamed:
        with client.responses.stream(model="caller", input=text, tools=[SEARCH, LATER]) as stream:
            response: Response = stream.get_final_response()
    else:
        response = client.responses.create(model="caller", input=text, tools=[SEARCH, LATER])

    searched, found, message = response.output
    assert isinstance(searched, ResponseToolSearchCall)
    assert isinstance(found, ResponseToolSearchOutputItem)
    assert (searched.execution, found.execution) == ("server", "server")
    assert found.tools[0].to_dict() == LATER
    assert message.type == "message"
    offered = [[tool["function"]["name"] for tool in asked["tools"]] for asked in chat.asked(text)]
    assert offered == [["tool_search"], ["tool_search", "crm__find"]]

    later = client.responses.create(
        model="caller", previous_response_id=response.id, input="crm__find Ada", tools=[SEARCH, LATER]
    )
    assert function_call(later).namespace == "crm"


def test_the_client_searches_for_tools(client: OpenAI) -> None:
    called = client.responses.create(model="caller", input="tool_search for customers", tools=[CLIENT_SEARCH])
    [item] = called.output
    assert isinstance(item, ResponseToolSearchCall)
    assert (item.execution, item.arguments) == ("client", {"words": "customers"})

    answered = client.responses.create(
        model="caller",
        previous_response_id=called.id,
        input=[
            {"type": "tool_search_output", "call_id": item.call_id, "execution": "client", "tools": [CRM]},
            {"role": "user", "content": "crm__find Ada"},
        ],
        tools=[CLIENT_SEARCH],
    )

    assert function_call(answered).namespace == "crm"


def test_tools_may_come_as_an_item_and_stay_in_the_chain(client: OpenAI) -> None:
    items: list[Any] = [
        {"type": "additional_tools", "role": "developer", "tools": [CRM]},
        {"role": "user", "content": "Nothing yet"},
    ]
    first = client.responses.create(model="caller", input=items)

    second = client.responses.create(model="caller", previous_response_id=first.id, input="crm__find Ada")

    assert function_call(second).namespace == "crm"
    listed = client.responses.input_items.list(second.id, order="asc").to_dict()["data"]
    assert isinstance(listed, list)
    assert listed[0]["tools"] == [CRM]


def test_settings_may_come_as_an_item(client: OpenAI, chat: ChatControl) -> None:
    text = "With other settings"
    items: list[Any] = [
        {"type": "configuration_update", "reasoning": {"effort": "low"}},
        {"role": "user", "content": text},
    ]

    response = client.responses.create(model="echo", input=items, reasoning={"effort": "high"})

    assert chat.asked(text)[0]["reasoning_effort"] == "low"
    assert response.reasoning is not None
    assert response.reasoning.effort == "low"


def test_the_phase_of_a_message_comes_back(client: OpenAI) -> None:
    items: list[Any] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "phase": "commentary"},
        {"role": "user", "content": "c"},
    ]
    response = client.responses.create(model="echo", input=items)

    listed = client.responses.input_items.list(response.id, order="asc").to_dict()["data"]
    assert isinstance(listed, list)
    assert [entry.get("phase") for entry in listed] == [None, "commentary", None]


def test_items_are_referred_to(client: OpenAI) -> None:
    first = client.responses.create(model="caller", input="apply_patch by reference", tools=[PATCH])
    item = custom_call(first)
    assert item.id is not None

    second = client.responses.create(
        model="caller",
        input=[
            {"role": "user", "content": "apply_patch by reference"},
            {"type": "item_reference", "id": item.id},
            {"type": "custom_tool_call_output", "call_id": item.call_id, "output": "seen"},
        ],
        tools=[PATCH],
    )

    assert second.output_text == "The tools said: seen"


def test_what_nobody_knows_comes_back(direct: OpenAI) -> None:
    """No specification has such an item, so that the checking proxy is left out."""
    strange: Any = {"type": "holodeck_call", "id": "hc_1", "program": {"deck": [1.5, None]}}
    known: Any = {"role": "user", "content": "Hi", "zzz": {"a": [True]}}
    response = direct.responses.with_raw_response.create(model="echo", input=[strange, known])

    assert response.headers["x-antiphon-warnings"] == "input[0]"
    url = f"{direct.base_url}responses/{response.parse().id}/input_items"
    listed = direct.get(url, cast_to=object, options={"params": {"order": "asc"}})
    assert isinstance(listed, dict)
    assert {name: listed["data"][0][name] for name in strange} == strange
    assert listed["data"][1]["zzz"] == {"a": [True]}
