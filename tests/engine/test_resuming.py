"""Runs taken up where their log ends (docs/log.md, "Taking over"): every log is cut behind every publish."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.engine.loop import Loop, Notes, call, says

from antiphon.engine.deltas import (
    AnnotationDelta,
    CallDelta,
    ItemDelta,
    ItemEvent,
    PartEnd,
    ReasoningDelta,
    SummaryDelta,
    TextDelta,
)
from antiphon.engine.estimates import tokens_of
from antiphon.engine.ports.tools import ToolResult
from antiphon.engine.ports.upstreams import Stop
from antiphon.engine.turns import Limits
from antiphon.protocol.events import Event
from antiphon.upstreams.scripted import Script

PRINTER = [{"type": "antiphon:scripted", "name": "scripted", "behaviour": "answer", "output": "42"}]
SCHEMA = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}


class Cut(Exception):
    """The process dies here."""


class CutNotes(Notes):
    """A journal whose process dies at its n-th write, before or after it."""

    def __init__(self, at: int, *, before: bool) -> None:
        super().__init__()
        self._left = at
        self._before = before

    async def begin(self, call: Any) -> None:
        self._count(before=True)
        await super().begin(call)
        self._count(before=False)

    async def complete(self, call: Any, result: ToolResult) -> None:
        self._count(before=True)
        await super().complete(call, result)
        self._count(before=False)

    def _count(self, *, before: bool) -> None:
        if before is self._before:
            self._left -= 1
            if self._left == 0:
                raise Cut


def copy(notes: Notes) -> Notes:
    other = Notes()
    other.begun, other.completed = list(notes.begun), dict(notes.completed)
    return other


async def whole(*scripts: Script, **parameters: Any) -> Loop:
    loop = Loop(*scripts, background=True, **parameters)
    await loop.run()
    return loop


async def taken_up(
    log: Sequence[list[Event]], *scripts: Script, journal: Notes | None = None, **parameters: Any
) -> Loop:
    loop = Loop(*scripts, background=True, after=log, journal=journal, **parameters)
    await loop.run()
    return loop


def deltas(loop: Loop, kind: str) -> list[str]:
    return [event["delta"] for event in loop.events if event["type"] == f"response.{kind}.delta"]


@pytest.mark.parametrize("prefill", [True, False])
async def test_cut_text_is_continued_in_place(prefill: bool) -> None:
    first = await whole(says(TextDelta("Once "), TextDelta("upon")), max_output_tokens=100)
    cut = [events for events in first.published if not any(event.type.endswith(".done") for event in events)]

    again = await taken_up(cut, says(TextDelta(" a time")), prefill=prefill, max_output_tokens=100)

    assert again.output == ["message 'Once upon a time'"]
    assert deltas(again, "output_text") == ["Once ", "upon", " a time"]
    [asked] = again.requests
    assert asked.request.max_output_tokens == 100 - tokens_of("Once upon")
    assert asked.prefix == ("Once upon" if prefill else None)
    assert len(again.seen[0]) == (1 if prefill else 3)
    if not prefill:
        assert again.seen[0][1] == "assistant Once upon"
        assert again.seen[0][2].startswith("user Your last message was cut off")
    assert again.response["usage"]["estimated"] is True


async def test_cut_reasoning_is_closed_as_seen() -> None:
    first = await whole(says(ReasoningDelta("Let me "), ReasoningDelta("see")))
    cut = [events for events in first.published if not any(event.type.endswith(".done") for event in events)]

    again = await taken_up(cut, says(ReasoningDelta("Well"), TextDelta("Yes.")))

    kinds = [(item["type"], item["status"]) for item in again.response["output"]]
    assert kinds == [("reasoning", "completed"), ("reasoning", "completed"), ("message", "completed")]
    assert again.response["output"][0]["content"][0]["text"] == "Let me see"


async def test_calls_and_bound_text_appear_whole() -> None:
    """docs/log.md, I9."""
    pieces = [CallDelta(0, "call_1", "f", '{"a"'), CallDelta(1, "call_2", "g", ""), CallDelta(0, None, None, ":1}")]
    tools = [{"type": "function", "name": name} for name in ("f", "g")]
    loop = await whole(says(TextDelta("Well. "), *pieces, TextDelta("So.")), tools=tools)
    bound = await whole(says(TextDelta('{"a"'), TextDelta(":1}")), text=SCHEMA)

    assert deltas(loop, "function_call_arguments") == ['{"a":1}', "{}"]
    assert deltas(loop, "output_text") == ["Well. ", "So."]
    assert deltas(bound, "output_text") == ['{"a":1}']


async def test_what_was_held_back_is_kept_when_the_model_is_cut() -> None:
    loop = await whole([[TextDelta('{"a"')], Stop("length")], text=SCHEMA)

    assert loop.response["status"] == "incomplete"
    assert loop.output == ["message '{\"a\"'"]


async def test_a_log_cut_behind_calls_of_the_client_is_complete() -> None:
    tools = [*PRINTER, {"type": "function", "name": "f"}]
    first = await whole(says(call(0, "f"), call(1)), tools=tools)
    hosted = next(index for index, events in enumerate(first.published) if b"scripted_call" in events[-1].data)

    for upto in range(hosted + 1, len(first.published)):
        again = await taken_up(first.published[:upto], tools=tools, journal=copy(first.journal))
        assert again.response["status"] == "completed"
        assert not again.requests
        assert again.tool.runs.total() == 0


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", range(1, 5))
async def test_a_hosted_call_is_made_once_wherever_the_journal_was_cut(at: int, before: bool, read_only: bool) -> None:
    """docs/log.md, I8: two calls are four writes, each cut before and after."""
    scripts = [
        says(TextDelta("Look: "), call(0, arguments='{"n":1}'), call(1, arguments='{"n":2}')),
        says(TextDelta("Done.")),
    ]
    notes = CutNotes(at, before=before)
    first = Loop(*scripts, tools=PRINTER, background=True, journal=notes, read_only=read_only)
    with pytest.raises(Cut):
        await first.run()

    again = await taken_up(
        first.published, says(TextDelta("Oh.")), tools=PRINTER, journal=copy(notes), read_only=read_only
    )

    runs = first.tool.runs + again.tool.runs
    assert max(runs.values(), default=0) <= (2 if read_only else 1)
    for item in again.journal.begun:
        result = again.journal.completed[item.item_id]
        assert result.completed or (not read_only and "interrupted" in result.for_model)
        shown = next(one for one in again.response["output"] if one["id"] == item.item_id)
        assert shown["status"] == ("completed" if result.completed else "failed")
    interrupted = [item for item in notes.begun if item.item_id not in notes.completed]
    assert again.tool.runs.total() == (len(interrupted) if read_only else 0)
    assert len(again.requests) == 1
    told = [line for line in again.seen[0] if line.startswith("output")]
    assert len(told) == len(notes.begun)


async def test_an_operator_may_have_interrupted_calls_made_again() -> None:
    notes = CutNotes(1, before=False)
    first = Loop(says(call(0)), tools=PRINTER, background=True, journal=notes, read_only=False)
    with pytest.raises(Cut):
        await first.run()

    limits = Limits(repeat_interrupted_calls=True)
    again = await taken_up(
        first.published, says(TextDelta("Oh.")), tools=PRINTER, journal=copy(notes), read_only=False, limits=limits
    )

    assert again.tool.runs.total() == 1
    assert again.response["output"][0]["output"] == "42"


async def test_a_log_cut_behind_every_publish_comes_to_a_lawful_end() -> None:
    """The loop's own checks see every event list whole; nothing that was published is lost or said twice."""
    scripts = [
        says(ReasoningDelta("Hm"), TextDelta("Look: "), call(0, arguments='{"n":1}'), call(1, arguments='{"n":2}')),
        says(TextDelta("It is "), TextDelta("42."), call(0, arguments='{"n":3}')),
        says(TextDelta("Done.")),
    ]
    first = await whole(*scripts, tools=PRINTER)
    for upto in range(len(first.published)):
        log = first.published[:upto]
        ids = {json.loads(event.data).get("item_id") for events in log for event in events}
        ids |= {json.loads(event.data).get("item", {}).get("id") for events in log for event in events}
        known = Notes()  # what was noted when the log ended here: calls that it shows
        known.begun = [one for one in first.journal.begun if one.item_id in ids]
        known.completed = {id: result for id, result in first.journal.completed.items() if id in ids}

        again = await taken_up(log, says(TextDelta("Again.")), tools=PRINTER, journal=known)

        assert again.tool.runs.total() == 0
        assert again.response["status"] == "completed"
        assert again.response["output"][-1]["content"][0]["text"].endswith("Again.")


