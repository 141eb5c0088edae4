"""Namespaces, custom tools and tool searches in the loop, and in the turns that follow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.engine.loop import Json, Loop, call, says

from antiphon.engine.calls import SEARCH
from antiphon.engine.deltas import CallDelta, TextDelta
from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.engine.turns import Limits


def function(name: str, **members: Any) -> Json:
    return {"type": "function", "name": name, "parameters": {"type": "object"}, **members}


def later(name: str, description: str) -> Json:
    return function(name, description=description, defer_loading=True)


SERVER: Json = {"type": "tool_search"}
CLIENT: Json = {"type": "tool_search", "execution": "client", "description": "Finds.", "parameters": None}
CRM: Json = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [later("list", "Lists customers."), later("delete", "Deletes one.")],
}
PATCH: Json = {"type": "custom", "name": "patch"}


def names(request: ModelRequest) -> list[str]:
    return [tool.name or "" for tool in request.tools]


def search(query: str, key: int = 0) -> CallDelta:
    return call(key, "tool_search", json.dumps({"query": query}))


async def test_a_search_by_this_server_loads_what_it_finds() -> None:
    loop = Loop(
        says("I look.", search("list")),
        says(call(0, "crm__list", "{}", "c1")),
        tools=[SERVER, CRM, later("weather", "Tells the weather.")],
    )

    await loop.run()

    assert [names(request) for request in loop.requests] == [["tool_search"], ["tool_search", "crm__list"]]
    message, searched, found, called = loop.response["output"]
    assert message["content"][0]["text"] == "I look."
    assert searched == {
        "id": searched["id"],
        "type": "tool_search_call",
        "status": "completed",
        "call_id": None,
        "execution": "server",
        "arguments": {"query": "list"},
    }
    assert found == {
        "id": found["id"],
        "type": "tool_search_output",
        "status": "completed",
        "call_id": None,
        "execution": "server",
        "tools": [{**CRM, "tools": [CRM["tools"][0]]}],
    }
    assert (called["type"], called["namespace"], called["name"]) == ("function_call", "crm", "list")
    assert loop.seen[1][1:] == [
        "assistant I look.",
        f'call {searched["id"]} tool_search({{"query": "list"}})',
        f"output {searched['id']} These tools can be called from now on: crm__list.",
    ]


async def test_every_item_of_a_search_is_added_and_done() -> None:
    loop = Loop(says(search("customers")), says("Done."), tools=[SERVER, CRM])

    await loop.run()

    told = [
        (event["type"], event["item"]["type"])
        for event in loop.events
        if "item" in event and event["item"]["type"] != "message"
    ]
    assert told == [
        ("response.output_item.added", "tool_search_call"),
        ("response.output_item.done", "tool_search_call"),
        ("response.output_item.added", "tool_search_output"),
        ("response.output_item.done", "tool_search_output"),
    ]


async def test_a_search_that_finds_nothing_says_so() -> None:
    loop = Loop(says(search("zebra")), says("Sorry."), tools=[SERVER, CRM])

    await loop.run()

    assert loop.response["output"][1]["tools"] == []
    assert loop.seen[1][-1].endswith("No tool was found. Try other words.")


async def test_searches_count_as_calls_of_hosted_tools() -> None:
    loop = Loop(says(search("list"), search("delete", 1)), says("Done."), tools=[SERVER, CRM], max_tool_calls=1)

    await loop.run()

    assert [item["type"] for item in loop.response["output"]] == ["tool_search_call", "tool_search_output", "message"]
    assert names(loop.requests[1]) == ["tool_search", "crm__list"]
    assert loop.seen[1][-1].endswith("The limit of tool calls is reached; answer without.")


async def test_a_model_that_never_stops_searching_is_stopped() -> None:
    loop = Loop(*(says(search("list")) for _ in range(3)), tools=[SERVER, CRM], limits=Limits(model_calls_max=3))

    outcome = await loop.run()

    assert outcome.status == "failed"
    assert len({item["id"] for item in loop.response["output"]}) == 6


async def test_what_was_found_can_be_called_in_later_turns() -> None:
    first = Loop(says(search("list")), says("Done."), tools=[SERVER, CRM])
    await first.run()

    second = Loop(says(call(0, "crm__list")), tools=[SERVER, CRM], earlier=first.response["output"])
    await second.run()

    assert names(second.requests[0]) == names(first.requests[1])
    assert second.seen[0][:2] == first.seen[1][1:]
    assert second.output == ["function_call list({}) completed"]


async def test_a_search_by_the_client_waits_for_it() -> None:
    loop = Loop(says(call(0, "tool_search", '{"words": "x"}', "c1")), tools=[CLIENT, function("look")])

    outcome = await loop.run()

    assert (outcome.status, len(loop.requests)) == ("completed", 1)
    [item] = loop.response["output"]
    assert (item["type"], item["execution"], item["call_id"]) == (SEARCH.item_type, "client", "c1")
    assert item["arguments"] == {"words": "x"}


@pytest.mark.parametrize("joined", [{"call_id": "c1"}, {"call_id": None}, {}])
async def test_what_a_client_found_can_be_called(joined: Json) -> None:
    first = Loop(says(call(0, "tool_search", '{"words": 1.10}', "c1")), tools=[CLIENT])
    await first.run()
    output = {"type": "tool_search_output", "id": "tso_1", **joined, "tools": [CRM, PATCH]}

    second = Loop(
        says(CallDelta(0, "c2", "patch", "*** Begin", whole=True)),
        tools=[CLIENT],
        earlier=[*first.response["output"], output],
    )
    await second.run()

    assert names(second.requests[0]) == ["tool_search", "crm__list", "crm__delete", "patch"]
    assert second.seen[0][:2] == [
        'call c1 tool_search({"words": 1.1})',
        "output c1 These tools can be called from now on: crm__list, crm__delete, patch.",
    ]
    assert [(item["type"], item["input"]) for item in second.response["output"]] == [("custom_tool_call", "*** Begin")]


async def test_a_search_that_nobody_answered_is_not_shown() -> None:
    earlier = [
        {"type": "tool_search_call", "id": "tsc_1", "call_id": "c1", "execution": "client", "arguments": {}},
        {"type": "tool_search_output", "id": "tso_1", "call_id": "other", "tools": [CRM]},
    ]
    loop = Loop(says("Hi."), tools=[CLIENT], earlier=earlier)

    await loop.run()

    assert loop.seen == [["user Hi"]]
    assert names(loop.requests[0]) == ["tool_search", "crm__list", "crm__delete"]


async def test_calls_in_namespaces_are_replayed_as_the_model_made_them() -> None:
    tools = [{**CRM, "tools": [function("list"), PATCH]}]
    first = Loop(
        says(call(0, "crm__list", '{"a":1}', "c1"), CallDelta(1, "c2", "crm__patch", "x", whole=True)), tools=tools
    )
    await first.run()
    assert [(item["namespace"], item["name"]) for item in first.response["output"]] == [
        ("crm", "list"),
        ("crm", "patch"),
    ]
    outputs = [
        {"type": "function_call_output", "id": "fco_1", "call_id": "c1", "output": "one"},
        {"type": "custom_tool_call_output", "id": "ctco_1", "call_id": "c2", "output": "two"},
    ]

    second = Loop(says("Done."), tools=tools, earlier=[*first.response["output"], *outputs])
    await second.run()

    assert [item.view.name for item in second.requests[0].items[:2]] == ["crm__list", "crm__patch"]
    for shown, stored in zip(second.requests[0].items, first.response["output"], strict=False):
        assert json.loads(shown.body) == stored, "what a dialect of items sends on is what was stored"


async def test_a_call_of_a_loaded_tool_without_a_namespace_is_in_one_of_its_own_name() -> None:
    """So the official guide shows it, and the agents SDKs find the tool by it."""
    tools = [SERVER, later("weather", "Tells the weather."), function("clock")]
    first = Loop(
        says(search("weather")), says(call(0, "weather", "{}", "c1"), call(1, "clock", "{}", "c2")), tools=tools
    )
    await first.run()
    *_, weather, clock = first.response["output"]

    assert (weather["name"], weather["namespace"]) == ("weather", "weather")
    assert "namespace" not in clock

    outputs = [
        {"type": "function_call_output", "id": f"fco_{one}", "call_id": one, "output": "one"} for one in ("c1", "c2")
    ]
    second = Loop(says(call(0, "weather", "{}", "c3")), tools=tools, earlier=[*first.response["output"], *outputs])
    await second.run()

    assert [item.view.name for item in second.requests[0].items if item.view.name] == [
        "tool_search",
        "weather",
        "clock",
    ]
    assert second.response["output"][0]["namespace"] == "weather"


async def test_a_tool_that_the_client_found_is_called_in_the_namespace_of_its_own_name() -> None:
    asked = {"type": "tool_search_call", "id": "tsc_1", "call_id": "s1", "execution": "client", "arguments": {}}
    found = {"type": "tool_search_output", "id": "tso_1", "call_id": "s1", "execution": "client"}
    listed = [later("weather", "Tells the weather."), function("clock")]
    loop = Loop(
        says(call(0, "weather", "{}", "c1"), call(1, "clock", "{}", "c2")),
        tools=[CLIENT],
        earlier=[asked, {**found, "tools": listed}],
    )

    await loop.run()

    assert [(item["name"], item.get("namespace")) for item in loop.response["output"]] == [
        ("weather", "weather"),
        ("clock", None),
    ]


@pytest.mark.parametrize("tools", [[], [CRM]])
@pytest.mark.parametrize("lost", [True, False])
async def test_calls_whose_namespace_was_lost_or_is_gone(tools: list[Json], lost: bool) -> None:
    called = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "list", "arguments": "{}"}
    output = {"type": "function_call_output", "id": "fco_1", "call_id": "c1", "output": "one"}
    loop = Loop(says("Done."), tools=tools, earlier=[called if lost else {**called, "namespace": "crm"}, output])

    await loop.run()

    expected = "list" if lost and not tools else "crm__list"
    assert loop.requests[0].items[0].view.name == expected


async def test_custom_and_hosted_calls_in_one_turn() -> None:
    """The hosted one is run, then the client is asked (reference 7)."""
    loop = Loop(
        says(call(0), CallDelta(1, "c1", "patch", "x", whole=True)), tools=[{"type": "antiphon:scripted"}, PATCH]
    )

    outcome = await loop.run()

    assert (outcome.status, len(loop.requests), loop.tool.runs.total()) == ("completed", 1, 1)
    assert {item["type"] for item in loop.response["output"]} == {"antiphon:scripted_call", "custom_tool_call"}


# --- Other items that change what the model is asked ---


def update(**settings: Any) -> Json:
    return {"type": "configuration_update", "id": "cfg_1", **settings}


SCHEMA: Json = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}


async def test_configuration_updates_hold_until_the_next_one() -> None:
    earlier = [
        update(reasoning={"effort": "low"}, text={"format": SCHEMA}),
        update(reasoning={"effort": "high"}),
    ]
    loop = Loop(
        says("{}"), earlier=earlier, reasoning={"effort": "minimal", "summary": "auto"}, text={"verbosity": "low"}
    )

    await loop.run()

    asked = loop.requests[0].request
    assert asked.reasoning is not None
    assert asked.text is not None
    assert asked.text.format is not None
    assert (asked.reasoning.effort, asked.reasoning.summary) == ("high", "auto")
    assert (asked.text.format.name, asked.text.verbosity) == ("n", "low")
    assert loop.response["reasoning"] == {"effort": "high", "summary": "auto"}
    assert loop.response["text"]["format"]["schema"] == {"type": "object"}


async def test_an_update_may_go_back_to_text_and_sets_what_was_not_set() -> None:
    earlier = [update(text={"format": SCHEMA}), update(text={"format": {"type": "text"}}, reasoning={"effort": "low"})]
    loop = Loop(says(TextDelta("Hi")), earlier=earlier)

    await loop.run()

    assert loop.response["text"]["format"] == {"type": "text"}
    assert loop.response["reasoning"] == {"effort": "low", "summary": None}


async def test_text_that_an_update_binds_is_held_back_in_the_background() -> None:
    """docs/log.md, I9."""
    loop = Loop(says(TextDelta('{"a"'), TextDelta(":1}")), earlier=[update(text={"format": SCHEMA})], background=True)

    await loop.run()

    deltas = [event["delta"] for event in loop.events if event["type"] == "response.output_text.delta"]
    assert deltas == ['{"a":1}']


async def test_custom_input_appears_whole_in_the_background() -> None:
    """docs/log.md, I9."""
    pieces = [
        CallDelta(0, "c1", "patch", "*** "),
        CallDelta(0, None, None, "Begin"),
        CallDelta(0, None, None, "", True),
    ]
    loop = Loop([[piece] for piece in pieces], tools=[PATCH], background=True)

    await loop.run()

    deltas = [event["delta"] for event in loop.events if event["type"] == "response.custom_tool_call_input.delta"]
    assert deltas == ["*** Begin"]
