"""What ``tool_choice`` demands, through whole runs over a model that would rather talk (reference 5.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.runs.stage import Make, checked, id_of, texts, types_of

from antiphon.clock import SystemClock
from antiphon.engine.deltas import CallDelta, TextDelta
from antiphon.engine.ports.upstreams import Capabilities, Stop
from antiphon.tools.scripted import ScriptedTool
from antiphon.upstreams.scripted import Script

Json = dict[str, Any]
SCHEMA: Json = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
F: Json = {"type": "function", "name": "f", "parameters": SCHEMA}
G: Json = {"type": "function", "name": "g"}
NAMED = {"type": "function", "name": "f"}
ALLOWED = {"type": "allowed_tools", "mode": "required", "tools": [NAMED]}


def talk(text: str = "Let us talk.") -> Script:
    return [[TextDelta(text)]]


def calls(name: str, arguments: str = "{}", key: int = 0) -> CallDelta:
    return CallDelta(key, f"call_{name}", name, arguments)


def made(final: Json) -> list[tuple[str, str]]:
    return [(item["name"], item["arguments"]) for item in final["output"] if item["type"] == "function_call"]


@pytest.mark.parametrize("choice", ["required", NAMED, ALLOWED])
async def test_a_model_that_talks_is_asked_again_and_nobody_sees_it(stage: Make, choice: Any) -> None:
    here = stage(talk(), [[calls("f", '{"n":1}')]])

    final = await here.answer(tools=[F, G], tool_choice=choice)

    assert final["status"] == "completed"
    assert [item["type"] for item in final["output"]] == ["function_call"]
    assert made(final) == [("f", '{"n":1}')]
    assert final["tool_choice"] == choice
    assert "must be a tool call" in texts(here.upstream.requests[1])[-1]
    assert final["usage"]["output_tokens"] > 0


@pytest.mark.parametrize("background", [False, True])
async def test_streams_hold_back_what_is_said_until_the_call_begins(stage: Make, background: bool) -> None:
    here = stage(talk(), [[TextDelta("I ")], [TextDelta("call.")], [calls("f", '{"n"')], [calls("f", ":1}")]])
    if background:
        run = await here.create(tools=[F], tool_choice="required", background=True, stream=True)
        follower = here.follow(id_of(run))
    else:
        _, follower = await here.stream(tools=[F], tool_choice="required")

    events = checked(await follower.whole())

    assert types_of(events)[-1] == "completed"
    assert "Let us talk" not in str(events)
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message", "function_call"]


async def test_a_native_reply_streams(stage: Make) -> None:
    here = stage([[TextDelta("I ")], [TextDelta("call.")], [calls("f", '{"n":1}')]])
    here.upstream._capabilities = Capabilities(forced_calls=True)

    _, follower = await here.stream(tools=[F], tool_choice="required")
    events = checked(await follower.whole())

    assert [event["delta"] for event in events if event["type"].endswith("text.delta")] == ["I ", "call."]
    assert len(here.upstream.requests) == 1


async def test_other_calls_than_the_named_one_are_not_made(stage: Make) -> None:
    here = stage([[calls("g")]], [[calls("g"), calls("f", '{"n":2}', key=1)]])

    final = await here.answer(tools=[F, G], tool_choice=NAMED)

    assert made(final) == [("f", '{"n":2}')]


async def test_at_last_the_arguments_are_asked_for(stage: Make) -> None:
    here = stage(talk(), talk(), talk(), talk('{"n":3}'))

    final = await here.answer(tools=[F, G], tool_choice=NAMED)

    assert made(final) == [("f", '{"n":3}')]
    last = here.upstream.requests[-1]
    assert last.tools == []
    assert last.request.text is not None
    assert last.request.text.format is not None
    assert last.request.text.format.type == "json_schema"


@pytest.mark.parametrize("named", ['{"tool":"f"}', "I choose f."])
async def test_of_several_tools_the_one_is_asked_for_first(stage: Make, named: str) -> None:
    here = stage(talk(), talk(), talk(), talk(named), talk('{"n":"x"}'), talk('{"n":3}'))

    final = await here.answer(tools=[{**F, "strict": True}, G], tool_choice="required")

    assert [item["type"] for item in final["output"]] == ["function_call"]
    assert made(final) == [("f", '{"n":3}')]
    asked, first, again = here.upstream.requests[3:]
    assert asked.request.text is not None
    assert asked.request.text.format is not None
    assert json.loads(bytes(asked.request.text.format.schema))["properties"]["tool"]["enum"] == ["f", "g"]
    for request in (first, again):
        assert request.tools == []
        assert request.request.text is not None
        assert request.request.text.format is not None
        assert json.loads(bytes(request.request.text.format.schema)) == SCHEMA


async def test_a_call_that_never_comes_is_a_failed_response(stage: Make) -> None:
    here = stage(talk(), talk(), talk(), talk())

    final = await here.answer(tools=[F, G], tool_choice="required")

    assert (final["status"], final["output"]) == ("failed", [])
    assert final["error"]["message"] == "The model did not call 'f' or 'g' after 4 attempts."


async def test_a_reply_that_is_cut_is_incomplete(stage: Make) -> None:
    here = stage([[TextDelta("Well")], Stop("length")])

    final = await here.answer(tools=[F], tool_choice="required")

    assert (final["status"], final["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


async def test_a_hosted_tool_is_forced_once_and_then_the_model_answers(stage: Make) -> None:
    scripted = {"type": "antiphon:scripted"}
    tools = {"antiphon:scripted": ScriptedTool(SystemClock())}
    here = stage(talk(), [[calls("scripted")]], talk("Done."), tools=tools)

    final = await here.answer(tools=[scripted, F], tool_choice=scripted)

    assert [item["type"] for item in final["output"]] == ["antiphon:scripted_call", "message"]
    assert [request.force_choice for request in here.upstream.requests] == [True, True, False]


# --- Limits that a model may ignore ---


async def test_without_tools_no_call_comes_out(stage: Make) -> None:
    final = await stage([[TextDelta("Well."), calls("f")]]).answer(tools=[F], tool_choice="none")

    assert [item["type"] for item in final["output"]] == ["message"]


async def test_calls_that_are_not_allowed_do_not_come_out(stage: Make) -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [NAMED]}

    final = await stage([[calls("g"), calls("f", key=1)]]).answer(tools=[F, G], tool_choice=choice)

    assert made(final) == [("f", "{}")]


async def test_one_call_at_a_time(stage: Make) -> None:
    here = stage([[calls("g"), calls("f", '{"n":1}', key=1), calls("f", '{"n":2}', key=2)]])

    final = await here.answer(tools=[F, G], tool_choice=NAMED, parallel_tool_calls=False)

    assert made(final) == [("f", '{"n":1}')]
