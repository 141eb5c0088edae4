"""The shipped fake hosted tool: what it counts, answers, fails with and waits for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.specification.conformance import check_item

from antiphon.engine.ports.tools import ToolCall, ToolError, ToolResult
from antiphon.protocol.errors import ApiError
from antiphon.protocol.requests import read_create
from antiphon.protocol.tools import Tool as Declaration
from antiphon.tools import hosted_tools
from antiphon.tools.scripted import ScriptedTool

CALL = ToolCall("sc_1", "scripted", '{"a":1}')


class NoClock:
    """Notes how long somebody would have slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return 0.0

    def new_id(self, prefix: str) -> str:
        return prefix

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def declared(**members: Any) -> Declaration:
    """The declaration as a request brings it."""
    tool = {"type": "antiphon:scripted", **members}
    return read_create(json.dumps({"model": "m", "input": "a", "tools": [tool]}).encode()).declared[0]


async def run(tool: ScriptedTool, declaration: Declaration, call: ToolCall = CALL) -> tuple[ToolResult, list[str]]:
    progress: list[str] = []
    return await tool.run(call, declaration, progress.append), progress


def test_it_is_offered_where_it_is_switched_on() -> None:
    assert not hosted_tools(NoClock())
    (kind, tool), *others = hosted_tools(NoClock(), scripted=True).items()
    assert (kind, type(tool), others) == ("antiphon:scripted", ScriptedTool, [])


def test_the_model_sees_one_function() -> None:
    (function,) = ScriptedTool(NoClock()).functions(declared())

    assert (function.type, function.name) == ("function", "scripted")
    assert json.loads(bytes(function.parameters))["type"] == "object"


def test_name_description_and_parameters_are_those_declared() -> None:
    parameters = {"type": "object", "properties": {"q": {"type": "string"}}}
    declaration = declared(name="look_up", description="Looks.", parameters=parameters)

    (function,) = ScriptedTool(NoClock()).functions(declaration)

    assert (function.name, function.description) == ("look_up", "Looks.")
    assert json.loads(bytes(function.parameters)) == parameters


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"behaviour": "explode"}, "tools.behaviour"),
        ({"behaviour": 5}, "tools.behaviour"),
        ({"seconds": -1}, "tools.seconds"),
        ({"seconds": 1e9}, "tools.seconds"),
        ({"name": "no spaces"}, "tools.name"),
        ({"name": "x" * 65}, "tools.name"),
        ({"output": None}, "tools.output"),
    ],
)
def test_a_declaration_that_makes_no_sense(members: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        ScriptedTool(NoClock()).functions(declared(**members))

    assert (caught.value.status, caught.value.param) == (400, param)


async def test_it_counts_by_name_and_arguments() -> None:
    tool = ScriptedTool(NoClock())
    other = CALL._replace(arguments="{}")

    results = [(await run(tool, declared(), call))[0] for call in (CALL, CALL, other, CALL)]

    assert [result.for_model.split(" with ")[0] for result in results] == [
        f"Run {number} of scripted" for number in (1, 2, 1, 3)
    ]
    assert tool.runs == {("scripted", '{"a":1}'): 3, ("scripted", "{}"): 1}
    assert all(result.completed for result in results)


async def test_it_answers_what_it_is_told_to() -> None:
    result, progress = await run(ScriptedTool(NoClock()), declared(behaviour="answer", output="42"))

    assert result == ToolResult({"output": "42"}, "42")
    assert progress == []


async def test_it_tells_how_far_it_is_where_it_is_told_to() -> None:
    _, progress = await run(ScriptedTool(NoClock()), declared(progress=True))

    assert progress == ["in_progress", "completed"]


async def test_it_fails_as_it_is_told_to() -> None:
    tool = ScriptedTool(NoClock())

    with pytest.raises(ToolError, match="out of paper"):
        await run(tool, declared(behaviour="fail", output="out of paper"))
    with pytest.raises(ToolError, match="told to"):
        await run(tool, declared(behaviour="fail"))

    assert tool.runs.total() == 2


async def test_it_is_slow_for_as_long_as_it_is_told_to() -> None:
    clock = NoClock()
    result, _ = await run(ScriptedTool(clock), declared(behaviour="slow", seconds=2.5, output="at last"))

    assert clock.slept == [2.5]
    assert result.for_model == "at last"


async def test_it_is_slow_until_it_is_released() -> None:
    tool = ScriptedTool(NoClock())
    running = asyncio.ensure_future(run(tool, declared(behaviour="slow")))
    await asyncio.wait_for(tool.waiting.wait(), 5)
    assert not running.done()
    tool.released.set()

    result, _ = await asyncio.wait_for(running, 5)

    assert result.completed
    assert not tool.waiting.is_set()
    assert tool.cancelled == 0


async def test_who_is_cancelled_while_slow_is_counted() -> None:
    tool = ScriptedTool(NoClock())
    running = asyncio.ensure_future(run(tool, declared(behaviour="slow")))
    await asyncio.wait_for(tool.waiting.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert tool.cancelled == 1


# --- Items ---


async def test_an_item_recalls_the_call_and_its_result() -> None:
    tool = ScriptedTool(NoClock())
    result, _ = await run(tool, declared(behaviour="answer", output="42"))
    item = {"id": "sc_1", "type": tool.item_type, "status": "completed", **tool.opened(CALL), **result.members}

    check_item(item)
    assert tool.recall(item) == (CALL, "42")


@pytest.mark.parametrize(
    ("members", "call", "text"),
    [
        ({"error": "out of paper"}, ToolCall("sc_1", "scripted", "{}"), "The tool failed: out of paper"),
        ({"name": "f", "arguments": "{"}, ToolCall("sc_1", "f", "{"), ""),
        ({"name": 5, "arguments": {}, "output": [], "error": 7}, ToolCall("sc_1", "scripted", "{}"), ""),
    ],
)
def test_an_item_that_a_client_has_changed(members: dict[str, Any], call: ToolCall, text: str) -> None:
    assert ScriptedTool(NoClock()).recall({"id": "sc_1", "type": "antiphon:scripted_call", **members}) == (call, text)


def test_an_item_with_nothing_in_it() -> None:
    call, text = ScriptedTool(NoClock()).recall({})

    assert (call.name, call.arguments, text) == ("scripted", "{}", "")
