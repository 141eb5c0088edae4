"""What ``strict`` promises, through whole runs (design decision 14)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.runs.stage import Make, checked, failure_of, id_of, texts, types_of

from antiphon.engine.deltas import CallDelta, RefusalDelta, TextDelta
from antiphon.engine.ports.upstreams import Capabilities

Json = dict[str, Any]
SCHEMA: Json = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
FORMAT: Json = {"format": {"type": "json_schema", "name": "number", "schema": SCHEMA, "strict": True}}
FUNCTION: Json = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}
DIGITS: Json = {
    "type": "custom",
    "name": "digits",
    "format": {"type": "grammar", "syntax": "regex", "definition": "[0-9]+"},
}


async def test_a_wrong_reply_is_asked_for_again_and_nobody_sees_it(stage: Make) -> None:
    here = stage([[TextDelta('{"n":'), TextDelta('"one"}')]], [[TextDelta('{"n":'), TextDelta("1}")]])

    final = await here.answer(text=FORMAT, input="A number, please.")

    assert final["status"] == "completed"
    assert [part["text"] for part in final["output"][0]["content"]] == ['{"n":1}']
    assert len(final["output"]) == 1
    first, second = here.upstream.requests
    assert "must be JSON" in texts(first)[0]
    assert len(second.items) > len(first.items)
    assert "integer" in texts(second)[-1]


async def test_a_reply_that_stays_wrong_is_a_failed_response(stage: Make) -> None:
    here = stage(*[[[TextDelta("no JSON")]] for _ in range(3)])

    final = await here.answer(text=FORMAT)

    assert (final["status"], final["output"]) == ("failed", [])
    assert "after 3 attempts" in final["error"]["message"]
    assert final["usage"]["output_tokens"] >= 0


@pytest.mark.parametrize("background", [False, True])
async def test_a_native_reply_streams_until_its_first_bad_piece(stage: Make, background: bool) -> None:
    here = stage([[TextDelta('{"n":')], [TextDelta("1")], [TextDelta("x")], [TextDelta("never said")]])
    here.upstream._capabilities = Capabilities(strict_text=True)
    if background:
        run = await here.create(text=FORMAT, background=True, stream=True)
        events = checked(await here.follow(id_of(run)).whole())
    else:
        _, follower = await here.stream(text=FORMAT)
        events = checked(await follower.whole())
        assert [event["delta"] for event in events if event["type"].endswith("text.delta")] == ['{"n":', "1"]

    assert types_of(events)[-1] == "failed"
    assert "never said" not in str(events)
    assert here.upstream.cancelled == 1


async def test_a_strict_call_is_made_when_its_arguments_fit(stage: Make) -> None:
    bad, good = CallDelta(0, "call_1", "f", '{"n":"x"}'), CallDelta(0, "call_2", "f", '{"n":2}')
    here = stage([[bad]], [[good]])

    final = await here.answer(tools=[FUNCTION])

    assert [(item["call_id"], item["arguments"]) for item in final["output"]] == [("call_2", '{"n":2}')]


async def test_a_grammar_binds_the_input_of_a_custom_tool(stage: Make) -> None:
    bad, good = CallDelta(0, "call_1", "digits", "four"), CallDelta(0, "call_2", "digits", "4")
    here = stage([[bad]], [[good]])

    final = await here.answer(tools=[DIGITS])

    assert [(item["type"], item["input"]) for item in final["output"]] == [("custom_tool_call", "4")]


async def test_a_refusal_is_exempt(stage: Make) -> None:
    here = stage([[RefusalDelta("I will not.")]])

    final = await here.answer(text=FORMAT)

    assert final["status"] == "completed"
    assert final["output"][0]["content"][0]["refusal"] == "I will not."


@pytest.mark.parametrize(("parameters", "code", "param"), [
    ({"text": {"format": {**FORMAT["format"], "schema": {"type": "object", "properties": {}}}}},
     "invalid_json_schema", "text.format.schema"),
    ({"tools": [{**FUNCTION, "parameters": {"type": "object", "properties": {}}}]},
     "invalid_function_parameters", "tools[0].parameters"),
    ({"tools": [{**FUNCTION, "strict": False, "parameters": {"type": "nothing"}}]},
     "invalid_function_parameters", "tools[0].parameters"),
    ({"tools": [{**DIGITS, "format": {**DIGITS["format"], "definition": "("}}]},
     "invalid_value", "tools[0].format.definition"),
])  # fmt: skip
async def test_a_definition_that_makes_no_sense_is_refused(
    stage: Make, parameters: Json, code: str, param: str
) -> None:
    error = await failure_of(stage().answer(**parameters))

    assert (error.status, error.code, error.param) == (400, code, param)
