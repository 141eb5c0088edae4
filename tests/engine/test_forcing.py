"""A call that must be made, and what becomes of replies without it (reference 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from antiphon.engine import forcing
from antiphon.engine.contracts import Contracts, SchemaContract
from antiphon.engine.deltas import CallDelta, Delta, ItemDelta, ReasoningDelta, RefusalDelta, TextDelta
from antiphon.engine.forcing import Forcing, Keeper, demanded
from antiphon.engine.narrowing import chosen, narrowed
from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.engine.strictness import Accept, Fail, Retry, Strictness
from antiphon.protocol import schemas
from antiphon.protocol.items import text_of_raw
from antiphon.protocol.requests import read_create
from antiphon.protocol.tools import Tool, ToolChoice

CITY = b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
LOOK = Tool("function", "look", parameters=msgspec.Raw(CITY))
NOW = Tool("function", "now")
PATCH = Tool("custom", "patch")
ROME = CallDelta(0, "call_1", "look", '{"city":"Rome"}')


def forcing_of(*tools: Tool, native: bool = False) -> Forcing:
    return Forcing(tools, native=native)


def turn(keeper: Forcing, deltas: Sequence[Delta], reason: str = "stop") -> tuple[list[Delta], Any]:
    """One model call, delta by delta; what was told at once, and the verdict."""
    told: list[Delta] = []
    for delta in deltas:
        told += keeper.admit([delta])
    return told, keeper.done(reason)


def plea_of(verdict: object) -> str:
    assert isinstance(verdict, Retry)
    parts = text_of_raw(verdict.messages[-1].view.content)
    assert isinstance(parts, list)
    return parts[0].text or ""


def attempt_of(verdict: object) -> str:
    assert isinstance(verdict, Retry)
    parts = text_of_raw(verdict.messages[0].view.content)
    assert isinstance(parts, list)
    return parts[0].text or ""


# --- What is demanded ---


@pytest.mark.parametrize(
    ("choice", "force", "names"),
    [
        (ToolChoice("required"), True, ["look", "now"]),
        (ToolChoice("required", "function", ("now",)), True, ["now"]),
        (ToolChoice("required", "allowed_tools", ("look", "now")), True, ["look", "now"]),
        (ToolChoice("required"), False, []),
        (ToolChoice("auto", "allowed_tools", ("look",)), True, []),
        (ToolChoice("none"), True, []),
    ],
)
def test_which_tools_must_be_called(choice: ToolChoice, force: bool, names: list[str]) -> None:
    asked = ModelRequest("m", [], [LOOK, NOW], read_create(b'{"input":"-"}'), choice, force)

    assert [tool.name for tool in demanded(asked)] == names


# --- The call is made ---


def test_what_is_said_before_the_call_is_told_with_it() -> None:
    said: list[Delta] = [TextDelta("Let me"), TextDelta(" look."), ROME]

    keeper = forcing_of(LOOK)
    assert keeper.admit(said[:2]) == []
    assert keeper.admit(said[2:]) == said
    assert keeper.admit([TextDelta("!")]) == [TextDelta("!")]
    assert keeper.done("stop") == Accept([])


def test_reasoning_streams_and_so_does_all_of_a_native_reply() -> None:
    thought = ReasoningDelta("hm")
    assert forcing_of(LOOK).admit([thought, TextDelta("Well")]) == [thought]
    assert forcing_of(LOOK, native=True).admit([thought, TextDelta("Well")]) == [thought, TextDelta("Well")]


@pytest.mark.parametrize("native", [False, True])
def test_other_calls_are_not_made(native: bool) -> None:
    other, more = CallDelta(0, "c", "now", "{"), CallDelta(0, None, None, "}")

    told, verdict = turn(forcing_of(LOOK, native=native), [other, more, ROME._replace(key=1)])

    assert told == [ROME._replace(key=1)]
    assert verdict == Accept([])


def test_a_tool_of_the_upstream_meets_the_demand() -> None:
    item = ItemDelta(0, "web_search_call", {})

    assert turn(forcing_of(LOOK), [item]) == ([item], Accept([]))


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_reply_that_was_cut_stands_as_it_is(reason: str) -> None:
    assert turn(forcing_of(LOOK), [TextDelta("Well")], reason) == ([], Accept([TextDelta("Well")]))


def test_a_refusal_stands_as_it_is() -> None:
    assert turn(forcing_of(LOOK), [RefusalDelta("No.")]) == ([], Accept([RefusalDelta("No.")]))


# --- It is not ---


def test_a_model_that_talks_is_asked_again_and_shown_what_it_said() -> None:
    told, verdict = turn(forcing_of(LOOK, NOW), [TextDelta("It is "), TextDelta("sunny.")])

    assert told == []
    assert attempt_of(verdict) == "It is sunny."
    assert plea_of(verdict) == (
        "Your reply must be a tool call, and there was none. Call 'look' or 'now', and say nothing else."
    )


def test_a_model_that_calls_another_tool_is_told_so() -> None:
    _, verdict = turn(forcing_of(LOOK), [CallDelta(0, None, "now", "{}")])

    assert plea_of(verdict) == "You may not call 'now' now. Call 'look', and say nothing else."


def test_many_names_are_not_listed() -> None:
    tools = [Tool("function", f"tool_{n}") for n in range(11)]

    assert "Call any of its tools" in plea_of(forcing_of(*tools).done("stop"))


def alone(*tools: Tool) -> tuple[Forcing, Retry]:
    """A turn that has come to its last resort."""
    keeper = forcing_of(*tools)
    verdicts = [turn(keeper, [TextDelta("No.")])[1] for _ in range(3)]
    assert isinstance(verdicts[-1], Retry)
    return keeper, verdicts[-1]


@pytest.mark.parametrize("text", ['{"city":"Rome"}', ' {"city":"Rome"}\n', '```json\n{"city":"Rome"}\n```'])
def test_of_one_tool_the_arguments_are_asked_for_and_become_the_call(text: str) -> None:
    keeper, verdict = alone(LOOK)
    assert verdict.narrowed == [LOOK]
    assert CITY.decode() in plea_of(verdict)

    told, last = turn(keeper, [ReasoningDelta("hm"), *map(TextDelta, text)])

    assert told == [ReasoningDelta("hm")]
    assert last == Accept([CallDelta(0, None, "look", '{"city":"Rome"}', whole=True)])


def test_of_several_tools_the_model_is_asked_which_and_then_how() -> None:
    keeper, verdict = alone(LOOK, Tool("function", "now", "Tells\nthe time. " * 99))
    assert verdict.narrowed[0] is LOOK
    assert "- look: \n- now: Tells the time. Tells" in plea_of(verdict)
    assert len(plea_of(verdict)) < 400

    told, verdict = turn(keeper, [ReasoningDelta("hm"), TextDelta('{"tool":'), TextDelta('"look"}')])
    assert (told, verdict.narrowed) == ([ReasoningDelta("hm")], [LOOK])
    assert attempt_of(verdict) == '{"tool":"look"}'
    assert CITY.decode() in plea_of(verdict)

    told, verdict = turn(keeper, [TextDelta('{"city":"Rome"}')])
    assert (told, verdict) == ([], Accept([CallDelta(0, None, "look", '{"city":"Rome"}', whole=True)]))


def test_a_model_that_names_no_tool_has_failed() -> None:
    keeper, _ = alone(LOOK, NOW)

    _, verdict = turn(keeper, [TextDelta("Either.")])

    assert isinstance(verdict, Fail)
    assert verdict.error.code == "server_error"
    assert verdict.error.message == "The model did not call 'look' or 'now' after 4 attempts."


def test_a_name_that_was_cut_is_nobody_s_text() -> None:
    keeper, _ = alone(LOOK, NOW)

    assert turn(keeper, [TextDelta('{"to')], "length") == ([], Accept([]))


def test_a_call_that_is_made_after_all_needs_no_name() -> None:
    keeper, _ = alone(LOOK, NOW)

    assert turn(keeper, [ROME]) == ([ROME], Accept([]))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"tool":"look"}', "look"),
        ('```json\n{"tool": "look"}\n```', "look"),
        ('"look"', "look"),
        ("look", "look"),
        ("I would call `look`, I think.", "look"),
        ("look_up", "look_up"),
        ("look-up", None),
        ("look or look_up?", None),
        ('{"tool":"watch"}', None),
        ('{"tool":["look"]}', "look"),
        ("", None),
        ("\ud800", None),
    ],
)
def test_which_tool_a_reply_names(text: str, name: str | None) -> None:
    tool = chosen([LOOK, Tool("function", "look_up")], text)

    assert (tool and tool.name) == name


def test_of_a_custom_tool_the_input_is_asked_for() -> None:
    keeper, verdict = alone(PATCH)
    assert "the input of the call" in plea_of(verdict)

    assert turn(keeper, [TextDelta("-a\n+b\n")]) == (
        [],
        Accept([CallDelta(0, None, "patch", "-a\n+b\n", whole=True)]),
    )


def test_arguments_that_are_no_object_are_the_end() -> None:
    keeper, _ = alone(LOOK)

    _, verdict = turn(keeper, [TextDelta("Rome")])

    assert isinstance(verdict, Fail)
    assert verdict.error.message == "The model did not call 'look' after 4 attempts."


def test_arguments_that_were_cut_are_a_call_that_was_cut() -> None:
    keeper, _ = alone(LOOK)

    assert turn(keeper, [TextDelta('{"ci')], "length") == ([], Accept([CallDelta(0, None, "look", '{"ci')]))


def test_too_much_talk_is_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forcing, "HELD_CHARS_MAX", 3)

    _, verdict = turn(forcing_of(LOOK), [TextDelta("Well"), TextDelta("...")])

    assert isinstance(verdict, Fail)


def test_the_request_for_arguments_offers_no_tools_and_binds_the_text() -> None:
    request = read_create(b'{"input":"-","tools":[{"type":"function","name":"look"}],"tool_choice":"required"}')
    asked = ModelRequest("m", [], [LOOK], request, ToolChoice("required"))

    worded = narrowed(asked, [LOOK])
    assert (worded.tools, worded.choice.mode, worded.force_choice) == ([], "none", False)
    assert worded.request.text is not None
    assert worded.request.text.format is not None
    assert bytes(worded.request.text.format.schema) == CITY
    assert msgspec.json.decode(worded.request.raw_text)["format"]["type"] == "json_schema"

    assert narrowed(asked, [PATCH]).request.text is None


def test_the_request_for_a_name_offers_no_tools_and_binds_the_text_to_the_names() -> None:
    request = read_create(b'{"input":"-","text":{"verbosity":"low"},"tool_choice":"required"}')
    asked = ModelRequest("m", [], [LOOK, PATCH], request, ToolChoice("required"))

    worded = narrowed(asked, [LOOK, PATCH])
    assert (worded.tools, worded.choice.mode, worded.force_choice) == ([], "none", False)
    assert worded.request.text is not None
    assert worded.request.text.verbosity == "low"
    assert worded.request.text.format is not None
    schema = msgspec.json.decode(worded.request.text.format.schema)
    assert schema["properties"] == {"tool": {"type": "string", "enum": ["look", "patch"]}}
    assert msgspec.json.decode(worded.request.raw_text)["format"]["strict"] is True


# --- With what binds the arguments ---


def keeper_of(*tools: Tool) -> Keeper:
    contracts = Contracts(functions={"look": SchemaContract(msgspec.json.decode(CITY), schemas.of_format("made"))})
    return Keeper(Strictness(contracts), forcing_of(*tools))


async def test_a_call_that_breaks_its_schema_is_still_demanded() -> None:
    keeper = keeper_of(LOOK)

    assert keeper.admit([TextDelta("Well"), ROME._replace(arguments='{"city":1}')]) == [TextDelta("Well")]
    verdict = await keeper.done("stop")
    assert "does not match" in plea_of(verdict)
    assert keeper.admit([TextDelta("Sorry.")]) == []
    assert "must be a tool call" in plea_of(await keeper.done("stop"))
    assert keeper.admit([ROME]) == []
    assert await keeper.done("stop") == Accept([ROME])


async def test_arguments_alone_are_bound_by_the_schema_as_well() -> None:
    keeper = keeper_of(LOOK)
    for _ in range(3):
        keeper.admit([TextDelta("No.")])
        assert isinstance(await keeper.done("stop"), Retry)

    keeper.admit([TextDelta('{"city":1}')])
    verdict = await keeper.done("stop")
    assert isinstance(verdict, Retry)
    assert verdict.narrowed == [LOOK]
    keeper.admit([TextDelta('{"city":"Rome"}')])
    assert await keeper.done("stop") == Accept([CallDelta(0, None, "look", '{"city":"Rome"}', whole=True)])