# --- Custom tools, namespaces and tool searches ---

CRM = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [
        {"type": "custom", "name": "query", "description": "Asks.", "defer_loading": True},
        {"type": "function", "name": "delete", "description": "Deletes.", "defer_loading": True},
    ],
}
FINDER = [{"type": "tool_search"}, CRM]
QUERY = CallDelta(0, "c1", "crm__query", "select 1", whole=True)


@pytest.mark.parametrize("limit", [None, 1])
async def test_what_a_search_found_is_there_wherever_the_log_was_cut(limit: int | None) -> None:
    scripts = [says(TextDelta("Look: "), call(0, "tool_search", '{"query": "asks"}')), says(QUERY)]
    first = await whole(*scripts, tools=FINDER, max_tool_calls=limit)

    for upto in range(len(first.published)):
        rest = [says(call(0, "tool_search", '{"query": "asks"}')), says(QUERY), says(QUERY)]
        again = await taken_up(first.published[:upto], *rest, tools=FINDER, max_tool_calls=limit)

        kinds = [item["type"] for item in again.response["output"]]
        searched = sum(b"tool_search_output" in event.data for batch in first.published[:upto] for event in batch) > 0
        assert kinds.count("tool_search_call") == kinds.count("tool_search_output")
        assert kinds[-1] == "custom_tool_call"
        if searched and again.requests:
            assert [tool.name for tool in again.requests[0].tools] == ["tool_search", "crm__query"]
            assert again.seen[0][-1].endswith("These tools can be called from now on: crm__query.")
            # The search of the first process counts, so that with a limit of one there is no second.
            assert kinds.count("tool_search_call") == (1 if limit else 2)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (QUERY, "custom_tool_call"),
        (CallDelta(0, "c1", "crm__delete", "{}"), "function_call"),
        (CallDelta(0, "c1", "tool_search", "{}"), "tool_search_call"),
    ],
)
async def test_a_log_cut_behind_any_call_of_the_client_is_complete(asked: CallDelta, kind: str) -> None:
    tools = [{"type": "tool_search", "execution": "client"}, CRM]
    first = await whole(says(TextDelta("Look: "), asked), tools=tools)
    behind = next(n for n, batch in enumerate(first.published) if any(kind.encode() in event.data for event in batch))

    for upto in range(behind + 1, len(first.published) + 1):
        again = await taken_up(first.published[:upto], tools=tools)
        assert not again.requests
        assert again.response["status"] == "completed"
        assert again.response["output"] == first.response["output"]


