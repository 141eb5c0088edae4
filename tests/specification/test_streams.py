"""The laws of a stream: good streams pass, and each law is seen to bite when one thing is broken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.specification import examples
from tests.specification.conformance import check_stream, without_keepalives

Json = dict[str, Any]
Stream = Callable[[], list[Json]]
Mutation = Callable[[list[Json]], list[Json]]

STREAMS: tuple[Stream, ...] = (
    examples.text,
    examples.cited,
    examples.refusal,
    examples.call,
    examples.reasoning,
    examples.custom_call,
    examples.hosted,
    examples.incomplete,
    examples.cut_call,
    examples.failed,
    examples.failed_with_error_event,
    examples.cancelled,
    examples.never_started,
)


def find(events: list[Json], kind: str, nth: int = 0) -> Json:
    return [event for event in events if event["type"] == f"response.{kind}"][nth]


def renumbered(events: list[Json]) -> list[Json]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def replace(kind: str, nth: int = 0, **changes: Any) -> Mutation:
    def change(events: list[Json]) -> list[Json]:
        find(events, kind, nth).update(changes)
        return events

    return change


def drop(kind: str, nth: int = 0) -> Mutation:
    return lambda events: renumbered([event for event in events if event is not find(events, kind, nth)])


def swap(first: str, second: str) -> Mutation:
    """Exchange the first events of two kinds."""

    def change(events: list[Json]) -> list[Json]:
        one, other = events.index(find(events, first)), events.index(find(events, second))
        events[one], events[other] = events[other], events[one]
        return renumbered(events)

    return change


def twice(kind: str) -> Mutation:
    def change(events: list[Json]) -> list[Json]:
        events.insert(events.index(find(events, kind)), copy.deepcopy(find(events, kind)))
        return renumbered(events)

    return change


def inside(kind: str, *path: str | int, value: Any) -> Mutation:
    """Set what lies at `path` inside the first event of a kind."""

    def change(events: list[Json]) -> list[Json]:
        node: Any = find(events, kind)
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value
        return events

    return change


def error_before_end(events: list[Json]) -> list[Json]:
    return renumbered([*events[:-1], examples.failed_with_error_event()[-2], events[-1]])


def early_output(events: list[Json]) -> list[Json]:
    find(events, "in_progress")["response"]["output"] = [examples.message("in_progress")]
    return events


def still_running(events: list[Json]) -> list[Json]:
    # A message whose text was closed, so that the status alone is wrong.
    find(events, "output_item.done")["item"] = examples.message("in_progress", examples.text_part("Hello world"))
    return events


def early_content(events: list[Json]) -> list[Json]:
    find(events, "output_item.added")["item"]["content"] = [examples.text_part()]
    return events


def as_text(events: list[Json]) -> list[Json]:
    find(events, "content_part.added")["part"] = examples.text_part()
    return events


def no_deltas(events: list[Json]) -> list[Json]:
    return renumbered([event for event in events if not event["type"].endswith("arguments.delta")])


def failed_as_completed(events: list[Json]) -> list[Json]:
    find(events, "output_item.done", 3)["item"]["status"] = "completed"
    return events


def other_output(events: list[Json]) -> list[Json]:
    events[-1]["response"]["output"] = [examples.message("completed", examples.text_part("Bye"))]
    return events


def short_output(events: list[Json]) -> list[Json]:
    events[-1]["response"]["output"].pop()
    return events


def cut_between(events: list[Json]) -> list[Json]:
    find(events, "output_item.done")["item"]["status"] = "incomplete"
    output = events[-1]["response"]["output"]
    end = {"type": "response.incomplete", "response": examples.response("incomplete", output=output)}
    return renumbered([*events[:-1], end])


def late_delta(events: list[Json]) -> list[Json]:
    position = events.index(find(events, "output_text.done"))
    return renumbered([*events[: position + 1], {**events[position - 1], "delta": ""}, *events[position + 1 :]])


SECOND = examples.message("in_progress", identifier="fc_1")
MUTATIONS: tuple[tuple[str, Stream, Mutation, str], ...] = (
    ("number skipped", examples.text, replace("output_text.delta", 1, sequence_number=99), "sequence_number is 99"),
    ("number repeated", examples.text, replace("output_text.delta", 1, sequence_number=4), "sequence_number is 4"),
    ("first missing", examples.text, drop("created"), "'in_progress' is not legal in the state 'the start'"),
    ("queued late", examples.reasoning, swap("queued", "in_progress"), "'queued' is not legal in the state 'running'"),
    ("no in_progress", examples.text, drop("in_progress"), "is not legal in the state 'created'"),
    ("two in_progress", examples.text, twice("in_progress"), "'in_progress' is not legal in the state 'running'"),
    ("no terminal", examples.text, drop("completed"), "without a terminal event"),
    ("two terminals", examples.text, twice("completed"), "'completed' is not legal in the state 'the end'"),
    ("event after the end", examples.text, swap("completed", "output_item.done"), "added and never done"),
    ("error, then completed", examples.text, error_before_end, "in the state 'erring'"),
    ("id changes", examples.text, inside("in_progress", "response", "id", value="resp_2"), "id was 'resp_1'"),
    ("date changes", examples.text, inside("in_progress", "response", "created_at", value=5), "created_at was"),
    ("wrong status", examples.text, inside("in_progress", "response", "status", value="queued"), "status is 'queued'"),
    ("early output", examples.text, early_output, "output before any item"),
    ("item never done", examples.text, drop("output_item.done"), "items .0. were added and never done"),
    ("item done twice", examples.text, twice("output_item.done"), "item 0 is already done"),
    ("item never added", examples.text, drop("output_item.added"), "no item was added at output_index 0"),
    ("item added twice", examples.text, twice("output_item.added"), "output_index is 0, the next one is 1"),
    ("id of item twice", examples.call, replace("output_item.added", 1, item=SECOND), "a second item with id 'fc_1'"),
    ("output_index skips", examples.text, replace("output_item.added", output_index=1), "output_index is 1"),
    ("delta of no item", examples.text, replace("output_text.delta", output_index=3), "no item was added"),
    ("item_id of another", examples.text, replace("output_text.delta", item_id="msg_9"), "item_id is 'msg_9'"),
    ("identity: id", examples.text, inside("output_item.done", "item", "id", value="msg_9"), "id was 'msg_1'"),
    ("identity: name", examples.cut_call, inside("output_item.done", "item", "name", value="x"), "name was 'weather'"),
    ("identity: call", examples.cut_call, inside("output_item.done", "item", "call_id", value="x"), "call_id was"),
    ("done in progress", examples.text, still_running, "done with status 'in_progress'"),
    ("added completed", examples.text, inside("output_item.added", "item", "status", value="completed"), "added with"),
    ("added with content", examples.text, early_content, "added with .'content'. already"),
    ("part added full", examples.text, inside("content_part.added", "part", "text", value="H"), "text already in it"),
    ("delta before part", examples.text, drop("content_part.added"), "'output_text.delta' is not legal"),
    ("part not done", examples.text, drop("content_part.done"), "in the state 'after the text'"),
    ("part added twice", examples.text, twice("content_part.added"), "in the state 'in a text part'"),
    ("content_index skips", examples.text, replace("content_part.added", content_index=1), "content_index is 1"),
    ("content_index of another", examples.cited, replace("output_text.delta", 2, content_index=0), "open"),
    ("text not done", examples.text, drop("output_text.done"), "'content_part.done output_text' is not legal"),
    ("delta after done", examples.text, late_delta, "in the state 'after the text'"),
    ("delta lost", examples.text, drop("output_text.delta", 1), "the deltas add up to 'Helloworld'"),
    ("delta changed", examples.text, replace("output_text.delta", delta="J"), "the deltas add up to 'J world'"),
    ("refusal lost", examples.refusal, drop("refusal.delta"), "the deltas add up to"),
    ("refusal in text part", examples.refusal, as_text, "'refusal.delta' is not legal"),
    ("part differs", examples.text, inside("content_part.done", "part", "text", value="Bye"), "the part has 'Bye'"),
    ("citation lost", examples.cited, drop("output_text.annotation.added"), "annotations are not"),
    ("citation number", examples.cited, replace("output_text.annotation.added", annotation_index=1), "next"),
    ("content differs", examples.text, inside("output_item.done", "item", "content", value=[]), "content is not"),
    ("arguments lost", examples.call, drop("function_call_arguments.delta"), "the deltas add up to"),
    ("no delta", examples.call, no_deltas, "arguments.done' is not legal in the state 'st"),
    ("arguments not done", examples.call, drop("function_call_arguments.done"), "in the state 'in the text'"),
    ("arguments early", examples.cut_call, inside("output_item.added", "item", "arguments", value="{"), "added with"),
    ("arguments differ", examples.cut_call, inside("output_item.done", "item", "arguments", value="{}"), "streamed"),
    ("other name", examples.call, replace("function_call_arguments.done", name="x"), "name is 'x'"),
    ("input differs", examples.custom_call, replace("custom_tool_call_input.done", input="x"), "the text is 'x'"),
    ("summary without part", examples.reasoning, drop("reasoning_summary_part.added"), "'start'"),
    ("summary lost", examples.reasoning, drop("reasoning_summary_text.delta"), "the deltas add up to 'ing.'"),
    ("summary differs", examples.reasoning, inside("output_item.done", "item", "summary", value=[]), "summary is not"),
    ("summary_index", examples.reasoning, replace("reasoning_summary_part.added", summary_index=2), "index is 2"),
    ("raw text lost", examples.reasoning, drop("reasoning_text.delta"), "the deltas add up to '4.'"),
    ("searching first", examples.hosted, swap("web_search_call.in_progress", "web_search_call.searching"), "legal"),
    ("search not ended", examples.hosted, drop("web_search_call.completed"), "not legal"),
    ("code differs", examples.hosted, replace("code_interpreter_call_code.done", code="2"), "the text is '2'"),
    ("failed call as completed", examples.hosted, failed_as_completed, "state 'failed'"),
    ("output differs", examples.text, other_output, "differs from its done event in .'content'"),
    ("output lacks one", examples.call, short_output, "1 items in the output, 2"),
    ("incomplete in between", examples.call, cut_between, "is not the last"),
)  # fmt: skip


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: str(stream.__name__))
def test_good_stream_passes(stream: Stream) -> None:
    check_stream(stream())


def test_raw_reasoning_passes_under_the_name_of_open_responses() -> None:
    check_stream(examples.reasoning(raw="response.reasoning"))


def test_summary_part_may_end_incomplete() -> None:
    events = examples.reasoning()
    find(events, "reasoning_summary_part.done")["status"] = "incomplete"
    check_stream(events)


def test_our_own_events_are_taken_between_the_others() -> None:
    events = examples.text()
    check_stream(renumbered([*events[:4], {"type": "antiphon:note", "note": 1}, *events[4:]]))


def test_our_own_events_wait_for_the_start() -> None:
    with pytest.raises(AssertionError, match=r"event 0 .*not legal in the state 'the start'"):
        check_stream(renumbered([{"type": "antiphon:note"}, *examples.text()]))


def test_no_events_are_no_stream() -> None:
    with pytest.raises(AssertionError, match="an empty stream"):
        check_stream([])


def test_shell_output_adds_up_for_each_command() -> None:
    item: Json = {"type": "shell_call_output", "id": "sh_1", "call_id": "call_1", "max_output_length": None}
    chunks = [{"stdout": "ab", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]
    kind, place = "response.shell_call_output_content", {"command_index": 0}
    events = examples.stream(
        *examples.item_events(
            {**item, "status": "in_progress", "output": []},
            {**item, "status": "completed", "output": chunks},
            {"type": f"{kind}.delta", **place, "delta": {"stdout": "a"}},
            {"type": f"{kind}.delta", **place, "delta": {"stdout": "b"}},
            {"type": f"{kind}.done", **place, "output": chunks},
        )
    )
    check_stream(events)
    first = find(events, "shell_call_output_content.delta")
    first["command_index"] = 1
    with pytest.raises(AssertionError, match="command_index is 1, earlier are missing"):
        check_stream(events)
    first.update(command_index=0, delta={"stdout": "x"})
    with pytest.raises(AssertionError, match="stdout is 'ab', the deltas add up to 'xb'"):
        check_stream(events)


def test_shell_commands_add_up() -> None:
    item: Json = {"type": "shell_call", "id": "sh_1", "call_id": "call_1", "environment": None}
    action: Json = {"commands": [], "timeout_ms": None, "max_output_length": None}
    place = {"output_index": 0, "command_index": 0}
    events = examples.item_events(
        {**item, "status": "in_progress", "action": action},
        {**item, "status": "completed", "action": {**action, "commands": ["ls"]}},
    )
    kind = "response.shell_call_command"
    events[1:1] = [
        {"type": f"{kind}.added", **place, "command": ""},
        {"type": f"{kind}.delta", **place, "delta": "ls"},
        {"type": f"{kind}.done", **place, "command": "ls"},
    ]
    check_stream(examples.stream(*events))
    events[-1]["item"]["action"]["commands"] = ["ls", "rm"]
    with pytest.raises(AssertionError, match="commands are not those streamed"):
        check_stream(examples.stream(*events))


@pytest.mark.parametrize(
    ("stream", "mutate", "message"), [row[1:] for row in MUTATIONS], ids=[row[0] for row in MUTATIONS]
)
def test_broken_law_is_named(stream: Stream, mutate: Mutation, message: str) -> None:
    broken = mutate(copy.deepcopy(stream()))
    with pytest.raises(AssertionError, match=message):
        check_stream(broken)


def test_every_mutation_is_of_a_good_stream() -> None:
    assert {stream for _, stream, _, _ in MUTATIONS} <= set(STREAMS)
    assert len({name for name, *_ in MUTATIONS}) == len(MUTATIONS)


def with_keepalive(events: list[Json], after: int) -> list[Json]:
    repeated = {**find(events, "in_progress"), "sequence_number": after}
    return [*events[: after + 1], repeated, repeated, *events[after + 1 :]]


@pytest.mark.parametrize("after", [1, 4])
def test_keepalives_are_dropped(after: int) -> None:
    events = examples.text()
    assert without_keepalives(with_keepalive(events, after)) == events
    check_stream(with_keepalive(events, after))


def test_other_repeated_events_are_no_keepalives() -> None:
    events = examples.text()
    events.insert(4, copy.deepcopy(events[4]))
    assert without_keepalives(events) == events
    with pytest.raises(AssertionError, match=r"event 5 .*sequence_number is 4"):
        check_stream(events)
