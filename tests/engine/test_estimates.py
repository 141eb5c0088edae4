"""What a reply took where its model's side does not say, and how much of that was thought."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.engine.playbook import call, reasoning, refusal, text

from antiphon.engine.context import view
from antiphon.engine.deltas import Delta, SummaryDelta
from antiphon.engine.estimates import Spoken, prompt_tokens, tokens_of
from antiphon.engine.ports.upstreams import ModelRequest
from antiphon.protocol.items import decode_item
from antiphon.protocol.requests import read_create
from antiphon.protocol.responses import OutputDetails, Usage
from antiphon.protocol.tools import Tool

ASKED = ModelRequest(
    "m", view([b'{"type":"message","role":"user","content":"Hello"}']), [], read_create(b'{"input":"-"}')
)


def heard(*deltas: Delta) -> Spoken:
    spoken = Spoken()
    for delta in deltas:
        spoken.hear(delta)
    return spoken


def told(output: int, reasoning_tokens: int = 0) -> Usage:
    return Usage(
        7, output_tokens=output, output_tokens_details=OutputDetails(reasoning_tokens), total_tokens=7 + output
    )


@pytest.mark.parametrize(
    ("deltas", "output", "expected"),
    [
        ([reasoning("x" * 30), text("y" * 10)], 100, 75),
        ([reasoning("x" * 30), call(0, "y" * 6, name="look")], 100, 75),
        ([reasoning("x" * 30), refusal("y" * 10)], 100, 75),
        ([reasoning("日" * 10), text("y" * 10)], 100, 75),
        ([SummaryDelta("x" * 30), text("y" * 10)], 100, 75),
        ([reasoning("x" * 30), SummaryDelta("x" * 9), text("y" * 10)], 100, 75),
        ([reasoning("x" * 30)], 100, 100),
        ([reasoning("x" * 30), text("y")], 0, 0),
        ([reasoning("x"), text("y" * 999)], 10, 0),
        ([text("y" * 10)], 100, 0),
        ([], 100, 0),
    ],
)
def test_reasoning_has_its_part_of_the_tokens_that_were_told(
    deltas: Sequence[Delta], output: int, expected: int
) -> None:
    assert heard(*deltas).usage(told(output), ASKED) == told(output, expected)


def test_a_number_that_was_told_stands() -> None:
    assert heard(reasoning("x" * 30), text("y" * 10)).usage(told(100, 3), ASKED) == told(100, 3)


def test_where_nothing_was_told_all_is_estimated() -> None:
    usage = heard(reasoning("x" * 30), text("y" * 10)).usage(None, ASKED)

    assert usage.estimated is True
    assert usage.input_tokens == prompt_tokens(ASKED) == 4 + 2
    assert (usage.output_tokens, usage.output_tokens_details.reasoning_tokens) == (10, 7)
    assert usage.total_tokens == 16


def test_items_are_measured_as_their_deltas_are() -> None:
    spoken = Spoken()
    for body in (
        b'{"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"xxxxxx"}]}',
        b'{"type":"message","role":"assistant","content":[{"type":"output_text","text":"yyy"}]}',
        b'{"type":"function_call","call_id":"c","name":"look","arguments":"{}"}',
        b'{"type":"web_search_call","id":"ws_1","content":{"a":1}}',
    ):
        spoken.read(decode_item(body))

    deltas = heard(reasoning("xxxxxx"), text("yyy"), call(0, "{}", name="look"))
    assert spoken.usage(None, ASKED) == deltas.usage(None, ASKED)


def test_tools_count_with_their_grammars_and_those_of_the_upstream_as_they_came() -> None:
    asked = ModelRequest("m", [], [], ASKED.request)
    grammar = Tool("custom", "calc", grammar=("lark", "x" * 92))
    search = Tool("web_search", raw=b'{"type":"web_search"}' + b" " * 79)

    asked.tools = [grammar]
    assert prompt_tokens(asked) == (92 + 4 + len("null")) // 4
    asked.tools = [search]
    assert prompt_tokens(asked) == 25


def test_bytes_make_tokens() -> None:
    assert [tokens_of(said) for said in ("", "a", "abcd", "abcde", "日本", "\ud800")] == [0, 1, 1, 2, 2, 1]
