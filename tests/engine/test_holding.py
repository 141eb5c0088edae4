"""What a background run tells whole only, and in which order (docs/log.md, I9)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from antiphon.engine.deltas import (
    AnnotationDelta,
    CallDelta,
    Delta,
    ItemDelta,
    ItemEvent,
    PartEnd,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from antiphon.engine.holding import Holding

NOTE, OTHER = AnnotationDelta(b'{"type":"url_citation"}'), AnnotationDelta(b'{"type":"file_citation"}')


def held(deltas: Sequence[Delta], *, text: bool) -> tuple[list[Delta], list[Delta]]:
    """What is told at once, read by read of one delta each, and what at the end."""
    holding = Holding(text=text)
    told = [one for delta in deltas for one in holding.take([delta])]
    empty, rest = holding.empty, holding.rest()
    assert empty == (not rest)
    assert holding.empty
    return told, rest


def test_bound_text_is_one_piece_with_its_annotations_and_what_follows_it_behind_it() -> None:
    begun, over = ItemDelta(0, "message", {}), ItemDelta(0, "message", {}, "completed")
    searched = ItemDelta(1, "web_search_call", {}, "completed")
    said = [
        begun, TextDelta('{"a"', b"[1]"), NOTE, TextDelta(":1", b"[2,3]"), OTHER, TextDelta("}"), PartEnd(),
        TextDelta("[]"), over, searched, ReasoningDelta("Hm"), RefusalDelta("No"),
    ]  # fmt: skip

    told, rest = held(said, text=True)

    assert told == [begun]
    assert rest == [
        TextDelta('{"a":1}', b"[1,2,3]"), NOTE, OTHER, PartEnd(),
        TextDelta("[]"), over, searched, ReasoningDelta("Hm"), RefusalDelta("No"),
    ]  # fmt: skip


def test_what_comes_before_bound_text_is_told_at_once() -> None:
    before = [
        ItemDelta(0, "reasoning", {}),
        ReasoningDelta("Hm"),
        PartEnd(),
        ItemDelta(0, "reasoning", {}, "completed"),
    ]

    assert held([*before, TextDelta("{}"), PartEnd()], text=True) == (before, [TextDelta("{}"), PartEnd()])


def test_text_that_nothing_binds_streams_with_its_parts() -> None:
    said = [ItemDelta(0, "message", {}), TextDelta("a"), NOTE, PartEnd(), ItemDelta(0, "message", {}, "completed")]

    assert held(said, text=False) == (said, [])


@pytest.mark.parametrize("text", [False, True])
def test_calls_that_the_client_answers_come_last_and_whole(text: bool) -> None:
    begun, event = ItemDelta(1, "shell_call", {}), ItemEvent(1, "response.shell_call_command.delta", {})
    over = ItemDelta(1, "shell_call", {}, "completed")
    call = [CallDelta(2, "c", "f", '{"a"'), CallDelta(2, None, None, ":1}", whole=True)]
    reads = [begun, event, call[0], ReasoningDelta("Hm"), over, call[1]]

    assert held(reads, text=text) == (
        [ReasoningDelta("Hm")],
        [CallDelta(2, "c", "f", '{"a":1}', True), begun, event, over],
    )


def test_calls_that_turn_out_to_be_answered_are_told_before_the_answer() -> None:
    ran, late = ItemDelta(1, "shell_call", {}), ItemDelta(1, "shell_call", {}, "completed")
    output, other = ItemDelta(2, "shell_call_output", {}, "completed"), ItemDelta(3, "computer_call", {}, "completed")

    told, rest = held([ran, other, TextDelta("Hm"), output, late], text=False)

    assert (told, rest) == ([TextDelta("Hm"), ran, output, late], [other])


def test_calls_of_the_upstreams_own_tools_are_told_as_they_go() -> None:
    said = [
        ItemDelta(0, "web_search_call", {}),
        ItemEvent(0, "response.web_search_call.searching", {}),
        ItemDelta(0, "web_search_call", {}, "completed"),
    ]

    assert held(said, text=False) == (said, [])
