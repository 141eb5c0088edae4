"""Items that an upstream's own tools make, however little of them it tells: every stream is lawful."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.engine.playbook import play
from tests.upstreams.recorded_responses import added, completed, done, event, response, stream

from antiphon.upstreams.responses.stream import Reply

Json = dict[str, Any]
SEARCH: Json = {"id": "ws_1", "type": "web_search_call", "action": {"type": "search", "query": "q"}}
FILES: Json = {"id": "fs_1", "type": "file_search_call", "queries": ["q"], "results": None}
CODE: Json = {
    "id": "ci_1",
    "type": "code_interpreter_call",
    "code": "print(1)",
    "container_id": "cntr_1",
    "outputs": [{"type": "logs", "logs": "1\n"}],
}
PICTURE: Json = {"id": "ig_1", "type": "image_generation_call", "result": "iVBORw0KGgo="}
LISTED: Json = {"id": "mcpl_1", "type": "mcp_list_tools", "server_label": "s", "tools": []}
MCP: Json = {
    "id": "mcp_1",
    "type": "mcp_call",
    "server_label": "s",
    "name": "f",
    "arguments": '{"a":1}',
    "output": "fine",
    "error": None,
    "approval_request_id": None,
}
BROKEN = {"type": "mcp_protocol_error", "code": 1, "message": "It broke."}
FAILED_MCP = {**MCP, "status": "failed", "output": None, "error": BROKEN}
ITEMS = {
    "web search": SEARCH,
    "file search": FILES,
    "code": CODE,
    "no code": {**CODE, "code": None},
    "picture": PICTURE,
    "listed": LISTED,
    "mcp": MCP,
    "failed mcp": FAILED_MCP,
    "cut search": {**SEARCH, "status": "failed"},
    "cut code": {**CODE, "status": "incomplete"},
    "shell": {
        "id": "sh_1",
        "type": "shell_call",
        "call_id": "call_1",
        "action": {"commands": ["ls"], "timeout_ms": None, "max_output_length": None},
        "environment": None,
    },
}


def kinds(events: list[Json]) -> list[str]:
    """What was told between the beginning and the end of the item."""
    types = [one["type"].removeprefix("response.") for one in events]
    return types[types.index("output_item.added") + 1 : types.index("output_item.done")]


def with_status(item: Json) -> Json:
    return {"status": "completed", **item}


@pytest.mark.parametrize("name", ITEMS)
def test_an_item_that_comes_whole(name: str) -> None:
    item = with_status(ITEMS[name])

    ends = "length" if item["status"] == "incomplete" else "completed"

    whole = play(Reply("m").whole(json.dumps(response(output=[item])).encode()), ends=ends)
    streamed = play(Reply("m").feed(stream(done(0, item), completed())), ends=ends)

    assert kinds(whole.events) == kinds(streamed.events)
    [told] = whole.response["output"]
    assert {**told, "id": item["id"]} == item


def test_code_and_arguments_are_told_in_one_piece() -> None:
    assert kinds(play(Reply("m").feed(stream(done(0, with_status(CODE)), completed()))).events) == [
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
    ]
    assert kinds(play(Reply("m").feed(stream(done(0, FAILED_MCP), completed()))).events) == [
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "mcp_call.failed",
    ]


@pytest.mark.parametrize(
    "told",
    [
        [],
        ["searching"],
        ["completed"],
        ["in_progress", "completed"],
        ["in_progress", "searching", "searching", "in_progress", "completed"],
    ],
)
def test_steps_that_were_left_out_or_repeated(told: list[str]) -> None:
    sent = [event(f"response.web_search_call.{step}", output_index=0, item_id="ws_1") for step in told]
    first, item = {**SEARCH, "status": "in_progress"}, with_status(SEARCH)

    played = play(Reply("m").feed(stream(added(0, first), *sent, done(0, item), completed())))

    assert kinds(played.events) == [f"web_search_call.{step}" for step in ("in_progress", "searching", "completed")]


def test_pictures_in_between_and_texts_that_end_without_pieces() -> None:
    partial = {"partial_image_index": 0, "partial_image_b64": "aGk="}
    sent = [event("response.image_generation_call.partial_image", output_index=0, item_id="ig_1", **partial)]
    drawn = play(Reply("m").feed(stream(added(0, {**PICTURE, "result": None}), *sent, done(0, with_status(PICTURE)))))
    assert kinds(drawn.events) == [
        f"image_generation_call.{step}" for step in ("in_progress", "generating", "partial_image", "completed")
    ]

    sent = [event("response.mcp_call_arguments.done", output_index=0, item_id="mcp_1", arguments=MCP["arguments"])]
    called = play(Reply("m").feed(stream(added(0, {**MCP, "arguments": ""}), *sent, done(0, with_status(MCP)))))
    assert kinds(called.events) == [
        "mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done", "mcp_call.completed",
    ]  # fmt: skip


def test_events_of_items_that_nobody_knows_go_through() -> None:
    item = {"id": "x_1", "type": "antiphon:x_call", "status": "completed"}
    sent = event("response.antiphon:x_call.step", output_index=0, item_id="x_1", n=1)

    told = Reply("m").feed(stream(added(0, item), sent, done(0, item), completed()))

    assert [delta.type for delta in told] == ["antiphon:x_call", "response.antiphon:x_call.step", "antiphon:x_call"]