async def test_half_a_custom_call_is_lost_and_asked_for_anew() -> None:
    """docs/log.md, I9: what cannot be continued is not in the log before it is whole."""
    tools = [{"type": "custom", "name": "patch"}]
    halves = [CallDelta(0, "c1", "patch", "*** Be"), CallDelta(0, None, None, "gin", whole=True)]
    first = await whole([[TextDelta("Look: ")], [halves[0]], [halves[1]]], tools=tools)
    cut = [batch for batch in first.published if not any(b"custom_tool_call" in event.data for event in batch)]

    again = await taken_up(cut, says(CallDelta(0, "c2", "patch", "*** Begin", whole=True)), tools=tools)

    assert deltas(again, "custom_tool_call_input") == ["*** Begin"]
    assert [item["type"] for item in again.response["output"]] == ["message", "custom_tool_call"]


# --- Items that the upstream tells as items ---

ROLE = {"role": b'"assistant"'}
MESSAGE, MESSAGE_DONE = ItemDelta(0, "message", ROLE), ItemDelta(0, "message", ROLE, "completed")
THOUGHT, THOUGHT_DONE = ItemDelta(0, "reasoning", {}), ItemDelta(0, "reasoning", {}, "completed")
SEARCH = ItemDelta(1, "web_search_call", {"action": b'{"type":"search","query":"x"}'})
SEARCHING = [ItemEvent(1, f"response.web_search_call.{how}", {}) for how in ("in_progress", "searching")]
SEARCHED = [ItemEvent(1, "response.web_search_call.completed", {}), SEARCH._replace(status="completed")]
#: Each delta in a read of its own, so that the log can be cut between any two.
CITED = AnnotationDelta(b'{"type":"url_citation","url":"http://x","title":"X","start_index":0,"end_index":4}')
ITEMWISE = [
    THOUGHT, SummaryDelta("I "), SummaryDelta("look."), PartEnd(), SummaryDelta("Then I say it."), PartEnd(),
    ReasoningDelta("Hm"), PartEnd(), THOUGHT_DONE,
    SEARCH, *SEARCHING, *SEARCHED,
    MESSAGE._replace(key=2), TextDelta("Once "), CITED, TextDelta("upon"),
    PartEnd(), TextDelta("a time"), PartEnd(), MESSAGE_DONE._replace(key=2),
]  # fmt: skip


def until(log: Sequence[list[Event]], last: str) -> list[list[Event]]:
    """The log up to the last event of this type."""
    places = [index for index, events in enumerate(log) if any(event.type == f"response.{last}" for event in events)]
    return list(log[: places[-1] + 1])


def shown(loop: Loop) -> list[tuple[str, str]]:
    return [(item["type"], item["status"]) for item in loop.response["output"]]


