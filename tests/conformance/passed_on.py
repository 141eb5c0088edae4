"""Hosted tools' items and events as an upstream that speaks the Responses API passes them on, made from the laws.

Every walk through a table of `LEGAL_ORDERS` is one item; together the walks take every step of every table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.specification.streams import CUT_OFF, FINISHED, LEGAL_ORDERS, Table

from antiphon.engine.deltas import Delta, ItemDelta, ItemEvent

Json = dict[str, Any]

_OUTCOME = {"type": "exit", "exit_code": 0}
_SHELL_OUTPUT = [{"stdout": "a", "stderr": "", "outcome": _OUTCOME}]
_PATCH = {"type": "create_file", "path": "a.txt", "diff": "+a"}
_CALLED = {"call_id": "call_1"}

#: Each type: members as the item begins, and those that its end adds.
ITEMS: dict[str, tuple[Json, Json]] = {
    "file_search_call": ({"queries": []}, {"queries": ["a"], "results": None}),
    "web_search_call": ({}, {"action": {"type": "search", "queries": ["a"], "query": "a"}}),
    "code_interpreter_call": ({"code": "", "container_id": "cntr_1", "outputs": None}, {"code": "1"}),
    "image_generation_call": ({"result": None}, {"result": "AA=="}),
    "mcp_list_tools": ({"server_label": "s", "tools": []}, {"tools": [{"name": "f", "input_schema": {}}]}),
    "mcp_call": ({"server_label": "s", "name": "f", "arguments": ""}, {"arguments": "{}"}),
    "mcp_approval_request": ({"server_label": "s", "name": "f", "arguments": "{}"}, {}),
    "shell_call": (
        {**_CALLED, "action": {"commands": [], "timeout_ms": None, "max_output_length": None}, "environment": None},
        {"action": {"commands": ["ls"], "timeout_ms": None, "max_output_length": None}},
    ),
    "shell_call_output": ({**_CALLED, "output": [], "max_output_length": None}, {"output": _SHELL_OUTPUT}),
    "local_shell_call": ({**_CALLED, "action": {"type": "exec", "command": ["ls"], "env": {}}}, {}),
    "local_shell_call_output": ({**_CALLED, "output": "a"}, {}),
    "apply_patch_call": ({**_CALLED, "operation": _PATCH}, {}),
    "apply_patch_call_output": ({**_CALLED, "output": "done"}, {}),
    "computer_call": ({**_CALLED, "action": {"type": "screenshot"}, "pending_safety_checks": []}, {}),
    "computer_call_output": (
        {**_CALLED, "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA=="}},
        {},
    ),
}

#: What clients answer such calls with; no model makes it.
SENT_ONLY = {"apply_patch_call_output", "computer_call_output", "local_shell_call_output"}

#: Members of events that have more than their place.
EVENTS: dict[str, Json] = {
    "code_interpreter_call_code.delta": {"delta": "1"},
    "code_interpreter_call_code.done": {"code": "1"},
    "image_generation_call.partial_image": {"partial_image_index": 0, "partial_image_b64": "AA=="},
    "mcp_call_arguments.delta": {"delta": "{}"},
    "mcp_call_arguments.done": {"arguments": "{}"},
    "shell_call_command.added": {"command_index": 0, "command": ""},
    "shell_call_command.delta": {"command_index": 0, "delta": "ls"},
    "shell_call_command.done": {"command_index": 0, "command": "ls"},
    "shell_call_output_content.delta": {"command_index": 0, "delta": {"stdout": "a"}},
    "shell_call_output_content.done": {"command_index": 0, "output": _SHELL_OUTPUT},
}


def walks(table: Table) -> Iterator[list[str]]:
    """Ways from the start to the end that together take every step but those of items that were cut off."""
    taken: set[tuple[str, str]] = set()
    while True:
        way, state, fresh = [], "start", False
        while state != "done":
            step = _next_step(table, state, taken, way)
            fresh = fresh or (state, step) not in taken
            taken.add((state, step))
            way.append(step)
            state = table[state][step]
        if not fresh:
            return
        yield way


def _next_step(table: Table, state: str, taken: set[tuple[str, str]], way: list[str]) -> str:
    """What may be repeated, once; a step not taken before; else one that leads on, a cut at last."""
    steps = [step for step in table[state] if step != CUT_OFF] or [CUT_OFF]
    loops = [step for step in steps if table[state][step] == state and step not in way]
    new = [step for step in steps if (state, step) not in taken and step != FINISHED]
    onward = [step for step in steps if table[state][step] != state]
    ends = [step for step in steps if step == FINISHED and way]
    return (loops or new or ends or onward)[0]


def scripts() -> Iterator[tuple[str, list[list[Delta]]]]:
    """For each item type, what an upstream says of each walk of its own."""
    for kind in sorted(ITEMS.keys() - SENT_ONLY):
        table = LEGAL_ORDERS.get(kind, {"start": {FINISHED: "done"}})
        for way in walks(table):
            yield kind, list(_script(kind, way))


def _script(kind: str, way: list[str]) -> Iterator[list[Delta]]:
    begun, ended = ITEMS[kind]
    yield [ItemDelta(0, kind, _encoded(begun))]
    for step in way[:-1]:
        yield [ItemEvent(0, f"response.{step}", _encoded(EVENTS.get(step, {})))]
    yield [ItemDelta(0, kind, _encoded(ended), "failed" if way[-1] == CUT_OFF else "completed")]


def _encoded(members: Json) -> dict[str, bytes]:
    return {name: json.dumps(value).encode() for name, value in members.items()}
