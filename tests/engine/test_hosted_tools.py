"""The loop with hosted tools: they run here, the model sees what came of it, clients see items."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.engine.loop import Json, Loop, call, says

from antiphon.engine.deltas import ReasoningDelta
from antiphon.engine.ports.tools import ToolResult
from antiphon.engine.ports.upstreams import Stop, UpstreamError
from antiphon.engine.turns import Limits
from antiphon.protocol.errors import ApiError
from antiphon.protocol.responses import InputDetails, OutputDetails, Usage

SCRIPTED: Json = {"type": "antiphon:scripted"}
CLIENT: Json = {"type": "function", "name": "client"}


def scripted(name: str, **members: Any) -> Json:
    return {**SCRIPTED, "name": name, **members}


ANSWER = scripted("scripted", behaviour="answer", output="42", progress=True)


async def test_one_call() -> None:
    loop = Loop(says("I look.", call(0, arguments='{"a":1}')), says("It is 42."), tools=[ANSWER])

    outcome = await loop.run()

    assert outcome.status == "completed"
    assert loop.output == [
        "message 'I look.'",
        'antiphon:scripted_call scripted({"a":1}) completed 42',
        "message 'It is 42.'",
    ]
    item = loop.response["output"][1]["id"]
    assert loop.seen == [
        ["user Hi"],
        ["user Hi", "assistant I look.", f'call {item} scripted({{"a":1}})', f"output {item} 42"],
    ]
    assert [event["type"] for event in loop.events if "scripted_call" in str(event.get("item", event["type"]))] == [
        "response.output_item.added",
        "antiphon:scripted_call.in_progress",
        "antiphon:scripted_call.completed",
        "response.output_item.done",
    ]


async def test_the_call_itself_is_not_shown_to_the_client() -> None:
    loop = Loop(says(call(0)), says("Done."))

    await loop.run()

    assert {item["type"] for item in loop.response["output"]} == {"antiphon:scripted_call", "message"}
    assert not [event for event in loop.events if "function_call" in event["type"]]


async def test_a_call_whose_arguments_come_in_pieces() -> None:
    pieces = [call(0, arguments='{"a'), call(0, "", '":', ""), call(0, "", "1}", "")]
    loop = Loop([[piece] for piece in pieces], says("Done."), tools=[ANSWER])

    await loop.run()

    assert loop.tool.runs == {("scripted", '{"a":1}'): 1}


async def test_a_call_without_arguments_has_an_empty_object() -> None:
    loop = Loop(says(call(0, arguments="")), says("Done."), tools=[ANSWER])

    await loop.run()

    assert loop.output[0] == "antiphon:scripted_call scripted({}) completed 42"


async def test_several_calls_in_one_turn_and_in_several() -> None:
    loop = Loop(
        says(call(0, "a", '{"n":1}', "c1"), call(1, "b", '{"n":2}', "c2")),
        says(ReasoningDelta("Again."), call(0, "a", '{"n":1}', "c1")),
        says("Done."),
        tools=[scripted("a"), scripted("b")],
    )

    await loop.run()

    assert loop.tool.runs == {("a", '{"n":1}'): 2, ("b", '{"n":2}'): 1}
    assert [item["type"] for item in loop.response["output"]] == [
        "antiphon:scripted_call",
        "antiphon:scripted_call",
        "reasoning",
        "antiphon:scripted_call",
        "message",
    ]
    assert [len(seen) for seen in loop.seen] == [1, 5, 8]
    assert len({item["id"] for item in loop.response["output"]}) == 5


async def test_hosted_and_client_calls_in_one_turn() -> None:
    """The hosted one is run, then the client is asked (reference 7)."""
    loop = Loop(says(call(0, "scripted", "{}", "c1"), call(1, "client", '{"q":1}', "c2")), tools=[ANSWER, CLIENT])

    outcome = await loop.run()

    assert outcome.status == "completed"
    assert sorted(loop.output) == [
        "antiphon:scripted_call scripted({}) completed 42",
        'function_call client({"q":1}) completed',
    ]
    assert len(loop.requests) == 1


async def test_the_turn_after_hosted_and_client_calls() -> None:
    first = Loop(says(call(0, "scripted", "{}", "c1"), call(1, "client", "{}", "c2")), tools=[ANSWER, CLIENT])
    await first.run()
    given = {"type": "function_call_output", "id": "fco_1", "call_id": "c2", "output": "yes"}

    second = Loop(says("Done."), tools=[ANSWER, CLIENT], earlier=[*first.response["output"], given])
    await second.run()

    (seen,) = second.seen
    assert sorted(line.split()[0] for line in seen) == ["call", "call", "output", "output", "user"]
    assert "output c2 yes" in seen
    assert any(line.endswith(" 42") for line in seen)


async def test_a_failing_tool_is_told_to_the_model_and_the_client() -> None:
    loop = Loop(
        says(call(0)), says("It failed."), tools=[scripted("scripted", behaviour="fail", output="out of paper")]
    )

    outcome = await loop.run()

    assert outcome.status == "completed"
    assert loop.output == ["antiphon:scripted_call scripted({}) failed out of paper", "message 'It failed.'"]
    assert loop.seen[1][-1].endswith(" The tool failed: out of paper")


async def test_a_tool_that_is_too_slow_is_left() -> None:
    loop = Loop(
        says(call(0)),
        says("It was slow."),
        tools=[scripted("scripted", behaviour="slow")],
        limits=Limits(tool_seconds=0.05),
    )

    await loop.run()

    text = "The tool did not answer within 0.05 seconds."
    assert loop.output[0] == f"antiphon:scripted_call scripted({{}}) failed {text}"
    assert loop.seen[1][-1].endswith(text)
    assert loop.tool.cancelled == 1


async def test_a_run_that_is_cancelled_ends_its_tool() -> None:
    loop = Loop(says(call(0)), tools=[scripted("scripted", behaviour="slow")])
    running = asyncio.ensure_future(loop.run())
    await asyncio.wait_for(loop.tool.waiting.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert loop.tool.cancelled == 1
    assert not loop.journal.completed


# --- Limits ---


async def test_calls_beyond_the_limit_are_ignored_and_the_run_goes_on() -> None:
    loop = Loop(
        says(call(0, arguments='{"n":1}'), call(1, arguments='{"n":2}'), call(2, arguments='{"n":3}')),
        says(call(0, arguments='{"n":4}')),
        says("Done."),
        max_tool_calls=2,
    )

    outcome = await loop.run()

    assert outcome.status == "completed"
    assert loop.tool.runs == {("scripted", '{"n":1}'): 1, ("scripted", '{"n":2}'): 1}
    assert [item["type"] for item in loop.response["output"]] == [*2 * ["antiphon:scripted_call"], "message"]
    assert loop.seen[1][-1].endswith("The limit of tool calls is reached; answer without.")
    assert loop.seen[2][-1].endswith("The limit of tool calls is reached; answer without.")


async def test_a_model_that_never_stops_calling_is_stopped() -> None:
    loop = Loop(*(says(call(0)) for _ in range(4)), limits=Limits(model_calls_max=4))

    outcome = await loop.run()

    assert outcome.status == "failed"
    assert outcome.error is not None
    assert "more than 4 model calls" in outcome.error.message
    assert loop.tool.runs.total() == 4


@pytest.mark.parametrize(("reason", "told"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
async def test_a_call_of_a_model_that_was_cut_is_not_run(reason: str, told: str) -> None:
    loop = Loop([[call(0, arguments='{"a"')], Stop(reason)])

    outcome = await loop.run()

    assert (outcome.status, outcome.incomplete_reason) == ("incomplete", told)
    assert not loop.tool.runs


async def test_usage_is_that_of_all_model_calls() -> None:
    def used(read: int, written: int) -> Stop:
        return Stop("stop", Usage(read, InputDetails(1, 2), written, OutputDetails(3), read + written))

    loop = Loop([*says(call(0)), used(10, 5)], [*says("Done."), used(30, 7)])

    await loop.run()

    assert loop.response["usage"] == {
        "input_tokens": 40,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 4},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 6},
        "total_tokens": 52,
    }


async def test_a_failing_upstream_in_the_middle_keeps_what_was_done() -> None:
    loop = Loop(says(call(0)), [UpstreamError("busy", status=503)])

    with pytest.raises(UpstreamError):
        await loop.run()

    assert loop.tool.runs.total() == 1
    assert [item.type for item in loop.draft.fold.items] == ["antiphon:scripted_call"]


# --- Choice ---


@pytest.mark.parametrize("choice", ["required", {"type": "antiphon:scripted"}])
async def test_a_choice_is_forced_once(choice: Any) -> None:
    loop = Loop(says(call(0)), says(call(0)), says("Done."), tools=[SCRIPTED, CLIENT], tool_choice=choice)

    await loop.run()

    assert [request.force_choice for request in loop.requests] == [True, False, False]


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        ({"type": "antiphon:scripted"}, "required", ("a", "b")),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "antiphon:scripted"}]}, "auto", ("a", "b")),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "client"}]},
            "required",
            ("client",),
        ),
    ],
)
async def test_upstreams_are_told_the_choice_as_functions(choice: Any, mode: str, names: tuple[str, ...]) -> None:
    script = says(call(0, name="client" if names == ("client",) else "a"))
    loop = Loop(script, says("Done."), tools=[scripted("a"), CLIENT, scripted("b")], tool_choice=choice)

    await loop.run()

    told = loop.requests[0].choice
    assert (told.mode, told.type, told.names) == (mode, "allowed_tools", names)
    assert [tool.name for tool in loop.requests[0].tools] == ["a", "client", "b"]


async def test_a_hosted_call_that_the_choice_does_not_allow_is_not_run() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "client"}]}
    loop = Loop(says("Well.", call(0)), tools=[SCRIPTED, CLIENT], tool_choice=choice)

    await loop.run()

    assert not loop.tool.runs
    assert loop.output == ["message 'Well.'"]


async def test_one_call_at_a_time_where_the_request_says_so() -> None:
    loop = Loop(
        says(call(0, arguments='{"n":1}'), call(1, arguments='{"n":2}')), says("Done."), parallel_tool_calls=False
    )

    await loop.run()

    assert loop.tool.runs == {("scripted", '{"n":1}'): 1}


@pytest.mark.parametrize("tools", [[scripted("client"), CLIENT], [SCRIPTED, SCRIPTED]])
def test_two_tools_cannot_have_one_name(tools: list[Json]) -> None:
    with pytest.raises(ApiError, match="Duplicate tool name"):
        Loop(tools=tools)


# --- Later turns ---


async def test_a_later_turn_sees_what_the_model_saw() -> None:
    first = Loop(says("I look.", call(0, arguments='{"a":1}')), says("It is 42."), tools=[ANSWER])
    await first.run()

    second = Loop(says("Still 42."), tools=[ANSWER], earlier=first.response["output"])
    await second.run()

    assert second.seen[0][:3] == first.seen[1][1:]
    assert second.seen[0][3:] == ["assistant It is 42.", "user Hi"]


async def test_a_later_turn_sees_a_failure_as_the_model_saw_it() -> None:
    tools = [scripted("scripted", behaviour="fail", output="out of paper")]
    first = Loop(says(call(0)), says("Oh."), tools=tools)
    await first.run()

    second = Loop(says("Oh."), tools=tools, earlier=first.response["output"])
    await second.run()

    assert second.seen[0][:2] == first.seen[1][1:]


# --- The journal ---


async def test_every_call_is_noted_before_and_after() -> None:
    loop = Loop(says(call(0, arguments='{"n":1}')), says("Done."), tools=[ANSWER])

    await loop.run()

    item = loop.response["output"][0]["id"]
    assert [call.item_id for call in loop.journal.begun] == [item]
    assert loop.journal.completed == {item: ToolResult({"output": "42"}, "42")}


# --- Sizes ---


async def test_a_thousand_calls_in_one_turn() -> None:
    deltas = [call(key, arguments=f'{{"n":{key}}}', call_id=f"c{key}") for key in range(1000)]
    loop = Loop(says(*deltas), says("Done."), tools=[ANSWER])

    await loop.run()

    assert loop.tool.runs.total() == 1000
    assert len(loop.requests[1].items) == 2001


async def test_ten_megabytes_of_arguments() -> None:
    arguments = '{"a":"' + "x" * 10_000_000 + '"}'
    loop = Loop(says(call(0, arguments=arguments)), says("Done."), tools=[ANSWER])

    await loop.run()

    assert loop.tool.runs == {("scripted", arguments): 1}
