"""The laws of a whole stream of events: numbers, order, identity, and that the pieces add up.

Takes events of the right shape (`conformance.check_event`) and asks what no schema can say. The legal orders are
tables: state, then event, then next state; what a table does not list is refused, with the state and the event named.
Knows nothing of schemas.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Table = dict[str, dict[str, str]]

# The end of an item. An item that was cut off may end where a finished one may not.
FINISHED = "output_item.done"
CUT_OFF = "output_item.done (not completed)"
END = {FINISHED: "done", CUT_OFF: "done"}

LIFECYCLE: Table = {
    "the start": {"created": "created"},
    "created": {"queued": "queued", "in_progress": "running", "failed": "the end", "error": "erring"},
    "queued": {"in_progress": "running", "failed": "the end", "error": "erring"},
    "running": {
        "an item's event": "running",
        "completed": "the end",
        "incomplete": "the end",
        "failed": "the end",
        "error": "erring",
    },
    "erring": {"failed": "the end"},
}
SNAPSHOT_STATUS = {
    "created": {"queued", "in_progress"},
    "queued": {"queued"},
    "in_progress": {"in_progress"},
    "completed": {"completed"},
    "incomplete": {"incomplete"},
    "failed": {"failed", "cancelled"},  # there is no event for a cancelled response
}


def _streamed(kind: str, *, empty: bool = False) -> Table:
    """A text outside of parts: deltas, then done. A finished item has at least one delta unless it may be `empty`."""
    delta, done = f"{kind}.delta", f"{kind}.done"
    start = {delta: "in the text", CUT_OFF: "done", **({done: "complete"} if empty else {})}
    return {"start": start, "in the text": {delta: "in the text", done: "complete", CUT_OFF: "done"}, "complete": END}


def _steps(*names: str) -> Table:
    """One event after the other, then the end; a cut item may end after any of them."""
    states = ["start", *names]
    table = {state: {name: name, CUT_OFF: "done"} for state, name in zip(states, names, strict=False)}
    return {**table, states[-1]: dict(END)}


PART_OF_MESSAGE: Table = {
    "start": {
        "content_part.added output_text": "in a text part",
        "content_part.added refusal": "in a refusal part",
        **END,
    },
    "in a text part": {
        "output_text.delta": "in a text part",
        "output_text.annotation.added": "in a text part",
        "output_text.done": "after the text",
    },
    "after the text": {"content_part.done output_text": "start"},
    "in a refusal part": {"refusal.delta": "in a refusal part", "refusal.done": "after the refusal"},
    "after the refusal": {"content_part.done refusal": "start"},
}
PART_OF_REASONING: Table = {
    "start": {
        "reasoning_summary_part.added": "in a summary part",
        "content_part.added reasoning_text": "in a reasoning part",
        **END,
    },
    "in a summary part": {
        "reasoning_summary_text.delta": "in a summary part",
        "reasoning_summary_text.done": "after the summary",
    },
    "after the summary": {"reasoning_summary_part.done": "start"},
    "in a reasoning part": {
        "reasoning_text.delta": "in a reasoning part",
        "reasoning_text.done": "after the reasoning",
    },
    "after the reasoning": {"content_part.done reasoning_text": "start"},
}
CODE = "code_interpreter_call_code"
LEGAL_ORDERS: dict[str, Table] = {
    "message": PART_OF_MESSAGE,
    "reasoning": PART_OF_REASONING,
    "function_call": _streamed("function_call_arguments"),
    "custom_tool_call": _streamed("custom_tool_call_input", empty=True),
    "file_search_call": _steps(*(f"file_search_call.{step}" for step in ("in_progress", "searching", "completed"))),
    "web_search_call": _steps(*(f"web_search_call.{step}" for step in ("in_progress", "searching", "completed"))),
    "code_interpreter_call": {
        "start": {"code_interpreter_call.in_progress": "in the code", CUT_OFF: "done"},
        "in the code": {f"{CODE}.delta": "in the code", f"{CODE}.done": "after the code", CUT_OFF: "done"},
        "after the code": {"code_interpreter_call.interpreting": "interpreting", CUT_OFF: "done"},
        "interpreting": {"code_interpreter_call.completed": "complete", CUT_OFF: "done"},
        "complete": END,
    },
    "image_generation_call": {
        "start": {"image_generation_call.in_progress": "in progress", CUT_OFF: "done"},
        "in progress": {"image_generation_call.generating": "generating", CUT_OFF: "done"},
        "generating": {
            "image_generation_call.partial_image": "generating",
            "image_generation_call.completed": "complete",
            CUT_OFF: "done",
        },
        "complete": END,
    },
    "mcp_list_tools": {
        "start": {"mcp_list_tools.in_progress": "in progress", CUT_OFF: "done"},
        "in progress": {
            "mcp_list_tools.completed": "complete",
            "mcp_list_tools.failed": "complete",
            CUT_OFF: "done",
        },
        "complete": END,
    },
    "mcp_call": {
        "start": {"mcp_call.in_progress": "in the arguments", CUT_OFF: "done"},
        "in the arguments": {
            "mcp_call_arguments.delta": "in the arguments",
            "mcp_call_arguments.done": "called",
            CUT_OFF: "done",
        },
        "called": {"mcp_call.completed": "complete", "mcp_call.failed": "failed", CUT_OFF: "done"},
        "complete": END,
        "failed": {CUT_OFF: "done"},
    },
    "shell_call": {
        "start": {"shell_call_command.added": "in a command", **END},
        "in a command": {
            "shell_call_command.delta": "in a command",
            "shell_call_command.done": "start",
            CUT_OFF: "done",
        },
    },
    "shell_call_output": {
        "start": {"shell_call_output_content.delta": "start", "shell_call_output_content.done": "start", **END},
    },
    "compaction": {"start": {"compaction.compacting": "start", **END}},
}
WHOLE: Table = {"start": END}  # all other items appear in one piece

# The field of an item, or of the event that ends a text, in which the deltas must add up.
TEXT_OF_ITEM = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "mcp_call": "arguments",
    "code_interpreter_call": "code",
}
TEXT_OF_DONE = {
    "output_text.done": "text",
    "refusal.done": "refusal",
    "reasoning_text.done": "text",
    "reasoning_summary_text.done": "text",
    "function_call_arguments.done": "arguments",
    "custom_tool_call_input.done": "input",
    "mcp_call_arguments.done": "arguments",
    f"{CODE}.done": "code",
    "shell_call_command.done": "command",
}
INDEX_NAMES = ("content_index", "summary_index", "command_index")
# What an item is; none of it changes between added and done.
IDENTITY = ("type", "id", "call_id", "name", "role", "namespace", "server_label")
UNFINISHED_STATUSES = {"in_progress", "searching", "interpreting", "generating", "calling"}


def without_keepalives(events: list[Json]) -> list[Json]:
    """`events` without the repeated `response.in_progress` that carry the number of the event before them."""
    kept: list[Json] = []
    for event in events:
        repeated = bool(kept) and event.get("sequence_number") == kept[-1].get("sequence_number")
        if not (repeated and event.get("type") == "response.in_progress"):
            kept.append(event)
    return kept


def check_laws(events: list[Json]) -> None:
    """Raise AssertionError with the number of the first event that breaks a law. `events` have no keep-alives."""
    assert events, "an empty stream"
    stream = _Stream()
    for number, event in enumerate(events):
        try:
            assert event["sequence_number"] == number, f"sequence_number is {event['sequence_number']}"
            stream.take(event)
        except AssertionError as error:
            raise AssertionError(f"event {number} ({event['type']}): {error}") from None
    assert stream.state == "the end", f"the stream stops in the state {stream.state!r}, without a terminal event"


@dataclass
class _Stream:
    """A stream as far as it was read."""

    state: str = "the start"
    response: Json = field(default_factory=dict)
    items: list[_Item] = field(default_factory=list)

    def take(self, event: Json) -> None:
        kind = event["type"].removeprefix("response.")
        if kind.startswith("antiphon:"):
            assert self.state == "running", f"not legal in the state {self.state!r}"
            return
        self.state = _next(LIFECYCLE, self.state, kind if _is_lifecycle(kind) else "an item's event")
        if "response" in event:
            self._snapshot(kind, event["response"])
        elif kind == "output_item.added":
            self._add(event)
        elif kind != "error":
            self._item(event["output_index"]).take(kind.replace("reasoning.", "reasoning_text."), event)

    def _snapshot(self, kind: str, response: Json) -> None:
        first = self.response = self.response or response
        for name in ("id", "created_at"):
            assert response[name] == first[name], f"{name} was {first[name]!r} and is {response[name]!r}"
        status = response["status"]
        assert status in SNAPSHOT_STATUS[kind], f"status is {status!r}"
        if self.state != "the end":
            assert response["output"] == [], "output before any item was added"
        else:
            self._final(response["output"])

    def _final(self, output: list[Json]) -> None:
        unfinished = [item.index for item in self.items if item.done is None]
        assert not unfinished, f"items {unfinished} were added and never done"
        done = [item.done for item in self.items]
        assert len(output) == len(done), f"{len(output)} items in the output, {len(done)} were streamed"
        for index, (shown, streamed) in enumerate(zip(output, done, strict=True)):
            assert shown == streamed, f"output[{index}] differs from its done event in {_difference(shown, streamed)}"

    def _add(self, event: Json) -> None:
        index, item = event["output_index"], event["item"]
        assert index == len(self.items), f"output_index is {index}, the next one is {len(self.items)}"
        assert all(item["id"] != other.added["id"] for other in self.items), f"a second item with id {item['id']!r}"
        self.items.append(_Item.opened(index, item))

    def _item(self, index: int) -> _Item:
        assert 0 <= index < len(self.items), f"no item was added at output_index {index}"
        return self.items[index]


@dataclass
class _Item:
    """One output item as far as it was streamed. Parts of a kind are kept by the name of their index."""

    index: int
    added: Json
    table: Table
    state: str = "start"
    done: Json | None = None
    parts: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in INDEX_NAMES})
    deltas: list[str] = field(default_factory=list)
    text: str | None = None
    annotations: list[Any] = field(default_factory=list)
    outputs: dict[int, Json] = field(default_factory=dict)

    @classmethod
    def opened(cls, index: int, item: Json) -> _Item:
        """The item of an `output_item.added`: nothing that is streamed may be in it yet."""
        table = LEGAL_ORDERS.get(item["type"], WHOLE)
        early = {name: item[name] for name in ("content", "summary") if item.get(name) and table is not WHOLE}
        if (name := TEXT_OF_ITEM.get(item["type"])) and item.get(name):
            early[name] = item[name]
        assert not early, f"added with {sorted(early)} already in it"
        if table is not WHOLE and item["type"] != "compaction":
            assert item.get("status", "in_progress") == "in_progress", f"added with status {item['status']!r}"
        return cls(index, item, table)

    def take(self, kind: str, event: Json) -> None:
        if "item_id" in event:
            assert event["item_id"] == self.added["id"], f"item_id is {event['item_id']!r}, not {self.added['id']!r}"
        assert self.done is None, f"item {self.index} is already done"
        self.state = _next(self.table, self.state, self._symbol(kind, event))
        if kind == FINISHED:
            self._finish(event["item"])
        elif kind.startswith("shell_call_output_content."):
            self._shell_output(kind, event)
        elif kind.endswith("part.added") or kind == "shell_call_command.added":
            self._open_part(event)
        else:
            self._in_part(kind, event)

    def _symbol(self, kind: str, event: Json) -> str:
        """The event's name in the tables."""
        if kind.startswith("content_part."):
            return f"{kind} {event['part']['type']}"
        if kind == FINISHED and event["item"].get("status", "completed") != "completed":
            return CUT_OFF
        return kind

    def _open_part(self, event: Json) -> None:
        name, index = _index(event)
        assert index == len(self.parts[name]), f"{name} is {index}, the next one is {len(self.parts[name])}"
        early = {**event.get("part", {}), "command": event.get("command")}
        assert not any(early.get(key) for key in ("text", "refusal", "command")), "added with text already in it"
        self.parts[name].append(None)
        self.deltas, self.text, self.annotations = [], None, []

    def _in_part(self, kind: str, event: Json) -> None:
        if any(name in event for name in INDEX_NAMES):
            name, index = _index(event)
            assert index == len(self.parts[name]) - 1, f"{name} is {index}, open is {len(self.parts[name]) - 1}"
        if kind.endswith(".delta"):
            self.deltas.append(event["delta"])
        elif kind in TEXT_OF_DONE:
            self._end_text(event[TEXT_OF_DONE[kind]], event)
        elif kind == "output_text.annotation.added":
            number = event["annotation_index"]
            assert number == len(self.annotations), f"annotation_index is {number}, next is {len(self.annotations)}"
            self.annotations.append(event["annotation"])
        elif kind.endswith("part.done"):
            self._end_part(event)

    def _end_text(self, text: str, event: Json) -> None:
        streamed = "".join(self.deltas)
        assert text == streamed, f"the text is {text[:80]!r}, the deltas add up to {streamed[:80]!r}"
        self.text = text
        if "command_index" in event:
            self.parts["command_index"][-1] = text
        if "name" in event and "name" in self.added:
            assert event["name"] == self.added["name"], f"name is {event['name']!r}, not {self.added['name']!r}"

    def _end_part(self, event: Json) -> None:
        part = event["part"]
        text = part.get("text", part.get("refusal"))
        assert text == self.text, f"the part has {text[:80]!r}, the text was {(self.text or '')[:80]!r}"
        assert part.get("annotations", []) == self.annotations, "the part's annotations are not those streamed"
        self.parts[_index(event)[0]][-1] = part

    def _shell_output(self, kind: str, event: Json) -> None:
        streamed = self.outputs.setdefault(event["command_index"], {"stdout": "", "stderr": ""})
        assert max(self.outputs) < len(self.outputs), f"command_index is {event['command_index']}, earlier are missing"
        for name, text in streamed.items():
            if kind.endswith(".delta"):
                streamed[name] = text + event["delta"].get(name, "")
            else:
                whole = "".join(chunk[name] for chunk in event["output"])
                assert whole == text, f"{name} is {whole[:80]!r}, the deltas add up to {text[:80]!r}"

    def _finish(self, item: Json) -> None:
        for name in IDENTITY:
            if name in self.added:
                assert item.get(name) == self.added[name], f"{name} was {self.added[name]!r}, is {item.get(name)!r}"
        assert item.get("status") not in UNFINISHED_STATUSES, f"done with status {item['status']!r}"
        if field_name := TEXT_OF_ITEM.get(item["type"]):
            streamed = "".join(self.deltas)
            assert (item.get(field_name) or "") == streamed, f"{field_name} is not what was streamed: {streamed[:80]!r}"
        self._check_parts(item)
        self.done = item

    def _check_parts(self, item: Json) -> None:
        contents, summaries, commands = (self.parts[name] for name in INDEX_NAMES)
        if item["type"] == "message" or contents:  # raw reasoning may be shown in the finished item alone
            assert item.get("content") == contents, "content is not the parts streamed"
        if item["type"] == "reasoning":
            assert item["summary"] == summaries, "summary is not the parts streamed"
        if commands:
            assert item["action"]["commands"] == commands, f"the commands are not those streamed: {commands}"


def _next(table: Table, state: str, symbol: str) -> str:
    legal = table.get(state, {})
    assert symbol in legal, f"{symbol!r} is not legal in the state {state!r}, only {sorted(legal) or 'nothing'}"
    return legal[symbol]


def _is_lifecycle(kind: str) -> bool:
    return kind in SNAPSHOT_STATUS or kind == "error"


def _index(event: Json) -> tuple[str, int]:
    name = next(name for name in INDEX_NAMES if name in event)
    return name, event[name]


def _difference(shown: Json, streamed: Json | None) -> list[str]:
    streamed = streamed or {}
    return sorted(key for key in {*shown, *streamed} if shown.get(key) != streamed.get(key))
