"""Calls that the embedded engine must make: under a grammar, whatever the model would rather say."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import jsonschema_rs
import pytest
import pytest_asyncio
from tests.upstreams.asking import function, user
from tests.upstreams.embedded_engine import MODEL, STORY, run, within
from tests.upstreams.gguf_files import BUNDLED

from antiphon.clock import SystemClock
from antiphon.engine.deltas import CallDelta, TextDelta
from antiphon.protocol.tools import Tool
from antiphon.upstreams.embedded.forced import INTEGER_MAX, TAIL, CallReader, forced, grammar_of, head_of
from antiphon.upstreams.embedded.sizing import Settings
from antiphon.upstreams.embedded.upstream import Embedded

engine_needed = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd")


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


WEATHER = function("get_weather", parameters=closed(location={"type": "string", "maxLength": 40}))
TIMER = function("set_timer", parameters=closed(minutes={"type": "integer"}))
#: What schemas of agents hold, and more.
PARAMETERS = [
    closed(n={"type": "integer"}, yes={"type": "boolean"}, none={"type": "null"}),
    closed(at={"$ref": "#/$defs/place"}) | {"$defs": {"place": closed(kind={"enum": ["city", "sea"]})}},
    closed(either={"anyOf": [{"type": "integer", "minimum": 3, "maximum": 5}, {"const": "many"}]}),
    closed(list={"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}, "maxItems": 3}),
    closed(day={"type": "string", "format": "date"}, code={"type": "string", "pattern": "^[A-Z]{2}[0-9]$"}),
    {"properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False},
    {"type": "object", "properties": {}, "additionalProperties": False},
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {"in": {"type": "object", "properties": {"n": {"type": "integer"}}}}},
    {"type": "object", "properties": {"b": {"enum": [1]}}, "allOf": [{"type": "object", "required": ["b"]}]},
    closed(odd={"type": "string", "maxLength": 9, "x-unknown": 1})
    | {"$schema": "http://json-schema.org/draft-07/schema#"},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Embedded]:
    made = Embedded({MODEL: BUNDLED}, SystemClock(), Settings(engine_slots=2))
    yield made
    await within(made.close())


in_module = pytest.mark.asyncio(loop_scope="module")


@engine_needed
@in_module
@pytest.mark.parametrize("question", ["What is the weather in Paris?", STORY, "Hello!"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_comes_whatever_is_asked(upstream: Embedded, question: str, stream: bool) -> None:
    heard, stop = await run(upstream, user(question), tools=[WEATHER], tool_choice="required", stream=stream)

    assert stop.reason in ("stop", "length")
    assert heard.text == ""
    assert list(heard.calls) == ["get_weather"]
    if stop.reason == "stop":
        assert list(json.loads(heard.calls["get_weather"])) == ["location"]
    assert len(heard.deltas) > 2, "the arguments come piece by piece"


@engine_needed
@in_module
async def test_the_named_function_is_called_and_no_other(upstream: Embedded) -> None:
    named = {"type": "function", "name": "set_timer"}
    heard, stop = await run(
        upstream, user("What is the weather in Paris?"), tools=[WEATHER, TIMER], tool_choice=named, temperature=0
    )

    assert stop.reason == "stop"
    assert isinstance(json.loads(heard.calls["set_timer"])["minutes"], int)


@engine_needed
@in_module
async def test_the_model_chooses_among_several(upstream: Embedded) -> None:
    asked: dict[str, Any] = {"tools": [WEATHER, TIMER], "tool_choice": "required", "temperature": 0}
    weather, _ = await run(upstream, user("What is the weather in Paris?"), **asked)
    timer, _ = await run(upstream, user("Set a timer for 5 minutes."), **asked)

    assert list(weather.calls) == ["get_weather"]
    assert list(timer.calls) == ["set_timer"]


@engine_needed
@in_module
@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda schema: "-".join(schema["properties"]) or "none")
async def test_the_arguments_are_valid_by_their_schema(upstream: Embedded, parameters: dict[str, Any]) -> None:
    tool = function("fill", parameters=parameters)
    heard, stop = await run(upstream, user("Alice is 30."), tools=[tool], tool_choice="required", temperature=0)

    assert stop.reason == "stop"
    assert jsonschema_rs.is_valid(parameters, json.loads(heard.calls["fill"]))


@engine_needed
@in_module
async def test_a_custom_tool_gets_its_input(upstream: Embedded) -> None:
    tool = {"type": "custom", "name": "note", "description": "Notes a text"}
    heard, _ = await run(
        upstream, user("My name is Alice."), tools=[tool], tool_choice="required", temperature=0, max_output_tokens=60
    )

    assert list(heard.calls) == ["note"]
    assert not heard.calls["note"].startswith("{")


@engine_needed
@in_module
async def test_other_parameters_do_not_stand_in_its_way(upstream: Embedded) -> None:
    form = {"type": "json_schema", "name": "n", "schema": closed(n={"type": "integer"}), "strict": True}
    heard, stop = await run(
        upstream,
        user("Weather in Oslo?"),
        tools=[WEATHER],
        tool_choice="required",
        text={"format": form},
        include=["message.output_text.logprobs"],
        instructions="Be brief.",
        parallel_tool_calls=True,
        temperature=0,
    )

    assert stop.reason == "stop"
    assert list(heard.calls) == ["get_weather"]
    assert stop.usage is not None


# --- Words ---


FUNCTION = {"name": "f", "parameters": closed(n={"type": "integer"})}


def test_a_grammar_has_one_rule_for_each_function() -> None:
    first, start, f, f_json, *rest = grammar_of([FUNCTION, {"name": 'a"b\\'}]).splitlines()

    assert first == "%llguidance {}"
    assert start == "start: call_0 | call_1"
    assert f == r'call_0: "<tool_call>{\"name\": \"f\", \"arguments\": " call_0_json "}</tool_call>"'
    schema = json.loads(f_json.partition("%json ")[2])
    assert schema["properties"] == {"n": {"type": "integer", "minimum": -INTEGER_MAX, "maximum": INTEGER_MAX}}
    assert json.loads(rest[0].partition(": ")[2].partition(" call_1_json")[0]) == head_of('a"b\\')
    assert json.loads(rest[1].partition("%json ")[2])["properties"] == {}


@pytest.mark.parametrize(
    "integer", [{"type": "integer", "minimum": 1, "exclusiveMaximum": 4}, {"type": "integer", "enum": [1]}]
)
def test_integers_that_have_an_end_stay_as_they_are(integer: dict[str, Any]) -> None:
    grammar = grammar_of([{"name": "f", "parameters": closed(n=integer)}])

    assert json.loads(grammar.splitlines()[3].partition("%json ")[2])["properties"] == {"n": integer}


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be kind."}]])
def test_functions_are_told_where_the_template_does_not_show_them(system: list[Any]) -> None:
    form = {"messages": [*system, {"role": "user", "content": "Hi"}], "tools": [{"function": FUNCTION}]}

    body = forced(form, shows_tools=False)

    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert '"name":"f"' in body["messages"][0]["content"]
    assert ("Be kind." in body["messages"][0]["content"]) == bool(system)
    assert not body.keys() & {"tools", "tool_choice"}
    assert "tools" not in body["chat_template_kwargs"]
    assert forced(form, shows_tools=True)["chat_template_kwargs"]["tools"] == form["tools"]


@pytest.mark.parametrize("cut", [1, 3, 1000])
@pytest.mark.parametrize("arguments", ['{"n": 1}', "{}", '{"n": {"m": "}</tool_call>"}}'])
def test_the_text_is_read_back_however_it_is_cut(cut: int, arguments: str) -> None:
    text = "<think>" + head_of("f") + arguments + TAIL
    reader = CallReader([Tool("function", "ff"), Tool("function", "f")])

    told = [call for at in range(0, len(text), cut) for call in reader.take([TextDelta(text[at : at + cut])])]

    calls = [delta for delta in told if isinstance(delta, CallDelta)]
    assert calls == told
    assert (calls[0].name, "".join(call.arguments for call in calls)) == ("f", arguments)