@pytest.mark.parametrize("again_as_items", [True, False])
async def test_items_cut_anywhere_come_to_a_lawful_end(again_as_items: bool) -> None:
    """The loop's own checks see every event list whole: no part and no item is closed twice or left open."""
    first = await whole([[delta] for delta in ITEMWISE])
    more = [MESSAGE, TextDelta("Again."), PartEnd(), MESSAGE_DONE] if again_as_items else [TextDelta("Again.")]
    for upto in range(len(first.published)):
        again = await taken_up(first.published[:upto], says(*more))

        assert again.response["status"] == "completed"
        assert again.response["output"][-1]["content"][-1]["text"].endswith("Again.")
        assert all(status in ("completed", "failed") for _, status in shown(again))


async def test_an_item_of_the_upstreams_own_tools_is_closed_as_cut() -> None:
    first = await whole([[SEARCH], SEARCHING, SEARCHED])
    cut = until(first.published, "web_search_call.searching")

    again = await taken_up(cut, says("Well."))

    assert shown(again) == [("web_search_call", "failed"), ("message", "completed")]


async def test_a_call_of_its_tools_that_was_cut_has_failed() -> None:
    read = ItemDelta(1, "file_search_call", {"queries": b"[]"})
    told = [ItemEvent(1, f"response.file_search_call.{how}", {}) for how in ("in_progress", "searching", "completed")]
    first = await whole([[read], told, [read._replace(status="completed")]])

    again = await taken_up(until(first.published, "output_item.added"), says("Well."))

    assert shown(again) == [("file_search_call", "failed"), ("message", "completed")]


async def test_text_that_was_cut_goes_on_in_the_item_that_the_upstream_begins_anew() -> None:
    first = await whole([[MESSAGE], [TextDelta("Once ")], [TextDelta("upon")], [MESSAGE_DONE]])

    for log in (until(first.published, "output_text.delta"), until(first.published, "output_item.added")):
        again = await taken_up(log[:-1] if len(log) > 3 else log, says(MESSAGE, TextDelta("a time"), MESSAGE_DONE))
        assert [len(item["content"]) for item in again.response["output"]] == [1]
        assert again.response["output"][0]["content"][0]["text"].endswith("a time")
        assert again.response["output"][0]["id"] == first.response["output"][0]["id"]


async def test_a_summary_that_was_cut_is_closed_as_seen() -> None:
    first = await whole([[THOUGHT], [SummaryDelta("I "), SummaryDelta("look.")], [THOUGHT_DONE]])

    again = await taken_up(until(first.published, "reasoning_summary_text.delta"), says("Well."))

    assert shown(again) == [("reasoning", "completed"), ("message", "completed")]
    assert again.response["output"][0]["summary"] == [{"type": "summary_text", "text": "I look."}]


RUN = {"call_id": b'"c1"', "action": b'{"commands":["ls"],"timeout_ms":null,"max_output_length":null}'}
RUN |= {"environment": b"null"}
ASKING = {
    "computer_call": {"call_id": b'"c1"', "action": b'{"type":"screenshot"}', "pending_safety_checks": b"[]"},
    "shell_call": RUN,
    "apply_patch_call": {"call_id": b'"c1"', "operation": b'{"type":"delete_file","path":"a"}'},
    "mcp_approval_request": {"server_label": b'"s"', "name": b'"f"', "arguments": b'"{}"'},
}


@pytest.mark.parametrize("kind", ASKING)
async def test_a_log_cut_behind_a_call_of_the_upstreams_tools_is_complete(kind: str) -> None:
    asked = [ItemDelta(1, kind, ASKING[kind]), ItemDelta(1, kind, {}, "completed")]
    first = await whole([[TextDelta("Look: ")], [asked[0]], [TextDelta("now")], [asked[1]]])

    for upto in range(len(first.published) + 1):
        log = first.published[:upto]
        there = any(kind.encode() in event.data for batch in log for event in batch)
        again = await taken_up(log, says("Again."))
        assert (not again.requests) == there
        if there:
            assert again.response["output"] == first.response["output"]


async def test_a_call_that_the_upstream_answered_itself_asks_nobody() -> None:
    output = {"call_id": b'"c1"', "output": b"[]", "max_output_length": b"null"}
    ran = [ItemDelta(1, "shell_call", RUN, "completed"), ItemDelta(2, "shell_call_output", output, "completed")]
    loop = await whole(says(*ran, call(3)), says("Done."), tools=PRINTER)

    assert len(loop.requests) == 2
    kinds = [item["type"] for item in loop.response["output"]]
    assert kinds == ["shell_call", "shell_call_output", "antiphon:scripted_call", "message"]
